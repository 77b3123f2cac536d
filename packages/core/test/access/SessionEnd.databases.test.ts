import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import { layerMemory as layerSecrets } from "@sallyport/core/secrets/SecretStore"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { databases } from "../../../../test-support/databases.ts"

const tables = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.onDialectOrElse({
    pg: () =>
      sql<{ readonly name: string }>`SELECT table_name AS name FROM information_schema.tables
        WHERE table_name LIKE 'sallyport_%' ORDER BY 1`,
    orElse: () => sql<{ readonly name: string }>`SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1`
  })
})

const foreignKeys = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.onDialectOrElse({
    pg: () =>
      sql`SELECT constraint_name FROM information_schema.table_constraints WHERE constraint_type = 'FOREIGN KEY'`,
    orElse: () =>
      sql`SELECT tables.name FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name) WHERE tables.type = 'table'`
  })
})

for (const { layer, name } of databases) {
  describe(`a user who is deleted (${name})`, () => {
    const services = Layer.mergeAll(
      SessionCredentialService.layerWith({ refresh: { tokenLifetime: "10 minutes" } }),
      BootstrapCredentialService.layer
    ).pipe(
      Layer.provideMerge(Layer.merge(SqlRepositories.layer, layerSecrets)),
      Layer.provideMerge(NodeCrypto.layer)
    )

    it.live("L-19 L-24: nothing that refers to them is in the way, and nothing of theirs is left when it is swept", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const sessions = yield* SessionCredentialService.SessionCredentialService
        const links = yield* BootstrapCredentialService.BootstrapCredentialService
        const issue = (subject: string) =>
          sessions.issue({ subject, scopes: ["access:write", "runs:read"], method: "bearer-access-token" })
        const theirs = [yield* issue("ada"), yield* issue("ada"), yield* issue("ada")]
        const other = yield* issue("bob")
        for (const { refreshToken, session } of [...theirs, other]) {
          yield* sessions.issueTicket(session)
          yield* links.issue({ issuedBy: session, scopes: ["runs:read"], label: session.subject })
          yield* sessions.refresh(refreshToken ?? Redacted.make(""))
        }
        const [first, second] = theirs
        if (first === undefined || second === undefined) return assert.fail()

        // One by logging out, one by its id, the rest with the user.
        yield* sessions.logout(first.session)
        yield* sessions.revoke(second.session.id, "operator")
        assert.strictEqual((yield* sessions.revokeBySubject("ada", "operator")).sessions, 1)
        assert.strictEqual((yield* sessions.list({ subject: "ada" })).length, 0)
        for (const { id, subject } of yield* links.list()) if (subject === "ada") yield* links.revoke(id, "operator")
        const rows = (table: string) =>
          Effect.map(
            sql.unsafe<{ readonly subject: string }>(`SELECT subject FROM ${table} ORDER BY 1`),
            (found) => found.map(({ subject }) => subject)
          )
        const tickets = Effect.map(sql`SELECT session_id FROM sallyport_session_tickets`, (found) => found.length)
        assert.strictEqual(yield* tickets, 1)

        const nowMillis = yield* Clock.currentTimeMillis
        const sweep = { endedBeforeMillis: nowMillis, limit: 100 }
        const change = { actor: "system", nowMillis }
        assert.strictEqual(
          yield* AccessRepository.use(({ sessions: repository }) => repository.sweep(sweep, change)),
          theirs.length
        )
        assert.strictEqual(
          yield* AccessRepository.use(({ links: repository }) => repository.sweep(sweep, change)),
          theirs.length
        )
        assert.deepStrictEqual(yield* rows("sallyport_pairing_links"), ["bob"])
        assert.deepStrictEqual(yield* rows("sallyport_sessions"), ["bob"])
        assert.strictEqual((yield* sessions.list({ subject: "bob" })).length, 1)
      }).pipe(Effect.provide(services), Effect.provide(layer)))

    it.live("L-19: no table refers to another with a foreign key, so none can be in the way", () =>
      Effect.gen(function*() {
        assert.isAbove((yield* tables).length, 10)
        assert.deepStrictEqual(yield* foreignKeys, [])
      }).pipe(Effect.provide(Layer.provideMerge(SqlRepositories.layer, layer))))
  })
}
