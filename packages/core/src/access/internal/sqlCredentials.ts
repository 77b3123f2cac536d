/**
 * Keeps scoped credentials in the table `<prefix>scoped_credentials`, one row for each scope, owner and key.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type { CredentialPlace } from "../ScopedCredential.ts"
import {
  type RemoveOutcome,
  type ScopedCredentialRepository,
  ScopedCredentialRow,
  type ScopedOwner,
  toScopedCredential
} from "../ScopedCredentialRepository.ts"
import type { Append } from "./sqlFeed.ts"

const Metadata = Schema.Struct(Struct.omit(ScopedCredentialRow.fields, ["sealed"]))

/** Makes the credentials of a store. */
export const make = (kit: SqlKit, append: Append): ScopedCredentialRepository => {
  const { isPg, read, statement, transaction, write } = kit
  const rows = kit.rows("scoped_credentials", ScopedCredentialRow)
  const metadata = kit.rows("scoped_credentials", Metadata)
  const credentials = kit.table("scoped_credentials")
  const here = "scope = ? AND owner = ? AND key = ?"
  const place = ({ key, owner, scope }: CredentialPlace) => [scope, owner, key]
  const one = kit.first(metadata.decode)

  const put = one(
    `${rows.insert} ON CONFLICT (scope, owner, key) DO UPDATE
    SET ${rows.excluded(["scope", "owner", "key", "created_at_millis"])} RETURNING ${metadata.columns}`
  )
  const deleteOne = one(`DELETE FROM ${credentials} WHERE ${here} RETURNING ${metadata.columns}`)
  const list = kit.all(metadata.decode)(
    `SELECT ${metadata.columns} FROM ${credentials} WHERE scope = ? AND owner = ? AND key > ? ORDER BY key LIMIT ?`
  )
  const mark = one(
    `UPDATE ${credentials} SET rejected_until_millis = ?
    WHERE ${here} AND revision = ?
      AND COALESCE(rejected_until_millis, -1) <> COALESCE(CAST(? AS ${isPg ? "BIGINT" : "INTEGER"}), -1)
    RETURNING ${metadata.columns}`
  )
  const page = kit.all(rows.decode)(
    `SELECT ${rows.columns} FROM ${credentials} WHERE (scope, owner, key) > (?, ?, ?)
    ORDER BY scope, owner, key LIMIT ?`
  )
  const reseal = statement(
    `UPDATE ${credentials} SET sealed = ? WHERE ${here} AND revision = ? AND sealed = ? RETURNING key`
  )
  // The owners travel as one JSON array, so that there is one plan, and one point in time, for any number of them.
  const asked = isPg
    ? "SELECT asked ->> 0 AS asked_scope, asked ->> 1 AS asked_owner FROM json_array_elements(CAST(? AS JSON)) AS asked"
    : "SELECT value ->> 0 AS asked_scope, value ->> 1 AS asked_owner FROM json_each(?)"
  const ofOwners = kit.all(rows.decode)(
    `SELECT ${rows.columns} FROM (${asked}) AS asked CROSS JOIN ${credentials}
    WHERE scope = asked_scope AND owner = asked_owner AND key = ?`
  )
  const select = (key: string, owners: ReadonlyArray<ScopedOwner>) =>
    ofOwners([JSON.stringify(owners.map(({ owner, scope }) => [scope, owner])), key])

  return {
    put: (row, supersedes, change) =>
      Effect.gen(function*() {
        // Supersedes is always the writer's own: no other transaction takes these two rows in the other order.
        const superseded = supersedes === undefined ? Option.none() : yield* deleteOne(place(supersedes))
        const stored = yield* Effect.fromOption(
          yield* put(rows.values({ ...row, createdAtMillis: row.updatedAtMillis, rejectedUntilMillis: null }))
        )
        const credential = toScopedCredential(stored)
        yield* append([
          ...(supersedes === undefined || Option.isNone(superseded)
            ? []
            : [{ _tag: "credentialRemoved" as const, ...supersedes }]),
          { _tag: "credentialUpserted", credential }
        ], change)
        return credential
      }).pipe(transaction("put")),
    find: ({ key, owners }) =>
      owners.length === 0 ? Effect.succeed([]) : Effect.map(
        read("find")(select(key, owners)),
        (found) =>
          owners.flatMap((owner) => found.filter((row) => row.scope === owner.scope && row.owner === owner.owner))
      ),
    list: ({ afterKey, limit, owner }) =>
      Effect.map(
        read("list")(list([owner.scope, owner.owner, afterKey ?? "", limit])),
        (found) => found.map(toScopedCredential)
      ),
    remove: ({ candidates, key }, change) =>
      Effect.gen(function*(): Effect.fn.Return<RemoveOutcome, unknown> {
        if (candidates.length === 0) return { _tag: "Absent" }
        const found = yield* select(key, candidates)
        const first = candidates.find((candidate) =>
          found.some((row) => row.scope === candidate.scope && row.owner === candidate.owner)
        )
        if (first === undefined) return { _tag: "Absent" }
        const { owner, removable, scope } = first
        if (!removable) return { _tag: "Refused", scope }
        const removed = yield* deleteOne(place({ scope, owner, key }))
        // Another caller has removed it since, and was told so; nothing else goes in its place.
        if (Option.isNone(removed)) return { _tag: "Absent" }
        yield* append([{ _tag: "credentialRemoved", scope, owner, key }], change)
        return { _tag: "Removed", credential: toScopedCredential(removed.value) }
      }).pipe(transaction("remove")),
    mark: ({ place: at, rejectedUntilMillis, revision }, change) =>
      Effect.gen(function*() {
        const marked = yield* mark([rejectedUntilMillis, ...place(at), revision, rejectedUntilMillis])
        if (Option.isNone(marked)) return false
        yield* append([{ _tag: "credentialUpserted", credential: toScopedCredential(marked.value) }], change)
        return true
      }).pipe(transaction("mark")),
    recordRead: (reading, change) =>
      transaction("recordRead")(append([{ _tag: "credentialRead", ...reading }], change)),
    page: ({ after, limit }) => read("page")(page([after?.scope ?? "", after?.owner ?? "", after?.key ?? "", limit])),
    reseal: ({ fromSealed, place: at, revision, sealed }) =>
      Effect.map(
        write("reseal")(reseal([sealed, ...place(at), revision, fromSealed])),
        (resealed) => resealed.length > 0
      )
  }
}
