/**
 * Provides the server as one layer: Sallyport's routes, its page that pairs a browser, and the application that Vite has
 * built. What it keeps is in memory; `examples/swap-persistence` shows how it is kept in a database.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { RunProgram, Sallyport, Shutdown } from "@sallyport/http"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpStaticServer } from "effect/http"
import { createServer } from "node:http"

const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, RunEventLog.layer)

export const layer = ({ files, port }: {
  /** Where Vite has put what it built. */
  readonly files: string
  readonly port: number
}) =>
  HttpRouter.serve(Layer.merge(Sallyport.layer(), HttpStaticServer.layer({ root: files }))).pipe(
    Shutdown.graceful,
    Layer.provide(RunProgram.layer(() => Effect.void)),
    Layer.provideMerge(services),
    Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1", name: "Greenhouse" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
    Layer.provide(NodeCrypto.layer)
  )
