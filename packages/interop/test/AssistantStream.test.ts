import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AssistantStream from "@sallyport/interop/AssistantStream"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import { AssistantMessageAccumulator, DataStreamDecoder, ToolResponse } from "assistant-stream"
import {
  createResumableAssistantStreamResponse,
  createResumableStreamContext,
  createResumeAssistantStreamResponse,
  ResumableStreamError,
  type ResumableStreamStore
} from "assistant-stream/resumable"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { network } from "../../../test-support/network.ts"
import { collect, counted, cutting, database, host, slowly } from "./support.ts"

const owner = { subject: "someone" }

/** Decodes a response with the library's own decoder. */
const messageOf = (response: Response) =>
  Effect.promise(async () => {
    if (response.body === null) throw new Error("The response has no body")
    let text = ""
    const messages = response.body.pipeThrough(new DataStreamDecoder()).pipeThrough(new AssistantMessageAccumulator())
    for await (const message of messages) {
      text = message.parts.map((part) => part.type === "text" ? part.text : "").join("")
    }
    return text
  })

describe("AssistantStream over a network", () => {
  const request = (url: string, id: string, options?: { readonly method: string; readonly n?: number }) =>
    Effect.promise(() => fetch(`${url}/assistant?id=${id}&n=${options?.n ?? 0}`, { method: options?.method ?? "GET" }))

  it.live("L-83: a reader that is cut off resumes, and reads the whole; one execution serves all", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const wire = yield* network(server)
      const cut = yield* request(wire.url, "cut", { method: "POST", n: 40 })
      const reader = cut.body?.getReader()
      yield* Effect.promise(async () => reader?.read())
      wire.cut()
      const failed = yield* Effect.promise(async () => {
        try {
          while ((await reader?.read())?.done === false);
          return false
        } catch {
          return true
        }
      })
      assert.isTrue(failed)
      wire.join(server)
      const texts = yield* Effect.forEach(
        [request(wire.url, "cut"), request(wire.url, "cut", { method: "POST", n: 40 })],
        (response) => Effect.flatMap(response, messageOf),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(texts, [counted(40), counted(40)])
      assert.strictEqual(yield* Effect.flatMap(request(server.url, "cut"), messageOf), counted(40))
      assert.deepStrictEqual(yield* server.executions, { begun: 1, done: 1 })
    }))

  it.live("L-84 RUN-07: a finished stream survives the process, an unfinished one ends with an error", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const server = yield* host(filename)
      yield* Effect.flatMap(request(server.url, "done", { method: "POST", n: 5 }), messageOf)
      const open = yield* request(server.url, "open", { method: "POST", n: Infinity })
      yield* Effect.promise(async () => open.body?.getReader().read())
      yield* server.stop("SIGKILL")
      const next = yield* host(filename)
      assert.strictEqual(yield* Effect.flatMap(request(next.url, "done"), messageOf), counted(5))
      const response = yield* request(next.url, "open")
      const broken = yield* Effect.promise(() => response.text().then(() => false, () => true))
      assert.isTrue(broken)
      assert.deepStrictEqual(yield* next.executions, { begun: 0, done: 0 })
    }))

  it.live("an unknown or deleted stream is a 404", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      assert.strictEqual((yield* request(server.url, "unknown")).status, 404)
      yield* Effect.flatMap(request(server.url, "deleted", { method: "POST", n: 1 }), messageOf)
      yield* request(server.url, "deleted", { method: "DELETE" })
      assert.strictEqual((yield* request(server.url, "deleted")).status, 404)
    }))
})

const layer = RunEventLog.layerWith({ retention: "1 hour" }).pipe(
  Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer])
)

const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)
const never = new AbortController().signal

const codeOf = (promise: Promise<unknown>) =>
  Effect.promise(() =>
    promise.then(() => undefined, (error: unknown) => error instanceof ResumableStreamError ? error.code : error)
  )

const read = (store: ResumableStreamStore, streamId: string, cursor = "") =>
  collect(store.read(streamId, cursor, never))

describe("AssistantStream in one process", () => {
  it.effect("RUN-02: of n callers one is elected, and later callers follow it", () =>
    Effect.gen(function*() {
      const store = yield* AssistantStream.make({ owner })
      const another = yield* AssistantStream.make({ owner })
      const roles = yield* Effect.promise(() =>
        Promise.all([store, another, store, another].map((store) => store.acquire("stream")))
      )
      assert.deepStrictEqual([...roles].sort(), ["consumer", "consumer", "consumer", "producer"])
      yield* Effect.promise(() => store.finalize("stream", "done"))
      assert.strictEqual(yield* Effect.promise(() => another.acquire("stream")), "consumer")
      const theirs = yield* AssistantStream.make({ owner: { subject: "another user" } })
      assert.strictEqual(yield* Effect.promise(() => theirs.acquire("stream")), "producer")
    }).pipe(Effect.provide(layer)))

  it.effect("bytes come back as they were, and a cursor continues after its chunk", () =>
    Effect.gen(function*() {
      const store = yield* AssistantStream.make({ owner })
      yield* Effect.promise(() => store.acquire("bytes"))
      // Text, half a character, a byte order mark, nothing, and zero.
      const chunks = [bytes(104, 105), bytes(0xe2, 0x82), bytes(0xef, 0xbb, 0xbf, 33), bytes(), bytes(0)]
      for (const chunk of chunks) yield* Effect.promise(() => store.append("bytes", chunk))
      yield* Effect.promise(() => store.finalize("bytes", "done"))
      const entries = yield* read(store, "bytes")
      assert.deepStrictEqual(entries.map(({ chunk }) => chunk), chunks)
      const rest = yield* read(store, "bytes", entries[1]?.cursor)
      assert.deepStrictEqual(rest, entries.slice(2))
      assert.strictEqual(yield* codeOf(store.append("bytes", bytes(1))), "finalized")
      yield* Effect.promise(() => store.finalize("bytes", "error"))
      assert.strictEqual(yield* Effect.promise(() => store.status("bytes")), "done")
    }).pipe(Effect.provide(layer)))

  it.effect("C-84: a chunk that is larger than an event comes back as it was, in pieces", () =>
    Effect.gen(function*() {
      const store = yield* AssistantStream.make({ owner })
      const bytes = Uint8Array.from({ length: 1_500_000 }, (_, index) => index % 7 === 0 ? 0xc3 : index % 32)
      for (
        const [streamId, chunk] of [["bytes", bytes], [
          "text",
          new TextEncoder().encode("é\u0001".repeat(500_000))
        ]] as const
      ) {
        yield* Effect.promise(async () => {
          await store.acquire(streamId)
          await store.append(streamId, chunk)
          await store.append(streamId, new Uint8Array())
          await store.finalize(streamId, "done")
        })
        const read = yield* collect(store.read(streamId, "", new AbortController().signal))
        assert.isTrue(Buffer.concat(read.map(({ chunk }) => chunk)).equals(chunk))
      }
    }).pipe(Effect.provide(layer)))

  it.effect("a failure reaches its readers", () =>
    Effect.gen(function*() {
      const context = createResumableStreamContext({ store: yield* AssistantStream.make({ owner }) })
      const stream = yield* Effect.promise(() =>
        context.run("failing", () =>
          new ReadableStream({
            start: (controller) => controller.error(new Error("out of order"))
          }))
      )
      const error = yield* Effect.promise(() => new Response(stream).text().catch((error: unknown) => error))
      assert.include(error, { message: "out of order" })
      assert.strictEqual(yield* Effect.promise(() => context.status("failing")), "error")
    }).pipe(Effect.provide(layer)))

  it.effect("deleting ends the readers, fences the producer, and frees the id", () =>
    Effect.gen(function*() {
      const store = yield* AssistantStream.make({ owner })
      const acquire = Effect.promise(async () => store.acquireLease?.("again"))
      const first = yield* acquire
      assert.strictEqual(first?.role, "producer")
      const lease = first?.role === "producer" ? first.lease : undefined
      yield* Effect.promise(() => store.append("again", bytes(1), lease))
      const seen = yield* Deferred.make<void>()
      const reader = yield* Effect.forkChild(
        collect(store.read("again", "", never), () => Deferred.doneUnsafe(seen, Effect.void))
      )
      yield* Deferred.await(seen)
      yield* Effect.promise(() => store.delete("again"))
      assert.strictEqual((yield* Fiber.join(reader)).length, 1)
      assert.strictEqual(yield* Effect.promise(() => store.status("again")), "missing")
      assert.strictEqual((yield* acquire)?.role, "producer")
      assert.strictEqual(yield* codeOf(store.append("again", bytes(2), lease)), "missing")
      yield* Effect.promise(() => store.finalize("again", "error", "late", lease))
      assert.strictEqual(yield* Effect.promise(() => store.status("again")), "streaming")
      yield* Effect.promise(() => store.append("again", bytes(3)))
      yield* Effect.promise(() => store.finalize("again", "done"))
      assert.deepStrictEqual((yield* read(store, "again")).map(({ chunk }) => chunk), [bytes(3)])
      yield* Effect.promise(() => store.delete("again"))
      yield* Effect.promise(() => store.delete("again"))
      assert.strictEqual((yield* acquire)?.role, "producer")
    }).pipe(Effect.provide(layer)))

  it.effect("RUN-13 RUN-11: a stream past its retention, an unknown one, and a foreign cursor are missing", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const store = yield* AssistantStream.make({ owner })
      const other = yield* Effect.promise(async () => store.acquireLease?.("other"))
      yield* Effect.promise(() => store.acquire("old"))
      yield* Effect.promise(() => store.append("old", bytes(1)))
      yield* Effect.promise(() => store.finalize("old", "done"))
      const [entry] = yield* read(store, "old")
      const foreign = store.read("other", entry?.cursor ?? "", never)[Symbol.asyncIterator]()
      assert.strictEqual(yield* codeOf(foreign.next()), "missing")
      assert.strictEqual(other?.role, "producer")
      yield* TestClock.adjust("61 minutes")
      yield* log.sweep({ limit: 100 })
      assert.strictEqual(yield* Effect.promise(() => store.status("old")), "missing")
      const context = createResumableStreamContext({ store })
      assert.isNull(yield* Effect.promise(() => context.resume("old")))
      assert.isNull(yield* Effect.promise(() => context.resume("unknown")))
      assert.strictEqual(yield* codeOf(context.requireResume("unknown")), "missing")
      assert.strictEqual(yield* codeOf(store.append("unknown", bytes(1))), "missing")
      assert.strictEqual(yield* codeOf(store.status("not an id")), "invalid-id")
      yield* Effect.promise(() => store.delete("unknown"))
    }).pipe(Effect.provide(layer)))

  it.live(
    "C-70: a reader has the same message wherever it is cut off or its stream is deleted, and however slow the store is",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(
              fc.oneof(
                fc.string({ unit: "grapheme", maxLength: 6 }),
                fc.record({
                  args: fc.array(fc.nat(9), { maxLength: 3 }),
                  result: fc.constantFrom(null, 0, "", "é", [1], { a: true })
                })
              ),
              { maxLength: 8 }
            ),
            fc.constantFrom("done" as const, "thrown" as const, "deleted" as const),
            fc.array(fc.nat(400), { maxLength: 4 }),
            fc.constantFrom(0, 3, 10),
            (parts, how, cuts, delayMillis) =>
              Effect.runPromise(
                Effect.gen(function*() {
                  const context = createResumableStreamContext({ store: yield* AssistantStream.make({ owner }) })
                  let executed = 0
                  const serve: typeof fetch = async (_input, init) =>
                    init?.method === "POST"
                      ? createResumableAssistantStreamResponse({
                        context,
                        streamId: "stream",
                        callback: async (controller) => {
                          executed++
                          for (const [index, part] of parts.entries()) {
                            if (typeof part === "string") controller.appendText(part)
                            else {
                              // The library ends no stream in which a tool call was left open.
                              const call = controller.addToolCallPart({ toolCallId: `${index}`, toolName: "count" })
                              for (const piece of JSON.stringify(part.args)) call.argsText.append(piece)
                              call.argsText.close()
                              await new Promise((resolve) => setTimeout(resolve, 1))
                              call.setResponse(new ToolResponse({ result: part.result }))
                              await call.close()
                            }
                            await new Promise((resolve) => setTimeout(resolve, 1))
                          }
                          if (how === "thrown") throw new Error("The model is out of order")
                          if (how === "deleted") await context.delete("stream")
                        }
                      })
                      : createResumeAssistantStreamResponse({ context, streamId: "stream" })
                  /** Reads an answer to its end, by the library's own decoder: its parts, and whether it is whole. */
                  const read = async (fetch: typeof globalThis.fetch, method: string) => {
                    const response = await fetch("http://127.0.0.1/", { method })
                    if (response.status === 404) return { missing: true, parts: [] }
                    // The library's decoder may wait for ever for the rest of what was cut off.
                    const { body } = new Response(await response.text())
                    if (body === null) throw new Error("The response has no body")
                    let read: ReadonlyArray<unknown> = []
                    const messages = body.pipeThrough(new DataStreamDecoder()).pipeThrough(
                      new AssistantMessageAccumulator()
                    )
                    for await (const message of messages) {
                      read = message.parts.map((part) =>
                        part.type === "text"
                          ? part.text
                          : part.type === "tool-call"
                          ? { id: part.toolCallId, args: part.args, result: part.result, state: part.state }
                          : part.type
                      )
                    }
                    return { missing: false, parts: read }
                  }
                  const broken = cutting(serve, cuts)
                  const persist = async () => {
                    for (let method = "POST";; method = "GET") {
                      try {
                        return await read(broken, method)
                      } catch (error) {
                        if (!(error instanceof TypeError)) return { missing: false, parts: String(error) }
                      }
                    }
                  }
                  const seen = yield* Effect.promise(persist)
                  const whole = yield* Effect.promise(() =>
                    read(serve, "GET").catch((error: unknown) => ({
                      missing: false,
                      parts: String(error)
                    }))
                  )
                  if (how === "deleted") assert.isTrue(whole.missing)
                  else if (how === "done") {
                    const calls = parts.flatMap((part, index) =>
                      typeof part === "string" ? [] : [{ id: `${index}`, ...part, state: "result" }]
                    )
                    const read = Array.isArray(whole.parts) ? whole.parts : []
                    assert.deepStrictEqual(read.filter((part) => typeof part === "object"), calls)
                    assert.deepStrictEqual(seen, whole)
                  } else assert.deepStrictEqual(seen, whole)
                  assert.strictEqual(executed, 1)
                }).pipe(Effect.provide(Layer.merge(slowly(delayMillis), Logger.layer([]))))
              )
          ),
          { numRuns: 40 }
        )
      ),
    60_000
  )
})
