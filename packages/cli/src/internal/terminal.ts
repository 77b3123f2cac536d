/**
 * Prints the answers of commands: a table or a sentence for a person, which no stranger's text can reorder or widen, and
 * JSON for a script; and asks before what destroys.
 */
import * as Text from "@sallyport/core/Text"
import * as Prompt from "effect/cli/Prompt"
import * as Flag from "effect/cli/Flag"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Terminal from "effect/Terminal"
import { stripVTControlCharacters } from "node:util"
import { CommandFailed } from "../ExitCode.ts"

const graphemes = new Intl.Segmenter()

// What terminals draw two cells wide: emoji, and the blocks of Unicode's EastAsianWidth.txt that are wide or full-width.
const wide = new RegExp(
  "\\p{Emoji_Presentation}|\\uFE0F|[\\u1100-\\u115F\\u2E80-\\u303E\\u3041-\\u33FF\\u3400-\\u4DBF\\u4E00-\\u9FFF\\uA000-\\uA4CF" +
    "\\uA960-\\uA97F\\uAC00-\\uD7A3\\uF900-\\uFAFF\\uFE10-\\uFE19\\uFE30-\\uFE6F\\uFF01-\\uFF60\\uFFE0-\\uFFE6" +
    "\\u{16FE0}-\\u{18DFF}\\u{1B000}-\\u{1B2FF}\\u{1F200}-\\u{1F265}\\u{20000}-\\u{3FFFD}]",
  "u"
)
const takesNoCell = /[\p{M}\p{Cf}]/gu

const cellsOf = (grapheme: string): number => wide.test(grapheme) ? 2 : [...grapheme.replaceAll(takesNoCell, "")].length

/** Counts the cells of a terminal that a line takes. */
export const width = (text: string): number => {
  let cells = 0
  for (const { segment } of graphemes.segment(text)) cells += cellsOf(segment)
  return cells
}

/** Breaks words into lines of a width, all of them indented. */
export const wrap = (text: string, indent: number, columns: number): string => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && width(stripVTControlCharacters(`${line} ${word}`)) > columns - indent) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  return [...lines, line].map((one) => " ".repeat(indent) + one).join("\n")
}

/** Cuts a line to a number of cells, between the characters that a reader sees. */
const cut = (text: string, cells: number): string => {
  if (width(text) <= cells) return text
  let kept = ""
  let left = cells - 1
  for (const { segment } of graphemes.segment(text)) {
    left -= cellsOf(segment)
    if (left < 0) break
    kept += segment
  }
  return `${kept}…`
}

/** Writes a number of things. */
export const count = (number: number, thing: string): string => `${number} ${thing}${number === 1 ? "" : "s"}`

export type Paint = (text: string) => string

const halfYearMillis = Duration.toMillis("182 days")

/** Says how wide the output is, and how to colour it: on terminals only, and never if `NO_COLOR` is set. */
export const screen = Effect.gen(function*() {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const terminal = yield* Terminal.Terminal
  const columns = yield* terminal.columns
  const now = yield* DateTime.now
  const style = (code: number): Paint => (text) => canColor && text !== "" ? `\u001B[${code}m${text}\u001B[0m` : text
  return {
    canColor,
    columns: columns === 0 ? 80 : columns,
    /** Writes a time for a row, in UTC: to the minute, or a day of another half-year. */
    time: (time: DateTime.Utc): string => {
      const text = DateTime.formatIso(time)
      return Math.abs(time.epochMilliseconds - now.epochMilliseconds) < halfYearMillis
        ? text.slice(5, 16).replace("T", " ")
        : text.slice(0, 10)
    },
    strong: style(1),
    good: style(32),
    bad: style(31),
    doubtful: style(33)
  }
})
export type Screen = Effect.Success<typeof screen>

/** Describes a column. What has to be copied from it is `whole`, and is never cut. */
export interface Column<A> {
  readonly name: string
  readonly of: (row: A, screen: Screen) => string
  readonly whole?: boolean
  readonly paint?: (row: A, screen: Screen) => Paint
}

const gap = "  "
const smallest = 6

/**
 * Writes rows below the names of their columns. The widest columns are cut until the table fits the terminal; on one that is
 * narrower still, the last columns are left out.
 */
export const table = <A>(columns: ReadonlyArray<Column<A>>) => (rows: ReadonlyArray<A>, screen: Screen): string => {
  const cells = rows.map((row) => columns.map((column) => Text.toLine(column.of(row, screen)) ?? ""))
  const widths = columns.map(({ name }, index) =>
    cells.reduce((most, row) => Math.max(most, width(row[index] ?? "")), width(name))
  )
  const total = () => widths.reduce((sum, cells) => sum + cells, gap.length * (widths.length - 1))
  while (total() > screen.columns) {
    let widest = -1
    for (const [index, cells] of widths.entries()) {
      if (columns[index]?.whole !== true && cells > smallest && cells > (widths[widest] ?? 0)) widest = index
    }
    if (widest !== -1) widths[widest] = (widths[widest] ?? 0) - 1
    else if (widths.length > 1) widths.pop()
    else break
  }
  const line = (texts: ReadonlyArray<string>, paint: (index: number) => Paint) =>
    texts.slice(0, widths.length).map((text, index) => {
      const shown = Text.shown(cut(text, widths[index] ?? 0))
      const blanks = index === widths.length - 1 ? 0 : (widths[index] ?? 0) - width(shown)
      return paint(index)(shown) + " ".repeat(Math.max(0, blanks))
    }).join(gap).trimEnd()
  return [
    line(columns.map(({ name }) => name), () => screen.strong),
    ...cells.map((texts, row) =>
      line(texts, (index) => {
        const of = rows[row]
        return (of === undefined ? undefined : columns[index]?.paint?.(of, screen)) ?? ((text) => text)
      })
    )
  ].join("\n")
}

export const jsonFlag = {
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Print JSON instead of text, in the form of output.schema.json"),
    Flag.withDefault(false)
  )
}

/** Prints an answer: as one line of JSON by its published schema, or as text. */
export const print = Effect.fnUntraced(function*<S extends Schema.ConstraintEncoder<unknown>>(
  json: boolean,
  schema: S,
  value: S["Type"],
  text: (screen: Screen) => string
) {
  if (json) return yield* Console.log(JSON.stringify(yield* Effect.orDie(Schema.encodeEffect(schema)(value))))
  yield* Console.log(text(yield* screen))
})

export const yesFlag = {
  yes: Flag.Boolean("yes").pipe(Flag.withDescription("Do it without asking"), Flag.withDefault(false))
}

/** Asks on the terminal. Ctrl-C and Escape are no answer, and a script must not take them for success. */
export const ask = <A>(prompt: Prompt.Prompt<A>) =>
  Effect.catchTag(Prompt.run(prompt), "QuitError", () =>
    Effect.andThen(
      // The question's line is still open.
      Console.error(""),
      new CommandFailed({ code: "NotConfirmed", message: "Nothing was changed" })
    ))

/** Asks before what destroys. Without a terminal there is no one to ask, and the answer is never a silent yes. */
export const confirm = Effect.fnUntraced(function*(yes: boolean, question: string) {
  if (yes) return
  if (!(yield* TerminalCapabilities.TerminalCapabilities).canPrompt) {
    return yield* new CommandFailed({
      code: "NotConfirmed",
      message: `Nothing was changed: this asks first, and there is no terminal to ask on; give --yes`
    })
  }
  if (yield* ask(Prompt.Confirm({ message: question }))) return
  return yield* new CommandFailed({ code: "NotConfirmed", message: "Nothing was changed" })
})

const notLine = /[\u007F-\u009F\u2028\u2029\p{Cf}\p{Cs}]/gu

/** Writes a JSON value in one line, in which no character moves the cursor or the text around it. */
export const jsonLine = (value: Schema.Json): string =>
  JSON.stringify(value).replaceAll(
    notLine,
    (char) => char.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")
  )

/** Tells a person on a terminal how far a long command has come. */
export const progress = Effect.fnUntraced(function*(text: string) {
  if ((yield* TerminalCapabilities.TerminalCapabilities).canAnimate) yield* Console.error(`… ${text}`)
})
