/**
 * What can go wrong with a session.
 */
import * as Schema from "effect/Schema"
import { RepositoryError } from "../../RepositoryError.ts"
import { SecretStoreError } from "../../secrets/SecretStore.ts"
import { AccessScope } from "../AccessScope.ts"
import { SessionId } from "../Session.ts"
import { RefreshRefusal } from "../SessionCredentialRepository.ts"
import { InvalidInput } from "../../Input.ts"

export { InvalidInput }

/**
 * Reports a token that lets no caller in. A caller is told this and no more; `problem` is for the log.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionRefused extends Schema.TaggedError<SessionRefused>()("SessionRefused", {
  problem: Schema.Literals(["malformed", "unknown", "revoked", "expired", "proof-key-mismatch", "resource-mismatch"])
}) {
  override get message() {
    return "The session is not valid, or has ended; sign in again"
  }
}

/**
 * Reports a ticket that is unknown, was used, has expired, or whose session has ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class TicketRefused extends Schema.TaggedError<TicketRefused>()("TicketRefused", {}) {
  override get message() {
    return "The ticket is not valid, or was used already; ask for a new one"
  }
}

/**
 * Reports a refresh token that gives no new tokens. `reused` says that the token had been used before, and that its session
 * was revoked for that; `scope-not-held` that the token is good and was not used, because more was asked for than the
 * session may do. A caller is told no more than that it is good or not; `problem` is for the log.
 *
 * @category errors
 * @since 0.1.0
 */
export class RefreshRefused extends Schema.TaggedError<RefreshRefused>()("RefreshRefused", {
  problem: Schema.Literals(["malformed", "reused", ...RefreshRefusal.literals])
}) {
  override get message() {
    return this.problem === "scope-not-held"
      ? "The session does not have all of these scopes; leave scope out"
      : "The refresh token is not valid, or not any more; sign in again"
  }
}

/**
 * Reports the id of a session that does not exist or has ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>()("SessionNotFound", {
  id: Schema.String
}) {
  override get message() {
    return `There is no live session ${this.id}; list the sessions to see which there are`
  }
}

/**
 * Reports a label that is not a line of up to 128 visible characters.
 *
 * @category errors
 * @since 0.1.0
 */
export class LabelNotAllowed extends Schema.TaggedError<LabelNotAllowed>()("LabelNotAllowed", {}) {
  override get message() {
    return "A label is 1 to 128 visible characters; choose another one"
  }
}

/**
 * Reports an attempt to revoke, by its id, the session that asks.
 *
 * @category errors
 * @since 0.1.0
 */
export class CurrentSessionProtected extends Schema.TaggedError<CurrentSessionProtected>()("CurrentSessionProtected", {
  id: SessionId
}) {
  override get message() {
    return `${this.id} is the session that you are using; log out to end it`
  }
}

/**
 * Reports an answer to a session that does not wait for one: it was answered before, the request has expired, or the session
 * has asked for something else since.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScopeRequestChanged extends Schema.TaggedError<ScopeRequestChanged>()("ScopeRequestChanged", {
  id: SessionId
}) {
  override get message() {
    return `The session ${this.id} does not ask for this, or not any more; look at what it asks for now`
  }
}

/**
 * Reports scopes that the session which answers lacks itself, and so cannot grant.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScopeNotHeld extends Schema.TaggedError<ScopeNotHeld>()("ScopeNotHeld", {
  scopes: Schema.Array(AccessScope)
}) {
  override get message() {
    return `Your session cannot grant ${
      this.scopes.join(", ")
    }: it lacks this, or only the operator grants it, or it is ` +
      "bound to a key and the other session is not; leave it out, or let the operator grant it"
  }
}

/**
 * Reports a session that asks for scopes again and again.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyScopeRequests extends Schema.TaggedError<TooManyScopeRequests>()("TooManyScopeRequests", {
  retryAfterMillis: Schema.Natural
}) {
  override get message() {
    return "The session has asked for scopes too often; wait for the answer"
  }
}

/**
 * Reports that the store of sessions, or the one of the signing keys, could not answer. No caller is let in meanwhile, and the
 * call can be made again.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionStoreUnavailable extends Schema.TaggedError<SessionStoreUnavailable>()("SessionStoreUnavailable", {
  cause: Schema.Union([RepositoryError, SecretStoreError])
}) {
  override get message() {
    return "The session store cannot be reached at the moment; try again shortly"
  }
}

/**
 * Reports what went wrong with a session, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionCredentialError extends Schema.TaggedError<SessionCredentialError>()("SessionCredentialError", {
  reason: Schema.Union([
    SessionRefused,
    TicketRefused,
    RefreshRefused,
    SessionNotFound,
    CurrentSessionProtected,
    InvalidInput,
    LabelNotAllowed,
    ScopeRequestChanged,
    ScopeNotHeld,
    TooManyScopeRequests,
    SessionStoreUnavailable
  ])
}) {
  override get message() {
    return this.reason.message
  }
}

/** Refuses a token. */
export const refused = (problem: SessionRefused["problem"]) =>
  new SessionCredentialError({ reason: new SessionRefused({ problem }) })

/** Reports that a store could not answer. */
export const unavailable = (cause: RepositoryError | SecretStoreError) =>
  new SessionCredentialError({ reason: new SessionStoreUnavailable({ cause }) })
