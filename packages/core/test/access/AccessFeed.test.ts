import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
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

  it.effect("OPS-09: refuses a retention that is none, and says which variable it is", () =>
    Effect.gen(function*() {
      for (const retention of ["often", "-1 days"]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(AccessFeed.layerSweeperConfig))).pipe(
          Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_FEED_RETENTION: retention })))
        )
        assert.strictEqual(error._tag, "InvalidSweeperOptions")
        assert.include(error.message, "SALLYPORT_FEED_RETENTION must be a duration of at least 0 milliseconds")
        assert.include(error.message, JSON.stringify(retention))
      }
    }).pipe(Effect.provide(Layer.fresh(Repositories.layerMemory))))
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

describe("AccessFeed.history", () => {
  it.effect("FEED-04: finds the end of a link and of a session by a name that only an earlier event says, each once, in pages of any size", () =>
    Effect.gen(function*() {
      const { history } = yield* AccessFeed.AccessFeed
      const pairing = yield* BootstrapCredentialService.BootstrapCredentialService
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const issue = (label: string) => pairing.issue({ issuedBy: "operator", scopes: [], label })
      const method = "bearer-access-token"
      const { link } = yield* issue("Grandma’s tablet")
      const { session } = yield* sessions.issue({ subject: "ada", scopes: [], method, label: "Ada’s TABLET" })
      yield* sessions.rename(session.id, "Old tablet", "operator")
      const { link: other } = yield* issue("Hallway")
      yield* pairing.revoke(link.id, "operator")
      yield* sessions.revoke(session.id, "operator")
      yield* pairing.revoke(other.id, "operator")
      const named = ["3 sessionUpserted", "2 sessionUpserted", "1 pairingLinkUpserted"]
      const wanted = ["6 sessionRemoved", "5 pairingLinkRemoved", ...named]
      const found = Effect.fnUntraced(function*(limit: number) {
        const all: Array<string> = []
        let before: number | undefined
        do {
          const { events, next } = yield* history({ search: "tablet", limit, before })
          assert.isAtMost(events.length, limit)
          all.push(...events.map(({ change, revision }) => `${revision} ${change._tag}`))
          before = Option.getOrUndefined(next)
        } while (before !== undefined)
        return all
      })
      for (const limit of [200, 5]) assert.deepStrictEqual(yield* found(limit), wanted)
      // A smaller page may end between an end and the event that names it; none is told twice, and no name is left out.
      for (const limit of [4, 3, 2, 1]) {
        const all = yield* found(limit)
        assert.deepStrictEqual([...new Set(all)], all)
        assert.includeMembers(all, named)
        assert.includeMembers(wanted, all)
      }
      const links = (yield* history({ search: "tablet", kind: "pairingLink" })).events
      assert.deepStrictEqual(links.map(({ revision }) => revision), [5, 1])
      assert.deepStrictEqual((yield* history({ search: "hallway" })).events.map(({ revision }) => revision), [7, 4])
    }).pipe(Effect.provide(Layer.fresh(
      Layer.mergeAll(AccessFeed.layer, BootstrapCredentialService.layer, SessionCredentialService.layer).pipe(
        Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
        Layer.provide(NodeCrypto.layer)
      )
    ))))
})
