/** Starts the application: in Electron with its windows, in plain Node with a Chromium that has no display. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { type Config, Effect, type FileSystem, Layer, type Path, Runtime } from "effect"
import * as Application from "./Application.ts"
import type { Desktop, DesktopError } from "./Desktop.ts"

// Only the one that is used is loaded.
const load = async (): Promise<
  Layer.Layer<Desktop, Config.ConfigError | DesktopError, FileSystem.FileSystem | Path.Path>
> =>
  "electron" in process.versions
    ? (await import("./ElectronDesktop.ts")).layer
    : (await import("./NodeDesktop.ts")).layer

Application.run.pipe(
  Effect.provide(Layer.unwrap(Effect.promise(load))),
  Effect.provide(NodeServices.layer),
  // Electron's process does not end by itself, and this is its `app.exit`: the application is closed by now.
  NodeRuntime.runMain({ teardown: (exit) => Runtime.defaultTeardown(exit, (code) => process.exit(code)) })
)
