import { assert, describe, it } from "@effect/vitest"
import type * as Run from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

const owner: Run.RunOwner = { subject: "someone" }
const stranger: Run.RunOwner = { subject: "someone", org: "else" }

const request = (overrides?: Partial<RunEventLog.RunRequest>): RunEventLog.RunRequest => ({
  threadId: "thread",
  idempotencyKey: "key",
  request: { say: "hello" },
  owner,
  ...overrides
})

const crypto = Layer.mergeAll(Digest.layerWebCrypto, SecureRandom.layerWebCrypto)

const build = (options: RunEventLog.Options = {}, repository = RunEventRepository.layerMemory) =>
  RunEventLog.layerWith(options).pipe(
    Layer.provideMerge(Layer.fresh(repository)),
    Layer.provide(crypto),
    // Programs fail on purpose here, and their causes are logged.
    Layer.provideMerge(Logger.layer([]))
  )

const events = (options: RunEventLog.EventsOptions) =>
  Stream.unwrap(RunEventLog.RunEventLog.use((log) => log.events(options)))

const lastOf = (runId: string) => Effect.map(Stream.runCollect(events({ runId })), (all) => all[all.length - 1])

const reasonOf = <A, R>(effect: Effect.Effect<A, RunEventLog.RunEventLogError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** Puts something between the service and the repository in memory. */
const intercept = (
  change: (repository: RunEventRepository.RunEventRepository["Service"]) => Partial<
    RunEventRepository.RunEventRepository["Service"]
  >
) =>
  Layer.effect(
    RunEventRepository.RunEventRepository,
    Effect.map(
      RunEventRepository.RunEventRepository,
      (repository) => RunEventRepository.RunEventRepository.of({ ...repository, ...change(repository) })
    )
  ).pipe(Layer.provide(RunEventRepository.layerMemory))

/** A repository that notes how many items each commit has, says when the first begins, and holds all up at a gate. */
const heldUp = () => {
  const gate = Deferred.makeUnsafe<void>()
  const committing = Deferred.makeUnsafe<void>()
  const batches: Array<number> = []
  const repository = intercept((repository) => ({
    append: (options) => {
      batches.push(options.items.length)
      return Deferred.succeed(committing, undefined).pipe(
        Effect.andThen(Deferred.await(gate)),
        Effect.andThen(repository.append(options))
      )
    }
  }))
  return { batches, committing, gate, repository }
}

const broken = (operation: string, reason: RepositoryError["reason"] = "Unavailable") =>
  Effect.fail(
    new RepositoryError({
      operation,
      reason,
      outcome: "unchanged",
      cause: new Error("database is gone")
    })
  )

class Greeting extends Context.Service<Greeting, string>()("test/Greeting") {}

describe("a reader of more runs than can be named", () => {
  it.live("RUN-23 HTTP-04: has a cursor that fits into a header, with which it goes on, and comes to the others in time", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const runs = yield* Effect.forEach(
        Array.from({ length: 450 }, (_, index) => `${index}`),
        (key) => Effect.map(log.start(request({ threadId: key, idempotencyKey: key })), ({ run }) => run)
      )
      yield* log.append({ ...(runs[0] ?? (yield* Effect.die("no run"))), events: ["old"] })
      const { cursor, events } = yield* log.follow({ owner, after: "latest" })
      const append = (index: number, event: Schema.Json) =>
        Effect.flatMap(
          Effect.fromOption(Option.fromUndefinedOr(runs[index])),
          (run) => log.append({ ...run, events: [event] })
        )
      yield* append(3, "new")
      yield* append(440, "waits")
      yield* Effect.forEach(runs.slice(0, 60), (run) => log.finish({ ...run, end: { status: "succeeded" } }))
      const seen = yield* Stream.runCollect(
        Stream.takeUntil(events, (given) => given._tag === "Event" && given.event.data === "waits")
      )
      for (const { cursor } of seen) assert.isAtMost(cursor.length, 6_000)
      const data = seen.flatMap((given) => given._tag === "Event" ? [given.event.data] : [])
      assert.notInclude(data, "old")
      assert.include(data, "new")
      assert.isAtLeast(seen.filter(({ _tag }) => _tag === "Begun").length, 41)
      // It goes on at any place, also at the first.
      for (const after of [cursor, seen[30]?.cursor ?? ""]) {
        const again = yield* log.follow({ owner, after })
        yield* Stream.runDrain(
          Stream.takeUntil(again.events, (given) => given._tag === "Event" && given.event.data === "waits")
        )
      }
    }).pipe(Effect.provide(build())))
})

describe("RunEventLog", () => {
  describe("start", () => {
    it.effect("RUN-01: the same key returns the same run; another request or thread is a conflict", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const first = yield* log.start(request({ request: { a: 1, b: [{ x: "é", y: null }] } }))
        assert.isTrue(first.created)
        assert.strictEqual(first.run.owner.subject, "someone")
        const same = yield* log.start(request({ request: { b: [{ y: null, x: "é" }], a: 1 } }))
        assert.isFalse(same.created)
        assert.strictEqual(same.run.runId, first.run.runId)
        for (const other of [{ request: { a: 1 } }, { request: { a: 1, b: [{ x: "é", y: null }] }, threadId: "2" }]) {
          const reason = yield* reasonOf(log.start(request(other)))
          assert.strictEqual(reason._tag, "IdempotencyConflict")
        }
      }).pipe(Effect.provide(build())))

    it.effect("RUN-02: a second run of a thread is refused with the id of the running one", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const reason = yield* reasonOf(log.start(request({ idempotencyKey: "other" })))
        assert.deepStrictEqual(reason, new RunEventLog.ThreadBusy({ threadId: "thread", runId: run.runId }))
        yield* log.start(request({ idempotencyKey: "other", owner: stranger }))
      }).pipe(Effect.provide(build())))

    it.effect("RUN-02 L-84: a run whose process died does not keep its thread busy, also where no reaper runs", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        yield* log.append({ runId: run.runId, epoch: run.epoch, events: ["kept"] })
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* reasonOf(log.start(request({ idempotencyKey: "2" }))))._tag, "ThreadBusy")
        const reader = yield* Effect.forkChild(Stream.runCollect(events({ runId: run.runId })), {
          startImmediately: true
        })
        yield* TestClock.adjust("2 seconds")
        const next = yield* log.execute(request({ idempotencyKey: "2" }), () => Effect.never)
        assert.isTrue(next.created)
        const all = yield* Fiber.join(reader)
        assert.deepStrictEqual(all.map(({ kind }) => kind), ["data", "end"])
        assert.deepInclude(all[1]?.data, { status: "failed", reason: RunEventLog.staleRun })
        assert.strictEqual((yield* log.get({ runId: run.runId })).endReason, RunEventLog.staleRun)
        // The key of the one that died still answers with it, and executes nothing.
        assert.isFalse((yield* log.execute(request(), () => Effect.die("executed twice"))).created)
      }).pipe(Effect.provide(build())))

    it.effect("RUN-17: keeps what a host notes about continuations, for as long as the key answers", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const metadata = { attempted: ["first", "second"], autoContinue: { reason: "stale_run", count: 2 } }
        const { run } = yield* log.execute(request({ metadata }), () => Effect.fail("once more"))
        yield* lastOf(run.runId)
        const found = yield* log.getByKey({ idempotencyKey: run.idempotencyKey, owner })
        assert.deepStrictEqual(Option.getOrUndefined(found)?.metadata, metadata)
        assert.deepStrictEqual(
          Option.getOrUndefined(yield* log.activeForThread({ threadId: run.threadId, owner }))?.metadata,
          metadata
        )
        // What is asked again under the same key does not change it.
        const again = yield* log.start(request({ metadata: { attempted: [] } }))
        assert.deepStrictEqual(again.run.metadata, metadata)
      }).pipe(Effect.provide(build())))

    it.effect("refuses names and requests that cannot be stored", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const cycle: Record<string, Schema.Json> = {}
        cycle["self"] = cycle
        for (
          const [field, bad] of [
            ["threadId", { threadId: "" }],
            ["threadId", { threadId: "a\u0000b" }],
            ["threadId", { threadId: "x".repeat(256) }],
            ["idempotencyKey", { idempotencyKey: "" }],
            ["owner", { owner: { subject: "" } }],
            ["request", { request: cycle }]
          ] as const
        ) {
          const reason = yield* reasonOf(log.start(request(bad)))
          assert.strictEqual(reason._tag, "InvalidInput")
          if (reason._tag === "InvalidInput") assert.strictEqual(reason.field, field)
        }
      }).pipe(Effect.provide(build())))

    it.effect("L-81 RUN-13: settings out of order stop the layer, naming the two", () =>
      Effect.gen(function*() {
        for (
          const [options, option, what] of [
            [{ heartbeatInterval: "30 seconds" }, "heartbeatInterval", "shorter than lease"],
            [{ lease: "1 hour" }, "lease", "shorter than reconnectWindow"],
            [{ retention: "1 minute" }, "reconnectWindow", "shorter than retention"],
            [{ pageSize: 0 }, "pageSize", "a whole number from 1"]
          ] as const
        ) {
          const error = yield* Effect.flip(Layer.build(build(options)))
          assert.strictEqual(error._tag, "InvalidRunEventLogOptions")
          assert.include(error.problem, `${option} must be ${what}`)
        }
      }))
  })

  describe("execute", () => {
    it.effect("RUN-07 L-70: goes on after its caller is gone, with the caller's services and a scope of its own", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const go = yield* Deferred.make<void>()
        let closed = false
        const caller = yield* log.execute(request(), () =>
          Effect.gen(function*() {
            yield* Effect.addFinalizer(() => Effect.sync(() => (closed = true)))
            yield* Deferred.await(go)
            assert.isFalse(closed)
            return yield* Greeting
          })).pipe(
            Effect.provideService(Greeting, "hello"),
            Effect.forkChild
          )
        const { run } = yield* Fiber.join(caller)
        yield* Deferred.succeed(go, undefined)
        assert.deepStrictEqual((yield* lastOf(run.runId))?.data, { status: "succeeded", result: "hello" })
        assert.isTrue(closed)
      }).pipe(Effect.provide(build())))

    it.effect("RUN-07 L-70: a caller interrupted while the run is being stored leaves a run that is executed", () => {
      const storing = Deferred.makeUnsafe<void>()
      const stored = Deferred.makeUnsafe<void>()
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const caller = yield* Effect.forkChild(log.execute(request(), () => Effect.succeed("done")))
        yield* Deferred.await(storing)
        const interrupting = yield* Effect.forkChild(Fiber.interrupt(caller), { startImmediately: true })
        yield* Deferred.succeed(stored, undefined)
        yield* Fiber.join(interrupting)
        const again = yield* log.execute(request(), () => Effect.die("executed twice"))
        assert.isFalse(again.created)
        assert.deepStrictEqual((yield* lastOf(again.run.runId))?.data, { status: "succeeded", result: "done" })
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          start: (options) =>
            Deferred.succeed(storing, undefined).pipe(
              Effect.andThen(Deferred.await(stored)),
              Effect.andThen(repository.start(options))
            )
        }))
      )))
    })

    const ends: ReadonlyArray<readonly [string, Effect.Effect<Schema.Json | void, unknown>, Run.RunEnd]> = [
      ["nothing returned", Effect.void, { status: "succeeded" }],
      [
        "a failure",
        Effect.fail({ secret: "hunter2" }),
        { status: "failed", reason: "program_failed", error: { message: "The run failed" } }
      ],
      [
        "a defect",
        Effect.die(new Error("hunter2")),
        { status: "failed", reason: "program_failed", error: { message: "The run failed" } }
      ],
      [
        "its own interruption",
        Effect.interrupt,
        { status: "failed", reason: "interrupted", error: { message: "The run was interrupted" } }
      ],
      [
        "a result that is not JSON",
        Effect.sync(() => JSON.parse("{}")).pipe(Effect.map((value) => Object.assign(value, { n: 1n }))),
        {
          status: "failed",
          reason: "invalid_result",
          error: { message: "The run ended with a result that is not JSON" }
        }
      ]
    ]
    for (const [title, program, expected] of ends) {
      it.effect(`RUN-07 L-76: ends the run after ${title}`, () =>
        Effect.gen(function*() {
          const log = yield* RunEventLog.RunEventLog
          const { run } = yield* log.execute(request(), () => program)
          const end = yield* lastOf(run.runId)
          assert.strictEqual(end?.kind, "end")
          assert.deepStrictEqual(end?.data, expected)
          assert.strictEqual((yield* log.get({ runId: run.runId })).status, expected.status)
        }).pipe(Effect.provide(build())))
    }

    it.effect("RUN-07: interrupts programs when the service's scope closes, and stores their ends", () =>
      Effect.gen(function*() {
        const repository = yield* Layer.build(RunEventRepository.layerMemory)
        const scope = yield* Scope.make()
        const service = yield* RunEventLog.layer.pipe(
          Layer.provide([crypto, Layer.succeedContext(repository)]),
          Layer.buildWithScope(scope)
        )
        const log = Context.get(service, RunEventLog.RunEventLog)
        const working = yield* Deferred.make<void>()
        const { run } = yield* log.execute(
          request(),
          (writer) =>
            Effect.andThen(Deferred.succeed(working, undefined), Effect.never).pipe(
              Effect.onInterrupt(() => Effect.ignore(writer.append("last words")))
            )
        )
        yield* Deferred.await(working)
        yield* Scope.close(scope, Exit.void)
        const rows = Context.get(repository, RunEventRepository.RunEventRepository)
        const stored = yield* rows.read({ runId: run.runId, after: 0, limit: 10 })
        assert.deepStrictEqual(stored.map(({ kind }) => kind), ["data", "end"])
        assert.strictEqual(Option.getOrThrow(yield* rows.get(run.runId)).endReason, RunEventLog.serverShutdown)
        assert.strictEqual((yield* reasonOf(log.execute(request(), () => Effect.void)))._tag, "ShuttingDown")
        assert.strictEqual(
          (yield* reasonOf(log.append({ runId: run.runId, epoch: 1, events: [1] })))._tag,
          "ShuttingDown"
        )
      }))

    it.effect("RUN-05 RUN-07: keeps its lease by heartbeats, and stops when another has ended the run", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const repository = yield* RunEventRepository.RunEventRepository
        const interrupted = yield* Deferred.make<void>()
        const { run } = yield* log.execute(
          request(),
          () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
        )
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual(yield* log.reap({ limit: 10 }), [])
        // As another process does it: this service hears of it at the next heartbeat.
        yield* repository.abort({ runId: run.runId, ownerKey: undefined, reason: null, data: `{"status":"aborted"}` })
        yield* TestClock.adjust("10 seconds")
        yield* Deferred.await(interrupted)
        assert.strictEqual((yield* log.get({ runId: run.runId })).status, "aborted")
      }).pipe(Effect.provide(build())))

    it.effect("RUN-04 RUN-07: tries to store the end again while the store is away", () => {
      let failures = 2
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.execute(request(), () => Effect.succeed(1))
        const end = yield* Effect.forkChild(lastOf(run.runId), { startImmediately: true })
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual((yield* Fiber.join(end))?.data, { status: "succeeded", result: 1 })
        assert.strictEqual(failures, 0)
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          finish: (options) =>
            Effect.suspend(() => {
              if (failures === 0) return repository.finish(options)
              failures--
              return broken("finish")
            })
        }))
      )))
    })

    it.effect("RUN-04: tries once to store the end in a store that is damaged", () => {
      let attempts = 0
      const tried = Deferred.makeUnsafe<void>()
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        yield* log.execute(request(), () => Effect.succeed(1))
        yield* Deferred.await(tried)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(attempts, 1)
      }).pipe(Effect.provide(build(
        {},
        intercept(() => ({
          finish: () =>
            Effect.suspend(() => {
              attempts++
              return Effect.andThen(Deferred.succeed(tried, undefined), broken("finish", "Corrupt"))
            })
        }))
      )))
    })

    it.effect("RUN-02: a run that waits for its thread waits for a store that is away, and ends if the store is damaged", () => {
      const failures: Array<RepositoryError["reason"]> = ["Corrupt", "Unavailable"]
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        yield* log.execute(request(), () => Effect.never)
        const { run } = yield* log.execute(
          { ...request({ idempotencyKey: "next" }), whenBusy: "enqueue" },
          () => Effect.die("executed")
        )
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(failures, [])
        assert.strictEqual((yield* log.get({ runId: run.runId })).status, "failed")
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          takeTurn: (options) =>
            Effect.suspend(() => {
              const reason = failures.pop()
              return reason === undefined ? repository.takeTurn(options) : broken("takeTurn", reason)
            })
        }))
      )))
    })

    it.effect("RUN-12 L-79: a run aborted before it began, or while it was being stored, is not executed", () => {
      const storing = Deferred.makeUnsafe<string>()
      const stored = Deferred.makeUnsafe<void>()
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const early = yield* log.abort({ threadId: "early", idempotencyKey: "early", owner })
        assert.strictEqual(early._tag, "Registered")
        yield* Deferred.succeed(stored, undefined)
        const dead = yield* log.execute(
          request({ threadId: "early", idempotencyKey: "early" }),
          () => Effect.die("executed")
        )
        assert.strictEqual(dead.run.status, "aborted")
        assert.deepStrictEqual((yield* lastOf(dead.run.runId))?.data, {
          status: "aborted",
          reason: RunEventLog.abortedBeforeStart
        })
        const racing = yield* log.execute(request(), () => Effect.never)
        yield* log.abort({ threadId: "thread", idempotencyKey: "key", owner })
        assert.strictEqual((yield* log.get({ runId: racing.run.runId })).status, "aborted")
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          start: (options) =>
            Effect.tap(
              repository.start(options),
              () => Effect.andThen(Deferred.succeed(storing, options.runId), Deferred.await(stored))
            )
        }))
      )))
    })
  })

  describe("append", () => {
    it.effect("RUN-06 L-82: what is appended during a commit shares the next one, in order", () => {
      const { batches, committing, gate, repository } = heldUp()
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        const fork = (index: number) =>
          Effect.forkChild(log.append({ runId, epoch, events: [index] }), { startImmediately: true })
        const first = yield* fork(0)
        yield* Deferred.await(committing)
        const others = yield* Effect.forEach(Array.from({ length: 100 }, (_, index) => index + 1), fork)
        const appending = [first, ...others]
        yield* Deferred.succeed(gate, undefined)
        const appended = yield* Effect.forEach(appending, Fiber.join)
        assert.deepStrictEqual(appended.map(({ firstSeq }) => firstSeq), Array.from({ length: 101 }, (_, i) => i + 1))
        assert.deepStrictEqual(batches, [1, 50, 50])
      }).pipe(Effect.provide(build(
        {},
        repository
      )))
    })

    it.effect("RUN-06 L-84: events share commits of 16 MiB at most", () => {
      const { batches, committing, gate, repository } = heldUp()
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { epoch, runId } = (yield* log.start(request())).run
        const fork = (event: string | number) =>
          Effect.forkChild(log.append({ runId, epoch, events: [event] }), { startImmediately: true })
        const first = yield* fork(0)
        yield* Deferred.await(committing)
        const others = yield* Effect.forEach(Array.from({ length: 20 }, () => "x".repeat(1024 * 1024 - 2)), fork)
        yield* Deferred.succeed(gate, undefined)
        yield* Effect.forEach([first, ...others], Fiber.join)
        assert.deepStrictEqual(batches, [1, 16, 4])
      }).pipe(Effect.provide(build(
        { maxBatchEvents: 1000 },
        repository
      )))
    })

    it.effect("RUN-06 L-82: concurrent writers share a commit also where the store never suspends", () => {
      const batches: Array<number> = []
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const runs = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) => String(index)),
          (key) => log.start(request({ threadId: key, idempotencyKey: key }))
        )
        yield* Effect.forEach(
          runs,
          ({ run: { epoch, runId } }) =>
            Effect.forEach([1, 2, 3], (n) => log.append({ runId, epoch, events: [n] }), { discard: true }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(batches.reduce((sum, length) => sum + length, 0), 60)
        assert.isAtMost(batches.length, 6)
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          append: (options) => {
            batches.push(options.items.length)
            return repository.append(options)
          }
        }))
      )))
    })

    it.effect("RUN-06 L-83: a batch that the store fails to commit is an error to each of its callers", () => {
      let fail = true
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        const reasons = yield* Effect.all([1, 2, 3].map((n) => reasonOf(log.append({ runId, epoch, events: [n] }))), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(reasons.map((reason) => reason._tag), Array.from({ length: 3 }, () => "StorageFailure"))
        fail = false
        assert.deepStrictEqual(yield* log.append({ runId, epoch, events: ["ok"] }), { firstSeq: 1, lastSeq: 1 })
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          append: (options) => fail ? broken("append") : repository.append(options)
        }))
      )))
    })

    it.effect("RUN-15: limits are typed errors that store nothing", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        const limitOf = (events: ReadonlyArray<Schema.Json>) =>
          Effect.map(reasonOf(log.append({ runId, epoch, events })), (reason) =>
            reason._tag === "LimitExceeded" ? [reason.limit, reason.max] : reason._tag)
        // Three bytes each, and two for the quotes.
        const text = (length: number) =>
          "€".repeat(length)
        assert.deepStrictEqual(yield* limitOf([text(13)]), ["maxEventBytes", 40])
        assert.deepStrictEqual(yield* limitOf([1, 2, 3, 4, 5]), ["maxEvents", 4])
        assert.deepStrictEqual(yield* limitOf([text(10), text(10)]), ["maxRunBytes", 60])
        assert.deepStrictEqual(yield* limitOf([]), "InvalidInput")
        assert.strictEqual((yield* log.get({ runId })).lastSeq, 0)
        yield* log.append({ runId, epoch, events: [text(12), 1] })
        yield* log.finish({ runId, epoch, end: { status: "failed", reason: "x" } })
      }).pipe(Effect.provide(build({ maxEventBytes: 40, maxEvents: 4, maxRunBytes: 60 }))))

    it.effect("RUN-04 RUN-05 L-78: refuses ended runs, other epochs and unknown runs", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        assert.deepStrictEqual(
          yield* reasonOf(log.append({ runId, epoch: epoch + 1, events: [1] })),
          new RunEventLog.Fenced({ runId, epoch: epoch + 1, currentEpoch: epoch })
        )
        yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
        const ended = new RunEventLog.RunEnded({ runId, status: "succeeded" })
        assert.deepStrictEqual(yield* reasonOf(log.append({ runId, epoch, events: [1] })), ended)
        assert.deepStrictEqual(yield* reasonOf(log.finish({ runId, epoch, end: { status: "failed" } })), ended)
        assert.deepStrictEqual(yield* reasonOf(log.heartbeat({ runId, epoch })), ended)
        assert.strictEqual(
          (yield* reasonOf(log.append({ runId: "unknown", epoch, events: [1] })))._tag,
          "RunNotFound"
        )
      }).pipe(Effect.provide(build())))
  })

  describe("reading", () => {
    it.effect("RUN-11 L-75: a cursor that is no number of an event is refused before any event", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: [1, 2] })
        for (
          const cursor of [
            "",
            " 1",
            "-1",
            "+1",
            "1e3",
            "01",
            "1.0",
            "0x1",
            "NaN",
            "٣",
            "9007199254740992",
            -1,
            0.5,
            NaN
          ]
        ) {
          assert.deepStrictEqual(
            yield* reasonOf(log.events({ runId, after: cursor })),
            new RunEventLog.InvalidCursor({ cursor: String(cursor) })
          )
        }
        assert.deepStrictEqual(
          yield* reasonOf(log.events({ runId, after: "3" })),
          new RunEventLog.CursorBeyondEnd({ runId, cursor: 3, lastSeq: 2 })
        )
        for (const unknown of ["01980000-0000-7000-8000-000000000000", "nonsense", "a\u0000b"]) {
          assert.strictEqual((yield* reasonOf(log.events({ runId: unknown })))._tag, "RunNotFound")
        }
      }).pipe(Effect.provide(build())))

    it.effect("RUN-11 RUN-13: a cursor of a swept run has expired, and its key still answers for a time", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.execute(request(), () => Effect.void)
        yield* lastOf(run.runId)
        yield* TestClock.adjust("26 hours")
        assert.strictEqual((yield* reasonOf(log.events({ runId: run.runId })))._tag, "CursorExpired")
        assert.isFalse((yield* log.start(request())).created)
        yield* TestClock.adjust("8 days")
        assert.strictEqual((yield* reasonOf(log.get({ runId: run.runId })))._tag, "RunNotFound")
      }).pipe(Effect.provide(
        Layer.provideMerge(RunEventLog.layerSweeper({ interval: "1 hour" }), build({ pollInterval: "1 hour" }))
      )))

    it.effect("RUN-11 RUN-13: a reader that a sweep overtakes is told that its cursor has expired", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: [1, 2, 3, 4, 5] })
        yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
        yield* Effect.scoped(Effect.gen(function*() {
          const pull = yield* Stream.toPull(yield* log.events({ runId }))
          yield* pull
          yield* TestClock.adjust("25 hours")
          // SQL deletes row by row: the reader's next event is gone, and later ones are still there.
          yield* log.sweep({ limit: 3 })
          const error = yield* Effect.flip(pull)
          assert.isTrue(error._tag === "RunEventLogError" && error.reason._tag === "CursorExpired")
        }))
      }).pipe(Effect.provide(build(
        { pageSize: 2, pollInterval: "1 hour" },
        intercept((repository) => ({
          read: (options) =>
            Effect.flatMap(
              repository.get(options.runId),
              (row) =>
                Option.isSome(row) && row.value.expiredAtMillis === null
                  ? repository.read(options)
                  : Effect.map(repository.read({ ...options, after: 0 }), (rows) => rows.filter(({ seq }) => seq > 3))
            )
        }))
      ))))

    it.effect("RUN-18: another owner's run is not found, whatever is asked of it", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { runId } = run
        for (
          const attempt of [
            log.get({ runId, owner: stranger }),
            log.events({ runId, owner: stranger }),
            log.abort({ runId, owner: stranger })
          ]
        ) {
          assert.deepStrictEqual(yield* reasonOf<unknown, never>(attempt), new RunEventLog.RunNotFound({ runId }))
        }
        assert.isTrue(Option.isNone(yield* log.activeForThread({ threadId: "thread", owner: stranger })))
        assert.strictEqual(
          (yield* log.abort({ threadId: "thread", idempotencyKey: "key", owner: stranger }))._tag,
          "Registered"
        )
        assert.strictEqual((yield* log.get({ runId, owner })).status, "running")
      }).pipe(Effect.provide(build())))

    it.effect("RUN-09 L-73: a row that has ended without a terminal event still ends its readers, without a cursor", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: ["kept"] })
        const waiting = yield* Effect.forkChild(Stream.runCollect(events({ runId })), { startImmediately: true })
        yield* log.finish({ runId, epoch, end: { status: "failed", reason: "lost" } })
        for (const all of [yield* Stream.runCollect(events({ runId })), yield* Fiber.join(waiting)]) {
          assert.deepStrictEqual(all.map(({ data, kind, seq }) => [Option.getOrNull(seq), kind, data]), [
            [1, "data", "kept"],
            [null, "end", { status: "failed", reason: "lost" }]
          ])
        }
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          // A log whose terminal event was never written, beside a row that says that the run has ended.
          get: (runId) =>
            Effect.map(
              repository.get(runId),
              Option.map((row) => row.status === "running" ? row : { ...row, lastSeq: row.lastSeq - 1, endSeq: null })
            ),
          read: (options) => Effect.map(repository.read(options), (rows) => rows.filter((row) => row.kind !== "end"))
        }))
      ))))

    it.effect("L-76: a row that goes missing is an error to its readers, not an end", () => {
      let missing = false
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const reader = yield* Effect.forkChild(Stream.runCollect(events({ runId: run.runId })), {
          startImmediately: true
        })
        missing = true
        yield* TestClock.adjust("5 seconds")
        const error = yield* Effect.flip(Fiber.join(reader))
        assert.strictEqual(error.reason._tag, "RunNotFound")
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          get: (runId) => missing ? Effect.succeedNone : repository.get(runId),
          heads: (runIds) => missing ? Effect.succeed([]) : repository.heads(runIds)
        }))
      )))
    })

    it.effect("RUN-08 L-82: readers share what is read: their number costs the store nothing", () => {
      let reads = 0
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const repository = yield* RunEventRepository.RunEventRepository
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: ["before"] })
        const joined = yield* Effect.forEach(Array.from({ length: 100 }, () => 0), () => Deferred.make<void>())
        const readers = yield* Effect.forEach(joined, (deferred) =>
          events({ runId }).pipe(
            Stream.tap(() => Deferred.succeed(deferred, undefined)),
            Stream.runCollect,
            (reader) => Effect.forkChild(reader, { startImmediately: true })
          ))
        yield* Effect.forEach(joined, Deferred.await)
        reads = 0
        for (let n = 1; n <= 20; n++) yield* log.append({ runId, epoch, events: [n, -n] })
        assert.strictEqual(reads, 0)
        // As another process does it: the hint has one reader look, for all.
        yield* repository.append({
          items: [{ runId, epoch, events: ["true"], byteCount: 4 }],
          maxEvents: 1_000,
          maxBytes: 1_000
        })
        yield* log.append({ runId, epoch, events: ["after"] })
        yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
        for (const reader of readers) {
          assert.deepStrictEqual(
            (yield* Fiber.join(reader)).map(({ seq }) => Option.getOrUndefined(seq)),
            Array.from({ length: 44 }, (_, index) => index + 1)
          )
        }
        assert.isAtMost(reads, 5)
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          read: (options) => {
            reads++
            return repository.read(options)
          }
        }))
      )))
    })

    it.effect("RUN-08: what is kept in memory is bounded, and who falls behind it goes on from the store", () => {
      let largest = 0
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const started = yield* Effect.forEach(
          ["1", "2"],
          (key) => log.start(request({ idempotencyKey: key, threadId: key }))
        )
        yield* Effect.scoped(Effect.gen(function*() {
          const pulls = yield* Effect.forEach(
            started,
            ({ run: { runId } }) => Effect.flatMap(log.eventsEncoded({ runId }), Stream.toPull)
          )
          const seen = started.map((): Array<number> => [])
          const taking = (index: number) =>
            Effect.map(pulls[index] ?? Effect.die("no pull"), (page) => {
              largest = Math.max(largest, page.length)
              for (const event of page) seen[index]?.push(Option.getOrElse(event.seq, () => 0))
            })
          for (const { run: { epoch, runId } } of started) yield* log.append({ runId, epoch, events: ["first"] })
          for (const index of [0, 1]) yield* taking(index)
          // Forty times what a tail may hold, in both, before either reads again.
          const event = "x".repeat(100)
          for (let n = 0; n < 200; n++) {
            for (const { run: { epoch, runId } } of started) yield* log.append({ runId, epoch, events: [event, n] })
          }
          for (const { run: { epoch, runId } } of started) {
            yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
          }
          for (const index of [0, 1]) {
            while ((seen[index]?.length ?? 0) < 402) yield* taking(index)
            assert.deepStrictEqual(seen[index], Array.from({ length: 402 }, (_, n) => n + 1))
          }
          assert.isAtMost(largest, 4)
        }))
      }).pipe(Effect.provide(build({ pageSize: 4, maxTailBytes: 500 })))
    })

    it.effect("RUN-08: a reader is not given events past one that is missing, and is told that the log is damaged", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: [1, 2, 3] })
        yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
        const error = yield* Effect.flip(Stream.runDrain(events({ runId })))
        assert.strictEqual(error.reason._tag === "StorageFailure" && error.reason.cause.reason, "Corrupt")
        assert.isFalse(error.isRetryable)
      }).pipe(Effect.provide(build(
        {},
        intercept((repository) => ({
          read: (options) => Effect.map(repository.read(options), (rows) => rows.filter(({ seq }) => seq !== 2))
        }))
      ))))

    it.effect("RUN-08: a reader holds one page, and reads the next when its consumer asks for it", () => {
      let reads = 0
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: Array.from({ length: 100 }, (_, index) => index) })
        yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
        yield* Effect.scoped(Effect.gen(function*() {
          const pull = yield* Stream.toPull(yield* log.events({ runId }))
          assert.strictEqual((yield* pull).length, 10)
          assert.strictEqual((yield* pull).length, 10)
          assert.strictEqual(reads, 2)
        }))
      }).pipe(Effect.provide(build(
        { pageSize: 10 },
        intercept((repository) => ({
          read: (options) => {
            reads++
            return repository.read(options)
          }
        }))
      )))
    })
  })

  describe("getByKey", () => {
    it.effect("RUN-01 L-70: a caller that lost the answer to a start finds the run by its key, and no other caller does", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.execute(request(), () => Effect.void)
        const { idempotencyKey } = run
        const found = yield* log.getByKey({ idempotencyKey, owner })
        assert.strictEqual(Option.getOrUndefined(found)?.runId, run.runId)
        assert.isTrue(Option.isNone(yield* log.getByKey({ idempotencyKey, owner: stranger })))
        assert.isTrue(Option.isNone(yield* log.getByKey({ idempotencyKey: "another", owner })))
        const reason = yield* reasonOf(log.getByKey({ idempotencyKey: "", owner }))
        assert.strictEqual(reason._tag, "InvalidInput")
      }).pipe(Effect.provide(build())))

    it.effect("L-72: a failure of the store is an error, never none, and says whether it can pass", () => {
      const reasons: Array<RepositoryError["reason"]> = ["Corrupt", "Unavailable"]
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const failed = Effect.flip(log.getByKey({ idempotencyKey: "key", owner }))
        for (const isRetryable of [true, false]) {
          const error = yield* failed
          assert.strictEqual(error.reason._tag, "StorageFailure")
          assert.strictEqual(error.isRetryable, isRetryable)
          assert.include(error.message, "failed in getByKey")
        }
      }).pipe(
        Effect.provide(build({}, intercept(() => ({ getByKey: () => broken("getByKey", reasons.pop()) }))))
      )
    })
  })

  describe("activeForThread", () => {
    it.effect("RUN-10 L-71: a run is found for ten minutes after its end, however long it took, aborted ones too", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const active = log.activeForThread({ threadId: "thread", owner })
        assert.isTrue(Option.isNone(yield* active))
        const { run } = yield* log.execute(request(), () => Effect.never)
        yield* TestClock.adjust("2 hours")
        assert.strictEqual(Option.getOrUndefined(yield* active)?.status, "running")
        yield* log.abort({ runId: run.runId })
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual(Option.getOrUndefined(yield* active)?.runId, run.runId)
        yield* TestClock.adjust("1 millis")
        assert.isTrue(Option.isNone(yield* active))
      }).pipe(Effect.provide(build())))

    it.effect("RUN-10 L-72: a failure of the store is an error, never none", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const reason = yield* reasonOf(log.activeForThread({ threadId: "thread", owner }))
        assert.strictEqual(reason._tag, "StorageFailure")
      }).pipe(
        Effect.provide(build({}, intercept(() => ({ activeForThread: () => broken("activeForThread") }))))
      ))
  })

  describe("a clock that jumps", () => {
    /** A repository on a clock of its own, as that of a database is. */
    const skewed = (skew: { millis: number }) =>
      Layer.effect(
        RunEventRepository.RunEventRepository,
        Effect.flatMap(Clock.Clock, (clock) =>
          Effect.map(
            Layer.build(RunEventRepository.layerMemory),
            Context.get(RunEventRepository.RunEventRepository)
          ).pipe(
            Effect.provideService(
              Clock.Clock,
              Object.assign(Object.create(clock), {
                currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + skew.millis
              })
            )
          ))
      )

    it.effect("RUN-16 L-84: the database's clock jumps, or the machine sleeps: no live run is ended, and a dead one is", () => {
      const skew = { millis: 0 }
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const live = yield* log.execute(request(), () => Effect.never)
        const dead = yield* log.start(request({ threadId: "dead", idempotencyKey: "dead" }))
        yield* TestClock.adjust("15 seconds")
        skew.millis = 3_600_000
        // The reaper is first to see it, well before the next heartbeat; so is the caller that wants the thread.
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* reasonOf(log.start(request({ idempotencyKey: "2" }))))._tag, "ThreadBusy")
        assert.strictEqual((yield* log.get({ runId: live.run.runId })).status, "running")
        yield* TestClock.adjust("31 seconds")
        assert.strictEqual((yield* log.get({ runId: live.run.runId })).status, "running")
        assert.strictEqual((yield* log.get({ runId: dead.run.runId })).endReason, RunEventLog.staleRun)
        // Backwards: leases last longer for once.
        skew.millis = 0
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual((yield* log.get({ runId: live.run.runId })).status, "running")
      }).pipe(Effect.provide(Layer.provideMerge(RunEventLog.layerReaper(), build({}, skewed(skew)))))
    })

    it.effect("RUN-16: the server's clock jumps: leases do not follow it", () => {
      const skew = { millis: 0 }
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const clock = yield* Clock.Clock
        const live = yield* log.execute(request(), () => Effect.never)
        for (const millis of [3_600_000, -3_600_000, 86_400_000]) {
          const jumped = Object.assign(Object.create(clock), {
            currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + millis
          })
          assert.deepStrictEqual(yield* Effect.provideService(log.reap({ limit: 10 }), Clock.Clock, jumped), [])
          yield* TestClock.adjust("10 seconds")
        }
        assert.strictEqual((yield* log.get({ runId: live.run.runId })).status, "running")
      }).pipe(Effect.provide(build({}, skewed(skew))))
    })
  })

  describe("layerReaper", () => {
    it.effect("RUN-07 RUN-13 L-84: ends a run whose writer is gone soon after its lease, and survives a failure", () => {
      let failures = 1
      return Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request())
        const reader = yield* Effect.forkChild(lastOf(run.runId), { startImmediately: true })
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* log.get({ runId: run.runId })).status, "running")
        yield* TestClock.adjust("2 seconds")
        assert.deepInclude((yield* Fiber.join(reader))?.data, { status: "failed", reason: RunEventLog.staleRun })
        assert.strictEqual(failures, 0)
      }).pipe(Effect.provide(Layer.provideMerge(
        RunEventLog.layerReaper(),
        build(
          {},
          intercept((repository) => ({
            reap: (options) =>
              Effect.suspend(() => failures-- > 0 ? broken("reap") : repository.reap(options)).pipe(
                Effect.tap(() => Effect.sync(() => (failures = 0)))
              )
          }))
        )
      )))
    })
  })
})
