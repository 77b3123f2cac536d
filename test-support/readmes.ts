/**
 * The programs that READMEs show, and what it takes to run them as they are printed there.
 *
 * Each has a directory of its own, in which the packages are installed. Two things differ from what is printed: a server
 * listens on a port that the system chooses, and files are below that directory.
 */
import { NodeServices } from "@effect/platform-node"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Fiber, type PlatformError, Schedule, type Scope, Stream } from "effect"
import { ChildProcess, type ChildProcessSpawner } from "effect/process"
import { randomUUID } from "node:crypto"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { codeBlocks } from "../examples/existing-server/test/documentation.ts"
import { timeout } from "./programs.ts"

/** The directory of the repository. */
export const root = NPath.join(import.meta.dirname, "..")

export interface Program {
  /** The command that runs it, or that it is. */
  readonly command: string
  /** The file of a program in TypeScript. */
  readonly file: string
  /** The lines that it must print: those in its comments after `// =>`. None if it says nothing. */
  readonly prints: ReadonlyArray<string>
  readonly directory: string
  /** Writes its files, if they are not there. */
  readonly place: () => void
}

const programOf = (readme: string, directory: string, language: string, printed: string): Program => {
  const file = NPath.join(directory, "program.ts")
  const code = printed
    .replaceAll(/\bport: \d+/g, "port: 0")
    .replaceAll(/\bfilename: "/g, `filename: "${directory}/`)
  const place = () => {
    if (NFS.existsSync(file)) return
    NFS.mkdirSync(directory, { recursive: true, mode: 0o700 })
    NFS.writeFileSync(NPath.join(directory, "package.json"), JSON.stringify({ type: "module" }))
    NFS.symlinkSync(NPath.join(root, "node_modules"), NPath.join(directory, "node_modules"))
    NFS.symlinkSync(NPath.join(root, NPath.dirname(readme), "src"), NPath.join(directory, "src"))
    NFS.writeFileSync(file, code)
  }
  beforeAll(place)
  return {
    command: language === "ts"
      ? `exec "${process.execPath}" --conditions=sallyport-source program.ts`
      : `cd "${root}" && ${code.replace(/^npm ci && /, "").trim()}`,
    file,
    prints: Array.from(code.matchAll(/^ *\/\/ => (.*)$/gm), ([, line = ""]) => line),
    directory,
    place
  }
}

/**
 * Returns the programs of a README: the first command that starts something of this workspace, and all in TypeScript. They
 * are gone after the tests that surround the call.
 */
export const programsOf = (readme: string): ReadonlyArray<Program> => {
  const directory = NPath.join(OS.tmpdir(), `sallyport-readme-${randomUUID()}`)
  afterAll(() => NFS.rmSync(directory, { recursive: true, force: true }))
  const blocks = codeBlocks(NFS.readFileSync(NPath.join(root, readme), "utf8"))
  const command = blocks.find(({ code, language }) =>
    language === "sh" && /^(?:npm ci && )?npm (?:start|run)\b/.test(code)
  )
  return blocks
    .filter((block) => block === command || block.language === "ts")
    .map(({ code, language }, index) => programOf(readme, NPath.join(directory, String(index)), language, code))
}

export interface Running {
  /** Waits until standard output holds what is looked for. Fails when the program has ended without it. */
  readonly printed: (pattern: RegExp) => Effect.Effect<string, Error>
  /** Waits until the program has ended by itself. */
  readonly ended: Effect.Effect<{ readonly code: number; readonly stdout: string; readonly stderr: string }, Error>
  /** Ends the program as a terminal or a supervisor does, and waits until it is gone. */
  readonly stop: Effect.Effect<void, PlatformError.PlatformError>
}

export interface RunOptions {
  /** Returns the command in place of the program's own. */
  readonly command?: ((program: Program) => string) | undefined
  readonly env?: Record<string, string> | undefined
  /** What can be read from the file descriptor 3. */
  readonly input?: string | undefined
}

/** Runs a program as a process, which is gone with the scope and with all that it has started. */
export const start = Effect.fnUntraced(function*(
  program: Program,
  { command = () => program.command, env, input }: RunOptions = {}
): Effect.fn.Return<
  Running,
  PlatformError.PlatformError,
  ChildProcessSpawner.ChildProcessSpawner | Scope.Scope
> {
  const state = NPath.join(program.directory, "state")
  const running = yield* ChildProcess.make("bash", ["-c", command(program)], {
    cwd: program.directory,
    env: { HOME: program.directory, PORT: "0", AGENT_STATE: state, DESKTOP_STATE: state, NOTES_STATE: state, ...env },
    extendEnv: true,
    stdin: "ignore",
    forceKillAfter: "30 seconds",
    ...(input === undefined
      ? {}
      : { additionalFds: { fd3: { type: "input", stream: Stream.encodeText(Stream.make(input)) } } })
  })
  let stdout = ""
  let stderr = ""
  const reading = yield* Effect.forkScoped(Effect.all([
    running.stdout.pipe(Stream.decodeText, Stream.runForEach((text) => Effect.sync(() => stdout += text))),
    running.stderr.pipe(Stream.decodeText, Stream.runForEach((text) => Effect.sync(() => stderr += text)))
  ], { concurrency: "unbounded" }))
  const ended = Effect.andThen(
    Fiber.join(reading),
    Effect.map(running.exitCode, (code) => ({ code, stdout, stderr }))
  )
  return {
    printed: (pattern) =>
      Effect.suspend(() => {
        const found = pattern.exec(stdout)?.[0]
        if (found !== undefined) return Effect.succeed(found)
        return reading.pollUnsafe() === undefined
          ? Effect.succeed(undefined)
          : Effect.fail(new Error(`ended without ${pattern}: ${stdout}${stderr}`))
      }).pipe(
        Effect.repeat({ until: (found) => found !== undefined, schedule: Schedule.spaced("50 millis") }),
        Effect.map((found) => found ?? "")
      ),
    ended,
    stop: Effect.asVoid(Effect.andThen(running.kill(), Effect.ignore(ended)))
  }
})

/** What a test does with a program. */
export type Driver = (
  program: Program
) => Effect.Effect<void, unknown, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope>

/** Loads a program that exports what a host uses, taken to have the form that the test expects. */
export const load = <A>(program: Program): Effect.Effect<A> => Effect.promise((): Promise<A> => import(program.file))

/** Runs a program that ends by itself, and looks at what it prints. */
export const ends = (options?: RunOptions): Driver =>
  Effect.fnUntraced(function*(program) {
    const { code, stderr, stdout } = yield* Effect.flatMap(start(program, options), ({ ended }) => ended)
    assert.strictEqual(code, 0, stdout + stderr)
    if (program.prints.length > 0) assert.deepStrictEqual(stdout.trimEnd().split("\n"), program.prints)
  })

/** The address that a server prints. */
export const address = /http:\/\/127\.0\.0\.1:\d+/

/** Runs a server until it has said where it is and has answered, and stops it. */
export const serves = (path: string, status: number, options?: RunOptions): Driver =>
  Effect.fnUntraced(function*(program) {
    const server = yield* start(program, options)
    const url = yield* server.printed(address)
    const response = yield* Effect.promise(() => fetch(url + path, { headers: { connection: "close" } }))
    assert.strictEqual(response.status, status, yield* Effect.promise(() => response.text()))
    yield* server.stop
  })

/** Declares the tests of a README: one for each of its programs, in their order. */
export const suite = (readme: string, ...drivers: ReadonlyArray<Driver>) =>
  describe(`programs of ${readme}`, () => {
    const programs = programsOf(readme)
    it("C-82: has a program, and a test knows how to run each", () => {
      assert.isNotEmpty(programs)
      assert.strictEqual(programs.length, drivers.length)
    })
    for (const [index, program] of programs.entries()) {
      it.live(
        `C-82: program ${index + 1} runs as printed`,
        () => (drivers[index] ?? ends())(program).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
        timeout
      )
    }
  })
