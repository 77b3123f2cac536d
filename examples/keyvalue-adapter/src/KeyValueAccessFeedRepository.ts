/**
 * Reads the access feed from the log that the other repositories write.
 */
import type { AccessFeedRepository } from "@sallyport/core/access/AccessFeedRepository"
import { toPairingLink } from "@sallyport/core/access/BootstrapCredentialRepository"
import { toSession } from "@sallyport/core/access/SessionCredentialRepository"
import { Effect, Stream } from "effect"
import type { AccessLog } from "./AccessLog.ts"
import * as Links from "./KeyValueBootstrapCredentialRepository.ts"
import * as Sessions from "./KeyValueSessionCredentialRepository.ts"

/** Creates the feed of the log. */
export const make = ({ change, state, wakeups }: AccessLog["Service"]): AccessFeedRepository => ({
  latestRevision: Effect.sync(() => state.swept + state.events.length),
  oldestRevision: Effect.sync(() => state.swept + 1),
  read: ({ after, limit }) =>
    Effect.sync(() => {
      const from = Math.max(0, after - state.swept)
      return state.events.slice(from, from + limit)
    }),
  // Rows and events change in one step, which no other fiber sees half done, and are read in one step here.
  snapshot: ({ nowMillis }) =>
    Effect.sync(() => ({
      revision: state.swept + state.events.length,
      pairingLinks: Links.open(state.links.values(), nowMillis).map(toPairingLink),
      sessions: Sessions.live(state.sessions.values(), nowMillis).map(toSession)
    })),
  sweep: ({ endedBeforeMillis, limit }) =>
    change("sweep", ({ events }) => {
      const oldest = events.slice(0, limit)
      const kept = oldest.findIndex(({ at }) => at.epochMilliseconds >= endedBeforeMillis)
      const sweptEvents = kept === -1 ? oldest.length : kept
      return { answer: sweptEvents, ...(sweptEvents === 0 ? {} : { change: { sweptEvents } }) }
    }),
  wakeups: Stream.map(wakeups.listen, () => undefined)
})
