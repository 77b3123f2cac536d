import { HttpAgent, runHttpRequest, transformHttpEventStream } from "@ag-ui/client"
import { type AGUIEvent, EventType, type RunAgentInput } from "@ag-ui/core"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as AgUi from "@sallyport/interop/AgUi"
import { ownerKey } from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import { Stopping } from "@sallyport/core/Stopping"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import { createServer } from "node:http"
import { network } from "../../../test-support/network.ts"
import { counted, database, host, slowly } from "./support.ts"

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

/** Connects to the last run of its thread, which the library leaves to agents of one's own. */
class ConnectingAgent extends HttpAgent {
  protected override connect(input: RunAgentInput) {
    const events = runHttpRequest(() => this.fetch(`${this.url}/connect`, this.requestInit(input)))
    return transformHttpEventStream(events)
  }
}

describe("AgUi over a network", () => {
  it.live("RUN-10 RUN-18: a page that connects to a thread follows its last run, without a second execution, and gets none if there is none", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const wire = yield* network(server)
      const connect = (url: string, onText: (text: string) => void = () => {}) =>
        Effect.promise(async () => {
          const agent = new ConnectingAgent({ url: `${url}/agui`, fetch: fetchQuietly, threadId: "thread" })
          const result = await agent.connectAgent({}, {
            onTextMessageContentEvent: ({ event, textMessageBuffer }) => onText(textMessageBuffer + event.delta)
          }).then(({ result }: { readonly result: unknown }) => result, (error: unknown) => error)
          return { result, text: agent.messages.map(({ content }) => content).join("") }
        })
      assert.deepStrictEqual(yield* connect(server.url), { result: undefined, text: "" })
      yield* runAgent(server.url, "before", { n: 1, threadId: "thread" })
      const reached = yield* Deferred.make<void>()
      const running = yield* Effect.forkChild(runAgent(server.url, "last", {
        n: 60,
        threadId: "thread",
        onText: (text) => {
          if (text === counted(5)) Deferred.doneUnsafe(reached, Effect.void)
        }
      }))
      yield* Deferred.await(reached)
      const cut = yield* connect(wire.url, (text) => {
        if (text === counted(10)) wire.cut()
      })
      assert.instanceOf(cut.result, Error)
      wire.join(server)
      const whole = { result: { counted: 60 }, text: counted(60) }
      assert.deepStrictEqual(yield* connect(wire.url), whole)
      yield* Fiber.join(running)
      assert.deepStrictEqual(yield* connect(server.url), whole)
      assert.strictEqual((yield* server.executions).begun, 2)
      const broken = yield* Effect.promise(() => fetch(`${server.url}/agui/connect`, { method: "POST", body: "{}" }))
      assert.strictEqual(broken.status, 400)
    }))

  it.live("RUN-01 L-70: a client that is cut off runs again with the same id, and gets the whole run without a second one", () =>
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

  it.live("RUN-08: a request with Last-Event-ID gets what follows", () =>
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

  it.live("RUN-11: a request with a Last-Event-ID of no run, or with one that is none, starts no run", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const post = (runId: string, cursor: string) =>
        Effect.promise(async () => {
          const response = await fetch(`${server.url}/agui`, {
            method: "POST",
            headers: { "content-type": "application/json", "last-event-id": cursor },
            body: JSON.stringify({
              threadId: runId,
              runId,
              state: { n: 1 },
              messages: [],
              tools: [],
              context: [],
              forwardedProps: {}
            })
          })
          const text = await response.text()
          return [response.status, response.status === 200 ? "events" : JSON.parse(text).code]
        })
      for (const cursor of ["abc", "3", "latest"]) {
        assert.deepStrictEqual(yield* post("new", cursor), [404, "run_not_found"], cursor)
      }
      assert.strictEqual((yield* server.executions).begun, 0)
      assert.deepStrictEqual(yield* post("new", "0"), [200, "events"])
      assert.deepStrictEqual(yield* post("new", "abc"), [400, "malformed_cursor"])
      assert.deepStrictEqual(yield* post("new", "99"), [409, "cursor_beyond_end"])
      assert.strictEqual((yield* server.executions).begun, 1)
    }))

  it.live("L-84 RUN-07: when the process is killed, a client that runs again gets what was stored and one RUN_ERROR", () =>
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

describe("AgUi on a server that stops", () => {
  it.live("C-79 HTTP-04: ends its stream at once, whole; the run ends as one of a server that was shut down", () =>
    Effect.scoped(Effect.gen(function*() {
      const scope = yield* Scope.make()
      const executing = yield* Deferred.make<void>()
      const stopping = yield* Deferred.make<void>()
      const program: AgUi.Program<AgUi.AgUiError, never> = (_input, emit) =>
        emit({ type: EventType.TEXT_MESSAGE_START, messageId: "message", role: "assistant" }).pipe(
          Effect.andThen(Deferred.succeed(executing, undefined)),
          Effect.andThen(Effect.never)
        )
      const repository = yield* Layer.buildWithScope(RunEventRepository.layerMemory, yield* Effect.scope)
      const server = HttpRouter.serve(HttpRouter.add("POST", "/agui", AgUi.handle({ subject: "someone" }, program)), {
        disableLogger: true,
        disableListenLog: true
      }).pipe(
        Layer.provide([RunEventLog.layer, Layer.succeed(Stopping, Deferred.await(stopping))]),
        Layer.provide([Layer.succeedContext(repository), NodeCrypto.layer]),
        // The stop would wait for an hour if the stream went on, and the test runs out of time.
        Layer.provideMerge(
          NodeHttpServer.layer(createServer, {
            host: "127.0.0.1",
            port: 0,
            gracefulShutdownTimeout: "1 hour"
          })
        )
      )
      const { address } = Context.get(yield* Layer.buildWithScope(server, scope), HttpServer.HttpServer)
      const reading = yield* Effect.forkScoped(Effect.promise(() =>
        fetch(`${HttpServer.formatAddress(address)}/agui`, {
          method: "POST",
          headers: { "content-type": "application/json", connection: "close" },
          body: JSON.stringify({
            threadId: "thread",
            runId: "run",
            state: {},
            messages: [],
            tools: [],
            context: [],
            forwardedProps: {}
          })
        }).then((response) => response.text())
      ))
      yield* Deferred.await(executing)
      yield* Deferred.succeed(stopping, undefined)
      yield* Scope.close(scope, Exit.void)
      // A body that was cut off would have been an error.
      assert.include(yield* Fiber.join(reading), "RUN_STARTED")
      const [run] = yield* Context.get(repository, RunEventRepository.RunEventRepository).list({
        ownerKey: ownerKey({ subject: "someone" }),
        threadId: undefined,
        status: undefined,
        after: undefined,
        limit: 1
      })
      assert.deepInclude(run, { status: "failed", endReason: "server_shutdown" })
    })))
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

  it.effect("RUN-11 RUN-18: unknown runs, another's run and broken cursors are errors with a code", () =>
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

  /** Hands events to the library's client, which verifies that they are a run, and returns why they are none. */
  const verified = (events: ReadonlyArray<AGUIEvent>) =>
    Effect.promise(async () => {
      const body = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("")
      const agent = new HttpAgent({
        url: "http://127.0.0.1/agui",
        fetch: async () => new Response(body, { headers: { "content-type": "text/event-stream" } })
      })
      return await agent.runAgent({ runId: "run" }).then(() => undefined, (error: unknown) => String(error))
    })

  const part = (kind: number, id: string): readonly [AgUi.ProgramEvent, AgUi.ProgramEvent] => {
    const messageId = id
    switch (kind) {
      case 0:
        return [
          { type: EventType.TEXT_MESSAGE_START, messageId, role: "assistant" },
          { type: EventType.TEXT_MESSAGE_END, messageId }
        ]
      case 1:
        return [
          { type: EventType.TOOL_CALL_START, toolCallId: id, toolCallName: "tool" },
          { type: EventType.TOOL_CALL_END, toolCallId: id }
        ]
      case 2:
        return [{ type: EventType.REASONING_START, messageId }, { type: EventType.REASONING_END, messageId }]
      case 3:
        return [
          { type: EventType.REASONING_MESSAGE_START, messageId, role: "reasoning" },
          { type: EventType.REASONING_MESSAGE_END, messageId }
        ]
      case 4:
        return [{ type: EventType.STEP_STARTED, stepName: id }, { type: EventType.STEP_FINISHED, stepName: id }]
      case 5:
        return [
          { type: EventType.STEP_STARTED, stepName: "step", subagentRunId: id },
          { type: EventType.STEP_FINISHED, stepName: "step", subagentRunId: id }
        ]
      default:
        return [
          { type: EventType.SUBAGENT_STARTED, subagentRunId: id, name: "subagent" },
          { type: EventType.SUBAGENT_FINISHED, subagentRunId: id }
        ]
    }
  }

  it.live(
    "C-71: what is sent is a run to the library, wherever it is stopped or resumed and however slow the store is",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.tuple(fc.nat(6), fc.constantFrom("", "a", "b")), { maxLength: 12 }),
            fc.constantFrom("returned", "failed", "died", "stopped", "never begun"),
            fc.nat(20),
            fc.nat(2),
            (toggles, how, cut, delayMillis) =>
              Effect.runPromise(
                Effect.gen(function*() {
                  const log = yield* RunEventLog.RunEventLog
                  const reached = yield* Deferred.make<void>()
                  const key = { threadId: "ag-ui/thread", idempotencyKey: "ag-ui/run", owner }
                  if (how === "never begun") yield* log.abort(key)
                  yield* AgUi.start(
                    input,
                    owner,
                    Effect.fnUntraced(function*(_input, emit) {
                      const open = new Set<string>()
                      for (const [kind, id] of toggles) {
                        const name = `${kind}${id}`
                        // A subagent is not begun again.
                        if (kind === 6 && open.has(`${name}!`)) continue
                        const [start, end] = part(kind, id)
                        yield* emit(open.has(name) ? end : start)
                        if (!open.delete(name)) open.add(name).add(`${name}!`)
                      }
                      yield* Deferred.succeed(reached, void 0)
                      if (how === "failed") return yield* Effect.fail("failed")
                      if (how === "died") return yield* Effect.die("died")
                      if (how === "stopped") return yield* Effect.never
                    })
                  )
                  if (how === "stopped") {
                    yield* Deferred.await(reached)
                    yield* log.abort(key)
                  }
                  const follow = (after?: number) =>
                    Effect.flatMap(
                      AgUi.follow({ threadId: "thread", runId: "run", owner, after }),
                      (events) => Stream.runCollect(events)
                    )
                  const whole = yield* follow()
                  const connected = yield* AgUi.connect({ threadId: "thread", owner })
                  assert.deepStrictEqual(
                    yield* Stream.runCollect(Option.getOrElse(connected, () => Stream.empty)),
                    whole
                  )
                  assert.isUndefined(yield* verified(whole.map(({ event }) => event)))
                  const last = whole.at(-1)?.event.type
                  assert.strictEqual(
                    last,
                    how === "failed" || how === "died" ? EventType.RUN_ERROR : EventType.RUN_FINISHED
                  )
                  const stored = whole.flatMap(({ cursor }) => Option.toArray(cursor))
                  const after = stored[cut % stored.length] ?? 0
                  const seen = whole.filter(({ cursor }) => Option.exists(cursor, (seq) => seq <= after))
                  if (last === seen.at(-1)?.event.type) return
                  const resumed = [...seen, ...(yield* follow(after))]
                  assert.isUndefined(yield* verified(resumed.map(({ event }) => event)))
                  assert.deepStrictEqual(
                    resumed.slice(seen.length),
                    whole.slice(whole.length - (resumed.length - seen.length))
                  )
                }).pipe(Effect.provide(slowly(delayMillis)))
              )
          ),
          { numRuns: 150 }
        )
      ),
    60_000
  )

  it.effect("C-72: the head of an answer goes out at once, and tells those between to pass it on as it is", () =>
    Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      yield* AgUi.start(input, owner, () => Effect.andThen(Deferred.succeed(begun, void 0), Effect.never))
      yield* Deferred.await(begun)
      const events = yield* AgUi.follow({ threadId: "thread", runId: "run", owner, after: 1 })
      const response = HttpServerResponse.toWeb(AgUi.respond(events))
      assert.strictEqual(response.headers.get("cache-control"), "no-cache, no-transform")
      const reader = response.body?.getReader()
      const first = yield* Effect.promise(async () => await reader?.read())
      assert.strictEqual(new TextDecoder().decode(first?.value), ":\n\n")
      yield* Effect.promise(async () => await reader?.cancel())
    }).pipe(Effect.provide(layer)))
})
