/**
 * The owner's commands beside a running backend: processes of their own, on one state directory.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as ConnectClientStore from "@sallyport/core/ConnectClientStore"
import * as Persistence from "@sallyport/cli/Persistence"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { eventually, freshState, get, pair, post, request, sallyport, serve, timeout } from "./support.ts"

interface Client {
  readonly proofKeyThumbprint: string
  readonly status: string
  readonly verificationCode: string
}

/** Has clients ask, as the relay's side of the backend would. */
const ask = (stateDirectory: string, thumbprints: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const state = yield* StateDirectory.open(stateDirectory)
    yield* Effect.gen(function*() {
      const clients = yield* ConnectClientStore.ConnectClientStore
      for (const proofKeyThumbprint of thumbprints) {
        yield* clients.request({ proofKeyThumbprint, account: "ada", label: "Ada's phone" })
      }
    }).pipe(
      Effect.provide(
        ConnectClientStore.layer.pipe(
          Layer.provide(Persistence.layer({ databaseUrl: undefined, state })),
          Layer.provide(NodeCrypto.layer)
        )
      )
    )
  }).pipe(Effect.provide([NodeServices.layer, NodeCrypto.layer]))

const run = Effect.fnUntraced(function*(state: string, ...args: ReadonlyArray<string>) {
  const running = yield* sallyport(["connect", ...args, "--state-dir", state, "--json"])
  const { code } = yield* running.exit
  return { code, stdout: running.stdout(), stderr: running.stderr() }
})

const first = `first${"a".repeat(38)}`
const second = `fisher${"b".repeat(37)}`

describe("sallyport connect", () => {
  it.live(
    "CONN-07 CONN-10 L-42 decides beside a running backend, which tells its readers, and each failure has its exit code",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const server = yield* serve(state)
        const token = yield* pair(server)
        yield* ask(state, [first, second])
        const clientsOf = Effect.map(
          get(server, "/api/auth/connect-clients", token),
          (answer) => answer.json<{ readonly clients: ReadonlyArray<Client> }>().clients
        )
        assert.deepStrictEqual((yield* clientsOf).map(({ status }) => status), ["pending", "pending"])

        assert.strictEqual((yield* run(state, "approve", "nobody")).code, 3)
        assert.strictEqual((yield* run(state, "approve", "fi")).code, 4)
        assert.strictEqual((yield* run(state, "approve", "fir", "--code", "0000-0000")).code, 6)
        const code = (yield* clientsOf).find(({ proofKeyThumbprint }) => proofKeyThumbprint === first)?.verificationCode
        const approved = yield* run(state, "approve", "fir", "--code", code ?? "", "--reason", "mine")
        assert.strictEqual(approved.code, 0, approved.stderr)
        const decided: { readonly client: object } = JSON.parse(approved.stdout)
        assert.deepInclude(decided.client, { status: "approved", decidedBy: "operator", reason: "mine" })
        yield* eventually(clientsOf, (clients) => clients.some(({ status }) => status === "approved"))
        assert.strictEqual((yield* run(state, "block", second)).code, 0)
        const listed: { readonly clients: ReadonlyArray<Client> } = JSON.parse((yield* run(state, "clients")).stdout)
        assert.deepStrictEqual(listed.clients.map(({ status }) => status).toSorted(), ["approved", "blocked"])

        assert.strictEqual((yield* run(state, "security")).stdout, `{"mode":"client-approval"}\n`)
        assert.strictEqual((yield* run(state, "security", "account")).code, 0)
        const mode = yield* get(server, "/api/auth/connect-security-mode", token)
        assert.deepStrictEqual(mode.json(), { mode: "account" })
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "CONN-07 CONN-08 answers over HTTP with a status and a code for each failure, and only to who may manage",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const server = yield* serve(state)
        const token = yield* pair(server)
        yield* ask(state, [first, second])
        const decide = Effect.fnUntraced(function*(decision: string, payload: object) {
          const answer = yield* post(server, `/api/auth/connect-clients/${decision}`, token, payload)
          const body = answer.json<{ readonly code?: string; readonly client?: Client }>()
          return [answer.status, body.code ?? body.client?.status]
        })
        assert.deepStrictEqual(yield* decide("approve", { client: "x" }), [404, "connect_client_not_found"])
        assert.deepStrictEqual(yield* decide("approve", { client: "fi" }), [409, "connect_client_ambiguous"])
        assert.deepStrictEqual(yield* decide("approve", { client: "fir", code: "0" }), [409, "connect_request_changed"])
        assert.deepStrictEqual(yield* decide("approve", { client: "../etc" }), [400, "invalid_request"])
        assert.deepStrictEqual(yield* decide("approve", { client: "fir" }), [200, "approved"])
        assert.deepStrictEqual(yield* decide("revoke", { client: "fir" }), [200, "revoked"])
        assert.deepStrictEqual(yield* decide("reject", { client: "fis" }), [200, "rejected"])
        assert.deepStrictEqual(yield* decide("block", { client: "fis", reason: "spam" }), [200, "blocked"])
        const put = yield* request(`${server.url}/api/auth/connect-security-mode`, {
          method: "PUT",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: JSON.stringify({ mode: "everyone" })
        })
        assert.strictEqual(put.status, 400)
        const link = yield* post(server, "/api/auth/pairing-links", token, { scopes: ["access:read"] })
        const reader = yield* pair(server, link.json<{ readonly code: string }>().code)
        assert.strictEqual((yield* get(server, "/api/auth/connect-clients", reader)).status, 403)
        const feed = yield* get(server, "/api/auth/connect-clients", token)
        assert.strictEqual(feed.json<{ readonly clients: ReadonlyArray<Client> }>().clients.length, 2)
      }).pipe(Effect.scoped),
    timeout
  )
})
