/**
 * Runs the program on SQLite. Start it twice: the second time, the run exists already and does not count again.
 */
import { NodeFileSystem, NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, FileSystem } from "effect"
import * as Persistence from "./Persistence.ts"
import * as Program from "./Program.ts"

const main = Effect.gen(function*() {
  const directory = yield* Config.String("COUNTING_STATE").pipe(Config.withDefault("./counting-state"))
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(directory, { recursive: true, mode: 0o700 })
  const counted = yield* Program.count("ada", "count-1").pipe(
    Effect.provide(Program.layerServices),
    Effect.provide(Persistence.layerSqlite(directory))
  )
  yield* Console.log(JSON.stringify(counted))
})

main.pipe(Effect.provide(NodeFileSystem.layer), NodeRuntime.runMain)
