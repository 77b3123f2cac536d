/**
 * The options of runs, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { BudgetSettings } from "./budget.ts"

/**
 * Reports options of runs that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRunsOptions extends Schema.TaggedError<InvalidRunsOptions>()("InvalidRunsOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The options of runs cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of runs; each has a default. They bound the attempts without progress; an event is progress.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** How many attempts may fail in a row. Defaults to 32. */
  readonly maxAttempts?: number | undefined
  /** How long to keep retrying without progress. Defaults to 2 minutes. */
  readonly maxDuration?: Duration.Input | undefined
  /**
   * The longest wait after the first failure; each failure doubles it. The wait is a random part of it, after the time that
   * the server's `retry:` or `Retry-After` asks for. Defaults to 500 milliseconds.
   */
  readonly baseDelay?: Duration.Input | undefined
  /** The largest random part of a wait: about how long a client stays away from a server that is back. Defaults to 5 seconds. */
  readonly maxDelay?: Duration.Input | undefined
  /**
   * How often the server sends heartbeats. A connection without data for twice as long is closed. Defaults to 15
   * seconds.
   */
  readonly heartbeatInterval?: Duration.Input | undefined
  /** How long a request that is not a stream may take. Defaults to 30 seconds. */
  readonly requestTimeout?: Duration.Input | undefined
  /** The longest event, in UTF-16 code units; a longer one is an `UnexpectedAnswer`. Defaults to 4 Mi. */
  readonly maxEventLength?: number | undefined
}

/** Holds the settings. */
export interface Settings extends BudgetSettings {
  /** How long the connection may be silent, without even a heartbeat. */
  readonly idleTimeout: Duration.Duration
  /** After how long an open connection with only heartbeats counts as progress. */
  readonly steadyAfter: Duration.Duration
  readonly requestTimeout: Duration.Duration
  readonly maxEventLength: number
}

const decode = Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
  const heartbeat = Duration.millis(yield* read.millis("heartbeatInterval", "15 seconds"))
  const requestTimeout = Duration.millis(yield* read.millis("requestTimeout", "30 seconds"))
  const idleTimeout = Duration.times(heartbeat, 2)
  return {
    maxAttempts: yield* read.count("maxAttempts", 32),
    maxDuration: yield* read.millis("maxDuration", "2 minutes"),
    baseDelay: yield* read.millis("baseDelay", "500 millis", 0),
    maxDelay: yield* read.millis("maxDelay", "5 seconds", 0),
    maxAttemptDuration: Duration.toMillis(Duration.max(requestTimeout, Duration.times(idleTimeout, 2))),
    idleTimeout,
    steadyAfter: heartbeat,
    requestTimeout,
    maxEventLength: yield* read.count("maxEventLength", 4 * 1024 * 1024)
  }
})

/** The settings of an application that wrote nothing. */
export const defaults: Effect.Effect<Settings> = ServiceOptions.decodeDefaults<Options, Settings>(decode)

/** Decodes the options of runs. */
export const toSettings = (options: Options): Effect.Effect<Settings, InvalidRunsOptions> =>
  ServiceOptions.decodeObject(options, { decode, invalid: (problem) => new InvalidRunsOptions({ problem }) })
