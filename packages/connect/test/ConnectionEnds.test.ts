/**
 * Every kind of connection that stays open, against every reason for which it ends.
 */
import { assert, describe, it } from "@effect/vitest"
import { requires } from "@sallyport/contract/RpcAuthentication"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as Authentication from "@sallyport/http/Authentication"
import * as RpcAuthentication from "@sallyport/http/RpcAuthentication"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import { eventsOf, follow, type Server, start } from "../../http/test/support.ts"
import { key, startEnvironment, startRelay } from "./world.ts"

type Headers = Readonly<Record<string, string>>

/** Opens a connection, and returns how to wait for its end: what the client is told of it. */
type Open = (server: Server, headers: Headers) => Effect.Effect<Effect.Effect<string>, never, Scope.Scope>

// -----------------------------------------------------------------------------
// A server with every kind of connection
// -----------------------------------------------------------------------------

class TickRpcs extends RpcGroup.make(
  Rpc.make("Ticks", { success: Schema.Int, stream: true }).pipe(requires("runs:read"))
) {}

const rpcs = (path: `/${string}`, protocol: "http" | "websocket") =>
  RpcServer.layerHttp({ group: TickRpcs, path, protocol }).pipe(
    Layer.provide(TickRpcs.toLayer({ Ticks: () => Stream.concat(Stream.make(1), Stream.never) })),
    Layer.provide(RpcAuthentication.guard.layer),
    Layer.provide(RpcAuthentication.layer),
    Layer.provide(RpcSerialization.layerNdjson)
  )

/** A host's own socket, which says hello and then nothing. */
const hostSocket = Layer.unwrap(Effect.map(SessionCredentialService, (sessions) =>
  HttpRouter.add(
    "GET",
    "/socket",
    Effect.flatMap(CurrentSession, (session) =>
      Stream.concat(Stream.make("hello"), Stream.never).pipe(
        Stream.pipeThroughChannel(HttpServerRequest.upgradeChannel()),
        sessions.whileValid(session),
        Stream.runDrain,
        Effect.orDie,
        Effect.as(HttpServerResponse.empty())
      ))
  ).pipe(Layer.provide(Authentication.guard("runs:read").layer))))

const routes = Layer.mergeAll(
  Sallyport.layer(),
  rpcs("/rpc", "http"),
  rpcs("/rpc-socket", "websocket"),
  hostSocket,
  DurableStreamsRoutes.layer().pipe(
    Layer.provide(DurableStreams.layer),
    Layer.provide(DurableStreamRepository.layerMemory),
    Layer.orDie
  )
).pipe(Layer.provide(Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, ...DurableStreamsRoutes.scopes])))

/** Reads an answer that goes on, and returns what its last event says, or that it just ended. */
const stream = (path: string, lastOf: (text: string) => string): Open => (server, headers) =>
  Effect.gen(function*() {
    const reading = yield* follow(server.port, { path, headers })
    assert.strictEqual(reading.status, 200, path)
    yield* reading.until((text) => text !== "")
    return Effect.map(reading.ended, ({ how, text }) => `${how} ${lastOf(text)}`.trim())
  })

/** Opens a socket, says something, and returns the code that it is closed with. */
const socket = (path: string, says: ReadonlyArray<object> = []): Open => (server, headers) =>
  Effect.gen(function*() {
    const opened = yield* Effect.acquireRelease(
      Effect.callback<{ readonly socket: WebSocket; readonly closed: Promise<number> }>((resume) => {
        // Node's client takes headers, unlike a browser's, whose type this is.
        const socket: WebSocket = Reflect.construct(WebSocket, [`ws://127.0.0.1:${server.port}${path}`, { headers }])
        const closed = new Promise<number>((done) => socket.addEventListener("close", ({ code }) => done(code)))
        socket.addEventListener("open", () => says.forEach((message) => socket.send(`${JSON.stringify(message)}\n`)))
        socket.addEventListener("message", () => resume(Effect.succeed({ socket, closed })), { once: true })
      }),
      ({ socket }) => Effect.sync(() => socket.close())
    )
    return Effect.map(Effect.promise(() => opened.closed), String)
  })

const ticks = { _tag: "Request", id: "1", tag: "Ticks", payload: null, headers: [] }

/** Makes a call whose answer is a stream, and returns the code of the error that ends it. */
const call: Open = (server, headers) =>
  Effect.gen(function*() {
    const reading = yield* follow(server.port, {
      method: "POST",
      path: "/rpc",
      headers: { "content-type": "application/ndjson", ...headers },
      body: `${JSON.stringify(ticks)}\n`
    })
    yield* reading.until((text) => text.includes("Chunk"))
    return Effect.map(reading.ended, ({ text }) => /"code":"(\w+)"/.exec(text)?.[1] ?? text)
  })

const failureOf = (text: string): string => {
  const last = eventsOf(text).at(-1)
  return last?.event === "failure" ? JSON.parse(last.data).code : ""
}

/** Creates a stream and waits for what is not appended to it. */
const durable = (mode: "long-poll" | "sse"): Open => (server, headers) =>
  Effect.gen(function*() {
    const path = `/streams/${mode}`
    const created = yield* server.send({ method: "PUT", path, headers: { "content-type": "text/plain", ...headers } })
    assert.strictEqual(created.status, 201)
    if (mode === "sse") return yield* stream(`${path}?offset=-1&live=sse`, () => "")(server, headers)
    const polling = yield* Effect.forkScoped(server.send({ path: `${path}?offset=-1&live=long-poll`, headers }))
    yield* Effect.sleep("50 millis")
    return Effect.map(Fiber.join(polling), ({ status }) => String(status))
  })

/** Follows a run that does not end. */
const run: Open = (server, headers) =>
  Effect.gen(function*() {
    const { run } = yield* Effect.orDie(
      server.log.start({ threadId: "thread", idempotencyKey: "key", request: null, owner: { subject: "owner" } })
    )
    return yield* stream(`/api/runs/${run.runId}/events`, failureOf)(server, headers)
  })

/** Says what a client is told when its session is revoked, when the server stops, and when its session cannot be read. */
interface Told {
  readonly open: Open
  readonly revoked: string
  readonly stopped: string
  readonly unreadable: string
}

const kinds: Readonly<Record<string, Told>> = {
  "the access feed": {
    open: stream("/api/auth/access", failureOf),
    revoked: "complete session_ended",
    stopped: "complete",
    unreadable: "complete unavailable"
  },
  "the access feed on a WebSocket": {
    open: socket("/api/auth/access"),
    revoked: "4401",
    stopped: "1001",
    unreadable: "1013"
  },
  "a run's events": {
    open: run,
    revoked: "complete session_ended",
    stopped: "complete",
    unreadable: "complete unavailable"
  },
  // The protocol has no word for it; the next request has a status.
  "a stream's events": { open: durable("sse"), revoked: "complete", stopped: "complete", unreadable: "complete" },
  "a stream's long-poll": { open: durable("long-poll"), revoked: "204", stopped: "204", unreadable: "204" },
  "an RPC over HTTP": { open: call, revoked: "unauthorized", stopped: "unavailable", unreadable: "unavailable" },
  "an RPC on a WebSocket": {
    open: socket("/rpc-socket", [ticks]),
    revoked: "4401",
    stopped: "1001",
    unreadable: "1013"
  },
  "a host's own WebSocket": { open: socket("/socket"), revoked: "1001", stopped: "1001", unreadable: "1001" }
}
const expected = (reason: "revoked" | "stopped" | "unreadable") =>
  Object.fromEntries(Object.entries(kinds).map(([name, told]) => [name, told[reason]]))

/** Opens all kinds on one server with one session. */
const openAll = Effect.fnUntraced(function*(server: Server, headers: Headers) {
  const ends = yield* Effect.forEach(
    Object.entries(kinds),
    ([name, { open }]) => Effect.map(open(server, headers), (end) => [name, end] as const)
  )
  return yield* Effect.forEach(
    ends,
    ([name, end]) => Effect.map(Effect.forkScoped(end), (fiber) => [name, fiber] as const)
  )
})

const outcomes = (ends: ReadonlyArray<readonly [string, Fiber.Fiber<string>]>) =>
  Effect.map(
    Effect.forEach(ends, ([name, fiber]) => Effect.map(Fiber.join(fiber), (told) => [name, told] as const)),
    Object.fromEntries
  )

const startAll = (options: Parameters<typeof start>[0] = {}) =>
  // A stop that waited for what is open would outlast the test.
  start({ routes, gracefulShutdownTimeout: "1 hour", ...options })

const signIn = (server: Server) =>
  Effect.map(
    Effect.orDie(server.sessions.issue({
      subject: "owner",
      scopes: [...AccessScope.builtin, ...DurableStreamsRoutes.scopes],
      method: "bearer-access-token"
    })),
    ({ session, token }) => ({ session, headers: { authorization: `Bearer ${Redacted.value(token)}` } })
  )

describe("what is open on a server", () => {
  it.live("SESS-08 L-22: ends when its session is revoked, and says so where there is a word for it", () =>
    Effect.gen(function*() {
      const server = yield* startAll()
      const { headers, session } = yield* signIn(server)
      const ends = yield* openAll(server, headers)
      yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      assert.deepStrictEqual(yield* outcomes(ends), expected("revoked"))
    }))

  it.live("C-79 HTTP-04: ends at once when the server stops, without a word of failure", () =>
    Effect.gen(function*() {
      const server = yield* startAll()
      const ends = yield* openAll(server, (yield* signIn(server)).headers)
      yield* server.stop
      assert.deepStrictEqual(yield* outcomes(ends), expected("stopped"))
    }))

  it.live("C-80: stays open under unsafe-no-auth, until the server stops", () =>
    Effect.gen(function*() {
      const server = yield* startAll({ policy: "unsafe-no-auth", sessions: { recheckInterval: "5 millis" } })
      const ends = yield* openAll(server, {})
      yield* Effect.sleep("200 millis")
      assert.deepStrictEqual(ends.filter(([, end]) => end.pollUnsafe() !== undefined).map(([name]) => name), [])
      yield* server.stop
      assert.deepStrictEqual(yield* outcomes(ends), expected("stopped"))
    }))

  it.live("SESS-08: ends when the store cannot say whether its session goes on, and may be opened again", () =>
    Effect.gen(function*() {
      const server = yield* startAll({ sessions: { recheckInterval: "5 millis" } })
      const ends = yield* openAll(server, (yield* signIn(server)).headers)
      server.probe.failing.add("sessions.findById")
      assert.deepStrictEqual(yield* outcomes(ends), expected("unreadable"))
    }))
})

// -----------------------------------------------------------------------------
// A relay and its environment
// -----------------------------------------------------------------------------

/** Starts a relay and an environment that can be stopped by themselves, with a request that is not decided. */
const waiting = Effect.gen(function*() {
  const scopes = { relay: yield* Scope.fork(yield* Scope.Scope), environment: yield* Scope.fork(yield* Scope.Scope) }
  const relay = yield* Scope.provide(startRelay("memory"), scopes.relay)
  const environment = yield* Scope.provide(startEnvironment("memory", relay), scopes.environment)
  const { answer } = yield* environment.connect("a")
  const { session } = yield* relay.run(
    SessionCredentialService.use((sessions) =>
      sessions.issue({
        subject: "ada",
        scopes: [],
        method: "dpop-access-token",
        proofKeyThumbprint: key("a")
      })
    )
  )
  const request = { environmentId: environment.id, requestedAt: Number(answer.requestedAt) }
  /** Waits as a session, or as one that never ends, both ways, and returns what the client is told. */
  const open = (session?: string) =>
    Effect.gen(function*() {
      const poll = yield* Effect.forkScoped(Effect.map(
        relay.call("/api/relay/await-decision", { key: "a", session, payload: { ...request, waitSeconds: 30 } }),
        ({ body, status }) => `${status} ${body.approvalStatus}`
      ))
      const query = new URLSearchParams({ ...request, requestedAt: String(request.requestedAt) })
      const reading = yield* follow(Number(new URL(relay.url).port), {
        path: `/api/relay/decisions?${query}`,
        headers: {
          authorization: "Bearer ada",
          "x-key": key("a"),
          ...(session === undefined ? {} : { "x-session": session })
        }
      })
      yield* reading.until((text) => text !== "")
      const following = yield* Effect.forkScoped(
        Effect.map(reading.ended, ({ how, text }) => `${how} ${failureOf(text.replace("retry: 1000\n\n", ""))}`.trim())
      )
      yield* Effect.sleep("100 millis")
      return { poll, following }
    })
  return {
    open,
    session: session.id,
    revoke: relay.run(SessionCredentialService.use((sessions) => sessions.revoke(session.id, "operator"))),
    stopRelay: Scope.close(scopes.relay, Exit.void),
    stopEnvironment: Scope.close(scopes.environment, Exit.void)
  }
})

describe("a request that a relay hands on to an environment", () => {
  it.live("OPS-06 C-02: and that fails can be found in the relay's log by the trace id that its client is told, with the cause", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.fork(yield* Scope.Scope)
      const relay = yield* startRelay("memory")
      const environment = yield* Scope.provide(startEnvironment("memory", relay), scope)
      yield* Scope.close(scope, Exit.void)
      const failed = Effect.fnUntraced(function*(cause: RegExp) {
        const { body, status } = yield* environment.connect("a")
        const { code, traceId } = { code: "", traceId: "", ...body }
        assert.deepStrictEqual([status, code], [503, "unavailable"])
        assert.match(traceId, /^[\da-f]{32}$/)
        const lines = relay.logged.filter((line) => line.includes(traceId))
        assert.lengthOf(lines, 1)
        assert.match(lines.join(), /Answered unavailable/)
        assert.match(lines.join(), cause)
      })
      yield* failed(/ECONNREFUSED/)
      for (
        const [cause, answer] of [
          [/socket hang up|ECONNRESET/, (response: Http.ServerResponse) => response.destroy()],
          [/it answered 500/, (response: Http.ServerResponse) => response.writeHead(500).end("<h1>Oops</h1>")],
          [/it is no JSON object/, (response: Http.ServerResponse) => response.end("<h1>Hello</h1>")]
        ] as const
      ) {
        yield* Effect.scoped(Effect.gen(function*() {
          const server = yield* Effect.acquireRelease(
            Effect.sync(() => Http.createServer((_, response) => void answer(response))),
            (server) =>
              Effect.callback<void>((resume) => {
                server.close(() => resume(Effect.void))
                server.closeAllConnections()
              })
          )
          yield* Effect.callback<void>((resume) =>
            void server.listen(Number(new URL(environment.url).port), "127.0.0.1", () => resume(Effect.void))
          )
          yield* failed(cause)
        }))
      }
    }).pipe(Effect.scoped))
})

describe("what waits at a relay for a decision", () => {
  it.live("SESS-08 C-79 C-80: ends with its session, and when the relay stops; one without authentication stays open", () =>
    Effect.gen(function*() {
      const { open, revoke, session, stopRelay } = yield* waiting
      const mine = yield* open(session)
      const everyones = yield* open()
      yield* revoke
      assert.strictEqual(yield* Fiber.join(mine.poll), "401 undefined")
      assert.strictEqual(yield* Fiber.join(mine.following), "complete session_ended")
      yield* Effect.sleep("100 millis")
      assert.deepStrictEqual([everyones.poll.pollUnsafe(), everyones.following.pollUnsafe()], [undefined, undefined])
      yield* stopRelay
      assert.strictEqual(yield* Fiber.join(everyones.poll), "200 pending")
      assert.strictEqual(yield* Fiber.join(everyones.following), "complete")
    }).pipe(Effect.scoped))

  it.live("C-79: does not hold up an environment that stops, which says that nothing is decided yet", () =>
    Effect.gen(function*() {
      const { open, stopEnvironment } = yield* waiting
      const { poll } = yield* open()
      yield* stopEnvironment
      assert.strictEqual(yield* Fiber.join(poll), "200 pending")
    }).pipe(Effect.scoped))
})
