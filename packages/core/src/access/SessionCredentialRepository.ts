/**
 * Where sessions and their upgrade tickets are kept: a few atomic steps on rows, without policy.
 *
 * Every step that changes a session appends its event to the access feed in the same transaction.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { ChangeContext } from "./AccessEvent.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import { AccessScope, missing, widening } from "./AccessScope.ts"
import { Device, Revocation, Session, SessionClient, SessionId, SessionMethod } from "./Session.ts"

/**
 * Describes a session as it is stored. Times are milliseconds since the epoch; the token is there as a digest only.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionRow = Schema.Struct({
  id: SessionId,
  subject: Schema.NonEmptyString,
  method: SessionMethod,
  scopes: Schema.Array(AccessScope),
  /** What the session has asked for beside its scopes, or null: see `ScopeRequest`. */
  scopeRequest: Schema.NullOr(Schema.Struct({
    scopes: Schema.Array(AccessScope),
    requestedAtMillis: Schema.Natural,
    expiresAtMillis: Schema.Natural
  })),
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  /** The pairing link that the session came from, or null if the host began it without one. */
  linkId: Schema.NullOr(Schema.NonEmptyString),
  /** The session that issued that link, or null if the operator did, or a relay's grant. */
  parentId: Schema.NullOr(SessionId),
  /** Who let the device in: see `LetInBy`. */
  letInBy: Schema.NonEmptyString,
  /** The program that the session was granted to, by consent or as a device, or null. */
  client: Schema.NullOr(SessionClient),
  device: Device,
  /** SHA-256 of the token, in lowercase hex. Unique. */
  tokenDigest: Schema.NonEmptyString,
  /** The `kid` of the key that signed the token, and the refresh token if there is one. */
  keyId: Schema.NonEmptyString,
  /** When the token ends if that is before the session does, which then takes a refresh token; null otherwise. */
  tokenExpiresAtMillis: Schema.NullOr(Schema.Natural),
  /** SHA-256 of the refresh token, in lowercase hex, or null if the session has none. */
  refreshDigest: Schema.NullOr(Schema.NonEmptyString),
  /** That of the refresh token before it, or null before the first refresh. */
  previousRefreshDigest: Schema.NullOr(Schema.NonEmptyString),
  /** When the tokens were issued, or null if there is no refresh token. */
  refreshedAtMillis: Schema.NullOr(Schema.Natural),
  /** When one of the tokens that followed the ones before was first used, by the store's clock; null until then. */
  tokensUsedAtMillis: Schema.NullOr(Schema.Natural),
  /** A keyed digest of the attempt that redeemed a code for the session, by which it is known if it is made again, or null. */
  redemptionDigest: Schema.NullOr(Schema.NonEmptyString),
  createdAtMillis: Schema.Natural,
  /** When the row was last renewed; activity since then may be up to one renewal interval newer. */
  lastSeenAtMillis: Schema.Natural,
  expiresAtMillis: Schema.Natural,
  /** How long the session goes on after a renewal, or null if the caller of the renewal says. */
  lifetimeMillis: Schema.NullOr(Schema.Natural),
  /** The end that no renewal moves, or null. */
  absoluteExpiresAtMillis: Schema.NullOr(Schema.Natural),
  revokedAtMillis: Schema.NullOr(Schema.Natural),
  /** Who revoked it, or null while it is not revoked. */
  revokedBy: Schema.NullOr(Revocation)
})
/**
 * @see {@link SessionRow}
 *
 * @category models
 * @since 0.1.0
 */
export type SessionRow = typeof SessionRow.Type

/**
 * Returns what hosts and events see of a row.
 *
 * @category converting
 * @since 0.1.0
 */
export const toSession = (row: SessionRow): Session =>
  new Session({
    id: row.id,
    subject: row.subject,
    method: row.method,
    scopes: row.scopes,
    scopeRequest: row.scopeRequest === null ? null : {
      scopes: row.scopeRequest.scopes,
      requestedAt: DateTime.makeUnsafe(row.scopeRequest.requestedAtMillis),
      expiresAt: DateTime.makeUnsafe(row.scopeRequest.expiresAtMillis)
    },
    proofKeyThumbprint: row.proofKeyThumbprint,
    device: row.device,
    letInBy: { actor: row.letInBy, sessionId: row.parentId, linkId: row.linkId },
    client: row.client,
    lifetime: row.lifetimeMillis === null ? null : Duration.millis(row.lifetimeMillis),
    createdAt: DateTime.makeUnsafe(row.createdAtMillis),
    lastSeenAt: DateTime.makeUnsafe(row.lastSeenAtMillis),
    expiresAt: DateTime.makeUnsafe(row.expiresAtMillis),
    absoluteExpiresAt: row.absoluteExpiresAtMillis === null ? null : DateTime.makeUnsafe(row.absoluteExpiresAtMillis)
  })

/**
 * Returns when a session ends if it is used at a time: its own lifetime after that, or the given one if it has none, and
 * not past its absolute end.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const endAfterUse = (
  row: Pick<SessionRow, "absoluteExpiresAtMillis" | "lifetimeMillis">,
  nowMillis: number,
  lifetimeMillis: number
): number =>
  Math.min(nowMillis + (row.lifetimeMillis ?? lifetimeMillis), row.absoluteExpiresAtMillis ?? Number.MAX_SAFE_INTEGER)

/**
 * Tells whether a row lets a caller in at a time.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isLive = (row: SessionRow, nowMillis: number): boolean =>
  row.revokedAtMillis === null && row.expiresAtMillis > nowMillis

/**
 * Says why a refresh token was refused. For the log: a caller learns less.
 *
 * @category models
 * @since 0.1.0
 */
export const RefreshRefusal = Schema.Literals([
  "unknown",
  "revoked",
  "expired",
  "proof-key-mismatch",
  "client-mismatch",
  "resource-mismatch",
  "scope-not-held"
])
/**
 * @see {@link RefreshRefusal}
 *
 * @category models
 * @since 0.1.0
 */
export type RefreshRefusal = typeof RefreshRefusal.Type

/**
 * Describes the client that presents a refresh token, and the resource that it asks for, if it names one.
 *
 * @category models
 * @since 0.1.0
 */
export interface PresentingClient {
  readonly id: string
  readonly resource?: string | null | undefined
}

/**
 * Describes what came of an attempt to refresh a session.
 *
 * @category models
 * @since 0.1.0
 */
export type RefreshOutcome =
  | { readonly _tag: "Refreshed"; readonly row: SessionRow }
  /** The refresh token is the one before the present one, which was not used yet, or not for long. Nothing was changed. */
  | { readonly _tag: "Repeated"; readonly row: SessionRow }
  /** The refresh token was used up before. The session has been revoked by this very attempt. */
  | { readonly _tag: "Reused" }
  /** Nothing was changed. */
  | { readonly _tag: "Refused"; readonly reason: RefreshRefusal }

/**
 * Judges a refresh token against the row of the session that it was issued for: it is the present one (`current`), or the
 * one before, whose successors have not been used for long (`repeated`), or were not used before their token expired
 * (`extended`), or an older one (`reused`).
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refreshVerdict = (row: SessionRow | undefined, attempt: {
  readonly presentedDigest: string
  readonly proofKeyThumbprint: string | undefined
  readonly client?: PresentingClient | undefined
  readonly scopes: ReadonlyArray<AccessScope>
  readonly graceMillis: number
  readonly nowMillis: number
  /** How long ago `tokensUsedAtMillis` was, by the clock that set it. */
  readonly usedForMillis: number
}): "current" | "repeated" | "extended" | "reused" | RefreshRefusal => {
  if (row === undefined || row.refreshDigest === null) return "unknown"
  if (row.revokedAtMillis !== null) return "revoked"
  if (row.expiresAtMillis <= attempt.nowMillis) return "expired"
  // Before reuse is looked for: who doesn't hold the key is not to end the session of who does.
  if (row.proofKeyThumbprint !== null && row.proofKeyThumbprint !== attempt.proofKeyThumbprint) {
    return "proof-key-mismatch"
  }
  if (row.client !== null) {
    if (row.client.id !== attempt.client?.id) return "client-mismatch"
    const { resource } = attempt.client
    if (resource !== undefined && resource !== row.client.resource) return "resource-mismatch"
  }
  const isCurrent = row.refreshDigest === attempt.presentedDigest
  const isParent = row.previousRefreshDigest === attempt.presentedDigest &&
    (row.tokensUsedAtMillis === null || attempt.usedForMillis < attempt.graceMillis)
  if (!isCurrent && !isParent) return "reused"
  if (missing(row.scopes, attempt.scopes).length > 0) return "scope-not-held"
  if (isCurrent) return "current"
  return (row.tokenExpiresAtMillis ?? Infinity) <= attempt.nowMillis ? "extended" : "repeated"
}

/**
 * Returns the row of a session whose tokens were exchanged for the next ones: it is seen now, and its end moves.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const refreshed = (row: SessionRow, exchange: {
  readonly verdict: "current" | "extended"
  readonly next: NextTokens
  readonly lifetimeMillis: number
  readonly nowMillis: number
}): SessionRow => ({
  ...row,
  ...exchange.next,
  previousRefreshDigest: exchange.verdict === "current" ? row.refreshDigest : row.previousRefreshDigest,
  refreshedAtMillis: exchange.nowMillis,
  tokensUsedAtMillis: null,
  lastSeenAtMillis: exchange.nowMillis,
  expiresAtMillis: endAfterUse(row, exchange.nowMillis, exchange.lifetimeMillis)
})

/**
 * Describes the tokens that follow those of a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface NextTokens {
  readonly tokenDigest: string
  readonly refreshDigest: string
  readonly keyId: string
  readonly tokenExpiresAtMillis: number
}

/**
 * Returns the row of a session that asks for more scopes: with a request for those that it lacks, in place of the one
 * before. The row stays as it is if the session has them all, or has asked for the same and still waits.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const withScopeRequest = (
  row: SessionRow,
  ask: { readonly scopes: ReadonlyArray<AccessScope>; readonly lifetimeMillis: number; readonly nowMillis: number }
): SessionRow => {
  const scopes = Array.from(new Set(missing(row.scopes, ask.scopes)))
  const before = row.scopeRequest
  const isWaiting = before !== null && before.expiresAtMillis > ask.nowMillis &&
    before.scopes.length === scopes.length &&
    missing(before.scopes, scopes).length === 0
  return scopes.length === 0 || isWaiting ? row : {
    ...row,
    scopeRequest: {
      scopes,
      // Also if the clock was set back: an answer is to one request.
      requestedAtMillis: Math.max(ask.nowMillis, (before?.requestedAtMillis ?? -1) + 1),
      expiresAtMillis: ask.nowMillis + ask.lifetimeMillis
    }
  }
}

/**
 * Describes what came of an answer to a session that asks for more scopes. Only `Answered` changes something.
 *
 * @category models
 * @since 0.1.0
 */
export type ScopeOutcome =
  | { readonly _tag: "Answered"; readonly row: SessionRow }
  /** There is no such live session, or it is not the approver's to decide about. */
  | { readonly _tag: "Unknown" }
  /** The session does not wait for an answer to this request, or did not ask for these scopes. */
  | { readonly _tag: "Changed" }
  | { readonly _tag: "ApproverEnded" }
  /** The approver may not grant some of the scopes. */
  | { readonly _tag: "NotHeld"; readonly scopes: ReadonlyArray<AccessScope> }

/**
 * Tells whether a session may grant a scope to another one. It has to have it. What widens or approves access is for the
 * operator to grant: it would stay when the session that granted it is put out. What is bound to a key does not pass to a
 * session that proves none.
 */
const mayGrant = (approver: SessionRow, row: SessionRow, scope: AccessScope): boolean =>
  approver.scopes.includes(scope) && !widening.includes(scope) &&
  (approver.proofKeyThumbprint === null || row.proofKeyThumbprint !== null)

/**
 * Judges the answer to a session that asks for more scopes, by the rows of that session and of the one that answers. A
 * session answers its own subject's, or with `access:manage` everyone's, and grants what it holds itself, but for
 * `AccessScope.widening`; one that is bound to a key grants nothing to one that is not.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const scopeVerdict = (row: SessionRow | undefined, approver: SessionRow | "operator" | undefined, answer: {
  readonly requestedAtMillis: number
  readonly scopes: ReadonlyArray<AccessScope>
  readonly nowMillis: number
}): ScopeOutcome => {
  const { nowMillis, requestedAtMillis, scopes } = answer
  if (approver === undefined || (approver !== "operator" && !isLive(approver, nowMillis))) {
    return { _tag: "ApproverEnded" }
  }
  if (
    row === undefined || !isLive(row, nowMillis) ||
    (approver !== "operator" && row.subject !== approver.subject && !approver.scopes.includes("access:manage"))
  ) {
    return { _tag: "Unknown" }
  }
  const request = row.scopeRequest
  if (
    request === null || request.requestedAtMillis !== requestedAtMillis || request.expiresAtMillis <= nowMillis ||
    missing(request.scopes, scopes).length > 0
  ) {
    return { _tag: "Changed" }
  }
  const lacking = approver === "operator" ? [] : scopes.filter((scope) => !mayGrant(approver, row, scope))
  return lacking.length > 0 ? { _tag: "NotHeld", scopes: lacking } : {
    _tag: "Answered",
    row: {
      ...row,
      scopes: [...row.scopes, ...request.scopes.filter((scope) => scopes.includes(scope))],
      scopeRequest: null
    }
  }
}

/**
 * Selects what a revocation ends. `keep` is the session that asks: unless it is a target itself, neither it ends nor what
 * descends from it.
 *
 * @category models
 * @since 0.1.0
 */
export type RevocationTarget =
  /** A session, if it is the subject's that is named; and if asked for, all that descends from it. */
  | {
    readonly _tag: "Session"
    readonly id: SessionId
    readonly subject?: string | undefined
    readonly descendants?: boolean | undefined
    readonly keep?: SessionId | undefined
  }
  /** A subject's sessions but one, and all that descends from them. */
  | { readonly _tag: "SubjectExcept"; readonly subject: string; readonly keep: SessionId }
  /** A subject's sessions, all that descends from them, and the links for the subject. */
  | { readonly _tag: "Subject"; readonly subject: string; readonly keep?: SessionId | undefined }
  /**
   * A key's sessions, all that descends from them, and the links that only this key redeems; and a link, with the sessions
   * that came from it, if one is named.
   */
  | {
    readonly _tag: "ProofKey"
    readonly proofKeyThumbprint: string
    readonly linkId?: string | undefined
    readonly keep?: SessionId | undefined
  }
  /**
   * Sessions and links from before a time, and all that descends from these sessions. With `limit`, the first so many live
   * sessions of them by their ids, so that a step on many stays short.
   */
  | {
    readonly _tag: "IssuedBefore"
    readonly beforeMillis: number
    readonly limit?: number | undefined
    readonly keep?: SessionId | undefined
  }

/**
 * Tells whether a revocation ends what descends from its target as well.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const endsDescendants = (target: RevocationTarget): boolean =>
  target._tag !== "Session" || target.descendants === true

/**
 * Tells whether a revocation names a session, leaving aside what it descends from.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const isTarget = (
  target: RevocationTarget,
  session: Pick<SessionRow, "id" | "subject" | "proofKeyThumbprint" | "createdAtMillis"> & {
    readonly linkId?: string | null
  }
): boolean => {
  switch (target._tag) {
    case "Session":
      return session.id === target.id && (target.subject === undefined || session.subject === target.subject)
    case "SubjectExcept":
      return session.subject === target.subject && session.id !== target.keep
    case "Subject":
      return session.subject === target.subject
    case "ProofKey":
      return session.proofKeyThumbprint === target.proofKeyThumbprint ||
        (target.linkId !== undefined && session.linkId === target.linkId)
    case "IssuedBefore":
      return session.createdAtMillis < target.beforeMillis
  }
}

/**
 * Returns what the row of a session says of the revocation that ends it: `keep` is the session that asks.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const revocationOf = (
  { keep }: { readonly keep?: SessionId | undefined },
  { actor }: Pick<ChangeContext, "actor">,
  descended: boolean
): Revocation => ({ actor, sessionId: keep ?? null, descended })

/**
 * Counts, for each of some sessions, the live sessions that descend from it, through every generation. `rows` are these
 * sessions and all that descends from them.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const countDescendants = (
  ids: Iterable<SessionId>,
  rows: Iterable<{ readonly id: SessionId; readonly parentId: SessionId | null; readonly isLive: boolean }>
): ReadonlyMap<SessionId, number> => {
  const counts = new Map<SessionId, number>()
  for (const id of ids) counts.set(id, 0)
  const known = new Map(Array.from(rows, (row) => [row.id, row]))
  for (const row of known.values()) {
    if (!row.isLive) continue
    for (let above = row.parentId; above !== null; above = known.get(above)?.parentId ?? null) {
      const count = counts.get(above)
      if (count !== undefined) counts.set(above, count + 1)
    }
  }
  return counts
}

/**
 * Lists what a revocation has ended, in the order of the ids.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly sessions: ReadonlyArray<SessionId>
  readonly links: ReadonlyArray<string>
}

/**
 * Describes a stored ticket: a digest, the session that it stands for, and its end.
 *
 * @category models
 * @since 0.1.0
 */
export const TicketRow = Schema.Struct({
  /** SHA-256 of the ticket, in lowercase hex. */
  ticketDigest: Schema.NonEmptyString,
  sessionId: SessionId,
  expiresAtMillis: Schema.Natural
})
/**
 * @see {@link TicketRow}
 *
 * @category models
 * @since 0.1.0
 */
export type TicketRow = typeof TicketRow.Type

/**
 * Bounds the tickets of a session that have not been redeemed.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxTickets = 32

/**
 * Provides the atomic steps on sessions and tickets.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionCredentialRepository {
  /**
   * Stores a new session and appends `sessionUpserted`, in one transaction. The id and the digest are fresh random
   * values; one that exists already is an error and changes nothing.
   */
  readonly insert: (row: SessionRow, change: ChangeContext) => Effect.Effect<void, RepositoryError>
  /** Returns the row of a token, live or not; none if no session has this digest. */
  readonly findByTokenDigest: (tokenDigest: string) => Effect.Effect<Option.Option<SessionRow>, RepositoryError>
  /** Returns the row of a session, live or not. */
  readonly findById: (id: SessionId) => Effect.Effect<Option.Option<SessionRow>, RepositoryError>
  /**
   * Moves a session's end, in one conditional step: only a row that is live at `change.nowMillis` and was last seen at
   * or before `dueBeforeMillis` is changed. It is then seen now, ends when {@link endAfterUse} says, and
   * `sessionUpserted` is appended in the same transaction. Of n racers exactly one gets the row; none says that the
   * session is not live or was renewed by another caller, and that nothing was changed.
   */
  readonly renew: (options: {
    readonly id: SessionId
    readonly dueBeforeMillis: number
    readonly lifetimeMillis: number
  }, change: ChangeContext) => Effect.Effect<Option.Option<SessionRow>, RepositoryError>
  /**
   * Exchanges a session's refresh token, in one step. `presentedDigest` is that of a token that is known to have been
   * issued for this session; {@link refreshVerdict} decides, of racers one after the other.
   *
   * `current` makes the row what {@link refreshed} returns, and appends `sessionUpserted`; of n racers exactly one gets
   * `Refreshed`. The others, and the caller that comes with the same token as long as it is the parent of the newest tokens
   * and these were not used (and `graceMillis` after their first use, by the store's clock), get `Repeated` and the row; or
   * `Refreshed`, if the token of the row has expired meanwhile, which is then replaced. Any other token was used before: a
   * live session is revoked as by {@link revoke}, `sessionRemoved` is appended with the actor `system`, and exactly one of
   * n racers gets `Reused`. All of it is one transaction.
   */
  readonly refresh: (options: {
    readonly id: SessionId
    readonly presentedDigest: string
    readonly proofKeyThumbprint: string | undefined
    /** The client that presents the token, which must be that of the session if the session has one. */
    readonly client?: PresentingClient | undefined
    /** What the session has to hold, or nothing is changed. */
    readonly scopes: ReadonlyArray<AccessScope>
    readonly graceMillis: number
    readonly lifetimeMillis: number
    readonly next: NextTokens
  }, change: ChangeContext) => Effect.Effect<RefreshOutcome, RepositoryError>
  /**
   * Remembers that a token was used which followed another one, unless that is known or the session has another token by
   * now. The time is the store's; `nowMillis` is for a store without a clock of its own. Nothing is appended to the feed.
   */
  readonly useTokens: (tokenDigest: string, nowMillis: number) => Effect.Effect<void, RepositoryError>
  /** Tells whether a live session has a token that was signed with a key. It costs the same however many sessions there are. */
  readonly isKeyInUse: (options: {
    readonly keyId: string
    readonly nowMillis: number
  }) => Effect.Effect<boolean, RepositoryError>
  /** Returns live sessions, all or a subject's, in the order of their ids, after an id or from the start, at most `limit`. */
  readonly list: (options: {
    readonly nowMillis: number
    readonly subject?: string | undefined
    readonly afterId: SessionId | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<SessionRow>, RepositoryError>
  /** Returns how many live sessions descend from each of some sessions, through every generation. */
  readonly countDescendants: (options: {
    readonly ids: ReadonlyArray<SessionId>
    readonly nowMillis: number
  }) => Effect.Effect<ReadonlyMap<SessionId, number>, RepositoryError>
  /**
   * Gives the device of a live session a label, if it is the subject's that is named, and appends `sessionUpserted`, in one
   * transaction. Returns the row; none says that there is no such session, and that nothing was changed.
   */
  readonly rename: (options: {
    readonly id: SessionId
    readonly subject?: string | undefined
    readonly label: string
  }, change: ChangeContext) => Effect.Effect<Option.Option<SessionRow>, RepositoryError>
  /**
   * Makes a live session ask for more scopes: its row becomes what {@link withScopeRequest} returns, and if that is another
   * one `sessionUpserted` is appended, in one transaction. Returns the row; none says that there is no such live session.
   */
  readonly askScopes: (options: {
    readonly id: SessionId
    readonly scopes: ReadonlyArray<AccessScope>
    readonly lifetimeMillis: number
  }, change: ChangeContext) => Effect.Effect<Option.Option<SessionRow>, RepositoryError>
  /**
   * Answers a session that asks for more scopes, as {@link scopeVerdict} judges by the rows as they are in this step. An
   * answer of no scopes turns the request away. `sessionUpserted` is appended in the same transaction. Of n racers exactly
   * one gets `Answered`.
   */
  readonly answerScopes: (options: {
    readonly id: SessionId
    readonly requestedAtMillis: number
    readonly scopes: ReadonlyArray<AccessScope>
    /** The session that answers; undefined for the operator. */
    readonly by: SessionId | undefined
  }, change: ChangeContext) => Effect.Effect<ScopeOutcome, RepositoryError>
  /**
   * Revokes the live sessions and the open links that `Lineage.revocationVerdict` finds, notes `revocationOf` in the rows of
   * these sessions, deletes the tickets of these
   * sessions, and appends a `sessionRemoved` or `pairingLinkRemoved` for each, all in one transaction. A link that is
   * redeemed meanwhile is refused, or the session that comes of it ends too. Returns the ids of what this call revoked,
   * in their order: a session or a link is in the answer of exactly one of n racers.
   */
  readonly revoke: (
    target: RevocationTarget,
    change: ChangeContext
  ) => Effect.Effect<Ended, RepositoryError>
  /**
   * Stores a ticket. Its digest is that of a fresh random value; one that exists already is an error and changes nothing.
   * Whether there is a session for it is not asked. Of more than {@link maxTickets} of a session those go that expire first,
   * never the new one; callers at once may leave a few more, until the next.
   */
  readonly insertTicket: (row: TicketRow) => Effect.Effect<void, RepositoryError>
  /**
   * Deletes a ticket and returns its session, in one step: of n racers exactly one gets it. None if the ticket is
   * unknown, was used or has expired, or if its session is not live.
   */
  readonly consumeTicket: (options: {
    readonly ticketDigest: string
    readonly nowMillis: number
  }) => Effect.Effect<Option.Option<SessionRow>, RepositoryError>
  /**
   * Deletes at most `limit` sessions that were revoked or expired at or before `endedBeforeMillis`, those that ended first
   * before others, with their tickets, and at most `limit` further tickets expired by then. A session from which others
   * descend stays as long as one of their rows. One that expired without being revoked gets a `sessionRemoved`. Returns how
   * many sessions and further tickets went. A row is deleted by exactly one of n racers; one that another caller is writing
   * may be left for the next sweep.
   */
  readonly sweep: (options: {
    readonly endedBeforeMillis: number
    readonly limit: number
  }, change: ChangeContext) => Effect.Effect<number, RepositoryError>
}
