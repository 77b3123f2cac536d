import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { spawn } from "node:child_process"
import { connect, tempFile } from "./support.ts"

const counter = (sql: SqlClient.SqlClient) => sql`CREATE TABLE t (n INTEGER PRIMARY KEY)`
const add = (sql: SqlClient.SqlClient, n: number) => sql`INSERT INTO t VALUES (${n})`
const all = (sql: SqlClient.SqlClient) => Effect.map(sql`SELECT n FROM t ORDER BY n`.values, (rows) => rows.flat())

// Writers on one file take turns: a writer that does not get the lock tries again a little later.
const patiently = <A, R>(effect: Effect.Effect<A, SqlError, R>) =>
  Effect.retry(effect, {
    while: (error) => error.isRetryable,
    schedule: Schedule.jittered(Schedule.spaced("2 millis"))
  })

describe("transactions", () => {
  it.effect("commit on success and roll back on failure, defect and interruption", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* counter(sql)
      yield* sql.withTransaction(add(sql, 1))
      assert.strictEqual(yield* Effect.flip(sql.withTransaction(Effect.andThen(add(sql, 2), Effect.fail("no")))), "no")
      assert.isTrue(Exit.isFailure(
        yield* Effect.exit(sql.withTransaction(Effect.andThen(add(sql, 3), Effect.die("no"))))
      ))
      const inserted = yield* Deferred.make<void>()
      const fiber = yield* add(sql, 4).pipe(
        Effect.andThen(Deferred.succeed(inserted, undefined)),
        Effect.andThen(Effect.never),
        sql.withTransaction,
        Effect.forkChild
      )
      yield* Deferred.await(inserted)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* all(sql), [1])
    }))

  it.effect("nest as savepoints", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* counter(sql)
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* add(sql, 1)
        yield* Effect.flip(sql.withTransaction(Effect.andThen(add(sql, 2), Effect.fail("inner"))))
        yield* sql.withTransaction(Effect.andThen(add(sql, 3), sql.withTransaction(add(sql, 4))))
        for (let n = 10; n < 60; n++) yield* sql.withTransaction(add(sql, n))
      }))
      assert.strictEqual((yield* all(sql)).length, 53)
      assert.notInclude(yield* all(sql), 2)
    }))

  it.effect("keep other fibers of the client out until they end", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* counter(sql)
      const started = yield* Deferred.make<void>()
      const transaction = sql.withTransaction(Effect.gen(function*() {
        yield* add(sql, 1)
        yield* Deferred.succeed(started, undefined)
        for (let i = 0; i < 20; i++) yield* Effect.yieldNow
        return yield* Effect.fail("no")
      }))
      const outside = Effect.andThen(Deferred.await(started), add(sql, 2))
      yield* Effect.all([Effect.exit(transaction), outside], { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* all(sql), [2])
    }))

  it.effect("take the write lock when they begin", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const first = yield* connect({ filename })
      yield* counter(first)
      const second = yield* connect({ filename, busyTimeout: 0 })
      yield* first.withTransaction(Effect.gen(function*() {
        const error = yield* Effect.flip(second.withTransaction(Effect.die("must not start")))
        assert.strictEqual(error.reason._tag, "LockTimeoutError")
        assert.deepStrictEqual(yield* all(second), [])
      }))
      const deferred = Effect.provideService(SqlClient.BeginTransaction, "BEGIN")
      yield* first.withTransaction(deferred(second.withTransaction(all(second))))
    }))

  it.effect("end when a statement has already rolled them back, and when COMMIT fails", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* counter(sql)
      yield* add(sql, 1)
      yield* Effect.flip(sql.withTransaction(Effect.andThen(add(sql, 2), sql`INSERT OR ROLLBACK INTO t VALUES (1)`)))
      assert.deepStrictEqual(yield* all(sql), [1])
      yield* sql`CREATE TABLE c (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)`
      const error = yield* Effect.flip(sql.withTransaction(sql`INSERT INTO c VALUES (99)`))
      assert.strictEqual(error.reason._tag, "ConstraintError")
      assert.deepStrictEqual(yield* sql`SELECT * FROM c`, [])
      yield* sql.withTransaction(add(sql, 3))
      assert.deepStrictEqual(yield* all(sql), [1, 3])
    }))

  it.effect("publish after the outermost commit only", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* counter(sql)
      const published: Array<string> = []
      const publish = (name: string) => sql.afterCommit(Effect.sync(() => void published.push(name)))
      yield* sql.withTransaction(Effect.andThen(sql.withTransaction(publish("kept")), add(sql, 1)))
      yield* Effect.flip(sql.withTransaction(Effect.andThen(publish("lost"), Effect.fail("no"))))
      assert.deepStrictEqual(published, ["kept"])
    }))
})

describe("one file, several writers", () => {
  it.live("two connections lose nothing and duplicate nothing", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const left = yield* connect({ filename, busyTimeout: 0, synchronous: "OFF" })
      const right = yield* connect({ filename, busyTimeout: 0, synchronous: "OFF" })
      yield* left`CREATE TABLE c (n INTEGER NOT NULL)`
      yield* left`INSERT INTO c VALUES (0)`
      const increment = (sql: SqlClient.SqlClient) =>
        sql.withTransaction(Effect.gen(function*() {
          const [row] = yield* sql<{ n: number }>`SELECT n FROM c`
          yield* Effect.yieldNow
          yield* sql`UPDATE c SET n = ${(row?.n ?? 0) + 1}`
        }))
      yield* Effect.all(
        Array.from({ length: 100 }, (_, i) => patiently(increment(i % 2 === 0 ? left : right))),
        { concurrency: 8, discard: true }
      )
      assert.deepStrictEqual(yield* left`SELECT n FROM c`, [{ n: 100 }])
    }))

  const script = `
    const { DatabaseSync } = require("node:sqlite")
    const db = new DatabaseSync(process.argv[1], { timeout: 20000 })
    process.stdout.write("ready")
    const update = db.prepare("UPDATE c SET n = n + 1")
    for (let i = 0; i < 200; i++) { db.exec("BEGIN IMMEDIATE"); update.run(); db.exec("COMMIT") }
    db.close()
  `

  it.live("a second process writes beside this one", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const sql = yield* connect({ filename, busyTimeout: "20 seconds", synchronous: "OFF" })
      yield* sql`CREATE TABLE c (n INTEGER NOT NULL)`
      yield* sql`INSERT INTO c VALUES (0)`
      const ready = yield* Deferred.make<void>()
      const child = yield* Effect.forkChild(Effect.callback<number | null>((resume) => {
        const process_ = spawn(process.execPath, ["-e", script, filename], { stdio: ["ignore", "pipe", "inherit"] })
        process_.stdout.once("data", () => Deferred.doneUnsafe(ready, Effect.void))
        process_.once("exit", (code) => resume(Effect.succeed(code)))
        return Effect.sync(() => void process_.kill())
      }))
      yield* Effect.raceFirst(Deferred.await(ready), Fiber.await(child))
      for (let i = 0; i < 200; i++) {
        yield* patiently(sql.withTransaction(sql`UPDATE c SET n = n + 1`))
        yield* Effect.yieldNow
      }
      assert.strictEqual(yield* Fiber.join(child), 0)
      assert.deepStrictEqual(yield* sql`SELECT n FROM c`, [{ n: 400 }])
    }))

  // Each child waits for the others, then opens one fresh file after the other. A child that cannot open one exits with
  // 1.
  const opener = `
    import { open } from ${JSON.stringify(new URL("../src/internal/connection.ts", import.meta.url).href)}
    import * as Effect from "effect/Effect"
    const create = (filename) => Effect.scoped(Effect.flatMap(open({ filename, busyTimeout: "20 seconds" }), (connection) =>
      connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)", [], undefined)))
    process.stdin.once("data", async () => {
      for (let i = 0; i < 40; i++) await Effect.runPromise(create(process.env.DB + i))
      process.exit(0)
    })
    process.stdout.write("ready")
  `

  it.live("processes that open a fresh file together all get in", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const children = Array.from({ length: 4 }, () => {
        const child = spawn(process.execPath, ["--input-type=module", "-e", opener], {
          cwd: new URL(".", import.meta.url),
          env: { ...process.env, DB: filename },
          stdio: ["pipe", "pipe", "inherit"]
        })
        return {
          child,
          ready: new Promise<void>((resolve) => child.stdout.once("data", () => resolve())),
          exit: new Promise<number | null>((resolve) => child.once("exit", resolve))
        }
      })
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const { child } of children) child.kill()
        })
      )
      yield* Effect.promise(() => Promise.all(children.map(({ exit, ready }) => Promise.race([ready, exit]))))
      for (const { child } of children) child.stdin.write("go")
      const codes = yield* Effect.promise(() => Promise.all(children.map(({ exit }) => exit)))
      assert.deepStrictEqual(codes, [0, 0, 0, 0])
    }))
})
