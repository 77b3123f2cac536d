/**
 * What the host does when a client starts a run.
 */
import * as Input from "@sallyport/core/Input"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunWorkflow from "@sallyport/core/runs/RunWorkflow"
import type { Session } from "@sallyport/core/access/Session"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as WorkflowEngine from "effect/workflow/WorkflowEngine"

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
  /** Starts a run that an engine of workflows executes. None if this process executes the program by `execute`. */
  readonly byEngine: Option.Option<
    (
      request: RunEventLog.ExecutedRunRequest
    ) => Effect.Effect<RunEventLog.StartedRun, RunEventLog.RunEventLogError>
  >
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

const program: Input.Rule = {
  is: Input.callable.is,
  expected: "a function that takes a request and returns an effect"
}

/** Throws if a host without a compiler gives no program: a run would be the first to find out. */
const demandProgram = (constructor: string, execute: unknown, options: Options = {}) => {
  Input.demand(constructor, { execute: Input.required(program) }, { execute })
  Input.demand(constructor, { joinDeltas: Input.any }, options)
}

/**
 * Provides a program, with the services that it needs taken from the layer's own context.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(
  execute: (request: RunProgramRequest) => Effect.Effect<Schema.Json | void, E, R>,
  options?: Options
): Layer.Layer<RunProgram, never, Exclude<R, Scope.Scope>> => {
  demandProgram("RunProgram.layer", execute, options)
  return Layer.effect(
    RunProgram,
    Effect.map(Effect.context<Exclude<R, Scope.Scope>>(), (context) =>
      RunProgram.of({
        resumable: false,
        byEngine: Option.none(),
        joinDeltas: options?.joinDeltas,
        // What is left of R is the scope, or nothing; TypeScript doesn't work that out for an R that it doesn't know.
        execute: (request) =>
          Effect.provideContext(execute(request), context) as Effect.Effect<Schema.Json | void, E, Scope.Scope>
      }))
  )
}

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
): Layer.Layer<RunProgram, never, RunEventLog.RunEventLog | Exclude<R, Scope.Scope>> => {
  demandProgram("RunProgram.layerResumable", execute, options)
  return Layer.merge(
    Layer.effect(RunProgram, Effect.map(RunProgram, (program) => ({ ...program, resumable: true }))).pipe(
      Layer.provide(layer(execute, options))
    ),
    Layer.orDie(RunEventLog.layerTakeOver(({ request, run }) => execute({ input: request, run }), options))
  )
}

/**
 * Provides a program that an engine of `effect/workflow` executes: on one node or on many, in steps whose results are kept.
 *
 * **Details**
 *
 * The run's id is the id of the execution. The program begins again from its beginning in whichever process the engine
 * chooses, and steps that are done answer at once; a run that waits for an answer or sleeps holds no process. Each step's
 * output stands in the log once. The engine is the host's: `WorkflowEngine.layerMemory` for tests, else
 * `ClusterWorkflowEngine.layer`.
 *
 * **Example** (A program in steps)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { RunEventLog, RunEventRepository } from "@sallyport/core"
 * import { RunProgram } from "@sallyport/http"
 * import { Console, Effect, Layer, Option, Schema, Stream } from "effect"
 * import { WorkflowEngine } from "effect/workflow"
 *
 * const Program = RunProgram.layerWorkflow(Effect.fnUntraced(function*({ input, run }) {
 *   const price = yield* run.step("price", Schema.Number, (append) => Effect.as(append({ looking: input }), 12))
 *   const answer = yield* run.ask("buy", { price })
 *   yield* run.sleep("think", "10 millis")
 *   return { price, answer }
 * }))
 *
 * const program = Effect.gen(function*() {
 *   const runs = yield* RunEventLog.RunEventLog
 *   const start = Option.getOrThrow((yield* RunProgram.RunProgram).byEngine)
 *   const { run } = yield* start({
 *     threadId: "thread-1",
 *     idempotencyKey: "request-1",
 *     owner: { subject: "ada" },
 *     request: "tea"
 *   })
 *   const events = yield* runs.events({ runId: run.runId })
 *   yield* Stream.runForEach(events, ({ data, seq }) =>
 *     Effect.andThen(
 *       Console.log(JSON.stringify(data)),
 *       Option.contains(seq, 2) ? runs.answer({ runId: run.runId, name: "buy", value: "yes" }) : Effect.void
 *     ))
 *   // => {"looking":"tea"}
 *   // => {"question":{"name":"buy","ask":{"price":12}}}
 *   // => {"answer":{"name":"buy","value":"yes"}}
 *   // => {"status":"succeeded","result":{"price":12,"answer":"yes"}}
 * })
 *
 * const Runs = Program.pipe(
 *   Layer.provideMerge(RunEventLog.layer),
 *   Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer, WorkflowEngine.layerMemory])
 * )
 *
 * Effect.runPromise(Effect.provide(program, Runs))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWorkflow = <E, R>(
  execute: (request: RunWorkflow.DurableRequest) => Effect.Effect<Schema.Json | void, E, R>
): Layer.Layer<
  RunProgram,
  never,
  RunEventLog.RunEventLog | WorkflowEngine.WorkflowEngine | Exclude<R, Scope.Scope>
> => {
  demandProgram("RunProgram.layerWorkflow", execute)
  return Layer.merge(
    Layer.effect(
      RunProgram,
      Effect.gen(function*() {
        const context = yield* Effect.context<RunEventLog.RunEventLog | WorkflowEngine.WorkflowEngine>()
        return {
          resumable: true,
          byEngine: Option.some((request) => Effect.provideContext(RunWorkflow.start(request), context)),
          execute: () => Effect.die(new Error("The engine executes this program"))
        }
      })
    ),
    RunWorkflow.layer(execute)
  )
}
