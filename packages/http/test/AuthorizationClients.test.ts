/**
 * The clients that others have written, signing in by discovery alone: they are told the address of the MCP server, or of the
 * authorization server, and nothing else.
 */
import * as ClientV1 from "@modelcontextprotocol/sdk/client/index.js"
import * as TransportV1 from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import * as V2 from "@modelcontextprotocol/client"
import { assert, describe, it } from "@effect/vitest"
import { fileURLToPath } from "node:url"
import { spawn, spawnSync } from "node:child_process"
import { createInterface } from "node:readline"
import recorded from "./programs/oauth_client.json" with { type: "json" }
import * as Effect from "effect/Effect"
import * as OAuth from "oauth4webapi"
import * as OpenId from "openid-client"
import {
  authorizePath,
  call,
  challengeOf,
  decide,
  startDocuments,
  startServer,
  verifier
} from "./authorizationSupport.ts"
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

/** What `programs/oauth_client.py` says of a request. */
interface Said {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
  readonly status: number
}

const requests: ReadonlyArray<Said> = recorded.map((one) => ({ ...one, headers: { ...one.headers } }))

const scope = "runs:read runs:operate"

/** Sends what the Python client has sent once, with the secrets of this time, and returns it with the statuses of this time. */
const playBack = Effect.fnUntraced(function*(server: Server) {
  const origin = `http://127.0.0.1:${server.port}`
  const asked = { redirect_uri: redirectUri, scope, code_challenge: challengeOf(verifier) }
  const { query } = yield* decide(server, authorizePath(server, asked))
  let secrets: Readonly<Record<string, string>> = {
    origin,
    encodedOrigin: encodeURIComponent(origin),
    verifier,
    code: query.code ?? ""
  }
  const fill = (text: string) => text.replaceAll(/\{(\w+)\}/g, (_, name) => secrets[name] ?? name)
  const said: Array<Said> = []
  for (const request of requests) {
    const answer = yield* server.send({
      method: request.method,
      path: fill(request.url).slice(origin.length),
      headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, fill(value)])),
      ...(request.body === null ? {} : { body: fill(request.body) })
    })
    const { access_token: access, refresh_token: refresh } = answer.json
    if (typeof access === "string" && typeof refresh === "string") secrets = { ...secrets, access, refresh }
    said.push({ ...request, status: answer.status })
  }
  return said
})

/** Runs the Python client, with a person who consents, and returns what it sent, without its secrets. */
const runPython = Effect.fnUntraced(function*(server: Server) {
  const origin = `http://127.0.0.1:${server.port}`
  const program = fileURLToPath(new URL("programs/oauth_client.py", import.meta.url))
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn("python3", [program, `${origin}/mcp`, "registered", redirectUri], {
        env: { ...process.env, no_proxy: "*" }
      })
    ),
    (child) => Effect.sync(() => void child.kill("SIGKILL"))
  )
  let faults = ""
  child.stderr.on("data", (chunk) => (faults += chunk))
  const said: Array<Said> = []
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve))
  const services = yield* Effect.context<never>()
  createInterface(child.stdout).on("line", (line) => {
    const one = JSON.parse(line)
    if (one.open === undefined) return void said.push(one)
    Effect.runPromiseWith(services)(consent(server, new URL(one.open))).then(
      (query) => child.stdin.write(`${redirectUri}?${query}\n`),
      (error) => child.kill(String(error) === "" ? "SIGTERM" : "SIGKILL")
    )
  })
  assert.strictEqual(yield* Effect.promise(() => ended), 0, faults)
  const hide = (text: string) =>
    text
      .replaceAll(origin, "{origin}")
      .replaceAll(encodeURIComponent(origin), "{encodedOrigin}")
      .replace(/(Bearer ).+/, "$1{access}")
      .replace(/\b(code=)[^&]+/, "$1{code}")
      .replace(/\b(code_verifier=)[^&]+/, "$1{verifier}")
      .replace(/\b((?:refresh_)?token=)[^&]+/, "$1{refresh}")
  return said.map((one) => ({
    ...one,
    url: hide(one.url),
    headers: Object.fromEntries(Object.entries(one.headers).map(([name, value]) => [name, hide(value)])),
    body: one.body === null ? null : hide(one.body)
  }))
})

describe("clients of others", () => {
  it.live("AGENT-04: a client of Python's standard library signs in by discovery alone, itself and as it was recorded", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      assert.deepStrictEqual(yield* playBack(server), requests)
      if (spawnSync("python3", ["--version"]).error !== undefined) {
        return yield* Effect.logWarning("There is no python3 here: what its client sent was played back, and no more")
      }
      assert.deepStrictEqual(yield* runPython(server), requests)
    }))

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
        OpenId.discovery(
          issuer,
          "files",
          undefined,
          OpenId.ClientSecretBasic("a secret of files, long and random"),
          options
        )
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
