/**
 * Keeps spent single-use values in SQLite or PostgreSQL, so that every process of a deployment refuses what one has taken.
 *
 * The table is `<prefix>spent_values`. It holds digests, and each only until it would be refused for its age anyway:
 * `ReplayRepository.layerSweeper` deletes what has expired. `layer` brings the table up to date before it answers; a host
 * that runs migrations on its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import { ReplayRepository } from "./ReplayRepository.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Dialect from "../sql/Dialect.ts"
import * as Access from "../sql/accessTables.ts"
import * as Migrations from "../sql/Migrations.ts"

const tableOf = (prefix: string) => `${prefix}spent_values`

/**
 * Creates the table of spent values, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> => {
  const prefix = options?.prefix ?? Migrations.defaultPrefix
  return Layer.effectDiscard(Migrations.run({
    service: "spent_values",
    prefix,
    migrations: {
      "1_create_spent_values": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const table = tableOf(prefix)
        yield* Access.runAll([
          sql`CREATE TABLE ${sql(table)} (
            kind ${Access.idType(sql)} NOT NULL CHECK (kind <> ''),
            digest ${Access.idType(sql)} NOT NULL CHECK (digest <> ''),
            expires_at_millis ${Dialect.bigint(sql)} NOT NULL,
            PRIMARY KEY (kind, digest)
          ) ${Dialect.clustered(sql)}`,
          sql`CREATE INDEX ${sql(`${table}_expiry`)} ON ${sql(table)} (expires_at_millis)`
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
): Layer.Layer<ReplayRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    ReplayRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const spent = sql(tableOf(options?.prefix ?? Migrations.defaultPrefix))
      const p = Access.parameter

      // One statement: who inserts the row, or moves the end of one that has expired, is who spends the value. A racer on
      // PostgreSQL waits for the other's row, and finds that it has not expired.
      const spend = Access.prepare(
        sql,
        sql`INSERT INTO ${spent} AS spent (kind, digest, expires_at_millis) VALUES (${p}, ${p}, ${p})
        ON CONFLICT (kind, digest) DO UPDATE SET expires_at_millis = excluded.expires_at_millis
          WHERE spent.expires_at_millis <= ${p}
        RETURNING kind`
      )
      const sweep = Access.prepare(
        sql,
        sql`WITH expired AS ${sql.literal(sql.onDialectOrElse({ pg: () => "MATERIALIZED", orElse: () => "" }))} (
          SELECT kind, digest FROM ${spent} WHERE expires_at_millis <= ${p} ORDER BY expires_at_millis LIMIT ${p}
          ${Access.skipLocked(sql)}
        )
        DELETE FROM ${spent} WHERE (kind, digest) IN (SELECT kind, digest FROM expired) RETURNING kind`
      )
      const transaction = Access.makeTransaction(sql)

      return ReplayRepository.of({
        spend: ({ digest, expiresAtMillis, kind }, nowMillis) =>
          Effect.map(spend(kind, digest, expiresAtMillis, nowMillis), (rows) => rows.length > 0).pipe(
            Access.failAs("spend")
          ),
        sweep: Effect.fn("SqlReplayRepository.sweep")(function*({ limit, nowMillis }) {
          return (yield* sweep(nowMillis, limit)).length
        }, transaction("sweep"))
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
): Layer.Layer<ReplayRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on a table named `sallyport_spent_values`, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<ReplayRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
