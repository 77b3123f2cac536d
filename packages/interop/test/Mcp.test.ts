import { assert, describe, it } from "@effect/vitest"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { type JSONRPCMessage, SUPPORTED_PROTOCOL_VERSIONS } from "@modelcontextprotocol/sdk/types.js"
import {
  type EventStore,
  McpServer,
  SUPPORTED_PROTOCOL_VERSIONS as secondVersions,
  WebStandardStreamableHTTPServerTransport
} from "@modelcontextprotocol/server"
import * as Mcp from "@sallyport/interop/Mcp"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { network } from "../../../test-support/network.ts"
import { database, host } from "./support.ts"

const numbers = Array.from({ length: 40 }, (_, index) => index + 1)

const client = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ name: "reader", version: "1.0.0" })
      const transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`), {
        reconnectionOptions: {
          initialReconnectionDelay: 20,
          maxReconnectionDelay: 100,
          reconnectionDelayGrowFactor: 1,
          maxRetries: 1_000
        }
      })
      // The SDK's own classes disagree about optional properties.
      await client.connect(transport as Parameters<typeof client.connect>[0])
      return client
    }),
    (client) => Effect.promise(() => client.close())
  )

/** Calls the tool, and collects the progress it reports. */
const count = Effect.fnUntraced(function*(
  client: Client,
  onProgress: (progress: number) => void
) {
  const seen: Array<number> = []
  const result = yield* Effect.promise(() =>
    client.callTool({ name: "count" }, undefined, {
      onprogress: ({ progress }) => {
        seen.push(progress)
        onProgress(progress)
      }
    })
  )
  return { seen, result }
})

const counted = { content: [{ type: "text", text: "counted" }] }

describe("Mcp over a network", () => {
  it.live("L-83: a client that is cut off during a tool call gets the rest and the answer, once", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const wire = yield* network(server)
      const { result, seen } = yield* count(yield* client(wire.url), (progress) => {
        if (progress % 10 !== 3) return
        wire.cut()
        wire.join(server)
      })
      assert.deepStrictEqual(seen, numbers)
      assert.deepStrictEqual<unknown>(result, counted)
      assert.deepStrictEqual(yield* server.executions, { begun: 1, done: 1 })
    }))

  it.live("what a client has missed is replayed by the next process", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const server = yield* host(filename)
      const wire = yield* network(server)
      const cut = yield* Deferred.make<void>()
      const call = yield* Effect.forkChild(count(yield* client(wire.url), (progress) => {
        if (progress === 5) {
          wire.cut()
          Deferred.doneUnsafe(cut, Effect.void)
        }
      }))
      yield* Deferred.await(cut)
      // To the initialization, and to the call.
      const answers = Effect.promise(() => fetch(`${server.url}/answers`).then((response) => response.json()))
      yield* Effect.repeat(answers, { until: (count) => count === 2 })
      yield* server.stop("SIGKILL")
      const next = yield* host(filename)
      wire.join(next)
      const { result, seen } = yield* Fiber.join(call)
      assert.deepStrictEqual(seen, numbers)
      assert.deepStrictEqual<unknown>(result, counted)
      assert.deepStrictEqual(yield* next.executions, { begun: 0, done: 0 })
    }))

  it.live("an event that is unknown is refused as the SDK does", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      for (const eventId of ["garbage", "_GET_stream.1.1", "%.1.1", "stream.0.99999999999999999999"]) {
        const response = yield* Effect.promise(() =>
          fetch(`${server.url}/mcp`, {
            headers: { accept: "text/event-stream", "mcp-session-id": "unknown", "last-event-id": eventId }
          })
        )
        assert.strictEqual(response.status, 400)
        assert.include(yield* Effect.promise(() => response.text()), "Invalid event ID")
      }
    }))
})

const layer = DurableStreams.layer.pipe(Layer.provide(DurableStreamRepository.layerMemory))

const message = (n: number): JSONRPCMessage => ({ jsonrpc: "2.0", method: "count", params: { n } })

const replay = (store: Effect.Success<ReturnType<typeof Mcp.make>>, after: string) =>
  Effect.promise(async () => {
    const seen: Array<readonly [string, JSONRPCMessage]> = []
    const streamId = await store.replayEventsAfter(after, {
      send: async (eventId, message) => void seen.push([eventId, message])
    })
    return { streamId, seen }
  })

describe("Mcp in one process", () => {
  const options = { owner: { subject: "someone" }, session: "session" }

  it.effect("C-70: the versions that use the store are those of both SDKs that have sessions, and both take it", () =>
    Effect.gen(function*() {
      const eventStore: EventStore = yield* Mcp.make(options)
      const transport = new WebStandardStreamableHTTPServerTransport({
        eventStore,
        sessionIdGenerator: () => "session"
      })
      // Their own lists have the versions before Streamable HTTP too.
      const sessions = (versions: ReadonlyArray<string>) =>
        versions.filter((version) => version >= "2025-03-26").toSorted()
      assert.deepStrictEqual(sessions(SUPPORTED_PROTOCOL_VERSIONS), [...Mcp.protocolVersions])
      assert.deepStrictEqual(sessions(secondVersions), [...Mcp.protocolVersions])
      const server = new McpServer({ name: "server", version: "1.0.0" })
      yield* Effect.promise(() => server.connect(transport))
      const response = yield* Effect.promise(() =>
        transport.handleRequest(
          new Request("http://127.0.0.1/mcp", {
            method: "POST",
            headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
            body: JSON.stringify({
              jsonrpc: "2.0",
              id: 1,
              method: "initialize",
              params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "c", version: "1.0.0" } }
            })
          })
        ).then((response) => response.text())
      )
      assert.match(response, /^id: .+\..+\./m)
    }).pipe(Effect.provide(layer)))

  it.effect("messages handed over at once keep their order, and each stream has its own", () =>
    Effect.gen(function*() {
      const store = yield* Mcp.make(options)
      const ids = yield* Effect.promise(() =>
        Promise.all(numbers.map((n) => store.storeEvent(n % 2 === 0 ? "even" : "odd", message(n))))
      )
      assert.strictEqual(new Set(ids).size, numbers.length)
      const { seen, streamId } = yield* replay(store, ids[0] ?? "")
      assert.strictEqual(streamId, "odd")
      assert.deepStrictEqual(
        seen,
        numbers.slice(1).filter((n) => n % 2 === 1).map((n) => [ids[n - 1] ?? "", message(n)])
      )
    }).pipe(Effect.provide(layer)))

  /** Counts the appends, each of which takes a while, as a store behind a network does. */
  const slow = (delay: Duration.Input, counted: { appends: number }) =>
    Layer.effect(
      DurableStreams.DurableStreams,
      Effect.map(DurableStreams.DurableStreams, (streams) => ({
        ...streams,
        append: (options: DurableStreams.AppendOptions) => {
          counted.appends++
          return Effect.delay(streams.append(options), delay)
        },
        read: (options: DurableStreams.ReadOptions) => Effect.tap(streams.read(options), () => Effect.sleep(delay))
      }))
    ).pipe(Layer.provide(layer))

  it.live("C-73: messages that are handed over at once share an append", () => {
    const counted = { appends: 0 }
    return Effect.gen(function*() {
      const store = yield* Mcp.make(options)
      const all = Array.from({ length: 150 }, (_, n) => n)
      const ids = yield* Effect.promise(() => Promise.all(all.map((n) => store.storeEvent("stream", message(n)))))
      assert.strictEqual(counted.appends, 1)
      const more = yield* Effect.promise(() =>
        Promise.all(all.map((n) => store.storeEvent("stream", message(150 + n))))
      )
      assert.strictEqual(counted.appends, 2)
      assert.deepStrictEqual(
        (yield* replay(store, ids[0] ?? "")).seen,
        [...ids, ...more].slice(1).map((id, n) => [id, message(n + 1)])
      )
    }).pipe(Effect.provide(slow("10 millis", counted)))
  })

  it.effect("C-73: of messages that share an append, only the one that is too large fails", () =>
    Effect.gen(function*() {
      const store = yield* Mcp.make(options)
      const large: JSONRPCMessage = { jsonrpc: "2.0", method: "count", params: { text: "x".repeat(2_000) } }
      const settled = yield* Effect.promise(() =>
        Promise.allSettled(
          [message(1), message(2), large, message(3), message(4)].map((one) => store.storeEvent("stream", one))
        )
      )
      assert.deepStrictEqual(settled.map(({ status }) => status), [
        "fulfilled",
        "fulfilled",
        "rejected",
        "fulfilled",
        "fulfilled"
      ])
      const [first] = settled
      assert.deepStrictEqual(
        (yield* replay(store, first?.status === "fulfilled" ? first.value : "")).seen.map(([, message]) => message),
        [message(2), message(3), message(4)]
      )
    }).pipe(Effect.provide(
      DurableStreams.layerWith({ maxAppendBytes: 1_000 }).pipe(Layer.provide(DurableStreamRepository.layerMemory))
    )))

  it.live(
    "C-70: a message that is stored during the last read of a replay is in the replay, or passed on after it",
    () =>
      Effect.gen(function*() {
        for (const delay of [0, 3, 10]) {
          yield* Effect.gen(function*() {
            const store = yield* Mcp.make(options)
            const first = yield* Effect.promise(() => store.storeEvent("stream", message(0)))
            const seen: Array<JSONRPCMessage> = []
            let isLive = false
            // As the transport does: what is stored before it has heard of the replay's return is for the replay.
            const send = async (n: number) => {
              await store.storeEvent("stream", message(n))
              if (isLive) seen.push(message(n))
            }
            const sent: Array<Promise<void>> = []
            yield* Effect.promise(async () => {
              const timer = setInterval(() => sent.push(send(sent.length + 1)), 1)
              const until = async (count: number) => {
                while (sent.length < count) await new Promise((resolve) => setTimeout(resolve, 1))
              }
              await until(5)
              await store.replayEventsAfter(first, { send: async (_id, one) => void seen.push(one) })
              isLive = true
              await until(60)
              clearInterval(timer)
              await Promise.all(sent)
            })
            assert.deepStrictEqual(seen, sent.map((_, n) => message(n + 1)))
          }).pipe(Effect.provide(slow(delay, { appends: 0 })))
        }
      }),
    30_000
  )

  it.effect("an event of another session, owner or time is unknown", () =>
    Effect.gen(function*() {
      const store = yield* Mcp.make({ ...options, retention: "1 hour" })
      const eventId = yield* Effect.promise(() => store.storeEvent("stream", message(1)))
      const known = (store: Effect.Success<ReturnType<typeof Mcp.make>>) =>
        Effect.promise(async () => await store.getStreamIdForEventId?.(eventId))
      assert.strictEqual(yield* known(store), "stream")
      assert.isUndefined(yield* known(yield* Mcp.make({ ...options, session: "another" })))
      assert.isUndefined(yield* known(yield* Mcp.make({ ...options, owner: { subject: "another user" } })))
      yield* TestClock.adjust("2 hours")
      assert.isUndefined(yield* known(store))
      // A stream of the same name that is begun afterwards is another one.
      yield* Effect.promise(() => store.storeEvent("stream", message(2)))
      assert.isUndefined(yield* known(store))
    }).pipe(Effect.provide(layer)))

  it.effect("what only primes a connection is not replayed", () =>
    Effect.gen(function*() {
      const store = yield* Mcp.make(options)
      const prime = () => store.storeEvent("stream", JSON.parse("{}"))
      const first = yield* Effect.promise(prime)
      yield* Effect.promise(prime)
      const eventId = yield* Effect.promise(() => store.storeEvent("stream", message(1)))
      assert.deepStrictEqual((yield* replay(store, first)).seen, [[eventId, message(1)]])
    }).pipe(Effect.provide(layer)))
})
