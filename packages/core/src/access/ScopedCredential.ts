/**
 * What a provider credential is to a host: whose it is, under which key, and since when. It never holds the value.
 */
import * as Schema from "effect/Schema"

/**
 * Names what a credential belongs to: a person, an organisation, or the workspace around organisations.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialScope = Schema.Literals(["user", "org", "workspace"])
/**
 * @see {@link CredentialScope}
 *
 * @category models
 * @since 0.1.0
 */
export type CredentialScope = typeof CredentialScope.Type

/**
 * Names a declared credential, such as `github.token`: lower-case letters, digits, `.`, `_` and `-`, at most 128.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialKey = Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,127}$/))

/**
 * Names an owner: the subject of a user, or the id of an organisation or a workspace.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialOwner = Schema.NonEmptyString

/**
 * Says where a credential is: there is at most one for each scope, owner and key.
 *
 * @category models
 * @since 0.1.0
 */
export interface CredentialPlace {
  readonly scope: CredentialScope
  readonly owner: string
  readonly key: string
}

/**
 * Describes a stored credential in lists and in events: without its value.
 *
 * @category models
 * @since 0.1.0
 */
export class ScopedCredential extends Schema.Class<ScopedCredential>("@sallyport/core/access/ScopedCredential")({
  scope: CredentialScope,
  owner: CredentialOwner,
  key: CredentialKey,
  /** Changes with every write of a value. A rotation of encryption keys leaves it. */
  revision: Schema.NonEmptyString,
  createdAt: Schema.DateTimeUtcFromMillis,
  updatedAt: Schema.DateTimeUtcFromMillis,
  updatedBy: Schema.NonEmptyString,
  /** Until when it counts as rejected by its provider, or null. */
  rejectedUntil: Schema.NullOr(Schema.DateTimeUtcFromMillis)
}) {}
