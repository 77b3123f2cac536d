/**
 * Statements that are put together once, while a layer is built, and run as text, which the drivers keep prepared; a template
 * would be compiled each time.
 */
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/**
 * Lists the values that a statement takes, in the order in which its text has them. Arrays are for PostgreSQL alone.
 *
 * @category models
 * @since 0.1.0
 */
export type Parameters = ReadonlyArray<
  string | number | null | Uint8Array | ReadonlyArray<string> | ReadonlyArray<bigint>
>

/**
 * Makes what puts statements together on tables of a prefix.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (sql: SqlClient.SqlClient, prefix: string) => {
  const isPg = sql.onDialectOrElse({ pg: () => true, orElse: () => false })

  /** Returns how to run a statement whose parameters are written `?`. */
  const statement = <Row extends object>(
    text: string
  ): (parameters: Parameters) => Effect.Effect<ReadonlyArray<Row>, SqlError> => {
    let count = 0
    const compiled = isPg ? text.replaceAll("?", () => `$${++count}`) : text
    return (parameters) => sql.unsafe<Row>(compiled, parameters)
  }

  return {
    isPg,

    /**
     * Stands after `INSERT` and `UPDATE` where one statement is for many rows. So that it could undo some of them, SQLite would
     * first copy each page that it changes, to a file where there are many; a failure undoes the whole transaction anyhow.
     */
    orFail: isPg ? "" : "OR FAIL ",

    /**
     * Returns how to run one statement for many rows, which on SQLite saves what a statement costs by itself. `row` is the
     * parameters of one row, such as `(?, ?)`; `text` is given as many of them as there are rows, separated by commas. A few
     * sizes serve any number.
     */
    forMany: <Row extends object>(row: string, text: (rows: string) => string) => {
      const sizes = [64, 16, 4, 1].map((size) => ({
        size,
        run: statement<Row>(text(Array.from({ length: size }, () => row).join(", ")))
      }))
      return Effect.fnUntraced(
        function*(rows: ReadonlyArray<Parameters>): Effect.fn.Return<ReadonlyArray<Row>, SqlError> {
          const found: Array<Row> = []
          let at = 0
          for (const { run, size } of sizes) {
            for (; rows.length - at >= size; at += size) found.push(...(yield* run(rows.slice(at, at + size).flat())))
          }
          return found
        }
      )
    },

    /** Returns the name of a table as it stands in a statement. */
    table: (suffix: string): string => sql`${sql(`${prefix}${suffix}`)}`.compile(true)[0],

    statement,

    /** Does what `statement` does, and reads each row. */
    all: <Row extends object, A>(read: (row: Row) => A) => (text: string) => {
      const run = statement<Row>(text)
      return (parameters: Parameters): Effect.Effect<ReadonlyArray<A>, SqlError> =>
        Effect.map(run(parameters), (rows) => rows.map(read))
    },

    /** Does what `statement` does, and reads the first row, if there is one. */
    first: <Row extends object, A>(read: (row: Row) => A) => (text: string) => {
      const run = statement<Row>(text)
      return (parameters: Parameters): Effect.Effect<A | undefined, SqlError> =>
        Effect.map(run(parameters), ([row]) => row === undefined ? undefined : read(row))
    }
  }
}
