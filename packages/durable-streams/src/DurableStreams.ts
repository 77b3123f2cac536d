/**
 * Durable streams: append-only logs of bytes or JSON messages that clients address by path, write exactly once, read from
 * any position, follow, fork and close.
 *
 * The service holds the policy: what a request may contain, how many appends share a commit, how readers wait.
 * {@link DurableStreamRepository} holds the rows. {@link layerSweeper} deletes streams that have expired; a host adds it
 * beside {@link layer}.
 */
import * as Sweeper from "@sallyport/core/Sweeper"
import type * as Writer from "@sallyport/core/Writer"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { StreamInfo, StreamPage } from "./DurableStream.ts"
import type { DurableStreamRepository, SweepCounts } from "./DurableStreamRepository.ts"
import type {
  Appended,
  AppendOptions,
  CreateOptions,
  ListOptions,
  ReadNextOptions,
  ReadOptions,
  StreamName
} from "./internal/streamCalls.ts"
import type { DurableStreamsError } from "./internal/streamErrors.ts"
import { type InvalidDurableStreamsOptions, type Options, settings } from "./internal/streamOptions.ts"
import * as StreamService from "./internal/streamService.ts"

export type {
  Appended,
  AppendOptions,
  CreateOptions,
  ListOptions,
  ReadNextOptions,
  ReadOptions,
  StreamName
} from "./internal/streamCalls.ts"
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
  StreamNotFound,
  TooManyStreams
} from "./internal/streamErrors.ts"
export { InvalidDurableStreamsOptions, type Options } from "./internal/streamOptions.ts"

/**
 * Provides streams.
 *
 * **Example** (Appending to a stream)
 *
 * ```ts
 * import { DurableStreamRepository, DurableStreams } from "@sallyport/durable-streams"
 * import { Console, Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const streams = yield* DurableStreams.DurableStreams
 *   const name = { owner: { subject: "ada" }, path: "notes" }
 *   yield* streams.create({ ...name, contentType: "text/plain" })
 *   yield* streams.append({ ...name, contentType: "text/plain", data: new TextEncoder().encode("hello") })
 *   const page = yield* streams.read(name)
 *   yield* Console.log(page.next, page.pieces.map((piece) => new TextDecoder().decode(piece)))
 *   // => 5 [ 'hello' ]
 * })
 *
 * const Streams = Layer.provide(DurableStreams.layer, DurableStreamRepository.layerMemory)
 *
 * Effect.runPromise(Effect.provide(program, Streams))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class DurableStreams extends Context.Service<DurableStreams, {
  /**
   * Creates a stream, or returns the one that is there if it was created the same way. One atomic step.
   *
   * Fails with `InvalidInput`, `StreamConflict`, `TooManyStreams`, `LimitExceeded`, and for forks with `SourceNotFound`, `SourceGone`,
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
   * Reads the page after another one; if that was up to date, once there is more. The page may be empty. All readers of
   * this process that wait for the same page share one read. Fails as `read` does.
   */
  readonly readNext: (options: ReadNextOptions) => Effect.Effect<StreamPage, DurableStreamsError>
  /**
   * Pushes all pages after another one, until the stream has ended. No page is empty, but for one that ends the stream.
   * While there is room, what was read for one reader is written to all that wait for it. Fails as `read` does.
   */
  readonly push: (options: ReadNextOptions) => Writer.Push<StreamPage, DurableStreamsError>
  /**
   * Deletes a stream with all its data; if it has forks, its data stays for them. Fails with `StreamNotFound` and
   * `StreamGone`.
   */
  readonly delete: (options: StreamName) => Effect.Effect<void, DurableStreamsError>
  /** Lists at most `limit` streams of an owner, by path, whose path begins with `prefix`, after one path. */
  readonly list: (options: ListOptions) => Effect.Effect<ReadonlyArray<StreamInfo>, DurableStreamsError>
  /** Calls a function after each commit of this process that created a stream with data, or appended to one. */
  readonly onAppend: (listener: (name: StreamName) => void) => Effect.Effect<void, never, Scope.Scope>
  /** Deletes streams that have expired, and what deleted streams left behind, at most `limit` rows of each. */
  readonly sweep: (options: { readonly limit: number }) => Effect.Effect<SweepCounts, DurableStreamsError>
}>()("@sallyport/durable-streams/DurableStreams") {}

/**
 * Creates the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<
  DurableStreams["Service"],
  InvalidDurableStreamsOptions,
  DurableStreamRepository | Scope.Scope
> => Effect.flatMap(settings.fromObject(options), StreamService.make)

/**
 * Provides streams with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<DurableStreams, InvalidDurableStreamsOptions, DurableStreamRepository> =>
  Layer.effect(DurableStreams, make(options))

/**
 * Provides streams with the options of the configuration, in variables that begin with `SALLYPORT_STREAMS_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  DurableStreams,
  Config.ConfigError | InvalidDurableStreamsOptions,
  DurableStreamRepository
> = Layer.effect(DurableStreams, Effect.flatMap(settings.fromConfig, StreamService.make))

/**
 * Provides streams with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DurableStreams, never, DurableStreamRepository> = Layer.effect(
  DurableStreams,
  Effect.flatMap(settings.defaults, StreamService.make)
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
export const layerSweeper = (
  options?: Sweeper.Options
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, DurableStreams> =>
  Sweeper.layer({
    name: "streams that have expired",
    options,
    defaults: { interval: "1 minute", batchSize: 500 },
    sweep: DurableStreams.useSync((streams) => (limit: number) =>
      Effect.map(streams.sweep({ limit }), (counts) => Math.max(...Object.values(counts)))
    )
  })
