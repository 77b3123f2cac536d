import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { DatabaseSync } from "node:sqlite"
import { makeCache } from "../src/internal/connection.ts"
import { connect } from "./support.ts"

const database = Effect.acquireRelease(
  Effect.sync(() => new DatabaseSync(":memory:")),
  (db) => Effect.sync(() => db.close())
)

const cache = (capacity: number, timeToLive?: number) =>
  Effect.map(database, (db) => {
    const lookup = makeCache(db, capacity, timeToLive)
    return (n: number) => Effect.withFiberSucceed((fiber) => lookup(`SELECT ${n}`, fiber).statement)
  })

describe("the statement cache", () => {
  it.effect("keeps the most recently used statements and no more", () =>
    Effect.gen(function*() {
      const get = yield* cache(2)
      const one = yield* get(1)
      assert.strictEqual(yield* get(1), one)
      const two = yield* get(2)
      assert.strictEqual(yield* get(1), one)
      yield* get(3)
      assert.strictEqual(yield* get(1), one)
      assert.notStrictEqual(yield* get(2), two)
    }))

  it.effect("keeps nothing at size 0", () =>
    Effect.gen(function*() {
      const get = yield* cache(0)
      assert.notStrictEqual(yield* get(1), yield* get(1))
    }))

  it.effect("drops a statement when its time has passed", () =>
    Effect.gen(function*() {
      const get = yield* cache(2, 1000)
      const one = yield* get(1)
      yield* TestClock.adjust(999)
      assert.strictEqual(yield* get(1), one)
      yield* TestClock.adjust(1)
      const again = yield* get(1)
      assert.notStrictEqual(again, one)
      assert.strictEqual(yield* get(1), again)
    }))

  for (const prepareCacheSize of [0, 1, 3]) {
    it.effect(`gives right answers at size ${prepareCacheSize}`, () =>
      Effect.gen(function*() {
        const sql = yield* connect({ filename: ":memory:", prepareCacheSize, prepareCacheTTL: "1 second" })
        for (let i = 0; i < 50; i++) {
          const n = i % 7
          assert.deepStrictEqual(yield* sql.unsafe(`SELECT ${n} AS n, ? AS i`, [i]), [{ n, i }])
        }
      }))
  }
})
