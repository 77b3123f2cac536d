import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { type CheckedProof, DpopProof, type DpopProofError } from "@sallyport/core/access/DpopProof"
import { algorithms } from "@sallyport/core/access/ProofSignature"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Address from "./address.ts"

/** What a challenge says of the proofs that are taken (RFC 9449 section 7.1). */
export const algs = algorithms.join(" ")

/** Returns the check of proofs, if the host has it and the policy in force takes proofs. */
export const offered: Effect.Effect<Option.Option<DpopProof["Service"]>, never, AuthPolicy> = Effect.gen(function*() {
  const { sessionMethods } = yield* AuthPolicy
  return sessionMethods.includes("dpop-access-token") ? yield* Effect.serviceOption(DpopProof) : Option.none()
})

/** Returns the URL that the current request was sent to, or an empty text if that is not to be told: no proof is for it. */
const requestUrl = Effect.map(
  Effect.all([Address.base, Address.target]),
  ([base, target]) => base === "" ? "" : `${base}${target}`
)

/** Sends a nonce for the next proof along with the answer to the current request (RFC 9449 section 8.2). */
const setNonce = (nonce: string) =>
  HttpEffect.appendPreResponseHandler((_request, response) =>
    Effect.succeed(HttpServerResponse.setHeader(response, "dpop-nonce", nonce))
  )

/** Checks the proof of the current request, without spending it. Whatever comes of it, a nonce that is due is sent. */
export const check = (
  dpop: DpopProof["Service"],
  accessToken: Redacted.Redacted | undefined
): Effect.Effect<CheckedProof, DpopProofError, HttpServerRequest.HttpServerRequest | AuthPolicy> =>
  Effect.gen(function*() {
    const nonce = yield* dpop.nonce
    if (Option.isSome(nonce)) yield* setNonce(nonce.value)
    const { headers, method } = yield* HttpServerRequest.HttpServerRequest
    return yield* dpop.check({ proof: headers.dpop, method, url: yield* requestUrl, accessToken })
  })
