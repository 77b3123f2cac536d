/**
 * Where the access feed is kept.
 *
 * The repositories of access state write it: each change and its event are one transaction there. This port is the
 * reading side.
 */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { AccessEvent } from "./AccessEvent.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import type { ConnectClient, SecurityMode } from "./ConnectClient.ts"
import type { PairingLink } from "./PairingLink.ts"
import type { Session } from "./Session.ts"

/**
 * Describes what there is at a revision: what every event up to it leads to, without what has expired.
 *
 * @category models
 * @since 0.1.0
 */
export interface AccessSnapshot {
  readonly revision: number
  /** The links that can still be redeemed, the newest first. */
  readonly pairingLinks: ReadonlyArray<PairingLink>
  /** The live sessions, in the order of their ids. */
  readonly sessions: ReadonlyArray<Session>
  /** The clients that connect through a relay, in the order of their thumbprints; absent if a store keeps none. */
  readonly connectClients?: ReadonlyArray<ConnectClient> | undefined
  /** Who may connect through a relay; absent if a store doesn't say, or says what this version doesn't know. */
  readonly connectSecurityMode?: SecurityMode | undefined
}

/**
 * Provides reads of the access feed.
 *
 * @category models
 * @since 0.1.0
 */
export interface AccessFeedRepository {
  /** Returns the newest revision, 0 if nothing has happened yet. */
  readonly latestRevision: Effect.Effect<number, RepositoryError>
  /**
   * Returns the oldest revision that is kept, the newest and one if none is. It never goes back. A reader whose cursor lies
   * further before it has missed events, and begins with a snapshot.
   */
  readonly oldestRevision: Effect.Effect<number, RepositoryError>
  /**
   * Returns the events after a revision that are kept, oldest first, at most `limit`. Revisions are gap-free: a reader that
   * has seen `n` has seen everything up to `n`, unless `oldestRevision` has gone past its cursor.
   */
  readonly read: (options: {
    readonly after: number
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<AccessEvent>, RepositoryError>
  /**
   * Returns what there is at `nowMillis` together with the revision that shows it, read at one point between two changes:
   * a reader that goes on from that revision misses none and sees none twice.
   */
  readonly snapshot: (options: { readonly nowMillis: number }) => Effect.Effect<AccessSnapshot, RepositoryError>
  /**
   * Deletes at most `limit` events, the oldest first, up to the first that happened at `endedBeforeMillis` or later, and
   * returns how many those were. Revisions count on from where they were.
   */
  readonly sweep: (options: {
    readonly endedBeforeMillis: number
    readonly limit: number
  }) => Effect.Effect<number, RepositoryError>
  /**
   * Hints that there may be events that were not there before, whichever process wrote them: once when it has begun to
   * listen, and again after each commit or some of them together. It fails when hints may have been lost; a reader is then
   * out of date until it has subscribed again and read.
   */
  readonly wakeups: Stream.Stream<void, RepositoryError>
}
