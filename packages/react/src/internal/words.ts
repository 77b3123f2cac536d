import type { Change, Device as FeedSession } from "@sallyport/client/AccessFeed"
import type { ClientError } from "@sallyport/client/ClientError"
import type { Verdict } from "@sallyport/core/credentials/CredentialRequirements"
import type { RunsError } from "@sallyport/client/RunsError"
import type { EndedView } from "@sallyport/contract/AccessSchemas"
import type { AccessChangeEntry } from "@sallyport/contract/AccessGroup"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import type { SessionClient, SessionEnd } from "@sallyport/core/access/Session"
import * as Text from "@sallyport/core/Text"
import { isLoopback } from "@sallyport/core/access/AuthPolicy"
import * as DateTime from "effect/DateTime"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"

/** Says what scopes allow, those that belong together in one phrase first. */
const phrases: ReadonlyArray<readonly [scopes: ReadonlyArray<string>, phrase: string]> = [
  [["runs:read", "runs:operate"], "watch, start and stop runs"],
  [["runs:read"], "watch runs"],
  [["runs:operate"], "start and stop runs"],
  [["access:read"], "see who has access"],
  [["access:write"], "let devices in and revoke them"],
  [["access:manage"], "manage everyone’s access"],
  [["connect:manage"], "approve devices that ask"],
  [["credentials:read", "credentials:write"], "see, set and remove credentials"],
  [["credentials:read"], "see which credentials are set"],
  [["credentials:write"], "set and remove credentials"]
]

const join = new Intl.ListFormat("en")

/** Joins names to one text. */
export const list = (names: ReadonlyArray<string>): string => join.format(names)

/** What scopes allow in the words of the host, as its policy tells it. */
export type Titles = Readonly<Record<string, string>>

/** Which scopes the host has, and its words for them; none of either while its policy is not known. */
export interface HostScopes {
  readonly scopes: ReadonlyArray<string>
  readonly scopeTitles: Titles
}

/**
 * Says what scopes allow, as what follows "may": in the host's words if it has some for a scope, and by its name if there are
 * none. Everything is only what lacks no scope of the host.
 */
export const doing = (scopes: ReadonlyArray<string>, { scopes: all, scopeTitles: titles }: HostScopes): string => {
  if (all.length > 0 && all.every((scope) => scopes.includes(scope))) return "do everything"
  if (scopes.length === 0) return "do nothing but sign out"
  const left = new Set(scopes)
  const said = phrases.flatMap(([scopes, phrase]) => {
    if (!scopes.every((scope) => left.has(scope) && titles[scope] === undefined)) return []
    for (const scope of scopes) left.delete(scope)
    return [phrase]
  })
  const told = Array.from(left, (scope) => titles[scope]?.replace(/^./u, (first) => first.toLowerCase()) ?? scope)
  return list([...said, ...told])
}

/** Tells whether a device was given less than it asked for. */
export const isLess = (granted: ReadonlyArray<string>, requested: ReadonlyArray<string>): boolean =>
  requested.some((scope) => !granted.includes(scope))

const units = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]] as const

/** Says a length of time in its largest unit, rounded down. */
export const length = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1000))
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? units[3]
  const count = Math.floor(seconds / size)
  return `${count} ${unit}${count === 1 ? "" : "s"}`
}

/** Says how long ago something was. */
export const ago = (millis: number): string => millis < 10_000 ? "just now" : `${length(millis)} ago`

/** Says the time that is left: minutes and seconds below an hour, else words. */
export const left = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1000))
  return seconds >= 3600 ? length(millis) : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
}

/** Says a day. */
export const day = (at: DateTime.Utc): string => DateTime.formatLocal(at, { locale: "en", dateStyle: "long" })

/** Says when a session ends, as what follows "ends". */
export const ends = ({ lifetimeSeconds, sessionEndsAt }: {
  readonly lifetimeSeconds: number
  readonly sessionEndsAt: DateTime.Utc | null
}): string =>
  `after ${length(lifetimeSeconds * 1000)} without use${
    sessionEndsAt === null ? "" : `, and on ${day(sessionEndsAt)} at the latest`
  }`

/** Says how long a session lasts that has just begun, as what follows "signed in". */
export const lasting = ({ absoluteExpiresAt, expiresAt, lastSeenAt }: {
  readonly lastSeenAt: DateTime.Utc
  readonly expiresAt: DateTime.Utc
  readonly absoluteExpiresAt: DateTime.Utc | null
}): string =>
  absoluteExpiresAt !== null && DateTime.isLessThanOrEqualTo(absoluteExpiresAt, expiresAt)
    ? `until ${timeOf(absoluteExpiresAt)}`
    : `until you sign out or don’t come for ${length(expiresAt.epochMilliseconds - lastSeenAt.epochMilliseconds)}`

/** Returns what a scope is called; one without a title is told by its name. */
export const title = (scope: string, titles: Titles): string => titles[scope] ?? AccessScope.titles[scope] ?? scope

const details: Readonly<Record<string, string>> = {
  "access:read": "Devices, open links and the activity.",
  "access:write": "With no more than it may do itself.",
  "connect:manage": "And choose which may connect at all.",
  "credentials:read": "Their values are never shown.",
  "runs:read": "See what is running, and its output.",
  "runs:operate": "Also those that other devices started."
}

/** Says more of what a scope allows than its title does, if there is more to say and the host has not said it otherwise. */
export const detail = (scope: string, titles: Titles): string | undefined =>
  titles[scope] === undefined ? details[scope] : undefined

const actors: Readonly<Record<string, string>> = {
  operator: "The operator",
  system: "The server",
  connect: "The relay"
}

/** Names who did something, at the beginning of a sentence. An issuer of identities goes by its own name. */
export const actor = (actor: string): string => actors[actor] ?? actor.replace(/^issuer:/, "")

/** Names who did something, within a sentence. */
export const by = (name: string): string => actors[name]?.replace("The", "the") ?? actor(name)

/** Says how a device left. */
export const leaving = (id: string, changes: ReadonlyArray<Change>): string => {
  for (const { data, event } of changes) {
    if (event !== "sessionRemoved" || data.id !== id) continue
    return data.reason === "expired" ? "It left, because it was not used for long." : `Signed out by ${by(data.actor)}.`
  }
  return "It has left."
}

/** Says an address, and whether it is of this machine or of a network of one's own. */
export const place = (address: string): string => {
  if (isLoopback(address)) return `${address}, this machine`
  const ip = NetAddress.ipFromString(address)
  if (Result.isFailure(ip)) return address
  const canonical = NetAddress.toCanonical(ip.success)
  const isOwn = NetAddress.isLinkLocal(canonical) ||
    (NetAddress.isIpv4Address(canonical) ? NetAddress.isPrivate(canonical) : NetAddress.isUniqueLocal(canonical))
  return isOwn ? `${address}, your network` : address
}

/** Says which connections close. */
export const closing = (connections: number, devices = 1): string =>
  connections === 0
    ? devices === 1 ? "It holds no connection open." : "They hold no connection open."
    : `${count(connections, "open connection")} ${connections === 1 ? "closes" : "close"}.`

/** Says what has ended with a revocation. */
export const closed = ({ connections, links }: EndedView): string =>
  [
    `${count(connections, "connection")} closed.`,
    ...(links === 0 ? [] : [`${count(links, "open link")} stopped working.`])
  ].join(" ")

/** Counts the decisions: "3 devices are approved, 1 is blocked". */
export const decided = (statuses: ReadonlyArray<string>): string =>
  [...new Set(statuses)].map((status, index) => {
    const number = statuses.filter((each) => each === status).length
    return `${index === 0 ? count(number, "device") : number} ${number === 1 ? "is" : "are"} ${status}`
  }).join(", ")

/** Says what has changed of a device that was in before. */
const changed = (
  who: string,
  { device, scopeRequest, scopes }: FeedSession,
  before: Option.Option<FeedSession>,
  host: HostScopes
): string => {
  const name = deviceName(device)
  const asked = Option.getOrUndefined(before)?.scopeRequest ?? null
  if (scopeRequest && scopeRequest.requestedAt.epochMilliseconds !== asked?.requestedAt.epochMilliseconds) {
    return `${name} asks to do more: ${doing(scopeRequest.scopes, host)}.`
  }
  if (Option.isNone(before)) return `${name} has changed. It may ${doing(scopes, host)}.`
  const old = deviceName(before.value.device)
  if (asked !== null && !scopeRequest && scopes.every((scope) => before.value.scopes.includes(scope))) {
    return `${who} did not let ${name} do more.`
  }
  if (old !== name) return `${who} renamed ${old} to ${name}.`
  return scopes.every((scope) => before.value.scopes.includes(scope))
    ? `${name} was used, and stays.`
    : `${who} let ${name} do more. It may ${doing(scopes, host)}.`
}

/**
 * Says a change as one sentence, its actor first. `names` has the names of links and devices by their ids, `before` the
 * session that a change is of, as it was, `host` the scopes of the host and its words for them.
 */
export const sentence = (
  change: AccessChangeEntry,
  names: ReadonlyMap<string, string>,
  before: Option.Option<FeedSession>,
  host: HostScopes
): string => {
  const who = actor(change.data.actor)
  switch (change.event) {
    case "pairingLinkUpserted": {
      const { label, remainingUses } = change.data.link
      return `${who} made ${linkName(label)}, for ${remainingUses === 1 ? "one device" : `${remainingUses} devices`}.`
    }
    case "pairingLinkRemoved": {
      const link = names.get(change.data.id) ?? "a link"
      return change.data.reason === "revoked"
        ? `${who} withdrew ${link}.`
        : `${link.charAt(0).toUpperCase()}${link.slice(1)} ${
          change.data.reason === "consumed" ? "was used" : "ended unused"
        }.`
    }
    case "sessionUpserted": {
      const { createdAt, device, letInBy, scopes } = change.data.session
      // An event and its session are written in one step, at one time.
      return Option.isSome(before) || change.data.at.epochMilliseconds - createdAt.epochMilliseconds > 2_000
        ? changed(who, change.data.session, before, host)
        : `${deviceName(device)} is in, let in by ${by(letInBy.actor)}. It may ${doing(scopes, host)}.`
    }
    case "sessionRemoved": {
      const device = names.get(change.data.id) ?? "a device"
      return change.data.reason === "expired"
        ? `${device.charAt(0).toUpperCase()}${device.slice(1)} left: it was not used for long.`
        : `${who} signed ${device} out.`
    }
    case "connectClientUpserted": {
      const { account, grantedScopes, label, reason, requestedScopes = [], status } = change.data.client
      const name = quoted(label)
      if (status === "pending") return `${name} asked to connect, for ${account}.`
      if (status === "observed") return `${name} came in by its account, ${account}.`
      const decided = `${who} ${status} ${name} of ${account}${reason === null ? "" : `: “${reason}”`}.`
      if (grantedScopes === undefined) return decided
      const asked = isLess(grantedScopes, requestedScopes) ? `; it asked to ${doing(requestedScopes, host)}` : ""
      return `${decided} It may ${doing(grantedScopes, host)}${asked}.`
    }
    case "connectClientRemoved":
      return "A request to connect ended undecided."
    case "connectSecurityModeUpdated":
      return change.data.mode === "client-approval"
        ? `${who} chose: only approved devices.`
        : change.data.mode === "account"
        ? `${who} chose: every device of the account.`
        : `${who} chose how devices are approved.`
    case "credentialUpserted":
      return `${who} set ${change.data.credential.key} of ${change.data.credential.owner}.`
    case "credentialRemoved":
      return `${who} removed ${change.data.key} of ${change.data.owner}.`
    case "credentialRead":
      return `${who} was given ${change.data.key}, ${count(change.data.count, "time")}.`
  }
}

const browsers = [["Firefox", "Firefox"], ["Edg", "Edge"], ["OPR", "Opera"], ["Chrome", "Chrome"], [
  "Safari",
  "Safari"
]] as const
const platforms = [
  [/iPhone/, "iPhone"],
  [/iPad/, "iPad"],
  [/Android/, "Android"],
  [/CrOS/, "ChromeOS"],
  [/Windows/, "Windows"],
  [/Mac OS X|Macintosh/, "Mac"],
  [/Linux/, "Linux"]
] as const

/** Names a browser by what it says of itself: "Firefox on Linux". */
export const browserName = (userAgent: string): Option.Option<string> => {
  const [, browser] = browsers.find(([name]) => userAgent.includes(`${name}/`)) ?? []
  const [, platform] = platforms.find(([form]) => form.test(userAgent)) ?? []
  return Option.fromUndefinedOr(
    browser === undefined || platform === undefined ? browser ?? platform : `${browser} on ${platform}`
  )
}

/**
 * Names the program that a session was granted to, and what it may reach: by consent by the host of its id, which was
 * checked; what a device calls its program is quoted, whatever it is.
 */
export const program = ({ id, resource }: SessionClient, letInBy: FeedSession["letInBy"]): string => {
  if (letInBy.linkId !== null) return `program “${id}”`
  const host = URL.parse(id)?.host ?? ""
  return `${host === "" ? Text.shortId(id) : host}${resource === null ? "" : `, only at ${resource}`}`
}

/** Returns a device's name. */
export const deviceName = ({ label, userAgent }: {
  readonly label: string | null
  readonly userAgent: string | null
}): string =>
  label ?? Option.getOrElse(
    Option.map(browserName(userAgent ?? ""), (browser) => `${browser} without a name`),
    () => "Device without a name"
  )

/** Returns a link's name. */
export const linkName = (label: string | null): string =>
  label === null ? "a link without a name" : `the link “${label}”`

/** Quotes a name that a client gave itself. */
export const quoted = (label: string | null): string => label === null ? "A device without a name" : `“${label}”`

/** Ends a message of the server as a sentence. */
export const ended = (message: string): string => /[.?]$/.test(message) ? message : `${message}.`

/** Says what went wrong with an action, then what to do. */
export const fault = ({ message, reason }: ClientError | RunsError): string => {
  switch (reason._tag) {
    case "NotFound":
    case "RunUnknown":
    case "RunExpired":
      return "It is gone already."
    case "QuestionUnknown":
      return "The run does not ask this."
    case "Conflict":
      return reason.code === "question_answered"
        ? "It was answered elsewhere first. That answer counts."
        : reason.code === "connect_request_changed"
        ? "It has asked again since. Compare the new code."
        : reason.code === "current_session"
        ? "This is the device you are on. Choose “Sign out” instead."
        : ended(message)
    case "Forbidden":
      return reason.code === "scope_not_held"
        ? "You cannot give what you may not do yourself."
        : "Your session may not do this. Ask the owner, or use a device that may."
    case "Unreachable":
      return "The answer did not arrive. It may have been done: the list shows what is so once the connection is back."
    case "Unavailable":
      return "The server could not finish. It may have been done: look at the list before you try again."
    default:
      return ended(message)
  }
}

/** Says why something could not be read. */
export const unread = (error: ClientError | RunsError): string =>
  error.reason._tag === "Unreachable" || error.reason._tag === "Unavailable"
    ? "The answer did not arrive. Nothing was changed."
    : fault(error)

const runStates: Readonly<Record<string, string>> = {
  queued: "Waiting for its turn",
  running: "Running",
  waiting: "Waiting for an answer",
  succeeded: "Done",
  failed: "Failed",
  aborted: "Stopped"
}

/** Says the state of a run in a word. */
export const runState = (status: string): string => runStates[status] ?? status

const runReasons: Readonly<Record<string, string>> = {
  stale_run: "Its server went away before it was done.",
  server_shutdown: "The server was shut down before it was done.",
  program_failed: "Its program failed."
}

/** Says why a run ended; a host's own reason is told as it stands. */
export const runReason = (reason: string): string => runReasons[reason] ?? ended(reason)

/** Says an answer to a question of a run as people do. */
export const runAnswer = (value: Schema.Json): string =>
  typeof value === "string" ? value : value === true ? "Yes" : value === false ? "No" : JSON.stringify(value)

/** Counts things: "1 event", "17 events". */
export const count = (number: number, thing: string): string => `${number} ${thing}${number === 1 ? "" : "s"}`

/** Says what a provider answered about a credential. */
export const verdict = (verdict: Verdict): string => {
  switch (verdict._tag) {
    case "Valid":
      return verdict.account === null ? "It works." : `It works, for ${verdict.account}.`
    case "NeedsToken":
      return "It is not set."
    case "Rejected":
      return `The provider refuses it: ${ended(verdict.detail)} Replace it.`
    case "RateLimited":
      return verdict.until === null
        ? "The provider answers no question now. Check it again later."
        : `The provider answers no question until ${
          DateTime.formatLocal(verdict.until, { timeStyle: "short" })
        }. Check it again then.`
    case "WrongAddress":
      return `The provider does not know what was asked for: ${ended(verdict.detail)}`
    case "ProviderDown":
      return "The provider does not answer. Nothing is said against the credential."
    case "Unchecked":
      return "This server cannot check it."
  }
}

const timeOf = (at: DateTime.Utc): string =>
  DateTime.formatLocal(at, { locale: "en", dateStyle: "medium", timeStyle: "short" })

/** Says to the device that a session was of how it has ended: a heading, and a sentence. */
export const ending = (
  { actor, at, device, how, lastSeenAt }: SessionEnd
): { readonly title: string; readonly text: string } => {
  const who = actor === null ? "The server" : (actors[actor] ?? actor)
  const from = actor === "operator" ? ", in the server’s terminal" : device === null ? "" : `, from ${device}`
  switch (how) {
    case "revoked":
      return { title: "This device was revoked", text: `${who} revoked it at ${timeOf(at)}${from}.` }
    case "descended":
      return {
        title: "This device was revoked",
        text: `${who} revoked the device that let it in at ${timeOf(at)}${from}, and what that had let in.`
      }
    case "signed-out":
      return { title: "This device was signed out", text: `It signed out at ${timeOf(at)}.` }
    case "unused":
      return {
        title: "This device has left",
        text: `You were away for ${length(at.epochMilliseconds - lastSeenAt.epochMilliseconds)}, so it left by itself.`
      }
    case "over":
      return { title: "This device has left", text: `It was let in until ${timeOf(at)}.` }
  }
}
