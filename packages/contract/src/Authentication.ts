/**
 * Lets an endpoint state who may call it.
 */
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import type { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as OpenApi from "effect/http-api/OpenApi"
import type { HttpMethod } from "effect/http/HttpMethod"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import {
  Forbidden,
  InternalError,
  InvalidRequest,
  OAuthError,
  OAuthInternalError,
  TooLarge,
  Unauthorized,
  Unavailable,
  UnsupportedMediaType
} from "./WireError.ts"

class AuthenticationMiddleware
  extends HttpApiMiddleware.Service<AuthenticationMiddleware, { provides: CurrentSession }>()(
    "@sallyport/contract/Authentication",
    { error: [Unauthorized, Forbidden, Unavailable] }
  )
{}

/**
 * Authenticates a request and provides its session as `CurrentSession`. Layers of this type are made with {@link
 * layerAuthentication}.
 *
 * @category models
 * @since 0.1.0
 */
export type Authentication = AuthenticationMiddleware

/**
 * Names the middleware, for code that inspects endpoints. It cannot be added to an endpoint: only {@link requires} does
 * that, so an endpoint that does not state its scope does not compile.
 *
 * @category middleware
 * @since 0.1.0
 */
export const Authentication: { readonly key: string } = AuthenticationMiddleware

/**
 * Provides the implementation of {@link Authentication}. `@sallyport/http` has it for servers.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAuthentication = <E, R>(
  make: Effect.Effect<(typeof AuthenticationMiddleware)["Service"], E, R>
): Layer.Layer<Authentication, E, Exclude<R, Scope.Scope>> => Layer.effect(AuthenticationMiddleware, make)

/**
 * Bounds the body of a request, and answers a request that does not decode with {@link InvalidRequest}, without echoing
 * its content, and one that a page of another origin makes a browser send with {@link Forbidden}. It keeps every answer
 * out of caches.
 *
 * @category middleware
 * @since 0.1.0
 */
export class RequestErrors extends HttpApiMiddleware.Service<RequestErrors>()("@sallyport/contract/RequestErrors", {
  error: [InvalidRequest, Forbidden, TooLarge, UnsupportedMediaType, InternalError]
}) {}

/**
 * Does what {@link RequestErrors} does for the token endpoint, whose errors have OAuth's own form.
 *
 * @category middleware
 * @since 0.1.0
 */
export class OAuthRequestErrors extends HttpApiMiddleware.Service<OAuthRequestErrors>()(
  "@sallyport/contract/OAuthRequestErrors",
  { error: [OAuthError, Forbidden, TooLarge, OAuthInternalError] }
) {}

/**
 * Annotates an endpoint with the scopes that it requires, all of them. With no scope, any live session is enough.
 *
 * @category services
 * @since 0.1.0
 */
export class RequiredScopes extends Context.Service<RequiredScopes, ReadonlyArray<AccessScope>>()(
  "@sallyport/contract/RequiredScopes"
) {}

/**
 * Annotates an endpoint whose requests are short: a server refuses a body of more than 64 KiB, however much it takes elsewhere.
 *
 * @category services
 * @since 0.1.0
 */
export const ShortRequests: Context.Reference<boolean> = Context.Reference("@sallyport/contract/ShortRequests", {
  defaultValue: () => false
})

/** The ways to authenticate, as an OpenAPI operation names them. Each one is enough. */
const security: OpenApi.OpenAPISpecOperation["security"] = [{ bearer: [] }, { dpop: [] }, { cookie: [] }]

const securitySchemes = {
  bearer: { type: "http", scheme: "bearer", description: "The token that the token endpoint issues" },
  dpop: {
    type: "http",
    scheme: "DPoP",
    description: "A token that is bound to a key, with a proof for the request in the header DPoP (RFC 9449)"
  },
  cookie: {
    type: "apiKey",
    in: "cookie",
    name: "__Host-sallyport_session",
    description: "The cookie of a paired browser. On a loopback address its name is sallyport_session_ and the port"
  }
}

/**
 * Adds the security schemes that {@link requires} names to an OpenAPI document. A host annotates its own API with it:
 * `MyApi.annotate(OpenApi.Transform, describeSecurity)`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const describeSecurity = (document: Record<string, unknown>): Record<string, unknown> => {
  const components = isRecord(document.components) ? document.components : {}
  const others = isRecord(components.securitySchemes) ? components.securitySchemes : {}
  return { ...document, components: { ...components, securitySchemes: { ...others, ...securitySchemes } } }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

/**
 * Requires a session with the given scope on an endpoint, or any live session if the scope is null (logging out needs
 * no scope).
 *
 * **Details**
 *
 * Applied twice, it requires both scopes. A requirement is never removed.
 *
 * **Example** (Guarding a host's own endpoint)
 *
 * ```ts
 * import { requires } from "@sallyport/contract/Authentication"
 * import { Schema } from "effect"
 * import { HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
 *
 * export class Notes extends HttpApiGroup.make("notes").add(
 *   HttpApiEndpoint.get("list", "/notes", { success: Schema.Array(Schema.String) }).pipe(requires("runs:read"))
 * ) {}
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const requires = (scope: AccessScope | null) =>
<
  Identifier extends string,
  Method extends HttpMethod,
  Path extends string,
  Params extends Schema.Top,
  Query extends Schema.Top,
  Payload extends Schema.Top,
  Headers extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Middleware,
  MiddlewareServices
>(
  endpoint: HttpApiEndpoint.HttpApiEndpoint<
    Identifier,
    Method,
    Path,
    Params,
    Query,
    Payload,
    Headers,
    Success,
    Error,
    Middleware,
    MiddlewareServices
  >
) => {
  const before = Option.getOrElse(Context.getOption(endpoint.annotations, RequiredScopes), () => [])
  const override = Option.getOrElse(Context.getOption(endpoint.annotations, OpenApi.Override), () => ({}))
  return endpoint
    .annotate(RequiredScopes, scope === null ? before : [...before, scope])
    .annotate(OpenApi.Override, { ...override, security })
    .middleware(AuthenticationMiddleware)
}
