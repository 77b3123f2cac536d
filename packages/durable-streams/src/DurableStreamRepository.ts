/**
 * Where streams and their data are kept: a few atomic steps on rows, without policy.
 *
 * Times are given by the caller, in milliseconds since 1970 by its clock: lifetimes of streams are the application's.
 */
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import * as WakeUps from "@sallyport/core/WakeUps"
import { isJson, mediaType, type StreamOffset } from "./DurableStream.ts"
import * as JsonText from "./internal/jsonText.ts"

/**
 * Names a stream. Streams of different owners are kept apart, also under the same path.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamAddress {
  readonly ownerKey: string
  readonly path: string
}

/**
 * Names a stream whose data up to a position, exclusive, belongs to a fork.
 *
 * @category models
 * @since 0.1.0
 */
export type Segment = readonly [streamId: number, until: number]

/**
 * Describes a stream as it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamRow extends StreamAddress {
  /** Unique, and never used again. A fork's is greater than its source's. */
  readonly id: number
  readonly contentType: string
  /** What the creation asked for, as text that is equal if that was the same. */
  readonly config: string
  readonly ttlMillis: number | null
  readonly expiresAtMillis: number | null
  /** When the stream expires as things stand; not before `expiresAtMillis`, or `ttlMillis` after it was used last. */
  readonly deadlineMillis: number | null
  readonly closed: boolean
  /** Which append of a producer closed the stream. */
  readonly closedBy: ProducerPoint | null
  readonly tail: number
  /** The size of the stream's own data. */
  readonly byteCount: number
  /** The last `Stream-Seq`, of any writer. */
  readonly lastSeq: string | null
  /** The position where the stream's own data begins: 0, or where a fork left its source. */
  readonly start: number
  readonly parentId: number | null
  /** Where the data before `start` is, in order. */
  readonly segments: ReadonlyArray<Segment>
  /** How many forks stand on this stream. */
  readonly children: number
  /** When the stream was deleted; its data is kept for its forks. */
  readonly deletedAtMillis: number | null
}

/**
 * Names one append of an idempotent producer.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProducerPoint {
  readonly producerId: string
  readonly epoch: number
  readonly seq: number
}

/**
 * Describes a piece of data as it is stored: what one append brought.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamRecord {
  readonly start: number
  /** Exclusive. */
  readonly end: number
  readonly data: Uint8Array
}

/**
 * Says that there is no such stream, or that it was deleted and stays for its forks.
 *
 * @category models
 * @since 0.1.0
 */
export type Missing = { readonly _tag: "Unknown" } | { readonly _tag: "Gone" }

/**
 * Describes a stream to create.
 *
 * @category options
 * @since 0.1.0
 */
export interface CreateOptions extends StreamAddress {
  readonly nowMillis: number
  /** `null` for a fork that takes its source's. */
  readonly contentType: string | null
  readonly config: string
  readonly ttlMillis: number | null
  readonly expiresAtMillis: number | null
  readonly closed: boolean
  /** Initial data; `units` 0 for none. */
  readonly data: Uint8Array
  readonly units: number
  readonly fork: ForkOptions | null
  /** How many streams the owner may have; unbounded if absent. Callers at once may leave a few more. */
  readonly maxStreams?: number | undefined
}

/**
 * Describes where a fork leaves its source.
 *
 * @category options
 * @since 0.1.0
 */
export interface ForkOptions {
  readonly path: string
  /** The stream that `at` is a position of; `null` for whichever has the path. */
  readonly streamId: number | null
  /** A position in the source; `null` for its tail. */
  readonly at: number | null
  /** How many bytes or messages further, within what one append brought. */
  readonly further: number
}

/**
 * Describes what came of creating a stream. Of n callers with one path exactly one is answered `Created`.
 *
 * @category models
 * @since 0.1.0
 */
export type CreateOutcome =
  | { readonly _tag: "Created"; readonly stream: StreamRow }
  /** A stream with this path was created with the same configuration, and is as closed as this one would be. */
  | { readonly _tag: "Existing"; readonly stream: StreamRow }
  /** The path is in use by a stream with another configuration, or by a deleted one that has forks. */
  | { readonly _tag: "Conflict" }
  /** The owner has as many streams as one may have. */
  | { readonly _tag: "Full" }
  | { readonly _tag: "SourceUnknown" }
  | { readonly _tag: "SourceGone" }
  /** The source's content type is another. */
  | { readonly _tag: "SourceMismatch"; readonly contentType: string }
  /** The fork's position lies beyond the source's tail, or beyond the append that it refines. */
  | { readonly _tag: "BeyondSource" }

/**
 * Describes what one writer appends to one stream.
 *
 * @category models
 * @since 0.1.0
 */
export interface AppendItem extends StreamAddress {
  /** `null` if there is no data. */
  readonly contentType: string | null
  readonly data: Uint8Array
  /** By how much the data moves the tail; 0 only if there is none, to close the stream. */
  readonly units: number
  readonly producer: ProducerPoint | null
  /** The `Stream-Seq`; compared with the last one byte by byte. */
  readonly seq: string | null
  readonly close: boolean
}

/**
 * Describes what came of one item of a batch. In every case but `Appended` nothing was changed.
 *
 * @category models
 * @since 0.1.0
 */
export type AppendOutcome =
  | { readonly _tag: "Appended"; readonly streamId: number; readonly tail: number; readonly closed: boolean }
  /** The producer's append was stored before, or the stream was closed before. `seq` is the highest that was accepted. */
  | {
    readonly _tag: "Duplicate"
    readonly streamId: number
    readonly tail: number
    readonly closed: boolean
    readonly seq: number
  }
  | { readonly _tag: "Closed"; readonly streamId: number; readonly tail: number }
  | { readonly _tag: "TypeMismatch"; readonly contentType: string }
  | { readonly _tag: "StaleEpoch"; readonly epoch: number }
  /** A new epoch has to begin with 0. */
  | { readonly _tag: "EpochStart" }
  | { readonly _tag: "SequenceGap"; readonly expected: number }
  | { readonly _tag: "SeqRegression"; readonly last: string }
  | { readonly _tag: "LimitExceeded" }
  | Missing

/**
 * Describes what came of a read.
 *
 * @category models
 * @since 0.1.0
 */
export type ReadOutcome =
  | {
    readonly _tag: "Read"
    readonly stream: StreamRow
    readonly from: number
    /** Consecutive from `from`, cut to it and to where a fork left its source; each holds something. */
    readonly records: ReadonlyArray<StreamRecord>
  }
  | { readonly _tag: "BeyondEnd"; readonly stream: StreamRow }
  | Missing

/**
 * Describes what came of deleting a stream. Of n callers exactly one is answered `Deleted`.
 *
 * @category models
 * @since 0.1.0
 */
export type DeleteOutcome = { readonly _tag: "Deleted" } | Missing

/**
 * Describes where a stream stands, in the form of {@link markOf}.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamHead {
  readonly id: number
  readonly mark: number
}

/**
 * Counts what a sweep did; if every count is below the limit, nothing is left to sweep.
 *
 * @category models
 * @since 0.1.0
 */
export interface SweepCounts {
  /** Streams that had expired. */
  readonly expired: number
  /** Records of deleted streams. */
  readonly records: number
  /** Deleted streams whose records are gone. */
  readonly removed: number
}

/**
 * Returns the position that wake-ups give for a stream: it rises with the tail, and once more when the stream is closed.
 *
 * @category converting
 * @since 0.1.0
 */
export const markOf = (stream: { readonly tail: number; readonly closed: boolean }): number =>
  stream.tail * 2 + (stream.closed ? 1 : 0)

/**
 * Marks a stream that has been deleted.
 *
 * @category constants
 * @since 0.1.0
 */
export const deletedMark: number = Number.MAX_SAFE_INTEGER

/**
 * Provides the atomic steps on streams.
 *
 * @category services
 * @since 0.1.0
 */
export class DurableStreamRepository extends Context.Service<DurableStreamRepository, {
  /**
   * Creates a stream, with its first data, or returns the one that is there if it was created the same way. A path whose
   * stream has expired is free, unless forks stand on it. A fork takes its source's lifetime if it asks for none.
   */
  readonly create: (options: CreateOptions) => Effect.Effect<CreateOutcome, RepositoryError>
  /**
   * Appends many items in one transaction, in the order given, each with an outcome at its own index. An item that is
   * refused stores nothing and disturbs no other; data, the producer's state and closing are stored together or not at
   * all. When the effect succeeds, the data is as durable as the store's settings make a commit.
   */
  readonly append: (options: {
    readonly items: ReadonlyArray<AppendItem>
    readonly nowMillis: number
    readonly maxStreamBytes: number
  }) => Effect.Effect<ReadonlyArray<AppendOutcome>, RepositoryError>
  /** Returns the row of a stream. It does not count as use. */
  readonly get: (
    options: StreamAddress & { readonly nowMillis: number }
  ) => Effect.Effect<{ readonly _tag: "Found"; readonly stream: StreamRow } | Missing, RepositoryError>
  /**
   * Returns data from a position on, or the row alone if it is `tail`; at most `maxRecords` records, and none that
   * begins `maxBytes` or more after the first. It counts as use. The row and the records agree: no record lies beyond the row's tail.
   */
  readonly read: (
    options: StreamAddress & {
      readonly from: number | "tail"
      readonly maxRecords: number
      readonly maxBytes: number
      readonly nowMillis: number
    }
  ) => Effect.Effect<ReadOutcome, RepositoryError>
  /**
   * Deletes a stream. If forks stand on it, its data stays until the last of them is deleted, and its path stays in
   * use. Deleting the last fork of a deleted stream frees that too.
   */
  readonly delete: (
    options: StreamAddress & { readonly nowMillis: number }
  ) => Effect.Effect<DeleteOutcome, RepositoryError>
  /** Lists live streams of an owner whose path begins with `prefix`, in the order of their paths, after one path. */
  readonly list: (options: {
    readonly ownerKey: string
    readonly prefix: string
    readonly after: string
    readonly limit: number
    readonly nowMillis: number
  }) => Effect.Effect<ReadonlyArray<StreamRow>, RepositoryError>
  /** Returns where some streams stand, in any order; streams that have been deleted are left out. */
  readonly heads: (ids: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<StreamHead>, RepositoryError>
  /** Deletes streams that have expired, and what deleted streams have left behind, at most `limit` rows of each. */
  readonly sweep: (options: {
    readonly limit: number
    readonly nowMillis: number
  }) => Effect.Effect<SweepCounts, RepositoryError>
  /**
   * Hints that streams may have changed, whichever process changed them: `anything` when it has begun to listen, then
   * after each commit, or some of them together, the ids of streams with their marks, or `anything`. It fails when hints
   * may have been lost; a reader is then out of date until it has subscribed again and looked.
   */
  readonly wakeups: Stream.Stream<WakeUps.WakeUp, RepositoryError>
}>()("@sallyport/durable-streams/DurableStreamRepository") {}

// -----------------------------------------------------------------------------
// For adapters
// -----------------------------------------------------------------------------

// How much later than promised a stream that is used expires, at most, as a part of its lifetime. A use within that time
// of the one before need not be written.
const slack = 32

/**
 * Returns the deadline of a stream that is used now.
 *
 * @category converting
 * @since 0.1.0
 */
export const deadlineOf = (
  stream: Pick<StreamRow, "ttlMillis" | "expiresAtMillis">,
  nowMillis: number
): number | null =>
  stream.ttlMillis === null
    ? stream.expiresAtMillis
    : nowMillis + stream.ttlMillis + Math.floor(stream.ttlMillis / slack)

/**
 * Tells whether a use now has to be written, so that the stream does not expire before its time.
 *
 * @category predicates
 * @since 0.1.0
 */
export const needsTouch = (
  stream: Pick<StreamRow, "ttlMillis" | "deadlineMillis">,
  nowMillis: number
): boolean =>
  stream.ttlMillis !== null && stream.deadlineMillis !== null && stream.deadlineMillis < nowMillis + stream.ttlMillis

/**
 * Says why a row does not stand for a stream now, or `undefined` if it does.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const missing = (
  row: Pick<StreamRow, "deadlineMillis" | "deletedAtMillis"> | undefined,
  nowMillis: number
): Missing | undefined => {
  if (row === undefined) return { _tag: "Unknown" }
  if (row.deletedAtMillis !== null) return { _tag: "Gone" }
  return isExpired(row, nowMillis) ? { _tag: "Unknown" } : undefined
}

/**
 * Tells whether a stream has expired.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isExpired = (row: Pick<StreamRow, "deadlineMillis">, nowMillis: number): boolean =>
  row.deadlineMillis !== null && row.deadlineMillis <= nowMillis

/**
 * Tells whether creating a stream again asks for what is there.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSame = (stream: StreamRow, options: CreateOptions): boolean =>
  stream.deletedAtMillis === null && stream.config === options.config && stream.closed === options.closed &&
  (options.contentType === null || mediaType(stream.contentType) === mediaType(options.contentType))

/**
 * Returns the lifetime that a new stream gets: what it asks for, or else what its source has.
 *
 * @category converting
 * @since 0.1.0
 */
export const lifetimeOf = (
  options: CreateOptions,
  source: StreamRow | undefined
): Pick<StreamRow, "ttlMillis" | "expiresAtMillis"> =>
  source === undefined || options.ttlMillis !== null || options.expiresAtMillis !== null ? options : source

/**
 * Returns where the data of a fork before its `start` is.
 *
 * @category converting
 * @since 0.1.0
 */
export const segmentsOf = (source: StreamRow, start: number): ReadonlyArray<Segment> => {
  const inherited: Array<Segment> = []
  let from = 0
  for (const [id, until] of source.segments) {
    if (from >= start) break
    inherited.push([id, Math.min(until, start)])
    from = until
  }
  if (start > source.start) inherited.push([source.id, start])
  return inherited
}

/**
 * Tells whether a position of a stream is one of this stream: of itself, or of an ancestor before the fork. The beginning is
 * the same in all.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasPosition = (
  row: Pick<StreamRow, "id" | "segments">,
  { position, streamId }: StreamOffset
): boolean =>
  position === 0 || streamId === row.id || row.segments.some(([id, until]) => id === streamId && position <= until)

/**
 * Cuts a record to the positions from `from` up to `until`.
 *
 * @category converting
 * @since 0.1.0
 */
export const cut = (contentType: string, record: StreamRecord, from: number, until: number): StreamRecord => {
  if (record.start >= from && record.end <= until) return record
  const start = Math.max(record.start, from)
  const end = Math.min(record.end, until)
  const data = isJson(contentType)
    ? JsonText.slice(record.data, start - record.start, end - record.start)
    : record.data.subarray(start - record.start, end - record.start)
  return { start, end, data }
}

/**
 * Describes what {@link planAppend} needs to know of a stream, and what it changes.
 *
 * @category models
 * @since 0.1.0
 */
export type AppendHead = Omit<StreamRow, "config" | "segments" | "start" | "parentId" | "children">

/**
 * Describes a record that an adapter is to store.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewRecord extends StreamRecord {
  readonly streamId: number
  /** The size of the stream's own data before this record. */
  readonly byteStart: number
}

/**
 * Describes the state of a producer that an adapter is to store.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewProducer extends ProducerPoint {
  readonly streamId: number
}

/**
 * Returns the key that {@link planAppend} knows a stream by.
 *
 * @category converting
 * @since 0.1.0
 */
export const addressKey = (address: StreamAddress): string => `${address.ownerKey}\n${address.path}`

/**
 * Returns the key that {@link planAppend} knows a producer by.
 *
 * @category converting
 * @since 0.1.0
 */
export const producerKey = (streamId: number, producerId: string): string => `${streamId}\n${producerId}`

// `<` compares UTF-16 units, which differs from bytes above U+D7FF. Header values have no such characters.
const isAfter = (seq: string, last: string | null): boolean => last === null || seq > last

/**
 * Decides, for adapters, the outcome of each item of a batch, given the rows of its streams and producers under a lock.
 *
 * Returns the outcomes, the heads that change, the records and the producers to store.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const planAppend = (options: {
  readonly items: ReadonlyArray<AppendItem>
  readonly nowMillis: number
  readonly maxStreamBytes: number
  /** By {@link addressKey}. */
  readonly heads: ReadonlyMap<string, AppendHead>
  /** By {@link producerKey}. */
  readonly producers: ReadonlyMap<string, Pick<ProducerPoint, "epoch" | "seq">>
}): {
  readonly outcomes: ReadonlyArray<AppendOutcome>
  readonly heads: ReadonlyArray<AppendHead>
  readonly records: ReadonlyArray<NewRecord>
  readonly producers: ReadonlyArray<NewProducer>
} => {
  const { maxStreamBytes, nowMillis } = options
  const heads = new Map(options.heads)
  const states = new Map(options.producers)
  const changed = new Map<number, AppendHead>()
  const producers = new Map<string, NewProducer>()
  const records: Array<NewRecord> = []

  const outcomes = options.items.map((item): AppendOutcome => {
    const address = addressKey(item)
    const head = heads.get(address)
    const absent = missing(head, nowMillis)
    if (head === undefined || absent !== undefined) return absent ?? { _tag: "Unknown" }
    const { producer } = item
    const stateKey = producer === null ? "" : producerKey(head.id, producer.producerId)
    const state = states.get(stateKey)

    if (head.closed) {
      const { closedBy } = head
      if (producer === null) {
        return item.close && item.units === 0
          ? { _tag: "Duplicate", streamId: head.id, tail: head.tail, closed: true, seq: 0 }
          : { _tag: "Closed", streamId: head.id, tail: head.tail }
      }
      const isClosing = closedBy !== null && closedBy.producerId === producer.producerId &&
        closedBy.epoch === producer.epoch && closedBy.seq === producer.seq
      if (isClosing) return { _tag: "Duplicate", streamId: head.id, tail: head.tail, closed: true, seq: producer.seq }
      return state !== undefined && producer.epoch < state.epoch
        ? { _tag: "StaleEpoch", epoch: state.epoch }
        : { _tag: "Closed", streamId: head.id, tail: head.tail }
    }
    if (item.units > 0 && mediaType(item.contentType ?? "") !== mediaType(head.contentType)) {
      return { _tag: "TypeMismatch", contentType: head.contentType }
    }
    if (producer !== null) {
      if (state !== undefined && producer.epoch < state.epoch) return { _tag: "StaleEpoch", epoch: state.epoch }
      if (state !== undefined && producer.epoch > state.epoch) {
        if (producer.seq !== 0) return { _tag: "EpochStart" }
      } else {
        const last = state?.seq ?? -1
        if (producer.seq <= last) {
          return { _tag: "Duplicate", streamId: head.id, tail: head.tail, closed: false, seq: last }
        }
        if (producer.seq !== last + 1) return { _tag: "SequenceGap", expected: last + 1 }
      }
    }
    if (item.seq !== null && !isAfter(item.seq, head.lastSeq)) {
      return { _tag: "SeqRegression", last: head.lastSeq ?? "" }
    }
    if (head.byteCount + item.data.length > maxStreamBytes) return { _tag: "LimitExceeded" }

    const next: AppendHead = {
      ...head,
      tail: head.tail + item.units,
      byteCount: head.byteCount + item.data.length,
      lastSeq: item.seq ?? head.lastSeq,
      closed: item.close,
      closedBy: item.close ? producer : null,
      deadlineMillis: deadlineOf(head, nowMillis)
    }
    if (item.units > 0) {
      records.push({
        streamId: head.id,
        start: head.tail,
        end: next.tail,
        byteStart: head.byteCount,
        data: item.data
      })
    }
    if (producer !== null) {
      states.set(stateKey, producer)
      producers.set(stateKey, { streamId: head.id, ...producer })
    }
    heads.set(address, next)
    changed.set(head.id, next)
    return { _tag: "Appended", streamId: head.id, tail: next.tail, closed: next.closed }
  })
  return {
    outcomes,
    heads: Array.from(changed.values()),
    records,
    producers: Array.from(producers.values())
  }
}

// -----------------------------------------------------------------------------
// Memory
// -----------------------------------------------------------------------------

const makeMemory = (): DurableStreamRepository["Service"] => {
  type Mutable<A> = { -readonly [K in keyof A]: A[K] }
  interface Entry {
    readonly row: Mutable<StreamRow>
    readonly records: Array<NewRecord>
    readonly producers: Map<string, ProducerPoint>
  }
  const byAddress = new Map<string, Entry>()
  const byId = new Map<number, Entry>()
  const wakeups = WakeUps.make()
  let lastId = 0

  const copy = (entry: Entry): StreamRow => ({ ...entry.row })

  /** Finds the first record that ends after a position. */
  const indexAfter = (records: ReadonlyArray<StreamRecord>, position: number): number => {
    let low = 0
    let high = records.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const record = records[middle]
      if (record !== undefined && record.end <= position) low = middle + 1
      else high = middle
    }
    return low
  }

  const recordAt = (row: StreamRow, position: number): StreamRecord | undefined => {
    const segment = row.segments.find(([, until]) => position < until)
    const entry = byId.get(segment === undefined ? row.id : segment[0])
    const record = entry?.records[indexAfter(entry.records, position)]
    return record === undefined || segment === undefined ? record : cut(row.contentType, record, 0, segment[1])
  }

  /** Frees a stream, and then its source, if that was only kept for it. */
  const free = (entry: Entry): void => {
    let current: Entry | undefined = entry
    while (current !== undefined) {
      byAddress.delete(addressKey(current.row))
      byId.delete(current.row.id)
      wakeups.notify(String(current.row.id), deletedMark)
      const parent: Entry | undefined = current.row.parentId === null ? undefined : byId.get(current.row.parentId)
      if (parent === undefined) return
      parent.row.children--
      current = parent.row.children === 0 && parent.row.deletedAtMillis !== null ? parent : undefined
    }
  }

  const remove = (entry: Entry, nowMillis: number): void => {
    if (entry.row.children === 0) return free(entry)
    entry.row.deletedAtMillis = nowMillis
    wakeups.notify(String(entry.row.id), deletedMark)
  }

  const find = (address: StreamAddress, nowMillis: number): Entry | Missing => {
    const entry = byAddress.get(addressKey(address))
    return missing(entry?.row, nowMillis) ?? entry ?? { _tag: "Unknown" }
  }

  const create = (options: CreateOptions): CreateOutcome => {
    const { fork, nowMillis } = options
    const existing = byAddress.get(addressKey(options))
    if (existing !== undefined) {
      if (!isExpired(existing.row, nowMillis)) {
        return isSame(existing.row, options) ? { _tag: "Existing", stream: copy(existing) } : { _tag: "Conflict" }
      }
      remove(existing, nowMillis)
      if (byAddress.has(addressKey(options))) return { _tag: "Conflict" }
    }
    if (options.maxStreams !== undefined) {
      let count = 0
      for (const { row } of byAddress.values()) if (row.ownerKey === options.ownerKey) count++
      if (count >= options.maxStreams) return { _tag: "Full" }
    }
    let source: Entry | undefined
    let start = 0
    if (fork !== null) {
      const found = find({ ownerKey: options.ownerKey, path: fork.path }, nowMillis)
      if ("_tag" in found) return { _tag: found._tag === "Gone" ? "SourceGone" : "SourceUnknown" }
      source = found
      const { contentType, tail } = found.row
      if (options.contentType !== null && mediaType(options.contentType) !== mediaType(contentType)) {
        return { _tag: "SourceMismatch", contentType }
      }
      const at = fork.at ?? tail
      if (fork.streamId !== null && !hasPosition(found.row, { streamId: fork.streamId, position: at })) {
        return { _tag: "SourceGone" }
      }
      start = at + fork.further
      if (at > tail || (fork.further > 0 && start > (at < tail ? recordAt(found.row, at)?.end ?? 0 : 0))) {
        return { _tag: "BeyondSource" }
      }
    }
    const lifetime = lifetimeOf(options, source?.row)
    const row: StreamRow = {
      id: ++lastId,
      ownerKey: options.ownerKey,
      path: options.path,
      contentType: options.contentType ?? source?.row.contentType ?? "",
      config: options.config,
      ttlMillis: lifetime.ttlMillis,
      expiresAtMillis: lifetime.expiresAtMillis,
      deadlineMillis: deadlineOf(lifetime, nowMillis),
      closed: options.closed,
      closedBy: null,
      tail: start + options.units,
      byteCount: options.data.length,
      lastSeq: null,
      start,
      parentId: source?.row.id ?? null,
      segments: source === undefined ? [] : segmentsOf(source.row, start),
      children: 0,
      deletedAtMillis: null
    }
    if (source !== undefined) source.row.children++
    const records = options.units === 0
      ? []
      : [{ streamId: row.id, start, end: row.tail, byteStart: 0, data: options.data.slice() }]
    const entry: Entry = { row, records, producers: new Map() }
    byAddress.set(addressKey(options), entry)
    byId.set(row.id, entry)
    return { _tag: "Created", stream: copy(entry) }
  }

  const read = (row: StreamRow, from: number, maxRecords: number, maxBytes: number): ReadonlyArray<StreamRecord> => {
    const records: Array<StreamRecord> = []
    let bytes = 0
    for (const [id, until] of [...row.segments, [row.id, row.tail] as const]) {
      const entry = byId.get(id)
      if (entry === undefined || from >= until) continue
      const left = maxBytes - bytes
      if (left <= 0) break
      const first = indexAfter(entry.records, from)
      const limit = (entry.records[first]?.byteStart ?? 0) + left
      for (let i = first; i < entry.records.length; i++) {
        const record = entry.records[i]
        if (record === undefined || record.start >= until) break
        if (records.length >= maxRecords || record.byteStart >= limit) return records
        const part = cut(row.contentType, record, from, until)
        records.push(part)
        bytes += part.data.length
        from = part.end
      }
    }
    return records
  }

  return {
    create: (options) => Effect.sync(() => create(options)),
    append: ({ items, maxStreamBytes, nowMillis }) =>
      Effect.sync(() => {
        const heads = new Map<string, StreamRow>()
        const producers = new Map<string, ProducerPoint>()
        for (const item of items) {
          const entry = byAddress.get(addressKey(item))
          if (entry === undefined) continue
          heads.set(addressKey(item), entry.row)
          const state = item.producer === null ? undefined : entry.producers.get(item.producer.producerId)
          if (state !== undefined) producers.set(producerKey(entry.row.id, state.producerId), state)
        }
        const plan = planAppend({ items, nowMillis, maxStreamBytes, heads, producers })
        // The bytes are the caller's, who may use the buffer again.
        for (const record of plan.records) {
          byId.get(record.streamId)?.records.push({ ...record, data: record.data.slice() })
        }
        for (const { streamId, ...producer } of plan.producers) {
          byId.get(streamId)?.producers.set(producer.producerId, producer)
        }
        for (const head of plan.heads) {
          const entry = byId.get(head.id)
          if (entry !== undefined) {
            Object.assign(entry.row, head)
          }
          wakeups.notify(String(head.id), markOf(head))
        }
        return plan.outcomes
      }),
    get: (options) =>
      Effect.sync(() => {
        const found = find(options, options.nowMillis)
        return "_tag" in found ? found : { _tag: "Found", stream: copy(found) }
      }),
    read: (options) =>
      Effect.sync((): ReadOutcome => {
        const { nowMillis } = options
        const entry = find(options, nowMillis)
        if ("_tag" in entry) return entry
        const { row } = entry
        if (needsTouch(row, nowMillis)) row.deadlineMillis = deadlineOf(row, nowMillis)
        const from = options.from === "tail" ? row.tail : options.from
        if (from > row.tail) return { _tag: "BeyondEnd", stream: copy(entry) }
        return {
          _tag: "Read",
          stream: copy(entry),
          from,
          records: read(row, from, options.maxRecords, options.maxBytes)
        }
      }),
    delete: (options) =>
      Effect.sync(() => {
        const entry = find(options, options.nowMillis)
        if ("_tag" in entry) return entry
        remove(entry, options.nowMillis)
        return { _tag: "Deleted" }
      }),
    list: ({ after, limit, nowMillis, ownerKey, prefix }) =>
      Effect.sync(() =>
        Array.from(byAddress.values())
          .filter(({ row }) =>
            row.ownerKey === ownerKey && row.path.startsWith(prefix) && row.path > after &&
            missing(row, nowMillis) === undefined
          )
          .sort((a, b) => a.row.path < b.row.path ? -1 : 1)
          .slice(0, limit)
          .map(copy)
      ),
    heads: (ids) =>
      Effect.sync(() =>
        ids.flatMap((id) => {
          const row = byId.get(id)?.row
          return row === undefined || row.deletedAtMillis !== null ? [] : [{ id, mark: markOf(row) }]
        })
      ),
    sweep: ({ limit, nowMillis }) =>
      Effect.sync(() => {
        let expired = 0
        for (const entry of byId.values()) {
          if (expired === limit) break
          if (entry.row.deletedAtMillis !== null || !isExpired(entry.row, nowMillis)) continue
          remove(entry, nowMillis)
          expired++
        }
        return { expired, records: 0, removed: 0 }
      }),
    wakeups: wakeups.listen
  }
}

/**
 * Provides the repository in memory. Streams end with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<DurableStreamRepository> = Layer.sync(
  DurableStreamRepository,
  () => DurableStreamRepository.of(makeMemory())
)
