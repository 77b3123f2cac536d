/**
 * Provides the backend of the desktop application as a layer: its page, and Sallyport's sessions and access feed behind
 * it.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import { AccessGroup } from "@sallyport/contract/AccessGroup"
import { SessionGroup } from "@sallyport/contract/SessionGroup"
import {
  AccessFeed,
  AuthPolicy,
  BootstrapCredentialService,
  SecretStore,
  SessionCredentialService,
  SqlRepositories
} from "@sallyport/core"
import { AccessHandlers, Authentication, SessionHandlers, Shutdown } from "@sallyport/http"
import { EarlyRequests, IdleConnections } from "@sallyport/node"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder } from "effect/http-api"
import { createServer } from "node:http"
import * as Page from "./Page.ts"

/** The part of the contract that this window uses. There are no pairing links: only the window is let in. */
class DesktopApi extends HttpApi.make("sallyport").add(SessionGroup).add(AccessGroup) {}

const api = HttpApiBuilder.layer(DesktopApi).pipe(
  Layer.provide([SessionHandlers.layer, Layer.provide(AccessHandlers.layer, AccessFeed.layer)]),
  Layer.provide([Authentication.layer, Authentication.layerRequestErrors()])
)

const host = "127.0.0.1"

const layerServer = (port: number) =>
  Layer.unwrap(Effect.sync(() => {
    // The window may ask before the routes are there.
    const server = EarlyRequests.hold(IdleConnections.endWith(createServer()))
    // A connection that is still open after the time for a graceful end would keep the process alive.
    const cut = Layer.effectDiscard(
      Effect.acquireRelease(HttpServer.HttpServer, () => Effect.sync(() => server.closeAllConnections()))
    )
    return Layer.provideMerge(
      cut,
      NodeHttpServer.layer(() => server, { host, port, gracefulShutdownTimeout: "1 second" })
    )
  }))

/** Provides the backend. It accepts connections when the layer is built; port 0 lets the system choose one. */
export const layer = (options: { readonly stateDirectory: string; readonly port: number }) =>
  HttpRouter.serve(Layer.merge(api, Page.layer), { disableListenLog: true, disableLogger: true }).pipe(
    Shutdown.graceful,
    Layer.provideMerge(Layer.merge(BootstrapCredentialService.layer, SessionCredentialService.layer)),
    Layer.provide([SqlRepositories.layer, SecretStore.layerFileSystem(`${options.stateDirectory}/secrets`)]),
    Layer.provide(SqliteClient.layer({ filename: `${options.stateDirectory}/backend.db` })),
    Layer.provideMerge(layerServer(options.port)),
    Layer.provide(AuthPolicy.layer({ host, kind: "desktop-managed-local" })),
    Layer.provide(NodeCrypto.layer)
  )
