import { assert, describe, it } from "@effect/vitest"
import * as SqlRateLimiterStore from "@sallyport/core/access/SqlRateLimiterStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"
import * as TestClock from "effect/testing/TestClock"
import * as Attempts from "../../src/access/internal/attempts.ts"
import { databases, postgres, sqliteMemory } from "../../../../test-support/databases.ts"
import { plansOf } from "../../../../test-support/queryPlans.ts"

const Store = RateLimiter.RateLimiterStore

const key = Schema.Literals(["a", "b"])
const tokens = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 }))
const limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 }))
const millis = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20_000 }))

const Step = Schema.Union([
  Schema.TaggedStruct("wait", { millis: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 })) }),
  Schema.TaggedStruct("fixedWindow", { key, tokens, limit: Schema.NullOr(limit), refill: millis }),
  Schema.TaggedStruct("tokenBucket", { key, tokens, overflow: Schema.Boolean }),
  Schema.TaggedStruct("adaptiveConsume", { key, tokens, window: millis }),
  Schema.TaggedStruct("adaptiveFeedback", {
    key,
    tokens,
    // Whether the feedback is on the last request, or on some other one.
    stray: Schema.NullOr(Schema.Literals([0, 1, 2])),
    status: Schema.Literals([429, 429, 429, 200]),
    retryAfter: Schema.NullOr(millis)
  })
])

/** Runs the steps and returns the answers, times rounded to where sums in another order agree. */
const answers = Effect.fnUntraced(function*(steps: ReadonlyArray<typeof Step.Type>, name: string) {
  const store = yield* Store
  const epochs = new Map<string, number>()
  const found: Array<unknown> = []
  // Neither zero is another.
  const round = (number: number) => Math.round(number * 100) / 100 + 0
  for (const step of steps) {
    switch (step._tag) {
      case "wait":
        yield* TestClock.adjust(step.millis)
        break
      case "fixedWindow": {
        const [count, ttl] = yield* store.fixedWindow({
          key: `${name}${step.key}`,
          tokens: step.tokens,
          // The window of a key without a limit never ends here, so that its first token is not its last.
          limit: step.limit === null ? undefined : Math.max(step.limit, step.tokens),
          refillRate: Duration.millis(step.refill / 3)
        })
        found.push([count + 0, round(ttl)])
        break
      }
      case "tokenBucket": {
        const [remaining, elapsed] = yield* store.tokenBucket({
          key: `${name}${step.key}`,
          tokens: step.tokens,
          // A bucket that is full is forgotten, here as on Redis, so it has to be of one size.
          limit: step.key === "a" ? 5 : 2,
          refillRate: Duration.millis(step.key === "a" ? 700 : 10_000 / 3),
          allowOverflow: step.overflow
        })
        found.push([remaining + 0, round(elapsed)])
        break
      }
      case "adaptiveConsume": {
        const { delay, epoch, phase } = yield* store.adaptiveConsume({
          key: `${name}${step.key}`,
          tokens: step.tokens,
          fallbackLimit: 5,
          fallbackWindow: Duration.millis(step.window)
        })
        epochs.set(step.key, epoch)
        found.push([round(Duration.toMillis(delay)), epoch, phase])
        break
      }
      case "adaptiveFeedback":
        yield* store.adaptiveFeedback({
          key: `${name}${step.key}`,
          tokens: step.tokens,
          epoch: step.stray ?? epochs.get(step.key) ?? 0,
          status: step.status,
          retryAfter: step.retryAfter === null ? undefined : Duration.millis(step.retryAfter)
        })
    }
  }
  return found
})

let runs = 0

for (const { layer, name } of databases) {
  it.layer(SqlRateLimiterStore.layer.pipe(Layer.provideMerge(layer)), { timeout: "5 minutes" })(
    `RateLimiterStore (${name})`,
    (it) => {
      it.effect.prop(
        "answers any sequence of steps as Effect's store in memory does",
        [Schema.Array(Step).check(Schema.isMinLength(20), Schema.isMaxLength(80))],
        ([steps]) =>
          Effect.gen(function*() {
            const name = `${++runs}:`
            const found = yield* Effect.provide(answers(steps, name), TestClock.layer(), { local: true })
            const expected = yield* answers(steps, name).pipe(
              Effect.provide(Layer.merge(RateLimiter.layerStoreMemory, TestClock.layer()), { local: true })
            )
            assert.deepStrictEqual(JSON.stringify(found), JSON.stringify(expected))
          }),
        { arbitrary: { runs: 30 } }
      )

      it.effect("BOOT-06: of 64 racers exactly as many are let through as the limit says, in a window and from a bucket", () =>
        Effect.gen(function*() {
          const limiter = yield* RateLimiter.make
          for (const algorithm of ["fixed-window", "token-bucket"] as const) {
            const consume = limiter.consume({
              key: "race",
              limit: 10,
              window: "1 minute",
              algorithm,
              onExceeded: "fail"
            })
            for (let round = 0; round < 2; round++) {
              const results = yield* Effect.all(Array.from({ length: 64 }, () => Effect.result(consume)), {
                concurrency: "unbounded"
              })
              assert.strictEqual(results.filter(({ _tag }) => _tag === "Success").length, 10, algorithm)
              for (const result of results) {
                if (result._tag === "Success") continue
                assert.strictEqual(result.failure.reason._tag, "RateLimitExceeded")
              }
              yield* TestClock.adjust("1 minute")
            }
          }
        }))

      it.effect("takes keys of any text, and keeps them apart", () =>
        Effect.gen(function*() {
          const limiter = yield* RateLimiter.make
          for (const key of ["", "k", "K", "k ", "ключ", "' OR 1=1 --", "k".repeat(2_000)]) {
            const { remaining } = yield* limiter.consume({ key, limit: 2, window: "1 minute", onExceeded: "fail" })
            assert.strictEqual(remaining, 1, key)
          }
        }))

      it.effect("BOOT-06 L-24: what has run out is swept in batches, and nothing else", () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const limiter = yield* RateLimiter.make
          const count = Effect.map(
            sql<{ readonly key: string }>`SELECT key FROM sallyport_rate_limits ORDER BY key`,
            (rows) => rows.map((row) => row.key)
          )
          yield* sql`DELETE FROM sallyport_rate_limits`
          const take = (key: string, window: Duration.Input) =>
            limiter.consume({ key, limit: 1, window, onExceeded: "fail" })
          for (let index = 0; index < 7; index++) yield* take(`short-${index}`, "10 seconds")
          yield* take("long", "1 hour")
          const texts: Array<string> = []
          yield* Effect.gen(function*() {
            yield* Layer.build(SqlRateLimiterStore.layerSweeper({ interval: "20 seconds", batchSize: 3 }))
            const pause = TestClock.withLive(Effect.sleep("5 millis"))
            yield* TestClock.adjust("1 second")
            while (texts.length === 0) yield* pause
            assert.strictEqual((yield* count).length, 8)
            // The sweeper works on a real database, whose answers the test clock doesn't wait for: nor does it know when the
            // sweeper goes to sleep.
            while ((yield* count).length > 1) yield* Effect.andThen(TestClock.adjust("1 second"), pause)
            assert.deepStrictEqual(yield* count, ["long"])
          }).pipe(
            Effect.scoped,
            Effect.provideService(Statement.CurrentTransformer, (statement) =>
              Effect.sync(() => {
                const [text] = statement.compile()
                if (text.includes("DELETE")) texts.push(text)
                return statement
              }))
          )
          // Nothing at first; then 3, 3 and 1.
          assert.strictEqual(texts.length, 4)
        }))

      it.effect("fails with an error of the store where its table is missing, and lets no caller through", () =>
        Effect.gen(function*() {
          const store = yield* Store
          const request = { key: "k", tokens: 1, limit: 1, refillRate: Duration.seconds(1) }
          const failures = [
            store.fixedWindow(request),
            store.tokenBucket({ ...request, allowOverflow: false }),
            store.adaptiveConsume({ ...request, fallbackLimit: 1, fallbackWindow: Duration.seconds(1) }),
            store.adaptiveFeedback({ ...request, epoch: 0, status: 429, retryAfter: Duration.seconds(1) })
          ]
          for (const failure of failures) {
            assert.strictEqual((yield* Effect.flip(failure)).reason._tag, "RateLimitStoreError")
          }
        }).pipe(Effect.provide(SqlRateLimiterStore.layerStorage({ prefix: "missing_" }))))

      it.effect("brings its table up to date once, however many start together, and beside one with another prefix", () =>
        Effect.gen(function*() {
          yield* Effect.forEach(
            [1, 2, 3],
            () => Effect.scoped(Layer.build(Layer.fresh(SqlRateLimiterStore.layerMigrations({ prefix: "other_" })))),
            { concurrency: "unbounded" }
          )
          const limiter = yield* RateLimiter.make.pipe(
            Effect.provide(SqlRateLimiterStore.layerStorage({ prefix: "other_" }))
          )
          yield* limiter.consume({ key: "k", limit: 1, window: "1 minute" })
        }))
    }
  )
}

describe("RateLimiterStore on SQL", () => {
  it.effect("BOOT-06: nodes on one PostgreSQL database share the count", () =>
    Effect.gen(function*() {
      const node = Effect.map(
        Layer.build(Layer.fresh(RateLimiter.layer.pipe(Layer.provide(SqlRateLimiterStore.layer)))),
        (context) =>
          RateLimiter.RateLimiter.use((limiter) =>
            limiter.consume({ key: "source", limit: 10, window: "1 minute", onExceeded: "fail" })
          ).pipe(Effect.provideContext(context))
      )
      const nodes = yield* Effect.all([node, node, node])
      const results = yield* Effect.all(
        Array.from({ length: 30 }, (_, index) => nodes[index % 3] ?? Effect.die("no node")).map(Effect.result),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter(({ _tag }) => _tag === "Success").length, 10)
    }).pipe(Effect.scoped, Effect.provide(postgres)))

  it.effect("BOOT-06 OPS-03: wrong codes past a limit, of a source and of all, are refused without a write", () =>
    Effect.gen(function*() {
      const attempts = yield* Attempts.make("codes", {
        perSource: { attempts: 3, windowMillis: 60_000 },
        total: { attempts: 5, windowMillis: 60_000 }
      })
      const writes: Array<string> = []
      const count = (source: string) =>
        Effect.provideService(attempts.count(source), Statement.CurrentTransformer, (statement) =>
          Effect.sync(() => {
            const [text] = statement.compile()
            if (!text.startsWith("SELECT")) writes.push(text)
            return statement
          }))
      for (const source of ["2001:db8::1", "192.0.2.1"]) {
        const counted = yield* Effect.forEach(Array.from({ length: 4 }), () => count(source))
        assert.isTrue(counted.some(Option.isSome))
        assert.isAbove(writes.length, 0)
        writes.length = 0
        for (let attempt = 0; attempt < 20; attempt++) {
          const wait = yield* count(source)
          assert.isTrue(Option.exists(wait, (millis) => millis > 0 && millis <= 60_000))
        }
        assert.deepStrictEqual(writes, [])
      }
    }).pipe(Effect.provide(RateLimiter.layer.pipe(
      Layer.provide(SqlRateLimiterStore.layer),
      Layer.provide(sqliteMemory)
    ))))

  it.effect("on SQLite looks every row up by an index and scans no table", () =>
    Effect.gen(function*() {
      const store = yield* Store
      const request = { key: "k", tokens: 1, limit: 1, refillRate: Duration.seconds(1) }
      const { steps, texts } = yield* plansOf(Effect.gen(function*() {
        yield* store.fixedWindow(request)
        yield* store.fixedWindow(request)
        yield* store.tokenBucket({ ...request, allowOverflow: false })
        yield* store.adaptiveFeedback({ ...request, epoch: 0, status: 429, retryAfter: Duration.seconds(1) })
        yield* store.adaptiveConsume({ ...request, fallbackLimit: 1, fallbackWindow: Duration.seconds(1) })
      }))
      assert.isAtLeast(texts.size, 4)
      for (const { detail, text } of steps) assert.notMatch(detail, /^SCAN|TEMP B-TREE/, `${text}\n${detail}`)
    }).pipe(Effect.provide(Layer.provideMerge(SqlRateLimiterStore.layer, sqliteMemory))))
})
