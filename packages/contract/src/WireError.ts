/**
 * Describes the errors of the HTTP surface: tagged JSON with a `code` to branch on, a sentence for people, whether a
 * retry can help, and the id under which the server traced the request. Clients branch on tags and codes, never on
 * text.
 */
import * as Schema from "effect/Schema"

const fields = <const Codes extends ReadonlyArray<string>>(codes: Codes) => ({
  code: Schema.Literals(codes),
  message: Schema.String,
  retryable: Schema.Boolean,
  /** The W3C trace id of the request, 32 hexadecimal digits. */
  traceId: Schema.String,
  /** The address of the page about the code, if the host has named `WireFailure.ErrorPages`. */
  docs: Schema.optionalKey(Schema.String)
})

/** The address of the page about an error of the token endpoint (RFC 6749 section 5.2), as `docs` is elsewhere. */
const errorUri = { error_uri: Schema.optionalKey(Schema.String) }

/**
 * Answers 400: the request does not have the form that the endpoint takes. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()(
  "InvalidRequest",
  fields(["invalid_request", "malformed_code", "malformed_cursor"]),
  { httpApiStatus: 400 }
) {}

/**
 * Answers 401: there is no credential, or it is not accepted.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()(
  "Unauthorized",
  {
    ...fields(["unauthorized", "invalid_credential", "invalid_dpop_proof", "use_dpop_nonce"]),
    /** How a pairing code that did exist has ended, for a day after its end. */
    ended: Schema.optionalKey(Schema.Literals(["used", "expired", "revoked"])),
    /** The server's time, in seconds since the epoch, if the proof may come from a client with a wrong clock. */
    serverTimeSeconds: Schema.optionalKey(Schema.Natural)
  },
  { httpApiStatus: 401 }
) {}

/**
 * Answers 403: the session is good, but it may not do this, or not from this page.
 *
 * @category errors
 * @since 0.1.0
 */
export class Forbidden extends Schema.TaggedError<Forbidden>()(
  "Forbidden",
  fields([
    "scope_required",
    "scope_not_held",
    "scope_not_granted",
    "role_required",
    "cross_origin",
    "method_not_offered"
  ]),
  { httpApiStatus: 403 }
) {}

/**
 * Answers 404: there is no such resource, or it belongs to another user.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotFound extends Schema.TaggedError<NotFound>()(
  "NotFound",
  fields([
    "session_not_found",
    "pairing_link_not_found",
    "connect_client_not_found",
    "connect_not_offered",
    "run_not_found",
    "thread_not_found",
    "question_not_found",
    "page_not_found",
    "credential_unknown",
    "credential_not_set"
  ]),
  { httpApiStatus: 404 }
) {}

/**
 * Answers 409: the request is well-formed, but the present state does not allow it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Conflict extends Schema.TaggedError<Conflict>()(
  "Conflict",
  fields([
    "connect_client_ambiguous",
    "connect_request_expired",
    "connect_request_changed",
    "scope_request_changed",
    "security_mode_unreadable",
    "current_session",
    "too_many_links",
    "too_many_sessions",
    "too_many_runs",
    "thread_busy",
    "cursor_beyond_end",
    "run_ended",
    "question_answered",
    "no_active_org",
    "undecryptable"
  ]),
  { httpApiStatus: 409 }
) {}

/**
 * Answers 410: the resource existed, and is no longer kept.
 *
 * @category errors
 * @since 0.1.0
 */
export class Gone extends Schema.TaggedError<Gone>()("Gone", fields(["cursor_expired"]), { httpApiStatus: 410 }) {}

/**
 * Answers 413: the request, or what it adds to, is larger than the server takes.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLarge extends Schema.TaggedError<TooLarge>()(
  "TooLarge",
  fields(["body_too_large", "limit_exceeded"]),
  { httpApiStatus: 413 }
) {}

/**
 * Answers 415: the body is of a media type that the endpoint does not take. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedMediaType extends Schema.TaggedError<UnsupportedMediaType>()(
  "UnsupportedMediaType",
  fields(["unsupported_media_type"]),
  { httpApiStatus: 415 }
) {}

/**
 * Answers 422: the idempotency key was used before, for another request.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>()(
  "IdempotencyConflict",
  fields(["idempotency_conflict"]),
  { httpApiStatus: 422 }
) {}

/**
 * Answers 429: there were too many wrong codes, connections of the session, or requests for scopes. `Retry-After` says in how
 * many seconds to try again.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyRequests extends Schema.TaggedError<TooManyRequests>()(
  "TooManyRequests",
  {
    ...fields(["rate_limited", "too_many_connections"]),
    /** In how many seconds to try again, as `Retry-After` says. */
    retryAfterSeconds: Schema.optionalKey(Schema.Natural)
  },
  { httpApiStatus: 429 }
) {}

/**
 * Answers 503: the server cannot answer at the moment; it is not the request's fault.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", fields(["unavailable"]), {
  httpApiStatus: 503
}) {}

/**
 * Answers 500: the server has a fault of its own. Its log has the cause, under the same trace id.
 *
 * @category errors
 * @since 0.1.0
 */
export class InternalError extends Schema.TaggedError<InternalError>()("InternalError", fields(["internal_error"]), {
  httpApiStatus: 500
}) {}

/**
 * Answers 400 at the token endpoint, in the form that OAuth clients know (RFC 6749 section 5.2).
 *
 * @category errors
 * @since 0.1.0
 */
export class OAuthError extends Schema.TaggedError<OAuthError>()("OAuthError", {
  error: Schema.Literals([
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "invalid_target",
    "unsupported_grant_type",
    "authorization_pending",
    "slow_down",
    "access_denied",
    "expired_token",
    "invalid_dpop_proof",
    "use_dpop_nonce"
  ]),
  error_description: Schema.String,
  ...errorUri,
  /** The server's time, in seconds since the epoch, if the proof may come from a client with a wrong clock. */
  server_time_seconds: Schema.optionalKey(Schema.Natural),
  traceId: Schema.String
}, { httpApiStatus: 400 }) {
  override get message() {
    return this.error_description
  }
}

/**
 * Answers 429 at the token endpoint: there were too many wrong codes. `Retry-After` says in how many seconds to try again.
 *
 * @category errors
 * @since 0.1.0
 */
export class OAuthTooManyRequests extends Schema.TaggedError<OAuthTooManyRequests>()("OAuthTooManyRequests", {
  /** OAuth names no code for this. This one says what to do: send the same request later. */
  error: Schema.Literal("temporarily_unavailable"),
  code: Schema.Literal("rate_limited"),
  error_description: Schema.String,
  ...errorUri,
  /** In how many seconds to try again, as `Retry-After` says. */
  retry_after_seconds: Schema.optionalKey(Schema.Natural),
  traceId: Schema.String
}, { httpApiStatus: 429 }) {
  override get message() {
    return this.error_description
  }
}

/**
 * Answers 401 in the form of {@link OAuthError}. At the token endpoint the request has an `Authorization` header, and clients
 * here have nothing to authenticate with. At the introspection endpoint it does not come from the server of a resource.
 *
 * @category errors
 * @since 0.1.0
 */
export class OAuthInvalidClient extends Schema.TaggedError<OAuthInvalidClient>()("OAuthInvalidClient", {
  error: Schema.Literal("invalid_client"),
  error_description: Schema.String,
  ...errorUri,
  traceId: Schema.String
}, { httpApiStatus: 401 }) {
  override get message() {
    return this.error_description
  }
}

/**
 * Answers 503 at the token endpoint, in the form of {@link OAuthError}: the server cannot answer at the moment, and the
 * same request can be made again.
 *
 * @category errors
 * @since 0.1.0
 */
export class OAuthUnavailable extends Schema.TaggedError<OAuthUnavailable>()("OAuthUnavailable", {
  error: Schema.Literal("temporarily_unavailable"),
  error_description: Schema.String,
  ...errorUri,
  traceId: Schema.String
}, { httpApiStatus: 503 }) {
  override get message() {
    return this.error_description
  }
}

/**
 * Answers 500 at the token endpoint, in the form of {@link OAuthError}: the server has a fault of its own. Its log has the
 * cause, under the same trace id.
 *
 * @category errors
 * @since 0.1.0
 */
export class OAuthInternalError extends Schema.TaggedError<OAuthInternalError>()("OAuthInternalError", {
  /** OAuth names no code for this at the token endpoint; this one is that of the authorization endpoint. */
  error: Schema.Literal("server_error"),
  code: Schema.Literal("internal_error"),
  error_description: Schema.String,
  ...errorUri,
  retryable: Schema.Literal(false),
  traceId: Schema.String
}, { httpApiStatus: 500 }) {
  override get message() {
    return this.error_description
  }
}
