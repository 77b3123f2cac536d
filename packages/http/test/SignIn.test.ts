import { assert, describe, it } from "@effect/vitest"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as TrustedProxies from "@sallyport/http/TrustedProxies"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as OAuth from "oauth4webapi"
import { type Answer, assertError, bearer, type Request, type Server, start } from "./support.ts"
import { ago } from "../../../test-support/clock.ts"

const form = { "content-type": "application/x-www-form-urlencoded" }

const tokenRequest = (parameters: Record<string, string>, headers: Record<string, string> = {}): Request => ({
  path: "/oauth/token",
  headers: { ...form, ...headers },
  body: new URLSearchParams(parameters).toString()
})

const exchange = (code: string, headers?: Record<string, string>) =>
  tokenRequest({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
    subject_token: code
  }, headers)

const bootstrap = (code: string, headers: Record<string, string> = {}): Request => ({
  path: "/api/auth/bootstrap",
  headers,
  body: { credential: code }
})

const refreshWith = (refreshToken: string, parameters: Record<string, string> = {}) =>
  tokenRequest({ grant_type: "refresh_token", refresh_token: refreshToken, ...parameters })

const wrongCode = Effect.map(PairingCode.generate("device"), Redacted.value).pipe(Effect.provide(NodeCrypto.layer))

const oauthError = (answer: Answer) => [answer.status, answer.json.error]

const limits = { attempts: { perSource: { limit: 3, window: "1 minute" } } } as const

const believing = (...networks: ReadonlyArray<string>) =>
  Layer.merge(Sallyport.layer(), TrustedProxies.layer(networks.map((text) => IpNetwork.fromStringUnsafe(text))))

describe("codes as people enter them", () => {
  it.live("BOOT-13 C-04: full-width, with other dashes, invisible characters or as the whole address, let in", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const forms: ReadonlyArray<(code: string) => string> = [
        (code) => code.replaceAll("-", "\u2013"),
        (code) => `${code.slice(0, 6)}\u200b${code.slice(6)}`,
        (code) => Array.from(code, (char) => String.fromCodePoint(char.charCodeAt(0) + 0xfee0)).join(""),
        (code) => `http://127.0.0.1:${server.port}/pair#token=${code}`
      ]
      for (const form of forms) {
        for (const request of [bootstrap, exchange]) {
          const answer = yield* server.send(request(form(yield* server.code())))
          assert.strictEqual(answer.status, 200, answer.text)
        }
      }
    }))
})

describe("attempts that are made again", () => {
  it.live("BOOT-10 C-31: the same attempt gets the same session, another one is told that the code was used", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const code = yield* server.code()
      const attempt = (attemptKey: string): Request => ({
        path: "/api/auth/bootstrap",
        body: { credential: code, attemptKey }
      })
      const [first, second] = [yield* server.send(attempt("a".repeat(16))), yield* server.send(attempt("a".repeat(16)))]
      assert.deepStrictEqual([first.status, second.status], [200, 200])
      assert.deepStrictEqual(second.json.session, first.json.session)
      assert.deepStrictEqual(second.headers["set-cookie"], first.headers["set-cookie"])
      assertError(yield* server.send(attempt("b".repeat(16))), {
        status: 401,
        tag: "Unauthorized",
        code: "invalid_credential"
      })
      assertError(yield* server.send(attempt("short")), {
        status: 400,
        tag: "InvalidRequest",
        code: "invalid_request"
      })
      assert.strictEqual((yield* Effect.orDie(server.sessions.list())).length, 1)
    }))

  it.live("BOOT-10 C-30: a store that fails costs no code", () =>
    Effect.gen(function*() {
      const server = yield* start()
      for (const request of [bootstrap, exchange]) {
        const code = yield* server.code()
        server.probe.failing.add("links.redeem")
        assert.strictEqual((yield* server.send(request(code))).status, 503)
        server.probe.failing.clear()
        assert.strictEqual((yield* server.send(request(code))).status, 200)
      }
    }))

  it.live("SESS-20 C-45: a browser that pairs again has one session", () =>
    Effect.gen(function*() {
      const server = yield* start()
      let cookie: string | undefined
      for (let time = 0; time < 4; time++) {
        const answer = yield* server.send(bootstrap(yield* server.code(), cookie === undefined ? {} : { cookie }))
        assert.strictEqual(answer.status, 200, answer.text)
        cookie = String(answer.headers["set-cookie"]?.[0]).replace(/;.*/, "")
      }
      assert.strictEqual((yield* Effect.orDie(server.sessions.list())).length, 1)
    }))
})

describe("wrong codes", () => {
  it.live("BOOT-06: are answered 429 with Retry-After at both endpoints, whatever is sent then", () =>
    Effect.gen(function*() {
      const server = yield* start({ links: limits })
      for (const request of [bootstrap, exchange, bootstrap]) {
        const answer = yield* server.send(request(yield* wrongCode))
        assert.isTrue(answer.status === 401 || answer.status === 400, answer.text)
      }
      const good = yield* server.code()
      for (const code of [yield* wrongCode, yield* wrongCode]) {
        const cookie = yield* server.send(bootstrap(code))
        assertError(cookie, { status: 429, tag: "TooManyRequests", code: "rate_limited", retryable: true })
        const token = yield* server.send(exchange(code))
        assert.deepStrictEqual(oauthError(token), [429, "temporarily_unavailable"])
        assert.strictEqual(token.json.code, "rate_limited")
        for (const answer of [cookie, token]) {
          const seconds = Number(answer.headers["retry-after"])
          assert.isTrue(Number.isInteger(seconds) && seconds > 0 && seconds <= 60, String(seconds))
          assert.strictEqual(answer.json["retryAfterSeconds"] ?? answer.json["retry_after_seconds"], seconds)
          assert.strictEqual(answer.headers["cache-control"], "no-store")
        }
      }
      // Who is signed in is not touched by it, nor is a right code.
      const token = yield* server.token()
      assert.strictEqual((yield* server.send({ path: "/api/auth/sessions", headers: bearer(token) })).status, 200)
      assert.strictEqual((yield* server.send(bootstrap(good))).status, 200)
    }))

  it.live("BOOT-06: a typing error is a 400 of its own, and any number of them are no attempt", () =>
    Effect.gen(function*() {
      const server = yield* start({ links: limits })
      for (let attempt = 0; attempt < 10; attempt++) {
        const answer = yield* server.send(bootstrap("7777-7777-7777-7778"))
        assertError(answer, { status: 400, tag: "InvalidRequest", code: "malformed_code" })
      }
      assert.strictEqual((yield* server.send(bootstrap(yield* server.code()))).status, 200)
    }))
})

describe("proxies", () => {
  const address = (server: Server, headers: Record<string, string>) =>
    Effect.gen(function*() {
      const answer = yield* server.send(bootstrap(yield* server.code(), headers))
      assert.strictEqual(answer.status, 200, answer.text)
      const { device } = Object(answer.json.session)
      return device.address
    })

  it.live("HTTP-03: what they forward counts for nothing unless the host believes them", () =>
    Effect.gen(function*() {
      const forwarded = {
        "x-forwarded-for": "198.51.100.7",
        "x-real-ip": "198.51.100.8",
        forwarded: "for=198.51.100.9"
      }
      for (const routes of [undefined, believing("10.0.0.0/8", "::1/128")]) {
        const server = yield* start({ routes, links: limits })
        assert.strictEqual(yield* address(server, forwarded), "127.0.0.1")
        // So no caller gets more attempts by making addresses up.
        for (let attempt = 0; attempt < 3; attempt++) {
          yield* server.send(bootstrap(yield* wrongCode, { "x-forwarded-for": `198.51.100.${attempt}` }))
        }
        const answer = yield* server.send(bootstrap(yield* wrongCode, { "x-forwarded-for": "198.51.100.99" }))
        assert.strictEqual(answer.status, 429)
      }
    }))

  it.live("HTTP-03: behind one that is believed, a session has the client's address, and each client attempts of its own", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: believing("127.0.0.0/8", "10.0.0.0/8"), links: limits })
      const of = (text: string) => ({ "x-forwarded-for": text })
      assert.strictEqual(yield* address(server, of("198.51.100.7")), "198.51.100.7")
      // What the client itself had written stands to the left of what the proxies have.
      assert.strictEqual(yield* address(server, of("6.6.6.6, 198.51.100.7, 10.1.2.3")), "198.51.100.7")
      assert.strictEqual(yield* address(server, of("2001:db8::1")), "2001:db8::1")
      assert.strictEqual(yield* address(server, of("unknown")), "127.0.0.1")
      assert.strictEqual(yield* address(server, {}), "127.0.0.1")

      const wrong = (client: string) =>
        Effect.flatMap(
          wrongCode,
          (code) => Effect.map(server.send(bootstrap(code, of(client))), ({ status }) => status)
        )
      for (let attempt = 0; attempt < 3; attempt++) {
        assert.strictEqual(yield* wrong(`6.6.6.${attempt}, 198.51.100.7`), 401)
      }
      assert.strictEqual(yield* wrong("6.6.6.9, 198.51.100.7"), 429)
      assert.strictEqual(yield* wrong("198.51.100.8"), 401)
      // All of an IPv6 network of 64 bits is one client, and so is an address in either of its forms.
      for (let attempt = 0; attempt < 3; attempt++) assert.strictEqual(yield* wrong(`2001:db8:0:1::${attempt}`), 401)
      assert.strictEqual(yield* wrong("2001:db8:0:1:ffff::1"), 429)
      assert.strictEqual(yield* wrong("2001:db8:0:2::1"), 401)
      assert.strictEqual(yield* wrong("::ffff:198.51.100.7"), 429)
    }))

  it.live("HTTP-03: the host that a page must be of is the forwarded one only where the proxy is believed", () =>
    Effect.gen(function*() {
      const headers = {
        origin: "https://app.example",
        "x-forwarded-for": "198.51.100.7",
        "x-forwarded-host": "app.example",
        "x-forwarded-proto": "https"
      }
      const attempt = Effect.fnUntraced(function*(server: Server) {
        return (yield* server.send(bootstrap(yield* server.code(), headers)))
      })
      const doubting = yield* start({ policy: "remote-reachable" })
      assertError(yield* attempt(doubting), { status: 403, tag: "Forbidden", code: "cross_origin" })
      const server = yield* start({ policy: "remote-reachable", routes: believing("127.0.0.1/32") })
      assert.strictEqual((yield* attempt(server)).status, 200)
      // The cookie is set under the name under which it is looked for.
      const local = yield* start({ routes: believing("127.0.0.1/32") })
      const host = { "x-forwarded-for": "198.51.100.7", "x-forwarded-host": "localhost:8080" }
      const answer = yield* local.send(bootstrap(yield* local.code(), host))
      const [cookie = ""] = answer.headers["set-cookie"] ?? []
      assert.match(cookie, /^sallyport_session_8080=/)
      const state = yield* local.send({
        path: "/api/auth/session",
        headers: { ...host, cookie: cookie.split(";", 1).join("") }
      })
      assert.strictEqual(state.json.authenticated, true)
    }))

  it("HTTP-03: are given as addresses or networks", () => {
    for (
      const [text, network] of [
        ["10.1.2.3", "10.1.2.3/32"],
        ["10.0.0.0/8", "10.0.0.0/8"],
        ["::1", "::1/128"],
        ["fd00::/8", "fd00::/8"]
      ] as const
    ) assert.strictEqual(IpNetwork.format(Result.getOrThrow(TrustedProxies.parse(text))), network)
    for (const text of ["", "proxy", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", "10.0.0.0/8,::1", "*", "0.0.0.0/-1"]) {
      const parsed = TrustedProxies.parse(text)
      assert.isTrue(Result.isFailure(parsed), text)
      if (Result.isFailure(parsed)) assert.include(parsed.failure.message, JSON.stringify(text))
    }
  })
})

describe("refresh tokens", () => {
  const sessions = { refresh: { tokenLifetime: "10 minutes" } } as const

  it.live("SESS-04: come with a bearer token, and give the next pair once, or the same pair to two tabs at once", () =>
    Effect.gen(function*() {
      const server = yield* start({ sessions })
      const first = yield* server.send(exchange(yield* server.code()))
      assert.strictEqual(first.status, 200, first.text)
      assert.isAtLeast(Number(first.json.expires_in), 590)
      assert.isAtMost(Number(first.json.expires_in), 600)
      const answers = yield* Effect.all(
        Array.from({ length: 5 }, () => server.send(refreshWith(String(first.json.refresh_token)))),
        { concurrency: "unbounded" }
      )
      for (const answer of answers) {
        assert.strictEqual(answer.status, 200, answer.text)
        assert.strictEqual(answer.json.access_token, answers[0]?.json.access_token)
        assert.strictEqual(answer.json.refresh_token, answers[0]?.json.refresh_token)
        assert.notStrictEqual(answer.json.access_token, first.json.access_token)
        assert.strictEqual(answer.json.token_type, "Bearer")
        assert.strictEqual(answer.headers["cache-control"], "no-store")
      }
      const get = (token: unknown) =>
        Effect.map(
          server.send({ path: "/api/auth/sessions", headers: bearer(String(token)) }),
          ({ status }) => status
        )
      assert.strictEqual(yield* get(first.json.access_token), 401)
      assert.strictEqual(yield* get(answers[0]?.json.access_token), 200)
      assert.strictEqual(yield* get(answers[0]?.json.refresh_token), 401)
    }))

  it.live("SESS-04: one that was used up ends the session; the caller learns no more than that it is no good", () =>
    Effect.gen(function*() {
      const server = yield* start({ sessions: { refresh: { tokenLifetime: "10 minutes", graceWindow: 1 } } })
      const first = yield* server.send(exchange(yield* server.code()))
      const second = yield* server.send(refreshWith(String(first.json.refresh_token)))
      assert.strictEqual(second.status, 200)
      // Two exchanges ago, so that no grace window is waited for.
      const third = yield* server.send(refreshWith(String(second.json.refresh_token)))
      const reused = yield* server.send(refreshWith(String(first.json.refresh_token)))
      const ended = yield* server.send(refreshWith(String(third.json.refresh_token)))
      const unknown = yield* server.send(refreshWith("nonsense"))
      for (const answer of [reused, ended, unknown]) {
        assert.deepStrictEqual(oauthError(answer), [400, "invalid_grant"])
        assert.strictEqual(answer.json.error_description, unknown.json.error_description)
        assert.notInclude(answer.text, String(first.json.refresh_token))
      }
      const request = { path: "/api/auth/sessions", headers: bearer(String(third.json.access_token)) }
      assert.strictEqual((yield* server.send(request)).status, 401)
      assert.isTrue(server.logged.some((line) => line.includes("used again")))
      for (const line of server.logged) assert.notInclude(line, String(first.json.refresh_token))
    }))

  it.live("SESS-04: a request without one, for more than the session has, or where there are none, is told so", () =>
    Effect.gen(function*() {
      const server = yield* start({ sessions })
      const code = yield* server.code({ scopes: ["runs:read"] })
      const first = yield* server.send(exchange(code))
      const token = String(first.json.refresh_token)
      assert.deepStrictEqual(
        oauthError(yield* server.send(tokenRequest({ grant_type: "refresh_token" }))),
        [400, "invalid_request"]
      )
      assert.deepStrictEqual(oauthError(yield* server.send(refreshWith(""))), [400, "invalid_request"])
      assert.deepStrictEqual(
        oauthError(yield* server.send(refreshWith(token, { scope: "nonsense" }))),
        [400, "invalid_scope"]
      )
      assert.deepStrictEqual(
        oauthError(yield* server.send(refreshWith(token, { scope: "runs:read access:write" }))),
        [400, "invalid_scope"]
      )
      const narrower = yield* server.send(refreshWith(token, { scope: "runs:read" }))
      assert.strictEqual(narrower.json.scope, "runs:read", narrower.text)
      server.probe.failing.add("sessions.refresh")
      const away = yield* server.send(refreshWith(String(narrower.json.refresh_token)))
      assert.deepStrictEqual(oauthError(away), [503, "temporarily_unavailable"])

      const without = yield* start()
      const plain = yield* without.send(exchange(yield* without.code()))
      assert.isUndefined(plain.json.refresh_token)
      assert.deepStrictEqual(oauthError(yield* without.send(refreshWith(token))), [400, "invalid_grant"])
    }))

  it.live("SESS-04: an independent OAuth client refreshes with them", () =>
    Effect.gen(function*() {
      const server = yield* start({ sessions })
      const issuer = `http://127.0.0.1:${server.port}`
      const as: OAuth.AuthorizationServer = { issuer, token_endpoint: `${issuer}/oauth/token` }
      const client: OAuth.Client = { client_id: "tests" }
      const options = { [OAuth.allowInsecureRequests]: true }
      const first = yield* server.send(exchange(yield* server.code()))
      let token = String(first.json.refresh_token)
      for (let round = 0; round < 3; round++) {
        const answer = yield* Effect.promise(async () =>
          OAuth.processRefreshTokenResponse(
            as,
            client,
            await OAuth.refreshTokenGrantRequest(as, client, OAuth.None(), token, options)
          )
        )
        assert.strictEqual(answer.token_type, "bearer")
        assert.notStrictEqual(answer.refresh_token, token)
        token = answer.refresh_token ?? ""
      }
    }))
})

describe("the policy in force", () => {
  const under = (policy: Partial<AuthPolicy.Descriptor>) =>
    start({
      routes: Layer.provide(
        Sallyport.layer(),
        Layer.effect(
          AuthPolicy.AuthPolicy,
          Effect.map(Effect.orDie(AuthPolicy.make({ host: "127.0.0.1" })), (made) => ({ ...made, ...policy }))
        )
      )
    })

  it.live("AUTH-01: session methods that are not listed are not issued, and no code is used up for one", () =>
    Effect.gen(function*() {
      const tokens = yield* under({ sessionMethods: ["bearer-access-token"] })
      const code = yield* tokens.code()
      assertError(yield* tokens.send(bootstrap(code)), { status: 403, tag: "Forbidden", code: "method_not_offered" })
      assert.strictEqual((yield* tokens.send(exchange(code))).status, 200)

      const cookies = yield* under({ sessionMethods: ["browser-session-cookie"] })
      const other = yield* cookies.code()
      assert.deepStrictEqual(oauthError(yield* cookies.send(exchange(other))), [400, "invalid_request"])
      assert.strictEqual((yield* cookies.send(bootstrap(other))).status, 200)
    }))

  it.live("AUTH-01: says what its owner calls it, before a first sign-in", () =>
    Effect.gen(function*() {
      for (const [policy, name] of [[{}, null], [{ name: "Ada’s server" }, "Ada’s server"]] as const) {
        const server = yield* under(policy)
        const answer = yield* server.send({ path: "/api/auth/session" })
        assert.deepStrictEqual([answer.status, Object(answer.json.policy).name], [200, name])
      }
    }))

  it.live("AUTH-01: ways in that are not listed lead nowhere", () =>
    Effect.gen(function*() {
      const seeded = "c2VlZGVkLWJ5LXRoZS1kZXNrdG9w"
      const pairing = yield* under({ bootstrapMethods: ["pairing-link"] })
      const desktop = yield* under({ bootstrapMethods: ["seeded-credential"] })
      for (const server of [pairing, desktop]) {
        yield* server.links.seed({ credential: Redacted.make(seeded), scopes: ["runs:read"], ready: Effect.void })
      }
      assert.strictEqual((yield* pairing.send(bootstrap(seeded))).status, 401)
      assert.strictEqual((yield* pairing.send(bootstrap(yield* pairing.code()))).status, 200)
      assert.strictEqual((yield* desktop.send(bootstrap(yield* desktop.code()))).status, 401)
      assert.strictEqual((yield* desktop.send(bootstrap(seeded))).status, 200)
    }))
})

describe("what stops a client", () => {
  it.live("L-17: has a status and a code of its own, whichever it is, and says whether to try again", () =>
    Effect.gen(function*() {
      const server = yield* start({ links: limits })
      const list = (headers: Record<string, string>) => server.send({ path: "/api/auth/sessions", headers })
      const verdict = ({ json, status }: Answer) => `${status} ${json.code} ${json.retryable}`
      const narrow = yield* server.token({ scopes: ["runs:read"] })
      const verdicts = new Map<string, string>()
      verdicts.set("no session", verdict(yield* list({})))
      verdicts.set("a scope too few", verdict(yield* list(bearer(narrow))))
      verdicts.set(
        "another site",
        verdict(yield* server.send(bootstrap(yield* server.code(), { origin: "https://evil.example" })))
      )
      verdicts.set("a wrong code", verdict(yield* server.send(bootstrap(yield* wrongCode))))
      yield* server.send(bootstrap(yield* wrongCode))
      yield* server.send(bootstrap(yield* wrongCode))
      verdicts.set("too many of them", verdict(yield* server.send(bootstrap(yield* wrongCode))))
      server.probe.failing.add("sessions.findByTokenDigest")
      verdicts.set("a store that is away", verdict(yield* list(bearer(yield* server.token()))))
      server.probe.failing.clear()
      verdicts.set("an expired session", verdict(yield* list(bearer(yield* server.token().pipe(ago("31 days"))))))
      assert.deepStrictEqual(Object.fromEntries(verdicts), {
        "no session": "401 unauthorized false",
        "a scope too few": "403 scope_required false",
        "another site": "403 cross_origin false",
        "a wrong code": "401 invalid_credential false",
        "too many of them": "429 rate_limited true",
        "a store that is away": "503 unavailable true",
        "an expired session": "401 unauthorized false"
      })
    }))
})
