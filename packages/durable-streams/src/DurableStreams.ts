/**
 * Durable streams: append-only logs of bytes or JSON messages that clients address by path, write exactly once, read from
 * any position, follow, fork and close.
 *
 * The service holds the policy: what a request may contain, how many appends share a commit, how readers wait.
 * {@link DurableStreamRepository} holds the rows. {@link layerSweeper} deletes streams that have expired; a host adds it
 * beside {@link layer}.
 */
import type { RunOwner } from "@sallyport/core/runs/Run"
import * as Sweeper from "@sallyport/core/Sweeper"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { StreamInfo, StreamPage } from "./DurableStream.ts"
import type { DurableStreamRepository, ProducerPoint, SweepCounts } from "./DurableStreamRepository.ts"
import type { DurableStreamsError } from "./internal/streamErrors.ts"
import {
  checkSettings,
  type DurableStreamsOptions,
  type DurableStreamsOptionsError,
  toSettings
} from "./internal/streamOptions.ts"
import * as StreamService from "./internal/streamService.ts"

export {
  BeyondTail,
  ContentTypeMismatch,
  DurableStreamsError,
  DurableStreamsErrorReason,
  InvalidInput,
  LimitExceeded,
  SeqRegression,
  SequenceGap,
  ShuttingDown,
  SourceGone,
  SourceNotFound,
  StaleEpoch,
  StorageFailure,
  StreamClosed,
  StreamConflict,
  StreamGone,
  StreamNotFound
} from "./internal/streamErrors.ts"
export { type DurableStreamsOptions, DurableStreamsOptionsError } from "./internal/streamOptions.ts"

/**
 * Names a stream of an owner. Owners are kept apart: the same path is another stream to each.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamName {
  readonly owner: RunOwner
  readonly path: string
}

/**
 * Describes a stream that is to be created.
 *
 * @category options
 * @since 0.1.0
 */
export interface CreateOptions extends StreamName {
  /** Defaults to `application/octet-stream`, or to the source's for a fork. */
  readonly contentType?: string | undefined
  /** How long the stream lives without being read or written. Not together with `expiresAtMillis`. */
  readonly ttl?: Duration.Input | undefined
  /** When the stream expires, in milliseconds since 1970. */
  readonly expiresAtMillis?: number | undefined
  /** Creates the stream closed, with what is in `data` and no more. */
  readonly closed?: boolean | undefined
  readonly data?: Uint8Array | undefined
  /** Makes the stream a fork: it begins with its source's data up to `at`, and `further` bytes or messages. */
  readonly fork?: {
    readonly path: string
    /** Defaults to the source's tail. */
    readonly at?: number | undefined
    /** Within what one append brought; needs `at`. */
    readonly further?: number | undefined
  } | undefined
}

/**
 * Describes an append.
 *
 * @category options
 * @since 0.1.0
 */
export interface AppendOptions extends StreamName {
  /** Has to be the stream's, parameters aside. Only needed with data. */
  readonly contentType?: string | undefined
  /** Bytes; in a stream of JSON a value, or an array of values that become one message each. */
  readonly data: Uint8Array
  /** Makes the append idempotent: of equal points one is stored. */
  readonly producer?: ProducerPoint | undefined
  /** A `Stream-Seq`: has to be greater than the one before, of any writer of the stream. */
  readonly seq?: string | undefined
  /** Closes the stream after the data, if any. */
  readonly close?: boolean | undefined
}

/**
 * Describes what came of an append.
 *
 * @category models
 * @since 0.1.0
 */
export interface Appended {
  /** The position after the data. */
  readonly tail: number
  readonly closed: boolean
  /** True where this append had been stored before, or the stream was closed already. */
  readonly duplicate: boolean
  /** The highest number that was accepted of the producer, where there is one. */
  readonly producerSeq: number | null
}

/**
 * Describes what to read.
 *
 * @category options
 * @since 0.1.0
 */
export interface ReadOptions extends StreamName {
  /** A position, or `tail` for what comes after now. Defaults to 0. */
  readonly from?: number | "tail" | undefined
}

/**
 * Describes where a reader is.
 *
 * @category options
 * @since 0.1.0
 */
export interface ReadNextOptions extends StreamName {
  /** The last page that it was given. */
  readonly after: StreamPage
}

/**
 * Provides streams.
 *
 * @category services
 * @since 0.1.0
 */
export class DurableStreams extends Context.Service<DurableStreams, {
  /**
   * Creates a stream, or returns the one that is there if it was created the same way. One atomic step.
   *
   * Fails with `InvalidInput`, `StreamConflict`, `LimitExceeded`, and for forks with `SourceNotFound`, `SourceGone`,
   * `ContentTypeMismatch` and `BeyondTail`.
   */
  readonly create: (
    options: CreateOptions
  ) => Effect.Effect<{ readonly created: boolean; readonly stream: StreamInfo }, DurableStreamsError>
  /**
   * Appends to a stream, or closes it, and returns once that is durable. Calls made at the same time share a transaction;
   * those for one stream keep their order.
   *
   * Fails with `InvalidInput`, `StreamNotFound`, `StreamGone`, `StreamClosed`, `ContentTypeMismatch`, `StaleEpoch`,
   * `SequenceGap`, `SeqRegression` and `LimitExceeded`; nothing was stored then.
   */
  readonly append: (options: AppendOptions) => Effect.Effect<Appended, DurableStreamsError>
  /** Returns a stream, without counting as use of it. Fails with `StreamNotFound` and `StreamGone`. */
  readonly get: (options: StreamName) => Effect.Effect<StreamInfo, DurableStreamsError>
  /**
   * Reads a page of a stream, of bounded size, from a position on. Fails with `StreamNotFound`, `StreamGone` and
   * `BeyondTail`.
   */
  readonly read: (options: ReadOptions) => Effect.Effect<StreamPage, DurableStreamsError>
  /**
   * Reads the page after another one; where that was up to date, once there is more. The page may be empty. All readers of
   * this process that wait for the same page share one read. Fails as `read` does.
   */
  readonly readNext: (options: ReadNextOptions) => Effect.Effect<StreamPage, DurableStreamsError>
  /**
   * Waits until a page that was up to date may be followed by another one: the stream was appended to, closed or deleted.
   * It may return for nothing.
   */
  readonly awaitChange: (page: StreamPage) => Effect.Effect<void, DurableStreamsError>
  /**
   * Deletes a stream with all its data; where it has forks, its data stays for them. Fails with `StreamNotFound` and
   * `StreamGone`.
   */
  readonly delete: (options: StreamName) => Effect.Effect<void, DurableStreamsError>
  /** Lists at most `limit` streams of an owner, by path, whose path begins with `prefix`, after one path. */
  readonly list: (options: {
    readonly owner: RunOwner
    readonly prefix?: string | undefined
    readonly after?: string | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<StreamInfo>, DurableStreamsError>
  /** Calls a function after each commit of this process that created a stream with data, or appended to one. */
  readonly onAppend: (listener: (name: StreamName) => void) => Effect.Effect<void, never, Scope.Scope>
  /** Deletes streams that have expired, and what deleted streams left behind, at most `limit` rows of each. */
  readonly sweep: (options: { readonly limit: number }) => Effect.Effect<SweepCounts, DurableStreamsError>
}>()("@sallyport/durable-streams/DurableStreams") {}

/**
 * Provides streams with the default settings of {@link DurableStreamsOptions}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DurableStreams, never, DurableStreamRepository> = Layer.effect(
  DurableStreams,
  StreamService.make(toSettings({}))
)

/**
 * Provides streams with settings of one's own. Fails, while the layer is built, where one is not positive.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: DurableStreamsOptions
): Layer.Layer<DurableStreams, DurableStreamsOptionsError, DurableStreamRepository> =>
  Layer.effect(
    DurableStreams,
    Effect.suspend(() => {
      const settings = toSettings(options)
      const error = checkSettings(settings)
      return error === undefined ? StreamService.make(settings) : Effect.fail(error)
    })
  )

/**
 * Deletes, again and again, streams that have expired, and what deleted streams left behind, in batches. Several processes
 * may do this at once.
 *
 * `interval` defaults to 1 minute, `batchSize` to 500 rows. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (options?: Sweeper.Options): Layer.Layer<never, never, DurableStreams> =>
  Sweeper.layer({
    name: "streams that have expired",
    options,
    defaults: { interval: "1 minute", batchSize: 500 },
    sweep: DurableStreams.useSync((streams) => (limit: number) =>
      Effect.map(streams.sweep({ limit }), (counts) => Math.max(...Object.values(counts)))
    )
  })
