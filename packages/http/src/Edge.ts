/**
 * What every request passes first and every answer passes last, whatever route of the router it is for.
 */
import * as Metrics from "@sallyport/core/Metrics"
import { AuthPolicy, type Descriptor } from "@sallyport/core/access/AuthPolicy"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as WireFailure from "@sallyport/contract/WireFailure"
import * as ClosableUpgrade from "./internal/closableUpgrade.ts"
import * as Hosts from "./internal/hosts.ts"
import * as Wire from "./internal/wire.ts"

/**
 * Returns the trace id of the current request, or one of its own if no tracer follows it, the same each time: an answer to a
 * fault tells it, and the log has the cause under it.
 *
 * @category getters
 * @since 0.1.0
 */
export const traceId: Effect.Effect<string> = WireFailure.traceId

/**
 * Makes a function that adds what a browser has to be told on every answer: to take it for what it says it is, not to tell
 * its address to other sites, and, under `remote-reachable`, to come back over TLS only. What the answer says itself of the
 * last two stays.
 *
 * @category responses
 * @since 0.1.0
 */
export const harden = (
  policy: Descriptor
): (response: HttpServerResponse.HttpServerResponse) => HttpServerResponse.HttpServerResponse => {
  const isRemote = policy.kind === "remote-reachable"
  return (response) => {
    const headers: Record<string, string> = { "x-content-type-options": "nosniff" }
    if (response.headers["referrer-policy"] === undefined) headers["referrer-policy"] = "same-origin"
    if (isRemote && response.headers["strict-transport-security"] === undefined) {
      headers["strict-transport-security"] = "max-age=31536000"
    }
    return HttpServerResponse.setHeaders(response, headers)
  }
}

/**
 * Answers a request that is interrupted because the server stops, which `effect/http` answers with an empty 503. The answer is
 * in the form of the route.
 *
 * @category responses
 * @since 0.1.0
 */
export const whenStopped =
  (answer: Effect.Effect<HttpServerResponse.HttpServerResponse>) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | HttpServerRequest.HttpServerRequest> =>
    Effect.onInterrupt(self, () =>
      HttpEffect.appendPreResponseHandler((_request, response) =>
        // A client that has left gets no answer.
        response.status === 503 && response.body._tag === "Empty"
          ? Effect.map(answer, (typed) => HttpServerResponse.setHeaders(typed, response.headers))
          : Effect.succeed(response)
      ))

/** Returns the one form of an address: IPv4 is not written as IPv6, and without a zone. */
const canonical = (text: string): string => {
  if (!text.includes(":")) return text
  const parsed = NetAddress.ipFromString(text.replace(/%.*/s, ""))
  return Result.isSuccess(parsed) ? NetAddress.formatIp(NetAddress.toCanonical(parsed.success)) : text
}

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

/** Records how long the current request takes. A WebSocket is a connection, and counted as one. */
const measured = Effect.flatMap(
  Clock.monotonicTimeNanos,
  (began) =>
    HttpEffect.appendPreResponseHandler((request, response) =>
      request.headers.upgrade === undefined
        ? Effect.flatMap(Clock.monotonicTimeNanos, (ended) =>
          Effect.as(
            Metrics.requests(Number(ended - began) / 1e9, {
              method: methods.has(request.method) ? request.method : "other",
              status: String(response.status)
            }),
            response
          ))
        : Effect.succeed(response)
    )
)

/** Answers a fault that its route has no answer for, and logs it under the trace id that the answer tells. */
const answerFault = <E>(cause: Cause.Cause<E>): Effect.Effect<HttpServerResponse.HttpServerResponse, E> =>
  Cause.hasInterrupts(cause) || ClosableUpgrade.isClientClose(cause)
    ? Effect.failCause(cause)
    : Effect.flatMap(
      HttpServerError.causeResponse(cause),
      ([response]) =>
        response.status >= 500 && response.body._tag === "Empty"
          ? Effect.map(Effect.flip(Wire.internalError(Cause.squash(cause))), Wire.toResponse)
          : Effect.failCause(cause)
    )

/** Tells the log of a fault that cuts an answer off. Its client has had the head, and can be told no more. */
const watchBody = (
  response: HttpServerResponse.HttpServerResponse,
  untraced: typeof WireFailure.UntracedRequest.Service
): HttpServerResponse.HttpServerResponse => {
  const { body } = response
  if (body._tag !== "Stream") return response
  const watched = Stream.onError(
    body.stream,
    (cause) =>
      Cause.hasInterrupts(cause) ?
        Effect.void :
        Effect.flatMap(
          traceId,
          (traceId) => Effect.annotateLogs(Effect.logError("A fault cut an answer off", cause), { traceId })
        )
  ).pipe(Stream.provideService(WireFailure.UntracedRequest, untraced))
  return HttpServerResponse.setBody(response, HttpBody.stream(watched, body.contentType, body.contentLength))
}

/**
 * Guards the whole router: a request to a name that is not the server's is refused, each client's address has one form,
 * and no answer, an error or a 404 among them, goes without the headers of {@link harden}. A fault that a route has no answer
 * for, a host's own among them, is a 500 with the trace id under which the log has it. A request that the server does not get
 * to the end of, because it stops, is a typed 503 on every route. `Sallyport.layer` has it; a host that mounts the groups one
 * by one adds it beside them.
 *
 * **Details**
 *
 * A server on a loopback address answers to the names of such addresses and to that of its public URL. A page elsewhere
 * can point its own name at 127.0.0.1, and for its browser is then a page of this server.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, HttpRouter.HttpRouter | AuthPolicy> = HttpRouter.middleware(
  Effect.map(Effect.all([AuthPolicy, WireFailure.ErrorPages]), ([policy, errorPages]) => {
    const hardening = harden(policy)
    const checkHost = Hosts.check(policy)
    return (httpEffect) =>
      Effect.suspend(() => {
        const untraced = {}
        const onAnswer = HttpEffect.appendPreResponseHandler((_request, response) =>
          Effect.succeed(hardening(watchBody(response, untraced)))
        )
        const app = Effect.updateService(httpEffect, HttpServerRequest.HttpServerRequest, (request) => {
          const remoteAddress = Option.map(request.remoteAddress, canonical)
          return Option.getOrUndefined(remoteAddress) === Option.getOrUndefined(request.remoteAddress)
            ? request
            : request.modify({ remoteAddress, peerAddress: request.peerAddress })
        })
        return Effect.andThen(
          Effect.andThen(measured, onAnswer),
          Effect.matchEffect(checkHost, {
            onFailure: (error) => Effect.succeed(Wire.toResponse(error)),
            onSuccess: () => whenStopped(Wire.whenStopped)(Effect.catchCause(app, answerFault))
          })
        ).pipe(
          Effect.provideService(WireFailure.UntracedRequest, untraced),
          Effect.provideService(WireFailure.ErrorPages, errorPages)
        )
      })
  }),
  { global: true }
)
