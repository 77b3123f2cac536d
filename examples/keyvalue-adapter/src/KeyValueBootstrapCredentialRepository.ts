/** Pairing links on the log. Each operation is one decision, as its contract demands. */
import * as Links from "@sallyport/core/access/BootstrapCredentialRepository"
import * as Sessions from "@sallyport/core/access/SessionCredentialRepository"
import { Effect, Option } from "effect"
import type { AccessLog, Decision, State } from "./AccessLog.ts"
import { event } from "./AccessLog.ts"
import { begin, end } from "./KeyValueSessionCredentialRepository.ts"

const redeemable = (row: Links.PairingLinkRow, nowMillis: number): boolean =>
  row.revokedAtMillis === null && row.remainingUses > 0 && row.expiresAtMillis > nowMillis

/** Returns the rows that can be redeemed, newest first. */
export const open = (rows: Iterable<Links.PairingLinkRow>, nowMillis: number) =>
  Array.from(rows)
    .filter((row) => redeemable(row, nowMillis))
    .sort((a, b) => b.createdAtMillis - a.createdAtMillis || (a.id < b.id ? 1 : -1))

const withDigest = ({ links }: State, codeDigest: string) =>
  Array.from(links.values()).find((row) => row.codeDigest === codeDigest)

const endedAt = (row: Links.PairingLinkRow): number =>
  Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

/** Creates the pairing links of the log. */
export const make = (log: AccessLog["Service"]): Links.BootstrapCredentialRepository => {
  return {
    insert: (row, context) =>
      log.change("insert", (state) => {
        if (withDigest(state, row.codeDigest) !== undefined) return { answer: false }
        if (state.links.has(row.id)) return new Error(`Pairing link ${row.id} exists already; use another id`)
        const upserted = event({ _tag: "pairingLinkUpserted", link: Links.toPairingLink(row) }, context)
        return { answer: true, change: { links: [row], events: [upserted] } }
      }),

    findByCodeDigest: (codeDigest) => Effect.sync(() => Option.fromUndefinedOr(withDigest(log.state, codeDigest))),

    // #region redeem
    redeem: ({ codeDigest, repeatMillis, replaces, session }, context) =>
      log.change("redeem", (state): Decision<Links.RedeemOutcome> | Error => {
        const { nowMillis } = context
        const before = Array.from(state.sessions.values()).find((row) =>
          row.redemptionDigest !== null && row.redemptionDigest === session.redemptionDigest &&
          Sessions.isLive(row, nowMillis) && row.createdAtMillis + repeatMillis > nowMillis
        )
        if (before !== undefined) return { answer: { _tag: "Repeated", session: before } }
        const row = withDigest(state, codeDigest)
        const reason = Links.refusal(row, { ...session, nowMillis })
        if (row === undefined || reason !== undefined) {
          return { answer: { _tag: "Refused", reason: reason ?? "unknown" } }
        }
        const begun = begin(state, session, context)
        if (begun instanceof Error) return begun
        const ended = end(state, (row) => row.id === replaces, context)
        const link = { ...row, remainingUses: row.remainingUses - 1 }
        return {
          answer: { _tag: "Redeemed", link },
          change: {
            links: [link],
            sessions: [...ended.sessions, ...begun.sessions],
            removedTickets: ended.removedTickets,
            events: [...ended.events, event(Links.used(link), context), ...begun.events]
          }
        }
      }),
    // #endregion redeem

    list: ({ limit, nowMillis }) => Effect.sync(() => open(log.state.links.values(), nowMillis).slice(0, limit)),

    revoke: (id, context) =>
      log.change("revoke", ({ links }) => {
        const row = links.get(id)
        if (row === undefined || !redeemable(row, context.nowMillis)) return { answer: false }
        return {
          answer: true,
          change: {
            links: [{ ...row, revokedAtMillis: context.nowMillis }],
            events: [event({ _tag: "pairingLinkRemoved", id, reason: "revoked" }, context)]
          }
        }
      }),

    sweep: ({ endedBeforeMillis, limit }, context) =>
      log.change("sweep", ({ links }) => {
        const ended = Array.from(links.values())
          .filter((row) => endedAt(row) <= endedBeforeMillis)
          .sort((a, b) => endedAt(a) - endedAt(b) || (a.id < b.id ? -1 : 1))
          .slice(0, limit)
          .sort((a, b) => a.id < b.id ? -1 : 1)
        if (ended.length === 0) return { answer: 0 }
        const unspent = ended.filter((row) => row.revokedAtMillis === null && row.remainingUses > 0)
        return {
          answer: ended.length,
          change: {
            removedLinks: ended.map(({ id }) => id),
            events: unspent.map(({ id }) => event({ _tag: "pairingLinkRemoved", id, reason: "expired" }, context))
          }
        }
      })
  }
}
