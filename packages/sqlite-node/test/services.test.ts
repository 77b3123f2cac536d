import { assert, describe, it } from "@effect/vitest"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as EventJournal from "effect/eventlog/EventJournal"
import * as SqlEventJournal from "effect/eventlog/SqlEventJournal"
import * as Layer from "effect/Layer"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Schema from "effect/Schema"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import { connect, tempFile } from "./support.ts"

const client = Layer.unwrap(Effect.map(tempFile, (filename) => SqliteClient.layer({ filename })))

describe("Effect's own services", () => {
  it.effect("KeyValueStore", () =>
    Effect.gen(function*() {
      const store = yield* KeyValueStore.KeyValueStore
      yield* store.set("k", "v")
      yield* store.set("k", "w")
      assert.strictEqual(yield* store.get("k"), "w")
      assert.strictEqual(yield* store.size, 1)
      yield* store.remove("k")
      assert.isUndefined(yield* store.get("k"))
    }).pipe(Effect.provide(KeyValueStore.layerSql().pipe(Layer.provide(client)))))

  it.live("PersistedQueue", () =>
    Effect.gen(function*() {
      const queue = yield* PersistedQueue.make({ name: "q", schema: Schema.Struct({ n: Schema.Int }) })
      yield* queue.offer({ n: 1 }, { id: "one" })
      yield* queue.offer({ n: 1 }, { id: "one" })
      yield* queue.offer({ n: 2 })
      const take = queue.take(({ n }) => Effect.succeed(n))
      assert.deepStrictEqual([yield* take, yield* take].sort(), [1, 2])
    }).pipe(Effect.provide(
      PersistedQueue.layer.pipe(
        Layer.provide(PersistedQueue.layerStoreSql({ pollInterval: "10 millis" })),
        Layer.provide(client)
      )
    )))

  it.effect("EventJournal", () =>
    Effect.gen(function*() {
      const journal = yield* EventJournal.EventJournal
      const payload = new Uint8Array([1, 2, 3])
      yield* journal.write({ event: "E", primaryKey: "k", payload, effect: () => Effect.void })
      yield* Effect.flip(journal.write({ event: "F", primaryKey: "k", payload, effect: () => Effect.fail("no") }))
      const entries = yield* journal.entries
      assert.deepStrictEqual(entries.map((entry) => [entry.event, entry.payload]), [["E", payload]])
    }).pipe(Effect.provide(SqlEventJournal.layer().pipe(Layer.provide(client)))))

  it.effect("Migrator, once for all clients of one file", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const loader = Migrator.fromRecord({
        "1_one": Effect.asVoid(SqlClient.SqlClient.use((sql) => sql`CREATE TABLE one (n INTEGER)`)),
        "2_two": Effect.asVoid(SqlClient.SqlClient.use((sql) => sql`ALTER TABLE one ADD COLUMN m INTEGER`))
      })
      const clients = [yield* connect({ filename }), yield* connect({ filename })]
      const ran: Array<readonly [number, string]> = []
      for (const sql of [...clients, ...clients]) {
        ran.push(...yield* Effect.provideService(Migrator.make({})({ loader }), SqlClient.SqlClient, sql))
      }
      assert.deepStrictEqual(ran, [[1, "one"], [2, "two"]])
    }))
})
