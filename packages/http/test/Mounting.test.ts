import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import { RequestErrors, requires } from "@sallyport/contract/Authentication"
import { RunGroup } from "@sallyport/contract/RunGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Authentication from "@sallyport/http/Authentication"
import * as Edge from "@sallyport/http/Edge"
import * as HtmlDocument from "@sallyport/http/HtmlDocument"
import * as RunHandlers from "@sallyport/http/RunHandlers"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { assertError, bearer, eventsOf, type Server, start } from "./support.ts"

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

/** Starts a run over HTTP and reads it to its end. */
const runOnce = Effect.fnUntraced(function*(server: Server, prefix = "") {
  const headers = bearer(yield* server.token())
  const started = yield* server.send({
    path: `${prefix}/api/runs`,
    headers: { ...headers, "idempotency-key": "key" },
    body: { threadId: "thread", input: 2 }
  })
  assert.strictEqual(started.status, 201)
  const run = isRecord(started.json.run) ? started.json.run : {}
  const { text } = yield* server.send({ path: `${prefix}/api/runs/${String(run.runId)}/events`, headers })
  return eventsOf(text).map(({ event }) => event)
})

describe("the surface", () => {
  it.live("is mounted whole by one layer, and its OpenAPI document names every endpoint and how to prove a session", () =>
    Effect.gen(function*() {
      const server = yield* start()
      assert.deepStrictEqual(yield* runOnce(server), ["data", "data", "end"])
      const { json } = yield* server.send({ path: "/api/openapi.json" })
      const operations = Object.entries(isRecord(json.paths) ? json.paths : {}).flatMap(([path, methods]) =>
        Object.entries(isRecord(methods) ? methods : {}).map(([method, operation]) => ({
          name: `${method.toUpperCase()} ${path}`,
          security: isRecord(operation) ? operation.security : undefined
        }))
      )
      const open = [
        "GET /api/auth/session",
        "GET /api/health/live",
        "GET /api/health/ready",
        "POST /api/auth/bootstrap",
        "POST /api/auth/bootstrap/preview",
        "POST /oauth/device_authorization",
        "POST /oauth/token"
      ]
      const guarded = [
        "GET /api/auth/access",
        "GET /api/auth/connect-clients",
        "GET /api/auth/connect-security-mode",
        "GET /api/auth/pairing-links",
        "GET /api/auth/sessions",
        "GET /api/auth/access/events",
        "GET /api/runs",
        "GET /api/runs/events",
        "GET /api/runs/{id}",
        "GET /api/runs/{id}/events",
        "GET /api/threads/{id}/active-run",
        "GET /api/threads/{id}/events",
        "PATCH /api/auth/sessions/{id}",
        "POST /api/auth/connect-clients/approve",
        "POST /api/auth/connect-clients/block",
        "POST /api/auth/connect-clients/find",
        "POST /api/auth/connect-clients/reject",
        "POST /api/auth/connect-clients/revoke",
        "POST /api/auth/logout",
        "POST /api/auth/pairing-links",
        "POST /api/auth/pairing-links/revoke",
        "POST /api/auth/session/scopes",
        "POST /api/auth/sessions/revoke",
        "POST /api/auth/sessions/revoke-issued-before",
        "POST /api/auth/sessions/revoke-others",
        "POST /api/auth/sessions/{id}/scopes",
        "POST /api/auth/websocket-ticket",
        "POST /api/runs",
        "POST /api/runs/{id}/abort",
        "POST /api/runs/{id}/answers",
        "POST /api/threads/{id}/abort",
        "PUT /api/auth/connect-security-mode"
      ]
      assert.deepStrictEqual(operations.map(({ name }) => name).toSorted(), [...open, ...guarded].toSorted())
      for (const { name, security } of operations) {
        const ways = [{ bearer: [] }, { dpop: [] }, { cookie: [] }]
        assert.deepStrictEqual(security, guarded.includes(name) ? ways : [], name)
      }
      const schemes = isRecord(json.components) ? json.components.securitySchemes : undefined
      assert.deepInclude(isRecord(schemes) ? schemes.bearer : {}, { type: "http", scheme: "bearer" })
      assert.deepInclude(isRecord(schemes) ? schemes.cookie : {}, { type: "apiKey", in: "cookie" })
    }))

  it.live("is mounted group by group", () =>
    Effect.gen(function*() {
      class Runs extends HttpApi.make("sallyport").add(RunGroup) {}
      const routes = HttpApiBuilder.layer(Runs).pipe(
        Layer.provide(RunHandlers.layer),
        Layer.provide([Authentication.layer, Authentication.layerRequestErrors()])
      )
      const server = yield* start({ routes })
      assert.deepStrictEqual(yield* runOnce(server), ["data", "data", "end"])
      for (const path of ["/api/auth/session", "/api/auth/pairing-links", "/pair", "/api/openapi.json"]) {
        assert.strictEqual((yield* server.send({ path })).status, 404)
      }
    }))

  it.live("is mounted below a prefix, with its page, its document and its address in the document", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: Sallyport.layer({ prefix: "/gate/keeper" }) })
      assert.deepStrictEqual(yield* runOnce(server, "/gate/keeper"), ["data", "data", "end"])
      assert.strictEqual((yield* server.send({ path: "/gate/keeper/pair" })).status, 200)
      const document = yield* server.send({ path: "/gate/keeper/api/openapi.json" })
      assert.deepStrictEqual(document.json.servers, [{ url: "/gate/keeper" }])
      const paired = yield* server.send({
        path: "/gate/keeper/api/auth/bootstrap",
        body: { credential: yield* server.code() }
      })
      assert.strictEqual(paired.status, 200)
      assert.match(String(paired.headers["set-cookie"]), /; Path=\/;/)
      for (const path of ["/api/auth/session", "/pair", "/api/openapi.json", "/gate/pair"]) {
        assert.strictEqual((yield* server.send({ path })).status, 404)
      }
    }))

  it.live("stands beside a host's own API on the same router", () =>
    Effect.gen(function*() {
      class HostApi extends HttpApi.make("host").add(
        HttpApiGroup.make("notes").add(
          HttpApiEndpoint.get("mine", "/notes", { success: Schema.Struct({ of: Schema.String }) }).pipe(
            requires("runs:read")
          )
        )
      ) {}
      const handlers = HttpApiBuilder.group(
        HostApi,
        "notes",
        (handlers) => handlers.handle("mine", () => CurrentSession.useSync(({ subject }) => ({ of: subject })))
      )
      const host = HttpApiBuilder.layer(HostApi).pipe(Layer.provide(handlers), Layer.provide(Authentication.layer))
      const server = yield* start({ routes: Layer.merge(Sallyport.layer(), host) })
      assert.deepStrictEqual(yield* runOnce(server), ["data", "data", "end"])
      const notes = yield* server.send({ path: "/notes", headers: bearer(yield* server.token({ subject: "ada" })) })
      assert.deepStrictEqual(notes.json, { of: "ada" })
    }))

  it.live("BOOT-11 HTTP-09: takes as many entries as fit of a host's own text, and of JSON as many as of any other", () =>
    Effect.gen(function*() {
      const success = Schema.Struct({ length: Schema.Int })
      class HostApi extends HttpApi.make("host").add(
        HttpApiGroup.make("tables").add(
          HttpApiEndpoint.post("text", "/text", {
            payload: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/csv" })),
            success
          }).pipe(requires("runs:read")),
          HttpApiEndpoint.post("json", "/json", { payload: Schema.Array(Schema.Int), success }).pipe(
            requires("runs:read")
          )
        ).middleware(RequestErrors)
      ) {}
      const handlers = HttpApiBuilder.group(
        HostApi,
        "tables",
        (handlers) =>
          handlers
            .handle("text", ({ payload }) => Effect.succeed({ length: payload.length }))
            .handle("json", ({ payload }) => Effect.succeed({ length: payload.length }))
      )
      const routes = HttpApiBuilder.layer(HostApi).pipe(
        Layer.provide(handlers),
        Layer.provide([Authentication.layer, Authentication.layerRequestErrors()])
      )
      const server = yield* start({ routes })
      const headers = bearer(yield* server.token())
      const entries = (count: number) => Array(count).fill("1").join(",")
      const text = { ...headers, "content-type": "text/csv" }
      const table = yield* server.send({ path: "/text", headers: text, body: entries(100_000) })
      assert.deepStrictEqual(table.json, { length: 199_999 })
      const json = { ...headers, "content-type": "application/json; charset=utf-8" }
      const few = yield* server.send({ path: "/json", headers: json, body: `[${entries(30_000)}]` })
      assert.deepStrictEqual(few.json, { length: 30_000 })
      const many = yield* server.send({ path: "/json", headers: json, body: `[${entries(100_000)}]` })
      assertError(many, { status: 413, tag: "TooLarge", code: "body_too_large" })
    }))

  it.live("is spoken by the typed client that the contract gives, errors included", () =>
    Effect.gen(function*() {
      const server = yield* start({ routes: Sallyport.layer({ prefix: "/p" }) })
      const connect = (token: string) =>
        HttpApiClient.make(SallyportApi, {
          baseUrl: `http://127.0.0.1:${server.port}/p`,
          transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(token))
        }).pipe(Effect.provide(FetchHttpClient.layer))

      const stranger = yield* connect("unknown")
      const exchanged = yield* stranger.session.token({
        payload: {
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          subject_token: Redacted.make(yield* server.code()),
          subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
        }
      })
      assert.strictEqual((yield* Effect.flip(stranger.session.list({ query: {} })))._tag, "Unauthorized")
      const spent = yield* Effect.flip(stranger.session.token({ payload: { grant_type: "other" } }))
      assert.deepInclude(spent, { _tag: "OAuthError", error: "unsupported_grant_type" })

      const client = yield* connect(Redacted.value(exchanged.access_token))
      const { run } = yield* client.runs.start({
        headers: { "idempotency-key": "key" },
        payload: { threadId: "thread", input: 2 }
      })
      assert.deepInclude(run, { threadId: "thread", idempotencyKey: "key" })
      const cursor = yield* Effect.flip(
        client.runs.events({ params: { id: run.runId }, headers: {}, query: { after: "x" } })
      )
      assert.deepInclude(cursor, { _tag: "InvalidRequest", code: "malformed_cursor" })
      const missing = yield* Effect.flip(client.runs.get({ params: { id: "nothing" } }))
      assert.deepInclude(missing, { _tag: "NotFound", code: "run_not_found" })
    }))
})

describe("a page of the host's own", () => {
  it.live("is one self-contained document, which its policy states, in no cache, frame or referrer", () =>
    Effect.gen(function*() {
      const page = HtmlDocument.make({ title: "Mine", body: "<main></main>", style: "main {}", script: "0" })
      const server = yield* start({
        routes: Layer.merge(HttpRouter.add("GET", "/mine", Effect.provide(page, NodeCrypto.layer)), Edge.layer)
      })
      const answer = yield* server.send({ path: "/mine" })
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(answer.headers["content-type"], "text/html; charset=utf-8")
      assert.strictEqual(answer.headers["cache-control"], "no-store")
      assert.strictEqual(answer.headers["x-content-type-options"], "nosniff")
      assert.strictEqual(answer.headers["referrer-policy"], "no-referrer")
      assert.strictEqual(answer.headers["cross-origin-opener-policy"], "same-origin")
      assert.isUndefined(answer.headers["set-cookie"])
      const policy = new Map(
        String(answer.headers["content-security-policy"]).split("; ").map((directive) => {
          const space = directive.indexOf(" ")
          return [directive.slice(0, space), directive.slice(space + 1)] as const
        })
      )
      const nonce = /'nonce-([\w-]{20,})'/.exec(policy.get("script-src") ?? "")?.[1]
      assert.isDefined(nonce)
      assert.deepStrictEqual(Object.fromEntries(policy), {
        "default-src": "'none'",
        "script-src": `'nonce-${nonce}'`,
        "style-src": `'nonce-${nonce}'`,
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'"
      })
      assert.strictEqual(answer.text.split(`nonce="${nonce}"`).length, 3)
      // Nothing is fetched from anywhere, and no script stands in an attribute.
      assert.notMatch(answer.text, /https?:|\/\/[a-z]|\bsrc=|\bon[a-z]+=|@import|[^ ]url\(/i)
      const again = yield* server.send({ path: "/mine" })
      assert.notStrictEqual(again.headers["content-security-policy"], answer.headers["content-security-policy"])
    }))
})

describe("the pages", () => {
  it.live("L-01 WEB-03: stand beside the API wherever it is mounted, or not at all if the host has its own", () =>
    Effect.gen(function*() {
      const statusesOf = Effect.fnUntraced(function*(options: Sallyport.Options, paths: ReadonlyArray<string>) {
        const server = yield* start({ routes: Sallyport.layer(options) })
        return yield* Effect.forEach(paths, (path) => Effect.map(server.send({ path }), ({ status }) => status))
      })
      const paths = ["/pair", "/connections", "/", "/a/b/pair", "/a/b/connections", "/a/b/"]
      assert.deepStrictEqual(yield* statusesOf({}, paths), [200, 200, 404, 404, 404, 404])
      assert.deepStrictEqual(yield* statusesOf({ prefix: "/a/b" }, paths), [404, 404, 404, 200, 200, 404])
      const withStart = yield* statusesOf({ prefix: "/a/b", pages: { start: true } }, paths)
      assert.deepStrictEqual(withStart, [404, 404, 404, 200, 200, 200])
      assert.deepStrictEqual(yield* statusesOf({ pages: false }, paths), [404, 404, 404, 404, 404, 404])
    }))
})
