import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { Unreachable } from "../ClientError.ts"
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
 * A wait counts with its planned length: a computer that slept during a wait has not used up its budget.
 */
export interface Budget {
  /** Records progress: the budget is full again. */
  readonly progress: () => void
  /** Sets how long the server wants clients to wait before they connect again. */
  readonly setRetryDelay: (delay: Duration.Duration) => void
  /** Records a failed attempt that began at a time of {@link now}. Waits, or fails if the budget is used up. */
  readonly spend: (broken: Broken, startedAt: number) => Effect.Effect<void, Unreachable>
  /** Waits before the attempt that follows one with progress. */
  readonly pause: Effect.Effect<void>
}

/** Returns the time in milliseconds on a monotonic clock. */
export const now: Effect.Effect<number> = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

/** Creates a full budget. */
export const makeBudget = (settings: BudgetSettings): Budget => {
  let failures = 0
  let spent = 0
  let retryDelay = 0
  // Adds up to half, so that clients that were disconnected together do not reconnect together.
  const jittered = (delay: number): Effect.Effect<number> =>
    Effect.map(Random.next, (random) => Math.min(delay, settings.maxDelay) * (1 + random / 2))
  const first = () => Math.max(settings.baseDelay, retryDelay)
  return {
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
      const delay = Math.max(yield* jittered(first() * 2 ** (failures - 1)), broken.retryAfterMillis ?? 0)
      if (failures >= settings.maxAttempts || spent + delay > settings.maxDuration) {
        return yield* unreachable(broken, failures)
      }
      spent += delay
      yield* Effect.sleep(Duration.millis(delay))
    }),
    pause: Effect.suspend(() => Effect.flatMap(jittered(first()), (delay) => Effect.sleep(Duration.millis(delay))))
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
