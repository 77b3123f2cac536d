import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { argumentsOf } from "../../../test-support/programs.ts"

const program = fileURLToPath(new URL("./programs/stream-writer.ts", import.meta.url))
const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Runs the program until it has acknowledged `count` appends, kills it, and returns the last number of each stream. */
const writeAndDie = (filename: string, count: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() =>
      spawn(process.execPath, [...argumentsOf(program), filename], {
        stdio: ["ignore", "pipe", "inherit"]
      })
    ),
    (child) =>
      Effect.promise(async () => {
        const closed = once(child, "close")
        const last = [-1, -1, -1, -1]
        let acknowledged = 0
        for await (const line of createInterface(child.stdout)) {
          const [stream = 0, seq = 0] = line.split(" ").map(Number)
          last[stream] = seq
          if (++acknowledged === count) child.kill("SIGKILL")
        }
        await closed
        assert.strictEqual(child.signalCode, "SIGKILL")
        return last
      }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

describe("DurableStreams on an SQLite file", () => {
  it.live("a process killed while it writes loses nothing that it acknowledged, and retries store nothing twice", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-streams-" })
      const filename = path.join(directory, "test.db")
      const last = yield* writeAndDie(filename, 200)
      const owner = { subject: "someone" }
      yield* Effect.gen(function*() {
        const streams = yield* DurableStreams.DurableStreams
        for (const [index, acknowledged] of last.entries()) {
          const name = { owner, path: `numbers/${index}` }
          const read = Effect.map(
            streams.read(name),
            (page) => page.pieces.map((piece) => Number(decoder.decode(piece)))
          )
          const stored = yield* read
          assert.isAtLeast(stored.length, acknowledged + 1)
          assert.deepStrictEqual(stored, Array.from({ length: stored.length }, (_, n) => n))
          // The writer starts again at the last append that it was answered, with the state that was stored with it.
          const retry = (seq: number) =>
            streams.append({
              ...name,
              contentType: "application/json",
              data: encoder.encode(String(seq)),
              producer: { producerId: "writer", epoch: 0, seq }
            })
          assert.isTrue((yield* retry(acknowledged)).duplicate)
          assert.strictEqual((yield* retry(acknowledged + 1)).duplicate, stored.length > acknowledged + 1)
          const after = yield* read
          assert.deepStrictEqual(after, Array.from({ length: Math.max(stored.length, acknowledged + 2) }, (_, n) => n))
        }
      }).pipe(
        Effect.provide(DurableStreams.layer),
        Effect.provide(Layer.provide(SqlDurableStreamRepository.layer, SqliteClient.layer({ filename })))
      )
    }).pipe(Effect.provide(NodeServices.layer)))
})
