/**
 * Provides `Digest` on the one-shot `hash` of `node:crypto`.
 *
 * `@effect/platform-node` builds a hash object for every digest. For inputs as short as a token most of the time goes into that object: on Node 24 the
 * SHA-256 of 300 bytes as hex ran 1.7 times as fast without it. For inputs of many kilobytes the two are alike.
 */
import { Sha256Hex } from "@sallyport/core/access/Sha256"
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NodeCrypto from "node:crypto"

const hashNames: Record<Digest.Algorithm["name"], string> = {
  "MD5": "md5",
  "SHA-1": "sha1",
  "SHA-256": "sha256",
  "SHA-384": "sha384",
  "SHA-512": "sha512"
}

/**
 * Provides `Digest`, synchronous and with the same output as every other layer of it, and `Sha256Hex` beside it.
 *
 * **Example** (Verifying sessions with the cryptography of Node)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { Repositories, SecretStore, SessionCredentialService } from "@sallyport/core"
 * import { NodeDigest, NodeMac } from "@sallyport/node"
 * import { Console, Effect, Layer } from "effect"
 *
 * // The later layers win: digests and keyed digests are those of node:crypto, the rest is the platform's.
 * const Crypto = Layer.mergeAll(NodeCrypto.layer, NodeDigest.layer, NodeMac.layer)
 *
 * const Sessions = SessionCredentialService.layer.pipe(
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(Crypto)
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
export const layer: Layer.Layer<Digest.Digest> = Layer.succeed(
  Digest.Digest,
  Digest.Digest.of({
    // A copy, because the buffer may be a view into Node's shared pool.
    digest: (algorithm, data) =>
      Effect.sync(() => new Uint8Array(NodeCrypto.hash(hashNames[algorithm.name], data, "buffer"))),
    digestHex: (algorithm, data) => Effect.sync(() => NodeCrypto.hash(hashNames[algorithm.name], data, "hex"))
  })
).pipe(Layer.merge(Layer.succeed(Sha256Hex, (text) => NodeCrypto.hash("sha256", text, "hex"))))
