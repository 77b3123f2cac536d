/**
 * How an endpoint says who may call it.
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
  InvalidRequest,
  OAuthError,
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
 * Lets a request in with the session that it proves, and provides that session as `CurrentSession`. Layers of this type are
 * made with {@link layerAuthentication}.
 *
 * @category models
 * @since 0.1.0
 */
export type Authentication = AuthenticationMiddleware

/**
 * Stands for {@link Authentication} where endpoints are looked at. It can't be put on one: {@link requires} does that, so that
 * an endpoint that doesn't say which scope it asks for does not compile.
 *
 * @category middleware
 * @since 0.1.0
 */
export const Authentication: { readonly key: string } = AuthenticationMiddleware

/**
 * Provides what {@link Authentication} does. Servers have it from `@sallyport/http`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAuthentication = <E, R>(
  make: Effect.Effect<(typeof AuthenticationMiddleware)["Service"], E, R>
): Layer.Layer<Authentication, E, Exclude<R, Scope.Scope>> => Layer.effect(AuthenticationMiddleware, make)

/**
 * Bounds the body of a request, and answers one that does not decode with {@link InvalidRequest}, without echoing what
 * was sent. Keeps every answer out of caches.
 *
 * @category middleware
 * @since 0.1.0
 */
export class RequestErrors extends HttpApiMiddleware.Service<RequestErrors>()("@sallyport/contract/RequestErrors", {
  error: [InvalidRequest, TooLarge, UnsupportedMediaType]
}) {}

/**
 * Does what {@link RequestErrors} does for the token endpoint, whose errors have OAuth's own form.
 *
 * @category middleware
 * @since 0.1.0
 */
export class OAuthRequestErrors extends HttpApiMiddleware.Service<OAuthRequestErrors>()(
  "@sallyport/contract/OAuthRequestErrors",
  { error: [OAuthError, TooLarge] }
) {}

/**
 * Annotates an endpoint with the scopes that it asks for, all of them; none where any session will do.
 *
 * @category services
 * @since 0.1.0
 */
export class RequiredScopes extends Context.Service<RequiredScopes, ReadonlyArray<AccessScope>>()(
  "@sallyport/contract/RequiredScopes"
) {}

/** The ways to prove a session, as an OpenAPI operation names them; each of them will do. */
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
 * Adds the security schemes that {@link requires} refers to to an OpenAPI document. A host annotates its own API with
 * it: `MyApi.annotate(OpenApi.Transform, describeSecurity)`.
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
 * Puts an endpoint behind {@link Authentication} and states the scope that it asks for, or null where any live session
 * will do, as logging out does. Said twice, it asks for both scopes: a demand is never taken back.
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
