/**
 * Reads SQLite's plans for the statements of a repository.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"

/** Runs a program, and returns the texts of the statements that it ran, and each step of their plans. */
export const plansOf = Effect.fnUntraced(function*<E, R>(program: Effect.Effect<unknown, E, R>) {
  const sql = yield* SqlClient.SqlClient
  const texts = new Set<string>()
  yield* Effect.provideService(program, Statement.CurrentTransformer, (statement) =>
    Effect.sync(() => {
      texts.add(statement.compile()[0])
      return statement
    }))
  const steps: Array<{ readonly text: string; readonly detail: string }> = []
  for (const text of texts) {
    const plan = yield* sql.unsafe<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${text}`)
    for (const { detail } of plan) steps.push({ text, detail })
  }
  return { texts, steps }
})
