import * as Metrics from "@sallyport/core/Metrics"
import * as WireError from "@sallyport/contract/WireError"
import {
  answer,
  make as failure,
  type Reason,
  traceId as currentTraceId,
  withPage
} from "@sallyport/contract/WireFailure"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpEffect from "effect/http/HttpEffect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"

/** Makes a function that fails with an error of the token endpoint. */
const oauthFailure = (error: WireError.OAuthError["error"]) => (reason: Reason) =>
  answer(error, reason, (traceId) => new WireError.OAuthError({ error, error_description: reason.message, traceId }))

/** Fails with an error of the token endpoint about a DPoP proof (RFC 9449 sections 5 and 8). */
export const oauthDpopFailure = (
  error: "invalid_dpop_proof" | "use_dpop_nonce",
  reason: Reason & { readonly serverTimeSeconds?: number }
) =>
  answer(error, reason, (traceId) =>
    new WireError.OAuthError({
      error,
      error_description: reason.message,
      traceId,
      ...(reason.serverTimeSeconds === undefined ? {} : { server_time_seconds: reason.serverTimeSeconds })
    }))

/** Says on the answer to the current request in how many seconds another one may be answered (RFC 9110 section 10.2.3). */
const retryAfter = (seconds: number) =>
  HttpEffect.appendPreResponseHandler((_request, response) =>
    Effect.succeed(HttpServerResponse.setHeader(response, "retry-after", String(seconds)))
  )

/** Keeps an answer out of every cache (RFC 6749 section 5.1). */
export const noStore = { "cache-control": "no-store", pragma: "no-cache" }

/** Says on a 503 that another request may be answered soon (RFC 9110 section 10.2.3). */
export const retrySoon = { "retry-after": "1" }

/** Returns a time to wait in whole seconds, at least one. */
const toSeconds = (millis: number): number => Math.max(1, Math.ceil(millis / 1000))

interface TooSoon extends Reason {
  readonly retryAfterMillis: number
}

/** Fails with a 429. */
export const rateLimited = (
  reason: TooSoon
): Effect.Effect<never, WireError.TooManyRequests, HttpServerRequest.HttpServerRequest> =>
  Effect.andThen(
    retryAfter(toSeconds(reason.retryAfterMillis)),
    answer("rate_limited", reason, (traceId) =>
      new WireError.TooManyRequests({
        code: "rate_limited",
        message: reason.message,
        retryable: true,
        retryAfterSeconds: toSeconds(reason.retryAfterMillis),
        traceId
      }))
  )

/** Fails with a 429 for a session that has as many connections open as it may. */
export const tooManyConnections: Effect.Effect<
  never,
  WireError.TooManyRequests,
  HttpServerRequest.HttpServerRequest
> = Effect.suspend(() => {
  const message = "This session has as many connections open as it may at once; close one of them first"
  return Effect.andThen(
    retryAfter(1),
    answer(
      "too_many_connections",
      { message },
      (traceId) =>
        new WireError.TooManyRequests({
          code: "too_many_connections",
          message,
          retryable: true,
          retryAfterSeconds: 1,
          traceId
        })
    )
  )
})

/** Fails with a 429 of the token endpoint. */
export const oauthRateLimited = (
  reason: TooSoon
): Effect.Effect<never, WireError.OAuthTooManyRequests, HttpServerRequest.HttpServerRequest> =>
  Effect.andThen(
    retryAfter(toSeconds(reason.retryAfterMillis)),
    answer("rate_limited", reason, (traceId) =>
      new WireError.OAuthTooManyRequests({
        error: "temporarily_unavailable",
        code: "rate_limited",
        error_description: reason.message,
        retry_after_seconds: toSeconds(reason.retryAfterMillis),
        traceId
      }))
  )

/** Names the trace id, as pages and programs show the sentence alone. */
const faultUnder = (traceId: string) => `The server has a fault. Its log has the cause under the trace id ${traceId}`

/** Fails with a 500, and logs the defect that the caller is not told. */
const internal = <E extends object>(error: (traceId: string) => E) => (defect: unknown): Effect.Effect<never, E> =>
  Effect.flatMap(currentTraceId, (traceId) =>
    Effect.logError("Answered internal_error", Cause.die(defect)).pipe(
      Effect.annotateLogs({ traceId }),
      Effect.andThen(Metrics.failures(1, { code: "internal_error" })),
      Effect.andThen(Effect.flatMap(withPage("internal_error", error(traceId)), Effect.fail))
    ))

export const internalError = internal((traceId) =>
  new WireError.InternalError({ code: "internal_error", message: faultUnder(traceId), retryable: false, traceId })
)
export const oauthInternalError = internal((traceId) =>
  new WireError.OAuthInternalError({
    error: "server_error",
    code: "internal_error",
    error_description: faultUnder(traceId),
    retryable: false,
    traceId
  })
)

export const oauthInvalidRequest = oauthFailure("invalid_request")
export const oauthInvalidGrant = oauthFailure("invalid_grant")
export const oauthAuthorizationPending = oauthFailure("authorization_pending")
export const oauthSlowDown = oauthFailure("slow_down")
export const oauthAccessDenied = oauthFailure("access_denied")
export const oauthExpiredToken = oauthFailure("expired_token")
export const oauthInvalidClient = oauthFailure("invalid_client")
export const oauthInvalidTarget = oauthFailure("invalid_target")
/** Fails with a 401 for a caller that does not authenticate as it has to, or that does though none can. */
export const oauthUnauthenticated = (reason: Reason) =>
  Effect.andThen(
    HttpEffect.appendPreResponseHandler((_request, response) =>
      Effect.succeed(HttpServerResponse.setHeader(response, "www-authenticate", "Basic realm=\"sallyport\""))
    ),
    answer("invalid_client", reason, (traceId) =>
      new WireError.OAuthInvalidClient({ error: "invalid_client", error_description: reason.message, traceId }))
  )
export const oauthInvalidScope = oauthFailure("invalid_scope")
export const oauthUnsupportedGrantType = oauthFailure("unsupported_grant_type")
export const oauthUnavailable = (reason: Reason) =>
  answer(
    "temporarily_unavailable",
    reason,
    (traceId) =>
      new WireError.OAuthUnavailable({ error: "temporarily_unavailable", error_description: reason.message, traceId }),
    true
  )

/** Fails with a 401 about a DPoP proof. */
export const dpopFailure = (
  code: "invalid_dpop_proof" | "use_dpop_nonce",
  reason: Reason & { readonly serverTimeSeconds?: number }
) =>
  answer(code, reason, (traceId) =>
    new WireError.Unauthorized({
      code,
      message: reason.message,
      retryable: code === "use_dpop_nonce",
      traceId,
      ...(reason.serverTimeSeconds === undefined ? {} : { serverTimeSeconds: reason.serverTimeSeconds })
    }))

export const invalidRequest = failure(WireError.InvalidRequest, "invalid_request")
export const malformedCode = failure(WireError.InvalidRequest, "malformed_code")
export const malformedCursor = failure(WireError.InvalidRequest, "malformed_cursor")
export const unauthorized = failure(WireError.Unauthorized, "unauthorized")
export const invalidCredential = ({ ended, message }: Reason & { readonly ended?: WireError.Unauthorized["ended"] }) =>
  answer("invalid_credential", { message }, (traceId) =>
    new WireError.Unauthorized({
      code: "invalid_credential",
      message,
      retryable: false,
      traceId,
      ...(ended === undefined ? {} : { ended })
    }))
const lackingScope = failure(WireError.Forbidden, "scope_required")
/** Fails with a 403 that names the scopes that a session lacks. */
export const scopeRequired = (missing: ReadonlyArray<string>) =>
  lackingScope({ message: `This needs the scope ${missing.join(", ")}, which your session does not have` })
export const scopeNotHeld = failure(WireError.Forbidden, "scope_not_held")
export const methodNotOffered = failure(WireError.Forbidden, "method_not_offered")
export const crossOrigin = failure(WireError.Forbidden, "cross_origin")
export const sessionNotFound = failure(WireError.NotFound, "session_not_found")
export const pairingLinkNotFound = failure(WireError.NotFound, "pairing_link_not_found")
export const connectClientNotFound = failure(WireError.NotFound, "connect_client_not_found")
export const connectNotOffered = failure(WireError.NotFound, "connect_not_offered")
export const connectClientAmbiguous = failure(WireError.Conflict, "connect_client_ambiguous")
export const connectRequestExpired = failure(WireError.Conflict, "connect_request_expired")
export const connectRequestChanged = failure(WireError.Conflict, "connect_request_changed")
export const scopeRequestChanged = failure(WireError.Conflict, "scope_request_changed")
export const securityModeUnreadable = failure(WireError.Conflict, "security_mode_unreadable")
export const runNotFound = failure(WireError.NotFound, "run_not_found")
export const threadNotFound = failure(WireError.NotFound, "thread_not_found")
export const questionNotFound = failure(WireError.NotFound, "question_not_found")
export const questionAnswered = failure(WireError.Conflict, "question_answered")
export const runEnded = failure(WireError.Conflict, "run_ended")
export const credentialUnknown = failure(WireError.NotFound, "credential_unknown")
export const credentialNotSet = failure(WireError.NotFound, "credential_not_set")
export const roleRequired = failure(WireError.Forbidden, "role_required")
export const noActiveOrg = failure(WireError.Conflict, "no_active_org")
export const undecryptable = failure(WireError.Conflict, "undecryptable")
export const limitExceeded = failure(WireError.TooLarge, "limit_exceeded")
export const tooManyLinks = failure(WireError.Conflict, "too_many_links")
export const tooManySessions = failure(WireError.Conflict, "too_many_sessions")
export const currentSession = failure(WireError.Conflict, "current_session")
export const tooManyRuns = failure(WireError.Conflict, "too_many_runs")
export const threadBusy = failure(WireError.Conflict, "thread_busy")
export const cursorBeyondEnd = failure(WireError.Conflict, "cursor_beyond_end")
export const cursorExpired = failure(WireError.Gone, "cursor_expired")
export const bodyTooLarge = failure(WireError.TooLarge, "body_too_large")
export const unsupportedMediaType = failure(WireError.UnsupportedMediaType, "unsupported_media_type")
export const idempotencyConflict = failure(WireError.IdempotencyConflict, "idempotency_conflict")
export const unavailable = failure(WireError.Unavailable, "unavailable", true)
/** Fails as `unavailable` does, for what has to end although nothing went wrong, and logs no warning. */
export const ending = failure(WireError.Unavailable, "unavailable", true, false)

const stopped = {
  message: "The server shut down before it had an answer, and the request may have taken effect. Try again in a moment"
}

/** Returns the answer to a request that the server does not get to the end of, because it stops. */
export const whenStopped = Effect.map(Effect.flip(ending(stopped)), (error) => toResponse(error))

const oauthStatuses = { OAuthError: 400, OAuthInvalidClient: 401, OAuthUnavailable: 503 }

const encodeOauth = Schema.encodeSync(
  Schema.Union([WireError.OAuthError, WireError.OAuthInvalidClient, WireError.OAuthUnavailable])
)

/** Returns the answer that a route without a contract gives in OAuth's form. */
export const oauthToResponse = (
  error: WireError.OAuthError | WireError.OAuthInvalidClient | WireError.OAuthUnavailable
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe(encodeOauth(error), {
    status: oauthStatuses[error._tag],
    headers: { ...noStore, ...(error._tag === "OAuthUnavailable" ? retrySoon : {}) }
  })

/** Returns the same for the token endpoint. */
export const oauthWhenStopped = Effect.map(
  Effect.flip(
    answer("temporarily_unavailable", stopped, (traceId) =>
      new WireError.OAuthUnavailable({
        error: "temporarily_unavailable",
        error_description: stopped.message,
        traceId
      }))
  ),
  oauthToResponse
)

/** How many entries a page of a list holds at most. */
export const pageSize = 200

/** Returns where the page after these entries begins, or null if there is none. `placeOf` tells of an entry where it stands. */
export const nextPage = <A>(page: ReadonlyArray<A>, placeOf: (last: A) => string): string | null => {
  const last = page.at(-1)
  return last === undefined || page.length < pageSize ? null : placeOf(last)
}

/** Writes down where an entry stands in a list that is ordered by a time and an id. */
export const placeAt = (time: DateTime.Utc, id: string): string => `${time.epochMilliseconds}.${id}`

/** Reads where an entry stands, if what is said to be its id can be one, or fails with a 400. */
export const readPlace = <Id extends string>(
  after: string | undefined,
  isId: (text: string) => text is Id
): Effect.Effect<{ readonly time: DateTime.Utc; readonly id: Id } | undefined, WireError.InvalidRequest> => {
  if (after === undefined) return Effect.succeed(undefined)
  const [, millis, id] = /^(\d{1,15})\.(.+)$/.exec(after) ?? []
  return millis === undefined || id === undefined || !isId(id)
    ? malformedCursor({ message: `${JSON.stringify(after)} is not the next of a page; give that, or none` })
    : Effect.succeed({ time: DateTime.makeUnsafe(Number(millis)), id })
}

/** The errors of a request that is turned away, with which status each is answered. */
export const statusByTag = {
  InvalidRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  TooLarge: 413,
  TooManyRequests: 429,
  InternalError: 500,
  Unavailable: 503
} as const

type TurnedAway =
  | WireError.Unauthorized
  | WireError.Forbidden
  | WireError.TooLarge
  | WireError.TooManyRequests
  | WireError.InternalError
  | WireError.Unavailable

/** Encodes the error of a request that is turned away. */
export const toJson = Schema.encodeSync(
  Schema.Union([
    WireError.Unauthorized,
    WireError.Forbidden,
    WireError.TooLarge,
    WireError.TooManyRequests,
    WireError.InternalError,
    WireError.Unavailable
  ])
)

/** Returns the answer that a route without a contract gives for an error. */
export const toResponse = (error: TurnedAway): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe(toJson(error), {
    status: statusByTag[error._tag],
    headers: error._tag === "Unavailable" ? retrySoon : {}
  })

const slots: Record<HttpApiError.HttpApiSchemaError["kind"], string> = {
  Params: "path",
  Headers: "headers",
  Query: "query",
  Payload: "body",
  Body: "response",
  ResponseHeaders: "response headers"
}

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** Says which part of a request does not decode, by the paths of its fields. Their values stay out: they may be secret. */
export const describeSchemaError = (error: HttpApiError.HttpApiSchemaError): string => {
  const paths = new Set(
    formatIssue(error.cause.issue).issues.map(({ path }) => path?.map(String).join(".") ?? "").filter((path) =>
      path !== ""
    )
  )
  const part = slots[error.kind]
  return paths.size === 0
    ? `The ${part} of the request does not have the form that this endpoint takes`
    : `In the ${part} of the request, this is missing or malformed: ${Array.from(paths).join(", ")}`
}
