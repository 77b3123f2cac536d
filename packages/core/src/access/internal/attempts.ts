import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Result from "effect/Result"
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

/** Counts wrong attempts per source and in total. */
export interface Attempts {
  /**
   * Counts a wrong attempt, or answers how many whole milliseconds, from 1, it takes until there is room for one. Of n
   * racers no more than the limit are counted.
   */
  readonly count: (source: string | undefined) => Effect.Effect<Option.Option<number>, RepositoryError>
  /** Forgets an attempt that was counted, as it was a right one. */
  readonly forgive: (source: string | undefined) => Effect.Effect<void, RepositoryError>
}

/** One counter: its key, and how many attempts it takes. */
interface Counter {
  readonly key: string
  readonly limit: Limit
}

/**
 * Returns the networks that an address is part of, the widest first: all of an IPv6 network of 64 bits is one customer's,
 * and of 56 or 48 bits often. What is no address stands for itself.
 */
export const networksOf = (source: string): ReadonlyArray<string> => {
  // A zone, as in fe80::1%eth0, is not part of an address.
  const parsed = NetAddress.ipFromString(source.replace(/%.*/s, ""))
  if (Result.isFailure(parsed)) return [source.replace(notPrintable, "?").slice(0, 128)]
  const address = NetAddress.toCanonical(parsed.success)
  return (NetAddress.isIpv4Address(address) ? [32] : [48, 56, 64, 128])
    .map((bits) => IpNetwork.format(IpNetwork.fromAddressUnsafe(address, bits)))
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

const wait = (millis: number): Option.Option<number> => Option.some(Math.max(1, Math.ceil(millis)))

const notPrintable = /[^\x21-\x7e]/g

/** Counts with the `RateLimiter` in the context, which may be shared with other processes, and in this process otherwise. */
export const make = Effect.fnUntraced(function*(name: string, limits: {
  readonly perSource: Limit
  readonly total: Limit
  /** How many times as many as a network of 64 bits one of 56 may send, and one of 48 as one of 56. Default 2. */
  readonly growth?: number | undefined
}): Effect.fn.Return<Attempts> {
  const limiter = yield* Effect.serviceOption(RateLimiter.RateLimiter)
  const take = Option.isSome(limiter) ? shared(limiter.value) : local()
  const { growth = 2, perSource, total } = limits

  /** The counters of an attempt, the widest first. A network of many addresses takes more than one of them may. */
  const countersOf = (source: string | undefined): ReadonlyArray<Counter> => [
    { key: `sallyport/${name}/total`, limit: total },
    ...(source === undefined ? [] : networksOf(source)).map((network, index, networks): Counter => ({
      key: `sallyport/${name}/source/${network}`,
      limit: { ...perSource, attempts: perSource.attempts * growth ** Math.max(0, networks.length - 2 - index) }
    }))
  ]

  return {
    count: Effect.fnUntraced(function*(source) {
      const counters = countersOf(source)
      // An attempt past a limit is looked up alone: however many there are, they write nothing.
      for (const { key, limit } of counters) {
        const outcome = yield* take(key, 0, limit)
        if ("_tag" in outcome) return wait(outcome.retryAfterMillis)
        if (outcome.remaining < 1) return wait(outcome.resetMillis)
      }
      const counted: Array<Counter> = []
      // While a wide one is full, no narrow one is made, so there are never many of those.
      for (const counter of counters) {
        const outcome = yield* take(counter.key, 1, counter.limit)
        if ("_tag" in outcome) {
          // What one source sends past its limit is not held against the others.
          for (const { key, limit } of counted) yield* take(key, -1, limit)
          return wait(outcome.retryAfterMillis)
        }
        counted.push(counter)
      }
      return Option.none()
    }),
    forgive: (source) => Effect.forEach(countersOf(source), ({ key, limit }) => take(key, -1, limit), { discard: true })
  }
})
