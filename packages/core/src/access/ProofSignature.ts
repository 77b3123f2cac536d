/**
 * Checks the signatures of proofs: the port through which a runtime's fastest way to do it comes in.
 *
 * Without a layer it is WebCrypto, which every JavaScript runtime has. `@sallyport/node` has one on `node:crypto`.
 */
import * as Context from "effect/Context"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"

/**
 * Lists the algorithms that are taken, all of them asymmetric (RFC 7518, RFC 8037, RFC 9864).
 *
 * @category constants
 * @since 0.1.0
 */
export const algorithms = ["ES256", "ES384", "EdDSA", "Ed25519"] as const
/**
 * @see {@link algorithms}
 *
 * @category models
 * @since 0.1.0
 */
export type Algorithm = (typeof algorithms)[number]

/**
 * Describes a public key, with the members of its JWK (RFC 7517) that RFC 7638 takes into the thumbprint, and no other.
 *
 * @category models
 * @since 0.1.0
 */
export type PublicJwk =
  | { readonly kty: "EC"; readonly crv: "P-256" | "P-384"; readonly x: string; readonly y: string }
  | { readonly kty: "OKP"; readonly crv: "Ed25519"; readonly x: string }

/**
 * Checks signatures of one key: `signature` in the form that JWS gives it, which for ECDSA is `r || s`.
 *
 * @category models
 * @since 0.1.0
 */
export type Verify = (signingInput: Uint8Array, signature: Uint8Array) => Effect.Effect<boolean>

/**
 * Describes how keys become checks of signatures.
 *
 * @category models
 * @since 0.1.0
 */
export interface Signatures {
  /**
   * Prepares a key for checking signatures, so that a caller can keep what it returns. None if the members are not
   * a valid key of the algorithm: a point that is not on the curve, for example.
   */
  readonly prepare: (algorithm: Algorithm, jwk: PublicJwk) => Effect.Effect<Option.Option<Verify>>
}

const parameters = {
  "P-256": { import: { name: "ECDSA", namedCurve: "P-256" }, verify: { name: "ECDSA", hash: "SHA-256" } },
  "P-384": { import: { name: "ECDSA", namedCurve: "P-384" }, verify: { name: "ECDSA", hash: "SHA-384" } },
  Ed25519: { import: { name: "Ed25519" }, verify: { name: "Ed25519" } }
}

const webCrypto: Signatures = {
  prepare: Effect.fnUntraced(function*(_algorithm, jwk) {
    const { subtle } = yield* WebCrypto.WebCrypto
    const { import: importParameters, verify } = parameters[jwk.crv]
    return yield* Effect.tryPromise(() => subtle.importKey("jwk", { ...jwk }, importParameters, false, ["verify"]))
      .pipe(
        Effect.map((key): Verify => (signingInput, signature) =>
          Effect.promise(() => subtle.verify(verify, key, new Uint8Array(signature), new Uint8Array(signingInput)))
        ),
        Effect.option
      )
  })
}

/**
 * Provides the check of signatures; on WebCrypto unless a layer says otherwise.
 *
 * @category services
 * @since 0.1.0
 */
export const ProofSignature: Context.Reference<Signatures> = Context.Reference(
  "@sallyport/core/access/ProofSignature",
  {
    defaultValue: () => webCrypto
  }
)
