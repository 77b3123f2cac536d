/**
 * Tells a lease that has run out from a clock that has jumped.
 *
 * Leases are kept by the database's clock. That is the machine's own if the database is a file, and then a correction
 * of the clock, or a laptop that slept, makes every lease look expired while its writer is alive. Against the monotonic
 * clock of the process such a jump shows, and everybody is given the time of a lease to extend theirs.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** Watches the database's clock. */
export interface LeaseClock {
  /** Asks for the database's time by a step on the store, or takes it from what the step answers. */
  readonly watch: <A, E, R>(
    step: Effect.Effect<A, E, R>,
    databaseMillis: (answer: A) => number | undefined
  ) => Effect.Effect<A, E, R>
  /** Tells whether a lease that looks expired has expired. */
  readonly canExpire: () => boolean
}

/** Makes a watch. A jump forward by more than `toleranceMillis` suspends expiry for `leaseMillis`. */
export const make = (options: {
  readonly leaseMillis: number
  readonly toleranceMillis: number
}): Effect.Effect<LeaseClock> =>
  Effect.map(Clock.Clock, (clock): LeaseClock => {
    const now = () => Duration.toMillis(Duration.nanos(clock.monotonicTimeNanosUnsafe()))
    // How far the database's clock was ahead of ours at most, when it was last asked.
    let ahead = Infinity
    let notBefore = -Infinity
    return {
      watch: (step, databaseMillis) =>
        Effect.suspend(() => {
          const askedAt = now()
          return Effect.map(step, (answer) => {
            const databaseNow = databaseMillis(answer)
            if (databaseNow === undefined) return answer
            // The database answered at some time in between: only what the wait can't explain is a jump.
            const answeredAt = now()
            if (databaseNow - answeredAt > ahead + options.toleranceMillis) notBefore = answeredAt + options.leaseMillis
            ahead = databaseNow - askedAt
            return answer
          })
        }),
      canExpire: () => now() >= notBefore
    }
  })
