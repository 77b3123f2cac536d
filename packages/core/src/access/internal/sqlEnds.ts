/**
 * How sessions and pairing links end in SQL: both have the columns `revoked_at_millis` and `expires_at_millis`.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type { Parameters } from "../../sql/Statements.ts"
import { byId } from "./memoryState.ts"

/** Returns when a row came or comes to its end, as an expression that the tables have an index on. */
export const endedAt = ({ isPg }: Pick<SqlKit, "isPg">): string =>
  isPg
    ? "LEAST(revoked_at_millis, expires_at_millis)"
    : "MIN(COALESCE(revoked_at_millis, expires_at_millis), expires_at_millis)"

/**
 * Returns how to revoke the rows that meet a condition, and answer their ids in order. PostgreSQL locks them in that order,
 * so that two revocations never wait for each other. The parameters are those of the condition, then the time.
 */
export const revoking = <Id extends string>(kit: SqlKit, table: string, condition: string) => {
  const run = kit.statement<{ readonly id: Id }>(
    kit.isPg
      ? `WITH target AS (SELECT id FROM ${table} WHERE ${condition} ORDER BY id FOR NO KEY UPDATE)
        UPDATE ${table} AS ended SET revoked_at_millis = CAST(? AS BIGINT)
        FROM target WHERE ended.id = target.id RETURNING ended.id`
      : `WITH target AS (SELECT id FROM ${table} WHERE ${condition})
        UPDATE ${table} SET revoked_at_millis = ? WHERE id IN (SELECT id FROM target) RETURNING id`
  )
  return (parameters: Parameters, nowMillis: number): Effect.Effect<ReadonlyArray<Id>, SqlError> =>
    Effect.map(run([...parameters, nowMillis]), (rows) => Array.from(rows).sort(byId).map(({ id }) => id))
}
