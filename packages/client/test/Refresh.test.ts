import { assert, describe, it } from "@effect/vitest"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as Credentials from "@sallyport/client/Credentials"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"
import { inspect } from "node:util"
import * as Browser from "../../../test-support/browser.ts"
import * as Pages from "./pages.ts"
import { connect, eventually, network, pretend, type ServerOptions, start } from "./support.ts"

const { step } = Browser

const bound = Credentials.layerDpop.pipe(
  Layer.provide(Layer.orDie(Layer.provide(DeviceKey.layerMemory, NodeCrypto.layer)))
)
const kinds = { "a bearer token": Credentials.layerBearer, "a bound token": bound }

/** Starts a server with refresh tokens, which counts the requests for tokens and can hold them back. */
const refreshing = Effect.fnUntraced(function*(options: Pick<ServerOptions, "publicUrl" | "routes"> = {}) {
  const seen = { tokens: 0, held: Effect.void }
  const notes = HttpRouter.middleware(
    (answer) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) => {
        if (url !== "/oauth/token") return answer
        seen.tokens++
        return Effect.andThen(seen.held, answer)
      }),
    { global: true }
  )
  const server = yield* start({
    sessions: { refresh: { tokenLifetime: "1 hour" } },
    dpop: {},
    publicUrl: options.publicUrl,
    routes: Layer.merge(notes, options.routes ?? Layer.empty)
  })
  return { server, seen }
})

const memory = Effect.map(
  Layer.build(TokenStorage.layerMemory),
  (context) => Context.get(context, TokenStorage.TokenStorage)
)

const keptIn = (storage: TokenStorage.TokenStorage["Service"]) => Layer.succeed(TokenStorage.TokenStorage, storage)

const tokensOf = (storage: TokenStorage.TokenStorage["Service"]) =>
  Effect.gen(function*() {
    const { refresh, token } = Option.getOrThrow(yield* storage.tokens)
    if (refresh === undefined) return yield* Effect.die("there is no refresh token")
    return { token, refresh }
  }).pipe(Effect.orDie)

/** Makes the exchange due, as it is after the token's time. */
const makeDue = (storage: TokenStorage.TokenStorage["Service"]) =>
  Effect.flatMap(
    tokensOf(storage),
    ({ refresh, token }) => Effect.orDie(storage.set({ token, refresh: { ...refresh, dueAtMillis: 0 } }))
  )

/** Stores another token that the server does not know. */
const spoil = (storage: TokenStorage.TokenStorage["Service"]) =>
  Effect.flatMap(
    tokensOf(storage),
    ({ refresh }) => Effect.orDie(storage.set({ token: Redacted.make("an.unknown.token"), refresh }))
  )

describe("a client refreshes its token", () => {
  for (const [name, credentials] of Object.entries(kinds)) {
    for (const [when, prepare] of Object.entries({ "that is due": makeDue, "that the server refuses": spoil })) {
      it.live(`SESS-16: ${name} ${when} is refreshed once for all requests of a program, and replaced (K5)`, () =>
        Effect.gen(function*() {
          const { seen, server } = yield* refreshing()
          const storage = yield* memory
          const { access } = yield* connect(server.url, Layer.provide(credentials, keptIn(storage)))
          yield* access.pair({ code: yield* server.code() })
          const ids = (yield* access.sessions).map(({ id }) => id)
          assert.strictEqual(seen.tokens, 1)
          for (let round = 1; round <= 3; round++) {
            yield* prepare(storage)
            const before = yield* tokensOf(storage)
            const all = yield* Effect.all(Array.from({ length: 30 }, () => access.sessions), {
              concurrency: "unbounded"
            })
            for (const sessions of all) assert.deepStrictEqual(sessions.map(({ id }) => id), ids)
            assert.strictEqual(seen.tokens, 1 + round)
            const after = yield* tokensOf(storage)
            assert.notStrictEqual(Redacted.value(after.token), Redacted.value(before.token))
            assert.notStrictEqual(Redacted.value(after.refresh.token), Redacted.value(before.refresh.token))
            assert.deepStrictEqual([String(after.token), String(after.refresh.token)], [
              "<redacted:session-token>",
              "<redacted:refresh-token>"
            ])
          }
        }))
    }

    it.live(`SESS-16: a lost answer leaves the pair, and the next request asks again (${name})`, () =>
      Effect.gen(function*() {
        let answerBytes: number | undefined
        const wire = yield* network(0, () => ({ answerBytes }))
        const { seen, server } = yield* refreshing({ publicUrl: wire.url })
        wire.lead(server.port)
        const storage = yield* memory
        const { access } = yield* connect(wire.url, Layer.provide(credentials, keptIn(storage)))
        yield* access.pair({ code: yield* server.code() })
        yield* makeDue(storage)
        const before = yield* tokensOf(storage)
        for (const bytes of [1, 40, 400]) {
          answerBytes = bytes
          wire.cutAll()
          const asked = seen.tokens
          // A connection that the client kept, and does not know to be cut, leads nowhere.
          const errors = yield* Effect.all(Array.from({ length: 5 }, () => Effect.flip(access.sessions)), {
            concurrency: "unbounded"
          }).pipe(Effect.repeat({ until: () => seen.tokens > asked }))
          for (const error of errors) {
            assert.deepInclude(error.reason, { _tag: "Unreachable", failure: "connection" })
            assert.isTrue(error.isRetryable)
          }
          assert.strictEqual(seen.tokens, asked + 1)
          assert.deepStrictEqual(yield* tokensOf(storage), before)
        }
        answerBytes = undefined
        assert.strictEqual((yield* access.sessions).length, 1)
        assert.isTrue((yield* access.state).authenticated)
      }))

    it.live(`SESS-16: a refused refresh ends the session for the client (${name})`, () =>
      Effect.gen(function*() {
        for (const prepare of [makeDue, spoil]) {
          const { seen, server } = yield* refreshing()
          const storage = yield* memory
          const { access } = yield* connect(server.url, Layer.provide(credentials, keptIn(storage)))
          yield* access.pair({ code: yield* server.code() })
          const [session] = yield* access.sessions
          if (session !== undefined) yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
          yield* prepare(storage)
          const { reason } = yield* Effect.flip(access.sessions)
          assert.deepInclude(reason, { _tag: "Unauthorized", code: "unauthorized" })
          assert.isTrue(Option.isNone(yield* storage.tokens))
          assert.isFalse((yield* access.state).authenticated)
          assert.strictEqual(seen.tokens, 2)
        }
      }))
  }

  it.live("SESS-16: a server that cannot refresh now, or another that answers, leaves the pair", () =>
    Effect.gen(function*() {
      const json = "application/json"
      const oauth = (_tag: string, error: string, more = {}) =>
        JSON.stringify({ _tag, error, error_description: "Later", traceId: "0".repeat(32), ...more })
      const answers: ReadonlyArray<readonly [status: number, type: string, body: string, tag: string]> = [
        [503, json, oauth("OAuthUnavailable", "temporarily_unavailable"), "OAuthUnavailable"],
        [
          500,
          json,
          oauth("OAuthInternalError", "server_error", { code: "internal_error", retryable: false }),
          "OAuthInternalError"
        ],
        [401, json, oauth("OAuthInvalidClient", "invalid_client"), "OAuthInvalidClient"],
        [502, "text/html", "<html>Bad gateway</html>", "Unreachable"],
        [200, "text/html", "<html>Sign in to the Wi-Fi</html>", "Unreachable"],
        [404, "text/html", "<html>nginx</html>", "UnexpectedAnswer"],
        [400, json, oauth("OAuthError", "invalid_request"), "OAuthError"],
        [200, json, `{"access_token":"the-next"}`, "UnexpectedAnswer"]
      ]
      let next = 0
      const server = yield* pretend((_, response) => {
        const [status, type, body] = answers[next] ?? [500, "", ""]
        response.writeHead(status, { "content-type": type })
        response.end(body)
      })
      const storage = yield* memory
      const { access } = yield* connect(server.url, Layer.provide(Credentials.layerBearer, keptIn(storage)))
      yield* storage.set({
        token: Redacted.make("the-secret-token"),
        refresh: { token: Redacted.make("the-secret-refresh-token"), dueAtMillis: 0 }
      })
      const before = yield* tokensOf(storage)
      for (const [index, [, , , tag]] of answers.entries()) {
        next = index
        const error = yield* Effect.flip(access.sessions)
        assert.strictEqual(error.reason._tag, tag)
        assert.strictEqual(error.isRetryable, tag === "OAuthUnavailable" || tag === "Unreachable")
        assert.notInclude(inspect(error, { depth: 20 }) + JSON.stringify(error), "the-secret")
        assert.deepStrictEqual(yield* tokensOf(storage), before)
      }
      assert.deepStrictEqual(server.requests, answers.map(() => "POST /oauth/token"))
    }))

  it.live("SESS-16: a refused refresh does not remove what another client has stored meanwhile", () =>
    Effect.gen(function*() {
      const storage = yield* memory
      const later = {
        token: Redacted.make("later"),
        refresh: { token: Redacted.make("later-refresh"), dueAtMillis: Number.MAX_SAFE_INTEGER }
      }
      const server = yield* pretend((request, response) => {
        const refused = request.url === "/oauth/token"
        if (refused) Effect.runSync(storage.set(later))
        response.writeHead(refused ? 400 : 200, { "content-type": "application/json" })
        response.end(
          refused
            ? JSON.stringify({
              _tag: "OAuthError",
              error: "invalid_grant",
              error_description: "Used",
              traceId: "0".repeat(32)
            })
            : JSON.stringify({ sessions: [], next: null })
        )
      })
      const { access } = yield* connect(server.url, Layer.provide(Credentials.layerBearer, keptIn(storage)))
      yield* storage.set({
        token: Redacted.make("old"),
        refresh: { token: Redacted.make("old-refresh"), dueAtMillis: 0 }
      })
      assert.deepStrictEqual(yield* access.sessions, [])
      assert.deepStrictEqual(yield* tokensOf(storage), later)
    }))

  it.live("SESS-16: a refresh goes on for the others if the request that started it is given up", () =>
    Effect.gen(function*() {
      const { seen, server } = yield* refreshing()
      const storage = yield* memory
      const { access } = yield* connect(server.url, Layer.provide(Credentials.layerBearer, keptIn(storage)))
      yield* access.pair({ code: yield* server.code() })
      yield* makeDue(storage)
      const held = yield* Deferred.make<void>()
      seen.held = Deferred.await(held)
      const first = yield* Effect.forkChild(access.sessions)
      yield* eventually(() => seen.tokens === 2)
      const second = yield* Effect.forkChild(access.sessions, { startImmediately: true })
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(held, undefined)
      assert.strictEqual((yield* Fiber.join(second)).length, 1)
      assert.strictEqual(seen.tokens, 2)
    }))

  it.live("SESS-16: signing out during a refresh leaves no tokens behind", () =>
    Effect.gen(function*() {
      const { seen, server } = yield* refreshing()
      const storage = yield* memory
      const { access } = yield* connect(server.url, Layer.provide(Credentials.layerBearer, keptIn(storage)))
      yield* access.pair({ code: yield* server.code() })
      yield* makeDue(storage)
      const held = yield* Deferred.make<void>()
      seen.held = Deferred.await(held)
      const asking = yield* Effect.forkChild(Effect.exit(access.sessions))
      yield* eventually(() => seen.tokens === 2)
      const leaving = yield* Effect.forkChild(access.logout, { startImmediately: true })
      yield* Deferred.succeed(held, undefined)
      yield* Fiber.join(leaving)
      yield* Fiber.join(asking)
      assert.isTrue(Option.isNone(yield* storage.tokens))
      assert.isFalse((yield* access.state).authenticated)
    }))

  const withoutLocks = Effect.acquireRelease(
    Effect.sync(() => {
      const before = Object.getOwnPropertyDescriptor(globalThis, "navigator")
      Object.defineProperty(globalThis, "navigator", { value: undefined, configurable: true })
      return before
    }),
    (before) =>
      Effect.sync(() => {
        if (before === undefined) Reflect.deleteProperty(globalThis, "navigator")
        else Object.defineProperty(globalThis, "navigator", before)
      })
  )

  for (const [name, preparation] of Object.entries({ with: Effect.void, without: withoutLocks })) {
    it.live(`SESS-16: clients that share a store go on with one session, ${name} Web Locks`, () =>
      Effect.gen(function*() {
        yield* preparation
        const { seen, server } = yield* refreshing()
        const store = Layer.succeedContext(yield* Layer.build(KeyValueStore.layerMemory))
        const tokens = Layer.provide(TokenStorage.layerKeyValueStore(), store)
        const clients = yield* Effect.all(
          Array.from({ length: 4 }, () => connect(server.url, Layer.provide(Credentials.layerBearer, tokens)))
        )
        const storage = Context.get(yield* Layer.build(tokens), TokenStorage.TokenStorage)
        for (const { access } of clients.slice(0, 1)) yield* access.pair({ code: yield* server.code() })
        for (let round = 1; round <= 3; round++) {
          yield* makeDue(storage)
          const asked = seen.tokens
          const all = yield* Effect.all(clients.map(({ access }) => access.sessions), { concurrency: "unbounded" })
          assert.deepStrictEqual(all.map(({ length }) => length), [1, 1, 1, 1])
          if (name === "with" && "locks" in navigator) assert.strictEqual(seen.tokens, asked + 1)
        }
      }))
  }

  it.live("SESS-16: a token without a refresh token is sent as it is", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const storage = yield* memory
      const { access } = yield* connect(server.url, Layer.provide(Credentials.layerBearer, keptIn(storage)))
      yield* access.pair({ code: yield* server.code() })
      assert.isUndefined(Option.getOrThrow(yield* storage.tokens).refresh)
      const [session] = yield* access.sessions
      if (session !== undefined) yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
      assert.deepInclude((yield* Effect.flip(access.sessions)).reason, { _tag: "Unauthorized", code: "unauthorized" })
      assert.isTrue(Option.isSome(yield* storage.tokens))
    }))
})

describe("two pages of a browser's profile", () => {
  it.live(
    "SESS-16: refresh their token once",
    () =>
      Effect.gen(function*() {
        const { seen, server } = yield* refreshing({ routes: Pages.layer("programs/refreshPage") })
        const context = yield* Browser.profile(yield* Browser.browser)
        const open = (fragment: string) =>
          step(async () => {
            const page = await context.newPage()
            await page.goto(`${server.url}/${fragment}`)
            await page.waitForFunction(() => document.body?.dataset.seen !== undefined, undefined, { polling: 50 })
            return page
          })
        const first = yield* open(`#token=${encodeURIComponent(Redacted.value(yield* server.code()))}`)
        const pages = [first, yield* open("")]
        assert.strictEqual(seen.tokens, 1)
        yield* step(() =>
          first.evaluate(() => {
            const tokens = JSON.parse(localStorage.getItem("sallyport-session") ?? "")
            tokens.refresh.dueAtMillis = 0
            localStorage.setItem("sallyport-session", JSON.stringify(tokens))
          })
        )
        // The answer is held back until one page refreshes and the other waits for it.
        const held = yield* Deferred.make<void>()
        seen.held = Deferred.await(held)
        for (const page of pages) yield* step(() => page.evaluate(() => document.dispatchEvent(new Event("ask"))))
        yield* step(() =>
          first.waitForFunction(
            () => navigator.locks.query().then(({ held, pending }) => held?.length === 1 && pending?.length === 1),
            undefined,
            { polling: 50 }
          )
        )
        yield* Deferred.succeed(held, undefined)
        for (const page of pages) {
          yield* step(() =>
            page.waitForFunction(() => JSON.parse(document.body.dataset.seen ?? "[]").length === 2, undefined, {
              polling: 50
            })
          )
          const shown = yield* step(() => page.evaluate((): unknown => JSON.parse(document.body.dataset.seen ?? "[]")))
          assert.deepStrictEqual(shown, ["ready", 1])
        }
        assert.strictEqual(seen.tokens, 2)
      }),
    300_000
  )
})
