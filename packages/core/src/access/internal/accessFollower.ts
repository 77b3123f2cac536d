/**
 * Follows the access feed for a cache in this process, and knows whether the cache can be trusted.
 */
import { AccessRepository } from "../AccessRepository.ts"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { AccessEvent } from "../AccessEvent.ts"
import * as Following from "../../Following.ts"
import * as Outage from "../../Outage.ts"
import type { RepositoryError } from "../../RepositoryError.ts"
import * as FeedRegister from "./feedRegister.ts"

/** Follows the feed. */
export interface AccessFollower {
  /**
   * Tells whether everything that was committed before the trusted time has been handed over, and changes are still
   * heard of. Asked in the second half of that time, it has the follower look again meanwhile.
   */
  readonly isLive: (nowMillis: number) => boolean
  /** Reads up to the end of the feed and returns whether the cache can be trusted now. Many callers share one look. */
  readonly catchUp: Effect.Effect<boolean>
}

const pageSize = 256
// Past this many events, to forget everything costs less than to read them.
const maxReplay = 10_000
const retryMillis = 250

const lookingNow = FeedRegister.make<Effect.Effect<void>>()

/**
 * Has everyone who follows a feed in this process look at once, and waits for it: after a change that a cache of another
 * service has to know of before its caller goes on. A look that fails makes that cache untrusted.
 */
export const lookNow = (feed: AccessRepository["Service"]["feed"]): Effect.Effect<void> =>
  Effect.suspend(() => Effect.forEach(lookingNow.of(feed), (look) => look, { discard: true }))

/** Returns another witness of the outages of a feed, which all who follow it share. */
export const witnessOf = (feed: AccessRepository["Service"]["feed"]): Outage.Witness =>
  Outage.ofSource(feed, {
    of: "access feed",
    begins: "Lost the access feed; what is cached is looked up in the store until it is back",
    ends: "The access feed is back"
  })

/**
 * Starts following, and returns when it has looked once, or failed to. It ends with the scope.
 *
 * `onEvents` is handed every event after the start, in order; `onGap` is called if some were left out.
 */
export const make = Effect.fnUntraced(function*(options: {
  readonly trustMillis: number
  readonly onEvents: (events: ReadonlyArray<AccessEvent>) => void
  readonly onGap: () => void
}): Effect.fn.Return<AccessFollower, never, AccessRepository | Scope.Scope> {
  const repository = (yield* AccessRepository).feed
  const clock = yield* Clock.Clock
  const one = Semaphore.makeUnsafe(1)
  const stale = Latch.makeUnsafe(false)
  const started = Deferred.makeUnsafe<void>()

  let cursor: number | undefined
  let listening = false
  // Counts how often hints may have been lost: a look that began before confirms nothing.
  let losses = 0
  // When the look began that has last come to the end of the feed.
  let confirmedAt = -Infinity

  const isConfirmed = (nowMillis: number) =>
    listening && nowMillis >= confirmedAt && nowMillis < confirmedAt + options.trustMillis

  /** Goes on to the end of the feed. After a hint there are nearly always a few events, which tell of its end themselves. */
  const look = Effect.fnUntraced(function*(isHinted: boolean): Effect.fn.Return<void, RepositoryError> {
    const startedAt = clock.currentTimeMillisUnsafe()
    const heard = listening
    const lossesBefore = losses
    const next = isHinted && cursor !== undefined ? yield* repository.read({ after: cursor, limit: pageSize }) : []
    const newest = next[next.length - 1]
    if (newest !== undefined && next.length < pageSize && next[0]?.revision === (cursor ?? 0) + 1) {
      options.onEvents(next)
      cursor = newest.revision
    } else {
      yield* lookAtEnd
    }
    if (heard && lossesBefore === losses) confirmedAt = startedAt
  })

  const lookAtEnd = Effect.gen(function*() {
    const until = yield* repository.latestRevision
    if (cursor === undefined || until < cursor || until - cursor > maxReplay) {
      if (cursor !== undefined) options.onGap()
      cursor = until
    }
    while (cursor < until) {
      const events: ReadonlyArray<AccessEvent> = yield* repository.read({ after: cursor, limit: pageSize })
      // The first of the page may follow one of a type that this version does not know, or one that is no longer kept.
      if (events[0]?.revision !== cursor + 1 && (yield* repository.oldestRevision) > cursor + 1) options.onGap()
      options.onEvents(events)
      const last = events[events.length - 1]?.revision ?? until
      // The page may end with events of types that this version doesn't know.
      cursor = events.length < pageSize ? Math.max(last, until) : last
    }
  })

  // Hints still come; the next one who asks has it looked again.
  const unconfirm = (error: RepositoryError) =>
    Effect.suspend(() => {
      confirmedAt = -Infinity
      return Effect.logDebug("Could not read the access feed", error)
    })

  const catchUp = one.withPermit(
    Effect.suspend(() => {
      const nowMillis = clock.currentTimeMillisUnsafe()
      // A caller that held the permit before may have looked just now.
      if (!listening || isConfirmed(nowMillis)) return Effect.succeed(listening)
      return Effect.matchEffect(look(false), {
        onFailure: (error) => Effect.as(unconfirm(error), false),
        onSuccess: () => Effect.sync(() => listening)
      })
    })
  ).pipe(Effect.withTracerEnabled(false))

  const now = one.withPermit(look(true)).pipe(Effect.catch(unconfirm), Effect.withTracerEnabled(false))
  yield* lookingNow.add(repository, now)

  yield* Following.run({
    wakeUps: repository.wakeups,
    // Who asks has it looked again, so that nothing depends on the time.
    pollInterval: Duration.hours(1),
    retryDelay: Duration.millis(retryMillis),
    outage: witnessOf(repository),
    onHeard: () => {
      listening = true
    },
    onLost: () => {
      listening = false
      losses++
      confirmedAt = -Infinity
      Deferred.doneUnsafe(started, Effect.void)
    },
    look: () =>
      one.withPermit(look(true)).pipe(
        Effect.tapCause(() =>
          Effect.sync(() => {
            confirmedAt = -Infinity
          })
        ),
        Effect.ensuring(Deferred.succeed(started, undefined))
      )
  }).pipe(Effect.forkScoped)
  yield* stale.await.pipe(
    Effect.andThen(Effect.suspend(() => {
      stale.closeUnsafe()
      // Confirmed still, but not for long.
      return listening ? one.withPermit(look(false)) : Effect.void
    })),
    Effect.catch(unconfirm),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
  yield* Deferred.await(started)

  return {
    isLive: (nowMillis) => {
      if (!isConfirmed(nowMillis)) return false
      if (nowMillis - confirmedAt >= options.trustMillis / 2) stale.openUnsafe()
      return true
    },
    catchUp
  }
})
