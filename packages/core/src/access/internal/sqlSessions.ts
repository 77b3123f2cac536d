/**
 * Keeps sessions in the table `<prefix>sessions`, and their tickets in `<prefix>session_tickets`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Dialect from "../../sql/Dialect.ts"
import { conflict } from "../../RepositoryError.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type { ChangeContext } from "../AccessEvent.ts"
import type { SessionId } from "../Session.ts"
import {
  countDescendants,
  isLive,
  maxTickets,
  refreshed,
  type RefreshOutcome,
  refreshVerdict,
  scopeVerdict,
  type SessionCredentialRepository,
  SessionRow,
  TicketRow,
  toSession,
  withScopeRequest
} from "../SessionCredentialRepository.ts"
import { byId } from "./orders.ts"
import * as SqlEnds from "./sqlEnds.ts"
import type { Append } from "./sqlFeed.ts"

/** Makes the sessions of a store, and the steps on them that others take in a transaction of their own. */
export const make = (
  kit: SqlKit,
  append: Append,
  ends: ReturnType<typeof SqlEnds.make>
) => {
  const { isPg, locked, read, statement, transaction, write } = kit
  const rows = kit.rows("sessions", SessionRow)
  const ticketRows = kit.rows("session_tickets", TicketRow)
  const { columns, decode } = rows
  const sessions = kit.table("sessions")
  const tickets = kit.table("session_tickets")
  const live = SqlEnds.live()
  const one = kit.first(decode)
  const many = kit.all(decode)

  const insert = statement(`${rows.insert} ON CONFLICT DO NOTHING RETURNING id`)
  const byDigest = one(`SELECT ${columns} FROM ${sessions} WHERE token_digest = ?`)
  const findById = one(`SELECT ${columns} FROM ${sessions} WHERE id = ?`)
  // What `endAfterUse` returns.
  const afterUse = isPg
    ? "LEAST(CAST(? AS BIGINT) + COALESCE(lifetime_millis, CAST(? AS BIGINT)), absolute_expires_at_millis)"
    : `MIN(? + COALESCE(lifetime_millis, ?), COALESCE(absolute_expires_at_millis, ${Number.MAX_SAFE_INTEGER}))`
  const renew = one(
    `UPDATE ${sessions} SET last_seen_at_millis = ?, expires_at_millis = ${afterUse}
    WHERE id = ? AND last_seen_at_millis <= ? AND ${live} RETURNING ${columns}`
  )
  const labelled = isPg
    ? "CAST(jsonb_set(CAST(device AS JSONB), '{label}', to_jsonb(CAST(? AS TEXT))) AS TEXT)"
    : "json_set(device, '$.label', ?)"
  const renaming = (condition: string) =>
    one(`UPDATE ${sessions} SET device = ${labelled} WHERE ${condition} AND id = ? AND ${live} RETURNING ${columns}`)
  const rename = renaming("TRUE")
  const renameOfSubject = renaming("subject = ?")
  const lock = statement(`SELECT id FROM ${sessions} WHERE id = ?${locked}`)
  const lockLive = statement(`SELECT id FROM ${sessions} WHERE id = ? AND ${live}${locked}`)
  const selectToRefresh = statement<{ readonly used_for: unknown }>(
    `SELECT ${columns}, ${kit.now} - tokens_used_at_millis AS used_for FROM ${sessions} WHERE id = ?${locked}`
  )
  const refresh = statement(
    `UPDATE ${sessions} SET token_digest = ?, key_id = ?, token_expires_at_millis = ?, previous_refresh_digest = ?,
      refresh_digest = ?, refreshed_at_millis = ?, tokens_used_at_millis = NULL, last_seen_at_millis = ?,
      expires_at_millis = ?
    WHERE id = ?`
  )
  const useTokens = statement(
    `UPDATE ${sessions} SET tokens_used_at_millis = ${kit.now}
    WHERE token_digest = ? AND previous_refresh_digest IS NOT NULL AND tokens_used_at_millis IS NULL`
  )
  const redeemedBy = one(
    `SELECT ${columns} FROM ${sessions}
    WHERE redemption_digest = ? AND stored_at_millis > ${kit.now} - ? AND ${live} ORDER BY id LIMIT 1`
  )
  const byIdsLocked = many(`SELECT ${columns} FROM ${sessions} WHERE id IN (?, ?) ORDER BY id${locked}`)
  const setScopes = statement(`UPDATE ${sessions} SET scopes = ?, scope_request = ? WHERE id = ?`)
  const withKey = statement(`SELECT id FROM ${sessions} WHERE key_id = ? AND ${live} LIMIT 1`)
  const list = many(`SELECT ${columns} FROM ${sessions} WHERE id > ? AND ${live} ORDER BY id LIMIT ?`)
  const listOfSubject = many(
    `SELECT ${columns} FROM ${sessions} WHERE subject = ? AND id > ? AND ${live} ORDER BY id LIMIT ?`
  )

  const lineage = statement<{ readonly id: SessionId; readonly parent_id: SessionId | null; readonly live: unknown }>(
    `WITH RECURSIVE descent (id) AS (
      SELECT id FROM ${sessions} WHERE id ${kit.inJson}
      UNION SELECT child.id FROM descent JOIN ${sessions} AS child ON child.parent_id = descent.id
    )
    SELECT id, parent_id, CASE WHEN ${live} THEN 1 ELSE 0 END AS live FROM ${sessions}
    WHERE id IN (SELECT id FROM descent)`
  )

  const setBranch = statement(
    `UPDATE ${sessions} SET branch_id = COALESCE(
      (SELECT parent.branch_id FROM ${sessions} AS parent WHERE parent.id = ?), id
    ) WHERE id = ?`
  )

  const insertTicket = statement(`${ticketRows.insert} ON CONFLICT DO NOTHING RETURNING ticket_digest`)
  const dropOldTickets = statement(
    `DELETE FROM ${tickets} WHERE ticket_digest IN (
      SELECT ticket_digest FROM ${tickets} WHERE session_id = ? AND ticket_digest <> ?
      ORDER BY expires_at_millis DESC, ticket_digest LIMIT 1000 OFFSET ${maxTickets - 1}
    )`
  )
  const takeTicket = kit.first(ticketRows.decode)(
    `DELETE FROM ${tickets} WHERE ticket_digest = ? RETURNING ${ticketRows.columns}`
  )
  const liveById = one(`SELECT ${columns} FROM ${sessions} WHERE id = ? AND ${live}`)
  const sweeping = <Row extends object>(table: string, key: string, end: string, returning: string, unless = "") =>
    statement<Row>(
      `WITH ended AS ${kit.once} (
        SELECT ${key} FROM ${table} WHERE ${end} <= ?${unless} ORDER BY ${end}, ${key} LIMIT ?${kit.skipLocked}
      )
      DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ended) RETURNING ${returning}`
    )
  const sweepSessions = sweeping<SqlEnds.Ended<SessionId> & { readonly revoked_at_millis: unknown }>(
    sessions,
    "id",
    SqlEnds.endedAt(kit),
    "id, subject, revoked_at_millis",
    ` AND NOT EXISTS (SELECT 1 FROM ${sessions} AS child WHERE child.parent_id = ${sessions}.id)`
  )
  const sweepTickets = sweeping(tickets, "ticket_digest", "expires_at_millis", "ticket_digest")

  const upserted = (row: SessionRow) => ({ _tag: "sessionUpserted" as const, session: toSession(row) })

  /** Stores a session whose id and digest are new, and returns its event. */
  const begin = Effect.fnUntraced(function*(row: SessionRow, operation: string) {
    if ((yield* insert(rows.values(row))).length === 0) {
      return yield* conflict(operation, `Session ${row.id} exists already`)
    }
    if (row.parentId !== null) yield* setBranch([row.parentId, row.id])
    return upserted(row)
  })

  /** Stores the scopes of a row, and what it asks for. */
  const writeScopes = Effect.fnUntraced(function*(row: SessionRow, change: ChangeContext) {
    const request = row.scopeRequest === null ? null : JSON.stringify(row.scopeRequest)
    yield* setScopes([JSON.stringify(row.scopes), request, row.id])
    yield* append([upserted(row)], change)
  })

  const repository: SessionCredentialRepository = {
    insert: (row, change) =>
      Effect.flatMap(begin(row, "insert"), (event) => append([event], change)).pipe(transaction("insert")),
    findByTokenDigest: (tokenDigest) => read("findByTokenDigest")(byDigest([tokenDigest])),
    findById: (id) => read("findById")(findById([id])),
    renew: ({ dueBeforeMillis, id, lifetimeMillis }, change) =>
      Effect.gen(function*() {
        const { nowMillis } = change
        const renewed = yield* renew([nowMillis, nowMillis, lifetimeMillis, id, dueBeforeMillis, nowMillis])
        if (Option.isSome(renewed)) yield* append([upserted(renewed.value)], change)
        return renewed
      }).pipe(transaction("renew")),
    refresh: ({ id, lifetimeMillis, next, ...attempt }, change) =>
      Effect.gen(function*(): Effect.fn.Return<RefreshOutcome, unknown> {
        const { nowMillis } = change
        const [found] = yield* selectToRefresh([id])
        if (found === undefined) return { _tag: "Refused", reason: "unknown" }
        const row = yield* decode(found)
        const verdict = refreshVerdict(row, { ...attempt, nowMillis, usedForMillis: Number(found.used_for) })
        if (verdict === "current" || verdict === "extended") {
          const after = refreshed(row, { verdict, next, lifetimeMillis, nowMillis })
          yield* refresh([
            after.tokenDigest,
            after.keyId,
            after.tokenExpiresAtMillis,
            after.previousRefreshDigest,
            after.refreshDigest,
            after.refreshedAtMillis,
            after.lastSeenAtMillis,
            after.expiresAtMillis,
            id
          ])
          yield* append([upserted(after)], change)
          return { _tag: "Refreshed", row: after }
        }
        if (verdict === "repeated") return { _tag: "Repeated", row }
        if (verdict !== "reused") return { _tag: "Refused", reason: verdict }
        const { changes } = yield* ends.end({ _tag: "Session", id }, { actor: "system", nowMillis })
        yield* append(changes, { actor: "system", nowMillis })
        return { _tag: "Reused" }
      }).pipe(transaction("refresh")),
    useTokens: (tokenDigest) => write("useTokens")(Effect.asVoid(useTokens([tokenDigest]))),
    isKeyInUse: ({ keyId, nowMillis }) =>
      read("isKeyInUse")(Effect.map(withKey([keyId, nowMillis]), (found) => found.length > 0)),
    list: ({ afterId, limit, nowMillis, subject }) =>
      read("list")(
        subject === undefined
          ? list([afterId ?? "", nowMillis, limit])
          : listOfSubject([subject, afterId ?? "", nowMillis, limit])
      ),
    countDescendants: ({ ids, nowMillis }) =>
      read("countDescendants")(
        Effect.map(lineage([JSON.stringify(ids), nowMillis]), (rows) =>
          countDescendants(
            ids,
            rows.map((row) => ({ id: row.id, parentId: row.parent_id, isLive: Dialect.toNatural(row.live) === 1 }))
          ))
      ),
    rename: ({ id, label, subject }, change) =>
      Effect.gen(function*() {
        const renamed = subject === undefined
          ? yield* rename([label, id, change.nowMillis])
          : yield* renameOfSubject([label, subject, id, change.nowMillis])
        if (Option.isSome(renamed)) yield* append([upserted(renamed.value)], change)
        return renamed
      }).pipe(transaction("rename")),
    askScopes: ({ id, ...ask }, change) =>
      Effect.gen(function*() {
        const [row] = yield* byIdsLocked([id, id])
        if (row === undefined || !isLive(row, change.nowMillis)) return Option.none()
        const asking = withScopeRequest(row, { ...ask, nowMillis: change.nowMillis })
        if (asking !== row) yield* writeScopes(asking, change)
        return Option.some(asking)
      }).pipe(transaction("askScopes")),
    answerScopes: ({ by, id, ...answer }, change) =>
      Effect.gen(function*() {
        // Both rows stay as they are until the commit.
        const found = yield* byIdsLocked([id, by ?? id])
        const approver = by === undefined ? "operator" : found.find((row) => row.id === by)
        const outcome = scopeVerdict(found.find((row) => row.id === id), approver, {
          ...answer,
          nowMillis: change.nowMillis
        })
        if (outcome._tag === "Answered") yield* writeScopes(outcome.row, change)
        return outcome
      }).pipe(transaction("answerScopes")),
    revoke: (target, change) =>
      Effect.gen(function*() {
        const { changes, ...ended } = yield* ends.end(
          target._tag === "ProofKey"
            ? {
              _tag: "ProofKeys",
              proofKeyThumbprints: [target.proofKeyThumbprint],
              linkIds: target.linkId === undefined ? undefined : [target.linkId],
              keep: target.keep
            }
            : target,
          change
        )
        yield* append(changes, change)
        return ended
      }).pipe(transaction("revoke")),
    insertTicket: (row) =>
      Effect.gen(function*() {
        if ((yield* insertTicket(ticketRows.values(row))).length === 0) {
          yield* conflict("insertTicket", `A ticket of session ${row.sessionId} has a digest that exists already`)
        }
        yield* dropOldTickets([row.sessionId, row.ticketDigest])
      }).pipe(transaction("insertTicket")),
    consumeTicket: ({ nowMillis, ticketDigest }) =>
      Effect.gen(function*() {
        const ticket = yield* takeTicket([ticketDigest])
        return Option.isNone(ticket) || ticket.value.expiresAtMillis <= nowMillis
          ? Option.none()
          : yield* liveById([ticket.value.sessionId, nowMillis])
      }).pipe(transaction("consumeTicket")),
    sweep: ({ endedBeforeMillis, limit }, change) =>
      Effect.gen(function*() {
        const swept = Array.from(yield* sweepSessions([endedBeforeMillis, limit])).sort(byId)
        yield* ends.dropTickets(swept.map(({ id }) => id))
        const expired = yield* sweepTickets([endedBeforeMillis, limit])
        yield* append(
          swept
            .filter((row) => row.revoked_at_millis === null)
            .map(({ id, subject }) => ({ _tag: "sessionRemoved", id, subject, reason: "expired" })),
          change
        )
        return swept.length + expired.length
      }).pipe(transaction("sweep"))
  }
  return {
    repository,
    begin,
    /** Keeps the row of a session as it is until the commit. */
    lock: (id: SessionId) => isPg ? Effect.asVoid(lock([id])) : Effect.void,
    /** Tells whether a session is live, and keeps its row so until the commit. */
    lockLive: (id: SessionId, nowMillis: number) => Effect.map(lockLive([id, nowMillis]), (found) => found.length > 0),
    /** Returns the live session that an attempt has begun, unless that was too long ago; of several, the first by its id. */
    redeemedBy: (redemptionDigest: string, after: { readonly nowMillis: number; readonly repeatMillis: number }) =>
      redeemedBy([redemptionDigest, after.repeatMillis, after.nowMillis])
  }
}
