/**
 * Where runs and their events are kept: a few atomic steps on rows, without policy.
 *
 * Times are milliseconds since the epoch by the store's own clock, so that a wrong clock on an application server neither
 * keeps a dead run alive nor ends a live one. Durations come from the caller.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import * as Option from "effect/Option"
import { RepositoryError } from "../RepositoryError.ts"
import * as WakeUps from "../WakeUps.ts"
import { isEnded, Run, RunEndStatus, type RunEventKind, RunId, type RunStatus } from "./Run.ts"

/**
 * Describes a run as it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export const RunRow = Schema.Struct({
  /** Unique. */
  runId: RunId,
  threadId: Schema.String,
  ownerKey: Schema.String,
  ownerSubject: Schema.String,
  ownerOrg: Schema.NullOr(Schema.String),
  /** Unique together with `ownerKey`. */
  idempotencyKey: Schema.String,
  /** A digest of the request that started the run. */
  requestDigest: Schema.String,
  /** At most one row of an `ownerKey` and `threadId` is `running`. */
  status: Schema.Literals(["queued", "running", ...RunEndStatus.literals]),
  /** How many questions of the run have no answer. */
  openQuestions: Schema.Natural,
  endReason: Schema.NullOr(Schema.String),
  epoch: Schema.Natural,
  /** Null exactly when the run has ended. */
  leaseExpiresAtMillis: Schema.NullOr(Schema.Natural),
  startedAtMillis: Schema.Natural,
  heartbeatAtMillis: Schema.NullOr(Schema.Natural),
  /** Null exactly while the run is queued or running. */
  completedAtMillis: Schema.NullOr(Schema.Natural),
  lastSeq: Schema.Natural,
  /** The number of the terminal event. Null until the run has ended; a row that has ended without one has no log. */
  endSeq: Schema.NullOr(Schema.Natural),
  eventCount: Schema.Natural,
  /** The size of the data of all events, as UTF-8. */
  byteCount: Schema.Natural,
  /** JSON text. */
  metadata: Schema.String,
  /** When the run was made a tombstone: its events are deleted, or about to be. */
  expiredAtMillis: Schema.NullOr(Schema.Natural)
})
/**
 * @see {@link RunRow}
 *
 * @category models
 * @since 0.1.0
 */
export type RunRow = typeof RunRow.Type

/**
 * Describes an event as it is stored with its run.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunEventRow {
  readonly seq: number
  /** The number of the first event that it stands for, if it stands for several since the run was compacted. */
  readonly firstSeq?: number | null | undefined
  readonly kind: RunEventKind
  /** JSON text. */
  readonly data: string
  readonly atMillis: number
}

/**
 * Returns the state of a run as hosts see it: a running run that has open questions is waiting.
 *
 * @category converting
 * @since 0.1.0
 */
export const statusOf = ({ openQuestions, status }: Pick<RunRow, "openQuestions" | "status">): RunStatus =>
  status === "running" && openQuestions > 0 ? "waiting" : status

/**
 * Returns what hosts see of a row.
 *
 * @category converting
 * @since 0.1.0
 */
export const toRun = (row: RunRow): Run =>
  new Run({
    runId: row.runId,
    threadId: row.threadId,
    owner: row.ownerOrg === null ? { subject: row.ownerSubject } : { subject: row.ownerSubject, org: row.ownerOrg },
    idempotencyKey: row.idempotencyKey,
    status: statusOf(row),
    endReason: row.endReason,
    epoch: row.epoch,
    lastSeq: row.lastSeq,
    startedAt: DateTime.makeUnsafe(row.startedAtMillis),
    heartbeatAt: row.heartbeatAtMillis === null ? null : DateTime.makeUnsafe(row.heartbeatAtMillis),
    completedAt: row.completedAtMillis === null ? null : DateTime.makeUnsafe(row.completedAtMillis),
    expired: row.expiredAtMillis !== null,
    metadata: JSON.parse(row.metadata)
  })

/**
 * Describes a run to start.
 *
 * @category options
 * @since 0.1.0
 */
export interface StartOptions {
  /** The id that the run gets if it is created. */
  readonly runId: RunId
  readonly threadId: string
  readonly ownerKey: string
  readonly ownerSubject: string
  readonly ownerOrg: string | null
  readonly idempotencyKey: string
  readonly requestDigest: string
  /** JSON text. */
  readonly metadata: string
  /** JSON text that makes the run resumable, or absent. */
  readonly resume?: string | undefined
  /** JSON text with which an engine of workflows executes the run, or absent. */
  readonly workflow?: string | undefined
  readonly leaseMillis: number
  /** JSON text of the terminal event that the run gets if it was aborted before it began. */
  readonly abortedData: string
  /** How many runs of the owner may be queued or running. Unbounded if absent. */
  readonly maxRunning?: number | undefined
  /** How a run that holds the thread's slot with an expired lease is ended; absent to leave it alone. */
  readonly stale?: StaleEnd | undefined
  /**
   * What is done if the thread is busy: the run waits with at most `max - 1` others, or the run that holds the slot is ended
   * as aborted. Absent to answer `ThreadBusy`.
   */
  readonly whenBusy?:
    | { readonly _tag: "Enqueue"; readonly max: number }
    | { readonly _tag: "Interrupt"; readonly end: SlotEnd }
    | undefined
}

/**
 * Describes how a run that holds a thread's slot is ended.
 *
 * @category options
 * @since 0.1.0
 */
export interface SlotEnd {
  readonly reason: string
  /** JSON text of the terminal event. */
  readonly data: string
}

/**
 * Describes which runs with an expired lease are ended, and how: those that cannot be resumed, that have had `maxEpoch`
 * writers, or whose lease has been expired for more than `patienceMillis`. The others wait to be taken over. A run that an
 * engine executes is never ended so.
 *
 * @category options
 * @since 0.1.0
 */
export interface StaleEnd extends SlotEnd {
  readonly maxEpoch: number
  readonly patienceMillis: number
}

/**
 * Describes what came of starting a run.
 *
 * @category models
 * @since 0.1.0
 */
export type StartOutcome =
  /**
   * The run is running, queued, or aborted before it began. `interrupted` is the run that it has ended, `stale` the run that
   * it has found without a lease.
   */
  | {
    readonly _tag: "Created"
    readonly run: RunRow
    readonly interrupted?: string | undefined
    readonly stale?: string | undefined
  }
  /** A run with this owner and key exists, in whatever state, for the same thread and the same request. */
  | { readonly _tag: "Existing"; readonly run: RunRow }
  /** The owner has as many runs as may be. Nothing was changed. */
  | { readonly _tag: "TooMany"; readonly limit: "maxRunning" }
  /** A run with this owner and key exists, for another thread or another request. */
  | { readonly _tag: "Conflict"; readonly run: RunRow }
  /** Another run of this owner's thread is running, or waits for the thread. */
  | { readonly _tag: "ThreadBusy"; readonly runId: string; readonly leaseExpired: boolean }

/**
 * Describes what came of asking for the turn of a queued run.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnOutcome =
  | { readonly _tag: "Running"; readonly run: RunRow }
  /** Another run has the thread, or waits for it longer. */
  | { readonly _tag: "Behind"; readonly runId: string }
  | WriterRefused

/**
 * Holds a run that was taken over, with the JSON text that made it resumable.
 *
 * @category models
 * @since 0.1.0
 */
export interface TakenRun {
  readonly run: RunRow
  readonly resume: string
}

/**
 * Describes what came of beginning to execute a run of an engine. `starts` counts how often that was begun since the run
 * last came forward.
 *
 * @category models
 * @since 0.1.0
 */
export type ActivateOutcome =
  | { readonly _tag: "Activated"; readonly run: RunRow; readonly workflow: string; readonly starts: number }
  | Exclude<WriterRefused, { readonly _tag: "Fenced" }>

/**
 * Names a run of an engine that has not been heard of, with its questions that have an answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface QuietRun {
  readonly runId: string
  readonly answered: ReadonlyArray<string>
}

/**
 * Describes events that were appended with a key.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedWrite {
  readonly runId: string
  readonly key: string
  readonly firstSeq: number
  readonly lastSeq: number
  readonly atMillis: number
}

/**
 * Describes the events that one writer appends to one run; they get consecutive numbers.
 *
 * @category models
 * @since 0.1.0
 */
export interface AppendItem {
  readonly runId: string
  readonly epoch: number
  /** JSON texts, at least one. */
  readonly events: ReadonlyArray<string>
  /** The size of `events` as UTF-8. */
  readonly byteCount: number
  /** Names the events within the run, so that they are stored once however often they are appended. */
  readonly key?: string | undefined
}

/**
 * Describes why a writer was refused; nothing was changed.
 *
 * @category models
 * @since 0.1.0
 */
export type WriterRefused =
  | { readonly _tag: "Ended"; readonly status: RunEndStatus }
  | { readonly _tag: "Fenced"; readonly currentEpoch: number }
  | { readonly _tag: "Unknown" }

/**
 * Describes what came of one item of a batch.
 *
 * @category models
 * @since 0.1.0
 */
export type AppendOutcome =
  | {
    readonly _tag: "Appended"
    readonly firstSeq: number
    readonly lastSeq: number
    /** When the events were stored; the same that reading them answers. */
    readonly atMillis: number
    /** True if events with this key had been appended before: nothing was stored, and the numbers are theirs. */
    readonly repeated?: true | undefined
  }
  | { readonly _tag: "LimitExceeded"; readonly limit: "maxEvents" | "maxBytes" }
  | WriterRefused

/**
 * Describes what came of asking a question.
 *
 * @category models
 * @since 0.1.0
 */
export type AskOutcome =
  /** The question has no answer yet. `seq` is the number of the event that asks it. */
  | { readonly _tag: "Open"; readonly seq: number }
  /** `value` is JSON text. */
  | { readonly _tag: "Answered"; readonly value: string }
  | { readonly _tag: "LimitExceeded"; readonly limit: "maxEvents" | "maxBytes" }
  | WriterRefused

/**
 * Describes what came of answering a question. Of n answers exactly one is `Accepted`.
 *
 * @category models
 * @since 0.1.0
 */
export type AnswerOutcome =
  | { readonly _tag: "Accepted"; readonly run: RunRow }
  | { readonly _tag: "AlreadyAnswered" }
  /** The run asks no such question. */
  | { readonly _tag: "NoQuestion" }
  | { readonly _tag: "Ended"; readonly status: RunEndStatus }
  | { readonly _tag: "Unknown" }

/**
 * Describes a run's end.
 *
 * @category options
 * @since 0.1.0
 */
export interface FinishOptions {
  readonly runId: string
  readonly epoch: number
  readonly status: RunEndStatus
  readonly reason: string | null
  /** JSON text of the terminal event. */
  readonly data: string
}

/**
 * Describes what came of ending a run. Of n callers exactly one is answered `Finished`.
 *
 * @category models
 * @since 0.1.0
 */
export type FinishOutcome =
  | { readonly _tag: "Finished"; readonly run: RunRow }
  | WriterRefused

/**
 * Describes what came of a heartbeat.
 *
 * @category models
 * @since 0.1.0
 */
export type HeartbeatOutcome =
  | { readonly _tag: "Extended"; readonly leaseExpiresAtMillis: number }
  | WriterRefused

/**
 * Describes what came of aborting a run. Of n callers exactly one is answered `Aborted`.
 *
 * @category models
 * @since 0.1.0
 */
export type AbortOutcome =
  | { readonly _tag: "Aborted"; readonly run: RunRow }
  | { readonly _tag: "AlreadyEnded"; readonly run: RunRow }
  | { readonly _tag: "Unknown" }

/**
 * Describes what came of aborting by idempotency key.
 *
 * @category models
 * @since 0.1.0
 */
export type AbortByKeyOutcome =
  | Exclude<AbortOutcome, { readonly _tag: "Unknown" }>
  /** No such run has begun; if one begins, it ends at once. */
  | { readonly _tag: "Registered" }
  /** No such run has begun, and the owner has as many aborts registered as may be. Nothing was changed. */
  | { readonly _tag: "TooMany"; readonly limit: "maxAborts" }
  /** The key belongs to a run of another thread. */
  | { readonly _tag: "Conflict"; readonly run: RunRow }

/**
 * Describes an event that takes the place of those from the one given before it up to its number.
 *
 * @category models
 * @since 0.1.0
 */
export interface CompactedEvent {
  readonly seq: number
  /** JSON text. */
  readonly data: string
  /** The size of `data` as UTF-8. */
  readonly byteCount: number
}

/**
 * Describes why a run is not compacted; nothing was changed.
 *
 * @category models
 * @since 0.1.0
 */
export type CompactionRefused =
  | { readonly _tag: "NotEnded"; readonly status: RunRow["status"] }
  | { readonly _tag: "AlreadyCompacted" }
  /** Its events have been deleted. */
  | { readonly _tag: "Expired" }
  /** The numbers do not go up to that of the last event before the end, or there are no fewer events than before. */
  | { readonly _tag: "Misnumbered" }
  | { readonly _tag: "Unknown" }

/**
 * Describes what came of compacting a run. Of n callers exactly one is answered `Compacted`.
 *
 * @category models
 * @since 0.1.0
 */
export type CompactOutcome = { readonly _tag: "Compacted"; readonly run: RunRow } | CompactionRefused

/**
 * Describes where the log of a run stands.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunHead {
  readonly runId: string
  readonly status: RunRow["status"]
  readonly lastSeq: number
}

/**
 * Says which runs a follower asks for, of those whose events are still kept: the first `limit` that started after a time,
 * those that started at some times, or those that are queued or running.
 *
 * @category options
 * @since 0.1.0
 */
export type FollowedRuns =
  | { readonly _tag: "After"; readonly startedAtMillis: number; readonly limit: number }
  | { readonly _tag: "At"; readonly startedAtMillis: ReadonlyArray<number> }
  | { readonly _tag: "Alive" }

/**
 * Counts what a sweep did; if every count is below the limit, nothing is left to sweep.
 *
 * @category models
 * @since 0.1.0
 */
export interface SweepCounts {
  /** Runs made tombstones. */
  readonly expired: number
  /** Events of tombstones deleted. */
  readonly events: number
  /** Tombstones deleted. */
  readonly removed: number
  /** Aborts deleted whose run never began. */
  readonly aborts: number
}

/**
 * Provides the atomic steps on runs and their events.
 *
 * @category services
 * @since 0.1.0
 */
export class RunEventRepository extends Context.Service<RunEventRepository, {
  /** Returns the store's time, by which leases are kept, in milliseconds since the epoch. */
  readonly now: Effect.Effect<number, RepositoryError>
  /**
   * Creates a run with epoch 1 and a lease, or returns the one that has the same owner and key. A run starts later than
   * every run of its owner that was there before, by a millisecond at least, whatever the clock says. The slot of a thread
   * is held by a unique index: of n callers with different keys exactly one is answered `Created`, the others `ThreadBusy`;
   * of n callers with the same key exactly one is answered `Created`, the others `Existing`. A run that was aborted
   * beforehand is created as already aborted, with its terminal event, and needs no slot. An owner with `maxRunning` runs is
   * answered `TooMany`; callers at once may leave a few more.
   *
   * A thread that runs wait for is busy. With `whenBusy`, in the same transaction, the run is stored as queued, or the
   * slot's holder is ended and the run takes its place, before all that wait.
   *
   * With `stale`, a run that holds the slot and whose lease has expired is ended as failed in the same transaction, as by
   * `reap`, and the slot is free. Racing with its heartbeat, either the lease is extended and the answer is `ThreadBusy`, or
   * the heartbeat is refused.
   */
  readonly start: (options: StartOptions) => Effect.Effect<StartOutcome, RepositoryError>
  /**
   * Appends many items in one transaction, in the order given, each with an outcome at its own index. An item that is
   * refused stores nothing and disturbs no other; an item is stored whole or not at all. When the effect succeeds, the
   * events are as durable as the store's settings make a commit. Numbers start at 1 and have no gaps. An item whose key the
   * run knows, from this batch or an earlier one, stores nothing; a writer that may not append is refused all the same.
   */
  readonly append: (options: {
    readonly items: ReadonlyArray<AppendItem>
    readonly maxEvents: number
    readonly maxBytes: number
  }) => Effect.Effect<ReadonlyArray<AppendOutcome>, RepositoryError>
  /** How many calls of `append`, each for other runs, the store works on at the same time. Default 1: one after another. */
  readonly parallelAppends?: number | undefined
  /** Stores the terminal event and the run's new state in one transaction, if the epoch is current and the run runs. */
  readonly finish: (options: FinishOptions) => Effect.Effect<FinishOutcome, RepositoryError>
  /**
   * Asks a question of a run: appends its event, and notes it as open, in one transaction. A question that was asked before
   * appends nothing, and is answered with what became of it.
   */
  readonly ask: (options: {
    readonly runId: string
    readonly epoch: number
    readonly name: string
    /** JSON text of the event. */
    readonly data: string
    /** The size of `data` as UTF-8. */
    readonly byteCount: number
    readonly maxEvents: number
    readonly maxBytes: number
  }) => Effect.Effect<AskOutcome, RepositoryError>
  /**
   * Answers an open question, by any process: keeps the value and appends the answer's event in one transaction. With an
   * `ownerKey`, a run of another owner is unknown.
   */
  readonly answer: (options: {
    readonly runId: string
    readonly ownerKey: string | undefined
    readonly name: string
    /** JSON text. */
    readonly value: string
    /** JSON text of the event. */
    readonly data: string
    /** The size of `data` as UTF-8. */
    readonly byteCount: number
  }) => Effect.Effect<AnswerOutcome, RepositoryError>
  /**
   * Replaces the events of an ended run, but for its end, by fewer, in one transaction. Each keeps the number and the time of
   * the last event that it stands for. A run is compacted once.
   */
  readonly compact: (options: {
    readonly runId: string
    readonly ownerKey: string | undefined
    readonly events: ReadonlyArray<CompactedEvent>
  }) => Effect.Effect<CompactOutcome, RepositoryError>
  /**
   * Extends the lease to `leaseMillis` from now, if the epoch is current and the run runs. An expired lease of a run that
   * an engine executes is left to `wake`, and so is one of a run with more answers than `answers`, if that is given: a
   * waking may have been lost. With `forward`, the run has come forward: its starts are counted from 0 again.
   */
  readonly heartbeat: (options: {
    readonly runId: string
    readonly epoch: number
    readonly leaseMillis: number
    readonly forward?: boolean | undefined
    readonly answers?: number | undefined
  }) => Effect.Effect<HeartbeatOutcome, RepositoryError>
  /**
   * Raises the epoch of a run that an engine executes, counts the start, and begins a lease. Every earlier writer is fenced.
   */
  readonly activate: (options: {
    readonly runId: string
    readonly leaseMillis: number
  }) => Effect.Effect<ActivateOutcome, RepositoryError>
  /**
   * Gives at most `limit` runs that an engine executes, and whose lease has expired, to the caller, and begins a lease for
   * each. The epoch stays. An answer ends the lease, so that its run is among them.
   */
  readonly wake: (options: {
    readonly limit: number
    readonly leaseMillis: number
  }) => Effect.Effect<ReadonlyArray<QuietRun>, RepositoryError>
  /**
   * Gives a queued run the thread's slot, if it is free and no older run with a lease waits for it. Else the run goes on
   * waiting. In both cases its lease is extended. With `stale`, as in `start`, a holder whose lease has expired is ended.
   */
  readonly takeTurn: (options: {
    readonly runId: string
    readonly epoch: number
    readonly leaseMillis: number
    readonly stale?: StaleEnd | undefined
  }) => Effect.Effect<TurnOutcome, RepositoryError>
  /**
   * Gives at most `limit` resumable runs whose lease has expired, and which have had fewer than `maxEpoch` writers, to the
   * caller: raises their epochs, and begins a lease. Of n callers exactly one gets a run.
   */
  readonly takeOver: (options: {
    readonly limit: number
    readonly leaseMillis: number
    readonly maxEpoch: number
  }) => Effect.Effect<ReadonlyArray<TakenRun>, RepositoryError>
  /**
   * Ends a run that has not ended as aborted, with its terminal event, by any writer; raises its epoch. With an `ownerKey`,
   * a run of another owner is unknown.
   */
  readonly abort: (options: {
    readonly runId: string
    readonly ownerKey: string | undefined
    readonly reason: string | null
    /** JSON text of the terminal event. */
    readonly data: string
  }) => Effect.Effect<AbortOutcome, RepositoryError>
  /**
   * Aborts the run of an owner, thread and key, or, if none has begun, notes that it must not. Racing with `start`,
   * the run ends aborted whichever comes first. An owner with `maxAborts` such notes, unbounded if absent, is answered
   * `TooMany`; callers at once may leave a few more.
   */
  readonly abortByKey: (options: {
    readonly maxAborts?: number | undefined
    readonly ownerKey: string
    readonly threadId: string
    readonly idempotencyKey: string
    readonly reason: string | null
    /** JSON text of the terminal event. */
    readonly data: string
  }) => Effect.Effect<AbortByKeyOutcome, RepositoryError>
  /** Returns the row of a run. */
  readonly get: (runId: string) => Effect.Effect<Option.Option<RunRow>, RepositoryError>
  /** Returns the row that an owner's idempotency key stands for. */
  readonly getByKey: (options: {
    readonly ownerKey: string
    readonly idempotencyKey: string
  }) => Effect.Effect<Option.Option<RunRow>, RepositoryError>
  /**
   * Returns the running run of an owner's thread, else the one that waits longest, else the one that ended last, if that was
   * within `windowMillis`, counted from its completion, else its last heartbeat, else its start.
   */
  readonly activeForThread: (options: {
    readonly ownerKey: string
    readonly threadId: string
    readonly windowMillis: number
  }) => Effect.Effect<Option.Option<RunRow>, RepositoryError>
  /**
   * Returns an owner's runs whose events are still kept, of a thread and of a status if these are given: those that started
   * last first, those of one time by their ids from the last on; after a run or from the newest, at most `limit`.
   */
  readonly list: (options: {
    readonly ownerKey: string
    readonly threadId?: string | undefined
    readonly status?: RunStatus | undefined
    readonly after?: Pick<RunRow, "startedAtMillis" | "runId"> | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<RunRow>, RepositoryError>
  /** Returns those of an owner's runs that a follower asks for, of a thread if it is given, in the order of their start. */
  readonly listFollowed: (options: {
    readonly ownerKey: string
    readonly threadId?: string | undefined
    readonly which: FollowedRuns
  }) => Effect.Effect<ReadonlyArray<RunRow>, RepositoryError>
  /**
   * Returns when the newest run of each of some owners was started; owners without a run whose events are kept are left out.
   */
  readonly newestStarts: (
    ownerKeys: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, number>, RepositoryError>
  /** Returns at most `limit` events numbered above `after`, in order. An unknown run has none. */
  readonly read: (options: {
    readonly runId: string
    readonly after: number
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<RunEventRow>, RepositoryError>
  /** Returns where the logs of some runs stand, in any order; unknown runs are left out. */
  readonly heads: (
    runIds: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<RunHead>, RepositoryError>
  /**
   * Ends at most `limit` queued or running runs whose lease has expired, and which wait for no taker, as failed, with the
   * terminal event `data`, and raises their epochs. Racing with a heartbeat, either the lease is extended and the run lives,
   * or the heartbeat is refused.
   */
  readonly reap: (
    options: StaleEnd & { readonly limit: number }
  ) => Effect.Effect<ReadonlyArray<RunRow>, RepositoryError>
  /**
   * Makes tombstones of runs that ended more than `retentionMillis` ago, deletes the events of tombstones, and deletes
   * tombstones after `tombstoneMillis` more, at most `limit` rows of each. While a tombstone stands, its idempotency key
   * still answers and its readers learn that their cursor has expired.
   */
  readonly sweep: (options: {
    readonly limit: number
    readonly retentionMillis: number
    readonly tombstoneMillis: number
  }) => Effect.Effect<SweepCounts, RepositoryError>
  /**
   * Hints that runs may have events that were not there before, whichever process wrote them: `anything` when it has begun
   * to listen, then after each commit, or some of them together, the runs with their last numbers, the owners of new runs
   * with the times of their start, or `anything`. It fails when hints may have been lost; a reader is then out of date until
   * it has subscribed again and read.
   */
  readonly wakeups: Stream.Stream<WakeUps.WakeUp, RepositoryError>
}>()("@sallyport/core/runs/RunEventRepository") {}

/**
 * Describes what {@link planAppend} needs to know of a run.
 *
 * @category models
 * @since 0.1.0
 */
export type AppendHead = Pick<RunRow, "runId" | "status" | "epoch" | "lastSeq" | "eventCount" | "byteCount">

/**
 * Describes an event that an adapter is to store.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewEvent extends RunEventRow {
  readonly runId: string
  /** The size of the run's data, that of all events of its item included. */
  readonly byteTotal: number
}

/**
 * Decides, for adapters, the outcome of each item of a batch, given the rows of its runs as they are under a lock.
 *
 * Returns the outcomes, the heads that change, and the events and keys to store.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const planAppend = (options: {
  readonly items: ReadonlyArray<AppendItem>
  readonly heads: Iterable<AppendHead>
  /** The store's time. */
  readonly atMillis: number
  readonly maxEvents: number
  readonly maxBytes: number
  /** What the runs know of the keys of the items. */
  readonly writes?: Iterable<KeyedWrite> | undefined
}): {
  readonly outcomes: ReadonlyArray<AppendOutcome>
  readonly heads: ReadonlyArray<AppendHead>
  readonly events: ReadonlyArray<NewEvent>
  readonly writes: ReadonlyArray<KeyedWrite>
} => {
  const { atMillis } = options
  const writes: Array<KeyedWrite> = []
  const known = new Map<string, KeyedWrite>()
  const placeOf = (runId: string, key: string) => JSON.stringify([runId, key])
  for (const write of options.writes ?? []) known.set(placeOf(write.runId, write.key), write)
  const heads = new Map<string, AppendHead>()
  for (const head of options.heads) heads.set(head.runId, head)
  const changed = new Map<string, AppendHead>()
  const events: Array<NewEvent> = []
  const outcomes = options.items.map((item): AppendOutcome => {
    const head = heads.get(item.runId)
    const refused = refuseAppend(head, item.epoch)
    if (head === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
    const place = item.key === undefined ? "" : placeOf(item.runId, item.key)
    const before = known.get(place)
    if (before !== undefined) {
      const { atMillis, firstSeq, lastSeq } = before
      return { _tag: "Appended", firstSeq, lastSeq, atMillis, repeated: true }
    }
    const eventCount = head.eventCount + item.events.length
    if (eventCount > options.maxEvents) return { _tag: "LimitExceeded", limit: "maxEvents" }
    const byteCount = head.byteCount + item.byteCount
    if (byteCount > options.maxBytes) return { _tag: "LimitExceeded", limit: "maxBytes" }
    let seq = head.lastSeq
    for (const data of item.events) {
      events.push({ runId: item.runId, seq: ++seq, kind: "data", data, atMillis, byteTotal: byteCount })
    }
    const next = {
      runId: head.runId,
      status: head.status,
      epoch: head.epoch,
      lastSeq: seq,
      eventCount,
      byteCount
    }
    heads.set(item.runId, next)
    changed.set(item.runId, next)
    const firstSeq = head.lastSeq + 1
    if (item.key !== undefined) {
      const write = { runId: item.runId, key: item.key, firstSeq, lastSeq: seq, atMillis }
      known.set(place, write)
      writes.push(write)
    }
    return { _tag: "Appended", firstSeq, lastSeq: seq, atMillis }
  })
  return { outcomes, heads: Array.from(changed.values()), events, writes }
}

/**
 * Says, for adapters, why a writer with this epoch may not write to a run, or `undefined` if it may.
 *
 * The epoch is looked at only until the run has ended: a writer whose run was ended by someone else is told of the end.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refuse = (
  head: Pick<RunRow, "status" | "epoch"> | undefined,
  epoch: number
): WriterRefused | undefined => {
  if (head === undefined) return { _tag: "Unknown" }
  if (isEnded(head.status)) return { _tag: "Ended", status: head.status }
  if (head.epoch !== epoch) return { _tag: "Fenced", currentEpoch: head.epoch }
  return undefined
}

/**
 * Says, for adapters, why a writer with this epoch may not append to a run, or `undefined` if it may. A queued run has no
 * writer yet.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refuseAppend = (
  head: Pick<RunRow, "status" | "epoch"> | undefined,
  epoch: number
): WriterRefused | undefined =>
  refuse(head, epoch) ?? (head?.status === "queued" ? { _tag: "Fenced", currentEpoch: head.epoch } : undefined)

/**
 * Says, for adapters, why a run may not be compacted to these events, or `undefined` if it may.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refuseCompaction = (
  row: RunRow | undefined,
  { events, ownerKey }: Pick<Parameters<RunEventRepository["Service"]["compact"]>[0], "events" | "ownerKey">
): CompactionRefused | undefined => {
  if (row === undefined || (ownerKey ?? row.ownerKey) !== row.ownerKey) return { _tag: "Unknown" }
  const { endSeq, eventCount, status } = row
  if (!isEnded(status)) return { _tag: "NotEnded", status }
  if (row.expiredAtMillis !== null) return { _tag: "Expired" }
  if (endSeq !== null && eventCount < endSeq - 1) return { _tag: "AlreadyCompacted" }
  const isOrdered = events.every(({ seq }, index) => Number.isSafeInteger(seq) && seq > (events[index - 1]?.seq ?? 0))
  return isOrdered && events.length < eventCount && events.at(-1)?.seq === (endSeq ?? 0) - 1
    ? undefined
    : { _tag: "Misnumbered" }
}

/**
 * Returns, for adapters, the number of the first event that each stands for; null if it stands for itself alone.
 *
 * @category converting
 * @since 0.1.0
 */
export const withFirsts = (
  events: ReadonlyArray<CompactedEvent>
): ReadonlyArray<CompactedEvent & { readonly firstSeq: number | null }> =>
  events.map((event, index) => {
    const firstSeq = (events[index - 1]?.seq ?? 0) + 1
    return { ...event, firstSeq: firstSeq === event.seq ? null : firstSeq }
  })

/**
 * Describes the one event of a question or an answer as an item to append.
 *
 * @category converting
 * @since 0.1.0
 */
export const asItem = ({ byteCount, data, epoch, runId }: {
  readonly runId: string
  readonly epoch: number
  readonly data: string
  readonly byteCount: number
}): AppendItem => ({ runId, epoch, events: [data], byteCount })

/**
 * Lets a run have an answer to each of its questions, however long its log is.
 *
 * @category constants
 * @since 0.1.0
 */
export const unlimited = { maxEvents: Infinity, maxBytes: Infinity }

/** Orders runs as lists do. */
const newestFirst = (
  a: Pick<RunRow, "runId" | "startedAtMillis">,
  b: Pick<RunRow, "runId" | "startedAtMillis">
): number => b.startedAtMillis - a.startedAtMillis || (a.runId === b.runId ? 0 : a.runId < b.runId ? 1 : -1)

const makeMemory = (now: () => number): RunEventRepository["Service"] => {
  type Mutable<A> = { -readonly [K in keyof A]: A[K] }
  interface Entry {
    readonly row: Mutable<RunRow>
    readonly resume: string | undefined
    readonly workflow: string | undefined
    starts: number
    events: Array<RunEventRow>
    readonly questions: Map<string, { readonly seq: number; value: string | undefined }>
    readonly writes: Map<string, KeyedWrite>
  }
  interface Thread {
    running: Entry | undefined
    /** In the order of their coming. */
    readonly queued: Set<Entry>
    readonly ended: Set<Entry>
  }
  interface Abort {
    readonly ownerKey: string
    readonly reason: string | null
    readonly atMillis: number
  }

  const runs = new Map<string, Entry>()
  const byKey = new Map<string, Entry>()
  const threads = new Map<string, Thread>()
  const aborts = new Map<string, Abort>()
  // Upkeep goes through the runs that it can concern, not through all.
  const alive = new Set<Entry>()
  const ended = new Set<Entry>()
  const tombstones = new Set<Entry>()
  const countOf = (ownerKey: string, all: Iterable<string>): number => {
    let count = 0
    for (const one of all) if (one === ownerKey) count++
    return count
  }
  const wakeups = WakeUps.make()
  // When the newest run of an owner was started, for as long as that is not in the past.
  const starts = new Map<string, number>()

  const join = (...parts: ReadonlyArray<string>) => JSON.stringify(parts)
  const copy = (entry: Entry): RunRow => ({ ...entry.row })
  const thread = (row: RunRow): Thread => {
    const key = join(row.ownerKey, row.threadId)
    const known = threads.get(key)
    if (known !== undefined) return known
    const created: Thread = { running: undefined, queued: new Set(), ended: new Set() }
    threads.set(key, created)
    return created
  }
  const step = <A>(operation: string, f: () => A): Effect.Effect<A, RepositoryError> =>
    Effect.try({
      try: f,
      catch: (cause) => new RepositoryError({ operation, reason: "Failed", outcome: "unchanged", cause })
    })

  const end = (entry: Entry, options: {
    readonly status: RunEndStatus
    readonly reason: string | null
    readonly data: string
  }): RunRow => {
    const { row } = entry
    const at = now()
    row.lastSeq = row.endSeq = row.lastSeq + 1
    row.status = options.status
    row.endReason = options.reason
    row.completedAtMillis = at
    row.leaseExpiresAtMillis = null
    entry.events.push({ seq: row.lastSeq, kind: "end", data: options.data, atMillis: at })
    const slot = thread(row)
    if (slot.running === entry) slot.running = undefined
    slot.queued.delete(entry)
    slot.ended.add(entry)
    alive.delete(entry)
    ended.add(entry)
    wakeups.notify(row.runId, row.lastSeq)
    return copy(entry)
  }

  const abort = (
    entry: Entry,
    options: { readonly reason: string | null; readonly data: string }
  ): Exclude<AbortOutcome, { readonly _tag: "Unknown" }> => {
    if (isEnded(entry.row.status)) return { _tag: "AlreadyEnded", run: copy(entry) }
    entry.row.epoch++
    return { _tag: "Aborted", run: end(entry, { ...options, status: "aborted" }) }
  }

  const answeredOf = ({ questions }: Entry): ReadonlyArray<string> =>
    Array.from(questions).flatMap(([name, { value }]) => value === undefined ? [] : [name])
  const isStale = ({ row }: Entry, at: number): boolean =>
    row.leaseExpiresAtMillis !== null && row.leaseExpiresAtMillis < at
  const append = (options: {
    readonly items: ReadonlyArray<AppendItem>
    readonly maxEvents: number
    readonly maxBytes: number
  }): ReadonlyArray<AppendOutcome> => {
    const heads = new Map<string, AppendHead>()
    for (const { runId } of options.items) {
      const entry = runs.get(runId)
      if (entry !== undefined) heads.set(runId, entry.row)
    }
    const writes = options.items.flatMap(({ key = "", runId }) => runs.get(runId)?.writes.get(key) ?? [])
    const plan = planAppend({ ...options, heads: heads.values(), atMillis: now(), writes })
    for (const write of plan.writes) runs.get(write.runId)?.writes.set(write.key, write)
    for (const { atMillis, data, kind, runId, seq } of plan.events) {
      runs.get(runId)?.events.push({ seq, kind, data, atMillis })
    }
    for (const { byteCount, eventCount, lastSeq, runId } of plan.heads) {
      const entry = runs.get(runId)
      if (entry === undefined) continue
      Object.assign(entry.row, { byteCount, eventCount, lastSeq })
      wakeups.notify(runId, lastSeq)
    }
    return plan.outcomes
  }

  const waiting = ({ queued }: Thread, at: number): ReadonlyArray<Entry> =>
    Array.from(queued).filter((entry) => !isStale(entry, at))
  const endHolder = (slot: Thread, end_: SlotEnd, status: RunEndStatus): string | undefined => {
    const holder = slot.running
    if (holder === undefined) return undefined
    holder.row.epoch++
    end(holder, { ...end_, status })
    return holder.row.runId
  }
  const isLost = (entry: Entry, { maxEpoch, patienceMillis }: StaleEnd, at: number): boolean =>
    isStale(entry, at) && entry.workflow === undefined &&
    (entry.resume === undefined || entry.row.epoch >= maxEpoch || isStale(entry, at - patienceMillis))
  const endStale = (slot: Thread, stale: StaleEnd | undefined, at: number): string | undefined =>
    slot.running !== undefined && stale !== undefined && isLost(slot.running, stale, at)
      ? endHolder(slot, stale, "failed")
      : undefined
  const endedAt = ({ row }: Entry): number => row.completedAtMillis ?? row.heartbeatAtMillis ?? row.startedAtMillis

  return {
    now: Effect.sync(now),
    start: (options) =>
      step("start", (): StartOutcome => {
        const key = join(options.ownerKey, options.idempotencyKey)
        const existing = byKey.get(key)
        if (existing !== undefined) {
          const same = existing.row.threadId === options.threadId &&
            existing.row.requestDigest === options.requestDigest
          return { _tag: same ? "Existing" : "Conflict", run: copy(existing) }
        }
        const abortKey = join(options.ownerKey, options.threadId, options.idempotencyKey)
        const aborted = aborts.get(abortKey)
        const at = now()
        const startedAtMillis = Math.max(at, 1 + (starts.get(options.ownerKey) ?? -1))
        const entry: Entry = {
          row: {
            runId: options.runId,
            threadId: options.threadId,
            ownerKey: options.ownerKey,
            ownerSubject: options.ownerSubject,
            ownerOrg: options.ownerOrg,
            idempotencyKey: options.idempotencyKey,
            requestDigest: options.requestDigest,
            status: "running",
            endReason: null,
            epoch: 1,
            leaseExpiresAtMillis: at + options.leaseMillis,
            startedAtMillis,
            heartbeatAtMillis: null,
            completedAtMillis: null,
            lastSeq: 0,
            endSeq: null,
            eventCount: 0,
            byteCount: 0,
            metadata: options.metadata,
            openQuestions: 0,
            expiredAtMillis: null
          },
          resume: options.resume,
          workflow: options.workflow,
          starts: 0,
          events: [],
          questions: new Map(),
          writes: new Map()
        }
        const slot = thread(entry.row)
        const { stale, whenBusy } = options
        let interrupted: string | undefined
        let ended: string | undefined
        if (aborted === undefined) {
          ended = endStale(slot, stale, at)
          if (whenBusy?._tag === "Interrupt") interrupted = endHolder(slot, whenBusy.end, "aborted")
          const queued = waiting(slot, at)
          const holder = slot.running ?? (whenBusy?._tag === "Interrupt" ? undefined : queued[0])
          if (holder !== undefined) {
            if (whenBusy?._tag !== "Enqueue" || queued.length >= whenBusy.max) {
              return { _tag: "ThreadBusy", runId: holder.row.runId, leaseExpired: isStale(holder, at) }
            }
            entry.row.status = "queued"
          }
          const owned = countOf(options.ownerKey, Array.from(alive, ({ row }) => row.ownerKey))
          if (owned >= (options.maxRunning ?? Infinity)) return { _tag: "TooMany", limit: "maxRunning" }
        }
        runs.set(options.runId, entry)
        byKey.set(key, entry)
        starts.set(options.ownerKey, startedAtMillis)
        wakeups.notify(options.ownerKey, startedAtMillis)
        if (aborted !== undefined) {
          aborts.delete(abortKey)
          return {
            _tag: "Created",
            run: end(entry, { status: "aborted", reason: aborted.reason, data: options.abortedData })
          }
        }
        if (entry.row.status === "queued") slot.queued.add(entry)
        else slot.running = entry
        alive.add(entry)
        return { _tag: "Created", run: copy(entry), interrupted, stale: ended }
      }),
    takeTurn: (options) =>
      step("takeTurn", (): TurnOutcome => {
        const entry = runs.get(options.runId)
        const refused = refuse(entry?.row, options.epoch)
        if (entry === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
        const at = now()
        entry.row.leaseExpiresAtMillis = at + options.leaseMillis
        if (entry.row.status === "running") return { _tag: "Running", run: copy(entry) }
        const slot = thread(entry.row)
        endStale(slot, options.stale, at)
        const behind = slot.running ?? waiting(slot, at)[0]
        if (behind !== undefined && behind !== entry) return { _tag: "Behind", runId: behind.row.runId }
        slot.queued.delete(entry)
        slot.running = entry
        entry.row.status = "running"
        return { _tag: "Running", run: copy(entry) }
      }),
    takeOver: ({ leaseMillis, limit, maxEpoch }) =>
      step("takeOver", () => {
        const at = now()
        const taken: Array<TakenRun> = []
        for (const entry of alive) {
          const { resume, row } = entry
          if (taken.length === limit) break
          if (resume === undefined || !isStale(entry, at) || row.epoch >= maxEpoch) continue
          row.epoch++
          row.heartbeatAtMillis = at
          row.leaseExpiresAtMillis = at + leaseMillis
          taken.push({ run: copy(entry), resume })
        }
        return taken
      }),
    ask: (options) =>
      step("ask", (): AskOutcome => {
        const entry = runs.get(options.runId)
        const refused = refuseAppend(entry?.row, options.epoch)
        if (entry === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
        const asked = entry.questions.get(options.name)
        if (asked !== undefined) {
          return asked.value === undefined ? { _tag: "Open", seq: asked.seq } : { _tag: "Answered", value: asked.value }
        }
        const [outcome = { _tag: "Unknown" }] = append({ ...options, items: [asItem(options)] })
        if (outcome._tag !== "Appended") return outcome
        entry.questions.set(options.name, { seq: outcome.firstSeq, value: undefined })
        entry.row.openQuestions++
        return { _tag: "Open", seq: outcome.firstSeq }
      }),
    answer: (options) =>
      step("answer", (): AnswerOutcome => {
        const entry = runs.get(options.runId)
        if (entry === undefined || (options.ownerKey ?? entry.row.ownerKey) !== entry.row.ownerKey) {
          return { _tag: "Unknown" }
        }
        const question = entry.questions.get(options.name)
        if (question?.value !== undefined) return { _tag: "AlreadyAnswered" }
        if (isEnded(entry.row.status)) return { _tag: "Ended", status: entry.row.status }
        if (question === undefined) return { _tag: "NoQuestion" }
        append({ items: [asItem({ ...options, epoch: entry.row.epoch })], ...unlimited })
        question.value = options.value
        entry.row.openQuestions--
        if (entry.workflow !== undefined) entry.row.leaseExpiresAtMillis = now() - 1
        return { _tag: "Accepted", run: copy(entry) }
      }),
    append: (options) => step("append", () => append(options)),
    compact: (options) =>
      step("compact", (): CompactOutcome => {
        const entry = runs.get(options.runId)
        const refused = refuseCompaction(entry?.row, options)
        if (entry === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
        const replaced = new Map(withFirsts(options.events).map((event) => [event.seq, event]))
        entry.events = entry.events.flatMap((event) => {
          const by = replaced.get(event.seq)
          if (by !== undefined) return [{ ...event, data: by.data, firstSeq: by.firstSeq }]
          return event.kind === "end" ? [event] : []
        })
        entry.row.eventCount = options.events.length
        entry.row.byteCount = options.events.reduce((sum, { byteCount }) => sum + byteCount, 0)
        return { _tag: "Compacted", run: copy(entry) }
      }),
    finish: (options) =>
      step("finish", (): FinishOutcome => {
        const entry = runs.get(options.runId)
        const refused = refuse(entry?.row, options.epoch)
        if (entry === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
        return { _tag: "Finished", run: end(entry, options) }
      }),
    heartbeat: (options) =>
      step("heartbeat", (): HeartbeatOutcome => {
        const entry = runs.get(options.runId)
        const refused = refuse(entry?.row, options.epoch)
        if (entry === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
        const at = now()
        entry.row.heartbeatAtMillis = at
        if (options.forward === true) entry.starts = 0
        const leaseExpiresAtMillis = at + options.leaseMillis
        const isLeft = entry.workflow !== undefined &&
          (isStale(entry, at) || answeredOf(entry).length > (options.answers ?? Infinity))
        if (!isLeft) entry.row.leaseExpiresAtMillis = leaseExpiresAtMillis
        return { _tag: "Extended", leaseExpiresAtMillis }
      }),
    activate: (options) =>
      step("activate", (): ActivateOutcome => {
        const entry = runs.get(options.runId)
        if (entry?.workflow === undefined) return { _tag: "Unknown" }
        const { row, workflow } = entry
        if (isEnded(row.status)) return { _tag: "Ended", status: row.status }
        row.epoch++
        row.heartbeatAtMillis = now()
        row.leaseExpiresAtMillis = row.heartbeatAtMillis + options.leaseMillis
        return { _tag: "Activated", run: copy(entry), workflow, starts: ++entry.starts }
      }),
    wake: (options) =>
      step("wake", () => {
        const at = now()
        return Array.from(alive)
          .filter((entry) => entry.workflow !== undefined && isStale(entry, at))
          .slice(0, options.limit)
          .map((entry): QuietRun => {
            entry.row.leaseExpiresAtMillis = at + options.leaseMillis
            return { runId: entry.row.runId, answered: answeredOf(entry) }
          })
      }),
    abort: (options) =>
      step("abort", (): AbortOutcome => {
        const entry = runs.get(options.runId)
        return entry === undefined || (options.ownerKey !== undefined && entry.row.ownerKey !== options.ownerKey)
          ? { _tag: "Unknown" }
          : abort(entry, options)
      }),
    abortByKey: (options) =>
      step("abortByKey", (): AbortByKeyOutcome => {
        const entry = byKey.get(join(options.ownerKey, options.idempotencyKey))
        if (entry !== undefined) {
          return entry.row.threadId === options.threadId
            ? abort(entry, options)
            : { _tag: "Conflict", run: copy(entry) }
        }
        const key = join(options.ownerKey, options.threadId, options.idempotencyKey)
        if (aborts.has(key)) return { _tag: "Registered" }
        const { maxAborts = Infinity, ownerKey, reason } = options
        if (countOf(ownerKey, Array.from(aborts.values(), (abort) => abort.ownerKey)) >= maxAborts) {
          return { _tag: "TooMany", limit: "maxAborts" }
        }
        aborts.set(key, { ownerKey, reason, atMillis: now() })
        return { _tag: "Registered" }
      }),
    get: (runId) => step("get", () => Option.map(Option.fromUndefinedOr(runs.get(runId)), copy)),
    getByKey: ({ idempotencyKey, ownerKey }) =>
      step(
        "getByKey",
        () => Option.map(Option.fromUndefinedOr(byKey.get(join(ownerKey, idempotencyKey))), copy)
      ),
    activeForThread: (options) =>
      step("activeForThread", (): Option.Option<RunRow> => {
        const slot = threads.get(join(options.ownerKey, options.threadId))
        if (slot === undefined) return Option.none()
        const active = slot.running ?? slot.queued.values().next().value
        if (active !== undefined) return Option.some(copy(active))
        let latest: Entry | undefined
        for (const entry of slot.ended) {
          if (latest === undefined || endedAt(entry) >= endedAt(latest)) latest = entry
        }
        return latest === undefined || endedAt(latest) < now() - options.windowMillis
          ? Option.none()
          : Option.some(copy(latest))
      }),
    list: ({ after, limit, ownerKey, status, threadId }) =>
      step("list", () =>
        Array.from(runs.values(), ({ row }) => row)
          .filter((row) =>
            row.ownerKey === ownerKey && row.expiredAtMillis === null && (threadId ?? row.threadId) === row.threadId &&
            (status ?? statusOf(row)) === statusOf(row) && (after === undefined || newestFirst(after, row) < 0)
          )
          .sort(newestFirst)
          .slice(0, limit)
          .map((row) => ({ ...row }))),
    listFollowed: ({ ownerKey, threadId, which }) =>
      step("listFollowed", () => {
        const rows = Array.from(which._tag === "Alive" ? alive : runs.values(), ({ row }) => row).filter((row) =>
          row.ownerKey === ownerKey && row.expiredAtMillis === null && (threadId ?? row.threadId) === row.threadId &&
          (which._tag === "Alive" || (which._tag === "At"
            ? which.startedAtMillis.includes(row.startedAtMillis)
            : row.startedAtMillis > which.startedAtMillis))
        ).sort((a, b) => newestFirst(b, a))
        return rows.slice(0, which._tag === "After" ? which.limit : rows.length).map((row) => ({ ...row }))
      }),
    newestStarts: (ownerKeys) =>
      step("newestStarts", () => {
        const asked = new Set(ownerKeys)
        const newest = new Map<string, number>()
        for (const { row } of runs.values()) {
          if (row.expiredAtMillis !== null || !asked.has(row.ownerKey)) continue
          newest.set(row.ownerKey, Math.max(row.startedAtMillis, newest.get(row.ownerKey) ?? 0))
        }
        return newest
      }),
    read: (options) =>
      step("read", () => {
        const events = runs.get(options.runId)?.events ?? []
        // Unless the run was compacted, the numbers have no gaps, so that an event's place is its number.
        const dense = events.at(-1)?.seq === events.length
        const from = dense ? options.after : events.findIndex(({ seq }) => seq > options.after)
        return from < 0 ? [] : events.slice(from, from + options.limit)
      }),
    heads: (runIds) =>
      step("heads", () =>
        runIds.flatMap((runId) => {
          const row = runs.get(runId)?.row
          return row === undefined ? [] : [{ runId, status: row.status, lastSeq: row.lastSeq }]
        })),
    reap: (options) =>
      step("reap", () => {
        const at = now()
        const stale = Array.from(alive).filter((entry) => isLost(entry, options, at))
        stale.sort((a, b) => (a.row.leaseExpiresAtMillis ?? 0) - (b.row.leaseExpiresAtMillis ?? 0))
        return stale.slice(0, options.limit).map((entry) => {
          entry.row.epoch++
          return end(entry, { ...options, status: "failed" })
        })
      }),
    sweep: (options) =>
      step("sweep", () => {
        const at = now()
        const counts = { expired: 0, events: 0, removed: 0, aborts: 0 }
        for (const entry of tombstones) {
          if (counts.removed === options.limit) break
          const { row } = entry
          if (
            entry.events.length > 0 || row.expiredAtMillis === null ||
            row.expiredAtMillis >= at - options.tombstoneMillis
          ) continue
          runs.delete(row.runId)
          byKey.delete(join(row.ownerKey, row.idempotencyKey))
          const slot = thread(row)
          slot.ended.delete(entry)
          if (slot.running === undefined && slot.queued.size + slot.ended.size === 0) {
            threads.delete(join(row.ownerKey, row.threadId))
          }
          tombstones.delete(entry)
          counts.removed++
        }
        for (const entry of ended) {
          if (counts.expired === options.limit) break
          const { row } = entry
          if (row.completedAtMillis === null || row.completedAtMillis >= at - options.retentionMillis) continue
          row.expiredAtMillis = at
          ended.delete(entry)
          tombstones.add(entry)
          counts.expired++
        }
        for (const entry of tombstones) {
          if (counts.events === options.limit) break
          counts.events += entry.events.splice(0, options.limit - counts.events).length
          if (entry.events.length > 0) continue
          entry.questions.clear()
          entry.writes.clear()
        }
        for (const [ownerKey, startedAtMillis] of starts) {
          if (startedAtMillis < at) starts.delete(ownerKey)
        }
        for (const [key, { atMillis }] of aborts) {
          if (counts.aborts === options.limit) break
          if (atMillis >= at - options.retentionMillis) continue
          aborts.delete(key)
          counts.aborts++
        }
        return counts
      }),
    wakeups: wakeups.listen
  }
}

/**
 * Provides a repository in memory, with the process's `Clock`. What it holds ends with the layer's scope.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<RunEventRepository> = Layer.effect(
  RunEventRepository,
  Effect.map(Clock.Clock, (clock) => RunEventRepository.of(makeMemory(() => clock.currentTimeMillisUnsafe())))
)
