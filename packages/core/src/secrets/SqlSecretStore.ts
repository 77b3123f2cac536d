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
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Dialect from "../sql/Dialect.ts"
import { settings, tableSettings } from "./internal/secretOptions.ts"
import * as SqlKit from "../sql/SqlKit.ts"
import * as Statements from "../sql/Statements.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import * as Migrations from "../sql/Migrations.ts"

/**
 * Configures where secrets are kept and how many versions of each.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends SecretStore.Options, Migrations.TableOptions {}

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, bytes, id, table } = Statements.make(sql, options)
  // No constraint looks at the bytes: PostgreSQL quotes the whole row in the error of one that fails.
  return [
    `CREATE TABLE ${table("secrets")} (
      name ${id} NOT NULL PRIMARY KEY CHECK (name <> ''),
      version ${bigint} NOT NULL CHECK (version > 0),
      removed ${bigint} NOT NULL CHECK (removed IN (0, 1))
    )`,
    `CREATE TABLE ${table("secret_versions")} (
      name ${id} NOT NULL,
      version ${bigint} NOT NULL,
      value ${bytes} NOT NULL,
      PRIMARY KEY (name, version)
    )`
  ]
}

/**
 * Creates the tables of secrets, or brings them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    ...options,
    service: "secrets",
    migrations: { "1_create_secrets": Statements.creating(create, options) }
  }))

/**
 * Wraps what the store refused. Sentences are kept and the driver's own error is not: PostgreSQL's can quote parameters,
 * which here are secrets.
 */
const storageFailure = (operation: string, secretName?: SecretStore.SecretName) =>
(
  error: RepositoryError
): SecretStore.SecretStoreError => {
  const cause = new Error(error.message)
  const inner = isSqlError(error.cause) ? error.cause : undefined
  if (inner !== undefined) {
    cause.message = inner.message
    cause.name = inner.reason._tag
    const system = inner.reason.cause
    if (system instanceof Error && system.message !== inner.message) cause.cause = new Error(system.message)
  }
  return new SecretStore.SecretStoreError({
    reason: new SecretStore.StorageFailure({ operation, cause, ...(secretName === undefined ? {} : { secretName }) })
  })
}

/**
 * Names what the store is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements = SqlClient.SqlClient | SecureRandom.SecureRandom

const isSecretName = Schema.is(SecretStore.SecretName)

const build = Effect.fnUntraced(function*(
  keep: number,
  options?: Migrations.TableOptions
): Effect.fn.Return<SecretStore.SecretStore["Service"], Migrations.MigrationsError, Requirements> {
  const kit = yield* SqlKit.make("secrets", options)
  const { prefix, statement } = kit
  const heads = kit.table("secrets")
  const versions = kit.table("secret_versions")

  // Without spans: a statement's span ends with the driver's error, which on PostgreSQL can quote the row.
  const untraced = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.withTracerEnabled(self, false)

  const selectState = statement<{ readonly version: unknown; readonly removed: unknown; readonly value: unknown }>(
    `SELECT head.version AS version, head.removed AS removed, kept.value AS value
    FROM ${heads} AS head LEFT JOIN ${versions} AS kept ON kept.name = head.name AND kept.version = head.version
    WHERE head.name = ?`
  )
  // The joined head makes the answer one snapshot: a name that was removed has no versions, whatever rows are left.
  const selectHistory = statement<{ readonly version: unknown; readonly value: unknown }>(
    `SELECT kept.version AS version, kept.value AS value
    FROM ${heads} AS head INNER JOIN ${versions} AS kept ON kept.name = head.name
    WHERE head.name = ? AND head.removed = 0 AND kept.version <= head.version
    ORDER BY kept.version DESC LIMIT ?`
  )
  const selectNames = statement<{ readonly name: string }>(`SELECT name FROM ${heads} WHERE removed = 0`)
  const advance = statement<{ readonly version: unknown }>(
    `INSERT INTO ${heads} AS head (name, version, removed) VALUES (?, 1, 0)
    ON CONFLICT (name) DO UPDATE SET version = head.version + 1, removed = 0 RETURNING version`
  )
  // The two halves of compare-and-set: each is one conditional statement, and takes the row for the rest of the step.
  const advanceFromNothing = statement<{ readonly version: unknown }>(
    `INSERT INTO ${heads} (name, version, removed) VALUES (?, 1, 0) ON CONFLICT DO NOTHING RETURNING version`
  )
  const advanceFrom = statement<{ readonly version: unknown }>(
    `UPDATE ${heads} SET version = version + 1, removed = 0 WHERE name = ? AND version = ? RETURNING version`
  )
  const markRemoved = statement(
    `UPDATE ${heads} SET version = version + 1, removed = 1 WHERE name = ? AND removed = 0`
  )
  const insertVersion = statement(`INSERT INTO ${versions} (name, version, value) VALUES (?, ?, ?)`)
  const deleteVersions = statement(`DELETE FROM ${versions} WHERE name = ? AND version <= ?`)
  const deleteAllVersions = statement(`DELETE FROM ${versions} WHERE name = ?`)

  const corrupt = (name: SecretStore.SecretName, problem: string): SecretStore.SecretStoreError =>
    new SecretStore.SecretStoreError({
      reason: new SecretStore.Corrupt({
        location: `the table ${prefix}secret_versions, name "${name}"`,
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
    yield* insertVersion([name, version, Redacted.value(next)])
    yield* deleteVersions([name, version - keep])
    return true
  })

  const read = Effect.fnUntraced(function*(name: SecretStore.SecretName) {
    const [row] = yield* untraced(kit.read("get")(selectState([name]))).pipe(
      Effect.mapError(storageFailure("get", name))
    )
    if (row === undefined) return { version: 0, value: Option.none() }
    const version = Dialect.toNatural(row.version)
    if (Dialect.toNatural(row.removed) === 1) return { version, value: Option.none() }
    return { version, value: Option.some(yield* toValue(name, row.value)) }
  })

  const write = (name: SecretStore.SecretName, next: Option.Option<Redacted.Redacted<Uint8Array>>) => {
    const method = Option.isSome(next) ? "set" : "remove"
    return Option.match(next, {
      onSome: (value): Effect.Effect<unknown, SqlError> =>
        Effect.flatMap(advance([name]), (taken) => store(name, taken, value)),
      onNone: () => Effect.andThen(markRemoved([name]), deleteAllVersions([name]))
    }).pipe(kit.transaction(method), untraced, Effect.asVoid, Effect.mapError(storageFailure(method, name)))
  }

  const compareAndSet = (name: SecretStore.SecretName, expected: number, next: Redacted.Redacted<Uint8Array>) =>
    Effect.flatMap(
      expected === 0 ? advanceFromNothing([name]) : advanceFrom([name, expected]),
      (taken) => store(name, taken, next)
    ).pipe(kit.transaction("modify"), untraced, Effect.mapError(storageFailure("modify", name)))

  const list = Effect.gen(function*() {
    const names: Array<SecretStore.SecretName> = []
    for (
      const { name } of yield* Effect.mapError(untraced(kit.read("list")(selectNames([]))), storageFailure("list"))
    ) {
      if (!isSecretName(name)) {
        return yield* new SecretStore.SecretStoreError({
          reason: new SecretStore.Corrupt({
            location: `the table ${prefix}secrets`,
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
    const rows = yield* untraced(kit.read("history")(selectHistory([name, keep]))).pipe(
      Effect.mapError(storageFailure("history", name))
    )
    return yield* Effect.forEach(
      rows,
      (row) => Effect.map(toValue(name, row.value), (value) => ({ version: Dialect.toNatural(row.version), value }))
    )
  })

  return yield* SecretStore.make({ read, write, compareAndSet, list, history })
})

/**
 * Creates a `SecretStore` on tables that exist already; it runs no DDL. Fails if the options cannot work.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options
): Effect.Effect<
  SecretStore.SecretStore["Service"],
  SecretStore.InvalidSecretStoreOptions | Migrations.MigrationsError,
  Requirements
> => Effect.flatMap(tableSettings(options), (keep) => build(keep, { prefix: options?.prefix }))

/**
 * Provides the store on tables that exist already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Options
): Layer.Layer<
  SecretStore.SecretStore,
  SecretStore.InvalidSecretStoreOptions | Migrations.MigrationsError,
  Requirements
> => Layer.effect(SecretStore.SecretStore, make(options))

/**
 * Provides the store on tables named with a prefix, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<
  SecretStore.SecretStore,
  SecretStore.InvalidSecretStoreOptions | Migrations.MigrationsError,
  Requirements
> => Layer.provide(layerStorage(options), layerMigrations({ prefix: options?.prefix }))

/**
 * Provides the store on tables named `sallyport_…`, which are brought up to date first.
 *
 * **Example** (Keeping secrets in the database)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { SecretStore, SqlSecretStore } from "@sallyport/core"
 * import { SqliteClient } from "@sallyport/sqlite-node"
 * import { Console, Effect, Layer, Redacted } from "effect"
 *
 * const Secrets = SqlSecretStore.layer.pipe(
 *   Layer.provide([SqliteClient.layer({ filename: ":memory:" }), NodeCrypto.layer])
 * )
 *
 * const program = Effect.gen(function*() {
 *   const secrets = yield* SecretStore.SecretStore
 *   yield* secrets.set("token", Redacted.make(new Uint8Array([1, 2, 3])))
 *   yield* secrets.set("token", Redacted.make(new Uint8Array([4, 5, 6])))
 *   const versions = yield* secrets.history("token")
 *   yield* Console.log(versions.map(({ version }) => version))
 *   // => [ 2, 1 ]
 * })
 *
 * Effect.runPromise(Effect.provide(program, Secrets))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SecretStore.SecretStore, Migrations.MigrationsError, Requirements> = Layer.effect(
  SecretStore.SecretStore,
  Effect.flatMap(settings.defaults, (keep) => build(keep))
).pipe(Layer.provide(layerMigrations()))
