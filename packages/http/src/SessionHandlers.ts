/**
 * Answers the endpoints of sessions: signing in with a cookie or for a bearer token, the list, and signing out.
 */
import { PolicyView } from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { accessTokenType, bootstrapTokenType, tokenExchange } from "@sallyport/contract/SessionGroup"
import { OAuthError } from "@sallyport/contract/WireError"
import * as AccessScope from "@sallyport/core/AccessScope"
import { AuthPolicy } from "@sallyport/core/AuthPolicy"
import { BootstrapCredentialService } from "@sallyport/core/BootstrapCredentialService"
import { CurrentSession } from "@sallyport/core/CurrentSession"
import type { SessionMethod } from "@sallyport/core/Session"
import { type SessionCredentialError, SessionCredentialService } from "@sallyport/core/SessionCredentialService"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { authenticate, checkOrigin } from "./Authentication.ts"
import { noStore } from "./internal/headers.ts"
import * as Wire from "./internal/wire.ts"
import * as SessionCookie from "./SessionCookie.ts"

const policyView = Effect.map(
  AuthPolicy,
  ({ bootstrapMethods, kind, sessionMethods }) => new PolicyView({ kind, bootstrapMethods, sessionMethods })
)

/** Redeems a credential and starts a session of the given method for whoever sent the current request. */
const signIn = Effect.fnUntraced(function*(options: {
  readonly credential: Redacted.Redacted
  readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
  readonly method: SessionMethod
  readonly label?: string | undefined
}) {
  const request = yield* HttpServerRequest.HttpServerRequest
  const bootstrap = yield* BootstrapCredentialService
  const sessions = yield* SessionCredentialService
  const grant = yield* bootstrap.consume({ credential: options.credential, scopes: options.scopes })
  return yield* sessions.issue({
    subject: grant.subject,
    scopes: grant.scopes,
    method: options.method,
    device: {
      label: options.label ?? null,
      userAgent: request.headers["user-agent"]?.slice(0, 256) ?? null,
      address: Option.getOrNull(request.remoteAddress)
    },
    actor: grant.createdBy
  })
})

const oauthError = (error: OAuthError["error"], description: string) =>
  new OAuthError({ error, error_description: description })

const decodeScopes = Schema.decodeUnknownOption(Schema.Array(AccessScope.AccessScope))

/** Answers 503 where the store does not answer, which is all that these endpoints can fail with. */
const onlyUnavailable = <A, R>(effect: Effect.Effect<A, SessionCredentialError, R>) =>
  Effect.catchReasons(effect, "SessionCredentialError", {
    SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
  }, (reason) => Effect.die(reason))

/** Provides the handlers of the group `session`. */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "session",
  Effect.fn(function*(handlers) {
    const sessions = yield* SessionCredentialService
    const context = yield* Effect.context<AuthPolicy | BootstrapCredentialService | SessionCredentialService>()
    const provideServices = Effect.provideContext(context)
    return handlers.handleAll({
      state: Effect.fn(function*() {
        yield* noStore
        const session = yield* authenticate.pipe(
          // A cookie that has ended says "not signed in"; one that another site sent can't be here, for this only reads.
          Effect.catchTag("Forbidden", () => Effect.succeedNone),
          Effect.catchTag(
            "Unauthorized",
            (error) =>
              Effect.flatMap(
                HttpServerRequest.HttpServerRequest,
                (request) => request.headers.authorization === undefined ? Effect.succeedNone : Effect.fail(error)
              )
          )
        )
        const policy = yield* policyView
        return Option.isNone(session)
          ? { authenticated: false as const, policy }
          : { authenticated: true as const, policy, session: Wire.sessionView(session.value, session.value.id) }
      }, provideServices),
      bootstrap: Effect.fn(function*({ payload }) {
        yield* noStore
        yield* checkOrigin({ vouched: false })
        const { session, token } = yield* signIn({ ...payload, method: "browser-session-cookie" }).pipe(
          Effect.catchReasons("BootstrapCredentialError", {
            MalformedCode: (reason) => Wire.malformedCode(reason),
            InvalidCredential: (reason) => Wire.invalidCredential(reason),
            BootstrapStoreUnavailable: (reason) => Wire.unavailable(reason)
          }, (reason) => Effect.die(reason)),
          Effect.catchReasons("SessionCredentialError", {
            SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
          }, (reason) => Effect.die(reason))
        )
        yield* SessionCookie.set(token)
        return { session: Wire.sessionView(session, session.id) }
      }, provideServices),
      token: Effect.fn(function*({ payload }) {
        yield* noStore
        if (payload.grant_type !== tokenExchange) {
          return yield* oauthError("unsupported_grant_type", `The grant_type must be ${tokenExchange}`)
        }
        if (payload.subject_token === undefined || payload.subject_token_type !== bootstrapTokenType) {
          return yield* oauthError(
            "invalid_request",
            `A subject_token is needed, with the subject_token_type ${bootstrapTokenType}`
          )
        }
        const asked = payload.scope?.split(" ").filter((scope) => scope !== "")
        const scopes = asked === undefined || asked.length === 0 ? Option.some(undefined) : decodeScopes(asked)
        if (Option.isNone(scopes)) {
          return yield* oauthError("invalid_scope", "A scope has the form resource:action, such as runs:read")
        }
        const { session, token } = yield* signIn({
          credential: payload.subject_token,
          scopes: scopes.value,
          method: "bearer-access-token"
        }).pipe(
          Effect.catchReasons("BootstrapCredentialError", {
            MalformedCode: (reason) => Effect.fail(oauthError("invalid_grant", reason.message)),
            InvalidCredential: (reason) => Effect.fail(oauthError("invalid_grant", reason.message)),
            ScopeNotGranted: (reason) => Effect.fail(oauthError("invalid_scope", reason.message)),
            BootstrapStoreUnavailable: (reason) => Effect.fail(oauthError("temporarily_unavailable", reason.message))
          }, (reason) => Effect.die(reason)),
          Effect.catchReasons("SessionCredentialError", {
            SessionStoreUnavailable: (reason) => Effect.fail(oauthError("temporarily_unavailable", reason.message))
          }, (reason) => Effect.die(reason))
        )
        const now = yield* Clock.currentTimeMillis
        return {
          access_token: token,
          issued_token_type: accessTokenType,
          token_type: "Bearer" as const,
          expires_in: Math.floor((DateTime.toEpochMillis(session.expiresAt) - now) / 1000),
          scope: session.scopes.join(" ")
        }
      }, provideServices),
      ticket: Effect.fn(function*() {
        yield* noStore
        return { ticket: yield* sessions.issueTicket(yield* CurrentSession) }
      }, onlyUnavailable),
      logout: Effect.fn(
        function*() {
          yield* sessions.logout(yield* CurrentSession)
          yield* SessionCookie.clear
        },
        provideServices,
        onlyUnavailable
      ),
      list: Effect.fn(function*() {
        yield* noStore
        const { id, subject } = yield* CurrentSession
        const listed = yield* sessions.list({ subject, current: id })
        return { sessions: listed.map(({ session }) => Wire.sessionView(session, id)) }
      }, onlyUnavailable),
      revoke: Effect.fn(
        function*({ payload }) {
          yield* sessions.revoke(payload.id, yield* CurrentSession)
        },
        Effect.catchReasons("SessionCredentialError", {
          SessionNotFound: (reason) => Wire.sessionNotFound(reason),
          CurrentSessionProtected: (reason) => Wire.currentSession(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      revokeOthers: Effect.fn(function*() {
        return { revoked: yield* sessions.revokeOthers(yield* CurrentSession) }
      }, onlyUnavailable)
    })
  })
)
