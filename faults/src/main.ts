/**
 * Injects faults into the reference backend and judges it from outside.
 *
 * `npm run faults -- --minutes 10 --store sqlite --seed 1`; without a store, both take their turn, and without a seed the
 * time is it. The exit code is 1 if a promise was broken.
 */
import { parseArgs } from "node:util"
import { spawnPostgres } from "../../benchmarks/src/processes.ts"
import * as Campaign from "./campaign.ts"
import * as Random from "./random.ts"
import { report } from "./report.ts"
import * as Scenarios from "./scenarios.ts"
import * as Stores from "./stores.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    store: { type: "string" },
    seed: { type: "string", default: String(Date.now() % 1_000_000_000) }
  }
})
const seed = Number(values.seed)
const kinds = values.store === undefined ? ["sqlite", "postgres"] : [values.store]
const millis = Number(values.minutes) * 60_000 / kinds.length
if (!(millis > 0) || !Number.isSafeInteger(seed) || !kinds.every((kind) => ["sqlite", "postgres"].includes(kind))) {
  throw new Error("Usage: npm run faults -- [--minutes 10] [--store sqlite|postgres] [--seed 1]")
}

const results: Array<Campaign.Result> = []
for (const kind of kinds) {
  const random = Random.make(seed)
  const server = kind === "postgres" ? await spawnPostgres() : undefined
  const scenarios = kind === "sqlite" ? await Scenarios.run(random) : []
  const store = server === undefined ? Stores.sqlite(random) : await Stores.postgres(random, server.address)
  try {
    results.push(
      await Campaign.run({
        store,
        seed,
        random,
        millis,
        restMillis: 2_000,
        scenarios,
        onProgress: (line) => process.stderr.write(`${line}\n`)
      })
    )
  } finally {
    await store.close()
    await server?.stop()
  }
}
console.log(report(results))
process.exit(results.some(({ verdict }) => verdict.violations.length > 0) ? 1 : 0)
