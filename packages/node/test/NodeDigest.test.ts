import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as NodeDigest from "@sallyport/node/NodeDigest"
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const algorithms = [Digest.md5, Digest.sha1, Digest.sha256, Digest.sha384, Digest.sha512]

describe("NodeDigest", () => {
  it.effect.prop("gives the output of @effect/platform-node", [Schema.Uint8Array], ([data]) =>
    Effect.gen(function*() {
      const ours = yield* Effect.provide(Digest.Digest, NodeDigest.layer)
      const theirs = yield* Effect.provide(Digest.Digest, NodeCrypto.layerDigest)
      for (const algorithm of algorithms) {
        const bytes = yield* ours.digest(algorithm, data)
        assert.deepStrictEqual(bytes, yield* theirs.digest(algorithm, data))
        // Not a view of a pool that other requests write to.
        assert.strictEqual(bytes.buffer.byteLength, bytes.length)
        assert.strictEqual(yield* ours.digestHex(algorithm, data), yield* theirs.digestHex(algorithm, data))
      }
    }))
})
