/**
 * When what is open with a session ends, over each kind of connection and for each reason.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import { type Server, start } from "./support.ts"

/** Answers with a WebSocket that sends `open`, and then what it is sent. */
const echo = HttpRouter.add(
  "GET",
  "/host/echo",
  Effect.scoped(Effect.gen(function*() {
    const socket = yield* Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => request.upgrade)
    const reader = yield* socket.reader
    const writer = yield* socket.writer
    yield* writer.write("open")
    return yield* Effect.forever(Effect.flatMap(reader.pull, (chunk) => writer.writeAll(chunk)))
  })).pipe(Effect.orDie)
)

/** A WebSocket of a host, which sends `open` and then nothing. */
const hostRoutes = Layer.unwrap(SessionCredentialService.useSync((sessions) =>
  HttpRouter.add(
    "GET",
    "/host/socket",
    Effect.gen(function*() {
      const session = yield* CurrentSession
      yield* Stream.concat(Stream.make("open"), Stream.never).pipe(
        Stream.pipeThroughChannel(HttpServerRequest.upgradeChannel()),
        sessions.whileValid(session),
        Stream.runDrain,
        Effect.orDie
      )
      return HttpServerResponse.empty()
    })
  )
)).pipe(
  Layer.merge(echo),
  Layer.provide(Authentication.guard("runs:read").layer),
  Layer.merge(Sallyport.layer())
)

/** Opens a WebSocket by hand, to end it as no client would do it on request. */
const upgrade = (server: Server, path: string) =>
  Effect.callback<Net.Socket>((resume) => {
    const socket = Net.connect(server.port, "127.0.0.1", () => {
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
      )
    })
    let text = ""
    socket.on("error", () => undefined)
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1")
      if (text.includes("open")) resume(Effect.succeed(socket))
    })
  })

interface Opened {
  /** Completes with how the connection was closed. */
  readonly closed: Effect.Effect<number>
  readonly isOpen: () => boolean
}

/** Opens a WebSocket, and returns once the server has sent something on it. */
const open = (server: Server, path: string, ticket: string | undefined) =>
  Effect.callback<Opened>((resume) => {
    const query = ticket === undefined ? "" : `?ticket=${ticket}`
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}${query}`)
    const closed = new Promise<number>((close) => socket.addEventListener("close", ({ code }) => close(code)))
    socket.addEventListener("message", () =>
      resume(Effect.succeed({
        closed: Effect.promise(() => closed),
        isOpen: () => socket.readyState === WebSocket.OPEN
      })), { once: true })
  })

const connect = Effect.fnUntraced(function*(path: string, policy?: AuthPolicy.Kind) {
  // The stop would wait for an hour if a connection stayed open, and the test runs out of time.
  const server = yield* start({ routes: hostRoutes, gracefulShutdownTimeout: "1 hour", policy })
  if (policy === "unsafe-no-auth") return { server, socket: yield* open(server, path, undefined), session: undefined }
  const { session } = yield* Effect.orDie(
    server.sessions.issue({ subject: "ada", scopes: ["access:read", "runs:read"], method: "bearer-access-token" })
  )
  const ticket = Redacted.value(yield* Effect.orDie(server.sessions.issueTicket(session)))
  return { server, socket: yield* open(server, path, ticket), session }
})

describe("a WebSocket", () => {
  for (const [name, path] of [["of a host", "/host/socket"], ["of the access feed", "/api/auth/access"]] as const) {
    it.live(`SESS-08 L-22: ${name} ends when its session is revoked`, () =>
      Effect.gen(function*() {
        const { server, session, socket } = yield* connect(path)
        assert.isTrue(socket.isOpen())
        if (session !== undefined) yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
        yield* socket.closed
      }))

    it.live(`HTTP-04 C-79: ${name} ends at once when the server stops`, () =>
      Effect.gen(function*() {
        const { server, socket } = yield* connect(path)
        assert.isTrue(socket.isOpen())
        yield* server.stop
        yield* socket.closed
      }))

    it.live(`AUTH-01 C-80: ${name} stays open under unsafe-no-auth, until the server stops`, () =>
      Effect.gen(function*() {
        const { server, socket } = yield* connect(path, "unsafe-no-auth")
        // What ends connections has looked at the session by the time that requests after it have been answered.
        for (let request = 0; request < 5; request++) yield* server.send({ path: "/api/auth/session" })
        assert.isTrue(socket.isOpen())
        yield* server.stop
        yield* socket.closed
      }))
  }

  for (
    const [how, frame] of [
      ["with 1000", [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]],
      ["by leaving its page (1001)", [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]],
      ["without a code (1005)", [0x88, 0x80, 0, 0, 0, 0]],
      ["by dying (1006)", undefined],
      ["with a code of its own (4000)", [0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa0]]
    ] as const
  ) {
    it.live(`C-78: of a host that its client closes ${how} fails nothing and logs no fault`, () =>
      Effect.gen(function*() {
        for (const path of ["/host/socket", "/host/echo"]) {
          const server = yield* start({ routes: hostRoutes, logRequests: true })
          const { session } = yield* Effect.orDie(
            server.sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "bearer-access-token" })
          )
          const ticket = Redacted.value(yield* Effect.orDie(server.sessions.issueTicket(session)))
          const raw = yield* upgrade(server, `${path}?ticket=${ticket}`)
          if (frame === undefined) raw.destroy()
          else raw.end(Buffer.from(frame))
          const answered = () => server.logged.filter((line) => line.includes("/host/"))
          yield* Effect.repeat(Effect.sleep("2 millis"), { until: () => answered().length > 0 })
          for (const line of answered()) {
            assert.notMatch(line, /"http.status":5|SocketError|    at /)
          }
        }
      }))
  }
})
