import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Layer from "effect/Layer"
import { type AccessChange, AccessEvent, type ChangeContext } from "../AccessEvent.ts"
import type { PairingLinkRow } from "../BootstrapCredentialRepository.ts"
import type { ConnectClient, SecurityMode } from "../ConnectClient.ts"
import type { PairingLink } from "../PairingLink.ts"
import type { Session } from "../Session.ts"
import * as WakeUps from "../../WakeUps.ts"

/**
 * Holds the access feed of the memory repositories. Appending is synchronous, so that a repository commits its change and
 * the event in one step that no other fiber can come between. Its layer is a constant: the repositories of one runtime
 * share the journal by the layer's identity.
 */
export class AccessJournal extends Context.Service<AccessJournal, {
  readonly events: ReadonlyArray<AccessEvent>
  readonly append: (change: AccessChange, context: ChangeContext) => void
  /** The state that the events lead to, by id. */
  readonly links: ReadonlyMap<string, PairingLink>
  readonly sessions: ReadonlyMap<string, Session>
  readonly connectClients: ReadonlyMap<string, ConnectClient>
  /** The security mode that was set last. */
  readonly connectSecurityMode: () => SecurityMode | undefined
  /** Registers how a repository ends what a proof key has there. */
  readonly onEndKey: (end: (proofKeyThumbprint: string, context: ChangeContext) => void) => void
  /** Ends what a proof key has in every repository that was built. */
  readonly endKey: (proofKeyThumbprint: string, context: ChangeContext) => void
  /** Registers how a repository tells whether a proof key has something there. */
  readonly onHasAccess: (has: (proofKeyThumbprint: string, nowMillis: number) => boolean) => void
  /** Tells whether a proof key has a live session or a link that can be redeemed. */
  readonly hasAccess: (proofKeyThumbprint: string, nowMillis: number) => boolean
  /** Stores a pairing link at once, in the repository of links that was built. */
  readonly insertLink: (row: PairingLinkRow, context: ChangeContext) => void
  readonly onInsertLink: (insert: (row: PairingLinkRow, context: ChangeContext) => void) => void
  readonly wakeups: WakeUps.WakeUps
}>()("@sallyport/core/access/internal/AccessJournal") {
  static readonly layer: Layer.Layer<AccessJournal> = Layer.sync(AccessJournal, () => {
    const events: Array<AccessEvent> = []
    const links = new Map<string, PairingLink>()
    const sessions = new Map<string, Session>()
    const connectClients = new Map<string, ConnectClient>()
    let connectSecurityMode: SecurityMode | undefined
    const enders: Array<(proofKeyThumbprint: string, context: ChangeContext) => void> = []
    const holders: Array<(proofKeyThumbprint: string, nowMillis: number) => boolean> = []
    let insertLink = (_row: PairingLinkRow, _context: ChangeContext): void => undefined
    const wakeups = WakeUps.make()
    const apply = (change: AccessChange): void => {
      switch (change._tag) {
        case "pairingLinkUpserted":
          links.set(change.link.id, change.link)
          return
        case "pairingLinkRemoved":
          links.delete(change.id)
          return
        case "sessionUpserted":
          sessions.set(change.session.id, change.session)
          return
        case "sessionRemoved":
          sessions.delete(change.id)
          return
        case "connectClientUpserted":
          connectClients.set(change.client.proofKeyThumbprint, change.client)
          return
        case "connectClientRemoved":
          connectClients.delete(change.proofKeyThumbprint)
          return
        case "connectSecurityModeUpdated":
          connectSecurityMode = change.mode
          return
        // A snapshot holds no credentials: readers ask for those that they may see.
        case "credentialUpserted":
        case "credentialRemoved":
        case "credentialRead":
          return
      }
    }
    return AccessJournal.of({
      events,
      links,
      sessions,
      connectClients,
      connectSecurityMode: () => connectSecurityMode,
      onEndKey: (end) => {
        enders.push(end)
      },
      endKey: (proofKeyThumbprint, context) => {
        for (const end of enders) end(proofKeyThumbprint, context)
      },
      onHasAccess: (has) => {
        holders.push(has)
      },
      hasAccess: (proofKeyThumbprint, nowMillis) => holders.some((has) => has(proofKeyThumbprint, nowMillis)),
      onInsertLink: (insert) => {
        insertLink = insert
      },
      insertLink: (row, context) => insertLink(row, context),
      wakeups,
      append: (change, { actor, nowMillis }) => {
        events.push(
          new AccessEvent({ revision: events.length + 1, change, actor, at: DateTime.makeUnsafe(nowMillis) })
        )
        apply(change)
        wakeups.notify("access_feed", events.length)
      }
    })
  })
}
