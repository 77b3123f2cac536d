/**
 * Runs agents that speak AG-UI in the run log, and answers AG-UI clients, such as `HttpAgent` of `@ag-ui/client`.
 *
 * The client's run id is the idempotency key of the run: a client that posts the same run again, or another client that
 * joins it, reads the events of the existing run, and nothing runs twice.
 */
import { type AGUIEvent, EventType, type RunAgentInput, type RunFinishedEvent } from "@ag-ui/core"
import { ContextSchema, MessageSchema, RunAgentInputSchema, ToolSchema } from "@ag-ui/core/schemas"
import type { RunEventEncoded, RunOwner } from "@sallyport/core/runs/Run"
import { RunEventLog, type RunEventLogError, type StartedRun } from "@sallyport/core/runs/RunEventLog"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Answers from "./internal/answers.ts"
import { codeOf, endOf, toJson } from "./internal/interop.ts"
import * as OpenParts from "./internal/openParts.ts"

/**
 * Reports why a run cannot be started or followed; `code` is the code of the run log's reason, such as `run_not_found`.
 *
 * @category errors
 * @since 0.1.0
 */
export class AgUiError extends Schema.TaggedError<AgUiError>()("AgUiError", {
  code: Schema.String,
  message: Schema.String
}) {}

/**
 * Describes the events that a program emits. The run log itself adds the first and the last event of a run.
 *
 * @category models
 * @since 0.1.0
 */
export type ProgramEvent = Exclude<
  AGUIEvent,
  { readonly type: EventType.RUN_STARTED | EventType.RUN_FINISHED | EventType.RUN_ERROR }
>

/**
 * Describes the end of a program: a result, or interrupts that another run answers.
 *
 * @category models
 * @since 0.1.0
 */
export type Finish = Pick<RunFinishedEvent, "result" | "outcome">

/**
 * Executes an agent. `emit` returns once the event is durable.
 *
 * @category models
 * @since 0.1.0
 */
export type Program<E, R> = (
  input: RunAgentInput,
  emit: (event: ProgramEvent) => Effect.Effect<void, AgUiError>
) => Effect.Effect<Finish | void, E, R>

/**
 * Describes an event as a reader gets it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Delivered {
  /** The cursor to continue after it. None for an event that is not in the log but made from the run's row. */
  readonly cursor: Option.Option<number>
  readonly event: AGUIEvent
}

const prefix = "ag-ui/"

const lists = { messages: MessageSchema, tools: ToolSchema, context: ContextSchema }

/** Tells whether the parts of a list are none, or all as they should be. It looks at no more than the first that is not. */
const areParts = (parts: unknown, schema: { readonly safeParse: (part: unknown) => { readonly success: boolean } }) =>
  !Array.isArray(parts) || parts.every((part) => schema.safeParse(part).success)

/** Tells whether a body is an input. The schema of the whole would list all that is wrong with each part of it. */
const isRunAgentInput = (body: unknown): body is RunAgentInput =>
  Predicate.isObject(body) &&
  Object.entries(lists).every(([name, schema]) => !Predicate.hasProperty(body, name) || areParts(body[name], schema)) &&
  RunAgentInputSchema.safeParse(body).success

const problem = (error: RunEventLogError): AgUiError =>
  new AgUiError({ code: codeOf(error.reason), message: error.message })

const notJson = (error: TypeError): AgUiError => new AgUiError({ code: "invalid_input", message: error.message })

/**
 * Starts the run of an input and executes a program for it, detached from the caller. If the owner has used the run id
 * before, the program is not executed, and `created` is false.
 *
 * **Details**
 *
 * A thread has one running run at a time. Fails with `thread_busy` and the other codes of the run log.
 *
 * @category operations
 * @since 0.1.0
 */
export const start = Effect.fn("AgUi.start")(function*<E, R>(
  input: RunAgentInput,
  owner: RunOwner,
  program: Program<E, R>
): Effect.fn.Return<StartedRun, AgUiError, RunEventLog | Exclude<R, Scope.Scope>> {
  const log = yield* RunEventLog
  const { runId, threadId } = input
  const append = (event: AGUIEvent, write: (data: Schema.Json) => Effect.Effect<unknown, RunEventLogError>) =>
    Effect.mapError(toJson(event), notJson).pipe(
      Effect.flatMap((data) => Effect.mapError(write(data), problem)),
      Effect.asVoid
    )
  return yield* log.execute(
    // A client that retries sends more messages than at first, so only the run id identifies the request.
    { threadId: prefix + threadId, idempotencyKey: prefix + runId, request: { runId }, owner },
    Effect.fnUntraced(function*(writer) {
      yield* append({ type: EventType.RUN_STARTED, threadId, runId }, writer.append)
      const finish = yield* program(input, (event) => append(event, writer.append))
      if (finish !== undefined) return yield* toJson(finish)
    })
  ).pipe(Effect.mapError(problem))
})

/**
 * Describes which run to follow.
 *
 * @category options
 * @since 0.1.0
 */
export interface FollowOptions {
  readonly threadId: string
  readonly runId: string
  readonly owner: RunOwner
  /** The cursor of the last event that the reader has seen. By default the reader starts at the beginning. */
  readonly after?: number | string | undefined
}

const isFinish = (result: unknown): result is Finish => Predicate.isObject(result)

/** Returns what a program has returned, if anything. */
const finishOf = (result: unknown): Finish => isFinish(result) ? result : {}

const endEvent = (data: string, options: FollowOptions): AGUIEvent => {
  const { runId, threadId } = options
  const { error, reason, result, status } = endOf(data)
  switch (status) {
    case "succeeded":
      return { type: EventType.RUN_FINISHED, threadId, runId, ...finishOf(result) }
    case "aborted":
      return { type: EventType.RUN_FINISHED, threadId, runId, outcome: { type: "cancelled" } }
    case "failed":
      return { type: EventType.RUN_ERROR, message: error?.message ?? "The run failed", code: reason ?? "run_failed" }
  }
}

/**
 * Reads the events of a run after a cursor, then follows it to `RUN_FINISHED` or `RUN_ERROR`. A run whose process died
 * ends with a `RUN_ERROR` whose code is `stale_run`. What is open when a run finishes is closed first, by events that are
 * not in the log and have no cursor.
 *
 * **Details**
 *
 * The effect fails with `run_not_found`, `cursor_expired`, `cursor_beyond_end` and `malformed_cursor`.
 *
 * @category operations
 * @since 0.1.0
 */
export const follow = Effect.fn("AgUi.follow")(function*(
  options: FollowOptions
): Effect.fn.Return<Stream.Stream<Delivered, AgUiError>, AgUiError, RunEventLog> {
  const log = yield* RunEventLog
  const { after, owner, runId } = options
  const found = yield* Effect.mapError(log.getByKey({ idempotencyKey: prefix + runId, owner }), problem)
  if (Option.isNone(found)) {
    return yield* new AgUiError({
      code: "run_not_found",
      message: `There is no run ${runId}, or it is no longer kept; start another run`
    })
  }
  const name = { runId: found.value.runId, owner }
  const events = yield* Effect.mapError(log.eventsEncoded({ ...name, after }), problem)
  const isWhole = Number(after ?? 0) === 0
  const parts = OpenParts.make()
  let isFirst = isWhole

  const deliver = (event: AGUIEvent, cursor: Option.Option<number> = Option.none()): Delivered => ({ event, cursor })

  /** Returns the end of the run, after the ends of what is open, which are not in the log. */
  const endsOf = Effect.fnUntraced(function*({ data, seq }: RunEventEncoded) {
    const end = endEvent(data, options)
    if (end.type !== EventType.RUN_FINISHED) return [deliver(end, seq)]
    if (!isWhole) {
      // What the reader saw before may have opened something.
      yield* Stream.unwrap(log.eventsEncoded(name)).pipe(
        Stream.takeWhile(({ kind }) => kind === "data"),
        Stream.runForEach(({ data }) => Effect.sync(() => parts.add(JSON.parse(data))))
      )
    }
    return [...parts.ends().map((event) => deliver(event)), deliver(end, seq)]
  })

  const next = (event: RunEventEncoded): Effect.Effect<ReadonlyArray<Delivered>, RunEventLogError> => {
    // A run that was stopped before its program began has nothing but an end, and each run of AG-UI has a beginning.
    const first = isFirst && event.kind === "end"
      ? [deliver({ type: EventType.RUN_STARTED, threadId: options.threadId, runId })]
      : []
    isFirst = false
    if (event.kind === "end") return Effect.map(endsOf(event), (ends) => [...first, ...ends])
    const data: AGUIEvent = JSON.parse(event.data)
    if (isWhole) parts.add(data)
    return Effect.succeed([deliver(data, event.seq)])
  }
  return events.pipe(Stream.mapEffect(next), Stream.flattenIterable, Stream.mapError(problem))
})

/**
 * Reads the last run of a thread from its beginning, as {@link follow} does, and executes nothing: the one that is running,
 * else the newest. None if the thread has no run that is still kept.
 *
 * @category operations
 * @since 0.1.0
 */
export const connect = Effect.fn("AgUi.connect")(function*(
  { owner, threadId }: Pick<FollowOptions, "owner" | "threadId">
): Effect.fn.Return<Option.Option<Stream.Stream<Delivered, AgUiError>>, AgUiError, RunEventLog> {
  const log = yield* RunEventLog
  const thread = { threadId: prefix + threadId, owner }
  const active = yield* Effect.mapError(log.activeForThread(thread), problem)
  const [newest] = Option.isSome(active)
    ? [active.value]
    : yield* Effect.mapError(log.list({ ...thread, limit: 1 }), problem)
  if (newest === undefined) return Option.none()
  return Option.some(yield* follow({ threadId, runId: newest.idempotencyKey.slice(prefix.length), owner }))
})

const render = ({ cursor, event }: Delivered): string =>
  `${Option.isSome(cursor) ? `id: ${cursor.value}\n` : ""}data: ${JSON.stringify(event)}\n\n`

/**
 * Returns a response with events as Server-Sent Events, with the cursor as `id`, and a comment at once and at least every
 * 15 seconds.
 *
 * @category responses
 * @since 0.1.0
 */
export const respond = (events: Stream.Stream<Delivered, AgUiError>): HttpServerResponse.HttpServerResponse =>
  Answers.eventStream(Stream.map(events, render))

const unreadable = (code: string): AgUiError =>
  new AgUiError({
    code,
    message: code === "limit_exceeded"
      ? "The body is larger, or has more parts, than this server takes"
      : "The body must be the JSON of a RunAgentInput"
  })

const readInput = Effect.gen(function*() {
  const input = yield* Effect.mapError(Answers.body, unreadable)
  return isRunAgentInput(input) ? input : yield* unreadable("invalid_input")
})

/**
 * Handles the `POST` of an AG-UI client: starts the run, or finds the existing run of its run id, and answers with its
 * events. With a cursor in `Last-Event-ID` it starts none, and answers with what follows it. The answer ends with the server,
 * and with the session that the request was let in with; it counts as one of the session's open connections. A body may have 256 KiB and 1,024 messages, parts of them, tools and
 * the like, or as many times more as the host provides by `HttpIncomingMessage.MaxBodySize`.
 *
 * @category operations
 * @since 0.1.0
 */
export const handle = Effect.fn("AgUi.handle")(function*<E, R>(
  owner: RunOwner,
  program: Program<E, R>
): Effect.fn.Return<
  HttpServerResponse.HttpServerResponse,
  never,
  RunEventLog | HttpServerRequest.HttpServerRequest | Scope.Scope | Exclude<R, Scope.Scope>
> {
  return yield* Effect.gen(function*() {
    const { "last-event-id": after = "0" } = (yield* HttpServerRequest.HttpServerRequest).headers
    const input = yield* readInput
    const { runId, threadId } = input
    const ending = yield* Answers.open
    // A client that has seen events goes on with a run that is there. What it names wrongly must not begin one.
    if (after === "0") yield* start(input, owner, program)
    const events = yield* follow({ threadId, runId, owner, after })
    return respond(Stream.interruptWhen(events, ending))
  }).pipe(Answers.orProblem)
})

/**
 * Handles the `POST` of an AG-UI client that connects to a thread, with the same input: answers with the events of the
 * thread's last run, and with none if it has no run. It ends as that of {@link handle} does.
 *
 * @category operations
 * @since 0.1.0
 */
export const handleConnect = Effect.fn("AgUi.handleConnect")(function*(
  owner: RunOwner
): Effect.fn.Return<
  HttpServerResponse.HttpServerResponse,
  never,
  RunEventLog | HttpServerRequest.HttpServerRequest | Scope.Scope
> {
  return yield* Effect.gen(function*() {
    const { threadId } = yield* readInput
    const ending = yield* Answers.open
    const events = yield* connect({ threadId, owner })
    return respond(Option.match(events, {
      onNone: () => Stream.empty,
      onSome: Stream.interruptWhen(ending)
    }))
  }).pipe(Answers.orProblem)
})
