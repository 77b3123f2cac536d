import { assert, describe, it } from "@effect/vitest"
import {
  DurableStreamRepository,
  layerMemory,
  type StreamRow
} from "@sallyport/durable-streams/DurableStreamRepository"
import * as Context from "effect/Context"
import * as DurableStreamRepositorySuite from "@sallyport/testing/DurableStreamRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import { persistences } from "./support.ts"

type Repository = DurableStreamRepository["Service"]

const encoder = new TextEncoder()
const decoder = new TextDecoder()

// -----------------------------------------------------------------------------
// Model
// -----------------------------------------------------------------------------

// Few names and mostly fitting values, so that operations meet.
const rarely = fc.nat(7).map((n) => n === 0)
const path = fc.constantFrom("a", "a", "a/b", "c")
const owner = rarely.map((other) => other ? "y" : "x")
const small = fc.nat({ max: 9 })
const content = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.string({ minLength: 1, maxLength: 4 }).map((text) => {
      const data = encoder.encode(text)
      return { contentType: "text/plain", data, units: data.length }
    })
  },
  fc.constant({ contentType: "text/plain", data: new Uint8Array(), units: 0 }),
  fc.array(fc.oneof(fc.integer(), fc.string({ maxLength: 3 }), fc.constant({ a: [1, { b: "," }] })), { maxLength: 3 })
    .map((messages) => ({
      contentType: "application/json",
      data: encoder.encode(messages.map((each) => JSON.stringify(each)).join(",")),
      units: messages.length
    }))
)
const producer = fc.option(
  fc.record({
    producerId: fc.constantFrom("p", "p", "q"),
    epoch: rarely.map(Number),
    seq: fc.constantFrom(0, 0, 0, 1, 1, 2)
  })
)

const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      _tag: fc.constant("create" as const),
      owner,
      path,
      content,
      ttlMillis: fc.constantFrom(null, null, null, 100, 1000),
      closed: rarely,
      fork: fc.option(fc.record({ path, at: fc.option(small), further: fc.nat(3) }))
    })
  },
  {
    weight: 6,
    arbitrary: fc.record({
      _tag: fc.constant("append" as const),
      items: fc.array(
        fc.record({
          owner,
          path,
          content,
          producer,
          seq: fc.option(fc.constantFrom("1", "2", "10")),
          close: fc.nat(5).map((n) => n === 0)
        }),
        { minLength: 1, maxLength: 6, size: "max" }
      )
    })
  },
  {
    weight: 4,
    arbitrary: fc.record({
      _tag: fc.constant("read" as const),
      owner,
      path,
      from: fc.oneof(small, fc.constant("tail" as const)),
      maxRecords: fc.constantFrom(1, 2, 100),
      maxBytes: fc.constantFrom(1, 2, 3, 4, 6, 1000)
    })
  },
  fc.record({ _tag: fc.constant("get" as const), owner, path }),
  fc.record({ _tag: fc.constant("delete" as const), owner, path }),
  fc.record({
    _tag: fc.constant("list" as const),
    owner,
    prefix: fc.constantFrom("", "a", "a/"),
    after: fc.constantFrom("", "a", "c"),
    limit: fc.constantFrom(1, 10)
  }),
  fc.record({ _tag: fc.constant("sweep" as const) }),
  fc.record({ _tag: fc.constant("tick" as const), millis: fc.constantFrom(1, 60, 150, 2000) })
)
// Streams that live, are written by producers, and are forked, deleted and read again and again.
const text = fc.string({ minLength: 1, maxLength: 3 }).map((value) => {
  const data = encoder.encode(value)
  return { contentType: "text/plain", data, units: data.length }
})
const place = fc.constantFrom("a", "b", "c")
const forking = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      _tag: fc.constant("create" as const),
      owner: fc.constant("x"),
      path: place,
      content: text,
      ttlMillis: fc.constantFrom(null, null, 100),
      closed: fc.constant(false),
      fork: fc.option(fc.record({ path: place, at: fc.option(fc.nat(4)), further: fc.nat(1) }), { freq: 3 })
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      _tag: fc.constant("append" as const),
      items: fc.array(
        fc.record({
          owner: fc.constant("x"),
          path: place,
          content: text,
          producer: fc.option(
            fc.record({ producerId: fc.constant("p"), epoch: fc.constant(0), seq: fc.constantFrom(0, 1) })
          ),
          seq: fc.constant(null),
          close: fc.nat(12).map((n) => n === 0)
        }),
        { minLength: 1, maxLength: 6, size: "max" }
      )
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      _tag: fc.constant("read" as const),
      owner: fc.constant("x"),
      path: place,
      from: fc.nat(4),
      maxRecords: fc.constantFrom(2, 100),
      maxBytes: fc.constantFrom(3, 1000)
    })
  },
  fc.record({ _tag: fc.constant("delete" as const), owner: fc.constant("x"), path: place }),
  fc.record({ _tag: fc.constant("get" as const), owner: fc.constant("x"), path: place }),
  fc.record({ _tag: fc.constant("tick" as const), millis: fc.constant(60) })
)
type ValueOf<A> = A extends fc.Arbitrary<infer Value> ? Value : never
type Operation = ValueOf<typeof operation> | ValueOf<typeof forking>

const sequences = fc.oneof<[fc.Arbitrary<ReadonlyArray<Operation>>, fc.Arbitrary<ReadonlyArray<Operation>>]>(
  fc.array(operation, { minLength: 1, maxLength: 40, size: "max" }),
  fc.array(forking, { minLength: 1, maxLength: 40, size: "max" })
)

/** Runs the operations, and returns what each answered in a form that is the same for every adapter. */
const run = (repository: Repository, scope: string, operations: ReadonlyArray<Operation>) =>
  Effect.gen(function*() {
    let nowMillis = 1_000
    const ids = new Map<number, number>()
    const id = (value: number) => ids.get(value) ?? (ids.set(value, ids.size), ids.size - 1)
    const ownerKey = (name: string) => `${scope}${name}`
    // A read answers the row from before or after it counted as use.
    const rowView = (row: StreamRow) => ({
      ...row,
      deadlineMillis: null,
      ownerKey: row.ownerKey.slice(scope.length),
      id: id(row.id),
      parentId: row.parentId === null ? null : id(row.parentId),
      segments: row.segments.map(([segment, until]) => [id(segment), until])
    })
    const view = (outcome: object) => {
      const view: Record<string, unknown> = { ...outcome }
      if ("stream" in outcome) view.stream = rowView(outcome.stream as StreamRow)
      if ("streamId" in outcome) view.streamId = id(Number(outcome.streamId))
      if ("records" in outcome && Array.isArray(outcome.records)) {
        view.records = outcome.records.map(({ data, end, start }) => [start, end, decoder.decode(data)])
      }
      return view
    }
    const answers: Array<unknown> = []
    for (const operation of operations) {
      switch (operation._tag) {
        case "create": {
          const { closed, content, fork, owner, path, ttlMillis } = operation
          answers.push(view(
            yield* repository.create({
              ...content,
              ownerKey: ownerKey(owner),
              path,
              nowMillis,
              config: JSON.stringify([ttlMillis, fork]),
              ttlMillis,
              expiresAtMillis: null,
              closed,
              fork: fork === null ? null : { ...fork, streamId: null }
            })
          ))
          break
        }
        case "append": {
          const items = operation.items.flatMap(({ close, content, owner, ...rest }) =>
            // What the service admits: data, or an end.
            content.units === 0 && !close
              ? []
              : [{ ...rest, ...content, close, ownerKey: ownerKey(owner) }]
          )
          if (items.length > 0) {
            answers.push((yield* repository.append({ items, nowMillis, maxStreamBytes: 100 })).map(view))
          }
          break
        }
        case "read": {
          const { _tag, owner, ...options } = operation
          answers.push(view(yield* repository.read({ ...options, ownerKey: ownerKey(owner), nowMillis })))
          break
        }
        case "get":
          answers.push(
            view(yield* repository.get({ ownerKey: ownerKey(operation.owner), path: operation.path, nowMillis }))
          )
          break
        case "delete":
          answers.push(
            yield* repository.delete({ ownerKey: ownerKey(operation.owner), path: operation.path, nowMillis })
          )
          break
        case "list": {
          const { _tag, owner, ...options } = operation
          const rows = yield* repository.list({ ...options, ownerKey: ownerKey(owner), nowMillis })
          answers.push(rows.map(rowView))
          break
        }
        case "sweep":
          yield* repository.sweep({ limit: 1000, nowMillis })
          break
        case "tick":
          nowMillis += operation.millis
      }
    }
    return answers
  })

for (const { layer, name } of persistences) {
  const build = Layer.build(Layer.fresh(layer)).pipe(
    Effect.map((context) => Context.get(context, DurableStreamRepository))
  )

  DurableStreamRepositorySuite.suite(name, layer)

  describe(`DurableStreamRepository, at length (${name})`, () => {
    it.live("answers any sequence of operations as the one in memory does", () =>
      Effect.gen(function*() {
        const tested = yield* build
        const context = yield* Effect.context<never>()
        let count = 0
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(sequences, async (operations) => {
              const scope = `${count++}/`
              const model = Effect.flatMap(
                DurableStreamRepository,
                (repository) => run(repository, scope, operations)
              ).pipe(Effect.provide(Layer.fresh(layerMemory)))
              const [expected, actual] = await Effect.runPromiseWith(context)(
                Effect.all([model, run(tested, scope, operations)])
              )
              assert.deepStrictEqual(actual, expected)
            }),
            { numRuns: 300 }
          )
        )
      }))
  })
}
