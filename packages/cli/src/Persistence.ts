/**
 * Keeps the state of the reference backend: in an SQLite file and private files in its state directory, or in a
 * PostgreSQL database that several nodes share.
 */
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import type { Repositories } from "@sallyport/core/Repositories"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as SqlRateLimiterStore from "@sallyport/core/access/SqlRateLimiterStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { StateDirectory } from "./StateDirectory.ts"

/**
 * Reports that the database of a backend cannot be used, and why.
 *
 * @category errors
 * @since 0.1.0
 */
export class DatabaseError extends Schema.TaggedError<DatabaseError>()("DatabaseError", {
  /** The file, or the server's address and database, without user and password. */
  database: Schema.String,
  cause: Schema.Defect(),
  problem: Schema.String
}) {
  override get message() {
    return this.problem.includes(this.database) ? this.problem : `${this.database}: ${this.problem}`
  }
}

/**
 * Reports that no backend has kept state in a database.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmptyDatabase extends Schema.TaggedError<EmptyDatabase>()("EmptyDatabase", {
  /** The file, or the server's address and database, without user and password. */
  database: Schema.String
}) {
  override get message() {
    return `No backend has kept state in ${this.database} yet. Nothing was created; name another with --state-dir or ` +
      `--database-url, or start the backend with "sallyport serve"`
  }
}

/** Refuses a database without the tables of a backend, before a migration creates them. */
const refuseEmpty = Effect.fnUntraced(function*(database: string) {
  const sql = yield* SqlClient.SqlClient
  const table = `${Migrations.defaultPrefix}access_migrations`
  const found = yield* sql.onDialectOrElse({
    pg: () => sql`SELECT 1 WHERE to_regclass(${table}) IS NOT NULL`,
    orElse: () => sql`SELECT 1 FROM sqlite_master WHERE name = ${table}`
  })
  if (found.length === 0) return yield* new EmptyDatabase({ database })
})

const failAs = (database: string) => (cause: { readonly message: string }) =>
  Layer.effectContext(Effect.fail(new DatabaseError({ database, cause, problem: cause.message })))

/**
 * Provides the counters of wrong pairing codes in the database, so that its nodes share them and a restart keeps them.
 * Expired counters are deleted.
 */
const layerRateLimiter = Layer.merge(
  Layer.provide(RateLimiter.layer, SqlRateLimiterStore.layer),
  SqlRateLimiterStore.layerSweeper()
)

/** Warns if the secrets of a backend are there and its database is not: what it held is lost, unless there is a copy. */
const warnIfVanished = Effect.fnUntraced(function*({ database, secrets }: StateDirectory) {
  const fs = yield* FileSystem.FileSystem
  const kept = yield* Effect.orElseSucceed(fs.readDirectory(secrets), () => [])
  // Of all secrets these come after the tables, so another process that starts for the first time is not taken for a loss.
  if (!kept.some((name) => name.startsWith("session-signing-keys~"))) return
  const info = yield* Effect.option(fs.stat(database))
  if (Option.exists(info, ({ size }) => ByteSize.isGreaterThan(size, ByteSize.zero))) return
  yield* Effect.logWarning(
    `The database ${database} is ${Option.isNone(info) ? "gone" : "empty"}, and the secrets of a backend are in ` +
      `${secrets}: it starts without the sessions, pairing links and runs that it had. If you have a copy of the ` +
      `database, stop this backend and put the copy in its place`
  )
})

/** Provides the repositories on the SQLite file of a state directory, and the secrets in files beside it. */
const layerSqlite = (state: StateDirectory, creates: boolean) =>
  Layer.merge(
    Layer.merge(SqlRepositories.layer, layerRateLimiter).pipe(
      Layer.provide(
        SqliteClient.layer({ filename: state.database }).pipe(
          Layer.tap((context) => creates ? Effect.void : Effect.provideContext(refuseEmpty(state.database), context))
        )
      ),
      Layer.catchTag(["SqlError", "MigrationsError"], failAs(state.database))
    ),
    SecretStore.layerFileSystem(state.secrets)
  ).pipe(Layer.provide(Layer.effectDiscard(warnIfVanished(state))))

/**
 * Names the variable that holds the key of the secrets in a shared database, unless a file does.
 *
 * @category constants
 * @since 0.1.0
 */
export const keyVariable = "SALLYPORT_SECRET_KEY"

/**
 * Provides the key that encrypts the secrets of a shared database: from the environment, or from a file in the state
 * directory, which the first start makes. A second node needs the same key; with a different key its start fails.
 */
const layerSecretKeys = (state: StateDirectory) =>
  Layer.unwrap(Effect.gen(function*() {
    if (Option.isSome(yield* Config.option(Config.Redacted(keyVariable)))) {
      return SecretKeys.layerConfig({ variable: keyVariable })
    }
    const fs = yield* FileSystem.FileSystem
    const random = yield* SecureRandom.SecureRandom
    const key = Base64Url.encode(yield* random.randomBytes(32))
    // Linked when it is whole: another start never reads a part of it.
    const whole = `${state.secretKey}.${Base64Url.encode(yield* random.randomBytes(12))}`
    yield* Effect.scoped(Effect.gen(function*() {
      const file = yield* fs.open(whole, { flag: "wx", mode: 0o600 })
      yield* file.writeAll(new TextEncoder().encode(`${key}\n`))
      yield* file.sync
    })).pipe(
      Effect.andThen(fs.link(whole, state.secretKey)),
      Effect.catchReason("PlatformError", "AlreadyExists", () => Effect.void),
      Effect.ensuring(Effect.ignore(fs.remove(whole, { force: true })))
    )
    return SecretKeys.layerFile(state.secretKey)
  }))

/**
 * Provides the repositories and the secrets in a PostgreSQL database, so that all its nodes are equal. The secrets are
 * encrypted: a dump of the database holds no usable secret.
 */
const layerPostgres = (options: PgDatabase.Options, state: StateDirectory, creates: boolean) =>
  Layer.suspend(() => {
    const database = Option.getOrElse(PgDatabase.nameOf(options.url), () => "the database")
    const client = PgDatabase.layer(options).pipe(
      Layer.tap((context) =>
        Effect.provideContext(
          creates ? PgDatabase.check : Effect.andThen(PgDatabase.check, refuseEmpty(database)),
          context
        )
      ),
      Layer.catchTag("UnusableDatabase", failAs(database))
    )
    return Layer.merge(
      Layer.merge(PgRepositories.layer, layerRateLimiter).pipe(
        Layer.provide(client),
        Layer.catchTag(["SqlError", "MigrationsError"], failAs(database))
      ),
      EncryptedSecretStore.layer({ storeId: "sallyport-cli" }).pipe(
        Layer.provide(layerSecretKeys(state)),
        Layer.provide(SqlSecretStore.layer.pipe(
          Layer.provide(client),
          Layer.catchTag(["SqlError", "MigrationsError"], failAs(database))
        ))
      )
    )
  })

type Sqlite = ReturnType<typeof layerSqlite>
type Postgres = ReturnType<typeof layerPostgres>

/**
 * Provides the repositories and the secrets: in the PostgreSQL database if one is named, otherwise in the state
 * directory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: {
  readonly database: PgDatabase.Options | undefined
  readonly state: StateDirectory
  /** Whether a database without the tables of a backend gets them, as by default, or is refused. */
  readonly creates?: boolean | undefined
}): Layer.Layer<
  Repositories | SecretStore.SecretStore | RateLimiter.RateLimiter,
  Layer.Error<Sqlite> | Layer.Error<Postgres>,
  Layer.Services<Sqlite> | Layer.Services<Postgres>
> =>
  options.database === undefined
    ? layerSqlite(options.state, options.creates ?? true)
    : layerPostgres(options.database, options.state, options.creates ?? true)
