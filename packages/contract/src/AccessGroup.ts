/**
 * Describes the endpoint through which a client follows the changes of pairing links and sessions.
 *
 * A client decodes tolerantly, so that an older client works with a newer server: an unknown method, scope or reason is
 * text, an unknown field is left out, and an unknown event is an {@link UnknownEvent} that the client skips.
 */
import { AccessEventKind } from "@sallyport/core/access/AccessEvent"
import * as Text from "@sallyport/core/Text"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { RequestErrors, requires } from "./Authentication.ts"
import { InvalidRequest, TooManyRequests, Unavailable } from "./WireError.ts"

/**
 * Describes a session in the feed.
 *
 * @category models
 * @since 0.1.0
 */
export const FeedSession = Schema.Struct({
  id: Schema.NonEmptyString,
  subject: Schema.String,
  method: Schema.String,
  scopes: Schema.Array(Schema.String),
  /** What it has asked for beside its scopes, or null: see `SessionView`. */
  scopeRequest: Schema.optionalKey(
    Schema.NullOr(
      Schema.Struct({
        scopes: Schema.Array(Schema.String),
        requestedAt: Schema.DateTimeUtcFromString,
        expiresAt: Schema.DateTimeUtcFromString
      })
    )
  ),
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  device: Schema.Struct({
    label: Schema.NullOr(Schema.String),
    kind: Schema.String,
    userAgent: Schema.NullOr(Schema.String),
    address: Schema.NullOr(Schema.String)
  }),
  /** Who let the device in: see `SessionView`. */
  letInBy: Schema.Struct({
    actor: Schema.String,
    sessionId: Schema.NullOr(Schema.String),
    linkId: Schema.NullOr(Schema.String)
  }),
  /** The program that it was granted to, or null: see `SessionView`. */
  client: Schema.NullOr(Schema.Struct({ id: Schema.String, resource: Schema.NullOr(Schema.String) })),
  lifetimeSeconds: Schema.NullOr(Schema.Natural),
  createdAt: Schema.DateTimeUtcFromString,
  lastSeenAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString,
  absoluteExpiresAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** Whether this session sent the request. */
  current: Schema.Boolean
})

/**
 * Describes a pairing link in the feed, without its code.
 *
 * @category models
 * @since 0.1.0
 */
export const FeedPairingLink = Schema.Struct({
  id: Schema.NonEmptyString,
  label: Schema.NullOr(Schema.String),
  subject: Schema.String,
  scopes: Schema.Array(Schema.String),
  remainingUses: Schema.Natural,
  /** Whether the device that redeems it must prove a key, so that its session is bound to that key. */
  needsProof: Schema.Boolean,
  createdBy: Schema.String,
  sessionLifetimeSeconds: Schema.NullOr(Schema.Natural),
  sessionEndsAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  createdAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString
})

/**
 * Describes a credential in the feed, without its value.
 *
 * @category models
 * @since 0.1.0
 */
export const FeedCredential = Schema.Struct({
  scope: Schema.String,
  owner: Schema.String,
  key: Schema.String,
  createdAt: Schema.DateTimeUtcFromString,
  updatedAt: Schema.DateTimeUtcFromString,
  updatedBy: Schema.String,
  /** Until when the credential counts as rejected by its provider, or null. */
  rejectedUntil: Schema.NullOr(Schema.DateTimeUtcFromString)
})

/**
 * Describes a client that connects through a relay, or a device that comes in by a code, in the feed.
 *
 * @category models
 * @since 0.1.0
 */
export const FeedConnectClient = Schema.Struct({
  proofKeyThumbprint: Schema.String,
  account: Schema.String,
  label: Schema.NullOr(Schema.String),
  deviceType: Schema.String,
  status: Schema.String,
  /** What a device asks for; absent for a client of a relay. */
  requestedScopes: Schema.optionalKey(Schema.Array(Schema.String)),
  /** What its owner gave it of that; absent unless it is an approved device. */
  grantedScopes: Schema.optionalKey(Schema.Array(Schema.String)),
  /** What the client's screen shows while it waits. */
  verificationCode: Schema.String,
  firstSeenAt: Schema.DateTimeUtcFromString,
  requestedAt: Schema.DateTimeUtcFromString,
  pendingUntil: Schema.NullOr(Schema.DateTimeUtcFromString),
  decidedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  decidedBy: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  lastSeenAt: Schema.NullOr(Schema.DateTimeUtcFromString)
})

/**
 * Tells a reader why the feed stops. After a retryable failure the reader may continue from its last revision.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessStreamFailure = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  retryable: Schema.Boolean,
  /** Under which the server's log has the cause, if the fault is the server's. */
  traceId: Schema.optionalKey(Schema.String)
})

/** Holds what every change carries: its revision, its actor and its time. */
const change = {
  revision: Schema.Natural,
  actor: Schema.String,
  at: Schema.DateTimeUtcFromString
}

/**
 * Describes the data of each event that this version knows, by the event's name.
 *
 * @category constants
 * @since 0.1.0
 */
export const feedData = {
  snapshot: Schema.Struct({
    revision: Schema.Natural,
    pairingLinks: Schema.Array(FeedPairingLink),
    sessions: Schema.Array(FeedSession),
    connectClients: Schema.optionalKey(Schema.Array(FeedConnectClient)),
    /** Absent if the server cannot read the mode. A client must then assume neither mode. */
    connectSecurityMode: Schema.optionalKey(Schema.String)
  }),
  pairingLinkUpserted: Schema.Struct({ ...change, link: FeedPairingLink }),
  pairingLinkRemoved: Schema.Struct({ ...change, id: Schema.String, reason: Schema.String }),
  connectClientUpserted: Schema.Struct({ ...change, client: FeedConnectClient }),
  connectClientRemoved: Schema.Struct({ ...change, proofKeyThumbprint: Schema.String, reason: Schema.String }),
  connectSecurityModeUpdated: Schema.Struct({ ...change, mode: Schema.String }),
  sessionUpserted: Schema.Struct({ ...change, session: FeedSession }),
  sessionRemoved: Schema.Struct({ ...change, id: Schema.String, reason: Schema.String }),
  credentialUpserted: Schema.Struct({ ...change, credential: FeedCredential }),
  credentialRemoved: Schema.Struct({ ...change, scope: Schema.String, owner: Schema.String, key: Schema.String }),
  credentialRead: Schema.Struct({
    ...change,
    source: Schema.String,
    owner: Schema.String,
    key: Schema.String,
    count: Schema.Natural
  }),
  /** The feed has come to this revision by changes of others, which the session does not reach. */
  revisionAdvanced: Schema.Struct({ revision: Schema.Natural }),
  failure: AccessStreamFailure
} as const

const id = Schema.optionalKey(Schema.UndefinedOr(Schema.String))

/**
 * Describes an event of a later version. Its data is text; a client keeps its id and ignores the rest.
 *
 * @category models
 * @since 0.1.0
 */
export const UnknownEvent = Schema.Struct({ id, event: Schema.String, data: Schema.String })

const event = <const Name extends keyof typeof feedData>(name: Name) =>
  Schema.Struct({ id, event: Schema.Literal(name), data: Schema.fromJsonString(feedData[name]) })

/**
 * Describes the events that this version knows.
 *
 * @category models
 * @since 0.1.0
 */
export const KnownEvent = Schema.Union([
  event("snapshot"),
  event("pairingLinkUpserted"),
  event("pairingLinkRemoved"),
  event("connectClientUpserted"),
  event("connectClientRemoved"),
  event("connectSecurityModeUpdated"),
  event("sessionUpserted"),
  event("sessionRemoved"),
  event("credentialUpserted"),
  event("credentialRemoved"),
  event("credentialRead"),
  event("revisionAdvanced"),
  event("failure")
])

/**
 * Describes the events of the stream. `id` is the revision to resume after. The stream begins with `snapshot` unless it
 * resumes, and ends after `failure`.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessStreamEvent = Schema.Union([...KnownEvent.members, UnknownEvent])

const message = <const Name extends keyof typeof feedData>(name: Name) =>
  Schema.Struct({ id, event: Schema.Literal(name), data: feedData[name] })

/**
 * Describes the messages of the same endpoint over WebSocket, each as JSON text. A `heartbeat` without data keeps an
 * idle connection alive; clients skip it.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessMessage = Schema.fromJsonString(Schema.Union([
  message("snapshot"),
  message("pairingLinkUpserted"),
  message("pairingLinkRemoved"),
  message("connectClientUpserted"),
  message("connectClientRemoved"),
  message("connectSecurityModeUpdated"),
  message("sessionUpserted"),
  message("sessionRemoved"),
  message("credentialUpserted"),
  message("credentialRemoved"),
  message("credentialRead"),
  message("revisionAdvanced"),
  message("failure"),
  Schema.Struct({ id, event: Schema.String, data: Schema.optionalKey(Schema.Json) })
]))

const entry = <const Name extends keyof typeof feedData>(name: Name) =>
  Schema.Struct({ event: Schema.Literal(name), data: feedData[name] })

const knownEntries = [
  entry("pairingLinkUpserted"),
  entry("pairingLinkRemoved"),
  entry("connectClientUpserted"),
  entry("connectClientRemoved"),
  entry("connectSecurityModeUpdated"),
  entry("sessionUpserted"),
  entry("sessionRemoved"),
  entry("credentialUpserted"),
  entry("credentialRemoved"),
  entry("credentialRead")
] as const

/**
 * Describes a change of the feed that this version knows: the name and the data of its event in the stream.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessChangeEntry = Schema.Union(knownEntries)
/**
 * @see {@link AccessChangeEntry}
 *
 * @category models
 * @since 0.1.0
 */
export type AccessChangeEntry = typeof AccessChangeEntry.Type

/**
 * Describes a past event, which may be one of a later version.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessEntry = Schema.Union([...knownEntries, Schema.Struct({ event: Schema.String, data: Schema.Json })])
/**
 * @see {@link AccessEntry}
 *
 * @category models
 * @since 0.1.0
 */
export type AccessEntry = typeof AccessEntry.Type

/**
 * Describes a page of past events, the newest first. `next` is the `before` of the following page, or null after the oldest
 * event that is kept. A page may be short, or empty, and have a next one: the server looks at so many events for one at most.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessHistory = Schema.Struct({
  events: Schema.Array(AccessEntry),
  next: Schema.NullOr(Schema.Natural),
  /** How long an event is kept, in seconds. Absent if the server deletes no events itself, and so does not know. */
  retentionSeconds: Schema.optionalKey(Schema.Natural)
})

const cursorText = Schema.String.check(Schema.isMaxLength(64))

/**
 * Groups the endpoints of the access feed: what there is and what changes, and what has happened. A session reads of
 * its own subject; of everyone with the scope `access:manage`, and of connecting clients with `connect:manage`.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class AccessGroup extends HttpApiGroup.make("access").add(
  HttpApiEndpoint.get("follow", "/api/auth/access", {
    headers: { "last-event-id": Schema.optionalKey(cursorText) },
    query: {
      /** The last revision seen. If the server cannot continue from it, a snapshot comes first. */
      after: Schema.optionalKey(cursorText),
      /** A ticket, for a client that cannot set a header on a WebSocket upgrade. */
      ticket: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(512)))
    },
    success: HttpApiSchema.StreamSse({ events: AccessStreamEvent }),
    error: [InvalidRequest, TooManyRequests, Unavailable]
  }).pipe(requires("access:read")),
  HttpApiEndpoint.get("history", "/api/auth/access/events", {
    query: {
      /** The revision before which to begin; absent for the newest. */
      before: Schema.optionalKey(cursorText),
      kind: Schema.optionalKey(AccessEventKind),
      /** Text that the actor or something else in the event contains, in any case. */
      search: Schema.optionalKey(Text.typedLine())
    },
    success: AccessHistory,
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("access:read"))
).middleware(RequestErrors) {}
