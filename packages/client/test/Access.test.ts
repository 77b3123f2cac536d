import { assert, describe, it } from "@effect/vitest"
import type * as Access from "@sallyport/client/Access"
import * as Credentials from "@sallyport/client/Credentials"
import type { ClientError } from "@sallyport/client/ClientError"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import { connect, having, network, pretend, refuse, sentence, start } from "./support.ts"

const bearer = Layer.provide(Credentials.layerBearer, TokenStorage.layerMemory)
const kinds = { "a cookie": Credentials.layerCookieJar, "a bearer token": bearer }

const reasonOf = <A>(effect: Effect.Effect<A, ClientError>) => Effect.map(Effect.flip(effect), ({ reason }) => reason)
const isSignedIn = (access: Access.Access["Service"]) => Effect.map(access.state, ({ authenticated }) => authenticated)

describe("pairing", () => {
  for (const [name, credentials] of Object.entries(kinds)) {
    it.live(`L-14: replaces what was remembered about being signed out (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        const { access } = yield* connect(server.url, credentials)
        assert.isFalse(yield* isSignedIn(access))
        yield* access.pair({ code: yield* server.code() })
        const state = yield* access.state
        assert.isTrue(state.authenticated)
        if (state.authenticated) {
          assert.strictEqual(
            state.session.method,
            name === "a cookie" ? "browser-session-cookie" : "bearer-access-token"
          )
        }
        // It is the session that everything else uses.
        assert.deepStrictEqual((yield* access.sessions).map(({ current }) => current), [true])
      }))

    it.live(`BOOT-14: shows what a code would give before it is redeemed (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        const { access } = yield* connect(server.url, credentials)
        const code = yield* server.code()
        for (let repeat = 0; repeat < 2; repeat++) {
          const { label, lifetimeSeconds, subject } = yield* access.preview(code)
          assert.deepStrictEqual([subject, label, lifetimeSeconds], ["owner", null, 2_592_000])
        }
        assert.isFalse((yield* access.state).authenticated)
        yield* access.pair({ code })
        const { reason } = yield* Effect.flip(access.preview(code))
        assert.strictEqual(reason._tag, "Unauthorized")
        assert.match(reason.message, /was used/)
      }))

    it.live(`L-15 L-18: fails with the server's sentence and a code, and nothing else (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        const { access } = yield* connect(server.url, credentials)
        const used = yield* server.code()
        yield* access.pair({ code: used })
        for (const code of [used, Redacted.make("0000"), Redacted.make("not a code, but \"quotes\"")]) {
          const error = yield* Effect.flip(access.pair({ code }))
          const { reason } = error
          if (name === "a cookie") {
            assert.oneOf(reason._tag, ["InvalidRequest", "Unauthorized"])
            if ("code" in reason) assert.oneOf(reason.code, ["malformed_code", "invalid_credential"])
          } else {
            assert.strictEqual(reason._tag, "OAuthError")
            if (reason._tag === "OAuthError") assert.strictEqual(reason.error, "invalid_grant")
          }
          assert.match(error.message, /^[A-Z][^{}]+$/)
          assert.isFalse(error.isRetryable)
          assert.notInclude(inspect(error, { depth: 20 }) + JSON.stringify(error), Redacted.value(code))
        }
      }))

    it.live(`BOOT-06: is told that there were too many wrong codes (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        const { access } = yield* connect(server.url, credentials)
        // Well-formed, but of no session.
        const wrong = yield* server.code()
        yield* access.pair({ code: wrong })
        const error = yield* Effect.flip(access.pair({ code: wrong })).pipe(
          Effect.repeat({ until: ({ reason }) => /TooMany/.test(reason._tag), times: 200 })
        )
        assert.strictEqual(error.reason._tag, name === "a cookie" ? "TooManyRequests" : "OAuthTooManyRequests")
        assert.match(error.message, /^[A-Z][^{}]+$/)
        assert.isTrue(error.isRetryable)
      }))

    it.live(`L-14: holds also if an older request is answered after it (${name})`, () =>
      Effect.gen(function*() {
        const held = yield* Deferred.make<void>()
        const asked = yield* Deferred.make<void>()
        const server = yield* start()
        let first = true
        const slow = yield* pretend((request, response) => {
          const forward = () =>
            Effect.runPromise(Effect.promise(async () => {
              const headers: Record<string, string> = {}
              for (const name of ["authorization", "cookie", "content-type", "origin"]) {
                const value = request.headers[name]
                if (typeof value === "string") headers[name] = value
              }
              if (headers.origin !== undefined) headers.origin = server.url
              const answer = await fetch(`${server.url}${request.url}`, {
                method: request.method ?? "GET",
                headers,
                ...(request.method === "POST" ? { body: request.body } : {})
              })
              // The cookie's name has the port of the server that it is for.
              const cookies = answer.headers.getSetCookie()
              response.writeHead(answer.status, {
                "content-type": answer.headers.get("content-type") ?? "",
                ...(cookies.length === 0 ? {} : { "set-cookie": cookies })
              })
              response.end(await answer.text())
            }))
          if (!first || request.url !== "/api/auth/session") return void forward()
          first = false
          void Effect.runPromise(
            Effect.promise(() => fetch(`${server.url}/api/auth/session`).then((answer) => answer.text())).pipe(
              Effect.tap(() => Deferred.succeed(asked, undefined)),
              Effect.tap(() => Deferred.await(held)),
              Effect.map((text) => {
                response.writeHead(200, { "content-type": "application/json" })
                response.end(text)
              })
            )
          )
        })
        const { access } = yield* connect(slow.url, credentials)
        const old = yield* Effect.forkChild(isSignedIn(access))
        yield* Deferred.await(asked)
        yield* access.pair({ code: yield* server.code() })
        assert.isTrue(yield* isSignedIn(access))
        yield* Deferred.succeed(held, undefined)
        // Callers that asked before get the new answer too, and it stays.
        assert.isTrue(yield* Fiber.join(old))
        assert.isTrue(yield* isSignedIn(access))
      }))
  }

  it.live("L-14: is told to those who watch", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, bearer)
      const seen = yield* access.changes.pipe(
        Stream.map(Option.map(({ authenticated }) => authenticated)),
        Stream.filter(Option.isSome),
        Stream.map(({ value }) => value),
        Stream.changes,
        Stream.take(3),
        Stream.runCollect,
        Effect.forkChild({ startImmediately: true })
      )
      yield* access.state
      yield* access.pair({ code: yield* server.code() })
      yield* access.logout
      yield* access.state
      assert.deepStrictEqual(yield* Fiber.join(seen), [false, true, false])
    }))

  it.live("asks for some of the scopes only, with a token", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, bearer)
      yield* access.pair({ code: yield* server.code(), scopes: ["runs:read"] })
      const state = yield* access.state
      assert.deepStrictEqual(state.authenticated ? state.session.scopes : [], ["runs:read"])
      const reason = yield* reasonOf(access.sessions)
      assert.deepInclude(reason, { _tag: "Forbidden", code: "scope_required" })
    }))

  for (const [name, credentials] of Object.entries(kinds)) {
    for (const answerBytes of [1, 200, 400]) {
      it.live(
        `BOOT-10 C-31: asks again after two answers are lost at byte ${answerBytes}, and has one session (${name})`,
        () =>
          Effect.gen(function*() {
            const server = yield* start()
            const wire = yield* network(server.port, (nth) => nth <= 2 ? { answerBytes } : {})
            const { access } = yield* connect(wire.url, credentials)
            yield* access.pair({ code: yield* server.code() })
            assert.isAtLeast(wire.cuts(), 1)
            assert.deepStrictEqual((yield* access.sessions).map(({ current }) => current), [true])
          })
      )
    }

    it.live(`BOOT-10 C-31: joins its attempt when a person pairs again with the same code (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        let isCut = true
        const wire = yield* network(server.port, () => isCut ? { answerBytes: 1 } : {})
        const { access } = yield* connect(wire.url, credentials)
        const code = yield* server.code()
        assert.deepInclude(yield* reasonOf(access.pair({ code })), {
          _tag: "Unreachable",
          failure: "connection",
          attempts: 5
        })
        isCut = false
        yield* access.pair({ code })
        assert.lengthOf(yield* access.sessions, 1)
        // A finished attempt is not repeated: the code is used up.
        assert.match((yield* Effect.flip(access.pair({ code }))).message, /was used/)
      }))

    it.live(`BOOT-10: sends each code with a key of its own, and the same one each time (${name})`, () =>
      Effect.gen(function*() {
        const keys: Array<string> = []
        const server = yield* pretend(({ body, url }, response) => {
          if (url?.includes("session") === true) {
            return refuse(response, 503, { _tag: "Unavailable", code: "unavailable" })
          }
          const field = /"?attempt_?[kK]ey"?[=:]"?([A-Za-z0-9_-]+)/.exec(body)
          keys.push(field?.[1] ?? "none")
          // The first answer is lost, the second says that the store is away.
          if (keys.length % 2 === 1) response.destroy()
          else refuse(response, 503, { _tag: "Unavailable", code: "unavailable", retryable: true })
        })
        const { access } = yield* connect(server.url, credentials)
        for (const code of ["one", "one", "two"]) {
          // What the server says itself is told at once.
          const { reason } = yield* Effect.flip(access.pair({ code: Redacted.make(code) }))
          assert.strictEqual(reason._tag, "Unavailable")
        }
        assert.lengthOf(keys, 6)
        assert.lengthOf(new Set(keys.slice(0, 4)), 1)
        assert.lengthOf(new Set(keys.slice(4)), 1)
        assert.notStrictEqual(keys[0], keys[4])
        for (const key of keys) assert.match(key, /^[\w-]{22}$/)
      }))
  }
})

describe("a session", () => {
  for (const [name, credentials] of Object.entries(kinds)) {
    it.live(`ends with logging out, on the server too (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        const { access } = yield* connect(server.url, credentials)
        yield* access.pair({ code: yield* server.code() })
        const [session] = yield* access.sessions
        yield* access.logout
        assert.isFalse(yield* isSignedIn(access))
        const listed = yield* Effect.orDie(
          server.sessions.list({ subject: session?.subject ?? "", current: undefined })
        )
        assert.deepStrictEqual(listed, [])
        assert.deepInclude(yield* reasonOf(access.sessions), { _tag: "Unauthorized", code: "unauthorized" })
        // Logging out again is no error.
        yield* access.logout
      }))

    it.live(`that is revoked elsewhere is known to have ended when the server says so (${name})`, () =>
      Effect.gen(function*() {
        const server = yield* start()
        const { access } = yield* connect(server.url, credentials)
        yield* access.pair({ code: yield* server.code() })
        const [session] = yield* access.sessions
        assert.isTrue(yield* isSignedIn(access))
        if (session !== undefined) yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
        assert.deepInclude(yield* reasonOf(access.links), { _tag: "Unauthorized", code: "unauthorized" })
        assert.isFalse(yield* isSignedIn(access))
      }))
  }

  it.live("lists and ends the others, and is not ended with them", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, having(yield* server.token()))
      yield* server.token()
      yield* server.token()
      const sessions = yield* access.sessions
      assert.strictEqual(sessions.length, 3)
      const own = sessions.find(({ current }) => current)
      const other = sessions.find(({ current }) => !current)
      if (own === undefined || other === undefined) return yield* Effect.die("sessions are missing")
      assert.deepInclude(yield* reasonOf(access.revokeSession(own.id)), { _tag: "Conflict", code: "current_session" })
      yield* access.revokeSession(other.id)
      assert.deepInclude(yield* reasonOf(access.revokeSession(other.id)), {
        _tag: "NotFound",
        code: "session_not_found"
      })
      assert.strictEqual((yield* access.revokeOtherSessions).sessions, 1)
      assert.deepStrictEqual((yield* access.sessions).map(({ id }) => id), [own.id])
    }))

  it.live("SESS-13 HTTP-09: lists all sessions, page after page, and ends one with what descends from it", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, having(yield* server.token()))
      const paired = Effect.fnUntraced(function*(issuer: Access.Access["Service"]) {
        const { code } = yield* issuer.issueLink()
        const device = yield* connect(server.url, bearer)
        yield* device.access.pair({ code })
        return device.access
      })
      const child = yield* paired(access)
      const grandchild = yield* paired(child)
      for (let index = 0; index < 198; index++) yield* server.token()
      const sessions = yield* access.sessions
      assert.deepStrictEqual([sessions.length, new Set(sessions.map(({ id }) => id)).size], [201, 201])
      const found = sessions.filter(({ current, descendants }) => !current && descendants === 1)
      assert.strictEqual(found.length, 1)
      for (const { id } of found) yield* access.revokeSession(id, { descendants: true })
      for (const out of [child, grandchild]) assert.strictEqual((yield* reasonOf(out.sessions))._tag, "Unauthorized")
      assert.strictEqual((yield* access.sessions).length, 199)
    }))

  it.live("SESS-18: asks for more than it has, and goes on with its credential once another session grants some of it", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, having(yield* server.token()))
      const { code } = yield* access.issueLink({ scopes: ["runs:read"] })
      const device = yield* connect(server.url, bearer)
      yield* device.access.pair({ code })
      assert.deepInclude(yield* reasonOf(device.access.sessions), { _tag: "Forbidden", code: "scope_required" })
      const asked = yield* device.access.requestScopes(["runs:read", "access:read", "runs:operate"])
      assert.deepStrictEqual(asked.scopeRequest?.scopes, ["access:read", "runs:operate"])
      const listed = (yield* access.sessions).find(({ scopeRequest }) => scopeRequest !== null)
      const requestedAt = listed?.scopeRequest?.requestedAt ?? assert.fail("no request")
      const granted = yield* access.answerScopes(asked.id, { requestedAt, scopes: ["access:read"] })
      assert.deepStrictEqual([granted.scopes, granted.scopeRequest], [["runs:read", "access:read"], null])
      assert.lengthOf(yield* device.access.sessions, 2)
      const state = yield* device.access.refresh
      assert.deepStrictEqual(state.authenticated ? state.session.scopes : [], ["runs:read", "access:read"])
      assert.deepInclude(yield* reasonOf(access.answerScopes(asked.id, { requestedAt, scopes: [] })), {
        _tag: "Conflict",
        code: "scope_request_changed"
      })
    }))

  it.live("lets others in by links, and takes them back", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, having(yield* server.token()))
      const { code, link } = yield* access.issueLink({ label: "tablet", scopes: ["runs:read"], lifetime: "1 minute" })
      assert.deepStrictEqual([link.label, link.scopes], ["tablet", ["runs:read"]])
      assert.strictEqual(String(code), "<redacted:pairing-code>")
      const tablet = yield* connect(server.url, bearer)
      yield* tablet.access.pair({ code })
      const state = yield* tablet.access.state
      assert.deepStrictEqual(state.authenticated ? state.session.scopes : [], ["runs:read"])

      const history = yield* access.history({ kind: "pairingLink", search: "TABLET" })
      assert.deepStrictEqual([history.events.map(({ event }) => event), history.next], [
        ["pairingLinkRemoved", "pairingLinkUpserted"],
        null
      ])

      const second = yield* access.issueLink()
      assert.deepStrictEqual((yield* access.links).map(({ id }) => id), [second.link.id])
      yield* access.revokeLink(second.link.id)
      assert.deepStrictEqual(yield* access.links, [])
      assert.deepInclude(yield* reasonOf(access.revokeLink(second.link.id)), { _tag: "NotFound" })
      const late = yield* connect(server.url, bearer)
      assert.deepInclude(yield* reasonOf(late.access.pair({ code: second.code })), { error: "invalid_grant" })
    }))
})

describe("the token", () => {
  it.live("is kept where the application wants it, and found again by the next client", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const store = KeyValueStore.layerMemory
      const stored = (key: string) =>
        Layer.provide(Credentials.layerBearer, Layer.provide(TokenStorage.layerKeyValueStore({ key }), store))
      yield* Effect.gen(function*() {
        const { access } = yield* connect(server.url, stored("one"))
        yield* access.pair({ code: yield* server.code() })
        assert.isTrue(yield* isSignedIn((yield* connect(server.url, stored("one"))).access))
        assert.isFalse(yield* isSignedIn((yield* connect(server.url, stored("two"))).access))
        yield* access.logout
        assert.isUndefined(yield* (yield* KeyValueStore.KeyValueStore).get("one"))
      }).pipe(Effect.provide(store))
    }))

  const failing = (operation: "get" | "set") => {
    const storage = Effect.fail(new TokenStorage.TokenStorageError({ operation: "read", cause: new Error("locked") }))
    return Layer.provide(
      Credentials.layerBearer,
      Layer.succeed(TokenStorage.TokenStorage, {
        tokens: operation === "get" ? storage : Effect.succeedNone,
        set: () => operation === "set" ? storage : Effect.void,
        remove: Effect.void,
        exclusive: (effect) => effect
      })
    )
  }

  it.live("that can't be read is an error, and not being signed out", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, failing("get"))
      assert.strictEqual((yield* reasonOf(access.state))._tag, "TokenStorageError")
      assert.strictEqual((yield* reasonOf(access.sessions))._tag, "TokenStorageError")
    }))

  it.live("that can't be stored leaves no session behind", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { access } = yield* connect(server.url, failing("set"))
      assert.strictEqual((yield* reasonOf(access.pair({ code: yield* server.code() })))._tag, "TokenStorageError")
      assert.deepStrictEqual(yield* Effect.orDie(server.sessions.list({ subject: "owner", current: undefined })), [])
    }))
})

describe("the base URL", () => {
  it.live("L-13: is taken as people give it: with ws, with a final /ws, with a prefix", () =>
    Effect.gen(function*() {
      const plain = yield* start()
      const prefixed = yield* start({ prefix: "/sallyport" })
      for (
        const [given, base] of [
          [plain.url, plain.url],
          [`${plain.url}/`, plain.url],
          [`ws://127.0.0.1:${plain.port}/ws`, plain.url],
          [`WS://user:secret@127.0.0.1:${plain.port}/ws/?a=b#c`, plain.url],
          [`${prefixed.url}/sallyport`, `${prefixed.url}/sallyport`],
          [`ws://127.0.0.1:${prefixed.port}/sallyport/ws`, `${prefixed.url}/sallyport`]
        ] as const
      ) {
        const { access, connection } = yield* connect(given, bearer)
        assert.strictEqual(connection.baseUrl, base)
        assert.strictEqual(connection.webSocketUrl("/live"), `${base.replace("http:", "ws:")}/live`)
        assert.isFalse(yield* isSignedIn(access))
      }
      const secure = yield* connect("wss://example.test/ws", bearer)
      assert.strictEqual(secure.connection.baseUrl, "https://example.test")
      assert.strictEqual(secure.connection.webSocketUrl("/live"), "wss://example.test/live")
    }))

  it.effect("L-13: that is none is an error when the layer is built, without the password in it", () =>
    Effect.gen(function*() {
      for (const baseUrl of ["", "127.0.0.1:3000", "ftp://user:secret@host/", "file:///etc"]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(
          SallyportClient.layer({ baseUrl, credentials: bearer }).pipe(
            Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
          )
        )))
        assert.strictEqual(error._tag, "InvalidBaseUrl")
        assert.notInclude(JSON.stringify(error), "secret")
      }
    }))

  it.live("is where a host's own requests go, with the same credential", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { connection } = yield* connect(server.url, having(yield* server.token()))
      const answer = yield* connection.httpClient.execute(HttpClientRequest.get("/api/auth/sessions"))
      assert.strictEqual(answer.status, 200)
    }))
})

describe("a bearer token", () => {
  it.live("SESS-16: goes in the Authorization header of each request, once, and nowhere else (K1)", () =>
    Effect.gen(function*() {
      const sent: Array<{ readonly authorization: string | undefined; readonly rest: string }> = []
      const server = yield* pretend((request, response) => {
        const { authorization, ...headers } = request.headers
        sent.push({ authorization, rest: JSON.stringify([request.url, headers, request.body]) })
        response.writeHead(409, { "content-type": "application/json" }).end("{}")
      })
      const { access, connection, runs } = yield* connect(server.url, having(Redacted.make("the-token")))
      const runId = "00000000-0000-7000-8000-000000000000"
      const asked: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        access.state,
        access.sessions,
        access.links,
        access.history(),
        access.issueLink({ label: "a" }),
        access.revokeOtherSessions,
        runs.list(),
        runs.get(runId),
        runs.abort(runId),
        Stream.runDrain(runs.follow({ runId })),
        connection.httpClient.execute(HttpClientRequest.post("/mine", { urlParams: { a: "b" } })),
        access.logout
      ]
      for (const [index, one] of asked.entries()) {
        const before = sent.length
        yield* Effect.exit(one)
        assert.isAbove(sent.length, before, `number ${index} sends nothing`)
      }
      for (const { authorization, rest } of sent) {
        assert.strictEqual(authorization, "Bearer the-token", rest)
        assert.notInclude(rest, "the-token")
      }
    }))
})

describe("an answer", () => {
  it.live("L-15 L-18: is told by its tag and code, whatever its text says", () =>
    Effect.gen(function*() {
      let answer: (response: Parameters<Parameters<typeof pretend>[0]>[1]) => void = () => {}
      const server = yield* pretend((_, response) => answer(response))
      const { access } = yield* connect(server.url, bearer)
      const misleading = "Error 500: 404 not found, 503 timeout, retryable"
      answer = (response) => refuse(response, 403, { _tag: "Forbidden", code: "scope_required", message: misleading })
      const forbidden = yield* Effect.flip(access.sessions)
      assert.deepInclude(forbidden.reason, { _tag: "Forbidden", code: "scope_required" })
      assert.strictEqual(forbidden.message, misleading)
      assert.isFalse(forbidden.isRetryable)

      answer = (response) => refuse(response, 503, { _tag: "Unavailable", code: "unavailable", retryable: true })
      const unavailable = yield* Effect.flip(access.sessions)
      assert.deepInclude(unavailable.reason, { _tag: "Unavailable", code: "unavailable" })
      assert.strictEqual(unavailable.message, sentence)
      assert.isTrue(unavailable.isRetryable)

      // A fault of the server is told as one: the same request would fail again.
      answer = (response) => refuse(response, 500, { _tag: "InternalError", code: "internal_error" })
      const fault = yield* Effect.flip(access.sessions)
      assert.deepInclude(fault.reason, { _tag: "InternalError", traceId: "0".repeat(32) })
      assert.strictEqual(fault.message, sentence)
      assert.isFalse(fault.isRetryable)

      // A code of a later version is not interpreted, and its sentence is kept.
      answer = (response) => refuse(response, 409, { _tag: "Conflict", code: "later_code" })
      const later = yield* Effect.flip(access.sessions)
      assert.deepInclude(later.reason, { _tag: "UnexpectedAnswer", status: 409, code: "later_code" })
      assert.strictEqual(later.message, sentence)
    }))

  it.live("L-15: of something that is not the server is a sentence too, and never a page or JSON", () =>
    Effect.gen(function*() {
      const bodies: ReadonlyArray<readonly [number, string, string, string]> = [
        [200, "text/html", "<html><h1>Sign in to the Wi-Fi</h1></html>", "Unreachable"],
        [404, "text/html", "<html>nginx</html>", "UnexpectedAnswer"],
        [404, "application/json", `{"error":{"stack":"at /var/lib"}}`, "UnexpectedAnswer"],
        [200, "application/json", `{"unexpected":true}`, "UnexpectedAnswer"],
        [502, "text/html", "<html>Bad gateway</html>", "Unreachable"],
        [429, "text/plain", "", "Unreachable"],
        [302, "text/plain", "", "UnexpectedAnswer"]
      ]
      let next = 0
      const server = yield* pretend((_, response) => {
        const [status, type, body] = bodies[next] ?? [500, "text/plain", ""]
        response.writeHead(status, { "content-type": type })
        response.end(body)
      })
      const { access } = yield* connect(server.url, bearer)
      for (const [index, [, , body, tag]] of bodies.entries()) {
        next = index
        const error = yield* Effect.flip(access.sessions)
        assert.strictEqual(error.reason._tag, tag, body)
        assert.match(error.message, /^[A-Z][^{}<>]+$/)
      }
    }))

  it.live("that never comes, because no server listens, is Unreachable, and holds no credential", () =>
    Effect.gen(function*() {
      const gone = yield* Effect.scoped(pretend(() => {}))
      const { access } = yield* connect(gone.url, having(Redacted.make("the-secret-token")))
      const error = yield* Effect.flip(access.sessions)
      assert.deepInclude(error.reason, { _tag: "Unreachable", failure: "connection", status: null })
      assert.isTrue(error.isRetryable)
      assert.notInclude(inspect(error, { depth: 20 }) + JSON.stringify(error), "the-secret-token")
    }))
})
