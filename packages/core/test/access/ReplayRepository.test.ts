import { assert, describe, it } from "@effect/vitest"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as ReplayRepositorySuite from "@sallyport/testing/ReplayRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

ReplayRepositorySuite.suite("memory", ReplayRepository.layerMemory)

describe("ReplayRepository in memory", () => {
  it.effect("is bounded: when it is full it fails rather than forget a value, and only for values of that kind", () =>
    Effect.gen(function*() {
      const replays = yield* ReplayRepository.ReplayRepository
      const spend = (kind: string, digest: string, nowMillis: number) =>
        replays.spend({ kind, digest, expiresAtMillis: nowMillis + 100 }, nowMillis)
      for (const digest of ["1", "2", "3"]) assert.isTrue(yield* spend("a", digest, 1_000))
      const error = yield* Effect.flip(spend("a", "4", 1_099))
      assert.strictEqual(error._tag, "RepositoryError")
      assert.isFalse(yield* spend("a", "1", 1_099))
      assert.isTrue(yield* spend("b", "4", 1_099))
      assert.isTrue(yield* spend("a", "4", 1_100))
    }).pipe(Effect.provide(ReplayRepository.layerMemoryWith({ capacity: 3 }))))

  it.effect("L-24: the sweeper deletes what has expired, in batches, and goes on after a failure", () =>
    Effect.gen(function*() {
      const swept: Array<number> = []
      let left = 7
      const store = Layer.succeed(
        ReplayRepository.ReplayRepository,
        ReplayRepository.ReplayRepository.of({
          spend: () => Effect.succeed(true),
          sweep: ({ limit }) =>
            Effect.suspend(() => {
              if (swept.length === 1) {
                swept.push(-1)
                return Effect.die(new Error("the database is away"))
              }
              const count = Math.min(left, limit)
              left -= count
              swept.push(count)
              return Effect.succeed(count)
            })
        })
      )
      yield* Layer.build(
        ReplayRepository.layerSweeper({ interval: "1 minute", batchSize: 3 }).pipe(Layer.provide(store))
      )
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(swept, [3, -1])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(swept, [3, -1, 3, 1])
      left = 2
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(swept, [3, -1, 3, 1, 2])
    }))
})
