/**
 * Provides the server as one layer: the MCP server and Sallyport on one router. What it keeps is in memory;
 * `examples/swap-persistence` shows how it is kept in a database.
 */
// #region mount
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthorizationServer,
  AuthPolicy,
  BootstrapCredentialService,
  type ClientDocuments,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { Authentication, RunProgram, Sallyport, Shutdown } from "@sallyport/http"
import { Effect, Layer } from "effect"
import { McpProtocol, McpServer } from "effect/ai"
import { HttpRouter } from "effect/http"
import { createServer } from "node:http"
import * as Tools from "./Tools.ts"

/** Answers at `/mcp` to programs that hold a token for it, and to no others. */
const Mcp = McpServer.layerHttp({
  name: "Greenhouse",
  version: "1.0.0",
  path: "/mcp",
  protocols: [McpProtocol.v2026_07_28, McpProtocol.v2025_11_25, McpProtocol.v2025_06_18],
  registrations: Layer.provide(McpServer.toolkit(Tools.toolkit), Tools.layer)
}).pipe(
  Layer.provide(Authentication.guard("greenhouse:read", { resource: "/mcp" }).layer)
)

/** Says what the tokens are for, and which programs can ask: those with a document, and one that is set up by its id. */
const Authorization = AuthorizationServer.layerWith({
  resources: [{ resource: "/mcp", scopes: ["greenhouse:read", "greenhouse:water"], name: "Greenhouse tools" }],
  clients: [{ id: "workbench", name: "Workbench", redirectUris: ["http://127.0.0.1/callback"] }]
})

const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, RunEventLog.layer)

export const layer = ({ documents, port }: {
  /** Reads the documents by which programs name themselves. */
  readonly documents: Layer.Layer<ClientDocuments.ClientDocuments>
  readonly port: number
}) =>
  HttpRouter.serve(Layer.merge(Mcp, Sallyport.layer({ continueTo: "/connections" }))).pipe(
    Shutdown.graceful,
    Layer.provide(RunProgram.layer(() => Effect.void)),
    Layer.provide(Layer.provide(Authorization, documents)),
    Layer.provideMerge(services),
    Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1", name: "Greenhouse" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
    Layer.provide(NodeCrypto.layer)
  )
// #endregion mount
