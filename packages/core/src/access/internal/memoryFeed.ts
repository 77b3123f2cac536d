/**
 * Reads the access feed of a memory store.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { AccessFeedRepository } from "../AccessFeedRepository.ts"
import { isRedeemable, toPairingLink } from "../BootstrapCredentialRepository.ts"
import { toConnectClient } from "../ConnectClientRepository.ts"
import { isLive, toSession } from "../SessionCredentialRepository.ts"
import { byId, type MemoryState } from "./memoryState.ts"

/** Makes the feed of a store. */
export const make = (state: MemoryState): AccessFeedRepository => ({
  latestRevision: Effect.sync(() => state.events.length),
  read: ({ after, limit }) => Effect.sync(() => state.events.slice(after, after + limit)),
  snapshot: ({ nowMillis }) =>
    Effect.sync(() => ({
      revision: state.events.length,
      pairingLinks: Array.from(state.links.values())
        .filter((row) => isRedeemable(row, nowMillis))
        .sort((a, b) => b.createdAtMillis - a.createdAtMillis || byId(b, a))
        .map(toPairingLink),
      sessions: Array.from(state.sessions.values()).filter((row) => isLive(row, nowMillis)).sort(byId).map(toSession),
      connectClients: Array.from(state.clients.values())
        .sort((a, b) => a.proofKeyThumbprint < b.proofKeyThumbprint ? -1 : 1)
        .map(toConnectClient),
      connectSecurityMode: state.mode
    })),
  wakeups: Stream.map(state.wakeUps.listen, () => undefined)
})
