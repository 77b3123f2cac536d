import { assert, describe, it } from "@effect/vitest"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as RunEventRepositorySuite from "@sallyport/testing/RunEventRepositorySuite"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { databases, postgres } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  RunEventRepositorySuite.suite(name, Layer.provide(SqlRunEventRepository.layer, layer))
}

describe("SqlRunEventRepository on PostgreSQL", () => {
  it.live("RUN-04 RUN-05 RUN-03: what ends a run or raises its epoch waits for its append, and counts that too", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const repository = yield* RunEventRepository
      const ways = {
        finish: (runId: string) =>
          repository.finish({ runId, epoch: 1, status: "succeeded", reason: null, data: "{}" }),
        abort: (runId: string) => repository.abort({ runId, ownerKey: "owner", reason: null, data: "{}" }),
        activate: (runId: string) => repository.activate({ runId, leaseMillis: 60_000 })
      }
      for (const [way, end] of Object.entries(ways)) {
        const runId = `run ${way}`
        const items = [{ runId, epoch: 1, events: ["1", "22"], byteCount: 3 }]
        yield* repository.start({
          runId,
          threadId: way,
          ownerKey: "owner",
          ownerSubject: "owner",
          ownerOrg: null,
          idempotencyKey: way,
          requestDigest: "",
          metadata: "{}",
          leaseMillis: 60_000,
          abortedData: "{}",
          workflow: "1"
        })
        yield* repository.append({ items, maxEvents: 100, maxBytes: 100 })
        const appended = yield* Deferred.make<void>()
        const waited = yield* Deferred.make<void>()
        // The append of a transaction that goes on for longer than the look of the other.
        const appending = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
          yield* repository.append({ items, maxEvents: 100, maxBytes: 100 })
          yield* Deferred.succeed(appended, undefined)
          yield* Deferred.await(waited)
        })))
        yield* Deferred.await(appended)
        const ending = yield* Effect.forkChild(end(runId))
        const waiting = sql<{ readonly n: unknown }>`SELECT count(*) AS n FROM pg_stat_activity
          WHERE wait_event_type = 'Lock' AND datname = current_database()`
        yield* Effect.repeat(waiting, { until: ([row]) => Number(row?.n) > 0 })
        yield* Deferred.succeed(waited, undefined)
        yield* Fiber.join(appending)
        const outcome = yield* Fiber.join(ending)
        const lastSeq = way === "activate" ? 4 : 5
        assert.deepInclude("run" in outcome ? outcome.run : undefined, { lastSeq, eventCount: 4, byteCount: 6 }, way)
        const events = yield* repository.read({ runId, after: 0, limit: 10 })
        assert.deepStrictEqual(events.map(({ seq }) => seq), [1, 2, 3, 4, 5].slice(0, lastSeq))
        assert.deepStrictEqual(events.map(({ kind }) => kind).indexOf("end"), way === "activate" ? -1 : 4)
      }
    }).pipe(Effect.provide(Layer.provideMerge(SqlRunEventRepository.layer, postgres))))
})
