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
