/**
 * Where a relay keeps the environments that are linked to it: a few atomic steps, without policy.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AccessRepositoryError } from "./AccessRepositoryError.ts"

/** Describes a linked environment as it is stored. */
export const RelayEnvironmentRow = Schema.Struct({
  id: Schema.NonEmptyString,
  account: Schema.NonEmptyString,
  url: Schema.NonEmptyString,
  /** The `x` of its Ed25519 public key (RFC 8037), and the thumbprint of that key. */
  keyX: Schema.NonEmptyString,
  keyId: Schema.NonEmptyString,
  linkedAtMillis: Schema.Natural
})
/** @see {@link RelayEnvironmentRow} */
export type RelayEnvironmentRow = typeof RelayEnvironmentRow.Type

/** Provides the atomic steps on linked environments. */
export class RelayEnvironmentRepository extends Context.Service<RelayEnvironmentRepository, {
  /**
   * Stores an environment, or replaces the address and the key of one of the same account. Returns false, and changes
   * nothing, where another account has an environment of this id.
   */
  readonly link: (row: RelayEnvironmentRow) => Effect.Effect<boolean, AccessRepositoryError>
  /** Deletes an account's environment. Returns true to exactly one of n racers; false where there is none. */
  readonly unlink: (options: {
    readonly id: string
    readonly account: string
  }) => Effect.Effect<boolean, AccessRepositoryError>
  /** Returns an account's environment. */
  readonly find: (options: {
    readonly id: string
    readonly account: string
  }) => Effect.Effect<Option.Option<RelayEnvironmentRow>, AccessRepositoryError>
  /** Returns an account's environments in the order of their ids, at most `limit`. */
  readonly list: (options: {
    readonly account: string
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<RelayEnvironmentRow>, AccessRepositoryError>
}>()("@sallyport/core/RelayEnvironmentRepository") {}

/** Provides the repository in memory. */
export const layerMemory: Layer.Layer<RelayEnvironmentRepository> = Layer.sync(RelayEnvironmentRepository, () => {
  const rows = new Map<string, RelayEnvironmentRow>()
  const find = (id: string, account: string): RelayEnvironmentRow | undefined => {
    const row = rows.get(id)
    return row?.account === account ? row : undefined
  }
  return RelayEnvironmentRepository.of({
    link: (row) =>
      Effect.sync(() => {
        if (rows.has(row.id) && find(row.id, row.account) === undefined) return false
        rows.set(row.id, row)
        return true
      }),
    unlink: ({ account, id }) => Effect.sync(() => find(id, account) !== undefined && rows.delete(id)),
    find: ({ account, id }) => Effect.sync(() => Option.fromUndefinedOr(find(id, account))),
    list: ({ account, limit }) =>
      Effect.sync(() =>
        Array.from(rows.values())
          .filter((row) => row.account === account)
          .sort((a, b) => a.id < b.id ? -1 : 1)
          .slice(0, limit)
      )
  })
})
