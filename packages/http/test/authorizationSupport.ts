/**
 * An authorization server with an MCP server beside it, the documents of clients, and a person with a browser who decides.
 */
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as ClientDocuments from "@sallyport/core/access/ClientDocuments"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as Authentication from "@sallyport/http/Authentication"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createHash, randomBytes } from "node:crypto"
import * as Http from "node:http"
import { type Answer, type Server, type ServerOptions, start } from "./support.ts"

/** Answers as the least MCP server does that both SDKs call a tool of. */
const Mcp = Effect.gen(function*() {
  const { client, subject } = yield* CurrentSession
  const request = yield* HttpServerRequest.HttpServerRequest
  const message = Object(yield* Effect.orDie(request.json))
  const answer = (result: unknown) => HttpServerResponse.jsonUnsafe({ jsonrpc: "2.0", id: message.id, result })
  switch (message.method) {
    case "initialize":
      return answer({
        protocolVersion: message.params.protocolVersion,
        capabilities: { tools: {} },
        serverInfo: { name: "test", version: "1" }
      })
    case "tools/list":
      return answer({ tools: [{ name: "who", inputSchema: { type: "object" } }] })
    case "tools/call":
      return answer({ content: [{ type: "text", text: `${subject} by ${client?.id}` }] })
    default:
      return HttpServerResponse.empty({ status: 202 })
  }
})

export const resources: ReadonlyArray<AuthorizationServer.Resource> = [
  { resource: "/mcp", scopes: ["runs:read", "runs:operate"], name: "Tools" },
  { resource: "/other", scopes: ["runs:read"] },
  {
    resource: "https://files.example/api",
    scopes: ["runs:read"],
    introspection: { id: "files", secret: Redacted.make("a secret of files, long and random") }
  }
]

export const registered = {
  id: "registered",
  name: "Registered <i>Client</i>",
  redirectUris: [
    "http://127.0.0.1/callback",
    "https://app.example/callback",
    "https://app.example/query?a=%20b&c",
    "com.example.app:/callback"
  ]
}

/** Starts the server; `options` are those of the authorization server. It takes proofs if it is given options for them. */
export const startServer = (
  options: AuthorizationServer.Options = {},
  { dpop, ...server }: Omit<ServerOptions, "routes"> & { readonly dpop?: DpopProof.Options } = {}
) =>
  start({
    ...server,
    routes: Layer.mergeAll(
      Sallyport.layer({ prefix: options.prefix, pages: false }),
      HttpRouter.add("POST", "/mcp", Mcp).pipe(
        Layer.provide(Authentication.guard("runs:read", { resource: "/mcp" }).layer)
      ),
      HttpRouter.add("GET", "/mcp", HttpServerResponse.empty({ status: 405 })),
      HttpRouter.add("POST", "/mcp/write", Mcp).pipe(
        Layer.provide(Authentication.guard(["runs:read", "runs:operate"], { resource: "/mcp" }).layer)
      ),
      HttpRouter.add("POST", "/other", Mcp).pipe(
        Layer.provide(Authentication.guard("runs:read", { resource: "/other" }).layer)
      )
    ).pipe(
      Layer.provide(AuthorizationServer.layerWith({ resources, clients: [registered], ...options })),
      Layer.provide(ClientDocuments.layerWith({ loopback: true })),
      Layer.provide(
        dpop === undefined ? Layer.empty : Layer.provide(DpopProof.layerWith(dpop), ReplayRepository.layerMemory)
      ),
      Layer.provide(PublicHttp.layerWith({ loopback: true })),
      Layer.provide(
        Layer.succeed(AccessScope.Titles, { ...AccessScope.titles, "runs:operate": "Start <and> stop" })
      ),
      Layer.orDie
    )
  })

// -----------------------------------------------------------------------------
// Documents of clients
// -----------------------------------------------------------------------------

export interface DocumentServer {
  readonly origin: string
  /** How many requests came. */
  readonly count: () => number
  /** What is answered to a path from now on. */
  readonly serve: (path: string, respond: (response: Http.ServerResponse) => void) => string
  /** Serves the document of a client at a path, and returns its id. */
  readonly client: (
    path: string,
    fields?: Readonly<Record<string, unknown>>,
    headers?: Http.OutgoingHttpHeaders
  ) => string
}

/** Starts a server of documents, which stops with the scope. */
export const startDocuments = Effect.gen(function*() {
  const routes = new Map<string, (response: Http.ServerResponse) => void>()
  let requests = 0
  const server = Http.createServer((request, response) => {
    requests++
    const respond = routes.get(request.url ?? "")
    if (respond === undefined) response.writeHead(404).end()
    else respond(response)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const address = server.address()
  const origin = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
  const documents: DocumentServer = {
    origin,
    count: () => requests,
    serve: (path, respond) => {
      routes.set(path, respond)
      return `${origin}${path}`
    },
    client: (path, fields = {}, headers = {}) =>
      documents.serve(
        path,
        (response) =>
          response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify({
            client_id: `${origin}${path}`,
            client_name: "Document client",
            redirect_uris: ["http://127.0.0.1/callback", "http://localhost/callback"],
            token_endpoint_auth_method: "none",
            ...fields
          }))
      )
  }
  return documents
})

// -----------------------------------------------------------------------------
// A client and a person
// -----------------------------------------------------------------------------

export const verifier = randomBytes(48).toString("base64url")
export const challengeOf = (text: string) => createHash("sha256").update(text).digest("base64url")

/** Returns the path of a request at the authorization endpoint; a parameter that is null is left out. */
export const authorizePath = (server: Server, fields: Readonly<Record<string, string | null>> = {}): string => {
  const query = new URLSearchParams()
  const all = {
    response_type: "code",
    client_id: "registered",
    redirect_uri: "http://127.0.0.1:52163/callback",
    state: "the state / of & all",
    scope: "runs:read",
    code_challenge: challengeOf(verifier),
    code_challenge_method: "S256",
    resource: `http://127.0.0.1:${server.port}/mcp`,
    ...fields
  }
  for (const [name, value] of Object.entries(all)) if (value !== null) query.append(name, value)
  return `/oauth/authorize?${query}`
}

/** Returns the value of a hidden field of a page. */
export const fieldOf = (page: string, name: string): string =>
  new RegExp(`name="${name}" value="([^"]*)"`).exec(page)?.[1] ?? ""

/** Sends the form of a page as a browser does. */
export const submit = (
  server: Server,
  path: string,
  cookie: string,
  form: ReadonlyArray<readonly [string, string]>,
  headers: Http.OutgoingHttpHeaders = { "sec-fetch-site": "same-origin" }
): Effect.Effect<Answer> =>
  server.send({
    method: "POST",
    path,
    headers: { cookie, "content-type": "application/x-www-form-urlencoded", ...headers },
    body: new URLSearchParams(form.map(([name, value]) => [name, value])).toString()
  })

/** Opens the page of a request, decides, and returns where the browser is sent. */
export const decide = Effect.fnUntraced(function*(server: Server, path: string, options: {
  readonly cookie?: string
  readonly decision?: "allow" | "deny"
  readonly scopes?: ReadonlyArray<string>
} = {}) {
  const cookie = options.cookie ?? (yield* server.cookie)
  const page = yield* server.send({ path, headers: { cookie } })
  const scopes = options.scopes ??
    [...page.text.matchAll(/name="scope" value="([^"]*)"/g)].map(([, scope]) => scope ?? "")
  const answer = yield* submit(server, path, cookie, [
    ["seal", fieldOf(page.text, "seal")],
    ["decision", options.decision ?? "allow"],
    ...scopes.map((scope) => ["scope", scope] as const)
  ])
  return { page, answer, location: answer.headers.location ?? "", query: queryOf(answer.headers.location ?? "") }
})

export const queryOf = (location: string): Readonly<Record<string, string>> =>
  Object.fromEntries(new URLSearchParams(location.slice(location.indexOf("?") + 1)))

/** Sends a form to an endpoint that clients call. */
export const post = (
  server: Server,
  path: string,
  form: Readonly<Record<string, string>> | ReadonlyArray<readonly [string, string]>,
  headers: Http.OutgoingHttpHeaders = {}
): Effect.Effect<Answer> =>
  server.send({
    method: "POST",
    path,
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    body: new URLSearchParams(
      Array.isArray(form) ? form.map(([name, value]) => [name, value]) : Object.entries(form)
    ).toString()
  })

/** Exchanges a code; a parameter that is null is left out. */
export const exchange = (
  server: Server,
  code: string,
  fields: Readonly<Record<string, string | null>> = {},
  headers?: Http.OutgoingHttpHeaders
) => {
  const all: Readonly<Record<string, string | null>> = {
    grant_type: "authorization_code",
    code,
    client_id: "registered",
    redirect_uri: "http://127.0.0.1:52163/callback",
    code_verifier: verifier,
    ...fields
  }
  return post(
    server,
    "/oauth/token",
    Object.entries(all).flatMap(([name, value]) => value === null ? [] : [[name, value] as const]),
    headers
  )
}

/** Goes the whole way, and returns the answer of the token endpoint. */
export const grant = Effect.fnUntraced(function*(server: Server, fields: Readonly<Record<string, string | null>> = {}) {
  const { query } = yield* decide(server, authorizePath(server, fields))
  return (yield* exchange(server, query.code ?? "", {
    client_id: fields.client_id ?? "registered",
    redirect_uri: fields.redirect_uri ?? "http://127.0.0.1:52163/callback"
  })).json
})

/** Calls a resource with a token. */
export const call = (server: Server, path: string, token: unknown, headers: Http.OutgoingHttpHeaders = {}) =>
  server.send({
    method: "POST",
    path,
    headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...headers },
    body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "who" } }
  })
