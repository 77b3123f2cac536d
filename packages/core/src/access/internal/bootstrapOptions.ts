/**
 * The settings of one-time credentials, and whether they can work.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Attempts from "./attempts.ts"

/**
 * Reports settings that contradict each other when the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidBootstrapOptions extends Schema.TaggedError<InvalidBootstrapOptions>()("InvalidBootstrapOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The settings of pairing links cannot work: ${this.problem}`
  }
}

/**
 * Bounds attempts: at most `limit` in a window. Each is forgotten after its share of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface AttemptLimit {
  readonly limit: number
  readonly window: Duration.Input
}

/**
 * Lists the settings of one-time credentials; each has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** How long a link can be redeemed unless its issuer says otherwise. Default 5 minutes. */
  readonly lifetime?: Duration.Input | undefined
  /** The longest lifetime that an issuer may ask for. Default 1 hour. */
  readonly maximumLifetime?: Duration.Input | undefined
  /** How many links a list shows at most, the newest first. Default 1,000. */
  readonly listLimit?: number | undefined
  /**
   * How many well-formed but wrong credentials are taken from one source, by default 10 a minute, and from all together, by
   * default 1,000 a minute. They are counted with the `RateLimiter` in the context when the layer is built, which may be
   * shared between processes, and in this process where there is none.
   */
  readonly attempts?: {
    readonly perSource?: AttemptLimit | undefined
    readonly total?: AttemptLimit | undefined
  } | undefined
}

/** Holds the settings, durations in milliseconds. */
export interface Settings {
  readonly defaultMillis: number
  readonly maximumMillis: number
  readonly listLimit: number
  readonly perSource: Attempts.Limit
  readonly total: Attempts.Limit
}

/** Fills in the defaults. Fails where a setting cannot work. */
export const toSettings = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Settings, InvalidBootstrapOptions> {
  const maximumMillis = Duration.toMillis(options.maximumLifetime ?? "1 hour")
  const defaultMillis = Duration.toMillis(options.lifetime ?? "5 minutes")
  if (!(defaultMillis > 0 && defaultMillis <= maximumMillis)) {
    return yield* new InvalidBootstrapOptions({
      problem: "lifetime must be positive and not longer than maximumLifetime, or no link could be issued"
    })
  }

  const attemptLimit = (
    setting: "perSource" | "total",
    preset: number
  ): Effect.Effect<Attempts.Limit, InvalidBootstrapOptions> => {
    const { limit, window } = options.attempts?.[setting] ?? { limit: preset, window: "1 minute" }
    const windowMillis = Duration.toMillis(window)
    return Number.isSafeInteger(limit) && limit > 0 && windowMillis > 0 && Number.isFinite(windowMillis)
      ? Effect.succeed({ attempts: limit, windowMillis })
      : Effect.fail(
        new InvalidBootstrapOptions({
          problem:
            `attempts.${setting} needs a limit that is a whole number from 1, and a window that is positive and finite`
        })
      )
  }

  return {
    defaultMillis,
    maximumMillis,
    listLimit: options.listLimit ?? 1_000,
    perSource: yield* attemptLimit("perSource", 10),
    total: yield* attemptLimit("total", 1_000)
  }
})
