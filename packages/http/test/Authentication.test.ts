import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { assertError, bearer, raw, type Server, start } from "./support.ts"
import { ago } from "../../../test-support/clock.ts"

const unauthorized = { status: 401, tag: "Unauthorized", code: "unauthorized" }
const crossOrigin = { status: 403, tag: "Forbidden", code: "cross_origin" }

const sessionCount = (server: Server) => Effect.map(Effect.orDie(server.sessions.list()), (listed) => listed.length)

describe("the Authorization header", () => {
  const wrong = (good: string) => ({
    empty: "",
    blank: " ",
    "a scheme alone": "Bearer",
    "a scheme and a space": "Bearer ",
    Basic: `Basic ${Buffer.from(`owner:${good}`).toString("base64")}`,
    DPoP: `DPoP ${good}`,
    "no scheme": good,
    "an unknown token": "Bearer unknown",
    "two tokens": `Bearer ${good} ${good}`,
    "a list of schemes": `Bearer ${good}, Bearer ${good}`,
    "a fourth segment": `Bearer ${good}.x`,
    "another signature": `Bearer ${good.slice(0, -4)}AAAA`,
    "a token beyond any length": `Bearer ${"a".repeat(8000)}`
  })

  it.live("HTTP-02 L-21: is refused where it is wrong, even beside a good cookie", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = yield* server.cookie
      const good = yield* server.token()
      const browser = { cookie, "sec-fetch-site": "same-origin" }
      for (const [name, authorization] of Object.entries(wrong(good))) {
        const headers = { ...browser, authorization }
        for (const path of ["/api/auth/sessions", "/api/auth/session"]) {
          const answer = yield* server.send({ path, headers })
          assertError(answer, unauthorized)
          assert.match(String(answer.headers["www-authenticate"]), /^Bearer realm="sallyport"/, name)
        }
        assertError(yield* server.send({ method: "POST", path: "/api/auth/logout", headers }), unauthorized)
      }
      const state = yield* server.send({ path: "/api/auth/session", headers: browser })
      assert.strictEqual(state.json.authenticated, true, "the cookie's session has not ended")
    }))

  it.live("HTTP-02: is refused where its session has expired or was revoked, even beside a good cookie", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { session, token } = yield* Effect.orDie(
        server.sessions.issue({ subject: "owner", scopes: ["access:read"], method: "bearer-access-token" })
      )
      const headers = bearer(Redacted.value(token))
      const path = "/api/auth/sessions"
      assert.strictEqual((yield* server.send({ path, headers })).status, 200)
      yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      assertError(yield* server.send({ path, headers: { ...headers, cookie: yield* server.cookie } }), unauthorized)

      const expired = yield* server.token().pipe(ago("31 days"))
      assertError(
        yield* server.send({ path, headers: { ...bearer(expired), cookie: yield* server.cookie } }),
        unauthorized
      )
    }))

  it.live("needs no Origin, and takes the scheme in any case", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      for (const authorization of [`Bearer ${token}`, `bearer ${token}`, `BEARER   ${token}`]) {
        const answer = yield* server.send({
          method: "POST",
          path: "/api/auth/websocket-ticket",
          headers: { authorization, origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" }
        })
        assert.strictEqual(answer.status, 200)
      }
    }))

  it.live("is answered with a challenge that says what is wrong with it (RFC 6750 section 3)", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const challenge = (path: string, headers: Record<string, string>) =>
        Effect.map(server.send({ path, headers }), (answer) => answer.headers["www-authenticate"])
      assert.strictEqual(yield* challenge("/api/auth/sessions", {}), "Bearer realm=\"sallyport\"")
      assert.strictEqual(
        yield* challenge("/api/auth/sessions", bearer("x")),
        "Bearer realm=\"sallyport\", error=\"invalid_token\""
      )
      const token = yield* server.token({ scopes: ["runs:read"] })
      assert.strictEqual(
        yield* challenge("/api/auth/sessions", bearer(token)),
        "Bearer realm=\"sallyport\", error=\"insufficient_scope\", scope=\"access:read\""
      )
    }))
})

describe("the origin of a request with a cookie", () => {
  const foreign = (port: number): ReadonlyArray<Record<string, string>> => [
    {},
    { origin: "https://evil.example" },
    { origin: "null" },
    { origin: "" },
    { origin: "not an origin" },
    { origin: `http://127.0.0.1:${port === 1 ? 2 : port - 1}` },
    { origin: `http://localhost:${port}` },
    { origin: `http://127.0.0.1.evil.example:${port}` },
    { origin: `http://evil.example/127.0.0.1:${port}` },
    { referer: `http://127.0.0.1:${port}/` },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "none" },
    { "sec-fetch-site": "" },
    { "sec-fetch-site": "cross-site", origin: `http://127.0.0.1:${port}` }
  ]

  it.live("HTTP-02: has to be this server for whatever changes something; else it is refused, and nothing changes (R10)", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = yield* server.cookie
      const other = yield* Effect.orDie(
        server.sessions.issue({ subject: "owner", scopes: [], method: "bearer-access-token" })
      )
      const changes: ReadonlyArray<{ readonly path: string; readonly body?: unknown }> = [
        { path: "/api/auth/logout" },
        { path: "/api/auth/sessions/revoke", body: { id: other.session.id } },
        { path: "/api/auth/sessions/revoke-others" },
        { path: "/api/auth/sessions/revoke-issued-before", body: { time: "2100-01-01T00:00:00.000Z" } },
        { path: "/api/auth/websocket-ticket" },
        { path: "/api/auth/pairing-links", body: {} },
        { path: "/api/auth/pairing-links/revoke", body: { id: "x" } },
        { path: "/api/runs", body: { threadId: "t", input: 1 } }
      ]
      for (const headers of foreign(server.port)) {
        for (const request of changes) {
          const answer = yield* server.send({
            ...request,
            method: "POST",
            headers: {
              cookie,
              "idempotency-key": "k",
              ...(request.body === undefined ? {} : { "content-type": "application/json" }),
              ...headers
            }
          })
          assertError(answer, crossOrigin)
        }
      }
      assert.strictEqual(yield* sessionCount(server), 2)
      assert.deepStrictEqual(yield* Effect.orDie(server.links.list()), [])
      assert.isUndefined(server.probe.calls.get("runs.start"))
      assert.isUndefined(server.probe.calls.get("sessions.insertTicket"))
      assert.isUndefined(server.probe.calls.get("sessions.revoke"))
    }))

  it.live("HTTP-02: passes where it is this server, and does not matter for what only reads", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = yield* server.cookie
      const same: ReadonlyArray<Record<string, string>> = [
        { origin: `http://127.0.0.1:${server.port}` },
        { "sec-fetch-site": "same-origin" },
        { "sec-fetch-site": "same-origin", origin: "https://rewritten-by-a-proxy.example" }
      ]
      for (const headers of same) {
        const answer = yield* server.send({
          method: "POST",
          path: "/api/auth/websocket-ticket",
          headers: { cookie, ...headers }
        })
        assert.strictEqual(answer.status, 200)
      }
      for (const headers of foreign(server.port)) {
        const answer = yield* server.send({ path: "/api/auth/sessions", headers: { cookie, ...headers } })
        assert.strictEqual(answer.status, 200)
        assert.isUndefined(answer.headers["access-control-allow-origin"])
      }
    }))

  it.live("HTTP-02: is not that of a request which names no host, whatever its Origin", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = (yield* server.cookie).replace(/^[^=]*/, "sallyport_session_80")
      for (const origin of ["nonsense", "null", "http://", "http://127.0.0.1"]) {
        const answer = yield* raw(
          server.port,
          `POST /api/auth/logout HTTP/1.0\r\nCookie: ${cookie}\r\nOrigin: ${origin}\r\n\r\n`
        )
        assert.match(answer, /^HTTP\/1\.1 403 /, origin)
        assert.include(answer, "cross_origin")
      }
    }))

  it.live("HTTP-02: behind TLS is not the same host without TLS", () =>
    Effect.gen(function*() {
      const server = yield* start({ policy: "remote-reachable" })
      const cookie = yield* server.cookie
      const ticket = (headers: Record<string, string>) =>
        server.send({ method: "POST", path: "/api/auth/websocket-ticket", headers: { cookie, ...headers } })
      assertError(
        yield* ticket({ host: "sallyport.example", origin: "http://sallyport.example" }),
        crossOrigin
      )
      for (const host of ["sallyport.example", "SALLYPORT.example", "sallyport.example:443"]) {
        assert.strictEqual((yield* ticket({ host, origin: "https://sallyport.example" })).status, 200, host)
      }
      assert.strictEqual(
        (yield* ticket({ host: "sallyport.example:8443", origin: "https://sallyport.example:8443" })).status,
        200
      )
      assertError(yield* ticket({ host: "sallyport.example", origin: "https://sallyport.example:8443" }), crossOrigin)
    }))

  it.live("HTTP-02: has to be this server for signing in too, but a client without a browser needs none", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const credential = yield* server.code()
      const bootstrap = (headers: Record<string, string>) =>
        server.send({ path: "/api/auth/bootstrap", headers, body: { credential } })
      assertError(yield* bootstrap({ origin: "https://evil.example" }), crossOrigin)
      assertError(yield* bootstrap({ "sec-fetch-site": "cross-site" }), crossOrigin)
      assert.strictEqual(yield* sessionCount(server), 0)
      assert.strictEqual((yield* bootstrap({})).status, 200, "the refusals have not used the code up")
    }))
})

describe("the policy unsafe-no-auth", () => {
  it.live("lets everybody on the machine in, by every scope", () =>
    Effect.gen(function*() {
      const server = yield* start({ policy: "unsafe-no-auth" })
      for (
        const host of [`127.0.0.1:${server.port}`, `localhost:${server.port}`, `[::1]:${server.port}`, "127.0.0.1"]
      ) {
        const answer = yield* server.send({ path: "/api/auth/session", headers: { host } })
        assert.strictEqual(answer.json.authenticated, true, host)
      }
      const run = yield* server.send({
        path: "/api/runs",
        headers: { "idempotency-key": "k" },
        body: { threadId: "t", input: 1 }
      })
      assert.strictEqual(run.status, 201)
      const events = yield* server.send({ path: `/api/runs/${String(runId(run.json))}/events` })
      assert.strictEqual(events.status, 200)
      assert.include(events.text, "event: end")
    }))

  it.live("answers to a loopback name only, so that no page can point its own name here", () =>
    Effect.gen(function*() {
      const server = yield* start({ policy: "unsafe-no-auth" })
      const hosts = [
        `evil.example:${server.port}`,
        `127.0.0.1.evil.example:${server.port}`,
        `localhost.evil.example:${server.port}`,
        "192.168.1.10",
        `:${server.port}`
      ]
      for (const host of hosts) {
        for (const path of ["/api/auth/session", "/api/auth/sessions", "/api/threads/t/active-run"]) {
          assertError(yield* server.send({ path, headers: { host } }), crossOrigin)
        }
        const changed = yield* server.send({
          path: "/api/runs",
          // A page that has rebound its name is of the same origin as far as its browser can see.
          headers: { host, "sec-fetch-site": "same-origin", "idempotency-key": "k" },
          body: { threadId: "t", input: 1 }
        })
        assertError(changed, crossOrigin)
      }
      assert.isUndefined(server.probe.calls.get("runs.start"))
    }))

  it.live("lets no page of another origin change anything", () =>
    Effect.gen(function*() {
      const server = yield* start({ policy: "unsafe-no-auth" })
      for (
        const headers of [{ origin: "https://evil.example" }, { origin: "null" }, { "sec-fetch-site": "cross-site" }]
      ) {
        const answer = yield* server.send({
          path: "/api/runs",
          headers: { "idempotency-key": "k", ...headers },
          body: { threadId: "t", input: 1 }
        })
        assertError(answer, crossOrigin)
      }
      assert.isUndefined(server.probe.calls.get("runs.start"))
    }))
})

describe("credentials that lets no caller in", () => {
  it.live("BOOT-05: are answered alike, byte for byte but for the trace id, unless their holder may know how they ended", () =>
    Effect.gen(function*() {
      const server = yield* start({ links: { lifetime: "1 millis" } })
      const expired = yield* server.code()
      yield* Effect.sleep("5 millis")
      const links = { lifetime: "1 minute" } as const
      const make = Effect.orDie(server.links.issue({ issuedBy: "operator", scopes: [], ...links }))
      const used = yield* make
      yield* server.send({ path: "/api/auth/bootstrap", body: { credential: Redacted.value(used.code) } })
      const revoked = yield* make
      yield* Effect.orDie(server.links.revoke(revoked.link.id, "operator"))
      const bound = yield* Effect.orDie(
        server.links.issue({ issuedBy: "operator", scopes: [], proofKeyThumbprint: "thumbprint", ...links })
      )
      const credentials = {
        expired,
        used: Redacted.value(used.code),
        revoked: Redacted.value(revoked.code),
        "bound to a key": Redacted.value(bound.code),
        unknown: "an-unknown-seeded-credential"
      }
      const answers: Record<string, string> = {}
      for (const [name, credential] of Object.entries(credentials)) {
        const cookie = yield* server.send({ path: "/api/auth/bootstrap", body: { credential } })
        assertError(cookie, { status: 401, tag: "Unauthorized", code: "invalid_credential" })
        const { date: _, ...head } = cookie.headers
        const token = yield* server.send({
          path: "/oauth/token",
          headers: { "content-type": "application/x-www-form-urlencoded" },
          body: new URLSearchParams({
            grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
            subject_token: credential,
            subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
          }).toString()
        })
        answers[name] = [
          JSON.stringify(head),
          cookie.text.replace(String(cookie.json.traceId), ""),
          `${token.status} ${token.text.replace(String(token.json.traceId), "")}`
        ].join("\n")
      }
      assert.strictEqual(answers["bound to a key"], answers.unknown)
      assert.strictEqual(new Set(Object.values(answers)).size, 4)
      assert.strictEqual(yield* sessionCount(server), 1, "that of the used code")
    }))
})

const runId = (json: Record<string, unknown>): unknown =>
  typeof json.run === "object" && json.run !== null && "runId" in json.run ? json.run.runId : undefined
