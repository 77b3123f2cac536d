/**
 * Provides the server of the application as a layer, for the process that opens the windows: the runs of an agent, and
 * everything that they need.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import * as Agent from "@sallyport-examples/agent-run/Agent"
import { Changes } from "@sallyport-examples/agent-run/Changes"
import * as Page from "@sallyport-examples/agent-run/Page"
import {
  AuthPolicy,
  BootstrapCredentialService,
  RunEventLog,
  SecretStore,
  SessionCredentialService,
  SqlRepositories
} from "@sallyport/core"
import { Sallyport, Shutdown } from "@sallyport/http"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Layer } from "effect"
import { HttpRouter } from "effect/http"
import { createServer } from "node:http"

const host = "127.0.0.1"

// A run waits for the next start for as long as that takes, and however often the application is quit meanwhile.
const runs = RunEventLog.layerWith({
  heartbeatInterval: "1 second",
  lease: "3 seconds",
  takeOverWindow: "365 days",
  maxTakeOvers: 1_000
})

const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, runs)

const upkeep = Layer.mergeAll(
  BootstrapCredentialService.layerSweeper(),
  SessionCredentialService.layerSweeper(),
  RunEventLog.layerReaper(),
  RunEventLog.layerSweeper()
)

/** Provides the server, on a port that the system chooses. All that it keeps is in the directory. */
export const layer = (stateDirectory: string) =>
  HttpRouter.serve(Layer.mergeAll(Sallyport.layer(), Page.layer, upkeep), {
    disableListenLog: true,
    disableLogger: true
  }).pipe(
    Shutdown.graceful,
    Layer.provide(Layer.provide(Agent.layerResumable, Changes.layer)),
    Layer.provideMerge(services),
    Layer.provide([SqlRepositories.layer, SecretStore.layerFileSystem(`${stateDirectory}/secrets`)]),
    Layer.provide(SqliteClient.layer({ filename: `${stateDirectory}/application.db` })),
    Layer.provide(AuthPolicy.layer({ host, kind: "desktop-managed-local" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host, port: 0, gracefulShutdownTimeout: "1 second" })),
    Layer.provide(NodeCrypto.layer)
  )
