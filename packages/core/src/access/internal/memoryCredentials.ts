/**
 * Keeps scoped credentials in memory.
 */
import * as Effect from "effect/Effect"
import type { CredentialPlace } from "../ScopedCredential.ts"
import {
  type RemoveOutcome,
  type ScopedCredentialRepository,
  type ScopedCredentialRow,
  toScopedCredential
} from "../ScopedCredentialRepository.ts"
import { append, type MemoryState } from "./memoryState.ts"
import { byText } from "./orders.ts"

const idOf = ({ key, owner, scope }: CredentialPlace): string => JSON.stringify([scope, owner, key])

// What the databases order by bytes of UTF-8 can differ beyond the first plane, in no way that paging sees.
const byPlace = (a: CredentialPlace, b: CredentialPlace): number =>
  byText(a.scope, b.scope) || byText(a.owner, b.owner) || byText(a.key, b.key)

/** Makes the credentials of a store. */
export const make = (state: MemoryState): ScopedCredentialRepository => {
  const rows = state.credentials
  return {
    put: (written, supersedes, change) =>
      Effect.sync(() => {
        if (supersedes !== undefined && rows.delete(idOf(supersedes))) {
          append(state, { _tag: "credentialRemoved", ...supersedes }, change)
        }
        const row: ScopedCredentialRow = {
          ...written,
          createdAtMillis: rows.get(idOf(written))?.createdAtMillis ?? written.updatedAtMillis,
          rejectedUntilMillis: null
        }
        rows.set(idOf(row), row)
        const credential = toScopedCredential(row)
        append(state, { _tag: "credentialUpserted", credential }, change)
        return credential
      }),
    find: ({ key, owners }) =>
      Effect.sync(() => owners.flatMap(({ owner, scope }) => rows.get(idOf({ scope, owner, key })) ?? [])),
    list: ({ afterKey, limit, owner }) =>
      Effect.sync(() =>
        Array.from(rows.values())
          .filter((row) =>
            row.scope === owner.scope && row.owner === owner.owner && (afterKey === undefined || row.key > afterKey)
          )
          .sort(byPlace)
          .slice(0, limit)
          .map(toScopedCredential)
      ),
    remove: ({ candidates, key }, change) =>
      Effect.sync((): RemoveOutcome => {
        for (const { owner, removable, scope } of candidates) {
          const place = { scope, owner, key }
          const row = rows.get(idOf(place))
          if (row === undefined) continue
          if (!removable) return { _tag: "Refused", scope }
          rows.delete(idOf(place))
          append(state, { _tag: "credentialRemoved", ...place }, change)
          return { _tag: "Removed", credential: toScopedCredential(row) }
        }
        return { _tag: "Absent" }
      }),
    mark: ({ place, rejectedUntilMillis, revision }, change) =>
      Effect.sync(() => {
        const row = rows.get(idOf(place))
        if (row?.revision !== revision || row.rejectedUntilMillis === rejectedUntilMillis) return false
        const marked = { ...row, rejectedUntilMillis }
        rows.set(idOf(row), marked)
        append(state, { _tag: "credentialUpserted", credential: toScopedCredential(marked) }, change)
        return true
      }),
    recordRead: (read, change) => Effect.sync(() => append(state, { _tag: "credentialRead", ...read }, change)),
    page: ({ after, limit }) =>
      Effect.sync(() =>
        Array.from(rows.values())
          .filter((row) => after === undefined || byPlace(row, after) > 0)
          .sort(byPlace)
          .slice(0, limit)
      ),
    reseal: ({ fromSealed, place, revision, sealed }) =>
      Effect.sync(() => {
        const row = rows.get(idOf(place))
        if (row?.revision !== revision || row.sealed !== fromSealed) return false
        rows.set(idOf(row), { ...row, sealed })
        return true
      })
  }
}
