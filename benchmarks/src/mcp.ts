/** The rate at which an MCP server's messages are stored, if the store is some milliseconds away. */
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as Mcp from "@sallyport/interop/Mcp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { rates, type Row } from "./measure.ts"

const distance = "10 millis"
const messages = 150

/** Provides streams in memory, each call of which takes as long as the way to a store and back. */
const layerDistant = Layer.effect(
  DurableStreams.DurableStreams,
  Effect.map(DurableStreams.DurableStreams, (streams) =>
    DurableStreams.DurableStreams.of({
      ...streams,
      get: (options) => Effect.delay(streams.get(options), distance),
      create: (options) => Effect.delay(streams.create(options), distance),
      append: (options) => Effect.delay(streams.append(options), distance)
    }))
).pipe(Layer.provide(Layer.provide(DurableStreams.layer, DurableStreamRepository.layerMemory)))

/** Measures messages that are handed over at once against one round trip for each. */
export const rows = async (): Promise<ReadonlyArray<Row>> => {
  const runtime = ManagedRuntime.make(layerDistant)
  const store = await runtime.runPromise(Mcp.make({ owner: { subject: "bench" }, session: "bench" }))
  const message = (progress: number) => ({
    jsonrpc: "2.0" as const,
    method: "notifications/progress",
    params: { progressToken: 1, progress }
  })
  let streams = 0
  const measured = await rates([
    {
      name: "at once",
      operations: messages,
      run: async () => {
        const stream = `stream ${++streams}`
        await Promise.all(Array.from({ length: messages }, (_, n) => store.storeEvent(stream, message(n))))
      }
    },
    {
      name: "one after the other",
      operations: 20,
      run: async () => {
        const stream = `stream ${++streams}`
        for (let n = 0; n < 20; n++) await store.storeEvent(stream, message(n))
      }
    }
  ], 5)
  await runtime.dispose()
  return [{
    path: `${messages} MCP messages at once, store ${distance} away`,
    ours: measured.get("at once") ?? Number.NaN,
    against: "a round trip each",
    theirs: measured.get("one after the other") ?? Number.NaN,
    asked: 5
  }]
}
