/**
 * What goes wrong with a run, told apart by what to do about it.
 */
import * as WireError from "@sallyport/contract/WireError"
import * as Schema from "effect/Schema"
import { InvalidInput, UnexpectedAnswer, Unreachable } from "./ClientError.ts"
import { TokenStorageError } from "./TokenStorage.ts"

/**
 * Says that the run had ended before the cursor, so that nothing follows. `Runs.get` tells how it ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunEnded extends Schema.TaggedError<RunEnded>()("RunEnded", {
  runId: Schema.String,
  message: Schema.String
}) {}

/**
 * Says that the run's events have been deleted. They don't come back: show what is known, and start anew.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunExpired extends Schema.TaggedError<RunExpired>()("RunExpired", {
  runId: Schema.NullOr(Schema.String),
  message: Schema.String
}) {}

/**
 * Says that there is no such run, or that it is somebody else's; by key, that nothing was started with it.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunUnknown extends Schema.TaggedError<RunUnknown>()("RunUnknown", {
  runId: Schema.NullOr(Schema.String),
  message: Schema.String
}) {}

/**
 * Says that there is no session, or that it has ended. Sign in, and go on from the error's cursor.
 *
 * @category errors
 * @since 0.1.0
 */
export class SignedOut extends Schema.TaggedError<SignedOut>()("SignedOut", {
  /** `session_ended` where it ended while the run was followed; else the code of the server's answer. */
  code: Schema.String,
  message: Schema.String
}) {}

/**
 * Lists what can go wrong.
 *
 * @category errors
 * @since 0.1.0
 */
export const RunsErrorReason = Schema.Union([
  RunEnded,
  RunExpired,
  RunUnknown,
  SignedOut,
  WireError.Forbidden,
  Unreachable,
  WireError.Conflict,
  WireError.IdempotencyConflict,
  WireError.InvalidRequest,
  WireError.TooLarge,
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
 * Reports what went wrong with a run, and how far it got; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunsError extends Schema.TaggedError<RunsError>()("RunsError", {
  reason: RunsErrorReason,
  /** The runs that were attempted for this work, the oldest first; the last is the one that this is about. */
  attemptedRunIds: Schema.Array(Schema.String),
  /** Why the last of them continued the one before; null where it is the first. */
  lastContinueReason: Schema.NullOr(Schema.String),
  /** The last event of the last run that was handed out, to go on after; 0 where none was. */
  lastCursor: Schema.Natural
}) {
  /** The server's sentence, where it was the server that said no. */
  override get message() {
    return this.reason.message
  }
}
