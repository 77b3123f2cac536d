import { assert, describe, it } from "@effect/vitest"
import * as Connect from "@sallyport/client/Connect"
import * as Credentials from "@sallyport/client/Credentials"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as Linking from "@sallyport/connect/Linking"
import { accessTokenType } from "@sallyport/contract/SessionGroup"
import type { DecisionStatus } from "@sallyport/core/access/ConnectClient"
import * as Clock from "effect/Clock"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Context from "effect/Context"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { OutgoingHttpHeaders, ServerResponse } from "node:http"
import { inspect } from "node:util"
import { start, type World } from "./connectSupport.ts"
import { collect, connect, eventually, impatient, pretend, refuse, sentence } from "./support.ts"
import { telling } from "../../../test-support/clock.ts"

const Pending = Schema.Struct({ answer: Schema.Struct({ requestedAt: Schema.Int }) })

const Device = DeviceKey.layerMemory.pipe(
  Layer.provideMerge(Layer.mergeAll(FetchHttpClient.layer, SecureRandom.layerWebCrypto, Digest.layerWebCrypto))
)

const holding = (tokens: TokenStorage.Tokens) => Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(tokens))

/** Connects with tokens of a pretended relay. */
const connectTo = (options: Connect.ConnectOptions) =>
  Effect.provide(Connect.connect(options), holding({ token: Redacted.make("the-token") }))

/** Asks in the background. `waiting` has what the device was told to show. */
const asking = Effect.fnUntraced(function*(
  world: World,
  relayTokens: TokenStorage.Tokens,
  options: Partial<Connect.ConnectOptions> = {}
) {
  const waiting = yield* Queue.unbounded<Connect.Waiting>()
  const fiber = yield* Connect.connect({
    relayUrl: world.relay.url,
    environmentId: world.environmentId,
    label: "A test",
    onWaiting: (shown) => Queue.offer(waiting, shown),
    retry: impatient,
    ...options
  }).pipe(Effect.provide(holding(relayTokens)), Effect.forkScoped)
  return { waiting, fiber, shown: Queue.take(waiting) }
})

const signIn = (world: World) =>
  Effect.flatMap(world.code, (credential) => Connect.exchange({ url: world.relay.url, credential }))

const reasonOf = <A>(fiber: Fiber.Fiber<A, Connect.ConnectError>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), ({ reason }) => reason)

/** Says that the owner has a minute to decide. */
const pendingAnswer = {
  environmentUrl: "http://127.0.0.1:1",
  answer: {
    status: "pending_approval",
    approvalStatus: "pending",
    requestedAt: 1_000,
    requestExpiresAt: 61_000,
    nonce: "n".repeat(22),
    requestId: "r".repeat(22),
    account: "ada",
    clientProofKeyThumbprint: "t".repeat(43),
    proof: ""
  }
}

describe("a device that connects", () => {
  for (const waiting of ["stream", "long-poll"] as const) {
    it.live(`CONN-08 CONN-11: shows the owner's code, waits and goes on by itself (${waiting})`, () =>
      Effect.gen(function*() {
        const world = yield* start()
        const key = yield* DeviceKey.DeviceKey
        const { fiber, shown } = yield* asking(world, yield* signIn(world), { waiting })
        const { expiresAtMillis, requestedAtMillis, verificationCode } = yield* shown
        const [client] = yield* world.clients.list()
        assert.strictEqual(client?.proofKeyThumbprint, key.thumbprint)
        assert.strictEqual(client?.verificationCode, verificationCode)
        assert.isAbove(expiresAtMillis, requestedAtMillis)
        yield* world.clients.decide({ client: key.thumbprint, decision: "approved", by: "operator" })
        const connected = yield* Fiber.join(fiber)
        assert.strictEqual(connected.environmentUrl, world.environmentUrl)
        const [used, unused] = waiting === "stream"
          ? ["GET /api/relay/decisions", "POST /api/relay/await-decision"]
          : ["POST /api/relay/await-decision", "GET /api/relay/decisions"]
        assert.strictEqual(world.requests.filter((request) => request === used).length, 1)
        assert.notInclude(world.requests, unused)

        // The session is used like any other, and works only with the key.
        const { access, runs } = yield* connect(
          connected.environmentUrl,
          Credentials.layerDpop.pipe(
            Layer.provide([TokenStorage.layerHolding(connected.tokens), Layer.succeed(DeviceKey.DeviceKey, key)])
          )
        )
        const state = yield* access.state
        assert.isTrue(state.authenticated)
        if (state.authenticated) assert.strictEqual(state.session.method, "dpop-access-token")
        assert.lengthOf(yield* access.sessions, 1)
        const { error, events } = yield* collect(
          runs.run(yield* runs.intent({ threadId: "thread", input: 5 }))
        )
        assert.isUndefined(error)
        assert.lengthOf(events, 6)
        const stolen = yield* connect(
          connected.environmentUrl,
          Layer.provide(Credentials.layerBearer, TokenStorage.layerHolding(connected.tokens))
        )
        assert.strictEqual((yield* Effect.flip(stolen.access.sessions)).reason._tag, "Unauthorized")
      }).pipe(Effect.provide(Device)))

    const decisions = {
      rejected: "Rejected",
      blocked: "Blocked",
      revoked: "Revoked"
    } as const
    for (const [decision, tag] of Object.entries(decisions)) {
      it.live(`CONN-11: is told that it was ${decision} (${waiting})`, () =>
        Effect.gen(function*() {
          const world = yield* start()
          const key = yield* DeviceKey.DeviceKey
          const { fiber, shown } = yield* asking(world, yield* signIn(world), { waiting })
          yield* shown
          const decide = (decision: "approved" | "rejected" | "blocked" | "revoked") =>
            world.clients.decide({ client: key.thumbprint, decision, by: "operator" })
          if (decision === "revoked") {
            // What is revoked was approved; the device misses that, as the relay is not there.
            yield* world.stopRelay
            yield* decide("approved")
            yield* decide("revoked")
            yield* world.startRelay
          } else yield* decide(decision === "rejected" ? "rejected" : "blocked")
          const reason = yield* reasonOf(fiber)
          assert.strictEqual(reason._tag, tag)
          assert.match(reason.message, /^[A-Z]/)
          // Asking again says when that makes sense.
          if (decision === "revoked") return
          const again = yield* reasonOf((yield* asking(world, yield* signIn(world), { waiting })).fiber)
          assert.strictEqual(again._tag, tag)
          if (again._tag === "Rejected") assert.isNotNull(again.askAgainAtMillis)
        }).pipe(Effect.provide(Device)))
    }

    it.live(`CONN-09: is told that the owner did not decide in time, and that too many wait (${waiting})`, () =>
      Effect.gen(function*() {
        const world = yield* start({ clients: { pendingLifetime: "5 seconds", maxPendingPerAccount: 1 } })
        const another = yield* Layer.build(Layer.fresh(Device))
        const theirs = yield* Effect.provide(signIn(world), another)
        const first = yield* asking(world, yield* signIn(world), { waiting })
        yield* first.shown
        const second = yield* Effect.provide(asking(world, theirs, { waiting }), another)
        const other = yield* reasonOf(second.fiber)
        assert.strictEqual(other._tag, "TooManyPending")
        assert.strictEqual((yield* reasonOf(first.fiber))._tag, "RequestExpired")
      }).pipe(Effect.provide(Device)))

    it.live(
      `CONN-11: waits on through cuts and a restart of the relay, and misses no decision that was made meanwhile (${waiting})`,
      () =>
        Effect.gen(function*() {
          const world = yield* start()
          const key = yield* DeviceKey.DeviceKey
          const { fiber, shown } = yield* asking(world, yield* signIn(world), { waiting })
          yield* shown
          for (const cuts of [1, 2, 3]) {
            const before = world.relay.connections()
            world.relay.cutAll()
            yield* eventually(() => world.relay.connections() > before)
            assert.isUndefined(fiber.pollUnsafe(), `cut ${cuts}`)
          }
          yield* world.stopRelay
          world.relay.cutAll()
          yield* world.clients.decide({ client: key.thumbprint, decision: "approved", by: "operator" })
          assert.isUndefined(fiber.pollUnsafe())
          yield* world.startRelay
          yield* Fiber.join(fiber)
        }).pipe(Effect.provide(Device))
    )
  }

  it.live("HTTP-04: is told by a relay that stops, and holds it up no longer", () =>
    Effect.gen(function*() {
      const world = yield* start({ gracefulShutdownTimeout: "1 hour" })
      const key = yield* DeviceKey.DeviceKey
      const { fiber, shown } = yield* asking(world, yield* signIn(world))
      yield* shown
      yield* eventually(() => world.requests.includes("GET /api/relay/decisions"))
      yield* world.stopRelay
      yield* world.clients.decide({ client: key.thumbprint, decision: "approved", by: "operator" })
      yield* world.startRelay
      yield* Fiber.join(fiber)
    }).pipe(Effect.provide(Device)))

  it.live("takes no room any more when it has gone away, and joins its request when it comes back", () =>
    Effect.gen(function*() {
      const world = yield* start({ clients: { maxWaiting: 1 } })
      const key = yield* DeviceKey.DeviceKey
      const token = yield* signIn(world)
      for (const _ of [1, 2, 3]) {
        const { fiber, shown } = yield* asking(world, token)
        yield* shown
        yield* eventually(() => world.requests.at(-1) === "GET /api/relay/decisions")
        yield* Fiber.interrupt(fiber)
      }
      const { fiber, shown } = yield* asking(world, token)
      const { requestedAtMillis } = yield* shown
      assert.deepStrictEqual(
        (yield* world.clients.list()).map(({ requestedAt }) => requestedAt.epochMilliseconds),
        [requestedAtMillis]
      )
      yield* world.clients.decide({ client: key.thumbprint, decision: "approved", by: "operator" })
      yield* Fiber.join(fiber)
      // A stream that is held for half a minute would make the others ask again and again.
      assert.isBelow(world.requests.length, 1_000)
    }).pipe(Effect.provide(Device)))

  it.live("waits with a long poll if the relay has no stream, or a proxy holds streams back", () =>
    Effect.gen(function*() {
      for (const stream of ["missing", "held back"]) {
        const decision = yield* Deferred.make<DecisionStatus>()
        const relay = yield* pretend((request, response) => {
          const json = (value: unknown) =>
            response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value))
          switch (request.url?.replace(/\?.*/, "")) {
            case "/api/relay/connect":
              return json(pendingAnswer)
            case "/api/relay/decisions":
              return stream === "missing" ? response.writeHead(404).end() : undefined
            case "/api/relay/await-decision":
              return Effect.runFork(Effect.map(Deferred.await(decision), (approvalStatus) => json({ approvalStatus })))
          }
        })
        const fiber = yield* connectTo({
          relayUrl: relay.url,
          environmentId: "environment",
          onWaiting: () => Effect.void,
          retry: { ...impatient, heartbeatInterval: "100 millis" }
        }).pipe(Effect.forkScoped)
        yield* eventually(() => relay.requests.some((request) => request.includes("await-decision")))
        yield* Deferred.succeed(decision, "rejected")
        assert.strictEqual((yield* reasonOf(fiber))._tag, "Rejected")
        assert.isAtMost(relay.requests.filter((request) => request.includes("decisions")).length, 2)
      }
    }).pipe(Effect.provide(Device)))

  it.live("CONN-11: waits on whatever becomes of a stream, or of the relay's memory, and shows its code once", () =>
    Effect.gen(function*() {
      const events = (response: ServerResponse, text: string) =>
        void response.writeHead(200, { "content-type": "text/event-stream" }).end(text)
      const failure = { code: "unavailable", message: sentence, retryable: true }
      const answers: Array<(response: ServerResponse) => void> = [
        (response) => refuse(response, 503, { _tag: "Unavailable", code: "unavailable" }, { "retry-after": "0" }),
        (response) => refuse(response, 404, { _tag: "NotFound", code: "connect_client_not_found" }),
        (response) => void response.writeHead(502).end("<h1>Bad gateway</h1>"),
        (response) => events(response, ": heartbeat\n\n"),
        (response) => events(response, `event: failure\ndata: ${JSON.stringify(failure)}\n\n`),
        (response) => events(response, `event: decision\ndata: {"approvalStatus":"pending"}\n\n`),
        (response) => refuse(response, 404, { _tag: "NotFound", code: "connect_client_not_found" }),
        (response) =>
          events(response, `event: later\ndata: {}\n\nevent: decision\ndata: {"approvalStatus":"blocked"}\n\n`)
      ]
      const total = answers.length
      const relay = yield* pretend((request, response) => {
        if (request.url !== "/api/relay/connect") return answers.shift()?.(response)
        response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(pendingAnswer))
      })
      const codes: Array<string> = []
      const error = yield* Effect.flip(connectTo({
        relayUrl: relay.url,
        environmentId: "environment",
        onWaiting: ({ verificationCode }) => Effect.sync(() => void codes.push(verificationCode)),
        retry: impatient
      }))
      assert.strictEqual(error.reason._tag, "Blocked")
      assert.lengthOf(codes, 1)
      // It asks for the present state if the relay says that it does not know the request, and only then.
      assert.strictEqual(relay.requests.filter((request) => request.includes("/connect")).length, 3)
      assert.lengthOf(relay.requests, total + 3)
    }).pipe(Effect.provide(Device)))

  it.live("does not hammer a relay that turns it away, and gives up on one that is not there", () =>
    Effect.gen(function*() {
      const relay = yield* pretend((_, response) => refuse(response, 503, { _tag: "Unavailable", code: "unavailable" }))
      const ask = (url: string) =>
        Effect.flip(connectTo({
          relayUrl: url,
          environmentId: "environment",
          onWaiting: () => Effect.void,
          retry: { ...impatient, maxAttempts: 4 }
        }))
      const error = yield* ask(relay.url)
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.include(error.message, sentence)
      assert.lengthOf(relay.requests, 4)
      assert.strictEqual((yield* ask("ftp://relay")).reason._tag, "InvalidInput")
      assert.notInclude(inspect(error, { depth: 20 }) + JSON.stringify(error), "the-token")
    }).pipe(Effect.provide(Device)))

  it.live("gives up on a relay that tells of approval again and again, and never lets it in", () =>
    Effect.gen(function*() {
      let asked = 0
      const relay = yield* pretend((request, response) => {
        const json = (value: unknown) =>
          response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value))
        if (request.url !== "/api/relay/connect") return json({ approvalStatus: "approved" })
        // Each round has another request, so each one is shown; and the budget ends the rounds.
        const requestedAt = ++asked * 1_000
        return asked > 50
          ? refuse(response, 401, { _tag: "Unauthorized", code: "invalid_credential" })
          : json({
            ...pendingAnswer,
            answer: { ...pendingAnswer.answer, requestedAt, requestExpiresAt: requestedAt + 60_000 }
          })
      })
      const error = yield* Effect.flip(connectTo({
        relayUrl: relay.url,
        environmentId: "environment",
        onWaiting: () => Effect.void,
        waiting: "long-poll",
        retry: { ...impatient, maxAttempts: 4 }
      }))
      assert.strictEqual(error.reason._tag, "Unreachable")
      // The first approval is no failure.
      assert.strictEqual(asked, 5)
    }).pipe(Effect.provide(Device)))

  it.live("has no say about its account's environments, with its key or without", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const { fiber, shown } = yield* asking(world, yield* signIn(world))
      yield* shown
      const relay = world.relay.url
      const thief = {
        environmentId: world.environmentId,
        url: "https://thief.example",
        key: { kty: "OKP", crv: "Ed25519", x: "x".repeat(43), kid: "k".repeat(43) },
        proof: "proof"
      }
      // The device decides by itself whether its code becomes a token that is bound to its key.
      const plain = yield* Linking.exchangeCode({ relayUrl: relay, code: yield* world.code })
      const kinds = [[Credentials.layerDpop, (yield* signIn(world)).token], [Credentials.layerBearer, plain]] as const
      for (const [layer, token] of kinds) {
        const { present } = yield* Credentials.Credentials.pipe(
          Effect.provide(Layer.provide(layer, TokenStorage.layerMemory))
        )
        const http = present(yield* HttpClient.HttpClient, Option.some(token))
        const post = (path: string, payload: object) =>
          http.execute(HttpClientRequest.bodyJsonUnsafe(HttpClientRequest.post(relay + path), payload))
        const refused = [
          yield* post("/api/relay/environments", thief),
          yield* post("/api/relay/environments/unlink", { environmentId: world.environmentId }),
          yield* http.get(`${relay}/api/relay/proofs`)
        ]
        assert.deepStrictEqual(refused.map(({ status }) => status), [403, 403, 403])
        assert.strictEqual((yield* http.get(`${relay}/api/relay/environments`)).status, 200)
      }
      yield* world.clients.decide({
        client: (yield* DeviceKey.DeviceKey).thumbprint,
        decision: "approved",
        by: "operator"
      })
      assert.strictEqual((yield* Fiber.join(fiber)).environmentUrl, world.environmentUrl)
    }).pipe(Effect.provide(Device)))

  it.live("holds so many streams and long polls open at a relay, and its account so many, until some of them end", () =>
    Effect.gen(function*() {
      const world = yield* start({ relay: { waitsPerClient: 3, waitsPerAccount: 5 } })
      /** A device of the account whose request waits. */
      const waiter = Effect.gen(function*() {
        const { present } = yield* Credentials.Credentials.pipe(
          Effect.provide(Layer.provide(Credentials.layerDpop, TokenStorage.layerMemory))
        )
        const http = present(yield* HttpClient.HttpClient, Option.some((yield* signIn(world)).token))
        const relay = `${world.relay.url}/api/relay`
        const { environmentId } = world
        const post = (path: string, payload: object) =>
          http.execute(HttpClientRequest.bodyJsonUnsafe(HttpClientRequest.post(relay + path), payload))
        const { answer } = yield* Effect.flatMap(
          post("/connect", { environmentId }),
          HttpClientResponse.schemaBodyJson(Pending)
        )
        const request = { environmentId, requestedAt: answer.requestedAt }
        return {
          /** Opens a stream for as long as the scope is open. */
          follow: Effect.map(
            HttpClient.withScope(http).get(`${relay}/decisions`, { urlParams: request }),
            ({ status }) => status
          ),
          poll: Effect.map(post("/await-decision", { ...request, waitSeconds: 0 }), ({ status }) => status)
        }
      }).pipe(Effect.provide(Layer.fresh(DeviceKey.layerMemory)))

      const first = yield* waiter
      const streams = yield* Scope.fork(yield* Scope.Scope)
      for (let n = 0; n < 3; n++) {
        assert.strictEqual(yield* Scope.provide(first.follow, streams), 200)
      }
      assert.strictEqual(yield* first.follow, 503)
      assert.strictEqual(yield* first.poll, 503)
      // Another device has its own limit, until its account has reached its limit.
      const second = yield* waiter
      for (const status of [200, 200, 503]) assert.strictEqual(yield* second.follow, status)

      yield* Scope.close(streams, Exit.void)
      yield* Effect.repeat(first.poll, { until: (status) => status === 200 })
      // Answered requests occupy nothing, however many there were.
      for (let n = 0; n < 10; n++) assert.strictEqual(yield* first.poll, 200)
    }).pipe(Effect.provide(Device)))

  it.live("SESS-08: stops waiting if its session at the relay ends, or there was none", () =>
    Effect.gen(function*() {
      const world = yield* start()
      const token = yield* signIn(world)
      const { fiber, shown } = yield* asking(world, token)
      yield* shown
      yield* world.revokeRelaySessions
      assert.strictEqual((yield* reasonOf(fiber))._tag, "SignedOut")
      const again = yield* asking(world, token)
      assert.strictEqual((yield* reasonOf(again.fiber))._tag, "SignedOut")
    }).pipe(Effect.provide(Device)))

  it.live("SESS-16: refreshes the relay's tokens while it connects, and gets those of the environment with it", () =>
    Effect.gen(function*() {
      const world = yield* start({ sessions: { refresh: { tokenLifetime: "1 hour" } } })
      const exchanges = () => world.requests.filter((request) => request === "POST /oauth/token").length
      const key = yield* DeviceKey.DeviceKey
      const first = yield* signIn(world)
      const { refresh } = first
      assert.isDefined(refresh)
      // One token is due, the other one is refused.
      for (const held of [{ ...first, refresh: { ...refresh, dueAtMillis: 0 } }, undefined]) {
        const before = exchanges()
        const stale = held ?? { ...(yield* signIn(world)), token: Redacted.make("a token that is refused") }
        const signIns = exchanges() - before
        const storage = yield* Layer.build(TokenStorage.layerHolding(stale))
        const fiber = yield* Connect.connect({
          relayUrl: world.relay.url,
          environmentId: world.environmentId,
          onWaiting: () =>
            Effect.orDie(world.clients.decide({ client: key.thumbprint, decision: "approved", by: "operator" })),
          retry: impatient
        }).pipe(Effect.provide(Layer.provide(Credentials.layerDpop, Layer.succeedContext(storage))), Effect.forkScoped)
        const { environmentUrl, tokens } = yield* Fiber.join(fiber)
        assert.strictEqual(exchanges() - before - signIns, 1)
        const kept = Option.getOrThrow(yield* Context.get(storage, TokenStorage.TokenStorage).tokens)
        assert.notStrictEqual(Redacted.value(kept.token), Redacted.value(stale.token))
        assert.isDefined(kept.refresh)

        // The environment's tokens are refreshed by the client that holds them.
        assert.isDefined(tokens.refresh)
        const due = { ...tokens, refresh: { ...tokens.refresh, dueAtMillis: 0 } }
        const { access } = yield* connect(
          environmentUrl,
          holding(due).pipe(
            Layer.provide(Layer.succeed(DeviceKey.DeviceKey, key))
          )
        )
        assert.include((yield* access.sessions).map(({ current }) => current), true)
      }
    }).pipe(Effect.provide(Device)))
})

describe("a token that is bound to the key", () => {
  it.live("SESS-10: is asked for when pairing, and proven again as the server asks: with nonces, and by its clock", () =>
    Effect.gen(function*() {
      const real = yield* Clock.Clock
      for (const wrongByMillis of [0, 3_600_000, -3_600_000]) {
        const world = yield* start({ dpop: { nonceLifetime: "1 hour" } })
        const wrong = telling(() => real.currentTimeMillisUnsafe() + wrongByMillis, real)
        const bound = Credentials.layerDpop.pipe(Layer.provide([TokenStorage.layerMemory, Layer.orDie(Device)]))
        const { access, runs } = yield* connect(world.environmentUrl, bound)
        const code = yield* world.environmentCode
        yield* Effect.gen(function*() {
          yield* access.pair({ code })
          const state = yield* access.state
          assert.isTrue(state.authenticated)
          if (state.authenticated) assert.strictEqual(state.session.method, "dpop-access-token")
          const { error, events } = yield* collect(runs.run(yield* runs.intent({ threadId: "thread", input: 3 })))
          assert.isUndefined(error)
          assert.lengthOf(events, 4)
          yield* access.logout
          assert.isFalse((yield* access.state).authenticated)
        }).pipe(Effect.provideService(Clock.Clock, wrong))
      }
    }))

  it.live("SESS-10: is proven with the nonce that the server gave last, until it gives another (K3)", () =>
    Effect.gen(function*() {
      const nonces: Array<unknown> = []
      const given = ["first", undefined, "second", undefined, undefined]
      const server = yield* pretend((request, response) => {
        const [, claims = ""] = String(request.headers.dpop).split(".")
        nonces.push(JSON.parse(Buffer.from(claims, "base64url").toString()).nonce)
        const nonce = given[nonces.length - 1]
        response.writeHead(nonces.length === 1 ? 401 : 409, {
          "content-type": "application/json",
          ...(nonce === undefined ? {} : { "dpop-nonce": nonce })
        }).end(JSON.stringify({ code: "use_dpop_nonce" }))
      })
      const bound = Credentials.layerDpop.pipe(Layer.provide([TokenStorage.layerMemory, Layer.orDie(Device)]))
      const { access } = yield* connect(server.url, bound)
      for (let round = 0; round < 4; round++) yield* Effect.exit(access.sessions)
      assert.deepStrictEqual(nonces, [undefined, "first", "first", "second", "second"])
    }))

  it.live("RUN-08 SESS-10: follows a run over many connections, each with a proof of its own", () =>
    Effect.gen(function*() {
      let cut = false
      const world = yield* start({ fate: () => cut ? { answerBytes: 20_000 } : {} })
      const bound = Credentials.layerDpop.pipe(Layer.provide([TokenStorage.layerMemory, Layer.orDie(Device)]))
      const { access, runs } = yield* connect(world.environmentUrl, bound)
      yield* access.pair({ code: yield* world.environmentCode })
      cut = true
      world.environment.cutAll()
      const { error, events } = yield* collect(runs.run(yield* runs.intent({ threadId: "thread", input: 2_000 })))
      assert.isUndefined(error)
      assert.deepStrictEqual(
        events.map((event) => event._tag === "Data" ? event.cursor : "end"),
        [...Array.from({ length: 2_000 }, (_, index) => index + 1), "end"]
      )
      assert.isAbove(world.environment.cuts(), 1)
    }))

  it.live("SESS-10: is not sent as a bearer token if the server binds none, and does not loop if the server always wants another nonce (K4)", () =>
    Effect.gen(function*() {
      const bound = () => Credentials.layerDpop.pipe(Layer.provide([TokenStorage.layerMemory, Layer.orDie(Device)]))
      const json = (response: ServerResponse, status: number, value: unknown, headers: OutgoingHttpHeaders = {}) =>
        void response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value))
      const unbinding = yield* pretend((_, response) =>
        json(response, 200, {
          access_token: "the-token",
          issued_token_type: accessTokenType,
          token_type: "Bearer",
          expires_in: 60,
          scope: ""
        })
      )
      const code = Redacted.make("code")
      const { access } = yield* connect(unbinding.url, bound())
      assert.strictEqual((yield* Effect.flip(access.pair({ code }))).reason._tag, "UnexpectedAnswer")
      const exchanged = yield* Effect.flip(Connect.exchange({ url: unbinding.url, credential: code }))
      assert.strictEqual(exchanged.reason._tag, "UnexpectedAnswer")

      let nonce = 0
      const fickle = yield* pretend((_, response) =>
        json(
          response,
          400,
          { _tag: "OAuthError", error: "use_dpop_nonce", error_description: sentence, traceId: "" },
          { "dpop-nonce": String(nonce++) }
        )
      )
      const error = yield* Effect.flip(Connect.exchange({ url: fickle.url, credential: code }))
      assert.strictEqual(error.message, sentence)
      assert.lengthOf(fickle.requests, 3)
    }).pipe(Effect.provide(Device)))
})
