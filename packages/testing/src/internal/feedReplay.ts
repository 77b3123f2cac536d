/**
 * What the changes of the access feed lead to. It is what the feed and its readers are compared with, and shares nothing
 * with them.
 */
import type { AccessChange } from "@sallyport/core/access/AccessEvent"
import type { ConnectClient, SecurityMode } from "@sallyport/core/access/ConnectClient"
import { initialMode } from "@sallyport/core/access/ConnectClientRepository"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import type { Session } from "@sallyport/core/access/Session"

/** Returns the first n revisions. */
export const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1)

/** Follows changes as a cache would, and returns what is there after them. */
export const replay = (changes: Iterable<AccessChange>) => {
  const links = new Map<string, PairingLink>()
  const sessions = new Map<string, Session>()
  const clients = new Map<string, ConnectClient>()
  let mode: SecurityMode = initialMode
  for (const change of changes) {
    switch (change._tag) {
      case "pairingLinkUpserted":
        links.set(change.link.id, change.link)
        break
      case "pairingLinkRemoved":
        links.delete(change.id)
        break
      case "sessionUpserted":
        sessions.set(change.session.id, change.session)
        break
      case "sessionRemoved":
        sessions.delete(change.id)
        break
      case "connectClientUpserted":
        clients.set(change.client.proofKeyThumbprint, change.client)
        break
      case "connectClientRemoved":
        clients.delete(change.proofKeyThumbprint)
        break
      case "connectSecurityModeUpdated":
        mode = change.mode
        break
    }
  }
  return { links, sessions, clients, mode }
}
