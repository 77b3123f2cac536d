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
  latestRevision: Effect.sync(() => state.sweptRevision + state.events.length),
  sweptRevision: Effect.sync(() => state.sweptRevision),
  read: ({ after, limit }) =>
    Effect.sync(() => {
      const from = Math.max(0, after - state.sweptRevision)
      return state.events.slice(from, from + limit)
    }),
  // The log keeps the changes that the events came with; what is read is the state, which forgets them.
  sweep: ({ endedBeforeMillis, limit }) =>
    change("sweep", ({ events, sweptRevision }) => {
      const kept = events.findIndex(({ at }) => at.epochMilliseconds > endedBeforeMillis)
      const due = Math.min(kept === -1 ? Infinity : kept, limit, Math.max(0, events.length - 1))
      return due === 0 ? { answer: 0 } : { answer: due, change: { sweptRevision: sweptRevision + due } }
    }),
  // Rows and events change in one step, which no other fiber sees half done, and are read in one step here.
  snapshot: ({ nowMillis }) =>
    Effect.sync(() => ({
      revision: state.sweptRevision + state.events.length,
      pairingLinks: Links.open(state.links.values(), nowMillis).map(toPairingLink),
      sessions: Sessions.live(state.sessions.values(), nowMillis).map(toSession)
    })),
  wakeups: Stream.map(wakeups.listen, () => undefined)
})
