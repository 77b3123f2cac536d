/**
 * Reads the access feed backwards: what has happened, by kind and by a text in it, and how long it is kept.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AccessEvent, AccessEventKind } from "../AccessEvent.ts"
import type { AccessRepository } from "../AccessRepository.ts"
import type { Principal } from "../Principal.ts"
import type { RepositoryError } from "../../RepositoryError.ts"
import * as FeedReach from "./feedReach.ts"
import * as FeedRegister from "./feedRegister.ts"

type Feed = AccessRepository["Service"]["feed"]

/**
 * Describes which past events to read, the newest first.
 *
 * @category options
 * @since 0.1.0
 */
export interface HistoryOptions {
  /** Who reads; by default the operator. It is given what it reaches, as by `subscribe`. */
  readonly reader?: Principal | undefined
  /** The revision before which to begin, as the `next` of the page before says; absent to begin with the newest. */
  readonly before?: number | undefined
  readonly kind?: AccessEventKind | undefined
  /**
   * Text that the actor or something else in the event contains, in any case. The end of a session or link, which does not
   * say its name, is found with an earlier event of it, if the same page has looked at both.
   */
  readonly search?: string | undefined
  /** How many events to return at most, up to 200, which is the default. */
  readonly limit?: number | undefined
}

/**
 * Holds past events, the newest first. `next` is where to go on; none after the oldest that is kept. A page may hold fewer
 * events than were asked for, or none, and have a next one: each looks at so many events at most.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryPage {
  readonly events: ReadonlyArray<AccessEvent>
  readonly next: Option.Option<number>
  /** How long an event is kept; none if no sweeper of this process deletes events. */
  readonly retention: Option.Option<Duration.Duration>
}

/** How many past events are read at once, and returned at most. */
const historyPage = 200

/** How many past events are looked at for one page. */
const historyScan = 2_000

/** Tells whether a text in a value, however deep, contains the searched one, which is in lower case. */
const isMentioned = (search: string, value: unknown): boolean =>
  typeof value === "string"
    ? value.toLowerCase().includes(search)
    : typeof value === "object" && value !== null && !DateTime.isDateTime(value) && !Duration.isDuration(value) &&
      Object.values(value).some((member) => isMentioned(search, member))

/** Returns the id of the session or link that an event adds or changes. */
const changedId = ({ change }: AccessEvent): string | undefined =>
  change._tag === "sessionUpserted"
    ? change.session.id
    : change._tag === "pairingLinkUpserted"
    ? change.link.id
    : undefined

/** Returns the id of the session or link whose end an event tells. */
const endedId = ({ change }: AccessEvent): string | undefined =>
  change._tag === "sessionRemoved" || change._tag === "pairingLinkRemoved" ? change.id : undefined

/** What runs in this process and deletes events, by the feed. */
const sweepers = FeedRegister.make<{ readonly retentionMillis: number }>()

/** Returns how long an event of a feed is kept: for the shortest retention of several sweepers. */
const retentionOf = (feed: Feed): Option.Option<Duration.Duration> => {
  const shortest = Math.min(...sweepers.of(feed).map(({ retentionMillis }) => retentionMillis))
  return Number.isFinite(shortest) ? Option.some(Duration.millis(shortest)) : Option.none()
}

/** Has pages say how long events are kept, for as long as the sweeper runs that deletes them. */
export const keepFor = sweepers.add

/** Reads a page of what has happened. */
export const read = Effect.fnUntraced(function*(
  feed: Feed,
  options: HistoryOptions
): Effect.fn.Return<HistoryPage, RepositoryError> {
  const { kind, reader = "operator" } = options
  const search = options.search?.toLowerCase() ?? ""
  const limit = Math.min(options.limit ?? historyPage, historyPage)
  const found: Array<AccessEvent> = []
  // The ends that do not mention the text themselves.
  const ends = new Map<string, AccessEvent>()
  const answer = (next: Option.Option<number>): HistoryPage => ({
    events: found,
    next,
    retention: retentionOf(feed)
  })
  let before = options.before ?? Number.MAX_SAFE_INTEGER
  for (let scanned = 0; scanned < historyScan; scanned += historyPage) {
    const page = yield* feed.readBefore({ before, limit: historyPage })
    for (const event of page) {
      before = event.revision
      if (kind !== undefined && !event.change._tag.startsWith(kind)) continue
      if (!FeedReach.reaches(reader, event)) continue
      if (search === "" || isMentioned(search, [event.actor, event.change])) {
        const id = changedId(event)
        const end = id === undefined ? undefined : ends.get(id)
        if (id !== undefined && end !== undefined) {
          ends.delete(id)
          found.splice(found.findLastIndex(({ revision }) => revision > end.revision) + 1, 0, end)
        }
        found.push(event)
      } else {
        const id = endedId(event)
        if (id !== undefined) ends.set(id, event)
      }
      if (found.length < limit) continue
      // An end that was found by this event may have taken its place.
      if (found.splice(limit).length > 0) before++
      return answer(before > 1 ? Option.some(before) : Option.none())
    }
    if (page.length < historyPage) return answer(Option.none())
    // SQLite answers at once, and others are to have their turn.
    yield* Effect.yieldNow
  }
  return answer(Option.some(before))
})
