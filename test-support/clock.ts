/**
 * Provides clocks that are wrong.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** Returns a clock that shows another time of day, and runs and waits like the real one. */
export const telling = (nowMillis: () => number, real: Clock.Clock): Clock.Clock => ({
  currentTimeMillisUnsafe: nowMillis,
  currentTimeMillis: Effect.sync(nowMillis),
  currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe(),
  currentTimeNanos: real.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: real.monotonicTimeNanos,
  sleep: (duration) => real.sleep(duration)
})

/** Runs an effect as if it were some time ago. */
export const ago = (duration: Duration.Input) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.Clock, (real) =>
    Effect.provideService(
      effect,
      Clock.Clock,
      telling(() => real.currentTimeMillisUnsafe() - Duration.toMillis(duration), real)
    ))
