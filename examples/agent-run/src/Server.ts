/**
 * Provides the server as one layer: the agent's runs behind Sallyport's routes, a page, and one SQLite file for all of
 * it.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { Sallyport, Shutdown } from "@sallyport/http"
import { SqlRepositories } from "@sallyport/core"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Layer } from "effect"
import { HttpRouter } from "effect/http"
import { createServer } from "node:http"
import * as Agent from "./Agent.ts"
import { Changes } from "./Changes.ts"
import * as Page from "./Page.ts"

const routes = Layer.merge(Sallyport.layer(), Page.layer)

// A lease of three seconds: for that long, a run whose process has died still looks alive.
const runs = RunEventLog.layerWith({ heartbeatInterval: "1 second", lease: "3 seconds" })
const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, runs)
const upkeep = Layer.merge(RunEventLog.layerReaper(), RunEventLog.layerSweeper())

export const layer = ({ directory, port }: { readonly directory: string; readonly port: number }) =>
  HttpRouter.serve(Layer.merge(routes, upkeep)).pipe(
    Shutdown.graceful,
    Layer.provide(Agent.layer),
    Layer.provide(Changes.layer),
    Layer.provideMerge(services),
    Layer.provide([SqlRepositories.layer, SecretStore.layerFileSystem(`${directory}/secrets`)]),
    Layer.provide(SqliteClient.layer({ filename: `${directory}/agent.db` })),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
    Layer.provide(NodeCrypto.layer)
  )
