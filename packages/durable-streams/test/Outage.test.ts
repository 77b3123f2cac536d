import { NodeCrypto } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import { DurableStreamRepository } from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import { StreamSubscriptionRepository } from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as StreamSubscriptions from "@sallyport/durable-streams/StreamSubscriptions"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { layerLines, lines, Store } from "../../../test-support/outage.ts"
import { memory } from "./support.ts"

const Process = Layer.mergeAll(
  StreamSubscriptions.layerWith({ allowLoopback: true }),
  DurableStreams.layerSweeper({ interval: "1 second" })
).pipe(
  Layer.provideMerge(DurableStreams.layer),
  Layer.provide(Layer.effectContext(Effect.gen(function*() {
    const store = yield* Store
    return Context.make(DurableStreamRepository, store.failing(yield* DurableStreamRepository)).pipe(
      Context.add(StreamSubscriptionRepository, store.failing(yield* StreamSubscriptionRepository))
    )
  }))),
  Layer.provide(Layer.mergeAll(memory, SecretStore.layerMemory)),
  Layer.provideMerge(Layer.mergeAll(NodeCrypto.layer, Store.layer, layerLines))
)

const sources = {
  "Lost the hints at changes of streams; readers look for them until they are back":
    "Changes of streams are heard of again",
  "Subscriptions cannot be looked after; it is tried again": "Subscriptions are looked after again",
  "The sweeper of streams that have expired fails; it tries again":
    "The sweeper of streams that have expired works again"
}

describe("an outage of the stores of streams", () => {
  it.effect("OPS-06: is logged once for each source when it begins, and once when it is over", () =>
    Effect.gen(function*() {
      const store = yield* Store
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* lines, [])
      yield* store.lose
      yield* TestClock.adjust("5 minutes")
      const begins = Object.keys(sources).map((sentence) => `WARN ${sentence}`)
      assert.deepStrictEqual((yield* lines).toSorted(), begins.toSorted())
      yield* store.restore
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        (yield* lines).slice(begins.length).map((line) => line.replace(/,? after [45]m.*$/, "")).toSorted(),
        Object.values(sources).map((sentence) => `INFO ${sentence}`).toSorted()
      )
    }).pipe(Effect.scoped, Effect.provide(Process)))
})
