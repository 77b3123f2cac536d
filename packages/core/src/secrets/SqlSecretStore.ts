/**
 * Keeps secrets in SQLite or PostgreSQL.
 *
 * `<prefix>secrets` has a row for each name that was ever set, which says what its latest version is and whether that is
 * a value or a removal; `<prefix>secret_versions` holds the bytes of the versions that are kept. The row of a name is
 * what its writers compare and lock, and it is never deleted, so that no version is used twice. `layer` brings the tables
 * up to date before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at
 * run time.
 *
 * The bytes are stored as they are given. A database, its write-ahead log and its backups are read by more people than
 * a private directory is, so put `EncryptedSecretStore` from `@sallyport/core` around this store.
 */
import * as SecretStore from "./SecretStore.ts"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"
import * as Dialect from "../sql/Dialect.ts"
import * as Access from "../sql/accessTables.ts"
import * as Migrations from "../sql/Migrations.ts"

/**
 * Configures where secrets are kept and how many versions of each.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends SecretStore.Options, Migrations.TableOptions {}

const headTable = (prefix: string): string => `${prefix}secrets`

const versionTable = (prefix: string): string => `${prefix}secret_versions`

const migrate = (prefix: string): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Migrations.run({
    service: "secrets",
    prefix,
    migrations: {
      "1_create_secrets": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const bytes = sql.literal(sql.onDialectOrElse({ pg: () => "BYTEA", orElse: () => "BLOB" }))
        const version = Dialect.bigint(sql)
        // No constraint looks at the bytes: PostgreSQL quotes the whole row in the error of one that fails.
        yield* Access.runAll([
          sql`CREATE TABLE ${sql(headTable(prefix))} (
            name ${Access.idType(sql)} NOT NULL PRIMARY KEY CHECK (name <> ''),
            version ${version} NOT NULL CHECK (version > 0),
            removed ${version} NOT NULL CHECK (removed IN (0, 1))
          )`,
          sql`CREATE TABLE ${sql(versionTable(prefix))} (
            name ${Access.idType(sql)} NOT NULL,
            version ${version} NOT NULL,
            value ${bytes} NOT NULL,
            PRIMARY KEY (name, version)
          )`
        ])
      })
    }
  })

/**
 * Creates the tables of secrets, or brings them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(migrate(options?.prefix ?? Migrations.defaultPrefix))

/**
 * Wraps what the database refused. The message is kept and the driver's own error is not: PostgreSQL's can quote
 * parameters, which here are secrets.
 */
const storageFailure =
  (method: string, name?: SecretStore.SecretName) => (error: SqlError): SecretStore.SecretStoreError => {
    const cause = new Error(error.message)
    const system = error.reason.cause
    if (system instanceof Error && system.message !== error.message) cause.cause = new Error(system.message)
    cause.name = error.reason._tag
    return new SecretStore.SecretStoreError({
      reason: new SecretStore.StorageFailure({ method, cause, ...(name === undefined ? {} : { name }) })
    })
  }

const isSecretName = Schema.is(SecretStore.SecretName)

/**
 * Builds a `SecretStore` on tables that exist already; it runs no DDL.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<SecretStore.SecretStore["Service"], never, SqlClient.SqlClient | SecureRandom.SecureRandom> {
  const keep = options?.keepVersions ?? 2
  if (!Number.isSafeInteger(keep) || keep < 1) {
    return yield* Effect.die(new RangeError("keepVersions must be a whole number from 1"))
  }
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const prefix = options?.prefix ?? Migrations.defaultPrefix
  const heads = sql(headTable(prefix))
  const versions = sql(versionTable(prefix))
  const p = Access.parameter

  const prepare = <A extends object>(statement: Statement.Statement<object>) => {
    const [text] = statement.compile(true)
    return (...parameters: ReadonlyArray<string | number | Uint8Array>) => sql.unsafe<A>(text, parameters)
  }
  // A writer that waited for a row then looks at it again, where a stricter level would fail with a serialization error.
  const begin: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = sql.onDialectOrElse({
    pg: () => Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED"),
    orElse: () => identity
  })
  // Without spans: a statement's span ends with the driver's error, which on PostgreSQL can quote the row.
  const transaction = <A>(self: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> =>
    Effect.withTracerEnabled(begin(sql.withTransaction(self)), false)

  const selectState = prepare<{ readonly version: unknown; readonly removed: unknown; readonly value: unknown }>(
    sql`SELECT head.version AS version, head.removed AS removed, kept.value AS value
    FROM ${heads} AS head LEFT JOIN ${versions} AS kept ON kept.name = head.name AND kept.version = head.version
    WHERE head.name = ${p}`
  )
  // The joined head makes the answer one snapshot: a name that was removed has no versions, whatever rows are left.
  const selectHistory = prepare<{ readonly version: unknown; readonly value: unknown }>(
    sql`SELECT kept.version AS version, kept.value AS value
    FROM ${heads} AS head INNER JOIN ${versions} AS kept ON kept.name = head.name
    WHERE head.name = ${p} AND head.removed = 0 AND kept.version <= head.version
    ORDER BY kept.version DESC LIMIT ${p}`
  )
  const selectNames = sql<{ readonly name: string }>`SELECT name FROM ${heads} WHERE removed = 0`
  const advance = prepare<{ readonly version: unknown }>(
    sql`INSERT INTO ${heads} AS head (name, version, removed) VALUES (${p}, 1, 0)
    ON CONFLICT (name) DO UPDATE SET version = head.version + 1, removed = 0 RETURNING version`
  )
  // The two halves of compare-and-set: each is one conditional statement, and takes the row for the rest of the step.
  const advanceFromNothing = prepare<{ readonly version: unknown }>(
    sql`INSERT INTO ${heads} (name, version, removed) VALUES (${p}, 1, 0) ON CONFLICT DO NOTHING RETURNING version`
  )
  const advanceFrom = prepare<{ readonly version: unknown }>(
    sql`UPDATE ${heads} SET version = version + 1, removed = 0 WHERE name = ${p} AND version = ${p} RETURNING version`
  )
  const markRemoved = prepare(
    sql`UPDATE ${heads} SET version = version + 1, removed = 1 WHERE name = ${p} AND removed = 0`
  )
  const insertVersion = prepare(sql`INSERT INTO ${versions} (name, version, value) VALUES (${p}, ${p}, ${p})`)
  const deleteVersions = prepare(sql`DELETE FROM ${versions} WHERE name = ${p} AND version <= ${p}`)
  const deleteAllVersions = prepare(sql`DELETE FROM ${versions} WHERE name = ${p}`)

  const corrupt = (name: SecretStore.SecretName, problem: string): SecretStore.SecretStoreError =>
    new SecretStore.SecretStoreError({
      reason: new SecretStore.Corrupt({
        location: `the table ${versionTable(prefix)}, name "${name}"`,
        problem,
        remedy: "Restore the tables of secrets from a backup, or set the secret again"
      })
    })

  const toValue = (
    name: SecretStore.SecretName,
    value: unknown
  ): Effect.Effect<Redacted.Redacted<Uint8Array>, SecretStore.SecretStoreError> => {
    if (value instanceof Uint8Array) {
      // A copy, because a driver may hand out a view of a shared buffer.
      return Effect.succeed(Redacted.make(new Uint8Array(value), { label: name }))
    }
    return Effect.fail(
      corrupt(name, value === null ? "the row of the latest version is missing" : "the value is not binary")
    )
  }

  /** Stores the value of a version that the caller has just taken, and drops the versions that are no longer kept. */
  const store = Effect.fnUntraced(function*(
    name: SecretStore.SecretName,
    taken: ReadonlyArray<{ readonly version: unknown }>,
    next: Redacted.Redacted<Uint8Array>
  ) {
    const [head] = taken
    if (head === undefined) return false
    const version = Dialect.toNatural(head.version)
    yield* insertVersion(name, version, Redacted.value(next))
    yield* deleteVersions(name, version - keep)
    return true
  })

  const read = Effect.fnUntraced(function*(name: SecretStore.SecretName) {
    const [row] = yield* Effect.mapError(selectState(name), storageFailure("get", name))
    if (row === undefined) return { version: 0, value: Option.none() }
    const version = Dialect.toNatural(row.version)
    if (Dialect.toNatural(row.removed) === 1) return { version, value: Option.none() }
    return { version, value: Option.some(yield* toValue(name, row.value)) }
  })

  const write = (name: SecretStore.SecretName, next: Option.Option<Redacted.Redacted<Uint8Array>>) =>
    transaction(
      Option.match(next, {
        onSome: (value): Effect.Effect<unknown, SqlError> =>
          Effect.flatMap(advance(name), (taken) => store(name, taken, value)),
        onNone: () => Effect.andThen(markRemoved(name), deleteAllVersions(name))
      })
    ).pipe(Effect.asVoid, Effect.mapError(storageFailure(Option.isSome(next) ? "set" : "remove", name)))

  const compareAndSet = (name: SecretStore.SecretName, expected: number, next: Redacted.Redacted<Uint8Array>) =>
    transaction(Effect.flatMap(
      expected === 0 ? advanceFromNothing(name) : advanceFrom(name, expected),
      (taken) => store(name, taken, next)
    )).pipe(Effect.mapError(storageFailure("modify", name)))

  const list = Effect.gen(function*() {
    const names: Array<SecretStore.SecretName> = []
    for (const { name } of yield* Effect.mapError(selectNames, storageFailure("list"))) {
      if (!isSecretName(name)) {
        return yield* new SecretStore.SecretStoreError({
          reason: new SecretStore.Corrupt({
            location: `the table ${headTable(prefix)}`,
            problem: `it has a row that this store did not write, named ${JSON.stringify(name)}`,
            remedy: "Delete that row"
          })
        })
      }
      names.push(name)
    }
    return names
  })

  const history = Effect.fnUntraced(function*(name: SecretStore.SecretName) {
    const rows = yield* Effect.mapError(selectHistory(name, keep), storageFailure("history", name))
    return yield* Effect.forEach(
      rows,
      (row) => Effect.map(toValue(name, row.value), (value) => ({ version: Dialect.toNatural(row.version), value }))
    )
  })

  return yield* SecretStore.make({ read, write, compareAndSet, list, history })
})

/**
 * Provides the store on tables that exist already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Options
): Layer.Layer<SecretStore.SecretStore, never, SqlClient.SqlClient | SecureRandom.SecureRandom> =>
  Layer.effect(SecretStore.SecretStore, make(options))

/**
 * Provides the store on tables named with a prefix, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Options
): Layer.Layer<
  SecretStore.SecretStore,
  Migrations.MigrationsError,
  SqlClient.SqlClient | SecureRandom.SecureRandom
> => Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the store on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  SecretStore.SecretStore,
  Migrations.MigrationsError,
  SqlClient.SqlClient | SecureRandom.SecureRandom
> = layerWith()
