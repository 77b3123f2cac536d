import type { Change } from "@sallyport/client/AccessFeed"
import type { ClientError } from "@sallyport/client/ClientError"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"

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

/** Says what scopes allow, as what follows "may"; a host's own scope is told by its name. */
export const doing = (scopes: ReadonlyArray<string>): string => {
  if (AccessScope.builtin.every((scope) => scopes.includes(scope))) return "do everything"
  if (scopes.length === 0) return "do nothing but sign out"
  const left = new Set(scopes)
  const said = phrases.flatMap(([scopes, phrase]) => {
    if (!scopes.every((scope) => left.has(scope))) return []
    for (const scope of scopes) left.delete(scope)
    return [phrase]
  })
  return list([...said, ...left])
}

/** Says what scopes allow, as a sentence without its end. */
export const may = (scopes: ReadonlyArray<string>): string => `May ${doing(scopes)}`

const units = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]] as const

/** Says a length of time in its largest unit, rounded down. */
export const length = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1000))
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? units[3]
  const count = Math.floor(seconds / size)
  return `${count} ${unit}${count === 1 ? "" : "s"}`
}

/** Says the time that is left: minutes and seconds below an hour, else words. */
export const left = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1000))
  return seconds >= 3600 ? length(millis) : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
}

const day = (at: DateTime.Utc): string => DateTime.formatLocal(at, { locale: "en", dateStyle: "long" })

/** Says when a session ends, as what follows "ends". */
export const ends = ({ lifetimeSeconds, sessionEndsAt }: {
  readonly lifetimeSeconds: number
  readonly sessionEndsAt: DateTime.Utc | null
}): string =>
  `after ${length(lifetimeSeconds * 1000)} without use${
    sessionEndsAt === null ? "" : `, and on ${day(sessionEndsAt)} at the latest`
  }`

const actors: Readonly<Record<string, string>> = {
  operator: "The operator",
  system: "The server",
  connect: "The relay"
}

const removed: Readonly<Record<string, string>> = {
  consumed: "was used",
  expired: "ended unused",
  revoked: "was withdrawn"
}

/** Says a change as one sentence, its actor first. */
export const sentence = (change: Change): string => {
  const actor = actors[change.data.actor] ?? change.data.actor
  switch (change.event) {
    case "pairingLinkUpserted":
      return `${actor} made ${linkName(change.data.link.label)}.`
    case "pairingLinkRemoved":
      return `A link ${removed[change.data.reason] ?? "ended"}${
        change.data.reason === "revoked" ? `, by ${actor}` : ""
      }.`
    case "sessionUpserted":
      return `${actor}: ${deviceName(change.data.session.device)} is in. ${may(change.data.session.scopes)}.`
    case "sessionRemoved":
      return change.data.reason === "expired"
        ? "A device was not used for long, and left."
        : `${actor} signed a device out.`
    case "connectClientUpserted": {
      const { account, label, reason, status } = change.data.client
      const name = quoted(label)
      if (status === "pending") return `${name} asked to connect, for ${account}.`
      if (status === "observed") return `${name} came in by its account, ${account}.`
      return `${actor} ${status} ${name} of ${account}${reason === null ? "" : `: “${reason}”`}.`
    }
    case "connectClientRemoved":
      return "A request to connect ended undecided."
    case "connectSecurityModeUpdated":
      return change.data.mode === "client-approval"
        ? `${actor} chose: only devices that I approve.`
        : change.data.mode === "account"
        ? `${actor} chose: every device of my account.`
        : `${actor} chose how devices are approved.`
    case "credentialUpserted":
      return `${actor} set ${change.data.credential.key} of ${change.data.credential.owner}.`
    case "credentialRemoved":
      return `${actor} removed ${change.data.key} of ${change.data.owner}.`
    case "credentialRead":
      return `${actor} was given ${change.data.key}, ${change.data.count} times.`
  }
}

const browsers = [["Firefox", "Firefox"], ["Edg", "Edge"], ["OPR", "Opera"], ["Chrome", "Chrome"], [
  "Safari",
  "Safari"
]] as const
const platforms = [
  ["iPhone", "iPhone"],
  ["iPad", "iPad"],
  ["Android", "Android"],
  ["CrOS", "ChromeOS"],
  ["Windows", "Windows"],
  ["Mac OS X|Macintosh", "Mac"],
  ["Linux", "Linux"]
] as const

/** Names a browser by what it says of itself: "Firefox on Linux". */
export const browserName = (userAgent: string): Option.Option<string> => {
  const [, browser] = browsers.find(([name]) => userAgent.includes(`${name}/`)) ?? []
  const [, platform] = platforms.find(([name]) => new RegExp(name).test(userAgent)) ?? []
  return Option.fromUndefinedOr(
    browser === undefined || platform === undefined ? browser ?? platform : `${browser} on ${platform}`
  )
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
export const fault = ({ message, reason }: ClientError): string => {
  switch (reason._tag) {
    case "NotFound":
      return "It is gone already."
    case "Conflict":
      return reason.code === "connect_request_changed"
        ? "It has asked again since. Compare the new code."
        : reason.code === "current_session"
        ? "This is the device you are on. Choose “Sign out” instead."
        : message
    case "Forbidden":
      return "Your session may not do this. Ask the owner, or use a device that may."
    case "Unreachable":
      return "The answer did not arrive. It may have been done: the list shows what is so once the connection is back."
    default:
      return message
  }
}
