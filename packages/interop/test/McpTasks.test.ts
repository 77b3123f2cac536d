import { assert, describe, it } from "@effect/vitest"
import { Client, ProtocolError, StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import { createMcpHandler, McpServer, Server } from "@modelcontextprotocol/server"
import type { CallToolResult } from "@modelcontextprotocol/server"
import * as McpTasks from "@sallyport/interop/McpTasks"
import type { RunOwner } from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as fc from "fast-check"
import { network } from "../../../test-support/network.ts"
import { database, host, node, slowly } from "./support.ts"

const Task = Schema.Struct({
  taskId: Schema.String,
  status: Schema.Literals(["working", "input_required", "completed", "failed", "cancelled"]),
  statusMessage: Schema.optionalKey(Schema.String),
  createdAt: Schema.String,
  lastUpdatedAt: Schema.String,
  ttlMs: Schema.NullOr(Schema.Int),
  pollIntervalMs: Schema.Int,
  result: Schema.optionalKey(Schema.Json),
  error: Schema.optionalKey(Schema.Struct({ code: Schema.Int, message: Schema.String })),
  inputRequests: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json))
})
const decodeTask = Schema.decodeUnknownSync(Task)
const task = Schema.toStandardSchemaV1(Task)
const ack = Schema.toStandardSchemaV1(Schema.Struct({}))

type Fetch = (url: string | URL, init?: RequestInit) => Promise<Response>

/**
 * Lets the SDK's client see a task, which the client of this version refuses as an answer to a tool call: the answer says that
 * it is complete.
 */
const seeingTasks = (fetch: Fetch): Fetch => async (url, init) => {
  const response = await fetch(url, init)
  if (!response.ok || !String(init?.body).includes("\"tools/call\"")) return response
  const text = await response.text()
  return new Response(text.replace("\"resultType\":\"task\"", "\"resultType\":\"complete\""), response)
}

const connect = (
  fetch: Fetch,
  url = "http://127.0.0.1/mcp",
  capabilities: object = { extensions: { [McpTasks.extension]: {} }, elicitation: {} }
) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ name: "client", version: "1.0.0" }, {
        capabilities,
        versionNegotiation: { mode: { pin: "2026-07-28" } }
      })
      await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: seeingTasks(fetch) }))
      return client
    }),
    (client) => Effect.promise(() => client.close())
  )

const call = (client: Client, name = "work") => Effect.promise(() => client.callTool({ name, arguments: {} }))
const start = (client: Client, name?: string) => Effect.map(call(client, name), (result) => decodeTask(result))
const get = (client: Client, taskId: string) =>
  Effect.promise(() => client.request({ method: "tasks/get", params: { taskId } }, task))
const update = (client: Client, taskId: string, inputResponses: object) =>
  Effect.promise(() => client.request({ method: "tasks/update", params: { taskId, inputResponses } }, ack))
const cancel = (client: Client, taskId: string) =>
  Effect.promise(() => client.request({ method: "tasks/cancel", params: { taskId } }, ack))

const ended = (client: Client, taskId: string) =>
  Effect.repeat(get(client, taskId), {
    until: ({ status }) => status !== "working" && status !== "input_required",
    schedule: Schedule.spaced("10 millis")
  })

type Program = (
  run: RunEventLog.RunWriter
) => Effect.Effect<CallToolResult | void, unknown, Scope.Scope>

/** Serves a tool, with the handler of the SDK for each request. */
const serve = Effect.fnUntraced(function*(
  program: Program,
  options: McpTasks.CallOptions = {},
  owner: RunOwner = { subject: "someone" }
) {
  const tasks = yield* McpTasks.make({ owner, pollInterval: "5 millis" })
  const runPromise = Effect.runPromiseWith(yield* Effect.context<never>())
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: "server", version: "1.0.0" })
    tasks.install(server.server)
    server.registerTool("work", {}, (context) => runPromise(tasks.call(context, program, options)))
    return server
  })
  yield* Effect.addFinalizer(() => Effect.promise(() => handler.close()))
  return ((url, init) => handler.fetch(new Request(url, init))) satisfies Fetch
})

const done: CallToolResult = { content: [{ type: "text", text: "done" }] }

describe("McpTasks", () => {
  it.live("RUN-07 L-84: a task outlives the connections and the process; one whose process died is failed", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const server = yield* host(filename)
      const wire = yield* network(server)
      const client = yield* connect(fetch, `${wire.url}/mcp2`)
      const { status, taskId, ttlMs } = yield* start(client, "count")
      assert.strictEqual(status, "working")
      assert.isNull(ttlMs)
      wire.cut()
      yield* Effect.flip(Effect.tryPromise(() => client.request({ method: "tasks/get", params: { taskId } }, task)))
      wire.join(server)
      assert.deepStrictEqual((yield* ended(client, taskId)).result, { content: [{ type: "text", text: "counted" }] })
      const endless = yield* start(client, "endless")
      assert.strictEqual((yield* get(client, endless.taskId)).status, "working")
      yield* server.stop("SIGKILL")
      const next = yield* host(filename)
      wire.join(next)
      assert.strictEqual((yield* get(client, taskId)).status, "completed")
      const dead = yield* ended(client, endless.taskId)
      assert.strictEqual(dead.status, "failed")
      assert.deepStrictEqual(dead.error, { code: -32603, message: "The server that executed the run has gone" })
      assert.strictEqual((yield* next.executions).begun, 0)
    }))

  it.live("RUN-18: an unknown, foreign or malformed task is -32602; a client without the extension is -32021, or waits for the result", () =>
    Effect.gen(function*() {
      const program = (run: RunEventLog.RunWriter) => Effect.as(run.append({ progress: { done: 1, total: 2 } }), done)
      const fetch = yield* serve(program)
      const client = yield* connect(fetch)
      const { taskId } = yield* start(client)
      const finished = yield* ended(client, taskId)
      assert.strictEqual(finished.status, "completed")
      assert.strictEqual(Math.round((finished.ttlMs ?? 0) / 3_600_000), 24)
      const stranger = yield* connect(yield* serve(program, {}, { subject: "another" }))
      const log = yield* RunEventLog.RunEventLog
      const { run } = yield* log.start({
        threadId: "thread",
        idempotencyKey: "key",
        request: {},
        owner: { subject: "someone" }
      })
      const refused: ReadonlyArray<readonly [Client, string]> = [
        [stranger, taskId],
        [client, "unknown"],
        [client, "01a227b9-b871-7626-b4c1-b91fe6319263"],
        // A run that is no task.
        [client, run.runId]
      ]
      for (const [of, id] of refused) {
        for (const method of ["tasks/get", "tasks/update", "tasks/cancel"]) {
          const error = yield* Effect.flip(
            Effect.tryPromise(() => of.request({ method, params: { taskId: id, inputResponses: {} } }, ack))
          )
          assert.isTrue(error.cause instanceof ProtocolError && error.cause.code === -32602, `${method} ${id}`)
        }
      }
      const plain = yield* connect(fetch, undefined, {})
      assert.deepStrictEqual((yield* call(plain)).content, done.content)
      const error = yield* Effect.flip(
        Effect.tryPromise(() => plain.request({ method: "tasks/get", params: { taskId } }, task))
      )
      assert.include(JSON.stringify(error.cause), McpTasks.extension)
      const strict = yield* connect(yield* serve(program, { taskOnly: true }), undefined, {})
      assert.isTrue((yield* call(strict)).isError)
      // A server of the SDK's lower level tells the client what it lacks.
      const tasks = yield* McpTasks.make({ owner: { subject: "someone" } })
      const runPromise = Effect.runPromiseWith(yield* Effect.context<never>())
      const lower = createMcpHandler(() => {
        const server = new Server({ name: "server", version: "1.0.0" }, { capabilities: { tools: {} } })
        tasks.install(server)
        server.setRequestHandler(
          "tools/call",
          (_request, context) => runPromise(tasks.call(context, program, { taskOnly: true }))
        )
        return server
      })
      const answers: Array<number> = []
      const watching: Fetch = async (url, init) => {
        const response = await lower.fetch(new Request(url, init))
        answers.push(response.status)
        return response
      }
      const lacking = yield* connect(watching, undefined, {})
      const refusedCall = yield* Effect.flip(Effect.tryPromise(() => lacking.callTool({ name: "work", arguments: {} })))
      assert.include(JSON.stringify(refusedCall.cause), McpTasks.extension)
      assert.strictEqual(answers.at(-1), 400)
      // The same key is the same task.
      const keyed = yield* connect(yield* serve(program, { idempotencyKey: "once" }))
      assert.strictEqual((yield* start(keyed)).taskId, (yield* start(keyed)).taskId)
    }).pipe(Effect.provide(slowly(0))))

  it.live("RUN-20 RUN-12 RUN-07: a task of one node is read, answered and cancelled through another", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const stopped: Array<string> = []
      const travels = yield* Deferred.make<void>()
      const program: Program = (run) =>
        Effect.gen(function*() {
          const answer = yield* run.ask("where", "To where?")
          if (JSON.stringify(answer).includes("mars")) return { content: [], structuredContent: { answer } }
          yield* Effect.onInterrupt(
            Effect.andThen(Deferred.succeed(travels, undefined), Effect.never),
            () => Effect.sync(() => stopped.push(run.run.runId))
          )
        })
      const nodeOf = Effect.map(Layer.build(node(filename)), (log) => Effect.provideContext(serve(program), log))
      const [first, second] = yield* Effect.all([Effect.flatten(nodeOf), Effect.flatten(nodeOf)])
      const [here, there] = yield* Effect.all([connect(first), connect(second)])
      const until = (client: Client, taskId: string, status: string) =>
        Effect.repeat(get(client, taskId), { until: (now) => now.status === status, schedule: Schedule.spaced(5) })

      const { taskId } = yield* start(here)
      const asking = yield* until(there, taskId, "input_required")
      assert.deepStrictEqual(Object.keys(asking.inputRequests ?? {}), ["where"])
      const answer = { action: "accept", content: { to: "mars" } }
      yield* update(there, taskId, { where: answer })
      const both = yield* Effect.forEach([here, there], (client) => until(client, taskId, "completed"))
      for (const { result } of both) {
        assert.deepStrictEqual<unknown>(result, { content: [], structuredContent: { answer } })
      }

      const long = yield* start(here)
      yield* until(there, long.taskId, "input_required")
      yield* update(there, long.taskId, { where: { action: "decline" } })
      yield* Deferred.await(travels)
      yield* cancel(there, long.taskId)
      yield* until(here, long.taskId, "cancelled")
      // The node that executes it hears of it by its next heartbeat.
      yield* Effect.repeat(Effect.sync(() => stopped.length), { until: (n) => n > 0, schedule: Schedule.spaced(5) })
      assert.deepStrictEqual(stopped, [long.taskId])
      yield* cancel(here, long.taskId)
    }))

  it.live("RUN-20: a client without forms is told that the task waits; one with them answers, once", () =>
    Effect.gen(function*() {
      const asked = {
        message: "To where?",
        requestedSchema: { type: "object", properties: { to: { type: "string" } } }
      }
      const fetch = yield* serve((run) =>
        Effect.map(run.ask("where", asked), (answer) => ({ content: [], structuredContent: { answer } }))
      )
      const without = yield* connect(fetch, undefined, { extensions: { [McpTasks.extension]: {} } })
      const { taskId } = yield* start(without)
      const waiting = yield* Effect.repeat(get(without, taskId), {
        until: ({ statusMessage }) => statusMessage !== undefined
      })
      assert.deepInclude(waiting, { status: "working", statusMessage: "The task waits for an answer" })
      const client = yield* connect(fetch)
      assert.deepStrictEqual((yield* get(client, taskId)).inputRequests, {
        where: { method: "elicitation/create", params: { mode: "form", ...asked } }
      })
      const answer = { action: "accept", content: { to: "mars" } }
      yield* update(client, taskId, { unknown: answer })
      yield* update(client, taskId, { where: answer })
      yield* update(client, taskId, { where: { action: "decline" } })
      assert.deepStrictEqual((yield* ended(client, taskId)).result, { content: [], structuredContent: { answer } })
      yield* update(client, taskId, { where: answer })
      yield* cancel(client, taskId)
      assert.strictEqual((yield* get(client, taskId)).status, "completed")
    }).pipe(Effect.provide(slowly(0))))

  it.live(
    "C-70: a task is what its run is, whatever that does, wherever it is cancelled, and however slow the store is",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.constantFrom("append" as const, "ask" as const, "both" as const), { maxLength: 6 }),
            fc.constantFrom("returned" as const, "nothing" as const, "failed" as const, "died" as const),
            fc.option(fc.nat(8)),
            fc.constantFrom(0, 3, 10),
            (steps, how, cancelAt, delayMillis) =>
              Effect.runPromise(
                Effect.scoped(Effect.gen(function*() {
                  const fetch = yield* serve(Effect.fnUntraced(function*(run) {
                    const total = steps.length
                    for (const [done, step] of steps.entries()) {
                      if (step === "append") yield* run.append({ progress: { done, total } })
                      else if (step === "ask") yield* run.ask(`q${done}`, "Go on?")
                      else {
                        yield* Effect.all([
                          run.ask(`a${done}`, { message: "A?" }),
                          run.ask(`b${done}`, { message: "B?" })
                        ], {
                          concurrency: 2
                        })
                      }
                    }
                    if (how === "failed") return yield* Effect.fail("failed")
                    if (how === "died") return yield* Effect.die("died")
                    return how === "returned" ? done : undefined
                  }))
                  const client = yield* connect(fetch)
                  const { taskId } = yield* start(client)
                  const asked = new Set<string>()
                  let last = ""
                  for (let turn = 0;; turn++) {
                    if (turn === cancelAt) yield* cancel(client, taskId)
                    const now = yield* get(client, taskId)
                    assert.strictEqual(now.taskId, taskId)
                    assert.isTrue(now.lastUpdatedAt >= now.createdAt && now.lastUpdatedAt >= last)
                    last = now.lastUpdatedAt
                    if (now.status === "working") {
                      assert.isNull(now.ttlMs)
                      yield* Effect.sleep(1)
                      continue
                    }
                    if (now.status === "input_required") {
                      const names = Object.keys(now.inputRequests ?? {})
                      assert.isNotEmpty(names)
                      // One at a time, some with a key that is none.
                      for (const name of names) asked.add(name)
                      yield* update(client, taskId, { [names[0] ?? ""]: { action: "accept" }, [`no${turn}`]: {} })
                      continue
                    }
                    if (now.status === "cancelled") assert.isNotNull(cancelAt)
                    else {
                      assert.strictEqual(now.status, "completed")
                      assert.strictEqual(
                        asked.size,
                        steps.reduce((n, step) => n + ["append", "ask", "both"].indexOf(step), 0)
                      )
                      const failed = { content: [{ type: "text", text: "The run failed" }], isError: true }
                      assert.deepStrictEqual<unknown>(
                        now.result,
                        how === "returned" ? done : how === "nothing" ? { content: [] } : failed
                      )
                    }
                    assert.isNotNull(now.ttlMs)
                    return
                  }
                })).pipe(Effect.provide(Layer.merge(slowly(delayMillis), Logger.layer([]))))
              )
          ),
          { numRuns: 30 }
        )
      ),
    120_000
  )
})
