/**
 * Lets requests in: the middleware behind the contract's guarded endpoints, and the one that a host puts before its own
 * routes and WebSocket upgrades. Both do the same.
 *
 * A request proves its session by exactly one credential. An `Authorization` header counts alone: if it is wrong, a
 * good cookie beside it doesn't help. A WebSocket upgrade may carry a ticket as the query parameter `ticket`.
 *
 * A token that is bound to a key comes as `Authorization: DPoP`, with a proof in the header `DPoP` (RFC 9449). Such tokens
 * are taken if the host has put `DpopProof` beside the routes, and the policy knows the address that proofs must name.
 */
import {
  Authentication,
  layerAuthentication,
  OAuthRequestErrors,
  RequestErrors,
  RequiredScopes,
  ShortRequests
} from "@sallyport/contract/Authentication"
import type { Forbidden, TooLarge, Unauthorized, Unavailable } from "@sallyport/contract/WireError"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { AuthorizationServer } from "@sallyport/core/access/AuthorizationServer"
import { AuthPolicy, type Descriptor } from "@sallyport/core/access/AuthPolicy"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { Device, endlessSessionId, Session } from "@sallyport/core/access/Session"
import {
  SessionCredentialError,
  SessionCredentialService,
  TicketRefused
} from "@sallyport/core/access/SessionCredentialService"
import { boundedRequest } from "@sallyport/core/BoundedHttp"
import * as Input from "@sallyport/core/Input"
import * as Arr from "effect/Array"
import * as ByteSize from "effect/ByteSize"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpMethod from "effect/http/HttpMethod"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { challenge, CurrentResource, dpopChallenge, openChallenge } from "./internal/challenge.ts"
import * as ClosableUpgrade from "./internal/closableUpgrade.ts"
import { verifyFirst } from "./internal/cookieSession.ts"
import * as Cors from "./internal/cors.ts"
import * as Dpop from "./internal/dpop.ts"
import * as Hosts from "./internal/hosts.ts"
import { changesState, checkSender, isUpgrade } from "./internal/origin.ts"
import * as Wire from "./internal/wire.ts"
import * as Edge from "./Edge.ts"
import * as EventStream from "./EventStream.ts"
import * as SessionCookie from "./SessionCookie.ts"

/**
 * Lists the ways in which a request is turned away.
 *
 * @category errors
 * @since 0.1.0
 */
export type AuthenticationError = Unauthorized | Forbidden | Unavailable

// -----------------------------------------------------------------------------
// Authentication
// -----------------------------------------------------------------------------

const authorizationForm = /^(Bearer|DPoP) +([^\s]+) *$/i

/** Returns the ticket that an upgrade carries. */
const ticketOf = (request: HttpServerRequest.HttpServerRequest): Option.Option<Redacted.Redacted> => {
  if (!isUpgrade(request)) return Option.none()
  const ticket = URL.parse(request.url, "http://localhost")?.searchParams.get("ticket")
  return Option.map(Option.fromNullishOr(ticket), (text) => Redacted.make(text, { label: "session-ticket" }))
}

/** The session of every request under the policy `unsafe-no-auth`: the owner's, with every scope, and without an end. */
const endless = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  const policy = yield* AuthPolicy
  yield* Hosts.check(policy)
  if (changesState(request)) yield* checkSender(policy, { vouched: false })
  const now = yield* Clock.currentTimeMillis
  return new Session({
    id: endlessSessionId,
    subject: "owner",
    method: "browser-session-cookie",
    scopes: yield* AccessScope.Vocabulary,
    scopeRequest: null,
    proofKeyThumbprint: null,
    device: new Device({ label: null, kind: "browser", userAgent: null, address: null }),
    letInBy: { actor: "operator", sessionId: null, linkId: null },
    client: null,
    lifetime: null,
    createdAt: DateTime.makeUnsafe(now),
    lastSeenAt: DateTime.makeUnsafe(now),
    expiresAt: DateTime.makeUnsafe(now + 86_400_000),
    absoluteExpiresAt: null
  })
})

const isDpop = (authorization: string): boolean => /^DPoP /i.test(authorization)

/**
 * Returns the session of a token that is bound to a key, and spends the proof that came with it. The proof is spent last,
 * so that no caller without a live session makes the store remember anything.
 */
const boundSession = (token: Redacted.Redacted) =>
  Effect.gen(function*() {
    const dpop = yield* Dpop.offered
    if (Option.isNone(dpop)) {
      yield* challenge()
      return yield* Wire.unauthorized({ message: "This server takes no DPoP proofs; use a bearer token" })
    }
    const proof = yield* Dpop.check(dpop.value, token)
    const sessions = yield* SessionCredentialService
    const session = yield* sessions.verify(token, {
      proofKeyThumbprint: proof.proofKeyThumbprint,
      resource: yield* CurrentResource
    })
    if (session.proofKeyThumbprint === null) {
      yield* dpopChallenge({ error: "invalid_token" })
      return yield* Wire.unauthorized({
        message: "The token is not bound to a key; use it as: Bearer, a space, the token"
      })
    }
    yield* proof.spend
    return session
  }).pipe(
    Effect.catchReasons("DpopProofError", {
      InvalidProof: (reason) =>
        Effect.andThen(dpopChallenge({ error: "invalid_dpop_proof" }), Wire.dpopFailure("invalid_dpop_proof", reason)),
      NonceRequired: (reason) =>
        Effect.andThen(dpopChallenge({ error: "use_dpop_nonce" }), Wire.dpopFailure("use_dpop_nonce", reason)),
      ReplayStoreUnavailable: (reason) => Wire.unavailable(reason)
    }, (reason) => Effect.die(reason))
  )

/** Returns the session of whichever credential counts. */
const sessionOfRequest = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  const policy = yield* AuthPolicy
  if (policy.kind === "unsafe-no-auth") return Option.some(yield* endless)

  const sessions = yield* SessionCredentialService
  const use = { resource: yield* CurrentResource }
  const { authorization } = request.headers
  if (authorization !== undefined) {
    const [, scheme, text] = authorizationForm.exec(authorization) ?? []
    if (scheme === undefined || text === undefined) {
      yield* openChallenge
      return yield* Wire.unauthorized({
        message: "The Authorization header must be: Bearer or DPoP, a space, and the token"
      })
    }
    const token = Redacted.make(text, { label: "session-token" })
    return Option.some(yield* isDpop(authorization) ? boundSession(token) : sessions.verify(token, use))
  }
  const ticket = ticketOf(request)
  if (Option.isSome(ticket)) {
    const session = yield* sessions.consumeTicket(ticket.value)
    if ((session.client?.resource ?? undefined) === use.resource) return Option.some(session)
    return yield* new SessionCredentialError({ reason: new TicketRefused() })
  }

  const cookies = SessionCookie.read(request, policy.secureCookies)
  if (!Arr.isReadonlyArrayNonEmpty(cookies)) return Option.none()
  if (changesState(request)) yield* checkSender(policy, { vouched: true })
  return Option.some(yield* verifyFirst(sessions, cookies, use))
})

/** Answers what is wrong with a credential, and logs the reason that the answer keeps to itself. */
const answerRefusal = <A, R>(
  effect: Effect.Effect<A, SessionCredentialError | AuthenticationError, R>
): Effect.Effect<A, AuthenticationError, R | HttpServerRequest.HttpServerRequest> =>
  Effect.catchReasons(effect, "SessionCredentialError", {
    SessionRefused: Effect.fnUntraced(function*(reason) {
      yield* Effect.logDebug("Refused a session token").pipe(Effect.annotateLogs({ problem: reason.problem }))
      const { authorization } = (yield* HttpServerRequest.HttpServerRequest).headers
      yield* authorization === undefined
        ? challenge()
        : isDpop(authorization)
        ? dpopChallenge({ error: "invalid_token" })
        : challenge({ error: "invalid_token" })
      return yield* Wire.unauthorized(reason)
    }),
    TicketRefused: (reason) => Effect.andThen(challenge(), Wire.unauthorized(reason)),
    SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
  }, (reason) => Effect.die(reason))

/**
 * Returns the session that the current request proves, and none if it carries no credential. A wrong credential is
 * `Unauthorized`; a cookie that another site made a browser send is `Forbidden`; a store that does not answer is
 * `Unavailable`.
 *
 * @category operations
 * @since 0.1.0
 */
export const authenticate: Effect.Effect<
  Option.Option<Session>,
  AuthenticationError,
  HttpServerRequest.HttpServerRequest | SessionCredentialService | AuthPolicy
> = answerRefusal(sessionOfRequest)

/** Returns a session that holds every one of some scopes, and fails for another. */
const checkScopes = (
  session: Session,
  scopes: ReadonlyArray<AccessScope.AccessScope>
): Effect.Effect<Session, Forbidden, HttpServerRequest.HttpServerRequest> => {
  const missing = AccessScope.missing(session.scopes, scopes)
  if (missing.length === 0) return Effect.succeed(session)
  // A client asks again for what it is told here, and would lose what it has.
  const needed = session.client === null ? scopes : [...new Set([...session.scopes, ...scopes])]
  const parameters = { error: "insufficient_scope", scope: needed.join(" ") }
  return Effect.andThen(
    session.method === "dpop-access-token" ? dpopChallenge(parameters) : challenge(parameters),
    Wire.scopeRequired(missing)
  )
}

/**
 * Returns the session of the current request, which has to hold every one of some scopes.
 *
 * @category operations
 * @since 0.1.0
 */
export const requireSession = (scopes: ReadonlyArray<AccessScope.AccessScope>): Effect.Effect<
  Session,
  AuthenticationError,
  HttpServerRequest.HttpServerRequest | SessionCredentialService | AuthPolicy
> =>
  Effect.flatMap(authenticate, (session): Effect.Effect<
    Session,
    AuthenticationError,
    HttpServerRequest.HttpServerRequest | AuthPolicy
  > =>
    Option.isSome(session)
      ? checkScopes(session.value, scopes)
      : Effect.andThen(openChallenge, Wire.unauthorized({ message: "Sign in first" })))

const plainBearer = /^Bearer ([A-Za-z0-9._-]+)$/

/**
 * Returns the token of a request that only has to have its token looked at: a bearer token, or the cookie of a request
 * that changes nothing. Undefined for every other one, which {@link requireSession} takes apart.
 */
const plainToken = (
  request: HttpServerRequest.HttpServerRequest,
  policy: Descriptor
): Redacted.Redacted | undefined => {
  if (policy.kind === "unsafe-no-auth") return undefined
  const { authorization } = request.headers
  if (authorization !== undefined) {
    const text = plainBearer.exec(authorization)?.[1]
    return text === undefined ? undefined : Redacted.make(text, { label: "session-token" })
  }
  if (changesState(request)) return undefined
  const [token, ...others] = SessionCookie.read(request, policy.secureCookies)
  return others.length === 0 ? token : undefined
}

/**
 * Does what {@link requireSession} does with services that were taken once, and without a detour for what most requests
 * are: authentication is to cost a request as little as can be.
 */
const requireWith = (
  services: Context.Context<SessionCredentialService | AuthPolicy>,
  scopes: ReadonlyArray<AccessScope.AccessScope>,
  resource?: string
): Effect.Effect<Session, AuthenticationError, HttpServerRequest.HttpServerRequest> => {
  const context = Context.add(services, CurrentResource, resource)
  const policy = Context.get(context, AuthPolicy)
  const sessions = Context.get(context, SessionCredentialService)
  const use = { resource }
  const withAnyCredential = Effect.provideContext(requireSession(scopes), context)
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const token = plainToken(request, policy)
    return token === undefined
      ? withAnyCredential
      : Effect.matchEffect(sessions.verify(token, use), {
        onFailure: (error) => Effect.provideContext(answerRefusal(Effect.fail(error)), context),
        onSuccess: (session) =>
          AccessScope.missing(session.scopes, scopes).length === 0
            ? Effect.succeed(session)
            : Effect.provideContext(checkScopes(session, scopes), context)
      })
  })
}

// -----------------------------------------------------------------------------
// Middleware
// -----------------------------------------------------------------------------

/**
 * Provides the middleware behind every endpoint that declares a scope with the contract's `requires`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Authentication, never, SessionCredentialService | AuthPolicy> = layerAuthentication(
  Effect.gen(function*() {
    const context = yield* Effect.context<SessionCredentialService | AuthPolicy>()
    return (httpEffect, { endpoint }) => {
      const scopes = Context.getOption(endpoint.annotations, RequiredScopes)
      if (Option.isNone(scopes)) {
        return Effect.die(
          new Error(`The endpoint ${endpoint.identifier} is authenticated but declares no scope; use requires(scope)`)
        )
      }
      return Effect.flatMap(
        requireWith(context, scopes.value),
        (session) => Effect.provideService(httpEffect, CurrentSession, session)
      )
    }
  })
)

/** Fails the start of a host that guards a resource which no tokens are issued for. */
const checkResource = Effect.fnUntraced(function*(resource: string | undefined) {
  if (resource === undefined) return
  const server = Option.getOrUndefined(yield* Effect.serviceOption(AuthorizationServer))
  if (server?.resources.some((one) => one.resource === resource) === true) return
  return yield* Effect.die(
    new Error(
      `The resource ${resource} is guarded, but is none of the AuthorizationServer; name it among its resources`
    )
  )
})

/**
 * Guards a host's own routes, WebSocket upgrades among them, and provides `CurrentSession` to them. A request that is
 * turned away gets the same typed JSON as on a contract's endpoint.
 *
 * **Details**
 *
 * `resource` makes the routes one of the resources of `AuthorizationServer`, such as an MCP server at `/mcp`. They take the
 * tokens that were granted for it, and no others: neither paired devices nor cookies are let in. A request that is turned away
 * is told where the metadata of the resource is.
 *
 * **Example** (Guarding a route)
 *
 * ```ts
 * import { CurrentSession } from "@sallyport/core"
 * import { Authentication } from "@sallyport/http"
 * import { Layer } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 *
 * export const WhoAmI = HttpRouter.add(
 *   "GET",
 *   "/who-am-i",
 *   CurrentSession.CurrentSession.useSync(({ subject }) => HttpServerResponse.text(subject))
 * ).pipe(Layer.provide(Authentication.guard(null).layer))
 * ```
 *
 * @category middleware
 * @since 0.1.0
 */
export const guard = (
  scope: AccessScope.AccessScope | ReadonlyArray<AccessScope.AccessScope> | null,
  options?: { readonly resource?: `/${string}` | undefined }
) =>
  HttpRouter.middleware<{ provides: CurrentSession }>()(
    Effect.gen(function*() {
      const context = yield* Effect.context<SessionCredentialService | AuthPolicy>()
      yield* checkResource(options?.resource)
      const scopes = scope === null ? [] : typeof scope === "string" ? [scope] : scope
      const session = requireWith(context, scopes, options?.resource)
      const countConnection = yield* EventStream.makeAdmission
      const harden = Edge.harden(Context.get(context, AuthPolicy))
      const sessions = Context.get(context, SessionCredentialService)
      return (httpEffect) =>
        session.pipe(
          // What a host answers may be over at once; a socket stays.
          Effect.tap((session) =>
            Effect.flatMap(
              HttpServerRequest.HttpServerRequest,
              (request) => isUpgrade(request) ? countConnection(session) : Effect.void
            )
          ),
          Effect.matchEffect({
            onFailure: (error) => Effect.succeed(Wire.toResponse(error)),
            onSuccess: (session) =>
              Effect.catchCauseIf(
                // One by one: a merged context is a copy of the whole, and what a fiber keeps of it is derived again.
                httpEffect.pipe(
                  Effect.provideService(CurrentSession, session),
                  // What stays open has to end with the session, whether or not the host has thought of providing this.
                  Effect.provideService(SessionCredentialService, sessions)
                ),
                ClosableUpgrade.isClientClose,
                () => Effect.succeed(HttpServerResponse.empty())
              )
          }),
          Edge.whenStopped(Wire.whenStopped),
          Effect.map(harden)
        )
    })
  )

// -----------------------------------------------------------------------------
// Requests that do not decode
// -----------------------------------------------------------------------------

/** Tells the request's faults from ours: a response that doesn't encode is a defect, and stays a 500. */
const isOfRequest = (error: HttpApiError.HttpApiSchemaError): boolean =>
  error.kind !== "Body" && error.kind !== "ResponseHeaders"

/**
 * Keeps the answer out of every cache, as RFC 6749 section 5.1 asks of credentials, unless it says itself what it wants, and
 * keeps browsers from reading it as anything but what it is. A 503 says when to ask again.
 */
const noStore = HttpEffect.appendPreResponseHandler((_request, response) =>
  Effect.succeed(
    HttpServerResponse.setHeaders(response, {
      "x-content-type-options": "nosniff",
      ...(response.status === 503 ? Wire.retrySoon : {}),
      ...(response.headers["cache-control"] === undefined ? Wire.noStore : {})
    })
  )
)

/**
 * Bounds the body of a request of a session unless the host says otherwise: 256 KiB. The worst of that size, brackets alone,
 * is parsed in a few milliseconds, for which all other requests wait.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxBodySize: ByteSize.ByteSize = ByteSize.kibibytes(256)

/**
 * Bounds the bodies that anyone may send, and those of endpoints that take no more: to read a mebibyte of brackets takes
 * longer than all else that is done for it.
 */
const shortMaxBodySize = ByteSize.kibibytes(64)

/** Bounds the forms among them: many fields take twice as long. */
const formMaxBodySize = ByteSize.kibibytes(32)

/** Checks a request before its endpoint reads it, and answers what the endpoint cannot read. */
const guardRequest = <E, R, E2, E3, E4>(
  httpEffect: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>,
  options: {
    readonly endpoint: HttpApiEndpoint.Top
    readonly maxBodySize: ByteSize.ByteSize
    /** None for a server without sessions of its own. */
    readonly policy: Option.Option<Descriptor>
    readonly onInvalid: (reason: { readonly message: string }) => Effect.Effect<never, E2>
    readonly onUnsupported: (reason: { readonly message: string }) => Effect.Effect<never, E3>
    readonly onDefect: (defect: unknown) => Effect.Effect<never, E4>
    readonly whenStopped: Effect.Effect<HttpServerResponse.HttpServerResponse>
    /** Whether pages of every origin may send the request, and read its answer. */
    readonly isOpen?: boolean | undefined
  }
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E | E2 | E3 | E4 | Forbidden | TooLarge,
  R | HttpServerRequest.HttpServerRequest
> =>
  Effect.gen(function*() {
    yield* noStore
    if (options.isOpen === true) {
      yield* HttpEffect.appendPreResponseHandler((_request, response) => Effect.succeed(Cors.open(response)))
    }
    const request = yield* HttpServerRequest.HttpServerRequest
    // A browser asks the server first if a page of another origin wants to send one of these headers. Without them it
    // just sends the request, which must cost nothing: neither the code that it guesses nor an attempt.
    const asked = request.headers.authorization !== undefined || request.headers.dpop !== undefined
    if (Option.isSome(options.policy) && HttpMethod.hasBody(request.method) && !asked && options.isOpen !== true) {
      yield* checkSender(options.policy.value, { vouched: false })
    }
    const signedIn = Array.from(options.endpoint.middlewares).some(({ key }) => key === Authentication.key)
    const isShort = !signedIn || Context.get(options.endpoint.annotations, ShortRequests)
    const { payload } = options.endpoint
    const mediaType = payload.size > 0 && HttpMethod.hasBody(request.method)
      ? (request.headers["content-type"] ?? "application/json").split(";", 1).join("").trim().toLowerCase()
      : undefined
    const encoding = mediaType === undefined ? undefined : payload.get(mediaType)?.encoding._tag
    const short = encoding === "FormUrlEncoded" ? formMaxBodySize : shortMaxBodySize
    const maxBodySize = isShort ? ByteSize.min(options.maxBodySize, short) : options.maxBodySize
    const maxBytes = ByteSize.toNumberUnsafe(maxBodySize)
    const tooLarge = Wire.bodyTooLarge({ message: `A request may have up to ${maxBytes} bytes` })
    if (Number(request.headers["content-length"] ?? 0) > maxBytes) return yield* tooLarge
    if (mediaType !== undefined && !payload.has(mediaType)) {
      const taken = Array.from(payload.keys()).join(" or ")
      return yield* options.onUnsupported({ message: `The body must have the content type ${taken}` })
    }
    // Other bodies of a host may have as many commas as fit.
    return yield* httpEffect.pipe(
      Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize),
      Effect.provideService(
        HttpServerRequest.HttpServerRequest,
        encoding === "Json" ? boundedRequest(request) : request
      ),
      Effect.catch((error): Effect.Effect<never, E | E2 | E4> => {
        if (!HttpApiError.HttpApiSchemaError.is(error)) return Effect.fail(error)
        return isOfRequest(error)
          ? options.onInvalid({ message: Wire.describeSchemaError(error) })
          : options.onDefect(error)
      }),
      // What goes wrong while a body is read is a defect to the endpoint.
      Effect.catchDefect((defect): Effect.Effect<never, E2 | E4 | TooLarge> => {
        if (!HttpServerError.isHttpServerError(defect) || defect.reason._tag !== "RequestParseError") {
          return options.onDefect(defect)
        }
        if (defect.reason.reason === "BodyTooLarge") {
          return defect.reason.description === undefined
            ? tooLarge
            : Wire.bodyTooLarge({ message: `A request may have less: ${defect.reason.description}` })
        }
        return options.onInvalid({ message: "The body of the request could not be read" })
      })
    )
  }).pipe(Edge.whenStopped(options.whenStopped))

/**
 * Provides the middleware that bounds bodies and answers what does not decode. It names the fields that are wrong, never
 * their values: they may be secrets. No answer is kept by a cache.
 *
 * If there is an `AuthPolicy` in the context, a request that a page of another origin makes a browser send is `Forbidden`
 * before anything comes of it, unless it carries an `Authorization` or `DPoP` header: a browser sends these to another
 * origin only if the server has agreed to it, as with `HttpRouter.cors`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRequestErrors = (options?: {
  readonly maxBodySize?: ByteSize.ByteSize | undefined
}): Layer.Layer<RequestErrors | OAuthRequestErrors> => {
  Input.demand("Authentication.layerRequestErrors", { maxBodySize: Input.any }, options ?? {})
  const maxBodySize = options?.maxBodySize ?? defaultMaxBodySize
  return Layer.effectContext(Effect.gen(function*() {
    const policy = yield* Effect.serviceOption(AuthPolicy)
    const isOpen = Option.isSome(yield* Effect.serviceOption(AuthorizationServer))
    const common = { maxBodySize, policy }
    return Context.make(
      RequestErrors,
      RequestErrors.of((httpEffect, { endpoint }) =>
        guardRequest(httpEffect, {
          ...common,
          endpoint,
          onInvalid: Wire.invalidRequest,
          onUnsupported: Wire.unsupportedMediaType,
          onDefect: Wire.internalError,
          whenStopped: Wire.whenStopped
        })
      )
    ).pipe(Context.add(
      OAuthRequestErrors,
      OAuthRequestErrors.of((httpEffect, { endpoint }) =>
        guardRequest(httpEffect, {
          ...common,
          endpoint,
          onInvalid: Wire.oauthInvalidRequest,
          onUnsupported: Wire.oauthInvalidRequest,
          onDefect: Wire.oauthInternalError,
          isOpen,
          whenStopped: Wire.oauthWhenStopped
        })
      )
    ))
  }))
}
