/**
 * Keeps the environments that are linked to a relay in SQLite or PostgreSQL.
 *
 * The table is `<prefix>relay_environments`. `layer` brings it up to date before it answers; a host that runs migrations on
 * its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import { RelayEnvironmentRepository, RelayEnvironmentRow } from "./RelayEnvironmentRepository.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Access from "@sallyport/core/sql/accessTables"
import * as Dialect from "@sallyport/core/sql/Dialect"
import * as Migrations from "@sallyport/core/sql/Migrations"

const tableOf = (prefix: string) => `${prefix}relay_environments`

/**
 * Creates the table, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> => {
  const prefix = options?.prefix ?? Migrations.defaultPrefix
  return Layer.effectDiscard(Migrations.run({
    service: "relay_environments",
    prefix,
    migrations: {
      "1_create_relay_environments": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const table = tableOf(prefix)
        yield* Access.runAll([
          sql`CREATE TABLE ${sql(table)} (
            id ${Access.idType(sql)} NOT NULL PRIMARY KEY CHECK (id <> ''),
            account ${Access.idType(sql)} NOT NULL CHECK (account <> ''),
            url TEXT NOT NULL CHECK (url <> ''),
            key_x TEXT NOT NULL CHECK (length(key_x) = 43),
            key_id TEXT NOT NULL CHECK (length(key_id) = 43),
            linked_at_millis ${Dialect.bigint(sql)} NOT NULL CHECK (linked_at_millis >= 0)
          )`,
          sql`CREATE INDEX ${sql(`${table}_account`)} ON ${sql(table)} (account, id)`
        ])
      }),
      "2_rotate_keys": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const table = sql(tableOf(prefix))
        yield* Access.runAll([
          sql`ALTER TABLE ${table} ADD COLUMN relay_key_id TEXT CHECK (length(relay_key_id) = 43)`,
          sql`ALTER TABLE ${table} ADD COLUMN next_key_x TEXT CHECK (length(next_key_x) = 43)`,
          sql`ALTER TABLE ${table} ADD COLUMN next_key_id TEXT CHECK (length(next_key_id) = 43
            AND next_key_id <> key_id) CHECK ((next_key_id IS NULL) = (next_key_x IS NULL))`,
          sql`ALTER TABLE ${table} ADD COLUMN previous_key_x TEXT CHECK (length(previous_key_x) = 43)`,
          sql`ALTER TABLE ${table} ADD COLUMN previous_key_id TEXT CHECK (length(previous_key_id) = 43)
            CHECK ((previous_key_id IS NULL) = (previous_key_x IS NULL))`,
          sql`ALTER TABLE ${table} ADD COLUMN previous_until_millis ${Dialect.bigint(sql)}
            CHECK (previous_until_millis >= 0) CHECK ((previous_until_millis IS NULL) = (previous_key_id IS NULL))`
        ])
      })
    }
  }))
}

/**
 * Provides the repository on a table that exists already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<RelayEnvironmentRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    RelayEnvironmentRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const table = tableOf(options?.prefix ?? Migrations.defaultPrefix)
      const environments = sql(table)
      const p = Access.parameter
      const decode = Access.makeDecode(table, RelayEnvironmentRow, [])
      const columns = sql.literal(
        `id, account, url, key_x AS "keyX", key_id AS "keyId", relay_key_id AS "relayKeyId", ` +
          `linked_at_millis AS "linkedAtMillis", next_key_x AS "nextKeyX", next_key_id AS "nextKeyId", ` +
          `previous_key_x AS "previousKeyX", previous_key_id AS "previousKeyId", ` +
          `previous_until_millis AS "previousUntilMillis"`
      )
      const bigint = Dialect.bigint(sql)
      const link = Access.prepare(
        sql,
        sql`INSERT INTO ${environments} AS environment (id, account, url, key_x, key_id, relay_key_id, linked_at_millis)
        SELECT ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, CAST(${p} AS ${bigint})
        WHERE EXISTS (SELECT 1 FROM ${environments} WHERE id = ${p})
          OR (SELECT count(*) FROM ${environments} WHERE account = ${p}) < ${p}
        ON CONFLICT (id) DO UPDATE SET url = excluded.url, key_x = excluded.key_x, key_id = excluded.key_id,
          relay_key_id = excluded.relay_key_id, linked_at_millis = excluded.linked_at_millis, next_key_x = NULL,
          next_key_id = NULL, previous_key_x = NULL, previous_key_id = NULL, previous_until_millis = NULL
          WHERE environment.account = excluded.account
        RETURNING id`
      )
      const unlink = Access.prepare(
        sql,
        sql`DELETE FROM ${environments} WHERE id = ${p} AND account = ${p} RETURNING id`
      )
      const find = Access.prepare(sql, sql`SELECT ${columns} FROM ${environments} WHERE id = ${p} AND account = ${p}`)
      const findById = Access.prepare(sql, sql`SELECT ${columns} FROM ${environments} WHERE id = ${p}`)
      const list = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${environments} WHERE account = ${p} ORDER BY id LIMIT ${p}`
      )
      const announceKey = Access.prepare(
        sql,
        sql`UPDATE ${environments} SET next_key_x = ${p}, next_key_id = ${p} WHERE id = ${p} AND key_id = ${p} RETURNING id`
      )
      // Every expression is of the row as it was before.
      const adoptKey = Access.prepare(
        sql,
        sql`UPDATE ${environments} SET key_x = next_key_x, key_id = next_key_id, next_key_x = NULL, next_key_id = NULL,
          previous_key_x = key_x, previous_key_id = key_id, previous_until_millis = ${p}
        WHERE id = ${p} AND next_key_id = ${p} RETURNING id`
      )
      const isKey = sql.literal(sql.onDialectOrElse({ pg: () => "IS NOT DISTINCT FROM", orElse: () => "IS" }))
      const isNoKey = sql.literal(sql.onDialectOrElse({ pg: () => "IS DISTINCT FROM", orElse: () => "IS NOT" }))
      const confirmRelayKey = Access.prepare(
        sql,
        sql`UPDATE ${environments} SET relay_key_id = ${p} WHERE id = ${p} AND relay_key_id ${isKey} ${p} RETURNING id`
      )
      const listUnconfirmed = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${environments} WHERE id > ${p} AND relay_key_id ${isNoKey} ${p}
        ORDER BY id LIMIT ${p}`
      )
      const changed = (operation: string, run: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
        Access.failAs(operation)(Effect.map(run, (rows) => rows.length > 0))
      return RelayEnvironmentRepository.of({
        link: (
          { account, id, keyId, keyX, linkedAtMillis, relayKeyId, url },
          { limit = Number.MAX_SAFE_INTEGER } = {}
        ) => changed("link", link(id, account, url, keyX, keyId, relayKeyId, linkedAtMillis, id, account, limit)),
        unlink: ({ account, id }) => changed("unlink", unlink(id, account)),
        find: Effect.fn("SqlRelayEnvironmentRepository.find")(function*({ account, id }) {
          const [row] = yield* find(id, account)
          return row === undefined ? Option.none() : Option.some(yield* decode(row))
        }, Access.failAs("find")),
        findById: Effect.fn("SqlRelayEnvironmentRepository.findById")(function*(id) {
          const [row] = yield* findById(id)
          return row === undefined ? Option.none() : Option.some(yield* decode(row))
        }, Access.failAs("findById")),
        announceKey: ({ id, keyId, keyX, presentKeyId }) =>
          changed("announceKey", announceKey(keyX, keyId, id, presentKeyId)),
        adoptKey: ({ id, keyId, previousUntilMillis }) => changed("adoptKey", adoptKey(previousUntilMillis, id, keyId)),
        confirmRelayKey: ({ from, id, to }) => changed("confirmRelayKey", confirmRelayKey(to, id, from)),
        listUnconfirmed: Effect.fn("SqlRelayEnvironmentRepository.listUnconfirmed")(
          function*({ afterId, limit, relayKeyId }) {
            return yield* Effect.forEach(yield* listUnconfirmed(afterId, relayKeyId, limit), decode)
          },
          Access.failAs("listUnconfirmed")
        ),
        list: Effect.fn("SqlRelayEnvironmentRepository.list")(function*({ account, limit }) {
          return yield* Effect.forEach(yield* list(account, limit), decode)
        }, Access.failAs("list"))
      })
    })
  )

/**
 * Provides the repository on a table named with a prefix, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<RelayEnvironmentRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on a table named `sallyport_relay_environments`, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RelayEnvironmentRepository, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()
