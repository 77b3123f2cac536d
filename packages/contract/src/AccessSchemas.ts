/**
 * How sessions, pairing links and the policy look on the wire. Times are ISO 8601 text in UTC.
 */
import { AccessScope } from "@sallyport/core/access/AccessScope"
import { BootstrapMethod, Kind } from "@sallyport/core/access/AuthPolicy"
import { SessionId, SessionMethod } from "@sallyport/core/access/Session"
import * as Schema from "effect/Schema"

/**
 * Describes a session to whoever may see it.
 *
 * @category models
 * @since 0.1.0
 */
export class SessionView extends Schema.Class<SessionView>("@sallyport/contract/SessionView")({
  id: SessionId,
  subject: Schema.NonEmptyString,
  method: SessionMethod,
  scopes: Schema.Array(AccessScope),
  device: Schema.Struct({
    label: Schema.NullOr(Schema.String),
    userAgent: Schema.NullOr(Schema.String),
    address: Schema.NullOr(Schema.String)
  }),
  createdAt: Schema.DateTimeUtcFromString,
  lastSeenAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString,
  /** Whether it is the session that asks. */
  current: Schema.Boolean
}) {}

/**
 * Describes a pairing link, without its code.
 *
 * @category models
 * @since 0.1.0
 */
export class PairingLinkView extends Schema.Class<PairingLinkView>("@sallyport/contract/PairingLinkView")({
  id: Schema.NonEmptyString,
  label: Schema.NullOr(Schema.String),
  subject: Schema.NonEmptyString,
  scopes: Schema.Array(AccessScope),
  remainingUses: Schema.Natural,
  createdBy: Schema.NonEmptyString,
  createdAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString
}) {}

/**
 * Describes the policy that the server runs under, for clients that are not signed in yet.
 *
 * @category models
 * @since 0.1.0
 */
export class PolicyView extends Schema.Class<PolicyView>("@sallyport/contract/PolicyView")({
  kind: Kind,
  bootstrapMethods: Schema.Array(BootstrapMethod),
  sessionMethods: Schema.Array(SessionMethod)
}) {}

/**
 * A name for a device or a link, as people type it: up to 128 characters, no control characters, no lone surrogates.
 *
 * @category models
 * @since 0.1.0
 */
export const Label = Schema.Trim.check(Schema.isPattern(/^[^\p{Cc}\p{Cs}]{1,128}$/u))

/**
 * A pairing code or a seeded credential, of any form up to 512 characters. It has no label, which a client would have to
 * give to what it sends.
 *
 * @category models
 * @since 0.1.0
 */
export const Credential = Schema.RedactedFromValue(Schema.String.check(Schema.isMaxLength(512)))
