/**
 * States what every `DurableStreamRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { assert, describe } from "@effect/vitest"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import {
  type AppendItem,
  type AppendOutcome,
  type CreateOptions,
  type CreateOutcome,
  deletedMark,
  DurableStreamRepository,
  layerMemory,
  markOf,
  type ReadOutcome,
  type StreamRow
} from "@sallyport/durable-streams/DurableStreamRepository"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { testOn, times } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

type Repository = DurableStreamRepository["Service"]

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const creation = (path: string, fields?: Partial<CreateOptions>): CreateOptions => ({
  ownerKey: "ada",
  path,
  nowMillis: 0,
  contentType: "text/plain",
  config: "",
  ttlMillis: null,
  expiresAtMillis: null,
  closed: false,
  data: new Uint8Array(),
  units: 0,
  fork: null,
  ...fields
})

const text = (value: string) => {
  const data = encoder.encode(value)
  return { contentType: "text/plain", data, units: data.length }
}

const item = (path: string, value: string, fields?: Partial<AppendItem>): AppendItem => ({
  ...text(value),
  ownerKey: "ada",
  path,
  producer: null,
  seq: null,
  close: false,
  ...fields
})

const closing = (path: string, fields?: Partial<AppendItem>) =>
  item(path, "", { contentType: null, close: true, ...fields })

const of = <A, E>(f: (streams: Repository) => Effect.Effect<A, E>) => DurableStreamRepository.use(f)

const create = (path: string, fields?: Partial<CreateOptions>) =>
  of((streams) => streams.create(creation(path, fields)))
const created = Effect.fnUntraced(function*(path: string, fields?: Partial<CreateOptions>) {
  const outcome = yield* create(path, fields)
  return outcome._tag === "Created" ? outcome.stream : assert.fail(`${path} is answered ${outcome._tag}`)
})
const forkOf = (path: string, at: number | null = null, further = 0): Partial<CreateOptions> => ({
  contentType: null,
  fork: { path, streamId: null, at, further }
})
const append = (items: ReadonlyArray<AppendItem>, nowMillis = 0, maxStreamBytes = 1_000) =>
  of((streams) => streams.append({ items, nowMillis, maxStreamBytes }))
const get = (path: string, nowMillis = 0, ownerKey = "ada") =>
  of((streams) => streams.get({ ownerKey, path, nowMillis }))
const found = Effect.fnUntraced(function*(path: string, nowMillis = 0) {
  const outcome = yield* get(path, nowMillis)
  return outcome._tag === "Found" ? outcome.stream : assert.fail(`${path} is answered ${outcome._tag}`)
})
const read = (
  path: string,
  from: number | "tail",
  options?: { readonly maxRecords?: number; readonly maxBytes?: number; readonly nowMillis?: number }
) =>
  of((streams) =>
    streams.read({ ownerKey: "ada", path, from, maxRecords: 100, maxBytes: 1_000, nowMillis: 0, ...options })
  )
/** Reads the data of a stream as text, piece by piece. */
const pieces = Effect.fnUntraced(function*(path: string, from = 0, options?: Parameters<typeof read>[2]) {
  const outcome = yield* read(path, from, options)
  if (outcome._tag !== "Read") return outcome._tag
  let end = outcome.from
  for (const record of outcome.records) {
    assert.strictEqual(record.start, end, "records follow each other")
    assert.isAtMost(record.end, outcome.stream.tail, "no record lies beyond the row's tail")
    end = record.end
  }
  return outcome.records.map(({ data }) => decoder.decode(data))
})
const remove = (path: string) => of((streams) => streams.delete({ ownerKey: "ada", path, nowMillis: 0 }))
const sweep = (limit: number, nowMillis: number) => of((streams) => streams.sweep({ limit, nowMillis }))
const tags = (outcomes: ReadonlyArray<{ readonly _tag: string }>) => outcomes.map(({ _tag }) => _tag)
const tails = (outcomes: ReadonlyArray<AppendOutcome>) =>
  outcomes.map((outcome) => outcome._tag === "Appended" ? outcome.tail : outcome._tag)

// -----------------------------------------------------------------------------
// Sequences of steps
// -----------------------------------------------------------------------------

const contents = {
  none: text(""),
  one: text("x"),
  three: text("abc"),
  message: { contentType: "application/json", data: encoder.encode("1"), units: 1 },
  messages: { contentType: "application/json", data: encoder.encode("{\"a\":[1,\",\"]},\"b\",3"), units: 3 }
}
const content = Schema.Literals(["none", "one", "one", "three", "three", "message", "messages"])
const ownerKey = Schema.Literals(["ada", "ada", "ada", "ada", "eve"])
const path = Schema.Literals(["a", "a", "a/b", "c"])
const now = Schema.Literals([0, 0, 0, 60, 150, 2_000])
const ttlMillis = Schema.Literals([0, 0, 0, 100, 1_000])

const Step = Schema.Union([
  Schema.TaggedStruct("create", { ownerKey, path, content, ttlMillis, closed: small(4), now }),
  Schema.TaggedStruct("fork", { path, source: path, at: small(4), further: small(3), ttlMillis, now }),
  Schema.TaggedStruct("append", {
    items: Schema.Array(Schema.Struct({
      ownerKey,
      path,
      content,
      producer: Schema.NullOr(Schema.Struct({ epoch: small(1), seq: small(2) })),
      seq: Schema.Literals(["", "", "1", "2", "10"]),
      close: small(8)
    })).check(Schema.isMinLength(1), Schema.isMaxLength(5)),
    now
  }),
  Schema.TaggedStruct("read", {
    ownerKey,
    path,
    from: small(6),
    maxRecords: Schema.Literals([1, 2, 100]),
    maxBytes: Schema.Literals([1, 2, 4, 1_000]),
    now
  }),
  Schema.TaggedStruct("get", { ownerKey, path, now }),
  Schema.TaggedStruct("delete", { ownerKey, path, now }),
  Schema.TaggedStruct("list", {
    ownerKey,
    prefix: Schema.Literals(["", "a", "a/"]),
    after: Schema.Literals(["", "a", "c"]),
    limit: Schema.Literals([1, 10]),
    now
  }),
  Schema.TaggedStruct("sweep", { now })
])

// Ids are the adapter's; what was read may show the row from before or after the read counted as use.
const rowView = ({ parentId, segments, ...row }: StreamRow) => ({
  ...row,
  id: null,
  deadlineMillis: null,
  isFork: parentId !== null,
  segments: segments.map(([, until]) => until)
})
const view = (outcome: CreateOutcome | AppendOutcome | ReadOutcome | Effect.Success<ReturnType<typeof get>>) => ({
  ...outcome,
  ...("streamId" in outcome ? { streamId: null } : {}),
  ...("stream" in outcome ? { stream: rowView(outcome.stream) } : {}),
  ...("records" in outcome
    ? { records: outcome.records.map(({ data, end, start }) => [start, end, decoder.decode(data)]) }
    : {})
})

const runStep = Effect.fnUntraced(function*(
  step: typeof Step.Type
): Effect.fn.Return<unknown, RepositoryError, DurableStreamRepository> {
  const streams = yield* DurableStreamRepository
  const nowMillis = step.now
  switch (step._tag) {
    case "create":
      return view(
        yield* streams.create({
          ...creation(step.path),
          ...contents[step.content],
          ownerKey: step.ownerKey,
          config: String(step.ttlMillis),
          ttlMillis: step.ttlMillis === 0 ? null : step.ttlMillis,
          closed: step.closed === 0,
          nowMillis
        })
      )
    case "fork":
      return view(
        yield* streams.create({
          ...creation(step.path, forkOf(step.source, step.at === 0 ? null : step.at - 1, step.further)),
          config: JSON.stringify([step.source, step.at, step.further, step.ttlMillis]),
          ttlMillis: step.ttlMillis === 0 ? null : step.ttlMillis,
          nowMillis
        })
      )
    case "append": {
      const items = step.items.map(({ close, content, ownerKey, path, producer, seq }): AppendItem => ({
        ...contents[content],
        ownerKey,
        path,
        producer: producer === null ? null : { producerId: "p", ...producer },
        seq: seq === "" ? null : seq,
        // An item brings data, or closes the stream.
        close: close === 0 || content === "none"
      }))
      return (yield* streams.append({ items, nowMillis, maxStreamBytes: 50 })).map(view)
    }
    case "read":
      return view(yield* streams.read({ ...step, from: step.from === 6 ? "tail" : step.from, nowMillis }))
    case "get":
      return view(yield* streams.get({ ...step, nowMillis }))
    case "delete":
      return yield* streams.delete({ ...step, nowMillis })
    case "list":
      return (yield* streams.list({ ...step, nowMillis })).map(rowView)
    case "sweep":
      // How much there was to do depends on what an adapter leaves behind.
      return void (yield* streams.sweep({ limit: 1_000, nowMillis }))
  }
})

/**
 * Runs the contract tests of `DurableStreamRepository` against a layer, which each test builds again.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<DurableStreamRepository, E>): void => {
  describe(`DurableStreamRepository (${name})`, () => {
    const test = testOn(layer)

    test(
      "HTTP-09: an owner has so many streams and no more, until one is deleted",
      Effect.gen(function*() {
        const few = { maxStreams: 2 }
        yield* created("a", few)
        yield* created("b", few)
        assert.strictEqual((yield* create("c", few))._tag, "Full")
        assert.strictEqual((yield* create("c", { ...few, ...forkOf("a") }))._tag, "Full")
        assert.strictEqual((yield* create("b", few))._tag, "Existing", "the same again")
        assert.strictEqual((yield* create("c", { ...few, ownerKey: "bob" }))._tag, "Created")
        yield* of((streams) => streams.delete({ ownerKey: "ada", path: "a", nowMillis: 0 }))
        assert.strictEqual((yield* create("c", few))._tag, "Created")
        assert.strictEqual((yield* create("d", few))._tag, "Full")
      })
    )

    test(
      "creates a stream with its first data, and returns it again if it was created the same way",
      Effect.gen(function*() {
        const stream = yield* created("p", { ...text("abc"), config: "c" })
        assert.deepStrictEqual({ ...stream, id: 0 }, {
          id: 0,
          ownerKey: "ada",
          path: "p",
          contentType: "text/plain",
          config: "c",
          ttlMillis: null,
          expiresAtMillis: null,
          deadlineMillis: null,
          closed: false,
          closedBy: null,
          tail: 3,
          byteCount: 3,
          lastSeq: null,
          start: 0,
          parentId: null,
          segments: [],
          children: 0,
          deletedAtMillis: null
        })
        assert.deepStrictEqual(yield* pieces("p"), ["abc"])
        assert.deepStrictEqual(yield* create("p", { config: "c" }), { _tag: "Existing", stream })
        assert.deepStrictEqual(yield* found("p"), stream)
        for (const other of [{ config: "d" }, { config: "c", closed: true }, { config: "c", contentType: "a/b" }]) {
          assert.deepStrictEqual(yield* create("p", other), { _tag: "Conflict" }, JSON.stringify(other))
        }
        // Another owner's stream is another stream.
        assert.deepStrictEqual(yield* get("p", 0, "eve"), { _tag: "Unknown" })
        assert.strictEqual((yield* create("p", { ownerKey: "eve", config: "d" }))._tag, "Created")
        assert.deepStrictEqual(yield* pieces("p"), ["abc"])
      })
    )

    test(
      "L-03 L-77: of 20 that create a stream at once one is answered Created",
      Effect.gen(function*() {
        const outcomes = yield* times(20, () => create("p"))
        assert.deepStrictEqual(tags(outcomes).sort(), ["Created", ...Array.from({ length: 19 }, () => "Existing")])
      })
    )

    test(
      "frees the path of a stream that has expired, and gives the next one another id",
      Effect.gen(function*() {
        const first = yield* created("p", { ...text("old"), expiresAtMillis: 100 })
        assert.strictEqual((yield* create("p", { expiresAtMillis: 200, config: "", nowMillis: 99 }))._tag, "Existing")
        assert.deepStrictEqual(yield* get("p", 100), { _tag: "Unknown" })
        assert.deepStrictEqual(tags(yield* append([item("p", "x")], 100)), ["Unknown"])
        const second = yield* created("p", { nowMillis: 100 })
        assert.notStrictEqual(second.id, first.id)
        assert.deepStrictEqual(yield* pieces("p", 0, { nowMillis: 100 }), [])
        assert.deepStrictEqual(yield* remove("p"), { _tag: "Deleted" })
        const third = yield* created("p")
        assert.strictEqual(new Set([first.id, second.id, third.id]).size, 3)
      })
    )

    test(
      "appends a batch in its order, and a refused item stores nothing and disturbs no other",
      Effect.gen(function*() {
        yield* created("p")
        yield* created("q", { contentType: "application/json" })
        const outcomes = yield* append([
          item("p", "ab"),
          item("none", "x"),
          item("p", "c", { contentType: "other/type" }),
          item("p", "d", { seq: "2" }),
          item("p", "e", { seq: "10" }),
          item("p", "f", { producer: { producerId: "w", epoch: 0, seq: 1 } }),
          item("q", "1,2", { contentType: "application/json", units: 2 }),
          item("p", "g".repeat(1_000)),
          item("p", "h"),
          closing("p"),
          item("p", "i"),
          closing("p")
        ])
        assert.deepStrictEqual(
          outcomes.map((outcome) => "streamId" in outcome ? { ...outcome, streamId: 0 } : outcome),
          [
            { _tag: "Appended", streamId: 0, tail: 2, closed: false },
            { _tag: "Unknown" },
            { _tag: "TypeMismatch", contentType: "text/plain" },
            { _tag: "Appended", streamId: 0, tail: 3, closed: false },
            { _tag: "SeqRegression", last: "2" },
            { _tag: "SequenceGap", expected: 0 },
            { _tag: "Appended", streamId: 0, tail: 2, closed: false },
            { _tag: "LimitExceeded" },
            { _tag: "Appended", streamId: 0, tail: 4, closed: false },
            { _tag: "Appended", streamId: 0, tail: 4, closed: true },
            { _tag: "Closed", streamId: 0, tail: 4 },
            { _tag: "Duplicate", streamId: 0, tail: 4, closed: true, seq: 0 }
          ]
        )
        assert.deepStrictEqual(yield* pieces("p"), ["ab", "d", "h"])
        assert.deepStrictEqual(yield* pieces("q"), ["1,2"])
        const row = yield* found("p")
        assert.deepStrictEqual([row.tail, row.byteCount, row.closed, row.lastSeq], [4, 4, true, "2"])
      })
    )

    test(
      "L-78: takes each append of a producer once, tells a gap, and refuses an earlier epoch",
      Effect.gen(function*() {
        const { id: streamId } = yield* created("p")
        const by = (epoch: number, seq: number, fields?: Partial<AppendItem>) =>
          Effect.map(
            append([item("p", `${epoch}${seq}`, { producer: { producerId: "w", epoch, seq }, ...fields })]),
            ([outcome]) => outcome?._tag === "Appended" ? outcome.tail : outcome
          )
        assert.deepStrictEqual(yield* by(0, 1), { _tag: "SequenceGap", expected: 0 })
        assert.strictEqual(yield* by(0, 0), 2)
        assert.deepStrictEqual(yield* by(0, 0), { _tag: "Duplicate", streamId, tail: 2, closed: false, seq: 0 })
        assert.strictEqual(yield* by(0, 1), 4)
        assert.deepStrictEqual(yield* by(0, 0), { _tag: "Duplicate", streamId, tail: 4, closed: false, seq: 1 })
        assert.deepStrictEqual(yield* by(0, 3), { _tag: "SequenceGap", expected: 2 })
        assert.deepStrictEqual(yield* by(1, 1), { _tag: "EpochStart" })
        assert.strictEqual(yield* by(1, 0), 6)
        assert.deepStrictEqual(yield* by(0, 2), { _tag: "StaleEpoch", epoch: 1 })
        assert.strictEqual(yield* by(1, 1, { close: true }), 8)
        assert.deepStrictEqual(yield* by(1, 1, { close: true }), {
          _tag: "Duplicate",
          streamId,
          tail: 8,
          closed: true,
          seq: 1
        })
        assert.deepStrictEqual(yield* by(1, 2), { _tag: "Closed", streamId, tail: 8 })
        assert.deepStrictEqual((yield* found("p")).closedBy, { producerId: "w", epoch: 1, seq: 1 })
        assert.deepStrictEqual(yield* pieces("p"), ["00", "01", "10", "11"])
      })
    )

    test(
      "of 20 retries of one append at once one is stored",
      Effect.gen(function*() {
        yield* created("p")
        const outcomes = yield* times(
          20,
          () => append([item("p", "x", { producer: { producerId: "w", epoch: 0, seq: 0 } })])
        )
        assert.deepStrictEqual(tags(outcomes.flat()).sort(), [
          "Appended",
          ...Array.from({ length: 19 }, () => "Duplicate")
        ])
        assert.deepStrictEqual(yield* pieces("p"), ["x"])
      })
    )

    test(
      "gives writers of the same streams at once consecutive positions, whatever order their items are in",
      Effect.gen(function*() {
        yield* created("p")
        yield* created("q")
        const outcomes = yield* times(
          20,
          (index) => append(index % 2 === 0 ? [item("p", "x"), item("q", "y")] : [item("q", "y"), item("p", "x")])
        )
        const ofPath = (path: "p" | "q") =>
          outcomes.flatMap((batch, index) =>
            tails(batch).filter((_, at) => (at + index) % 2 === (path === "p" ? 0 : 1))
          )
        const expected = Array.from({ length: 20 }, (_, index) => index + 1)
        for (const path of ["p", "q"] as const) {
          assert.deepStrictEqual(ofPath(path).sort((a, b) => Number(a) - Number(b)), expected)
          assert.deepStrictEqual(yield* pieces(path), expected.map(() => path === "p" ? "x" : "y"))
        }
      })
    )

    test(
      "keeps the bytes it was given, also if the caller uses the buffer again",
      Effect.gen(function*() {
        const first = encoder.encode("abc")
        const second = encoder.encode("def")
        yield* created("p", { data: first, units: 3 })
        yield* append([item("p", "", { data: second, units: 3 })])
        first.fill(0)
        second.fill(0)
        assert.deepStrictEqual(yield* pieces("p"), ["abc", "def"])
      })
    )

    test(
      "reads from any position, within its bounds",
      Effect.gen(function*() {
        yield* created("p")
        yield* append([item("p", "abc"), item("p", "de"), item("p", "fghi"), item("p", "j")])
        assert.deepStrictEqual(yield* pieces("p"), ["abc", "de", "fghi", "j"])
        assert.deepStrictEqual(yield* pieces("p", 1), ["bc", "de", "fghi", "j"])
        assert.deepStrictEqual(yield* pieces("p", 5), ["fghi", "j"])
        assert.deepStrictEqual(yield* pieces("p", 0, { maxRecords: 2 }), ["abc", "de"])
        // The first comes whatever its size.
        assert.deepStrictEqual(yield* pieces("p", 0, { maxBytes: 1 }), ["abc"])
        assert.deepStrictEqual(yield* pieces("p", 0, { maxBytes: 4 }), ["abc", "de"])
        assert.deepStrictEqual(yield* pieces("p", 10), [])
        const atTail = yield* read("p", "tail")
        assert.deepStrictEqual(atTail._tag === "Read" ? [atTail.from, atTail.records] : atTail, [10, []])
        const beyond = yield* read("p", 11)
        assert.deepStrictEqual(beyond, { _tag: "BeyondEnd", stream: yield* found("p") })
        assert.deepStrictEqual(yield* read("none", 0), { _tag: "Unknown" })
      })
    )

    test(
      "reads and appends keep a stream from expiring, looking at its row does not",
      Effect.gen(function*() {
        yield* created("looked at", { ttlMillis: 1_000 })
        yield* created("read", { ttlMillis: 1_000 })
        yield* created("written", { ttlMillis: 1_000 })
        for (let nowMillis = 500; nowMillis <= 3_000; nowMillis += 500) {
          yield* get("looked at", nowMillis)
          assert.strictEqual((yield* read("read", 0, { nowMillis }))._tag, "Read")
          assert.deepStrictEqual(tags(yield* append([item("written", "x")], nowMillis)), ["Appended"])
        }
        assert.deepStrictEqual(yield* get("looked at", 2_000), { _tag: "Unknown" })
        // Never before its time.
        for (const path of ["read", "written"]) yield* found(path, 3_999)
      })
    )

    test(
      "forks a stream at a position: the fork reads what was before it, and takes its source's type and lifetime",
      Effect.gen(function*() {
        const source = yield* created("source", { ttlMillis: 1_000 })
        yield* append([item("source", "abc"), item("source", "def")])
        const fork = yield* created("fork", forkOf("source", 3, 1))
        assert.isAbove(fork.id, source.id)
        assert.deepStrictEqual(
          [fork.contentType, fork.ttlMillis, fork.start, fork.tail, fork.parentId],
          ["text/plain", 1_000, 4, 4, source.id]
        )
        assert.deepStrictEqual(fork.segments, [[source.id, 4]])
        assert.strictEqual((yield* found("source")).children, 1)
        yield* append([item("fork", "xy"), item("source", "ghi")])
        assert.deepStrictEqual(yield* pieces("fork"), ["abc", "d", "xy"])
        assert.deepStrictEqual(yield* pieces("fork", 2, { maxRecords: 2 }), ["c", "d"])
        assert.deepStrictEqual(yield* pieces("source"), ["abc", "def", "ghi"])

        const second = yield* created("second", forkOf("fork"))
        assert.deepStrictEqual(second.segments, [[source.id, 4], [fork.id, 6]])
        assert.deepStrictEqual(yield* pieces("second"), ["abc", "d", "xy"])
        const early = yield* created("early", forkOf("second", 3))
        assert.deepStrictEqual(yield* pieces("early"), ["abc"])
        assert.strictEqual(early.start, 3)
      })
    )

    test(
      "refuses a fork that has no place to stand",
      Effect.gen(function*() {
        yield* created("source")
        yield* append([item("source", "abc")])
        yield* created("keeps", forkOf("source"))
        assert.deepStrictEqual(yield* create("f", forkOf("none")), { _tag: "SourceUnknown" })
        assert.deepStrictEqual(yield* create("f", forkOf("source", 4)), { _tag: "BeyondSource" })
        assert.deepStrictEqual(yield* create("f", forkOf("source", 1, 3)), { _tag: "BeyondSource" })
        assert.deepStrictEqual(yield* create("f", forkOf("source", 3, 1)), { _tag: "BeyondSource" })
        assert.deepStrictEqual(yield* create("f", { ...forkOf("source"), contentType: "a/b" }), {
          _tag: "SourceMismatch",
          contentType: "text/plain"
        })
        yield* remove("source")
        assert.deepStrictEqual(yield* create("f", forkOf("source")), { _tag: "SourceGone" })
        assert.deepStrictEqual(yield* create("f", { ...forkOf("keeps"), ownerKey: "eve" }), { _tag: "SourceUnknown" })
        assert.deepStrictEqual(yield* get("f"), { _tag: "Unknown" })
      })
    )

    test(
      "keeps the data of a deleted stream for its forks, and its path in use, until the last of them is deleted",
      Effect.gen(function*() {
        yield* created("source", text("abc"))
        yield* created("one", forkOf("source"))
        yield* created("two", forkOf("one"))
        assert.deepStrictEqual(yield* remove("source"), { _tag: "Deleted" })
        for (const answer of [remove("source"), get("source"), read("source", 0)]) {
          assert.deepStrictEqual(yield* answer, { _tag: "Gone" })
        }
        assert.deepStrictEqual(tags(yield* append([item("source", "x")])), ["Gone"])
        assert.deepStrictEqual(yield* create("source"), { _tag: "Conflict" })
        yield* remove("one")
        yield* sweep(1_000, 0)
        assert.deepStrictEqual(yield* pieces("two"), ["abc"])
        yield* remove("two")
        for (const path of ["source", "one", "two"]) {
          assert.deepStrictEqual(yield* get(path), { _tag: "Unknown" })
          yield* created(path)
        }
      })
    )

    test(
      "of 20 that delete a stream at once one is answered Deleted; forks and their source go in any order",
      Effect.gen(function*() {
        yield* created("p")
        const outcomes = yield* times(20, () => remove("p"))
        assert.deepStrictEqual(tags(outcomes).sort(), ["Deleted", ...Array.from({ length: 19 }, () => "Unknown")])

        yield* created("source")
        const forks = Array.from({ length: 10 }, (_, n) => `fork${n}`)
        for (const fork of forks) yield* created(fork, forkOf("source"))
        const paths = ["source", ...forks].sort()
        const gone = yield* times(paths.length, (index) => remove(paths[index] ?? ""))
        assert.deepStrictEqual(new Set(tags(gone)), new Set(["Deleted"]))
        assert.deepStrictEqual(yield* get("source"), { _tag: "Unknown" })
      })
    )

    test(
      "lists live streams of one owner by prefix, in pages, in the order of their paths",
      Effect.gen(function*() {
        for (const path of ["b", "a/c", "a/b", "B", "a", "a%c", "ä", "a/_"]) yield* created(path)
        yield* created("a/expired", { expiresAtMillis: 10 })
        yield* created("a/deleted")
        yield* remove("a/deleted")
        yield* created("a/d", { ownerKey: "eve" })
        const list = (prefix: string, after = "", limit = 100) =>
          Effect.map(
            of((streams) => streams.list({ ownerKey: "ada", prefix, after, limit, nowMillis: 10 })),
            (rows) => rows.map(({ path }) => path)
          )
        assert.deepStrictEqual(yield* list(""), ["B", "a", "a%c", "a/_", "a/b", "a/c", "b", "ä"])
        assert.deepStrictEqual(yield* list("a/"), ["a/_", "a/b", "a/c"])
        assert.deepStrictEqual(yield* list("a%"), ["a%c"])
        assert.deepStrictEqual(yield* list("a/_"), ["a/_"])
        assert.deepStrictEqual(yield* list("a/", "a/_", 1), ["a/b"])
        assert.deepStrictEqual(yield* list("", "a/c", 2), ["b", "ä"])
        assert.deepStrictEqual(yield* list("c"), [])
      })
    )

    test(
      "says where streams stand, and leaves out those that were deleted",
      Effect.gen(function*() {
        const p = yield* created("p")
        const q = yield* created("q")
        const gone = yield* created("gone")
        const kept = yield* created("kept")
        yield* created("fork", forkOf("kept"))
        yield* append([item("p", "xy"), closing("q")])
        yield* remove("gone")
        yield* remove("kept")
        const heads = yield* of((streams) => streams.heads([p.id, q.id, gone.id, kept.id, 999_999]))
        assert.deepStrictEqual([...heads].sort((a, b) => a.id - b.id), [
          { id: p.id, mark: markOf({ tail: 2, closed: false }) },
          { id: q.id, mark: markOf({ tail: 0, closed: true }) }
        ])
        assert.deepStrictEqual(yield* of((streams) => streams.heads([])), [])
      })
    )

    test(
      "L-24: sweeps what has expired in bounded batches, and nothing else",
      Effect.gen(function*() {
        for (let index = 0; index < 5; index++) {
          yield* created(`old${index}`, { expiresAtMillis: 100, ...text("x") })
        }
        yield* created("lives", { expiresAtMillis: 101, ...text("y") })
        yield* created("forked", { expiresAtMillis: 100, ...text("z") })
        yield* created("fork", { ...forkOf("forked"), expiresAtMillis: 1_000 })
        const counts: Array<number> = []
        let done = false
        for (let batch = 0; batch < 100 && !done; batch++) {
          const { expired, records, removed } = yield* sweep(2, 100)
          for (const count of [expired, records, removed]) assert.isAtMost(count, 2)
          if (expired > 0) counts.push(expired)
          done = expired < 2 && records < 2 && removed < 2
        }
        assert.isTrue(done, "a sweep comes to its end")
        assert.deepStrictEqual(counts, [2, 2, 2])
        assert.deepStrictEqual(yield* pieces("lives", 0, { nowMillis: 100 }), ["y"])
        assert.deepStrictEqual(yield* pieces("fork", 0, { nowMillis: 100 }), ["z"])
        assert.deepStrictEqual(yield* get("old0", 0), { _tag: "Unknown" })
      })
    )

    test(
      "hints at appends, closing and deletion",
      Effect.gen(function*() {
        const streams = yield* DurableStreamRepository
        const { id } = yield* created("p")
        const changes = [append([item("p", "xy")]), append([closing("p")]), remove("p")]
        const marks: Array<number> = []
        // Each change is seen before the next is made, because several hints may come as one, and one may mean anything.
        yield* streams.wakeups.pipe(
          Stream.mapEffect((wakeUp) =>
            Effect.gen(function*() {
              const mark = (yield* streams.heads([id]))[0]?.mark ?? deletedMark
              if (wakeUp !== "anything") assert.strictEqual(wakeUp.get(String(id)), mark)
              if (mark !== marks.at(-1)) yield* changes[marks.push(mark) - 1] ?? Effect.void
            })
          ),
          Stream.takeUntil(() => marks.length > changes.length),
          Stream.runDrain
        )
        assert.deepStrictEqual(marks, [markOf({ tail: 0, closed: false }), 4, 5, deletedMark])
      })
    )

    testAgainstMemory({
      port: "DurableStreamRepository",
      steps: Schema.Array(Step).check(Schema.isMinLength(40), Schema.isMaxLength(120)),
      run: runStep,
      layer,
      layerMemory
    })
  })
}
