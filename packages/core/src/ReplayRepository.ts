/**
 * Where single-use values are spent: the `jti` of a proof, a nonce. A value is kept as a digest until it would be refused
 * for its age anyway.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { AccessRepositoryError } from "./AccessRepositoryError.ts"

/** Describes a value to spend. */
export interface Spending {
  /** What kind of value it is, so that equal values of two kinds don't meet: `dpop-jti`, for example. */
  readonly kind: string
  /** A digest of the value and of whatever it is unique within, in lowercase hex. Never the value itself. */
  readonly digest: string
  /** Until when a second use has to be refused, in milliseconds since the epoch. */
  readonly expiresAtMillis: number
}

/** Provides the atomic step of spending. */
export class ReplayRepository extends Context.Service<ReplayRepository, {
  /**
   * Spends a value, in one step: true to exactly one of n racers, in one process or many, until it expires. A store that
   * cannot remember the value fails; it never answers true.
   */
  readonly spend: (spending: Spending, nowMillis: number) => Effect.Effect<boolean, AccessRepositoryError>
  /** Deletes at most `limit` values that had expired at `nowMillis`, and returns how many went. */
  readonly sweep: (options: {
    readonly nowMillis: number
    readonly limit: number
  }) => Effect.Effect<number, AccessRepositoryError>
}>()("@sallyport/core/ReplayRepository") {}

/**
 * Provides the repository in memory, for one process. It holds at most `capacity` unexpired values, by default 100,000;
 * beyond that it fails, rather than forget one that could then be used again.
 */
export const layerMemoryWith = (options: { readonly capacity: number }): Layer.Layer<ReplayRepository> =>
  Layer.sync(ReplayRepository, () => {
    const expiryByValue = new Map<string, number>()

    const drop = (nowMillis: number, limit: number): number => {
      let dropped = 0
      for (const [value, expiresAtMillis] of expiryByValue) {
        if (dropped === limit) break
        if (expiresAtMillis > nowMillis) continue
        expiryByValue.delete(value)
        dropped++
      }
      return dropped
    }

    return ReplayRepository.of({
      spend: ({ digest, expiresAtMillis, kind }, nowMillis) =>
        Effect.suspend(() => {
          const value = `${kind}:${digest}`
          const spentUntil = expiryByValue.get(value)
          if (spentUntil !== undefined && spentUntil > nowMillis) return Effect.succeed(false)
          if (expiryByValue.size >= options.capacity && drop(nowMillis, options.capacity) === 0) {
            return Effect.fail(
              new AccessRepositoryError({
                operation: "spend",
                cause: new Error(`The replay window is full: ${options.capacity} values have not expired yet`)
              })
            )
          }
          // Deleted first, so that the map stays in the order in which values were spent.
          expiryByValue.delete(value)
          expiryByValue.set(value, expiresAtMillis)
          return Effect.succeed(true)
        }),
      sweep: ({ limit, nowMillis }) => Effect.sync(() => drop(nowMillis, limit))
    })
  })

/** Provides the repository in memory, with room for 100,000 unexpired values. */
export const layerMemory: Layer.Layer<ReplayRepository> = layerMemoryWith({ capacity: 100_000 })
