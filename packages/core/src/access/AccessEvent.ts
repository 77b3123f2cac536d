/**
 * The events of the access feed: what changed in the pairing links, sessions, connect clients, security mode and
 * credentials of one store, in order, without a secret in any of them.
 */
import * as Schema from "effect/Schema"
import { ConnectClient, SecurityMode } from "./ConnectClient.ts"
import { PairingLink } from "./PairingLink.ts"
import { CredentialScope, ScopedCredential } from "./ScopedCredential.ts"
import { Session, SessionId } from "./Session.ts"

/**
 * Says who changed something: a subject, `operator` for the operator of the host, or `system` for upkeep. `connect`, who issued
 * the links of connecting clients, is no subject's either.
 *
 * @category models
 * @since 0.1.0
 */
export const Actor = Schema.NonEmptyString
/**
 * @see {@link Actor}
 *
 * @category models
 * @since 0.1.0
 */
export type Actor = typeof Actor.Type

/**
 * Lists what can happen, each with its payload. New types may follow; a reader passes over those it doesn't know.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessChange = Schema.Union([
  Schema.TaggedStruct("pairingLinkUpserted", { link: PairingLink }),
  Schema.TaggedStruct("pairingLinkRemoved", {
    id: Schema.NonEmptyString,
    /** Whom it was for. */
    subject: Schema.NonEmptyString,
    reason: Schema.Literals(["consumed", "revoked", "expired"])
  }),
  Schema.TaggedStruct("connectClientUpserted", { client: ConnectClient }),
  Schema.TaggedStruct("connectClientRemoved", {
    proofKeyThumbprint: Schema.NonEmptyString,
    reason: Schema.Literals(["expired"])
  }),
  Schema.TaggedStruct("connectSecurityModeUpdated", { mode: SecurityMode }),
  Schema.TaggedStruct("sessionUpserted", { session: Session }),
  Schema.TaggedStruct("sessionRemoved", {
    id: SessionId,
    /** Whose it was. */
    subject: Schema.NonEmptyString,
    reason: Schema.Literals(["revoked", "expired"])
  }),
  Schema.TaggedStruct("credentialUpserted", { credential: ScopedCredential }),
  Schema.TaggedStruct("credentialRemoved", {
    scope: CredentialScope,
    owner: Schema.NonEmptyString,
    key: Schema.NonEmptyString
  }),
  /** The actor was given the value of a credential: `count` times, the last of them at the event's time. */
  Schema.TaggedStruct("credentialRead", {
    /** A scope, or `environment`. */
    source: Schema.NonEmptyString,
    owner: Schema.NonEmptyString,
    key: Schema.NonEmptyString,
    count: Schema.Natural
  })
])
/**
 * @see {@link AccessChange}
 *
 * @category models
 * @since 0.1.0
 */
export type AccessChange = typeof AccessChange.Type

/**
 * Names what an event of the feed is about: each name begins those of its types.
 *
 * @category models
 * @since 0.1.0
 */
export const AccessEventKind = Schema.Literals(["session", "pairingLink", "connect", "credential"])
/**
 * @see {@link AccessEventKind}
 *
 * @category models
 * @since 0.1.0
 */
export type AccessEventKind = typeof AccessEventKind.Type

/**
 * Describes one entry of the access feed.
 *
 * @category models
 * @since 0.1.0
 */
export class AccessEvent extends Schema.Class<AccessEvent>("@sallyport/core/access/AccessEvent")({
  /** Counts the store's changes from 1, without gaps. */
  revision: Schema.Natural,
  change: AccessChange,
  actor: Actor,
  at: Schema.DateTimeUtcFromMillis
}) {}

/**
 * Says who makes a change, and when in milliseconds since the epoch; every write of a repository takes one.
 *
 * @category models
 * @since 0.1.0
 */
export interface ChangeContext {
  readonly actor: Actor
  readonly nowMillis: number
}
