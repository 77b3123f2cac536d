/** Databases of their own for tests of the command. */
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"

/** Makes a database that goes away with the scope, and returns its URL and a client of it. */
export const database = Effect.gen(function*() {
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
    name,
    administer,
    url: `postgres://${username}:${password}@${host}:${port}/${name}`,
    password,
    client: Layer.fresh(connect(name))
  }
})

export const environment = (url: string) => ({ SALLYPORT_DATABASE_URL: url })
