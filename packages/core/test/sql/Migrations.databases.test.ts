import * as Migrations from "@sallyport/core/sql/Migrations"
import * as Statements from "@sallyport/core/sql/Statements"
import * as Transactions from "@sallyport/core/sql/Transactions"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { databases } from "../../../../test-support/databases.ts"

const create = (table: string) =>
  Effect.asVoid(SqlClient.SqlClient.use((sql) => sql`CREATE TABLE ${sql(table)} (id INTEGER NOT NULL)`))

const one = { "1_first": create("first") }
const two = { ...one, "2_second": create("second") }

for (const { layer, name } of databases) {
  describe(`Migrations on ${name}`, () => {
    it.live("runs each step once, also when several start together, with a history table per service", () =>
      Effect.gen(function*() {
        const ran = yield* Effect.all(
          Array.from({ length: 3 }, () => Migrations.run({ service: "a", migrations: two })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(ran.flat(), [[1, "first"], [2, "second"]])
        const other = yield* Migrations.run({ service: "b", migrations: { "1_other": create("other") } })
        assert.deepStrictEqual(other, [[1, "other"]])
        const prefixed = yield* Migrations.run({
          service: "a",
          prefix: "Other Prefix_",
          migrations: { "1_third": create("third") }
        })
        assert.deepStrictEqual(prefixed, [[1, "third"]])
      }).pipe(Effect.provide(layer)))

    it.live("refuses a database of a newer schema with an error that names the table and the remedy", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Migrations.run({ service: "a", migrations: two })
        const error = yield* Effect.flip(Migrations.run({ service: "a", migrations: one }))
        assert.strictEqual(error.table, "sallyport_a_migrations")
        assert.strictEqual(error.reason._tag, "SchemaTooNew")
        assert.include(error.message, "sallyport_a_migrations")
        assert.include(error.message, "version 2")
        assert.include(error.message, "upgrade Sallyport")
        assert.strictEqual((yield* sql`SELECT migration_id FROM sallyport_a_migrations`).length, 2)
      }).pipe(Effect.provide(layer)))

    it.live("keeps nothing of a step that fails", () =>
      Effect.gen(function*() {
        const broken = { ...one, "2_broken": Effect.fail("no") }
        const error = yield* Effect.flip(Migrations.run({ service: "a", migrations: broken }))
        assert.strictEqual(error.reason._tag, "MigrationFailed")
        assert.deepStrictEqual(yield* Migrations.run({ service: "a", migrations: two }), [[1, "first"], [2, "second"]])
      }).pipe(Effect.provide(layer)))

    it.live("keeps nothing of the statements before one that fails, and says what the database said", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const table = "CREATE TABLE words (word TEXT NOT NULL DEFAULT 'it''s')"
        const step = (statements: ReadonlyArray<string>) =>
          Migrations.run({ service: "a", migrations: { "1_words": Statements.creating(() => statements, undefined) } })
        const error = yield* Effect.flip(step([table, "INSERT INTO words DEFAULT VALUES", table]))
        assert.strictEqual(error.reason._tag, "MigrationFailed")
        assert.include(error.message, "already exists")
        assert.deepStrictEqual(yield* step([table, "INSERT INTO words DEFAULT VALUES"]), [[1, "words"]])
        const [row] = yield* sql<{ word: string }>`SELECT word FROM words`
        assert.strictEqual(row?.word, "it's")
      }).pipe(Effect.provide(layer)))

    // A client of SQLite has one connection, which the other transaction would keep.
    if (name.startsWith("PostgreSQL")) {
      it.live("waits for no lock if all steps are recorded, such as one of a backup", () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* Migrations.run({ service: "a", migrations: two })
          const locked = yield* Deferred.make<void>()
          yield* Effect.forkScoped(sql.withTransaction(
            sql`LOCK TABLE sallyport_a_migrations IN ACCESS SHARE MODE`.pipe(
              Effect.andThen(Deferred.succeed(locked, undefined)),
              Effect.andThen(Effect.never)
            )
          ))
          yield* Deferred.await(locked)
          assert.deepStrictEqual(yield* Migrations.run({ service: "a", migrations: two }), [])
        }).pipe(
          Effect.scoped,
          Effect.provideService(Transactions.Deadline, Duration.millis(500)),
          Effect.provide(layer)
        ))
    }
  })
}
