/**
 * What a session is to a host: the principal of a request, a row of the device list, and the payload of an event. It
 * never holds the token.
 */
import * as Schema from "effect/Schema"
import { AccessScope } from "./AccessScope.ts"

/**
 * Names the kinds of devices: what a browser says it runs on, `browser` if it doesn't say; or a `terminal` or another
 * `program`, which carries a token.
 *
 * @category models
 * @since 0.1.0
 */
export const DeviceKind = Schema.Literals(["desktop", "phone", "tablet", "browser", "terminal", "program"])
/**
 * @see {@link DeviceKind}
 *
 * @category models
 * @since 0.1.0
 */
export type DeviceKind = typeof DeviceKind.Type

/**
 * Describes the device that a session was opened from, as it told and as the server saw it.
 *
 * @category models
 * @since 0.1.0
 */
export class Device extends Schema.Class<Device>("@sallyport/core/access/Session/Device")({
  /** A name for people, such as "Ada's phone". */
  label: Schema.NullOr(Schema.String),
  kind: DeviceKind,
  userAgent: Schema.NullOr(Schema.String),
  /** The peer's address, as text. */
  address: Schema.NullOr(Schema.String)
}) {}

/**
 * Names how a session's token travels and is proven.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionMethod = Schema.Literals(["browser-session-cookie", "bearer-access-token", "dpop-access-token"])
/**
 * @see {@link SessionMethod}
 *
 * @category models
 * @since 0.1.0
 */
export type SessionMethod = typeof SessionMethod.Type

/**
 * Names a session.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionId = Schema.NonEmptyString.pipe(Schema.brand("SessionId"))
/**
 * @see {@link SessionId}
 *
 * @category models
 * @since 0.1.0
 */
export type SessionId = typeof SessionId.Type

/**
 * Begins the name that the access feed and the lists have for an issuer of identities which let a device in: `issuer:` and
 * the issuer's own. No subject begins with it.
 *
 * @category constants
 * @since 0.1.0
 */
export const issuerPrefix = "issuer:"

/**
 * Says who let a session's device in.
 *
 * @category models
 * @since 0.1.0
 */
export const LetInBy = Schema.Struct({
  /**
   * Who issued the pairing link, or began the session without one: a subject, `operator`, `connect` if it was the decision
   * about the client with the session's proof key, or {@link issuerPrefix} and the issuer whose identity was exchanged.
   */
  actor: Schema.NonEmptyString,
  /** The session that issued the link, or null if none did. */
  sessionId: Schema.NullOr(SessionId),
  /** The pairing link, or null if there was none. */
  linkId: Schema.NullOr(Schema.NonEmptyString)
})
/**
 * @see {@link LetInBy}
 *
 * @category models
 * @since 0.1.0
 */
export type LetInBy = typeof LetInBy.Type

/**
 * Says which program a session was granted to, by consent or as a device, and for what.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionClient = Schema.Struct({
  /** The `client_id` (RFC 6749 section 2.2). */
  id: Schema.NonEmptyString,
  /** The resource that the tokens are for, and no other: a path of this server or an absolute URL; null for the API itself. */
  resource: Schema.NullOr(Schema.NonEmptyString)
})
/**
 * @see {@link SessionClient}
 *
 * @category models
 * @since 0.1.0
 */
export type SessionClient = typeof SessionClient.Type

/**
 * Describes the scopes that a session asks for beside those that it has.
 *
 * @category models
 * @since 0.1.0
 */
export const ScopeRequest = Schema.Struct({
  scopes: Schema.Array(AccessScope),
  /** When it asked; no two requests of a session have the same time. */
  requestedAt: Schema.DateTimeUtcFromMillis,
  /** Until when the request can be answered. */
  expiresAt: Schema.DateTimeUtcFromMillis
})
/**
 * @see {@link ScopeRequest}
 *
 * @category models
 * @since 0.1.0
 */
export type ScopeRequest = typeof ScopeRequest.Type

/**
 * Describes a session as the principal of a request, in lists and in events: without its token.
 *
 * @category models
 * @since 0.1.0
 */
export class Session extends Schema.Class<Session>("@sallyport/core/access/Session")({
  id: SessionId,
  subject: Schema.NonEmptyString,
  method: SessionMethod,
  scopes: Schema.Array(AccessScope),
  /** What it has asked for beside its scopes, or null if nothing waits for an answer. */
  scopeRequest: Schema.NullOr(ScopeRequest),
  /** The JWK thumbprint (RFC 7638) that every use of the token must prove, or null for a plain one. */
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  device: Device,
  letInBy: LetInBy,
  /** The program that it was granted to, by consent or as a device that showed a code; null if a device was paired. */
  client: Schema.NullOr(SessionClient),
  /** How long it goes on without being used, or null if that is as the server's setting says. */
  lifetime: Schema.NullOr(Schema.DurationFromMillis),
  createdAt: Schema.DateTimeUtcFromMillis,
  lastSeenAt: Schema.DateTimeUtcFromMillis,
  expiresAt: Schema.DateTimeUtcFromMillis,
  /** The end that no use moves, or null. */
  absoluteExpiresAt: Schema.NullOr(Schema.DateTimeUtcFromMillis)
}) {}

/**
 * Says who ended a session: the actor, and the session that asked, which is the session itself if it signed out; null if the
 * operator or the server did it. `descended` says that it ended with one that it descends from.
 *
 * @category models
 * @since 0.1.0
 */
export const Revocation = Schema.Struct({
  actor: Schema.NonEmptyString,
  sessionId: Schema.NullOr(SessionId),
  descended: Schema.Boolean
})
/**
 * @see {@link Revocation}
 *
 * @category models
 * @since 0.1.0
 */
export type Revocation = typeof Revocation.Type

/**
 * Says to the holder of a token how its session has ended: it was revoked, or with one that it descends from, or signed out;
 * or it was not used for too long, or its time was over.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionEnd = Schema.Struct({
  how: Schema.Literals(["revoked", "descended", "signed-out", "unused", "over"]),
  at: Schema.DateTimeUtcFromString,
  lastSeenAt: Schema.DateTimeUtcFromString,
  /** Who ended it: a subject, `operator`, `system`, or null if none did. */
  actor: Schema.NullOr(Schema.NonEmptyString),
  /** The name of the device that ended it, if it is of the same subject and has one. */
  device: Schema.NullOr(Schema.String)
})
/**
 * @see {@link SessionEnd}
 *
 * @category models
 * @since 0.1.0
 */
export type SessionEnd = typeof SessionEnd.Type

/**
 * Names the session that stands for every request under the policy `unsafe-no-auth`. It has no row.
 *
 * @category models
 * @since 0.1.0
 */
export const endlessSessionId: SessionId = SessionId.make("unsafe-no-auth")
