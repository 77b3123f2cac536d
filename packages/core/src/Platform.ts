/**
 * Everything that the services take from a platform's cryptography, as one layer: WebCrypto, which every JavaScript runtime
 * has.
 *
 * @since 0.1.0
 */
import * as Aead from "effect/crypto/Aead"
import * as Digest from "effect/crypto/Digest"
import * as Kdf from "effect/crypto/Kdf"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Signature from "effect/crypto/Signature"
import * as Layer from "effect/Layer"

/**
 * Names what a platform provides. A layer of Sallyport's that needs cryptography needs some of these, and no other.
 *
 * @category models
 * @since 0.1.0
 */
export type Platform =
  | SecureRandom.SecureRandom
  | Digest.Digest
  | Mac.Mac
  | Kdf.Kdf
  | Aead.Aead
  | Signature.Signature

/**
 * Provides all of it on WebCrypto: for browsers, Bun, Deno, workerd and edge functions, and wherever `@effect/platform-node`
 * is not installed.
 *
 * **When to use**
 *
 * On Node prefer `NodeCrypto.layer` of `@effect/platform-node`, which computes digests and codes in the calling thread, and
 * has Argon2id for the passphrases of `EncryptedSecretStore`. WebCrypto has no Argon2id.
 *
 * **Gotchas**
 *
 * A page that came over plain HTTP from another machine has no `crypto.subtle`; there only random numbers work.
 *
 * **Example** (Running without Node's cryptography)
 *
 * ```ts
 * import { AuthPolicy, Platform, Repositories, SecretStore, SessionCredentialService } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * const Sessions = SessionCredentialService.layer.pipe(
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
 *   Layer.provide(Platform.layerWeb)
 * )
 *
 * const program = Effect.gen(function*() {
 *   const sessions = yield* SessionCredentialService.SessionCredentialService
 *   const { token } = yield* sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
 *   const { subject } = yield* sessions.verify(token)
 *   yield* Console.log(subject)
 *   // => ada
 * })
 *
 * Effect.runPromise(Effect.provide(program, Sessions))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWeb: Layer.Layer<Platform> = Layer.mergeAll(
  Digest.layerWebCrypto,
  Kdf.layerWebCrypto,
  Mac.layerWebCrypto,
  Aead.layerWebCrypto,
  Signature.layerWebCrypto
).pipe(Layer.provideMerge(SecureRandom.layerWebCrypto))
