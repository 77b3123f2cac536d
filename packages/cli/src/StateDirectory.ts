/**
 * The directory in which the reference backend keeps everything: the database and the secrets.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as UserDirectories from "effect/persistence/UserDirectories"
import type * as PlatformError from "effect/PlatformError"
import * as Schema from "effect/Schema"

/**
 * Reports a state directory that cannot be used. It names the directory and what to do about it.
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
 * Lists where things are in a state directory.
 *
 * @category models
 * @since 0.1.0
 */
export interface StateDirectory {
  readonly directory: string
  readonly database: string
  readonly secrets: string
  /** The key of the secrets that are kept elsewhere, in a database that nodes share. */
  readonly secretKey: string
}

/**
 * Returns the directory that was named, or the platform's own for the state of programs.
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
 * Makes the directory, private to this user, or checks the one that is there: it has to be a directory, this user's own,
 * writable, and closed to everybody else.
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

  // Not Node's recursive mkdir, which never returns where the system answers ENOENT below a directory that is there.
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
  const info = yield* Effect.mapError(fs.stat(resolved), refuse("cannot be looked at"))
  if (info.type !== "Directory") return yield* fail("is not a directory", elsewhere)
  if ((info.mode & 0o077) !== 0) {
    const mode = (info.mode & 0o777).toString(8).padStart(4, "0")
    return yield* fail(`is open to other users (mode ${mode})`, `Run: chmod 700 ${JSON.stringify(resolved)}`)
  }
  // A file made here shows at once whether the directory is writable and whose files this process makes.
  const probe = path.join(resolved, ".probe")
  yield* fs.writeFile(probe, new Uint8Array(), { mode: 0o600 }).pipe(
    Effect.mapError(() => fail("is not writable", `Run: chmod u+rwx ${JSON.stringify(resolved)}, or use another one.`))
  )
  const own = yield* fs.stat(probe).pipe(
    Effect.ensuring(Effect.ignore(fs.remove(probe))),
    Effect.mapError(refuse("cannot be looked into"))
  )
  if (Option.getOrUndefined(own.uid) !== Option.getOrUndefined(info.uid)) {
    return yield* fail(
      "belongs to another user",
      `Run: chown ${Option.getOrElse(own.uid, () => "$USER")} ${JSON.stringify(resolved)}, or use another one.`
    )
  }
  return {
    directory: resolved,
    database: path.join(resolved, "sallyport.db"),
    secrets: path.join(resolved, "secrets"),
    secretKey: path.join(resolved, "secret-key")
  }
})
