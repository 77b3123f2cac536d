/**
 * Implements `sallyport sessions`: shows who is signed in and who may still pair, and ends sessions, whether the backend
 * runs or not.
 *
 * The commands act on the backend's own store. A running backend learns of a change through the access feed, and ends
 * what was revoked at once.
 */
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import { SessionId } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Text from "@sallyport/core/Text"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as StoreCommands from "./internal/storeCommands.ts"

/**
 * Lists the exit codes of these commands; 1 is any other failure.
 *
 * @category constants
 * @since 0.1.0
 */
export const exitCodes = {
  SessionNotFound: 3,
  SessionStoreUnavailable: 8,
  BootstrapStoreUnavailable: 8,
  NoState: StoreCommands.noStateExitCode
} as const

const codeOf = (reason: string): number =>
  reason === "SessionNotFound" || reason === "SessionStoreUnavailable" || reason === "BootstrapStoreUnavailable"
    ? exitCodes[reason]
    : 1

const parent = Command.make("sessions").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Show who is signed in, and end sessions")
)

/** Runs a command on the backend's store. */
const withStore = Effect.fnUntraced(
  function*<A, E, R>(run: (options: { readonly json: boolean }) => Effect.Effect<A, E, R>) {
    const flags = yield* parent
    const services = Layer.provide(
      Layer.merge(SessionCredentialService.layerConfig, BootstrapCredentialService.layerConfig),
      StoreCommands.layerStore(flags, false)
    )
    return yield* Effect.provide(run(flags), services)
  },
  Effect.catchIf(
    (error) =>
      error instanceof SessionCredentialService.SessionCredentialError ||
      error instanceof BootstrapCredentialService.BootstrapCredentialError,
    ({ message, reason }) =>
      Effect.fail(new StoreCommands.CommandFailed({ sentence: message, exitCode: codeOf(reason._tag) }))
  )
)

const pageSize = 200

/** Reads a list page by page, and hands on each entry. */
const pages = <A, E, R>(read: (after: A | undefined) => Effect.Effect<ReadonlyArray<A>, E, R>) =>
  Stream.paginate(
    undefined,
    (after: A | undefined) =>
      Effect.map(read(after), (page) =>
        [page, page.length < pageSize ? Option.none() : Option.some(page.at(-1))] as const)
  )

const shortTime = (time: DateTime.Utc) => DateTime.formatIso(time).slice(0, 16).replace("T", " ")

const subject = Flag.String("subject").pipe(
  Flag.withDescription("Show only what belongs to this subject"),
  Flag.optional
)

const lifetimeJson = (lifetime: Duration.Duration | null) => lifetime === null ? null : Duration.toSeconds(lifetime)
const timeJson = (time: DateTime.Utc | null) => time === null ? null : DateTime.formatIso(time)

const sessionJson = ({ descendants, session }: SessionCredentialService.ListedSession) => ({
  id: session.id,
  subject: session.subject,
  method: session.method,
  scopes: session.scopes,
  device: { ...session.device },
  letInBy: session.letInBy,
  descendants,
  lifetimeSeconds: lifetimeJson(session.lifetime),
  createdAt: DateTime.formatIso(session.createdAt),
  lastSeenAt: DateTime.formatIso(session.lastSeenAt),
  expiresAt: DateTime.formatIso(session.expiresAt),
  absoluteExpiresAt: timeJson(session.absoluteExpiresAt)
})

const sessionLine = ({ descendants, session }: SessionCredentialService.ListedSession): string =>
  [
    session.id,
    Text.shown(session.subject),
    session.method,
    Text.shown(session.device.label ?? session.device.address ?? "no name"),
    session.device.kind,
    `seen ${shortTime(session.lastSeenAt)}`,
    ...(descendants === 0 ? [] : [`${descendants} descend from it`])
  ].join("  ")

const list = Command.make("list", { subject }, ({ subject }) =>
  withStore(Effect.fnUntraced(function*({ json }) {
    const sessions = yield* SessionCredentialService.SessionCredentialService
    const read = (after: SessionCredentialService.ListedSession | undefined) =>
      sessions.list({ subject: Option.getOrUndefined(subject), after: after?.session.id, limit: pageSize })
    const found = yield* Stream.runCollect(pages(read))
    if (json) return yield* Console.log(JSON.stringify({ sessions: found.map(sessionJson) }))
    yield* Console.log(found.length === 0 ? "No one is signed in" : found.map(sessionLine).join("\n"))
  }))).pipe(Command.withDescription("List the sessions, the oldest first"))

const linkJson = ({ sessionLifetime, ...link }: PairingLink) => ({
  ...link,
  sessionLifetimeSeconds: lifetimeJson(sessionLifetime),
  sessionEndsAt: timeJson(link.sessionEndsAt),
  createdAt: DateTime.formatIso(link.createdAt),
  expiresAt: DateTime.formatIso(link.expiresAt)
})

const linkLine = (link: PairingLink): string =>
  [
    link.id,
    Text.shown(link.subject),
    Text.shown(link.label ?? "no name"),
    `by ${Text.shown(link.createdBy)}`,
    `until ${shortTime(link.expiresAt)}`
  ]
    .join("  ")

const links = Command.make("links", { subject }, ({ subject }) =>
  withStore(Effect.fnUntraced(function*({ json }) {
    const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
    const found = yield* Stream.runCollect(pages((after: PairingLink | undefined) =>
      bootstrap.list({ subject: Option.getOrUndefined(subject), after, limit: pageSize })
    ))
    if (json) {
      return yield* Console.log(JSON.stringify({ links: found.map(linkJson) }))
    }
    yield* Console.log(found.length === 0 ? "No pairing link is open" : found.map(linkLine).join("\n"))
  }))).pipe(Command.withDescription("List the pairing links that can still be redeemed, the newest first"))

/** Says what ended beside the session that was named. */
const endedWith = ({ links, sessions }: SessionCredentialService.Ended): string => {
  const others = [
    ...(sessions > 1 ? [`${sessions - 1} sessions that it let in`] : []),
    ...(links > 0 ? [`${links} open links`] : [])
  ]
  return others.length === 0 ? "" : `, with ${others.join(" and ")}`
}

const revoke = Command.make(
  "revoke",
  {
    id: Argument.String("session").pipe(Argument.withDescription("The session's id"), Argument.optional),
    descendants: Flag.Boolean("descendants").pipe(
      Flag.withDescription("End the sessions that came from its pairing links as well, through every generation"),
      Flag.withDefault(false)
    ),
    all: Flag.Boolean("all").pipe(
      Flag.withDescription("End every session and pairing link, or with --issued-before the older ones"),
      Flag.withDefault(false)
    ),
    issuedBefore: Flag.Date("issued-before").pipe(
      Flag.withDescription("With --all: end what was issued before this time, such as 2026-11-29T04:00:00Z"),
      Flag.optional
    )
  },
  ({ all, descendants, id, issuedBefore }) =>
    withStore(Effect.fnUntraced(function*({ json }) {
      const sessions = yield* SessionCredentialService.SessionCredentialService
      if (all === Option.isSome(id) || (!all && Option.isSome(issuedBefore))) {
        return yield* new StoreCommands.CommandFailed({
          sentence: "Name one session, or give --all; --issued-before goes with --all",
          exitCode: 1
        })
      }
      if (Option.isSome(id)) {
        const ended = yield* sessions.revoke(SessionId.make(id.value), "operator", { descendants })
        return yield* Console.log(
          json ? JSON.stringify({ revoked: id.value }) : `Revoked ${id.value}${endedWith(ended)}`
        )
      }
      const time = Option.isSome(issuedBefore)
        ? DateTime.makeUnsafe(issuedBefore.value)
        : DateTime.add(yield* DateTime.now, { milliseconds: 1 })
      const ended = yield* sessions.revokeIssuedBefore(time, "operator")
      yield* Console.log(
        json
          ? JSON.stringify({ revoked: ended.sessions })
          : `Revoked ${ended.sessions} sessions and ${ended.links} links`
      )
    }))
).pipe(
  Command.withDescription("End a session with its open links; or all, such as after a restore from a copy"),
  Command.withExamples([
    {
      command: "sallyport sessions revoke --all --issued-before 2026-11-29T04:00:00Z",
      description: "End what a restored database brought back"
    }
  ])
)

/**
 * Lists and ends sessions, and lists pairing links.
 *
 * @category commands
 * @since 0.1.0
 */
export const sessions = parent.pipe(Command.withSubcommands([list, links, revoke]))
