import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Unreachable } from "../ClientError.ts"
import type { Hint } from "../ReconnectHints.ts"
import { type Broken, call, type Refusal, unreachable } from "./answer.ts"

/** Configures the retries: how long, how often and how soon. Times are in milliseconds. */
export interface BudgetSettings {
  readonly maxAttempts: number
  readonly maxDuration: number
  readonly baseDelay: number
  readonly maxDelay: number
  /** The largest time that one attempt counts. An attempt ends by then, unless the computer slept meanwhile. */
  readonly maxAttemptDuration: number
}

/**
 * Bounds the effort without progress: the attempts, and the time of attempts and waits. Only this module decides about
 * retries, so one budget covers all the work for a run.
 *
 * A wait counts with its planned length: a computer that slept during a wait has not used up its budget. A wait that a
 * hint ends uses up no attempt, and hints end at most one wait a second, so that they cannot spend the budget.
 */
export interface Budget {
  /** Says when to connect again at once. */
  readonly hints: Stream.Stream<Hint>
  /** Records progress: the budget is full again. */
  readonly progress: () => void
  /** Sets how long the server wants clients to wait before they connect again. */
  readonly setRetryDelay: (delay: Duration.Duration) => void
  /** Records a failed attempt that began at a time of {@link now}. Waits, or fails if the budget is used up. */
  readonly spend: (broken: Broken, startedAt: number) => Effect.Effect<void, Unreachable>
  /** Waits before the attempt that follows one with progress; not if a hint has ended that. */
  readonly pause: (broken?: Broken) => Effect.Effect<void>
}

/** Returns the time in milliseconds on a monotonic clock. */
export const now: Effect.Effect<number> = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

/** The shortest time between two waits that hints end, and the age from which they replace a connection. */
export const betweenHintsMillis = 1_000

/** Creates a full budget. */
export const makeBudget = (settings: BudgetSettings, hints: Stream.Stream<Hint>): Budget => {
  let failures = 0
  let spent = 0
  let retryDelay = 0
  let hintedAt = -Infinity

  // The whole bound is at random, so that clients that were disconnected together come back one after the other.
  const delayAfter = (failures: number, retryAfter = 0): Effect.Effect<number> =>
    Effect.map(Random.next, (random) => {
      const bound = Math.min(Math.max(settings.baseDelay, retryDelay) * 2 ** (failures - 1), settings.maxDelay)
      return Math.max(Math.min(retryDelay, settings.maxDelay), retryAfter) + random * bound
    })

  /** Waits, and returns how long it took. A hint ends the wait, but none before `least` has passed. */
  const wait = Effect.fnUntraced(function*(delay: number, least: number) {
    const startedAt = yield* now
    const hinted = Effect.gen(function*() {
      if (Option.isNone(yield* Stream.runHead(hints))) return yield* Effect.never
      const due = Math.max(startedAt + least, hintedAt + betweenHintsMillis)
      yield* Effect.sleep(Duration.millis(Math.max(0, due - (yield* now))))
      hintedAt = yield* now
      return Math.min(hintedAt - startedAt, delay)
    })
    return yield* Effect.raceFirst(Effect.as(Effect.sleep(Duration.millis(delay)), delay), hinted)
  })

  return {
    hints,
    progress: () => {
      failures = 0
      spent = 0
    },
    setRetryDelay: (delay) => {
      retryDelay = Duration.toMillis(delay)
    },
    spend: Effect.fnUntraced(function*(broken: Broken, startedAt: number) {
      failures++
      spent += Math.min((yield* now) - startedAt, settings.maxAttemptDuration)
      const delay = yield* delayAfter(failures, broken.retryAfterMillis)
      if (failures >= settings.maxAttempts || spent + delay > settings.maxDuration) {
        return yield* unreachable(broken, failures)
      }
      const waited = yield* wait(delay, broken.retryAfterMillis ?? 0)
      spent += waited
      if (waited < delay) failures--
    }),
    pause: (broken) =>
      broken?.hinted === true
        ? Effect.void
        : Effect.flatMap(delayAfter(1), (delay) => Effect.asVoid(wait(delay, 0)))
  }
}

/** Sends a request, and again while it fails on its way. The request must be safe to repeat. */
export const ask = <S extends Schema.ConstraintDecoder<unknown>>(
  budget: Budget,
  send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
  schema: S,
  limit: Duration.Duration
): Effect.Effect<S["Type"], Refusal | Unreachable> =>
  Effect.gen(function*() {
    while (true) {
      const startedAt = yield* now
      const answer = yield* Effect.result(call(send, schema, limit))
      if (Result.isSuccess(answer)) {
        budget.progress()
        return answer.success
      }
      if (answer.failure._tag !== "Broken") return yield* Effect.fail(answer.failure)
      yield* budget.spend(answer.failure, startedAt)
    }
  })
