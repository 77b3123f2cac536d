/**
 * Provides one node as a layer. Nodes share the database and nothing else: the secrets are in it too, encrypted with a key
 * that each node is given.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  EncryptedSecretStore,
  RunEventLog,
  SecretKeys,
  SessionCredentialService,
  SqlSecretStore
} from "@sallyport/core"
import { Sallyport, Shutdown, TrustedProxies } from "@sallyport/http"
import { PgDatabase, PgRepositories } from "@sallyport/pg"
import { Layer } from "effect"
import { HttpRouter } from "effect/http"
import { IpNetwork } from "effect/net"
import { createServer } from "node:http"
import * as Stages from "./Stages.ts"

// The proxy is on this machine, and says whose request it passes on.
const routes = Layer.merge(Sallyport.layer(), TrustedProxies.layer([IpNetwork.fromStringUnsafe("127.0.0.1/32")]))

// A lease of three seconds: for that long, a run whose node has died still looks alive.
const runs = RunEventLog.layerWith({ heartbeatInterval: "1 second", lease: "3 seconds" })
const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, runs)

// Every node does this for all of them.
const upkeep = Layer.mergeAll(
  BootstrapCredentialService.layerSweeper(),
  SessionCredentialService.layerSweeper(),
  RunEventLog.layerReaper(),
  RunEventLog.layerSweeper()
)

const secrets = EncryptedSecretStore.layer({ storeId: "cluster" }).pipe(
  Layer.provide([SecretKeys.layerConfig(), SqlSecretStore.layer])
)

export const layer = ({ port }: { readonly port: number }) =>
  HttpRouter.serve(Layer.merge(routes, upkeep)).pipe(
    Shutdown.graceful,
    Layer.provide(Stages.layer),
    Layer.provideMerge(services),
    Layer.provideMerge(AuthPolicy.layerConfig),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
    Layer.provide(Layer.merge(PgRepositories.layerConfig, secrets)),
    Layer.provide(PgDatabase.layerConfig),
    Layer.provide(NodeCrypto.layer)
  )
