/**
 * Who asks for a change of access.
 */
import type { Session } from "./Session.ts"

/**
 * Says who asks for a change: a session, or the operator, who runs the host.
 *
 * @category models
 * @since 0.1.0
 */
export type Principal = Session | "operator"

/**
 * Returns the name under which a principal stands in the access feed.
 *
 * @category getters
 * @since 0.1.0
 */
export const actorOf = (principal: Principal): string => principal === "operator" ? "operator" : principal.subject

/**
 * Returns the subject whose sessions, links and events a principal reaches: its own; or none, if it reaches everyone's, as
 * the operator does, and a session with the scope `access:manage`.
 *
 * @category getters
 * @since 0.1.0
 */
export const reachOf = (principal: Principal): string | undefined =>
  principal === "operator" || principal.scopes.includes("access:manage") ? undefined : principal.subject
