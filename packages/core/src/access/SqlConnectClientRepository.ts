/**
 * Keeps the clients that connect through a relay, and the security mode, in SQLite or PostgreSQL.
 *
 * The tables are `<prefix>connect_clients` and `<prefix>connect_settings`; what a client has is in those of the sessions and
 * the pairing links of the same prefix. On PostgreSQL a step takes its locks in one order: the row of the mode, clients,
 * sessions by id, tickets by digest, links by id, the feed's head. The first makes the steps on the clients of a store
 * follow each other, so that a verdict on what was read is one on what is written. `layer` brings the tables up to date
 * before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import type { AccessChange, ChangeContext } from "./AccessEvent.ts"
import { toPairingLink } from "./BootstrapCredentialRepository.ts"
import {
  admits,
  ConnectClientRepository,
  ConnectClientRow,
  decisionVerdict,
  requestVerdict,
  trusted,
  upserted,
  type Verdict
} from "./ConnectClientRepository.ts"
import type { SessionId } from "./Session.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Journal from "./internal/sqlAccessJournal.ts"
import * as Access from "../sql/accessTables.ts"
import * as Connect from "./internal/connectTables.ts"
import * as Dialect from "../sql/Dialect.ts"
import * as Migrations from "../sql/Migrations.ts"
import * as SqlBootstrapCredentialRepository from "./SqlBootstrapCredentialRepository.ts"
import * as SqlSessionCredentialRepository from "./SqlSessionCredentialRepository.ts"

/**
 * Creates the tables of connect clients, and of the sessions, the pairing links and the access feed beside them, or brings
 * them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Connect.migrate(options?.prefix ?? Migrations.defaultPrefix)).pipe(
    Layer.provide(SqlBootstrapCredentialRepository.layerMigrations(options)),
    Layer.provide(SqlSessionCredentialRepository.layerMigrations(options))
  )

/**
 * Provides the repository on tables that exist already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<ConnectClientRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    ConnectClientRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const prefix = options?.prefix ?? Migrations.defaultPrefix
      const tables = Connect.tables(prefix)
      const clients = sql(tables.clients)
      const settings = sql(tables.settings)
      const sessions = sql(`${prefix}sessions`)
      const tickets = sql(`${prefix}session_tickets`)
      const links = sql(`${prefix}pairing_links`)
      const append = yield* Journal.makeAppend(sql, prefix)
      const transaction = Access.makeTransaction(sql)
      const decode = Access.makeDecode(tables.clients, ConnectClientRow, [])
      const p = Access.parameter
      const columns = sql.literal(
        `proof_key_thumbprint AS "proofKeyThumbprint", account, label, device_type AS "deviceType", status, ` +
          `verification_code AS "verificationCode", first_seen_at_millis AS "firstSeenAtMillis", ` +
          `requested_at_millis AS "requestedAtMillis", pending_until_millis AS "pendingUntilMillis", ` +
          `decided_at_millis AS "decidedAtMillis", decided_by AS "decidedBy", reason, ` +
          `last_seen_at_millis AS "lastSeenAtMillis", rejections, ask_again_at_millis AS "askAgainAtMillis"`
      )
      const lock = sql.literal(sql.onDialectOrElse({ pg: () => "FOR UPDATE", orElse: () => "" }))
      // A list of keys travels as one JSON array, so that there is one plan for any number of them.
      const keys = sql.onDialectOrElse({
        pg: () => sql`IN (SELECT json_array_elements_text(CAST(${p} AS JSON)))`,
        orElse: () => sql`IN (SELECT value FROM json_each(${p}))`
      })

      const readMode = Access.prepare<{ readonly mode: unknown }>(sql, sql`SELECT mode FROM ${settings} WHERE id = 1`)
      const lockMode = Access.prepare<{ readonly mode: unknown }>(
        sql,
        sql`SELECT mode FROM ${settings} WHERE id = 1 ${lock}`
      )
      const writeMode = Access.prepare(sql, sql`UPDATE ${settings} SET mode = ${p} WHERE id = 1`)
      const byKey = Access.prepare(sql, sql`SELECT ${columns} FROM ${clients} WHERE proof_key_thumbprint = ${p}`)
      const byPrefix = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${clients} WHERE proof_key_thumbprint >= ${p} AND proof_key_thumbprint < ${p}
        ORDER BY proof_key_thumbprint LIMIT 2`
      )
      const list = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${clients}
        WHERE requested_at_millis <= ${p} AND (requested_at_millis < ${p} OR proof_key_thumbprint > ${p})
        ORDER BY requested_at_millis DESC, proof_key_thumbprint LIMIT ${p}`
      )
      const countOthers = Access.prepare<{ readonly waiting: unknown; readonly observed: unknown }>(
        sql,
        sql`SELECT
          (SELECT COUNT(*) FROM ${clients} WHERE account = ${p} AND status = 'pending'
            AND pending_until_millis > ${p} AND proof_key_thumbprint <> ${p}) AS waiting,
          (SELECT COUNT(*) FROM ${clients} WHERE account = ${p} AND status = 'observed'
            AND proof_key_thumbprint <> ${p}) AS observed`
      )
      const observedAfter = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${clients} WHERE status = 'observed' AND proof_key_thumbprint > ${p}
        ORDER BY proof_key_thumbprint LIMIT ${p}`
      )
      const store = Access.prepare(
        sql,
        sql`INSERT INTO ${clients} (proof_key_thumbprint, account, label, device_type, status, verification_code,
          first_seen_at_millis, requested_at_millis, pending_until_millis, decided_at_millis, decided_by, reason,
          last_seen_at_millis, rejections, ask_again_at_millis)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p})
        ON CONFLICT (proof_key_thumbprint) DO UPDATE SET account = excluded.account, label = excluded.label,
          device_type = excluded.device_type, status = excluded.status,
          verification_code = excluded.verification_code, first_seen_at_millis = excluded.first_seen_at_millis,
          requested_at_millis = excluded.requested_at_millis, pending_until_millis = excluded.pending_until_millis,
          decided_at_millis = excluded.decided_at_millis, decided_by = excluded.decided_by, reason = excluded.reason,
          last_seen_at_millis = excluded.last_seen_at_millis, rejections = excluded.rejections,
          ask_again_at_millis = excluded.ask_again_at_millis`
      )
      const write = (row: ConnectClientRow) =>
        store(
          row.proofKeyThumbprint,
          row.account,
          row.label,
          row.deviceType,
          row.status,
          row.verificationCode,
          row.firstSeenAtMillis,
          row.requestedAtMillis,
          row.pendingUntilMillis,
          row.decidedAtMillis,
          row.decidedBy,
          row.reason,
          row.lastSeenAtMillis,
          row.rejections,
          row.askAgainAtMillis
        )
      const insertLink = Access.prepare(
        sql,
        sql`INSERT INTO ${links} (id, code_digest, label, subject, scopes, proof_key_thumbprint, remaining_uses,
          created_by, created_at_millis, expires_at_millis, revoked_at_millis)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p})`
      )
      const sweep = Access.prepare<{ readonly proof_key_thumbprint: string }>(
        sql,
        sql`DELETE FROM ${clients} WHERE proof_key_thumbprint IN (
          SELECT proof_key_thumbprint FROM ${clients} AS client
          WHERE ((status = 'pending' AND pending_until_millis <= ${p})
            OR (status IN ('observed', 'rejected', 'revoked') AND requested_at_millis <= ${p}
              AND COALESCE(last_seen_at_millis, 0) <= ${p} AND COALESCE(decided_at_millis, 0) <= ${p}
              AND COALESCE(ask_again_at_millis, 0) <= ${p}))
            AND NOT EXISTS (SELECT 1 FROM ${sessions} AS session
              WHERE session.proof_key_thumbprint = client.proof_key_thumbprint
                AND session.revoked_at_millis IS NULL AND session.expires_at_millis > ${p})
            AND NOT EXISTS (SELECT 1 FROM ${links} AS link
              WHERE link.proof_key_thumbprint = client.proof_key_thumbprint
                AND link.revoked_at_millis IS NULL AND link.remaining_uses > 0 AND link.expires_at_millis > ${p})
          ORDER BY proof_key_thumbprint LIMIT ${p}
        ) RETURNING proof_key_thumbprint`
      )

      // What a key has. Several rows are locked in the order of their ids, as everywhere.
      const endSessions = Access.prepare<{ readonly id: SessionId }>(
        sql,
        sql.onDialectOrElse({
          pg: () =>
            sql`WITH target AS (
              SELECT id FROM ${sessions} WHERE proof_key_thumbprint ${keys} AND revoked_at_millis IS NULL
                AND expires_at_millis > ${p} ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE ${sessions} AS session SET revoked_at_millis = CAST(${p} AS BIGINT)
            FROM target WHERE session.id = target.id RETURNING session.id`,
          orElse: () =>
            sql`WITH target AS (
              SELECT id FROM ${sessions} WHERE proof_key_thumbprint ${keys} AND revoked_at_millis IS NULL
                AND expires_at_millis > ${p}
            )
            UPDATE ${sessions} SET revoked_at_millis = ${p} WHERE id IN (SELECT id FROM target) RETURNING id`
        })
      )
      const dropTickets = Access.prepare(
        sql,
        sql.onDialectOrElse({
          pg: () =>
            sql`DELETE FROM ${tickets} WHERE ticket_digest IN (
              SELECT ticket_digest FROM ${tickets} WHERE session_id ${keys} ORDER BY ticket_digest FOR UPDATE
            )`,
          orElse: () => sql`DELETE FROM ${tickets} WHERE session_id ${keys}`
        })
      )
      const endLinks = Access.prepare<{ readonly id: string }>(
        sql,
        sql.onDialectOrElse({
          pg: () =>
            sql`WITH target AS (
              SELECT id FROM ${links} WHERE proof_key_thumbprint ${keys} AND revoked_at_millis IS NULL
                AND remaining_uses > 0 AND expires_at_millis > ${p} ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE ${links} AS link SET revoked_at_millis = CAST(${p} AS BIGINT)
            FROM target WHERE link.id = target.id AND link.remaining_uses > 0 RETURNING link.id`,
          orElse: () =>
            sql`WITH target AS (
              SELECT id FROM ${links} WHERE proof_key_thumbprint ${keys} AND revoked_at_millis IS NULL
                AND remaining_uses > 0 AND expires_at_millis > ${p}
            )
            UPDATE ${links} SET revoked_at_millis = ${p} WHERE id IN (SELECT id FROM target) RETURNING id`
        })
      )
      const byId = (a: { readonly id: string }, b: { readonly id: string }) => a.id < b.id ? -1 : 1
      const endKeys = Effect.fnUntraced(function*(thumbprints: ReadonlyArray<string>, nowMillis: number) {
        if (thumbprints.length === 0) return []
        const json = JSON.stringify(thumbprints)
        const changes: Array<AccessChange> = []
        for (const { id } of Array.from(yield* endSessions(json, nowMillis, nowMillis)).sort(byId)) {
          changes.push({ _tag: "sessionRemoved", id, reason: "revoked" })
        }
        if (changes.length > 0) {
          yield* dropTickets(JSON.stringify(changes.map((change) => change._tag === "sessionRemoved" ? change.id : "")))
        }
        for (const { id } of Array.from(yield* endLinks(json, nowMillis, nowMillis)).sort(byId)) {
          changes.push({ _tag: "pairingLinkRemoved", id, reason: "revoked" })
        }
        return changes
      })

      const modeOf = (rows: ReadonlyArray<{ readonly mode: unknown }>): unknown => rows[0]?.mode
      const decodeFirst = ([row]: ReadonlyArray<object>): Effect.Effect<Option.Option<ConnectClientRow>, Error> =>
        row === undefined ? Effect.succeedNone : Effect.map(decode(row), Option.some)
      const find = (key: string) => Effect.flatMap(byKey(key), decodeFirst)

      /** Writes what a verdict asks for, and returns its events, to be appended last. */
      const apply = Effect.fnUntraced(function*<Outcome>(
        key: string,
        verdict: Verdict<Outcome>,
        { nowMillis }: ChangeContext
      ) {
        if (verdict.store !== undefined) yield* write(verdict.store)
        const changes: Array<AccessChange> = verdict.endsAccess ? yield* endKeys([key], nowMillis) : []
        if (verdict.store !== undefined) changes.push(upserted(verdict.store))
        return changes
      })

      return ConnectClientRepository.of({
        request: Effect.fn("SqlConnectClientRepository.request")(function*(ask, grant, change) {
          const { nowMillis } = change
          const key = ask.proofKeyThumbprint
          const storedMode = modeOf(yield* lockMode())
          const row = Option.getOrUndefined(yield* find(key))
          const [others] = yield* countOthers(ask.account, nowMillis, key, ask.account, key)
          const verdict = requestVerdict({
            storedMode,
            row,
            ask,
            others: {
              waiting: Dialect.toNatural(others?.waiting),
              observed: Dialect.toNatural(others?.observed)
            },
            nowMillis
          })
          const changes = yield* apply(key, verdict, change)
          if (verdict.outcome._tag === "Granted" && grant !== undefined) {
            yield* insertLink(
              grant.id,
              grant.codeDigest,
              grant.label,
              grant.subject,
              JSON.stringify(grant.scopes),
              grant.proofKeyThumbprint,
              grant.remainingUses,
              grant.createdBy,
              grant.createdAtMillis,
              grant.expiresAtMillis,
              grant.revokedAtMillis
            )
            changes.push({ _tag: "pairingLinkUpserted", link: toPairingLink(grant) })
          }
          yield* append(changes, change)
          return verdict.outcome
        }, transaction("request")),
        decide: Effect.fn("SqlConnectClientRepository.decide")(function*(deciding, change) {
          yield* lockMode()
          const row = Option.getOrUndefined(yield* find(deciding.proofKeyThumbprint))
          const verdict = decisionVerdict(row, deciding, change)
          yield* append(yield* apply(deciding.proofKeyThumbprint, verdict, change), change)
          return verdict.outcome
        }, transaction("decide")),
        find: (key) => Access.failAs("find")(find(key)),
        // No character of base64url comes after `z`.
        findByPrefix: (prefix) =>
          Access.failAs("findByPrefix")(
            Effect.flatMap(byPrefix(prefix, `${prefix}{`), (rows) => Effect.forEach(rows, decode))
          ),
        list: Effect.fn("SqlConnectClientRepository.list")(function*({ after, limit }) {
          const before = after?.requestedAtMillis ?? Number.MAX_SAFE_INTEGER
          return yield* Effect.forEach(
            yield* list(before, before, after?.proofKeyThumbprint ?? "", limit),
            decode
          )
        }, Access.failAs("list")),
        storedMode: Access.failAs("storedMode")(Effect.map(readMode(), modeOf)),
        isAdmitted: Effect.fn("SqlConnectClientRepository.isAdmitted")(function*(key) {
          const storedMode = modeOf(yield* lockMode())
          return admits(storedMode, Option.getOrUndefined(yield* find(key)))
        }, transaction("isAdmitted")),
        setMode: Effect.fn("SqlConnectClientRepository.setMode")(function*({ mode, trust }, change) {
          const before = modeOf(yield* lockMode())
          yield* writeMode(mode)
          const approved: Array<ConnectClientRow> = []
          const others: Array<string> = []
          let last = ""
          while (true) {
            const page = yield* Effect.flatMap(observedAfter(last, 256), (rows) => Effect.forEach(rows, decode))
            for (const row of page) {
              last = row.proofKeyThumbprint
              if (trust === "all" || trust.includes(last)) approved.push(trusted(row, change))
              else others.push(last)
            }
            if (page.length < 256) break
          }
          for (const row of approved) yield* write(row)
          const changes: Array<AccessChange> = mode === "client-approval"
            ? yield* endKeys(others, change.nowMillis)
            : []
          if (before !== mode) changes.push({ _tag: "connectSecurityModeUpdated", mode })
          for (const row of approved) changes.push(upserted(row))
          yield* append(changes, change)
          return approved
        }, transaction("setMode")),
        sweep: Effect.fn("SqlConnectClientRepository.sweep")(function*({ idleBeforeMillis, limit }, change) {
          yield* lockMode()
          const idle = idleBeforeMillis
          const { nowMillis } = change
          const rows = yield* sweep(nowMillis, idle, idle, idle, idle, nowMillis, nowMillis, limit)
          const gone = rows.map((row) => row.proof_key_thumbprint).sort()
          yield* append(
            gone.map((proofKeyThumbprint) => ({ _tag: "connectClientRemoved", proofKeyThumbprint, reason: "expired" })),
            change
          )
          return gone.length
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
): Layer.Layer<ConnectClientRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<ConnectClientRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
