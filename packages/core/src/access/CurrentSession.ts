/**
 * The principal of the request that is being answered.
 */
import * as Context from "effect/Context"
import type { Session } from "./Session.ts"

/**
 * Provides the session that a request was let in with. The authentication middleware provides it to HTTP handlers, host
 * routes and WebSocket upgrades alike.
 *
 * @category services
 * @since 0.1.0
 */
export class CurrentSession
  extends Context.Service<CurrentSession, Session>()("@sallyport/core/access/CurrentSession")
{}
