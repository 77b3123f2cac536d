/**
 * How an endpoint says who may call it.
 */
import type { AccessScope } from "@sallyport/core/AccessScope"
import type { CurrentSession } from "@sallyport/core/CurrentSession"
import * as Context from "effect/Context"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import type { HttpMethod } from "effect/http/HttpMethod"
import type * as Schema from "effect/Schema"
import { Forbidden, InvalidRequest, TooLarge, Unauthorized, Unavailable } from "./WireError.ts"

/**
 * Lets a request in with the session that it proves, and provides that session as `CurrentSession`.
 *
 * Endpoints don't name it: {@link requires} does, so that none is let in without saying which scope it asks for.
 */
export class Authentication extends HttpApiMiddleware.Service<Authentication, { provides: CurrentSession }>()(
  "@sallyport/contract/Authentication",
  { error: [Unauthorized, Forbidden, Unavailable] }
) {}

/**
 * Bounds the body of a request, and answers one that does not decode with {@link InvalidRequest}, without echoing what
 * was sent.
 */
export class RequestErrors extends HttpApiMiddleware.Service<RequestErrors>()("@sallyport/contract/RequestErrors", {
  error: [InvalidRequest, TooLarge]
}) {}

/** Annotates an endpoint with the scope that it asks for; null where any session will do. */
export class RequiredScope extends Context.Service<RequiredScope, AccessScope | null>()(
  "@sallyport/contract/RequiredScope"
) {}

/**
 * Puts an endpoint behind {@link Authentication} and states the scope that it asks for, or null where any live session
 * will do, as logging out does.
 *
 * **Example** (Guarding a host's own endpoint)
 *
 * ```ts
 * const save = HttpApiEndpoint.post("save", "/notes", { payload: Note }).pipe(requires("notes:write"))
 * ```
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
) => endpoint.annotate(RequiredScope, scope).middleware(Authentication)
