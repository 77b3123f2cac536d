import { assert, describe, it } from "@effect/vitest"
import * as AppendLog from "@sallyport/core/AppendLog"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

interface Item {
  readonly key: string
  readonly value: number
}

describe("appenders beside each other", () => {
  it.effect("RUN-06: commit at the same time, and keep the order of each key", () =>
    Effect.gen(function*() {
      const together = yield* Deferred.make<void>()
      const committed = new Map<string, Array<number>>()
      let underway = 0
      const appenderOf = yield* AppendLog.spread(
        2,
        AppendLog.groupCommit({
          count: () => 1,
          maxCount: 8,
          bytes: () => 1,
          closed: Effect.interrupt,
          commit: Effect.fnUntraced(function*(items: ReadonlyArray<Item>) {
            if (++underway === 2) yield* Deferred.succeed(together, undefined)
            // Nothing is committed before two commits are under way, which one appender never has.
            yield* Deferred.await(together)
            yield* Effect.yieldNow
            for (const { key, value } of items) committed.set(key, [...committed.get(key) ?? [], value])
            underway--
            return items
          })
        })
      )
      const keys = Array.from({ length: 16 }, (_, index) => `run ${index}`)
      const fibers = yield* Effect.forEach(keys, (key) =>
        Effect.forEach(Array.from({ length: 20 }), (_, value) =>
          Effect.forkChild(appenderOf(key)({ key, value }))))
      yield* Effect.forEach(fibers.flat(), Fiber.join, { discard: true })
      for (const key of keys) {
        assert.strictEqual(appenderOf(key), appenderOf(key))
        assert.deepStrictEqual(
          committed.get(key),
          Array.from({ length: 20 }, (_, value) =>
            value)
        )
      }
    }).pipe(Effect.scoped))
})
