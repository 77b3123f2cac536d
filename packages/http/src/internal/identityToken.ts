/**
 * ID tokens (OpenID Connect Core 1.0 sections 2 and 3.1.3.7), checked with `jose`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Jose from "jose"
import { IdentityRefused, type Problem } from "./identityErrors.ts"
import type { IssuerSettings } from "./identityOptions.ts"
import type { IssuerKeys, KeysUnavailable } from "./issuerKeys.ts"

/** Bounds a token; one that lists 200 groups has some 10,000 characters. */
const maxLength = 16_384

const form = /^[\w-]+\.[\w-]+\.[\w-]+$/

/** Runs what `jose` throws from. */
const attempt = <A>(read: () => A): Effect.Effect<A, IdentityRefused> =>
  Effect.try({ try: read, catch: () => new IdentityRefused({ problem: "malformed" }) })

/** A token that was checked. */
export interface CheckedToken {
  readonly subject: string
  readonly claims: Jose.JWTPayload
  /** What makes it the only one of its kind: its `jti`, or what is signed of it. */
  readonly mark: string
  /** When it is no good any more by any clock that may differ from ours so much. */
  readonly endMillis: number
}

/** Makes what reads and checks tokens, with a module that is loaded by those who have issuers. */
export const make = ({ decodeJwt, decodeProtectedHeader, errors, jwtVerify }: typeof Jose) => {
  /** Reads who a token says that it is from, without believing it. */
  const issuerOf = Effect.fnUntraced(function*(token: string) {
    if (token.length > maxLength || !form.test(token)) return yield* new IdentityRefused({ problem: "malformed" })
    return (yield* attempt(() => decodeJwt(token))).iss
  })

  /** Returns what `jose` found to be wrong. */
  const problemOf = (error: unknown): Problem => {
    if (error instanceof errors.JWTExpired) return "expired"
    if (error instanceof errors.JWSSignatureVerificationFailed) return "bad-signature"
    if (!(error instanceof errors.JWTClaimValidationFailed)) return "malformed"
    if (error.reason === "missing") return "missing-claim"
    if (error.claim === "aud") return "wrong-audience"
    return error.reason === "check_failed" && (error.claim === "nbf" || error.claim === "iat")
      ? "from-the-future"
      : "invalid-claim"
  }

  /** Checks a token of an issuer. Its times may be wrong by `skewMillis`. */
  const check = Effect.fnUntraced(function*(
    token: string,
    { algorithms, audiences, authorizedParties, issuer, keys }: IssuerSettings & { readonly keys: IssuerKeys },
    { maxAgeMillis, skewMillis }: { readonly maxAgeMillis: number; readonly skewMillis: number }
  ): Effect.fn.Return<CheckedToken, IdentityRefused | KeysUnavailable> {
    const refuse = (problem: Problem) => new IdentityRefused({ problem })
    const header = yield* attempt(() => decodeProtectedHeader(token))
    // Before any key is asked for.
    if (!algorithms.some((algorithm) => algorithm === header.alg)) return yield* refuse("unsupported-alg")
    // An access token, or another kind of JWT, says so (RFC 8725 section 3.11).
    if (header.typ !== undefined && header.typ.toUpperCase() !== "JWT") return yield* refuse("wrong-type")
    const key = Option.getOrUndefined(yield* keys.find(header))
    if (key === undefined) return yield* refuse("unknown-key")
    const options: Jose.JWTVerifyOptions = {
      algorithms: [...algorithms],
      issuer,
      audience: [...audiences],
      requiredClaims: ["sub", "iat", "exp"],
      clockTolerance: skewMillis / 1000,
      maxTokenAge: maxAgeMillis / 1000,
      currentDate: new Date(yield* Clock.currentTimeMillis)
    }
    const { payload } = yield* Effect.tryPromise({
      try: () => jwtVerify(token, key, options),
      catch: (error) => refuse(problemOf(error))
    })
    const { aud = [], exp = 0, iat = 0, jti, sub } = payload
    if (typeof sub !== "string" || sub === "") return yield* refuse("invalid-claim")
    if (jti !== undefined && (typeof jti !== "string" || jti === "")) return yield* refuse("invalid-claim")
    const named = typeof aud === "string" ? [aud] : aud
    if (!named.every((one) => audiences.includes(one))) return yield* refuse("wrong-audience")
    const { azp } = payload
    if (azp === undefined ? named.length > 1 : !authorizedParties.some((party) => party === azp)) {
      return yield* refuse("wrong-party")
    }
    return {
      subject: sub,
      claims: payload,
      mark: jti === undefined ? `token:${token.slice(0, token.lastIndexOf("."))}` : `jti:${jti}`,
      // Another process, whose clock is behind, takes it for that much longer.
      endMillis: Math.ceil(Math.min(exp * 1000, iat * 1000 + maxAgeMillis)) + 2 * skewMillis + 1
    }
  })

  return { issuerOf, check }
}
