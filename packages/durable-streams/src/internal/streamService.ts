/**
 * The policy of streams: what a request may contain, how many appends share a commit, how readers wait.
 */
import * as Following from "@sallyport/core/Following"
import * as Outage from "@sallyport/core/Outage"
import * as AppendLog from "@sallyport/core/AppendLog"
import * as Text from "@sallyport/core/Text"
import type * as Writer from "@sallyport/core/Writer"
import { ownerKey, type RunOwner } from "@sallyport/core/runs/Run"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import {
  defaultContentType,
  isJson,
  isStreamPath,
  mediaType,
  type StreamInfo,
  type StreamPage
} from "../DurableStream.ts"
import {
  type AppendItem,
  type AppendOutcome,
  DurableStreamRepository,
  hasPosition,
  markOf,
  type StreamRow
} from "../DurableStreamRepository.ts"
import * as Followers from "./followers.ts"
import * as JsonText from "./jsonText.ts"
import * as SharedReads from "./sharedReads.ts"
import type {
  Appended,
  AppendOptions,
  CreateOptions,
  ListOptions,
  ReadNextOptions,
  ReadOptions,
  StreamName
} from "./streamCalls.ts"
import {
  absent,
  BeyondTail,
  ContentTypeMismatch,
  type DurableStreamsError,
  fail,
  InvalidInput,
  LimitExceeded,
  SeqRegression,
  SequenceGap,
  ShuttingDown,
  SourceGone,
  SourceNotFound,
  StaleEpoch,
  storage,
  StreamClosed,
  StreamConflict,
  StreamGone,
  StreamNotFound,
  TooManyStreams
} from "./streamErrors.ts"
import type { Settings } from "./streamOptions.ts"

const toInfo = (row: StreamRow): StreamInfo => ({
  id: row.id,
  path: row.path,
  contentType: row.contentType,
  tail: row.tail,
  closed: row.closed,
  ttlMillis: row.ttlMillis,
  expiresAtMillis: row.expiresAtMillis
})

const noData = new Uint8Array()
const contentTypePattern = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+\/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(?:;[\x20-\x7e]*)?$/

const checkPath = (path: string): Effect.Effect<void, DurableStreamsError> =>
  isStreamPath(path) ? Effect.void : fail(
    new InvalidInput({
      field: "path",
      expected:
        "1 to 512 characters, of 768 bytes at most, in segments that are not empty, . or .., the first of them not __ds"
    })
  )

/** The last time that a `Date` can hold. Half of it is the longest lifetime, which still ends at a safe integer. */
const lastMillis = 8.64e15

const isNatural = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

/** Makes the service. */
export const make = Effect.fnUntraced(function*(settings: Settings) {
  const repository = yield* DurableStreamRepository
  const clock = yield* Clock.Clock
  const followers = Followers.make()
  const shared = yield* SharedReads.make
  const listeners = new Set<(name: StreamName) => void>()
  const shuttingDown = fail(new ShuttingDown())
  const now = () => clock.currentTimeMillisUnsafe()

  interface Item extends AppendItem {
    readonly owner: RunOwner
  }
  const appendBatched = yield* AppendLog.groupCommit({
    count: () => 1,
    maxCount: settings.maxBatchAppends,
    bytes: ({ data }) => data.length,
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
            shared.changed(outcome.streamId)
            followers.notify(outcome.streamId)
            for (const listener of listeners) listener({ owner: item.owner, path: item.path })
          }
          return outcomes
        }
      )
  })

  // ---- Waiting --------------------------------------------------------------------------------------------------

  const look = Effect.suspend(() => {
    shared.anythingChanged()
    return Effect.forEach(
      Arr.chunksOf(followers.ids(), 100),
      (chunk) => Effect.map(repository.heads(chunk), (heads) => followers.compare(chunk, heads)),
      { discard: true }
    )
  })
  // A hint at anything is answered by one look at all streams that are followed, not by one of each reader.
  yield* Effect.forkScoped(Following.run({
    wakeUps: repository.wakeups,
    pollInterval: Duration.fromInputUnsafe(settings.pollInterval),
    retryDelay: Duration.seconds(1),
    outage: Outage.ofSource(repository, {
      of: "hints at streams",
      begins: "Lost the hints at changes of streams; readers look for them until they are back",
      ends: "Changes of streams are heard of again"
    }),
    look: (wakeUp) =>
      wakeUp === "anything" ? look : Effect.sync(() => {
        const marks = Array.from(wakeUp, ([id, mark]) => [Number(id), mark] as const)
        for (const [id] of marks) shared.changed(id)
        for (const [id, mark] of marks) followers.notifyBehind(id, mark)
      })
  }))

  // ---- Reading --------------------------------------------------------------------------------------------------

  const get = Effect.fn("DurableStreams.get")(function*({ owner, path }: StreamName) {
    if (!isStreamPath(path)) return yield* fail(new StreamNotFound({ path }))
    const outcome = yield* storage(repository.get({ ownerKey: ownerKey(owner), path, nowMillis: now() }))
    return outcome._tag === "Found" ? toInfo(outcome.stream) : yield* absent(path, outcome)
  })

  const read = Effect.fnUntraced(function*(
    { from: asked = 0, owner, path }: ReadOptions
  ): Effect.fn.Return<StreamPage, DurableStreamsError> {
    if (!isStreamPath(path)) return yield* fail(new StreamNotFound({ path }))
    const from = typeof asked === "object" ? asked.position : asked
    const outcome = yield* storage(repository.read({
      ownerKey: ownerKey(owner),
      path,
      from,
      maxRecords: settings.pageRecords,
      maxBytes: settings.pageBytes,
      nowMillis: now()
    }))
    if ("stream" in outcome && typeof asked === "object" && !hasPosition(outcome.stream, asked)) {
      return yield* fail(new StreamGone({ path }))
    }
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

  const lookAndWait = (id: number, seen: number): Effect.Effect<void, DurableStreamsError> =>
    Effect.scoped(Effect.gen(function*() {
      const follower = yield* followers.follow(id, seen)
      // What was committed before this reader was registered gave it no signal.
      const [head] = yield* storage(repository.heads([id]))
      if (head === undefined || head.mark > seen) return
      yield* followers.wait(follower)
    })).pipe(Effect.withTracerEnabled(false))

  const awaitChange = (page: StreamPage): Effect.Effect<void, DurableStreamsError> =>
    Effect.suspend(() => {
      const { id } = page.stream
      const seen = markOf({ tail: page.next, closed: page.ended })
      return shared.mark(id) === undefined
        ? lookAndWait(id, seen)
        : followers.waitOnce(id, seen, () => (shared.mark(id) ?? Infinity) > seen)
    })

  const readNext = ({ after, owner, path }: ReadNextOptions): Effect.Effect<StreamPage, DurableStreamsError> => {
    const from = { streamId: after.stream.id, position: after.next }
    const next = Effect.suspend(() => Effect.withTracerEnabled(read({ owner, path, from }), false))
    return after.upToDate ? Effect.andThen(awaitChange(after), shared.after(after, next)) : next
  }

  const push = ({ after, owner, path }: ReadNextOptions): Writer.Push<StreamPage, DurableStreamsError> => (writer) =>
    Effect.scoped(Effect.gen(function*() {
      const { id } = after.stream
      let last = after
      let hasRoom = true
      const seen = () => markOf({ tail: last.next, closed: last.ended })
      const follower = yield* followers.follow(id, seen())
      const write = (page: StreamPage) => {
        last = page
        follower.seen = seen()
        if (page.pieces.length > 0 || page.ended) hasRoom = writer.write(page)
      }
      const writeHeld = () => {
        const page = shared.held(last)
        if (page !== undefined) write(page)
        return page !== undefined && hasRoom && page.upToDate && !page.ended
      }
      // What was committed before this reader was registered gave it no signal.
      const mark = shared.mark(id) ?? (yield* storage(repository.heads([id])))[0]?.mark ?? Infinity
      follower.signalled ||= mark > follower.seen
      while (!last.ended) {
        if (last.upToDate) yield* followers.wait(follower, writeHeld)
        if (!hasRoom) yield* writer.drained
        hasRoom = true
        if (last.ended) return
        const next = Effect.suspend(() => read({ owner, path, from: { streamId: id, position: last.next } }))
        write(yield* last.upToDate ? shared.after(last, next) : next)
        if (!hasRoom) yield* writer.drained
        hasRoom = true
      }
    })).pipe(Effect.withTracerEnabled(false))

  // ---- Creating -------------------------------------------------------------------------------------------------

  const create = Effect.fn("DurableStreams.create")(function*(options: CreateOptions) {
    const { closed = false, data = noData, expiresAtMillis = null, fork, owner, path } = options
    yield* checkPath(path)
    const ttlMillis = options.ttl === undefined ? null : Duration.toMillis(options.ttl)
    if (ttlMillis !== null && expiresAtMillis !== null) {
      return yield* fail(new InvalidInput({ field: "ttl", expected: "absent if expiresAtMillis is given" }))
    }
    if (ttlMillis !== null && !(isNatural(ttlMillis) && ttlMillis <= lastMillis / 2)) {
      return yield* fail(
        new InvalidInput({ field: "ttl", expected: "a duration of whole milliseconds, up to 100,000 years" })
      )
    }
    if (expiresAtMillis !== null && !(isNatural(expiresAtMillis) && expiresAtMillis <= lastMillis)) {
      return yield* fail(new InvalidInput({ field: "expiresAtMillis", expected: "whole milliseconds since 1970" }))
    }
    if (options.contentType !== undefined && !contentTypePattern.test(options.contentType)) {
      return yield* fail(new InvalidInput({ field: "contentType", expected: "a media type, such as text/plain" }))
    }
    if (data.length > settings.maxAppendBytes) {
      return yield* fail(new LimitExceeded({ path, limit: "maxAppendBytes", max: settings.maxAppendBytes }))
    }
    const further = fork?.further ?? 0
    const { position: at, streamId } = typeof fork?.at === "object" ? fork.at : { position: fork?.at, streamId: null }
    if (fork !== undefined) {
      yield* checkPath(fork.path)
      if (!isNatural(further) || !isNatural(at ?? 0)) {
        return yield* fail(new InvalidInput({ field: "fork", expected: "a position and a natural number" }))
      }
      if (further > 0 && at === undefined) {
        return yield* fail(new InvalidInput({ field: "fork.further", expected: "given together with fork.at" }))
      }
    }
    // A fork takes its source's content type, which is how its first data is read. The store checks that it still
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
    if (stored.length > settings.maxStreamBytes) {
      return yield* fail(new LimitExceeded({ path, limit: "maxStreamBytes", max: settings.maxStreamBytes }))
    }
    const outcome = yield* storage(repository.create({
      ownerKey: ownerKey(owner),
      path,
      contentType,
      config: JSON.stringify([
        ttlMillis,
        expiresAtMillis,
        ...(fork === undefined ? [] : [fork.path, at ?? null, further, streamId])
      ]),
      ttlMillis,
      expiresAtMillis,
      closed,
      data: stored,
      units,
      fork: fork === undefined ? null : { path: fork.path, streamId, at: at ?? null, further },
      maxStreams: settings.maxStreams,
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
      case "Full":
        return yield* fail(new TooManyStreams({ limit: settings.maxStreams }))
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
          streamId: outcome.streamId,
          tail: outcome.tail,
          closed: outcome.closed,
          duplicate: false,
          producerSeq: producer?.seq ?? null
        })
      case "Duplicate":
        return Effect.succeed({
          streamId: outcome.streamId,
          tail: outcome.tail,
          closed: outcome.closed,
          duplicate: true,
          producerSeq: producer === undefined ? null : outcome.seq
        })
      case "Closed":
        return fail(new StreamClosed({ path, streamId: outcome.streamId, tail: outcome.tail }))
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
          new InvalidInput({ field: "data", expected: "at least one byte, unless the request closes the stream" })
        )
      }
      if (data.length > 0 && options.contentType === undefined) {
        return fail(new InvalidInput({ field: "contentType", expected: "given with data" }))
      }
      if (data.length > settings.maxAppendBytes) {
        return fail(new LimitExceeded({ path, limit: "maxAppendBytes", max: settings.maxAppendBytes }))
      }
      if (producer !== undefined) {
        if (!Text.isKey(producer.producerId)) {
          return fail(new InvalidInput({ field: "producerId", expected: "1 to 255 characters, none of them control" }))
        }
        if (!isNatural(producer.epoch) || !isNatural(producer.seq)) {
          return fail(new InvalidInput({ field: "producer", expected: "natural numbers up to 2^53 - 1" }))
        }
      }
      if (seq !== undefined && !Text.isKey(seq)) {
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

  return {
    create,
    append,
    get,
    read,
    readNext,
    push,
    delete: Effect.fn("DurableStreams.delete")(function*({ owner, path }: StreamName) {
      if (!isStreamPath(path)) return yield* fail(new StreamNotFound({ path }))
      const outcome = yield* storage(repository.delete({ ownerKey: ownerKey(owner), path, nowMillis: now() }))
      if (outcome._tag !== "Deleted") return yield* absent(path, outcome)
    }),
    list: Effect.fn("DurableStreams.list")(function*({ after = "", limit, owner, prefix = "" }: ListOptions) {
      const rows = yield* storage(
        repository.list({ ownerKey: ownerKey(owner), prefix, after, limit, nowMillis: now() })
      )
      return rows.map(toInfo)
    }),
    onAppend: (listener: (name: StreamName) => void) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => listeners.add(listener)),
        () => Effect.sync(() => listeners.delete(listener))
      )),
    sweep: Effect.fn("DurableStreams.sweep")(({ limit }: { readonly limit: number }) =>
      storage(Effect.suspend(() => repository.sweep({ limit, nowMillis: now() })))
    )
  }
})
