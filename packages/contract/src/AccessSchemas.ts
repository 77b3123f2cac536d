/**
 * Describes sessions, pairing links and the policy as they are sent. Times are ISO 8601 text in UTC.
 */
import { AccessScope } from "@sallyport/core/access/AccessScope"
import { BootstrapMethod, Kind } from "@sallyport/core/access/AuthPolicy"
import { SessionId, SessionMethod } from "@sallyport/core/access/Session"
import * as Text from "@sallyport/core/Text"
import * as Schema from "effect/Schema"

/**
 * Describes a session to a caller who may see it.
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
  /** Whether this session sent the request. */
  current: Schema.Boolean
}) {}

/**
 * Describes a session in the list of sessions.
 *
 * @category models
 * @since 0.1.0
 */
export class ListedSessionView extends SessionView.extend<ListedSessionView>("@sallyport/contract/ListedSessionView")({
  /** How many live sessions descend from it: those that came from its pairing links, and from theirs. */
  descendants: Schema.Natural
}) {}

/**
 * Describes where a page of a list begins: the `next` of the page before.
 *
 * @category models
 * @since 0.1.0
 */
export const PageCursor = Schema.NonEmptyString.check(Schema.isMaxLength(96))

/**
 * Describes where the next page of a list begins, or null after the last one.
 *
 * @category models
 * @since 0.1.0
 */
export const NextPage = Schema.NullOr(PageCursor)

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
  /** Whether the device that redeems it must prove a key, so that its session is bound to that key. */
  needsProof: Schema.Boolean,
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
 * Describes a name that a person types for a device or a link: a line of up to 128 characters.
 *
 * @category models
 * @since 0.1.0
 */
export const Label = Text.typedLine()

/**
 * Describes a pairing code or a seeded credential, of any form up to 512 characters. The schema sets no label, because
 * a client would have to set the same label on the value that it sends.
 *
 * @category models
 * @since 0.1.0
 */
export const Credential = Schema.RedactedFromValue(Schema.String.check(Schema.isMaxLength(512)))

/**
 * Names an attempt to redeem a code: a random value that the client makes, and sends again with the same request if the
 * answer is lost. For a minute the server gives the same answer.
 *
 * @category models
 * @since 0.1.0
 */
export const AttemptKey = Schema.RedactedFromValue(Schema.String.check(Schema.isPattern(/^[\x21-\x7e]{16,128}$/)))

/**
 * Describes what a code would give to who redeems it.
 *
 * @category models
 * @since 0.1.0
 */
export class PairingPreview extends Schema.Class<PairingPreview>("@sallyport/contract/PairingPreview")({
  subject: Schema.NonEmptyString,
  scopes: Schema.Array(AccessScope),
  label: Schema.NullOr(Schema.String),
  /** How long the session would go on without being used. */
  lifetimeSeconds: Schema.Natural,
  /** Until when the code can be redeemed. */
  expiresAt: Schema.DateTimeUtcFromString
}) {}
