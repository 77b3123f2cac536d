/** Shows help that fits the terminal, and what is wrong with a command line in as few lines as that takes. */
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import type { HelpDoc } from "effect/cli/HelpDoc"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { stripVTControlCharacters } from "node:util"
import * as Terminal from "./terminal.ts"

const cells = (text: string): number => Terminal.width(stripVTControlCharacters(text))

/** Fits the lines of a help page. A long description goes on below itself, or below a name that leaves it little room. */
export const fit = (page: string, columns: number): string =>
  page.split("\n").map((line) => {
    if (cells(line) <= columns) return line
    const indent = /^ */.exec(line)?.[0].length ?? 0
    const [, name, description] = /^( *\S(?: ?\S)* {2,})(\S.*)$/.exec(line) ?? []
    if (name === undefined || description === undefined) return Terminal.wrap(line.trim(), indent, columns)
    const start = cells(name)
    return start <= columns / 2
      ? name + Terminal.wrap(description, start, columns).trimStart()
      : `${Terminal.wrap(name.trim(), indent, columns)}\n${Terminal.wrap(description, indent + 6, columns)}`
  }).join("\n")

/** The level of the log names its choices in its description already, and one wide flag would push all others aside. */
const narrow = (doc: HelpDoc): HelpDoc => ({
  ...doc,
  globalFlags: (doc.globalFlags ?? []).map((flag) => flag.name === "log-level" ? { ...flag, type: "level" } : flag)
})

/** Puts what is wrong, with what was meant if that can be guessed, into one line. */
const toLine = (sentence: string): string =>
  sentence.split("\n").map((line) => line.trim()).filter((line) => line !== "").join(", ")
    .replace(/(?:, )?Did you mean this\?(?:, )?/, "; did you mean ")

/**
 * Provides help pages for the terminal, or for 80 columns. `completions` is a command, so its flag is left out, and the
 * wizard, which asks for what the help says, with it. Help that was not asked for goes to standard error: a script reads
 * standard output.
 */
export const layer = Layer.unwrap(Effect.gen(function*() {
  const screen = yield* Terminal.screen
  const formatter = CliOutput.defaultFormatter({ colors: screen.canColor, globalFlags: "summary" })
  const write = (doc: HelpDoc) => fit(formatter.formatHelpDoc(narrow(doc)), screen.columns)
  return Layer.mergeAll(
    CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.LogLevel] }),
    CliOutput.layer(formatter),
    CliOutput.layerPresenter({
      present: (event) => {
        switch (event._tag) {
          case "Version":
            return Console.log(formatter.formatVersion(event.name, event.version))
          case "Help":
            return event.reason === "Requested"
              ? Console.log(write(event.helpDoc))
              : Console.error(write(event.helpDoc))
          case "InvalidInvocation":
            return Console.error([
              // One mistake is often read as several: what follows the first may be a part of it.
              ...event.errors.slice(0, 1).map((error) => `sallyport: ${toLine(formatter.formatCliError(error))}`),
              `Usage: ${event.helpDoc.usage}`,
              `Run "${event.commandPath.join(" ")} --help" for what it takes`
            ].join("\n"))
        }
      }
    })
  )
}))
