/**
 * What the repositories of access state have in common on SQL: how a statement is put together, how a change is one
 * transaction, and what a row that cannot be read becomes.
 */
import { RepositoryError } from "../RepositoryError.ts"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"

/**
 * What a parameter of these statements can be; anything else is stored as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export type Parameter = string | number | null

/**
 * Stands for a parameter in a statement given to {@link prepare}.
 *
 * @category sql
 * @since 0.1.0
 */
export const parameter = null

/**
 * Compiles a statement once, while a layer is built, and returns how to run it. The parameters follow in the order in
 * which they stand in the text.
 *
 * @category sql
 * @since 0.1.0
 */
export const prepare = <A extends object>(
  sql: SqlClient.SqlClient,
  statement: Statement.Statement<object>
): (...parameters: ReadonlyArray<Parameter>) => Statement.Statement<A> => {
  const [text] = statement.compile(true)
  return (...parameters) => sql.unsafe<A>(text, parameters)
}

/**
 * Turns every failure of an operation into the one error of the access repositories.
 *
 * @category sql
 * @since 0.1.0
 */
export const failAs = (operation: string) =>
<A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, RepositoryError, R> =>
  Effect.mapError(
    self,
    (cause) => cause instanceof RepositoryError ? cause : new RepositoryError({ operation, cause })
  )

/**
 * Runs an operation in one transaction.
 *
 * PostgreSQL runs it as READ COMMITTED whatever the database's default is: a writer that waited for a row then looks at
 * the row again and is refused by its own condition, where a stricter level would fail it with a serialization error.
 *
 * @category sql
 * @since 0.1.0
 */
export const makeTransaction = (sql: SqlClient.SqlClient) => {
  const begin: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = sql.onDialectOrElse({
    pg: () => Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED"),
    orElse: () => identity
  })
  return (operation: string) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, RepositoryError, R> =>
    failAs(operation)(begin(sql.withTransaction(self)))
}

const toStandard = SchemaIssue.makeFormatterStandardSchemaV1()

// Text that is no JSON becomes a value that no schema takes, so that it is reported as any other unreadable column.
const parseJson = (text: unknown): unknown => {
  if (typeof text !== "string") return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * Returns a decoder of a table's rows: `json` names the columns that hold JSON, and integers may come as `bigint`. Both are
 * seen to before the schema, because a JSON codec inside it costs more than the query of a row.
 *
 * Its error names the table and the columns, and nothing of what they hold: rows hold digests, and errors are logged.
 *
 * @category sql
 * @since 0.1.0
 */
export const makeDecode = <A, E>(table: string, schema: Schema.Codec<A, E>, json: ReadonlyArray<string>) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (row: object): Effect.Effect<A, Error> => {
    const plain: Record<string, unknown> = {}
    for (const [column, value] of Object.entries(row)) {
      plain[column] = json.includes(column) ? parseJson(value) : typeof value === "bigint" ? Number(value) : value
    }
    return Effect.mapError(decode(plain), ({ issue }) => {
      const columns = new Set(toStandard(issue).issues.map(({ path }) => String(path?.[0] ?? "(the row)")))
      return new Error(
        `A row of ${table} is not of the form that this version of Sallyport writes: ${Array.from(columns).join(", ")}`
      )
    })
  }
}

/**
 * Selects rows to be deleted so that no other writer is waited for: on PostgreSQL it passes over rows that are locked.
 *
 * @category sql
 * @since 0.1.0
 */
export const skipLocked = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({ pg: () => "FOR UPDATE SKIP LOCKED", orElse: () => "" }))

/**
 * The type of an id's column. Ids are listed in the order of their bytes, whatever the database's locale.
 *
 * @category sql
 * @since 0.1.0
 */
export const idType = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({ pg: () => `TEXT COLLATE "C"`, orElse: () => "TEXT" }))

/**
 * When a row with `revoked_at_millis` and `expires_at_millis` came or comes to its end. An index is made on this very
 * expression.
 *
 * @category sql
 * @since 0.1.0
 */
export const endedAt = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.literal(sql.onDialectOrElse({
    pg: () => "LEAST(revoked_at_millis, expires_at_millis)",
    orElse: () => "MIN(COALESCE(revoked_at_millis, expires_at_millis), expires_at_millis)"
  }))

/**
 * Runs statements one after the other.
 *
 * @category sql
 * @since 0.1.0
 */
export const runAll = (
  statements: ReadonlyArray<Effect.Effect<unknown, SqlError>>
): Effect.Effect<void, SqlError> => Effect.forEach(statements, identity, { discard: true })
