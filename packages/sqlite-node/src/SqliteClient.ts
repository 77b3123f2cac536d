/**
 * Provides an Effect `SqlClient` over the `node:sqlite` module that ships with Node.
 *
 * One connection serves the whole client. A semaphore hands it out per statement, per stream or per transaction, and
 * statements run synchronously on the calling thread; only the wait for another process's lock lets the event loop
 * turn. The interface and the names in the configuration are those of `@effect/sql-sqlite-node`, which has no release
 * for Effect 4.1, so that changing one import moves to it later.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as Client from "effect/sql/SqlClient"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import { backup } from "node:sqlite"
import { config as variables, type SqliteClientConfig } from "./internal/clientConfig.ts"
import { createPrivately, open, warnIfReplaced } from "./internal/connection.ts"
import { classify } from "./internal/errors.ts"

export { config, type SqliteClientConfig } from "./internal/clientConfig.ts"

/**
 * Marks values that are a `SqliteClient`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~@sallyport/sqlite-node/SqliteClient"

/**
 * Names the type of the mark on a `SqliteClient`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~@sallyport/sqlite-node/SqliteClient"

/**
 * Describes a `SqlClient` on one SQLite database, with the operations that only SQLite has.
 *
 * @category models
 * @since 0.1.0
 */
export interface SqliteClient extends Client.SqlClient {
  readonly [TypeId]: TypeId

  /** The configuration that the client was made with. */
  readonly config: SqliteClientConfig

  /**
   * Copies the database to the file `destination`, replacing what is there. A new file has the mode 0600.
   *
   * The copy is one consistent state. The connection is held until the copy is complete, so other statements of this
   * client wait, and interruption takes effect only afterwards. The copying itself runs off the main thread. Fails
   * inside a transaction of this client, because it could never finish there.
   */
  readonly backup: (destination: string) => Effect.Effect<BackupMetadata, SqlError>

  /**
   * Loads a SQLite extension from a shared library into the connection.
   *
   * Loading is allowed only for the duration of the call, and never from SQL. Fails when Node's permission model is on.
   */
  readonly loadExtension: (path: string) => Effect.Effect<void, SqlError>

  /** Is absent: SQLite has no statement that this helper could produce. */
  readonly updateValues: never
}

/**
 * Reports what a backup copied, in database pages.
 *
 * @category models
 * @since 0.1.0
 */
export interface BackupMetadata {
  readonly totalPages: number
  readonly remainingPages: number
}

/**
 * Provides the tag of the `SqliteClient` service.
 *
 * @category services
 * @since 0.1.0
 */
export const SqliteClient: Context.Service<SqliteClient, SqliteClient> = Context.Service<SqliteClient>(
  "@sallyport/sqlite-node/SqliteClient"
)

/**
 * Creates a `SqliteClient` whose connection closes with the scope.
 *
 * Foreign keys are enforced. Transactions begin with `BEGIN IMMEDIATE`, so a transaction that writes later cannot fail
 * half-way for lack of the lock. A database that cannot be opened, or a file that is no database, fails with a
 * `SqlError` that names the file and the remedy.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: SqliteClientConfig
): Effect.Effect<SqliteClient, SqlError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function*() {
    const connection = yield* open(options)
    const { db } = connection
    yield* warnIfReplaced(db)
    const acquirers = Client.makeSqliteAcquirers({
      connection: Effect.succeed(connection),
      semaphore: connection.permit,
      isTransaction: () => db.isTransaction
    })
    const client = yield* Client.make({
      ...acquirers,
      compiler: Statement.makeCompilerSqlite(options.transformQueryNames),
      driver: "sqlite-node",
      beginTransaction: "BEGIN IMMEDIATE",
      releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
      prepareTransactionControls: true,
      spanAttributes: [
        ...(options.spanAttributes === undefined ? [] : Object.entries(options.spanAttributes)),
        ["db.system.name", "sqlite"]
      ],
      // `withoutTransforms` does nothing to a client without a row transform, not even drop the query transform.
      transformRows: options.transformResultNames !== undefined
        ? Statement.defaultTransforms(options.transformResultNames).array
        : options.transformQueryNames !== undefined
        ? identity
        : undefined
    })

    const backupTo = (destination: string): Effect.Effect<BackupMetadata, SqlError> =>
      Effect.tryPromise({
        try: async () => {
          let totalPages = 0
          createPrivately(destination)
          const pages = await backup(db, destination, {
            progress: (info) => {
              totalPages = info.totalPages
            }
          })
          return { totalPages: totalPages || pages, remainingPages: 0 }
        },
        catch: (cause) => new SqlError({ reason: classify(cause, "backup") })
      })

    return Object.assign(client, {
      [TypeId]: TypeId,
      config: options,
      backup: (destination: string) =>
        Effect.flatMap(Effect.serviceOption(client.transactionService), (transaction) => {
          if (Option.isNone(transaction)) {
            return acquirers.borrower(() => Effect.uninterruptible(backupTo(destination)))
          }
          const message = "Failed to back up database: a transaction is open. Back up outside of it."
          return Effect.fail(
            new SqlError({ reason: new UnknownError({ cause: new Error(message), message, operation: "backup" }) })
          )
        }),
      loadExtension: (path: string) =>
        Effect.try({
          try: () => {
            db.enableLoadExtension(true)
            try {
              db.loadExtension(path)
            } finally {
              db.enableLoadExtension(false)
            }
          },
          catch: (cause) => new SqlError({ reason: classify(cause, "loadExtension") })
        })
    }) as SqliteClient
  })

const provide = <E>(
  client: Effect.Effect<SqliteClient, E, Scope.Scope | Reactivity.Reactivity>
): Layer.Layer<SqliteClient | Client.SqlClient, E> =>
  Layer.effectContext(
    Effect.map(client, (client) => Context.add(Context.make(SqliteClient, client), Client.SqlClient, client))
  ).pipe(Layer.provide(Reactivity.layer))

/**
 * Provides `SqliteClient` and `SqlClient` from a configuration read through `Config`, which is {@link config} unless given.
 *
 * **Example** (Taking the file from a variable)
 *
 * ```ts
 * import { SqliteClient } from "@sallyport/sqlite-node"
 * import { ConfigProvider, Console, Effect, Layer } from "effect"
 *
 * const Database = SqliteClient.layerConfig(SqliteClient.config)
 *
 * const program = Effect.gen(function*() {
 *   const { config } = yield* SqliteClient.SqliteClient
 *   yield* Console.log(config.filename)
 *   // => :memory:
 * })
 *
 * const Environment = ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_SQLITE_FILENAME: ":memory:" }))
 *
 * Effect.runPromise(Effect.provide(program, Layer.provide(Database, Environment)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<SqliteClientConfig> = variables
): Layer.Layer<SqliteClient | Client.SqlClient, Config.ConfigError | SqlError> =>
  provide(Effect.flatMap(Config.unwrap(config), make))

/**
 * Provides `SqliteClient` and `SqlClient` from a configuration.
 *
 * **Example** (Querying a database)
 *
 * ```ts
 * import { SqliteClient } from "@sallyport/sqlite-node"
 * import { Console, Effect } from "effect"
 * import { SqlClient } from "effect/sql"
 *
 * const program = Effect.gen(function*() {
 *   const sql = yield* SqlClient.SqlClient
 *   const [row] = yield* sql<{ readonly answer: number }>`SELECT 6 * 7 AS answer`
 *   yield* Console.log(row?.answer)
 *   // => 42
 * })
 *
 * Effect.runPromise(Effect.provide(program, SqliteClient.layer({ filename: ":memory:" })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (config: SqliteClientConfig): Layer.Layer<SqliteClient | Client.SqlClient, SqlError> =>
  provide(make(config))
