/**
 * Keeps authorization codes in the table `<prefix>authorization_codes`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Dialect from "../../sql/Dialect.ts"
import { conflict } from "../../RepositoryError.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import {
  type AuthorizationCodeRepository,
  AuthorizationCodeRow,
  type CodeInsertOutcome,
  type CodeOutcome,
  codeRefusal,
  maxOpenCodes
} from "../AuthorizationCodeRepository.ts"
import type * as SqlClients from "./sqlClients.ts"
import type * as SqlEnds from "./sqlEnds.ts"
import type { Append } from "./sqlFeed.ts"
import type * as SqlLinks from "./sqlLinks.ts"
import type * as SqlSessions from "./sqlSessions.ts"

/** Makes the authorization codes of a store. */
export const make = (kit: SqlKit, append: Append, has: {
  readonly clients: ReturnType<typeof SqlClients.make>
  readonly ends: ReturnType<typeof SqlEnds.make>
  readonly links: ReturnType<typeof SqlLinks.make>
  readonly sessions: ReturnType<typeof SqlSessions.make>
}): AuthorizationCodeRepository => {
  const { locked, once, read, skipLocked, statement, transaction, write } = kit
  const codes = kit.table("authorization_codes")
  const { columns, decode, insert, values } = kit.rows("authorization_codes", AuthorizationCodeRow)
  const one = kit.first(decode)

  const insertNew = statement(`${insert} ON CONFLICT DO NOTHING RETURNING code_digest`)
  const byDigest = one(`SELECT ${columns} FROM ${codes} WHERE code_digest = ?`)
  const byDigestLocked = one(
    `SELECT ${columns} FROM ${codes} WHERE code_digest = ?${locked}`
  )
  const countOpen = statement<{ readonly open: unknown }>(
    `SELECT COUNT(*) AS open FROM ${codes} WHERE issued_by = ? AND expires_at_millis > ? AND session_id IS NULL`
  )
  const use = statement(`UPDATE ${codes} SET session_id = ? WHERE code_digest = ?`)
  const sweep = statement(
    `WITH expired AS ${once} (
      SELECT code_digest FROM ${codes} WHERE expires_at_millis <= ?
      ORDER BY expires_at_millis, code_digest LIMIT ?${skipLocked}
    )
    DELETE FROM ${codes} WHERE code_digest IN (SELECT code_digest FROM expired) RETURNING code_digest`
  )

  return {
    insert: (row, { nowMillis }, maxLetIn = Infinity) =>
      Effect.gen(function*(): Effect.fn.Return<CodeInsertOutcome, unknown> {
        const issuer = yield* has.links.letInBy(row.issuedBy, nowMillis)
        if (issuer === undefined) return "issuer-ended"
        const [counted] = yield* countOpen([row.issuedBy, nowMillis])
        const open = Dialect.toNatural(counted?.open)
        if (open >= maxOpenCodes) return "too-many-open"
        if (issuer.letIn + open >= maxLetIn) return "too-many-let-in"
        if ((yield* insertNew(values(row))).length > 0) return "inserted"
        return yield* conflict("insert", "An authorization code has a digest that exists already")
      }).pipe(transaction("insert")),
    findByDigest: (codeDigest) => read("findByDigest")(byDigest([codeDigest])),
    redeem: ({ session, ...presented }, change) =>
      Effect.gen(function*(): Effect.fn.Return<CodeOutcome, unknown> {
        const { nowMillis } = change
        const { proofKeyThumbprint } = session
        // Locks in the order of the other steps: the row of the mode, the session that consented, the code. A revocation
        // of that session waits, and then finds the one that descends from it.
        const isAllowed = proofKeyThumbprint === null ? undefined : yield* has.clients.lookAt(proofKeyThumbprint)
        const found = yield* byDigest([presented.codeDigest])
        if (Option.isNone(found)) return { _tag: "Refused", reason: "unknown" }
        const isIssuerLive = yield* has.sessions.lockLive(found.value.issuedBy, nowMillis)
        const row = Option.getOrUndefined(yield* byDigestLocked([presented.codeDigest]))
        const reason = codeRefusal(row, { ...presented, proofKeyThumbprint, nowMillis })
        if (row !== undefined && row.sessionId !== null && reason === "used") {
          const bySystem = { actor: "system", nowMillis }
          const { changes } = yield* has.ends.end({ _tag: "Session", id: row.sessionId }, bySystem)
          yield* append(changes, bySystem)
          return { _tag: "Reused", sessionId: row.sessionId }
        }
        if (row === undefined || reason !== undefined) return { _tag: "Refused", reason: reason ?? "unknown" }
        if (!isIssuerLive) return { _tag: "Refused", reason: "issuer-ended" }
        if (isAllowed?.({ createdBy: row.subject }) === false) return { _tag: "Refused", reason: "client-not-admitted" }
        yield* use([session.id, row.codeDigest])
        yield* append([yield* has.sessions.begin(session, "redeem")], change)
        return { _tag: "Redeemed" }
      }).pipe(transaction("redeem")),
    sweep: ({ endedBeforeMillis, limit }) =>
      write("sweep")(Effect.map(sweep([endedBeforeMillis, limit]), (swept) => swept.length))
  }
}
