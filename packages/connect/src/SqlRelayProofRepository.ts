/**
 * Keeps the proofs that a relay had of environments in SQLite or PostgreSQL.
 *
 * The table is `<prefix>relay_proofs`. `RelayProofRepository.layerSweeper` deletes what is older than it is to be kept.
 * `layer` brings the table up to date before it answers; a host that runs migrations on its own uses `layerMigrations` there
 * and `layerStorage` at run time.
 */
import { RelayProofRepository, RelayProofRow } from "./RelayProofRepository.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Dialect from "@sallyport/core/sql/Dialect"
import * as Access from "@sallyport/core/sql/accessTables"
import * as Migrations from "@sallyport/core/sql/Migrations"

const tableOf = (prefix: string) => `${prefix}relay_proofs`

/**
 * Creates the table of proofs, or brings it up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> => {
  const prefix = options?.prefix ?? Migrations.defaultPrefix
  return Layer.effectDiscard(Migrations.run({
    service: "relay_proofs",
    prefix,
    migrations: {
      "1_create_relay_proofs": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const table = tableOf(prefix)
        const id = Access.idType(sql)
        yield* Access.runAll([
          sql`CREATE TABLE ${sql(table)} (
            request_id ${id} NOT NULL CHECK (request_id <> ''),
            environment_id ${id} NOT NULL CHECK (environment_id <> ''),
            account ${id} NOT NULL CHECK (account <> ''),
            proof_key_thumbprint ${id} NOT NULL CHECK (length(proof_key_thumbprint) = 43),
            status TEXT NOT NULL CHECK (status IN ('credential', 'pending_approval', 'refused', 'decision')),
            requested_at_millis ${Dialect.bigint(sql)} CHECK (requested_at_millis >= 0),
            proof TEXT NOT NULL CHECK (proof <> ''),
            key_id TEXT NOT NULL CHECK (length(key_id) = 43),
            received_at_millis ${Dialect.bigint(sql)} NOT NULL CHECK (received_at_millis >= 0),
            PRIMARY KEY (account, environment_id, proof_key_thumbprint, status),
            CHECK ((status IN ('pending_approval', 'decision')) = (requested_at_millis IS NOT NULL))
          )`,
          sql`CREATE INDEX ${sql(`${table}_list`)} ON ${sql(table)} (account, received_at_millis, request_id)`,
          sql`CREATE INDEX ${sql(`${table}_status`)} ON ${
            sql(table)
          } (account, status, received_at_millis, request_id)`,
          sql`CREATE INDEX ${sql(`${table}_age`)} ON ${sql(table)} (received_at_millis)`
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
): Layer.Layer<RelayProofRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    RelayProofRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const table = tableOf(options?.prefix ?? Migrations.defaultPrefix)
      const proofs = sql(table)
      const p = Access.parameter
      const decode = Access.makeDecode(table, RelayProofRow, [])
      const transaction = Access.makeTransaction(sql)
      const key = sql.literal("account, environment_id, proof_key_thumbprint, status")
      const columns = sql.literal(
        `request_id AS "requestId", environment_id AS "environmentId", account, ` +
          `proof_key_thumbprint AS "proofKeyThumbprint", status, requested_at_millis AS "requestedAtMillis", proof, ` +
          `key_id AS "keyId", received_at_millis AS "receivedAtMillis"`
      )
      // Rows to be deleted are locked first, and those that others hold are passed over: nobody waits for a deletion while
      // holding a row of its own.
      const chosen = sql.literal(sql.onDialectOrElse({ pg: () => "MATERIALIZED", orElse: () => "" }))

      const store = Access.prepare(
        sql,
        sql`INSERT INTO ${proofs} AS stored (request_id, environment_id, account, proof_key_thumbprint, status,
          requested_at_millis, proof, key_id, received_at_millis)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p})
        ON CONFLICT (${key}) DO UPDATE SET request_id = excluded.request_id,
          requested_at_millis = excluded.requested_at_millis, proof = excluded.proof, key_id = excluded.key_id,
          received_at_millis = excluded.received_at_millis
          WHERE stored.received_at_millis <= excluded.received_at_millis`
      )
      const firstBeyond = Access.prepare<{ readonly received: unknown; readonly id: string }>(
        sql,
        sql`SELECT received_at_millis AS received, request_id AS id FROM ${proofs} WHERE account = ${p} AND status = ${p}
        ORDER BY received_at_millis DESC, request_id DESC LIMIT 1 OFFSET ${p}`
      )
      const drop = Access.prepare(
        sql,
        sql`WITH chosen AS ${chosen} (
          SELECT ${key} FROM ${proofs} WHERE account = ${p} AND status = ${p}
            AND (received_at_millis, request_id) <= (${p}, ${p}) ${Access.skipLocked(sql)}
        )
        DELETE FROM ${proofs} WHERE (${key}) IN (SELECT ${key} FROM chosen)`
      )
      const pending = Access.prepare(
        sql,
        sql`SELECT 1 AS found FROM ${proofs} WHERE account = ${p} AND environment_id = ${p} AND proof_key_thumbprint = ${p}
          AND status = 'pending_approval' AND requested_at_millis = ${p}`
      )
      const first = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${proofs} WHERE account = ${p}
        ORDER BY received_at_millis DESC, request_id DESC LIMIT ${p}`
      )
      const next = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${proofs} WHERE account = ${p} AND (received_at_millis, request_id) < (${p}, ${p})
        ORDER BY received_at_millis DESC, request_id DESC LIMIT ${p}`
      )
      const sweep = Access.prepare(
        sql,
        sql`WITH chosen AS ${chosen} (
          SELECT ${key} FROM ${proofs} WHERE received_at_millis <= ${p} ORDER BY received_at_millis LIMIT ${p}
          ${Access.skipLocked(sql)}
        )
        DELETE FROM ${proofs} WHERE (${key}) IN (SELECT ${key} FROM chosen) RETURNING account`
      )

      return RelayProofRepository.of({
        record: Effect.fn("SqlRelayProofRepository.record")(function*(row, { keep }) {
          yield* store(
            row.requestId,
            row.environmentId,
            row.account,
            row.proofKeyThumbprint,
            row.status,
            row.requestedAtMillis,
            row.proof,
            row.keyId,
            row.receivedAtMillis
          )
          const [beyond] = yield* firstBeyond(row.account, row.status, keep)
          if (beyond !== undefined) {
            yield* drop(row.account, row.status, Dialect.toNatural(beyond.received), beyond.id)
          }
        }, transaction("record")),
        hasPending: ({ account, environmentId, proofKeyThumbprint, requestedAtMillis }) =>
          Access.failAs("hasPending")(Effect.map(
            pending(account, environmentId, proofKeyThumbprint, requestedAtMillis),
            (rows) => rows.length > 0
          )),
        list: Effect.fn("SqlRelayProofRepository.list")(function*({ account, after, limit }) {
          const rows = yield* after === undefined
            ? first(account, limit)
            : next(account, after.receivedAtMillis, after.requestId, limit)
          return yield* Effect.forEach(rows, decode)
        }, Access.failAs("list")),
        sweep: Effect.fn("SqlRelayProofRepository.sweep")(function*({ limit, receivedUntilMillis }) {
          return (yield* sweep(receivedUntilMillis, limit)).length
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
): Layer.Layer<RelayProofRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on a table named `sallyport_relay_proofs`, which is brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RelayProofRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
