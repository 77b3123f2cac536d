/** Pairing links on the log. Each operation is one decision, as its contract demands. */
import * as Links from "@sallyport/core/access/BootstrapCredentialRepository"
import { countLetIn } from "@sallyport/core/access/Lineage"
import * as Sessions from "@sallyport/core/access/SessionCredentialRepository"
import { Effect, Option } from "effect"
import type { AccessLog, Decision, State } from "./AccessLog.ts"
import { event } from "./AccessLog.ts"
import { begin, ending } from "./KeyValueSessionCredentialRepository.ts"

const redeemable = (row: Links.PairingLinkRow, nowMillis: number): boolean =>
  row.revokedAtMillis === null && row.remainingUses > 0 && row.expiresAtMillis > nowMillis

type Place = Pick<Links.PairingLinkRow, "createdAtMillis" | "id">

const newestFirst = (a: Place, b: Place): number =>
  b.createdAtMillis - a.createdAtMillis || (a.id === b.id ? 0 : a.id < b.id ? 1 : -1)

/** Returns the rows that can be redeemed, newest first. */
export const open = (rows: Iterable<Links.PairingLinkRow>, nowMillis: number) =>
  Array.from(rows)
    .filter((row) => redeemable(row, nowMillis))
    .sort(newestFirst)

const withDigest = ({ links }: State, codeDigest: string) =>
  Array.from(links.values()).find((row) => row.codeDigest === codeDigest)

const endedAt = (row: Links.PairingLinkRow): number =>
  Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

/** Creates the pairing links of the log. */
export const make = (log: AccessLog["Service"]): Links.BootstrapCredentialRepository => {
  return {
    insert: (row, context, maxOpen = Infinity, maxLetIn = Infinity) =>
      log.change("insert", (state): Decision<Links.InsertOutcome> | Error => {
        const { links, sessions } = state
        const issuer = row.issuedBy === null ? undefined : sessions.get(row.issuedBy)
        if (row.issuedBy !== null && (issuer === undefined || !Sessions.isLive(issuer, context.nowMillis))) {
          return { answer: "issuer-ended" }
        }
        if (withDigest(state, row.codeDigest) !== undefined) return { answer: "digest-exists" }
        const ofIssuer = open(links.values(), context.nowMillis).filter(({ issuedBy }) => issuedBy === row.issuedBy)
        if (row.issuedBy !== null && ofIssuer.length >= maxOpen) return { answer: "too-many-open" }
        if (
          row.issuedBy !== null &&
          countLetIn({ sessions, links: links.values() }, row.issuedBy, context.nowMillis) + row.remainingUses >
            maxLetIn
        ) return { answer: "too-many-let-in" }
        if (links.has(row.id)) return new Error(`Pairing link ${row.id} exists already; use another id`)
        const upserted = event({ _tag: "pairingLinkUpserted", link: Links.toPairingLink(row) }, context)
        return { answer: "inserted", change: { links: [row], events: [upserted] } }
      }),

    findByCodeDigest: (codeDigest) => Effect.sync(() => Option.fromUndefinedOr(withDigest(log.state, codeDigest))),

    // #region redeem
    redeem: ({ codeDigest, repeatMillis, replaces, session }, context) =>
      log.change("redeem", (state): Decision<Links.RedeemOutcome> | Error => {
        const { nowMillis } = context
        const [before] = Array.from(state.sessions.values()).filter((row) =>
          row.redemptionDigest !== null && row.redemptionDigest === session.redemptionDigest &&
          Sessions.isLive(row, nowMillis) && row.createdAtMillis + repeatMillis > nowMillis
        ).sort((a, b) => a.id < b.id ? -1 : 1)
        if (before !== undefined) return { answer: { _tag: "Repeated", session: before } }
        const row = withDigest(state, codeDigest)
        const reason = Links.refusal(row, { ...session, nowMillis })
        if (row === undefined || reason !== undefined) {
          return { answer: { _tag: "Refused", reason: reason ?? "unknown" } }
        }
        const begun = begin(state, session, context)
        if (begun instanceof Error) return begun
        const link = { ...row, remainingUses: row.remainingUses - 1 }
        const links = new Map(state.links).set(link.id, link)
        const ended = replaces === undefined
          ? undefined
          : ending({ ...state, links }, { _tag: "Session", id: replaces }, context).change
        return {
          answer: { _tag: "Redeemed", link },
          change: {
            links: [link, ...(ended?.links ?? [])],
            sessions: [...(ended?.sessions ?? []), ...begun.sessions],
            removedTickets: ended?.removedTickets ?? [],
            events: [event(Links.used(link), context), ...(ended?.events ?? []), ...begun.events]
          }
        }
      }),
    // #endregion redeem

    list: ({ after, limit, nowMillis, subject }) =>
      Effect.sync(() =>
        open(log.state.links.values(), nowMillis)
          .filter((row) => subject === undefined || row.subject === subject)
          .filter((row) => after === undefined || newestFirst(after, row) < 0)
          .slice(0, limit)
      ),

    revoke: (id, context, subject) =>
      log.change("revoke", ({ links }) => {
        const row = links.get(id)
        if (row === undefined || !redeemable(row, context.nowMillis) || (subject ?? row.subject) !== row.subject) {
          return { answer: false }
        }
        return {
          answer: true,
          change: {
            links: [{ ...row, revokedAtMillis: context.nowMillis }],
            events: [event({ _tag: "pairingLinkRemoved", id, subject: row.subject, reason: "revoked" }, context)]
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
            events: unspent.map(({ id, subject }) =>
              event({ _tag: "pairingLinkRemoved", id, subject, reason: "expired" }, context)
            )
          }
        }
      })
  }
}
