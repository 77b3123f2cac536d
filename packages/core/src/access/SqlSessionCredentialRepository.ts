/**
 * Keeps sessions and their upgrade tickets in SQLite or PostgreSQL.
 *
 * The tables are `<prefix>sessions` and `<prefix>session_tickets`, and every change appends to the access feed in its
 * transaction. On PostgreSQL a step takes its locks in one order: sessions by id, tickets by digest, the feed's head;
 * so two steps never wait for each other. `layer` brings the tables up to date before it answers; a host that runs
 * migrations on its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import { RepositoryError } from "../RepositoryError.ts"
import type { Session, SessionId } from "./Session.ts"
import {
  type RefreshOutcome,
  refreshVerdict,
  type RevocationTarget,
  SessionCredentialRepository,
  SessionRow,
  toSession
} from "./SessionCredentialRepository.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Dialect from "../sql/Dialect.ts"
import * as Journal from "./internal/sqlAccessJournal.ts"
import * as Access from "../sql/accessTables.ts"
import * as Migrations from "../sql/Migrations.ts"

const tablesOf = (prefix: string) => ({ sessions: `${prefix}sessions`, tickets: `${prefix}session_tickets` })

const migrate = (prefix: string): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Effect.andThen(
    Journal.migrate(prefix),
    Migrations.run({
      service: "sessions",
      prefix,
      migrations: {
        "1_create_sessions": Effect.gen(function*() {
          const sql = (yield* SqlClient.SqlClient).withoutTransforms()
          const tables = tablesOf(prefix)
          const millis = Dialect.bigint(sql)
          const id = Access.idType(sql)
          const index = (name: string) => sql(`${tables.sessions}_${name}`)
          yield* Access.runAll([
            sql`CREATE TABLE ${sql(tables.sessions)} (
              id ${id} NOT NULL PRIMARY KEY CHECK (id <> ''),
              subject TEXT NOT NULL CHECK (subject <> ''),
              method TEXT NOT NULL
                CHECK (method IN ('browser-session-cookie', 'bearer-access-token', 'dpop-access-token')),
              scopes TEXT NOT NULL,
              proof_key_thumbprint TEXT,
              device TEXT NOT NULL,
              token_digest TEXT NOT NULL UNIQUE CHECK (token_digest <> ''),
              key_id TEXT NOT NULL CHECK (key_id <> ''),
              created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
              last_seen_at_millis ${millis} NOT NULL CHECK (last_seen_at_millis >= 0),
              expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0),
              absolute_expires_at_millis ${millis} CHECK (absolute_expires_at_millis >= expires_at_millis),
              revoked_at_millis ${millis} CHECK (revoked_at_millis >= 0)
            )`,
            sql`CREATE INDEX ${index("subject")} ON ${sql(tables.sessions)} (subject, id)
              WHERE revoked_at_millis IS NULL`,
            sql`CREATE INDEX ${index("proof_key")} ON ${sql(tables.sessions)} (proof_key_thumbprint, id)
              WHERE revoked_at_millis IS NULL AND proof_key_thumbprint IS NOT NULL`,
            sql`CREATE INDEX ${index("ended")} ON ${sql(tables.sessions)} ((${Access.endedAt(sql)}), id)`,
            // Tickets have no foreign key: they stand for nothing without a live session, which is looked at when one is
            // used, and so a ticket can never be in the way of ending or deleting a session.
            sql`CREATE TABLE ${sql(tables.tickets)} (
              ticket_digest ${id} NOT NULL PRIMARY KEY CHECK (ticket_digest <> ''),
              session_id ${id} NOT NULL,
              expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0)
            ) ${Dialect.clustered(sql)}`,
            sql`CREATE INDEX ${sql(`${tables.tickets}_session`)} ON ${sql(tables.tickets)} (session_id)`,
            sql`CREATE INDEX ${sql(`${tables.tickets}_expires`)} ON ${
              sql(tables.tickets)
            } (expires_at_millis, ticket_digest)`
          ])
        }),
        "2_refresh_tokens_and_keys": Effect.gen(function*() {
          const sql = (yield* SqlClient.SqlClient).withoutTransforms()
          const { sessions } = tablesOf(prefix)
          const millis = Dialect.bigint(sql)
          yield* Access.runAll([
            sql`ALTER TABLE ${sql(sessions)} ADD COLUMN token_expires_at_millis ${millis}
              CHECK (token_expires_at_millis >= 0)`,
            sql`ALTER TABLE ${sql(sessions)} ADD COLUMN refresh_digest TEXT CHECK (refresh_digest <> '')`,
            sql`ALTER TABLE ${sql(sessions)} ADD COLUMN previous_refresh_digest TEXT
              CHECK (previous_refresh_digest <> '')`,
            sql`ALTER TABLE ${sql(sessions)} ADD COLUMN refreshed_at_millis ${millis} CHECK (refreshed_at_millis >= 0)`,
            sql`CREATE INDEX ${sql(`${sessions}_key`)} ON ${sql(sessions)} (key_id, expires_at_millis)
              WHERE revoked_at_millis IS NULL`
          ])
        })
      }
    })
  )

/**
 * Creates the tables of sessions and of the access feed, or brings them up to date.
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
): Layer.Layer<SessionCredentialRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    SessionCredentialRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const prefix = options?.prefix ?? Migrations.defaultPrefix
      const tables = tablesOf(prefix)
      const sessions = sql(tables.sessions)
      const tickets = sql(tables.tickets)
      const append = yield* Journal.makeAppend(sql, prefix)
      const transaction = Access.makeTransaction(sql)
      const decode = Access.makeDecode(tables.sessions, SessionRow, ["scopes", "device"])
      const p = Access.parameter
      const live = sql`revoked_at_millis IS NULL AND expires_at_millis > ${p}`
      const ended = Access.endedAt(sql)
      const columns = sql.literal(
        `id, subject, method, scopes, proof_key_thumbprint AS "proofKeyThumbprint", device, ` +
          `token_digest AS "tokenDigest", key_id AS "keyId", token_expires_at_millis AS "tokenExpiresAtMillis", ` +
          `refresh_digest AS "refreshDigest", previous_refresh_digest AS "previousRefreshDigest", ` +
          `refreshed_at_millis AS "refreshedAtMillis", created_at_millis AS "createdAtMillis", ` +
          `last_seen_at_millis AS "lastSeenAtMillis", expires_at_millis AS "expiresAtMillis", ` +
          `absolute_expires_at_millis AS "absoluteExpiresAtMillis", revoked_at_millis AS "revokedAtMillis"`
      )

      const decodeFirst = (
        rows: ReadonlyArray<object>
      ): Effect.Effect<Option.Option<SessionRow>, Error> => {
        const [row] = rows
        return row === undefined ? Effect.succeedNone : Effect.map(decode(row), Option.some)
      }

      const insert = Access.prepare(
        sql,
        sql`INSERT INTO ${sessions} (id, subject, method, scopes, proof_key_thumbprint, device, token_digest, key_id,
          token_expires_at_millis, refresh_digest, previous_refresh_digest, refreshed_at_millis,
          created_at_millis, last_seen_at_millis, expires_at_millis, absolute_expires_at_millis, revoked_at_millis)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p})
        ON CONFLICT DO NOTHING RETURNING id`
      )
      const byDigest = Access.prepare(sql, sql`SELECT ${columns} FROM ${sessions} WHERE token_digest = ${p}`)
      const byId = Access.prepare(sql, sql`SELECT ${columns} FROM ${sessions} WHERE id = ${p}`)
      const untilAbsoluteEnd = sql.onDialectOrElse({
        pg: () => sql`LEAST(CAST(${p} AS BIGINT), absolute_expires_at_millis)`,
        orElse: () => sql`MIN(${p}, COALESCE(absolute_expires_at_millis, ${sql.literal("9007199254740991")}))`
      })
      const renew = Access.prepare(
        sql,
        sql`UPDATE ${sessions} SET last_seen_at_millis = ${p}, expires_at_millis = ${untilAbsoluteEnd}
        WHERE id = ${p} AND last_seen_at_millis <= ${p} AND ${live} RETURNING ${columns}`
      )
      const refresh = Access.prepare(
        sql,
        sql`UPDATE ${sessions} SET token_digest = ${p}, key_id = ${p}, token_expires_at_millis = ${p},
          previous_refresh_digest = refresh_digest, refresh_digest = ${p}, refreshed_at_millis = ${p},
          last_seen_at_millis = ${p}, expires_at_millis = ${untilAbsoluteEnd}
        WHERE id = ${p} AND refresh_digest = ${p} AND ${live}
          AND (proof_key_thumbprint IS NULL OR proof_key_thumbprint = ${p})
        RETURNING ${columns}`
      )
      const byIdLocked = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${sessions} WHERE id = ${p} ${
          sql.literal(sql.onDialectOrElse({ pg: () => "FOR NO KEY UPDATE", orElse: () => "" }))
        }`
      )
      const withKey = Access.prepare(
        sql,
        sql`SELECT id FROM ${sessions} WHERE key_id = ${p} AND ${live} LIMIT 1`
      )
      const list = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${sessions} WHERE id > ${p} AND ${live} ORDER BY id LIMIT ${p}`
      )
      const listOfSubject = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${sessions} WHERE subject = ${p} AND id > ${p} AND ${live} ORDER BY id LIMIT ${p}`
      )

      // Several rows are locked in the order of their ids, so that two revocations never wait for each other.
      const revokeWhere = (condition: typeof live) =>
        Access.prepare<{ readonly id: SessionId }>(
          sql,
          sql.onDialectOrElse({
            pg: () =>
              sql`WITH target AS (
                SELECT id FROM ${sessions} WHERE ${condition} AND ${live} ORDER BY id FOR NO KEY UPDATE
              )
              UPDATE ${sessions} AS session SET revoked_at_millis = CAST(${p} AS BIGINT)
              FROM target WHERE session.id = target.id RETURNING session.id`,
            orElse: () =>
              sql`WITH target AS (SELECT id FROM ${sessions} WHERE ${condition} AND ${live})
              UPDATE ${sessions} SET revoked_at_millis = ${p} WHERE id IN (SELECT id FROM target) RETURNING id`
          })
        )
      const revokeById = revokeWhere(sql`id = ${p}`)
      const revokeBySubject = revokeWhere(sql`subject = ${p}`)
      const revokeBySubjectExcept = revokeWhere(sql`subject = ${p} AND id <> ${p}`)
      const revokeByProofKey = revokeWhere(sql`proof_key_thumbprint = ${p}`)
      const revoke = (target: RevocationTarget, nowMillis: number) => {
        switch (target._tag) {
          case "Session":
            return revokeById(target.id, nowMillis, nowMillis)
          case "Subject":
            return revokeBySubject(target.subject, nowMillis, nowMillis)
          case "SubjectExcept":
            return revokeBySubjectExcept(target.subject, target.keep, nowMillis, nowMillis)
          case "ProofKey":
            return revokeByProofKey(target.proofKeyThumbprint, nowMillis, nowMillis)
        }
      }

      const insertTicket = Access.prepare(
        sql,
        sql`INSERT INTO ${tickets} (ticket_digest, session_id, expires_at_millis) VALUES (${p}, ${p}, ${p})
        ON CONFLICT DO NOTHING RETURNING ticket_digest`
      )
      const takeTicket = Access.prepare<{ readonly session_id: SessionId; readonly expires_at_millis: unknown }>(
        sql,
        sql`DELETE FROM ${tickets} WHERE ticket_digest = ${p} RETURNING session_id, expires_at_millis`
      )
      const liveById = Access.prepare(sql, sql`SELECT ${columns} FROM ${sessions} WHERE id = ${p} AND ${live}`)
      const dropTickets = Access.prepare(
        sql,
        sql.onDialectOrElse({
          pg: () =>
            sql`DELETE FROM ${tickets} WHERE ticket_digest IN (
              SELECT ticket_digest FROM ${tickets}
              WHERE session_id IN (SELECT json_array_elements_text(CAST(${p} AS JSON)))
              ORDER BY ticket_digest FOR UPDATE
            )`,
          orElse: () => sql`DELETE FROM ${tickets} WHERE session_id IN (SELECT value FROM json_each(${p}))`
        })
      )

      const deleteEnded = (table: typeof sessions, id: string, end: typeof ended, returning: string) => {
        const key = sql(id)
        return sql`WITH ended AS ${sql.literal(sql.onDialectOrElse({ pg: () => "MATERIALIZED", orElse: () => "" }))} (
            SELECT ${key} FROM ${table} WHERE ${end} <= ${p} ORDER BY ${end}, ${key} LIMIT ${p} ${
          Access.skipLocked(sql)
        }
          )
          DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ended) RETURNING ${sql.literal(returning)}`
      }
      const sweepSessions = Access.prepare<{ readonly id: SessionId; readonly revoked_at_millis: unknown }>(
        sql,
        deleteEnded(sessions, "id", ended, "id, revoked_at_millis")
      )
      const sweepTickets = Access.prepare(
        sql,
        deleteEnded(tickets, "ticket_digest", sql.literal("expires_at_millis"), "ticket_digest")
      )

      const upserted = (row: SessionRow): { readonly _tag: "sessionUpserted"; readonly session: Session } => ({
        _tag: "sessionUpserted",
        session: toSession(row)
      })
      const byIdOrder = (a: { readonly id: string }, b: { readonly id: string }) => a.id < b.id ? -1 : 1

      return SessionCredentialRepository.of({
        insert: Effect.fn("SqlSessionCredentialRepository.insert")(function*(row, change) {
          const inserted = yield* insert(
            row.id,
            row.subject,
            row.method,
            JSON.stringify(row.scopes),
            row.proofKeyThumbprint,
            JSON.stringify(row.device),
            row.tokenDigest,
            row.keyId,
            row.tokenExpiresAtMillis,
            row.refreshDigest,
            row.previousRefreshDigest,
            row.refreshedAtMillis,
            row.createdAtMillis,
            row.lastSeenAtMillis,
            row.expiresAtMillis,
            row.absoluteExpiresAtMillis,
            row.revokedAtMillis
          )
          if (inserted.length === 0) {
            return yield* new RepositoryError({
              operation: "insert",
              cause: new Error(`Session ${row.id} exists already`)
            })
          }
          yield* append([upserted(row)], change)
        }, transaction("insert")),
        findByTokenDigest: (tokenDigest) =>
          Access.failAs("findByTokenDigest")(Effect.flatMap(byDigest(tokenDigest), decodeFirst)),
        findById: (id) => Access.failAs("findById")(Effect.flatMap(byId(id), decodeFirst)),
        renew: Effect.fn("SqlSessionCredentialRepository.renew")(
          function*({ dueBeforeMillis, id, lifetimeMillis }, change) {
            const { nowMillis } = change
            const renewed = yield* Effect.flatMap(
              renew(nowMillis, nowMillis + lifetimeMillis, id, dueBeforeMillis, nowMillis),
              decodeFirst
            )
            if (Option.isSome(renewed)) yield* append([upserted(renewed.value)], change)
            return renewed
          },
          transaction("renew")
        ),
        refresh: Effect.fn("SqlSessionCredentialRepository.refresh")(
          function*({ graceMillis, id, lifetimeMillis, next, presentedDigest, proofKeyThumbprint }, change) {
            const { nowMillis } = change
            const refreshed = yield* Effect.flatMap(
              refresh(
                next.tokenDigest,
                next.keyId,
                next.tokenExpiresAtMillis,
                next.refreshDigest,
                nowMillis,
                nowMillis,
                nowMillis + lifetimeMillis,
                id,
                presentedDigest,
                nowMillis,
                proofKeyThumbprint ?? null
              ),
              decodeFirst
            )
            if (Option.isSome(refreshed)) {
              yield* append([upserted(refreshed.value)], change)
              return { _tag: "Refreshed", row: refreshed.value } satisfies RefreshOutcome
            }
            const row = Option.getOrUndefined(yield* Effect.flatMap(byIdLocked(id), decodeFirst))
            const verdict = refreshVerdict(row, { presentedDigest, proofKeyThumbprint, graceMillis, nowMillis })
            // The update has waited for everybody who was writing the row, so a token that is good now was not then: the
            // session has begun since.
            if (row === undefined || verdict === "current") {
              return { _tag: "Refused", reason: "unknown" } satisfies RefreshOutcome
            }
            if (verdict === "repeated") return { _tag: "Repeated", row } satisfies RefreshOutcome
            if (verdict !== "reused") return { _tag: "Refused", reason: verdict } satisfies RefreshOutcome
            yield* revokeById(id, nowMillis, nowMillis)
            yield* dropTickets(JSON.stringify([id]))
            yield* append([{ _tag: "sessionRemoved", id, reason: "revoked" }], { actor: "system", nowMillis })
            return { _tag: "Reused" } satisfies RefreshOutcome
          },
          transaction("refresh")
        ),
        isKeyInUse: ({ keyId, nowMillis }) =>
          Access.failAs("isKeyInUse")(Effect.map(withKey(keyId, nowMillis), (rows) => rows.length > 0)),
        list: Effect.fn("SqlSessionCredentialRepository.list")(function*({ afterId, limit, nowMillis, subject }) {
          const rows = yield* subject === undefined
            ? list(afterId ?? "", nowMillis, limit)
            : listOfSubject(subject, afterId ?? "", nowMillis, limit)
          return yield* Effect.forEach(rows, decode)
        }, Access.failAs("list")),
        revoke: Effect.fn("SqlSessionCredentialRepository.revoke")(function*(target, change) {
          const rows = Array.from(yield* revoke(target, change.nowMillis)).sort(byIdOrder)
          if (rows.length === 0) return []
          const ids = rows.map((row) => row.id)
          yield* dropTickets(JSON.stringify(ids))
          yield* append(ids.map((id) => ({ _tag: "sessionRemoved", id, reason: "revoked" })), change)
          return ids
        }, transaction("revoke")),
        insertTicket: Effect.fn("SqlSessionCredentialRepository.insertTicket")(function*(row) {
          const inserted = yield* insertTicket(row.ticketDigest, row.sessionId, row.expiresAtMillis)
          if (inserted.length === 0) {
            return yield* Effect.fail(
              new Error(`A ticket of session ${row.sessionId} has a digest that exists already`)
            )
          }
        }, Access.failAs("insertTicket")),
        consumeTicket: Effect.fn("SqlSessionCredentialRepository.consumeTicket")(
          function*({ nowMillis, ticketDigest }) {
            const [ticket] = yield* takeTicket(ticketDigest)
            return ticket === undefined || Dialect.toNatural(ticket.expires_at_millis) <= nowMillis
              ? Option.none()
              : yield* Effect.flatMap(liveById(ticket.session_id, nowMillis), decodeFirst)
          },
          transaction("consumeTicket")
        ),
        sweep: Effect.fn("SqlSessionCredentialRepository.sweep")(function*({ endedBeforeMillis, limit }, change) {
          const rows = Array.from(yield* sweepSessions(endedBeforeMillis, limit)).sort(byIdOrder)
          if (rows.length > 0) yield* dropTickets(JSON.stringify(rows.map((row) => row.id)))
          const expired = yield* sweepTickets(endedBeforeMillis, limit)
          yield* append(
            rows
              .filter((row) => row.revoked_at_millis === null)
              .map(({ id }) => ({ _tag: "sessionRemoved", id, reason: "expired" })),
            change
          )
          return rows.length + expired.length
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
): Layer.Layer<SessionCredentialRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SessionCredentialRepository, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()
