/**
 * Runs the answers of a chat of the AI SDK in the run log, for its `useChat` and `Chat`.
 *
 * A message that was sent is the idempotency key of a run: sent again, it reads the run of the first time, and nothing runs
 * twice. The run's id is the id of the assistant's message. A program goes on when its page is closed; the page that comes
 * back resumes it from the beginning, which is what the library expects.
 */
import {
  answerOf,
  isEnded,
  isRunId,
  questionOf,
  type RunEventEncoded,
  type RunOwner,
  type WhenBusy
} from "@sallyport/core/runs/Run"
import * as Input from "@sallyport/core/Input"
import { RunEventLog, type RunEventLogError, type RunWriter } from "@sallyport/core/runs/RunEventLog"
import {
  asSchema,
  isToolUIPart,
  safeValidateUIMessages,
  UI_MESSAGE_STREAM_HEADERS,
  type UIMessage,
  type UIMessageChunk,
  uiMessageChunkSchema
} from "ai"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hash from "effect/Hash"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Answers from "./internal/answers.ts"
import { codeOf, endOf, newKey, toJson } from "./internal/interop.ts"
import * as MessageParts from "./internal/messageParts.ts"

/**
 * Reports why a run cannot be started, written or followed; `code` is the code of the run log's reason, such as
 * `thread_busy`, or `invalid_input`.
 *
 * @category errors
 * @since 0.1.0
 */
export class AiSdkError extends Schema.TaggedError<AiSdkError>()("AiSdkError", {
  code: Schema.String,
  message: Schema.String
}) {}

/**
 * Describes what a chat sends.
 *
 * @category models
 * @since 0.1.0
 */
export interface ChatRequest {
  /** The id of the chat. */
  readonly id: string
  readonly messages: Array<UIMessage>
  readonly trigger: "submit-message" | "regenerate-message"
  /** The message that is sent again or gone on with, if any. */
  readonly messageId: string | undefined
  /** The whole body, with what the page has added to it. */
  readonly body: Readonly<Record<string, Schema.Json>>
}

/**
 * Describes the chunks that a program emits. The run log itself adds the first and the last of a run.
 *
 * @category models
 * @since 0.1.0
 */
export type ProgramChunk = Exclude<UIMessageChunk, { readonly type: "start" | "finish" | "abort" }>

/**
 * Describes the end of a program.
 *
 * @category models
 * @since 0.1.0
 */
export type Finish = Omit<Extract<UIMessageChunk, { readonly type: "finish" }>, "type">

/**
 * Describes the answer to a request for approval.
 *
 * @category models
 * @since 0.1.0
 */
export const Approval = Schema.Struct({ approved: Schema.Boolean, reason: Schema.optionalKey(Schema.String) })
/**
 * @see {@link Approval}
 *
 * @category models
 * @since 0.1.0
 */
export type Approval = typeof Approval.Type

/**
 * Writes the answer of a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Writer {
  /** The run, whose id is the id of the message unless it goes on with an earlier one. */
  readonly run: RunWriter
  /** Emits a chunk, and returns once it is durable. A chunk that the library would not read is refused. */
  readonly emit: (chunk: ProgramChunk) => Effect.Effect<void, AiSdkError>
  /**
   * Emits what a stream of the library gives, as `toUIMessageStream` makes one, and returns its end. The signal aborts when
   * the run does. An `error` of the stream reaches the page, and fails the program.
   */
  readonly emitAll: (
    stream: (signal: AbortSignal) => ReadableStream<UIMessageChunk>
  ) => Effect.Effect<Finish, AiSdkError>
  /**
   * Asks the person to approve a tool call whose input has been emitted, and waits for the answer, in whichever process it
   * arrives. A call that was answered before has its answer at once.
   */
  readonly approve: (
    call: { readonly toolCallId: string; readonly reason?: string | undefined }
  ) => Effect.Effect<Approval, AiSdkError>
}

/**
 * Answers a message. What it returns is the end of the answer.
 *
 * @category models
 * @since 0.1.0
 */
export type Program<E, R> = (request: ChatRequest, writer: Writer) => Effect.Effect<Finish | void, E, R>

const prefix = "ai-sdk/"

const problem = (error: RunEventLogError): AiSdkError =>
  new AiSdkError({ code: codeOf(error.reason), message: error.message })

const invalid = (message: string): AiSdkError => new AiSdkError({ code: "invalid_input", message })

// -----------------------------------------------------------------------------
// What a chat sends
// -----------------------------------------------------------------------------

const decodeBody = Schema.decodeUnknownEffect(Schema.Record(Schema.String, Input.json))
const decodeRequest = Schema.decodeUnknownEffect(Schema.Struct({
  id: Schema.NonEmptyString,
  messages: Schema.NonEmptyArray(Input.json),
  trigger: Schema.optionalKey(Schema.Literals(["submit-message", "regenerate-message"])),
  messageId: Schema.optionalKey(Schema.NullOr(Schema.String))
}))

/**
 * Reads the body that the library's transport posts. Fails with `invalid_input`.
 *
 * @category converting
 * @since 0.1.0
 */
export const readRequest = Effect.fnUntraced(function*(
  body: unknown
): Effect.fn.Return<ChatRequest, AiSdkError> {
  // In this order: the fields say sooner that it is no request.
  const fields = yield* Effect.all({ request: decodeRequest(body), body: decodeBody(body) }).pipe(
    Effect.mapError(() => invalid("The body must be what the AI SDK's transport sends: id, messages, trigger"))
  )
  const { id, messages, messageId, trigger = "submit-message" } = fields.request
  const validated = yield* Effect.promise(() => safeValidateUIMessages({ messages }))
  if (!validated.success) return yield* invalid("The messages of the body must be UI messages of the AI SDK")
  return { id, messages: validated.data, trigger, messageId: messageId ?? undefined, body: fields.body }
})

/** Returns the message of the assistant that a request goes on with, if it does. */
const continued = ({ messageId, messages, trigger }: ChatRequest): UIMessage | undefined => {
  if (trigger !== "submit-message") return undefined
  const message = messageId === undefined ? messages.at(-1) : messages.find(({ id }) => id === messageId)
  return message?.role === "assistant" ? message : undefined
}

/** Returns the key of what a request asks for, which another request has if it asks for the same. */
const keyOf = (request: ChatRequest): string | undefined => {
  if (request.trigger === "regenerate-message") return undefined
  const message = continued(request) ?? request.messages.findLast(({ role }) => role === "user")
  // The id of a message that was edited stays.
  return message && `${message.id}/${Hash.string(JSON.stringify([request.id, message.parts]))}`
}

const keyForm = /^"?([\x21\x23-\x7e](?:[\x20\x21\x23-\x7e]*[\x21\x23-\x7e])?)"?$/

/** Returns the key in the header `Idempotency-Key` of the current request, if it has one. */
const headerKey = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  ({ headers }): Effect.Effect<string | undefined, AiSdkError> => {
    const text = headers["idempotency-key"]
    if (text === undefined) return Effect.succeed(undefined)
    const key = keyForm.exec(text.trim())?.[1]
    return key === undefined
      ? Effect.fail(invalid("The header Idempotency-Key must be printable ASCII"))
      : Effect.succeed(prefix + key)
  }
)

// -----------------------------------------------------------------------------
// Writing
// -----------------------------------------------------------------------------

const approvalAsked = Schema.decodeUnknownOption(
  Schema.Struct({ approve: Schema.String, reason: Schema.optionalKey(Schema.String) })
)
const readApproval = Schema.decodeUnknownOption(Approval)
const chunkSchema = asSchema(uiMessageChunkSchema)

const checkChunk = (chunk: { readonly type: string }): Effect.Effect<Schema.Json, AiSdkError> =>
  Effect.gen(function*() {
    const checked = yield* Effect.promise(async () => await chunkSchema.validate?.(chunk))
    if (checked?.success === false) {
      return yield* invalid(`The AI SDK reads no chunk like this of the type ${JSON.stringify(chunk.type)}`)
    }
    return yield* Effect.mapError(toJson(chunk), ({ message }) => invalid(message))
  })

const makeWriter = (run: RunWriter, joins: boolean) => {
  const emitSome = (chunks: ReadonlyArray<{ readonly type: string }>): Effect.Effect<void, AiSdkError> =>
    Effect.flatMap(
      Effect.forEach(chunks, checkChunk),
      (events) => Effect.asVoid(Effect.mapError(run.appendAll(events), problem))
    )
  const isDelta = ({ type }: { readonly type: string }) => type === "text-delta" || type === "reasoning-delta"
  /** Appends what a program says: deltas as the run joins them. */
  const say = (chunks: ReadonlyArray<ProgramChunk>): Effect.Effect<void, AiSdkError> =>
    joins
      ? Effect.forEach(chunks, (chunk) =>
        isDelta(chunk)
          ? Effect.flatMap(checkChunk(chunk), (event) => Effect.mapError(run.appendDelta(event), problem))
          : emitSome([chunk]), { discard: true })
      : emitSome(chunks)
  const emitAll = Effect.fnUntraced(function*(
    stream: (signal: AbortSignal) => ReadableStream<UIMessageChunk>
  ): Effect.fn.Return<Finish, AiSdkError, Scope.Scope> {
    const { signal } = yield* Effect.acquireRelease(
      Effect.sync(() => new AbortController()),
      (controller) => Effect.sync(() => controller.abort())
    )
    let finish: Finish = {}
    const toChunks = (chunk: UIMessageChunk): ReadonlyArray<ProgramChunk> => {
      switch (chunk.type) {
        case "start":
          return chunk.messageMetadata === undefined
            ? []
            : [{ type: "message-metadata", messageMetadata: chunk.messageMetadata }]
        case "finish": {
          const { type: _, ...rest } = chunk
          finish = rest
          return []
        }
        case "abort":
          finish = { finishReason: "interrupted" }
          return []
        default:
          return [chunk]
      }
    }
    yield* Stream.fromReadableStream({
      evaluate: () => stream(signal),
      onError: (cause) => new AiSdkError({ code: "stream_error", message: String(cause) })
    }).pipe(
      // What comes while an append is on its way is stored by the next one.
      Stream.buffer({ capacity: 64 }),
      Stream.runForEachArray((some) => {
        const chunks = some.flatMap(toChunks)
        const error = chunks.find((chunk) => chunk.type === "error")
        return Effect.andThen(
          chunks.length === 0 ? Effect.void : say(chunks),
          error === undefined
            ? Effect.void
            : Effect.fail(new AiSdkError({ code: "stream_error", message: error.errorText }))
        )
      })
    )
    return finish
  }, Effect.scoped)
  return {
    run,
    emitSome,
    emit: (chunk: ProgramChunk) => say([chunk]),
    emitAll,
    approve: ({ reason, toolCallId }: Parameters<Writer["approve"]>[0]) =>
      run.ask(toolCallId, { approve: toolCallId, ...(reason === undefined ? {} : { reason }) }).pipe(
        Effect.mapError(problem),
        Effect.flatMap((answer) =>
          Option.match(readApproval(answer), {
            onNone: () => Effect.fail(invalid("The answer to a request for approval must be an Approval")),
            onSome: (approval) => Effect.succeed(approval)
          })
        )
      )
  }
}

// -----------------------------------------------------------------------------
// Reading
// -----------------------------------------------------------------------------

/**
 * Describes which run to follow, and from where.
 *
 * @category options
 * @since 0.1.0
 */
export interface FollowOptions {
  readonly runId: string
  readonly owner: RunOwner
  /**
   * The number of the last event of the run that the page has shown in the message. By default the message is given from its
   * beginning, with a `start` that names it.
   */
  readonly after?: number | undefined
}

const decodeMetadata = Schema.decodeUnknownOption(Schema.Struct({ message: Schema.String }))

const isFinish = (result: unknown): result is Finish => Predicate.isObject(result)

/** Returns what a program has returned, if anything. */
const finishOf = (result: unknown): Finish => isFinish(result) ? result : {}

/** Returns the end of an answer. The library shows no `abort` by itself, so its `finish` says that it is no usual end. */
const endChunks = (data: string, told: boolean): ReadonlyArray<UIMessageChunk> => {
  const { error, reason, result, status } = endOf(data)
  switch (status) {
    case "succeeded":
      return [{ type: "finish", ...finishOf(result) }]
    case "aborted":
      return [
        { type: "abort", ...(reason === undefined ? {} : { reason }) },
        { type: "finish", finishReason: "interrupted" }
      ]
    case "failed":
      return told ? [] : [{ type: "error", errorText: error?.message ?? `The run failed: ${reason ?? "unknown"}` }]
  }
}

const isChunk = (data: Schema.Json | UIMessageChunk): data is UIMessageChunk =>
  typeof data === "object" && data !== null && "type" in data

/**
 * Makes what leaves out the chunks that a page has. A part that was begun in them is begun again before what belongs to it:
 * the library goes on with a message, but not with a part of it.
 */
const makeTail = () => {
  const begun = new Set<string>()
  const partOf = (chunk: UIMessageChunk) => {
    const [, kind, what] = /^(text|reasoning)-(start|delta|end)$/.exec(chunk.type) ?? []
    return (kind === "text" || kind === "reasoning") && "id" in chunk && typeof chunk.id === "string"
      ? { kind, what, id: chunk.id, key: `${kind}/${chunk.id}` }
      : undefined
  }
  return {
    skip: (chunks: ReadonlyArray<UIMessageChunk>): void => {
      for (const part of chunks.map(partOf)) {
        if (part?.what === "start") begun.add(part.key)
        else if (part?.what === "end") begun.delete(part.key)
      }
    },
    add: (chunks: ReadonlyArray<UIMessageChunk>): ReadonlyArray<UIMessageChunk> =>
      chunks.flatMap((chunk) => {
        const part = partOf(chunk)
        return part !== undefined && begun.delete(part.key) && part.what !== "start"
          ? [{ type: part.kind === "text" ? "text-start" : "reasoning-start", id: part.id }, chunk]
          : [chunk]
      })
  }
}

/**
 * Reads the answer of a run, and follows it to its end, or to a tool call that needs an approval: the page answers by
 * sending the message again. What a program asks otherwise, by `run.ask`, is a part `data-question`, whose data has the
 * `name`, `ask`, and the `answer` once there is one.
 *
 * **Details**
 *
 * The effect fails with `run_not_found` and `cursor_expired`.
 *
 * @category operations
 * @since 0.1.0
 */
export const follow = Effect.fn("AiSdk.follow")(function*(
  { after = 0, owner, runId }: FollowOptions
): Effect.fn.Return<Stream.Stream<UIMessageChunk, AiSdkError>, AiSdkError, RunEventLog> {
  const log = yield* RunEventLog
  const named = { runId, owner }
  const { metadata } = yield* Effect.mapError(log.get(named), problem)
  // From the beginning, because what was asked says how an answer is shown.
  const events = yield* Effect.mapError(log.eventsEncoded(named), problem)
  const messageId = Option.match(decodeMetadata(metadata), { onNone: () => runId, onSome: ({ message }) => message })
  const asked = new Map<string, Schema.Json>()
  const tail = makeTail()
  let told = false

  /** Tells whether a question has no answer yet. */
  const isOpen = Effect.fnUntraced(function*(name: string, seq: number) {
    const { lastSeq, status } = yield* log.get(named)
    if (isEnded(status)) return false
    if (seq >= lastSeq) return true
    const isAnswer = (text: string) => Option.exists(answerOf(JSON.parse(text)), (answer) => answer.name === name)
    const later = yield* log.eventsEncoded({ ...named, after: seq })
    const found = yield* Stream.take(later, lastSeq - seq).pipe(
      Stream.filter(({ data }) => isAnswer(data)),
      Stream.runHead
    )
    return Option.isNone(found)
  })

  const dataChunks = Effect.fnUntraced(function*(
    text: string,
    seq: number
  ): Effect.fn.Return<{ readonly chunks: ReadonlyArray<UIMessageChunk>; readonly last: boolean }, RunEventLogError> {
    const data: Schema.Json | UIMessageChunk = JSON.parse(text)
    if (isChunk(data)) {
      told ||= data.type === "error"
      return { chunks: [data], last: false }
    }
    const question = Option.getOrUndefined(questionOf(data))
    const answer = Option.getOrUndefined(answerOf(data))
    if (question !== undefined) {
      const { ask, name } = question
      const { approve: toolCallId, ...rest } = Option.getOrElse(approvalAsked(ask), () => ({ approve: undefined }))
      if (toolCallId === undefined) {
        asked.set(name, ask)
        return { chunks: [{ type: "data-question", id: name, data: { name, ask } }], last: false }
      }
      const request: UIMessageChunk = { type: "tool-approval-request", approvalId: name, toolCallId, ...rest }
      return seq > after && (yield* isOpen(name, seq))
        ? { chunks: [request, { type: "finish", finishReason: "tool-calls" }], last: true }
        : { chunks: [request], last: false }
    }
    if (answer !== undefined) {
      const { name, value } = answer
      const ask = asked.get(name)
      if (ask !== undefined) {
        return { chunks: [{ type: "data-question", id: name, data: { name, ask, answer: value } }], last: false }
      }
      const approval = Option.getOrUndefined(readApproval(value))
      return {
        chunks: approval === undefined ? [] : [{ type: "tool-approval-response", approvalId: name, ...approval }],
        last: false
      }
    }
    return { chunks: [], last: false }
  })

  return events.pipe(
    Stream.mapEffect(({ data, kind, seq: stored }: RunEventEncoded) => {
      if (kind === "end") return Effect.succeed({ chunks: endChunks(data, told), last: true })
      const seq = Option.getOrElse(stored, () => 0)
      return Effect.map(dataChunks(data, seq), ({ chunks, last }) => {
        if (seq > after) return { chunks: tail.add(chunks), last }
        tail.skip(chunks)
        return { chunks: [], last }
      })
    }),
    Stream.takeUntil(({ last }) => last),
    Stream.map(({ chunks }) => chunks),
    Stream.flattenIterable,
    Stream.mapError(problem),
    Stream.prepend<UIMessageChunk>([after === 0 ? { type: "start", messageId } : { type: "start" }])
  )
})

// -----------------------------------------------------------------------------
// Starting and answering
// -----------------------------------------------------------------------------

/**
 * Configures what a message does.
 *
 * @category options
 * @since 0.1.0
 */
export interface StartOptions {
  readonly owner: RunOwner
  /** The key of the run. By default it is made of the message that was sent; one that regenerates has a new one. */
  readonly idempotencyKey?: string | undefined
  /** What a message does while the chat is being answered. Default `reject`. */
  readonly whenBusy?: WhenBusy | undefined
  /** For how long text and reasoning are held back to be joined into fewer events. Default: not at all. */
  readonly joinDeltas?: Duration.Input | undefined
}

const threadOf = (chatId: string): string => prefix + chatId

/** Returns the approvals that a message has been given. */
const approvalsOf = ({ parts }: UIMessage): ReadonlyMap<string, Approval> =>
  new Map(
    parts.flatMap((part) => {
      if (!isToolUIPart(part) || part.approval?.approved === undefined) return []
      const { approved, id, reason } = part.approval
      return [[id, { approved, ...(reason === undefined ? {} : { reason }) }]]
    })
  )

/**
 * Answers with a message what a run has asked, and returns the place of the last question; none if the run has asked nothing
 * that the message answers.
 */
const answerQuestions = Effect.fnUntraced(function*(
  message: UIMessage,
  owner: RunOwner
): Effect.fn.Return<Option.Option<FollowOptions & { readonly after: number }>, RunEventLogError, RunEventLog> {
  const log = yield* RunEventLog
  const approvals = approvalsOf(message)
  if (approvals.size === 0 || !isRunId(message.id)) return Option.none()
  const named = { runId: message.id, owner }
  const found = yield* Effect.asSome(log.get(named)).pipe(
    Effect.catchReason("RunEventLogError", "RunNotFound", () => Effect.succeedNone)
  )
  if (Option.isNone(found) || found.value.expired || found.value.lastSeq === 0) return Option.none()
  const events = yield* log.eventsEncoded(named)
  let after = 0
  yield* Stream.take(events, found.value.lastSeq).pipe(Stream.runForEach(({ data, kind, seq }) => {
    const name = kind === "end" ? undefined : Option.getOrUndefined(questionOf(JSON.parse(data)))?.name
    const value = name === undefined ? undefined : approvals.get(name)
    if (name === undefined || value === undefined) return Effect.void
    after = Option.getOrElse(seq, () => after)
    return log.answer({ ...named, name, value }).pipe(
      Effect.asVoid,
      // Sent again, or answered by another page.
      Effect.catchReasons("RunEventLogError", {
        QuestionAnswered: () => Effect.void,
        RunEnded: () => Effect.void
      })
    )
  }))
  return after === 0 ? Option.none() : Option.some({ ...named, after })
})

/**
 * Starts the run that answers a message, detached from the caller, and returns how to follow it. A message that was sent
 * before has its run already, and one that answers what a run has asked goes on with that run: the program is not executed.
 *
 * **Details**
 *
 * A chat has one running run at a time. Fails with `thread_busy` and the other codes of the run log.
 *
 * @category operations
 * @since 0.1.0
 */
export const start = Effect.fn("AiSdk.start")(function*<E, R>(
  request: ChatRequest,
  program: Program<E, R>,
  { owner, whenBusy, ...options }: StartOptions
): Effect.fn.Return<FollowOptions, AiSdkError, RunEventLog | Exclude<R, Scope.Scope>> {
  const log = yield* RunEventLog
  const message = continued(request)
  if (message !== undefined) {
    const answered = yield* Effect.mapError(answerQuestions(message, owner), problem)
    if (Option.isSome(answered)) return answered.value
  }
  const before = message === undefined ? [] : MessageParts.toChunks(message)
  const last = message ?? request.messages[request.messages.length - 1]
  const { run } = yield* log.execute(
    {
      threadId: threadOf(request.id),
      idempotencyKey: options.idempotencyKey ??
        prefix + (keyOf(request) ?? (yield* newKey)),
      request: yield* Effect.mapError(
        toJson({ trigger: request.trigger, message: last }),
        ({ message }) => invalid(message)
      ),
      owner,
      metadata: message === undefined ? {} : { message: message.id },
      whenBusy,
      joinDeltas: options.joinDeltas
    },
    Effect.fnUntraced(function*(run) {
      const writer = makeWriter(run, options.joinDeltas !== undefined)
      // A page that comes back needs the whole message.
      if (before.length > 0) yield* writer.emitSome(before)
      const finish = yield* program(request, writer)
      if (finish !== undefined) return yield* toJson(finish)
    })
  ).pipe(Effect.mapError(problem))
  return { runId: run.runId, owner, after: before.length }
})

/** Says what a stream ends with whose run goes on, but which the page must not read further. */
const endedEarly = {
  session_ended: "Your session has ended; sign in again to go on",
  unavailable: "It cannot be told whether your session goes on; try again",
  stopping: "The server is being stopped; try again"
} as const

/** Lists the failures that trying again does not help. After others the page is cut off, and resumes. */
const final: ReadonlyArray<string> = ["session_ended", "cursor_expired", "run_not_found"]

/**
 * Answers with chunks in the form that the library reads. A stream that fails for a time is cut off, since to the library an
 * answer that just ends is complete.
 *
 * @category responses
 * @since 0.1.0
 */
export const respond = (chunks: Stream.Stream<UIMessageChunk, AiSdkError>): HttpServerResponse.HttpServerResponse => {
  const { "content-type": _, connection: __, "cache-control": ___, ...headers } = UI_MESSAGE_STREAM_HEADERS
  return Answers.eventStream(
    chunks.pipe(
      Stream.catchIf(
        ({ code }) => final.includes(code),
        ({ message }) => Stream.make<[UIMessageChunk]>({ type: "error", errorText: message })
      ),
      Stream.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`),
      Stream.concat(Stream.make("data: [DONE]\n\n"))
    ),
    headers
  )
}

/** Makes what answers with a run, until the session or the server ends. */
const makeRespondRun = Effect.map(Answers.open, (ending) => (options: FollowOptions) => {
  const ended = Effect.flatMap(ending, (code) => Effect.fail(new AiSdkError({ code, message: endedEarly[code] })))
  return Effect.map(follow(options), (chunks) => respond(Stream.interruptWhen(chunks, ended)))
})

/**
 * Handles the `POST` of a chat: starts the run of its message, or finds the one that it has, and answers with it. The header
 * `Idempotency-Key` takes the place of the key that is made of the message. A body may have 256 KiB and 1,024 messages and
 * parts of them, or as many times more as the host provides by `HttpIncomingMessage.MaxBodySize`: the library posts all
 * messages of the chat. The answer counts as one of the session's open connections.
 *
 * @category operations
 * @since 0.1.0
 */
export const handle = Effect.fn("AiSdk.handle")(function*<E, R>(
  owner: RunOwner,
  program: Program<E, R>,
  options?: Pick<StartOptions, "whenBusy" | "joinDeltas">
): Effect.fn.Return<
  HttpServerResponse.HttpServerResponse,
  never,
  RunEventLog | HttpServerRequest.HttpServerRequest | Scope.Scope | Exclude<R, Scope.Scope>
> {
  return yield* Effect.gen(function*() {
    const body = yield* Effect.mapError(Answers.body, (code) =>
      code === "limit_exceeded"
        ? new AiSdkError({ code, message: "The messages are larger than this server takes; begin a new chat" })
        : invalid("The body must be JSON"))
    const idempotencyKey = yield* headerKey
    const request = yield* readRequest(body)
    const respondRun = yield* makeRespondRun
    return yield* respondRun(yield* start(request, program, { ...options, owner, idempotencyKey }))
  }).pipe(Answers.orProblem)
})

/** Returns the thread of the chat that the current route names. */
const routeThread = Effect.flatMap(
  HttpRouter.params,
  ({ id }) =>
    id === undefined ? Effect.fail(invalid("The path must name the chat as :id")) : Effect.succeed(threadOf(id))
)

/**
 * Returns the run of a chat that a page should show: that of the key in the current request, or the one that is running or
 * ended last.
 */
const findRun = Effect.fnUntraced(function*(threadId: string, owner: RunOwner, idempotencyKey: string | undefined) {
  const log = yield* RunEventLog
  return yield* (idempotencyKey === undefined
    ? log.activeForThread({ threadId, owner })
    : Effect.map(
      log.getByKey({ idempotencyKey, owner }),
      Option.filter((run) => run.threadId === threadId)
    )).pipe(Effect.mapError(problem))
})

/**
 * Handles the `GET` of a page that comes back, at a path with the chat's `:id`, for the library `…/:id/stream`: answers with
 * the message from its beginning, and 204 if the chat has no answer that is being written, or that ended within the
 * reconnect window. With the header `Idempotency-Key` of a message, it answers with the run of that message, however long
 * ago it ended.
 *
 * @category operations
 * @since 0.1.0
 */
export const handleResume = Effect.fn("AiSdk.handleResume")(function*(
  owner: RunOwner
): Effect.fn.Return<
  HttpServerResponse.HttpServerResponse,
  never,
  RunEventLog | HttpServerRequest.HttpServerRequest | HttpRouter.RouteContext | Scope.Scope
> {
  return yield* Effect.gen(function*() {
    const run = yield* findRun(yield* routeThread, owner, yield* headerKey)
    return Option.isNone(run) || run.value.expired
      ? HttpServerResponse.empty({ status: 204 })
      : yield* (yield* makeRespondRun)({ runId: run.value.runId, owner })
  }).pipe(Answers.orProblem)
})

/**
 * Handles the request of a page to stop an answer, at a path with the chat's `:id`, by aborting its run; the `stop` of the
 * library only closes the connection. Answers 204, also if there is nothing to stop. With the header `Idempotency-Key` of a
 * message it stops the run of that message, also if that has not begun.
 *
 * @category operations
 * @since 0.1.0
 */
export const handleStop = Effect.fn("AiSdk.handleStop")(function*(
  owner: RunOwner
): Effect.fn.Return<
  HttpServerResponse.HttpServerResponse,
  never,
  RunEventLog | HttpServerRequest.HttpServerRequest | HttpRouter.RouteContext
> {
  return yield* Effect.gen(function*() {
    const log = yield* RunEventLog
    const threadId = yield* routeThread
    const idempotencyKey = yield* headerKey
    if (idempotencyKey !== undefined) {
      yield* Effect.mapError(log.abort({ threadId, idempotencyKey, owner }), problem)
    } else {
      const run = yield* findRun(threadId, owner, undefined)
      if (Option.isSome(run)) yield* Effect.mapError(log.abort({ runId: run.value.runId, owner }), problem)
    }
    return HttpServerResponse.empty({ status: 204 })
  }).pipe(Answers.orProblem)
})
