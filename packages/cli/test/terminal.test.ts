/** What a person reads on a terminal: tables that hostile text cannot disturb, help that fits, and codes that are documented. */
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as FastCheck from "fast-check"
import * as NFS from "node:fs"
import { fit } from "../src/internal/help.ts"
import * as Terminal from "../src/internal/terminal.ts"

const screen = (columns: number): Terminal.Screen => {
  const plain = (text: string) => text
  return { canColor: false, columns, time: String, strong: plain, good: plain, bad: plain, doubtful: plain }
}

interface Row {
  readonly id: string
  readonly label: string
  readonly owner: string
}

const table = Terminal.table<Row>([
  { name: "ID", of: ({ id }) => id, whole: true },
  { name: "LABEL", of: ({ label }) => label },
  { name: "OWNER", of: ({ owner }) => owner }
])

const hostile = [
  "漢字の端末とても長い名前ですねもっと長い名前",
  "\u202Egnp.exe\u202C",
  "\u001B[2J\u001B]0;title\u0007red",
  "e\u0301".repeat(60),
  "👩‍👩‍👧‍👦".repeat(30),
  "line\nbreak\r\tand tab",
  "\u0000\uD800 half",
  "ﷺ עברית العربية",
  "각".repeat(50),
  "क्षि".repeat(20),
  "🇩🇪🇫🇷",
  "z" + "\u0300".repeat(200)
]

// Everything that moves the cursor or reorders what stands beside it, apart from the isolates that a cell is put in.
const moves = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u202A-\u202E\u2066\u2067]/u

describe("the terminal", () => {
  it("counts the cells that terminals give a text", () => {
    for (
      const [text, cells] of [
        ["plain", 5],
        ["漢字", 4],
        ["ｆｕｌｌ", 8],
        ["ｶﾅ", 2],
        ["한글", 4],
        ["e\u0301", 1],
        ["👩‍👩‍👧", 2],
        ["🇩🇪", 2],
        ["❤️", 2],
        ["\u2068x\u2069", 1],
        ["עברית", 5],
        ["", 0]
      ] as const
    ) assert.strictEqual(Terminal.width(text), cells, JSON.stringify(text))
  })

  it("prints a table in the given columns, one line for a row, whatever strangers call themselves", () => {
    for (const columns of [44, 60, 80, 120]) {
      const rows = hostile.map((label, index) => ({ id: "0".repeat(36), label, owner: hostile.at(-1 - index) ?? "" }))
      const lines = table(rows, screen(columns)).split("\n")
      assert.lengthOf(lines, rows.length + 1)
      for (const line of lines) {
        assert.isAtMost(Terminal.width(line), columns, JSON.stringify(line))
        assert.notMatch(line, moves)
      }
      for (const line of lines.slice(1)) assert.match(line, /^0{36} {2}/)
    }
  })

  it("keeps a table's lines within 80 columns for any text", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.array(
        FastCheck.record({
          label: FastCheck.string({ unit: "binary", maxLength: 300 }),
          owner: FastCheck.string({ unit: "grapheme", maxLength: 300 })
        }),
        { maxLength: 5 }
      ),
      (texts) => {
        const lines = table(texts.map((row) => ({ id: "0".repeat(36), ...row })), screen(80)).split("\n")
        assert.lengthOf(lines, texts.length + 1)
        for (const line of lines) {
          assert.isAtMost(Terminal.width(line), 80, JSON.stringify(line))
          assert.notMatch(line, moves)
        }
      }
    ))
  })

  it("writes JSON in one line that moves nothing, and that reads as the same value", () => {
    for (const text of [...hostile, "\u0085\u009B31m\u2028\u200F\u{E0001}"]) {
      const line = Terminal.jsonLine({ text })
      assert.notMatch(line, moves)
      assert.deepStrictEqual(JSON.parse(line), JSON.parse(JSON.stringify({ text })))
    }
  })

  it("fits help into 80 columns", () => {
    const page = [
      "FLAGS",
      `  --log-level <all|trace|debug|info|warn|warning|error|fatal|none>    ${"many words ".repeat(20)}`,
      `  --short    ${"many words ".repeat(20)}`,
      "  --fits    A few words"
    ].join("\n")
    const fitted = fit(page, 80)
    for (const line of fitted.split("\n")) assert.isAtMost(line.length, 80)
    assert.include(fitted, "\n  --fits    A few words")
  })

  it("has an exit code for one kind of failure each, as docs/operator.md lists them", () => {
    const codes = Object.values(exitCodes)
    assert.lengthOf(new Set(codes), codes.length)
    const page = NFS.readFileSync(new URL("../../../docs/operator.md", import.meta.url), "utf8")
    const documented = Array.from(
      page.matchAll(/^\| (\d+) +\| `(\w+)` +\|/gm),
      ([, code, name]) => [name, Number(code)]
    )
    assert.deepStrictEqual(documented, Object.entries(exitCodes))
  })
})
