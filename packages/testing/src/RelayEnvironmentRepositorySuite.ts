/**
 * States what every `RelayEnvironmentRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { assert, describe } from "@effect/vitest"
import {
  believedKeys,
  linked,
  RelayEnvironmentRepository,
  type RelayEnvironmentRow
} from "@sallyport/connect/RelayEnvironmentRepository"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { testOn, times } from "./internal/newStore.ts"

/** The two parts of a key that a test calls by a letter. */
const x = (name: string) => name.repeat(43)
const kid = (name: string) => name.toUpperCase().repeat(43)

const desk: RelayEnvironmentRow = linked({
  id: "desk",
  account: "ada",
  url: "https://desk.example",
  keyX: x("a"),
  keyId: kid("a"),
  relayKeyId: kid("r"),
  linkedAtMillis: 1
})

const find = RelayEnvironmentRepository.use((environments) =>
  Effect.map(environments.find({ id: "desk", account: "ada" }), Option.getOrUndefined)
)
const announce = (presentKey: string, key: string) =>
  RelayEnvironmentRepository.use((environments) =>
    environments.announceKey({ id: "desk", presentKeyId: kid(presentKey), keyX: x(key), keyId: kid(key) })
  )
const adopt = (key: string, previousUntilMillis: number) =>
  RelayEnvironmentRepository.use((environments) =>
    environments.adoptKey({ id: "desk", keyId: kid(key), previousUntilMillis })
  )
const believed = (nowMillis: number) =>
  Effect.map(find, (row) => row === undefined ? [] : believedKeys(row, nowMillis).map((key) => key.x[0]))

/**
 * Runs the contract tests of `RelayEnvironmentRepository` against a layer, which each test builds again.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<RelayEnvironmentRepository, E>): void => {
  describe(`RelayEnvironmentRepository (${name})`, () => {
    const test = testOn(layer)

    test(
      "keeps an environment for its account alone, and takes a new link from no other caller",
      Effect.gen(function*() {
        const environments = yield* RelayEnvironmentRepository
        assert.isTrue(yield* environments.link(desk))
        assert.isFalse(yield* environments.link({ ...desk, account: "eve", keyX: x("e") }))
        assert.isTrue(Option.isNone(yield* environments.find({ id: "desk", account: "eve" })))
        assert.deepStrictEqual(yield* find, desk)
        const moved = { ...desk, url: "https://moved.example", keyX: x("b"), linkedAtMillis: 2, relayKeyId: null }
        assert.isTrue(yield* environments.link(moved))
        const attic = { ...desk, id: "attic" }
        assert.isTrue(yield* environments.link(attic))
        assert.deepStrictEqual(yield* environments.list({ account: "ada", limit: 10 }), [attic, moved])
        assert.deepStrictEqual(yield* environments.list({ account: "ada", limit: 1 }), [attic])
        assert.deepStrictEqual(yield* environments.findById("attic"), Option.some(attic))
        assert.isTrue(Option.isNone(yield* environments.findById("cellar")))
        assert.isFalse(yield* environments.unlink({ id: "desk", account: "eve" }))
        const unlinked = yield* times(3, () => environments.unlink({ id: "desk", account: "ada" }))
        assert.deepStrictEqual(unlinked.filter((won) => won), [true])
      })
    )

    test(
      "gives an account no more environments than it may have, and takes a new link of one that it has",
      Effect.gen(function*() {
        const environments = yield* RelayEnvironmentRepository
        const link = (id: string, account = "ada") => environments.link({ ...desk, id, account }, { limit: 2 })
        assert.deepStrictEqual(yield* Effect.all([link("a"), link("b"), link("c")]), [true, true, false])
        assert.isTrue(Option.isNone(yield* environments.findById("c")))
        assert.isTrue(yield* link("a"))
        assert.isTrue(yield* link("c", "eve"))
        assert.isFalse(yield* link("c"))
        assert.isTrue(yield* environments.unlink({ id: "b", account: "ada" }))
        assert.isTrue(yield* link("d"))
      })
    )

    test(
      "believes an announced key beside the present one, and the previous one for a time",
      Effect.gen(function*() {
        const environments = yield* RelayEnvironmentRepository
        yield* environments.link(desk)
        yield* environments.link({ ...desk, id: "attic" })
        assert.isFalse(yield* announce("b", "c"))
        assert.isFalse(yield* adopt("b", 100))
        assert.deepStrictEqual(yield* find, desk)

        assert.isTrue(yield* announce("a", "b"))
        assert.isTrue(yield* announce("a", "b"))
        assert.deepStrictEqual(yield* find, { ...desk, nextKeyX: x("b"), nextKeyId: kid("b") })
        assert.deepStrictEqual(yield* believed(Number.MAX_SAFE_INTEGER), ["a", "b"])
        assert.isFalse(yield* adopt("c", 100))

        assert.isTrue(yield* adopt("b", 100))
        assert.isFalse(yield* adopt("b", 200))
        assert.deepStrictEqual(yield* find, {
          ...desk,
          keyX: x("b"),
          keyId: kid("b"),
          previousKeyX: x("a"),
          previousKeyId: kid("a"),
          previousUntilMillis: 100
        })
        assert.deepStrictEqual([yield* believed(99), yield* believed(100)], [["b", "a"], ["b"]])
        assert.isFalse(yield* announce("a", "e"))

        // Another one within the time of the last: what is believed of old is what was last in use.
        assert.isTrue(yield* announce("b", "c"))
        assert.deepStrictEqual(yield* believed(99), ["b", "c", "a"])
        assert.isTrue(yield* announce("b", "d"))
        assert.isTrue(yield* adopt("d", 200))
        assert.deepStrictEqual(yield* believed(99), ["d", "b"])

        assert.isTrue(yield* environments.link({ ...desk, keyX: x("n"), keyId: kid("n") }))
        assert.deepStrictEqual(yield* believed(0), ["n"])
        assert.deepStrictEqual(
          yield* environments.findById("attic"),
          Option.some<RelayEnvironmentRow>({ ...desk, id: "attic" })
        )
      })
    )

    test(
      "of n that adopt an announced key one does, and the previous one stays what it was",
      Effect.gen(function*() {
        yield* RelayEnvironmentRepository.use((environments) => environments.link(desk))
        yield* announce("a", "b")
        const adopted = yield* times(16, (index) => adopt("b", 100 + index))
        assert.deepStrictEqual(adopted.filter((won) => won), [true])
        assert.deepStrictEqual(yield* believed(50), ["b", "a"])
      })
    )

    test(
      "knows which key of the relay each environment knows, and takes no confirmation past a new link",
      Effect.gen(function*() {
        const environments = yield* RelayEnvironmentRepository
        const rows = ["a", "b", "c", "d"].map((id) => ({ ...desk, id, account: `account-${id}` }))
        for (const row of rows) yield* environments.link({ ...row, relayKeyId: row.id === "d" ? null : kid("r") })
        const unconfirmed = (afterId = "", limit = 10) =>
          Effect.map(
            environments.listUnconfirmed({ relayKeyId: kid("s"), afterId, limit }),
            (found) => found.map(({ id }) => id)
          )
        assert.deepStrictEqual(yield* unconfirmed(), ["a", "b", "c", "d"])
        assert.deepStrictEqual([yield* unconfirmed("", 2), yield* unconfirmed("b", 2)], [["a", "b"], ["c", "d"]])
        const confirm = (id: string, from: string | null) => environments.confirmRelayKey({ id, from, to: kid("s") })
        assert.isTrue(yield* confirm("a", kid("r")))
        assert.isFalse(yield* confirm("a", kid("r")))
        assert.isTrue(yield* confirm("d", null))
        assert.isFalse(yield* confirm("b", null))
        assert.isFalse(yield* confirm("missing", null))
        yield* environments.link({ ...desk, id: "c", account: "account-c", relayKeyId: kid("t") })
        assert.isFalse(yield* confirm("c", kid("r")))
        assert.deepStrictEqual(yield* unconfirmed(), ["b", "c"])
      })
    )
  })
}
