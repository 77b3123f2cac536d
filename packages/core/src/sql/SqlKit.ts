/**
 * What every store on SQL is made of: statements on its tables, how they run, and who is woken after a commit.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Dialect from "./Dialect.ts"
import * as Migrations from "./Migrations.ts"
import * as RowMemory from "./RowMemory.ts"
import * as SqlWakeUps from "./SqlWakeUps.ts"
import * as Statements from "./Statements.ts"
import * as Transactions from "./Transactions.ts"

/**
 * Makes the kit of a store on the ambient client, without touching the database. A client of a dialect that is neither SQLite
 * nor PostgreSQL is refused. `store` names it in what is measured.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(store: string, options: Migrations.TableOptions | undefined) {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const prefix = options?.prefix ?? Migrations.defaultPrefix
  yield* Effect.mapError(Dialect.of(sql), (reason) => new Migrations.MigrationsError({ table: prefix, reason }))
  const statements = Statements.make(sql, options)
  return {
    ...statements,
    ...yield* Transactions.make(sql, store),
    prefix,
    /** Makes a memory of at most `capacity` rows; none on PostgreSQL: there, others write at any time. */
    rowMemory: <Row>(capacity: number): Option.Option<RowMemory.RowMemory<Row>> =>
      statements.isPg ? Option.none() : Option.some(RowMemory.makeSqlite<Row>(sql, capacity)),
    wakeUps: yield* SqlWakeUps.forClient(sql)
  }
})

/**
 * Describes what {@link make} makes.
 *
 * @category models
 * @since 0.1.0
 */
export type SqlKit = Effect.Success<ReturnType<typeof make>>
