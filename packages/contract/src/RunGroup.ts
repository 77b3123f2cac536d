/**
 * The endpoints with which a client starts a run, leaves it, and joins it again.
 */
import { IdempotencyKey, RunId, RunStatus, ThreadId } from "@sallyport/core/Run"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { RequestErrors, requires } from "./Authentication.ts"
import { Conflict, Gone, IdempotencyConflict, InvalidRequest, NotFound, TooLarge, Unavailable } from "./WireError.ts"

/** Describes a run. Times are ISO 8601 text in UTC, by the database's clock. */
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
  completedAt: Schema.NullOr(Schema.DateTimeUtcFromString)
}) {}

/**
 * The events of the stream. `id` is the cursor to resume after; an `end` that was made up from the run's row has none.
 * `heartbeat` says that the connection is alive, and no more.
 */
export const RunStreamEvent = Schema.Union([
  Schema.Struct({ id: Schema.String, event: Schema.Literal("data"), data: Schema.fromJsonString(Schema.Json) }),
  Schema.Struct({
    id: Schema.optionalKey(Schema.UndefinedOr(Schema.String)),
    event: Schema.Literal("end"),
    data: Schema.fromJsonString(Schema.Json)
  }),
  Schema.Struct({ event: Schema.Literal("error"), data: Schema.fromJsonString(Schema.Json) }),
  Schema.Struct({ event: Schema.Literal("heartbeat"), data: Schema.String })
])

const startPayload = Schema.Struct({ threadId: ThreadId, input: Schema.Json })
const cursorText = Schema.String.check(Schema.isMaxLength(64))

/** Groups the endpoints of runs. */
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
    success: HttpApiSchema.StreamSse({ events: RunStreamEvent }),
    error: [InvalidRequest, NotFound, Conflict, Gone, Unavailable]
  }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("active", "/api/threads/:id/active-run", {
    params: { id: ThreadId },
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
    success: HttpApiSchema.NoContent,
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("runs:operate"))
).middleware(RequestErrors) {}
