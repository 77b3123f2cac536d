/**
 * Implements the desktop with plain Node, for tests and for machines without Electron: windows are pages of a Chromium that
 * has no display, and the one instance is known by a socket of Linux, whose name goes with its process.
 */
import * as Chromium from "@sallyport-examples/desktop-backend/Chromium"
import {
  Config,
  Deferred,
  Effect,
  FileSystem,
  Layer,
  Option,
  type Path,
  Queue,
  Redacted,
  type Scope,
  Stream
} from "effect"
import { createHash } from "node:crypto"
import { connect, createServer, type Server } from "node:net"
import { resolve } from "node:path"
import type { BrowserContext } from "playwright-core"
import { attempt, Desktop } from "./Desktop.ts"

/** Lists what a desktop is made of. */
export interface Options {
  readonly stateDirectory: string
  /** The profile of the windows. It is opened once this process is the one instance, and closes with the scope. */
  readonly profile: Effect.Effect<BrowserContext, never, Scope.Scope>
}

/** Listens on a name. False if another process does. */
const listen = (server: Server, name: string) =>
  attempt("be the one instance", () =>
    new Promise<boolean>((resolve, reject) => {
      server.once("error", (error) => "code" in error && error.code === "EADDRINUSE" ? resolve(false) : reject(error))
      server.listen(name, () => resolve(true))
    }))

const tell = (name: string) =>
  attempt("tell the instance that runs", () =>
    new Promise<void>((resolve, reject) => {
      connect(name).once("error", reject).once("close", () => resolve()).resume()
    }))

export const make = ({ profile, stateDirectory }: Options): Desktop["Service"] => ({
  stateDirectory,
  ready: Effect.gen(function*() {
    const name = `\0sallyport-electron-${createHash("sha256").update(resolve(stateDirectory)).digest("hex")}`
    const started = yield* Queue.unbounded<void>()
    const server = createServer((socket) => {
      Queue.offerUnsafe(started, undefined)
      socket.on("error", () => {}).end()
    })
    const isFirst = yield* Effect.acquireRelease(listen(server, name), () => Effect.sync(() => server.close()))
    if (!isFirst) return yield* Effect.as(tell(name), Option.none())

    const context = yield* profile
    const closed = yield* Deferred.make<void>()
    context.on("page", (page) =>
      page.on("close", () => {
        if (context.pages().length === 0) Deferred.doneUnsafe(closed, Effect.void)
      }))
    return Option.some({
      openWindow: (url: Redacted.Redacted) =>
        Effect.gen(function*() {
          const page = yield* Effect.acquireRelease(
            attempt("open a window", () => context.newPage()),
            (page) => Effect.promise(() => page.close())
          )
          yield* attempt("show a page", () => page.goto(Redacted.value(url), { waitUntil: "commit" }))
        }),
      secondInstances: Stream.fromQueue(started),
      quit: Deferred.await(closed)
    })
  })
})

/** Provides the desktop, with state in `DESKTOP_STATE` or `./electron-state`. */
export const layer = Layer.effect(
  Desktop,
  Effect.gen(function*() {
    const stateDirectory = yield* Config.String("DESKTOP_STATE").pipe(Config.withDefault("./electron-state"))
    const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
    const profile = Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "desktop-browser-" })
      const browser = yield* Chromium.launch(yield* Chromium.unpack(directory))
      return yield* Effect.promise(() => browser.newContext())
    })
    return make({ stateDirectory, profile: Effect.orDie(Effect.provideContext(profile, context)) })
  })
)
