/**
 * Tests that a running backend ends a client's streams and sockets when its owner revokes the client in another
 * process.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Persistence from "@sallyport/cli/Persistence"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import { makeGrants } from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Http from "node:http"
import { claimsOf, generate, headerOf, prove } from "../../http/test/dpopSupport.ts"
import { freshState, request, type RequestOptions, serve, type Server } from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const key = generate()

/** Asks as the relay's side of the backend does, with a grant. Returns the grant's code if the client is let in. */
const ask = (stateDirectory: string) =>
  Effect.gen(function*() {
    const state = yield* StateDirectory.open(stateDirectory)
    return yield* Effect.gen(function*() {
      const clients = yield* ConnectClientStore.ConnectClientStore
      const grant = yield* (yield* makeGrants)({
        scopes: ["access:read", "runs:read", "runs:operate"],
        subject: "owner",
        label: null,
        proofKeyThumbprint: key.thumbprint,
        createdBy: ConnectClientStore.grantedBy,
        lifetimeMillis: 60_000
      })
      const outcome = yield* clients.request({
        proofKeyThumbprint: key.thumbprint,
        account: "ada",
        grant: grant.row
      })
      return { outcome: outcome._tag, code: Redacted.value(grant.code) }
    }).pipe(
      Effect.provide(
        ConnectClientStore.layer.pipe(
          Layer.provideMerge(Persistence.layer({ database: undefined, state })),
          Layer.provideMerge(NodeCrypto.layer)
        )
      )
    )
  }).pipe(Effect.provide([NodeServices.layer, NodeCrypto.layer]))

const owner = Effect.fnUntraced(function*(state: string, ...args: ReadonlyArray<string>) {
  const { code, stderr } = yield* commandLine(["connect", ...args, "--state-dir", state])
  assert.strictEqual(code, 0, stderr)
})

/** The headers with which the client proves its key for a request. */
const proven = (server: Server, method: string, path: string, token?: string): Record<string, string> => {
  const url = server.url + path
  return {
    dpop: prove(key, headerOf(key), claimsOf({ method, url, nowMillis: Date.now(), token })),
    ...(token === undefined ? {} : { authorization: `DPoP ${token}` })
  }
}

const call = (
  server: Server,
  token: string,
  path: string,
  { headers, method = "GET", ...options }: RequestOptions = {}
) => request(server.url + path, { ...options, method, headers: { ...headers, ...proven(server, method, path, token) } })

const signIn = Effect.fnUntraced(function*(server: Server, code: string) {
  const answer = yield* request(`${server.url}/oauth/token`, {
    method: "POST",
    headers: { ...proven(server, "POST", "/oauth/token"), "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: code,
      subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
    }).toString()
  })
  assert.strictEqual(answer.status, 200, answer.text)
  return answer.json<{ readonly access_token: string }>().access_token
})

/** Opens a stream, and returns an effect that waits for its end and returns its content. */
const open = (server: Server, token: string, path: string) =>
  Effect.acquireRelease(
    Effect.callback<Http.IncomingMessage, Error>((resume) => {
      const outgoing = Http.get(server.url + path, { agent: false, headers: proven(server, "GET", path, token) })
      outgoing.on("response", (response) => resume(Effect.succeed(response)))
      outgoing.on("error", (error) => resume(Effect.fail(error)))
    }),
    (response) => Effect.sync(() => response.destroy())
  ).pipe(Effect.map((response) => {
    assert.strictEqual(response.statusCode, 200)
    let text = ""
    const ended = new Promise<string>((resolve) => {
      response.setEncoding("utf8").on("data", (chunk: string) => text += chunk)
      response.on("close", () => resolve(text))
    })
    return Effect.promise(() => ended)
  }))

/** Opens a socket, and returns effects that wait for its first message and for the code of its end. */
const openSocket = (server: Server, ticket: string) =>
  Effect.acquireRelease(
    Effect.sync(() => new WebSocket(`${server.url.replace("http", "ws")}/api/auth/access?ticket=${ticket}`)),
    (socket) => Effect.sync(() => socket.close())
  ).pipe(Effect.map((socket) => {
    const first = new Promise<void>((resolve) => socket.addEventListener("message", () => resolve()))
    const closed = new Promise<number>((resolve) => socket.addEventListener("close", ({ code }) => resolve(code)))
    return { first: Effect.promise(() => first), closed: Effect.promise(() => closed) }
  }))

describe("a client that is connected", () => {
  for (const command of ["revoke", "reject", "block"]) {
    it.live(
      `CONN-06 SESS-08 L-22 L-42 L-43 loses its feed, its run, its socket, its tickets and its token by "sallyport connect ${command}" in another process`,
      () =>
        Effect.gen(function*() {
          const state = yield* freshState
          const server = yield* serve(state)
          assert.strictEqual((yield* ask(state)).outcome, "Pending")
          yield* owner(state, "approve", key.thumbprint)
          const { code, outcome } = yield* ask(state)
          assert.strictEqual(outcome, "Granted")
          const token = yield* signIn(server, code)
          const unused = yield* ask(state)

          const started = yield* call(server, token, "/api/runs", {
            method: "POST",
            headers: { "content-type": "application/json", "idempotency-key": "key" },
            body: JSON.stringify({ threadId: "thread", input: { to: 100_000, everyMillis: 50 } })
          })
          const { run } = started.json<{ readonly run: { readonly runId: string } }>()
          const ticket = Effect.map(
            call(server, token, "/api/auth/websocket-ticket", { method: "POST" }),
            (answer) => answer.json<{ readonly ticket: string }>().ticket
          )
          const feed = yield* open(server, token, "/api/auth/access")
          const events = yield* open(server, token, `/api/runs/${run.runId}/events`)
          const socket = yield* openSocket(server, yield* ticket)
          yield* socket.first
          const kept = yield* ticket

          assert.strictEqual((yield* call(server, token, "/api/auth/session")).status, 200)
          yield* owner(state, command, key.thumbprint.slice(0, 13))
          assert.include(yield* feed, "event: failure")
          const told = yield* events
          assert.notInclude(told, `"status":"succeeded"`)
          assert.strictEqual(yield* socket.closed, 4401)
          assert.strictEqual((yield* call(server, token, "/api/auth/session")).status, 401)
          assert.strictEqual((yield* call(server, token, `/api/runs/${run.runId}`)).status, 401)
          const late = yield* openSocket(server, kept)
          assert.strictEqual(yield* late.closed, 1006)
          const refused = yield* Effect.flip(Effect.sandbox(signIn(server, unused.code)))
          assert.include(String(refused), "invalid_grant")
        }).pipe(Effect.scoped),
      timeout
    )
  }
})
