/**
 * Describes what goes wrong with a run. The reasons differ in what the caller can do.
 */
import * as WireError from "@sallyport/contract/WireError"
import * as Schema from "effect/Schema"
import { InvalidInput, UnexpectedAnswer, Unreachable } from "./ClientError.ts"
import { TokenStorageError } from "./TokenStorage.ts"

/**
 * Reports that the cursor is at the run's end, so nothing follows. `Runs.get` says how the run ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunEnded extends Schema.TaggedError<RunEnded>()("RunEnded", {
  runId: Schema.String,
  message: Schema.String
}) {}

/**
 * Reports that the run's events have been deleted. Show what is known, and start another run.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunExpired extends Schema.TaggedError<RunExpired>()("RunExpired", {
  runId: Schema.NullOr(Schema.String),
  message: Schema.String
}) {}

/**
 * Reports that there is no such run, or that it belongs to another user; for a key, that no run was started with it.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunUnknown extends Schema.TaggedError<RunUnknown>()("RunUnknown", {
  runId: Schema.NullOr(Schema.String),
  message: Schema.String
}) {}

/**
 * Reports that the run asks no such question. Follow the run to see which it asks.
 *
 * @category errors
 * @since 0.1.0
 */
export class QuestionUnknown extends Schema.TaggedError<QuestionUnknown>()("QuestionUnknown", {
  runId: Schema.NullOr(Schema.String),
  message: Schema.String
}) {}

/**
 * Reports that there is no session, or that it has ended. Sign in, and continue from the error's cursor.
 *
 * @category errors
 * @since 0.1.0
 */
export class SignedOut extends Schema.TaggedError<SignedOut>()("SignedOut", {
  /** `session_ended` if it ended while the run was followed; otherwise the code of the server's answer. */
  code: Schema.String,
  message: Schema.String
}) {}

/**
 * Lists the reasons of a {@link RunsError}.
 *
 * @category errors
 * @since 0.1.0
 */
export const RunsErrorReason = Schema.Union([
  RunEnded,
  RunExpired,
  RunUnknown,
  QuestionUnknown,
  SignedOut,
  WireError.Forbidden,
  Unreachable,
  WireError.Conflict,
  WireError.IdempotencyConflict,
  WireError.InvalidRequest,
  WireError.TooLarge,
  WireError.InternalError,
  InvalidInput,
  UnexpectedAnswer,
  TokenStorageError
])
/**
 * @see {@link RunsErrorReason}
 *
 * @category errors
 * @since 0.1.0
 */
export type RunsErrorReason = typeof RunsErrorReason.Type

/**
 * Reports why work with a run failed, and how far it got; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunsError extends Schema.TaggedError<RunsError>()("RunsError", {
  reason: RunsErrorReason,
  /** The runs that were attempted for this work, oldest first. The error is about the last one. */
  attemptedRunIds: Schema.Array(Schema.String),
  /** Why the last of them continued the one before; null if it is the first. */
  lastContinueReason: Schema.NullOr(Schema.String),
  /** The last event of the last run that was emitted, to continue after; 0 if there was none. */
  lastCursor: Schema.Natural,
  /** Where a reader of many runs stands, to continue after. Absent for work with one run, and before anything was emitted. */
  lastRunsCursor: Schema.optionalKey(Schema.String)
}) {
  /** The server's sentence, if the server refused. */
  override get message() {
    return this.reason.message
  }
}
