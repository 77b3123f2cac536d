/**
 * What goes wrong between a client and its server, as values.
 *
 * What the server says is one of the contract's wire errors, with its code and its sentence for people. What it did not
 * say, because it was not reached or is not the server that was meant, is {@link Unreachable} or {@link UnexpectedAnswer}.
 * Branch on tags and codes; the sentences may change.
 */
import * as WireError from "@sallyport/contract/WireError"
import * as Schema from "effect/Schema"
import { TokenStorageError } from "./TokenStorage.ts"

/**
 * Lists how an attempt to reach the server can fail so that another one may succeed.
 *
 * @category models
 * @since 0.1.0
 */
export const FailureKind = Schema.Literals([
  /** The connection could not be made, or broke. */
  "connection",
  /** Nothing came for too long. */
  "stalled",
  /** The server, or a proxy before it, said that it cannot answer now. */
  "unavailable",
  /** What came was not what it should have been, such as the page of a captive portal, or a stream with a gap. */
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
 * Says that the server could not be reached, in as many attempts as were allowed. What was asked may have been done.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  /** How the last attempt failed. */
  failure: FailureKind,
  /** The status of the last attempt, where an answer came. */
  status: Schema.NullOr(Schema.Int),
  /** What is known of the last attempt's failure: the server's sentence where it said one. */
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
 * Says that an answer is none that this client knows, so that the address or a version is wrong.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnexpectedAnswer extends Schema.TaggedError<UnexpectedAnswer>()("UnexpectedAnswer", {
  /** The status of the answer; 0 where it was the request that failed unexpectedly. */
  status: Schema.Int,
  /** The code of the answer, where it has one that this version doesn't know. */
  code: Schema.NullOr(Schema.String),
  /** The sentence of the answer, or else one of ours. */
  message: Schema.String
}) {}

/**
 * Says that what was to be sent does not have the form that the server takes. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  message: Schema.String
}) {}

/**
 * Lists what a server answers requests for access with.
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
  WireError.OAuthError,
  WireError.OAuthTooManyRequests,
  WireError.OAuthUnavailable
])
/**
 * @see {@link ServerError}
 *
 * @category errors
 * @since 0.1.0
 */
export type ServerError = typeof ServerError.Type

/**
 * Lists what can go wrong.
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
 * Reports what went wrong with a request; callers branch on the tag of `reason`, and on its code.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClientError extends Schema.TaggedError<ClientError>()("ClientError", { reason: ClientErrorReason }) {
  /** The server's sentence, where it was the server that said no. */
  override get message() {
    return this.reason.message
  }

  /** Tells whether the same call may succeed later, without anything being done about it. */
  get isRetryable(): boolean {
    const { reason } = this
    return reason._tag === "Unreachable" || reason._tag === "OAuthUnavailable" ||
      reason._tag === "OAuthTooManyRequests" || ("retryable" in reason && reason.retryable)
  }
}
