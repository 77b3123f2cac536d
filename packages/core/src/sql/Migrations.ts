/**
 * Runs the migrations of one Sallyport service and refuses a database that a newer Sallyport has written.
 *
 * Each service has its own history table, because a migrator skips every id at or below the highest one recorded: two
 * services in one table would skip each other's steps.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlError from "effect/sql/SqlError"
import * as Input from "../Input.ts"
import * as Dialect from "./Dialect.ts"
import { CurrentProgress, makePgTransaction, type Progress } from "./internal/pgTransaction.ts"
import { within } from "./internal/within.ts"
import { Deadline } from "./Transactions.ts"

/**
 * Reports that the database has been migrated by a newer version of Sallyport than this one.
 *
 * @category errors
 * @since 0.1.0
 */
export class SchemaTooNew extends Schema.TaggedError<SchemaTooNew>()("SchemaTooNew", {
  found: Schema.Natural,
  known: Schema.Natural
}) {
  override get message(): string {
    return `holds schema version ${this.found}, but this version of Sallyport knows versions up to ${this.known}; ` +
      `upgrade Sallyport, or restore a backup made before the database was upgraded`
  }
}

/** Returns what the outermost error says, and the innermost, which the database has said. */
const causesOf = (error: unknown): ReadonlyArray<string> => {
  const text = (one: unknown) => one instanceof Error ? one.message : String(one)
  let innermost = error
  while (innermost instanceof Error && innermost.cause !== undefined) innermost = innermost.cause
  return Array.from(new Set([text(error), text(innermost)]))
}

/** Tells whether a database, or its server, let no connection in. */
const refusesConnections = (error: unknown): boolean =>
  SqlError.isSqlError(error) && (error.reason._tag === "ConnectionError" || error.reason._tag === "AuthenticationError")

/**
 * Reports that a migration, or the statement that records it, failed; nothing of it was kept.
 *
 * @category errors
 * @since 0.1.0
 */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    const causes = causesOf(this.cause).join(": ")
    return refusesConnections(this.cause)
      ? `could not be connected to: ${causes}; start it, or correct its address, user and password, and start again`
      : `could not be migrated and was left as it was: ${causes}; mend that, or choose another database or prefix, and ` +
        "start again"
  }
}

/**
 * Reports that the database gave no answer to a migration in time, or to its commit, so that it may have been kept or not.
 * Migrating again is safe: a step that was kept is not run twice.
 *
 * @category errors
 * @since 0.1.0
 */
export class MigrationUnanswered extends Schema.TaggedError<MigrationUnanswered>()("MigrationUnanswered", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `gave no answer to its migration: ${
      this.cause instanceof Error ? this.cause.message : String(this.cause)
    }; look whether the database works, and start again: what was migrated is not migrated twice`
  }
}

/**
 * Reports why a service's tables could not be brought to the version that this Sallyport needs.
 *
 * @category errors
 * @since 0.1.0
 */
export class MigrationsError extends Schema.TaggedError<MigrationsError>()("MigrationsError", {
  /** The history table, which names the service and the prefix. */
  table: Schema.String,
  reason: Schema.Union([SchemaTooNew, MigrationFailed, MigrationUnanswered, Dialect.UnsupportedDialect])
}) {
  override get message(): string {
    if (this.reason._tag === "UnsupportedDialect") return this.reason.message
    return `The database with the history table "${this.table}" ${this.reason.message}`
  }
}

/**
 * Names the tables of a service.
 *
 * @category options
 * @since 0.1.0
 */
export interface TableOptions {
  /** What every table's name begins with; {@link defaultPrefix} without it. Another prefix is another, empty store. */
  readonly prefix?: string | undefined
}

/**
 * Holds the prefix of every table when a host names no other.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultPrefix = "sallyport_"

/**
 * Takes prefixes. A misspelt one must not be the default: another prefix is another store.
 *
 * @category constants
 * @since 0.1.0
 */
export const prefixRule: Input.Rule = Input.rule(Schema.String, "a text")

/** Gives a client transactions whose ends are bounded, and whose statements may take as long as a migration does. */
const bounded = (sql: SqlClient.SqlClient): SqlClient.SqlClient => {
  // Two processes that start at once wait for each other; a stricter level would fail one of them.
  const transaction = makePgTransaction(sql, "BEGIN ISOLATION LEVEL READ COMMITTED")
  const withTransaction: typeof sql.withTransaction = (self) =>
    transaction(Effect.andThen(sql`SET LOCAL statement_timeout = 0`, self))
  return new Proxy(sql, {
    get: (target, property) => property === "withTransaction" ? withTransaction : Reflect.get(target, property)
  })
}

/**
 * Runs the pending steps of one service in one transaction, in the order of their ids.
 *
 * The history table is `<prefix><service>_migrations`. Keys of `migrations` are `<id>_<name>`. The check for a newer
 * schema is made inside the same transaction, under the same lock, so that two versions started at once cannot both pass.
 * If all steps are recorded, nothing is locked and nothing changes.
 *
 * All of it may take thirty times the `Deadline` of an operation, 5 minutes by default: processes that start together
 * wait for the one that migrates.
 *
 * @category migrations
 * @since 0.1.0
 */
export const run = Effect.fn("Migrations.run")(function*(
  options: TableOptions & {
    readonly service: string
    readonly migrations: Record<string, Effect.Effect<void, unknown, SqlClient.SqlClient>>
  }
): Effect.fn.Return<ReadonlyArray<readonly [id: number, name: string]>, MigrationsError, SqlClient.SqlClient> {
  Input.demand("Migrations.run", { prefix: prefixRule, service: Input.text, migrations: Input.any }, options)
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const table = `${options.prefix ?? defaultPrefix}${options.service}_migrations`
  const dialect = yield* Effect.mapError(Dialect.of(sql), (reason) => new MigrationsError({ table, reason }))
  const recorded = Effect.map(
    sql<{ found: unknown }>`SELECT COALESCE(MAX(migration_id), 0) AS found FROM ${sql(table)}`,
    (rows) => rows.reduce((highest, row) => Math.max(highest, Dialect.toNatural(row.found)), 0)
  )
  const steps = Migrator.fromRecord(options.migrations)
  const known = Effect.map(steps, (steps) => steps.reduce((highest, [id]) => Math.max(highest, id), 0))
  const exists = dialect === "pg"
    ? Effect.map(
      sql`SELECT 1 AS found WHERE to_regclass(${sql`${sql(table)}`.compile(true)[0]}) IS NOT NULL`,
      (rows) => rows.length > 0
    )
    : Effect.succeed(true)
  // Most starts find all steps recorded. They take no lock, which a backup that runs would keep them waiting for.
  const isUpToDate = Effect.gen(function*() {
    return (yield* exists) && (yield* recorded) === (yield* known)
  }).pipe(
    // What fails here, such as a table that SQLite does not have yet, is met again below.
    Effect.orElseSucceed(() => false)
  )
  const loader = Effect.gen(function*() {
    const found = yield* Effect.mapError(
      recorded,
      (cause) => new Migrator.MigrationError({ kind: "BadState", message: cause.message, cause })
    )
    const reason = new SchemaTooNew({ found, known: yield* known })
    if (found > reason.known) {
      return yield* new Migrator.MigrationError({ kind: "BadState", message: reason.message, cause: reason })
    }
    return yield* steps
  })
  const deadline = Duration.times(yield* Deadline, 30)
  const progress: Progress = { committing: false }
  const unanswered = (cause: unknown) => new MigrationsError({ table, reason: new MigrationUnanswered({ cause }) })
  const migrate = Migrator.make({})({ loader, table }).pipe(
    Effect.provideService(SqlClient.SqlClient, dialect === "pg" ? bounded(sql) : sql),
    Effect.provideService(CurrentProgress, progress),
    Effect.mapError((error) => {
      if (error._tag === "MigrationError" && error.cause instanceof SchemaTooNew) {
        return new MigrationsError({ table, reason: error.cause })
      }
      return progress.committing
        ? unanswered(error)
        : new MigrationsError({ table, reason: new MigrationFailed({ cause: error }) })
    })
  )
  const late = new Error(`nothing came within ${Duration.format(deadline)}`)
  const migrateIfNeeded = Effect.flatMap(isUpToDate, (isUpToDate) => isUpToDate ? Effect.succeed([]) : migrate)
  return yield* within(migrateIfNeeded, deadline, Effect.suspend(() => Effect.fail(unanswered(late))))
})
