/**
 * Several processes on one database, each a whole server, as clients and operators of a deployment see them.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Http from "node:http"
import { inject } from "vitest"
import { postgres, sharedDatabases } from "../../../../test-support/databases.ts"
import { type Node, startNode } from "../nodes.ts"
import { eventually, timeout } from "../../../../test-support/programs.ts"
import type { SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

const url = (node: Node, path: string) => `http://127.0.0.1:${node.port}${path}`
const headers = (token: string) => ({ authorization: `Bearer ${token}`, "content-type": "application/json" })

const get = (node: Node, path: string, token: string) =>
  Effect.promise(async () => {
    const response = await fetch(url(node, path), { headers: headers(token) })
    await response.text()
    return response.status
  })

const post = (node: Node, path: string, token: string, body: object, more: Record<string, string> = {}) =>
  Effect.promise(async () => {
    const response = await fetch(url(node, path), {
      method: "POST",
      headers: { ...headers(token), ...more },
      body: JSON.stringify(body)
    })
    const text = await response.text()
    assert.isTrue(response.ok, text)
    return text
  })

const revoke = (node: Node, token: string, id: string) => post(node, "/api/auth/sessions/revoke", token, { id })

interface Reading {
  readonly until: (condition: (events: ReadonlyArray<string>) => boolean) => Effect.Effect<ReadonlyArray<string>>
  readonly ended: Effect.Effect<ReadonlyArray<string>>
}

/** Gathers lines `id event` as they come, and lets others wait for them. */
const gather = () => {
  const events: Array<string> = []
  const looks = new Set<() => void>()
  let over = false
  const wait = (condition: () => boolean) =>
    Effect.callback<ReadonlyArray<string>>((resume) => {
      const look = () => {
        if (!condition()) return
        looks.delete(look)
        resume(Effect.succeed(events))
      }
      looks.add(look)
      look()
    })
  const reading: Reading = {
    until: (condition) => wait(() => condition(events)),
    ended: wait(() => over)
  }
  return {
    reading,
    add: (event: string) => {
      events.push(event)
      looks.forEach((look) => look())
    },
    end: () => {
      over = true
      looks.forEach((look) => look())
    }
  }
}

/** Follows Server-Sent Events on a node until the scope closes. */
const followSse = (node: Node, path: string, token: string): Effect.Effect<Reading, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { add, end, reading } = gather()
        const request = Http.get(url(node, path), { headers: headers(token), agent: false }, (response) => {
          let text = ""
          response.setEncoding("utf8").on("data", (chunk: string) => {
            const blocks = (text + chunk).split("\n\n")
            text = blocks.pop() ?? ""
            for (const block of blocks) {
              const event = /^event: (.*)$/m.exec(block)?.[1]
              if (event !== undefined) add(`${/^id: (.*)$/m.exec(block)?.[1] ?? "-"} ${event}`)
            }
          })
          response.on("close", end)
        })
        request.on("error", end)
        return { request, reading }
      }),
      ({ request }) => Effect.sync(() => request.destroy())
    ),
    ({ reading }) => reading
  )

const followWebSocket = (node: Node, token: string): Effect.Effect<Reading, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { add, end, reading } = gather()
        // Node's client takes headers, unlike a browser's, whose type this is.
        const socket: WebSocket = Reflect.construct(WebSocket, [
          url(node, "/api/auth/access").replace("http", "ws"),
          { headers: headers(token) }
        ])
        socket.addEventListener("message", ({ data }) => {
          const { event, id }: { event: string; id?: string } = JSON.parse(String(data))
          // A busy machine gives a connection the time to be kept alive.
          if (event !== "heartbeat") add(`${id ?? "-"} ${event}`)
        })
        socket.addEventListener("close", ({ code }) => {
          add(`closed ${code}`)
          end()
        })
        return { socket, reading }
      }),
      ({ socket }) => Effect.sync(() => socket.close())
    ),
    ({ reading }) => reading
  )

const count = (n: number) => (events: ReadonlyArray<string>) => events.length >= n

// -----------------------------------------------------------------------------
// Databases
// -----------------------------------------------------------------------------

const postgresDatabase = Effect.map(
  SqlClient.SqlClient.use((sql) => sql<{ readonly database: string }>`SELECT current_database() AS database`),
  ([row]) => ({ ...inject("postgres"), database: row?.database ?? "" })
)

/** Runs a statement on the server, from another database than the nodes'. */
const administer = (statement: string) => {
  const { password, ...address } = inject("postgres")
  return SqlClient.SqlClient.use((sql) => sql.unsafe(statement)).pipe(
    Effect.provide(PgClient.layer({ ...address, database: "postgres", password: Redacted.make(password) })),
    Effect.orDie
  )
}

/** Are two nodes on one database. */
class Nodes extends Context.Service<Nodes, readonly [Node, Node]>()("test/Nodes") {}

const startNodes = (database: SharedDatabase) => Effect.all([startNode(database), startNode(database)])

for (const { database, name } of sharedDatabases) {
  layer(Layer.effect(Nodes, Effect.flatMap(database, startNodes)), { excludeTestServices: true, timeout })(
    `two processes on one database (${name})`,
    (it) => {
      it.effect(
        "SESS-05 SESS-08 FEED-02 L-22 L-42: a session revoked on one is refused on the other, where its streams end " +
          "and other subscribers are told",
        () =>
          Effect.gen(function*() {
            const [a, b] = yield* Nodes
            const operator = yield* a.issue("ada")
            const sse = yield* followSse(b, "/api/auth/access", operator.token)
            const ws = yield* followWebSocket(b, operator.token)
            yield* sse.until(count(1))
            yield* ws.until(count(1))
            for (let round = 0; round < 5; round++) {
              const victim = yield* a.issue("bob")
              const stream = yield* followSse(b, "/api/auth/access", victim.token)
              const socket = yield* followWebSocket(b, victim.token)
              yield* stream.until(count(1))
              yield* socket.until(count(1))
              // Remembered on both.
              for (const node of [a, b, b]) {
                assert.strictEqual(yield* get(node, "/api/auth/sessions", victim.token), 200)
              }
              yield* revoke(a, operator.token, victim.id)
              assert.include((yield* stream.ended).at(-1), "failure")
              assert.strictEqual((yield* socket.ended).at(-1), "closed 4401")
              for (const node of [a, b]) assert.strictEqual(yield* get(node, "/api/auth/sessions", victim.token), 401)
            }
            for (const reading of [sse, ws]) {
              const events = yield* reading.until((all) => all.filter((one) => one.includes("Removed")).length === 5)
              const [first, ...rest] = events.map((event) => Number(event.split(" ")[0]))
              assert.deepStrictEqual(rest, rest.map((_, index) => (first ?? 0) + index + 1))
            }
          })
      )

      it.effect(
        "FEED-01: a storm of changes on both reaches subscribers of both, each change once and in order",
        () =>
          Effect.gen(function*() {
            const nodes = yield* Nodes
            const [a] = nodes
            const { token } = yield* a.issue("ada")
            // A session may have 32 links open at once.
            const { token: another } = yield* a.issue("ada")
            const now = yield* Effect.flatMap(followSse(a, "/api/auth/access", token), ({ until }) => until(count(1)))
            const revision = Number(now[0]?.split(" ")[0])
            const readings = yield* Effect.forEach(nodes, (node) =>
              followSse(node, `/api/auth/access?after=${revision}`, token))
            yield* Effect.forEach(
              Array.from({ length: 60 }, (_, index) =>
                index),
              (index) => post(nodes[index % 2] ?? a, "/api/auth/pairing-links", index % 4 < 2 ? token : another, {}),
              { concurrency: 12 }
            )
            for (const reading of readings) {
              const events = yield* reading.until(count(60))
              assert.deepStrictEqual(
                events.map((event) => Number(event.split(" ")[0])),
                events.map((_, index) => revision + index + 1)
              )
            }
          })
      )

      it.effect(
        "RUN-08: a run that one executes is followed on the other, without a gap or a repeat",
        () =>
          Effect.gen(function*() {
            const [a, b] = yield* Nodes
            const { token } = yield* a.issue("ada")
            const started = yield* post(a, "/api/runs", token, { threadId: "thread", input: 300 }, {
              "idempotency-key": "key"
            })
            const { run }: { run: { runId: string } } = JSON.parse(started)
            const reading = yield* followSse(b, `/api/runs/${run.runId}/events`, token)
            const events = yield* reading.ended
            assert.deepStrictEqual(events, [
              ...Array.from({ length: 300 }, (_, index) => `${index + 1} data`),
              "301 end"
            ])
          })
      )
    }
  )
}

describe("PostgreSQL", () => {
  it.live(
    "SESS-05 FEED-02 L-42: while no node can listen nothing stale is accepted, and nothing is lost after it",
    () =>
      Effect.gen(function*() {
        const database = yield* postgresDatabase
        const [a, b] = yield* startNodes(database)
        const operator = yield* a.issue("ada")
        const sse = yield* followSse(b, "/api/auth/access", operator.token)
        yield* sse.until(count(1))
        for (let round = 1; round <= 2; round++) {
          const victim = yield* a.issue("bob")
          const stream = yield* followSse(b, "/api/auth/access", victim.token)
          yield* stream.until(count(1))
          for (const node of [a, b, b]) assert.strictEqual(yield* get(node, "/api/auth/sessions", victim.token), 200)

          yield* administer(`ALTER DATABASE ${database.database} WITH ALLOW_CONNECTIONS false`)
          const killed = yield* administer(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = 'sallyport-wakeups' AND datname = '${database.database}'`
          )
          assert.strictEqual(killed.length, 2)
          yield* b.logged("Lost the access feed", round)
          yield* revoke(a, operator.token, victim.id)
          assert.strictEqual(yield* get(b, "/api/auth/sessions", victim.token), 401)
          assert.strictEqual(yield* get(b, "/api/auth/sessions", operator.token), 200)

          yield* administer(`ALTER DATABASE ${database.database} WITH ALLOW_CONNECTIONS true`)
          assert.include((yield* stream.ended).at(-1), "failure")
          const events = yield* sse.until((all) => all.filter((one) => one.includes("Removed")).length === round)
          const [first, ...rest] = events.map((event) => Number(event.split(" ")[0]))
          assert.deepStrictEqual(rest, rest.map((_, index) => (first ?? 0) + index + 1))
          yield* eventually(
            administer(`SELECT pid FROM pg_stat_activity
            WHERE application_name = 'sallyport-wakeups' AND datname = '${database.database}'`),
            ({ length }) => length === 2
          )
        }
      }).pipe(Effect.scoped, Effect.provide(postgres)),
    300_000
  )

  it.live(
    "RUN-08 L-83: a reader on one node follows a run on the other through the loss of every listening connection",
    () =>
      Effect.gen(function*() {
        const database = yield* postgresDatabase
        const [a, b] = yield* startNodes(database)
        const { token } = yield* a.issue("ada")
        const input = { to: 200, everyMillis: 15 }
        const started = yield* post(a, "/api/runs", token, { threadId: "thread", input }, { "idempotency-key": "key" })
        const { run }: { run: { runId: string } } = JSON.parse(started)
        const readings = yield* Effect.forEach([a, b, b], (node) =>
          followSse(node, `/api/runs/${run.runId}/events`, token))
        let killed = 0
        for (let round = 1; round <= 4; round++) {
          for (const reading of readings) {
            yield* reading.until(count(round * 30))
          }
          killed += (yield* eventually(
            administer(
              `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE application_name = 'sallyport-wakeups' AND datname = '${database.database}'`
            ),
            ({ length }) =>
              length > 0
          )).length
        }
        assert.isAtLeast(killed, 4)
        for (const reading of readings) {
          assert.deepStrictEqual(yield* reading.ended, [
            ...Array.from({ length: input.to }, (_, index) => `${index + 1} data`),
            `${input.to + 1} end`
          ])
        }
      }).pipe(Effect.scoped, Effect.provide(postgres)),
    300_000
  )
})
