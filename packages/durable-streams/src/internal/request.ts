/**
 * What the routes of streams and of subscriptions have in common.
 */
import type { Descriptor } from "@sallyport/core/access/AuthPolicy"
import type { RunOwner } from "@sallyport/core/runs/Run"
import type { Session } from "@sallyport/core/access/Session"
import { whenStopped } from "@sallyport/http/Edge"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { DurableStreamsError } from "../DurableStreams.ts"
import type { StreamSubscriptionsError } from "../StreamSubscriptions.ts"
import * as Wire from "./wire.ts"

/** Gives a session's streams to its subject. */
export const ownerOfSubject = (session: Session): RunOwner => ({ subject: session.subject })

/** Reads the body of a request, and fails with the answer to one that is too large or breaks off. */
export const bodyOf = (
  request: HttpServerRequest.HttpServerRequest,
  maxBodySize: ByteSize.ByteSize
): Effect.Effect<Uint8Array, HttpServerResponse.HttpServerResponse> => {
  const max = ByteSize.toNumberUnsafe(maxBodySize)
  // Made when it is needed: this is on the way of every append.
  const tooLarge = () => Wire.error(413, "BODY_TOO_LARGE", `A request may have up to ${max} bytes; send it in parts`)
  const length = request.headers["content-length"]
  if (length === "0") return Effect.succeed(new Uint8Array())
  if (Number(length ?? 0) > max) return Effect.fail(tooLarge())
  return request.arrayBuffer.pipe(
    Effect.map((buffer) => new Uint8Array(buffer)),
    Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize),
    Effect.mapError(({ reason }) =>
      reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"
        ? tooLarge()
        : Wire.error(400, "INVALID_REQUEST", "The body of the request could not be read; send it whole")
    )
  )
}

/** Returns the URL of the root of streams. A host that names no public URL believes the request. */
export const rootOf = (
  request: HttpServerRequest.HttpServerRequest,
  { publicUrl }: Descriptor,
  prefix: string
): string =>
  (publicUrl === undefined
    ? `${request.protocol ?? "http"}://${request.headers.host ?? "localhost"}`
    : publicUrl.origin + publicUrl.pathname.replace(/\/$/, "")) + prefix

/** Turns the failures of a handler into answers; a failure may be an answer already. */
export const answer = <R>(
  handler: Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    DurableStreamsError | StreamSubscriptionsError | HttpServerResponse.HttpServerResponse,
    R
  >
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R | HttpServerRequest.HttpServerRequest> =>
  handler.pipe(
    Effect.catch((error) =>
      HttpServerResponse.isHttpServerResponse(error) ? Effect.succeed(error) : Wire.failure(error)
    ),
    Effect.catchDefect(Wire.defect),
    whenStopped(Wire.stopped)
  )
