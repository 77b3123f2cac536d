/** Programs as separate processes, and the tools of their tests: a place for files, and waiting. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"

/** How long a test may take on a slow machine that others use too. */
export const timeout = 300_000

/** Repeats a look-up until it has the answer that a test waits for. The test's own timeout ends a wait for nothing. */
export const eventually = <A, E, R>(look: Effect.Effect<A, E, R>, wanted: (answer: A) => boolean) =>
  Effect.repeat(look, { until: wanted, schedule: Schedule.spaced("50 millis") })

/** A directory that goes away with the scope. */
export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-"))),
  (directory) => Effect.sync(() => NFS.rmSync(directory, { recursive: true, force: true }))
)

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Running {
  readonly pid: number
  readonly stdout: () => string
  readonly stderr: () => string
  /** Waits until standard output holds a text, or the process has ended. */
  readonly printed: (pattern: RegExp) => Effect.Effect<string, Error>
  readonly exit: Effect.Effect<Exit>
  readonly stop: (signal: NodeJS.Signals) => Effect.Effect<Exit>
}

// A worker that is ended before its scopes close leaves no process behind either.
const children = new Set<() => void>()
process.on("exit", () => {
  for (const kill of children) kill()
})

const root = NPath.join(import.meta.dirname, "..")

/** Returns what runs a program: the bundle of this test run if it has one, or else the source. */
export const argumentsOf = (script: string): ReadonlyArray<string> => {
  const bundles = process.env["TEST_PROGRAMS"]
  const bundle = bundles && NPath.join(bundles, NPath.relative(root, script).replace(/\.ts$/, ".js"))
  return bundle && NFS.existsSync(bundle) ? [bundle] : ["--conditions=sallyport-source", script]
}

/** Runs a program, by another command if one is given, and kills it when the scope closes. */
export const program = (
  script: string,
  args: ReadonlyArray<string>,
  env?: Record<string, string>,
  through: ReadonlyArray<string> = []
): Effect.Effect<Running, never, Scope.Scope> => {
  const [command = process.execPath, ...rest] = [...through, process.execPath, ...argumentsOf(script), ...args]
  return started(command, rest, env)
}

/** Runs a command, and kills it when the scope closes. */
export const started = (
  command: string,
  args: ReadonlyArray<string>,
  env?: Record<string, string>
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(command, args, {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...env }
      })
      const kill = () => {
        child.kill("SIGKILL")
      }
      children.add(kill)
      let stdout = ""
      let stderr = ""
      const changed = new Set<() => void>()
      const notify = () => {
        for (const look of changed) look()
      }
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        stdout += chunk
        notify()
      })
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => stderr += chunk)
      let exited: Exit | undefined
      // `close` comes when both outputs have been read to their ends.
      const closed = once(child, "close").then(([code, signal]): Exit => {
        children.delete(kill)
        exited = { code, signal }
        notify()
        return exited
      })
      const exit = Effect.promise(() => closed)
      const running: Running = {
        pid: child.pid ?? 0,
        stdout: () => stdout,
        stderr: () => stderr,
        printed: (pattern) =>
          Effect.callback<string, Error>((resume) => {
            const look = () => {
              const found = pattern.exec(stdout)?.[0]
              if (found !== undefined) resume(Effect.succeed(found))
              else if (exited !== undefined) {
                resume(Effect.fail(new Error(`exited with ${exited.code ?? exited.signal}: ${stderr}`)))
              }
            }
            changed.add(look)
            look()
            return Effect.sync(() => changed.delete(look))
          }),
        exit,
        stop: (signal) =>
          Effect.suspend(() => {
            child.kill(signal)
            return exit
          })
      }
      return running
    }),
    (running) => running.stop("SIGKILL")
  )
