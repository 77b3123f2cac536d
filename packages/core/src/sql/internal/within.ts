import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

const late = Symbol("late")

/** Waits for an effect no longer than a time. One that is late is interrupted, and its end is not waited for. */
export const within = <A, E, R, E2>(
  self: Effect.Effect<A, E, R>,
  deadline: Duration.Duration,
  onLate: Effect.Effect<never, E2>
): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDetach(self, { startImmediately: true }), (fiber): Effect.Effect<A, E | E2> => {
      // A database in this process has answered already.
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return exit
      const inTime = Effect.raceFirst(Fiber.await(fiber), Effect.as(Effect.sleep(deadline), late))
      return restore(inTime).pipe(
        Effect.onInterrupt(() => Fiber.interrupt(fiber)),
        Effect.flatMap((exit): Effect.Effect<A, E | E2> => {
          if (typeof exit !== "symbol") return exit
          fiber.interruptUnsafe()
          return onLate
        })
      )
    })
  )
