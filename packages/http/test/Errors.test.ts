import { assert, describe, it } from "@effect/vitest"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as WireFailure from "@sallyport/contract/WireFailure"
import * as Authentication from "@sallyport/http/Authentication"
import * as Edge from "@sallyport/http/Edge"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as ByteSize from "effect/ByteSize"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { eventually } from "../../../test-support/programs.ts"
import { surfaceOf } from "../../../test-support/fuzz.ts"
import { type Answer, assertError, bearer, eventsOf, follow, raw, type Request, type Server, start } from "./support.ts"

const invalid = { status: 400, tag: "InvalidRequest", code: "invalid_request" }
const unavailable = { status: 503, tag: "Unavailable", code: "unavailable", retryable: true }
const json = { "content-type": "application/json" }
const form = { "content-type": "application/x-www-form-urlencoded" }
const unknownRun = "01a1fd53-e440-7063-8ac2-576ada823d53"
/** Stands for whatever a caller must not see again. */
const secret = "hunter2hunter2hunter2"

const tokenType = "urn:sallyport:token-type:bootstrap-credential"
const exchange = (parameters: Record<string, string>): Request => ({
  path: "/oauth/token",
  headers: form,
  body: new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: tokenType,
    ...parameters
  }).toString()
})

/** Every guarded endpoint, with a request of the right form. */
const guarded: Record<string, { readonly scope: string | null; readonly request: Request }> = {
  ticket: { scope: null, request: { method: "POST", path: "/api/auth/websocket-ticket" } },
  logout: { scope: null, request: { method: "POST", path: "/api/auth/logout" } },
  "list sessions": { scope: "access:read", request: { path: "/api/auth/sessions" } },
  "revoke a session": { scope: "access:write", request: { path: "/api/auth/sessions/revoke", body: { id: "x" } } },
  "revoke others": { scope: "access:write", request: { method: "POST", path: "/api/auth/sessions/revoke-others" } },
  "revoke what is older": {
    scope: "access:manage",
    request: { path: "/api/auth/sessions/revoke-issued-before", body: { time: "2020-01-01T00:00:00.000Z" } }
  },
  "issue a link": { scope: "access:write", request: { path: "/api/auth/pairing-links", body: {} } },
  "list links": { scope: "access:read", request: { path: "/api/auth/pairing-links" } },
  "revoke a link": { scope: "access:write", request: { path: "/api/auth/pairing-links/revoke", body: { id: "x" } } },
  "start a run": {
    scope: "runs:operate",
    request: { path: "/api/runs", headers: { "idempotency-key": "k" }, body: { threadId: "t", input: 1 } }
  },
  "get a run": { scope: "runs:read", request: { path: `/api/runs/${unknownRun}` } },
  "follow a run": { scope: "runs:read", request: { path: `/api/runs/${unknownRun}/events` } },
  "find a run": { scope: "runs:read", request: { path: "/api/threads/t/active-run" } },
  "abort a run": { scope: "runs:operate", request: { method: "POST", path: `/api/runs/${unknownRun}/abort` } },
  "abort a thread": {
    scope: "runs:operate",
    request: { path: "/api/threads/t/abort", body: { idempotencyKey: "k" } }
  }
}

/** What each of them asks of a store. */
const operations: Record<string, string> = {
  ticket: "sessions.insertTicket",
  logout: "sessions.revoke",
  "list sessions": "sessions.list",
  "revoke a session": "sessions.revoke",
  "revoke others": "sessions.revoke",
  "revoke what is older": "sessions.revoke",
  "issue a link": "links.insert",
  "list links": "links.list",
  "revoke a link": "links.revoke",
  "start a run": "runs.start",
  "get a run": "runs.get",
  "follow a run": "runs.get",
  "find a run": "runs.activeForThread",
  "abort a run": "runs.abort",
  "abort a thread": "runs.abortByKey"
}

const authorized = (request: Request, token: string): Request => ({
  ...request,
  headers: { ...request.headers, ...bearer(token) }
})

const startRun = (
  token: string,
  body: unknown,
  headers: Record<string, string> = { "idempotency-key": "k" }
): Request => authorized({ path: "/api/runs", headers, body }, token)

const untouched = (server: Server) => {
  for (const operation of server.probe.calls.keys()) {
    assert.notMatch(operation, /^(runs\.(start|append|abort)|links\.(insert|revoke)|sessions\.revoke)/)
  }
}

describe("every guarded endpoint", () => {
  it.live("answers 401 without a session and 403 without its scope, whatever else is wrong with the request", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const poor = yield* server.token({ scopes: ["credentials:read"] })
      for (const [name, { request, scope }] of Object.entries(guarded)) {
        const anonymous = yield* server.send(request)
        assertError(anonymous, { status: 401, tag: "Unauthorized", code: "unauthorized" })
        assert.strictEqual(anonymous.headers["www-authenticate"], "Bearer realm=\"sallyport\"", name)
        if (scope === null) continue
        const denied = yield* server.send(authorized(request, poor))
        assertError(denied, { status: 403, tag: "Forbidden", code: "scope_required" })
        assert.include(denied.json.message, scope, name)
        if (request.body !== undefined) {
          assertError(
            yield* server.send({ ...authorized(request, poor), headers: { ...json, ...bearer(poor) }, body: "{" }),
            { status: 403, tag: "Forbidden", code: "scope_required" }
          )
        }
      }
      untouched(server)
    }))

  it.live("L-72: answers 503 while its store fails, says nothing of why, and logs the cause under the trace id", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      for (const [name, { request }] of Object.entries(guarded)) {
        const operation = operations[name] ?? ""
        server.probe.failing.add(operation)
        const answer = yield* server.send(authorized(request, token))
        server.probe.failing.delete(operation)
        assertError(answer, unavailable)
        const lines = server.logged.filter((line) => line.includes(String(answer.json.traceId)))
        assert.isTrue(lines.some((line) => line.includes("WARN") && line.includes("the disk is on fire")), name)
      }

      server.probe.failing.add("sessions.findByTokenDigest")
      const fresh = yield* server.token()
      for (const { request } of Object.values(guarded)) {
        assertError(yield* server.send(authorized(request, fresh)), unavailable)
      }
      assertError(yield* server.send({ path: "/api/auth/session", headers: bearer(fresh) }), unavailable)
      assertError(
        yield* server.send({ path: "/api/auth/session", headers: { cookie: yield* server.cookie } }),
        unavailable
      )
    }))

  it.live("OPS-01: answers a typed 503, in the form of the endpoint, to each request that it stops in the middle of", () =>
    Effect.gen(function*() {
      const server = yield* start({ gracefulShutdownTimeout: "200 millis" })
      const token = yield* server.token()
      // Seen once, so that it is not looked up again.
      yield* server.send({ path: "/api/auth/session", headers: bearer(token) })
      const unknown = bearer(yield* server.token())
      const code = yield* server.code()
      const hanging = new Set([...Object.values(operations), "links.redeem", "sessions.findByTokenDigest"])
      for (const operation of hanging) server.probe.hanging.add(operation)
      const { calls } = server.probe
      calls.clear()
      const asked = () => Array.from(hanging).reduce((sum, operation) => sum + (calls.get(operation) ?? 0), 0)
      const requests = Object.values(guarded).map(({ request }) => authorized(request, token))
      const others = [{ path: "/api/auth/sessions", headers: unknown }, exchange({ subject_token: code })]
      const pending = yield* Effect.forkScoped(
        Effect.forEach([...requests, ...others], server.send, { concurrency: "unbounded" })
      )
      yield* eventually(Effect.sync(asked), (count) => count === requests.length + others.length)
      yield* server.stop
      const answers = yield* Fiber.join(pending)
      for (const answer of answers) assert.strictEqual(answer.headers["retry-after"], "1", answer.text)
      for (const answer of answers.slice(0, -1)) assertError(answer, unavailable)
      const oauth = answers.at(-1)
      assert.deepStrictEqual(
        [oauth?.status, oauth?.json.error, Object.keys(oauth?.json ?? {}).toSorted()],
        [503, "temporarily_unavailable", ["_tag", "error", "error_description", "traceId"]]
      )
    }))

  it.live("OPS-02 C-02: answers 500 to a fault of its own, says nothing of it, and logs it once under the trace id", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      for (const [name, { request }] of Object.entries(guarded)) {
        const operation = operations[name] ?? ""
        server.probe.dying.add(operation)
        const answer = yield* server.send(authorized(request, token))
        server.probe.dying.delete(operation)
        assertError(answer, { status: 500, tag: "InternalError", code: "internal_error" })
        assert.include(String(answer.json.message), String(answer.json.traceId))
        const lines = server.logged.filter((line) => line.includes(String(answer.json.traceId)))
        assert.strictEqual(lines.filter((line) => line.includes("ERROR")).length, 1, name)
        assert.isTrue(lines.some((line) => line.includes("the disk is on fire")), name)
      }
      server.probe.dying.add("sessions.findByTokenDigest")
      const fresh = bearer(yield* server.token())
      const unauthenticated = yield* server.send({ path: "/api/auth/sessions", headers: fresh })
      assertError(unauthenticated, { status: 500, tag: "InternalError", code: "internal_error" })
      server.probe.dying.clear()

      server.probe.dying.add("links.redeem")
      const answer = yield* server.send(exchange({ subject_token: yield* server.code() }))
      assert.deepStrictEqual(
        [answer.status, answer.json.error, answer.json.code, answer.json.retryable],
        [500, "server_error", "internal_error", false]
      )
      assert.include(String(answer.json.error_description), String(answer.json.traceId))
      assert.isTrue(server.logged.some((line) => line.includes(String(answer.json.traceId)) && line.includes("ERROR")))
    }))

  it.live("OPS-06: a request that no tracer follows has one trace id, in its answer, in the log, and for the host", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const tell = Effect.tap(Edge.traceId, (traceId) => Effect.sync(() => void told.push(traceId)))
      const server = yield* start({
        routes: Layer.mergeAll(
          Sallyport.layer(),
          HttpRouter.add("GET", "/host", Effect.andThen(Effect.andThen(tell, tell), Effect.die("a fault"))),
          HttpRouter.add(
            "GET",
            "/stream",
            Effect.as(
              tell,
              HttpServerResponse.stream(Stream.concat(
                Stream.make(new Uint8Array(1)),
                Stream.fromEffect(
                  Effect.andThen(Effect.andThen(Effect.sleep("50 millis"), tell), Effect.die("a fault"))
                )
              ))
            )
          )
        )
      })
      const answers = [yield* server.send({ path: "/host" }), yield* server.send({ path: "/host" })]
      for (const [index, answer] of answers.entries()) {
        assert.deepStrictEqual(new Set(told.slice(2 * index, 2 * index + 2)), new Set([answer.json.traceId]))
        assert.lengthOf(linesOf(server, answer.json.traceId), 1)
      }
      assert.notStrictEqual(answers[0]?.json.traceId, answers[1]?.json.traceId)
      yield* Effect.exit(server.send({ path: "/stream" }))
      assert.strictEqual(told[4], told[5])
      assert.lengthOf(linesOf(server, told[5]), 1)
    }))

  it.live("gives answers of its own a trace id of their own", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ids = new Set<unknown>()
      for (let i = 0; i < 20; i++) ids.add((yield* server.send({ path: "/api/auth/sessions" })).json.traceId)
      assert.strictEqual(ids.size, 20)
    }))
})

/** Returns the lines of the log that name the trace id that a client was told. */
const linesOf = (server: Server, traceId: unknown) => {
  assert.match(String(traceId), /^[0-9a-f]{32}$/)
  return server.logged.filter((line) => line.includes(String(traceId)))
}

const traceId = "0af7651916cd43dd8448eb211c80319c"
const traceparent = `00-${traceId}-b7ad6b7169203331-01`
const tracer = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })

describe("what fails outside of the contract's endpoints", () => {
  it.live("OPS-06 C-02: a host's route or page with a fault is a 500 whose trace id is in one line of the log, with the cause", () =>
    Effect.gen(function*() {
      const broken = new Error("the disk is on fire at /var/lib/secret-path")
      const faults: Record<string, Effect.Effect<HttpServerResponse.HttpServerResponse>> = {
        "/dies": Effect.die(broken),
        "/throws": Effect.sync(() => {
          throw broken
        }),
        "/rejects": Effect.promise(() => Promise.reject(broken)),
        "/page": Effect.map(Effect.die(broken), () => HttpServerResponse.html("<p>")),
        "/both": Effect.ensuring(Effect.die(broken), Effect.die("something else"))
      }
      const routes = Object.entries(faults).map(([path, fault]) => HttpRouter.add("GET", `/host${path}`, fault))
      const [first = Layer.empty, ...others] = Object.entries(faults).map(([path, fault]) =>
        HttpRouter.add("GET", `/guarded${path}`, fault).pipe(Layer.provide(Authentication.guard(null).layer))
      )
      const server = yield* start({ routes: Layer.mergeAll(Sallyport.layer(), ...routes, first, ...others) })
      const headers = bearer(yield* server.token())
      for (const place of ["/host", "/guarded"]) {
        for (const path of Object.keys(faults)) {
          const answer = yield* server.send({ path: place + path, headers })
          assertError(answer, { status: 500, tag: "InternalError", code: "internal_error" })
          assert.notInclude(answer.text, "secret-path")
          assert.strictEqual(answer.headers["x-content-type-options"], "nosniff")
          const lines = linesOf(server, answer.json.traceId)
          assert.lengthOf(lines, 1, place + path)
          assert.include(lines[0], "Answered internal_error")
          assert.include(lines[0], "secret-path")
        }
      }
    }))

  it.live("OPS-06: a fault that cuts a host's stream off is one line of the log, with the trace id of the client's trace", () =>
    Effect.gen(function*() {
      const read = yield* Deferred.make<void>()
      const chunks = Stream.concat(
        Stream.make(new TextEncoder().encode("so far")),
        Stream.fromEffect(Effect.andThen(Deferred.await(read), Effect.die(new Error("the disk is on fire"))))
      )
      const server = yield* start({
        tracer,
        routes: Layer.merge(
          Sallyport.layer(),
          HttpRouter.add("GET", "/stream", Effect.succeed(HttpServerResponse.stream(chunks)))
        )
      })
      const stream = yield* follow(server.port, { path: "/stream", headers: { traceparent } })
      yield* stream.until((text) => text === "so far")
      yield* Deferred.succeed(read, undefined)
      assert.strictEqual((yield* stream.ended).how, "cut")
      const lines = linesOf(server, traceId)
      assert.lengthOf(lines, 1)
      assert.include(lines[0], "the disk is on fire")
    }))

  it.live("OPS-06: what a host answers by itself, with an error or without, is left as it is, and is no fault in the log", () =>
    Effect.gen(function*() {
      const teapot = HttpServerResponse.text("short and stout", { status: 418 })
      const own = HttpServerResponse.text("ours is broken", { status: 500 })
      const server = yield* start({
        routes: Layer.mergeAll(
          Sallyport.layer(),
          HttpRouter.add("GET", "/teapot", Effect.die(teapot)),
          HttpRouter.add("GET", "/own", Effect.die(own)),
          HttpRouter.add("GET", "/upgrade", (request) =>
            Effect.gen(function*() {
              const reader = yield* (yield* request.upgrade).reader
              return yield* Effect.forever(reader.pull)
            }).pipe(Effect.scoped, Effect.orDie))
        )
      })
      assert.strictEqual((yield* server.send({ path: "/teapot" })).status, 418)
      assert.deepInclude(yield* server.send({ path: "/own" }), { status: 500, text: "ours is broken" })
      assert.strictEqual((yield* server.send({ path: "/nowhere" })).status, 404)
      yield* Effect.callback<void>((resume) => {
        const socket = new WebSocket(`ws://127.0.0.1:${server.port}/upgrade`)
        socket.addEventListener("open", () => socket.close())
        socket.addEventListener("close", () => resume(Effect.void))
      })
      yield* server.stop
      assert.isFalse(server.logged.some((line) => line.includes("Answered internal_error")), server.logged.join("\n"))
    }))

  it.live("OPS-06: the token endpoint tells the trace id under which the log has why its store failed", () =>
    Effect.gen(function*() {
      const server = yield* start()
      for (const operation of ["links.findByCodeDigest", "links.redeem"]) {
        const code = yield* server.code()
        server.probe.failing.add(operation)
        const answer = yield* server.send(exchange({ subject_token: code }))
        server.probe.failing.clear()
        assert.deepStrictEqual([answer.status, answer.json.error], [503, "temporarily_unavailable"])
        const [line, ...others] = linesOf(server, answer.json.traceId)
        assert.lengthOf(others, 0)
        assert.include(line, "WARN")
        assert.include(line, "the disk is on fire")
      }
    }))

  for (
    const [how, code, level] of [["failing", "unavailable", "WARN"], ["dying", "internal_error", "ERROR"]] as const
  ) {
    it.live(`OPS-06 C-02: a stream whose store is ${how} ends with the trace id under which the log has the cause`, () =>
      Effect.gen(function*() {
        const server = yield* start({ tracer, runs: { pollInterval: "5 millis" } })
        const headers = { ...bearer(yield* server.token()), traceparent }
        const { run } = yield* Effect.orDie(
          server.log.start({ threadId: "t", idempotencyKey: "k", request: null, owner: { subject: "owner" } })
        )
        yield* Effect.orDie(server.log.append({ runId: run.runId, epoch: run.epoch, events: [1] }))
        const stream = yield* follow(server.port, { path: `/api/runs/${run.runId}/events`, headers })
        yield* stream.until((text) => text.includes("id: 1"))
        server.probe[how].add("runs.read").add("runs.heads").add("runs.get")
        // The end is read from the store, unlike what this process appends.
        yield* Effect.orDie(
          server.log.finish({ runId: run.runId, epoch: run.epoch, end: { status: "succeeded" } })
        )
        const { text } = yield* stream.ended
        const last = eventsOf(text).at(-1)
        assert.strictEqual(last?.event, "failure", text)
        const data: { readonly code: string; readonly traceId: string } = JSON.parse(last?.data ?? "")
        assert.deepInclude(data, { code, traceId })
        assert.notInclude(text, "secret-path")
        const [line, ...others] = linesOf(server, data.traceId)
        assert.lengthOf(others, 0)
        assert.include(line, level)
        assert.include(line, "the disk is on fire")
      }))
  }
})

describe("what the contract's errors are answered to", () => {
  it.live("sessions: 404 for an unknown one, 409 for the one that asks", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { session, token } = yield* Effect.orDie(
        server.sessions.issue({ subject: "owner", scopes: ["access:write"], method: "bearer-access-token" })
      )
      const headers = bearer(Redacted.value(token))
      const revoke = (id: string) => server.send({ path: "/api/auth/sessions/revoke", headers, body: { id } })
      assertError(yield* revoke("unknown"), { status: 404, tag: "NotFound", code: "session_not_found" })
      assertError(yield* revoke(session.id), { status: 409, tag: "Conflict", code: "current_session" })
      assertError(yield* revoke("x".repeat(65)), invalid)
      assertError(yield* revoke(""), invalid)
      assert.strictEqual((yield* Effect.orDie(server.sessions.list())).length, 1)
    }))

  it.live("pairing links: 404 for an unknown one, 403 for a scope not held, 400 for a lifetime out of bounds", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = bearer(yield* server.token({ scopes: ["access:write"] }))
      const issue = (body: unknown) => server.send({ path: "/api/auth/pairing-links", headers, body })
      assertError(
        yield* server.send({ path: "/api/auth/pairing-links/revoke", headers, body: { id: "unknown" } }),
        { status: 404, tag: "NotFound", code: "pairing_link_not_found" }
      )
      assertError(yield* issue({ scopes: ["runs:read"] }), { status: 403, tag: "Forbidden", code: "scope_not_held" })
      for (const lifetimeSeconds of [3601, Number.MAX_SAFE_INTEGER, 0, -1, 1.5, 1e300, "60", null]) {
        assertError(yield* issue({ lifetimeSeconds }), invalid)
      }
      for (const scopes of [["*"], ["runs:read "], [""], "runs:read", Array(65).fill("runs:read"), [1]]) {
        assertError(yield* issue({ scopes }), invalid)
      }
      for (const label of ["", " ", "x".repeat(129), "a\u0000b", "a\nb", "\u009f", "\ud800", 1]) {
        assertError(yield* issue({ label }), invalid)
      }
      assertError(yield* issue({ kind: "fridge" }), invalid)
      assert.deepStrictEqual(yield* Effect.orDie(server.links.list()), [])
      const issued = yield* issue({ label: "Ada’s 📱", kind: "machine", lifetimeSeconds: 60 })
      assert.strictEqual(issued.status, 201)
      assert.match(String(issued.json.code), /^([0-9A-Z]{4}-){6}[0-9A-Z]{4}$/)
    }))

  it.live("codes: 400 for one that cannot be one, 401 for one that lets no caller in; L-11 and neither uses a good one up", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const code = yield* server.code({ scopes: ["runs:read"] })
      const typo = code.replace(/.$/, (last) => last === "0" ? "1" : "0")
      const bootstrap = (credential: unknown, more: Record<string, unknown> = {}) =>
        server.send({ path: "/api/auth/bootstrap", body: { credential, ...more } })
      const malformed = { status: 400, tag: "InvalidRequest", code: "malformed_code" }
      for (const credential of [typo, "", " ", "x", "0".repeat(21)]) {
        assertError(yield* bootstrap(credential), malformed)
      }
      for (const credential of ["x".repeat(513), "x".repeat(60_000), null, 1, ["a"], { a: 1 }]) {
        assertError(yield* bootstrap(credential), invalid)
      }
      assert.isUndefined(server.probe.calls.get("links.consume"))
      assertError(yield* bootstrap("\u0000".repeat(30)), {
        status: 401,
        tag: "Unauthorized",
        code: "invalid_credential"
      })
      assertError(yield* bootstrap(code, { label: "a\u0007" }), invalid)
      assertError(yield* bootstrap(code, { label: "x".repeat(2000) }), invalid)

      const denied = yield* server.send(exchange({ subject_token: code, scope: "runs:read runs:operate" }))
      assert.strictEqual(denied.json.error, "invalid_scope")
      assert.strictEqual((yield* bootstrap(code)).status, 200)
      assertError(yield* bootstrap(code), { status: 401, tag: "Unauthorized", code: "invalid_credential" })
    }))

  it.live("cursors: RUN-11, L-75 400 malformed, 409 beyond the end, 410 expired, 404 for an unknown run", () =>
    Effect.gen(function*() {
      const server = yield* start({
        runs: { heartbeatInterval: 1, lease: 2, reconnectWindow: 3, retention: 4, tombstoneRetention: "1 hour" }
      })
      const token = yield* server.token()
      const started = yield* server.send(startRun(token, { threadId: "t", input: 3 }))
      const id = runIdOf(started)
      const read = (after: string, id_ = id) =>
        server.send(authorized({ path: `/api/runs/${id_}/events?after=${encodeURIComponent(after)}` }, token))
      const resume = (cursor: string) =>
        server.send(authorized({ path: `/api/runs/${id}/events`, headers: { "last-event-id": cursor } }, token))
      assert.include((yield* read("0")).text, "event: end")

      const malformed = { status: 400, tag: "InvalidRequest", code: "malformed_cursor" }
      for (const cursor of ["-1", "1.0", "1e3", "01", "abc", "0x1", " 1", "9007199254740992", "NaN", "Infinity", "١"]) {
        assertError(yield* read(cursor), malformed)
        if (/^[!-~]+$/.test(cursor)) assertError(yield* resume(cursor), malformed)
      }
      assertError(yield* read(""), malformed)
      assertError(yield* read("1".repeat(65)), invalid)
      assertError(yield* resume("1".repeat(65)), invalid)
      assertError(
        yield* server.send(authorized({ path: `/api/runs/${id}/events?after=1&after=2` }, token)),
        invalid
      )
      const beyond = { status: 409, tag: "Conflict", code: "cursor_beyond_end" }
      assertError(yield* read("5"), beyond)
      assertError(yield* read("9007199254740991"), beyond)
      const unknown = { status: 404, tag: "NotFound", code: "run_not_found" }
      for (const other of [unknownRun, "x", "..%2f..", id.toUpperCase(), "%00"]) {
        assertError(yield* read("0", other), unknown)
      }

      yield* Effect.repeat(Effect.orDie(server.log.sweep({ limit: 10 })), { until: (swept) => swept.events > 0 })
      assertError(yield* read("1"), { status: 410, tag: "Gone", code: "cursor_expired" })
      const again = yield* server.send(startRun(token, { threadId: "t", input: 3 }))
      assert.deepStrictEqual([again.status, runIdOf(again)], [200, id], "the key still answers")
    }))

  it.live("pages: BOOT-11 HTTP-09: 400 from every list for a place that no page can begin at", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const malformed = { status: 400, tag: "InvalidRequest", code: "malformed_cursor" }
      const places = ["1.a\u0000b", "1.\n", "1.", ".", "-1.a", "1e3.a", `1.${"x".repeat(90)}\u0085`]
      for (const path of ["/api/auth/pairing-links", "/api/runs"]) {
        for (const place of places) {
          assertError(
            yield* server.send(authorized({ path: `${path}?after=${encodeURIComponent(place)}` }, token)),
            malformed
          )
        }
      }
      for (const place of ["1.a", "1.00000000-0000-7000-8000-00000000000g"]) {
        assertError(yield* server.send(authorized({ path: `/api/runs?after=${place}` }, token)), malformed)
      }
      for (const place of ["a\u0000b", "\n", "\u0085"]) {
        assertError(
          yield* server.send(authorized({ path: `/api/auth/sessions?after=${encodeURIComponent(place)}` }, token)),
          malformed
        )
      }
    }))

  it.live("runs: 409 while the thread is busy, 422 for the key of another request", () =>
    Effect.gen(function*() {
      const server = yield* start({ program: () => Effect.never })
      const token = yield* server.token()
      const first = yield* server.send(startRun(token, { threadId: "t", input: { a: 1, b: 2 } }))
      assert.strictEqual(first.status, 201)
      const same = yield* server.send(startRun(token, { threadId: "t", input: { b: 2, a: 1 } }))
      assert.deepStrictEqual([same.status, runIdOf(same)], [200, runIdOf(first)])
      assertError(
        yield* server.send(startRun(token, { threadId: "t", input: 2 }, { "idempotency-key": "other" })),
        { status: 409, tag: "Conflict", code: "thread_busy" }
      )
      const queued = yield* server.send(
        startRun(token, { threadId: "t", input: 2, whenBusy: "enqueue" }, { "idempotency-key": "queued" })
      )
      assert.deepStrictEqual([queued.status, Object(queued.json.run).status], [201, "queued"])
      assertError(
        yield* server.send(startRun(token, { threadId: "t", input: 2, whenBusy: "wait" }, { "idempotency-key": "k2" })),
        { status: 400, tag: "InvalidRequest", code: "invalid_request" }
      )
      const conflict = { status: 422, tag: "IdempotencyConflict", code: "idempotency_conflict" }
      assertError(yield* server.send(startRun(token, { threadId: "t", input: { a: 1, b: 3 } })), conflict)
      assertError(yield* server.send(startRun(token, { threadId: "u", input: { a: 1, b: 2 } })), conflict)
      assertError(
        yield* server.send(authorized({ path: "/api/threads/u/abort", body: { idempotencyKey: "k" } }, token)),
        conflict
      )
      for (const path of [`/api/runs/${unknownRun}`, "/api/runs/x", `/api/runs/${"x".repeat(100)}`]) {
        assertError(yield* server.send(authorized({ path }, token)), {
          status: 404,
          tag: "NotFound",
          code: "run_not_found"
        })
      }
    }))
})

describe("a request of the wrong form", () => {
  it.live("is answered 400 with the names of its fields, never with what stood in them", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const cases: ReadonlyArray<readonly [Request, ReadonlyArray<string>]> = [
        [{ path: "/api/auth/bootstrap", headers: json, body: "" }, ["body"]],
        [{ path: "/api/auth/bootstrap", headers: json, body: "{" }, ["body"]],
        [{ path: "/api/auth/bootstrap", headers: json, body: `{"credential": "${secret}"` }, ["body"]],
        [{ path: "/api/auth/bootstrap", headers: json, body: `"${secret}"` }, ["body"]],
        [{ path: "/api/auth/bootstrap", headers: json, body: "[]" }, ["body"]],
        [{ path: "/api/auth/bootstrap", headers: json, body: "\u0000" }, ["body"]],
        [{ path: "/api/auth/bootstrap", body: { credential: { [secret]: secret } } }, ["body", "credential"]],
        [{ path: "/api/auth/bootstrap", body: { credential: `${secret}${"x".repeat(512)}` } }, ["credential"]],
        [
          { path: "/api/auth/bootstrap", body: { credential: secret, label: `${secret}\u0000` } },
          ["body", "label"]
        ],
        [startRun(token, { threadId: "t", input: 1 }, {}), ["headers", "idempotency-key"]],
        [startRun(token, { threadId: "t", input: 1 }, { "idempotency-key": "" }), ["headers", "idempotency-key"]],
        [
          startRun(token, { threadId: "t", input: 1 }, { "idempotency-key": secret.repeat(20) }),
          ["headers", "idempotency-key"]
        ],
        [startRun(token, { threadId: "t", input: 1 }, { "idempotency-key": `${secret}\u0085` }), ["idempotency-key"]],
        [startRun(token, { threadId: "" }), ["body", "threadId"]],
        [startRun(token, { input: 1 }), ["body", "threadId"]],
        [startRun(token, { threadId: "t" }), ["body", "input"]],
        [startRun(token, { threadId: `${secret}\u0000`, input: 1 }), ["threadId"]],
        [startRun(token, { threadId: `${secret}\ud800`, input: 1 }), ["threadId"]],
        [startRun(token, { threadId: secret.repeat(20), input: 1 }), ["threadId"]],
        [startRun(token, { threadId: "x".repeat(101), input: 1 }), ["threadId"]],
        [startRun(token, { threadId: [secret], input: 1 }), ["threadId"]],
        [
          {
            ...startRun(token, ""),
            headers: { ...json, ...bearer(token), "idempotency-key": "k" },
            body: `{"threadId":"t","input":1e999}`
          },
          ["input"]
        ],
        [
          {
            ...startRun(token, ""),
            headers: { ...json, ...bearer(token), "idempotency-key": "k" },
            body: `{"threadId":"t","input":${"[".repeat(8_000)}${"]".repeat(8_000)}}`
          },
          []
        ],
        [authorized({ path: "/api/threads/%00/active-run" }, token), ["path", "id"]],
        [authorized({ path: "/api/threads/%C2%85/active-run" }, token), ["path", "id"]],
        [authorized({ path: "/api/threads/t/abort", body: { idempotencyKey: "" } }, token), ["idempotencyKey"]],
        [authorized({ path: "/api/auth/pairing-links", body: { lifetimeSeconds: secret } }, token), ["lifetimeSeconds"]]
      ]
      for (const [request, names] of cases) {
        const answer = yield* server.send(request)
        assertError(answer, invalid)
        for (const name of names) assert.include(answer.json.message, name)
        assert.notInclude(answer.text, secret)
        assert.isFalse(server.logged.some((line) => line.includes(secret)))
      }
      untouched(server)
    }))

  it.live("HTTP-04: is answered 413 where its body is longer than the limit, with a length and without one", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: Sallyport.layer({ maxBodySize: ByteSize.bytes(1000) }) })
      const token = yield* server.token()
      const tooLarge = { status: 413, tag: "TooLarge", code: "body_too_large" }
      const label = secret.repeat(100)
      const requests: ReadonlyArray<Request> = [
        { path: "/api/auth/bootstrap", body: { credential: "a", label } },
        { path: "/api/auth/bootstrap", headers: json, parts: ["{\"credential\":\"a\",\"label\":\"", label, "\"}"] },
        { path: "/api/auth/bootstrap", headers: json, parts: Array(2000).fill("x".repeat(1000)) },
        { path: "/oauth/token", headers: form, body: `scope=${label}` },
        { path: "/oauth/token", headers: form, parts: ["scope=", label] },
        startRun(token, { threadId: "t", input: label }),
        {
          path: "/api/runs",
          headers: { ...json, ...bearer(token), "idempotency-key": "k" },
          parts: ["{\"threadId\":\"t\",\"input\":\"", label, "\"}"]
        }
      ]
      for (const request of requests) {
        const answer = yield* server.send(request)
        assertError(answer, tooLarge)
        assert.notInclude(answer.text, secret)
      }
      // Only runs take more than 64 KiB, and a form 32, whatever the host allows.
      const open = yield* start()
      const headers = { ...bearer(yield* open.token()), "idempotency-key": "k" }
      const routes = surfaceOf(SallyportApi).routes.filter(({ method }) => method !== "GET")
      assert.isAbove(routes.length, 15)
      for (const { method, path } of routes) {
        const statusOf = (length: number) =>
          Effect.map(
            open.send({
              method,
              path: path.replace(/\{\w+\}/, unknownRun),
              headers: { ...headers, ...(path === "/oauth/token" ? form : json) },
              body: " ".repeat(length)
            }),
            ({ status }) => status
          )
        const most = path === "/oauth/token" ? 32 * 1024 : 64 * 1024
        assert.notStrictEqual(yield* statusOf(most), 413, path)
        const isLong = /^\/api\/(?:runs|threads)(?:\/|$)/.test(path)
        assert.strictEqual((yield* statusOf(most + 1)) === 413, !isLong, path)
        if (!isLong) continue
        assert.notStrictEqual(yield* statusOf(256 * 1024), 413, path)
        assert.strictEqual(yield* statusOf(256 * 1024 + 1), 413, path)
      }
      // What is just within the limit is read.
      const fits = JSON.stringify({ credential: "a", label: "" })
      const within = yield* server.send({
        path: "/api/auth/bootstrap",
        headers: json,
        body: fits + " ".repeat(1000 - fits.length)
      })
      assertError(within, invalid)
      assert.include(within.json.message, "label")
      untouched(server)
    }))

  it.live("HTTP-04: is bounded in its head: long headers are 431, and no handler sees them", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const long = "x".repeat(20_000)
      for (
        const head of [
          `GET /api/auth/session?after=${long} HTTP/1.1\r\n`,
          `GET /api/auth/session HTTP/1.1\r\nCookie: ${long}\r\n`
        ]
      ) {
        const answer = yield* raw(server.port, `${head}Host: 127.0.0.1\r\n\r\n`)
        assert.match(answer, /^HTTP\/1\.1 431 /)
      }
    }))

  it.live("is answered 415 where its body is of another type, without echoing the type", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const unsupported = { status: 415, tag: "UnsupportedMediaType", code: "unsupported_media_type" }
      for (
        const type of [
          "text/plain",
          "application/x-www-form-urlencoded",
          "multipart/form-data",
          `text/${secret}`,
          "",
          ";"
        ]
      ) {
        for (
          const request of [
            { path: "/api/auth/bootstrap", body: `{"credential":"${secret}"}` },
            authorized({ path: "/api/runs", body: "{}" }, token)
          ]
        ) {
          const answer = yield* server.send({ ...request, headers: { ...request.headers, "content-type": type } })
          assertError(answer, unsupported)
          assert.notInclude(answer.text, secret)
        }
      }
      for (const type of ["application/json; charset=utf-8", "Application/JSON"]) {
        const answer = yield* server.send({
          path: "/api/auth/bootstrap",
          headers: { "content-type": type },
          body: "{}"
        })
        assertError(answer, invalid)
      }
    }))

  it.live("is answered 400 where its body breaks off or is not what its head says", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const head = "POST /api/auth/bootstrap HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
      const answers = [
        yield* raw(server.port, `${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n`),
        yield* raw(server.port, `${head}Content-Length: -1\r\n\r\n`),
        yield* raw(server.port, `${head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n`),
        yield* raw(server.port, `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`)
      ]
      for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 400 /)
    }))
})

describe("the token endpoint", () => {
  it.live("exchanges a code for a bearer token, as RFC 8693 says", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const answer = yield* server.send(
        exchange({ subject_token: yield* server.code(), scope: "runs:read  runs:operate" })
      )
      assert.strictEqual(answer.status, 200)
      const { access_token: token, expires_in: expiresIn, ...rest } = answer.json
      assert.deepStrictEqual(rest, {
        issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
        token_type: "Bearer",
        scope: "runs:read runs:operate"
      })
      const lifetime = 30 * 24 * 3600
      assert.isTrue(typeof expiresIn === "number" && expiresIn <= lifetime && expiresIn > lifetime - 60)
      assert.isUndefined(answer.headers["set-cookie"])
      const state = yield* server.send({ path: "/api/auth/session", headers: bearer(String(token)) })
      const { session } = state.json
      assert.deepInclude(session, {
        method: "bearer-access-token",
        scopes: ["runs:read", "runs:operate"],
        current: true
      })
    }))

  it.live("answers every error in OAuth's form (RFC 6749 section 5.2)", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const code = yield* server.code({ scopes: ["runs:read"] })
      const cases: ReadonlyArray<readonly [string, Request]> = [
        ["unsupported_grant_type", exchange({ grant_type: "password" })],
        ["invalid_request", exchange({ grant_type: "" })],
        ["invalid_request", { path: "/oauth/token", headers: form, body: "" }],
        ["invalid_request", exchange({})],
        ["invalid_request", exchange({ subject_token: "" })],
        ["invalid_request", exchange({ subject_token: code, subject_token_type: "urn:other" })],
        ["invalid_request", {
          ...exchange({}),
          body: `${String(exchange({ subject_token: code }).body)}&scope=a&scope=b`
        }],
        ["invalid_request", { path: "/oauth/token", body: { subject_token: code } }],
        ["invalid_request", { path: "/oauth/token", headers: { "content-type": "text/plain" }, body: secret }],
        ["invalid_request", { path: "/oauth/token", headers: form, parts: [new Uint8Array([0x61, 0x3d, 0xff])] }],
        ["invalid_request", exchange({ subject_token: code, scope: "a".repeat(5000) })],
        ["invalid_scope", exchange({ subject_token: code, scope: secret })],
        ["invalid_scope", exchange({ subject_token: code, scope: "runs:read runs:operate" })],
        ["invalid_grant", exchange({ subject_token: "oops" })],
        ["invalid_grant", exchange({ subject_token: secret })],
        ["invalid_grant", exchange({ subject_token: `${secret}${"x".repeat(10_000)}` })]
      ]
      for (const [error, request] of cases) {
        const answer = yield* server.send(request)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, error], answer.text)
        // RFC 6749 allows printable ASCII in a description, but for quotes and backslashes.
        assert.match(String(answer.json.error_description), /^[\x20\x21\x23-\x5B\x5D-\x7E]+$/)
        assert.match(String(answer.json.traceId), /^[0-9a-f]{32}$/)
        assert.match(String(answer.headers["content-type"]), /^application\/json/)
        assert.strictEqual(answer.headers["cache-control"], "no-store")
        assert.notInclude(answer.text, secret)
      }
      assert.strictEqual(
        (yield* server.send(exchange({ subject_token: code }))).status,
        200,
        "nothing used the code up"
      )

      for (const operation of ["links.findByCodeDigest", "links.redeem"]) {
        server.probe.failing.add(operation)
        const answer = yield* server.send(exchange({ subject_token: yield* server.code() }))
        assert.deepStrictEqual([answer.status, answer.json.error], [503, "temporarily_unavailable"])
        server.probe.failing.delete(operation)
      }
    }))
})

const runIdOf = (answer: Answer): string => {
  const { run } = answer.json
  if (typeof run === "object" && run !== null && "runId" in run) return String(run.runId)
  throw new Error(`No run in ${answer.text}`)
}

it.live("an error has the address of the page about its code, if the host has named one", () =>
  Effect.gen(function*() {
    const server = yield* start({
      routes: Sallyport.layer().pipe(
        Layer.provide(Layer.succeed(WireFailure.ErrorPages, "https://docs.example/errors/"))
      )
    })
    const pages = "https://docs.example/errors"
    const code = "0000-0000-0000-0000"
    const answers: ReadonlyArray<readonly [request: Request, field: "docs" | "error_uri", code: string]> = [
      [{ path: "/api/auth/sessions" }, "docs", "unauthorized"],
      [{ path: "/api/auth/bootstrap", headers: json, body: { credential: 1 } }, "docs", "invalid_request"],
      [exchange({ subject_token: code, grant_type: "password" }), "error_uri", "unsupported_grant_type"]
    ]
    for (const [request, field, code] of answers) {
      const answer = yield* server.send(request)
      assert.strictEqual(answer.json[field], `${pages}/${code}`, answer.text)
    }
    // None by default.
    const answer = yield* (yield* start()).send({ path: "/api/auth/sessions" })
    assert.notProperty(answer.json, "docs")
  }).pipe(Effect.scoped))
