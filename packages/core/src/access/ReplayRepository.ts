/**
 * Where single-use values are spent: the `jti` of a proof, a nonce. A value is kept as a digest until it would be refused
 * for its age anyway.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Input from "../Input.ts"
import { RepositoryError } from "../RepositoryError.ts"
import * as Sweeper from "../Sweeper.ts"

/**
 * Describes a value to spend.
 *
 * @category models
 * @since 0.1.0
 */
export interface Spending {
  /** What kind of value it is, so that equal values of two kinds don't meet: `dpop-jti`, for example. */
  readonly kind: string
  /** A digest of the value and of whatever it is unique within, in lowercase hex. Never the value itself. */
  readonly digest: string
  /** Until when a second use has to be refused, in milliseconds since the epoch. A whole number. */
  readonly expiresAtMillis: number
}

/**
 * Provides the atomic step of spending.
 *
 * @category services
 * @since 0.1.0
 */
export class ReplayRepository extends Context.Service<ReplayRepository, {
  /**
   * Spends a value, in one step: true to exactly one of n racers, in one process or many, until it expires. A store that
   * cannot remember the value fails; it never answers true.
   */
  readonly spend: (spending: Spending, nowMillis: number) => Effect.Effect<boolean, RepositoryError>
  /**
   * Deletes at most `limit` values that had expired at `nowMillis`, those that expired first before others on a database,
   * and returns how many went. One that another caller is spending again may be left for the next sweep.
   */
  readonly sweep: (options: {
    readonly nowMillis: number
    readonly limit: number
  }) => Effect.Effect<number, RepositoryError>
}>()("@sallyport/core/access/ReplayRepository") {}

/** Holds the values of one kind, in the order in which they were spent. */
interface Window {
  readonly expiryByDigest: Map<string, number>
  /** No value expires before this, so that a full window is told from one with room without looking at every value. */
  firstExpiryMillis: number
}

/**
 * Provides the repository in memory, for one process. It holds at most `capacity` unexpired values of each kind, by
 * default 100,000; beyond that it fails, rather than forget one that could then be used again. A kind that is full does
 * not stand in the way of another.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemoryWith = (options: { readonly capacity: number }): Layer.Layer<ReplayRepository> =>
  Layer.sync(ReplayRepository, () => {
    Input.demand("ReplayRepository.layerMemoryWith", { capacity: Input.required(Input.count) }, options)
    const windows = new Map<string, Window>()

    const drop = (window: Window, nowMillis: number, limit: number): number => {
      if (window.firstExpiryMillis > nowMillis) return 0
      let dropped = 0
      let firstExpiryMillis = Infinity
      for (const [digest, expiresAtMillis] of window.expiryByDigest) {
        if (expiresAtMillis > nowMillis) {
          firstExpiryMillis = Math.min(firstExpiryMillis, expiresAtMillis)
        } else if (dropped < limit) {
          window.expiryByDigest.delete(digest)
          dropped++
        } else {
          // There is more to drop, so the next look is not to be spared.
          return dropped
        }
      }
      window.firstExpiryMillis = firstExpiryMillis
      return dropped
    }

    const windowOf = (kind: string): Window => {
      let window = windows.get(kind)
      if (window === undefined) windows.set(kind, window = { expiryByDigest: new Map(), firstExpiryMillis: Infinity })
      return window
    }

    return ReplayRepository.of({
      spend: ({ digest, expiresAtMillis, kind }, nowMillis) =>
        Effect.suspend(() => {
          const window = windowOf(kind)
          const { expiryByDigest } = window
          const spentUntil = expiryByDigest.get(digest)
          if (spentUntil !== undefined && spentUntil > nowMillis) return Effect.succeed(false)
          if (expiryByDigest.size >= options.capacity && drop(window, nowMillis, Infinity) === 0) {
            return Effect.fail(
              new RepositoryError({
                operation: "spend",
                reason: "Unavailable",
                outcome: "unchanged",
                cause: new Error(`The replay window is full: ${options.capacity} values have not expired yet`)
              })
            )
          }
          expiryByDigest.set(digest, expiresAtMillis)
          if (expiresAtMillis < window.firstExpiryMillis) window.firstExpiryMillis = expiresAtMillis
          return Effect.succeed(true)
        }),
      sweep: ({ limit, nowMillis }) =>
        Effect.sync(() => {
          let dropped = 0
          for (const window of windows.values()) dropped += drop(window, nowMillis, limit - dropped)
          return dropped
        })
    })
  })

/**
 * Provides the repository in memory, with room for 100,000 unexpired values of each kind.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<ReplayRepository> = layerMemoryWith({ capacity: 100_000 })

/**
 * Deletes expired values again and again, in batches. Several processes may do this at once.
 *
 * `interval` defaults to 1 minute, `batchSize` to 500 values. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.Options
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, ReplayRepository> =>
  Sweeper.layer({
    name: "spent single-use values",
    options,
    defaults: { interval: "1 minute", batchSize: 500 },
    sweep: Effect.map(ReplayRepository, (replays) => (limit, nowMillis) => replays.sweep({ nowMillis, limit }))
  })
