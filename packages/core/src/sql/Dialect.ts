/**
 * What differs between SQLite and PostgreSQL, resolved once while a layer is built.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"

/**
 * Reports that a client speaks a dialect for which Sallyport has no statements; nothing was sent to the database.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedDialect extends Schema.TaggedError<UnsupportedDialect>()("UnsupportedDialect", {
  dialect: Schema.String
}) {
  override get message(): string {
    return `The SQL client speaks "${this.dialect}", and Sallyport keeps its tables in SQLite and PostgreSQL alone; ` +
      `provide a client of one of these`
  }
}

/**
 * Names the databases that Sallyport keeps its tables in.
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = "sqlite" | "pg"

/**
 * Returns the dialect of a client. Another one than SQLite and PostgreSQL is refused by its name, because it would be sent
 * statements of SQLite.
 *
 * @category constructors
 * @since 0.1.0
 */
export const of = (sql: SqlClient.SqlClient): Effect.Effect<Dialect, UnsupportedDialect> => {
  const refuse = (dialect: string) => () => Effect.fail(new UnsupportedDialect({ dialect }))
  return sql.onDialectOrElse({
    sqlite: () => Effect.succeed<Dialect>("sqlite"),
    pg: () => Effect.succeed<Dialect>("pg"),
    mysql: refuse("mysql"),
    mssql: refuse("mssql"),
    clickhouse: refuse("clickhouse"),
    orElse: refuse("unknown")
  })
}

/**
 * Returns the database's clock as the text of an SQL expression: whole milliseconds since 1970.
 *
 * **Details**
 *
 * Within one statement SQLite answers the same time for every use. PostgreSQL's `clock_timestamp()` moves on, which is
 * wanted: `now()` is the time at which the transaction began, and that may be long ago for a statement that waited for a
 * lock.
 *
 * @category combinators
 * @since 0.1.0
 */
export const nowMillisText = (sql: SqlClient.SqlClient): string =>
  sql.onDialectOrElse({
    pg: () => "CAST(floor(extract(epoch from clock_timestamp()) * 1000) AS BIGINT)",
    orElse: () => "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"
  })

/**
 * Reads a natural number from a row: SQLite answers numbers, PostgreSQL `bigint` for BIGINT and COUNT, and text for
 * NUMERIC. For hot paths, in which a schema would cost more than the query.
 *
 * @category combinators
 * @since 0.1.0
 */
export const toNatural = (value: unknown): number => typeof value === "number" ? value : Number(value)

/**
 * Reads a natural number, or null for NULL.
 *
 * @category combinators
 * @since 0.1.0
 */
export const toNaturalOrNull = (value: unknown): number | null =>
  value === null || value === undefined ? null : toNatural(value)
