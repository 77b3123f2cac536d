/**
 * The options of streams, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports options of streams that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidDurableStreamsOptions extends Schema.TaggedError<InvalidDurableStreamsOptions>()(
  "InvalidDurableStreamsOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of streams cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of streams; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The size of one append. Defaults to 8 MiB. */
  readonly maxAppendBytes?: number | undefined
  /** The size of a stream's data. Defaults to 1 GiB. */
  readonly maxStreamBytes?: number | undefined
  /** How many streams an owner may have. Defaults to 10,000. */
  readonly maxStreams?: number | undefined
  /** How many appends share a commit at most, of 16 MiB together. Defaults to 256. */
  readonly maxBatchAppends?: number | undefined
  /** How many appends a page holds at most. Defaults to 1,024. */
  readonly pageRecords?: number | undefined
  /** How many bytes a page holds at most, unless one append is larger. Defaults to 1 MiB. */
  readonly pageBytes?: number | undefined
  /** How often readers look for changes that no hint told of. Defaults to 5 seconds. */
  readonly pollInterval?: Duration.Input | undefined
}

/** Holds the settings, durations in milliseconds. */
export interface Settings {
  readonly maxAppendBytes: number
  readonly maxStreamBytes: number
  readonly maxStreams: number
  readonly maxBatchAppends: number
  readonly pageRecords: number
  readonly pageBytes: number
  readonly pollInterval: number
}

/** Decodes the options of streams. */
export const settings = ServiceOptions.make({
  prefix: "SALLYPORT_STREAMS",
  invalid: (problem) => new InvalidDurableStreamsOptions({ problem }),
  decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
    return {
      maxAppendBytes: yield* read.count("maxAppendBytes", 8 * 1024 * 1024),
      maxStreamBytes: yield* read.count("maxStreamBytes", 1024 * 1024 * 1024),
      maxStreams: yield* read.count("maxStreams", 10_000),
      maxBatchAppends: yield* read.count("maxBatchAppends", 256),
      pageRecords: yield* read.count("pageRecords", 1024),
      pageBytes: yield* read.count("pageBytes", 1024 * 1024),
      pollInterval: yield* read.millis("pollInterval", "5 seconds")
    }
  })
})
