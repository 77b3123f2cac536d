/**
 * What differs between SQLite and PostgreSQL, resolved once while a layer is built: for the repositories here, and those
 * in other packages that keep their tables beside ours.
 */
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"

/**
 * Returns the database's clock as the text of an SQL expression: whole milliseconds since 1970.
 *
 * Within one statement SQLite answers the same time for every use. PostgreSQL's `clock_timestamp()` moves on, which is
 * wanted: `now()` is the time the transaction began, and that may be long ago for a statement that waited for a lock.
 *
 * @category sql
 * @since 0.1.0
 */
export const nowMillisText = (sql: SqlClient.SqlClient): string =>
  sql.onDialectOrElse({
    pg: () => "CAST(floor(extract(epoch from clock_timestamp()) * 1000) AS BIGINT)",
    orElse: () => "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"
  })

/**
 * Returns the name of the type of a column for milliseconds, counters and other 53-bit naturals.
 *
 * @category sql
 * @since 0.1.0
 */
export const bigint = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({ pg: () => "BIGINT", orElse: () => "INTEGER" }))

/**
 * Returns what a table's definition ends with when its primary key is how it is read: on SQLite the rows then live in the key's
 * tree, which saves a second look-up and half of the writes.
 *
 * @category sql
 * @since 0.1.0
 */
export const clustered = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({ pg: () => "", orElse: () => "WITHOUT ROWID" }))

/**
 * Reads a natural number from a row: SQLite answers numbers, PostgreSQL `bigint` for BIGINT and COUNT, and text for
 * NUMERIC. For hot paths, where a schema would cost more than the query.
 *
 * @category converting
 * @since 0.1.0
 */
export const toNatural = (value: unknown): number => typeof value === "number" ? value : Number(value)

/**
 * Reads a natural number, or null for NULL.
 *
 * @category converting
 * @since 0.1.0
 */
export const toNaturalOrNull = (value: unknown): number | null =>
  value === null || value === undefined ? null : toNatural(value)
