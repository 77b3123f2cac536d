/**
 * Starts one PostgreSQL server for a test run, and stops it at the end.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { TestProject } from "vitest/node"

/**
 * How to reach the server of this test run.
 */
export interface PostgresAddress {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
  /** The directory of its socket. */
  readonly socketDirectory: string
}

declare module "vitest" {
  export interface ProvidedContext {
    readonly postgres: PostgresAddress
  }
}

export default async (project: TestProject) => {
  // All projects of a run use the server that the first has started.
  const started = process.env["TEST_POSTGRES"]
  if (started !== undefined) return project.provide("postgres", JSON.parse(started))
  const server = spawn(process.execPath, [fileURLToPath(new URL("./postgresServer.ts", import.meta.url))], {
    // A separate process group, so that an interrupt from the terminal does not race with the orderly end.
    detached: true,
    stdio: ["pipe", "pipe", "pipe"]
  })
  const errors: Array<string> = []
  server.stderr.setEncoding("utf8").on("data", (text: string) => errors.push(text))
  const exited = once(server, "exit")
  const address = await new Promise<PostgresAddress>((resolve, reject) => {
    createInterface(server.stdout).once("line", (line) => resolve(JSON.parse(line)))
    exited.then(() => reject(new Error(errors.join(""))), reject)
  })
  project.provide("postgres", address)
  process.env["TEST_POSTGRES"] = JSON.stringify(address)
  return async () => {
    server.stdin.end()
    await exited
  }
}
