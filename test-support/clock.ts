/**
 * Provides clocks that are wrong.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Returns a clock with another time of day. It runs and waits as the real one does. */
export const telling = (nowMillis: () => number, real: Clock.Clock): Clock.Clock => ({
  currentTimeMillisUnsafe: nowMillis,
  currentTimeMillis: Effect.sync(nowMillis),
  currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe(),
  currentTimeNanos: real.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: real.monotonicTimeNanos,
  sleep: (duration) => real.sleep(duration)
})
