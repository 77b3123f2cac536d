/** Sessions and their tickets on the log. Each operation is one decision, as its contract demands. */
import type { ChangeContext } from "@sallyport/core/access/AccessEvent"
import { revocationVerdict } from "@sallyport/core/access/Lineage"
import * as Session from "@sallyport/core/access/Session"
import * as Sessions from "@sallyport/core/access/SessionCredentialRepository"
import { Effect, Option } from "effect"
import type { AccessLog, Decision, State } from "./AccessLog.ts"
import { event } from "./AccessLog.ts"

const byId = (a: Sessions.SessionRow, b: Sessions.SessionRow): number => a.id < b.id ? -1 : 1

/** Returns the rows of live sessions, in the order of their ids. */
export const live = (rows: Iterable<Sessions.SessionRow>, nowMillis: number) =>
  Array.from(rows).filter((row) => Sessions.isLive(row, nowMillis)).sort(byId)

const endedAt = (row: Sessions.SessionRow): number =>
  Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

const ticketsOf = ({ tickets }: State, ids: ReadonlyArray<Session.SessionId>): ReadonlyArray<string> =>
  Array.from(tickets.values()).filter(({ sessionId }) => ids.includes(sessionId)).map(({ ticketDigest }) =>
    ticketDigest
  )

const withDigest = ({ sessions }: State, tokenDigest: string): Sessions.SessionRow | undefined =>
  Array.from(sessions.values()).find((row) => row.tokenDigest === tokenDigest)

/** Returns the change that begins a session, unless its id or its digest exists. */
export const begin = (state: State, row: Sessions.SessionRow, context: ChangeContext) =>
  state.sessions.has(row.id) || withDigest(state, row.tokenDigest) !== undefined
    ? new Error(`Session ${row.id} exists already`)
    : { sessions: [row], events: [event({ _tag: "sessionUpserted", session: Sessions.toSession(row) }, context)] }

/** Ends what a revocation ends: sessions with their tickets, and links. */
export const ending = (state: State, target: Sessions.RevocationTarget, context: ChangeContext) => {
  const ends = revocationVerdict(
    { sessions: state.sessions.values(), links: state.links.values() },
    target,
    context.nowMillis
  )
  const ids = ends.sessions.map(({ id }) => id)
  const revoked = { revokedAtMillis: context.nowMillis }
  return {
    ended: { sessions: ids, links: ends.links.map(({ id }) => id) },
    change: {
      sessions: ends.sessions.map((row) => ({
        ...row,
        ...revoked,
        revokedBy: Sessions.revocationOf(target, context, !Sessions.isTarget(target, row))
      })),
      links: ends.links.map((row) => ({ ...row, ...revoked })),
      removedTickets: ticketsOf(state, ids),
      events: [
        ...ends.sessions.map(({ id, subject }) =>
          event({ _tag: "sessionRemoved", id, subject, reason: "revoked" }, context)
        ),
        ...ends.links.map(({ id, subject }) =>
          event({ _tag: "pairingLinkRemoved", id, subject, reason: "revoked" }, context)
        )
      ]
    }
  }
}

/** Creates the sessions of the log. */
export const make = (log: AccessLog["Service"]): Sessions.SessionCredentialRepository => {
  /** Returns a row as it is after a use: seen now, with its end moved, but never past the absolute end. */
  const used = (row: Sessions.SessionRow, nowMillis: number, lifetimeMillis: number): Sessions.SessionRow => ({
    ...row,
    lastSeenAtMillis: nowMillis,
    expiresAtMillis: Sessions.endAfterUse(row, nowMillis, lifetimeMillis)
  })

  return {
    insert: (row, context) =>
      log.change("insert", (state) => {
        const change = begin(state, row, context)
        return change instanceof Error ? change : { answer: undefined, change }
      }),

    findByTokenDigest: (tokenDigest) => Effect.sync(() => Option.fromUndefinedOr(withDigest(log.state, tokenDigest))),

    findById: (id) => Effect.sync(() => Option.fromUndefinedOr(log.state.sessions.get(id))),

    renew: ({ dueBeforeMillis, id, lifetimeMillis }, context) =>
      log.change("renew", ({ sessions }): Decision<Option.Option<Sessions.SessionRow>> => {
        const row = sessions.get(id)
        if (row === undefined || !Sessions.isLive(row, context.nowMillis) || row.lastSeenAtMillis > dueBeforeMillis) {
          return { answer: Option.none() }
        }
        const renewed = used(row, context.nowMillis, lifetimeMillis)
        const upserted = event({ _tag: "sessionUpserted", session: Sessions.toSession(renewed) }, context)
        return { answer: Option.some(renewed), change: { sessions: [renewed], events: [upserted] } }
      }),

    refresh: ({ id, lifetimeMillis, next, ...attempt }, context) =>
      log.change("refresh", (state): Decision<Sessions.RefreshOutcome> | Error => {
        const { nowMillis } = context
        const row = state.sessions.get(id)
        const usedForMillis = nowMillis - (row?.tokensUsedAtMillis ?? nowMillis)
        const verdict = Sessions.refreshVerdict(row, { ...attempt, nowMillis, usedForMillis })
        if (row === undefined) return { answer: { _tag: "Refused", reason: "unknown" } }
        switch (verdict) {
          case "current":
          case "extended": {
            if ((withDigest(state, next.tokenDigest)?.id ?? id) !== id) {
              return new Error(`The new token of session ${id} has a digest that exists already`)
            }
            const refreshed = Sessions.refreshed(row, { verdict, next, lifetimeMillis, nowMillis })
            const upserted = event({ _tag: "sessionUpserted", session: Sessions.toSession(refreshed) }, context)
            return {
              answer: { _tag: "Refreshed", row: refreshed },
              change: { sessions: [refreshed], events: [upserted] }
            }
          }
          case "repeated":
            return { answer: { _tag: "Repeated", row } }
          case "reused":
            return {
              answer: { _tag: "Reused" },
              change: ending(state, { _tag: "Session", id }, { actor: "system", nowMillis }).change
            }
          default:
            return { answer: { _tag: "Refused", reason: verdict } }
        }
      }),

    useTokens: (tokenDigest, nowMillis) =>
      log.change("useTokens", (state): Decision<void> => {
        const row = withDigest(state, tokenDigest)
        return row === undefined || row.previousRefreshDigest === null || row.tokensUsedAtMillis !== null
          ? { answer: undefined }
          : { answer: undefined, change: { sessions: [{ ...row, tokensUsedAtMillis: nowMillis }] } }
      }),

    isKeyInUse: ({ keyId, nowMillis }) =>
      Effect.sync(() => live(log.state.sessions.values(), nowMillis).some((row) => row.keyId === keyId)),

    list: ({ afterId, limit, nowMillis, subject }) =>
      Effect.sync(() =>
        live(log.state.sessions.values(), nowMillis)
          .filter((row) =>
            (afterId === undefined || row.id > afterId) && (subject === undefined || row.subject === subject)
          )
          .slice(0, limit)
      ),

    countDescendants: ({ ids, nowMillis }) =>
      Effect.sync(() =>
        Sessions.countDescendants(
          ids,
          Array.from(log.state.sessions.values(), (row) => ({ ...row, isLive: Sessions.isLive(row, nowMillis) }))
        )
      ),

    rename: ({ id, label, subject }, context) =>
      log.change("rename", ({ sessions }): Decision<Option.Option<Sessions.SessionRow>> => {
        const row = sessions.get(id)
        if (
          row === undefined || !Sessions.isLive(row, context.nowMillis) ||
          (subject !== undefined && row.subject !== subject)
        ) {
          return { answer: Option.none() }
        }
        const renamed = { ...row, device: new Session.Device({ ...row.device, label }) }
        const upserted = event({ _tag: "sessionUpserted", session: Sessions.toSession(renamed) }, context)
        return { answer: Option.some(renamed), change: { sessions: [renamed], events: [upserted] } }
      }),

    askScopes: ({ id, ...ask }, context) =>
      log.change("askScopes", ({ sessions }): Decision<Option.Option<Sessions.SessionRow>> => {
        const row = sessions.get(id)
        if (row === undefined || !Sessions.isLive(row, context.nowMillis)) return { answer: Option.none() }
        const asking = Sessions.withScopeRequest(row, { ...ask, nowMillis: context.nowMillis })
        const upserted = event({ _tag: "sessionUpserted", session: Sessions.toSession(asking) }, context)
        return {
          answer: Option.some(asking),
          ...(asking === row ? {} : { change: { sessions: [asking], events: [upserted] } })
        }
      }),

    answerScopes: ({ by, id, ...given }, context) =>
      log.change("answerScopes", ({ sessions }): Decision<Sessions.ScopeOutcome> => {
        const approver = by === undefined ? "operator" : sessions.get(by)
        const answer = Sessions.scopeVerdict(sessions.get(id), approver, { ...given, nowMillis: context.nowMillis })
        if (answer._tag !== "Answered") return { answer }
        const upserted = event({ _tag: "sessionUpserted", session: Sessions.toSession(answer.row) }, context)
        return { answer, change: { sessions: [answer.row], events: [upserted] } }
      }),

    revoke: (target, context) =>
      log.change("revoke", (state): Decision<Sessions.Ended> => {
        const { change, ended } = ending(state, target, context)
        return change.events.length === 0 ? { answer: ended } : { answer: ended, change }
      }),

    insertTicket: (row) =>
      log.change("insertTicket", ({ tickets }) =>
        tickets.has(row.ticketDigest)
          ? new Error(`A ticket of session ${row.sessionId} has a digest that exists already`)
          : {
            answer: undefined,
            change: {
              tickets: [row],
              removedTickets: Array.from(tickets.values())
                .filter(({ sessionId }) => sessionId === row.sessionId)
                .sort((a, b) => b.expiresAtMillis - a.expiresAtMillis || (a.ticketDigest < b.ticketDigest ? -1 : 1))
                .slice(Sessions.maxTickets - 1)
                .map(({ ticketDigest }) => ticketDigest)
            }
          }),

    consumeTicket: ({ nowMillis, ticketDigest }) =>
      log.change("consumeTicket", ({ sessions, tickets }): Decision<Option.Option<Sessions.SessionRow>> => {
        const ticket = tickets.get(ticketDigest)
        if (ticket === undefined) return { answer: Option.none() }
        const row = sessions.get(ticket.sessionId)
        const good = row !== undefined && ticket.expiresAtMillis > nowMillis && Sessions.isLive(row, nowMillis)
        return { answer: good ? Option.some(row) : Option.none(), change: { removedTickets: [ticketDigest] } }
      }),

    sweep: ({ endedBeforeMillis, limit }, context) =>
      log.change("sweep", (state): Decision<number> => {
        const parents = new Set(Array.from(state.sessions.values(), ({ parentId }) => parentId))
        const ended = Array.from(state.sessions.values())
          .filter((row) => endedAt(row) <= endedBeforeMillis && !parents.has(row.id))
          .sort((a, b) => endedAt(a) - endedAt(b) || byId(a, b))
          .slice(0, limit)
          .sort(byId)
        const endedIds = ended.map(({ id }) => id)
        const theirTickets = ticketsOf(state, endedIds)
        const furtherTickets = Array.from(state.tickets.values())
          .filter((ticket) => ticket.expiresAtMillis <= endedBeforeMillis && !endedIds.includes(ticket.sessionId))
          .sort((a, b) => a.expiresAtMillis - b.expiresAtMillis || (a.ticketDigest < b.ticketDigest ? -1 : 1))
          .slice(0, limit)
          .map(({ ticketDigest }) => ticketDigest)
        const answer = ended.length + furtherTickets.length
        if (answer === 0) return { answer }
        const expired = ended.filter((row) => row.revokedAtMillis === null)
        return {
          answer,
          change: {
            removedSessions: endedIds,
            removedTickets: [...theirTickets, ...furtherTickets],
            events: expired.map(({ id, subject }) =>
              event({ _tag: "sessionRemoved", id, subject, reason: "expired" }, context)
            )
          }
        }
      })
  }
}
