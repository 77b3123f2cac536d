/**
 * `npm run bench -- access` and `npm run bench -- runs` print Sallyport's rates as ratios against raw limits and peers.
 */
import { availableParallelism, loadavg } from "node:os"

const suites: Record<string, () => Promise<{ readonly run: () => Promise<void> }>> = {
  access: () => import("./access.ts"),
  runs: () => import("./runs.ts")
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => suites[name] === undefined)
if (wanted.length === 0 || unknown.length > 0) {
  console.error(
    `Name what to measure: ${Object.keys(suites).join(", ")}${
      unknown.length > 0 ? `; there is no ${unknown.join(", ")}` : ""
    }`
  )
  process.exit(1)
}

console.log(
  `Node ${process.version}, ${availableParallelism()} cores, load ${loadavg()[0]?.toFixed(1)} at the start. ` +
    "Rates are medians; the ratios are what to compare.\n"
)
for (const name of wanted) {
  const suite = await suites[name]?.()
  await suite?.run()
}
