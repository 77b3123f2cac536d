/**
 * Durable streams: append-only logs of bytes or JSON messages that clients address by path, write exactly once, read from
 * any position, follow, fork and close.
 *
 * The service holds the policy: what a request may contain, how many appends share a commit, how readers wait.
 * {@link DurableStreamRepository} holds the rows. {@link layerSweeper} deletes streams that have expired; a host adds it
 * beside {@link layer}.
 */
import * as AppendLog from "@sallyport/core/AppendLog"
import { ownerKey, type RunOwner } from "@sallyport/core/Run"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  defaultContentType,
  isJson,
  isStreamPath,
  mediaType,
  type StreamInfo,
  type StreamPage
} from "./DurableStream.ts"
import {
  type AppendItem,
  type AppendOutcome,
  DurableStreamRepository,
  type DurableStreamRepositoryError,
  markOf,
  type Missing,
  type ProducerPoint,
  type StreamRow,
  type SweepCounts
} from "./DurableStreamRepository.ts"
import * as JsonText from "./internal/jsonText.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Says that there is no such stream, or that it is somebody else's. HTTP 404. */
export class StreamNotFound extends Schema.TaggedError<StreamNotFound>()("StreamNotFound", { path: Schema.String }) {
  override get message(): string {
    return `There is no stream ${
      JSON.stringify(this.path)
    } here; create it with PUT, or check the path and who is asking`
  }
}

/** Says that the stream was deleted and is kept for its forks only. HTTP 410. */
export class StreamGone extends Schema.TaggedError<StreamGone>()("StreamGone", { path: Schema.String }) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} has been deleted; only its forks can still be read`
  }
}

/** Says that the path is in use by a stream that was created differently. HTTP 409. */
export class StreamConflict extends Schema.TaggedError<StreamConflict>()("StreamConflict", { path: Schema.String }) {
  override get message(): string {
    return `The path ${JSON.stringify(this.path)} is in use by a stream with another configuration; choose another path`
  }
}

/** Says that the stream has been closed, so that nothing more can be appended. HTTP 409. */
export class StreamClosed extends Schema.TaggedError<StreamClosed>()("StreamClosed", {
  path: Schema.String,
  tail: Schema.Natural
}) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} is closed; append to another one`
  }
}

/** Says that data of another content type was to be appended, or to be inherited by a fork. HTTP 409. */
export class ContentTypeMismatch extends Schema.TaggedError<ContentTypeMismatch>()("ContentTypeMismatch", {
  path: Schema.String,
  contentType: Schema.String
}) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} has the content type ${this.contentType}; send that one`
  }
}

/** Says that a `Stream-Seq` is not greater than the last one. HTTP 409. */
export class SeqRegression extends Schema.TaggedError<SeqRegression>()("SeqRegression", {
  path: Schema.String,
  last: Schema.String
}) {
  override get message(): string {
    return `The last Stream-Seq of ${JSON.stringify(this.path)} is ${JSON.stringify(this.last)}; give a greater one`
  }
}

/** Says that a producer with a later epoch has taken over. HTTP 403. */
export class StaleEpoch extends Schema.TaggedError<StaleEpoch>()("StaleEpoch", {
  path: Schema.String,
  epoch: Schema.Natural
}) {
  override get message(): string {
    return `This producer of ${JSON.stringify(this.path)} is at epoch ${this.epoch}; ` +
      `stop writing, or claim it with a greater epoch and begin at 0`
  }
}

/** Says that appends of a producer are missing before this one. HTTP 409. */
export class SequenceGap extends Schema.TaggedError<SequenceGap>()("SequenceGap", {
  path: Schema.String,
  expected: Schema.Natural,
  received: Schema.Natural
}) {
  override get message(): string {
    return `The producer's next append to ${
      JSON.stringify(this.path)
    } is number ${this.expected}, not ${this.received}; ` +
      `send those in between first`
  }
}

/** Says that an argument is out of its domain. HTTP 400. */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  field: Schema.String,
  expected: Schema.String
}) {
  override get message(): string {
    return `${this.field} must be ${this.expected}`
  }
}

/** Says that a position lies after the tail of the stream. HTTP 400. */
export class BeyondTail extends Schema.TaggedError<BeyondTail>()("BeyondTail", { path: Schema.String }) {
  override get message(): string {
    return `The offset lies after the tail of ${JSON.stringify(this.path)}, or of what one append brought; ` +
      `use an offset that this stream has answered`
  }
}

/** Says that the stream to fork does not exist. HTTP 404. */
export class SourceNotFound extends Schema.TaggedError<SourceNotFound>()("SourceNotFound", { path: Schema.String }) {
  override get message(): string {
    return `There is no stream ${JSON.stringify(this.path)} to fork here; check the path and who is asking`
  }
}

/** Says that the stream to fork has been deleted. HTTP 409. */
export class SourceGone extends Schema.TaggedError<SourceGone>()("SourceGone", { path: Schema.String }) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} has been deleted and takes no new forks`
  }
}

/** Says that a configured limit does not admit the data. HTTP 413. */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>()("LimitExceeded", {
  path: Schema.String,
  limit: Schema.Literals(["maxAppendBytes", "maxStreamBytes"]),
  max: Schema.Number
}) {
  override get message(): string {
    return `The stream ${JSON.stringify(this.path)} would exceed ${this.limit} (${this.max}); nothing was stored`
  }
}

/** Says that the process is shutting down and takes no more appends. HTTP 503; worth another try elsewhere. */
export class ShuttingDown extends Schema.TaggedError<ShuttingDown>()("ShuttingDown", {}) {
  override get message(): string {
    return "The server is shutting down; try again in a moment"
  }
}

/** Says that the store failed, so that nothing is known; never to be taken for "there is none". HTTP 503. */
export class StorageFailure extends Schema.TaggedError<StorageFailure>()("StorageFailure", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The stream store could not ${this.operation}; try again, and check that the database can be reached`
  }
}

/** Lists what can go wrong. */
export const DurableStreamsErrorReason = Schema.Union([
  StreamNotFound,
  StreamGone,
  StreamConflict,
  StreamClosed,
  ContentTypeMismatch,
  SeqRegression,
  StaleEpoch,
  SequenceGap,
  InvalidInput,
  BeyondTail,
  SourceNotFound,
  SourceGone,
  LimitExceeded,
  ShuttingDown,
  StorageFailure
])
/** @see {@link DurableStreamsErrorReason} */
export type DurableStreamsErrorReason = typeof DurableStreamsErrorReason.Type

/** Reports what went wrong with a stream; callers branch on the tag of `reason`. */
export class DurableStreamsError extends Schema.TaggedError<DurableStreamsError>()("DurableStreamsError", {
  reason: DurableStreamsErrorReason
}) {
  override get message(): string {
    return this.reason.message
  }

  /** Tells whether the same call may succeed later. */
  get isRetryable(): boolean {
    return this.reason._tag === "StorageFailure" || this.reason._tag === "ShuttingDown"
  }
}

const fail = (reason: DurableStreamsErrorReason): Effect.Effect<never, DurableStreamsError> =>
  Effect.fail(new DurableStreamsError({ reason }))

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Names a stream of an owner. Owners are kept apart: the same path is another stream to each. */
export interface StreamName {
  readonly owner: RunOwner
  readonly path: string
}

/** Describes a stream that is to be created. */
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

/** Describes an append. */
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

/** Describes what came of an append. */
export interface Appended {
  /** The position after the data. */
  readonly tail: number
  readonly closed: boolean
  /** True where this append had been stored before, or the stream was closed already. */
  readonly duplicate: boolean
  /** The highest number that was accepted of the producer, where there is one. */
  readonly producerSeq: number | null
}

/** Describes what to read. */
export interface ReadOptions extends StreamName {
  /** A position, or `tail` for what comes after now. Defaults to 0. */
  readonly from?: number | "tail" | undefined
}

/** Provides streams. */
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

/** Describes the settings of streams. */
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

/** Reports a setting that is not positive. */
export class DurableStreamsOptionsError extends Schema.TaggedError<DurableStreamsOptionsError>()(
  "DurableStreamsOptionsError",
  { setting: Schema.String }
) {
  override get message(): string {
    return `The streams' ${this.setting} must be a positive, finite number`
  }
}

interface Settings {
  readonly maxAppendBytes: number
  readonly maxStreamBytes: number
  readonly maxBatchAppends: number
  readonly pageRecords: number
  readonly pageBytes: number
  readonly pollInterval: number
}

const toSettings = (options: DurableStreamsOptions): Settings => ({
  maxAppendBytes: options.maxAppendBytes ?? 8 * 1024 * 1024,
  maxStreamBytes: options.maxStreamBytes ?? 1024 * 1024 * 1024,
  maxBatchAppends: options.maxBatchAppends ?? 256,
  pageRecords: options.pageRecords ?? 1024,
  pageBytes: options.pageBytes ?? 1024 * 1024,
  pollInterval: Duration.toMillis(options.pollInterval ?? "5 seconds")
})

const storage = <A>(effect: Effect.Effect<A, DurableStreamRepositoryError>): Effect.Effect<A, DurableStreamsError> =>
  Effect.mapError(
    effect,
    ({ cause, operation }) => new DurableStreamsError({ reason: new StorageFailure({ operation, cause }) })
  )

const toInfo = (row: StreamRow): StreamInfo => ({
  id: row.id,
  path: row.path,
  contentType: row.contentType,
  tail: row.tail,
  closed: row.closed,
  ttlMillis: row.ttlMillis,
  expiresAtMillis: row.expiresAtMillis
})

const absent = (path: string, missing: Missing): Effect.Effect<never, DurableStreamsError> =>
  fail(missing._tag === "Gone" ? new StreamGone({ path }) : new StreamNotFound({ path }))

const noData = new Uint8Array()
const contentTypePattern = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+\/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(?:;[\x20-\x7e]*)?$/
// Header values. PostgreSQL stores no NUL, and no log shows other control characters as they are.
const shortText = /^[^\p{Cc}\p{Cs}]{1,255}$/u

const checkPath = (path: string): Effect.Effect<void, DurableStreamsError> =>
  isStreamPath(path) ? Effect.void : fail(
    new InvalidInput({
      field: "path",
      expected: "1 to 512 characters, in segments that are not empty, . or .., the first of them not __ds"
    })
  )

const isNatural = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

const make = Effect.fnUntraced(function*(
  settings: Settings
): Effect.fn.Return<DurableStreams["Service"], never, DurableStreamRepository | Scope.Scope> {
  const repository = yield* DurableStreamRepository
  const clock = yield* Clock.Clock
  const followers = AppendLog.makeFollowers()
  const listeners = new Set<(name: StreamName) => void>()
  const shuttingDown = fail(new ShuttingDown())
  const now = () => clock.currentTimeMillisUnsafe()

  interface Item extends AppendItem {
    readonly owner: RunOwner
  }
  const appendBatched = yield* AppendLog.groupCommit({
    weight: () => 1,
    maxWeight: settings.maxBatchAppends,
    closed: shuttingDown,
    commit: (items: ReadonlyArray<Item>) =>
      Effect.map(
        storage(
          Effect.suspend(() => repository.append({ items, nowMillis: now(), maxStreamBytes: settings.maxStreamBytes }))
        ),
        (outcomes) => {
          for (let i = 0; i < items.length; i++) {
            const item = items[i]
            const outcome = outcomes[i]
            if (item === undefined || outcome?._tag !== "Appended") continue
            followers.notify(String(outcome.streamId))
            for (const listener of listeners) listener({ owner: item.owner, path: item.path })
          }
          return outcomes
        }
      )
  })

  // ---- Waiting --------------------------------------------------------------------------------------------------

  const look = Effect.suspend(() =>
    Effect.forEach(
      Arr.chunksOf(followers.keys(), 100),
      (chunk) =>
        Effect.map(repository.heads(chunk.map(Number)), (heads) =>
          followers.compare(
            chunk,
            heads.map(({ id, mark }) => ({ key: String(id), position: mark, ended: false }))
          )),
      { discard: true }
    )
  )
  // A hint at anything is answered by one look at all streams that are followed, not by one of each reader.
  const listen = repository.wakeups.pipe(
    Stream.runForEach((wakeUp) => wakeUp === "anything" ? look : Effect.sync(() => followers.wake(wakeUp))),
    Effect.catchCause((cause) => Effect.logWarning("Lost the hints at changes of streams; listening anew", cause)),
    Effect.repeat(Schedule.spaced("1 second")),
    Effect.withTracerEnabled(false)
  )
  yield* Effect.forkScoped(listen)
  yield* Effect.forkScoped(
    look.pipe(
      Effect.catchCause((cause) => Effect.logWarning("Could not look for changes of streams", cause)),
      Effect.delay(settings.pollInterval),
      Effect.forever,
      Effect.withTracerEnabled(false)
    )
  )

  // ---- Reading --------------------------------------------------------------------------------------------------

  const get = Effect.fn("DurableStreams.get")(function*({ owner, path }: StreamName) {
    if (!isStreamPath(path)) return yield* fail(new StreamNotFound({ path }))
    const outcome = yield* storage(repository.get({ ownerKey: ownerKey(owner), path, nowMillis: now() }))
    return outcome._tag === "Found" ? toInfo(outcome.stream) : yield* absent(path, outcome)
  })

  const read = Effect.fnUntraced(function*(
    { from = 0, owner, path }: ReadOptions
  ): Effect.fn.Return<StreamPage, DurableStreamsError> {
    if (!isStreamPath(path)) return yield* fail(new StreamNotFound({ path }))
    const outcome = yield* storage(repository.read({
      ownerKey: ownerKey(owner),
      path,
      from,
      maxRecords: settings.pageRecords,
      maxBytes: settings.pageBytes,
      nowMillis: now()
    }))
    if (outcome._tag === "BeyondEnd") return yield* fail(new BeyondTail({ path }))
    if (outcome._tag !== "Read") return yield* absent(path, outcome)
    const { records, stream } = outcome
    const next = records[records.length - 1]?.end ?? outcome.from
    const upToDate = next === stream.tail
    return {
      stream: toInfo(stream),
      from: outcome.from,
      next,
      pieces: records.map((record) => record.data),
      upToDate,
      ended: upToDate && stream.closed
    }
  })

  const awaitChange = (page: StreamPage): Effect.Effect<void, DurableStreamsError> =>
    Effect.scoped(Effect.gen(function*() {
      const { id } = page.stream
      const seen = markOf({ tail: page.next, closed: page.ended })
      const follower = yield* followers.follow(String(id), seen)
      // What was committed before this reader was registered gave it no signal.
      const [head] = yield* storage(repository.heads([id]))
      if (head === undefined || head.mark > seen) return
      yield* followers.wait(follower)
    })).pipe(Effect.withTracerEnabled(false))

  // ---- Creating -------------------------------------------------------------------------------------------------

  const create = Effect.fn("DurableStreams.create")(function*(options: CreateOptions) {
    const { closed = false, data = noData, expiresAtMillis = null, fork, owner, path } = options
    yield* checkPath(path)
    const ttlMillis = options.ttl === undefined ? null : Duration.toMillis(options.ttl)
    if (ttlMillis !== null && expiresAtMillis !== null) {
      return yield* fail(new InvalidInput({ field: "ttl", expected: "absent where expiresAtMillis is given" }))
    }
    if (ttlMillis !== null && !isNatural(ttlMillis)) {
      return yield* fail(new InvalidInput({ field: "ttl", expected: "a finite duration of whole milliseconds" }))
    }
    if (expiresAtMillis !== null && !isNatural(expiresAtMillis)) {
      return yield* fail(new InvalidInput({ field: "expiresAtMillis", expected: "whole milliseconds since 1970" }))
    }
    if (options.contentType !== undefined && !contentTypePattern.test(options.contentType)) {
      return yield* fail(new InvalidInput({ field: "contentType", expected: "a media type, such as text/plain" }))
    }
    if (data.length > settings.maxAppendBytes) {
      return yield* fail(new LimitExceeded({ path, limit: "maxAppendBytes", max: settings.maxAppendBytes }))
    }
    const further = fork?.further ?? 0
    if (fork !== undefined) {
      yield* checkPath(fork.path)
      if (!isNatural(further) || !isNatural(fork.at ?? 0)) {
        return yield* fail(new InvalidInput({ field: "fork", expected: "a position and a natural number" }))
      }
      if (further > 0 && fork.at === undefined) {
        return yield* fail(new InvalidInput({ field: "fork.further", expected: "given together with fork.at" }))
      }
    }
    // A fork takes its source's content type, which is how its first data is to be read. The store checks that it still
    // has that type.
    const contentType = options.contentType ?? (fork === undefined
      ? defaultContentType
      : data.length === 0
      ? null
      : (yield* Effect.catchReasons(get({ owner, path: fork.path }), "DurableStreamsError", {
        StreamNotFound: () => fail(new SourceNotFound({ path: fork.path })),
        StreamGone: () => fail(new SourceGone({ path: fork.path }))
      })).contentType)
    let units = data.length
    let stored = data
    if (data.length > 0 && contentType !== null && isJson(contentType)) {
      const messages = JsonText.messagesOf(data)
      if (messages === undefined) return yield* fail(new InvalidInput({ field: "data", expected: "JSON" }))
      units = messages.count
      stored = messages.list
    }
    const outcome = yield* storage(repository.create({
      ownerKey: ownerKey(owner),
      path,
      contentType,
      config: JSON.stringify([
        ttlMillis,
        expiresAtMillis,
        ...(fork === undefined ? [] : [fork.path, fork.at ?? null, further])
      ]),
      ttlMillis,
      expiresAtMillis,
      closed,
      data: stored,
      units,
      fork: fork === undefined ? null : { path: fork.path, at: fork.at ?? null, further },
      nowMillis: now()
    }))
    switch (outcome._tag) {
      case "Created": {
        if (units > 0) { for (const listener of listeners) listener({ owner, path }) }
        return { created: true, stream: toInfo(outcome.stream) }
      }
      case "Existing":
        return { created: false, stream: toInfo(outcome.stream) }
      case "Conflict":
        return yield* fail(new StreamConflict({ path }))
      case "SourceUnknown":
        return yield* fail(new SourceNotFound({ path: fork?.path ?? path }))
      case "SourceGone":
        return yield* fail(new SourceGone({ path: fork?.path ?? path }))
      case "SourceMismatch":
        return yield* fail(new ContentTypeMismatch({ path: fork?.path ?? path, contentType: outcome.contentType }))
      case "BeyondSource":
        return yield* fail(new BeyondTail({ path: fork?.path ?? path }))
    }
  })

  // ---- Appending ------------------------------------------------------------------------------------------------

  const toAppended = (
    options: AppendOptions,
    outcome: AppendOutcome
  ): Effect.Effect<Appended, DurableStreamsError> => {
    const { path, producer } = options
    switch (outcome._tag) {
      case "Appended":
        return Effect.succeed({
          tail: outcome.tail,
          closed: outcome.closed,
          duplicate: false,
          producerSeq: producer?.seq ?? null
        })
      case "Duplicate":
        return Effect.succeed({
          tail: outcome.tail,
          closed: outcome.closed,
          duplicate: true,
          producerSeq: producer === undefined ? null : outcome.seq
        })
      case "Closed":
        return fail(new StreamClosed({ path, tail: outcome.tail }))
      case "TypeMismatch":
        return fail(new ContentTypeMismatch({ path, contentType: outcome.contentType }))
      case "StaleEpoch":
        return fail(new StaleEpoch({ path, epoch: outcome.epoch }))
      case "EpochStart":
        return fail(new InvalidInput({ field: "producer.seq", expected: "0 for the first append of a new epoch" }))
      case "SequenceGap":
        return fail(new SequenceGap({ path, expected: outcome.expected, received: producer?.seq ?? 0 }))
      case "SeqRegression":
        return fail(new SeqRegression({ path, last: outcome.last }))
      case "LimitExceeded":
        return fail(new LimitExceeded({ path, limit: "maxStreamBytes", max: settings.maxStreamBytes }))
      case "Unknown":
      case "Gone":
        return absent(path, outcome)
    }
  }

  const append = (options: AppendOptions): Effect.Effect<Appended, DurableStreamsError> =>
    Effect.suspend(() => {
      const { close = false, data, owner, path, producer, seq } = options
      if (!isStreamPath(path)) return fail(new StreamNotFound({ path }))
      if (data.length === 0 && !close) {
        return fail(
          new InvalidInput({ field: "data", expected: "at least one byte, unless the stream is to be closed" })
        )
      }
      if (data.length > 0 && options.contentType === undefined) {
        return fail(new InvalidInput({ field: "contentType", expected: "given with data" }))
      }
      if (data.length > settings.maxAppendBytes) {
        return fail(new LimitExceeded({ path, limit: "maxAppendBytes", max: settings.maxAppendBytes }))
      }
      if (producer !== undefined) {
        if (!shortText.test(producer.producerId)) {
          return fail(new InvalidInput({ field: "producerId", expected: "1 to 255 characters, none of them control" }))
        }
        if (!isNatural(producer.epoch) || !isNatural(producer.seq)) {
          return fail(new InvalidInput({ field: "producer", expected: "natural numbers up to 2^53 - 1" }))
        }
      }
      if (seq !== undefined && !shortText.test(seq)) {
        return fail(new InvalidInput({ field: "seq", expected: "1 to 255 characters, none of them control" }))
      }
      let units = data.length
      let stored = data
      if (data.length > 0 && isJson(options.contentType ?? "")) {
        const messages = JsonText.messagesOf(data)
        if (messages === undefined) return fail(new InvalidInput({ field: "data", expected: "JSON" }))
        if (messages.count === 0) return fail(new InvalidInput({ field: "data", expected: "at least one message" }))
        units = messages.count
        stored = messages.list
      }
      return Effect.flatMap(
        appendBatched({
          owner,
          ownerKey: ownerKey(owner),
          path,
          contentType: data.length === 0 ? null : mediaType(options.contentType ?? ""),
          data: stored,
          units,
          producer: producer ?? null,
          seq: seq ?? null,
          close
        }),
        (outcome) => toAppended(options, outcome)
      )
    })

  return DurableStreams.of({
    create,
    append,
    get,
    read,
    awaitChange,
    delete: Effect.fn("DurableStreams.delete")(function*({ owner, path }) {
      if (!isStreamPath(path)) return yield* fail(new StreamNotFound({ path }))
      const outcome = yield* storage(repository.delete({ ownerKey: ownerKey(owner), path, nowMillis: now() }))
      if (outcome._tag !== "Deleted") return yield* absent(path, outcome)
    }),
    list: Effect.fn("DurableStreams.list")(function*({ after = "", limit, owner, prefix = "" }) {
      const rows = yield* storage(
        repository.list({ ownerKey: ownerKey(owner), prefix, after, limit, nowMillis: now() })
      )
      return rows.map(toInfo)
    }),
    onAppend: (listener) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => listeners.add(listener)),
        () => Effect.sync(() => listeners.delete(listener))
      )),
    sweep: Effect.fn("DurableStreams.sweep")(({ limit }) =>
      storage(Effect.suspend(() => repository.sweep({ limit, nowMillis: now() })))
    )
  })
})

/** Provides streams with the default settings of {@link DurableStreamsOptions}. */
export const layer: Layer.Layer<DurableStreams, never, DurableStreamRepository> = Layer.effect(
  DurableStreams,
  make(toSettings({}))
)

/** Provides streams with settings of one's own. Fails, while the layer is built, where one is not positive. */
export const layerWith = (
  options: DurableStreamsOptions
): Layer.Layer<DurableStreams, DurableStreamsOptionsError, DurableStreamRepository> =>
  Layer.effect(
    DurableStreams,
    Effect.suspend(() => {
      const settings = toSettings(options)
      const [wrong] = Object.entries(settings).filter(([, value]) => !Number.isFinite(value) || value <= 0)
      return wrong === undefined
        ? make(settings)
        : Effect.fail(new DurableStreamsOptionsError({ setting: wrong[0] }))
    })
  )

/**
 * Deletes, again and again, streams that have expired, and what deleted streams left behind, in batches. Several processes
 * may do this at once.
 *
 * `interval` defaults to 1 minute, `batchSize` to 500 rows. A failure is logged, and tried again.
 */
export const layerSweeper = (options?: {
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
}): Layer.Layer<never, never, DurableStreams> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const streams = yield* DurableStreams
    const limit = options?.batchSize ?? 500
    yield* streams.sweep({ limit }).pipe(
      // Batch after batch while there is more, letting others have the database in between.
      Effect.repeat({ while: (counts) => Object.values(counts).some((count) => count >= limit) }),
      Effect.catchCause((cause) => Effect.logWarning("Could not sweep streams; it is tried again", cause)),
      Effect.andThen(Effect.sleep(options?.interval ?? "1 minute")),
      Effect.forever,
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
  }))
