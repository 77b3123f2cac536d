import { EventType, HttpAgent } from "@ag-ui/client"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AgUi from "@sallyport/interop/AgUi"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { network } from "../../../test-support/network.ts"
import { counted, database, host } from "./support.ts"

/**
 * Fetches as the library does by default, but hides the error of a broken connection, which the library also throws
 * without a listener.
 */
const fetchQuietly = async (url: string, init?: RequestInit): Promise<Response> => {
  const response = await fetch(url, init)
  const { body } = response
  if (!response.ok || body === null) return response
  const reader = body.getReader()
  const cancel = reader.cancel.bind(reader)
  Object.assign(reader, { cancel: () => cancel().catch(() => {}) })
  Object.assign(body, { getReader: () => reader })
  return response
}

/** Runs an agent with the library's client, as a newly loaded page does. */
const runAgent = (
  url: string,
  runId: string,
  options: { readonly n: number; readonly threadId?: string; readonly onText?: (text: string) => void }
) =>
  Effect.promise(async () => {
    const agent = new HttpAgent({
      url: `${url}/agui`,
      fetch: fetchQuietly,
      threadId: options.threadId ?? runId,
      initialState: { n: options.n }
    })
    let code: string | undefined
    const result = await agent.runAgent({ runId }, {
      onTextMessageContentEvent: ({ textMessageBuffer, event }) => options.onText?.(textMessageBuffer + event.delta),
      onRunErrorEvent: ({ event }) => {
        code = event.code
      }
    }).then(({ result }: { readonly result: unknown }) => result, (error: unknown) => error)
    return { code, result, text: agent.messages.map(({ content }) => content).join("") }
  })

describe("AgUi over a network", () => {
  it.live("RUN-01 L-70 a client that is cut off runs again with the same id, and gets the whole run without a second one", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const wire = yield* network(server)
      const cut = yield* runAgent(wire.url, "cut", {
        n: 40,
        onText: (text) => {
          if (text === counted(10)) wire.cut()
        }
      })
      assert.instanceOf(cut.result, Error)
      wire.join(server)
      const again = yield* runAgent(wire.url, "cut", { n: 40 })
      assert.deepStrictEqual(again, { code: undefined, result: { counted: 40 }, text: counted(40) })
      assert.strictEqual((yield* server.executions).begun, 1)
    }))

  it.live("RUN-08 a request with Last-Event-ID gets what follows", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      yield* runAgent(server.url, "resumed", { n: 5 })
      const text = yield* Effect.promise(() =>
        fetch(`${server.url}/agui`, {
          method: "POST",
          headers: { "content-type": "application/json", "last-event-id": "6" },
          body: JSON.stringify({
            threadId: "resumed",
            runId: "resumed",
            state: {},
            messages: [],
            tools: [],
            context: [],
            forwardedProps: {}
          })
        }).then((response) => response.text())
      )
      const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => id)
      assert.deepStrictEqual(ids, ["7", "8", "9"])
    }))

  it.live("L-84 RUN-07 when the process is killed, a client that runs again gets what was stored and one RUN_ERROR", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const server = yield* host(filename)
      const reached = yield* Deferred.make<void>()
      const first = yield* Effect.forkChild(runAgent(server.url, "killed", {
        n: 1e9,
        onText: (text) => {
          if (text === counted(10)) Deferred.doneUnsafe(reached, Effect.void)
        }
      }))
      yield* Deferred.await(reached)
      yield* server.stop("SIGKILL")
      yield* Fiber.join(first)
      const next = yield* host(filename)
      const { code, text } = yield* runAgent(next.url, "killed", { n: 1e9 })
      assert.strictEqual(code, "stale_run")
      assert.isTrue(text.startsWith(counted(10)))
      assert.strictEqual((yield* next.executions).begun, 0)
    }))

  it.live("a program that dies is a RUN_ERROR; a busy thread and a broken body have their statuses", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      assert.strictEqual((yield* runAgent(server.url, "dies", { n: 0 })).code, "program_failed")
      const reached = yield* Deferred.make<void>()
      const endless = yield* Effect.forkChild(
        runAgent(server.url, "endless", { n: 1e9, onText: () => Deferred.doneUnsafe(reached, Effect.void) })
      )
      yield* Deferred.await(reached)
      const busy = yield* runAgent(server.url, "another", { n: 1, threadId: "endless" })
      assert.match(String(busy.result), /thread_busy|409/)
      yield* Fiber.interrupt(endless)
      const statuses = yield* Effect.forEach(
        ["", "{}", "[1]", "{\"threadId\":1,\"runId\":\"r\"}"],
        (body) =>
          Effect.promise(() => fetch(`${server.url}/agui`, { method: "POST", body }).then(({ status }) => status))
      )
      assert.deepStrictEqual(statuses, [400, 400, 400, 400])
    }))
})

const layer = RunEventLog.layer.pipe(Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer]))

describe("AgUi in one process", () => {
  const owner = { subject: "someone" }
  const input = { threadId: "thread", runId: "run", state: {}, messages: [], tools: [], context: [] }

  const typesOf = Effect.fnUntraced(function*(runId: string) {
    const events = yield* Stream.runCollect(yield* AgUi.follow({ threadId: "thread", runId, owner }))
    return events.map(({ event }) => event)
  })

  it.effect("a run ends with what its program returns, interrupts too, and is cancelled when it is aborted", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const outcome = {
        type: "interrupt" as const,
        interrupts: [{ id: "approve", reason: "tool_call", message: "Send the mail?" }]
      }
      yield* AgUi.start(input, owner, () => Effect.succeed({ outcome }))
      assert.deepStrictEqual(yield* typesOf("run"), [
        { type: EventType.RUN_STARTED, threadId: "thread", runId: "run" },
        { type: EventType.RUN_FINISHED, threadId: "thread", runId: "run", outcome }
      ])
      const { run } = yield* AgUi.start({ ...input, runId: "next" }, owner, () => Effect.never)
      yield* log.abort({ runId: run.runId })
      assert.deepStrictEqual((yield* typesOf("next")).at(-1), {
        type: EventType.RUN_FINISHED,
        threadId: "thread",
        runId: "next",
        outcome: { type: "cancelled" }
      })
    }).pipe(Effect.provide(layer)))

  it.effect("RUN-11 RUN-18 unknown runs, another's run and broken cursors are errors with a code", () =>
    Effect.gen(function*() {
      yield* AgUi.start(input, owner, () => Effect.void)
      yield* typesOf("run")
      const code = (options: Partial<AgUi.FollowOptions>) =>
        Effect.map(
          Effect.flip(AgUi.follow({ threadId: "thread", runId: "run", owner, ...options })),
          ({ code }) => code
        )
      assert.strictEqual(yield* code({ runId: "unknown" }), "run_not_found")
      assert.strictEqual(yield* code({ owner: { subject: "another user" } }), "run_not_found")
      assert.strictEqual(yield* code({ after: "-1" }), "malformed_cursor")
      assert.strictEqual(yield* code({ after: 99 }), "cursor_beyond_end")
    }).pipe(Effect.provide(layer)))
})
