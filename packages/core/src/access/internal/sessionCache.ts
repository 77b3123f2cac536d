/**
 * What a process remembers of sessions: the tokens that it has verified, and who waits for a session's end.
 *
 * Forgetting a session also wakes who waits for its end, to look at the row again.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type { AccessEvent } from "../AccessEvent.ts"
import type { Session, SessionId } from "../Session.ts"
import { type SessionRow, toSession } from "../SessionCredentialRepository.ts"

interface Entry {
  readonly session: Session
  readonly trustedUntilMillis: number
  lastSeenAtMillis: number
}

/** Waits for a session's end; `woken` is made again before each look at the row. */
export interface Watcher {
  woken: Deferred.Deferred<void>
}

/** Makes an empty cache of at most `capacity` tokens; the oldest goes first. */
export const make = (settings: {
  readonly capacity: number
  readonly recheckMillis: number
  readonly renewalOf: (row: SessionRow) => number
}) => {
  // Verified tokens by their digest, and the digest of each session in there.
  const entries = new Map<string, Entry>()
  const digestBySession = new Map<SessionId, string>()
  const waiting = new Map<SessionId, Set<Watcher>>()
  // Counts invalidations. A row that was read before one must not be remembered after it.
  let generation = 0

  const ofSession = (id: SessionId) => entries.get(digestBySession.get(id) ?? "")

  const forget = (id: SessionId): void => {
    const key = digestBySession.get(id)
    if (key !== undefined) entries.delete(key)
    digestBySession.delete(id)
    for (const watcher of waiting.get(id) ?? []) Deferred.doneUnsafe(watcher.woken, Effect.void)
  }

  return {
    /** Counts how often something was found to be out of date, whether or not it was remembered. */
    generation: (): number => generation,

    /** Tells whether a token was verified, which says nothing of its session's row now. */
    has: (tokenDigest: string): boolean => entries.has(tokenDigest),

    /** Returns the session of a token that was seen before, unless its row must be read. */
    recall: (tokenDigest: string, nowMillis: number): Session | undefined => {
      const entry = entries.get(tokenDigest)
      // A clock that was set back would prolong the trust, so a time before the last use leads to the row too.
      if (entry === undefined || nowMillis >= entry.trustedUntilMillis || nowMillis < entry.lastSeenAtMillis) {
        return undefined
      }
      entry.lastSeenAtMillis = nowMillis
      return entry.session
    },

    /** Returns the session of a row, and remembers it unless something was invalidated since the row was read. */
    remember: (
      tokenDigest: string,
      row: SessionRow,
      read: { readonly generation: number; readonly nowMillis: number }
    ): Session => {
      const session = toSession(row)
      if (read.generation !== generation) return session
      // The token before it, if a session has been refreshed.
      const before = digestBySession.get(row.id)
      if (before !== undefined && before !== tokenDigest) entries.delete(before)
      if (entries.size >= settings.capacity && !entries.has(tokenDigest)) {
        for (const [oldest, entry] of entries) {
          entries.delete(oldest)
          digestBySession.delete(entry.session.id)
          break
        }
      }
      entries.set(tokenDigest, {
        session,
        trustedUntilMillis: Math.min(
          row.expiresAtMillis,
          row.tokenExpiresAtMillis ?? Infinity,
          row.lastSeenAtMillis + settings.renewalOf(row),
          read.nowMillis + settings.recheckMillis
        ),
        lastSeenAtMillis: read.nowMillis
      })
      digestBySession.set(row.id, tokenDigest)
      return session
    },

    /** Returns when this process has last seen a session; 0 if it doesn't remember it. */
    seenAtMillis: (id: SessionId): number => ofSession(id)?.lastSeenAtMillis ?? 0,

    /** Forgets a session whose row has told that it is over. */
    forget,

    /** Forgets sessions that change, and others that are concerned, also if they are only being read now. */
    invalidate: (ids: Iterable<SessionId>, isConcerned: (session: Session) => boolean = () => false): void => {
      generation++
      for (const id of ids) forget(id)
      for (const { session } of entries.values()) if (isConcerned(session)) forget(session.id)
    },

    /** Forgets everything. */
    forgetAll: (): void => {
      generation++
      for (const id of [...digestBySession.keys(), ...waiting.keys()]) forget(id)
    },

    /** Forgets what an event makes out of date, also if it is only being read from the store now. */
    onEvents: (events: ReadonlyArray<AccessEvent>): void => {
      for (const { at, change } of events) {
        if (change._tag === "sessionRemoved") {
          generation++
          forget(change.id)
        } else if (change._tag === "sessionUpserted") {
          const { session } = change
          const known = ofSession(session.id)?.session
          // What this process has done comes back to it as an event too.
          if (known !== undefined && Equal.equals(known, session)) continue
          // A session that begins is in no row that was read before.
          if (!Equal.equals(session.createdAt, at)) generation++
          forget(session.id)
        }
      }
    },

    /** Adds a user who waits for the end of a session. */
    watch: (id: SessionId): Watcher => {
      const watcher: Watcher = { woken: Deferred.makeUnsafe() }
      waiting.set(id, (waiting.get(id) ?? new Set()).add(watcher))
      return watcher
    },

    /** Removes who waited. */
    unwatch: (id: SessionId, watcher: Watcher): void => {
      const watchers = waiting.get(id)
      watchers?.delete(watcher)
      if (watchers?.size === 0) waiting.delete(id)
    }
  }
}
