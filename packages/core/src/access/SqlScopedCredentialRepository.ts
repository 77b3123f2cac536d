/**
 * Keeps scoped credentials in SQLite or PostgreSQL.
 *
 * The table is `<prefix>scoped_credentials`, one row for each scope, owner and key, and every change appends to the access
 * feed in its transaction. On PostgreSQL a step locks rows first and the feed's head last. `layer` brings the tables up to
 * date before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at run time.
 */
import type { CredentialPlace } from "./ScopedCredential.ts"
import {
  type RemoveOutcome,
  ScopedCredentialRepository,
  ScopedCredentialRow,
  toScopedCredential
} from "./ScopedCredentialRepository.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import * as Struct from "effect/Struct"
import * as Dialect from "../sql/Dialect.ts"
import * as Journal from "./internal/sqlAccessJournal.ts"
import * as Access from "../sql/accessTables.ts"
import * as Migrations from "../sql/Migrations.ts"

const tableOf = (prefix: string) => `${prefix}scoped_credentials`

const migrate = (prefix: string): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Effect.andThen(
    Journal.migrate(prefix),
    Migrations.run({
      service: "scoped_credentials",
      prefix,
      migrations: {
        "1_create_scoped_credentials": Effect.gen(function*() {
          const sql = (yield* SqlClient.SqlClient).withoutTransforms()
          const millis = Dialect.bigint(sql)
          const text = Access.idType(sql)
          yield* sql`CREATE TABLE ${sql(tableOf(prefix))} (
            scope ${text} NOT NULL CHECK (scope IN ('user', 'org', 'workspace')),
            owner ${text} NOT NULL CHECK (owner <> ''),
            key ${text} NOT NULL CHECK (key <> ''),
            revision TEXT NOT NULL CHECK (revision <> ''),
            key_id TEXT NOT NULL CHECK (key_id <> ''),
            sealed TEXT NOT NULL CHECK (sealed <> ''),
            created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
            updated_at_millis ${millis} NOT NULL CHECK (updated_at_millis >= 0),
            updated_by TEXT NOT NULL CHECK (updated_by <> ''),
            rejected_until_millis ${millis} CHECK (rejected_until_millis >= 0),
            PRIMARY KEY (scope, owner, key)
          ) ${Dialect.clustered(sql)}`
        })
      }
    })
  )

/**
 * Creates the tables of credentials and of the access feed, or brings them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(migrate(options?.prefix ?? Migrations.defaultPrefix))

const Metadata = Schema.Struct(Struct.omit(ScopedCredentialRow.fields, ["sealed", "keyId"]))

/**
 * Provides the repository on tables that exist already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<ScopedCredentialRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    ScopedCredentialRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const prefix = options?.prefix ?? Migrations.defaultPrefix
      const table = tableOf(prefix)
      const credentials = sql(table)
      const append = yield* Journal.makeAppend(sql, prefix)
      const transaction = Access.makeTransaction(sql)
      const decode = Access.makeDecode(table, ScopedCredentialRow, [])
      const decodeMetadata = Access.makeDecode(table, Metadata, [])
      const p = Access.parameter
      const metadata = sql.literal(
        `scope, owner, key, revision, created_at_millis AS "createdAtMillis", updated_at_millis AS "updatedAtMillis", ` +
          `updated_by AS "updatedBy", rejected_until_millis AS "rejectedUntilMillis"`
      )
      const columns = sql`${metadata}, key_id AS "keyId", sealed`
      const here = sql`scope = ${p} AND owner = ${p} AND key = ${p}`

      const put = Access.prepare(
        sql,
        sql`INSERT INTO ${credentials} (scope, owner, key, revision, key_id, sealed, created_at_millis, updated_at_millis,
          updated_by)
        VALUES (${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p}, ${p})
        ON CONFLICT (scope, owner, key) DO UPDATE SET revision = excluded.revision, key_id = excluded.key_id,
          sealed = excluded.sealed, updated_at_millis = excluded.updated_at_millis, updated_by = excluded.updated_by,
          rejected_until_millis = NULL
        RETURNING ${metadata}`
      )
      const deleteOne = Access.prepare(sql, sql`DELETE FROM ${credentials} WHERE ${here} RETURNING ${metadata}`)
      const list = Access.prepare(
        sql,
        sql`SELECT ${metadata} FROM ${credentials} WHERE scope = ${p} AND owner = ${p} AND key > ${p}
        ORDER BY key LIMIT ${p}`
      )
      const mark = Access.prepare(
        sql,
        sql`UPDATE ${credentials} SET rejected_until_millis = ${p}
        WHERE ${here} AND revision = ${p}
          AND COALESCE(rejected_until_millis, -1) <> COALESCE(CAST(${p} AS ${Dialect.bigint(sql)}), -1)
        RETURNING ${metadata}`
      )
      const page = Access.prepare(
        sql,
        sql`SELECT ${columns} FROM ${credentials} WHERE (scope, owner, key) > (${p}, ${p}, ${p})
        ORDER BY scope, owner, key LIMIT ${p}`
      )
      const reseal = Access.prepare(
        sql,
        sql`UPDATE ${credentials} SET key_id = ${p}, sealed = ${p} WHERE ${here} AND revision = ${p} AND sealed = ${p}
        RETURNING key`
      )

      /** Selects the rows of a key that owners have: one statement, and so one point in time. */
      const select = (
        shown: Statement.Fragment,
        { key, owners }: {
          readonly key: string
          readonly owners: ReadonlyArray<Pick<CredentialPlace, "scope" | "owner">>
        }
      ) =>
        sql<
          { readonly scope: string; readonly owner: string }
        >`SELECT ${shown} FROM ${credentials} WHERE key = ${key} AND ${
          sql.or(owners.map(({ owner, scope }) => sql`(scope = ${scope} AND owner = ${owner})`))
        }`

      return ScopedCredentialRepository.of({
        put: Effect.fn("SqlScopedCredentialRepository.put")(function*(row, supersedes, change) {
          // Supersedes is always the writer's own: nobody else's transaction takes these two rows in the other order.
          const superseded = supersedes === undefined
            ? []
            : yield* deleteOne(supersedes.scope, supersedes.owner, supersedes.key)
          const [stored] = yield* put(
            row.scope,
            row.owner,
            row.key,
            row.revision,
            row.keyId,
            row.sealed,
            row.updatedAtMillis,
            row.updatedAtMillis,
            row.updatedBy
          )
          const credential = toScopedCredential(yield* decodeMetadata(stored ?? {}))
          yield* append([
            ...(supersedes === undefined || superseded.length === 0
              ? []
              : [{ _tag: "credentialRemoved" as const, ...supersedes }]),
            { _tag: "credentialUpserted", credential }
          ], change)
          return credential
        }, transaction("put")),
        find: Effect.fn("SqlScopedCredentialRepository.find")(function*({ key, owners }) {
          if (owners.length === 0) return []
          const rows = yield* Effect.forEach(yield* select(columns, { key, owners }), decode)
          return owners.flatMap((owner) => rows.filter((row) => row.scope === owner.scope && row.owner === owner.owner))
        }, Access.failAs("find")),
        list: Effect.fn("SqlScopedCredentialRepository.list")(function*({ afterKey, limit, owner }) {
          const rows = yield* list(owner.scope, owner.owner, afterKey ?? "", limit)
          return (yield* Effect.forEach(rows, decodeMetadata)).map(toScopedCredential)
        }, Access.failAs("list")),
        remove: Effect.fn("SqlScopedCredentialRepository.remove")(function*({ candidates, key }, change) {
          const absent: RemoveOutcome = { _tag: "Absent" }
          if (candidates.length === 0) return absent
          const rows = yield* select(sql`scope, owner`, { key, owners: candidates })
          const first = candidates.find((candidate) =>
            rows.some((row) => row.scope === candidate.scope && row.owner === candidate.owner)
          )
          if (first === undefined) return absent
          const { owner, removable, scope } = first
          if (!removable) return { _tag: "Refused" as const, scope }
          const [removed] = yield* deleteOne(scope, owner, key)
          // Somebody else has removed it since, and was told so; nothing else goes in its place.
          if (removed === undefined) return absent
          yield* append([{ _tag: "credentialRemoved", scope, owner, key }], change)
          return { _tag: "Removed" as const, credential: toScopedCredential(yield* decodeMetadata(removed)) }
        }, transaction("remove")),
        mark: Effect.fn("SqlScopedCredentialRepository.mark")(
          function*({ place, rejectedUntilMillis, revision }, change) {
            const [marked] = yield* mark(
              rejectedUntilMillis,
              place.scope,
              place.owner,
              place.key,
              revision,
              rejectedUntilMillis
            )
            if (marked === undefined) return false
            const credential = toScopedCredential(yield* decodeMetadata(marked))
            yield* append([{ _tag: "credentialUpserted", credential }], change)
            return true
          },
          transaction("mark")
        ),
        recordRead: Effect.fn("SqlScopedCredentialRepository.recordRead")(
          (read, change) => append([{ _tag: "credentialRead", ...read }], change),
          transaction("recordRead")
        ),
        page: Effect.fn("SqlScopedCredentialRepository.page")(function*({ after, limit }) {
          return yield* Effect.forEach(
            yield* page(after?.scope ?? "", after?.owner ?? "", after?.key ?? "", limit),
            decode
          )
        }, Access.failAs("page")),
        reseal: Effect.fn("SqlScopedCredentialRepository.reseal")(
          function*({ fromSealed, keyId, place, revision, sealed }) {
            const rows = yield* reseal(keyId, sealed, place.scope, place.owner, place.key, revision, fromSealed)
            return rows.length > 0
          },
          Access.failAs("reseal")
        )
      })
    })
  )

/**
 * Provides the repository on tables named with a prefix, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<ScopedCredentialRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<ScopedCredentialRepository, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()
