/**
 * Sessions without a server: for what a host does for a session, apart from how it was let in.
 */
import { type Authentication, layerAuthentication, RequiredScopes } from "@sallyport/contract/Authentication"
import { Forbidden } from "@sallyport/contract/WireError"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { Device, Session, SessionId } from "@sallyport/core/access/Session"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/**
 * Lists what a test may say of a session. By default its subject is `owner`, it has no scope, and it ends in a day.
 *
 * @category options
 * @since 0.1.0
 */
export type Options = Partial<Session>

/**
 * Creates a session that is in no store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Session> =>
  Effect.map(DateTime.now, (now) =>
    new Session({
      id: SessionId.make("test-session"),
      subject: "owner",
      method: "bearer-access-token",
      scopes: [],
      scopeRequest: null,
      proofKeyThumbprint: null,
      device: new Device({ label: null, kind: "program", userAgent: null, address: null }),
      letInBy: { actor: "operator", sessionId: null, linkId: null },
      client: null,
      lifetime: null,
      createdAt: now,
      lastSeenAt: now,
      expiresAt: DateTime.add(now, { days: 1 }),
      absoluteExpiresAt: null,
      ...options
    }))

/**
 * Provides the session of the request that is being answered, to handlers that are called without one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<CurrentSession> => Layer.effect(CurrentSession, make(options))

/**
 * Lets every request in with one session, so that an API is tested without sessions, secrets and repositories. An endpoint
 * whose scopes it lacks answers as it does in the host.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAuthenticated = (options?: Options): Layer.Layer<Authentication> =>
  layerAuthentication(Effect.map(make(options), (session) => (httpEffect, { endpoint }) => {
    const scopes = Option.getOrElse(Context.getOption(endpoint.annotations, RequiredScopes), () => [])
    const lacking = AccessScope.missing(session.scopes, scopes)
    return lacking.length === 0
      ? Effect.provideService(httpEffect, CurrentSession, session)
      : Effect.fail(
        new Forbidden({
          code: "scope_required",
          message: `The session lacks the scope ${lacking.join(" ")}; give it to TestPrincipal`,
          retryable: false,
          traceId: "0".repeat(32)
        })
      )
  }))
