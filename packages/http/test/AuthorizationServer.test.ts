import { assert, describe, it } from "@effect/vitest"
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  authorizePath,
  call,
  challengeOf,
  decide,
  exchange,
  fieldOf,
  grant,
  post,
  queryOf,
  registered,
  resources,
  startDocuments,
  startServer,
  submit,
  verifier
} from "./authorizationSupport.ts"
import { telling } from "../../../test-support/clock.ts"
import { eventually } from "../../../test-support/programs.ts"
import { claimsOf, generate, headerOf, type Json, type Key, prove } from "./dpopSupport.ts"
import { type Answer, bearer, type Server, start } from "./support.ts"

const origin = (server: { readonly port: number }) => `http://127.0.0.1:${server.port}`

/** Returns how the server of a resource elsewhere says who it is. */
const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${id}:${encodeURIComponent(secret)}`).toString("base64")}`
})
const secretOf = (id: string) => basic(id, "a secret of files, long and random")

/** Fails unless one line of the log has why the store failed, under the trace id that a caller was told. */
const assertLogged = (server: Server, traceId: unknown) => {
  assert.match(String(traceId), /^[0-9a-f]{32}$/)
  const [line, ...others] = server.logged.filter((line) => line.includes(String(traceId)))
  assert.lengthOf(others, 0)
  assert.include(line, "WARN")
  assert.include(line, "the disk is on fire")
}

/** Exchanges a pairing code for a token. */
const exchangeCode = (server: Server, code: string) =>
  post(server, "/oauth/token", {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: code,
    subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
    scope: "runs:read offline_access"
  })

const metadata = "/.well-known/oauth-authorization-server"
const protectedResource = "/.well-known/oauth-protected-resource"

describe("metadata", () => {
  it.live("AGENT-01: RFC 8414 and RFC 9728 documents name what is there, and nothing that is not (M1-M13)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const issuer = origin(server)
      const answer = yield* server.send({ path: metadata })
      assert.strictEqual(answer.status, 200)
      assert.match(String(answer.headers["content-type"]), /^application\/json/)
      assert.strictEqual(answer.headers["access-control-allow-origin"], "*")
      assert.deepStrictEqual(answer.json, {
        issuer,
        authorization_endpoint: `${issuer}/oauth/authorize`,
        token_endpoint: `${issuer}/oauth/token`,
        revocation_endpoint: `${issuer}/oauth/revoke`,
        introspection_endpoint: `${issuer}/oauth/introspect`,
        introspection_endpoint_auth_methods_supported: ["client_secret_basic"],
        scopes_supported: ["access:read", "credentials:read", "credentials:write", "runs:read", "runs:operate"],
        response_types_supported: ["code"],
        response_modes_supported: ["query"],
        grant_types_supported: [
          "authorization_code",
          "refresh_token",
          "urn:ietf:params:oauth:grant-type:token-exchange"
        ],
        token_endpoint_auth_methods_supported: ["none"],
        revocation_endpoint_auth_methods_supported: ["none"],
        code_challenge_methods_supported: ["S256"],
        authorization_response_iss_parameter_supported: true,
        client_id_metadata_document_supported: true
      })
      const mcp = yield* server.send({ path: `${protectedResource}/mcp` })
      assert.deepStrictEqual(mcp.json, {
        resource: `${issuer}/mcp`,
        authorization_servers: [issuer],
        scopes_supported: ["runs:read", "runs:operate"],
        bearer_methods_supported: ["header"],
        resource_name: "Tools"
      })
      const root = yield* server.send({ path: protectedResource })
      assert.deepStrictEqual([root.json.resource, root.json.authorization_servers], [issuer, [issuer]])
      // Endpoints and documents that are not there: no registration, no OpenID Connect, no guess at the origin.
      for (
        const path of [
          `${metadata}/mcp`,
          `${metadata}/`,
          `${protectedResource}/mcp/`,
          `${protectedResource}/none`,
          "/.well-known/openid-configuration",
          "/register",
          "/authorize",
          "/token",
          "/oauth/register"
        ]
      ) {
        assert.strictEqual((yield* server.send({ path })).status, 404, path)
      }
      assert.strictEqual((yield* server.send({ method: "POST", path: "/register", body: {} })).status, 404)
      for (const path of [metadata, `${protectedResource}/mcp`, "/oauth/token", "/oauth/revoke"]) {
        const preflight = yield* server.send({
          method: "OPTIONS",
          path,
          headers: {
            origin: "https://inspector.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "mcp-protocol-version"
          }
        })
        assert.strictEqual(preflight.status, 204, path)
        assert.match(String(preflight.headers["access-control-allow-headers"]), /MCP-Protocol-Version/)
      }
      const page = yield* server.send({ path: authorizePath(server) })
      assert.isUndefined(page.headers["access-control-allow-origin"])
    }))

  it.live("AGENT-01: below a prefix and a public URL, the path is inserted and every address agrees (M1, M2)", () =>
    Effect.gen(function*() {
      // Neither a query nor a fragment is part of the issuer.
      const server = yield* startServer({ prefix: "/base" }, { publicUrl: "https://box.example/x/?a=b#c" })
      for (const path of [`${metadata}/x/base`, `${metadata}/base`]) {
        const { json } = yield* server.send({ path })
        assert.strictEqual(json.issuer, "https://box.example/x/base", path)
        assert.strictEqual(json.authorization_endpoint, "https://box.example/x/base/oauth/authorize")
      }
      assert.strictEqual((yield* server.send({ path: metadata })).status, 404)
      for (const path of [`${protectedResource}/x/mcp`, `${protectedResource}/mcp`]) {
        const { json } = yield* server.send({ path })
        assert.deepStrictEqual([json.resource, json.authorization_servers], ["https://box.example/x/mcp", [
          "https://box.example/x/base"
        ]])
      }
      const refused = yield* call(server, "/mcp", undefined)
      assert.include(
        String(refused.headers["www-authenticate"]),
        `resource_metadata="https://box.example/.well-known/oauth-protected-resource/x/mcp"`
      )
      const cookie = yield* server.cookie
      const path = `/base${authorizePath(server, { resource: "https://box.example/x/mcp" })}`
      const { query } = yield* decide(server, path, { cookie })
      assert.strictEqual(query.iss, "https://box.example/x/base")
    }))

  it.live("AGENT-01: a resource with a query has metadata of its own, and a query that is not its own names no other (M11)", () =>
    Effect.gen(function*() {
      const tenants = ["https://box.example/mcp?tenant=1", "https://box.example/mcp?tenant=2"]
      const server = yield* startServer(
        { resources: [...resources, ...tenants.map((resource) => ({ resource, scopes: ["runs:read"] as const }))] },
        { publicUrl: "https://box.example" }
      )
      for (
        const [path, resource] of [
          ["/mcp", "https://box.example/mcp"],
          ["/mcp?x=1", "https://box.example/mcp"],
          ["/mcp?tenant=1", tenants[0]],
          ["/mcp?tenant=2", tenants[1]],
          ["?x=1", "https://box.example"]
        ]
      ) {
        const { json, status } = yield* server.send({ path: `${protectedResource}${path}` })
        assert.deepStrictEqual([status, json.resource], [200, resource], path)
      }
      assert.strictEqual((yield* server.send({ path: `${metadata}?x=1` })).status, 200)
    }))

  it.live("AGENT-01: a list without elements is left out of the documents (M3)", () =>
    Effect.gen(function*() {
      const server = yield* start({
        routes: Sallyport.layer({ pages: false }).pipe(
          Layer.provide(Layer.orDie(AuthorizationServer.layerWith({ scopes: [] })))
        )
      })
      for (const path of [metadata, protectedResource]) {
        const { json, status } = yield* server.send({ path })
        assert.strictEqual(status, 200, path)
        for (const value of Object.values(json)) assert.notDeepEqual(value, [], path)
      }
    }))

  it.live("AGENT-01: a host without the layer has none of it, and its challenges are as before", () =>
    Effect.gen(function*() {
      const server = yield* start()
      for (const path of [metadata, protectedResource, "/oauth/authorize"]) {
        assert.strictEqual((yield* server.send({ path })).status, 404, path)
      }
      const token = yield* exchange(server, "code")
      assert.deepStrictEqual([token.status, token.json.error], [400, "unsupported_grant_type"])
      assert.isUndefined(token.headers["access-control-allow-origin"])
      const refused = yield* server.send({ path: "/api/auth/sessions" })
      assert.strictEqual(refused.headers["www-authenticate"], `Bearer realm="sallyport"`)
    }))
})

describe("a resource", () => {
  it.live("AGENT-01: says how to get a token, and takes those for itself only (R1-R6, R8)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const where = `resource_metadata="${origin(server)}/.well-known/oauth-protected-resource/mcp"`
      const none = yield* call(server, "/mcp", undefined)
      assert.strictEqual(none.status, 401)
      assert.strictEqual(
        none.headers["www-authenticate"],
        `Bearer realm="sallyport", ${where}, scope="runs:read runs:operate"`
      )
      const query = yield* server.send({ method: "POST", path: "/mcp?access_token=x", body: {} })
      assert.strictEqual(query.headers["www-authenticate"], none.headers["www-authenticate"])
      const form = yield* post(server, "/mcp", { access_token: String((yield* grant(server)).access_token) })
      assert.deepStrictEqual([form.status, form.headers["www-authenticate"]], [401, none.headers["www-authenticate"]])

      const mcp = (yield* grant(server)).access_token
      const other = (yield* grant(server, { resource: `${origin(server)}/other` })).access_token
      const api = (yield* grant(server, { resource: origin(server), scope: "access:read" })).access_token
      const slash = (yield* grant(server, { resource: `${origin(server)}/`, scope: "access:read" })).access_token
      const absent = (yield* grant(server, { resource: null, scope: "access:read" })).access_token
      const paired = yield* server.token()
      assert.strictEqual((yield* call(server, "/mcp", mcp)).status, 200)
      assert.strictEqual((yield* call(server, "/other", other)).status, 200)
      for (const token of [api, slash, absent]) {
        assert.strictEqual(
          (yield* server.send({ path: "/api/auth/sessions", headers: bearer(String(token)) })).status,
          200
        )
      }
      // Each of the others, everywhere else: routes, the API, its tickets, and the endpoints that tell who is signed in.
      for (
        const [path, token] of [["/mcp", other], ["/mcp", api], ["/mcp", paired], ["/other", mcp], [
          "/mcp",
          "x.y.z"
        ]] as const
      ) {
        const refused = yield* call(server, path, token)
        assert.strictEqual(refused.status, 401, path)
        assert.match(
          String(refused.headers["www-authenticate"]),
          /^Bearer realm="sallyport", resource_metadata="[^"]*", scope="[^"]*", error="invalid_token"$/
        )
      }
      for (const path of ["/api/auth/sessions", "/api/auth/session", "/api/auth/access"]) {
        assert.strictEqual((yield* server.send({ path, headers: bearer(String(mcp)) })).status, 401, path)
      }
      const cookie = yield* server.cookie
      const byCookie = yield* call(server, "/mcp", undefined, { cookie, "sec-fetch-site": "same-origin" })
      assert.strictEqual(byCookie.status, 401)

      const few = yield* call(server, "/mcp/write", mcp)
      assert.strictEqual(few.status, 403)
      assert.strictEqual(
        few.headers["www-authenticate"],
        `Bearer realm="sallyport", ${where}, scope="runs:read runs:operate", error="insufficient_scope"`
      )
    }))
})

describe("an access token", () => {
  it.live("AGENT-01 AGENT-03 SESS-03: that was changed, exchanged, has expired or ended is invalid at its resource, and inactive to its server (R2, R9, T13)", () =>
    Effect.gen(function*() {
      let offset = 0
      const real = yield* Clock.Clock
      const server = yield* startServer().pipe(
        Effect.provideService(Clock.Clock, telling(() => real.currentTimeMillisUnsafe() + offset, real))
      )
      const elsewhere = { resource: "https://files.example/api" }
      const isActive = (token: unknown) =>
        Effect.map(
          post(server, "/oauth/introspect", { token: String(token) }, secretOf("files")),
          ({ json }) => json.active
        )
      const isTaken = Effect.fnUntraced(function*(token: unknown) {
        const { headers, status } = yield* call(server, "/mcp", token)
        if (status === 200) return true
        assert.strictEqual(status, 401)
        assert.match(String(headers["www-authenticate"]), /^Bearer [^]*, error="invalid_token"$/)
        return false
      })
      const refresh = (token: unknown) =>
        Effect.map(
          post(server, "/oauth/token", {
            grant_type: "refresh_token",
            refresh_token: String(token),
            client_id: "registered"
          }),
          ({ json }) => json
        )

      const first = { mcp: yield* grant(server), files: yield* grant(server, elsewhere) }
      assert.deepStrictEqual([yield* isTaken(first.mcp.access_token), yield* isActive(first.files.access_token)], [
        true,
        true
      ])
      // Each character of a token counts; every 7th of them is looked at.
      const changed = (token: unknown) =>
        Array.from(String(token)).flatMap((character, at, all) =>
          at % 7 !== 0 && at !== all.length - 1
            ? []
            : [all.with(at, character === "A" ? "B" : "A").join(""), all.toSpliced(at, 1).join("")]
        )
      for (const token of changed(first.mcp.access_token)) assert.isFalse(yield* isTaken(token), token)
      for (const token of changed(first.files.access_token)) assert.isFalse(yield* isActive(token), token)

      const second = { mcp: yield* refresh(first.mcp.refresh_token), files: yield* refresh(first.files.refresh_token) }
      assert.deepStrictEqual([yield* isTaken(first.mcp.access_token), yield* isActive(first.files.access_token)], [
        false,
        false
      ])
      assert.deepStrictEqual([yield* isTaken(second.mcp.access_token), yield* isActive(second.files.access_token)], [
        true,
        true
      ])
      offset = 3_601_000
      assert.deepStrictEqual([yield* isTaken(second.mcp.access_token), yield* isActive(second.files.access_token)], [
        false,
        false
      ])
      const third = { mcp: yield* refresh(second.mcp.refresh_token), files: yield* refresh(second.files.refresh_token) }
      assert.deepStrictEqual([yield* isTaken(third.mcp.access_token), yield* isActive(third.files.access_token)], [
        true,
        true
      ])
      for (const { access_token } of [third.mcp, third.files]) {
        yield* post(server, "/oauth/revoke", { token: String(access_token), client_id: "registered" })
      }
      assert.deepStrictEqual([yield* isTaken(third.mcp.access_token), yield* isActive(third.files.access_token)], [
        false,
        false
      ])
    }))
})

describe("the authorization endpoint", () => {
  it.live("AGENT-01: what cannot be answered to the client is told to the person alone (Z2-Z5, Z18, Z19)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const documents = yield* startDocuments
      const cookie = yield* server.cookie
      const wrong: ReadonlyArray<Readonly<Record<string, string | null>>> = [
        { client_id: null },
        { client_id: "" },
        { client_id: "unknown" },
        { client_id: "https://a" },
        { client_id: "https://10.0.0.1/client.json" },
        { client_id: "https://localhost/client.json" },
        { client_id: "https://169.254.169.254/latest/meta-data" },
        { client_id: "https://100.64.0.1/client.json" },
        { client_id: "https://0.0.0.0/client.json" },
        { client_id: "https://[fd00::1]/client.json" },
        { client_id: "https://[::ffff:10.0.0.1]/client.json" },
        { client_id: "REGISTERED" },
        { client_id: "registered " },
        { redirect_uri: null },
        { redirect_uri: "https://app.example/callback/" },
        { redirect_uri: "https://app.example/Callback" },
        { redirect_uri: "https://app.example/callback?x=1" },
        { redirect_uri: "https://app.example/callback#x" },
        { redirect_uri: "https://app.example/%63allback" },
        { redirect_uri: "https://app.example:8443/callback" },
        { redirect_uri: "https://APP.example/callback" },
        { redirect_uri: "http://app.example/callback" },
        { redirect_uri: "https://user@app.example/callback" },
        { redirect_uri: "https://app.example.evil.example/callback" },
        { redirect_uri: "http://localhost:52163/callback" },
        { redirect_uri: "http://[::1]:52163/callback" },
        { redirect_uri: "http://127.0.0.1:52163/callback/" },
        { redirect_uri: "http://127.0.0.1:80x/callback" },
        { redirect_uri: "http://127.0.0.1:52163@evil.example/callback" },
        { redirect_uri: "http://127.0.0.1.evil.example/callback" },
        { redirect_uri: "https://127.0.0.1:52163/callback" },
        { redirect_uri: "https://app.example:443/callback" },
        { redirect_uri: "https://app.example./callback" },
        { redirect_uri: "https://app.example/callback%20" },
        { redirect_uri: "https://app.example/callback " },
        { redirect_uri: " https://app.example/callback" },
        { redirect_uri: "https://app.example/x/../callback" },
        { redirect_uri: "https://app.example\\callback" },
        { redirect_uri: "https://app.example/callback?" },
        { redirect_uri: "https://app.example" },
        { redirect_uri: "http://user@127.0.0.1:52163/callback" },
        { redirect_uri: "http://user:password@127.0.0.1/callback" },
        { redirect_uri: "http://127.0.0.1:52163/callback?x=1" },
        { redirect_uri: "http://127.0.0.1:52163/callback#x" },
        { redirect_uri: "http://127.1:52163/callback" },
        { redirect_uri: "http://127.0.0.2:52163/callback" },
        { redirect_uri: "http://127.0.0.1:52163/Callback" },
        { redirect_uri: "HTTP://127.0.0.1:52163/callback" },
        { redirect_uri: "http://127.0.0.1:99999/callback" },
        { redirect_uri: "com.example.app:/Callback" },
        { redirect_uri: "com.example.app:callback" },
        { redirect_uri: "com.example.apps:/callback" },
        { redirect_uri: "data:text/html,x" },
        { redirect_uri: "com.example.app://callback" },
        { redirect_uri: "javascript:alert(1)" },
        // What no document makes a redirect URI: plain http elsewhere, a fragment, a relative one, a user, a script.
        ...[
          "http://app.example/callback",
          "http://10.0.0.1/callback",
          "https://app.example/callback#",
          "//app.example/callback",
          "/callback",
          "https://user@app.example/callback",
          "app:/callback",
          "JavaScript:alert(1)"
        ].map((redirect_uri, at) => ({
          client_id: documents.client(`/redirect-${at}.json`, { redirect_uris: [redirect_uri] }),
          redirect_uri
        }))
      ]
      for (const fields of wrong) {
        const answer = yield* server.send({ path: authorizePath(server, fields), headers: { cookie } })
        assert.strictEqual(answer.status, 400, JSON.stringify(fields))
        assert.isUndefined(answer.headers.location)
        assert.match(String(answer.headers["content-type"]), /^text\/html/)
      }
      for (const name of ["client_id", "redirect_uri"]) {
        const path = `${authorizePath(server)}&${name}=x`
        assert.strictEqual((yield* server.send({ path, headers: { cookie } })).status, 400)
      }
      for (
        const redirect_uri of [
          "http://127.0.0.1/callback",
          "http://127.0.0.1:1/callback",
          "https://app.example/callback",
          "com.example.app:/callback"
        ]
      ) {
        const answer = yield* server.send({ path: authorizePath(server, { redirect_uri }), headers: { cookie } })
        assert.strictEqual(answer.status, 200, redirect_uri)
      }
    }))

  it.live("AGENT-01: every other fault goes back to the client, with its state and the issuer (Z1, Z6-Z9)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const cookie = yield* server.cookie
      const expectError = Effect.fnUntraced(function*(path: string, error: string) {
        const answer = yield* server.send({ path, headers: { cookie } })
        assert.strictEqual(answer.status, 303, path)
        const { error: found, iss, state } = queryOf(answer.headers.location ?? "")
        assert.match(answer.headers.location ?? "", /^http:\/\/127\.0\.0\.1:52163\/callback\?error=/)
        assert.deepStrictEqual([found, iss, state], [error, origin(server), "the state / of & all"], path)
      })
      const wrong: ReadonlyArray<readonly [string, Readonly<Record<string, string | null>>]> = [
        ["invalid_request", { response_type: null }],
        ["unsupported_response_type", { response_type: "token" }],
        ["unsupported_response_type", { response_type: "code token" }],
        ["invalid_request", { code_challenge: null }],
        ["invalid_request", { code_challenge: challengeOf("x").slice(1) }],
        ["invalid_request", { code_challenge: `${challengeOf("x").slice(1)}+` }],
        ["invalid_request", { code_challenge_method: null }],
        ["invalid_request", { code_challenge_method: "plain" }],
        ["invalid_request", { code_challenge_method: "s256" }],
        ["invalid_request", { code_challenge_method: "S512" }],
        ["invalid_request", { code_challenge: verifier }],
        ["invalid_request", { code_challenge: `${challengeOf("x")}=` }],
        ["invalid_request", { dpop_jkt: "short" }],
        ["invalid_target", { resource: `${origin(server)}/mcp#x` }],
        ["invalid_target", { resource: `${origin(server)}/mcp/` }],
        ["invalid_target", { resource: `${origin(server)}/none` }],
        ["invalid_target", { resource: "/mcp" }],
        ["invalid_target", { resource: `${origin(server)}/MCP` }],
        ["invalid_target", { resource: `${origin(server)}/mcp?x=1` }],
        ["invalid_target", { resource: `${origin(server)}/x/../mcp` }],
        ["invalid_target", { resource: `${origin(server)}/%6dcp` }],
        ["invalid_target", { resource: `HTTP${origin(server).slice(4)}/mcp` }],
        ["invalid_target", { resource: `http://user@127.0.0.1:${server.port}/mcp` }],
        ["invalid_target", { resource: `http://localhost:${server.port}/mcp` }],
        ["invalid_target", { resource: "http://127.0.0.1/mcp" }],
        ["invalid_scope", { scope: "access:manage" }],
        ["invalid_scope", { scope: "access:write", resource: origin(server) }],
        ["invalid_scope", { scope: "access:manage", resource: origin(server) }],
        ["invalid_scope", { scope: "connect:manage", resource: null }],
        ["invalid_scope", { scope: "runs:read\truns:operate" }],
        ["invalid_scope", { scope: "RUNS:READ" }],
        ["invalid_scope", { scope: "runs:read nonsense" }],
        ["invalid_scope", { scope: "runs:read access:read" }]
      ]
      for (const [error, fields] of wrong) yield* expectError(authorizePath(server, fields), error)
      yield* expectError(`${authorizePath(server)}&scope=runs%3Aread`, "invalid_request")
      yield* expectError(
        `${authorizePath(server)}&resource=${encodeURIComponent(`${origin(server)}/other`)}`,
        "invalid_target"
      )
      // Unknown, empty and harmless parameters change nothing.
      const resource = encodeURIComponent(`${origin(server)}/mcp`)
      const path = `${
        authorizePath(server, { scope: "runs:read offline_access" })
      }&prompt=consent&nonce=&x=1&x=2&resource=${resource}`
      assert.strictEqual((yield* server.send({ path, headers: { cookie } })).status, 200)
    }))

  it.live("AGENT-01: no link to the endpoint leads on to a page that the host does not know, unless a person goes on (Z20)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const documents = yield* startDocuments
      const cookie = yield* server.cookie
      const redirect_uri = "https://elsewhere.example/\"><b>?x=1&y"
      const elsewhere = {
        client_id: documents.client("/elsewhere.json", { redirect_uris: [redirect_uri] }),
        redirect_uri
      }
      const here = { client_id: documents.client("/here.json") }
      const known = { redirect_uri: "https://app.example/callback" }
      const faults = [{ response_type: "token" }, { scope: "nonsense" }, { code_challenge: null }, { resource: "/x" }]
      for (const fault of faults) {
        for (const fields of [elsewhere, here, known]) {
          const path = authorizePath(server, { ...fields, ...fault })
          const signedIn = yield* server.send({ path, headers: { cookie } })
          const pages = [yield* server.send({ path }), ...(fields === elsewhere ? [signedIn] : [])]
          for (const page of pages) {
            assert.deepStrictEqual([page.status, page.headers.location], [400, undefined], path)
            assert.match(page.text, /<a href="[^"]*error=[^"]*&amp;iss=[^"]*">Go back to /)
            assert.strictEqual(page.headers["referrer-policy"], "no-referrer")
          }
          if (fields !== elsewhere) assert.strictEqual(signedIn.status, 303)
        }
      }
      const denied = yield* decide(server, authorizePath(server, elsewhere), { cookie, decision: "deny" })
      assert.deepStrictEqual([denied.answer.status, denied.location], [400, ""])
      assert.include(
        denied.answer.text,
        `<a href="https://elsewhere.example/&quot;&gt;&lt;b&gt;?x=1&amp;y&amp;error=access_denied&amp;`
      )
      const allowed = yield* decide(server, authorizePath(server, elsewhere), { cookie })
      assert.match(allowed.location, /^https:\/\/elsewhere\.example\/"><b>\?x=1&y&code=/)
    }))

  it.live("AGENT-01: an answer keeps the query of the redirect URI, and has a state only if one came (Z7, Z17)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const redirect_uri = "https://app.example/query?a=%20b&c"
      for (const decision of ["allow", "deny"] as const) {
        const { location, query } = yield* decide(
          server,
          authorizePath(server, { redirect_uri, state: null }),
          { decision }
        )
        assert.match(location, /^https:\/\/app\.example\/query\?a=%20b&c&(?:code|error)=/)
        assert.deepStrictEqual([query.a, query.c, query.state, query.iss], [" b", "", undefined, origin(server)])
      }
      const state = "a+b%20c&d=é \"'<script>"
      assert.strictEqual((yield* decide(server, authorizePath(server, { state }))).query.state, state)
    }))

  it.live("AGENT-01 AGENT-05: without a scope the whole of the resource is asked for, and the answer names what was given (Z21)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      for (const scope of [null, "", "offline_access"]) {
        assert.strictEqual((yield* grant(server, { scope })).scope, "runs:read runs:operate", String(scope))
      }
      const twice = yield* grant(server, { scope: "runs:operate runs:read runs:operate" })
      assert.deepStrictEqual(new Set(String(twice.scope).split(" ")), new Set(["runs:operate", "runs:read"]))
      assert.strictEqual(String(twice.scope).split(" ").length, 2)
    }))

  it.live("AGENT-01: every error has a code and a text of the characters that may stand in it (Z22, T7)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({}, { dpop: {} })
      const cookie = yield* server.cookie
      const odd = ["“quoted”", "a\"b\\c", "é\u0000\u2028", "\u{1f6aa}", "%", "a".repeat(3_000)]
      const check = (error: unknown, description: unknown, where: string) => {
        assert.match(String(error), /^[a-z_]+$/, where)
        assert.match(String(description), /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/, where)
      }
      for (const text of odd) {
        for (
          const name of ["response_type", "scope", "code_challenge", "code_challenge_method", "resource", "dpop_jkt"]
        ) {
          const { headers, status } = yield* server.send({
            path: authorizePath(server, { [name]: text }),
            headers: { cookie }
          })
          assert.strictEqual(status, 303, name)
          const query = queryOf(headers.location ?? "")
          check(query.error, query.error_description, name)
        }
        for (const name of ["grant_type", "code", "client_id", "redirect_uri", "code_verifier", "resource", "scope"]) {
          const answer = yield* exchange(server, "code", { [name]: text })
          assert.isAtLeast(answer.status, 400)
          check(answer.json.error, answer.json.error_description, `${name}=${text}`)
        }
        for (const grant_type of ["refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange"]) {
          for (
            const name of ["refresh_token", "subject_token", "subject_token_type", "scope", "requested_token_type"]
          ) {
            const answer = yield* post(server, "/oauth/token", {
              grant_type,
              client_id: text,
              subject_token: "x",
              subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
              refresh_token: "x",
              [name]: text
            })
            check(answer.json.error, answer.json.error_description, `${grant_type} ${name}=${text}`)
          }
        }
        const wrong = yield* exchange(server, "code", {}, { dpop: Buffer.from(text).toString("base64url") })
        check(wrong.json.error, wrong.json.error_description, "dpop")
      }
      const posts = [
        yield* post(server, "/oauth/revoke", {}),
        yield* post(server, "/oauth/revoke", { token: "“x”" }),
        yield* post(server, "/oauth/introspect", {}),
        yield* server.send({ path: "/oauth/token" }),
        yield* server.send({ method: "POST", path: "/oauth/token", body: "<“>", headers: { "content-type": "text/é" } })
      ]
      for (const { json, text } of posts) check(json.error, json.error_description, text)
    }))

  it.live("AGENT-05: what a client calls itself, is sent to and sends is text on each page (Z16)", () =>
    Effect.gen(function*() {
      const hostile = "</title><script>alert(1)</script>'\"&amp;"
      const server = yield* startServer({
        clients: [{
          id: hostile,
          name: hostile,
          redirectUris: [`https://app.example/${hostile.replaceAll(/\s/g, "")}`]
        }],
        resources: resources.map((resource) => ({ ...resource, name: hostile }))
      })
      const cookie = yield* server.cookie
      const limited = yield* server.send({
        path: "/api/auth/bootstrap",
        headers: { "sec-fetch-site": "same-origin" },
        body: { credential: yield* server.code({ scopes: ["runs:read"] }) }
      })
      const path = authorizePath(server, {
        client_id: hostile,
        redirect_uri: `https://app.example/${hostile}`,
        state: hostile,
        resource: null
      })
      const api = authorizePath(server, {
        client_id: hostile,
        redirect_uri: `https://app.example/${hostile}`,
        state: hostile
      })
      const pages = [
        yield* server.send({ path, headers: { cookie } }),
        yield* server.send({ path: api, headers: { cookie } }),
        yield* server.send({ path: api }),
        yield* server.send({ path: `${api}&state=x` }),
        yield* server.send({ path: `${api}&client_id=x` }),
        yield* server.send({ path: authorizePath(server, { client_id: `https://${hostile}/x` }) }),
        yield* server.send({
          path: api,
          headers: { cookie: String(limited.headers["set-cookie"]).split(";", 1)[0] ?? "" }
        })
      ]
      for (const { headers, text } of pages) {
        assert.notInclude(text, "<script")
        assert.notInclude(text, "alert(1)</")
        assert.notMatch(text, /<title>[^<]*<(?!\/title>)/)
        assert.match(String(headers["content-security-policy"]), /default-src 'none'; script-src 'nonce-/)
      }
    }))

  it.live("AGENT-05: the page says who asks, for what and until when, and is asked again each time (Z11-Z14)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({}, { sessions: { lifetime: "10 days" } })
      const path = authorizePath(server, { scope: "runs:read runs:operate" })
      const first = yield* decide(server, path)
      for (let round = 0; round < 2; round++) {
        const { headers, text } = (yield* decide(server, path)).page
        const policy = String(headers["content-security-policy"])
        assert.include(policy, "frame-ancestors 'none'")
        assert.include(policy, "default-src 'none'")
        assert.include(policy, "form-action 'self' http://127.0.0.1:52163")
        assert.strictEqual(headers["x-frame-options"], "DENY")
        assert.strictEqual(headers["referrer-policy"], "no-referrer")
        assert.strictEqual(headers["cache-control"], "no-store")
        assert.notInclude(text, "<script")
        assert.notMatch(text, /(?:src|href)="http/)
        for (
          const words of [
            "Registered &lt;i&gt;Client&lt;/i&gt;",
            "registered by the operator",
            "127.0.0.1:52163",
            `Tools (${origin(server)}/mcp)`,
            "Watch runs <code>runs:read</code>",
            "Start &lt;and&gt; stop <code>runs:operate</code>",
            "10d",
            "on the machine of this browser"
          ]
        ) {
          assert.include(text, words)
        }
      }
      assert.strictEqual(first.answer.status, 303)
      assert.match(first.location, /^http:\/\/127\.0\.0\.1:52163\/callback\?code=[A-Za-z0-9_-]{43}&/)
      assert.deepStrictEqual([first.query.state, first.query.iss], ["the state / of & all", origin(server)])
      const denied = yield* decide(server, path, { decision: "deny" })
      assert.deepStrictEqual(
        [denied.answer.status, denied.query.error, denied.query.iss, denied.query.state, denied.query.code],
        [303, "access_denied", origin(server), "the state / of & all", undefined]
      )
      // With fewer scopes than asked, the answer of the token endpoint says so.
      const fewer = yield* decide(server, path, { scopes: ["runs:operate"] })
      assert.strictEqual((yield* exchange(server, fewer.query.code ?? "")).json.scope, "runs:operate")
      assert.strictEqual((yield* decide(server, path, { scopes: ["access:manage"] })).query.error, "access_denied")
      // Other pages and the terminal call scopes by the same words.
      const { policy } = (yield* server.send({ path: "/api/auth/session" })).json
      assert.deepStrictEqual(Object(policy).scopeTitles, { "runs:operate": "Start <and> stop" })
    }))

  it.live("AGENT-05 HTTP-02: no other site, other form or other session consents, and a code is only given by the page (Z15)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const cookie = yield* server.cookie
      const path = authorizePath(server)
      const page = yield* server.send({ path, headers: { cookie } })
      const seal = fieldOf(page.text, "seal")
      const form = [["seal", seal], ["decision", "allow"], ["scope", "runs:read"]] as const
      for (
        const headers of [
          {},
          { "sec-fetch-site": "cross-site" },
          { "sec-fetch-site": "same-site" },
          { origin: "https://evil.example" },
          { origin: "null" }
        ]
      ) {
        assert.strictEqual((yield* submit(server, path, cookie, form, headers)).status, 403, JSON.stringify(headers))
      }
      const others = [
        yield* submit(server, path, cookie, form.slice(1)),
        yield* submit(server, path, yield* server.cookie, form),
        yield* submit(server, path, "", form),
        yield* submit(server, authorizePath(server, { state: "other" }), cookie, form),
        yield* submit(server, authorizePath(server, { scope: "runs:operate" }), cookie, form),
        yield* submit(server, authorizePath(server, { redirect_uri: "http://127.0.0.1:1/callback" }), cookie, form),
        yield* submit(server, authorizePath(server, { resource: `${origin(server)}/other` }), cookie, form)
      ]
      for (const answer of others) assert.deepStrictEqual([answer.status, answer.headers.location], [400, undefined])
      assert.strictEqual((yield* submit(server, path, cookie, form)).status, 303)
    }))

  it.live("AGENT-05 BOOT-08: signed in on the spot by a pairing code; a session grants what it holds, if it may let others in", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const path = authorizePath(server, { scope: "runs:read runs:operate" })
      const page = yield* server.send({ path })
      assert.strictEqual(page.status, 200)
      assert.include(page.text, "name=\"code\"")
      assert.strictEqual(fieldOf(page.text, "seal"), "")
      const wrong = yield* submit(server, path, "", [["decision", "sign-in"], ["code", "AAAA-AAAA-AAAA-AAAA"]])
      assert.notStrictEqual(wrong.status, 303)
      const foreign = yield* submit(
        server,
        path,
        "",
        [["decision", "sign-in"], ["code", yield* server.code()]],
        { "sec-fetch-site": "cross-site" }
      )
      assert.deepStrictEqual([foreign.status, foreign.headers["set-cookie"]], [403, undefined])

      const signIn = Effect.fnUntraced(function*(scopes: Parameters<typeof server.code>[0], spelt = path) {
        const answer = yield* submit(server, spelt, "", [["decision", "sign-in"], ["code", yield* server.code(scopes)]])
        assert.strictEqual(answer.status, 303)
        // The page that the browser was on, of which a slash at its end is a part.
        const next = new URL(answer.headers.location ?? "", `${origin(server)}${spelt}`)
        assert.strictEqual(next.href, `${origin(server)}${spelt}`)
        const cookie = String(answer.headers["set-cookie"]).split(";", 1)[0] ?? ""
        assert.strictEqual(
          (yield* server.send({ path: next.href.slice(origin(server).length), headers: { cookie } })).status,
          200
        )
        return cookie
      })
      yield* signIn(undefined, path.replace("?", "/?"))
      const cookie = yield* signIn({ scopes: ["access:read", "access:write", "runs:read"] })
      const { page: asked, query } = yield* decide(server, path, { cookie, scopes: ["runs:read", "runs:operate"] })
      assert.include(asked.text, "It also asks for “Start &lt;and&gt; stop” (runs:operate), which you do not hold")
      const granted = yield* exchange(server, query.code ?? "")
      assert.strictEqual(granted.json.scope, "runs:read")

      // What was granted stands in the list, under the name of the client, below the session that consented, and ends there.
      const list = yield* server.send({ path: "/api/auth/sessions", headers: { cookie } })
      const entry = (list.json.sessions as ReadonlyArray<Record<string, unknown>>).find(({ client }) => client !== null)
      assert.deepStrictEqual(entry?.client, { id: "registered", resource: "/mcp" })
      assert.deepStrictEqual(Object(entry?.device).label, "Registered <i>Client</i>")
      assert.strictEqual((yield* call(server, "/mcp", granted.json.access_token)).status, 200)
      yield* server.send({
        path: "/api/auth/sessions/revoke",
        headers: { cookie, "sec-fetch-site": "same-origin" },
        body: { id: entry?.id }
      })
      assert.strictEqual((yield* call(server, "/mcp", granted.json.access_token)).status, 401)

      const limited = yield* signIn({ scopes: ["runs:read"] })
      const refused = yield* server.send({ path, headers: { cookie: limited } })
      assert.include(refused.text, "may not let programs in")
      assert.strictEqual(fieldOf(refused.text, "seal"), "")
      // A token that a client was granted signs no browser in.
      const byToken = yield* server.send({ path, headers: bearer(String((yield* grant(server)).access_token)) })
      assert.strictEqual(fieldOf(byToken.text, "seal"), "")
    }))

  it.live("AGENT-05 SESS-17: says how long what it grants lasts, no longer than the session that consents", () =>
    Effect.gen(function*() {
      const scopes = ["access:write", "runs:read"] as const
      for (
        const [sessions, link, told] of [
          [{}, { scopes }, /after 30d without use, or when you end it/],
          [
            { absoluteLifetime: "1 day" },
            { scopes, sessionLifetime: "1 hour" },
            /after 1h without use, with your own session \(\d{4}-\d\d-\d\dT[\d:.]+Z\), or when you end it/
          ]
        ] as const
      ) {
        const server = yield* startServer({}, { sessions })
        const path = authorizePath(server)
        const form = [["decision", "sign-in"], ["code", yield* server.code(link)]] as const
        const signedIn = yield* submit(server, path, "", form)
        const cookie = String(signedIn.headers["set-cookie"]).split(";", 1)[0] ?? ""
        assert.match((yield* server.send({ path, headers: { cookie } })).text, told)
      }
    }))

  it.live("AUTH-01: signs no browser in if the policy has no sessions of browsers, and uses no code up", () =>
    Effect.gen(function*() {
      const server = yield* start({
        routes: Sallyport.layer({ pages: false }).pipe(
          Layer.provide(AuthorizationServer.layerWith({ clients: [registered] })),
          Layer.provide(Layer.effect(
            AuthPolicy.AuthPolicy,
            Effect.map(
              AuthPolicy.make({ host: "127.0.0.1" }),
              (made) => ({ ...made, sessionMethods: ["bearer-access-token"] as const })
            )
          )),
          Layer.orDie
        )
      })
      const code = yield* server.code()
      const path = authorizePath(server, { resource: null })
      const refused = yield* submit(server, path, "", [["decision", "sign-in"], ["code", code]])
      assert.deepStrictEqual([refused.status, refused.headers["set-cookie"]], [403, undefined])
      assert.strictEqual((yield* exchangeCode(server, code)).status, 200)
    }))

  it.live("OPS-06: a page about a store that fails tells the trace id under which the log has the cause, once", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const path = authorizePath(server)
      const shown = yield* server.cookie
      const page = yield* server.send({ path, headers: { cookie: shown } })
      const pages: ReadonlyArray<readonly [operation: string, send: Effect.Effect<Answer>]> = [
        [
          "sessions.findByTokenDigest",
          Effect.flatMap(server.cookie, (cookie) => server.send({ path, headers: { cookie } }))
        ],
        [
          "links.findByCodeDigest",
          Effect.flatMap(server.code(), (code) => submit(server, path, "", [["decision", "sign-in"], ["code", code]]))
        ],
        [
          "codes.insert",
          submit(server, path, shown, [["decision", "allow"], ["scope", "runs:read"], [
            "seal",
            fieldOf(page.text, "seal")
          ]])
        ]
      ]
      for (const [operation, send] of pages) {
        server.probe.failing.add(operation)
        const answer = yield* send
        server.probe.failing.clear()
        assert.deepStrictEqual([answer.status, answer.headers["retry-after"]], [503, "1"], operation)
        assert.match(String(answer.headers["content-type"]), /^text\/html/)
        assert.isUndefined(answer.headers.location)
        assertLogged(server, /trace id ([0-9a-f]{32})/.exec(answer.text)?.[1])
      }
    }))
})

describe("the token endpoint", () => {
  it.live("AGENT-01: a code is good once, for the request that it was asked for with (Z10, T1-T7)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const documents = yield* startDocuments
      const otherClient = documents.client("/other.json")
      const code = (yield* decide(server, authorizePath(server))).query.code ?? ""
      const wrong: ReadonlyArray<readonly [string, Readonly<Record<string, string | null>>]> = [
        ["invalid_request", { client_id: null }],
        ["invalid_request", { code: null }],
        ["invalid_request", { code_verifier: null }],
        ["invalid_request", { redirect_uri: null }],
        ["invalid_client", { client_id: "unknown" }],
        ["invalid_client", { client_id: "REGISTERED" }],
        ["invalid_grant", { redirect_uri: "http://localhost:52163/callback" }],
        ["invalid_grant", { redirect_uri: "http://127.0.0.1:52163/callback/" }],
        ["invalid_grant", { redirect_uri: "https://app.example/callback" }],
        ["invalid_grant", { code_verifier: ` ${verifier}` }],
        ["invalid_grant", { code_verifier: "a".repeat(129) }],
        ["invalid_grant", { code: `${code}=` }],
        ["invalid_grant", { code: code.toLowerCase() === code ? code.toUpperCase() : code.toLowerCase() }],
        ["invalid_target", { resource: "http://127.0.0.1" }],
        ["invalid_grant", { client_id: otherClient }],
        ["invalid_grant", { redirect_uri: "http://127.0.0.1:52164/callback" }],
        ["invalid_grant", { redirect_uri: "http://127.0.0.1/callback" }],
        ["invalid_grant", { code_verifier: `${verifier}a` }],
        ["invalid_grant", { code_verifier: verifier.slice(0, 42) }],
        ["invalid_grant", { code_verifier: challengeOf(verifier) }],
        ["invalid_grant", { code: `${code.slice(1)}A` }],
        ["invalid_target", { resource: `${origin(server)}/other` }],
        ["invalid_target", { resource: `${origin(server)}/mcp#x` }],
        ["invalid_target", { resource: origin(server) }],
        ["unsupported_grant_type", { grant_type: "password" }],
        ["unsupported_grant_type", { grant_type: "client_credentials" }]
      ]
      for (const [error, fields] of wrong) {
        const answer = yield* exchange(server, code, fields)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, error], JSON.stringify(fields))
        assert.strictEqual(answer.headers["cache-control"], "no-store")
        assert.isUndefined(answer.headers["www-authenticate"])
      }
      const twice = yield* post(server, "/oauth/token", [["grant_type", "authorization_code"], ["code", code], [
        "code",
        code
      ]])
      assert.deepStrictEqual([twice.status, twice.json.error], [400, "invalid_request"])
      const json = yield* server.send({
        method: "POST",
        path: "/oauth/token",
        body: { grant_type: "authorization_code" }
      })
      assert.strictEqual(json.status, 400)
      assert.strictEqual((yield* server.send({ path: "/oauth/token" })).status, 405)
      const basic = yield* exchange(server, code, {}, { authorization: "Basic cmVnaXN0ZXJlZDo=" })
      assert.deepStrictEqual([basic.status, basic.json.error], [401, "invalid_client"])
      assert.match(String(basic.headers["www-authenticate"]), /^Basic /)

      // None of that has used the code up. A page of another origin, such as an inspector, may exchange what it holds.
      const good = yield* exchange(server, code, { resource: `${origin(server)}/mcp` }, {
        origin: "https://inspector.example",
        "sec-fetch-site": "cross-site",
        "content-type": "application/x-www-form-urlencoded;charset=UTF-8"
      })
      assert.strictEqual(good.status, 200)
      assert.strictEqual(good.headers["cache-control"], "no-store")
      assert.strictEqual(good.headers["access-control-allow-origin"], "*")
      assert.strictEqual(good.headers.pragma, "no-cache")
      assert.match(String(good.headers["content-type"]), /^application\/json/)
      assert.deepStrictEqual([good.json.token_type, good.json.scope], ["Bearer", "runs:read"])
      assert.isTrue(Number(good.json.expires_in) > 3_000 && Number(good.json.expires_in) <= 3_600)
      assert.strictEqual((yield* call(server, "/mcp", good.json.access_token)).status, 200)
      const again = yield* exchange(server, code)
      assert.deepStrictEqual([again.status, again.json.error], [400, "invalid_grant"])
      assert.strictEqual((yield* call(server, "/mcp", good.json.access_token)).status, 401)
      const refreshed = yield* post(server, "/oauth/token", {
        grant_type: "refresh_token",
        refresh_token: String(good.json.refresh_token),
        client_id: "registered"
      })
      assert.deepStrictEqual([refreshed.status, refreshed.json.error], [400, "invalid_grant"])
      // A page of another origin guesses no pairing code.
      const guess = yield* post(server, "/oauth/token", {
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token: yield* server.code(),
        subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
      }, { origin: "https://evil.example" })
      assert.deepStrictEqual([guess.status, guess.json.error], [400, "invalid_request"])
    }))

  it.live("AGENT-01: a verifier has 43 to 128 unreserved characters, and is the one whose S256 the code was given for (Z6, T4)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const cookie = yield* server.cookie
      const trade = Effect.fnUntraced(function*(code_verifier: string, code_challenge = challengeOf(code_verifier)) {
        const { query } = yield* decide(server, authorizePath(server, { code_challenge }), { cookie })
        const { json, status } = yield* exchange(server, query.code ?? "", { code_verifier })
        return status === 200 ? "granted" : json.error
      })
      // RFC 7636, appendix B.
      const example = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
      assert.strictEqual(yield* trade(example, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"), "granted")
      for (const good of ["-._~".repeat(32), `~${"0".repeat(42)}`, "AZaz09-._~".repeat(5)]) {
        assert.strictEqual(yield* trade(good), "granted", good)
      }
      const bad = [
        "a".repeat(42),
        "a".repeat(129),
        ...["+", "/", "=", "%", " ", "\n", "\u0000", "é", "*"].map((one) => `${"a".repeat(43)}${one}`)
      ]
      for (const verifier of bad) assert.strictEqual(yield* trade(verifier), "invalid_grant", JSON.stringify(verifier))
      // Neither the challenge itself nor that of another verifier.
      assert.strictEqual(yield* trade(example, example), "invalid_grant")
      assert.strictEqual(yield* trade(example, challengeOf(example.toLowerCase())), "invalid_grant")
    }))

  it.live("AGENT-01 AGENT-03: a parameter without a value is absent, an unknown one is passed over, a repeated one is refused (T1, T19)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const code = (yield* decide(server, authorizePath(server))).query.code ?? ""
      const repeated = (path: string, form: Readonly<Record<string, string>>) =>
        Effect.forEach(Object.entries(form), (twice) =>
          Effect.gen(function*() {
            const answer = yield* post(server, path, [...Object.entries(form), twice])
            assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"], `${path} ${twice[0]}`)
          }))
      const form = {
        grant_type: "authorization_code",
        code,
        client_id: "registered",
        redirect_uri: "http://127.0.0.1:52163/callback",
        code_verifier: verifier,
        scope: "runs:read"
      }
      yield* repeated("/oauth/token", form)
      for (const name of ["grant_type", "code", "client_id", "redirect_uri", "code_verifier"]) {
        const answer = yield* exchange(server, code, { [name]: "" })
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"], name)
      }
      const unknown = {
        resource: "",
        scope: "",
        refresh_token: "",
        subject_token: "",
        audience: "",
        foo: "bar",
        " ": ""
      }
      const granted = yield* post(server, "/oauth/token", { ...form, ...unknown })
      assert.strictEqual(granted.status, 200, granted.text)
      const refresh_token = String(granted.json.refresh_token)
      const refresh = { grant_type: "refresh_token", client_id: "registered", refresh_token }
      yield* repeated("/oauth/token", refresh)
      const refreshed = yield* post(server, "/oauth/token", {
        ...refresh,
        resource: "",
        scope: "",
        code: "",
        foo: "bar"
      })
      assert.strictEqual(refreshed.status, 200, refreshed.text)
      const token = String(refreshed.json.access_token)
      const revocation = { token, client_id: "registered", token_type_hint: "refresh_token" }
      yield* repeated("/oauth/revoke", revocation)
      assert.strictEqual((yield* call(server, "/mcp", token)).status, 200)
      assert.strictEqual((yield* post(server, "/oauth/revoke", { ...revocation, foo: "bar", scope: "" })).status, 200)
      assert.strictEqual((yield* call(server, "/mcp", token)).status, 401)
    }))

  it.live("AGENT-01: codes and tokens are random texts of 160 bits and more, which say nothing (T20)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const texts: Array<string> = []
      for (let round = 0; round < 3; round++) {
        const { query } = yield* decide(server, authorizePath(server))
        const { json } = yield* exchange(server, query.code ?? "")
        texts.push(query.code ?? "", String(json.access_token), String(json.refresh_token))
      }
      assert.strictEqual(new Set(texts).size, texts.length)
      for (const text of texts) {
        assert.notInclude(text, verifier)
        assert.notInclude(text, challengeOf(verifier))
        // The least of its parts that no other text of the kind has in common.
        const others = texts.filter((other) => other !== text)
        const own = text.split(/[.:_]/).filter((part) => !others.some((other) => other.includes(part))).join("")
        assert.isAtLeast(own.length * 5, 160, text)
        for (const other of others) assert.notInclude(other, text.slice(-20))
      }
    }))

  it.live("AGENT-01 SESS-04 SESS-16: refresh tokens rotate, stay with their client and resource, and reuse ends the grant (T5, T8)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const refresh = (token: unknown, fields: Readonly<Record<string, string>> = {}) =>
        post(server, "/oauth/token", {
          grant_type: "refresh_token",
          refresh_token: String(token),
          client_id: "registered",
          ...fields
        })
      const first = yield* grant(server)
      for (
        const [error, fields] of [
          ["invalid_grant", { client_id: "other" }],
          ["invalid_grant", { client_id: "" }],
          ["invalid_target", { resource: `${origin(server)}/other` }],
          ["invalid_target", { resource: "https://elsewhere.example/" }],
          ["invalid_scope", { scope: "runs:read runs:operate" }]
        ] as const
      ) {
        const answer = yield* refresh(first.refresh_token, fields)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, error], JSON.stringify(fields))
      }
      const second = (yield* refresh(first.refresh_token)).json
      assert.strictEqual(second.scope, first.scope)
      assert.strictEqual((yield* call(server, "/mcp", first.access_token)).status, 401)
      // The answer was lost: the same request gives the same answer, until what it gave was used.
      assert.strictEqual((yield* refresh(first.refresh_token)).json.access_token, second.access_token)
      assert.strictEqual((yield* call(server, "/mcp", second.access_token)).status, 200)
      assert.strictEqual((yield* call(server, "/other", second.access_token)).status, 401)
      const third = (yield* refresh(second.refresh_token, { resource: `${origin(server)}/mcp` })).json
      assert.strictEqual((yield* call(server, "/mcp", third.access_token)).status, 200)
      const reused = yield* refresh(first.refresh_token)
      assert.deepStrictEqual([reused.status, reused.json.error], [400, "invalid_grant"])
      assert.strictEqual((yield* call(server, "/mcp", third.access_token)).status, 401)
      assert.strictEqual((yield* refresh(third.refresh_token)).json.error, "invalid_grant")
    }))

  it.live("AGENT-03: a client revokes what is its own (T12), and the server of a resource asks about its tokens (T13)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const revoke = (form: Readonly<Record<string, string>>) => post(server, "/oauth/revoke", form)
      for (const hint of ["access_token", "refresh_token", "nonsense", undefined]) {
        for (const kind of ["access_token", "refresh_token"] as const) {
          const tokens = yield* grant(server)
          const extra: Readonly<Record<string, string>> = hint === undefined ? {} : { token_type_hint: hint }
          const token = String(tokens[kind])
          const others = yield* revoke({ token, client_id: "other", ...extra })
          assert.deepStrictEqual([others.status, others.json.error], [400, "invalid_grant"])
          assert.strictEqual((yield* call(server, "/mcp", tokens.access_token)).status, 200)
          const answer = yield* revoke({ token, client_id: "registered", ...extra })
          assert.deepStrictEqual([answer.status, answer.text], [200, ""])
          assert.strictEqual((yield* call(server, "/mcp", tokens.access_token)).status, 401)
        }
      }
      for (const token of ["unknown", "a.b.c", "x".repeat(5_000)]) {
        assert.strictEqual((yield* revoke({ token, client_id: "registered" })).status, 200)
      }
      assert.strictEqual((yield* revoke({ token: "x" })).json.error, "invalid_request")
      assert.strictEqual((yield* revoke({ client_id: "registered" })).json.error, "invalid_request")
      const paired = yield* server.token()
      assert.strictEqual((yield* revoke({ token: paired, client_id: "registered" })).json.error, "invalid_grant")
      assert.strictEqual((yield* server.send({ path: "/api/auth/sessions", headers: bearer(paired) })).status, 200)

      const files = yield* grant(server, { resource: "https://files.example/api" })
      const introspect = (token: unknown, headers: Readonly<Record<string, string>>) =>
        post(server, "/oauth/introspect", { token: String(token), client_id: "registered" }, headers)
      for (
        const headers of [
          {},
          basic("files", "another"),
          secretOf("other"),
          bearer(paired)
        ]
      ) {
        const answer = yield* introspect(files.access_token, { ...headers })
        assert.deepStrictEqual([answer.status, answer.json.error], [401, "invalid_client"])
        assert.match(String(answer.headers["www-authenticate"]), /^Basic /)
      }
      const own = secretOf("files")
      // A hint that is wrong keeps no token from being found.
      for (const token_type_hint of ["access_token", "refresh_token", "nonsense"]) {
        const hinted = yield* post(
          server,
          "/oauth/introspect",
          { token: String(files.access_token), token_type_hint },
          own
        )
        assert.deepStrictEqual([hinted.json.active, hinted.headers["cache-control"]], [true, "no-store"])
      }
      const active = yield* introspect(files.access_token, own)
      const { exp, iat, ...rest } = active.json
      assert.deepStrictEqual(rest, {
        active: true,
        scope: "runs:read",
        client_id: "registered",
        sub: "owner",
        aud: "https://files.example/api",
        iss: origin(server),
        token_type: "Bearer"
      })
      assert.strictEqual(Number(exp) - Number(iat), 3600)
      const mcp = yield* grant(server)
      for (const token of [mcp.access_token, files.refresh_token, paired, "unknown"]) {
        assert.strictEqual((yield* introspect(token, own)).text, `{"active":false}`)
      }
      yield* revoke({ token: String(files.refresh_token), client_id: "registered" })
      assert.strictEqual((yield* introspect(files.access_token, own)).text, `{"active":false}`)
    }))
})

describe("revocation and introspection", () => {
  it.live("AGENT-03: look nothing up for a token that is made up, and say while the store is away when to ask again (T25)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const token = String((yield* grant(server, { resource: "https://files.example/api" })).access_token)
      const revoke = (token: string) => post(server, "/oauth/revoke", { token, client_id: "registered" })
      const introspect = (token: string) => post(server, "/oauth/introspect", { token }, secretOf("files"))
      const { calls, failing } = server.probe
      const before = [...calls]
      const signed = token.slice(0, token.lastIndexOf("."))
      for (const forged of ["unknown", "a.b.c", `${signed}.${"A".repeat(43)}`, "x".repeat(10_000)]) {
        assert.strictEqual((yield* revoke(forged)).status, 200)
        assert.strictEqual((yield* introspect(forged)).text, `{"active":false}`)
      }
      for (const path of ["/oauth/revoke", "/oauth/introspect"]) {
        const long = yield* post(
          server,
          path,
          { token: "x".repeat(17_000), client_id: "registered" },
          secretOf("files")
        )
        assert.deepStrictEqual([long.status, long.json.error], [400, "invalid_request"], path)
      }
      assert.deepStrictEqual([...calls], before)
      for (
        const [operation, send] of [
          ["sessions.findById", revoke],
          ["sessions.revoke", revoke],
          ["sessions.findByTokenDigest", introspect]
        ] as const
      ) {
        failing.add(operation)
        const answer = yield* send(token)
        assert.deepStrictEqual(
          [answer.status, answer.json.error, answer.headers["retry-after"]],
          [503, "temporarily_unavailable", "1"],
          operation
        )
        assertLogged(server, answer.json.traceId)
        failing.delete(operation)
        assert.strictEqual((yield* introspect(token)).json.active, true, operation)
      }
      assert.strictEqual((yield* revoke(token)).status, 200)
      assert.strictEqual((yield* introspect(token)).text, `{"active":false}`)
    }))
})

describe("documents of clients", () => {
  it.live("AGENT-02 HTTP-09: documents that strangers name keep none waiting who are signed in, and drive none out of memory", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const documents = yield* startDocuments
      const cookie = yield* server.cookie
      const open = (client_id: string, headers = {}) =>
        server.send({ path: authorizePath(server, { client_id }), headers })
      const good = documents.client("/good.json")
      assert.strictEqual((yield* open(good, { cookie })).status, 200)
      // More than are remembered.
      yield* Effect.forEach(
        Array.from({ length: 260 }, (_, n) => documents.client(`/strangers-${n}.json`)),
        (id) => open(id),
        { concurrency: 4 }
      )
      const before = documents.count()
      assert.strictEqual((yield* open(good, { cookie })).status, 200)
      assert.strictEqual(documents.count(), before)
      // None of these is ever answered.
      for (let n = 0; n < 12; n++) yield* Effect.forkScoped(open(documents.serve(`/slow-${n}.json`, () => undefined)))
      yield* eventually(Effect.sync(documents.count), (count) => count === before + 4)
      const other = yield* open(documents.client("/other.json"), { cookie })
      assert.strictEqual(other.status, 200, other.text)
      assert.strictEqual(documents.count(), before + 5)
    }))

  it.live("AGENT-02: a document counts only if it is whole, small, direct and about itself, and no page loads what it names (C1-C7, C9)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const documents = yield* startDocuments
      const cookie = yield* server.cookie
      const open = (client_id: string, fields = {}) =>
        server.send({ path: authorizePath(server, { client_id, ...fields }), headers: { cookie } })
      const send = (status: number, headers: Readonly<Record<string, string>>, body: string) =>
      (response: {
        writeHead: (status: number, headers: Readonly<Record<string, string>>) => { end: (body: string) => unknown }
      }) => void response.writeHead(status, headers).end(body)
      const named = { logo_uri: "https://logos.example/x.png", client_uri: "https://logos.example/" }
      const good = documents.client("/good.json", named, { "cache-control": "max-age=60" })
      const json = { "content-type": "application/json" }
      const text = (fields: Readonly<Record<string, unknown>>) =>
        JSON.stringify({ client_name: "C", redirect_uris: ["http://127.0.0.1/callback"], ...fields })
      const bad = [
        documents.serve("/inside.json", send(307, { location: "http://10.0.0.1/client.json" }, "")),
        documents.serve("/itself.json", send(301, { location: "/itself.json" }, "")),
        // Without a length, and without an end.
        documents.serve("/endless.json", (response) => {
          response.writeHead(200, json)
          const more = () => {
            if (!response.destroyed && response.write(" ".repeat(1_024))) setImmediate(more)
          }
          more()
        }),
        documents.client("/named.json", { client_id: `${documents.origin}/NAMED.json` }),
        documents.client("/host.json", { client_id: "https://elsewhere.example/host.json" }),
        documents.serve("/redirect.json", send(302, { location: good }, "")),
        documents.serve("/201.json", send(201, json, text({ client_id: `${documents.origin}/201.json` }))),
        documents.serve(
          "/html.json",
          send(200, { "content-type": "text/html" }, text({ client_id: `${documents.origin}/html.json` }))
        ),
        documents.serve("/303.json", send(303, { location: good }, "")),
        documents.serve("/308.json", send(308, { location: good }, "")),
        documents.serve("/206.json", send(206, json, text({ client_id: `${documents.origin}/206.json` }))),
        documents.serve(
          "/jsonp.json",
          send(200, { "content-type": "application/jsonp" }, text({ client_id: `${documents.origin}/jsonp.json` }))
        ),
        documents.serve("/null.json", send(200, json, "null")),
        documents.serve("/empty.json", send(200, json, "")),
        documents.serve("/deep.json", send(200, json, "[".repeat(4_000))),
        documents.client("/many.json", {
          redirect_uris: Array.from({ length: 33 }, (_, n) => `https://a.example/${n}`)
        }),
        documents.client("/numbers.json", { redirect_uris: [1] }),
        documents.client("/one.json", { redirect_uris: "http://127.0.0.1/callback" }),
        documents.client("/user.json", { client_id: `http://user@${documents.origin.slice(7)}/user.json` }),
        documents.serve("/broken.json", send(200, json, "{")),
        documents.serve("/list.json", send(200, json, "[]")),
        documents.client("/big.json", { padding: "x".repeat(6_000) }),
        documents.client("/other.json", { client_id: good }),
        documents.client("/slash.json", { client_id: `${documents.origin}/slash.json/` }),
        documents.client("/nameless.json", { client_name: undefined }),
        documents.client("/nowhere.json", { redirect_uris: [] }),
        documents.client("/secret.json", { client_secret: "s" }),
        documents.client("/expires.json", { client_secret_expires_at: 0 }),
        documents.client("/basic.json", { token_endpoint_auth_method: "client_secret_basic" }),
        documents.client("/key.json", { token_endpoint_auth_method: "private_key_jwt" }),
        documents.client("/proof.json", { dpop_bound_access_tokens: "true" }),
        `${documents.origin}/missing.json`
      ]
      for (const id of bad) {
        const before = documents.count()
        const answer = yield* open(id)
        assert.deepStrictEqual([answer.status, answer.headers.location], [400, undefined], id)
        assert.strictEqual(documents.count(), before + 1, id)
        yield* open(id)
        assert.strictEqual(documents.count(), before + 2, "what is wrong is not remembered")
      }
      const slow = yield* Effect.forEach(
        [
          documents.serve("/drip.json", (response) => void response.writeHead(200, json).write("{")),
          documents.serve("/silent.json", () => undefined)
        ],
        (id) => open(id),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(slow.map(({ headers, status }) => [status, headers.location]), [[400, undefined], [
        400,
        undefined
      ]])
      const fetched = documents.count()
      // Not fetched at all: no document can be there.
      for (
        const id of [
          documents.origin,
          `${documents.origin}/`,
          `${good}#x`,
          good.replace("http://", "http://user:password@"),
          `${documents.origin}/a/../good.json`,
          `${documents.origin}/%2e/good.json`,
          good.replace("127.0.0.1", "127.1"),
          "http://example.com/client.json"
        ]
      ) {
        assert.strictEqual((yield* open(id)).status, 400, id)
      }
      assert.strictEqual(documents.count(), fetched)

      const page = yield* open(good)
      assert.strictEqual(page.status, 200)
      assert.include(page.text, "Document client")
      assert.notInclude(page.text, "logos.example")
      assert.match(String(page.headers["content-security-policy"]), /default-src 'none'.*img-src data:;/)
      assert.include(page.text, new URL(documents.origin).host)
      yield* open(good)
      assert.strictEqual(documents.count(), fetched + 1, "it is remembered for as long as it says")
      const { query } = yield* decide(
        server,
        authorizePath(server, { client_id: good, redirect_uri: "http://localhost:9/callback" })
      )
      const tokens = yield* exchange(server, query.code ?? "", {
        client_id: good,
        redirect_uri: "http://localhost:9/callback"
      })
      assert.strictEqual(tokens.status, 200)

      const fresh = documents.client("/fresh.json", {}, { "cache-control": "no-store" })
      assert.strictEqual((yield* open(fresh)).status, 200)
      const moved = documents.client("/fresh.json", { redirect_uris: ["http://127.0.0.1/elsewhere"] }, {
        "cache-control": "no-store"
      })
      assert.strictEqual((yield* open(moved)).status, 400, "what the document lists now counts")
    }))
})

describe("proofs of a key", () => {
  const proofOf = (server: Server, key: Key, path: string, token?: string, changed: Json = {}) =>
    prove(key, headerOf(key), {
      ...claimsOf({ method: "POST", url: `${origin(server)}${path}`, nowMillis: Date.now(), token }),
      ...changed
    })

  it.live("AGENT-01 SESS-10: tokens of a code are bound to the key that proves itself, and so are their refreshes (R6, R8, T14, T15)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({}, { dpop: {} })
      const key = generate()
      const other = generate()
      const { query } = yield* decide(server, authorizePath(server, { dpop_jkt: key.thumbprint }))
      const trade = (proof?: string) =>
        exchange(server, query.code ?? "", {}, proof === undefined ? {} : { dpop: proof })

      // What is wrong with a proof spends no code.
      const now = Math.floor(Date.now() / 1000)
      for (
        const changed of [
          { htm: "GET" },
          { htu: `${origin(server)}/oauth/revoke` },
          { htu: "https://elsewhere.example/oauth/token" },
          { iat: now - 3600 },
          { iat: now + 3600 },
          { jti: "" }
        ]
      ) {
        const refused = yield* trade(proofOf(server, key, "/oauth/token", undefined, changed))
        assert.deepStrictEqual(
          [refused.status, refused.json.error],
          [400, "invalid_dpop_proof"],
          JSON.stringify(changed)
        )
      }
      for (
        const header of [{ typ: "jwt" }, { alg: "none" }, { alg: "HS256" }, { jwk: key.privateJwk }, { jwk: other.jwk }]
      ) {
        const refused = yield* trade(
          prove(
            key,
            { ...headerOf(key), ...header },
            claimsOf({ method: "POST", url: `${origin(server)}/oauth/token`, nowMillis: Date.now() })
          )
        )
        assert.deepStrictEqual(
          [refused.status, refused.json.error],
          [400, "invalid_dpop_proof"],
          JSON.stringify(header)
        )
      }
      for (const proof of [undefined, proofOf(server, other, "/oauth/token")]) {
        const refused = yield* trade(proof)
        assert.deepStrictEqual([refused.status, refused.json.error], [400, "invalid_grant"])
      }

      const used = proofOf(server, key, "/oauth/token")
      const granted = (yield* trade(used)).json
      assert.strictEqual(granted.token_type, "DPoP")
      const bound = (token: string, dpop?: string) =>
        call(server, "/mcp", undefined, { authorization: `DPoP ${token}`, ...(dpop === undefined ? {} : { dpop }) })
      const token = String(granted.access_token)
      const good = proofOf(server, key, "/mcp", token)
      assert.strictEqual((yield* bound(token, good)).status, 200)
      const refused = [
        yield* call(server, "/mcp", token),
        yield* call(server, "/mcp", token, { dpop: proofOf(server, key, "/mcp", token) }),
        yield* bound(token),
        yield* bound(token, good),
        yield* bound(token, proofOf(server, key, "/mcp")),
        yield* bound(token, proofOf(server, key, "/other", token)),
        yield* bound(token, proofOf(server, other, "/mcp", token))
      ]
      assert.deepStrictEqual(refused.map(({ status }) => status), refused.map(() => 401))
      const [asBearer, withoutProof] = refused.flatMap(({ headers }, at) =>
        at === 0 || at === 2 ? [String(headers["www-authenticate"])] : []
      )
      assert.match(
        asBearer ?? "",
        /^Bearer realm="sallyport", resource_metadata="[^"]*", scope="[^"]*", error="invalid_token"$/
      )
      assert.match(
        withoutProof ?? "",
        /^DPoP realm="sallyport", resource_metadata="[^"]*", scope="[^"]*", error="invalid_dpop_proof", algs="ES256[^"]*"$/
      )
      const open = String((yield* call(server, "/mcp", undefined)).headers["www-authenticate"])
      assert.match(open, /^Bearer [^]*, DPoP realm="sallyport", algs="ES256[^"]*"$/)
      assert.notInclude(open, "error")

      // A token that no key is bound to is none of the key that comes with it.
      const plain = (yield* grant(server)).access_token
      assert.strictEqual((yield* bound(String(plain), proofOf(server, key, "/mcp", String(plain)))).status, 401)

      const refresh = (proof?: string) =>
        post(
          server,
          "/oauth/token",
          { grant_type: "refresh_token", client_id: "registered", refresh_token: String(granted.refresh_token) },
          proof === undefined ? {} : { dpop: proof }
        )
      for (const proof of [undefined, used, proofOf(server, other, "/oauth/token")]) {
        assert.strictEqual((yield* refresh(proof)).status, 400)
      }
      const next = (yield* refresh(proofOf(server, key, "/oauth/token"))).json
      assert.strictEqual(next.token_type, "DPoP")
      const newer = String(next.access_token)
      assert.strictEqual((yield* bound(newer, proofOf(server, key, "/mcp", newer))).status, 200)
      assert.strictEqual((yield* call(server, "/mcp", newer)).status, 401)
    }))

  it.live("AGENT-01 SESS-10: a server that wants nonces gives one, at the token endpoint and at the resource (R7, T16)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({}, { dpop: { nonceLifetime: "1 minute" } })
      const key = generate()
      const { query } = yield* decide(server, authorizePath(server))
      const trade = (nonce: Json) =>
        exchange(server, query.code ?? "", {}, { dpop: proofOf(server, key, "/oauth/token", undefined, nonce) })
      const first = yield* trade({})
      assert.deepStrictEqual([first.status, first.json.error], [400, "use_dpop_nonce"])
      const given = String(first.headers["dpop-nonce"])
      assert.match(given, /^[\x21\x23-\x5b\x5d-\x7e]{16,}$/)
      // What was not given, or is made of what was, is refused, and a good one is told.
      const guessed = ["", "x", given.slice(0, -1), `${given}A`, given.replace(/.$/, (end) => end === "A" ? "B" : "A")]
      for (const nonce of [...guessed, given.toUpperCase(), ` ${given}`, 1, null]) {
        const answer = yield* trade({ nonce })
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "use_dpop_nonce"], String(nonce))
        assert.notInclude(String(answer.headers["dpop-nonce"]), ",")
      }
      const granted = yield* trade({ nonce: given })
      assert.strictEqual(granted.status, 200, granted.text)
      const token = String(granted.json.access_token)
      const ask = (nonce: Json) =>
        call(server, "/mcp", undefined, {
          authorization: `DPoP ${token}`,
          dpop: proofOf(server, key, "/mcp", token, nonce)
        })
      const asked = yield* ask({})
      for (const answer of [asked, yield* ask({ nonce: `${given}A` })]) {
        assert.strictEqual(answer.status, 401)
        assert.match(String(answer.headers["www-authenticate"]), /^DPoP [^]*, error="use_dpop_nonce", algs="/)
      }
      assert.strictEqual((yield* ask({ nonce: String(asked.headers["dpop-nonce"]) })).status, 200)
    }))

  it.live("AGENT-02 SESS-10: a client that says that it always proves a key gets no token without (T24)", () =>
    Effect.gen(function*() {
      const server = yield* startServer(
        { clients: [{ ...registered, alwaysProves: true }] },
        { dpop: {} }
      )
      const documents = yield* startDocuments
      const document = documents.client("/bound.json", { dpop_bound_access_tokens: true })
      const free = documents.client("/free.json", { dpop_bound_access_tokens: false })
      const key = generate()
      const redirect_uri = "http://127.0.0.1:52163/callback"
      for (const client_id of ["registered", document]) {
        const { query } = yield* decide(server, authorizePath(server, { client_id, redirect_uri }))
        const trade = (headers = {}) => exchange(server, query.code ?? "", { client_id, redirect_uri }, headers)
        const refused = yield* trade()
        assert.deepStrictEqual([refused.status, refused.json.error], [400, "invalid_grant"], client_id)
        const granted = yield* trade({ dpop: proofOf(server, key, "/oauth/token") })
        assert.strictEqual(granted.json.token_type, "DPoP", granted.text)
        const refresh_token = String(granted.json.refresh_token)
        const refreshed = yield* post(server, "/oauth/token", { grant_type: "refresh_token", client_id, refresh_token })
        assert.strictEqual(refreshed.status, 400)
      }
      assert.strictEqual((yield* grant(server, { client_id: free, redirect_uri })).token_type, "Bearer")
    }))

  it.live("AGENT-03 SESS-10: the server of a resource elsewhere is told the key that a token is bound to (T23)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({}, { dpop: {} })
      const key = generate()
      const { query } = yield* decide(server, authorizePath(server, { resource: "https://files.example/api" }))
      const granted = yield* exchange(server, query.code ?? "", {}, { dpop: proofOf(server, key, "/oauth/token") })
      const token = String(granted.json.access_token)
      const { json } = yield* post(server, "/oauth/introspect", { token }, secretOf("files"))
      assert.deepInclude(json, { active: true, token_type: "DPoP", cnf: { jkt: key.thumbprint } })
    }))

  it.live("AGENT-01: there is neither an implicit grant nor one by password, nor one to a client itself (T17, T18)", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const cookie = yield* server.cookie
      for (const type of ["token", "id_token", "code token", "none"]) {
        const answer = yield* server.send({ path: authorizePath(server, { response_type: type }), headers: { cookie } })
        assert.strictEqual(queryOf(answer.headers.location ?? "").error, "unsupported_response_type", type)
      }
      for (const type of ["password", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"]) {
        const refused = yield* post(server, "/oauth/token", {
          grant_type: type,
          client_id: "registered",
          username: "owner",
          password: "owner"
        })
        assert.deepStrictEqual([refused.status, refused.json.error], [400, "unsupported_grant_type"], type)
      }
    }))
})
