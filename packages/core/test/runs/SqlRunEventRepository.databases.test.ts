import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@sallyport/core/runs/Run"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as RunEventRepositorySuite from "@sallyport/testing/RunEventRepositorySuite"
import { NodeServices } from "@effect/platform-node"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { databases, postgres, withTables } from "../../../../test-support/databases.ts"

for (const { layer, name } of databases) {
  RunEventRepositorySuite.suite(name, withTables(layer, SqlRunEventRepository.layer))
}

const runIdOf = (index: number) => RunId.make(`01970000-0000-7000-8000-${String(index).padStart(12, "0")}`)

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
      for (const [index, [way, end]] of Object.entries(ways).entries()) {
        const runId = runIdOf(index)
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

describe("SqlRunEventRepository on SQLite", () => {
  it.live("RUN-03 RUN-04 RUN-05: what others did between two batches is seen on every connection, and what was undone is not", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = `${yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-sqlite-" })}/test.db`
      const client = yield* Layer.build(SqliteClient.layer({ filename }))
      const other = yield* Layer.build(SqliteClient.layer({ filename }))
      const on = (context: typeof client) =>
        Effect.provide(
          RunEventRepository,
          Layer.provide(Layer.fresh(SqlRunEventRepository.layer), Layer.succeedContext(context))
        )
      const sql = Context.get(client, SqlClient.SqlClient)
      const repository = yield* on(client)
      const others = { "of the same client": yield* on(client), "of another client": yield* on(other) }
      const runIds = Array.from({ length: 12 }, (_, index) => runIdOf(index))
      for (const runId of runIds) {
        yield* repository.start({
          runId,
          threadId: runId,
          ownerKey: "owner",
          ownerSubject: "owner",
          ownerOrg: null,
          idempotencyKey: runId,
          requestDigest: "",
          metadata: "{}",
          leaseMillis: 60_000,
          abortedData: "{}",
          workflow: "1"
        })
      }
      const items = (ids: ReadonlyArray<string>) =>
        ids.map((runId) => ({ runId, epoch: 1, events: ["1", "2"], byteCount: 2 }))
      const appendTo = (by: typeof repository, ids: ReadonlyArray<string>) =>
        Effect.map(
          by.append({ items: items(ids), maxEvents: 1_000, maxBytes: 1_000 }),
          (outcomes) => outcomes.map((outcome) => outcome._tag === "Appended" ? outcome.lastSeq : outcome._tag)
        )
      const all = (seq: number) => runIds.map((): number | string => seq)
      assert.deepStrictEqual(yield* appendTo(repository, runIds), all(2))
      assert.deepStrictEqual(yield* appendTo(repository, runIds), all(4))
      // A transaction that is undone.
      yield* Effect.ignore(sql.withTransaction(Effect.andThen(appendTo(repository, runIds), Effect.fail("undone"))))
      assert.deepStrictEqual(yield* appendTo(repository, runIds), all(6))
      let last = 6
      const odd = all(0)
      for (const [index, [, by]] of Object.entries(Object.entries(others))) {
        yield* appendTo(by, runIds)
        yield* appendTo(repository, runIds.toReversed())
        last += 4
        const [ended = "", raised = ""] = runIds.slice(Number(index) * 2)
        yield* by.abort({ runId: ended, ownerKey: undefined, reason: null, data: "{}" })
        yield* by.activate({ runId: raised, leaseMillis: 60_000 })
        odd[Number(index) * 2] = "Ended"
        odd[Number(index) * 2 + 1] = "Fenced"
        last += 2
        assert.deepStrictEqual(yield* appendTo(repository, runIds), all(last).map((seq, at) => odd[at] || seq))
        assert.deepStrictEqual(yield* appendTo(repository, runIds), all(last += 2).map((seq, at) => odd[at] || seq))
      }
      for (const runId of runIds) {
        const events = yield* repository.read({ runId, after: 0, limit: 100 })
        assert.deepStrictEqual(events.map(({ seq }) => seq), events.map((_, at) => at + 1), runId)
      }
      // A run may have too much by now.
      const full = yield* repository.append({ items: items(runIds.slice(4)), maxEvents: last + 1, maxBytes: 1_000 })
      assert.deepStrictEqual(new Set(full.map(({ _tag }) => _tag)), new Set(["LimitExceeded"]))
    }).pipe(Effect.provide(NodeServices.layer), Effect.scoped))
})
