/**
 * Keeps pairing links in memory.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { RepositoryError } from "../../RepositoryError.ts"
import type { ChangeContext } from "../AccessEvent.ts"
import {
  type BootstrapCredentialRepository,
  isRedeemable,
  type PairingLinkRow,
  type RedeemOutcome,
  refusal,
  toPairingLink,
  used
} from "../BootstrapCredentialRepository.ts"
import { mayRedeem } from "../ConnectClientRepository.ts"
import * as Sessions from "./memorySessions.ts"
import { append, byId, type MemoryState } from "./memoryState.ts"

const endedAt = (row: PairingLinkRow): number =>
  Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

/** Stores a link whose id and digest are new. */
export const insert = (state: MemoryState, row: PairingLinkRow, change: ChangeContext): void => {
  state.links.set(row.id, row)
  state.linkIds.set(row.codeDigest, row.id)
  append(state, { _tag: "pairingLinkUpserted", link: toPairingLink(row) }, change)
}

const revoke = (state: MemoryState, row: PairingLinkRow, change: ChangeContext): void => {
  state.links.set(row.id, { ...row, revokedAtMillis: change.nowMillis })
  append(state, { _tag: "pairingLinkRemoved", id: row.id, reason: "revoked" }, change)
}

/** Returns the links of a proof key that can be redeemed, in the order of their ids. */
export const ofKey = (
  state: MemoryState,
  proofKeyThumbprint: string,
  nowMillis: number
): ReadonlyArray<PairingLinkRow> =>
  Array.from(state.links.values())
    .filter((row) => row.proofKeyThumbprint === proofKeyThumbprint && isRedeemable(row, nowMillis))
    .sort(byId)

/** Revokes the links of a proof key that can be redeemed. */
export const endKey = (state: MemoryState, proofKeyThumbprint: string, change: ChangeContext): void => {
  for (const row of ofKey(state, proofKeyThumbprint, change.nowMillis)) revoke(state, row, change)
}

/** Makes the pairing links of a store. */
export const make = (state: MemoryState): BootstrapCredentialRepository => {
  const { linkIds, links } = state
  const byDigest = (codeDigest: string) => links.get(linkIds.get(codeDigest) ?? "")
  return {
    insert: (row, change) =>
      Effect.suspend(() => {
        if (linkIds.has(row.codeDigest)) return Effect.succeed(false)
        if (links.has(row.id)) {
          return Effect.fail(
            new RepositoryError({
              operation: "insert",
              reason: "Conflict",
              outcome: "unchanged",
              cause: new Error(`Pairing link ${row.id} exists already`)
            })
          )
        }
        insert(state, row, change)
        return Effect.succeed(true)
      }),
    findByCodeDigest: (codeDigest) => Effect.sync(() => Option.fromUndefinedOr(byDigest(codeDigest))),
    redeem: ({ codeDigest, repeatMillis, replaces, session }, change) =>
      Effect.suspend((): Effect.Effect<RedeemOutcome, RepositoryError> => {
        const { nowMillis } = change
        const before = Sessions.redeemedBy(state, session.redemptionDigest, { nowMillis, repeatMillis })
        if (before !== undefined) return Effect.succeed({ _tag: "Repeated", session: before })
        const row = byDigest(codeDigest)
        const reason = refusal(row, { ...session, nowMillis })
        if (row === undefined || reason !== undefined) {
          return Effect.succeed({ _tag: "Refused", reason: reason ?? "unknown" })
        }
        const client = state.clients.get(session.proofKeyThumbprint ?? "")
        if (!mayRedeem(state.mode, client, row)) {
          return Effect.succeed({ _tag: "Refused", reason: "client-not-admitted" })
        }
        const link: PairingLinkRow = { ...row, remainingUses: row.remainingUses - 1 }
        const conflict = Sessions.insert(state, session, change, () => {
          if (replaces !== undefined) Sessions.end(state, replaces, change)
          links.set(row.id, link)
          append(state, used(link), change)
        })
        return conflict ?? Effect.succeed({ _tag: "Redeemed", link })
      }),
    list: ({ limit, nowMillis }) =>
      Effect.sync(() =>
        Array.from(links.values())
          .filter((row) => isRedeemable(row, nowMillis))
          .sort((a, b) => b.createdAtMillis - a.createdAtMillis || (a.id < b.id ? 1 : -1))
          .slice(0, limit)
      ),
    revoke: (id, change) =>
      Effect.sync(() => {
        const row = links.get(id)
        if (row === undefined || !isRedeemable(row, change.nowMillis)) return false
        revoke(state, row, change)
        return true
      }),
    sweep: ({ endedBeforeMillis, limit }, change) =>
      Effect.sync(() => {
        const ended = Array.from(links.values())
          .filter((row) => endedAt(row) <= endedBeforeMillis)
          .sort((a, b) => endedAt(a) - endedAt(b) || (a.id < b.id ? -1 : 1))
          .slice(0, limit)
          .sort(byId)
        for (const row of ended) {
          links.delete(row.id)
          linkIds.delete(row.codeDigest)
          if (row.revokedAtMillis === null && row.remainingUses > 0) {
            append(state, { _tag: "pairingLinkRemoved", id: row.id, reason: "expired" }, change)
          }
        }
        return ended.length
      })
  }
}
