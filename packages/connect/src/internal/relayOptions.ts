/**
 * The options of a relay, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports options of a relay that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRelayHandlersOptions extends Schema.TaggedError<InvalidRelayHandlersOptions>()(
  "InvalidRelayHandlersOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of a relay cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of a relay; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many proofs of each status are kept for an account, of those received last. Default 1,000. */
  readonly proofsPerAccount?: number | undefined
  /** How many environments an account may have. Default 1,000. */
  readonly environmentsPerAccount?: number | undefined
  /** How many calls of environments one client, or session without a key, may have open at once in a process. Default 8. */
  readonly callsPerClient?: number | undefined
  /** How many calls all clients of an account may have open. Default 100. */
  readonly callsPerAccount?: number | undefined
  /** How many requests of one client may wait for a decision at once in a process, streams among them. Default 8. */
  readonly waitsPerClient?: number | undefined
  /** How many requests of all clients of an account may do so. Default 200. */
  readonly waitsPerAccount?: number | undefined
}

/** Holds the settings. */
export interface Settings {
  readonly proofsPerAccount: number
  readonly environmentsPerAccount: number
  readonly callsPerClient: number
  readonly callsPerAccount: number
  readonly waitsPerClient: number
  readonly waitsPerAccount: number
}

/** Decodes the options of a relay. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_RELAY",
  invalid: (problem) => new InvalidRelayHandlersOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      proofsPerAccount: yield* read.count("proofsPerAccount", 1_000),
      environmentsPerAccount: yield* read.count("environmentsPerAccount", 1_000),
      callsPerClient: yield* read.count("callsPerClient", 8),
      callsPerAccount: yield* read.count("callsPerAccount", 100),
      waitsPerClient: yield* read.count("waitsPerClient", 8),
      waitsPerAccount: yield* read.count("waitsPerAccount", 200)
    }
  })
})
