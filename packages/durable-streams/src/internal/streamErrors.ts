/**
 * What can go wrong with streams, and how failures of the store and missing streams become it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import type { Missing } from "../DurableStreamRepository.ts"
import { InvalidInput } from "@sallyport/core/Input"

export { InvalidInput }

/**
 * Says that there is no such stream, or that it is another owner's. HTTP 404.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamNotFound extends Schema.TaggedError<StreamNotFound>()("StreamNotFound", { path: Schema.String }) {
  override get message(): string {
    return `There is no stream ${
      JSON.stringify(this.path)
    } here; create it with PUT, or check the path and who is asking`
  }
}

/**
 * Says that the stream was deleted: it is kept for its forks only, or another stream has its path now. HTTP 410.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamGone extends Schema.TaggedError<StreamGone>()("StreamGone", { path: Schema.String }) {
  override get message(): string {
    return `The stream ${
      JSON.stringify(this.path)
    } has been deleted; read its forks, or what is at that path now from its beginning`
  }
}

/**
 * Says that the path is in use by a stream that was created differently. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamConflict extends Schema.TaggedError<StreamConflict>()("StreamConflict", { path: Schema.String }) {
  override get message(): string {
    return `The path ${JSON.stringify(this.path)} is in use by a stream with another configuration; choose another path`
  }
}

/**
 * Says that the stream has been closed, so that nothing more can be appended. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamClosed extends Schema.TaggedError<StreamClosed>()("StreamClosed", {
  path: Schema.String,
  streamId: Schema.Natural,
  tail: Schema.Natural
}) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} is closed; append to another one`
  }
}

/**
 * Says that data of another content type was to be appended, or to be inherited by a fork. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class ContentTypeMismatch extends Schema.TaggedError<ContentTypeMismatch>()("ContentTypeMismatch", {
  path: Schema.String,
  contentType: Schema.String
}) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} has the content type ${this.contentType}; send that one`
  }
}

/**
 * Says that a `Stream-Seq` is not greater than the last one. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class SeqRegression extends Schema.TaggedError<SeqRegression>()("SeqRegression", {
  path: Schema.String,
  last: Schema.String
}) {
  override get message(): string {
    return `The last Stream-Seq of ${JSON.stringify(this.path)} is ${JSON.stringify(this.last)}; give a greater one`
  }
}

/**
 * Says that a producer with a later epoch has taken over. HTTP 403.
 *
 * @category errors
 * @since 0.1.0
 */
export class StaleEpoch extends Schema.TaggedError<StaleEpoch>()("StaleEpoch", {
  path: Schema.String,
  epoch: Schema.Natural
}) {
  override get message(): string {
    return `This producer of ${JSON.stringify(this.path)} is at epoch ${this.epoch}; ` +
      `stop writing, or claim it with a greater epoch and begin at 0`
  }
}

/**
 * Says that appends of a producer are missing before this one. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class SequenceGap extends Schema.TaggedError<SequenceGap>()("SequenceGap", {
  path: Schema.String,
  expected: Schema.Natural,
  received: Schema.Natural
}) {
  override get message(): string {
    return `The producer's next append to ${
      JSON.stringify(this.path)
    } is number ${this.expected}, not ${this.received}; ` +
      `send those in between first`
  }
}

/**
 * Says that the owner has as many streams as one may have. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyStreams extends Schema.TaggedError<TooManyStreams>()("TooManyStreams", { limit: Schema.Natural }) {
  override get message(): string {
    return `You have ${this.limit} streams, as many as you may; delete one first`
  }
}

/**
 * Says that a position lies after the tail of the stream. HTTP 400.
 *
 * @category errors
 * @since 0.1.0
 */
export class BeyondTail extends Schema.TaggedError<BeyondTail>()("BeyondTail", { path: Schema.String }) {
  override get message(): string {
    return `The offset lies after the tail of ${JSON.stringify(this.path)}, or of what one append brought; ` +
      `use an offset that this stream has answered`
  }
}

/**
 * Says that the stream to fork does not exist. HTTP 404.
 *
 * @category errors
 * @since 0.1.0
 */
export class SourceNotFound extends Schema.TaggedError<SourceNotFound>()("SourceNotFound", { path: Schema.String }) {
  override get message(): string {
    return `There is no stream ${JSON.stringify(this.path)} to fork here; check the path and who is asking`
  }
}

/**
 * Says that the stream to fork has been deleted. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class SourceGone extends Schema.TaggedError<SourceGone>()("SourceGone", { path: Schema.String }) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} has been deleted and takes no new forks`
  }
}

/**
 * Says that a configured limit does not admit the data. HTTP 413.
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>()("LimitExceeded", {
  path: Schema.String,
  limit: Schema.Literals(["maxAppendBytes", "maxStreamBytes"]),
  max: Schema.Number
}) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} would exceed ${this.limit} (${this.max}); nothing was stored`
  }
}

/**
 * Says that the process is shutting down and takes no more appends. HTTP 503; worth another try elsewhere.
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
    return `The stream store failed in ${operation}; ${
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
export const DurableStreamsErrorReason = Schema.Union([
  StreamNotFound,
  StreamGone,
  StreamConflict,
  StreamClosed,
  ContentTypeMismatch,
  SeqRegression,
  StaleEpoch,
  SequenceGap,
  InvalidInput,
  BeyondTail,
  SourceNotFound,
  SourceGone,
  LimitExceeded,
  TooManyStreams,
  ShuttingDown,
  StorageFailure
])
/**
 * @see {@link DurableStreamsErrorReason}
 *
 * @category errors
 * @since 0.1.0
 */
export type DurableStreamsErrorReason = typeof DurableStreamsErrorReason.Type

/**
 * Reports what went wrong with a stream; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class DurableStreamsError extends Schema.TaggedError<DurableStreamsError>()("DurableStreamsError", {
  reason: DurableStreamsErrorReason
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
export const fail = (reason: DurableStreamsErrorReason): Effect.Effect<never, DurableStreamsError> =>
  Effect.fail(new DurableStreamsError({ reason }))

/** Reports a failing step of the store as a `StorageFailure`. */
export const storage = <A>(
  effect: Effect.Effect<A, RepositoryError>
): Effect.Effect<A, DurableStreamsError> =>
  Effect.mapError(effect, (cause) => new DurableStreamsError({ reason: new StorageFailure({ cause }) }))

/** Says why there is no stream. */
export const absent = (path: string, missing: Missing): Effect.Effect<never, DurableStreamsError> =>
  fail(missing._tag === "Gone" ? new StreamGone({ path }) : new StreamNotFound({ path }))
