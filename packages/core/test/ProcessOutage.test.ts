/**
 * What a whole process logs of an outage of its stores: two lines for each source, however long it lasts.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { layerLines, lines, Store } from "../../../test-support/outage.ts"

/** Everything that a process runs in the background on the stores that a test can make fail. */
const Process = Layer.mergeAll(
  SessionCredentialService.layer,
  ConnectClientStore.layer,
  AccessFeed.layer,
  Layer.provideMerge(
    Layer.merge(RunEventLog.layerReaper(), RunEventLog.layerSweeper({ interval: "1 second" })),
    RunEventLog.layer
  )
).pipe(
  Layer.provideMerge(Layer.provide(
    SessionCredentialService.layerSweeper({ interval: "1 second" }),
    SessionCredentialService.layer
  )),
  Layer.provide(Layer.effectContext(Effect.gen(function*() {
    const store = yield* Store
    const access = yield* AccessRepository
    return Context.make(AccessRepository, {
      ...access,
      feed: store.failing(access.feed),
      sessions: store.failing(access.sessions)
    }).pipe(Context.add(RunEventRepository, store.failing(yield* RunEventRepository)))
  }))),
  Layer.provide(Layer.merge(Repositories.layerMemory, SecretStore.layerMemory)),
  Layer.provideMerge(Layer.mergeAll(NodeCrypto.layer, Store.layer, layerLines))
)

const sources = {
  "Lost the access feed; what is cached is looked up in the store until it is back": "The access feed is back",
  "Lost the hints at new events of runs; readers look for them until they are back":
    "New events of runs are heard of again",
  "The sweeper of ended sessions fails; it tries again": "The sweeper of ended sessions works again",
  "The sweeper of runs fails; it tries again": "The sweeper of runs works again",
  "The run log's reaper fails; runs whose process died stay as they are until it works again":
    "The run log's reaper works again",
  "The leases of runs cannot be extended; runs end as stale if it lasts": "The leases of runs are extended again"
}

describe("an outage of the stores under a whole process", () => {
  it.effect("OPS-06: is logged once for each source when it begins, and once when it is over", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const feed = yield* AccessFeed.AccessFeed
      const store = yield* Store
      for (let n = 0; n < 3; n++) {
        yield* log.execute(
          { threadId: `thread-${n}`, idempotencyKey: `key-${n}`, request: null, owner: { subject: "ada" } },
          () => Effect.never
        )
        yield* Effect.forkChild(Stream.runDrain(feed.subscribe()))
      }
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* lines, [])

      yield* store.lose
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(
        (yield* lines).toSorted(),
        Object.keys(sources).map((sentence) => `WARN ${sentence}`).toSorted()
      )
      yield* store.restore
      yield* TestClock.adjust("1 minute")
      const ends = (yield* lines).slice(Object.keys(sources).length)
      assert.deepStrictEqual(
        ends.map((line) => line.replace(/,? after [45]m.*$/, "")).toSorted(),
        Object.values(sources).map((sentence) => `INFO ${sentence}`).toSorted()
      )
    }).pipe(Effect.scoped, Effect.provide(Process)))
})
