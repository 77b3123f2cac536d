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

/** Provides a new database on the PostgreSQL server of this test run. */
export const postgres = Layer.fresh(Layer.unwrap(Effect.gen(function*() {
  const database = `test_${randomUUID().replaceAll("-", "")}`
  const administer = (statement: string) =>
    SqlClient.SqlClient.use((sql) => sql.unsafe(statement)).pipe(
      Effect.provide(connect("postgres", 1)),
      Effect.orDie
    )
  yield* Effect.acquireRelease(
    administer(`CREATE DATABASE ${database}`),
    () => administer(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`)
  )
  return connect(database, 8)
})))

/**
 * Lists the databases by name.
 */
export const databases = [
  { name: "SQLite in memory", layer: sqliteMemory },
  { name: "SQLite file", layer: sqliteFile },
  { name: "PostgreSQL", layer: postgres }
] as const
