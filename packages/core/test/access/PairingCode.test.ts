import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import { inspect } from "node:util"

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const parsed = (input: string): string | undefined =>
  Option.getOrUndefined(Option.map(PairingCode.parse(input), Redacted.value))

/** Completes random symbols with the check symbol, which is found by trial: exactly one of the 32 may fit. */
const complete = (body: string): string => {
  const fitting = Array.from(alphabet).filter((check) => parsed(body + check) !== undefined)
  assert.strictEqual(fitting.length, 1, `check symbols that fit ${body}: ${fitting.join(" ")}`)
  return body + fitting.join("")
}

const bodyOf = (length: number) =>
  fc.string({ unit: fc.constantFrom(...alphabet), minLength: length, maxLength: length })
const code = fc.oneof(bodyOf(15), bodyOf(27)).map(complete)

/** Draws a code from a source that yields these bytes. */
const generateFrom = (
  kind: PairingCode.Kind,
  byte: (index: number) => number
): Effect.Effect<string, never, SecureRandom.SecureRandom> =>
  Effect.updateService(
    Effect.map(PairingCode.generate(kind), Redacted.value),
    SecureRandom.SecureRandom,
    (random) => ({
      ...random,
      randomBytes: (size) => Effect.sync(() => Uint8Array.from({ length: size }, (_, index) => byte(index)))
    })
  )

describe("PairingCode", () => {
  it.effect("BOOT-01: shows a device code as XXXX-XXXX-XXXX-XXXX of the unambiguous alphabet, and parses it", () =>
    Effect.gen(function*() {
      const seen = new Set<string>()
      for (let index = 0; index < 200; index++) {
        const text = Redacted.value(yield* PairingCode.generate("device"))
        assert.match(text, /^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}$/)
        assert.strictEqual(parsed(text), text.replaceAll("-", ""))
        seen.add(text)
      }
      assert.strictEqual(seen.size, 200)
    }).pipe(Effect.provide(NodeCrypto.layer)))

  it.effect("BOOT-01: a device code has 75 random bits and a machine code 135: 15 and 27 symbols, each of five bits", () =>
    Effect.gen(function*() {
      for (const [kind, symbols] of [["device", 15], ["machine", 27]] as const) {
        for (let position = 0; position < symbols; position++) {
          // Over all values of the byte behind one symbol, each of the 32 symbols comes equally often, and no other moves.
          const counts = new Map<string, number>()
          for (let byte = 0; byte < 256; byte++) {
            const text = (yield* generateFrom(kind, (index) => index === position ? byte : 0)).replaceAll("-", "")
            assert.strictEqual(text.length, symbols + 1)
            const symbol = text.charAt(position)
            counts.set(symbol, (counts.get(symbol) ?? 0) + 1)
            assert.match(text.slice(0, position) + text.slice(position + 1, symbols), /^0*$/)
          }
          assert.deepStrictEqual([...counts.keys()].sort(), Array.from(alphabet))
          assert.deepStrictEqual(new Set(counts.values()), new Set([8]))
        }
      }
    }).pipe(Effect.provide(NodeCrypto.layer)))

  it("BOOT-01: refuses every substitution of one symbol, the check symbol included", () => {
    fc.assert(
      fc.property(code, (valid) => {
        for (let position = 0; position < valid.length; position++) {
          for (const symbol of alphabet) {
            if (symbol === valid.charAt(position)) continue
            assert.isUndefined(parsed(valid.slice(0, position) + symbol + valid.slice(position + 1)))
          }
        }
      }),
      { numRuns: 50 }
    )
  })

  it("BOOT-01: refuses every transposition of two different symbols, adjacent or not, the check symbol included", () => {
    fc.assert(
      fc.property(code, (valid) => {
        for (let left = 0; left < valid.length; left++) {
          for (let right = left + 1; right < valid.length; right++) {
            if (valid.charAt(left) === valid.charAt(right)) continue
            const swapped = valid.slice(0, left) + valid.charAt(right) + valid.slice(left + 1, right) +
              valid.charAt(left) + valid.slice(right + 1)
            assert.isUndefined(parsed(swapped), `${valid} with ${left} and ${right} swapped`)
          }
        }
      }),
      { numRuns: 50 }
    )
  })

  it("BOOT-01: refuses a code with a symbol left out or doubled", () => {
    fc.assert(
      fc.property(code, (valid) => {
        for (let position = 0; position < valid.length; position++) {
          assert.isUndefined(parsed(valid.slice(0, position) + valid.slice(position + 1)))
          assert.isUndefined(parsed(valid.slice(0, position) + valid.charAt(position) + valid.slice(position)))
        }
      }),
      { numRuns: 50 }
    )
  })

  it("BOOT-01: accepts any case, dashes and spaces anywhere, I and L for 1, O for 0", () => {
    const entered = code.chain((valid) =>
      fc.tuple(
        fc.constant(valid),
        fc.array(
          fc.record({
            lower: fc.boolean(),
            lookalike: fc.nat(2),
            separator: fc.constantFrom("", "", "", "-", " ", "\t")
          }),
          { minLength: valid.length, maxLength: valid.length }
        )
      )
    )
    fc.assert(
      fc.property(entered, ([valid, styles]) => {
        const text = Array.from(valid, (symbol, index) => {
          const style = styles[index]
          if (style === undefined) return symbol
          const options = symbol === "1" ? ["1", "I", "L"] : symbol === "0" ? ["0", "O", "O"] : [symbol, symbol, symbol]
          const chosen = options[style.lookalike] ?? symbol
          return style.separator + (style.lower ? chosen.toLowerCase() : chosen)
        }).join("")
        assert.strictEqual(parsed(text), valid)
      })
    )
  })

  const shown = (valid: string) => valid.replaceAll(/.{4}(?=.)/g, "$&-")

  it("BOOT-13 C-04: accepts full-width forms, any dash or blank, invisible characters, and the whole pairing address", () => {
    const wide = (text: string) =>
      Array.from(text, (char) => String.fromCodePoint(char.charCodeAt(0) + 0xfee0)).join("")
    const separators = "-‐‑‒–—―−﹣－ｰー \t\n\u00a0\u2009\u3000\u200b\u200d\u2060\ufeff\u00ad\u202e\u2066\ufe0f"
    fc.assert(fc.property(code, fc.constantFrom(...separators), fc.boolean(), (valid, separator, lower) => {
      const text = lower ? valid.toLowerCase() : valid
      for (
        const entered of [
          wide(text),
          shown(text).replaceAll("-", separator),
          `${separator}${shown(text)}${separator}`,
          Array.from(text).join(separator),
          `http://127.0.0.1:4590/pair#token=${shown(text)}`,
          `  https://ide.example.com/pair/#token=${encodeURIComponent(shown(text))}\n`,
          `https://ide.example.com/a/pair#next=1&token=${shown(text)}&x=y`,
          `<https://ide.example.com/pair#token=${shown(text)}`
        ]
      ) assert.strictEqual(parsed(entered), valid, JSON.stringify(entered))
    }))
  })

  it("BOOT-13: a mistyped code is told as one in each of these forms", () => {
    for (
      const text of [
        "ＡＢＣＤ－ＥＦＧＨ－JKMN－PQRS",
        "ABCD–EFGH–JKMN–PQRS",
        "AB\u200bCD-EFGH-JKMN-PQRS",
        "http://x/pair#token=ABCD-EFGH-JKMN-PQRS"
      ]
    ) {
      assert.isUndefined(parsed(text), text)
      assert.isTrue(PairingCode.hasCodeForm(text), text)
    }
  })

  it("BOOT-01: refuses U, foreign symbols, wrong lengths and long input", () => {
    fc.assert(
      fc.property(
        code,
        fc.nat(),
        fc.constantFrom("U", "u", "_", "*", "$", "ß", "\u0000", "٣"),
        (valid, at, symbol) => {
          const position = at % valid.length
          assert.isUndefined(parsed(valid.slice(0, position) + symbol + valid.slice(position + 1)))
        }
      )
    )
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 40 }), (text) => {
        if (text.length !== 16 && text.length !== 28) assert.isUndefined(parsed(text))
      })
    )
    const valid = complete("0".repeat(15))
    assert.strictEqual(parsed(" ".repeat(496) + valid), valid)
    assert.isUndefined(parsed(" ".repeat(497) + valid))
    assert.isUndefined(parsed(""))
    assert.isUndefined(parsed("-".repeat(16)))
  })

  it("BOOT-01: random text of a code's length passes the check at most once in 32", () => {
    const texts = fc.sample(bodyOf(16), { numRuns: 20_000, seed: 7 })
    const passed = texts.filter((text) => parsed(text) !== undefined).length
    assert.isBelow(passed, 20_000 / 32 * 1.25)
    assert.isAbove(passed, 20_000 / 32 * 0.75)
  })

  it("BOOT-01: tells a mistyped code from something else by its layout", () => {
    for (
      const text of [
        "0000-0000-0000-0001",
        "abcd efgh ijkl mnop",
        " AB12 - CD34 - EF56 - GH78 ",
        "0000-0000-0000-0000-0000-0000-0001"
      ]
    ) assert.isTrue(PairingCode.hasCodeForm(text), text)
    for (
      const text of [
        "0000000000000001",
        "0000-0000-0000-0000-0000",
        "123e4567-e89b-12d3-a456-426614174000",
        "0123456789abcdef0123456789ab",
        "0000-0000-0000-000",
        "0000_0000_0000_0000"
      ]
    ) assert.isFalse(PairingCode.hasCodeForm(text), text)
  })

  it.effect("SEC-08: a code does not show in String, JSON or inspect", () =>
    Effect.gen(function*() {
      const generated = yield* PairingCode.generate("device")
      const read = Option.getOrThrow(PairingCode.parse(Redacted.value(generated)))
      for (const secret of [generated, read]) {
        for (
          const shown of [
            String(secret),
            JSON.stringify(secret),
            inspect(secret, { depth: Infinity, showHidden: true })
          ]
        ) {
          assert.notInclude(shown, Redacted.value(secret))
        }
      }
    }).pipe(Effect.provide(NodeCrypto.layer)))
})
