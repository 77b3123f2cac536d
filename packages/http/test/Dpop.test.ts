import { assert, describe, it } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Jose from "jose"
import * as OAuth from "oauth4webapi"
import { type Kit, sections } from "./badInput.ts"
import {
  claimsOf,
  code,
  type DpopServer,
  generate,
  headerOf,
  type Json,
  type Key,
  prove,
  signingKey,
  start,
  token
} from "./dpopSupport.ts"

const tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
const bootstrapTokenType = "urn:sallyport:token-type:bootstrap-credential"

const form = (pairingCode: string): string =>
  new URLSearchParams({
    grant_type: tokenExchange,
    subject_token: pairingCode,
    subject_token_type: bootstrapTokenType
  }).toString()

/** Makes the header `DPoP` for a request to a server as it is reached. */
const proofFor = (server: DpopServer, key: Key, request: {
  readonly method: string
  readonly path: string
  readonly token?: string | undefined
  readonly claims?: Json
}): string =>
  prove(key, headerOf(key), {
    ...claimsOf({
      method: request.method,
      url: `${server.origin}${request.path}`,
      nowMillis: server.nowMillis(),
      token: request.token
    }),
    ...request.claims
  })

/** Asks for a token, with whatever `DPoP` header is given. */
const exchange = (server: DpopServer, pairingCode: string, dpop?: string) =>
  server.send({
    method: "POST",
    path: "/oauth/token",
    headers: { "content-type": "application/x-www-form-urlencoded", ...(dpop === undefined ? {} : { dpop }) },
    body: form(pairingCode)
  })

/** Sends a request with a bound token and a proof for it. */
const ask = (server: DpopServer, key: Key, bound: string, request: {
  readonly method?: string
  readonly path: string
  readonly body?: unknown
  readonly claims?: Json
}) =>
  server.send({
    ...request,
    headers: {
      authorization: `DPoP ${bound}`,
      dpop: proofFor(server, key, { method: "GET", token: bound, ...request }),
      ...(request.body === undefined ? {} : { "content-type": "application/json" })
    }
  })

const Ticket = Schema.Struct({ ticket: Schema.String })

/** Opens a socket with the platform's own client, and returns the first message, or that there was none. */
const firstMessage = (url: string) =>
  Effect.callback<string>((resume) => {
    const socket = new WebSocket(url)
    socket.addEventListener("message", (event) => {
      socket.close()
      resume(Effect.succeed(String(event.data)))
    })
    socket.addEventListener("error", () => resume(Effect.succeed("refused")))
    return Effect.sync(() => socket.close())
  })

describe("the token endpoint", () => {
  it.live("SESS-07 SESS-10: binds the token to the key of the proof, and issues a bearer token where none comes", () =>
    Effect.gen(function*() {
      const server = yield* start()
      for (const alg of ["ES256", "ES384", "EdDSA"] as const) {
        const key = generate(alg)
        const answer = yield* exchange(
          server,
          yield* code(server),
          proofFor(server, key, { method: "POST", path: "/oauth/token" })
        )
        assert.strictEqual(answer.status, 200, answer.text)
        assert.strictEqual(answer.json.token_type, "DPoP")
        const who = yield* ask(server, key, String(answer.json.access_token), { path: "/whoami" })
        assert.deepStrictEqual(who.json, {
          subject: "owner",
          method: "dpop-access-token",
          proofKeyThumbprint: key.thumbprint
        })
      }
      const plain = yield* exchange(server, yield* code(server))
      assert.strictEqual(plain.json.token_type, "Bearer")
      const who = yield* server.send({
        path: "/whoami",
        headers: { authorization: `Bearer ${String(plain.json.access_token)}` }
      })
      assert.deepStrictEqual(who.json, { subject: "owner", method: "bearer-access-token", proofKeyThumbprint: null })
    }))

  it.live("refuses a wrong or spent proof without using the code up, and answers with the server's time", () =>
    Effect.gen(function*() {
      const server = yield* start({ frozen: true })
      const key = generate()
      const pairingCode = yield* code(server)
      const request = { method: "POST", path: "/oauth/token" }
      const spent = proofFor(server, key, request)
      assert.strictEqual((yield* exchange(server, yield* code(server), spent)).status, 200)
      const iat = server.nowMillis() / 1000
      const wrong = [
        "",
        "x",
        spent,
        proofFor(server, key, { ...request, path: "/oauth/other" }),
        proofFor(server, key, { ...request, claims: { iat: iat - 3_600 } }),
        proofFor(server, key, { ...request, claims: { iat: iat + 3_600 } })
      ]
      for (const dpop of wrong) {
        const answer = yield* exchange(server, pairingCode, dpop)
        assert.strictEqual(answer.status, 400, answer.text)
        assert.strictEqual(answer.json.error, "invalid_dpop_proof")
        assert.strictEqual(answer.json.server_time_seconds, Math.floor(server.nowMillis() / 1000))
        assert.isNotNaN(Date.parse(String(answer.headers.date)))
        assert.strictEqual(answer.headers["cache-control"], "no-store")
      }
      assert.strictEqual((yield* exchange(server, pairingCode, proofFor(server, key, request))).status, 200)
    }))

  it.live("SESS-10: a client whose clock is wrong mends it by the server's time", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const key = generate()
      server.advance(-86_400_000)
      const pairingCode = yield* code(server)
      const request = { method: "POST", path: "/oauth/token" }
      const late = yield* exchange(
        server,
        pairingCode,
        proofFor(server, key, { ...request, claims: { iat: Date.now() / 1000 } })
      )
      assert.strictEqual(late.json.error, "invalid_dpop_proof")
      const mended = proofFor(server, key, { ...request, claims: { iat: late.json.server_time_seconds } })
      assert.strictEqual((yield* exchange(server, pairingCode, mended)).status, 200)
    }))

  it.live("lets a link that is bound to a key be redeemed with that key alone, and loses no use to others", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = generate()
      const issued = yield* ask(server, owner, yield* token(server, owner.thumbprint), {
        method: "POST",
        path: "/api/auth/pairing-links",
        body: { proofKeyThumbprint: generate().thumbprint }
      })
      assert.strictEqual(issued.status, 201, issued.text)
      const key = generate()
      const pairingCode = yield* code(server, key.thumbprint)
      const request = { method: "POST", path: "/oauth/token" }
      const refused = [
        yield* exchange(server, pairingCode),
        yield* exchange(server, pairingCode, proofFor(server, generate(), request)),
        yield* exchange(server, String(issued.json.code), proofFor(server, key, request))
      ]
      for (const answer of refused) assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_grant"])
      const cookie = yield* server.send({ path: "/api/auth/bootstrap", body: { credential: pairingCode } })
      assert.strictEqual(cookie.status, 401)
      const granted = yield* exchange(server, pairingCode, proofFor(server, key, request))
      assert.deepStrictEqual([granted.status, granted.json.token_type], [200, "DPoP"])
      const malformed = yield* ask(server, owner, yield* token(server, owner.thumbprint), {
        method: "POST",
        path: "/api/auth/pairing-links",
        body: { proofKeyThumbprint: "not a thumbprint" }
      })
      assert.strictEqual(malformed.status, 400)
    }))

  it.live("takes no proof where the host has not asked for it, and ignores none", () =>
    Effect.gen(function*() {
      const without = [yield* start({ dpop: "none" }), yield* start({ policy: "remote-reachable" })]
      for (const server of without) {
        const key = generate()
        const pairingCode = yield* code(server)
        const answer = yield* exchange(
          server,
          pairingCode,
          proofFor(server, key, { method: "POST", path: "/oauth/token" })
        )
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"])
        const bound = yield* token(server, key.thumbprint)
        const refused = yield* ask(server, key, bound, { path: "/whoami" })
        assert.deepStrictEqual([refused.status, refused.json.code], [401, "unauthorized"])
        const state = yield* server.send({ path: "/api/auth/session" })
        assert.notInclude(JSON.stringify(state.json.policy), "dpop-access-token")
        assert.strictEqual((yield* exchange(server, pairingCode)).json.token_type, "Bearer")
      }
      const server = yield* start()
      assert.include((yield* server.send({ path: "/api/auth/session" })).text, "dpop-access-token")
      const open = yield* server.send({ path: "/whoami" })
      assert.strictEqual(
        open.headers["www-authenticate"],
        "Bearer realm=\"sallyport\", DPoP realm=\"sallyport\", algs=\"ES256 ES384 EdDSA Ed25519\""
      )
    }))
})

describe("a bound session", () => {
  it.live("SESS-09 L-20: gets a ticket with a proof only, which opens one socket that keeps the key", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const key = generate()
      const bound = yield* token(server, key.thumbprint)
      const path = "/api/auth/websocket-ticket"
      for (const authorization of [`DPoP ${bound}`, `Bearer ${bound}`]) {
        assert.strictEqual((yield* server.send({ method: "POST", path, headers: { authorization } })).status, 401)
      }
      const issued = yield* ask(server, key, bound, { method: "POST", path })
      const { ticket } = yield* Effect.orDie(Schema.decodeUnknownEffect(Ticket)(issued.json))
      assert.strictEqual((yield* server.send({ path: `/whoami?ticket=${ticket}` })).status, 401)
      const url = `ws://127.0.0.1:${server.port}/socket?ticket=${ticket}`
      assert.deepStrictEqual(JSON.parse(yield* firstMessage(url)), {
        method: "dpop-access-token",
        proofKeyThumbprint: key.thumbprint
      })
      assert.strictEqual(yield* firstMessage(url), "refused")

      const unused = yield* ask(server, key, bound, { method: "POST", path })
      yield* Effect.orDie(server.sessions.revokeByProofKey(key.thumbprint, "operator"))
      assert.strictEqual(
        yield* firstMessage(`ws://127.0.0.1:${server.port}/socket?ticket=${String(unused.json.ticket)}`),
        "refused"
      )
      assert.strictEqual((yield* ask(server, key, bound, { path: "/whoami" })).status, 401)
    }))

  it.live("is let in to each resource with a proof for it, and logs out with one", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const key = generate()
      const bound = yield* token(server, key.thumbprint)
      assert.strictEqual((yield* ask(server, key, bound, { path: "/api/auth/sessions?a=b" })).status, 200)
      const state = yield* ask(server, key, bound, { path: "/api/auth/session" })
      assert.strictEqual(state.json.authenticated, true)
      assert.strictEqual((yield* ask(server, key, bound, { method: "POST", path: "/api/auth/logout" })).status, 204)
      const after = yield* ask(server, key, bound, { path: "/api/auth/session" })
      assert.deepStrictEqual([after.status, after.json.code], [401, "unauthorized"])
      assert.match(String(after.headers["www-authenticate"]), /^DPoP .*error="invalid_token"/)
    }))

  it.live("SESS-10: of 32 requests with one proof exactly one is let in", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const key = generate()
      const bound = yield* token(server, key.thumbprint)
      const headers = {
        authorization: `DPoP ${bound}`,
        dpop: proofFor(server, key, { method: "GET", path: "/whoami", token: bound })
      }
      const answers = yield* Effect.all(
        Array.from({ length: 32 }, () => server.send({ path: "/whoami", headers })),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(answers.filter(({ status }) => status === 200).length, 1)
      assert.strictEqual(answers.filter(({ json }) => json.code === "invalid_dpop_proof").length, 31)
    }))

  it.live("names the public address with its path, whatever Host a request has", () =>
    Effect.gen(function*() {
      const server = yield* start({
        policy: "remote-reachable",
        publicUrl: new URL("https://sallyport.example/base/"),
        prefix: "/mounted"
      })
      const key = generate()
      const bound = yield* token(server, key.thumbprint)
      const path = "/mounted/api/auth/sessions"
      const send = (htu: string, host: string) =>
        server.send({
          path,
          headers: {
            host,
            authorization: `DPoP ${bound}`,
            dpop: proofFor(server, key, { method: "GET", path, token: bound, claims: { htu } })
          }
        })
      const good = `https://sallyport.example/base${path}`
      assert.strictEqual((yield* send(good, "10.0.0.7:8080")).status, 200)
      assert.strictEqual((yield* send(good, "sallyport.example")).status, 200)
      assert.strictEqual((yield* send(`https://evil.example/base${path}`, "evil.example")).status, 401)
      assert.strictEqual((yield* send(`https://sallyport.example${path}`, "sallyport.example")).status, 401)
    }))

  it.live("is not let in, nor is a code used up, while the store of spent proofs does not answer", () =>
    Effect.gen(function*() {
      let failing = true
      const failure = Effect.fail(
        new RepositoryError({
          operation: "spend",
          reason: "Failed",
          outcome: "unchanged",
          cause: new Error("/var/lib/secret")
        })
      )
      const replays = Layer.succeed(
        ReplayRepository,
        ReplayRepository.of({
          spend: () => Effect.suspend(() => failing ? failure : Effect.succeed(true)),
          sweep: () => Effect.succeed(0)
        })
      )
      const server = yield* start({ replays })
      const key = generate()
      const bound = yield* token(server, key.thumbprint)
      const pairingCode = yield* code(server)
      const exchanged = () =>
        exchange(server, pairingCode, proofFor(server, key, { method: "POST", path: "/oauth/token" }))
      const refused = yield* ask(server, key, bound, { path: "/whoami" })
      assert.deepStrictEqual([refused.status, refused.json.code, refused.json.retryable], [503, "unavailable", true])
      assert.notInclude(refused.text, "secret")
      const postponed = yield* exchanged()
      assert.deepStrictEqual([postponed.status, postponed.json.error], [503, "temporarily_unavailable"])
      failing = false
      assert.strictEqual((yield* ask(server, key, bound, { path: "/whoami" })).status, 200)
      assert.strictEqual((yield* exchanged()).status, 200)
    }))

  it.live("BOOT-12 C-22: no proof is spent for a code that is none, is unknown or has ended, nor for a made-up refresh token", () =>
    Effect.gen(function*() {
      let spent = 0
      const replays = Layer.succeed(
        ReplayRepository,
        ReplayRepository.of({ spend: () => Effect.sync(() => ++spent > 0), sweep: () => Effect.succeed(0) })
      )
      const server = yield* start({ replays })
      const key = generate()
      const proof = () => proofFor(server, key, { method: "POST", path: "/oauth/token" })
      const used = yield* code(server)
      assert.strictEqual((yield* exchange(server, used, proof())).status, 200)
      assert.strictEqual(spent, 1)
      for (const wrong of ["x", "7777-7777-7777-7778", "an-unknown-seeded-credential"]) {
        for (let times = 0; times < 20; times++) {
          assert.isAtLeast((yield* exchange(server, wrong, proof())).status, 400)
        }
      }
      const another = generate()
      const stolen = proofFor(server, another, { method: "POST", path: "/oauth/token" })
      assert.isAtLeast((yield* exchange(server, used, stolen)).status, 400)
      const refreshed = yield* server.send({
        method: "POST",
        path: "/oauth/token",
        headers: { "content-type": "application/x-www-form-urlencoded", dpop: proof() },
        body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: "made.up.token" }).toString()
      })
      assert.strictEqual(refreshed.status, 400)
      assert.strictEqual(spent, 1)
      // The same key has the same attempt, which is answered again, and spends its proof.
      assert.strictEqual((yield* exchange(server, used, proof())).status, 200)
      assert.strictEqual(spent, 2)
    }))

  it.live("L-23: spends nothing for a caller without a live session, and keeps a digest of a jti alone", () =>
    Effect.gen(function*() {
      const spent: Array<string> = []
      const replays = Layer.succeed(
        ReplayRepository,
        ReplayRepository.of({
          spend: (spending) => Effect.sync(() => spent.push(`${spending.kind} ${spending.digest}`) > 0),
          sweep: () => Effect.succeed(0)
        })
      )
      const server = yield* start({ replays })
      const key = generate()
      const bound = yield* token(server, key.thumbprint)
      assert.strictEqual((yield* ask(server, key, `${bound}x`, { path: "/whoami" })).status, 401)
      assert.strictEqual((yield* ask(server, generate(), bound, { path: "/whoami" })).status, 401)
      assert.strictEqual((yield* ask(server, key, yield* token(server), { path: "/whoami" })).status, 401)
      assert.deepStrictEqual(spent, [])
      assert.strictEqual((yield* ask(server, key, bound, { path: "/whoami", claims: { jti: "../../x" } })).status, 200)
      assert.strictEqual(spent.length, 1)
      assert.match(String(spent[0]), /^dpop-jti [0-9a-f]{64}$/)
    }))
})

// -----------------------------------------------------------------------------
// Independent peers
// -----------------------------------------------------------------------------

/** Asks for a token and for a resource with oauth4webapi, which retries once if it is told a nonce. */
const throughOAuth4WebApi = Effect.fnUntraced(function*(server: DpopServer) {
  const pairingCode = yield* code(server)
  return yield* Effect.promise(async () => {
    const as = { issuer: server.origin, token_endpoint: `${server.origin}/oauth/token` }
    const client: OAuth.Client = { client_id: "device" }
    const keyPair = await OAuth.generateKeyPair("ES256")
    const DPoP = OAuth.DPoP(client, keyPair)
    const options = { DPoP, [OAuth.allowInsecureRequests]: true }
    const thumbprint = await Jose.calculateJwkThumbprint(await Jose.exportJWK(keyPair.publicKey))
    const parameters = { subject_token: pairingCode, subject_token_type: bootstrapTokenType, scope: "access:read" }

    let retries = 0
    const retrying = async <A>(attempt: () => Promise<A>): Promise<A> => {
      try {
        return await attempt()
      } catch (error) {
        if (!OAuth.isDPoPNonceError(error)) throw error
        retries++
        return await attempt()
      }
    }
    const granted = await retrying(async () =>
      OAuth.processGenericTokenEndpointResponse(
        as,
        client,
        await OAuth.genericTokenEndpointRequest(as, client, OAuth.None(), tokenExchange, parameters, options)
      )
    )
    assert.strictEqual(granted.token_type, "dpop")
    const responses: Array<Json> = []
    for (let count = 0; count < 3; count++) {
      const response = await retrying(() =>
        OAuth.protectedResourceRequest(
          granted.access_token,
          "GET",
          new URL("/whoami", server.origin),
          undefined,
          null,
          options
        )
      )
      responses.push(await response.json())
    }
    for (const response of responses) {
      assert.deepStrictEqual(response, {
        subject: "owner",
        method: "dpop-access-token",
        proofKeyThumbprint: thumbprint
      })
    }
    return retries
  })
})

describe("independent peers", () => {
  it.live("SESS-10: oauth4webapi gets a bound token and a resource with it", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* throughOAuth4WebApi(yield* start()), 0)
    }))

  it.live("SESS-10: oauth4webapi retries with the nonce that it is told, once", () =>
    Effect.gen(function*() {
      const server = yield* start({ dpop: { nonceLifetime: "365 days" } })
      assert.strictEqual(yield* throughOAuth4WebApi(server), 1)
    }))

  it.live("SESS-01: jose verifies a bound token with the exported key, and its proofs are taken", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const pairingCode = yield* code(server)
      const { bytes, kid } = yield* signingKey(server)
      yield* Effect.promise(async () => {
        for (const alg of ["ES256", "ES384", "Ed25519"]) {
          const { privateKey, publicKey } = await Jose.generateKeyPair(alg)
          const jwk = await Jose.exportJWK(publicKey)
          const thumbprint = await Jose.calculateJwkThumbprint(jwk)
          const bound = await Effect.runPromise(token(server, thumbprint))
          const { payload, protectedHeader } = await Jose.jwtVerify(bound, bytes, {
            algorithms: ["HS256"],
            typ: "sallyport-session+jwt"
          })
          assert.strictEqual(protectedHeader.kid, kid)
          assert.strictEqual(payload.sub, "owner")
          const { ath, htm, htu } = claimsOf({
            method: "GET",
            url: `${server.origin}/whoami`,
            nowMillis: 0,
            token: bound
          })
          const dpop = await new Jose.SignJWT({ ath, htm, htu })
            .setProtectedHeader({ typ: "dpop+jwt", alg, jwk })
            .setJti(crypto.randomUUID())
            .setIssuedAt()
            .sign(privateKey)
          const response = await fetch(`${server.origin}/whoami`, {
            headers: { authorization: `DPoP ${bound}`, dpop }
          })
          assert.strictEqual(response.status, 200)
          assert.deepInclude(await response.json(), { proofKeyThumbprint: thumbprint })
        }
      })
      assert.strictEqual((yield* exchange(server, pairingCode)).status, 200)
    }))

  it.live("SESS-10: oauth4webapi's check of a resource request comes to the table's verdicts", () =>
    Effect.gen(function*() {
      // Where it comes to another verdict, and why.
      const differing: Readonly<Record<string, string>> = {
        "an unused bit of the last character set": "it decodes leniently",
        "padded base64url": "it decodes leniently",
        "5,000 characters": "it has no bound",
        "`typ` `DPOP+JWT`": "it compares without regard to case",
        "`jku`": "it ignores the parameter",
        "`x5c`": "it ignores the parameter",
        "a byte order mark before the claims": "it drops the mark",
        "`jwk` with `use` `enc`": "it ignores the member",
        "`jwk` with `key_ops` without `verify`": "it ignores the member",
        "an empty `jti`": "any text",
        "a `jti` of 257 characters": "any length",
        "`htu` with a letter percent-encoded": "it does not decode what needs no encoding",
        "`htu` with backslashes": "it takes what a URL parser takes",
        "`htu` with a space before it": "it takes what a URL parser takes",
        "`exp` in the past": "30 seconds of tolerance",
        "`nbf` in the future": "30 seconds of tolerance",
        "`iat` 70 seconds ago": "300 seconds",
        "`iat` in 30 seconds": "300 seconds",
        "a proof for the second time": "left to the caller",
        "a spent `jti` in a newly signed proof": "left to the caller",
        "a spent proof with the other `s` of its signature": "left to the caller"
      }
      const server = yield* start({ policy: "remote-reachable", publicUrl: new URL("https://sallyport.example") })
      const [section] = sections
      const signer = yield* Effect.promise(() => OAuth.generateKeyPair("ES256", { extractable: true }))
      const publicJwk = yield* Effect.promise(() => Jose.exportJWK(signer.publicKey))
      const as = { issuer: "https://as.example", jwks_uri: "https://as.example/keys" }
      const key = generate()
      const issue = () =>
        Effect.promise(() =>
          new Jose.SignJWT({ client_id: "device", cnf: { jkt: key.thumbprint } })
            .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "as" })
            .setIssuer(as.issuer)
            .setAudience("sallyport")
            .setSubject("owner")
            .setJti(crypto.randomUUID())
            .setIssuedAt()
            .setExpirationTime("5 minutes")
            .sign(signer.privateKey)
        )
      const accessToken = yield* issue()
      const kit: Kit = {
        url: "https://sallyport.example/whoami",
        port: server.port,
        key,
        otherKey: generate(),
        p384: generate("ES384"),
        token: accessToken,
        otherToken: yield* issue(),
        bearerToken: "",
        nowMillis: server.nowMillis(),
        nonces: { current: "", previous: "", old: "" },
        signingKey: yield* signingKey(server)
      }
      const agrees = (headers: Headers) =>
        Effect.promise(() =>
          OAuth.validateJwtAccessToken(as, new Request(kit.url, { headers }), "sallyport", {
            requireDPoP: true,
            [OAuth.customFetch]: async () => Response.json({ keys: [{ ...publicJwk, kid: "as", alg: "ES256" }] })
          }).then(() => true, () => false)
        )
      const found: Array<string> = []
      for (const row of section?.rows ?? []) {
        const headers = new Headers()
        for (const [name, value] of Object.entries(row.craft({ ...kit, nowMillis: server.nowMillis() }).headers)) {
          for (const text of [value].flat()) headers.append(name, String(text))
        }
        if ((yield* agrees(headers)) !== (row.verdict === "accepted")) found.push(row.sent)
      }
      assert.deepStrictEqual(found.toSorted(), Object.keys(differing).toSorted())
    }))
})
