/**
 * Runs that an engine of `effect/workflow` executes: steps whose results are kept, questions and sleeps that hold no
 * process, and progress in the run's log, where each step's output stands once.
 *
 * The host chooses the engine: `WorkflowEngine.layerMemory` in tests, `ClusterWorkflowEngine.layer` on a `SingleRunner` in one
 * process, or on a cluster over SQL in many.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Activity from "effect/workflow/Activity"
import * as DurableClock from "effect/workflow/DurableClock"
import * as DurableDeferred from "effect/workflow/DurableDeferred"
import * as Workflow from "effect/workflow/Workflow"
import * as WorkflowEngine from "effect/workflow/WorkflowEngine"
import * as Input from "../Input.ts"
import * as Upkeep from "./internal/runUpkeep.ts"
import type { Run } from "./Run.ts"
import type * as RunEventRepository from "./RunEventRepository.ts"
import * as RunEventLog from "./RunEventLog.ts"

/**
 * Appends events of a run within one of its steps. Each call counts once, however often the step is executed.
 *
 * @category models
 * @since 0.1.0
 */
export type StepAppend = (
  ...events: readonly [Schema.Json, ...ReadonlyArray<Schema.Json>]
) => Effect.Effect<void, RunEventLog.RunEventLogError>

/**
 * Describes a step.
 *
 * @category models
 * @since 0.1.0
 */
export interface StepOptions<E> {
  /** Encodes what the step fails with, to be kept. Needed if it fails with an error of its own. */
  readonly error?: Schema.Codec<E, unknown> | undefined
  /**
   * Whether the step appends the same events each time, as one that calls a model does not. If it does, events that a process
   * stored before it died stay, and the others follow. Else all are appended again, after an event of the data
   * `{ restarted: name }`, at which readers drop what the step had appended. Default true.
   */
  readonly deterministic?: boolean | undefined
}

/**
 * Names the services that a step has from its engine.
 *
 * @category models
 * @since 0.1.0
 */
export type StepServices = Scope.Scope | WorkflowEngine.WorkflowEngine | WorkflowEngine.WorkflowInstance

/**
 * Describes a run to the program that an engine executes for it.
 *
 * **Gotchas**
 *
 * The program is executed from its beginning after each rest, and in another process if its own has gone. What it does
 * outside of steps must be the same each time: no clock, no chance, no reading of what changes. Names of steps, sleeps and
 * questions are unique in a run, and stay while runs of the program live.
 *
 * @category models
 * @since 0.1.0
 */
export interface DurableRun {
  readonly run: Run
  /**
   * Executes a step and keeps its result as `success` encodes it (`Schema.Void` for none), which later executions of the
   * program are given. A step that was cut off is executed again: what it does outside of the log may be done twice.
   * `Activity.retry` makes attempts after failures.
   */
  readonly step: <A, E, R>(
    name: string,
    success: Schema.Codec<A, unknown>,
    execute: (append: StepAppend) => Effect.Effect<A, E | RunEventLog.RunEventLogError, R>,
    options?: StepOptions<E>
  ) => Effect.Effect<A, E | RunEventLog.RunEventLogError, Exclude<R, StepServices>>
  /** Asks a question, and rests until it is answered: no process is needed meanwhile. */
  readonly ask: (name: string, ask: Schema.Json) => Effect.Effect<Schema.Json, RunEventLog.RunEventLogError>
  /** Rests for a time. */
  readonly sleep: (name: string, duration: Duration.Input) => Effect.Effect<void>
}

/**
 * Describes what a program is executed for.
 *
 * @category models
 * @since 0.1.0
 */
export interface DurableRequest {
  /** What was asked for when the run was started. */
  readonly input: Schema.Json
  readonly run: DurableRun
}

// The input stands in the run's row alone, so that it goes when the run does.
const Flow = Workflow.make("sallyport/Run", {
  payload: { runId: Schema.String },
  idempotencyKey: ({ runId }) => runId
})

// The value stands in the run's row as well. This only wakes the program.
const answered = (name: string) => DurableDeferred.make(`sallyport/answer/${name}`)

const execute = (engine: WorkflowEngine.WorkflowEngine["Service"], runId: string) =>
  engine.execute(Flow, { executionId: runId, payload: { runId }, discard: true })

const durable = Effect.fnUntraced(function*(activation: RunEventLog.Activation) {
  const engine = yield* WorkflowEngine.WorkflowEngine
  const instance = yield* WorkflowEngine.WorkflowInstance
  const { epoch } = activation.run
  const within = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.provideService(WorkflowEngine.WorkflowEngine, engine),
      Effect.provideService(WorkflowEngine.WorkflowInstance, instance)
    )
  const names = new Set<string>()
  let executions = 0

  const appender = (name: string, attempt: number, deterministic: boolean): StepAppend => {
    const execution = ++executions
    // The name is last, because it can have any form: what is before it ends at the first space.
    const keyOf = (...place: ReadonlyArray<number>) => `${[attempt, ...place].join("/")} ${name}`
    let ordinal = 0
    return (...events) =>
      Effect.suspend(() => {
        const nth = ++ordinal
        if (deterministic) return activation.append(keyOf(nth), events)
        const key = keyOf(epoch, execution, nth)
        if (nth > 1) return activation.append(key, events)
        // If the first append is known, an execution before this one was cut off.
        return Effect.flatMap(
          activation.append(keyOf(), events),
          (known) => known ? activation.append(key, [{ restarted: name }, ...events]) : Effect.succeed(false)
        )
      }).pipe(Effect.asVoid)
  }

  const run: DurableRun = {
    run: activation.run,
    step: <A, E, R>(
      name: string,
      success: Schema.Codec<A, unknown>,
      body: (append: StepAppend) => Effect.Effect<A, E | RunEventLog.RunEventLogError, R>,
      options?: StepOptions<E>
    ) =>
      Effect.gen(function*() {
        const attempt = yield* Activity.CurrentAttempt
        const place = `${name}/${attempt}`
        if (names.has(place)) return yield* Effect.die(new Error(`The run has two steps with the name ${name}`))
        names.add(place)
        let waits = false
        const activity = Activity.make({
          name,
          success,
          error: Schema.Union([options?.error ?? Schema.Never, RunEventLog.RunEventLogError]),
          execute: Effect.suspend(() => body(appender(name, attempt, options?.deterministic !== false))).pipe(
            Effect.tap(() => activation.comeForward),
            // A step that waits for a workflow or a clock of its own, which wakes the run.
            Effect.onInterrupt(() =>
              Effect.map(WorkflowEngine.WorkflowInstance, ({ suspended }) => {
                waits = suspended
              })
            )
          )
        })
        return yield* activation.step(within(activity), () => waits)
      }),
    ask: (name, ask) =>
      Effect.gen(function*() {
        while (true) {
          const answer = yield* activation.ask(name, ask)
          if (Option.isSome(answer)) return answer.value
          yield* within(DurableDeferred.await(answered(name)))
        }
      }),
    sleep: (name, duration) => within(DurableClock.sleep({ name, duration, inMemoryThreshold: 0 }))
  }
  return run
})

/**
 * Starts a run for the program that {@link layer} provides, or returns the one that has the same key.
 *
 * If the process stops before the engine has it, another one gives it to the engine when the run's lease is over.
 *
 * @category combinators
 * @since 0.1.0
 */
export const start = Effect.fn("RunWorkflow.start")(function*(request: RunEventLog.ExecutedRunRequest) {
  const log = yield* RunEventLog.RunEventLog
  const engine = yield* WorkflowEngine.WorkflowEngine
  const started = yield* log.engine.start(request)
  if (started.created && started.run.completedAt === null) {
    yield* Effect.catchCause(execute(engine, started.run.runId), (cause) =>
      Effect.logWarning(
        `Could not give run ${started.run.runId} to the engine; it is tried again when its lease is over`,
        cause
      ))
  }
  return started
})

/**
 * Executes a program for runs by the engine of workflows, in whichever of its processes, and sees to those that rest.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(
  program: (request: DurableRequest) => Effect.Effect<Schema.Json | void, E, R>
): Layer.Layer<
  never,
  never,
  RunEventLog.RunEventLog | WorkflowEngine.WorkflowEngine | Exclude<R, Scope.Scope>
> => {
  Input.demand("RunWorkflow.layer", { program: Input.required(Input.callable) }, { program })
  const registration = Layer.effectDiscard(Effect.gen(function*() {
    const log = yield* RunEventLog.RunEventLog
    const engine = yield* WorkflowEngine.WorkflowEngine
    const context = yield* Effect.context<Exclude<R, Scope.Scope>>()
    yield* engine.register(Flow, ({ runId }) =>
      Effect.gen(function*() {
        const instance = yield* WorkflowEngine.WorkflowInstance
        const ended = yield* log.engine.activate(
          runId,
          (activation) =>
            Effect.flatMap(durable(activation), (run) =>
              // What is left of R is the scope, or nothing; TypeScript doesn't work that out for an R that it doesn't know.
              Effect.scoped(
                Effect.provideContext(program({ input: activation.request, run }), context) as Effect.Effect<
                  Schema.Json | void,
                  E,
                  Scope.Scope
                >
              )),
          () => instance.suspended
        )
        if (!ended) return yield* Workflow.suspend(instance)
        // The step that met the end may have put the execution aside.
        instance.suspended = false
      }))
    yield* log.engine.onAbort((runId) => engine.interruptUnsafe(Flow, runId))
  }))
  const upkeep = Upkeep.layer(
    "runs to wake",
    undefined,
    100,
    {
      of: "engine of runs",
      begins: "Runs that wait for an answer, or for their engine, cannot be woken; they wait until it works again",
      ends: "Runs are woken again"
    },
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const engine = yield* WorkflowEngine.WorkflowEngine
      const wake = ({ answered: names, runId }: RunEventRepository.QuietRun) =>
        Effect.gen(function*() {
          yield* execute(engine, runId)
          yield* Effect.forEach(names, (name) =>
            engine.deferredDone(answered(name), {
              workflowName: Flow._tag,
              executionId: runId,
              deferredName: answered(name).name,
              exit: Exit.void
            }), { discard: true })
          yield* engine.resume(Flow, runId)
        })
      // One that the engine refuses keeps none of the others waiting.
      return Effect.fnUntraced(function*(limit: number) {
        const quiet = yield* log.engine.wake({ limit })
        const woken = yield* Effect.forEach(quiet, (run) => Effect.exit(wake(run)), { concurrency: 4 })
        yield* Option.getOrElse(Arr.findFirst(woken, Exit.isFailure), () => Exit.void)
        return quiet
      })
    })
  )
  return Layer.merge(registration, Layer.orDie(upkeep))
}
