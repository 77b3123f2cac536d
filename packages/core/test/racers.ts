/**
 * Processes that begin together.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { argumentsOf } from "../../../test-support/programs.ts"

/**
 * Starts one of `programs/` as a process for each task, tells each its task, and lets all begin once the last is ready.
 * Returns what waits for the next line of each. The processes end with the scope.
 */
export const startRacers = Effect.fnUntraced(function*(program: string, tasks: ReadonlyArray<object>) {
  const script = fileURLToPath(new URL(`programs/${program}`, import.meta.url))
  const racers = yield* Effect.forEach(tasks, (task) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(process.execPath, [...argumentsOf(script)], {
          stdio: ["pipe", "pipe", "inherit"]
        })
        child.stdin.write(`${JSON.stringify(task)}\n`)
        const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
        return {
          child,
          exited: once(child, "exit"),
          line: Effect.map(Effect.promise(() => lines.next()), ({ value }) => value ?? "")
        }
      }),
      ({ child, exited }) =>
        Effect.promise(() => {
          child.kill()
          return exited
        })
    ))
  for (const { line } of racers) assert.strictEqual(yield* line, "ready")
  for (const { child } of racers) child.stdin.write("go\n")
  return racers.map(({ line }) => line)
})
