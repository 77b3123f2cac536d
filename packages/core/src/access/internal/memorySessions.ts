/**
 * Keeps sessions and their tickets in memory.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { conflict, type RepositoryError } from "../../RepositoryError.ts"
import type { ChangeContext } from "../AccessEvent.ts"
import { Device, type SessionId } from "../Session.ts"
import {
  countDescendants,
  endAfterUse,
  type Ended,
  isLive,
  isTarget,
  maxTickets,
  refreshed,
  type RefreshOutcome,
  refreshVerdict,
  revocationOf,
  type RevocationTarget,
  scopeVerdict,
  type SessionCredentialRepository,
  type SessionRow,
  toSession,
  withScopeRequest
} from "../SessionCredentialRepository.ts"
import { revocationVerdict } from "../Lineage.ts"
import * as Links from "./memoryLinks.ts"
import { append, type MemoryState } from "./memoryState.ts"
import { byId, byText } from "./orders.ts"

const endedAt = (row: SessionRow): number => Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

const dropTickets = ({ tickets }: MemoryState, id: SessionId): void => {
  for (const ticket of tickets.values()) if (ticket.sessionId === id) tickets.delete(ticket.ticketDigest)
}

/** Ends what a revocation ends. */
export const end = (
  state: MemoryState,
  target: RevocationTarget,
  change: ChangeContext
): Ended => {
  const { nowMillis } = change
  const ends = revocationVerdict(
    { sessions: state.sessions.values(), links: state.links.values() },
    target,
    nowMillis
  )
  for (const row of ends.sessions) {
    state.sessions.set(row.id, {
      ...row,
      revokedAtMillis: nowMillis,
      revokedBy: revocationOf(target, change, !isTarget(target, row))
    })
    dropTickets(state, row.id)
    append(state, { _tag: "sessionRemoved", id: row.id, subject: row.subject, reason: "revoked" }, change)
  }
  for (const row of ends.links) Links.revoke(state, row, change)
  return { sessions: ends.sessions.map(({ id }) => id), links: ends.links.map(({ id }) => id) }
}

/** Tells whether there is a live session of a proof key, or one that came from a link. */
export const hasGrant = (
  { sessions }: MemoryState,
  grant: { readonly proofKeyThumbprint: string; readonly linkId: string | undefined },
  nowMillis: number
): boolean =>
  Array.from(sessions.values()).some((row) => isTarget({ _tag: "ProofKey", ...grant }, row) && isLive(row, nowMillis))

/** Returns the live session that an attempt has begun, unless that was too long ago; of several, the first by its id. */
export const redeemedBy = (
  { sessions }: MemoryState,
  redemptionDigest: string | null,
  after: { readonly nowMillis: number; readonly repeatMillis: number }
): SessionRow | undefined =>
  redemptionDigest === null ?
    undefined :
    Array.from(sessions.values()).filter((row) =>
      row.redemptionDigest === redemptionDigest && isLive(row, after.nowMillis) &&
      row.createdAtMillis + after.repeatMillis > after.nowMillis
    ).sort(byId)[0]

/** Stores a session whose id and digest are new, and appends what comes before it; or returns that they are not. */
export const insert = (
  state: MemoryState,
  row: SessionRow,
  change: ChangeContext,
  operation: string,
  before?: () => void
): RepositoryError | undefined => {
  if (state.sessions.has(row.id) || state.sessionIds.has(row.tokenDigest)) {
    return conflict(operation, `Session ${row.id} exists already`)
  }
  before?.()
  state.sessions.set(row.id, row)
  state.sessionIds.set(row.tokenDigest, row.id)
  append(state, { _tag: "sessionUpserted", session: toSession(row) }, change)
  return undefined
}

/** Makes the sessions of a store. */
export const make = (state: MemoryState): SessionCredentialRepository => {
  const { sessionIds, sessions, tickets } = state
  const byDigest = (tokenDigest: string): SessionRow | undefined => {
    const id = sessionIds.get(tokenDigest)
    return id === undefined ? undefined : sessions.get(id)
  }
  const replace = (row: SessionRow, change: ChangeContext): SessionRow => {
    sessions.set(row.id, row)
    append(state, { _tag: "sessionUpserted", session: toSession(row) }, change)
    return row
  }
  return {
    insert: (row, change) => Effect.suspend(() => insert(state, row, change, "insert") ?? Effect.void),
    findByTokenDigest: (tokenDigest) => Effect.sync(() => Option.fromUndefinedOr(byDigest(tokenDigest))),
    findById: (id) => Effect.sync(() => Option.fromUndefinedOr(sessions.get(id))),
    renew: ({ dueBeforeMillis, id, lifetimeMillis }, change) =>
      Effect.sync(() => {
        const row = sessions.get(id)
        if (row === undefined || !isLive(row, change.nowMillis) || row.lastSeenAtMillis > dueBeforeMillis) {
          return Option.none()
        }
        const expiresAtMillis = endAfterUse(row, change.nowMillis, lifetimeMillis)
        return Option.some(replace({ ...row, lastSeenAtMillis: change.nowMillis, expiresAtMillis }, change))
      }),
    refresh: ({ id, lifetimeMillis, next, ...attempt }, change) =>
      Effect.suspend((): Effect.Effect<RefreshOutcome, RepositoryError> => {
        const { nowMillis } = change
        const row = sessions.get(id)
        const usedForMillis = nowMillis - (row?.tokensUsedAtMillis ?? nowMillis)
        const verdict = refreshVerdict(row, { ...attempt, nowMillis, usedForMillis })
        if (row === undefined) return Effect.succeed({ _tag: "Refused", reason: "unknown" })
        switch (verdict) {
          case "current":
          case "extended": {
            if ((sessionIds.get(next.tokenDigest) ?? id) !== id) {
              return Effect.fail(
                conflict("refresh", `The new token of session ${id} has a digest that exists already`)
              )
            }
            const after = refreshed(row, { verdict, next, lifetimeMillis, nowMillis })
            sessionIds.delete(row.tokenDigest)
            sessionIds.set(next.tokenDigest, id)
            return Effect.succeed({ _tag: "Refreshed", row: replace(after, change) })
          }
          case "repeated":
            return Effect.succeed({ _tag: "Repeated", row })
          case "reused":
            end(state, { _tag: "Session", id }, { actor: "system", nowMillis })
            return Effect.succeed({ _tag: "Reused" })
          default:
            return Effect.succeed({ _tag: "Refused", reason: verdict })
        }
      }),
    useTokens: (tokenDigest, nowMillis) =>
      Effect.sync(() => {
        const row = byDigest(tokenDigest)
        if (row === undefined || row.previousRefreshDigest === null || row.tokensUsedAtMillis !== null) return
        sessions.set(row.id, { ...row, tokensUsedAtMillis: nowMillis })
      }),
    isKeyInUse: ({ keyId, nowMillis }) =>
      Effect.sync(() => {
        for (const row of sessions.values()) if (row.keyId === keyId && isLive(row, nowMillis)) return true
        return false
      }),
    list: ({ afterId, limit, nowMillis, subject }) =>
      Effect.sync(() =>
        Array.from(sessions.values())
          .filter((row) =>
            isLive(row, nowMillis) && (afterId === undefined || row.id > afterId) &&
            (subject === undefined || row.subject === subject)
          )
          .sort(byId)
          .slice(0, limit)
      ),
    countDescendants: ({ ids, nowMillis }) =>
      Effect.sync(() =>
        countDescendants(
          ids,
          Array.from(sessions.values(), (row) => ({ ...row, isLive: isLive(row, nowMillis) }))
        )
      ),
    rename: ({ id, label, subject }, change) =>
      Effect.sync(() => {
        const row = sessions.get(id)
        if (row === undefined || !isLive(row, change.nowMillis) || (subject ?? row.subject) !== row.subject) {
          return Option.none()
        }
        return Option.some(replace({ ...row, device: new Device({ ...row.device, label }) }, change))
      }),
    askScopes: ({ id, ...ask }, change) =>
      Effect.sync(() => {
        const row = sessions.get(id)
        if (row === undefined || !isLive(row, change.nowMillis)) return Option.none()
        const asking = withScopeRequest(row, { ...ask, nowMillis: change.nowMillis })
        if (asking !== row) replace(asking, change)
        return Option.some(asking)
      }),
    answerScopes: ({ by, id, ...answer }, change) =>
      Effect.sync(() => {
        const approver = by === undefined ? "operator" : sessions.get(by)
        const outcome = scopeVerdict(sessions.get(id), approver, { ...answer, nowMillis: change.nowMillis })
        if (outcome._tag === "Answered") replace(outcome.row, change)
        return outcome
      }),
    revoke: (target, change) => Effect.sync(() => end(state, target, change)),
    insertTicket: (row) =>
      Effect.suspend(() => {
        if (tickets.has(row.ticketDigest)) {
          return Effect.fail(
            conflict("insertTicket", `A ticket of session ${row.sessionId} has a digest that exists already`)
          )
        }
        const others = Array.from(tickets.values()).filter(({ sessionId }) => sessionId === row.sessionId)
        others.sort((a, b) => b.expiresAtMillis - a.expiresAtMillis || byText(a.ticketDigest, b.ticketDigest))
        for (const { ticketDigest } of others.slice(maxTickets - 1)) tickets.delete(ticketDigest)
        tickets.set(row.ticketDigest, row)
        return Effect.void
      }),
    consumeTicket: ({ nowMillis, ticketDigest }) =>
      Effect.sync(() => {
        const ticket = tickets.get(ticketDigest)
        if (ticket === undefined) return Option.none()
        tickets.delete(ticketDigest)
        const row = sessions.get(ticket.sessionId)
        return row !== undefined && ticket.expiresAtMillis > nowMillis && isLive(row, nowMillis)
          ? Option.some(row)
          : Option.none()
      }),
    sweep: ({ endedBeforeMillis, limit }, change) =>
      Effect.sync(() => {
        const parents = new Set(Array.from(sessions.values(), ({ parentId }) => parentId))
        const ended = Array.from(sessions.values())
          .filter((row) => endedAt(row) <= endedBeforeMillis && !parents.has(row.id))
          .sort((a, b) => endedAt(a) - endedAt(b) || byId(a, b))
          .slice(0, limit)
          .sort(byId)
        for (const row of ended) {
          sessions.delete(row.id)
          sessionIds.delete(row.tokenDigest)
          dropTickets(state, row.id)
          if (row.revokedAtMillis === null) {
            append(state, { _tag: "sessionRemoved", id: row.id, subject: row.subject, reason: "expired" }, change)
          }
        }
        const expired = Array.from(tickets.values())
          .filter((ticket) => ticket.expiresAtMillis <= endedBeforeMillis)
          .sort((a, b) => a.expiresAtMillis - b.expiresAtMillis || byText(a.ticketDigest, b.ticketDigest))
          .slice(0, limit)
        for (const ticket of expired) tickets.delete(ticket.ticketDigest)
        return ended.length + expired.length
      })
  }
}
