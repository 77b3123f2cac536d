/**
 * What redeeming a code and refreshing a session leave behind when they fail between any two of their statements.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import { layerMemory as layerSecrets } from "@sallyport/core/secrets/SecretStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { databases } from "../../../../test-support/databases.ts"

/** What is written by a step, in this order or another: a fault at each is one between two statements. */
const writes = [
  ["UPDATE", "pairing_links"],
  ["UPDATE", "sessions"],
  ["INSERT", "sessions"],
  ["DELETE", "session_tickets"],
  ["UPDATE", "access_feed_head"],
  ["INSERT", "access_feed"]
] as const

type Write = typeof writes[number]
type When = "BEFORE" | "AFTER"

/** Makes the database fail each write of a kind until the scope closes. */
const broken = ([event, table]: Write, when: When) =>
  Effect.acquireRelease(
    SqlClient.SqlClient.use((sql) =>
      sql.onDialectOrElse({
        pg: () =>
          Effect.andThen(
            sql.unsafe(`CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN RAISE EXCEPTION 'fault'; END $$`),
            sql.unsafe(`CREATE TRIGGER fault ${when} ${event} ON sallyport_${table}
              FOR EACH ROW EXECUTE FUNCTION fault()`)
          ),
        orElse: () =>
          sql.unsafe(
            `CREATE TRIGGER fault ${when} ${event} ON sallyport_${table} BEGIN SELECT RAISE(ABORT, 'fault'); END`
          )
      })
    ),
    () =>
      SqlClient.SqlClient.use((sql) =>
        Effect.orDie(sql.unsafe(
          sql.onDialectOrElse({
            pg: () => `DROP TRIGGER fault ON sallyport_${table}`,
            orElse: () => "DROP TRIGGER fault"
          })
        ))
      )
  )

const Links = BootstrapCredentialService.BootstrapCredentialService
const Sessions = SessionCredentialService.SessionCredentialService

for (const { layer, name } of databases) {
  describe(`a step that fails on ${name}`, () => {
    const services = Layer.mergeAll(
      SessionCredentialService.layerWith({ refresh: { tokenLifetime: "10 minutes" } }),
      BootstrapCredentialService.layer
    ).pipe(
      Layer.provide([SqlRepositories.layer, layerSecrets]),
      Layer.provideMerge(layer),
      Layer.provide(NodeCrypto.layer)
    )

    it.live("BOOT-10 C-30: redeem leaves the code whole and no session, wherever it fails, and the retry succeeds", () =>
      Effect.gen(function*() {
        const links = yield* Links
        const sessions = yield* Sessions
        let failed = 0
        let current: SessionCredentialService.IssuedSession | undefined
        for (const write of writes) {
          for (const when of ["BEFORE", "AFTER"] as const) {
            const { code } = yield* links.issue({ issuedBy: "operator", scopes: ["runs:read"], subject: "ada" })
            if (current !== undefined) yield* sessions.issueTicket(current.session)
            const redeem = links.redeem({
              credential: code,
              method: "bearer-access-token",
              attemptKey: Redacted.make("an attempt of one device"),
              replaces: current?.session.id
            })
            const ids = Effect.map(sessions.list(), (listed) => listed.map(({ session }) => session.id))
            const before = yield* ids
            const exit = yield* Effect.scoped(Effect.andThen(broken(write, when), Effect.exit(redeem)))
            if (exit._tag === "Failure") {
              failed++
              assert.deepStrictEqual(yield* ids, before, write.join(" "))
              assert.strictEqual((yield* links.list()).length, 1)
            }
            current = yield* redeem
            assert.deepStrictEqual(yield* ids, [current.session.id])
            assert.deepStrictEqual(yield* links.list(), [])
            assert.strictEqual((yield* sessions.verify(current.token)).id, current.session.id)
          }
        }
        assert.isAtLeast(failed, 10)
      }).pipe(Effect.provide(services)))

    it.live("SESS-16: refresh leaves the tokens as they were, wherever it fails, and the retry succeeds", () =>
      Effect.gen(function*() {
        const sessions = yield* Sessions
        let current = yield* sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
        let failed = 0
        for (const write of writes) {
          for (const when of ["BEFORE", "AFTER"] as const) {
            const { refreshToken, token } = current
            if (refreshToken === undefined) return assert.fail("there is a refresh token")
            const refresh = sessions.refresh(refreshToken)
            const exit = yield* Effect.scoped(Effect.andThen(broken(write, when), Effect.exit(refresh)))
            if (exit._tag === "Failure") {
              failed++
              assert.strictEqual((yield* sessions.verify(token)).id, current.session.id)
            }
            current = yield* refresh
            assert.strictEqual((yield* sessions.verify(current.token)).id, current.session.id)
          }
        }
        assert.isAtLeast(failed, 6)
      }).pipe(Effect.provide(services)))
  })
}
