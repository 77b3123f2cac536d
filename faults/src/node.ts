/**
 * Runs the reference backend as a process that can be killed, stopped and started again at the same address.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import type { Observation } from "./history.ts"
import type { Command, Sample } from "./preload.ts"

const bin = fileURLToPath(new URL("../../packages/cli/src/bin.ts", import.meta.url))
const preload = new URL("./preload.ts", import.meta.url).href

/** How long a start may take until the node answers, on a machine that others use too. */
export const readyMillis = 60_000
/** How long an orderly end may take. */
export const endMillis = 20_000

const children = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL")
})

/** Starts the command as a process with the preload, and keeps what it prints. */
export const spawnBackend = (args: ReadonlyArray<string>, env: Record<string, string>) => {
  const child = spawn(process.execPath, [
    "--expose-gc",
    "--conditions=sallyport-source",
    `--import=${preload}`,
    bin,
    ...args
  ], { stdio: ["ignore", "pipe", "pipe", "ipc"], env: { ...process.env, ...env } })
  children.add(child)
  const printed = { stdout: "", stderr: "" }
  child.stdout?.setEncoding("utf8").on("data", (text: string) => printed.stdout += text)
  child.stderr?.setEncoding("utf8").on(
    "data",
    (text: string) => printed.stderr = (printed.stderr + text).slice(-20_000)
  )
  child.on("error", () => {})
  const ended = once(child, "exit").then(([code]) => {
    children.delete(child)
    return typeof code === "number" ? code : null
  })
  return { child, printed, ended }
}

const hasExited = ({ exitCode, signalCode }: ChildProcess) => exitCode !== null || signalCode !== null

/** Waits until the line that announces a server is complete, or the process has ended. */
export const announced = async (backend: ReturnType<typeof spawnBackend>) => {
  while (!backend.printed.stdout.includes("\n")) {
    if (hasExited(backend.child)) return undefined
    await sleep(20)
  }
  const announcement: { readonly url: string; readonly code: string } = JSON.parse(backend.printed.stdout)
  return announcement
}

/** Waits. */
export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Is one node of the backend. */
export interface Node {
  readonly index: number
  readonly url: () => string
  /** Returns the code that its newest start has printed. */
  readonly code: () => string
  readonly pid: () => number | undefined
  readonly start: (after: string) => Promise<void>
  readonly kill: () => Promise<void>
  readonly terminate: () => Promise<void>
  /** Stops the process for some time, as a machine does that sleeps. */
  readonly freeze: (millis: number) => Promise<void>
  readonly shiftClock: (millis: number) => void
  readonly sample: () => Promise<Sample | undefined>
  /** Returns for how long it was frozen in an interval. */
  readonly frozenMillis: (from: number, to: number) => number
}

/** Makes a node, which is not started yet. */
export const make = (options: {
  readonly index: number
  readonly stateDirectory: string
  readonly env: Record<string, string>
  readonly observe: (observation: Observation) => void
}): Node => {
  const { env, index, observe, stateDirectory } = options
  let backend: ReturnType<typeof spawnBackend> | undefined
  let announcement: { readonly url: string; readonly code: string } | undefined
  let expected: "SIGKILL" | "SIGTERM" | "none" = "none"
  const frozen: Array<{ readonly from: number; to: number }> = []

  const start = async (after: string, attempts = 3): Promise<void> => {
    const startedAt = performance.now()
    expected = "none"
    const port = announcement === undefined ? "0" : new URL(announcement.url).port
    const current = backend = spawnBackend(["serve", "--port", port, "--state-dir", stateDirectory, "--json"], env)
    current.child.once("exit", (code) => {
      if (expected !== "none") return
      observe({ _tag: "Ended", node: index, by: "none", code, millis: 0, stderr: current.printed.stderr })
    })
    const line = await announced(current)
    if (line === undefined) {
      if (attempts > 1) return start(after, attempts - 1)
      throw new Error(`The node did not start after ${after}: ${current.printed.stderr}`)
    }
    announcement = line
    observe({ _tag: "Ready", node: index, after, millis: performance.now() - startedAt })
  }

  const end = async (by: "SIGKILL" | "SIGTERM") => {
    if (backend === undefined || hasExited(backend.child)) return
    const { child, ended, printed } = backend
    const sentAt = performance.now()
    expected = by
    child.kill(by)
    const late = setTimeout(() => child.kill("SIGKILL"), 2 * endMillis)
    const code = await ended
    clearTimeout(late)
    observe({ _tag: "Ended", node: index, by, code, millis: performance.now() - sentAt, stderr: printed.stderr })
  }

  const send = (command: Command) => {
    if (backend?.child.connected === true) backend.child.send(command, () => {})
  }

  return {
    index,
    url: () => announcement?.url ?? "",
    code: () => announcement?.code ?? "",
    pid: () => backend?.child.pid,
    start,
    kill: () => end("SIGKILL"),
    terminate: () => end("SIGTERM"),
    freeze: async (millis) => {
      const interval = { from: performance.now(), to: Infinity }
      frozen.push(interval)
      backend?.child.kill("SIGSTOP")
      await sleep(millis)
      backend?.child.kill("SIGCONT")
      interval.to = performance.now()
    },
    shiftClock: (shiftMillis) => send({ shiftMillis }),
    sample: async () => {
      const child = backend?.child
      if (child === undefined || !child.connected) return undefined
      const answer = new Promise<Sample>((resolve) => child.once("message", (sample: Sample) => resolve(sample)))
      send({ sample: true })
      return Promise.race([answer, sleep(10_000).then(() => undefined)])
    },
    frozenMillis: (from, to) =>
      frozen.reduce((sum, interval) => sum + Math.max(0, Math.min(to, interval.to) - Math.max(from, interval.from)), 0)
  }
}
