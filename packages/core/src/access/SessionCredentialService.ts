/**
 * Issues, verifies, lists and ends sessions.
 *
 * A session is a row; its token is a signed name for it. The policy is here once, over whichever
 * {@link SessionCredentialRepository} the host provides: lifetimes, the sliding window, who may revoke what, and the cache
 * that makes a token seen before cost one digest and one look-up.
 */
import { AccessRepository } from "./AccessRepository.ts"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Digest from "effect/crypto/Digest"
import type * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberHandle from "effect/FiberHandle"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ChangeContext } from "./AccessEvent.ts"
import { type AccessScope, missing, Vocabulary } from "./AccessScope.ts"
import * as AccessFollower from "./internal/accessFollower.ts"
import * as Attempts from "./internal/attempts.ts"
import * as Input from "../Input.ts"
import * as Metrics from "../Metrics.ts"
import * as Outage from "../Outage.ts"
import * as Text from "../Text.ts"
import { nameRule, scopesRule, subjectRule } from "./internal/inputRules.ts"
import { deviceKind } from "./internal/deviceKind.ts"
import * as Lifetimes from "./internal/lifetimes.ts"
import * as SessionCache from "./internal/sessionCache.ts"
import {
  CurrentSessionProtected,
  InvalidInput,
  LabelNotAllowed,
  RefreshRefused,
  refused,
  ScopeNotHeld,
  ScopeRequestChanged,
  SessionCredentialError,
  SessionNotFound,
  TicketRefused,
  TooManyScopeRequests,
  unavailable
} from "./internal/sessionErrors.ts"
import {
  type InvalidSessionCredentialOptions,
  type Options,
  type Settings,
  settings
} from "./internal/sessionOptions.ts"
import * as SessionTokens from "./internal/sessionTokens.ts"
import * as SigningKeys from "./internal/signingKeys.ts"
import type { RepositoryError } from "../RepositoryError.ts"
import type * as SecretStore from "../secrets/SecretStore.ts"
import { actorOf, type Principal, reachOf } from "./Principal.ts"
import {
  Device,
  DeviceKind,
  endlessSessionId,
  type Session,
  type SessionClient,
  type SessionEnd,
  SessionId,
  SessionMethod
} from "./Session.ts"
import { Stopping } from "../Stopping.ts"
import {
  isLive,
  isTarget,
  type PresentingClient,
  type RevocationTarget,
  type SessionRow,
  toSession
} from "./SessionCredentialRepository.ts"
import * as SessionToken from "./SessionToken.ts"
import { Sha256Hex } from "./Sha256.ts"
import * as Sweeper from "../Sweeper.ts"

export {
  CurrentSessionProtected,
  InvalidInput,
  LabelNotAllowed,
  RefreshRefused,
  ScopeNotHeld,
  ScopeRequestChanged,
  SessionCredentialError,
  SessionNotFound,
  SessionRefused,
  SessionStoreUnavailable,
  TicketRefused,
  TooManyScopeRequests
} from "./internal/sessionErrors.ts"
export {
  InvalidSessionCredentialOptions,
  nistAal1,
  nistAal2,
  nistAal3,
  type Options
} from "./internal/sessionOptions.ts"

// -----------------------------------------------------------------------------
// Models
// -----------------------------------------------------------------------------

/**
 * Describes a session as the device list shows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListedSession {
  readonly session: Session
  /** Whether it is the session that asked for the list. */
  readonly current: boolean
  /** How many live sessions descend from it: those that came from its pairing links, and from theirs. */
  readonly descendants: number
  /** How many of its connections this process holds open. */
  readonly connections: number
}

/**
 * Counts what a revocation has ended: sessions, pairing links that could still be redeemed, and the connections of these
 * sessions that this process held open.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly sessions: number
  readonly links: number
  readonly connections: number
}

/**
 * Holds what a device is given when its session begins. Neither token is kept anywhere.
 *
 * @category models
 * @since 0.1.0
 */
export interface IssuedSession {
  readonly token: Redacted.Redacted
  /** When the token ends, unless the session is renewed before, which moves a token without a refresh token along. */
  readonly tokenExpiresAt: DateTime.Utc
  /** What {@link SessionCredentialService}'s `refresh` takes; none unless refresh tokens are on. */
  readonly refreshToken: Redacted.Redacted | undefined
  readonly session: Session
}

/**
 * Holds the tokens that follow the ones before.
 *
 * @category models
 * @since 0.1.0
 */
export interface RefreshedSession extends IssuedSession {
  readonly refreshToken: Redacted.Redacted
}

/**
 * Describes a session to start.
 *
 * @category options
 * @since 0.1.0
 */
export interface IssueOptions {
  readonly subject: string
  readonly scopes: ReadonlyArray<AccessScope>
  readonly method: SessionMethod
  readonly proofKeyThumbprint?: string | undefined
  /** What the device says of itself. Its kind follows from its user agent unless it is given. */
  readonly device?: Partial<typeof Device.Type> | undefined
  /** A name for people; that of the device if absent. */
  readonly label?: string | undefined
  /** How long the session goes on without being used; the setting `lifetime` if absent. */
  readonly lifetime?: Duration.Input | undefined
  /** The age past which no use keeps the session; never more than the setting `absoluteLifetime`. */
  readonly absoluteLifetime?: Duration.Input | undefined
  /**
   * Whether the token gets the form of `MachineToken`, which programs that look for leaked secrets recognise. A cookie, and
   * a token that is refreshed, keep the plain form.
   */
  readonly machine?: boolean | undefined
  /**
   * The pairing link or the consent that the session comes from. What ends all that descends from its issuer ends the
   * session.
   */
  readonly link?: { readonly linkId: string | null; readonly issuedBy: SessionId | null } | undefined
  /**
   * The program that the session is granted to, by consent or as a device. By consent, which has no link, its tokens are
   * short-lived and refreshed.
   */
  readonly client?: SessionClient | undefined
  readonly actor?: string | undefined
}

/**
 * Describes a key that a caller has proven to hold, as `DpopProof` finds it. `spend` makes the proof good for nothing else.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyProof<E> {
  readonly proofKeyThumbprint: string
  readonly spend: Effect.Effect<void, E>
}

/**
 * Describes a use of a token: with which key, and of which resource.
 *
 * @category models
 * @since 0.1.0
 */
export interface Use {
  /** The thumbprint of the key that the caller has proven to hold. */
  readonly proofKeyThumbprint?: string | undefined
  /** See `SessionClient`. */
  readonly resource?: string | undefined
}

/**
 * Describes a good access token.
 *
 * @category models
 * @since 0.1.0
 */
export interface InspectedToken {
  readonly session: Session
  readonly issuedAt: DateTime.Utc
  readonly expiresAt: DateTime.Utc
}

/**
 * Describes the keys that verify tokens as an independent verifier takes them: a JWK Set (RFC 7517) of secret keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface VerificationKeys extends SigningKeys.VerificationKeys {}

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/**
 * Provides sessions: how they begin, how they are known again, and how they end.
 *
 * **Example** (Starting, checking and ending a session)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { Repositories, SecretStore, SessionCredentialService } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const sessions = yield* SessionCredentialService.SessionCredentialService
 *   const { session, token } = yield* sessions.issue({
 *     subject: "ada",
 *     scopes: ["runs:read"],
 *     method: "bearer-access-token"
 *   })
 *   const { subject } = yield* sessions.verify(token)
 *   yield* Console.log(subject)
 *   // => ada
 *   yield* sessions.logout(session)
 *   const { reason } = yield* Effect.flip(sessions.verify(token))
 *   yield* Console.log(reason._tag)
 *   // => SessionRefused
 * })
 *
 * const Sessions = SessionCredentialService.layer.pipe(
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * Effect.runPromise(Effect.provide(program, Sessions))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class SessionCredentialService extends Context.Service<SessionCredentialService, {
  /** How long a session goes on without being used. */
  readonly lifetime: Duration.Duration
  /**
   * Starts a session and returns its token, which is shown here once and stored nowhere. `actor` names who let the
   * device in, by default the subject itself. Fails with {@link InvalidInput}, and stores nothing, if the request is the
   * host's mistake: an empty or enormous subject, one with control characters, or one of the feed's own actors,
   * `operator`, `system` and `connect`; a lifetime that is not between a millisecond and 10 years; a malformed scope; a
   * `dpop-access-token` without the thumbprint of its key.
   */
  readonly issue: (options: IssueOptions) => Effect.Effect<IssuedSession, SessionCredentialError>
  /**
   * Starts a session as `issue` does, in a step of the caller's that stores the row together with what it follows from, as
   * the redemption of a pairing code does. The step answers the row that it has stored; or one that it had stored for the
   * same request before, whose tokens are then returned again. For that they are derived from a `seed`, a secret that only
   * the caller of the request knows. Fails with {@link SessionRefused} if that session has other tokens by now.
   */
  readonly issueBy: <E>(
    options: IssueOptions & {
      readonly seed?: Redacted.Redacted | undefined
      /** The session that the step ends. */
      readonly replaces?: SessionId | undefined
      /** The latest that the session may end. */
      readonly notAfter?: DateTime.Utc | undefined
    },
    store: (row: SessionRow, change: ChangeContext) => Effect.Effect<SessionRow, E>
  ) => Effect.Effect<IssuedSession, SessionCredentialError | E>
  /**
   * Exchanges a refresh token for new tokens of its session; the token before ends at once. Until one of the new tokens is
   * used, and for the grace window after that, the same refresh token gives the same ones again, or equally good ones if
   * they have expired meanwhile: an answer that was lost costs nothing. Fails with {@link RefreshRefused} otherwise; a
   * refresh token older than that ends its session. `scopes` are what the session must hold, or nothing is exchanged.
   *
   * A session that is bound to a key takes a `proof` of the key. It is asked for only if the refresh token is one that this
   * server has signed, and spent before the token is. One that was granted to a client takes the id of the `client`.
   */
  readonly refresh: <E = never, R = never>(refreshToken: Redacted.Redacted, options?: {
    readonly proof?: Effect.Effect<KeyProof<E>, E, R> | undefined
    readonly scopes?: ReadonlyArray<AccessScope> | undefined
    readonly client?: PresentingClient | undefined
  }) => Effect.Effect<RefreshedSession, SessionCredentialError | E, R>
  /**
   * Returns the session of a token, and renews it when its renewal is due. Fails with {@link SessionRefused}, whatever is
   * wrong with the token, and with {@link SessionStoreUnavailable} if the row cannot be read.
   *
   * A session that is bound to a key is let in only with the thumbprint of the key that the caller has proven to hold, and
   * one that was granted for a resource only there: without a `resource` the use is of the API.
   */
  readonly verify: (token: Redacted.Redacted, use?: Use) => Effect.Effect<Session, SessionCredentialError>
  /**
   * Tells the holder of a token how its session has ended, for a day after that. None of a token that is good, unknown or
   * bound to a key, and none later.
   */
  readonly findEnd: (token: Redacted.Redacted) => Effect.Effect<Option.Option<SessionEnd>, SessionCredentialError>
  /**
   * Tells of an access token what introspection tells (RFC 7662), and none of one that is not good. No use of the session
   * is counted, and no key is asked for.
   */
  readonly inspect: (token: Redacted.Redacted) => Effect.Effect<Option.Option<InspectedToken>, SessionCredentialError>
  /**
   * Ends the session of an access or refresh token that was granted to a client (RFC 7009). Nothing comes of a token that is
   * none. Returns false, and ends nothing, if it is a token that was not granted to this client.
   */
  readonly revokeToken: (token: Redacted.Redacted, clientId: string) => Effect.Effect<boolean, SessionCredentialError>
  /**
   * Lists the live sessions, all of them or a subject's, each with whether it is the one of `current`, in the order of their
   * ids, which is the order in which they began; after one of them and at most `limit`, if that is given.
   */
  readonly list: (options?: {
    readonly subject?: string | undefined
    readonly current?: SessionId | undefined
    readonly after?: SessionId | undefined
    readonly limit?: number | undefined
  }) => Effect.Effect<ReadonlyArray<ListedSession>, SessionCredentialError>
  /**
   * Gives a session's device a name for people, a line of up to 128 characters. Fails with {@link LabelNotAllowed}, and with
   * {@link SessionNotFound} if there is no such live session, or it is another subject's than that of a session without the
   * scope `access:manage`.
   */
  readonly rename: (id: SessionId, label: string, by: Principal) => Effect.Effect<Session, SessionCredentialError>
  /**
   * Makes a session ask for more scopes, for 10 minutes, in place of what it asked for before; the list and the feed tell of
   * it. Returns the session as it is then: with nothing asked for, if it holds all of them. Fails with {@link InvalidInput}
   * if one is no scope of this server, with {@link TooManyScopeRequests} past ten requests in ten minutes, and with
   * {@link SessionRefused} if the session has ended.
   */
  readonly requestScopes: (
    session: Session,
    scopes: ReadonlyArray<AccessScope>
  ) => Effect.Effect<Session, SessionCredentialError>
  /**
   * Answers a session that asks for more scopes, in one step: it holds `scopes` from then on, everywhere and with the token
   * that it has, and asks for nothing more. No scopes turn it away. `requestedAt` is that of the request that was looked at;
   * fails with {@link ScopeRequestChanged} if the session does not ask for these scopes by it. A session answers its own
   * subject's, or with `access:manage` everyone's ({@link SessionNotFound}), and grants no scope that it lacks, none of
   * `AccessScope.widening`, and none of a session that is bound to a key to one that is not ({@link ScopeNotHeld}); one that
   * has ended meanwhile changes nothing ({@link SessionRefused}).
   */
  readonly answerScopes: (answer: {
    readonly id: SessionId
    readonly requestedAt: DateTime.Utc
    readonly scopes: ReadonlyArray<AccessScope>
  }, by: Principal) => Effect.Effect<Session, SessionCredentialError>
  /**
   * Counts a connection as one of a session's until the scope closes. Answers false, and counts nothing, if this process
   * holds `maximum` of them open already. `ConnectionEnd.makeOpen` does it for those that servers hold open.
   */
  readonly connect: (session: Session, maximum?: number) => Effect.Effect<boolean, never, Scope.Scope>
  /**
   * Ends a session by its id, and its open pairing links with it. With `descendants` it also ends the sessions that
   * came from its links, through every generation, and their links. Answers what ended. Fails with {@link
   * SessionNotFound} if no session ended, or it is another subject's than that of a session without the scope
   * `access:manage`; and with {@link CurrentSessionProtected} if it is the session that asks.
   *
   * Here and below, the session that asks does not end because it descends from what ends, nor does what descends from it.
   */
  readonly revoke: (id: SessionId, by: Principal, options?: {
    readonly descendants?: boolean | undefined
  }) => Effect.Effect<Ended, SessionCredentialError>
  /**
   * Ends the session that asks, and its open pairing links with it, as logging out does. Sessions that came from its links
   * go on. Ending it twice is a success.
   */
  readonly logout: (session: Session) => Effect.Effect<void, SessionCredentialError>
  /** Ends the subject's other sessions, with all that descends from them. */
  readonly revokeOthers: (session: Session) => Effect.Effect<Ended, SessionCredentialError>
  /**
   * Ends every session of a subject, with all that descends from them, and the open links for the subject.
   */
  readonly revokeBySubject: (subject: string, by: Principal) => Effect.Effect<Ended, SessionCredentialError>
  /**
   * Ends every session bound to a key, with all that descends from them, and the open links that only this key redeems.
   */
  readonly revokeByProofKey: (
    proofKeyThumbprint: string,
    by: Principal
  ) => Effect.Effect<Ended, SessionCredentialError>
  /**
   * Ends every session and open link that was issued before a time, with all that descends from these sessions. It is
   * for a store that came back from a copy, in which what ended since is live. It goes in steps of 1,000 sessions, each
   * with what descends from them; after a failure it can be called again.
   */
  readonly revokeIssuedBefore: (time: DateTime.DateTime, by: Principal) => Effect.Effect<Ended, SessionCredentialError>
  /** Makes a ticket for one WebSocket upgrade, if no header can be set: 128 random bits, single use, short-lived. */
  readonly issueTicket: (session: Session) => Effect.Effect<Redacted.Redacted, SessionCredentialError>
  /** Redeems a ticket for its session, of n racers once. Fails with {@link TicketRefused}. */
  readonly consumeTicket: (ticket: Redacted.Redacted) => Effect.Effect<Session, SessionCredentialError>
  /**
   * Waits until a session has ended and returns how. Fails if the row cannot be read, so that what waits for it ends rather
   * than living on unchecked. The session under `unsafe-no-auth` never ends. Servers use `ConnectionEnd`, which knows of the
   * other reasons as well.
   */
  readonly awaitEnd: (session: Session) => Effect.Effect<"revoked" | "expired", SessionCredentialError>
  /** Ends a stream when the session that it was opened with ends, or the server begins to stop. */
  readonly whileValid: (
    session: Session
  ) => <A, E, R>(stream: Stream.Stream<A, E, R>) => Stream.Stream<A, E | SessionCredentialError, R>
  /**
   * Makes a new key sign from now on, and returns its `kid`. Tokens that older keys have signed go on, in every process:
   * one that meets a token of a key unknown to it reads the keys again, at most once a second.
   */
  readonly rotateSigningKey: Effect.Effect<string, SessionCredentialError>
  /**
   * Deletes the keys that stopped signing an hour ago or more and whose tokens belong to no live session, and returns how
   * many. {@link layerSweeper} does it.
   */
  readonly sweepSigningKeys: Effect.Effect<number, SessionCredentialError>
  /** Returns the keys for a verifier of its own. They are secret: who holds one can sign. */
  readonly verificationKeys: Effect.Effect<Redacted.Redacted<VerificationKeys>, SessionCredentialError>
}>()("@sallyport/core/access/SessionCredentialService") {}

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

/** How many rows a page of {@link SessionCredentialService}'s `list` holds, so that a long list never blocks for long. */
const listPage = 256

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | AccessRepository
  | SecretStore.SecretStore
  | SecureRandom.SecureRandom
  | Digest.Digest
  | Mac.Mac

/** Ends the wait for a renewal, which then goes on by itself. */
const late = Effect.as(Effect.sleep("50 millis"), undefined)

/** How long a session waits for an answer about the scopes that it asks for. */
const scopeRequestMillis = 600_000

/** How many sessions, with what descends from them, a step of `revokeIssuedBefore` ends, so that it stays short. */
const revocationBatch = 1_000

const checkInput = Input.check((problem) => new SessionCredentialError({ reason: new InvalidInput(problem) }))

/** Bounds what names a client or a resource: both can be URLs. */
const maxClientLength = 2_048

const issueRules = {
  subject: Input.required(subjectRule),
  scopes: Input.required(scopesRule),
  method: Input.required(Input.oneOf(SessionMethod)),
  proofKeyThumbprint: Input.key,
  kind: Input.oneOf(DeviceKind),
  linkId: Input.rule(Schema.NullOr(Text.key()), Input.key.expected),
  client: Input.rule(
    Schema.NullOr(Schema.Struct({ id: Text.key(maxClientLength), resource: Schema.NullOr(Text.key(maxClientLength)) })),
    "the id of a client and a resource"
  ),
  issuedBy: Input.rule(Schema.NullOr(Text.key()), Input.key.expected),
  actor: nameRule
}

/** How long the holder of a token is told how its session has ended. */
const endToldMillis = 86_400_000

/** Returns the session that asks for a revocation. */
const keptBy = (by: Principal): SessionId | undefined => by === "operator" ? undefined : by.id

/** Warns of sessions whose tokens no key verifies any more. A store that can't be read is told of by those who need it. */
const warnIfSignedOut = (repository: AccessRepository["Service"]["sessions"]) =>
  Clock.currentTimeMillis.pipe(
    Effect.flatMap((nowMillis) => repository.list({ nowMillis, afterId: undefined, limit: 1 })),
    Effect.flatMap((sessions) =>
      sessions.length === 0 ? Effect.void : Effect.logWarning(
        `The keys that sign sessions are gone from the secret store, and there are sessions: new keys are made, and ` +
          `everyone has to pair again. If you have a copy of the secrets, stop this server and put the copy in its place`
      )
    ),
    Effect.ignore
  )

/** Says what came of a look at the row of a token. */
const lookupResult = (exit: Exit.Exit<Session, SessionCredentialError>): string => {
  if (Exit.isSuccess(exit)) return "found"
  const reason = Option.map(Cause.findErrorOption(exit.cause), ({ reason }) => reason)
  if (Option.isNone(reason)) return "interrupted"
  return reason.value._tag === "SessionRefused" ? reason.value.problem : "unavailable"
}

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  SessionCredentialService["Service"],
  SecretStore.SecretStoreError,
  Requirements | Scope.Scope
> {
  const repository = (yield* AccessRepository).sessions
  const random = yield* SecureRandom.SecureRandom
  const { absoluteMillis, lifetimeMillis, recheckMillis, refreshesAll, refreshing, renewalMillis, ticketMillis } =
    settings
  const ring = yield* SigningKeys.makeRing(warnIfSignedOut(repository))
  const { digestOf, firstTokens, successors, verify: verifySignature } = yield* SessionTokens.make(ring)
  /** Returns how old the last renewal of a session must be for the next one. */
  const renewalOf = ({ lifetimeMillis }: SessionRow): number =>
    lifetimeMillis === null ? renewalMillis : Math.min(renewalMillis, Math.max(1, Math.floor(lifetimeMillis / 30)))
  const cache = SessionCache.make({ capacity: settings.cacheCapacity, recheckMillis, renewalOf })
  const open = new Map<SessionId, number>()
  const follower = yield* AccessFollower.make({
    trustMillis: settings.trustMillis,
    onEvents: cache.onEvents,
    onGap: cache.forgetAll
  })
  const sha256 = yield* Sha256Hex
  const vocabulary = yield* Vocabulary
  const scopeRequests = yield* Attempts.make("scope-request", {
    perSource: { attempts: 10, windowMillis: scopeRequestMillis },
    total: { attempts: 10_000, windowMillis: scopeRequestMillis }
  })

  const change = (actor: string): Effect.Effect<ChangeContext> =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => ({ actor, nowMillis }))

  const findEnd: SessionCredentialService["Service"]["findEnd"] = Effect.fnUntraced(
    function*(token) {
      if (Redacted.value(token).length > SessionToken.maxLength) return Option.none()
      if (Option.isNone(yield* verifySignature(token))) return Option.none()
      const row = Option.getOrUndefined(yield* repository.findByTokenDigest(yield* digestOf(token)))
      const nowMillis = yield* Clock.currentTimeMillis
      if (row === undefined || row.proofKeyThumbprint !== null || isLive(row, nowMillis)) return Option.none()
      const { revokedAtMillis, revokedBy } = row
      const endedAtMillis = revokedAtMillis ?? row.expiresAtMillis
      if (endedAtMillis + endToldMillis < nowMillis) return Option.none()
      const from = revokedBy === null || revokedBy.sessionId === null || revokedBy.sessionId === row.id
        ? Option.none()
        : yield* repository.findById(revokedBy.sessionId)
      return Option.some<SessionEnd>({
        how: revokedBy === null
          ? row.expiresAtMillis === row.absoluteExpiresAtMillis ? "over" : "unused"
          : revokedBy.sessionId === row.id
          ? "signed-out"
          : revokedBy.descended
          ? "descended"
          : "revoked",
        at: DateTime.makeUnsafe(endedAtMillis),
        lastSeenAt: DateTime.makeUnsafe(row.lastSeenAtMillis),
        actor: revokedBy?.actor ?? null,
        // Other people's devices are nothing to the holder.
        device: Option.match(from, {
          onNone: () => null,
          onSome: ({ device, subject }) => subject === row.subject ? device.label : null
        })
      })
    },
    Effect.catchTag(["RepositoryError", "SecretStoreError"], (error) => Effect.fail(unavailable(error)))
  )

  const endProblem = (row: SessionRow): "revoked" | "expired" => row.revokedAtMillis === null ? "expired" : "revoked"

  const renewing = new Set<SessionId>()
  const renewals = Outage.ofSource(repository, {
    of: "renewals of sessions",
    begins: "Sessions cannot be renewed; they are let in until they end, and the renewal is tried again with each use",
    ends: "Sessions are renewed again"
  })
  yield* Effect.addFinalizer(() => renewals.left)
  // A renewal is due once in a long while: after a minute without one nothing is known of the store.
  const quiet = yield* FiberHandle.make()
  const renewalFailed = (cause: Cause.Cause<unknown>) =>
    Effect.andThen(renewals.failed(cause), FiberHandle.run(quiet, Effect.delay(renewals.left, "1 minute")))

  const renewIfDue = Effect.fnUntraced(function*(row: SessionRow, nowMillis: number) {
    const dueBeforeMillis = nowMillis - renewalOf(row)
    if (row.lastSeenAtMillis > dueBeforeMillis || renewing.has(row.id)) return row
    renewing.add(row.id)
    const renewal = yield* repository.renew(
      { id: row.id, dueBeforeMillis, lifetimeMillis },
      { actor: row.subject, nowMillis }
    ).pipe(
      Effect.matchCauseEffect({
        onFailure: (cause) => Effect.as(renewalFailed(cause), undefined),
        onSuccess: (renewed) => Effect.as(renewals.worked, renewed)
      }),
      Effect.ensuring(Effect.sync(() => renewing.delete(row.id))),
      Effect.forkDetach({ startImmediately: true })
    )
    // The row says that the session is live: requests don't wait for a store that makes writers wait, and are not refused for
    // one that takes no writes.
    const ended = renewal.pollUnsafe() ?? (yield* Effect.raceFirst(Fiber.await(renewal), late))
    const renewed = ended === undefined ? undefined : yield* ended
    if (renewed === undefined) return row
    if (Option.isSome(renewed)) return renewed.value
    // Another caller renewed or ended it in between: the row says which.
    const current = yield* repository.findById(row.id)
    if (Option.isNone(current)) return yield* refused("unknown")
    if (isLive(current.value, nowMillis)) return current.value
    cache.forget(row.id)
    return yield* refused(endProblem(current.value))
  })

  const tokenEnd = (row: SessionRow): DateTime.Utc =>
    DateTime.makeUnsafe(Math.min(row.tokenExpiresAtMillis ?? row.expiresAtMillis, row.expiresAtMillis))

  /** Verifies a token that is not in the cache, or that is due for a look at its row. */
  const verifyRow = Effect.fn("SessionCredentialService.verify")(
    function*(
      token: Redacted.Redacted,
      tokenDigest: string,
      nowMillis: number
    ) {
      if (!cache.has(tokenDigest) && Option.isNone(yield* verifySignature(token))) return yield* refused("malformed")
      const generation = cache.generation()
      const found = yield* repository.findByTokenDigest(tokenDigest)
      if (Option.isNone(found)) return yield* refused("unknown")
      if (!isLive(found.value, nowMillis)) {
        cache.forget(found.value.id)
        return yield* refused(endProblem(found.value))
      }
      if ((found.value.tokenExpiresAtMillis ?? Infinity) <= nowMillis) return yield* refused("expired")
      const row = yield* renewIfDue(found.value, nowMillis)
      // From its first use on, the refresh token before these tokens is good for the grace window only.
      if (row.previousRefreshDigest !== null && row.tokensUsedAtMillis === null) {
        yield* repository.useTokens(tokenDigest, nowMillis)
      }
      return cache.remember(tokenDigest, row, { generation, nowMillis })
    },
    (effect) =>
      effect.pipe(
        Effect.catchTag(["RepositoryError", "SecretStoreError"], (error) => Effect.fail(unavailable(error))),
        Effect.onExit((exit) => Metrics.sessionLookups(1, { result: lookupResult(exit) }))
      )
  )

  /** Lets a session in that is bound to no key, or to the one that was proven, and is for what it is used for. */
  const admit = (session: Session, use: Use | undefined): Effect.Effect<Session, SessionCredentialError> =>
    session.proofKeyThumbprint !== null && session.proofKeyThumbprint !== use?.proofKeyThumbprint
      ? Effect.fail(refused("proof-key-mismatch"))
      : (session.client?.resource ?? undefined) === use?.resource
      ? Effect.succeed(session)
      : Effect.fail(refused("resource-mismatch"))

  /** Looks at the cache, and at the row if the cache doesn't know or may not be trusted. */
  const verifyDigest = (
    token: Redacted.Redacted,
    tokenDigest: string,
    nowMillis: number,
    use: Use | undefined
  ): Effect.Effect<Session, SessionCredentialError> => {
    const session = cache.recall(tokenDigest, nowMillis)
    if (session !== undefined && follower.isLive(nowMillis)) return admit(session, use)
    const looked = session === undefined
      ? verifyRow(token, tokenDigest, nowMillis)
      : Effect.flatMap(follower.catchUp, (live) => {
        const current = live ? cache.recall(tokenDigest, nowMillis) : undefined
        return current === undefined ? verifyRow(token, tokenDigest, nowMillis) : Effect.succeed(current)
      })
    return Effect.flatMap(looked, (found) => admit(found, use))
  }

  const verify: SessionCredentialService["Service"]["verify"] = (token, use) => {
    const text = Redacted.value(token)
    if (text.length > SessionToken.maxLength) return Effect.fail(refused("malformed"))
    return sha256 === undefined
      ? Effect.flatMap(
        digestOf(token),
        (tokenDigest) =>
          Clock.clockWith((clock) => verifyDigest(token, tokenDigest, clock.currentTimeMillisUnsafe(), use))
      )
      : Clock.clockWith((clock) => verifyDigest(token, sha256(text), clock.currentTimeMillisUnsafe(), use))
  }

  const connections = (id: SessionId): number => open.get(id) ?? 0

  /**
   * Revokes, then forgets what was revoked, also if an interruption or an error leaves open what was committed. The
   * connections are those from before: the feed may have ended them by the time that the store answers.
   */
  const revokeTarget = Effect.fnUntraced(
    function*(target: RevocationTarget, actor: string): Effect.fn.Return<Ended, RepositoryError> {
      const before = new Map(open)
      const { links, sessions } = yield* repository.revoke(target, yield* change(actor))
      // A racer may have been the one to revoke a target and not have come to forget it, so its absence from the answer
      // does not say that it is still live.
      cache.invalidate(
        sessions,
        (session) => isTarget(target, { ...session, createdAtMillis: session.createdAt.epochMilliseconds })
      )
      yield* Metrics.sessionsRevoked(sessions.length, {})
      return {
        sessions: sessions.length,
        links: links.length,
        connections: sessions.reduce((sum, id) => sum + (before.get(id) ?? 0), 0)
      }
    },
    (effect) =>
      effect.pipe(
        Effect.tapCause(() => Effect.sync(cache.forgetAll)),
        Effect.uninterruptible,
        Effect.mapError(unavailable)
      )
  )

  const awaitEnd = (session: Session) =>
    session.id === endlessSessionId ? Effect.never : Effect.acquireUseRelease(
      Effect.sync(() => cache.watch(session.id)),
      Effect.fnUntraced(function*(watcher) {
        while (true) {
          // Made before the look, so that a revocation in between is not missed, and again for each look: being woken is
          // a hint, and after a revocation that failed the session may well be live.
          watcher.woken = Deferred.makeUnsafe()
          const row = yield* repository.findById(session.id)
          const nowMillis = yield* Clock.currentTimeMillis
          if (Option.isNone(row)) return "revoked" as const
          if (!isLive(row.value, nowMillis)) return endProblem(row.value)
          yield* Deferred.await(watcher.woken).pipe(
            Effect.timeoutOption(Math.min(row.value.expiresAtMillis - nowMillis, recheckMillis))
          )
        }
      }),
      (watcher) => Effect.sync(() => cache.unwatch(session.id, watcher))
    ).pipe(Effect.mapError(unavailable))

  /** Returns the key that signed the tokens of a row. */
  const keyOf = (row: SessionRow) => {
    const known = ring.known().byId.get(row.keyId)
    return known === undefined
      ? Effect.map(ring.reread, ({ byId }) => byId.get(row.keyId))
      : Effect.succeed(known)
  }

  const issueBy: SessionCredentialService["Service"]["issueBy"] = Effect.fnUntraced(function*(request, store) {
    yield* checkInput(issueRules, { ...request, kind: request?.device?.kind, ...request?.link })
    const invalid = (field: string, expected: string) =>
      new SessionCredentialError({ reason: new InvalidInput({ field, expected }) })
    if (request.method === "dpop-access-token" && request.proofKeyThumbprint === undefined) {
      return yield* invalid("proofKeyThumbprint", "the thumbprint of the key that a dpop-access-token is bound to")
    }
    // What a device says of itself is made plain rather than refused.
    const userAgent = Text.toLine(request.device?.userAgent ?? "")
    const device = new Device({
      label: Text.toLine(request.label ?? request.device?.label ?? "", 128),
      kind: request.device?.kind ?? deviceKind(request.method, userAgent),
      userAgent,
      address: Text.toLine(request.device?.address ?? "")
    })
    const key = yield* Effect.mapError(ring.active, unavailable)
    const nowMillis = yield* Clock.currentTimeMillis
    const ownMillis = request.lifetime === undefined ? null : Lifetimes.toMillis(request.lifetime)
    const askedMillis = request.absoluteLifetime === undefined ? null : Lifetimes.toMillis(request.absoluteLifetime)
    if (ownMillis === undefined || askedMillis === undefined) {
      const field = ownMillis === undefined ? "lifetime" : "absoluteLifetime"
      return yield* invalid(field, "between 1 millisecond and 10 years")
    }
    const absoluteExpiresAtMillis = Lifetimes.earliest(
      absoluteMillis === null ? null : nowMillis + absoluteMillis,
      askedMillis === null ? null : nowMillis + askedMillis,
      request.notAfter?.epochMilliseconds ?? null
    )
    const isByConsent = request.client !== undefined && (request.link?.linkId ?? null) === null
    const isRefreshed = (refreshesAll || isByConsent) && request.method !== "browser-session-cookie"
    const isMachine = request.machine === true && !isRefreshed && request.method !== "browser-session-cookie"
    const unsigned: SessionRow = {
      id: SessionId.make(yield* random.uuidV7()),
      subject: request.subject,
      method: request.method,
      scopes: request.scopes,
      scopeRequest: null,
      proofKeyThumbprint: request.proofKeyThumbprint ?? null,
      linkId: request.link?.linkId ?? null,
      parentId: request.link?.issuedBy ?? null,
      letInBy: request.actor ?? request.subject,
      client: request.client ?? null,
      device,
      tokenDigest: "",
      keyId: key.keyId,
      tokenExpiresAtMillis: isRefreshed ? nowMillis + refreshing.tokenMillis : null,
      refreshDigest: null,
      previousRefreshDigest: null,
      refreshedAtMillis: isRefreshed ? nowMillis : null,
      tokensUsedAtMillis: null,
      redemptionDigest: null,
      createdAtMillis: nowMillis,
      lastSeenAtMillis: nowMillis,
      expiresAtMillis: Math.min(nowMillis + (ownMillis ?? lifetimeMillis), absoluteExpiresAtMillis ?? Infinity),
      lifetimeMillis: ownMillis,
      absoluteExpiresAtMillis,
      revokedAtMillis: null,
      revokedBy: null
    }
    const seed = request.seed ?? Redacted.make(Base64Url.encode(yield* random.randomBytes(32)))
    const first = yield* firstTokens(key, unsigned, seed, isMachine)
    const row: SessionRow = { ...unsigned, tokenDigest: first.tokenDigest, refreshDigest: first.refreshDigest }
    const stored = yield* store(row, { actor: request.actor ?? request.subject, nowMillis }).pipe(
      Effect.onExit(() =>
        Effect.sync(() => request.replaces === undefined ? undefined : cache.invalidate([request.replaces]))
      ),
      Effect.uninterruptible
    )
    const issued = ({ refreshToken, token }: typeof first): IssuedSession => ({
      token,
      tokenExpiresAt: tokenEnd(stored),
      refreshToken,
      session: toSession(stored)
    })
    if (stored.id === row.id) {
      yield* Metrics.sessionsIssued(1, { method: row.method })
      return issued(first)
    }
    const keyBefore = yield* Effect.mapError(keyOf(stored), unavailable)
    const again = keyBefore === undefined ? undefined : yield* firstTokens(keyBefore, stored, seed, isMachine)
    return again?.tokenDigest === stored.tokenDigest ? issued(again) : yield* refused("unknown")
  })

  return SessionCredentialService.of({
    lifetime: Duration.millis(lifetimeMillis),
    issue: Effect.fn("SessionCredentialService.issue")((request) =>
      issueBy(request, (row, context) => Effect.as(Effect.mapError(repository.insert(row, context), unavailable), row))
    ),
    issueBy,
    refresh: Effect.fn("SessionCredentialService.refresh")(function*(refreshToken, options) {
      const refuse = (problem: RefreshRefused["problem"]) =>
        new SessionCredentialError({ reason: new RefreshRefused({ problem }) })
      if (Redacted.value(refreshToken).length > SessionToken.maxLength) return yield* refuse("malformed")
      const verified = yield* Effect.mapError(verifySignature(refreshToken, SessionToken.refreshType), unavailable)
      if (Option.isNone(verified)) return yield* refuse("malformed")
      const claims = verified.value
      const proof = options?.proof === undefined ? undefined : yield* options.proof
      if (proof !== undefined) yield* proof.spend
      const key = yield* Effect.mapError(ring.active, unavailable)
      const nowMillis = yield* Clock.currentTimeMillis
      const tokenExpiresAtMillis = nowMillis + refreshing.tokenMillis
      const next = yield* successors({ key, claims, refreshToken, refreshedAtMillis: nowMillis, tokenExpiresAtMillis })
      const outcome = yield* repository.refresh({
        id: claims.sid,
        presentedDigest: yield* digestOf(refreshToken),
        proofKeyThumbprint: proof?.proofKeyThumbprint,
        client: options?.client,
        scopes: options?.scopes ?? [],
        graceMillis: refreshing.graceMillis,
        lifetimeMillis,
        next: {
          tokenDigest: next.tokenDigest,
          refreshDigest: next.refreshDigest,
          keyId: key.keyId,
          tokenExpiresAtMillis
        }
      }, { actor: claims.sub, nowMillis }).pipe(
        // The token before ends here at once, also if an error or an interruption leaves open what was committed.
        Effect.onExit(() => Effect.sync(() => cache.invalidate([claims.sid]))),
        Effect.uninterruptible,
        Effect.mapError(unavailable)
      )
      yield* Metrics.refreshes(1, { result: outcome._tag === "Refused" ? outcome.reason : outcome._tag })
      switch (outcome._tag) {
        case "Refreshed":
          return {
            token: next.token,
            refreshToken: next.refreshToken,
            tokenExpiresAt: tokenEnd(outcome.row),
            session: toSession(outcome.row)
          }
        case "Repeated": {
          const { row } = outcome
          const keyBefore = yield* Effect.mapError(keyOf(row), unavailable)
          if (keyBefore === undefined || row.refreshedAtMillis === null || row.tokenExpiresAtMillis === null) {
            return yield* refuse("unknown")
          }
          const { refreshDigest, tokenDigest, ...tokens } = yield* successors({
            key: keyBefore,
            claims,
            refreshToken,
            refreshedAtMillis: row.refreshedAtMillis,
            tokenExpiresAtMillis: row.tokenExpiresAtMillis
          })
          return refreshDigest === row.refreshDigest && tokenDigest === row.tokenDigest
            ? { ...tokens, tokenExpiresAt: tokenEnd(row), session: toSession(row) }
            : yield* refuse("unknown")
        }
        case "Reused":
          yield* Effect.logWarning("A refresh token was used again, so its session was revoked").pipe(
            Effect.annotateLogs({ session: claims.sid, subject: claims.sub })
          )
          return yield* refuse("reused")
        case "Refused":
          return yield* refuse(outcome.reason)
      }
    }),
    verify,
    findEnd,
    inspect: Effect.fn("SessionCredentialService.inspect")(
      function*(token) {
        if (Redacted.value(token).length > SessionToken.maxLength) return Option.none()
        const claims = yield* verifySignature(token)
        if (Option.isNone(claims)) return Option.none()
        const row = yield* repository.findByTokenDigest(yield* digestOf(token))
        const nowMillis = yield* Clock.currentTimeMillis
        return Option.map(
          Option.filter(row, (row) => isLive(row, nowMillis) && (row.tokenExpiresAtMillis ?? Infinity) > nowMillis),
          (row) => ({
            session: toSession(row),
            issuedAt: DateTime.makeUnsafe(claims.value.iat * 1_000),
            expiresAt: tokenEnd(row)
          })
        )
      },
      Effect.mapError(unavailable)
    ),
    revokeToken: Effect.fn("SessionCredentialService.revokeToken")(function*(token, clientId) {
      if (Redacted.value(token).length > SessionToken.maxLength) return true
      for (const type of [SessionToken.type, SessionToken.refreshType] as const) {
        const claims = yield* Effect.mapError(verifySignature(token, type), unavailable)
        if (Option.isNone(claims)) continue
        const id = claims.value.sid
        const row = yield* Effect.mapError(repository.findById(id), unavailable)
        if (Option.isNone(row)) return true
        if (row.value.client?.id !== clientId) return false
        yield* revokeTarget({ _tag: "Session", id }, row.value.subject)
      }
      return true
    }),
    list: Effect.fn("SessionCredentialService.list")(function*(request) {
      yield* checkInput({ subject: nameRule, after: Input.key, limit: Input.count }, request ?? {})
      const nowMillis = yield* Clock.currentTimeMillis
      const listed: Array<ListedSession> = []
      let afterId = request?.after
      while (true) {
        const limit = Math.min(listPage, (request?.limit ?? Infinity) - listed.length)
        const page = yield* Effect.mapError(
          repository.list({ nowMillis, subject: request?.subject, afterId, limit }),
          unavailable
        )
        const counts = yield* Effect.mapError(
          repository.countDescendants({ ids: page.map(({ id }) => id), nowMillis }),
          unavailable
        )
        for (const row of page) {
          afterId = row.id
          // The row is written once per renewal interval; this process may have seen the session since.
          const seenAtMillis = cache.seenAtMillis(row.id)
          listed.push({
            session: toSession({ ...row, lastSeenAtMillis: Math.max(row.lastSeenAtMillis, seenAtMillis) }),
            current: row.id === request?.current,
            descendants: counts.get(row.id) ?? 0,
            connections: connections(row.id)
          })
        }
        if (page.length < listPage || listed.length === request?.limit) return listed
      }
    }),
    rename: Effect.fn("SessionCredentialService.rename")(function*(id, text, by) {
      const label = text.trim()
      if (!Text.isLine(label)) return yield* new SessionCredentialError({ reason: new LabelNotAllowed() })
      if (!Text.isKey(id)) return yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
      const renamed = yield* Effect.flatMap(
        change(actorOf(by)),
        (context) => repository.rename({ id, label, subject: reachOf(by) }, context)
      ).pipe(
        Effect.onExit(() => Effect.sync(() => cache.invalidate([id]))),
        Effect.uninterruptible,
        Effect.mapError(unavailable)
      )
      return Option.isNone(renamed)
        ? yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
        : toSession(renamed.value)
    }),
    requestScopes: Effect.fn("SessionCredentialService.requestScopes")(function*(session, scopes) {
      const { id, subject } = session
      yield* checkInput({ scopes: scopesRule }, { scopes })
      const unknown = missing(vocabulary, scopes)
      if (unknown.length > 0) {
        return yield* new SessionCredentialError({
          reason: new InvalidInput({ field: "scopes", expected: `scopes of this server, not ${unknown.join(", ")}` })
        })
      }
      // It has no row, and every scope.
      if (id === endlessSessionId) return session
      const exceeded = yield* Effect.mapError(scopeRequests.count(id), unavailable)
      if (Option.isSome(exceeded)) {
        return yield* new SessionCredentialError({
          reason: new TooManyScopeRequests({ retryAfterMillis: exceeded.value })
        })
      }
      const asking = yield* Effect.flatMap(
        change(subject),
        (context) => repository.askScopes({ id, scopes, lifetimeMillis: scopeRequestMillis }, context)
      ).pipe(
        Effect.onExit(() => Effect.sync(() => cache.invalidate([id]))),
        Effect.uninterruptible,
        Effect.mapError(unavailable)
      )
      return Option.isNone(asking) ? yield* refused("revoked") : toSession(asking.value)
    }),
    answerScopes: Effect.fn("SessionCredentialService.answerScopes")(function*({ id, requestedAt, scopes }, by) {
      yield* checkInput({ scopes: scopesRule }, { scopes })
      if (!Text.isKey(id)) return yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
      const outcome = yield* Effect.flatMap(change(actorOf(by)), (context) =>
        repository.answerScopes({
          id,
          scopes,
          requestedAtMillis: requestedAt.epochMilliseconds,
          by: by === "operator" || by.id === endlessSessionId ? undefined : by.id
        }, context)).pipe(
          Effect.onExit(() => Effect.sync(() => cache.invalidate([id]))),
          Effect.uninterruptible,
          Effect.mapError(unavailable)
        )
      switch (outcome._tag) {
        case "Answered":
          return toSession(outcome.row)
        case "Unknown":
          return yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
        case "Changed":
          return yield* new SessionCredentialError({ reason: new ScopeRequestChanged({ id }) })
        case "NotHeld":
          return yield* new SessionCredentialError({ reason: new ScopeNotHeld({ scopes: outcome.scopes }) })
        case "ApproverEnded":
          return yield* refused("revoked")
      }
    }),
    connect: ({ id }, maximum = Infinity) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          if (connections(id) >= maximum) return Effect.succeed(false)
          open.set(id, connections(id) + 1)
          return Effect.as(Metrics.connections(1, {}), true)
        }),
        (opened) =>
          Effect.suspend(() => {
            if (!opened) return Effect.void
            if (connections(id) > 1) open.set(id, connections(id) - 1)
            else open.delete(id)
            return Metrics.connections(-1, {})
          })
      ),
    revoke: Effect.fn("SessionCredentialService.revoke")(function*(id, by, options) {
      if (by !== "operator" && by.id === id) {
        return yield* new SessionCredentialError({ reason: new CurrentSessionProtected({ id }) })
      }
      if (!Text.isKey(id)) return yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
      const target: RevocationTarget = {
        _tag: "Session",
        id,
        subject: reachOf(by),
        descendants: options?.descendants,
        keep: keptBy(by)
      }
      const ended = yield* revokeTarget(target, actorOf(by))
      return ended.sessions === 0
        ? yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
        : ended
    }),
    logout: Effect.fn("SessionCredentialService.logout")(function*(session) {
      yield* revokeTarget({ _tag: "Session", id: session.id, keep: session.id }, session.subject)
    }),
    revokeOthers: Effect.fn("SessionCredentialService.revokeOthers")(function*(session) {
      const target = { _tag: "SubjectExcept", subject: session.subject, keep: session.id } as const
      return yield* revokeTarget(target, session.subject)
    }),
    revokeBySubject: Effect.fn("SessionCredentialService.revokeBySubject")(function*(subject, by) {
      yield* checkInput({ subject: nameRule }, { subject })
      return yield* revokeTarget({ _tag: "Subject", subject, keep: keptBy(by) }, actorOf(by))
    }),
    revokeByProofKey: Effect.fn("SessionCredentialService.revokeByProofKey")(function*(proofKeyThumbprint, by) {
      yield* checkInput({ proofKeyThumbprint: Input.key }, { proofKeyThumbprint })
      const target = { _tag: "ProofKey", proofKeyThumbprint, keep: keptBy(by) } as const
      return yield* revokeTarget(target, actorOf(by))
    }),
    revokeIssuedBefore: Effect.fn("SessionCredentialService.revokeIssuedBefore")(function*(time, by) {
      const target = { _tag: "IssuedBefore", beforeMillis: time.epochMilliseconds, keep: keptBy(by) } as const
      const all = { sessions: 0, links: 0, connections: 0 }
      for (let isLast = false; !isLast;) {
        let ended = yield* revokeTarget({ ...target, limit: revocationBatch }, actorOf(by))
        isLast = ended.sessions === 0
        // Last what descends from sessions that had ended before, and the links.
        if (isLast) {
          all.links += ended.links
          ended = yield* revokeTarget(target, actorOf(by))
        }
        all.sessions += ended.sessions
        all.links += ended.links
        all.connections += ended.connections
      }
      return all
    }),
    issueTicket: Effect.fn("SessionCredentialService.issueTicket")(function*(session) {
      const ticket = Redacted.make(Base64Url.encode(yield* random.randomBytes(16)), { label: "session-ticket" })
      const nowMillis = yield* Clock.currentTimeMillis
      yield* repository.insertTicket({
        ticketDigest: yield* digestOf(ticket),
        sessionId: session.id,
        expiresAtMillis: nowMillis + ticketMillis
      }).pipe(Effect.mapError(unavailable))
      return ticket
    }),
    consumeTicket: Effect.fn("SessionCredentialService.consumeTicket")(function*(ticket) {
      if (Redacted.value(ticket).length > SessionToken.maxLength) {
        return yield* new SessionCredentialError({ reason: new TicketRefused() })
      }
      const nowMillis = yield* Clock.currentTimeMillis
      const row = yield* repository.consumeTicket({ ticketDigest: yield* digestOf(ticket), nowMillis }).pipe(
        Effect.mapError(unavailable)
      )
      if (Option.isNone(row)) return yield* new SessionCredentialError({ reason: new TicketRefused() })
      return toSession(row.value)
    }),
    awaitEnd,
    whileValid: (session) => (stream) =>
      Stream.interruptWhen(stream, Effect.raceFirst(awaitEnd(session), Effect.flatMap(Stopping, identity))),
    rotateSigningKey: ring.rotate.pipe(
      Effect.tap((keyId) => Effect.logInfo("A new key signs sessions").pipe(Effect.annotateLogs({ keyId }))),
      Effect.mapError(unavailable),
      Effect.withSpan("SessionCredentialService.rotateSigningKey")
    ),
    sweepSigningKeys: Effect.flatMap(
      Clock.currentTimeMillis,
      (nowMillis) => ring.sweep((keyId) => repository.isKeyInUse({ keyId, nowMillis }))
    ).pipe(
      Effect.mapError(unavailable),
      Effect.withSpan("SessionCredentialService.sweepSigningKeys")
    ),
    verificationKeys: ring.export.pipe(
      Effect.mapError(unavailable),
      Effect.withSpan("SessionCredentialService.verificationKeys")
    )
  })
})

/**
 * Creates the service, which follows the access feed until the scope closes; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  SessionCredentialService["Service"],
  InvalidSessionCredentialOptions | SecretStore.SecretStoreError,
  Requirements | Scope.Scope
> => Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the service with given options. Fails if they cannot work, or if the signing keys cannot be read.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  SessionCredentialService,
  InvalidSessionCredentialOptions | SecretStore.SecretStoreError,
  Requirements
> => Layer.effect(SessionCredentialService, make(options))

/**
 * Provides the service with the options of the configuration, in variables that begin with `SALLYPORT_SESSION_`.
 *
 * **Example** (Taking the lifetime of sessions from a variable)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { Repositories, SecretStore, SessionCredentialService } from "@sallyport/core"
 * import { ConfigProvider, Console, Effect, Layer } from "effect"
 *
 * const Sessions = SessionCredentialService.layerConfig.pipe(
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * const Environment = ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_SESSION_LIFETIME: "a while" }))
 *
 * const program = Effect.flip(Effect.scoped(Layer.build(Layer.provide(Sessions, Environment))))
 *
 * Effect.runPromise(Effect.flatMap(program, ({ message }) => Console.log(message)))
 * // => The options of sessions cannot work: SALLYPORT_SESSION_LIFETIME must be a duration of at least 1 millisecond, such as 30 days, not "a while"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  SessionCredentialService,
  Config.ConfigError | InvalidSessionCredentialOptions | SecretStore.SecretStoreError,
  Requirements
> = Layer.effect(SessionCredentialService, Effect.flatMap(settings.fromConfig, build))

/**
 * Provides the service with its defaults: 30 days without activity, no absolute end.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SessionCredentialService, SecretStore.SecretStoreError, Requirements> = Layer.effect(
  SessionCredentialService,
  Effect.flatMap(settings.defaults, build)
)

/**
 * Deletes sessions that have ended, expired tickets, and signing keys that no session needs any more, again and again, in
 * batches. Several processes may do this at once.
 *
 * `retention` is how long a session is kept after its end, by default 1 day, in which its device is told who ended it;
 * `interval` defaults to 10 minutes, `batchSize` to 500 sessions. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.RetentionOptions
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, AccessRepository | SessionCredentialService> =>
  Sweeper.layer({
    name: "ended sessions",
    options,
    defaults: { interval: "10 minutes", batchSize: 500, retention: "1 day" },
    sweep: Effect.gen(function*() {
      const repository = (yield* AccessRepository).sessions
      const sessions = yield* SessionCredentialService
      return Effect.fnUntraced(function*(limit: number, nowMillis: number, endedBeforeMillis: number) {
        const swept = yield* repository.sweep({ endedBeforeMillis, limit }, { actor: "system", nowMillis })
        if (swept < limit) yield* sessions.sweepSigningKeys
        return swept
      })
    })
  })
