/**
 * The protocol between relay and environment under attack: whatever {@link attacksOn} makes of each of its messages is
 * refused, costs nothing, and leaves the honest message good.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as EnvironmentLink from "@sallyport/connect/EnvironmentLink"
import * as Identity from "@sallyport/connect/Identity"
import {
  ConnectEnvironmentApi,
  HealthAnswer,
  HealthProof,
  HealthRequest,
  KeyPossessionProof,
  LinkProof,
  MintAnswer,
  MintProof,
  MintRequest,
  RelayKeyAnswer,
  RelayKeyProof,
  RelayKeyRequest,
  RotateKeyProof,
  typ,
  UnlinkProof,
  WaitAnswer,
  WaitProof,
  WaitRequest
} from "@sallyport/contract/ConnectProtocol"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import {
  linked,
  RelayEnvironmentRepository,
  type RelayEnvironmentRow
} from "@sallyport/connect/RelayEnvironmentRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Authentication from "@sallyport/http/Authentication"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { decodeJwt } from "jose"
import { createHash } from "node:crypto"
import * as Http from "node:http"
import {
  attacksOn,
  type Fields,
  headerOf,
  type Honest,
  type Key,
  keyOf,
  mutationsOf,
  stranger,
  type StructFields,
  timesNow,
  write
} from "./tampering.ts"
import { startRelay } from "./world.ts"

const thumbprint = "t".repeat(43)
const environmentId = "environment"
/** The key that one side is about to have. */
const nextKey = keyOf(new Uint8Array(32).fill(9))
const once = () => crypto.randomUUID().replaceAll("-", "")

const layerServer = Layer.fresh(NodeHttpServer.layer(() => Http.createServer(), { host: "127.0.0.1", port: 0 }))

const Environment = HttpRouter.serve(
  HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(
    Layer.provide(EnvironmentHandlers.layer),
    Layer.provide(Authentication.layerRequestErrors())
  ),
  { disableListenLog: true, disableLogger: true }
).pipe(
  Layer.provideMerge(Layer.merge(ConnectClientStore.layer, BootstrapCredentialService.layer)),
  Layer.provideMerge(Layer.fresh(Layer.merge(Repositories.layerMemory, SecretStore.layerMemory))),
  Layer.provideMerge(Layer.merge(NodeCrypto.layer, layerServer)),
  Layer.provide(Logger.layer([]))
)

const Relay = EnvironmentConnector.layerWith({ loopbackEnvironments: true }).pipe(
  Layer.provideMerge(Layer.fresh(SecretStore.layerMemory)),
  Layer.provideMerge(NodeCrypto.layer)
)

/** Returns a key pair that one side keeps, with which a test can sign what that side would not. */
const keyNamed = Effect.fnUntraced(function*(name: string) {
  const identity = yield* Identity.load(name)
  const seed = yield* SecretStore.SecretStore.use((secrets) => secrets.getOrCreateRandom(name, 32))
  const key = keyOf(Redacted.value(seed))
  assert.deepStrictEqual(key.publicKey, identity.publicKey)
  return key
})

// -----------------------------------------------------------------------------
// Requests
// -----------------------------------------------------------------------------

/** The requests that a relay makes of an environment. A new one is a line here. */
const requests: ReadonlyArray<{
  readonly path: string
  readonly typ: string
  readonly claims: StructFields
  readonly own: Fields
  /** What the environment holds against its link. */
  readonly bound: ReadonlyArray<string>
  readonly status: string
}> = [
  {
    path: "/api/connect/mint-credential",
    typ: typ.mintRequest,
    claims: MintRequest.fields,
    own: { sub: "ada", cnf: { jkt: thumbprint }, label: null, deviceType: "phone" },
    bound: ["iss", "aud", "sub"],
    status: "pending_approval"
  },
  {
    path: "/api/connect/await-decision",
    typ: typ.waitRequest,
    claims: WaitRequest.fields,
    own: { sub: "ada", cnf: { jkt: thumbprint }, requestedAt: 1, waitSeconds: 0 },
    bound: ["iss", "aud", "sub"],
    status: "decision"
  },
  {
    path: "/api/connect/health",
    typ: typ.healthRequest,
    claims: HealthRequest.fields,
    own: {},
    bound: ["iss", "aud"],
    status: "healthy"
  },
  {
    path: "/api/connect/relay-keys",
    typ: typ.relayKeyRequest,
    claims: RelayKeyRequest.fields,
    own: { key: nextKey.publicKey },
    bound: ["iss", "aud", "key"],
    status: "key_known"
  }
]

describe("an environment", () => {
  for (const request of requests) {
    it.live(
      `CONN-12 L-06 L-38: refuses a ${request.typ} that was tampered with in any way, spends nothing on it, and takes the untouched one once`,
      () =>
        Effect.gen(function*() {
          const key = yield* keyNamed(Identity.relayKeyName)
          yield* EnvironmentLink.set({
            environmentId,
            account: "ada",
            relayUrl: "https://relay.example",
            relayId: key.publicKey.kid,
            relayKeys: [key.publicKey],
            url: "https://box.example"
          })
          const { address } = yield* HttpServer.HttpServer
          const post = (body: unknown) =>
            Effect.promise(async () => {
              const response = await fetch(HttpServer.formatAddress(address) + request.path, {
                method: "POST",
                headers: { "content-type": "application/json" },
                body: JSON.stringify(body)
              })
              const answer: Fields = await response.json()
              return { status: response.status, answer }
            })
          const clients = yield* ConnectClientStore.ConnectClientStore
          const claims: Fields = {
            ...request.own,
            iss: key.publicKey.kid,
            aud: environmentId,
            jti: once(),
            nonce: once(),
            ...timesNow()
          }
          assert.sameMembers(Object.keys(claims), Object.keys(request.claims))
          const honest: Honest = { header: headerOf(request.typ, key), claims, key }
          const attacks = yield* attacksOn(request)
          assert.isAbove(attacks.length, 100)
          for (const { forge, title } of attacks) {
            const { answer, status } = yield* post({ request: forge(honest) })
            assert.include([400, 401], status, title)
            assert.include(["invalid_credential", "invalid_request"], answer.code, title)
          }
          const good = write(honest.header, claims, key)
          for (
            const body of [
              {},
              [],
              null,
              { request: null },
              { request: 1 },
              { request: [good] },
              { request: { good } },
              good
            ]
          ) {
            assert.strictEqual((yield* post(body)).status, 400, JSON.stringify(body))
          }
          assert.deepStrictEqual(yield* clients.list(), [])

          const taken = yield* post({ request: good })
          assert.deepInclude(taken, { status: 200 })
          assert.deepInclude(taken.answer, { status: request.status, nonce: claims.nonce, requestId: claims.jti })
          const { proof, ...body } = taken.answer
          const proven: Fields = decodeJwt(String(proof))
          assert.deepInclude(proven, body)
          // Its replay, and another request with either of what is good once, leave no grant behind.
          if ("deviceType" in request.own) {
            yield* clients.decide({ client: thumbprint, decision: "approved", by: "operator" })
          }
          for (const reused of [claims, { ...claims, jti: once() }, { ...claims, nonce: once() }]) {
            assert.strictEqual((yield* post({ request: write(honest.header, reused, key) })).status, 401)
          }
          const links = (yield* AccessRepository).links
          assert.deepStrictEqual(yield* links.list({ nowMillis: Date.now(), limit: 10 }), [])
          const fresh = write(honest.header, { ...claims, jti: once(), nonce: once() }, key)
          assert.strictEqual((yield* post({ request: fresh })).status, 200)
        }).pipe(Effect.provide(Environment)),
      300_000
    )
  }
})

// -----------------------------------------------------------------------------
// Answers
// -----------------------------------------------------------------------------

const client = { account: "ada", proofKeyThumbprint: thumbprint } as const
const ofClient = { account: "ada", clientProofKeyThumbprint: thumbprint }

type Ask = (
  environment: RelayEnvironmentRow
) => Effect.Effect<
  unknown,
  EnvironmentConnector.EnvironmentConnectorError,
  EnvironmentConnector.EnvironmentConnector
>
const mint: Ask = (environment) =>
  EnvironmentConnector.EnvironmentConnector.use((connector) =>
    connector.mint(environment, { ...client, label: null, deviceType: "phone" })
  )
const wait: Ask = (environment) =>
  EnvironmentConnector.EnvironmentConnector.use((connector) =>
    connector.wait(environment, { ...client, requestedAtMillis: 1_000, waitSeconds: 0 })
  )
const health: Ask = (environment) =>
  EnvironmentConnector.EnvironmentConnector.use((connector) => connector.health(environment))

const tellKey: Ask = (environment) =>
  EnvironmentConnector.EnvironmentConnector.use((connector) => connector.tellKey(environment, nextKey.publicKey))

/** The answers of an environment to its relay. A new one is a line here. */
const answers: ReadonlyArray<{
  readonly ask: Ask
  readonly typ: string
  readonly claims: StructFields
  readonly body: StructFields
  readonly own: Fields
  /** What is in the body and not in the proof. */
  readonly bare?: Fields
  /** Another value of what only this kind is asked about. */
  readonly about?: Fields
}> = [
  {
    ask: mint,
    typ: typ.mintAnswer,
    claims: MintProof.members[0].fields,
    body: MintAnswer.members[0].fields,
    own: {
      ...ofClient,
      status: "credential",
      credentialDigest: createHash("sha256").update("the-credential").digest("hex"),
      credentialExpiresAt: 1_000
    },
    bare: { credential: "the-credential" }
  },
  {
    ask: mint,
    typ: typ.mintAnswer,
    claims: MintProof.members[1].fields,
    body: MintAnswer.members[1].fields,
    own: {
      ...ofClient,
      status: "pending_approval",
      approvalStatus: "pending",
      requestedAt: 1_000,
      requestExpiresAt: 2_000
    }
  },
  {
    ask: mint,
    typ: typ.mintAnswer,
    claims: MintProof.members[2].fields,
    body: MintAnswer.members[2].fields,
    own: { ...ofClient, status: "refused", approvalStatus: "rejected", askAgainAt: null }
  },
  {
    ask: wait,
    typ: typ.waitAnswer,
    claims: WaitProof.fields,
    body: WaitAnswer.fields,
    own: { ...ofClient, status: "decision", approvalStatus: "approved", requestedAt: 1_000 },
    about: { requestedAt: 2_000 }
  },
  {
    ask: health,
    typ: typ.healthAnswer,
    claims: HealthProof.fields,
    body: HealthAnswer.fields,
    own: { status: "healthy" }
  },
  {
    ask: tellKey,
    typ: typ.relayKeyAnswer,
    claims: RelayKeyProof.fields,
    body: RelayKeyAnswer.fields,
    own: { status: "key_known", keyId: nextKey.publicKey.kid },
    about: { keyId: "A".repeat(43) }
  }
]

/** What an answer is an answer to: with another value in proof and body alike, it answers something else. */
const ofRequest: Fields = {
  nonce: "A".repeat(43),
  requestId: "A".repeat(43),
  account: "eve",
  clientProofKeyThumbprint: "A".repeat(43)
}

/** An environment of the test's own making, which answers each request as a test says. */
const fakeEnvironment = (answer: (request: Fields) => unknown) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Http.Server>((resume) => {
        const server = Http.createServer((request, response) => {
          let body = ""
          request.setEncoding("utf8").on("data", (chunk: string) => body += chunk)
          request.on("end", () => {
            response.setHeader("content-type", "application/json")
            response.end(JSON.stringify(answer(decodeJwt(JSON.parse(body).request))))
          })
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.promise(() => {
          server.closeAllConnections()
          return new Promise((resolve) => server.close(resolve))
        })
    ),
    (server) => {
      const address = server.address()
      return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
    }
  )

describe("a relay", () => {
  for (const answer of answers) {
    it.live(
      `CONN-12 L-06 L-34: believes a ${answer.typ} (${answer.own.status}) only where every field of it is proven, and it answers the very request`,
      () =>
        Effect.gen(function*() {
          const { relayId } = yield* EnvironmentConnector.EnvironmentConnector
          const key = yield* keyNamed(Identity.environmentKeyName)
          const honestFor = (request: Fields): Honest => ({
            header: headerOf(answer.typ, key),
            claims: {
              ...answer.own,
              nonce: request.nonce,
              requestId: request.jti,
              iss: environmentId,
              aud: relayId,
              ...timesNow()
            },
            key
          })
          const bodyOf = ({ claims }: Honest, proof: string): Fields => {
            const { aud: _aud, exp: _exp, iat: _iat, iss: _iss, ...fields } = claims
            return { ...fields, ...answer.bare, proof }
          }
          const honestly = (honest: Honest) => bodyOf(honest, write(honest.header, honest.claims, honest.key))
          let make: (honest: Honest) => unknown = honestly
          const url = yield* fakeEnvironment((request) => make(honestFor(request)))
          const row = linked({
            id: environmentId,
            account: "ada",
            url,
            keyX: key.publicKey.x,
            keyId: key.publicKey.kid,
            relayKeyId: null,
            linkedAtMillis: 0
          })
          const outcome = Effect.map(
            Effect.result(answer.ask(row)),
            (result) => result._tag === "Success" ? "believed" : result.failure.reason._tag
          )
          const refuses = Effect.fnUntraced(function*(title: string, answerOf: (honest: Honest) => unknown) {
            make = answerOf
            assert.strictEqual(yield* outcome, "AnswerRefused", title)
          })
          assert.strictEqual(yield* outcome, "believed")
          const sample = honestFor({ nonce: once(), jti: once() })
          assert.sameMembers(Object.keys(sample.claims), Object.keys(answer.claims))
          assert.sameMembers(Object.keys(honestly(sample)), Object.keys(answer.body))

          const bound = Object.keys(answer.claims).filter((name) => name !== "iat" && name !== "exp")
          const attacks = yield* attacksOn({ typ: answer.typ, claims: answer.claims, bound })
          assert.isAbove(attacks.length, 100)
          for (const { forge, title } of attacks) {
            yield* refuses(`the proof ${title}`, (honest) => bodyOf(honest, forge(honest)))
          }
          for (const { apply, title } of yield* mutationsOf(answer.body)) {
            yield* refuses(`the body ${title}`, (honest) => apply(honestly(honest)))
          }
          for (const [name, other] of Object.entries({ ...ofRequest, ...answer.about })) {
            if (!(name in answer.claims)) continue
            yield* refuses(
              `proof and body of another ${name}`,
              (honest) => honestly({ ...honest, claims: { ...honest.claims, [name]: other } })
            )
          }
          let before: unknown
          make = (honest) => before = honestly(honest)
          assert.strictEqual(yield* outcome, "believed")
          yield* refuses("the answer to another request", () => before)
          for (const other of answers) {
            if (other.typ === answer.typ) continue
            yield* refuses(`a ${other.typ}`, (honest) => {
              const { nonce, requestId, ...envelope } = honest.claims
              const times = { iss: envelope.iss, aud: envelope.aud, iat: envelope.iat, exp: envelope.exp }
              const claims: Fields = { ...other.own, ...times, nonce, requestId }
              const proof = write(headerOf(other.typ, key), claims, key)
              return { ...other.own, ...other.bare, nonce, requestId, proof }
            })
          }
          for (const body of [null, [], "text", 1, {}]) yield* refuses(JSON.stringify(body), () => body)
          make = honestly
          assert.strictEqual(yield* outcome, "believed")
        }).pipe(Effect.scoped, Effect.provide(Relay)),
      300_000
    )
  }
})

// -----------------------------------------------------------------------------
// Statements
// -----------------------------------------------------------------------------

const environmentKey = keyOf(new Uint8Array(32).fill(5))
const url = "http://127.0.0.1:1"

/** The digest of the token with which the relay is called for its account. */
const tokenDigest = createHash("sha256").update("ada").digest("base64url")

/** What an environment says to its relay unasked, and where. A new one is a line here. */
const statements: ReadonlyArray<{
  readonly path: string
  readonly typ: string
  readonly claims: StructFields
  readonly own: Fields
  readonly bound: ReadonlyArray<string>
  readonly by: Key
  /** Whether it is for the relay's origin, and not for its id. */
  readonly isForOrigin?: boolean
  /** What is sent with it, and the name that it has there. */
  readonly name: string
  readonly beside: (sign: (kind: string, claims: Fields, by: Key) => string) => Fields
  readonly status: number
}> = [
  {
    path: "/api/relay/environments",
    typ: typ.link,
    claims: LinkProof.fields,
    own: { url, ath: tokenDigest },
    bound: ["iss", "aud", "url", "ath"],
    by: environmentKey,
    isForOrigin: true,
    name: "proof",
    beside: () => ({ url, key: environmentKey.publicKey }),
    status: 200
  },
  {
    path: "/api/relay/environments/rotate-key",
    typ: typ.rotateKey,
    claims: RotateKeyProof.fields,
    own: { key: nextKey.publicKey },
    bound: ["iss", "aud", "key"],
    by: environmentKey,
    name: "proof",
    beside: (sign) => ({ possession: sign(typ.keyPossession, {}, nextKey) }),
    status: 200
  },
  {
    path: "/api/relay/environments/rotate-key",
    typ: typ.keyPossession,
    claims: KeyPossessionProof.fields,
    own: {},
    bound: ["iss", "aud"],
    by: nextKey,
    name: "possession",
    beside: (sign) => ({ proof: sign(typ.rotateKey, { key: nextKey.publicKey }, environmentKey) }),
    status: 200
  },
  {
    path: "/api/relay/environments/leave",
    typ: typ.unlink,
    claims: UnlinkProof.fields,
    own: { jti: once() },
    bound: ["iss", "aud"],
    by: environmentKey,
    name: "proof",
    beside: () => ({}),
    status: 204
  }
]

describe("a relay that environments talk to", () => {
  for (const statement of statements) {
    it.live(
      `CONN-12 L-06: refuses a ${statement.typ} that was tampered with in any way, keeps what it has, and takes the untouched one`,
      () =>
        Effect.gen(function*() {
          const relay = yield* startRelay("memory")
          const { relayId } = yield* relay.run(EnvironmentConnector.EnvironmentConnector)
          const environment = relay.run(
            RelayEnvironmentRepository.use((environments) => environments.findById(environmentId))
          )
          const claimsFor = (own: Fields, audience = relayId): Fields => ({
            iss: environmentId,
            aud: audience,
            ...own,
            ...timesNow()
          })
          const sign = (kind: string, own: Fields, by: Key, audience?: string) =>
            write(headerOf(kind, by), claimsFor(own, audience), by)
          const beside = { environmentId, ...statement.beside(sign) }
          const post = (payload: unknown) => relay.call(statement.path, { payload })
          if (statement.typ !== typ.link) {
            const proof = sign(typ.link, { url, ath: tokenDigest }, environmentKey, relay.url)
            const payload = { environmentId, url, key: environmentKey.publicKey, proof }
            assert.strictEqual((yield* relay.call("/api/relay/environments", { payload })).status, 200)
          }
          const before = yield* environment
          const claims = claimsFor(statement.own, statement.isForOrigin === true ? relay.url : relayId)
          assert.sameMembers(Object.keys(claims), Object.keys(statement.claims))
          const honest: Honest = { header: headerOf(statement.typ, statement.by), claims, key: statement.by }
          for (const { forge, title } of yield* attacksOn(statement)) {
            const { status } = yield* post({ ...beside, [statement.name]: forge(honest) })
            assert.include([400, 401], status, title)
          }
          const whole: Fields = { ...beside, [statement.name]: write(honest.header, claims, statement.by) }
          for (const name of Object.keys(whole)) {
            for (
              const value of [undefined, null, 1, "text", [whole[name]], { value: whole[name] }, stranger.publicKey]
            ) {
              const { status } = yield* post({ ...whole, [name]: value })
              assert.include([400, 401, 404], status, `${name} ${JSON.stringify(value)}`)
            }
          }
          assert.deepStrictEqual(yield* environment, before)
          assert.strictEqual((yield* post(whole)).status, statement.status)
          assert.notDeepEqual(yield* environment, before)
        }).pipe(Effect.scoped),
      300_000
    )
  }
})

describe("the kinds of messages", () => {
  it("are each tampered with here", () => {
    const tables = [...requests, ...answers, ...statements]
    assert.deepStrictEqual(new Set(tables.map((message) => message.typ)), new Set(Object.values(typ)))
  })
})
