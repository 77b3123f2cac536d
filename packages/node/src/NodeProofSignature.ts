/**
 * Checks the signatures of DPoP proofs on `node:crypto`, which does it in the calling thread, without WebCrypto's way
 * through the thread pool and back.
 */
import { ProofSignature, type PublicJwk, type Signatures, type Verify } from "@sallyport/core/access/ProofSignature"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createPublicKey, type KeyObject, verify } from "node:crypto"

/** What is hashed before the signature, by curve; Ed25519 hashes itself. */
const hashes: Record<PublicJwk["crv"], string | undefined> = {
  "P-256": "sha256",
  "P-384": "sha384",
  Ed25519: undefined
}

/** Imports a key once; `createPublicKey` throws where its point is not on the curve. */
const importKey = (jwk: PublicJwk): KeyObject | undefined => {
  try {
    return createPublicKey({ format: "jwk", key: { ...jwk } })
  } catch {
    return undefined
  }
}

const signatures: Signatures = {
  prepare: (_algorithm, jwk) =>
    Effect.sync((): Verify | undefined => {
      const key = importKey(jwk)
      if (key === undefined) return undefined
      const hash = hashes[jwk.crv]
      // JWS has the signature as `r || s`, where OpenSSL would expect DER.
      const options = { key, dsaEncoding: "ieee-p1363" } as const
      return (signingInput, signature) => Effect.sync(() => verify(hash, signingInput, options, signature))
    })
}

/**
 * Provides the check on `node:crypto`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.succeed(ProofSignature, signatures)
