/**
 * Where subscriptions are kept: which streams they watch, how far each was worked off, and who is at work.
 *
 * Times are given by the caller, in milliseconds since 1970 by its clock.
 */
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/**
 * Names a subscription. Those of different owners are kept apart, also under the same id.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionName {
  readonly ownerKey: string
  readonly subscriptionId: string
}

/**
 * Describes what a subscription was created with.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionConfig {
  readonly type: "webhook" | "pull-wake"
  readonly pattern: string | null
  readonly webhookUrl: string | null
  readonly wakeStream: string | null
  readonly leaseMillis: number
  readonly description: string | null
  /** The URL of the root of streams, as the creator reached it. */
  readonly rootUrl: string
}

/**
 * Says how far one stream was worked off.
 *
 * @category models
 * @since 0.1.0
 */
export interface Position {
  readonly path: string
  /** The stream that had the path, 0 if there was none. Of one that has it now and has another number nothing is worked off. */
  readonly streamId: number
  readonly acked: number
}

/**
 * Describes the link between a subscription and one stream.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionLink extends Position {
  readonly explicit: boolean
  readonly glob: boolean
}

/**
 * Describes a subscription as it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscriptionRow extends SubscriptionName, SubscriptionConfig {
  /** The owner as JSON, to act for it. */
  readonly owner: string
  /** Equal if the same was asked for. */
  readonly digest: string
  readonly createdAtMillis: number
  /** Counts the wakes. */
  readonly generation: number
  /** The wake that a worker is told of, or works on. Null while the subscription is idle. */
  readonly wakeId: string | null
  /** Who works on it. */
  readonly holder: string | null
  /** Until when. Null if the wake has been told and no worker has claimed it. */
  readonly leaseExpiresAtMillis: number | null
  /** How often telling of a wake has failed in a row. */
  readonly failures: number
  /** When there is something to do: the lease expires, or telling is tried again. */
  readonly dueAtMillis: number | null
}

/**
 * Returns the name of a subscription.
 *
 * @category converting
 * @since 0.1.0
 */
export const nameOf = ({ ownerKey, subscriptionId }: SubscriptionName): SubscriptionName => ({
  ownerKey,
  subscriptionId
})

/**
 * Says why a worker was refused; nothing was changed.
 *
 * @category models
 * @since 0.1.0
 */
export type WorkerRefused = { readonly _tag: "Unknown" } | { readonly _tag: "Fenced" }

/**
 * Provides the atomic steps on subscriptions.
 *
 * @category services
 * @since 0.1.0
 */
export class StreamSubscriptionRepository extends Context.Service<StreamSubscriptionRepository, {
  /**
   * Creates a subscription with its links. Of n callers exactly one is answered `Created`; `Full`, if the owner has `limit`
   * subscriptions already and this is none of them. However many are created at once, an owner has no more than that.
   */
  readonly create: (
    options: SubscriptionName & SubscriptionConfig & {
      readonly owner: string
      readonly digest: string
      readonly links: ReadonlyArray<SubscriptionLink>
      readonly limit: number
      readonly nowMillis: number
    }
  ) => Effect.Effect<
    | { readonly _tag: "Created" | "Existing" | "Conflict"; readonly subscription: SubscriptionRow }
    | { readonly _tag: "Full" },
    RepositoryError
  >
  /** Returns a subscription. */
  readonly get: (name: SubscriptionName) => Effect.Effect<Option.Option<SubscriptionRow>, RepositoryError>
  /** Returns the links in the order of their paths. */
  readonly links: (
    name: SubscriptionName
  ) => Effect.Effect<ReadonlyArray<SubscriptionLink>, RepositoryError>
  /** Deletes a subscription with its links, if it is there. */
  readonly delete: (name: SubscriptionName) => Effect.Effect<void, RepositoryError>
  /** Makes links explicit, and keeps the positions of those that are there. `false` if there is no subscription. */
  readonly link: (
    options: SubscriptionName & { readonly links: ReadonlyArray<SubscriptionLink> }
  ) => Effect.Effect<boolean, RepositoryError>
  /** Ends the explicit part of a link. `false` if there is no subscription. */
  readonly unlink: (
    options: SubscriptionName & { readonly path: string }
  ) => Effect.Effect<boolean, RepositoryError>
  /** Lists the subscriptions of an owner by id. */
  readonly ofOwner: (
    ownerKey: string
  ) => Effect.Effect<ReadonlyArray<SubscriptionRow>, RepositoryError>
  /** Lists at most `limit` subscriptions by name, after one. */
  readonly page: (options: {
    readonly after: SubscriptionName
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<SubscriptionRow>, RepositoryError>
  /** Lists at most `limit` subscriptions that are due, those that have been for longest first. */
  readonly due: (options: {
    readonly nowMillis: number
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<SubscriptionRow>, RepositoryError>
  /**
   * Begins a wake, and raises the generation, if the subscription is idle or its lease has expired. Of n callers, in any
   * number of processes, exactly one gets the row; the others get none.
   */
  readonly wake: (
    options: SubscriptionName & {
      readonly wakeId: string
      /** Null if the lease begins with a claim. */
      readonly leaseExpiresAtMillis: number | null
      readonly nowMillis: number
    }
  ) => Effect.Effect<Option.Option<SubscriptionRow>, RepositoryError>
  /**
   * Gives the wake that no worker has claimed to a worker, or begins one if there is none. Of n workers exactly one is
   * answered `Claimed`, until it is done or its lease expires.
   */
  readonly claim: (
    options: SubscriptionName & {
      /** For a wake that begins now. */
      readonly wakeId: string
      readonly worker: string
      readonly leaseExpiresAtMillis: number
      readonly nowMillis: number
    }
  ) => Effect.Effect<
    { readonly _tag: "Claimed" | "Held"; readonly subscription: SubscriptionRow } | { readonly _tag: "Unknown" },
    RepositoryError
  >
  /**
   * Moves positions forward, and ends the wake or extends its lease, all in one, if the wake is the current one and its
   * lease has not expired. Positions never move back; those of a stream that was
   * created later are ahead.
   */
  readonly settle: (
    options: SubscriptionName & {
      readonly wakeId: string
      readonly generation: number
      readonly acks: ReadonlyArray<Position>
      /** Null to end the wake. */
      readonly leaseExpiresAtMillis: number | null
      readonly nowMillis: number
    }
  ) => Effect.Effect<
    { readonly _tag: "Settled"; readonly subscription: SubscriptionRow } | WorkerRefused,
    RepositoryError
  >
  /**
   * Ends a wake that no worker is at, if `wakeId` is still the current one, or null and there still is none; notes whether
   * it failed, and when to look again.
   */
  readonly rest: (
    options: SubscriptionName & {
      readonly wakeId: string | null
      readonly failed: boolean
      readonly dueAtMillis: number | null
    }
  ) => Effect.Effect<void, RepositoryError>
  /** Notes that a wake has been told. */
  readonly told: (
    options: SubscriptionName & { readonly wakeId: string }
  ) => Effect.Effect<void, RepositoryError>
}>()("@sallyport/durable-streams/StreamSubscriptionRepository") {}

// -----------------------------------------------------------------------------
// For adapters
// -----------------------------------------------------------------------------

/**
 * Tells whether a worker is told of a wake, or works on one, so that no other begins.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBusy = (
  row: Pick<SubscriptionRow, "wakeId" | "leaseExpiresAtMillis">,
  nowMillis: number
): boolean => row.wakeId !== null && (row.leaseExpiresAtMillis === null || row.leaseExpiresAtMillis > nowMillis)

/**
 * Returns the fields of a row in which a wake begins.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const begun = (row: SubscriptionRow, wakeId: string, leaseExpiresAtMillis: number | null): SubscriptionRow => ({
  ...row,
  generation: row.generation + 1,
  wakeId,
  holder: null,
  leaseExpiresAtMillis,
  dueAtMillis: leaseExpiresAtMillis
})

/**
 * Returns a row whose wake has ended.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const idle = (row: SubscriptionRow): SubscriptionRow => ({
  ...row,
  wakeId: null,
  holder: null,
  leaseExpiresAtMillis: null,
  dueAtMillis: null
})

/**
 * Returns a row whose wake has ended without having been worked off.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const rested = (row: SubscriptionRow, failed: boolean, dueAtMillis: number | null): SubscriptionRow => ({
  ...idle(row),
  failures: failed ? row.failures + 1 : row.failures,
  dueAtMillis
})

/**
 * Says why a worker may not settle a wake, or `undefined` if it may.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refuse = (
  row: SubscriptionRow | undefined,
  options: { readonly wakeId: string; readonly generation: number; readonly nowMillis: number }
): WorkerRefused | undefined => {
  if (row === undefined) return { _tag: "Unknown" }
  return row.wakeId === options.wakeId && row.generation === options.generation && isBusy(row, options.nowMillis)
    ? undefined
    : { _tag: "Fenced" }
}

// -----------------------------------------------------------------------------
// Memory
// -----------------------------------------------------------------------------

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

const makeMemory = (): StreamSubscriptionRepository["Service"] => {
  interface Entry {
    row: SubscriptionRow
    readonly links: Map<string, SubscriptionLink>
  }
  const entries = new Map<string, Entry>()
  const keyOf = ({ ownerKey, subscriptionId }: SubscriptionName) => `${ownerKey}\n${subscriptionId}`
  const rows = () => Array.from(entries.values(), (entry) => entry.row)
  const current = (name: SubscriptionName, wakeId: string | null): Entry | undefined => {
    const entry = entries.get(keyOf(name))
    return entry?.row.wakeId === wakeId ? entry : undefined
  }

  return {
    create: ({ limit, links, nowMillis, ...options }) =>
      Effect.sync(() => {
        const existing = entries.get(keyOf(options))
        if (existing !== undefined) {
          return { _tag: existing.row.digest === options.digest ? "Existing" : "Conflict", subscription: existing.row }
        }
        if (rows().filter(({ ownerKey }) => ownerKey === options.ownerKey).length >= limit) return { _tag: "Full" }
        const row: SubscriptionRow = {
          ...options,
          createdAtMillis: nowMillis,
          generation: 0,
          wakeId: null,
          holder: null,
          leaseExpiresAtMillis: null,
          failures: 0,
          dueAtMillis: null
        }
        entries.set(keyOf(options), { row, links: new Map(links.map((link) => [link.path, link])) })
        return { _tag: "Created", subscription: row }
      }),
    get: (name) => Effect.sync(() => Option.fromUndefinedOr(entries.get(keyOf(name))?.row)),
    links: (name) =>
      Effect.sync(() =>
        Array.from(entries.get(keyOf(name))?.links.values() ?? []).sort((a, b) => compare(a.path, b.path))
      ),
    delete: (name) => Effect.sync(() => void entries.delete(keyOf(name))),
    link: ({ links, ...name }) =>
      Effect.sync(() => {
        const entry = entries.get(keyOf(name))
        for (const link of links) {
          const before = entry?.links.get(link.path)
          entry?.links.set(link.path, before === undefined ? link : { ...before, explicit: true })
        }
        return entry !== undefined
      }),
    unlink: ({ path, ...name }) =>
      Effect.sync(() => {
        const entry = entries.get(keyOf(name))
        const link = entry?.links.get(path)
        if (link?.glob === true) entry?.links.set(path, { ...link, explicit: false })
        else entry?.links.delete(path)
        return entry !== undefined
      }),
    ofOwner: (ownerKey) =>
      Effect.sync(() =>
        rows()
          .filter((row) => row.ownerKey === ownerKey)
          .sort((a, b) => compare(a.subscriptionId, b.subscriptionId))
      ),
    page: ({ after, limit }) =>
      Effect.sync(() =>
        rows()
          .sort((a, b) => compare(a.ownerKey, b.ownerKey) || compare(a.subscriptionId, b.subscriptionId))
          .filter((row) =>
            (compare(row.ownerKey, after.ownerKey) || compare(row.subscriptionId, after.subscriptionId)) > 0
          )
          .slice(0, limit)
      ),
    due: ({ limit, nowMillis }) =>
      Effect.sync(() =>
        rows()
          .flatMap((row) =>
            row.dueAtMillis === null || row.dueAtMillis > nowMillis ? [] : [[row.dueAtMillis, row] as const]
          )
          .sort(([a], [b]) => a - b)
          .slice(0, limit)
          .map(([, row]) => row)
      ),
    wake: ({ leaseExpiresAtMillis, nowMillis, wakeId, ...name }) =>
      Effect.sync(() => {
        const entry = entries.get(keyOf(name))
        if (entry === undefined || isBusy(entry.row, nowMillis)) return Option.none()
        entry.row = begun(entry.row, wakeId, leaseExpiresAtMillis)
        return Option.some(entry.row)
      }),
    claim: ({ leaseExpiresAtMillis, nowMillis, wakeId, worker, ...name }) =>
      Effect.sync(() => {
        const entry = entries.get(keyOf(name))
        if (entry === undefined) return { _tag: "Unknown" }
        const isTold = isBusy(entry.row, nowMillis)
        if (isTold && entry.row.holder !== null) return { _tag: "Held", subscription: entry.row }
        const row = isTold ? entry.row : begun(entry.row, wakeId, leaseExpiresAtMillis)
        entry.row = { ...row, holder: worker, leaseExpiresAtMillis, dueAtMillis: leaseExpiresAtMillis }
        return { _tag: "Claimed", subscription: entry.row }
      }),
    settle: ({ acks, leaseExpiresAtMillis, ...options }) =>
      Effect.sync(() => {
        const entry = entries.get(keyOf(options))
        const refused = refuse(entry?.row, options)
        if (entry === undefined || refused !== undefined) return refused ?? { _tag: "Unknown" }
        for (const { acked, path, streamId } of acks) {
          const link = entry.links.get(path) ?? { path, streamId, acked: 0, explicit: false, glob: true }
          if (streamId > link.streamId || (streamId === link.streamId && acked > link.acked)) {
            entry.links.set(path, { ...link, streamId, acked })
          } else entry.links.set(path, link)
        }
        entry.row = {
          ...(leaseExpiresAtMillis === null
            ? idle(entry.row)
            : { ...entry.row, leaseExpiresAtMillis, dueAtMillis: leaseExpiresAtMillis }),
          failures: 0
        }
        return { _tag: "Settled", subscription: entry.row }
      }),
    rest: ({ dueAtMillis, failed, wakeId, ...name }) =>
      Effect.sync(() => {
        const entry = current(name, wakeId)
        if (entry !== undefined) entry.row = rested(entry.row, failed, dueAtMillis)
      }),
    told: ({ wakeId, ...name }) =>
      Effect.sync(() => {
        const entry = current(name, wakeId)
        if (entry !== undefined) entry.row = { ...entry.row, failures: 0 }
      })
  }
}

/**
 * Provides the repository in memory. Subscriptions end with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<StreamSubscriptionRepository> = Layer.sync(
  StreamSubscriptionRepository,
  () => StreamSubscriptionRepository.of(makeMemory())
)
