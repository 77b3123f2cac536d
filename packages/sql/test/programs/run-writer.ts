/**
 * Executes one run that counts for ever on an SQLite file, and prints each number once it is durable.
 *
 * The test that starts this program kills it.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as RunEventLog from "@sallyport/core/RunEventLog"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as SqlRunEventRepository from "@sallyport/sql/SqlRunEventRepository"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const [filename = "", leaseMillis = ""] = process.argv.slice(2)

const print = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

const program = Effect.gen(function*() {
  const log = yield* RunEventLog.RunEventLog
  const { run } = yield* log.execute(
    { threadId: "thread", idempotencyKey: "key", request: {}, owner: { subject: "someone" } },
    (writer) =>
      Effect.gen(function*() {
        for (let n = 1;; n++) {
          yield* writer.append({ n })
          yield* print(String(n))
          yield* Effect.sleep("1 millis")
        }
      })
  )
  yield* print(run.runId)
  return yield* Effect.never
})

program.pipe(
  Effect.provide(RunEventLog.layerWith({
    heartbeatInterval: `${Number(leaseMillis) / 4} millis`,
    lease: `${Number(leaseMillis)} millis`
  })),
  Effect.provide([
    Layer.provide(SqlRunEventRepository.layer, SqliteClient.layer({ filename })),
    Digest.layerWebCrypto,
    SecureRandom.layerWebCrypto
  ]),
  NodeRuntime.runMain
)
