/**
 * The access feed's tables, and the step that appends to them.
 */
import { AccessChange, type ChangeContext } from "../AccessEvent.ts"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Migrations from "../../sql/Migrations.ts"
import * as SqlWakeUps from "../../sql/SqlWakeUps.ts"
import { parameter, prepare, runAll } from "../../sql/accessTables.ts"
import * as Dialect from "../../sql/Dialect.ts"

/** Names the feed's tables. */
export const tables = (prefix: string) => ({ feed: `${prefix}access_feed`, head: `${prefix}access_feed_head` })

/** Creates the feed's tables. Whoever writes the feed runs it before its own migrations. */
export const migrate = (
  prefix: string
): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Migrations.run({
    service: "access_feed",
    prefix,
    migrations: {
      "1_create_access_feed": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const { feed, head } = tables(prefix)
        const millis = Dialect.bigint(sql)
        yield* runAll([
          sql`CREATE TABLE ${sql(feed)} (
            revision ${millis} NOT NULL PRIMARY KEY CHECK (revision > 0),
            type TEXT NOT NULL,
            payload TEXT NOT NULL,
            actor TEXT NOT NULL CHECK (actor <> ''),
            at_millis ${millis} NOT NULL
          )`,
          sql`CREATE TABLE ${sql(head)} (
            id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
            revision ${millis} NOT NULL CHECK (revision >= 0)
          )`,
          sql`INSERT INTO ${sql(head)} (id, revision) VALUES (1, 0)`
        ])
      })
    }
  })

const encode = Schema.encodeEffect(AccessChange)

/** One change, ready to be written. */
type Entry = readonly [type: string, payload: string]

type Write = (entries: ReadonlyArray<Entry>, context: ChangeContext) => Effect.Effect<unknown, SqlError>

/**
 * Returns the step that appends changes to the feed, in their order. It must be the last step of the transaction that
 * makes them: revisions come from one row, whose lock is held until the commit. That makes them gap-free and commits
 * them in their order, and whoever holds that lock waits for no other. Readers are woken after the outermost commit.
 */
export const makeAppend = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, prefix: string) {
  const wakeUps = yield* SqlWakeUps.forClient(sql)
  const topic = tables(prefix).feed
  const feed = sql(tables(prefix).feed)
  const head = sql(tables(prefix).head)

  // The changes travel as one JSON array, so that there is one statement, and one plan, for any number of them.
  const write = sql.onDialectOrElse({
    pg: (): Write => {
      const insert = prepare(
        sql,
        sql`WITH head AS (
          UPDATE ${head} SET revision = revision + CAST(${parameter} AS BIGINT) WHERE id = 1 RETURNING revision
        )
        INSERT INTO ${feed} (revision, type, payload, actor, at_millis)
        SELECT head.revision - CAST(${parameter} AS BIGINT) + entry.ordinal, entry.value ->> 0, entry.value ->> 1,
          CAST(${parameter} AS TEXT), CAST(${parameter} AS BIGINT)
        FROM head, json_array_elements(CAST(${parameter} AS JSON)) WITH ORDINALITY AS entry (value, ordinal)`
      )
      return (entries, { actor, nowMillis }) =>
        insert(entries.length, entries.length, actor, nowMillis, JSON.stringify(entries))
    },
    orElse: (): Write => {
      const advance = prepare(sql, sql`UPDATE ${head} SET revision = revision + ${parameter} WHERE id = 1`)
      // Nearly always there is one, and taking an array apart costs SQLite as much as the rest of the statement.
      const insertOne = prepare(
        sql,
        sql`INSERT INTO ${feed} (revision, type, payload, actor, at_millis)
        SELECT revision, ${parameter}, ${parameter}, ${parameter}, ${parameter} FROM ${head} WHERE id = 1`
      )
      const insert = prepare(
        sql,
        sql`INSERT INTO ${feed} (revision, type, payload, actor, at_millis)
        SELECT head.revision - ${parameter} + entry.key + 1, entry.value ->> 0, entry.value ->> 1, ${parameter}, ${parameter}
        FROM ${head} AS head, json_each(${parameter}) AS entry WHERE head.id = 1`
      )
      return (entries, { actor, nowMillis }) => {
        const [first] = entries
        return Effect.andThen(
          advance(entries.length),
          first !== undefined && entries.length === 1
            ? insertOne(...first, actor, nowMillis)
            : insert(entries.length, actor, nowMillis, JSON.stringify(entries))
        )
      }
    }
  })

  // The number of the change is not known here, nor needed: who follows the feed looks at its end.
  const changed: SqlWakeUps.Changes = [["", 0]]

  return Effect.fnUntraced(function*(changes: ReadonlyArray<AccessChange>, context: ChangeContext) {
    if (changes.length === 0) return
    const entries: Array<Entry> = []
    for (const change of changes) entries.push([change._tag, JSON.stringify(yield* encode(change))])
    yield* write(entries, context)
    yield* wakeUps.announce(topic, changed)
  })
})
