/**
 * Keeps the access state in SQLite or PostgreSQL.
 *
 * The tables are `<prefix>pairing_links`, `<prefix>sessions`, `<prefix>session_tickets`, `<prefix>authorization_codes`,
 * `<prefix>connect_clients`, `<prefix>connect_settings`, `<prefix>scoped_credentials`, `<prefix>access_feed` and
 * `<prefix>access_feed_head`. Every change appends to the feed in its transaction. On PostgreSQL a step locks rows first, in
 * the order of their ids, and the feed's head last, so two steps never wait for each other.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Migrations from "../sql/Migrations.ts"
import * as SqlKit from "../sql/SqlKit.ts"
import { AccessRepository } from "./AccessRepository.ts"
import { migrate } from "./internal/sqlAccessTables.ts"
import * as Clients from "./internal/sqlClients.ts"
import * as Codes from "./internal/sqlCodes.ts"
import * as Credentials from "./internal/sqlCredentials.ts"
import * as Ends from "./internal/sqlEnds.ts"
import * as Feed from "./internal/sqlFeed.ts"
import * as Links from "./internal/sqlLinks.ts"
import * as Redeem from "./internal/sqlRedeem.ts"
import * as Sessions from "./internal/sqlSessions.ts"

/**
 * Creates the tables of the access state, or brings them up to date.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> => Layer.effectDiscard(migrate(options))

/**
 * Provides the access state on tables that exist already; it runs no DDL.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<AccessRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(
    AccessRepository,
    Effect.map(SqlKit.make("access", options), (kit) => {
      const append = Feed.makeAppend(kit)
      const links = Links.make(kit, append)
      const ends = Ends.make(kit)
      const sessions = Sessions.make(kit, append, ends)
      const clients = Clients.make(kit, append, { links, ends })
      return AccessRepository.of({
        links: { ...links.repository, redeem: Redeem.make(kit, append, { clients, ends, links, sessions }) },
        sessions: sessions.repository,
        codes: Codes.make(kit, append, { clients, ends, links, sessions }),
        clients: clients.repository,
        credentials: Credentials.make(kit, append),
        feed: Feed.make(kit)
      })
    })
  )

/**
 * Provides the access state on tables named with a prefix, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<AccessRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the access state on tables named `sallyport_…`, which are brought up to date first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<AccessRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
