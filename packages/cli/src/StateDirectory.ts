/**
 * Opens the directory in which the reference backend keeps its state: the database and the secrets.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as UserDirectories from "effect/persistence/UserDirectories"
import type * as PlatformError from "effect/PlatformError"
import * as Schema from "effect/Schema"

/**
 * Reports a state directory that cannot be used, with the remedy.
 *
 * @category errors
 * @since 0.1.0
 */
export class StateDirectoryError extends Schema.TaggedError<StateDirectoryError>()("StateDirectoryError", {
  directory: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message() {
    return `The state directory ${this.directory} ${this.problem}. ${this.remedy}`
  }
}

/**
 * Lists the paths in a state directory.
 *
 * @category models
 * @since 0.1.0
 */
export interface StateDirectory {
  readonly directory: string
  readonly database: string
  readonly secrets: string
  /** The key of the secrets in a database that nodes share. */
  readonly secretKey: string
}

/**
 * Returns the given directory, or the platform's directory for the state of programs.
 *
 * @category operations
 * @since 0.1.0
 */
export const orDefault = Effect.fnUntraced(function*(directory: Option.Option<string>) {
  if (Option.isSome(directory)) return directory.value
  const directories = yield* UserDirectories.UserDirectories
  return yield* directories.state("sallyport")
}, Effect.provide(UserDirectories.layer))

/**
 * Creates the directory, private to this user, or checks an existing one: it must be a directory, owned by this user,
 * writable, closed to all other users, and without symbolic links in the places of its files.
 *
 * @category operations
 * @since 0.1.0
 */
export const open = Effect.fn("StateDirectory.open")(function*(directory: string): Effect.fn.Return<
  StateDirectory,
  StateDirectoryError,
  FileSystem.FileSystem | Path.Path
> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const resolved = path.resolve(directory)
  const fail = (problem: string, remedy: string) => new StateDirectoryError({ directory: resolved, problem, remedy })
  const elsewhere = "Choose another one with --state-dir."

  const refuse = (problem: string) => ({ reason }: PlatformError.PlatformError) =>
    fail(`${problem} (${reason.cause instanceof Error ? reason.cause.message : reason._tag})`, elsewhere)

  // Not Node's recursive mkdir, which never returns if the system answers ENOENT below an existing directory.
  const make = (target: string): Effect.Effect<void, PlatformError.PlatformError> => {
    const once = Effect.catchReason(
      fs.makeDirectory(target, { mode: 0o700 }),
      "PlatformError",
      "AlreadyExists",
      () => Effect.void
    )
    const parent = path.dirname(target)
    return parent === target
      ? once
      : Effect.catchReason(once, "PlatformError", "NotFound", () => Effect.andThen(make(parent), once))
  }

  yield* Effect.mapError(make(resolved), refuse("cannot be made"))
  const info = yield* Effect.mapError(fs.stat(resolved), refuse("cannot be inspected"))
  if (info.type !== "Directory") return yield* fail("is not a directory", elsewhere)
  if ((info.mode & 0o077) !== 0) {
    const mode = (info.mode & 0o777).toString(8).padStart(4, "0")
    return yield* fail(`is open to other users (mode ${mode})`, `Run: chmod 700 ${JSON.stringify(resolved)}`)
  }
  // Nothing is written to find these out: the directory may be another user's, and several processes may start at once.
  const own = process.geteuid?.()
  if (own !== undefined && Option.getOrElse(info.uid, () => own) !== own) {
    return yield* fail(
      "belongs to another user",
      `Run: chown ${own} ${JSON.stringify(resolved)}, or use another one.`
    )
  }
  yield* Effect.mapError(
    fs.access(resolved, { readable: true, writable: true }),
    () => fail("is not writable", `Run: chmod u+rwx ${JSON.stringify(resolved)}, or use another one.`)
  )
  const state = {
    directory: resolved,
    database: path.join(resolved, "sallyport.db"),
    secrets: path.join(resolved, "secrets"),
    secretKey: path.join(resolved, "secret-key")
  }
  // What stands in the place of a file would be written through, wherever it leads.
  const files = [state.database, `${state.database}-wal`, `${state.database}-shm`, state.secrets, state.secretKey]
  for (const file of files) {
    if (Option.isNone(yield* Effect.option(fs.readLink(file)))) continue
    return yield* fail(
      `holds a symbolic link, ${path.basename(file)}`,
      `Put what it leads to in its place, or run: rm ${JSON.stringify(file)}`
    )
  }
  return state
})
