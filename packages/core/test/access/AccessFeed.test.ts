import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as AccessFeedSuite from "@sallyport/testing/AccessFeedSuite"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
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
