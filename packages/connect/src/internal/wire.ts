import * as WireError from "@sallyport/contract/WireError"
import * as WireFailure from "@sallyport/contract/WireFailure"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"

/**
 * Closes the connection after the current answer. A client that waits on would otherwise ask again on it, and so hold up a
 * server that stops.
 */
export const lastAnswer = HttpEffect.appendPreResponseHandler((_request, response) =>
  Effect.succeed(HttpServerResponse.setHeader(response, "connection", "close"))
)

export const unauthorized = WireFailure.make(WireError.Unauthorized, "invalid_credential")
export const invalidRequest = WireFailure.make(WireError.InvalidRequest, "invalid_request")
export const unavailable = WireFailure.make(WireError.Unavailable, "unavailable", true)

/** Refuses a request of a caller that has as many open as it may: its own doing, and no warning for the log. */
export const busy = (reason: WireFailure.Reason) =>
  WireFailure.answer(
    "unavailable",
    reason,
    (traceId) => new WireError.Unavailable({ code: "unavailable", message: reason.message, retryable: true, traceId })
  )

/** Fails with a 404, by default that of an environment that is linked to no relay. */
export const notFound = (reason: WireFailure.Reason, code: WireError.NotFound["code"] = "connect_not_offered") =>
  WireFailure.make(WireError.NotFound, code)(reason)
