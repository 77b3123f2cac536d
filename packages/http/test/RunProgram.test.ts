import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as WorkflowEngine from "effect/workflow/WorkflowEngine"
import { type Answer, assertError, bearer, eventsOf, follow, type Server, start } from "./support.ts"

const Log = RunEventLog.layerWith({ heartbeatInterval: "50 millis", lease: "200 millis" }).pipe(
  Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer])
)

const program = Effect.fnUntraced(
  function*({ input, run }: Pick<RunProgram.RunProgramRequest, "input" | "run">) {
    const before = yield* Stream.runCollect(run.history)
    for (let n = before.length + 1; n <= Object(input).to; n++) yield* run.append(n)
    return yield* run.ask("enough?", null)
  }
)

describe("a resumable program", () => {
  it.live("RUN-21 RUN-20: goes on with a run that another process has left, in which it is answered", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      assert.isTrue((yield* RunProgram.RunProgram).resumable)
      const owner = { subject: "ada" }
      // A run whose writer is not heard of any more.
      const { run: { epoch, runId } } = yield* log.start({
        threadId: "thread",
        idempotencyKey: "key",
        owner,
        request: { to: 3 },
        resumable: true
      })
      yield* log.append({ runId, epoch, events: [1] })
      const events = yield* log.events({ runId, owner })
      const all = yield* events.pipe(
        Stream.tap(({ data }) =>
          Object(data).question === undefined
            ? Effect.void
            : log.answer({ runId, owner, name: "enough?", value: "yes" })
        ),
        Stream.runCollect
      )
      assert.deepStrictEqual(all.map(({ data }) => data), [
        1,
        2,
        3,
        { question: { name: "enough?", ask: null } },
        { answer: { name: "enough?", value: "yes" } },
        { status: "succeeded", result: "yes" }
      ])
      assert.strictEqual((yield* log.get({ runId })).epoch, 2)
    }).pipe(Effect.provide(Layer.provideMerge(RunProgram.layerResumable(program), Log))))

  it.live("RUN-21: a program says itself that it is resumable", () =>
    Effect.gen(function*() {
      assert.isFalse((yield* RunProgram.RunProgram).resumable)
    }).pipe(Effect.provide(Layer.provideMerge(RunProgram.layer(program), Log))))
})

describe("a program that writes deltas", () => {
  const deltas = Effect.fnUntraced(function*({ run }: Pick<RunProgram.RunProgramRequest, "run">) {
    for (const delta of ["a", "b", "c"]) yield* run.appendDelta({ delta })
  })

  it.live("RUN-25: says for how long they may be joined, also for runs that it takes over", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      assert.strictEqual((yield* RunProgram.RunProgram).joinDeltas, "1 minute")
      const request = { threadId: "thread", idempotencyKey: "key", owner: { subject: "ada" }, request: null }
      const { run } = yield* log.start({ ...request, resumable: true })
      const all = yield* Stream.runCollect(yield* log.events({ runId: run.runId }))
      assert.deepStrictEqual(all.map(({ data }) => data), [{ delta: "abc" }, { status: "succeeded" }])
    }).pipe(
      Effect.provide(Layer.provideMerge(RunProgram.layerResumable(deltas, { joinDeltas: "1 minute" }), Log))
    ))
})

describe("a program that an engine of workflows executes", () => {
  const stopped: Array<unknown> = []
  const workflow = RunProgram.layerWorkflow(Effect.fnUntraced(function*({ input, run }) {
    const price = yield* run.step("price", Schema.Number, (append) => Effect.as(append({ looking: input }), 12))
    const answer = yield* run.ask("buy", { price })
    if (answer === "wait") {
      yield* run.step("wait", Schema.Void, (append) =>
        Effect.andThen(
          append("waiting"),
          Effect.onInterrupt(Effect.never, () => Effect.sync(() => stopped.push(input)))
        ))
    }
    return { price, answer }
  }))
  const serving = start({
    runProgram: Layer.provide(workflow, WorkflowEngine.layerMemory),
    runs: { heartbeatInterval: "50 millis", lease: "200 millis" }
  })
  const post = (server: Server, token: string, key: string, body: object = {}) =>
    server.send({
      path: "/api/runs",
      headers: { ...bearer(token), "idempotency-key": key },
      body: { threadId: key, input: key, ...body }
    })
  const idOf = (answer: Answer) => String(Object(answer.json["run"]).runId)
  const reading = (server: Server, token: string, runId: string, after = "0") =>
    follow(server.port, { path: `/api/runs/${runId}/events?after=${after}`, headers: bearer(token) })
  const act = (server: Server, token: string, runId: string, what: "abort" | "answers", body: object = {}) =>
    server.send({ path: `/api/runs/${runId}/${what}`, headers: bearer(token), body })

  it.live("RUN-20 RUN-21 RUN-01: is started once over HTTP, asks, and goes on with the first answer", () =>
    Effect.gen(function*() {
      const server = yield* serving
      const token = yield* server.token()
      const started = yield* Effect.all(Array.from({ length: 4 }, () => post(server, token, "tea")), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(started.map(({ status }) => status).toSorted(), [200, 200, 200, 201])
      const [runId = ""] = new Set(started.map(idOf))
      assert.deepStrictEqual(new Set(started.map(idOf)).size, 1)
      assert.strictEqual((yield* post(server, token, "tea", { input: "coffee" })).status, 422)
      const reader = yield* reading(server, token, runId)
      yield* reader.until((text) => text.includes("question"))
      const get = server.send({ path: `/api/runs/${runId}`, headers: bearer(token) })
      assert.deepInclude((yield* get).json, { status: "waiting", lastSeq: 2 })
      // A waiting run keeps its thread, however many of its leases go by.
      yield* Effect.sleep("500 millis")
      assert.strictEqual((yield* post(server, token, "other", { threadId: "tea" })).status, 409)
      const stranger = yield* server.token({ subject: "stranger" })
      const yes = { name: "buy", value: "yes" }
      assert.strictEqual((yield* act(server, stranger, runId, "answers", yes)).status, 404)
      assert.strictEqual((yield* act(server, token, runId, "answers", { name: "sell", value: 1 })).status, 404)
      const answers = yield* Effect.all(Array.from({ length: 5 }, () => act(server, token, runId, "answers", yes)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(answers.map(({ status }) => status).toSorted(), [200, 409, 409, 409, 409])
      const { text } = yield* reader.ended
      assert.deepStrictEqual(eventsOf(text).map(({ data }) => JSON.parse(data)), [
        { looking: "tea" },
        { question: { name: "buy", ask: { price: 12 } } },
        { answer: yes },
        { status: "succeeded", result: { price: 12, answer: "yes" } }
      ])
      const late = yield* reading(server, token, runId, "2")
      assert.strictEqual(eventsOf((yield* late.ended).text).length, 2, "a reader continues after its cursor")
      const ended = yield* act(server, token, runId, "answers", { name: "buy", value: "no" })
      assert.strictEqual(ended.status, 409)
      assert.deepInclude((yield* post(server, token, "tea")).json, { created: false })
    }).pipe(Effect.scoped))

  it.live("RUN-12 RUN-21 L-79: is cancelled over HTTP before it begins, while it waits, and in the middle of a step", () =>
    Effect.gen(function*() {
      const server = yield* serving
      const token = yield* server.token()
      // Before it begins.
      const early = yield* server.send({
        path: "/api/threads/early/abort",
        headers: bearer(token),
        body: { idempotencyKey: "early" }
      })
      assert.strictEqual(early.json["outcome"], "registered")
      const never = idOf(yield* post(server, token, "early"))
      const nothing = yield* reading(server, token, never)
      assert.deepStrictEqual(eventsOf((yield* nothing.ended).text).map(({ event }) => event), ["end"])
      // While it waits.
      const waits = idOf(yield* post(server, token, "waits"))
      const reader = yield* reading(server, token, waits)
      yield* reader.until((text) => text.includes("question"))
      const stranger = yield* server.token({ subject: "stranger" })
      assert.strictEqual((yield* act(server, stranger, waits, "abort")).status, 404)
      assert.deepInclude((yield* act(server, token, waits, "abort")).json, { status: "aborted" })
      assert.deepStrictEqual(eventsOf((yield* reader.ended).text).map(({ event }) => event), ["data", "data", "end"])
      const refused = yield* act(server, token, waits, "answers", { name: "buy", value: "yes" })
      assertError(refused, { status: 409, tag: "Conflict", code: "run_ended" })
      // In the middle of a step, which is interrupted; the thread is free at once.
      const works = idOf(yield* post(server, token, "works"))
      const working = yield* reading(server, token, works)
      yield* working.until((text) => text.includes("question"))
      yield* act(server, token, works, "answers", { name: "buy", value: "wait" })
      yield* working.until((text) => text.includes("waiting"))
      yield* act(server, token, works, "abort")
      yield* working.ended
      while (!stopped.includes("works")) yield* Effect.sleep("10 millis")
      const next = yield* post(server, token, "next", { threadId: "works" })
      assert.strictEqual(next.status, 201)
      yield* act(server, token, idOf(next), "abort")
    }).pipe(Effect.scoped))
})
