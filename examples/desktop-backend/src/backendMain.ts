/**
 * Runs the program that the desktop application starts. Started by hand it reports that it got no credential.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Config, Effect, FileSystem, Logger, Schema } from "effect"
import * as Backend from "./Backend.ts"
import * as BackendProcess from "./BackendProcess.ts"

const Port = Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 65_535 }))

const settings = Config.all({
  stateDirectory: Config.String("DESKTOP_STATE"),
  // 0 lets the system choose one.
  port: Config.schema(Port, "DESKTOP_PORT").pipe(Config.withDefault(0))
})

const main = Effect.gen(function*() {
  const { port, stateDirectory } = yield* settings
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(stateDirectory, { recursive: true, mode: 0o700 })
  yield* BackendProcess.run(Backend.layer({ port, stateDirectory })).pipe(
    Effect.catchTag(
      "ServeError",
      (error) =>
        error.cause instanceof Error && "code" in error.cause && error.cause.code === "EADDRINUSE"
          ? BackendProcess.sayPortTaken(port)
          : Effect.fail(error)
    )
  )
})

// Standard output is for the application that started this process; messages for a person go to standard error.
main.pipe(
  Effect.provide([NodeServices.layer, Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])]),
  NodeRuntime.runMain
)
