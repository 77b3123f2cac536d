/**
 * The options of a rotation of the relay's key, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports options of a rotation of the relay's key that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRelayKeyRotationOptions extends Schema.TaggedError<InvalidRelayKeyRotationOptions>()(
  "InvalidRelayKeyRotationOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of a rotation of the relay's key cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of a rotation of the relay's key; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long environments have to confirm the next key. One that does not has to be linked again. Default 7 days. */
  readonly limit?: Duration.Input | undefined
  /** How long to rest between two steps of a rotation that has begun. Default 1 minute. */
  readonly interval?: Duration.Input | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly limitMillis: number
  readonly intervalMillis: number
}

/** Decodes the options of a rotation of the relay's key. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_RELAY_KEY",
  invalid: (problem) => new InvalidRelayKeyRotationOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      limitMillis: yield* read.millis("limit", "7 days", 0),
      intervalMillis: yield* read.millis("interval", "1 minute")
    }
  })
})
