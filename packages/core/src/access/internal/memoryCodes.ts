/**
 * Keeps authorization codes in memory.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { conflict, type RepositoryError } from "../../RepositoryError.ts"
import {
  type AuthorizationCodeRepository,
  type CodeInsertOutcome,
  type CodeOutcome,
  codeRefusal,
  maxOpenCodes
} from "../AuthorizationCodeRepository.ts"
import { countLetIn } from "../Lineage.ts"
import { mayRedeem } from "../ConnectClientRepository.ts"
import type { SessionId } from "../Session.ts"
import { isLive } from "../SessionCredentialRepository.ts"
import * as Sessions from "./memorySessions.ts"
import type { MemoryState } from "./memoryState.ts"
import { byText } from "./orders.ts"

/** Makes the authorization codes of a store. */
export const make = (state: MemoryState): AuthorizationCodeRepository => {
  const { codes } = state
  const isLiveSession = (id: SessionId, nowMillis: number) => {
    const row = state.sessions.get(id)
    return row !== undefined && isLive(row, nowMillis)
  }
  return {
    insert: (row, { nowMillis }, maxLetIn = Infinity) =>
      Effect.suspend((): Effect.Effect<CodeInsertOutcome, RepositoryError> => {
        if (!isLiveSession(row.issuedBy, nowMillis)) return Effect.succeed("issuer-ended")
        const open = Array.from(codes.values()).filter((code) =>
          code.issuedBy === row.issuedBy && code.sessionId === null && code.expiresAtMillis > nowMillis
        )
        if (open.length >= maxOpenCodes) return Effect.succeed("too-many-open")
        const letIn = countLetIn({ ...state, links: state.links.values() }, row.issuedBy, nowMillis)
        if (letIn + open.length >= maxLetIn) return Effect.succeed("too-many-let-in")
        if (codes.has(row.codeDigest)) {
          return Effect.fail(
            conflict("insert", "An authorization code has a digest that exists already")
          )
        }
        codes.set(row.codeDigest, row)
        return Effect.succeed("inserted")
      }),
    findByDigest: (codeDigest) => Effect.sync(() => Option.fromUndefinedOr(codes.get(codeDigest))),
    redeem: ({ session, ...presented }, change) =>
      Effect.suspend((): Effect.Effect<CodeOutcome, RepositoryError> => {
        const { nowMillis } = change
        const { proofKeyThumbprint } = session
        const row = codes.get(presented.codeDigest)
        const reason = codeRefusal(row, { ...presented, proofKeyThumbprint, nowMillis })
        if (row !== undefined && row.sessionId !== null && reason === "used") {
          Sessions.end(state, { _tag: "Session", id: row.sessionId }, { actor: "system", nowMillis })
          return Effect.succeed({ _tag: "Reused", sessionId: row.sessionId })
        }
        if (row === undefined || reason !== undefined) {
          return Effect.succeed({ _tag: "Refused", reason: reason ?? "unknown" })
        }
        if (!isLiveSession(row.issuedBy, nowMillis)) {
          return Effect.succeed({ _tag: "Refused", reason: "issuer-ended" })
        }
        const client = state.clients.get(proofKeyThumbprint ?? "")
        if (!mayRedeem(state.mode, client, { createdBy: row.subject })) {
          return Effect.succeed({ _tag: "Refused", reason: "client-not-admitted" })
        }
        const failure = Sessions.insert(state, session, change, "redeem", () => {
          codes.set(row.codeDigest, { ...row, sessionId: session.id })
        })
        return failure ?? Effect.succeed({ _tag: "Redeemed" })
      }),
    sweep: ({ endedBeforeMillis, limit }) =>
      Effect.sync(() => {
        const expired = Array.from(codes.values())
          .filter((row) => row.expiresAtMillis <= endedBeforeMillis)
          .sort((a, b) => a.expiresAtMillis - b.expiresAtMillis || byText(a.codeDigest, b.codeDigest))
          .slice(0, limit)
        for (const { codeDigest } of expired) codes.delete(codeDigest)
        return expired.length
      })
  }
}
