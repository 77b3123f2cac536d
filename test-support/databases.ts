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

const unused = Effect.suspend(() => {
  const name = emptied.pop()
  return name === undefined ? createNew : Effect.succeed(name)
})

const disconnectOthers = (name: string) =>
  `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}' AND pid <> pg_backend_pid()`

const empty = (name: string) =>
  runOn(name, [
    disconnectOthers(name),
    "DROP SCHEMA IF EXISTS kept CASCADE",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
    `ALTER DATABASE ${name} RESET ALL`
  ]).pipe(Effect.andThen(Effect.sync(() => void emptied.push(name))))

/**
 * Takes a database that was emptied, or creates one, and returns its name. It is emptied with the scope. Only for tests
 * whose clients are all of this process: another process might come back to it.
 */
const take = Effect.acquireRelease(unused, empty)

const serializable = (name: string) =>
  administer(`ALTER DATABASE ${name} SET default_transaction_isolation = 'serializable'`)

const atSerializable = (database: typeof create) => Effect.tap(database, serializable)

const clientOf = (database: typeof take) => Layer.fresh(Layer.unwrap(Effect.map(database, (name) => connect(name, 8))))

/**
 * Provides a database of its own on the PostgreSQL server of this test run.
 */
export const postgres = clientOf(take)

/**
 * Provides a database whose transactions are serializable unless they say otherwise.
 */
export const postgresSerializable = clientOf(atSerializable(take))

interface Kept {
  readonly name: string
  /** What its tables, and all that hangs on them, were like before the first test; none if that is not known. */
  shape: string | undefined
}

/** Databases with the tables that a layer has made, and the rows that it has written: to make them takes longer than most tests. */
const kept = new Map<object, Array<Kept>>()

/** Returns another text after each change of a table, an index, a constraint, a trigger, a function or a schema. */
const shape = `SELECT concat_ws(' ', ${
  ["class", "attribute", "attrdef", "index", "constraint", "trigger", "proc", "namespace"].map((catalog) =>
    `(SELECT count(*) || '/' || max(xmin::text::bigint) FROM pg_${catalog})`
  ).join()
}) AS shape`

const shapeOf = (sql: SqlClient.SqlClient) =>
  Effect.map(sql.unsafe<{ readonly shape: string }>(shape), ([row]) => row?.shape)

const forEachTable = (statements: string) =>
  `DO $$ DECLARE t record; BEGIN
    FOR t IN SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
      ${statements}
    END LOOP;
  END $$`

/** Remembers the rows that are there, and where the sequences stand. */
const remember = [
  "CREATE SCHEMA kept",
  forEachTable("EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%1$I', t.name);"),
  `CREATE TABLE kept."sequences" AS SELECT format('%I.%I', schemaname, sequencename) AS name, start_value, last_value
    FROM pg_sequences`
]

/** Brings the rows back that were remembered, once no other connection writes. */
const bringBack = [
  forEachTable("EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', t.name);"),
  forEachTable(`SET LOCAL session_replication_role = replica;
    EXECUTE format('DELETE FROM public.%I', t.name);
    EXECUTE format('INSERT INTO public.%I OVERRIDING SYSTEM VALUE TABLE kept.%1$I', t.name);`),
  `SELECT setval(name::regclass, coalesce(last_value, start_value), last_value IS NOT NULL) FROM kept."sequences"`
]

/** Takes a database with tables. With the scope it loses what a test has written, or is emptied if its tables were changed. */
const takeWith = (tables: object) =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const found = kept.get(tables)?.pop()
      return found === undefined
        ? Effect.map(unused, (name): Kept => ({ name, shape: undefined }))
        : Effect.succeed(found)
    }),
    (taken) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        if (taken.shape === undefined || (yield* shapeOf(sql)) !== taken.shape) return empty(taken.name)
        for (const statement of [disconnectOthers(taken.name), ...bringBack]) yield* sql.unsafe(statement)
        yield* sql.unsafe(`ALTER DATABASE ${taken.name} RESET ALL`)
        return Effect.sync(() => void kept.set(tables, [...kept.get(tables) ?? [], taken]))
      }).pipe(Effect.provide(connect(taken.name, 1)), Effect.orDie, Effect.flatten)
  )

/**
 * Provides what a layer keeps in a database, with the database. On PostgreSQL it is one that an earlier test has used, with
 * the tables and the rows that the layer has made.
 */
export const withTables = <A, E>(
  database: typeof databases[number]["layer"],
  tables: Layer.Layer<A, E, SqlClient.SqlClient>
): Layer.Layer<A | SqlClient.SqlClient, E | Layer.Error<typeof database>> => {
  if (database !== postgres && database !== postgresSerializable) return Layer.provideMerge(tables, database)
  return Layer.fresh(Layer.unwrap(Effect.map(
    takeWith(tables).pipe(
      Effect.tap(({ name }) => database === postgresSerializable ? serializable(name) : Effect.void)
    ),
    (taken) => {
      const first = Effect.gen(function*() {
        if (taken.shape !== undefined) return
        const sql = yield* SqlClient.SqlClient
        for (const statement of remember) yield* sql.unsafe(statement)
        taken.shape = yield* shapeOf(sql)
      }).pipe(Effect.orDie)
      return Layer.effectDiscard(first).pipe(
        Layer.provideMerge(tables),
        Layer.provideMerge(connect(taken.name, 8))
      )
    }
  )))
}

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
