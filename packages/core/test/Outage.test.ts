import { assert, describe, it } from "@effect/vitest"
import * as Following from "@sallyport/core/Following"
import * as Outage from "@sallyport/core/Outage"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as WakeUps from "@sallyport/core/WakeUps"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
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
        outage: Outage.ofSource(source, { begins: "The source is gone", ends: "The source is back" }),
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
        outage: Outage.make({ begins: "gone", ends: "back" })(),
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
})
