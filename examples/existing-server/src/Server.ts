/**
 * Provides the server as one layer: the application's routes and Sallyport's on one router, over one database.
 */
// #region mount
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import { AuthPolicy, BootstrapCredentialService, RunEventLog, SessionCredentialService } from "@sallyport/core"
import { SecretStore, SqlRepositories } from "@sallyport/core"
import { Sallyport, Shutdown } from "@sallyport/http"
import { EarlyRequests } from "@sallyport/node"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Layer } from "effect"
import { HttpRouter } from "effect/http"
import { createServer } from "node:http"
import * as Notes from "./Notes.ts"
import * as NotesHandlers from "./NotesHandlers.ts"
import * as NotesRoutes from "./NotesRoutes.ts"
import * as Scopes from "./Scopes.ts"
import * as SummariseNotes from "./SummariseNotes.ts"
import * as Upkeep from "./Upkeep.ts"

const routes = Layer.mergeAll(Sallyport.layer({ continueTo: "/notes.txt" }), NotesHandlers.layer, NotesRoutes.layer)
const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, RunEventLog.layer)

export const layer = ({ directory, port }: { readonly directory: string; readonly port: number }) =>
  HttpRouter.serve(Layer.merge(routes, Upkeep.layer)).pipe(
    Shutdown.graceful, // a stop ends open streams and sockets first
    Layer.provide(SummariseNotes.layer), // what a run does
    Layer.provideMerge(services),
    Layer.provide([Notes.layer, SqlRepositories.layer, SecretStore.layerFileSystem(`${directory}/secrets`)]),
    Layer.provide([SqliteClient.layer({ filename: `${directory}/notes.db` }), Scopes.layer]),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
    Layer.provideMerge(NodeHttpServer.layer(() => EarlyRequests.hold(createServer()), { host: "127.0.0.1", port })),
    Layer.provide(NodeCrypto.layer)
  )
// #endregion mount
