/**
 * Lists the databases that every SQL repository is tested on.
 *
 * Each build of a layer has an empty database of its own until its scope closes.
 */
import { NodeServices } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import type { SharedDatabase } from "./sharedDatabase.ts"

/**
 * Provides an SQLite database in memory.
 */
export const sqliteMemory = Layer.fresh(SqliteClient.layer({ filename: ":memory:" }))

/** Returns the name of an SQLite file in a temporary directory, which is removed with the scope. */
const temporaryFile = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-sqlite-" })
  return { filename: path.join(directory, "test.db") }
}).pipe(Effect.provide(NodeServices.layer), Effect.orDie)

/**
 * Provides an SQLite database in a file of a temporary directory.
 */
export const sqliteFile = Layer.fresh(Layer.unwrap(Effect.map(temporaryFile, SqliteClient.layer)))

/**
 * Provides a client of a database on the PostgreSQL server of this test run.
 */
export const connect = (database: string, maxConnections: number) => {
  const { password, ...address } = inject("postgres")
  return PgClient.layer({ ...address, database, password: Redacted.make(password), maxConnections })
}

const runOn = (database: string, statements: ReadonlyArray<string>) =>
  SqlClient.SqlClient.use((sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement))).pipe(
    Effect.provide(connect(database, 1)),
    Effect.orDie
  )

const administer = (...statements: ReadonlyArray<string>) => runOn("postgres", statements)

const createNew = Effect.suspend(() => {
  const name = `test_${randomUUID().replaceAll("-", "")}`
  return Effect.as(administer(`CREATE DATABASE ${name}`), name)
})

/** Creates a database on the PostgreSQL server of this test run, which is dropped with the scope, and returns its name. */
const create = Effect.acquireRelease(
  createNew,
  (name) => administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
)

/** Databases that were emptied: to empty one takes a tenth of the time that it takes to create one. */
const emptied: Array<string> = []

/**
 * Takes a database that was emptied, or creates one, and returns its name. It is emptied with the scope. Only for tests
 * whose clients are all of this process: another process might come back to it.
 */
const take = Effect.acquireRelease(
  Effect.suspend(() => {
    const name = emptied.pop()
    return name === undefined ? createNew : Effect.succeed(name)
  }),
  (name) =>
    runOn(name, [
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}' AND pid <> pg_backend_pid()`,
      "DROP SCHEMA public CASCADE",
      "CREATE SCHEMA public",
      `ALTER DATABASE ${name} RESET ALL`
    ]).pipe(Effect.andThen(Effect.sync(() => emptied.push(name))))
)

const atSerializable = (database: typeof create) =>
  Effect.tap(
    database,
    (name) => administer(`ALTER DATABASE ${name} SET default_transaction_isolation = 'serializable'`)
  )

const clientOf = (database: typeof take) => Layer.fresh(Layer.unwrap(Effect.map(database, (name) => connect(name, 8))))

/**
 * Provides a database of its own on the PostgreSQL server of this test run.
 */
export const postgres = clientOf(take)

/**
 * Provides a database whose transactions are serializable unless they say otherwise.
 */
export const postgresSerializable = clientOf(atSerializable(take))

/**
 * Lists the databases by name.
 */
export const databases = [
  { name: "SQLite in memory", layer: sqliteMemory },
  { name: "SQLite file", layer: sqliteFile },
  { name: "PostgreSQL", layer: postgres },
  { name: "PostgreSQL at serializable", layer: postgresSerializable }
] as const

const address = (name: string): SharedDatabase => ({ ...inject("postgres"), database: name })

/**
 * Lists by name the databases that several processes can share. Each is created empty, and removed when its scope closes.
 */
export const sharedDatabases: ReadonlyArray<{
  readonly name: typeof databases[number]["name"]
  readonly database: Effect.Effect<SharedDatabase, never, Scope.Scope>
}> = [
  { name: "SQLite file", database: temporaryFile },
  { name: "PostgreSQL", database: Effect.map(create, address) },
  { name: "PostgreSQL at serializable", database: Effect.map(atSerializable(create), address) }
]

/** Creates an empty database on the PostgreSQL server of this test run, which is dropped with the scope, and returns its URL. */
export const url = Effect.map(create, (name) => {
  const { host, password, port, username } = inject("postgres")
  return `postgres://${username}:${password}@${host}:${port}/${name}`
})
