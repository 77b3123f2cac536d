/**
 * The endpoints with which a client starts a run, leaves it, and joins it again.
 */
import {
  IdempotencyKey,
  RunContinuation,
  RunEnd,
  RunId,
  RunStatus,
  ThreadId as CoreThreadId
} from "@sallyport/core/runs/Run"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { RequestErrors, requires } from "./Authentication.ts"
import { Conflict, Gone, IdempotencyConflict, InvalidRequest, NotFound, TooLarge, Unavailable } from "./WireError.ts"

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
  /** Why it ended, where there is more to say than the status. */
  endReason: Schema.NullOr(Schema.String),
  /** The number of its newest event, 0 while there is none. */
  lastSeq: Schema.Natural,
  startedAt: Schema.DateTimeUtcFromString,
  completedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** What it continues, where it does. */
  continuation: Schema.optionalKey(RunContinuation)
}) {}

/**
 * Tells a reader why a stream stops before the run's end; after a retryable one it may resume from its last cursor.
 *
 * @category models
 * @since 0.1.0
 */
export const RunStreamFailure = Schema.Struct({
  code: Schema.Literals(["session_ended", "unavailable", "run_not_found", "cursor_expired"]),
  message: Schema.String,
  retryable: Schema.Boolean
})

/**
 * The events of the stream. `id` is the cursor to resume after; an `end` that was made up from the run's row has none. The
 * stream closes after `end` and after `failure`. In between, comments keep an idle connection alive.
 *
 * The stream begins with `retry:`, which tells an EventSource how soon to reconnect. Effect's own decoder ends a stream at
 * that with the failure `Sse.Retry`, so read the events with an EventSource, or decode the response without it.
 *
 * @category models
 * @since 0.1.0
 */
export const RunStreamEvent = Schema.Union([
  Schema.Struct({ id: Schema.String, event: Schema.Literal("data"), data: Schema.fromJsonString(Schema.Json) }),
  Schema.Struct({
    id: Schema.optionalKey(Schema.UndefinedOr(Schema.String)),
    event: Schema.Literal("end"),
    data: Schema.fromJsonString(RunEnd)
  }),
  Schema.Struct({ event: Schema.Literal("failure"), data: Schema.fromJsonString(RunStreamFailure) })
])

/**
 * The id of a thread, 1 to 100 characters without control characters. It stands in paths, whose parameters routers bound
 * (`HttpRouter`'s `maxParamLength`): a run of a longer one could be started, and then not be found again.
 *
 * @category models
 * @since 0.1.0
 */
export const ThreadId = CoreThreadId.check(Schema.isMaxLength(100))

const startPayload = Schema.Struct({
  threadId: ThreadId,
  input: Schema.Json,
  /** What the run continues. It is kept with the run, and no part of what makes requests equal. */
  continuation: Schema.optionalKey(RunContinuation)
})
const cursorText = Schema.String.check(Schema.isMaxLength(64))

/**
 * Groups the endpoints of runs.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class RunGroup extends HttpApiGroup.make("runs").add(
  HttpApiEndpoint.post("start", "/api/runs", {
    headers: { "idempotency-key": IdempotencyKey },
    payload: startPayload,
    success: [
      Schema.Struct({ created: Schema.Literal(true), run: RunView }).pipe(HttpApiSchema.status(201)),
      Schema.Struct({ created: Schema.Literal(false), run: RunView })
    ],
    error: [InvalidRequest, Conflict, IdempotencyConflict, TooLarge, Unavailable]
  }).pipe(requires("runs:operate")),
  HttpApiEndpoint.get("get", "/api/runs/:id", {
    params: { id: Schema.String },
    success: RunView,
    error: [NotFound, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("events", "/api/runs/:id/events", {
    params: { id: Schema.String },
    headers: { "last-event-id": Schema.optionalKey(cursorText) },
    query: { after: Schema.optionalKey(cursorText) },
    // 204 where the cursor is that of the terminal event: an EventSource stops asking then.
    success: [HttpApiSchema.StreamSse({ events: RunStreamEvent }), HttpApiSchema.NoContent],
    error: [InvalidRequest, NotFound, Conflict, Gone, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("active", "/api/threads/:id/active-run", {
    params: { id: ThreadId },
    // With a key, the answer is the run that the key started in this thread, whatever became of it, and no other.
    headers: { "idempotency-key": Schema.optionalKey(IdempotencyKey) },
    success: Schema.Struct({ run: Schema.NullOr(RunView) }),
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.post("abort", "/api/runs/:id/abort", {
    params: { id: Schema.String },
    success: RunView,
    error: [NotFound, Unavailable]
  }).pipe(requires("runs:operate")),
  HttpApiEndpoint.post("abortThread", "/api/threads/:id/abort", {
    params: { id: ThreadId },
    payload: Schema.Struct({ idempotencyKey: IdempotencyKey }),
    success: Schema.Struct({
      /** `registered` where no run has begun with this key: if one does, it ends at once. */
      outcome: Schema.Literals(["aborted", "already-ended", "registered"]),
      run: Schema.NullOr(RunView)
    }),
    error: [InvalidRequest, IdempotencyConflict, Unavailable]
  }).pipe(requires("runs:operate"))
).middleware(RequestErrors) {}
