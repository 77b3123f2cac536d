/**
 * What a start costs and what a server that does nothing keeps, beside the smallest server of Effect.
 */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { bundle } from "../../scripts/bundle.ts"
import { median, type Row, type Section } from "./measure.ts"

interface Start {
  readonly seconds: number
  readonly residentKiB: number
}

/** Starts a server that prints its address, asks it once, and looks at its memory when it has been idle for a while. */
const start = async (program: string, args: ReadonlyArray<string>, cache: string): Promise<Start> => {
  const begin = performance.now()
  const child = spawn(process.execPath, ["--conditions=sallyport-source", program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_COMPILE_CACHE: cache }
  })
  const [line] = await once(createInterface(child.stdout), "line")
  await (await fetch(JSON.parse(String(line)).url)).arrayBuffer()
  const seconds = (performance.now() - begin) / 1_000
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  const residentKiB = Number(execFileSync("ps", ["-o", "rss=", "-p", String(child.pid)]))
  child.kill("SIGTERM")
  await once(child, "exit")
  return { seconds, residentKiB }
}

const rows = async (directory: string): Promise<ReadonlyArray<Row>> => {
  // As it is published: one file, and what it loads later.
  const command = join(directory, "command")
  await bundle(command)
  await writeFile(join(command, "package.json"), `{ "type": "module" }`)
  const smallest = fileURLToPath(new URL("./bareEffectServer.ts", import.meta.url))
  const ours: Array<Start> = []
  const bare: Array<Start> = []
  const cache = join(directory, "compiled")
  const serve = ["serve", "--port", "0", "--json", "--state-dir", join(directory, "state")]
  // The first round compiles, and makes the tables.
  for (let round = 0; round <= 5; round++) {
    ours.push(await start(join(command, "bin.js"), serve, cache))
    bare.push(await start(smallest, [], cache))
  }
  const middle = (starts: ReadonlyArray<Start>, quantity: keyof Start) =>
    median(starts.slice(1).map((start) => start[quantity]))
  const against = "the smallest server of Effect"
  return [
    {
      path: "serve to its first answer",
      ours: middle(ours, "seconds"),
      against: "asked",
      theirs: 0.7,
      unit: "s",
      asked: 1
    },
    {
      path: "serve to its first answer",
      ours: middle(ours, "seconds"),
      against,
      theirs: middle(bare, "seconds"),
      unit: "s",
      asked: null
    },
    {
      path: "the same, at the first start",
      ours: ours[0]?.seconds ?? Number.NaN,
      against,
      theirs: bare[0]?.seconds ?? Number.NaN,
      unit: "s",
      asked: null
    },
    {
      path: "idle memory of the process",
      ours: middle(ours, "residentKiB"),
      against,
      theirs: middle(bare, "residentKiB"),
      unit: "KiB",
      asked: 1.1
    }
  ]
}

/** The rows of a start. */
export const sections: ReadonlyArray<Section> = [{ name: "start and rest", measure: rows }]
