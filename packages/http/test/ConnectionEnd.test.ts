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
import { type Server, start } from "./support.ts"

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
)).pipe(Layer.provide(Authentication.guard("runs:read").layer), Layer.merge(Sallyport.layer()))

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
})
