/**
 * Keeps the environments that are linked to a relay in SQLite or PostgreSQL.
 *
 * The table is `<prefix>relay_environments`. `layer` brings it up to date before it answers; a host that runs migrations on
 * its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import { RelayEnvironmentRepository, RelayEnvironmentRow } from "@sallyport/core/RelayEnvironmentRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Access from "./internal/accessTables.ts"
import * as Dialect from "./Dialect.ts"
import * as Migrations from "./Migrations.ts"

const tableOf = (prefix: string) => `${prefix}relay_environments`

/**
 * Creates the table, or brings it up to date.
 *
 * `prefix` starts the name of every table; `sallyport_` without it.
 */
export const layerMigrations = (options?: {
  readonly prefix?: string | undefined
}): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> => {
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
      })
    }
  }))
}

/** Provides the repository on a table that exists already; it runs no DDL. */
export const layerStorage = (options?: {
  readonly prefix?: string | undefined
}): Layer.Layer<RelayEnvironmentRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    RelayEnvironmentRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const table = tableOf(options?.prefix ?? Migrations.defaultPrefix)
      const environments = sql(table)
      const p = Access.parameter
      const decode = Access.makeDecode(table, RelayEnvironmentRow, [])
      const columns = sql.literal(
        `id, account, url, key_x AS "keyX", key_id AS "keyId", linked_at_millis AS "linkedAtMillis"`
      )
      const link = Access.prepare(
        sql,
        sql`INSERT INTO ${environments} AS environment (id, account, url, key_x, key_id, linked_at_millis)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p})
        ON CONFLICT (id) DO UPDATE SET url = excluded.url, key_x = excluded.key_x, key_id = excluded.key_id,
          linked_at_millis = excluded.linked_at_millis
          WHERE environment.account = excluded.account
        RETURNING id`
      )
      const unlink = Access.prepare(
        sql,
        sql`DELETE FROM ${environments} WHERE id = ${p} AND account = ${p} RETURNING id`
      )
      const find = Access.prepare(sql, sql`SELECT ${columns} FROM ${environments} WHERE id = ${p} AND account = ${p}`)
      const list = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${environments} WHERE account = ${p} ORDER BY id LIMIT ${p}`
      )
      return RelayEnvironmentRepository.of({
        link: (row) =>
          Access.failAs("link")(
            Effect.map(
              link(row.id, row.account, row.url, row.keyX, row.keyId, row.linkedAtMillis),
              (rows) => rows.length > 0
            )
          ),
        unlink: ({ account, id }) =>
          Access.failAs("unlink")(Effect.map(unlink(id, account), (rows) => rows.length > 0)),
        find: Effect.fn("SqlRelayEnvironmentRepository.find")(function*({ account, id }) {
          const [row] = yield* find(id, account)
          return row === undefined ? Option.none() : Option.some(yield* decode(row))
        }, Access.failAs("find")),
        list: Effect.fn("SqlRelayEnvironmentRepository.list")(function*({ account, limit }) {
          return yield* Effect.forEach(yield* list(account, limit), decode)
        }, Access.failAs("list"))
      })
    })
  )

/** Provides the repository on a table named with a prefix, which is brought up to date first. */
export const layerWith = (options?: {
  readonly prefix?: string | undefined
}): Layer.Layer<RelayEnvironmentRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/** Provides the repository on a table named `sallyport_relay_environments`, which is brought up to date first. */
export const layer: Layer.Layer<RelayEnvironmentRepository, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()
