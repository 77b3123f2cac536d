import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import * as Sallyport from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"
import { database, environment } from "./postgres.ts"

/** Starts a node with the key of another one, as an operator sets one up. */
const join = Effect.fnUntraced(
  function*(url: string, firstState: string, variables: Readonly<Record<string, string>> = {}) {
    const state = yield* Sallyport.freshState
    NFS.mkdirSync(state, { mode: 0o700 })
    NFS.copyFileSync(NPath.join(firstState, "secret-key"), NPath.join(state, "secret-key"))
    return yield* Sallyport.serveWith({ ...environment(url), ...variables }, state)
  }
)

describe("sallyport serve on PostgreSQL", () => {
  it.live(
    "BOOT-03 SESS-05 SESS-08 SESS-12 FEED-02 L-22: two nodes on one database behave as one",
    () =>
      Effect.gen(function*() {
        const { client, url } = yield* database
        const state = yield* Sallyport.freshState
        const one = yield* Sallyport.serveWith(environment(url), state)
        const other = yield* join(url, state)

        // The code of one node is redeemed at both nodes: it is accepted once, whichever node is first.
        const attempts = Array.from({ length: 500 }, () => [one, other]).flat()
        const answers = yield* Effect.forEach(attempts, (node) => Sallyport.exchange(node, one.code), {
          concurrency: 50
        })
        const winners = answers.filter(({ status }) => status === 200)
        assert.lengthOf(winners, 1)
        const token = winners[0]?.json<{ readonly access_token: string }>().access_token ?? ""

        // A run that one node executes is followed on the other, until the session is ended on the first.
        const { run } = yield* Sallyport.startRun(one, token, { to: 10_000, everyMillis: 20 })
        const reader = yield* Sallyport.follow(other, token, run.runId)
        assert.deepInclude(yield* reader.next, { id: "1", event: "data" })
        assert.strictEqual((yield* Sallyport.get(other, "/api/auth/sessions", token)).status, 200)
        assert.strictEqual((yield* Sallyport.post(one, "/api/auth/logout", token)).status, 204)
        const rest = yield* reader.rest
        assert.deepInclude(rest.at(-1), { event: "failure" })
        assert.strictEqual((yield* Sallyport.get(other, "/api/auth/sessions", token)).status, 401)

        // The data at rest gives no access: the database holds neither the issued credentials nor the keys.
        const dump = yield* SqlClient.SqlClient.use((sql) =>
          Effect.gen(function*() {
            const tables = yield* sql<{ name: string }>`
              SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'`
            const texts = yield* Effect.forEach(tables, ({ name }) => sql`SELECT t::text AS row FROM ${sql(name)} AS t`)
            return JSON.stringify(texts)
          })
        ).pipe(Effect.provide(client))
        assert.include(dump, "session-signing-keys", "the dump holds the secrets' names")
        const key = NFS.readFileSync(NPath.join(state, "secret-key"), "utf8").trim()
        for (const secret of [token, one.code, one.code.replaceAll("-", ""), other.code, key, "\"kty\""]) {
          assert.notInclude(dump, secret)
        }
      }),
    timeout
  )

  it.live(
    "C-33 OPS-05: a node whose clock is 5 minutes ahead takes what the other has issued, and gives what it takes",
    () =>
      Effect.gen(function*() {
        const { url } = yield* database
        const state = yield* Sallyport.freshState
        const one = yield* Sallyport.serveWith(environment(url), state)
        const program = "const now = Date.now.bind(Date); Date.now = () => now() + 300_000"
        const ahead = yield* join(url, state, {
          NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(program)}`
        })
        for (const [here, there] of [[one, ahead], [ahead, one]] as const) {
          const exchanged = yield* Sallyport.exchange(there, here.code)
          assert.strictEqual(exchanged.status, 200)
          const { access_token } = exchanged.json<{ readonly access_token: string }>()
          assert.strictEqual((yield* Sallyport.get(here, "/api/auth/sessions", access_token)).status, 200)
          const links = "/api/auth/pairing-links"
          const issued = yield* Sallyport.post(here, links, access_token, { lifetimeSeconds: 60 })
          const { code } = issued.json<{ readonly code: string }>()
          assert.strictEqual((yield* Sallyport.exchange(there, code)).status, 200)
        }
      }),
    timeout
  )
})
