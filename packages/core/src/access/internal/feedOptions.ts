/**
 * The options of the access feed, and whether they can work.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options of the access feed that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidAccessFeedOptions extends Schema.TaggedError<InvalidAccessFeedOptions>()(
  "InvalidAccessFeedOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the access feed cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of the access feed; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many events are read at once. Default 256. */
  readonly pageSize?: number | undefined
  /** How many events a subscriber is sent to catch up; one that is further behind gets a snapshot. Default 10,000. */
  readonly maxReplay?: number | undefined
  /** How often a follower looks without a hint. Default 5 seconds. */
  readonly pollInterval?: Duration.Input | undefined
  /** How long to wait before listening again if listening failed. A follower looks each time. Default 250 milliseconds. */
  readonly retryDelay?: Duration.Input | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly pageSize: number
  readonly maxReplay: number
  readonly pollMillis: number
  readonly retryMillis: number
}

/** Decodes the options of the access feed. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_FEED",
  invalid: (problem) => new InvalidAccessFeedOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      pageSize: yield* read.count("pageSize", 256),
      maxReplay: yield* read.count("maxReplay", 10_000, 0),
      pollMillis: yield* read.millis("pollInterval", "5 seconds"),
      retryMillis: yield* read.millis("retryDelay", "250 millis")
    }
  })
})
