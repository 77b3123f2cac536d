/**
 * Where the clients that connect are kept, through a relay or as devices of their own, and who may: a few atomic steps,
 * without policy.
 *
 * What a step makes of a row is said here once, by {@link requestVerdict} and {@link decisionVerdict}, for every adapter: an
 * adapter holds the mode and the row still, applies the verdict, ends what a client has if the verdict says so, and
 * appends the events, all in one transaction.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AccessChange, ChangeContext } from "./AccessEvent.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import { AccessScope, missing } from "./AccessScope.ts"
import { anyKey, type PairingLinkRow } from "./BootstrapCredentialRepository.ts"
import {
  Account,
  ClientLabel,
  ClientStatus,
  ConnectClient,
  DeviceType,
  SecurityMode,
  Thumbprint
} from "./ConnectClient.ts"
import { endlessSessionId, type Session, type SessionId } from "./Session.ts"

/**
 * Describes what a device asked for (RFC 8628), and how it asks whether it was decided.
 *
 * @category models
 * @since 0.1.0
 */
export const DeviceRequest = Schema.Struct({
  /** The pairing link that an approval stores for the device's code. */
  linkId: Schema.NonEmptyString,
  scopes: Schema.Array(AccessScope),
  /** What its owner gave it of that; null unless it is approved. */
  grantedScopes: Schema.NullOr(Schema.Array(AccessScope)),
  /** Whether the device has proven the key of its thumbprint, which is otherwise one of this request alone. */
  isProven: Schema.Boolean,
  /** Until when its code is good: once it is approved, no longer than the session that approved it would last unused. */
  expiresAtMillis: Schema.Natural,
  /** How long it has to wait between two polls, and when it polled last. */
  intervalMillis: Schema.Natural,
  polledAtMillis: Schema.NullOr(Schema.Natural)
})
/**
 * @see {@link DeviceRequest}
 *
 * @category models
 * @since 0.1.0
 */
export type DeviceRequest = typeof DeviceRequest.Type

/**
 * Describes a client as it is stored. Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const ConnectClientRow = Schema.Struct({
  proofKeyThumbprint: Thumbprint,
  account: Account,
  label: Schema.NullOr(ClientLabel),
  deviceType: DeviceType,
  status: ClientStatus,
  verificationCode: Schema.NonEmptyString,
  firstSeenAtMillis: Schema.Natural,
  requestedAtMillis: Schema.Natural,
  /** Set if the status is `pending`, and only there. */
  pendingUntilMillis: Schema.NullOr(Schema.Natural),
  /**
   * Set if the status is a decision, and only there. There is one time for whichever decision is the present one, so
   * that none can stay behind from the one before.
   */
  decidedAtMillis: Schema.NullOr(Schema.Natural),
  decidedBy: Schema.NullOr(Schema.NonEmptyString),
  reason: Schema.NullOr(Schema.String),
  lastSeenAtMillis: Schema.NullOr(Schema.Natural),
  /** How often it was rejected since it was last approved; each time it has to wait longer before it may ask again. */
  rejections: Schema.Natural,
  /** Until when a rejected client may not ask again; null for any other status. */
  askAgainAtMillis: Schema.NullOr(Schema.Natural),
  /** The keyed digest of the code that a device polls with, and its request; null for a client of a relay. */
  deviceCodeDigest: Schema.NullOr(Schema.NonEmptyString),
  device: Schema.NullOr(DeviceRequest)
})
/**
 * @see {@link ConnectClientRow}
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectClientRow = typeof ConnectClientRow.Type

const toTime = (millis: number | null): DateTime.Utc | null => millis === null ? null : DateTime.makeUnsafe(millis)

/**
 * Returns what owners and events see of a row.
 *
 * @category converting
 * @since 0.1.0
 */
export const toConnectClient = (row: ConnectClientRow): ConnectClient => {
  const grantedScopes = row.device?.grantedScopes ?? null
  return new ConnectClient({
    proofKeyThumbprint: row.proofKeyThumbprint,
    account: row.account,
    label: row.label,
    deviceType: row.deviceType,
    status: row.status,
    verificationCode: row.verificationCode,
    ...(row.device === null ? {} : { requestedScopes: row.device.scopes }),
    ...(grantedScopes === null ? {} : { grantedScopes }),
    firstSeenAt: DateTime.makeUnsafe(row.firstSeenAtMillis),
    requestedAt: DateTime.makeUnsafe(row.requestedAtMillis),
    pendingUntil: toTime(row.pendingUntilMillis),
    decidedAt: toTime(row.decidedAtMillis),
    decidedBy: row.decidedBy,
    reason: row.reason,
    lastSeenAt: toTime(row.lastSeenAtMillis)
  })
}

// -----------------------------------------------------------------------------
// Steps
// -----------------------------------------------------------------------------

/**
 * Describes a client that asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ask {
  readonly proofKeyThumbprint: string
  readonly account: string
  readonly label: string | null
  readonly deviceType: typeof DeviceType.Type
  /** The code for a request that begins at the time of the step. */
  readonly verificationCode: string
  /** How long a request that begins now can be decided. */
  readonly pendingMillis: number
  /** How many clients of one account may wait at once, and how many may be there that only their account lets in. */
  readonly maxPending: number
  readonly maxObserved: number
  /** What a device asks for, which waits for the owner in either mode; undefined for a client of a relay. */
  readonly device?: Pick<DeviceRequest, "linkId" | "scopes" | "isProven" | "intervalMillis"> & {
    readonly codeDigest: string
  }
}

/**
 * Describes what came of a request. Only `Granted` lets the client in.
 *
 * @category models
 * @since 0.1.0
 */
export type RequestOutcome =
  | { readonly _tag: "Granted"; readonly row: ConnectClientRow; readonly mode: SecurityMode }
  | { readonly _tag: "Pending"; readonly row: ConnectClientRow }
  /** The owner turned the client away. Nothing was changed. */
  | { readonly _tag: "Refused"; readonly row: ConnectClientRow }
  /** The account has as many clients waiting, or let in, as it may. Nothing was changed. */
  | { readonly _tag: "TooMany" }
  /** The stored mode is none that this version knows. Nothing was changed, and no caller is let in. */
  | { readonly _tag: "ModeUnreadable" }

/**
 * Says what a step is to do beside its answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Verdict<Outcome> {
  readonly outcome: Outcome
  /** The row to store, if it changed. */
  readonly store: ConnectClientRow | undefined
  /**
   * Whether what the client has is to end: its sessions with their tickets, its links that were not redeemed, and all that
   * descends from these sessions.
   */
  readonly endsAccess: boolean
}

const keep = <Outcome>(outcome: Outcome): Verdict<Outcome> => ({ outcome, store: undefined, endsAccess: false })

const isSecurityMode = Schema.is(SecurityMode)

/**
 * Says whether a pending row has not expired.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isWaiting = (row: ConnectClientRow, nowMillis: number): boolean =>
  row.status === "pending" && row.pendingUntilMillis !== null && row.pendingUntilMillis > nowMillis

/**
 * Decides what a request leads to. `others` counts the account's other clients that wait, or that only it lets in.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const requestVerdict = (input: {
  readonly storedMode: unknown
  readonly row: ConnectClientRow | undefined
  readonly ask: Ask
  readonly others: { readonly waiting: number; readonly observed: number }
  readonly nowMillis: number
}): Verdict<RequestOutcome> => {
  const { ask, nowMillis, others, row, storedMode } = input
  if (!isSecurityMode(storedMode)) return keep({ _tag: "ModeUnreadable" })
  if (row?.status === "blocked") return keep({ _tag: "Refused", row })
  const { device } = ask
  // What was decided about a client of a relay says nothing of a device, and the other way round.
  const sameAccount = row !== undefined && row.account === ask.account && row.device === null && device === undefined

  const begin = (fields: Partial<ConnectClientRow> & Pick<ConnectClientRow, "status">): ConnectClientRow => ({
    proofKeyThumbprint: ask.proofKeyThumbprint,
    account: ask.account,
    label: ask.label,
    deviceType: ask.deviceType,
    verificationCode: ask.verificationCode,
    firstSeenAtMillis: sameAccount ? row.firstSeenAtMillis : nowMillis,
    requestedAtMillis: nowMillis,
    pendingUntilMillis: null,
    decidedAtMillis: null,
    decidedBy: null,
    reason: null,
    lastSeenAtMillis: null,
    // The waits of a key don't start over with it.
    rejections: row?.rejections ?? 0,
    askAgainAtMillis: null,
    deviceCodeDigest: null,
    device: null,
    ...fields
  })
  const grant = (granted: ConnectClientRow, endsAccess: boolean): Verdict<RequestOutcome> => {
    const seen: ConnectClientRow = { ...granted, lastSeenAtMillis: nowMillis }
    return { outcome: { _tag: "Granted", row: seen, mode: storedMode }, store: seen, endsAccess }
  }

  if (sameAccount && row.status === "approved") return grant(row, false)
  if (storedMode === "account" && device === undefined) {
    // Whom the owner turned away stays out, whichever account vouches for it.
    if (row?.status === "rejected" || row?.status === "revoked") return keep({ _tag: "Refused", row })
    if (sameAccount && row.status === "observed") return grant(row, false)
    if (others.observed >= ask.maxObserved) return keep({ _tag: "TooMany" })
    return grant(begin({ status: "observed" }), row !== undefined)
  }
  if (sameAccount && isWaiting(row, nowMillis)) return keep({ _tag: "Pending", row })
  if (row?.status === "rejected" && (row.askAgainAtMillis ?? 0) > nowMillis) return keep({ _tag: "Refused", row })
  if (others.waiting >= ask.maxPending) return keep({ _tag: "TooMany" })
  const pendingUntilMillis = nowMillis + ask.pendingMillis
  const pending = begin({
    status: "pending",
    pendingUntilMillis,
    ...(device === undefined ? {} : {
      deviceCodeDigest: device.codeDigest,
      device: {
        linkId: device.linkId,
        scopes: device.scopes,
        grantedScopes: null,
        isProven: device.isProven,
        expiresAtMillis: pendingUntilMillis,
        intervalMillis: device.intervalMillis,
        polledAtMillis: null
      }
    })
  })
  return { outcome: { _tag: "Pending", row: pending }, store: pending, endsAccess: row !== undefined }
}

/**
 * Names what an owner decides about a client, as the status that follows.
 *
 * @category models
 * @since 0.1.0
 */
export const Decision = Schema.Literals(["approved", "rejected", "revoked", "blocked"])
/**
 * @see {@link Decision}
 *
 * @category models
 * @since 0.1.0
 */
export type Decision = typeof Decision.Type

/**
 * Describes a decision.
 *
 * @category models
 * @since 0.1.0
 */
export interface Deciding {
  readonly proofKeyThumbprint: string
  readonly decision: Decision
  readonly reason: string | null
  /** The request that the owner saw; a client that has asked again since is left as it is. Undefined for whichever. */
  readonly requestedAtMillis?: number | undefined
  /** How long a client has to wait after its first rejection; twice as long after each further one, up to the maximum. */
  readonly backOffMillis: number
  readonly maxBackOffMillis: number
  /** The session that decides. Unless it is the client's, neither it ends nor what descends from it. */
  readonly keep?: SessionId | undefined
  /** What an approved device is given. */
  readonly grant?: {
    readonly subject: string
    readonly scopes: ReadonlyArray<AccessScope>
    /** The session that approves, whose end is that of what the device has not fetched; undefined for the operator. */
    readonly by: Session | undefined
  } | undefined
}

/**
 * Describes what came of a decision. Only `Decided` changed anything, and not even that if it was decided so before.
 *
 * @category models
 * @since 0.1.0
 */
export type DecisionOutcome =
  | { readonly _tag: "Decided"; readonly row: ConnectClientRow }
  | { readonly _tag: "Unknown" }
  /** The request expired before it was approved. */
  | { readonly _tag: "Expired"; readonly row: ConnectClientRow }
  /** The client has asked again since the owner looked. */
  | { readonly _tag: "Changed"; readonly row: ConnectClientRow }
  /** The session that approves a device has ended. */
  | { readonly _tag: "ApproverEnded" }

/** Returns the session that approves a device, unless it is one that never ends. */
const approverOf = ({ grant }: Deciding): Session | undefined =>
  grant?.by?.id === endlessSessionId ? undefined : grant?.by

/** Returns until when the code of a device can be redeemed: no longer than the session that approves it would last unused. */
const grantEnd = (device: DeviceRequest, deciding: Deciding): number => {
  const by = approverOf(deciding)
  return Math.min(
    device.expiresAtMillis,
    by?.expiresAt.epochMilliseconds ?? Infinity,
    by?.absoluteExpiresAt?.epochMilliseconds ?? Infinity
  )
}

/**
 * Returns the link that an approval stores for the code of a device; none if there is nothing to store, as the client is
 * no device or was approved before.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const deviceGrant = (
  row: ConnectClientRow | undefined,
  deciding: Deciding,
  { actor, nowMillis }: ChangeContext
): PairingLinkRow | undefined => {
  const { decision, grant } = deciding
  if (row === undefined || row.device === null || row.deviceCodeDigest === null || grant === undefined) return undefined
  const { device } = row
  if (decision !== "approved" || !isWaiting(row, nowMillis) || missing(device.scopes, grant.scopes).length > 0) {
    return undefined
  }
  const by = approverOf(deciding)
  return {
    id: device.linkId,
    codeDigest: row.deviceCodeDigest,
    label: row.label,
    subject: grant.subject,
    scopes: grant.scopes,
    // As with any link, what a session that is bound to a key hands on is bound too.
    proofKeyThumbprint: device.isProven
      ? row.proofKeyThumbprint
      : (by?.proofKeyThumbprint ?? null) === null
      ? null
      : anyKey,
    remainingUses: 1,
    createdBy: actor,
    issuedBy: by?.id ?? null,
    sessionLifetimeMillis: by === undefined || by.lifetime === null ? null : Duration.toMillis(by.lifetime),
    sessionEndsAtMillis: by?.absoluteExpiresAt?.epochMilliseconds ?? null,
    createdAtMillis: nowMillis,
    expiresAtMillis: grantEnd(device, deciding),
    revokedAtMillis: null
  }
}

/**
 * Describes what a device that polls is told. `Approved` says that the link of its code can be redeemed.
 *
 * @category models
 * @since 0.1.0
 */
export type PollOutcome =
  | { readonly _tag: "Expired" | "Denied" | "Unknown" }
  | { readonly _tag: "Pending" | "SlowDown" | "Approved"; readonly row: ConnectClientRow }

/** By how much a device that polls too fast has to wait longer, for good (RFC 8628 section 3.5). */
const slowDownMillis = 5_000

/**
 * Decides what a device that polls is told. A timer may fire a little early, and the network a little late: a tenth of the
 * interval is not held against it.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const pollVerdict = (
  row: ConnectClientRow | undefined,
  account: string,
  nowMillis: number
): Verdict<PollOutcome> => {
  if (row === undefined || row.device === null || row.account !== account) return keep({ _tag: "Unknown" })
  const { device, status } = row
  if (status === "approved") {
    if (row.lastSeenAtMillis === null && device.expiresAtMillis <= nowMillis) return keep({ _tag: "Expired" })
    if (row.lastSeenAtMillis !== null) return keep({ _tag: "Approved", row })
    const seen: ConnectClientRow = { ...row, lastSeenAtMillis: nowMillis }
    return { outcome: { _tag: "Approved", row: seen }, store: seen, endsAccess: false }
  }
  if (status !== "pending") return keep({ _tag: status === "observed" ? "Unknown" : "Denied" })
  if (!isWaiting(row, nowMillis)) return keep({ _tag: "Expired" })
  const isEarly = device.polledAtMillis !== null && nowMillis < device.polledAtMillis + device.intervalMillis * 0.9
  const polled: ConnectClientRow = {
    ...row,
    device: {
      ...device,
      polledAtMillis: nowMillis,
      intervalMillis: device.intervalMillis + (isEarly ? slowDownMillis : 0)
    }
  }
  return { outcome: { _tag: isEarly ? "SlowDown" : "Pending", row: polled }, store: polled, endsAccess: false }
}

/**
 * Decides what a decision makes of a row.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const decisionVerdict = (
  row: ConnectClientRow | undefined,
  deciding: Deciding,
  { actor, nowMillis }: ChangeContext
): Verdict<DecisionOutcome> => {
  const { decision } = deciding
  if (row === undefined) return keep({ _tag: "Unknown" })
  if (deciding.requestedAtMillis !== undefined && deciding.requestedAtMillis !== row.requestedAtMillis) {
    return keep({ _tag: "Changed", row })
  }
  const isOver = row.device === null ? row.status === "pending" : row.status !== "approved"
  if (decision === "approved" && isOver && !isWaiting(row, nowMillis)) {
    return keep({ _tag: "Expired", row })
  }
  const endsAccess = decision !== "approved"
  if (row.status === decision) return { outcome: { _tag: "Decided", row }, store: undefined, endsAccess }
  const wait = Math.min(deciding.backOffMillis * 2 ** row.rejections, deciding.maxBackOffMillis)
  const decided: ConnectClientRow = {
    ...row,
    status: decision,
    pendingUntilMillis: null,
    decidedAtMillis: nowMillis,
    decidedBy: actor,
    reason: deciding.reason,
    rejections: decision === "approved" ? 0 : decision === "rejected" ? row.rejections + 1 : row.rejections,
    askAgainAtMillis: decision === "rejected" ? nowMillis + wait : null,
    device: row.device === null
      ? null
      : decision === "approved"
      ? {
        ...row.device,
        grantedScopes: deciding.grant?.scopes ?? null,
        expiresAtMillis: grantEnd(row.device, deciding)
      }
      : { ...row.device, grantedScopes: null }
  }
  return { outcome: { _tag: "Decided", row: decided }, store: decided, endsAccess }
}

/**
 * Returns the row of an observed client that is trusted when the mode is set.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const trusted = (row: ConnectClientRow, { actor, nowMillis }: ChangeContext): ConnectClientRow => ({
  ...row,
  status: "approved",
  decidedAtMillis: nowMillis,
  decidedBy: actor,
  reason: null,
  rejections: 0
})

/**
 * Returns the event of a row that was stored.
 *
 * @category converting
 * @since 0.1.0
 */
export const upserted = (row: ConnectClientRow): AccessChange => ({
  _tag: "connectClientUpserted",
  client: toConnectClient(row)
})

/**
 * Names the mode of a store in which none was set.
 *
 * @category constants
 * @since 0.1.0
 */
export const initialMode: SecurityMode = "client-approval"

/**
 * Provides the atomic steps on connect clients and the security mode.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectClientRepository {
  /**
   * Takes a client's request, in one step with {@link requestVerdict}: what it answers is so when it commits. If it is
   * `Granted`, `grant` is stored as a pairing link in the same transaction, so that a decision that follows finds it and
   * ends it. Steps on the clients of a store follow each other.
   */
  readonly request: (
    ask: Ask,
    grant: PairingLinkRow | undefined,
    change: ChangeContext
  ) => Effect.Effect<RequestOutcome, RepositoryError>
  /**
   * Decides about a client, in one step with {@link decisionVerdict}. If it ends access, the client's live sessions are
   * revoked with all that descends from them, their tickets deleted and their open pairing links and the client's
   * revoked, and the feed tells of each, in the same transaction; also if the decision was made before. If it approves a
   * device, the link of {@link deviceGrant} is stored in the same transaction, unless the session that approves has ended,
   * and then nothing is changed.
   */
  readonly decide: (deciding: Deciding, change: ChangeContext) => Effect.Effect<DecisionOutcome, RepositoryError>
  /**
   * Takes a poll of a device, in one step with {@link pollVerdict}. `connectClientUpserted` is appended when it has learnt
   * first that it was approved; other polls change nothing that the feed tells of.
   */
  readonly poll: (options: {
    readonly deviceCodeDigest: string
    readonly account: string
  }, change: ChangeContext) => Effect.Effect<PollOutcome, RepositoryError>
  /** Returns at most two devices that wait with a code, in the order of their thumbprints. */
  readonly findByCode: (options: {
    readonly verificationCode: string
    readonly nowMillis: number
  }) => Effect.Effect<ReadonlyArray<ConnectClientRow>, RepositoryError>
  /** Returns a client. */
  readonly find: (proofKeyThumbprint: string) => Effect.Effect<Option.Option<ConnectClientRow>, RepositoryError>
  /** Returns at most two clients whose thumbprint begins with a text of base64url characters, in their order. */
  readonly findByPrefix: (prefix: string) => Effect.Effect<ReadonlyArray<ConnectClientRow>, RepositoryError>
  /** Returns clients, who asked last first, those of one time by their thumbprints, after a client or from the start. */
  readonly list: (options: {
    readonly after: Pick<ConnectClientRow, "requestedAtMillis" | "proofKeyThumbprint"> | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<ConnectClientRow>, RepositoryError>
  /** Returns the stored mode as it is, whether or not this version knows it. */
  readonly storedMode: Effect.Effect<unknown, RepositoryError>
  /**
   * Sets the mode and approves observed clients, all or those named, in one step. If the mode becomes
   * `client-approval`, what the other observed clients have ends, as with a decision. Returns those that were approved; a
   * name that is no observed client is passed over.
   */
  readonly setMode: (options: {
    readonly mode: SecurityMode
    readonly trust: "all" | ReadonlyArray<string>
    /** The session that sets the mode. Unless it is a client's, neither it ends nor what descends from it. */
    readonly keep?: SessionId | undefined
  }, change: ChangeContext) => Effect.Effect<ReadonlyArray<ConnectClientRow>, RepositoryError>
  /**
   * Deletes at most `limit` clients that no owner misses: pending ones that expired, and observed, rejected and revoked ones
   * that did not ask, were not seen and were not decided about since `idleBeforeMillis`; approved devices too, whose code is
   * good for nothing more. One that has a live session, or a
   * link that can be redeemed, stays, so that turning approval on finds it. Each gets a `connectClientRemoved`. Returns how
   * many went.
   */
  readonly sweep: (options: {
    readonly idleBeforeMillis: number
    readonly limit: number
  }, change: ChangeContext) => Effect.Effect<number, RepositoryError>
}

/**
 * Tells whether a client with this row is let in under a mode.
 *
 * @category predicates
 * @since 0.1.0
 */
export const admits = (storedMode: unknown, row: ConnectClientRow | undefined): boolean =>
  row !== undefined &&
  (row.status === "approved"
    ? isSecurityMode(storedMode)
    : storedMode === "account" && row.status === "observed")

/**
 * Names, as the creator of links, the decision that lets a connecting client in.
 *
 * @category constants
 * @since 0.1.0
 */
export const grantedBy = "connect"

/**
 * Tells whether the holder of a key may redeem a link: one that was granted to it as a client only while the client is
 * admitted, and another one unless the client is blocked.
 *
 * @category predicates
 * @since 0.1.0
 */
export const mayRedeem = (
  storedMode: unknown,
  row: ConnectClientRow | undefined,
  link: { readonly createdBy: string }
): boolean => link.createdBy === grantedBy ? admits(storedMode, row) : row?.status !== "blocked"
