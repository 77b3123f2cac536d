/**
 * Runs that a test steps by hand, in place of the program that a host executes: what clients, pages and readers do while a
 * run goes on, waits, ends, or loses its writer.
 */
import type { Run } from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/**
 * Steps one run. Each step returns once it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export interface SteppedRun extends RunEventLog.RunWriter {
  /** What was asked for. */
  readonly input: Schema.Json
  /** Ends the run as `succeeded`, with a result if one is given, and returns it. */
  readonly succeed: (result?: Schema.Json) => Effect.Effect<Run, RunEventLog.RunEventLogError>
  /** Ends the run as `failed`, and returns it. The error is logged, not shown to clients. */
  readonly fail: (error: unknown) => Effect.Effect<Run, RunEventLog.RunEventLogError>
  /** Waits until the run has ended, by any caller, and returns it. */
  readonly ended: Effect.Effect<Run, RunEventLog.RunEventLogError>
  /**
   * Ends the lease of the writer, as if its process had been killed a lease ago. Returns when the run has ended as
   * `stale_run`, or has been taken over by the next writer, which `next` returns if {@link layerResumable} executes it. What
   * this writer still appends is refused.
   */
  readonly crash: Effect.Effect<void, RunEventLog.RunEventLogError | RepositoryError>
}

/**
 * Provides the runs that are to be stepped.
 *
 * @category services
 * @since 0.1.0
 */
export class SteppedRuns extends Context.Service<SteppedRuns, {
  /** Returns the next run that was started or taken over, or waits for one. Each is returned once. */
  readonly next: Effect.Effect<SteppedRun>
  /**
   * Starts a run without a client, or finds the one that was started with the same key. It is not among those that `next`
   * returns.
   */
  readonly start: (
    request: Omit<RunEventLog.ExecutedRunRequest, "resumable">
  ) => Effect.Effect<SteppedRun, RunEventLog.RunEventLogError>
}>()("@sallyport/testing/host/SteppedRuns") {}

type Program = (
  request: Pick<RunProgram.RunProgramRequest, "input" | "run">
) => Effect.Effect<Schema.Json | void, unknown>

const make = Effect.gen(function*() {
  const log = yield* RunEventLog.RunEventLog
  const repository = yield* RunEventRepository
  const waiting = yield* Queue.unbounded<SteppedRun>()
  const started = new Map<string, Deferred.Deferred<SteppedRun>>()

  const isLost = ({ epoch, runId }: Run) =>
    Effect.map(
      repository.get(runId),
      Option.match({ onNone: () => true, onSome: (row) => row.epoch !== epoch || row.completedAtMillis !== null })
    )

  const step = (
    { input, run: writer }: Parameters<Program>[0],
    done: Deferred.Deferred<Schema.Json | void, unknown>
  ) => {
    const { run } = writer
    const ended = log.events({ runId: run.runId, after: "latest" }).pipe(
      Effect.flatMap(Stream.runDrain),
      Effect.andThen(log.get({ runId: run.runId }))
    )
    return {
      ...writer,
      input,
      ended,
      succeed: (result) => Effect.andThen(Deferred.succeed(done, result), ended),
      fail: (error) => Effect.andThen(Deferred.fail(done, error), ended),
      // The heart of the writer may beat once more in between.
      crash: Effect.asVoid(Effect.repeat(
        repository.heartbeat({ runId: run.runId, epoch: run.epoch, leaseMillis: 0 }).pipe(
          Effect.andThen(log.reap({ limit: 100 })),
          Effect.andThen(isLost(run))
        ),
        { until: (lost) => lost, schedule: Schedule.spaced("10 millis") }
      ))
    } satisfies SteppedRun
  }

  const program = (take: (run: SteppedRun) => Effect.Effect<unknown>): Program =>
    Effect.fnUntraced(function*(request) {
      const done = yield* Deferred.make<Schema.Json | void, unknown>()
      yield* take(step(request, done))
      return yield* Deferred.await(done)
    })

  return {
    program: program((run) => Queue.offer(waiting, run)),
    service: SteppedRuns.of({
      next: Queue.take(waiting),
      start: Effect.fnUntraced(function*(request) {
        const own = yield* Deferred.make<SteppedRun>()
        const { run } = yield* log.execute(
          request,
          (writer) => program((run) => Deferred.succeed(own, run))({ input: request.request, run: writer })
        )
        const handle = started.get(run.runId) ?? own
        started.set(run.runId, handle)
        return yield* Deferred.await(handle)
      })
    })
  }
})

type Requirements = RunEventLog.RunEventLog | RunEventRepository

const layerOf = <R>(
  toProgram: (program: Program) => Layer.Layer<RunProgram.RunProgram, never, R>
): Layer.Layer<SteppedRuns | RunProgram.RunProgram, never, R | Requirements> =>
  Layer.unwrap(
    Effect.map(make, ({ program, service }) => Layer.merge(toProgram(program), Layer.succeed(SteppedRuns, service)))
  )

/**
 * Provides the runs, and the program that `POST /api/runs` executes: each run waits for the test's steps. A crash ends it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SteppedRuns | RunProgram.RunProgram, never, Requirements> = layerOf(RunProgram.layer)

/**
 * Does what {@link layer} does for a program that another process goes on with: after a crash the run is taken over, and
 * `next` returns it again, with what was appended as its `history`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerResumable: Layer.Layer<SteppedRuns | RunProgram.RunProgram, never, Requirements> = layerOf(
  RunProgram.layerResumable
)
