/**
 * Encrypts what another `SecretStore` keeps.
 *
 * {@link layer} takes a `SecretStore` from its environment and provides a `SecretStore` in its place, so that encryption is one
 * more `Layer.provide`.
 *
 * A value is bound to the store's id and its name: moved to another name or store it does not decrypt. Names, their number,
 * the lengths of values and the times of changes stay visible. Every operation is as atomic as the underlying store's,
 * because each is one operation there.
 *
 * `docs/decisions/0003-derived-value-keys.md` has the format's reasons, `docs/secrets.md` the procedure of a rotation.
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Aead from "effect/crypto/Aead"
import type * as CryptoError from "effect/crypto/CryptoError"
import type * as Kdf from "effect/crypto/Kdf"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import {
  type InvalidEncryptedSecretStoreOptions,
  type Options,
  type Settings,
  settings
} from "./internal/encryptionOptions.ts"
import { checkByteLength, orRandom } from "./internal/randomSecret.ts"
import * as Envelope from "./internal/secretEnvelope.ts"
import * as SecretKeys from "./SecretKeys.ts"
import * as SecretStore from "./SecretStore.ts"

export { InvalidEncryptedSecretStoreOptions, type Options } from "./internal/encryptionOptions.ts"

/**
 * Says what a rotation did.
 *
 * @category models
 * @since 0.1.0
 */
export interface RotationReport {
  /** The names whose values were encrypted again, sorted. */
  readonly rewritten: ReadonlyArray<SecretStore.SecretName>
  /** The names that needed nothing, sorted. */
  readonly unchanged: ReadonlyArray<SecretStore.SecretName>
}

/**
 * Says which keys an underlying store still needs.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyUse {
  /** How many stored versions each key encrypts, by the key's id. An older key that is not here can be destroyed. */
  readonly versionsByKeyId: ReadonlyMap<string, number>
  /** How many stored versions are not encrypted. */
  readonly plainVersions: number
}

/**
 * Changes the keys of an encrypted store. `EncryptedSecretStore.layer` provides it beside the store.
 *
 * @category services
 * @since 0.1.0
 */
export class SecretRotation extends Context.Service<SecretRotation, {
  /**
   * Encrypts every value with the active key that is not, and gives up the older versions that other keys encrypt, so that
   * afterwards nothing needs those keys.
   *
   * Each value is replaced by one compare-and-set: a reader sees the same value before and after, and a concurrent change
   * is never overwritten. It may be interrupted, killed and run again at any point, and run by several processes at once. A
   * value that cannot be decrypted stays as it is; the others are rotated, and then the first such failure is reported.
   */
  readonly rotate: Effect.Effect<RotationReport, SecretStore.SecretStoreError>
  /**
   * Does what `rotate` does, and also encrypts values that were stored before there was encryption.
   *
   * An unencrypted value is taken as it is, so this is for the once when encryption is turned on, and not for routine: a
   * user who can write to the underlying store could have planted it.
   */
  readonly encryptPlain: Effect.Effect<RotationReport, SecretStore.SecretStoreError>
  /** Reads which keys the stored versions need. Nothing is decrypted. */
  readonly keyUse: Effect.Effect<KeyUse, SecretStore.SecretStoreError>
}>()("@sallyport/core/secrets/EncryptedSecretStore/SecretRotation") {}

// No store keeps as many versions. A rotation that has written so often is undone by a user who still encrypts with an
// older key.
const maxRewrites = 256

const reserved = (name: string): Effect.Effect<void, SecretStore.SecretStoreError> =>
  name === SecretKeys.recordName
    ? Effect.fail(
      new SecretStore.SecretStoreError({
        reason: new SecretStore.InvalidName({ secretName: name, reservedFor: "the list of encryption keys" })
      })
    )
    : Effect.void

const undecryptable = (name: string, problem: string, remedy: string): SecretStore.SecretStoreError =>
  new SecretStore.SecretStoreError({ reason: new SecretStore.Undecryptable({ secretName: name, problem, remedy }) })

const restore = "Restore it from a backup, or set it again"

/**
 * Names what an encrypted store is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | SecretStore.SecretStore
  | SecretKeys.SecretKeys
  | Aead.Aead
  | Kdf.Kdf
  | SecureRandom.SecureRandom

/**
 * Describes an encrypted store, and what changes its keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncryptedSecretStore {
  readonly store: SecretStore.SecretStore["Service"]
  readonly rotation: SecretRotation["Service"]
}

const build = Effect.fnUntraced(function*(
  { algorithm, storeId }: Settings
): Effect.fn.Return<EncryptedSecretStore, never, Requirements> {
  const underlying = yield* SecretStore.SecretStore
  const { active, keys } = yield* SecretKeys.SecretKeys
  const random = yield* SecureRandom.SecureRandom
  const sealer = yield* Envelope.makeSealer
  const activeKey = { id: active.id, bytes: Redacted.value(active.bytes) }

  const seal = (
    operation: string,
    name: string,
    value: Redacted.Redacted<Uint8Array>,
    sameValue = false
  ): Effect.Effect<Redacted.Redacted<Uint8Array>, SecretStore.SecretStoreError> =>
    sealer.seal(activeKey, algorithm, { storeId, name }, Redacted.value(value), sameValue).pipe(
      Effect.map((bytes) => Redacted.make(bytes, { label: name })),
      Effect.mapError((cause: CryptoError.CryptoError) =>
        new SecretStore.SecretStoreError({
          reason: new SecretStore.StorageFailure({ operation, secretName: name, cause })
        })
      )
    )

  /** Decrypts what is stored under a name. `plain` says what becomes of a value without an envelope. */
  const open = Effect.fnUntraced(function*(
    name: string,
    stored: Redacted.Redacted<Uint8Array>,
    plain: "refuse" | "accept" = "refuse"
  ): Effect.fn.Return<Redacted.Redacted<Uint8Array>, SecretStore.SecretStoreError> {
    const envelope = Envelope.parse(Redacted.value(stored))
    switch (envelope._tag) {
      case "Plain": {
        if (plain === "accept") return stored
        return yield* undecryptable(
          name,
          "it is not encrypted",
          "If it was stored before encryption was turned on, run SecretRotation.encryptPlain once; otherwise set it again"
        )
      }
      case "TooNew":
        return yield* undecryptable(name, envelope.problem, "Upgrade this program")
      case "Damaged":
        return yield* undecryptable(name, envelope.problem, restore)
    }
    const key = keys.get(envelope.keyId)
    if (key === undefined) {
      return yield* undecryptable(
        name,
        `it is encrypted with the key ${envelope.keyId}, and this process has ${Array.from(keys.keys()).join(", ")}`,
        "Start it with that key, as other processes on the same secrets do, or, if a new one is to take its place, with " +
          "both: the old one among the previous keys (SALLYPORT_SECRET_KEY_PREVIOUS, unless the keys come from elsewhere)"
      )
    }
    const bytes = yield* sealer.open(Redacted.value(key.bytes), envelope, { storeId, name }).pipe(
      Effect.mapError((cause: CryptoError.CryptoError) =>
        cause.reason._tag === "DecryptionFailed"
          ? undecryptable(
            name,
            `it was altered, or belongs to another name, or to another store than "${storeId}"`,
            `${restore}; or correct the option storeId`
          )
          : new SecretStore.SecretStoreError({
            reason: new SecretStore.StorageFailure({ operation: "get", secretName: name, cause })
          })
      )
    )
    return Redacted.make(bytes, { label: name })
  })

  const openOption = (name: string, stored: Option.Option<Redacted.Redacted<Uint8Array>>) =>
    Option.match(stored, {
      onNone: () => Effect.succeedNone,
      onSome: (bytes) => Effect.asSome(open(name, bytes))
    })

  const modify = <A, E, R>(
    name: string,
    f: (
      current: Option.Option<Redacted.Redacted<Uint8Array>>
    ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
  ) =>
    underlying.modify(
      name,
      Effect.fnUntraced(function*(stored: Option.Option<Redacted.Redacted<Uint8Array>>) {
        const [result, next] = yield* f(yield* openOption(name, stored))
        return Option.isNone(next)
          ? [result, next] as const
          : [result, Option.some(yield* seal("modify", name, next.value))] as const
      })
    )

  const names = Effect.map(underlying.list, (all) => all.filter((name) => name !== SecretKeys.recordName))

  const store = SecretStore.SecretStore.of({
    get: Effect.fn("EncryptedSecretStore.get")(function*(name: string) {
      yield* reserved(name)
      return yield* openOption(name, yield* underlying.get(name))
    }),
    set: Effect.fn("EncryptedSecretStore.set")(function*(name: string, value: Redacted.Redacted<Uint8Array>) {
      yield* reserved(name)
      yield* underlying.set(name, yield* seal("set", name, value))
    }),
    create: Effect.fn("EncryptedSecretStore.create")(function*(name: string, value: Redacted.Redacted<Uint8Array>) {
      yield* reserved(name)
      return yield* underlying.create(name, yield* seal("create", name, value))
    }),
    getOrCreateRandom: Effect.fn("EncryptedSecretStore.getOrCreateRandom")(function*(name: string, byteLength: number) {
      yield* checkByteLength(byteLength)
      yield* reserved(name)
      return yield* modify(name, orRandom(random, name, byteLength))
    }),
    modify: Effect.fn("EncryptedSecretStore.modify")(function*<A, E, R>(
      name: string,
      f: (
        current: Option.Option<Redacted.Redacted<Uint8Array>>
      ) => Effect.Effect<readonly [A, Option.Option<Redacted.Redacted<Uint8Array>>], E, R>
    ) {
      yield* reserved(name)
      return yield* modify(name, f)
    }),
    remove: Effect.fn("EncryptedSecretStore.remove")(function*(name: string) {
      yield* reserved(name)
      yield* underlying.remove(name)
    }),
    list: Effect.withSpan(names, "EncryptedSecretStore.list"),
    history: Effect.fn("EncryptedSecretStore.history")(function*(name: string) {
      yield* reserved(name)
      const versions: Array<SecretStore.SecretVersion> = []
      // What a rotation wrote again is one version to a reader, however many copies of it are stored.
      let repeated = false
      for (const { value, version } of yield* underlying.history(name)) {
        if (!repeated) versions.push({ version, value: yield* open(name, value) })
        const envelope = Envelope.parse(Redacted.value(value))
        repeated = envelope._tag === "Envelope" && envelope.sameValue
      }
      return versions
    })
  })

  const isCurrent = (stored: Redacted.Redacted<Uint8Array>): boolean => {
    const envelope = Envelope.parse(Redacted.value(stored))
    return envelope._tag === "Envelope" && envelope.keyId === active.id && envelope.algorithm.name === algorithm.name
  }

  /** Writes a value again until no kept version needs another key. Returns whether there was anything to do. */
  const rewrite = Effect.fnUntraced(function*(
    name: SecretStore.SecretName,
    plain: "refuse" | "accept"
  ): Effect.fn.Return<boolean, SecretStore.SecretStoreError> {
    for (let written = 0; written < maxRewrites; written++) {
      if ((yield* underlying.history(name)).every(({ value }) => isCurrent(value))) return written > 0
      yield* underlying.modify(
        name,
        Effect.fnUntraced(function*(stored: Option.Option<Redacted.Redacted<Uint8Array>>) {
          if (Option.isNone(stored)) return [undefined, stored] as const
          const value = yield* open(name, stored.value, plain)
          return [undefined, Option.some(yield* seal("rotate", name, value, true))] as const
        })
      )
    }
    return yield* new SecretStore.SecretStoreError({
      reason: new SecretStore.StorageFailure({
        operation: "rotate",
        secretName: name,
        cause: new Error(
          "versions under another key keep appearing; give the new key to every process, restart them, and rotate again"
        )
      })
    })
  })

  const rewriteAll = Effect.fnUntraced(function*(plain: "refuse" | "accept") {
    const rewritten: Array<SecretStore.SecretName> = []
    const unchanged: Array<SecretStore.SecretName> = []
    let failure: SecretStore.SecretStoreError | undefined
    for (const name of yield* names) {
      const changed = yield* Effect.catchReason(
        rewrite(name, plain),
        "SecretStoreError",
        "Undecryptable",
        (_, error) => {
          failure ??= error
          return Effect.undefined
        }
      )
      if (changed !== undefined) (changed ? rewritten : unchanged).push(name)
    }
    return failure === undefined ? { rewritten, unchanged } : yield* failure
  })

  const keyUse = Effect.gen(function*() {
    const versionsByKeyId = new Map<string, number>()
    let plainVersions = 0
    for (const name of yield* names) {
      for (const { value } of yield* underlying.history(name)) {
        const envelope = Envelope.parse(Redacted.value(value))
        if (envelope._tag === "Envelope") {
          versionsByKeyId.set(envelope.keyId, (versionsByKeyId.get(envelope.keyId) ?? 0) + 1)
        } else if (envelope._tag === "Plain") plainVersions++
        // Which key it needs cannot be told, so no key may be called unused.
        else return yield* undecryptable(name, envelope.problem, restore)
      }
    }
    return { versionsByKeyId, plainVersions }
  })

  return {
    store,
    rotation: SecretRotation.of({
      rotate: Effect.withSpan(Effect.suspend(() => rewriteAll("refuse")), "SecretRotation.rotate"),
      encryptPlain: Effect.withSpan(Effect.suspend(() => rewriteAll("accept")), "SecretRotation.encryptPlain"),
      keyUse: Effect.withSpan(keyUse, "SecretRotation.keyUse")
    })
  }
})

/**
 * Creates an encrypted store, and what changes its keys, on the store of the environment. {@link layer} is what most hosts
 * want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<EncryptedSecretStore, InvalidEncryptedSecretStoreOptions, Requirements> =>
  Effect.flatMap(settings.fromObject(options), build)

const provide = <E>(made: Effect.Effect<EncryptedSecretStore, E, Requirements>) =>
  Layer.effectContext(
    Effect.map(made, ({ rotation, store }) =>
      Context.make(SecretStore.SecretStore, store).pipe(Context.add(SecretRotation, rotation)))
  )

/**
 * Provides an encrypted `SecretStore` on the `SecretStore` of the environment, and `SecretRotation` beside it.
 *
 * The requirement and the provision have the same tag: `Layer.provide` the underlying store, and no service above sees the
 * unencrypted one.
 *
 * **Example** (Encrypting what a store keeps)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { EncryptedSecretStore, SecretKeys, SecretStore } from "@sallyport/core"
 * import { ConfigProvider, Console, Effect, Layer, Option, Redacted } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const secrets = yield* SecretStore.SecretStore
 *   yield* secrets.set("token", Redacted.make(new TextEncoder().encode("xoxb")))
 *   const token = yield* secrets.get("token")
 *   yield* Console.log(Option.map(token, (bytes) => new TextDecoder().decode(Redacted.value(bytes))).pipe(Option.getOrNull))
 *   // => xoxb
 *   const { keyUse } = yield* EncryptedSecretStore.SecretRotation
 *   yield* Console.log((yield* keyUse).plainVersions)
 *   // => 0
 * })
 *
 * // The key is read from SALLYPORT_SECRET_KEY; this one stands in for it.
 * const Environment = ConfigProvider.layer(
 *   ConfigProvider.fromEnvRecord({ SALLYPORT_SECRET_KEY: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA" })
 * )
 *
 * const Secrets = EncryptedSecretStore.layer({ storeId: "acme/production" }).pipe(
 *   Layer.provide(SecretKeys.layerConfig()),
 *   Layer.provide(SecretStore.layerMemory),
 *   Layer.provide([NodeCrypto.layer, Environment])
 * )
 *
 * Effect.runPromise(Effect.provide(program, Secrets))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<
  SecretStore.SecretStore | SecretRotation,
  InvalidEncryptedSecretStoreOptions,
  Requirements
> => provide(make(options))

/**
 * Provides what {@link layer} does, with the options of the configuration: `SALLYPORT_SECRETS_STORE_ID` and
 * `SALLYPORT_SECRETS_ALGORITHM`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  SecretStore.SecretStore | SecretRotation,
  Config.ConfigError | InvalidEncryptedSecretStoreOptions,
  Requirements
> = provide(Effect.flatMap(settings.fromConfig, build))
