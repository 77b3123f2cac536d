/**
 * What the memory store of the access state holds. Its parts change it synchronously, so that a change and its event are one
 * step that no other fiber can come between.
 */
import * as DateTime from "effect/DateTime"
import * as WakeUps from "../../WakeUps.ts"
import { type AccessChange, AccessEvent, type ChangeContext } from "../AccessEvent.ts"
import type { AuthorizationCodeRow } from "../AuthorizationCodeRepository.ts"
import type { PairingLinkRow } from "../BootstrapCredentialRepository.ts"
import type { SecurityMode } from "../ConnectClient.ts"
import { type ConnectClientRow, initialMode } from "../ConnectClientRepository.ts"
import type { ScopedCredentialRow } from "../ScopedCredentialRepository.ts"
import type { SessionId } from "../Session.ts"
import type { SessionRow, TicketRow } from "../SessionCredentialRepository.ts"

/** Describes the rows of a store, by id or digest, and its feed. */
export interface MemoryState {
  readonly links: Map<string, PairingLinkRow>
  readonly linkIds: Map<string, string>
  readonly sessions: Map<SessionId, SessionRow>
  readonly sessionIds: Map<string, SessionId>
  readonly tickets: Map<string, TicketRow>
  readonly codes: Map<string, AuthorizationCodeRow>
  readonly clients: Map<string, ConnectClientRow>
  mode: SecurityMode
  readonly credentials: Map<string, ScopedCredentialRow>
  readonly events: Array<AccessEvent>
  /** How many events before those have been deleted. */
  swept: number
  readonly wakeUps: WakeUps.WakeUps
}

/** Makes an empty store. */
export const make = (): MemoryState => ({
  links: new Map(),
  linkIds: new Map(),
  sessions: new Map(),
  sessionIds: new Map(),
  tickets: new Map(),
  codes: new Map(),
  clients: new Map(),
  mode: initialMode,
  credentials: new Map(),
  events: [],
  swept: 0,
  wakeUps: WakeUps.make()
})

/** Appends a change to the feed. */
export const append = (
  state: MemoryState,
  change: AccessChange,
  { actor, nowMillis }: ChangeContext
): void => {
  const { events, wakeUps } = state
  const revision = state.swept + events.length + 1
  events.push(new AccessEvent({ revision, change, actor, at: DateTime.makeUnsafe(nowMillis) }))
  wakeUps.notify("access_feed", revision)
}
