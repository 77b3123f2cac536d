import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as NodeMac from "@sallyport/node/NodeMac"
import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const algorithms = [Mac.hmacSha1, Mac.hmacSha256, Mac.hmacSha384, Mac.hmacSha512]

describe("NodeMac", () => {
  it.effect.prop(
    "signs as @effect/platform-node does, again with the same key, and verifies",
    [Schema.Uint8Array.check(Schema.isMinLength(1)), Schema.Uint8Array, Schema.Uint8Array],
    ([bytes, first, second]) =>
      Effect.gen(function*() {
        const ours = yield* Effect.provide(Mac.Mac, NodeMac.layer)
        const theirs = yield* Effect.provide(Mac.Mac, NodeCrypto.layerMac)
        for (const algorithm of algorithms) {
          const key = yield* Mac.key(algorithm, bytes)
          for (const data of [first, second]) {
            const tag = yield* ours.sign(key, data)
            assert.deepStrictEqual(tag, yield* theirs.sign(key, data))
            assert.strictEqual(tag.buffer.byteLength, tag.length)
            assert.isTrue(yield* ours.verify(key, tag, data))
            assert.isFalse(yield* ours.verify(key, tag.map((byte, index) => index === 0 ? byte ^ 1 : byte), data))
          }
        }
      })
  )

  it.effect("keeps two keys apart", () =>
    Effect.gen(function*() {
      const mac = yield* Mac.Mac
      const [one, other] = yield* Effect.all([
        Mac.key(Mac.hmacSha256, new Uint8Array(32)),
        Mac.key(Mac.hmacSha256, new Uint8Array(32).fill(1))
      ])
      const data = new Uint8Array(4)
      assert.isFalse(yield* mac.verify(other, yield* mac.sign(one, data), data))
    }).pipe(Effect.provide(NodeMac.layer)))
})
