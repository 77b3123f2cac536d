/**
 * Runs upkeep in the background: deletes in bounded batches, again and again, and never delays a request.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Metrics from "./Metrics.ts"
import * as Outage from "./Outage.ts"
import * as ServiceOptions from "./ServiceOptions.ts"

/**
 * Lists the options of any sweeper; each has a default that is the sweeper's own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long it rests when there is nothing left to delete. */
  readonly interval?: Duration.Input | undefined
  /** How many rows it deletes in one step. */
  readonly batchSize?: number | undefined
}

/**
 * Lists the options of a sweeper of what is kept for a time after its end.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetentionOptions extends Options {
  /** How long a row is kept after its end. */
  readonly retention?: Duration.Input | undefined
}

/**
 * Reports options of a sweeper that cannot work, while its layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidSweeperOptions extends Schema.TaggedError<InvalidSweeperOptions>()("InvalidSweeperOptions", {
  /** What would have been swept. */
  sweeper: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `The options of the sweeper of ${this.sweeper} cannot work: ${this.problem}`
  }
}

type DurationText = `${number} ${Duration.Unit}`

/**
 * Holds the defaults of a sweeper.
 *
 * @category models
 * @since 0.1.0
 */
export interface Defaults {
  readonly interval: DurationText
  readonly batchSize: number
  readonly retention?: DurationText | undefined
}

/**
 * Decodes the options of a sweeper. `others` names those that are not about its steps.
 *
 * @category constructors
 * @since 0.1.0
 */
export const settings = (
  sweeper: string,
  options: RetentionOptions | undefined,
  defaults: Defaults,
  others: ReadonlyArray<string> = []
): Effect.Effect<
  { readonly intervalMillis: number; readonly batchSize: number; readonly retentionMillis: number },
  InvalidSweeperOptions
> =>
  ServiceOptions.decodeObject(options, {
    invalid: (problem) => new InvalidSweeperOptions({ sweeper, problem }),
    decode: (read: ServiceOptions.Reader<RetentionOptions, InvalidSweeperOptions>) =>
      Effect.all({
        intervalMillis: read.millis("interval", defaults.interval),
        batchSize: read.count("batchSize", defaults.batchSize),
        retentionMillis: defaults.retention === undefined
          ? Effect.succeed(0)
          : read.millis("retention", defaults.retention, 0)
      }),
    others
  })

/** By how much the time of day may move ahead before it counts as a jump, and for how long a jump must last to be believed. */
const maxJumpMillis = 5_000
const believedAfterMillis = 60_000
const restMillis = 400

/**
 * Makes what tells whether the time of day can be trusted to end what is due by it: it has not jumped ahead of the time
 * that has gone by since the look before, or has stayed there for a minute and a look. So nothing ends early because a clock
 * was set wrong and right again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeSteadiness: Effect.Effect<Effect.Effect<boolean>> = Effect.gen(function*() {
  const look = Effect.map(Effect.all([Clock.currentTimeMillis, Clock.monotonicTimeNanos]), ([nowMillis, nanos]) => {
    const elapsedMillis = Number(nanos / 1_000_000n)
    return { elapsedMillis, offsetMillis: nowMillis - elapsedMillis }
  })
  let looks = [yield* look]
  return Effect.map(look, (now) => {
    // The last look that is older than a minute counts too, and those between two batches need not be kept.
    const old = looks.findLastIndex(({ elapsedMillis }) => now.elapsedMillis - elapsedMillis >= believedAfterMillis)
    if (old > 0) looks = looks.slice(old)
    const last = looks.at(-1)
    if (last === undefined || now.elapsedMillis - last.elapsedMillis >= restMillis) looks.push(now)
    return now.offsetMillis - Math.min(...looks.map(({ offsetMillis }) => offsetMillis)) <= maxJumpMillis
  })
})

/**
 * Does a step again and again for ever, after a delay: at once while one answers that it did `batchSize`, else once per
 * interval. While the time of day has just jumped ahead, nothing is done.
 *
 * @category combinators
 * @since 0.1.0
 */
export const again = <E, R>(options: {
  readonly step: Effect.Effect<number, E, R>
  readonly batchSize: number
  readonly intervalMillis: number
  readonly outage: Outage.Witness
  /** Defaults to none. */
  readonly delay?: Duration.Input | undefined
}): Effect.Effect<never, never, R> =>
  Effect.flatMap(
    makeSteadiness,
    (steadiness) =>
      Effect.flatMap(steadiness, (steady) => steady ? options.step : Effect.succeed(0)).pipe(
        Effect.repeat({ while: (done) => done >= options.batchSize }),
        Effect.matchCauseEffect({ onFailure: options.outage.failed, onSuccess: () => options.outage.worked }),
        Effect.andThen(Effect.sleep(options.intervalMillis)),
        Effect.forever,
        Effect.delay(options.delay ?? 0),
        Effect.withTracerEnabled(false)
      )
  )

/**
 * Runs a sweep again and again for as long as the layer lives, from a second after it was built: batch after batch while
 * one comes back full, then once per interval. A failure is logged, and tried again after the interval.
 *
 * `sweep` is made once. It deletes at most `limit` rows that had ended at `endedBeforeMillis`, which is the retention
 * before now, and answers how many those were. While the time of day has just jumped ahead, nothing is swept.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, E2, R>(sweeper: {
  /** What is swept, for the log. */
  readonly name: string
  readonly options: RetentionOptions | undefined
  readonly defaults: Defaults
  /** The options that are not about its steps. Default none. */
  readonly others?: ReadonlyArray<string> | undefined
  readonly sweep: Effect.Effect<
    (limit: number, nowMillis: number, endedBeforeMillis: number) => Effect.Effect<number, E>,
    E2,
    R
  >
}): Layer.Layer<never, E2 | InvalidSweeperOptions, R> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const { defaults, name, options, others } = sweeper
    const { batchSize, intervalMillis, retentionMillis } = yield* settings(name, options, defaults, others)
    const sweep = yield* sweeper.sweep
    const outage = Outage.make({
      of: `sweeper of ${name}`,
      begins: `The sweeper of ${name} fails; it tries again`,
      ends: `The sweeper of ${name} works again`
    })()
    yield* Effect.addFinalizer(() => outage.left)
    const step = Effect.flatMap(
      Clock.currentTimeMillis,
      (nowMillis) => sweep(batchSize, nowMillis, nowMillis - retentionMillis)
    ).pipe(
      // Others get their turn between two batches.
      Effect.tap((swept) => Effect.andThen(Metrics.swept(swept, { of: name }), Effect.yieldNow))
    )
    // A start that fails must change nothing, and fails within this time.
    yield* Effect.forkScoped(again({ step, batchSize, intervalMillis, outage, delay: "1 second" }))
  }))
