/**
 * The settings of connecting clients, and whether they can work.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options of connecting clients that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidConnectClientStoreOptions extends Schema.TaggedError<InvalidConnectClientStoreOptions>()(
  "InvalidConnectClientStoreOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of connecting clients cannot work: ${this.problem}`
  }
}

/**
 * Lists the settings of connecting clients; each has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** How long a request can be decided. Default 1 day. */
  readonly pendingLifetime?: Duration.Input | undefined
  /** How many clients of one account may wait at once. Default 20. */
  readonly maxPendingPerAccount?: number | undefined
  /** How many clients of one account may be let in by their account alone. Default 1,000. */
  readonly maxObservedPerAccount?: number | undefined
  /** How long a client has to wait after its first rejection; twice as long after each further one. Default 1 minute. */
  readonly backOff?: Duration.Input | undefined
  /** How long it has to wait at most. Default 1 day. */
  readonly maxBackOff?: Duration.Input | undefined
  /** How many clients may wait in this process at once by `awaitDecision`. Default 1,000. */
  readonly maxWaiting?: number | undefined
  /** How long the codes of a device are good (RFC 8628). Default 10 minutes. */
  readonly deviceLifetime?: Duration.Input | undefined
  /** How long a device has to wait between two polls, in whole seconds. Default 5 seconds. */
  readonly deviceInterval?: Duration.Input | undefined
  /** How often a waiting request looks for a decision without a hint. Default 5 seconds. */
  readonly recheckInterval?: Duration.Input | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly pendingMillis: number
  readonly maxPending: number
  readonly maxObserved: number
  readonly backOffMillis: number
  readonly maxBackOffMillis: number
  readonly maxWaiting: number
  readonly deviceMillis: number
  readonly intervalMillis: number
  readonly recheckMillis: number
}

/** Decodes the options of connecting clients. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_CONNECT",
  invalid: (problem) => new InvalidConnectClientStoreOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      pendingMillis: yield* read.millis("pendingLifetime", "1 day"),
      maxPending: yield* read.count("maxPendingPerAccount", 20),
      maxObserved: yield* read.count("maxObservedPerAccount", 1_000),
      backOffMillis: yield* read.millis("backOff", "1 minute"),
      maxBackOffMillis: yield* read.millis("maxBackOff", "1 day"),
      maxWaiting: yield* read.count("maxWaiting", 1_000),
      deviceMillis: yield* read.millis("deviceLifetime", "10 minutes"),
      intervalMillis: yield* read.millis("deviceInterval", "5 seconds"),
      recheckMillis: yield* read.millis("recheckInterval", "5 seconds")
    }
  })
})
