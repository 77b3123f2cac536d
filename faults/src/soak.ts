/**
 * Keeps the reference backend busy with mixed requests, and watches what its processes hold.
 *
 * `npm run soak -- --minutes 10 --store sqlite --seed 1`; without a store, both take their turn. The exit code is 1 if
 * something grows without an end, or if a promise was broken.
 */
import { readdirSync } from "node:fs"
import { parseArgs } from "node:util"
import { spawnPostgres } from "../../benchmarks/src/processes.ts"
import { startNodes } from "./campaign.ts"
import type { Observation } from "./history.ts"
import { judge } from "./judge.ts"
import { type Node, sleep } from "./node.ts"
import * as Random from "./random.ts"
import * as Stores from "./stores.ts"
import * as Trend from "./trend.ts"
import * as Workload from "./workload.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    store: { type: "string" },
    seed: { type: "string", default: "1" }
  }
})
const kinds = values.store === undefined ? ["sqlite", "postgres"] : [values.store]
const millis = Number(values.minutes) * 60_000 / kinds.length
if (!(millis > 0) || !kinds.every((kind) => ["sqlite", "postgres"].includes(kind))) {
  throw new Error("Usage: npm run soak -- [--minutes 10] [--store sqlite|postgres] [--seed 1]")
}

const mebibyte = 2 ** 20
/** Lists what is measured, its unit, and how much growth in the time of a soak is none. */
const measures = [
  { name: "heap after collection", unit: mebibyte, suffix: "MiB", share: 0.1, slack: 6 * mebibyte },
  { name: "resident memory", unit: mebibyte, suffix: "MiB", share: 0.15, slack: 30 * mebibyte },
  { name: "active resources", unit: 1, suffix: "", share: 0.5, slack: 20 },
  { name: "open files", unit: 1, suffix: "", share: 0.2, slack: 10 },
  { name: "loop delay, p99", unit: 1, suffix: "ms", share: 1, slack: 50 },
  { name: "write-ahead log", unit: mebibyte, suffix: "MiB", share: 0.5, slack: 8 * mebibyte }
] as const

const measure = async (node: Node, store: Stores.Store): Promise<ReadonlyArray<number> | undefined> => {
  const sample = await node.sample()
  const pid = node.pid()
  if (sample === undefined || pid === undefined) return undefined
  const files = readdirSync(`/proc/${pid}/fd`).length
  return [sample.heap, sample.rss, sample.resources, files, sample.loopDelayMillis, store.logBytes()]
}

const soak = async (store: Stores.Store, random: Random.Random): Promise<boolean> => {
  const observations: Array<Observation> = []
  const observe = (observation: Observation) => void observations.push(observation)
  const nodes = await startNodes(store, observe, { SALLYPORT_SESSION_CACHE_CAPACITY: "500" })
  try {
    const workload = await Workload.start({ nodes, random, observe, paceMillis: 100 })
    const samples = nodes.map((): Array<ReadonlyArray<number>> => [])
    const everyMillis = Math.max(1_000, millis / 120)
    const until = performance.now() + millis
    while (performance.now() < until) {
      await sleep(everyMillis)
      for (const [index, node] of nodes.entries()) {
        const sample = await measure(node, store)
        if (sample !== undefined) samples[index]?.push(sample)
      }
    }
    await workload.stop()
    for (const node of nodes) await node.terminate()
    const { checked, violations } = judge({ observations, tables: await store.tables() })
    const requests = checked.get("no request hangs") ?? 0
    console.log(`\n${store.name}: ${requests} requests in ${Math.round(millis / 60_000)} minutes\n`)
    console.log("| node | measured | median | growth | allowed | |\n| --- | --- | ---: | ---: | ---: | --- |")
    let isGood = violations.length === 0
    for (const [index, ofNode] of samples.entries()) {
      for (const [column, { name, suffix, unit, ...options }] of measures.entries()) {
        const { allowed, growth, isGrowing, median } = Trend.of(ofNode.map((sample) => sample[column] ?? 0), options)
        const texts = [median, growth, allowed].map((value) => `${(value / unit).toFixed(1)} ${suffix}`.trim())
        console.log(`| ${[index, name, ...texts, isGrowing ? "grows" : ""].join(" | ")} |`)
        isGood &&= !isGrowing
      }
    }
    for (const { check, evidence } of violations.slice(0, 50)) console.log(`  ${check}: ${evidence.slice(0, 1_000)}`)
    return isGood
  } finally {
    for (const node of nodes) await node.kill()
  }
}

let isGood = true
for (const kind of kinds) {
  const random = Random.make(Number(values.seed))
  const server = kind === "postgres" ? await spawnPostgres() : undefined
  const store = server === undefined ? Stores.sqlite(random) : await Stores.postgres(random, server.address)
  try {
    if (!await soak(store, random)) isGood = false
  } finally {
    await store.close()
    await server?.stop()
  }
}
process.exit(isGood ? 0 : 1)
