/**
 * Provides a browser for the tests of a file, and the processes of this machine as every user sees them.
 */
import { NodeCrypto, NodeServices } from "@effect/platform-node"
import { Context, Effect, FileSystem, Layer, Schedule } from "effect"
import * as NFS from "node:fs"
import type * as Playwright from "playwright-core"
import * as Chromium from "../src/Chromium.ts"

/** How long a test may take on a slow machine that others use too. */
export const timeout = 150_000

export class Browser extends Context.Service<Browser, Playwright.Browser>()("desktop-backend/test/Browser") {}

/** Provides what the application's own code needs. */
export const layerProcesses = Layer.merge(NodeServices.layer, NodeCrypto.layer)

/** Provides one browser, and what the application's own code needs. */
export const layer = Layer.effect(
  Browser,
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const directory = yield* fs.makeTempDirectoryScoped({ prefix: "desktop-backend-browser-" })
    return yield* Chromium.launch(yield* Chromium.unpack(directory))
  })
).pipe(Layer.provideMerge(layerProcesses))

/** A state directory that does not exist yet, in a directory that goes away with the scope. */
export const freshState = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  return `${yield* fs.makeTempDirectoryScoped({ prefix: "desktop-backend-" })}/state`
})

const readable = (file: string): string => {
  try {
    return NFS.readFileSync(file, "latin1")
  } catch {
    // It has ended meanwhile, or belongs to another user.
    return ""
  }
}

const pids = () => NFS.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)

/** Returns the arguments and the environment of a process, as other processes of this user can read them. */
export const visible = (pid: number): string => readable(`/proc/${pid}/cmdline`) + readable(`/proc/${pid}/environ`)

/** Returns the same of every process. */
export const visibleOfAll = (): string => pids().map(visible).join("\n")

/** Returns the state and the parent of a process; `Z` is one that has ended and was not waited for. */
const stat = (pid: number) => {
  const [, state, parent] = /^.*\) (\w) (\d+) /s.exec(readable(`/proc/${pid}/stat`)) ?? []
  return { state, parent: Number(parent) }
}

export const isRunning = (pid: number): boolean => {
  const { state } = stat(pid)
  return state !== undefined && state !== "Z"
}

/** Returns the processes that a process has started, and those that these have started. */
export const descendants = (pid: number): ReadonlyArray<number> => {
  const parents = pids().map((pid) => [pid, stat(pid).parent] as const)
  const below = (pid: number): ReadonlyArray<number> =>
    parents.flatMap(([child, parent]) => parent === pid ? [child, ...below(child)] : [])
  return below(pid)
}

/** Returns the running processes that were started with a text in their arguments or environment. */
const startedWith = (text: string) =>
  pids().filter((pid) => pid !== process.pid && visible(pid).includes(text) && isRunning(pid))

/** Waits until none of them runs, by polling: they are no children of this process. */
export const allGone = (text: string) =>
  Effect.repeat(Effect.sync(() => startedWith(text)), {
    until: (running) => running.length === 0,
    schedule: Schedule.spaced("50 millis")
  })
