/**
 * Answers what clients and people ask an authorization server: its metadata (RFC 8414, RFC 9728), the authorization endpoint
 * with its pages (RFC 6749 section 4.1), revocation (RFC 7009) and introspection (RFC 7662). The tokens themselves come from
 * the token endpoint, `POST /oauth/token`.
 */
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { AuthorizationServer, type AuthorizationServerError } from "@sallyport/core/access/AuthorizationServer"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import type { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import type { Session } from "@sallyport/core/access/Session"
import { type SessionCredentialError, SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import { codeGrant, deviceCodeGrant, refreshGrant, tokenExchange } from "@sallyport/contract/SessionGroup"
import type { Forbidden } from "@sallyport/contract/WireError"
import { DeviceAuthorization } from "@sallyport/core/connect/DeviceAuthorization"
import * as ByteSize from "effect/ByteSize"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Address from "./internal/address.ts"
import * as Requests from "./internal/authorizationRequest.ts"
import * as ConsentPage from "./internal/consentPage.ts"
import { currentSession } from "./internal/cookieSession.ts"
import * as Cors from "./internal/cors.ts"
import * as Dpop from "./internal/dpop.ts"
import { checkOrigin } from "./internal/origin.ts"
import { signInBrowser } from "./internal/signIn.ts"
import * as Wire from "./internal/wire.ts"

const notFound = Cors.open(
  HttpServerResponse.jsonUnsafe({ error: "not_found" }, { status: 404, headers: Wire.noStore })
)

/** Answers with a document that anyone may read, if there is one. */
const document = (value: Readonly<Record<string, unknown>> | undefined) =>
  value === undefined ? notFound : Cors.open(HttpServerResponse.jsonUnsafe(value, { headers: Wire.noStore }))

/**
 * Returns what stands behind the well-known name in the current request: the path with its query, and the path, as a query adds
 * nothing to a URL that has none.
 */
const suffixesOf = (wellKnown: string) =>
  Effect.map(Address.target, (target) => {
    const suffix = target.slice(wellKnown.length)
    return [suffix, suffix.replace(/\?.*/s, "")] as const
  })

/**
 * Tells whether an insertion into the well-known address names a URL of this server: by the whole path and query of the URL
 * (RFC 9728 section 3.1), or behind a proxy that takes the path of the public URL away, by the rest of it.
 */
const isInserted = (suffix: string, uri: string, base: string): boolean => {
  const { pathname, search } = new URL(uri)
  return suffix === pathname.replace(/^\/$/, "") + search || (uri.startsWith(base) && suffix === uri.slice(base.length))
}

const serverMetadata = "/.well-known/oauth-authorization-server"
const resourceMetadata = "/.well-known/oauth-protected-resource"

const dpopAlgorithms = Effect.map(
  Dpop.offered,
  (dpop) => Option.isSome(dpop) ? { dpop_signing_alg_values_supported: Dpop.algs.split(" ") } : {}
)

/** Names the scopes that there are. A member without elements is left out (RFC 8414 section 3.2). */
const supported = (scopes: ReadonlyArray<string>) => scopes.length === 0 ? {} : { scopes_supported: scopes }

const answerServerMetadata = Effect.gen(function*() {
  const server = yield* AuthorizationServer
  const base = yield* Address.base
  const issuer = `${base}${server.prefix}`
  const [, suffix] = yield* suffixesOf(serverMetadata)
  if (base === "" || !isInserted(suffix, issuer, base)) return notFound
  const hasDevices = Option.isSome(yield* Effect.serviceOption(DeviceAuthorization))
  const hasIntrospection = server.resources.some(({ introspection }) => introspection !== undefined)
  const scopes = [...new Set([server, ...server.resources].flatMap(({ scopes }) => scopes))]
  return document({
    issuer,
    authorization_endpoint: `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    ...(hasIntrospection
      ? {
        introspection_endpoint: `${issuer}/oauth/introspect`,
        introspection_endpoint_auth_methods_supported: ["client_secret_basic"]
      }
      : {}),
    ...(hasDevices ? { device_authorization_endpoint: `${issuer}/oauth/device_authorization` } : {}),
    ...supported(scopes),
    response_types_supported: ["code"],
    response_modes_supported: ["query"],
    grant_types_supported: [codeGrant, ...(hasDevices ? [deviceCodeGrant] : []), refreshGrant, tokenExchange],
    token_endpoint_auth_methods_supported: ["none"],
    revocation_endpoint_auth_methods_supported: ["none"],
    code_challenge_methods_supported: ["S256"],
    authorization_response_iss_parameter_supported: true,
    ...(server.takesDocuments ? { client_id_metadata_document_supported: true } : {}),
    ...(yield* dpopAlgorithms)
  })
})

const answerResourceMetadata = Effect.gen(function*() {
  const server = yield* AuthorizationServer
  const { name } = yield* AuthPolicy
  const base = yield* Address.base
  if (base === "") return notFound
  const own = Requests.targets(server, base, name).filter(({ uri }) => uri.startsWith(base))
  const [found] = (yield* suffixesOf(resourceMetadata)).flatMap((suffix) =>
    own.filter(({ uri }) => isInserted(suffix, uri, base))
  )
  return document(
    found === undefined ? undefined : {
      resource: found.uri,
      authorization_servers: [`${base}${server.prefix}`],
      ...supported(found.scopes),
      bearer_methods_supported: ["header"],
      ...(yield* dpopAlgorithms),
      resource_name: found.name
    }
  )
})

// -----------------------------------------------------------------------------
// Authorization endpoint
// -----------------------------------------------------------------------------

/** Sends the browser on with an answer. Never with 307: it would send the form along. */
const redirect = (location: string) =>
  HttpServerResponse.redirect(location, { status: 303, headers: { ...Wire.noStore, "referrer-policy": "no-referrer" } })

/** Returns what a form is sealed with: it counts only for the request and the session that it was shown for. */
const sealedText = (request: Requests.AuthorizationRequest, sessionId: string): string =>
  JSON.stringify([
    sessionId,
    request.client.id,
    request.client.name,
    request.redirectUri,
    request.state ?? null,
    request.codeChallenge,
    request.proofKeyThumbprint,
    request.target.key,
    request.scopes
  ])

/** Tells a client that it gets no code: by the browser itself, or on a page with a link to the client. */
const answerRedirected = ({ description, error, isTrusted, redirectUri, state }: Requests.Redirected, iss: string) => {
  const uri = Requests.answerUri(redirectUri, { error, error_description: description, state, iss })
  return isTrusted
    ? Effect.succeed(redirect(uri))
    : ConsentPage.fault(`The program gets this answer: ${description}`, 400, uri)
}

/** Says to a person what is wrong: under which trace id the log has the cause, if it is the server that fails. */
const sentenceOf = (
  { _tag, message, traceId }: { readonly _tag: string; readonly message: string; readonly traceId: string }
): string =>
  _tag === "Unavailable" ? `${message}. The log of the server has the cause under the trace id ${traceId}` : message

/** Answers a request with what `decide` makes of it, or says what is wrong with it. */
const authorize = <R>(
  decide: (request: Requests.AuthorizationRequest, by: {
    readonly issuer: string
    readonly session: Session | undefined
  }) => Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    Requests.NotRedirected | Requests.Redirected | Forbidden | AuthorizationServerError,
    R
  >
) =>
  Effect.gen(function*() {
    const server = yield* AuthorizationServer
    const base = yield* Address.base
    const issuer = `${base}${server.prefix}`
    const target = yield* Address.target
    const query = new URLSearchParams(target.includes("?") ? target.slice(target.indexOf("?")) : "")
    if (base === "") {
      return yield* ConsentPage.fault("This server has another address for its clients than the one you opened", 400)
    }
    const targets = Requests.targets(server, base, (yield* AuthPolicy).name)
    return yield* Effect.gen(function*() {
      const session = yield* currentSession
      const request = yield* Requests.read(server, targets, query, { signedIn: session !== undefined })
      return yield* decide(request, { issuer, session })
    }).pipe(
      Effect.catchReasons("SessionCredentialError", {
        SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
      }, (reason) => Effect.die(reason)),
      Effect.catchReasons("AuthorizationServerError", {
        UnknownClient: ({ message }) => ConsentPage.fault(message, 400),
        ConsentRefused: ({ message }) => ConsentPage.fault(message, 403),
        AuthorizationStoreUnavailable: (reason) => Wire.unavailable(reason)
      }, (reason) => Effect.die(reason)),
      Effect.catchTags({
        Redirected: (error) => answerRedirected(error, issuer),
        NotRedirected: ({ message }) => ConsentPage.fault(message, 400),
        Forbidden: ({ message }) => ConsentPage.fault(message, 403),
        Unavailable: (error) => ConsentPage.fault(sentenceOf(error), 503)
      }),
      Effect.map((response) =>
        response.status === 503 ? HttpServerResponse.setHeaders(response, Wire.retrySoon) : response
      )
    )
  })

/** Shows the page of consent, or of signing in, which a session that may not consent leads to as well. */
const show = authorize(Effect.fnUntraced(function*(request, { session }) {
  if (session === undefined) return yield* ConsentPage.signIn(request, undefined)
  if (!session.scopes.includes("access:write")) {
    return yield* ConsentPage.signIn(
      request,
      "Your session may not let programs in. Sign in with a pairing code that grants access:write"
    )
  }
  const server = yield* AuthorizationServer
  const { lifetime } = yield* SessionCredentialService
  return yield* ConsentPage.consent(request, {
    session,
    lifetime: session.lifetime === null ? lifetime : Duration.min(session.lifetime, lifetime),
    titles: yield* AccessScope.Titles,
    seal: yield* server.sealForm(sealedText(request, session.id))
  })
}))

/** Bounds what a form may have. */
const maxFormSize = ByteSize.kibibytes(16)

const readForm = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ urlParamsBody }) => urlParamsBody).pipe(
  Effect.provideService(HttpIncomingMessage.MaxBodySize, maxFormSize),
  Effect.mapError(() => new Requests.NotRedirected({ message: "The form could not be read" }))
)

const fieldOf = (form: UrlParams.UrlParams, name: string): string =>
  Option.getOrElse(UrlParams.getFirst(form, name), () => "")

const decide = authorize(Effect.fnUntraced(function*(request, { issuer, session }) {
  yield* checkOrigin({ vouched: true })
  const form = yield* readForm
  if (fieldOf(form, "decision") === "sign-in") {
    const signedIn = yield* Effect.result(
      signInBrowser({ credential: Redacted.make(fieldOf(form, "code"), { label: "pairing-code" }) })
    )
    if (Result.isFailure(signedIn)) {
      const page = yield* ConsentPage.signIn(request, sentenceOf(signedIn.failure))
      return HttpServerResponse.setStatus(page, Wire.statusByTag[signedIn.failure._tag])
    }
    // To the same address, however it was spelt.
    const target = yield* Address.target
    return redirect(target.slice(target.indexOf("?")))
  }
  const server = yield* AuthorizationServer
  if (session === undefined || !(yield* server.isSealed(sealedText(request, session.id), fieldOf(form, "seal")))) {
    return yield* new Requests.NotRedirected({
      message: "The form is not the one that you were shown, or your session has changed"
    })
  }
  const { redirectUri, state } = request
  const chosen = UrlParams.getAll(form, "scope")
  const scopes = request.scopes.filter((scope) => chosen.includes(scope))
  if (fieldOf(form, "decision") !== "allow" || scopes.length === 0) {
    return yield* new Requests.Redirected({
      redirectUri,
      isTrusted: Requests.isTrusted(request.client, redirectUri),
      state,
      error: "access_denied",
      description: "the owner said no"
    })
  }
  const code = yield* server.consent({ ...request, resource: request.target.key, scopes, by: session })
  return redirect(Requests.answerUri(redirectUri, { code: Redacted.value(code), state, iss: issuer }))
}))

// -----------------------------------------------------------------------------
// Revocation and introspection
// -----------------------------------------------------------------------------

/** Answers in OAuth's form what is wrong with a request. */
const answerOauth = <E extends Parameters<typeof Wire.oauthToResponse>[0], R>(
  effect: Effect.Effect<HttpServerResponse.HttpServerResponse, E | SessionCredentialError, R>
) =>
  effect.pipe(
    Effect.catchReasons("SessionCredentialError", {
      SessionStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason)),
    Effect.catch((error) => Effect.succeed(Wire.oauthToResponse(error)))
  )

/** Reads the token of a form that names nothing twice. */
const readToken = Effect.gen(function*() {
  const form = yield* Effect.catchTag(readForm, "NotRedirected", Wire.oauthInvalidRequest)
  const repeated = new Set(form.params.map(([name]) => name)).size < form.params.length
  const token = fieldOf(form, "token")
  return repeated || token === ""
    ? yield* Wire.oauthInvalidRequest({ message: "The form needs one token, and nothing twice" })
    : { form, token: Redacted.make(token, { label: "token" }) }
})

const revoke = Effect.gen(function*() {
  const { form, token } = yield* readToken
  const clientId = fieldOf(form, "client_id")
  if (clientId === "") return yield* Wire.oauthInvalidRequest({ message: "A client_id is needed" })
  if (!(yield* (yield* SessionCredentialService).revokeToken(token, clientId))) {
    return yield* Wire.oauthInvalidGrant({
      message: "The token was not granted to this client, and has not been revoked"
    })
  }
  return HttpServerResponse.empty({ status: 200, headers: Wire.noStore })
}).pipe(answerOauth, Effect.map(Cors.open))

/** Returns the resource whose own server sends the current request, by HTTP Basic (RFC 6749 section 2.3.1). */
const callingResource = Effect.gen(function*() {
  const { resources, sealForm } = yield* AuthorizationServer
  const { authorization } = (yield* HttpServerRequest.HttpServerRequest).headers
  const [, encoded] = /^Basic +([A-Za-z0-9+/=]{1,4096})$/i.exec(authorization ?? "") ?? []
  const text = encoded === undefined ? undefined : Result.getOrUndefined(Base64.decodeString(encoded))
  if (text === undefined || !text.includes(":")) return undefined
  const colon = text.indexOf(":")
  const presented = new URLSearchParams(`id=${text.slice(0, colon)}&secret=${text.slice(colon + 1)}`)
  for (const one of resources) {
    if (one.introspection?.id !== presented.get("id")) continue
    // Signed texts are compared, so that the time that it takes tells nothing of the secret.
    const given = yield* sealForm(`introspection:${presented.get("secret") ?? ""}`)
    if (given === (yield* sealForm(`introspection:${Redacted.value(one.introspection.secret)}`))) return one
  }
  return undefined
})

const introspect = Effect.gen(function*() {
  const caller = yield* callingResource
  if (caller === undefined) {
    return yield* Wire.oauthUnauthenticated({ message: "Only the server of a resource is told of its tokens" })
  }
  const { token } = yield* readToken
  const inspected = Option.getOrUndefined(yield* (yield* SessionCredentialService).inspect(token))
  const { prefix } = yield* AuthorizationServer
  const client = inspected?.session.client
  if (inspected === undefined || client?.resource !== caller.resource) {
    return HttpServerResponse.jsonUnsafe({ active: false }, { headers: Wire.noStore })
  }
  const { expiresAt, issuedAt, session } = inspected
  return HttpServerResponse.jsonUnsafe({
    active: true,
    scope: session.scopes.join(" "),
    client_id: client.id,
    sub: session.subject,
    aud: caller.resource,
    iss: `${yield* Address.base}${prefix}`,
    exp: Math.floor(expiresAt.epochMilliseconds / 1000),
    iat: Math.floor(issuedAt.epochMilliseconds / 1000),
    token_type: session.proofKeyThumbprint === null ? "Bearer" : "DPoP",
    ...(session.proofKeyThumbprint === null ? {} : { cnf: { jkt: session.proofKeyThumbprint } })
  }, { headers: Wire.noStore })
}).pipe(answerOauth)

// -----------------------------------------------------------------------------
// Routes
// -----------------------------------------------------------------------------

const notAllowed = Effect.map(
  answerOauth(Wire.oauthInvalidRequest({ message: "The token endpoint takes POST only" })),
  (response) => HttpServerResponse.setHeader(HttpServerResponse.setStatus(response, 405), "allow", "POST")
)

const add = <R>(
  method: "GET" | "POST" | "OPTIONS",
  path: `/${string}`,
  handler: Effect.Effect<HttpServerResponse.HttpServerResponse, never, R>
) =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    const context = yield* Effect.context<Exclude<R, HttpServerRequest.HttpServerRequest>>()
    yield* router.add(method, path, Effect.provideContext(handler, context))
  }))

/**
 * Adds the metadata documents. They stand at the root of a host, wherever the endpoints are mounted.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMetadata: Layer.Layer<never, never, AuthorizationServer | AuthPolicy | HttpRouter.HttpRouter> = Layer
  .mergeAll(
    // Such a route is the one of the path before the slash, too.
    add("GET", `${serverMetadata}/*`, answerServerMetadata),
    add("GET", `${resourceMetadata}/*`, answerResourceMetadata),
    add("OPTIONS", `${serverMetadata}/*`, Cors.preflight),
    add("OPTIONS", `${resourceMetadata}/*`, Cors.preflight)
  )

/**
 * Adds the authorization endpoint, revocation and introspection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  never,
  never,
  | AuthorizationServer
  | AuthPolicy
  | BootstrapCredentialService
  | SecureRandom
  | SessionCredentialService
  | HttpRouter.HttpRouter
> = Layer.mergeAll(
  add("GET", "/oauth/authorize", show),
  add("POST", "/oauth/authorize", decide),
  add("POST", "/oauth/revoke", revoke),
  add("OPTIONS", "/oauth/revoke", Cors.preflight),
  add("POST", "/oauth/introspect", introspect),
  add("GET", "/oauth/token", notAllowed),
  add("OPTIONS", "/oauth/token", Cors.preflight)
)
