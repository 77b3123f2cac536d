/**
 * Runs the reference backend as a process that can be killed, stopped and started again at the same address.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { argumentsOf } from "../../test-support/programs.ts"
import type { Observation } from "./history.ts"
import type { Command, Sample } from "./preload.ts"

const backendProgram = fileURLToPath(new URL("../../packages/cli/src/bin.ts", import.meta.url))
const streamProgram = fileURLToPath(new URL("./streamServer.ts", import.meta.url))
const preload = new URL("./preload.ts", import.meta.url).href

/** How long a start may take until the node answers, on a machine that others use too. */
export const readyMillis = 60_000
/** How long an orderly end may take. */
export const endMillis = 20_000

const children = new Set<ChildProcess>()
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL")
})

/** Says where a backend keeps its state; or the file of a server of streams, which needs none on PostgreSQL. */
export type State = { readonly stateDirectory: string } | { readonly streams: string }

/** Starts a server as a process with the preload, and keeps what it prints. */
export const spawnServer = (state: State, env: Record<string, string>, port = "0") => {
  const command = "streams" in state
    ? [...argumentsOf(streamProgram), port, state.streams]
    : [...argumentsOf(backendProgram), "serve", "--port", port, "--state-dir", state.stateDirectory, "--json"]
  const child = spawn(process.execPath, [
    "--expose-gc",
    `--import=${preload}`,
    ...command
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

/** Waits until the line that announces a server is complete, or the process has ended; one that hangs is killed. */
export const announced = async (backend: ReturnType<typeof spawnServer>) => {
  const until = performance.now() + 3 * readyMillis
  while (!backend.printed.stdout.includes("\n")) {
    if (performance.now() > until) backend.child.kill("SIGKILL")
    if (hasExited(backend.child)) return undefined
    await sleep(20)
  }
  const announcement: { readonly url: string; readonly code: string } = JSON.parse(backend.printed.stdout)
  return announcement
}

/** Waits. */
export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Is one node: of the backend, or a server of streams. */
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
  readonly state: State
  readonly env: Record<string, string>
  readonly observe: (observation: Observation) => void
}): Node => {
  const { env, index, observe, state } = options
  let backend: ReturnType<typeof spawnServer> | undefined
  let announcement: { readonly url: string; readonly code: string } | undefined
  let expected: "SIGKILL" | "SIGTERM" | "none" = "none"
  const frozen: Array<{ readonly from: number; to: number }> = []

  const start = async (after: string, attempts = 3): Promise<void> => {
    const startedAt = performance.now()
    expected = "none"
    const port = announcement === undefined ? "0" : new URL(announcement.url).port
    const current = backend = spawnServer(state, env, port)
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
