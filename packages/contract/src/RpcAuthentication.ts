/**
 * Lets an RPC state who may call it, as `Authentication` does for endpoints. Clients and servers share it.
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
 * Authenticates a call and provides its session as `CurrentSession`. Layers of this type are made with {@link
 * layerRpcAuthentication}. It cannot be added to an RPC directly: only {@link requires} does that, so an RPC that does
 * not state its scope does not compile.
 *
 * @category models
 * @since 0.1.0
 */
export type RpcAuthentication = RpcAuthenticationMiddleware

/**
 * Provides the implementation of {@link RpcAuthentication}. `@sallyport/http` has it for servers.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRpcAuthentication = <E, R>(
  make: Effect.Effect<(typeof RpcAuthenticationMiddleware)["Service"], E, R>
): Layer.Layer<RpcAuthentication, E, Exclude<R, Scope.Scope>> => Layer.effect(RpcAuthenticationMiddleware, make)

/**
 * Requires a session with the given scope on an RPC, or any live session if the scope is null.
 *
 * **Details**
 *
 * Applied twice, it requires both scopes. A requirement is never removed.
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
