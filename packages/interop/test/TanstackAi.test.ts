import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it, vi } from "@effect/vitest"
import * as TanstackAi from "@sallyport/interop/TanstackAi"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import {
  EventType,
  replayRunStream,
  resumeServerSentEventsResponse,
  type StreamChunk,
  StreamProcessor,
  toServerSentEventsResponse
} from "@tanstack/ai"
import { fetchServerSentEvents } from "@tanstack/ai-client"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as fc from "fast-check"
import { network } from "../../../test-support/network.ts"
import { collect, counted, cutting, database, host, slowly } from "./support.ts"

const reconnect = { delayMs: 20, maxAttempts: 200 }

const connect = (url: string, runId: string, n: number, headers: Record<string, string> = {}) =>
  fetchServerSentEvents(`${url}/tanstack?n=${n}`, { reconnect, headers })
    .connect([], {}, undefined, { threadId: "thread", runId })

const join = (url: string, runId: string) => {
  const connection = fetchServerSentEvents(`${url}/tanstack`, { reconnect })
  const { joinRun } = connection
  if (joinRun === undefined) throw new Error("The connection can't join a run")
  return joinRun(runId)
}

/** Leaves out what differs between the reader that wrote a run and another. */
const plain = ({ timestamp: _timestamp, ...chunk }: StreamChunk) =>
  chunk.type === EventType.RUN_ERROR && chunk.code === "aborted" ? { ...chunk, message: "aborted" } : chunk

const textOf = (chunks: ReadonlyArray<StreamChunk>): string =>
  chunks.map((chunk) => chunk.type === EventType.TEXT_MESSAGE_CONTENT ? chunk.delta : "").join("")

const errorOf = (chunks: ReadonlyArray<StreamChunk>): string | undefined => {
  const last = chunks.at(-1)
  return last?.type === EventType.RUN_ERROR ? last.code : undefined
}

describe("TanstackAi over a network", () => {
  it.live("L-83 RUN-08: a client that is cut off continues from its position, and nothing is generated twice", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const wire = yield* network(server)
      const cuts = new Set([5, 12, 30])
      const chunks = yield* collect(connect(wire.url, "cut", 50), ({ length }) => {
        if (!cuts.delete(length)) return
        wire.cut()
        wire.join(server)
      })
      assert.strictEqual(textOf(chunks), counted(50))
      assert.strictEqual(cuts.size, 0)
      assert.strictEqual(chunks.at(-1)?.type, EventType.RUN_FINISHED)
      assert.deepStrictEqual(yield* server.executions, { begun: 1, done: 1 })
    }))

  it.live("RUN-01 L-70: a request that is posted twice follows the run that the first one started", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const [first, second] = yield* Effect.all([
        collect(connect(server.url, "twice", 30)),
        // Posted while the first run is still running, by a client that has lost the answer.
        Effect.andThen(
          Effect.repeat(server.executions, { until: ({ begun }) => begun === 1 }),
          collect(connect(server.url, "twice", 30))
        )
      ], { concurrency: "unbounded" })
      assert.strictEqual(textOf(first), counted(30))
      assert.strictEqual(textOf(second), counted(30))
      assert.strictEqual(textOf(yield* collect(connect(server.url, "twice", 30))), counted(30))
      assert.deepStrictEqual(yield* server.executions, { begun: 1, done: 1 })
    }))

  it.live("a second page joins a run that is running, and one that has ended", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const first = yield* Effect.forkChild(collect(connect(server.url, "join", 30)))
      yield* Effect.repeat(server.executions, { until: ({ begun }) => begun === 1 })
      assert.strictEqual(textOf(yield* collect(join(server.url, "join"))), counted(30))
      yield* Fiber.join(first)
      assert.strictEqual(textOf(yield* collect(join(server.url, "join"))), counted(30))
    }))

  it.live("L-84 RUN-07: when the process is killed, readers get what was stored and one RUN_ERROR, and nothing runs again", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const server = yield* host(filename)
      const wire = yield* network(server)
      const reached = yield* Deferred.make<void>()
      const reader = yield* Effect.forkChild(
        collect(connect(wire.url, "killed", Infinity), ({ length }) => {
          if (length === 20) Deferred.doneUnsafe(reached, Effect.void)
        })
      )
      yield* Deferred.await(reached)
      wire.cut()
      yield* server.stop("SIGKILL")
      const next = yield* host(filename)
      wire.join(next)
      const chunks = yield* Fiber.join(reader)
      const text = textOf(chunks)
      assert.strictEqual(text, counted(text.split(" ").length - 1))
      assert.strictEqual(errorOf(chunks), "stale_run")
      const joined = yield* collect(join(next.url, "killed"))
      assert.isTrue(textOf(joined).startsWith(text))
      assert.strictEqual(errorOf(joined), "stale_run")
      assert.deepStrictEqual(yield* next.executions, { begun: 0, done: 0 })
    }))

  it.live("RUN-11 RUN-18: unknown runs, another's run and broken offsets are a RUN_ERROR with a code", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      assert.strictEqual(errorOf(yield* collect(join(server.url, "unknown"))), "run_not_found")
      yield* collect(connect(server.url, "mine", 1))
      const theirs = yield* collect(connect(server.url, "mine", 2, { "x-subject": "another user" }))
      assert.strictEqual(textOf(theirs), counted(2))
      const offsets = ["garbage", "-5", "mine.1", `${"0".repeat(8)}-0000-7000-8000-000000000000.1`]
      for (const offset of offsets) {
        const response = yield* Effect.promise(() =>
          fetch(`${server.url}/tanstack?runId=mine`, { headers: { "last-event-id": offset } }).then((response) =>
            response.text()
          )
        )
        assert.match(response, /"type":"RUN_ERROR"/)
        assert.match(response, /"code":"(malformed_cursor|run_not_found)"/)
      }
    }))
})

const layer = RunEventLog.layer.pipe(
  Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer])
)

const owner = { subject: "someone" }

async function* hello(): AsyncIterable<StreamChunk> {
  yield { type: EventType.RUN_STARTED, threadId: "thread", runId: "run" }
  yield { type: EventType.TEXT_MESSAGE_CONTENT, messageId: "message", delta: "hello" }
  yield { type: EventType.RUN_FINISHED, threadId: "thread", runId: "run" }
}

// eslint-disable-next-line require-yield
async function* broken(): AsyncIterable<StreamChunk> {
  throw new Error("The model is out of order")
}

describe("TanstackAi in one process", () => {
  const produce = (source: TanstackAi.Source, stream: AsyncIterable<StreamChunk>) =>
    Effect.flatMap(
      TanstackAi.make(source, { owner }),
      (adapter) => Effect.promise(() => toServerSentEventsResponse(stream, { durability: { adapter } }).text())
    )

  const status = (runId: string) =>
    Effect.flatMap(RunEventLog.RunEventLog, (log) =>
      Effect.map(
        Effect.flatten(Effect.map(log.getByKey({ idempotencyKey: `tanstack-ai/${runId}`, owner }), Effect.fromOption)),
        ({ status }) => status
      ))

  it.effect("a run ends as its stream does", () =>
    Effect.gen(function*() {
      yield* produce({ runId: "good" }, hello())
      assert.strictEqual(yield* status("good"), "succeeded")
      const text = yield* produce({ runId: "bad" }, broken())
      assert.include(text, "The model is out of order")
      assert.strictEqual(yield* status("bad"), "failed")
      const adapter = yield* TanstackAi.make({ runId: "bad" }, { owner })
      const replayed = yield* collect(replayRunStream(adapter))
      assert.deepStrictEqual(replayed.map(({ type }) => type), [EventType.CUSTOM, EventType.RUN_ERROR])
    }).pipe(Effect.provide(layer)))

  it.effect("RUN-12: an abort of the run reaches its stream, and its readers", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const adapter = yield* TanstackAi.make({ runId: "aborted" }, { owner })
      yield* Effect.promise(() =>
        adapter.append([{ type: EventType.RUN_STARTED, threadId: "thread", runId: "aborted" }])
      )
      const { runId } = yield* Effect.flatMap(
        log.getByKey({ idempotencyKey: "tanstack-ai/aborted", owner }),
        Effect.fromOption
      )
      yield* log.abort({ runId, reason: "changed my mind" })
      const chunk: StreamChunk = { type: EventType.CUSTOM, name: "late", value: {} }
      const refused = yield* Effect.promise(() =>
        adapter.append([chunk]).then(() => undefined, (error: unknown) => error)
      )
      assert.include(refused, { code: "aborted" })
      const reader = yield* TanstackAi.make({ runId: "aborted", offset: "-1" }, { owner })
      const text = yield* Effect.promise(() => resumeServerSentEventsResponse({ adapter: reader }).text())
      assert.match(text, /"message":"The run was aborted: changed my mind"[^\n]*"code":"aborted"/)
      yield* Effect.promise(() => adapter.close())
    }).pipe(Effect.provide(layer)))

  it.effect("C-83: a run that is stopped before its POST, or during it, ends with the code aborted and logs nothing", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const logged: Array<unknown> = []
      const key = (runId: string) => ({
        threadId: `tanstack-ai/${runId}`,
        idempotencyKey: `tanstack-ai/${runId}`,
        owner
      })
      const abort = (runId: string) => Effect.runPromise(log.abort({ ...key(runId), reason: "changed my mind" }))
      async function* stopped(runId: string): AsyncIterable<StreamChunk> {
        yield { type: EventType.RUN_STARTED, threadId: "thread", runId }
        await abort(runId)
        yield* hello()
      }
      for (const method of ["error", "log", "warn"] as const) {
        vi.spyOn(console, method).mockImplementation((...line) => void logged.push(line))
      }
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.restoreAllMocks()))
      yield* Effect.promise(() => abort("before"))
      for (const [runId, stream] of [["before", hello()], ["during", stopped("during")]] as const) {
        const text = yield* produce({ runId }, stream)
        const errors = text.split("\n\n").filter((event) => event.includes("RUN_ERROR"))
        assert.strictEqual(errors.length, 1, text)
        assert.include(errors[0], "\"code\":\"aborted\"")
        assert.strictEqual(yield* status(runId), "aborted")
        // A client that asks again is told the same.
        const again = yield* produce({ runId, offset: "-1" }, hello())
        assert.include(again, "\"code\":\"aborted\"")
        assert.notInclude(again, "hello")
      }
      assert.deepStrictEqual(logged, [])
    }).pipe(Effect.provide(layer)))

  it.effect("C-84: a chunk that is too large for an event is refused with the name of the limit, and ends the run", () =>
    Effect.gen(function*() {
      async function* large(): AsyncIterable<StreamChunk> {
        yield { type: EventType.TEXT_MESSAGE_CONTENT, messageId: "message", delta: "x".repeat(1_500_000) }
      }
      const text = yield* produce({ runId: "large" }, large())
      assert.match(text, /maxEventBytes \(1048576\).*"code":"limit_exceeded"/)
      assert.strictEqual(yield* status("large"), "failed")
    }).pipe(Effect.provide(layer)))

  it.effect("a snapshot is what is stored now, and nothing for a run that is unknown", () =>
    Effect.gen(function*() {
      const adapter = yield* TanstackAi.make({ runId: "snapshot" }, { owner })
      assert.deepStrictEqual(yield* Effect.promise(() => adapter.snapshot()), [])
      const chunk: StreamChunk = { type: EventType.RUN_STARTED, threadId: "thread", runId: "snapshot" }
      const offsets = yield* Effect.promise(() => adapter.append([chunk, chunk]))
      const stored = yield* Effect.promise(() => adapter.snapshot())
      assert.deepStrictEqual(stored, offsets.map((offset) => ({ offset, chunk })))
      yield* Effect.promise(() => adapter.close())
      assert.deepStrictEqual(yield* Effect.promise(() => adapter.snapshot()), stored)
    }).pipe(Effect.provide(layer)))

  it.effect("a reader that goes away stops reading", () =>
    Effect.gen(function*() {
      const adapter = yield* TanstackAi.make({ runId: "left" }, { owner })
      yield* Effect.promise(() => adapter.append([{ type: EventType.RUN_STARTED, threadId: "thread", runId: "left" }]))
      const controller = new AbortController()
      const reader = yield* TanstackAi.make({ runId: "left", offset: "-1" }, { owner })
      const seen = yield* collect(reader.read("-1", controller.signal), () => controller.abort())
      assert.strictEqual(seen.length, 1)
      yield* Effect.promise(() => adapter.close())
    }).pipe(Effect.provide(layer)))

  it.effect("a request that names no run is refused", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(TanstackAi.make(new Request("http://localhost/", { method: "POST" }), { owner }))
      assert.strictEqual(error.code, "run_id_missing")
    }).pipe(Effect.provide(layer)))

  const step = fc.oneof(
    fc.record({ kind: fc.constant("text" as const), text: fc.string({ unit: "grapheme", maxLength: 5 }) }),
    fc.record({ kind: fc.constant("tool" as const), text: fc.constantFrom("{}", "{\"a\":1}") }),
    fc.record({ kind: fc.constant("custom" as const), text: fc.string({ maxLength: 5 }) })
  )

  /** Builds the messages of a run by the library's own processor. */
  const messagesOf = (chunks: ReadonlyArray<StreamChunk>) => {
    const processor = new StreamProcessor()
    for (const chunk of chunks) processor.processChunk(chunk)
    return processor.getMessages().map(({ parts, role }) => ({ role, parts }))
  }

  it.live(
    "C-70: a client has the same run wherever it is cut off or stopped, and however slow the store is",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(step, { maxLength: 8 }),
            fc.constantFrom("returned" as const, "thrown" as const, "stopped" as const),
            fc.array(fc.nat(1_500), { maxLength: 5 }),
            fc.constantFrom(1, 3),
            fc.constantFrom(0, 3, 10),
            (steps, how, cuts, batch, delayMillis) =>
              Effect.runPromise(
                Effect.gen(function*() {
                  const log = yield* RunEventLog.RunEventLog
                  const run = Effect.runPromiseWith(yield* Effect.context<RunEventLog.RunEventLog>())
                  let generated = 0
                  async function* generate(): AsyncIterable<StreamChunk> {
                    generated++
                    yield { type: EventType.RUN_STARTED, threadId: "thread", runId: "run" }
                    for (const [index, { kind, text }] of steps.entries()) {
                      const id = `part${index}`
                      if (kind === "custom") yield { type: EventType.CUSTOM, name: "custom", value: { text } }
                      if (kind === "text") {
                        yield { type: EventType.TEXT_MESSAGE_START, messageId: id, role: "assistant" }
                        yield { type: EventType.TEXT_MESSAGE_CONTENT, messageId: id, delta: text }
                        yield { type: EventType.TEXT_MESSAGE_END, messageId: id }
                      }
                      if (kind === "tool") {
                        yield {
                          type: EventType.TOOL_CALL_START,
                          toolCallId: id,
                          toolCallName: "tool",
                          toolName: "tool"
                        }
                        yield { type: EventType.TOOL_CALL_ARGS, toolCallId: id, delta: text }
                        yield { type: EventType.TOOL_CALL_END, toolCallId: id }
                      }
                      await new Promise((resolve) => setTimeout(resolve, 1))
                    }
                    if (how === "thrown") throw new Error("The model is out of order")
                    if (how === "stopped") {
                      await run(log.abort({ threadId: "tanstack-ai/run", idempotencyKey: "tanstack-ai/run", owner }))
                    }
                    yield { type: EventType.RUN_FINISHED, threadId: "thread", runId: "run" }
                  }
                  const serve: typeof fetch = async (input, init) => {
                    const request = new Request(input, init)
                    const adapter = await run(TanstackAi.make(request, { owner }))
                    if (request.method === "GET") return resumeServerSentEventsResponse({ adapter })
                    return toServerSentEventsResponse(generate(), { durability: { adapter, batch } })
                  }
                  const connection = (fetchClient: typeof fetch) =>
                    fetchServerSentEvents("http://127.0.0.1/tanstack", {
                      reconnect: { delayMs: 1, maxAttempts: 200 },
                      fetchClient
                    })
                  const broken = connection(cutting(serve, cuts))
                  const follow = Effect.suspend(() =>
                    collect(broken.connect([], {}, undefined, { threadId: "thread", runId: "run" }))
                  )
                  // The library gives up if it is cut off before the first event, and is called again.
                  const all = yield* Effect.retry(Effect.catchDefect(follow, Effect.fail), { times: 5 })
                  const { joinRun } = connection(serve)
                  assert.isDefined(joinRun)
                  const whole = yield* collect(joinRun?.("run") ?? [])
                  // The library sends the error of a program, or of a run that was stopped under it, without the offset of
                  // the stored one, so that a client that is cut off between the error and the end gets it again.
                  const isTwice = how !== "returned" && all.length === whole.length + 1 &&
                    all.at(-1)?.type === EventType.RUN_ERROR
                  const seen = isTwice ? all.slice(0, -1) : all
                  assert.deepStrictEqual(seen.map(plain), whole.map(plain))
                  assert.deepStrictEqual(messagesOf(seen), messagesOf(whole))
                  const terminal = ({ type }: StreamChunk) =>
                    type === EventType.RUN_FINISHED || type === EventType.RUN_ERROR
                  assert.deepStrictEqual(seen.filter(terminal), seen.slice(-1))
                  assert.strictEqual(
                    seen.at(-1)?.type,
                    how === "returned" ? EventType.RUN_FINISHED : EventType.RUN_ERROR
                  )
                  if (how === "stopped") assert.strictEqual(errorOf(seen), "aborted")
                  assert.strictEqual(generated, 1)
                }).pipe(Effect.provide(Layer.merge(slowly(delayMillis), Logger.layer([]))))
              )
          ),
          {
            numRuns: 40,
            // Cut between the error and the end: the error of this run ends at byte 1,061.
            examples: [[[{ kind: "tool", text: "{}" }, { kind: "text", text: "" }], "stopped", [1061], 1, 0]]
          }
        )
      ),
    60_000
  )
})
