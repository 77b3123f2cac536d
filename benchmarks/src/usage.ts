/** What a process uses, after a collection. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

/** Returns the bytes of heap in use. */
export const heap = (): number => {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

/** Returns the CPU time so far, and the bytes of the heap and of the process. */
export const usage = () => {
  const { system, user } = process.cpuUsage()
  return { cpuMicros: system + user, heap: heap(), resident: process.memoryUsage().rss }
}
