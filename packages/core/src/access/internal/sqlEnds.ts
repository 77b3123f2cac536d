/**
 * How sessions and pairing links end in SQL: both have the columns `revoked_at_millis` and `expires_at_millis`.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type { Parameters } from "../../sql/Statements.ts"
import type { AccessChange, ChangeContext } from "../AccessEvent.ts"
import type { SessionId } from "../Session.ts"
import { endsDescendants, revocationOf, type RevocationTarget } from "../SessionCredentialRepository.ts"
import { byId } from "./orders.ts"

/** Returns when a row came or comes to its end, as an expression that the tables have an index on. */
export const endedAt = ({ isPg }: Pick<SqlKit, "isPg">): string =>
  isPg
    ? "LEAST(revoked_at_millis, expires_at_millis)"
    : "MIN(COALESCE(revoked_at_millis, expires_at_millis), expires_at_millis)"

/** Returns the condition that a session is live at a time, which is its parameter. `of` names the table, with a dot. */
export const live = (of = ""): string => `${of}revoked_at_millis IS NULL AND ${of}expires_at_millis > ?`

/** Returns the condition that a link can be redeemed at a time, which is its parameter. */
export const redeemable = (of = ""): string => `${of}remaining_uses > 0 AND ${live(of)}`

/** Describes a row that has ended. */
export interface Ended<Id extends string> {
  readonly id: Id
  readonly subject: string
}

/** Selects what ends: that of one of several keys as well. */
export type Target =
  | Exclude<RevocationTarget, { readonly _tag: "ProofKey" }>
  | {
    readonly _tag: "ProofKeys"
    readonly proofKeyThumbprints: ReadonlyArray<string>
    /** The links that end with their sessions, whichever keys these have. */
    readonly linkIds?: ReadonlyArray<string> | undefined
    readonly keep: SessionId | undefined
  }

/**
 * Returns how to revoke the rows that meet a condition. PostgreSQL locks them in the order of their ids, so that two
 * revocations never wait for each other. The parameters are those of the condition, the time, and what `notes` takes.
 */
const revoking = <Id extends string>(kit: SqlKit, table: string, condition: string, notes = "") => {
  const run = kit.statement<Ended<Id>>(
    kit.isPg
      ? `WITH target AS (SELECT id FROM ${table} WHERE ${condition} ORDER BY id FOR NO KEY UPDATE)
        UPDATE ${table} AS ended SET revoked_at_millis = CAST(? AS BIGINT)${notes}
        FROM target WHERE ended.id = target.id RETURNING ended.id, ended.subject`
      : `WITH target AS (SELECT id FROM ${table} WHERE ${condition})
        UPDATE ${table} SET revoked_at_millis = ?${notes} WHERE id IN (SELECT id FROM target) RETURNING id, subject`
  )
  return (
    parameters: Parameters,
    nowMillis: number,
    ...noted: Parameters
  ): Effect.Effect<ReadonlyArray<Ended<Id>>, SqlError> => run([...parameters, nowMillis, ...noted])
}

/**
 * Makes what ends sessions, with their tickets and their open links, and what descends from them. It is a step of a
 * transaction, and answers the ids of both, in order, and the events to append.
 *
 * **Details**
 *
 * It goes down a generation at a time. A session is locked before its links, which waits for those who issue one, and the
 * links end before the sessions that came from them are looked for, which waits for those who redeem one: a new session is
 * found, and there can be no newer one. Revocations that go down follow each other by the lock of the mode's row.
 */
export const make = (kit: SqlKit) => {
  const { inJson, statement, table } = kit
  const sessions = table("sessions")
  const links = table("pairing_links")
  const tickets = table("session_tickets")

  const lock = statement(`SELECT id FROM ${table("connect_settings")} WHERE id = 1${kit.isPg ? " FOR UPDATE" : ""}`)
  const select = (condition: string, limit = "") =>
    statement<{ readonly id: SessionId }>(
      `SELECT id FROM ${sessions} WHERE ${condition} ORDER BY id${limit}${kit.locked}`
    )
  const byIdOnly = select("id = ?")
  const byIdOfSubject = select("id = ? AND subject = ?")
  const bySubject = select("subject = ?")
  const bySubjectExcept = select("subject = ? AND id <> ?")
  const byKeys = select(`proof_key_thumbprint ${inJson}`)
  const byKeysAndLinks = select(`(proof_key_thumbprint ${inJson} OR link_id ${inJson})`)
  const byTime = select("created_at_millis < ?")
  const someByTime = select(`created_at_millis < ? AND ${live()}`, " LIMIT ?")
  const childrenOf = select(`parent_id ${inJson}`)
  const targets = (
    target: Target,
    nowMillis: number
  ): Effect.Effect<ReadonlyArray<{ readonly id: SessionId }>, SqlError> => {
    switch (target._tag) {
      case "Session":
        return target.subject === undefined ? byIdOnly([target.id]) : byIdOfSubject([target.id, target.subject])
      case "SubjectExcept":
        return bySubjectExcept([target.subject, target.keep])
      case "Subject":
        return bySubject([target.subject])
      case "ProofKeys":
        return target.linkIds === undefined
          ? byKeys([JSON.stringify(target.proofKeyThumbprints)])
          : byKeysAndLinks([JSON.stringify(target.proofKeyThumbprints), JSON.stringify(target.linkIds)])
      case "IssuedBefore":
        return target.limit === undefined
          ? byTime([target.beforeMillis])
          : someByTime([target.beforeMillis, nowMillis, target.limit])
    }
  }

  const endSessions = revoking<SessionId>(kit, sessions, `id ${inJson} AND ${live()}`, ", revoked_by = ?")
  const endLinksOf = revoking<string>(kit, links, `issued_by ${inJson} AND ${redeemable()}`)
  const endLinksForSubject = revoking<string>(kit, links, `subject = ? AND ${redeemable()}`)
  const endLinksForKeys = revoking<string>(kit, links, `proof_key_thumbprint ${inJson} AND ${redeemable()}`)
  const endLinksForKeysAndIds = revoking<string>(
    kit,
    links,
    `(proof_key_thumbprint ${inJson} OR id ${inJson}) AND ${redeemable()}`
  )
  const endLinksBefore = revoking<string>(kit, links, `created_at_millis < ? AND ${redeemable()}`)
  const targetLinks = (
    target: Target,
    nowMillis: number
  ): Effect.Effect<ReadonlyArray<Ended<string>>, SqlError> | undefined => {
    switch (target._tag) {
      case "Subject":
        return endLinksForSubject([target.subject, nowMillis], nowMillis)
      case "ProofKeys":
        return target.linkIds === undefined
          ? endLinksForKeys([JSON.stringify(target.proofKeyThumbprints), nowMillis], nowMillis)
          : endLinksForKeysAndIds(
            [JSON.stringify(target.proofKeyThumbprints), JSON.stringify(target.linkIds), nowMillis],
            nowMillis
          )
      case "IssuedBefore":
        return endLinksBefore([target.beforeMillis, nowMillis], nowMillis)
      default:
        return undefined
    }
  }

  const dropTicketsOf = statement(
    kit.isPg
      ? `DELETE FROM ${tickets} WHERE ticket_digest IN (
          SELECT ticket_digest FROM ${tickets} WHERE session_id ${inJson} ORDER BY ticket_digest FOR UPDATE
        )`
      : `DELETE FROM ${tickets} WHERE session_id ${inJson}`
  )
  const dropTickets = (ids: ReadonlyArray<SessionId>) =>
    ids.length === 0 ? Effect.void : dropTicketsOf([JSON.stringify(ids)])

  const end = Effect.fnUntraced(function*(target: Target, change: ChangeContext) {
    const { nowMillis } = change
    const goesDown = target._tag === "ProofKeys" || endsDescendants(target)
    if (goesDown) yield* lock([])
    const covered = new Set<SessionId>()
    const endedSessions: Array<Ended<SessionId>> = []
    const endedLinks: Array<Ended<string>> = []
    const goDown = Effect.fnUntraced(function*(from: ReadonlyArray<{ readonly id: SessionId }>) {
      let found = from
      let descended = false
      while (true) {
        const generation = found.map(({ id }) => id).filter((id) => !covered.has(id))
        if (generation.length === 0) return
        for (const id of generation) covered.add(id)
        const ids = JSON.stringify(generation)
        const ended = yield* endSessions(
          [ids, nowMillis],
          nowMillis,
          JSON.stringify(revocationOf(target, change, descended))
        )
        endedSessions.push(...ended)
        yield* dropTickets(ended.map(({ id }) => id))
        endedLinks.push(...(yield* endLinksOf([ids, nowMillis], nowMillis)))
        if (!goesDown) return
        descended = true
        found = (yield* childrenOf([ids])).filter(({ id }) => id !== target.keep)
      }
    })
    yield* goDown(yield* targets(target, nowMillis))
    const targeted = targetLinks(target, nowMillis)
    if (targeted !== undefined) {
      endedLinks.push(...(yield* targeted))
      // Those who were redeeming one of these links meanwhile have a session by now.
      if (target._tag !== "IssuedBefore") yield* goDown(yield* targets(target, nowMillis))
    }
    endedSessions.sort(byId)
    endedLinks.sort(byId)
    return {
      sessions: endedSessions.map(({ id }) => id),
      links: endedLinks.map(({ id }) => id),
      changes: [
        ...endedSessions.map(({ id, subject }): AccessChange => ({
          _tag: "sessionRemoved",
          id,
          subject,
          reason: "revoked"
        })),
        ...endedLinks.map(({ id, subject }): AccessChange => ({
          _tag: "pairingLinkRemoved",
          id,
          subject,
          reason: "revoked"
        }))
      ]
    }
  })

  return { end, dropTickets }
}
