/**
 * The options of DPoP proofs, and whether they can work.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options with which no proof could be checked, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidDpopProofOptions extends Schema.TaggedError<InvalidDpopProofOptions>()(
  "InvalidDpopProofOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of DPoP cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of DPoP proofs; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How old a proof may be. Default 60 seconds. */
  readonly maxAge?: Duration.Input | undefined
  /** How far a client's clock may run ahead, and how far those of the servers of one store may differ. Default 10 seconds. */
  readonly clockSkew?: Duration.Input | undefined
  /**
   * Whether a proof has to carry a nonce of this server, and for how long one is given out; it is good for as long again.
   * Off by default. A nonce bounds how long before its use a proof can have been made, whatever the clock that its `iat`
   * was taken from.
   */
  readonly nonceLifetime?: Duration.Input | undefined
  /** How many keys are kept ready for use; the one that was not used for longest goes first. Default 10,000. */
  readonly keyCacheCapacity?: number | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly maxAgeMillis: number
  readonly skewMillis: number
  readonly nonceMillis: number | undefined
  readonly keyCacheCapacity: number
}

/** Decodes the options of DPoP proofs. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_DPOP",
  invalid: (problem) => new InvalidDpopProofOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      maxAgeMillis: yield* read.millis("maxAge", "60 seconds"),
      skewMillis: yield* read.millis("clockSkew", "10 seconds", 0),
      nonceMillis: yield* read.optionalMillis("nonceLifetime"),
      keyCacheCapacity: yield* read.count("keyCacheCapacity", 10_000)
    }
  })
})
