import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { connect, tempFile } from "./support.ts"

const program = `
  const { DatabaseSync } = require("node:sqlite")
  const db = new DatabaseSync(process.argv[1], { timeout: 20000 })
  for (const sql of process.argv.slice(2, -1)) db.prepare(sql).all()
  process.stdout.write("held")
  process.stdin.once("data", () => {
    db.exec(process.argv.at(-1))
    db.close()
    process.exit(0)
  })
`

/** Has another process run statements that take a lock, and returns how it runs the last one, which gives the lock back. */
const hold = (filename: string, ...statements: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["-e", program, filename, ...statements], { stdio: ["pipe", "pipe", "inherit"] })
      ),
      (child) => Effect.sync(() => void child.kill())
    )
    const exited = new Promise<number | null>((resolve) => child.once("exit", resolve))
    const held = new Promise<boolean>((resolve) => child.stdout.once("data", () => resolve(true)))
    assert.isTrue(yield* Effect.promise(() => Promise.race([held, exited])))
    return Effect.promise(() => {
      child.stdin.write("go")
      return exited
    })
  })

const table = (sql: SqlClient.SqlClient) => sql`CREATE TABLE t (n INTEGER NOT NULL)`
const add = (sql: SqlClient.SqlClient, n: number) => sql`INSERT INTO t (n) VALUES (${n})`
const all = (sql: SqlClient.SqlClient) => Effect.map(sql`SELECT n FROM t ORDER BY n`.values, (rows) => rows.flat())
const inTransaction = "a statement in a transaction that has begun without the lock"
const deferred = Effect.provideService(SqlClient.BeginTransaction, "BEGIN")

/** Waits until what a fiber does waits itself: timers go off again and again, and it has no answer. */
const seeWaiting = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.gen(function*() {
    for (let i = 0; i < 10; i++) {
      yield* Effect.sleep("20 millis")
      assert.isUndefined(fiber.pollUnsafe())
    }
  })

let longestDelayMillis = 0
afterAll(() => {
  process.stdout.write(`While writers waited, the event loop was held up for ${longestDelayMillis} ms at most\n`)
})

describe("a lock that another process holds", () => {
  for (const mode of ["EXCLUSIVE", "IMMEDIATE"]) {
    for (
      const [how, write] of [
        ["a statement", add],
        [
          "a statement that answers",
          (sql: SqlClient.SqlClient, n: number) => sql`INSERT INTO t VALUES (${n}) RETURNING n`
        ],
        ["a raw statement", (sql: SqlClient.SqlClient, n: number) => add(sql, n).raw],
        ["a statement for values", (sql: SqlClient.SqlClient, n: number) => add(sql, n).values],
        ["an unprepared statement", (sql: SqlClient.SqlClient, n: number) => add(sql, n).unprepared],
        ["a transaction", (sql: SqlClient.SqlClient, n: number) => sql.withTransaction(add(sql, n))],
        [
          "a transaction that begins in its own way",
          (sql: SqlClient.SqlClient, n: number) =>
            Effect.provideService(sql.withTransaction(add(sql, n)), SqlClient.BeginTransaction, "BEGIN EXCLUSIVE")
        ],
        [inTransaction, (sql: SqlClient.SqlClient, n: number) => deferred(sql.withTransaction(add(sql, n)))],
        [
          "a change of the schema",
          (sql: SqlClient.SqlClient, n: number) => Effect.andThen(sql`CREATE INDEX i ON t (n)`, add(sql, n))
        ]
      ] as const
    ) {
      it.live(
        `OPS-03 C-53: ${mode}: ${how} waits, and neither the event loop nor a read waits with it`,
        () =>
          Effect.gen(function*() {
            const filename = yield* tempFile
            const sql = yield* connect({ filename, busyTimeout: "60 seconds", synchronous: "OFF" })
            yield* table(sql)
            const release = yield* hold(filename, `BEGIN ${mode}`, "INSERT INTO t VALUES (1)", "COMMIT")
            const delay = monitorEventLoopDelay({ resolution: 5 })
            delay.enable()
            const writing = yield* Effect.forkChild(write(sql, 2))
            yield* seeWaiting(writing)
            if (how !== inTransaction) {
              assert.deepStrictEqual(yield* all(sql), [])
              assert.deepStrictEqual(yield* deferred(sql.withTransaction(all(sql))), [])
              assert.deepStrictEqual(yield* Stream.runCollect(sql`SELECT n FROM t`.stream), [])
              yield* seeWaiting(writing)
            }
            delay.disable()
            longestDelayMillis = Math.max(longestDelayMillis, delay.max / 1e6)
            assert.strictEqual(yield* release, 0)
            yield* Fiber.join(writing)
            assert.deepStrictEqual(yield* all(sql), [1, 2])
          }),
        60_000
      )
    }
  }

  it.live("OPS-03 C-53: is waited for no longer than asked, with an error to try again after, and nothing is left behind", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, busyTimeout: "100 millis", synchronous: "OFF" })
      yield* table(sql)
      const release = yield* hold(filename, "BEGIN IMMEDIATE", "ROLLBACK")
      for (const write of [add(sql, 1), sql.withTransaction(add(sql, 1)), deferred(sql.withTransaction(add(sql, 1)))]) {
        const error = yield* Effect.flip(write)
        assert.strictEqual(error.reason._tag, "LockTimeoutError")
        assert.isTrue(error.isRetryable)
        assert.deepStrictEqual(yield* all(sql), [])
      }
      yield* release
      yield* sql.withTransaction(add(sql, 2))
      assert.deepStrictEqual(yield* all(sql), [2])
    }))

  it.live("OPS-03 C-53: a writer that is interrupted while it waits leaves the connection as it was", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, busyTimeout: "60 seconds", synchronous: "OFF" })
      yield* table(sql)
      const release = yield* hold(filename, "BEGIN IMMEDIATE", "ROLLBACK")
      for (let i = 0; i < 5; i++) {
        for (
          const write of [add(sql, 1), sql.withTransaction(add(sql, 1)), deferred(sql.withTransaction(add(sql, 1)))]
        ) {
          const fiber = yield* Effect.forkChild(write)
          yield* Effect.sleep("5 millis")
          yield* Fiber.interrupt(fiber)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
        }
      }
      yield* release
      // One at a time still has the connection.
      const inside = yield* Deferred.make<void>()
      const done = yield* Deferred.make<void>()
      const transaction = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
        yield* add(sql, 2)
        yield* Deferred.succeed(inside, undefined)
        yield* Deferred.await(done)
      })))
      yield* Deferred.await(inside)
      const reading = yield* Effect.forkChild(all(sql))
      yield* Effect.sleep("20 millis")
      assert.isUndefined(reading.pollUnsafe())
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(transaction)
      assert.deepStrictEqual(yield* Fiber.join(reading), [2])
    }))

  it.live(
    "OPS-03 C-53: of many that wait each gets in once, in the order of their coming, beside some that give up",
    () =>
      Effect.gen(function*() {
        const filename = yield* tempFile
        const sql = yield* connect({ filename, busyTimeout: "60 seconds", synchronous: "OFF" })
        yield* sql`CREATE TABLE t (at INTEGER PRIMARY KEY, n INTEGER NOT NULL)`
        const release = yield* hold(filename, "BEGIN IMMEDIATE", "COMMIT")
        const fibers = []
        for (let n = 0; n < 200; n++) {
          fibers.push(yield* Effect.forkChild(n % 3 === 0 ? sql.withTransaction(add(sql, n)) : add(sql, n)))
        }
        yield* Effect.sleep("30 millis")
        for (const n of [0, 1, 57, 199]) {
          const fiber = fibers[n]
          if (fiber !== undefined) yield* Fiber.interrupt(fiber)
        }
        assert.deepStrictEqual(yield* all(sql), [])
        yield* release
        yield* Effect.forEach(fibers, Fiber.await)
        const rows = yield* sql`SELECT n FROM t ORDER BY at`.values
        assert.deepStrictEqual(
          rows.flat(),
          Array.from({ length: 200 }, (_, n) => n).filter((n) => ![0, 1, 57, 199].includes(n))
        )
      }),
    60_000
  )

  it.live("OPS-03 C-53: a statement waits behind a schema that changes meanwhile", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, busyTimeout: "60 seconds", synchronous: "OFF" })
      yield* table(sql)
      yield* add(sql, 1)
      const change = "ALTER TABLE t ADD COLUMN m INTEGER NOT NULL DEFAULT 7"
      const release = yield* hold(filename, "BEGIN IMMEDIATE", change, "COMMIT")
      const writing = yield* Effect.forkChild(add(sql, 2))
      yield* seeWaiting(writing)
      yield* release
      yield* Fiber.join(writing)
      assert.deepStrictEqual(yield* sql`SELECT n, m FROM t`, [{ n: 1, m: 7 }, { n: 2, m: 7 }])
    }))

  it.live("OPS-03: a COMMIT that readers hold up waits for them", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, disableWAL: true, busyTimeout: "60 seconds", synchronous: "OFF" })
      yield* table(sql)
      for (const write of [add(sql, 1), sql.withTransaction(add(sql, 2))]) {
        const release = yield* hold(filename, "BEGIN", "SELECT * FROM t", "COMMIT")
        const writing = yield* Effect.forkChild(write)
        yield* seeWaiting(writing)
        yield* release
        yield* Fiber.join(writing)
      }
      assert.deepStrictEqual(yield* all(sql), [1, 2])
    }))

  it.live("OPS-03: a COMMIT that waits too long, or is interrupted, is undone", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, disableWAL: true, busyTimeout: "300 millis", synchronous: "OFF" })
      yield* table(sql)
      const release = yield* hold(filename, "BEGIN", "SELECT * FROM t", "COMMIT")
      assert.strictEqual((yield* Effect.flip(sql.withTransaction(add(sql, 1)))).reason._tag, "LockTimeoutError")
      assert.deepStrictEqual(yield* all(sql), [])
      const fiber = yield* Effect.forkChild(sql.withTransaction(add(sql, 2)))
      yield* Effect.sleep("20 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* all(sql), [])
      yield* release
      yield* sql.withTransaction(add(sql, 3))
      assert.deepStrictEqual(yield* all(sql), [3])
    }))

  it.live("OPS-03: a read and a stream wait for a file that is locked whole", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, disableWAL: true, busyTimeout: "60 seconds", synchronous: "OFF" })
      yield* table(sql)
      const release = yield* hold(filename, "BEGIN EXCLUSIVE", "INSERT INTO t VALUES (1)", "COMMIT")
      const reading = yield* Effect.forkChild(all(sql))
      const streaming = yield* Effect.forkChild(Stream.runCollect(sql<{ n: number }>`SELECT n FROM t`.stream))
      yield* seeWaiting(reading)
      yield* seeWaiting(streaming)
      yield* release
      assert.deepStrictEqual(yield* Fiber.join(reading), [1])
      assert.deepStrictEqual(yield* Fiber.join(streaming), [{ n: 1 }])
    }))

  it.live("OPS-03: a transaction that has read an old state is told at once to begin again", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, busyTimeout: "60 seconds", synchronous: "OFF" })
      const other = yield* connect({ filename, synchronous: "OFF" })
      yield* table(sql)
      const error = yield* Effect.flip(deferred(sql.withTransaction(Effect.gen(function*() {
        yield* all(sql)
        yield* add(other, 1)
        yield* add(sql, 2)
      }))))
      assert.strictEqual(error.reason._tag, "SerializationError")
      assert.isTrue(error.isRetryable)
      assert.deepStrictEqual(yield* all(sql), [1])
    }))

  it.live("OPS-03: a file that is locked whole is opened when the lock is gone, and the event loop turns meanwhile", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      yield* Effect.scoped(Effect.flatMap(connect({ filename, disableWAL: true }), table))
      const release = yield* hold(filename, "BEGIN EXCLUSIVE", "COMMIT")
      const error = yield* Effect.flip(connect({ filename, busyTimeout: "50 millis" }))
      assert.strictEqual(error.reason._tag, "LockTimeoutError")
      assert.include(error.message, filename)
      const opening = yield* Effect.forkChild(connect({ filename, busyTimeout: "60 seconds" }))
      yield* seeWaiting(opening)
      const interrupted = yield* Effect.forkChild(connect({ filename, busyTimeout: "60 seconds" }))
      yield* seeWaiting(interrupted)
      yield* Fiber.interrupt(interrupted)
      yield* release
      const sql = yield* Fiber.join(opening)
      assert.deepStrictEqual(yield* sql`PRAGMA journal_mode`.values, [["wal"]])
    }))
})
