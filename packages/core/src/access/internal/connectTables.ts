/**
 * The tables of the clients that connect through a relay, and of the security mode.
 */
import { initialMode } from "../ConnectClientRepository.ts"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Migrations from "../../sql/Migrations.ts"
import { idType, runAll } from "../../sql/accessTables.ts"
import * as Dialect from "../../sql/Dialect.ts"

/** Names the tables. */
export const tables = (prefix: string) => ({
  clients: `${prefix}connect_clients`,
  settings: `${prefix}connect_settings`
})

/** Creates the tables, or brings them up to date. */
export const migrate = (
  prefix: string
): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Migrations.run({
    service: "connect_clients",
    prefix,
    migrations: {
      "1_create_connect_clients": Effect.gen(function*() {
        const sql = (yield* SqlClient.SqlClient).withoutTransforms()
        const { clients, settings } = tables(prefix)
        const millis = Dialect.bigint(sql)
        const index = (name: string) => sql(`${clients}_${name}`)
        yield* runAll([
          sql`CREATE TABLE ${sql(settings)} (
            id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
            mode TEXT NOT NULL CHECK (mode IN ('account', 'client-approval'))
          )`,
          sql`INSERT INTO ${sql(settings)} (id, mode) VALUES (1, ${sql.literal(`'${initialMode}'`)})`,
          sql`CREATE TABLE ${sql(clients)} (
            proof_key_thumbprint ${idType(sql)} NOT NULL PRIMARY KEY CHECK (length(proof_key_thumbprint) = 43),
            account TEXT NOT NULL CHECK (account <> ''),
            label TEXT CHECK (label <> ''),
            device_type TEXT NOT NULL
              CHECK (device_type IN ('desktop', 'phone', 'tablet', 'browser', 'terminal', 'unknown')),
            status TEXT NOT NULL
              CHECK (status IN ('observed', 'pending', 'approved', 'rejected', 'revoked', 'blocked')),
            verification_code TEXT NOT NULL CHECK (verification_code <> ''),
            first_seen_at_millis ${millis} NOT NULL CHECK (first_seen_at_millis >= 0),
            requested_at_millis ${millis} NOT NULL CHECK (requested_at_millis >= 0),
            pending_until_millis ${millis} CHECK (pending_until_millis >= 0),
            decided_at_millis ${millis} CHECK (decided_at_millis >= 0),
            decided_by TEXT CHECK (decided_by <> ''),
            reason TEXT,
            last_seen_at_millis ${millis} CHECK (last_seen_at_millis >= 0),
            rejections INTEGER NOT NULL CHECK (rejections >= 0),
            ask_again_at_millis ${millis} CHECK (ask_again_at_millis >= 0),
            CHECK ((status = 'pending') = (pending_until_millis IS NOT NULL)),
            CHECK ((status IN ('observed', 'pending')) = (decided_at_millis IS NULL)),
            CHECK ((decided_at_millis IS NULL) = (decided_by IS NULL)),
            CHECK (reason IS NULL OR decided_at_millis IS NOT NULL),
            CHECK ((status = 'rejected') = (ask_again_at_millis IS NOT NULL)),
            CHECK (status <> 'pending' OR last_seen_at_millis IS NULL)
          )`,
          sql`CREATE INDEX ${index("requested")} ON ${sql(clients)} (requested_at_millis DESC, proof_key_thumbprint)`,
          sql`CREATE INDEX ${index("account")} ON ${sql(clients)} (account, status, pending_until_millis)`,
          sql`CREATE INDEX ${index("status")} ON ${sql(clients)} (status, proof_key_thumbprint)`
        ])
      })
    }
  })
