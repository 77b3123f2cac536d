/** The command on a real terminal and in a pipe: questions, colours, widths, and what Ctrl-C does. */
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as Effect from "effect/Effect"
import { stripVTControlCharacters } from "node:util"
import * as Sallyport from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"
import { onTerminal } from "../../../test-support/terminal.ts"
import { width } from "../src/internal/terminal.ts"
import { commandLine } from "./commandLine.ts"

/** The lines that stand on a screen, without what only moves the cursor or colours. */
const linesOf = (screen: string) => stripVTControlCharacters(screen).split(/\r?\n/).map((line) => line.trimEnd())

// eslint-disable-next-line no-control-regex
const coloured = /\u001B\[[0-9;]*m/

/** A state with a session, a link and a mode, whose labels are as wide as labels may be. */
const arrange = Effect.gen(function*() {
  const state = yield* Sallyport.freshState
  const here = ["--state-dir", state]
  assert.strictEqual((yield* commandLine(["connect", "security", "account", ...here])).code, 0)
  for (
    const label of [
      "漢字の端末".repeat(12),
      "👩‍👩‍👧‍👦 family".repeat(4),
      "e\u0301".repeat(40),
      "x".repeat(128),
      "עברית العربية",
      "🇩🇪🇫🇷❤️ flags"
    ]
  ) {
    const issued = yield* commandLine(["sessions", "issue", "--label", label, ...here])
    assert.strictEqual(issued.code, 0, issued.stderr)
    assert.strictEqual((yield* commandLine(["pair", "--label", label, ...here])).code, 0)
  }
  return here
})

describe("sallyport on a terminal", () => {
  it.live(
    "asks before it destroys: only yes does it, and Ctrl-C, Escape and no change nothing",
    () =>
      Effect.gen(function*() {
        const here = yield* arrange
        const revoke = ["sessions", "revoke", "--all", ...here]
        for (const typed of ["n", "\r", "\u0003", "\u001B", "\u0004"]) {
          const { code, screen } = yield* onTerminal(revoke, { typed: [["(y/N)", typed]] })
          assert.strictEqual(code, exitCodes.NotConfirmed, JSON.stringify([typed, screen]))
          assert.strictEqual(linesOf(screen).findLast((line) => line !== ""), "sallyport: Nothing was changed")
        }
        // A terminal that cannot move the cursor, and a pipe, can ask nothing.
        const dumb = yield* onTerminal(revoke, { env: { TERM: "dumb" } })
        assert.strictEqual(dumb.code, exitCodes.NotConfirmed)
        assert.include(dumb.screen, "give --yes")
        for (
          const args of [
            ["sessions", "revoke", "--all"],
            ["credentials", "remove", "github.token"],
            ["connect", "unlink"],
            ["runs", "sweep"]
          ]
        ) {
          const piped = yield* commandLine([...args, ...here])
          assert.deepStrictEqual([piped.code, piped.stdout], [exitCodes.NotConfirmed, ""], args.join(" "))
        }
        const secret = yield* onTerminal(["credentials", "set", "anthropic.api-key", ...here], {
          typed: [["(not shown)", "\u0003"]]
        })
        assert.strictEqual(secret.code, exitCodes.NotConfirmed, secret.screen)
        const typed = yield* onTerminal(["credentials", "set", "anthropic.api-key", ...here], {
          typed: [["(not shown)", "sk-not-to-be-seen\r"]]
        })
        assert.strictEqual(typed.code, 0, typed.screen)
        assert.notInclude(typed.screen, "sk-not-to-be-seen")

        const yes = yield* onTerminal(revoke, { typed: [["(y/N)", "y"]] })
        assert.strictEqual(yes.code, 0, yes.screen)
        assert.include(yes.screen, "Revoked 6 sessions")
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "fits tables into the terminal, whatever the labels, and colours on terminals that show it only",
    () =>
      Effect.gen(function*() {
        const here = yield* arrange
        for (const columns of [60, 80, 200]) {
          for (const args of [["sessions", "list"], ["links", "list"], ["doctor"], ["status"]]) {
            const { code, screen } = yield* onTerminal([...args, ...here], { columns })
            assert.strictEqual(code, 0, screen)
            assert.match(screen, coloured)
            const lines = linesOf(screen)
            for (const line of lines) assert.isAtMost(width(line), columns, JSON.stringify(line))
            if (args[1] === "list") assert.lengthOf(lines.filter((line) => /^[0-9a-f-]{13} /.test(line)), 6)
          }
        }
        for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
          const { screen } = yield* onTerminal(["sessions", "list", ...here], { env })
          assert.notMatch(screen, coloured)
        }
        const piped = yield* Sallyport.sallyport(["sessions", "list", ...here])
        assert.strictEqual((yield* piped.exit).code, 0)
        assert.notMatch(piped.stdout(), coloured)
        for (const line of piped.stdout().split("\n")) assert.isAtMost(width(line), 80)
        const narrow = yield* onTerminal(["pair", ...here], { columns: 25 })
        assert.notInclude(narrow.screen, "█")
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "shows the help of each command within 80 columns in a pipe, and within the terminal's",
    () =>
      Effect.gen(function*() {
        const commands: Array<ReadonlyArray<string>> = [[]]
        for (const path of commands) {
          const { code, stderr, stdout } = yield* commandLine([...path, "--help"])
          assert.deepStrictEqual([code, stderr], [0, ""], path.join(" "))
          for (const line of stdout.split("\n")) assert.isAtMost(width(line), 80, line)
          const [, subcommands = ""] = stdout.split("SUBCOMMANDS\n")
          for (const [, name = ""] of subcommands.matchAll(/^ {2}([a-z-]+) /gm)) commands.push([...path, name])
          if (subcommands === "") continue
          // Without a subcommand nothing was done, and a script that reads the output finds nothing there.
          const bare = yield* commandLine(path)
          assert.deepStrictEqual([bare.code, bare.stdout], [exitCodes.Usage, ""])
          assert.strictEqual(bare.stderr, stdout)
        }
        assert.isAbove(commands.length, 40)
        for (const columns of [40, 60, 120]) {
          const { screen } = yield* onTerminal(["serve", "--help"], { columns })
          for (const line of linesOf(screen)) assert.isAtMost(width(line), columns, line)
        }
      }),
    timeout
  )

  it.live(
    "follows the changes in sentences, or as JSON, and ends a tail at Ctrl-C, as asked",
    () =>
      Effect.gen(function*() {
        const here = yield* arrange
        const json = yield* onTerminal(["feed", "tail", "--json", ...here], { typed: [["{", "\u0003"]] })
        assert.strictEqual(json.code, 0, json.screen)
        const all = ["feed", "tail", "--after", "0", ...here]
        const { code, screen } = yield* onTerminal(all, { typed: [["flags\": ", "\u0003"]] })
        assert.strictEqual(code, 0, screen)
        assert.match(screen, /^ {5}1 {2}\d\d-\d\d \d\d:\d\d {2}operator {2}mode is account\r?$/m)
        assert.match(screen, /operator {2}session [0-9a-f]{8}-[0-9a-f]{4} is live, "x{40,}/)
        assert.notInclude(screen, "{")
      }).pipe(Effect.scoped),
    timeout
  )
})
