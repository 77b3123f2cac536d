/**
 * Keeps spent single-use values in SQLite or PostgreSQL, so that every process of a deployment refuses what one has taken.
 *
 * The table is `<prefix>spent_values`. It holds digests, and each only until it would be refused for its age anyway:
 * `ReplayRepository.layerSweeper` deletes what has expired. `layer` brings the table up to date before it answers; a host
 * that runs migrations on its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Migrations from "../sql/Migrations.ts"
import * as SqlKit from "../sql/SqlKit.ts"
import * as Statements from "../sql/Statements.ts"
import { ReplayRepository } from "./ReplayRepository.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, clustered, id, table } = Statements.make(sql, options)
  const spent = table("spent_values")
  return [
    `CREATE TABLE ${spent} (
      kind ${id} NOT NULL CHECK (kind <> ''),
      digest ${id} NOT NULL CHECK (digest <> ''),
      expires_at_millis ${bigint} NOT NULL,
      PRIMARY KEY (kind, digest)
    ) ${clustered}`,
    `CREATE INDEX ${table("spent_values_expiry")} ON ${spent} (expires_at_millis)`
  ]
}

/**
 * Creates the table of spent values, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "spent_values",
    ...options,
    migrations: { "1_create_spent_values": Statements.creating(create, options) }
  }))

/**
 * Provides the repository on a table that exists already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<ReplayRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(
    ReplayRepository,
    Effect.map(SqlKit.make("spent values", options), ({ once, skipLocked, statement, table, write }) => {
      const spent = table("spent_values")
      // One statement: who inserts the row, or moves the end of one that has expired, is who spends the value. A racer on
      // PostgreSQL waits for the other's row, and finds that it has not expired.
      const spend = statement(
        `INSERT INTO ${spent} AS spent (kind, digest, expires_at_millis) VALUES (?, ?, ?)
        ON CONFLICT (kind, digest) DO UPDATE SET expires_at_millis = excluded.expires_at_millis
          WHERE spent.expires_at_millis <= ?
        RETURNING kind`
      )
      const sweep = statement(
        `WITH expired AS ${once} (
          SELECT kind, digest FROM ${spent} WHERE expires_at_millis <= ? ORDER BY expires_at_millis LIMIT ?${skipLocked}
        )
        DELETE FROM ${spent} WHERE (kind, digest) IN (SELECT kind, digest FROM expired) RETURNING kind`
      )
      return ReplayRepository.of({
        spend: ({ digest, expiresAtMillis, kind }, nowMillis) =>
          Effect.map(spend([kind, digest, expiresAtMillis, nowMillis]), (rows) => rows.length > 0).pipe(write("spend")),
        sweep: ({ limit, nowMillis }) =>
          Effect.map(sweep([nowMillis, limit]), (rows) => rows.length).pipe(write("sweep"))
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
