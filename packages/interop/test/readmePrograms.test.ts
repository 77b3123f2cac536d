import { EventType as AgUiEventType } from "@ag-ui/core"
import { Chat } from "@ai-sdk/react"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert } from "@effect/vitest"
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import type { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { McpHttpHandler } from "@modelcontextprotocol/server"
import * as McpTasks from "@sallyport/interop/McpTasks"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import { EventType, type StreamChunk } from "@tanstack/ai"
import { DefaultChatTransport, type UIMessage } from "ai"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"
import { type Driver, load, suite } from "../../../test-support/readmes.ts"

const Runs = RunEventLog.layer.pipe(Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer]))

const textOf = (response: Promise<Response>) => Effect.promise(async () => (await response).text())

let answers = 0

async function* answer(): AsyncIterable<StreamChunk> {
  answers++
  yield { type: EventType.RUN_STARTED, threadId: "thread", runId: "run" }
  yield { type: EventType.TEXT_MESSAGE_START, messageId: "message", role: "assistant" }
  yield { type: EventType.TEXT_MESSAGE_CONTENT, messageId: "message", delta: "Hello" }
  yield { type: EventType.TEXT_MESSAGE_END, messageId: "message" }
  yield { type: EventType.RUN_FINISHED, threadId: "thread", runId: "run" }
}

const tanstack: Driver = Effect.fnUntraced(function*(program) {
  // What the program declares: the model of a host, and its users.
  yield* Effect.acquireRelease(
    Effect.sync(() => Object.assign(globalThis, { answer, userOf: async () => "ada" })),
    () => Effect.sync(() => ["answer", "userOf"].forEach((name) => Reflect.deleteProperty(globalThis, name)))
  )
  const { GET, POST } = yield* load<Record<"GET" | "POST", (request: Request) => Promise<Response>>>(program)
  const url = "http://127.0.0.1/chat?runId=run"
  const post = Effect.suspend(() => textOf(POST(new Request(url, { method: "POST" }))))
  const join = Effect.suspend(() => textOf(GET(new Request(`${url}&offset=-1`))))
  for (const text of yield* Effect.all([post, post, join])) {
    assert.include(text, "Hello")
    assert.include(text, EventType.RUN_FINISHED)
  }
  assert.strictEqual(answers, 1)
})

const assistant: Driver = Effect.fnUntraced(function*(program) {
  type Chat = (streamId: string) => Promise<Response>
  const { makeChat } = yield* load<{ readonly makeChat: Effect.Effect<Chat, never, RunEventLog.RunEventLog> }>(program)
  const runs = yield* Layer.build(Runs)
  const chat = yield* Effect.provide(makeChat, runs)
  assert.include(yield* textOf(chat("stream")), "Hello")
})

const mcp: Driver = Effect.fnUntraced(function*(program) {
  const { makeTransport } = yield* load<{
    readonly makeTransport: Effect.Effect<
      WebStandardStreamableHTTPServerTransport,
      never,
      DurableStreams.DurableStreams
    >
  }>(program)
  const streams = yield* Layer.build(Layer.provide(DurableStreams.layer, DurableStreamRepository.layerMemory))
  const transport = yield* Effect.provide(makeTransport, streams)
  yield* Effect.promise(() => new McpServer({ name: "server", version: "1.0.0" }).connect(transport))
  const response = transport.handleRequest(
    new Request("http://127.0.0.1/mcp", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "initialize",
        params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "client", version: "1.0.0" } }
      })
    })
  )
  const text = yield* textOf(response)
  assert.match(text, /^id: /m)
  assert.include(text, "\"serverInfo\"")
})

/** Serves the routes of a program, and returns their address. */
const served = Effect.fnUntraced(function*(program: Parameters<Driver>[0]) {
  type Requirements = HttpRouter.HttpRouter | HttpRouter.Request<"Requires", RunEventLog.RunEventLog>
  const { Routes } = yield* load<{ readonly Routes: Layer.Layer<never, never, Requirements> }>(program)
  const { address } = yield* Layer.build(
    HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provide(Runs),
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
    )
  ).pipe(Effect.flatMap((server) => Effect.provide(HttpServer.HttpServer, server)))
  return HttpServer.formatAddress(address)
})

const aisdk: Driver = Effect.fnUntraced(function*(program) {
  const api = `${yield* served(program)}/api/chat`
  const chat = (messages: Array<UIMessage>) =>
    new Chat<UIMessage>({
      id: "chat",
      messages,
      transport: new DefaultChatTransport({ api, headers: { connection: "close" } })
    })
  const first = chat([])
  yield* Effect.promise(() => first.sendMessage({ text: "Hi" }))
  const back = chat(first.messages.slice(0, 1))
  yield* Effect.promise(() => back.resumeStream())
  for (const { messages } of [first, back]) {
    assert.deepStrictEqual(messages[1]?.parts.map((part) => part.type === "text" ? part.text : part.type), ["Hello"])
  }
  const stopped = fetch(`${api}/chat/stream`, { method: "DELETE", headers: { connection: "close" } })
  assert.strictEqual((yield* Effect.promise(() => stopped)).status, 204)
})

const resumable: Driver = Effect.fnUntraced(function*(program) {
  type Stream = Effect.Effect<ReadableStream<string> | null, never, RunEventLog.RunEventLog>
  const loaded = yield* load<{ readonly program: Stream }>(program)
  const runs = yield* Layer.build(Runs)
  const stream = yield* Effect.provide(loaded.program, runs)
  assert.isNotNull(stream)
  assert.strictEqual(yield* textOf(Promise.resolve(new Response(stream))), "")
})

const mcpTasks: Driver = Effect.fnUntraced(function*(program) {
  const { makeHandler } = yield* load<{
    readonly makeHandler: Effect.Effect<McpHttpHandler, never, RunEventLog.RunEventLog>
  }>(program)
  const handler = yield* Effect.provide(makeHandler, yield* Layer.build(Runs))
  const request = (method: string, name: string, params: object) => {
    const headers = {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": method,
      "mcp-name": name
    }
    const _meta = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: "client", version: "1.0.0" },
      "io.modelcontextprotocol/clientCapabilities": { extensions: { [McpTasks.extension]: {} }, elicitation: {} }
    }
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta } })
    return Effect.promise(() =>
      handler.fetch(new Request("http://127.0.0.1/mcp", { method: "POST", headers, body })).then((answer) =>
        answer.json()
      )
    )
  }
  const { result } = yield* request("tools/call", "deploy", { name: "deploy", arguments: {} })
  assert.strictEqual(result.resultType, "task")
  const { taskId } = result
  const until = (status: string) =>
    Effect.repeat(request("tasks/get", taskId, { taskId }), { until: ({ result }) => result.status === status })
  yield* until("input_required")
  yield* request("tasks/update", taskId, { taskId, inputResponses: { sure: { action: "accept" } } })
  assert.deepStrictEqual((yield* until("completed")).result.result, {
    content: [{ type: "text", text: "{\"action\":\"accept\"}" }]
  })
})

const agui: Driver = Effect.fnUntraced(function*(program) {
  const url = yield* served(program)
  const body = { threadId: "thread", runId: "run", state: {}, messages: [], tools: [], context: [], forwardedProps: {} }
  const text = yield* textOf(fetch(`${url}/agent`, {
    method: "POST",
    headers: { "content-type": "application/json", connection: "close" },
    body: JSON.stringify(body)
  }))
  assert.include(text, "Hello")
  assert.include(text, AgUiEventType.RUN_FINISHED)
})

suite("packages/interop/README.md", aisdk, resumable, tanstack, assistant, mcp, mcpTasks, agui)
