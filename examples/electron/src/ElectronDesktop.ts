/** Implements the desktop with Electron. */
import { Deferred, Effect, Layer, Option, Predicate, Queue, Redacted, Stream } from "effect"
import { attempt, Desktop, DesktopError } from "./Desktop.ts"

interface BrowserWindow {
  loadURL(url: string): Promise<void>
  isDestroyed(): boolean
  destroy(): void
  readonly webContents: { setWindowOpenHandler(handler: () => { readonly action: "deny" }): void }
}

/** Describes what is used of Electron, with its own names. */
export interface Electron {
  readonly app: {
    getPath(name: "userData"): string
    whenReady(): Promise<void>
    requestSingleInstanceLock(): boolean
    releaseSingleInstanceLock(): void
    on(event: "before-quit", listener: (event: { preventDefault(): void }) => void): unknown
    on(event: "second-instance", listener: () => void): unknown
    on(event: "activate", listener: () => void): unknown
    on(event: "window-all-closed", listener: () => void): unknown
  }
  readonly powerMonitor: {
    on(event: "shutdown", listener: () => void): unknown
  }
  readonly BrowserWindow: {
    new(options: { webPreferences: { partition: string } }): BrowserWindow
    getAllWindows(): ReadonlyArray<BrowserWindow>
  }
}

/** Tells Electron's module from what its package is in plain Node: the path of a program. */
const isElectron = (module: unknown): module is Electron =>
  ["app", "powerMonitor", "BrowserWindow"].every((name) => Predicate.hasProperty(module, name))

const wasReplaced = (error: unknown) => Predicate.hasProperty(error, "code") && error.code === "ERR_ABORTED"

export const make = ({ app, BrowserWindow, powerMonitor }: Electron): Desktop["Service"] => ({
  stateDirectory: `${app.getPath("userData")}/state`,
  ready: Effect.gen(function*() {
    const isFirst = yield* Effect.acquireRelease(
      Effect.sync(() => app.requestSingleInstanceLock()),
      (isFirst) => Effect.sync(() => isFirst && app.releaseSingleInstanceLock())
    )
    if (!isFirst) return Option.none()
    const ended = yield* Deferred.make<void>()
    const wanted = yield* Queue.unbounded<void>()
    const end = () => Deferred.doneUnsafe(ended, Effect.void)
    const want = () => Queue.offerUnsafe(wanted, undefined)
    app.on("second-instance", want)
    app.on("window-all-closed", () => {
      // On macOS an application outlives its windows.
      if (process.platform !== "darwin") end()
    })
    yield* attempt("start", () => app.whenReady())
    app.on("activate", () => {
      if (BrowserWindow.getAllWindows().length === 0) want()
    })
    // Prevented, a quit would stop a logout of macOS: a system that ends waits for no server.
    let isSystemEnding = false
    powerMonitor.on("shutdown", () => {
      isSystemEnding = true
      end()
    })
    app.on("before-quit", (event) => {
      // The program ends this process when all is closed.
      if (!isSystemEnding) event.preventDefault()
      end()
    })
    return Option.some({
      openWindow: (url) =>
        Effect.gen(function*() {
          const window = yield* Effect.acquireRelease(
            // A profile without `persist:` is in memory: no cookie outlives the process.
            Effect.sync(() => new BrowserWindow({ webPreferences: { partition: "windows" } })),
            (window) => Effect.sync(() => window.isDestroyed() || window.destroy())
          )
          window.webContents.setWindowOpenHandler(() => ({ action: "deny" }))
          yield* attempt("show a page", () =>
            window.loadURL(Redacted.value(url)).catch((error: unknown) => {
              // The page that takes the code goes on to another one, maybe before it has been loaded.
              if (!wasReplaced(error)) throw error
            }))
        }),
      secondInstances: Stream.fromQueue(wanted),
      quit: Deferred.await(ended)
    })
  })
})

/** Provides the desktop. It must be built in a main process of Electron. */
export const layer = Layer.effect(
  Desktop,
  Effect.gen(function*() {
    // Electron is not installed with this workspace, so its name must not be known to the compiler.
    const name: string = "electron"
    const module: unknown = yield* attempt("load Electron", () => import(name))
    if (!isElectron(module)) return yield* new DesktopError({ step: "load Electron", problem: "this is plain Node" })
    return make(module)
  })
)
