import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as RunWorkflow from "@sallyport/core/runs/RunWorkflow"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Activity from "effect/workflow/Activity"
import * as DurableClock from "effect/workflow/DurableClock"
import * as WorkflowEngine from "effect/workflow/WorkflowEngine"
import { eventually } from "../../../../test-support/programs.ts"

const logOn = (repository: Layer.Layer<RunEventRepository.RunEventRepository>) =>
  RunEventLog.layerWith({ heartbeatInterval: "50 millis", lease: "200 millis", maxTakeOvers: 3 }).pipe(
    Layer.provideMerge(repository),
    Layer.provide(NodeCrypto.layer),
    Layer.provideMerge(WorkflowEngine.layerMemory)
  )
const Log = logOn(RunEventRepository.layerMemory)
const owner = { subject: "ada" }
const request = (key: string): RunEventLog.ExecutedRunRequest => ({
  threadId: key,
  idempotencyKey: key,
  owner,
  request: { key }
})
const dataOf = (runId: string) =>
  Effect.flatMap(
    RunEventLog.RunEventLog,
    (log) =>
      Effect.flatMap(log.events({ runId }), (events) =>
        Stream.runCollect(events).pipe(Effect.map((all) => all.map(({ data }) => data))))
  )
const questionSeen = (runId: string) =>
  Effect.flatMap(
    RunEventLog.RunEventLog,
    (log) =>
      Effect.flatMap(log.events({ runId }), (events) =>
        Stream.runDrain(Stream.takeUntil(events, ({ data }) => Object(data).question !== undefined)))
  )

describe("a run of an engine", () => {
  it.live("RUN-21 RUN-20: steps are executed once, over rests for a sleep and a question", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const executed = yield* Ref.make<ReadonlyArray<string>>([])
      const note = (name: string) => Ref.update(executed, (all) => [...all, name])
      const program = RunWorkflow.layer(Effect.fnUntraced(function*({ input, run }) {
        yield* note("body")
        const sum = yield* run.step("add", Schema.Number, (append) =>
          Effect.gen(function*() {
            yield* note("add")
            yield* append({ adding: 1 })
            yield* append({ adding: 2 }, { adding: 3 })
            return 6
          }))
        yield* run.sleep("nap", "20 millis")
        const answer = yield* run.ask("enough?", null)
        const twice = yield* run.step("twice", Schema.Literal("done"), (append) =>
          Effect.gen(function*() {
            yield* append({ attempt: yield* Activity.CurrentAttempt })
            return (yield* Activity.CurrentAttempt) === 1 ? yield* Effect.fail("once more") : "done" as const
          }), { error: Schema.String }).pipe(Activity.retry({ times: 3 }))
        return { input, sum, answer, twice }
      }))
      yield* Effect.gen(function*() {
        const { created, run: { runId } } = yield* RunWorkflow.start(request("steps"))
        assert.isTrue(created)
        assert.deepStrictEqual((yield* RunWorkflow.start(request("steps"))).created, false)
        yield* questionSeen(runId)
        assert.strictEqual((yield* log.get({ runId })).status, "waiting")
        yield* log.answer({ runId, name: "enough?", value: "yes" })
        const second = yield* Effect.flip(log.answer({ runId, name: "enough?", value: "no" }))
        assert.strictEqual(second.reason._tag, "QuestionAnswered")
        assert.deepStrictEqual(yield* dataOf(runId), [
          { adding: 1 },
          { adding: 2 },
          { adding: 3 },
          { question: { name: "enough?", ask: null } },
          { answer: { name: "enough?", value: "yes" } },
          { attempt: 1 },
          { attempt: 2 },
          { status: "succeeded", result: { input: { key: "steps" }, sum: 6, answer: "yes", twice: "done" } }
        ])
        const all = yield* Ref.get(executed)
        assert.strictEqual(all.filter((name) => name === "add").length, 1)
        assert.isAtLeast(all.filter((name) => name === "body").length, 3)
      }).pipe(Effect.provide(program))
    }).pipe(Effect.provide(Log)))

  it.live("RUN-21: steps whose names begin alike keep their output apart", () => {
    const names = [["tool/1", false], ["tool", true], ["tool/1/1", false], ["tool 1", true], [
      "1.1 tool",
      false
    ]] as const
    return Effect.gen(function*() {
      const { run: { runId } } = yield* RunWorkflow.start(request("names"))
      assert.deepStrictEqual((yield* dataOf(runId)).slice(0, -1), names.map(([name]) => ({ name })))
    }).pipe(
      Effect.provide(RunWorkflow.layer(({ run }) =>
        Effect.forEach(
          names,
          ([name, deterministic]) => run.step(name, Schema.Void, (append) => append({ name }), { deterministic }),
          { discard: true }
        )
      )),
      Effect.provide(Log)
    )
  })

  it.live("RUN-20 RUN-21: a run that waits keeps its thread, is never reaped, and outlives many leases", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const { run: { runId } } = yield* RunWorkflow.start(request("waits"))
      yield* questionSeen(runId)
      for (let look = 0; look < 4; look++) {
        yield* Effect.sleep("150 millis")
        assert.deepStrictEqual(yield* log.reap({ limit: 10 }), [])
      }
      yield* Effect.all(
        Array.from({ length: 50 }, (_, value) => Effect.exit(log.answer({ runId, name: "enough?", value }))),
        { concurrency: "unbounded" }
      ).pipe(Effect.tap((all) => Effect.sync(() => assert.strictEqual(all.filter(Exit.isSuccess).length, 1))))
      const data = yield* dataOf(runId)
      assert.strictEqual(data.length, 3)
      assert.strictEqual(Object(data[2]).status, "succeeded")
      assert.deepStrictEqual(Object(data[2]).result, Object(data[1]).answer.value)
    }).pipe(Effect.provide(
      Layer.provideMerge(RunWorkflow.layer(({ run }) => run.ask("enough?", null)), Log)
    )))

  it.live("RUN-21: a step that waits for a clock of its own rests until that is over", () =>
    Effect.gen(function*() {
      const { run: { runId } } = yield* RunWorkflow.start(request("clock"))
      const lease = RunEventRepository.RunEventRepository.use((repository) =>
        Effect.map(repository.get(runId), (row) => {
          const { heartbeatAtMillis = 0, leaseExpiresAtMillis = 0 } = Option.getOrThrow(row)
          return Number(leaseExpiresAtMillis) - Number(heartbeatAtMillis)
        })
      )
      yield* eventually(lease, (millis) => millis > 60_000)
      assert.deepStrictEqual(yield* dataOf(runId), [{ status: "succeeded" }])
    }).pipe(Effect.provide(
      Layer.provideMerge(
        RunWorkflow.layer(({ run }) =>
          run.step("waits", Schema.Void, () =>
            DurableClock.sleep({ name: "inside", duration: "2 seconds", inMemoryThreshold: 0 }))
        ),
        Log
      )
    )))

  it.live("RUN-12 RUN-21: an abort ends a step, and a run that rests", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const waits = yield* Deferred.make<void>()
      const stopped = yield* Deferred.make<void>()
      const program = RunWorkflow.layer(Effect.fnUntraced(function*({ input, run }) {
        if (Object(input).key === "rests") return yield* run.ask("enough?", null)
        yield* run.step("long", Schema.Void, (append) =>
          Effect.andThen(
            append("began"),
            Effect.onInterrupt(
              Effect.andThen(Deferred.succeed(waits, undefined), Effect.never),
              () => Deferred.succeed(stopped, undefined)
            )
          ))
      }))
      yield* Effect.gen(function*() {
        const long = yield* RunWorkflow.start(request("long"))
        const seen = yield* Effect.forkChild(dataOf(long.run.runId))
        yield* Deferred.await(waits)
        yield* log.abort({ runId: long.run.runId, reason: "enough" })
        assert.deepStrictEqual(yield* Fiber.join(seen), ["began", { status: "aborted", reason: "enough" }])
        yield* Deferred.await(stopped)

        const rests = yield* RunWorkflow.start(request("rests"))
        yield* questionSeen(rests.run.runId)
        yield* log.abort({ runId: rests.run.runId })
        const refused = yield* Effect.flip(log.answer({ runId: rests.run.runId, name: "enough?", value: 1 }))
        assert.strictEqual(refused.reason._tag, "RunEnded")
        assert.strictEqual((yield* dataOf(rests.run.runId)).length, 2)
      }).pipe(Effect.provide(program))
    }).pipe(Effect.provide(Log)))

  it.live("RUN-21: a run that the engine never heard of is given to it", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const { run: { runId } } = yield* log.engine.start(request("forgotten"))
      assert.deepStrictEqual(yield* dataOf(runId), [{ status: "succeeded", result: { key: "forgotten" } }])
    }).pipe(Effect.provide(
      Layer.provideMerge(RunWorkflow.layer(({ input }) => Effect.succeed(input)), Log)
    )))

  it.live("RUN-21: a run that the engine refuses keeps no other waiting", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const refused = yield* log.engine.start(request("refused"))
      const others = yield* Effect.forEach(["one", "two", "three"], (key) => log.engine.start(request(key)))
      const engine = yield* WorkflowEngine.WorkflowEngine
      const refusing = WorkflowEngine.WorkflowEngine.of({
        ...engine,
        execute: (workflow, options) =>
          options.executionId === refused.run.runId
            ? Effect.die(new Error("The engine does not know this run"))
            : engine.execute(workflow, options)
      })
      yield* Effect.forEach(others, ({ run }) => dataOf(run.runId)).pipe(
        Effect.provide(RunWorkflow.layer(() => Effect.void)),
        Effect.provideService(WorkflowEngine.WorkflowEngine, refusing)
      )
      assert.strictEqual((yield* log.get({ runId: refused.run.runId })).status, "running")
    }).pipe(Effect.provide(Log)))

  it.live("RUN-21: a run goes on when the store is back, ends if the store refuses a step, and a start or an end later", () => {
    const operations: ReadonlyArray<"activate" | "append" | "finish"> = ["activate", "append", "finish"]
    const failures: Record<string, Array<RepositoryError["reason"]>> = {}
    const damaged = Layer.effect(
      RunEventRepository.RunEventRepository,
      RunEventRepository.RunEventRepository.useSync((repository) => {
        const failing = <A>(operation: string, effect: Effect.Effect<A, RepositoryError>) =>
          Effect.suspend(() => {
            const reason = failures[operation]?.pop()
            return reason === undefined
              ? effect
              : Effect.fail(new RepositoryError({ operation, reason, outcome: "unchanged", cause: new Error("no") }))
          })
        return RunEventRepository.RunEventRepository.of({
          ...repository,
          activate: (options) => failing("activate", repository.activate(options)),
          append: (options) => failing("append", repository.append(options)),
          finish: (options) => failing("finish", repository.finish(options))
        })
      })
    ).pipe(Layer.provide(RunEventRepository.layerMemory))
    const lines: Array<unknown> = []
    return Effect.gen(function*() {
      const endAfter = (key: string, reason: RepositoryError["reason"]) =>
        Effect.gen(function*() {
          for (const operation of operations) failures[operation] = [reason]
          const { run: { runId } } = yield* RunWorkflow.start(request(key))
          return { runId, data: yield* dataOf(runId) }
        })
      assert.deepStrictEqual((yield* endAfter("away", "Unavailable")).data, ["step", { status: "succeeded" }])
      assert.deepStrictEqual(lines, [])
      const { data, runId } = yield* endAfter("damaged", "Corrupt")
      assert.deepStrictEqual(data.map((one) => Object(one).reason), ["program_failed"])
      for (const what of ["begin to execute", "store the end of"]) {
        assert.lengthOf(
          lines.filter((line) => line === `Could not ${what} run ${runId}; it is tried again when its lease is over`),
          1
        )
      }
    }).pipe(
      Effect.provide(RunWorkflow.layer(({ run }) => run.step("step", Schema.Void, (append) => append("step")))),
      Effect.provide(logOn(damaged)),
      Effect.provide(Logger.layer([Logger.make(({ message }) => {
        if (Array.isArray(message)) lines.push(message[0])
      })]))
    )
  })

  it.live("RUN-20 RUN-21: a run that is answered before it rests is woken again if its first waking was lost", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const { run: { runId } } = yield* log.engine.start(request("early"))
      const woken = Effect.map(log.engine.wake({ limit: 10 }), Arr.map(({ answered }) => answered))
      yield* Effect.exit(log.engine.activate(
        runId,
        ({ ask }) =>
          Effect.gen(function*() {
            yield* ask("enough?", null)
            yield* log.answer({ runId, name: "enough?", value: 1 })
            assert.deepStrictEqual(yield* woken, [["enough?"]])
            return yield* Effect.interrupt
          }),
        () => true
      ))
      assert.deepStrictEqual(yield* eventually(woken, ({ length }) => length > 0), [["enough?"]])
    }).pipe(Effect.provide(Log)))

  it.live("RUN-21: a run that its engine puts aside within a step is looked at when its lease is over", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const { run: { runId } } = yield* log.engine.start(request("cut"))
      const woken = log.engine.wake({ limit: 10 })
      let isPutAside = true
      yield* Effect.exit(
        log.engine.activate(runId, ({ step }) => step(Effect.interrupt, () => false), () => isPutAside)
      )
      assert.lengthOf(yield* eventually(woken, ({ length }) => length > 0), 1)
      // One that waits for something rests, whatever steps it has done, lost or left.
      isPutAside = false
      yield* Effect.exit(log.engine.activate(runId, ({ step }) =>
        Effect.gen(function*() {
          const isWaiting = () => false
          yield* step(Effect.void, isWaiting)
          yield* Effect.exit(step(Effect.die("no"), isWaiting))
          yield* Effect.race(step(Effect.never, isWaiting), Effect.void)
          isPutAside = true
          return yield* step(Effect.interrupt, () => true)
        }), () => isPutAside))
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(yield* woken, [])
    }).pipe(Effect.provide(Log)))

  it.live("RUN-21: a step that an execution before this one gave writes for this one, however late", () =>
    Effect.gen(function*() {
      const opened = Effect.map(
        Layer.build(
          Layer.fresh(RunEventLog.layerWith({ heartbeatInterval: "50 millis", lease: "200 millis" })).pipe(
            Layer.provide(NodeCrypto.layer)
          )
        ),
        (context) => Context.get(context, RunEventLog.RunEventLog)
      )
      const [log, other] = [yield* opened, yield* opened]
      /** Executes a run, and leaves a step to later executions. */
      const leave = Effect.fnUntraced(function*(runId: string) {
        const given = yield* Deferred.make<RunWorkflow.StepAppend>()
        yield* Effect.exit(log.engine.activate(
          runId,
          ({ append }) =>
            Effect.andThen(
              Deferred.succeed(given, (...events) => Effect.asVoid(append("step/1/1", events))),
              Effect.interrupt
            ),
          () => false
        ))
        return yield* Deferred.await(given)
      })
      for (const begins of ["before", "after"] as const) {
        const { run: { runId } } = yield* log.engine.start(request(begins))
        const append = yield* leave(runId)
        // Another process has the run for a moment.
        yield* Effect.exit(other.engine.activate(runId, () => Effect.interrupt, () => false))
        const step = begins === "before"
          ? Fiber.join(yield* Effect.forkChild(append("hello"), { startImmediately: true }))
          : append("hello")
        yield* Effect.sleep("20 millis")
        assert.isTrue(yield* log.engine.activate(runId, () => step, () => false))
        const data = Effect.provideService(dataOf(runId), RunEventLog.RunEventLog, log)
        assert.deepStrictEqual(yield* data, ["hello", { status: "succeeded" }])
      }
    }).pipe(Effect.scoped, Effect.provide(RunEventRepository.layerMemory)))

  it.live("RUN-21 RUN-05: a step that was cut off repeats nothing, or says that it begins again", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const { run: { runId } } = yield* log.engine.start(request("cut"))
      const cut = (deterministic: boolean, events: ReadonlyArray<string>) =>
        log.engine.activate(runId, ({ append, run }) =>
          Effect.gen(function*() {
            for (const [nth, event] of events.entries()) {
              yield* append(deterministic ? `step/1/${nth}` : nth === 0 ? "other/1" : `other/1/${run.epoch}/${nth}`, [
                event
              ])
            }
            return yield* Effect.interrupt
          }), () => false)
      // Every process gets a little further with the same step.
      yield* Effect.exit(cut(true, ["a"]))
      yield* Effect.exit(cut(true, ["a", "b"]))
      // What a process still appends that was thought to have gone is refused, and it is told to let go.
      const old = yield* Effect.forkChild(
        log.engine.activate(
          runId,
          ({ append }) => Effect.andThen(Effect.sleep("100 millis"), append("step/1/9", ["late"])),
          () => false
        )
      )
      yield* Effect.sleep("20 millis")
      const ended = yield* log.engine.activate(
        runId,
        ({ append }) =>
          Effect.andThen(
            Effect.flatMap(append("step/1/0", ["a"]), (known) => Effect.sync(() => assert.isTrue(known))),
            Effect.andThen(append("step/1/2", ["c"]), Effect.sleep("150 millis"))
          ),
        () => false
      )
      assert.strictEqual(ended, true)
      // By then the run has ended, or another execution has it.
      assert.isBoolean(yield* Fiber.join(old))
      assert.deepStrictEqual(yield* dataOf(runId), ["a", "b", "c", { status: "succeeded" }])
    }).pipe(Effect.provide(Log)))
})
