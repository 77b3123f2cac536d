/**
 * Implements `sallyport credentials`: connects providers for a user or an organisation, whether the backend runs or
 * not.
 *
 * The commands act on the backend's own store. A running backend learns of a change through the access feed. Values are
 * typed in without an echo or read from standard input, and are never an argument, which other users of the machine
 * could read.
 */
import { defaultSubject } from "@sallyport/core/access/BootstrapCredentialService"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
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
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as BackendCredentials from "./BackendCredentials.ts"
import * as StoreCommands from "./internal/storeCommands.ts"

const shared = {
  ...StoreCommands.flags,
  user: Flag.String("user").pipe(
    Flag.withDescription("The user whose credentials are shown and changed"),
    Flag.withDefault(defaultSubject)
  ),
  org: Flag.String("org").pipe(
    Flag.withDescription(
      "The organisation to act for, as its owner; without it the commands act on the user's own credentials"
    ),
    Flag.optional
  )
}

/**
 * Lists the exit codes of these commands; 1 is any other failure.
 *
 * @category constants
 * @since 0.1.0
 */
export const exitCodes: Readonly<
  Record<CredentialScopeResolver.CredentialError["reason"]["_tag"] | "NotValid" | "NoState", number>
> = {
  UnknownKey: 3,
  NotSet: 4,
  WrongParts: 5,
  ValueTooLarge: 5,
  ScopeNotAllowed: 6,
  NoActiveOrg: 6,
  NotPermitted: 6,
  Undecryptable: 7,
  CredentialRejected: 9,
  NotValid: 9,
  OrgLookupFailed: 8,
  CredentialStoreUnavailable: 8,
  NoState: StoreCommands.noStateExitCode
}

const parent = Command.make("credentials").pipe(
  Command.withSharedFlags(shared),
  Command.withDescription("Connect providers for a user or an organisation")
)

/** Runs a command on the backend's store. */
const withStore = Effect.fnUntraced(
  function*<A, E, R>(
    run: (options: {
      readonly json: boolean
      readonly principal: CredentialScopeResolver.Caller
      readonly credentials: CredentialScopeResolver.CredentialScopeResolver["Service"]
    }) => Effect.Effect<A, E, R>,
    creates = false
  ) {
    const flags = yield* parent
    const { json, org, user } = flags
    const memberships = OrgMembership.layerStatic(
      new Map([[user, { org: Option.isSome(org) ? { id: org.value, role: "owner" } : null }]])
    )
    const services = Layer.provide(BackendCredentials.layer(memberships), StoreCommands.layerStore(flags, creates))
    return yield* Effect.gen(function*() {
      const credentials = yield* CredentialScopeResolver.CredentialScopeResolver
      return yield* run({ json, principal: { subject: user }, credentials })
    }).pipe(Effect.provide(services))
  },
  Effect.catchIf(
    (error) => error instanceof CredentialScopeResolver.CredentialError,
    (error) =>
      error.reason._tag === "UnknownKey"
        ? new StoreCommands.CommandFailed({
          sentence: `${error.message}; "sallyport credentials status" lists those that are`,
          exitCode: exitCodes.UnknownKey
        })
        : StoreCommands.failWith(exitCodes)(error)
  )
)

const key = Argument.String("key").pipe(Argument.withDescription("The credential, such as github.token"))

const scope = Flag.Literals("scope", CredentialScope.literals).pipe(
  Flag.withDescription("The scope: by default the organisation if --org names one, otherwise the user"),
  Flag.optional
)

const toJson = (credential: ScopedCredential) => ({
  scope: credential.scope,
  owner: credential.owner,
  key: credential.key,
  createdAt: DateTime.formatIso(credential.createdAt),
  updatedAt: DateTime.formatIso(credential.updatedAt),
  updatedBy: credential.updatedBy,
  rejectedUntil: credential.rejectedUntil === null ? null : DateTime.formatIso(credential.rejectedUntil)
})

const toLine = (credential: ScopedCredential): string =>
  [
    credential.key.padEnd(20),
    `${credential.scope} ${Text.shown(credential.owner)}`,
    `by ${Text.shown(credential.updatedBy)}`,
    DateTime.formatIso(credential.updatedAt).slice(0, 16).replace("T", " ")
  ].join("  ")

const list = Command.make("list", {}, () =>
  withStore(Effect.fnUntraced(function*({ credentials, json, principal }) {
    const found = yield* credentials.list(principal)
    if (json) return yield* Console.log(JSON.stringify(found.map(toJson)))
    yield* Console.log(found.length === 0 ? "Nothing is connected." : found.map(toLine).join("\n"))
  }))).pipe(Command.withDescription("List what is stored, without values"))

const status = Command.make(
  "status",
  {},
  () =>
    withStore(Effect.fnUntraced(function*({ credentials, json, principal }) {
      const found = yield* credentials.status(principal)
      if (json) {
        return yield* Console.log(JSON.stringify(found.map((one) => ({
          ...one,
          updatedAt: one.updatedAt === null ? null : DateTime.formatIso(one.updatedAt),
          rejectedUntil: one.rejectedUntil === null ? null : DateTime.formatIso(one.rejectedUntil)
        }))))
      }
      yield* Console.log(
        found.map((one) =>
          `${one.key.padEnd(20)}  ${one.state}${one.source === null ? "" : ` (${one.source})`}${
            one.shadowed.length === 0 ? "" : `, before that of the ${one.shadowed.join(" and ")}`
          }`
        ).join("\n")
      )
    }))
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
      values.set(part, yield* Prompt.run(Prompt.Hidden({ message: `${label} (not shown)` })))
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
  ({ key, scope }) =>
    withStore(
      Effect.fnUntraced(function*({ credentials, json, principal }) {
        // The key and the right are checked before the question, so that a person never types a secret for nothing.
        yield* credentials.writeScope(principal, key)
        const found = (yield* credentials.status(principal)).find((one) => one.key === key)
        const values = yield* readValues(key, found?.parts ?? [CredentialRequirements.singlePart])
        const { credential, shadowedBy } = yield* credentials.write(principal, {
          key,
          values,
          scope: Option.getOrUndefined(scope)
        })
        if (json) return yield* Console.log(JSON.stringify({ credential: toJson(credential), shadowedBy }))
        yield* Console.log(`Set ${key} of the ${credential.scope} ${Text.shown(credential.owner)}.`)
        if (shadowedBy !== null) {
          yield* Console.error(`The ${shadowedBy}'s own credential is read first and stays in use.`)
        }
      }),
      true
    )
).pipe(
  Command.withDescription(
    "Store a credential, typed in or from standard input: the value, or a bundle's parts as a JSON object"
  )
)

const remove = Command.make(
  "remove",
  { key, scope },
  ({ key, scope }) =>
    withStore(Effect.fnUntraced(function*({ credentials, json, principal }) {
      const removed = yield* credentials.remove(principal, { key, scope: Option.getOrUndefined(scope) })
      yield* Console.log(
        json
          ? JSON.stringify({ removed: toJson(removed) })
          : `Removed ${key} of the ${removed.scope} ${Text.shown(removed.owner)}.`
      )
    }))
).pipe(Command.withDescription("Remove a credential: the one in use, or the one of --scope"))

const encodeVerdict = Schema.encodeSync(CredentialRequirements.Verdict)

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
  ({ key }) =>
    withStore(Effect.fnUntraced(function*({ credentials, json, principal }) {
      const verdict = yield* credentials.test(principal, key)
      const sentence = `${key} ${describeVerdict(verdict)}`
      if (json) yield* Console.log(JSON.stringify(encodeVerdict(verdict)))
      if (verdict._tag !== "Valid" && verdict._tag !== "Unchecked") {
        return yield* new StoreCommands.CommandFailed({ sentence, exitCode: exitCodes.NotValid })
      }
      if (!json) yield* Console.log(`${sentence}.`)
    }))
).pipe(Command.withDescription("Have the provider check a credential; the exit code is 0 if it works"))

/**
 * Lists, sets, removes and checks credentials.
 *
 * @category commands
 * @since 0.1.0
 */
export const credentials = parent.pipe(Command.withSubcommands([list, status, set, remove, test]))
