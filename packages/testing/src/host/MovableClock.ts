/**
 * A clock that runs as the real one does, and that a test moves forward.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"

/**
 * Moves the time of everything that is built on {@link layer}.
 *
 * @category services
 * @since 0.1.0
 */
export class MovableClock extends Context.Service<MovableClock, {
  /**
   * Moves the time forward, and ends the sleeps and timeouts that are over by then, all at once, as on a machine that has
   * slept.
   */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
}>()("@sallyport/testing/host/MovableClock") {}

/**
 * Provides the clock, and itself as the means to move it.
 *
 * **When to use**
 *
 * Use it around a server and its clients on real connections. `TestClock` of `effect/testing` stands still between moves, so
 * that what waits for a poll or a connection waits for ever.
 *
 * **Gotchas**
 *
 * The time of a database is its own: leases of runs on SQLite and PostgreSQL do not move. `SteppedRun.crash` ends one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<MovableClock> = Layer.effectContext(Effect.map(Clock.Clock, (real) => {
  let aheadMillis = 0
  let moved = Latch.makeUnsafe(false)
  const aheadNanos = () => BigInt(Math.round(aheadMillis * 1_000_000))
  const nowMillis = () => Number(real.monotonicTimeNanosUnsafe()) / 1_000_000 + aheadMillis
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + aheadMillis,
    currentTimeMillis: Effect.map(real.currentTimeMillis, (millis) => millis + aheadMillis),
    currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe() + aheadNanos(),
    currentTimeNanos: Effect.map(real.currentTimeNanos, (nanos) => nanos + aheadNanos()),
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe() + aheadNanos(),
    monotonicTimeNanos: Effect.map(real.monotonicTimeNanos, (nanos) => nanos + aheadNanos()),
    sleep: (duration) =>
      Effect.suspend(() => {
        const until = nowMillis() + Duration.toMillis(duration)
        const wait: Effect.Effect<void> = Effect.suspend(() => {
          const left = until - nowMillis()
          return left <= 0 ? Effect.void : Effect.raceFirst(
            real.sleep(Duration.millis(left)),
            Effect.andThen(moved.await, wait)
          )
        })
        return wait
      })
  }
  return Context.make(MovableClock, {
    advance: (duration) =>
      Effect.suspend(() => {
        aheadMillis += Duration.toMillis(duration)
        const before = moved
        moved = Latch.makeUnsafe(false)
        return Effect.asVoid(before.open)
      })
  }).pipe(Context.add(Clock.Clock, clock))
}))
