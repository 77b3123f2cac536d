/**
 * Nodes behind a pooler that hands connections out by transaction.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as PgWakeUps from "@sallyport/pg/PgWakeUps"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { inject } from "vitest"
import { postgres } from "../../../../test-support/databases.ts"
import * as Outages from "../../../../test-support/outage.ts"
import { pooler } from "../../../../test-support/pooler.ts"
import { eventually } from "../../../../test-support/programs.ts"

const begins = "WARN Notifications of PostgreSQL do not reach this process"
const ends = "INFO Notifications of PostgreSQL reach this process again"

/** Puts a pooler before a new database, and returns how to start a node behind it, with what the node logs. */
const arrange = Effect.gen(function*() {
  const direct = yield* Layer.build(postgres)
  const { config } = yield* Effect.provideContext(PgClient.PgClient, direct)
  const { password, port, username } = inject("postgres")
  const pool = yield* pooler({ port, size: 3 })
  const url = (parameters: string) =>
    Redacted.make(`postgres://${username}:${password}@127.0.0.1:${pool.port}/${config.database}${parameters}`)
  const node = (parameters = "?prepare=false") => {
    const stores = Layer.mergeAll(SqlRepositories.layer, SqlSecretStore.layer, SqlDurableStreamRepository.layer).pipe(
      Layer.provide(PgWakeUps.layerWith({ heartbeat: "300 millis" })),
      Layer.provide(PgDatabase.layer({ url: url(parameters), maxConnections: 4 }))
    )
    return Layer.build(Layer.fresh(
      Layer.mergeAll(
        SessionCredentialService.layer,
        BootstrapCredentialService.layer,
        RunEventLog.layer,
        AccessFeed.layer,
        DurableStreams.layer
      ).pipe(
        Layer.provide(stores),
        Layer.provide(NodeCrypto.layer),
        Layer.provideMerge(Outages.layerLines)
      )
    ))
  }
  return { pool, url, node }
})

// Each waits for what is looked for from time to time.
describe("a pooler that hands connections out by transaction", { concurrent: true }, () => {
  it.live("OPS-04 C-55: two nodes work without prepared statements, warn once, and see each other's changes by looking", () =>
    Effect.gen(function*() {
      const { node, pool } = yield* arrange
      const one = yield* node()
      const other = yield* node()
      const logged = (at: typeof one, line: string) =>
        Effect.map(
          Effect.provideContext(Outages.lines, at),
          (lines) => lines.filter((text) => text.startsWith(line)).length
        )
      const { session, token } = yield* SessionCredentialService.SessionCredentialService.use((sessions) =>
        sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "bearer-access-token" })
      ).pipe(Effect.provideContext(one))
      const verify = SessionCredentialService.SessionCredentialService.use((sessions) => sessions.verify(token)).pipe(
        Effect.provideContext(other)
      )
      assert.strictEqual((yield* verify).id, session.id)

      // A run of one node is followed on the other.
      const { run } = yield* RunEventLog.RunEventLog.use((runs) =>
        runs.execute(
          { threadId: "thread", idempotencyKey: "key", owner: { subject: "ada" }, request: null },
          (writer) =>
            Effect.forEach([1, 2, 3], (n) => Effect.andThen(writer.append(n), Effect.sleep("50 millis")), {
              discard: true
            })
        )
      ).pipe(Effect.provideContext(one))
      const events = yield* RunEventLog.RunEventLog.use((runs) => runs.events({ runId: run.runId })).pipe(
        Effect.flatMap(Stream.runCollect),
        Effect.provideContext(other)
      )
      assert.deepStrictEqual(events.map(({ data }) => data), [1, 2, 3, { status: "succeeded" }])

      // Each node says once that it is not told.
      for (const at of [one, other]) yield* eventually(logged(at, begins), (count) => count > 0)
      yield* Effect.sleep("2 seconds")
      for (const at of [one, other]) assert.strictEqual(yield* logged(at, begins), 1)

      // The other node verifies from its memory, and hears of a revocation by looking.
      yield* verify
      yield* SessionCredentialService.SessionCredentialService.use((sessions) =>
        sessions.revoke(session.id, "operator")
      )
        .pipe(Effect.provideContext(one))
      yield* eventually(Effect.exit(verify), ({ _tag }) => _tag === "Failure")

      // And each says once that it is told again.
      pool.passNotifications(true)
      for (const at of [one, other]) yield* eventually(logged(at, ends), (count) => count > 0)
      yield* Effect.sleep("1 second")
      for (const at of [one, other]) {
        assert.deepStrictEqual([yield* logged(at, begins), yield* logged(at, ends)], [1, 1])
      }
      assert.isAtMost(pool.size(), 3)
    }).pipe(Effect.scoped))

  it.live("OPS-04 C-55: followers of the feed and of a stream on the other node get each change, one after the other", () =>
    Effect.gen(function*() {
      const { node } = yield* arrange
      const one = yield* node()
      const other = yield* node()
      const path = { owner: { subject: "ada" }, path: "notes" }
      const streams = <A, E, R>(use: (streams: DurableStreams.DurableStreams["Service"]) => Effect.Effect<A, E, R>) =>
        DurableStreams.DurableStreams.use(use)
      yield* streams((all) => all.create({ ...path, contentType: "text/plain" })).pipe(Effect.provideContext(one))
      let page = yield* streams((all) => all.read(path)).pipe(Effect.provideContext(other))
      const changes = yield* Queue.unbounded<number>()
      yield* Stream.unwrap(AccessFeed.AccessFeed.useSync((feed) => feed.events({ after: 0 }))).pipe(
        Stream.runForEach(({ revision }) => Queue.offer(changes, revision)),
        Effect.provideContext(other),
        Effect.forkScoped
      )
      for (let n = 1; n <= 5; n++) {
        yield* BootstrapCredentialService.BootstrapCredentialService.use((links) =>
          links.issue({ issuedBy: "operator", scopes: ["runs:read"] })
        ).pipe(Effect.provideContext(one))
        assert.strictEqual(yield* Queue.take(changes), n)
        const data = new TextEncoder().encode(`${n}`)
        yield* streams((all) => all.append({ ...path, contentType: "text/plain", data })).pipe(
          Effect.provideContext(one)
        )
        const seen = page
        page = yield* Effect.repeat(
          streams((all) => all.readNext({ ...path, after: seen })).pipe(Effect.provideContext(other)),
          { until: ({ pieces }) => pieces.length > 0 }
        )
        assert.deepStrictEqual(page.pieces.map((piece) => new TextDecoder().decode(piece)), [`${n}`])
      }
    }).pipe(Effect.scoped))

  it.live("OPS-04 C-55: the database of a start without a pooler is told of at once, and nothing is logged", () =>
    Effect.gen(function*() {
      const node = yield* Layer.build(
        Layer.merge(SessionCredentialService.layer, BootstrapCredentialService.layer).pipe(
          Layer.provide(Layer.merge(PgRepositories.layer, SqlSecretStore.layer)),
          Layer.provide(postgres),
          Layer.provide(NodeCrypto.layer),
          Layer.provideMerge(Outages.layerLines)
        )
      )
      yield* Effect.sleep("5 seconds")
      assert.deepStrictEqual(yield* Effect.provideContext(Outages.lines, node), [])
    }).pipe(Effect.scoped))
})
