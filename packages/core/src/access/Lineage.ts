/**
 * What a revocation ends: sessions, their links, and what descends from them; and how many a session may let in.
 */
import { isRedeemable, type PairingLinkRow } from "./BootstrapCredentialRepository.ts"
import { byId } from "./internal/orders.ts"
import type { SessionId } from "./Session.ts"
import {
  endsDescendants,
  isLive,
  isTarget,
  type RevocationTarget,
  type SessionRow
} from "./SessionCredentialRepository.ts"

const isTargetLink = (target: RevocationTarget, link: PairingLinkRow): boolean => {
  switch (target._tag) {
    case "Subject":
      return link.subject === target.subject
    case "ProofKey":
      return link.proofKeyThumbprint === target.proofKeyThumbprint || link.id === target.linkId
    case "IssuedBefore":
      return link.createdAtMillis < target.beforeMillis
    default:
      return false
  }
}

/** Returns the sessions that each session has let in. */
const childrenOf = (sessions: Iterable<SessionRow>): ReadonlyMap<SessionId, ReadonlyArray<SessionRow>> => {
  const children = new Map<SessionId, Array<SessionRow>>()
  for (const row of sessions) {
    if (row.parentId === null) continue
    const siblings = children.get(row.parentId)
    if (siblings === undefined) children.set(row.parentId, [row])
    else siblings.push(row)
  }
  return children
}

/**
 * Says which live sessions and open links of a store a revocation ends, in the order of their ids. The session that issues a
 * link stands above the one that comes from it, through every generation, also if a session in between has ended before. The
 * open links of each session that ends, or had ended, end with it.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const revocationVerdict = (
  store: { readonly sessions: Iterable<SessionRow>; readonly links: Iterable<PairingLinkRow> },
  target: RevocationTarget,
  nowMillis: number
): { readonly sessions: ReadonlyArray<SessionRow>; readonly links: ReadonlyArray<PairingLinkRow> } => {
  const sessions = Array.from(store.sessions)
  const children = childrenOf(sessions)
  const covered = new Map<SessionId, SessionRow>()
  const named = sessions.filter((row) => isTarget(target, row))
  let generation = target._tag === "IssuedBefore" && target.limit !== undefined
    ? named.filter((row) => isLive(row, nowMillis)).sort(byId).slice(0, target.limit)
    : named
  while (generation.length > 0) {
    for (const row of generation) covered.set(row.id, row)
    generation = endsDescendants(target)
      ? generation.flatMap(({ id }) => children.get(id) ?? []).filter(({ id }) =>
        id !== target.keep && !covered.has(id)
      )
      : []
  }
  return {
    sessions: Array.from(covered.values()).filter((row) => isLive(row, nowMillis)).sort(byId),
    links: Array.from(store.links)
      .filter((row) =>
        isRedeemable(row, nowMillis) &&
        (isTargetLink(target, row) || (row.issuedBy !== null && covered.has(row.issuedBy)))
      )
      .sort(byId)
  }
}

/**
 * Counts what a session has let in: live sessions, and the uses that open links have left. A session without a parent counts
 * what it let in itself. Any other counts all that descends from the session of the first generation that it is, or descends
 * from: so it gains nothing by letting in others that let in more, and uses up nothing of its ancestors and their other
 * children.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const countLetIn = (
  store: { readonly sessions: ReadonlyMap<SessionId, SessionRow>; readonly links: Iterable<PairingLinkRow> },
  issuer: SessionId,
  nowMillis: number
): number => {
  const parentOf = (id: SessionId) => store.sessions.get(id)?.parentId ?? null
  const children = childrenOf(store.sessions.values())
  const above = parentOf(issuer)
  let branch = issuer
  for (let id = above; id !== null && parentOf(id) !== null; id = parentOf(id)) branch = id
  const letIn: Array<SessionRow> = []
  for (let generation = children.get(branch) ?? []; generation.length > 0;) {
    letIn.push(...generation)
    generation = above === null ? [] : generation.flatMap(({ id }) => children.get(id) ?? [])
  }
  const issuers = new Set([branch, ...above === null ? [] : letIn.map(({ id }) => id)])
  return Array.from(store.links)
    .filter((link) => link.issuedBy !== null && issuers.has(link.issuedBy) && isRedeemable(link, nowMillis))
    .reduce((sum, link) => sum + link.remainingUses, letIn.filter((row) => isLive(row, nowMillis)).length)
}
