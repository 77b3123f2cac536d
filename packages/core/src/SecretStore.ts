/**
 * Stores small secrets (signing keys, credentials, tokens) under validated names.
 *
 * `SecretStore` is the service an application uses. An adapter does not implement it directly: it supplies the few atomic
 * operations of `Primitives`, and `make` derives names, retries and random creation from them, so that these are the same in every adapter.
 */
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as SecretFile from "./internal/secretFile.ts"

const ErrorTypeId = "~@sallyport/core/SecretStore/SecretStoreError" as const

// -----------------------------------------------------------------------------
// Models
// -----------------------------------------------------------------------------

/** Names a secret: 1 to 128 characters of `a-z 0-9 . _ -`, the first a letter or a digit. Never a path. */
export const SecretName = Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,127}$/)).pipe(
  Schema.brand("SecretName")
)

/** Names a secret: 1 to 128 characters of `a-z 0-9 . _ -`, the first a letter or a digit. Never a path. */
export type SecretName = typeof SecretName.Type

/** Holds one stored value and the version it was stored as. A later value of the same secret has a higher version. */
export interface SecretVersion {
  readonly version: number
  readonly value: Redacted.Redacted<Uint8Array>
}

/**
 * Describes the present state of a name: its value, or none when it was never set or was removed.
 *
 * `version` is what `Primitives.compareAndSet` compares: two states of a name with the same version hold the same value (or both none), also when
 * the value was removed and created again in between. 0 means that the name was never set.
 */
export interface SecretState {
  readonly version: number
  readonly value: Option.Option<Redacted.Redacted<Uint8Array>>
}

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

// The platform's error says which operation failed, and the system's error below it says why ("ENOSPC: no space left on device").
const describeCause = (cause: unknown): string => {
  if (!(cause instanceof Error)) return "the cause is unknown"
  return cause.cause instanceof Error ? `${cause.message} (${cause.cause.message})` : cause.message
}

/** Reports a name outside the alphabet of `SecretName`, or one that the store keeps for itself (`reservedFor`). Nothing was read or written. */
export class InvalidName extends Schema.TaggedError<InvalidName>()("InvalidName", {
  name: Schema.String,
  reservedFor: Schema.optional(Schema.String)
}) {
  override get message(): string {
    // The name comes from a caller and may be anything, so it is quoted (no line breaks reach a log) and cut.
    const shown = JSON.stringify(this.name.length > 64 ? `${this.name.slice(0, 64)}…` : this.name)
    if (this.reservedFor !== undefined) return `${shown} is reserved for ${this.reservedFor}. Choose another name.`
    return `${shown} is not a secret name. Use 1 to 128 characters of a-z, 0-9, ".", "_" and "-", starting with a letter or a digit.`
  }
}

/** Reports a stored value that is torn, truncated, altered or not written by this store. `location` is the file or row, `remedy` what an operator does. */
export class Corrupt extends Schema.TaggedError<Corrupt>()("Corrupt", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `The secret in ${this.location} is corrupt: ${this.problem}. ${this.remedy}`
  }
}

/** Reports a file or directory that somebody else can read, owns or has replaced by a link. `remedy` holds the exact command that mends it. */
export class Insecure extends Schema.TaggedError<Insecure>()("Insecure", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `${this.location} is not private: ${this.problem}. ${this.remedy}`
  }
}

/** Reports a place where no secret can be stored: not a directory, not writable, or on a file system without hard links. */
export class Unusable extends Schema.TaggedError<Unusable>()("Unusable", {
  location: Schema.String,
  problem: Schema.String,
  remedy: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    const detail = this.cause === undefined ? "" : `: ${describeCause(this.cause)}`
    return `Secrets cannot be stored in ${this.location}: ${this.problem}${detail}. ${this.remedy}`
  }
}

/**
 * Reports that the storage refused an operation. `method` is the operation of `SecretStore`, `name` the secret where there is one.
 *
 * The value read afterwards is the old one or the new one, never a mixture. `cause` says which system call failed.
 */
export class StorageFailure extends Schema.TaggedError<StorageFailure>()("StorageFailure", {
  method: Schema.String,
  name: Schema.optional(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const subject = this.name === undefined ? "the secret store" : `the secret "${this.name}"`
    return `SecretStore.${this.method} failed on ${subject}: ${describeCause(this.cause)}`
  }
}

/** Reports a value that is present but that no configured key decrypts. It is never reported as missing. */
export class Undecryptable extends Schema.TaggedError<Undecryptable>()("Undecryptable", {
  name: Schema.String,
  problem: Schema.String,
  remedy: Schema.String
}) {
  override get message(): string {
    return `The secret "${this.name}" cannot be decrypted: ${this.problem}. ${this.remedy}`
  }
}

/** Lists why an operation of `SecretStore` can fail. */
export const SecretStoreErrorReason = Schema.Union([
  InvalidName,
  Corrupt,
  Insecure,
  Unusable,
  StorageFailure,
  Undecryptable
])

/** Lists why an operation of `SecretStore` can fail. */
export type SecretStoreErrorReason = typeof SecretStoreErrorReason.Type

/** Wraps every failure of `SecretStore`; branch on `reason` with `Effect.catchReason`. Holds names and paths, never a value. */
export class SecretStoreError extends Schema.TaggedError<SecretStoreError>()("SecretStoreError", {
  reason: SecretStoreErrorReason
}) {
  readonly [ErrorTypeId] = ErrorTypeId

  override get message(): string {
    return this.reason.message
  }
}

/** Checks whether a value is a `SecretStoreError`, also one of another copy of this module. */
export const isSecretStoreError = (u: unknown): u is SecretStoreError => Predicate.hasProperty(u, ErrorTypeId)

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Keeps secrets. Every name is checked before any I/O, and a bad one fails with `InvalidName`. */
export class SecretStore extends Context.Service<SecretStore, {
  /** Reads the current value; none when the name was never set or was removed. A value that cannot be read is an error, never none. */
  readonly get: (name: string) => Effect.Effect<Option.Option<Redacted.Redacted<Uint8Array>>, SecretStoreError>
  /**
   * Stores a value whatever was there, and returns when it is durable. A crash leaves the old or the new value.
   * Of concurrent calls each takes effect whole, in some order.
   */
  readonly set: (name: string, value: Redacted.Redacted<Uint8Array>) => Effect.Effect<void, SecretStoreError>
  /** Stores a value if the name has none. Of n concurrent callers exactly one gets `true`; the others get `false` and change nothing. */
  readonly create: (name: string, value: Redacted.Redacted<Uint8Array>) => Effect.Effect<boolean, SecretStoreError>
  /**
   * Reads the value, or creates one of `byteLength` random bytes. All concurrent callers, of this process and others, get the same bytes.
   * An existing value is returned whatever its length. Dies with a `RangeError` unless `byteLength` is a positive safe integer.
   */
  readonly getOrCreateRandom: (
    name: string,
    byteLength: number
  ) => Effect.Effect<Redacted.Redacted<Uint8Array>, SecretStoreError>
  /**
   * Replaces the value by what `f` makes of it, if nothing changed in between; otherwise `f` runs again on the newer value.
   * `f` sees none for a missing name, and leaves the store untouched by returning none. Its own failure changes nothing and is passed on as it is.
   */
  readonly modify: <A, E, R>(
    name: string,
    f: (
      current: Option.Option<Redacted.Redacted<Uint8Array>>
    ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
  ) => Effect.Effect<A, E | SecretStoreError, R>
  /** Removes the value and all its kept versions. A missing name is success. */
  readonly remove: (name: string) => Effect.Effect<void, SecretStoreError>
  /** Lists the names that have a value, sorted. */
  readonly list: Effect.Effect<ReadonlyArray<SecretName>, SecretStoreError>
  /** Reads the kept versions of a value, newest (the current one) first; empty when the name has no value. */
  readonly history: (name: string) => Effect.Effect<ReadonlyArray<SecretVersion>, SecretStoreError>
}>()("@sallyport/core/SecretStore") {}

/** Lists what an adapter supplies. Each operation is one atomic step. */
export interface Primitives {
  /** Reads the present state of a name. */
  readonly read: (name: SecretName) => Effect.Effect<SecretState, SecretStoreError>
  /** Stores `next` (none removes, with all kept versions) whatever was there, also over a value that cannot be read. Returns when durable. */
  readonly write: (
    name: SecretName,
    next: Option.Option<Redacted.Redacted<Uint8Array>>
  ) => Effect.Effect<void, SecretStoreError>
  /**
   * Stores `next` if the state is still the one with the version `expected`, and returns when it is durable.
   * Of n concurrent callers with the same `expected` exactly one gets `true`; the others get `false` and change nothing.
   */
  readonly compareAndSet: (
    name: SecretName,
    expected: number,
    next: Redacted.Redacted<Uint8Array>
  ) => Effect.Effect<boolean, SecretStoreError>
  /** Lists the names that have a value, in any order. */
  readonly list: Effect.Effect<ReadonlyArray<SecretName>, SecretStoreError>
  /** Reads the kept versions of a value, newest first; empty when the name has no value. */
  readonly history: (name: SecretName) => Effect.Effect<ReadonlyArray<SecretVersion>, SecretStoreError>
}

// -----------------------------------------------------------------------------
// Constructors
// -----------------------------------------------------------------------------

const isSecretName = Schema.is(SecretName)

const decodeName = (name: string): Effect.Effect<SecretName, SecretStoreError> =>
  isSecretName(name)
    ? Effect.succeed(name)
    : Effect.fail(new SecretStoreError({ reason: new InvalidName({ name: String(name) }) }))

/** Builds a `SecretStore` from an adapter's atomic operations. */
export const make = (
  primitives: Primitives
): Effect.Effect<SecretStore["Service"], never, SecureRandom.SecureRandom> =>
  Effect.map(SecureRandom.SecureRandom, (random) => {
    const modify = Effect.fnUntraced(function*<A, E, R>(
      name: SecretName,
      f: (
        current: Option.Option<Redacted.Redacted<Uint8Array>>
      ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
    ) {
      while (true) {
        const state = yield* primitives.read(name)
        const [result, next] = yield* f(state.value)
        if (Option.isNone(next) || (yield* primitives.compareAndSet(name, state.version, next.value))) return result
      }
    })

    return SecretStore.of({
      get: Effect.fn("SecretStore.get")(function*(name: string) {
        return (yield* primitives.read(yield* decodeName(name))).value
      }),
      set: Effect.fn("SecretStore.set")(function*(name: string, value: Redacted.Redacted<Uint8Array>) {
        return yield* primitives.write(yield* decodeName(name), Option.some(value))
      }),
      create: Effect.fn("SecretStore.create")(function*(name: string, value: Redacted.Redacted<Uint8Array>) {
        return yield* modify(
          yield* decodeName(name),
          (current) => Effect.succeed(Option.isSome(current) ? [false, Option.none()] : [true, Option.some(value)])
        )
      }),
      getOrCreateRandom: Effect.fn("SecretStore.getOrCreateRandom")(function*(name: string, byteLength: number) {
        if (!Number.isSafeInteger(byteLength) || byteLength <= 0) {
          return yield* Effect.die(new RangeError("byteLength must be a positive safe integer"))
        }
        return yield* modify(
          yield* decodeName(name),
          Option.match({
            onSome: (current) => Effect.succeed([current, Option.none()] as const),
            onNone: () =>
              Effect.map(random.randomBytes(byteLength), (bytes) => {
                const created = Redacted.make(bytes, { label: name })
                return [created, Option.some(created)] as const
              })
          })
        )
      }),
      modify: Effect.fn("SecretStore.modify")(function*<A, E, R>(
        name: string,
        f: (
          current: Option.Option<Redacted.Redacted<Uint8Array>>
        ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
      ) {
        return yield* modify(yield* decodeName(name), f)
      }),
      remove: Effect.fn("SecretStore.remove")(function*(name: string) {
        return yield* primitives.write(yield* decodeName(name), Option.none())
      }),
      list: Effect.map(primitives.list, (names) => names.toSorted()).pipe(Effect.withSpan("SecretStore.list")),
      history: Effect.fn("SecretStore.history")(function*(name: string) {
        return yield* primitives.history(yield* decodeName(name))
      })
    })
  })

/** Configures how many versions of a value an adapter keeps. */
export interface Options {
  /** How many versions of a value are kept, the current one included. A whole number from 1, default 2. */
  readonly keepVersions?: number | undefined
}

const keepVersionsOf = (options: Options | undefined): Effect.Effect<number> => {
  const keep = options?.keepVersions ?? 2
  return Number.isSafeInteger(keep) && keep >= 1
    ? Effect.succeed(keep)
    : Effect.die(new RangeError("keepVersions must be a whole number from 1"))
}

/** Builds a `SecretStore` that lives as long as the process. It copies what it takes and what it gives. */
export const makeMemory = (
  options?: Options
): Effect.Effect<SecretStore["Service"], never, SecureRandom.SecureRandom> =>
  Effect.flatMap(keepVersionsOf(options), (keep) => {
    const secrets = new Map<SecretName, ReadonlyArray<{ readonly version: number; readonly bytes: Uint8Array }>>()
    // One counter for all names: a removed name leaves nothing behind, and yet no version is used twice.
    let lastVersion = 0

    const read = (name: SecretName): SecretState => {
      const current = secrets.get(name)?.[0]
      return current === undefined
        ? { version: 0, value: Option.none() }
        : { version: current.version, value: Option.some(Redacted.make(current.bytes.slice(), { label: name })) }
    }
    const write = (name: SecretName, next: Redacted.Redacted<Uint8Array>): void => {
      const entry = { version: ++lastVersion, bytes: Redacted.value(next).slice() }
      secrets.set(name, [entry, ...(secrets.get(name) ?? [])].slice(0, keep))
    }

    return make({
      read: (name) => Effect.sync(() => read(name)),
      write: (name, next) =>
        Effect.sync(() => {
          if (Option.isSome(next)) write(name, next.value)
          else secrets.delete(name)
        }),
      compareAndSet: (name, expected, next) =>
        Effect.sync(() => {
          if ((secrets.get(name)?.[0]?.version ?? 0) !== expected) return false
          write(name, next)
          return true
        }),
      list: Effect.sync(() => Array.from(secrets.keys())),
      history: (name) =>
        Effect.sync(() =>
          (secrets.get(name) ?? []).map(({ bytes, version }) => ({
            version,
            value: Redacted.make(bytes.slice(), { label: name })
          }))
        )
    })
  })

/** Provides a `SecretStore` that lives as long as the layer. */
export const layerMemory: Layer.Layer<SecretStore, never, SecureRandom.SecureRandom> = Layer.effect(
  SecretStore,
  makeMemory()
)

// -----------------------------------------------------------------------------
// File system
// -----------------------------------------------------------------------------

const quote = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`

const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0")

const insecure = (location: string, problem: string, remedy: string): SecretStoreError =>
  new SecretStoreError({ reason: new Insecure({ location, problem, remedy }) })

const unusable = (location: string, problem: string, remedy: string, cause?: unknown): SecretStoreError =>
  new SecretStoreError({
    reason: new Unusable({ location, problem, remedy, ...(cause === undefined ? {} : { cause }) })
  })

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

const storageFailure = (method: string, name?: SecretName) => (cause: PlatformError): SecretStoreError =>
  new SecretStoreError({ reason: new StorageFailure({ method, cause, ...(name === undefined ? {} : { name }) }) })

const ifMissing =
  <B>(orElse: B) => <A, R>(self: Effect.Effect<A, PlatformError, R>): Effect.Effect<A | B, PlatformError, R> =>
    Effect.catchIf(self, (error) => error.reason._tag === "NotFound", () => Effect.succeed(orElse))

/** Makes what was linked, renamed or removed in a directory survive a power cut. */
const syncDirectory = (fs: FileSystem.FileSystem, directory: string): Effect.Effect<void, PlatformError> =>
  Effect.scoped(Effect.flatMap(fs.open(directory, { flag: "r" }), (handle) => handle.sync))

/** Writes a file that must not exist yet, private from its first byte, and returns when it is durable. Its name in the directory is not yet. */
const writeNewFile = (
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
const openDirectory = Effect.fnUntraced(function*(
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

/**
 * Builds a `SecretStore` on a directory of a local POSIX file system, which several processes may share.
 *
 * Every version of a secret is a file of its own, `<name>~<version>`. A change writes a temporary file, makes it durable, and links it to the next
 * version's name. A link fails when its target exists, so of several writers exactly one gets the version: the link is the compare-and-set, and no
 * lock can be left behind. `docs/decisions/0002-versioned-secret-files.md` has the argument.
 *
 * The start checks what it finds: it fails when the directory or a file is readable by others, has another owner, is a link, or is corrupt.
 */
export const makeFileSystem = Effect.fnUntraced(function*(
  directory: string,
  options?: Options
): Effect.fn.Return<
  SecretStore["Service"],
  SecretStoreError,
  FileSystem.FileSystem | Path.Path | SecureRandom.SecureRandom | Digest.Digest
> {
  const keep = yield* keepVersionsOf(options)
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest

  // Absolute, so that a later change of the working directory moves nothing, and errors name the whole path.
  const root = path.resolve(directory)
  const pathOf = (entry: string): string => path.join(root, entry)
  const randomHex = Effect.map(random.randomBytes(16), Hex.encode)
  const syncRoot = syncDirectory(fs, root)
  const ownUid = yield* openDirectory(fs, path, root, pathOf(SecretFile.probeEntry(yield* randomHex)))

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
    const uid = Option.getOrElse(info.uid, () => ownUid)
    if (uid !== ownUid) {
      return Effect.fail(insecure(
        location,
        `it belongs to user ${uid}, and this process runs as ${ownUid}`,
        `If you trust its content, run: chown ${ownUid} ${quote(location)}`
      ))
    }
    return (info.mode & 0o077) === 0 ? Effect.void : Effect.fail(insecure(
      location,
      `its mode is ${octal(info.mode)}, so other users can reach it`,
      `Run: chmod 600 ${quote(location)}`
    ))
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
   * A version's name becomes free here, and a slow writer that saw an old state may be about to link to it. So the temporary files that aim at a freed
   * name go first: the slow writer's link then finds no source and fails. Its temporary file is in this scan, because it was written before the
   * version that it aimed at appeared, and all versions up to `last` had appeared before this was called.
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
   * Writes `version`, the one after the latest, and returns whether this caller got it. False: another writer got it, or a start of another process
   * cleaned the temporary file away; the caller looks again.
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
      yield* writeNewFile(fs, temporary, content)
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
      // Also when the race is lost: what the winner wrote is read next, and must be durable before anybody builds on it.
      yield* syncRoot
      return linked
    }).pipe(
      // What cannot be removed here is removed by the next start.
      Effect.ensuring(Effect.ignore(fs.remove(temporary, { force: true }))),
      Effect.uninterruptible
    )
  })

  // One writer of this process at a time: the others would only write temporary files in vain. Other processes are kept out by the link.
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
        // Files of desktops and file systems (.DS_Store, .nfs…) are nobody's secret.
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

  return yield* make({
    read: (name) => read("get", name),
    write: (name, next) => Option.isNone(next) ? remove(name) : Effect.asVoid(write("set", name, next)),
    compareAndSet: (name, expected, next) => write("modify", name, Option.some(next), expected),
    list,
    history
  })
})

/**
 * Provides a `SecretStore` on a directory of a local POSIX file system, which is created (0700) when it is missing.
 *
 * Building the layer fails with `Insecure`, `Corrupt` or `Unusable` when the directory or a file in it is not as the store left it; the message names
 * the file and what to do. Several processes may use one directory.
 */
export const layerFileSystem = (
  directory: string,
  options?: Options
): Layer.Layer<
  SecretStore,
  SecretStoreError,
  FileSystem.FileSystem | Path.Path | SecureRandom.SecureRandom | Digest.Digest
> => Layer.effect(SecretStore, makeFileSystem(directory, options))
