/**
 * The tables of the access state.
 */
import type * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Migrations from "../../sql/Migrations.ts"
import * as Statements from "../../sql/Statements.ts"
import { initialMode } from "../ConnectClientRepository.ts"
import { endedAt } from "./sqlEnds.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint: millis, clustered, id, isPg, now, table } = Statements.make(sql, options)
  const ended = endedAt({ isPg })
  const links = table("pairing_links")
  const sessions = table("sessions")
  const tickets = table("session_tickets")
  const codes = table("authorization_codes")
  const clients = table("connect_clients")
  const settings = table("connect_settings")
  const head = table("access_feed_head")
  return [
    `CREATE TABLE ${table("access_feed")} (
      revision ${millis} NOT NULL PRIMARY KEY CHECK (revision > 0),
      type TEXT NOT NULL,
      payload TEXT NOT NULL,
      actor TEXT NOT NULL CHECK (actor <> ''),
      at_millis ${millis} NOT NULL
    )`,
    `CREATE TABLE ${head} (
      id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
      revision ${millis} NOT NULL CHECK (revision >= 0)
    )`,
    `INSERT INTO ${head} (id, revision) VALUES (1, 0)`,

    `CREATE TABLE ${links} (
      id ${id} NOT NULL PRIMARY KEY CHECK (id <> ''),
      code_digest TEXT NOT NULL UNIQUE CHECK (code_digest <> ''),
      label TEXT,
      subject TEXT NOT NULL CHECK (subject <> ''),
      scopes TEXT NOT NULL,
      proof_key_thumbprint TEXT,
      remaining_uses ${millis} NOT NULL CHECK (remaining_uses >= 0),
      created_by TEXT NOT NULL CHECK (created_by <> ''),
      issued_by ${id},
      session_lifetime_millis ${millis} CHECK (session_lifetime_millis > 0),
      session_ends_at_millis ${millis} CHECK (session_ends_at_millis >= 0),
      created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
      expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0),
      revoked_at_millis ${millis} CHECK (revoked_at_millis >= 0)
    )`,
    // Links live for minutes: what can still be redeemed is few rows, however many have not been swept.
    `CREATE INDEX ${table("pairing_links_redeemable")} ON ${links} (expires_at_millis)
      WHERE revoked_at_millis IS NULL AND remaining_uses > 0`,
    `CREATE INDEX ${table("pairing_links_issued")} ON ${links} (issued_by)
      WHERE revoked_at_millis IS NULL AND remaining_uses > 0 AND issued_by IS NOT NULL`,
    `CREATE INDEX ${table("pairing_links_ended")} ON ${links} ((${ended}), id)`,

    `CREATE TABLE ${sessions} (
      id ${id} NOT NULL PRIMARY KEY CHECK (id <> ''),
      subject TEXT NOT NULL CHECK (subject <> ''),
      method TEXT NOT NULL
        CHECK (method IN ('browser-session-cookie', 'bearer-access-token', 'dpop-access-token')),
      scopes TEXT NOT NULL,
      scope_request TEXT,
      proof_key_thumbprint TEXT,
      link_id ${id},
      parent_id ${id},
      branch_id ${id},
      let_in_by TEXT NOT NULL CHECK (let_in_by <> ''),
      client TEXT,
      device TEXT NOT NULL,
      token_digest TEXT NOT NULL UNIQUE CHECK (token_digest <> ''),
      key_id TEXT NOT NULL CHECK (key_id <> ''),
      token_expires_at_millis ${millis} CHECK (token_expires_at_millis >= 0),
      refresh_digest TEXT CHECK (refresh_digest <> ''),
      previous_refresh_digest TEXT CHECK (previous_refresh_digest <> ''),
      refreshed_at_millis ${millis} CHECK (refreshed_at_millis >= 0),
      tokens_used_at_millis ${millis} CHECK (tokens_used_at_millis >= 0),
      redemption_digest TEXT CHECK (redemption_digest <> ''),
      stored_at_millis ${millis} NOT NULL DEFAULT (${now}),
      created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
      last_seen_at_millis ${millis} NOT NULL CHECK (last_seen_at_millis >= 0),
      expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0),
      lifetime_millis ${millis} CHECK (lifetime_millis > 0),
      absolute_expires_at_millis ${millis} CHECK (absolute_expires_at_millis >= expires_at_millis),
      revoked_at_millis ${millis} CHECK (revoked_at_millis >= 0),
      revoked_by TEXT
    )`,
    `CREATE INDEX ${
      table("sessions_redemption")
    } ON ${sessions} (redemption_digest) WHERE redemption_digest IS NOT NULL`,
    `CREATE INDEX ${table("sessions_subject")} ON ${sessions} (subject, id)`,
    `CREATE INDEX ${table("sessions_proof_key")} ON ${sessions} (proof_key_thumbprint, id)
      WHERE proof_key_thumbprint IS NOT NULL`,
    // Descent is looked up through sessions that have ended too, which therefore stay as long as what descends from them.
    `CREATE INDEX ${table("sessions_parent")} ON ${sessions} (parent_id, id) WHERE parent_id IS NOT NULL`,
    // The session of the first generation that a session with a parent is, or descends from.
    `CREATE INDEX ${table("sessions_branch")} ON ${sessions} (branch_id)
      WHERE branch_id IS NOT NULL AND revoked_at_millis IS NULL`,
    `CREATE INDEX ${table("sessions_link")} ON ${sessions} (link_id, id) WHERE link_id IS NOT NULL`,
    `CREATE INDEX ${table("sessions_ended")} ON ${sessions} ((${ended}), id)`,
    `CREATE INDEX ${table("sessions_key")} ON ${sessions} (key_id, expires_at_millis) WHERE revoked_at_millis IS NULL`,
    // Tickets have no foreign key: they stand for nothing without a live session, which is looked at when one is used, and
    // so a ticket can never be in the way of ending or deleting a session.
    `CREATE TABLE ${tickets} (
      ticket_digest ${id} NOT NULL PRIMARY KEY CHECK (ticket_digest <> ''),
      session_id ${id} NOT NULL,
      expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0)
    ) ${clustered}`,
    `CREATE INDEX ${table("session_tickets_session")} ON ${tickets} (session_id)`,
    `CREATE INDEX ${table("session_tickets_expires")} ON ${tickets} (expires_at_millis, ticket_digest)`,

    // A code outlives its use, so that a second use is known and ends the session that the first one gave.
    `CREATE TABLE ${codes} (
      code_digest ${id} NOT NULL PRIMARY KEY CHECK (code_digest <> ''),
      client_id TEXT NOT NULL CHECK (client_id <> ''),
      redirect_uri TEXT NOT NULL CHECK (redirect_uri <> ''),
      code_challenge TEXT NOT NULL CHECK (length(code_challenge) = 43),
      resource TEXT CHECK (resource <> ''),
      subject TEXT NOT NULL CHECK (subject <> ''),
      scopes TEXT NOT NULL,
      proof_key_thumbprint TEXT,
      label TEXT,
      issued_by ${id} NOT NULL,
      created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
      expires_at_millis ${millis} NOT NULL CHECK (expires_at_millis >= 0),
      session_id ${id}
    ) ${clustered}`,
    `CREATE INDEX ${table("authorization_codes_issued")} ON ${codes} (issued_by, expires_at_millis)`,
    `CREATE INDEX ${table("authorization_codes_expires")} ON ${codes} (expires_at_millis, code_digest)`,

    `CREATE TABLE ${settings} (
      id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
      mode TEXT NOT NULL CHECK (mode IN ('account', 'client-approval'))
    )`,
    `INSERT INTO ${settings} (id, mode) VALUES (1, '${initialMode}')`,
    `CREATE TABLE ${clients} (
      proof_key_thumbprint ${id} NOT NULL PRIMARY KEY CHECK (length(proof_key_thumbprint) = 43),
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
      device_code_digest TEXT UNIQUE CHECK (device_code_digest <> ''),
      device TEXT,
      CHECK ((device_code_digest IS NULL) = (device IS NULL)),
      CHECK (status <> 'observed' OR device IS NULL),
      CHECK ((status = 'pending') = (pending_until_millis IS NOT NULL)),
      CHECK ((status IN ('observed', 'pending')) = (decided_at_millis IS NULL)),
      CHECK ((decided_at_millis IS NULL) = (decided_by IS NULL)),
      CHECK (reason IS NULL OR decided_at_millis IS NOT NULL),
      CHECK ((status = 'rejected') = (ask_again_at_millis IS NOT NULL)),
      CHECK (status <> 'pending' OR last_seen_at_millis IS NULL)
    )`,
    `CREATE INDEX ${table("connect_clients_requested")} ON ${clients} (requested_at_millis DESC, proof_key_thumbprint)`,
    `CREATE INDEX ${table("connect_clients_account")} ON ${clients} (account, status, pending_until_millis)`,
    `CREATE INDEX ${table("connect_clients_code")} ON ${clients} (verification_code, proof_key_thumbprint)
      WHERE device_code_digest IS NOT NULL`,
    `CREATE INDEX ${table("connect_clients_status")} ON ${clients} (status, proof_key_thumbprint)`,

    `CREATE TABLE ${table("scoped_credentials")} (
      scope ${id} NOT NULL CHECK (scope IN ('user', 'org', 'workspace')),
      owner ${id} NOT NULL CHECK (owner <> ''),
      key ${id} NOT NULL CHECK (key <> ''),
      revision TEXT NOT NULL CHECK (revision <> ''),
      sealed TEXT NOT NULL CHECK (sealed <> ''),
      created_at_millis ${millis} NOT NULL CHECK (created_at_millis >= 0),
      updated_at_millis ${millis} NOT NULL CHECK (updated_at_millis >= 0),
      updated_by TEXT NOT NULL CHECK (updated_by <> ''),
      rejected_until_millis ${millis} CHECK (rejected_until_millis >= 0),
      PRIMARY KEY (scope, owner, key)
    ) ${clustered}`
  ]
}

/** Creates the tables, or brings them up to date. */
export const migrate = (
  options: Migrations.TableOptions | undefined
): Effect.Effect<unknown, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Migrations.run({
    service: "access",
    ...options,
    migrations: { "1_create_access": Statements.creating(create, options) }
  })
