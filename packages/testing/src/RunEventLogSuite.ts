/**
 * What `RunEventLog` must do on every `RunEventRepository`, by the real clock.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Run from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { times } from "./internal/newStore.ts"

const owner: Run.RunOwner = { subject: "someone" }

const request = (idempotencyKey: string, threadId = idempotencyKey): RunEventLog.RunRequest => ({
  threadId,
  idempotencyKey,
  request: { say: "hello" },
  owner
})

const events = (options: RunEventLog.EventsOptions) =>
  Stream.unwrap(RunEventLog.RunEventLog.use((log) => log.events(options)))

const seqs = (all: ReadonlyArray<Run.RunEvent>) => all.map((event) => Option.getOrUndefined(event.seq))

/**
 * Declares the suite for a repository. `layer` is built for each test and expected to be empty.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<RunEventRepository, E>): void => {
  const build = (options: RunEventLog.Options) =>
    RunEventLog.layerWith(options).pipe(
      Layer.provide(Layer.fresh(layer)),
      Layer.provide([Digest.layerWebCrypto, SecureRandom.layerWebCrypto])
    )

  describe(`RunEventLog (${name})`, () => {
    it.live("RUN-01 RUN-07 L-70: a program is executed once for a key, and readers get its events and its end", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        let executions = 0
        const program = (run: RunEventLog.RunWriter) =>
          Effect.gen(function*() {
            executions++
            assert.strictEqual(yield* run.append({ n: 1 }), 1)
            assert.deepStrictEqual(yield* run.appendAll([{ n: 2 }, { n: 3 }]), { firstSeq: 2, lastSeq: 3 })
            return { answer: 42 }
          })
        const started = yield* times(8, () => log.execute(request("key"), program))
        assert.strictEqual(started.filter((one) => one.created).length, 1)
        const [first] = started
        if (first === undefined) return
        const all = yield* Stream.runCollect(events({ runId: first.run.runId, owner }))
        assert.deepStrictEqual(all.map(({ data, kind }) => [kind, data]), [
          ["data", { n: 1 }],
          ["data", { n: 2 }],
          ["data", { n: 3 }],
          ["end", { status: "succeeded", result: { answer: 42 } }]
        ])
        assert.deepStrictEqual(seqs(all), [1, 2, 3, 4])
        assert.strictEqual((yield* log.execute(request("key"), program)).created, false)
        assert.strictEqual(executions, 1)
        assert.deepStrictEqual(seqs(yield* Stream.runCollect(events({ runId: first.run.runId, after: "2" }))), [3, 4])
        assert.deepStrictEqual(yield* Stream.runCollect(events({ runId: first.run.runId, after: 4 })), [])
      }).pipe(Effect.provide(build({}))))

    // Each reader cuts its stream at random places and continues at its cursor, while several writers append.
    it.live.prop(
      "RUN-03 RUN-08 L-83: nothing is lost, repeated or out of order between what is stored and what follows",
      [
        Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 }))).check(
          Schema.isMinLength(1),
          Schema.isMaxLength(6)
        ),
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 7 }))
      ],
      ([cuts, pageSize]) =>
        Effect.gen(function*() {
          const log = yield* RunEventLog.RunEventLog
          const { run } = yield* log.start(request("key"))
          const { epoch, runId } = run
          const reader = Effect.gen(function*() {
            const seen: Array<number | undefined> = []
            for (let round = 0;; round++) {
              const take = cuts[round % cuts.length] ?? 1
              const part = yield* events({ runId, after: seen.length }).pipe(Stream.take(take), Stream.runCollect)
              for (const event of part) seen.push(Option.getOrUndefined(event.seq))
              if (part.some((event) => event.kind === "end")) return seen
            }
          })
          const readers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(reader, { startImmediately: true }))
          yield* Effect.forEach(
            Array.from({ length: 30 }, (_, index) => index),
            (index) => log.append({ runId, epoch, events: index % 3 === 0 ? [index, index] : [index] }),
            { concurrency: 5 }
          )
          yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
          const expected = Array.from({ length: 41 }, (_, index) => index + 1)
          for (const fiber of readers) assert.deepStrictEqual(yield* Fiber.join(fiber), expected)
        }).pipe(Effect.provide(build({ pageSize }))),
      { arbitrary: { runs: 15 } }
    )

    it.live("RUN-12: an abort interrupts the program and ends its readers", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const interrupted = yield* Deferred.make<void>()
        const { run } = yield* log.execute(
          request("key"),
          (writer) =>
            Effect.andThen(writer.append("working"), Effect.never).pipe(
              Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
            )
        )
        const reader = yield* Effect.forkChild(Stream.runCollect(events({ runId: run.runId })))
        yield* events({ runId: run.runId }).pipe(Stream.take(1), Stream.runDrain)
        const outcome = yield* log.abort({ runId: run.runId, owner, reason: "stop" })
        assert.strictEqual(outcome._tag, "Aborted")
        yield* Deferred.await(interrupted)
        assert.deepStrictEqual((yield* Fiber.join(reader)).map(({ data }) => data), [
          "working",
          { status: "aborted", reason: "stop" }
        ])
      }).pipe(Effect.provide(build({}))))

    it.live("RUN-25: deltas of a text are joined for a while, in order with everything else, and none is lost", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const delta = (id: string, text: string) => ({ type: "text-delta", id, delta: text })
        const told = (
          key: string,
          program: (run: RunEventLog.RunWriter) => Effect.Effect<Schema.Json | void, unknown>
        ) =>
          Effect.gen(function*() {
            const { run } = yield* log.execute({ ...request(key), joinDeltas: "1 minute" }, program)
            const all = yield* Stream.runCollect(events({ runId: run.runId }))
            return all.map(({ data }) => data)
          })
        const words = (run: RunEventLog.RunWriter, id: string, ...texts: ReadonlyArray<string>) =>
          Effect.forEach(texts, (text) => run.appendDelta(delta(id, text)), { discard: true })
        const succeeded = { status: "succeeded" }

        // The end, a question, another event and another text come after what was joined.
        const mixed = yield* told("mixed", (run) =>
          Effect.gen(function*() {
            yield* words(run, "a", "Hel", "lo, ", "")
            yield* words(run, "b", "x", "y")
            yield* words(run, "a", "again")
            yield* run.appendDelta("no delta")
            yield* run.appendDelta({ delta: 1 })
            assert.strictEqual(yield* run.append("other"), 6)
            yield* words(run, "a", "1", "2")
            assert.deepStrictEqual(yield* run.appendAll(["p", "q"]), { firstSeq: 8, lastSeq: 9 })
            yield* words(run, "a", "3", "4")
            yield* Effect.forkChild(
              Effect.repeat(
                log.answer({ runId: run.run.runId, name: "go on?", value: true }),
                { until: () => true }
              ).pipe(Effect.retry(Schedule.spaced("5 millis")))
            )
            yield* run.ask("go on?", null)
            yield* words(run, "a", "5", "6")
          }))
        assert.deepStrictEqual(mixed, [
          delta("a", "Hello, "),
          delta("b", "xy"),
          delta("a", "again"),
          "no delta",
          { delta: 1 },
          "other",
          delta("a", "12"),
          "p",
          "q",
          delta("a", "34"),
          { question: { name: "go on?", ask: null } },
          { answer: { name: "go on?", value: true } },
          delta("a", "56"),
          succeeded
        ])

        // A program that fails, dies or interrupts itself keeps what it has written.
        for (const [index, end] of [Effect.fail("no"), Effect.die("no"), Effect.interrupt].entries()) {
          const kept = yield* told(`${index}`, (run) => Effect.andThen(words(run, "a", "1", "2"), end))
          assert.deepStrictEqual(kept[0], delta("a", "12"))
          assert.deepInclude(kept[1], { status: "failed" })
        }
        // What cannot be stored fails the run, and what is no event the call.
        assert.deepInclude((yield* told("full", (run) => words(run, "a", ..."x".repeat(2_000)))).at(-1), succeeded)
        const full = yield* told(
          "fuller",
          (run) =>
            Effect.forEach(Array.from({ length: 1_000 }), (_, index) => run.appendDelta(index), { discard: true })
        )
        assert.deepInclude(full.at(-1), { status: "failed" })
        yield* told("large", (run) =>
          Effect.gen(function*() {
            const refused = yield* Effect.flip(run.appendDelta("x".repeat(20_000)))
            assert.strictEqual(refused.reason._tag, "LimitExceeded")
          }))
        const long = yield* told(
          "long",
          (run) => words(run, "a", ...Array.from({ length: 40 }, () => "x".repeat(4_000)))
        )
        assert.isAbove(long.length, 3)
        assert.strictEqual(long.map((data) => Object(data).delta ?? "").join(""), "x".repeat(160_000))

        // Without the option a delta is an event, which is there when the call returns.
        const { run } = yield* log.execute(request("plain"), (run) => words(run, "a", "1", "2"))
        assert.deepStrictEqual(seqs(yield* Stream.runCollect(events({ runId: run.runId }))), [1, 2, 3])
        const endless = yield* Effect.flip(
          log.execute({ ...request("endless"), joinDeltas: Infinity }, () => Effect.void)
        )
        assert.strictEqual(endless.reason._tag, "InvalidInput")
      }).pipe(Effect.provide(build({ maxEventBytes: 10_000, maxEvents: 100, maxRunBytes: 1_000_000 }))))

    it.live("RUN-25: what is joined is stored when the window is over, and the next delta begins another event", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const stored = yield* Deferred.make<void>()
        const { run } = yield* log.execute(
          { ...request("key"), joinDeltas: "2 millis" },
          Effect.fnUntraced(function*(run) {
            for (const text of ["a", "b", "c"]) yield* run.appendDelta({ delta: text })
            yield* Deferred.await(stored)
            yield* run.appendDelta({ delta: "d" })
            yield* Effect.never
          })
        )
        const reading = Stream.map(events({ runId: run.runId }), ({ data }) => Object(data).delta)
        const seen = yield* reading.pipe(
          Stream.tap((text) => String(text).includes("c") ? Deferred.succeed(stored, undefined) : Effect.void),
          Stream.takeUntil((text) => text === "d"),
          Stream.runCollect
        )
        assert.strictEqual(seen.join(""), "abcd")
      }).pipe(Effect.provide(build({}))))

    it.live("RUN-22: runs that queue are executed one after another, and can be followed and aborted before", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const go = yield* Deferred.make<void>()
        const order: Array<string> = []
        const start = (key: string, program: Effect.Effect<void> = Effect.void) =>
          log.execute({ ...request(key, "thread"), whenBusy: "enqueue" }, (writer) =>
            Effect.gen(function*() {
              order.push(`${key} ${writer.run.status}`)
              yield* writer.append(key)
              yield* program
              order.push(key)
            }))
        const first = yield* start("a", Deferred.await(go))
        assert.strictEqual(first.run.status, "running")
        const [b, c, d] = [yield* start("b"), yield* start("c"), yield* start("d")]
        assert.deepStrictEqual(
          [b, c, d].map(({ created, run }) => [created, run.status]),
          [[true, "queued"], [true, "queued"], [true, "queued"]]
        )
        const busy = yield* Effect.flip(start("e"))
        assert.strictEqual(busy.reason._tag, "ThreadBusy")
        assert.strictEqual((yield* start("b")).created, false)
        const readers = yield* Effect.forEach(
          [b, c, d],
          ({ run }) =>
            Effect.forkChild(Stream.runCollect(events({ runId: run.runId, owner })), { startImmediately: true })
        )
        assert.strictEqual((yield* log.abort({ runId: c.run.runId, owner }))._tag, "Aborted")
        yield* Deferred.succeed(go, undefined)
        const told = yield* Effect.forEach(readers, (reader) => Fiber.join(reader))
        assert.deepStrictEqual(told.map((all) => all.map(({ data }) => data)), [
          ["b", { status: "succeeded" }],
          [{ status: "aborted" }],
          ["d", { status: "succeeded" }]
        ])
        assert.deepStrictEqual(order, ["a running", "a", "b running", "b", "d running", "d"])
      }).pipe(Effect.provide(build({ maxQueued: 3 }))))

    it.live("RUN-22: a run that interrupts ends the program of the one before, and reads as an abort", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const interrupted = yield* Deferred.make<void>()
        const first = yield* log.execute(
          request("a", "thread"),
          (writer) =>
            Effect.andThen(writer.append("working"), Effect.never).pipe(
              Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
            )
        )
        yield* events({ runId: first.run.runId }).pipe(Stream.take(1), Stream.runDrain)
        const second = yield* log.execute(
          { ...request("b", "thread"), whenBusy: "interrupt" },
          (writer) => writer.append("mine")
        )
        yield* Deferred.await(interrupted)
        const told = yield* Effect.forEach(
          [first, second],
          ({ run }) => Stream.runCollect(events({ runId: run.runId }))
        )
        assert.deepStrictEqual(told.map((all) => all.map(({ data }) => data)), [
          ["working", { status: "aborted", reason: RunEventLog.interruptedByRun }],
          ["mine", { status: "succeeded", result: 1 }]
        ])
      }).pipe(Effect.provide(build({}))))

    it.live("RUN-22 RUN-07: a run that interrupts ends what a process left behind as stale, and what can go on as aborted", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const left = yield* log.start(request("left", "left"))
        const resumable = yield* log.start({ ...request("resumable", "resumable"), resumable: true })
        yield* Effect.sleep("600 millis")
        const interrupt = (threadId: string) =>
          log.start({ ...request(`${threadId} next`, threadId), whenBusy: "interrupt" })
        for (const threadId of ["left", "resumable"]) assert.deepInclude(yield* interrupt(threadId), { created: true })
        const ends = yield* Effect.forEach(
          [left, resumable],
          ({ run }) => Effect.map(log.get({ runId: run.runId }), ({ endReason, status }) => [status, endReason])
        )
        assert.deepStrictEqual(ends, [
          ["failed", RunEventLog.staleRun],
          ["aborted", RunEventLog.interruptedByRun]
        ])
      }).pipe(Effect.provide(build({ heartbeatInterval: "100 millis", lease: "500 millis" }))))

    it.live("RUN-22 RUN-05: runs that wait behind a process that died get their turns", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const dead = yield* log.start(request("dead", "thread"))
        const next = yield* Effect.forEach(["b", "c"], (key) =>
          log.execute({ ...request(key, "thread"), whenBusy: "enqueue" }, () => Effect.succeed(key)))
        const told = yield* Effect.forEach([dead, ...next], ({ run }) =>
          Stream.runCollect(events({ runId: run.runId })))
        assert.deepStrictEqual(told.map((all) => Object(all.at(-1)?.data).status), ["failed", "succeeded", "succeeded"])
      }).pipe(Effect.provide(build({ heartbeatInterval: "100 millis", lease: "1 second" }))))

    it.live("BOOT-11 RUN-24 C-06: a text that no store could keep is refused, and the run goes on", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request("key"))
        const { epoch, runId } = run
        const refused = <A>(call: Effect.Effect<A, RunEventLog.RunEventLogError>) =>
          Effect.map(Effect.flip(call), ({ reason }) => assert.strictEqual(reason._tag, "InvalidInput"))
        for (const text of ["", "a\u0000b", "\ud800", "a\udc00b", "a\nb", "\u2028", "x".repeat(2 * 1024 * 1024)]) {
          yield* refused(log.abort({ runId, owner, reason: text }))
          yield* refused(log.abort({ threadId: "other", idempotencyKey: "other", owner, reason: text }))
          yield* refused(log.abort({ threadId: text, idempotencyKey: "other", owner }))
          yield* refused(log.abort({ threadId: "other", idempotencyKey: text, owner }))
          yield* refused(log.finish({ runId, epoch, end: { status: "failed", reason: text } }))
          yield* refused(log.start(request(text, "other")))
          yield* refused(log.start(request("other", text)))
          yield* refused(log.start({ ...request("other"), owner: { subject: text } }))
          yield* refused(log.start({ ...request("other"), owner: { subject: "someone", org: text } }))
          yield* refused(log.getByKey({ idempotencyKey: text, owner }))
          yield* refused(log.activeForThread({ threadId: text, owner }))
        }
        assert.strictEqual((yield* log.get({ runId })).status, "running")
        yield* log.append({ runId, epoch, events: [{ "a\u0000b": "\ud800" }] })
        const longest = "é".repeat(255)
        assert.strictEqual((yield* log.abort({ runId, owner, reason: longest }))._tag, "Aborted")
        assert.strictEqual((yield* log.get({ runId })).endReason, longest)
      }).pipe(Effect.provide(build({}))))

    it.live("RUN-24: the longest names that there can be are kept, found and kept apart", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        // At random, because PostgreSQL compresses what it indexes. In JSON a quote takes two bytes.
        const random = (chars: ReadonlyArray<string>, count: number) =>
          Array.from({ length: count }, () => chars[Math.floor(Math.random() * chars.length)]).join("")
        const wide = Array.from({ length: 5_000 }, (_, index) => String.fromCodePoint(0x20000 + index))
        const longest = (last: string) => random(wide, 85) + random(["\"", "\\"], 169) + last
        const owner = { subject: longest("s"), org: longest("o") }
        const threadId = random(wide, 127) + "t"
        const idempotencyKey = random(wide, 127) + "k"
        const names = { owner, threadId, idempotencyKey }
        const { run } = yield* log.start({ ...names, request: 1 })
        assert.isFalse((yield* log.start({ ...names, request: 1 })).created)
        const next = yield* log.execute(
          { ...names, idempotencyKey: `${idempotencyKey.slice(0, -1)}n`, request: 1, whenBusy: "enqueue" },
          () => Effect.void
        )
        assert.strictEqual(next.run.status, "queued")
        yield* log.finish({ runId: run.runId, epoch: run.epoch, end: { status: "succeeded" } })
        yield* Stream.runDrain(yield* log.events({ runId: next.run.runId, owner }))
        const listed = yield* log.list({ owner, threadId, status: "succeeded" })
        assert.deepStrictEqual(new Set(listed.map(({ runId }) => runId)), new Set([run.runId, next.run.runId]))
        const never = { ...names, idempotencyKey: `${idempotencyKey.slice(0, -1)}a` }
        assert.strictEqual((yield* log.abort(never))._tag, "Registered")
        assert.strictEqual((yield* log.start({ ...never, request: 1 })).run.status, "aborted")
        const asked = yield* log.start({ ...names, idempotencyKey: "asks", request: 1 })
        yield* log.finish({ ...asked.run, end: { status: "failed", reason: threadId } })
      }).pipe(Effect.provide(build({}))))

    it.live("RUN-05 RUN-07 L-84: a reader of a run whose process is gone gets one stale_run from the reaper", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.start(request("key"))
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: ["kept"] })
        // From now on: before, it could end the run while the event waits for a processor.
        yield* Layer.build(RunEventLog.layerReaper({ interval: "20 millis" }))
        const all = yield* Stream.runCollect(events({ runId }))
        assert.deepStrictEqual(all.map(({ kind }) => kind), ["data", "end"])
        assert.deepInclude(all[1]?.data, { status: "failed", reason: RunEventLog.staleRun })
        const refused = yield* Effect.flip(log.append({ runId, epoch, events: ["zombie"] }))
        assert.strictEqual(refused.reason._tag, "RunEnded")
        assert.strictEqual((yield* log.get({ runId })).epoch, epoch + 1)
      }).pipe(Effect.provide(build({ heartbeatInterval: "50 millis", lease: "100 millis" }))))

    /** Makes two services on one repository, which are two processes as far as wake-ups go. Closing one shuts it down. */
    const twoWith = (options: RunEventLog.Options) =>
      Effect.gen(function*() {
        const repository = yield* Layer.build(Layer.fresh(layer))
        const crypto = Layer.mergeAll(
          Digest.layerWebCrypto,
          SecureRandom.layerWebCrypto,
          Layer.succeedContext(repository)
        )
        const service = Effect.gen(function*() {
          const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
          const log = Layer.fresh(
            Layer.provide(RunEventLog.layerWith({ pollInterval: "20 millis", ...options }), crypto)
          )
          const context = yield* Scope.provide(Layer.build(log), scope)
          return { log: Context.get(context, RunEventLog.RunEventLog), close: Scope.close(scope, Exit.void) }
        })
        return [yield* service, yield* service] as const
      })
    const two = Effect.map(twoWith({}), ([one, other]) => [one.log, other.log] as const)

    type FollowedSeen = ReadonlyArray<RunEventLog.Followed>
    const isLast = (one: RunEventLog.Followed) =>
      one._tag === "Event" && one.event.kind === "end" && Object(one.event.data).result === "last"
    /**
     * Follows runs until so many have ended with the result `last`, from node to node, and stops after as many as the cuts
     * say.
     */
    const followed = (
      logs: ReadonlyArray<RunEventLog.RunEventLog["Service"]>,
      options: RunEventLog.FollowOptions & { readonly cuts: ReadonlyArray<number>; readonly lasts: number }
    ): Effect.Effect<FollowedSeen, RunEventLog.RunEventLogError> =>
      Effect.gen(function*() {
        const seen: Array<RunEventLog.Followed> = []
        const { cuts, lasts, owner, threadId } = options
        let after = options.after
        for (let round = 0; seen.filter(isLast).length < lasts; round++) {
          const log = logs[round % logs.length]
          if (log === undefined) break
          const { cursor, events } = yield* log.follow({ owner, threadId, after })
          after = cursor
          // What comes in one page with the last that is taken is lost, as on a connection that is cut.
          let left = lasts - seen.filter(isLast).length
          const part = yield* events.pipe(
            Stream.take(cuts[round % cuts.length] ?? 1),
            Stream.takeUntil((one) => isLast(one) && --left === 0),
            Stream.runCollect
          )
          seen.push(...part)
          after = part.at(-1)?.cursor ?? after
        }
        return seen
      })
    const ofRun = (seen: FollowedSeen, runId: string) =>
      seen.flatMap((one) => (one._tag === "Begun" ? one.run.runId : one.event.runId) === runId ? [one] : [])
    const seqOf = (one: RunEventLog.Followed) => one._tag === "Begun" ? "begun" : Option.getOrUndefined(one.event.seq)

    const Step = Schema.Struct({
      thread: Schema.Literals(["a", "b"]),
      does: Schema.Literals(["start", "interrupt", "enqueue", "append", "end", "abort"]),
      node: Schema.Literals([0, 1])
    })
    it.live.prop(
      "RUN-23 RUN-08 L-83: one cursor follows a thread, or all of an owner's runs, whatever starts, ends and cuts between",
      [
        Schema.Array(Step).check(Schema.isMinLength(10), Schema.isMaxLength(40)),
        Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 }))).check(
          Schema.isMinLength(1),
          Schema.isMaxLength(6)
        ),
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 7 }))
      ],
      ([steps, cuts, pageSize]) =>
        Effect.gen(function*() {
          const logs = (yield* twoWith({ pageSize, heartbeatInterval: "50 millis" })).map(({ log }) => log)
          const [one] = logs
          if (one === undefined) return
          for (const threadId of ["a", "b"]) {
            yield* one.execute(
              request(`first ${threadId}`, threadId),
              (run) => Effect.asVoid(run.appendAll([1, 2, 3]))
            )
            const { run } = yield* one.start({ ...request(threadId), owner: { subject: "stranger" } })
            yield* one.append({ ...run, events: ["not theirs"] })
          }
          const readers = yield* Effect.forEach([undefined, "a", "b", undefined], (threadId, index) =>
            Effect.map(
              Effect.forkChild(
                followed(index < 3 ? logs : [one], {
                  owner,
                  threadId,
                  cuts: index < 3 ? cuts : [1_000],
                  lasts: threadId === undefined ? 2 : 1
                }),
                { startImmediately: true }
              ),
              (fiber) => ({ threadId, fiber })
            ))
          for (const [index, { does, node, thread }] of steps.entries()) {
            const log = logs[node] ?? one
            const active = Option.getOrUndefined(yield* log.activeForThread({ owner, threadId: thread }))
            const ignored = <A>(call: Effect.Effect<A, RunEventLog.RunEventLogError>) => Effect.ignore(call)
            if (does === "enqueue") {
              yield* ignored(log.execute(
                { ...request(`${index}`, thread), whenBusy: "enqueue" },
                (run) =>
                  Effect.ignore(Effect.andThen(run.append(index), Effect.andThen(Effect.yieldNow, run.append(index))))
              ))
            } else if (does === "start" || does === "interrupt") {
              const whenBusy = does === "start" ? "reject" : "interrupt"
              yield* ignored(log.start({ ...request(`${index}`, thread), whenBusy }))
            } else if (active === undefined) continue
            else if (does === "append") yield* ignored(log.append({ ...active, events: [index, index] }))
            else if (does === "end") yield* ignored(log.finish({ ...active, end: { status: "succeeded" } }))
            else yield* ignored(log.abort({ runId: active.runId }))
          }
          for (const threadId of ["a", "b"]) {
            for (const status of ["queued", "running"] as const) {
              for (const { runId } of yield* one.list({ owner, threadId, status })) yield* one.abort({ runId })
            }
            const { run } = yield* one.start({ ...request(`last ${threadId}`, threadId), whenBusy: "interrupt" })
            yield* one.finish({ ...run, end: { status: "succeeded", result: "last" } })
          }
          for (const { fiber, threadId } of readers) {
            const seen = yield* Fiber.join(fiber)
            const runs = yield* one.list({ owner, threadId })
            assert.strictEqual(new Set(seen.map(({ cursor }) => cursor)).size, seen.length)
            assert.strictEqual(seen.filter(({ _tag }) => _tag === "Begun").length, runs.length)
            const firsts: Array<{ readonly run: Run.Run; readonly at: number; readonly atMillis: number }> = []
            for (const run of runs) {
              const stored = yield* Stream.runCollect(Stream.unwrap(one.events(run)))
              const given = ofRun(seen, run.runId)
              assert.deepStrictEqual(given.map(seqOf), ["begun", ...seqs(stored)], run.idempotencyKey)
              const first = seen.findIndex((one) => one._tag === "Event" && one.event.runId === run.runId)
              firsts.push({ run, at: first, atMillis: stored[0]?.atMillis ?? 0 })
            }
            for (const { at, atMillis, run } of firsts) {
              for (const other of runs) {
                const end = seen.findLastIndex((one) => one._tag === "Event" && one.event.runId === other.runId)
                const endedAt = other.completedAt?.epochMilliseconds ?? Infinity
                // One that interrupts overtakes those that wait.
                const isBefore = other.startedAt.epochMilliseconds < run.startedAt.epochMilliseconds
                if (other.threadId === run.threadId && isBefore && endedAt < atMillis) assert.isBelow(end, at)
              }
            }
          }
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 6 } }
    )

    it.live("RUN-23 RUN-25: a reader of many runs may begin with what comes next, and its answer says where that is", () =>
      Effect.gen(function*() {
        const [log, other] = yield* two
        const a = yield* log.start(request("a"))
        const b = yield* log.start(request("b"))
        const ended = yield* log.start(request("ended"))
        yield* log.append({ ...a.run, events: [1, 2] })
        yield* log.finish({ ...ended.run, end: { status: "succeeded" } })
        const latest = yield* other.follow({ owner, after: "latest" })
        const thread = yield* other.follow({ owner, threadId: "a", after: "latest" })
        yield* log.append({ ...a.run, events: [3] })
        yield* log.finish({ ...b.run, end: { status: "succeeded" } })
        const c = yield* log.start(request("c"))
        yield* log.finish({ ...c.run, end: { status: "succeeded", result: "last" } })
        const seen = yield* Stream.runCollect(Stream.takeUntil(latest.events, isLast))
        const again = yield* followed([log], { owner, after: latest.cursor, cuts: [1], lasts: 1 })
        for (const given of [seen, again]) {
          assert.deepStrictEqual(ofRun(given, a.run.runId).map(seqOf), [3])
          assert.deepStrictEqual(ofRun(given, b.run.runId).map(seqOf), [1])
          assert.deepStrictEqual(ofRun(given, c.run.runId).map(seqOf), ["begun", 1])
          assert.strictEqual(given.length, 4)
        }
        const ofThread = yield* thread.events.pipe(Stream.take(1), Stream.runCollect)
        assert.deepStrictEqual(ofThread.map(seqOf), [3])
      }).pipe(Effect.scoped))

    it.live("RUN-23 RUN-11 RUN-18: each kind of bad cursor of many runs has its own answer, and so has a thread without runs", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const why = (options: Partial<RunEventLog.FollowOptions>) =>
          Effect.map(Effect.flip(log.follow({ owner, ...options })), ({ reason }) => reason._tag)
        const { run } = yield* log.start(request("a"))
        yield* log.append({ ...run, events: [1, 2] })
        const cursors = { owner: "", thread: "" }
        for (const kind of ["owner", "thread"] as const) {
          const { events } = yield* log.follow(kind === "owner" ? { owner } : { owner, threadId: "a" })
          const seen = yield* events.pipe(Stream.take(2), Stream.runCollect)
          cursors[kind] = seen.at(-1)?.cursor ?? ""
          // What is not a whole cursor is none.
          for (const cut of [`${cursors[kind]}-`, `${cursors[kind]}.1`, cursors[kind].replace("-", "--")]) {
            assert.strictEqual(yield* why({ after: cut }), "InvalidCursor")
          }
        }
        assert.strictEqual(yield* why({ after: cursors.thread }), "InvalidCursor")
        assert.strictEqual(yield* why({ threadId: "a", after: cursors.owner }), "InvalidCursor")
        for (
          const after of [
            "",
            "-1",
            "1e3",
            "1",
            "x",
            "o",
            "o-1.1",
            "o1-2.1",
            "oz-1.1-1.1",
            "ozzzzzzzzzzz",
            "o1 ",
            "O1",
            "\u0000"
          ]
        ) {
          assert.strictEqual(yield* why({ after }), "InvalidCursor", after)
        }
        assert.strictEqual(yield* why({ after: "ozzzzzzzzz" }), "CursorBeyondEnd")
        assert.strictEqual(yield* why({ after: cursors.owner.replace(/\..*/, ".3") }), "CursorBeyondEnd")
        assert.strictEqual(yield* why({ threadId: "none" }), "ThreadNotFound")
        assert.strictEqual(yield* why({ threadId: "a", owner: { subject: "stranger" } }), "ThreadNotFound")
        assert.strictEqual(yield* why({ threadId: "" }), "InvalidInput")
        // An empty list of runs is none that is missing: it waits for the first.
        const stranger = yield* log.follow({ owner: { subject: "stranger" } })
        assert.strictEqual(stranger.cursor, "o0")

        yield* log.finish({ ...run, end: { status: "succeeded" } })
        yield* Effect.sleep("5 millis")
        const swept = Effect.repeat(log.sweep({ limit: 100 }), { until: ({ events }) => events > 0 })
        yield* swept
        assert.strictEqual(yield* why({ after: cursors.owner }), "CursorExpired")
        assert.strictEqual(yield* why({ threadId: "a", after: cursors.thread }), "CursorExpired")
        // What no reader has begun with is left out.
        const next = yield* log.start(request("b", "a"))
        const { events } = yield* log.follow({ owner, threadId: "a" })
        const [begun] = yield* events.pipe(Stream.take(1), Stream.runCollect)
        assert.strictEqual(begun?._tag === "Begun" ? begun.run.runId : "", next.run.runId)
      }).pipe(Effect.provide(build({
        heartbeatInterval: "1 millis",
        lease: "2 millis",
        reconnectWindow: "3 millis",
        retention: "4 millis"
      }))))

    it.live("RUN-25 RUN-03 RUN-08: a run that has ended is compacted once, and its readers go on whole or are told", () =>
      Effect.gen(function*() {
        const [log, other] = yield* twoWith({ pageSize: 1, maxEventBytes: 1_000, maxTailBytes: 1 }).pipe(
          Effect.map((nodes) => [nodes[0].log, nodes[1].log] as const)
        )
        const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9]
        const whole = [{ seq: 5, data: "1-5" }, { seq: 6, data: "6" }, { seq: 9, data: "7-9" }]
        const written = (key: string) =>
          Effect.gen(function*() {
            const { run } = yield* log.start(request(key))
            // A reader of each number, from before the end; it has read so far when the run is compacted.
            const readers = yield* Effect.forEach([0, ...numbers, 10], (count) =>
              Effect.gen(function*() {
                const reader = count % 2 === 0 ? log : other
                const there = yield* Deferred.make<void>()
                const go = yield* Deferred.make<void>()
                const seen: Array<Run.RunEvent> = []
                const reading = Effect.gen(function*() {
                  const events = yield* reader.events({ runId: run.runId })
                  if (count === 0) yield* Deferred.await(go)
                  yield* Stream.runForEach(events, (event) => {
                    seen.push(event)
                    if (seen.length !== count) return Effect.void
                    return Effect.andThen(Deferred.succeed(there, undefined), Deferred.await(go))
                  })
                })
                if (count === 0) yield* Deferred.succeed(there, undefined)
                const fiber = yield* Effect.forkChild(Effect.result(reading), { startImmediately: true })
                return { count, there, go, fiber, seen }
              }))
            yield* log.append({ ...run, events: numbers })
            yield* log.finish({ ...run, end: { status: "succeeded" } })
            yield* Effect.forEach(readers, ({ there }) => Deferred.await(there))
            return { run, readers }
          })

        const { readers, run } = yield* written("a")
        const named = { runId: run.runId, owner }
        const outcomes = yield* Effect.all(
          [log, other, log, other].map((node) => Effect.result(node.compact({ ...named, events: whole }))),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          outcomes.map((one) => Result.isSuccess(one) ? "compacted" : one.failure.reason._tag).toSorted(),
          ["RunCompacted", "RunCompacted", "RunCompacted", "compacted"]
        )
        const kept = [[1, 5, "1-5"], [undefined, 6, "6"], [7, 9, "7-9"], [undefined, 10, { status: "succeeded" }]]
        const keptAfter = (cursor: number) => kept.filter(([, seq]) => Number(seq) > cursor)
        const partOf = (all: ReadonlyArray<Run.RunEvent>) =>
          all.map(({ data, firstSeq, seq }) => [firstSeq, Option.getOrUndefined(seq), data])
        for (const { count, fiber, go, seen } of readers) {
          const before = seen.length
          yield* Deferred.succeed(go, undefined)
          const result = yield* Fiber.join(fiber)
          const after = partOf(seen.slice(before))
          if ([0, 5, 6, 9, 10].includes(count)) {
            assert.isTrue(Result.isSuccess(result), `${count}`)
            assert.deepStrictEqual(after, keptAfter(count))
          } else {
            // What it has in hand already it may still give, and then it is told.
            assert.deepInclude(Result.isFailure(result) ? result.failure.reason : {}, {
              _tag: "CursorExpired",
              compacted: true
            }, `${count}`)
            assert.isAtMost(after.length, 1)
          }
        }
        for (const after of [0, 5, 6, 9, 10, "1-5", "7-9"]) {
          const seq = Number(String(after).split("-").at(-1))
          const all = yield* Stream.runCollect(Stream.unwrap(other.events({ ...named, after })))
          assert.deepStrictEqual(partOf(all), keptAfter(seq))
        }
        for (const after of [1, 2, 3, 4, 7, 8, "2-8"]) {
          const { reason } = yield* Effect.flip(log.events({ ...named, after }))
          assert.deepInclude(reason, { _tag: "CursorExpired", compacted: true }, String(after))
        }
        assert.deepInclude(yield* log.get(named), { lastSeq: 10, status: "succeeded" })
        const { events: following } = yield* other.follow({ owner, threadId: "a" })
        const followed = yield* following.pipe(Stream.take(5), Stream.runCollect)
        assert.deepStrictEqual(followed.map(seqOf), ["begun", 5, 6, 9, 10])

        const why = (options: Partial<RunEventLog.CompactOptions>, key = "b") =>
          Effect.gen(function*() {
            const run = Option.getOrThrow(yield* log.getByKey({ owner, idempotencyKey: key }))
            const call = log.compact({ runId: run.runId, owner, events: whole, ...options })
            return (yield* Effect.flip(call)).reason._tag
          })
        yield* log.start(request("going"))
        assert.strictEqual(yield* why({}, "going"), "RunNotEnded")
        assert.strictEqual(yield* why({ runId: "none" }, "going"), "RunNotFound")
        const b = yield* log.start(request("b"))
        yield* log.append({ ...b.run, events: numbers })
        yield* log.finish({ ...b.run, end: { status: "succeeded" } })
        assert.strictEqual(yield* why({ owner: { subject: "stranger" } }), "RunNotFound")
        assert.strictEqual(yield* why({ events: [{ seq: 9, data: "x".repeat(2_000) }] }), "LimitExceeded")
        const misnumbered: ReadonlyArray<ReadonlyArray<number>> = [
          [],
          [8],
          [10],
          [5, 10],
          [9, 5],
          [5, 5, 9],
          [0, 9],
          [-1, 9],
          [1.5, 9],
          numbers
        ]
        for (const seqs of misnumbered) {
          const events = seqs.map((seq) => ({ seq, data: null }))
          assert.strictEqual(yield* why({ events }), "InvalidInput", seqs.join())
        }
        const all = yield* Stream.runCollect(Stream.unwrap(log.events({ runId: b.run.runId })))
        assert.deepStrictEqual(seqs(all), [...numbers, 10])
        yield* log.compact({ runId: b.run.runId, events: [{ seq: 9, data: "all" }] })
      }).pipe(Effect.scoped))

    it.live("RUN-08: a reader follows a run that another process writes", () =>
      Effect.gen(function*() {
        const [writer, other] = yield* two
        const { run } = yield* writer.start(request("key"))
        const { epoch, runId } = run
        const stream = yield* other.events({ runId })
        const first = yield* Deferred.make<void>()
        const reader = yield* Effect.forkChild(
          stream.pipe(Stream.tap(() => Deferred.succeed(first, undefined)), Stream.runCollect),
          { startImmediately: true }
        )
        yield* writer.append({ runId, epoch, events: [1] })
        yield* Deferred.await(first)
        yield* writer.append({ runId, epoch, events: [2] })
        yield* writer.finish({ runId, epoch, end: { status: "succeeded" } })
        assert.deepStrictEqual(seqs(yield* Fiber.join(reader)), [1, 2, 3])
      }).pipe(Effect.scoped))

    it.live("RUN-20: a program goes on with the answer that another process took, of a thousand the first", () =>
      Effect.gen(function*() {
        const [one, other] = yield* two
        const { run } = yield* one.execute(
          request("key"),
          (writer) =>
            Effect.gen(function*() {
              const first = yield* writer.ask("deploy", { text: "Deploy to production?", choices: ["yes", "no"] })
              const both = yield* Effect.all([writer.ask("a", 1), writer.ask("b", 2)], { concurrency: 2 })
              return [first, ...both, yield* writer.ask("deploy", "again")]
            })
        )
        const named = { runId: run.runId, owner }
        const questions = Stream.unwrap(other.events(named)).pipe(
          Stream.filterMap(({ data }) =>
            Option.match(Run.questionOf(data), { onNone: () => Result.failVoid, onSome: Result.succeed })
          )
        )
        assert.deepStrictEqual(yield* questions.pipe(Stream.take(1), Stream.runCollect), [
          { name: "deploy", ask: { text: "Deploy to production?", choices: ["yes", "no"] } }
        ])
        assert.strictEqual((yield* other.get(named)).status, "waiting")
        assert.deepStrictEqual((yield* other.list({ owner, status: "waiting" })).map(({ runId }) => runId), [run.runId])
        const outcomes = yield* Effect.all(
          Array.from({ length: 1_000 }, (_, index) =>
            Effect.result(
              (index % 2 === 0 ? one : other).answer({ ...named, name: "deploy", value: { index } })
            )),
          { concurrency: 50 }
        )
        assert.strictEqual(outcomes.filter(Result.isSuccess).length, 1)
        for (const outcome of outcomes) {
          if (Result.isFailure(outcome)) assert.strictEqual(outcome.failure.reason._tag, "QuestionAnswered")
        }
        const index = outcomes.findIndex(Result.isSuccess)
        yield* questions.pipe(Stream.take(3), Stream.runDrain)
        for (const name of ["b", "a"]) yield* other.answer({ ...named, name, value: name })
        const all = yield* Stream.runCollect(Stream.unwrap(other.events(named)))
        assert.deepStrictEqual(all.at(-1)?.data, {
          status: "succeeded",
          result: [{ index }, "a", "b", { index }]
        })
        assert.deepStrictEqual(
          all.flatMap(({ data }) => Option.toArray(Run.answerOf(data))),
          [{ name: "deploy", value: { index } }, { name: "b", value: "b" }, { name: "a", value: "a" }]
        )
      }).pipe(Effect.scoped))

    it.live("RUN-20: what a program says itself in the form of an answer is none, and does not keep it from the answer", () =>
      Effect.gen(function*() {
        let asked = 0
        const counted = Layer.effect(
          RunEventRepository,
          Effect.map(RunEventRepository, (repository) => ({
            ...repository,
            ask: (question: Parameters<typeof repository.ask>[0]) =>
              Effect.suspend(() => (asked++, repository.ask(question)))
          }))
        )
        const crypto = [Digest.layerWebCrypto, SecureRandom.layerWebCrypto] as const
        const context = yield* Layer.build(
          Layer.provide(RunEventLog.layer, [Layer.provide(counted, Layer.fresh(layer)), ...crypto])
        )
        const log = Context.get(context, RunEventLog.RunEventLog)
        const readAll = (run: RunEventLog.NamedRun) => Stream.unwrap(log.events(run))
        const { run } = yield* log.execute(request("key"), (writer) =>
          Effect.all([
            writer.ask("go on?", null),
            Effect.forEach([1, 2], () => writer.append({ answer: { name: "go on?", value: "its own" } }))
          ], { concurrency: 2 }).pipe(Effect.map(([answer]) => answer)))
        const named = { runId: run.runId, owner }
        yield* readAll(named).pipe(Stream.take(3), Stream.runDrain)
        assert.strictEqual((yield* log.get(named)).status, "waiting")
        yield* Effect.sleep(100)
        yield* log.answer({ ...named, name: "go on?", value: "the answer" })
        const all = yield* Stream.runCollect(readAll(named))
        assert.deepStrictEqual(all.at(-1)?.data, { status: "succeeded", result: "the answer" })
        // Once at first, and once for each event of that form.
        assert.isAtMost(asked, 4)
      }).pipe(Effect.scoped))

    it.live("RUN-20 RUN-12 RUN-15 RUN-24: an answer that cannot be is told why, and a run that waits can be aborted", () =>
      Effect.gen(function*() {
        const log = yield* RunEventLog.RunEventLog
        const { run } = yield* log.execute(request("key"), (writer) => writer.ask("go on?", null))
        const { runId } = run
        yield* events({ runId }).pipe(Stream.take(1), Stream.runDrain)
        const why = (options: Partial<RunEventLog.AnswerOptions>) =>
          Effect.map(
            Effect.flip(log.answer({ runId, owner, name: "go on?", value: true, ...options })),
            ({ reason }) => reason._tag
          )
        assert.strictEqual(yield* why({ name: "else" }), "QuestionNotFound")
        assert.strictEqual(yield* why({ owner: { subject: "stranger" } }), "RunNotFound")
        assert.strictEqual(yield* why({ runId: "none" }), "RunNotFound")
        for (const name of ["", "a\u0000", "a\nb", "x".repeat(256)]) {
          assert.strictEqual(yield* why({ name }), "InvalidInput")
        }
        assert.strictEqual(yield* why({ value: "x".repeat(1_000) }), "LimitExceeded")
        assert.strictEqual((yield* log.get({ runId })).status, "waiting")
        assert.strictEqual((yield* log.abort({ runId, owner }))._tag, "Aborted")
        assert.strictEqual(yield* why({}), "RunEnded")
      }).pipe(Effect.provide(build({ maxEventBytes: 500 }))))

    it.live("RUN-21: a resumable run goes on in another process with the log before it, and its readers see one run", () =>
      Effect.gen(function*() {
        const [{ log: one }, { log: other }] = yield* twoWith({ heartbeatInterval: "50 millis", lease: "500 millis" })
        const { run } = yield* one.start({ ...request("key"), resumable: true, request: { to: 4 } })
        const mortal = yield* one.start(request("mortal"))
        const { epoch, runId } = run
        yield* one.append({ runId, epoch, events: [1, 2] })
        const reader = yield* Effect.forkChild(Stream.runCollect(Stream.unwrap(one.events({ runId }))), {
          startImmediately: true
        })
        const program = ({ request, run }: RunEventLog.ResumedRun) =>
          Effect.gen(function*() {
            const before = yield* Stream.runCollect(run.history)
            assert.deepStrictEqual(seqs(before), [1, 2])
            for (let n = before.length + 1; n <= Object(request).to; n++) yield* run.append(n)
            return { epoch: run.run.epoch }
          })
        const taken = yield* Effect.repeat(other.takeOver({ limit: 10 }, program), {
          until: (runs) => runs.length > 0,
          schedule: Schedule.spaced("20 millis")
        })
        assert.deepStrictEqual(taken.map((run) => [run.runId, run.epoch, run.status]), [[runId, 2, "running"]])
        const zombie = yield* Effect.flip(one.append({ runId, epoch, events: ["zombie"] }))
        assert.include(["Fenced", "RunEnded"], zombie.reason._tag)
        const all = yield* Fiber.join(reader)
        assert.deepStrictEqual(seqs(all), [1, 2, 3, 4, 5])
        assert.deepStrictEqual(all.map(({ data }) => data), [1, 2, 3, 4, { status: "succeeded", result: { epoch: 2 } }])
        // Its lease began later.
        const reaped = yield* Effect.repeat(one.reap({ limit: 10 }), {
          until: (runs) => runs.length > 0,
          schedule: Schedule.spaced("10 millis")
        })
        assert.deepStrictEqual(reaped.map(({ runId }) => runId), [mortal.run.runId])
      }).pipe(Effect.scoped))

    it.live("RUN-21: what a process executes when it is shut down goes on in another one at once, and what it queues", () =>
      Effect.gen(function*() {
        const [one, { log: other }] = yield* twoWith({})
        const begun = yield* Deferred.make<void>()
        const resumable = (key: string, program: Effect.Effect<void>) =>
          one.log.execute(
            { ...request(key, "thread"), whenBusy: "enqueue", resumable: true },
            (writer) => Effect.andThen(writer.append("begun"), program)
          )
        const first = yield* resumable("a", Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))
        const second = yield* resumable("b", Effect.never)
        assert.deepStrictEqual([first.run.status, second.run.status], ["running", "queued"])
        yield* Deferred.await(begun)
        yield* one.close
        const taken = new Set<string>()
        yield* Effect.repeat(
          other.takeOver({ limit: 1 }, ({ run }) => run.append(`epoch ${run.run.epoch}`)),
          {
            until: (runs) => {
              for (const { runId } of runs) taken.add(runId)
              return taken.size === 2
            },
            schedule: Schedule.spaced("10 millis")
          }
        )
        const told = yield* Effect.forEach(
          [first, second],
          ({ run }) => Stream.runCollect(Stream.unwrap(other.events({ runId: run.runId })))
        )
        assert.deepStrictEqual(told.map((all) => all.map(({ data }) => data)), [
          ["begun", "epoch 2", { status: "succeeded", result: 2 }],
          ["epoch 2", { status: "succeeded", result: 1 }]
        ])
      }).pipe(Effect.scoped))

    it.live("RUN-22: runs that wait in two processes are executed in the order of their coming", () =>
      Effect.gen(function*() {
        const [one, other] = yield* two
        const { run } = yield* one.start(request("first", "thread"))
        const order: Array<string> = []
        const runIds: Array<string> = []
        for (const [index, log] of [other, one, other, one].entries()) {
          const key = `queued ${index}`
          const queued = yield* log.execute(
            { ...request(key, "thread"), whenBusy: "enqueue" },
            () => Effect.sync(() => void order.push(key))
          )
          assert.strictEqual(queued.run.status, "queued")
          runIds.push(queued.run.runId)
        }
        yield* one.finish({ runId: run.runId, epoch: run.epoch, end: { status: "succeeded" } })
        for (const runId of runIds) {
          const all = yield* Stream.runCollect(Stream.unwrap(one.events({ runId })))
          assert.deepStrictEqual(all.map(({ data }) => data), [{ status: "succeeded" }])
        }
        assert.deepStrictEqual(order, ["queued 0", "queued 1", "queued 2", "queued 3"])
      }).pipe(Effect.scoped))
  })
}
