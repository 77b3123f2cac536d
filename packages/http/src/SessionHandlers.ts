/**
 * Answers the endpoints of sessions: signing in with a cookie, or for a bearer token or one that is bound to a key, the list, and signing out.
 */
import { EndedView, PairingPreview, PolicyView } from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { accessTokenType, bootstrapTokenType, refreshGrant, tokenExchange } from "@sallyport/contract/SessionGroup"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { BootstrapCredentialService, type RedeemOptions } from "@sallyport/core/access/BootstrapCredentialService"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import type { InvalidProof, NonceRequired, ReplayStoreUnavailable } from "@sallyport/core/access/DpopProof"
import { reachOf } from "@sallyport/core/access/Principal"
import { SessionId, type SessionMethod } from "@sallyport/core/access/Session"
import {
  type IssuedSession,
  type SessionCredentialError,
  SessionCredentialService
} from "@sallyport/core/access/SessionCredentialService"
import * as Text from "@sallyport/core/Text"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { authenticate, challenge, checkOrigin } from "./Authentication.ts"
import * as Dpop from "./internal/dpop.ts"
import * as Wire from "./internal/wire.ts"
import * as SessionCookie from "./SessionCookie.ts"

/** Returns the session of the browser that sends the current request, if one of its cookies has a good one. */
const currentSession = Effect.gen(function*() {
  const { secureCookies } = yield* AuthPolicy
  const sessions = yield* SessionCredentialService
  for (const token of SessionCookie.read(yield* HttpServerRequest.HttpServerRequest, secureCookies)) {
    const session = yield* sessions.verify(token).pipe(
      Effect.catchReason("SessionCredentialError", "SessionRefused", () => Effect.undefined)
    )
    if (session !== undefined) return session
  }
  return undefined
})

const policyView = Effect.gen(function*() {
  const { bootstrapMethods, kind, name, sessionMethods } = yield* AuthPolicy
  const dpop = yield* Dpop.offered
  return new PolicyView({
    kind,
    name: name ?? null,
    bootstrapMethods,
    sessionMethods: Option.isSome(dpop)
      ? sessionMethods
      : sessionMethods.filter((method) => method !== "dpop-access-token")
  })
})

/** Redeems a credential for a session of the given method, which is that of the sender of the current request. */
const signIn = <E = never, R = never>(
  options: Omit<RedeemOptions<E, R>, "device" | "methods" | "source"> & { readonly label?: string | undefined }
) =>
  Effect.gen(function*() {
    const { label, ...redemption } = options
    const request = yield* HttpServerRequest.HttpServerRequest
    const bootstrap = yield* BootstrapCredentialService
    return yield* bootstrap.redeem({
      ...redemption,
      device: {
        label: label ?? null,
        userAgent: Text.fromHeader(request.headers["user-agent"]),
        address: Option.getOrNull(request.remoteAddress)
      },
      source: Option.getOrUndefined(request.remoteAddress),
      methods: (yield* AuthPolicy).bootstrapMethods
    })
  })

/**
 * Returns the check of the proof that came with a request for a token, and none if no proof came. It is made and spent
 * only for a credential that this server has issued, and before that is used up: a replay store that fails costs a proof and
 * not the credential.
 */
const proofOfKey = Effect.gen(function*() {
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  if (headers.dpop === undefined) return undefined
  const dpop = yield* Dpop.offered
  if (Option.isNone(dpop)) {
    return yield* Wire.oauthInvalidRequest({ message: "This server takes no DPoP proofs; ask for a bearer token" })
  }
  return Dpop.check(dpop.value, undefined)
})

/** Answers what is wrong with a proof. */
const proofRefusals = {
  InvalidProof: (reason: InvalidProof) => Wire.oauthDpopFailure("invalid_dpop_proof", reason),
  NonceRequired: (reason: NonceRequired) => Wire.oauthDpopFailure("use_dpop_nonce", reason),
  ReplayStoreUnavailable: (reason: ReplayStoreUnavailable) => Wire.oauthUnavailable(reason)
}

/** Fails if the policy in force has no sessions of a method, before anything is used up for one. */
const offersMethod = <E, R>(
  method: SessionMethod,
  refuse: (reason: { readonly message: string }) => Effect.Effect<never, E, R>
): Effect.Effect<void, E, R | AuthPolicy> =>
  Effect.flatMap(AuthPolicy, ({ sessionMethods }) =>
    sessionMethods.includes(method)
      ? Effect.void
      : refuse({ message: `Under the policy in force there are no sessions of the method ${method}` }))

/** A parameter without a value counts as absent (RFC 6749 section 3.2). */
const given = (parameter: Redacted.Redacted | undefined): parameter is Redacted.Redacted =>
  parameter !== undefined && Redacted.value(parameter) !== ""

/** Answers with the tokens of a session. */
const tokenResponse = Effect.fnUntraced(function*({ refreshToken, session, token, tokenExpiresAt }: IssuedSession) {
  const now = yield* Clock.currentTimeMillis
  return {
    access_token: token,
    issued_token_type: accessTokenType,
    token_type: session.proofKeyThumbprint === null ? "Bearer" as const : "DPoP" as const,
    expires_in: Math.max(0, Math.floor((DateTime.toEpochMillis(tokenExpiresAt) - now) / 1000)),
    ...(refreshToken === undefined ? {} : { refresh_token: refreshToken }),
    scope: session.scopes.join(" ")
  }
})

/** Exchanges a refresh token. Whatever is wrong with it, the caller learns that it gives no token (RFC 6749 section 5.2). */
const refresh = Effect.fnUntraced(function*(
  refreshToken: Redacted.Redacted | undefined,
  scopes: ReadonlyArray<AccessScope.AccessScope> | undefined
) {
  if (!given(refreshToken)) return yield* Wire.oauthInvalidRequest({ message: "A refresh_token is needed" })
  const sessions = yield* SessionCredentialService
  const proof = yield* proofOfKey
  const refreshed = yield* sessions.refresh(refreshToken, { proof, scopes }).pipe(
    Effect.catchReasons("DpopProofError", proofRefusals, (reason) => Effect.die(reason)),
    Effect.catchReasons("SessionCredentialError", {
      RefreshRefused: Effect.fnUntraced(function*(reason) {
        yield* Effect.logInfo("Refused a refresh token").pipe(Effect.annotateLogs({ problem: reason.problem }))
        return yield* reason.problem === "scope-not-held"
          ? Wire.oauthInvalidScope(reason)
          : Wire.oauthInvalidGrant(reason)
      }),
      SessionStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason))
  )
  // The scopes are the session's; to ask for fewer changes nothing, and the answer says so. It never has more.
  return yield* tokenResponse(refreshed)
})

const decodeScopes = Schema.decodeUnknownOption(Schema.Array(AccessScope.AccessScope))

/** Answers 503 if the store does not answer, which is all that these endpoints can fail with. */
const onlyUnavailable = <A, R>(effect: Effect.Effect<A, SessionCredentialError, R>) =>
  Effect.catchReasons(effect, "SessionCredentialError", {
    SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
  }, (reason) => Effect.die(reason))

/**
 * Provides the handlers of the group `session`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "session",
  Effect.fn(function*(handlers) {
    const sessions = yield* SessionCredentialService
    const context = yield* Effect.context<AuthPolicy | BootstrapCredentialService | SessionCredentialService>()
    const provideServices = Effect.provideContext(context)
    return handlers.handleAll({
      state: Effect.fn(function*() {
        const session = yield* authenticate.pipe(
          // A cookie that has ended says "not signed in"; a wrong Authorization header is an error here as elsewhere.
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
        yield* checkOrigin({ vouched: false })
        yield* offersMethod("browser-session-cookie", Wire.methodNotOffered)
        // A browser has one session of this server: the one that it had until now ends when the new one begins.
        const before = yield* onlyUnavailable(currentSession)
        const { session, token } = yield* signIn({
          ...payload,
          method: "browser-session-cookie",
          replaces: before?.method === "browser-session-cookie" ? before.id : undefined
        }).pipe(
          Effect.catchReasons("BootstrapCredentialError", {
            MalformedCode: (reason) => Wire.malformedCode(reason),
            InvalidCredential: (reason) => Effect.andThen(challenge(), Wire.invalidCredential(reason)),
            TooManyAttempts: (reason) => Wire.rateLimited(reason),
            BootstrapStoreUnavailable: (reason) => Wire.unavailable(reason)
          }, (reason) => Effect.die(reason))
        )
        yield* SessionCookie.set(token)
        return { session: Wire.sessionView(session, session.id) }
      }, provideServices),
      preview: Effect.fn(function*({ payload }) {
        const bootstrap = yield* BootstrapCredentialService
        const { expiresAt, label, lifetime, scopes, sessionEndsAt, subject } = yield* bootstrap.preview({
          credential: payload.credential,
          source: Option.getOrUndefined((yield* HttpServerRequest.HttpServerRequest).remoteAddress),
          methods: (yield* AuthPolicy).bootstrapMethods
        }).pipe(
          Effect.catchReasons("BootstrapCredentialError", {
            MalformedCode: (reason) => Wire.malformedCode(reason),
            InvalidCredential: (reason) => Effect.andThen(challenge(), Wire.invalidCredential(reason)),
            TooManyAttempts: (reason) => Wire.rateLimited(reason),
            BootstrapStoreUnavailable: (reason) => Wire.unavailable(reason)
          }, (reason) => Effect.die(reason))
        )
        return new PairingPreview({
          subject,
          scopes,
          label,
          expiresAt,
          sessionEndsAt,
          lifetimeSeconds: Math.floor(Duration.toSeconds(lifetime))
        })
      }, provideServices),
      token: Effect.fn(function*({ payload }) {
        if (payload.grant_type !== tokenExchange && payload.grant_type !== refreshGrant) {
          const grants = `${tokenExchange} or ${refreshGrant}`
          return yield* payload.grant_type === undefined || payload.grant_type === ""
            ? Wire.oauthInvalidRequest({ message: `A grant_type is needed: ${grants}` })
            : Wire.oauthUnsupportedGrantType({ message: `The grant_type must be ${grants}` })
        }
        const asked = payload.scope?.split(" ").filter((scope) => scope !== "")
        const scopes = asked === undefined || asked.length === 0 ? Option.some(undefined) : decodeScopes(asked)
        if (Option.isNone(scopes)) {
          return yield* Wire.oauthInvalidScope({ message: "A scope has the form resource:action, such as runs:read" })
        }
        if (payload.grant_type === refreshGrant) return yield* refresh(payload.refresh_token, scopes.value)
        if (!given(payload.subject_token) || payload.subject_token_type !== bootstrapTokenType) {
          return yield* Wire.oauthInvalidRequest({
            message: `A subject_token is needed, with the subject_token_type ${bootstrapTokenType}`
          })
        }
        const proof = yield* proofOfKey
        const method = proof === undefined ? "bearer-access-token" : "dpop-access-token"
        yield* offersMethod(method, Wire.oauthInvalidRequest)
        const issued = yield* signIn({
          credential: payload.subject_token,
          scopes: scopes.value,
          method,
          proof,
          attemptKey: payload.attempt_key
        }).pipe(
          Effect.catchReasons("DpopProofError", proofRefusals, (reason) => Effect.die(reason)),
          Effect.catchReasons("BootstrapCredentialError", {
            MalformedCode: (reason) => Wire.oauthInvalidGrant(reason),
            InvalidCredential: (reason) => Wire.oauthInvalidGrant(reason),
            ScopeNotGranted: (reason) => Wire.oauthInvalidScope(reason),
            TooManyAttempts: (reason) => Wire.oauthRateLimited(reason),
            BootstrapStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
          }, (reason) => Effect.die(reason))
        )
        return yield* tokenResponse(issued)
      }, provideServices),
      ticket: Effect.fn(function*() {
        return { ticket: yield* sessions.issueTicket(yield* CurrentSession) }
      }, onlyUnavailable),
      logout: Effect.fn(
        function*() {
          const session = yield* CurrentSession
          yield* sessions.logout(session)
          // A cookie beside a bearer token is another session's, which goes on.
          if (session.method !== "browser-session-cookie") return
          // Each cookie of our name that has a session would let the browser in again.
          const { secureCookies } = yield* AuthPolicy
          for (const token of SessionCookie.read(yield* HttpServerRequest.HttpServerRequest, secureCookies)) {
            yield* Effect.flatMap(sessions.verify(token), sessions.logout).pipe(
              Effect.catchReason("SessionCredentialError", "SessionRefused", () => Effect.void)
            )
          }
          yield* SessionCookie.clear
        },
        provideServices,
        onlyUnavailable
      ),
      list: Effect.fn(
        function*({ query }) {
          const current = yield* CurrentSession
          const listed = yield* sessions.list({
            subject: reachOf(current),
            current: current.id,
            // Sessions are listed in the order of their ids. A text that is none begins a page where it would stand.
            after: query.after === undefined ? undefined : SessionId.make(query.after),
            limit: Wire.pageSize
          })
          return {
            sessions: listed.map((one) => Wire.listedSessionView(one, current.id)),
            next: Wire.nextPage(listed, ({ session }) => session.id)
          }
        },
        Effect.catchReasons("SessionCredentialError", {
          InvalidInput: (reason) => Wire.malformedCursor(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      rename: Effect.fn(
        function*({ params, payload }) {
          const current = yield* CurrentSession
          return Wire.sessionView(yield* sessions.rename(params.id, payload.label, current), current.id)
        },
        Effect.catchReasons("SessionCredentialError", {
          SessionNotFound: (reason) => Wire.sessionNotFound(reason),
          LabelNotAllowed: (reason) => Wire.invalidRequest(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      revoke: Effect.fn(
        function*({ payload }) {
          const ended = yield* sessions.revoke(payload.id, yield* CurrentSession, { descendants: payload.descendants })
          return new EndedView(ended)
        },
        Effect.catchReasons("SessionCredentialError", {
          SessionNotFound: (reason) => Wire.sessionNotFound(reason),
          CurrentSessionProtected: (reason) => Wire.currentSession(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      revokeOthers: Effect.fn(function*() {
        return new EndedView(yield* sessions.revokeOthers(yield* CurrentSession))
      }, onlyUnavailable),
      revokeIssuedBefore: Effect.fn(function*({ payload }) {
        return new EndedView(yield* sessions.revokeIssuedBefore(payload.time, yield* CurrentSession))
      }, onlyUnavailable)
    })
  })
)
