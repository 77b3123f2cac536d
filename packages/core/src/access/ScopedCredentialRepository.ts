/**
 * Where scoped credentials are kept: a few atomic steps on encrypted rows, without policy.
 *
 * A row holds everything of a credential, a bundle whole, under one ciphertext: no crash and no race can mix two of them.
 * Every step that changes a row appends its event to the access feed in the same transaction.
 */
import * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ChangeContext } from "./AccessEvent.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import {
  CredentialKey,
  CredentialOwner,
  type CredentialPlace,
  CredentialScope,
  ScopedCredential
} from "./ScopedCredential.ts"

/**
 * Describes a credential as it is stored. Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const ScopedCredentialRow = Schema.Struct({
  scope: CredentialScope,
  owner: CredentialOwner,
  key: CredentialKey,
  /** A fresh random value with every write, which the ciphertext is bound to. */
  revision: Schema.NonEmptyString,
  /** The envelope of all parts of the value, which names the key that encrypts it, as base64url. */
  sealed: Schema.NonEmptyString,
  createdAtMillis: Schema.Natural,
  updatedAtMillis: Schema.Natural,
  updatedBy: Schema.NonEmptyString,
  rejectedUntilMillis: Schema.NullOr(Schema.Natural)
})
/**
 * @see {@link ScopedCredentialRow}
 *
 * @category models
 * @since 0.1.0
 */
export type ScopedCredentialRow = typeof ScopedCredentialRow.Type

/**
 * Returns what hosts and events see of a row.
 *
 * @category converting
 * @since 0.1.0
 */
export const toScopedCredential = (row: Omit<ScopedCredentialRow, "sealed">): ScopedCredential =>
  new ScopedCredential({
    scope: row.scope,
    owner: row.owner,
    key: row.key,
    revision: row.revision,
    createdAt: DateTime.makeUnsafe(row.createdAtMillis),
    updatedAt: DateTime.makeUnsafe(row.updatedAtMillis),
    updatedBy: row.updatedBy,
    rejectedUntil: row.rejectedUntilMillis === null ? null : DateTime.makeUnsafe(row.rejectedUntilMillis)
  })

/**
 * Names an owner in a scope.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScopedOwner {
  readonly scope: CredentialScope
  readonly owner: string
}

/**
 * Describes what came of a removal.
 *
 * @category models
 * @since 0.1.0
 */
export type RemoveOutcome =
  | { readonly _tag: "Removed"; readonly credential: ScopedCredential }
  /** There is a row, and it is not the caller's to remove. Nothing was changed. */
  | { readonly _tag: "Refused"; readonly scope: CredentialScope }
  /** None of the candidates has a row. */
  | { readonly _tag: "Absent" }

/**
 * Provides the atomic steps on credentials.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScopedCredentialRepository {
  /**
   * Stores a value in one step, in place of the one that is there, whose `createdAtMillis` stays; a mark of rejection goes.
   * Of n racers each writes its row whole, and the last one's stays. The row at `supersedes`, if there is one, is deleted
   * in the same transaction, with its `credentialRemoved`; then `credentialUpserted` is appended. Returns what is stored.
   */
  readonly put: (
    row: Omit<ScopedCredentialRow, "createdAtMillis" | "rejectedUntilMillis">,
    supersedes: CredentialPlace | undefined,
    change: ChangeContext
  ) => Effect.Effect<ScopedCredential, RepositoryError>
  /** Returns the rows of a key that the owners have, in the owners' order, as they were at one point in time. */
  readonly find: (options: {
    readonly key: string
    readonly owners: ReadonlyArray<ScopedOwner>
  }) => Effect.Effect<ReadonlyArray<ScopedCredentialRow>, RepositoryError>
  /** Returns what an owner has, in the order of the keys, after a key or from the start, at most `limit`. */
  readonly list: (options: {
    readonly owner: ScopedOwner
    readonly afterKey: string | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<ScopedCredential>, RepositoryError>
  /**
   * Deletes the row of the first candidate that has one, if that candidate is `removable`, and appends
   * `credentialRemoved`, in one transaction. Of n racers exactly one gets `Removed` for a row; a racer that loses goes on to
   * no other candidate.
   */
  readonly remove: (options: {
    readonly key: string
    readonly candidates: ReadonlyArray<ScopedOwner & { readonly removable: boolean }>
  }, change: ChangeContext) => Effect.Effect<RemoveOutcome, RepositoryError>
  /**
   * Marks a row as rejected until a time, or takes the mark away, and appends `credentialUpserted`, in one transaction.
   * Only a row that still has the revision, and another mark, is changed; false says that nothing was.
   */
  readonly mark: (options: {
    readonly place: CredentialPlace
    readonly revision: string
    readonly rejectedUntilMillis: number | null
  }, change: ChangeContext) => Effect.Effect<boolean, RepositoryError>
  /** Appends a `credentialRead`: the actor of the change was given the value `count` times. */
  readonly recordRead: (
    read: { readonly source: string; readonly owner: string; readonly key: string; readonly count: number },
    change: ChangeContext
  ) => Effect.Effect<void, RepositoryError>
  /** Returns rows in the order of scope, owner and key, after one or from the start, at most `limit`: for rotations. */
  readonly page: (options: {
    readonly after: CredentialPlace | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<ScopedCredentialRow>, RepositoryError>
  /**
   * Replaces the ciphertext of a row by one of the same value under another key, if it still has that revision and that
   * ciphertext, in one step. False says that it has not, and that nothing was changed. No event is appended: nothing
   * changes for a reader.
   */
  readonly reseal: (options: {
    readonly place: CredentialPlace
    readonly revision: string
    readonly fromSealed: string
    readonly sealed: string
  }) => Effect.Effect<boolean, RepositoryError>
}
