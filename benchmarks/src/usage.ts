/** What a process uses, after a collection. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

const cpuMicros = (): number => {
  const { system, user } = process.cpuUsage()
  return system + user
}

// What the collections here have taken, which is no part of the work.
let collecting = 0

/** Returns the bytes of heap in use. */
export const heap = (): number => {
  const before = cpuMicros()
  collect()
  collect()
  collecting += cpuMicros() - before
  return process.memoryUsage().heapUsed
}

/** Returns the CPU time so far, and the bytes of the heap and of the process. */
export const usage = () => {
  const used = heap()
  return { cpuMicros: cpuMicros() - collecting, heap: used, resident: process.memoryUsage().rss }
}
