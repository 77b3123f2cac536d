/**
 * Clients that begin a request and do not go on, on connections of their own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { connect } from "node:net"
import * as Sallyport from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"

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

describe("sallyport serve", () => {
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

  it.live("HTTP-04: timeouts that cannot work are refused at the start, by name", () =>
    Effect.gen(function*() {
      const refused = (...args: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          const state = yield* Sallyport.freshState
          const running = yield* Sallyport.sallyport(["serve", "--port", "0", "--state-dir", state, ...args])
          assert.notStrictEqual((yield* running.exit).code, 0)
          return running.stderr() + running.stdout()
        })
      assert.include(
        yield* refused("--headers-timeout", "2 minutes"),
        "headersTimeout must be no longer than requestTimeout"
      )
      assert.include(yield* refused("--request-timeout", "0 seconds"), "requestTimeout must be")
      assert.include(yield* refused("--keep-alive-timeout", "soon"), "keep-alive-timeout")
    }), timeout)
})
