import { assert, describe, it } from "@effect/vitest"
import { RunId } from "@sallyport/core/runs/Run"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"
import { postgres, sqliteMemory } from "../../../../test-support/databases.ts"

/** Lists every text that a program runs, with the parameters of the last time. */
const recording = (texts: Map<string, ReadonlyArray<unknown>>) =>
  Effect.provideService(Statement.CurrentTransformer, (statement) =>
    Effect.sync(() => {
      texts.set(...statement.compile())
      return statement
    }))

const runIdOf = (index: number) => RunId.make(`01970000-0000-7000-8000-${String(index).padStart(12, "0")}`)

const exercise = Effect.gen(function*() {
  const repository = yield* RunEventRepository.RunEventRepository
  const start = (index: number, leaseMillis: number) =>
    repository.start({
      runId: runIdOf(index),
      threadId: `thread ${index}`,
      ownerKey: "owner",
      ownerSubject: "owner",
      ownerOrg: null,
      idempotencyKey: `key ${index}`,
      requestDigest: "",
      metadata: "{}",
      leaseMillis,
      abortedData: "{}"
    })
  const abortByKey = (index: number) =>
    repository.abortByKey({
      ownerKey: "owner",
      threadId: `thread ${index}`,
      idempotencyKey: `key ${index}`,
      reason: null,
      data: "{}"
    })
  const runIds: Array<string> = []
  yield* abortByKey(0)
  yield* abortByKey(99)
  for (let index = 0; index < 6; index++) {
    const outcome = yield* start(index, index === 1 ? -1_000 : 60_000)
    if (outcome._tag === "Created") runIds.push(outcome.run.runId)
  }
  yield* repository.start({
    runId: runIdOf(10),
    threadId: "thread 5",
    ownerKey: "owner",
    ownerSubject: "owner",
    ownerOrg: null,
    idempotencyKey: "another",
    requestDigest: "",
    metadata: "{}",
    leaseMillis: 60_000,
    abortedData: "{}"
  })
  // Ends the expired run of the thread.
  yield* repository.start({
    runId: runIdOf(11),
    threadId: "thread 1",
    ownerKey: "owner",
    ownerSubject: "owner",
    ownerOrg: null,
    idempotencyKey: "next",
    requestDigest: "",
    metadata: "{}",
    leaseMillis: 60_000,
    abortedData: "{}",
    stale: { reason: "stale_run", data: "{}", maxEpoch: 3, patienceMillis: 1_000 }
  })
  const [, , two = "", three = "", four = "", five = ""] = runIds
  const item = (runId: string) => ({ runId, epoch: 1, events: ["1", "2"], byteCount: 2 })
  yield* repository.append({ items: [item(two)], maxEvents: 100, maxBytes: 100 })
  yield* repository.append({ items: [item(two), item(three)], maxEvents: 100, maxBytes: 100 })
  yield* repository.append({ items: [two, three, four, five].map(item), maxEvents: 100, maxBytes: 100 })
  const asked = { runId: two, name: "go on?", data: "{}", byteCount: 2 }
  yield* repository.ask({ ...asked, epoch: 1, maxEvents: 100, maxBytes: 100 })
  yield* repository.answer({ ...asked, ownerKey: "owner", value: "1" })
  const waiting = {
    threadId: "thread 5",
    ownerKey: "owner",
    ownerSubject: "owner",
    ownerOrg: null,
    requestDigest: "",
    metadata: "{}",
    leaseMillis: 60_000,
    abortedData: "{}",
    maxRunning: 100
  }
  yield* repository.start({
    ...waiting,
    runId: runIdOf(12),
    idempotencyKey: "q",
    whenBusy: { _tag: "Enqueue", max: 9 }
  })
  yield* repository.takeTurn({ runId: runIdOf(12), epoch: 1, leaseMillis: 60_000 })
  const end = { reason: "interrupted_by_run", data: "{}" }
  yield* repository.start({ ...waiting, runId: runIdOf(13), idempotencyKey: "i", whenBusy: { _tag: "Interrupt", end } })
  const engine = { ...waiting, threadId: "engine", workflow: "1", leaseMillis: -1_000 }
  yield* repository.start({ ...engine, runId: runIdOf(14), idempotencyKey: "w" })
  yield* repository.wake({ limit: 10, leaseMillis: 60_000 })
  yield* repository.activate({ runId: runIdOf(14), leaseMillis: 60_000 })
  yield* repository.heartbeat({ runId: runIdOf(14), epoch: 2, leaseMillis: 60_000, forward: true })
  yield* repository.append({ items: [{ ...item(runIdOf(14)), epoch: 2, key: "k" }], maxEvents: 100, maxBytes: 100 })
  yield* repository.takeOver({ limit: 10, leaseMillis: 60_000, maxEpoch: 3 })
  yield* repository.heartbeat({ runId: two, epoch: 1, leaseMillis: 60_000 })
  yield* repository.reap({ limit: 10, reason: "stale_run", data: "{}", maxEpoch: 3, patienceMillis: 1_000 })
  yield* repository.finish({ runId: two, epoch: 1, status: "succeeded", reason: null, data: "{}" })
  yield* repository.finish({ runId: two, epoch: 1, status: "succeeded", reason: null, data: "{}" })
  const compacted = { seq: 4, data: "1", byteCount: 1 }
  const events = [{ ...compacted, seq: 2 }, compacted, { ...compacted, seq: 8 }]
  assert.strictEqual((yield* repository.compact({ runId: two, ownerKey: "owner", events }))._tag, "Compacted")
  yield* repository.abort({ runId: three, ownerKey: undefined, reason: null, data: "{}" })
  yield* repository.abort({ runId: four, ownerKey: "owner", reason: null, data: "{}" })
  yield* abortByKey(5)
  yield* repository.get(five)
  yield* repository.getByKey({ ownerKey: "owner", idempotencyKey: "another" })
  yield* repository.activeForThread({ ownerKey: "owner", threadId: "thread 5", windowMillis: 1_000 })
  for (
    const [threadId, status] of [[], ["thread 5"], [undefined, "aborted"], ["thread 5", "running"], [
      undefined,
      "waiting"
    ]] as const
  ) {
    yield* repository.list({ ownerKey: "owner", threadId, status, limit: 10 })
  }
  for (const threadId of [undefined, "thread 5"]) {
    for (
      const which of [
        { _tag: "After", startedAtMillis: 5, limit: 1 },
        { _tag: "At", startedAtMillis: [5, 6] },
        { _tag: "Alive" }
      ] as const
    ) {
      yield* repository.listFollowed({ ownerKey: "owner", threadId, which })
    }
  }
  yield* repository.newestStarts(["owner", "another"])
  yield* repository.read({ runId: two, after: 1, limit: 10 })
  yield* repository.heads([two, three])
  yield* repository.now
  yield* repository.sweep({ limit: 100, retentionMillis: -1_000, tombstoneMillis: -1_000 })
  yield* repository.sweep({ limit: 100, retentionMillis: -1_000, tombstoneMillis: -1_000 })
})

/** What a plan says, line by line. */
const explain = (text: string, parameters: ReadonlyArray<unknown>) =>
  SqlClient.SqlClient.use((sql) =>
    Effect.map(
      sql.unsafe<{ readonly "QUERY PLAN": string }>(`EXPLAIN ${text}`, parameters),
      (rows) => rows.map((row) => row["QUERY PLAN"]).join("\n")
    )
  )

describe("the plans of SqlRunEventRepository", () => {
  it.live("RUN-14 L-82: no statement scans a table on SQLite", () =>
    Effect.gen(function*() {
      const texts = new Map<string, ReadonlyArray<unknown>>()
      yield* exercise.pipe(
        recording(texts),
        Effect.provide(
          Layer.provide(SqlRunEventRepository.layerStorage(), SqlRunEventRepository.layerMigrations())
        )
      )
      assert.isAbove(texts.size, 20)
      const sql = yield* SqlClient.SqlClient
      for (const [text, parameters] of texts) {
        const plan = yield* sql.unsafe<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${text}`, parameters)
        for (const { detail } of plan) {
          // What a statement has picked itself, and its parameters, are bounded.
          if (/^SCAN (json_each|picked|counted$|new$|CONSTANT ROW|\d+-ROW VALUES CLAUSE)/.test(detail)) continue
          // A scan of a partial index, in its order, ends at the limit.
          assert.notMatch(detail, /^SCAN|TEMP B-TREE/, `${text}\n${detail}`)
        }
      }
    }).pipe(Effect.provide(sqliteMemory)))

  it.live("RUN-14 L-82: no statement scans a table on PostgreSQL", () =>
    Effect.gen(function*() {
      const texts = new Map<string, ReadonlyArray<unknown>>()
      yield* exercise.pipe(
        recording(texts),
        Effect.provide(
          Layer.provide(SqlRunEventRepository.layerStorage(), SqlRunEventRepository.layerMigrations())
        )
      )
      const sql = yield* SqlClient.SqlClient
      const plans = Array.from(texts).filter(([text]) => !/pg_advisory_xact_lock|^SHOW/.test(text))
      assert.isAbove(plans.length, 20)
      yield* sql.withTransaction(Effect.gen(function*() {
        // On tables this small a scan is the cheapest plan; what counts is whether there is another.
        yield* sql`SET LOCAL enable_seqscan = off`
        for (const [text, parameters] of plans) {
          assert.notMatch(yield* explain(text, parameters), /Seq Scan/, text)
        }
      }))
      // An append looks rows up by their keys, however many runs are running and whatever PostgreSQL knows of them.
      const [append] = plans.filter(([text]) => text.includes("FOR SHARE"))
      if (append === undefined) throw new Error("No append was planned")
      const check = Effect.gen(function*() {
        const plan = yield* explain(...append)
        assert.match(plan, /Index Scan using \w*runs_pkey/, plan)
        assert.match(plan, /Index Scan Backward using \w*run_events_pkey/, plan)
        assert.notMatch(plan, /Seq Scan|Bitmap|thread_slot/, plan)
      })
      yield* check
      yield* sql`INSERT INTO sallyport_runs (run_id, thread_id, owner_key, owner_subject, idempotency_key, request_digest,
          metadata, status, epoch, lease_expires_at_millis, started_at_millis, open_questions)
        SELECT 'r' || n, 't' || n, 'o', 'o', 'k' || n, '', '{}', 'running', 1, 1, 1, 0 FROM generate_series(1, 3000) AS t(n)`
      yield* sql`INSERT INTO sallyport_run_events (run_id, seq, kind, data, at_millis, byte_total)
        SELECT 'r' || (n % 30), n, 'data', '1', 1, 1 FROM generate_series(1, 3000) AS t(n)`
      yield* check
      yield* sql`ANALYZE sallyport_runs, sallyport_run_events`
      yield* check
    }).pipe(Effect.provide(postgres)))

  // What a planner knows of a table is another plan's reason.
  for (const [name, layer] of [["SQLite", sqliteMemory], ["PostgreSQL", postgres]] as const) {
    it.live(
      `RUN-14 RUN-23: what a follower asks for is found by an index among many runs (${name})`,
      () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const isPg = name === "PostgreSQL"
          const numbers = isPg
            ? "SELECT value FROM generate_series(1, 30000) AS numbers(value)"
            : "WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < 30000) " +
              "SELECT value FROM numbers"
          yield* Layer.build(SqlRunEventRepository.layerMigrations())
          // One owner has a third of them, most of which have ended, and most of those in one thread.
          yield* sql.unsafe(
            `INSERT INTO sallyport_runs (run_id, thread_id, owner_key, owner_subject, idempotency_key, request_digest, status,
            epoch, lease_expires_at_millis, started_at_millis, completed_at_millis, end_seq, event_count, byte_count,
            metadata, open_questions)
          SELECT '01970000-0000-7000-8000-' || (100000000000 + value), CASE WHEN value % 9 = 0 THEN 't' || value ELSE 'thread' END,
            CASE WHEN value % 3 = 0 THEN 'owner' ELSE 'owner ' || value END, 'owner', 'k' || value, '',
            CASE WHEN value % 999 = 0 THEN 'running' ELSE 'succeeded' END, 1,
            CASE WHEN value % 999 = 0 THEN 1 END, value, CASE WHEN value % 999 = 0 THEN NULL ELSE value END,
            CASE WHEN value % 999 = 0 THEN NULL ELSE 1 END, CASE WHEN value % 999 = 0 THEN NULL ELSE 0 END,
            CASE WHEN value % 999 = 0 THEN NULL ELSE 0 END, '{}', 0
          FROM (${numbers}) AS numbers`
          )
          yield* sql.unsafe(
            `INSERT INTO sallyport_run_events (run_id, seq, kind, data, at_millis, byte_total)
          SELECT run_id, 1, 'data', '{}', 1, 2 FROM sallyport_runs`
          )
          yield* sql.unsafe("ANALYZE")
          const texts = new Map<string, ReadonlyArray<unknown>>()
          yield* Effect.gen(function*() {
            const repository = yield* RunEventRepository.RunEventRepository
            const list = (which: RunEventRepository.FollowedRuns, threadId?: string) =>
              Effect.map(repository.listFollowed({ ownerKey: "owner", threadId, which }), (rows) => rows.length)
            assert.strictEqual(yield* list({ _tag: "After", startedAtMillis: 100, limit: 7 }), 7)
            assert.strictEqual(yield* list({ _tag: "After", startedAtMillis: 29_000, limit: 7 }, "thread"), 7)
            assert.strictEqual(yield* list({ _tag: "At", startedAtMillis: [3, 2_997, 29_997] }), 3)
            assert.strictEqual(yield* list({ _tag: "Alive" }), 30)
            assert.strictEqual((yield* repository.newestStarts(["owner", "owner 1", "nobody"])).get("owner"), 30_000)
          }).pipe(recording(texts), Effect.provide(SqlRunEventRepository.layerStorage()))
          const asked = Array.from(texts).filter(([text]) => text.includes("sallyport_runs"))
          assert.isAtLeast(asked.length, 5)
          for (const [text, parameters] of asked) {
            if (isPg) {
              const plan = yield* sql.unsafe<{ readonly "QUERY PLAN": string }>(
                `EXPLAIN (ANALYZE, TIMING OFF) ${text}`,
                parameters
              )
              const lines = plan.map((row) => row["QUERY PLAN"])
              assert.notMatch(lines.join("\n"), /Seq Scan/, text)
              // Neither does it read many rows to answer with few.
              for (const line of lines) {
                const [, count = "0"] = /(?:rows=|Rows Removed by Filter: )(\d+)(?!.*rows=)/.exec(line) ?? []
                assert.isAtMost(Number(count), 100, `${text}\n${lines.join("\n")}`)
              }
            } else {
              const plan = yield* sql.unsafe<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${text}`, parameters)
              // The newest of an owner is the first in the order of the index.
              if (text.startsWith("SELECT value AS")) continue
              for (const { detail } of plan) {
                assert.notMatch(
                  detail,
                  /^SCAN (?!json_each)|TEMP B-TREE|SEARCH .*\(owner_key=\?\)$/,
                  `${text}\n${detail}`
                )
              }
            }
          }
        }).pipe(Effect.scoped, Effect.provide(layer)),
      60_000
    )
  }
})
