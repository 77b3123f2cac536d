/**
 * Stores small secrets (signing keys, credentials, tokens) under validated names.
 *
 * `SecretStore` is the service an application uses. An adapter does not implement it directly: it supplies the few atomic
 * operations of `Primitives`, and `make` derives names, retries and random creation from them, so that these are the same
 * in every adapter.
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Input from "../Input.ts"
import { checkByteLength, orRandom } from "./internal/randomSecret.ts"
import * as SecretDirectory from "./internal/secretDirectory.ts"
import { InvalidName, SecretStoreError } from "./internal/secretErrors.ts"
import { isSecretName, type SecretName } from "./internal/secretName.ts"
import { directorySettings, InvalidSecretStoreOptions, type Options, settings } from "./internal/secretOptions.ts"
import type { Primitives, SecretState, SecretVersion } from "./internal/secretPrimitives.ts"

export {
  Corrupt,
  Insecure,
  InvalidName,
  SecretStoreError,
  SecretStoreErrorReason,
  StorageFailure,
  Undecryptable,
  Unusable
} from "./internal/secretErrors.ts"
export { SecretName } from "./internal/secretName.ts"
export { InvalidSecretStoreOptions, type Options } from "./internal/secretOptions.ts"
export type { Primitives, SecretState, SecretVersion } from "./internal/secretPrimitives.ts"

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/**
 * Keeps secrets. Every name is checked before any I/O, and a bad one fails with `InvalidName`.
 *
 * **Example** (Keeping a signing key)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { SecretStore } from "@sallyport/core"
 * import { Console, Effect, Layer, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const secrets = yield* SecretStore.SecretStore
 *   const key = yield* secrets.getOrCreateRandom("signing-key", 32)
 *   yield* Console.log(key, Redacted.value(key).length)
 *   // => <redacted:signing-key> 32
 *   yield* Console.log(yield* secrets.list)
 *   // => [ 'signing-key' ]
 * })
 *
 * const Secrets = Layer.provide(SecretStore.layerMemory, NodeCrypto.layer)
 *
 * Effect.runPromise(Effect.provide(program, Secrets))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class SecretStore extends Context.Service<SecretStore, {
  /**
   * Reads the current value; none when the name was never set or was removed. A value that cannot be read is an error,
   * never none.
   */
  readonly get: (name: string) => Effect.Effect<Option.Option<Redacted.Redacted<Uint8Array>>, SecretStoreError>
  /**
   * Stores a value whatever was there, and returns when it is durable. A crash leaves the old or the new value.
   * Of concurrent calls each takes effect whole, in some order.
   */
  readonly set: (name: string, value: Redacted.Redacted<Uint8Array>) => Effect.Effect<void, SecretStoreError>
  /**
   * Stores a value if the name has none. Of n concurrent callers exactly one gets `true`; the others get `false` and change
   * nothing.
   */
  readonly create: (name: string, value: Redacted.Redacted<Uint8Array>) => Effect.Effect<boolean, SecretStoreError>
  /**
   * Reads the value, or creates one of `byteLength` random bytes. All concurrent callers, of this process and others, get
   * the same bytes. An existing value is returned whatever its length. Dies with a `RangeError` unless `byteLength` is a
   * positive safe integer.
   */
  readonly getOrCreateRandom: (
    name: string,
    byteLength: number
  ) => Effect.Effect<Redacted.Redacted<Uint8Array>, SecretStoreError>
  /**
   * Replaces the value by what `f` makes of it, if nothing changed in between; otherwise `f` runs again on the newer value.
   * `f` sees none for a missing name, and leaves the store untouched by returning none. Its own failure changes nothing and
   * is passed on as it is.
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
}>()("@sallyport/core/secrets/SecretStore") {}

// -----------------------------------------------------------------------------
// Constructors
// -----------------------------------------------------------------------------

const decodeName = (name: string): Effect.Effect<SecretName, SecretStoreError> =>
  isSecretName(name)
    ? Effect.succeed(name)
    : Effect.fail(new SecretStoreError({ reason: new InvalidName({ secretName: String(name) }) }))

/**
 * Builds a `SecretStore` from an adapter's atomic operations.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  primitives: Primitives
): Effect.Effect<SecretStore["Service"], never, SecureRandom.SecureRandom> =>
  Effect.map(SecureRandom.SecureRandom, (random) => {
    const callable = Input.required(Input.callable)
    Input.demand(
      "SecretStore.make",
      { read: callable, compareAndSet: callable },
      { read: primitives?.read, compareAndSet: primitives?.compareAndSet }
    )
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
        yield* checkByteLength(byteLength)
        return yield* modify(yield* decodeName(name), orRandom(random, name, byteLength))
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

const buildMemory = (keep: number): Effect.Effect<SecretStore["Service"], never, SecureRandom.SecureRandom> =>
  Effect.suspend(() => {
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

/**
 * Creates a `SecretStore` that lives as long as the process. It copies what it takes and what it gives.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeMemory = (
  options?: Options
): Effect.Effect<SecretStore["Service"], InvalidSecretStoreOptions, SecureRandom.SecureRandom> =>
  Effect.flatMap(settings.fromObject(options ?? {}), buildMemory)

/**
 * Provides a `SecretStore` that lives as long as the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<SecretStore, never, SecureRandom.SecureRandom> = Layer.effect(
  SecretStore,
  Effect.flatMap(settings.defaults, buildMemory)
)

type FileSystemServices = FileSystem.FileSystem | Path.Path | SecureRandom.SecureRandom | Digest.Digest

/**
 * Creates a `SecretStore` on a directory of a local POSIX file system, which several processes may share.
 *
 * Every change is a new file whose link to its name is the compare-and-set, so no lock can be left behind.
 * `docs/decisions/0002-versioned-secret-files.md` has the argument. The start checks what it finds: it fails when the
 * directory or a file is not private (see `PrivateFiles`), is a link, or is corrupt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeFileSystem = (
  directory: string,
  options?: Options
): Effect.Effect<SecretStore["Service"], InvalidSecretStoreOptions | SecretStoreError, FileSystemServices> =>
  Effect.gen(function*() {
    const keep = yield* settings.fromObject(options ?? {})
    if (!Input.text.is(directory)) {
      return yield* new InvalidSecretStoreOptions({
        problem: "directory must be the path of a directory, such as ./secrets"
      })
    }
    return yield* make(yield* SecretDirectory.open(directory, keep))
  })

/**
 * Provides a `SecretStore` on a directory of a local POSIX file system, which is created (0700) when it is missing.
 *
 * Building the layer fails with `Insecure`, `Corrupt` or `Unusable` when the directory or a file in it is not as the store
 * left it; the message names the file and what to do. Several processes may use one directory.
 *
 * **Example** (Keeping secrets in private files)
 *
 * ```ts
 * import { NodeCrypto, NodeServices } from "@effect/platform-node"
 * import { SecretStore } from "@sallyport/core"
 * import { Console, Effect, FileSystem, Layer, Option, Redacted } from "effect"
 *
 * const use = (text: string) =>
 *   Effect.gen(function*() {
 *     const secrets = yield* SecretStore.SecretStore
 *     const before = yield* secrets.get("token")
 *     yield* Console.log(Option.map(before, (bytes) => new TextDecoder().decode(Redacted.value(bytes))).pipe(Option.getOrNull))
 *     yield* secrets.set("token", Redacted.make(new TextEncoder().encode(text)))
 *   })
 *
 * const program = Effect.gen(function*() {
 *   const fs = yield* FileSystem.FileSystem
 *   const directory = yield* fs.makeTempDirectoryScoped()
 *   const Secrets = SecretStore.layerFileSystem(`${directory}/secrets`).pipe(
 *     Layer.provide([NodeServices.layer, NodeCrypto.layer])
 *   )
 *   yield* Effect.provide(use("one"), Layer.fresh(Secrets))
 *   // => null
 *   yield* Effect.provide(use("two"), Layer.fresh(Secrets))
 *   // => one
 * })
 *
 * Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFileSystem = (
  directory: string,
  options?: Options
): Layer.Layer<SecretStore, InvalidSecretStoreOptions | SecretStoreError, FileSystemServices> =>
  Layer.effect(SecretStore, makeFileSystem(directory, options))

/**
 * Provides what {@link layerFileSystem} does, on the directory that the configuration names in
 * `SALLYPORT_SECRETS_DIRECTORY`. `SALLYPORT_SECRETS_KEEP_VERSIONS` says how many versions of a value are kept.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  SecretStore,
  Config.ConfigError | InvalidSecretStoreOptions | SecretStoreError,
  FileSystemServices
> = Layer.effect(
  SecretStore,
  directorySettings.pipe(
    Effect.flatMap(({ directory, keepVersions }) => SecretDirectory.open(directory, keepVersions)),
    Effect.flatMap(make)
  )
)
