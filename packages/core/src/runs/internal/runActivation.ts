/**
 * Executes a run for an engine of workflows: in the engine's fiber, under the next epoch, with a heart that keeps the
 * lease, and with an end that is stored unless the engine only puts the run aside.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Metrics from "../../Metrics.ts"
import type * as Outage from "../../Outage.ts"
import type { RunEnd } from "../Run.ts"
import {
  type ActivateOutcome,
  type FinishOutcome,
  type HeartbeatOutcome,
  type RunRow,
  toRun
} from "../RunEventRepository.ts"
import type { Activation } from "./runCalls.ts"
import { endOfExit, spentEnd } from "./runEnds.ts"
import type { RunEventLogError } from "./runErrors.ts"
import { patience } from "./runExecution.ts"
import type { Settings } from "./runOptions.ts"

/** Names the steps of which activations are made. */
export interface Steps {
  readonly settings: Settings
  readonly leases: ReturnType<typeof Outage.make>
  readonly begin: (runId: string) => Effect.Effect<ActivateOutcome, RunEventLogError>
  readonly heartbeat: (row: RunRow) => Effect.Effect<HeartbeatOutcome, RunEventLogError>
  /**
   * Lets a run rest that the engine has put aside, until it is answered or looked at again; not if it has more answers than
   * its program has seen.
   */
  readonly rest: (row: RunRow, answers: number) => Effect.Effect<HeartbeatOutcome, RunEventLogError>
  readonly comeForward: (row: RunRow) => Effect.Effect<HeartbeatOutcome, RunEventLogError>
  /** Waits until a queued run has its thread; none if it is no longer this writer's. */
  readonly turn: (row: RunRow) => Effect.Effect<Option.Option<RunRow>, RunEventLogError>
  readonly append: (
    row: RunRow,
    key: string,
    events: ReadonlyArray<Schema.Json>
  ) => Effect.Effect<boolean, RunEventLogError>
  readonly ask: (
    row: RunRow,
    name: string,
    question: Schema.Json
  ) => Effect.Effect<Option.Option<Schema.Json>, RunEventLogError>
  readonly finish: (row: RunRow, end: RunEnd, data: string) => Effect.Effect<FinishOutcome, RunEventLogError>
}

// A store that is away comes back, or the engine stops this execution. Keys make it safe to try again. One that is damaged,
// or refuses the step, does so again.
const untilStored = <A>(effect: Effect.Effect<A, RunEventLogError>): Effect.Effect<A, RunEventLogError> =>
  Effect.retry(effect, {
    schedule: patience,
    while: ({ isRetryable, reason }) => isRetryable && reason._tag === "StorageFailure"
  })

/**
 * Executes a program for a run, and answers whether the run has ended. If it has not, another activation has it, or the log
 * is closing, and the engine is to put the execution aside. An interruption is passed on: the engine has put it aside, or
 * moves it.
 */
export const make = (steps: Steps) => {
  // The newest execution of each run here.
  const newest = new Map<string, RunRow>()
  return Effect.fnUntraced(function*<E, R>(
    runId: string,
    program: (activation: Activation) => Effect.Effect<Schema.Json | void, E, R>,
    isPutAside: () => boolean
  ): Effect.fn.Return<boolean, never, R> {
    const { settings } = steps
    const orLater = <A>(what: string, effect: Effect.Effect<A, RunEventLogError>) =>
      Effect.option(Effect.tapError(
        untilStored(effect),
        (error) => Effect.logError(`Could not ${what} run ${runId}; it is tried again when its lease is over`, error)
      ))
    // One that another execution has taken meanwhile is that one's to end.
    const ends = (row: RunRow, end: RunEnd, data: string) =>
      Effect.map(
        orLater("store the end of", steps.finish(row, end, data)),
        Option.exists(({ _tag }) => _tag !== "Fenced")
      )
    const begun = yield* orLater("begin to execute", steps.begin(runId))
    if (Option.isNone(begun)) return false
    if (begun.value._tag !== "Activated") return true
    const { run: row, starts, workflow } = begun.value
    if (starts > settings.maxTakeOvers + 1) {
      const { data, end } = spentEnd
      yield* Effect.logWarning(`Run ${runId} was begun ${starts - 1} times without coming forward, and ends`)
      return yield* ends(row, end, data)
    }

    const lost = yield* Deferred.make<boolean>()
    const lose = (ended: boolean) => Effect.andThen(Deferred.succeed(lost, ended), Effect.never)
    const ours = <A>(effect: Effect.Effect<A, RunEventLogError>): Effect.Effect<A, RunEventLogError> =>
      Effect.catchReasons(untilStored(effect), "RunEventLogError", {
        Fenced: () => lose(false),
        ShuttingDown: () => lose(false),
        RunEnded: () => lose(true),
        RunNotFound: () => lose(true)
      })
    // An engine that loses a shard, and has it again, may execute a step as an execution before this one gave it. No one is
    // left to interrupt that one, and this one waits for the step: it writes for the newest execution of this process.
    const append: Activation["append"] = (key, events) =>
      Effect.suspend(() => {
        const held = newest.get(runId) ?? row
        return ours(Effect.catchReasons(steps.append(held, key, events), "RunEventLogError", {
          Fenced: () =>
            Deferred.succeed(lost, false).pipe(
              Effect.andThen(Effect.repeat(Effect.void, {
                until: () => (newest.get(runId) ?? held) !== held,
                schedule: Schedule.spaced(settings.heartbeatInterval)
              })),
              Effect.andThen(append(key, events))
            )
        }))
      })
    const outage = steps.leases()
    const beat = Effect.flatMap(
      Effect.tap(steps.heartbeat(row), () => outage.worked),
      ({ _tag }) => _tag === "Extended" ? Effect.void : Effect.asVoid(Deferred.succeed(lost, _tag !== "Fenced"))
    )
    const heart = beat.pipe(
      Effect.catchCause(outage.failed),
      Effect.delay(settings.heartbeatInterval),
      Effect.forever,
      Effect.ensuring(outage.left),
      Effect.withTracerEnabled(false)
    )
    let behind = starts > 1
    // The questions of which the program knows the answer.
    const answered = new Set<string>()
    // Whether the run was put aside in the middle of a step.
    let isCut = false
    const step: Activation["step"] = (effect, isWaiting) =>
      Effect.onExit(effect, (exit) =>
        Effect.sync(() => {
          isCut ||= isPutAside() && Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause) && !isWaiting()
        }))
    const activation = (row: RunRow): Activation => ({
      run: toRun(row),
      request: JSON.parse(workflow),
      append,
      step,
      ask: (name, question) =>
        Effect.tap(ours(steps.ask(row, name, question)), (answer) =>
          Effect.sync(() => {
            if (Option.isSome(answer)) answered.add(name)
          })),
      comeForward: Effect.suspend(() => {
        if (!behind) return Effect.void
        behind = false
        return Effect.ignore(steps.comeForward(newest.get(runId) ?? row))
      })
    })
    const executed = Effect.gen(function*() {
      const running = row.status === "queued" ? yield* steps.turn(row) : Option.some(row)
      if (Option.isSome(running)) return Option.some(yield* program(activation(running.value)))
      yield* Effect.ignore(beat)
      return yield* Effect.never
    })
    yield* Metrics.runsExecuting(1, {})
    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        newest.set(runId, row)
        const beating = yield* Effect.forkChild(Effect.interruptible(heart))
        const exit = yield* Effect.exit(restore(
          Effect.raceFirst(executed, Effect.as(Deferred.await(lost), Option.none()))
        ))
        yield* Fiber.interrupt(beating)
        if (newest.get(runId) === row) newest.delete(runId)
        yield* Metrics.runsExecuting(-1, {})
        if (yield* Deferred.isDone(lost)) return yield* Deferred.await(lost)
        if (Exit.isFailure(exit) && (isPutAside() || Cause.hasInterrupts(exit.cause))) {
          if (isPutAside() && !isCut) yield* Effect.ignore(steps.rest(row, answered.size))
          return yield* Effect.failCause(Cause.fromReasons<never>(exit.cause.reasons.filter(Cause.isInterruptReason)))
        }
        if (Exit.isFailure(exit)) yield* Effect.logError(`The program of run ${runId} failed`, exit.cause)
        const ended = Exit.map(exit, Option.getOrUndefined)
        const { data, end } = endOfExit(ended, { closing: false, maxEventBytes: settings.maxEventBytes })
        return yield* ends(row, end, data)
      })
    )
  })
}
