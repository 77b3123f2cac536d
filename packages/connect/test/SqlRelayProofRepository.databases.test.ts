import { assert, describe, it } from "@effect/vitest"
import { RelayProofRepository } from "@sallyport/connect/RelayProofRepository"
import * as SqlRelayProofRepository from "@sallyport/connect/SqlRelayProofRepository"
import * as RelayProofRepositorySuite from "@sallyport/testing/RelayProofRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { databases, sqliteMemory, withTables } from "../../../test-support/databases.ts"
import { plansOf } from "../../../test-support/queryPlans.ts"

const columns = {
  request_id: "request",
  environment_id: "desk",
  account: "ada",
  proof_key_thumbprint: "t".repeat(43),
  status: "pending_approval",
  requested_at_millis: 1,
  proof: "proof",
  key_id: "k".repeat(43),
  received_at_millis: 1
}

for (const { layer, name } of databases) {
  RelayProofRepositorySuite.suite(name, withTables(layer, SqlRelayProofRepository.layer))

  describe(`the table of proofs on ${name}`, () => {
    it.live("L-40: refuses rows whose status and time don't fit together", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const insert = (fields: Partial<Record<keyof typeof columns, string | number | null>>) =>
          Effect.map(
            Effect.exit(sql`INSERT INTO sallyport_relay_proofs ${sql.insert({ ...columns, ...fields })}`),
            (exit) => exit._tag
          )
        for (
          const fields of [
            { status: "approved" },
            { requested_at_millis: null },
            { status: "credential" },
            { status: "decision", requested_at_millis: null },
            { requested_at_millis: -1 },
            { proof: "" },
            { proof_key_thumbprint: "short" }
          ]
        ) {
          assert.strictEqual(yield* insert(fields), "Failure", JSON.stringify(fields))
        }
        assert.strictEqual(yield* insert({}), "Success")
        assert.strictEqual(yield* insert({ status: "credential", requested_at_millis: null }), "Success")
      }).pipe(Effect.provide(Layer.provideMerge(SqlRelayProofRepository.layer, layer))))
  })
}

describe("RelayProofRepository on SQL", () => {
  it.live("on SQLite looks every row up by an index and scans no table", () =>
    Effect.gen(function*() {
      const proofs = yield* RelayProofRepository
      const row = {
        requestId: "request",
        environmentId: "desk",
        account: "ada",
        proofKeyThumbprint: "t".repeat(43),
        status: "refused",
        requestedAtMillis: null,
        proof: "proof",
        keyId: "k".repeat(43),
        receivedAtMillis: 1
      } as const
      const { steps, texts } = yield* plansOf(Effect.gen(function*() {
        yield* proofs.record(row, { keep: 1 })
        yield* proofs.record({ ...row, environmentId: "attic", receivedAtMillis: 2 }, { keep: 1 })
        yield* proofs.hasPending({ ...row, requestedAtMillis: 1 })
        yield* proofs.list({ account: "ada", limit: 1 })
        yield* proofs.list({ account: "ada", limit: 1, after: row })
        yield* proofs.sweep({ receivedUntilMillis: 2, limit: 1 })
      }))
      assert.isAtLeast(texts.size, 7)
      for (const { detail, text } of steps) {
        assert.notMatch(detail, /^SCAN (?!chosen$)|TEMP B-TREE/, `${text}\n${detail}`)
      }
    }).pipe(Effect.provide(Layer.provideMerge(SqlRelayProofRepository.layer, sqliteMemory))))
})
