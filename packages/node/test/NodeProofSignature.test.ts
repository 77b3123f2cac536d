import { assert, describe, it } from "@effect/vitest"
import * as ProofSignature from "@sallyport/core/access/ProofSignature"
import * as NodeProofSignature from "@sallyport/node/NodeProofSignature"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { generateKeyPairSync, sign } from "node:crypto"

const input = new TextEncoder().encode("header.payload")

const makeKey = (algorithm: ProofSignature.Algorithm) => {
  const { privateKey, publicKey } = algorithm === "ES256" || algorithm === "ES384"
    ? generateKeyPairSync("ec", { namedCurve: algorithm === "ES256" ? "P-256" : "P-384" })
    : generateKeyPairSync("ed25519")
  const { x = "", y = "" } = publicKey.export({ format: "jwk" })
  const jwk: ProofSignature.PublicJwk = algorithm === "ES256"
    ? { kty: "EC", crv: "P-256", x, y }
    : algorithm === "ES384"
    ? { kty: "EC", crv: "P-384", x, y }
    : { kty: "OKP", crv: "Ed25519", x }
  const hash = algorithm === "ES256" ? "sha256" : algorithm === "ES384" ? "sha384" : undefined
  return { jwk, signature: sign(hash, input, { key: privateKey, dsaEncoding: "ieee-p1363" }) }
}

const implementations = {
  "node:crypto": NodeProofSignature.layer,
  WebCrypto: Layer.empty
}

describe("the check of proofs' signatures", () => {
  for (const [name, layer] of Object.entries(implementations)) {
    for (const algorithm of ProofSignature.algorithms) {
      it.effect(`SESS-10: on ${name} takes what the key has signed with ${algorithm}, and nothing else`, () =>
        Effect.gen(function*() {
          const signatures = yield* ProofSignature.ProofSignature
          const { jwk, signature } = makeKey(algorithm)
          const verify = yield* Effect.fromOption(yield* signatures.prepare(algorithm, jwk))
          assert.isTrue(yield* verify(input, signature))
          assert.isTrue(yield* verify(input, signature))
          const other = new Uint8Array(signature)
          other[10] = (other[10] ?? 0) ^ 1
          const wrong = [
            other,
            signature.subarray(0, -1),
            new Uint8Array([...signature, 0]),
            new Uint8Array(0),
            new Uint8Array(signature.length),
            makeKey(algorithm).signature
          ]
          for (const bytes of wrong) assert.isFalse(yield* verify(input, bytes))
          assert.isFalse(yield* verify(new TextEncoder().encode("header.payloae"), signature))
        }).pipe(Effect.provide(layer)))
    }

    it.effect(`on ${name} refuses a point that is not on the curve`, () =>
      Effect.gen(function*() {
        const signatures = yield* ProofSignature.ProofSignature
        const { x } = makeKey("ES256").jwk
        const zero = Buffer.alloc(32).toString("base64url")
        assert.deepStrictEqual(Option.none(), yield* signatures.prepare("ES256", { kty: "EC", crv: "P-256", x, y: x }))
        assert.deepStrictEqual(
          Option.none(),
          yield* signatures.prepare("ES256", { kty: "EC", crv: "P-256", x: zero, y: zero })
        )
      }).pipe(Effect.provide(layer)))
  }
})
