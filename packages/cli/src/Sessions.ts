/**
 * Implements `sallyport sessions`: shows who is signed in, issues a token, and ends sessions, whether the backend runs or
 * not.
 *
 * The commands act on the backend's own store, or with `--url` on a server that runs. A running backend learns of a change
 * of its store through the access feed, and ends what was revoked at once.
 */
import { type ListedSessionView, listedSessionView, sessionView } from "@sallyport/contract/AccessSchemas"
import * as SessionGroup from "@sallyport/contract/SessionGroup"
import { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { issuerPrefix, SessionId } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Text from "@sallyport/core/Text"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { CommandFailed } from "./ExitCode.ts"
import * as Lists from "./internal/lists.ts"
import * as PairingLinks from "./internal/pairingLinks.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const parent = Command.make("sessions").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("Show who is signed in, issue a token, and end sessions")
)

const subject = Flag.String("subject").pipe(
  Flag.withDescription("Show only what belongs to this subject"),
  Flag.optional
)

/** Shows a session to the operator, who has none. */
const view = (listed: SessionCredentialService.ListedSession) => listedSessionView(listed, undefined)

const table = Terminal.table<ListedSessionView>([
  { name: "SESSION", of: ({ id }) => Text.shortId(id), whole: true },
  { name: "SUBJECT", of: ({ subject }) => subject },
  {
    name: "DEVICE",
    of: ({ client, current, device }) =>
      (device.label ?? device.address ?? "no name") + (client === null ? "" : " (a program)") +
      (current ? " (this one)" : "")
  },
  { name: "LET IN", of: ({ descendants }) => String(descendants), whole: true },
  { name: "LAST SEEN", of: ({ lastSeenAt }, { time }) => time(lastSeenAt), whole: true }
])

/** Says which sessions an issuer of identities has let in: its address is too long for a column, and is told whole. */
const issuers = (sessions: ReadonlyArray<ListedSessionView>) => {
  const letIn = new Map<string, ReadonlyArray<string>>()
  for (const { id, letInBy: { actor } } of sessions) {
    if (actor.startsWith(issuerPrefix)) letIn.set(actor, [...letIn.get(actor) ?? [], Text.shortId(id)])
  }
  return [...letIn].map(([actor, ids]) =>
    `Let in by ${Text.shown(actor.slice(issuerPrefix.length))}: ${ids.join(", ")}`
  )
}

/** Says what sessions ask for, each in a line of its own. */
const requests = (sessions: ReadonlyArray<ListedSessionView>, titles: StoreCommands.Titles) =>
  sessions.flatMap(({ id, scopeRequest }) =>
    scopeRequest === null
      ? []
      : [
        `${Text.shortId(id)} asks for ${StoreCommands.scopesText(scopeRequest.scopes, titles)}: ` +
        `see "sallyport sessions grant"`
      ]
  )

/** Returns the id of the session that a name begins. */
const wholeId = <E, R>(name: string, listed: Effect.Effect<ReadonlyArray<{ readonly id: string }>, E, R>) =>
  Effect.map(
    StoreCommands.idOf(name, "sessions", Effect.map(listed, (sessions) => sessions.map(({ id }) => id))),
    (id) => SessionId.make(id)
  )

const list = Command.make(
  "list",
  { subject },
  Effect.fnUntraced(function*({ subject }) {
    const flags = yield* parent
    const { found, titles } = yield* StoreCommands.ask(flags, {
      store: Effect.all({
        found: Effect.map(Lists.sessions.store, (sessions) => sessions.map(view)),
        titles: StoreCommands.ownTitles
      }),
      server: (server) => Effect.all({ found: Lists.sessions.server(server), titles: StoreCommands.titlesOf(server) })
    })
    const sessions = found.filter((session) => Option.getOrElse(subject, () => session.subject) === session.subject)
    yield* Terminal.print(
      flags.json,
      Output.Sessions,
      { sessions },
      (screen) =>
        sessions.length === 0
          ? "No one is signed in"
          : [table(sessions, screen), ...issuers(sessions), ...requests(sessions, titles)].join("\n")
    )
  })
).pipe(Command.withDescription("List the sessions, the oldest first, with how many each has let in"))

const asking = {
  id: Argument.String("session").pipe(
    Argument.withSchema(Schema.NonEmptyString),
    Argument.withDescription("The id of the session that asks, or its beginning as \"sessions list\" shows it")
  )
}

/** Finds what a session asks for. */
const requestOf = Effect.fnUntraced(function*(sessions: ReadonlyArray<ListedSessionView>, name: string) {
  const id = yield* StoreCommands.idOf(name, "sessions", Effect.succeed(sessions.map(({ id }) => id)))
  const now = yield* DateTime.now
  const session = sessions.find((session) => session.id === id)
  const request = session?.scopeRequest ?? null
  if (session === undefined || request === null || DateTime.isLessThanOrEqualTo(request.expiresAt, now)) {
    return yield* new CommandFailed({
      code: "NotFound",
      message: `No live session ${JSON.stringify(id)} asks for scopes; "sallyport sessions list" says which do`
    })
  }
  return { id: session.id, ...request }
})

/** Answers a session that asks for more scopes; `granted` chooses of those that it asks for. */
const answer = Effect.fnUntraced(function*(
  id: string,
  granted: (asked: ReadonlyArray<AccessScope>) => ReadonlyArray<AccessScope>
) {
  const flags = yield* parent
  const { session, titles } = yield* StoreCommands.ask(flags, {
    store: Effect.gen(function*() {
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const { id: asker, requestedAt, scopes } = yield* requestOf((yield* Lists.sessions.store).map(view), id)
      const answered = yield* sessions.answerScopes({ id: asker, requestedAt, scopes: granted(scopes) }, "operator")
      return { session: sessionView(answered, undefined), titles: yield* StoreCommands.ownTitles }
    }),
    server: Effect.fnUntraced(function*(server) {
      const { id: asker, requestedAt, scopes } = yield* requestOf(yield* Lists.sessions.server(server), id)
      const titles = yield* StoreCommands.titlesOf(server)
      const session = yield* server.api.session.answerScopes({
        params: { id: asker },
        payload: { requestedAt, scopes: granted(scopes) }
      })
      return { session, titles }
    })
  })
  yield* Terminal.print(
    flags.json,
    Output.AnsweredSession,
    { session },
    () => `The session ${session.id} may use: ${StoreCommands.scopesText(session.scopes, titles)}`
  )
})

const grant = Command.make(
  "grant",
  {
    ...asking,
    scope: StoreCommands.scopeFlag.pipe(
      Flag.withDescription("A scope that it asks for; can be repeated; by default all that it asks for")
    )
  },
  Effect.fnUntraced(function*({ id, scope }) {
    const scopes = yield* StoreCommands.scopesOf(scope)
    yield* answer(id, (asked) => scopes ?? asked)
  })
).pipe(
  Command.withDescription("Grant a session the scopes that it asks for, or with --scope fewer; its token stays"),
  Command.withExamples([
    {
      command: "sallyport sessions grant 0197c2f0-0000-7000-8000-000000000000 --scope runs:operate",
      description: "Grant one of the scopes that it asks for"
    }
  ])
)

const deny = Command.make("deny", asking, ({ id }) => answer(id, () => [])).pipe(
  Command.withDescription("Turn away a session that asks for scopes; it keeps those that it has")
)

/** Ends whatever there is, also if the clock of this terminal is behind those that issued it. */
const endOfTime = DateTime.makeUnsafe("9999-12-31T23:59:59.999Z")

const revoke = Command.make(
  "revoke",
  {
    id: Argument.String("session").pipe(
      Argument.withSchema(Schema.NonEmptyString),
      Argument.withDescription("The session's id, or its beginning as \"sessions list\" shows it"),
      Argument.optional
    ),
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
    ),
    ...Terminal.yesFlag
  },
  Effect.fnUntraced(function*({ all, descendants, id, issuedBefore, yes }) {
    const flags = yield* parent
    if (all === Option.isSome(id) || (!all && Option.isSome(issuedBefore))) {
      return yield* new CommandFailed({
        code: "Usage",
        message: "Name one session, or give --all; --issued-before goes with --all"
      })
    }
    if (Option.isSome(id)) {
      const session = yield* StoreCommands.ask(flags, {
        store: Effect.gen(function*() {
          const sessions = yield* SessionCredentialService.SessionCredentialService
          const session = yield* wholeId(id.value, Effect.map(Lists.sessions.store, (listed) => listed.map(view)))
          return yield* Effect.as(sessions.revoke(session, "operator", { descendants }), session)
        }),
        server: Effect.fnUntraced(function*(server) {
          const session = yield* wholeId(id.value, Lists.sessions.server(server))
          return yield* Effect.as(server.api.session.revoke({ payload: { id: session, descendants } }), session)
        })
      })
      return yield* Terminal.print(flags.json, Output.Revoked, { revoked: session }, () => `Revoked ${session}`)
    }
    const time = Option.match(issuedBefore, { onNone: () => endOfTime, onSome: DateTime.makeUnsafe })
    yield* Terminal.confirm(yes, "End these sessions and the links with them? Every device has to be paired again.")
    const { sessions: revoked } = yield* StoreCommands.ask(flags, {
      store: Effect.flatMap(
        SessionCredentialService.SessionCredentialService,
        (sessions) => sessions.revokeIssuedBefore(time, "operator")
      ),
      server: ({ api }) => api.session.revokeIssuedBefore({ payload: { time } })
    })
    yield* Terminal.print(
      flags.json,
      Output.RevokedCount,
      { revoked },
      () => `Revoked ${Terminal.count(revoked, "session")}, and the links with ${revoked === 1 ? "it" : "them"}`
    )
  })
).pipe(
  Command.withDescription("End a session with its open links; or all, such as after a restore from a copy"),
  Command.withExamples([
    {
      command: "sallyport sessions revoke --all --issued-before 2026-11-29T04:00:00Z",
      description: "End what a restored database brought back"
    }
  ])
)

/** Ends the sessions beside one of a store, which no session of its own asks. */
const revokeBeside = Effect.fnUntraced(function*(keep: string) {
  const listed = yield* Lists.sessions.store
  const id = yield* StoreCommands.idOf(keep, "sessions", Effect.succeed(listed.map(({ session }) => session.id)))
  const kept = listed.find(({ session }) => session.id === id)
  if (kept === undefined) {
    return yield* new CommandFailed({
      code: "NotFound",
      message: `There is no live session ${JSON.stringify(keep)}; "sallyport sessions list" lists them`
    })
  }
  return yield* (yield* SessionCredentialService.SessionCredentialService).revokeOthers(kept.session)
})

const revokeOthers = Command.make(
  "revoke-others",
  {
    keep: Flag.String("keep").pipe(
      Flag.withDescription("The session that goes on; with --url it is the one of the token"),
      Flag.optional
    ),
    ...Terminal.yesFlag
  },
  Effect.fnUntraced(function*({ keep, yes }) {
    const flags = yield* parent
    if (Option.isSome(flags.url) && Option.isSome(keep)) {
      return yield* StoreCommands.onlyOnStore("--keep", "leave it out: the session of the token goes on")
    }
    if (Option.isNone(flags.url) && Option.isNone(keep)) {
      return yield* new CommandFailed({ code: "Usage", message: "Name the session that goes on, with --keep" })
    }
    yield* Terminal.confirm(yes, "End all other sessions of the same subject, and all that descends from them?")
    const { sessions: revoked } = yield* StoreCommands.ask(flags, {
      store: revokeBeside(Option.getOrElse(keep, () => "")),
      server: ({ api }) => api.session.revokeOthers()
    })
    yield* Terminal.print(
      flags.json,
      Output.RevokedCount,
      { revoked },
      () => `Revoked ${Terminal.count(revoked, "other session")}`
    )
  })
).pipe(Command.withDescription("End the other sessions of a session's subject, with all that descends from them"))

const issue = Command.make(
  "issue",
  {
    label: Flag.String("label").pipe(Flag.withDescription("The name under which the session is listed")),
    scope: StoreCommands.scopeFlag,
    subject: StoreCommands.subjectFlag,
    lifetime: StoreCommands.durationFlag(
      "lifetime",
      "How long the session lasts without being used, such as \"1 hour\"; by default as long as any"
    )
  },
  Effect.fnUntraced(function*({ label, lifetime, scope, subject }) {
    const flags = yield* parent
    const scopes = yield* StoreCommands.scopesOf(scope)
    const wanted: PairingLinks.Wanted = {
      kind: "machine",
      label: Option.some(label),
      scopes,
      subject,
      lifetime: Option.none(),
      sessionLifetime: lifetime
    }
    const issued = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const { code } = yield* PairingLinks.issue(wanted)
        const { session, token, tokenExpiresAt } = yield* (yield* BootstrapCredentialService).redeem({
          credential: code,
          method: "bearer-access-token",
          machine: true,
          device: { label }
        })
        return { token, scopes: session.scopes, expiresAt: tokenExpiresAt }
      }),
      server: Effect.fnUntraced(function*(server) {
        const { code } = yield* PairingLinks.issueBy(server, wanted)
        const answer = yield* server.api.session.token({
          payload: {
            grant_type: SessionGroup.tokenExchange,
            subject_token: code,
            requested_token_type: SessionGroup.machineTokenType,
            subject_token_type: SessionGroup.bootstrapTokenType
          }
        })
        const nowMillis = yield* Clock.currentTimeMillis
        return {
          token: answer.access_token,
          scopes: answer.scope.split(" "),
          expiresAt: DateTime.makeUnsafe(nowMillis + answer.expires_in * 1000)
        }
      })
    })
    yield* Terminal.print(flags.json, Output.IssuedToken, issued, () => Redacted.value(issued.token))
  })
).pipe(
  Command.withDescription("Start a session for a program, and print its token, which is shown only here"),
  Command.withExamples([
    {
      command: "sallyport sessions issue --label backup --scope runs:read > token",
      description: "A token for a program that reads runs"
    }
  ])
)

/**
 * Lists, issues, raises and ends sessions.
 *
 * @category commands
 * @since 0.1.0
 */
export const sessions = parent.pipe(Command.withSubcommands([list, issue, grant, deny, revoke, revokeOthers]))
