/**
 * Implements `sallyport credentials`: connects providers for a user or an organisation, whether the backend runs or
 * not.
 *
 * The commands act on the backend's own store. A running backend learns of a change through the access feed. Values are
 * typed in without an echo or read from standard input, and are never an argument, which other users of the machine
 * could read.
 */
import { CredentialView } from "@sallyport/contract/CredentialGroup"
import { NotFound } from "@sallyport/contract/WireError"
import { defaultSubject } from "@sallyport/core/access/BootstrapCredentialService"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import type { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import { CredentialScope, type ScopedCredential } from "@sallyport/core/access/ScopedCredential"
import * as Text from "@sallyport/core/Text"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as BackendCredentials from "./BackendCredentials.ts"
import { CommandFailed } from "./ExitCode.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const shared = {
  ...StoreCommands.flags,
  user: Flag.String("user").pipe(
    Flag.withDescription("The user whose credentials are shown and changed; with --url the subject of the token"),
    Flag.optional
  ),
  org: Flag.String("org").pipe(
    Flag.withDescription(
      "The organisation to act for, as its owner; without it the commands act on the user's own credentials"
    ),
    Flag.optional
  )
}

const parent = Command.make("credentials").pipe(
  Command.withSharedFlags(shared),
  Command.withDescription("Connect providers for a user or an organisation")
)

interface Caller {
  readonly principal: CredentialScopeResolver.Caller
  readonly credentials: CredentialScopeResolver.CredentialScopeResolver["Service"]
}

/** Gets an answer from the backend that the flags name: as a user of the store, or as the holder of the token. */
const ask = Effect.fnUntraced(
  function*<A, B, E, E2, R, R2>(from: {
    readonly store: (caller: Caller) => Effect.Effect<A, E, R>
    readonly server: (server: StoreCommands.Server) => Effect.Effect<B, E2, R2>
  }, creates = false) {
    const flags = yield* parent
    const { org, url, user } = flags
    if (Option.isSome(url) && (Option.isSome(org) || Option.isSome(user))) {
      return yield* StoreCommands.onlyOnStore("--user or --org", "leave it out: the token says whose")
    }
    const subject = Option.getOrElse(user, () => defaultSubject)
    const memberships = OrgMembership.layerStatic(
      new Map([[subject, { org: Option.isSome(org) ? { id: org.value, role: "owner" } : null }]])
    )
    return yield* StoreCommands.ask(flags, {
      store: Effect.flatMap(
        CredentialScopeResolver.CredentialScopeResolver,
        (credentials) => from.store({ principal: { subject }, credentials })
      ).pipe(Effect.provide(BackendCredentials.layer(memberships))),
      server: from.server
    }, creates)
  },
  Effect.mapError((error) =>
    (error instanceof CredentialScopeResolver.CredentialError && error.reason._tag === "UnknownKey") ||
      (error instanceof NotFound && error.code === "credential_unknown")
      ? new CommandFailed({
        code: "NotFound",
        message: `${error.message}; "sallyport credentials status" lists those that are`
      })
      : error
  )
)

const key = Argument.String("key").pipe(Argument.withDescription("The credential, such as github.token"))

const scope = Flag.Literals("scope", CredentialScope.literals).pipe(
  Flag.withDescription("The scope: by default the organisation if --org names one, otherwise the user"),
  Flag.optional
)

const view = (credential: ScopedCredential) => new CredentialView({ ...credential })

const table = Terminal.table<CredentialView>([
  { name: "CREDENTIAL", of: ({ key }) => key },
  { name: "OF", of: ({ owner, scope }) => `${scope} ${owner}` },
  { name: "BY", of: ({ updatedBy }) => updatedBy },
  { name: "CHANGED", of: ({ updatedAt }, { time }) => time(updatedAt), whole: true }
])

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function*() {
    const { json } = yield* parent
    const credentials = yield* ask({
      store: ({ credentials, principal }) => Effect.map(credentials.list(principal), (found) => found.map(view)),
      server: (server) => Effect.map(server.credentials.credentials.list(), ({ credentials }) => credentials)
    })
    yield* Terminal.print(
      json,
      Output.Credentials,
      { credentials },
      (screen) =>
        credentials.length === 0
          ? "No credential is set; \"sallyport credentials status\" lists those that can be"
          : table(credentials, screen)
    )
  })
).pipe(Command.withDescription("List what is stored, without values"))

const states = Terminal.table<CredentialStatus>([
  { name: "CREDENTIAL", of: ({ key }) => key },
  {
    name: "STATE",
    of: ({ state }) => state,
    whole: true,
    paint: ({ state }, { bad, doubtful, good }) => state === "set" ? good : state === "unset" ? doubtful : bad
  },
  { name: "FROM", of: ({ source }) => source ?? "" },
  { name: "INSTEAD OF", of: ({ shadowed }) => shadowed.join(" and ") }
])

const status = Command.make(
  "status",
  {},
  Effect.fnUntraced(function*() {
    const { json } = yield* parent
    const credentials = yield* ask({
      store: ({ credentials, principal }) => credentials.status(principal),
      server: (server) => Effect.map(server.credentials.credentials.status(), ({ credentials }) => credentials)
    })
    yield* Terminal.print(json, Output.CredentialStates, { credentials }, (screen) => states(credentials, screen))
  })
).pipe(Command.withDescription("Show the state of every credential that can be connected"))

/** Larger than the largest value with its names, so that the service refuses a value that is too large. */
const maxInputBytes = 1024 * 1024

const decodeBundle = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Schema.String)))

/** Reads standard input to its end, without a final line break, which the shell adds. */
const readInput = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const decoder = new TextDecoder()
  const text = yield* Stream.runFold(
    stdio.stdin,
    () => "",
    (all, chunk) => all.length > maxInputBytes ? all : all + decoder.decode(chunk, { stream: true })
  )
  return text.replace(/\r?\n$/, "")
})

/** Asks for the parts on the terminal, without an echo, or takes them from standard input. */
const readValues = Effect.fnUntraced(function*(name: string, parts: ReadonlyArray<string>) {
  const stdio = yield* Stdio.Stdio
  const values = new Map<string, Redacted.Redacted>()
  if (yield* stdio.stdinIsTerminal) {
    for (const part of parts) {
      const label = parts.length === 1 ? name : `${name} ${part}`
      values.set(part, yield* Terminal.ask(Prompt.Hidden({ message: `${label} (not shown)` })))
    }
    return values
  }
  const text = yield* readInput
  if (parts.length === 1) return values.set(parts[0] ?? CredentialRequirements.singlePart, Redacted.make(text))
  for (const [part, value] of Object.entries(Option.getOrElse(decodeBundle(text), () => ({})))) {
    values.set(part, Redacted.make(value))
  }
  return values
})

const set = Command.make(
  "set",
  { key, scope },
  Effect.fnUntraced(function*({ key, scope }) {
    const { json } = yield* parent
    const partsOf = (found: ReadonlyArray<CredentialStatus>) =>
      found.find((one) => one.key === key)?.parts ?? [CredentialRequirements.singlePart]
    const { credential, shadowedBy } = yield* ask({
      store: Effect.fnUntraced(function*({ credentials, principal }) {
        // The key and the right are checked before the question, so that a person never types a secret for nothing.
        yield* credentials.writeScope(principal, key)
        const values = yield* readValues(key, partsOf(yield* credentials.status(principal)))
        const { credential, shadowedBy } = yield* credentials.write(principal, {
          key,
          values,
          scope: Option.getOrUndefined(scope)
        })
        return { credential: view(credential), shadowedBy }
      }),
      server: Effect.fnUntraced(function*(server) {
        const { credentials } = yield* server.credentials.credentials.status()
        const values = yield* readValues(key, partsOf(credentials))
        return yield* server.credentials.credentials.set({
          params: { key },
          payload: {
            values: Object.fromEntries(values),
            ...Option.match(scope, { onNone: () => ({}), onSome: (scope) => ({ scope }) })
          }
        })
      })
    }, true)
    yield* Terminal.print(
      json,
      Output.CredentialSet,
      { credential, shadowedBy },
      () => `Set ${key} of the ${credential.scope} ${Text.shown(credential.owner)}.`
    )
    if (shadowedBy !== null && !json) {
      yield* Console.error(`The ${shadowedBy}'s own credential is read first and stays in use.`)
    }
  })
).pipe(
  Command.withDescription(
    "Store a credential, typed in or from standard input: the value, or a bundle's parts as a JSON object"
  )
)

/** Removes a credential of a server, which says what it was before. */
const removeFrom = Effect.fnUntraced(function*(
  server: StoreCommands.Server,
  key: string,
  scope: Option.Option<CredentialScope>
) {
  const api = server.credentials.credentials
  const source = (yield* api.status()).credentials.find((one) => one.key === key)?.source
  const wanted: string | null | undefined = Option.getOrElse(scope, () => source)
  const found = (yield* api.list()).credentials.find((one) => one.key === key && one.scope === wanted)
  yield* api.remove({
    params: { key },
    query: Option.match(scope, { onNone: () => ({}), onSome: (scope) => ({ scope }) })
  })
  if (found !== undefined) return found
  return yield* new CommandFailed({ code: "Changed", message: `${key} was removed while another program set it` })
})

const remove = Command.make(
  "remove",
  { key, scope, ...Terminal.yesFlag },
  Effect.fnUntraced(function*({ key, scope, yes }) {
    const { json } = yield* parent
    yield* Terminal.confirm(yes, `Remove ${Text.shown(key)}? Its value is not kept.`)
    const removed = yield* ask({
      store: ({ credentials, principal }) =>
        Effect.map(credentials.remove(principal, { key, scope: Option.getOrUndefined(scope) }), view),
      server: (server) => removeFrom(server, key, scope)
    })
    yield* Terminal.print(
      json,
      Output.CredentialRemoved,
      { removed },
      () => `Removed ${key} of the ${removed.scope} ${Text.shown(removed.owner)}.`
    )
  })
).pipe(Command.withDescription("Remove a credential: the one in use, or the one of --scope"))

const describeVerdict = (verdict: CredentialRequirements.Verdict): string => {
  switch (verdict._tag) {
    case "Valid":
      return verdict.account === null ? "works" : `works, for ${Text.shown(verdict.account)}`
    case "NeedsToken":
      return "is not set"
    case "Rejected":
      return `is rejected: ${verdict.detail}`
    case "RateLimited":
      return `is rate-limited${verdict.until === null ? "" : ` until ${DateTime.formatIso(verdict.until)}`}`
    case "WrongAddress":
      return `has a wrong address: ${verdict.detail}`
    case "ProviderDown":
      return `could not be checked: ${verdict.detail}`
    case "Unchecked":
      return "is set; there is no way to check it"
  }
}

const test = Command.make(
  "test",
  { key },
  Effect.fnUntraced(function*({ key }) {
    const { json } = yield* parent
    const verdict = yield* ask({
      store: ({ credentials, principal }) => credentials.test(principal, key),
      server: (server) => Effect.map(server.credentials.credentials.test({ params: { key } }), ({ verdict }) => verdict)
    })
    const sentence = `${key} ${describeVerdict(verdict)}`
    const isGood = verdict._tag === "Valid" || verdict._tag === "Unchecked"
    if (json || isGood) yield* Terminal.print(json, Output.CredentialVerdict, { verdict }, () => `${sentence}.`)
    if (!isGood) return yield* new CommandFailed({ code: "NotValid", message: sentence })
  })
).pipe(Command.withDescription("Have the provider check a credential; the exit code is 0 if it works"))

/**
 * Lists, sets, removes and checks credentials.
 *
 * @category commands
 * @since 0.1.0
 */
export const credentials = parent.pipe(Command.withSubcommands([list, status, set, remove, test]))
