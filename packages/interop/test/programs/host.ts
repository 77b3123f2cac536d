/**
 * Serves each library through this package, on an SQLite file. The tests that start this program cut its connections
 * and kill it.
 *
 * Every endpoint counts to `n`, slowly. `GET /executions` says how many counts began and how many finished; `GET
 * /answers` how many answers of MCP are stored.
 */
import { EventType } from "@ag-ui/core"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import {
  WebStandardStreamableHTTPServerTransport as McpTransport
} from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import { createMcpHandler, McpServer as TaskServer } from "@modelcontextprotocol/server"
import * as AgUi from "@sallyport/interop/AgUi"
import * as AiSdk from "@sallyport/interop/AiSdk"
import * as AssistantStream from "@sallyport/interop/AssistantStream"
import * as Mcp from "@sallyport/interop/Mcp"
import * as McpTasks from "@sallyport/interop/McpTasks"
import * as TanstackAi from "@sallyport/interop/TanstackAi"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import {
  EventType as ChunkType,
  resumeServerSentEventsResponse,
  type StreamChunk,
  toServerSentEventsResponse
} from "@tanstack/ai"
import {
  createResumableAssistantStreamResponse,
  createResumableStreamContext,
  createResumeAssistantStreamResponse
} from "assistant-stream/resumable"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"

const [filename = ""] = process.argv.slice(2)

const owner = { subject: "someone" }
const executions = { begun: 0, done: 0 }

/** Counts from 1, slowly; to `Infinity` if the test kills it. */
async function* numbers(n: number) {
  executions.begun++
  for (let i = 1; i <= n; i++) {
    yield i
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  executions.done++
}

const countOf = (request: Request) => Number(new URL(request.url).searchParams.get("n"))

async function* model(runId: string, n: number): AsyncIterable<StreamChunk> {
  const threadId = "thread"
  yield { type: ChunkType.RUN_STARTED, threadId, runId }
  yield { type: ChunkType.TEXT_MESSAGE_START, messageId: "message", role: "assistant" }
  for await (const i of numbers(n)) {
    yield { type: ChunkType.TEXT_MESSAGE_CONTENT, messageId: "message", delta: `${i} ` }
  }
  yield { type: ChunkType.TEXT_MESSAGE_END, messageId: "message" }
  yield { type: ChunkType.RUN_FINISHED, threadId, runId }
}

const tanstack = Effect.fnUntraced(function*(request: Request) {
  const adapter = yield* TanstackAi.make(request, { owner: { subject: request.headers.get("x-subject") ?? "someone" } })
  return request.method === "GET"
    ? resumeServerSentEventsResponse({ adapter })
    : toServerSentEventsResponse(model(request.headers.get("x-run-id") ?? "", countOf(request)), {
      durability: { adapter, batch: 1 }
    })
})

const makeAssistant = Effect.gen(function*() {
  const context = createResumableStreamContext({ store: yield* AssistantStream.make({ owner }) })
  return (request: Request) => {
    const streamId = new URL(request.url).searchParams.get("id") ?? ""
    switch (request.method) {
      case "GET":
        return createResumeAssistantStreamResponse({ context, streamId })
      case "DELETE":
        return context.delete(streamId).then(() => new Response(null, { status: 204 }))
      default:
        return createResumableAssistantStreamResponse({
          context,
          streamId,
          callback: async (controller) => {
            for await (const i of numbers(countOf(request))) controller.appendText(`${i} `)
          }
        })
    }
  }
})

const mcpServer = () => {
  const server = new McpServer({ name: "counter", version: "1.0.0" })
  server.registerTool("count", {}, async ({ _meta, sendNotification }) => {
    const progressToken = _meta?.progressToken ?? ""
    for await (const progress of numbers(40)) {
      await sendNotification({ method: "notifications/progress", params: { progressToken, progress } })
    }
    return { content: [{ type: "text", text: "counted" }] }
  })
  return server
}

const transports = new Map<string, McpTransport>()
let answers = 0

const mcp = Effect.fnUntraced(function*(request: Request) {
  const given = request.headers.get("mcp-session-id")
  const known = transports.get(given ?? "")
  if (known !== undefined) return yield* Effect.promise(() => known.handleRequest(request))
  const session = given ?? crypto.randomUUID()
  const store = yield* Mcp.make({ owner, session })
  const transport = new McpTransport({
    eventStore: {
      ...store,
      storeEvent: async (streamId, message) => {
        const eventId = await store.storeEvent(streamId, message)
        if ("result" in message) answers++
        return eventId
      }
    },
    retryInterval: 20,
    // A session of an earlier process is not begun again; the messages that its clients have missed are still replayed.
    ...(given === null ? { sessionIdGenerator: () => session } : {})
  })
  if (given === null) transports.set(session, transport)
  return yield* Effect.promise(async () => {
    await mcpServer().connect(transport)
    return transport.handleRequest(request)
  })
})

const agent: AgUi.Program<AgUi.AgUiError, never> = (input, emit) =>
  Effect.gen(function*() {
    const n = Number(input.state?.n)
    if (n === 0) return yield* Effect.die("nothing to count")
    executions.begun++
    yield* emit({ type: EventType.TEXT_MESSAGE_START, messageId: "message", role: "assistant" })
    for (let i = 1; i <= n; i++) {
      yield* emit({ type: EventType.TEXT_MESSAGE_CONTENT, messageId: "message", delta: `${i} ` })
      yield* Effect.sleep("10 millis")
    }
    yield* emit({ type: EventType.TEXT_MESSAGE_END, messageId: "message" })
    return { result: { counted: n } }
  })

const chat: AiSdk.Program<AiSdk.AiSdkError, never> = ({ body }, { emit }) =>
  Effect.gen(function*() {
    const n = Number(body.n)
    if (n === 0) return yield* Effect.die("nothing to count")
    executions.begun++
    yield* emit({ type: "text-start", id: "text" })
    for (let i = 1; i <= n; i++) {
      yield* emit({ type: "text-delta", id: "text", delta: `${i} ` })
      yield* Effect.sleep("10 millis")
    }
    yield* emit({ type: "text-end", id: "text" })
    return { finishReason: "stop", messageMetadata: { counted: n } }
  })

/** Serves tasks by the SDK's second version, for each request by a server of its own. */
const makeMcpTasks = Effect.gen(function*() {
  const tasks = yield* McpTasks.make({ owner, pollInterval: "10 millis" })
  const runPromise = Effect.runPromiseWith(yield* Effect.context<never>())
  const handler = createMcpHandler(() => {
    const server = new TaskServer({ name: "counter", version: "1.0.0" })
    tasks.install(server.server)
    for (const [name, n] of [["count", 40], ["endless", Infinity]] as const) {
      server.registerTool(name, {}, (context) =>
        runPromise(tasks.call(context, () =>
          Effect.promise(async () => {
            for await (const _ of numbers(n));
            return { content: [{ type: "text" as const, text: "counted" }] }
          }))))
    }
    return server
  })
  return (request: Request) => Effect.promise(() => handler.fetch(request))
})

const web = <E, R>(handle: (request: Request) => Effect.Effect<Response, E, R>) =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    return HttpServerResponse.fromWeb(yield* handle(yield* HttpServerRequest.toWeb(request)))
  })

const Routes = HttpRouter.use((router) =>
  Effect.gen(function*() {
    const assistant = yield* makeAssistant
    const mcpTasks = yield* makeMcpTasks
    yield* router.add("*", "/tanstack", web(tanstack))
    yield* router.add("*", "/assistant", web((request) => Effect.promise(() => assistant(request))))
    yield* router.add("*", "/mcp", web(mcp))
    yield* router.add("*", "/mcp2", web(mcpTasks))
    yield* router.add("POST", "/agui", AgUi.handle(owner, agent))
    yield* router.add("POST", "/agui/connect", AgUi.handleConnect(owner))
    yield* router.add("POST", "/chat", AiSdk.handle(owner, chat))
    yield* router.add("GET", "/chat/:id/stream", AiSdk.handleResume(owner))
    yield* router.add("DELETE", "/chat/:id/stream", AiSdk.handleStop(owner))
    yield* router.add("GET", "/answers", Effect.sync(() => HttpServerResponse.jsonUnsafe(answers)))
    yield* router.add("GET", "/executions", Effect.sync(() => HttpServerResponse.jsonUnsafe(executions)))
  })
)

const announce = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  yield* Effect.sync(() => process.stdout.write(`${JSON.stringify({ url: HttpServer.formatAddress(address) })}\n`))
}))

const Server = HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.merge(announce),
  Layer.provide(NodeHttpServer.layer(createServer, {
    host: "127.0.0.1",
    port: 0,
    gracefulShutdownTimeout: "1 second"
  })),
  Layer.provide(RunEventLog.layerReaper({ interval: "50 millis" })),
  Layer.provide(RunEventLog.layerWith({ heartbeatInterval: "300 millis", lease: "3 seconds" })),
  Layer.provide(DurableStreams.layer),
  Layer.provide([SqlRunEventRepository.layer, SqlDurableStreamRepository.layer]),
  Layer.provide([SqliteClient.layer({ filename }), NodeCrypto.layer])
)

Layer.launch(Server).pipe(NodeRuntime.runMain)
