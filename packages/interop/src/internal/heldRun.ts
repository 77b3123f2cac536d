import type { Run, RunEnd } from "@sallyport/core/runs/Run"
import type { AppendedEvents, RunEventLog, RunEventLogError, RunRequest } from "@sallyport/core/runs/RunEventLog"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"

/** A run of this process whose writer is a library that works with promises, instead of a program. */
export interface HeldRun {
  readonly run: Run
  readonly append: (events: ReadonlyArray<Schema.Json>) => Effect.Effect<AppendedEvents, RunEventLogError>
  /** Ends the run, and returns once that is durable. A run that another caller has ended is not changed. */
  readonly end: (end: RunEnd) => Effect.Effect<void, RunEventLogError>
}

/**
 * Starts a run and keeps its lease until its writer or another caller ends it. The run log ends it if the process stops
 * or dies. If the key was used before, the result is the run of that key, and nothing is held.
 */
export const holdRun = Effect.fnUntraced(function*(
  log: RunEventLog["Service"],
  request: RunRequest
): Effect.fn.Return<
  { readonly created: true; readonly held: HeldRun } | { readonly created: false; readonly run: Run },
  RunEventLogError
> {
  // Completed when the run is over for its writer, with the end that is still to be stored, if any.
  const over = yield* Deferred.make<RunEnd | undefined>()
  const finish = (run: Run, end: RunEnd) =>
    log.finish({ runId: run.runId, epoch: run.epoch, end }).pipe(
      Effect.asVoid,
      Effect.catchIf(({ reason }) => reason._tag === "RunEnded", () => Effect.void)
    )
  const { created, run } = yield* log.execute(
    request,
    ({ run }) => Effect.flatMap(Deferred.await(over), (end) => end === undefined ? Effect.void : finish(run, end))
  )
  if (!created) return { created, run }
  const { epoch, runId } = run
  return {
    created,
    held: {
      run,
      append: (events) => log.append({ runId, epoch, events }),
      end: (end) =>
        finish(run, end).pipe(
          Effect.onExit((exit) => Deferred.succeed(over, Exit.isSuccess(exit) ? undefined : end))
        )
    }
  }
})
