/**
 * What nodes whose clocks are minutes apart, or jump, make of runs, the feed and limits. `access/TwoClocks` has sessions and
 * links.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import type { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SqlRateLimiterStore from "@sallyport/core/access/SqlRateLimiterStore"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RateLimiter from "effect/persistence/RateLimiter"
import type * as Redacted from "effect/Redacted"
import type { SqlClient } from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Clocks from "../../../test-support/clock.ts"
import { postgres, postgresSerializable } from "../../../test-support/databases.ts"

const Sessions = SessionCredentialService.SessionCredentialService
const Links = BootstrapCredentialService.BootstrapCredentialService
const Runs = RunEventLog.RunEventLog

const Services = Layer.mergeAll(
  SessionCredentialService.layerWith({ refresh: { tokenLifetime: "2 minutes" } }),
  BootstrapCredentialService.layer,
  AccessFeed.layer,
  RateLimiter.layer.pipe(Layer.provide(SqlRateLimiterStore.layer)),
  RunEventLog.layerReaper({ interval: "50 millis" }).pipe(
    Layer.provideMerge(RunEventLog.layerWith({ heartbeatInterval: "500 millis", lease: "2 seconds" }))
  )
)

const minutes = (count: number) => count * 60_000

/** Starts a node whose time of day is wrong by as much as the test says, and returns how to run something on it. */
const startNode = Effect.fnUntraced(function*(
  database: Context.Context<SqlClient | PgClient>,
  aheadMillis: () => number
) {
  const real = yield* Clock.Clock
  const wrong = Clocks.telling(() => real.currentTimeMillisUnsafe() + aheadMillis(), real)
  const node = yield* Layer.build(Layer.fresh(Services.pipe(
    Layer.provideMerge(Layer.merge(PgRepositories.layer, SqlSecretStore.layer)),
    Layer.provideMerge(NodeCrypto.layer),
    Layer.provide(Layer.succeedContext(database))
  ))).pipe(Effect.provideService(Clock.Clock, wrong))
  return Effect.provideContext(node)
})

const issue = Sessions.use((sessions) =>
  sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "bearer-access-token" })
)
const verify = (token: Redacted.Redacted) => Sessions.use((sessions) => sessions.verify(token))
for (const [name, layer] of [["PostgreSQL", postgres], ["PostgreSQL at serializable", postgresSerializable]] as const) {
  // Each waits until leases would have run out.
  describe(`two nodes on ${name} whose clocks are apart`, { concurrent: true }, () => {
    for (const ahead of [-5, 5]) {
      it.live(`OPS-05 RUN-16: by ${ahead} minutes: a run goes on beyond its lease, and the feed tells when each change was made`, () =>
        Effect.gen(function*() {
          const database = yield* Layer.build(layer)
          const one = yield* startNode(database, () => minutes(ahead))
          const other = yield* startNode(database, () => 0)
          for (const [here, there] of [[one, other], [other, one]] as const) {
            yield* there(verify((yield* here(issue)).token))
            // A run that is longer than its lease, which neither node's reaper ends.
            const key = String(here === one)
            const { run } = yield* here(Runs.use((runs) =>
              runs.execute(
                { threadId: key, idempotencyKey: key, request: null, owner: { subject: "ada" } },
                (writer) =>
                  Effect.forEach([1, 2, 3, 4], (n) => Effect.andThen(writer.append(n), Effect.sleep("800 millis")), {
                    discard: true
                  })
              )
            ))
            const events = yield* there(
              Effect.flatMap(Runs.use((runs) => runs.events({ runId: run.runId })), Stream.runCollect)
            )
            assert.deepStrictEqual(events.map(({ data }) => data), [1, 2, 3, 4, { status: "succeeded" }])
          }
          // Each change is in the feed at the time at which it was made, whichever node made it.
          const { events } = yield* one(AccessFeed.AccessFeed.use((feed) => feed.history({})))
          assert.isAbove(events.length, 1)
          const now = yield* Clock.currentTimeMillis
          for (const { at } of events) assert.closeTo(at.epochMilliseconds, now, 60_000)
        }).pipe(Effect.scoped))
    }

    it.live("OPS-05 BOOT-06: a jump of a node's time of day ends no session and no link, and gives no limit away", () =>
      Effect.gen(function*() {
        const database = yield* Layer.build(layer)
        let aheadMillis = 0
        const node = yield* startNode(database, () => aheadMillis)
        const issued = yield* node(issue)
        const { code } = yield* node(Links.use((links) => links.issue({ issuedBy: "operator", scopes: ["runs:read"] })))
        const attempt = node(
          RateLimiter.RateLimiter.use((limiter) =>
            limiter.consume({
              key: "source",
              limit: 3,
              window: "1 minute",
              onExceeded: "fail",
              algorithm: "fixed-window"
            })
          )
        )
        for (let n = 0; n < 3; n++) yield* attempt
        for (const jump of [minutes(10), -minutes(10), minutes(1_500)]) {
          aheadMillis = jump
          yield* Effect.flip(attempt)
          yield* node(verify(issued.token))
        }
        yield* node(Links.use((links) => links.redeem({ credential: code, method: "bearer-access-token" })))
      }).pipe(Effect.scoped))
  })
}
