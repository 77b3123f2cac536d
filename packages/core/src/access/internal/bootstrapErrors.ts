/**
 * What can go wrong with one-time credentials.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { RepositoryError } from "../../RepositoryError.ts"
import { SecretStoreError } from "../../secrets/SecretStore.ts"
import * as AccessScope from "../AccessScope.ts"
import { BootstrapMethod } from "../AuthPolicy.ts"
import { InvalidInput } from "../../Input.ts"

export { InvalidInput }

/**
 * Reports a code that cannot be one: its length, a symbol or the check symbol is wrong. No attempt was counted.
 *
 * @category errors
 * @since 0.1.0
 */
export class MalformedCode extends Schema.TaggedError<MalformedCode>()("MalformedCode", {}) {
  override get message() {
    return "This is not a pairing code; check it for a typing error"
  }
}

/**
 * Reports a code that lets no caller in. For a day after its end, a code that did exist says by `ended` how it ended. One
 * that never existed, one that is bound to another key, and one that ended longer ago are all the same; the log has the
 * reason.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidCredential extends Schema.TaggedError<InvalidCredential>()("InvalidCredential", {
  ended: Schema.optionalKey(Schema.Literals(["used", "expired", "revoked"]))
}) {
  override get message() {
    switch (this.ended) {
      case "used":
        return "This pairing code was used already; ask for a new one"
      case "expired":
        return "This pairing code has expired; ask for a new one"
      case "revoked":
        return "This pairing code was revoked; ask for a new one"
      default:
        return "The pairing code is not valid, or not any more; ask for a new one"
    }
  }
}

/**
 * Reports that a good code was asked for more than it grants. The code was not used.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScopeNotGranted extends Schema.TaggedError<ScopeNotGranted>()("ScopeNotGranted", {
  requested: Schema.Array(AccessScope.AccessScope)
}) {
  override get message() {
    return `The pairing code does not grant all of ${this.requested.join(", ")}; ask for less, or for another code`
  }
}

/**
 * Reports an attempt to hand on scopes that the issuer of the link doesn't hold, or that this server does not have. No link
 * was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScopeNotHeld extends Schema.TaggedError<ScopeNotHeld>()("ScopeNotHeld", {
  missing: Schema.Array(AccessScope.AccessScope),
  /** The scopes of the server, if one was asked for that is none of them. */
  vocabulary: Schema.optionalKey(Schema.Array(AccessScope.AccessScope))
}) {
  override get message() {
    const missing = this.missing.join(", ")
    if (this.vocabulary === undefined) return `You cannot hand on ${missing}: you don't hold it yourself`
    return `This server has no scope ${missing}; it has ${this.vocabulary.join(", ")}, and more if its host provides ` +
      "them as AccessScope.Vocabulary"
  }
}

/**
 * Reports a subject that a link cannot be for. Only the operator says whom a link is for (`foreign`); no subject may be called
 * as one of the feed's own actors: `operator`, `system`, `connect`, or what begins with `issuer:` (`reserved`); and a name is
 * one line of text (`empty`, `malformed`). No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class SubjectNotAllowed extends Schema.TaggedError<SubjectNotAllowed>()("SubjectNotAllowed", {
  problem: Schema.Literals(["foreign", "reserved", "empty", "malformed"])
}) {
  override get message() {
    switch (this.problem) {
      case "foreign":
        return "Only the operator issues links for another subject; leave the subject out to issue one for yourself"
      case "reserved":
        return "A subject cannot be called operator, system or connect, or begin with issuer:, as the access feed tells these from " +
          "people by their names"
      default:
        return "A subject is a line of up to 255 characters and 512 bytes: it cannot be empty, or hold control characters or invisible ones"
    }
  }
}

/**
 * Reports a label that is no line of up to 128 visible characters. No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class LabelNotAllowed extends Schema.TaggedError<LabelNotAllowed>()("LabelNotAllowed", {}) {
  override get message() {
    return "A label is a line of up to 128 characters: it cannot hold control characters or invisible ones"
  }
}

/**
 * Reports a way in that the policy in force does not have. No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class MethodNotOffered extends Schema.TaggedError<MethodNotOffered>()("MethodNotOffered", {
  method: BootstrapMethod
}) {
  override get message() {
    return `The policy in force has no ${this.method}; choose another policy to use one`
  }
}

/**
 * Reports that too many wrong codes came from one source, or from all together. This one was not looked at.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyAttempts extends Schema.TaggedError<TooManyAttempts>()("TooManyAttempts", {
  retryAfterMillis: Schema.Natural
}) {
  override get message() {
    return `There were too many wrong pairing codes; try again in ${
      Duration.format(Duration.seconds(Math.ceil(this.retryAfterMillis / 1000)))
    }`
  }
}

/**
 * Reports a lifetime that is not positive or is above the configured maximum. No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class LifetimeOutOfBounds extends Schema.TaggedError<LifetimeOutOfBounds>()("LifetimeOutOfBounds", {
  requestedMillis: Schema.Number,
  maximumMillis: Schema.Number
}) {
  override get message() {
    return `A link may live up to ${Duration.format(Duration.millis(this.maximumMillis))}, not ` +
      Duration.format(Duration.millis(this.requestedMillis))
  }
}

/**
 * Reports a lifetime of sessions that is none, or too long.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionLifetimeOutOfBounds
  extends Schema.TaggedError<SessionLifetimeOutOfBounds>()("SessionLifetimeOutOfBounds", {})
{
  override get message() {
    return "A session may be given between 1 millisecond and 10 years"
  }
}

/**
 * Reports the id of a link that does not exist or can no longer be redeemed.
 *
 * @category errors
 * @since 0.1.0
 */
export class LinkNotFound extends Schema.TaggedError<LinkNotFound>()("LinkNotFound", { id: Schema.String }) {
  override get message() {
    return `There is no open pairing link ${this.id}; list the links to see which there are`
  }
}

/**
 * Reports a session that has ended meanwhile, and issues no link any more. No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class IssuerEnded extends Schema.TaggedError<IssuerEnded>()("IssuerEnded", {}) {
  override get message() {
    return "Your session has ended; sign in again to issue a pairing link"
  }
}

/**
 * Reports a session that has as many links open as it may have. No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyOpenLinks extends Schema.TaggedError<TooManyOpenLinks>()("TooManyOpenLinks", {
  maximum: Schema.Natural
}) {
  override get message() {
    return `You have ${this.maximum} pairing links open already; revoke one, or wait until one is used or expires`
  }
}

/**
 * Reports a session that has let in as many others as it may, or would with the links that it has open. No link was made.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyLetIn extends Schema.TaggedError<TooManyLetIn>()("TooManyLetIn", {
  maximum: Schema.Natural
}) {
  override get message() {
    return `You may have let in ${this.maximum} sessions that are not over, with what your open links still give; end one first`
  }
}

/**
 * Reports a credential that was seeded before; a new one has to be made for each start.
 *
 * @category errors
 * @since 0.1.0
 */
export class AlreadySeeded extends Schema.TaggedError<AlreadySeeded>()("AlreadySeeded", {}) {
  override get message() {
    return "This credential was seeded before, and may have been used; make a new one for each start of the backend"
  }
}

/**
 * Reports a seeded credential that could be guessed.
 *
 * @category errors
 * @since 0.1.0
 */
export class WeakCredential extends Schema.TaggedError<WeakCredential>()("WeakCredential", {
  minimumLength: Schema.Natural
}) {
  override get message() {
    return `A seeded credential needs at least ${this.minimumLength} random characters`
  }
}

/**
 * Reports that the store, or the one of the signing keys, could not answer. Nothing was used up, and the call can be made
 * again.
 *
 * @category errors
 * @since 0.1.0
 */
export class BootstrapStoreUnavailable
  extends Schema.TaggedError<BootstrapStoreUnavailable>()("BootstrapStoreUnavailable", {
    cause: Schema.Union([RepositoryError, SecretStoreError])
  })
{
  override get message() {
    return "The store of pairing links cannot be reached at the moment; try again shortly"
  }
}

/**
 * Reports what went wrong with a bootstrap credential, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
export class BootstrapCredentialError extends Schema.TaggedError<BootstrapCredentialError>()(
  "BootstrapCredentialError",
  {
    reason: Schema.Union([
      MalformedCode,
      InvalidCredential,
      ScopeNotGranted,
      ScopeNotHeld,
      SubjectNotAllowed,
      InvalidInput,
      LabelNotAllowed,
      MethodNotOffered,
      TooManyAttempts,
      LifetimeOutOfBounds,
      SessionLifetimeOutOfBounds,
      LinkNotFound,
      IssuerEnded,
      TooManyLetIn,
      TooManyOpenLinks,
      AlreadySeeded,
      WeakCredential,
      BootstrapStoreUnavailable
    ])
  }
) {
  override get message() {
    return this.reason.message
  }
}

/** Makes the error of a reason. */
export const fail = (reason: BootstrapCredentialError["reason"]) => new BootstrapCredentialError({ reason })

/** Reports that the store could not answer. */
export const unavailable = (cause: RepositoryError | SecretStoreError) => fail(new BootstrapStoreUnavailable({ cause }))
