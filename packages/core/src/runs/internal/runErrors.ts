/**
 * What can go wrong with runs, and how failures of the store and refusals of writers become it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { RunEndStatus } from "../Run.ts"
import { RepositoryError } from "../../RepositoryError.ts"
import type { WriterRefused } from "../RunEventRepository.ts"
import { InvalidInput } from "../../Input.ts"

export { InvalidInput }

/**
 * Says that there is no such run, or that it is another owner's. HTTP 404.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunNotFound extends Schema.TaggedError<RunNotFound>()("RunNotFound", { runId: Schema.String }) {
  override get message(): string {
    return `There is no run ${this.runId} here; check the id and who is asking`
  }
}

/**
 * Says that the run has ended, so that nothing more can be written to it. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunEnded extends Schema.TaggedError<RunEnded>()("RunEnded", {
  runId: Schema.String,
  status: RunEndStatus
}) {
  override get message(): string {
    return `Run ${this.runId} has ended (${this.status}); start another run to go on`
  }
}

/**
 * Says that the run goes on, and can be compacted once it has ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunNotEnded extends Schema.TaggedError<RunNotEnded>()("RunNotEnded", { runId: Schema.String }) {
  override get message(): string {
    return `Run ${this.runId} has not ended; compact it when it has`
  }
}

/**
 * Says that the run was compacted before, which is done once.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunCompacted extends Schema.TaggedError<RunCompacted>()("RunCompacted", { runId: Schema.String }) {
  override get message(): string {
    return `Run ${this.runId} was compacted before; its events stay as they are`
  }
}

/**
 * Says that the run asks no such question. HTTP 404.
 *
 * @category errors
 * @since 0.1.0
 */
export class QuestionNotFound extends Schema.TaggedError<QuestionNotFound>()("QuestionNotFound", {
  runId: Schema.String,
  name: Schema.String
}) {
  override get message(): string {
    return `Run ${this.runId} asks no question ${JSON.stringify(this.name)}; read its events for those that it asks`
  }
}

/**
 * Says that the question has been answered before. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class QuestionAnswered extends Schema.TaggedError<QuestionAnswered>()("QuestionAnswered", {
  runId: Schema.String,
  name: Schema.String
}) {
  override get message(): string {
    return `The question ${JSON.stringify(this.name)} of run ${this.runId} has an answer already; the first one counts`
  }
}

/**
 * Says that the writer has lost the run to a later epoch. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class Fenced extends Schema.TaggedError<Fenced>()("Fenced", {
  runId: Schema.String,
  epoch: Schema.Number,
  currentEpoch: Schema.Number
}) {
  override get message(): string {
    return `This writer of run ${this.runId} has epoch ${this.epoch}, but the run is at epoch ${this.currentEpoch}; ` +
      `stop writing, another caller has taken over`
  }
}

/**
 * Says that the owner has no run in such a thread, or none any more. HTTP 404.
 *
 * @category errors
 * @since 0.1.0
 */
export class ThreadNotFound extends Schema.TaggedError<ThreadNotFound>()("ThreadNotFound", {
  threadId: Schema.String
}) {
  override get message(): string {
    return `There is no run in thread ${JSON.stringify(this.threadId)} here; check the id and who is asking`
  }
}

/**
 * Says that a cursor is none that a reader was given. HTTP 400.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidCursor extends Schema.TaggedError<InvalidCursor>()("InvalidCursor", { cursor: Schema.String }) {
  override get message(): string {
    return `${JSON.stringify(this.cursor)} is not a cursor; give the id of the last event seen, or 0 for all`
  }
}

/**
 * Says that a cursor lies after the newest event of a run, or after the newest run if it names none. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class CursorBeyondEnd extends Schema.TaggedError<CursorBeyondEnd>()("CursorBeyondEnd", {
  runId: Schema.optionalKey(Schema.String),
  cursor: Schema.Natural,
  lastSeq: Schema.Natural
}) {
  override get message(): string {
    return this.runId === undefined
      ? "The cursor lies after the newest run; it belongs to another store, or runs were lost; read again from 0"
      : `Cursor ${this.cursor} lies after the newest event (${this.lastSeq}) of run ${this.runId}; ` +
        `it belongs to another run, or events were lost; read again from 0`
  }
}

/**
 * Says that the events after a cursor have been deleted: those of a run, or of one that the cursor names. HTTP 410.
 *
 * @category errors
 * @since 0.1.0
 */
export class CursorExpired extends Schema.TaggedError<CursorExpired>()("CursorExpired", {
  runId: Schema.optionalKey(Schema.String),
  /** Whether the run was compacted, so that an event stands for several, of which the reader has seen some. */
  compacted: Schema.optionalKey(Schema.Boolean)
}) {
  override get message(): string {
    if (this.compacted === true) {
      return `The events of run ${this.runId} have been replaced by fewer, and the cursor lies within one; read again from 0`
    }
    return this.runId === undefined
      ? "The events of a run that this cursor stands in are past their retention and have been deleted; read again from 0"
      : `The events of run ${this.runId} are past their retention and have been deleted`
  }
}

/**
 * Says that an idempotency key was used before, for another thread or another request. HTTP 422.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>()("IdempotencyConflict", {
  idempotencyKey: Schema.String,
  runId: Schema.String
}) {
  override get message(): string {
    return `The idempotency key ${JSON.stringify(this.idempotencyKey)} was used for another request ` +
      `(run ${this.runId}); give each request a key of its own`
  }
}

/**
 * Says that another run of the thread is still running. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class ThreadBusy extends Schema.TaggedError<ThreadBusy>()("ThreadBusy", {
  threadId: Schema.String,
  runId: Schema.String
}) {
  override get message(): string {
    return `Thread ${
      JSON.stringify(this.threadId)
    } already has a running run, ${this.runId}; follow it, or abort it first`
  }
}

/**
 * Says that a configured limit does not admit an event. HTTP 413.
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>()("LimitExceeded", {
  runId: Schema.String,
  limit: Schema.Literals(["maxEventBytes", "maxEvents", "maxRunBytes"]),
  max: Schema.Number
}) {
  override get message(): string {
    return `Run ${this.runId} would exceed ${this.limit} (${this.max}); nothing was stored`
  }
}

/**
 * Says that the owner has as many runs that have not ended, or that were aborted before they began, as may be. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyRuns extends Schema.TaggedError<TooManyRuns>()("TooManyRuns", {
  limit: Schema.Literals(["maxRunning", "maxAborts"]),
  max: Schema.Natural
}) {
  override get message(): string {
    return this.limit === "maxRunning"
      ? `You have ${this.max} runs that have not ended; wait until one has, or stop one`
      : `You have stopped ${this.max} runs that have not begun; try again when the oldest of these are forgotten`
  }
}

/**
 * Says that the process is shutting down and takes no more runs or events. HTTP 503; worth another try elsewhere.
 *
 * @category errors
 * @since 0.1.0
 */
export class ShuttingDown extends Schema.TaggedError<ShuttingDown>()("ShuttingDown", {}) {
  override get message(): string {
    return "The server is shutting down; try again in a moment"
  }
}

/**
 * Says that the store failed, so that nothing is known; never to be taken for "there is none". HTTP 503.
 *
 * @category errors
 * @since 0.1.0
 */
export class StorageFailure extends Schema.TaggedError<StorageFailure>()("StorageFailure", {
  cause: RepositoryError
}) {
  override get message(): string {
    const { isRetryable, operation } = this.cause
    return `The run store failed in ${operation}; ${
      isRetryable
        ? "try again, and check that the database can be reached"
        : "check that the database can be reached and is not damaged"
    }`
  }
}

/**
 * Lists what can go wrong.
 *
 * @category errors
 * @since 0.1.0
 */
export const RunEventLogErrorReason = Schema.Union([
  RunNotFound,
  ThreadNotFound,
  RunEnded,
  RunNotEnded,
  RunCompacted,
  QuestionNotFound,
  QuestionAnswered,
  Fenced,
  InvalidCursor,
  CursorBeyondEnd,
  CursorExpired,
  IdempotencyConflict,
  ThreadBusy,
  TooManyRuns,
  LimitExceeded,
  InvalidInput,
  ShuttingDown,
  StorageFailure
])
/**
 * @see {@link RunEventLogErrorReason}
 *
 * @category errors
 * @since 0.1.0
 */
export type RunEventLogErrorReason = typeof RunEventLogErrorReason.Type

/**
 * Reports what went wrong with a run; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunEventLogError extends Schema.TaggedError<RunEventLogError>()("RunEventLogError", {
  reason: RunEventLogErrorReason
}) {
  override get message(): string {
    return this.reason.message
  }

  /** Tells whether the same call may succeed later. */
  get isRetryable(): boolean {
    return this.reason._tag === "StorageFailure" ? this.reason.cause.isRetryable : this.reason._tag === "ShuttingDown"
  }
}

/** Fails with a reason. */
export const fail = (reason: RunEventLogErrorReason): Effect.Effect<never, RunEventLogError> =>
  Effect.fail(new RunEventLogError({ reason }))

/** Reports a failing step of the store as a `StorageFailure`. */
export const storage = <A>(effect: Effect.Effect<A, RepositoryError>): Effect.Effect<A, RunEventLogError> =>
  Effect.mapError(effect, (cause) => new RunEventLogError({ reason: new StorageFailure({ cause }) }))

/** Says why a writer was refused. */
export const refusal = (runId: string, epoch: number, refused: WriterRefused): RunEventLogErrorReason => {
  switch (refused._tag) {
    case "Ended":
      return new RunEnded({ runId, status: refused.status })
    case "Fenced":
      return new Fenced({ runId, epoch, currentEpoch: refused.currentEpoch })
    case "Unknown":
      return new RunNotFound({ runId })
  }
}
