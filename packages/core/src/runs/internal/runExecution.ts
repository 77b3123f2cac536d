/**
 * Executes the programs of runs in this process: detached from the request, with a heart that keeps the lease, and with
 * an end that is stored whichever way the program ends.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Metrics from "../../Metrics.ts"
import * as Outage from "../../Outage.ts"
import { isEnded, type RunEnd } from "../Run.ts"
import type { FinishOutcome, HeartbeatOutcome, RunRow } from "../RunEventRepository.ts"
import { endOfExit } from "./runEnds.ts"
import type { RunEventLogError } from "./runErrors.ts"
import { WaitUntil } from "../WaitUntil.ts"
import type { Settings } from "./runOptions.ts"

interface Execution {
  fiber: Fiber.Fiber<void> | undefined
  interrupted: boolean
}

/** Describes what a program is executed for. */
export interface Started {
  readonly row: RunRow
  readonly created: boolean
}

/** Executes the runs of one process. */
export interface Executions {
  /** Tells whether the scope has begun to close, so that no further run is to begin. */
  readonly isClosing: () => boolean
  /** Tells whether this process executes a run. */
  readonly has: (runId: string) => boolean
  /**
   * Stores a run by `start`, and executes the program for it if it was created and is running. To be called without
   * interruption, so that a run that was stored is executed.
   */
  readonly execute: <E, R>(
    runId: string,
    start: Effect.Effect<Started, RunEventLogError>,
    program: (row: RunRow) => Effect.Effect<Schema.Json | void, E, R>,
    resumable: boolean
  ) => Effect.Effect<Started, RunEventLogError, Exclude<R, Scope.Scope>>
  /** Interrupts the program of a run, however early. */
  readonly interrupt: (runId: string) => Effect.Effect<void>
}

// How the database is given time to come back before the end of a run is left to the reaper.
export const patience = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

/** Tells of leases that cannot be extended. */
export const leases = Outage.make({
  of: "leases of runs",
  begins: "The leases of runs cannot be extended; runs end as stale if it lasts",
  ends: "The leases of runs are extended again"
})

/** Makes a place for executions. When the scope closes, programs are interrupted and their ends are stored. */
export const make = Effect.fnUntraced(function*(options: {
  readonly settings: Settings
  readonly heartbeat: (row: RunRow) => Effect.Effect<HeartbeatOutcome, RunEventLogError>
  /** Waits until a queued run has its thread; none if it is no longer this process's. */
  readonly turn: (row: RunRow) => Effect.Effect<Option.Option<RunRow>, RunEventLogError>
  /** Ends the lease of a resumable run, so that another process can go on with it. */
  readonly release: (row: RunRow) => Effect.Effect<HeartbeatOutcome, RunEventLogError>
  readonly finish: (row: RunRow, end: RunEnd, data: string) => Effect.Effect<FinishOutcome, RunEventLogError>
}): Effect.fn.Return<Executions, never, Scope.Scope> {
  const { settings } = options
  // Entries are made before the run is stored, so that an abort finds the execution however early it comes.
  const executions = new Map<string, Execution>()
  let closing = false

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closing = true
      return Fiber.interruptAll(
        Array.from(executions.values()).flatMap(({ fiber }) => fiber === undefined ? [] : [fiber])
      )
    })
  )

  const supervise = <E, R>(
    row: RunRow,
    program: (row: RunRow) => Effect.Effect<Schema.Json | void, E, R>,
    resumable: boolean
  ): Effect.Effect<void, never, Exclude<R, Scope.Scope>> => {
    const { runId } = row
    return Effect.withFiber((self) => {
      let lost = false
      const outage = leases()
      const beat = Effect.flatMap(Effect.tap(options.heartbeat(row), () => outage.worked), (outcome) => {
        if (outcome._tag === "Extended") return Effect.void
        lost = true
        return Effect.as(
          Effect.logDebug(`Run ${runId} is no longer this process's to execute: ${outcome._tag}`),
          // Not awaited: the heart beats on, in vain, while the program ends.
          self.interruptUnsafe()
        )
      })
      const heart = beat.pipe(
        Effect.catchCause(outage.failed),
        Effect.delay(settings.heartbeatInterval),
        Effect.repeat({ while: () => !lost }),
        Effect.ensuring(outage.left),
        Effect.withTracerEnabled(false)
      )
      return Effect.gen(function*() {
        const beating = yield* Effect.forkChild(heart)
        const exit = yield* Effect.exit(Effect.interruptible(Effect.gen(function*() {
          const running = row.status === "queued" ? yield* options.turn(row) : Option.some(row)
          if (Option.isSome(running)) return yield* Effect.scoped(Effect.suspend(() => program(running.value)))
          lost = true
        })))
        yield* Fiber.interrupt(beating)
        if (lost) return
        if (closing && resumable && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) {
          return yield* options.release(row).pipe(
            Effect.retry({ schedule: patience, times: 3, while: ({ isRetryable }) => isRetryable }),
            Effect.catchCause((cause) =>
              Effect.logWarning(
                `Could not let go of run ${runId}; another process takes it when its lease is over`,
                cause
              )
            )
          )
        }
        if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
          yield* Effect.logError(`The program of run ${runId} failed`, exit.cause)
        }
        const { data, end } = endOfExit(exit, { closing, maxEventBytes: settings.maxEventBytes })
        yield* options.finish(row, end, data).pipe(
          Effect.retry({
            schedule: patience,
            times: closing ? 3 : Math.ceil(settings.lease / 1000),
            while: ({ isRetryable }) => isRetryable
          }),
          Effect.catchCause((cause) =>
            Effect.logError(`Could not store the end of run ${runId}; it is left to the reaper`, cause)
          )
        )
      })
    })
  }

  return {
    isClosing: () => closing,
    has: (runId) => executions.has(runId),
    execute: Effect.fnUntraced(function*(runId, start, program, resumable) {
      const execution: Execution = { fiber: undefined, interrupted: false }
      executions.set(runId, execution)
      const started = yield* Effect.tapCause(start, () => Effect.sync(() => executions.delete(runId)))
      if (started.created && !isEnded(started.row.status)) {
        const executed = Effect.andThen(Metrics.runsExecuting(1, {}), supervise(started.row, program, resumable)).pipe(
          Effect.ensuring(Metrics.runsExecuting(-1, {}))
        )
        const fiber = yield* Effect.forkDetach(executed, { uninterruptible: true })
        execution.fiber = fiber
        fiber.addObserver(() => {
          if (executions.get(runId) === execution) executions.delete(runId)
        })
        const waitUntil = yield* WaitUntil
        waitUntil(new Promise((resolve) => fiber.addObserver(() => resolve())))
        // The run may have been aborted, or the scope may have begun to close, while the row was stored.
        if (closing || execution.interrupted) fiber.interruptUnsafe()
      } else executions.delete(runId)
      return started
    }),
    interrupt: (runId) =>
      Effect.sync(() => {
        const execution = executions.get(runId)
        if (execution === undefined) return
        execution.interrupted = true
        execution.fiber?.interruptUnsafe()
      })
  }
})
