import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { inject } from "vitest"
import * as Sallyport from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"

/** Makes a database that goes away with the scope, and returns its URL and a client of it. */
const database = Effect.gen(function*() {
  const { host, password, port, username } = inject("postgres")
  const name = `cli_${randomUUID().replaceAll("-", "")}`
  const connect = (to: string) =>
    PgClient.layer({ host, port, username, password: Redacted.make(password), database: to, maxConnections: 1 })
  const administer = (statement: string) =>
    SqlClient.SqlClient.use((sql) => sql.unsafe(statement)).pipe(Effect.provide(connect("postgres")), Effect.orDie)
  yield* Effect.acquireRelease(
    administer(`CREATE DATABASE ${name}`),
    () => administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  )
  return {
    url: `postgres://${username}:${password}@${host}:${port}/${name}`,
    password,
    client: Layer.fresh(connect(name))
  }
})

const environment = (url: string) => ({ SALLYPORT_DATABASE_URL: url })

/** Starts a node with the key of another one, as an operator sets one up. */
const join = Effect.fnUntraced(function*(url: string, firstState: string) {
  const state = yield* Sallyport.freshState
  NFS.mkdirSync(state, { mode: 0o700 })
  NFS.copyFileSync(NPath.join(firstState, "secret-key"), NPath.join(state, "secret-key"))
  return yield* Sallyport.serveWith(environment(url), state)
})

describe("sallyport serve on PostgreSQL", () => {
  it.live(
    "BOOT-03, SESS-05, SESS-08, SESS-12, FEED-02, L-22 two nodes on one database behave as one",
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

  it.live("SEC-06 a node with another key does not start, and says whose key is missing", () =>
    Effect.gen(function*() {
      const { url } = yield* database
      yield* Sallyport.serveWith(environment(url), yield* Sallyport.freshState)
      const node = yield* Sallyport.sallyport(
        ["serve", "--port", "0", "--state-dir", yield* Sallyport.freshState],
        environment(url)
      )
      assert.strictEqual((yield* node.exit).code, 1)
      assert.match(node.stderr(), /cannot be decrypted.*previous/s)
      assert.strictEqual(node.stdout(), "")
    }), timeout)

  it.live("SEC-08 a database that cannot be reached is named without its password", () =>
    Effect.gen(function*() {
      const { password, url } = yield* database
      for (const wrong of [url.replace(/:\d+\//, ":1/"), url.replace("postgres://", "mysql://"), `x:${password}`]) {
        const node = yield* Sallyport.sallyport(
          ["serve", "--port", "0", "--state-dir", yield* Sallyport.freshState],
          environment(wrong)
        )
        assert.strictEqual((yield* node.exit).code, 1)
        assert.notInclude(node.stderr(), password)
        assert.match(node.stderr(), /postgres:\/\//)
        assert.notInclude(node.stderr(), "    at ")
      }
    }), timeout)
})
