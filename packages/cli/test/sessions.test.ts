/** `sallyport sessions`, beside a backend that runs. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { exchange, freshState, get, pair, post, serve, type Server, serveWith } from "../../../test-support/backend.ts"
import { createHash } from "node:crypto"
import { audience, idToken, startIssuer } from "../../http/test/identitySupport.ts"
import { ago } from "../../../test-support/clock.ts"
import { timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const link = (server: Server, token: string) =>
  Effect.map(
    post(server, "/api/auth/pairing-links", token, {}),
    (answer) => answer.json<{ readonly code: string }>().code
  )

/** Asks again and again until a token is refused, which the access feed brings about. */
const untilRefused = (server: Server, token: string) =>
  Effect.repeat(
    get(server, "/api/auth/sessions", token),
    { until: ({ status }) => status === 401 }
  )

interface Listed {
  readonly sessions: ReadonlyArray<{ readonly id: string; readonly createdAt: string; readonly descendants: number }>
  readonly links: ReadonlyArray<{ readonly id: string; readonly createdBy: string }>
}

describe("sallyport sessions", () => {
  it.live(
    "SESS-13 SESS-18 SESS-19 C-34: lists sessions and links, answers one that asks for more, and ends one, what descends from it, or all from before a time",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const server = yield* serve(state)
        const command = (...args: ReadonlyArray<string>) => commandLine([...args, "--state-dir", state, "--json"])
        const run = (...args: ReadonlyArray<string>) => command("sessions", ...args)
        const listed = Effect.fnUntraced(function*(what: "sessions" | "links") {
          const { stdout } = yield* command(what, "list")
          const json: Listed = JSON.parse(stdout)
          return json
        })
        const first = yield* pair(server)
        const child = yield* pair(server, yield* link(server, first))
        const open = yield* link(server, child)
        const table = yield* commandLine(["links", "list", "--state-dir", state])
        const [begins = ""] = /[0-9a-f]{8}-[0-9a-f]{4}(?= )/.exec(table.stdout) ?? []
        const { sessions } = yield* listed("sessions")
        assert.deepStrictEqual(sessions.map(({ descendants }) => descendants), [1, 0])
        assert.deepStrictEqual((yield* listed("links")).links.map(({ createdBy }) => createdBy), ["owner"])

        // By how its id begins, as the tables show it. What begins several ids ends none of them.
        const [, descendant = { id: "" }] = sessions
        const ended = yield* run("revoke", descendant.id.slice(0, 13))
        assert.deepStrictEqual(JSON.parse(ended.stdout), { revoked: descendant.id })
        yield* untilRefused(server, child)
        assert.strictEqual((yield* exchange(server, open)).status, 400)
        // Ids that are made within a minute begin alike.
        const several = Effect.gen(function*() {
          yield* link(server, first)
          const { links } = yield* listed("links")
          return links.map(({ id }) => id.slice(0, 8))
        })
        const [same = ""] = yield* Effect.repeat(several, { until: ([last, ...others]) => others.includes(last ?? "") })
        const count = (yield* listed("links")).links.length
        assert.strictEqual((yield* command("links", "revoke", same)).code, 4)
        assert.strictEqual((yield* command("links", "revoke", begins)).code, 3)
        assert.lengthOf((yield* listed("links")).links, count)
        const unknown = yield* run("revoke", sessions[1]?.id ?? "")
        assert.strictEqual(unknown.code, 3)
        assert.include(unknown.stderr, "There is no live session")
        for (const wrong of [[], ["--issued-before", "2026-01-01"], ["x", "--all"]]) {
          assert.strictEqual((yield* run("revoke", ...wrong)).code, 2)
        }

        const before = (yield* listed("sessions")).sessions
        const since = new Date(Date.parse(before[0]?.createdAt ?? "") + 1).toISOString()
        const second = yield* pair(server, yield* link(server, first))
        const all = yield* run("revoke", "--all", "--issued-before", since, "--yes")
        assert.deepStrictEqual(JSON.parse(all.stdout), { revoked: 2 })
        yield* untilRefused(server, first)
        // What the old session has let in since is out as well.
        yield* untilRefused(server, second)
        assert.deepStrictEqual((yield* listed("sessions")).sessions, [])

        // A program asks for more, and the operator grants some of it, or turns it away, beside the server or through it.
        for (const through of [["--state-dir", state], ["--url", server.url]]) {
          const owner = yield* run("issue", "--label", "owner")
          const issued = yield* run("issue", "--label", "reader", "--scope", "runs:read")
          const tokenOf = ({ stdout }: typeof issued): string => JSON.parse(stdout).token
          const answering = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
            return yield* commandLine(["sessions", ...args, "--json", ...through], {
              env: { SALLYPORT_TOKEN: tokenOf(owner) }
            })
          })
          const ask = post(server, "/api/auth/session/scopes", tokenOf(issued), {
            scopes: ["runs:operate", "credentials:read"]
          })
          const { id } = (yield* ask).json<{ readonly id: string }>()
          const abort = post(server, "/api/threads/none/abort", tokenOf(issued), {})
          assert.strictEqual((yield* abort).status, 403)
          const table = yield* commandLine(["sessions", "list", "--state-dir", state])
          assert.include(
            table.stdout,
            `${
              id.slice(0, 13)
            } asks for runs:operate (Start and stop runs), credentials:read (See which credentials are set): `
          )
          const denied = yield* answering("deny", id.slice(0, 13))
          assert.deepStrictEqual([denied.code, JSON.parse(denied.stdout).session.scopes], [0, ["runs:read"]])
          const none = yield* answering("grant", id)
          assert.strictEqual(none.code, 3)
          assert.include(none.stderr, "asks for scopes")
          yield* ask
          assert.strictEqual((yield* answering("grant", id, "--scope", "access:manage")).code, 6)
          const granted = yield* answering("grant", id.slice(0, 13), "--scope", "runs:operate")
          assert.deepStrictEqual(
            JSON.parse(granted.stdout).session.scopes,
            ["runs:read", "runs:operate"],
            granted.stderr
          )
          yield* Effect.repeat(abort, { until: ({ status }) => status !== 403 })
          for (const session of (yield* listed("sessions")).sessions) yield* run("revoke", session.id)
        }

        // Without a time it ends what there is, also by a terminal whose clock is behind that of the server.
        for (const target of [["--state-dir", state], ["--url", server.url]]) {
          const issued = yield* run("issue", "--label", "script")
          assert.strictEqual(issued.code, 0, issued.stderr)
          const { token }: { readonly token: string } = JSON.parse(issued.stdout)
          const ended = yield* ago("5 minutes")(
            commandLine(["sessions", "revoke", "--all", "--yes", "--json", ...target], {
              env: { SALLYPORT_TOKEN: token }
            })
          )
          assert.deepStrictEqual(JSON.parse(ended.stdout), { revoked: 1 }, ended.stderr)
          yield* untilRefused(server, token)
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "AGENT-06: a backend lets in the people of an issuer that it is told of, and the terminal says who let them in",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const issuer = yield* startIssuer()
        const flags = ["--issuer", issuer.issuer, "--issuer-audience", audience, "--issuer-subject"]
        const server = yield* serveWith({}, state, ...flags, "1234=owner", "--issuer-subject", "5678=guest")
        const exchange = (token: string) =>
          Effect.promise(async () => {
            const answer = await fetch(`${server.url}/oauth/token`, {
              method: "POST",
              headers: { connection: "close" },
              body: new URLSearchParams({
                grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
                subject_token: token,
                subject_token_type: idToken
              })
            })
            return { status: answer.status, json: Object(await answer.json()) }
          })
        const { json, status } = yield* exchange(yield* issuer.sign())
        assert.strictEqual(status, 200, JSON.stringify(json))
        assert.strictEqual((yield* get(server, "/api/runs", json.access_token)).status, 200)
        for (const claims of [{ sub: "9999" }, { sub: "__proto__" }, { sub: "toString" }, { aud: "other" }]) {
          assert.deepInclude(yield* exchange(yield* issuer.sign(claims)), { status: 400 })
        }
        const listed = yield* commandLine(["sessions", "list", "--state-dir", state, "--json"])
        assert.include(listed.stdout, `"issuer:${issuer.issuer}"`)
        const env = { SALLYPORT_TOKEN: String(json.access_token) }
        const told = yield* commandLine(["status", "--url", server.url], { env })
        assert.match(told.stdout, new RegExp(`^Identities of +${issuer.issuer}$`, "m"), told.stderr)

        const table = yield* commandLine(["sessions", "list", "--state-dir", state])
        assert.include(table.stdout, `\nLet in by ${issuer.issuer}: `)

        const half = yield* commandLine(["serve", "--port", "0", "--state-dir", state, "--issuer", issuer.issuer])
        assert.strictEqual(half.code, 2)
        assert.include(half.stderr, "--issuer-audience")
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "CONN-14 AGENT-03: the terminal says what a device asks for, and approves it with less, beside the server and through it",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const server = yield* serve(state)
        const env = { SALLYPORT_TOKEN: yield* pair(server) }
        const form = (path: string, parameters: Record<string, string>) =>
          Effect.promise(async () => {
            const answer = await fetch(`${server.url}${path}`, {
              method: "POST",
              headers: { connection: "close" },
              body: new URLSearchParams({ client_id: "build-agent", ...parameters })
            })
            const json: Readonly<Record<string, string>> = await answer.json()
            return json
          })
        for (const through of [["--state-dir", state], ["--url", server.url]]) {
          const connect = (...args: ReadonlyArray<string>) => commandLine(["connect", ...args, ...through], { env })
          const asked = yield* form("/oauth/device_authorization", { scope: "runs:read runs:operate" })
          const code = asked.user_code ?? ""
          const table = yield* connect("clients")
          assert.include(
            table.stdout,
            `${code} asks for runs:read (Watch runs), runs:operate (Start and stop runs): see "sallyport connect approve"`,
            table.stderr
          )
          const [thumbprint = ""] = new RegExp(`^\\S+(?= .*${code})`, "m").exec(table.stdout) ?? []
          const approve = (...args: ReadonlyArray<string>) => connect("approve", thumbprint, ...args)
          for (const args of [[], ["--code", "BBBB-BBBB"], ["--code", code, "--scope", "credentials:read"]]) {
            assert.notStrictEqual((yield* approve(...args)).code, 0, args.join(" "))
          }
          const approved = yield* approve("--code", code, "--scope", "runs:read")
          assert.strictEqual(approved.code, 0, approved.stderr)
          const token = yield* form("/oauth/token", {
            grant_type: "urn:ietf:params:oauth:grant-type:device_code",
            device_code: asked.device_code ?? ""
          })
          assert.strictEqual(token.scope, "runs:read", JSON.stringify(token))
          const listed = (yield* connect("clients")).stdout
          assert.notInclude(listed, "asks for")
          assert.include(
            listed,
            `\n${thumbprint} was let in for runs:read (Watch runs), and not for runs:operate (Start and stop runs), which ` +
              `it asked for\n`
          )
          const { clients }: { readonly clients: ReadonlyArray<object> } = JSON.parse(
            (yield* connect("clients", "--json")).stdout
          )
          assert.deepInclude(clients[0], {
            requestedScopes: ["runs:read", "runs:operate"],
            grantedScopes: ["runs:read"]
          })
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "AGENT-01 AGENT-05: a backend that is told so lets a program sign in by consent; the terminal lists and ends what it was granted",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const redirectUri = "http://127.0.0.1:5555/callback"
        const server = yield* serveWith(
          { SALLYPORT_AUTHORIZATION_CLIENTS: "workbench=http://127.0.0.1/callback,workbench=https://a.example/cb" },
          state,
          "--authorization-server"
        )
        const run = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
          const { code, stderr, stdout } = yield* commandLine(["sessions", ...args, "--state-dir", state])
          assert.strictEqual(code, 0, stderr)
          return stdout
        })
        const send = (path: string, headers: Record<string, string>, form?: Record<string, string>) =>
          Effect.promise(async () => {
            const answer = await fetch(`${server.url}${path}`, {
              redirect: "manual",
              headers: { connection: "close", ...headers },
              ...(form === undefined ? {} : { method: "POST", body: new URLSearchParams(form) })
            })
            return { headers: answer.headers, status: answer.status, text: await answer.text() }
          })
        const metadata = yield* send("/.well-known/oauth-authorization-server", {})
        assert.strictEqual(JSON.parse(metadata.text).issuer, server.url)

        const verifier = "v".repeat(43)
        const challenge = createHash("sha256").update(verifier).digest("base64url")
        const path = `/oauth/authorize?${new URLSearchParams({
          response_type: "code",
          client_id: "workbench",
          redirect_uri: redirectUri,
          scope: "runs:read",
          code_challenge: challenge,
          code_challenge_method: "S256"
        })}`
        const form = { origin: server.url }
        const signedIn = yield* send(path, form, { decision: "sign-in", code: server.code })
        const cookie = signedIn.headers.get("set-cookie")?.split(";")[0] ?? ""
        const page = yield* send(path, { cookie })
        const seal = /name="seal" value="([^"]+)"/.exec(page.text)?.[1] ?? ""
        const allowed = yield* send(path, { ...form, cookie }, { decision: "allow", scope: "runs:read", seal })
        const answer = new URL(allowed.headers.get("location") ?? "").searchParams
        const granted = yield* send("/oauth/token", {}, {
          grant_type: "authorization_code",
          client_id: "workbench",
          redirect_uri: redirectUri,
          code: answer.get("code") ?? "",
          code_verifier: verifier
        })
        const { access_token: token }: { readonly access_token: string } = JSON.parse(granted.text)
        assert.strictEqual((yield* get(server, "/api/runs", token)).status, 200)

        assert.match(yield* run("list"), /workb/)
        const { sessions }: {
          readonly sessions: ReadonlyArray<{ readonly id: string; readonly client: { readonly id: string } | null }>
        } = JSON.parse(yield* run("list", "--json"))
        const program = sessions.find(({ client }) => client?.id === "workbench")
        yield* run("revoke", program?.id ?? "")
        yield* Effect.repeat(get(server, "/api/runs", token), { until: ({ status }) => status === 401 })
      }).pipe(Effect.scoped),
    timeout
  )
})
