/**
 * Nodes of a deployment: whole servers, each in a process of its own, on one database.
 */
import type * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { SharedDatabase } from "../../../test-support/sharedDatabase.ts"
import { argumentsOf } from "../../../test-support/programs.ts"

const program = fileURLToPath(new URL("./programs/node.ts", import.meta.url))

/** Describes a whole server in a process of its own. */
export interface Node {
  readonly port: number
  /** Sends a signal. After `SIGKILL` it returns when the process is gone. */
  readonly signal: (name: "SIGKILL" | "SIGSTOP" | "SIGCONT") => Effect.Effect<void>
  readonly issue: (subject: string) => Effect.Effect<{ readonly id: string; readonly token: string }>
  /** Waits until the log holds some text, as often as asked. */
  readonly logged: (text: string, times: number) => Effect.Effect<void>
}

const kill = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.on("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Starts a node, which ends with the scope. */
export const startNode = (
  database: SharedDatabase,
  policy?: AuthPolicy.Kind
): Effect.Effect<Node, never, Scope.Scope> =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          process.execPath,
          [...argumentsOf(program), ...(policy === undefined ? [] : [policy])],
          { stdio: "pipe" }
        )
      ),
      kill
    )
    let log = ""
    const looks = new Set<() => void>()
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      log += text
      looks.forEach((look) => look())
    })
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    const line = Effect.promise(async () => {
      const { done, value } = await lines.next()
      if (done === true) throw new Error(`The node has ended: ${log}`)
      return value
    })
    child.stdin.write(`${JSON.stringify(database)}\n`)
    const port = Number(yield* line)
    return {
      port,
      signal: (name) => name === "SIGKILL" ? kill(child) : Effect.sync(() => void child.kill(name)),
      issue: (subject) =>
        Effect.suspend(() => {
          child.stdin.write(`${subject}\n`)
          return Effect.map(line, (text) => JSON.parse(text))
        }),
      logged: (text, times) =>
        Effect.callback((resume) => {
          const look = () => {
            if (log.split(text).length <= times) return
            looks.delete(look)
            resume(Effect.void)
          }
          looks.add(look)
          look()
        })
    }
  })
