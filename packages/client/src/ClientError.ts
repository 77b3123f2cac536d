/**
 * Describes as values what goes wrong between a client and its server.
 *
 * An error from the server is one of the contract's wire errors, with its code and its sentence for people. A server
 * that was not reached, or an answer from something else, is {@link Unreachable} or {@link UnexpectedAnswer}. Branch on
 * tags and codes; the sentences may change.
 */
import * as WireError from "@sallyport/contract/WireError"
import * as Schema from "effect/Schema"
import { TokenStorageError } from "./TokenStorage.ts"

/**
 * Lists the failures of an attempt to reach the server after which another attempt may succeed.
 *
 * @category models
 * @since 0.1.0
 */
export const FailureKind = Schema.Literals([
  /** The connection could not be made, or broke. */
  "connection",
  /** No data arrived for too long. */
  "stalled",
  /** The server, or a proxy before it, said that it cannot answer now. */
  "unavailable",
  /** The answer was not one of the server's, such as the page of a captive portal, or a stream with a gap. */
  "garbled"
])
/**
 * @see {@link FailureKind}
 *
 * @category models
 * @since 0.1.0
 */
export type FailureKind = typeof FailureKind.Type

/**
 * Reports that the server could not be reached in the allowed number of attempts. The request may have taken effect.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  /** How the last attempt failed. */
  failure: FailureKind,
  /** The status of the last attempt, if there was an answer. */
  status: Schema.NullOr(Schema.Int),
  /** What is known of the last attempt's failure: the server's sentence, if it sent one. */
  detail: Schema.String,
  attempts: Schema.Natural,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    const tried = this.attempts === 1 ? "" : ` in ${this.attempts} attempts`
    return `The server could not be reached${tried}: ${this.detail}; check the network, and try again`
  }
}

/**
 * Reports an answer that this client does not know: the address or a version is wrong.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnexpectedAnswer extends Schema.TaggedError<UnexpectedAnswer>()("UnexpectedAnswer", {
  /** The status of the answer; 0 if there was none, as the request itself failed unexpectedly. */
  status: Schema.Int,
  /** The code of the answer, if it has one that this version does not know. */
  code: Schema.NullOr(Schema.String),
  /** The sentence of the answer, or one of this client's. */
  message: Schema.String
}) {}

/**
 * Reports input that does not have the form that the server takes. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  message: Schema.String
}) {}

/**
 * Lists the errors that a server answers to requests for access.
 *
 * @category models
 * @since 0.1.0
 */
export const ServerError = Schema.Union([
  WireError.InvalidRequest,
  WireError.Unauthorized,
  WireError.Forbidden,
  WireError.NotFound,
  WireError.Conflict,
  WireError.Gone,
  WireError.TooLarge,
  WireError.UnsupportedMediaType,
  WireError.IdempotencyConflict,
  WireError.TooManyRequests,
  WireError.Unavailable,
  WireError.InternalError,
  WireError.OAuthError,
  WireError.OAuthInvalidClient,
  WireError.OAuthTooManyRequests,
  WireError.OAuthUnavailable,
  WireError.OAuthInternalError
])
/**
 * @see {@link ServerError}
 *
 * @category errors
 * @since 0.1.0
 */
export type ServerError = typeof ServerError.Type

/**
 * Lists the reasons of a {@link ClientError}.
 *
 * @category errors
 * @since 0.1.0
 */
export const ClientErrorReason = Schema.Union([
  ...ServerError.members,
  Unreachable,
  UnexpectedAnswer,
  InvalidInput,
  TokenStorageError
])
/**
 * @see {@link ClientErrorReason}
 *
 * @category errors
 * @since 0.1.0
 */
export type ClientErrorReason = typeof ClientErrorReason.Type

/**
 * Reports why a request failed; callers branch on the tag of `reason`, and on its code.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClientError extends Schema.TaggedError<ClientError>()("ClientError", { reason: ClientErrorReason }) {
  /** The server's sentence, if the server refused. */
  override get message() {
    return this.reason.message
  }

  /** Whether the same call may succeed later without any change. */
  get isRetryable(): boolean {
    const { reason } = this
    return reason._tag === "Unreachable" || reason._tag === "OAuthUnavailable" ||
      reason._tag === "OAuthTooManyRequests" || ("retryable" in reason && reason.retryable)
  }
}
