import { assert, describe, it } from "@effect/vitest"
import * as Following from "@sallyport/core/Following"
import * as Outage from "@sallyport/core/Outage"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as Sweeper from "@sallyport/core/Sweeper"
import * as WakeUps from "@sallyport/core/WakeUps"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

/** Keeps what is logged at the levels that an operator reads. */
const captured = () => {
  const lines: Array<string> = []
  return {
    lines,
    layer: Logger.layer([
      Logger.make(({ logLevel, message }) => {
        if (logLevel !== "Debug") lines.push(`${logLevel} ${[message].flat()[0]}`)
      })
    ])
  }
}

const broken = new RepositoryError({
  operation: "wakeups",
  reason: "Unavailable",
  outcome: "unchanged",
  cause: new Error("the connection is gone")
})

describe("an outage", () => {
  it.effect("OPS-06: ends with what met it, so that none is counted for ever", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const counted = Effect.map(Metric.snapshot, (metrics) =>
        metrics.flatMap((metric) =>
          metric.id === "sallyport.outages" && metric.type === "Gauge" ? [Number(metric.state.value)] : []
        ))
      yield* Layer.buildWithScope(
        Sweeper.layer({
          name: "rows",
          options: undefined,
          defaults: { interval: "1 minute", batchSize: 1 },
          sweep: Effect.succeed(() =>
            Effect.fail(broken)
          )
        }),
        scope
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* counted, [1])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* counted, [0])
    }).pipe(Effect.provide(Logger.layer([])), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("OPS-06: three followers of one source tell of an outage in two lines, however long it takes", () => {
    const log = captured()
    return Effect.gen(function*() {
      const source = {}
      let failing = true
      let looks = 0
      const wakeUps = WakeUps.make()
      const follow = Following.run({
        wakeUps: Stream.suspend(() => failing ? Stream.fail(broken) : wakeUps.listen),
        pollInterval: Duration.seconds(5),
        retryDelay: Duration.millis(250),
        outage: Outage.ofSource(source, { of: "it", begins: "The source is gone", ends: "The source is back" }),
        look: () =>
          Effect.suspend(() => {
            looks++
            return failing ? Effect.fail(broken) : Effect.void
          })
      })
      for (let i = 0; i < 3; i++) yield* Effect.forkChild(follow)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log.lines, ["Warn The source is gone"])
      // Each goes on looking, at intervals that grow up to that of polling.
      assert.isAbove(looks, 3 * 12)
      assert.isBelow(looks, 3 * 60)
      failing = false
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(log.lines.length, 2)
      assert.match(log.lines[1] ?? "", /^Info The source is back, after 1m/)
      failing = true
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(log.lines.length, 3)
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("OPS-06: a follower is never behind for longer than the poll interval, with and without hints", () =>
    Effect.gen(function*() {
      const wakeUps = WakeUps.make()
      let looks = 0
      yield* Effect.forkChild(Following.run({
        wakeUps: wakeUps.listen,
        pollInterval: Duration.seconds(5),
        retryDelay: Duration.millis(250),
        outage: Outage.make({ of: "it", begins: "gone", ends: "back" })(),
        look: () => Effect.sync(() => void looks++)
      }))
      yield* TestClock.adjust("1 second")
      const atFirst = looks
      wakeUps.notify("key", 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(looks, atFirst + 1)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(looks, atFirst + 2)
    }))

  it.effect("OPS-06: what comes and goes is one outage, until it has worked for two seconds", () => {
    const log = captured()
    return Effect.gen(function*() {
      let failing = true
      yield* Effect.forkChild(Following.run({
        wakeUps: Stream.suspend(() =>
          Stream.concat(Stream.make("anything" as const), failing ? Stream.fail(broken) : Stream.never)
        ),
        pollInterval: Duration.seconds(1),
        retryDelay: Duration.millis(250),
        outage: Outage.make({ of: "it", begins: "gone", ends: "back" })(),
        look: () => Effect.void
      }))
      for (let step = 0; step < 240; step++) yield* TestClock.adjust("250 millis")
      assert.isAtMost(log.lines.length, 3, log.lines.join(", "))
      failing = false
      for (let step = 0; step < 40; step++) yield* TestClock.adjust("250 millis")
      assert.match(log.lines.at(-1) ?? "", /^Info back, after/)
      assert.isAtMost(log.lines.length, 4, log.lines.join(", "))
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("OPS-06: a witness that fails and goes away keeps no outage open, and the next one is told of", () => {
    const log = captured()
    return Effect.gen(function*() {
      const witness = Outage.make({ of: "it", begins: "gone", ends: "back" })
      const gone = witness()
      yield* gone.failed(Cause.fail("why"))
      yield* gone.left
      yield* TestClock.adjust("1 minute")
      const next = witness()
      yield* next.failed(Cause.fail("why"))
      yield* TestClock.adjust("3 seconds")
      yield* next.worked
      assert.deepStrictEqual(log.lines, ["Warn gone", "Warn gone", "Info back, after 3s"])
    }).pipe(Effect.provide(log.layer))
  })
})
