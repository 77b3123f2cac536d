import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Lists the settings of a sweeper; each has a default. */
export interface Options {
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
}

/**
 * Runs a sweep again and again while the layer is there: batch after batch while one comes back full, then once per
 * interval. A failure is logged, and tried again after the interval.
 */
export const layer = <E, R>(
  what: string,
  options: Options | undefined,
  defaults: { readonly interval: Duration.Input; readonly batchSize: number },
  make: Effect.Effect<(limit: number, nowMillis: number) => Effect.Effect<number, E>, never, R>
): Layer.Layer<never, never, R> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const sweep = yield* make
    const limit = options?.batchSize ?? defaults.batchSize
    yield* Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => sweep(limit, nowMillis)).pipe(
      // Batch after batch while there is more, letting others have the database in between.
      Effect.tap(Effect.yieldNow),
      Effect.repeat({ while: (swept) => swept >= limit }),
      Effect.catchCause((cause) => Effect.logWarning(`The sweeper of ${what} failed; it tries again`, cause)),
      Effect.andThen(Effect.sleep(options?.interval ?? defaults.interval)),
      Effect.forever,
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
  }))
