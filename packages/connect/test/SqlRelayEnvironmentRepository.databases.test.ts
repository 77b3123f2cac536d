import { assert, describe, it } from "@effect/vitest"
import { RelayEnvironmentRepository } from "@sallyport/connect/RelayEnvironmentRepository"
import * as SqlRelayEnvironmentRepository from "@sallyport/connect/SqlRelayEnvironmentRepository"
import * as RelayEnvironmentRepositorySuite from "@sallyport/testing/RelayEnvironmentRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { databases, withTables } from "../../../test-support/databases.ts"

const first = { id: "desk", account: "ada", url: "https://desk.example", key_x: "x".repeat(43), key_id: "k".repeat(43) }
const other = "o".repeat(43)

for (const { layer, name } of databases) {
  RelayEnvironmentRepositorySuite.suite(name, withTables(layer, SqlRelayEnvironmentRepository.layer))

  describe(`the table of environments on ${name}`, () => {
    it.live("L-40: refuses rows with half of a key, and reads rows without further keys", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const table = sql("sallyport_relay_environments")
        yield* Effect.scoped(Layer.build(SqlRelayEnvironmentRepository.layerMigrations()))
        yield* sql`INSERT INTO ${table} ${sql.insert({ ...first, linked_at_millis: 1 })}`
        yield* Effect.gen(function*() {
          const environments = yield* RelayEnvironmentRepository
          const row = yield* environments.findById("desk")
          assert.isNull(Option.getOrThrow(row).relayKeyId)
        }).pipe(Effect.provide(SqlRelayEnvironmentRepository.layer, { local: true }))
        for (
          const wrong of [
            { next_key_x: other },
            { next_key_id: other },
            { next_key_x: other, next_key_id: first.key_id },
            { previous_key_x: other, previous_key_id: other },
            { previous_until_millis: 1 },
            { relay_key_id: "short" }
          ]
        ) {
          const exit = yield* Effect.exit(sql`UPDATE ${table} SET ${sql.update(wrong)}`)
          assert.strictEqual(exit._tag, "Failure", JSON.stringify(wrong))
        }
        yield* sql`UPDATE ${table} SET ${
          sql.update({
            next_key_x: other,
            next_key_id: other,
            previous_key_x: other,
            previous_key_id: other,
            previous_until_millis: 1
          })
        }`
      }).pipe(Effect.provide(layer)))
  })
}
