import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Kills from "../src/kills.ts"
import type { Kind } from "../src/killsNode.ts"

/** Kills some nodes on an SQLite file of its own, and returns what was broken. */
const kill = async (kind: Kind) => {
  const directory = mkdtempSync(join(tmpdir(), "sallyport-kills-"))
  try {
    const outcome = await Kills.run({
      kind,
      store: "sqlite",
      count: 5,
      database: { filename: join(directory, "runs.db") }
    })
    assert.isAtLeast(outcome.kills, 5)
    return outcome.violations
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe.concurrent("two nodes that are killed at the points of runs", () => {
  it("RUN-21 RUN-20 RUN-08: a resumable program goes on at the other one, and readers of both see one run", async () => {
    assert.deepStrictEqual(await kill("resumable"), [])
  })

  it("RUN-21 RUN-20 RUN-08: a workflow goes on at the other one, and readers of both see one run", async () => {
    assert.deepStrictEqual(await kill("workflow"), [])
  })
})

describe("the judge of killed runs", () => {
  const data = (value: unknown) => ({ kind: "data" as const, data: value as never })
  const written = ["first", "second", "third"].flatMap((step) => [1, 2, 3].map((part) => data({ step, part })))
  const asked = [
    data({ question: { name: "go on?", ask: { sum: 9 } } }),
    data({ answer: { name: "go on?", value: 7 } })
  ]
  const model = (pid: number, ...parts: ReadonlyArray<number>) => parts.map((part) => data({ model: pid, part }))
  const end = { kind: "end" as const, data: { status: "succeeded", result: { sum: 9, answer: 7 } } }
  const restarted = data({ restarted: "model" })

  it("RUN-21: finds what is repeated, lost, mixed or ended twice", () => {
    const good = [...written, ...asked, ...model(1, 1, 2), restarted, ...model(2, 1, 2, 3), end]
    assert.deepStrictEqual(Kills.judge("workflow", good), [])
    assert.deepStrictEqual(Kills.judge("resumable", [...written, ...asked, end]), [])
    const mutants = [
      [...written.slice(1), ...asked, ...model(1, 1, 2, 3), end],
      [written[0] ?? restarted, ...written, ...asked, ...model(1, 1, 2, 3), end],
      [...written, ...asked, ...asked.slice(1), ...model(1, 1, 2, 3), end],
      [...written, ...asked, ...model(1, 1), ...model(2, 2, 3), end],
      [...written, ...asked, ...model(1, 1, 2), ...model(2, 1, 2, 3), end],
      [...written, ...asked, ...model(1, 1, 2, 3), end, end],
      [...written, ...asked, ...model(1, 1, 2, 3)]
    ]
    for (const [index, mutant] of mutants.entries()) {
      assert.isNotEmpty(Kills.judge("workflow", mutant), `mutant ${index}`)
    }
  })
})
