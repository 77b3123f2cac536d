/**
 * Reads lists that a server answers in pages.
 */
import * as Effect from "effect/Effect"

/** Reads the pages of a list, one after the other, and returns all entries. */
export const readPages = Effect.fnUntraced(function*<A, E>(
  read: (query: { readonly after?: string }) => Effect.Effect<readonly [page: ReadonlyArray<A>, next: string | null], E>
) {
  const [all, first] = yield* read({})
  const entries = Array.from(all)
  for (let next = first; next !== null;) {
    const [page, following] = yield* read({ after: next })
    entries.push(...page)
    next = following
  }
  return entries
})
