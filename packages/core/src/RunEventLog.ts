/**
 * Runs that a client can leave and rejoin: a durable log of events per run, a program that goes on without the request
 * that started it, and readers that continue where they stopped.
 *
 * The service holds the policy: who may see a run, how long leases and windows are, how a program's exit becomes the run's
 * end. {@link RunEventRepository} holds the rows. {@link layerReaper} ends the runs of processes that died, and
 * {@link layerSweeper} deletes what is past its retention; a host adds both beside {@link layer}.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as AppendLog from "./AppendLog.ts"
import { canonical, utf8Length } from "./internal/runJson.ts"
import {
  IdempotencyKey,
  isRunId,
  ownerKey,
  parseCursor,
  type Run,
  type RunEnd,
  RunEndStatus,
  type RunEvent,
  type RunEventEncoded,
  type RunId,
  RunOwner,
  ThreadId
} from "./Run.ts"
import {
  type AppendItem,
  RunEventRepository,
  type RunEventRepositoryError,
  type RunRow,
  type SweepCounts,
  toRun,
  type WriterRefused
} from "./RunEventRepository.ts"

/** Says that there is no such run, or that it is somebody else's. HTTP 404. */
export class RunNotFound extends Schema.TaggedError<RunNotFound>()("RunNotFound", { runId: Schema.String }) {
  override get message(): string {
    return `There is no run ${this.runId} here; check the id and who is asking`
  }
}

/** Says that the run has ended, so that nothing more can be written to it. HTTP 409. */
export class RunEnded extends Schema.TaggedError<RunEnded>()("RunEnded", {
  runId: Schema.String,
  status: RunEndStatus
}) {
  override get message(): string {
    return `Run ${this.runId} has ended (${this.status}); start another run to go on`
  }
}

/** Says that the writer has lost the run to a later epoch. HTTP 409. */
export class Fenced extends Schema.TaggedError<Fenced>()("Fenced", {
  runId: Schema.String,
  epoch: Schema.Number,
  currentEpoch: Schema.Number
}) {
  override get message(): string {
    return `This writer of run ${this.runId} has epoch ${this.epoch}, but the run is at epoch ${this.currentEpoch}; ` +
      `stop writing, somebody else has taken over`
  }
}

/** Says that a cursor is not the decimal number of an event. HTTP 400. */
export class InvalidCursor extends Schema.TaggedError<InvalidCursor>()("InvalidCursor", { cursor: Schema.String }) {
  override get message(): string {
    return `${JSON.stringify(this.cursor)} is not a cursor; give the id of the last event seen, or 0 for all`
  }
}

/** Says that a cursor lies after the newest event. HTTP 409. */
export class CursorBeyondEnd extends Schema.TaggedError<CursorBeyondEnd>()("CursorBeyondEnd", {
  runId: Schema.String,
  cursor: Schema.Natural,
  lastSeq: Schema.Natural
}) {
  override get message(): string {
    return `Cursor ${this.cursor} lies after the newest event (${this.lastSeq}) of run ${this.runId}; ` +
      `it belongs to another run, or events were lost; read again from 0`
  }
}

/** Says that the run's events have been deleted. HTTP 410. */
export class CursorExpired extends Schema.TaggedError<CursorExpired>()("CursorExpired", { runId: Schema.String }) {
  override get message(): string {
    return `The events of run ${this.runId} are past their retention and have been deleted`
  }
}

/** Says that an idempotency key was used before, for another thread or another request. HTTP 422. */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>()("IdempotencyConflict", {
  idempotencyKey: Schema.String,
  runId: Schema.String
}) {
  override get message(): string {
    return `The idempotency key ${JSON.stringify(this.idempotencyKey)} was used for another request ` +
      `(run ${this.runId}); give each request a key of its own`
  }
}

/** Says that another run of the thread is still running. HTTP 409. */
export class ThreadBusy extends Schema.TaggedError<ThreadBusy>()("ThreadBusy", {
  threadId: Schema.String,
  runId: Schema.String
}) {
  override get message(): string {
    return `Thread ${
      JSON.stringify(this.threadId)
    } already has a running run, ${this.runId}; follow it, or abort it first`
  }
}

/** Says that a configured limit does not admit an event. HTTP 413. */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>()("LimitExceeded", {
  runId: Schema.String,
  limit: Schema.Literals(["maxEventBytes", "maxEvents", "maxRunBytes"]),
  max: Schema.Number
}) {
  override get message(): string {
    return `Run ${this.runId} would exceed ${this.limit} (${this.max}); nothing was stored`
  }
}

/** Says that an argument is out of its domain. HTTP 400. */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  field: Schema.String,
  expected: Schema.String
}) {
  override get message(): string {
    return `${this.field} must be ${this.expected}`
  }
}

/** Says that the process is shutting down and takes no more runs or events. HTTP 503; worth another try elsewhere. */
export class ShuttingDown extends Schema.TaggedError<ShuttingDown>()("ShuttingDown", {}) {
  override get message(): string {
    return "The server is shutting down; try again in a moment"
  }
}

/** Says that the store failed, so that nothing is known; never to be taken for "there is none". HTTP 503. */
export class StorageFailure extends Schema.TaggedError<StorageFailure>()("StorageFailure", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The run store could not ${this.operation}; try again, and check that the database can be reached`
  }
}

/** Lists what can go wrong. */
export const RunEventLogErrorReason = Schema.Union([
  RunNotFound,
  RunEnded,
  Fenced,
  InvalidCursor,
  CursorBeyondEnd,
  CursorExpired,
  IdempotencyConflict,
  ThreadBusy,
  LimitExceeded,
  InvalidInput,
  ShuttingDown,
  StorageFailure
])
/** @see {@link RunEventLogErrorReason} */
export type RunEventLogErrorReason = typeof RunEventLogErrorReason.Type

/** Reports what went wrong with a run; callers branch on the tag of `reason`. */
export class RunEventLogError extends Schema.TaggedError<RunEventLogError>()("RunEventLogError", {
  reason: RunEventLogErrorReason
}) {
  override get message(): string {
    return this.reason.message
  }

  /** Tells whether the same call may succeed later. */
  get isRetryable(): boolean {
    return this.reason._tag === "StorageFailure" || this.reason._tag === "ShuttingDown"
  }
}

const fail = (reason: RunEventLogErrorReason): Effect.Effect<never, RunEventLogError> =>
  Effect.fail(new RunEventLogError({ reason }))

/** Describes how a run is asked for. */
export interface RunRequest {
  readonly threadId: string
  readonly idempotencyKey: string
  /** What is asked for. The same key with another request is a conflict; the order of keys in objects does not matter. */
  readonly request: Schema.Json
  readonly owner: RunOwner
  /** What the host wants to keep with the run. Not part of what makes requests equal. */
  readonly metadata?: Schema.Json | undefined
}

/** Describes a run that was asked for. */
export interface StartedRun {
  readonly run: Run
  /** False where the key was known, so that an earlier call has started the run. */
  readonly created: boolean
}

/** Describes the numbers that appended events got. */
export interface AppendedEvents {
  readonly firstSeq: number
  readonly lastSeq: number
}

/** Writes the events of the run that a program executes. */
export interface RunWriter {
  readonly run: Run
  /** Appends one event and returns its number once it is durable. */
  readonly append: (data: Schema.Json) => Effect.Effect<number, RunEventLogError>
  /** Appends some events with consecutive numbers, all or none, and returns once they are durable. */
  readonly appendAll: (events: ReadonlyArray<Schema.Json>) => Effect.Effect<AppendedEvents, RunEventLogError>
}

/** Describes which events to read. */
export interface EventsOptions {
  readonly runId: string
  /** The last event that the reader has seen, as a number or as decimal text; 0 or absent to read from the beginning. */
  readonly after?: number | string | undefined
  /** Who is asking. Another owner's run is not found. Absent means that the host itself is asking. */
  readonly owner?: RunOwner | undefined
}

/** Describes what came of an abort. */
export type AbortResult =
  /** The run was running, and this call has ended it. */
  | { readonly _tag: "Aborted"; readonly run: Run }
  | { readonly _tag: "AlreadyEnded"; readonly run: Run }
  /** No run has begun with this key; if one does, it ends at once, and its program is not executed. */
  | { readonly _tag: "Registered" }

/** Provides runs. */
export class RunEventLog extends Context.Service<RunEventLog, {
  /**
   * Starts a run that the caller writes by itself, with `append`, `heartbeat` and `finish` and the epoch of the answer; or
   * returns the run that an earlier call has started with the same key, whatever became of it.
   *
   * Fails with `IdempotencyConflict`, `ThreadBusy` and `InvalidInput`. One atomic step.
   */
  readonly start: (request: RunRequest) => Effect.Effect<StartedRun, RunEventLogError>
  /**
   * Starts a run and executes `program` for it, detached: the answer comes as soon as the run is stored, and the program
   * goes on after the caller is gone. With a key that was used before, the program is not executed.
   *
   * The run ends with the program: `succeeded` with what it returned; `failed` if it failed, died or interrupted itself
   * (the cause is logged and not shown); `aborted`, interrupting the program, when someone aborts it; `failed` with
   * `server_shutdown` when the service's scope closes; and `failed` with `stale_run`, by the reaper, when the process dies.
   * The program keeps the services of the caller, and has a scope of its own. Don't call it inside a transaction.
   */
  readonly execute: <E, R>(
    request: RunRequest,
    program: (run: RunWriter) => Effect.Effect<Schema.Json | void, E, R>
  ) => Effect.Effect<StartedRun, RunEventLogError, Exclude<R, Scope.Scope>>
  /**
   * Appends events with consecutive numbers, all or none, and returns once they are durable. Calls made at the same time
   * share a transaction; those for one run keep their order.
   *
   * Fails with `RunNotFound`, `RunEnded`, `Fenced`, `LimitExceeded` and `InvalidInput`; nothing was stored then.
   */
  readonly append: (options: {
    readonly runId: string
    readonly epoch: number
    readonly events: ReadonlyArray<Schema.Json>
  }) => Effect.Effect<AppendedEvents, RunEventLogError>
  /** Keeps the lease of a run that was started with `start`. Fails with `RunNotFound`, `RunEnded` and `Fenced`. */
  readonly heartbeat: (options: {
    readonly runId: string
    readonly epoch: number
  }) => Effect.Effect<void, RunEventLogError>
  /**
   * Ends a run that was started with `start`: the terminal event and the new state are stored in one transaction, and of n
   * callers exactly one succeeds. Fails with `RunNotFound`, `RunEnded`, `Fenced` and `InvalidInput`.
   */
  readonly finish: (options: {
    readonly runId: string
    readonly epoch: number
    readonly end: RunEnd
  }) => Effect.Effect<Run, RunEventLogError>
  /**
   * Aborts a run, or the run that a key stands for, also if that has not begun. A program that this process executes is
   * interrupted; that of another process is refused at its next append or heartbeat. Fails with `RunNotFound`, and by key
   * with `IdempotencyConflict` where the key belongs to another thread.
   */
  readonly abort: (
    options:
      | {
        readonly runId: string
        readonly owner?: RunOwner | undefined
        readonly reason?: string | undefined
      }
      | {
        readonly threadId: string
        readonly idempotencyKey: string
        readonly owner: RunOwner
        readonly reason?: string | undefined
      }
  ) => Effect.Effect<AbortResult, RunEventLogError>
  /** Returns a run. Fails with `RunNotFound`, also where `owner` is given and the run is another's. */
  readonly get: (options: {
    readonly runId: string
    readonly owner?: RunOwner | undefined
  }) => Effect.Effect<Run, RunEventLogError>
  /**
   * Returns the run that an owner's idempotency key stands for, whatever became of it, for as long as the key answers. None
   * where it stands for none, so that a request that failed on its way has started nothing; a failure of the store is an
   * error, never none.
   */
  readonly getByKey: (options: {
    readonly idempotencyKey: string
    readonly owner: RunOwner
  }) => Effect.Effect<Option.Option<Run>, RunEventLogError>
  /**
   * Returns the run that a client of this thread should rejoin: the one that is running, else the one that ended last within
   * the reconnect window, however it ended. None where there is neither; a failure of the store is an error, never none.
   */
  readonly activeForThread: (options: {
    readonly threadId: string
    readonly owner: RunOwner
  }) => Effect.Effect<Option.Option<Run>, RunEventLogError>
  /**
   * Reads the events after a cursor, then follows the run to its terminal event.
   *
   * The effect checks the cursor and the right to the run, so that a server can answer with a status before it sends a
   * head: it fails with `InvalidCursor`, `RunNotFound`, `CursorBeyondEnd` and `CursorExpired`. The stream then reads pages
   * as its consumer asks for them, and buffers no more than one, so that a slow reader costs nothing; no event is left out
   * or repeated between what was stored and what follows. A cursor at the terminal event gives an empty stream. Where the
   * row has ended without a terminal event, one is made up from it, without a number.
   */
  readonly events: (
    options: EventsOptions
  ) => Effect.Effect<Stream.Stream<RunEvent, RunEventLogError>, RunEventLogError>
  /** Does what `events` does, with the data as the JSON text that was stored, for those who only pass it on. */
  readonly eventsEncoded: (
    options: EventsOptions
  ) => Effect.Effect<Stream.Stream<RunEventEncoded, RunEventLogError>, RunEventLogError>
  /** Ends at most `limit` runs whose lease has expired, with the reason `stale_run`, and returns them. */
  readonly reap: (options: { readonly limit: number }) => Effect.Effect<ReadonlyArray<Run>, RunEventLogError>
  /** Deletes what is past its retention, at most `limit` rows of each kind. */
  readonly sweep: (options: { readonly limit: number }) => Effect.Effect<SweepCounts, RunEventLogError>
}>()("@sallyport/core/RunEventLog") {}

/** Describes the settings of a run log. Each duration must be longer than the one before. */
export interface RunEventLogOptions {
  /** How often an executed run extends its lease. Defaults to 10 seconds. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /** How long a run lives without a heartbeat. Defaults to 30 seconds. */
  readonly lease?: Duration.Input | undefined
  /** For how long after its end a run is still found by its thread. Defaults to 10 minutes. */
  readonly reconnectWindow?: Duration.Input | undefined
  /** For how long after a run's end its events are kept. Defaults to 24 hours. */
  readonly retention?: Duration.Input | undefined
  /** For how long after that its idempotency key still answers. Defaults to 7 days. */
  readonly tombstoneRetention?: Duration.Input | undefined
  /** How often readers look for new events without a hint from the store. Defaults to 5 seconds. */
  readonly pollInterval?: Duration.Input | undefined
  /** How many events a reader holds at most. Defaults to 256. */
  readonly pageSize?: number | undefined
  /** How many events share a commit at most, unless one call appends more. Defaults to 50. */
  readonly maxBatchEvents?: number | undefined
  /** The size of one event as JSON in UTF-8. Defaults to 1 MiB. */
  readonly maxEventBytes?: number | undefined
  /** The number of events of one run, the terminal one aside. Defaults to 1,000,000. */
  readonly maxEvents?: number | undefined
  /** The size of all events of one run. Defaults to 1 GiB. */
  readonly maxRunBytes?: number | undefined
}

/** Reports settings that contradict each other, or that are not positive. */
export class RunEventLogOptionsError extends Schema.TaggedError<RunEventLogOptionsError>()("RunEventLogOptionsError", {
  /** The setting that must be the smaller one; or the one that is not positive. */
  smaller: Schema.String,
  larger: Schema.NullOr(Schema.String)
}) {
  override get message(): string {
    return this.larger === null
      ? `The run log's ${this.smaller} must be a positive, finite number`
      : `The run log's ${this.smaller} must be shorter than its ${this.larger}, or healthy runs would be ended ` +
        `or lost from sight; change one of the two`
  }
}

const ordered = ["heartbeatInterval", "lease", "reconnectWindow", "retention"] as const

interface Settings {
  readonly heartbeatInterval: number
  readonly lease: number
  readonly reconnectWindow: number
  readonly retention: number
  readonly tombstoneRetention: number
  readonly pollInterval: number
  readonly pageSize: number
  readonly maxBatchEvents: number
  readonly maxEventBytes: number
  readonly maxEvents: number
  readonly maxRunBytes: number
}

// Durations are in milliseconds from here on.
const toSettings = (options: RunEventLogOptions): Settings => ({
  heartbeatInterval: Duration.toMillis(options.heartbeatInterval ?? "10 seconds"),
  lease: Duration.toMillis(options.lease ?? "30 seconds"),
  reconnectWindow: Duration.toMillis(options.reconnectWindow ?? "10 minutes"),
  retention: Duration.toMillis(options.retention ?? "24 hours"),
  tombstoneRetention: Duration.toMillis(options.tombstoneRetention ?? "7 days"),
  pollInterval: Duration.toMillis(options.pollInterval ?? "5 seconds"),
  pageSize: options.pageSize ?? 256,
  maxBatchEvents: options.maxBatchEvents ?? 50,
  maxEventBytes: options.maxEventBytes ?? 1024 * 1024,
  maxEvents: options.maxEvents ?? 1_000_000,
  maxRunBytes: options.maxRunBytes ?? 1024 * 1024 * 1024
})

const checkSettings = (settings: Settings): RunEventLogOptionsError | undefined => {
  for (const [name, value] of Object.entries(settings)) {
    if (!Number.isFinite(value) || value <= 0) return new RunEventLogOptionsError({ smaller: name, larger: null })
  }
  for (const [index, larger] of ordered.entries()) {
    const smaller = ordered[index - 1]
    if (smaller !== undefined && settings[smaller] >= settings[larger]) {
      return new RunEventLogOptionsError({ smaller, larger })
    }
  }
  return undefined
}

/** The reason of a run whose process died, or lost its database, for longer than the lease. */
export const staleRun = "stale_run"
/** The reason of a run whose process was shut down. */
export const serverShutdown = "server_shutdown"
/** The reason of a run that was aborted before it began, unless whoever aborted it gave another. */
export const abortedBeforeStart = "aborted_before_start"

const storage = <A>(effect: Effect.Effect<A, RunEventRepositoryError>): Effect.Effect<A, RunEventLogError> =>
  Effect.mapError(
    effect,
    ({ cause, operation }) => new RunEventLogError({ reason: new StorageFailure({ operation, cause }) })
  )

const refusal = (runId: string, epoch: number, refused: WriterRefused): RunEventLogErrorReason => {
  switch (refused._tag) {
    case "Ended":
      return new RunEnded({ runId, status: refused.status })
    case "Fenced":
      return new Fenced({ runId, epoch, currentEpoch: refused.currentEpoch })
    case "Unknown":
      return new RunNotFound({ runId })
  }
}

const isKey = Schema.is(IdempotencyKey)
const isThreadId = Schema.is(ThreadId)
const isOwner = Schema.is(RunOwner)
const shortText = "1 to 255 characters without control characters"

const checkAddress = (address: {
  readonly threadId?: string
  readonly idempotencyKey?: string
  readonly owner: RunOwner
}): Effect.Effect<void, RunEventLogError> => {
  if (address.threadId !== undefined && !isThreadId(address.threadId)) {
    return fail(new InvalidInput({ field: "threadId", expected: shortText }))
  }
  if (address.idempotencyKey !== undefined && !isKey(address.idempotencyKey)) {
    return fail(new InvalidInput({ field: "idempotencyKey", expected: shortText }))
  }
  if (!isOwner(address.owner)) {
    return fail(new InvalidInput({ field: "owner", expected: `a subject, and optionally an org, each ${shortText}` }))
  }
  return Effect.void
}

// JSON text, or undefined where the value is none: a cycle, a bigint, too deep, or undefined itself.
const encode = (value: unknown): string | undefined => Option.getOrUndefined(stringify(value))
const stringify = Option.liftThrowable((value: unknown): string => {
  const text: string | undefined = JSON.stringify(value)
  if (text === undefined) throw new TypeError("not JSON")
  return text
})
const toCanonical = Option.liftThrowable(canonical)

const endData = (end: RunEnd): string => JSON.stringify(end)
const endOf = (row: RunRow): RunEnd => ({
  status: row.status === "running" ? "failed" : row.status,
  ...(row.endReason === null ? {} : { reason: row.endReason })
})

const failedWith = (reason: string, message: string): RunEnd => ({ status: "failed", reason, error: { message } })

interface Execution {
  fiber: Fiber.Fiber<void> | undefined
  interrupted: boolean
}

const make = Effect.fnUntraced(function*(
  settings: Settings
): Effect.fn.Return<
  RunEventLog["Service"],
  never,
  RunEventRepository | Digest.Digest | SecureRandom.SecureRandom | Scope.Scope
> {
  const repository = yield* RunEventRepository
  const digest = yield* Digest.Digest
  const random = yield* SecureRandom.SecureRandom
  const followers = AppendLog.makeFollowers()
  // Entries are made before the run is stored, so that an abort finds the execution however early it comes.
  const executions = new Map<string, Execution>()
  const encoder = new TextEncoder()
  let closing = false

  const shuttingDown = fail(new ShuttingDown())

  const appendBatched = yield* AppendLog.groupCommit({
    weight: (item: AppendItem) => item.events.length,
    maxWeight: settings.maxBatchEvents,
    closed: shuttingDown,
    commit: (items) =>
      storage(repository.append({ items, maxEvents: settings.maxEvents, maxBytes: settings.maxRunBytes }))
  })

  // Programs end before the appender does, so that what they append while they are interrupted is still stored.
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closing = true
      return Fiber.interruptAll(
        Array.from(executions.values()).flatMap(({ fiber }) => fiber === undefined ? [] : [fiber])
      )
    })
  )

  const look = Effect.suspend(() => {
    const runIds = followers.keys()
    if (runIds.length === 0) return Effect.void
    return Effect.forEach(
      Arr.chunksOf(runIds, 100),
      (chunk) =>
        Effect.map(repository.heads(chunk), (heads) =>
          followers.compare(
            chunk,
            heads.map((head) => ({
              key: head.runId,
              position: head.lastSeq,
              ended: head.status !== "running"
            }))
          )),
      { discard: true }
    )
  })
  const lookAgain = Effect.catchCause(
    look,
    (cause) => Effect.logWarning("Could not look for new events of runs", cause)
  )
  yield* lookAgain.pipe(
    Effect.delay(settings.pollInterval),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
  // Every signal comes from the store, so that it never comes before the commit that it is about.
  let lost = false
  yield* repository.wakeups.pipe(
    Stream.runForEach((wakeUp) => {
      lost = false
      return wakeUp === "anything" ? look : Effect.sync(() => followers.wake(wakeUp))
    }),
    Effect.catchCause((cause) => {
      const message = "Lost the hints at new events of runs; looking for them until they are back"
      if (lost) return Effect.logDebug(message, cause)
      lost = true
      return Effect.logWarning(message, cause)
    }),
    Effect.andThen(Effect.sleep(Math.min(settings.pollInterval, 250))),
    Effect.andThen(Effect.ignoreCause(look)),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )

  const find = Effect.fnUntraced(function*(options: {
    readonly runId: string
    readonly owner?: RunOwner | undefined
  }): Effect.fn.Return<RunRow, RunEventLogError> {
    const { owner, runId } = options
    const row = isRunId(runId) ? yield* storage(repository.get(runId)) : undefined
    if (row === undefined || (owner !== undefined && row.ownerKey !== ownerKey(owner))) {
      return yield* fail(new RunNotFound({ runId }))
    }
    return row
  })

  const startRow = Effect.fnUntraced(function*(
    runId: string,
    request: RunRequest
  ): Effect.fn.Return<{ readonly row: RunRow; readonly created: boolean }, RunEventLogError> {
    if (closing) return yield* shuttingDown
    yield* checkAddress(request)
    const text = toCanonical(request.request)
    if (Option.isNone(text)) return yield* fail(new InvalidInput({ field: "request", expected: "JSON" }))
    const metadata = encode(request.metadata ?? {})
    if (metadata === undefined) return yield* fail(new InvalidInput({ field: "metadata", expected: "JSON" }))
    const outcome = yield* storage(repository.start({
      runId,
      threadId: request.threadId,
      ownerKey: ownerKey(request.owner),
      ownerSubject: request.owner.subject,
      ownerOrg: request.owner.org ?? null,
      idempotencyKey: request.idempotencyKey,
      requestDigest: yield* digest.digestHex(Digest.sha256, encoder.encode(text.value)),
      metadata,
      leaseMillis: settings.lease,
      abortedData: endData({ status: "aborted", reason: abortedBeforeStart })
    }))
    switch (outcome._tag) {
      case "Created":
        return { row: outcome.run, created: true }
      case "Existing":
        return { row: outcome.run, created: false }
      case "Conflict":
        return yield* fail(
          new IdempotencyConflict({ idempotencyKey: request.idempotencyKey, runId: outcome.run.runId })
        )
      case "ThreadBusy":
        return yield* fail(new ThreadBusy({ threadId: request.threadId, runId: outcome.runId }))
    }
  })

  const append = (options: {
    readonly runId: string
    readonly epoch: number
    readonly events: ReadonlyArray<Schema.Json>
  }): Effect.Effect<AppendedEvents, RunEventLogError> =>
    Effect.suspend(() => {
      const { epoch, runId } = options
      if (options.events.length === 0) {
        return fail(new InvalidInput({ field: "events", expected: "at least one event" }))
      }
      const events: Array<string> = []
      let byteCount = 0
      for (const event of options.events) {
        const text = encode(event)
        if (text === undefined) return fail(new InvalidInput({ field: "events", expected: "JSON" }))
        const bytes = utf8Length(text)
        if (bytes > settings.maxEventBytes) {
          return fail(new LimitExceeded({ runId, limit: "maxEventBytes", max: settings.maxEventBytes }))
        }
        byteCount += bytes
        events.push(text)
      }
      return Effect.flatMap(appendBatched({ runId, epoch, events, byteCount }), (outcome) => {
        switch (outcome._tag) {
          case "Appended":
            return Effect.succeed<AppendedEvents>({ firstSeq: outcome.firstSeq, lastSeq: outcome.lastSeq })
          case "LimitExceeded":
            return fail(
              outcome.limit === "maxEvents"
                ? new LimitExceeded({ runId, limit: "maxEvents", max: settings.maxEvents })
                : new LimitExceeded({ runId, limit: "maxRunBytes", max: settings.maxRunBytes })
            )
          default:
            return fail(refusal(runId, epoch, outcome))
        }
      })
    })

  const finishRow = (runId: string, epoch: number, end: RunEnd, data: string) =>
    storage(repository.finish({ runId, epoch, status: end.status, reason: end.reason ?? null, data }))

  const endOfExit = (exit: Exit.Exit<Schema.Json | void, unknown>): { readonly end: RunEnd; readonly data: string } => {
    const result = Exit.isSuccess(exit) ? exit.value : undefined
    if (Exit.isSuccess(exit)) {
      if (result === undefined) return encodeEnd({ status: "succeeded" })
      const data = encode({ status: "succeeded", result })
      if (data === undefined || encode(result) === undefined) {
        return encodeEnd(failedWith("invalid_result", "The run ended with a result that is not JSON"))
      }
      if (utf8Length(data) > settings.maxEventBytes) {
        return encodeEnd(failedWith("result_too_large", "The run ended with a result that is too large"))
      }
      return { end: { status: "succeeded", result }, data }
    }
    if (Cause.hasInterruptsOnly(exit.cause)) {
      return encodeEnd(
        closing
          ? failedWith(serverShutdown, "The server was shut down before the run was done")
          : failedWith("interrupted", "The run was interrupted")
      )
    }
    return encodeEnd(failedWith("program_failed", "The run failed"))
  }
  const encodeEnd = (end: RunEnd) => ({ end, data: endData(end) })

  // How the database is given time to come back before the end of a run is left to the reaper.
  const patience = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

  const supervise = <E, R>(
    row: RunRow,
    program: (run: RunWriter) => Effect.Effect<Schema.Json | void, E, R>
  ): Effect.Effect<void, never, Exclude<R, Scope.Scope>> => {
    const { epoch, runId } = row
    const writer: RunWriter = {
      run: toRun(row),
      append: (data) => Effect.map(append({ runId, epoch, events: [data] }), ({ firstSeq }) => firstSeq),
      appendAll: (events) => append({ runId, epoch, events })
    }
    return Effect.withFiber((self) => {
      let lost = false
      const beat = Effect.flatMap(repository.heartbeat({ runId, epoch, leaseMillis: settings.lease }), (outcome) => {
        if (outcome._tag === "Extended") return Effect.void
        lost = true
        return Effect.as(
          Effect.logDebug(`Run ${runId} is no longer this process's to execute: ${outcome._tag}`),
          // Not awaited: the heart beats on, in vain, while the program ends.
          self.interruptUnsafe()
        )
      })
      const heart = beat.pipe(
        Effect.catchCause((cause) => Effect.logWarning(`Could not extend the lease of run ${runId}`, cause)),
        Effect.delay(settings.heartbeatInterval),
        Effect.repeat({ while: () => !lost }),
        Effect.withTracerEnabled(false)
      )
      return Effect.gen(function*() {
        const beating = yield* Effect.forkChild(heart)
        const exit = yield* Effect.exit(Effect.interruptible(Effect.scoped(Effect.suspend(() => program(writer)))))
        yield* Fiber.interrupt(beating)
        if (lost) return
        if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
          yield* Effect.logError(`The program of run ${runId} failed`, exit.cause)
        }
        const { data, end } = endOfExit(exit)
        yield* finishRow(runId, epoch, end, data).pipe(
          Effect.retry({ schedule: patience, times: closing ? 3 : Math.ceil(settings.lease / 1000) }),
          Effect.catchCause((cause) =>
            Effect.logError(`Could not store the end of run ${runId}; it is left to the reaper`, cause)
          )
        )
      })
    })
  }

  const abortLocally = (runId: string): Effect.Effect<void> =>
    Effect.sync(() => {
      const execution = executions.get(runId)
      if (execution === undefined) return
      execution.interrupted = true
      execution.fiber?.interruptUnsafe()
    })

  const follow = (row: RunRow, after: number): Stream.Stream<RunEventEncoded, RunEventLogError> => {
    const runId = row.runId as RunId
    return Stream.unwrap(Effect.map(followers.follow(runId, after), (follower) => {
      let done = false
      // True when the last page was short, so that there is nothing to read before the next signal.
      let idle = false
      const next: Effect.Effect<Arr.NonEmptyReadonlyArray<RunEventEncoded>, RunEventLogError | Cause.Done> = Effect.gen(
        function*() {
          let looked = false
          while (!done) {
            if (idle) yield* followers.wait(follower)
            idle = false
            const rows = yield* storage(repository.read({ runId, after: follower.cursor, limit: settings.pageSize }))
            const last = rows[rows.length - 1]
            if (last !== undefined && Arr.isReadonlyArrayNonEmpty(rows)) {
              if (last.seq !== follower.cursor + rows.length) {
                // A sweep deletes the oldest events first.
                if ((yield* find({ runId })).expiredAtMillis !== null) return yield* fail(new CursorExpired({ runId }))
                return yield* fail(
                  new StorageFailure({
                    operation: `read all events of run ${runId} after ${follower.cursor}`,
                    cause: new Error(`${rows.length} events end at ${last.seq}`)
                  })
                )
              }
              follower.cursor = last.seq
              done = last.kind === "end"
              // A row that had ended before has a short last page too, and nobody signals after it.
              idle = row.status === "running" && rows.length < settings.pageSize
              return Arr.map(rows, (event): RunEventEncoded => ({
                runId,
                seq: Option.some(event.seq),
                kind: event.kind,
                data: event.data,
                atMillis: event.atMillis
              }))
            }
            const current = yield* find({ runId })
            if (current.expiredAtMillis !== null) return yield* fail(new CursorExpired({ runId }))
            // The event may have been stored between the two looks; one more look tells.
            if (current.lastSeq > follower.cursor && !looked) {
              looked = true
              continue
            }
            if (current.status === "running") {
              looked = false
              idle = true
              continue
            }
            done = true
            if (current.endSeq !== null && current.endSeq <= follower.cursor) break
            const end: RunEventEncoded = {
              runId,
              seq: Option.none(),
              kind: "end",
              data: endData(endOf(current)),
              atMillis: current.completedAtMillis ?? current.startedAtMillis
            }
            return Arr.of(end)
          }
          return yield* Cause.done()
        }
      )
      const pull: Pull.Pull<Arr.NonEmptyReadonlyArray<RunEventEncoded>, RunEventLogError> = next
      return Stream.fromPull(Effect.succeed(Effect.withTracerEnabled(pull, false)))
    }))
  }

  const eventsEncoded = Effect.fn("RunEventLog.events")(function*(options: EventsOptions) {
    const { after = 0, runId } = options
    const cursor = parseCursor(String(after))
    if (cursor === undefined) return yield* fail(new InvalidCursor({ cursor: String(after) }))
    const row = yield* find(options)
    if (row.expiredAtMillis !== null) return yield* fail(new CursorExpired({ runId }))
    if (cursor > row.lastSeq) return yield* fail(new CursorBeyondEnd({ runId, cursor, lastSeq: row.lastSeq }))
    return follow(row, cursor)
  })

  return RunEventLog.of({
    start: Effect.fn("RunEventLog.start")(function*(request) {
      const { created, row } = yield* startRow(yield* random.uuidV7(), request)
      return { run: toRun(row), created }
    }),
    execute: Effect.fn("RunEventLog.execute")(function*(request, program) {
      const runId = yield* random.uuidV7()
      const execution: Execution = { fiber: undefined, interrupted: false }
      executions.set(runId, execution)
      const { created, row } = yield* Effect.tapCause(
        startRow(runId, request),
        () => Effect.sync(() => executions.delete(runId))
      )
      if (created && row.status === "running") {
        const fiber = yield* Effect.forkDetach(supervise(row, program), { uninterruptible: true })
        execution.fiber = fiber
        fiber.addObserver(() => executions.delete(runId))
        // The run may have been aborted, or the scope may have begun to close, while the row was stored.
        if (closing || execution.interrupted) fiber.interruptUnsafe()
      } else executions.delete(runId)
      return { run: toRun(row), created }
    }, Effect.uninterruptible),
    append,
    heartbeat: Effect.fn("RunEventLog.heartbeat")(function*({ epoch, runId }) {
      const outcome = yield* storage(repository.heartbeat({ runId, epoch, leaseMillis: settings.lease }))
      if (outcome._tag !== "Extended") return yield* fail(refusal(runId, epoch, outcome))
    }),
    finish: Effect.fn("RunEventLog.finish")(function*({ end, epoch, runId }) {
      const data = encode(end)
      if (data === undefined) return yield* fail(new InvalidInput({ field: "end", expected: "JSON" }))
      if (utf8Length(data) > settings.maxEventBytes) {
        return yield* fail(new LimitExceeded({ runId, limit: "maxEventBytes", max: settings.maxEventBytes }))
      }
      const outcome = yield* finishRow(runId, epoch, end, data)
      return outcome._tag === "Finished" ? toRun(outcome.run) : yield* fail(refusal(runId, epoch, outcome))
    }),
    abort: Effect.fn("RunEventLog.abort")(function*(options) {
      const reason = options.reason ?? null
      const data = endData({ status: "aborted", ...(reason === null ? {} : { reason }) })
      if ("runId" in options) {
        const { owner, runId } = options
        const outcome = isRunId(runId)
          ? yield* storage(
            repository.abort({ runId, ownerKey: owner === undefined ? undefined : ownerKey(owner), reason, data })
          )
          : undefined
        if (outcome === undefined || outcome._tag === "Unknown") return yield* fail(new RunNotFound({ runId }))
        yield* abortLocally(runId)
        return { _tag: outcome._tag, run: toRun(outcome.run) }
      }
      yield* checkAddress(options)
      const { idempotencyKey, owner, threadId } = options
      const outcome = yield* storage(
        repository.abortByKey({ ownerKey: ownerKey(owner), threadId, idempotencyKey, reason, data })
      )
      if (outcome._tag === "Registered") return { _tag: "Registered" }
      if (outcome._tag === "Conflict") {
        return yield* fail(new IdempotencyConflict({ idempotencyKey, runId: outcome.run.runId }))
      }
      yield* abortLocally(outcome.run.runId)
      return { _tag: outcome._tag, run: toRun(outcome.run) }
    }),
    get: Effect.fn("RunEventLog.get")(function*(options) {
      return toRun(yield* find(options))
    }),
    getByKey: Effect.fn("RunEventLog.getByKey")(function*(options) {
      yield* checkAddress(options)
      const { idempotencyKey, owner } = options
      const row = yield* storage(repository.getByKey({ ownerKey: ownerKey(owner), idempotencyKey }))
      return row === undefined ? Option.none() : Option.some(toRun(row))
    }),
    activeForThread: Effect.fn("RunEventLog.activeForThread")(function*(options) {
      yield* checkAddress(options)
      const row = yield* storage(repository.activeForThread({
        ownerKey: ownerKey(options.owner),
        threadId: options.threadId,
        windowMillis: settings.reconnectWindow
      }))
      return row === undefined ? Option.none() : Option.some(toRun(row))
    }),
    events: (options) =>
      Effect.map(eventsEncoded(options), Stream.map((event): RunEvent => ({ ...event, data: JSON.parse(event.data) }))),
    eventsEncoded,
    reap: Effect.fn("RunEventLog.reap")(function*({ limit }) {
      const data = endData(failedWith(staleRun, "The server that executed the run has gone"))
      const rows = yield* storage(repository.reap({ limit, reason: staleRun, data }))
      return rows.map(toRun)
    }),
    sweep: Effect.fn("RunEventLog.sweep")(({ limit }) =>
      storage(repository.sweep({
        limit,
        retentionMillis: settings.retention,
        tombstoneMillis: settings.tombstoneRetention
      }))
    )
  })
})

/**
 * Provides the run log with the default settings of {@link RunEventLogOptions}.
 *
 * When its scope closes, programs that it executes are interrupted, and their runs end as failed with `server_shutdown`.
 */
export const layer: Layer.Layer<
  RunEventLog,
  never,
  RunEventRepository | Digest.Digest | SecureRandom.SecureRandom
> = Layer.effect(RunEventLog, make(toSettings({})))

/**
 * Provides the run log with settings of one's own. Fails, while the layer is built, where they contradict each other.
 */
export const layerWith = (
  options: RunEventLogOptions
): Layer.Layer<
  RunEventLog,
  RunEventLogOptionsError,
  RunEventRepository | Digest.Digest | SecureRandom.SecureRandom
> =>
  Layer.effect(
    RunEventLog,
    Effect.suspend(() => {
      const settings = toSettings(options)
      const error = checkSettings(settings)
      return error === undefined ? make(settings) : Effect.fail(error)
    })
  )

const upkeep = (
  name: string,
  interval: Duration.Input,
  step: Effect.Effect<boolean, RunEventLogError>
): Effect.Effect<void, never, Scope.Scope> =>
  step.pipe(
    // Batch after batch while there is more, letting others have the database in between.
    Effect.repeat({ while: (more) => more }),
    Effect.catchCause((cause) => Effect.logWarning(`The run log's ${name} failed; it tries again`, cause)),
    Effect.andThen(Effect.sleep(interval)),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped,
    Effect.asVoid
  )

/**
 * Ends, again and again, runs whose lease has expired, in batches. Several processes may do this at once.
 *
 * `interval` defaults to 500 milliseconds, `batchSize` to 100 runs. A failure is logged, and tried again.
 */
export const layerReaper = (options?: {
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
}): Layer.Layer<never, never, RunEventLog> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const log = yield* RunEventLog
    const limit = options?.batchSize ?? 100
    yield* upkeep(
      "reaper",
      options?.interval ?? "500 millis",
      Effect.map(log.reap({ limit }), (runs) => runs.length === limit)
    )
  }))

/**
 * Deletes, again and again, what is past its retention, in batches. Several processes may do this at once.
 *
 * `interval` defaults to 1 minute, `batchSize` to 500 rows. A failure is logged, and tried again.
 */
export const layerSweeper = (options?: {
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
}): Layer.Layer<never, never, RunEventLog> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const log = yield* RunEventLog
    const limit = options?.batchSize ?? 500
    yield* upkeep(
      "sweeper",
      options?.interval ?? "1 minute",
      Effect.map(log.sweep({ limit }), (counts) => Object.values(counts).some((count) => count >= limit))
    )
  }))
