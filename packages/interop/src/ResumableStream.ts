/**
 * Keeps the streams of `resumable-stream`, which the AI SDK's guides use, in the run log instead of in Redis: a
 * `ResumableStreamContext`.
 *
 * A stream is a run: exactly one caller produces it, and if its process dies, readers get an error within the lease. The run
 * log's settings say how long a stream is known after its end. What a producer makes is durable before a reader has it.
 */
import * as Input from "@sallyport/core/Input"
import { isEnded, type Run, type RunEventEncoded, type RunOwner } from "@sallyport/core/runs/Run"
import { RunEventLog, type RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type HeldRun, holdRun } from "./internal/heldRun.ts"
import { endOf, ownerRule } from "./internal/interop.ts"

/**
 * Configures the owner of the streams.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The owner of the streams. The same stream id of another owner is another stream. */
  readonly owner: RunOwner
}

/**
 * Describes the context of `resumable-stream`, as the library does, of which nothing else is needed.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResumableStreamContext {
  /** Returns a stream, which `makeStream` produces unless it has begun. Null if it has ended. */
  readonly resumableStream: (
    streamId: string,
    makeStream: () => ReadableStream<string>,
    skipCharacters?: number
  ) => Promise<ReadableStream<string> | null>
  /** Returns a stream that has begun. Null if it has ended, undefined if it is unknown. */
  readonly resumeExistingStream: (
    streamId: string,
    skipCharacters?: number
  ) => Promise<ReadableStream<string> | null | undefined>
  /** Does what `resumableStream` does. */
  readonly createNewResumableStream: (
    streamId: string,
    makeStream: () => ReadableStream<string>,
    skipCharacters?: number
  ) => Promise<ReadableStream<string> | null>
  /** Tells whether a stream is known, and whether it has ended. */
  readonly hasExistingStream: (streamId: string) => Promise<null | true | "DONE">
}

const prefix = "resumable-stream/"

// As JSON in UTF-8 a character takes at most six bytes, and an event of a run holds 1 MiB by default.
const maxPiece = 128 * 1024

/** Cuts text into pieces that fit into an event, none of which ends within a character. */
const piecesOf = (text: string): ReadonlyArray<string> => {
  const pieces: Array<string> = []
  for (let start = 0; start < text.length;) {
    const end = start + maxPiece
    const splits = end < text.length && /[\uD800-\uDBFF]/.test(text.charAt(end - 1))
    pieces.push(text.slice(start, splits ? end - 1 : end))
    start = splits ? end - 1 : end
  }
  return pieces
}

/** Leaves out the first characters of a stream. */
const skipping = <E, R>(texts: Stream.Stream<string, E, R>, count: number): Stream.Stream<string, E, R> => {
  let left = count
  return texts.pipe(
    Stream.map((text) => {
      const rest = text.slice(left)
      left = Math.max(0, left - text.length)
      return rest
    }),
    Stream.filter((text) => text !== "")
  )
}

/**
 * Creates the context of one owner's streams. `resumableStream` answers with the stream from its beginning, or from
 * `skipCharacters` on: it produces it if none has, and follows it if another does. For a stream that has ended the answer
 * is null, as of the library.
 *
 * **Gotchas**
 *
 * `createNewResumableStream` produces no second stream of an id, as the library does: it does what `resumableStream` does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("ResumableStream.make")(function*(
  options: Options
): Effect.fn.Return<ResumableStreamContext, never, RunEventLog> {
  Input.demand("ResumableStream.make", { owner: ownerRule }, options)
  const { owner } = options
  const log = yield* RunEventLog
  const context = yield* Effect.context<never>()
  const run = Effect.runPromiseWith(context)

  const find = (streamId: string) =>
    Effect.map(
      log.getByKey({ idempotencyKey: prefix + streamId, owner }),
      Option.filter(({ expired }) => !expired)
    )

  const textOf = ({ data, kind }: RunEventEncoded): Effect.Effect<string, Error> => {
    if (kind === "data") return Effect.succeed(JSON.parse(data))
    const { error, reason, status } = endOf(data)
    return status === "succeeded"
      ? Effect.succeed("")
      : Effect.fail(new Error(error?.message ?? `The stream ended early: ${reason ?? status}`))
  }

  const read = ({ runId }: Run, skipCharacters = 0): Effect.Effect<ReadableStream<string>, RunEventLogError> =>
    Effect.map(
      log.eventsEncoded({ runId, owner }),
      (events) => Stream.toReadableStreamWith(skipping(Stream.mapEffect(events, textOf), skipCharacters), context)
    )

  const produce = (held: HeldRun, makeStream: () => ReadableStream<string>): Effect.Effect<void> =>
    Stream.fromReadableStream({
      evaluate: makeStream,
      onError: (cause) => cause instanceof Error ? cause : new Error(String(cause))
    }).pipe(
      // What comes while an append is on its way is stored by the next one.
      Stream.buffer({ capacity: 256 }),
      Stream.runForEachArray((texts) => {
        const pieces = piecesOf(texts.join(""))
        return pieces.length === 0 ? Effect.void : Effect.asVoid(held.append(pieces))
      }),
      Effect.matchCauseEffect({
        onSuccess: () => held.end({ status: "succeeded" }),
        onFailure: (cause) => {
          const [error] = Cause.prettyErrors(cause)
          return held.end({
            status: "failed",
            reason: "stream_error",
            error: { message: error?.message ?? "The stream failed" }
          })
        }
      }),
      Effect.catch((error) => Effect.logError("Could not store the end of a stream; it is left to the reaper", error))
    )

  const resumableStream: ResumableStreamContext["resumableStream"] = (streamId, makeStream, skipCharacters) =>
    run(Effect.gen(function*() {
      const key = prefix + streamId
      const answer = yield* holdRun(log, { threadId: key, idempotencyKey: key, request: {}, owner })
      if (answer.created) {
        yield* Effect.forkDetach(produce(answer.held, makeStream))
        return yield* read(answer.held.run, skipCharacters)
      }
      return isEnded(answer.run.status) ? null : yield* read(answer.run, skipCharacters)
    }))

  return {
    resumableStream,
    createNewResumableStream: resumableStream,
    resumeExistingStream: (streamId, skipCharacters) =>
      run(Effect.flatMap(find(streamId), (found) =>
        Option.isNone(found)
          ? Effect.succeed(undefined)
          : isEnded(found.value.status)
          ? Effect.succeed(null)
          : read(found.value, skipCharacters))),
    hasExistingStream: (streamId) =>
      run(
        Effect.map(find(streamId), (found) => Option.isNone(found) ? null : isEnded(found.value.status) ? "DONE" : true)
      )
  }
})
