/**
 * Runs the host program as a separate process, and sends the tests' requests to it.
 */
import * as Effect from "effect/Effect"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import { program, temporaryDirectory } from "../../../test-support/programs.ts"

const script = fileURLToPath(new URL("./programs/host.ts", import.meta.url))

/** Numbers as text, in the order in which the host counts. */
export const counted = (n: number): string => Array.from({ length: n }, (_, index) => `${index + 1} `).join("")

/** A database file that goes away with the scope. */
export const database = Effect.map(temporaryDirectory, (directory) => NPath.join(directory, "runs.db"))

/** Starts a host on a database file, on a port that the system chooses. */
export const host = Effect.fnUntraced(function*(filename: string) {
  const running = yield* program(script, [filename])
  const { url }: { readonly url: string } = JSON.parse(yield* Effect.orDie(running.printed(/^.*\n/)))
  const executions: Effect.Effect<{ readonly begun: number; readonly done: number }> = Effect.promise(() =>
    fetch(`${url}/executions`).then((response) => response.json())
  )
  return { ...running, url, executions }
})

/** Collects the items of an iterable, and passes each to a listener. */
export const collect = <A>(iterable: AsyncIterable<A>, listen: (items: ReadonlyArray<A>) => void = () => {}) =>
  Effect.promise(async () => {
    const items: Array<A> = []
    for await (const item of iterable) {
      items.push(item)
      listen(items)
    }
    return items
  })
