/**
 * Provides the server as one layer: the agent's runs behind Sallyport's routes, a page, and one SQLite file for all of
 * it, or a PostgreSQL database that several servers share.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  RunEventLog,
  SecretStore,
  SessionCredentialService,
  SqlRepositories
} from "@sallyport/core"
import { Sallyport, Shutdown } from "@sallyport/http"
import { PgDatabase, PgRepositories } from "@sallyport/pg"
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

export interface Options {
  readonly directory: string
  readonly port: number
  /** Whether other processes serve the same runs, on the PostgreSQL database of `SALLYPORT_DATABASE_URL`. */
  readonly shared: boolean
}

export const layer = ({ directory, port, shared }: Options) => {
  const repositories = shared
    ? Layer.provide(PgRepositories.layerConfig, PgDatabase.layerConfig)
    : Layer.provide(SqlRepositories.layer, SqliteClient.layer({ filename: `${directory}/agent.db` }))
  return HttpRouter.serve(Layer.merge(routes, upkeep)).pipe(
    Shutdown.graceful,
    Layer.provide(shared ? Agent.layerResumable : Agent.layer),
    Layer.provide(Changes.layer),
    Layer.provideMerge(services),
    Layer.provide([repositories, SecretStore.layerFileSystem(`${directory}/secrets`)]),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
    Layer.provide(NodeCrypto.layer)
  )
}
