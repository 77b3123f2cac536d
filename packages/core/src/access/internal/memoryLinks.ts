/**
 * Keeps pairing links in memory.
 */
import * as Effect from "effect/Effect"
import { RepositoryError } from "../../RepositoryError.ts"
import type { ChangeContext } from "../AccessEvent.ts"
import {
  type BootstrapCredentialRepository,
  isRedeemable,
  type PairingLinkRow,
  refusal,
  toPairingLink
} from "../BootstrapCredentialRepository.ts"
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
    consume: ({ codeDigest, proofKeyThumbprint, scopes }, change) =>
      Effect.sync(() => {
        const row = links.get(linkIds.get(codeDigest) ?? "")
        const reason = refusal(row, { scopes, proofKeyThumbprint, nowMillis: change.nowMillis })
        if (row === undefined || reason !== undefined) return { _tag: "Refused", reason: reason ?? "unknown" }
        const consumed: PairingLinkRow = { ...row, remainingUses: row.remainingUses - 1 }
        links.set(row.id, consumed)
        append(
          state,
          consumed.remainingUses === 0
            ? { _tag: "pairingLinkRemoved", id: row.id, reason: "consumed" }
            : { _tag: "pairingLinkUpserted", link: toPairingLink(consumed) },
          change
        )
        return { _tag: "Consumed", row: consumed }
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
