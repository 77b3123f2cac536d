/**
 * Reads lists that a server answers in pages.
 */
import * as Effect from "effect/Effect"
import { ClientError, UnexpectedAnswer } from "../ClientError.ts"

/** How many pages a list may have: a server may go on without end. */
const maxPages = 1_000

/** Reads the pages of a list, one after the other, and returns all entries. */
export const readPages = Effect.fnUntraced(function*<A, E>(
  read: (query: { readonly after?: string }) => Effect.Effect<readonly [page: ReadonlyArray<A>, next: string | null], E>
): Effect.fn.Return<ReadonlyArray<A>, E | ClientError> {
  const [all, first] = yield* read({})
  const entries = Array.from(all)
  let pages = 1
  for (let next = first; next !== null;) {
    if (pages++ === maxPages) {
      return yield* new ClientError({
        reason: new UnexpectedAnswer({ status: 200, code: null, message: "The server's list has no end" })
      })
    }
    const [page, following] = yield* read({ after: next })
    entries.push(...page)
    next = following
  }
  return entries
})
