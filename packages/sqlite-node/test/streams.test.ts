import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Deferred from "effect/Deferred"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"
import * as String from "effect/String"
import { connect, tempFile } from "./support.ts"

const numbers = (sql: SqlClient.SqlClient, to: number) =>
  sql<{ n: number }>`WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ${to}) SELECT n FROM c`

describe("streams", () => {
  for (const size of [0, 1, 127, 128, 129, 256]) {
    it.effect(`give ${size} rows in order`, () =>
      Effect.gen(function*() {
        const sql = yield* connect({ filename: ":memory:" })
        const rows = yield* Stream.runCollect(Stream.take(numbers(sql, Math.max(size, 1)).stream, size))
        assert.deepStrictEqual(rows.map((row) => row.n), Array.from({ length: size }, (_, i) => i + 1))
      }))
  }

  it.effect("end without a row when there is none", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      assert.deepStrictEqual(yield* Stream.runCollect(sql`SELECT 1 WHERE 0`.stream), [])
    }))

  it.effect("read large results a chunk at a time", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      const sum = yield* Stream.runFold(numbers(sql, 50_000).stream, () => 0, (sum, row) => sum + row.n)
      assert.strictEqual(sum, 50_000 * 50_001 / 2)
      const first = yield* Stream.runHead(numbers(sql, Number.MAX_SAFE_INTEGER).stream)
      assert.isTrue(first._tag === "Some" && first.value.n === 1)
    }))

  it.effect("release the connection and the read lock when they are left early", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const reader = yield* connect({ filename, disableWAL: true })
      const writer = yield* connect({ filename, disableWAL: true, busyTimeout: 0 })
      yield* writer`CREATE TABLE t (n INTEGER)`
      yield* writer`INSERT INTO t WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000) SELECT n FROM c`
      const write = writer`INSERT INTO t VALUES (0)`

      yield* Stream.runDrain(Stream.take(reader`SELECT n FROM t`.stream, 3))
      yield* write

      const started = yield* Deferred.make<void>()
      const fiber = yield* reader`SELECT n FROM t`.stream.pipe(
        Stream.tap(() => Effect.andThen(Deferred.succeed(started, undefined), Effect.never)),
        Stream.runDrain,
        Effect.forkChild
      )
      yield* Deferred.await(started)
      assert.strictEqual((yield* Effect.flip(write)).reason._tag, "LockTimeoutError")
      yield* Fiber.interrupt(fiber)
      yield* write

      yield* Effect.flip(Stream.runForEach(reader`SELECT n FROM t`.stream, () => Effect.fail("enough")))
      yield* write
      assert.deepStrictEqual(yield* reader`SELECT count(*) AS c FROM t`, [{ c: 1003 }])
    }))

  it.effect("run beside other statements of one transaction, the same text included", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* sql`CREATE TABLE t (n INTEGER)`
      yield* sql.withTransaction(
        numbers(sql, 300).stream.pipe(Stream.runForEach((row) =>
          Effect.andThen(Stream.runHead(numbers(sql, 300).stream), sql`INSERT INTO t VALUES (${row.n})`)
        ))
      )
      assert.deepStrictEqual(yield* sql`SELECT count(*) AS c FROM t`, [{ c: 300 }])
    }))

  it.effect("honour transforms and SafeIntegers", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:", transformResultNames: String.snakeToCamel })
      const rows = sql`SELECT 1 AS a_b`
      assert.deepStrictEqual(yield* Stream.runCollect(rows.stream), [{ aB: 1 }])
      assert.deepStrictEqual(
        yield* Effect.provideService(Stream.runCollect(rows.stream), SqlClient.SafeIntegers, true),
        [{ aB: BigInt(1) }]
      )
    }))

  it.effect("fail with a SqlError at the start and on the way, and can run again", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(sql`SELEC 1`.stream))).reason._tag, "SqlSyntaxError")
      assert.include((yield* Effect.flip(Stream.runDrain(sql`SELECT 1; SELECT 2`.stream))).message, "more than one")
      assert.include(
        (yield* Effect.flip(Stream.runDrain(sql.unsafe("SELECT ?", [new Date(0)]).stream))).message,
        "a Date"
      )
      const late = sql`SELECT json_extract(value, '$') FROM json_each('["1", "{"]')`.stream
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(late))).reason.operation, "stream")
      const stream = numbers(sql, 3).stream
      assert.strictEqual((yield* Stream.runCollect(stream)).length, 3)
      assert.strictEqual((yield* Stream.runCollect(stream)).length, 3)
    }))
})
