/**
 * What the host does when a client starts a run.
 */
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import type { Session } from "@sallyport/core/access/Session"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * Describes a run that a client has started.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunProgramRequest {
  /** What the client sent, as JSON; the host decodes it. */
  readonly input: Schema.Json
  /** Writes the run's events. */
  readonly run: RunEventLog.RunWriter
  /** The session that started the run, as it was then. */
  readonly session: Session
}

/**
 * Provides the program that `POST /api/runs` executes. It runs apart from the request: it goes on when the client is gone,
 * and is interrupted when the run is aborted or the server stops. What it returns is the run's result; a failure ends the
 * run as failed, and is logged, not shown.
 *
 * @category services
 * @since 0.1.0
 */
export class RunProgram extends Context.Service<RunProgram, {
  readonly execute: (request: RunProgramRequest) => Effect.Effect<Schema.Json | void, unknown, Scope.Scope>
  /** Whether another process may go on with a run of this program. */
  readonly resumable: boolean
  /** For how long the program's `appendDelta` may hold deltas back to join them. */
  readonly joinDeltas?: Options["joinDeltas"]
}>()("@sallyport/http/RunProgram") {}

/**
 * Lists how a program writes. By default `appendDelta` joins nothing.
 *
 * @category options
 * @since 0.1.0
 */
export type Options = Pick<RunEventLog.ExecutedRunRequest, "joinDeltas">

/**
 * Provides a program, with the services that it needs taken from the layer's own context.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(
  execute: (request: RunProgramRequest) => Effect.Effect<Schema.Json | void, E, R>,
  options?: Options
): Layer.Layer<RunProgram, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    RunProgram,
    Effect.map(Effect.context<Exclude<R, Scope.Scope>>(), (context) =>
      RunProgram.of({
        resumable: false,
        joinDeltas: options?.joinDeltas,
        // What is left of R is the scope, or nothing; TypeScript doesn't work that out for an R that it doesn't know.
        execute: (request) =>
          Effect.provideContext(execute(request), context) as Effect.Effect<Schema.Json | void, E, Scope.Scope>
      }))
  )

/**
 * Provides a program that another process goes on with when the one that executes it has gone, and has this process go on
 * with the runs of others.
 *
 * **Details**
 *
 * The program is executed again, under the next epoch, with `run.history`, which is what it and those before it have appended.
 * What it has asked is answered at once, if it was answered. What a writer that was thought to have gone still appends is
 * refused. A step that has an effect outside of the log may be done twice: append that it is about to be done, and look.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerResumable = <E, R>(
  execute: (request: Omit<RunProgramRequest, "session">) => Effect.Effect<Schema.Json | void, E, R>,
  options?: Options
): Layer.Layer<RunProgram, never, RunEventLog.RunEventLog | Exclude<R, Scope.Scope>> =>
  Layer.merge(
    Layer.effect(RunProgram, Effect.map(RunProgram, (program) => ({ ...program, resumable: true }))).pipe(
      Layer.provide(layer(execute, options))
    ),
    Layer.orDie(RunEventLog.layerTakeOver(({ request, run }) => execute({ input: request, run }), options))
  )
