/**
 * The form of answers: headers for browsers, and errors as JSON.
 */
import * as Metrics from "@sallyport/core/Metrics"
import { traceId } from "@sallyport/http/Edge"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { formatOffset } from "../DurableStream.ts"
import { DurableStreamsError, type DurableStreamsErrorReason, InvalidInput } from "../DurableStreams.ts"
import type { StreamSubscriptionsError, StreamSubscriptionsErrorReason } from "../StreamSubscriptions.ts"

/**
 * Keep a browser from guessing a type, other sites from embedding a stream, and what a client has stored from running: a
 * stream that is opened as a page is saved, and a document of one has no origin, no script and nothing to load.
 */
export const securityHeaders = {
  "x-content-type-options": "nosniff",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy": "sandbox; default-src 'none'",
  "content-disposition": "attachment"
} as const

/** Answers with an error: a code to branch on, a sentence for people, and whether a retry can help. */
export const error = (
  status: number,
  code: string,
  message: string,
  options?: {
    readonly retryable?: boolean
    readonly headers?: Readonly<Record<string, string>>
    /** What else the protocol gives with this error. */
    readonly details?: Readonly<Record<string, string | number>>
  }
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe({
    error: { code, message, retryable: options?.retryable ?? false, ...options?.details }
  }, {
    status,
    headers: { ...securityHeaders, "cache-control": "no-store", ...options?.headers }
  })

type Reason = DurableStreamsErrorReason | StreamSubscriptionsErrorReason

const statusOf: Record<Reason["_tag"], readonly [status: number, code: string]> = {
  StreamNotFound: [404, "STREAM_NOT_FOUND"],
  StreamGone: [410, "STREAM_GONE"],
  StreamConflict: [409, "STREAM_EXISTS"],
  TooManyStreams: [409, "TOO_MANY_STREAMS"],
  StreamClosed: [409, "STREAM_CLOSED"],
  ContentTypeMismatch: [409, "CONTENT_TYPE_MISMATCH"],
  SeqRegression: [409, "SEQUENCE_REGRESSION"],
  StaleEpoch: [403, "STALE_EPOCH"],
  SequenceGap: [409, "SEQUENCE_GAP"],
  InvalidInput: [400, "INVALID_REQUEST"],
  BeyondTail: [400, "OFFSET_BEYOND_TAIL"],
  SourceNotFound: [404, "SOURCE_NOT_FOUND"],
  SourceGone: [409, "SOURCE_GONE"],
  LimitExceeded: [413, "LIMIT_EXCEEDED"],
  ShuttingDown: [503, "UNAVAILABLE"],
  StorageFailure: [503, "UNAVAILABLE"],
  SubscriptionNotFound: [404, "SUBSCRIPTION_NOT_FOUND"],
  SubscriptionConflict: [409, "SUBSCRIPTION_EXISTS"],
  WebhookRejected: [400, "WEBHOOK_URL_REJECTED"],
  TooManySubscriptions: [409, "TOO_MANY_SUBSCRIPTIONS"],
  WakeFenced: [409, "FENCED"],
  TokenInvalid: [401, "TOKEN_INVALID"],
  AlreadyClaimed: [409, "ALREADY_CLAIMED"],
  NothingPending: [409, "NOTHING_PENDING"]
}

const retrySoon = { "retry-after": "1" }

const headersOf = (reason: Reason): Readonly<Record<string, string>> => {
  switch (reason._tag) {
    case "StreamClosed":
      return {
        "stream-closed": "true",
        "stream-next-offset": formatOffset({ streamId: reason.streamId, position: reason.tail })
      }
    case "StaleEpoch":
      return { "producer-epoch": String(reason.epoch) }
    case "SequenceGap":
      return { "producer-expected-seq": String(reason.expected), "producer-received-seq": String(reason.received) }
    case "ShuttingDown":
    case "StorageFailure":
      return retrySoon
    default:
      return {}
  }
}

/** Makes an answer with the trace id under which the log has its cause. */
const logged = (
  code: "internal_error" | "unavailable",
  log: Effect.Effect<void>,
  answer: (details: { readonly traceId: string }) => HttpServerResponse.HttpServerResponse
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.flatMap(traceId, (traceId) =>
    Effect.annotateLogs(log, { traceId }).pipe(
      Effect.andThen(Metrics.failures(1, { code })),
      Effect.as(answer({ traceId }))
    ))

/** Answers a request that the server does not get to the end of, because it stops. */
export const stopped: Effect.Effect<HttpServerResponse.HttpServerResponse> = Effect.sync(() =>
  error(
    503,
    "UNAVAILABLE",
    "The server shut down before it had an answer, and the request may have taken effect. Try again in a moment",
    { retryable: true, headers: retrySoon }
  )
)

/** Answers a fault of ours, and logs it. */
export const defect = (cause: unknown): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  logged(
    "internal_error",
    Effect.logError("Answered internal_error", Cause.die(cause)),
    (details) =>
      error(500, "INTERNAL_ERROR", "The server has a fault; its log has the cause, under this trace id", { details })
  )

/**
 * Answers with an error of streams or of subscriptions. A failure of the store is logged; its cause is not for the caller.
 */
export const failure = (
  { reason }: DurableStreamsError | StreamSubscriptionsError
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  const [status, code] = statusOf[reason._tag]
  const options = { retryable: status === 503, headers: headersOf(reason) }
  if (reason._tag === "StorageFailure") {
    return logged(
      "unavailable",
      Effect.logWarning("Answered unavailable", Cause.fail(reason)),
      (details) => error(status, code, reason.message, { ...options, details })
    )
  }
  const details = reason._tag === "AlreadyClaimed"
    ? { current_holder: reason.holder, generation: reason.generation }
    : {}
  return Effect.succeed(error(status, code, reason.message, { ...options, details }))
}

/** Fails with a header or a parameter that does not have its form. */
export const invalid = (field: string, expected: string): Effect.Effect<never, DurableStreamsError> =>
  Effect.fail(new DurableStreamsError({ reason: new InvalidInput({ field, expected }) }))
