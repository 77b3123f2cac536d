/**
 * Reads the access feed from the log that the other repositories write.
 */
import { AccessFeedRepository } from "@sallyport/core"
import { toPairingLink } from "@sallyport/core/access/BootstrapCredentialRepository"
import { toSession } from "@sallyport/core/access/SessionCredentialRepository"
import { Effect, Layer, Stream } from "effect"
import { AccessLog } from "./AccessLog.ts"
import * as Links from "./KeyValueBootstrapCredentialRepository.ts"
import * as Sessions from "./KeyValueSessionCredentialRepository.ts"

const make = Effect.map(AccessLog, ({ state, wakeups }) =>
  AccessFeedRepository.AccessFeedRepository.of({
    latestRevision: Effect.sync(() => state.events.length),
    read: ({ after, limit }) => Effect.sync(() => state.events.slice(after, after + limit)),
    // Rows and events change together in one synchronous step, and are read together in one here.
    snapshot: ({ nowMillis }) =>
      Effect.sync(() => ({
        revision: state.events.length,
        pairingLinks: Links.open(state.links.values(), nowMillis).map(toPairingLink),
        sessions: Sessions.live(state.sessions.values(), nowMillis).map(toSession)
      })),
    wakeups: Stream.map(wakeups.listen, () => undefined)
  }))

/** Provides the feed of the log. */
export const layer: Layer.Layer<AccessFeedRepository.AccessFeedRepository, never, AccessLog> = Layer.effect(
  AccessFeedRepository.AccessFeedRepository,
  make
)
