/**
 * Describes the endpoints with which a client starts a run, leaves it, and joins it again.
 */
import * as Input from "@sallyport/core/Input"
import {
  continuationOf,
  IdempotencyKey,
  type Run,
  RunAnswer,
  RunContinuation,
  RunEnd,
  RunId,
  RunStatus,
  ThreadId as CoreThreadId,
  WhenBusy
} from "@sallyport/core/runs/Run"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { NextPage, PageCursor } from "./AccessSchemas.ts"
import { RequestErrors, requires } from "./Authentication.ts"
import {
  Conflict,
  Gone,
  IdempotencyConflict,
  InvalidRequest,
  NotFound,
  TooLarge,
  TooManyRequests,
  Unavailable
} from "./WireError.ts"

/**
 * Describes a run. Times are ISO 8601 text in UTC, by the database's clock.
 *
 * @category models
 * @since 0.1.0
 */
export class RunView extends Schema.Class<RunView>("@sallyport/contract/RunView")({
  runId: RunId,
  threadId: Schema.String,
  idempotencyKey: Schema.String,
  status: RunStatus,
  /** Why it ended, if there is more to say than the status. */
  endReason: Schema.NullOr(Schema.String),
  /** The number of its newest event; 0 while there is none. */
  lastSeq: Schema.Natural,
  startedAt: Schema.DateTimeUtcFromString,
  completedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** What it continues, if it does. */
  continuation: Schema.optionalKey(RunContinuation)
}) {}

/**
 * Returns what a caller is shown of a run.
 *
 * @category constructors
 * @since 0.1.0
 */
export const runView = (run: Run): RunView =>
  new RunView({
    ...run,
    ...Option.match(continuationOf(run.metadata), {
      onNone: () => ({}),
      onSome: (continuation) => ({ continuation })
    })
  })

/**
 * Tells a reader why a stream stops before the run's end. After a retryable failure the reader may resume from its last
 * cursor.
 *
 * @category models
 * @since 0.1.0
 */
export const RunStreamFailure = Schema.Struct({
  code: Schema.Literals(["session_ended", "unavailable", "run_not_found", "cursor_expired", "internal_error"]),
  message: Schema.String,
  retryable: Schema.Boolean,
  /** Under which the server's log has the cause, if the fault is the server's. */
  traceId: Schema.optionalKey(Schema.String)
})

/**
 * Names the `id` of an `end` that has no cursor: an EventSource that has been told of it says so when it comes back.
 *
 * @category constants
 * @since 0.1.0
 */
export const endTold = "ended"

const failureEvent = Schema.Struct({
  event: Schema.Literal("failure"),
  data: Schema.fromJsonString(RunStreamFailure)
})
/** Is sent first if a stream begins with what comes next, so that its reader has a cursor before anything has come. */
const cursorEvent = Schema.Struct({
  id: Schema.String,
  event: Schema.Literal("cursor"),
  data: Schema.fromJsonString(Schema.Struct({ cursor: Schema.String }))
})

/**
 * Describes the events of the stream. `id` is the cursor to resume after, the number of the event, or `3-5` if it stands for
 * those from 3 to 5 since the run was compacted; an `end` that was made from the run's row has
 * none, and the id {@link endTold}, after which a reader that comes back is answered with 204.
 *
 * **Details**
 *
 * The stream closes after `end` and after `failure`. Comments keep an idle connection alive.
 *
 * **Gotchas**
 *
 * The stream begins with `retry:`, which tells an EventSource how soon to reconnect. Effect's own decoder ends a stream
 * at that with the failure `Sse.Retry`, so read the events with an EventSource, or decode the response without it.
 *
 * @category models
 * @since 0.1.0
 */
export const RunStreamEvent = Schema.Union([
  Schema.Struct({ id: Schema.String, event: Schema.Literal("data"), data: Schema.fromJsonString(Input.json) }),
  Schema.Struct({
    id: Schema.optionalKey(Schema.UndefinedOr(Schema.String)),
    event: Schema.Literal("end"),
    data: Schema.fromJsonString(RunEnd)
  }),
  cursorEvent,
  failureEvent
])

/** Says of which run an event is, and its number there; null for an end that was made from the run's row. */
const ofRun = {
  runId: RunId,
  threadId: Schema.String,
  seq: Schema.NullOr(Schema.Natural),
  /** The first number that the event stands for, if it stands for several since the run was compacted. */
  firstSeq: Schema.optionalKey(Schema.Natural)
}

/**
 * Describes the events of a stream of many runs. `id` is the cursor to resume after. A `run` says that its events are
 * followed from now on.
 *
 * **Details**
 *
 * The stream goes on when runs end, and closes after `failure`. What {@link RunStreamEvent} says of comments and `retry:`
 * holds for it too.
 *
 * @category models
 * @since 0.1.0
 */
export const RunsStreamEvent = Schema.Union([
  Schema.Struct({ id: Schema.String, event: Schema.Literal("run"), data: Schema.fromJsonString(RunView) }),
  Schema.Struct({
    id: Schema.String,
    event: Schema.Literal("data"),
    data: Schema.fromJsonString(Schema.Struct({ ...ofRun, data: Input.json }))
  }),
  Schema.Struct({
    id: Schema.String,
    event: Schema.Literal("end"),
    data: Schema.fromJsonString(Schema.Struct({ ...ofRun, end: RunEnd }))
  }),
  cursorEvent,
  failureEvent
])

/**
 * Describes the id of a thread: 1 to 100 characters without control characters. It is a parameter of paths, whose
 * length routers limit (`HttpRouter`'s `maxParamLength`): a run with a longer id could be started, but not found again.
 *
 * @category models
 * @since 0.1.0
 */
export const ThreadId = CoreThreadId.check(Schema.isMaxLength(100))

const unquoted = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/
const quoted = /^"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"$/

/**
 * Decodes the header `Idempotency-Key`: a string of RFC 8941, in quotes, or the bare key; printable ASCII in both.
 *
 * @category models
 * @since 0.1.0
 */
export const IdempotencyKeyHeader = Schema.Trim.check(
  Schema.makeFilter((text: string) => (text.startsWith("\"") ? quoted : unquoted).test(text), {
    expected: "a key of printable ASCII characters, bare or as a string in quotes"
  })
).pipe(Schema.decodeTo(IdempotencyKey, {
  decode: SchemaGetter.transform((text: string) =>
    text.startsWith("\"") ? text.slice(1, -1).replaceAll(/\\(.)/g, "$1") : text
  ),
  encode: SchemaGetter.transform((key: string) =>
    unquoted.test(key) && !key.startsWith("\"") ? key : `"${key.replaceAll(/["\\]/g, "\\$&")}"`
  )
}))

const startPayload = Schema.Struct({
  threadId: ThreadId,
  input: Input.json,
  /** What the run does if its thread is busy: `reject` unless given. Not compared when a request is repeated. */
  whenBusy: Schema.optionalKey(WhenBusy),
  /** What the run continues. It is kept with the run, and is not compared when a request is repeated. */
  continuation: Schema.optionalKey(RunContinuation)
})
const cursorText = Schema.String.check(Schema.isMaxLength(64))
// It names each run that has not ended.
const runsCursorText = Schema.String.check(Schema.isMaxLength(16_384))
const follow = {
  headers: { "last-event-id": Schema.optionalKey(runsCursorText) },
  query: { after: Schema.optionalKey(runsCursorText) },
  success: HttpApiSchema.StreamSse({ events: RunsStreamEvent })
}

/**
 * Groups the endpoints of runs. `list` has the session's runs whose events are still kept, the newest first, in pages.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class RunGroup extends HttpApiGroup.make("runs").add(
  HttpApiEndpoint.get("list", "/api/runs", {
    query: {
      threadId: Schema.optionalKey(ThreadId),
      status: Schema.optionalKey(RunStatus),
      after: Schema.optionalKey(PageCursor)
    },
    success: Schema.Struct({ runs: Schema.Array(RunView), next: NextPage }),
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.post("start", "/api/runs", {
    headers: { "idempotency-key": IdempotencyKeyHeader },
    payload: startPayload,
    success: [
      Schema.Struct({ created: Schema.Literal(true), run: RunView }).pipe(HttpApiSchema.status(201)),
      Schema.Struct({ created: Schema.Literal(false), run: RunView })
    ],
    error: [InvalidRequest, Conflict, IdempotencyConflict, TooLarge, Unavailable]
  }).pipe(requires("runs:operate")),
  HttpApiEndpoint.get("follow", "/api/runs/events", {
    ...follow,
    error: [InvalidRequest, Conflict, Gone, TooManyRequests, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("followThread", "/api/threads/:id/events", {
    ...follow,
    params: { id: ThreadId },
    error: [InvalidRequest, NotFound, Conflict, Gone, TooManyRequests, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("get", "/api/runs/:id", {
    params: { id: Schema.String },
    success: RunView,
    error: [NotFound, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("events", "/api/runs/:id/events", {
    params: { id: Schema.String },
    headers: { "last-event-id": Schema.optionalKey(cursorText) },
    /** A cursor, or `latest` to begin with what comes next. */
    query: { after: Schema.optionalKey(cursorText) },
    // 204 if the reader has been told of the end: an EventSource then stops asking.
    success: [HttpApiSchema.StreamSse({ events: RunStreamEvent }), HttpApiSchema.NoContent],
    error: [InvalidRequest, NotFound, Conflict, Gone, TooManyRequests, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("active", "/api/threads/:id/active-run", {
    params: { id: ThreadId },
    // With a key, the answer is the run that the key started in this thread, whatever its state, and no other run.
    headers: { "idempotency-key": Schema.optionalKey(IdempotencyKeyHeader) },
    success: Schema.Struct({ run: Schema.NullOr(RunView) }),
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.post("answer", "/api/runs/:id/answers", {
    params: { id: Schema.String },
    payload: RunAnswer,
    success: RunView,
    error: [InvalidRequest, NotFound, Conflict, TooLarge, Unavailable]
  }).pipe(requires("runs:operate")),
  HttpApiEndpoint.post("abort", "/api/runs/:id/abort", {
    params: { id: Schema.String },
    success: RunView,
    error: [NotFound, Unavailable]
  }).pipe(requires("runs:operate")),
  HttpApiEndpoint.post("abortThread", "/api/threads/:id/abort", {
    params: { id: ThreadId },
    payload: Schema.Struct({ idempotencyKey: IdempotencyKey }),
    success: Schema.Struct({
      /** `registered` if no run has begun with this key. A run that begins with it later ends at once. */
      outcome: Schema.Literals(["aborted", "already-ended", "registered"]),
      run: Schema.NullOr(RunView)
    }),
    error: [InvalidRequest, Conflict, IdempotencyConflict, Unavailable]
  }).pipe(requires("runs:operate"))
).middleware(RequestErrors) {}
