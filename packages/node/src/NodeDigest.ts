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
