import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as RunEventLog from "@sallyport/core/RunEventLog"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as SqlRunEventRepository from "@sallyport/sql/SqlRunEventRepository"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("programs/run-writer.ts", import.meta.url))
const leaseMillis = 2_000

/** Runs the program until it has acknowledged `count` events, kills it, and returns all that it acknowledged. */
const writeAndDie = (filename: string, count: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--conditions=sallyport-source", program, filename, String(leaseMillis)], {
        stdio: ["ignore", "pipe", "inherit"]
      })
    ),
    (child) =>
      Effect.promise(async () => {
        const closed = once(child, "close")
        const acknowledged: Array<number> = []
        let runId = ""
        for await (const line of createInterface(child.stdout)) {
          if (line.includes("-")) runId = line
          else acknowledged.push(Number(line))
          if (acknowledged.length >= count && runId !== "") child.kill("SIGKILL")
        }
        await closed
        assert.strictEqual(child.signalCode, "SIGKILL")
        return { acknowledged, runId }
      }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

describe("RunEventLog on an SQLite file", () => {
  it.live(
    "RUN-06 RUN-07 RUN-16 L-84 a process killed in mid-run loses nothing that it acknowledged, and readers in the next " +
      "process get one stale_run",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-crash-" })
        const filename = path.join(directory, "test.db")
        const { acknowledged, runId } = yield* writeAndDie(filename, 25)
        const owner = { subject: "someone" }
        yield* Effect.gen(function*() {
          const log = yield* RunEventLog.RunEventLog
          const request = { threadId: "thread", idempotencyKey: "key", request: {}, owner }
          const again = yield* log.execute(request, () => Effect.die("executed twice"))
          assert.isFalse(again.created)
          assert.strictEqual(again.run.runId, runId)
          const events = yield* Stream.runCollect(Stream.unwrap(log.events({ runId, owner })))
          const data = events.filter((event) => event.kind === "data").map((event) => event.data)
          // The last event may have been stored without the program living to say so.
          assert.deepStrictEqual(data, Array.from({ length: data.length }, (_, index) => ({ n: index + 1 })))
          assert.isAtLeast(data.length, acknowledged.length)
          assert.strictEqual(events.length, data.length + 1)
          assert.deepInclude(events[events.length - 1]?.data, { status: "failed", reason: RunEventLog.staleRun })
          assert.strictEqual((yield* log.get({ runId })).lastSeq, events.length)
          const rejoined = yield* Stream.runCollect(Stream.unwrap(log.events({ runId, after: data.length })))
          assert.strictEqual(rejoined.length, 1)
        }).pipe(
          Effect.provide(RunEventLog.layerReaper({ interval: "50 millis" })),
          Effect.provide(RunEventLog.layerWith({
            heartbeatInterval: `${leaseMillis / 4} millis`,
            lease: `${leaseMillis} millis`
          })),
          Effect.provide([
            Layer.provide(SqlRunEventRepository.layer, SqliteClient.layer({ filename })),
            Digest.layerWebCrypto,
            SecureRandom.layerWebCrypto
          ])
        )
      }).pipe(Effect.provide(NodeServices.layer))
  )
})
