/**
 * Answers tool calls of MCP with tasks, which are runs: the extension `io.modelcontextprotocol/tasks` of protocol version
 * 2026-07-28, for servers of the SDK's second version (`@modelcontextprotocol/server`).
 *
 * In that version a response stream that is closed cancels its request, so a tool that works for long answers with a task,
 * whose run is stored before. The client asks for the task until it is over, of whichever process; it answers what the run
 * asks, and cancels it.
 */
import {
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  type Result,
  type Server,
  type ServerContext
} from "@modelcontextprotocol/server"
import * as Input from "@sallyport/core/Input"
import {
  answerOf,
  isEnded,
  isRunId,
  progressOf,
  questionOf,
  type Run,
  type RunEnd,
  type RunEventEncoded,
  type RunOwner,
  type RunQuestion
} from "@sallyport/core/runs/Run"
import { RunEventLog, type RunEventLogError, type RunWriter } from "@sallyport/core/runs/RunEventLog"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { endOf, newKey, ownerRule, toJson } from "./internal/interop.ts"

/**
 * Names the extension, as servers and clients declare it.
 *
 * @category constants
 * @since 0.1.0
 */
export const extension = "io.modelcontextprotocol/tasks"

/**
 * Configures the tasks of one owner.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The owner of the tasks. Another owner's task is unknown. */
  readonly owner: RunOwner
  /** How often clients should ask for a task that is not over. Default 1 second. */
  readonly pollInterval?: Duration.Input | undefined
  /** How long a task is kept after its end: the retention of the run log. Default 24 hours. */
  readonly retention?: Duration.Input | undefined
}

/**
 * Describes a tool call that is answered with a task.
 *
 * @category options
 * @since 0.1.0
 */
export interface CallOptions {
  /** The call with the same key is the same task. By default each call is a task of its own: MCP has no keys. */
  readonly idempotencyKey?: string | undefined
  /** Refuses a client that takes no tasks, with the error -32021. By default the call of such a client waits for the run. */
  readonly taskOnly?: boolean | undefined
}

/**
 * Describes the tasks of an owner.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tasks {
  /**
   * Declares the extension on a server, and answers `tasks/get`, `tasks/update` and `tasks/cancel`. Of an `McpServer` it is
   * the `server`.
   */
  readonly install: (server: Server) => void
  /**
   * Starts the run of a tool call, and returns the task for the tool to answer with, once the run is stored. The run goes on
   * without the request. What `program` returns is the result of the tool; what it asks by `run.ask(name, { message,
   * requestedSchema })` is an elicitation, whose answer is the `ElicitResult`. A program that fails is a result with
   * `isError`.
   *
   * The call of a client that has not declared the extension waits for the end of the run.
   */
  readonly call: <E, R>(
    context: ServerContext,
    program: (run: RunWriter) => Effect.Effect<CallToolResult | void, E, R>,
    options?: CallOptions
  ) => Effect.Effect<CallToolResult, ProtocolError, Exclude<R, Scope.Scope>>
}

const prefix = "mcp-task/"

const unknownTask = (): ProtocolError =>
  new ProtocolError(ProtocolErrorCode.InvalidParams, "There is no such task, or it is no longer kept")

/** Returns the error of the protocol for one of the run log. */
const problem = (error: RunEventLogError): ProtocolError => {
  const { message, reason } = error
  switch (reason._tag) {
    case "RunNotFound":
    case "CursorExpired":
      return unknownTask()
    case "InvalidInput":
    case "LimitExceeded":
    case "IdempotencyConflict":
      return new ProtocolError(ProtocolErrorCode.InvalidParams, message)
    default:
      return new ProtocolError(ProtocolErrorCode.InternalError, message)
  }
}

const members = Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
const decodeEnvelope = Schema.decodeUnknownOption(
  Schema.Struct({ [CLIENT_CAPABILITIES_META_KEY]: Schema.Struct({ extensions: members, elicitation: members }) })
)

/** Returns what the client of a request says that it can do. Each request says it: one before counts for nothing. */
const capabilitiesOf = ({ mcpReq }: ServerContext) =>
  Option.getOrUndefined(decodeEnvelope(mcpReq.envelope))?.[CLIENT_CAPABILITIES_META_KEY]

const takesTasks = (context: ServerContext): boolean => capabilitiesOf(context)?.extensions?.[extension] !== undefined

/** Tells whether a client shows forms. A capability that names no mode is of forms. */
const takesForms = (context: ServerContext): boolean => {
  const elicitation = capabilitiesOf(context)?.elicitation
  return elicitation !== undefined && (Object.keys(elicitation).length === 0 || "form" in elicitation)
}

const missing = (): ProtocolError =>
  new MissingRequiredClientCapabilityError({ requiredCapabilities: { extensions: { [extension]: {} } } })

const Ask = Schema.Struct({
  message: Schema.String,
  requestedSchema: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json))
})
const decodeAsk = Schema.decodeUnknownOption(Ask)

const elicitation = ({ ask }: RunQuestion) => {
  const { message, requestedSchema = { type: "object", properties: {} } }: typeof Ask.Type = Option.getOrElse(
    decodeAsk(ask),
    () => ({ message: typeof ask === "string" ? ask : JSON.stringify(ask) })
  )
  return { method: "elicitation/create", params: { mode: "form", message, requestedSchema } }
}

const errorResult = (text: string): CallToolResult => ({ content: [{ type: "text", text }], isError: true })

/** Tells whether a program has returned a result; it returns nothing else. */
const isResult = (result: unknown): result is CallToolResult => Predicate.isObject(result)

/** Returns the result of a tool whose run has ended by its program or by a caller. */
const resultOf = ({ error, reason, result, status }: RunEnd): CallToolResult =>
  status === "succeeded"
    ? isResult(result) ? result : { content: [] }
    : errorResult(error?.message ?? (status === "aborted" ? "The call was cancelled" : `The run failed: ${reason}`))

const params = { params: Schema.toStandardSchemaV1(Schema.Struct({ taskId: Schema.String })) }
const decodeResponses = Schema.decodeUnknownOption(Schema.Record(Schema.String, Schema.Json))

/**
 * Creates the tasks of one owner. Any process can create them again: they are in the run log.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("McpTasks.make")(function*(
  options: Options
): Effect.fn.Return<Tasks, never, RunEventLog> {
  Input.demand("McpTasks.make", { owner: ownerRule, pollInterval: Input.any, retention: Input.any }, options)
  const { owner, pollInterval = "1 second", retention = "24 hours" } = options
  const log = yield* RunEventLog
  const run = Effect.runPromiseWith(yield* Effect.context<never>())
  const pollIntervalMs = Duration.toMillis(pollInterval)
  const retentionMillis = Duration.toMillis(retention)

  const find = Effect.fnUntraced(function*(taskId: string): Effect.fn.Return<Run, ProtocolError> {
    if (!isRunId(taskId)) return yield* Effect.fail(unknownTask())
    const found = yield* Effect.mapError(log.get({ runId: taskId, owner }), problem)
    return found.expired || !found.threadId.startsWith(prefix) ? yield* Effect.fail(unknownTask()) : found
  })

  /** Reads the events of a run that are stored now, from a number on; of one that has ended, the end too. */
  const stored = ({ lastSeq, runId, status }: Run, after: number): Stream.Stream<RunEventEncoded, RunEventLogError> => {
    const events = Stream.unwrap(log.eventsEncoded({ runId, owner, after }))
    return isEnded(status) ? events : Stream.take(events, lastSeq - after)
  }

  const openQuestions = (run: Run) =>
    Stream.runFold(stored(run, 0), () => new Map<string, RunQuestion>(), (open, { data }) => {
      const event: Schema.Json = JSON.parse(data)
      Option.map(questionOf(event), (question) => open.set(question.name, question))
      Option.map(answerOf(event), ({ name }) => open.delete(name))
      return open
    })

  /** Returns what a task is now. */
  const taskOf = Effect.fnUntraced(function*(run: Run, context: ServerContext) {
    const last = yield* Stream.runLast(stored(run, Math.max(0, run.lastSeq - 1)))
    const createdAt = run.startedAt
    const common = {
      taskId: run.runId,
      createdAt: DateTime.formatIso(createdAt),
      lastUpdatedAt: DateTime.formatIso(
        Option.match(last, { onNone: () => createdAt, onSome: ({ atMillis }) => DateTime.makeUnsafe(atMillis) })
      ),
      ttlMs: run.completedAt === null
        ? null
        : run.completedAt.epochMilliseconds + retentionMillis - createdAt.epochMilliseconds,
      pollIntervalMs
    }
    if (isEnded(run.status) && Option.isSome(last)) {
      const end = endOf(last.value.data)
      if (end.status === "aborted") return { ...common, status: "cancelled", statusMessage: end.reason }
      return end.status === "succeeded" || end.reason === "program_failed"
        ? { ...common, status: "completed", result: resultOf(end) }
        : {
          ...common,
          status: "failed",
          error: { code: ProtocolErrorCode.InternalError, message: end.error?.message ?? "The run failed" }
        }
    }
    if (run.status === "waiting") {
      const open = yield* openQuestions(run)
      if (open.size > 0 && takesForms(context)) {
        const inputRequests = Object.fromEntries(Array.from(open, ([name, question]) => [name, elicitation(question)]))
        return { ...common, status: "input_required", inputRequests }
      }
      if (open.size > 0) return { ...common, status: "working", statusMessage: "The task waits for an answer" }
    }
    const progress = Option.flatMap(last, ({ data }) => progressOf(JSON.parse(data)))
    return {
      ...common,
      status: "working",
      ...(Option.isSome(progress) ? { statusMessage: `${progress.value.done} of ${progress.value.total}` } : {})
    }
  })

  const get = (taskId: string, context: ServerContext) =>
    Effect.flatMap(find(taskId), (run) => Effect.mapError(taskOf(run, context), problem))

  const update = Effect.fnUntraced(function*(taskId: string, { mcpReq }: ServerContext) {
    const { runId } = yield* find(taskId)
    // The SDK takes them out of the parameters.
    const inputResponses = Option.getOrElse(decodeResponses(mcpReq.inputResponses), () => ({}))
    for (const [name, value] of Object.entries(inputResponses)) {
      yield* log.answer({ runId, owner, name, value }).pipe(
        // What is unknown or answered is ignored, as the extension says.
        Effect.catchReasons("RunEventLogError", {
          QuestionNotFound: () => Effect.void,
          QuestionAnswered: () => Effect.void,
          RunEnded: () => Effect.void
        }),
        Effect.mapError(problem)
      )
    }
  })

  const cancel = (taskId: string) =>
    Effect.flatMap(find(taskId), ({ runId }) => Effect.mapError(log.abort({ runId, owner }), problem))

  /** Answers a request about a task, of a client that has declared the extension. */
  const answer = (context: ServerContext, effect: Effect.Effect<Result, ProtocolError>): Promise<Result> =>
    run(takesTasks(context) ? effect : Effect.fail(missing()))

  /** Waits for the end of a run, and returns the result of its tool. */
  const result = ({ runId }: Run) =>
    Effect.map(Stream.runLast(Stream.unwrap(log.eventsEncoded({ runId, owner }))), (last) =>
      Option.match(last, {
        onNone: () => errorResult("The run has no end"),
        onSome: ({ data }) => resultOf(endOf(data))
      }))

  return {
    install: (server) => {
      server.registerCapabilities({ extensions: { [extension]: {} } })
      const handle = (
        method: string,
        effect: (taskId: string, context: ServerContext) => Effect.Effect<Result, ProtocolError>
      ) => server.setRequestHandler(method, params, ({ taskId }, context) => answer(context, effect(taskId, context)))
      handle("tasks/get", get)
      handle("tasks/update", (taskId, context) => Effect.as(update(taskId, context), {}))
      handle("tasks/cancel", (taskId) => Effect.as(cancel(taskId), {}))
    },
    call: Effect.fnUntraced(function*(context, program, { idempotencyKey, taskOnly = false } = {}) {
      if (taskOnly && !takesTasks(context)) return yield* Effect.fail(missing())
      const key = prefix + (idempotencyKey ?? (yield* newKey))
      const { run } = yield* log.execute(
        { threadId: key, idempotencyKey: key, request: {}, owner },
        (writer) => Effect.flatMap(program(writer), (result) => toJson(result ?? { content: [] }))
      ).pipe(Effect.mapError(problem))
      return yield* (takesTasks(context)
        ? Effect.map(taskOf(run, context), (task) => ({ content: [], resultType: "task", ...task }))
        : result(run)).pipe(Effect.mapError(problem))
    })
  }
})
