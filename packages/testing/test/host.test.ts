/** Tests the tools for a host's tests on a small host of their own, over real connections. */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { requires } from "@sallyport/contract/Authentication"
import {
  AuthPolicy,
  BootstrapCredentialService,
  CurrentSession,
  DpopProof,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { RunProgram, Sallyport } from "@sallyport/http"
import { MovableClock, SteppedRuns, TestClient, TestNetwork, TestPrincipal } from "@sallyport/testing/host"
import { Context, Effect, Fiber, Layer, Logger, Option, Queue, Schema, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup, HttpApiTest } from "effect/http-api"
import { createServer } from "node:http"

// #region host
/** Serves the host as it is served for real, but in memory, and with runs that the test steps. */
const layerHost = HttpRouter.serve(Sallyport.layer(), { disableListenLog: true, disableLogger: true }).pipe(
  Layer.provideMerge(SteppedRuns.layer),
  Layer.provideMerge(Layer.mergeAll(
    BootstrapCredentialService.layer,
    SessionCredentialService.layer,
    RunEventLog.layer,
    DpopProof.layer
  )),
  Layer.provide([Repositories.layerMemory, SecretStore.layerMemory, AuthPolicy.layer({ host: "127.0.0.1" })]),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
  Layer.provideMerge(TestNetwork.layer),
  Layer.provideMerge(MovableClock.layer),
  Layer.provide([NodeCrypto.layer, Logger.layer([])])
)
// #endregion host

const intent = { threadId: "thread-1", input: { question: "Why?" } }

/** Follows what an intent has started, and hands its events out one by one: its data, and the status of its end. */
const following = Effect.fnUntraced(function*({ runs }: TestClient.TestClient) {
  const seen = yield* Queue.unbounded<unknown>()
  yield* runs.run(yield* runs.intent(intent)).pipe(
    Stream.runForEach((event) => Queue.offer(seen, event._tag === "Data" ? event.data : event.end.status)),
    Effect.forkScoped
  )
  return { next: Queue.take(seen) }
})

const sessionOf = ({ access }: TestClient.TestClient) =>
  Effect.map(access.refresh, (state) => state.authenticated ? state.session : undefined)

describe("TestClient", () => {
  // #region clients
  it.live("signs in by a cookie, a token, or a token with a key; a revoked one is out", () =>
    Effect.gen(function*() {
      const ada = yield* TestClient.signIn({ subject: "ada", kind: "cookie", label: "Ada's browser" })
      const phone = yield* TestClient.signIn({ subject: "ada", kind: "dpop", scopes: ["runs:read"] })
      assert.strictEqual((yield* sessionOf(phone))?.method, "dpop-access-token")

      yield* ada.access.revokeOtherSessions
      const refused = yield* Effect.flip(phone.runs.active("thread-1"))
      assert.strictEqual(refused.reason._tag, "SignedOut")
    }).pipe(Effect.scoped, Effect.provide(layerHost)))
  // #endregion clients

  it.live("has the scopes that it is given, and no more", () =>
    Effect.gen(function*() {
      const reader = yield* TestClient.signIn({ scopes: ["runs:read"], label: "a reader" })
      const session = yield* sessionOf(reader)
      assert.deepStrictEqual(session?.scopes, ["runs:read"])
      assert.strictEqual(session?.method, "bearer-access-token")
      assert.isTrue(Option.isSome(reader.token))
      const refused = yield* Effect.flip(reader.access.sessions)
      assert.strictEqual(refused.reason._tag, "Forbidden")
      const browser = yield* TestClient.signIn({ kind: "cookie" })
      assert.isTrue(Option.isNone(browser.token))
      assert.strictEqual((yield* sessionOf(browser))?.method, "browser-session-cookie")
    }).pipe(Effect.scoped, Effect.provide(layerHost)))
})

describe("TestPrincipal", () => {
  // #region principal
  const mine = Effect.map(CurrentSession.CurrentSession, ({ subject }) => `notes of ${subject}`)

  it.effect("provides the session of a request that there is not", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* mine, "notes of ada")
    }).pipe(Effect.provide(TestPrincipal.layer({ subject: "ada", scopes: ["runs:read"] }))))
  // #endregion principal

  it.effect("lets requests in to an API, as far as its scopes go", () =>
    Effect.gen(function*() {
      const Notes = HttpApi.make("notes").add(
        HttpApiGroup.make("notes").add(
          HttpApiEndpoint.get("read", "/notes", { success: Schema.String }).pipe(requires("runs:read")),
          HttpApiEndpoint.get("list", "/sessions", { success: Schema.String }).pipe(requires("access:read"))
        )
      )
      const handlers = HttpApiBuilder.group(Notes, "notes", (all) =>
        all.handleAll({
          read: () => mine,
          list: () => mine
        }))
      const client = yield* HttpApiTest.groups(Notes, ["notes"]).pipe(
        Effect.provide(Layer.provideMerge(
          handlers,
          Layer.merge(
            TestPrincipal.layerAuthenticated({ subject: "ada", scopes: ["runs:read"] }),
            HttpServer.layerServices
          )
        ))
      )
      assert.strictEqual(yield* client.notes.read(), "notes of ada")
      const refused = yield* Effect.flip(client.notes.list())
      assert.strictEqual(refused._tag === "Forbidden" && refused.code, "scope_required")
    }))
})

describe("MovableClock", () => {
  // #region clock
  it.live("a session is over when it was not used for a month", () =>
    Effect.gen(function*() {
      const clock = yield* MovableClock.MovableClock
      const phone = yield* TestClient.signIn()
      assert.isTrue((yield* phone.access.refresh).authenticated)
      yield* clock.advance("31 days")
      assert.isFalse((yield* phone.access.refresh).authenticated)
    }).pipe(Effect.scoped, Effect.provide(layerHost)))
  // #endregion clock

  it.live("a move ends the sleeps that are over by then, and shortens the others", () =>
    Effect.gen(function*() {
      const { advance } = yield* MovableClock.MovableClock
      const short = yield* Effect.forkChild(Effect.sleep("1 hour"), { startImmediately: true })
      const long = yield* Effect.forkChild(Effect.sleep("3 hours"), { startImmediately: true })
      yield* advance("2 hours")
      yield* Fiber.join(short)
      assert.isUndefined(long.pollUnsafe())
      yield* advance("59 minutes")
      assert.isUndefined(long.pollUnsafe())
      yield* advance("1 minute")
      yield* Fiber.join(long)
      yield* Effect.sleep("1 millis")
    }).pipe(Effect.provide(MovableClock.layer)))
})

describe("TestNetwork", () => {
  // #region network
  it.live("a reader misses nothing when its connection is cut, hangs, or is refused for a while", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const runs = yield* SteppedRuns.SteppedRuns
      const reader = yield* following(yield* TestClient.signIn())
      const run = yield* runs.next

      yield* run.append("one")
      assert.strictEqual(yield* reader.next, "one")
      yield* network.cut
      yield* run.append("two")
      assert.strictEqual(yield* reader.next, "two")
      yield* network.hang
      yield* run.append("three")
      yield* network.restore
      assert.strictEqual(yield* reader.next, "three")
      yield* network.refuse
      yield* run.succeed()
      yield* network.restore
      assert.strictEqual(yield* reader.next, "succeeded")
    }).pipe(Effect.scoped, Effect.provide(layerHost)))
  // #endregion network

  const answering = (answer: () => Response) =>
    TestNetwork.layer.pipe(Layer.provide(Layer.succeed(FetchHttpClient.Fetch, async () => answer())))
  const get = Effect.flatMap(HttpClient.get("http://localhost/"), ({ text }) => text)

  it.live("cuts an answer that is under way, and refuses while it is told to", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const parts = yield* Queue.unbounded<string>()
      const response = yield* HttpClient.get("http://localhost/")
      const reading = yield* response.stream.pipe(
        Stream.decodeText,
        Stream.runForEach((part) => Queue.offer(parts, part)),
        Effect.forkChild
      )
      assert.strictEqual(yield* Queue.take(parts), "part")
      yield* network.cut
      assert.strictEqual((yield* Effect.flip(Fiber.join(reading)))._tag, "HttpClientError")
      yield* network.refuse
      assert.strictEqual((yield* Effect.flip(get))._tag, "HttpClientError")
      const failed = yield* Effect.promise(() => network.fetch("http://localhost/").then(() => "answered", String))
      assert.include(failed, "refuses connections")
    }).pipe(Effect.provide(answering(() =>
      new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode("part")) })
      )
    ))))

  it.live("holds back what it is told to hold back, by the clock of the test", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const { advance } = yield* MovableClock.MovableClock
      yield* network.slow("1 hour")
      const slow = yield* Effect.forkChild(get, { startImmediately: true })
      yield* Effect.yieldNow
      assert.isUndefined(slow.pollUnsafe())
      // The request is held back, and then its answer.
      while (slow.pollUnsafe() === undefined) {
        yield* advance("1 hour")
        yield* Effect.sleep("1 millis")
      }
      assert.strictEqual(yield* Fiber.join(slow), "all")
      yield* network.hang
      const hung = yield* Effect.forkChild(get, { startImmediately: true })
      yield* advance("1 day")
      assert.isUndefined(hung.pollUnsafe())
      yield* network.restore
      assert.strictEqual(yield* Fiber.join(hung), "all")
      yield* network.hang
      const cut = yield* Effect.forkChild(get, { startImmediately: true })
      yield* Effect.yieldNow
      yield* network.cut
      assert.strictEqual((yield* Effect.flip(Fiber.join(cut)))._tag, "HttpClientError")
      assert.strictEqual(yield* get, "all")
      yield* network.refuse
      yield* network.cut
      assert.strictEqual(yield* get, "all")
    }).pipe(
      Effect.provide(answering(() => new Response("all")).pipe(Layer.provideMerge(MovableClock.layer)))
    ))

  it.live("breaks the sockets between a client and a server, and leads them to another server", () =>
    Effect.gen(function*() {
      const other = yield* Layer.build(Layer.fresh(layerHost))
      const wire = yield* TestNetwork.between(yield* TestClient.serverUrl)
      const runs = yield* SteppedRuns.SteppedRuns
      const client = yield* TestClient.signIn({ baseUrl: wire.url }).pipe(
        Effect.provide(FetchHttpClient.layer)
      )
      const reader = yield* following(client)
      const run = yield* runs.next
      yield* run.append("one")
      assert.strictEqual(yield* reader.next, "one")
      yield* wire.cut
      yield* run.append("two")
      assert.strictEqual(yield* reader.next, "two")
      yield* wire.hang
      yield* run.append("three")
      yield* wire.slow("1 millis")
      assert.strictEqual(yield* reader.next, "three")
      yield* wire.refuse
      assert.strictEqual((yield* Effect.flip(client.access.refresh)).reason._tag, "Unreachable")
      yield* wire.restore
      assert.isTrue((yield* client.access.refresh).authenticated)
      yield* wire.lead(HttpServer.formatAddress(Context.get(other, HttpServer.HttpServer).address))
      yield* wire.cut
      assert.isFalse((yield* client.access.refresh).authenticated)
    }).pipe(Effect.scoped, Effect.provide(layerHost)))
})

describe("SteppedRuns", () => {
  // #region runs
  it.live("a client sees how a run ends whose writer was killed, and what a late writer adds is refused", () =>
    Effect.gen(function*() {
      const runs = yield* SteppedRuns.SteppedRuns
      const reader = yield* following(yield* TestClient.signIn())
      const run = yield* runs.next
      assert.deepStrictEqual(run.input, { question: "Why?" })
      yield* run.append("because")
      yield* run.crash
      assert.strictEqual((yield* run.ended).endReason, "stale_run")
      assert.deepStrictEqual([yield* reader.next, yield* reader.next], ["because", "failed"])
      const refused = yield* Effect.flip(run.append("too late"))
      assert.strictEqual(refused.reason._tag, "RunEnded")
    }).pipe(Effect.scoped, Effect.provide(layerHost)))
  // #endregion runs

  const layerRuns = (program: typeof SteppedRuns.layer) =>
    program.pipe(
      Layer.provideMerge(RunEventLog.layer),
      Layer.provideMerge(Layer.merge(Repositories.layerMemory, NodeCrypto.layer)),
      Layer.provide(Logger.layer([]))
    )
  const request = { threadId: "thread-1", idempotencyKey: "a", owner: { subject: "ada" }, request: "tea" }

  it.live("starts a run without a client, once for a key, asks, and ends it as it is told to", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const runs = yield* SteppedRuns.SteppedRuns
      const run = yield* runs.start(request)
      assert.strictEqual((yield* runs.start(request)).run.runId, run.run.runId)
      const asking = yield* Effect.forkChild(run.ask("milk", "With milk?"), { startImmediately: true })
      const events = yield* log.events({ runId: run.run.runId })
      yield* Stream.runHead(events)
      yield* log.answer({ runId: run.run.runId, name: "milk", value: "no" })
      assert.strictEqual(yield* Fiber.join(asking), "no")
      assert.strictEqual((yield* run.succeed("served")).status, "succeeded")
      assert.strictEqual((yield* run.succeed("again")).status, "succeeded")
      const other = yield* runs.start({ ...request, idempotencyKey: "b" })
      assert.strictEqual((yield* other.fail(new Error("no tea"))).status, "failed")
      const third = yield* runs.start({ ...request, idempotencyKey: "c" })
      yield* log.abort({ runId: third.run.runId })
      assert.strictEqual((yield* third.ended).status, "aborted")
    }).pipe(Effect.scoped, Effect.provide(layerRuns(SteppedRuns.layer))))

  it.live("gives a resumable run to the next writer after a crash, with what was appended", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      const runs = yield* SteppedRuns.SteppedRuns
      const { execute } = yield* RunProgram.RunProgram
      const session = yield* TestPrincipal.make()
      yield* log.execute({ ...request, resumable: true }, (run) => execute({ input: "tea", run, session }))
      const first = yield* runs.next
      yield* first.append("kettle on")
      yield* first.crash
      const second = yield* runs.next
      assert.strictEqual(second.run.runId, first.run.runId)
      assert.deepStrictEqual(
        (yield* Stream.runCollect(second.history)).map(({ data }) => data),
        ["kettle on"]
      )
      assert.strictEqual((yield* Effect.flip(first.append("zombie"))).reason._tag, "Fenced")
      assert.strictEqual((yield* second.succeed()).status, "succeeded")
    }).pipe(Effect.scoped, Effect.provide(layerRuns(SteppedRuns.layerResumable))))
})
