/**
 * A directory that no other user can reach, and files in it that outlive a power cut.
 */
import type * as FileSystem from "effect/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import { insecure, type SecretStoreError, storageFailure, unusable } from "./secretErrors.ts"

/** Quotes a path for a shell. */
export const quote = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`

/** Writes a mode as `chmod` takes it. */
export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0")

/** Answers something else if there is no such file. */
export const ifMissing =
  <B>(orElse: B) => <A, R>(self: Effect.Effect<A, PlatformError, R>): Effect.Effect<A | B, PlatformError, R> =>
    Effect.catchIf(self, (error) => error.reason._tag === "NotFound", () => Effect.succeed(orElse))

/** Makes what was linked, renamed or removed in a directory survive a power cut. */
export const syncDirectory = (fs: FileSystem.FileSystem, directory: string): Effect.Effect<void, PlatformError> =>
  Effect.scoped(Effect.flatMap(fs.open(directory, { flag: "r" }), (handle) => handle.sync))

/** Writes a file that must not exist yet, private from its first byte, and returns when it is durable. Its name in the directory is not, yet. */
export const writeNewFile = (
  fs: FileSystem.FileSystem,
  location: string,
  content: Uint8Array
): Effect.Effect<FileSystem.File.Info, PlatformError> =>
  Effect.scoped(Effect.gen(function*() {
    const file = yield* fs.open(location, { flag: "wx", mode: 0o600 })
    let info = yield* file.stat
    if ((info.mode & 0o777) !== 0o600) {
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
  directory: string
): Effect.Effect<void, PlatformError> => {
  const parent = path.dirname(directory)
  const make = fs.makeDirectory(directory, { mode: 0o700 }).pipe(
    // The umask may have taken our own rights away.
    Effect.andThen(fs.chmod(directory, 0o700)),
    Effect.andThen(syncDirectory(fs, parent)),
    Effect.catchIf((error) => error.reason._tag === "AlreadyExists", () => Effect.void)
  )
  return Effect.catchIf(
    make,
    (error) => error.reason._tag === "NotFound" && parent !== directory,
    () => Effect.andThen(makePrivateDirectory(fs, path, parent), make)
  )
}

/** Creates the directory if need be, checks that it is private, ours and writable, and returns the user id that this process writes with. */
export const openDirectory = Effect.fnUntraced(function*(
  fs: FileSystem.FileSystem,
  path: Path.Path,
  directory: string,
  probe: string
): Effect.fn.Return<number, SecretStoreError> {
  yield* Effect.mapError(makePrivateDirectory(fs, path, directory), (cause) =>
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
  if ((info.mode & 0o077) !== 0) {
    return yield* insecure(
      directory,
      `its mode is ${octal(info.mode)}, so other users can reach it`,
      `Run: chmod 700 ${quote(directory)}`
    )
  }
  const owner = Option.getOrElse(info.uid, () => 0)

  // The runtime has no portable way to ask for its own user id, but a file that it writes has it.
  const second = `${probe.slice(0, -1)}${probe.endsWith("0") ? "1" : "0"}`
  const notWritable = (cause: PlatformError) =>
    unusable(
      directory,
      `this process cannot write to it (it belongs to user ${owner} and has mode ${octal(info.mode)})`,
      "Give it to the user that this process runs as with chown, and run: chmod 700 " + quote(directory),
      cause
    )
  const own = yield* writeNewFile(fs, probe, new Uint8Array(0)).pipe(
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
  if ((own.mode & 0o077) !== 0) {
    return yield* insecure(
      directory,
      "its file system does not keep the mode of a file",
      "Choose a directory on a local POSIX file system."
    )
  }
  const ownUid = Option.getOrElse(own.uid, () => owner)
  if (owner !== ownUid) {
    return yield* insecure(
      directory,
      `it belongs to user ${owner}, and this process runs as ${ownUid}`,
      `If you trust its content, run: chown -R ${ownUid} ${quote(directory)}`
    )
  }
  return ownUid
})
