/**
 * Programs in separate processes, so that measuring them costs them nothing. Each prints a line of JSON when it is
 * ready; then each line of input is a command, answered with a line of JSON. It ends when its input does.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { Command } from "./runServer.ts"

const linesOf = (child: ChildProcess) => {
  if (child.stdout === null) throw new Error("The process has no output")
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  return async () => JSON.parse((await lines.next()).value ?? "")
}

/** Says where a server is, and the token for its requests. */
export interface Hello {
  readonly port: number
  readonly token: string
  /** The path below which it has streams of the Durable Streams protocol; none if it has no such streams. */
  readonly streams?: string | undefined
}

/** Starts a program, by its path from this folder. */
export const spawnProgram = async <Hello, Command>(
  program: string,
  args: ReadonlyArray<string>,
  options: { readonly stderr: "inherit" | "ignore" } = { stderr: "inherit" }
) => {
  const path = fileURLToPath(new URL(program, import.meta.url))
  const child = spawn(process.execPath, ["--conditions=sallyport-source", path, ...args], {
    stdio: ["pipe", "pipe", options.stderr]
  })
  const next = linesOf(child)
  const hello: Hello = await next()
  return {
    hello,
    ask: async (command: Command) => {
      child.stdin?.write(`${JSON.stringify(command)}\n`)
      return next()
    },
    /** Ends its input, and sends the program a signal if it does not end by itself. */
    stop: async (signal?: NodeJS.Signals) => {
      child.stdin?.end()
      if (signal !== undefined) child.kill(signal)
      await once(child, "exit")
    }
  }
}

/** Starts a server of this folder. */
export const spawnServer = (program: string, args: ReadonlyArray<string>) => spawnProgram<Hello, Command>(program, args)

/** Starts a PostgreSQL server with PostgreSQL's default durability of commits. */
export const spawnPostgres = async () => {
  const program = fileURLToPath(new URL("../../test-support/postgresServer.ts", import.meta.url))
  const child = spawn(process.execPath, [program, "--durable"], { stdio: ["pipe", "pipe", "inherit"], detached: true })
  return {
    address: await linesOf(child)(),
    stop: async () => {
      child.stdin.end()
      await once(child, "exit")
    }
  }
}
