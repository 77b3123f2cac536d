/**
 * Reads the access feed of a memory store.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { AccessFeedRepository } from "../AccessFeedRepository.ts"
import { isRedeemable, toPairingLink } from "../BootstrapCredentialRepository.ts"
import { toConnectClient } from "../ConnectClientRepository.ts"
import { isLive, toSession } from "../SessionCredentialRepository.ts"
import type { MemoryState } from "./memoryState.ts"
import { byId, byThumbprint, newestLinkFirst } from "./orders.ts"

/** Makes the feed of a store. */
export const make = (state: MemoryState): AccessFeedRepository => ({
  latestRevision: Effect.sync(() => state.swept + state.events.length),
  oldestRevision: Effect.sync(() => state.swept + 1),
  read: ({ after, limit }) =>
    Effect.sync(() => {
      const from = Math.max(0, after - state.swept)
      return state.events.slice(from, from + limit)
    }),
  readBefore: ({ before, limit }) =>
    Effect.sync(() => state.events.filter(({ revision }) => revision < before).toReversed().slice(0, limit)),
  snapshot: ({ nowMillis }) =>
    Effect.sync(() => ({
      revision: state.swept + state.events.length,
      pairingLinks: Array.from(state.links.values())
        .filter((row) => isRedeemable(row, nowMillis))
        .sort(newestLinkFirst)
        .map(toPairingLink),
      sessions: Array.from(state.sessions.values()).filter((row) => isLive(row, nowMillis)).sort(byId).map(toSession),
      connectClients: Array.from(state.clients.values())
        .sort(byThumbprint)
        .map(toConnectClient),
      connectSecurityMode: state.mode
    })),
  sweep: ({ endedBeforeMillis, limit }) =>
    Effect.sync(() => {
      const kept = state.events.slice(0, limit).findIndex(({ at }) => at.epochMilliseconds >= endedBeforeMillis)
      const swept = state.events.splice(0, kept === -1 ? limit : kept).length
      state.swept += swept
      return swept
    }),
  wakeups: Stream.map(state.wakeUps.listen, () => undefined)
})
