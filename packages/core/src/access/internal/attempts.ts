import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { RepositoryError } from "../../RepositoryError.ts"

/** Bounds attempts: so many of them, and each is forgotten after its share of the window. */
export interface Limit {
  readonly attempts: number
  readonly windowMillis: number
}

/** Says that there were too many attempts, and how long it takes until they are forgotten. */
export interface Exceeded {
  readonly _tag: "Exceeded"
  readonly retryAfterMillis: number
}

/** Says that an attempt was counted, and takes it back. */
export interface Reserved {
  readonly _tag: "Reserved"
  readonly refund: Effect.Effect<void, RepositoryError>
}

/** Counts attempts per source and in total. */
export interface Attempts {
  /**
   * Counts an attempt before it is made, so that of n racers no more than the limit make one; {@link Reserved} takes it
   * back if it was none of those that count.
   */
  readonly reserve: (source: string | undefined) => Effect.Effect<Reserved | Exceeded, RepositoryError>
}

/** Adds tokens to a counter unless that exceeds the limit. */
type Take = (key: string, tokens: number, limit: Limit) => Effect.Effect<
  { readonly remaining: number; readonly resetMillis: number } | Exceeded,
  RepositoryError
>

const shared = (limiter: RateLimiter.RateLimiter): Take => (key, tokens, limit) =>
  limiter.consume({
    key,
    tokens,
    limit: limit.attempts,
    window: limit.windowMillis,
    algorithm: "fixed-window",
    onExceeded: "fail"
  }).pipe(
    Effect.map(({ remaining, resetAfter }) => ({ remaining, resetMillis: Duration.toMillis(resetAfter) })),
    Effect.catch((error) =>
      error.reason._tag === "RateLimitExceeded"
        ? Effect.succeed<Exceeded>({ _tag: "Exceeded", retryAfterMillis: Duration.toMillis(error.reason.retryAfter) })
        : Effect.fail(
          new RepositoryError({ operation: "countAttempt", reason: "Unavailable", outcome: "unknown", cause: error })
        )
    )
  )

/** How many counters this process keeps. The total is among them, and each source's attempts count towards it. */
const capacity = 10_000

/**
 * Counts in this process, as the fixed window of `RateLimiter` does. Its store in memory keeps every key for good, and keys
 * are what the whole world sends: this one forgets what has run out, and bounds the rest.
 */
const local = (): Take => {
  const counters = new Map<string, { readonly count: number; readonly endsAtMillis: number }>()
  const makeRoom = (nowMillis: number) => {
    for (const [key, { endsAtMillis }] of counters) if (endsAtMillis <= nowMillis) counters.delete(key)
    for (const key of counters.keys()) {
      if (counters.size < capacity) return
      counters.delete(key)
    }
  }
  return (key, tokens, limit) =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const found = counters.get(key)
      const before = found === undefined || found.endsAtMillis <= nowMillis
        ? { count: 0, endsAtMillis: nowMillis }
        : found
      const count = before.count + tokens
      if (count > limit.attempts) return { _tag: "Exceeded", retryAfterMillis: before.endsAtMillis - nowMillis }
      const endsAtMillis = before.endsAtMillis + tokens * limit.windowMillis / limit.attempts
      if (count <= 0) {
        counters.delete(key)
      } else if (tokens !== 0) {
        if (found === undefined && counters.size >= capacity) makeRoom(nowMillis)
        // Moved to the end: the counters that are let go of first are those that were not touched for the longest.
        counters.delete(key)
        counters.set(key, { count, endsAtMillis })
      }
      return { remaining: limit.attempts - count, resetMillis: Math.max(0, endsAtMillis - nowMillis) }
    })
}

const notPrintable = /[^\x21-\x7e]/g

/** Counts with the `RateLimiter` in the context, which may be shared with other processes, and in this process elsewhere. */
export const make = Effect.fnUntraced(function*(name: string, limits: {
  readonly perSource: Limit
  readonly total: Limit
}): Effect.fn.Return<Attempts> {
  const limiter = yield* Effect.serviceOption(RateLimiter.RateLimiter)
  const take = Option.isSome(limiter) ? shared(limiter.value) : local()
  const totalKey = `sallyport/${name}/total`
  const giveBack = (key: string, limit: Limit) => Effect.asVoid(take(key, -1, limit))

  return {
    reserve: Effect.fnUntraced(function*(source) {
      const sourceKey = source === undefined
        ? undefined
        : `sallyport/${name}/source/${source.replace(notPrintable, "?").slice(0, 128)}`
      // While there are too many in total, no source gets a counter of its own, so there are never many of those.
      const total = yield* take(totalKey, 0, limits.total)
      if ("_tag" in total) return total
      if (total.remaining <= 0) return { _tag: "Exceeded", retryAfterMillis: total.resetMillis }
      if (sourceKey !== undefined) {
        const ofSource = yield* take(sourceKey, 1, limits.perSource)
        if ("_tag" in ofSource) return ofSource
      }
      const refundSource = sourceKey === undefined ? Effect.void : giveBack(sourceKey, limits.perSource)
      const counted = yield* take(totalKey, 1, limits.total)
      if ("_tag" in counted) {
        yield* refundSource
        return counted
      }
      return { _tag: "Reserved", refund: Effect.andThen(refundSource, giveBack(totalKey, limits.total)) }
    })
  }
})
