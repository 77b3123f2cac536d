/**
 * `npm run bench -- access` and `npm run bench -- runs` print Sallyport's rates as ratios against raw limits and peers.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { availableParallelism, loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { report, type Row, type Section } from "./measure.ts"

const suites: Record<string, () => Promise<{ readonly sections: ReadonlyArray<Section> }>> = {
  access: () => import("./access.ts"),
  runs: () => import("./runs.ts")
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, json: { type: "string" }, compare: { type: "string" } }
})
const unknown = positionals.filter((name) => suites[name] === undefined)
if (positionals.length === 0 || unknown.length > 0) {
  console.error(
    `Name what to measure: ${Object.keys(suites).join(", ")}${
      unknown.length > 0 ? `; there is no ${unknown.join(", ")}` : ""
    }`
  )
  process.exit(1)
}

const machine = { node: process.version, cores: availableParallelism(), load: loadavg()[0] ?? 0 }
const before: ReadonlyArray<Row> | undefined = values.compare === undefined
  ? undefined
  : JSON.parse(readFileSync(values.compare, "utf8")).rows
console.log(
  `Node ${machine.node}, ${machine.cores} cores, load ${machine.load.toFixed(1)} at the start. ` +
    "Rates are medians; the ratios are what to compare.\n"
)
const rows: Array<Row> = []
const directory = mkdtempSync(join(tmpdir(), "sallyport-bench-"))
try {
  for (const suite of positionals) {
    for (const { measure, name } of (await suites[suite]?.())?.sections ?? []) {
      if (!name.includes(values.only ?? "")) continue
      const measured = await measure(mkdtempSync(join(directory, "section-")))
      rows.push(...measured)
      report(`${suite}: ${name}`, measured, before)
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ ...machine, rows }, null, 2)}\n`)
