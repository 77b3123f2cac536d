/**
 * Answers a request of calls that is turned away: each call gets the error, as if its RPC had failed with it.
 */
import type { Forbidden, TooManyRequests, Unauthorized, Unavailable } from "@sallyport/contract/WireError"
import { boundedRequest } from "@sallyport/core/BoundedHttp"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as RpcSerialization from "effect/rpc/RpcSerialization"
import { isUpgrade } from "./origin.ts"
import * as Wire from "./wire.ts"

/** How much of a request is read to find its calls. */
const maxBytes = 64 * 1024

const idOf = (message: unknown): ReadonlyArray<unknown> =>
  Predicate.hasProperty(message, "id") && Predicate.isTagged(message, "Request")
    ? [message.id]
    : []

/**
 * Returns the answer to a request without a live session, or to one that the server stops in the middle of. What has no
 * calls in a JSON form, such as an upgrade, is answered as on any other route.
 */
export const respond = (
  error: Unauthorized | Forbidden | TooManyRequests | Unavailable,
  serialization: RpcSerialization.RpcSerialization["Service"]
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const answer = Wire.toResponse(error)
    const length = Number(request.headers["content-length"] ?? Infinity)
    if (isUpgrade(request) || !serialization.contentType.includes("json") || !(length <= maxBytes)) return answer
    const text = yield* Effect.option(boundedRequest(request).text)
    const ids = Option.flatMap(text, Option.liftThrowable((text: string) => serialization.makeUnsafe().decode(text)))
      .pipe(Option.match({ onNone: () => [], onSome: (messages) => messages.flatMap(idOf) }))
    if (ids.length === 0) return answer
    const exits = ids.map((requestId) => ({
      _tag: "Exit",
      requestId,
      exit: { _tag: "Failure", cause: [{ _tag: "Fail", error: Wire.toJson(error) }] }
    }))
    const parser = serialization.makeUnsafe()
    const body = serialization.includesFraming
      ? exits.map((exit) => parser.encode(exit)).join("")
      : String(parser.encode(exits))
    return HttpServerResponse.text(body, { status: answer.status, contentType: serialization.contentType })
  })
