import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

const late = Symbol("late")

/**
 * Waits for a time, in steps. A process that was stopped meanwhile, or its machine, finds the time over when it goes on, and
 * the answers of that time unread: it loses one step by that, and has the others to read them.
 */
export const patience = (time: Duration.Duration): Effect.Effect<unknown> =>
  Effect.interruptible(Effect.repeat(Effect.sleep(Duration.millis(Duration.toMillis(time) / 4)), { times: 3 }))

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
      const inTime = Effect.raceFirst(Fiber.await(fiber), Effect.as(patience(deadline), late))
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
