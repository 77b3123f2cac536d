/**
 * The whole HTTP surface as one layer, for a host that wants all of it.
 */
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import type { AccessFeedRepository } from "@sallyport/core/access/AccessFeedRepository"
import type { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import type { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import type { RunEventLog } from "@sallyport/core/runs/RunEventLog"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import type * as ByteSize from "effect/ByteSize"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import type { FileSystem } from "effect/FileSystem"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type * as Etag from "effect/http/Etag"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import * as OpenApi from "effect/http-api/OpenApi"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Path } from "effect/Path"
import * as AccessHandlers from "./AccessHandlers.ts"
import * as Authentication from "./Authentication.ts"
import * as ConnectHandlers from "./ConnectHandlers.ts"
import * as PairingHandlers from "./PairingHandlers.ts"
import * as PairPage from "./PairPage.ts"
import * as RunHandlers from "./RunHandlers.ts"
import type { RunProgram } from "./RunProgram.ts"
import * as SessionHandlers from "./SessionHandlers.ts"

/**
 * Lists the settings of {@link layer}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The path below which all of it is mounted, the pairing page included. Default none. */
  readonly prefix?: `/${string}` | undefined
  /** Where a browser goes once it is paired: a path of this server. Default `/`. */
  readonly continueTo?: `/${string}` | undefined
  /** The largest body that a request may have. Default 1 MiB. */
  readonly maxBodySize?: ByteSize.Input | undefined
  /** Where the OpenAPI document is served, below the prefix. Default `/api/openapi.json`. */
  readonly openapiPath?: `/${string}` | undefined
}

/**
 * Adds every endpoint of the contract, the pairing page and the OpenAPI document to the router. The host's own routes and
 * APIs stand beside it on the same router.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<
  never,
  never,
  | AccessFeedRepository
  | AuthPolicy
  | BootstrapCredentialService
  | SessionCredentialService
  | RunEventLog
  | RunProgram
  | SecureRandom
  | HttpRouter.HttpRouter
  | Etag.Generator
  | FileSystem
  | HttpPlatform
  | Path
> => {
  const prefix = options?.prefix
  const api = prefix === undefined ? SallyportApi : SallyportApi.annotate(OpenApi.Servers, [{ url: prefix }])
  const routes = Layer.merge(
    HttpApiBuilder.layer(api, { openapiPath: options?.openapiPath ?? "/api/openapi.json" }).pipe(
      Layer.provide([
        SessionHandlers.layer,
        PairingHandlers.layer,
        ConnectHandlers.layer,
        RunHandlers.layer,
        Layer.provide(AccessHandlers.layer, AccessFeed.layer)
      ]),
      Layer.provide([Authentication.layer, Authentication.layerRequestErrors({ maxBodySize: options?.maxBodySize })])
    ),
    PairPage.layer({ continueTo: options?.continueTo })
  )
  return prefix === undefined ? routes : Layer.provide(
    routes,
    Layer.effect(HttpRouter.HttpRouter, Effect.map(HttpRouter.HttpRouter, (router) => router.prefixed(prefix)))
  )
}
