/**
 * Reads what has happened, by pages.
 */
import * as Access from "@sallyport/client/Access"
import type { AccessEntry, AccessHistory } from "@sallyport/contract/AccessGroup"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"

/** Holds a page: entries from the newest on, and the `before` of the next page. */
export type HistoryPage = typeof AccessHistory.Type

/** How many pages without an entry are passed over to find one that has some. */
const emptyPages = 5

/** Reads a page of what has happened, and those after it as long as they are empty. */
export const readHistory = (options: NonNullable<Parameters<Access.Access["Service"]["history"]>[0]>) =>
  Access.Access.use((access) =>
    Effect.gen(function*() {
      let page = yield* access.history(options)
      for (let passed = 1; page.events.length === 0 && page.next !== null && passed < emptyPages; passed++) {
        page = yield* access.history({ ...options, before: page.next })
      }
      return page
    })
  )

/** Returns the number of a change, also of a kind that only a later version knows. */
export const revisionOf = ({ data }: AccessEntry): number =>
  Predicate.hasProperty(data, "revision") && typeof data.revision === "number" ? data.revision : 0

/** Adds to the newest page what was read after it before, unless more has happened meanwhile than one page has. */
export const withOlder = (page: HistoryPage, known: HistoryPage): HistoryPage => {
  const { next } = page
  if (next === null || !known.events.some((entry) => revisionOf(entry) >= next)) return page
  const older = known.events.filter((entry) => revisionOf(entry) < next)
  return older.length === 0 ? page : { ...page, events: [...page.events, ...older], next: known.next }
}
