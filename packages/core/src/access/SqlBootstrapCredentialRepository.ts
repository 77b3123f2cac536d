/**
 * Keeps pairing links in SQLite or PostgreSQL.
 *
 * The table is `<prefix>pairing_links`, and every change appends to the access feed in its transaction. On PostgreSQL a
 * step locks links first and the feed's head last, so two steps never wait for each other. `layer` brings the tables up
 * to date before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at
 * run time.
 */
import {
  BootstrapCredentialRepository,
  PairingLinkRow,
  refusal,
  toPairingLink
} from "./BootstrapCredentialRepository.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Dialect from "../sql/Dialect.ts"
import * as Journal from "./internal/sqlAccessJournal.ts"
import * as Access from "../sql/accessTables.ts"
import * as Migrations from "../sql/Migrations.ts"

const tableOf = (prefix: string) => `${prefix}pairing_links`

const migrate = (prefix: string): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Effect.andThen(
    Journal.migrate(prefix),
    Migrations.run({
      service: "pairing_links",
      prefix,
      migrations: {
        "1_create_pairing_links": Effect.gen(function*() {
          const sql = (yield* SqlClient.SqlClient).withoutTransforms()
          const table = tableOf(prefix)
          const millis = Dialect.bigint(sql)
          yield* Access.runAll([
            sql`CREATE TABLE ${sql(table)} (
              id ${Access.idType(sql)} NOT NULL PRIMARY KEY CHECK (id <> ''),
              code_digest TEXT NOT NULL UNIQUE CHECK (code_digest <> ''),
              label TEXT,
              subject TEXT NOT NULL CHECK (subject <> ''),
              scopes TEXT NOT NULL,
              proof_key_thumbprint TEXT,
              remaining_uses ${millis} NOT NULL CHECK (remaining_uses >= 0),
              created_by TEXT NOT NULL CHECK (created_by <> ''),
              created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
              expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0),
              revoked_at_millis ${millis} CHECK (revoked_at_millis >= 0)
            )`,
            // Links live for minutes: what can still be redeemed is few rows, however many have not been swept.
            sql`CREATE INDEX ${sql(`${table}_redeemable`)} ON ${sql(table)} (expires_at_millis)
              WHERE revoked_at_millis IS NULL AND remaining_uses > 0`,
            sql`CREATE INDEX ${sql(`${table}_ended`)} ON ${sql(table)} ((${Access.endedAt(sql)}), id)`
          ])
        })
      }
    })
  )

/**
 * Creates the tables of pairing links and of the access feed, or brings them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(migrate(options?.prefix ?? Migrations.defaultPrefix))

/**
 * Provides the repository on tables that exist already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<BootstrapCredentialRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    BootstrapCredentialRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const prefix = options?.prefix ?? Migrations.defaultPrefix
      const table = tableOf(prefix)
      const links = sql(table)
      const append = yield* Journal.makeAppend(sql, prefix)
      const transaction = Access.makeTransaction(sql)
      const decode = Access.makeDecode(table, PairingLinkRow, ["scopes"])
      const p = Access.parameter
      const redeemable = sql`revoked_at_millis IS NULL AND remaining_uses > 0 AND expires_at_millis > ${p}`
      const ended = Access.endedAt(sql)
      const columns = sql.literal(
        `id, code_digest AS "codeDigest", label, subject, scopes, proof_key_thumbprint AS "proofKeyThumbprint", ` +
          `remaining_uses AS "remainingUses", created_by AS "createdBy", created_at_millis AS "createdAtMillis", ` +
          `expires_at_millis AS "expiresAtMillis", revoked_at_millis AS "revokedAtMillis"`
      )

      const insert = Access.prepare(
        sql,
        sql`INSERT INTO ${links} (id, code_digest, label, subject, scopes, proof_key_thumbprint, remaining_uses,
          created_by, created_at_millis, expires_at_millis, revoked_at_millis)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p})
        ON CONFLICT (code_digest) DO NOTHING RETURNING id`
      )
      const byDigest = Access.prepare(sql, sql`SELECT ${columns} FROM ${links} WHERE code_digest = ${p}`)
      const grants = sql.onDialectOrElse({
        pg: () => sql`CAST(scopes AS JSONB) @> CAST(${p} AS JSONB)`,
        orElse: () =>
          sql`NOT EXISTS (SELECT 1 FROM json_each(${p}) AS asked WHERE asked.value NOT IN (
            SELECT value FROM json_each(scopes)
          ))`
      })
      const consume = Access.prepare(
        sql,
        sql`UPDATE ${links} SET remaining_uses = remaining_uses - 1
        WHERE code_digest = ${p} AND ${redeemable}
          AND (proof_key_thumbprint IS NULL OR proof_key_thumbprint = ${p}) AND ${grants}
        RETURNING ${columns}`
      )
      const list = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${links} WHERE ${redeemable}
        ORDER BY created_at_millis DESC, id DESC LIMIT ${p}`
      )
      const revoke = Access.prepare(
        sql,
        sql`UPDATE ${links} SET revoked_at_millis = ${p} WHERE id = ${p} AND ${redeemable} RETURNING id`
      )
      const sweep = Access.prepare<{
        readonly id: string
        readonly remaining_uses: unknown
        readonly revoked_at_millis: unknown
      }>(
        sql,
        sql`WITH ended AS ${sql.literal(sql.onDialectOrElse({ pg: () => "MATERIALIZED", orElse: () => "" }))} (
          SELECT id FROM ${links} WHERE ${ended} <= ${p} ORDER BY ${ended}, id LIMIT ${p} ${Access.skipLocked(sql)}
        )
        DELETE FROM ${links} WHERE id IN (SELECT id FROM ended) RETURNING id, remaining_uses, revoked_at_millis`
      )

      return BootstrapCredentialRepository.of({
        insert: Effect.fn("SqlBootstrapCredentialRepository.insert")(function*(row, change) {
          const inserted = yield* insert(
            row.id,
            row.codeDigest,
            row.label,
            row.subject,
            JSON.stringify(row.scopes),
            row.proofKeyThumbprint,
            row.remainingUses,
            row.createdBy,
            row.createdAtMillis,
            row.expiresAtMillis,
            row.revokedAtMillis
          )
          // The conflict that is an answer is the digest's; one of the id fails the statement.
          if (inserted.length === 0) return false
          yield* append([{ _tag: "pairingLinkUpserted", link: toPairingLink(row) }], change)
          return true
        }, transaction("insert")),
        consume: Effect.fn("SqlBootstrapCredentialRepository.consume")(
          function*({ codeDigest, proofKeyThumbprint, scopes }, change) {
            const { nowMillis } = change
            const [consumed] = yield* consume(
              codeDigest,
              nowMillis,
              proofKeyThumbprint ?? null,
              JSON.stringify(scopes ?? [])
            )
            if (consumed === undefined) {
              const [found] = yield* byDigest(codeDigest)
              const row = found === undefined ? undefined : yield* decode(found)
              // A link stored since the update was refused is one that this attempt came too early for.
              return {
                _tag: "Refused" as const,
                reason: refusal(row, { scopes, proofKeyThumbprint, nowMillis }) ?? "unknown"
              }
            }
            const row = yield* decode(consumed)
            yield* append([
              row.remainingUses === 0
                ? { _tag: "pairingLinkRemoved", id: row.id, reason: "consumed" }
                : { _tag: "pairingLinkUpserted", link: toPairingLink(row) }
            ], change)
            return { _tag: "Consumed" as const, row }
          },
          transaction("consume")
        ),
        list: Effect.fn("SqlBootstrapCredentialRepository.list")(function*({ limit, nowMillis }) {
          return yield* Effect.forEach(yield* list(nowMillis, limit), decode)
        }, Access.failAs("list")),
        revoke: Effect.fn("SqlBootstrapCredentialRepository.revoke")(function*(id, change) {
          const revoked = yield* revoke(change.nowMillis, id, change.nowMillis)
          if (revoked.length === 0) return false
          yield* append([{ _tag: "pairingLinkRemoved", id, reason: "revoked" }], change)
          return true
        }, transaction("revoke")),
        sweep: Effect.fn("SqlBootstrapCredentialRepository.sweep")(function*({ endedBeforeMillis, limit }, change) {
          const rows = Array.from(yield* sweep(endedBeforeMillis, limit)).sort((a, b) => a.id < b.id ? -1 : 1)
          yield* append(
            rows
              .filter((row) => row.revoked_at_millis === null && Dialect.toNatural(row.remaining_uses) > 0)
              .map(({ id }) => ({ _tag: "pairingLinkRemoved", id, reason: "expired" })),
            change
          )
          return rows.length
        }, transaction("sweep"))
      })
    })
  )

/**
 * Provides the repository on tables named with a prefix, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<BootstrapCredentialRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<BootstrapCredentialRepository, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()
