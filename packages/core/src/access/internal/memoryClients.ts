/**
 * Keeps connect clients and the security mode in memory.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ChangeContext } from "../AccessEvent.ts"
import {
  type ConnectClientRepository,
  type ConnectClientRow,
  type DecisionOutcome,
  decisionVerdict,
  deviceGrant,
  isWaiting,
  pollVerdict,
  requestVerdict,
  trusted,
  upserted,
  type Verdict
} from "../ConnectClientRepository.ts"
import type { SessionId } from "../Session.ts"
import { isLive } from "../SessionCredentialRepository.ts"
import * as Links from "./memoryLinks.ts"
import * as Sessions from "./memorySessions.ts"
import { append, type MemoryState } from "./memoryState.ts"
import { byThumbprint, newestClientFirst } from "./orders.ts"

/** Tells whether a sweep takes a row of a client that has neither a session nor a link. */
const isForgettable = (row: ConnectClientRow, options: {
  readonly idleBeforeMillis: number
  readonly nowMillis: number
}): boolean => {
  if (row.status === "blocked" || (row.status === "approved" && row.device === null)) return false
  if (row.status === "pending") return !isWaiting(row, options.nowMillis)
  const lastMillis = Math.max(
    row.requestedAtMillis,
    row.lastSeenAtMillis ?? 0,
    row.decidedAtMillis ?? 0,
    row.askAgainAtMillis ?? 0
  )
  return lastMillis <= options.idleBeforeMillis
}

const hasAccess = (state: MemoryState, row: ConnectClientRow, nowMillis: number): boolean => {
  const grant = { proofKeyThumbprint: row.proofKeyThumbprint, linkId: row.device?.linkId }
  return Sessions.hasGrant(state, grant, nowMillis) || Links.hasGrant(state, grant, nowMillis)
}

const apply = <Outcome>(
  state: MemoryState,
  key: string,
  verdict: Verdict<Outcome>,
  keep: SessionId | undefined,
  change: ChangeContext
): Outcome => {
  const linkId = state.clients.get(key)?.device?.linkId
  if (verdict.store !== undefined) state.clients.set(key, verdict.store)
  if (verdict.endsAccess) Sessions.end(state, { _tag: "ProofKey", proofKeyThumbprint: key, linkId, keep }, change)
  if (verdict.store !== undefined) append(state, upserted(verdict.store), change)
  return verdict.outcome
}

/** Makes the connect clients of a store. */
export const make = (state: MemoryState): ConnectClientRepository => {
  const { clients } = state
  return {
    request: (ask, grant, change) =>
      Effect.sync(() => {
        const { nowMillis } = change
        const others = Array.from(clients.values()).filter((row) =>
          row.account === ask.account && row.proofKeyThumbprint !== ask.proofKeyThumbprint
        )
        const outcome = apply(
          state,
          ask.proofKeyThumbprint,
          requestVerdict({
            storedMode: state.mode,
            row: clients.get(ask.proofKeyThumbprint),
            ask,
            others: {
              waiting: others.filter((row) => isWaiting(row, nowMillis)).length,
              observed: others.filter((row) => row.status === "observed").length
            },
            nowMillis
          }),
          undefined,
          change
        )
        if (outcome._tag === "Granted" && grant !== undefined) Links.insert(state, grant, change)
        return outcome
      }),
    decide: (deciding, change) =>
      Effect.sync((): DecisionOutcome => {
        const row = clients.get(deciding.proofKeyThumbprint)
        const verdict = decisionVerdict(row, deciding, change)
        const grant = verdict.outcome._tag === "Decided" ? deviceGrant(row, deciding, change) : undefined
        const by = grant === undefined || grant.issuedBy === null ? undefined : state.sessions.get(grant.issuedBy)
        if (grant !== undefined && grant.issuedBy !== null && (by === undefined || !isLive(by, change.nowMillis))) {
          return { _tag: "ApproverEnded" }
        }
        // An event wakes who waits for it: the device that learns of its approval finds its link.
        if (grant !== undefined) Links.insert(state, grant, change)
        return apply(state, deciding.proofKeyThumbprint, verdict, deciding.keep, change)
      }),
    poll: ({ account, deviceCodeDigest }, change) =>
      Effect.sync(() => {
        const row = Array.from(clients.values()).find((client) => client.deviceCodeDigest === deviceCodeDigest)
        const { outcome, store } = pollVerdict(row, account, change.nowMillis)
        if (store !== undefined) clients.set(store.proofKeyThumbprint, store)
        if (store !== undefined && outcome._tag === "Approved") append(state, upserted(store), change)
        return outcome
      }),
    findByCode: ({ nowMillis, verificationCode }) =>
      Effect.sync(() =>
        Array.from(clients.values())
          .filter((row) =>
            row.device !== null && row.verificationCode === verificationCode && isWaiting(row, nowMillis)
          )
          .sort(byThumbprint)
          .slice(0, 2)
      ),
    find: (key) => Effect.sync(() => Option.fromUndefinedOr(clients.get(key))),
    findByPrefix: (prefix) =>
      Effect.sync(() =>
        Array.from(clients.keys())
          .filter((key) => key.startsWith(prefix))
          .sort()
          .slice(0, 2)
          .flatMap((key) => clients.get(key) ?? [])
      ),
    list: ({ after, limit }) =>
      Effect.sync(() =>
        Array.from(clients.values())
          .filter((row) => after === undefined || newestClientFirst(after, row) < 0)
          .sort(newestClientFirst)
          .slice(0, limit)
      ),
    storedMode: Effect.sync(() => state.mode),
    setMode: (options, change) =>
      Effect.sync(() => {
        const approved: Array<ConnectClientRow> = []
        const changed = state.mode !== options.mode
        state.mode = options.mode
        const observed = Array.from(clients.values())
          .filter((row) => row.status === "observed")
          .sort(byThumbprint)
        for (const row of observed) {
          if (options.trust === "all" || options.trust.includes(row.proofKeyThumbprint)) {
            approved.push(trusted(row, change))
          } else if (options.mode === "client-approval") {
            Sessions.end(
              state,
              { _tag: "ProofKey", proofKeyThumbprint: row.proofKeyThumbprint, keep: options.keep },
              change
            )
          }
        }
        if (changed) append(state, { _tag: "connectSecurityModeUpdated", mode: options.mode }, change)
        for (const row of approved) {
          clients.set(row.proofKeyThumbprint, row)
          append(state, upserted(row), change)
        }
        return approved
      }),
    sweep: ({ idleBeforeMillis, limit }, change) =>
      Effect.sync(() => {
        const gone = Array.from(clients.values())
          .filter((row) =>
            isForgettable(row, { idleBeforeMillis, nowMillis: change.nowMillis }) &&
            !hasAccess(state, row, change.nowMillis)
          )
          .sort(byThumbprint)
          .slice(0, limit)
        for (const { proofKeyThumbprint } of gone) {
          clients.delete(proofKeyThumbprint)
          append(state, { _tag: "connectClientRemoved", proofKeyThumbprint, reason: "expired" }, change)
        }
        return gone.length
      })
  }
}
