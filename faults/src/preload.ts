/**
 * Is loaded into a backend before its program. It moves the clock of the process when it is told to, and reports what the
 * process holds.
 *
 * Only the time of day jumps, as it does on real machines: `process.hrtime` and `performance.now` are monotonic.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"

/** Tells a process what to do. */
export type Command = { readonly shiftMillis: number } | { readonly sample: true }

/** Describes what a process holds. */
export interface Sample {
  readonly rss: number
  readonly heap: number
  readonly resources: number
  readonly loopDelayMillis: number
}

let shiftMillis = 0
const RealDate = Date
const now = RealDate.now.bind(RealDate)
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now() + shiftMillis] : args, newTarget),
  apply: () => new RealDate(now() + shiftMillis).toString(),
  get: (target, key, receiver) => key === "now" ? () => now() + shiftMillis : Reflect.get(target, key, receiver)
})

const delay = monitorEventLoopDelay({ resolution: 10 })
delay.enable()

process.on("message", (command: Command) => {
  if ("shiftMillis" in command) {
    shiftMillis = command.shiftMillis
    return
  }
  globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  const sample: Sample = {
    rss,
    heap: heapUsed,
    resources: process.getActiveResourcesInfo().length,
    loopDelayMillis: delay.percentile(99) / 1e6
  }
  delay.reset()
  process.send?.(sample)
})
// The channel to the harness keeps no process alive.
process.channel?.unref()
