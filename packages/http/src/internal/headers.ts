import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"

/** Keeps the answer to the current request out of every cache, as RFC 6749 section 5.1 asks of credentials. */
export const noStore: Effect.Effect<void, never, HttpServerRequest.HttpServerRequest> = HttpEffect
  .appendPreResponseHandler((_request, response) =>
    Effect.succeed(HttpServerResponse.setHeader(response, "cache-control", "no-store"))
  )
