/**
 * Keeps connect clients in the table `<prefix>connect_clients`, and the security mode in `<prefix>connect_settings`.
 *
 * On PostgreSQL a step takes its locks in one order: the row of the mode, clients, sessions by id, tickets by digest, links
 * by id, the same again for each generation that descends from these sessions, the feed's head. The first makes the steps on
 * the clients of a store follow each other, so that a verdict on what was read is one on what is written.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Dialect from "../../sql/Dialect.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type { AccessChange, ChangeContext } from "../AccessEvent.ts"
import { toPairingLink } from "../BootstrapCredentialRepository.ts"
import {
  type ConnectClientRepository,
  ConnectClientRow,
  type DecisionOutcome,
  decisionVerdict,
  deviceGrant,
  mayRedeem,
  pollVerdict,
  requestVerdict,
  trusted,
  upserted,
  type Verdict
} from "../ConnectClientRepository.ts"
import type { SessionId } from "../Session.ts"
import { live, redeemable } from "./sqlEnds.ts"
import type * as SqlEnds from "./sqlEnds.ts"
import type { Append } from "./sqlFeed.ts"
import type * as SqlLinks from "./sqlLinks.ts"

const observedPage = 256

/** Makes the connect clients of a store. */
export const make = (kit: SqlKit, append: Append, has: {
  readonly links: ReturnType<typeof SqlLinks.make>
  readonly ends: ReturnType<typeof SqlEnds.make>
}) => {
  const { read, statement, transaction } = kit
  const rows = kit.rows("connect_clients", ConnectClientRow)
  const { columns } = rows
  const clients = kit.table("connect_clients")
  const settings = kit.table("connect_settings")
  const sessions = kit.table("sessions")
  const links = kit.table("pairing_links")
  const one = kit.first(rows.decode)
  const many = kit.all(rows.decode)
  const key = "proof_key_thumbprint"

  const modeOf = (found: ReadonlyArray<{ readonly mode: unknown }>): unknown => found[0]?.mode
  const selectMode = statement<{ readonly mode: unknown }>(`SELECT mode FROM ${settings} WHERE id = 1`)
  const selectModeLocked = statement<{ readonly mode: unknown }>(
    `SELECT mode FROM ${settings} WHERE id = 1${kit.isPg ? " FOR UPDATE" : ""}`
  )
  const selectModeShared = statement<{ readonly mode: unknown }>(
    `SELECT mode FROM ${settings} WHERE id = 1${kit.isPg ? " FOR SHARE" : ""}`
  )
  const readMode = Effect.map(selectMode([]), modeOf)
  const lockMode = Effect.map(selectModeLocked([]), modeOf)
  const writeMode = statement(`UPDATE ${settings} SET mode = ? WHERE id = 1`)
  const byKey = one(`SELECT ${columns} FROM ${clients} WHERE ${key} = ?`)
  const byPrefix = many(`SELECT ${columns} FROM ${clients} WHERE ${key} >= ? AND ${key} < ? ORDER BY ${key} LIMIT 2`)
  const byDeviceCode = one(`SELECT ${columns} FROM ${clients} WHERE device_code_digest = ?`)
  const waitingWithCode = many(
    `SELECT ${columns} FROM ${clients}
    WHERE verification_code = ? AND device_code_digest IS NOT NULL AND status = 'pending' AND pending_until_millis > ?
    ORDER BY ${key} LIMIT 2`
  )
  const list = many(
    `SELECT ${columns} FROM ${clients}
    WHERE requested_at_millis <= ? AND (requested_at_millis < ? OR ${key} > ?)
    ORDER BY requested_at_millis DESC, ${key} LIMIT ?`
  )
  const countOthers = statement<{ readonly waiting: unknown; readonly observed: unknown }>(
    `SELECT
      (SELECT COUNT(*) FROM ${clients} WHERE account = ? AND status = 'pending'
        AND pending_until_millis > ? AND ${key} <> ?) AS waiting,
      (SELECT COUNT(*) FROM ${clients} WHERE account = ? AND status = 'observed' AND ${key} <> ?) AS observed`
  )
  const observedAfter = many(
    `SELECT ${columns} FROM ${clients} WHERE status = 'observed' AND ${key} > ? ORDER BY ${key} LIMIT ?`
  )
  const store = statement(`${rows.insert} ON CONFLICT (${key}) DO UPDATE SET ${rows.excluded([key])}`)
  const write = (row: ConnectClientRow) => store(rows.values(row))
  const linkOf = kit.isPg ? "CAST(client.device AS JSON) ->> 'linkId'" : "client.device ->> '$.linkId'"
  const sweep = statement<{ readonly proof_key_thumbprint: string }>(
    `DELETE FROM ${clients} WHERE ${key} IN (
      SELECT ${key} FROM ${clients} AS client
      WHERE ((status = 'pending' AND pending_until_millis <= ?)
        OR ((status IN ('observed', 'rejected', 'revoked') OR (status = 'approved' AND device_code_digest IS NOT NULL))
          AND requested_at_millis <= ?
          AND COALESCE(last_seen_at_millis, 0) <= ? AND COALESCE(decided_at_millis, 0) <= ?
          AND COALESCE(ask_again_at_millis, 0) <= ?))
        AND NOT EXISTS (SELECT 1 FROM ${sessions} AS session
          WHERE (session.${key} = client.${key} OR session.link_id = ${linkOf}) AND ${live("session.")})
        AND NOT EXISTS (SELECT 1 FROM ${links} AS link
          WHERE (link.${key} = client.${key} OR link.id = ${linkOf}) AND ${redeemable("link.")})
      ORDER BY ${key} LIMIT ?
    ) RETURNING ${key}`
  )

  /** Ends what keys have, and returns the events. */
  const endKeys = (
    proofKeyThumbprints: ReadonlyArray<string>,
    keep: SessionId | undefined,
    change: ChangeContext,
    linkId?: string
  ) =>
    proofKeyThumbprints.length === 0
      ? Effect.succeed([])
      : Effect.map(
        has.ends.end(
          { _tag: "ProofKeys", proofKeyThumbprints, linkIds: linkId === undefined ? undefined : [linkId], keep },
          change
        ),
        ({ changes }): Array<AccessChange> => changes
      )

  /** Writes what a verdict asks for, and returns its events, to be appended last. */
  const apply = Effect.fnUntraced(function*<Outcome>(
    thumbprint: string,
    before: ConnectClientRow | undefined,
    verdict: Verdict<Outcome>,
    keep: SessionId | undefined,
    change: ChangeContext
  ) {
    if (verdict.store !== undefined) yield* write(verdict.store)
    const changes: Array<AccessChange> = verdict.endsAccess
      ? yield* endKeys([thumbprint], keep, change, before?.device?.linkId)
      : []
    if (verdict.store !== undefined) changes.push(upserted(verdict.store))
    return changes
  })

  const repository: ConnectClientRepository = {
    request: (ask, grant, change) =>
      Effect.gen(function*() {
        const { nowMillis } = change
        const thumbprint = ask.proofKeyThumbprint
        const storedMode = yield* lockMode
        const row = Option.getOrUndefined(yield* byKey([thumbprint]))
        const [others] = yield* countOthers([ask.account, nowMillis, thumbprint, ask.account, thumbprint])
        const verdict = requestVerdict({
          storedMode,
          row,
          ask,
          others: { waiting: Dialect.toNatural(others?.waiting), observed: Dialect.toNatural(others?.observed) },
          nowMillis
        })
        const changes = yield* apply(thumbprint, row, verdict, undefined, change)
        if (verdict.outcome._tag === "Granted" && grant !== undefined) {
          yield* has.links.insert(grant)
          changes.push({ _tag: "pairingLinkUpserted", link: toPairingLink(grant) })
        }
        yield* append(changes, change)
        return verdict.outcome
      }).pipe(transaction("request")),
    decide: (deciding, change) =>
      Effect.gen(function*(): Effect.fn.Return<DecisionOutcome, unknown> {
        yield* lockMode
        const row = Option.getOrUndefined(yield* byKey([deciding.proofKeyThumbprint]))
        const verdict = decisionVerdict(row, deciding, change)
        const grant = verdict.outcome._tag === "Decided" ? deviceGrant(row, deciding, change) : undefined
        if (grant !== undefined && grant.issuedBy !== null && !(yield* has.links.lockIssuer(grant.issuedBy, change))) {
          return { _tag: "ApproverEnded" }
        }
        const changes = yield* apply(deciding.proofKeyThumbprint, row, verdict, deciding.keep, change)
        if (grant !== undefined) {
          yield* has.links.insert(grant)
          changes.unshift({ _tag: "pairingLinkUpserted", link: toPairingLink(grant) })
        }
        yield* append(changes, change)
        return verdict.outcome
      }).pipe(transaction("decide")),
    poll: ({ account, deviceCodeDigest }, change) =>
      Effect.gen(function*() {
        yield* lockMode
        const row = Option.getOrUndefined(yield* byDeviceCode([deviceCodeDigest]))
        const { outcome, store: polled } = pollVerdict(row, account, change.nowMillis)
        if (polled !== undefined) yield* write(polled)
        if (polled !== undefined && outcome._tag === "Approved") yield* append([upserted(polled)], change)
        return outcome
      }).pipe(transaction("poll")),
    findByCode: ({ nowMillis, verificationCode }) => read("findByCode")(waitingWithCode([verificationCode, nowMillis])),
    find: (thumbprint) => read("find")(byKey([thumbprint])),
    // No character of base64url comes after `z`.
    findByPrefix: (prefix) => read("findByPrefix")(byPrefix([prefix, `${prefix}{`])),
    list: ({ after, limit }) => {
      const before = after?.requestedAtMillis ?? Number.MAX_SAFE_INTEGER
      return read("list")(list([before, before, after?.proofKeyThumbprint ?? "", limit]))
    },
    storedMode: read("storedMode")(readMode),
    setMode: ({ keep, mode, trust }, change) =>
      Effect.gen(function*() {
        const before = yield* lockMode
        yield* writeMode([mode])
        const approved: Array<ConnectClientRow> = []
        const others: Array<string> = []
        let last = ""
        while (true) {
          const page = yield* observedAfter([last, observedPage])
          for (const row of page) {
            last = row.proofKeyThumbprint
            if (trust === "all" || trust.includes(last)) approved.push(trusted(row, change))
            else others.push(last)
          }
          if (page.length < observedPage) break
        }
        for (const row of approved) yield* write(row)
        const changes: Array<AccessChange> = mode === "client-approval"
          ? yield* endKeys(others, keep, change)
          : []
        if (before !== mode) changes.push({ _tag: "connectSecurityModeUpdated", mode })
        for (const row of approved) changes.push(upserted(row))
        yield* append(changes, change)
        return approved
      }).pipe(transaction("setMode")),
    sweep: ({ idleBeforeMillis, limit }, change) =>
      Effect.gen(function*() {
        yield* lockMode
        const idle = idleBeforeMillis
        const { nowMillis } = change
        const swept = yield* sweep([nowMillis, idle, idle, idle, idle, nowMillis, nowMillis, limit])
        const gone = swept.map((row) => row.proof_key_thumbprint).sort()
        yield* append(
          gone.map((proofKeyThumbprint) => ({ _tag: "connectClientRemoved", proofKeyThumbprint, reason: "expired" })),
          change
        )
        return gone.length
      }).pipe(transaction("sweep"))
  }
  return {
    repository,
    /** Tells whether the holder of a key may redeem a link. No step on the clients comes between that and the commit. */
    lookAt: Effect.fnUntraced(function*(thumbprint: string) {
      const storedMode = modeOf(yield* selectModeShared([]))
      const row = Option.getOrUndefined(yield* byKey([thumbprint]))
      return (link: { readonly createdBy: string }): boolean => mayRedeem(storedMode, row, link)
    })
  }
}
