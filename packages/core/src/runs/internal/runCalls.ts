/**
 * What callers of the run log say, and what they are answered.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Run, RunEvent, RunOwner, RunStatus, WhenBusy } from "../Run.ts"
import type { QuietRun } from "../RunEventRepository.ts"
import type { RunEventLogError } from "./runErrors.ts"

/**
 * Describes how a run is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunRequest {
  readonly threadId: string
  readonly idempotencyKey: string
  /** What is asked for. The same key with another request is a conflict; the order of keys in objects does not matter. */
  readonly request: Schema.Json
  readonly owner: RunOwner
  /** What the host wants to keep with the run. Not part of what makes requests equal. */
  readonly metadata?: Schema.Json | undefined
  /** What the run does if its thread is busy. Default `reject`. Not part of what makes requests equal. */
  readonly whenBusy?: Exclude<WhenBusy, "enqueue"> | undefined
  /**
   * Whether another process may go on with the run when its lease runs out: the request is kept with it, for `takeOver`.
   * Default false: the run ends as `stale_run`.
   */
  readonly resumable?: boolean | undefined
}

/**
 * Describes how a run is asked for whose program the log executes, and which can therefore wait for its thread.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExecutedRunRequest extends Omit<RunRequest, "whenBusy"> {
  readonly whenBusy?: WhenBusy | undefined
  /** For how long the writer's `appendDelta` may hold deltas back to join them. Default: not at all. */
  readonly joinDeltas?: Duration.Input | undefined
}

/**
 * Describes a run that was asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface StartedRun {
  readonly run: Run
  /** False if the key was known, so that an earlier call has started the run. */
  readonly created: boolean
}

/**
 * Describes the numbers that appended events got.
 *
 * @category models
 * @since 0.1.0
 */
export interface AppendedEvents {
  readonly firstSeq: number
  readonly lastSeq: number
}

/**
 * Writes the events of the run that a program executes.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunWriter {
  readonly run: Run
  /** The events that earlier writers of the run have appended, in order. Empty unless the run was taken over. */
  readonly history: Stream.Stream<RunEvent, RunEventLogError>
  /** Appends one event and returns its number once it is durable. */
  readonly append: (data: Schema.Json) => Effect.Effect<number, RunEventLogError>
  /**
   * Appends a delta, a part of a text that comes in parts. If the run joins deltas, it returns at once, and what comes within
   * the window is appended as one event; anything else that is appended or asked, and the end of the program, comes after
   * it, also if the program is interrupted. What cannot be stored fails the next call, and the run. If the run joins none, it
   * is `append`. See `Run.joinDeltas` for what is joined.
   */
  readonly appendDelta: (delta: Schema.Json) => Effect.Effect<void, RunEventLogError>
  /** Appends some events with consecutive numbers, all or none, and returns once they are durable. */
  readonly appendAll: (events: ReadonlyArray<Schema.Json>) => Effect.Effect<AppendedEvents, RunEventLogError>
  /**
   * Asks a question, and waits for its answer. It is asked with an event of the data `{ question: { name, ask } }`, once for
   * each name; a name that was answered before has its answer at once. While a question is open the run is `waiting`.
   */
  readonly ask: (name: string, ask: Schema.Json) => Effect.Effect<Schema.Json, RunEventLogError>
}

/**
 * Describes an execution of a run by an engine of workflows. Its effects wait without end once the run has ended, or another
 * execution has begun; the execution is ended or put aside then.
 *
 * @category models
 * @since 0.1.0
 */
export interface Activation {
  readonly run: Run
  /** What was asked for when the run was started. */
  readonly request: Schema.Json
  /** Appends events once for each key, and answers whether the key was known. */
  readonly append: (key: string, events: ReadonlyArray<Schema.Json>) => Effect.Effect<boolean, RunEventLogError>
  /** Asks a question once for each name, and returns its answer if it has one. */
  readonly ask: (name: string, ask: Schema.Json) => Effect.Effect<Option.Option<Schema.Json>, RunEventLogError>
  /**
   * Executes a step. A run that is put aside within one that waits for nothing does not rest: nothing but its lease would
   * wake it.
   */
  readonly step: <A, E, R>(effect: Effect.Effect<A, E, R>, isWaiting: () => boolean) => Effect.Effect<A, E, R>
  /** Notes that the run has come forward, so that starts before this do not count against it. */
  readonly comeForward: Effect.Effect<void>
}

/**
 * Gives runs to an engine of workflows, which executes them: in any process, and again from the beginning after each rest.
 *
 * @category models
 * @since 0.1.0
 */
export interface EngineRuns {
  /** Stores a run that the engine is to execute, or returns the one that has the same key. */
  readonly start: (request: ExecutedRunRequest) => Effect.Effect<StartedRun, RunEventLogError>
  /**
   * Executes a program for a run, under the next epoch, in the caller's fiber, and stores the run's end. Answers whether the
   * run has ended; if it has not, the engine puts the execution aside. An interruption is passed on: `isPutAside` tells that
   * the run waits for something, and may rest.
   *
   * A run that was begun more than `maxTakeOvers` times after the first, and never came forward, ends as `stale_run`.
   */
  readonly activate: <E, R>(
    runId: string,
    program: (activation: Activation) => Effect.Effect<Schema.Json | void, E, R>,
    isPutAside: () => boolean
  ) => Effect.Effect<boolean, never, R>
  /** Returns at most `limit` runs that the engine is to look at: they were answered, or not heard of for too long. */
  readonly wake: (options: { readonly limit: number }) => Effect.Effect<ReadonlyArray<QuietRun>, RunEventLogError>
  /** Calls `interrupt` for each run that this process aborts, until the scope closes. */
  readonly onAbort: (interrupt: (runId: string) => Effect.Effect<void>) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * Describes a run that was taken over from a process that has gone.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResumedRun {
  /** What was asked for when the run was started. */
  readonly request: Schema.Json
  readonly run: RunWriter
}

/**
 * Describes how many runs to take over at most, and how their programs write.
 *
 * @category models
 * @since 0.1.0
 */
export interface TakeOverOptions extends Pick<ExecutedRunRequest, "joinDeltas"> {
  readonly limit: number
}

/**
 * Describes an answer to a question of a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnswerOptions extends NamedRun {
  /** The name of the question. */
  readonly name: string
  readonly value: Schema.Json
}

/**
 * Names a run to one of its writers: which run, and the epoch that the writer got when it started it.
 *
 * @category models
 * @since 0.1.0
 */
export interface WrittenRun {
  readonly runId: string
  readonly epoch: number
}

/**
 * Names a run to a reader.
 *
 * @category models
 * @since 0.1.0
 */
export interface NamedRun {
  readonly runId: string
  /** Who is asking. Another owner's run is not found. Absent means that the host itself is asking. */
  readonly owner?: RunOwner | undefined
}

/**
 * Names a run by the idempotency key of its owner.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedRun {
  readonly idempotencyKey: string
  readonly owner: RunOwner
}

/**
 * Names a thread of an owner.
 *
 * @category models
 * @since 0.1.0
 */
export interface OwnedThread {
  readonly threadId: string
  readonly owner: RunOwner
}

/**
 * Describes which runs to list: an owner's, of a thread and of a status if these are given, after one of them if it is given.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListOptions {
  readonly owner: RunOwner
  readonly threadId?: string | undefined
  readonly status?: RunStatus | undefined
  readonly after?: Pick<Run, "runId" | "startedAt"> | undefined
  /** How many runs to list at most. Default 200. */
  readonly limit?: number | undefined
}

/**
 * Describes which events to read.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventsOptions extends NamedRun {
  /**
   * The last event that the reader has seen, as a number or as decimal text; 0 or absent to read from the beginning, `latest`
   * to begin with what comes next.
   */
  readonly after?: number | string | undefined
}

/**
 * Describes the events that are kept of a run that has ended. Each stands for the events after the one before it, up to the
 * number `seq`; the last for those up to the end, which stays.
 *
 * @category models
 * @since 0.1.0
 */
export interface CompactOptions extends NamedRun {
  readonly events: ReadonlyArray<{ readonly seq: number; readonly data: Schema.Json }>
}

/**
 * Describes which runs to follow: an owner's, or those of one of its threads.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowOptions {
  readonly owner: RunOwner
  readonly threadId?: string | undefined
  /**
   * The cursor of what the reader was given last; absent or `0` to read everything that is kept, `latest` to begin with what
   * comes next.
   */
  readonly after?: string | undefined
}

/**
 * Describes what a reader of many runs is given: a run that it follows from now on, or an event of one. `cursor` is where to
 * go on after it.
 *
 * @category models
 * @since 0.1.0
 */
export type Followed<Event = RunEvent> =
  | { readonly _tag: "Begun"; readonly cursor: string; readonly run: Run }
  | { readonly _tag: "Event"; readonly cursor: string; readonly threadId: string; readonly event: Event }

/**
 * Holds what a reader of many runs is given, and the cursor from which that goes on.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowedRuns<Event = RunEvent> {
  readonly cursor: string
  readonly events: Stream.Stream<Followed<Event>, RunEventLogError>
}

/**
 * Describes which run to abort: one that is known, or the one that a key stands for, also if it has not begun.
 *
 * @category models
 * @since 0.1.0
 */
export type AbortOptions = (NamedRun | (KeyedRun & OwnedThread)) & { readonly reason?: string | undefined }

/**
 * Describes what came of an abort.
 *
 * @category models
 * @since 0.1.0
 */
export type AbortResult =
  /** The run was running, and this call has ended it. */
  | { readonly _tag: "Aborted"; readonly run: Run }
  | { readonly _tag: "AlreadyEnded"; readonly run: Run }
  /** No run has begun with this key; if one does, it ends at once, and its program is not executed. */
  | { readonly _tag: "Registered" }
