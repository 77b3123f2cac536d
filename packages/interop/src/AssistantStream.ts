/**
 * Keeps the streams of assistant-stream (assistant-ui) in the run log: a `ResumableStreamStore` for
 * `createResumableStreamContext`.
 *
 * A stream is a run: exactly one caller is elected to produce it, and if its process dies, readers get an error within
 * the lease instead of waiting for ever. The run log's settings say how long a stream is kept; `ttlMs` is not used.
 * Deleting a stream hides it at once and frees its id; its bytes are deleted when their retention is over.
 */
import * as Input from "@sallyport/core/Input"
import { isEnded, type Run, type RunEnd, type RunEventEncoded, type RunOwner } from "@sallyport/core/runs/Run"
import { RunEventLog, type RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import {
  ResumableStreamError,
  type ResumableStreamLease,
  type ResumableStreamStatus,
  type ResumableStreamStore
} from "assistant-stream/resumable"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { type HeldRun, holdRun } from "./internal/heldRun.ts"
import { endOf, ownerRule, toAsyncIterable } from "./internal/interop.ts"
import { formatPosition, parsePosition } from "./internal/position.ts"

/**
 * Configures the owner of a store's streams.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The owner of the streams. The same stream id of another owner is another stream. */
  readonly owner: RunOwner
}

const prefix = "assistant-stream/"
// No stream's id contains these characters, so a key that is derived from a run's id is never a stream's key.
const nextKey = (run: Run): string => `${prefix}${run.runId}+`
const deletionKey = (run: Run): string => `${prefix}${run.runId}!`

const deletedReason = "deleted"
const failedReason = "stream_error"

// Together with the prefix it has to fit into an idempotency key.
const idPattern = /^[A-Za-z0-9_.:-]{1,238}$/

const checkId = (streamId: string): Effect.Effect<void, ResumableStreamError> =>
  idPattern.test(streamId) ? Effect.void : Effect.fail(
    new ResumableStreamError(
      "invalid-id",
      `The id of a stream must match ${idPattern}, unlike ${JSON.stringify(streamId)}`
    )
  )

const missing = (streamId: string) =>
  new ResumableStreamError("missing", `There is no stream ${streamId}, or it is no longer kept`)

const finalized = (streamId: string) =>
  new ResumableStreamError("finalized", `The stream ${streamId} has been finalized`)

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const decodeText = Option.liftThrowable((bytes: Uint8Array) => utf8.decode(bytes))
const encoder = new TextEncoder()

type StoredChunk = string | { readonly base64: string }

// Text is stored as text, which any reader of the run can read. A chunk that ends within a character is stored as
// bytes.
const encodeChunk = (bytes: Uint8Array): StoredChunk =>
  Option.getOrElse(decodeText(bytes), () => ({ base64: Base64.encode(bytes) }))

// As JSON a byte takes at most six, and an event of a run holds 1 MiB by default.
const maxPieceBytes = 128 * 1024

/** Cuts a chunk into pieces that fit into an event. Readers get the same bytes, in more chunks. */
const piecesOf = (chunk: Uint8Array): ReadonlyArray<StoredChunk> =>
  Array.from(
    { length: Math.max(1, Math.ceil(chunk.length / maxPieceBytes)) },
    (_, index) => encodeChunk(chunk.subarray(index * maxPieceBytes, (index + 1) * maxPieceBytes))
  )

const decodeChunk = (chunk: StoredChunk): Uint8Array =>
  typeof chunk === "string" ? encoder.encode(chunk) : Result.getOrThrow(Base64.decode(chunk.base64))

/**
 * Creates the store of one owner's streams. Keep it for as long as the process runs: it keeps the leases of its
 * producers.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("AssistantStream.make")(function*(
  options: Options
): Effect.fn.Return<ResumableStreamStore, never, RunEventLog> {
  Input.demand("AssistantStream.make", { owner: ownerRule }, options)
  const { owner } = options
  const log = yield* RunEventLog
  const context = yield* Effect.context<never>()
  const run = Effect.runPromiseWith(context)
  const producing = new Map<string, HeldRun>()

  type Failure = RunEventLogError | ResumableStreamError

  /** Finds the run of a stream's id: the one that was started after the last deletion. */
  const find = Effect.fnUntraced(function*(
    streamId: string
  ): Effect.fn.Return<{ readonly key: string; readonly run: Option.Option<Run> }, Failure> {
    yield* checkId(streamId)
    let key = prefix + streamId
    while (true) {
      const run = yield* log.getByKey({ idempotencyKey: key, owner })
      if (Option.isNone(run)) return { key, run }
      const deleted = yield* log.getByKey({ idempotencyKey: deletionKey(run.value), owner })
      if (Option.isNone(deleted)) return { key, run }
      key = nextKey(run.value)
    }
  })

  const findRun = Effect.fnUntraced(function*(streamId: string): Effect.fn.Return<Run, Failure> {
    const { run } = yield* find(streamId)
    if (Option.isNone(run) || run.value.expired) return yield* Effect.fail(missing(streamId))
    return run.value
  })

  const acquireLease = (streamId: string) =>
    Effect.gen(function*() {
      const { key, run } = yield* find(streamId)
      if (Option.isSome(run)) return { role: "consumer" as const }
      const answer = yield* holdRun(log, { threadId: key, idempotencyKey: key, request: {}, owner })
      if (!answer.created) return { role: "consumer" as const }
      const token = formatPosition({ runId: answer.held.run.runId, seq: answer.held.run.epoch })
      producing.set(token, answer.held)
      return { role: "producer" as const, lease: { token } }
    })

  /** Returns the writer of a producer: its lease, or the stream's present run if it has none. */
  const writerOf = Effect.fnUntraced(function*(
    streamId: string,
    lease: ResumableStreamLease | undefined
  ): Effect.fn.Return<{ readonly runId: string; readonly epoch: number; readonly token: string }, Failure> {
    yield* checkId(streamId)
    if (lease === undefined) {
      const { epoch, runId } = yield* findRun(streamId)
      return { runId, epoch, token: formatPosition({ runId, seq: epoch }) }
    }
    const position = parsePosition(lease.token)
    if (Option.isNone(position)) return yield* Effect.fail(missing(streamId))
    return { runId: position.value.runId, epoch: position.value.seq, token: lease.token }
  })

  /** Returns why a producer is refused: the stream has ended, or another producer or none holds it now. */
  const refused = (streamId: string, runId: string) => (error: RunEventLogError): Effect.Effect<never, Failure> => {
    const { reason } = error
    if (reason._tag === "RunNotFound" || reason._tag === "Fenced") return Effect.fail(missing(streamId))
    if (reason._tag !== "RunEnded") return Effect.fail(error)
    return Effect.flatMap(
      log.get({ runId, owner }),
      ({ endReason }) => Effect.fail(endReason === deletedReason ? missing(streamId) : finalized(streamId))
    )
  }

  const toEnd = (status: "done" | "error", error: string | undefined): RunEnd =>
    status === "done"
      ? { status: "succeeded" }
      : { status: "failed", reason: failedReason, error: { message: error ?? "The stream failed" } }

  const toEntries = (events: Stream.Stream<RunEventEncoded, RunEventLogError>) =>
    events.pipe(
      Stream.tap(({ data, kind }) => {
        if (kind !== "end") return Effect.void
        const { error, reason, status } = endOf(data)
        if (status === "succeeded" || reason === deletedReason) return Effect.void
        return Effect.fail(new Error(error?.message ?? `The stream ended early: ${reason ?? status}`))
      }),
      Stream.filter(({ kind }) => kind === "data"),
      Stream.map(({ data, runId, seq }) => ({
        cursor: formatPosition({ runId, seq: Option.getOrElse(seq, () => 0) }),
        chunk: decodeChunk(JSON.parse(data))
      }))
    )

  return {
    acquire: (streamId) => run(Effect.map(acquireLease(streamId), ({ role }) => role)),
    acquireLease: (streamId) => run(acquireLease(streamId)),
    append: (streamId, chunk, lease) =>
      run(Effect.suspend(() => {
        const events = piecesOf(chunk)
        return Effect.flatMap(writerOf(streamId, lease), ({ epoch, runId }) =>
          log.append({ runId, epoch, events }).pipe(
            Effect.asVoid,
            Effect.catch(refused(streamId, runId))
          ))
      })),
    finalize: (streamId, status, error, lease) =>
      run(Effect.gen(function*() {
        const { epoch, runId, token } = yield* writerOf(streamId, lease)
        const end = toEnd(status, error)
        const held = producing.get(token)
        // A stream that has already ended is not changed.
        yield* (held === undefined ? log.finish({ runId, epoch, end }) : held.end(end)).pipe(
          Effect.asVoid,
          Effect.catchIf(
            ({ reason }) => reason._tag === "RunEnded" || reason._tag === "Fenced",
            () => Effect.void
          ),
          Effect.catch(refused(streamId, runId)),
          Effect.ensuring(Effect.sync(() => producing.delete(token)))
        )
      })),
    read: (streamId, cursor, signal) =>
      toAsyncIterable(
        Stream.unwrap(Effect.gen(function*() {
          const { runId } = yield* findRun(streamId)
          const position = cursor === "" ? Option.some({ runId, seq: 0 }) : parsePosition(cursor)
          if (Option.isNone(position) || position.value.runId !== runId) return yield* Effect.fail(missing(streamId))
          return toEntries(yield* log.eventsEncoded({ runId, after: position.value.seq, owner }))
        })),
        context,
        signal
      ),
    status: (streamId) =>
      run(Effect.map(find(streamId), ({ run }): ResumableStreamStatus => {
        if (Option.isNone(run) || run.value.expired) return "missing"
        const { status } = run.value
        return !isEnded(status) ? "streaming" : status === "succeeded" ? "done" : "error"
      })),
    delete: (streamId) =>
      run(Effect.gen(function*() {
        const found = yield* find(streamId)
        if (Option.isNone(found.run)) return
        const { runId } = found.run.value
        yield* log.abort({ runId, owner, reason: deletedReason })
        // Readers have ended. From here on the id is free: a run that is aborted before it begins needs no writer.
        const key = deletionKey(found.run.value)
        yield* log.abort({ threadId: key, idempotencyKey: key, owner, reason: deletedReason })
        yield* log.start({ threadId: key, idempotencyKey: key, request: {}, owner })
      }))
  }
})
