/**
 * Readers that never read, and how many connections a session may have open.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import type * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import * as Support from "./support.ts"

const padding = "x".repeat(500_000)

/** A run of as many large events as its input says, which then waits. */
const large = ({ input, run }: RunProgram.RunProgramRequest) =>
  Effect.gen(function*() {
    for (let n = 0; n < Number(input); n++) yield* run.append({ padding })
    return yield* Effect.never
  })

/** A WebSocket of a host that sends without an end. */
const flood = Layer.unwrap(SessionCredentialService.useSync((sessions) =>
  HttpRouter.add(
    "GET",
    "/host/flood",
    Effect.gen(function*() {
      const session = yield* CurrentSession
      yield* Stream.tick("1 millis").pipe(
        Stream.map(() => padding),
        Stream.pipeThroughChannel(HttpServerRequest.upgradeChannel()),
        sessions.whileValid(session),
        Stream.runDrain,
        Effect.orDie
      )
      return HttpServerResponse.empty()
    })
  )
)).pipe(Layer.provide(Authentication.guard("runs:read").layer))

const routes = (perSession = 256) =>
  Layer.merge(Sallyport.layer(), flood).pipe(Layer.provide(Layer.succeed(ConnectionEnd.PerSession, perSession)))

const signIn = (server: Support.Server) =>
  Effect.map(
    Effect.orDie(server.sessions.issue({
      subject: "owner",
      scopes: ["access:read", "runs:read", "runs:operate"],
      method: "bearer-access-token"
    })),
    ({ session, token }) => ({ session, headers: Support.bearer(Redacted.value(token)) })
  )

/** Begins a request and reads nothing of its answer, ever. */
const neglect = (server: Support.Server, path: string, headers: Record<string, string>) =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const lines = [`GET ${path} HTTP/1.1`, `Host: 127.0.0.1:${server.port}`]
      for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`)
      const socket = Net.connect(server.port, "127.0.0.1", () => {
        socket.pause()
        socket.write([...lines, "", ""].join("\r\n"), () => resume(Effect.succeed(socket)))
      })
      socket.on("error", () => undefined)
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** Waits until a condition holds. */
const eventually = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.delay(eventually(condition), "50 millis"))

const upgradeHeaders = {
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="
}

/** Starts a server with a run of far more than a socket holds, and a reader of it that reads nothing. */
const neglected = Effect.fnUntraced(function*(directly: boolean) {
  const server = yield* Support.start({ directly, routes: routes(), program: large, gracefulShutdownTimeout: "1 hour" })
  const { headers, session } = yield* signIn(server)
  const started = yield* server.send({
    path: "/api/runs",
    headers: { ...headers, "idempotency-key": "key" },
    body: { threadId: "thread", input: 20 }
  })
  assert.strictEqual(started.status, 201, started.text)
  const runId = String(
    Object.entries(started.json).flatMap(([name, run]) =>
      name === "run" && typeof run === "object" && run !== null && "runId" in run ? [run.runId] : []
    )[0]
  )
  yield* neglect(server, `/api/runs/${runId}/events`, headers)
  const reader = yield* Support.follow(server.port, { path: `/api/runs/${runId}/events`, headers })
  // Whatever the neglected reader can be sent, it has been sent when another one has had everything.
  yield* reader.until((text) => text.length > 20 * padding.length)
  return { reader, server, session }
})

describe.each([["written to the connection", true], ["through a stream", false]])(
  "a reader that never reads, %s",
  // Such a reader is given some seconds.
  { concurrent: true },
  (_, directly) => {
    it.live("SESS-08 L-22: loses its connection some seconds after its session has ended, as if it had gone", () =>
      Effect.gen(function*() {
        const { reader, server, session } = yield* neglected(directly)
        yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
        assert.strictEqual((yield* reader.ended).how, "complete")
        yield* eventually(() => server.connections() === 0)
        for (const line of server.logged) assert.notMatch(line, /"level":"(?:ERROR|WARN)/)
      }))

    it.live("HTTP-04: does not hold up a server that stops", () =>
      Effect.gen(function*() {
        const { server } = yield* neglected(directly)
        yield* server.stop
        yield* eventually(() => server.connections() === 0)
      }))
  }
)

describe("a WebSocket that is never read", { concurrent: true }, () => {
  it.live("HTTP-09: is cut when too much waits for it", () =>
    Effect.gen(function*() {
      const server = yield* Support.start({ routes: routes() })
      const { headers } = yield* signIn(server)
      yield* neglect(server, "/host/flood", { ...headers, ...upgradeHeaders })
      yield* eventually(() => server.connections() === 1)
      yield* eventually(() => server.connections() === 0)
    }))

  it.live("SESS-08: loses its connection some seconds after its session has ended", () =>
    Effect.gen(function*() {
      const server = yield* Support.start({ routes: routes(), gracefulShutdownTimeout: "1 hour" })
      const { headers, session } = yield* signIn(server)
      yield* neglect(server, "/api/auth/access", { ...headers, ...upgradeHeaders })
      yield* eventually(() => server.connections() === 1)
      yield* server.send({ path: "/api/auth/session" })
      yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      yield* eventually(() => server.connections() === 0)
    }))
})

describe("a session", { concurrent: true }, () => {
  it.live("HTTP-09: has so many connections open at most, and has room again when one ends", () =>
    Effect.gen(function*() {
      const server = yield* Support.start({ routes: routes(3), program: large })
      const { headers } = yield* signIn(server)
      const feed = { path: "/api/auth/access", headers }
      const first = yield* Support.follow(server.port, feed)
      yield* Support.follow(server.port, feed)
      yield* neglect(server, "/host/flood", { ...headers, ...upgradeHeaders })
      const full = (path: string, more: Record<string, string> = {}) =>
        server.send({ path, headers: { ...headers, ...more } })
      let answer = yield* full("/api/auth/access")
      while (answer.status === 200) answer = yield* full("/api/auth/access")
      for (const [path, more] of [["/api/auth/access", {}], ["/host/flood", upgradeHeaders]] as const) {
        answer = yield* full(path, more)
        Support.assertError(answer, {
          status: 429,
          tag: "TooManyRequests",
          code: "too_many_connections",
          retryable: true
        })
        assert.strictEqual(answer.headers["retry-after"], "1")
      }
      // What is over at once is answered, and so are other sessions.
      assert.strictEqual((yield* full("/api/auth/sessions")).status, 200)
      const other = yield* signIn(server)
      const theirs = yield* Support.follow(server.port, { path: "/api/auth/access", headers: other.headers })
      assert.strictEqual(theirs.status, 200)
      first.socket.destroy()
      const again: Effect.Effect<number> = Effect.scoped(
        Effect.flatMap(
          Support.follow(server.port, feed),
          ({ status }) => status === 429 ? Effect.delay(again, "50 millis") : Effect.succeed(status)
        )
      )
      assert.strictEqual(yield* again, 200)
    }))
})
