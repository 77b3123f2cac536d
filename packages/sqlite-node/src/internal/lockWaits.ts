/**
 * How a statement waits for a lock that another connection holds. SQLite's own wait blocks the event loop; here a statement
 * that is refused is run again a little later.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Semaphore from "effect/Semaphore"
import type { SqlError } from "effect/sql/SqlError"
import type { DatabaseSync } from "node:sqlite"
import { fromThrown, isBusy, isStale, type Operation } from "./errors.ts"

/** One statement that waits, and how its pause is ended early. */
interface Waiter {
  wake: () => void
}

/** Runs what may be refused for a lock. */
export type Run = <A>(operation: Operation, attempt: () => A) => Effect.Effect<A, SqlError>

// A refused attempt costs some ten microseconds.
const maxDelayMillis = 10
const maxTimerMillis = 2 ** 31 - 1

// The lock is another process's, so its time is the system's, whatever clock the program has.
const pause = (waiter: Waiter, millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), Math.min(millis, maxTimerMillis))
    waiter.wake = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    return Effect.sync(() => clearTimeout(timer))
  })

/**
 * Makes what runs the statements of a connection, for callers that hold its `permit`. One that is refused for a lock is tried
 * again until `timeoutMillis` have passed.
 *
 * Outside of a transaction nothing on the connection belongs to a refused statement, so others get the permit between its
 * attempts, and reads go on. Of those that wait at the same time only the first tries; the others follow in their order.
 */
export const make = (db: DatabaseSync, permit: Semaphore.Semaphore, timeoutMillis: number): Run => {
  const waiting = new Set<Waiter>()
  const first = (): Waiter | undefined => waiting.values().next().value

  const wait = <A>(operation: Operation, attempt: () => A, refusal: SqlError): Effect.Effect<A, SqlError> => {
    const giveUpAt = performance.now() + timeoutMillis
    const inTransaction = db.isTransaction
    const me: Waiter = { wake: () => {} }
    if (!inTransaction) waiting.add(me)
    // Only the pauses can be interrupted: the answer of an attempt that was let in must not get lost.
    return Effect.gen(function*() {
      let error = refusal
      for (let delay = 1;; delay = Math.min(delay * 2, maxDelayMillis)) {
        const left = giveUpAt - performance.now()
        // What an open transaction has read is old for good, however long it waits.
        if (left <= 0 || (inTransaction && isStale(error)) || db.isTransaction !== inTransaction) return yield* error
        if (!inTransaction) yield* permit.release(1)
        const tries = inTransaction || first() === me
        const paused = yield* Effect.exit(Effect.interruptible(pause(me, tries ? Math.min(delay, left) : left)))
        if (!inTransaction) yield* permit.take(1)
        if (Exit.isFailure(paused)) return yield* Effect.failCause(paused.cause)
        try {
          return attempt()
        } catch (cause) {
          error = fromThrown(cause, operation)
          if (!isBusy(error)) return yield* error
        }
      }
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        if (waiting.delete(me)) first()?.wake()
      })),
      Effect.uninterruptible
    )
  }

  return (operation, attempt) =>
    Effect.suspend(() => {
      try {
        return Effect.succeed(attempt())
      } catch (cause) {
        const error = fromThrown(cause, operation)
        return isBusy(error) && timeoutMillis > 0 ? wait(operation, attempt, error) : Effect.fail(error)
      }
    })
}
