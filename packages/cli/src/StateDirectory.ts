/**
 * Opens the directory in which the reference backend keeps its state: the database and the secrets.
 */
import * as PrivateFiles from "@sallyport/core/secrets/PrivateFiles"
import * as Config from "effect/Config"
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

/** The variable in which systemd hands over the directories that `StateDirectory=` of a unit names. */
const systemdVariable = Config.option(Config.NonEmptyString("STATE_DIRECTORY"))

/** Returns the directory that systemd has made for this service. */
const ofSystemd = Effect.map(systemdVariable, Option.map((directories) => directories.split(":", 1).join()))

/**
 * Returns the given directory, or that of systemd, or the platform's directory for the state of programs.
 *
 * @category operations
 * @since 0.1.0
 */
export const orDefault = Effect.fnUntraced(function*(directory: Option.Option<string>) {
  if (Option.isSome(directory)) return directory.value
  const service = yield* ofSystemd
  if (Option.isSome(service)) return service.value
  const directories = yield* UserDirectories.UserDirectories
  return yield* Effect.mapError(
    directories.state("sallyport"),
    ({ reason }) =>
      new StateDirectoryError({
        directory: "of this user",
        problem: `is not known: ${reason.description ?? reason.message}`,
        remedy: "Name one with --state-dir, or with the variable STATE_DIRECTORY."
      })
  )
}, Effect.provide(UserDirectories.layer))

/**
 * Lists the paths in a directory, whether there is one or not.
 *
 * @category constructors
 * @since 0.1.0
 */
export const at = Effect.fnUntraced(function*(directory: string): Effect.fn.Return<StateDirectory, never, Path.Path> {
  const path = yield* Path.Path
  const resolved = path.resolve(directory)
  return {
    directory: resolved,
    database: path.join(resolved, "sallyport.db"),
    secrets: path.join(resolved, "secrets"),
    secretKey: path.join(resolved, "secret-key")
  }
})

const elsewhere = "Choose another one with --state-dir."

/** Refuses what the file system refused, with its own words. */
const refuse = (directory: string, problem: string, remedy = elsewhere) => ({ reason }: PlatformError.PlatformError) =>
  new StateDirectoryError({
    directory,
    problem: `${problem} (${reason.cause instanceof Error ? reason.cause.message : reason._tag})`,
    remedy
  })

const ownerOf = (info: FileSystem.File.Info): string =>
  Option.match(info.uid, { onNone: () => "another", onSome: String })

/** Returns the user who this process is, as far as the runtime says. */
const ownId = ({ user }: PrivateFiles.Identity): string =>
  Option.match(user, { onNone: () => "$(id -u)", onSome: String })

/**
 * Checks a directory that is there: it must be a directory, owned by this user, writable, closed to all other users, and
 * without symbolic links in the places of its files. A group of this process may have access (see `PrivateFiles`).
 */
const check = Effect.fnUntraced(function*(state: StateDirectory) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const identity = yield* PrivateFiles.CurrentIdentity
  const { directory } = state
  const fail = (problem: string, remedy: string) => new StateDirectoryError({ directory, problem, remedy })
  const quoted = JSON.stringify(directory)

  const info = yield* Effect.mapError(fs.stat(directory), refuse(directory, "cannot be inspected"))
  if (info.type !== "Directory") return yield* fail("is not a directory", elsewhere)
  const mode = (info.mode & 0o777).toString(8).padStart(4, "0")
  // Nothing is written to find these out: the directory may be another user's, and several processes may start at once.
  switch (PrivateFiles.verdict(identity, info)) {
    case "Private":
      break
    case "ForeignOwner":
      return yield* fail(
        `belongs to another user, ${ownerOf(info)}, and this process runs as ${ownId(identity)}`,
        `Run this as its owner, or run: chown ${ownId(identity)} ${quoted}, or use another one.`
      )
    case "OpenToOthers":
      return yield* fail(
        `is open to other users (mode ${mode})`,
        Option.isSome(identity.user) && !Option.contains(info.uid, identity.user.value)
          ? `Have its owner, ${ownerOf(info)}, run: chmod o-rwx ${quoted}`
          : `Run: chmod 700 ${quoted}`
      )
    case "OpenToGroup":
      return yield* fail(
        `is open to other users (mode ${mode}, and this process is not in its group)`,
        `Run: chmod 700 ${quoted}`
      )
  }
  yield* Effect.mapError(
    fs.access(directory, { readable: true, writable: true }),
    (error) =>
      error.reason._tag === "PermissionDenied"
        ? fail("is not writable", `Run: chmod u+rwx ${quoted}, or use another one.`)
        : refuse(directory, "is not writable")(error)
  )
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

/**
 * Creates the directory, private to this user, or checks an existing one: it must be a directory, owned by this user,
 * writable, closed to all other users, and without symbolic links in the places of its files. A group of this process may
 * have access.
 *
 * @category operations
 * @since 0.1.0
 */
export const open = Effect.fn("StateDirectory.open")(function*(directory: string): Effect.fn.Return<
  StateDirectory,
  StateDirectoryError | Config.ConfigError,
  FileSystem.FileSystem | Path.Path
> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const identity = yield* PrivateFiles.CurrentIdentity
  const state = yield* at(directory)

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

  /** Says whose directory it is that takes no directory of ours. */
  const remedyAbove = (target: string): Effect.Effect<string> => {
    const parent = path.dirname(target)
    return fs.stat(parent).pipe(
      Effect.map((info) =>
        Option.exists(info.uid, (uid) => Option.exists(identity.user, (user) => uid !== user))
          ? `${parent} belongs to user ${ownerOf(info)}, and this process runs as ${ownId(identity)}. ` +
            `Run: chown ${ownId(identity)} ${JSON.stringify(parent)}, or choose another one with --state-dir.`
          : elsewhere
      ),
      Effect.catchIf(
        ({ reason }) => reason._tag === "NotFound" && parent !== target,
        () => remedyAbove(parent)
      ),
      Effect.orElseSucceed(() => elsewhere)
    )
  }

  yield* make(state.directory).pipe(
    Effect.catchTag("PlatformError", (error) =>
      Effect.flatMap(
        error.reason._tag === "PermissionDenied" ? remedyAbove(state.directory) : Effect.succeed(elsewhere),
        (remedy) => Effect.fail(refuse(state.directory, "cannot be made", remedy)(error))
      ))
  )
  // systemd makes it 0755 unless the unit says otherwise, and it is this service's own.
  const service = yield* ofSystemd
  if (Option.isSome(service) && path.resolve(service.value) === state.directory) {
    const info = yield* Effect.mapError(fs.stat(state.directory), refuse(state.directory, "cannot be inspected"))
    if (PrivateFiles.verdict(identity, info) === "OpenToOthers") yield* Effect.ignore(fs.chmod(state.directory, 0o700))
  }
  return yield* check(state)
})

/**
 * Checks a directory as {@link open} does, and creates nothing: none if there is no such directory.
 *
 * @category operations
 * @since 0.1.0
 */
export const find = Effect.fn("StateDirectory.find")(function*(directory: string): Effect.fn.Return<
  Option.Option<StateDirectory>,
  StateDirectoryError,
  FileSystem.FileSystem | Path.Path
> {
  const fs = yield* FileSystem.FileSystem
  const state = yield* at(directory)
  const isThere = yield* Effect.mapError(fs.exists(state.directory), refuse(state.directory, "cannot be inspected"))
  return isThere ? Option.some(yield* check(state)) : Option.none()
})
