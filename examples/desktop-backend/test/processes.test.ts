/**
 * Starts the whole application as a separate process, and ends it in every way that a process can end.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"
import * as Support from "./support.ts"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

/** Starts the application, in a directory that goes away with the scope, and waits for a line that it prints. */
const start = Effect.fnUntraced(function*(line: RegExp) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "desktop-backend-" })
  const application = yield* ChildProcess.make(process.execPath, ["--conditions=sallyport-source", main], {
    env: { DESKTOP_STATE: `${directory}/state`, TMPDIR: directory },
    extendEnv: true,
    stderr: "inherit",
    forceKillAfter: "10 seconds"
  })
  const printed = yield* application.stdout.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((text) => line.test(text)),
    Stream.runHead,
    Effect.flatMap(Effect.fromOption)
  )
  return { application, directory, printed }
})

layer(NodeServices.layer, { excludeTestServices: true })("the processes of a desktop application", (it) => {
  it.effect("none is left when the application is killed with kill -9", () =>
    Effect.gen(function*() {
      const { application, directory, printed } = yield* start(/^The window shows/)
      assert.strictEqual(printed, "The window shows: Signed in as owner")
      const started = Support.descendants(application.pid)
      // The backend, and several of the browser.
      assert.isAbove(started.length, 2)
      assert.lengthOf(started.filter((pid) => Support.visible(pid).includes("backendMain.ts")), 1)
      process.kill(application.pid, "SIGKILL")
      yield* Support.allGone(directory)
    }).pipe(Effect.scoped), Support.timeout)

  it.effect("none is left when it is killed in the middle of a start", () =>
    Effect.gen(function*() {
      const { application, directory } = yield* start(/^The backend starts/)
      process.kill(application.pid, "SIGKILL")
      yield* Support.allGone(directory)
    }).pipe(Effect.scoped), Support.timeout)

  it.effect("none is left when it is told to stop, and neither is the unpacked browser", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { application, directory } = yield* start(/^The window shows/)
      const started = Support.descendants(application.pid)
      const browser = started.map(Support.visible).join("\n").match(/[^\0\n]*\/desktop-browser-[^/\0]*/)?.[0] ?? ""
      assert.isTrue(yield* fs.exists(browser))
      process.kill(application.pid, "SIGTERM")
      yield* application.exitCode
      yield* Support.allGone(directory)
      assert.isFalse(yield* fs.exists(browser))
    }).pipe(Effect.scoped), Support.timeout)
})
