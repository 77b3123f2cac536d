import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as WaitUntil from "@sallyport/core/runs/WaitUntil"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { counting } from "./support.ts"

const services = Layer.mergeAll(
  SessionCredentialService.layer,
  BootstrapCredentialService.layer,
  RunEventLog.layer,
  AuthPolicy.layer({ host: "127.0.0.1", kind: "remote-reachable" }),
  RunProgram.layer(counting)
).pipe(
  Layer.provideMerge(Layer.mergeAll(Repositories.layerMemory, SecretStore.layerMemory)),
  Layer.provideMerge(NodeCrypto.layer)
)

/** Makes a web-standard handler of the whole surface, as a host on another platform does, and the services behind it. */
const handler = Effect.gen(function*() {
  const context = yield* Layer.build(services)
  const { dispose, handler } = HttpRouter.toWebHandler(
    Sallyport.layer({ prefix: "/app" }).pipe(
      Layer.provide(Layer.succeedContext(context)),
      Layer.provide(HttpServer.layerServices),
      Layer.provideMerge(Logger.layer([]))
    ),
    { disableLogger: true }
  )
  yield* Effect.addFinalizer(() => Effect.promise(dispose))
  const send = (path: string, init?: RequestInit, context: Context.Context<never> = Context.empty()) =>
    Effect.promise(() => handler(new Request(`https://app.example${path}`, init), context))
  const json = (response: Response): Effect.Effect<Record<string, unknown>> => Effect.promise(() => response.json())
  return { context, send, json }
})

const post = (body: unknown, headers: Record<string, string> = {}): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json", host: "app.example", ...headers },
  body: JSON.stringify(body)
})

describe("the surface as a web-standard handler", () => {
  it.live("HTTP-06: pairs a browser, answers with its session, and follows what changes", () =>
    Effect.gen(function*() {
      const { context, json, send } = yield* handler
      const links = Context.get(context, BootstrapCredentialService.BootstrapCredentialService)
      const { code } = yield* Effect.orDie(
        links.issue({ issuedBy: "operator", scopes: ["access:read", "access:write", "runs:read", "runs:operate"] })
      )
      const credential = Redacted.value(code)
      const refused = yield* send("/app/api/auth/bootstrap", post({ credential }, { origin: "https://evil.example" }))
      assert.strictEqual(refused.status, 403)
      const paired = yield* send("/app/api/auth/bootstrap", post({ credential }, { origin: "https://app.example" }))
      assert.strictEqual(paired.status, 200)
      assert.notInclude(JSON.stringify(yield* json(paired)), "eyJ")
      const setCookie = paired.headers.get("set-cookie") ?? ""
      assert.match(setCookie, /^__Host-sallyport_session=[^;]+;/)
      const cookie = setCookie.split(";", 1).join("")

      const state = yield* json(yield* send("/app/api/auth/session", { headers: { cookie } }))
      assert.strictEqual(state.authenticated, true)
      const open = yield* json(yield* send("/app/api/auth/session"))
      assert.strictEqual(open.authenticated, false)
      assert.strictEqual((yield* send("/app/api/auth/sessions")).status, 401)
      assert.strictEqual((yield* send("/app/api/openapi.json")).status, 200)
      assert.strictEqual((yield* send("/app/pair")).status, 200)

      const run = yield* send(
        "/app/api/runs",
        post({ threadId: "t", input: 3 }, { cookie, "idempotency-key": "k", "sec-fetch-site": "same-origin" })
      )
      const { run: { runId } } = Object(yield* json(run))
      const events = yield* send(`/app/api/runs/${runId}/events`, { headers: { cookie } })
      assert.match(events.headers.get("content-type") ?? "", /^text\/event-stream/)
      const text = yield* Effect.promise(() => events.text())
      for (const n of [1, 2, 3]) assert.include(text, `{"n":${n}}`)

      const feed = yield* send("/app/api/auth/access", { headers: { cookie } })
      const reader = feed.body?.getReader()
      if (reader === undefined) return assert.fail()
      const decoder = new TextDecoder()
      let seen = ""
      while (!seen.includes("event: snapshot")) {
        const { done, value } = yield* Effect.promise(() => reader.read())
        assert.isFalse(done)
        seen += decoder.decode(value)
      }
      yield* Effect.promise(() => reader.cancel())
    }).pipe(Effect.scoped))

  it.live("C-81 RUN-07: a platform that ends background work with the answer is told how long each run takes", () =>
    Effect.gen(function*() {
      const { context, json, send } = yield* handler
      const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
      const { token } = yield* Effect.orDie(
        sessions.issue({ subject: "ada", scopes: ["runs:operate"], method: "bearer-access-token" })
      )
      const log = Context.get(context, RunEventLog.RunEventLog)
      const works: Array<Promise<void>> = []
      const start = (key: string) =>
        send(
          "/app/api/runs",
          post({ threadId: key, input: 3 }, {
            authorization: `Bearer ${Redacted.value(token)}`,
            "idempotency-key": key
          }),
          Context.make(WaitUntil.WaitUntil, (work) => void works.push(work))
        )
      const { run: { runId } } = Object(yield* json(yield* start("one")))
      assert.strictEqual(works.length, 1)
      yield* Effect.promise(() => Promise.all(works))
      const { status } = yield* Effect.orDie(log.get({ runId, owner: { subject: "ada" } }))
      assert.strictEqual(status, "succeeded")
      // A run that exists is not executed again.
      yield* start("one")
      assert.strictEqual(works.length, 1)
    }).pipe(Effect.scoped))

  it.live("HTTP-06 HTTP-03: where no address is known, none is made up, and wrong codes are counted in total", () =>
    Effect.gen(function*() {
      const { context, json, send } = yield* handler
      const links = Context.get(context, BootstrapCredentialService.BootstrapCredentialService)
      const attempt = (credential: string) =>
        send("/app/api/auth/bootstrap", post({ credential }, { "x-forwarded-for": "198.51.100.7" }))
      for (let index = 0; index < 20; index++) {
        const wrong = yield* Effect.provideContext(PairingCode.generate("device"), context)
        assert.strictEqual((yield* attempt(Redacted.value(wrong))).status, 401)
      }
      const { code } = yield* Effect.orDie(links.issue({ issuedBy: "operator", scopes: [] }))
      const { session } = Object(yield* json(yield* attempt(Redacted.value(code))))
      assert.isNull(session.device.address)
    }).pipe(Effect.scoped))
})
