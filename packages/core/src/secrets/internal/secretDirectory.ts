/**
 * Secrets in the files of a directory of a local POSIX file system, which several processes may share.
 *
 * Every version of a secret is a file of its own, `<name>~<version>`. A change writes a temporary file, makes it durable,
 * and links it to the next version's name. A link fails when its target exists, so of several writers exactly one gets the
 * version: the link is the compare-and-set, and no lock can be left behind. `docs/decisions/0002-versioned-secret-files.md`
 * has the argument.
 */
import * as ByteSize from "effect/ByteSize"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import { exposure, ifMissing, openDirectory, quote, syncDirectory, writeNewFile } from "./privateDirectory.ts"
import { Corrupt, insecure, SecretStoreError, storageFailure } from "./secretErrors.ts"
import * as SecretFile from "./secretFile.ts"
import { SecretName } from "./secretName.ts"
import type { Primitives, SecretVersion } from "./secretPrimitives.ts"

const corrupt = (location: string, problem: string): SecretStoreError =>
  new SecretStoreError({
    reason: new Corrupt({
      location,
      problem,
      remedy:
        `Restore the file from a backup, or delete it with: rm ${
          quote(location)
        } (the version before it is then the current one, ` +
        `and where there is none the secret is missing)`
    })
  })

/**
 * Opens a directory, of whose versions of a value it keeps `keep`. It checks what it finds: it fails when the directory or
 * a file is readable by others, has another owner, is a link, or is corrupt.
 */
export const open = Effect.fnUntraced(function*(
  directory: string,
  keep: number
): Effect.fn.Return<
  Primitives,
  SecretStoreError,
  FileSystem.FileSystem | Path.Path | SecureRandom.SecureRandom | Digest.Digest
> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest

  // Absolute, so that a later change of the working directory moves nothing, and errors name the whole path.
  const root = path.resolve(directory)
  const pathOf = (entry: string): string => path.join(root, entry)
  const randomHex = Effect.map(random.randomBytes(16), Hex.encode)
  const identity = yield* openDirectory(fs, path, root, pathOf(SecretFile.probeEntry(yield* randomHex)))
  const syncRoot = syncDirectory(fs, identity, root)

  /** All versions in the directory, newest first, and the temporary files. */
  const scan = Effect.map(fs.readDirectory(root), (entries) => {
    const versions = new Map<string, Array<number>>()
    const temporary: Array<{ readonly entry: string; readonly name: string; readonly version: number }> = []
    for (const entry of entries) {
      const parsed = SecretFile.parseEntry(entry)
      if (parsed?._tag === "Version") {
        const found = versions.get(parsed.name)
        if (found === undefined) versions.set(parsed.name, [parsed.version])
        else found.push(parsed.version)
      } else if (parsed?._tag === "Temporary") temporary.push({ entry, name: parsed.name, version: parsed.version })
    }
    for (const found of versions.values()) found.sort((a, b) => b - a)
    return { versions, temporary }
  })

  const versionsOf = (name: SecretName) => Effect.map(scan, ({ versions }) => versions.get(name) ?? [])
  const latestOf = (name: SecretName) => Effect.map(versionsOf(name), ([latest = 0]) => latest)

  const checkFile = (location: string, info: FileSystem.File.Info): Effect.Effect<void, SecretStoreError> => {
    if (info.type !== "File") {
      const kind = info.type === "SymbolicLink" ? "a symbolic link" : "not a regular file"
      return Effect.fail(insecure(location, `it is ${kind}`, `Remove it with: rm -r ${quote(location)}`))
    }
    const exposed = exposure(identity, location, info)
    return exposed === undefined ? Effect.void : Effect.fail(exposed)
  }

  /** Reads one version; undefined when the file has gone, which means that there is a newer version. */
  const readVersion = Effect.fnUntraced(function*(method: string, name: SecretName, version: number) {
    const entry = SecretFile.versionEntry(name, version)
    const location = pathOf(entry)
    const fail = storageFailure(method, name)
    const info = yield* fs.lstat(location).pipe(ifMissing(undefined), Effect.mapError(fail))
    if (info === undefined) return undefined
    yield* checkFile(location, info)
    const file = yield* fs.readFile(location).pipe(ifMissing(undefined), Effect.mapError(fail))
    if (file === undefined) return undefined
    const decoded = yield* SecretFile.decode(digest, entry, file)
    if (decoded._tag === "Corrupt") return yield* Effect.fail(corrupt(location, decoded.problem))
    return decoded
  })

  const read = Effect.fnUntraced(function*(method: string, name: SecretName) {
    while (true) {
      const version = yield* Effect.mapError(latestOf(name), storageFailure(method, name))
      if (version === 0) return { version, value: Option.none() }
      const found = yield* readVersion(method, name, version)
      if (found === undefined) continue
      return {
        version,
        value: found._tag === "Removed" ? Option.none() : Option.some(Redacted.make(found.value, { label: name }))
      }
    }
  })

  /**
   * Removes the versions up to and including `last`.
   *
   * A version's name becomes free here, and a slow writer that saw an old state may be about to link to it. So the
   * temporary files that aim at a freed name go first: the slow writer's link then finds no source and fails. Its temporary
   * file is in this scan, because it was written before the version that it aimed at appeared, and all versions up to
   * `last` had appeared before this was called.
   */
  const removeVersions = Effect.fnUntraced(function*(name: SecretName, last: number) {
    const { temporary, versions } = yield* scan
    const stale = (versions.get(name) ?? []).filter((version) => version <= last)
    if (stale.length === 0) return
    for (const file of temporary) {
      if (file.name === name && file.version <= last) yield* fs.remove(pathOf(file.entry), { force: true })
    }
    for (const version of stale) yield* fs.remove(pathOf(SecretFile.versionEntry(name, version)), { force: true })
  })

  /**
   * Writes `version`, the one after the latest, and returns whether this caller got it. False: another writer got it, or a
   * start of another process cleaned the temporary file away; the caller looks again.
   */
  const writeVersion = Effect.fnUntraced(function*(
    name: SecretName,
    version: number,
    next: Option.Option<Redacted.Redacted<Uint8Array>>
  ) {
    const entry = SecretFile.versionEntry(name, version)
    const content = yield* SecretFile.encode(
      digest,
      entry,
      Option.getOrUndefined(Option.map(next, (value) => Redacted.value(value)))
    )
    const temporary = pathOf(SecretFile.temporaryEntry(name, version, yield* randomHex))
    return yield* Effect.gen(function*() {
      yield* writeNewFile(fs, identity, temporary, content)
      // Seen again after the temporary file exists: `removeVersions` relies on this order.
      if ((yield* latestOf(name)) !== version - 1) return false
      const linked = yield* fs.link(temporary, pathOf(entry)).pipe(
        Effect.as(true),
        Effect.catchIf((error) => error.reason._tag === "AlreadyExists", () => Effect.succeed(false)),
        Effect.catchIf(
          (error) => error.reason._tag === "NotFound",
          (error) =>
            Effect.flatMap(fs.exists(temporary), (exists) => exists ? Effect.fail(error) : Effect.succeed(false))
        )
      )
      // Also when the race is lost: what the winner wrote is read next, and must be durable before any process builds on it.
      yield* syncRoot
      return linked
    }).pipe(
      // What cannot be removed here is removed by the next start.
      Effect.ensuring(Effect.ignore(fs.remove(temporary, { force: true }))),
      Effect.uninterruptible
    )
  })

  // One writer of this process at a time: the others would only write temporary files in vain. Other processes are kept out
  // by the link.
  const writers = yield* Semaphore.make(1)

  const write = Effect.fnUntraced(function*(
    method: string,
    name: SecretName,
    next: Option.Option<Redacted.Redacted<Uint8Array>>,
    expected?: number
  ) {
    const fail = storageFailure(method, name)
    while (true) {
      const latest = yield* Effect.mapError(latestOf(name), fail)
      if (expected !== undefined && latest !== expected) return false
      if (latest >= SecretFile.maxVersion) {
        return yield* Effect.fail(corrupt(pathOf(SecretFile.versionEntry(name, latest)), "no version can follow it"))
      }
      if (!(yield* Effect.mapError(writeVersion(name, latest + 1, next), fail))) continue
      yield* Option.isNone(next)
        // A removal is done when the old bytes are gone.
        ? Effect.mapError(Effect.andThen(removeVersions(name, latest), syncRoot), fail)
        // The value is stored. An old version that cannot be removed now goes with the next write or start.
        : Effect.ignore(removeVersions(name, latest + 1 - keep), { log: "Warn" })
      return true
    }
  }, writers.withPermit)

  const remove = Effect.fnUntraced(function*(name: SecretName) {
    const fail = storageFailure("remove", name)
    const latest = yield* Effect.mapError(latestOf(name), fail)
    if (latest === 0) return
    // A value that cannot be read can still be removed.
    const found = yield* Effect.catchReason(
      readVersion("remove", name, latest),
      "SecretStoreError",
      "Corrupt",
      () => Effect.undefined
    )
    if (found?._tag === "Removed") {
      // An earlier removal may have been cut short before it reached the old versions.
      yield* Effect.mapError(Effect.andThen(removeVersions(name, latest - 1), syncRoot), fail)
    } else yield* write("remove", name, Option.none())
  })

  const hasValue = Effect.fnUntraced(function*(name: SecretName, version: number) {
    // The size alone tells a value from a mark of removal, so that listing reads no secret.
    const info = yield* fs.lstat(pathOf(SecretFile.versionEntry(name, version))).pipe(
      ifMissing(undefined),
      Effect.mapError(storageFailure("list", name))
    )
    return info === undefined
      ? Option.isSome((yield* read("list", name)).value)
      : ByteSize.toBigInt(info.size) !== BigInt(SecretFile.removedSize)
  })

  const list = Effect.gen(function*() {
    const { versions } = yield* Effect.mapError(scan, storageFailure("list"))
    const names: Array<SecretName> = []
    for (const [entryName, [latest = 0]] of versions) {
      const name = SecretName.make(entryName)
      if (yield* hasValue(name, latest)) names.push(name)
    }
    return names
  })

  const history = Effect.fnUntraced(function*(name: SecretName) {
    while (true) {
      const versions = yield* Effect.mapError(versionsOf(name), storageFailure("history", name))
      const kept: Array<SecretVersion> = []
      let outdated = false
      for (const version of versions.slice(0, keep)) {
        const found = yield* readVersion("history", name, version)
        outdated = found === undefined
        if (found?._tag !== "Value") break
        kept.push({ version, value: Redacted.make(found.value, { label: name }) })
      }
      if (!outdated) return kept
    }
  })

  // The start: what dead writers left goes, everything else is checked.
  yield* Effect.gen(function*() {
    const entries = yield* fs.readDirectory(root)
    for (const entry of entries) {
      const parsed = SecretFile.parseEntry(entry)
      if (parsed === undefined) {
        // Files of desktops and file systems (.DS_Store, .nfs…) are no secrets.
        if (entry.startsWith(".")) continue
        return yield* new SecretStoreError({
          reason: new Corrupt({
            location: pathOf(entry),
            problem: "it was not written by this store",
            remedy: `Move it out of the directory ${root}`
          })
        })
      }
      if (parsed._tag !== "Version") {
        // A live writer that loses its temporary file to this writes it again (see `writeVersion`).
        yield* fs.remove(pathOf(entry), { force: true })
      }
    }
    const { versions } = yield* scan
    for (const [entryName, found] of versions) {
      const name = SecretName.make(entryName)
      const latest = found[0] ?? 0
      for (const version of found) {
        const content = yield* readVersion("layerFileSystem", name, version)
        if (version !== latest || content === undefined) continue
        yield* removeVersions(name, content._tag === "Removed" ? latest - 1 : latest - keep)
      }
    }
    yield* syncRoot
  }).pipe(Effect.catchTag("PlatformError", (cause) => Effect.fail(storageFailure("layerFileSystem")(cause))))

  return {
    read: (name) => read("get", name),
    write: (name, next) => Option.isNone(next) ? remove(name) : Effect.asVoid(write("set", name, next)),
    compareAndSet: (name, expected, next) => write("modify", name, Option.some(next), expected),
    list,
    history
  }
})
