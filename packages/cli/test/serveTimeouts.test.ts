/**
 * Clients that begin a request and do not go on, on connections of their own.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Backend from "@sallyport/cli/Backend"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as EventStream from "@sallyport/http/EventStream"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { readFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import * as Sallyport from "../../../test-support/backend.ts"
import { eventually, timeout } from "../../../test-support/programs.ts"

/** Writes the parts of a request, and returns what has come back when the server has closed the connection. */
const stall = (url: string, ...parts: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const { hostname, port } = new URL(url)
    let answer = ""
    const socket = connect(Number(port), hostname)
    for (const part of parts) socket.write(part)
    socket.setEncoding("utf8")
    socket.on("data", (chunk: string) => {
      answer += chunk
    })
    socket.on("error", () => undefined)
    socket.on("close", () => resume(Effect.succeed(answer)))
    return Effect.sync(() => socket.destroy())
  })

const head = (url: string, line: string, ...headers: ReadonlyArray<string>) =>
  [`${line} HTTP/1.1`, `Host: ${new URL(url).host}`, ...headers, "", ""].join("\r\n")

/** Starts the backend in this process, with heartbeats that come sooner than in another. */
const start = Effect.fnUntraced(function*(options: Partial<Backend.Options>) {
  const services = yield* Layer.build(
    Backend.layer({ host: "127.0.0.1", port: 0, stateDirectory: yield* Sallyport.freshState, ...options }).pipe(
      Layer.provide([Layer.succeed(EventStream.HeartbeatInterval, Duration.millis(100)), NodeServices.layer])
    )
  )
  const url = HttpServer.formatAddress(Context.get(services, HttpServer.HttpServer).address)
  const { code } = yield* Context.get(services, BootstrapCredentialService.BootstrapCredentialService).issue({
    issuedBy: "operator",
    scopes: "all"
  })
  const exchanged = yield* Sallyport.exchange({ url }, Redacted.value(code))
  return { url, token: exchanged.json<{ readonly access_token: string }>().access_token }
})

/** Tells whether the server's side of a connection is open, as the system knows it. */
const isOpen = (socket: Socket) =>
  Effect.sync(() => {
    const hex = (port: number | undefined) => `:${(port ?? 0).toString(16).toUpperCase().padStart(4, "0")}`
    const established = "01"
    return readFileSync("/proc/net/tcp", "utf8").split("\n").some((line) => {
      const [, local, remote, state] = line.trim().split(/\s+/)
      return local?.endsWith(hex(socket.remotePort)) === true && remote?.endsWith(hex(socket.localPort)) === true &&
        state === established
    })
  })

describe("sallyport serve", () => {
  it.live(
    "HTTP-04: a connection on which nothing moves is cut: an answer that is never read, and a body that hangs; one with heartbeats stays",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { token, url } = yield* start({ stalledTimeout: Duration.seconds(1) })
        const authorization = `Authorization: Bearer ${token}`
        const following = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const { hostname, port } = new URL(url)
            const socket = connect(Number(port), hostname).setEncoding("utf8")
            const heartbeats = { count: 0, closed: false }
            socket.on("data", (chunk: string) => heartbeats.count += chunk.split(": heartbeat").length - 1)
            socket.on("close", () => heartbeats.closed = true)
            socket.write(head(url, "GET /api/auth/access", authorization))
            return { socket, heartbeats }
          }),
          ({ socket }) => Effect.sync(() => socket.destroy())
        )
        const unread = yield* Effect.acquireRelease(
          Effect.callback<Socket>((resume) => {
            const { hostname, port } = new URL(url)
            const socket = connect(Number(port), hostname).pause().on("error", () => undefined)
            // More than the buffers of the system hold.
            for (let n = 0; n < 1_000; n++) socket.write(head(url, "GET /api/openapi.json"))
            socket.on("connect", () => resume(Effect.succeed(socket)))
          }),
          (socket) => Effect.sync(() => socket.destroy())
        )
        yield* eventually(isOpen(unread), (open) => open)
        const hanging = stall(url, head(url, "POST /api/auth/bootstrap", "Content-Length: 100"), "{")
        assert.match(yield* hanging, /^(?:$|HTTP\/1\.1 4\d\d )/)
        yield* eventually(isOpen(unread), (open) => !open)
        const { heartbeats } = following
        const before = heartbeats.count
        yield* eventually(Effect.sync(() => heartbeats.count), (count) => count >= before + 20)
        assert.isFalse(heartbeats.closed)
      })),
    timeout
  )

  it.live(
    "HTTP-04: a request that does not go on is ended, whatever it is for, and is no fault of the server's",
    () =>
      Effect.gen(function*() {
        const server = yield* Sallyport.serveWith(
          { SALLYPORT_HTTP_HEADERS_TIMEOUT: "500 millis" },
          yield* Sallyport.freshState,
          "--request-timeout",
          "1 second"
        )
        const token = yield* Sallyport.pair(server)
        const authorization = `Authorization: Bearer ${token}`
        const json = ["Content-Type: application/json", "Content-Length: 100"]
        const form = ["Content-Type: application/x-www-form-urlencoded", "Content-Length: 100"]
        const chunked = ["Content-Type: application/json", "Transfer-Encoding: chunked"]
        const answers = yield* Effect.all([
          stall(server.url, head(server.url, "POST /api/auth/bootstrap", ...json), `{"credential":`),
          stall(server.url, head(server.url, "POST /api/auth/bootstrap", ...chunked), "5\r\n{\"cre\r\n"),
          stall(server.url, head(server.url, "POST /oauth/token", ...form), "grant_type="),
          stall(server.url, head(server.url, "POST /api/runs", authorization, "Idempotency-Key: a", ...json), "{"),
          stall(server.url, head(server.url, "PUT /api/auth/connect-security-mode", authorization, ...json), "{"),
          stall(server.url, head(server.url, "PUT /api/credentials/github_token", authorization, ...json), "{"),
          stall(server.url, head(server.url, "POST /api/health", ...json), "{"),
          stall(server.url, "GET /api/auth/session HT"),
          stall(server.url, "GET /api/auth/session HTTP/1.1\r\nHost: "),
          stall(server.url)
        ], { concurrency: "unbounded" })
        for (const answer of answers) assert.match(answer, /^(?:$|HTTP\/1\.1 4\d\d )/)
        assert.match(answers[0] ?? "", /^HTTP\/1\.1 408 /)
        assert.match(answers[3] ?? "", /^HTTP\/1\.1 408 /)
        assert.strictEqual((yield* Sallyport.get(server, "/api/auth/session", token)).status, 200)
        assert.strictEqual(server.stderr(), "")
      }),
    timeout
  )

  it.live("HTTP-04: an answer may take longer than a request", () =>
    Effect.gen(function*() {
      const server = yield* Sallyport.serve(
        yield* Sallyport.freshState,
        "--request-timeout",
        "500 millis",
        "--keep-alive-timeout",
        "1 second"
      )
      const token = yield* Sallyport.pair(server)
      const { run } = yield* Sallyport.startRun(server, token, { to: 5, everyMillis: 500 })
      const reader = yield* Sallyport.follow(server, token, run.runId)
      assert.strictEqual((yield* reader.rest).at(-1)?.event, "end")
      const idle = yield* stall(server.url, head(server.url, "GET /api/auth/session"))
      assert.match(idle, /^HTTP\/1\.1 200 [\s\S]*keep-alive: timeout=1/i)
    }), timeout)
})
