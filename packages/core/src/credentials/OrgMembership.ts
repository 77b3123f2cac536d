/**
 * How a host says which organisation and workspace a caller is active in, and with which role.
 *
 * Sallyport keeps no organisations. It asks here before each operation on a credential, and remembers nothing of the answer:
 * a host whose look-up is slow caches it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Input from "../Input.ts"

/**
 * Reports that it could not be found out who is in which organisation. It is no statement about the organisation.
 *
 * @category errors
 * @since 0.1.0
 */
export class OrgLookupError extends Schema.TaggedError<OrgLookupError>()("OrgLookupError", {
  cause: Schema.Defect()
}) {
  override get message() {
    return "The organisation could not be looked up; nothing was changed, and the call can be made again"
  }
}

/**
 * Describes a place in an organisation or a workspace. A role other than `owner` and `admin` has a member's rights.
 *
 * @category models
 * @since 0.1.0
 */
export interface Affiliation {
  readonly id: string
  readonly role: string
}

/**
 * Says what a caller is active in at the moment; null if that is none.
 *
 * @category models
 * @since 0.1.0
 */
export interface Membership {
  readonly org: Affiliation | null
  readonly workspace: Affiliation | null
}

/**
 * Describes a caller that is active in nothing.
 *
 * @category constants
 * @since 0.1.0
 */
export const none: Membership = { org: null, workspace: null }

/**
 * Answers who is where. A host provides it.
 *
 * @category services
 * @since 0.1.0
 */
export class OrgMembership extends Context.Service<OrgMembership, {
  /**
   * Returns the organisation and the workspace that a subject is active in. If that cannot be found out it fails: an
   * answer without an organisation says that there is none.
   */
  readonly active: (subject: string) => Effect.Effect<Membership, OrgLookupError>
}>()("@sallyport/core/credentials/OrgMembership") {}

/**
 * Tells whether a role may change what belongs to its organisation or workspace.
 *
 * @category predicates
 * @since 0.1.0
 */
export const mayWrite = (role: string): boolean => role === "owner" || role === "admin"

/**
 * Provides memberships from a map by subject, for tests; a subject that is not there is active in nothing.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStatic = (
  memberships: ReadonlyMap<string, Partial<Membership>>
): Layer.Layer<OrgMembership> =>
  Layer.sync(OrgMembership, () => {
    const map = { is: (value: unknown) => value instanceof Map, expected: "a Map from subjects to memberships" }
    Input.demand("OrgMembership.layerStatic", { memberships: Input.required(map) }, { memberships })
    return OrgMembership.of({ active: (subject) => Effect.sync(() => ({ ...none, ...memberships.get(subject) })) })
  })

/**
 * Provides no organisations, for a host that has none: every credential belongs to a user.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNone: Layer.Layer<OrgMembership> = layerStatic(new Map())
