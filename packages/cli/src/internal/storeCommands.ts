/**
 * Provides the frame of the commands that work on a backend's own store, whether the backend runs or not: the flags
 * that name the store, the store itself, and the exit code of a failure.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import type * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as ByteSize from "effect/ByteSize"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import * as Persistence from "../Persistence.ts"
import * as StateDirectory from "../StateDirectory.ts"

/** Lists the flags for a PostgreSQL database. */
export const databaseFlags = (description: string) => ({
  databaseUrl: Flag.Redacted("database-url").pipe(
    Flag.withDescription(description),
    Flag.withFallbackConfig(Config.Redacted("SALLYPORT_DATABASE_URL")),
    Flag.optional
  ),
  databasePrepare: Flag.Boolean("database-prepare").pipe(
    Flag.withDescription(
      "Keep statements prepared; --no-database-prepare is for poolers that hand connections out by transaction"
    ),
    Flag.withFallbackConfig(Config.Boolean("SALLYPORT_DATABASE_PREPARE")),
    Flag.optional
  )
})

/** Returns the database that the flags name, if they name one. */
export const databaseOf = (flags: {
  readonly databaseUrl: Option.Option<Redacted.Redacted>
  readonly databasePrepare: Option.Option<boolean>
}): PgDatabase.Options | undefined =>
  Option.getOrUndefined(
    Option.map(flags.databaseUrl, (url) => ({ url, prepare: Option.getOrUndefined(flags.databasePrepare) }))
  )

/** Lists the flags for the store and the form of the answer, for `Command.withSharedFlags`. */
export const flags = {
  stateDir: Flag.String("state-dir").pipe(
    Flag.withDescription("Where the backend keeps its state; by default the platform's directory for state"),
    Flag.optional
  ),
  ...databaseFlags("The PostgreSQL database of the backend, if it keeps its state in one"),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Print JSON instead of text"),
    Flag.withDefault(false)
  )
}

/**
 * Notes that the state is new. It looks like a state without clients or credentials, and the directory may be misspelt.
 */
const noteNewState = Effect.fnUntraced(function*({ database, directory }: StateDirectory.StateDirectory) {
  const fs = yield* FileSystem.FileSystem
  if (yield* fs.exists(database)) return
  yield* Console.error(`sallyport: No backend has kept state in ${directory} yet; --state-dir names another directory`)
})

/** Ends a command with a sentence, and an exit code to branch on. */
export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  sentence: Schema.String,
  exitCode: Schema.Natural
}) {
  override get message() {
    return this.sentence
  }
  override get [Runtime.errorExitCode]() {
    return this.exitCode
  }
}

/** The exit code of a command that found no state to work on. */
export const noStateExitCode = 11

/** Tells whether there is a directory, or a file that is not empty. */
const isKept = Effect.fnUntraced(function*(location: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.option(fs.stat(location))
  return Option.exists(info, ({ size, type }) => type === "Directory" || ByteSize.isGreaterThan(size, ByteSize.zero))
})

/**
 * Finds the state that a backend has kept, and creates nothing: the directory may be misspelt, and an empty state would look
 * like one without clients, sessions or credentials.
 */
const findState = Effect.fnUntraced(function*(directory: string, isShared: boolean) {
  const state = yield* StateDirectory.at(directory)
  if (isShared && Option.isSome(yield* Config.option(Config.Redacted(Persistence.keyVariable)))) return state
  const isThere = Option.isSome(yield* StateDirectory.find(directory))
  const needed = isShared ? [state.secretKey] : [state.database, state.secrets]
  const missing = yield* Effect.filter(needed, (location) => Effect.map(isKept(location), (kept) => !kept))
  if (isThere && missing.length === 0) return state
  const lacks = isThere && missing.length < needed.length ? `; ${missing.join(" and ")} is not there` : ""
  return yield* new CommandFailed({
    sentence: `No backend has kept state in ${state.directory} yet${lacks}. Nothing was created; ` +
      `name the directory with --state-dir, or start the backend with "sallyport serve"`,
    exitCode: noStateExitCode
  })
})

/**
 * Provides the repositories, the secrets and the cryptography of the store that the flags name. A command that `creates`
 * something may come before the first start of the backend.
 */
export const layerStore = ({ stateDir, ...flags }: Parameters<typeof databaseOf>[0] & {
  readonly stateDir: Option.Option<string>
}, creates: boolean) =>
  Effect.gen(function*() {
    const directory = yield* StateDirectory.orDefault(stateDir)
    const isShared = Option.isSome(flags.databaseUrl)
    const state = yield* (creates ? StateDirectory.open(directory) : findState(directory, isShared))
    if (!isShared) yield* noteNewState(state)
    return Persistence.layer({ database: databaseOf(flags), state })
  }).pipe(
    Layer.unwrap,
    Layer.provideMerge(NodeCrypto.layer)
  )

/** Ends a command with the sentence of a service's error, and the exit code of its reason. */
export const failWith =
  <Reason extends string>(exitCodes: Readonly<Record<Reason, number>>) =>
  (error: { readonly message: string; readonly reason: { readonly _tag: Reason } }): CommandFailed =>
    new CommandFailed({ sentence: error.message, exitCode: exitCodes[error.reason._tag] })
