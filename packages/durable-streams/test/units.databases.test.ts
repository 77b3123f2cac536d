import { assert, describe, it } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { formatOffset, isStreamPath, parseOffset } from "@sallyport/durable-streams/DurableStream"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as fc from "fast-check"
import * as Glob from "../src/internal/glob.ts"
import * as JsonText from "../src/internal/jsonText.ts"
import * as SubscriptionErrors from "../src/internal/subscriptionErrors.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder()

describe("messages of JSON", () => {
  it("are the elements of an array, wherever it is cut, with the digits that were sent", () => {
    fc.assert(fc.property(fc.array(fc.json(), { minLength: 1 }), fc.nat(), fc.nat(), (texts, a, b) => {
      const body = encoder.encode(` [ ${texts.join(" , ")} ]\n`)
      const messages = JsonText.messagesOf(body)
      assert(messages !== undefined)
      assert.strictEqual(messages.count, texts.length)
      const from = Math.min(a, b) % texts.length
      const until = from + 1 + Math.max(a, b) % (texts.length - from)
      const part = decoder.decode(JsonText.slice(messages.list, from, until))
      assert.deepStrictEqual(JSON.parse(`[${part}]`), texts.slice(from, until).map((text) => JSON.parse(text)))
    }))
    const exact = JsonText.messagesOf(encoder.encode("[1.0, 12345678901234567890]"))
    assert.strictEqual(decoder.decode(exact?.list), "1.0, 12345678901234567890")
  })

  it("are not made of anything else", () => {
    for (const body of ["", "{", "[1,]", "undefined", "[1] 2"]) {
      assert.isUndefined(JsonText.messagesOf(encoder.encode(body)), body)
    }
    assert.isUndefined(JsonText.messagesOf(new Uint8Array([0x22, 0xff, 0x22])))
    assert.strictEqual(JsonText.messagesOf(encoder.encode("[]"))?.count, 0)
    assert.strictEqual(JsonText.messagesOf(encoder.encode(" [ \n ] "))?.count, 0)
  })

  it("BOOT-11: are read from what JSON.parse reads, and from nothing else", () => {
    const parse = Option.liftThrowable((text: string): unknown => JSON.parse(text))
    const parts = [
      "[",
      "]",
      "{",
      "}",
      ",",
      ":",
      " ",
      "\t",
      "\u00a0",
      "\ufeff",
      "\"",
      "\\",
      "\\u00",
      "\\u12g4",
      "\\x",
      "\n",
      "\0"
    ]
      .concat([
        "0",
        "-",
        "+",
        ".",
        "e",
        "E",
        "1",
        "01",
        "-0",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1E-2",
        "0x1",
        "NaN",
        "tru",
        "true"
      ])
      .concat(["null", "\"a\"", "\"a\":1", "\"\\ud800\"", "{}", "[]", "é", "😀", "\u2028"])
    // A text as it should be, of which one place is another: each place of the grammar comes up.
    const changed = fc.tuple(fc.json(), fc.nat(), fc.nat(2), fc.constantFrom("", ...parts)).map(
      ([text, at, taken, part]) => {
        const place = at % (text.length + 1)
        return text.slice(0, place) + part + text.slice(place + taken)
      }
    )
    const any = fc.oneof(changed, fc.array(fc.constantFrom(...parts), { maxLength: 8 }).map((texts) => texts.join("")))
    fc.assert(
      fc.property(any, (text) => {
        // Half of a surrogate pair is none in UTF-8.
        const body = encoder.encode(text)
        const value = parse(decoder.decode(body))
        const messages = JsonText.messagesOf(body)
        assert.strictEqual(messages !== undefined, Option.isSome(value))
        if (messages === undefined || Option.isNone(value)) return
        assert.strictEqual(messages.count, Array.isArray(value.value) ? value.value.length : 1)
        const list: unknown = JSON.parse(`[${decoder.decode(messages.list)}]`)
        assert.deepStrictEqual(list, Array.isArray(value.value) ? value.value : [value.value])
      }),
      { numRuns: 5_000 }
    )
  })
})

describe("offsets", () => {
  it("sort as the positions do, and are read back", () => {
    fc.assert(fc.property(fc.maxSafeNat(), fc.maxSafeNat(), fc.maxSafeNat(), (streamId, a, b) => {
      const [one, other] = [{ streamId, position: a }, { streamId, position: b }]
      assert.deepStrictEqual(parseOffset(formatOffset(one)), Option.some(one))
      assert.strictEqual(formatOffset(one) < formatOffset(other), a < b)
    }))
    for (
      const text of ["", "-1", "now", "1", "0000000000000000_-000000000000001", "9999999999999999_0000000000000000"]
    ) {
      assert.isTrue(Option.isNone(parseOffset(text)), text)
    }
  })
})

describe("paths of streams", () => {
  it("have segments, and none that means another place", () => {
    for (const path of ["a", "a/b c/ä", "...", "a/__ds", "__dsx"]) assert.isTrue(isStreamPath(path), path)
    for (const path of ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "__ds", "__ds/a", "a\nb"]) {
      assert.isFalse(isStreamPath(path), path)
    }
    assert.isFalse(isStreamPath("a".repeat(513)))
    assert.isTrue(isStreamPath("é".repeat(384)))
    assert.isFalse(isStreamPath("é".repeat(385)))
  })
})

describe("patterns", () => {
  it("C-76: match one segment with a star, and zero or more with two", () => {
    const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>, ReadonlyArray<string>]> = [
      ["events/*", ["events/a", "events/a.b"], ["events", "events/a/b", "other/events/a"]],
      ["events/**", ["events", "events/a", "events/a/b"], ["event", "event/a", "eventsa", "a/events"]],
      ["/events/**/", ["events", "events/a"], ["event"]],
      ["events/**/*", ["events/a", "events/a/b"], ["events", "other/a"]],
      ["events/*/**", ["events/a", "events/a/b"], ["events"]],
      ["**", ["a", "a/b", ".a/.b"], []],
      ["**/**", ["a", "a/b"], []],
      ["**/log", ["log", "a/log", "a/b/log"], ["a/logs", "xlog", "log/a"]],
      ["a/**/z", ["a/z", "a/b/z", "a/b/c/z", "a/z/z"], ["a", "z", "a/bz", "a/z/b"]],
      ["a/**/b/**/c", ["a/b/c", "a/b/b/c/c", "a/x/b/y/z/c"], ["a/c", "a/b", "a/b/x"]],
      ["a**z", ["az", "abz"], ["a/z", "a/b/z"]],
      ["run-*-x", ["run-1-x", "run--x", "run-1-x-x"], ["run-1/2-x", "run-x"]],
      ["a.b+(c)", ["a.b+(c)"], ["axb+(c)"]],
      ["{a,b}?[c]\\", ["{a,b}?[c]\\"], ["a", "b", "a?c"]],
      ["C:/*", ["C:/a"], ["C:", "a"]],
      ["a/%2A", ["a/*"], ["a/b"]],
      ["a/%2ab*", ["a/*b", "a/*bc"], ["a/b", "a/xb"]],
      ["*", ["\u{1f600}", "a", "..."], ["a/b"]],
      ["x*\u{1f600}*y", ["x\u{1f600}y"], ["xy"]]
    ]
    for (const [pattern, yes, no] of cases) {
      const matches = Glob.matcher(pattern)
      for (const path of yes) {
        assert.isTrue(matches(path), `${pattern} ${path}`)
        assert.isTrue(path.startsWith(Glob.literalPrefix(pattern)), `${pattern} ${path}`)
      }
      for (const path of no) assert.isFalse(matches(path), `${pattern} ${path}`)
    }
  })

  it("agree with every way to share out a path's segments and characters", () => {
    /** The meaning itself, in as much time as it takes. */
    const shares = (pattern: string, path: string): boolean => {
      const inSegment = (part: string, segment: string): boolean =>
        part.startsWith("*")
          ? Array.from({ length: segment.length + 1 }, (_, n) => n).some((n) =>
            inSegment(part.slice(1), segment.slice(n))
          )
          : part === ""
          ? segment === ""
          : part[0] === segment[0] && inSegment(part.slice(1), segment.slice(1))
      const over = (parts: ReadonlyArray<string>, segments: ReadonlyArray<string>): boolean => {
        const [part, ...rest] = parts
        if (part === undefined) return segments.length === 0
        if (part === "**") {
          return Array.from({ length: segments.length + 1 }, (_, n) => n).some((n) => over(rest, segments.slice(n)))
        }
        const [segment, ...others] = segments
        return segment !== undefined && inSegment(part, segment) && over(rest, others)
      }
      return over(pattern.split("/"), path.split("/"))
    }
    const part = fc.oneof(
      fc.constant("**"),
      fc.array(fc.constantFrom("a", "b", "*"), { minLength: 1, maxLength: 4 }).map((all) => all.join(""))
    )
    const segment = fc.array(fc.constantFrom("a", "b"), { minLength: 1, maxLength: 4 }).map((all) => all.join(""))
    const joined = (of: fc.Arbitrary<string>) =>
      fc.array(of, { minLength: 1, maxLength: 5 }).map((all) => all.join("/"))
    fc.assert(
      fc.property(joined(part), joined(segment), (pattern, path) => {
        assert.strictEqual(Glob.matcher(pattern)(path), shares(pattern, path), `${pattern} ${path}`)
      }),
      { numRuns: 3_000 }
    )
  })

  // One that takes exponential time would not come to an end.
  it("C-24: take a time that does not explode, however many stars there are", () => {
    for (
      const [pattern, path] of [
        ["*a*a*a*a*b", "a".repeat(200)],
        [`${"*a".repeat(500)}b`, "a".repeat(512)],
        [`${"**/a/".repeat(200)}b`, `${"a/".repeat(255)}a`],
        [`${"**/*a*a/".repeat(100)}b`, `${"aaa/".repeat(127)}a`],
        [`${"**/".repeat(300)}b`, `${"a/".repeat(255)}a`],
        [`${"*".repeat(1_000)}b`, "a".repeat(512)]
      ] as const
    ) {
      assert.isFalse(Glob.matcher(pattern)(path), pattern)
    }
  })
})

describe("errors of subscriptions", () => {
  it.effect("tell whether another try can help, as those of streams do", () =>
    Effect.gen(function*() {
      const lost = yield* Effect.flip(SubscriptionErrors.storage(Effect.fail(
        new RepositoryError({ operation: "get", reason: "Unavailable", outcome: "unchanged", cause: "lost" })
      )))
      assert.isTrue(lost.isRetryable)
      const missing = new SubscriptionErrors.SubscriptionNotFound({ subscriptionId: "s" })
      assert.isFalse(new SubscriptionErrors.StreamSubscriptionsError({ reason: missing }).isRetryable)
    }))
})
