import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeWS from "@effect/platform-node/NodeWS"
import { assert, describe, it } from "@effect/vitest"
import { Forbidden, Unauthorized } from "@sallyport/contract/WireError"
import { requires } from "@sallyport/contract/RpcAuthentication"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import type { Session } from "@sallyport/core/access/Session"
import * as RpcAuthentication from "@sallyport/http/RpcAuthentication"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import { eventually } from "../../../test-support/programs.ts"
import { assertError, bearer, type Server, start } from "./support.ts"

const Whoami = Schema.Struct({ subject: Schema.String, method: Schema.String })

class NoteRpcs extends RpcGroup.make(
  Rpc.make("Whoami", { success: Whoami }).pipe(requires(null)),
  Rpc.make("Read", { success: Whoami }).pipe(requires("runs:read")),
  Rpc.make("Write", { payload: { note: Schema.String }, success: Whoami }).pipe(
    requires("runs:read"),
    requires("runs:operate")
  ),
  Rpc.make("Ticks", { success: Schema.Int, stream: true }).pipe(requires("runs:read")),
  Rpc.make("Wait").pipe(requires("runs:read"))
) {}

const principal = CurrentSession.useSync(({ method, subject }) => ({ subject, method }))

/** The calls that have reached a handler that does not answer. */
const waiting: Array<string> = []

const Handlers = NoteRpcs.toLayer({
  Whoami: () => principal,
  Read: () => principal,
  Write: () => principal,
  Ticks: () => Stream.concat(Stream.make(1, 2, 3), Stream.never),
  Wait: () => Effect.andThen(Effect.sync(() => void waiting.push("call")), Effect.never)
})

const rpcs = (
  protocol: "http" | "websocket",
  serialization: Layer.Layer<RpcSerialization.RpcSerialization> = RpcSerialization.layerNdjson
) =>
  RpcServer.layerHttp({ group: NoteRpcs, path: "/rpc", protocol }).pipe(
    Layer.provide(Handlers),
    Layer.provide(RpcAuthentication.guard.layer),
    Layer.provide(RpcAuthentication.layer),
    Layer.provide(serialization),
    Layer.merge(Sallyport.layer())
  )

/** Calls over HTTP, with headers on each request. */
const httpClient = (
  server: Server,
  headers: Record<string, string>,
  serialization: Layer.Layer<RpcSerialization.RpcSerialization> = RpcSerialization.layerNdjson
) =>
  Effect.flatMap(
    Layer.build(
      RpcClient.layerProtocolHttp({
        url: `http://127.0.0.1:${server.port}/rpc`,
        transformClient: HttpClient.mapRequest(HttpClientRequest.setHeaders(headers))
      }).pipe(Layer.provide([FetchHttpClient.layer, serialization]))
    ),
    (context) => Effect.provideContext(RpcClient.make(NoteRpcs), context)
  )

/** Calls over a WebSocket, which is opened with a ticket: no header can be set there. */
const socketClient = (
  server: Server,
  session: Session,
  serialization: Layer.Layer<RpcSerialization.RpcSerialization> = RpcSerialization.layerNdjson
) =>
  Effect.gen(function*() {
    const ticket = yield* Effect.orDie(server.sessions.issueTicket(session))
    const context = yield* Layer.build(
      RpcClient.layerProtocolSocket({ retryTransientErrors: false }).pipe(
        Layer.provide([
          NodeSocket.layerWebSocket(`ws://127.0.0.1:${server.port}/rpc?ticket=${Redacted.value(ticket)}`),
          serialization
        ])
      )
    )
    return yield* Effect.provideContext(RpcClient.make(NoteRpcs), context)
  })

/** Returns the code of a call's failure, or whom it was answered as. */
const outcome = <A extends { readonly subject: string; readonly method: string }, E>(call: Effect.Effect<A, E>) =>
  Effect.match(call, {
    onFailure: (error) =>
      typeof error === "object" && error !== null && "code" in error ? String(error.code) : String(error),
    onSuccess: ({ method, subject }) => `${subject} by ${method}`
  })

const ada = (server: Server, scopes: ReadonlyArray<"runs:read" | "runs:operate"> = ["runs:read"]) =>
  Effect.orDie(server.sessions.issue({ subject: "ada", scopes, method: "bearer-access-token" }))

describe("RPCs", () => {
  it.live("HTTP-06: over HTTP get the principal of the request, and each asks for every scope that it declares", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("http") })
      const token = Redacted.value((yield* ada(server)).token)
      const client = yield* httpClient(server, bearer(token))
      assert.strictEqual(yield* outcome(client.Whoami()), "ada by bearer-access-token")
      assert.strictEqual(yield* outcome(client.Read()), "ada by bearer-access-token")
      assert.strictEqual(yield* outcome(client.Write({ note: "x" })), "scope_required")
      const both = yield* httpClient(
        server,
        bearer(Redacted.value((yield* ada(server, ["runs:read", "runs:operate"])).token))
      )
      assert.strictEqual(yield* outcome(both.Write({ note: "x" })), "ada by bearer-access-token")

      const cookie = yield* server.cookie
      const browser = yield* httpClient(server, { cookie, "sec-fetch-site": "same-origin" })
      assert.strictEqual(yield* outcome(browser.Whoami()), "owner by browser-session-cookie")
    }))

  for (
    const [name, serialization] of [
      ["JSON lines", RpcSerialization.layerNdjson],
      ["JSON", RpcSerialization.layerJson],
      ["JSON-RPC", RpcSerialization.layerNdJsonRpc()]
    ] as const
  ) {
    it.live(`HTTP-06 C-77: a client whose token is wrong gets the middleware's typed error, in ${name}`, () =>
      Effect.gen(function*() {
        const server = yield* start({ routes: rpcs("http", serialization) })
        const { session, token } = yield* ada(server)
        const good = bearer(Redacted.value(token))
        for (const headers of [{}, bearer("nonsense"), { authorization: "Basic YTpi" }]) {
          const client = yield* httpClient(server, headers, serialization)
          const error = yield* Effect.flip(client.Whoami())
          assert.instanceOf(error, Unauthorized)
          const errors = yield* Effect.all([Effect.flip(client.Read()), Effect.flip(client.Whoami())], {
            concurrency: "unbounded"
          })
          for (const error of errors) assert.instanceOf(error, Unauthorized)
          assert.instanceOf(yield* Effect.flip(Stream.runCollect(client.Ticks())), Unauthorized)
        }
        const page = yield* httpClient(
          server,
          { cookie: yield* server.cookie, origin: "https://evil.example" },
          serialization
        )
        assert.instanceOf(yield* Effect.flip(page.Whoami()), Forbidden)
        const client = yield* httpClient(server, good, serialization)
        assert.strictEqual((yield* client.Whoami()).subject, "ada")
        yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
        assert.instanceOf(yield* Effect.flip(client.Whoami()), Unauthorized)
      }))
  }

  it.live("HTTP-06: a request that proves no session calls nothing, and what holds no call is answered as on any route", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("http") })
      const cookie = yield* server.cookie
      const body = JSON.stringify({ _tag: "Request", id: "1", tag: "Whoami", payload: null, headers: [] }) + "\n"
      const post = (headers: Record<string, string>, content = "nonsense") =>
        server.send({ path: "/rpc", headers: { "content-type": "application/ndjson", ...headers }, body: content })
      const unauthorized = { status: 401, tag: "Unauthorized", code: "unauthorized" }
      assertError(yield* post({}), unauthorized)
      assertError(yield* post(bearer("nonsense")), unauthorized)
      assertError(yield* post({ ...bearer("nonsense"), cookie, "sec-fetch-site": "same-origin" }), unauthorized)
      assertError(yield* post({ cookie, origin: "https://evil.example" }), {
        status: 403,
        tag: "Forbidden",
        code: "cross_origin"
      })
      const calls = yield* post(bearer("nonsense"), body)
      assert.strictEqual(calls.status, 401)
      assert.include(calls.text, "\"code\":\"unauthorized\"")
      const answer = yield* post({ cookie, "sec-fetch-site": "same-origin" }, body)
      assert.strictEqual(answer.status, 200)
      assert.include(answer.text, "browser-session-cookie")
    }))

  it.live("HTTP-06: what a message says in its headers is not believed, except for a bearer token, which counts alone", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("http") })
      const token = Redacted.value((yield* ada(server)).token)
      const call = Effect.fnUntraced(
        function*(headers: ReadonlyArray<readonly [string, string]>, outer: Record<string, string>) {
          const body = JSON.stringify({ _tag: "Request", id: "1", tag: "Whoami", payload: null, headers }) + "\n"
          const answer = yield* server.send({
            path: "/rpc",
            headers: { "content-type": "application/ndjson", ...outer },
            body
          })
          return /"subject":"(\w+)"|"code":"(\w+)"/.exec(answer.text)?.slice(1).find((part) => part !== undefined)
        }
      )
      const owner = { cookie: yield* server.cookie, "sec-fetch-site": "same-origin" }
      assert.strictEqual(yield* call([], owner), "owner")
      assert.strictEqual(yield* call([["authorization", `Bearer ${token}`]], owner), "ada")
      for (
        const headers of [
          [["authorization", "Bearer nonsense"]],
          [["authorization", "Basic b3duZXI6"]],
          [["authorization", `DPoP ${token}`]],
          [["authorization", ""]],
          [["sallyport-rpc-principal", "AAAAAAAAAAAAAAAAAAAAAA"]]
        ] as const
      ) assert.strictEqual(yield* call(headers, owner), "unauthorized", JSON.stringify(headers))
      // Cookie, origin and the rest are the request's own.
      assert.strictEqual(
        yield* call([["sec-fetch-site", "same-origin"]], { ...owner, "sec-fetch-site": "cross-site" }),
        "cross_origin"
      )
      assert.strictEqual(yield* call([["cookie", owner.cookie]], {}), "unauthorized")
      assert.strictEqual(yield* call([], { ...owner, "sallyport-rpc-principal": "AAAAAAAAAAAAAAAAAAAAAA" }), "owner")
    }))

  it.live("HTTP-06 SESS-08 SESS-09 L-22: over a WebSocket get the session of the upgrade, and end with it, calls, streams and socket", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("websocket") })
      const { session } = yield* ada(server)
      const client = yield* socketClient(server, session)
      assert.strictEqual(yield* outcome(client.Read()), "ada by bearer-access-token")
      assert.strictEqual(yield* outcome(client.Write({ note: "x" })), "scope_required")

      const third = yield* Deferred.make<void>()
      const ticks = yield* client.Ticks().pipe(
        Stream.tap((tick) => tick === 3 ? Deferred.succeed(third, undefined) : Effect.void),
        Stream.runDrain,
        Effect.exit,
        Effect.forkScoped
      )
      yield* Deferred.await(third)
      yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      const exit = yield* Fiber.join(ticks)
      assert.strictEqual(exit._tag, "Failure")
      assert.notInclude(yield* outcome(client.Whoami()), "ada")
    }))

  for (const protocol of ["http", "websocket"] as const) {
    it.live(`HTTP-09: over ${protocol} a session has so many streams open at once, and no more until one is closed`, () =>
      Effect.gen(function*() {
        const few = Layer.succeed(ConnectionEnd.PerSession, protocol === "http" ? 2 : 3)
        const server = yield* start({ routes: Layer.provide(rpcs(protocol), few) })
        const { session, token } = yield* ada(server)
        const connect = protocol === "http"
          ? httpClient(server, bearer(Redacted.value(token)))
          : socketClient(server, session)
        const client = yield* connect
        const open = Effect.gen(function*() {
          const began = yield* Deferred.make<void>()
          const fiber = yield* client.Ticks().pipe(
            Stream.runForEach(() => Deferred.succeed(began, undefined)),
            Effect.forkChild
          )
          yield* Effect.raceFirst(Deferred.await(began), Fiber.join(fiber))
          return fiber
        })
        const first = yield* open
        yield* open
        assert.deepInclude(yield* Effect.flip(open), { _tag: "Unavailable", retryable: true })
        assert.strictEqual(yield* outcome(client.Whoami()), "ada by bearer-access-token", "what is no stream goes on")
        yield* Fiber.interrupt(first)
        // The server is told after the client has gone on.
        yield* Effect.retry(open, { times: 200, schedule: Schedule.spaced("20 millis") })
      }))
  }

  it.live("HTTP-06 L-20: a ticket opens one socket", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("websocket") })
      const { session } = yield* ada(server)
      const ticket = Redacted.value(yield* Effect.orDie(server.sessions.issueTicket(session)))
      const upgrade = {
        path: `/rpc?ticket=${ticket}`,
        headers: {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="
        }
      }
      yield* Effect.orDie(server.sessions.consumeTicket(Redacted.make(ticket)))
      assertError(yield* server.send(upgrade), { status: 401, tag: "Unauthorized", code: "unauthorized" })
    }))

  for (
    const [name, serialization] of [
      ["JSON", RpcSerialization.layerJson],
      ["JSON-RPC", RpcSerialization.layerJsonRpc()]
    ] as const
  ) {
    it.live(`OPS-01 HTTP-06: a call that the server stops in the middle of is answered a typed 503, in ${name}`, () =>
      Effect.gen(function*() {
        const server = yield* start({ routes: rpcs("http", serialization), gracefulShutdownTimeout: "200 millis" })
        waiting.length = 0
        const message = name === "JSON-RPC"
          ? { jsonrpc: "2.0", id: 1, method: "Wait", headers: [] }
          : { _tag: "Request", id: "1", tag: "Wait", payload: null, headers: [] }
        const pending = yield* Effect.forkScoped(server.send({
          path: "/rpc",
          headers: bearer(Redacted.value((yield* ada(server)).token)),
          body: message
        }))
        yield* eventually(Effect.sync(() => waiting.length), (count) => count === 1)
        yield* server.stop
        const answer = yield* Fiber.join(pending)
        const exit = Object(JSON.parse(answer.text))
        const [{ error }] = name === "JSON-RPC" ? exit.error.data : exit[0].exit.cause
        assert.strictEqual(answer.status, 503)
        assert.deepInclude(error, { _tag: "Unavailable", code: "unavailable", retryable: true })
      }))
  }

  for (const protocol of ["http", "websocket"] as const) {
    it.live(`HTTP-06 C-79: a stream over ${protocol} ends at once when the server stops, which does not wait for it`, () =>
      Effect.gen(function*() {
        // The stop would wait for an hour otherwise, and this test runs out of time.
        const server = yield* start({ routes: rpcs(protocol), gracefulShutdownTimeout: "1 hour" })
        const { session, token } = yield* ada(server)
        const client = yield* protocol === "http"
          ? httpClient(server, bearer(Redacted.value(token)))
          : socketClient(server, session)
        const third = yield* Deferred.make<void>()
        const ticks = yield* client.Ticks().pipe(
          Stream.tap((tick) => tick === 3 ? Deferred.succeed(third, undefined) : Effect.void),
          Stream.runDrain,
          Effect.exit,
          Effect.forkScoped
        )
        yield* Deferred.await(third)
        yield* server.stop
        assert.strictEqual((yield* Fiber.join(ticks))._tag, "Failure")
      }))
  }

  const overSocket = [
    ["lines of JSON", RpcSerialization.layerNdjson],
    ["JSON", RpcSerialization.layerJson],
    ["JSON-RPC", RpcSerialization.layerJsonRpc()],
    ["lines of JSON-RPC", RpcSerialization.layerNdJsonRpc()],
    ["binary", RpcSerialization.layerSchemaBinary()]
  ] as const
  for (const [name, serialization] of overSocket) {
    it.live(`OPS-01 HTTP-06 C-79: what a socket has begun is told of the stop before it closes, in ${name}`, () =>
      Effect.gen(function*() {
        const server = yield* start({ routes: rpcs("websocket", serialization), gracefulShutdownTimeout: "1 hour" })
        waiting.length = 0
        const client = yield* socketClient(server, (yield* ada(server)).session, serialization)
        const began = yield* Deferred.make<void>()
        const stream = yield* client.Ticks().pipe(
          Stream.runForEach(() => Deferred.succeed(began, undefined)),
          Effect.flip,
          Effect.forkScoped
        )
        const calls = yield* Effect.forEach([1, 2, 3], () => Effect.forkScoped(Effect.flip(client.Wait())))
        yield* Deferred.await(began)
        yield* eventually(Effect.sync(() => waiting.length), (count) => count === 3)
        yield* server.stop
        for (const fiber of [stream, ...calls]) {
          assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Unavailable", code: "unavailable", retryable: true })
        }
      }))

    // A request of bytes is answered as on any other route: a client finds no call in that, and its call fails.
    if (name !== "binary") {
      it.live(`OPS-01 HTTP-06 C-79: a call that the server waits for no longer is told of the stop, in ${name}`, () =>
        Effect.gen(function*() {
          const server = yield* start({ routes: rpcs("http", serialization), gracefulShutdownTimeout: "200 millis" })
          waiting.length = 0
          const { token } = yield* ada(server)
          const client = yield* httpClient(server, bearer(Redacted.value(token)), serialization)
          const call = yield* Effect.forkScoped(Effect.flip(client.Wait()))
          yield* eventually(Effect.sync(() => waiting.length), (count) => count === 1)
          yield* server.stop
          assert.deepInclude(yield* Fiber.join(call), { _tag: "Unavailable", code: "unavailable", retryable: true })
        }))
    }
  }

  it.live("SESS-08 HTTP-06: a call of a socket is told that its session has ended", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("websocket") })
      waiting.length = 0
      const { session } = yield* ada(server)
      const client = yield* socketClient(server, session)
      const call = yield* Effect.forkScoped(Effect.flip(client.Wait()))
      yield* eventually(Effect.sync(() => waiting.length), (count) => count === 1)
      yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      assert.deepInclude(yield* Fiber.join(call), { _tag: "Unauthorized" })
    }))

  /** Posts text to the route of calls. */
  const post = (server: Server, headers: Record<string, string>, body: string) =>
    Effect.promise(async () => {
      const response = await fetch(`http://127.0.0.1:${server.port}/rpc`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
        body
      })
      return { status: response.status, text: await response.text() }
    })

  /** Sends frames on a socket, and returns the code with which it is closed; 0 if it answers a call that comes after them. */
  const sendFrames = (server: Server, session: Session, frames: ReadonlyArray<string | Uint8Array>) =>
    Effect.gen(function*() {
      const ticket = yield* Effect.orDie(server.sessions.issueTicket(session))
      return yield* Effect.callback<number>((resume) => {
        const socket = new NodeWS.WebSocket(`ws://127.0.0.1:${server.port}/rpc?ticket=${Redacted.value(ticket)}`)
        socket.on("open", () => {
          for (const frame of frames) socket.send(frame)
          socket.send(`\n{"_tag":"Request","id":"1","tag":"Whoami","payload":null,"headers":[]}\n`)
        })
        socket.on("message", (data) => {
          if (!String(data).includes(`"requestId":"1"`)) return
          resume(Effect.succeed(0))
          socket.close()
        })
        socket.on("error", () => undefined)
        socket.on("close", (code) => resume(Effect.succeed(code)))
        return Effect.sync(() => socket.terminate())
      })
    })

  const names = Array.from({ length: 2_049 }, (_, index) => `{"k${index}":0}`).join(",")

  it.live("HTTP-09 BOOT-11: a request of too much, or of more JSON than another may have, calls nothing", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("http") })
      const { token } = yield* ada(server)
      for (const body of ["x".repeat(262_145), `[${"[],".repeat(16_384)}1]`, `[${names}]`]) {
        const { status, text } = yield* post(server, bearer(Redacted.value(token)), body)
        assert.deepStrictEqual([status, JSON.parse(text).code], [413, "body_too_large"], body.slice(0, 20))
      }
      // A request that no session lets in is read to find its calls.
      for (const body of [`[${names}]`, "[".repeat(20_000) + "]".repeat(20_000), "x".repeat(262_145)]) {
        assert.strictEqual((yield* post(server, {}, body)).status, 401, body.slice(0, 20))
      }
      assert.deepStrictEqual(server.logged.filter((line) => /"level":"(?:ERROR|FATAL)"/.test(line)), [])
    }))

  it.live("HTTP-09 BOOT-11: a socket is closed at a frame of too much, whole or in parts", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("websocket") })
      const { session } = yield* ada(server)
      assert.strictEqual(yield* sendFrames(server, session, ["{}\n".repeat(200), `{"a":`, "1}"]), 0)
      const refused = [
        ["x".repeat(262_145)],
        ["x".repeat(200_000), "x".repeat(200_000)],
        [`[${names}]\n`],
        [new TextEncoder().encode(`[${names}]\n`)],
        [`[${names.slice(0, 10_000)}`, `${names.slice(10_000)}]\n`],
        ["{}\n".repeat(300)]
      ]
      for (const frames of refused) {
        assert.strictEqual(yield* sendFrames(server, session, frames), 1009, String(frames[0]).slice(0, 20))
      }
      assert.deepStrictEqual(server.logged.filter((line) => /"level":"(?:ERROR|FATAL)"/.test(line)), [])
    }))

  const field = fc.constantFrom("_tag", "id", "tag", "payload", "headers", "traceId", "requestId", "__proto__")
  const value = fc.oneof(
    fc.constantFrom(
      "Request",
      "Ack",
      "Interrupt",
      "Eof",
      "Ping",
      "Whoami",
      "Write",
      "Ticks",
      "toString",
      "1",
      "",
      "\ud800"
    ),
    fc.constantFrom(null, 0, -1, 1e308, true, [], {}, [[]], [["a"]], [["__proto__", "a"]], { note: "\0" }),
    fc.jsonValue({ maxDepth: 3 })
  )
  const message = fc.oneof(
    { weight: 5, arbitrary: fc.dictionary(field, value, { maxKeys: 6 }).map((fields) => JSON.stringify(fields)) },
    { weight: 1, arbitrary: fc.json() },
    { weight: 1, arbitrary: fc.string({ unit: "binary" }) }
  )
  const messages = fc.array(message, { minLength: 1, maxLength: 4 }).map((all) => `${all.join("\n")}\n`)

  it.live(
    "BOOT-11 C-02: messages of any text are answered, and end no server, over HTTP and a socket",
    () =>
      Effect.gen(function*() {
        const http = yield* start({ routes: rpcs("http") })
        const sockets = yield* start({ routes: rpcs("websocket") })
        const headers = bearer(Redacted.value((yield* ada(http)).token))
        const { session } = yield* ada(sockets)
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(messages, async (text) => {
              // A call that waits, and a stream, have no end.
              if (/Ticks|Wait/.test(text)) return
              const { status } = await Effect.runPromise(post(http, headers, text))
              if (status >= 500) throw new Error(`${status}`)
              assert.isBelow((await Effect.runPromise(post(http, {}, text))).status, 500)
            }),
            { numRuns: 200, endOnFailure: true }
          )
        )
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(messages, async (text) => {
              await Effect.runPromise(sendFrames(sockets, session, [text]))
            }),
            { numRuns: 200, endOnFailure: true }
          )
        )
        // Both still serve.
        const client = yield* httpClient(http, headers)
        assert.strictEqual(yield* outcome(client.Whoami()), "ada by bearer-access-token")
        assert.strictEqual(yield* sendFrames(sockets, session, []), 0)
        for (const { logged } of [http, sockets]) {
          assert.deepStrictEqual(logged.filter((line) => /"level":"(?:ERROR|FATAL)"/.test(line)), [])
        }
      }),
    120_000
  )

  it.live("HTTP-06: under unsafe-no-auth are everybody's, and don't end", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: rpcs("http"), policy: "unsafe-no-auth" })
      const client = yield* httpClient(server, {})
      assert.strictEqual(yield* outcome(client.Write({ note: "x" })), "owner by browser-session-cookie")
      assert.deepStrictEqual(yield* client.Ticks().pipe(Stream.take(3), Stream.runCollect), [1, 2, 3])
    }))
})
