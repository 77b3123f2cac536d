/**
 * The settings of sessions, and whether they can work together.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options of sessions that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidSessionCredentialOptions extends Schema.TaggedError<InvalidSessionCredentialOptions>()(
  "InvalidSessionCredentialOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of sessions cannot work: ${this.problem}`
  }
}

/**
 * Lists the settings of sessions; each has a default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long a session lasts after its last renewal: its idle timeout. Activity less than a renewal interval after one
   * starts none, so a session is sure to survive a pause of `lifetime` less `renewalInterval`. Default 30 days.
   */
  readonly lifetime?: Duration.Input | undefined
  /** How often at most an active session's row is written. Default 1/30 of the lifetime. */
  readonly renewalInterval?: Duration.Input | undefined
  /** The age past which no activity keeps a session; none by default. It may be shorter than `lifetime`, and then bounds it. */
  readonly absoluteLifetime?: Duration.Input | undefined
  /**
   * Gives bearer and DPoP sessions a token that ends after `tokenLifetime`, whatever its use, and a refresh token for the
   * next one (RFC 6749 section 6). A refresh token is good for one exchange (RFC 9700 section 4.14.2). For `graceWindow`
   * after it, by default 30 seconds, it gives the very same new tokens again, so that two tabs, or a client that lost the
   * answer, go on. After that its use ends the session: another party has a copy. Off by default, but for
   * sessions that were granted to a client by consent, whose tokens last an hour; cookies are never refreshed.
   */
  readonly refresh?: {
    readonly tokenLifetime: Duration.Input
    readonly graceWindow?: Duration.Input | undefined
  } | undefined
  /** How long a ticket can be redeemed. Default 60 seconds. */
  readonly ticketLifetime?: Duration.Input | undefined
  /** How many verified tokens are remembered at most; the oldest goes first. Default 10,000. */
  readonly cacheCapacity?: number | undefined
  /**
   * How long a remembered token is trusted without a look at its row, and how often a stream held by `whileValid`
   * looks. A revocation is seen before that: at once if this process makes it, and as soon as the access feed tells of
   * it if another does. Default 5 seconds.
   */
  readonly recheckInterval?: Duration.Input | undefined
  /**
   * How long remembered tokens are trusted after this process was last at the end of the access feed. Active sessions have
   * it look there twice in that time, whether or not the feed told of a change, so that a feed that has fallen silent is
   * found out. Default 2 seconds.
   */
  readonly feedTrust?: Duration.Input | undefined
}

/**
 * Sets the limits of a session at authentication assurance level 1 of NIST SP 800-63B-4 section 2.1.3: it ends after 30 days.
 * The standard asks for no limit to inactivity there.
 *
 * The presets set how long a session lasts. How the user was authenticated before is the host's.
 *
 * @category constants
 * @since 0.1.0
 */
export const nistAal1: Options = { lifetime: "30 days", absoluteLifetime: "30 days" }

/**
 * Sets the limits at level 2 (NIST SP 800-63B-4 section 2.2.3): 24 hours, and 1 hour of inactivity.
 *
 * @category constants
 * @since 0.1.0
 */
export const nistAal2: Options = { lifetime: "1 hour", absoluteLifetime: "24 hours" }

/**
 * Sets the limits at level 3 (NIST SP 800-63B-4 section 2.3.3): 12 hours, and 15 minutes of inactivity.
 *
 * @category constants
 * @since 0.1.0
 */
export const nistAal3: Options = { lifetime: "15 minutes", absoluteLifetime: "12 hours" }

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly lifetimeMillis: number
  readonly renewalMillis: number
  readonly absoluteMillis: number | null
  readonly ticketMillis: number
  readonly recheckMillis: number
  readonly trustMillis: number
  readonly cacheCapacity: number
  readonly refreshing: { readonly tokenMillis: number; readonly graceMillis: number }
  /** Whether sessions that no client was granted are refreshed, too. */
  readonly refreshesAll: boolean
}

/** Decodes the options of sessions. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_SESSION",
  invalid: (problem) => new InvalidSessionCredentialOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(
    read: ServiceOptions.Reader<Options, E>
  ): Effect.fn.Return<Settings, E> {
    const { name, refuse } = read
    const lifetimeMillis = yield* read.millis("lifetime", "30 days")
    const renewalMillis = (yield* read.optionalMillis("renewalInterval")) ??
      Math.max(1, Math.floor(lifetimeMillis / 30))
    if (!(renewalMillis < lifetimeMillis)) {
      return yield* refuse(
        `${name("renewalInterval")} must be shorter than ${name("lifetime")}, or an active session would expire`
      )
    }
    const tokenMillis = yield* read.optionalMillis("refresh.tokenLifetime")
    const graceMillis = yield* read.millis("refresh.graceWindow", "30 seconds")
    if (tokenMillis === undefined) {
      if (yield* read.has("refresh.graceWindow")) {
        return yield* refuse(`${name("refresh.graceWindow")} needs ${name("refresh.tokenLifetime")}; set both, or none`)
      }
    } else if (!(graceMillis < tokenMillis)) {
      return yield* refuse(
        `${name("refresh.graceWindow")} must be shorter than ${name("refresh.tokenLifetime")}, ` +
          `or one exchange would overtake another`
      )
    } else if (!(tokenMillis < lifetimeMillis)) {
      return yield* refuse(
        `${name("refresh.tokenLifetime")} must be shorter than ${
          name("lifetime")
        }, or there would be nothing to refresh`
      )
    }
    return {
      lifetimeMillis,
      renewalMillis,
      absoluteMillis: (yield* read.optionalMillis("absoluteLifetime")) ?? null,
      ticketMillis: yield* read.millis("ticketLifetime", "60 seconds"),
      recheckMillis: yield* read.millis("recheckInterval", "5 seconds"),
      trustMillis: yield* read.millis("feedTrust", "2 seconds"),
      cacheCapacity: yield* read.count("cacheCapacity", 10_000),
      refreshing: { tokenMillis: tokenMillis ?? Math.min(3_600_000, Math.ceil(lifetimeMillis / 2)), graceMillis },
      refreshesAll: tokenMillis !== undefined
    }
  })
})
