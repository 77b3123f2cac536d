import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const temporary = FileSystem.FileSystem.use((fs) => fs.makeTempDirectoryScoped())

describe("a state directory", () => {
  it.effect("C-60: many starts at once are all let in, and write nothing to find out whether they may", () =>
    Effect.gen(function*() {
      const state = join(yield* temporary, "a", "b")
      const opened = yield* Effect.all(Array.from({ length: 300 }, () => StateDirectory.open(state)), {
        concurrency: "unbounded"
      })
      assert.lengthOf(opened, 300)
      assert.deepStrictEqual(readdirSync(state), [])
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("C-60: what a symbolic link leads to is never written", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const target = join(directory, "target")
      for (const name of ["sallyport.db", "sallyport.db-wal", "sallyport.db-shm", "secrets", "secret-key"]) {
        for (const leadsTo of [target, join(directory, "nowhere")]) {
          writeFileSync(target, "kept")
          const state = yield* temporary
          symlinkSync(leadsTo, join(state, name))
          const error = yield* Effect.flip(StateDirectory.open(state))
          assert.include(error.message, `holds a symbolic link, ${name}`)
        }
      }
      const state = yield* temporary
      symlinkSync(target, join(state, ".probe"))
      yield* StateDirectory.open(state)
      assert.strictEqual(readFileSync(target, "utf8"), "kept")
      assert.deepStrictEqual(readdirSync(directory), ["target"])
    }).pipe(Effect.provide(NodeServices.layer)))
})
