/**
 * Statements on the tables of one store. They are put together once, while a layer is built, and run as text, which the
 * drivers keep prepared; a template would be compiled each time.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import { TracerEnabled } from "effect/References"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Tracer from "effect/Tracer"
import * as Input from "../Input.ts"
import * as Dialect from "./Dialect.ts"
import * as Migrations from "./Migrations.ts"
import * as Rows from "./Rows.ts"

/**
 * Lists the values that a statement takes, in the order in which its text has them.
 *
 * @category models
 * @since 0.1.0
 */
export type Parameters = ReadonlyArray<Rows.Parameter>

/** Tells whether anyone hears of the statements of a fiber. The tracer of Effect keeps its spans nowhere. */
const isObserved = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  (fiber.getRef(TracerEnabled) && fiber.getRef(Tracer.Tracer) !== Tracer.nativeTracer) ||
  fiber.getRef(Statement.CurrentTransformer) !== undefined

/**
 * Makes what puts statements together on tables of a prefix.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined) => {
  const isPg = sql.onDialectOrElse({ pg: () => true, orElse: () => false })
  Input.demand("The tables of a store", { prefix: Migrations.prefixRule }, options ?? {})
  const prefix = options?.prefix ?? Migrations.defaultPrefix

  /** Returns how to run a statement whose parameters are written `?`. */
  const statement = <Row extends object>(
    text: string
  ): (parameters: Parameters) => Effect.Effect<ReadonlyArray<Row>, SqlError> => {
    let count = 0
    const compiled = isPg ? text.replaceAll("?", () => `$${++count}`) : text
    if (isPg) return (parameters) => sql.unsafe<Row>(compiled, parameters)
    return (parameters) =>
      Effect.withFiber((fiber) => {
        // What the client does around a statement costs as much as the statement, and is for those who observe it.
        if (isObserved(fiber)) return sql.unsafe<Row>(compiled, parameters)
        const transaction = Context.getOption(fiber.context, sql.transactionService)
        return transaction._tag === "None"
          ? Effect.scoped(
            Effect.flatMap(sql.reserve, (connection) => connection.execute(compiled, parameters, undefined))
          )
          : transaction.value[0].execute(compiled, parameters, undefined)
      })
  }

  /** Returns the name of a table as it stands in a statement. */
  const table = (suffix: string): string => sql`${sql(`${prefix}${suffix}`)}`.compile(true)[0]

  return {
    isPg,
    statement,
    table,

    /** Types of columns: for milliseconds, counters and other 53-bit naturals; for bytes. */
    bigint: isPg ? "BIGINT" : "INTEGER",
    bytes: isPg ? "BYTEA" : "BLOB",

    /** The type of an id's column. Ids are listed in the order of their bytes, whatever the database's locale. */
    id: isPg ? `TEXT COLLATE "C"` : "TEXT",

    /**
     * Ends the definition of a table whose primary key is how it is read: on SQLite the rows then live in the key's tree,
     * which saves a second look-up and half of the writes.
     */
    clustered: isPg ? "" : "WITHOUT ROWID",

    /** The database's clock, see {@link Dialect.nowMillisText}. */
    now: Dialect.nowMillisText(sql),

    /**
     * Stands after `INSERT` and `UPDATE` of a statement for many rows. So that it could undo some of them, SQLite would
     * first copy each page that it changes, to a file if there are many; a failure undoes the whole transaction anyhow.
     */
    orFail: isPg ? "" : "OR FAIL ",

    /** Ends a selection of rows that no other writer changes until the commit. */
    locked: isPg ? " FOR NO KEY UPDATE" : "",

    /** Ends a selection of rows to be deleted, so that it passes over rows that another writer has locked. */
    skipLocked: isPg ? " FOR UPDATE SKIP LOCKED" : "",

    /** Stands after `AS` of a selection that is made once. As a subquery PostgreSQL may run it again, past its limit. */
    once: isPg ? "MATERIALIZED" : "",

    /** Compares a text with the values of a JSON array, so that there is one plan for any number of them. */
    inJson: isPg ? "IN (SELECT json_array_elements_text(CAST(? AS JSON)))" : "IN (SELECT value FROM json_each(?))",

    /** Derives the columns, the insertion and the decoder of a table from the Schema of its rows. */
    rows: <Row extends object, Encoded>(
      suffix: string,
      schema: Schema.Codec<Row, Encoded> & { readonly fields: Rows.Fields }
    ): Rows.Rows<Row> => Rows.make(table(suffix), schema),

    /**
     * Returns how to run one statement for many rows, which on SQLite saves what a statement costs by itself. `row` is the
     * parameters of one row, such as `(?, ?)`; `text` is given as many of them as there are rows, separated by commas. A
     * few sizes serve any number.
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

    /** Does what `statement` does, and reads each row. */
    all: <Row extends object, A, E = never>(read: (row: Row) => Effect.Effect<A, E>) => (text: string) => {
      const run = statement<Row>(text)
      return (parameters: Parameters): Effect.Effect<ReadonlyArray<A>, SqlError | E> =>
        Effect.flatMap(run(parameters), (rows) => Effect.forEach(rows, read))
    },

    /** Does what `statement` does, and reads the first row, if there is one. */
    first: <Row extends object, A, E = never>(read: (row: Row) => Effect.Effect<A, E>) => (text: string) => {
      const run = statement<Row>(text)
      return (parameters: Parameters): Effect.Effect<Option.Option<A>, SqlError | E> =>
        Effect.flatMap(
          run(parameters),
          ([row]) => row === undefined ? Effect.succeedNone : Effect.asSome(read(row))
        )
    }
  }
}

/**
 * Returns the step of a migration that runs statements one after the other. PostgreSQL gets them as one text.
 *
 * @category combinators
 * @since 0.1.0
 */
export const creating = (
  statements: (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined) => ReadonlyArray<string>,
  options: Migrations.TableOptions | undefined
): Effect.Effect<void, SqlError, SqlClient.SqlClient> =>
  SqlClient.SqlClient.use((client) => {
    const sql = client.withoutTransforms()
    const all = statements(sql, options)
    const texts = sql.onDialectOrElse({
      pg: () => [`DO '${`BEGIN ${all.join(";\n")}; END`.replaceAll("'", "''")}'`],
      orElse: () => all
    })
    return Effect.forEach(texts, (text) => sql.unsafe(text).unprepared, { discard: true })
  })
