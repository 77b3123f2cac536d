/**
 * Starts and follows runs over a network that breaks.
 *
 * A run continues without its reader, and a reader continues after a lost connection. {@link Runs} starts a run with a
 * key that stays the same however often the request is sent, and follows it by the number of the last event seen. So no
 * event is lost, repeated or out of order, and nothing runs twice. A failure that it cannot repair is an error that
 * says what to do: see `RunsError`.
 *
 * Retries happen only here, within one budget. Do not add another retry around it: that multiplies attempts.
 */
import { NextPage } from "@sallyport/contract/AccessSchemas"
import * as Input from "@sallyport/core/Input"
import { RunsStreamEvent, RunStreamFailure, RunView, ThreadId } from "@sallyport/contract/RunGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import {
  IdempotencyKey,
  isRunId,
  latest,
  parseCursor,
  type RunAnswer,
  type RunContinuation,
  RunEnd,
  type RunId,
  type RunStatus,
  WhenBusy
} from "@sallyport/core/runs/Run"
import * as Context from "effect/Context"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import type * as Sse from "effect/encoding/Sse"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { InvalidInput, UnexpectedAnswer } from "./ClientError.ts"
import { Connection } from "./Connection.ts"
import { Broken, garbled, type Refusal } from "./internal/answer.ts"
import { ask, type Budget, makeBudget } from "./internal/budget.ts"
import { noContent, read, type Step } from "./internal/eventReader.ts"
import { defaults, type InvalidRunsOptions, type Options, type Settings, toSettings } from "./internal/runsOptions.ts"
import { ReconnectHints } from "./ReconnectHints.ts"
import {
  QuestionUnknown,
  RunEnded,
  RunExpired,
  RunsError,
  type RunsErrorReason,
  RunUnknown,
  SignedOut
} from "./RunsError.ts"

export { InvalidRunsOptions, type Options } from "./internal/runsOptions.ts"

/**
 * Describes work that is done once. It is made before the first request, and every request for it carries the same key.
 * It can be kept across a reload, as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export class RunIntent extends Schema.Class<RunIntent>("@sallyport/client/RunIntent")({
  threadId: Schema.String,
  idempotencyKey: Schema.String,
  input: Schema.Json,
  /** What the run does if its thread is busy. The server rejects it unless this says otherwise. */
  whenBusy: Schema.optionalKey(WhenBusy)
}) {}

/**
 * Describes an event that the program of a run has written.
 *
 * @category models
 * @since 0.1.0
 */
export interface DataEvent {
  readonly _tag: "Data"
  readonly runId: RunId
  /** The number of the event, to continue after. */
  readonly cursor: number
  readonly data: Schema.Json
}

/**
 * Describes the end of a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndEvent {
  readonly _tag: "End"
  readonly runId: RunId
  /** The number of the event. None if the server made the end from the run's row, because the log has none. */
  readonly cursor: Option.Option<number>
  readonly end: RunEnd
}

/**
 * Describes the events of a run: its data in order, then its end.
 *
 * @category models
 * @since 0.1.0
 */
export type RunEvent = DataEvent | EndEvent

/**
 * Describes a run to follow. What `start` and `get` return is one.
 *
 * @category options
 * @since 0.1.0
 */
export interface FollowOptions {
  readonly runId: string
  /**
   * The number of the last event seen, or `latest` to begin with what comes next. Default 0, which reads from the beginning.
   */
  readonly after?: number | typeof latest | undefined
  /** What the run continues. It becomes part of errors. */
  readonly continuation?: RunContinuation | undefined
  /** Is run when the connection has opened, before its first event is read, and when it is lost. */
  readonly onConnection?: ((isOpen: boolean) => Effect.Effect<void>) | undefined
}

/**
 * Describes what a reader of many runs is given: a run that is followed from now on, an event that its program has written, or
 * its end. `cursor` is where to continue after it, `seq` the number of the event in its run.
 *
 * @category models
 * @since 0.1.0
 */
export type FollowedEvent =
  | { readonly _tag: "Run"; readonly cursor: string; readonly run: RunView }
  | (Omit<DataEvent, "cursor"> & {
    readonly cursor: string
    readonly threadId: string
    readonly seq: number
    /** The first number that the event stands for, if it stands for several since the run was compacted. */
    readonly firstSeq?: number | undefined
  })
  | (Omit<EndEvent, "cursor"> & {
    readonly cursor: string
    readonly threadId: string
    /** None if the server made the end from the run's row, because the log has none. */
    readonly seq: Option.Option<number>
  })

/**
 * Describes how to follow many runs.
 *
 * @category options
 * @since 0.1.0
 */
export interface FollowManyOptions {
  /** The cursor of what was seen last, or `latest` to begin with what comes next. Default: everything that is kept. */
  readonly after?: string | undefined
  /** Is run when the connection has opened, before its first event is read, and when it is lost. */
  readonly onConnection?: ((isOpen: boolean) => Effect.Effect<void>) | undefined
}

/**
 * Configures how to continue after a run that ended without having done its work.
 *
 * @category options
 * @since 0.1.0
 */
export interface RunOptions {
  /**
   * Is called at the end of each run. If it returns a continuation, another run is started and followed, with the same
   * input unless another is given. The key of each continuation follows from the intent, so two tabs share it.
   */
  readonly continueWhen?:
    | ((ended: { readonly run: RunView; readonly end: RunEnd }) => Option.Option<Continuation>)
    | undefined
  /** The largest number of runs that are started after the first. Default 3. */
  readonly maxContinuations?: number | undefined
}

/**
 * Describes why to continue, and with which input.
 *
 * @category models
 * @since 0.1.0
 */
export interface Continuation {
  /** Is kept with the new run, and is part of errors. 1 to 255 characters. */
  readonly reason: string
  readonly input?: Schema.Json | undefined
}

/**
 * Describes which runs to list: of a thread and of a status if these are given, from the `next` of the page before on.
 *
 * @category options
 * @since 0.1.0
 */
export interface ListOptions {
  readonly threadId?: string | undefined
  readonly status?: RunStatus | undefined
  readonly after?: string | undefined
}

/**
 * Holds a page of a list of runs; `next` is null on the last one.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunPage {
  readonly runs: ReadonlyArray<RunView>
  readonly next: string | null
}

const Page = Schema.Struct({ runs: Schema.Array(RunView), next: NextPage })

/**
 * Provides the runs of a server: starts, follows, finds and aborts them.
 *
 * @category services
 * @since 0.1.0
 */
export class Runs extends Context.Service<Runs, {
  /** Creates an intent with a new key. It sends nothing. */
  readonly intent: (
    request: { readonly threadId: string; readonly input: Schema.Json; readonly whenBusy?: WhenBusy }
  ) => Effect.Effect<RunIntent>
  /**
   * Starts the run of an intent, and returns it; or returns the run that an earlier request for the same intent
   * started, whatever its state. A request whose answer was lost is sent again with the same key.
   *
   * Fails with `Conflict` if the thread has another run and the intent doesn't say to wait for it or to interrupt it, or if
   * too many wait already, and with `IdempotencyConflict` if the key was used for another
   * input.
   */
  readonly start: (intent: RunIntent, continuation?: RunContinuation) => Effect.Effect<RunView, RunsError>
  /**
   * Follows a run to its end: the stored events, then the new ones. After a lost connection it continues after the last
   * event that it has emitted.
   *
   * Fails with `RunEnded` if the cursor is that of the end, with `RunExpired`, `RunUnknown`, `Forbidden` or
   * `SignedOut`, and with `Unreachable` if the budget is used up. The error's `lastCursor` says where to continue.
   */
  readonly follow: (options: FollowOptions) => Stream.Stream<RunEvent, RunsError>
  /**
   * Follows all runs of this subject over one connection: those that are kept, and new ones as they start, each with `Run`, its
   * events and its end. It goes on for as long as the stream runs, and over lost connections as `follow` does.
   *
   * Fails with `RunExpired` if events after the cursor were deleted; then begin again, without a cursor or with `latest`. The
   * error's `lastRunsCursor` says where to continue after another failure.
   */
  readonly followAll: (options?: FollowManyOptions) => Stream.Stream<FollowedEvent, RunsError>
  /** Follows the runs of a thread as `followAll` does. Fails with `RunUnknown` if the thread has none. */
  readonly followThread: (
    options: FollowManyOptions & { readonly threadId: string }
  ) => Stream.Stream<FollowedEvent, RunsError>
  /** Starts the run of an intent and follows it and its continuations. Each event names its run. */
  readonly run: (intent: RunIntent, options?: RunOptions) => Stream.Stream<RunEvent, RunsError>
  /**
   * Returns the run that an intent has started, whatever its state, or none. It never returns another run of the
   * thread.
   */
  readonly find: (intent: {
    readonly threadId: string
    readonly idempotencyKey: string
  }) => Effect.Effect<Option.Option<RunView>, RunsError>
  /** Follows the run that an intent has started. Fails with `RunUnknown` if there is none; it starts nothing itself. */
  readonly rejoin: (intent: {
    readonly threadId: string
    readonly idempotencyKey: string
    readonly after?: number | undefined
  }) => Stream.Stream<RunEvent, RunsError>
  /** Returns a run. */
  readonly get: (runId: string) => Effect.Effect<RunView, RunsError>
  /**
   * Lists this subject's runs whose events are still kept, the newest first: a page of up to 200, and where the next begins.
   */
  readonly list: (options?: ListOptions) => Effect.Effect<RunPage, RunsError>
  /**
   * Returns the running run of a thread, or the one that ended last within the server's reconnect window. It is for a
   * client that knows only the thread: the run may be another turn than the expected one, so prefer `find`.
   */
  readonly active: (threadId: string) => Effect.Effect<Option.Option<RunView>, RunsError>
  /**
   * Answers a question of a run, and returns the run. Fails with `Conflict` if the question has an answer already, which may
   * be this one if its confirmation was lost, or if the run has ended; and with `QuestionUnknown` if the run asks no such
   * question.
   */
  readonly answer: (runId: string, answer: RunAnswer) => Effect.Effect<RunView, RunsError>
  /** Aborts a run, and returns its state afterwards, also if it had ended before. */
  readonly abort: (runId: string) => Effect.Effect<RunView, RunsError>
  /** Aborts the run of an intent. A run that has not begun yet ends as soon as it begins. */
  readonly abortIntent: (intent: {
    readonly threadId: string
    readonly idempotencyKey: string
  }) => Effect.Effect<void, RunsError>
}>()("@sallyport/client/Runs") {}

const responseMode = "response-only"

// A server accepts more keys in the body of a request than in a header.
const isKey = Schema.is(IdempotencyKey.check(Schema.isPattern(/^[\x21-\x7e]{1,240}$/)))
const isThreadId = Schema.is(ThreadId)

const checkIntent = (intent: {
  readonly threadId: string
  readonly idempotencyKey?: string
}): Effect.Effect<void, InvalidInput> => {
  // A dot segment would be removed from the path before the request is sent.
  if (!isThreadId(intent.threadId) || intent.threadId === "." || intent.threadId === "..") {
    return Effect.fail(new InvalidInput({ message: "A thread's id is 1 to 100 characters without control characters" }))
  }
  return intent.idempotencyKey === undefined || isKey(intent.idempotencyKey)
    ? Effect.void
    : Effect.fail(new InvalidInput({ message: "An idempotency key is 1 to 240 visible ASCII characters" }))
}

const unknownRun = (runId: string) =>
  new RunUnknown({ runId, message: `${JSON.stringify(runId)} is not the id of a run` })

const Found = Schema.Struct({ run: Schema.NullOr(RunView) })

const decodeJson = Schema.decodeUnknownOption(Schema.fromJsonString(Input.json))
const decodeEnd = Schema.decodeUnknownOption(Schema.fromJsonString(RunEnd))
const decodeFollowed = Schema.decodeUnknownOption(RunsStreamEvent)
/** Reads a failure. A later server may send codes that this version does not know. */
const decodeFailure = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ ...RunStreamFailure.fields, code: Schema.String }))
)

/** Reads an event of many runs; nothing if it is not as this version knows it. */
const valueOf = ({ data, event, id }: Sse.Event): FollowedEvent | undefined => {
  const found = Option.getOrUndefined(decodeFollowed({ id, event, data }))
  switch (found?.event) {
    case "run":
      return { _tag: "Run", cursor: found.id, run: found.data }
    case "data": {
      const { seq } = found.data
      return seq === null ? undefined : { _tag: "Data", cursor: found.id, ...found.data, seq }
    }
    case "end":
      return { _tag: "End", cursor: found.id, ...found.data, seq: Option.fromNullOr(found.data.seq) }
    default:
      return undefined
  }
}

/** Collects what an error reports about the work that was done. */
class Trail {
  readonly runIds: Array<string> = []
  reason: string | null = null
  cursor = 0
  runsCursor: string | undefined

  /** Records the run that the work continues with. */
  enter(run: FollowOptions): void {
    const before = run.continuation?.attemptedRunIds ?? []
    for (const runId of [...before, run.runId]) {
      if (!this.runIds.includes(runId)) this.runIds.push(runId)
    }
    this.reason = run.continuation?.reason ?? this.reason
    this.cursor = typeof run.after === "number" ? run.after : 0
  }

  error(reason: RunsErrorReason): RunsError {
    return new RunsError({
      reason,
      attemptedRunIds: [...this.runIds],
      lastContinueReason: this.reason,
      lastCursor: this.cursor,
      ...(this.runsCursor === undefined ? {} : { lastRunsCursor: this.runsCursor })
    })
  }
}

const statuses = {
  UnsupportedMediaType: 415,
  TooManyRequests: 429,
  Unavailable: 503,
  OAuthError: 400,
  OAuthInvalidClient: 401,
  OAuthTooManyRequests: 429,
  OAuthInternalError: 500,
  OAuthUnavailable: 503
}

/** Turns the server's error about a run into a reason of this service. */
const reasonOf = (refusal: Refusal | RunsErrorReason, runId: string | null): RunsErrorReason => {
  switch (refusal._tag) {
    case "NotFound":
      return refusal.code === "question_not_found"
        ? new QuestionUnknown({ runId, message: refusal.message })
        : new RunUnknown({ runId, message: refusal.message })
    case "Gone":
      return new RunExpired({ runId, message: refusal.message })
    case "Unauthorized":
      return new SignedOut({ code: refusal.code, message: refusal.message })
    case "Unavailable":
    case "TooManyRequests":
    case "UnsupportedMediaType":
      return new UnexpectedAnswer({ status: statuses[refusal._tag], code: refusal.code, message: refusal.message })
    case "OAuthError":
    case "OAuthInvalidClient":
    case "OAuthTooManyRequests":
    case "OAuthUnavailable":
    case "OAuthInternalError":
      return new UnexpectedAnswer({ status: statuses[refusal._tag], code: refusal.error, message: refusal.message })
    default:
      return refusal
  }
}

const build = Effect.fnUntraced(function*(settings: Settings) {
  const { httpClient } = yield* Connection
  const random = yield* SecureRandom
  const hints = yield* ReconnectHints
  const api = yield* HttpApiClient.makeWith(SallyportApi, { httpClient })
  // A stream's connection ends with its scope, also while it has no reader.
  const { events, follow, followThread } = yield* HttpApiClient.group(SallyportApi, {
    group: "runs",
    httpClient: HttpClient.withScope(httpClient)
  })

  /** Sends a single request with a budget of its own. */
  const askOnce = <S extends Schema.ConstraintDecoder<unknown>>(
    send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
    schema: S,
    runId: string | null = null
  ): Effect.Effect<S["Type"], RunsError> =>
    Effect.suspend(() => {
      const trail = new Trail()
      if (runId !== null) trail.enter({ runId })
      return ask(makeBudget(settings, hints), send, schema, settings.requestTimeout).pipe(
        Effect.mapError((refusal) => trail.error(reasonOf(refusal, runId)))
      )
    })

  const startWith = Effect.fnUntraced(function*(
    work: { readonly budget: Budget; readonly trail: Trail },
    intent: RunIntent,
    continuation: RunContinuation | undefined
  ): Effect.fn.Return<RunView, RunsError> {
    const { run } = yield* checkIntent(intent).pipe(
      Effect.andThen(ask(
        work.budget,
        api.runs.start({
          headers: { "idempotency-key": intent.idempotencyKey },
          payload: {
            threadId: intent.threadId,
            input: intent.input,
            ...(intent.whenBusy === undefined ? {} : { whenBusy: intent.whenBusy }),
            ...(continuation === undefined ? {} : { continuation })
          },
          responseMode
        }),
        Schema.Struct({ created: Schema.Boolean, run: RunView }),
        settings.requestTimeout
      )),
      Effect.mapError((refusal) => work.trail.error(reasonOf(refusal, null)))
    )
    return run
  })

  /** Says what the server's failure, the last event of a stream, is for its reader. */
  const failed = (data: string, runId: string | null): Step<never, RunsErrorReason> => {
    const failure = decodeFailure(data)
    if (Option.isNone(failure)) return { _tag: "Fail", error: garbled("the server's failure was not readable") }
    const { code, message, retryable } = failure.value
    if (retryable) return { _tag: "Fail", error: new Broken({ kind: "unavailable", detail: message, status: 200 }) }
    switch (code) {
      case "session_ended":
        return { _tag: "Fail", error: new SignedOut({ code, message }) }
      case "run_not_found":
        return { _tag: "Fail", error: new RunUnknown({ runId, message }) }
      case "cursor_expired":
        return { _tag: "Fail", error: new RunExpired({ runId, message }) }
      default:
        return { _tag: "Fail", error: new UnexpectedAnswer({ status: 200, code, message }) }
    }
  }

  const followMany = (
    { budget, trail }: { readonly budget: Budget; readonly trail: Trail },
    options: FollowManyOptions & { readonly threadId?: string }
  ): Stream.Stream<FollowedEvent, RunsError> => {
    const { after, threadId } = options
    // The numbers of the last events of the runs that go on.
    const seqs = new Map<string, number>()

    const take = (event: Sse.Event): Step<FollowedEvent, RunsErrorReason> => {
      switch (event.event) {
        case "run":
        case "data":
        case "end":
          break
        case "cursor":
          trail.runsCursor = event.id ?? trail.runsCursor
          return { _tag: "Skip" }
        case "failure":
          return failed(event.data, null)
        default:
          return { _tag: "Skip" }
      }
      const value = valueOf(event)
      if (value === undefined) return { _tag: "Fail", error: garbled("an event was not readable") }
      const runId = value._tag === "Run" ? value.run.runId : value.runId
      const seq = value._tag === "Run" ? 0 : value._tag === "Data" ? value.seq : Option.getOrUndefined(value.seq)
      const before = seqs.get(runId)
      const first = value._tag === "Data" ? value.firstSeq ?? seq : seq
      if (first !== undefined && before !== undefined && first !== before + 1) {
        return { _tag: "Fail", error: garbled("events were missing from the stream") }
      }
      if (value._tag === "End") seqs.delete(runId)
      else if (seq !== undefined) seqs.set(runId, seq)
      trail.runsCursor = value.cursor
      return { _tag: "Emit", value }
    }

    return Stream.suspend(() => {
      trail.runsCursor = after === latest ? undefined : after
      const request = () => ({
        headers: trail.runsCursor === undefined ? {} : { "last-event-id": trail.runsCursor },
        query: trail.runsCursor === undefined && after !== undefined ? { after } : {},
        responseMode
      } as const)
      return read({
        budget,
        settings,
        onConnection: options.onConnection,
        connect: Effect.suspend(() =>
          threadId === undefined ? follow(request()) : followThread({ params: { id: threadId }, ...request() })
        ),
        take
      })
    }).pipe(
      Stream.mapError((error) =>
        trail.error(
          error === noContent
            ? new UnexpectedAnswer({ status: 204, code: null, message: "The server has nothing to follow" })
            : reasonOf(error, null)
        )
      )
    )
  }

  const followWith = (
    work: { readonly budget: Budget; readonly trail: Trail },
    options: FollowOptions
  ): Stream.Stream<RunEvent, RunsError> => {
    const { trail } = work
    const { runId } = options
    if (!isRunId(runId)) return Stream.fail(trail.error(unknownRun(runId)))
    const { after = 0 } = options
    let isPlaced = after !== latest
    if (after !== latest && (!Number.isSafeInteger(after) || after < 0)) {
      return Stream.fail(trail.error(new InvalidInput({ message: "A cursor is the number of an event, or 0" })))
    }

    const take = (event: Sse.Event): Step<RunEvent, RunsErrorReason> => {
      // The number of the next event is known, so neither a server nor a proxy can repeat or drop one unnoticed.
      const cursor = Option.getOrUndefined(parseCursor(event.id ?? ""))
      // An event of a run that was compacted may stand for several, as its id says.
      const isNext = Number.parseInt(event.id ?? "") === trail.cursor + 1
      switch (event.event) {
        case "data": {
          if (cursor === undefined) return { _tag: "Fail", error: garbled("an event came without its number") }
          if (cursor <= trail.cursor) return { _tag: "Skip" }
          if (!isNext) return { _tag: "Fail", error: garbled("events were missing from the stream") }
          const data = decodeJson(event.data)
          if (Option.isNone(data)) return { _tag: "Fail", error: garbled("an event was not JSON") }
          trail.cursor = cursor
          return { _tag: "Emit", value: { _tag: "Data", runId, cursor, data: data.value } }
        }
        case "end": {
          // If it has no id, the parser gives it the id of the event before.
          const numbered = cursor !== undefined && cursor > trail.cursor
          if (numbered && !isNext) return { _tag: "Fail", error: garbled("events were missing from the stream") }
          const end = decodeEnd(event.data)
          if (Option.isNone(end)) return { _tag: "Fail", error: garbled("the end of the run was not readable") }
          if (numbered) trail.cursor = cursor
          return {
            _tag: "Last",
            value: { _tag: "End", runId, cursor: numbered ? Option.some(cursor) : Option.none(), end: end.value }
          }
        }
        case "cursor":
          trail.cursor = cursor ?? trail.cursor
          isPlaced = true
          return { _tag: "Skip" }
        case "failure":
          return failed(event.data, runId)
        default:
          return { _tag: "Skip" }
      }
    }

    return Stream.suspend(() => {
      trail.enter(options)
      return read({
        budget: work.budget,
        settings,
        onConnection: options.onConnection,
        connect: Effect.suspend(() =>
          events({
            params: { id: runId },
            headers: trail.cursor === 0 ? {} : { "last-event-id": String(trail.cursor) },
            query: isPlaced ? {} : { after: latest },
            responseMode
          })
        ),
        take
      })
    }).pipe(
      Stream.mapError((error) => {
        if (error === noContent) {
          return trail.error(
            new RunEnded({ runId, message: `Run ${runId} has ended, and nothing follows event ${trail.cursor}` })
          )
        }
        return trail.error(reasonOf(error, runId))
      })
    )
  }

  const newWork = () => ({ budget: makeBudget(settings, hints), trail: new Trail() })

  const find: Runs["Service"]["find"] = Effect.fn("Runs.find")(function*({ idempotencyKey, threadId }) {
    yield* Effect.mapError(checkIntent({ idempotencyKey, threadId }), (error) => new Trail().error(error))
    const { run } = yield* askOnce(
      api.runs.active({ params: { id: threadId }, headers: { "idempotency-key": idempotencyKey }, responseMode }),
      Found
    )
    // The run of another turn is not the one that is meant, whatever the server says.
    return Option.filter(Option.fromNullOr(run), (run) => run.idempotencyKey === idempotencyKey)
  })

  return Runs.of({
    intent: (request) => Effect.map(random.uuidV7(), (idempotencyKey) => new RunIntent({ ...request, idempotencyKey })),
    start: Effect.fn("Runs.start")(function*(intent, continuation) {
      return yield* startWith(newWork(), intent, continuation)
    }),
    follow: (options) => Stream.suspend(() => followWith(newWork(), options)),
    followAll: (options = {}) => Stream.suspend(() => followMany(newWork(), options)),
    followThread: (options) =>
      Stream.suspend(() => {
        const work = newWork()
        return Stream.unwrap(Effect.matchEffect(checkIntent(options), {
          onFailure: (error) => Effect.fail(work.trail.error(error)),
          onSuccess: () => Effect.succeed(followMany(work, options))
        }))
      }),
    run: (intent, options) =>
      Stream.suspend(() => {
        const work = newWork()
        const max = options?.maxContinuations ?? 3

        const go = (
          next: RunIntent,
          continued: number,
          continuation: RunContinuation | undefined
        ): Stream.Stream<RunEvent, RunsError> =>
          Stream.unwrap(Effect.map(startWith(work, next, continuation), (run) => {
            let following = Option.none<Continuation>()
            const events = followWith(work, { ...run, after: 0 }).pipe(
              Stream.tap((event) =>
                Effect.sync(() => {
                  if (event._tag === "End" && continued < max) {
                    following = options?.continueWhen?.({ run, end: event.end }) ?? Option.none()
                  }
                })
              )
            )
            return Stream.concat(
              events,
              Stream.suspend(() =>
                Option.match(following, {
                  onNone: () => Stream.empty,
                  onSome: ({ input, reason }) =>
                    go(
                      // The key is derived from the intent's, so every client that continues the same intent asks for
                      // the same run.
                      new RunIntent({
                        ...intent,
                        idempotencyKey: `${intent.idempotencyKey}.${continued + 1}`,
                        input: input ?? next.input
                      }),
                      continued + 1,
                      {
                        attemptedRunIds: [...(run.continuation?.attemptedRunIds ?? []), run.runId],
                        reason
                      }
                    )
                })
              )
            )
          }))
        return go(intent, 0, undefined)
      }),
    find,
    rejoin: ({ after, ...intent }) =>
      Stream.unwrap(Effect.map(find(intent), (found) =>
        Stream.suspend(() => {
          const work = newWork()
          return Option.match(found, {
            onNone: () =>
              Stream.fail(work.trail.error(
                new RunUnknown({
                  runId: null,
                  message: "No run was started with this key; call start or run to start it"
                })
              )),
            onSome: (run) => followWith(work, { ...run, after })
          })
        }))),
    get: Effect.fn("Runs.get")(function*(runId) {
      if (!isRunId(runId)) return yield* new Trail().error(unknownRun(runId))
      return yield* askOnce(api.runs.get({ params: { id: runId }, responseMode }), RunView, runId)
    }),
    list: Effect.fn("Runs.list")(function*({ after, status, threadId } = {}) {
      if (threadId !== undefined) {
        yield* Effect.mapError(checkIntent({ threadId }), (error) => new Trail().error(error))
      }
      return yield* askOnce(
        api.runs.list({
          query: {
            ...(after === undefined ? {} : { after }),
            ...(status === undefined ? {} : { status }),
            ...(threadId === undefined ? {} : { threadId })
          },
          responseMode
        }),
        Page
      )
    }),
    active: Effect.fn("Runs.active")(function*(threadId) {
      yield* Effect.mapError(checkIntent({ threadId }), (error) => new Trail().error(error))
      const { run } = yield* askOnce(api.runs.active({ params: { id: threadId }, headers: {}, responseMode }), Found)
      return Option.fromNullOr(run)
    }),
    answer: Effect.fn("Runs.answer")(function*(runId, answer) {
      if (!isRunId(runId)) return yield* new Trail().error(unknownRun(runId))
      return yield* askOnce(api.runs.answer({ params: { id: runId }, payload: answer, responseMode }), RunView, runId)
    }),
    abort: Effect.fn("Runs.abort")(function*(runId) {
      if (!isRunId(runId)) return yield* new Trail().error(unknownRun(runId))
      return yield* askOnce(api.runs.abort({ params: { id: runId }, responseMode }), RunView, runId)
    }),
    abortIntent: Effect.fn("Runs.abortIntent")(function*({ idempotencyKey, threadId }) {
      yield* Effect.mapError(checkIntent({ idempotencyKey, threadId }), (error) => new Trail().error(error))
      yield* askOnce(
        api.runs.abortThread({ params: { id: threadId }, payload: { idempotencyKey }, responseMode }),
        Schema.Struct({ outcome: Schema.String })
      )
    })
  })
})

/**
 * Creates the service for the server of the connection; {@link layer} is what most applications want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<Runs["Service"], InvalidRunsOptions, Connection | SecureRandom> =>
  Effect.flatMap(toSettings(options), build)

/**
 * Provides runs of the server of the connection, with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<Runs, InvalidRunsOptions, Connection | SecureRandom> =>
  Layer.effect(Runs, make(options))

/**
 * Provides runs of the server of the connection, with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Runs, never, Connection | SecureRandom> = Layer.effect(
  Runs,
  Effect.flatMap(defaults, build)
)
