import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as AccessFeedSuite from "@sallyport/testing/AccessFeedSuite"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"

AccessFeedSuite.suite("memory", Layer.fresh(Repositories.layerMemory))

describe("AccessFeed.layerSweeperConfig", () => {
  for (const [retention, days] of [[undefined, 90], ["2 days", 2]] as const) {
    it.effect(`OPS-09: keeps events for ${days} days if the variable is ${retention ?? "not set"}`, () =>
      Effect.gen(function*() {
        const { clients, feed } = yield* AccessRepository
        for (const mode of ["client-approval", "account", "client-approval"] as const) {
          yield* clients.setMode({ mode, trust: [] }, { actor: "operator", nowMillis: 0 })
        }
        const kept = Effect.map(feed.read({ after: 0, limit: 10 }), (events) => events.length)
        yield* TestClock.adjust(`${days * 24 - 2} hours`)
        assert.isAbove(yield* kept, 1)
        yield* TestClock.adjust("4 hours")
        assert.strictEqual(yield* kept, 0)
      }).pipe(
        Effect.provide(Layer.provideMerge(AccessFeed.layerSweeperConfig, Layer.fresh(Repositories.layerMemory))),
        Effect.provide(ConfigProvider.layer(
          ConfigProvider.fromEnvRecord(retention === undefined ? {} : { SALLYPORT_FEED_RETENTION: retention })
        ))
      ))
  }
})

describe("AccessFeed.layerSweeper", () => {
  it.effect("FEED-04: a page says how long a change is kept, for as long as a sweeper of the same store runs here", () =>
    Effect.gen(function*() {
      const store = yield* Layer.build(Layer.fresh(Repositories.layerMemory))
      const other = yield* Layer.build(Layer.fresh(Repositories.layerMemory))
      const { history } = Context.get(
        yield* Layer.build(Layer.provide(AccessFeed.layer, Layer.succeedContext(store))),
        AccessFeed.AccessFeed
      )
      const days = Effect.map(history(), ({ retention }) => Option.map(retention, Duration.toDays))
      const sweeping = (retention: Duration.Input | undefined, on = store) =>
        Layer.build(Layer.provide(AccessFeed.layerSweeper({ retention }), Layer.succeedContext(on)))
      assert.deepStrictEqual(yield* days, Option.none())
      yield* sweeping("1 day", other)
      assert.deepStrictEqual(yield* days, Option.none(), "a sweeper of another store says nothing of this one")
      yield* Effect.scoped(Effect.gen(function*() {
        yield* sweeping(undefined)
        assert.deepStrictEqual(yield* days, Option.some(90))
        yield* Effect.scoped(Effect.gen(function*() {
          yield* sweeping("7 days")
          yield* sweeping("30 days")
          assert.deepStrictEqual(yield* days, Option.some(7), "the shortest of several")
        }))
        assert.deepStrictEqual(yield* days, Option.some(90))
      }))
      assert.deepStrictEqual(yield* days, Option.none(), "none runs any more")
    }))
})
