/**
 * Describes the endpoints with which a device signs in, lists its sessions, and signs out.
 */
import { AccessScope } from "@sallyport/core/access/AccessScope"
import { SessionEnd, SessionId } from "@sallyport/core/access/Session"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import {
  AttemptKey,
  Credential,
  EndedView,
  Label,
  ListedSessionView,
  NextPage,
  PageCursor,
  PairingPreview,
  PolicyView,
  SessionView
} from "./AccessSchemas.ts"
import { OAuthRequestErrors, RequestErrors, requires, ShortRequests } from "./Authentication.ts"
import {
  Conflict,
  Forbidden,
  InvalidRequest,
  NotFound,
  OAuthError,
  OAuthInvalidClient,
  OAuthTooManyRequests,
  OAuthUnavailable,
  TooManyRequests,
  Unauthorized,
  Unavailable
} from "./WireError.ts"

/**
 * Names the `grant_type` of the token endpoint (RFC 8693 section 2.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
/**
 * Names the `grant_type` that exchanges a refresh token (RFC 6749 section 6).
 *
 * @category constants
 * @since 0.1.0
 */
export const refreshGrant = "refresh_token"
/**
 * Names the `grant_type` that exchanges a device code (RFC 8628 section 3.4).
 *
 * @category constants
 * @since 0.1.0
 */
export const deviceCodeGrant = "urn:ietf:params:oauth:grant-type:device_code"
/**
 * Names the `grant_type` that exchanges an authorization code (RFC 6749 section 4.1.3).
 *
 * @category constants
 * @since 0.1.0
 */
export const codeGrant = "authorization_code"
/**
 * Names the `subject_token_type` of a pairing code or seeded credential.
 *
 * @category constants
 * @since 0.1.0
 */
export const bootstrapTokenType = "urn:sallyport:token-type:bootstrap-credential"
/**
 * Names the `subject_token_type` of an ID token of OpenID Connect (RFC 8693 section 3).
 *
 * @category constants
 * @since 0.1.0
 */
export const idTokenType = "urn:ietf:params:oauth:token-type:id_token"
/**
 * Names the `subject_token_type` of an identity that a proxy before the server sends in a header; the `subject_token` is the
 * name of the header.
 *
 * @category constants
 * @since 0.1.0
 */
export const proxyHeaderType = "urn:sallyport:token-type:proxy-header"
/**
 * Names the `issued_token_type` of the tokens that the token endpoint issues (RFC 8693 section 3).
 *
 * @category constants
 * @since 0.1.0
 */
export const accessTokenType = "urn:ietf:params:oauth:token-type:access_token" as const

/**
 * Names the `requested_token_type` of a token for a machine (RFC 8693 section 2.1): one of the form of
 * `@sallyport/core/access/MachineToken`, unless the server refreshes its tokens.
 *
 * @category constants
 * @since 0.1.0
 */
export const machineTokenType = "urn:sallyport:token-type:machine-token"

/**
 * Answers whether the caller is signed in, and which ways to sign in there are.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionState = Schema.Union([
  Schema.Struct({ authenticated: Schema.Literal(true), policy: PolicyView, session: SessionView }),
  Schema.Struct({
    authenticated: Schema.Literal(false),
    policy: PolicyView,
    /** How the session of the caller's cookie has ended, if it was a session, for a day after its end. */
    ended: Schema.optionalKey(SessionEnd)
  })
])

/**
 * Answers a token exchange (RFC 8693 section 2.2.1), or a refresh (RFC 6749 section 6).
 *
 * @category models
 * @since 0.1.0
 */
export const TokenResponse = Schema.Struct({
  access_token: Schema.RedactedFromValue(Schema.String, { label: "session-token" }),
  issued_token_type: Schema.Literal(accessTokenType),
  /** `DPoP` if the request came with a proof: the token is bound to the key of the proof (RFC 9449 section 5). */
  token_type: Schema.Literals(["Bearer", "DPoP"]),
  /**
   * Seconds until the token ends. Without a refresh token that is the end of the session, and use of the token extends
   * it.
   */
  expires_in: Schema.Natural,
  /** The single-use token that is exchanged for the next tokens, if the server uses refresh tokens. */
  refresh_token: Schema.optionalKey(Schema.RedactedFromValue(Schema.String, { label: "refresh-token" })),
  /** The granted scopes, separated by spaces. */
  scope: Schema.String
})

/**
 * Answers a device that asks to be let in (RFC 8628 section 3.2).
 *
 * @category models
 * @since 0.1.0
 */
export const DeviceAuthorizationResponse = Schema.Struct({
  device_code: Schema.RedactedFromValue(Schema.String, { label: "device-code" }),
  /** What the device shows. */
  user_code: Schema.String,
  /** Where its owner enters that. */
  verification_uri: Schema.String,
  verification_uri_complete: Schema.String,
  /** Seconds until both codes end. */
  expires_in: Schema.Natural,
  /** Seconds to wait between two polls. */
  interval: Schema.Natural
})

/**
 * Groups the endpoints of sessions. A session lists and ends those of its own subject, or with the scope `access:manage`
 * everyone's.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class SessionGroup extends HttpApiGroup.make("session").add(
  HttpApiEndpoint.get("state", "/api/auth/session", {
    success: SessionState,
    error: [Unauthorized, Forbidden, Unavailable]
  }),
  HttpApiEndpoint.post("bootstrap", "/api/auth/bootstrap", {
    payload: Schema.Struct({
      credential: Credential,
      label: Schema.optionalKey(Label),
      attemptKey: Schema.optionalKey(AttemptKey)
    }),
    success: Schema.Struct({ session: SessionView }),
    error: [InvalidRequest, Unauthorized, Forbidden, TooManyRequests, Unavailable]
  }),
  // A post, so that the code stands in no address; it changes nothing.
  HttpApiEndpoint.post("preview", "/api/auth/bootstrap/preview", {
    payload: Schema.Struct({ credential: Credential }),
    success: PairingPreview,
    error: [InvalidRequest, Unauthorized, TooManyRequests, Unavailable]
  }),
  HttpApiEndpoint.post("ticket", "/api/auth/websocket-ticket", {
    success: Schema.Struct({
      ticket: Schema.RedactedFromValue(Schema.String, { label: "session-ticket" })
    }),
    error: Unavailable
  }).pipe(requires(null)),
  HttpApiEndpoint.post("logout", "/api/auth/logout", {
    success: HttpApiSchema.NoContent,
    error: Unavailable
  }).pipe(requires(null)),
  HttpApiEndpoint.get("list", "/api/auth/sessions", {
    query: { after: Schema.optionalKey(PageCursor) },
    success: Schema.Struct({ sessions: Schema.Array(ListedSessionView), next: NextPage }),
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("access:read")),
  HttpApiEndpoint.patch("rename", "/api/auth/sessions/:id", {
    params: { id: SessionId.check(Schema.isMaxLength(64)) },
    payload: Schema.Struct({ label: Label }),
    success: SessionView,
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires("access:write")),
  // Any session may ask. What it asks for stands in the list and in the feed until it is answered.
  HttpApiEndpoint.post("requestScopes", "/api/auth/session/scopes", {
    payload: Schema.Struct({ scopes: Schema.Array(AccessScope).check(Schema.isMinLength(1), Schema.isMaxLength(256)) }),
    success: SessionView,
    error: [InvalidRequest, Unauthorized, TooManyRequests, Unavailable]
  }).pipe(requires(null)),
  HttpApiEndpoint.post("answerScopes", "/api/auth/sessions/:id/scopes", {
    params: { id: SessionId.check(Schema.isMaxLength(64)) },
    payload: Schema.Struct({
      /** That of the request that was looked at. A session that has asked again since then is not changed. */
      requestedAt: Schema.DateTimeUtcFromString,
      /** What is granted: what the session asks for, or less. None turns it away. */
      scopes: Schema.Array(AccessScope).check(Schema.isMaxLength(256))
    }),
    success: SessionView,
    error: [InvalidRequest, Unauthorized, Forbidden, NotFound, Conflict, Unavailable]
  }).pipe(requires("access:write")),
  HttpApiEndpoint.post("revoke", "/api/auth/sessions/revoke", {
    payload: Schema.Struct({
      id: SessionId.check(Schema.isMaxLength(64)),
      /** Whether to end all that descends from the session as well. Its own open links end in any case. */
      descendants: Schema.optionalKey(Schema.Boolean)
    }),
    success: EndedView,
    error: [NotFound, Conflict, Unavailable]
  }).pipe(requires("access:write")),
  HttpApiEndpoint.post("revokeOthers", "/api/auth/sessions/revoke-others", {
    success: EndedView,
    error: Unavailable
  }).pipe(requires("access:write")),
  HttpApiEndpoint.post("revokeIssuedBefore", "/api/auth/sessions/revoke-issued-before", {
    // Everyone's sessions and links. If it is older, the session that asks ends with them.
    payload: Schema.Struct({ time: Schema.DateTimeUtcFromString }),
    success: EndedView,
    error: [InvalidRequest, Unavailable]
  }).pipe(requires("access:manage"))
).middleware(RequestErrors).add(
  HttpApiEndpoint.post("token", "/oauth/token", {
    // Every parameter is optional here, so that the handler can name the missing one, with its error code.
    payload: Schema.Struct({
      grant_type: Schema.optionalKey(Schema.String),
      subject_token: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
      subject_token_type: Schema.optionalKey(Schema.String),
      requested_token_type: Schema.optionalKey(Schema.String),
      /** For whom a token is wanted: this server alone. None acts for another. */
      audience: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
      actor_token: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
      actor_token_type: Schema.optionalKey(Schema.String),
      refresh_token: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
      attempt_key: Schema.optionalKey(AttemptKey),
      /** Those of the grants of clients and devices, which a server takes if its host says so. */
      client_id: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(2048))),
      device_code: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
      /** For how many seconds, at most 25, the server may wait for the decision about a device before it answers. */
      wait_seconds: Schema.optionalKey(Schema.String),
      code: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
      code_verifier: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
      redirect_uri: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(2048))),
      resource: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
      scope: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(4096)))
    }).pipe(HttpApiSchema.asFormUrlEncoded()),
    success: TokenResponse,
    error: [OAuthError, OAuthInvalidClient, OAuthTooManyRequests, OAuthUnavailable]
  }).middleware(OAuthRequestErrors),
  HttpApiEndpoint.post("deviceAuthorization", "/oauth/device_authorization", {
    payload: Schema.Struct({
      client_id: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(2048))),
      resource: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
      scope: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(4096)))
    }).pipe(HttpApiSchema.asFormUrlEncoded()),
    success: DeviceAuthorizationResponse,
    error: [OAuthError, OAuthTooManyRequests, OAuthUnavailable]
  }).middleware(OAuthRequestErrors)
).annotateEndpoints(ShortRequests, true) {}
