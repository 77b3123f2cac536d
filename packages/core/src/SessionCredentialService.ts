/**
 * Issues, verifies, lists and ends sessions.
 *
 * A session is a row; its token is a signed name for it. The policy is here once, over whichever
 * {@link SessionCredentialRepository} the host provides: lifetimes, the sliding window, who may revoke what, and the cache
 * that makes a token seen before cost one digest and one look-up.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { AccessEvent, ChangeContext } from "./AccessEvent.ts"
import type { AccessFeedRepository } from "./AccessFeedRepository.ts"
import { AccessRepositoryError } from "./AccessRepositoryError.ts"
import type { AccessScope } from "./AccessScope.ts"
import * as AccessFollower from "./internal/accessFollower.ts"
import * as PlainText from "./internal/plainText.ts"
import * as SigningKeys from "./internal/signingKeys.ts"
import * as Sweeper from "./Sweeper.ts"
import * as SecretStore from "./SecretStore.ts"
import { Device, type Session, SessionId, type SessionMethod } from "./Session.ts"
import {
  isLive,
  type RevocationTarget,
  SessionCredentialRepository,
  type SessionRow,
  toSession
} from "./SessionCredentialRepository.ts"
import * as SessionToken from "./SessionToken.ts"
import { Sha256Hex } from "./Sha256.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/**
 * Reports a token that lets nobody in. A caller is told this and no more; `problem` is for the log.
 */
export class SessionRefused extends Schema.TaggedError<SessionRefused>()("SessionRefused", {
  problem: Schema.Literals(["malformed", "unknown", "revoked", "expired", "proof-key-mismatch"])
}) {
  override get message() {
    return "The session is not valid, or has ended; sign in again"
  }
}

/** Reports a ticket that is unknown, was used, has expired, or whose session has ended. */
export class TicketRefused extends Schema.TaggedError<TicketRefused>()("TicketRefused", {}) {
  override get message() {
    return "The ticket is not valid, or was used already; ask for a new one"
  }
}

/**
 * Reports a refresh token that gives no new tokens. A caller is told this and no more; `problem` is for the log. `reused`
 * says that the token had been used before, and that its session was revoked for that.
 */
export class RefreshRefused extends Schema.TaggedError<RefreshRefused>()("RefreshRefused", {
  problem: Schema.Literals(["malformed", "unknown", "revoked", "expired", "reused", "proof-key-mismatch"])
}) {
  override get message() {
    return "The refresh token is not valid, or not any more; sign in again"
  }
}

/** Reports the id of a session that does not exist or has ended. */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>()("SessionNotFound", {
  id: SessionId
}) {
  override get message() {
    return `There is no live session ${this.id}; list the sessions to see which there are`
  }
}

/** Reports an attempt to revoke, by its id, the session that asks. */
export class CurrentSessionProtected extends Schema.TaggedError<CurrentSessionProtected>()("CurrentSessionProtected", {
  id: SessionId
}) {
  override get message() {
    return `${this.id} is the session that you are using; log out to end it`
  }
}

/**
 * Reports that the store of sessions, or the one of the signing keys, could not answer. Nobody is let in meanwhile, and the
 * call can be made again.
 */
export class SessionStoreUnavailable extends Schema.TaggedError<SessionStoreUnavailable>()("SessionStoreUnavailable", {
  cause: Schema.Union([AccessRepositoryError, SecretStore.SecretStoreError])
}) {
  override get message() {
    return "The session store cannot be reached at the moment; try again shortly"
  }
}

/** Reports what went wrong with a session, with a reason to branch on. */
export class SessionCredentialError extends Schema.TaggedError<SessionCredentialError>()("SessionCredentialError", {
  reason: Schema.Union([
    SessionRefused,
    TicketRefused,
    RefreshRefused,
    SessionNotFound,
    CurrentSessionProtected,
    SessionStoreUnavailable
  ])
}) {
  override get message() {
    return this.reason.message
  }
}

/** Reports settings that contradict each other when the layer is built. */
export class InvalidSessionOptions extends Schema.TaggedError<InvalidSessionOptions>()("InvalidSessionOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The session settings cannot work: ${this.problem}`
  }
}

// -----------------------------------------------------------------------------
// Models
// -----------------------------------------------------------------------------

/** Says who asks for a change: a session, or whoever runs the host. */
export type Principal = Session | "operator"

/** Returns the name under which a principal stands in the access feed. */
export const actorOf = (principal: Principal): string => principal === "operator" ? "operator" : principal.subject

/** Describes a session as the device list shows it. */
export interface ListedSession {
  readonly session: Session
  /** Whether it is the session that asked for the list. */
  readonly current: boolean
}

/** Holds what a device is given when its session begins. Neither token is kept anywhere. */
export interface IssuedSession {
  readonly token: Redacted.Redacted
  /** When the token ends, unless the session is renewed before, which moves a token without a refresh token along. */
  readonly tokenExpiresAt: DateTime.Utc
  /** What {@link SessionCredentialService}'s `refresh` takes; none unless refresh tokens are on. */
  readonly refreshToken: Redacted.Redacted | undefined
  readonly session: Session
}

/** Holds the tokens that follow the ones before. */
export interface RefreshedSession extends IssuedSession {
  readonly refreshToken: Redacted.Redacted
}

/** Describes the keys that verify tokens as an independent verifier takes them: a JWK Set (RFC 7517) of secret keys. */
export interface VerificationKeys extends SigningKeys.VerificationKeys {}

/** Lists the settings of {@link layerWith}; each has a default. */
export interface Options {
  /**
   * How long a session lasts after its last renewal: its idle timeout. Activity less than a renewal interval after one starts none, so a
   * session is sure to survive a pause of `lifetime` less `renewalInterval`. Default 30 days.
   */
  readonly lifetime?: Duration.Input | undefined
  /** How often at most an active session's row is written. Default 1/30 of the lifetime. */
  readonly renewalInterval?: Duration.Input | undefined
  /** The age past which no activity keeps a session; none by default. It may be shorter than `lifetime`, and then bounds it. */
  readonly absoluteLifetime?: Duration.Input | undefined
  /**
   * Gives bearer and DPoP sessions a token that ends after `tokenLifetime`, whatever its use, and a refresh token for the
   * next one (RFC 6749 section 6). A refresh token is good for one exchange (RFC 9700 section 4.14.2). For `graceWindow`
   * after it, by default 30 seconds, it gives the very same new tokens again, so that two tabs, or a client that lost the
   * answer, go on. After that its use ends the session: somebody has a copy. Off by default; cookies are never refreshed.
   */
  readonly refresh?: {
    readonly tokenLifetime: Duration.Input
    readonly graceWindow?: Duration.Input | undefined
  } | undefined
  /** How long a ticket can be redeemed. Default 60 seconds. */
  readonly ticketLifetime?: Duration.Input | undefined
  /** How many verified tokens are remembered at most; the oldest goes first. Default 10,000. */
  readonly cacheCapacity?: number | undefined
  /**
   * How long a remembered token is trusted without a look at its row, and how often a stream held by {@link whileValid}
   * looks. A revocation is seen before that: at once where this process makes it, and as soon as the access feed tells of
   * it where another does. Default 5 seconds.
   */
  readonly recheckInterval?: Duration.Input | undefined
  /**
   * How long remembered tokens are trusted after this process was last at the end of the access feed. Active sessions have
   * it look there twice in that time, whether or not the feed told of a change, so that a feed that has fallen silent is
   * found out. Default 2 seconds.
   */
  readonly feedTrust?: Duration.Input | undefined
}

/**
 * Sets the limits of a session at authentication assurance level 1 of NIST SP 800-63B-4 section 2.1.3: it ends after 30 days.
 * The standard asks for no limit to inactivity there.
 *
 * The presets set how long a session lasts. How the user was authenticated before is the host's.
 */
export const nistAal1: Options = { lifetime: "30 days", absoluteLifetime: "30 days" }

/** Sets the limits at level 2 (NIST SP 800-63B-4 section 2.2.3): 24 hours, and 1 hour of inactivity. */
export const nistAal2: Options = { lifetime: "1 hour", absoluteLifetime: "24 hours" }

/** Sets the limits at level 3 (NIST SP 800-63B-4 section 2.3.3): 12 hours, and 15 minutes of inactivity. */
export const nistAal3: Options = { lifetime: "15 minutes", absoluteLifetime: "12 hours" }

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Provides sessions: how they begin, how they are known again, and how they end. */
export class SessionCredentialService extends Context.Service<SessionCredentialService, {
  /**
   * Starts a session and returns its token, which is shown here once and stored nowhere. `actor` names who let the device
   * in, by default the subject itself. Dies, and stores nothing, where the request is the host's mistake: an empty or
   * enormous subject, one with control characters, or one of the feed's own actors, `operator` and `system`; control
   * characters in what describes the device; a malformed scope; a `dpop-access-token` without the thumbprint of its key.
   */
  readonly issue: (options: {
    readonly subject: string
    readonly scopes: ReadonlyArray<AccessScope>
    readonly method: SessionMethod
    readonly proofKeyThumbprint?: string | undefined
    readonly device?: Partial<typeof Device.Type> | undefined
    readonly actor?: string | undefined
  }) => Effect.Effect<IssuedSession, SessionCredentialError>
  /**
   * Exchanges a refresh token for new tokens of its session; the token before ends at once. Within the grace window the
   * same refresh token gives the same new tokens again. Fails with {@link RefreshRefused} otherwise, whatever is wrong with
   * the token; one that was used up before ends its session. A session that is bound to a key takes the thumbprint of the
   * key that the caller has proven to hold.
   */
  readonly refresh: (refreshToken: Redacted.Redacted, proof?: {
    readonly proofKeyThumbprint: string
  }) => Effect.Effect<RefreshedSession, SessionCredentialError>
  /**
   * Returns the session of a token, and renews it when its renewal is due. Fails with {@link SessionRefused}, whatever is
   * wrong with the token, and with {@link SessionStoreUnavailable} where the row cannot be read.
   *
   * A session that is bound to a key is let in only with the thumbprint of the key that the caller has proven to hold.
   */
  readonly verify: (token: Redacted.Redacted, proof?: {
    readonly proofKeyThumbprint: string
  }) => Effect.Effect<Session, SessionCredentialError>
  /** Lists the live sessions, all of them or a subject's, each with whether it is the one of `current`. */
  readonly list: (options?: {
    readonly subject?: string | undefined
    readonly current?: SessionId | undefined
  }) => Effect.Effect<ReadonlyArray<ListedSession>, SessionCredentialError>
  /**
   * Ends a session by its id. Fails with {@link SessionNotFound} where there is none, and with
   * {@link CurrentSessionProtected} where it is the session that asks.
   */
  readonly revoke: (id: SessionId, by: Principal) => Effect.Effect<void, SessionCredentialError>
  /** Ends the session that asks, as logging out does. Ending it twice is a success. */
  readonly logout: (session: Session) => Effect.Effect<void, SessionCredentialError>
  /** Ends the subject's other sessions and returns how many there were. */
  readonly revokeOthers: (session: Session) => Effect.Effect<number, SessionCredentialError>
  /** Ends every session of a subject and returns how many there were. */
  readonly revokeBySubject: (subject: string, by: Principal) => Effect.Effect<number, SessionCredentialError>
  /** Ends every session bound to a key and returns how many there were. */
  readonly revokeByProofKey: (
    proofKeyThumbprint: string,
    by: Principal
  ) => Effect.Effect<number, SessionCredentialError>
  /** Makes a ticket for one WebSocket upgrade, where no header can be set: 128 random bits, single use, short-lived. */
  readonly issueTicket: (session: Session) => Effect.Effect<Redacted.Redacted, SessionCredentialError>
  /** Redeems a ticket for its session, of n racers once. Fails with {@link TicketRefused}. */
  readonly consumeTicket: (ticket: Redacted.Redacted) => Effect.Effect<Session, SessionCredentialError>
  /**
   * Waits until a session has ended and returns how. Fails where the row cannot be read, so that what waits for it ends
   * rather than living on unchecked.
   */
  readonly awaitEnd: (session: Session) => Effect.Effect<"revoked" | "expired", SessionCredentialError>
  /** Ends a stream when the session that it was opened with ends. */
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
}>()("@sallyport/core/SessionCredentialService") {}

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

const refused = (problem: SessionRefused["problem"]) =>
  new SessionCredentialError({ reason: new SessionRefused({ problem }) })

const unavailable = (cause: AccessRepositoryError | SecretStore.SecretStoreError) =>
  new SessionCredentialError({ reason: new SessionStoreUnavailable({ cause }) })

const encoder = new TextEncoder()

/** How many rows a page of {@link SessionCredentialService}'s `list` holds, so that a long list never blocks for long. */
const listPage = 256

interface CacheEntry {
  readonly session: Session
  readonly trustedUntilMillis: number
  lastSeenAtMillis: number
}

/** Something that waits for a session's end; `woken` is made anew before each look at the row. */
interface Watcher {
  woken: Deferred.Deferred<void>
}

const isTarget = (target: RevocationTarget, session: Session): boolean => {
  switch (target._tag) {
    case "Session":
      return session.id === target.id
    case "SubjectExcept":
      return session.subject === target.subject && session.id !== target.keep
    case "Subject":
      return session.subject === target.subject
    case "ProofKey":
      return session.proofKeyThumbprint === target.proofKeyThumbprint
  }
}

/** Reads a setting in whole milliseconds, which is what rows hold. */
const positiveMillis = (
  setting: keyof Options,
  duration: Duration.Input
): Effect.Effect<number, InvalidSessionOptions> => {
  const millis = Math.round(Duration.toMillis(duration))
  return millis > 0 && Number.isSafeInteger(millis)
    ? Effect.succeed(millis)
    : Effect.fail(new InvalidSessionOptions({ problem: `${setting} must be finite and at least 1 millisecond` }))
}

/** Names what the service is built on. */
export type Requirements =
  | SessionCredentialRepository
  | AccessFeedRepository
  | SecretStore.SecretStore
  | SecureRandom.SecureRandom
  | Digest.Digest
  | Mac.Mac

/**
 * Builds the service, which follows the access feed until the scope closes; {@link layer} is what most hosts want.
 */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  SessionCredentialService["Service"],
  InvalidSessionOptions | SecretStore.SecretStoreError,
  Requirements | Scope.Scope
> {
  const repository = yield* SessionCredentialRepository
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest
  const mac = yield* Mac.Mac

  const lifetimeMillis = yield* positiveMillis("lifetime", options.lifetime ?? "30 days")
  const renewalMillis = options.renewalInterval === undefined
    ? Math.max(1, Math.floor(lifetimeMillis / 30))
    : yield* positiveMillis("renewalInterval", options.renewalInterval)
  const absoluteMillis = options.absoluteLifetime === undefined
    ? null
    : yield* positiveMillis("absoluteLifetime", options.absoluteLifetime)
  const ticketMillis = yield* positiveMillis("ticketLifetime", options.ticketLifetime ?? "60 seconds")
  const recheckMillis = yield* positiveMillis("recheckInterval", options.recheckInterval ?? "5 seconds")
  const trustMillis = yield* positiveMillis("feedTrust", options.feedTrust ?? "2 seconds")
  const cacheCapacity = options.cacheCapacity ?? 10_000
  if (!Number.isSafeInteger(cacheCapacity) || cacheCapacity < 1) {
    return yield* new InvalidSessionOptions({ problem: "cacheCapacity must be a whole number from 1" })
  }
  if (!(renewalMillis < lifetimeMillis)) {
    return yield* new InvalidSessionOptions({
      problem: "renewalInterval must be shorter than lifetime, or an active session would expire"
    })
  }
  const refreshing = options.refresh === undefined ? undefined : {
    tokenMillis: yield* positiveMillis("refresh", options.refresh.tokenLifetime),
    graceMillis: yield* positiveMillis("refresh", options.refresh.graceWindow ?? "30 seconds")
  }
  if (refreshing !== undefined && !(refreshing.graceMillis < refreshing.tokenMillis)) {
    return yield* new InvalidSessionOptions({
      problem: "refresh.graceWindow must be shorter than refresh.tokenLifetime, or one exchange would overtake another"
    })
  }
  if (refreshing !== undefined && !(refreshing.tokenMillis < lifetimeMillis)) {
    return yield* new InvalidSessionOptions({
      problem: "refresh.tokenLifetime must be shorter than lifetime, or there would be nothing to refresh"
    })
  }

  const ring = yield* SigningKeys.makeRing()

  // Verified tokens by their digest, and the digest of each session in there.
  const cache = new Map<string, CacheEntry>()
  const digestBySession = new Map<SessionId, string>()
  const waiting = new Map<SessionId, Set<Watcher>>()
  // Counts invalidations. A row that was read before one must not be remembered after it.
  let generation = 0

  const forget = (id: SessionId) => {
    const key = digestBySession.get(id)
    if (key !== undefined) cache.delete(key)
    digestBySession.delete(id)
    for (const watcher of waiting.get(id) ?? []) Deferred.doneUnsafe(watcher.woken, Effect.void)
  }
  const forgetAll = () => {
    generation++
    for (const id of [...digestBySession.keys(), ...waiting.keys()]) forget(id)
  }

  /** Forgets what an event makes out of date, also where it is only being read from the store now. */
  const onEvents = (events: ReadonlyArray<AccessEvent>) => {
    for (const { change } of events) {
      if (change._tag === "sessionRemoved") {
        generation++
        forget(change.id)
      } else if (change._tag === "sessionUpserted") {
        const { session } = change
        const known = cache.get(digestBySession.get(session.id) ?? "")?.session
        // What this process has done comes back to it as an event too.
        if (known !== undefined && Equal.equals(known, session)) continue
        // A session that begins is in no row that was read before.
        if (!Equal.equals(session.createdAt, session.lastSeenAt)) generation++
        forget(session.id)
      }
    }
  }
  const follower = yield* AccessFollower.make({ trustMillis, onEvents, onGap: forgetAll })

  const remember = (tokenDigest: string, row: SessionRow, nowMillis: number): Session => {
    const session = toSession(row)
    // The token before it, where a session has been refreshed.
    const before = digestBySession.get(row.id)
    if (before !== undefined && before !== tokenDigest) cache.delete(before)
    if (cache.size >= cacheCapacity && !cache.has(tokenDigest)) {
      for (const [oldest, entry] of cache) {
        cache.delete(oldest)
        digestBySession.delete(entry.session.id)
        break
      }
    }
    cache.set(tokenDigest, {
      session,
      trustedUntilMillis: Math.min(
        row.expiresAtMillis,
        row.tokenExpiresAtMillis ?? Infinity,
        row.lastSeenAtMillis + renewalMillis,
        nowMillis + recheckMillis
      ),
      lastSeenAtMillis: nowMillis
    })
    digestBySession.set(row.id, tokenDigest)
    return session
  }

  const digestOf = (secret: Redacted.Redacted): Effect.Effect<string> =>
    digest.digestHex(Digest.sha256, encoder.encode(Redacted.value(secret)))

  const change = (actor: string): Effect.Effect<ChangeContext> =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => ({ actor, nowMillis }))

  const endProblem = (row: SessionRow): "revoked" | "expired" => row.revokedAtMillis === null ? "expired" : "revoked"

  const renewIfDue = Effect.fnUntraced(function*(row: SessionRow, nowMillis: number) {
    const dueBeforeMillis = nowMillis - renewalMillis
    if (row.lastSeenAtMillis > dueBeforeMillis) return row
    const renewed = yield* repository.renew(
      { id: row.id, dueBeforeMillis, lifetimeMillis },
      { actor: row.subject, nowMillis }
    )
    if (Option.isSome(renewed)) return renewed.value
    // Somebody else renewed or ended it in between: the row says which.
    const current = yield* repository.findById(row.id)
    if (Option.isNone(current)) return yield* refused("unknown")
    if (isLive(current.value, nowMillis)) return current.value
    forget(row.id)
    return yield* refused(endProblem(current.value))
  })

  const sign = (
    key: SigningKeys.SigningKey,
    claims: SessionToken.Claims,
    type?: SessionToken.TokenType
  ): Effect.Effect<Redacted.Redacted> => Effect.provideService(SessionToken.sign(key, claims, type), Mac.Mac, mac)

  /** Checks who signed a token. A key that is unknown here may be one that another process has made since. */
  const verifySignature = Effect.fnUntraced(function*(token: Redacted.Redacted, type?: SessionToken.TokenType) {
    const verify = (keys: SigningKeys.SigningKeys) =>
      Effect.provideService(SessionToken.verify(keys, token, type), Mac.Mac, mac)
    const known = ring.known()
    const claims = yield* verify(known)
    if (Option.isSome(claims)) return claims
    const keyId = SessionToken.keyIdOf(token, type)
    return Option.isNone(keyId) || known.byId.has(keyId.value) ? Option.none() : yield* verify(yield* ring.reread)
  })

  /**
   * Makes the tokens that follow a refresh token. They are the same each time for the same refresh token, key and times,
   * and nobody can tell them from the row and the key without having that token.
   */
  const successors = Effect.fnUntraced(function*(before: {
    readonly key: SigningKeys.SigningKey
    readonly claims: SessionToken.Claims
    readonly refreshToken: Redacted.Redacted
    readonly refreshedAtMillis: number
    readonly tokenExpiresAtMillis: number
  }) {
    const { claims, key } = before
    const seed = yield* Effect.orDie(
      mac.sign(key.key, encoder.encode(`successors of ${Redacted.value(before.refreshToken)}`))
    )
    const iat = Math.floor(before.refreshedAtMillis / 1000)
    const token = yield* sign(key, {
      sid: claims.sid,
      sub: claims.sub,
      jti: Base64Url.encode(seed.subarray(0, 16)),
      iat,
      exp: Math.min(Math.floor(before.tokenExpiresAtMillis / 1000), claims.exp ?? Infinity)
    })
    const refreshToken = yield* sign(
      key,
      { ...claims, jti: Base64Url.encode(seed.subarray(16, 32)), iat },
      SessionToken.refreshType
    )
    return { token, refreshToken, tokenDigest: yield* digestOf(token), refreshDigest: yield* digestOf(refreshToken) }
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
      const generationBefore = generation
      const found = yield* repository.findByTokenDigest(tokenDigest)
      if (Option.isNone(found)) return yield* refused("unknown")
      if (!isLive(found.value, nowMillis)) {
        forget(found.value.id)
        return yield* refused(endProblem(found.value))
      }
      if ((found.value.tokenExpiresAtMillis ?? Infinity) <= nowMillis) return yield* refused("expired")
      const row = yield* renewIfDue(found.value, nowMillis)
      return generation === generationBefore ? remember(tokenDigest, row, nowMillis) : toSession(row)
    },
    (effect) =>
      Effect.catchTag(effect, ["AccessRepositoryError", "SecretStoreError"], (error) => Effect.fail(unavailable(error)))
  )

  /** Returns the session of a token that was seen before, unless its row is to be looked at. */
  const recall = (tokenDigest: string, nowMillis: number): Session | undefined => {
    const entry = cache.get(tokenDigest)
    // A clock that was set back would prolong the trust, so a time before the last use leads to the row too.
    if (entry === undefined || nowMillis >= entry.trustedUntilMillis || nowMillis < entry.lastSeenAtMillis) {
      return undefined
    }
    entry.lastSeenAtMillis = nowMillis
    return entry.session
  }

  const sha256 = yield* Sha256Hex

  /** Lets a session in that is bound to no key, or to the one that was proven. */
  const admit = (
    session: Session,
    proof: { readonly proofKeyThumbprint: string } | undefined
  ): Effect.Effect<Session, SessionCredentialError> =>
    session.proofKeyThumbprint === null || session.proofKeyThumbprint === proof?.proofKeyThumbprint
      ? Effect.succeed(session)
      : Effect.fail(refused("proof-key-mismatch"))

  /** Looks at the cache, and at the row where the cache doesn't know or may not be trusted. */
  const verifyDigest = (
    token: Redacted.Redacted,
    tokenDigest: string,
    nowMillis: number,
    proof: { readonly proofKeyThumbprint: string } | undefined
  ): Effect.Effect<Session, SessionCredentialError> => {
    const session = recall(tokenDigest, nowMillis)
    if (session !== undefined && follower.isLive(nowMillis)) return admit(session, proof)
    const looked = session === undefined
      ? verifyRow(token, tokenDigest, nowMillis)
      : Effect.flatMap(follower.catchUp, (live) => {
        const current = live ? recall(tokenDigest, nowMillis) : undefined
        return current === undefined ? verifyRow(token, tokenDigest, nowMillis) : Effect.succeed(current)
      })
    return Effect.flatMap(looked, (found) => admit(found, proof))
  }

  const verify: SessionCredentialService["Service"]["verify"] = (token, proof) => {
    const text = Redacted.value(token)
    if (text.length > SessionToken.maxLength) return Effect.fail(refused("malformed"))
    return sha256 === undefined
      ? Effect.flatMap(
        digestOf(token),
        (tokenDigest) =>
          Clock.clockWith((clock) => verifyDigest(token, tokenDigest, clock.currentTimeMillisUnsafe(), proof))
      )
      : Clock.clockWith((clock) => verifyDigest(token, sha256(text), clock.currentTimeMillisUnsafe(), proof))
  }

  /** Revokes, then forgets what was revoked, also where an interruption or an error leaves open what was committed. */
  const revokeTarget = (target: RevocationTarget, actor: string) =>
    Effect.flatMap(change(actor), (context) => repository.revoke(target, context)).pipe(
      Effect.tap((ids) =>
        Effect.sync(() => {
          generation++
          for (const id of ids) forget(id)
          // A racer may have been the one to revoke a target and not have come to forget it, so its absence from the
          // answer does not say that it is still live.
          for (const entry of cache.values()) if (isTarget(target, entry.session)) forget(entry.session.id)
        })
      ),
      Effect.tapCause(() => Effect.sync(forgetAll)),
      Effect.uninterruptible,
      Effect.mapError(unavailable)
    )

  const awaitEnd = (session: Session) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const watcher: Watcher = { woken: Deferred.makeUnsafe() }
        waiting.set(session.id, (waiting.get(session.id) ?? new Set()).add(watcher))
        return watcher
      }),
      Effect.fnUntraced(function*(watcher) {
        while (true) {
          // Made before the look, so that a revocation in between is not missed, and anew for each look: being woken is
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
      (watcher) =>
        Effect.sync(() => {
          const watchers = waiting.get(session.id)
          watchers?.delete(watcher)
          if (watchers?.size === 0) waiting.delete(session.id)
        })
    ).pipe(Effect.mapError(unavailable))

  return SessionCredentialService.of({
    issue: Effect.fn("SessionCredentialService.issue")(function*(request) {
      if (request.method === "dpop-access-token" && request.proofKeyThumbprint === undefined) {
        return yield* Effect.die(new TypeError("A dpop-access-token needs the thumbprint of the key it is bound to"))
      }
      const subjectProblem = PlainText.subjectProblem(request.subject)
      if (subjectProblem !== undefined) {
        return yield* Effect.die(new TypeError(`The subject of a session cannot be ${subjectProblem}`))
      }
      const device = new Device({ label: null, userAgent: null, address: null, ...request.device })
      if (![device.label, device.userAgent, device.address].every((text) => PlainText.isPlainText(text ?? ""))) {
        return yield* Effect.die(new TypeError("What describes a device cannot hold control characters"))
      }
      const key = yield* Effect.mapError(ring.active, unavailable)
      const nowMillis = yield* Clock.currentTimeMillis
      const id = SessionId.make(yield* random.uuidV7())
      const absoluteExpiresAtMillis = absoluteMillis === null ? null : nowMillis + absoluteMillis
      const tokenExpiresAtMillis = refreshing === undefined || request.method === "browser-session-cookie"
        ? null
        : nowMillis + refreshing.tokenMillis
      const claims = (endMillis: number) =>
        Effect.map(random.randomBytes(16), (jti): SessionToken.Claims => ({
          sid: id,
          sub: request.subject,
          jti: Base64Url.encode(jti),
          iat: Math.floor(nowMillis / 1000),
          ...(endMillis === Infinity ? {} : { exp: Math.floor(endMillis / 1000) })
        }))
      const absoluteEndMillis = absoluteExpiresAtMillis ?? Infinity
      const token = yield* sign(key, yield* claims(Math.min(tokenExpiresAtMillis ?? Infinity, absoluteEndMillis)))
      const refreshToken = tokenExpiresAtMillis === null
        ? undefined
        : yield* sign(key, yield* claims(absoluteEndMillis), SessionToken.refreshType)
      const row: SessionRow = {
        id,
        subject: request.subject,
        method: request.method,
        scopes: request.scopes,
        proofKeyThumbprint: request.proofKeyThumbprint ?? null,
        device,
        tokenDigest: yield* digestOf(token),
        keyId: key.keyId,
        tokenExpiresAtMillis,
        refreshDigest: refreshToken === undefined ? null : yield* digestOf(refreshToken),
        previousRefreshDigest: null,
        refreshedAtMillis: refreshToken === undefined ? null : nowMillis,
        createdAtMillis: nowMillis,
        lastSeenAtMillis: nowMillis,
        expiresAtMillis: Math.min(nowMillis + lifetimeMillis, absoluteEndMillis),
        absoluteExpiresAtMillis,
        revokedAtMillis: null
      }
      if (
        Math.max(Redacted.value(token).length, Redacted.value(refreshToken ?? token).length) > SessionToken.maxLength
      ) {
        return yield* Effect.die(new RangeError("The subject is too long: its token would be refused as too long"))
      }
      // Made before the row is written: it checks the request, and a bad one leaves nothing behind.
      const session = toSession(row)
      yield* Effect.mapError(
        repository.insert(row, { actor: request.actor ?? request.subject, nowMillis }),
        unavailable
      )
      return { token, tokenExpiresAt: tokenEnd(row), refreshToken, session }
    }),
    refresh: Effect.fn("SessionCredentialService.refresh")(function*(refreshToken, proof) {
      const refuse = (problem: RefreshRefused["problem"]) =>
        new SessionCredentialError({ reason: new RefreshRefused({ problem }) })
      if (refreshing === undefined) return yield* refuse("unknown")
      if (Redacted.value(refreshToken).length > SessionToken.maxLength) return yield* refuse("malformed")
      const verified = yield* Effect.mapError(verifySignature(refreshToken, SessionToken.refreshType), unavailable)
      if (Option.isNone(verified)) return yield* refuse("malformed")
      const claims = verified.value
      const key = yield* Effect.mapError(ring.active, unavailable)
      const nowMillis = yield* Clock.currentTimeMillis
      const tokenExpiresAtMillis = nowMillis + refreshing.tokenMillis
      const next = yield* successors({ key, claims, refreshToken, refreshedAtMillis: nowMillis, tokenExpiresAtMillis })
      const outcome = yield* repository.refresh({
        id: claims.sid,
        presentedDigest: yield* digestOf(refreshToken),
        proofKeyThumbprint: proof?.proofKeyThumbprint,
        graceMillis: refreshing.graceMillis,
        lifetimeMillis,
        next: {
          tokenDigest: next.tokenDigest,
          refreshDigest: next.refreshDigest,
          keyId: key.keyId,
          tokenExpiresAtMillis
        }
      }, { actor: claims.sub, nowMillis }).pipe(
        // The token before ends here at once, also where an error or an interruption leaves open what was committed.
        Effect.onExit(() =>
          Effect.sync(() => {
            generation++
            forget(claims.sid)
          })
        ),
        Effect.uninterruptible,
        Effect.mapError(unavailable)
      )
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
          const keyBefore = ring.known().byId.get(row.keyId) ??
            (yield* Effect.mapError(ring.reread, unavailable)).byId.get(row.keyId)
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
    list: Effect.fn("SessionCredentialService.list")(function*(request) {
      const nowMillis = yield* Clock.currentTimeMillis
      const listed: Array<ListedSession> = []
      let afterId: SessionId | undefined
      while (true) {
        const page = yield* Effect.mapError(
          repository.list({ nowMillis, subject: request?.subject, afterId, limit: listPage }),
          unavailable
        )
        for (const row of page) {
          afterId = row.id
          // The row is written once per renewal interval; this process may have seen the session since.
          const seen = cache.get(digestBySession.get(row.id) ?? "")?.lastSeenAtMillis ?? 0
          listed.push({
            session: toSession({ ...row, lastSeenAtMillis: Math.max(row.lastSeenAtMillis, seen) }),
            current: row.id === request?.current
          })
        }
        if (page.length < listPage) return listed
      }
    }),
    revoke: Effect.fn("SessionCredentialService.revoke")(function*(id, by) {
      if (by !== "operator" && by.id === id) {
        return yield* new SessionCredentialError({ reason: new CurrentSessionProtected({ id }) })
      }
      const revoked = yield* revokeTarget({ _tag: "Session", id }, actorOf(by))
      if (revoked.length === 0) return yield* new SessionCredentialError({ reason: new SessionNotFound({ id }) })
    }),
    logout: Effect.fn("SessionCredentialService.logout")(function*(session) {
      yield* revokeTarget({ _tag: "Session", id: session.id }, session.subject)
    }),
    revokeOthers: Effect.fn("SessionCredentialService.revokeOthers")(function*(session) {
      const target = { _tag: "SubjectExcept", subject: session.subject, keep: session.id } as const
      return (yield* revokeTarget(target, session.subject)).length
    }),
    revokeBySubject: Effect.fn("SessionCredentialService.revokeBySubject")(function*(subject, by) {
      return (yield* revokeTarget({ _tag: "Subject", subject }, actorOf(by))).length
    }),
    revokeByProofKey: Effect.fn("SessionCredentialService.revokeByProofKey")(function*(proofKeyThumbprint, by) {
      return (yield* revokeTarget({ _tag: "ProofKey", proofKeyThumbprint }, actorOf(by))).length
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
    whileValid: (session) => (stream) => Stream.interruptWhen(stream, awaitEnd(session)),
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

/** Provides the service with given settings. Fails when they contradict each other or the signing keys cannot be read. */
export const layerWith = (options: Options): Layer.Layer<
  SessionCredentialService,
  InvalidSessionOptions | SecretStore.SecretStoreError,
  Requirements
> => Layer.effect(SessionCredentialService, make(options))

/** Provides the service with its defaults: 30 days without activity, no absolute end. */
export const layer: Layer.Layer<
  SessionCredentialService,
  InvalidSessionOptions | SecretStore.SecretStoreError,
  Requirements
> = layerWith({})

/**
 * Deletes sessions that have ended, expired tickets, and signing keys that nobody needs any more, again and again, in
 * batches. Several processes may do this at once.
 *
 * `retention` is how long a session is kept after its end, by default 1 hour; `interval` defaults to 10 minutes, `batchSize`
 * to 500 sessions. A failure is logged, and tried again.
 */
export const layerSweeper = (options?: {
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
  readonly retention?: Duration.Input | undefined
}): Layer.Layer<never, never, SessionCredentialRepository | SessionCredentialService> =>
  Sweeper.layer({
    name: "ended sessions",
    options,
    defaults: { interval: "10 minutes", batchSize: 500 },
    sweep: Effect.gen(function*() {
      const repository = yield* SessionCredentialRepository
      const sessions = yield* SessionCredentialService
      const retentionMillis = Duration.toMillis(options?.retention ?? "1 hour")
      return Effect.fnUntraced(function*(limit: number, nowMillis: number) {
        const swept = yield* repository.sweep(
          { endedBeforeMillis: Math.max(0, nowMillis - retentionMillis), limit },
          { actor: "system", nowMillis }
        )
        if (swept < limit) yield* sessions.sweepSigningKeys
        return swept
      })
    })
  })
