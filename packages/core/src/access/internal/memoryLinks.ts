/**
 * Keeps pairing links in memory.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { conflict, type RepositoryError } from "../../RepositoryError.ts"
import type { ChangeContext } from "../AccessEvent.ts"
import {
  type BootstrapCredentialRepository,
  type InsertOutcome,
  isRedeemable,
  type PairingLinkRow,
  toPairingLink
} from "../BootstrapCredentialRepository.ts"
import { countLetIn } from "../Lineage.ts"
import { isLive } from "../SessionCredentialRepository.ts"
import { append, type MemoryState } from "./memoryState.ts"
import { byId, newestLinkFirst } from "./orders.ts"

const endedAt = (row: PairingLinkRow): number =>
  Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

/** Stores a link whose id and digest are new. */
export const insert = (state: MemoryState, row: PairingLinkRow, change: ChangeContext): void => {
  state.links.set(row.id, row)
  state.linkIds.set(row.codeDigest, row.id)
  append(state, { _tag: "pairingLinkUpserted", link: toPairingLink(row) }, change)
}

/** Revokes a link. */
export const revoke = (state: MemoryState, row: PairingLinkRow, change: ChangeContext): void => {
  state.links.set(row.id, { ...row, revokedAtMillis: change.nowMillis })
  append(state, { _tag: "pairingLinkRemoved", id: row.id, subject: row.subject, reason: "revoked" }, change)
}

/** Tells whether a proof key has a link that can be redeemed, or a link can be that is named. */
export const hasGrant = (
  { links }: MemoryState,
  grant: { readonly proofKeyThumbprint: string; readonly linkId: string | undefined },
  nowMillis: number
): boolean =>
  Array.from(links.values()).some((row) =>
    (row.proofKeyThumbprint === grant.proofKeyThumbprint || row.id === grant.linkId) && isRedeemable(row, nowMillis)
  )

/** Makes the pairing links of a store. */
export const make = (state: MemoryState): Omit<BootstrapCredentialRepository, "redeem"> => {
  const { linkIds, links } = state
  const byDigest = (codeDigest: string) => links.get(linkIds.get(codeDigest) ?? "")
  return {
    insert: (row, change, maxOpen = Infinity, maxLetIn = Infinity) =>
      Effect.suspend((): Effect.Effect<InsertOutcome, RepositoryError> => {
        const { issuedBy } = row
        const issuer = issuedBy === null ? undefined : state.sessions.get(issuedBy)
        if (issuedBy !== null && (issuer === undefined || !isLive(issuer, change.nowMillis))) {
          return Effect.succeed("issuer-ended")
        }
        if (linkIds.has(row.codeDigest)) return Effect.succeed("digest-exists")
        const open = Array.from(links.values()).filter((link) =>
          issuedBy !== null && link.issuedBy === issuedBy && isRedeemable(link, change.nowMillis)
        )
        if (open.length >= maxOpen) return Effect.succeed("too-many-open")
        if (
          issuedBy !== null &&
          countLetIn({ ...state, links: links.values() }, issuedBy, change.nowMillis) + row.remainingUses > maxLetIn
        ) {
          return Effect.succeed("too-many-let-in")
        }
        if (links.has(row.id)) {
          return Effect.fail(
            conflict("insert", `Pairing link ${row.id} exists already`)
          )
        }
        insert(state, row, change)
        return Effect.succeed("inserted")
      }),
    findByCodeDigest: (codeDigest) => Effect.sync(() => Option.fromUndefinedOr(byDigest(codeDigest))),
    list: ({ after, limit, nowMillis, subject }) =>
      Effect.sync(() =>
        Array.from(links.values())
          .filter((row) =>
            isRedeemable(row, nowMillis) && (subject === undefined || row.subject === subject) &&
            (after === undefined || newestLinkFirst(after, row) < 0)
          )
          .sort(newestLinkFirst)
          .slice(0, limit)
      ),
    revoke: (id, change, subject) =>
      Effect.sync(() => {
        const row = links.get(id)
        if (row === undefined || !isRedeemable(row, change.nowMillis) || (subject ?? row.subject) !== row.subject) {
          return false
        }
        revoke(state, row, change)
        return true
      }),
    sweep: ({ endedBeforeMillis, limit }, change) =>
      Effect.sync(() => {
        const ended = Array.from(links.values())
          .filter((row) => endedAt(row) <= endedBeforeMillis)
          .sort((a, b) => endedAt(a) - endedAt(b) || byId(a, b))
          .slice(0, limit)
          .sort(byId)
        for (const row of ended) {
          links.delete(row.id)
          linkIds.delete(row.codeDigest)
          if (row.revokedAtMillis === null && row.remainingUses > 0) {
            append(state, { _tag: "pairingLinkRemoved", id: row.id, subject: row.subject, reason: "expired" }, change)
          }
        }
        return ended.length
      })
  }
}
