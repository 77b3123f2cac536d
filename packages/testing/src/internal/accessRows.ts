import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert } from "@effect/vitest"
import type { AccessEvent, ChangeContext } from "@sallyport/core/access/AccessEvent"
import type { PairingLinkRow, Redemption } from "@sallyport/core/access/BootstrapCredentialRepository"
import type { Ask } from "@sallyport/core/access/ConnectClientRepository"
import { Device, SessionId } from "@sallyport/core/access/Session"
import type { SessionRow } from "@sallyport/core/access/SessionCredentialRepository"
import * as Effect from "effect/Effect"

/** The time at which most tests begin, in milliseconds since the epoch. */
export const start = 1_800_000_000_000

/** A change made at `start + afterMillis`. */
export const at = (afterMillis: number, actor = "operator"): ChangeContext => ({
  actor,
  nowMillis: start + afterMillis
})

/** A session that was opened at {@link start} and ends 10 seconds later. Everything follows from its id. */
export const sessionRow = (id: string, fields?: Partial<SessionRow>): SessionRow => ({
  id: SessionId.make(id),
  subject: "ada",
  method: "bearer-access-token",
  scopes: ["access:read", "runs:read"],
  scopeRequest: null,
  proofKeyThumbprint: null,
  linkId: null,
  parentId: null,
  letInBy: "operator",
  client: null,
  device: new Device({ label: null, kind: "program", userAgent: null, address: null }),
  tokenDigest: `token-digest-of-${id}`,
  keyId: "key-1",
  tokenExpiresAtMillis: null,
  refreshDigest: null,
  previousRefreshDigest: null,
  refreshedAtMillis: null,
  tokensUsedAtMillis: null,
  redemptionDigest: null,
  createdAtMillis: start,
  lastSeenAtMillis: start,
  expiresAtMillis: start + 10_000,
  lifetimeMillis: null,
  absoluteExpiresAtMillis: null,
  revokedAtMillis: null,
  revokedBy: null,
  ...fields
})

/** A link that was made at {@link start}, ends 10 seconds later and can be used once. Everything follows from its id. */
export const linkRow = (id: string, fields?: Partial<PairingLinkRow>): PairingLinkRow => ({
  id,
  codeDigest: `code-digest-of-${id}`,
  label: null,
  subject: "ada",
  scopes: ["access:read", "runs:read"],
  proofKeyThumbprint: null,
  remainingUses: 1,
  createdBy: "operator",
  issuedBy: null,
  sessionLifetimeMillis: null,
  sessionEndsAtMillis: null,
  createdAtMillis: start,
  expiresAtMillis: start + 10_000,
  revokedAtMillis: null,
  ...fields
})

/** The request of a client of a relay with a key, which waits for a second. */
export const askRow = (proofKeyThumbprint: string, fields?: Partial<Ask>): Ask => ({
  proofKeyThumbprint,
  account: "ada",
  label: null,
  deviceType: "phone",
  verificationCode: "CODE",
  pendingMillis: 1_000,
  maxPending: 3,
  maxObserved: 3,
  ...fields
})

let redemptions = 0

/**
 * Redeems the link of an id for a new session, which asks for all that {@link linkRow} grants unless `fields` say otherwise.
 */
export const redemption = (id: string, fields?: Partial<SessionRow>): Redemption => ({
  codeDigest: `code-digest-of-${id}`,
  session: sessionRow(`session-${++redemptions}-of-${id}`, fields),
  repeatMillis: 0,
  replaces: undefined
})

/** Reads the whole feed. */
export const allEvents = Effect.gen(function*() {
  const feed = (yield* AccessRepository).feed
  return yield* feed.read({ after: 0, limit: 1_000_000 })
})

/** Shortens an event to its type, the id that it is about, and why it was removed. */
export const brief = ({ change }: AccessEvent): string => {
  switch (change._tag) {
    case "pairingLinkUpserted":
      return `${change._tag} ${change.link.id} ${change.link.remainingUses}`
    case "sessionUpserted":
      return `${change._tag} ${change.session.id}`
    case "connectClientUpserted":
      return `${change._tag} ${change.client.proofKeyThumbprint.slice(0, 1)} ${change.client.status}`
    case "connectClientRemoved":
      return `${change._tag} ${change.proofKeyThumbprint.slice(0, 1)} ${change.reason}`
    case "connectSecurityModeUpdated":
      return `${change._tag} ${change.mode}`
    case "pairingLinkRemoved":
    case "sessionRemoved":
      return `${change._tag} ${change.id} ${change.reason}`
    case "credentialUpserted":
      return `${change._tag} ${change.credential.scope} ${change.credential.owner} ${change.credential.key}`
    case "credentialRemoved":
      return `${change._tag} ${change.scope} ${change.owner} ${change.key}`
    case "credentialRead":
      return `${change._tag} ${change.source} ${change.owner} ${change.key} ${change.count}`
  }
}

/** Asserts that the feed has these events, shortened by {@link brief}, numbered from 1 without a gap. */
export const expectFeed = Effect.fnUntraced(function*(...expected: ReadonlyArray<string>) {
  const events = yield* allEvents
  assert.deepStrictEqual(events.map(brief), expected)
  assert.deepStrictEqual(events.map((event) => event.revision), expected.map((_, index) => index + 1))
})
