/**
 * Describes sessions, pairing links and the policy as they are sent. Times are ISO 8601 text in UTC.
 */
import { AccessScope } from "@sallyport/core/access/AccessScope"
import { BootstrapMethod, Kind } from "@sallyport/core/access/AuthPolicy"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import {
  DeviceKind,
  LetInBy,
  type Session,
  SessionClient,
  SessionId,
  SessionMethod
} from "@sallyport/core/access/Session"
import type { ListedSession } from "@sallyport/core/access/SessionCredentialService"
import * as Text from "@sallyport/core/Text"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/** Returns a lifetime in whole seconds; one of less than a second is one. */
const secondsOf = (lifetime: Duration.Duration | null): number | null =>
  lifetime === null ? null : Math.max(1, Math.floor(Duration.toSeconds(lifetime)))

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
  /** What it has asked for beside its scopes, or null; from `expiresAt` on there is nothing to answer. */
  scopeRequest: Schema.NullOr(
    Schema.Struct({
      scopes: Schema.Array(AccessScope),
      requestedAt: Schema.DateTimeUtcFromString,
      expiresAt: Schema.DateTimeUtcFromString
    })
  ),
  /**
   * The JWK thumbprint of the key that the session is bound to, or null; for a client, the one that the list of clients has.
   */
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  device: Schema.Struct({
    label: Schema.NullOr(Schema.String),
    kind: DeviceKind,
    userAgent: Schema.NullOr(Schema.String),
    address: Schema.NullOr(Schema.String)
  }),
  letInBy: LetInBy,
  /** The program that it was granted to, by consent or as a device that showed a code; null if a device was paired. */
  client: Schema.NullOr(SessionClient),
  /** How long it goes on without being used, or null if that is as the server's setting says. */
  lifetimeSeconds: Schema.NullOr(Schema.Natural),
  createdAt: Schema.DateTimeUtcFromString,
  lastSeenAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString,
  /** The end that no use moves, or null. */
  absoluteExpiresAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** Whether this session sent the request. */
  current: Schema.Boolean
}) {}

/**
 * Returns what the caller whose session is `current` is shown of a session.
 *
 * @category constructors
 * @since 0.1.0
 */
export const sessionView = (session: Session, current: SessionId | undefined): SessionView =>
  new SessionView({ ...session, lifetimeSeconds: secondsOf(session.lifetime), current: session.id === current })

/**
 * Describes a session in the list of sessions.
 *
 * @category models
 * @since 0.1.0
 */
export class ListedSessionView extends SessionView.extend<ListedSessionView>("@sallyport/contract/ListedSessionView")({
  /** How many live sessions descend from it: those that came from its pairing links, and from theirs. */
  descendants: Schema.Natural,
  /** How many of its connections the server that answers holds open: streams and sockets. It is here now if there is one. */
  connections: Schema.Natural
}) {}

/**
 * Returns what the caller whose session is `current` is shown of a session in the list of sessions.
 *
 * @category constructors
 * @since 0.1.0
 */
export const listedSessionView = (
  { connections, descendants, session }: ListedSession,
  current: SessionId | undefined
): ListedSessionView => new ListedSessionView({ ...sessionView(session, current), descendants, connections })

/**
 * Counts what a revocation has ended: sessions, pairing links that could still be redeemed, and the connections of these
 * sessions that the server that answers held open.
 *
 * @category models
 * @since 0.1.0
 */
export class EndedView extends Schema.Class<EndedView>("@sallyport/contract/EndedView")({
  sessions: Schema.Natural,
  links: Schema.Natural,
  connections: Schema.Natural
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
  /** How long the session goes on without being used, or null if that is as the server's setting says. */
  sessionLifetimeSeconds: Schema.NullOr(Schema.Natural),
  /** The end of the session that no use moves, or null if only the server's setting bounds it. */
  sessionEndsAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  createdAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString
}) {}

/**
 * Returns what a caller is shown of a pairing link.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pairingLinkView = (link: PairingLink): PairingLinkView =>
  new PairingLinkView({ ...link, sessionLifetimeSeconds: secondsOf(link.sessionLifetime) })

/**
 * Describes the policy that the server runs under, for clients that are not signed in yet.
 *
 * @category models
 * @since 0.1.0
 */
export class PolicyView extends Schema.Class<PolicyView>("@sallyport/contract/PolicyView")({
  kind: Kind,
  /** What the owner calls this server. Pages show its address if there is none. */
  name: Schema.NullOr(Schema.String),
  bootstrapMethods: Schema.Array(BootstrapMethod),
  sessionMethods: Schema.Array(SessionMethod),
  /** Whose identities are exchanged for sessions: issuers, and proxies by the name that the host gives them. */
  identities: Schema.Array(Schema.Struct({
    issuer: Schema.String,
    /** The `subject_token_type` with which one is exchanged. */
    tokenType: Schema.String
  })),
  /** Every scope that the host has: the built-in ones that it keeps, and its own. */
  scopes: Schema.Array(AccessScope),
  /** What scopes allow, in the words of the host: those of `AccessScope.titles` that it does not change are left out. */
  scopeTitles: Schema.Record(Schema.String, Schema.String)
}) {}

/**
 * Describes a name that a person types for a device or a link: a line of up to 128 characters.
 *
 * @category models
 * @since 0.1.0
 */
export const Label = Text.typedLine()

/**
 * Describes how long a session may be asked to last: 1 second to 10 years, in seconds.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionLifetimeSeconds = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 315_576_000 }))

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
 * Describes the session that a code would give.
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
  /** The end of the session that no use moves, or null if only the server's setting bounds it. */
  sessionEndsAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** Until when the code can be redeemed. */
  expiresAt: Schema.DateTimeUtcFromString
}) {}
