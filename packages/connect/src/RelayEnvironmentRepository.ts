/**
 * Where a relay keeps the environments that are linked to it: a few atomic steps, without policy.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { RepositoryError } from "@sallyport/core/RepositoryError"

/** Describes what a link says of an environment. */
const Linked = Schema.Struct({
  id: Schema.NonEmptyString,
  account: Schema.NonEmptyString,
  url: Schema.NonEmptyString,
  /** The `x` of its Ed25519 public key (RFC 8037), and the thumbprint of that key. */
  keyX: Schema.NonEmptyString,
  keyId: Schema.NonEmptyString,
  /** The thumbprint of the relay's key that the environment knows; null for the one that the relay is named after. */
  relayKeyId: Schema.NullOr(Schema.NonEmptyString),
  linkedAtMillis: Schema.Natural
})

/**
 * Describes a linked environment as it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export const RelayEnvironmentRow = Schema.Struct({
  ...Linked.fields,
  /** The key that the environment is about to sign with; null if it goes on with the one that it has. */
  nextKeyX: Schema.NullOr(Schema.NonEmptyString),
  nextKeyId: Schema.NullOr(Schema.NonEmptyString),
  /** The key that the environment signed with before, and until when that is believed. */
  previousKeyX: Schema.NullOr(Schema.NonEmptyString),
  previousKeyId: Schema.NullOr(Schema.NonEmptyString),
  previousUntilMillis: Schema.NullOr(Schema.Natural)
})
/**
 * @see {@link RelayEnvironmentRow}
 *
 * @category models
 * @since 0.1.0
 */
export type RelayEnvironmentRow = typeof RelayEnvironmentRow.Type

/**
 * Makes the row of an environment as a link leaves it: with one key.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const linked = ({ account, id, keyId, keyX, linkedAtMillis, relayKeyId, url }: typeof Linked.Type) => ({
  id,
  account,
  url,
  keyX,
  keyId,
  relayKeyId,
  linkedAtMillis,
  nextKeyX: null,
  nextKeyId: null,
  previousKeyX: null,
  previousKeyId: null,
  previousUntilMillis: null
})

/**
 * Returns the keys that an environment's answers may be signed with at a time.
 *
 * @category converting
 * @since 0.1.0
 */
export const believedKeys = (
  row: RelayEnvironmentRow,
  nowMillis: number
): ReadonlyArray<{ readonly x: string; readonly kid: string }> => {
  const keys = [{ x: row.keyX, kid: row.keyId }]
  if (row.nextKeyX !== null && row.nextKeyId !== null) keys.push({ x: row.nextKeyX, kid: row.nextKeyId })
  const { previousKeyId, previousKeyX, previousUntilMillis } = row
  if (previousKeyX !== null && previousKeyId !== null && (previousUntilMillis ?? 0) > nowMillis) {
    keys.push({ x: previousKeyX, kid: previousKeyId })
  }
  return keys
}

/**
 * Provides the atomic steps on linked environments.
 *
 * @category services
 * @since 0.1.0
 */
export class RelayEnvironmentRepository extends Context.Service<RelayEnvironmentRepository, {
  /**
   * Stores an environment, or replaces the address and all keys of one of the same account. Returns false, and changes
   * nothing, if another account has an environment of this id, or if it is a new one and the account has `limit` of them
   * already. By default there is no limit. Racers do not count each other, so an account may end up with more than `limit`.
   */
  readonly link: (
    row: typeof Linked.Type,
    options?: { readonly limit?: number | undefined }
  ) => Effect.Effect<boolean, RepositoryError>
  /** Deletes an account's environment. Returns true to exactly one of n racers; false if there is none. */
  readonly unlink: (options: {
    readonly id: string
    readonly account: string
  }) => Effect.Effect<boolean, RepositoryError>
  /** Returns an account's environment. */
  readonly find: (options: {
    readonly id: string
    readonly account: string
  }) => Effect.Effect<Option.Option<RelayEnvironmentRow>, RepositoryError>
  /** Returns an environment of any account. */
  readonly findById: (id: string) => Effect.Effect<Option.Option<RelayEnvironmentRow>, RepositoryError>
  /** Returns an account's environments in the order of their ids, at most `limit`. */
  readonly list: (options: {
    readonly account: string
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<RelayEnvironmentRow>, RepositoryError>
  /**
   * Stores the key that an environment is about to sign with, in place of another such key. Returns false, and changes
   * nothing, unless the environment's present key is `presentKeyId`. Of racers the last stays.
   */
  readonly announceKey: (options: {
    readonly id: string
    readonly presentKeyId: string
    readonly keyX: string
    readonly keyId: string
  }) => Effect.Effect<boolean, RepositoryError>
  /**
   * Makes the announced key the environment's, and what was its key the previous one, which is believed until
   * `previousUntilMillis`. Returns true to exactly one of n racers; false, and changes nothing, unless the announced key is
   * `keyId`.
   */
  readonly adoptKey: (options: {
    readonly id: string
    readonly keyId: string
    readonly previousUntilMillis: number
  }) => Effect.Effect<boolean, RepositoryError>
  /**
   * Stores which key of the relay an environment knows. Returns false, and changes nothing, unless it was `from` until then:
   * an environment that was linked again meanwhile knows what that link told it.
   */
  readonly confirmRelayKey: (options: {
    readonly id: string
    readonly from: string | null
    readonly to: string
  }) => Effect.Effect<boolean, RepositoryError>
  /** Returns environments of all accounts that know another key of the relay than this, in the order of their ids. */
  readonly listUnconfirmed: (options: {
    readonly relayKeyId: string
    readonly afterId: string
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<RelayEnvironmentRow>, RepositoryError>
}>()("@sallyport/connect/RelayEnvironmentRepository") {}

/**
 * Provides the repository in memory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<RelayEnvironmentRepository> = Layer.sync(RelayEnvironmentRepository, () => {
  const rows = new Map<string, RelayEnvironmentRow>()
  const find = (id: string, account: string): RelayEnvironmentRow | undefined => {
    const row = rows.get(id)
    return row?.account === account ? row : undefined
  }
  const select = (wanted: (row: RelayEnvironmentRow) => boolean, limit: number) =>
    Effect.sync(() => Array.from(rows.values()).filter(wanted).sort((a, b) => a.id < b.id ? -1 : 1).slice(0, limit))
  /** Changes a row, if there is one to be changed. */
  const update = (id: string, change: (row: RelayEnvironmentRow) => RelayEnvironmentRow | undefined) =>
    Effect.sync(() => {
      const row = rows.get(id)
      const changed = row === undefined ? undefined : change(row)
      if (changed === undefined) return false
      rows.set(id, changed)
      return true
    })
  return RelayEnvironmentRepository.of({
    link: (row, { limit = Infinity } = {}) =>
      Effect.sync(() => {
        if (rows.has(row.id) && find(row.id, row.account) === undefined) return false
        if (!rows.has(row.id)) {
          const owned = Array.from(rows.values()).filter(({ account }) => account === row.account)
          if (owned.length >= limit) return false
        }
        rows.set(row.id, linked(row))
        return true
      }),
    unlink: ({ account, id }) => Effect.sync(() => find(id, account) !== undefined && rows.delete(id)),
    find: ({ account, id }) => Effect.sync(() => Option.fromUndefinedOr(find(id, account))),
    findById: (id) => Effect.sync(() => Option.fromUndefinedOr(rows.get(id))),
    list: ({ account, limit }) => select((row) => row.account === account, limit),
    announceKey: ({ id, keyId, keyX, presentKeyId }) =>
      update(id, (row) => row.keyId === presentKeyId ? { ...row, nextKeyX: keyX, nextKeyId: keyId } : undefined),
    adoptKey: ({ id, keyId, previousUntilMillis }) =>
      update(id, (row) =>
        row.nextKeyId !== keyId || row.nextKeyX === null ? undefined : {
          ...row,
          keyX: row.nextKeyX,
          keyId,
          nextKeyX: null,
          nextKeyId: null,
          previousKeyX: row.keyX,
          previousKeyId: row.keyId,
          previousUntilMillis
        }),
    confirmRelayKey: ({ from, id, to }) =>
      update(id, (row) => row.relayKeyId === from ? { ...row, relayKeyId: to } : undefined),
    listUnconfirmed: ({ afterId, limit, relayKeyId }) =>
      select((row) => row.id > afterId && row.relayKeyId !== relayKeyId, limit)
  })
})
