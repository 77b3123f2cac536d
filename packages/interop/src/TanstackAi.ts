/**
 * Keeps the streams of TanStack AI in the run log: a `StreamDurability` for `toServerSentEventsResponse`,
 * `toHttpResponse` and their `resume…` counterparts.
 *
 * The run id of TanStack's client is the idempotency key of the run. A request that is posted twice replays the run of
 * the first request, and does not call the model again. A run whose process died ends for its readers with a
 * `RUN_ERROR` whose code is the run log's reason, such as `stale_run`.
 */
import * as Input from "@sallyport/core/Input"
import type { Run, RunEnd, RunEventEncoded, RunOwner } from "@sallyport/core/runs/Run"
import { RunEventLog, type RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import type { StreamChunk, StreamDurability } from "@tanstack/ai"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { type HeldRun, holdRun } from "./internal/heldRun.ts"
import { codeOf, endOf, ownerRule, toAsyncIterable, toJson } from "./internal/interop.ts"
import { formatPosition, parsePosition, type Position } from "./internal/position.ts"

/**
 * Reports why a stream cannot be written or read further; TanStack AI shows `message` and `code` in a `RUN_ERROR`.
 *
 * @category errors
 * @since 0.1.0
 */
export class TanstackAiError extends Schema.TaggedError<TanstackAiError>()("TanstackAiError", {
  /** `run_not_found`, `run_exists`, `cursor_expired`, `stale_run`, and the other codes and reasons of the run log. */
  code: Schema.String,
  message: Schema.String
}) {}

/**
 * Names a stream, for callers without a request that names it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  /** The run id of TanStack's client. */
  readonly runId: string
  /**
   * The position from which a reader continues: an offset, `-1` for the beginning, or `now`. Null or absent for a
   * writer.
   */
  readonly offset?: string | null | undefined
}

/**
 * Configures the owner of the streams and how they are found.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The owner of the run. The same run id of another owner is another run. */
  readonly owner: RunOwner
  /** The thread of the run; a thread has one running run at a time. By default each run has its own thread. */
  readonly threadId?: string | undefined
  /**
   * How long a reader that joins from the beginning waits for a run that is not started yet. Default 100 milliseconds.
   */
  readonly joinWithin?: Duration.Input | undefined
}

const prefix = "tanstack-ai/"

// The reason of an end after a RUN_ERROR in the log. Readers have already received that error.
const toldReason = "run_error"

const sourceOf = (request: Request): { readonly runId: string | null; readonly offset: string | null } => {
  const query = new URL(request.url).searchParams
  return {
    runId: request.headers.get("X-Run-Id") ?? query.get("runId"),
    offset: request.headers.get("Last-Event-ID") ?? query.get("offset")
  }
}

const sourceRule: Input.Rule = {
  is: (source) => source instanceof Request || (Predicate.hasProperty(source, "runId") && Input.text.is(source.runId)),
  expected: "the request, or { runId, offset }"
}

const toEnd = (chunk: StreamChunk): RunEnd | undefined => {
  if (chunk.type === "RUN_FINISHED") return { status: "succeeded" }
  if (chunk.type !== "RUN_ERROR") return undefined
  return {
    status: chunk.code === abortedCode ? "aborted" : "failed",
    reason: toldReason,
    error: { message: chunk.message }
  }
}

const abortedCode = "aborted"

const problem = (error: RunEventLogError): TanstackAiError => {
  const { reason } = error
  const code = reason._tag === "RunEnded" && reason.status === "aborted" ? abortedCode : codeOf(reason)
  return new TanstackAiError({ code, message: error.message })
}

const malformed = (offset: string): TanstackAiError =>
  new TanstackAiError({
    code: "malformed_cursor",
    message: `${JSON.stringify(offset)} is not an offset of a stream here`
  })

/**
 * Creates the durability of one request: of a `POST` that starts a run, or of a request that joins or resumes one.
 *
 * **Details**
 *
 * Fails with `run_id_missing`, and if the store cannot say whether the run has been started before.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("TanstackAi.make")(function*(
  source: Request | Source,
  options: Options
): Effect.fn.Return<StreamDurability, TanstackAiError, RunEventLog> {
  Input.demand("TanstackAi.make", { source: Input.required(sourceRule) }, { source })
  Input.demand("TanstackAi.make", { owner: ownerRule, threadId: Input.text, joinWithin: Input.any }, options)
  const log = yield* RunEventLog
  const context = yield* Effect.context<never>()
  const run = Effect.runPromiseWith(context)
  const { owner } = options
  const { offset = null, runId } = source instanceof Request ? sourceOf(source) : source
  const position = Option.flatMap(Option.fromNullOr(offset), parsePosition)
  if (runId === null && Option.isNone(position)) {
    return yield* new TanstackAiError({
      code: "run_id_missing",
      message: "Name the run in the header X-Run-Id or as ?runId=, as TanStack AI's client does"
    })
  }
  const idempotencyKey = `${prefix}${runId}`
  const byKey = runId === null
    ? Effect.succeedNone
    : Effect.mapError(log.getByKey({ idempotencyKey, owner }), problem)
  // A client that posts again because the first answer was lost follows the run of its first request.
  const resumeFrom = offset ?? (Option.isSome(yield* byKey) ? "-1" : null)

  const notFound = new TanstackAiError({
    code: "run_not_found",
    message: "There is no such run, or it is no longer kept; start another one"
  })
  const lookUp: Effect.Effect<Run, TanstackAiError> = (Option.isNone(position)
    ? byKey
    : Effect.asSome(Effect.mapError(log.get({ runId: position.value.runId, owner }), problem))).pipe(
      Effect.flatMap(Option.match({ onNone: () => Effect.fail(notFound), onSome: Effect.succeed }))
    )
  const join = Effect.retry(lookUp, {
    while: ({ code }) => code === "run_not_found",
    schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: options.joinWithin ?? "100 millis" }))
  })

  let held: HeldRun | undefined
  let end: RunEnd | undefined
  const hold = Effect.gen(function*() {
    if (held !== undefined) return held
    const threadId = options.threadId ?? idempotencyKey
    const answer = yield* Effect.mapError(
      holdRun(log, { threadId, idempotencyKey, request: { runId }, owner }),
      problem
    )
    if (answer.created) return held = answer.held
    return yield* new TanstackAiError({
      code: "run_exists",
      message: "This run has been started before; join it instead"
    })
  })

  const toEntry = (event: RunEventEncoded & { readonly seq: Option.Some<number> }) => {
    const chunk: StreamChunk = JSON.parse(event.data)
    return { offset: formatPosition({ runId: event.runId, seq: event.seq.value }), chunk }
  }
  const isChunk = (event: RunEventEncoded): event is RunEventEncoded & { readonly seq: Option.Some<number> } =>
    event.kind === "data" && Option.isSome(event.seq)

  /** Ends the stream if its writer ended the run, and fails if another caller did. */
  const checkEnd = (event: RunEventEncoded): Effect.Effect<void, TanstackAiError> => {
    if (event.kind !== "end") return Effect.void
    const { error, reason, status } = endOf(event.data)
    if (status === "succeeded" || reason === toldReason) return Effect.void
    return Effect.fail(
      status === "aborted"
        ? new TanstackAiError({
          code: abortedCode,
          message: `The run was aborted${reason === undefined ? "" : `: ${reason}`}`
        })
        : new TanstackAiError({ code: reason ?? status, message: error?.message ?? "The run failed" })
    )
  }

  const startOf = (offset: string, run: Run): Effect.Effect<Position, TanstackAiError> => {
    if (offset === "-1") return Effect.succeed({ runId: run.runId, seq: 0 })
    if (offset === "now") return Effect.succeed({ runId: run.runId, seq: run.lastSeq })
    return Option.match(Option.filter(parsePosition(offset), ({ runId }) => runId === run.runId), {
      onNone: () => Effect.fail(malformed(offset)),
      onSome: Effect.succeed
    })
  }

  return {
    resumeFrom: () => resumeFrom,
    append: (chunks) =>
      run(Effect.gen(function*() {
        if (chunks.length === 0) return []
        const { append, run: { runId } } = yield* hold
        const { firstSeq } = yield* Effect.mapError(append(yield* Effect.forEach(chunks, toJson)), problem).pipe(
          // The library stores the error of a run that it could not write to. A run that was stopped has its end.
          Effect.catchIf(
            ({ code }) => code === abortedCode && chunks.every(({ type }) => type === "RUN_ERROR"),
            () =>
              Effect.map(Effect.mapError(log.get({ runId, owner }), problem), ({ lastSeq }) => ({ firstSeq: lastSeq }))
          )
        )
        end = chunks.reduce<RunEnd | undefined>((last, chunk) => toEnd(chunk) ?? last, end)
        return chunks.map((_, index) => formatPosition({ runId, seq: firstSeq + index }))
      })),
    read: (offset, signal) =>
      toAsyncIterable(
        Stream.unwrap(Effect.gen(function*() {
          if (offset !== "-1" && offset !== "now" && Option.isNone(parsePosition(offset))) {
            return yield* malformed(offset)
          }
          const { runId, seq } = yield* startOf(offset, yield* (Option.isNone(position) ? join : lookUp))
          const events = yield* Effect.mapError(log.eventsEncoded({ runId, after: seq, owner }), problem)
          return events.pipe(
            Stream.mapError(problem),
            Stream.tap(checkEnd),
            Stream.filter(isChunk),
            Stream.map(toEntry)
          )
        })),
        context,
        signal
      ),
    close: () => run(Effect.suspend(() => held === undefined ? Effect.void : held.end(end ?? { status: "succeeded" }))),
    snapshot: () =>
      run(
        Effect.gen(function*() {
          const { expired, lastSeq, runId } = yield* lookUp
          if (expired || lastSeq === 0) return []
          const events = yield* log.eventsEncoded({ runId, owner })
          return (yield* Stream.runCollect(Stream.take(events, lastSeq))).filter(isChunk).map(toEntry)
        }).pipe(
          Effect.catchIf(
            (error) => error._tag === "TanstackAiError" && error.code === "run_not_found",
            () => Effect.succeed([])
          )
        )
      )
  }
})
