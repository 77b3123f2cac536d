/**
 * Keeps encryption keys in the keyring of the operating system: Keychain, Credential Manager, or a Secret Service such as
 * GNOME Keyring and KWallet.
 *
 * The module `@napi-rs/keyring` does the work. It is an optional peer dependency, loaded when the layer is built, so that a
 * host without a keyring neither installs nor loads it.
 */
import * as Input from "@sallyport/core/Input"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import type * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Context from "effect/Context"
import type * as Kdf from "effect/crypto/Kdf"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/**
 * Reads and writes entries of the OS keyring. An entry belongs to a service (the application) and an account in it.
 *
 * @category services
 * @since 0.1.0
 */
export class Keyring extends Context.Service<Keyring, {
  /** Reads an entry; none if it does not exist. A keyring that is locked or does not answer is an error, never none. */
  readonly read: (
    service: string,
    account: string
  ) => Effect.Effect<Option.Option<Redacted.Redacted<Uint8Array>>, SecretKeys.SecretKeysError>
  /** Writes an entry, and replaces an existing one. */
  readonly write: (
    service: string,
    account: string,
    secret: Redacted.Redacted<Uint8Array>
  ) => Effect.Effect<void, SecretKeys.SecretKeysError>
  /** Removes an entry. A missing one is success. */
  readonly remove: (service: string, account: string) => Effect.Effect<void, SecretKeys.SecretKeysError>
}>()("@sallyport/node/Keyring") {}

/**
 * Describes what this module needs of an entry of `@napi-rs/keyring`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  readonly getSecret: (signal: AbortSignal) => Promise<ArrayLike<number> | null>
  readonly setSecret: (secret: Uint8Array, signal: AbortSignal) => Promise<void>
  readonly deleteCredential: (signal: AbortSignal) => Promise<unknown>
}

/**
 * Describes what this module needs of `@napi-rs/keyring`.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyringModule {
  readonly AsyncEntry: new(
    service: string,
    account: string,
    options: { readonly linux: { readonly store: "secret-service" } }
  ) => Entry
}

const source = "the OS keyring"

const toError = (cause: unknown): Error => cause instanceof Error ? cause : new Error(String(cause))

const unavailable = (cause: unknown, remedy: string): SecretKeys.SecretKeysError =>
  new SecretKeys.SecretKeysError({
    reason: new SecretKeys.SourceUnavailable({ source, cause: toError(cause), remedy })
  })

/**
 * Creates the service on a module that `load` imports. Fails with `SourceUnavailable` if the module cannot be loaded.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  load: () => Promise<KeyringModule>
): Effect.Effect<Keyring["Service"], SecretKeys.SecretKeysError> =>
  Effect.gen(function*() {
    Input.demand("Keyring.make", { load: Input.required(Input.callable) }, { load })
    const { AsyncEntry } = yield* Effect.tryPromise({
      try: load,
      catch: (cause) =>
        unavailable(
          cause,
          "Install the module with: npm install @napi-rs/keyring (or keep the key in a file, a variable or a passphrase)"
        )
    })
    const withEntry = <A>(
      service: string,
      account: string,
      use: (entry: Entry, signal: AbortSignal) => Promise<A>
    ): Effect.Effect<A, SecretKeys.SecretKeysError> =>
      Effect.try({
        // The kernel's keyring, the module's fallback, loses everything when the machine is switched off.
        try: () => new AsyncEntry(service, account, { linux: { store: "secret-service" } }),
        catch: (cause) =>
          unavailable(
            cause,
            "On Linux, start a Secret Service (gnome-keyring or KWallet) in the session of this user and unlock it; " +
              "on a server, keep the key in a file, a variable or a passphrase"
          )
      }).pipe(Effect.flatMap((entry) =>
        Effect.tryPromise({
          try: (signal) => use(entry, signal),
          catch: (cause) =>
            new SecretKeys.SecretKeysError({
              reason: new SecretKeys.SourceFailure({ source, cause: toError(cause) })
            })
        })
      ))
    return Keyring.of({
      read: Effect.fn("Keyring.read")(function*(service, account) {
        const secret = yield* withEntry(service, account, (entry, signal) => entry.getSecret(signal))
        return secret === null ? Option.none() : Option.some(Redacted.make(Uint8Array.from(secret)))
      }),
      write: Effect.fn("Keyring.write")((service, account, secret) =>
        withEntry(service, account, (entry, signal) => entry.setSecret(Redacted.value(secret), signal))
      ),
      remove: Effect.fn("Keyring.remove")((service, account) =>
        Effect.asVoid(withEntry(service, account, (entry, signal) => entry.deleteCredential(signal)))
      )
    })
  })

/**
 * Provides the keyring of the user that this process runs as.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Keyring, SecretKeys.SecretKeysError> = Layer.effect(
  Keyring,
  make(() => import("@napi-rs/keyring"))
)

/**
 * Configures where the keyring holds the keys.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * The application's name in the keyring, which its user interface shows. Each key is an account of it, named by the
   * key's id.
   */
  readonly service: string
}

const vault = (options: Options): Effect.Effect<SecretKeys.Vault, never, Keyring> =>
  Effect.map(Keyring, (keyring) => {
    Input.demand("Keyring", { service: Input.required(Input.text) }, options)
    return {
      source,
      missingRemedy:
        `Log in as the user whose keyring holds it, or restore the entry of "${options.service}" from a backup; ` +
        `without it the secrets cannot be decrypted`,
      read: (id) => keyring.read(options.service, id),
      write: (id, key) => keyring.write(options.service, id, key),
      remove: (id) => keyring.remove(options.service, id)
    }
  })

/**
 * Provides encryption keys from the keyring. The first start creates one; processes that start at the same time all get
 * the same key.
 *
 * **Details**
 *
 * The underlying store records which key is active. If the keyring has lost that key, the layer fails with
 * `KeyMissing`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSecretKeys = (options: Options): Layer.Layer<
  SecretKeys.SecretKeys,
  SecretKeys.SecretKeysError | SecretStore.SecretStoreError,
  Keyring | SecretStore.SecretStore | Kdf.Kdf | SecureRandom.SecureRandom
> => Layer.unwrap(Effect.map(vault(options), SecretKeys.layerVault))

/**
 * Adds a key to the keyring and returns its id. It becomes active when each process starts next: the first step of a
 * rotation.
 *
 * @category operations
 * @since 0.1.0
 */
export const addKey = (options: Options): Effect.Effect<
  string,
  SecretKeys.SecretKeysError | SecretStore.SecretStoreError,
  Keyring | SecretStore.SecretStore | Kdf.Kdf | SecureRandom.SecureRandom
> => Effect.flatMap(vault(options), SecretKeys.addVaultKey)
