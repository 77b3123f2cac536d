/**
 * Counts the requests of one kind that are open, in one process, and lets only so many be open for a client, and for all
 * clients of an account together.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Opens a request until the scope closes, and tells whether there was room for it. */
export type Open = (client: {
  readonly account: string
  readonly proofKeyThumbprint: string
}) => Effect.Effect<boolean, never, Scope.Scope>

/** Makes a count of which nothing is open. */
export const make = (limits: { readonly perClient: number; readonly perAccount: number }): Open => {
  const counts = new Map<string, number>()
  return ({ account, proofKeyThumbprint }) => {
    const places = [
      [JSON.stringify([account]), limits.perAccount],
      [JSON.stringify([account, proofKeyThumbprint]), limits.perClient]
    ] as const
    const add = (change: 1 | -1): void => {
      for (const [name] of places) {
        const count = (counts.get(name) ?? 0) + change
        if (count === 0) counts.delete(name)
        else counts.set(name, count)
      }
    }
    return Effect.acquireRelease(
      Effect.sync(() => {
        const hasRoom = places.every(([name, limit]) => (counts.get(name) ?? 0) < limit)
        if (hasRoom) add(1)
        return hasRoom
      }),
      (opened) => Effect.sync(() => opened ? add(-1) : undefined)
    )
  }
}
