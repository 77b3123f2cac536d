import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { Unreachable } from "../ClientError.ts"
import { type Broken, call, type Refusal, unreachable } from "./answer.ts"

/** Describes how long, how often and how soon is tried again. Times are in milliseconds. */
export interface BudgetSettings {
  readonly maxAttempts: number
  readonly maxDuration: number
  readonly baseDelay: number
  readonly maxDelay: number
  /** What one attempt counts for at most. It ends by then, unless the computer slept in it. */
  readonly maxAttemptDuration: number
}

/**
 * Bounds what is spent without progress: attempts, and the time of attempts and waits. It is the only place of this package
 * that decides to try again, so that one budget covers everything that is done for a run.
 *
 * Waits count as long as they were meant to be: a computer that was put to sleep in one has not used its budget up.
 */
export interface Budget {
  /** Notes progress: the budget is whole again. */
  readonly progress: () => void
  /** Sets how long the server wants clients to wait before they connect again. */
  readonly setRetryDelay: (delay: Duration.Duration) => void
  /** Notes an attempt that failed, and began at a time of {@link now}; waits, or fails where nothing is left. */
  readonly spend: (broken: Broken, startedAt: number) => Effect.Effect<void, Unreachable>
  /** Waits before the attempt that follows one that has brought progress. */
  readonly pause: Effect.Effect<void>
}

/** Returns the time on a clock that is not set, in milliseconds. */
export const now: Effect.Effect<number> = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

/** Makes a budget that is whole. */
export const makeBudget = (settings: BudgetSettings): Budget => {
  let failures = 0
  let spent = 0
  let retryDelay = 0
  // Half as much again at most, so that those who were cut off together don't come back together.
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

/** Makes a request, again and again while it fails on its way. It must be one that does no harm when it is made twice. */
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
