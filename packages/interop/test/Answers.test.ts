/** The answers of chats and agents that are open when the session, or the server, ends. */
import { EventType } from "@ag-ui/core"
import { Chat } from "@ai-sdk/react"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import { Stopping } from "@sallyport/core/Stopping"
import * as Authentication from "@sallyport/http/Authentication"
import * as AgUi from "@sallyport/interop/AgUi"
import * as AiSdk from "@sallyport/interop/AiSdk"
import { DefaultChatTransport, type UIMessage } from "ai"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"
import { fuzz } from "../../../test-support/fuzz.ts"
import { eventually } from "../../../test-support/programs.ts"

const owner = Effect.map(CurrentSession, ({ subject }) => ({ subject }))

const agent: AgUi.Program<AgUi.AgUiError, never> = (_input, emit) =>
  Effect.andThen(
    emit({ type: EventType.TEXT_MESSAGE_START, messageId: "message", role: "assistant" }),
    Effect.never
  )

const answer: AiSdk.Program<AiSdk.AiSdkError, never> = (_request, { emit }) =>
  Effect.andThen(emit({ type: "text-start", id: "text" }), Effect.never)

const serveWith = Effect.fnUntraced(function*(perSession: number) {
  const stopping = yield* Deferred.make<void>()
  const routes = Layer.mergeAll(
    HttpRouter.add("POST", "/agui", Effect.flatMap(owner, (owner) => AgUi.handle(owner, agent))),
    HttpRouter.add("POST", "/agui/connect", Effect.flatMap(owner, AgUi.handleConnect)),
    HttpRouter.add("POST", "/chat", Effect.flatMap(owner, (owner) => AiSdk.handle(owner, answer))),
    HttpRouter.add("GET", "/chat/:id/stream", Effect.flatMap(owner, AiSdk.handleResume))
  ).pipe(Layer.provide(Authentication.guard(null).layer))
  const services = Layer.merge(SessionCredentialService.layer, AuthPolicy.layer({ host: "127.0.0.1" })).pipe(
    Layer.provide([Repositories.layerMemory, SecretStore.layerMemory, NodeCrypto.layer])
  )
  const context = yield* Layer.build(
    HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provide(RunEventLog.layer),
      Layer.provide([Repositories.layerMemory, NodeCrypto.layer]),
      Layer.provide([
        Layer.succeed(Stopping, Deferred.await(stopping)),
        Layer.succeed(ConnectionEnd.PerSession, perSession)
      ]),
      Layer.provideMerge(services),
      Layer.provideMerge(NodeHttpServer.layer(createServer, {
        host: "127.0.0.1",
        port: 0,
        gracefulShutdownTimeout: "1 hour"
      })),
      Layer.provide([Logger.layer([]), NodeCrypto.layer])
    )
  )
  const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
  const issued = yield* sessions.issue({
    subject: "someone",
    method: "bearer-access-token",
    scopes: [],
    device: { label: null, kind: "program", userAgent: null, address: null }
  })
  const url = HttpServer.formatAddress(Context.get(context, HttpServer.HttpServer).address)
  const headers = { authorization: `Bearer ${Redacted.value(issued.token)}`, connection: "close" }
  return { headers, session: issued.session, sessions, stop: Deferred.succeed(stopping, undefined), url }
})

const serve = serveWith(256)

/** Opens an agent's run, a connection to it, and a chat with two pages, and waits until each shows something. */
const open = Effect.fnUntraced(function*(url: string, headers: Record<string, string>) {
  const body = { threadId: "thread", runId: "run", state: {}, messages: [], tools: [], context: [], forwardedProps: {} }
  const read = Effect.fnUntraced(function*(path: string) {
    const response = yield* Effect.promise(() =>
      fetch(url + path, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
        body: JSON.stringify(body)
      })
    )
    const { readable, writable } = new TransformStream<string, string>()
    const reader = readable.getReader()
    const piped = response.body?.pipeThrough(new TextDecoderStream()).pipeTo(writable)
    let text = ""
    while (!text.includes("TEXT_MESSAGE_START")) text += (yield* Effect.promise(() => reader.read())).value ?? ""
    return Effect.promise(async () => {
      for (let next = await reader.read(); !next.done; next = await reader.read()) text += next.value
      await piped
      return text
    })
  })
  const agents = [yield* read("/agui"), yield* read("/agui/connect")]
  const page = (messages: Array<UIMessage> = []) =>
    new Chat<UIMessage>({
      id: "chat",
      messages,
      transport: new DefaultChatTransport({ api: `${url}/chat`, headers })
    })
  const started = (chat: Chat<UIMessage>) =>
    Effect.callback<void>((resume) =>
      void chat["~registerMessagesCallback"](() => {
        if ((chat.messages[1]?.parts.length ?? 0) > 0) resume(Effect.void)
      })
    )
  const first = page()
  const sending = first.sendMessage({ id: "question", role: "user", parts: [{ type: "text", text: "Go" }] })
  yield* started(first)
  const second = page(first.messages.slice(0, 1))
  const resuming = second.resumeStream()
  yield* started(second)
  return { agents, chats: [first, second], done: Effect.promise(() => Promise.all([sending, resuming])) }
})

describe("open answers", () => {
  it.live("SESS-08 L-22: end with the session, and a chat says so", () =>
    Effect.gen(function*() {
      const { headers, session, sessions, url } = yield* serve
      const { agents, chats, done } = yield* open(url, headers)
      yield* sessions.revoke(session.id, "operator")
      yield* done
      for (const chat of chats) assert.match(chat.error?.message ?? "", /^Your session has ended/)
      for (const agent of agents) assert.notInclude(yield* agent, "RUN_FINISHED")
    }))

  it.live("C-79 HTTP-04: end at once with the server; an agent's whole, a chat's cut, so that it does not look complete", () =>
    Effect.gen(function*() {
      const { headers, stop, url } = yield* serve
      const { agents, chats, done } = yield* open(url, headers)
      yield* stop
      yield* done
      for (const chat of chats) assert.instanceOf(chat.error, TypeError)
      for (const agent of agents) assert.notInclude(yield* agent, "RUN_FINISHED")
    }))
})

describe("the answers to a session", () => {
  it.live("HTTP-09: are as many at once as it may have connections; one more is refused, and begins nothing", () =>
    Effect.gen(function*() {
      const { headers, session, sessions, url } = yield* serveWith(1)
      const send = (path: string, body?: unknown, signal?: AbortSignal) =>
        Effect.promise(() =>
          fetch(url + path, {
            method: body === undefined ? "GET" : "POST",
            headers: { ...headers, "content-type": "application/json" },
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
            ...(signal === undefined ? {} : { signal })
          })
        )
      const input = (runId: string) => ({
        threadId: runId,
        runId,
        state: {},
        messages: [],
        tools: [],
        context: [],
        forwardedProps: {}
      })
      const chat = { id: "chat", messages: [{ id: "q", role: "user", parts: [{ type: "text", text: "Go" }] }] }
      const open = Effect.map(
        sessions.list(),
        (listed) => listed.find((one) => one.session.id === session.id)?.connections
      )
      const first = new AbortController()
      assert.strictEqual((yield* send("/agui", input("one"), first.signal)).status, 200)
      assert.strictEqual(yield* open, 1)
      for (
        const [path, body] of [["/agui", input("two")], ["/agui/connect", input("one")], ["/chat", chat]] as const
      ) {
        const refused = yield* send(path, body)
        assert.strictEqual(refused.status, 429, path)
        assert.strictEqual(refused.headers.get("retry-after"), "1")
        assert.strictEqual((yield* Effect.promise(() => refused.json())).code, "too_many_connections")
      }
      first.abort()
      yield* eventually(open, (count) => count === 0)
      // There is no answer to go on with: the chat's was not begun.
      assert.strictEqual((yield* send("/chat/chat/stream")).status, 204)
      yield* eventually(open, (count) => count === 0)
      const last = new AbortController()
      assert.strictEqual((yield* send("/agui", input("two"), last.signal)).status, 200)
      last.abort()
    }))
})

describe("bodies", () => {
  it.live("BOOT-11 C-06: of any bytes get an answer, which is never a defect", () =>
    Effect.gen(function*() {
      const { headers, url } = yield* serve
      const routes = [
        ...["/agui", "/agui/connect", "/chat"].map((path) => ({ method: "POST", path })),
        { method: "GET", path: "/chat/:id/stream" }
      ]
      const names =
        "threadId runId parentRunId state messages tools context forwardedProps resume id role content parts"
          .split(" ")
      yield* fuzz({
        port: Number(new URL(url).port),
        surface: { routes, names },
        credentials: Effect.succeed([`authorization: ${headers.authorization}`]),
        runs: 400,
        anonymous: false
      })
    }), 60_000)

  it.live("HTTP-04: over 256 KiB are refused, with a length and without one, and those that are no JSON as such", () =>
    Effect.gen(function*() {
      const { headers, url } = yield* serve
      const post = (path: string, body: BodyInit) =>
        Effect.promise(async () => {
          // A stream needs `duplex`, which TypeScript does not know.
          const init = {
            method: "POST",
            headers: { ...headers, "content-type": "application/json" },
            body,
            duplex: "half"
          }
          const response = await fetch(url + path, init)
          return [response.status, (await response.json()).code]
        })
      for (const path of ["/agui", "/agui/connect", "/chat"]) {
        for (const size of [256 * 1024 + 1, 8 * 1024 * 1024]) {
          const text = " ".repeat(size)
          assert.deepStrictEqual(yield* post(path, text), [413, "limit_exceeded"], path)
          assert.deepStrictEqual(yield* post(path, new Blob([text]).stream()), [413, "limit_exceeded"], path)
        }
        assert.deepStrictEqual(yield* post(path, "[".repeat(256 * 1024)), [413, "limit_exceeded"], path)
        assert.deepStrictEqual(yield* post(path, "[".repeat(8_000)), [400, "invalid_input"], path)
        const names = Array.from({ length: 1_025 }, (_, index) => `"k${index}":0`)
        assert.deepStrictEqual(yield* post(path, `{${names.join(",")}}`), [413, "limit_exceeded"], path)
        // The schemas of the libraries take microseconds for each entry, above all for one that is wrong.
        for (const list of ["messages", "tools", "context", "resume"]) {
          assert.deepStrictEqual(yield* post(path, JSON.stringify({ [list]: Array(1_025).fill(0) })), [
            413,
            "limit_exceeded"
          ])
        }
        for (const list of ["parts", "content", "toolCalls"]) {
          const messages = [{ [list]: Array(600).fill(0) }, { [list]: Array(600).fill(0) }]
          assert.deepStrictEqual(yield* post(path, JSON.stringify({ messages })), [413, "limit_exceeded"])
          assert.deepStrictEqual(yield* post(path, JSON.stringify({ messages: messages.slice(1) })), [
            400,
            "invalid_input"
          ])
        }
      }
    }))
})
