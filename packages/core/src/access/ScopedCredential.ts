/**
 * What a provider credential is to a host: whose it is, under which key, and since when. It never holds the value.
 */
import * as Schema from "effect/Schema"

/** Names what a credential belongs to: a person, an organisation, or the workspace around organisations. */
export const CredentialScope = Schema.Literals(["user", "org", "workspace"])
/** @see {@link CredentialScope} */
export type CredentialScope = typeof CredentialScope.Type

/** Names a declared credential, such as `github.token`: lower-case letters, digits, `.`, `_` and `-`, at most 128. */
export const CredentialKey = Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,127}$/))

/** Names an owner: the subject of a user, or the id of an organisation or a workspace. */
export const CredentialOwner = Schema.NonEmptyString

/** Says where a credential is: there is at most one for each scope, owner and key. */
export interface CredentialPlace {
  readonly scope: CredentialScope
  readonly owner: string
  readonly key: string
}

/** Describes a stored credential in lists and in events: without its value. */
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
