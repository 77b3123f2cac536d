/**
 * What a reader of the access feed reaches: what belongs to others does not exist for it.
 */
import type { AccessEvent } from "../AccessEvent.ts"
import type { AccessSnapshot } from "../AccessFeedRepository.ts"
import { type Principal, reachOf } from "../Principal.ts"

/** Tells whether a reader reaches the clients that connect, and the mode: who decides about them, or manages all access. */
const reachesClients = (reader: Principal): boolean =>
  reachOf(reader) === undefined || (reader !== "operator" && reader.scopes.includes("connect:manage"))

/** Tells whether a reader reaches what an event tells of. */
export const reaches = (reader: Principal, { actor, change }: AccessEvent): boolean => {
  const subject = reachOf(reader)
  if (subject === undefined) return true
  switch (change._tag) {
    case "pairingLinkUpserted":
      return change.link.subject === subject
    case "sessionUpserted":
      return change.session.subject === subject
    case "pairingLinkRemoved":
    case "sessionRemoved":
      return change.subject === subject
    case "connectClientUpserted":
    case "connectClientRemoved":
    case "connectSecurityModeUpdated":
      return reachesClients(reader)
    case "credentialUpserted":
      return actor === subject || (change.credential.scope === "user" && change.credential.owner === subject)
    case "credentialRemoved":
      return actor === subject || (change.scope === "user" && change.owner === subject)
    case "credentialRead":
      return actor === subject || (change.source === "user" && change.owner === subject)
  }
}

/** Leaves out of a snapshot what a reader does not reach. */
export const snapshotOf = (reader: Principal, snapshot: AccessSnapshot): AccessSnapshot => {
  const subject = reachOf(reader)
  if (subject === undefined) return snapshot
  const { connectClients, connectSecurityMode } = reachesClients(reader) ? snapshot : {}
  return {
    revision: snapshot.revision,
    pairingLinks: snapshot.pairingLinks.filter((link) => link.subject === subject),
    sessions: snapshot.sessions.filter((session) => session.subject === subject),
    connectClients,
    connectSecurityMode
  }
}
