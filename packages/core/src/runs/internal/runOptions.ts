/**
 * The options of a run log, and whether they can work together.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "../../ServiceOptions.ts"

/**
 * Reports options of runs that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRunEventLogOptions extends Schema.TaggedError<InvalidRunEventLogOptions>()(
  "InvalidRunEventLogOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of runs cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of a run log; each has a default. Of the first four, each must be longer than the one before.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How often an executed run extends its lease. Defaults to 10 seconds. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /** How long a run lives without a heartbeat. Defaults to 30 seconds. */
  readonly lease?: Duration.Input | undefined
  /** For how long after its end a run is still found by its thread. Defaults to 10 minutes. */
  readonly reconnectWindow?: Duration.Input | undefined
  /** For how long after a run's end its events are kept. Defaults to 24 hours. */
  readonly retention?: Duration.Input | undefined
  /** For how long after that its idempotency key still answers. Defaults to 7 days. */
  readonly tombstoneRetention?: Duration.Input | undefined
  /** How often readers look for new events without a hint from the store. Defaults to 5 seconds. */
  readonly pollInterval?: Duration.Input | undefined
  /** How many events a reader holds at most. Defaults to 256. */
  readonly pageSize?: number | undefined
  /** How much of the newest events of followed runs is kept in memory for their readers, in all. Defaults to 32 MiB. */
  readonly maxTailBytes?: number | undefined
  /** How many processes may go on, one after another, with a resumable run. Defaults to 10. */
  readonly maxTakeOvers?: number | undefined
  /** For how long a resumable run whose process has gone waits for another one. Defaults to 10 minutes. */
  readonly takeOverWindow?: Duration.Input | undefined
  /** How many runs may wait for one thread. Defaults to 16. */
  readonly maxQueued?: number | undefined
  /** How many events share a commit at most, of 16 MiB together, unless one call appends more. Defaults to 50. */
  readonly maxBatchEvents?: number | undefined
  /** The size of one event as JSON in UTF-8. Defaults to 1 MiB. */
  readonly maxEventBytes?: number | undefined
  /** The number of events of one run, the terminal one aside. Defaults to 1,000,000. */
  readonly maxEvents?: number | undefined
  /** The size of all events of one run. Defaults to 1 GiB. */
  readonly maxRunBytes?: number | undefined
  /** How many runs of an owner may be queued or running. Defaults to 1,000. */
  readonly maxRunning?: number | undefined
  /** How many runs of an owner may be aborted by their keys before they begin. Defaults to 1,000. */
  readonly maxAborts?: number | undefined
}

/** Holds the settings; durations are in milliseconds. */
export interface Settings {
  readonly heartbeatInterval: number
  readonly lease: number
  readonly reconnectWindow: number
  readonly retention: number
  readonly tombstoneRetention: number
  readonly pollInterval: number
  readonly pageSize: number
  readonly maxTailBytes: number
  readonly maxTakeOvers: number
  readonly takeOverWindow: number
  readonly maxQueued: number
  readonly maxBatchEvents: number
  readonly maxEventBytes: number
  readonly maxEvents: number
  readonly maxRunBytes: number
  readonly maxRunning: number
  readonly maxAborts: number
}

const ordered = ["heartbeatInterval", "lease", "reconnectWindow", "retention"] as const

/** Decodes the options of a run log. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_RUNS",
  invalid: (problem) => new InvalidRunEventLogOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    const found: Settings = {
      heartbeatInterval: yield* read.millis("heartbeatInterval", "10 seconds"),
      lease: yield* read.millis("lease", "30 seconds"),
      reconnectWindow: yield* read.millis("reconnectWindow", "10 minutes"),
      retention: yield* read.millis("retention", "24 hours"),
      tombstoneRetention: yield* read.millis("tombstoneRetention", "7 days"),
      pollInterval: yield* read.millis("pollInterval", "5 seconds"),
      pageSize: yield* read.count("pageSize", 256),
      maxTailBytes: yield* read.count("maxTailBytes", 32 * 1024 * 1024),
      maxTakeOvers: yield* read.count("maxTakeOvers", 10),
      takeOverWindow: yield* read.millis("takeOverWindow", "10 minutes"),
      maxQueued: yield* read.count("maxQueued", 16),
      maxBatchEvents: yield* read.count("maxBatchEvents", 50),
      maxEventBytes: yield* read.count("maxEventBytes", 1024 * 1024),
      maxEvents: yield* read.count("maxEvents", 1_000_000),
      maxRunBytes: yield* read.count("maxRunBytes", 1024 * 1024 * 1024),
      maxRunning: yield* read.count("maxRunning", 1_000),
      maxAborts: yield* read.count("maxAborts", 1_000)
    }
    for (const [index, larger] of ordered.entries()) {
      const smaller = ordered[index - 1]
      if (smaller !== undefined && found[smaller] >= found[larger]) {
        return yield* read.refuse(
          `${read.name(smaller)} must be shorter than ${read.name(larger)}, or healthy runs would be ended ` +
            `or lost from sight; change one of the two`
        )
      }
    }
    return found
  })
})
