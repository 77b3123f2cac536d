/**
 * What can go wrong with a scoped credential.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { RepositoryError } from "../../RepositoryError.ts"
import { OrgLookupError } from "../OrgMembership.ts"
import { CredentialScope } from "../../access/ScopedCredential.ts"
import { InvalidInput } from "../../Input.ts"

export { InvalidInput }

const key = { key: Schema.String }
const sourceOf = (source: string) => source === "environment" ? "the environment" : `the ${source}`

/**
 * Reports a key that is not declared.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownKey extends Schema.TaggedError<UnknownKey>()("UnknownKey", key) {
  override get message() {
    return `No credential ${JSON.stringify(this.key.slice(0, 128))} is declared`
  }
}

/**
 * Reports a value that lacks parts of a bundle, or has others. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class WrongParts extends Schema.TaggedError<WrongParts>()("WrongParts", {
  ...key,
  expected: Schema.Array(Schema.String)
}) {
  override get message() {
    return `The credential "${this.key}" has exactly these parts, and none of them may be empty: ${
      this.expected.join(", ")
    }`
  }
}

/**
 * Reports a value that is larger than the limit. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ValueTooLarge extends Schema.TaggedError<ValueTooLarge>()("ValueTooLarge", {
  ...key,
  limitBytes: Schema.Natural
}) {
  override get message() {
    return `The value of "${this.key}" is larger than ${this.limitBytes} bytes`
  }
}

/**
 * Reports a scope that a credential may not belong to, or that does not exist. Nothing was changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScopeNotAllowed extends Schema.TaggedError<ScopeNotAllowed>()("ScopeNotAllowed", {
  ...key,
  scope: Schema.String,
  allowed: Schema.Array(CredentialScope)
}) {
  override get message() {
    return `The credential "${this.key}" cannot belong to ${
      JSON.stringify(this.scope.slice(0, 32))
    }; it belongs to one of: ${this.allowed.join(", ")}`
  }
}

/**
 * Reports an operation on the credential of an organisation or workspace by a caller that is active in none.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoActiveOrg extends Schema.TaggedError<NoActiveOrg>()("NoActiveOrg", {
  ...key,
  scope: CredentialScope
}) {
  override get message() {
    return `There is no active ${this.scope} whose credential "${this.key}" could be; choose one first`
  }
}

/**
 * Reports an operation that only owners and admins may do.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotPermitted extends Schema.TaggedError<NotPermitted>()("NotPermitted", {
  ...key,
  scope: CredentialScope
}) {
  override get message() {
    return `Only an owner or admin of the ${this.scope} may change its credential "${this.key}"`
  }
}

/**
 * Reports that no owner whose credentials the caller uses has connected this one. It says what to ask people for.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotSet extends Schema.TaggedError<NotSet>()("NotSet", {
  ...key,
  label: Schema.String,
  helpUrl: Schema.NullOr(Schema.String)
}) {
  override get message() {
    return `${this.label} is not set`
  }
}

/**
 * Reports a stored value that cannot be decrypted. It is there: nothing else is used in its place.
 *
 * @category errors
 * @since 0.1.0
 */
export class Undecryptable extends Schema.TaggedError<Undecryptable>()("Undecryptable", {
  ...key,
  scope: CredentialScope,
  problem: Schema.String
}) {
  override get message() {
    return `The credential "${this.key}" of the ${this.scope} cannot be decrypted: ${this.problem}. Set it again, or give this process the key`
  }
}

/**
 * Reports a credential that its provider has rejected a short while ago.
 *
 * @category errors
 * @since 0.1.0
 */
export class CredentialRejected extends Schema.TaggedError<CredentialRejected>()("CredentialRejected", {
  ...key,
  scope: CredentialScope,
  until: Schema.DateTimeUtcFromString
}) {
  override get message() {
    return `The credential "${this.key}" of ${
      sourceOf(this.scope)
    } was rejected by its provider; replace it, or test it again`
  }
}

/**
 * Reports that the organisation could not be looked up, or the answer makes no sense. The call can be made again.
 *
 * @category errors
 * @since 0.1.0
 */
export class OrgLookupFailed extends Schema.TaggedError<OrgLookupFailed>()("OrgLookupFailed", {
  cause: OrgLookupError
}) {
  override get message() {
    return this.cause.message
  }
}

/**
 * Reports that the store could not be read or written, or the cryptography failed. The call can be made again.
 *
 * @category errors
 * @since 0.1.0
 */
export class CredentialStoreUnavailable
  extends Schema.TaggedError<CredentialStoreUnavailable>()("CredentialStoreUnavailable", { cause: Schema.Defect() })
{
  override get message() {
    return "The store of credentials is not available at the moment; try again shortly"
  }
}

/**
 * Reports what went wrong with a credential, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
export class CredentialError extends Schema.TaggedError<CredentialError>()("CredentialError", {
  reason: Schema.Union([
    UnknownKey,
    WrongParts,
    InvalidInput,
    ValueTooLarge,
    ScopeNotAllowed,
    NoActiveOrg,
    NotPermitted,
    NotSet,
    Undecryptable,
    CredentialRejected,
    OrgLookupFailed,
    CredentialStoreUnavailable
  ])
}) {
  override get message() {
    return this.reason.message
  }
}

/** Fails with a reason. */
export const fail = (reason: CredentialError["reason"]) => Effect.fail(new CredentialError({ reason }))

/** Reports that the store or the cryptography failed. */
export const storeFailure = (cause: unknown) =>
  new CredentialError({ reason: new CredentialStoreUnavailable({ cause }) })

/** Reports a failing step of the store. */
export const stored = <A, R>(self: Effect.Effect<A, RepositoryError, R>): Effect.Effect<A, CredentialError, R> =>
  Effect.mapError(self, storeFailure)
