/**
 * How an RPC says who may call it, as `Authentication` has it for endpoints. Clients and servers share it.
 */
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import type { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcMiddleware from "effect/rpc/RpcMiddleware"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { RequiredScopes } from "./Authentication.ts"
import { Forbidden, Unauthorized, Unavailable } from "./WireError.ts"

class RpcAuthenticationMiddleware
  extends RpcMiddleware.Service<RpcAuthenticationMiddleware, { provides: CurrentSession }>()(
    "@sallyport/contract/RpcAuthentication",
    { error: Schema.Union([Unauthorized, Forbidden, Unavailable]) }
  )
{}

/**
 * Lets a call in with the session of whoever makes it, and provides that session as `CurrentSession`. Layers of this type
 * are made with {@link layerRpcAuthentication}. It can't be put on an RPC by itself: {@link requires} does that, so that one
 * that doesn't say which scope it asks for does not compile.
 *
 * @category models
 * @since 0.1.0
 */
export type RpcAuthentication = RpcAuthenticationMiddleware

/**
 * Provides what {@link RpcAuthentication} does. Servers have it from `@sallyport/http`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRpcAuthentication = <E, R>(
  make: Effect.Effect<(typeof RpcAuthenticationMiddleware)["Service"], E, R>
): Layer.Layer<RpcAuthentication, E, Exclude<R, Scope.Scope>> => Layer.effect(RpcAuthenticationMiddleware, make)

/**
 * Puts an RPC behind {@link RpcAuthentication} and states the scope that it asks for, or null where any live session will
 * do. Said twice, it asks for both scopes: a demand is never taken back.
 *
 * **Example** (Guarding a host's own RPC)
 *
 * ```ts
 * import { requires } from "@sallyport/contract/RpcAuthentication"
 * import { Schema } from "effect"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * export class Notes extends RpcGroup.make(
 *   Rpc.make("ListNotes", { success: Schema.Array(Schema.String) }).pipe(requires("runs:read"))
 * ) {}
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const requires = (scope: AccessScope | null) =>
<
  Tag extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Middleware extends RpcMiddleware.AnyService,
  Requires
>(rpc: Rpc.Rpc<Tag, Payload, Success, Error, Middleware, Requires>) => {
  const before = Option.getOrElse(Context.getOption(rpc.annotations, RequiredScopes), () => [])
  return rpc
    .annotate(RequiredScopes, scope === null ? before : [...before, scope])
    .middleware(RpcAuthenticationMiddleware)
}
