/**
 * Runs that a client can leave and rejoin: a durable log of events per run, a program that goes on without the request
 * that started it, and readers that continue where they stopped.
 *
 * The service holds the policy: who may see a run, how long leases and windows are, how a program's exit becomes the run's
 * end. {@link RunEventRepository} holds the rows. {@link layerReaper} ends the runs of processes that died, and
 * {@link layerSweeper} deletes what is past its retention; a host adds both beside {@link layer}.
 */
import type * as Arr from "effect/Array"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Digest from "effect/crypto/Digest"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Input from "../Input.ts"
import type {
  AbortOptions,
  AbortResult,
  AnswerOptions,
  AppendedEvents,
  CompactOptions,
  EngineRuns,
  EventsOptions,
  ExecutedRunRequest,
  FollowedRuns,
  FollowOptions,
  KeyedRun,
  ListOptions,
  NamedRun,
  OwnedThread,
  ResumedRun,
  RunRequest,
  RunWriter,
  StartedRun,
  TakeOverOptions,
  WrittenRun
} from "./internal/runCalls.ts"
import type { RunEventLogError } from "./internal/runErrors.ts"
import * as Upkeep from "./internal/runUpkeep.ts"
import * as RunService from "./internal/runService.ts"
import { type InvalidRunEventLogOptions, type Options, settings } from "./internal/runOptions.ts"
import type { Run, RunEnd, RunEvent, RunEventEncoded } from "./Run.ts"
import type { RunEventRepository, SweepCounts } from "./RunEventRepository.ts"
import * as Sweeper from "../Sweeper.ts"
import type * as Writer from "../Writer.ts"

export type {
  AbortOptions,
  Activation,
  AbortResult,
  AnswerOptions,
  AppendedEvents,
  CompactOptions,
  EngineRuns,
  EventsOptions,
  ExecutedRunRequest,
  Followed,
  FollowedRuns,
  FollowOptions,
  KeyedRun,
  ListOptions,
  NamedRun,
  OwnedThread,
  ResumedRun,
  RunRequest,
  RunWriter,
  StartedRun,
  TakeOverOptions,
  WrittenRun
} from "./internal/runCalls.ts"
export { abortedBeforeStart, interruptedByRun, serverShutdown, staleRun } from "./internal/runEnds.ts"
export {
  CursorBeyondEnd,
  CursorExpired,
  Fenced,
  IdempotencyConflict,
  InvalidCursor,
  InvalidInput,
  LimitExceeded,
  QuestionAnswered,
  QuestionNotFound,
  RunCompacted,
  RunEnded,
  RunEventLogError,
  RunEventLogErrorReason,
  RunNotEnded,
  RunNotFound,
  ShuttingDown,
  StorageFailure,
  ThreadBusy,
  ThreadNotFound,
  TooManyRuns
} from "./internal/runErrors.ts"
export { InvalidRunEventLogOptions, type Options } from "./internal/runOptions.ts"

/**
 * Provides runs.
 *
 * **Example** (Executing a run and reading it)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { RunEventLog, RunEventRepository } from "@sallyport/core"
 * import { Console, Effect, Layer, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const runs = yield* RunEventLog.RunEventLog
 *   const { run } = yield* runs.execute(
 *     { threadId: "thread-1", idempotencyKey: "request-1", owner: { subject: "ada" }, request: { count: 2 } },
 *     Effect.fnUntraced(function*(writer) {
 *       for (let count = 1; count <= 2; count++) yield* writer.append({ count })
 *       return "done"
 *     })
 *   )
 *   const events = yield* runs.events({ runId: run.runId })
 *   yield* Stream.runForEach(events, ({ data }) => Console.log(JSON.stringify(data)))
 *   // => {"count":1}
 *   // => {"count":2}
 *   // => {"status":"succeeded","result":"done"}
 * })
 *
 * const Runs = RunEventLog.layer.pipe(Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer]))
 *
 * Effect.runPromise(Effect.provide(program, Runs))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class RunEventLog extends Context.Service<RunEventLog, {
  /**
   * Starts a run that the caller writes by itself, with `append`, `heartbeat` and `finish` and the epoch of the answer; or
   * returns the run that an earlier call has started with the same key, whatever became of it.
   *
   * A run of the thread whose lease has expired is ended as `stale_run` in the same step and does not stand in the way, so
   * that a thread is free after a crash also if no reaper has run yet. Fails with `IdempotencyConflict`, `ThreadBusy`,
   * `TooManyRuns` and `InvalidInput`. One atomic step. A run that the caller writes cannot wait for its thread.
   */
  readonly start: (request: RunRequest) => Effect.Effect<StartedRun, RunEventLogError>
  /**
   * Starts a run and executes `program` for it, detached: the answer comes as soon as the run is stored, and the program
   * goes on after the caller is gone. With a key that was used before, the program is not executed.
   *
   * The run ends with the program: `succeeded` with what it returned; `failed` if it failed, died or interrupted itself
   * (the cause is logged and not shown); `aborted`, interrupting the program, when someone aborts it; `failed` with
   * `server_shutdown` when the service's scope closes, unless it is resumable: then it is left for another process to
   * take; and `failed` with `stale_run`, by the reaper, when the process dies. If the thread is busy and the request says
   * `enqueue`, the run is stored as `queued`, and its program is executed when the runs before it have ended; its events
   * can be followed, and it can be aborted, meanwhile. With `interrupt` the run that is running ends as aborted, with
   * `interrupted_by_run`, in the step that stores this one, which does not wait for those that are queued. This process
   * interrupts the program that was executed; that of another process is refused at its next append or heartbeat. Else
   * the call fails with `ThreadBusy`, also if as many runs wait as `maxQueued` allows.
   *
   * The program keeps the services of the caller, and has a scope of its own. Don't call it inside a transaction.
   */
  readonly execute: <E, R>(
    request: ExecutedRunRequest,
    program: (run: RunWriter) => Effect.Effect<Schema.Json | void, E, R>
  ) => Effect.Effect<StartedRun, RunEventLogError, Exclude<R, Scope.Scope>>
  /**
   * Takes over at most `limit` resumable runs whose lease has expired, and executes `program` for each as `execute` does,
   * under the next epoch: what the writer before it still appends is refused. Returns the runs. A run that `maxTakeOvers`
   * processes have left, or that none has taken within the `takeOverWindow`, is the reaper's. {@link layerTakeOver} does
   * this again and again.
   */
  readonly takeOver: <E, R>(
    options: TakeOverOptions,
    program: (resumed: ResumedRun) => Effect.Effect<Schema.Json | void, E, R>
  ) => Effect.Effect<ReadonlyArray<Run>, RunEventLogError, Exclude<R, Scope.Scope>>
  /**
   * Appends events with consecutive numbers, all or none, and returns once they are durable. Calls made at the same time
   * share a transaction; those for one run keep their order.
   *
   * Fails with `RunNotFound`, `RunEnded`, `Fenced`, `LimitExceeded` and `InvalidInput`; nothing was stored then.
   */
  readonly append: (
    options: WrittenRun & { readonly events: ReadonlyArray<Schema.Json> }
  ) => Effect.Effect<AppendedEvents, RunEventLogError>
  /**
   * Answers a question of a run, in whichever process its program is executed. Of n answers the first counts. It is appended
   * as an event of the data `{ answer: { name, value } }` in the step that keeps it.
   *
   * Fails with `RunNotFound`, also if `owner` is given and the run is another's, `RunEnded`, `QuestionNotFound`,
   * `QuestionAnswered`, `LimitExceeded` for a value over `maxEventBytes`, and `InvalidInput`.
   */
  readonly answer: (options: AnswerOptions) => Effect.Effect<Run, RunEventLogError>
  /**
   * Replaces the events of a run that has ended by fewer, in one step: the words of an answer by the answer, for example. Each
   * has the number of the last event that it stands for, so that a reader who stands there goes on without a gap or a repeat;
   * one who stands within them is told `CursorExpired`. It is done once for a run: of n callers exactly one succeeds.
   *
   * Fails with `RunNotFound`, `RunNotEnded`, `RunCompacted`, `CursorExpired` if the events have been deleted, `LimitExceeded`,
   * and with `InvalidInput` if the numbers do not ascend to the last before the end, or there are no fewer events than before.
   */
  readonly compact: (options: CompactOptions) => Effect.Effect<Run, RunEventLogError>
  /** Gives runs to an engine of workflows. `RunWorkflow` is made of it, and is what hosts use. */
  readonly engine: EngineRuns
  /** Keeps the lease of a run that was started with `start`. Fails with `RunNotFound`, `RunEnded` and `Fenced`. */
  readonly heartbeat: (run: WrittenRun) => Effect.Effect<void, RunEventLogError>
  /**
   * Ends a run that was started with `start`: the terminal event and the new state are stored in one transaction, and of n
   * callers exactly one succeeds. Fails with `RunNotFound`, `RunEnded`, `Fenced` and `InvalidInput`.
   */
  readonly finish: (options: WrittenRun & { readonly end: RunEnd }) => Effect.Effect<Run, RunEventLogError>
  /**
   * Aborts a run, or the run that a key stands for, also if that has not begun. A program that this process executes is
   * interrupted; that of another process is refused at its next append or heartbeat. Fails with `RunNotFound`, and by key
   * with `IdempotencyConflict` if the key belongs to another thread.
   */
  readonly abort: (options: AbortOptions) => Effect.Effect<AbortResult, RunEventLogError>
  /** Returns a run. Fails with `RunNotFound`, also if `owner` is given and the run is another's. */
  readonly get: (run: NamedRun) => Effect.Effect<Run, RunEventLogError>
  /**
   * Returns the run that an owner's idempotency key stands for, whatever became of it, for as long as the key answers. None
   * if it stands for none, so that a request that failed on its way has started nothing; a failure of the store is an
   * error, never none.
   */
  readonly getByKey: (run: KeyedRun) => Effect.Effect<Option.Option<Run>, RunEventLogError>
  /**
   * Returns the run that a client of this thread should rejoin: the one that is running, else the one that is queued the
   * longest, else the one that ended last within the reconnect window, however it ended. None if there is neither; a
   * failure of the store is an error, never none.
   */
  readonly activeForThread: (thread: OwnedThread) => Effect.Effect<Option.Option<Run>, RunEventLogError>
  /** Lists an owner's runs whose events are still kept, the newest first. Fails with `InvalidInput`. */
  readonly list: (options: ListOptions) => Effect.Effect<ReadonlyArray<Run>, RunEventLogError>
  /**
   * Reads the events after a cursor, then follows the run to its terminal event.
   *
   * The effect checks the cursor and the right to the run, so that a server can answer with a status before it sends a
   * head: it fails with `InvalidCursor`, `RunNotFound`, `CursorBeyondEnd` and `CursorExpired`. The stream then gives pages
   * as its consumer asks for them, and holds no more than one: the newest from memory, which all readers of the process
   * share, others from the store. A slow reader costs nothing and is never cut off; no event is left out or repeated
   * between what was stored and what follows. A cursor at the terminal event gives an empty stream. If the
   * row has ended without a terminal event, one is made up from it, without a number.
   */
  readonly events: (
    options: EventsOptions
  ) => Effect.Effect<Stream.Stream<RunEvent, RunEventLogError>, RunEventLogError>
  /** Does what `events` does, with the data as the JSON text that was stored, for those who only pass it on. */
  readonly eventsEncoded: (
    options: EventsOptions
  ) => Effect.Effect<Stream.Stream<RunEventEncoded, RunEventLogError>, RunEventLogError>
  /**
   * Does what `eventsEncoded` does, for a writer. A reader that keeps up costs no fiber a wake-up: who commits an event
   * writes it to the readers that have room, some at a time; the others read what they missed when they have room again.
   */
  readonly eventsPushed: (
    options: EventsOptions
  ) => Effect.Effect<Writer.Push<Arr.NonEmptyReadonlyArray<RunEventEncoded>, RunEventLogError>, RunEventLogError>
  /**
   * Follows all runs of an owner, or those of a thread, with one cursor: those that are there, and new ones as they start,
   * each from its first event to its end. It never ends by itself.
   *
   * Runs come in the order of their start, each with `Begun`, and those that go on at the same time take turns; in a thread
   * a run comes after those that started before it, if they ended before it began. No event is left out or repeated,
   * wherever a reader stops and goes on. At most 400 runs are followed at a time, further ones, from their beginning, when
   * one of these has ended. A run whose events were deleted before the reader came to it is left out; one that the cursor
   * stands in fails with `CursorExpired`.
   *
   * Fails with `ThreadNotFound`, `InvalidCursor`, `CursorBeyondEnd`, `CursorExpired` and `InvalidInput`.
   */
  readonly follow: (options: FollowOptions) => Effect.Effect<FollowedRuns, RunEventLogError>
  /** Does what `follow` does, with the data as the JSON text that was stored, for those who only pass it on. */
  readonly followEncoded: (options: FollowOptions) => Effect.Effect<FollowedRuns<RunEventEncoded>, RunEventLogError>
  /**
   * Ends at most `limit` runs whose lease has expired, with the reason `stale_run`, and returns them. None for the time of
   * a lease after the database's clock has jumped, or the machine has slept, so that live writers can extend theirs.
   */
  readonly reap: (options: { readonly limit: number }) => Effect.Effect<ReadonlyArray<Run>, RunEventLogError>
  /** Deletes what is past its retention, at most `limit` rows of each kind. */
  readonly sweep: (options: { readonly limit: number }) => Effect.Effect<SweepCounts, RunEventLogError>
}>()("@sallyport/core/runs/RunEventLog") {}

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements = RunEventRepository | Digest.Digest | SecureRandom.SecureRandom

/**
 * Creates the run log; {@link layer} is what most hosts want.
 *
 * When the scope closes, programs that it executes are interrupted, and their runs end as failed with `server_shutdown`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<RunEventLog["Service"], InvalidRunEventLogOptions, Requirements | Scope.Scope> =>
  Effect.flatMap(settings.fromObject(options), RunService.make)

/**
 * Provides the run log with given options. Fails if they contradict each other.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<RunEventLog, InvalidRunEventLogOptions, Requirements> =>
  Layer.effect(RunEventLog, make(options))

/**
 * Provides the run log with the options of the configuration, in variables that begin with `SALLYPORT_RUNS_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<RunEventLog, Config.ConfigError | InvalidRunEventLogOptions, Requirements> = Layer
  .effect(RunEventLog, Effect.flatMap(settings.fromConfig, RunService.make))

/**
 * Provides the run log with the defaults of {@link Options}.
 *
 * When the layer's scope closes, programs that it executes are interrupted, and their runs end as failed with
 * `server_shutdown`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RunEventLog, never, Requirements> = Layer.effect(
  RunEventLog,
  Effect.flatMap(settings.defaults, RunService.make)
)

/**
 * Ends, again and again, runs whose lease has expired, in batches. Several processes may do this at once.
 *
 * `interval` defaults to 500 milliseconds, `batchSize` to 100 runs. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerReaper = (
  options?: Sweeper.Options
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, RunEventLog> =>
  Upkeep.layer(
    "runs without a lease",
    options,
    100,
    {
      of: "reaper of runs",
      begins: "The run log's reaper fails; runs whose process died stay as they are until it works again",
      ends: "The run log's reaper works again"
    },
    Effect.map(RunEventLog, (log) => (limit) => log.reap({ limit }))
  )

/**
 * Takes over, again and again, resumable runs of processes that have gone, and executes `program` for each, in batches.
 * Several processes may do this at once: each run is one's. The program reads `run.history` to see how far it had come.
 *
 * `interval` defaults to 500 milliseconds, `batchSize` to 10 runs. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTakeOver = <E, R>(
  program: (resumed: ResumedRun) => Effect.Effect<Schema.Json | void, E, R>,
  options?: Sweeper.Options & Pick<TakeOverOptions, "joinDeltas">
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, RunEventLog | Exclude<R, Scope.Scope>> => {
  Input.demand("RunEventLog.layerTakeOver", { program: Input.required(Input.callable) }, { program })
  return Upkeep.layer(
    "runs to take over",
    options,
    10,
    {
      of: "take-over of runs",
      begins: "Runs of processes that have gone cannot be taken over; they wait until it works again",
      ends: "Runs are taken over again"
    },
    Effect.map(RunEventLog, (log) => (limit) => log.takeOver({ limit, joinDeltas: options?.joinDeltas }, program)),
    ["joinDeltas"]
  )
}

/**
 * Deletes, again and again, what is past its retention, in batches. Several processes may do this at once.
 *
 * `interval` defaults to 1 minute, `batchSize` to 500 rows. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.Options
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, RunEventLog> =>
  Sweeper.layer({
    name: "runs",
    options,
    defaults: { interval: "1 minute", batchSize: 500 },
    sweep: Effect.map(
      RunEventLog,
      (log) => (limit) => Effect.map(log.sweep({ limit }), (counts) => Math.max(...Object.values(counts)))
    )
  })
