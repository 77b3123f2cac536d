import { assert, describe, it } from "@effect/vitest"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { inject } from "vitest"

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
})
