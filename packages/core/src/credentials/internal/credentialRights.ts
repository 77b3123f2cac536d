/**
 * Whose credentials a caller reads, and where a caller may write.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Requirement, scopesOf } from "../CredentialRequirements.ts"
import { type Affiliation, mayWrite, type Membership } from "../OrgMembership.ts"
import { CredentialScope } from "../../access/ScopedCredential.ts"
import type { ScopedOwner } from "../../access/ScopedCredentialRepository.ts"
import { type CredentialError, fail, NoActiveOrg, NotPermitted, ScopeNotAllowed } from "./credentialErrors.ts"

/**
 * Says who asks: a session, or anything that has a subject.
 *
 * @category models
 * @since 0.1.0
 */
export interface Caller {
  readonly subject: string
}

/** Checks that a text is a scope. */
export const isScope = Schema.is(CredentialScope)

/** The caller's part in what owns the credentials of a scope; null if there is none. */
export const affiliationOf = (caller: Caller, found: Membership, scope: CredentialScope): Affiliation | null =>
  scope === "user" ? { id: caller.subject, role: "owner" } : found[scope]

/** The owners that a caller reads from, the first one first. */
export const ownersOf = (
  readOrder: ReadonlyArray<CredentialScope>,
  caller: Caller,
  found: Membership
) =>
  readOrder.flatMap((scope) => {
    const affiliation = affiliationOf(caller, found, scope)
    return affiliation === null ? [] : [{ scope, owner: affiliation.id, removable: mayWrite(affiliation.role) }]
  })

/** Checks the right to write in a scope, and says whose the credential is. */
export const permit = (
  caller: Caller,
  found: Membership,
  key: string,
  scope: CredentialScope
): Effect.Effect<ScopedOwner, CredentialError> => {
  const affiliation = affiliationOf(caller, found, scope)
  if (affiliation === null) return fail(new NoActiveOrg({ key, scope }))
  return mayWrite(affiliation.role)
    ? Effect.succeed({ scope, owner: affiliation.id })
    : fail(new NotPermitted({ key, scope }))
}

/** The scope of a write that names none: the organisation's for those who may, and the caller's own otherwise. */
export const impliedScope = (found: Membership, requirement: Requirement): CredentialScope => {
  const allowed = scopesOf(requirement)
  const ofOrg = found.org !== null && mayWrite(found.org.role)
  if (allowed.includes("org") && (ofOrg || !allowed.includes("user"))) return "org"
  return allowed.includes("user") ? "user" : "workspace"
}

/** Checks a scope that a caller named. */
export const scopeOf = (
  requirement: Requirement,
  scope: string
): Effect.Effect<CredentialScope, CredentialError> => {
  const allowed = scopesOf(requirement)
  return isScope(scope) && allowed.includes(scope)
    ? Effect.succeed(scope)
    : fail(new ScopeNotAllowed({ key: requirement.key, scope, allowed }))
}
