/**
 * Keeps the access feed in SQLite or PostgreSQL.
 *
 * The feed is the table `<prefix>access_feed`, and a row of `<prefix>access_feed_head` holds the newest revision. The
 * other access repositories write both, in the transaction of each change; this one reads. `layer` brings the tables up
 * to date before it answers; a host that runs migrations on its own uses `layerMigrations` there and `layerStorage` at
 * run time.
 */
import { AccessChange, AccessEvent } from "./AccessEvent.ts"
import { AccessFeedRepository } from "./AccessFeedRepository.ts"
import { RepositoryError } from "../RepositoryError.ts"
import { ConnectClient, SecurityMode } from "./ConnectClient.ts"
import { PairingLink } from "./PairingLink.ts"
import { Session } from "./Session.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Dialect from "../sql/Dialect.ts"
import * as Journal from "./internal/sqlAccessJournal.ts"
import { failAs, makeDecode, parameter, prepare } from "../sql/accessTables.ts"
import * as Connect from "./internal/connectTables.ts"
import * as Migrations from "../sql/Migrations.ts"
import * as SqlWakeUps from "../sql/SqlWakeUps.ts"

/**
 * Creates the tables of the feed, and those of the connect clients that a snapshot shows, or brings them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Effect.andThen(
    Journal.migrate(options?.prefix ?? Migrations.defaultPrefix),
    Connect.migrate(options?.prefix ?? Migrations.defaultPrefix)
  ))

/** How many rows of a snapshot are read at once. */
const snapshotPage = 256

/**
 * Provides the repository on tables that exist already; it runs no DDL. `snapshot` reads the tables of the pairing links,
 * the sessions and the connect clients as well, of the same prefix.
 *
 * Events of a type that this version doesn't know are passed over by `read`, so that an older process goes on beside a
 * newer one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<AccessFeedRepository, never, SqlClient.SqlClient> =>
  Layer.effect(
    AccessFeedRepository,
    Effect.gen(function*() {
      const sql = (yield* SqlClient.SqlClient).withoutTransforms()
      const prefix = options?.prefix ?? Migrations.defaultPrefix
      const tables = Journal.tables(prefix)
      const wakeUps = yield* SqlWakeUps.forClient(sql)
      const decode = makeDecode(tables.feed, AccessEvent, ["change"])
      const types = AccessChange.members.map((member) => member.fields._tag.schema.literal)

      const latest = prepare<{ readonly revision: unknown }>(
        sql,
        sql`SELECT revision FROM ${sql(tables.head)} WHERE id = 1`
      )
      const [readText] = sql`SELECT revision, payload AS change, actor, at_millis AS at FROM ${sql(tables.feed)}
        WHERE revision > ${parameter} AND ${sql.in("type", types)} ORDER BY revision LIMIT ${parameter}`.compile(true)

      const latestRevision = Effect.flatMap(
        latest(),
        ([row]) =>
          row === undefined
            ? Effect.fail(new Error(`${tables.head} has lost its row`))
            : Effect.succeed(Dialect.toNatural(row.revision))
      )

      const links = `${prefix}pairing_links`
      const sessions = `${prefix}sessions`
      const decodeLink = makeDecode(links, PairingLink, ["scopes"])
      const decodeSession = makeDecode(sessions, Session, ["scopes", "device"])
      const readLinks = prepare(
        sql,
        sql`SELECT id, label, subject, scopes, remaining_uses AS "remainingUses", created_by AS "createdBy",
          created_at_millis AS "createdAt", expires_at_millis AS "expiresAt"
        FROM ${sql(links)}
        WHERE revoked_at_millis IS NULL AND remaining_uses > 0 AND expires_at_millis > ${parameter}
          AND (created_at_millis, id) < (${parameter}, ${parameter})
        ORDER BY created_at_millis DESC, id DESC LIMIT ${parameter}`
      )
      const readSessions = prepare(
        sql,
        sql`SELECT id, subject, method, scopes, proof_key_thumbprint AS "proofKeyThumbprint", device,
          created_at_millis AS "createdAt", last_seen_at_millis AS "lastSeenAt", expires_at_millis AS "expiresAt"
        FROM ${sql(sessions)}
        WHERE revoked_at_millis IS NULL AND expires_at_millis > ${parameter} AND id > ${parameter}
        ORDER BY id LIMIT ${parameter}`
      )
      const connect = Connect.tables(prefix)
      const decodeClient = makeDecode(connect.clients, ConnectClient, [])
      const readClients = prepare(
        sql,
        sql`SELECT proof_key_thumbprint AS "proofKeyThumbprint", account, label, device_type AS "deviceType", status,
          verification_code AS "verificationCode", first_seen_at_millis AS "firstSeenAt",
          requested_at_millis AS "requestedAt", pending_until_millis AS "pendingUntil",
          decided_at_millis AS "decidedAt", decided_by AS "decidedBy", reason, last_seen_at_millis AS "lastSeenAt"
        FROM ${sql(connect.clients)} WHERE proof_key_thumbprint > ${parameter}
        ORDER BY proof_key_thumbprint LIMIT ${parameter}`
      )
      const readMode = prepare<{ readonly mode: unknown }>(
        sql,
        sql`SELECT mode FROM ${sql(connect.settings)} WHERE id = 1`
      )
      const isSecurityMode = Schema.is(SecurityMode)
      const readAll = Effect.fnUntraced(function*<A, E>(
        decode: (row: object) => Effect.Effect<A, Error>,
        readAfter: (last: A | undefined) => Effect.Effect<ReadonlyArray<object>, E>
      ) {
        const all: Array<A> = []
        while (true) {
          const rows = yield* readAfter(all[all.length - 1])
          for (const row of rows) all.push(yield* decode(row))
          if (rows.length < snapshotPage) return all
          // SQLite answers at once, and others are to have their turn.
          yield* Effect.yieldNow
        }
      })
      // One point in time for several statements: a writer is neither waited for nor held up.
      const begin = sql.onDialectOrElse({
        pg: () => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        orElse: () => "BEGIN"
      })
      const snapshot = Effect.fnUntraced(function*(nowMillis: number) {
        const revision = yield* latestRevision
        const pairingLinks = yield* readAll(
          decodeLink,
          (last) =>
            readLinks(
              nowMillis,
              last?.createdAt.epochMilliseconds ?? Number.MAX_SAFE_INTEGER,
              last?.id ?? "",
              snapshotPage
            )
        )
        const live = yield* readAll(decodeSession, (last) => readSessions(nowMillis, last?.id ?? "", snapshotPage))
        const connectClients = yield* readAll(
          decodeClient,
          (last) => readClients(last?.proofKeyThumbprint ?? "", snapshotPage)
        )
        const mode: unknown = (yield* readMode())[0]?.mode
        return {
          revision,
          pairingLinks,
          sessions: live,
          connectClients,
          connectSecurityMode: isSecurityMode(mode) ? mode : undefined
        }
      })

      return AccessFeedRepository.of({
        latestRevision: latestRevision.pipe(
          failAs("latestRevision"),
          Effect.withSpan("SqlAccessFeedRepository.latestRevision")
        ),
        read: Effect.fn("SqlAccessFeedRepository.read")(function*({ after, limit }) {
          const rows = yield* sql.unsafe(readText, [after, ...types, limit])
          const events: Array<AccessEvent> = []
          for (const row of rows) events.push(yield* decode(row))
          return events
        }, failAs("read")),
        snapshot: ({ nowMillis }) =>
          sql.withTransaction(snapshot(nowMillis)).pipe(
            Effect.provideService(SqlClient.BeginTransaction, begin),
            failAs("snapshot"),
            Effect.withSpan("SqlAccessFeedRepository.snapshot")
          ),
        wakeups: wakeUps.listen(tables.feed).pipe(
          Stream.map(() => undefined),
          Stream.mapError((cause) => new RepositoryError({ operation: "wakeups", cause }))
        )
      })
    })
  )

/**
 * Provides the repository on tables named with a prefix, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<AccessFeedRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<AccessFeedRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
