/**
 * The clients that others have written, signing in by discovery alone: they are told the address of the MCP server, or of the
 * authorization server, and nothing else.
 */
import * as ClientV1 from "@modelcontextprotocol/sdk/client/index.js"
import * as TransportV1 from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import * as V2 from "@modelcontextprotocol/client"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as OAuth from "oauth4webapi"
import * as OpenId from "openid-client"
import { authorizePath, call, decide, startDocuments, startServer } from "./authorizationSupport.ts"
import type { Server } from "./support.ts"

const redirectUri = "http://127.0.0.1:33418/callback"

interface Connection {
  readonly connected: Promise<void>
  readonly finish: (answer: URLSearchParams) => Promise<void>
  readonly call: () => Promise<unknown>
  readonly close: () => Promise<void>
}

/** Keeps what either SDK's provider keeps: its interface has members that are there to be left out. */
const makeProvider = (clientId: string) => {
  let tokens: Parameters<V2.OAuthClientProvider["saveTokens"]>[0] | undefined
  let verifier = ""
  let url: URL | undefined
  return {
    opened: () => url,
    held: () => tokens,
    provider: {
      redirectUrl: redirectUri,
      clientMetadata: { client_name: "SDK", redirect_uris: [redirectUri] },
      state: () => "st-1",
      // They use an https address of a document by themselves; this one is on loopback.
      clientInformation: () => ({ client_id: clientId }),
      tokens: () => tokens,
      saveTokens: (saved: typeof tokens) => void (tokens = saved),
      redirectToAuthorization: (to: URL) => void (url = to),
      saveCodeVerifier: (text: string) => void (verifier = text),
      codeVerifier: () => verifier
    }
  }
}

/** Lets a person decide about the address that a client has opened, and returns the query of the answer. */
const consent = (server: Server, url: URL | undefined) =>
  Effect.gen(function*() {
    assert.strictEqual(url?.origin, `http://127.0.0.1:${server.port}`)
    const { location } = yield* decide(server, `${url?.pathname}${url?.search}`)
    assert.isTrue(location.startsWith(redirectUri))
    return new URL(location).searchParams
  })

describe("clients of others", () => {
  it.live("AGENT-04: both MCP SDKs sign in from the address of the MCP server, call a tool, and refresh", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const documents = yield* startDocuments
      const id = documents.client("/sdk.json")
      const mcp = new URL(`http://127.0.0.1:${server.port}/mcp`)
      const v1 = makeProvider(id)
      const v2 = makeProvider(id)
      const open = [
        {
          kept: v1,
          connect: (): Connection => {
            const transport = new TransportV1.StreamableHTTPClientTransport(mcp, { authProvider: v1.provider })
            const client = new ClientV1.Client({ name: "probe", version: "1" })
            return {
              // Its type wants members that may be absent, not undefined.
              connected: client.connect(Object(transport)),
              finish: (answer) => transport.finishAuth(answer.get("code") ?? ""),
              call: async () => (await client.callTool({ name: "who", arguments: {} })).content,
              close: () => client.close()
            }
          }
        },
        {
          kept: v2,
          connect: (): Connection => {
            const transport = new V2.StreamableHTTPClientTransport(mcp, { authProvider: v2.provider })
            const client = new V2.Client({ name: "probe", version: "1" })
            return {
              connected: client.connect(transport),
              // It checks the issuer in it.
              finish: (answer) => transport.finishAuth(answer),
              call: async () => (await client.callTool({ name: "who", arguments: {} })).content,
              close: () => client.close()
            }
          }
        }
      ]
      for (const { connect, kept } of open) {
        const first = connect()
        const turnedAway = yield* Effect.promise(() => first.connected.then(() => "connected", (error) => error.name))
        assert.notStrictEqual(turnedAway, "connected")
        assert.strictEqual(kept.opened()?.searchParams.get("resource"), mcp.href)
        assert.strictEqual(kept.opened()?.searchParams.get("scope"), "runs:read runs:operate")
        assert.strictEqual(kept.opened()?.searchParams.get("client_id"), id)
        const query = yield* consent(server, kept.opened())
        yield* Effect.promise(() => first.finish(query))
        const second = connect()
        yield* Effect.promise(() => second.connected)
        assert.deepStrictEqual(yield* Effect.promise(() => second.call()), [{ type: "text", text: `owner by ${id}` }])
        yield* Effect.promise(() => second.close())

        // The access token is gone: the SDK refreshes by itself, and goes on.
        const tokens = kept.held()
        if (tokens === undefined) return assert.fail("no tokens")
        kept.provider.saveTokens({ ...tokens, access_token: "gone" })
        const third = connect()
        yield* Effect.promise(() => third.connected)
        assert.notStrictEqual(kept.held()?.refresh_token, tokens.refresh_token)
        yield* Effect.promise(() => third.close())
      }
    }))

  it.live("AGENT-04: openid-client signs in, refreshes, revokes and introspects by discovery", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const issuer = new URL(`http://127.0.0.1:${server.port}`)
      const options: OpenId.DiscoveryRequestOptions = { algorithm: "oauth2", execute: [OpenId.allowInsecureRequests] }
      const client = yield* Effect.promise(() =>
        OpenId.discovery(issuer, "registered", undefined, OpenId.None(), options)
      )
      const verifier = OpenId.randomPKCECodeVerifier()
      const challenge = yield* Effect.promise(() => OpenId.calculatePKCECodeChallenge(verifier))
      const resource = `${issuer.origin}/mcp`
      const url = OpenId.buildAuthorizationUrl(client, {
        redirect_uri: redirectUri,
        scope: "runs:read",
        code_challenge: challenge,
        code_challenge_method: "S256",
        state: "st-2",
        resource
      })
      const query = yield* consent(server, url)
      const tokens = yield* Effect.promise(() =>
        OpenId.authorizationCodeGrant(client, new URL(`${redirectUri}?${query}`), {
          pkceCodeVerifier: verifier,
          expectedState: "st-2"
        }, { resource })
      )
      assert.strictEqual((yield* call(server, "/mcp", tokens.access_token)).status, 200)
      const next = yield* Effect.promise(() => OpenId.refreshTokenGrant(client, tokens.refresh_token ?? ""))
      assert.deepStrictEqual([next.token_type, next.scope], ["bearer", "runs:read"])
      assert.strictEqual((yield* call(server, "/mcp", next.access_token)).status, 200)
      yield* Effect.promise(() => OpenId.tokenRevocation(client, next.refresh_token ?? ""))
      assert.strictEqual((yield* call(server, "/mcp", next.access_token)).status, 401)

      // A denial is one that it understands, and whose issuer it checks.
      const denied = yield* decide(server, `${url.pathname}${url.search}`, { decision: "deny" })
      const error = yield* Effect.promise(() =>
        OpenId.authorizationCodeGrant(client, new URL(denied.location), {
          pkceCodeVerifier: verifier,
          expectedState: "st-2"
        })
          .then(() => "granted", (error) => error.error)
      )
      assert.strictEqual(error, "access_denied")

      // The server of a resource, which has a secret, asks about the tokens for it.
      const files = yield* Effect.promise(() =>
        OpenId.discovery(issuer, "files", undefined, OpenId.ClientSecretBasic("a secret of files"), options)
      )
      const foreign = yield* Effect.promise(() => OpenId.tokenIntrospection(files, tokens.access_token))
      assert.deepStrictEqual({ ...foreign }, { active: false })
    }))

  it.live("AGENT-04: oauth4webapi finds the server of a resource from its 401, and signs in", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const resource = new URL(`http://127.0.0.1:${server.port}/mcp`)
      const insecure = { [OAuth.allowInsecureRequests]: true }
      const found = yield* Effect.promise(async () => {
        const metadata = await OAuth.processResourceDiscoveryResponse(
          resource,
          await OAuth.resourceDiscoveryRequest(resource, insecure)
        )
        const issuer = new URL(metadata.authorization_servers?.[0] ?? "")
        const as = await OAuth.processDiscoveryResponse(
          issuer,
          await OAuth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure })
        )
        return { as, metadata }
      })
      assert.deepStrictEqual(found.as.code_challenge_methods_supported, ["S256"])
      const client: OAuth.Client = { client_id: "registered" }
      const verifier = OAuth.generateRandomCodeVerifier()
      const challenge = yield* Effect.promise(() => OAuth.calculatePKCECodeChallenge(verifier))
      const query = yield* consent(
        server,
        new URL(
          authorizePath(server, {
            redirect_uri: redirectUri,
            scope: found.metadata.scopes_supported?.join(" ") ?? null,
            state: "st-3",
            code_challenge: challenge
          }),
          found.as.authorization_endpoint
        )
      )
      const tokens = yield* Effect.promise(async () => {
        const parameters = OAuth.validateAuthResponse(found.as, client, query, "st-3")
        return OAuth.processAuthorizationCodeResponse(
          found.as,
          client,
          await OAuth.authorizationCodeGrantRequest(
            found.as,
            client,
            OAuth.None(),
            parameters,
            redirectUri,
            verifier,
            { additionalParameters: { resource: resource.href }, ...insecure }
          )
        )
      })
      assert.deepStrictEqual([tokens.token_type, tokens.scope], ["bearer", "runs:read runs:operate"])
      assert.strictEqual((yield* call(server, "/mcp", tokens.access_token)).status, 200)
    }))
})
