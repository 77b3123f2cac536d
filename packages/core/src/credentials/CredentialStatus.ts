/**
 * What every caller that uses a credential may know of it: whether it is there, whose it is, and whether it works.
 */
import * as Schema from "effect/Schema"
import { CredentialKind } from "./CredentialRequirements.ts"
import { CredentialKey, CredentialScope } from "../access/ScopedCredential.ts"

/**
 * Names where a value came from.
 *
 * @category models
 * @since 0.1.0
 */
export const CredentialSource = Schema.Literals([...CredentialScope.literals, "environment"])
/**
 * @see {@link CredentialSource}
 *
 * @category models
 * @since 0.1.0
 */
export type CredentialSource = typeof CredentialSource.Type

/**
 * Describes what a member sees of a declared credential.
 *
 * @category models
 * @since 0.1.0
 */
export class CredentialStatus extends Schema.Class<CredentialStatus>("@sallyport/core/credentials/CredentialStatus")({
  key: CredentialKey,
  label: Schema.String,
  helpUrl: Schema.NullOr(Schema.String),
  kind: CredentialKind,
  parts: Schema.Array(Schema.String),
  /** `invalid` is one that its provider rejected a short while ago. */
  state: Schema.Literals(["set", "unset", "invalid", "undecryptable"]),
  /** Whose it is; null if it is unset. */
  source: Schema.NullOr(CredentialSource),
  /** Scopes that have one too, which `source` comes before. */
  shadowed: Schema.Array(CredentialScope),
  /** Where a write without a scope would go, or null if the caller may write nowhere. */
  writeScope: Schema.NullOr(CredentialScope),
  updatedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  rejectedUntil: Schema.NullOr(Schema.DateTimeUtcFromString)
}) {}
