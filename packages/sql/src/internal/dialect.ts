/**
 * What differs between SQLite and PostgreSQL, resolved once while a layer is built.
 */
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"

/**
 * The database's clock as an SQL expression: whole milliseconds since 1970.
 *
 * Within one statement SQLite answers the same time for every use. PostgreSQL's `clock_timestamp()` moves on, which is
 * wanted: `now()` is the time the transaction began, and that may be long ago for a statement that waited for a lock.
 */
export const nowMillis = (sql: SqlClient.SqlClient): Statement.Fragment => sql.literal(nowMillisText(sql))

/**
 * The same expression as text, for statements that are put together once and prepared.
 */
export const nowMillisText = (sql: SqlClient.SqlClient): string =>
  sql.onDialectOrElse({
    pg: () => "CAST(floor(extract(epoch from clock_timestamp()) * 1000) AS BIGINT)",
    orElse: () => "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)"
  })

/**
 * The name of the type of a column for milliseconds, counters and other 53-bit naturals.
 */
export const bigint = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({ pg: () => "BIGINT", orElse: () => "INTEGER" }))

/**
 * What a table's definition ends with when its primary key is how it is read: on SQLite the rows then live in the key's
 * tree, which saves a second look-up and half of the writes.
 */
export const clustered = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({ pg: () => "", orElse: () => "WITHOUT ROWID" }))

/**
 * Reads a natural number from a row: SQLite answers numbers, PostgreSQL `bigint` for BIGINT and COUNT, and text for
 * NUMERIC. For hot paths, where a schema would cost more than the query.
 */
export const toNatural = (value: unknown): number => typeof value === "number" ? value : Number(value)

/**
 * Reads a natural number, or null for NULL.
 */
export const toNaturalOrNull = (value: unknown): number | null =>
  value === null || value === undefined ? null : toNatural(value)

/**
 * Decodes a natural number as any driver hands it over (`number`, `bigint` or decimal text).
 */
export const Natural = Schema.Union([
  Schema.Natural,
  Schema.BigInt.pipe(Schema.decodeTo(Schema.Natural, {
    decode: SchemaGetter.transform(Number),
    encode: SchemaGetter.transform(BigInt)
  })),
  Schema.FiniteFromString.check(Schema.isInt(), Schema.isGreaterThanOrEqualTo(0))
])

/**
 * Decodes JSON from a TEXT column.
 *
 * JSON is TEXT on both dialects. `JSONB` would refuse `\u0000`, reorder keys and normalise numbers, and nothing here
 * searches inside a document.
 */
export const Json = Schema.fromJsonString(Schema.Json)
