import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import type { Session } from "@sallyport/core/access/Session"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"

const servicesUnder = (policy: AuthPolicy.Options) =>
  SessionCredentialService.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(Repositories.layerMemory, SecretStore.layerMemory)),
    Layer.provideMerge(Layer.merge(NodeCrypto.layer, AuthPolicy.layer(policy)))
  )
const Services = servicesUnder({ host: "127.0.0.1" })

const make = (id: string) =>
  AuthorizationServer.make({ clients: [{ id, name: "Client", redirectUris: ["http://127.0.0.1/callback"] }] }).pipe(
    Effect.match({ onFailure: ({ _tag }) => _tag, onSuccess: (server) => server.isClientId(id) })
  )

describe("the address of the server", () => {
  it.effect("AGENT-01: is https, but on loopback, or there is none (M1)", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly ["made" | "InvalidAuthorizationServerOptions", AuthPolicy.Options]> = [
        ["made", { host: "127.0.0.1" }],
        ["made", { host: "127.0.0.1", publicUrl: "http://[::1]:8080" }],
        ["made", { host: "0.0.0.0", publicUrl: "https://box.example" }],
        ["InvalidAuthorizationServerOptions", { host: "0.0.0.0" }],
        ["InvalidAuthorizationServerOptions", { host: "0.0.0.0", publicUrl: "http://box.example" }],
        ["InvalidAuthorizationServerOptions", { host: "127.0.0.1", publicUrl: "http://box.example" }],
        ["InvalidAuthorizationServerOptions", { host: "127.0.0.1", publicUrl: "http://127.0.0.1.box.example" }]
      ]
      for (const [expected, policy] of cases) {
        const outcome = yield* AuthorizationServer.make({}).pipe(
          Effect.match({ onFailure: ({ _tag }) => _tag, onSuccess: () => "made" }),
          Effect.provide(servicesUnder(policy))
        )
        assert.strictEqual(outcome, expected, JSON.stringify(policy))
      }
    }))
})

const client = { id: "workbench", name: "Workbench", redirectUris: ["http://127.0.0.1/callback"] }

/** Consents as a session, and exchanges the code. */
const letIn = Effect.fnUntraced(function*(server: AuthorizationServer.AuthorizationServer["Service"], by: Session) {
  const verifier = "v".repeat(43)
  const digest = yield* Digest.Digest
  const redirectUri = "http://127.0.0.1/callback"
  const codeChallenge = Base64Url.encode(yield* digest.digest(Digest.sha256, new TextEncoder().encode(verifier)))
  const code = yield* server.consent({
    client,
    redirectUri,
    codeChallenge,
    resource: null,
    scopes: ["runs:read"],
    proofKeyThumbprint: null,
    by
  })
  const exchange = { code, clientId: client.id, redirectUri, verifier: Redacted.make(verifier), resource: undefined }
  return (yield* server.exchange(exchange)).session
})

/** Begins the session of a browser that may let others in. */
const signIn = (options?: Pick<SessionCredentialService.IssueOptions, "absoluteLifetime" | "lifetime">) =>
  SessionCredentialService.SessionCredentialService.use((sessions) =>
    Effect.map(
      sessions.issue({
        subject: "ada",
        scopes: ["access:write", "runs:read"],
        method: "browser-session-cookie",
        ...options
      }),
      ({ session }) => session
    )
  )

describe("the session of a client", () => {
  it.effect("SESS-17 AGENT-05: lasts no longer than the one that consented", () =>
    Effect.gen(function*() {
      const server = yield* AuthorizationServer.make({ clients: [client] })
      const guest = yield* signIn({ lifetime: "10 minutes", absoluteLifetime: "1 hour" })
      yield* TestClock.adjust("5 minutes")
      const ofGuest = yield* letIn(server, guest)
      assert.deepStrictEqual(
        [ofGuest.lifetime, ofGuest.absoluteExpiresAt],
        [Duration.minutes(10), guest.absoluteExpiresAt]
      )
      // No longer than the setting either, however long the operator let the other one last.
      const ofOwner = yield* letIn(server, yield* signIn({ lifetime: "300 days" }))
      assert.deepStrictEqual([ofOwner.lifetime, ofOwner.absoluteExpiresAt], [Duration.days(30), null])
      const plain = yield* letIn(server, yield* signIn())
      assert.deepStrictEqual([plain.lifetime, plain.absoluteExpiresAt], [null, null])
    }).pipe(Effect.provide(Services)))
})

describe("how many sessions a session lets in", () => {
  it.effect("HTTP-09: is bounded for consents as for links, by the host's number", () =>
    Effect.gen(function*() {
      const by = yield* signIn()
      const server = yield* AuthorizationServer.make({ clients: [client], maxLetInPerSession: 2 })
      yield* letIn(server, by)
      yield* letIn(server, by)
      const refused = yield* Effect.flip(letIn(server, by))
      assert.strictEqual(refused.message, "Your session has let in as many others as it may; end one of them first")
      // Both services read the variable of the links.
      const configured = yield* Layer.build(AuthorizationServer.layerConfig).pipe(
        Effect.provide(
          ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_PAIRING_MAX_LET_IN_PER_SESSION: "3" }))
        ),
        Effect.map(Context.get(AuthorizationServer.AuthorizationServer))
      )
      yield* letIn(configured, by)
      assert.strictEqual((yield* Effect.flip(letIn(configured, by))).message, refused.message)
    }).pipe(Effect.scoped, Effect.provide(Services)))
})

describe("the clients that a host registers", () => {
  it.effect("AGENT-02: have no address as their id, so that none is taken for a client with a document (C8)", () =>
    Effect.gen(function*() {
      for (const id of ["https://a/b", "HTTPS://a.example/b", "http://127.0.0.1/b", "https:", "", "a\nb"]) {
        assert.strictEqual(yield* make(id), "InvalidAuthorizationServerOptions", JSON.stringify(id))
      }
      for (const id of ["workbench", "httpsworkbench", "urn:https://a/b", "x-https://a/b"]) {
        assert.strictEqual(yield* make(id), true, id)
      }
    }).pipe(Effect.provide(Services)))
})

describe("the resources and clients of a host", () => {
  const outcome = (options: AuthorizationServer.Options) =>
    Effect.match(AuthorizationServer.make(options), { onFailure: ({ _tag }) => _tag, onSuccess: () => "made" })

  it.effect("AGENT-01 AGENT-03: a secret that could be guessed tells no one of tokens, and there is no client without a redirect URI (T21, Z23)", () =>
    Effect.gen(function*() {
      const resource = (secret: string): AuthorizationServer.Options => ({
        resources: [{
          resource: "https://files.example/api",
          scopes: ["runs:read"],
          introspection: { id: "files", secret: Redacted.make(secret) }
        }]
      })
      for (const secret of ["", "files", "x".repeat(31)]) {
        assert.strictEqual(yield* outcome(resource(secret)), "InvalidAuthorizationServerOptions", secret)
      }
      assert.strictEqual(yield* outcome(resource("x".repeat(32))), "made")
      const client = (redirectUris: ReadonlyArray<string>) => ({ clients: [{ id: "c", name: "C", redirectUris }] })
      for (const uris of [[], ["http://app.example/callback"], ["https://app.example/#x"], ["/callback"], ["app:/x"]]) {
        assert.strictEqual(yield* outcome(client(uris)), "InvalidAuthorizationServerOptions", uris.join())
      }
      // The three kinds that native programs have.
      for (const uri of ["https://app.example/callback", "http://[::1]/callback", "com.example.app:/callback"]) {
        assert.strictEqual(yield* outcome(client([uri])), "made", uri)
      }
    }).pipe(Effect.provide(Services)))

  it.effect("AGENT-01: are of the form that they have to have, also without a compiler", () =>
    Effect.gen(function*() {
      const misspelt: ReadonlyArray<readonly [object, string]> = [
        [{ resources: [{ resource: "/mcp", scope: ["runs:read"] }] }, "resources must be a list whose members have"],
        [{ resources: { resource: "/mcp" } }, "resources must be a list whose members have"],
        [{ clients: [{ id: "c", name: "C", redirectUri: "http://127.0.0.1/" }] }, "redirectUris: a list of texts"],
        [{ scopes: "runs:read" }, "scopes must be a list of texts"],
        [{ prefix: 1 }, "prefix must be a path"],
        [{ resorces: [] }, "resorces is not an option; did you mean resources?"]
      ]
      for (const [options, problem] of misspelt) {
        const error = yield* Effect.flip(AuthorizationServer.make(options))
        assert.instanceOf(error, AuthorizationServer.InvalidAuthorizationServerOptions)
        assert.include(error.message, problem)
      }
    }).pipe(Effect.provide(Services)))
})
