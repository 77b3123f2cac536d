/**
 * Appends numbers to a stream in an SQLite file for ever, several at a time, and prints each once it is durable.
 *
 * The test that starts this program kills it.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const [filename = ""] = process.argv.slice(2)
const encoder = new TextEncoder()

const program = Effect.gen(function*() {
  const streams = yield* DurableStreams.DurableStreams
  const owner = { subject: "someone" }
  const write = (producer: number) =>
    Effect.gen(function*() {
      const path = `numbers/${producer}`
      yield* streams.create({ owner, path, contentType: "application/json" })
      for (let seq = 0;; seq++) {
        yield* streams.append({
          owner,
          path,
          contentType: "application/json",
          data: encoder.encode(String(seq)),
          producer: { producerId: "writer", epoch: 0, seq }
        })
        yield* Effect.sync(() => process.stdout.write(`${producer} ${seq}\n`))
      }
    })
  yield* Effect.forEach([0, 1, 2, 3], write, { concurrency: "unbounded" })
})

program.pipe(
  Effect.provide(DurableStreams.layer),
  Effect.provide(Layer.provide(SqlDurableStreamRepository.layer, SqliteClient.layer({ filename }))),
  NodeRuntime.runMain
)
