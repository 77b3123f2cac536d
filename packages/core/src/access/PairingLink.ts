/**
 * What lists and events show of a pairing link: whom it will let in, with what, until when. It never holds the code.
 */
import * as Schema from "effect/Schema"
import { AccessScope } from "./AccessScope.ts"

/**
 * Describes a pairing link as lists and events show it: without its code.
 *
 * @category models
 * @since 0.1.0
 */
export class PairingLink extends Schema.Class<PairingLink>("@sallyport/core/access/PairingLink")({
  id: Schema.NonEmptyString,
  label: Schema.NullOr(Schema.String),
  subject: Schema.NonEmptyString,
  scopes: Schema.Array(AccessScope),
  remainingUses: Schema.Natural,
  /** Whether the device that redeems it must prove a key, so that its session is bound to that key. */
  needsProof: Schema.Boolean,
  /** The subject that issued it, or `operator`. */
  createdBy: Schema.NonEmptyString,
  /** How long the session goes on without being used, or null if that is as the server's setting says. */
  sessionLifetime: Schema.NullOr(Schema.DurationFromMillis),
  /** The end of the session that no use moves, or null if only the server's setting bounds it. */
  sessionEndsAt: Schema.NullOr(Schema.DateTimeUtcFromMillis),
  createdAt: Schema.DateTimeUtcFromMillis,
  expiresAt: Schema.DateTimeUtcFromMillis
}) {}
