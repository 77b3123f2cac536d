/**
 * The options of the relay's requests, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { maxAnswerBytes } from "@sallyport/core/BoundedHttp"

/**
 * Reports options of the relay's requests that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidEnvironmentConnectorOptions extends Schema.TaggedError<InvalidEnvironmentConnectorOptions>()(
  "InvalidEnvironmentConnectorOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the relay's requests cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of the relay's requests; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long an environment may take, beside the time that it is asked to wait. Default 10 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** How many bytes an answer may have. Default 64 KiB. */
  readonly maxAnswerBytes?: number | undefined
  /**
   * Whether environments on this machine may be linked and called, over plain HTTP. Default false: an account could otherwise
   * have the relay send requests to whatever listens beside it. For relays whose accounts are all trusted, and for
   * development. One that was linked while this was on is not called once it is off.
   */
  readonly loopbackEnvironments?: boolean | undefined
}

/** Holds the settings. */
export interface Settings {
  readonly timeoutMillis: number
  readonly maxAnswerBytes: number
  readonly loopbackEnvironments: boolean
}

/** Decodes the options of the relay's requests. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_CONNECTOR",
  invalid: (problem) => new InvalidEnvironmentConnectorOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      timeoutMillis: yield* read.millis("timeout", "10 seconds"),
      maxAnswerBytes: yield* read.count("maxAnswerBytes", maxAnswerBytes),
      loopbackEnvironments: yield* read.flag("loopbackEnvironments", false)
    }
  })
})
