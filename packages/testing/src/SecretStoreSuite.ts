/**
 * States what every `SecretStore` must do. An adapter's test file is a single call of `suite`.
 */
import { assert, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { times } from "./internal/newStore.ts"

const secret = (text: string): Redacted.Redacted<Uint8Array> => Redacted.make(new TextEncoder().encode(text))

const text = (value: Option.Option<Redacted.Redacted<Uint8Array>>): string | null =>
  Option.getOrNull(Option.map(value, (bytes) => new TextDecoder().decode(Redacted.value(bytes))))

/** Makes a name that a test may store under, and empties it when the test is over: the store may be one that is used. */
const given = (name: string) =>
  Effect.gen(function*() {
    const store = yield* SecretStore.SecretStore
    return yield* Effect.acquireRelease(Effect.succeed(name), () => Effect.orDie(store.remove(name)))
  })

// One layer serves a whole block, so every test has names of its own.
let counter = 0
const fresh = Effect.suspend(() => given(`suite.${++counter}`))

const validName = Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,127}$/))

/**
 * Runs the contract tests of `SecretStore` against a layer. `name` tells adapters apart in the report. What the tests store
 * is removed again.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<SecretStore.SecretStore, E>): void =>
  it.layer(layer, { timeout: "30 seconds" })(`SecretStore (${name})`, (it) => {
    it.effect("gets what was set, and none for a name that was never set", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        assert.isTrue(Option.isNone(yield* store.get(key)))
        yield* store.set(key, secret("one"))
        assert.strictEqual(text(yield* store.get(key)), "one")
        yield* store.set(key, secret("two"))
        assert.strictEqual(text(yield* store.get(key)), "two")
      }))

    it.effect("keeps any bytes: none, every value of a byte, and 1 MiB", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const values = [
          new Uint8Array(0),
          Uint8Array.from({ length: 256 }, (_, index) => index),
          Uint8Array.from({ length: 1024 * 1024 }, (_, index) => (index * 31) % 251)
        ]
        for (const value of values) {
          const key = yield* fresh
          yield* store.set(key, Redacted.make(value))
          const found = Option.getOrThrow(Option.map(yield* store.get(key), Redacted.value))
          assert.strictEqual(found.length, value.length)
          assert.isTrue(found.every((byte, index) => byte === value[index]))
        }
      }))

    it.effect("shares no memory with its callers", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        const given = new TextEncoder().encode("given")
        yield* store.set(key, Redacted.make(given))
        given.fill(0)
        const taken = Option.getOrThrow(Option.map(yield* store.get(key), Redacted.value))
        assert.strictEqual(new TextDecoder().decode(taken), "given")
        taken.fill(0)
        assert.strictEqual(text(yield* store.get(key)), "given")
      }))

    it.effect("create stores only if there is no value", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        assert.isTrue(yield* store.create(key, secret("first")))
        assert.isFalse(yield* store.create(key, secret("second")))
        assert.strictEqual(text(yield* store.get(key)), "first")
        yield* store.remove(key)
        assert.isTrue(yield* store.create(key, secret("third")))
        assert.strictEqual(text(yield* store.get(key)), "third")
      }))

    it.effect("of 24 fibers that create, one wins and its value stays", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        const won = yield* times(24, (index) =>
          Effect.map(store.create(key, secret(String(index))), (created) => created ? [index] : []))
        assert.deepStrictEqual(won.flat().map(String), [text(yield* store.get(key))])
      }))

    it.effect("SEC-03 L-05: 24 fibers in getOrCreateRandom all get the same bytes, which are kept", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        const seen = yield* times(24, () => store.getOrCreateRandom(key, 32))
        const hex = new Set(seen.map((value) => Redacted.value(value).join()))
        assert.strictEqual(hex.size, 1)
        const kept = Option.getOrThrow(Option.map(yield* store.get(key), Redacted.value))
        assert.strictEqual(kept.length, 32)
        assert.isTrue(hex.has(kept.join()))
        assert.notStrictEqual(Redacted.value(yield* store.getOrCreateRandom(yield* fresh, 32)).join(), kept.join())
      }))

    it.effect("getOrCreateRandom dies on a length that is not a positive whole number", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        for (const length of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
          const exit = yield* Effect.exit(store.getOrCreateRandom(key, length))
          assert.strictEqual(exit._tag, "Failure")
        }
        assert.isTrue(Option.isNone(yield* store.get(key)))
      }))

    it.effect("SEC-09: modify loses no update of 16 fibers", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        yield* times(16, (index) =>
          store.modify(key, (current) =>
            // The yield makes the read and the write of different fibers overlap.
            Effect.as(Effect.yieldNow, [undefined, Option.some(secret(`${text(current) ?? ""}${index},`))] as const)))
        const all = (text(yield* store.get(key)) ?? "").split(",").filter((part) => part !== "").map(Number)
        assert.deepStrictEqual(all.toSorted((a, b) => a - b), Array.from({ length: 16 }, (_, index) => index))
      }))

    it.effect("SEC-09: modify runs again when the value changed meanwhile, also by a removal and a new creation", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        yield* store.set(key, secret("same"))
        const seen: Array<string | null> = []
        const result = yield* store.modify(key, (current) =>
          Effect.gen(function*() {
            seen.push(text(current))
            if (seen.length === 1) {
              yield* store.remove(key)
              yield* store.set(key, secret("other"))
            }
            return [seen.length, Option.some(secret(`${text(current)}!`))] as const
          }))
        assert.strictEqual(result, 2)
        assert.deepStrictEqual(seen, ["same", "other"])
        assert.strictEqual(text(yield* store.get(key)), "other!")
      }))

    it.effect("modify leaves the store untouched for none and for a failure, which passes as it is", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        assert.strictEqual(yield* store.modify(key, () => Effect.succeed(["seen", Option.none()])), "seen")
        assert.isTrue(Option.isNone(yield* store.get(key)))
        yield* store.set(key, secret("kept"))
        assert.strictEqual(yield* Effect.flip(store.modify(key, () => Effect.fail("mine" as const))), "mine")
        assert.strictEqual(text(yield* store.get(key)), "kept")
        assert.lengthOf(yield* store.history(key), 1)
      }))

    it.effect("SEC-04: removing a missing name is success, and removal ends all versions", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        yield* store.remove(key)
        yield* store.set(key, secret("one"))
        yield* store.set(key, secret("two"))
        yield* store.remove(key)
        assert.isTrue(Option.isNone(yield* store.get(key)))
        assert.deepStrictEqual(yield* store.history(key), [])
        yield* store.remove(key)
        yield* store.set(key, secret("three"))
        assert.deepStrictEqual((yield* store.history(key)).map(({ value }) => text(Option.some(value))), ["three"])
      }))

    it.effect("SEC-09: keeps the last two versions, newest first", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        for (const value of ["one", "two", "three"]) yield* store.set(key, secret(value))
        const history = yield* store.history(key)
        assert.deepStrictEqual(history.map(({ value }) => text(Option.some(value))), ["three", "two"])
        assert.isAbove(history[0]?.version ?? 0, history[1]?.version ?? 0)
      }))

    it.effect("lists the names that have a value, sorted, an empty value included", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const prefix = yield* fresh
        const [a, b, c] = yield* Effect.all([given(`${prefix}.a`), given(`${prefix}.b`), given(`${prefix}.c`)])
        yield* store.set(b, secret("b"))
        yield* store.set(a, secret(""))
        yield* store.set(c, secret("c"))
        yield* store.remove(c)
        const names = (yield* store.list).filter((name) => name.startsWith(`${prefix}.`))
        assert.deepStrictEqual<ReadonlyArray<string>>(names, [a, b])
      }))

    it.effect("SEC-01: refuses every name outside the alphabet, in every operation", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const before = yield* store.list
        const names = [
          "",
          ".",
          "..",
          "../up",
          "a/b",
          "/etc/passwd",
          "a\\b",
          "a\0b",
          "a\n",
          "A",
          "é",
          "ａ",
          "a~1",
          "-a",
          "_a",
          ".a",
          "a b",
          "a%2fb",
          "💥",
          "a".repeat(129)
        ]
        for (const bad of names) {
          const operations: ReadonlyArray<Effect.Effect<unknown, SecretStore.SecretStoreError>> = [
            store.get(bad),
            store.set(bad, secret("x")),
            store.create(bad, secret("x")),
            store.getOrCreateRandom(bad, 32),
            store.modify(bad, () => Effect.succeed([undefined, Option.some(secret("x"))])),
            store.remove(bad),
            store.history(bad)
          ]
          for (const operation of operations) {
            const error = yield* Effect.flip(operation)
            assert.strictEqual(error.reason._tag, "InvalidName", JSON.stringify(bad))
          }
        }
        assert.deepStrictEqual(yield* store.list, before)
      }))

    it.effect.prop(
      "SEC-01: takes a name exactly when it is in the alphabet",
      [Schema.Union([Schema.String, validName])],
      ([candidate]) =>
        Effect.gen(function*() {
          const store = yield* SecretStore.SecretStore
          const taken = yield* Effect.match(store.get(candidate), {
            onSuccess: () => true,
            onFailure: (error) => error.reason._tag !== "InvalidName"
          })
          assert.strictEqual(
            taken,
            candidate.length <= 128 && /^[a-z0-9]/.test(candidate) && !/[^a-z0-9._-]/.test(candidate)
          )
        })
    )

    it.effect("SEC-01: keeps a secret under the longest name, 128 characters", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* given("a".repeat(128))
        yield* store.set(key, secret("long"))
        assert.strictEqual(text(yield* store.get(key)), "long")
        assert.isTrue((yield* store.list).some((listed) => listed === key))
      }))

    it.effect("SEC-08: what it returns prints no secret", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const key = yield* fresh
        yield* store.set(key, secret("hunter2-hunter2"))
        const value = yield* store.get(key)
        const random = yield* store.getOrCreateRandom(yield* fresh, 32)
        const printed = [value, random, yield* store.history(key)].map((item) =>
          `${JSON.stringify(item)}${String(item)}`
        )
          .join()
        assert.include(printed, "<redacted")
        assert.notInclude(printed, "hunter2")
        assert.notInclude(printed, Array.from(Redacted.value(random)).join())
      }))
  })
