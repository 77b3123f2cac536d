import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { EventSource } from "eventsource"
import * as Net from "node:net"
import { type Answer, assertError, bearer, eventsOf, type Server, start } from "./support.ts"
import { telling } from "../../../test-support/clock.ts"

const notFound = { status: 404, tag: "NotFound", code: "run_not_found" }

const runOf = (answer: Answer): Record<string, unknown> => {
  const { run } = answer.json
  return typeof run === "object" && run !== null ? { ...run } : {}
}

const post = (server: Server, token: string, options: {
  readonly threadId?: string
  readonly key?: string
  readonly input?: unknown
}) =>
  server.send({
    path: "/api/runs",
    headers: { ...bearer(token), "idempotency-key": options.key ?? "key" },
    body: { threadId: options.threadId ?? "thread", input: options.input ?? null }
  })

/** A program that counts its executions and goes on when it is told to. */
const gated = Effect.gen(function*() {
  const gate = yield* Deferred.make<void>()
  const state = { executed: 0, interrupted: 0 }
  return {
    state,
    open: Deferred.succeed(gate, undefined),
    program: () =>
      Effect.suspend(() => {
        state.executed++
        return Deferred.await(gate)
      }).pipe(Effect.onInterrupt(() => Effect.sync(() => void state.interrupted++)))
  }
})

/** Sends some bytes, and is gone once they are sent. */
const sendAndLeave = (port: number, text: string) =>
  Effect.callback<void>((resume) => {
    const socket = Net.connect({ host: "127.0.0.1", port }, () => socket.write(text, () => socket.destroy()))
    socket.on("error", () => undefined).on("close", () => resume(Effect.void))
  })

/** Reads a run to its end, as a client does that waits for it. */
const untilEnd = (server: Server, token: string, runId: unknown) =>
  Effect.map(
    server.send({ path: `/api/runs/${String(runId)}/events`, headers: bearer(token) }),
    ({ text }) => eventsOf(text)
  )

describe("the list of runs", () => {
  it.live("RUN-19 HTTP-09: has the session's own runs by thread and status, the newest first, in pages", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ada = yield* server.token({ subject: "ada" })
      const bob = yield* server.token({ subject: "bob" })
      const owner = { subject: "ada" }
      for (let index = 0; index < 203; index++) {
        const request = {
          threadId: index < 2 ? "first" : `thread-${index}`,
          idempotencyKey: `${index}`,
          request: index,
          owner
        }
        const { run } = yield* Effect.orDie(server.log.start(request))
        if (index === 0) yield* Effect.orDie(server.log.finish({ ...run, end: { status: "succeeded" } }))
      }
      const list = (query: string, token = ada) =>
        Effect.map(server.send({ path: `/api/runs${query}`, headers: bearer(token) }), ({ json }) => ({
          keys: Array.isArray(json["runs"]) ? json["runs"].map((run) => String(run.idempotencyKey)) : [],
          next: json["next"]
        }))
      const first = yield* list("")
      const second = yield* list(`?after=${encodeURIComponent(String(first.next))}`)
      const newest = Array.from({ length: 203 }, (_, index) => String(202 - index))
      assert.deepStrictEqual([...first.keys, ...second.keys].toSorted(), newest.toSorted())
      assert.deepStrictEqual([first.keys.length, second.keys.length, second.next], [200, 3, null])
      assert.deepStrictEqual((yield* list("?threadId=first")).keys.toSorted(), ["0", "1"])
      assert.deepStrictEqual((yield* list("?threadId=first&status=running")).keys, ["1"])
      assert.deepStrictEqual((yield* list("?status=succeeded")).keys, ["0"])
      assert.deepStrictEqual((yield* list("", bob)).keys, [])
      for (const query of ["?status=done", "?threadId=", "?threadId=%00", "?after=x", "?after=1", "?after="]) {
        assert.strictEqual((yield* server.send({ path: `/api/runs${query}`, headers: bearer(ada) })).status, 400, query)
      }
    }).pipe(Effect.scoped))
})

describe("starting a run", () => {
  it.live("L-70: twice with the same key is one run, at the same time, later, and after its end", () =>
    Effect.gen(function*() {
      const { open, program, state } = yield* gated
      const server = yield* start({ program })
      const token = yield* server.token()
      const racers = yield* Effect.all(Array.from({ length: 10 }, () => post(server, token, {})), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(racers.map(({ status }) => status).toSorted(), [...Array(9).fill(200), 201])
      const { runId } = runOf(racers[0] ?? (yield* Effect.die("no racer")))
      for (const racer of racers) {
        assert.strictEqual(runOf(racer).runId, runId)
        assert.strictEqual(racer.json.created, racer.status === 201)
      }
      yield* open
      yield* untilEnd(server, token, runId)
      const late = yield* post(server, token, {})
      assert.deepStrictEqual([late.status, late.json.created, runOf(late).runId], [200, false, runId])
      assert.strictEqual(runOf(late).status, "succeeded")
      assert.strictEqual(state.executed, 1)
    }))

  it.live("goes on when the client that started it is gone", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program })
      const token = yield* server.token()
      const { runId } = runOf(yield* post(server, token, {}))
      yield* server.cut
      yield* open
      const events = yield* untilEnd(server, token, runId)
      assert.deepStrictEqual(events.map(({ event }) => event), ["end"])
      const run = yield* server.send({ path: `/api/runs/${String(runId)}`, headers: bearer(token) })
      assert.deepInclude(run.json, { status: "succeeded", lastSeq: 1, endReason: null })
    }))

  it.live("L-70 RUN-01: a client that disconnects during the POST has started nothing, or one run that its key finds", () =>
    Effect.gen(function*() {
      const { open, program, state } = yield* gated
      const server = yield* start({ program })
      const token = yield* server.token()
      const body = JSON.stringify({ threadId: "thread", input: "x".repeat(2_000) })
      const head = "POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" +
        `Authorization: Bearer ${token}\r\nIdempotency-Key: key\r\nContent-Length: ${body.length}\r\n\r\n`
      const whole = head + body
      for (let sent = 50; sent < whole.length; sent += 97) yield* sendAndLeave(server.port, whole.slice(0, sent))
      assert.strictEqual(server.probe.calls.get("runs.start"), undefined)
      // Whole, with no client there to take the answer.
      for (let round = 0; round < 5; round++) yield* sendAndLeave(server.port, whole)
      const found = yield* Effect.repeat(server.log.getByKey({ idempotencyKey: "key", owner: { subject: "owner" } }), {
        until: Option.isSome,
        schedule: Schedule.spaced("5 millis")
      })
      const again = yield* post(server, token, { input: "x".repeat(2_000) })
      assert.deepStrictEqual([again.status, runOf(again).runId], [200, Option.getOrUndefined(found)?.runId])
      yield* open
      yield* untilEnd(server, token, runOf(again).runId)
      assert.strictEqual(state.executed, 1)
    }))

  it.live("tells a reader that the program failed, and not how", () =>
    Effect.gen(function*() {
      const server = yield* start({ program: () => Effect.fail(new Error("at /var/lib/secret-path")) })
      const token = yield* server.token()
      const { runId } = runOf(yield* post(server, token, {}))
      const events = yield* untilEnd(server, token, runId)
      assert.strictEqual(events.length, 1)
      const end: unknown = JSON.parse(events[0]?.data ?? "")
      assert.deepInclude(end, { status: "failed", reason: "program_failed" })
      assert.notInclude(JSON.stringify(events), "secret-path")
    }))
})

describe("finding a run again", () => {
  const active = (server: Server, token: string, thread = "thread", key?: string) =>
    server.send({
      path: `/api/threads/${encodeURIComponent(thread)}/active-run`,
      headers: { ...bearer(token), ...(key === undefined ? {} : { "idempotency-key": key }) }
    })

  it.live("L-80 RUN-01: with a key, is the run of that key in that thread, and never another turn", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const first = runOf(yield* post(server, token, { key: "first" }))
      yield* untilEnd(server, token, first.runId)
      const second = runOf(yield* post(server, token, { key: "second" }))
      yield* untilEnd(server, token, second.runId)
      assert.strictEqual(runOf(yield* active(server, token, "thread", "first")).runId, first.runId)
      assert.strictEqual(runOf(yield* active(server, token, "thread", "second")).runId, second.runId)
      const none = { status: 200, json: { run: null } }
      for (
        const [thread, key, as] of [
          ["thread", "third", token],
          ["another", "first", token],
          ["thread", "first", yield* server.token({ subject: "another" })]
        ] as const
      ) {
        const { json, status } = yield* active(server, as, thread, key)
        assert.deepStrictEqual({ status, json }, none)
      }
      server.probe.failing.add("runs.getByKey")
      assertError(yield* active(server, token, "thread", "first"), {
        status: 503,
        tag: "Unavailable",
        code: "unavailable",
        retryable: true
      })
      assertError(yield* active(server, token, "thread", "x".repeat(256)), {
        status: 400,
        tag: "InvalidRequest",
        code: "invalid_request"
      })
    }))

  it.live("RUN-17: tells what it continues, for as long as it is kept, and takes nothing for that but its form", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const { runId } = runOf(yield* post(server, token, {}))
      yield* untilEnd(server, token, runId)
      const continuing = (continuation: unknown) =>
        server.send({
          path: "/api/runs",
          headers: { ...bearer(token), "idempotency-key": "continued" },
          body: { threadId: "thread", input: null, continuation }
        })
      const continuation = { attemptedRunIds: [String(runId)], reason: "stale_run" }
      for (
        const wrong of [
          null,
          {},
          { ...continuation, attemptedRunIds: [] },
          { ...continuation, attemptedRunIds: ["1"] },
          { ...continuation, attemptedRunIds: Array(33).fill(runId) },
          { ...continuation, reason: "x".repeat(256) }
        ]
      ) {
        assertError(yield* continuing(wrong), { status: 400, tag: "InvalidRequest", code: "invalid_request" })
      }
      const started = yield* continuing(continuation)
      assert.strictEqual(started.status, 201)
      const view = runOf(started)
      yield* untilEnd(server, token, view.runId)
      const found = yield* server.send({ path: `/api/runs/${String(view.runId)}`, headers: bearer(token) })
      for (const one of [view, found.json, runOf(yield* active(server, token))]) {
        assert.deepStrictEqual(one.continuation, continuation)
      }
      const plain = yield* server.send({ path: `/api/runs/${String(runId)}`, headers: bearer(token) })
      assert.notProperty(plain.json, "continuation")
      // It is no part of the request: the same key without it is the same run.
      const again = yield* continuing(undefined)
      assert.deepStrictEqual([again.status, runOf(again).runId], [200, view.runId])
    }))

  it.live("RUN-10: is found by its thread while it runs and after it; L-72 a failing store is not taken for none", () =>
    Effect.gen(function*() {
      const { open, program } = yield* gated
      const server = yield* start({ program })
      const token = yield* server.token()
      const none = yield* active(server, token)
      assert.deepStrictEqual([none.status, none.json], [200, { run: null }])
      const { runId } = runOf(yield* post(server, token, {}))
      assert.deepInclude(runOf(yield* active(server, token)), { runId, status: "running", completedAt: null })
      yield* open
      yield* untilEnd(server, token, runId)
      assert.deepInclude(runOf(yield* active(server, token)), { runId, status: "succeeded" })
      server.probe.failing.add("runs.activeForThread")
      assertError(yield* active(server, token), {
        status: 503,
        tag: "Unavailable",
        code: "unavailable",
        retryable: true
      })
    }))

  it.live("L-71: is found within the reconnect window of its end, however long ago it began", () =>
    Effect.gen(function*() {
      const real = yield* Clock.Clock
      let passedMillis = 0
      const clock = telling(() => real.currentTimeMillisUnsafe() + passedMillis, real)
      const server = yield* Effect.provideService(start(), Clock.Clock, clock)
      const token = yield* server.token()
      const request = { threadId: "thread", idempotencyKey: "key", request: null, owner: { subject: "owner" } }
      const { run: { epoch, runId } } = yield* Effect.orDie(server.log.start(request))
      // Longer than the window, so that one that counts from the start has closed.
      passedMillis = 11 * 60_000
      yield* Effect.orDie(server.log.finish({ runId, epoch, end: { status: "succeeded" } }))
      const found = runOf(yield* active(server, token))
      assert.deepInclude(found, { runId, status: "succeeded" })
      assert.isAbove(Date.parse(String(found.completedAt)) - Date.parse(String(found.startedAt)), 10 * 60_000)
    }))

  it.live("takes any thread id that a run can be started with", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const threads = [
        "a/b",
        "a b",
        "..",
        "%",
        "?x=1#y",
        "Ünï–🧵",
        "x".repeat(100),
        "🧵".repeat(50),
        "active-run",
        "A",
        "a"
      ]
      for (const [index, threadId] of threads.entries()) {
        const started = yield* post(server, token, { threadId, key: String(index), input: 0 })
        assert.strictEqual(started.status, 201, threadId)
        assert.strictEqual(runOf(yield* active(server, token, threadId)).runId, runOf(started).runId, threadId)
      }
    }))
})

describe("ending a run", () => {
  it.live("by its id interrupts the program and tells the readers; once more changes nothing", () =>
    Effect.gen(function*() {
      const { program, state } = yield* gated
      const server = yield* start({ program })
      const token = yield* server.token()
      const { runId } = runOf(yield* post(server, token, {}))
      const abort = server.send({ method: "POST", path: `/api/runs/${String(runId)}/abort`, headers: bearer(token) })
      assert.deepInclude((yield* abort).json, { runId, status: "aborted" })
      assert.deepInclude((yield* abort).json, { runId, status: "aborted", lastSeq: 1 })
      const events = yield* untilEnd(server, token, runId)
      assert.deepStrictEqual(events.map(({ data, event }) => [event, JSON.parse(data)]), [["end", {
        status: "aborted"
      }]])
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => state.interrupted === 1 })
    }))

  it.live("L-79: by its thread and key holds also before it has begun: it never executes", () =>
    Effect.gen(function*() {
      const { program, state } = yield* gated
      const server = yield* start({ program })
      const token = yield* server.token()
      const abort = (key: string) =>
        server.send({ path: "/api/threads/thread/abort", headers: bearer(token), body: { idempotencyKey: key } })
      assert.deepStrictEqual((yield* abort("key")).json, { outcome: "registered", run: null })
      const late = yield* post(server, token, {})
      assert.deepInclude(runOf(late), { status: "aborted" })
      assert.strictEqual((yield* abort("key")).json.outcome, "already-ended")
      assert.strictEqual(state.executed, 0)

      yield* post(server, token, { key: "other" })
      const aborted = yield* abort("other")
      assert.strictEqual(aborted.json.outcome, "aborted")
      assert.deepInclude(runOf(aborted), { status: "aborted" })
    }))
})

describe("another owner's run", () => {
  it.live("RUN-18: is not there: it is not shown, followed, found or ended, and its key and thread are free", () =>
    Effect.gen(function*() {
      const { program, state } = yield* gated
      const server = yield* start({ program })
      const ada = yield* server.token({ subject: "ada" })
      const bob = yield* server.token({ subject: "bob" })
      const { runId } = runOf(yield* post(server, ada, {}))
      const id = String(runId)
      const headers = bearer(bob)
      const foreign = yield* server.send({ path: `/api/runs/${id}`, headers })
      assertError(foreign, notFound)
      const unknown = yield* server.send({ path: `/api/runs/${id.replace(/.{4}$/, "0000")}`, headers })
      assert.strictEqual(
        foreign.text.replace(String(foreign.json.traceId), "").replace(id, ""),
        unknown.text.replace(String(unknown.json.traceId), "").replace(id.replace(/.{4}$/, "0000"), "")
      )
      assertError(yield* server.send({ path: `/api/runs/${id}/events`, headers }), notFound)
      assertError(yield* server.send({ path: `/api/runs/${id}/events?after=99`, headers }), notFound)
      assertError(yield* server.send({ method: "POST", path: `/api/runs/${id}/abort`, headers }), notFound)
      const answers = { path: `/api/runs/${id}/answers`, headers, body: { name: "go on?", value: true } }
      assertError(yield* server.send(answers), notFound)
      const found = yield* server.send({ path: "/api/threads/thread/active-run", headers })
      assert.deepStrictEqual(found.json, { run: null })
      const abort = yield* server.send({
        path: "/api/threads/thread/abort",
        headers,
        body: { idempotencyKey: "other" }
      })
      assert.strictEqual(abort.json.outcome, "registered")

      const own = yield* post(server, bob, {})
      assert.strictEqual(own.status, 201)
      assert.notStrictEqual(runOf(own).runId, runId)
      assert.strictEqual(state.executed, 2)
      const still = yield* server.send({ path: `/api/runs/${id}`, headers: bearer(ada) })
      assert.strictEqual(still.json.status, "running")
    }))
})

describe("an insider", () => {
  it.live("RUN-18 RUN-20 RUN-22: neither answers, interrupts nor queues behind a run that is another's, or without the scope", () =>
    Effect.gen(function*() {
      const server = yield* start({ program: ({ run }) => run.ask("go on?", "Shall I?") })
      const ada = yield* server.token({ subject: "ada" })
      const { runId } = runOf(yield* post(server, ada, {}))
      const path = `/api/runs/${String(runId)}`
      const statusOf = (token: string) =>
        Effect.map(server.send({ path, headers: bearer(token) }), ({ json }) => json.status)
      while ((yield* statusOf(ada)) !== "waiting") yield* Effect.sleep("10 millis")

      // Another subject uses the same thread and key, in each way: a thread of a subject's is its own.
      const bob = yield* server.token({ subject: "bob" })
      for (const whenBusy of ["reject", "enqueue", "interrupt"]) {
        const started = yield* server.send({
          path: "/api/runs",
          headers: { ...bearer(bob), "idempotency-key": whenBusy },
          body: { threadId: "thread", input: null, whenBusy }
        })
        assert.include([201, 409], started.status)
        if (started.status === 201) assert.notStrictEqual(runOf(started).runId, runId)
      }
      const answer = { path: `${path}/answers`, body: { name: "go on?", value: "bob was here" } }
      assertError(yield* server.send({ ...answer, headers: bearer(bob) }), notFound)
      // The same subject, by a session that may only read, and by one that may only operate.
      const reader = yield* server.token({ subject: "ada", scopes: ["runs:read"] })
      for (
        const request of [answer, { path: `${path}/abort`, body: {} }, {
          path: "/api/threads/thread/abort",
          body: { idempotencyKey: "key" }
        }]
      ) {
        assert.strictEqual((yield* server.send({ ...request, headers: bearer(reader) })).status, 403)
      }
      for (const whenBusy of ["reject", "enqueue", "interrupt"]) {
        const started = yield* server.send({
          path: "/api/runs",
          headers: { ...bearer(reader), "idempotency-key": whenBusy },
          body: { threadId: "thread", input: null, whenBusy }
        })
        assert.strictEqual(started.status, 403)
      }
      // A page of another site that has the browser send its cookie.
      const cookie = yield* server.cookie
      for (
        const headers of [{ origin: "https://evil.example" }, { "sec-fetch-site": "cross-site" }, { origin: "null" }]
      ) {
        assert.strictEqual((yield* server.send({ ...answer, headers: { cookie, ...headers } })).status, 403)
      }
      assert.strictEqual(yield* statusOf(ada), "waiting")
      for (const name of ["__proto__", "constructor", "toString"]) {
        const other = yield* server.send({ path: `${path}/answers`, headers: bearer(ada), body: { name, value: true } })
        assertError(other, { status: 404, tag: "NotFound", code: "question_not_found" })
      }
      const value: unknown = JSON.parse(`{"__proto__":{"admin":true},"constructor":{"prototype":1},"toString":null}`)
      const taken = yield* server.send({
        path: `${path}/answers`,
        headers: bearer(ada),
        body: { name: "go on?", value }
      })
      assert.strictEqual(taken.status, 200)
      const end = (yield* untilEnd(server, ada, runId)).at(-1)
      assert.strictEqual(end?.event, "end")
      // What was sent comes back as it was sent, and nothing else has changed.
      assert.strictEqual(
        JSON.stringify(JSON.parse(end?.data ?? "").result),
        `{"__proto__":{"admin":true},"constructor":{"prototype":1},"toString":null}`
      )
      assert.notProperty({}, "admin")
    }))

  it.live("C-05 HTTP-07: ids of an object's prototype, and ones that break a line, are ids like others in each path", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const ids = [
        "__proto__",
        "constructor",
        "hasOwnProperty",
        "%0d%0aset-cookie:%20x=1",
        "%2e%2e",
        "%00",
        "..%2f..%2f"
      ]
      for (const id of ids) {
        for (const path of [`/api/runs/${id}`, `/api/runs/${id}/events`, `/api/threads/${id}/active-run`]) {
          const answer = yield* server.send({ path, headers: bearer(token) })
          assert.include([200, 400, 404], answer.status, path)
          assert.notProperty(answer.headers, "set-cookie")
        }
        const link = yield* server.send({
          path: "/api/auth/pairing-links/revoke",
          headers: bearer(token),
          body: { id: decodeURIComponent(id) }
        })
        assert.include([400, 404], link.status)
      }
      for (const thread of ["__proto__", "constructor"]) {
        assert.strictEqual((yield* post(server, token, { threadId: thread, key: thread })).status, 201)
        const found = yield* server.send({ path: `/api/threads/${thread}/active-run`, headers: bearer(token) })
        assert.strictEqual(runOf(found).threadId, thread)
      }
    }))
})

describe("a client that loses its connection", () => {
  it.live("HTTP-04: continues with Last-Event-ID and gets every event once (read by an independent EventSource)", () =>
    Effect.gen(function*() {
      const server = yield* start({ runs: { pageSize: 3 } })
      const token = yield* server.token()
      const { run: { epoch, runId } } = yield* Effect.orDie(
        server.log.start({ threadId: "thread", idempotencyKey: "key", request: null, owner: { subject: "owner" } })
      )
      const append = (from: number, to: number) =>
        Effect.orDie(server.log.append({
          runId,
          epoch,
          events: Array.from({ length: to - from + 1 }, (_, index) => ({ n: from + index, text: "line\nbreak" }))
        }))

      const seen: Array<{ readonly id: string; readonly n: unknown }> = []
      const cursors: Array<string | null> = []
      let ended: string | undefined
      const source = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const source = new EventSource(`http://127.0.0.1:${server.port}/api/runs/${runId}/events?after=0`, {
            fetch: (input, init) => {
              const headers = new Headers({ ...init.headers })
              cursors.push(headers.get("last-event-id"))
              headers.set("authorization", `Bearer ${token}`)
              return fetch(input, { ...init, headers })
            }
          })
          source.addEventListener("data", (event) => {
            const data: unknown = JSON.parse(event.data)
            seen.push({
              id: event.lastEventId,
              n: typeof data === "object" && data !== null && "n" in data ? data.n : undefined
            })
          })
          source.addEventListener("end", (event) => {
            ended = event.lastEventId
          })
          return source
        }),
        (source) => Effect.sync(() => source.close())
      )
      const until = (condition: () => boolean) => Effect.repeat(Effect.sleep("2 millis"), { until: condition })

      yield* append(1, 10)
      yield* until(() => seen.length === 10)
      yield* server.cut
      yield* append(11, 25)
      yield* until(() => seen.length === 25)
      yield* append(26, 30)
      yield* server.cut
      yield* Effect.orDie(server.log.finish({ runId, epoch, end: { status: "succeeded" } }))
      yield* until(() => ended !== undefined)
      assert.deepStrictEqual(seen, Array.from({ length: 30 }, (_, index) => ({ id: String(index + 1), n: index + 1 })))
      assert.strictEqual(ended, "31")
      assert.deepStrictEqual(cursors.slice(0, 2), [null, "10"])
      // It asks once more after the end, is told 204, and never again.
      yield* until(() => source.readyState === EventSource.CLOSED)
      assert.strictEqual(cursors.at(-1), "31")
    }))
})
