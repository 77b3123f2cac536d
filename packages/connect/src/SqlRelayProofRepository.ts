/**
 * Keeps the proofs that a relay had of environments in SQLite or PostgreSQL.
 *
 * The table is `<prefix>relay_proofs`. `RelayProofRepository.layerSweeper` deletes what is older than its retention.
 * `layer` brings the table up to date before it answers; a host that runs migrations on its own uses `layerMigrations` there
 * and `layerStorage` at run time.
 */
import * as Dialect from "@sallyport/core/sql/Dialect"
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as SqlKit from "@sallyport/core/sql/SqlKit"
import * as Statements from "@sallyport/core/sql/Statements"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import { RelayProofRepository, RelayProofRow } from "./RelayProofRepository.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, id, table } = Statements.make(sql, options)
  const proofs = table("relay_proofs")
  return [
    `CREATE TABLE ${proofs} (
      request_id ${id} NOT NULL CHECK (request_id <> ''),
      environment_id ${id} NOT NULL CHECK (environment_id <> ''),
      account ${id} NOT NULL CHECK (account <> ''),
      proof_key_thumbprint ${id} NOT NULL CHECK (length(proof_key_thumbprint) = 43),
      status TEXT NOT NULL CHECK (status IN ('credential', 'pending_approval', 'refused', 'decision')),
      requested_at_millis ${bigint} CHECK (requested_at_millis >= 0),
      proof TEXT NOT NULL CHECK (proof <> ''),
      key_id TEXT NOT NULL CHECK (length(key_id) = 43),
      received_at_millis ${bigint} NOT NULL CHECK (received_at_millis >= 0),
      PRIMARY KEY (account, environment_id, proof_key_thumbprint, status),
      CHECK ((status IN ('pending_approval', 'decision')) = (requested_at_millis IS NOT NULL))
    )`,
    `CREATE INDEX ${table("relay_proofs_list")} ON ${proofs} (account, received_at_millis, request_id)`,
    `CREATE INDEX ${table("relay_proofs_status")} ON ${proofs} (account, status, received_at_millis, request_id)`,
    `CREATE INDEX ${table("relay_proofs_age")} ON ${proofs} (received_at_millis)`
  ]
}

/**
 * Creates the table of proofs, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "relay_proofs",
    ...options,
    migrations: { "1_create_relay_proofs": Statements.creating(create, options) }
  }))

/**
 * Provides the repository on a table that exists already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<RelayProofRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(
    RelayProofRepository,
    Effect.map(SqlKit.make("relay proofs", options), (kit) => {
      const { read, skipLocked, statement, transaction, write } = kit
      const rows = kit.rows("relay_proofs", RelayProofRow)
      const proofs = kit.table("relay_proofs")
      const { columns } = rows
      const many = kit.all(rows.decode)
      const key = "account, environment_id, proof_key_thumbprint, status"

      const store = statement(
        `${rows.insert} ON CONFLICT (${key}) DO UPDATE SET ${rows.excluded(key.split(", "))}
        WHERE stored.received_at_millis <= excluded.received_at_millis`
      )
      const firstBeyond = statement<{ readonly received: unknown; readonly id: string }>(
        `SELECT received_at_millis AS received, request_id AS id FROM ${proofs} WHERE account = ? AND status = ?
        ORDER BY received_at_millis DESC, request_id DESC LIMIT 1 OFFSET ?`
      )
      // Rows to be deleted are locked first, and those that others hold are passed over: a transaction that holds a row of
      // its own never waits for a deletion.
      const deleting = (condition: string) =>
        statement(
          `WITH chosen AS ${kit.once} (SELECT ${key} FROM ${proofs} WHERE ${condition}${skipLocked})
          DELETE FROM ${proofs} WHERE (${key}) IN (SELECT ${key} FROM chosen) RETURNING account`
        )
      const drop = deleting("account = ? AND status = ? AND (received_at_millis, request_id) <= (?, ?)")
      const sweep = deleting("received_at_millis <= ? ORDER BY received_at_millis LIMIT ?")
      const pending = statement(
        `SELECT 1 AS found FROM ${proofs} WHERE account = ? AND environment_id = ? AND proof_key_thumbprint = ?
          AND status = 'pending_approval' AND requested_at_millis = ?`
      )
      const first = many(
        `SELECT ${columns} FROM ${proofs} WHERE account = ?
        ORDER BY received_at_millis DESC, request_id DESC LIMIT ?`
      )
      const next = many(
        `SELECT ${columns} FROM ${proofs} WHERE account = ? AND (received_at_millis, request_id) < (?, ?)
        ORDER BY received_at_millis DESC, request_id DESC LIMIT ?`
      )

      return RelayProofRepository.of({
        record: (row, { keep }) =>
          Effect.gen(function*() {
            yield* store(rows.values(row))
            const [beyond] = yield* firstBeyond([row.account, row.status, keep])
            if (beyond !== undefined) {
              yield* drop([row.account, row.status, Dialect.toNatural(beyond.received), beyond.id])
            }
          }).pipe(transaction("record")),
        hasPending: ({ account, environmentId, proofKeyThumbprint, requestedAtMillis }) =>
          Effect.map(
            pending([account, environmentId, proofKeyThumbprint, requestedAtMillis]),
            (found) => found.length > 0
          ).pipe(read("hasPending")),
        list: ({ account, after, limit }) =>
          read("list")(
            after === undefined
              ? first([account, limit])
              : next([account, after.receivedAtMillis, after.requestId, limit])
          ),
        sweep: ({ limit, receivedUntilMillis }) =>
          Effect.map(sweep([receivedUntilMillis, limit]), (swept) => swept.length).pipe(write("sweep"))
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
): Layer.Layer<RelayProofRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on a table named `sallyport_relay_proofs`, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RelayProofRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
