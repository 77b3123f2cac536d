/**
 * Keeps the access feed in SQLite or PostgreSQL.
 *
 * The feed is the table `<prefix>access_feed`, and a row of `<prefix>access_feed_head` holds the newest revision. The
 * other access repositories write both, in the transaction of each change; this one reads. `layer` brings the tables up
 * to date before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at
 * run time.
 */
import { AccessChange, AccessEvent } from "@sallyport/core/AccessEvent"
import { AccessFeedRepository } from "@sallyport/core/AccessFeedRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Journal from "./internal/accessJournal.ts"
import { failAs, makeDecode, parameter, prepare } from "./internal/accessTables.ts"
import * as Dialect from "./internal/dialect.ts"
import * as Migrations from "./Migrations.ts"

/**
 * Creates the tables of the feed, or brings them up to date, in one transaction.
 *
 * `prefix` starts the name of every table; `sallyport_` without it.
 */
export const layerMigrations = (options?: {
  readonly prefix?: string | undefined
}): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Journal.migrate(options?.prefix ?? Migrations.defaultPrefix))

/**
 * Provides the repository on tables that exist already; it runs no DDL.
 *
 * Events of a type that this version doesn't know are passed over by `read`, so that an older process goes on beside a
 * newer one.
 */
export const layerStorage = (options?: {
  readonly prefix?: string | undefined
}): Layer.Layer<AccessFeedRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    AccessFeedRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const tables = Journal.tables(options?.prefix ?? Migrations.defaultPrefix)
      const decode = makeDecode(tables.feed, AccessEvent, ["change"])
      const types = AccessChange.members.map((member) => member.fields._tag.schema.literal)

      const latest = prepare<{ readonly revision: unknown }>(
        sql,
        sql`SELECT revision FROM ${sql(tables.head)} WHERE id = 1`
      )
      const [readText] = sql`SELECT revision, payload AS change, actor, at_millis AS at FROM ${sql(tables.feed)}
        WHERE revision > ${parameter} AND ${sql.in("type", types)} ORDER BY revision LIMIT ${parameter}`.compile(true)

      return AccessFeedRepository.of({
        latestRevision: Effect.flatMap(
          latest(),
          ([row]) =>
            row === undefined
              ? Effect.fail(new Error(`${tables.head} has lost its row`))
              : Effect.succeed(Dialect.toNatural(row.revision))
        ).pipe(failAs("latestRevision"), Effect.withSpan("SqlAccessFeedRepository.latestRevision")),
        read: Effect.fn("SqlAccessFeedRepository.read")(function*({ after, limit }) {
          const rows = yield* sql.unsafe(readText, [after, ...types, limit])
          const events: Array<AccessEvent> = []
          for (const row of rows) events.push(yield* decode(row))
          return events
        }, failAs("read"))
      })
    })
  )

/** Provides the repository on tables named with a prefix, which are brought up to date first. */
export const layerWith = (options?: {
  readonly prefix?: string | undefined
}): Layer.Layer<AccessFeedRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/** Provides the repository on tables named `sallyport_…`, which are brought up to date first. */
export const layer: Layer.Layer<AccessFeedRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
