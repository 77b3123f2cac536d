/**
 * The settings of streams.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/**
 * Describes the settings of streams.
 *
 * @category options
 * @since 0.1.0
 */
export interface DurableStreamsOptions {
  /** The size of one append. Defaults to 8 MiB. */
  readonly maxAppendBytes?: number | undefined
  /** The size of a stream's data. Defaults to 1 GiB. */
  readonly maxStreamBytes?: number | undefined
  /** How many appends share a commit at most. Defaults to 256. */
  readonly maxBatchAppends?: number | undefined
  /** How many appends a page holds at most. Defaults to 1,024. */
  readonly pageRecords?: number | undefined
  /** How many bytes a page holds at most, unless one append is larger. Defaults to 1 MiB. */
  readonly pageBytes?: number | undefined
  /** How often readers look for changes that no hint told of. Defaults to 5 seconds. */
  readonly pollInterval?: Duration.Input | undefined
}

/**
 * Reports a setting that is not positive.
 *
 * @category errors
 * @since 0.1.0
 */
export class DurableStreamsOptionsError extends Schema.TaggedError<DurableStreamsOptionsError>()(
  "DurableStreamsOptionsError",
  { setting: Schema.String }
) {
  override get message(): string {
    return `The streams' ${this.setting} must be a positive, finite number`
  }
}

/** Holds the settings, durations in milliseconds. */
export interface Settings {
  readonly maxAppendBytes: number
  readonly maxStreamBytes: number
  readonly maxBatchAppends: number
  readonly pageRecords: number
  readonly pageBytes: number
  readonly pollInterval: number
}

/** Fills in the defaults. */
export const toSettings = (options: DurableStreamsOptions): Settings => ({
  maxAppendBytes: options.maxAppendBytes ?? 8 * 1024 * 1024,
  maxStreamBytes: options.maxStreamBytes ?? 1024 * 1024 * 1024,
  maxBatchAppends: options.maxBatchAppends ?? 256,
  pageRecords: options.pageRecords ?? 1024,
  pageBytes: options.pageBytes ?? 1024 * 1024,
  pollInterval: Duration.toMillis(options.pollInterval ?? "5 seconds")
})

/** Returns what is wrong with settings, if anything. */
export const checkSettings = (settings: Settings): DurableStreamsOptionsError | undefined => {
  const [wrong] = Object.entries(settings).filter(([, value]) => !Number.isFinite(value) || value <= 0)
  return wrong === undefined ? undefined : new DurableStreamsOptionsError({ setting: wrong[0] })
}
