/**
 * The settings of one-time credentials, and whether they can work.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"
import type * as Attempts from "./attempts.ts"

/**
 * Reports options of pairing links that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidBootstrapCredentialOptions extends Schema.TaggedError<InvalidBootstrapCredentialOptions>()(
  "InvalidBootstrapCredentialOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of pairing links cannot work: ${this.problem}`
  }
}

/**
 * Bounds attempts: at most `limit` in a window. Each is forgotten after its share of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface AttemptLimit {
  readonly limit?: number | undefined
  readonly window?: Duration.Input | undefined
}

/** How many live sessions a session can have let in. */
export const defaultMaxLetIn = 1_000

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
  /** How many links of one session can be open at once. Default 32. */
  readonly maxOpenPerSession?: number | undefined
  /**
   * How many live sessions one session can have let in, with the uses that its links have left. Default 1,000. A session
   * that another has let in counts what descends from it too, and shares the number with that.
   */
  readonly maxLetInPerSession?: number | undefined
  /**
   * Lets a session that is bound to a key issue links that need no proof, so that the new session may be unbound. Off by
   * default: who steals the use of a bound session for a moment could otherwise make one of it that lasts.
   */
  readonly unboundDelegation?: boolean | undefined
  /**
   * How many well-formed but wrong credentials are taken from one source, by default 10 a minute, and from all together, by
   * default 1,000 a minute. They are counted with the `RateLimiter` in the context when the layer is built, which may be
   * shared between processes, and in this process if there is none.
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
  readonly maxOpen: number
  readonly maxLetIn: number
  readonly unboundDelegation: boolean
  readonly perSource: Attempts.Limit
  readonly total: Attempts.Limit
}

/** Decodes the options of one-time credentials. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_PAIRING",
  invalid: (problem) => new InvalidBootstrapCredentialOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    const maximumMillis = yield* read.millis("maximumLifetime", "1 hour")
    const defaultMillis = yield* read.millis("lifetime", "5 minutes")
    if (defaultMillis > maximumMillis) {
      return yield* read.refuse(
        `${read.name("lifetime")} must not be longer than ${read.name("maximumLifetime")}, or no link could be issued`
      )
    }
    return {
      defaultMillis,
      maximumMillis,
      maxOpen: yield* read.count("maxOpenPerSession", 32),
      maxLetIn: yield* read.count("maxLetInPerSession", defaultMaxLetIn),
      unboundDelegation: yield* read.flag("unboundDelegation", false),
      perSource: {
        attempts: yield* read.count("attempts.perSource.limit", 10),
        windowMillis: yield* read.millis("attempts.perSource.window", "1 minute")
      },
      total: {
        attempts: yield* read.count("attempts.total.limit", 1_000),
        windowMillis: yield* read.millis("attempts.total.window", "1 minute")
      }
    }
  })
})
