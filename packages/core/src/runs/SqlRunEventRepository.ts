/**
 * Keeps runs and their events in SQLite or PostgreSQL.
 *
 * Tables: `<prefix>runs`, `<prefix>run_events`, `<prefix>run_questions`, `<prefix>run_writes`,
 * `<prefix>run_aborts`; history of migrations: `<prefix>runs_migrations`.
 * Times are the database's. An append leaves the run's row alone: the number and the size of the log of a run that has
 * not ended are those of its last event, whose key no other writer can take. On PostgreSQL an append holds a shared lock on
 * the row, so that what ends the run or raises its epoch waits for it. Others wait for each other on the row; on SQLite
 * every transaction is exclusive from its beginning (`BEGIN IMMEDIATE`).
 */
import {
  type AbortByKeyOutcome,
  type AbortOutcome,
  type ActivateOutcome,
  type AnswerOutcome,
  type AppendHead,
  type AppendItem,
  type AppendOutcome,
  asItem,
  type AskOutcome,
  type CompactOutcome,
  type FinishOutcome,
  type HeartbeatOutcome,
  type KeyedWrite,
  type NewEvent,
  planAppend,
  type QuietRun,
  refuse,
  refuseAppend,
  refuseCompaction,
  RunEventRepository,
  type RunEventRow,
  type RunHead,
  RunRow,
  type StaleEnd,
  type StartOptions,
  type StartOutcome,
  type TakenRun,
  type TurnOutcome,
  unlimited,
  withFirsts,
  type WriterRefused
} from "./RunEventRepository.ts"
import { isEnded } from "./Run.ts"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { conflict, type RepositoryError } from "../RepositoryError.ts"
import * as Dialect from "../sql/Dialect.ts"
import * as Migrations from "../sql/Migrations.ts"
import type { CorruptRow } from "../sql/Rows.ts"
import * as SqlKit from "../sql/SqlKit.ts"
import * as Statements from "../sql/Statements.ts"
import { failedAs } from "../sql/Transactions.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, clustered, isPg, table } = Statements.make(sql, options)
  const runs = table("runs")
  return [
    `CREATE TABLE ${runs} (
      run_id TEXT NOT NULL PRIMARY KEY,
      thread_id TEXT NOT NULL,
      owner_key TEXT NOT NULL,
      owner_subject TEXT NOT NULL,
      owner_org TEXT,
      idempotency_key TEXT NOT NULL,
      request_digest TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'aborted')),
      end_reason TEXT,
      epoch ${bigint} NOT NULL CHECK (epoch >= 1),
      lease_expires_at_millis ${bigint},
      started_at_millis ${bigint} NOT NULL,
      heartbeat_at_millis ${bigint},
      completed_at_millis ${bigint},
      end_seq ${bigint} CHECK (end_seq >= 1),
      event_count ${bigint} CHECK (event_count >= 0),
      byte_count ${bigint} CHECK (byte_count >= 0),
      metadata TEXT NOT NULL,
      resume TEXT,
      workflow TEXT,
      starts ${bigint} NOT NULL DEFAULT 0,
      open_questions ${bigint} NOT NULL CHECK (open_questions >= 0),
      expired_at_millis ${bigint},
      purged_at_millis ${bigint},
      CHECK ((status IN ('queued', 'running')) = (completed_at_millis IS NULL)),
      CHECK ((completed_at_millis IS NULL) = (lease_expires_at_millis IS NOT NULL)),
      CHECK (completed_at_millis IS NOT NULL OR (end_seq IS NULL AND event_count IS NULL AND byte_count IS NULL
        AND end_reason IS NULL AND expired_at_millis IS NULL)),
      CHECK (purged_at_millis IS NULL OR expired_at_millis IS NOT NULL),
      UNIQUE (owner_key, idempotency_key)
    )`,
    // This index is what holds a thread's slot.
    `CREATE UNIQUE INDEX ${table("runs_thread_slot")} ON ${runs} (owner_key, thread_id)
      WHERE status = 'running'`,
    `CREATE INDEX ${table("runs_thread_queue")} ON ${runs} (owner_key, thread_id, started_at_millis, run_id)
      WHERE status = 'queued'`,
    `CREATE INDEX ${table("runs_thread_ended")}
      ON ${runs} (owner_key, thread_id, COALESCE(completed_at_millis, heartbeat_at_millis, started_at_millis))
      WHERE completed_at_millis IS NOT NULL`,
    // An owner's runs are listed whole, by thread and by status, each the newest first.
    ...["", "thread_id", "status"].map((column) =>
      `CREATE INDEX ${table(column === "" ? "runs_listed" : `runs_listed_${column}`)}
      ON ${runs} (owner_key, ${column === "" ? "" : `${column}, `}started_at_millis, run_id)
      WHERE expired_at_millis IS NULL`
    ),
    `CREATE INDEX ${
      table("runs_lease")
    } ON ${runs} (lease_expires_at_millis) WHERE lease_expires_at_millis IS NOT NULL`,
    `CREATE INDEX ${table("runs_resumable")} ON ${runs} (lease_expires_at_millis)
      WHERE lease_expires_at_millis IS NOT NULL AND resume IS NOT NULL`,
    `CREATE INDEX ${table("runs_workflow")} ON ${runs} (lease_expires_at_millis)
      WHERE lease_expires_at_millis IS NOT NULL AND workflow IS NOT NULL`,
    `CREATE INDEX ${table("runs_retention")} ON ${runs} (completed_at_millis)
      WHERE completed_at_millis IS NOT NULL AND expired_at_millis IS NULL`,
    `CREATE INDEX ${table("runs_purge")} ON ${runs} (expired_at_millis)
      WHERE expired_at_millis IS NOT NULL AND purged_at_millis IS NULL`,
    `CREATE INDEX ${table("runs_tombstones")} ON ${runs} (purged_at_millis) WHERE purged_at_millis IS NOT NULL`,

    `CREATE TABLE ${table("run_events")} (
      run_id TEXT NOT NULL,
      seq ${bigint} NOT NULL CHECK (seq >= 1),
      first_seq ${bigint} CHECK (first_seq < seq),
      kind TEXT NOT NULL CHECK (kind IN ('data', 'end')),
      data TEXT NOT NULL,
      at_millis ${bigint} NOT NULL,
      byte_total ${bigint} NOT NULL,
      PRIMARY KEY (run_id, seq)
    ) ${clustered}`,
    // The last event of a run as it is now: what a statement of its own finds is as old as the statement, which may have
    // waited for a lock.
    ...isPg
      ? [
        `CREATE FUNCTION ${
          table("run_head")
        }(TEXT) RETURNS TABLE (head_seq BIGINT, head_bytes BIGINT) LANGUAGE sql VOLATILE AS
      'SELECT COALESCE(max(seq), 0), COALESCE(max(byte_total), 0) FROM (
        SELECT seq, byte_total FROM ${table("run_events")} WHERE run_id = $1 ORDER BY seq DESC LIMIT 1
      ) AS head'`
      ]
      : [],

    `CREATE TABLE ${table("run_questions")} (
      run_id TEXT NOT NULL,
      name TEXT NOT NULL,
      seq ${bigint} NOT NULL,
      value TEXT,
      PRIMARY KEY (run_id, name)
    ) ${clustered}`,

    `CREATE TABLE ${table("run_writes")} (
      run_id TEXT NOT NULL,
      write_key TEXT NOT NULL,
      first_seq ${bigint} NOT NULL,
      last_seq ${bigint} NOT NULL,
      at_millis ${bigint} NOT NULL,
      PRIMARY KEY (run_id, write_key)
    ) ${clustered}`,

    `CREATE TABLE ${table("run_aborts")} (
      owner_key TEXT NOT NULL,
      thread_id TEXT NOT NULL,
      idempotency_key TEXT NOT NULL,
      reason TEXT,
      at_millis ${bigint} NOT NULL,
      PRIMARY KEY (owner_key, thread_id, idempotency_key)
    ) ${clustered}`,
    `CREATE INDEX ${table("run_aborts_retention")} ON ${table("run_aborts")} (at_millis)`
  ]
}

/**
 * Creates the tables, or brings them up to date. For a deployment step of its own; `layer` does it by itself.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "runs",
    ...options,
    migrations: { "1_create_runs": Statements.creating(create, options) }
  }))

// The drivers give numbers as `number` or `bigint`.
type Stored<A> = {
  readonly [K in keyof A]: A[K] extends number ? unknown : A[K] extends number | null ? unknown : A[K]
}

/** The head of a run that has not ended, with the time at which it was locked. */
interface LockedHead extends Omit<AppendHead, "eventCount"> {
  readonly atMillis: number
}

const toHead = (row: Stored<LockedHead>): AppendHead & LockedHead => {
  const lastSeq = Dialect.toNatural(row.lastSeq)
  return {
    atMillis: Dialect.toNatural(row.atMillis),
    runId: row.runId,
    status: row.status,
    epoch: Dialect.toNatural(row.epoch),
    lastSeq,
    eventCount: lastSeq,
    byteCount: Dialect.toNatural(row.byteCount)
  }
}

const toEventRow = (row: Stored<RunEventRow>): RunEventRow => ({
  seq: Dialect.toNatural(row.seq),
  firstSeq: Dialect.toNaturalOrNull(row.firstSeq),
  kind: row.kind,
  data: row.data,
  atMillis: Dialect.toNatural(row.atMillis)
})

/** What a step fails with, before it becomes a `RepositoryError`. */
type Failure = SqlError | CorruptRow | RepositoryError

const inUse = (runId: string) => conflict("start", `The run id ${runId} is in use`)

const make: (
  options?: Migrations.TableOptions
) => Effect.Effect<RunEventRepository["Service"], Migrations.MigrationsError, SqlClient.SqlClient> = Effect.fnUntraced(
  function*(options?: Migrations.TableOptions) {
    const kit = yield* SqlKit.make("runs", options)
    const { forMany, isPg, now, orFail, prefix, skipLocked, statement, table, transaction, wakeUps, write } = kit
    const topic = table("runs")
    const rows = kit.rows("runs", RunRow)
    const manyRuns = kit.all(rows.decode)
    const oneRun = kit.first(rows.decode)

    const runs = table("runs")
    const events = table("run_events")
    const aborts = table("run_aborts")
    // To compare with an index. As a subquery it is one value for the whole statement; PostgreSQL would evaluate the bare
    // expression for each row, and so use no index.
    const fixedNow = `(SELECT ${now})`
    // What a step works on is picked once. As a subquery PostgreSQL may run it again, and go over the limit.
    const picking = (pick: string, then: string) => `WITH picked AS MATERIALIZED (${pick}) ${then}`
    // On PostgreSQL an array is looked up in the index whatever the planner believes its length to be.
    const among = (runIds: string) => isPg ? `run_id = ANY (ARRAY(${runIds}))` : `run_id IN (${runIds})`
    const amongPicked = among("SELECT run_id FROM picked")
    const amongIds = among(isPg ? "SELECT json_array_elements_text(CAST(? AS json))" : "SELECT value FROM json_each(?)")

    // Until a run has ended, its last event says where its log stands.
    const lastOf = (column: "seq" | "byte_total") =>
      `COALESCE((SELECT last.${column} FROM ${events} AS last WHERE last.run_id = ${runs}.run_id
        ORDER BY last.seq DESC LIMIT 1), 0)`
    const runHead = table("run_head")
    const columnsBy = (seq: string, bytes: string) =>
      rows.columnsWith({
        lastSeq: `COALESCE(end_seq, ${seq})`,
        eventCount: `COALESCE(event_count, ${seq})`,
        byteCount: `COALESCE(byte_count, ${bytes})`
      })
    const runColumns = columnsBy(lastOf("seq"), lastOf("byte_total"))
    // For a statement that may have waited for an append.
    const currentColumns = isPg
      ? columnsBy(`(SELECT head_seq FROM ${runHead}(run_id))`, `(SELECT head_bytes FROM ${runHead}(run_id))`)
      : runColumns

    // A run that is queued or running.
    const alive = "completed_at_millis IS NULL"
    const toEnd = (seq: string, bytes: string) =>
      `status = ?, end_reason = ?, completed_at_millis = ${now}, lease_expires_at_millis = NULL, end_seq = ${seq} + 1,
    event_count = ${seq}, byte_count = ${bytes}`

    // ---- Starting -------------------------------------------------------------------------------------------------

    // An abort by key and a start must see each other even when neither finds a row, and so must those that wait for a
    // thread. The runs of an owner start one after another, so that a follower that has seen one has none before it to come.
    // On SQLite the transaction is the lock.
    const lock = statement("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))")
    const lockOwner = (ownerKey: string): Effect.Effect<unknown, Failure> =>
      isPg ? lock([JSON.stringify([prefix, ownerKey])]) : Effect.void

    const takeAbort = statement<{ readonly reason: string | null }>(
      `DELETE FROM ${aborts} WHERE owner_key = ? AND thread_id = ? AND idempotency_key = ? RETURNING reason`
    )
    const waiting = `FROM ${runs} WHERE owner_key = ? AND thread_id = ? AND status = 'queued'
      AND lease_expires_at_millis >= ${now}`
    const isFew = `(SELECT count(*) FROM (
      SELECT 1 AS one FROM ${runs} WHERE owner_key = ? AND status IN ('queued', 'running') LIMIT ?
    ) AS counted) < ?`
    // PostgreSQL may believe that an owner has one run, and sort those that another index finds. It takes the first of a
    // range from the index that is in order.
    const newestStart = (ownerKey: string) =>
      isPg
        ? `(SELECT started_at_millis FROM (SELECT CAST(${ownerKey} AS text) AS wanted) AS owner CROSS JOIN LATERAL (
          SELECT started_at_millis FROM ${runs} WHERE owner_key >= wanted AND owner_key <= wanted
            AND expired_at_millis IS NULL
          ORDER BY owner_key DESC, started_at_millis DESC, run_id DESC LIMIT 1
        ) AS newest)`
        : `(SELECT started_at_millis FROM ${runs} WHERE owner_key = ${ownerKey} AND expired_at_millis IS NULL
        ORDER BY started_at_millis DESC, run_id DESC LIMIT 1)`
    const startedNow = `${isPg ? "GREATEST" : "MAX"}(${now}, 1 + COALESCE(${newestStart("?")}, 0))`
    const insertAlive = (status: "queued" | "running", condition: string) =>
      oneRun(
        `INSERT INTO ${runs} (run_id, thread_id, owner_key, owner_subject, owner_org, idempotency_key, request_digest,
      metadata, status, epoch, lease_expires_at_millis, started_at_millis, open_questions, resume, workflow)
    SELECT ?, ?, ?, ?, ?, ?, ?, ?, '${status}', 1, ${now} + ?, ${startedNow}, 0, ?, ?
    WHERE ${isFew} AND ${condition}
    ON CONFLICT DO NOTHING RETURNING ${runColumns}`
      )
    const insertRunning = insertAlive("running", `NOT EXISTS (SELECT 1 ${waiting})`)
    const insertRunningFirst = insertAlive("running", "TRUE")
    const insertQueued = insertAlive("queued", `(SELECT count(*) ${waiting}) < ?`)
    const insertAborted = oneRun(
      `INSERT INTO ${runs} (run_id, thread_id, owner_key, owner_subject, owner_org, idempotency_key, request_digest,
      metadata, status, end_reason, epoch, started_at_millis, completed_at_millis, end_seq, event_count, byte_count,
      open_questions)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'aborted', ?, 1, ${startedNow}, ${now}, 1, 0, 0, 0)
    ON CONFLICT DO NOTHING RETURNING ${runColumns}`
    )
    const byKey = oneRun(`SELECT ${runColumns} FROM ${runs} WHERE owner_key = ? AND idempotency_key = ?`)
    /** Counts rows of an owner, at most as many as asked, so that the cost is bounded by the limit. */
    const counting = (from: string, condition: string) => {
      const count = statement<{ readonly count: unknown }>(
        `SELECT COUNT(*) AS count FROM (SELECT 1 AS one FROM ${from} WHERE owner_key = ? AND ${condition} LIMIT ?) AS counted`
      )
      return (ownerKey: string, limit: number | undefined): Effect.Effect<boolean, Failure> =>
        limit === undefined
          ? Effect.succeed(false)
          : Effect.map(count([ownerKey, limit]), ([row]) => Dialect.toNatural(row?.count) >= limit)
    }
    const hasTooManyRunning = counting(runs, "status IN ('queued', 'running')")
    const hasTooManyAborts = counting(aborts, "TRUE")
    const byThread = oneRun(
      `SELECT ${runColumns} FROM ${runs} WHERE owner_key = ? AND thread_id = ? AND status = 'running'`
    )
    const longestWaiting = oneRun(
      `SELECT ${runColumns} FROM ${runs} WHERE owner_key = ? AND thread_id = ? AND status = 'queued'
      ORDER BY started_at_millis, run_id LIMIT 1`
    )
    const listing = (condition: string) =>
      manyRuns(
        `SELECT ${runColumns} FROM ${runs}
      WHERE owner_key = ? AND ${condition} AND expired_at_millis IS NULL AND (started_at_millis, run_id) < (?, ?)
      ORDER BY started_at_millis DESC, run_id DESC LIMIT ?`
      )
    const list = listing("TRUE")
    const listOfThread = listing("thread_id = ?")
    // A waiting run is stored as running.
    const ofStatus = "status = ? AND (status <> 'running' OR (open_questions > 0) = (CAST(? AS TEXT) = 'waiting'))"
    const listOfStatus = listing(ofStatus)
    const listOfBoth = listing(`thread_id = ? AND ${ofStatus}`)
    const followed = (condition: string, tail = "") =>
      manyRuns(`SELECT ${runColumns} FROM ${runs}
      WHERE owner_key = ? AND ${condition} AND expired_at_millis IS NULL ${tail}`)
    const inOrder = "ORDER BY started_at_millis, run_id LIMIT ?"
    const followedAfter = followed("started_at_millis > ?", inOrder)
    const followedAfterOfThread = followed("thread_id = ? AND started_at_millis > ?", inOrder)
    const followedAt = followed(
      isPg
        ? "started_at_millis = ANY (ARRAY(SELECT CAST(json_array_elements_text(CAST(? AS json)) AS bigint)))"
        : "started_at_millis IN (SELECT value FROM json_each(?))"
    )
    const followedAlive = followed("status IN ('queued', 'running')")
    const newestStarts = statement<{ readonly ownerKey: string; readonly startedAtMillis: unknown }>(
      `SELECT value AS "ownerKey", ${newestStart("value")} AS "startedAtMillis"
      FROM ${isPg ? "json_array_elements_text(CAST(? AS json)) AS owners(value)" : "json_each(?)"}`
    )
    const slotHolder = statement<{ readonly runId: string; readonly leaseExpired: unknown }>(
      `SELECT run_id AS "runId", CASE WHEN lease_expires_at_millis < ${now} THEN 1 ELSE 0 END AS "leaseExpired"
    FROM ${runs} WHERE owner_key = ? AND thread_id = ? AND status = 'running'`
    )
    const firstWaiting = statement<{ readonly runId: string }>(
      `SELECT run_id AS "runId" ${waiting} ORDER BY started_at_millis, run_id LIMIT 1`
    )
    const insertEnd = statement(
      `INSERT INTO ${events} (run_id, seq, kind, data, at_millis, byte_total) VALUES (?, ?, 'end', ?, ?, ?)`
    )
    const announceEnds = (rows: ReadonlyArray<RunRow>) =>
      wakeUps.announce(topic, rows.map(({ lastSeq, runId }) => [runId, lastSeq]))
    const storeEnd = (run: RunRow, data: string) =>
      Effect.andThen(
        insertEnd([run.runId, run.lastSeq, data, run.completedAtMillis ?? run.startedAtMillis, run.byteCount]),
        announceEnds([run])
      )

    /**
     * Ends the runs that are picked, together with their terminal events. To be run in a transaction on SQLite. On
     * PostgreSQL it is one statement, so that a process which stops in the middle leaves no lock behind that keeps a reaper
     * waiting: it locks the rows, and only then looks where their logs stand. The parameters are those of the pick, the
     * status and the reason.
     */
    const ending = (pick: string, then: "" | ", epoch = epoch + 1", lock = isPg ? " FOR UPDATE" : "") => {
      const picked = `WITH picked AS MATERIALIZED (SELECT run_id AS picked_id FROM ${runs} WHERE ${pick}${lock})`
      const amongPicked = among("SELECT picked_id FROM picked")
      if (isPg) {
        const end = manyRuns(
          `${picked}, headed AS MATERIALIZED (
          SELECT picked_id, head_seq, head_bytes FROM picked CROSS JOIN LATERAL ${runHead}(picked_id)
        ), ended AS (
          UPDATE ${runs} SET ${toEnd("head_seq", "head_bytes")}${then} FROM headed
          WHERE run_id = picked_id AND ${amongPicked} RETURNING ${runColumns}
        ), stored AS (
          INSERT INTO ${events} (run_id, seq, kind, data, at_millis, byte_total)
          SELECT "runId", "lastSeq", 'end', CAST(? AS text), "completedAtMillis", "byteCount" FROM ended
        ) SELECT * FROM ended`
        )
        return (parameters: Statements.Parameters, data: string) => Effect.tap(end([...parameters, data]), announceEnds)
      }
      const end = manyRuns(
        `${picked} UPDATE ${runs} SET ${toEnd(lastOf("seq"), lastOf("byte_total"))}${then}
      WHERE ${amongPicked} RETURNING ${runColumns}`
      )
      return (parameters: Statements.Parameters, data: string) =>
        Effect.tap(end(parameters), (rows) => Effect.forEach(rows, (run) => storeEnd(run, data), { discard: true }))
    }
    const atomically = isPg ? write : transaction

    // What is left for the reaper.
    const isLost = (at: string) =>
      `lease_expires_at_millis < ${at} AND workflow IS NULL AND (resume IS NULL OR epoch >= ? OR lease_expires_at_millis < ${at} - ?)`
    const ofSlot = "owner_key = ? AND thread_id = ? AND status = 'running'"
    const endStale = ending(`${ofSlot} AND ${isLost(now)}`, ", epoch = epoch + 1")
    const endStaleOf = (ownerKey: string, threadId: string, stale: StaleEnd) =>
      endStale([ownerKey, threadId, stale.maxEpoch, stale.patienceMillis, "failed", stale.reason], stale.data)

    const endHolder = ending(ofSlot, ", epoch = epoch + 1")

    const start = Effect.fnUntraced(function*(options: StartOptions): Effect.fn.Return<StartOutcome, Failure> {
      const { idempotencyKey, ownerKey, stale, threadId, whenBusy } = options
      yield* lockOwner(ownerKey)
      const existing = yield* byKey([ownerKey, idempotencyKey])
      if (Option.isSome(existing)) {
        const run = existing.value
        const same = run.threadId === threadId && run.requestDigest === options.requestDigest
        return { _tag: same ? "Existing" : "Conflict", run }
      }
      const columns = [
        options.runId,
        threadId,
        ownerKey,
        options.ownerSubject,
        options.ownerOrg,
        idempotencyKey,
        options.requestDigest,
        options.metadata
      ]
      const [aborted] = yield* takeAbort([ownerKey, threadId, idempotencyKey])
      if (aborted !== undefined) {
        const run = yield* insertAborted([...columns, aborted.reason, ownerKey])
        if (Option.isNone(run)) return yield* inUse(options.runId)
        yield* storeEnd(run.value, options.abortedData)
        return { _tag: "Created", run: run.value }
      }
      const thread = [ownerKey, threadId]
      const values = (
        max = Number.MAX_SAFE_INTEGER
      ) => [
        ...columns,
        options.leaseMillis,
        ownerKey,
        options.resume ?? null,
        options.workflow ?? null,
        ownerKey,
        max,
        max
      ]
      const isFull = hasTooManyRunning(ownerKey, options.maxRunning)
      if (whenBusy?._tag === "Interrupt") {
        const [lost] = stale === undefined ? [] : yield* endStaleOf(ownerKey, threadId, stale)
        const [ended] = yield* endHolder([...thread, "aborted", whenBusy.end.reason], whenBusy.end.data)
        const run = yield* insertRunningFirst(values((lost ?? ended) === undefined ? options.maxRunning : undefined))
        if (Option.isSome(run)) {
          return { _tag: "Created", run: run.value, interrupted: ended?.runId, stale: lost?.runId }
        }
        return (yield* isFull) ? { _tag: "TooMany", limit: "maxRunning" } : yield* inUse(options.runId)
      }
      // The locks leave only the thread's slot to conflict. Its holder may end before it is read; then the slot is free,
      // and the insert is tried again.
      let lost: string | undefined
      for (let attempt = 0; attempt < 100; attempt++) {
        const run = yield* insertRunning([...values(options.maxRunning), ...thread])
        if (Option.isSome(run)) return { _tag: "Created", run: run.value, stale: lost }
        if (stale !== undefined) {
          const [ended] = yield* endStaleOf(ownerKey, threadId, stale)
          lost = ended?.runId ?? lost
          if (ended !== undefined) continue
        }
        const [holder] = yield* slotHolder(thread)
        const [first] = holder === undefined ? yield* firstWaiting(thread) : []
        const runId = holder?.runId ?? first?.runId
        if (runId !== undefined && whenBusy !== undefined) {
          const queued = yield* insertQueued([...values(options.maxRunning), ...thread, whenBusy.max])
          if (Option.isSome(queued)) return { _tag: "Created", run: queued.value, stale: lost }
        }
        if ((runId === undefined || whenBusy !== undefined) && (yield* isFull)) {
          return { _tag: "TooMany", limit: "maxRunning" }
        }
        if (runId !== undefined) {
          return { _tag: "ThreadBusy", runId, leaseExpired: Dialect.toNatural(holder?.leaseExpired ?? 0) === 1 }
        }
      }
      return yield* inUse(options.runId)
    })

    const begin = oneRun(
      `UPDATE ${runs} SET status = 'running' WHERE run_id = ? AND status = 'queued' RETURNING ${runColumns}`
    )
    const takeTurn = Effect.fnUntraced(function*(options: {
      readonly runId: string
      readonly epoch: number
      readonly leaseMillis: number
      readonly stale?: StaleEnd | undefined
    }): Effect.fn.Return<TurnOutcome, Failure> {
      const { epoch, leaseMillis, runId, stale } = options
      // The owner is locked before a row is, as by those that end runs of the owner.
      const known = Option.getOrUndefined(yield* byId([runId]))
      if (known !== undefined) yield* lockOwner(known.ownerKey)
      const [extended] = yield* heartbeat([leaseMillis, runId, epoch])
      const row = Option.getOrUndefined(yield* byId([runId]))
      if (row === undefined || extended === undefined) return yield* refusedWriter(runId, epoch)
      if (row.status === "running") return { _tag: "Running", run: row }
      const thread = [row.ownerKey, row.threadId]
      if (stale !== undefined) yield* endStaleOf(row.ownerKey, row.threadId, stale)
      const [holder] = yield* slotHolder(thread)
      const [first] = holder === undefined ? yield* firstWaiting(thread) : []
      const behind = holder?.runId ?? first?.runId
      if (behind !== undefined && behind !== runId) return { _tag: "Behind", runId: behind }
      const run = yield* begin([runId])
      return Option.isSome(run) ? { _tag: "Running", run: run.value } : yield* refusedWriter(runId, epoch)
    })

    // ---- Writing --------------------------------------------------------------------------------------------------

    // The time is taken once the rows are locked, so that the times of a run's events never go back.
    const lockedHeads = (which: string) =>
      statement<Stored<LockedHead>>(
        isPg
          ? `SELECT "runId", status, epoch, head_seq AS "lastSeq", head_bytes AS "byteCount", ${now} AS "atMillis" FROM (
            SELECT run_id AS "runId", status, epoch FROM ${runs} WHERE ${which} ORDER BY run_id FOR UPDATE
          ) AS locked CROSS JOIN LATERAL ${runHead}("runId")`
          : `SELECT run_id AS "runId", status, epoch, ${lastOf("seq")} AS "lastSeq", ${
            lastOf("byte_total")
          } AS "byteCount", ${now} AS "atMillis" FROM ${runs} WHERE ${which}`
      )
    const lockOneHead = lockedHeads("run_id = ?")
    // Rows are locked in one order everywhere, so that two batches cannot wait for each other in a circle.
    const lockManyHeads = lockedHeads(amongIds)
    const lockHeads = (items: ReadonlyArray<AppendItem>) => {
      const runIds = Array.from(new Set(items.map((item) => item.runId)))
      const [only] = runIds
      const rows = runIds.length === 1 && only !== undefined
        ? lockOneHead([only])
        : lockManyHeads([JSON.stringify(runIds)])
      return Effect.map(rows, (heads) => heads.map(toHead))
    }

    const insertAtOnce = statement(
      `INSERT INTO ${events} (run_id, seq, kind, data, at_millis, byte_total)
    SELECT "runId", seq, kind, data, "atMillis", "byteTotal" FROM json_to_recordset(CAST(? AS json))
      AS new("runId" text, seq bigint, kind text, data text, "atMillis" bigint, "byteTotal" bigint)`
    )
    const insertMany = forMany(
      "(?, ?, ?, ?, ?, ?)",
      (rows) => `INSERT ${orFail}INTO ${events} (run_id, seq, kind, data, at_millis, byte_total) VALUES ${rows}`
    )
    const insertEvents = (rows: ReadonlyArray<NewEvent>): Effect.Effect<unknown, Failure> =>
      isPg
        ? insertAtOnce([JSON.stringify(rows)])
        : insertMany(
          rows.map(({ atMillis, byteTotal, data, kind, runId, seq }) => [runId, seq, kind, data, atMillis, byteTotal])
        )

    const writes = table("run_writes")
    const findWrite = statement<Stored<Omit<KeyedWrite, "runId" | "key">>>(
      `SELECT first_seq AS "firstSeq", last_seq AS "lastSeq", at_millis AS "atMillis" FROM ${writes}
      WHERE run_id = ? AND write_key = ?`
    )
    const insertWrite = statement(
      `INSERT INTO ${writes} (run_id, write_key, first_seq, last_seq, at_millis) VALUES (?, ?, ?, ?, ?)`
    )
    const deleteWrites = statement(`DELETE FROM ${writes} WHERE run_id = ?`)
    const knownWrites = Effect.fnUntraced(
      function*(items: ReadonlyArray<AppendItem>): Effect.fn.Return<ReadonlyArray<KeyedWrite>, Failure> {
        const known: Array<KeyedWrite> = []
        for (const { key, runId } of items) {
          if (key === undefined) continue
          for (const { atMillis, firstSeq, lastSeq } of yield* findWrite([runId, key])) {
            known.push({
              runId,
              key,
              firstSeq: Dialect.toNatural(firstSeq),
              lastSeq: Dialect.toNatural(lastSeq),
              atMillis: Dialect.toNatural(atMillis)
            })
          }
        }
        return known
      }
    )

    // Looking whether anything has changed costs as much as looking at a few runs.
    const manyItems = 8
    const remembered = Option.getOrUndefined(kit.rowMemory<AppendHead>(10_000))
    const append = Effect.fnUntraced(function*(options: {
      readonly items: ReadonlyArray<AppendItem>
      readonly maxEvents: number
      readonly maxBytes: number
    }): Effect.fn.Return<ReadonlyArray<AppendOutcome>, Failure> {
      const memory = options.items.length < manyItems ? undefined : remembered
      const recalled = yield* memory?.recall(options.items.map(({ runId }) => runId)) ?? Effect.undefined
      const locked = recalled === undefined ? yield* lockHeads(options.items) : []
      const heads = recalled?.rows ?? locked
      const atMillis = recalled?.atMillis ?? locked.reduce((latest, head) => Math.max(latest, head.atMillis), 0)
      const plan = planAppend({ ...options, heads, atMillis, writes: yield* knownWrites(options.items) })
      if (plan.events.length > 0) {
        yield* insertEvents(plan.events)
        yield* Effect.forEach(
          plan.writes,
          ({ atMillis, firstSeq, key, lastSeq, runId }) => insertWrite([runId, key, firstSeq, lastSeq, atMillis]),
          { discard: true }
        )
        yield* memory?.keep(plan.heads.map((head) => [head.runId, head])) ?? Effect.void
        yield* wakeUps.announce(topic, plan.heads.map(({ lastSeq, runId }) => [runId, lastSeq]))
      }
      return plan.outcomes
    })

    // If every item is fitting, PostgreSQL does it all in one statement: one round trip, and no lock that outlives it. Rows
    // are looked up by their keys one by one, in one order, whatever the planner believes of the table. Of two statements
    // that number the events of one run from the same last event, the second fails on the key.
    const appendWhole = statement<{ readonly runId: string; readonly before: unknown; readonly atMillis: unknown }>(
      `WITH fitting AS MATERIALIZED (
      SELECT given.run_id, COALESCE(last.seq, 0) AS before, COALESCE(last.byte_total, 0) AS bytes
      FROM (
        SELECT * FROM unnest(CAST(? AS text[]), CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[]))
          AS given(run_id, epoch, count, bytes) ORDER BY run_id
      ) AS given
      CROSS JOIN LATERAL (
        SELECT status, epoch FROM ${runs} AS run WHERE run.run_id = given.run_id OFFSET 0 FOR SHARE
      ) AS run
      LEFT JOIN LATERAL (
        SELECT seq, byte_total FROM ${events} AS event WHERE event.run_id = given.run_id ORDER BY seq DESC LIMIT 1
      ) AS last ON TRUE
      WHERE run.status = 'running' AND run.epoch = given.epoch AND COALESCE(last.seq, 0) + given.count <= ?
        AND COALESCE(last.byte_total, 0) + given.bytes <= ?
    ), whole AS MATERIALIZED (
      SELECT ${now} AS at FROM (SELECT count(*) AS count FROM fitting) AS counted WHERE count = ?
    ), stored AS (
      INSERT INTO ${events} (run_id, seq, kind, data, at_millis, byte_total)
      SELECT new.run_id, before + new.nth, 'data', new.data, at, bytes + new.total
      FROM unnest(CAST(? AS text[]), CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS text[]))
        AS new(run_id, nth, total, data)
      JOIN fitting ON fitting.run_id = new.run_id CROSS JOIN whole
    ) SELECT run_id AS "runId", before, at AS "atMillis" FROM fitting CROSS JOIN whole`
    )
    const appendAtOnce = Effect.fnUntraced(function*(options: {
      readonly items: ReadonlyArray<AppendItem>
      readonly maxEvents: number
      readonly maxBytes: number
    }): Effect.fn.Return<Option.Option<ReadonlyArray<AppendOutcome>>, Failure> {
      // Numbers of an array are `bigint`s, so that all of them have one type whatever their size.
      const byRun = new Map<string, { readonly epoch: number; count: number; bytes: number }>()
      const runIds: Array<string> = []
      const nths: Array<bigint> = []
      const totals: Array<bigint> = []
      const data: Array<string> = []
      let ordinary = true
      for (const item of options.items) {
        const run = byRun.get(item.runId) ?? { epoch: item.epoch, count: 0, bytes: 0 }
        byRun.set(item.runId, run)
        ordinary &&= run.epoch === item.epoch && item.key === undefined
        run.bytes += item.byteCount
        for (const event of item.events) {
          runIds.push(item.runId)
          nths.push(BigInt(++run.count))
          totals.push(BigInt(run.bytes))
          data.push(event)
        }
      }
      const given = Array.from(byRun.values())
      const rows = ordinary
        ? yield* appendWhole([
          Array.from(byRun.keys()),
          given.map(({ epoch }) => BigInt(epoch)),
          given.map(({ count }) => BigInt(count)),
          given.map(({ bytes }) => BigInt(bytes)),
          options.maxEvents,
          options.maxBytes,
          given.length,
          runIds,
          nths,
          totals,
          data
        ])
        : []
      if (rows.length === 0) return Option.none()
      const heads = new Map(rows.map((row) => [row.runId, {
        lastSeq: Dialect.toNatural(row.before),
        atMillis: Dialect.toNatural(row.atMillis)
      }]))
      const outcomes = options.items.map(({ events, runId }): AppendOutcome => {
        const head = heads.get(runId)
        if (head === undefined) return { _tag: "Unknown" }
        const firstSeq = head.lastSeq + 1
        head.lastSeq += events.length
        return { _tag: "Appended", firstSeq, lastSeq: head.lastSeq, atMillis: head.atMillis }
      })
      yield* wakeUps.announce(topic, Array.from(heads, ([runId, { lastSeq }]) => [runId, lastSeq]))
      return Option.some(outcomes)
    })

    // ---- Asking ---------------------------------------------------------------------------------------------------

    const questions = table("run_questions")
    const questionOf = statement<{ readonly seq: unknown; readonly value: string | null }>(
      `SELECT seq, value FROM ${questions} WHERE run_id = ? AND name = ?`
    )
    const insertQuestion = statement(`INSERT INTO ${questions} (run_id, name, seq) VALUES (?, ?, ?)`)
    const answerQuestion = statement(`UPDATE ${questions} SET value = ? WHERE run_id = ? AND name = ?`)
    const deleteQuestions = statement(`DELETE FROM ${questions} WHERE run_id = ?`)
    const countQuestions = oneRun(
      `UPDATE ${runs} SET open_questions = open_questions + ? WHERE run_id = ? RETURNING ${runColumns}`
    )
    // An engine hears of it when the run is woken.
    const countAnswer = oneRun(
      `UPDATE ${runs} SET open_questions = open_questions - 1, lease_expires_at_millis = CASE
        WHEN workflow IS NULL THEN lease_expires_at_millis ELSE ${now} - 1 END
      WHERE run_id = ? RETURNING ${runColumns}`
    )
    const answeredOf = statement<{ readonly runId: string; readonly name: string }>(
      `SELECT run_id AS "runId", name FROM ${questions} WHERE ${amongIds} AND value IS NOT NULL`
    )

    const ask = Effect.fnUntraced(function*(
      options: Parameters<RunEventRepository["Service"]["ask"]>[0]
    ): Effect.fn.Return<AskOutcome, Failure> {
      const { epoch, name, runId } = options
      const item = asItem(options)
      const [head] = yield* lockHeads([item])
      const refused = refuseAppend(head, epoch)
      if (refused !== undefined) return refused
      const [asked] = yield* questionOf([runId, name])
      if (asked !== undefined) {
        return asked.value === null
          ? { _tag: "Open", seq: Dialect.toNatural(asked.seq) }
          : { _tag: "Answered", value: asked.value }
      }
      const [outcome = { _tag: "Unknown" }] = yield* append({ ...options, items: [item] })
      if (outcome._tag !== "Appended") return outcome
      yield* insertQuestion([runId, name, outcome.firstSeq])
      yield* countQuestions([1, runId])
      return { _tag: "Open", seq: outcome.firstSeq }
    })

    const answer = Effect.fnUntraced(function*(
      options: Parameters<RunEventRepository["Service"]["answer"]>[0]
    ): Effect.fn.Return<AnswerOutcome, Failure> {
      const { name, ownerKey, runId, value } = options
      const row = Option.getOrUndefined(yield* byId([runId]))
      if (row === undefined || (ownerKey ?? row.ownerKey) !== row.ownerKey) return { _tag: "Unknown" }
      const [head] = yield* lockHeads([asItem({ ...options, epoch: row.epoch })])
      if (head === undefined) return { _tag: "Unknown" }
      const [question] = yield* questionOf([runId, name])
      if (question !== undefined && question.value !== null) return { _tag: "AlreadyAnswered" }
      if (isEnded(head.status)) return { _tag: "Ended", status: head.status }
      if (question === undefined) return { _tag: "NoQuestion" }
      yield* append({ items: [asItem({ ...options, epoch: head.epoch })], ...unlimited })
      yield* answerQuestion([value, runId, name])
      const run = yield* countAnswer([runId])
      return Option.isSome(run) ? { _tag: "Accepted", run: run.value } : { _tag: "Unknown" }
    })

    // ---- Ending ---------------------------------------------------------------------------------------------------

    const endWithEpoch = ending(`run_id = ? AND epoch = ? AND ${alive}`, "")
    const endAnyEpoch = ending(`run_id = ? AND ${alive}`, ", epoch = epoch + 1")
    const endOwned = ending(`run_id = ? AND owner_key = ? AND ${alive}`, ", epoch = epoch + 1")
    const byId = oneRun(`SELECT ${runColumns} FROM ${runs} WHERE run_id = ?`)

    // The row shows why a conditional update has missed it: runs end and epochs rise for good.
    const refusedWriter = (runId: string, epoch: number): Effect.Effect<WriterRefused, Failure> =>
      Effect.map(byId([runId]), (run) => refuse(Option.getOrUndefined(run), epoch) ?? { _tag: "Unknown" })

    const abort = Effect.fnUntraced(function*(options: {
      readonly runId: string
      readonly ownerKey: string | undefined
      readonly reason: string | null
      readonly data: string
    }): Effect.fn.Return<AbortOutcome, Failure> {
      const { ownerKey, reason, runId } = options
      const [ended] = ownerKey === undefined
        ? yield* endAnyEpoch([runId, "aborted", reason], options.data)
        : yield* endOwned([runId, ownerKey, "aborted", reason], options.data)
      if (ended !== undefined) return { _tag: "Aborted", run: ended }
      const run = Option.getOrUndefined(yield* byId([runId]))
      return run === undefined || (ownerKey !== undefined && run.ownerKey !== ownerKey)
        ? { _tag: "Unknown" }
        : { _tag: "AlreadyEnded", run }
    })

    const isAbortRegistered = statement(
      `SELECT reason FROM ${aborts} WHERE owner_key = ? AND thread_id = ? AND idempotency_key = ?`
    )
    const registerAbort = statement(
      `INSERT INTO ${aborts} (owner_key, thread_id, idempotency_key, reason, at_millis) VALUES (?, ?, ?, ?, ${now})
    ON CONFLICT DO NOTHING`
    )

    const beating = (isLeft: string) =>
      statement<{ readonly atMillis: unknown }>(
        `UPDATE ${runs} SET heartbeat_at_millis = ${now}, lease_expires_at_millis = CASE
        WHEN workflow IS NOT NULL AND (lease_expires_at_millis < ${now}${isLeft}) THEN lease_expires_at_millis
        ELSE ${now} + ? END
    WHERE run_id = ? AND epoch = ? AND ${alive}
    RETURNING heartbeat_at_millis AS "atMillis"`
      )
    const heartbeat = beating("")
    const rest = beating(
      ` OR (SELECT COUNT(*) FROM ${questions} q WHERE q.run_id = ${runs}.run_id AND q.value IS NOT NULL) > ?`
    )
    const comeForward = statement(`UPDATE ${runs} SET starts = 0 WHERE run_id = ?`)

    // ---- Engines --------------------------------------------------------------------------------------------------

    const activation = kit.all((row: { readonly workflow: string; readonly starts: unknown }) =>
      Effect.map(rows.decode(row), (run): ActivateOutcome => ({
        _tag: "Activated",
        run,
        workflow: row.workflow,
        starts: Dialect.toNatural(row.starts)
      }))
    )(
      `UPDATE ${runs} SET epoch = epoch + 1, starts = starts + 1, heartbeat_at_millis = ${now},
        lease_expires_at_millis = ${now} + ?
      WHERE run_id = ? AND ${alive} AND workflow IS NOT NULL RETURNING ${currentColumns}, workflow, starts`
    )
    const quiet = statement<{ readonly runId: string }>(picking(
      `SELECT run_id FROM ${runs} WHERE lease_expires_at_millis IS NOT NULL AND workflow IS NOT NULL
      AND lease_expires_at_millis < ${fixedNow} ORDER BY lease_expires_at_millis LIMIT ?${skipLocked}`,
      `UPDATE ${runs} SET lease_expires_at_millis = ${now} + ?
      WHERE ${alive} AND ${amongPicked} RETURNING run_id AS "runId"`
    ))
    // A lease is begun before the answers are read, so that one which comes in between ends that lease.
    const wake = Effect.fnUntraced(function*(options: { readonly limit: number; readonly leaseMillis: number }) {
      const found = yield* write("wake")(quiet([options.limit, options.leaseMillis]))
      if (found.length === 0) return []
      const runIds = JSON.stringify(found.map(({ runId }) => runId))
      const answers = Arr.groupBy(
        yield* kit.read("wake")(answeredOf([runIds])),
        ({ runId }) => runId
      )
      return found.map(({ runId }): QuietRun => ({
        runId,
        answered: (answers[runId] ?? []).map(({ name }) => name)
      }))
    })

    // Several reapers share the work: on PostgreSQL each passes over the rows that another one, or a heartbeat, holds.
    const reap = ending(
      `lease_expires_at_millis IS NOT NULL AND ${isLost(fixedNow)} ORDER BY lease_expires_at_millis LIMIT ?`,
      ", epoch = epoch + 1",
      skipLocked
    )
    const takeOver = kit.all((row: { readonly resume: string }) =>
      Effect.map(rows.decode(row), (run): TakenRun => ({ run, resume: row.resume }))
    )(picking(
      `SELECT run_id FROM ${runs} WHERE lease_expires_at_millis IS NOT NULL AND resume IS NOT NULL
      AND lease_expires_at_millis < ${fixedNow} AND epoch < ? ORDER BY lease_expires_at_millis LIMIT ?${skipLocked}`,
      `UPDATE ${runs} SET epoch = epoch + 1, heartbeat_at_millis = ${now}, lease_expires_at_millis = ${now} + ?
      WHERE ${alive} AND ${amongPicked} RETURNING ${currentColumns}, resume`
    ))

    // ---- Reading --------------------------------------------------------------------------------------------------

    const lastEnded = oneRun(
      `SELECT ${runColumns} FROM ${runs}
    WHERE owner_key = ? AND thread_id = ? AND completed_at_millis IS NOT NULL
      AND COALESCE(completed_at_millis, heartbeat_at_millis, started_at_millis) >= ${fixedNow} - ?
    ORDER BY COALESCE(completed_at_millis, heartbeat_at_millis, started_at_millis) DESC LIMIT 1`
    )
    const readText = `SELECT seq, first_seq AS "firstSeq", kind, data, at_millis AS "atMillis" FROM ${events}
    WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?`
    // The rows of `node:sqlite` are as they should be already, and a replay is long.
    const readEvents = statement<Stored<RunEventRow>>(readText)
    const readEventRows = statement<RunEventRow>(readText)
    const heads = statement<Stored<RunHead>>(
      `SELECT run_id AS "runId", status, COALESCE(end_seq, ${
        lastOf("seq")
      }) AS "lastSeq" FROM ${runs} WHERE ${amongIds}`
    )

    // ---- Compacting -----------------------------------------------------------------------------------------------

    // Of two at once the second finds that the row has changed.
    const countCompacted = oneRun(
      `UPDATE ${runs} SET event_count = ?, byte_count = ?
    WHERE run_id = ? AND event_count = end_seq - 1 AND expired_at_millis IS NULL RETURNING ${runColumns}`
    )
    const given = isPg
      ? "SELECT CAST(json_array_elements_text(CAST(? AS json)) AS bigint)"
      : "SELECT value FROM json_each(?)"
    const deleteReplaced = statement(
      `DELETE FROM ${events} WHERE run_id = ? AND seq < ? AND seq NOT IN (${given})`
    )
    const replaceAtOnce = statement(
      `UPDATE ${events} AS event SET data = new.data, first_seq = new."firstSeq"
    FROM json_to_recordset(CAST(? AS json)) AS new(seq bigint, data text, "firstSeq" bigint)
    WHERE event.run_id = ? AND event.seq = new.seq`
    )
    const replaceMany = forMany(
      "(?, ?, ?, ?)",
      (rows) =>
        `UPDATE ${orFail}${events} SET data = column3, first_seq = column4
      FROM (VALUES ${rows}) AS new WHERE run_id = column1 AND seq = column2`
    )
    const compact = Effect.fnUntraced(function*(
      options: Parameters<RunEventRepository["Service"]["compact"]>[0]
    ): Effect.fn.Return<CompactOutcome, Failure> {
      const { runId } = options
      const row = byId([runId])
      const refused = refuseCompaction(Option.getOrUndefined(yield* row), options)
      if (refused !== undefined) return refused
      const byteCount = options.events.reduce((sum, { byteCount }) => sum + byteCount, 0)
      const run = Option.getOrUndefined(yield* countCompacted([options.events.length, byteCount, runId]))
      if (run === undefined) {
        return refuseCompaction(Option.getOrUndefined(yield* row), options) ?? { _tag: "AlreadyCompacted" }
      }
      const replacing = withFirsts(options.events)
      yield* deleteReplaced([runId, run.lastSeq, JSON.stringify(replacing.map(({ seq }) => seq))])
      yield* isPg
        ? replaceAtOnce([JSON.stringify(replacing), runId])
        : replaceMany(replacing.map(({ data, firstSeq, seq }) => [runId, seq, data, firstSeq]))
      return { _tag: "Compacted", run }
    })

    // ---- Sweeping -------------------------------------------------------------------------------------------------

    const expire = statement(picking(
      `SELECT run_id FROM ${runs} WHERE completed_at_millis IS NOT NULL AND expired_at_millis IS NULL
      AND completed_at_millis < ${fixedNow} - ? ORDER BY completed_at_millis LIMIT ?${skipLocked}`,
      `UPDATE ${runs} SET expired_at_millis = ${now} WHERE ${amongPicked} RETURNING run_id`
    ))
    const toPurge = statement<{ readonly runId: string }>(
      `SELECT run_id AS "runId" FROM ${runs} WHERE expired_at_millis IS NOT NULL AND purged_at_millis IS NULL
    ORDER BY expired_at_millis LIMIT ?${skipLocked}`
    )
    const deleteEvents = statement(
      `DELETE FROM ${events} WHERE run_id = ? AND seq IN (
      SELECT seq FROM ${events} WHERE run_id = ? ORDER BY seq LIMIT ?
    ) RETURNING seq`
    )
    const purged = statement(`UPDATE ${runs} SET purged_at_millis = ${now} WHERE run_id = ?`)
    const removeTombstones = statement(picking(
      `SELECT run_id FROM ${runs} WHERE purged_at_millis IS NOT NULL AND purged_at_millis < ${fixedNow} - ?
    ORDER BY purged_at_millis LIMIT ?${skipLocked}`,
      `DELETE FROM ${runs} WHERE ${amongPicked} RETURNING run_id`
    ))
    const removeAborts = statement(picking(
      `SELECT owner_key, thread_id, idempotency_key FROM ${aborts} WHERE at_millis < ${fixedNow} - ?
    ORDER BY at_millis LIMIT ?${skipLocked}`,
      `DELETE FROM ${aborts} WHERE (owner_key, thread_id, idempotency_key) IN (
      SELECT owner_key, thread_id, idempotency_key FROM picked
    ) RETURNING at_millis`
    ))
    const purge = Effect.fnUntraced(function*(limit: number): Effect.fn.Return<number, Failure> {
      let deleted = 0
      for (const { runId } of yield* toPurge([limit])) {
        if (deleted === limit) break
        const gone = (yield* deleteEvents([runId, runId, limit - deleted])).length
        deleted += gone
        // A full batch may have left some.
        if (deleted < limit) {
          yield* deleteQuestions([runId])
          yield* deleteWrites([runId])
          yield* purged([runId])
        }
      }
      return deleted
    })
    const swept = (rows: Effect.Effect<ReadonlyArray<object>, Failure>) =>
      Effect.map(write("sweep")(rows), ({ length }) => length)

    const databaseNow = statement<{ readonly now: unknown }>(`SELECT ${now} AS now`)

    return RunEventRepository.of({
      now: kit.read("now")(
        Effect.map(Effect.suspend(() => databaseNow([])), ([row]) => Dialect.toNatural(row?.now))
      ),
      start: (options) =>
        transaction("start")(Effect.tap(start(options), (outcome) =>
          outcome._tag === "Created"
            ? wakeUps.announce(topic, [[options.ownerKey, outcome.run.startedAtMillis]])
            : Effect.void)),
      ask: (options) => transaction("ask")(ask(options)),
      answer: (options) => transaction("answer")(answer(options)),
      compact: (options) => transaction("compact")(compact(options)),
      takeTurn: (options) => transaction("takeTurn")(takeTurn(options)),
      // One statement keeps one PostgreSQL process busy, and most of that is not the disk. SQLite has one writer.
      parallelAppends: isPg ? 2 : 1,
      append: (options) => {
        const oneByOne = Effect.suspend(() => transaction("append")(append(options)))
        if (!isPg) return oneByOne
        // If some item is refused, or another call numbers events of the same run: what becomes of each is decided one by
        // one, under the locks of a transaction. A caller's own transaction could not go on after such a conflict.
        return Effect.flatMap(
          kit.isJoined,
          (isJoined) =>
            isJoined ? oneByOne : write("append")(appendAtOnce(options)).pipe(
              Effect.flatMap(Option.match({ onNone: () => oneByOne, onSome: Effect.succeed })),
              Effect.catchIf(({ reason }) => reason === "Conflict", () => oneByOne)
            )
        )
      },
      finish: (options) =>
        atomically("finish")(
          Effect.flatMap(
            endWithEpoch([options.runId, options.epoch, options.status, options.reason], options.data),
            ([run]): Effect.Effect<FinishOutcome, Failure> =>
              run === undefined
                ? refusedWriter(options.runId, options.epoch)
                : Effect.succeed({ _tag: "Finished", run })
          )
        ),
      heartbeat: (options) =>
        write("heartbeat")(
          Effect.flatMap(
            options.answers === undefined
              ? heartbeat([options.leaseMillis, options.runId, options.epoch])
              : rest([options.answers, options.leaseMillis, options.runId, options.epoch]),
            ([row]): Effect.Effect<HeartbeatOutcome, Failure> =>
              row === undefined
                ? refusedWriter(options.runId, options.epoch)
                : Effect.as(options.forward === true ? comeForward([options.runId]) : Effect.void, {
                  _tag: "Extended",
                  leaseExpiresAtMillis: Dialect.toNatural(row.atMillis) + options.leaseMillis
                })
          )
        ),
      activate: ({ leaseMillis, runId }) =>
        write("activate")(
          Effect.flatMap(activation([leaseMillis, runId]), ([activated]): Effect.Effect<ActivateOutcome, Failure> =>
            activated !== undefined ? Effect.succeed(activated) : Effect.map(byId([runId]), (row) => {
              const status = Option.getOrUndefined(row)?.status
              return status !== undefined && isEnded(status) ? { _tag: "Ended", status } : { _tag: "Unknown" }
            }))
        ),
      wake,
      abort: (options) => atomically("abort")(abort(options)),
      abortByKey: (options) =>
        transaction("abortByKey")(
          Effect.gen(function*(): Effect.fn.Return<AbortByKeyOutcome, Failure> {
            const { data, idempotencyKey, ownerKey, reason, threadId } = options
            yield* lockOwner(ownerKey)
            const run = Option.getOrUndefined(yield* byKey([ownerKey, idempotencyKey]))
            if (run === undefined) {
              if ((yield* isAbortRegistered([ownerKey, threadId, idempotencyKey])).length > 0) {
                return { _tag: "Registered" }
              }
              if (yield* hasTooManyAborts(ownerKey, options.maxAborts)) return { _tag: "TooMany", limit: "maxAborts" }
              yield* registerAbort([ownerKey, threadId, idempotencyKey, reason])
              return { _tag: "Registered" }
            }
            if (run.threadId !== threadId) return { _tag: "Conflict", run }
            const outcome = yield* abort({ runId: run.runId, ownerKey, reason, data })
            return outcome._tag === "Unknown" ? { _tag: "AlreadyEnded", run } : outcome
          })
        ),
      get: (runId) => kit.read("get")(byId([runId])),
      getByKey: ({ idempotencyKey, ownerKey }) => kit.read("getByKey")(byKey([ownerKey, idempotencyKey])),
      activeForThread: ({ ownerKey, threadId, windowMillis }) =>
        kit.read("activeForThread")(
          Effect.flatMap(byThread([ownerKey, threadId]), (running) =>
            // A run that ends between two looks is found by the next.
            Option.isSome(running) ? Effect.succeed(running) : Effect.flatMap(
              longestWaiting([ownerKey, threadId]),
              (waiting) =>
                Option.isSome(waiting) ? Effect.succeed(waiting) : lastEnded([ownerKey, threadId, windowMillis])
            ))
        ),
      list: ({ after, limit, ownerKey, status, threadId }) => {
        const page = [after?.startedAtMillis ?? Number.MAX_SAFE_INTEGER, after?.runId ?? "", limit]
        const ofStatus = status === undefined ? [] : [status === "waiting" ? "running" : status, status]
        return kit.read("list")(
          threadId === undefined
            ? (status === undefined ? list : listOfStatus)([ownerKey, ...ofStatus, ...page])
            : (status === undefined ? listOfThread : listOfBoth)([ownerKey, threadId, ...ofStatus, ...page])
        )
      },
      listFollowed: ({ ownerKey, threadId, which }) => {
        const ofThread = (rows: ReadonlyArray<RunRow>) =>
          rows.filter((row) => (threadId ?? row.threadId) === row.threadId)
            .sort((a, b) => a.startedAtMillis - b.startedAtMillis)
        return kit.read("listFollowed")(
          which._tag === "After"
            ? threadId === undefined
              ? followedAfter([ownerKey, which.startedAtMillis, which.limit])
              : followedAfterOfThread([ownerKey, threadId, which.startedAtMillis, which.limit])
            : Effect.map(
              which._tag === "Alive"
                ? followedAlive([ownerKey])
                : followedAt([ownerKey, JSON.stringify(which.startedAtMillis)]),
              ofThread
            )
        )
      },
      newestStarts: (ownerKeys) =>
        kit.read("newestStarts")(
          Effect.map(newestStarts([JSON.stringify(ownerKeys)]), (rows) =>
            new Map(
              rows.flatMap(({ ownerKey, startedAtMillis }) =>
                startedAtMillis === null ? [] : [[ownerKey, Dialect.toNatural(startedAtMillis)]]
              )
            ))
        ),
      read: ({ after, limit, runId }) =>
        kit.read("read")(
          isPg
            ? Effect.map(readEvents([runId, after, limit]), (found) => found.map(toEventRow))
            : readEventRows([runId, after, limit])
        ),
      heads: (runIds) =>
        kit.read("heads")(
          Effect.map(heads([JSON.stringify(runIds)]), (rows) =>
            rows.map((row): RunHead => ({
              runId: row.runId,
              status: row.status,
              lastSeq: Dialect.toNatural(row.lastSeq)
            })))
        ),
      reap: ({ data, limit, maxEpoch, patienceMillis, reason }) =>
        atomically("reap")(reap([maxEpoch, patienceMillis, limit, "failed", reason], data)),
      takeOver: ({ leaseMillis, limit, maxEpoch }) => write("takeOver")(takeOver([maxEpoch, limit, leaseMillis])),
      sweep: ({ limit, retentionMillis, tombstoneMillis }) =>
        // Each part is a transaction of its own: what one has done does not depend on the next.
        Effect.gen(function*() {
          const removed = yield* swept(removeTombstones([tombstoneMillis, limit]))
          const expired = yield* swept(expire([retentionMillis, limit]))
          const purgedEvents = yield* transaction("sweep")(purge(limit))
          const removedAborts = yield* swept(removeAborts([retentionMillis, limit]))
          return { expired, events: purgedEvents, removed, aborts: removedAborts }
        }),
      wakeups: Stream.mapError(wakeUps.listen(topic), failedAs("wakeups"))
    })
  }
)

/**
 * Provides the repository on tables that are there already, for a connection without the right to create any.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<RunEventRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(RunEventRepository, make(options))

/**
 * Provides the repository, with a prefix of one's own, after creating or upgrading its tables.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<RunEventRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository after creating or upgrading its tables.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RunEventRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
