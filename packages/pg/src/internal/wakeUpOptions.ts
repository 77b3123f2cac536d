/**
 * The options of wake-ups over PostgreSQL, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports options of wake-ups that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidPgWakeUpsOptions extends Schema.TaggedError<InvalidPgWakeUpsOptions>()("InvalidPgWakeUpsOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The options of wake-ups cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of wake-ups; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The channel, the same in all processes. Default `sallyport`. */
  readonly channel?: string | undefined
  /** How long commits are collected before one notification tells of them. Default 3 milliseconds. */
  readonly coalesce?: Duration.Input | undefined
  /** How often the listening connection is asked whether it is alive. Default 2 seconds. */
  readonly heartbeat?: Duration.Input | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly channel: string
  readonly coalesceMillis: number
  readonly heartbeatMillis: number
}

/** Decodes the options of wake-ups. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_WAKE_UPS",
  invalid: (problem) => new InvalidPgWakeUpsOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      channel: yield* read.text("channel", "sallyport"),
      coalesceMillis: yield* read.millis("coalesce", "3 millis", 0),
      heartbeatMillis: yield* read.millis("heartbeat", "2 seconds")
    }
  })
})
