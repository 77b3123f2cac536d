/**
 * Kills nodes at the points of runs: `npm run kills -- --count 200 --kind workflow --store sqlite`. Without a kind or a store,
 * each takes its turn, and is given `--minutes`. The exit code is 1 if a promise was broken.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { spawnPostgres } from "../../benchmarks/src/processes.ts"
import * as Kills from "./kills.ts"

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "20" },
    minutes: { type: "string", default: "60" },
    kind: { type: "string" },
    store: { type: "string" }
  }
})
const count = Number(values.count)
const maxMillis = Number(values.minutes) * 60_000
const kinds = (["resumable", "workflow"] as const).filter((kind) => (values.kind ?? kind) === kind)
const stores = ["sqlite", "postgres"].filter((store) => (values.store ?? store) === store)
if (!Number.isSafeInteger(count) || count < 1 || !(maxMillis > 0) || kinds.length === 0 || stores.length === 0) {
  throw new Error(
    "Usage: npm run kills -- [--count 20] [--minutes 60] [--kind resumable|workflow] [--store sqlite|postgres]"
  )
}

const outcomes: Array<Kills.Outcome> = []
for (const store of stores) {
  for (const kind of kinds) {
    const server = store === "postgres" ? await spawnPostgres() : undefined
    const directory = mkdtempSync(join(tmpdir(), "sallyport-kills-"))
    try {
      outcomes.push(
        await Kills.run({
          kind,
          store,
          count,
          maxMillis,
          database: server === undefined
            ? { filename: join(directory, "runs.db") }
            : { ...server.address, database: "postgres" },
          onProgress: (line) => process.stderr.write(`${store} ${kind} ${line}\n`)
        })
      )
    } finally {
      process.stderr.write(`${Kills.table(outcomes)}\n`)
      await server?.stop()
      rmSync(directory, { recursive: true, force: true })
    }
  }
}
console.log(Kills.table(outcomes))
process.exit(outcomes.some(({ violations }) => violations.length > 0) ? 1 : 0)
