/**
 * Where sessions and their upgrade tickets are kept: a few atomic steps on rows, without policy.
 *
 * Every step that changes a session appends its event to the access feed in the same transaction.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { ChangeContext } from "./AccessEvent.ts"
import { AccessRepositoryError } from "./AccessRepositoryError.ts"
import { AccessScope } from "./AccessScope.ts"
import { AccessJournal } from "./internal/accessJournal.ts"
import { Device, Session, SessionId, SessionMethod } from "./Session.ts"

/** Describes a session as it is stored. Times are milliseconds since the epoch; the token is there as a digest only. */
export const SessionRow = Schema.Struct({
  id: SessionId,
  subject: Schema.NonEmptyString,
  method: SessionMethod,
  scopes: Schema.Array(AccessScope),
  proofKeyThumbprint: Schema.NullOr(Schema.String),
  device: Device,
  /** SHA-256 of the token, in lowercase hex. Unique. */
  tokenDigest: Schema.NonEmptyString,
  /** The `kid` of the key that signed the token. */
  keyId: Schema.NonEmptyString,
  createdAtMillis: Schema.Natural,
  /** When the row was last renewed; activity since then may be up to one renewal interval newer. */
  lastSeenAtMillis: Schema.Natural,
  expiresAtMillis: Schema.Natural,
  /** The end that no renewal moves, or null. */
  absoluteExpiresAtMillis: Schema.NullOr(Schema.Natural),
  revokedAtMillis: Schema.NullOr(Schema.Natural)
})
/** @see {@link SessionRow} */
export type SessionRow = typeof SessionRow.Type

/** Returns what hosts and events see of a row. */
export const toSession = (row: SessionRow): Session =>
  new Session({
    id: row.id,
    subject: row.subject,
    method: row.method,
    scopes: row.scopes,
    proofKeyThumbprint: row.proofKeyThumbprint,
    device: row.device,
    createdAt: DateTime.makeUnsafe(row.createdAtMillis),
    lastSeenAt: DateTime.makeUnsafe(row.lastSeenAtMillis),
    expiresAt: DateTime.makeUnsafe(row.expiresAtMillis)
  })

/** Tells whether a row lets anybody in at a time. */
export const isLive = (row: SessionRow, nowMillis: number): boolean =>
  row.revokedAtMillis === null && row.expiresAtMillis > nowMillis

/** Selects the sessions that a revocation ends. */
export type RevocationTarget =
  | { readonly _tag: "Session"; readonly id: SessionId }
  | { readonly _tag: "SubjectExcept"; readonly subject: string; readonly keep: SessionId }
  | { readonly _tag: "Subject"; readonly subject: string }
  | { readonly _tag: "ProofKey"; readonly proofKeyThumbprint: string }

/** Describes a stored ticket: a digest, the session that it stands for, and its end. */
export const TicketRow = Schema.Struct({
  /** SHA-256 of the ticket, in lowercase hex. */
  ticketDigest: Schema.NonEmptyString,
  sessionId: SessionId,
  expiresAtMillis: Schema.Natural
})
/** @see {@link TicketRow} */
export type TicketRow = typeof TicketRow.Type

/** Provides the atomic steps on sessions and tickets. */
export class SessionCredentialRepository extends Context.Service<SessionCredentialRepository, {
  /**
   * Stores a new session and appends `sessionUpserted`, in one transaction. The id and the digest are fresh random
   * values; one that exists already is an error and changes nothing.
   */
  readonly insert: (row: SessionRow, change: ChangeContext) => Effect.Effect<void, AccessRepositoryError>
  /** Returns the row of a token, live or not; none where no session has this digest. */
  readonly findByTokenDigest: (tokenDigest: string) => Effect.Effect<Option.Option<SessionRow>, AccessRepositoryError>
  /** Returns the row of a session, live or not. */
  readonly findById: (id: SessionId) => Effect.Effect<Option.Option<SessionRow>, AccessRepositoryError>
  /**
   * Moves a session's end, in one conditional step: only a row that is live at `change.nowMillis` and was last seen at or
   * before `dueBeforeMillis` is changed. It is then seen now, ends `lifetimeMillis` from now but never past its absolute
   * end, and `sessionUpserted` is appended in the same transaction. Of n racers exactly one gets the row; none says
   * that the session is not live or was renewed by somebody else, and that nothing was changed.
   */
  readonly renew: (options: {
    readonly id: SessionId
    readonly dueBeforeMillis: number
    readonly lifetimeMillis: number
  }, change: ChangeContext) => Effect.Effect<Option.Option<SessionRow>, AccessRepositoryError>
  /** Returns live sessions in the order of their ids, after an id or from the start, at most `limit`. */
  readonly list: (options: {
    readonly nowMillis: number
    readonly afterId: SessionId | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<SessionRow>, AccessRepositoryError>
  /**
   * Revokes every live session of a target and deletes its tickets, appending a `sessionRemoved` for each in the same
   * transaction. Returns the ids that this call revoked, in their order: a session is in the answer of exactly one of n
   * racers.
   */
  readonly revoke: (
    target: RevocationTarget,
    change: ChangeContext
  ) => Effect.Effect<ReadonlyArray<SessionId>, AccessRepositoryError>
  /**
   * Stores a ticket. Its digest is that of a fresh random value; one that exists already is an error and changes nothing.
   * Whether there is a session for it is not asked.
   */
  readonly insertTicket: (row: TicketRow) => Effect.Effect<void, AccessRepositoryError>
  /**
   * Deletes a ticket and returns its session, in one step: of n racers exactly one gets it. None where the ticket is
   * unknown, was used or has expired, or where its session is not live.
   */
  readonly consumeTicket: (options: {
    readonly ticketDigest: string
    readonly nowMillis: number
  }) => Effect.Effect<Option.Option<SessionRow>, AccessRepositoryError>
  /**
   * Deletes at most `limit` sessions that were revoked or expired at or before `endedBeforeMillis`, those that ended first
   * before others, with their tickets, and at most `limit` further tickets expired by then. A session that expired without
   * being revoked gets a `sessionRemoved`. Returns how many sessions and further tickets went. A row is deleted by exactly
   * one of n racers; one that somebody else is writing may be left for the next sweep.
   */
  readonly sweep: (options: {
    readonly endedBeforeMillis: number
    readonly limit: number
  }, change: ChangeContext) => Effect.Effect<number, AccessRepositoryError>
}>()("@sallyport/core/SessionCredentialRepository") {}

const byId = (a: SessionRow, b: SessionRow): number => a.id < b.id ? -1 : 1

const endedAt = (row: SessionRow): number => Math.min(row.revokedAtMillis ?? row.expiresAtMillis, row.expiresAtMillis)

const targets = (target: RevocationTarget): (row: SessionRow) => boolean => {
  switch (target._tag) {
    case "Session":
      return (row) => row.id === target.id
    case "SubjectExcept":
      return (row) => row.subject === target.subject && row.id !== target.keep
    case "Subject":
      return (row) => row.subject === target.subject
    case "ProofKey":
      return (row) => row.proofKeyThumbprint === target.proofKeyThumbprint
  }
}

/**
 * Provides the repository in memory, for tests and for hosts whose sessions may end with the process. It shares the
 * access feed with the memory layers of the other access repositories that are built in the same runtime.
 */
export const layerMemory: Layer.Layer<SessionCredentialRepository> = Layer.effect(
  SessionCredentialRepository,
  Effect.gen(function*() {
    const journal = yield* AccessJournal
    const sessions = new Map<SessionId, SessionRow>()
    const idByDigest = new Map<string, SessionId>()
    const tickets = new Map<string, TicketRow>()

    const byDigest = (tokenDigest: string): SessionRow | undefined => {
      const id = idByDigest.get(tokenDigest)
      return id === undefined ? undefined : sessions.get(id)
    }
    const dropTickets = (id: SessionId) => {
      for (const ticket of tickets.values()) if (ticket.sessionId === id) tickets.delete(ticket.ticketDigest)
    }

    return SessionCredentialRepository.of({
      insert: (row, change) =>
        Effect.suspend(() => {
          if (sessions.has(row.id) || idByDigest.has(row.tokenDigest)) {
            return Effect.fail(
              new AccessRepositoryError({ operation: "insert", cause: new Error(`Session ${row.id} exists already`) })
            )
          }
          sessions.set(row.id, row)
          idByDigest.set(row.tokenDigest, row.id)
          journal.append({ _tag: "sessionUpserted", session: toSession(row) }, change)
          return Effect.void
        }),
      findByTokenDigest: (tokenDigest) => Effect.sync(() => Option.fromUndefinedOr(byDigest(tokenDigest))),
      findById: (id) => Effect.sync(() => Option.fromUndefinedOr(sessions.get(id))),
      renew: ({ dueBeforeMillis, id, lifetimeMillis }, change) =>
        Effect.sync(() => {
          const row = sessions.get(id)
          if (row === undefined || !isLive(row, change.nowMillis) || row.lastSeenAtMillis > dueBeforeMillis) {
            return Option.none()
          }
          const renewed: SessionRow = {
            ...row,
            lastSeenAtMillis: change.nowMillis,
            expiresAtMillis: Math.min(
              change.nowMillis + lifetimeMillis,
              row.absoluteExpiresAtMillis ?? Number.MAX_SAFE_INTEGER
            )
          }
          sessions.set(id, renewed)
          journal.append({ _tag: "sessionUpserted", session: toSession(renewed) }, change)
          return Option.some(renewed)
        }),
      list: ({ afterId, limit, nowMillis }) =>
        Effect.sync(() =>
          Array.from(sessions.values())
            .filter((row) => isLive(row, nowMillis) && (afterId === undefined || row.id > afterId))
            .sort(byId)
            .slice(0, limit)
        ),
      revoke: (target, change) =>
        Effect.sync(() => {
          const hit = targets(target)
          const revoked: Array<SessionId> = []
          for (const row of Array.from(sessions.values()).sort(byId)) {
            if (!isLive(row, change.nowMillis) || !hit(row)) continue
            sessions.set(row.id, { ...row, revokedAtMillis: change.nowMillis })
            dropTickets(row.id)
            journal.append({ _tag: "sessionRemoved", id: row.id, reason: "revoked" }, change)
            revoked.push(row.id)
          }
          return revoked
        }),
      insertTicket: (row) =>
        Effect.suspend(() => {
          if (tickets.has(row.ticketDigest)) {
            return Effect.fail(
              new AccessRepositoryError({
                operation: "insertTicket",
                cause: new Error(`A ticket of session ${row.sessionId} has a digest that exists already`)
              })
            )
          }
          tickets.set(row.ticketDigest, row)
          return Effect.void
        }),
      consumeTicket: ({ nowMillis, ticketDigest }) =>
        Effect.sync(() => {
          const ticket = tickets.get(ticketDigest)
          if (ticket === undefined) return Option.none()
          tickets.delete(ticketDigest)
          const row = sessions.get(ticket.sessionId)
          return row !== undefined && ticket.expiresAtMillis > nowMillis && isLive(row, nowMillis)
            ? Option.some(row)
            : Option.none()
        }),
      sweep: ({ endedBeforeMillis, limit }, change) =>
        Effect.sync(() => {
          const ended = Array.from(sessions.values())
            .filter((row) => endedAt(row) <= endedBeforeMillis)
            .sort((a, b) => endedAt(a) - endedAt(b) || byId(a, b))
            .slice(0, limit)
            .sort(byId)
          for (const row of ended) {
            sessions.delete(row.id)
            idByDigest.delete(row.tokenDigest)
            dropTickets(row.id)
            if (row.revokedAtMillis === null) {
              journal.append({ _tag: "sessionRemoved", id: row.id, reason: "expired" }, change)
            }
          }
          const expired = Array.from(tickets.values())
            .filter((ticket) => ticket.expiresAtMillis <= endedBeforeMillis)
            .sort((a, b) => a.expiresAtMillis - b.expiresAtMillis || (a.ticketDigest < b.ticketDigest ? -1 : 1))
            .slice(0, limit)
          for (const ticket of expired) tickets.delete(ticket.ticketDigest)
          return ended.length + expired.length
        })
    })
  })
).pipe(Layer.provide(AccessJournal.layer))
