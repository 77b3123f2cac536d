/**
 * What runs in this process for a feed, as long as a scope is open.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { AccessFeedRepository } from "../AccessFeedRepository.ts"

/** Makes a register. */
export const make = <A>() => {
  const members = new WeakMap<AccessFeedRepository, Set<A>>()
  return {
    /** Returns what runs for a feed now. */
    of: (feed: AccessFeedRepository): ReadonlyArray<A> => Array.from(members.get(feed) ?? []),
    /** Adds a member until the scope closes. */
    add: (feed: AccessFeedRepository, member: A): Effect.Effect<void, never, Scope.Scope> =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => {
          const all = members.get(feed) ?? new Set()
          members.set(feed, all.add(member))
          return all
        }),
        (all) => Effect.sync(() => all.delete(member))
      ))
  }
}
