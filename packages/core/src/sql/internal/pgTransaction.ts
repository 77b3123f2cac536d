import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlConnection from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { patience } from "./within.ts"

// A connection that does not begin or end a transaction in this time is closed.
const controlTimeout = Duration.seconds(2)

/** What the operation is at, which decides what is known when it fails. */
export interface Progress {
  committing: boolean
}

export const CurrentProgress = Context.Reference<Progress>("@sallyport/core/sql/Transactions/CurrentProgress", {
  defaultValue: () => ({ committing: false })
})

/** Puts a transaction around statements, or nothing. */
export type Wrap = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>

const lost = (message: string): Effect.Effect<never, SqlError> =>
  Effect.fail(
    new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation: "commit" }) })
  )

/** Makes transactions whose ends are bounded: the client's own COMMIT would wait for a silent connection for ever. */
export const makePgTransaction = (sql: SqlClient.SqlClient, begin: string): Wrap => {
  // A transaction begins and ends uninterruptibly, and on a connection that has gone silent that would be never.
  const bounded = (conn: SqlConnection.Connection, statement: string) =>
    Effect.interruptible(conn.executeRaw(statement, [])).pipe(
      Effect.raceFirst(Effect.andThen(patience(controlTimeout), lost("The connection did not answer")))
    )
  return SqlClient.makeWithTransaction({
    transactionService: sql.transactionService,
    spanAttributes: [["db.system.name", "postgresql"]],
    acquireConnection: (restore) => restore(sql.reserve),
    begin: (conn) => Effect.asVoid(bounded(conn, begin)),
    savepoint: (conn, id) => Effect.asVoid(bounded(conn, `SAVEPOINT sallyport${id}`)),
    rollbackSavepoint: (conn, id) => Effect.asVoid(bounded(conn, `ROLLBACK TO SAVEPOINT sallyport${id}`)),
    commit: (conn) =>
      Effect.flatMap(CurrentProgress, (progress) => {
        progress.committing = true
        return Effect.flatMap(bounded(conn, "COMMIT"), (result) => {
          // PostgreSQL says so if a statement had failed before.
          if (!Predicate.hasProperty(result, "command") || result.command !== "ROLLBACK") return Effect.void
          progress.committing = false
          return lost("The transaction was rolled back")
        })
      }),
    // A connection that fails to roll back is broken, and its pool closes it.
    rollback: (conn) => Effect.ignore(bounded(conn, "ROLLBACK"))
  })
}
