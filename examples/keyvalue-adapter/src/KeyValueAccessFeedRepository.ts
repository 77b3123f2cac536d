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
export const make = ({ state, wakeups }: AccessLog["Service"]): AccessFeedRepository => ({
  latestRevision: Effect.sync(() => state.events.length),
  read: ({ after, limit }) => Effect.sync(() => state.events.slice(after, after + limit)),
  // Rows and events change in one step, which no other fiber sees half done, and are read in one step here.
  snapshot: ({ nowMillis }) =>
    Effect.sync(() => ({
      revision: state.events.length,
      pairingLinks: Links.open(state.links.values(), nowMillis).map(toPairingLink),
      sessions: Sessions.live(state.sessions.values(), nowMillis).map(toSession)
    })),
  wakeups: Stream.map(wakeups.listen, () => undefined)
})
