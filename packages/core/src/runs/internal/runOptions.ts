/**
 * The settings of a run log.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/**
 * Describes the settings of a run log. Each duration must be longer than the one before.
 *
 * @category options
 * @since 0.1.0
 */
export interface RunEventLogOptions {
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
  /** How many events share a commit at most, unless one call appends more. Defaults to 50. */
  readonly maxBatchEvents?: number | undefined
  /** The size of one event as JSON in UTF-8. Defaults to 1 MiB. */
  readonly maxEventBytes?: number | undefined
  /** The number of events of one run, the terminal one aside. Defaults to 1,000,000. */
  readonly maxEvents?: number | undefined
  /** The size of all events of one run. Defaults to 1 GiB. */
  readonly maxRunBytes?: number | undefined
}

/**
 * Reports settings that contradict each other, or that are not positive.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunEventLogOptionsError extends Schema.TaggedError<RunEventLogOptionsError>()("RunEventLogOptionsError", {
  /** The setting that must be the smaller one; or the one that is not positive. */
  smaller: Schema.String,
  larger: Schema.NullOr(Schema.String)
}) {
  override get message(): string {
    return this.larger === null
      ? `The run log's ${this.smaller} must be a positive, finite number`
      : `The run log's ${this.smaller} must be shorter than its ${this.larger}, or healthy runs would be ended ` +
        `or lost from sight; change one of the two`
  }
}

const ordered = ["heartbeatInterval", "lease", "reconnectWindow", "retention"] as const

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
  readonly maxBatchEvents: number
  readonly maxEventBytes: number
  readonly maxEvents: number
  readonly maxRunBytes: number
}

/** Fills in the defaults. */
export const toSettings = (options: RunEventLogOptions): Settings => ({
  heartbeatInterval: Duration.toMillis(options.heartbeatInterval ?? "10 seconds"),
  lease: Duration.toMillis(options.lease ?? "30 seconds"),
  reconnectWindow: Duration.toMillis(options.reconnectWindow ?? "10 minutes"),
  retention: Duration.toMillis(options.retention ?? "24 hours"),
  tombstoneRetention: Duration.toMillis(options.tombstoneRetention ?? "7 days"),
  pollInterval: Duration.toMillis(options.pollInterval ?? "5 seconds"),
  pageSize: options.pageSize ?? 256,
  maxTailBytes: options.maxTailBytes ?? 32 * 1024 * 1024,
  maxBatchEvents: options.maxBatchEvents ?? 50,
  maxEventBytes: options.maxEventBytes ?? 1024 * 1024,
  maxEvents: options.maxEvents ?? 1_000_000,
  maxRunBytes: options.maxRunBytes ?? 1024 * 1024 * 1024
})

/** Says which settings contradict each other, or `undefined` where none do. */
export const checkSettings = (settings: Settings): RunEventLogOptionsError | undefined => {
  for (const [name, value] of Object.entries(settings)) {
    if (!Number.isFinite(value) || value <= 0) return new RunEventLogOptionsError({ smaller: name, larger: null })
  }
  for (const [index, larger] of ordered.entries()) {
    const smaller = ordered[index - 1]
    if (smaller !== undefined && settings[smaller] >= settings[larger]) {
      return new RunEventLogOptionsError({ smaller, larger })
    }
  }
  return undefined
}
