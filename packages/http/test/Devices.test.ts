/**
 * Devices that ask this server itself to be let in (RFC 8628), over real HTTP, by hand and by the clients that people use.
 */
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DeviceAuthorization from "@sallyport/core/connect/DeviceAuthorization"
import * as Sallyport from "@sallyport/http/Sallyport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as OAuth from "oauth4webapi"
import * as OpenId from "openid-client"
import { claimsOf, generate, headerOf, type Json, type Key, prove } from "./dpopSupport.ts"
import { type Answer, bearer, type Server, type ServerOptions, start } from "./support.ts"

const deviceCodeGrant = "urn:ietf:params:oauth:grant-type:device_code"

const devices = (options: ConnectClientStore.Options = {}, server: Omit<ServerOptions, "routes"> = {}) =>
  start({
    ...server,
    routes: Layer.provide(
      Sallyport.layer(),
      Layer.mergeAll(
        AuthorizationServer.layerWith({ resources: [{ resource: "/mcp", scopes: ["runs:read"] }] }),
        Layer.provide(DpopProof.layer, ReplayRepository.layerMemory),
        Layer.provideMerge(
          DeviceAuthorization.layer,
          ConnectClientStore.layerWith({ deviceInterval: "1 second", ...options })
        )
      ).pipe(Layer.orDie)
    )
  })

const post = (server: Server, path: string, parameters: Record<string, string>, dpop?: string) =>
  server.send({
    path,
    headers: {
      "content-type": "application/x-www-form-urlencoded;charset=UTF-8",
      "user-agent": "television/1",
      ...(dpop === undefined ? {} : { dpop })
    },
    body: new URLSearchParams(parameters).toString()
  })
const ask = (server: Server, parameters: Record<string, string> = {}, dpop?: string) =>
  post(server, "/oauth/device_authorization", { client_id: "tv", ...parameters }, dpop)
const poll = (server: Server, asked: Answer, parameters: Record<string, string> = {}, dpop?: string) =>
  post(
    server,
    "/oauth/token",
    {
      grant_type: deviceCodeGrant,
      client_id: "tv",
      device_code: String(asked.json.device_code),
      ...parameters
    },
    dpop
  )
const oauthError = (answer: Answer) => [answer.status, answer.json.error]

const assertRefused = (answer: Answer, status: number, code: string) =>
  assert.deepStrictEqual([answer.status, answer.json.code], [status, code])

const call = (server: Server, token: string, path: string, body: object) =>
  server.send({ path: `/api/auth/connect-clients/${path}`, headers: bearer(token), body })

/** Finds the device that shows a code, as its owner does, and decides about it. */
const decide = Effect.fnUntraced(
  function*(server: Server, token: string, code: string, decision: string, body: object = {}) {
    const found = yield* call(server, token, "find", { code })
    assert.strictEqual(found.status, 200, found.text)
    const client: unknown = found.json.client
    const thumbprint = typeof client === "object" && client !== null && "proofKeyThumbprint" in client
      ? String(client.proofKeyThumbprint)
      : assert.fail("no client")
    return { client, answer: yield* call(server, token, decision, { client: thumbprint, code, ...body }), thumbprint }
  }
)

describe("devices", () => {
  it.live("CONN-14 AGENT-03: a device asks, waits, is approved with less than it asked for, and gets its token once (T9, T10)", () =>
    Effect.gen(function*() {
      const server = yield* devices()
      const owner = yield* server.token()
      const asked = yield* ask(server, {
        scope: "runs:read runs:operate",
        resource: `http://127.0.0.1:${server.port}`
      })
      assert.strictEqual(asked.status, 200, asked.text)
      assert.strictEqual(asked.headers["cache-control"], "no-store")
      const code = String(asked.json.user_code)
      assert.match(code, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
      const page = `http://127.0.0.1:${server.port}/device`
      assert.deepInclude(asked.json, {
        verification_uri: page,
        verification_uri_complete: `${page}?user_code=${code}`,
        expires_in: 600,
        interval: 1
      })
      assert.deepStrictEqual(oauthError(yield* poll(server, asked)), [400, "authorization_pending"])
      assert.deepStrictEqual(oauthError(yield* poll(server, asked)), [400, "slow_down"])
      assert.deepStrictEqual(oauthError(yield* poll(server, asked, { client_id: "other" })), [400, "invalid_grant"])

      // Without its code nothing is approved, nor with scopes that it did not ask for or the owner lacks.
      const { client, thumbprint } = yield* decide(server, owner, code.toLowerCase().replace("-", " "), "approve", {
        scopes: ["access:manage"]
      })
      assert.deepInclude(client, { status: "pending", verificationCode: code, label: "television/1", account: "tv" })
      assert.deepInclude(client, { requestedScopes: ["runs:read", "runs:operate"] })
      assertRefused(yield* call(server, owner, "approve", { client: thumbprint }), 400, "invalid_request")
      const lesser = yield* server.token({ scopes: ["connect:manage", "runs:read"] })
      assertRefused(yield* call(server, lesser, "approve", { client: thumbprint, code }), 403, "scope_not_held")
      assert.deepStrictEqual(oauthError(yield* poll(server, asked)), [400, "slow_down"])
      const approved = yield* call(server, lesser, "approve", { client: thumbprint, code, scopes: ["runs:read"] })
      assert.strictEqual(approved.status, 200, approved.text)
      const both = { requestedScopes: ["runs:read", "runs:operate"], grantedScopes: ["runs:read"] }
      assert.notProperty(client, "grantedScopes")
      assert.deepInclude(approved.json.client, both)
      const { clients } = (yield* server.send({ path: "/api/auth/connect-clients", headers: bearer(owner) })).json
      assert.deepInclude(Array.isArray(clients) ? clients[0] : undefined, both)

      const answers = yield* Effect.all(Array.from({ length: 4 }, () => poll(server, asked)), { concurrency: 4 })
      const [token, ...others] = answers.toSorted((a, b) => a.status - b.status)
      for (const other of others) assert.deepStrictEqual(oauthError(other), [400, "invalid_grant"])
      assert.deepInclude({ ...token?.json }, { token_type: "Bearer", scope: "runs:read" })
      const used = bearer(String(token?.json.access_token))
      assert.strictEqual((yield* server.send({ path: "/api/runs", headers: used })).status, 200)
      // The decision is taken back, and the token is good for nothing at once.
      const revoked = yield* call(server, owner, "revoke", { client: thumbprint })
      assert.strictEqual(revoked.status, 200)
      assert.notProperty(revoked.json.client, "grantedScopes")
      assert.strictEqual((yield* server.send({ path: "/api/runs", headers: used })).status, 401)
      assert.deepStrictEqual(oauthError(yield* poll(server, asked)), [400, "access_denied"])
    }))

  it.live("CONN-14 CONN-11 AGENT-03: a device that waits is told of the decision at once, of a rejection and an expiry as such", () =>
    Effect.gen(function*() {
      const server = yield* devices({ deviceLifetime: "3 seconds" })
      const owner = yield* server.token()
      for (
        const [decision, expected] of [["approve", undefined], ["reject", "access_denied"], [
          "block",
          "access_denied"
        ]] as const
      ) {
        const asked = yield* ask(server)
        const waiting = yield* Effect.forkChild(poll(server, asked, { wait_seconds: "20" }), { startImmediately: true })
        yield* decide(server, owner, String(asked.json.user_code), decision)
        const told = yield* Fiber.join(waiting)
        assert.strictEqual(told.json.error, expected, told.text + server.logged.slice(-6).join("\n"))
      }
      const asked = yield* ask(server)
      assert.deepStrictEqual(oauthError(yield* poll(server, asked, { wait_seconds: "20" })), [400, "expired_token"])
      for (const wrong of ["-1", "26", "soon", "Infinity"]) {
        assert.deepStrictEqual(oauthError(yield* poll(server, asked, { wait_seconds: wrong })), [
          400,
          "invalid_request"
        ])
      }
    }))

  it.live("CONN-14 CONN-09 CONN-13 AGENT-03: what is asked and guessed is bounded, and nothing that could widen access is asked for (T11)", () =>
    Effect.gen(function*() {
      const server = yield* devices({ maxPendingPerAccount: 2 })
      const owner = yield* server.token()
      for (const scope of AccessScope.widening) {
        assert.deepStrictEqual(oauthError(yield* ask(server, { scope })), [400, "invalid_scope"])
      }
      for (const client of ["", " ", "a".repeat(513), "a\nb"]) {
        assert.deepStrictEqual(oauthError(yield* ask(server, { client_id: client })), [400, "invalid_request"])
      }
      const asked = yield* ask(server)
      yield* ask(server)
      assert.deepStrictEqual(oauthError(yield* ask(server)), [400, "access_denied"])
      assert.strictEqual((yield* ask(server, { client_id: "another" })).status, 200)
      // A text that can be no code is no guess; past five wrong ones a right one is refused as well, to this session alone.
      const code = String(asked.json.user_code)
      for (const text of ["", "WDJB", "AEIO-UAEI", "0000-0000"]) {
        assertRefused(yield* call(server, owner, "find", { code: text }), 404, "connect_client_not_found")
      }
      for (const guess of ["BBBB-BBBB", "CCCC-CCCC", "DDDD-DDDD", "FFFF-FFFF", "GGGG-GGGG"]) {
        assertRefused(yield* call(server, owner, "find", { code: guess }), 404, "connect_client_not_found")
      }
      const locked = yield* call(server, owner, "find", { code })
      assert.strictEqual(locked.status, 429)
      assert.isAbove(Number(locked.headers["retry-after"]), 0)
      assert.strictEqual((yield* call(server, yield* server.token(), "find", { code })).status, 200)
      const reader = yield* server.token({ scopes: ["access:manage"] })
      assertRefused(yield* call(server, reader, "find", { code }), 403, "scope_required")
      assert.deepStrictEqual(
        oauthError(yield* post(yield* start(), "/oauth/device_authorization", { client_id: "tv" })),
        [400, "unsupported_grant_type"]
      )
    }))

  it.live("CONN-14 AGENT-03: a request of a device has nothing twice; what is empty is absent, what is unknown passed over (T19, T20)", () =>
    Effect.gen(function*() {
      const server = yield* devices()
      const form = (path: string, entries: ReadonlyArray<readonly [string, string]>) =>
        server.send({
          path,
          headers: { "content-type": "application/x-www-form-urlencoded" },
          body: new URLSearchParams(entries.map(([name, value]) => [name, value])).toString()
        })
      const repeated = Effect.fnUntraced(function*(path: string, entries: ReadonlyArray<readonly [string, string]>) {
        for (const twice of entries) {
          assert.deepStrictEqual(oauthError(yield* form(path, [...entries, twice])), [400, "invalid_request"], twice[0])
        }
      })
      yield* repeated("/oauth/device_authorization", [["client_id", "tv"], ["scope", "runs:read"]])
      // It asks for a refresh token, which every client gets.
      const offline = yield* ask(server, { scope: "runs:read offline_access" })
      assert.strictEqual(offline.status, 200, offline.text)
      yield* decide(server, yield* server.token(), String(offline.json.user_code), "approve")
      assert.strictEqual((yield* poll(server, offline)).json.scope, "runs:read")
      const asked = yield* ask(server, { scope: "", resource: "", device_name: "TV", " ": "" })
      assert.strictEqual(asked.status, 200, asked.text)
      const code = String(asked.json.device_code)
      // The code that no one types is random symbols of five bits, and one check symbol.
      assert.isAtLeast((code.replaceAll("-", "").length - 1) * 5, 128)
      assert.notInclude(code, String(asked.json.user_code))
      yield* repeated("/oauth/token", [["grant_type", deviceCodeGrant], ["client_id", "tv"], ["device_code", code]])
      assert.deepStrictEqual(oauthError(yield* poll(server, asked, { device_code: "" })), [400, "invalid_request"])
      assert.deepStrictEqual(oauthError(yield* poll(server, asked, { client_id: "" })), [400, "invalid_request"])
      yield* decide(server, yield* server.token(), String(asked.json.user_code), "approve")
      const token = yield* poll(server, asked, { scope: "", resource: "", wait_seconds: "", code: "", foo: "bar" })
      assert.strictEqual(token.status, 200, token.text)
      assert.strictEqual(token.headers["cache-control"], "no-store")
      // It asked for no scope, and is told which ones it has.
      assert.isNotEmpty(String(token.json.scope))
    }))

  it.live("CONN-14 AGENT-03 AGENT-01: a device is given no token for another resource than the API, known or unknown (Z9, T5)", () =>
    Effect.gen(function*() {
      const server = yield* devices()
      const api = `http://127.0.0.1:${server.port}`
      const foreign = [`${api}/mcp`, `${api}/none`, `${api}/#x`, "https://elsewhere.example", "/mcp", "mcp"]
      for (const resource of foreign) {
        assert.deepStrictEqual(oauthError(yield* ask(server, { resource })), [400, "invalid_target"], resource)
      }
      const asked = yield* ask(server, { scope: "runs:read", resource: `${api}/` })
      yield* decide(server, yield* server.token(), String(asked.json.user_code), "approve")
      for (const resource of foreign) {
        assert.deepStrictEqual(oauthError(yield* poll(server, asked, { resource })), [400, "invalid_target"], resource)
      }
      const { json } = yield* poll(server, asked, { resource: api })
      const headers = bearer(String(json.access_token))
      assert.strictEqual((yield* server.send({ path: "/api/runs", headers })).status, 200)
    }))

  it.live("CONN-14 AGENT-03 CONN-09: codes that are guessed at full speed give nothing, cost those who ask nothing, and change nothing", () =>
    Effect.gen(function*() {
      const server = yield* devices()
      const owner = yield* server.token()
      const asked = yield* ask(server, { scope: "runs:read" })
      const code = String(asked.json.device_code)
      const at = (index: number, symbol: string) => code.slice(0, index) + symbol + code.slice(index + 1)
      const near = [
        ...Array.from(code, (symbol, index) => at(index, symbol === "7" ? "8" : "7")),
        code.slice(1),
        `${code}7`,
        `${code}${code}`,
        String(asked.json.user_code),
        "x".repeat(30_000)
      ]
      const before = yield* server.send({ path: "/api/auth/connect-clients", headers: bearer(owner) })
      const answers = yield* Effect.forEach(
        Array.from({ length: 4 }, () => near).flat(),
        (device_code) => poll(server, asked, { device_code }),
        { concurrency: 16 }
      )
      for (const answer of answers) assert.deepStrictEqual(oauthError(answer), [400, "invalid_grant"])
      const after = yield* server.send({ path: "/api/auth/connect-clients", headers: bearer(owner) })
      assert.deepStrictEqual(after.json, before.json)
      assert.deepStrictEqual(oauthError(yield* poll(server, asked)), [400, "authorization_pending"])

      // A session that may approve guesses no more codes at once than one after the other.
      const guesser = yield* server.token()
      const symbols = "BCDFGHJKLMNPQRSTVWXZ"
      const guesses = yield* Effect.forEach(
        Array.from(symbols, (symbol) => `${symbol.repeat(4)}-${symbol.repeat(4)}`),
        (guess) => call(server, guesser, "find", { code: guess }),
        { concurrency: 20 }
      )
      assert.strictEqual(guesses.filter(({ status }) => status === 404).length, 5)
      assert.strictEqual(guesses.filter(({ status }) => status === 429).length, 15)
      yield* decide(server, owner, String(asked.json.user_code), "approve")
      assert.strictEqual((yield* poll(server, asked)).status, 200)
    }))

  it.live("CONN-14 AGENT-03 SESS-16: the tokens of a device are its client's, which alone refreshes and revokes them (T8, T12)", () =>
    Effect.gen(function*() {
      for (const refreshes of [true, false]) {
        const server = yield* devices({}, { sessions: refreshes ? { refresh: { tokenLifetime: "10 minutes" } } : {} })
        const owner = yield* server.token()
        const asked = yield* ask(server, { scope: "runs:read" })
        yield* decide(server, owner, String(asked.json.user_code), "approve")
        let tokens = (yield* poll(server, asked)).json
        // As before, it is given a refresh token where all sessions are.
        assert.strictEqual("refresh_token" in tokens, refreshes)
        const runs = Effect.suspend(() =>
          Effect.map(
            server.send({ path: "/api/runs", headers: bearer(String(tokens.access_token)) }),
            ({ status }) => status
          )
        )
        const { sessions } = (yield* server.send({ path: "/api/auth/sessions", headers: bearer(owner) })).json
        const clients = Array.isArray(sessions) ? sessions.map(({ client }) => client) : []
        assert.deepStrictEqual(clients.filter((client) => client !== null), [{ id: "tv", resource: null }])

        const refresh = (parameters: Record<string, string>) =>
          post(server, "/oauth/token", {
            grant_type: "refresh_token",
            refresh_token: String(tokens.refresh_token),
            ...parameters
          })
        if (refreshes) {
          for (const parameters of [{}, { client_id: "other" }]) {
            assert.deepStrictEqual(oauthError(yield* refresh(parameters)), [400, "invalid_grant"])
          }
          const refreshed = yield* refresh({ client_id: "tv" })
          assert.strictEqual(refreshed.status, 200, refreshed.text)
          tokens = refreshed.json
        }
        const revoke = (client_id: string) =>
          post(server, "/oauth/revoke", { client_id, token: String(tokens.access_token) })
        assert.deepStrictEqual(oauthError(yield* revoke("other")), [400, "invalid_grant"])
        assert.strictEqual(yield* runs, 200)
        assert.strictEqual((yield* revoke("tv")).status, 200)
        assert.strictEqual(yield* runs, 401)
        if (refreshes) assert.deepStrictEqual(oauthError(yield* refresh({ client_id: "tv" })), [400, "invalid_grant"])
      }
    }))

  it.live("CONN-14 AGENT-03 SESS-10: a poll with a proof gets a token that is bound to its key, a device that asked with one gets no other (R6, T14, T15)", () =>
    Effect.gen(function*() {
      const server = yield* devices()
      const owner = yield* server.token()
      const key = generate()
      const other = generate()
      const proof = (key: Key, method: string, path: string, token?: string, changed: Json = {}) =>
        prove(key, headerOf(key), {
          ...claimsOf({ method, url: `http://127.0.0.1:${server.port}${path}`, nowMillis: Date.now(), token }),
          ...changed
        })
      const atToken = (key: Key, changed?: Json) => proof(key, "POST", "/oauth/token", undefined, changed)
      const runs = (token: string, dpop?: string) =>
        Effect.map(
          server.send({
            path: "/api/runs",
            headers: dpop === undefined ? bearer(token) : { authorization: `DPoP ${token}`, dpop }
          }),
          ({ status }) => status
        )
      const expectBound = Effect.fnUntraced(function*(answer: Answer) {
        assert.deepInclude(answer.json, { token_type: "DPoP", scope: "runs:read" }, answer.text)
        const token = String(answer.json.access_token)
        assert.strictEqual(yield* runs(token, proof(key, "GET", "/api/runs", token)), 200)
        assert.strictEqual(yield* runs(token), 401)
        assert.strictEqual(yield* runs(token, proof(other, "GET", "/api/runs", token)), 401)
      })

      // The poll that is answered with the token carries the proof; one with a fault spends nothing.
      const plain = yield* ask(server, { scope: "runs:read" })
      yield* decide(server, owner, String(plain.json.user_code), "approve")
      const used = atToken(key)
      const wrong = [
        atToken(key, { htm: "GET" }),
        proof(key, "POST", "/oauth/device_authorization"),
        atToken(key, { iat: Math.floor(Date.now() / 1000) - 3_600 }),
        prove(key, { ...headerOf(key), jwk: other.jwk }, claimsOf({ method: "POST", url: "x", nowMillis: Date.now() })),
        "no proof"
      ]
      for (const dpop of wrong) {
        assert.deepStrictEqual(oauthError(yield* poll(server, plain, {}, dpop)), [400, "invalid_dpop_proof"])
      }
      yield* expectBound(yield* poll(server, plain, {}, used))

      // The request carries it: the code is of use to the holder of the key alone, and a proof is good once.
      const asking = proof(key, "POST", "/oauth/device_authorization")
      const proven = yield* ask(server, { scope: "runs:read" }, asking)
      assert.strictEqual(proven.status, 200, proven.text)
      assert.deepStrictEqual(oauthError(yield* ask(server, {}, asking)), [400, "invalid_dpop_proof"])
      yield* decide(server, owner, String(proven.json.user_code), "approve")
      for (const dpop of [undefined, atToken(other)]) {
        assert.deepStrictEqual(oauthError(yield* poll(server, proven, {}, dpop)), [400, "invalid_grant"])
      }
      assert.deepStrictEqual(oauthError(yield* poll(server, proven, {}, used)), [400, "invalid_dpop_proof"])
      yield* expectBound(yield* poll(server, proven, {}, atToken(key)))
      // If the answer was lost, the holder of the key asks again, and gets the same session.
      const sessions = server.send({ path: "/api/auth/sessions", headers: bearer(owner) })
      const before = (yield* sessions).json.sessions
      yield* expectBound(yield* poll(server, proven, {}, atToken(key)))
      assert.strictEqual(Object((yield* sessions).json.sessions).length, Object(before).length)
      assert.deepStrictEqual(oauthError(yield* poll(server, proven, {}, atToken(other))), [400, "invalid_grant"])
    }))

  it.live("CONN-14 AGENT-03 AGENT-04: oauth4webapi and openid-client sign a device in, the latter by discovery alone", () =>
    Effect.gen(function*() {
      const server = yield* devices()
      const owner = yield* server.token()
      const issuer = `http://127.0.0.1:${server.port}`
      const as = {
        issuer,
        token_endpoint: `${issuer}/oauth/token`,
        device_authorization_endpoint: `${issuer}/oauth/device_authorization`
      }
      const client: OAuth.Client = { client_id: "oauth4webapi" }
      const options = { [OAuth.allowInsecureRequests]: true }
      const asked = yield* Effect.promise(async () =>
        OAuth.processDeviceAuthorizationResponse(
          as,
          client,
          await OAuth.deviceAuthorizationRequest(as, client, OAuth.None(), { scope: "runs:read" }, options)
        )
      )
      const exchange = Effect.promise(async () =>
        OAuth.processDeviceCodeResponse(
          as,
          client,
          await OAuth.deviceCodeGrantRequest(as, client, OAuth.None(), asked.device_code, options)
        ).catch((error: unknown) => error instanceof OAuth.ResponseBodyError ? error.error : String(error))
      )
      assert.strictEqual(yield* exchange, "authorization_pending")
      yield* decide(server, owner, asked.user_code, "approve")
      const token = yield* exchange
      assert.deepInclude(token, { token_type: "bearer", scope: "runs:read" })

      const config = yield* Effect.promise(() =>
        OpenId.discovery(new URL(issuer), "openid-client", undefined, OpenId.None(), {
          algorithm: "oauth2",
          execute: [OpenId.allowInsecureRequests]
        })
      )
      const started = yield* Effect.promise(() =>
        OpenId.initiateDeviceAuthorization(config, { scope: "runs:read runs:operate" })
      )
      const polling = yield* Effect.forkChild(
        Effect.promise(() => OpenId.pollDeviceAuthorizationGrant(config, started)),
        { startImmediately: true }
      )
      yield* decide(server, owner, started.user_code, "approve", { scopes: ["runs:operate"] })
      assert.deepInclude(yield* Fiber.join(polling), { token_type: "bearer", scope: "runs:operate" })
    }))
})
