/**
 * What Electron does is told here by an object with its names: its program can't be installed everywhere. The README says how
 * to run the application in it.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Option, Redacted, Scope, Stream } from "effect"
import { EventEmitter } from "node:events"
import * as ElectronDesktop from "../src/ElectronDesktop.ts"

const address = Redacted.make("http://127.0.0.1:1/pair#token=secret")

/** Makes what is used of Electron. `done` lists what it was told to do, `emit` is what the person or the system does. */
const electron = (options: { readonly isFirst?: boolean; readonly refusal?: Error } = {}) => {
  const done: Array<string> = []
  const app = new EventEmitter()
  const powerMonitor = new EventEmitter()
  const windows = new Set<BrowserWindow>()
  class BrowserWindow {
    static getAllWindows = () => [...windows]
    readonly webContents = {
      setWindowOpenHandler: (handler: () => { readonly action: "deny" }) => done.push(`windows: ${handler().action}`)
    }
    constructor({ webPreferences }: { readonly webPreferences: { readonly partition: string } }) {
      windows.add(this)
      done.push(`window of ${webPreferences.partition}`)
    }
    async loadURL(url: string) {
      done.push(url)
      if (options.refusal) throw options.refusal
    }
    isDestroyed() {
      return !windows.has(this)
    }
    destroy() {
      windows.delete(this)
      done.push("destroy")
    }
  }
  const module: ElectronDesktop.Electron = {
    app: {
      getPath: (name) => `/${name}`,
      whenReady: async () => {
        done.push("ready")
      },
      requestSingleInstanceLock: () => options.isFirst ?? true,
      releaseSingleInstanceLock: () => done.push("release"),
      on: (event: string, listener: (event: { preventDefault(): void }) => void) => app.on(event, listener)
    },
    powerMonitor: { on: (event, listener) => powerMonitor.on(event, listener) },
    BrowserWindow
  }
  const quit = () => {
    let isPrevented = false
    app.emit("before-quit", { preventDefault: () => isPrevented = true })
    return isPrevented
  }
  return { module, done, app, powerMonitor, quit }
}

const ready = (module: ElectronDesktop.Electron) =>
  Effect.flatMap(ElectronDesktop.make(module).ready, Effect.fromOption)

it.effect("in Electron a window has a profile in memory, and closes before the application is no longer the one instance", () =>
  Effect.gen(function*() {
    const { app, done, module, quit } = electron()
    const scope = yield* Scope.make()
    const { openWindow, ...desktop } = yield* Scope.provide(ready(module), scope)
    yield* Scope.provide(openWindow(address), scope)
    app.emit("second-instance")
    // The window is there.
    app.emit("activate")
    assert.lengthOf(yield* Stream.runCollect(Stream.interruptWhen(desktop.secondInstances, Effect.yieldNow)), 1)
    assert.isTrue(quit())
    yield* desktop.quit
    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual(done, [
      "ready",
      "window of windows",
      "windows: deny",
      "http://127.0.0.1:1/pair#token=secret",
      "destroy",
      "release"
    ])
  }))

it.effect("in Electron a second instance is none, and the end of the system is not held up", () =>
  Effect.gen(function*() {
    const second = electron({ isFirst: false })
    assert.isTrue(Option.isNone(yield* Effect.scoped(ElectronDesktop.make(second.module).ready)))
    assert.deepStrictEqual(second.done, [])

    const { module, powerMonitor, quit } = electron()
    const desktop = yield* ready(module)
    powerMonitor.emit("shutdown")
    assert.isFalse(quit())
    yield* desktop.quit
  }))

it.effect("in Electron a page may go on before it is loaded, and another failure doesn't tell the code", () =>
  Effect.gen(function*() {
    const replaced = electron({ refusal: Object.assign(new Error("gone on"), { code: "ERR_ABORTED" }) })
    yield* (yield* ready(replaced.module)).openWindow(address)
    const failed = electron({ refusal: new Error(`ERR_FAILED (-2) loading '${Redacted.value(address)}'`) })
    const error = yield* Effect.flip((yield* ready(failed.module)).openWindow(address))
    assert.strictEqual(
      error.message,
      "The application could not show a page: Error: ERR_FAILED (-2) loading 'http://127.0.0.1:1/pair"
    )
  }))
