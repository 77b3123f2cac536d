/** Other ways to mount Sallyport: in parts, below a path, with other tables. */
import { requires } from "@sallyport/contract/RpcAuthentication"
import { RunGroup } from "@sallyport/contract/RunGroup"
import { SessionGroup } from "@sallyport/contract/SessionGroup"
import {
  AuthPolicy,
  BootstrapCredentialService,
  CurrentSession,
  RunEventLog,
  SecretStore,
  SessionCredentialService,
  SqlRateLimiterStore,
  SqlRepositories
} from "@sallyport/core"
import {
  Authentication,
  Edge,
  IdentityProviders,
  RpcAuthentication,
  RunHandlers,
  Sallyport,
  SessionHandlers,
  TrustedProxies
} from "@sallyport/http"
import { WaitUntil } from "@sallyport/core/runs"
import { SqliteClient } from "@sallyport/sqlite-node"
import { PublicHttp } from "@sallyport/node"
import { Context, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder } from "effect/http-api"
import { IpNetwork } from "effect/net"
import { RateLimiter } from "effect/persistence"
import { Rpc, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"

// #region prefix
/** Mounts everything below a path: the pairing page is `/sallyport/pair`, a run starts at `/sallyport/api/runs`. */
export const underPrefix = Sallyport.layer({ prefix: "/sallyport", continueTo: "/notes.txt" })
// #endregion prefix

// #region groups
/** An API of the same name with some of the groups: the handlers fit it. Only the host issues links. */
class SessionsAndRuns extends HttpApi.make("sallyport").add(SessionGroup).add(RunGroup) {}

/** Mounts sessions and runs, without the endpoints of pairing links and without the pairing page. */
export const withoutPairing = HttpApiBuilder.layer(SessionsAndRuns, { openapiPath: "/api/openapi.json" }).pipe(
  Layer.provide([SessionHandlers.layer, RunHandlers.layer]),
  Layer.provide([Authentication.layer, Authentication.layerRequestErrors()]),
  Layer.merge(Edge.layer)
)
// #endregion groups

// #region tables
/** Keeps the tables apart from others in the same database: `acme_sessions` instead of `sallyport_sessions`. */
export const ownTables = SqlRepositories.layerWith({ prefix: "acme_" })
// #endregion tables

// #region variables
/** Takes the policy, the database, the place of the secrets and every option from variables. */
export const fromVariables = Layer.mergeAll(
  BootstrapCredentialService.layerConfig,
  SessionCredentialService.layerConfig,
  RunEventLog.layerConfig
).pipe(
  Layer.provideMerge(AuthPolicy.layerConfig),
  Layer.provide([SqlRepositories.layer, SecretStore.layerConfig]),
  Layer.provide(SqliteClient.layerConfig(SqliteClient.config))
)
// #endregion variables

// #region sessions
/** Ends sessions as level 2 of NIST SP 800-63B-4 requires, and makes clients refresh their tokens every ten minutes. */
export const strictSessions = SessionCredentialService.layerWith({
  ...SessionCredentialService.nistAal2,
  refresh: { tokenLifetime: "10 minutes" }
})
// #endregion sessions

// #region limits
/** Counts wrong codes in the database, so that the nodes on it share the count. */
export const sharedLimits = BootstrapCredentialService.layerWith({
  attempts: { perSource: { limit: 5, window: "1 minute" } }
}).pipe(
  Layer.provide(RateLimiter.layer),
  Layer.provide(SqlRateLimiterStore.layer)
)
// #endregion limits

// #region proxies
/** Trusts a load balancer in the private network 10.0.0.0/8 to name the sender of a request. */
export const behindProxies = Layer.merge(
  Sallyport.layer(),
  TrustedProxies.layer([IpNetwork.fromStringUnsafe("10.0.0.0/8")])
)
// #endregion proxies

// #region identities
/** Lets in the people of one domain of an issuer, and whom the company's gateway knows, who may not start runs. */
export const identities = IdentityProviders.layerWith({
  issuers: [{ issuer: "https://accounts.example", audiences: ["the-id-of-our-command"] }],
  proxies: [{ header: "x-forwarded-user", from: [IpNetwork.fromStringUnsafe("10.1.2.3/32")], issuer: "gateway" }],
  admit: ({ claims, issuer, subject }) =>
    issuer === "gateway"
      ? Effect.succeed({ subject: `gateway-${subject}`, scopes: ["runs:read"] })
      : claims.hd === "acme.example"
      ? Effect.succeed({ subject: `acme-${subject}`, absoluteLifetime: "1 hour" })
      : Effect.fail(new IdentityProviders.IdentityNotAdmitted({ problem: "of another domain" }))
}).pipe(Layer.provide(PublicHttp.layer))

export const withIdentities = Sallyport.layer().pipe(Layer.provide(identities))
// #endregion identities

// #region web
type Services = Exclude<
  Layer.Services<ReturnType<typeof Sallyport.layer>>,
  HttpRouter.HttpRouter | Layer.Success<typeof HttpServer.layerServices>
>

/**
 * Makes a handler from a web `Request` to a `Response`, for platforms that have their own server. A platform that ends
 * background work with the answer gives its `waitUntil`, so that the runs that a request starts go on to their end.
 */
export const toWebHandler = <E>(services: Layer.Layer<Services, E>) => {
  const { dispose, handler } = HttpRouter.toWebHandler(
    Sallyport.layer().pipe(Layer.provide(services), Layer.provide(HttpServer.layerServices)),
    { disableLogger: true }
  )
  return {
    dispose,
    handler: (request: Request, waitUntil?: (work: Promise<void>) => void) =>
      waitUntil === undefined ? handler(request) : handler(request, Context.make(WaitUntil.WaitUntil, waitUntil))
  }
}
// #endregion web

// #region rpc
/** Declares an RPC with its scope. One without a scope does not compile behind the middleware. */
class NoteRpcs extends RpcGroup.make(
  Rpc.make("MyName", { success: Schema.String }).pipe(requires("notes:read"))
) {}

/**
 * Serves it over HTTP. The guard accepts each proof of a session that other routes accept; the handler has the same
 * principal.
 */
export const noteRpcs = RpcServer.layerHttp({ group: NoteRpcs, path: "/rpc", protocol: "http" }).pipe(
  Layer.provide(NoteRpcs.toLayer({ MyName: () => CurrentSession.CurrentSession.useSync(({ subject }) => subject) })),
  Layer.provide(RpcAuthentication.guard.layer),
  Layer.provide([RpcAuthentication.layer, RpcSerialization.layerNdjson])
)
// #endregion rpc
