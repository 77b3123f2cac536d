/**
 * What can go wrong with connecting clients.
 */
import * as Schema from "effect/Schema"
import { RepositoryError } from "../../RepositoryError.ts"
import { ConnectClient } from "../../access/ConnectClient.ts"
import { AccessScope } from "../../access/AccessScope.ts"
import { InvalidInput } from "../../Input.ts"

export { InvalidInput }

/**
 * Reports a thumbprint, or the beginning of one, that no client has.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClientNotFound extends Schema.TaggedError<ClientNotFound>()("ClientNotFound", {
  thumbprint: Schema.String
}) {
  override get message() {
    return `There is no client ${this.thumbprint}; list the clients to see which there are`
  }
}

/**
 * Reports the beginning of a thumbprint that several clients have.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClientAmbiguous extends Schema.TaggedError<ClientAmbiguous>()("ClientAmbiguous", {
  prefix: Schema.String
}) {
  override get message() {
    return `More than one client begins with ${JSON.stringify(this.prefix)}; give more of the thumbprint`
  }
}

/**
 * Reports an approval of a request that expired before. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequestExpired extends Schema.TaggedError<RequestExpired>()("RequestExpired", {
  client: ConnectClient
}) {
  override get message() {
    return "The request has expired; have the client ask again, then approve it"
  }
}

/**
 * Reports a decision about a request that is not the present one. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequestChanged extends Schema.TaggedError<RequestChanged>()("RequestChanged", {
  client: ConnectClient
}) {
  override get message() {
    return "This is not the code that the client shows now: it was mistyped, or the client has asked again. " +
      "Look at its request before you decide"
  }
}

/**
 * Reports a stored mode that is none that this version knows. No caller is let in through a relay meanwhile.
 *
 * @category errors
 * @since 0.1.0
 */
export class SecurityModeUnreadable extends Schema.TaggedError<SecurityModeUnreadable>()("SecurityModeUnreadable", {}) {
  override get message() {
    return "The stored security mode is not one that this version knows; no caller is let in until it is set again"
  }
}

/**
 * Reports that the store could not answer. Nothing was changed, and the call can be made again.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectStoreUnavailable extends Schema.TaggedError<ConnectStoreUnavailable>()("ConnectStoreUnavailable", {
  cause: RepositoryError
}) {
  override get message() {
    return "The store of connecting clients cannot be reached at the moment; try again shortly"
  }
}

/**
 * Reports that as many clients wait for a decision as this process lets wait.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyWaiting extends Schema.TaggedError<TooManyWaiting>()("TooManyWaiting", {
  maximum: Schema.Natural
}) {
  override get message() {
    return `Already ${this.maximum} clients wait for a decision here; try again later`
  }
}

/**
 * Reports a reason that is no line of up to 256 visible characters. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReasonNotAllowed extends Schema.TaggedError<ReasonNotAllowed>()("ReasonNotAllowed", {}) {
  override get message() {
    return "A reason is a line of up to 256 characters: it cannot hold control characters or invisible ones"
  }
}

/**
 * Reports an approval of a device without the code that both screens show. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class CodeNeeded extends Schema.TaggedError<CodeNeeded>()("CodeNeeded", {}) {
  override get message() {
    return "A device is approved with the code that its screen shows; compare it, then give it as `code` with the approval"
  }
}

/**
 * Reports scopes that cannot be granted: no device may ask for them, this one did not, or the session that approves lacks
 * them. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScopeNotGrantable extends Schema.TaggedError<ScopeNotGrantable>()("ScopeNotGrantable", {
  scopes: Schema.Array(AccessScope),
  problem: Schema.Literals(["not-requested", "not-held", "not-offered"])
}) {
  override get message() {
    const names = this.scopes.join(", ")
    if (this.problem === "not-offered") return `A device cannot ask for ${names} here; have it ask for less`
    return this.problem === "not-requested"
      ? `The client did not ask for ${names}; grant it what it asks for, or less`
      : `You don't hold ${names} and cannot grant it; approve without it, or have someone approve who holds it`
  }
}

/**
 * Reports a device that may not ask now: its owner turned its key away, or as many devices of its client wait as may.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequestRefused extends Schema.TaggedError<RequestRefused>()("RequestRefused", {
  status: Schema.Literals(["rejected", "revoked", "blocked", "too-many"])
}) {
  override get message() {
    return this.status === "too-many"
      ? "Too many devices of this client wait for a decision; try again later"
      : "The owner of this server has turned this device away; ask them to let it in"
  }
}

/**
 * Reports that the session that approves a device has ended meanwhile. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ApproverEnded extends Schema.TaggedError<ApproverEnded>()("ApproverEnded", {}) {
  override get message() {
    return "Your session has ended; sign in again, then approve the device"
  }
}

/**
 * Reports too many wrong user codes, or too many requests of devices, from one source.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyCodes extends Schema.TaggedError<TooManyCodes>()("TooManyCodes", {
  retryAfterMillis: Schema.Natural
}) {
  override get message() {
    return "There were too many attempts; wait a while, then try again"
  }
}

/**
 * Reports what went wrong with a connecting client, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectClientError extends Schema.TaggedError<ConnectClientError>()("ConnectClientError", {
  reason: Schema.Union([
    ClientNotFound,
    ClientAmbiguous,
    RequestExpired,
    RequestChanged,
    SecurityModeUnreadable,
    ConnectStoreUnavailable,
    InvalidInput,
    ReasonNotAllowed,
    TooManyWaiting,
    CodeNeeded,
    ScopeNotGrantable,
    RequestRefused,
    ApproverEnded,
    TooManyCodes
  ])
}) {
  override get message() {
    return this.reason.message
  }
}

/** Makes the error of a reason. */
export const fail = (reason: ConnectClientError["reason"]) => new ConnectClientError({ reason })

/** Reports that the store could not answer. */
export const unavailable = (cause: RepositoryError) => fail(new ConnectStoreUnavailable({ cause }))
