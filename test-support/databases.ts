/**
 * Lists the databases that every SQL repository is tested on.
 *
 * Each build of a layer creates a new, empty database, which is removed when its scope closes.
 */
import { NodeServices } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"

/**
 * Provides an SQLite database in memory.
 */
export const sqliteMemory = Layer.fresh(SqliteClient.layer({ filename: ":memory:" }))

/**
 * Provides an SQLite database in a file of a temporary directory.
 */
export const sqliteFile = Layer.fresh(Layer.unwrap(Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-sqlite-" })
  return SqliteClient.layer({ filename: path.join(directory, "test.db") })
}))).pipe(Layer.provide(NodeServices.layer))

/**
 * Provides a client of a database on the PostgreSQL server of this test run.
 */
export const connect = (database: string, maxConnections: number) => {
  const { password, ...address } = inject("postgres")
  return PgClient.layer({ ...address, database, password: Redacted.make(password), maxConnections })
}

const administer = (statement: string) =>
  SqlClient.SqlClient.use((sql) => sql.unsafe(statement)).pipe(Effect.provide(connect("postgres", 1)), Effect.orDie)

const database = (settings: (name: string) => ReadonlyArray<string>) =>
  Layer.fresh(Layer.unwrap(Effect.gen(function*() {
    const name = `test_${randomUUID().replaceAll("-", "")}`
    yield* Effect.acquireRelease(
      administer(`CREATE DATABASE ${name}`),
      () => administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    )
    yield* Effect.forEach(settings(name), administer)
    return connect(name, 8)
  })))

/**
 * Provides a database of its own on the PostgreSQL server of this test run.
 */
export const postgres = database(() => [])

/**
 * Provides a database whose transactions are serializable unless they say otherwise.
 */
export const postgresSerializable = database((name) => [
  `ALTER DATABASE ${name} SET default_transaction_isolation = 'serializable'`
])

/**
 * Lists the databases by name.
 */
export const databases = [
  { name: "SQLite in memory", layer: sqliteMemory },
  { name: "SQLite file", layer: sqliteFile },
  { name: "PostgreSQL", layer: postgres },
  { name: "PostgreSQL at serializable", layer: postgresSerializable }
] as const
