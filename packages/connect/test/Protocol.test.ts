/**
 * The relay's protocol under attack: every claim and every field of both sides, changed, removed and retyped, as generated
 * from the schemas; and environments that redirect, hang or never stop.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as EnvironmentLink from "@sallyport/connect/EnvironmentLink"
import * as Identity from "@sallyport/connect/Identity"
import { ConnectEnvironmentApi, MintProof, MintRequest, typ } from "@sallyport/contract/ConnectProtocol"
import { BootstrapCredentialRepository } from "@sallyport/core/BootstrapCredentialRepository"
import * as BootstrapCredentialService from "@sallyport/core/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/ConnectClientStore"
import type { RelayEnvironmentRow } from "@sallyport/core/RelayEnvironmentRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as Authentication from "@sallyport/http/Authentication"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { decodeJwt } from "jose"
import { createHash } from "node:crypto"
import * as Http from "node:http"

type Fields = Readonly<Record<string, unknown>>

const thumbprint = "t".repeat(43)
const environmentId = "environment"
const once = () => crypto.randomUUID().replaceAll("-", "")

/** Lists what a field is turned into: another value of its type, nothing, and a value of another type. */
const mutations = (fields: Fields, name: string): ReadonlyArray<readonly [kind: string, fields: Fields]> => {
  const value = fields[name]
  const { [name]: _, ...without } = fields
  const changed = typeof value === "number"
    ? value + 1_000_000
    : typeof value === "string"
    ? `${value.slice(0, -1)}${value.endsWith("A") ? "B" : "A"}`
    : value === null
    ? 1
    : { jkt: "A".repeat(43) }
  const retyped = typeof value === "string" ? 1 : typeof value === "number" ? String(value) : [value]
  return [
    ["changed", { ...fields, [name]: changed }],
    ["removed", without],
    ["retyped", { ...fields, [name]: retyped }]
  ]
}

const Services = Layer.mergeAll(ConnectClientStore.layer, BootstrapCredentialService.layer).pipe(
  Layer.provideMerge(Layer.fresh(Layer.mergeAll(Repositories.layerMemory, SecretStore.layerMemory))),
  Layer.provideMerge(NodeCrypto.layer)
)

const Environment = HttpRouter.serve(
  HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(
    Layer.provide(EnvironmentHandlers.layer),
    Layer.provide(Authentication.layerRequestErrors())
  ),
  { disableListenLog: true, disableLogger: true }
).pipe(
  Layer.provideMerge(Services),
  Layer.provide(Logger.layer([])),
  Layer.provideMerge(Layer.fresh(NodeHttpServer.layer(() => Http.createServer(), { host: "127.0.0.1", port: 0 })))
)

const mintClaims = (relayId: string) => ({
  iss: relayId,
  aud: environmentId,
  sub: "ada",
  jti: once(),
  nonce: once(),
  cnf: { jkt: thumbprint },
  label: null,
  deviceType: "phone"
})

describe("an environment's mint handler", () => {
  it.live(
    "CONN-12 L-38 refuses a request with any claim changed, removed or retyped, spends nothing on it, and takes a good one once",
    () =>
      Effect.gen(function*() {
        const relay = yield* Identity.load(Identity.relayKeyName)
        yield* EnvironmentLink.set({
          environmentId,
          account: "ada",
          relayUrl: "https://relay.example",
          relayId: relay.publicKey.kid,
          relayKeys: [relay.publicKey]
        })
        const { address } = yield* HttpServer.HttpServer
        const mint = (request: string) =>
          Effect.promise(async () => {
            const response = await fetch(`${HttpServer.formatAddress(address)}/api/connect/mint-credential`, {
              method: "POST",
              headers: { "content-type": "application/json" },
              body: JSON.stringify({ request })
            })
            return { status: response.status, body: (await response.json()) as Fields }
          })
        const claims = mintClaims(relay.publicKey.kid)
        const good = yield* relay.sign(typ.mintRequest, claims)
        const [header = "", payload = "", signature = ""] = good.split(".")
        const sent: Fields = decodeJwt(good)
        assert.sameMembers(Object.keys(sent), Object.keys(MintRequest.fields))
        let refused = 0
        for (const name of Object.keys(MintRequest.fields)) {
          for (const [kind, fields] of mutations(sent, name)) {
            const tampered = Buffer.from(JSON.stringify(fields)).toString("base64url")
            assert.strictEqual((yield* mint(`${header}.${tampered}.${signature}`)).status, 401, `${kind} ${name}`)
            refused++
            // Signed by the relay itself, what is not a request is refused as well; another value may be another request.
            if (kind === "changed" || name === "iat" || name === "exp") continue
            const signed = yield* relay.sign(typ.mintRequest, fields)
            assert.strictEqual((yield* mint(signed)).status, 401, `signed, ${kind} ${name}`)
            refused++
          }
        }
        assert.isAbove(refused, 40)
        for (
          const fields of [
            { ...claims, iss: "somebody" },
            { ...claims, aud: "another" },
            { ...claims, sub: "eve" },
            { ...claims, admin: true }
          ]
        ) {
          assert.strictEqual(
            (yield* mint(yield* relay.sign(typ.mintRequest, fields))).status,
            401,
            JSON.stringify(fields)
          )
        }
        assert.strictEqual((yield* mint(yield* relay.sign(typ.waitRequest, claims))).status, 401)
        const stranger = yield* Identity.load("connect-other-key")
        assert.strictEqual((yield* mint(yield* stranger.sign(typ.mintRequest, claims))).status, 401)
        assert.strictEqual((yield* mint(`${header}.${payload}.`)).status, 401)

        const clients = yield* ConnectClientStore.ConnectClientStore
        assert.deepStrictEqual(yield* clients.list(), [])
        const pending = yield* mint(good)
        assert.deepInclude(pending, { status: 200 })
        assert.deepInclude(pending.body, {
          status: "pending_approval",
          approvalStatus: "pending",
          nonce: claims.nonce,
          requestId: claims.jti,
          clientProofKeyThumbprint: thumbprint
        })
        // L-34: the time of the request is a claim of the proof.
        const proven: Fields = decodeJwt(String(pending.body.proof))
        assert.strictEqual(proven.requestedAt, pending.body.requestedAt)
        assert.strictEqual((yield* mint(good)).status, 401)

        yield* clients.decide({ client: thumbprint, decision: "approved", by: "operator" })
        const approved = yield* relay.sign(typ.mintRequest, mintClaims(relay.publicKey.kid))
        assert.deepInclude((yield* mint(approved)).body, { status: "credential" })
        // A replay leaves no second grant behind.
        assert.strictEqual((yield* mint(approved)).status, 401)
        const links = yield* BootstrapCredentialRepository
        assert.strictEqual((yield* links.list({ nowMillis: yield* Clock.currentTimeMillis, limit: 10 })).length, 1)
      }).pipe(Effect.provide(Environment)),
    60_000
  )
})

/** An environment of the test's own making, which answers as a test says. */
const fakeEnvironment = (answer: (request: string, response: Http.ServerResponse) => Promise<void> | void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: Http.Server; readonly url: string }>((resume) => {
      const server = Http.createServer((request, response) => {
        let body = ""
        request.setEncoding("utf8").on("data", (chunk: string) => body += chunk)
        request.on("end", () => void answer(body === "" ? "" : JSON.parse(body).request, response))
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

const client = { account: "ada", proofKeyThumbprint: thumbprint, label: null, deviceType: "phone" } as const

const Relay = EnvironmentConnector.layerWith({ timeout: "300 millis" }).pipe(
  Layer.provideMerge(Layer.fresh(SecretStore.layerMemory)),
  Layer.provideMerge(NodeCrypto.layer)
)

const ready = (fields: Fields) => ({
  account: "ada",
  clientProofKeyThumbprint: thumbprint,
  ...fields
})

/** The answers of each kind, as an honest environment makes them. */
const answers: ReadonlyArray<{ readonly claims: Fields; readonly body: Fields }> = [
  {
    claims: ready({
      status: "credential",
      credentialDigest: createHash("sha256").update("the-credential").digest("hex"),
      credentialExpiresAt: 1_000
    }),
    body: { credential: "the-credential" }
  },
  {
    claims: ready({
      status: "pending_approval",
      approvalStatus: "pending",
      requestedAt: 1_000,
      requestExpiresAt: 2_000
    }),
    body: {}
  },
  { claims: ready({ status: "refused", approvalStatus: "rejected", askAgainAt: null }), body: {} }
]

describe("a relay's connector", () => {
  it.live(
    "CONN-12 L-06 L-34 believes an answer only where every field of it is proven, whichever is changed, removed or retyped",
    () =>
      Effect.gen(function*() {
        const connector = yield* EnvironmentConnector.EnvironmentConnector
        const key = yield* Identity.load(Identity.environmentKeyName)
        const other = yield* Identity.load("connect-other-key")
        let make: (request: Fields) => Effect.Effect<Fields> = () => Effect.succeed({})
        const { url } = yield* fakeEnvironment(async (request, response) => {
          const body = await Effect.runPromise(make(decodeJwt(request)))
          response.setHeader("content-type", "application/json").end(JSON.stringify(body))
        })
        const row: RelayEnvironmentRow = {
          id: environmentId,
          account: "ada",
          url,
          keyX: key.publicKey.x,
          keyId: key.publicKey.kid,
          linkedAtMillis: 0
        }
        const ask = Effect.map(Effect.exit(connector.mint(row, client)), (exit) => exit._tag)
        let refused = 0
        for (const [index, { body, claims }] of answers.entries()) {
          const full = (request: Fields): Fields => ({
            ...claims,
            nonce: request.nonce,
            requestId: request.jti,
            iss: environmentId,
            aud: connector.relayId
          })
          const inBody = (fields: Fields): Fields => {
            const { aud: _aud, iss: _iss, ...rest } = fields
            return { ...rest, ...body }
          }
          const sign = (fields: Fields, by = key, kind: string = typ.mintAnswer) => by.sign(kind, fields)
          const answer = (request: Fields) =>
            Effect.map(sign(full(request)), (proof): Fields => ({ ...inBody(full(request)), proof }))
          make = answer
          assert.strictEqual(yield* ask, "Success", String(claims.status))

          const sample = full({ nonce: once(), jti: once() })
          const names = Object.keys(MintProof.members[index]?.fields ?? {}).filter((name) =>
            name !== "iat" && name !== "exp"
          )
          assert.sameMembers(names, Object.keys(sample))
          for (const name of names) {
            for (let kind = 0; kind < 3; kind++) {
              make = (request) =>
                Effect.map(
                  sign(mutations(full(request), name)[kind]?.[1] ?? {}),
                  (proof) => ({ ...inBody(full(request)), proof })
                )
              assert.strictEqual(yield* ask, "Failure", `claim ${name} ${kind}`)
              refused++
            }
          }
          for (const name of Object.keys({ ...inBody(sample), proof: "" })) {
            for (let kind = 0; kind < 3; kind++) {
              make = (request) => Effect.map(answer(request), (fields) => mutations(fields, name)[kind]?.[1] ?? {})
              assert.strictEqual(yield* ask, "Failure", `field ${name} ${kind}`)
              refused++
            }
          }
          make = (request) => Effect.map(sign(full(request), other), (proof) => ({ ...inBody(full(request)), proof }))
          assert.strictEqual(yield* ask, "Failure")
          make = (request) =>
            Effect.map(sign(full(request), key, typ.waitAnswer), (proof) => ({ ...inBody(full(request)), proof }))
          assert.strictEqual(yield* ask, "Failure")
          make = (request) => Effect.map(answer(request), (fields) => ({ ...fields, more: true }))
          assert.strictEqual(yield* ask, "Failure")
        }
        assert.isAbove(refused, 100)
      }).pipe(Effect.scoped, Effect.provide(Relay)),
    60_000
  )

  it.live("takes no redirect, no silence and no flood for an answer", () =>
    Effect.gen(function*() {
      const connector = yield* EnvironmentConnector.EnvironmentConnector
      const key = yield* Identity.load(Identity.environmentKeyName)
      let elsewhere = 0
      const target = yield* fakeEnvironment((_request, response) => {
        elsewhere++
        response.end("{}")
      })
      const behaviours: ReadonlyArray<(response: Http.ServerResponse) => void> = [
        (response) => response.writeHead(307, { location: `${target.url}/` }).end(),
        (response) => response.writeHead(302, { location: `${target.url}/` }).end(),
        () => undefined,
        (response) => response.write("{"),
        (response) => {
          const flood = () => {
            while (response.write("x".repeat(65_536)));
            response.once("drain", flood)
          }
          flood()
        },
        (response) => response.writeHead(500).end("{}"),
        (response) => response.end("no json")
      ]
      for (const behave of behaviours) {
        const { url } = yield* fakeEnvironment((_request, response) => behave(response))
        const error = yield* Effect.flip(connector.health({
          id: environmentId,
          account: "ada",
          url,
          keyX: key.publicKey.x,
          keyId: key.publicKey.kid,
          linkedAtMillis: 0
        }))
        assert.strictEqual(error._tag, "ConnectorError")
      }
      assert.strictEqual(elsewhere, 0)
    }).pipe(Effect.scoped, Effect.provide(Relay)), 60_000)
})
