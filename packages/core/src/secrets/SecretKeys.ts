/**
 * Provides the key-encryption keys of `EncryptedSecretStore`: one that encrypts, and older ones that only decrypt.
 *
 * A key is 32 random bytes, and its id is derived from them, so that no operator has to invent ids and no two keys share
 * one. Where keys come from is a layer: `layerConfig` (environment), `layerFile`, `layerPassphrase`, `layerVault` (the OS
 * keyring, with `@sallyport/node`), `layerSecretStore` (a secret of a store), `layerKeys` (the host).
 */
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Kdf from "effect/crypto/Kdf"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Hex from "effect/encoding/Hex"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Input from "../Input.ts"
import { octal, quote } from "./internal/privateDirectory.ts"
import {
  KeyInsecure,
  KeyMissing,
  malformed,
  SecretKeysError,
  type SecretKeysErrorReason,
  SourceFailure,
  sourceFailure,
  SourceUnavailable,
  WrongPassphrase
} from "./internal/secretKeyErrors.ts"
import * as KeyRecord from "./internal/secretKeyRecord.ts"
import * as PrivateFiles from "./PrivateFiles.ts"
import * as SecretStore from "./SecretStore.ts"

export {
  KeyInsecure,
  KeyMalformed,
  KeyMissing,
  SecretKeysError,
  SecretKeysErrorReason,
  SourceFailure,
  SourceUnavailable,
  WrongPassphrase
} from "./internal/secretKeyErrors.ts"

// -----------------------------------------------------------------------------
// Models and service
// -----------------------------------------------------------------------------

/**
 * Describes a key-encryption key. `id` is derived from the bytes: 32 lower-case hex digits. It tells keys apart and gives
 * nothing of them away.
 *
 * @category models
 * @since 0.1.0
 */
export interface SecretKey {
  readonly id: string
  readonly bytes: Redacted.Redacted<Uint8Array>
}

/**
 * Holds the keys of a process, read once when the layer is built.
 *
 * @category services
 * @since 0.1.0
 */
export class SecretKeys extends Context.Service<SecretKeys, {
  /** The key that new values are encrypted with. */
  readonly active: SecretKey
  /** Every key that decrypts, the active one included, by id. */
  readonly keys: ReadonlyMap<string, SecretKey>
}>()("@sallyport/core/secrets/SecretKeys") {}

/**
 * Holds the length of a key in bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const keyLength = 32

/**
 * Names the secret of the underlying store that says which keys a passphrase or a vault has made. It holds salts,
 * parameters and ids, and no key. `EncryptedSecretStore` keeps it out of its own names.
 *
 * @category constants
 * @since 0.1.0
 */
export const recordName = KeyRecord.recordName

// -----------------------------------------------------------------------------
// Constructors
// -----------------------------------------------------------------------------

const generateCommand = "openssl rand -base64 32 | tr '+/' '-_' | tr -d '='"

const idInfo = new TextEncoder().encode("sallyport/secret-key-id/v1")

/**
 * Makes a key of 32 bytes, which it copies. `source` is what an error names.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeKey = Effect.fnUntraced(function*(
  source: string,
  bytes: Redacted.Redacted<Uint8Array>
): Effect.fn.Return<SecretKey, SecretKeysError, Kdf.Kdf> {
  Input.demand("SecretKeys.makeKey", { bytes: Input.required(Input.redacted) }, { bytes })
  const kdf = yield* Kdf.Kdf
  const given = Redacted.value(bytes)
  if (given.length !== keyLength) {
    return yield* malformed(
      source,
      `it has ${given.length} bytes instead of ${keyLength}`,
      `Make a new one with: ${generateCommand}`
    )
  }
  if (given.every((byte) => byte === given[0])) {
    return yield* malformed(source, "it is not random", `Make a new one with: ${generateCommand}`)
  }
  const copy = given.slice()
  const id = yield* Effect.mapError(
    kdf.derive(Kdf.hkdfSha256, copy, { salt: new Uint8Array(0), info: idInfo, length: 16 }),
    sourceFailure(source)
  )
  return { id: Hex.encode(id), bytes: Redacted.make(copy, { label: "secret key" }) }
})

/** Makes a key from its text: 43 characters of base64url. White space around it is ignored. */
const parseKey = (
  source: string,
  text: Redacted.Redacted
): Effect.Effect<SecretKey, SecretKeysError, Kdf.Kdf> =>
  Effect.suspend(() => {
    const trimmed = Redacted.value(text).trim()
    const decoded = Base64Url.decode(trimmed)
    // Encoded again it must be the same, so that one key has one text.
    return Result.isSuccess(decoded) && Base64Url.encode(decoded.success) === trimmed
      ? makeKey(source, Redacted.make(decoded.success))
      : Effect.fail(malformed(
        source,
        `it is not base64url (43 characters of A-Z, a-z, 0-9, "-" and "_", without "=")`,
        `Make a new one with: ${generateCommand}`
      ))
  })

/**
 * Builds the service from keys: the active one, and older ones that only decrypt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromKeys = (active: SecretKey, previous: ReadonlyArray<SecretKey>): SecretKeys["Service"] =>
  SecretKeys.of({ active, keys: new Map([...previous, active].map((key) => [key.id, key])) })

/**
 * Provides keys that the host has got for itself: 32 random bytes each.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeys = (options: {
  readonly active: Redacted.Redacted<Uint8Array>
  readonly previous?: ReadonlyArray<Redacted.Redacted<Uint8Array>> | undefined
}): Layer.Layer<SecretKeys, SecretKeysError, Kdf.Kdf> =>
  Layer.effect(
    SecretKeys,
    Effect.gen(function*() {
      Input.demand("SecretKeys.layerKeys", { active: Input.required(Input.redacted), previous: Input.any }, options)
      const active = yield* makeKey("the active key", options.active)
      return fromKeys(active, yield* Effect.forEach(options.previous ?? [], (key) => makeKey("a previous key", key)))
    })
  )

// -----------------------------------------------------------------------------
// Environment
// -----------------------------------------------------------------------------

/**
 * Provides keys from the configuration, which is the environment unless the host says otherwise.
 *
 * `variable` (default `SALLYPORT_SECRET_KEY`) holds the active key as base64url, `<variable>_PREVIOUS` older ones,
 * separated by commas or white space.
 *
 * **Example** (Refusing to start without a key)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { SecretKeys } from "@sallyport/core"
 * import { ConfigProvider, Console, Effect, Layer } from "effect"
 *
 * const Keys = SecretKeys.layerConfig().pipe(
 *   Layer.provide([NodeCrypto.layer, ConfigProvider.layer(ConfigProvider.fromEnvRecord({}))])
 * )
 *
 * const program = Effect.flip(Effect.scoped(Layer.build(Keys)))
 *
 * Effect.runPromise(Effect.flatMap(program, (error) => Console.log(error.reason._tag)))
 * // => KeyMissing
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (options?: {
  readonly variable?: string | undefined
}): Layer.Layer<SecretKeys, SecretKeysError, Kdf.Kdf> => {
  const variable = options?.variable ?? "SALLYPORT_SECRET_KEY"
  const previousVariable = `${variable}_PREVIOUS`
  const read = (name: string) =>
    Config.option(Config.Redacted(name)).pipe(
      Effect.mapError((error) => sourceFailure(`the variable ${name}`)(new Error(error.message)))
    )
  return Layer.effect(
    SecretKeys,
    Effect.gen(function*() {
      const text = Option.filter(yield* read(variable), (value) => Redacted.value(value).trim() !== "")
      if (Option.isNone(text)) {
        return yield* new SecretKeysError({
          reason: new KeyMissing({
            source: `the variable ${variable}`,
            remedy: `Set it to the output of: ${generateCommand}`
          })
        })
      }
      const active = yield* parseKey(`the variable ${variable}`, text.value)
      const previous = Option.match(yield* read(previousVariable), {
        onNone: () => [],
        onSome: (value) => Redacted.value(value).split(/[\s,]+/).filter((part) => part !== "")
      })
      return fromKeys(
        active,
        yield* Effect.forEach(
          previous,
          (part) => parseKey(`the variable ${previousVariable}`, Redacted.make(part))
        )
      )
    })
  )
}

// -----------------------------------------------------------------------------
// File
// -----------------------------------------------------------------------------

// A file of keys is some lines. A limit keeps a wrong path (a device, a database) from being read whole.
const maxFileSize = 64 * 1024

/**
 * Provides keys from a file that no other user may read (mode 0600 or 0400).
 *
 * Each line is a key as base64url, the first the active one and those below it older; empty lines and lines that start with
 * `#` are ignored. A symbolic link is followed, because that is how orchestrators mount secrets; what it leads to must be
 * private.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFile = (
  path: string
): Layer.Layer<SecretKeys, SecretKeysError, Kdf.Kdf | FileSystem.FileSystem> => {
  Input.demand("SecretKeys.layerFile", { path: Input.required(Input.text) }, { path })
  const source = `the file ${path}`
  const create = `(umask 077 && ${generateCommand} > ${quote(path)})`
  const fail = (reason: SecretKeysErrorReason) => Effect.fail(new SecretKeysError({ reason }))
  return Layer.effect(
    SecretKeys,
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      // What is checked and what is read is the same open file, whatever happens to its name in between.
      const text = yield* Effect.scoped(Effect.gen(function*() {
        const file = yield* fs.open(path, { flag: "r" })
        const info = yield* file.stat
        if (info.type !== "File") {
          return yield* malformed(source, "it is not a regular file", `Create one with: ${create}`)
        }
        // Its owner has put the key there, and need not be this user.
        const identity = { ...(yield* PrivateFiles.CurrentIdentity), user: info.uid }
        if (PrivateFiles.verdict(identity, info) !== "Private") {
          const mode = octal(info.mode)
          return yield* fail(
            new KeyInsecure({
              source,
              problem: `its mode is ${mode}, so other users can reach it`,
              remedy: `If no other user has read it, run: chmod 600 ${
                quote(path)
              } (otherwise make a new key and rotate)`
            })
          )
        }
        if (ByteSize.toBigInt(info.size) > BigInt(maxFileSize)) {
          return yield* malformed(source, `it is larger than ${maxFileSize} bytes`, `Create one with: ${create}`)
        }
        const bytes = yield* file.readAlloc(maxFileSize)
        return Option.match(bytes, { onNone: () => "", onSome: (found) => new TextDecoder().decode(found) })
      })).pipe(
        Effect.catchTag("PlatformError", (error) =>
          error.reason._tag === "NotFound"
            ? fail(new KeyMissing({ source, remedy: `Create it with: ${create}` }))
            : fail(new SourceFailure({ source, cause: error })))
      )
      const keys = yield* Effect.forEach(
        text.split("\n").map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#")),
        (line) => parseKey(source, Redacted.make(line))
      )
      const [active, ...previous] = keys
      if (active === undefined) return yield* fail(new KeyMissing({ source, remedy: `Create it with: ${create}` }))
      return fromKeys(active, previous)
    })
  )
}

// -----------------------------------------------------------------------------
// Passphrase
// -----------------------------------------------------------------------------

/**
 * Says how much work Argon2id does for a passphrase: memory in KiB, passes over it, lanes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Argon2idCost {
  readonly memory: number
  readonly passes: number
  readonly parallelism: number
}

/**
 * Holds the second recommended setting of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultCost: Argon2idCost = { memory: 65_536, passes: 3, parallelism: 4 }

const minPassphraseLength = 8

const isCost = Schema.is(KeyRecord.Argon2idCost)

/**
 * Provides keys derived from a passphrase by Argon2id.
 *
 * The salt and the cost are in the underlying store, under `recordName`, together with the key's id: a wrong passphrase
 * fails here, before anything is encrypted with it. On the first start the record is created; of several processes that
 * start at once all get the same key.
 *
 * To change the passphrase, give the new one and the old one in `previous`: the start adds a key, `SecretRotation.rotate`
 * re-encrypts, and then the old one can go. To change the cost, give the new `cost`: the next start makes a key with it,
 * and the old one still decrypts.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPassphrase = (options: {
  readonly passphrase: Redacted.Redacted
  readonly previous?: ReadonlyArray<Redacted.Redacted> | undefined
  readonly cost?: Argon2idCost | undefined
}): Layer.Layer<
  SecretKeys,
  SecretKeysError | SecretStore.SecretStoreError,
  SecretStore.SecretStore | Kdf.Kdf | SecureRandom.SecureRandom
> =>
  Layer.effect(
    SecretKeys,
    Effect.gen(function*() {
      Input.demand("SecretKeys.layerPassphrase", {
        passphrase: Input.required(Input.redacted),
        previous: Input.any,
        cost: Input.any
      }, options)
      const store = yield* SecretStore.SecretStore
      const kdf = yield* Kdf.Kdf
      const random = yield* SecureRandom.SecureRandom
      const source = "the passphrase"
      const cost = options.cost ?? defaultCost
      const badCost = (problem: string) => malformed(source, problem, "Correct the option `cost`")
      if (!isCost(cost)) {
        return yield* badCost("its cost is not in 1 to 2^22 KiB of memory, 1 to 64 passes and 1 to 64 lanes")
      }

      const encodePassphrase = (passphrase: Redacted.Redacted) => {
        // The same characters have several encodings, and which one is typed depends on the platform.
        const text = Redacted.value(passphrase).normalize("NFKC")
        return Array.from(text).length >= minPassphraseLength
          ? Effect.succeed(new TextEncoder().encode(text))
          : Effect.fail(
            malformed(
              source,
              `it has fewer than ${minPassphraseLength} characters`,
              "Choose a longer one, such as six random words"
            )
          )
      }

      const derive = Effect.fnUntraced(function*(passphrase: Uint8Array, salt: Uint8Array, cost: Argon2idCost) {
        const bytes = yield* kdf.derive(Kdf.argon2id(cost), passphrase, { salt, length: keyLength }).pipe(
          Effect.catch((cause) => {
            const reason = cause.reason
            if (reason._tag === "Unsupported") {
              return Effect.fail(
                new SecretKeysError({
                  reason: new SourceUnavailable({
                    source: "a passphrase on this runtime",
                    cause,
                    remedy: "It has no Argon2id: run Node.js 24.7 or later, or keep the key in a file"
                  })
                })
              )
            }
            return Effect.fail(badCost(reason.message))
          })
        )
        return yield* makeKey(source, Redacted.make(bytes))
      })

      const active = yield* encodePassphrase(options.passphrase)
      const previous = yield* Effect.forEach(options.previous ?? [], encodePassphrase)

      const match = Effect.fnUntraced(function*(
        passphrase: Uint8Array,
        entries: ReadonlyArray<typeof KeyRecord.Argon2idEntry.Type>
      ) {
        const found: Array<SecretKey & { readonly current: boolean }> = []
        for (const entry of entries) {
          const key = yield* derive(passphrase, entry.salt, entry)
          if (key.id !== entry.id) continue
          const current = entry.memory === cost.memory && entry.passes === cost.passes &&
            entry.parallelism === cost.parallelism
          found.push({ ...key, current })
        }
        return found
      })

      return yield* store.modify(recordName, (record) =>
        Effect.gen(function*() {
          const entries = yield* KeyRecord.decode(record)
          const argon2id = entries.filter((entry) => entry._tag === "argon2id")
          const own = yield* match(active, argon2id)
          const older = (yield* Effect.forEach(previous, (passphrase) => match(passphrase, argon2id))).flat()
          const current = own.find((key) => key.current)
          if (current !== undefined) return [fromKeys(current, [...own, ...older]), Option.none()] as const
          if (argon2id.length > 0 && own.length + older.length === 0) {
            return yield* new SecretKeysError({
              reason: new WrongPassphrase({
                remedy:
                  "Give the right one. To change it, give the new passphrase together with the old one as a previous one"
              })
            })
          }
          const salt = yield* random.randomBytes(16)
          const created = yield* derive(active, salt, cost)
          return [
            fromKeys(created, [...own, ...older]),
            Option.some(KeyRecord.encode([{ _tag: "argon2id", id: created.id, salt, ...cost }, ...entries]))
          ] as const
        }))
    })
  )

// -----------------------------------------------------------------------------
// Secret store
// -----------------------------------------------------------------------------

/**
 * Provides keys that are a secret of the store, for what is kept elsewhere: the versions that the store keeps of it, the
 * newest one active. The first start makes one; of several processes that start at once all get the same.
 *
 * To rotate, `set` the secret to 32 new random bytes, restart every process, and encrypt again what the older version
 * encrypts, before so many versions have come that the store drops it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSecretStore = (name: string): Layer.Layer<
  SecretKeys,
  SecretKeysError | SecretStore.SecretStoreError,
  SecretStore.SecretStore | Kdf.Kdf
> =>
  Layer.effect(
    SecretKeys,
    Effect.gen(function*() {
      Input.demand("SecretKeys.layerSecretStore", { name: Input.required(Input.text) }, { name })
      const store = yield* SecretStore.SecretStore
      const source = `the secret ${name}`
      const active = yield* Effect.flatMap(
        store.getOrCreateRandom(name, keyLength),
        (bytes) => makeKey(source, bytes)
      )
      const versions = yield* store.history(name)
      return fromKeys(active, yield* Effect.forEach(versions, ({ value }) => makeKey(source, value)))
    })
  )

// -----------------------------------------------------------------------------
// Vault
// -----------------------------------------------------------------------------

/**
 * Describes a place outside the store that keeps keys by id, such as the keyring of an operating system. It needs no
 * compare-and-set: each key has an entry of its own, and which of them is the active one is decided in the underlying
 * store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Vault {
  /** What an error calls it. */
  readonly source: string
  /** What an operator does when it holds no key that the store asks for. */
  readonly missingRemedy: string
  readonly read: (id: string) => Effect.Effect<Option.Option<Redacted.Redacted<Uint8Array>>, SecretKeysError>
  readonly write: (id: string, key: Redacted.Redacted<Uint8Array>) => Effect.Effect<void, SecretKeysError>
  readonly remove: (id: string) => Effect.Effect<void, SecretKeysError>
}

const readVault = Effect.fnUntraced(function*(vault: Vault, ids: ReadonlyArray<string>) {
  const found: Array<SecretKey> = []
  for (const id of ids) {
    const bytes = yield* vault.read(id)
    if (Option.isNone(bytes)) {
      // A key that an operator has destroyed leaves nothing to decrypt with, which is an answer for values. Without the
      // active one nothing works.
      if (found.length > 0) continue
      return yield* new SecretKeysError({
        reason: new KeyMissing({ source: `${vault.source} (key ${id})`, remedy: vault.missingRemedy })
      })
    }
    const key = yield* makeKey(vault.source, bytes.value)
    if (key.id !== id) {
      return yield* malformed(
        `${vault.source} (key ${id})`,
        `it is the key ${key.id}`,
        "Restore the entry of the keyring from a backup"
      )
    }
    found.push(key)
  }
  return found
})

const vaultIds = (entries: ReadonlyArray<KeyRecord.Entry>): ReadonlyArray<string> =>
  entries.flatMap((entry) => entry._tag === "vault" ? [entry.id] : [])

/**
 * Makes a key, and makes it the first of the store's; unless `ifNone` is set and there is one. Returns the ids of all keys,
 * the active one first.
 */
const addToVault = Effect.fnUntraced(function*(vault: Vault, ifNone: boolean) {
  const store = yield* SecretStore.SecretStore
  const random = yield* SecureRandom.SecureRandom
  const key = yield* Effect.flatMap(
    random.randomBytes(keyLength),
    (bytes) => makeKey(vault.source, Redacted.make(bytes))
  )
  // The key is in the vault before any process can be told to use it. A crash in between leaves a key that nothing needs.
  yield* vault.write(key.id, key.bytes)
  const ids = yield* store.modify(recordName, (record) =>
    Effect.gen(function*() {
      const entries = yield* KeyRecord.decode(record)
      const known = vaultIds(entries)
      return ifNone && known.length > 0
        ? [known, Option.none()] as const
        : [[key.id, ...known], Option.some(KeyRecord.encode([{ _tag: "vault", id: key.id }, ...entries]))] as const
    }))
  // Another process was first. What cannot be removed is a key that nothing needs.
  if (ids[0] !== key.id) yield* Effect.ignore(vault.remove(key.id), { log: "Warn" })
  return ids
})

/**
 * Adds a key to a vault and makes it the one that processes encrypt with from their next start on. Returns its id.
 *
 * This is the first step of a rotation; `SecretRotation.rotate`, in a process started after it, is the second.
 *
 * @category operations
 * @since 0.1.0
 */
export const addVaultKey = Effect.fn("SecretKeys.addVaultKey")(function*(
  vault: Vault
): Effect.fn.Return<
  string,
  SecretKeysError | SecretStore.SecretStoreError,
  SecretStore.SecretStore | Kdf.Kdf | SecureRandom.SecureRandom
> {
  const [id = ""] = yield* addToVault(vault, false)
  return id
})

/**
 * Provides keys from a vault. When the store knows of none there, the first is created; of several processes that start at
 * once all get the same.
 *
 * The store's record of ids decides: a vault that has lost the active key is an error (`KeyMissing`), never a reason to
 * make another.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerVault = (
  vault: Vault
): Layer.Layer<
  SecretKeys,
  SecretKeysError | SecretStore.SecretStoreError,
  SecretStore.SecretStore | Kdf.Kdf | SecureRandom.SecureRandom
> =>
  Layer.effect(
    SecretKeys,
    Effect.gen(function*() {
      const object: Input.Rule = {
        is: (vault) => Predicate.hasProperty(vault, "read") && Predicate.hasProperty(vault, "write"),
        expected: "a place that keeps keys, with read, write and remove"
      }
      Input.demand("SecretKeys.layerVault", { vault: Input.required(object) }, { vault })
      const store = yield* SecretStore.SecretStore
      const known = vaultIds(yield* KeyRecord.decode(yield* store.get(recordName)))
      const [active, ...previous] = yield* readVault(vault, known.length > 0 ? known : yield* addToVault(vault, true))
      if (active === undefined) {
        return yield* new SecretKeysError({
          reason: new KeyMissing({ source: vault.source, remedy: vault.missingRemedy })
        })
      }
      return fromKeys(active, previous)
    })
  )
