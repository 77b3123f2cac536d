/**
 * States what every `StreamSubscriptionRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { assert, describe } from "@effect/vitest"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import {
  layerMemory,
  type Position,
  StreamSubscriptionRepository,
  type SubscriptionLink,
  type SubscriptionName,
  type SubscriptionRow
} from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { testOn, times } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

type Repository = StreamSubscriptionRepository["Service"]
type Creation = Parameters<Repository["create"]>[0]

const name = (subscriptionId = "s", ownerKey = "ada"): SubscriptionName => ({ ownerKey, subscriptionId })

const linkTo = (path: string, acked: number, glob = false): SubscriptionLink => ({
  path,
  streamId: 1,
  acked,
  explicit: true,
  glob
})

const creation = (subscriptionId = "s", fields?: Partial<Creation>): Creation => ({
  ...name(subscriptionId),
  type: "pull-wake",
  pattern: "events/*",
  webhookUrl: null,
  wakeStream: "wake",
  leaseMillis: 1_000,
  description: null,
  rootUrl: "http://x/streams",
  owner: "{}",
  digest: "d",
  links: [linkTo("events/a", 5, true)],
  limit: 100,
  nowMillis: 0,
  ...fields
})

const of = <A, E>(f: (subscriptions: Repository) => Effect.Effect<A, E>) => StreamSubscriptionRepository.use(f)
const create = (subscriptionId?: string, fields?: Partial<Creation>) =>
  of((subscriptions) => subscriptions.create(creation(subscriptionId, fields)))
const get = (subscription = name()) =>
  Effect.map(of((subscriptions) => subscriptions.get(subscription)), Option.getOrThrow)
const links = (subscription = name()) =>
  Effect.map(
    of((subscriptions) => subscriptions.links(subscription)),
    (found) => found.map(({ acked, explicit, glob, path }) => [path, acked, explicit, glob])
  )
const wake = (wakeId: string, nowMillis: number, leaseExpiresAtMillis: number | null = null, subscription = name()) =>
  of((subscriptions) => subscriptions.wake({ ...subscription, wakeId, nowMillis, leaseExpiresAtMillis }))
const claim = (worker: string, nowMillis = 0, subscription = name()) =>
  of((subscriptions) =>
    subscriptions.claim({
      ...subscription,
      wakeId: `by-${worker}`,
      worker,
      leaseExpiresAtMillis: nowMillis + 100,
      nowMillis
    })
  )
const settle = (options: {
  readonly wakeId: string
  readonly generation: number
  readonly nowMillis: number
  readonly acks?: ReadonlyArray<Position>
  readonly leaseExpiresAtMillis?: number | null
}, subscription = name()) =>
  of((subscriptions) => subscriptions.settle({ acks: [], leaseExpiresAtMillis: null, ...options, ...subscription }))
const due = (nowMillis: number, limit = 100) =>
  Effect.map(
    of((subscriptions) => subscriptions.due({ nowMillis, limit })),
    (rows) => rows.map(({ subscriptionId }) => subscriptionId)
  )
const generations = (rows: ReadonlyArray<Option.Option<SubscriptionRow>>) =>
  rows.flatMap((row) => Option.isSome(row) ? [row.value.generation] : [])

// -----------------------------------------------------------------------------
// Sequences of steps
// -----------------------------------------------------------------------------

const subscription = Schema.Literals(["s", "s", "t"])
const ownerKey = Schema.Literals(["ada", "ada", "ada", "eve"])
const path = Schema.Literals(["a", "b", "c"])
const wakeId = Schema.Literals(["w1", "w1", "w2"])
const millis = small(6)
const lease = Schema.NullOr(millis)

const Step = Schema.Union([
  Schema.TaggedStruct("create", {
    ownerKey,
    subscription,
    digest: Schema.Literals(["d", "d", "e"]),
    limit: Schema.Literals([1, 100, 100]),
    paths: Schema.Array(path).check(Schema.isMaxLength(3)),
    now: millis
  }),
  Schema.TaggedStruct("get", { ownerKey, subscription }),
  Schema.TaggedStruct("links", { ownerKey, subscription }),
  Schema.TaggedStruct("delete", { ownerKey, subscription }),
  Schema.TaggedStruct("link", { ownerKey, subscription, path, acked: millis, glob: Schema.Boolean }),
  Schema.TaggedStruct("unlink", { ownerKey, subscription, path }),
  Schema.TaggedStruct("ofOwner", { ownerKey }),
  Schema.TaggedStruct("page", { ownerKey, subscription, limit: small(3) }),
  Schema.TaggedStruct("due", { now: millis }),
  Schema.TaggedStruct("wake", { ownerKey, subscription, wakeId, lease, now: millis }),
  Schema.TaggedStruct("claim", { ownerKey, subscription, wakeId, worker: path, lease: millis, now: millis }),
  Schema.TaggedStruct("settle", {
    ownerKey,
    subscription,
    wakeId,
    generation: small(3),
    acks: Schema.Array(Schema.Struct({ path, streamId: small(3), acked: millis })).check(Schema.isMaxLength(3)),
    lease,
    now: millis
  }),
  Schema.TaggedStruct("rest", {
    ownerKey,
    subscription,
    wakeId: Schema.NullOr(wakeId),
    failed: Schema.Boolean,
    due: lease
  }),
  Schema.TaggedStruct("told", { ownerKey, subscription, wakeId })
])

const runStep = Effect.fnUntraced(function*(
  step: typeof Step.Type
): Effect.fn.Return<unknown, RepositoryError, StreamSubscriptionRepository> {
  const subscriptions = yield* StreamSubscriptionRepository
  if (step._tag === "ofOwner") return yield* subscriptions.ofOwner(step.ownerKey)
  if (step._tag === "due") {
    const rows = yield* subscriptions.due({ nowMillis: step.now, limit: 100 })
    // Those that are due since the same time come in any order.
    return rows.map((row) => `${row.dueAtMillis} ${row.ownerKey} ${row.subscriptionId}`).sort()
  }
  const of = name(step.subscription, step.ownerKey)
  switch (step._tag) {
    case "create":
      return yield* subscriptions.create(creation(step.subscription, {
        ...of,
        digest: step.digest,
        limit: step.limit,
        links: Array.from(new Set(step.paths), (path) => linkTo(path, 1)),
        nowMillis: step.now
      }))
    case "get":
      return yield* subscriptions.get(of)
    case "links":
      return yield* subscriptions.links(of)
    case "delete":
      return yield* subscriptions.delete(of)
    case "link":
      return yield* subscriptions.link({ ...of, links: [linkTo(step.path, step.acked, step.glob)] })
    case "unlink":
      return yield* subscriptions.unlink({ ...of, path: step.path })
    case "page":
      return yield* subscriptions.page({ after: of, limit: step.limit })
    case "wake":
      return yield* subscriptions.wake({
        ...of,
        wakeId: step.wakeId,
        leaseExpiresAtMillis: step.lease,
        nowMillis: step.now
      })
    case "claim":
      return yield* subscriptions.claim({
        ...of,
        wakeId: step.wakeId,
        worker: step.worker,
        leaseExpiresAtMillis: step.lease,
        nowMillis: step.now
      })
    case "settle":
      return yield* subscriptions.settle({
        ...of,
        wakeId: step.wakeId,
        generation: step.generation,
        acks: step.acks,
        leaseExpiresAtMillis: step.lease,
        nowMillis: step.now
      })
    case "rest":
      return yield* subscriptions.rest({ ...of, wakeId: step.wakeId, failed: step.failed, dueAtMillis: step.due })
    case "told":
      return yield* subscriptions.told({ ...of, wakeId: step.wakeId })
  }
})

/**
 * Runs the contract tests of `StreamSubscriptionRepository` against a layer, which each test builds again.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(title: string, layer: Layer.Layer<StreamSubscriptionRepository, E>): void => {
  describe(`StreamSubscriptionRepository (${title})`, () => {
    const test = testOn(layer)

    test(
      "BOOT-11: the longest names that there can be are kept and found",
      Effect.gen(function*() {
        // At random, because PostgreSQL compresses what it indexes.
        const random = (bytes: number) =>
          Array.from({ length: bytes / 4 }, () => String.fromCodePoint(0x20000 + Math.floor(Math.random() * 5_000)))
            .join("")
        const longest = name(random(512), JSON.stringify([random(680), random(680)]))
        const paths = [`${random(764)}/a`, `${random(764)}/b`]
        const fields = { ...longest, links: paths.map((path) => linkTo(path, 1, true)) }
        assert.strictEqual((yield* create(undefined, fields))._tag, "Created")
        assert.deepStrictEqual(new Set((yield* links(longest)).map(([path]) => path)), new Set(paths))
        assert.strictEqual((yield* get(longest)).subscriptionId, longest.subscriptionId)
      })
    )

    test(
      "creates a subscription with its links, and returns it again if the same was asked for",
      Effect.gen(function*() {
        const { limit: _, links: __, nowMillis: ___, ...asked } = creation("s", { description: "d" })
        const row: SubscriptionRow = {
          ...asked,
          createdAtMillis: 7,
          generation: 0,
          wakeId: null,
          holder: null,
          leaseExpiresAtMillis: null,
          failures: 0,
          dueAtMillis: null
        }
        const first = yield* create("s", { description: "d", nowMillis: 7 })
        assert.deepStrictEqual(first, { _tag: "Created", subscription: row })
        assert.deepStrictEqual(yield* get(), row)
        assert.deepStrictEqual(yield* create("s", { description: "d", nowMillis: 8, links: [] }), {
          _tag: "Existing",
          subscription: row
        })
        assert.deepStrictEqual(yield* create("s", { digest: "other" }), { _tag: "Conflict", subscription: row })
        assert.deepStrictEqual(yield* links(), [["events/a", 5, true, true]])
        // Another owner's subscription is another one.
        assert.isTrue(Option.isNone(yield* of((subscriptions) => subscriptions.get(name("s", "eve")))))
        assert.strictEqual((yield* create("s", { ownerKey: "eve", digest: "other" }))._tag, "Created")
      })
    )

    test(
      "L-03: of 20 that create a subscription at once one is answered Created",
      Effect.gen(function*() {
        const outcomes = yield* times(20, (index) => create("s", { links: [linkTo(`${index}`, index)] }))
        assert.deepStrictEqual(outcomes.map(({ _tag }) => _tag).sort(), [
          "Created",
          ...Array.from({ length: 19 }, () => "Existing")
        ])
        assert.strictEqual((yield* links()).length, 1)
      })
    )

    test(
      "C-25 HTTP-09: an owner has no more subscriptions than the limit, however many are created at once",
      Effect.gen(function*() {
        yield* create("s", { ownerKey: "eve" })
        const outcomes = yield* times(20, (index) => create(`${index}`, { limit: 5 }))
        assert.deepStrictEqual(outcomes.map(({ _tag }) => _tag).sort(), [
          ...Array.from({ length: 5 }, () => "Created"),
          ...Array.from({ length: 15 }, () => "Full")
        ])
        const [own] = yield* of((subscriptions) => subscriptions.ofOwner("ada"))
        assert.strictEqual((yield* create(own?.subscriptionId, { limit: 5 }))._tag, "Existing")
        assert.deepStrictEqual(yield* create("more", { limit: 5 }), { _tag: "Full" })
        yield* of((subscriptions) => subscriptions.delete(name(own?.subscriptionId)))
        assert.strictEqual((yield* create("more", { limit: 5 }))._tag, "Created")
      })
    )

    test(
      "of 20 that begin a wake at once one gets the row, and again once its lease has expired",
      Effect.gen(function*() {
        yield* create()
        const race = (nowMillis: number) =>
          Effect.map(times(20, (index) => wake(`${nowMillis}-${index}`, nowMillis, nowMillis + 100)), generations)
        assert.deepStrictEqual(yield* race(0), [1])
        assert.deepStrictEqual(yield* race(99), [])
        assert.deepStrictEqual(yield* race(100), [2])
        assert.deepStrictEqual([yield* due(199), yield* due(200)], [[], ["s"]])
        assert.deepStrictEqual(generations([yield* wake("w", 0, null, name("none"))]), [])
      })
    )

    test(
      "a wake that no worker has claimed stays, and no other begins",
      Effect.gen(function*() {
        yield* create()
        yield* wake("w1", 0)
        assert.deepStrictEqual(generations([yield* wake("w2", 1_000_000)]), [])
        assert.deepStrictEqual(yield* due(1_000_000), [])
        const { dueAtMillis, generation, holder, wakeId } = yield* get()
        assert.deepStrictEqual([wakeId, generation, holder, dueAtMillis], ["w1", 1, null, null])
      })
    )

    test(
      "of 20 workers that claim at once one gets the wake, with a lease, and the next one when it has expired",
      Effect.gen(function*() {
        yield* create()
        yield* wake("w1", 0)
        const race = (nowMillis: number) =>
          Effect.map(
            times(20, (index) => claim(`${nowMillis}-${index}`, nowMillis)),
            (outcomes) =>
              outcomes.flatMap((outcome) =>
                outcome._tag === "Claimed" ? [[outcome.subscription.wakeId, outcome.subscription.generation]] : []
              )
          )
        assert.deepStrictEqual(yield* race(0), [["w1", 1]])
        const held = yield* claim("late", 99)
        assert.deepStrictEqual(held, { _tag: "Held", subscription: yield* get() })
        assert.deepStrictEqual(
          (yield* race(100)).map(([wakeId, generation]) => [String(wakeId).slice(0, 7), generation]),
          [["by-100-", 2]]
        )
        assert.deepStrictEqual(yield* claim("w", 0, name("none")), { _tag: "Unknown" })
      })
    )

    test(
      "L-78: settles a wake for its worker alone: once, within its lease, with positions that never move back",
      Effect.gen(function*() {
        yield* create()
        yield* wake("w1", 0, 100)
        const acks = [{ path: "events/a", streamId: 1, acked: 9 }, { path: "events/b", streamId: 2, acked: 1 }]
        const outcome = (options: Partial<Parameters<typeof settle>[0]>) =>
          Effect.map(settle({ wakeId: "w1", generation: 1, nowMillis: 50, acks, ...options }), ({ _tag }) => _tag)
        assert.strictEqual(yield* outcome({ wakeId: "w0" }), "Fenced")
        assert.strictEqual(yield* outcome({ generation: 0 }), "Fenced")
        assert.strictEqual(yield* outcome({ nowMillis: 100 }), "Fenced")
        assert.deepStrictEqual(yield* links(), [["events/a", 5, true, true]])
        assert.strictEqual((yield* settle({ wakeId: "w1", generation: 1, nowMillis: 0 }, name("none")))._tag, "Unknown")

        const extended = yield* settle({ wakeId: "w1", generation: 1, nowMillis: 50, acks, leaseExpiresAtMillis: 150 })
        assert.deepStrictEqual(extended, { _tag: "Settled", subscription: yield* get() })
        assert.deepStrictEqual([yield* due(149), yield* due(150)], [[], ["s"]])
        assert.deepStrictEqual(yield* links(), [["events/a", 9, true, true], ["events/b", 1, false, true]])

        const settled = yield* times(20, () => outcome({ nowMillis: 149 }))
        assert.deepStrictEqual(settled.sort(), [...Array.from({ length: 19 }, () => "Fenced"), "Settled"])
        assert.deepStrictEqual(
          yield* get(),
          { ...yield* get(), wakeId: null, holder: null, leaseExpiresAtMillis: null, dueAtMillis: null, generation: 1 }
        )
        yield* wake("w2", 200, 500)
        assert.strictEqual(
          yield* outcome({
            wakeId: "w2",
            generation: 2,
            nowMillis: 201,
            acks: [{ path: "events/a", streamId: 1, acked: 3 }]
          }),
          "Settled"
        )
        assert.deepStrictEqual(yield* links(), [["events/a", 9, true, true], ["events/b", 1, false, true]])
      })
    )

    test(
      "C-74: moves a link on to the stream that was created later under the same path, and not back to one before",
      Effect.gen(function*() {
        yield* create()
        const subscriptions = yield* StreamSubscriptionRepository
        const acks = [[3, 2], [2, 9], [3, 1], [3, 4], [1, 8]] as const
        const seen: Array<readonly [number, number]> = []
        for (const [at, [streamId, acked]] of acks.entries()) {
          yield* wake(`w${at}`, at, 100)
          yield* settle({
            wakeId: `w${at}`,
            generation: at + 1,
            nowMillis: at,
            acks: [{ path: "events/a", streamId, acked }]
          })
          for (const link of yield* subscriptions.links(name())) seen.push([link.streamId, link.acked])
        }
        assert.deepStrictEqual(seen, [[3, 2], [3, 2], [3, 2], [3, 4], [3, 4]])
      })
    )

    test(
      "keeps a link's position and its pattern when its explicit part comes and goes",
      Effect.gen(function*() {
        yield* create()
        const subscriptions = yield* StreamSubscriptionRepository
        const link = (path: string, glob: boolean, acked = 1) =>
          subscriptions.link({ ...name(), links: [linkTo(path, acked, glob)] })
        assert.isTrue(yield* link("events/a", false))
        assert.isTrue(yield* link("other", false))
        assert.isTrue(yield* link("other", false, 7))
        assert.deepStrictEqual(yield* links(), [["events/a", 5, true, true], ["other", 1, true, false]])
        assert.isTrue(yield* subscriptions.unlink({ ...name(), path: "events/a" }))
        assert.isTrue(yield* subscriptions.unlink({ ...name(), path: "other" }))
        assert.isTrue(yield* subscriptions.unlink({ ...name(), path: "never" }))
        assert.deepStrictEqual(yield* links(), [["events/a", 5, false, true]])
        yield* link("events/a", true)
        assert.deepStrictEqual(yield* links(), [["events/a", 5, true, true]])
      })
    )

    test(
      "deletes a subscription with its links, and links none that is not there",
      Effect.gen(function*() {
        yield* create()
        yield* create("t")
        const subscriptions = yield* StreamSubscriptionRepository
        yield* subscriptions.delete(name())
        yield* subscriptions.delete(name())
        assert.isTrue(Option.isNone(yield* subscriptions.get(name())))
        assert.isFalse(yield* subscriptions.link({ ...name(), links: [linkTo("a", 1)] }))
        assert.isFalse(yield* subscriptions.unlink({ ...name(), path: "events/a" }))
        assert.deepStrictEqual([yield* links(), yield* links(name("t"))], [[], [["events/a", 5, true, true]]])
        yield* create("s", { links: [] })
        assert.deepStrictEqual(yield* links(), [])
      })
    )

    test(
      "notes failures, and when to try again, of the wake that failed only",
      Effect.gen(function*() {
        yield* create()
        const subscriptions = yield* StreamSubscriptionRepository
        const rest = (wakeId: string | null, failed: boolean, dueAtMillis: number | null) =>
          subscriptions.rest({ ...name(), wakeId, failed, dueAtMillis })
        const state = Effect.map(get(), ({ dueAtMillis, failures, wakeId }) => [wakeId, failures, dueAtMillis])
        yield* wake("w1", 0, 100)
        yield* rest("w0", true, 10)
        yield* rest(null, true, 10)
        assert.deepStrictEqual(yield* state, ["w1", 0, 100])
        yield* rest("w1", true, 10)
        yield* rest("w1", true, 20)
        assert.deepStrictEqual(yield* state, [null, 1, 10])
        yield* wake("w2", 10, 100)
        yield* rest("w2", true, 20)
        assert.deepStrictEqual(yield* state, [null, 2, 20])
        yield* wake("w3", 20, 100)
        yield* subscriptions.told({ ...name(), wakeId: "w2" })
        assert.deepStrictEqual(yield* state, ["w3", 2, 100])
        yield* subscriptions.told({ ...name(), wakeId: "w3" })
        assert.deepStrictEqual(yield* state, ["w3", 0, 100])
        yield* rest("w3", false, null)
        assert.deepStrictEqual(yield* state, [null, 0, null])
        yield* rest(null, false, 30)
        assert.deepStrictEqual(yield* state, [null, 0, 30])
      })
    )

    test(
      "lists the subscriptions of an owner, all of them in pages, and those that are due, longest first",
      Effect.gen(function*() {
        const all = [["ada", "b"], ["ada", "B"], ["eve", "a"], ["ada", "ä"], ["ada", "a"]] as const
        for (const [ownerKey, subscriptionId] of all) yield* create(subscriptionId, { ownerKey })
        const subscriptions = yield* StreamSubscriptionRepository
        const own = yield* subscriptions.ofOwner("ada")
        assert.deepStrictEqual(own.map(({ subscriptionId }) => subscriptionId), ["B", "a", "b", "ä"])
        const seen: Array<string> = []
        let after = name("", "")
        while (true) {
          const page: ReadonlyArray<SubscriptionRow> = yield* subscriptions.page({ after, limit: 2 })
          for (const row of page) {
            seen.push(`${row.ownerKey} ${row.subscriptionId}`)
            after = name(row.subscriptionId, row.ownerKey)
          }
          if (page.length < 2) break
        }
        assert.deepStrictEqual(seen, ["ada B", "ada a", "ada b", "ada ä", "eve a"])
        yield* wake("w", 0, 30, name("b"))
        yield* wake("w", 0, 10, name("a"))
        yield* wake("w", 0, 20, name("a", "eve"))
        assert.deepStrictEqual(yield* due(9), [])
        assert.deepStrictEqual(yield* due(30), ["a", "a", "b"])
        assert.deepStrictEqual(yield* due(30, 1), ["a"])
      })
    )

    testAgainstMemory({
      port: "StreamSubscriptionRepository",
      steps: Schema.Array(Step).check(Schema.isMinLength(40), Schema.isMaxLength(120)),
      run: runStep,
      layer,
      layerMemory
    })
  })
}
