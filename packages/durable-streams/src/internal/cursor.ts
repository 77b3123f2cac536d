/**
 * The cursors of live reads: they let caches between server and readers share answers for a while, and never for ever.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

// The protocol's own: intervals of 20 seconds from 9 October 2024.
const intervalMillis = 20_000
const epochMillis = 1_728_432_000_000

const intervalOf = (now: number): number => Math.floor((now - epochMillis) / intervalMillis)
const current = Effect.map(Clock.currentTimeMillis, intervalOf)

/**
 * Returns the cursor for an answer: the number of the present interval, or a greater one than the reader has given, by a
 * random number of intervals within the hour. What is not a number counts as not given.
 */
export const next = (given: string | undefined): Effect.Effect<number> =>
  Effect.gen(function*() {
    const now = yield* current
    const last = given !== undefined && /^[0-9]{1,15}$/.test(given) ? Number(given) : -1
    return last < now ? now : last + (yield* Random.nextIntBetween(1, 180))
  })

/** Makes what returns the cursor for the next control event of one answer; it never goes back. */
export const advancing = (first: number): Effect.Effect<() => number> =>
  Effect.clockWith((clock) =>
    Effect.sync(() => {
      let last = first
      return () => last = Math.max(last, intervalOf(clock.currentTimeMillisUnsafe()))
    })
  )
