/**
 * Runs upkeep in the background: what deletes in bounded batches is run again and again, and never gets in anybody's way.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * Lists what a host may say of any sweeper; each has a default that is the sweeper's own.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** How long it rests once there is no more to delete. */
  readonly interval?: Duration.Input | undefined
  /** How many rows it deletes in one step. */
  readonly batchSize?: number | undefined
}

/**
 * Runs a sweep again and again while the layer is there, from a second after it was built: batch after batch while one
 * comes back full, then once per interval. A failure is logged, and tried again after the interval.
 *
 * `sweep` is made once. It deletes at most `limit` rows that had ended at `nowMillis`, and answers how many those were.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(settings: {
  /** What is swept, for the log. */
  readonly name: string
  readonly options: Options | undefined
  readonly defaults: { readonly interval: Duration.Input; readonly batchSize: number }
  readonly sweep: Effect.Effect<(limit: number, nowMillis: number) => Effect.Effect<number, E>, never, R>
}): Layer.Layer<never, never, R> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const { defaults, name, options } = settings
    const sweep = yield* settings.sweep
    const limit = options?.batchSize ?? defaults.batchSize
    yield* Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => sweep(limit, nowMillis)).pipe(
      // Others get their turn between two batches.
      Effect.tap(() => Effect.yieldNow),
      Effect.repeat({ while: (swept) => swept >= limit }),
      Effect.catchCause((cause) => Effect.logWarning(`The sweeper of ${name} failed; it tries again`, cause)),
      Effect.andThen(Effect.sleep(options?.interval ?? defaults.interval)),
      Effect.forever,
      // A start that fails is to change nothing, and fails within this time.
      Effect.delay("1 second"),
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
  }))
