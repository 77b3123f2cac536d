/**
 * Keeps pairing links in the table `<prefix>pairing_links`.
 */
import * as Effect from "effect/Effect"
import * as Dialect from "../../sql/Dialect.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import {
  type BootstrapCredentialRepository,
  PairingLinkRow,
  toPairingLink
} from "../BootstrapCredentialRepository.ts"
import { byId } from "./memoryState.ts"
import { endedAt, revoking } from "./sqlEnds.ts"
import type { Append } from "./sqlFeed.ts"

/** Makes the pairing links of a store, and the steps on them that others take in a transaction of their own. */
export const make = (kit: SqlKit, append: Append) => {
  const { first, isPg, read, statement, transaction } = kit
  const rows = kit.rows("pairing_links", PairingLinkRow)
  const { columns, decode } = rows
  const links = kit.table("pairing_links")
  const ended = endedAt(kit)
  const redeemable = "revoked_at_millis IS NULL AND remaining_uses > 0 AND expires_at_millis > ?"
  const one = first(decode)

  const insertNew = statement(`${rows.insert} ON CONFLICT (code_digest) DO NOTHING RETURNING id`)
  const insert = statement(rows.insert)
  const byDigest = one(`SELECT ${columns} FROM ${links} WHERE code_digest = ?`)
  const byDigestLocked = one(`SELECT ${columns} FROM ${links} WHERE code_digest = ?${isPg ? " FOR NO KEY UPDATE" : ""}`)
  const takeUse = statement(`UPDATE ${links} SET remaining_uses = remaining_uses - 1 WHERE id = ?`)
  const list = kit.all(decode)(
    `SELECT ${columns} FROM ${links} WHERE ${redeemable} ORDER BY created_at_millis DESC, id DESC LIMIT ?`
  )
  const revoke = statement(`UPDATE ${links} SET revoked_at_millis = ? WHERE id = ? AND ${redeemable} RETURNING id`)
  const endByKeys = revoking<string>(kit, links, `proof_key_thumbprint ${kit.inJson} AND ${redeemable}`)
  const sweep = statement<{
    readonly id: string
    readonly remaining_uses: unknown
    readonly revoked_at_millis: unknown
  }>(
    `WITH ended AS ${kit.once} (
      SELECT id FROM ${links} WHERE ${ended} <= ? ORDER BY ${ended}, id LIMIT ?${kit.skipLocked}
    )
    DELETE FROM ${links} WHERE id IN (SELECT id FROM ended) RETURNING id, remaining_uses, revoked_at_millis`
  )

  const repository: Omit<BootstrapCredentialRepository, "redeem"> = {
    insert: (row, change) =>
      Effect.gen(function*() {
        // The conflict that is an answer is the digest's; one of the id fails the statement.
        if ((yield* insertNew(rows.values(row))).length === 0) return false
        yield* append([{ _tag: "pairingLinkUpserted", link: toPairingLink(row) }], change)
        return true
      }).pipe(transaction("insert")),
    findByCodeDigest: (codeDigest) => read("findByCodeDigest")(byDigest([codeDigest])),
    list: ({ limit, nowMillis }) => read("list")(list([nowMillis, limit])),
    revoke: (id, change) =>
      Effect.gen(function*() {
        if ((yield* revoke([change.nowMillis, id, change.nowMillis])).length === 0) return false
        yield* append([{ _tag: "pairingLinkRemoved", id, reason: "revoked" }], change)
        return true
      }).pipe(transaction("revoke")),
    sweep: ({ endedBeforeMillis, limit }, change) =>
      Effect.gen(function*() {
        const swept = Array.from(yield* sweep([endedBeforeMillis, limit])).sort(byId)
        yield* append(
          swept
            .filter((row) => row.revoked_at_millis === null && Dialect.toNatural(row.remaining_uses) > 0)
            .map(({ id }) => ({ _tag: "pairingLinkRemoved", id, reason: "expired" })),
          change
        )
        return swept.length
      }).pipe(transaction("sweep"))
  }
  return {
    repository,
    /** Returns the link of a code, whose row no other step changes until the commit. */
    byDigestLocked: (codeDigest: string) => byDigestLocked([codeDigest]),
    /** Takes one use of a link that has one. */
    takeUse: (id: string) => takeUse([id]),
    /** Stores a link whose id and digest are new. */
    insert: (row: PairingLinkRow) => insert(rows.values(row)),
    endByKeys
  }
}
