/**
 * Answers the endpoints of sessions: signing in with a cookie, or for a bearer token or one that is bound to a key, the
 * list, and signing out.
 */
import {
  EndedView,
  listedSessionView,
  PairingPreview,
  PolicyView,
  sessionView
} from "@sallyport/contract/AccessSchemas"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import {
  accessTokenType,
  bootstrapTokenType,
  codeGrant,
  deviceCodeGrant,
  machineTokenType,
  proxyHeaderType,
  refreshGrant,
  tokenExchange
} from "@sallyport/contract/SessionGroup"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { AuthorizationServer } from "@sallyport/core/access/AuthorizationServer"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import type { InvalidProof, NonceRequired, ReplayStoreUnavailable } from "@sallyport/core/access/DpopProof"
import { reachOf } from "@sallyport/core/access/Principal"
import { issuerPrefix, SessionId, type SessionMethod } from "@sallyport/core/access/Session"
import {
  type IssuedSession,
  type SessionCredentialError,
  SessionCredentialService
} from "@sallyport/core/access/SessionCredentialService"
import { Account } from "@sallyport/core/access/ConnectClient"
import type { PresentingClient } from "@sallyport/core/access/SessionCredentialRepository"
import { DeviceAuthorization } from "@sallyport/core/connect/DeviceAuthorization"
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
import { authenticate } from "./Authentication.ts"
import { IdentityProviders, IdentityRefused } from "./IdentityProviders.ts"
import * as Dpop from "./internal/dpop.ts"
import * as Address from "./internal/address.ts"
import * as Requests from "./internal/authorizationRequest.ts"
import { checkOrigin } from "./internal/origin.ts"
import { codeRefusals, offersMethod, signIn, signInBrowser } from "./internal/signIn.ts"
import * as Wire from "./internal/wire.ts"
import * as SessionCookie from "./SessionCookie.ts"

const policyView = Effect.gen(function*() {
  const { bootstrapMethods, kind, name, sessionMethods } = yield* AuthPolicy
  const dpop = yield* Dpop.offered
  const titles = Object.entries(yield* AccessScope.Titles)
  const providers = Option.getOrUndefined(yield* Effect.serviceOption(IdentityProviders))
  return new PolicyView({
    kind,
    name: name ?? null,
    bootstrapMethods,
    sessionMethods: Option.isSome(dpop)
      ? sessionMethods
      : sessionMethods.filter((method) => method !== "dpop-access-token"),
    identities: providers?.identities ?? [],
    scopes: yield* AccessScope.Vocabulary,
    scopeTitles: Object.fromEntries(titles.filter(([scope, title]) => AccessScope.titles[scope] !== title))
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
  scopes: ReadonlyArray<AccessScope.AccessScope> | undefined,
  client: PresentingClient | undefined
) {
  if (!given(refreshToken)) return yield* Wire.oauthInvalidRequest({ message: "A refresh_token is needed" })
  const sessions = yield* SessionCredentialService
  const proof = yield* proofOfKey
  const refreshed = yield* sessions.refresh(refreshToken, { proof, scopes, client }).pipe(
    Effect.catchReasons("DpopProofError", proofRefusals, (reason) => Effect.die(reason)),
    Effect.catchReasons("SessionCredentialError", {
      RefreshRefused: Effect.fnUntraced(function*(reason) {
        yield* Effect.logInfo("Refused a refresh token").pipe(Effect.annotateLogs({ problem: reason.problem }))
        return yield* reason.problem === "scope-not-held"
          ? Wire.oauthInvalidScope(reason)
          : reason.problem === "resource-mismatch"
          ? Wire.oauthInvalidTarget(reason)
          : Wire.oauthInvalidGrant(reason)
      }),
      SessionStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason))
  )
  // The scopes are the session's; to ask for fewer changes nothing, and the answer says so. It never has more.
  return yield* tokenResponse(refreshed)
})

/** The parameters that the grants of clients have in common. */
interface ClientParameters {
  readonly client_id?: string
  readonly resource?: string | ReadonlyArray<string>
}

/** Returns the resource that a request for a token names, as a session is granted for it; undefined if it names none. */
const namedResource = Effect.fnUntraced(function*(
  server: AuthorizationServer["Service"],
  { resource = [] }: ClientParameters
) {
  const named = (Array.isArray(resource) ? resource : [resource]).filter((uri) => uri !== "")
  if (named.length === 0) return undefined
  const target = Requests.targetOf(Requests.targets(server, yield* Address.base, undefined), named)
  return target === undefined
    ? yield* Wire.oauthInvalidTarget({ message: "The resource is none that this server has tokens for" })
    : target.key
})

/** Exchanges an authorization code (RFC 6749 section 4.1.3). */
const exchangeCode = Effect.fnUntraced(function*(
  server: AuthorizationServer["Service"],
  payload: ClientParameters & {
    readonly code?: Redacted.Redacted
    readonly code_verifier?: Redacted.Redacted
    readonly redirect_uri?: string
  }
) {
  const request = yield* HttpServerRequest.HttpServerRequest
  if (request.headers.authorization !== undefined) {
    return yield* Wire.oauthUnauthenticated({
      message: "Clients of this server have nothing to authenticate with; send the client_id alone"
    })
  }
  const { client_id: clientId, code, code_verifier: verifier, redirect_uri: redirectUri } = payload
  if (!clientId || !redirectUri || !given(code) || !given(verifier)) {
    return yield* Wire.oauthInvalidRequest({ message: "A client_id, code, code_verifier and redirect_uri are needed" })
  }
  if (!server.isClientId(clientId)) return yield* Wire.oauthInvalidClient({ message: "There is no such client" })
  const proof = yield* proofOfKey
  yield* offersMethod(proof === undefined ? "bearer-access-token" : "dpop-access-token", Wire.oauthInvalidRequest)
  const issued = yield* server.exchange({
    code,
    clientId,
    redirectUri,
    verifier,
    resource: yield* namedResource(server, payload),
    proof,
    device: {
      userAgent: Text.fromHeader(request.headers["user-agent"]),
      address: Option.getOrNull(request.remoteAddress)
    }
  }).pipe(
    Effect.catchReasons("DpopProofError", proofRefusals, (reason) => Effect.die(reason)),
    Effect.catchReasons("AuthorizationServerError", {
      CodeRefused: (reason) =>
        reason.problem === "resource-mismatch" ? Wire.oauthInvalidTarget(reason) : Wire.oauthInvalidGrant(reason),
      AuthorizationStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason))
  )
  return yield* tokenResponse(issued)
})

/** Reads a parameter `scope`, or fails with a 400. */
const readScopes = (scope: string | undefined) =>
  Option.match(Requests.readScopes(scope), {
    onNone: () => Wire.oauthInvalidScope({ message: "A scope has the form resource:action, such as runs:read" }),
    onSome: (scopes) => Effect.succeed(scopes)
  })

/** The thumbprint of the key that a request proves, for which the proof is spent; none if no proof came with it. */
const provenKey = Effect.gen(function*() {
  const proof = yield* proofOfKey
  if (proof === undefined) return undefined
  const { proofKeyThumbprint, spend } = yield* proof
  yield* spend
  return proofKeyThumbprint
})

const isAccount = Schema.is(Account)

/**
 * Returns the service that lets devices in, for a request that names its client. A token for a device is one for the API: a
 * request that names another resource is refused (RFC 8707 section 2), rather than answered with a token that is not for it.
 */
const deviceFlow = Effect.fnUntraced(function*(parameters: ClientParameters) {
  const { client_id: clientId } = parameters
  const devices = yield* Effect.serviceOption(DeviceAuthorization)
  if (Option.isNone(devices)) {
    return yield* Wire.oauthUnsupportedGrantType({ message: "This server lets no device in by the device grant" })
  }
  if (!isAccount(clientId)) return yield* Wire.oauthInvalidRequest({ message: "A client_id is needed" })
  const server = yield* Effect.serviceOption(AuthorizationServer)
  if (Option.isSome(server) && typeof (yield* namedResource(server.value, parameters)) === "string") {
    return yield* Wire.oauthInvalidTarget({ message: "Devices get tokens for the API alone; leave resource out" })
  }
  return { clientId, devices: devices.value }
})

/** For how many seconds a poll may wait, at most. */
const maxWaitSeconds = 25

/** Exchanges the code of a device whose owner has approved it. */
const exchangeDevice = Effect.fnUntraced(function*(
  payload: ClientParameters & { readonly device_code?: Redacted.Redacted; readonly wait_seconds?: string }
) {
  const { clientId, devices } = yield* deviceFlow(payload)
  const deviceCode = payload.device_code
  if (!given(deviceCode)) return yield* Wire.oauthInvalidRequest({ message: "A device_code is needed" })
  const seconds = Number(payload.wait_seconds ?? 0)
  if (!(seconds >= 0 && seconds <= maxWaitSeconds)) {
    return yield* Wire.oauthInvalidRequest({ message: `wait_seconds must be from 0 to ${maxWaitSeconds}` })
  }
  const status = yield* devices.poll({
    clientId,
    deviceCode,
    wait: seconds === 0 ? undefined : Duration.seconds(seconds)
  }).pipe(
    Effect.catchReasons("ConnectClientError", {
      ConnectStoreUnavailable: (reason) => Wire.oauthUnavailable(reason),
      TooManyWaiting: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason))
  )
  switch (status) {
    case "pending":
      return yield* Wire.oauthAuthorizationPending({ message: "The owner has not decided yet" })
    case "slow-down":
      return yield* Wire.oauthSlowDown({ message: "Too early; wait 5 seconds longer before each poll from now on" })
    case "denied":
      return yield* Wire.oauthAccessDenied({ message: "The owner has turned this device away" })
    case "expired":
      return yield* Wire.oauthExpiredToken({ message: "The device code has expired; ask for a new one" })
    case "unknown":
      return yield* Wire.oauthInvalidGrant({ message: "This device code is not valid for this client" })
    case "approved": {
      const proof = yield* proofOfKey
      const method = proof === undefined ? "bearer-access-token" : "dpop-access-token"
      yield* offersMethod(method, Wire.oauthInvalidRequest)
      const client = { id: clientId, resource: null }
      const issued = yield* signIn({ credential: deviceCode, method, proof, client, isDevice: true }).pipe(
        Effect.catchReasons("DpopProofError", proofRefusals, (reason) => Effect.die(reason)),
        Effect.catchReasons("BootstrapCredentialError", {
          MalformedCode: (reason) => Wire.oauthInvalidGrant(reason),
          InvalidCredential: (reason) =>
            reason.ended === "expired"
              ? Wire.oauthExpiredToken(reason)
              : reason.ended === "revoked"
              ? Wire.oauthAccessDenied(reason)
              : Wire.oauthInvalidGrant(reason),
          TooManyAttempts: (reason) => Wire.oauthRateLimited(reason),
          BootstrapStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
        }, (reason) => Effect.die(reason))
      )
      return yield* tokenResponse(issued)
    }
  }
})

/** Fails unless a token is wanted for this server, and for whom the subject token names (RFC 8693 sections 2.1 and 2.2.2). */
const checkTarget = Effect.fnUntraced(function*(
  payload: ClientParameters & {
    readonly audience?: string | ReadonlyArray<string>
    readonly actor_token?: Redacted.Redacted
    readonly actor_token_type?: string
  }
) {
  if (given(payload.actor_token) || payload.actor_token_type) {
    return yield* Wire.oauthInvalidRequest({ message: "No one acts for another here; leave the actor_token out" })
  }
  const named = [payload.resource ?? [], payload.audience ?? []].flat().filter((uri) => uri !== "")
  // Under a prefix, if the server is mounted there.
  const api = `${yield* Address.base}${(yield* Address.target).replace(/\?.*/s, "").replace(/\/oauth\/token\/?$/, "")}`
  if (named.some((uri) => uri !== api && uri !== `${api}/`)) {
    return yield* Wire.oauthInvalidTarget({ message: "Identities are exchanged for tokens of this server's API only" })
  }
})

/** Exchanges an identity that others have checked. */
const exchangeIdentity = Effect.fnUntraced(function*(
  providers: IdentityProviders["Service"],
  { machine, method, proof, scopes, token, tokenType }: {
    readonly tokenType: string
    readonly token: Redacted.Redacted
    readonly machine: boolean
    readonly method: SessionMethod
    readonly scopes: ReadonlyArray<AccessScope.AccessScope> | undefined
    readonly proof: Effect.Success<typeof proofOfKey>
  }
) {
  const request = yield* HttpServerRequest.HttpServerRequest
  const sessions = yield* SessionCredentialService
  return yield* Effect.gen(function*() {
    const { issuer, spend, ...admitted } = yield* providers.identify(tokenType, token)
    const missing = AccessScope.missing(admitted.scopes, scopes ?? [])
    if (missing.length > 0) {
      return yield* Wire.oauthInvalidScope({ message: `This identity may not have ${missing.join(", ")}` })
    }
    const proven = proof === undefined ? undefined : yield* proof
    // Last, when all else is right: both are good once.
    if (proven !== undefined) yield* proven.spend
    yield* spend
    return yield* sessions.issue({
      ...admitted,
      scopes: [...new Set(scopes ?? admitted.scopes)],
      method,
      machine,
      proofKeyThumbprint: proven?.proofKeyThumbprint,
      device: {
        userAgent: Text.fromHeader(request.headers["user-agent"]),
        address: Option.getOrNull(request.remoteAddress)
      },
      actor: `${issuerPrefix}${issuer}`
    })
  }).pipe(
    Effect.catchReasons("DpopProofError", proofRefusals, (reason) => Effect.die(reason)),
    Effect.catchReasons("IdentityProvidersError", {
      IdentityRefused: (reason) => Wire.oauthInvalidRequest(reason),
      IdentityNotAdmitted: (reason) => Wire.oauthInvalidRequest(reason),
      IdentityUnavailable: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason)),
    Effect.catchReasons("SessionCredentialError", {
      // A subject may be made of a claim; all else is the host's own.
      InvalidInput: (reason) =>
        reason.field === "subject"
          ? Wire.oauthInvalidRequest(new IdentityRefused({ problem: "unfit" }))
          : Effect.die(reason),
      SessionStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
    }, (reason) => Effect.die(reason))
  )
})

/** Answers 503 if the store does not answer, which is all that these endpoints can fail with. */
const onlyUnavailable = <A, R>(effect: Effect.Effect<A, SessionCredentialError, R>) =>
  Effect.catchReasons(effect, "SessionCredentialError", {
    SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
  }, (reason) => Effect.die(reason))

/** Tells a browser how the session of its cookie has ended. */
const endOfCookie = Effect.gen(function*() {
  const { secureCookies } = yield* AuthPolicy
  const sessions = yield* SessionCredentialService
  for (const token of SessionCookie.read(yield* HttpServerRequest.HttpServerRequest, secureCookies)) {
    const ended = yield* onlyUnavailable(sessions.findEnd(token))
    if (Option.isSome(ended)) return { ended: ended.value }
  }
  return {}
})

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
          ? { authenticated: false as const, policy, ...(yield* endOfCookie) }
          : { authenticated: true as const, policy, session: sessionView(session.value, session.value.id) }
      }, provideServices),
      bootstrap: Effect.fn(function*({ payload }) {
        yield* checkOrigin({ vouched: false })
        const session = yield* signInBrowser(payload)
        return { session: sessionView(session, session.id) }
      }, provideServices),
      preview: Effect.fn(function*({ payload }) {
        const bootstrap = yield* BootstrapCredentialService
        const { expiresAt, label, lifetime, scopes, sessionEndsAt, subject } = yield* bootstrap.preview({
          credential: payload.credential,
          source: Option.getOrUndefined((yield* HttpServerRequest.HttpServerRequest).remoteAddress),
          methods: (yield* AuthPolicy).bootstrapMethods
        }).pipe(
          Effect.catchReasons("BootstrapCredentialError", codeRefusals, (reason) => Effect.die(reason))
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
        if (payload.grant_type === deviceCodeGrant) return yield* exchangeDevice(payload)
        const server = Option.getOrUndefined(yield* Effect.serviceOption(AuthorizationServer))
        if (payload.grant_type === codeGrant && server !== undefined) return yield* exchangeCode(server, payload)
        if (payload.grant_type !== tokenExchange && payload.grant_type !== refreshGrant) {
          const code = server === undefined ? "" : `${codeGrant}, `
          const grants = `${code}${tokenExchange}, ${deviceCodeGrant} or ${refreshGrant}`
          return yield* payload.grant_type === undefined || payload.grant_type === ""
            ? Wire.oauthInvalidRequest({ message: `A grant_type is needed: ${grants}` })
            : Wire.oauthUnsupportedGrantType({ message: `The grant_type must be ${grants}` })
        }
        const scopes = yield* readScopes(payload.scope)
        if (payload.grant_type === refreshGrant) {
          const client = payload.client_id === undefined ? undefined : {
            id: payload.client_id,
            resource: server === undefined ? undefined : yield* namedResource(server, payload)
          }
          return yield* refresh(payload.refresh_token, scopes, client)
        }
        const providers = Option.getOrUndefined(yield* Effect.serviceOption(IdentityProviders))
        const tokenType = payload.subject_token_type ?? ""
        const tokenTypes = new Set(providers?.identities.map(({ tokenType }) => tokenType))
        const isIdentity = tokenTypes.has(tokenType)
        // Pages of other origins may exchange what only they hold. The guess of a code, and whom a proxy knows by the address
        // or the cookie of the browser, are left to our own.
        const { authorization, dpop } = (yield* HttpServerRequest.HttpServerRequest).headers
        const isGuess = server !== undefined && authorization === undefined && dpop === undefined && !isIdentity
        if (isGuess || tokenType === proxyHeaderType) {
          yield* Effect.catchTag(checkOrigin({ vouched: false }), "Forbidden", Wire.oauthInvalidRequest)
        }
        if (!given(payload.subject_token) || (tokenType !== bootstrapTokenType && !isIdentity)) {
          const types = [bootstrapTokenType, ...tokenTypes]
          return yield* Wire.oauthInvalidRequest({
            message: `A subject_token is needed, with the subject_token_type ${types.join(" or ")}`
          })
        }
        const requested = payload.requested_token_type || accessTokenType
        if (requested !== accessTokenType && requested !== machineTokenType) {
          return yield* Wire.oauthInvalidRequest({
            message: `The requested_token_type must be ${accessTokenType} or ${machineTokenType}`
          })
        }
        const proof = yield* proofOfKey
        const method = proof === undefined ? "bearer-access-token" : "dpop-access-token"
        yield* offersMethod(method, Wire.oauthInvalidRequest)
        const wanted = { machine: requested === machineTokenType, scopes, method, proof } as const
        if (providers !== undefined && isIdentity) {
          yield* checkTarget(payload)
          return yield* tokenResponse(
            yield* exchangeIdentity(providers, { ...wanted, tokenType, token: payload.subject_token })
          )
        }
        const issued = yield* signIn({
          ...wanted,
          credential: payload.subject_token,
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
      deviceAuthorization: Effect.fn(function*({ payload }) {
        const { clientId, devices } = yield* deviceFlow(payload)
        const request = yield* HttpServerRequest.HttpServerRequest
        const base = yield* Address.base
        if (base === "") {
          return yield* Wire.oauthInvalidRequest({
            message: "A server without a public URL takes requests on loopback only"
          })
        }
        const scopes = yield* readScopes(payload.scope)
        const userAgent = Text.fromHeader(request.headers["user-agent"])
        const given = yield* devices.request({
          clientId,
          scopes,
          label: Text.toLine(userAgent ?? "", 128) ?? undefined,
          proofKeyThumbprint: yield* Effect.catchReasons(
            provenKey,
            "DpopProofError",
            proofRefusals,
            (reason) => Effect.die(reason)
          ),
          source: Option.getOrUndefined(request.remoteAddress)
        }).pipe(
          Effect.catchReasons("ConnectClientError", {
            ScopeNotGrantable: (reason) => Wire.oauthInvalidScope(reason),
            RequestRefused: (reason) => Wire.oauthAccessDenied(reason),
            InvalidInput: (reason) => Wire.oauthInvalidRequest(reason),
            TooManyCodes: (reason) => Wire.oauthRateLimited(reason),
            SecurityModeUnreadable: (reason) => Wire.oauthUnavailable(reason),
            ConnectStoreUnavailable: (reason) => Wire.oauthUnavailable(reason)
          }, (reason) => Effect.die(reason))
        )
        // Under a prefix, if the server is mounted there.
        const path = (yield* Address.target).replace(/\?.*/s, "")
        const page = base + path.replace(/\/oauth\/device_authorization\/?$/, "/device")
        return {
          device_code: given.deviceCode,
          user_code: given.userCode,
          verification_uri: page,
          verification_uri_complete: `${page}?user_code=${given.userCode}`,
          expires_in: Math.floor(Duration.toSeconds(given.expiresIn)),
          interval: Math.max(1, Math.ceil(Duration.toSeconds(given.interval)))
        }
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
            sessions: listed.map((one) => listedSessionView(one, current.id)),
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
          return sessionView(yield* sessions.rename(params.id, payload.label, current), current.id)
        },
        Effect.catchReasons("SessionCredentialError", {
          SessionNotFound: (reason) => Wire.sessionNotFound(reason),
          LabelNotAllowed: (reason) => Wire.invalidRequest(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      requestScopes: Effect.fn(
        function*({ payload }) {
          const current = yield* CurrentSession
          return sessionView(yield* sessions.requestScopes(current, payload.scopes), current.id)
        },
        Effect.catchReasons("SessionCredentialError", {
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          SessionRefused: (reason) => Wire.unauthorized(reason),
          TooManyScopeRequests: (reason) => Wire.rateLimited(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      answerScopes: Effect.fn(
        function*({ params, payload }) {
          const current = yield* CurrentSession
          return sessionView(yield* sessions.answerScopes({ ...params, ...payload }, current), current.id)
        },
        Effect.catchReasons("SessionCredentialError", {
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          ScopeNotHeld: (reason) => Wire.scopeNotHeld(reason),
          ScopeRequestChanged: (reason) => Wire.scopeRequestChanged(reason),
          SessionNotFound: (reason) => Wire.sessionNotFound(reason),
          SessionRefused: (reason) => Wire.unauthorized(reason),
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
