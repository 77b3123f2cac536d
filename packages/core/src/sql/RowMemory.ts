/**
 * What a process knows of rows that it has written itself, for as long as nothing else in the database has changed.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Dialect from "./Dialect.ts"

/**
 * Remembers rows by their keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface RowMemory<Row> {
  /**
   * Returns the rows of some keys, and the database's time, if all of them are as they were kept; undefined if any is not
   * known, or if anything was written since, by this or another process. To be called at the beginning of a transaction that
   * lets no other one write.
   */
  readonly recall: (keys: ReadonlyArray<string>) => Effect.Effect<
    { readonly rows: ReadonlyArray<Row>; readonly atMillis: number } | undefined,
    SqlError
  >
  /** Keeps rows as this transaction has written them, once it commits. To be called after everything that it writes. */
  readonly keep: (rows: Iterable<readonly [key: string, row: Row]>) => Effect.Effect<void, SqlError>
}

/** What differs once anything was written: the connection, what it has changed, and what others have committed. */
interface Mark {
  readonly connection: unknown
  readonly own: number
  readonly others: number
  readonly atMillis: number
}

/**
 * Makes a memory of at most `capacity` rows on SQLite, which counts what a connection changes and tells whether another one
 * has committed.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeSqlite = <Row>(sql: SqlClient.SqlClient, capacity: number): RowMemory<Row> => {
  const known = new Map<string, Row>()
  let kept: Mark | undefined

  const text = `SELECT total_changes() AS own, (SELECT data_version FROM pragma_data_version) AS others, ${
    Dialect.nowMillisText(sql)
  } AS "atMillis"`
  const mark = Effect.withFiber((fiber): Effect.Effect<Mark | undefined, SqlError> => {
    const transaction = Context.getOption(fiber.context, sql.transactionService)
    // In a transaction of a caller it is not known when, and whether, it commits.
    if (transaction._tag === "None" || transaction.value[1] > 0) return Effect.succeed(undefined)
    const [connection] = transaction.value
    return Effect.map(
      connection.execute(text, [], undefined),
      ([row]) => ({
        connection,
        own: Dialect.toNatural(row.own),
        others: Dialect.toNatural(row.others),
        atMillis: Dialect.toNatural(row.atMillis)
      })
    )
  })

  return {
    recall: (keys) =>
      Effect.map(mark, (now) => {
        if (
          now === undefined || kept === undefined || kept.connection !== now.connection || kept.own !== now.own ||
          kept.others !== now.others
        ) {
          known.clear()
          return undefined
        }
        const rows: Array<Row> = []
        for (const key of keys) {
          const row = known.get(key)
          if (row === undefined) return undefined
          rows.push(row)
        }
        return { rows, atMillis: now.atMillis }
      }),
    keep: (rows) =>
      Effect.flatMap(mark, (now) =>
        now === undefined ? Effect.void : sql.afterCommit(Effect.sync(() => {
          for (const [key, row] of rows) known.set(key, row)
          if (known.size > capacity) known.clear()
          kept = now
        })))
  }
}
