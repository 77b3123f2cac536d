/**
 * Redeems pairing links in memory: the one step on links, sessions and clients together.
 */
import * as Effect from "effect/Effect"
import type { RepositoryError } from "../../RepositoryError.ts"
import {
  type BootstrapCredentialRepository,
  type PairingLinkRow,
  type RedeemOutcome,
  refusal,
  used
} from "../BootstrapCredentialRepository.ts"
import { mayRedeem } from "../ConnectClientRepository.ts"
import * as Sessions from "./memorySessions.ts"
import { append, type MemoryState } from "./memoryState.ts"

/** Makes the step that redeems a link. */
export const make =
  (state: MemoryState): BootstrapCredentialRepository["redeem"] =>
  ({ codeDigest, repeatMillis, replaces, session }, change) =>
    Effect.suspend((): Effect.Effect<RedeemOutcome, RepositoryError> => {
      const { nowMillis } = change
      const before = Sessions.redeemedBy(state, session.redemptionDigest, { nowMillis, repeatMillis })
      if (before !== undefined) return Effect.succeed({ _tag: "Repeated", session: before })
      const row = state.links.get(state.linkIds.get(codeDigest) ?? "")
      const reason = refusal(row, { ...session, nowMillis })
      if (row === undefined || reason !== undefined) {
        return Effect.succeed({ _tag: "Refused", reason: reason ?? "unknown" })
      }
      const client = state.clients.get(session.proofKeyThumbprint ?? "")
      if (!mayRedeem(state.mode, client, row)) {
        return Effect.succeed({ _tag: "Refused", reason: "client-not-admitted" })
      }
      const link: PairingLinkRow = { ...row, remainingUses: row.remainingUses - 1 }
      const conflict = Sessions.insert(state, session, change, "redeem", () => {
        state.links.set(row.id, link)
        append(state, used(link), change)
        // After the use: the link may be one that the session had issued, and ends with it.
        if (replaces !== undefined) Sessions.end(state, { _tag: "Session", id: replaces }, change)
      })
      return conflict ?? Effect.succeed({ _tag: "Redeemed", link })
    })
