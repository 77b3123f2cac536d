import * as CliOutput from "effect/cli/CliOutput"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Terminal from "effect/Terminal"
import { stripVTControlCharacters } from "node:util"

/** Breaks words into lines of a width, all of them indented. */
const wrap = (text: string, indent: number, columns: number): string => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && stripVTControlCharacters(`${line} ${word}`).length > columns - indent) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  return [...lines, line].map((one) => " ".repeat(indent) + one).join("\n")
}

/** Fits the lines of a help page: a long description of a flag or a command goes below its name. */
export const fit = (page: string, columns: number): string =>
  page.split("\n").map((line) => {
    if (stripVTControlCharacters(line).length <= columns) return line
    const [, indent = "", name = "", description] = /^( *)(.*?\S) {2,}(\S.*)$/.exec(line) ?? []
    if (description === undefined) return wrap(line.trim(), /^ */.exec(line)?.[0].length ?? 0, columns)
    return `${wrap(name, indent.length, columns)}\n${wrap(description, indent.length + 6, columns)}`
  }).join("\n")

/** Provides help pages that fit the terminal, or 80 columns. */
export const layer = Layer.unwrap(Effect.gen(function*() {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const columns = yield* (yield* Terminal.Terminal).columns
  const formatter = CliOutput.defaultFormatter({ colors: canColor })
  return CliOutput.layer({
    ...formatter,
    formatHelpDoc: (doc) => fit(formatter.formatHelpDoc(doc), columns === 0 ? 80 : columns)
  })
}))
