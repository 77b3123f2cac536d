/**
 * The whole HTTP surface as one layer, for a host that wants all of it.
 */
import { AuthorizationServer } from "@sallyport/core/access/AuthorizationServer"
import type { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import type { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import * as Input from "@sallyport/core/Input"
import type { RunEventLog } from "@sallyport/core/runs/RunEventLog"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import type * as ByteSize from "effect/ByteSize"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import type { FileSystem } from "effect/FileSystem"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type * as Etag from "effect/http/Etag"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import * as OpenApi from "effect/http-api/OpenApi"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Path } from "effect/Path"
import * as WebPages from "@sallyport/web/WebPages"
import * as Option from "effect/Option"
import * as AccessHandlers from "./AccessHandlers.ts"
import * as AuthorizationHandlers from "./AuthorizationHandlers.ts"
import * as Authentication from "./Authentication.ts"
import * as ConnectHandlers from "./ConnectHandlers.ts"
import * as Edge from "./Edge.ts"
import * as HealthHandlers from "./HealthHandlers.ts"
import { prefixed } from "./internal/prefixed.ts"
import * as PairingHandlers from "./PairingHandlers.ts"
import * as RunHandlers from "./RunHandlers.ts"
import type { RunProgram } from "./RunProgram.ts"
import * as SessionHandlers from "./SessionHandlers.ts"

export { Accent } from "@sallyport/web/WebPages"

/**
 * Lists the settings of {@link layer}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The path below which all of it is mounted, the pages included. Default none. */
  readonly prefix?: `/${string}` | undefined
  /** Where a browser goes once it is paired: a path of this server. Default the start page, or `/`. */
  readonly continueTo?: `/${string}` | undefined
  /**
   * What the pages show; they call the server by the name in its policy. `false` mounts no pages: for a host with pages of
   * its own, or one that mounts them elsewhere by `WebPages.layer`.
   */
  readonly pages?: Pick<WebPages.Options, "accent" | "styleSheet" | "start"> | false | undefined
  /** The largest body that a request may have. Default 256 KiB. */
  readonly maxBodySize?: ByteSize.ByteSize | undefined
  /** Where the OpenAPI document is served, below the prefix. Default `/api/openapi.json`. */
  readonly openapiPath?: `/${string}` | undefined
}

const optionRules: Record<keyof Options, Input.Rule> = {
  prefix: Input.text,
  continueTo: Input.text,
  pages: Input.any,
  maxBodySize: Input.any,
  openapiPath: Input.text
}

/** Adds routes if the host has an authorization server. */
const ofServer = <R>(
  routes: (server: AuthorizationServer["Service"]) => Layer.Layer<never, never, R | AuthorizationServer>
) =>
  Layer.unwrap(Effect.map(Effect.serviceOption(AuthorizationServer), (server) =>
    Option.isNone(server)
      ? Layer.empty
      : Layer.provide(routes(server.value), Layer.succeed(AuthorizationServer, server.value))))

/**
 * Adds every endpoint of the contract, the pages of `@sallyport/web` and the OpenAPI document to the router. The host's own
 * routes and APIs stand beside it on the same router. With `AuthorizationServer` beside it, it is one. If the pages are not
 * built, a warning says so, and all else is served.
 *
 * **Example** (Serving everything)
 *
 * ```ts
 * import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
 * import {
 *   AuthPolicy,
 *   BootstrapCredentialService,
 *   Repositories,
 *   RunEventLog,
 *   SecretStore,
 *   SessionCredentialService
 * } from "@sallyport/core"
 * import { RunProgram, Sallyport } from "@sallyport/http"
 * import { Console, Effect, Layer } from "effect"
 * import { HttpRouter, HttpServer } from "effect/http"
 * import { createServer } from "node:http"
 *
 * const Server = HttpRouter.serve(Sallyport.layer(), { disableListenLog: true, disableLogger: true }).pipe(
 *   Layer.provide(RunProgram.layer(({ input }) => Effect.succeed(input))),
 *   Layer.provide([BootstrapCredentialService.layer, SessionCredentialService.layer, RunEventLog.layer]),
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory, AuthPolicy.layer({ host: "127.0.0.1" })]),
 *   Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * const program = Effect.gen(function*() {
 *   const { address } = yield* HttpServer.HttpServer
 *   const answer = yield* Effect.promise(() => fetch(`${HttpServer.formatAddress(address)}/api/auth/session`))
 *   yield* Console.log(answer.status)
 *   // => 200
 * })
 *
 * Effect.runPromise(Effect.provide(program, Server))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<
  never,
  never,
  | AccessRepository
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
  Input.demand("Sallyport.layer", optionRules, options ?? {})
  const prefix = options?.prefix
  const api = prefix === undefined ? SallyportApi : SallyportApi.annotate(OpenApi.Servers, [{ url: prefix }])
  const routes = Layer.mergeAll(
    HttpApiBuilder.layer(api, { openapiPath: options?.openapiPath ?? "/api/openapi.json" }).pipe(
      Layer.provide([
        SessionHandlers.layer,
        PairingHandlers.layer,
        ConnectHandlers.layer,
        RunHandlers.layer,
        HealthHandlers.layer,
        Layer.provide(AccessHandlers.layer, AccessFeed.layer)
      ]),
      Layer.provide([Authentication.layer, Authentication.layerRequestErrors({ maxBodySize: options?.maxBodySize })])
    ),
    options?.pages === false ? Layer.empty : Layer.unwrap(Effect.map(AuthPolicy, ({ name }) =>
      Layer.catchTag(
        WebPages.layer({ ...options?.pages, name, continueTo: options?.continueTo }),
        "PagesNotBuilt",
        ({ message }) =>
          Layer.effectDiscard(Effect.logWarning(`No page is served, and no browser can pair. ${message}`))
      ))),
    ofServer(() => AuthorizationHandlers.layer),
    Edge.layer
  )
  const metadata = ofServer((server) =>
    server.prefix === (prefix ?? "") ? AuthorizationHandlers.layerMetadata : Layer.effectDiscard(
      Effect.die(
        new Error(
          `The prefix of AuthorizationServer is "${server.prefix}", and that of Sallyport.layer "${
            prefix ?? ""
          }"; make ` +
            "them the same"
        )
      )
    )
  )
  return Layer.merge(metadata, prefixed(prefix)(routes))
}
