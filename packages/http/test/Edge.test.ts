import { assert, describe, it } from "@effect/vitest"
import * as Authentication from "@sallyport/http/Authentication"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as TrustedProxies from "@sallyport/http/TrustedProxies"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { assertError, bearer, type Request, type Server, start } from "./support.ts"

const crossOrigin = { status: 403, tag: "Forbidden", code: "cross_origin" }

const wrongCode = Effect.map(PairingCode.generate("device"), Redacted.value).pipe(Effect.provide(NodeCrypto.layer))

const bootstrap = (code: string, headers: Record<string, string> = {}): Request => ({
  path: "/api/auth/bootstrap",
  headers,
  body: { credential: code }
})

const exchange = (code: string, headers: Record<string, string> = {}): Request => ({
  path: "/oauth/token",
  headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
  body: new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
    subject_token: code
  }).toString()
})

const limits = {
  attempts: { perSource: { limit: 3, window: "1 minute" }, total: { limit: 5, window: "1 minute" } }
} as const

/** What a browser says of a page that is not one of the server. */
const foreign = (server: Server): ReadonlyArray<Record<string, string>> => [
  { origin: "https://evil.example" },
  { origin: "null" },
  { origin: `http://127.0.0.1:${server.port === 1 ? 2 : server.port - 1}` },
  { origin: `http://localhost:${server.port}` },
  { "sec-fetch-site": "cross-site" },
  { "sec-fetch-site": "same-site", origin: `http://127.0.0.1:${server.port === 1 ? 2 : server.port - 1}` },
  { "sec-fetch-site": "none" }
]

const proxies = (...networks: ReadonlyArray<string>) =>
  TrustedProxies.layer(networks.map((text) => Result.getOrThrow(TrustedProxies.parse(text))))

const addressOf = (server: Server, headers: Record<string, string>) =>
  Effect.gen(function*() {
    const answer = yield* server.send(bootstrap(yield* server.code(), headers))
    assert.strictEqual(answer.status, 200, answer.text)
    return Object(answer.json.session).device.address
  })

describe("pages of other origins", () => {
  it.live("HTTP-02 C-20: no code that they send counts or is spent, at either endpoint", () =>
    Effect.gen(function*() {
      const server = yield* start({ links: limits })
      const good = [yield* server.code(), yield* server.code()] as const
      for (const headers of foreign(server)) {
        for (const request of [bootstrap, exchange]) {
          for (const code of [yield* wrongCode, good[0]]) {
            assertError(yield* server.send(request(code, headers)), crossOrigin)
          }
        }
      }
      assert.isUndefined(server.probe.calls.get("links.consume"))
      assert.strictEqual((yield* server.send(bootstrap(good[0], { "sec-fetch-site": "same-origin" }))).status, 200)
      assert.strictEqual((yield* server.send(exchange(good[1]))).status, 200, "a program says nothing of pages")
    }))

  it.live("HTTP-02: change nothing without a credential either, whatever else is wrong with the request", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const posts = [
        "/api/auth/logout",
        "/api/auth/websocket-ticket",
        "/api/auth/pairing-links",
        "/api/runs",
        "/oauth/token",
        "/api/auth/bootstrap"
      ]
      for (const headers of foreign(server)) {
        for (const path of posts) {
          for (const body of ["", "{", "x".repeat(2_000_000)]) {
            const answer = yield* server.send({ path, body, headers: { "content-type": "text/plain", ...headers } })
            assert.strictEqual(answer.status, 403, `${path}: ${answer.text}`)
          }
        }
      }
    }))

  it.live("HTTP-02 HTTP-08 C-41: the page of the public URL is one of the server, and the same host without TLS is told why it is not", () =>
    Effect.gen(function*() {
      const server = yield* start({ publicUrl: "https://ide.example.com" })
      const origin = "https://ide.example.com"
      for (const host of [`127.0.0.1:${server.port}`, "ide.example.com", `localhost:${server.port}`]) {
        const signedIn = yield* server.send(bootstrap(yield* server.code(), { host, origin }))
        assert.strictEqual(signedIn.status, 200, `${host}: ${signedIn.text}`)
        const cookie = String(signedIn.headers["set-cookie"]?.[0]).replace(/;.*/, "")
        const out = yield* server.send({ method: "POST", path: "/api/auth/logout", headers: { host, origin, cookie } })
        assert.strictEqual(out.status, 204, out.text)
      }
      for (const wrong of ["https://ide.example.com:8443", "https://example.com", "https://x.ide.example.com"]) {
        assertError(yield* server.send(bootstrap(yield* wrongCode, { origin: wrong })), crossOrigin)
      }
      const insecure = yield* server.send(bootstrap(yield* wrongCode, { origin: "http://ide.example.com" }))
      assertError(insecure, crossOrigin)
      assert.match(String(insecure.json.message), /https:\/\/ide\.example\.com/)

      const remote = yield* start({ policy: "remote-reachable" })
      const lan = { host: `192.168.1.10:${remote.port}`, origin: `http://192.168.1.10:${remote.port}` }
      for (const request of [bootstrap, exchange]) {
        const answer = yield* remote.send(request(yield* remote.code(), lan))
        assertError(answer, crossOrigin)
        assert.match(String(answer.json.message), /https/)
        assert.notMatch(String(answer.json.message), /header/i)
      }
    }))
})

describe("the names of a server", () => {
  it.live("HTTP-07: on a loopback address are those of such addresses and its public URL's, on every route", () =>
    Effect.gen(function*() {
      const routes = Layer.merge(Sallyport.layer(), HttpRouter.add("GET", "/mine", HttpServerResponse.text("mine")))
      const server = yield* start({ routes, publicUrl: "https://ide.example.com" })
      const { port } = server
      const own = [
        `127.0.0.1:${port}`,
        `localhost:${port}`,
        `LOCALHOST:${port}`,
        `[::1]:${port}`,
        `[::ffff:127.0.0.1]:${port}`,
        "127.0.0.2",
        "ide.example.com",
        "ide.example.com:443"
      ]
      const others = [
        `evil.example:${port}`,
        `127.0.0.1.evil.example:${port}`,
        `localhost.evil.example`,
        "192.168.1.10",
        `x.ide.example.com`,
        `:${port}`
      ]
      for (const path of ["/mine", "/pair", "/api/auth/session", "/nowhere"]) {
        for (const host of own) {
          assert.notStrictEqual((yield* server.send({ path, headers: { host } })).status, 403, `${host}${path}`)
        }
        for (const host of others) assertError(yield* server.send({ path, headers: { host } }), crossOrigin)
      }
      const code = yield* server.code()
      // A page that has pointed its name here is of the same origin as far as its browser can see.
      const rebound = { host: `evil.example:${port}`, "sec-fetch-site": "same-origin" }
      assertError(yield* server.send(bootstrap(code, rebound)), crossOrigin)
      assert.strictEqual((yield* server.send(bootstrap(code))).status, 200)

      const remote = yield* start({ policy: "remote-reachable", publicUrl: "https://ide.example.com" })
      assert.strictEqual((yield* remote.send({ path: "/pair", headers: { host: "10.1.2.3" } })).status, 200)
    }))

  it.live("HTTP-03 HTTP-07: are not told by a page that writes a proxy's headers, in whichever order the layers come", () =>
    Effect.gen(function*() {
      for (
        const routes of [
          Layer.provideMerge(Sallyport.layer(), proxies("127.0.0.1")),
          Layer.provideMerge(proxies("127.0.0.1"), Sallyport.layer())
        ]
      ) {
        const server = yield* start({ routes })
        const headers = {
          host: `evil.example:${server.port}`,
          "x-forwarded-for": "127.0.0.1",
          "x-forwarded-host": `127.0.0.1:${server.port}`,
          "sec-fetch-site": "same-origin"
        }
        assertError(yield* server.send(bootstrap(yield* server.code(), headers)), crossOrigin)
        assertError(yield* server.send({ path: "/pair", headers }), crossOrigin)
      }
    }))
})

describe("addresses", () => {
  it.live("HTTP-03 C-42: a proxy that adds to the addresses and sets one host and protocol is believed", () =>
    Effect.gen(function*() {
      const server = yield* start({
        policy: "remote-reachable",
        routes: Layer.merge(Sallyport.layer(), proxies("127.0.0.0/8", "10.0.0.0/8"))
      })
      const forwarded = {
        "x-forwarded-for": "198.51.100.7, 10.1.2.3",
        "x-forwarded-host": "ide.example.com",
        "x-forwarded-proto": "https",
        origin: "https://ide.example.com"
      }
      assert.strictEqual(yield* addressOf(server, forwarded), "198.51.100.7")
      assert.strictEqual(
        yield* addressOf(server, { ...forwarded, "x-forwarded-host": "cdn.example.com, ide.example.com" }).pipe(
          Effect.catchDefect(() => Effect.succeed("refused"))
        ),
        "refused",
        "with a host for each address, that of the client's counts"
      )
      // A chain of proxies has some addresses. For thousands of them nothing is repeated, however long.
      const chain = (hops: number) => ({
        ...forwarded,
        "x-forwarded-for": `198.51.100.7${",10.1.2.3".repeat(hops)}`
      })
      assert.strictEqual(yield* addressOf(server, chain(20)), "198.51.100.7")
      assertError(yield* server.send(bootstrap(yield* server.code(), chain(1_000))), crossOrigin)
      // From elsewhere none of it counts.
      const strangers = yield* start({
        policy: "remote-reachable",
        routes: Layer.merge(Sallyport.layer(), proxies("10.0.0.0/8"))
      })
      assertError(yield* strangers.send(bootstrap(yield* strangers.code(), forwarded)), crossOrigin)
    }))

  it.live("HTTP-08 C-46: IPv4 that is written as IPv6 is IPv4 in lists, in limits and for proxies", () =>
    Effect.gen(function*() {
      for (const network of ["::ffff:127.0.0.1", "::ffff:127.0.0.0/104", "127.0.0.0/8"]) {
        const server = yield* start({
          routes: Layer.merge(Sallyport.layer(), proxies(network, "::ffff:10.0.0.1")),
          links: limits
        })
        for (
          const written of ["198.51.100.7", "::ffff:198.51.100.7", "::ffff:c633:6407", "198.51.100.7, ::ffff:10.0.0.1"]
        ) {
          assert.strictEqual(yield* addressOf(server, { "x-forwarded-for": written }), "198.51.100.7", network)
        }
      }
    }))

  it.live("HTTP-08 C-46: the address of a connection to a socket of both families has one form too", () =>
    Effect.gen(function*() {
      const server = yield* start({ host: "::" })
      assert.strictEqual(yield* addressOf(server, {}), "127.0.0.1")
    }))
})

describe("the cookie beside those of other servers of this machine", () => {
  const sameOrigin = { "sec-fetch-site": "same-origin" }

  it.live("HTTP-08 C-44: every value of our name is tried, at most four, and logging out ends what they hold", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const name = `sallyport_session_${server.port}`
      const state = (cookie: string) =>
        Effect.map(server.send({ path: "/api/auth/session", headers: { cookie } }), ({ json }) => json.authenticated)
      const others = ["x", "a.b.c", "\"quoted\""].map((value) => `${name}=${value}`)
      const own = yield* server.cookie
      for (const cookies of [[...others, own], [own, ...others], [others[0], own, others[1]], [own, own]]) {
        assert.isTrue(yield* state(cookies.join("; ")), cookies.join("; "))
      }
      assert.isTrue(yield* state([...others, ...others, ...others, own].join("; ")), "ours is the last that is sent")
      assert.isFalse(yield* state([own, ...others, others[0]].join("; ")))
      assert.isFalse(yield* state(others.join("; ")))

      const second = yield* server.cookie
      const cookie = [...others, second, own].join("; ")
      const changed = yield* server.send({
        method: "POST",
        path: "/api/auth/websocket-ticket",
        headers: { cookie, ...sameOrigin }
      })
      assert.strictEqual(changed.status, 200)
      const out = yield* server.send({ method: "POST", path: "/api/auth/logout", headers: { cookie, ...sameOrigin } })
      assert.strictEqual(out.status, 204, out.text)
      for (const each of [own, second, cookie]) assert.isFalse(yield* state(each))
      const cleared = (out.headers["set-cookie"] ?? []).map((header) => {
        assert.match(header, new RegExp(`^${name}=; .*Max-Age=0`))
        return /Path=([^;]*)/.exec(header)?.[1]
      })
      assert.deepStrictEqual(cleared, [
        "/",
        "/api",
        "/api/",
        "/api/auth",
        "/api/auth/",
        "/api/auth/logout",
        "/api/auth/logout/"
      ])
    }))
})

describe("every answer", () => {
  it.live("HTTP-07 HTTP-10: is nosniff and keeps its address to itself: errors, 404, streams, pages and routes of the host", () =>
    Effect.gen(function*() {
      const routes = Layer.mergeAll(
        Sallyport.layer(),
        HttpRouter.add("GET", "/mine", HttpServerResponse.html("<p>mine")),
        HttpRouter.add("GET", "/own", HttpServerResponse.text("", { headers: { "referrer-policy": "no-referrer" } })),
        HttpRouter.add("GET", "/stream", HttpServerResponse.stream(Stream.make(new Uint8Array([1])))),
        HttpRouter.add("GET", "/dies", Effect.die("oh"))
      )
      for (const policy of ["loopback-browser", "remote-reachable"] as const) {
        const server = yield* start({ routes, policy })
        const token = yield* server.token()
        const requests: ReadonlyArray<Request> = [
          ...["/mine", "/own", "/stream", "/dies", "/nowhere", "/pair", "/api/auth/session", "/api/auth/sessions"]
            .map((path) => ({ path })),
          { path: "/api/openapi.json" },
          { path: "/mine", method: "DELETE" },
          { path: "/api/auth/sessions", headers: bearer(token) },
          { path: "/api/auth/bootstrap", headers: { "content-type": "application/json" }, body: "{" },
          { path: "/mine", headers: { host: "evil.example" } }
        ]
        for (const request of requests) {
          const { headers, status } = yield* server.send(request)
          const name = `${status} ${request.path}`
          assert.strictEqual(headers["x-content-type-options"], "nosniff", name)
          assert.match(String(headers["referrer-policy"]), /^(same-origin|no-referrer)$/, name)
          assert.strictEqual(
            headers["strict-transport-security"],
            policy === "remote-reachable" ? "max-age=31536000" : undefined,
            name
          )
        }
        assert.strictEqual((yield* server.send({ path: "/own" })).headers["referrer-policy"], "no-referrer")
        const page = yield* server.send({ path: "/pair" })
        assert.strictEqual(page.headers["referrer-policy"], "no-referrer")
        assert.strictEqual(page.headers["cross-origin-opener-policy"], "same-origin")
        assert.match(String(page.headers["content-security-policy"]), /default-src 'none'.*frame-ancestors 'none'/)
      }
    }))

  it.live("HTTP-07: is nosniff from a host's own route behind the guard alone", () =>
    Effect.gen(function*() {
      const server = yield* start({
        routes: HttpRouter.add("GET", "/mine", HttpServerResponse.html("<p>")).pipe(
          Layer.provide(Authentication.guard(null).layer)
        )
      })
      for (const headers of [bearer(yield* server.token()), {}]) {
        const answer = yield* server.send({ path: "/mine", headers })
        assert.strictEqual(answer.headers["x-content-type-options"], "nosniff")
      }
    }))
})

describe("spans and logs", () => {
  it.live("HTTP-10: hold no ticket, token, code or cookie, whether the request succeeds or fails", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const routes = Layer.merge(
        Sallyport.layer(),
        HttpRouter.add("GET", "/dies", Effect.die("oh"))
      )
      const server = yield* start({ routes, tracer })
      const token = yield* server.token()
      const cookie = yield* server.cookie
      const code = yield* server.code()
      const issued = yield* server.send({ method: "POST", path: "/api/auth/websocket-ticket", headers: bearer(token) })
      const ticket = String(issued.json.ticket)
      assert.isAbove(ticket.length, 16)
      yield* server.send(bootstrap(code))
      const secrets = [ticket, token, code, cookie.replace(/^[^=]*=/, "")]
      for (const path of ["/nowhere", "/dies", "/api/auth/session", "/pair"]) {
        for (const name of ["ticket", "token", "code", "access_token", "TICKET", "%74icket"]) {
          yield* server.send({ path: `${path}?${name}=${ticket}`, headers: { ...bearer(token), cookie } })
        }
      }
      const upgraded = new WebSocket(`ws://127.0.0.1:${server.port}/api/auth/access?ticket=${ticket}`)
      yield* Effect.callback<void>((resume) => {
        upgraded.addEventListener("open", () => resume(Effect.void))
        upgraded.addEventListener("error", () => resume(Effect.die(new Error("The upgrade was refused"))))
      })
      upgraded.close()
      yield* server.stop
      const seen = [
        ...server.logged,
        ...spans.map((span) => JSON.stringify([span.name, Array.from(span.attributes), span.events])),
        ...spans.map(({ status }) =>
          status._tag === "Ended" && Exit.isFailure(status.exit) ? Cause.pretty(status.exit.cause) : ""
        )
      ].join("\n")
      assert.isTrue(
        spans.some((span) => String(span.attributes.get("url.full")).includes("/api/auth/access?ticket=")),
        seen
      )
      for (const secret of secrets) assert.notInclude(seen, secret)
    }))
})
