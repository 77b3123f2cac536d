/**
 * Keeps sessions in the table `<prefix>sessions`, and their tickets in `<prefix>session_tickets`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { RepositoryError } from "../../RepositoryError.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type { AccessChange } from "../AccessEvent.ts"
import type { SessionId } from "../Session.ts"
import {
  refreshed,
  type RefreshOutcome,
  refreshVerdict,
  type RevocationTarget,
  type SessionCredentialRepository,
  SessionRow,
  TicketRow,
  toSession
} from "../SessionCredentialRepository.ts"
import { byId } from "./memoryState.ts"
import { endedAt, revoking } from "./sqlEnds.ts"
import type { Append } from "./sqlFeed.ts"

const conflict = (operation: string, message: string) =>
  new RepositoryError({ operation, reason: "Conflict", outcome: "unchanged", cause: new Error(message) })

/** Makes the sessions of a store, and the steps on them that others take in a transaction of their own. */
export const make = (kit: SqlKit, append: Append) => {
  const { isPg, read, statement, transaction, write } = kit
  const rows = kit.rows("sessions", SessionRow)
  const ticketRows = kit.rows("session_tickets", TicketRow)
  const { columns, decode } = rows
  const sessions = kit.table("sessions")
  const tickets = kit.table("session_tickets")
  const live = "revoked_at_millis IS NULL AND expires_at_millis > ?"
  const one = kit.first(decode)
  const many = kit.all(decode)

  const insert = statement(`${rows.insert} ON CONFLICT DO NOTHING RETURNING id`)
  const byDigest = one(`SELECT ${columns} FROM ${sessions} WHERE token_digest = ?`)
  const findById = one(`SELECT ${columns} FROM ${sessions} WHERE id = ?`)
  const untilAbsoluteEnd = isPg
    ? "LEAST(CAST(? AS BIGINT), absolute_expires_at_millis)"
    : `MIN(?, COALESCE(absolute_expires_at_millis, ${Number.MAX_SAFE_INTEGER}))`
  const renew = one(
    `UPDATE ${sessions} SET last_seen_at_millis = ?, expires_at_millis = ${untilAbsoluteEnd}
    WHERE id = ? AND last_seen_at_millis <= ? AND ${live} RETURNING ${columns}`
  )
  const locked = isPg ? " FOR NO KEY UPDATE" : ""
  const lock = statement(`SELECT id FROM ${sessions} WHERE id = ?${locked}`)
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
  const withKey = statement(`SELECT id FROM ${sessions} WHERE key_id = ? AND ${live} LIMIT 1`)
  const list = many(`SELECT ${columns} FROM ${sessions} WHERE id > ? AND ${live} ORDER BY id LIMIT ?`)
  const listOfSubject = many(
    `SELECT ${columns} FROM ${sessions} WHERE subject = ? AND id > ? AND ${live} ORDER BY id LIMIT ?`
  )

  const revokeWhere = (condition: string) => {
    const run = revoking<SessionId>(kit, sessions, `${condition} AND ${live}`)
    return (parameters: ReadonlyArray<string>, nowMillis: number) => run([...parameters, nowMillis], nowMillis)
  }
  const revokeById = revokeWhere("id = ?")
  const revokeBySubject = revokeWhere("subject = ?")
  const revokeBySubjectExcept = revokeWhere("subject = ? AND id <> ?")
  const revokeByProofKey = revokeWhere("proof_key_thumbprint = ?")
  const revokeByProofKeys = revokeWhere(`proof_key_thumbprint ${kit.inJson}`)
  const revoke = (target: RevocationTarget, nowMillis: number) => {
    switch (target._tag) {
      case "Session":
        return revokeById([target.id], nowMillis)
      case "Subject":
        return revokeBySubject([target.subject], nowMillis)
      case "SubjectExcept":
        return revokeBySubjectExcept([target.subject, target.keep], nowMillis)
      case "ProofKey":
        return revokeByProofKey([target.proofKeyThumbprint], nowMillis)
    }
  }

  const insertTicket = statement(`${ticketRows.insert} ON CONFLICT DO NOTHING RETURNING ticket_digest`)
  const takeTicket = kit.first(ticketRows.decode)(
    `DELETE FROM ${tickets} WHERE ticket_digest = ? RETURNING ${ticketRows.columns}`
  )
  const liveById = one(`SELECT ${columns} FROM ${sessions} WHERE id = ? AND ${live}`)
  const dropTicketsOf = statement(
    isPg
      ? `DELETE FROM ${tickets} WHERE ticket_digest IN (
          SELECT ticket_digest FROM ${tickets} WHERE session_id ${kit.inJson} ORDER BY ticket_digest FOR UPDATE
        )`
      : `DELETE FROM ${tickets} WHERE session_id ${kit.inJson}`
  )
  const dropTickets = (ids: ReadonlyArray<SessionId>) =>
    ids.length === 0 ? Effect.void : dropTicketsOf([JSON.stringify(ids)])

  const sweeping = <Row extends object>(table: string, key: string, end: string, returning: string) =>
    statement<Row>(
      `WITH ended AS ${kit.once} (
        SELECT ${key} FROM ${table} WHERE ${end} <= ? ORDER BY ${end}, ${key} LIMIT ?${kit.skipLocked}
      )
      DELETE FROM ${table} WHERE ${key} IN (SELECT ${key} FROM ended) RETURNING ${returning}`
    )
  const sweepSessions = sweeping<{ readonly id: SessionId; readonly revoked_at_millis: unknown }>(
    sessions,
    "id",
    endedAt(kit),
    "id, revoked_at_millis"
  )
  const sweepTickets = sweeping(tickets, "ticket_digest", "expires_at_millis", "ticket_digest")

  const upserted = (row: SessionRow) => ({ _tag: "sessionUpserted" as const, session: toSession(row) })

  /** Stores a session whose id and digest are new, and returns its event. */
  const begin = Effect.fnUntraced(function*(row: SessionRow) {
    if ((yield* insert(rows.values(row))).length > 0) return upserted(row)
    return yield* conflict("insert", `Session ${row.id} exists already`)
  })

  const repository: SessionCredentialRepository = {
    insert: (row, change) =>
      Effect.flatMap(begin(row), (event) => append([event], change)).pipe(transaction("insert")),
    findByTokenDigest: (tokenDigest) => read("findByTokenDigest")(byDigest([tokenDigest])),
    findById: (id) => read("findById")(findById([id])),
    renew: ({ dueBeforeMillis, id, lifetimeMillis }, change) =>
      Effect.gen(function*() {
        const { nowMillis } = change
        const renewed = yield* renew([nowMillis, nowMillis + lifetimeMillis, id, dueBeforeMillis, nowMillis])
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
        yield* revokeById([id], nowMillis)
        yield* dropTickets([id])
        yield* append([{ _tag: "sessionRemoved", id, reason: "revoked" }], { actor: "system", nowMillis })
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
    revoke: (target, change) =>
      Effect.gen(function*() {
        const ids = yield* revoke(target, change.nowMillis)
        yield* dropTickets(ids)
        yield* append(ids.map((id) => ({ _tag: "sessionRemoved", id, reason: "revoked" })), change)
        return ids
      }).pipe(transaction("revoke")),
    insertTicket: (row) =>
      Effect.gen(function*() {
        if ((yield* insertTicket(ticketRows.values(row))).length > 0) return
        yield* conflict("insertTicket", `A ticket of session ${row.sessionId} has a digest that exists already`)
      }).pipe(write("insertTicket")),
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
        yield* dropTickets(swept.map(({ id }) => id))
        const expired = yield* sweepTickets([endedBeforeMillis, limit])
        yield* append(
          swept
            .filter((row) => row.revoked_at_millis === null)
            .map(({ id }) => ({ _tag: "sessionRemoved", id, reason: "expired" })),
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
    /** Revokes a session with its tickets, if it is live, and returns its event. */
    end: Effect.fnUntraced(function*(id: SessionId, nowMillis: number) {
      const ids = yield* revokeById([id], nowMillis)
      yield* dropTickets(ids)
      return ids.map((id): AccessChange => ({ _tag: "sessionRemoved", id, reason: "revoked" }))
    }),
    /** Returns the live session that an attempt has begun, unless that was too long ago. */
    redeemedBy: (redemptionDigest: string, after: { readonly nowMillis: number; readonly repeatMillis: number }) =>
      redeemedBy([redemptionDigest, after.repeatMillis, after.nowMillis]),
    /** Revokes the live sessions of proof keys, given as JSON, with their tickets, and returns their ids. */
    endByKeys: (keys: string, nowMillis: number) => Effect.tap(revokeByProofKeys([keys], nowMillis), dropTickets)
  }
}
