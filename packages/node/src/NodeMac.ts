/**
 * Provides `Mac` on `node:crypto` with keys that are prepared once.
 *
 * `@effect/platform-node` gives Node the bytes of the key at every call, and Node makes a key object of them each time. With the
 * object kept, an HMAC of a token's length takes about half the time.
 */
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Layer from "effect/Layer"
import * as NodeCrypto from "node:crypto"

const hashNames = {
  "MD5": "md5",
  "SHA-1": "sha1",
  "SHA-256": "sha256",
  "SHA-384": "sha384",
  "SHA-512": "sha512"
} as const

/**
 * Provides `Mac`, synchronous for keys made of bytes, and with the same output as every other layer of it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Mac.Mac> = Layer.suspend(() => {
  // A key hands out the same array at each call, and never changes it. When the key is gone, so is the object.
  const prepared = new WeakMap<Uint8Array, NodeCrypto.KeyObject>()
  return Mac.layerWebCryptoWith({
    hmac: (hash, key, data) => {
      let keyObject = prepared.get(key)
      if (keyObject === undefined) {
        keyObject = NodeCrypto.createSecretKey(key)
        prepared.set(key, keyObject)
      }
      // A copy, because the buffer may be a view into Node's shared pool.
      return new Uint8Array(NodeCrypto.createHmac(hashNames[hash], keyObject).update(data).digest())
    }
  })
}).pipe(Layer.provide(SecureRandom.layerWebCrypto))
