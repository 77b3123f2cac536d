import { assert, describe, it } from "@effect/vitest"
import * as Access from "@sallyport/client/Access"
import * as Credentials from "@sallyport/client/Credentials"
import type * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as Hooks from "@sallyport/react/Hooks"
import * as Store from "@sallyport/react/Store"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import { createElement } from "react"
import { renderToString } from "react-dom/server"
import { connect, eventually, having, impatient, network, pretend, start } from "../../client/test/support.ts"

/** Makes a store of a page, which a person uses as a browser does. */
const open = (baseUrl: string, runs: Runs.Options = {}) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        ManagedRuntime.make(
          SallyportClient.layer({ baseUrl, credentials: Credentials.layerCookieJar, runs }).pipe(
            Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
          )
        )
      ),
      (runtime) => runtime.disposeEffect
    ),
    (runtime) => ({ runtime, store: Store.make(runtime) })
  )

const pair = (code: Access.PairOptions["code"]) => Access.Access.use((access) => access.pair({ code }))
const devices = (store: Store.Store) =>
  Option.match(store.snapshot().access, { onNone: () => -1, onSome: ({ devices }) => devices.length })

describe("the store", () => {
  it.live("FEED-01: follows by one connection for any number of listeners, and by none when there is no listener", () =>
    Effect.gen(function*() {
      let following = 0
      let asked = 0
      const server = yield* pretend((request, response) => {
        if (request.url === "/api/auth/session") {
          response.writeHead(200, { "content-type": "application/json" })
          response.end(JSON.stringify({
            authenticated: true,
            policy: {
              kind: "loopback-browser",
              name: null,
              bootstrapMethods: [],
              sessionMethods: [],
              identities: [],
              scopes: ["access:read"],
              scopeTitles: {}
            },
            session: {
              id: "00000000-0000-7000-8000-000000000000",
              subject: "owner",
              method: "browser-session-cookie",
              scopes: ["access:read"],
              scopeRequest: null,
              proofKeyThumbprint: null,
              device: { label: null, kind: "browser", userAgent: null, address: null },
              letInBy: { actor: "operator", sessionId: null, linkId: null },
              client: null,
              lifetimeSeconds: null,
              absoluteExpiresAt: null,
              createdAt: "2026-01-01T00:00:00.000Z",
              lastSeenAt: "2026-01-01T00:00:00.000Z",
              expiresAt: "2027-01-01T00:00:00.000Z",
              current: true
            }
          }))
          return
        }
        following++
        asked++
        response.on("close", () => following--)
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.write(
          `event: snapshot\nid: 1\ndata: ${JSON.stringify({ revision: 1, sessions: [], pairingLinks: [] })}\n\n`
        )
      })
      const { store } = yield* open(server.url)
      assert.deepStrictEqual(server.requests, [], "nothing is asked before there is a listener")
      const leave = Array.from({ length: 8 }, () => store.subscribe(() => {}))
      yield* eventually(() => devices(store) === 0)
      const before = store.snapshot()
      assert.strictEqual(store.snapshot(), before, "the same object until something changes")
      assert.strictEqual(asked, 1)
      for (const each of leave) each()
      yield* eventually(() => following === 0)
      const again = store.subscribe(() => {})
      yield* eventually(() => following === 1)
      // The last listener goes and another one comes in the same turn.
      again()
      store.subscribe(() => {})
      yield* Effect.promise(() => new Promise<void>((resolve) => queueMicrotask(resolve)))
      assert.deepStrictEqual([following, asked], [1, 2])
    }))

  it.live("L-14 SESS-08: shows that this device is signed in after pairing, and drops its data once it is revoked", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* connect(server.url, having(yield* server.token()))
      const { store } = yield* open(server.url)
      store.subscribe(() => {})
      yield* eventually(() => Option.isSome(store.snapshot().session))
      assert.deepStrictEqual(
        Option.map(store.snapshot().session, ({ authenticated }) => authenticated),
        Option.some(false)
      )
      assert.isFalse(store.snapshot().ended, "it was never signed in")
      const code = yield* server.code()
      yield* Effect.promise(() => store.run(pair(code)))
      yield* eventually(() => devices(store) === 2)
      yield* owner.access.revokeOtherSessions
      yield* eventually(() => store.snapshot().ended)
      assert.isTrue(Option.isNone(store.snapshot().access))
      // It pairs again on the same page.
      const other = yield* server.code()
      yield* Effect.promise(() => store.run(pair(other)))
      yield* eventually(() => devices(store) === 2 && !store.snapshot().ended)
    }))

  it.live("SESS-15: tells a session that may not read access so, and follows nothing", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const { store } = yield* open(server.url)
      store.subscribe(() => {})
      const code = yield* server.code(["runs:read"])
      yield* Effect.promise(() => store.run(pair(code)))
      yield* eventually(() => Option.exists(store.snapshot().session, ({ authenticated }) => authenticated))
      const answer = yield* Effect.promise(() => store.run(Access.Access.use((access) => access.sessions)))
      assert.isTrue(Result.isFailure(answer))
      assert.isTrue(Option.isNone(store.snapshot().access))
    }))

  it.live("RUN-08: follows a run to its end, however long its server is away meanwhile", () =>
    Effect.gen(function*() {
      const steps = yield* Queue.unbounded<string>()
      const server = yield* start({
        program: ({ run }) => Effect.forever(Effect.flatMap(Queue.take(steps), (step) => run.append(step)))
      })
      const wire = yield* network(server.port)
      const owner = yield* connect(server.url, having(yield* server.token()))
      // One attempt uses the budget of a request up.
      const { store } = yield* open(wire.url, { ...impatient, maxAttempts: 1 })
      const code = yield* server.code()
      yield* Effect.promise(() => store.run(pair(code)))
      const { runId } = yield* owner.runs.start(yield* owner.runs.intent({ threadId: "a thread", input: 0 }))
      const told: Array<Schema.Json> = []
      const connections: Array<boolean> = []
      let failure = Option.none<RunsError>()
      const stop = store.watch(
        store.followRun(runId, {
          onConnection: (run) => Effect.sync(() => void connections.push(Option.isSome(run))),
          onEvents: (events) =>
            Effect.sync(() => void told.push(...events.map((event) => event._tag === "Data" ? event.data : "end")))
        }).pipe(Effect.catch((fault) =>
          Effect.sync(() => {
            failure = Option.some(fault)
          })
        ))
      )
      yield* Effect.addFinalizer(() => Effect.sync(stop))
      yield* Queue.offer(steps, "before")
      yield* eventually(() => told.length === 1)
      wire.lead(1)
      wire.cutAll()
      yield* Queue.offer(steps, "meanwhile")
      const tried = wire.connections()
      yield* eventually(() => Option.isSome(failure) || wire.connections() >= tried + 3)
      assert.deepStrictEqual(failure, Option.none())
      assert.isFalse(connections.at(-1))
      wire.lead(server.port)
      yield* eventually(() => told.length === 2)
      yield* owner.runs.abort(runId)
      yield* eventually(() => told.length === 3)
      assert.deepStrictEqual(told, ["before", "meanwhile", "end"])
      assert.deepStrictEqual(failure, Option.none())
    }))

  it.live("a server renders what is not known yet, and asks nothing", () =>
    Effect.gen(function*() {
      const server = yield* pretend(() => {})
      const { runtime } = yield* open(server.url)
      const Page = () => {
        const { session } = Hooks.useSession()
        const { view } = Hooks.useConnections()
        const { mode } = Hooks.useConnectClients()
        const { events } = Hooks.useRun(Option.some("a run"))
        const { busy } = Hooks.useActions()
        return createElement("p", {}, [session, view, mode, busy].map(({ _tag }) => _tag).join(), events.length)
      }
      const html = renderToString(createElement(Hooks.SallyportProvider, { client: runtime }, createElement(Page)))
      assert.strictEqual(html, "<p>None,None,None,None<!-- -->0</p>")
      assert.throws(() => renderToString(createElement(Page)), /render one around it/)
      assert.deepStrictEqual(server.requests, [])
    }))
})
