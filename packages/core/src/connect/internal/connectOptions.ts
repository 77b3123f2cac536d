/**
 * The settings of connecting clients, and whether they can work.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports settings that cannot work when the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidConnectOptions extends Schema.TaggedError<InvalidConnectOptions>()("InvalidConnectOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The settings of connecting clients cannot work: ${this.problem}`
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
  /** How often somebody who waits looks without having been told to. Default 5 seconds. */
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
  readonly recheckMillis: number
}

/** Reads a setting in whole milliseconds, which is what rows hold. */
const positiveMillis = (
  setting: keyof Options,
  duration: Duration.Input
): Effect.Effect<number, InvalidConnectOptions> => {
  const millis = Math.round(Duration.toMillis(duration))
  return millis > 0 && Number.isSafeInteger(millis)
    ? Effect.succeed(millis)
    : Effect.fail(new InvalidConnectOptions({ problem: `${setting} must be finite and at least 1 millisecond` }))
}

const positive = (setting: keyof Options, value: number): Effect.Effect<number, InvalidConnectOptions> =>
  Number.isSafeInteger(value) && value > 0
    ? Effect.succeed(value)
    : Effect.fail(new InvalidConnectOptions({ problem: `${setting} must be a whole number from 1` }))

/** Fills in the defaults. Fails where a setting is not positive. */
export const toSettings = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Settings, InvalidConnectOptions> {
  return {
    pendingMillis: yield* positiveMillis("pendingLifetime", options.pendingLifetime ?? "1 day"),
    maxPending: yield* positive("maxPendingPerAccount", options.maxPendingPerAccount ?? 20),
    maxObserved: yield* positive("maxObservedPerAccount", options.maxObservedPerAccount ?? 1_000),
    backOffMillis: yield* positiveMillis("backOff", options.backOff ?? "1 minute"),
    maxBackOffMillis: yield* positiveMillis("maxBackOff", options.maxBackOff ?? "1 day"),
    maxWaiting: yield* positive("maxWaiting", options.maxWaiting ?? 1_000),
    recheckMillis: yield* positiveMillis("recheckInterval", options.recheckInterval ?? "5 seconds")
  }
})
