/**
 * Runs programs on a pseudo-terminal. `script` makes it: each Debian has it in an essential package (`bsdutils`), as macOS and
 * most other systems have one, and a package of npm would bring a native build with it.
 */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { argumentsOf } from "./programs.ts"

const bin = fileURLToPath(new URL("../packages/cli/src/bin.ts", import.meta.url))

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

export interface TerminalOptions {
  readonly columns?: number
  readonly env?: Readonly<Record<string, string>>
  /** What is typed, each part when the screen shows its text. */
  readonly typed?: ReadonlyArray<readonly [when: string, text: string]>
}

export interface Shown {
  readonly code: number | null
  readonly screen: string
}

/** Runs a command of a shell on a terminal to its end. */
const shellOnTerminal = (command: string, options: TerminalOptions = {}): Effect.Effect<Shown> =>
  Effect.callback((resume) => {
    const { columns = 80, env = {}, typed = [] } = options
    const line = `stty cols ${columns} rows 50; ${command}`
    const { FORCE_COLOR: _force, NO_COLOR: _no, ...inherited } = process.env
    const child = spawn(
      "script",
      process.platform === "darwin" ? ["-q", "/dev/null", "sh", "-c", line] : ["-qec", line, "/dev/null"],
      // `script` runs the line by the shell that it is told, and shells differ.
      { stdio: ["pipe", "pipe", "inherit"], env: { ...inherited, SHELL: "/bin/sh", TERM: "xterm", ...env } }
    )
    let screen = ""
    let seen = 0
    const left = [...typed]
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      screen += chunk
      const [next] = left
      const at = next === undefined ? -1 : screen.indexOf(next[0], seen)
      if (next === undefined || at === -1) return
      left.shift()
      seen = at + next[0].length
      child.stdin.write(next[1])
    })
    child.on("close", (code) => resume(Effect.succeed({ code, screen })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/**
 * Runs a command line of `sallyport` on a terminal to its end. It takes the shell's place, whose end at Ctrl-C would hide
 * its own.
 */
export const onTerminal = (args: ReadonlyArray<string>, options?: TerminalOptions) =>
  shellOnTerminal(
    `exec ${[process.execPath, ...argumentsOf(bin), ...args].map(quote).join(" ")}`,
    options
  )
