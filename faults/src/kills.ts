/**
 * Kills the node that executes a run at each point of the run, beside another node, and judges what the log and the readers
 * at both nodes say.
 */
import { NodeCrypto } from "@effect/platform-node"
import type { RunEvent } from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { argumentsOf } from "../../test-support/programs.ts"
import { clientOf, type SharedDatabase } from "../../test-support/sharedDatabase.ts"
import type { Command, Kind, Said, Setting } from "./killsNode.ts"

/** Says what came of a series of kills. */
export interface Outcome {
  readonly kind: Kind
  readonly store: string
  readonly kills: number
  readonly runs: number
  readonly violations: ReadonlyArray<string>
  readonly seconds: number
}

const program = join(import.meta.dirname, "killsNode.ts")
const steps = ["first", "second", "third"]
const parts = [1, 2, 3]
const nodes = [0, 1]

/** Judges the log of a run that has ended; an empty list is none broken. */
export const judge = (kind: Kind, events: ReadonlyArray<Pick<RunEvent, "kind" | "data">>): ReadonlyArray<string> => {
  const violations: Array<string> = []
  const data = events.map(({ data }) => JSON.stringify(data))
  const expect = (name: string, actual: unknown, wanted: unknown) => {
    if (JSON.stringify(actual) !== JSON.stringify(wanted)) violations.push(`${name}: ${JSON.stringify(actual)}`)
  }
  const written = [
    ...steps.flatMap((step) => parts.map((part) => JSON.stringify({ step, part }))),
    JSON.stringify({ question: { name: "go on?", ask: { sum: 9 } } })
  ]
  expect("each step once, in order", data.slice(0, written.length), written)
  expect("one answer", events.filter(({ data }) => Object(data).answer !== undefined).length, 1)
  const answer = Object(events[written.length]?.data).answer?.value
  const model = events.slice(written.length + 1, -1).map(({ data }) => Object(data))
  if (kind === "resumable") expect("nothing after the answer", model, [])
  else {
    // A reader drops what came before the last marker.
    const last = model.slice(model.findLastIndex(({ restarted }) => restarted === "model") + 1)
    expect("one execution's output after the last marker", last.map(({ part }) => part), parts)
    expect("of one process", new Set(last.map(({ model }) => model)).size, 1)
  }
  expect("one end", events.filter(({ kind }) => kind === "end").length, 1)
  expect("the result", events.at(-1)?.data, { status: "succeeded", result: { sum: 9, answer } })
  return violations
}

/** Keeps runs going on two nodes until `count` kills, and judges every run. */
export const run = async (options: {
  readonly kind: Kind
  readonly store: string
  readonly database: SharedDatabase
  readonly count: number
  /** When to stop killing, if that comes first. */
  readonly maxMillis?: number
  readonly onProgress?: (line: string) => void
}): Promise<Outcome> => {
  const { count, database, kind } = options
  const startedAt = performance.now()
  const marks = mkdtempSync(join(tmpdir(), "sallyport-kills-"))
  const violations: Array<string> = []
  let kills = 0
  const isEnough = () => kills >= count || performance.now() - startedAt > (options.maxMillis ?? Infinity)
  let closing = false
  // Below the ephemeral ports, and another one for each process.
  let port = 15_000 + Math.floor(Math.random() * 10_000)

  const runtime = ManagedRuntime.make(
    RunEventLog.layerWith({ pollInterval: "500 millis", heartbeatInterval: "500 millis", lease: "2 seconds" }).pipe(
      Layer.provide(SqlRunEventRepository.layer),
      Layer.provide([clientOf(database), NodeCrypto.layer])
    )
  )
  await runtime.runPromise(RunEventLog.RunEventLog)

  /** What a node's readers have seen of a run: the last number, and whether its end. */
  interface Seen {
    last: number
    ends: number
    closed: boolean
  }
  const runIds = new Map<string, string>()
  const seen = nodes.map(() => new Map<string, Seen>())
  const waiting = new Set<string>()
  const looks = new Set<() => void>()
  const children = nodes.map((): ReturnType<typeof spawn> | undefined => undefined)
  const isReady = nodes.map(() => false)

  const tell = (node: number, command: Command) => {
    if (isReady[node] === true) children[node]?.stdin?.write(`${JSON.stringify(command)}\n`)
  }
  const startOn = (key: string) => {
    const node = nodes.find((node) => isReady[node] === true)
    if (node !== undefined) tell(node, { start: key })
  }
  const followOn = (node: number, runId: string) => {
    const has = seen[node]?.get(runId)
    if (has?.closed !== true) tell(node, { follow: runId, after: has?.last ?? 0 })
  }
  const hear = (node: number, said: Said) => {
    if ("ready" in said) {
      isReady[node] = true
      for (const runId of runIds.values()) followOn(node, runId)
      for (const key of waiting) startOn(key)
    } else if ("started" in said) {
      const known = runIds.get(said.started)
      if (known !== undefined && known !== said.runId) violations.push(`two runs of ${said.started}`)
      runIds.set(said.started, said.runId)
      waiting.delete(said.started)
      if (known === undefined) { for (const node of nodes) followOn(node, said.runId) }
    } else if ("event" in said) {
      const reader = seen[node]
      const before = reader?.get(said.event) ?? { last: 0, ends: 0, closed: false }
      if (said.seq !== before.last + 1) {
        violations.push(`${said.event} at node ${node}: ${said.seq} after ${before.last}`)
      }
      if (before.ends > 0) violations.push(`${said.event} at node ${node}: something after the end`)
      reader?.set(said.event, { last: said.seq, ends: before.ends + (said.kind === "end" ? 1 : 0), closed: false })
    } else if ("closed" in said) {
      const reader = seen[node]?.get(said.closed)
      if (reader === undefined || reader.ends !== 1) {
        violations.push(`${said.closed} at node ${node}: closed without an end`)
      } else reader.closed = true
    } else if ("refused" in said) {
      options.onProgress?.(`node ${node} refused ${JSON.stringify(said.refused)}: ${said.why}`)
      // As a client does, which comes again when its store was out of reach. What a node was told goes with the node.
      const { refused } = said
      const asked = children[node]
      setTimeout(() => {
        if (closing || children[node] !== asked) return
        if ("follow" in refused) followOn(node, refused.follow)
        else if (waiting.has(refused.start)) startOn(refused.start)
      }, 500)
    } else if ("killing" in said) {
      kills++
      if (isEnough()) writeFileSync(join(marks, "enough"), "")
      options.onProgress?.(`${kills} ${said.killing}`)
    }
    for (const look of looks) look()
  }
  const spawnNode = (node: number) => {
    const setting: Setting = { database, kind, marks, port: ++port }
    const child = spawn(process.execPath, [...argumentsOf(program), JSON.stringify(setting)], {
      stdio: ["pipe", "pipe", process.env["KILLS_STDERR"] === undefined ? "ignore" : "inherit"]
    })
    children[node] = child
    isReady[node] = false
    child.stdin.on("error", () => {})
    createInterface(child.stdout).on("line", (line) => {
      // The log of Effect goes the same way.
      if (line.startsWith("{")) hear(node, JSON.parse(line))
      else if (process.env["KILLS_STDERR"] !== undefined) console.error(node, line)
    })
    child.on("close", (code) => {
      isReady[node] = false
      if (closing) return
      if (code !== null) options.onProgress?.(`node ${node} ended with ${code}`)
      spawnNode(node)
    })
  }
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!condition()) return
        looks.delete(look)
        resolve()
      }
      looks.add(look)
      look()
    })

  /** Answers a run's question when it is asked, twice, and returns the log once it has ended. */
  const attend = (runId: string) =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const events = yield* log.events({ runId })
      const all = yield* Stream.runCollect(Stream.tap(events, ({ data }) => {
        if (Object(data).question === undefined) return Effect.void
        return Effect.flatMap(
          Effect.all(
            Array.from({ length: 20 }, (_, value) => Effect.option(log.answer({ runId, name: "go on?", value }))),
            { concurrency: "unbounded" }
          ),
          (answers) =>
            Effect.sync(() => {
              const accepted = answers.filter(({ _tag }) => _tag === "Some").length
              if (accepted !== 1) violations.push(`${runId}: ${accepted} of ${answers.length} answers were accepted`)
            })
        )
      }))
      for (const violation of judge(kind, all)) violations.push(`${runId}: ${violation}`)
    })

  let next = 0
  const line = async () => {
    while (!isEnough()) {
      const key = `run-${next++}`
      waiting.add(key)
      startOn(key)
      await until(() => runIds.has(key))
      const runId = runIds.get(key) ?? ""
      await runtime.runPromise(attend(runId))
      await until(() => nodes.every((node) => seen[node]?.get(runId)?.closed === true))
    }
  }
  try {
    for (const node of nodes) spawnNode(node)
    await Promise.all([line(), line(), line()])
  } finally {
    closing = true
    for (const child of children) child?.kill("SIGKILL")
    await runtime.dispose()
    rmSync(marks, { recursive: true, force: true })
  }
  return {
    kind,
    store: options.store,
    kills,
    runs: runIds.size,
    violations,
    seconds: Math.round((performance.now() - startedAt) / 1_000)
  }
}

/** Writes outcomes as a table. */
export const table = (outcomes: ReadonlyArray<Outcome>): string =>
  [
    "| program | store | kills | runs | violations | seconds |",
    "| --- | --- | --- | --- | --- | --- |",
    ...outcomes.map(({ kills, kind, runs, seconds, store, violations }) =>
      `| ${kind} | ${store} | ${kills} | ${runs} | ${violations.length} | ${seconds} |`
    ),
    ...outcomes.flatMap(({ violations }) => violations)
  ].join("\n")
