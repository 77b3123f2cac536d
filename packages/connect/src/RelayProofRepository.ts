/**
 * Where a relay keeps the answers of environments that it believed: who was answered what, when, and the proof that says so
 * in the environment's own word. A proof holds no secret: a credential is in it as a digest.
 */
import { RelayProofStatus } from "@sallyport/contract/ConnectProtocol"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import * as Sweeper from "@sallyport/core/Sweeper"

/**
 * Describes a proof as it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export const RelayProofRow = Schema.Struct({
  /** The `jti` of the relay's request, which the proof answers: no two proofs have the same. */
  requestId: Schema.NonEmptyString,
  environmentId: Schema.NonEmptyString,
  account: Schema.NonEmptyString,
  proofKeyThumbprint: Schema.NonEmptyString,
  status: RelayProofStatus,
  /** When the client asked, by the environment's clock: there with `pending_approval` and `decision`, null otherwise. */
  requestedAtMillis: Schema.NullOr(Schema.Natural),
  /** The JWT that the environment signed, and the thumbprint of the key that it signed with. */
  proof: Schema.NonEmptyString,
  keyId: Schema.NonEmptyString,
  /** By the relay's clock. */
  receivedAtMillis: Schema.Natural
})
/**
 * @see {@link RelayProofRow}
 *
 * @category models
 * @since 0.1.0
 */
export type RelayProofRow = typeof RelayProofRow.Type

/**
 * Names a proof in the order of the list.
 *
 * @category models
 * @since 0.1.0
 */
export type RelayProofCursor = Pick<RelayProofRow, "receivedAtMillis" | "requestId">

/**
 * Provides the atomic steps on proofs.
 *
 * @category services
 * @since 0.1.0
 */
export class RelayProofRepository extends Context.Service<RelayProofRepository, {
  /**
   * Stores a proof in place of the one of the same account, environment, client and status, unless that one was received
   * later; and deletes those of the account and the status that were received first, down to `keep`. Of racers each leaves
   * its own mark, and an account may have as many more than `keep` as there are racers, until the next proof.
   */
  readonly record: (
    row: RelayProofRow,
    options: { readonly keep: number }
  ) => Effect.Effect<void, RepositoryError>
  /** Tells whether an environment has answered that a client's request of a certain time is pending. */
  readonly hasPending: (request: {
    readonly account: string
    readonly environmentId: string
    readonly proofKeyThumbprint: string
    readonly requestedAtMillis: number
  }) => Effect.Effect<boolean, RepositoryError>
  /** Returns an account's proofs, those received last first, at most `limit` of them and all of them after `after`. */
  readonly list: (options: {
    readonly account: string
    readonly after?: RelayProofCursor | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<RelayProofRow>, RepositoryError>
  /** Deletes at most `limit` proofs received at `receivedUntilMillis` or before, and returns how many went. */
  readonly sweep: (options: {
    readonly receivedUntilMillis: number
    readonly limit: number
  }) => Effect.Effect<number, RepositoryError>
}>()("@sallyport/connect/RelayProofRepository") {}

const byLastReceived = (a: RelayProofCursor, b: RelayProofCursor): number =>
  b.receivedAtMillis - a.receivedAtMillis || (a.requestId < b.requestId ? 1 : a.requestId > b.requestId ? -1 : 0)

/**
 * Provides the repository in memory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<RelayProofRepository> = Layer.sync(RelayProofRepository, () => {
  // By what a proof takes the place of another for; an account's proofs are few, so that they are sorted when they are read.
  const accounts = new Map<string, Map<string, RelayProofRow>>()
  const keyOf = (row: Pick<RelayProofRow, "environmentId" | "proofKeyThumbprint" | "status">): string =>
    JSON.stringify([row.status, row.environmentId, row.proofKeyThumbprint])
  return RelayProofRepository.of({
    record: (row, { keep }) =>
      Effect.sync(() => {
        const rows = accounts.get(row.account) ?? new Map<string, RelayProofRow>()
        accounts.set(row.account, rows)
        const key = keyOf(row)
        const before = rows.get(key)
        if (before === undefined || before.receivedAtMillis <= row.receivedAtMillis) rows.set(key, row)
        const ofStatus = Array.from(rows.values()).filter(({ status }) => status === row.status)
        if (ofStatus.length <= keep) return
        for (const dropped of ofStatus.sort(byLastReceived).slice(keep)) rows.delete(keyOf(dropped))
      }),
    hasPending: ({ account, requestedAtMillis, ...client }) =>
      Effect.sync(() =>
        accounts.get(account)?.get(keyOf({ ...client, status: "pending_approval" }))?.requestedAtMillis ===
          requestedAtMillis
      ),
    list: ({ account, after, limit }) =>
      Effect.sync(() =>
        Array.from(accounts.get(account)?.values() ?? [])
          .filter((row) => after === undefined || byLastReceived(row, after) > 0)
          .sort(byLastReceived)
          .slice(0, limit)
      ),
    sweep: ({ limit, receivedUntilMillis }) =>
      Effect.sync(() => {
        let swept = 0
        for (const [account, rows] of accounts) {
          for (const [key, row] of rows) {
            if (row.receivedAtMillis > receivedUntilMillis) continue
            if (swept >= limit) return swept
            rows.delete(key)
            swept++
          }
          if (rows.size === 0) accounts.delete(account)
        }
        return swept
      })
  })
})

/**
 * Deletes old proofs again and again, in batches. Several processes may do this at once.
 *
 * `retention` is how long a proof is kept, by default 90 days; `interval` defaults to 1 hour, `batchSize` to 500 proofs. A
 * failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.RetentionOptions
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, RelayProofRepository> =>
  Sweeper.layer({
    name: "proofs of environments",
    options,
    defaults: { interval: "1 hour", batchSize: 500, retention: "90 days" },
    sweep: Effect.map(
      RelayProofRepository,
      (proofs) => (limit, _, receivedUntilMillis) => proofs.sweep({ receivedUntilMillis, limit })
    )
  })
