/**
 * Looks up memberships in the host's own table. This is all that Sallyport asks a host about organisations.
 */
import { OrgLookupError, OrgMembership } from "@sallyport/core/credentials/OrgMembership"
import { Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"

const Member = Schema.Struct({ id: Schema.NonEmptyString, role: Schema.NonEmptyString })

const createTable = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE IF NOT EXISTS members (
    subject TEXT NOT NULL PRIMARY KEY,
    org_id TEXT NOT NULL,
    role TEXT NOT NULL
  )`
})

/** Adds a member to an organisation, or changes the member's role there. */
export const join = Effect.fn("Members.join")(function*(subject: string, org: string, role: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO members (subject, org_id, role) VALUES (${subject}, ${org}, ${role})
    ON CONFLICT (subject) DO UPDATE SET org_id = excluded.org_id, role = excluded.role`
})

/** Looks members up. A failing query is an error: only the table can say "not a member". */
export const layer = Layer.effect(
  OrgMembership,
  Effect.gen(function*() {
    yield* createTable
    const sql = yield* SqlClient.SqlClient
    const decode = Schema.decodeUnknownEffect(Schema.Array(Member))
    return OrgMembership.of({
      active: Effect.fn("Members.active")(
        function*(subject: string) {
          const rows = yield* sql`SELECT org_id AS id, role FROM members WHERE subject = ${subject}`
          const [org] = yield* decode(rows.map((row) => ({ ...row })))
          return { org: org ?? null, workspace: null }
        },
        Effect.mapError((cause) => new OrgLookupError({ cause }))
      )
    })
  })
)
