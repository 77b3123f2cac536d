/**
 * Runs the desktop application: it starts its backend, opens a window on it, and prints what happens. State is kept
 * under `./desktop-state`.
 */
import { NodeCrypto, NodeRuntime, NodeServices } from "@effect/platform-node"
import { Config, Console, Effect, FileSystem, Path, Stream, SubscriptionRef } from "effect"
import * as Chromium from "./Chromium.ts"
import * as Supervisor from "./Supervisor.ts"
import * as Window from "./Window.ts"

const tell = (state: Supervisor.State) => {
  switch (state._tag) {
    case "Starting":
      return Console.log("The backend starts")
    case "Ready":
      return Console.log(`The backend is ready at ${state.backend.url}, as process ${state.backend.pid}`)
    case "Down":
      return Console.log(`The backend is down: ${state.reason}. It is started again in ${state.retryInMillis} ms`)
  }
}

// #region main
const main = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const stateDirectory = yield* Config.String("DESKTOP_STATE").pipe(Config.withDefault("./desktop-state"))
  const browserDirectory = yield* fs.makeTempDirectoryScoped({ prefix: "desktop-browser-" })
  const window = yield* Window.open(yield* Chromium.launch(yield* Chromium.unpack(browserDirectory)))

  const program = yield* path.fromFileUrl(new URL("./backendMain.ts", import.meta.url))
  const state = yield* Supervisor.supervise({
    command: [process.execPath, ...process.execArgv, program],
    stateDirectory
  })
  yield* Effect.forkScoped(Window.follow(window, state))
  yield* Effect.forkScoped(Stream.runForEach(SubscriptionRef.changes(state), tell))
  yield* Effect.promise(() =>
    window.page.waitForFunction(() => document.body.dataset.connections !== undefined, undefined, { timeout: 0 })
  )
  yield* Console.log(`The window shows: ${yield* Effect.promise(() => window.page.innerText("#status"))}`)
  return yield* Effect.never
})
// #endregion main

main.pipe(Effect.scoped, Effect.provide([NodeServices.layer, NodeCrypto.layer]), NodeRuntime.runMain)
