import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { Stopping } from "@sallyport/core/Stopping"
import { assert, describe, it } from "@effect/vitest"
import * as HealthHandlers from "@sallyport/http/HealthHandlers"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestSupport from "./support.ts"
import { Store } from "../../../test-support/outage.ts"

/** Mounts everything on a store that can be lost, and counts how often the feed is asked. */
const watched = (options: {
  readonly store: Store["Service"]
  readonly asked: Array<string>
  readonly stopping?: Effect.Effect<void>
  readonly checks?: (typeof HealthHandlers.Checks)["Service"]
}) =>
  Sallyport.layer().pipe(
    Layer.provide([
      Layer.succeed(Stopping, options.stopping ?? Effect.never),
      Layer.succeed(HealthHandlers.Checks, options.checks ?? {}),
      Layer.effect(
        AccessRepository,
        AccessRepository.useSync((repository) => {
          const feed = {
            ...repository.feed,
            latestRevision: Effect.suspend(() => {
              options.asked.push("latestRevision")
              return repository.feed.latestRevision
            })
          }
          return AccessRepository.of({ ...repository, feed: options.store.failing(feed) })
        })
      )
    ])
  )

const ready = (server: TestSupport.Server, path = "/api/health/ready") => server.send({ path })

/** Asks until the answer has a status. */
const until = (server: TestSupport.Server, status: number, path?: string): Effect.Effect<TestSupport.Answer> =>
  Effect.flatMap(
    ready(server, path),
    (answer) =>
      answer.status === status ? Effect.succeed(answer) : Effect.delay(until(server, status, path), "50 millis")
  )

describe("health", () => {
  it.live("OPS-11: tells without a session that the server is ready, with its checks and nothing else", () =>
    Effect.gen(function*() {
      const server = yield* TestSupport.start()
      const answer = yield* ready(server)
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual(answer.json, {
        status: "ok",
        checks: { store: { status: "ok" }, feed: { status: "ok" } }
      })
      assert.strictEqual(answer.headers["cache-control"], "no-store")
      assert.match(String(answer.headers["content-type"]), /^application\/json/)
      const live = yield* ready(server, "/api/health/live")
      assert.deepStrictEqual([live.status, live.json], [200, { status: "ok", checks: {} }])
      assert.strictEqual((yield* server.send({ method: "HEAD", path: "/api/health/ready" })).status, 200)
    }))

  it.live("OPS-11: a store that is lost makes the server not ready but live, and one that is back makes it ready", () =>
    Effect.gen(function*() {
      const store = yield* Store
      const server = yield* TestSupport.start({ routes: watched({ store, asked: [] }) })
      yield* until(server, 200)
      yield* store.lose
      const answer = yield* until(server, 503)
      assert.deepInclude(answer.json, {
        _tag: "NotReady",
        code: "not_ready",
        retryable: true,
        status: "failed",
        checks: { store: { status: "failed" }, feed: { status: "degraded" } }
      })
      assert.notInclude(answer.text, "database is gone")
      assert.strictEqual(answer.headers["cache-control"], "no-store")
      assert.strictEqual((yield* ready(server, "/api/health/live")).status, 200)
      yield* store.restore
      yield* until(server, 200)
    }).pipe(Effect.provide(Store.layer)))

  it.live("OPS-11: a store that does not answer makes the server not ready, and a check of the host does", () =>
    Effect.gen(function*() {
      const store = yield* Store
      let queue: Effect.Effect<"ok" | "degraded", string> = Effect.succeed("degraded")
      const server = yield* TestSupport.start({
        routes: watched({ store, asked: [], checks: { queue: Effect.suspend(() => queue) } })
      })
      const checks = { store: { status: "ok" }, feed: { status: "ok" } }
      assert.deepStrictEqual((yield* ready(server)).json, {
        status: "degraded",
        checks: { ...checks, queue: { status: "degraded" } }
      })
      queue = Effect.never
      assert.deepInclude((yield* until(server, 503)).json, { checks: { ...checks, queue: { status: "failed" } } })
      queue = Effect.fail("secret-path")
      const answer = yield* until(server, 503)
      assert.notInclude(answer.text, "secret-path")
      queue = Effect.die("secret-path")
      assert.notInclude((yield* until(server, 503)).text, "secret-path")
      queue = Effect.succeed("ok")
      assert.strictEqual((yield* until(server, 200)).json.status, "ok")
    }).pipe(Effect.provide(Store.layer)))

  it.live("OPS-11: however many ask within a second, the store is asked once, and clients that go away stop nothing", () =>
    Effect.gen(function*() {
      const store = yield* Store
      const asked: Array<string> = []
      const gate = yield* Deferred.make<void>()
      let held = 0
      const server = yield* TestSupport.start({
        routes: watched({
          store,
          asked,
          checks: {
            gate: Effect.suspend(() => {
              held++
              return Effect.as(Deferred.await(gate), "ok" as const)
            })
          }
        })
      })
      asked.length = 0
      yield* Effect.timeoutOption(ready(server), "100 millis")
      const answers = Effect.all(Array.from({ length: 50 }, () => ready(server)), { concurrency: "unbounded" })
      yield* Effect.forkChild(Effect.delay(Deferred.succeed(gate, undefined), "100 millis"))
      assert.deepStrictEqual((yield* answers).map(({ status }) => status), Array.from({ length: 50 }, () => 200))
      assert.isAtMost(held, asked.length)
      assert.isBelow(held, 10)
    }).pipe(Effect.provide(Store.layer)))

  it.live("OPS-11: says that the server stops, to those who still reach it", () =>
    Effect.gen(function*() {
      const store = yield* Store
      const stopping = yield* Deferred.make<void>()
      const server = yield* TestSupport.start({
        routes: watched({ store, asked: [], stopping: Deferred.await(stopping) })
      })
      yield* until(server, 200)
      yield* Deferred.succeed(stopping, undefined)
      const answer = yield* until(server, 503)
      assert.deepInclude(answer.json, { status: "stopping", checks: {} })
      assert.strictEqual((yield* ready(server, "/api/health/live")).status, 200)
    }).pipe(Effect.provide(Store.layer)))
})
