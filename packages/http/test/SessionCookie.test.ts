import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { bearer, type Server, start } from "./support.ts"

const setCookies = (answer: { readonly headers: { readonly "set-cookie"?: Array<string> | undefined } }) =>
  (answer.headers["set-cookie"] ?? []).map((header) => {
    const [pair = "", ...attributes] = header.split("; ")
    const equals = pair.indexOf("=")
    return {
      name: pair.slice(0, equals),
      value: pair.slice(equals + 1),
      attributes: attributes.map((attribute) => attribute.toLowerCase()).toSorted()
    }
  })

const pair = (server: Server, headers: Record<string, string> = {}) =>
  Effect.flatMap(
    server.code(),
    (credential) => server.send({ path: "/api/auth/bootstrap", headers, body: { credential } })
  )

describe("the session cookie", () => {
  it.live("HTTP-01: on a loopback address is HttpOnly, SameSite=Lax, for the whole path, and named after the port", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const answer = yield* pair(server)
      assert.strictEqual(answer.status, 200)
      const cookies = setCookies(answer)
      assert.strictEqual(cookies.length, 1)
      assert.strictEqual(cookies[0]?.name, `sallyport_session_${server.port}`)
      assert.deepStrictEqual(cookies[0]?.attributes, ["httponly", "max-age=34560000", "path=/", "samesite=lax"])

      const again = yield* server.send({
        path: "/api/auth/session",
        headers: { cookie: `${cookies[0]?.name}=${cookies[0]?.value}` }
      })
      assert.strictEqual(again.json.authenticated, true)
    }))

  it.live("HTTP-01 L-08: of a server that is reachable from outside is Secure and __Host-, without a Domain (R10)", () =>
    Effect.gen(function*() {
      const server = yield* start({ policy: "remote-reachable" })
      const answer = yield* pair(server, { host: "sallyport.example" })
      assert.strictEqual(answer.status, 200)
      const cookies = setCookies(answer)
      assert.strictEqual(cookies.length, 1)
      assert.strictEqual(cookies[0]?.name, "__Host-sallyport_session")
      assert.deepStrictEqual(cookies[0]?.attributes, [
        "httponly",
        "max-age=34560000",
        "path=/",
        "samesite=lax",
        "secure"
      ])

      const secure = yield* server.send({
        path: "/api/auth/session",
        headers: { host: "sallyport.example", cookie: `__Host-sallyport_session=${cookies[0]?.value}` }
      })
      assert.strictEqual(secure.json.authenticated, true)
      // A cookie without the prefix may have been set by a page without TLS.
      const plain = yield* server.send({
        path: "/api/auth/session",
        headers: { host: "sallyport.example", cookie: `sallyport_session_443=${cookies[0]?.value}` }
      })
      assert.strictEqual(plain.json.authenticated, false)
    }))

  it.live("HTTP-01: is not read under the name of another port", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = (yield* server.cookie).replace(/^[^=]*=/, "")
      const read = (name: string) =>
        Effect.map(
          server.send({ path: "/api/auth/session", headers: { cookie: `${name}=${token}` } }),
          ({ json }) => json.authenticated
        )
      assert.isTrue(yield* read(`sallyport_session_${server.port}`))
      assert.isFalse(yield* read(`sallyport_session_${server.port === 65_535 ? 65_534 : server.port + 1}`))
      assert.isFalse(yield* read("sallyport_session"))
      assert.isFalse(yield* read("__Host-sallyport_session"))
    }))

  it.live("L-07: is the only place where the token stands", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const answer = yield* pair(server)
      const token = setCookies(answer)[0]?.value ?? ""
      assert.match(token, /^[\w-]+\.[\w-]+\.[\w-]+$/)
      for (const segment of token.split(".")) assert.notInclude(answer.text, segment)
      assert.notInclude(answer.text.toLowerCase(), "token")
    }))

  it.live("goes when its session logs out, and no session is left behind", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = yield* server.cookie
      const sameOrigin = { "sec-fetch-site": "same-origin" }
      const answer = yield* server.send({
        method: "POST",
        path: "/api/auth/logout",
        headers: { cookie, ...sameOrigin }
      })
      assert.strictEqual(answer.status, 204)
      assert.deepStrictEqual(setCookies(answer), [{
        name: `sallyport_session_${server.port}`,
        value: "",
        attributes: ["httponly", "max-age=0", "path=/", "samesite=lax"]
      }])
      const state = yield* server.send({ path: "/api/auth/session", headers: { cookie } })
      assert.strictEqual(state.json.authenticated, false)
    }))

  it.live("stays when a bearer token beside it logs out", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = yield* server.cookie
      const answer = yield* server.send({
        method: "POST",
        path: "/api/auth/logout",
        headers: { cookie, ...bearer(yield* server.token()) }
      })
      assert.strictEqual(answer.status, 204)
      assert.deepStrictEqual(setCookies(answer), [])
      const state = yield* server.send({ path: "/api/auth/session", headers: { cookie } })
      assert.strictEqual(state.json.authenticated, true)
    }))
})

describe("answers about credentials", () => {
  const json = { "content-type": "application/json" }
  const form = { "content-type": "application/x-www-form-urlencoded" }
  const exchange = (code: string) =>
    new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: code,
      subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
    }).toString()

  it.live("HTTP-01: are kept out of caches, whether they succeed or fail, and wherever they fail", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const authorized = bearer(yield* server.token())
      const requests = {
        "200 bootstrap": { path: "/api/auth/bootstrap", body: { credential: yield* server.code() } },
        "400 bootstrap with a malformed code": { path: "/api/auth/bootstrap", body: { credential: "oops" } },
        "400 bootstrap with malformed JSON": { path: "/api/auth/bootstrap", headers: json, body: "{" },
        "401 bootstrap with an unknown code": { path: "/api/auth/bootstrap", body: { credential: "a".repeat(40) } },
        "403 bootstrap from elsewhere": {
          path: "/api/auth/bootstrap",
          headers: { origin: "https://evil.example" },
          body: { credential: yield* server.code() }
        },
        "413 bootstrap": {
          path: "/api/auth/bootstrap",
          body: { credential: "a", label: "x".repeat(1024 * 1024) }
        },
        "415 bootstrap": { path: "/api/auth/bootstrap", headers: { "content-type": "text/plain" }, body: "{}" },
        "200 token": { path: "/oauth/token", headers: form, body: exchange(yield* server.code()) },
        "400 token": { path: "/oauth/token", headers: form, body: exchange("oops") },
        "400 token of another form": { path: "/oauth/token", body: {} },
        "200 ticket": { method: "POST", path: "/api/auth/websocket-ticket", headers: authorized },
        "401 ticket": { method: "POST", path: "/api/auth/websocket-ticket" },
        "201 pairing link": { path: "/api/auth/pairing-links", headers: authorized, body: {} },
        "401 pairing link": { path: "/api/auth/pairing-links", body: {} },
        "200 pairing links": { path: "/api/auth/pairing-links", headers: authorized },
        "200 session": { path: "/api/auth/session" },
        "401 session": { path: "/api/auth/session", headers: bearer("x") },
        "200 sessions": { path: "/api/auth/sessions", headers: authorized },
        "204 logout": { method: "POST", path: "/api/auth/logout", headers: authorized }
      }
      for (const [name, request] of Object.entries(requests)) {
        const answer = yield* server.send(request)
        assert.strictEqual(`${answer.status}`, name.slice(0, 3), `${name}: ${answer.text}`)
        assert.strictEqual(answer.headers["cache-control"], "no-store", name)
        assert.strictEqual(answer.headers.pragma, "no-cache", name)
      }

      server.probe.failing.add("links.redeem")
      const unavailable = yield* server.send({
        path: "/api/auth/bootstrap",
        body: { credential: yield* server.code() }
      })
      assert.strictEqual(unavailable.status, 503)
      assert.strictEqual(unavailable.headers["cache-control"], "no-store")
    }))
})
