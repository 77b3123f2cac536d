/**
 * Runs a relay, a backend and a client as three processes that talk over HTTP, and the owner's commands.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import { exchange, get, post, sallyport, serveWith } from "../../../test-support/backend.ts"
import { program, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const script = (name: string) => fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url))

interface Step {
  readonly step: string
  readonly thumbprint: string
  readonly verificationCode: string
  readonly authenticated: boolean
  readonly status: number
  readonly reason: string
  readonly token: string
  readonly codes: ReadonlyArray<string>
}

const worldWith = Effect.fnUntraced(function*(variables: Record<string, string>, clientScript: string) {
  const directory = yield* temporaryDirectory
  const relayProcess = yield* program(script("relay"), [`${directory}`, "0"])
  const relay: { readonly url: string; readonly linkCode: string; readonly clientCode: string } = JSON.parse(
    yield* relayProcess.printed(/^.*\n/)
  )
  const state = `${directory}/state`
  const environment = yield* serveWith(variables, state)
  const owner = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const running = yield* sallyport(["connect", ...args, "--state-dir", state, "--json"])
    const { code } = yield* running.exit
    return { code, stdout: running.stdout(), stderr: running.stderr() }
  })
  const linked = yield* owner("link", "--relay", relay.url, "--code", relay.linkCode, "--public-url", environment.url)
  assert.strictEqual(linked.code, 0, linked.stderr)
  const { environmentId }: { readonly environmentId: string } = JSON.parse(linked.stdout)
  const client = Effect.fnUntraced(function*(...code: ReadonlyArray<string>) {
    const running = yield* program(clientScript, [`${directory}/client`, relay.url, environmentId, ...code])
    const step = (name: string): Effect.Effect<Step, Error> =>
      Effect.map(
        running.printed(new RegExp(`\\{"step":"${name}".*\\}(?=\\n)`)),
        (line): Step => JSON.parse(line)
      )
    return { ...running, step }
  })
  return { client, environment, owner, relay }
})

const world = worldWith({}, script("client"))

describe("a relay, an environment and a client", () => {
  it.live(
    "CONN-03 CONN-06 CONN-08 CONN-11 L-30 L-43: a client waits, is approved and goes on by itself; revoked while connected, its stream ends and its token is refused; it asks again and waits, and is rejected, then blocked",
    () =>
      Effect.gen(function*() {
        const { client, owner, relay } = yield* world
        const first = yield* client(relay.clientCode)
        const waiting = yield* first.step("waiting")
        const shown: {
          readonly clients: ReadonlyArray<{ readonly verificationCode: string; readonly account: string }>
        } = JSON.parse((yield* owner("clients")).stdout)
        assert.deepStrictEqual(shown.clients.map(({ account, verificationCode }) => [account, verificationCode]), [
          ["ada", waiting.verificationCode]
        ])
        const prefix = waiting.thumbprint.slice(0, 10)
        const approved = yield* owner("approve", prefix, "--code", waiting.verificationCode)
        assert.strictEqual(approved.code, 0, approved.stderr)
        assert.isTrue((yield* first.step("connected")).authenticated)
        assert.strictEqual((yield* first.step("following")).status, 200)

        assert.strictEqual((yield* owner("revoke", prefix, "--reason", "lost")).code, 0)
        assert.strictEqual((yield* first.step("ended")).reason, "Unauthorized")
        assert.strictEqual((yield* first.exit).code, 5)

        const second = yield* client()
        yield* second.step("waiting")
        assert.strictEqual((yield* owner("reject", prefix)).code, 0)
        assert.strictEqual((yield* second.step("failed")).reason, "Rejected")
        assert.strictEqual((yield* second.exit).code, 3)

        const third = yield* client()
        assert.strictEqual((yield* third.step("failed")).reason, "Rejected")
        assert.strictEqual((yield* owner("block", prefix)).code, 0)
        const fourth = yield* client()
        assert.strictEqual((yield* fourth.step("failed")).reason, "Blocked")
        assert.strictEqual((yield* fourth.exit).code, 4)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "SESS-13 CONN-06 C-12: a client that handed itself a bearer session and two links is out, whole, when it is revoked or blocked",
    () =>
      Effect.gen(function*() {
        const { client, environment, owner, relay } = yield* worldWith({
          // As much as a host can allow: what the client hands on need not be bound, and may decide about clients.
          SALLYPORT_PAIRING_UNBOUND_DELEGATION: "true",
          SALLYPORT_ENVIRONMENT_SCOPES: "access:read,access:write,connect:manage"
        }, fileURLToPath(new URL("./programs/handingOn.ts", import.meta.url)))
        for (const decision of ["revoke", "block"]) {
          const running = yield* client(...(decision === "revoke" ? [relay.clientCode] : []))
          const { thumbprint } = yield* running.step("waiting")
          assert.strictEqual((yield* owner("approve", thumbprint)).code, 0)
          const { codes, token } = yield* running.step("handedOn")
          assert.strictEqual((yield* get(environment, "/api/auth/sessions", token)).status, 200)

          assert.strictEqual((yield* owner(decision, thumbprint)).code, 0)
          yield* running.step("ended")
          yield* Effect.repeat(get(environment, "/api/auth/sessions", token), { until: ({ status }) => status === 401 })
          const approval = yield* post(environment, "/api/auth/connect-clients/approve", token, { client: thumbprint })
          assert.strictEqual(approval.status, 401)
          assert.strictEqual((yield* post(environment, "/api/auth/pairing-links", token, {})).status, 401)
          for (const code of codes) assert.strictEqual((yield* exchange(environment, code)).status, 400)
        }
      }).pipe(Effect.scoped),
    timeout
  )
})
