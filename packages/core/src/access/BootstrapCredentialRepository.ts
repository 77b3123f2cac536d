/**
 * Where pairing links are kept: a few atomic steps on rows, without policy.
 *
 * Every step that changes a link appends its event to the access feed in the same transaction.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AccessChange, ChangeContext } from "./AccessEvent.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import { AccessScope, missing } from "./AccessScope.ts"
import { PairingLink } from "./PairingLink.ts"
import { SessionId } from "./Session.ts"
import type { SessionRow } from "./SessionCredentialRepository.ts"

/**
 * Stands for the key of a link that takes any key, if the redeemer proves it. No thumbprint is written so.
 *
 * @category constants
 * @since 0.1.0
 */
export const anyKey = "*"

/**
 * Tells whether a proven key, or null, is what is asked for: a thumbprint, {@link anyKey}, or null for no key.
 *
 * @category predicates
 * @since 0.1.0
 */
export const provesKey = (wanted: string | null, proven: string | null): boolean =>
  wanted === null || (wanted === anyKey ? proven !== null : wanted === proven)

/**
 * Describes a pairing link as it is stored. Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const PairingLinkRow = Schema.Struct({
  id: Schema.NonEmptyString,
  /** The keyed digest of the code, in lowercase hex. Unique. */
  codeDigest: Schema.NonEmptyString,
  label: Schema.NullOr(Schema.String),
  /** Whom a session that is issued for this link belongs to. */
  subject: Schema.NonEmptyString,
  scopes: Schema.Array(AccessScope),
  /**
   * The JWK thumbprint (RFC 7638) of the only key that may redeem the link, {@link anyKey} if any key will do that the
   * redeemer proves, or null.
   */
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  remainingUses: Schema.Natural,
  createdBy: Schema.NonEmptyString,
  /** The session that issued the link, whose end is the link's; null if it is the operator's, or a relay's grant. */
  issuedBy: Schema.NullOr(SessionId),
  /** How long a session that is issued for this link goes on without being used, or null if the service says. */
  sessionLifetimeMillis: Schema.NullOr(Schema.Natural),
  /** The end of such a session that no use moves, or null if the service says. */
  sessionEndsAtMillis: Schema.NullOr(Schema.Natural),
  createdAtMillis: Schema.Natural,
  expiresAtMillis: Schema.Natural,
  revokedAtMillis: Schema.NullOr(Schema.Natural)
})
/**
 * @see {@link PairingLinkRow}
 *
 * @category models
 * @since 0.1.0
 */
export type PairingLinkRow = typeof PairingLinkRow.Type

/**
 * Returns what hosts and events see of a row.
 *
 * @category converting
 * @since 0.1.0
 */
export const toPairingLink = (row: PairingLinkRow): PairingLink =>
  new PairingLink({
    id: row.id,
    label: row.label,
    subject: row.subject,
    scopes: row.scopes,
    remainingUses: row.remainingUses,
    needsProof: row.proofKeyThumbprint !== null,
    createdBy: row.createdBy,
    sessionLifetime: row.sessionLifetimeMillis === null ? null : Duration.millis(row.sessionLifetimeMillis),
    sessionEndsAt: row.sessionEndsAtMillis === null ? null : DateTime.makeUnsafe(row.sessionEndsAtMillis),
    createdAt: DateTime.makeUnsafe(row.createdAtMillis),
    expiresAt: DateTime.makeUnsafe(row.expiresAtMillis)
  })

/**
 * Tells whether a link can be redeemed at a time.
 *
 * @category guards
 * @since 0.1.0
 */
export const isRedeemable = (row: PairingLinkRow, nowMillis: number): boolean =>
  row.revokedAtMillis === null && row.remainingUses > 0 && row.expiresAtMillis > nowMillis

/**
 * Says why a code was refused. For the log: a caller learns less.
 *
 * @category models
 * @since 0.1.0
 */
export type RefusalReason =
  | "unknown"
  | "revoked"
  | "expired"
  | "exhausted"
  | "proof-key-mismatch"
  | "scope-not-granted"
  | "client-not-admitted"

/**
 * Describes an attempt to redeem a code.
 *
 * @category models
 * @since 0.1.0
 */
export interface Redemption {
  readonly codeDigest: string
  /** The session to begin. Its scopes are what is asked for, and its key is the one that was proven. */
  readonly session: SessionRow
  /** How long after it began a session is the answer to the same attempt, by the store's clock. */
  readonly repeatMillis: number
  /** The session that ends when the new one begins. */
  readonly replaces: SessionId | undefined
}

/**
 * Describes what came of an attempt to redeem a code.
 *
 * @category models
 * @since 0.1.0
 */
export type RedeemOutcome =
  | { readonly _tag: "Redeemed"; readonly link: PairingLinkRow }
  /** The same attempt was made before, and has begun this session. Nothing was changed. */
  | { readonly _tag: "Repeated"; readonly session: SessionRow }
  /** Nothing was changed. */
  | { readonly _tag: "Refused"; readonly reason: RefusalReason }

/**
 * Names the first check that a row fails, in the order in which a caller may learn of it.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refusal = (row: PairingLinkRow | undefined, attempt: {
  readonly scopes: ReadonlyArray<AccessScope>
  readonly proofKeyThumbprint: string | null
  readonly nowMillis: number
}): RefusalReason | undefined => {
  if (row === undefined) return "unknown"
  if (row.revokedAtMillis !== null) return "revoked"
  if (row.expiresAtMillis <= attempt.nowMillis) return "expired"
  if (row.remainingUses === 0) return "exhausted"
  if (!provesKey(row.proofKeyThumbprint, attempt.proofKeyThumbprint)) return "proof-key-mismatch"
  if (missing(row.scopes, attempt.scopes).length > 0) return "scope-not-granted"
  return undefined
}

/**
 * Returns the event of a link that has been redeemed once more.
 *
 * @category converting
 * @since 0.1.0
 */
export const used = (row: PairingLinkRow): AccessChange =>
  row.remainingUses === 0
    ? { _tag: "pairingLinkRemoved", id: row.id, subject: row.subject, reason: "consumed" }
    : { _tag: "pairingLinkUpserted", link: toPairingLink(row) }

/**
 * Describes what came of an attempt to store a link. Only `inserted` changed anything.
 *
 * @category models
 * @since 0.1.0
 */
export type InsertOutcome = "inserted" | "digest-exists" | "issuer-ended" | "too-many-open" | "too-many-let-in"

/** How long a link is remembered after its end, in milliseconds. */
const rememberedMillis = 86_400_000

/**
 * Says how a link has ended, to the holder of its code, for a day after its end: it was used up, was revoked or has
 * expired. A link that was used up ends when it would have expired.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const endOf = (row: PairingLinkRow, nowMillis: number): Option.Option<"used" | "expired" | "revoked"> => {
  const how = row.revokedAtMillis !== null
    ? "revoked"
    : row.remainingUses === 0
    ? "used"
    : row.expiresAtMillis <= nowMillis
    ? "expired"
    : undefined
  const isRemembered = nowMillis <= (row.revokedAtMillis ?? row.expiresAtMillis) + rememberedMillis
  return isRemembered ? Option.fromUndefinedOr(how) : Option.none()
}

/**
 * Provides the atomic steps on pairing links.
 *
 * @category models
 * @since 0.1.0
 */
export interface BootstrapCredentialRepository {
  /**
   * Stores a new link and appends `pairingLinkUpserted`, in one transaction. Changes nothing, and says why, if a link with
   * this digest exists, spent or not; if the session that issues it is not live; if that session has `maxOpen` links that
   * can be redeemed; or if what it has let in (`countLetIn` of `Lineage`), with the uses of this one, would be more than
   * `maxLetIn`. Both are unbounded if absent. The id is a fresh random value; one that exists
   * already is an error and changes nothing.
   */
  readonly insert: (
    row: PairingLinkRow,
    change: ChangeContext,
    maxOpen?: number,
    maxLetIn?: number
  ) => Effect.Effect<InsertOutcome, RepositoryError>
  /** Returns the link of a code, whether or not it can be redeemed. */
  readonly findByCodeDigest: (codeDigest: string) => Effect.Effect<Option.Option<PairingLinkRow>, RepositoryError>
  /**
   * Takes one use of a link and begins a session for it, in one step: if it fails, the code is unspent and there is no
   * session.
   *
   * First it looks for a live session with the `redemptionDigest` of the one to begin, that was stored less than
   * `repeatMillis` ago by the store's clock: that is `Repeated`, with the first by its id of several. Otherwise {@link
   * refusal} decides, of racers one after the other, so that exactly `remainingUses` of them get `Redeemed`; and the client
   * with the session's key, if there is one, has to be admitted at that moment (`mayRedeem` of `ConnectClientRepository`).
   *
   * The session of `replaces` is revoked as by `revoke`, if it is live. The events are `pairingLinkUpserted`, or
   * `pairingLinkRemoved` after the last use, those of that revocation, and `sessionUpserted`, in this order. The id and the
   * digest of the new session are fresh random values; one that exists already is an error and changes nothing.
   */
  readonly redeem: (redemption: Redemption, change: ChangeContext) => Effect.Effect<RedeemOutcome, RepositoryError>
  /**
   * Returns the links that can still be redeemed, all or those for a subject, newest first, those of one time by their ids
   * from the last on, after a link or from the start, at most `limit`.
   */
  readonly list: (options: {
    readonly nowMillis: number
    readonly subject?: string | undefined
    readonly after?: Pick<PairingLinkRow, "createdAtMillis" | "id"> | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<PairingLinkRow>, RepositoryError>
  /**
   * Revokes a link that can still be redeemed and is for a subject, if one is given, and appends `pairingLinkRemoved`, in
   * one transaction. Returns true to exactly one of n racers; false says that there is no such link, and that nothing was
   * changed.
   */
  readonly revoke: (id: string, change: ChangeContext, subject?: string) => Effect.Effect<boolean, RepositoryError>
  /**
   * Deletes at most `limit` links that were revoked or expired at or before `endedBeforeMillis` (a spent link ends when it
   * expires), those that ended first before others. One that expired unspent gets a `pairingLinkRemoved`. Returns how many
   * went. A row is deleted by exactly one of n racers; one that another caller is writing may be left for the next sweep.
   */
  readonly sweep: (options: {
    readonly endedBeforeMillis: number
    readonly limit: number
  }, change: ChangeContext) => Effect.Effect<number, RepositoryError>
}
