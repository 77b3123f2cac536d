/**
 * Implements `sallyport secrets`: lists the secrets of a backend without their values, checks that each can be read, and
 * replaces the key that signs sessions.
 */
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { CommandFailed } from "./ExitCode.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const parent = Command.make("secrets").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("List and check the secrets of the backend, and replace the signing key")
)

type Secret = typeof Output.Secrets.Type["secrets"][number]

const table = Terminal.table<Secret>([
  { name: "SECRET", of: ({ name }) => name },
  { name: "VERSIONS", of: ({ versions }) => String(versions), whole: true },
  {
    name: "STATE",
    of: ({ problem }) => problem ?? "readable",
    paint: ({ problem }, { bad, good }) => problem === null ? good : bad
  }
])

/**
 * Reads every secret of a store, and says of each whether it can be read; the values are not kept.
 *
 * @category operations
 * @since 0.1.0
 */
export const inspect = Effect.gen(function*() {
  const store = yield* SecretStore.SecretStore
  return yield* Effect.forEach(
    yield* store.list,
    (name) =>
      Effect.match(Effect.andThen(store.get(name), store.history(name)), {
        onSuccess: (versions) => ({ name, versions: versions.length, problem: null }),
        onFailure: ({ message }) => ({ name, versions: 0, problem: message })
      })
  )
})

/** Returns the flags. No server tells of its secrets, or lets a token replace what signs tokens. */
const onStore = Effect.fnUntraced(function*(name: string) {
  const flags = yield* parent
  if (Option.isNone(flags.url)) return flags
  return yield* StoreCommands.onlyOnStore(
    `"secrets ${name}"`,
    "no server gives its secrets to the holder of a token. Run it with --state-dir or --database-url"
  )
})

const inspecting = Effect.fnUntraced(function*(name: string) {
  return yield* Effect.provide(inspect, StoreCommands.layerStore(yield* onStore(name), false))
})

const print = (secrets: ReadonlyArray<Secret>) =>
  Effect.flatMap(parent, ({ json }) =>
    Terminal.print(
      json,
      Output.Secrets,
      { secrets },
      (screen) => secrets.length === 0 ? "There is no secret" : table(secrets, screen)
    ))

const list = Command.make("list", {}, () => Effect.flatMap(inspecting("list"), print)).pipe(
  Command.withDescription("List the secrets by their names, without values")
)

const verify = Command.make(
  "verify",
  {},
  Effect.fnUntraced(function*() {
    const secrets = yield* inspecting("verify")
    yield* print(secrets)
    const broken = secrets.filter(({ problem }) => problem !== null)
    if (broken.length === 0) return
    return yield* new CommandFailed({
      code: "Unhealthy",
      message: broken.map(({ problem }) => problem).join("\n")
    })
  })
).pipe(Command.withDescription("Check that every secret can be read; the exit code is 0 if so"))

const rotate = Command.make(
  "rotate",
  {},
  Effect.fnUntraced(function*() {
    const flags = yield* onStore("rotate")
    const keyId = yield* Effect.provide(
      Effect.flatMap(SessionCredentialService.SessionCredentialService, (sessions) => sessions.rotateSigningKey),
      StoreCommands.layer(flags)
    )
    yield* Terminal.print(
      flags.json,
      Output.RotatedSigningKey,
      { keyId },
      () => `The key ${keyId} signs sessions from now on. Tokens of older keys stay good until they end`
    )
  })
).pipe(Command.withDescription("Let a new key sign sessions from now on; no one is signed out"))

/**
 * Lists, checks and rotates secrets.
 *
 * @category commands
 * @since 0.1.0
 */
export const secrets = parent.pipe(Command.withSubcommands([list, verify, rotate]))
