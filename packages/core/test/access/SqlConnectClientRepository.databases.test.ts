import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as ConnectClientRepositorySuite from "@sallyport/testing/ConnectClientRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { connect, databases, sqliteMemory, withTables } from "../../../../test-support/databases.ts"
import { plansOf } from "../../../../test-support/queryPlans.ts"

const spoilMode = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.onDialectOrElse({
    pg: () =>
      sql`ALTER TABLE sallyport_connect_settings DROP CONSTRAINT IF EXISTS sallyport_connect_settings_mode_check`.pipe(
        Effect.andThen(sql`UPDATE sallyport_connect_settings SET mode = 'trust-everyone'`)
      ),
    orElse: () =>
      sql`PRAGMA ignore_check_constraints = ON`.pipe(
        Effect.andThen(sql`UPDATE sallyport_connect_settings SET mode = 'trust-everyone'`)
      )
  })
})

const repositories = SqlAccessRepository.layer

/**
 * The repositories on a connection of their own to the same database. A connection to a file fails at once if another
 * has locked it: both are on this thread, and would wait for each other.
 */
const peer = Layer.unwrap(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const own = sql.onDialectOrElse({
    pg: () =>
      Effect.map(
        sql<{ readonly name: string }>`SELECT current_database() AS name`,
        ([row]) => connect(row?.name ?? "", 1)
      ),
    orElse: () =>
      Effect.map(
        sql<{ readonly file: string }>`PRAGMA database_list`,
        ([row]) => SqliteClient.layer({ filename: row?.file ?? "", busyTimeout: 0 })
      )
  })
  return Layer.provide(Layer.fresh(repositories), yield* own)
}))

for (const { layer, name } of databases) {
  ConnectClientRepositorySuite.suite(name, withTables(layer, repositories), {
    digest: NodeCrypto.layer,
    spoilMode,
    peer: name === "SQLite in memory" ? undefined : peer,
    runs: name.startsWith("PostgreSQL") ? 10 : 20
  })

  describe(`the tables of connect clients on ${name}`, () => {
    it.live("CONN-05 L-40: refuse rows whose status, device and times don't fit together", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const insert = (fields: Record<string, string | number | null>) =>
          sql`INSERT INTO sallyport_connect_clients ${
            sql.insert({
              proof_key_thumbprint: "k".repeat(43),
              account: "ada",
              label: null,
              device_type: "phone",
              status: "pending",
              verification_code: "CODE",
              first_seen_at_millis: 1,
              requested_at_millis: 1,
              pending_until_millis: 2,
              decided_at_millis: null,
              decided_by: null,
              reason: null,
              last_seen_at_millis: null,
              rejections: 0,
              ask_again_at_millis: null,
              ...fields
            })
          }`
        const decided = { pending_until_millis: null, decided_at_millis: 1, decided_by: "owner" }
        const refused: ReadonlyArray<Record<string, string | number | null>> = [
          { status: "maybe" },
          { device_type: "toaster" },
          { proof_key_thumbprint: "short" },
          { account: "" },
          { pending_until_millis: null },
          { decided_at_millis: 1, decided_by: "owner" },
          { last_seen_at_millis: 1 },
          { status: "observed" },
          { ...decided, status: "approved", decided_by: null },
          { ...decided, status: "approved", ask_again_at_millis: 1 },
          { ...decided, status: "rejected" },
          { ...decided, status: "approved", decided_at_millis: null, decided_by: null }
        ]
        for (const fields of refused) {
          const exit = yield* Effect.exit(insert(fields))
          assert.strictEqual(exit._tag, "Failure", JSON.stringify(fields))
        }
        yield* insert({})
        assert.strictEqual(
          (yield* Effect.exit(sql`UPDATE sallyport_connect_settings SET mode = 'everyone'`))._tag,
          "Failure"
        )
      }).pipe(Effect.provide(Layer.provideMerge(SqlAccessRepository.layer, layer))))
  })
}

describe("ConnectClientRepository on SQL", () => {
  it.live("on SQLite looks every row up by an index and scans no table", () =>
    Effect.gen(function*() {
      const clients = (yield* AccessRepository).clients
      const change = { actor: "operator", nowMillis: 1_000 }
      const proofKeyThumbprint = "k".repeat(43)
      const { steps, texts } = yield* plansOf(Effect.gen(function*() {
        yield* clients.setMode({ mode: "account", trust: [] }, change)
        yield* clients.request(
          {
            proofKeyThumbprint,
            account: "ada",
            label: null,
            deviceType: "phone",
            verificationCode: "CODE",
            pendingMillis: 1_000,
            maxPending: 10,
            maxObserved: 10
          },
          undefined,
          change
        )
        yield* clients.setMode({ mode: "client-approval", trust: "all" }, change)
        yield* clients.decide({
          proofKeyThumbprint,
          decision: "revoked",
          reason: null,
          requestedAtMillis: undefined,
          backOffMillis: 1,
          maxBackOffMillis: 1
        }, change)
        const device = { codeDigest: "d", linkId: "l", scopes: [], isProven: false, intervalMillis: 1 }
        yield* clients.request(
          {
            proofKeyThumbprint,
            account: "tv",
            label: null,
            deviceType: "unknown",
            verificationCode: "CODE",
            pendingMillis: 1_000,
            maxPending: 10,
            maxObserved: 10,
            device
          },
          undefined,
          change
        )
        yield* clients.poll({ deviceCodeDigest: "d", account: "tv" }, change)
        yield* clients.findByCode({ verificationCode: "CODE", nowMillis: 1_000 })
        yield* clients.decide(
          { proofKeyThumbprint, decision: "rejected", reason: null, backOffMillis: 1, maxBackOffMillis: 1 },
          change
        )
        yield* clients.findByPrefix("k")
        yield* clients.list({ after: undefined, limit: 10 })
        yield* clients.list({ after: { requestedAtMillis: 1_000, proofKeyThumbprint }, limit: 10 })
        yield* clients.storedMode
        yield* clients.sweep({ idleBeforeMillis: 500, limit: 10 }, change)
      }))
      assert.isAtLeast(texts.size, 12)
      // What may be scanned is a JSON parameter, and a row that is no table's.
      for (const { detail, text } of steps) {
        assert.notMatch(detail, /^SCAN (?!CONSTANT ROW|.* VIRTUAL TABLE)/, `${text}\n${detail}`)
      }
    }).pipe(Effect.provide(Layer.provideMerge(repositories, sqliteMemory))))
})
