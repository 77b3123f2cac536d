/**
 * `npm run bench -- access`, `-- runs`, `-- growth`, `-- start` and `-- client` print Sallyport's rates as ratios against raw
 * limits and peers. `npm run bench -- table FILE...` writes what `--json` kept into `docs/benchmarks.md`.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { availableParallelism, loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import type { Row, Section } from "./measure.ts"
import { picture, print, replaceTables, type Result, sumUp } from "./report.ts"

const suites: Record<string, () => Promise<{ readonly sections: ReadonlyArray<Section> }>> = {
  access: () => import("./access.ts"),
  runs: () => import("./runs.ts"),
  growth: () => import("./growth.ts"),
  start: () => import("./start.ts"),
  client: () => import("./client.ts")
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    runs: { type: "string", default: "1" },
    json: { type: "string" },
    compare: { type: "string" }
  }
})

const fail = (message: string): never => {
  console.error(message)
  process.exit(1)
}

const rowsOf = (file: string): ReadonlyArray<Result> => JSON.parse(readFileSync(file, "utf8")).rows

/** Writes the rows of files into the documentation. */
const writeTables = (files: ReadonlyArray<string>): void => {
  const rows = files.flatMap(rowsOf)
  const docs = join(import.meta.dirname, "../../docs")
  const page = join(docs, "benchmarks.md")
  writeFileSync(page, replaceTables(readFileSync(page, "utf8"), rows))
  const drawn = picture(rows)
  if (drawn !== undefined) writeFileSync(join(docs, "pictures/growth.svg"), drawn)
}

const measure = async (names: ReadonlyArray<string>): Promise<void> => {
  const unknown = names.filter((name) => suites[name] === undefined)
  if (names.length === 0 || unknown.length > 0) {
    fail(
      `Name what to measure: ${Object.keys(suites).join(", ")}${
        unknown.length > 0 ? `; there is no ${unknown.join(", ")}` : ""
      }`
    )
  }
  const runs = Number(values.runs)
  if (!Number.isInteger(runs) || runs < 1) fail(`--runs takes a number from 1, not ${values.runs}`)
  const machine = { node: process.version, cores: availableParallelism(), load: loadavg()[0] ?? 0, runs }
  const before: ReadonlyArray<Row> | undefined = values.compare === undefined ? undefined : rowsOf(values.compare)
  console.log(
    `Node ${machine.node}, ${machine.cores} cores, load ${machine.load.toFixed(1)} at the start. ` +
      `Rates are medians${
        runs > 1 ? ` of ${runs} runs (with the least and the most)` : ""
      }; the ratios are what to compare.\n`
  )
  const sections: Array<Section & { readonly title: string; readonly runs: Array<ReadonlyArray<Row>> }> = []
  for (const suite of names) {
    for (const section of (await suites[suite]?.())?.sections ?? []) {
      if (section.name.includes(values.only ?? "")) {
        sections.push({ ...section, title: `${suite}: ${section.name}`, runs: [] })
      }
    }
  }
  const directory = mkdtempSync(join(tmpdir(), "sallyport-bench-"))
  try {
    // Whole runs, one after another, so that each section is measured at several times.
    for (let run = 1; run <= runs; run++) {
      for (const section of sections) {
        const own = join(directory, "section")
        mkdirSync(own)
        section.runs.push(await section.measure(own))
        rmSync(own, { recursive: true })
        const rows = sumUp(section.title, section.runs)
        if (run === runs) print(rows, before)
        else console.error(`Run ${run} of ${runs}: ${section.title}`)
      }
      if (values.json !== undefined) {
        const rows = sections.flatMap(({ runs, title }) => sumUp(title, runs))
        writeFileSync(values.json, `${JSON.stringify({ ...machine, rows }, null, 2)}\n`)
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const [command, ...files] = positionals
if (command === "table") writeTables(files)
else await measure(positionals)
