/**
 * Keeps the environments that are linked to a relay in SQLite or PostgreSQL.
 *
 * The table is `<prefix>relay_environments`. `layer` brings it up to date before it answers; a host that runs migrations on
 * its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as SqlKit from "@sallyport/core/sql/SqlKit"
import * as Statements from "@sallyport/core/sql/Statements"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { RelayEnvironmentRepository, RelayEnvironmentRow } from "./RelayEnvironmentRepository.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, id, table } = Statements.make(sql, options)
  const environments = table("relay_environments")
  return [
    `CREATE TABLE ${environments} (
      id ${id} NOT NULL PRIMARY KEY CHECK (id <> ''),
      account ${id} NOT NULL CHECK (account <> ''),
      url TEXT NOT NULL CHECK (url <> ''),
      key_x TEXT NOT NULL CHECK (length(key_x) = 43),
      key_id TEXT NOT NULL CHECK (length(key_id) = 43),
      relay_key_id TEXT CHECK (length(relay_key_id) = 43),
      linked_at_millis ${bigint} NOT NULL CHECK (linked_at_millis >= 0),
      next_key_x TEXT CHECK (length(next_key_x) = 43),
      next_key_id TEXT CHECK (length(next_key_id) = 43 AND next_key_id <> key_id),
      previous_key_x TEXT CHECK (length(previous_key_x) = 43),
      previous_key_id TEXT CHECK (length(previous_key_id) = 43),
      previous_until_millis ${bigint} CHECK (previous_until_millis >= 0),
      CHECK ((next_key_id IS NULL) = (next_key_x IS NULL)),
      CHECK ((previous_key_id IS NULL) = (previous_key_x IS NULL)),
      CHECK ((previous_until_millis IS NULL) = (previous_key_id IS NULL))
    )`,
    `CREATE INDEX ${table("relay_environments_account")} ON ${environments} (account, id)`
  ]
}

/**
 * Creates the table, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "relay_environments",
    ...options,
    migrations: { "1_create_relay_environments": Statements.creating(create, options) }
  }))

/**
 * Provides the repository on a table that exists already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<RelayEnvironmentRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(
    RelayEnvironmentRepository,
    Effect.map(SqlKit.make("relay environments", options), (kit) => {
      const { isPg, read, statement, write } = kit
      const { columns, decode } = kit.rows("relay_environments", RelayEnvironmentRow)
      const environments = kit.table("relay_environments")
      const one = kit.first(decode)
      const many = kit.all(decode)

      const link = statement(
        `INSERT INTO ${environments} AS environment (id, account, url, key_x, key_id, relay_key_id, linked_at_millis)
        SELECT ?, ?, ?, ?, ?, ?, CAST(? AS ${kit.bigint})
        WHERE EXISTS (SELECT 1 FROM ${environments} WHERE id = ?)
          OR (SELECT count(*) FROM ${environments} WHERE account = ?) < ?
        ON CONFLICT (id) DO UPDATE SET url = excluded.url, key_x = excluded.key_x, key_id = excluded.key_id,
          relay_key_id = excluded.relay_key_id, linked_at_millis = excluded.linked_at_millis, next_key_x = NULL,
          next_key_id = NULL, previous_key_x = NULL, previous_key_id = NULL, previous_until_millis = NULL
          WHERE environment.account = excluded.account
        RETURNING id`
      )
      const unlink = statement(`DELETE FROM ${environments} WHERE id = ? AND account = ? RETURNING id`)
      const find = one(`SELECT ${columns} FROM ${environments} WHERE id = ? AND account = ?`)
      const findById = one(`SELECT ${columns} FROM ${environments} WHERE id = ?`)
      const list = many(`SELECT ${columns} FROM ${environments} WHERE account = ? ORDER BY id LIMIT ?`)
      const announceKey = statement(
        `UPDATE ${environments} SET next_key_x = ?, next_key_id = ? WHERE id = ? AND key_id = ? RETURNING id`
      )
      // Every expression is of the row as it was before.
      const adoptKey = statement(
        `UPDATE ${environments} SET key_x = next_key_x, key_id = next_key_id, next_key_x = NULL, next_key_id = NULL,
          previous_key_x = key_x, previous_key_id = key_id, previous_until_millis = ?
        WHERE id = ? AND next_key_id = ? RETURNING id`
      )
      const confirmRelayKey = statement(
        `UPDATE ${environments} SET relay_key_id = ?
        WHERE id = ? AND relay_key_id ${isPg ? "IS NOT DISTINCT FROM" : "IS"} ? RETURNING id`
      )
      const listUnconfirmed = many(
        `SELECT ${columns} FROM ${environments}
        WHERE id > ? AND relay_key_id ${isPg ? "IS DISTINCT FROM" : "IS NOT"} ? ORDER BY id LIMIT ?`
      )
      const changed = (operation: string, run: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
        Effect.map(run, (rows) => rows.length > 0).pipe(write(operation))
      return RelayEnvironmentRepository.of({
        link: (
          { account, id, keyId, keyX, linkedAtMillis, relayKeyId, url },
          { limit = Number.MAX_SAFE_INTEGER } = {}
        ) => changed("link", link([id, account, url, keyX, keyId, relayKeyId, linkedAtMillis, id, account, limit])),
        unlink: ({ account, id }) => changed("unlink", unlink([id, account])),
        find: ({ account, id }) => read("find")(find([id, account])),
        findById: (id) => read("findById")(findById([id])),
        announceKey: ({ id, keyId, keyX, presentKeyId }) =>
          changed("announceKey", announceKey([keyX, keyId, id, presentKeyId])),
        adoptKey: ({ id, keyId, previousUntilMillis }) =>
          changed("adoptKey", adoptKey([previousUntilMillis, id, keyId])),
        confirmRelayKey: ({ from, id, to }) => changed("confirmRelayKey", confirmRelayKey([to, id, from])),
        listUnconfirmed: ({ afterId, limit, relayKeyId }) =>
          read("listUnconfirmed")(listUnconfirmed([afterId, relayKeyId, limit])),
        list: ({ account, limit }) => read("list")(list([account, limit]))
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
