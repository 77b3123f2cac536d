/**
 * Where the access feed is kept.
 *
 * The repositories of access state write it: each change and its event are one transaction there. This port is the
 * reading side.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { AccessEvent } from "./AccessEvent.ts"
import type { AccessRepositoryError } from "./AccessRepositoryError.ts"
import { AccessJournal } from "./internal/accessJournal.ts"

/** Provides reads of the access feed. */
export class AccessFeedRepository extends Context.Service<AccessFeedRepository, {
  /** Returns the newest revision, 0 where nothing has happened yet. */
  readonly latestRevision: Effect.Effect<number, AccessRepositoryError>
  /**
   * Returns the events after a revision, oldest first, at most `limit`. Revisions are gap-free: a reader that has seen
   * `n` has seen everything up to `n`.
   */
  readonly read: (options: {
    readonly after: number
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<AccessEvent>, AccessRepositoryError>
}>()("@sallyport/core/AccessFeedRepository") {}

/**
 * Provides the feed in memory. It shares its store with the memory layers of the other access repositories that are
 * built in the same runtime.
 */
export const layerMemory: Layer.Layer<AccessFeedRepository> = Layer.effect(
  AccessFeedRepository,
  AccessJournal.useSync((journal) =>
    AccessFeedRepository.of({
      latestRevision: Effect.sync(() => journal.events.length),
      read: ({ after, limit }) => Effect.sync(() => journal.events.slice(after, after + limit))
    })
  )
).pipe(Layer.provide(AccessJournal.layer))
