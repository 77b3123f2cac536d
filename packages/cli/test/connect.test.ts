/**
 * Tests the owner's commands beside a backend that runs in a process of its own, on one state directory.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Persistence from "@sallyport/cli/Persistence"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { exitCodes } from "@sallyport/cli/ExitCode"
import { randomBytes } from "node:crypto"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import { freshState, get, pair, post, request, sallyport, serve } from "../../../test-support/backend.ts"
import { eventually, timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

interface Client {
  readonly proofKeyThumbprint: string
  readonly status: string
  readonly verificationCode: string
}

/** Makes clients ask, as the relay's side of the backend would. */
const ask = (stateDirectory: string, thumbprints: ReadonlyArray<string>, options: ConnectClientStore.Options = {}) =>
  Effect.gen(function*() {
    const state = yield* StateDirectory.open(stateDirectory)
    yield* Effect.gen(function*() {
      const clients = yield* ConnectClientStore.ConnectClientStore
      for (const proofKeyThumbprint of thumbprints) {
        yield* clients.request({ proofKeyThumbprint, account: "ada", label: "Ada's phone" })
      }
    }).pipe(
      Effect.provide(
        ConnectClientStore.layerWith(options).pipe(
          Layer.provide(Persistence.layer({ database: undefined, state })),
          Layer.provide(NodeCrypto.layer)
        )
      )
    )
  }).pipe(Effect.provide([NodeServices.layer, NodeCrypto.layer]))

/** Runs a command as a person does. */
const show = (state: string, ...args: ReadonlyArray<string>) => commandLine(["connect", ...args, "--state-dir", state])

/** Runs a command as a script does. */
const run = (state: string, ...args: ReadonlyArray<string>) => show(state, ...args, "--json")

/** Changes the database of a state directory without a change in the feed. */
const tamper = (state: string, statement: string) =>
  Effect.sync(() => {
    const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
    database.exec(`PRAGMA ignore_check_constraints = ON; ${statement}`)
    database.close()
  })

const first = `first${"a".repeat(38)}`
const second = `fisher${"b".repeat(37)}`
const third = "c".repeat(43)

describe("sallyport connect", () => {
  it.live(
    "CONN-07 CONN-10 L-42: decides beside a running backend, which tells its readers, and each failure has its exit code",
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

        assert.strictEqual((yield* run(state, "approve", "unknown")).code, 3)
        const named = yield* run(state, "approve", "AAAA-0000")
        assert.strictEqual(named.code, 3)
        assert.include(named.stderr, "give the code with --code")
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
    "CONN-07 CONN-08: answers over HTTP with a status and a code for each failure, and only to callers who may manage",
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

  it.live(
    "CONN-01 CONN-02 C-64: creates nothing where no state is, shows and sets who may connect, and trusts the clients that are named and no others",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const misspeltState = yield* run(state, "status")
        assert.deepInclude(misspeltState, { code: exitCodes.NoState, stdout: "" })
        assert.include(misspeltState.stderr, `No backend has kept state in ${state} yet. Nothing was created`)
        assert.isFalse(NFS.existsSync(state))

        assert.strictEqual((yield* show(state, "security", "account")).stdout, "account\n")
        const none = yield* show(state, "clients")
        assert.deepInclude(none, { code: 0, stdout: "No client has asked to connect yet\n", stderr: "" })
        const status = yield* show(state, "status")
        assert.deepInclude(status, { code: 0, stdout: "Linked to no relay\nWho may connect: account\n" })
        yield* ask(state, [first, second, third])

        const misspelt = yield* show(
          state,
          "link",
          "--relay",
          "http://127.0.0.1:1",
          "--code",
          "c",
          "--public-url",
          "host"
        )
        assert.strictEqual(misspelt.code, 2)
        assert.include(misspelt.stdout + misspelt.stderr, `"host". Expected an address such as https://host`)

        const wrong = yield* show(state, "security", "everyone")
        assert.strictEqual(wrong.code, 2)
        assert.include(wrong.stdout + wrong.stderr, `"account" | "client-approval"`)
        const trustsUnknown = yield* run(state, "security", "client-approval", "--trust", "unknown")
        assert.strictEqual(trustsUnknown.code, 3)
        assert.strictEqual((yield* run(state, "security", "client-approval", "--trust", "fi")).code, 4)
        assert.strictEqual((yield* run(state, "security")).stdout, `{"mode":"account"}\n`)

        const trusted = yield* show(state, "security", "client-approval", "--trust", "first")
        assert.strictEqual(trusted.code, 0, trusted.stderr)
        assert.match(
          trusted.stdout,
          /^client-approval\nfirstaaaaaaaa {2}approved .*\n2 clients seen so far need approval now/
        )
        yield* ask(state, [second])
        const pending = yield* show(state, "security", "client-approval", "--trust", "fisher", "--trust", "first")
        assert.include(pending.stdout, "fisherbbbbbbb is pending and was not changed")
        assert.notInclude(pending.stdout, "firstaaaaaaaa is")
        const all: { readonly approved: ReadonlyArray<Client> } = JSON.parse(
          (yield* run(state, "security", "client-approval", "--trust-all")).stdout
        )
        assert.deepStrictEqual(all.approved.map((client) => client.proofKeyThumbprint), [third])

        const listed = (yield* show(state, "clients")).stdout.trimEnd().split("\n")
        assert.match(listed.shift() ?? "", /^CLIENT +STATUS +CODE +ACCOUNT +DEVICE +ASKED$/)
        assert.lengthOf(listed, 3)
        const [waiting] = listed.filter((line) => line.startsWith("fisherbbbbbbb"))
        assert.match(
          waiting ?? "",
          /^fisherbbbbbbb {2}pending {3}[0-9A-Z]{4}-[0-9A-Z]{4} {2}ada {2,}Ada's phone {2}\d\d-\d\d \d\d:\d\d$/
        )
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "CONN-02: counts the clients of every page of the list, from the store and by a server",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const many = Array.from({ length: 201 }, (_, index) => String(index).padStart(43, "a"))
        yield* ask(state, many, { maxPendingPerAccount: many.length })
        const server = yield* serve(state)
        const env = { SALLYPORT_TOKEN: yield* pair(server) }
        for (const target of [["--state-dir", state], ["--url", server.url]]) {
          const { stdout } = yield* commandLine(["status", ...target, "--json"], { env })
          const { waitingClients }: { readonly waitingClients: number } = JSON.parse(stdout)
          assert.strictEqual(waitingClients, many.length)
        }

        const other = yield* freshState
        yield* run(other, "security", "account")
        yield* ask(other, many)
        const security = (...args: ReadonlyArray<string>) => show(other, "security", "client-approval", ...args)
        assert.include((yield* security()).stdout, "\n201 clients seen so far need approval now")
        const trusted = many.slice(1).flatMap((client) => ["--trust", client])
        assert.include((yield* security(...trusted)).stdout, "\n1 client seen so far needs approval now")
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "CONN-10 L-42: watches the waiting clients and the decisions of other processes, for a person and for a script, until interrupted",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        yield* ask(state, [first])
        const person = yield* sallyport(["connect", "watch", "--state-dir", state])
        const script = yield* sallyport(["connect", "watch", "--state-dir", state, "--json"])
        yield* person.printed(/^firstaaaaaaaa {2}pending {3}[0-9A-Z]{4}-[0-9A-Z]{4} .*\n/)
        yield* script.printed(/^\{"client":.*"status":"pending".*\n/)
        assert.strictEqual((yield* run(state, "approve", "first", "--reason", "mine")).code, 0)
        // A client that comes back has a new time of its last visit, which the line for a person does not show.
        yield* ask(state, [first])
        assert.strictEqual((yield* run(state, "security", "account")).code, 0)
        yield* person.printed(/\nThe mode is account\n$/)
        assert.match(
          person.stdout(),
          /^firstaaaaaaaa {2}pending .*\nfirstaaaaaaaa {2}approved .*\nThe mode is account\n$/
        )
        yield* script.printed(/"mode":"account"\}\n$/)
        const told = script.stdout().trimEnd().split("\n").map((line): object => JSON.parse(line))
        assert.lengthOf(told, 4)
        const decided: { readonly client?: object } = told[1] ?? {}
        assert.deepInclude(decided.client, { status: "approved", decidedBy: "operator", reason: "mine" })
        assert.deepStrictEqual(told[3], { mode: "account" })
        for (const watching of [person, script]) {
          assert.deepStrictEqual(yield* watching.stop("SIGINT"), { code: 0, signal: null })
          assert.strictEqual(watching.stderr(), "")
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "CONN-01 CONN-07 CONN-09 L-32 L-40: an expired request, a mode that cannot be read and a store out of reach have an exit code, a status and a sentence each",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        yield* ask(state, [first], { pendingLifetime: "1 millis" })
        const expired = yield* run(state, "approve", "first")
        assert.strictEqual(expired.code, 5)
        assert.strictEqual(expired.stdout, "")
        assert.match(expired.stderr, /^sallyport: The request has expired; .*\n$/)
        const server = yield* serve(state)
        const token = yield* pair(server)
        // A backend that starts forgets what has expired by then.
        yield* ask(state, [first], { pendingLifetime: "1 millis" })
        const refused = yield* post(server, "/api/auth/connect-clients/approve", token, { client: "first" })
        assert.deepStrictEqual([refused.status, refused.json<{ readonly code: string }>().code], [
          409,
          "connect_request_expired"
        ])

        yield* tamper(state, "UPDATE sallyport_connect_settings SET mode = 'trust-everyone'")
        for (const args of [["security"], ["status"]]) {
          const unreadable = yield* run(state, ...args)
          assert.strictEqual(unreadable.code, 7)
          assert.match(unreadable.stderr, / is let in until it is set again\n$/)
        }
        const mode = get(server, "/api/auth/connect-security-mode", token)
        const unreadable = yield* mode
        assert.strictEqual(unreadable.status, 409)
        assert.strictEqual(unreadable.json<{ readonly code: string }>().code, "security_mode_unreadable")
        assert.strictEqual((yield* run(state, "security", "client-approval")).code, 0)
        assert.deepStrictEqual((yield* mode).json(), { mode: "client-approval" })

        yield* tamper(state, "DROP TABLE sallyport_connect_clients")
        const lost = yield* run(state, "clients")
        assert.strictEqual(lost.code, 8)
        assert.match(lost.stderr, /^sallyport: The store of connecting clients cannot be reached .*\n$/)
        const url = "postgres://ada:hunter2@127.0.0.1:1/none"
        const shared = yield* freshState
        assert.strictEqual((yield* run(shared, "clients", "--database-url", url)).code, exitCodes.NoState)
        assert.isFalse(NFS.existsSync(shared))
        NFS.mkdirSync(shared, { mode: 0o700 })
        NFS.writeFileSync(NPath.join(shared, "secret-key"), randomBytes(32).toString("base64url"), { mode: 0o600 })
        const unopened = yield* run(shared, "clients", "--database-url", url)
        assert.strictEqual(unopened.code, 8)
        assert.include(unopened.stderr, "postgres://127.0.0.1:1/none")
        assert.notInclude(unopened.stderr, "hunter2")
      }).pipe(Effect.scoped),
    timeout
  )
})
