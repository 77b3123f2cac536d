/**
 * Relays and environments of which the other answers with anything but an answer: none follows a redirect, waits for ever or
 * reads without end. And an environment that fails by itself, which costs the relay's request nothing.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as EnvironmentLink from "@sallyport/connect/EnvironmentLink"
import * as Identity from "@sallyport/connect/Identity"
import * as Linking from "@sallyport/connect/Linking"
import * as RelayKeyRotation from "@sallyport/connect/RelayKeyRotation"
import { ConnectEnvironmentApi, typ } from "@sallyport/contract/ConnectProtocol"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import { linked, RelayEnvironmentRepository } from "@sallyport/connect/RelayEnvironmentRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Authentication from "@sallyport/http/Authentication"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as Deferred from "effect/Deferred"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import * as Http from "node:http"
import { type Fields, headerOf, keyOf, timesNow, write } from "./tampering.ts"
import { tokenDigest } from "../src/internal/jwt.ts"
import { key, startRelay } from "./world.ts"

/** A server of the test's own making, which answers as a test says. */
const fakeServer = (answer: (response: Http.ServerResponse) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: Http.Server; readonly url: string }>((resume) => {
      const server = Http.createServer((request, response) => {
        request.resume().on("end", () => answer(response))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" ? address?.port : undefined
        resume(Effect.succeed({ server, url: `http://127.0.0.1:${port}` }))
      })
    }),
    ({ server }) =>
      Effect.promise(() => {
        server.closeAllConnections()
        return new Promise((resolve) => server.close(resolve))
      })
  )

type Answer = (response: Http.ServerResponse) => void

/** Lists what a server may do instead of answering, with the address of another one. */
const misbehaviours = (elsewhere: string): ReadonlyArray<readonly [title: string, Answer]> => [
  ["redirects with the body", (response) => response.writeHead(307, { location: `${elsewhere}/` }).end()],
  ["redirects", (response) => response.writeHead(302, { location: `${elsewhere}/` }).end()],
  ["says nothing", () => undefined],
  ["says no more", (response) => response.write("{")],
  ["does not stop", (response) => {
    const flood = () => {
      while (response.write("x".repeat(65_536)));
      response.once("drain", flood)
    }
    flood()
  }],
  ["sends megabytes of spaces", (response) => response.end(`{${" ".repeat(4_000_000)}}`)],
  ["fails", (response) => response.writeHead(500).end("{}")],
  ["speaks no JSON", (response) => response.end("no json")]
]

const Relay = EnvironmentConnector.layerWith({ timeout: "300 millis", loopbackEnvironments: true }).pipe(
  Layer.provideMerge(Layer.fresh(SecretStore.layerMemory)),
  Layer.provideMerge(NodeCrypto.layer)
)

describe("a relay's connector", () => {
  it.live("takes no redirect, no silence and no flood for an answer", () =>
    Effect.gen(function*() {
      const connector = yield* EnvironmentConnector.EnvironmentConnector
      const key = yield* Identity.load(Identity.environmentKeyName)
      let elsewhere = 0
      const target = yield* fakeServer((response) => {
        elsewhere++
        response.end("{}")
      })
      for (const [title, behave] of misbehaviours(target.url)) {
        const { url } = yield* fakeServer((response) => behave(response))
        const error = yield* Effect.flip(connector.health(linked({
          id: "environment",
          account: "ada",
          url,
          keyX: key.publicKey.x,
          keyId: key.publicKey.kid,
          relayKeyId: null,
          linkedAtMillis: 0
        })))
        assert.strictEqual(error._tag, "EnvironmentConnectorError", title)
      }
      assert.strictEqual(elsewhere, 0)
    }).pipe(Effect.scoped, Effect.provide(Relay)), 300_000)
})

const Environment = Layer.mergeAll(
  SecretStore.layerMemory,
  Layer.provide(
    FetchHttpClient.layer,
    Layer.succeed(FetchHttpClient.RequestInit, { redirect: "error", credentials: "omit" })
  )
).pipe(Layer.provideMerge(NodeCrypto.layer))

describe("an environment that speaks to a relay", () => {
  const token = Redacted.make("token")
  for (
    const [name, speak] of [
      ["exchanges a code", (relayUrl: string) => Linking.exchangeCode({ relayUrl, code: token })],
      ["links", (relayUrl: string) => Linking.link({ relayUrl, token, url: "https://environment.example" })],
      ["rotates its key", () => Linking.rotateKey],
      [
        "unlinks",
        () =>
          Effect.flatMap(Linking.unlink, (untold) => Option.isSome(untold) ? Effect.fail(untold.value) : Effect.void)
      ]
    ] as const
  ) {
    it.effect(`says so when it ${name} and the relay redirects, hangs or does not stop, and keeps what it had`, () =>
      Effect.gen(function*() {
        let elsewhere = 0
        const target = yield* fakeServer((response) => {
          elsewhere++
          response.end("{}")
        })
        const key = yield* Identity.load(Identity.environmentKeyName)
        for (const [title, behave] of misbehaviours(target.url)) {
          const arrived = yield* Deferred.make<void>()
          const { url } = yield* fakeServer((response) => {
            behave(response)
            Deferred.doneUnsafe(arrived, Effect.void)
          })
          const link = {
            environmentId: "environment",
            account: "ada",
            relayUrl: url,
            relayId: "relay",
            relayKeys: [],
            url: "https://box.example"
          }
          yield* EnvironmentLink.set(link)
          const speaking = yield* Effect.forkChild(Effect.flip(speak(url)), { startImmediately: true })
          yield* Deferred.await(arrived)
          if (title.startsWith("says")) yield* TestClock.adjust("30 seconds")
          const error = yield* Fiber.join(speaking)
          assert.strictEqual(error._tag, "LinkFailed", title)
          // An environment that ends its link forgets it, whether or not the relay was told.
          if (name !== "unlinks") assert.deepStrictEqual(yield* EnvironmentLink.get, Option.some(link), title)
          assert.deepStrictEqual((yield* Identity.load(Identity.environmentKeyName)).publicKey, key.publicKey)
        }
        assert.strictEqual(elsewhere, 0)
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Environment))))
  }
})

describe("an environment with a code of a relay", () => {
  const code = Redacted.make("a-code-never-issued")
  const problemAt = (relayUrl: string) =>
    Effect.map(Effect.flip(Linking.exchangeCode({ relayUrl, code })), ({ message }) => message)

  it.live("L-15: blames the code alone if the relay does, else the address or what is there, and takes no token of another type (K4)", () =>
    Effect.gen(function*() {
      const gone = yield* Effect.scoped(fakeServer(() => undefined))
      const unreachable = yield* problemAt(gone.url)
      assert.include(unreachable, `The relay at ${gone.url} cannot be reached (connect ECONNREFUSED`)
      assert.include(unreachable, "check the address, and that the relay runs")

      const answering = (status: number, body: string) =>
        fakeServer((response) => response.writeHead(status, { "content-type": "application/json" }).end(body))
      const answers: ReadonlyArray<readonly [status: number, body: string, problem: string]> = [
        [400, `{"error":"invalid_grant"}`, "did not take the code: it is wrong, used up or expired; ask the relay"],
        [429, `{"error":"temporarily_unavailable"}`, "takes no code at the moment; try again shortly"],
        [400, `{"error":"invalid_request"}`, "does not answer as a relay does (status 400 to the code)"],
        [400, "no json", "does not answer as a relay does (status 400 to the code)"],
        [404, `{"error":"invalid_grant"}`, "does not answer as a relay does (status 404 to the code)"],
        [404, "", "does not answer as a relay does (status 404 to the code)"],
        [200, "{}", "does not answer as a relay does (status 200 to the code)"],
        [200, "<html>", "does not answer as a relay does (status 200 to the code)"],
        ...[{}, { token_type: "DPoP" }, { token_type: "mac" }, { token_type: "" }].map((type) =>
          [
            200,
            JSON.stringify({ access_token: "a-token", ...type }),
            "does not answer as a relay does (status 200 to the code)"
          ] as const
        )
      ]
      const bearer = yield* answering(200, `{"access_token":"a-token","token_type":"bEARER","scope":"","else":[]}`)
      assert.strictEqual(
        Redacted.value(yield* Linking.exchangeCode({ relayUrl: bearer.url, code })),
        "a-token"
      )
      for (const [status, body, problem] of answers) {
        const { url } = yield* answering(status, body)
        const found = yield* problemAt(url)
        assert.include(found, problem, `${status} ${body}`)
        assert.include(found, url)
        if (problem.startsWith("does not")) assert.notInclude(found, "new one")
      }
    }).pipe(Effect.scoped, Effect.provide(Environment)))
})

describe("a relay that strangers link environments to", () => {
  it.live("sends nothing to what listens beside it, and to no address that is not plainly an environment's", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay("memory", { loopbackEnvironments: false })
      let asked = 0
      const beside = yield* fakeServer((response) => {
        asked++
        response.end("{}")
      })
      const { port } = new URL(beside.url)
      const link = (url: string) =>
        Effect.map(
          Effect.result(Linking.link({ relayUrl: relay.url, token: Redacted.make("ada"), url })),
          (result) => Result.isFailure(result) ? result.failure.message : undefined
        )
      const refused = [
        beside.url,
        `http://localhost:${port}`,
        `http://[::1]:${port}`,
        `http://2130706433:${port}`,
        "http://10.0.0.1",
        "file:///etc/passwd",
        "https://ada:secret@environment.example",
        "https://environment.example/?path="
      ]
      for (const url of refused) assert.include(yield* link(url), "must begin with https://", url)
      assert.strictEqual(yield* link("https://environment.example/backend"), undefined)
      const { body } = yield* relay.call<{ readonly environments: ReadonlyArray<{ readonly url: string }> }>(
        "/api/relay/environments"
      )
      assert.deepStrictEqual(body.environments.map(({ url }) => url), ["https://environment.example/backend"])
      assert.strictEqual(asked, 0)
    }).pipe(Effect.scoped, Effect.provide(Environment)))
})

describe("a relay asked to link what is inside", () => {
  it.live("CONN-15 C-26: refuses every form of it, also by name", () =>
    Effect.gen(function*() {
      const resolve = (name: string) =>
        Effect.succeed([{ address: name === "inside.example" ? "169.254.169.254" : "93.184.216.34", family: 4 }])
      const relay = yield* startRelay("memory", { loopbackEnvironments: false }).pipe(
        Effect.provideService(PublicHttp.Resolver, resolve)
      )
      const link = (url: string) =>
        Effect.result(Linking.link({ relayUrl: relay.url, token: Redacted.make("ada"), url }))
      for (
        const host of [
          "127.0.0.1",
          "localhost",
          "localhost.",
          "2130706433",
          "0x7f000001",
          "0177.1",
          "[::1]",
          "[::ffff:127.0.0.1]",
          "[::127.0.0.1]",
          "[64:ff9b::7f00:1]",
          "[2002:7f00:1::]",
          "169.254.169.254",
          "192.168.1.1",
          "inside.example"
        ]
      ) {
        const result = yield* link(`https://${host}/backend`)
        assert.include(Result.isFailure(result) ? result.failure.message : "linked", "must begin with https://", host)
      }
      assert.isTrue(Result.isSuccess(yield* link("https://outside.example")))
    }).pipe(Effect.scoped, Effect.provide(Environment)))

  it.live("CONN-15 C-26: connects to nothing if a name that it linked leads inside when it is called", () =>
    Effect.gen(function*() {
      let connections = 0
      const beside = yield* fakeServer((response) => response.end("{}"))
      beside.server.on("connection", () => connections++)
      for (const calls of [1, 2]) {
        // At the link, and at the first checks of a call, the name is what it was.
        let asked = 0
        const resolve = () =>
          Effect.sync(() => [{ address: asked++ < calls ? "93.184.216.34" : "127.0.0.1", family: 4 }])
        const relay = yield* startRelay("memory", { loopbackEnvironments: false }).pipe(
          Effect.provideService(PublicHttp.Resolver, resolve)
        )
        const url = `https://rebind.example:${new URL(beside.url).port}`
        const { environmentId } = yield* Linking.link({ relayUrl: relay.url, token: Redacted.make("ada"), url })
        const health = yield* Linking.health({ relayUrl: relay.url, token: Redacted.make("ada"), environmentId })
        assert.strictEqual(health.status, "unreachable")
        assert.include(health.message, "not public")
        assert.strictEqual(asked, calls + 1)
      }
      assert.strictEqual(connections, 0)
    }).pipe(Effect.scoped, Effect.provide(Environment)))

  it.live("CONN-15 C-26: no request goes to what was linked when it might be, and may not be any more", () =>
    Effect.gen(function*() {
      let connections = 0
      const beside = yield* fakeServer((response) => response.end("{}"))
      beside.server.on("connection", () => connections++)
      const { port } = new URL(beside.url)
      const resolve = () => Effect.succeed([{ address: "127.0.0.1", family: 4 }])
      const relay = yield* startRelay("memory", { loopbackEnvironments: false }).pipe(
        Effect.provideService(PublicHttp.Resolver, resolve)
      )
      const { publicKey } = yield* Identity.load(Identity.environmentKeyName)
      const connector = yield* relay.run(EnvironmentConnector.EnvironmentConnector)
      const client = { account: "ada", proofKeyThumbprint: key("a") }
      const urls = [
        beside.url,
        `http://localhost:${port}`,
        `http://inside.example:${port}`,
        `https://127.0.0.1:${port}`,
        `https://[::ffff:127.0.0.1]:${port}`,
        `https://2130706433:${port}`,
        `https://inside.example:${port}`,
        `https://desk.local:${port}`
      ]
      for (const [index, url] of urls.entries()) {
        const environment = linked({
          id: `desk-${index}`,
          account: "ada",
          url,
          keyX: publicKey.x,
          keyId: publicKey.kid,
          relayKeyId: null,
          linkedAtMillis: 0
        })
        yield* relay.run(RelayEnvironmentRepository.use((environments) => environments.link(environment)))
        for (
          const [call, request] of Object.entries({
            health: connector.health(environment),
            mint: connector.mint(environment, { ...client, label: null, deviceType: "desktop" }),
            wait: connector.wait(environment, { ...client, requestedAtMillis: 0, waitSeconds: 1 }),
            tellKey: connector.tellKey(environment, publicKey)
          })
        ) {
          const { reason } = yield* Effect.flip(Effect.asVoid(request))
          assert.strictEqual(reason._tag, "EnvironmentUnreachable", `${call} ${url}`)
        }
        const health = yield* Linking.health({
          relayUrl: relay.url,
          token: Redacted.make("ada"),
          environmentId: environment.id
        })
        assert.strictEqual(health.status, "unreachable", url)
      }
      const rotation = yield* relay.run(RelayKeyRotation.rotate())
      assert.strictEqual(rotation.unconfirmed.length, urls.length)
      assert.strictEqual(connections, 0)
    }).pipe(Effect.scoped, Effect.provide(Environment)))
})

describe("a proof that an environment made to link itself", () => {
  it.live("CONN-15: is good at no other relay, and for no other account", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay("memory")
      const payloads: Array<unknown> = []
      const thief = yield* Effect.acquireRelease(
        Effect.callback<Http.Server>((resume) => {
          const server = Http.createServer((request, response) => {
            let text = ""
            request.on("data", (chunk: Buffer) => {
              text += chunk.toString("utf8")
            })
            request.on("end", () => {
              payloads.push(JSON.parse(text))
              response.writeHead(503).end()
            })
          })
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) =>
          Effect.sync(() => {
            server.closeAllConnections()
            server.close()
          })
      )
      const address = thief.address()
      const elsewhere = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`
      const linkAt = (relayUrl: string, account: string) =>
        Effect.result(Linking.link({ relayUrl, token: Redacted.make(account), url: "https://environment.example" }))
      yield* linkAt(elsewhere, "ada")
      const post = (account: string, payload: unknown) =>
        Effect.map(relay.call("/api/relay/environments", { account, payload }), ({ status }) => status)
      // A relay that was sent it has nothing for another one, under any account.
      assert.deepStrictEqual([yield* post("eve", payloads[0]), yield* post("ada", payloads[0])], [400, 400])

      // What was seen on its way to this relay is good for the account that sent it.
      const identity = yield* Identity.load(Identity.environmentKeyName)
      const proof = yield* identity.sign(typ.link, {
        iss: identity.publicKey.kid,
        aud: relay.url,
        url: "https://environment.example",
        ath: yield* tokenDigest(Redacted.make("ada"))
      })
      const payload = {
        environmentId: identity.publicKey.kid,
        url: "https://environment.example",
        key: identity.publicKey,
        proof
      }
      assert.deepStrictEqual([yield* post("eve", payload), yield* post("ada", payload)], [400, 200])
    }).pipe(Effect.scoped, Effect.provide(Environment)))

  it.live("CONN-15: is for the public address of a relay that has one, which names it to a caller that comes another way", () =>
    Effect.gen(function*() {
      const policy = yield* Layer.build(
        AuthPolicy.layer({ host: "127.0.0.1", publicUrl: new URL("https://relay.example/base") })
      )
      const relay = yield* Effect.provideContext(startRelay("memory"), policy)
      const linking = Linking.link({
        relayUrl: relay.url,
        token: Redacted.make("ada"),
        url: "https://environment.example"
      })
      assert.include((yield* Effect.flip(linking)).message, "https://relay.example")
    }).pipe(Effect.scoped, Effect.provide(Environment)))
})

describe("a relay whose clients ask without waiting for an answer", () => {
  it.live("CONN-15: has so many calls open for a client, and for an account, and refuses one more at once", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay("memory", { callsPerClient: 2, callsPerAccount: 3 })
      const open: Array<Http.ServerResponse> = []
      const waiting: Array<() => void> = []
      const silent = yield* fakeServer((response) => {
        open.push(response)
        for (const look of waiting.splice(0)) look()
      })
      const asked = (count: number) =>
        Effect.callback<void>((resume) => {
          const look = () => void (open.length >= count ? resume(Effect.void) : waiting.push(look))
          look()
        })
      const { publicKey } = yield* Identity.load(Identity.environmentKeyName)
      for (const account of ["ada", "eve"]) {
        yield* relay.run(RelayEnvironmentRepository.use((environments) =>
          environments.link(linked({
            id: `desk-of-${account}`,
            account,
            url: silent.url,
            keyX: publicKey.x,
            keyId: publicKey.kid,
            relayKeyId: null,
            linkedAtMillis: 0
          }))
        ))
      }
      const connect = (account: string, key: string) =>
        relay.call<{ readonly message: string }>("/api/relay/connect", {
          account,
          key,
          payload: { environmentId: `desk-of-${account}` }
        })
      const refused = Effect.fnUntraced(function*(call: ReturnType<typeof connect>) {
        const before = open.length
        const { body, status } = yield* call
        assert.deepStrictEqual([status, open.length], [503, before])
        assert.include(body.message, "as many requests open as it may")
      })
      yield* Effect.forkScoped(connect("ada", "a"))
      yield* Effect.forkScoped(connect("ada", "a"))
      yield* asked(2)
      yield* refused(connect("ada", "a"))
      yield* Effect.forkScoped(connect("ada", "b"))
      yield* asked(3)
      yield* refused(connect("ada", "c"))
      yield* refused(relay.call("/api/relay/environments/desk-of-ada/health"))
      yield* Effect.forkScoped(connect("eve", "a"))
      yield* asked(4)
      // What has been answered counts no more.
      const first = yield* Effect.forkScoped(Effect.repeat(connect("ada", "c"), { until: () => open.length > 4 }))
      open[0]?.end("{}")
      yield* asked(5)
      open[4]?.end("{}")
      yield* Fiber.join(first)
    }).pipe(Effect.scoped, Effect.provide(Environment)))
})

describe("a relay whose account links environments without an end", () => {
  it.live("takes so many, and a new link of one of them", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay("memory", { environmentsPerAccount: 2 })
      const link = (account: string) =>
        Effect.result(
          Linking.link({ relayUrl: relay.url, token: Redacted.make(account), url: "https://environment.example" })
        )
      const newcomer = (account: string) => Effect.provide(link(account), Layer.fresh(Environment))
      assert.isTrue(Result.isSuccess(yield* link("ada")))
      assert.isTrue(Result.isSuccess(yield* newcomer("ada")))
      const third = yield* newcomer("ada")
      assert.include(Result.isFailure(third) ? third.failure.message : "", "You have 2 environments")
      assert.isTrue(Result.isSuccess(yield* newcomer("eve")))
      assert.isTrue(Result.isSuccess(yield* link("ada")))
    }).pipe(Effect.scoped, Effect.provide(Environment)))
})

describe("an environment whose stored mode cannot be read", () => {
  it.live("CONN-01 L-32 L-38: lets no caller in, and a relay's request is as good as before once the mode is set", () =>
    Effect.gen(function*() {
      const key = keyOf(new Uint8Array(32).fill(3))
      yield* EnvironmentLink.set({
        environmentId: "environment",
        account: "ada",
        relayUrl: "https://relay.example",
        relayId: key.publicKey.kid,
        relayKeys: [key.publicKey],
        url: "https://box.example"
      })
      const claims = {
        iss: key.publicKey.kid,
        aud: "environment",
        sub: "ada",
        jti: "j".repeat(32),
        nonce: "n".repeat(32),
        cnf: { jkt: "t".repeat(43) },
        label: null,
        deviceType: "phone",
        ...timesNow()
      }
      const request = write(headerOf(typ.mintRequest, key), claims, key)
      const { address } = yield* HttpServer.HttpServer
      const mint = Effect.promise(async () => {
        const response = await fetch(`${HttpServer.formatAddress(address)}/api/connect/mint-credential`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ request })
        })
        const { code, retryable, status }: Fields = await response.json()
        return { http: response.status, code, retryable, status }
      })
      const sql = yield* SqlClient.SqlClient
      yield* sql`PRAGMA ignore_check_constraints = ON`
      yield* sql`UPDATE sallyport_connect_settings SET mode = 'trust-everyone'`
      for (let n = 0; n < 3; n++) {
        assert.deepInclude(yield* mint, { http: 503, code: "unavailable", retryable: true })
      }
      const clients = yield* ConnectClientStore.ConnectClientStore
      assert.deepStrictEqual(yield* clients.list(), [])
      yield* clients.setSecurityMode({ mode: "client-approval", by: "operator" })
      assert.deepInclude(yield* mint, { http: 200, status: "pending_approval" })
      assert.deepInclude(yield* mint, { http: 401 })
    }).pipe(Effect.provide(
      HttpRouter.serve(
        HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(
          Layer.provide(EnvironmentHandlers.layer),
          Layer.provide(Authentication.layerRequestErrors())
        ),
        { disableListenLog: true, disableLogger: true }
      ).pipe(
        Layer.provideMerge(Layer.merge(ConnectClientStore.layer, BootstrapCredentialService.layer)),
        Layer.provideMerge(Layer.merge(SqlRepositories.layer, Layer.fresh(SecretStore.layerMemory))),
        Layer.provideMerge(SqliteClient.layer({ filename: ":memory:" })),
        Layer.provideMerge(NodeCrypto.layer),
        Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { host: "127.0.0.1", port: 0 })),
        Layer.provide(Logger.layer([]))
      )
    )))
})
