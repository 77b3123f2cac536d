/**
 * Keeps pairing links in the table `<prefix>pairing_links`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Dialect from "../../sql/Dialect.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import {
  type BootstrapCredentialRepository,
  type InsertOutcome,
  PairingLinkRow,
  toPairingLink
} from "../BootstrapCredentialRepository.ts"
import { byId } from "./orders.ts"
import { endedAt, live, redeemable } from "./sqlEnds.ts"
import type { ChangeContext } from "../AccessEvent.ts"
import type { Append } from "./sqlFeed.ts"

/** Makes the pairing links of a store, and the steps on them that others take in a transaction of their own. */
export const make = (kit: SqlKit, append: Append) => {
  const { first, isPg, locked, read, statement, transaction } = kit
  const rows = kit.rows("pairing_links", PairingLinkRow)
  const { columns, decode } = rows
  const links = kit.table("pairing_links")
  const ended = endedAt(kit)
  const one = first(decode)

  const insertNew = statement(`${rows.insert} ON CONFLICT (code_digest) DO NOTHING RETURNING id`)
  const insert = statement(rows.insert)
  const byDigest = one(`SELECT ${columns} FROM ${links} WHERE code_digest = ?`)
  const byDigestLocked = one(`SELECT ${columns} FROM ${links} WHERE code_digest = ?${locked}`)
  const takeUse = statement(`UPDATE ${links} SET remaining_uses = remaining_uses - 1 WHERE id = ?`)
  const listing = (condition: string) =>
    kit.all(decode)(
      `SELECT ${columns} FROM ${links} WHERE ${condition} AND ${redeemable()} AND (created_at_millis, id) < (?, ?)
      ORDER BY created_at_millis DESC, id DESC LIMIT ?`
    )
  const list = listing("TRUE")
  const listOfSubject = listing("subject = ?")
  const revoking = (condition: string) =>
    statement<{ readonly subject: string }>(
      `UPDATE ${links} SET revoked_at_millis = ? WHERE ${condition} AND id = ? AND ${redeemable()} RETURNING subject`
    )
  const revoke = revoking("TRUE")
  const revokeOfSubject = revoking("subject = ?")
  const sessions = kit.table("sessions")
  // From above to below, as a revocation takes its locks.
  const lockBranch = statement(
    `SELECT id FROM ${sessions} WHERE id = (SELECT branch_id FROM ${sessions} WHERE id = ?)${locked}`
  )
  const lockIssuer = statement<{ readonly branch_id: string | null }>(
    `SELECT branch_id FROM ${sessions} WHERE id = ? AND ${live()}${locked}`
  )
  // One statement, as a redemption meanwhile makes a use a session.
  const count = statement<{ readonly open: unknown; readonly uses: unknown; readonly sessions: unknown }>(
    `SELECT COUNT(*) AS open, COALESCE(SUM(remaining_uses), 0) AS uses,
      (SELECT COUNT(*) FROM ${sessions} WHERE parent_id = ? AND ${live()}) AS sessions
    FROM ${links} WHERE issued_by = ? AND ${redeemable()}`
  )
  const countBranch = statement<{ readonly uses: unknown; readonly sessions: unknown }>(
    `SELECT COALESCE(SUM(remaining_uses), 0) AS uses,
      (SELECT COUNT(*) FROM ${sessions} WHERE branch_id = ? AND id <> branch_id AND ${live()}) AS sessions
    FROM ${links} WHERE ${redeemable()} AND issued_by IN (SELECT id FROM ${sessions} WHERE branch_id = ? AND ${live()})`
  )
  const sweep = statement<{
    readonly id: string
    readonly subject: string
    readonly remaining_uses: unknown
    readonly revoked_at_millis: unknown
  }>(
    `WITH ended AS ${kit.once} (
      SELECT id FROM ${links} WHERE ${ended} <= ? ORDER BY ${ended}, id LIMIT ?${kit.skipLocked}
    )
    DELETE FROM ${links} WHERE id IN (SELECT id FROM ended) RETURNING id, subject, remaining_uses, revoked_at_millis`
  )

  /** Counts what a live session has let in (see `countLetIn`), and its own open links; none if the session is not live. */
  const letInBy = Effect.fnUntraced(function*(issuer: string, nowMillis: number) {
    if (isPg) yield* lockBranch([issuer])
    // Held until the commit: who ends the session finds what follows, and nothing else of the session is counted meanwhile.
    const [found] = yield* lockIssuer([issuer, nowMillis])
    if (found === undefined) return undefined
    const [own] = yield* count([issuer, nowMillis, issuer, nowMillis])
    const branch = found.branch_id
    const [counted] = branch === null
      ? [own]
      : yield* countBranch([branch, nowMillis, nowMillis, branch, nowMillis])
    return {
      open: Dialect.toNatural(own?.open),
      letIn: Dialect.toNatural(counted?.uses) + Dialect.toNatural(counted?.sessions)
    }
  })

  const repository: Omit<BootstrapCredentialRepository, "redeem"> = {
    insert: (row, change, maxOpen = Infinity, maxLetIn = Infinity) =>
      Effect.gen(function*(): Effect.fn.Return<InsertOutcome, unknown> {
        const { issuedBy } = row
        const issuer = issuedBy === null ? { open: 0, letIn: 0 } : yield* letInBy(issuedBy, change.nowMillis)
        if (issuer === undefined) return "issuer-ended"
        if (Option.isSome(yield* byDigest([row.codeDigest]))) return "digest-exists"
        if (issuedBy !== null) {
          if (issuer.open >= maxOpen) return "too-many-open"
          if (issuer.letIn + row.remainingUses > maxLetIn) return "too-many-let-in"
        }
        // The conflict that is an answer is the digest's; one of the id fails the statement.
        if ((yield* insertNew(rows.values(row))).length === 0) return "digest-exists"
        yield* append([{ _tag: "pairingLinkUpserted", link: toPairingLink(row) }], change)
        return "inserted"
      }).pipe(transaction("insert")),
    findByCodeDigest: (codeDigest) => read("findByCodeDigest")(byDigest([codeDigest])),
    list: ({ after, limit, nowMillis, subject }) => {
      const page = [nowMillis, after?.createdAtMillis ?? Number.MAX_SAFE_INTEGER, after?.id ?? "", limit]
      return read("list")(subject === undefined ? list(page) : listOfSubject([subject, ...page]))
    },
    revoke: (id, change, subject) =>
      Effect.gen(function*() {
        const [revoked] = subject === undefined
          ? yield* revoke([change.nowMillis, id, change.nowMillis])
          : yield* revokeOfSubject([change.nowMillis, subject, id, change.nowMillis])
        if (revoked === undefined) return false
        yield* append([{ _tag: "pairingLinkRemoved", id, subject: revoked.subject, reason: "revoked" }], change)
        return true
      }).pipe(transaction("revoke")),
    sweep: ({ endedBeforeMillis, limit }, change) =>
      Effect.gen(function*() {
        const swept = Array.from(yield* sweep([endedBeforeMillis, limit])).sort(byId)
        yield* append(
          swept
            .filter((row) => row.revoked_at_millis === null && Dialect.toNatural(row.remaining_uses) > 0)
            .map(({ id, subject }) => ({ _tag: "pairingLinkRemoved", id, subject, reason: "expired" })),
          change
        )
        return swept.length
      }).pipe(transaction("sweep"))
  }
  return {
    repository,
    letInBy,
    /** Returns the link of a code, whose row no other step changes until the commit. */
    byDigestLocked: (codeDigest: string) => byDigestLocked([codeDigest]),
    /** Takes one use of a link that has one. */
    takeUse: (id: string) => takeUse([id]),
    /** Tells whether the session that issues a link is live, and keeps it so until the commit. */
    lockIssuer: (id: string, { nowMillis }: ChangeContext) =>
      Effect.map(lockIssuer([id, nowMillis]), (found) => found.length > 0),
    /** Stores a link whose id and digest are new. */
    insert: (row: PairingLinkRow) => insert(rows.values(row))
  }
}
