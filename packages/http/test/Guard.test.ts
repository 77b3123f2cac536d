import { assert, describe, it } from "@effect/vitest"
import { requires } from "@sallyport/contract/Authentication"
import * as Contract from "@sallyport/contract/Authentication"
import * as ContractRpc from "@sallyport/contract/RpcAuthentication"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Authentication from "@sallyport/http/Authentication"
import * as Edge from "@sallyport/http/Edge"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Rpc from "effect/rpc/Rpc"
import * as Schema from "effect/Schema"
import * as Http from "node:http"
import { eventually } from "../../../test-support/programs.ts"
import { type Answer, assertError, bearer, type Server, start } from "./support.ts"

const forbidden = { status: 403, tag: "Forbidden", code: "scope_required" }
const crossOrigin = { status: 403, tag: "Forbidden", code: "cross_origin" }
const unauthorized = { status: 401, tag: "Unauthorized", code: "unauthorized" }

// -----------------------------------------------------------------------------
// A host's own routes, socket and API
// -----------------------------------------------------------------------------

const whoami = CurrentSession.useSync((session) =>
  HttpServerResponse.jsonUnsafe({ subject: session.subject, method: session.method })
)

/** Greets the caller that was let in, by name, over a socket. */
const greet = Effect.gen(function*() {
  const { subject } = yield* CurrentSession
  const request = yield* HttpServerRequest.HttpServerRequest
  const socket = yield* request.upgrade
  const reader = yield* socket.reader
  const writer = yield* socket.writer
  yield* writer.write(`hello ${subject}`)
  yield* Effect.ignore(Effect.forever(reader.pull))
  return HttpServerResponse.empty()
})

const Whoami = Schema.Struct({ subject: Schema.String })

class NotesGroup extends HttpApiGroup.make("notes").add(
  HttpApiEndpoint.get("read", "/notes", { success: Whoami }).pipe(requires("runs:read")),
  HttpApiEndpoint.post("both", "/both", { success: Whoami }).pipe(requires("runs:read"), requires("runs:operate")),
  HttpApiEndpoint.post("loosened", "/loosened", { success: Whoami }).pipe(requires("runs:operate"), requires(null))
) {}
class NotesApi extends HttpApi.make("notes-api").add(NotesGroup) {}

const subject = CurrentSession.useSync((session) => ({ subject: session.subject }))
const NotesHandlers = HttpApiBuilder.group(
  NotesApi,
  "notes",
  (handlers) => handlers.handleAll({ read: () => subject, both: () => subject, loosened: () => subject })
)

// What doesn't compile is what a host without types, or with a cast, could do all the same.
class UndeclaredApi extends HttpApi.make("undeclared-api").add(
  HttpApiGroup.make("undeclared").add(
    // @ts-expect-error: the middleware cannot be put on an endpoint without a scope.
    HttpApiEndpoint.post("undeclared", "/undeclared", { success: Whoami }).middleware(Contract.Authentication)
  )
) {}
const UndeclaredRoutes = HttpApiBuilder.layer(UndeclaredApi).pipe(
  Layer.provide(
    HttpApiBuilder.group(UndeclaredApi, "undeclared", (handlers) => handlers.handleAll({ undeclared: () => subject }))
  ),
  Layer.provide(Authentication.layer)
)

const routes = Layer.mergeAll(
  HttpRouter.add("GET", "/mine", whoami).pipe(Layer.provide(Authentication.guard("runs:read").layer)),
  HttpRouter.add("POST", "/mine", whoami).pipe(Layer.provide(Authentication.guard("runs:operate").layer)),
  HttpRouter.add("GET", "/anyone", whoami).pipe(Layer.provide(Authentication.guard(null).layer)),
  HttpRouter.add("GET", "/open", HttpServerResponse.text("open")),
  HttpRouter.add("GET", "/socket", Effect.orDie(Effect.scoped(greet))).pipe(
    Layer.provide(Authentication.guard("runs:read").layer)
  ),
  HttpApiBuilder.layer(NotesApi).pipe(Layer.provide(NotesHandlers), Layer.provide(Authentication.layer))
)

// -----------------------------------------------------------------------------
// WebSocket clients
// -----------------------------------------------------------------------------

/** Makes a handshake by hand, as a browser would with these headers, and returns the first message or the refusal. */
const handshake = (
  server: Server,
  options: { readonly path?: string; readonly headers?: Http.OutgoingHttpHeaders }
): Effect.Effect<string | Answer> =>
  Effect.callback((resume) => {
    const request = Http.request({
      host: "127.0.0.1",
      port: server.port,
      path: options.path ?? "/socket",
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": Buffer.from("0123456789abcdef").toString("base64"),
        ...options.headers
      }
    })
    request.on("upgrade", (_response, socket, head) => {
      let received = head
      const look = () => {
        // A server's frame is not masked; a short text is one byte of head, one of length, and itself.
        const length = received[1] ?? Infinity
        if (received.length < 2 + length) return
        socket.destroy()
        resume(Effect.succeed(received.subarray(2, 2 + length).toString("utf8")))
      }
      socket.on("data", (chunk: Buffer) => {
        received = Buffer.concat([received, chunk])
        look()
      })
      look()
    })
    request.on("response", (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => {
        text += chunk
      })
      response.on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: { ...JSON.parse(text) }
        })))
    })
    request.on("error", (error) => resume(Effect.die(error)))
    request.end()
    return Effect.sync(() => request.destroy())
  })

const assertRefused = (
  answer: string | Answer,
  expected: { readonly status: number; readonly tag: string; readonly code: string; readonly retryable?: boolean }
) => {
  if (typeof answer === "string") return assert.fail(`It was let in: ${answer}`)
  assertError(answer, expected)
}

/** Opens a socket with the platform's own client, and returns the first message, or that there was none. */
const open = (url: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const socket = new WebSocket(url)
    socket.addEventListener("message", (event) => {
      socket.close()
      resume(Effect.succeed(String(event.data)))
    })
    socket.addEventListener("error", () => resume(Effect.succeed("refused")))
    return Effect.sync(() => socket.close())
  })

// -----------------------------------------------------------------------------
// Tests
// -----------------------------------------------------------------------------

describe("a guarded route of a host", () => {
  it.live("HTTP-05: gets the session of the caller that was let in, by cookie and by token", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const byToken = yield* server.send({ path: "/mine", headers: bearer(yield* server.token({ subject: "ada" })) })
      assert.deepStrictEqual(byToken.json, { subject: "ada", method: "bearer-access-token" })
      const cookie = yield* server.cookie
      const byCookie = yield* server.send({ path: "/mine", headers: { cookie } })
      assert.deepStrictEqual(byCookie.json, { subject: "owner", method: "browser-session-cookie" })
      assert.strictEqual((yield* server.send({ path: "/open" })).text, "open")
    }))

  it.live("HTTP-05 HTTP-02: is refused with the contract's errors: no credential, a wrong one, no scope, another site", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const cookie = yield* server.cookie
      assertError(yield* server.send({ path: "/mine" }), unauthorized)
      const wrong = yield* server.send({ path: "/mine", headers: { cookie, ...bearer("wrong") } })
      assertError(wrong, unauthorized)
      assert.strictEqual(wrong.headers["www-authenticate"], "Bearer realm=\"sallyport\", error=\"invalid_token\"")
      const reader = bearer(yield* server.token({ scopes: ["access:read"] }))
      assertError(yield* server.send({ path: "/mine", headers: reader }), forbidden)
      assert.strictEqual((yield* server.send({ path: "/anyone", headers: reader })).status, 200)
      assertError(yield* server.send({ method: "POST", path: "/mine", headers: { cookie } }), crossOrigin)
      const same = yield* server.send({
        method: "POST",
        path: "/mine",
        headers: { cookie, "sec-fetch-site": "same-origin" }
      })
      assert.strictEqual(same.status, 200)
    }))

  it.live("HTTP-05: lets no caller in while the store does not answer", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const headers = bearer(yield* server.token())
      server.probe.failing.add("sessions.findByTokenDigest")
      const answer = yield* server.send({ path: "/mine", headers })
      assertError(answer, { status: 503, tag: "Unavailable", code: "unavailable", retryable: true })
    }))
})

describe("a route of a host when the server stops", () => {
  it.live("OPS-01: is answered a typed 503, guarded or not, whether its session is looked up or its handler runs; what it answers itself stays", () =>
    Effect.gen(function*() {
      const started: Array<string> = []
      const never = Layer.mergeAll(
        HttpRouter.add("GET", "/never", Effect.andThen(Effect.sync(() => started.push("never")), Effect.never)),
        HttpRouter.add("GET", "/closed", HttpServerResponse.empty({ status: 503 }))
      ).pipe(Layer.provide(Authentication.guard(null).layer))
      const open = HttpRouter.add(
        "POST",
        "/open",
        Effect.andThen(Effect.sync(() => started.push("open")), Effect.never)
      )
      const server = yield* start({
        routes: Layer.mergeAll(Edge.layer, routes, never, open),
        gracefulShutdownTimeout: "200 millis"
      })
      const headers = bearer(yield* server.token())
      const closed = yield* server.send({ path: "/closed", headers })
      assert.deepStrictEqual([closed.status, closed.text], [503, ""])
      const other = bearer(yield* server.token())
      server.probe.hanging.add("sessions.findByTokenDigest")
      server.probe.calls.clear()
      const pending = yield* Effect.forkScoped(Effect.all([
        server.send({ path: "/never", headers }),
        server.send({ path: "/mine", headers: other }),
        server.send({ path: "/open", body: {} })
      ], { concurrency: "unbounded" }))
      yield* eventually(
        Effect.sync(() => started.length + (server.probe.calls.get("sessions.findByTokenDigest") ?? 0)),
        (count) => count === 3
      )
      yield* server.stop
      for (const answer of yield* Fiber.join(pending)) {
        assertError(answer, { status: 503, tag: "Unavailable", code: "unavailable", retryable: true })
        assert.strictEqual(answer.headers["retry-after"], "1")
      }
    }))
})

describe("a guarded WebSocket of a host", () => {
  it.live("HTTP-05: opens with a cookie and this origin, and with a bearer token", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const cookie = yield* server.cookie
      const origin = `http://127.0.0.1:${server.port}`
      assert.strictEqual(yield* handshake(server, { headers: { cookie, origin } }), "hello owner")
      const token = yield* server.token({ subject: "ada" })
      assert.strictEqual(
        yield* handshake(server, { headers: { ...bearer(token), origin: "https://elsewhere.example" } }),
        "hello ada"
      )
    }))

  it.live("HTTP-02 HTTP-05: stays shut to another site's page, although its browser sends the cookie", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const cookie = yield* server.cookie
      const foreign: ReadonlyArray<Http.OutgoingHttpHeaders> = [
        { origin: "https://evil.example" },
        { origin: "null" },
        { origin: `http://127.0.0.1:${server.port}`, "sec-fetch-site": "cross-site" },
        { origin: "https://evil.example", upgrade: "WebSocket" },
        {}
      ]
      for (const headers of foreign) {
        assertRefused(yield* handshake(server, { headers: { cookie, ...headers } }), crossOrigin)
      }
      assertRefused(yield* handshake(server, {}), unauthorized)
      assertRefused(yield* handshake(server, { headers: { cookie, ...bearer("wrong") } }), unauthorized)
      const reader = bearer(yield* server.token({ scopes: ["access:read"] }))
      assertRefused(yield* handshake(server, { headers: reader }), forbidden)
    }))

  it.live("HTTP-05: opens with a ticket, which a browser can put nowhere but into the address, once", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const { session } = yield* Effect.orDie(
        server.sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "bearer-access-token" })
      )
      const ticket = Redacted.value(yield* Effect.orDie(server.sessions.issueTicket(session)))
      const url = `ws://127.0.0.1:${server.port}/socket?ticket=${ticket}`
      const opened = yield* Effect.all([open(url), open(url), open(url)], { concurrency: "unbounded" })
      assert.deepStrictEqual(opened.toSorted(), ["hello ada", "refused", "refused"])
      assert.strictEqual(yield* open(url), "refused")
      assert.strictEqual(yield* open(`ws://127.0.0.1:${server.port}/socket`), "refused")
      for (const query of ["?ticket=", "?ticket=unknown", `?ticket=${"a".repeat(4096)}`]) {
        assertRefused(yield* handshake(server, { path: `/socket${query}` }), unauthorized)
      }
    }))

  it.live("HTTP-05: takes a ticket for the upgrade only, and no cookie makes up for a spent one", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const session = yield* Effect.orDie(
        server.sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "bearer-access-token" })
      )
      const ticket = Redacted.value(yield* Effect.orDie(server.sessions.issueTicket(session.session)))
      assertError(yield* server.send({ path: `/mine?ticket=${ticket}` }), unauthorized)
      assert.isUndefined(server.probe.calls.get("sessions.consumeTicket"))
      assert.strictEqual(yield* open(`ws://127.0.0.1:${server.port}/socket?ticket=${ticket}`), "hello ada")
      const spent = yield* handshake(server, {
        path: `/socket?ticket=${ticket}`,
        headers: { cookie: yield* server.cookie, origin: `http://127.0.0.1:${server.port}` }
      })
      assertRefused(spent, unauthorized)
    }))
})

describe("an HttpApi of a host", () => {
  it.live("HTTP-05: asks for the scope that its endpoint declares", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const reader = bearer(yield* server.token({ subject: "ada", scopes: ["runs:read"] }))
      const answer = yield* server.send({ path: "/notes", headers: reader })
      assert.deepStrictEqual(answer.json, { subject: "ada" })
      const other = bearer(yield* server.token({ scopes: ["access:read"] }))
      assertError(yield* server.send({ path: "/notes", headers: other }), forbidden)
      assertError(yield* server.send({ path: "/notes" }), unauthorized)
    }))

  it.live("AUTH-02: asks for every scope that its endpoint declares, and takes no demand back", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes })
      const read = bearer(yield* server.token({ scopes: ["runs:read"] }))
      const operate = bearer(yield* server.token({ scopes: ["runs:operate"] }))
      const both = bearer(yield* server.token({ scopes: ["runs:read", "runs:operate"] }))
      const post = (path: string, headers: { readonly authorization: string }) =>
        server.send({ method: "POST", path, headers })
      assertError(yield* post("/both", read), forbidden)
      assertError(yield* post("/both", operate), forbidden)
      assert.strictEqual((yield* post("/both", both)).status, 200)
      assertError(yield* post("/loosened", read), forbidden)
      assert.strictEqual((yield* post("/loosened", operate)).status, 200)
    }))

  it.live("AUTH-02: lets no caller in through an endpoint that declares no scope", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: UndeclaredRoutes })
      const headers: ReadonlyArray<Http.OutgoingHttpHeaders> = [
        {},
        bearer(yield* server.token()),
        { cookie: yield* server.cookie, "sec-fetch-site": "same-origin" }
      ]
      for (const header of headers) {
        const answer = yield* server.send({ method: "POST", path: "/undeclared", headers: header })
        assert.strictEqual(answer.status, 500)
        assert.notInclude(answer.text, "subject")
      }
    }))
})

// -----------------------------------------------------------------------------
// Types
// -----------------------------------------------------------------------------

class OpenGroup extends HttpApiGroup.make("open").add(
  HttpApiEndpoint.get("guarded", "/guarded", { success: Whoami }).pipe(requires("runs:read")),
  HttpApiEndpoint.get("unguarded", "/unguarded", { success: Whoami })
) {}
class OpenApi extends HttpApi.make("open-api").add(OpenGroup) {}

type NeedsSession<L extends Layer.Any> = HttpRouter.Request<"Requires", CurrentSession> extends Layer.Services<L> ? true
  : false

describe("the types", () => {
  it("AUTH-02: take no route, endpoint or RPC without a scope of the vocabulary, and none for a typing error", () => {
    const endpoint = HttpApiEndpoint.get("read", "/notes")
    const rpc = Rpc.make("Read")
    const refused = [
      // @ts-expect-error: a guard without a scope.
      () => Authentication.guard(),
      // @ts-expect-error: undefined is no decision; null is.
      () => Authentication.guard(undefined),
      // @ts-expect-error: a scope that is in no vocabulary.
      () => Authentication.guard("runs:reed"),
      // @ts-expect-error: an endpoint without a scope.
      () => endpoint.pipe(requires()),
      // @ts-expect-error: a misspelt scope.
      () => endpoint.pipe(requires("runs:reed")),
      // @ts-expect-error: an RPC without a scope.
      () => rpc.pipe(ContractRpc.requires()),
      // @ts-expect-error: a misspelt scope.
      () => rpc.pipe(ContractRpc.requires("runs:reed")),
      // @ts-expect-error: the middleware of endpoints is put on by requires alone.
      () => endpoint.middleware(Contract.Authentication),
      // @ts-expect-error: and on a whole group neither.
      () => HttpApiGroup.make("notes").add(endpoint).middleware(Contract.Authentication),
      // @ts-expect-error: that of RPCs is not to be had at all.
      () => rpc.middleware(ContractRpc.RpcAuthentication)
    ]
    const taken = [
      () => Authentication.guard(null),
      () => Authentication.guard("runs:read"),
      () => endpoint.pipe(requires(null)),
      () => endpoint.pipe(requires("runs:read")),
      () => rpc.pipe(ContractRpc.requires(null)),
      () => rpc.pipe(ContractRpc.requires("runs:read"))
    ]
    assert.strictEqual(refused.length, 10)
    for (const make of taken) assert.isDefined(make())
  })

  it("AUTH-02: leave the session of an endpoint that declares no scope to be provided, which nothing does", () => {
    const withSession = HttpApiBuilder.group(
      OpenApi,
      "open",
      (handlers) => handlers.handleAll({ guarded: () => subject, unguarded: () => subject })
    )
    const without = HttpApiBuilder.group(
      OpenApi,
      "open",
      (handlers) => handlers.handleAll({ guarded: () => subject, unguarded: () => Effect.succeed({ subject: "" }) })
    )
    const route = HttpRouter.add("GET", "/unguarded", whoami)
    const guarded = route.pipe(Layer.provide(Authentication.guard("runs:read").layer))
    const needs: readonly [
      NeedsSession<typeof withSession>,
      NeedsSession<typeof without>,
      NeedsSession<typeof route>,
      NeedsSession<typeof guarded>
    ] = [true, false, true, false]
    assert.deepStrictEqual(needs, [true, false, true, false])
  })
})
