/**
 * Keeps subscriptions in SQLite or PostgreSQL.
 *
 * Tables: `<prefix>stream_subscriptions`, `<prefix>stream_subscription_links`; history of migrations:
 * `<prefix>stream_subscriptions_migrations`.
 */
import * as Dialect from "@sallyport/core/sql/Dialect"
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as SqlKit from "@sallyport/core/sql/SqlKit"
import * as Statements from "@sallyport/core/sql/Statements"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import {
  begun,
  idle,
  isBusy,
  type Position,
  refuse,
  rested,
  StreamSubscriptionRepository,
  type SubscriptionLink,
  type SubscriptionName,
  type SubscriptionRow
} from "./StreamSubscriptionRepository.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, clustered, id, table } = Statements.make(sql, options)
  const subscriptions = table("stream_subscriptions")
  return [
    `CREATE TABLE ${subscriptions} (
      owner_key ${id} NOT NULL,
      subscription_id ${id} NOT NULL,
      owner TEXT NOT NULL,
      digest TEXT NOT NULL,
      type TEXT NOT NULL CHECK (type IN ('webhook', 'pull-wake')),
      pattern TEXT,
      webhook_url TEXT CHECK ((type = 'webhook') = (webhook_url IS NOT NULL)),
      wake_stream TEXT CHECK ((type = 'pull-wake') = (wake_stream IS NOT NULL)),
      lease_millis ${bigint} NOT NULL CHECK (lease_millis > 0),
      description TEXT,
      root_url TEXT NOT NULL,
      created_at_millis ${bigint} NOT NULL,
      generation ${bigint} NOT NULL CHECK (generation >= 0),
      wake_id TEXT,
      holder TEXT CHECK (holder IS NULL OR wake_id IS NOT NULL),
      lease_expires_at_millis ${bigint} CHECK (lease_expires_at_millis IS NULL OR wake_id IS NOT NULL),
      failures ${bigint} NOT NULL CHECK (failures >= 0),
      due_at_millis ${bigint},
      PRIMARY KEY (owner_key, subscription_id)
    ) ${clustered}`,
    `CREATE INDEX ${
      table("stream_subscriptions_due")
    } ON ${subscriptions} (due_at_millis) WHERE due_at_millis IS NOT NULL`,
    `CREATE TABLE ${table("stream_subscription_links")} (
      owner_key TEXT NOT NULL,
      subscription_id TEXT NOT NULL,
      path ${id} NOT NULL,
      stream_id ${bigint} NOT NULL CHECK (stream_id >= 0),
      acked ${bigint} NOT NULL CHECK (acked >= 0),
      is_explicit ${bigint} NOT NULL CHECK (is_explicit IN (0, 1)),
      is_glob ${bigint} NOT NULL CHECK (is_glob IN (0, 1)),
      PRIMARY KEY (owner_key, subscription_id, path)
    ) ${clustered}`
  ]
}

/**
 * Creates the tables, or brings them up to date. For a deployment step of its own; `layer` does it by itself.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "stream_subscriptions",
    ...options,
    migrations: { "1_create_stream_subscriptions": Statements.creating(create, options) }
  }))

// The drivers give numbers as `number` or `bigint`.
type Stored<A> = { readonly [K in keyof A]: A[K] extends string | null ? A[K] : unknown }

const toRow = (row: Stored<SubscriptionRow>): SubscriptionRow => ({
  ownerKey: row.ownerKey,
  subscriptionId: row.subscriptionId,
  owner: row.owner,
  digest: row.digest,
  type: row.type,
  pattern: row.pattern,
  webhookUrl: row.webhookUrl,
  wakeStream: row.wakeStream,
  leaseMillis: Dialect.toNatural(row.leaseMillis),
  description: row.description,
  rootUrl: row.rootUrl,
  createdAtMillis: Dialect.toNatural(row.createdAtMillis),
  generation: Dialect.toNatural(row.generation),
  wakeId: row.wakeId,
  holder: row.holder,
  leaseExpiresAtMillis: Dialect.toNaturalOrNull(row.leaseExpiresAtMillis),
  failures: Dialect.toNatural(row.failures),
  dueAtMillis: Dialect.toNaturalOrNull(row.dueAtMillis)
})

/** Makes the repository, without touching the database. The tables must be there, with the same prefix. */
const make: (
  options?: Migrations.TableOptions
) => Effect.Effect<StreamSubscriptionRepository["Service"], Migrations.MigrationsError, SqlClient.SqlClient> = Effect
  .fnUntraced(function*(
    options?: Migrations.TableOptions
  ) {
    const kit = yield* SqlKit.make("subscriptions", options)
    const { isPg, statement, transaction } = kit
    const table = kit.table("stream_subscriptions")
    const linksTable = kit.table("stream_subscription_links")

    const columns = `owner_key AS "ownerKey", subscription_id AS "subscriptionId", owner, digest, type, pattern,
    webhook_url AS "webhookUrl", wake_stream AS "wakeStream", lease_millis AS "leaseMillis", description,
    root_url AS "rootUrl", created_at_millis AS "createdAtMillis", generation, wake_id AS "wakeId", holder,
    lease_expires_at_millis AS "leaseExpiresAtMillis", failures, due_at_millis AS "dueAtMillis"`
    const rows = kit.all((row: Stored<SubscriptionRow>) => Effect.succeed(toRow(row)))
    const oneRow = kit.first((row: Stored<SubscriptionRow>) => Effect.succeed(toRow(row)))

    const insert = oneRow(
      `INSERT INTO ${table} (owner_key, subscription_id, owner, digest, type, pattern, webhook_url, wake_stream, lease_millis,
      description, root_url, created_at_millis, generation, failures)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0) RETURNING ${columns}`
    )
    const byName = oneRow(`SELECT ${columns} FROM ${table} WHERE owner_key = ? AND subscription_id = ?`)
    // Every change of a subscription or its links waits for this row.
    const lockByName = oneRow(
      `SELECT ${columns} FROM ${table} WHERE owner_key = ? AND subscription_id = ?${isPg ? " FOR UPDATE" : ""}`
    )
    // Two who create see each other although neither finds a row. On SQLite the transaction is the lock.
    const lockOwnerStatement = statement("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))")
    const lockOwner = (ownerKey: string): Effect.Effect<unknown, SqlError> =>
      isPg ? lockOwnerStatement([JSON.stringify([table, ownerKey])]) : Effect.void
    const countOf = statement<{ readonly count: unknown }>(
      `SELECT count(*) AS "count" FROM ${table} WHERE owner_key = ?`
    )
    const lock = (name: SubscriptionName) => lockByName([name.ownerKey, name.subscriptionId])
    const updateState = statement(
      `UPDATE ${table} SET generation = ?, wake_id = ?, holder = ?, lease_expires_at_millis = ?, failures = ?, due_at_millis = ?
    WHERE owner_key = ? AND subscription_id = ?`
    )
    const store = (row: SubscriptionRow) =>
      Effect.as(
        updateState([
          row.generation,
          row.wakeId,
          row.holder,
          row.leaseExpiresAtMillis,
          row.failures,
          row.dueAtMillis,
          row.ownerKey,
          row.subscriptionId
        ]),
        row
      )

    const insertLink = statement(
      `INSERT INTO ${linksTable} AS link (owner_key, subscription_id, path, stream_id, acked, is_explicit, is_glob)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (owner_key, subscription_id, path) DO UPDATE SET
      is_explicit = CASE WHEN excluded.is_explicit > link.is_explicit THEN 1 ELSE link.is_explicit END`
    )
    const insertLinks = (name: SubscriptionName, links: ReadonlyArray<SubscriptionLink>) =>
      Effect.forEach(
        links,
        (link) =>
          insertLink([
            name.ownerKey,
            name.subscriptionId,
            link.path,
            link.streamId,
            link.acked,
            link.explicit ? 1 : 0,
            link.glob ? 1 : 0
          ]),
        { discard: true }
      )
    const moveLink = statement(
      `INSERT INTO ${linksTable} AS link (owner_key, subscription_id, path, stream_id, acked, is_explicit, is_glob)
    VALUES (?, ?, ?, ?, ?, 0, 1)
    ON CONFLICT (owner_key, subscription_id, path) DO UPDATE SET
      stream_id = excluded.stream_id, acked = excluded.acked
    WHERE (excluded.stream_id, excluded.acked) > (link.stream_id, link.acked)`
    )
    const moveLinks = (name: SubscriptionName, acks: ReadonlyArray<Position>) =>
      Effect.forEach(
        acks,
        ({ acked, path, streamId }) => moveLink([name.ownerKey, name.subscriptionId, path, streamId, acked]),
        { discard: true }
      )
    const readLinks = statement<{
      readonly path: string
      readonly streamId: unknown
      readonly acked: unknown
      readonly explicit: unknown
      readonly glob: unknown
    }>(
      `SELECT path, stream_id AS "streamId", acked, is_explicit AS "explicit", is_glob AS "glob" FROM ${linksTable}
    WHERE owner_key = ? AND subscription_id = ? ORDER BY path`
    )
    const unlinkGlob = statement(
      `UPDATE ${linksTable} SET is_explicit = 0 WHERE owner_key = ? AND subscription_id = ? AND path = ?`
    )
    const removeLink = statement(
      `DELETE FROM ${linksTable}
    WHERE owner_key = ? AND subscription_id = ? AND path = ? AND is_explicit = 0 AND is_glob = 0`
    )
    const removeLinks = statement(`DELETE FROM ${linksTable} WHERE owner_key = ? AND subscription_id = ?`)
    const removeOne = statement(`DELETE FROM ${table} WHERE owner_key = ? AND subscription_id = ?`)
    const ofOwner = rows(`SELECT ${columns} FROM ${table} WHERE owner_key = ? ORDER BY subscription_id`)
    const page = rows(
      `SELECT ${columns} FROM ${table} WHERE (owner_key, subscription_id) > (?, ?)
    ORDER BY owner_key, subscription_id LIMIT ?`
    )
    const due = rows(
      `SELECT ${columns} FROM ${table} WHERE due_at_millis IS NOT NULL AND due_at_millis <= ? ORDER BY due_at_millis LIMIT ?`
    )

    return StreamSubscriptionRepository.of({
      create: (options) =>
        transaction("create")(Effect.gen(function*() {
          yield* lockOwner(options.ownerKey)
          const existing = yield* lock(options)
          if (Option.isSome(existing)) {
            return {
              _tag: existing.value.digest === options.digest ? "Existing" : "Conflict",
              subscription: existing.value
            } as const
          }
          const [counted] = yield* countOf([options.ownerKey])
          if (Dialect.toNatural(counted?.count) >= options.limit) return { _tag: "Full" } as const
          const created = yield* insert([
            options.ownerKey,
            options.subscriptionId,
            options.owner,
            options.digest,
            options.type,
            options.pattern,
            options.webhookUrl,
            options.wakeStream,
            options.leaseMillis,
            options.description,
            options.rootUrl,
            options.nowMillis
          ])
          if (Option.isNone(created)) {
            return yield* Effect.die(new Error("A subscription that was inserted was not returned"))
          }
          yield* insertLinks(options, options.links)
          return { _tag: "Created", subscription: created.value } as const
        })),
      get: (name) => kit.read("get")(byName([name.ownerKey, name.subscriptionId])),
      links: (name) =>
        kit.read("links")(
          Effect.map(readLinks([name.ownerKey, name.subscriptionId]), (found) =>
            found.map((link) => ({
              path: link.path,
              streamId: Dialect.toNatural(link.streamId),
              acked: Dialect.toNatural(link.acked),
              explicit: Dialect.toNatural(link.explicit) === 1,
              glob: Dialect.toNatural(link.glob) === 1
            })))
        ),
      delete: (name) =>
        transaction("delete")(Effect.gen(function*() {
          yield* lock(name)
          yield* removeLinks([name.ownerKey, name.subscriptionId])
          yield* removeOne([name.ownerKey, name.subscriptionId])
        })),
      link: ({ links, ...name }) =>
        transaction("link")(Effect.gen(function*() {
          if (Option.isNone(yield* lock(name))) return false
          yield* insertLinks(name, links)
          return true
        })),
      unlink: ({ path, ...name }) =>
        transaction("unlink")(Effect.gen(function*() {
          if (Option.isNone(yield* lock(name))) return false
          yield* unlinkGlob([name.ownerKey, name.subscriptionId, path])
          yield* removeLink([name.ownerKey, name.subscriptionId, path])
          return true
        })),
      ofOwner: (ownerKey) => kit.read("ofOwner")(ofOwner([ownerKey])),
      page: ({ after, limit }) => kit.read("page")(page([after.ownerKey, after.subscriptionId, limit])),
      due: ({ limit, nowMillis }) => kit.read("due")(due([nowMillis, limit])),
      wake: ({ leaseExpiresAtMillis, nowMillis, wakeId, ...name }) =>
        transaction("wake")(Effect.gen(function*() {
          const row = yield* lock(name)
          return Option.isNone(row) || isBusy(row.value, nowMillis)
            ? Option.none()
            : Option.some(yield* store(begun(row.value, wakeId, leaseExpiresAtMillis)))
        })),
      claim: ({ leaseExpiresAtMillis, nowMillis, wakeId, worker, ...name }) =>
        transaction("claim")(Effect.gen(function*() {
          const locked = yield* lock(name)
          if (Option.isNone(locked)) return { _tag: "Unknown" } as const
          const found = locked.value
          const isTold = isBusy(found, nowMillis)
          if (isTold && found.holder !== null) return { _tag: "Held", subscription: found } as const
          const row = isTold ? found : begun(found, wakeId, leaseExpiresAtMillis)
          const claimed = { ...row, holder: worker, leaseExpiresAtMillis, dueAtMillis: leaseExpiresAtMillis }
          return { _tag: "Claimed", subscription: yield* store(claimed) } as const
        })),
      settle: ({ acks, leaseExpiresAtMillis, ...settled }) =>
        transaction("settle")(Effect.gen(function*() {
          const row = Option.getOrUndefined(yield* lock(settled))
          const refused = refuse(row, settled)
          if (row === undefined || refused !== undefined) return refused ?? ({ _tag: "Unknown" } as const)
          yield* moveLinks(settled, acks)
          const next = leaseExpiresAtMillis === null
            ? idle(row)
            : { ...row, leaseExpiresAtMillis, dueAtMillis: leaseExpiresAtMillis }
          return { _tag: "Settled", subscription: yield* store({ ...next, failures: 0 }) } as const
        })),
      rest: ({ dueAtMillis, failed, wakeId, ...name }) =>
        transaction("rest")(Effect.gen(function*() {
          const row = yield* lock(name)
          if (Option.isSome(row) && row.value.wakeId === wakeId) {
            yield* store(rested(row.value, failed, dueAtMillis))
          }
        })),
      told: ({ wakeId, ...name }) =>
        transaction("told")(Effect.gen(function*() {
          const row = yield* lock(name)
          if (Option.isSome(row) && row.value.wakeId === wakeId && row.value.failures > 0) {
            yield* store({ ...row.value, failures: 0 })
          }
        }))
    })
  })

/**
 * Provides the repository on tables that are there already, for a connection without the right to create any.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<StreamSubscriptionRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(StreamSubscriptionRepository, make(options))

/**
 * Provides the repository, with a prefix of one's own, after creating or upgrading its tables.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<StreamSubscriptionRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository after creating or upgrading its tables.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<StreamSubscriptionRepository, Migrations.MigrationsError, SqlClient.SqlClient> =
  layerWith()
