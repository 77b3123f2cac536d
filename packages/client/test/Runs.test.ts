import { assert, describe, it } from "@effect/vitest"
import * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import { RunId } from "@sallyport/core/runs/Run"
import type { RunProgramRequest } from "@sallyport/http/RunProgram"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as Http from "node:http"
import { inspect } from "node:util"
import {
  collect,
  connect,
  eventually,
  type Fate,
  having,
  impatient,
  network,
  pretend,
  refuse,
  sentence,
  start,
  startProcess,
  temporaryDirectory
} from "./support.ts"

/** A program that counts its executions, and appends its input. */
const echoing = () => {
  const executed: Array<unknown> = []
  return {
    executed,
    program: ({ input, run }: RunProgramRequest) =>
      Effect.gen(function*() {
        executed.push(input)
        yield* run.append(input)
        return input
      })
  }
}

/** A program that appends 1, and 2 when it is told to. */
const gated = Effect.gen(function*() {
  const gate = yield* Deferred.make<void>()
  return {
    open: Deferred.succeed(gate, undefined),
    program: ({ run }: RunProgramRequest) =>
      Effect.andThen(run.append(1), Effect.andThen(Deferred.await(gate), Effect.asVoid(run.append(2))))
  }
})

const dataOf = (events: ReadonlyArray<Runs.RunEvent>) =>
  events.map((event) => event._tag === "Data" ? event.data : event.end.status)

const someRun = "01890a5d-ac96-774b-bcce-b302099a8057"
const orSome = (runId: RunId | undefined): RunId => runId ?? RunId.make(someRun)
const otherRun = "01890a5d-ac96-774b-bcce-b302099a8058"

/** A run as a server describes it. */
const view = (more: Readonly<Record<string, unknown>> = {}) => ({
  runId: someRun,
  threadId: "thread",
  idempotencyKey: "key",
  status: "running",
  endReason: null,
  lastSeq: 0,
  startedAt: "2026-01-01T00:00:00.000Z",
  completedAt: null,
  ...more
})

const json = (response: Http.ServerResponse, status: number, body: unknown) => {
  response.writeHead(status, { "content-type": "application/json" })
  response.end(JSON.stringify(body))
}

const sse = (response: Http.ServerResponse, text: string, type = "text/event-stream") => {
  response.writeHead(200, { "content-type": type })
  response.end(text)
}

const event = (id: number, data: unknown = id) => `id: ${id}\nevent: data\ndata: ${JSON.stringify(data)}\n\n`
const end = (id: number | undefined, status = "succeeded") =>
  `${id === undefined ? "" : `id: ${id}\n`}event: end\ndata: {"status":"${status}"}\n\n`

/** Connects to a server that answers as it is told, with a token that it doesn't look at. */
const connectTo = (url: string, options: Runs.Options = { ...impatient, maxAttempts: 4 }) =>
  connect(url, having(Redacted.make("token")), options)

/** The same error, whatever the request. */
const always = (status: number, _tag: string, code: string) =>
  pretend((_, response) => refuse(response, status, { _tag, code }))

describe("starting a run", () => {
  const losses: Readonly<Record<string, (nth: number) => Fate>> = {
    "before the server saw it": (nth) => nth <= 3 ? { refused: true } : {},
    "before a byte of the answer": (nth) => nth <= 3 ? { answerBytes: 1 } : {},
    "in the middle of the answer": (nth) => nth <= 3 ? { answerBytes: 300 } : {}
  }
  for (const [name, fate] of Object.entries(losses)) {
    it.live(`L-70 RUN-01: executes once, though the request is lost ${name}`, () =>
      Effect.gen(function*() {
        const { executed, program } = echoing()
        const server = yield* start({ program })
        const wire = yield* network(server.port, fate)
        const { runs } = yield* connect(wire.url, having(yield* server.token()))
        const intent = yield* runs.intent({ threadId: "thread", input: "hello" })
        const { error, events } = yield* collect(runs.run(intent))
        assert.isUndefined(error)
        assert.deepStrictEqual(dataOf(events), ["hello", "succeeded"])
        assert.isAtLeast(wire.cuts(), 3)
        assert.deepStrictEqual(executed, ["hello"])
        // Every holder of the intent has the run from now on.
        const again = yield* runs.start(intent)
        assert.deepStrictEqual([again.runId, again.status], [events[0]?.runId, "succeeded"])
        assert.deepStrictEqual(executed, ["hello"])
      }))
  }

  it.live("L-70 L-85: finds the run that has ended while the answer was lost, and a caller's own retry is the same run", () =>
    Effect.gen(function*() {
      const { executed, program } = echoing()
      const server = yield* start({ program })
      let broken = true
      const wire = yield* network(server.port, () => broken ? { answerBytes: 1 } : {})
      const { runs } = yield* connect(wire.url, having(yield* server.token()), { ...impatient, maxAttempts: 2 })
      const intent = yield* runs.intent({ threadId: "thread", input: "once" })
      const error = yield* Effect.flip(runs.start(intent))
      assert.deepInclude(error.reason, { _tag: "Unreachable", attempts: 2 })
      yield* eventually(() => executed.length > 0)
      broken = false
      // The intent survives a reload of the page.
      const text = yield* Schema.encodeEffect(Schema.fromJsonString(Runs.RunIntent))(intent)
      const restored = yield* Schema.decodeEffect(Schema.fromJsonString(Runs.RunIntent))(text)
      const { events } = yield* collect(runs.run(restored))
      assert.deepStrictEqual(dataOf(events), ["once", "succeeded"])
      assert.deepStrictEqual(executed, ["once"])
    }))

  it.live("L-70: sends the same key with each attempt, and another one for another intent", () =>
    Effect.gen(function*() {
      let attempts = 0
      const server = yield* pretend((_, response) => {
        if (++attempts % 3 === 0) return json(response, 201, { created: true, run: view() })
        response.destroy()
      })
      const { runs } = yield* connectTo(server.url)
      for (let n = 0; n < 2; n++) yield* runs.start(yield* runs.intent({ threadId: "thread", input: 1 }))
      const [first, , , second] = server.keys
      assert.deepStrictEqual(server.keys, [first, first, first, second, second, second])
      assert.match(String(first), /^[0-9a-f-]{36}$/)
      assert.notStrictEqual(first, second)
    }))

  it.live("says what rules it out: another run of the thread, a key that was used, a larger input than is taken", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program })
      const { runs } = yield* connect(server.url, having(yield* server.token()))
      const intent = yield* runs.intent({ threadId: "thread", input: 1 })
      const run = yield* runs.start(intent)
      const busy = yield* Effect.flip(runs.start(yield* runs.intent({ threadId: "thread", input: 2 })))
      assert.deepInclude(busy.reason, { _tag: "Conflict", code: "thread_busy" })
      assert.match(busy.message, /already has a running run/)
      const other = yield* Effect.flip(runs.start(new Runs.RunIntent({ ...intent, input: 2 })))
      assert.strictEqual(other.reason._tag, "IdempotencyConflict")
      const large = yield* Effect.flip(
        runs.start(yield* runs.intent({ threadId: "large", input: "x".repeat(2 ** 21) }))
      )
      assert.strictEqual(large.reason._tag, "TooLarge")
      yield* open
      yield* Stream.runDrain(runs.follow(run))
    }))

  it.live("RUN-20: answers what a run asks, once, and tells what cannot be answered", () =>
    Effect.gen(function*() {
      const server = yield* start({
        program: ({ run }) => Effect.map(run.ask("colour", { choices: ["red", "blue"] }), (colour) => ({ colour }))
      })
      const { runs } = yield* connect(server.url, having(yield* server.token()))
      const { runId } = yield* runs.start(yield* runs.intent({ threadId: "thread", input: 1 }))
      const asked = yield* Stream.runHead(runs.follow({ runId }))
      assert.deepInclude(Option.getOrThrow(asked), {
        data: { question: { name: "colour", ask: { choices: ["red", "blue"] } } }
      })
      assert.strictEqual((yield* runs.get(runId)).status, "waiting")
      const why = (name: string, value: Schema.Json = 1, id: string = runId) =>
        Effect.map(Effect.flip(runs.answer(id, { name, value })), ({ reason }) => reason)
      assert.strictEqual((yield* why("size"))._tag, "QuestionUnknown")
      assert.strictEqual((yield* why("colour", 1, "none"))._tag, "RunUnknown")
      assert.strictEqual((yield* why(""))._tag, "InvalidInput")
      assert.strictEqual((yield* why("colour", "x".repeat(2 ** 21)))._tag, "TooLarge")
      assert.strictEqual((yield* runs.answer(runId, { name: "colour", value: "blue" })).status, "running")
      assert.deepInclude(yield* why("colour", "red"), { _tag: "Conflict" })
      const end = yield* Stream.runLast(runs.follow({ runId }))
      assert.deepInclude(Option.getOrThrow(end), { end: { status: "succeeded", result: { colour: "blue" } } })
      assert.deepInclude(yield* why("colour", "red"), { _tag: "Conflict", code: "question_answered" })
    }))

  it.live("RUN-22: an intent waits for its thread or takes it, also when it continues, and is kept as JSON", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program })
      const { runs } = yield* connect(server.url, having(yield* server.token()))
      const first = yield* runs.start(yield* runs.intent({ threadId: "thread", input: 1 }))
      const kept = JSON.stringify(
        Schema.encodeSync(Runs.RunIntent)(yield* runs.intent({ threadId: "thread", input: 2, whenBusy: "enqueue" }))
      )
      const waiting = yield* runs.start(Schema.decodeUnknownSync(Runs.RunIntent)(JSON.parse(kept)))
      assert.deepStrictEqual([first.status, waiting.status], ["running", "queued"])
      assert.deepStrictEqual((yield* runs.list({ status: "queued" })).runs.map(({ runId }) => runId), [waiting.runId])
      const takes = yield* runs.start(yield* runs.intent({ threadId: "thread", input: 3, whenBusy: "interrupt" }))
      assert.strictEqual(takes.status, "running")
      const end = yield* Stream.runLast(runs.follow(first))
      assert.deepInclude(Object(Option.getOrThrow(end)).end, { status: "aborted", reason: "interrupted_by_run" })
      yield* open
      for (const run of [takes, waiting]) {
        const last = yield* Stream.runLast(runs.follow(run))
        assert.deepInclude(Object(Option.getOrThrow(last)).end, { status: "succeeded" })
      }
      assert.strictEqual((yield* runs.get(waiting.runId)).status, "succeeded")
    }))

  it.live("checks what it would send, and sends nothing that no server takes", () =>
    Effect.gen(function*() {
      const server = yield* always(404, "NotFound", "run_not_found")
      const { runs } = yield* connectTo(server.url)
      const invalid = [
        runs.start(new Runs.RunIntent({ threadId: "", idempotencyKey: "key", input: 1 })),
        runs.start(new Runs.RunIntent({ threadId: "..", idempotencyKey: "key", input: 1 })),
        runs.start(new Runs.RunIntent({ threadId: "x".repeat(101), idempotencyKey: "key", input: 1 })),
        runs.start(new Runs.RunIntent({ threadId: "thread", idempotencyKey: "schlüssel 🔑", input: 1 })),
        runs.start(new Runs.RunIntent({ threadId: "thread", idempotencyKey: "", input: 1 })),
        runs.find({ threadId: "thread", idempotencyKey: "a\r\nb: c" }),
        runs.active("."),
        Stream.runDrain(runs.follow({ runId: someRun, after: -1 })),
        Stream.runDrain(runs.follow({ runId: someRun, after: 1.5 }))
      ]
      for (const effect of invalid) {
        assert.strictEqual((yield* Effect.flip(Effect.asVoid(effect))).reason._tag, "InvalidInput")
      }
      for (const runId of ["", "../../auth/logout", "x"]) {
        assert.strictEqual((yield* Effect.flip(runs.get(runId))).reason._tag, "RunUnknown")
        assert.strictEqual((yield* Effect.flip(runs.abort(runId))).reason._tag, "RunUnknown")
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(runs.follow({ runId })))).reason._tag, "RunUnknown")
      }
      assert.deepStrictEqual(server.requests, [])
    }))
})

describe("finding a run again", () => {
  it.live("L-80: rejoins the turn that is meant, and never the one before", () =>
    Effect.gen(function*() {
      const { executed, program } = echoing()
      const server = yield* start({ program })
      let broken = false
      const wire = yield* network(server.port, () => ({ refused: broken }))
      const { runs } = yield* connect(wire.url, having(yield* server.token()), { ...impatient, maxAttempts: 2 })
      const first = yield* runs.intent({ threadId: "thread", input: "first" })
      yield* Stream.runDrain(runs.run(first))

      const second = yield* runs.intent({ threadId: "thread", input: "second" })
      broken = true
      wire.cutAll()
      assert.strictEqual((yield* Effect.flip(runs.start(second))).reason._tag, "Unreachable")
      broken = false
      // The thread's run that just ended is another turn.
      assert.strictEqual(Option.getOrUndefined(yield* runs.active("thread"))?.idempotencyKey, first.idempotencyKey)
      assert.isTrue(Option.isNone(yield* runs.find(second)))
      const rejoined = yield* collect(runs.rejoin(second))
      assert.deepStrictEqual([rejoined.events, rejoined.error?.reason._tag], [[], "RunUnknown"])
      assert.deepStrictEqual(executed, ["first"])

      // The list has what has begun, and no intent that has not.
      assert.deepStrictEqual(
        (yield* runs.list({ threadId: "thread" })).runs.map(({ idempotencyKey }) => idempotencyKey),
        [
          first.idempotencyKey
        ]
      )
      for (const other of [{ threadId: "another" }, { status: "failed" }] as const) {
        assert.deepStrictEqual(yield* runs.list(other), { runs: [], next: null })
      }

      // The message was not dropped: the same intent starts it.
      assert.deepStrictEqual(dataOf((yield* collect(runs.run(second))).events), ["second", "succeeded"])
      assert.deepStrictEqual(dataOf((yield* collect(runs.rejoin(second))).events), ["second", "succeeded"])
      assert.deepStrictEqual(dataOf((yield* collect(runs.rejoin(first))).events), ["first", "succeeded"])
      assert.deepStrictEqual((yield* collect(runs.rejoin({ ...first, after: 1 }))).events.map(({ _tag }) => _tag), [
        "End"
      ])
      assert.deepStrictEqual(executed, ["first", "second"])
    }))

  it.live("L-80: does not take the word of a server that looks at the thread only", () =>
    Effect.gen(function*() {
      const server = yield* pretend((_, response) => json(response, 200, { run: view({ idempotencyKey: "other" }) }))
      const { runs } = yield* connectTo(server.url)
      const rejoined = yield* collect(runs.rejoin({ threadId: "thread", idempotencyKey: "key" }))
      assert.strictEqual(rejoined.error?.reason._tag, "RunUnknown")
      assert.deepStrictEqual(server.requests, ["GET /api/threads/thread/active-run"])
    }))

  it.live("L-72: takes a server that does not answer for unreachable, and never for none", () =>
    Effect.gen(function*() {
      const server = yield* always(503, "Unavailable", "unavailable")
      const { runs } = yield* connectTo(server.url)
      for (const look of [runs.active("thread"), runs.find({ threadId: "thread", idempotencyKey: "key" })]) {
        const error = yield* Effect.flip(look)
        assert.deepInclude(error.reason, { _tag: "Unreachable", failure: "unavailable", status: 503, detail: sentence })
      }
    }))

  it.live("L-79: aborts it, by its id, and by its intent also before it has begun", () =>
    Effect.gen(function*() {
      const { program } = yield* gated
      const server = yield* start({ program })
      const { runs } = yield* connect(server.url, having(yield* server.token()))
      const intent = yield* runs.intent({ threadId: "thread", input: 1 })
      const run = yield* runs.start(intent)
      assert.strictEqual((yield* runs.abort(run.runId)).status, "aborted")
      assert.strictEqual((yield* runs.abort(run.runId)).status, "aborted")
      const stopped = yield* runs.intent({ threadId: "thread", input: 2 })
      yield* runs.abortIntent(stopped)
      const { events } = yield* collect(runs.run(stopped))
      assert.deepStrictEqual(dataOf(events), ["aborted"])
    }))
})

describe("following a run", () => {
  it.live("RUN-11: tells ended, expired, unknown, forbidden, signed out and beyond the end apart, by the real server", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { runs } = yield* connect(server.url, having(yield* server.token()))
      const run = yield* runs.start(yield* runs.intent({ threadId: "thread", input: 2 }))
      yield* Stream.runDrain(runs.follow(run))
      const reasonOf = (client: Runs.Runs["Service"], after: number, runId: string = run.runId) =>
        Effect.map(Effect.flip(Stream.runDrain(client.follow({ runId, after }))), ({ reason }) => reason)
      assert.strictEqual((yield* reasonOf(runs, 3))._tag, "RunEnded")
      assert.strictEqual((yield* runs.get(run.runId)).status, "succeeded")
      assert.deepInclude(yield* reasonOf(runs, 4), { _tag: "Conflict", code: "cursor_beyond_end" })
      assert.deepInclude(yield* reasonOf(runs, 0, someRun), { _tag: "RunUnknown", runId: someRun })
      const unable = yield* connect(server.url, having(yield* server.token(["runs:operate"])))
      assert.deepInclude(yield* reasonOf(unable.runs, 0), { _tag: "Forbidden", code: "scope_required" })
      const stranger = yield* connect(server.url, having(Redacted.make("not-a-token")))
      assert.deepInclude(yield* reasonOf(stranger.runs, 0), { _tag: "SignedOut", code: "unauthorized" })
    }))

  const refusals: ReadonlyArray<readonly [status: number, tag: string, code: string, reason: string]> = [
    [401, "Unauthorized", "unauthorized", "SignedOut"],
    [403, "Forbidden", "scope_required", "Forbidden"],
    [404, "NotFound", "run_not_found", "RunUnknown"],
    [409, "Conflict", "cursor_beyond_end", "Conflict"],
    [410, "Gone", "cursor_expired", "RunExpired"],
    [400, "InvalidRequest", "malformed_cursor", "InvalidRequest"],
    [422, "IdempotencyConflict", "idempotency_conflict", "IdempotencyConflict"],
    [413, "TooLarge", "body_too_large", "TooLarge"],
    [500, "InternalError", "internal_error", "InternalError"]
  ]
  for (const [status, tag, code, reason] of refusals) {
    it.live(`L-18 L-85: takes a ${status} for ${reason}, at each step, with the server's sentence, and asks no more`, () =>
      Effect.gen(function*() {
        let good = 0
        const server = yield* pretend((request, response) => {
          if (good-- <= 0) {
            return refuse(response, status, { _tag: tag, code, message: "Read 503 in 500 ms: unavailable" })
          }
          if (request.method === "POST") return json(response, 201, { created: true, run: view() })
          if (request.url?.includes("active-run") === true) return json(response, 200, { run: view() })
          return sse(response, event(1))
        })
        const { runs } = yield* connectTo(server.url)
        const intent = new Runs.RunIntent({ threadId: "thread", idempotencyKey: "key", input: 1 })
        // How many requests are answered well before the refusal, and what was handed out until then.
        const steps = [
          [0, 0, collect(runs.run(intent))],
          [1, 0, collect(runs.run(intent))],
          [2, 1, collect(runs.run(intent))],
          [0, 0, collect(runs.rejoin(intent))],
          [1, 0, collect(runs.rejoin(intent))],
          [2, 1, collect(runs.rejoin(intent))],
          [0, 0, collect(runs.follow({ runId: someRun }))],
          [1, 1, collect(runs.follow({ runId: someRun }))],
          [0, 0, Effect.map(Effect.flip(runs.get(someRun)), (error) => ({ error, events: [] }))],
          [0, 0, Effect.map(Effect.flip(runs.active("thread")), (error) => ({ error, events: [] }))],
          [0, 0, Effect.map(Effect.flip(runs.abort(someRun)), (error) => ({ error, events: [] }))],
          [0, 0, Effect.map(Effect.flip(runs.abortIntent(intent)), (error) => ({ error, events: [] }))]
        ] as const
        for (const [index, [before, seen, step]] of steps.entries()) {
          good = before
          const asked = server.requests.length
          const { error, events } = yield* step
          assert.strictEqual(error?.reason._tag, reason, `step ${index}`)
          assert.strictEqual(error?.message, "Read 503 in 500 ms: unavailable")
          assert.strictEqual(events.length, seen)
          assert.strictEqual(error?.lastCursor, seen)
          assert.strictEqual(server.requests.length - asked, before + 1)
        }
      }))
  }

  it.live("HTTP-04: takes a 503, a 429 and a proxy's page for passing, at each step, and goes on where it was", () =>
    Effect.gen(function*() {
      const token = Redacted.make("token")
      const troubles: ReadonlyArray<(response: Http.ServerResponse) => void> = [
        (response) => refuse(response, 503, { _tag: "Unavailable", code: "unavailable" }),
        (response) => response.writeHead(429, { "retry-after": "0" }).end(),
        (response) => response.writeHead(502, { "content-type": "text/html" }).end("<html></html>"),
        (response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>Sign in</html>"),
        (response) => response.destroy()
      ]
      for (const trouble of troubles) {
        const cursors: Array<unknown> = []
        const visits = new Map<string, number>()
        const server = yield* pretend((request, response) => {
          const cursor = request.headers["last-event-id"]
          const visit = `${request.method} ${request.url} ${String(cursor)}`
          const count = (visits.get(visit) ?? 0) + 1
          visits.set(visit, count)
          if (count <= 2) return trouble(response)
          if (request.method === "POST") return json(response, 201, { created: true, run: view() })
          cursors.push(cursor)
          return sse(response, cursor === undefined ? event(1) : cursor === "1" ? event(2) + event(3) : end(4))
        })
        const { runs } = yield* connect(server.url, having(token), { ...impatient, maxAttempts: 3 })
        const { error, events } = yield* collect(runs.run(yield* runs.intent({ threadId: "thread", input: 1 })))
        assert.isUndefined(error)
        assert.deepStrictEqual(dataOf(events), [1, 2, 3, "succeeded"])
        assert.deepStrictEqual(cursors, [undefined, "1", "3"])
      }
    }))

  it.live("is told by the stream itself why it stops", () =>
    Effect.gen(function*() {
      const failure = (code: string, retryable: boolean) =>
        `event: failure\ndata: ${JSON.stringify({ code, message: sentence, retryable })}\n\n`
      let text = ""
      let requests = 0
      const server = yield* pretend((request, response) => {
        requests++
        sse(response, request.headers["last-event-id"] === undefined ? event(1) + text : end(2))
      })
      const { runs } = yield* connectTo(server.url)
      for (
        const [code, reason] of [
          ["session_ended", "SignedOut"],
          ["run_not_found", "RunUnknown"],
          ["cursor_expired", "RunExpired"],
          ["of_a_later_version", "UnexpectedAnswer"]
        ] as const
      ) {
        text = failure(code, false)
        requests = 0
        const { error, events } = yield* collect(runs.follow({ runId: someRun }))
        assert.deepStrictEqual([dataOf(events), error?.reason._tag, error?.message, error?.lastCursor], [
          [1],
          reason,
          sentence,
          1
        ])
        assert.strictEqual(requests, 1)
      }
      for (const code of ["unavailable", "of_a_later_version"]) {
        text = failure(code, true)
        const { error, events } = yield* collect(runs.follow({ runId: someRun }))
        assert.deepStrictEqual([dataOf(events), error], [[1, "succeeded"], undefined])
      }
    }))

  it.live("SESS-08: learns that its session was revoked, and goes on from there with another one", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program })
      const { session, token } = yield* Effect.orDie(server.sessions.issue({
        subject: "owner",
        scopes: ["runs:read", "runs:operate"],
        method: "bearer-access-token"
      }))
      const { runs } = yield* connect(server.url, having(token))
      const run = yield* runs.start(yield* runs.intent({ threadId: "thread", input: 1 }))
      const first = yield* Deferred.make<void>()
      const reader = yield* Effect.forkChild(
        collect(Stream.tap(runs.follow(run), () => Deferred.succeed(first, undefined)))
      )
      yield* Deferred.await(first)
      yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      const { error } = yield* Fiber.join(reader)
      assert.deepInclude(error?.reason, { _tag: "SignedOut", code: "session_ended" })
      assert.strictEqual(error?.lastCursor, 1)
      yield* open
      const again = yield* connect(server.url, having(yield* server.token()))
      const { events } = yield* collect(again.runs.follow({ runId: run.runId, after: error?.lastCursor }))
      assert.deepStrictEqual(dataOf(events), [2, "succeeded"])
    }))

  it.live("RUN-09: gives out an end that was made up, with no cursor, once", () =>
    Effect.gen(function*() {
      for (const after of [0, 1]) {
        const server = yield* pretend((_, response) =>
          sse(response, `retry: 1\n\n${after === 0 ? event(1) : ""}${end(undefined, "failed")}`)
        )
        const { runs } = yield* connectTo(server.url)
        const { error, events } = yield* collect(runs.follow({ runId: someRun, after }))
        assert.isUndefined(error)
        const last = events.at(-1)
        assert.deepInclude(last, { _tag: "End", cursor: Option.none() })
        assert.strictEqual(events.length, 2 - after)
      }
    }))

  it.live("L-83: hands out nothing twice and nothing out of order, whatever a server sends", () =>
    Effect.gen(function*() {
      const answers = [
        event(1) + event(2) + event(2) + event(1) + event(3),
        // It forgets the reader's position.
        event(1) + event(2) + event(3) + event(4),
        // It leaves something out.
        event(6) + end(7),
        event(5) + end(9),
        // It breaks off within an event, and after its data.
        event(6).slice(0, -1),
        event(6).slice(0, 3),
        `event: later\nid: 99\ndata: {}\n\n: comment\n\n${event(6).replaceAll("\n", "\r\n")}\uFEFF`,
        event(7).replace("7\n\n", "{not json\n\n"),
        event(7) + end(8)
      ]
      const cursors: Array<unknown> = []
      const server = yield* pretend((request, response) => {
        cursors.push(request.headers["last-event-id"])
        sse(response, answers.shift() ?? "")
      })
      const { runs } = yield* connectTo(server.url)
      const { error, events } = yield* collect(runs.follow({ runId: someRun }))
      assert.isUndefined(error)
      assert.deepStrictEqual(dataOf(events), [1, 2, 3, 4, 5, 6, 7, "succeeded"])
      assert.deepStrictEqual(cursors, [undefined, "3", "4", "4", "5", "5", "5", "6", "6"])
    }))

  it.live("gives up on a server that never gets further, with what is known", () =>
    Effect.gen(function*() {
      const server = yield* pretend((_, response) => sse(response, event(1) + event(3)))
      const { runs } = yield* connectTo(server.url)
      const { error, events } = yield* collect(runs.follow({ runId: someRun }))
      assert.deepStrictEqual(dataOf(events), [1])
      assert.deepInclude(error?.reason, { _tag: "Unreachable", failure: "garbled", attempts: 4 })
      assert.strictEqual(error?.lastCursor, 1)
    }))

  it.live("refuses an event that is longer than it takes, rather than to hold it", () =>
    Effect.gen(function*() {
      const server = yield* pretend((_, response) => sse(response, event(1) + event(2, "x".repeat(5_000))))
      const { runs } = yield* connectTo(server.url, { ...impatient, maxEventLength: 1_000 })
      const { error, events } = yield* collect(runs.follow({ runId: someRun }))
      assert.deepStrictEqual(dataOf(events), [1])
      assert.deepInclude(error?.reason, { _tag: "UnexpectedAnswer" })
      assert.strictEqual(server.requests.length, 1)
    }))

  it.live("RUN-08: does not read ahead of its consumer", () =>
    Effect.gen(function*() {
      const count = 1_000
      const payload = "x".repeat(64 * 1024)
      let written = 0
      const server = yield* pretend((_, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" })
        const write = () => {
          while (written < count) {
            if (!response.write(event(++written, payload))) return response.once("drain", write)
          }
          return response.end(end(count + 1))
        }
        write()
      })
      const { runs } = yield* connectTo(server.url)
      const go = yield* Deferred.make<void>()
      let seen = 0
      const reader = yield* Effect.forkChild(Stream.runForEach(runs.follow({ runId: someRun }), () =>
        Effect.suspend(() =>
          ++seen === 1 ? Deferred.await(go) : Effect.void
        )))
      // It is over when nothing more is written: the buffers of the sockets are full then.
      let before = -1
      yield* Effect.repeat(
        Effect.tap(Effect.sleep("100 millis"), () =>
          Effect.sync(() => {
            const still = before === written && seen === 1
            before = still ? -2 : written
          })),
        {
          until: () =>
            before === -2
        }
      )
      assert.isBelow(written, count / 2)
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(reader)
      assert.deepStrictEqual([seen, server.requests.length], [count + 1, 1])
    }))

  it.live("HTTP-04: leaves a connection on which nothing comes, and goes on over another one", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program, heartbeat: "20 millis" })
      const token = yield* server.token()
      const direct = yield* connect(server.url, having(token))
      const run = yield* direct.runs.start(yield* direct.runs.intent({ threadId: "thread", input: 1 }))
      // The head and the first event get through, and then nothing, though the connection stays.
      const wire = yield* network(server.port, (nth) => nth <= 2 ? { stallAfter: 600 } : {})
      const { runs } = yield* connect(wire.url, having(token), { ...impatient, heartbeatInterval: "300 millis" })
      const reader = yield* Effect.forkChild(collect(runs.follow(run)))
      yield* eventually(() => wire.connections() >= 3)
      yield* open
      const { error, events } = yield* Fiber.join(reader)
      assert.isUndefined(error)
      assert.deepStrictEqual(dataOf(events), [1, 2, "succeeded"])
    }))

  it.live("HTTP-04: stays on a connection that is silent but for heartbeats", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program, heartbeat: "50 millis" })
      const token = yield* server.token()
      const direct = yield* connect(server.url, having(token))
      const run = yield* direct.runs.start(yield* direct.runs.intent({ threadId: "thread", input: 1 }))
      const wire = yield* network(server.port)
      const { runs } = yield* connect(wire.url, having(token), { ...impatient, heartbeatInterval: "2 seconds" })
      const reader = yield* Effect.forkChild(collect(runs.follow(run)))
      yield* Effect.sleep("5 seconds")
      yield* open
      const { events } = yield* Fiber.join(reader)
      assert.deepStrictEqual(dataOf(events), [1, 2, "succeeded"])
      assert.strictEqual(wire.connections(), 1)
    }))

  it.live("closes its connection when the last listener is gone", () =>
    Effect.gen(function*() {
      let closed = 0
      const server = yield* pretend((_, response) => {
        response.on("close", () => closed++)
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.write(event(1))
      })
      const { runs } = yield* connectTo(server.url)
      const events = yield* Stream.runCollect(Stream.take(runs.follow({ runId: someRun }), 1))
      assert.deepStrictEqual(dataOf(events), [1])
      yield* eventually(() => closed === 1)
      const reader = yield* Effect.forkChild(Stream.runDrain(runs.follow({ runId: someRun })))
      yield* eventually(() => server.requests.length === 2)
      yield* Fiber.interrupt(reader)
      yield* eventually(() => closed === 2)
    }))
})

describe("the budget", () => {
  it.live("L-85: is one for everything: so many attempts reach the server, and no more", () =>
    Effect.gen(function*() {
      for (
        const respond of [
          (response: Http.ServerResponse) => refuse(response, 503, { _tag: "Unavailable", code: "unavailable" }),
          (response: Http.ServerResponse) => void response.destroy()
        ]
      ) {
        let good = 0
        const server = yield* pretend((request, response) => {
          if (good-- <= 0) return respond(response)
          return request.method === "POST"
            ? json(response, 201, { created: true, run: view() })
            : json(response, 200, { run: view() })
        })
        const maxAttempts = 5
        const { runs } = yield* connectTo(server.url, { ...impatient, maxAttempts })
        const intent = yield* runs.intent({ threadId: "thread", input: 1 })
        const works: ReadonlyArray<readonly [number, Stream.Stream<Runs.RunEvent, RunsError>]> = [
          [0, runs.run(intent, { continueWhen: () => Option.some({ reason: "again" }) })],
          [1, runs.run(intent, { continueWhen: () => Option.some({ reason: "again" }) })],
          [0, runs.follow({ runId: someRun })],
          [0, runs.rejoin(intent)],
          [0, Stream.fromEffectDrain(runs.get(someRun))]
        ]
        for (const [before, work] of works) {
          good = before
          const asked = server.requests.length
          const { error } = yield* collect(work)
          assert.deepInclude(error?.reason, { _tag: "Unreachable", attempts: maxAttempts })
          assert.strictEqual(server.requests.length - asked, before + maxAttempts)
        }
      }
    }))

  it.live("L-85: bounds how many runs are started for one intent, and every holder of it starts the same ones", () =>
    Effect.gen(function*() {
      let executed = 0
      const server = yield* start({
        program: () => {
          executed++
          return Effect.fail("again and again")
        }
      })
      const { runs } = yield* connect(server.url, having(yield* server.token()))
      const intent = yield* runs.intent({ threadId: "thread", input: 1 })
      const options = { continueWhen: () => Option.some({ reason: "it failed" }), maxContinuations: 2 }
      const [one, two] = yield* Effect.all([collect(runs.run(intent, options)), collect(runs.run(intent, options))], {
        concurrency: 2
      })
      assert.deepStrictEqual([one.error, two.error], [undefined, undefined])
      assert.deepStrictEqual(dataOf(one.events), ["failed", "failed", "failed"])
      assert.deepStrictEqual(one.events, two.events)
      assert.strictEqual(executed, 3)
    }))
})

describe("a final error", () => {
  it.live("RUN-17: has the runs that were attempted, why the last one went on, and where it stopped", () =>
    Effect.gen(function*() {
      const continuation = { attemptedRunIds: [otherRun], reason: "stale_run" }
      const server = yield* pretend((request, response) => {
        if (request.url?.includes("active-run") === true) return json(response, 200, { run: view({ continuation }) })
        if (request.method === "POST") return json(response, 201, { created: true, run: view({ continuation }) })
        if (request.url?.endsWith("/events") === false) return json(response, 200, view({ continuation }))
        if (request.headers["last-event-id"] === undefined) return sse(response, event(1) + event(2))
        return void response.destroy()
      })
      const { runs } = yield* connectTo(server.url)
      const intent = new Runs.RunIntent({ threadId: "thread", idempotencyKey: "key", input: 1 })
      const found = yield* runs.get(someRun)
      for (const work of [runs.run(intent), runs.rejoin(intent), runs.follow(found)]) {
        const { error } = yield* collect(work)
        assert.deepInclude(error, {
          attemptedRunIds: [otherRun, someRun],
          lastContinueReason: "stale_run",
          lastCursor: 2
        })
        assert.strictEqual(error?.reason._tag, "Unreachable")
        assert.notInclude(inspect(error, { depth: 20 }), "Bearer")
      }
    }))

  it.live(
    "RUN-17 RUN-04: comes after a process was killed twice under its reader, which lost nothing that it was shown",
    () =>
      Effect.gen(function*() {
        const filename = `${yield* temporaryDirectory}/sallyport.db`
        const leaseMillis = 1_000
        const first = yield* startProcess(filename, { leaseMillis })
        const wire = yield* network(first.port)
        const { runs } = yield* connect(wire.url, having(first.token), {
          baseDelay: "50 millis",
          maxDelay: "50 millis",
          maxAttempts: 100_000,
          maxDuration: "1 hour"
        })
        const intent = yield* runs.intent({ threadId: "thread", input: 1_000_000 })
        const events: Array<Runs.RunEvent> = []
        const reader = yield* runs.run(intent, {
          continueWhen: ({ end }) =>
            end.reason === "stale_run" ? Option.some({ reason: end.reason, input: 5 }) : Option.none()
        }).pipe(
          Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
          Effect.forkChild
        )
        yield* eventually(() => events.length >= 20)
        yield* first.kill
        const second = yield* startProcess(filename, { leaseMillis })
        wire.lead(second.port)
        yield* Fiber.join(reader)

        const [a, b] = [...new Set(events.map(({ runId }) => runId))]
        const of = (runId: string | undefined) => events.filter((event) => event.runId === runId)
        const stale = of(a)
        assert.deepStrictEqual(
          dataOf(stale),
          [...stale.slice(1).map((_, index) => ({ n: index + 1 })), "failed"]
        )
        assert.deepStrictEqual(dataOf(of(b)), [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }, { n: 5 }, "succeeded"])

        // The next one dies permanently.
        const again = yield* connect(wire.url, having(first.token), { ...impatient, maxAttempts: 3 })
        const run = yield* again.runs.start(yield* again.runs.intent({ threadId: "another", input: 1_000_000 }), {
          attemptedRunIds: [orSome(a), orSome(b)],
          reason: "stale_run"
        })
        let seen = 0
        const last = yield* Effect.forkChild(
          collect(Stream.tap(again.runs.follow(run), () => Effect.sync(() => void seen++)))
        )
        yield* eventually(() => seen >= 5)
        yield* second.kill
        const { error } = yield* Fiber.join(last)
        assert.strictEqual(error?.reason._tag, "Unreachable")
        assert.deepInclude(error, {
          attemptedRunIds: [orSome(a), orSome(b), run.runId],
          lastContinueReason: "stale_run",
          lastCursor: seen
        })
      }),
    300_000
  )
})
