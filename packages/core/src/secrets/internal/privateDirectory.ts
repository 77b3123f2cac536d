/**
 * A directory that no other user can reach, and files in it that outlive a power cut.
 */
import type * as FileSystem from "effect/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as PrivateFiles from "../PrivateFiles.ts"
import { insecure, type SecretStoreError, storageFailure, unusable } from "./secretErrors.ts"

/** Quotes a path for a shell. */
export const quote = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`

/** Writes a mode as `chmod` takes it. */
export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0")

/** Answers something else if there is no such file. */
export const ifMissing =
  <B>(orElse: B) => <A, R>(self: Effect.Effect<A, PlatformError, R>): Effect.Effect<A | B, PlatformError, R> =>
    Effect.catchIf(self, (error) => error.reason._tag === "NotFound", () => Effect.succeed(orElse))

/**
 * Makes what was linked, renamed or removed in a directory survive a power cut. Windows can't open a directory, and writes such
 * changes to its journal by itself.
 */
export const syncDirectory = (
  fs: FileSystem.FileSystem,
  { isPosix }: PrivateFiles.Identity,
  directory: string
): Effect.Effect<void, PlatformError> =>
  isPosix
    ? Effect.scoped(Effect.flatMap(fs.open(directory, { flag: "r" }), (handle) => handle.sync))
    : Effect.void

/** Returns the error of a file or directory that others can reach, and nothing if it is private. */
export const exposure = (
  identity: PrivateFiles.Identity,
  location: string,
  info: FileSystem.File.Info
): SecretStoreError | undefined => {
  const own = Option.getOrElse(Option.orElse(identity.user, () => info.uid), () => 0)
  const isDirectory = info.type === "Directory"
  const mode = `its mode is ${octal(info.mode)}`
  // The owner alone can change a mode, and one that others were lent keeps the rights of their group.
  const remedy = Option.contains(info.uid, own)
    ? `Run: chmod ${isDirectory ? "700" : "600"} ${quote(location)}`
    : `Have its owner run: chmod o-rwx ${quote(location)}`
  switch (PrivateFiles.verdict(identity, info)) {
    case "Private":
      return undefined
    case "ForeignOwner":
      return insecure(
        location,
        `it belongs to user ${Option.getOrElse(info.uid, () => 0)}, and this process runs as ${own}`,
        `If you trust its content, run: chown ${isDirectory ? "-R " : ""}${own} ${quote(location)}`
      )
    case "OpenToOthers":
      return insecure(location, `${mode}, so other users can reach it`, remedy)
    case "OpenToGroup":
      return insecure(
        location,
        `${mode}, so other users can reach it: its group is ${
          Option.getOrElse(info.gid, () => 0)
        }, in which this process is not`,
        remedy
      )
  }
}

/**
 * Writes a file that must not exist yet, private from its first byte, and returns when it is durable. Its name in the
 * directory is not, yet.
 */
export const writeNewFile = (
  fs: FileSystem.FileSystem,
  { isPosix }: PrivateFiles.Identity,
  location: string,
  content: Uint8Array
): Effect.Effect<FileSystem.File.Info, PlatformError> =>
  Effect.scoped(Effect.gen(function*() {
    const file = yield* fs.open(location, { flag: "wx", mode: 0o600 })
    let info = yield* file.stat
    if (isPosix && (info.mode & 0o777) !== 0o600) {
      // The umask can only take rights away: ours, which a later read needs.
      yield* fs.chmod(location, 0o600)
      info = yield* file.stat
    }
    yield* file.writeAll(content)
    yield* file.sync
    return info
  }))

/** Creates a directory, and those above it, as 0700. One that exists is left as it is. */
const makePrivateDirectory = (
  fs: FileSystem.FileSystem,
  path: Path.Path,
  identity: PrivateFiles.Identity,
  directory: string
): Effect.Effect<void, PlatformError> => {
  const parent = path.dirname(directory)
  const make = fs.makeDirectory(directory, { mode: 0o700 }).pipe(
    // The umask may have taken our own rights away.
    Effect.andThen(identity.isPosix ? fs.chmod(directory, 0o700) : Effect.void),
    Effect.andThen(syncDirectory(fs, identity, parent)),
    Effect.catchIf((error) => error.reason._tag === "AlreadyExists", () => Effect.void)
  )
  return Effect.catchIf(
    make,
    (error) => error.reason._tag === "NotFound" && parent !== directory,
    () => Effect.andThen(makePrivateDirectory(fs, path, identity, parent), make)
  )
}

/** Creates the directory if need be, checks that it is private, ours and writable, and returns who this process is to it. */
export const openDirectory = Effect.fnUntraced(function*(
  fs: FileSystem.FileSystem,
  path: Path.Path,
  directory: string,
  probe: string
): Effect.fn.Return<PrivateFiles.Identity, SecretStoreError> {
  const known = yield* PrivateFiles.CurrentIdentity
  yield* Effect.mapError(makePrivateDirectory(fs, path, known, directory), (cause) =>
    unusable(
      directory,
      "the directory cannot be created",
      "Create it for the user that this process runs as, with mode 0700, or choose another directory.",
      cause
    ))
  const info = yield* Effect.mapError(fs.lstat(directory), storageFailure("layerFileSystem"))
  if (info.type === "SymbolicLink") {
    return yield* insecure(directory, "it is a symbolic link", "Use the path of the directory that it points to")
  }
  if (info.type !== "Directory") {
    return yield* unusable(
      directory,
      "it is not a directory",
      `Move it away with: mv ${quote(directory)} ${quote(`${directory}.moved`)} or choose another directory.`
    )
  }
  const exposed = exposure(known, directory, info)
  if (exposed !== undefined) return yield* exposed
  const owner = Option.getOrElse(info.uid, () => 0)

  // A runtime that doesn't say who it is writes files that do.
  const second = `${probe.slice(0, -1)}${probe.endsWith("0") ? "1" : "0"}`
  const notWritable = (cause: PlatformError) =>
    unusable(
      directory,
      `this process cannot write to it (it belongs to user ${owner} and has mode ${octal(info.mode)})`,
      "Give it to the user that this process runs as with chown, and run: chmod 700 " + quote(directory),
      cause
    )
  const own = yield* writeNewFile(fs, known, probe, new Uint8Array(0)).pipe(
    Effect.mapError(notWritable),
    Effect.tap(() =>
      fs.link(probe, second).pipe(
        // Another start may have taken the probe for a dead one and removed it.
        ifMissing(undefined),
        Effect.mapError((cause) =>
          unusable(
            directory,
            "its file system has no hard links",
            "Choose a directory on a local POSIX file system.",
            cause
          )
        )
      )
    ),
    Effect.ensuring(Effect.ignore(fs.remove(probe, { force: true }))),
    Effect.ensuring(Effect.ignore(fs.remove(second, { force: true }))),
    Effect.uninterruptible
  )
  if (known.isPosix && (own.mode & 0o077) !== 0) {
    return yield* insecure(
      directory,
      "its file system does not keep the mode of a file",
      "Choose a directory on a local POSIX file system."
    )
  }
  const identity = { ...known, user: Option.orElse(known.user, () => own.uid) }
  const foreign = exposure(identity, directory, info)
  return foreign === undefined ? identity : yield* foreign
})
