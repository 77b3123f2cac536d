/**
 * Checks the signatures of DPoP proofs with `node:crypto`, in the calling thread. WebCrypto would go through the thread
 * pool.
 */
import { ProofSignature, type PublicJwk, type Signatures, type Verify } from "@sallyport/core/access/ProofSignature"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { createPublicKey, type KeyObject, verify } from "node:crypto"

/** The hash of the signature, by curve; Ed25519 includes its own. */
const hashes: Record<PublicJwk["crv"], string | undefined> = {
  "P-256": "sha256",
  "P-384": "sha384",
  Ed25519: undefined
}

/** Imports a key once; `createPublicKey` throws if the point is not on the curve. */
const importKey = Option.liftThrowable((jwk: PublicJwk): KeyObject =>
  createPublicKey({ format: "jwk", key: { ...jwk } })
)

const signatures: Signatures = {
  prepare: (_algorithm, jwk) =>
    Effect.sync(() =>
      Option.map(importKey(jwk), (key): Verify => {
        const hash = hashes[jwk.crv]
        // JWS encodes the signature as `r || s`; OpenSSL expects DER by default.
        const options = { key, dsaEncoding: "ieee-p1363" } as const
        return (signingInput, signature) => Effect.sync(() => verify(hash, signingInput, options, signature))
      })
    )
}

/**
 * Provides the check on `node:crypto`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.succeed(ProofSignature, signatures)
