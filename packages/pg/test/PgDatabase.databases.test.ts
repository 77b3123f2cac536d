import { assert, describe, it } from "@effect/vitest"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as Transactions from "@sallyport/core/sql/Transactions"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import * as Net from "node:net"
import { inject } from "vitest"
import { network } from "../../../test-support/network.ts"
import { pooler } from "../../../test-support/pooler.ts"
import { eventually } from "../../../test-support/programs.ts"

/** Says how a connection was made. */
interface Row {
  readonly database: string
  readonly role: string
  readonly application: string
  readonly timeout: string
  readonly socket: boolean
  readonly prepared: boolean
}

describe("PgDatabase", () => {
  const { host, password, port, socketDirectory, username } = inject("postgres")
  const query = (options: PgDatabase.Options) =>
    SqlClient.SqlClient.use((sql) =>
      sql<Row>`SELECT current_database() AS database, current_user AS role,
        current_setting('application_name') AS application, current_setting('statement_timeout') AS timeout,
        inet_server_addr() IS NULL AS socket, (SELECT count(*) FROM pg_prepared_statements) > 0 AS prepared`
    ).pipe(Effect.map(([row]) => row), Effect.provide(PgDatabase.layer(options)))

  const directory = encodeURIComponent(socketDirectory)
  for (
    const [text, expected] of [
      [`postgres://${username}:${password}@${host}:${port}/postgres`, { database: "postgres", socket: false }],
      [`postgresql://${username}:${password}@127.0.0.%31:${port}/template%31?sslmode=disable`, {
        database: "template1"
      }],
      [`postgres://127.0.0.1/?user=${username}&password=${password}&port=${port}&dbname=postgres`, { role: username }],
      [`postgres:///postgres?host=${socketDirectory}&port=${port}&user=${username}&password=${password}`, {
        socket: true
      }],
      [`postgresql:///postgres?port=${port}&host=${directory}&user=${username}&password=${password}`, { socket: true }],
      [`postgres://${username}:${password}@/postgres?host=${socketDirectory}&port=${port}`, { socket: true }],
      [`postgres://${username}:${password}@:${port}/postgres?host=${socketDirectory}`, { socket: true }],
      [`postgres://${username}:${password}@${directory}:${port}/postgres`, { socket: true, prepared: true }],
      [
        `postgres://${username}:${password}@${host}:${port}/postgres?options=-c%20statement_timeout%3D7s&application_name=acme` +
        "&connect_timeout=5&prepare=false&sslmode=prefer",
        { application: "acme", timeout: "7s", prepared: false }
      ]
    ] as const
  ) {
    it.live(`C-63: connects to ${text.replaceAll(password, "…").replaceAll(/sallyport-postgres-\w+/g, "…")}`, () =>
      Effect.gen(function*() {
        const row = yield* query({ url: Redacted.make(text) })
        assert.deepInclude(row, { database: "postgres", application: "sallyport", prepared: true, ...expected })
        const name = Option.getOrThrow(PgDatabase.nameOf(Redacted.make(text)))
        assert.notInclude(name, password)
        assert.include(name, row?.socket ? socketDirectory : host)
      }))
  }

  const url = (at: number, parameters = "") =>
    Redacted.make(`postgres://${username}:${password}@127.0.0.1:${at}/postgres${parameters}`)
  const settingsOf = (options: PgDatabase.Options) =>
    SqlClient.SqlClient.use((sql) =>
      sql<{ readonly idle: string; readonly statement: string; readonly keepAlive: string }>`SELECT
        current_setting('idle_in_transaction_session_timeout') AS idle,
        current_setting('statement_timeout') AS statement,
        current_setting('tcp_keepalives_idle') AS "keepAlive"`
    ).pipe(
      Effect.map(([row]) => [row?.idle, row?.statement, row?.keepAlive]),
      Effect.provide(PgDatabase.layer(options))
    )

  it.live("OPS-01 OPS-04: bounds how long a transaction may rest and a statement run, unless the URL says so; behind a pooler that refuses settings it connects without", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* settingsOf({ url: url(port) }), ["30s", "20s", "30"])
      const options = encodeURIComponent("-c idle_in_transaction_session_timeout=2min")
      assert.deepStrictEqual(yield* settingsOf({ url: url(port, `?options=${options}`) }), ["2min", "20s", "30"])
      const longer = encodeURIComponent("-c statement_timeout=1h")
      assert.deepStrictEqual(yield* settingsOf({ url: url(port, `?options=${longer}`) }), ["30s", "1h", "30"])
      const hurried = Effect.provideService(settingsOf({ url: url(port) }), Transactions.Deadline, Duration.millis(700))
      assert.deepStrictEqual(yield* hurried, ["30s", "1400ms", "30"])
      const pool = yield* pooler({ port, size: 2 })
      const { port: pooled } = pool
      assert.deepStrictEqual(yield* settingsOf({ url: url(pooled, "?prepare=false") }), ["0", "0", "7200"])
    }).pipe(Effect.scoped))

  it.live("OPS-01 OPS-04: asks for these bounds also of a server that takes no connection, or not the first, when the process starts", () =>
    Effect.gen(function*() {
      for (const failures of [1, 2]) {
        let left = failures
        const server = yield* Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const made = Net.createServer((incoming) => {
              incoming.on("error", () => incoming.destroy())
              if (left-- > 0) return void incoming.destroy()
              const outgoing = Net.connect(port, host).on("error", () => incoming.destroy())
              incoming.pipe(outgoing).pipe(incoming)
            })
            made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
          }),
          (made) => Effect.sync(() => made.close())
        )
        const address = server.address()
        const at = typeof address === "object" && address !== null ? address.port : 0
        assert.deepStrictEqual(yield* settingsOf({ url: url(at) }), ["30s", "20s", "30"], `${failures} failed`)
        assert.isBelow(left, 0)
      }
    }).pipe(Effect.scoped))

  it.live("OPS-01 L-84: a statement goes on no longer than twice the deadline, although its process has fallen silent; a migration's may", () =>
    Effect.gen(function*() {
      const path = yield* network({ url: `http://127.0.0.1:${port}` })
      const other = Context.get(yield* Layer.build(PgDatabase.layer({ url: url(port) })), SqlClient.SqlClient)
      const silent = Context.get(
        yield* Layer.build(PgDatabase.layer({ url: url(Number(new URL(path.url).port)) })).pipe(
          Effect.provideService(Transactions.Deadline, Duration.seconds(2))
        ),
        SqlClient.SqlClient
      )
      const mark = randomUUID()
      const running = Effect.map(
        other<{ readonly count: unknown }>`SELECT count(*) AS count FROM pg_stat_activity
          WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE ${`%${mark}%`}`,
        ([row]) => Number(row?.count)
      )
      yield* Effect.forkScoped(silent.unsafe(`SELECT pg_sleep(3600) /* ${mark} */`), { startImmediately: true })
      yield* eventually(running, (count) => count === 1)
      path.silence()
      yield* eventually(running, (count) => count === 0)

      const brief = yield* Layer.build(PgDatabase.layer({ url: url(port) })).pipe(
        Effect.provideService(Transactions.Deadline, Duration.millis(250))
      )
      const service = `slow_${randomUUID().replaceAll("-", "")}`
      const migrations = { "1_slow": SqlClient.SqlClient.use((sql) => Effect.asVoid(sql`SELECT pg_sleep(0.7)`)) }
      const migrated = yield* Migrations.run({ service, migrations }).pipe(Effect.provideContext(brief))
      assert.deepStrictEqual(migrated, [[1, "slow"]])
      yield* other.unsafe(`DROP TABLE sallyport_${service}_migrations`)
    }).pipe(Effect.scoped))

  it.live("OPS-01 L-84: a lock that a transaction holds, whose connection has fallen silent, is free after that time", () =>
    Effect.gen(function*() {
      const path = yield* network({ url: `http://127.0.0.1:${port}` })
      const table = `held_${randomUUID().replaceAll("-", "")}`
      const options = encodeURIComponent("-c idle_in_transaction_session_timeout=3s")
      const silent = yield* Layer.build(
        PgDatabase.layer({ url: url(Number(new URL(path.url).port), `?options=${options}`) })
      )
      const other = yield* Layer.build(PgDatabase.layer({ url: url(port) }))
      const sql = Context.get(other, SqlClient.SqlClient)
      yield* Effect.acquireRelease(
        sql.unsafe(`CREATE TABLE ${table} AS SELECT 1 AS id`),
        () => Effect.orDie(sql.unsafe(`DROP TABLE ${table}`))
      )
      const holder = Context.get(silent, SqlClient.SqlClient)
      const held = yield* Latch.make()
      yield* Effect.forkScoped(
        holder.withTransaction(
          holder.unsafe(`SELECT id FROM ${table} FOR UPDATE`).pipe(
            Effect.andThen(held.open),
            Effect.andThen(Effect.never)
          )
        ),
        { startImmediately: true }
      )
      yield* held.await
      const taken = sql.unsafe(`SELECT id FROM ${table} FOR UPDATE SKIP LOCKED`)
      assert.lengthOf(yield* taken, 0)
      path.silence()
      yield* eventually(taken, (rows) => rows.length === 1)
    }).pipe(Effect.scoped))
})
