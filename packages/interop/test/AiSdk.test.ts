import { Chat } from "@ai-sdk/react"
import { assert, describe, it } from "@effect/vitest"
import * as AiSdk from "@sallyport/interop/AiSdk"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import {
  APICallError,
  type ChatInit,
  createUIMessageStream,
  DefaultChatTransport,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  type UIMessage,
  type UIMessageChunk
} from "ai"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import { network } from "../../../test-support/network.ts"
import { counted, cutting, database, host, node, slowly } from "./support.ts"

const textOf = (message: UIMessage | undefined): string =>
  (message?.parts ?? []).map((part) => part.type === "text" ? part.text : "").join("")

const answerOf = (chat: Chat<UIMessage>): string => textOf(chat.messages.findLast(({ role }) => role === "assistant"))

/** A chat as a newly loaded page has it. */
const open = (
  url: string,
  id: string,
  n: number,
  init: ChatInit<UIMessage> = {},
  headers: Record<string, string> = {}
) =>
  new Chat<UIMessage>({
    ...init,
    id,
    transport: new DefaultChatTransport({ api: `${url}/chat`, body: { n }, headers })
  })

const send = (chat: Chat<UIMessage>, id = "question") =>
  Effect.promise(() => chat.sendMessage({ id, role: "user", parts: [{ type: "text", text: "Count" }] }))

const resume = (chat: Chat<UIMessage>) => Effect.promise(() => chat.resumeStream())

/** Waits until a chat shows a text. */
const shows = (chat: Chat<UIMessage>, text: string) =>
  Effect.repeat(Effect.sync(() => answerOf(chat).startsWith(text)), {
    until: (shown) => shown,
    schedule: Schedule.spaced("5 millis")
  })

describe("AiSdk over a network", () => {
  it.live("L-83 RUN-01: a chat that is cut off again and again resumes, and has the whole answer once", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const wire = yield* network(server)
      const chat = open(wire.url, "cut", 60)
      let broken = 0
      const cuts = new Set([5, 20, 35])
      chat["~registerMessagesCallback"](() => {
        for (const n of cuts) {
          if (!answerOf(chat).startsWith(counted(n))) continue
          cuts.delete(n)
          wire.cut()
          wire.join(server)
        }
      })
      yield* send(chat)
      while (chat.status === "error") {
        assert.instanceOf(chat.error, TypeError)
        broken++
        yield* resume(chat)
      }
      assert.isAbove(broken, 0)
      assert.strictEqual(chat.status, "ready")
      assert.strictEqual(answerOf(chat), counted(60))
      assert.strictEqual(chat.messages.length, 2)
      assert.deepStrictEqual(chat.messages[1]?.metadata, { counted: 60 })
      assert.deepStrictEqual((yield* server.executions).begun, 1)
    }))

  it.live("RUN-01 RUN-10: a message that is sent twice has one answer; a page that comes back sees it, and an idle chat is 204", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const first = open(server.url, "twice", 30)
      const second = open(server.url, "twice", 30)
      const idle = () => fetch(`${server.url}/chat/twice/stream`).then(({ status }) => status)
      assert.strictEqual(yield* Effect.promise(idle), 204)
      yield* resume(first)
      assert.strictEqual(first.status, "ready")
      yield* Effect.all([send(first), Effect.andThen(shows(first, counted(3)), send(second))], {
        concurrency: "unbounded"
      })
      const back = open(server.url, "twice", 30, { messages: first.messages.slice(0, 1) })
      yield* resume(back)
      for (const chat of [first, second, back]) {
        assert.strictEqual(answerOf(chat), counted(30))
        assert.deepStrictEqual(chat.messages[1], first.messages[1])
      }
      assert.deepStrictEqual(yield* server.executions, { begun: 1, done: 0 })
      // What was edited is another message, though its id is the same; so is what is regenerated.
      yield* Effect.promise(() => first.sendMessage({ messageId: "question", text: "Count again" }))
      yield* Effect.promise(() => first.regenerate())
      assert.strictEqual((yield* server.executions).begun, 3)
      assert.strictEqual(first.messages.length, 2)
    }))

  it.live("L-84 RUN-07: when the process is killed, a chat that resumes has what was stored and one error", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const server = yield* host(filename)
      const first = open(server.url, "killed", 1e9)
      const sending = yield* Effect.forkChild(send(first))
      yield* shows(first, counted(10))
      yield* server.stop("SIGKILL")
      yield* Fiber.join(sending)
      const next = yield* host(filename)
      const back = open(next.url, "killed", 1e9, { messages: first.messages })
      yield* resume(back)
      assert.isTrue(answerOf(back).startsWith(counted(10)))
      assert.strictEqual(back.error?.message, "The server that executed the run has gone")
      assert.strictEqual((yield* next.executions).begun, 0)
    }))

  it.live("RUN-12 RUN-02: a page stops its answer, and learns why another cannot begin; what is not a chat is refused", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const finished: Array<string | undefined> = []
      const chat = open(server.url, "stopped", 1e9, {
        onFinish: ({ finishReason }) => void finished.push(finishReason)
      })
      const sending = yield* Effect.forkChild(send(chat))
      yield* shows(chat, counted(3))
      const other = open(server.url, "stopped", 1)
      yield* send(other, "another question")
      assert.isTrue(APICallError.isInstance(other.error) && other.error.statusCode === 409, String(other.error))
      const stop = () => fetch(`${server.url}/chat/stopped/stream`, { method: "DELETE" }).then(({ status }) => status)
      assert.strictEqual(yield* Effect.promise(stop), 204)
      yield* Fiber.join(sending)
      assert.strictEqual(chat.status, "ready")
      assert.deepStrictEqual(finished, ["interrupted"])
      assert.strictEqual(yield* Effect.promise(stop), 204)

      const post = (body: string, headers: Record<string, string> = {}) =>
        Effect.promise(() => fetch(`${server.url}/chat`, { method: "POST", body, headers }))
      const message = { id: "m", role: "user", parts: [{ type: "text", text: "Count" }] }
      const bad = [
        "",
        "[1]",
        "{}",
        JSON.stringify({ id: "chat", messages: [] }),
        JSON.stringify({ id: "chat", messages: [{ id: "m", role: "user", parts: [{ type: "text" }] }] }),
        JSON.stringify({ id: "a\u0000b", messages: [message] })
      ]
      for (const body of bad) assert.strictEqual((yield* post(body)).status, 400, body)
      const ok = JSON.stringify({ id: "chat", n: 2, messages: [message] })
      assert.strictEqual((yield* post(ok, { "idempotency-key": "caf\u00e9" })).status, 400)
      const response = yield* post(ok)
      assert.strictEqual(response.headers.get("x-vercel-ai-ui-message-stream"), "v1")
      assert.strictEqual(response.headers.get("content-type"), "text/event-stream")
      const text = yield* Effect.promise(() => response.text())
      assert.match(text, /^:\n\ndata: \{"type":"start","messageId":"[0-9a-f-]{36}"\}\n\n/)
      assert.isTrue(text.endsWith("data: [DONE]\n\n"))
    }))

  it.live("RUN-12 L-79 L-80: by the key of a message a page stops it before it begins, and resumes that message alone", () =>
    Effect.gen(function*() {
      const server = yield* host(yield* database)
      const at = (method: string, key: string) =>
        Effect.promise(() => fetch(`${server.url}/chat/keyed/stream`, { method, headers: { "idempotency-key": key } }))
      yield* send(open(server.url, "keyed", 2, {}, { "idempotency-key": "\"first\"" }))
      // The message of this key has not arrived: the answer to the one before it is not its answer.
      assert.strictEqual((yield* at("GET", "second")).status, 204)
      assert.include(yield* Effect.flatMap(at("GET", "first"), (answer) => Effect.promise(() => answer.text())), "1 ")
      assert.strictEqual((yield* at("DELETE", "second")).status, 204)
      const finished: Array<string | undefined> = []
      const chat = open(server.url, "keyed", 2, { onFinish: ({ finishReason }) => void finished.push(finishReason) }, {
        "idempotency-key": "second"
      })
      yield* send(chat, "second question")
      assert.deepStrictEqual(finished, ["interrupted"])
      assert.strictEqual((yield* server.executions).begun, 1)
    }))
})

const owner = { subject: "someone" }

/** Serves a program, and gives a `fetch` that reaches it. */
const serve = <E>(
  program: AiSdk.Program<unknown, never>,
  delayMillis = 0,
  log: Layer.Layer<RunEventLog.RunEventLog, E> = slowly(delayMillis)
) =>
  Effect.gen(function*() {
    const routes = Layer.mergeAll(
      HttpRouter.add("POST", "/chat", AiSdk.handle(owner, program)),
      HttpRouter.add("GET", "/chat/:id/stream", AiSdk.handleResume(owner)),
      HttpRouter.add("DELETE", "/chat/:id/stream", AiSdk.handleStop(owner))
    ).pipe(HttpRouter.provideRequest(Layer.merge(Layer.orDie(log), Logger.layer([]))))
    const { handler } = yield* Effect.acquireRelease(
      Effect.sync(() => HttpRouter.toWebHandler(routes, { disableLogger: true })),
      ({ dispose }) => Effect.promise(dispose)
    )
    return (input: RequestInfo | URL, init?: RequestInit) => handler(new Request(input, init))
  })

describe("AiSdk in one process", () => {
  type Step =
    | { readonly kind: "text" | "reasoning"; readonly deltas: ReadonlyArray<string>; readonly closed: boolean }
    | { readonly kind: "tool"; readonly approval: boolean; readonly output: boolean }
    | { readonly kind: "data"; readonly id: string }
    | { readonly kind: "step" }

  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({
      kind: fc.constantFrom("text" as const, "reasoning" as const),
      deltas: fc.array(fc.string({ maxLength: 5, unit: "grapheme" }), { maxLength: 4 }),
      closed: fc.boolean()
    }),
    fc.record({ kind: fc.constant("tool" as const), approval: fc.boolean(), output: fc.boolean() }),
    fc.record({ kind: fc.constant("data" as const), id: fc.constantFrom("a", "b") }),
    fc.record({ kind: fc.constant("step" as const) })
  )

  const programOf = (
    steps: ReadonlyArray<Step>,
    how: "returned" | "failed" | "told" | "stopped"
  ): AiSdk.Program<unknown, never> =>
    Effect.fnUntraced(function*(_request, { approve, emit }) {
      for (const [index, step] of steps.entries()) {
        const id = `part${index}`
        switch (step.kind) {
          case "text":
          case "reasoning":
            yield* emit({ type: `${step.kind}-start`, id })
            for (const delta of step.deltas) yield* emit({ type: `${step.kind}-delta`, id, delta })
            if (step.closed) yield* emit({ type: `${step.kind}-end`, id })
            break
          case "tool":
            yield* emit({ type: "tool-input-available", toolCallId: id, toolName: "deploy", input: { to: "mars" } })
            if (step.approval) {
              const { approved } = yield* approve({ toolCallId: id, reason: "It is far" })
              if (!approved) yield* emit({ type: "tool-output-denied", toolCallId: id })
              else yield* emit({ type: "tool-output-available", toolCallId: id, output: { arrived: true } })
            } else if (step.output) {
              yield* emit({ type: "tool-output-available", toolCallId: id, output: "done" })
            }
            break
          case "data":
            yield* emit({ type: "data-progress", id: step.id, data: { index } })
            break
          case "step":
            yield* emit({ type: "start-step" })
        }
      }
      if (how === "stopped") return yield* Effect.never
      if (how === "failed") return yield* Effect.fail("failed")
      if (how === "told") {
        yield* emit({ type: "error", errorText: "The model is out of order" })
        return yield* Effect.fail("told")
      }
      return { finishReason: "stop" as const, messageMetadata: { steps: steps.length } }
    })

  /** Asks until the chat is at rest: resumes what was cut, and answers what it is asked. */
  const converse = Effect.fnUntraced(function*(
    fetch: typeof globalThis.fetch,
    id: string,
    fresh: () => boolean = () => false
  ) {
    const make = (messages: Array<UIMessage>) =>
      new Chat<UIMessage>({
        id,
        messages,
        transport: new DefaultChatTransport({ api: "http://127.0.0.1/chat", fetch })
      })
    let chat = make([])
    const settled = Effect.repeat(Effect.sync(() => chat.status), {
      until: (status) => status === "ready" || status === "error",
      schedule: Schedule.spaced("1 millis")
    })
    yield* send(chat, `${id}/question`)
    for (let turn = 0; turn < 200; turn++) {
      yield* settled
      if (chat.error instanceof TypeError) {
        // Also the page itself may be another one, which has what was shown or nothing of the answer.
        if (fresh()) chat = make(chat.messages.slice(0, 1))
        yield* resume(chat)
        continue
      }
      const open = chat.messages.at(-1)?.parts.find((part) =>
        isToolUIPart(part) && (part.state === "approval-requested" || part.state === "approval-responded")
      )
      if (chat.status === "error" || open === undefined || !isToolUIPart(open) || open.approval === undefined) break
      const approval = { id: open.approval.id, approved: open.toolCallId.length % 2 === 1, reason: "I say so" }
      yield* Effect.promise(async () => {
        await chat.addToolApprovalResponse(approval)
        await chat.sendMessage()
      })
    }
    return { status: chat.status, error: chat.error?.message, messages: chat.messages }
  })

  it.live(
    "C-70: a chat has the same answer wherever its connection is cut, its page loaded again, and however slow the store is",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(step, { maxLength: 8 }),
            fc.constantFrom("returned" as const, "failed" as const, "told" as const, "stopped" as const),
            fc.array(fc.nat(900), { maxLength: 6 }),
            fc.array(fc.boolean(), { maxLength: 6 }),
            fc.constantFrom(0, 3, 10),
            (steps, how, cuts, fresh, delayMillis) =>
              Effect.runPromise(Effect.scoped(Effect.gen(function*() {
                // A page shows its own approval, also if the run has been stopped before it.
                const asking = steps.map((step) => how === "stopped" ? { ...step, approval: false } : step)
                const fetch = yield* serve(programOf(asking, how), delayMillis)
                const stop = Effect.promise(() => fetch("http://127.0.0.1/chat/cut/stream", { method: "DELETE" }))
                if (how === "stopped") {
                  // Again and again, until there is something to stop, which may be anywhere in the answer.
                  yield* Effect.forkScoped(Effect.repeat(Effect.delay(stop, 5 + delayMillis * 5), Schedule.forever))
                }
                const cut = yield* converse(cutting(fetch, cuts), "cut", () => fresh.shift() === true)
                const plain = ({ error, messages, status }: typeof cut) => ({
                  error,
                  status,
                  // A chat shows the beginning of a step with what follows it, if anything does.
                  answers: messages.slice(1).map(({ metadata, parts }) => ({
                    metadata,
                    parts: parts.filter(({ type }) => type !== "step-start")
                  }))
                })
                // Nothing of the answer, as a page that was not there has it.
                const late = new Chat<UIMessage>({
                  id: "cut",
                  messages: cut.messages.slice(0, 1),
                  transport: new DefaultChatTransport({ api: "http://127.0.0.1/chat", fetch })
                })
                yield* resume(late)
                const { error, messages, status } = late
                assert.deepStrictEqual(plain(cut), plain({ error: error?.message, messages, status }))
                assert.isAtMost(messages.length, 2)
                if (how === "stopped") return assert.strictEqual(status, "ready")
                assert.deepStrictEqual(plain(cut), plain(yield* converse(fetch, "whole")))
                if (how === "returned") assert.strictEqual(status, "ready", error?.message)
                else assert.strictEqual(error?.message, how === "told" ? "The model is out of order" : "The run failed")
              })))
          ),
          { numRuns: 30 }
        )
      ),
    120_000
  )

  const chatOf = (fetch: typeof globalThis.fetch, init: ChatInit<UIMessage> = {}) =>
    new Chat<UIMessage>({
      id: "chat",
      transport: new DefaultChatTransport({ api: "http://127.0.0.1/chat", fetch }),
      ...init
    })

  /** Returns the stream of the library's own tools, with the beginning and the end that a run has of its own. */
  const streamOf = (chunks: ReadonlyArray<UIMessageChunk>) =>
    createUIMessageStream({ execute: ({ writer }) => chunks.forEach((chunk) => writer.write(chunk)) })

  it.live("RUN-25: what is said within a window is joined, in the order of the rest, and a page reads the same", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const texts = Array.from({ length: 40 }, (_, index) => `${index} `)
      const deltas = (type: "text" | "reasoning") =>
        texts.map((delta) => ({ type: `${type}-delta` as const, id: "t", delta }))
      const program: AiSdk.Program<unknown, never> = Effect.fnUntraced(function*(_request, { emit, emitAll }) {
        for (const chunk of deltas("reasoning")) yield* emit(chunk)
        yield* emit({ type: "data-progress", data: 1 })
        return yield* emitAll(() =>
          streamOf([{ type: "text-start", id: "t" }, ...deltas("text"), { type: "text-end", id: "t" }])
        )
      })
      const message = { id: "m", role: "user" as const, parts: [{ type: "text" as const, text: "Count" }] }
      const request = yield* AiSdk.readRequest({ id: "joined", messages: [message] })
      const followed = yield* AiSdk.start(request, program, { owner, joinDeltas: "1 minute" })
      const chunks = yield* Stream.runCollect(yield* AiSdk.follow(followed))
      const all = { id: "t", delta: texts.join("") }
      assert.deepStrictEqual(chunks.slice(1, -1), [
        { type: "reasoning-delta", ...all },
        { type: "data-progress", data: 1 },
        { type: "text-start", id: "t" },
        { type: "text-delta", ...all },
        { type: "text-end", id: "t" }
      ])
      assert.strictEqual((yield* log.get({ runId: followed.runId })).lastSeq, 6)
    }).pipe(Effect.provide(slowly(0))))

  it.live("RUN-20 RUN-12 RUN-02: an answer of one node is resumed, approved and stopped through another", () =>
    Effect.gen(function*() {
      const filename = yield* database
      const executed: Array<string> = []
      const program: Parameters<typeof serve>[0] = Effect.fnUntraced(function*(request, { approve, emit }) {
        executed.push(request.id)
        yield* emit({ type: "text-start", id: "t" })
        yield* emit({ type: "text-delta", id: "t", delta: "Shall I?" })
        yield* emit({ type: "text-end", id: "t" })
        const toolCallId = "call"
        yield* emit({ type: "tool-input-available", toolCallId, toolName: "deploy", input: {} })
        const approval = yield* approve({ toolCallId })
        yield* emit({ type: "tool-output-available", toolCallId, output: approval })
        yield* emit({ type: "text-start", id: "rest" })
        yield* emit({ type: "text-delta", id: "rest", delta: " I do." })
        if (!approval.approved) {
          yield* Effect.onInterrupt(Effect.never, () => Effect.sync(() => executed.push("stopped")))
        }
      })
      const here = yield* serve(program, 0, node(filename))
      const there = yield* serve(program, 0, node(filename))
      const isAsked = (chat: Chat<UIMessage>) =>
        (chat.messages.at(-1)?.parts ?? []).some((part) => isToolUIPart(part) && part.state === "approval-requested")
      for (const approved of [true, false]) {
        const id = `approved ${approved}`
        const first = chatOf(here, { id })
        yield* send(first)
        assert.isTrue(isAsked(first), "asked")
        // Another page comes back through the other node, and answers there.
        const finished: Array<string | undefined> = []
        const second = chatOf(there, {
          id,
          messages: first.messages.slice(0, 1),
          sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
          onFinish: ({ finishReason }) => void finished.push(finishReason)
        })
        yield* resume(second)
        assert.deepStrictEqual(second.messages, first.messages)
        yield* Effect.promise(async () => await second.addToolApprovalResponse({ id: "call", approved }))
        yield* shows(second, "Shall I? I do.")
        const busy = chatOf(there, { id })
        if (!approved) {
          yield* send(busy, "another question")
          assert.isTrue(APICallError.isInstance(busy.error) && busy.error.statusCode === 409, String(busy.error))
          const stop = () => there(`http://127.0.0.1/chat/${encodeURIComponent(id)}/stream`, { method: "DELETE" })
          assert.strictEqual((yield* Effect.promise(stop)).status, 204)
          yield* Effect.repeat(Effect.sync(() => executed.includes("stopped")), {
            until: (stopped) => stopped,
            schedule: Schedule.spaced("5 millis")
          })
        }
        yield* Effect.repeat(Effect.sync(() => second.status), {
          until: (status) => status === "ready",
          schedule: Schedule.spaced("5 millis")
        })
        if (!approved) assert.strictEqual(finished.at(-1), "interrupted")
        const back = chatOf(here, { id, messages: first.messages.slice(0, 1) })
        yield* resume(back)
        assert.strictEqual(answerOf(back), "Shall I? I do.")
      }
      assert.deepStrictEqual(executed, ["approved true", "approved false", "stopped"])
    }))

  it.live("RUN-20: a call that is approved goes on in the same run, by the library's automatic sending, once however often it is sent", () =>
    Effect.gen(function*() {
      let executed = 0
      const fetch = yield* serve(Effect.fnUntraced(function*(_request, { approve, emit, run }) {
        executed++
        yield* emit({ type: "text-start", id: "t" })
        yield* emit({ type: "text-delta", id: "t", delta: "Shall I?" })
        yield* emit({ type: "text-end", id: "t" })
        for (const toolCallId of ["first", "second"]) {
          yield* emit({ type: "tool-input-available", toolCallId, toolName: "deploy", input: {} })
          // Something goes on being said while the person is asked.
          yield* emit({ type: "text-start", id: toolCallId })
          yield* emit({ type: "text-delta", id: toolCallId, delta: " I ask" })
          const approval = yield* approve({ toolCallId })
          yield* emit({ type: "text-delta", id: toolCallId, delta: ` ${toolCallId}.` })
          yield* emit({ type: "text-end", id: toolCallId })
          yield* emit({ type: "tool-output-available", toolCallId, output: approval })
        }
        const answer = yield* run.ask("where", { message: "To where?" })
        return { messageMetadata: { answer } }
      }))
      const asked: Array<unknown> = []
      const chat = chatOf(fetch, {
        sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
        onData: ({ data }) => void asked.push(data)
      })
      const requested = (toolCallId: string) =>
        Effect.repeat(
          Effect.sync(() =>
            chat.status === "ready" && (chat.messages.at(-1)?.parts ?? []).some((part) =>
              isToolUIPart(part) && part.toolCallId === toolCallId && part.state === "approval-requested"
            )
          ),
          { until: (ready) => ready, schedule: Schedule.spaced("1 millis") }
        )
      yield* send(chat)
      yield* requested("first")
      // A page that comes back is asked as well.
      const back = chatOf(fetch, { messages: chat.messages.slice(0, 1) })
      yield* resume(back)
      assert.deepStrictEqual(back.messages, chat.messages)
      yield* Effect.promise(async () => await chat.addToolApprovalResponse({ id: "first", approved: true }))
      yield* requested("second")
      // The other page sends an answer of its own, which comes too late, and is asked the next question.
      yield* Effect.promise(async () => {
        await back.addToolApprovalResponse({ id: "first", approved: false })
        await back.sendMessage()
      })
      assert.isTrue(back.messages.at(-1)?.parts.some((part) => isToolUIPart(part) && part.toolCallId === "second"))
      yield* Effect.promise(async () => {
        await chat.addToolApprovalResponse({ id: "second", approved: false, reason: "no" })
      })
      yield* Effect.repeat(Effect.sync(() => asked.length), {
        until: (n) => n > 0,
        schedule: Schedule.spaced("1 millis")
      })
      assert.deepStrictEqual(asked, [{ name: "where", ask: { message: "To where?" } }])
      assert.strictEqual(executed, 1)
      assert.strictEqual(answerOf(chat), "Shall I? I ask first. I ask second.")
      const parts = chat.messages.at(-1)?.parts.flatMap((part) => isToolUIPart(part) ? [part.output] : [])
      assert.deepStrictEqual(parts, [{ approved: true }, { approved: false, reason: "no" }])
      yield* Effect.promise(() => chat.stop())
    }))

  it.live("RUN-01: a message that goes on with one of the assistant is another run, of which a page that comes back sees all", () =>
    Effect.gen(function*() {
      const call = { toolCallId: "call", toolName: "weather" }
      const fetch = yield* serve(({ messages }, { emitAll }) =>
        emitAll(() =>
          streamOf(
            messages.at(-1)?.role === "user"
              ? [
                { type: "start", messageId: "replaced", messageMetadata: { model: "scripted" } },
                { type: "start-step" },
                { type: "reasoning-start", id: "r" },
                { type: "reasoning-delta", id: "r", delta: "Where is it?" },
                { type: "reasoning-end", id: "r" },
                { type: "text-start", id: "t" },
                { type: "text-delta", id: "t", delta: "I look." },
                { type: "text-end", id: "t" },
                { type: "source-url", sourceId: "s", url: "https://example.com/" },
                { type: "file", url: "data:text/plain,a", mediaType: "text/plain" },
                { type: "data-place", id: "p", data: { name: "Rome" } },
                { type: "tool-input-start", ...call },
                { type: "tool-input-delta", toolCallId: "call", inputTextDelta: "{}" },
                { type: "tool-input-available", ...call, input: {} },
                { type: "tool-input-available", toolCallId: "wrong", toolName: "sun", input: 1, dynamic: true },
                { type: "tool-output-error", toolCallId: "wrong", errorText: "It is night", dynamic: true },
                { type: "finish-step" },
                { type: "finish", finishReason: "tool-calls" }
              ]
              : [
                { type: "start" },
                { type: "start-step" },
                { type: "text-start", id: "t" },
                { type: "text-delta", id: "t", delta: "It rains." },
                { type: "text-end", id: "t" },
                { type: "finish", finishReason: "stop", messageMetadata: { done: true } }
              ]
          )
        )
      )
      const chat = chatOf(fetch)
      yield* send(chat)
      const [, first] = chat.messages
      assert.deepStrictEqual(first?.metadata, { model: "scripted" })
      assert.match(first?.id ?? "", /^[0-9a-f-]{36}$/)
      yield* Effect.promise(async () => {
        await chat.addToolOutput({ tool: "weather", toolCallId: "call", output: { rain: true } })
        await chat.sendMessage()
      })
      assert.strictEqual(chat.status, "ready", String(chat.error))
      assert.strictEqual(answerOf(chat), "I look.It rains.")
      assert.strictEqual(chat.messages.length, 2)
      assert.strictEqual(chat.messages[1]?.id, first?.id)
      const back = chatOf(fetch, { messages: chat.messages.slice(0, 1) })
      yield* resume(back)
      assert.deepStrictEqual(JSON.stringify(back.messages), JSON.stringify(chat.messages))
    }))

  it.live("RUN-07: an error of the library's stream reaches the page; an abort of the run reaches the stream; no chunk is stored that the page cannot read", () =>
    Effect.gen(function*() {
      const refused: Array<string> = []
      const { promise: aborted, resolve } = yield* Effect.sync(() => {
        let resolve = () => {}
        const promise = new Promise<void>((done) => {
          resolve = done
        })
        return { promise, resolve }
      })
      const fetch = yield* serve(({ body }, { emit, emitAll }) =>
        Effect.gen(function*() {
          if (body.id === "endless") {
            return yield* emitAll((signal) => {
              signal.addEventListener("abort", resolve)
              return new ReadableStream({ start: (controller) => controller.enqueue({ type: "text-start", id: "t" }) })
            })
          }
          const unreadable: ReadonlyArray<unknown> = [{ type: "texts" }, { type: "text-delta", id: "t" }, {
            type: "data-x",
            data: 1n
          }]
          for (const chunk of unreadable) {
            yield* Effect.matchEffect(emit(chunk as AiSdk.ProgramChunk), {
              onFailure: ({ code }) => Effect.sync(() => void refused.push(code)),
              onSuccess: () => Effect.void
            })
          }
          return yield* emitAll(() => streamOf([{ type: "error", errorText: "The model is out of order" }]))
        })
      )
      const chat = chatOf(fetch)
      yield* send(chat)
      assert.strictEqual(chat.error?.message, "The model is out of order")
      assert.deepStrictEqual(refused, ["invalid_input", "invalid_input", "invalid_input"])
      const endless = chatOf(fetch, { id: "endless" })
      const sending = yield* Effect.forkChild(send(endless))
      yield* Effect.repeat(Effect.sync(() => endless.messages.length), {
        until: (n) => n === 2,
        schedule: Schedule.spaced("1 millis")
      })
      yield* Effect.promise(() => fetch("http://127.0.0.1/chat/endless/stream", { method: "DELETE" }))
      yield* Effect.promise(() => aborted)
      yield* Fiber.join(sending)
      assert.strictEqual(endless.status, "ready")
    }))
})
