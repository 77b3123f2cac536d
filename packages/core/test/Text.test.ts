import { assert, describe, it } from "@effect/vitest"
import * as Text from "@sallyport/core/Text"
import * as fc from "fast-check"

const ofKind = (kind: RegExp) =>
  Array.from({ length: 0x110000 }, (_, code) => String.fromCodePoint(code)).filter((char) => kind.test(char))

const joiners = fc.string({ unit: fc.constantFrom("👩", "\u200d", "\u200c", "م", "क", "\ufe0f", "🏽", " ", "a") })
const anyText = fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) })

describe("Text", () => {
  it("BOOT-11 C-03: no control, format or invisible character, and no half of one, is part of a line", () => {
    const refused = ofKind(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
    assert.isAbove(refused.length, 2_200)
    for (
      const char of [
        ...refused,
        "\u034f",
        "\u115f",
        "\u1160",
        "\u17b4",
        "\u180b",
        "\u2800",
        "\u3164",
        "\uffa0",
        "\ufe00"
      ]
    ) {
      assert.isFalse(Text.isLine(`a${char}b`), char.codePointAt(0)?.toString(16))
      assert.isFalse(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(Text.toLine(`a${char}b`) ?? ""))
    }
  })

  it("BOOT-11 C-03: a line has something to see, no blanks at its ends, and a length", () => {
    for (
      const text of [
        "Ada's phone",
        "Zoë — ноутбук 📱",
        "אבג",
        "Nguyễn ❤️",
        "x".repeat(128),
        "😀".repeat(128),
        "ไม่มีที่นี้",
        "👩‍👩‍👧‍👦 iPad",
        "🏳️‍🌈",
        "👩🏽‍💻",
        "نمی‌خواهم",
        "क्‍ष"
      ]
    ) {
      assert.isTrue(Text.isLine(text), text)
      assert.strictEqual(Text.toLine(text), text)
    }
    for (
      const text of [
        "",
        " ",
        "\u00a0",
        "\ufe0f",
        "\u0301",
        " a",
        "a ",
        "a\n",
        "a\u200db",
        "a\u200cb",
        "👩\u200d",
        "\u200d👩",
        "👩\u200dx",
        "م\u200c",
        `a${"\u0301".repeat(5)}`,
        "x".repeat(129),
        "😀".repeat(129)
      ]
    ) assert.isFalse(Text.isLine(text), JSON.stringify(text))
  })

  it("BOOT-11 C-06: a key holds neither NUL nor half of a character, and has a length", () => {
    assert.isTrue(Text.isKey("😀".repeat(1_024), 1_024))
    for (const text of ["a", "é", "\u200d", "x".repeat(255), "é".repeat(255), "😀".repeat(128)]) {
      assert.isTrue(Text.isKey(text), text)
    }
    for (
      const text of [
        "",
        "a\u0000b",
        "\ud800",
        "a\udc00",
        "\n",
        "\u2028",
        "x".repeat(256),
        "😀".repeat(129),
        "ก".repeat(171)
      ]
    ) {
      assert.isFalse(Text.isKey(text), JSON.stringify(text))
    }
  })

  it("BOOT-11: whatever is sent becomes a line or nothing", () => {
    fc.assert(
      fc.property(fc.oneof(anyText, joiners), fc.integer({ min: 1, max: 300 }), (text, max) => {
        for (const line of [Text.toLine(text, max), Text.fromHeader(text, max)]) {
          assert.isTrue(line === null || Text.isLine(line, max), JSON.stringify(line))
        }
        const inner = Text.shown(text, max).replaceAll(/^\u2068|\u2069$/g, "")
        assert.isTrue(inner === "" || Text.isLine(inner, max), JSON.stringify(inner))
      }),
      { numRuns: 2_000 }
    )
  })

  it("BOOT-11: a line is left as it is", () => {
    fc.assert(fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }), (text) => {
      fc.pre(Text.isLine(text))
      assert.strictEqual(Text.toLine(text), text.replaceAll(/\s+/g, " "))
    }))
  })

  it("BOOT-11 C-01: a header in UTF-8 is read as such, and one in Latin-1 too", () => {
    const wire = (text: string) => Buffer.from(text, "utf8").toString("latin1")
    assert.strictEqual(Text.fromHeader("MyApp/1.0\t(Linux)"), "MyApp/1.0 (Linux)")
    assert.strictEqual(Text.fromHeader(wire("École/1.0 📱")), "École/1.0 📱")
    assert.strictEqual(Text.fromHeader("\u00c9cole/1.0"), "École/1.0")
    assert.strictEqual(Text.fromHeader(wire("a\u202eb\u200bc")), "a\ufffdb\ufffdc")
    assert.strictEqual(Text.fromHeader("a\u0085b"), "a\ufffdb")
    assert.strictEqual(Text.fromHeader(undefined), null)
    assert.strictEqual(Text.fromHeader(" \t"), null)
    for (let pad = 0; pad < 4; pad++) {
      assert.match(Text.fromHeader(wire("a".repeat(pad) + "📱".repeat(1_000))) ?? "", /^a*(?:📱)+$/u)
    }
    assert.strictEqual(Text.fromHeader("x".repeat(10_000))?.length, 256)
  })

  it("BOOT-11 C-03: text in a table cannot change the order or the rows around it", () => {
    assert.strictEqual(Text.shown("Ada's phone"), "Ada's phone")
    assert.strictEqual(Text.shown("אבג"), "\u2068אבג\u2069")
    assert.strictEqual(Text.shown("a\u202e\r\n\u001b[2Jb\u2069"), "\u2068a\ufffd \ufffd[2Jb\ufffd\u2069")
  })
})
