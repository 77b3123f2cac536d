/**
 * The rows of pairing links: what is stored of one, and what it says alone.
 */
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { AccessScope } from "../AccessScope.ts"
import { PairingLink } from "../PairingLink.ts"
import { SessionId } from "../Session.ts"

/**
 * Stands for the key of a link that takes any key, if the redeemer proves it. No thumbprint is written so.
 *
 * @category constants
 * @since 0.1.0
 */
export const anyKey = "*"

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
