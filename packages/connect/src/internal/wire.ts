import * as WireError from "@sallyport/contract/WireError"
import * as Effect from "effect/Effect"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Hex from "effect/encoding/Hex"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Seldom from "./seldom.ts"

/**
 * Closes the connection after the current answer. A client that waits on would otherwise ask again on it, and so hold up a
 * server that stops.
 */
export const lastAnswer = HttpEffect.appendPreResponseHandler((_request, response) =>
  Effect.succeed(HttpServerResponse.setHeader(response, "connection", "close"))
)

interface Reason {
  readonly message: string
}

const traceId = (random: SecureRandom.SecureRandom["Service"]): Effect.Effect<string> =>
  Effect.matchEffect(Effect.currentSpan, {
    onFailure: () => Effect.map(random.randomBytes(16), Hex.encode),
    onSuccess: (span) => Effect.succeed(span.traceId)
  })

/** Makes what fails with the errors of the wire. */
export const make = Effect.map(SecureRandom.SecureRandom, (random) => {
  const logUnavailable = Seldom.make("Answered unavailable", Effect.logWarning)
  return {
    unauthorized: ({ message }: Reason) =>
      Effect.flatMap(
        traceId(random),
        (traceId) =>
          Effect.fail(new WireError.Unauthorized({ code: "invalid_credential", message, retryable: false, traceId }))
      ),
    invalidRequest: ({ message }: Reason) =>
      Effect.flatMap(
        traceId(random),
        (traceId) =>
          Effect.fail(new WireError.InvalidRequest({ code: "invalid_request", message, retryable: false, traceId }))
      ),
    notFound: ({ message }: Reason, code: WireError.NotFound["code"] = "connect_not_offered") =>
      Effect.flatMap(
        traceId(random),
        (traceId) => Effect.fail(new WireError.NotFound({ code, message, retryable: false, traceId }))
      ),
    unavailable: (reason: Reason) =>
      Effect.flatMap(traceId(random), (traceId) =>
        Effect.andThen(
          logUnavailable(reason),
          Effect.fail(
            new WireError.Unavailable({ code: "unavailable", message: reason.message, retryable: true, traceId })
          )
        ))
  }
})
