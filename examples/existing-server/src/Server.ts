/**
 * The server as one layer: the application's routes and Sallyport's on one router, over one database.
 */
// #region mount
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { Sallyport } from "@sallyport/http"
import { SqlRepositories } from "@sallyport/sql"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Layer } from "effect"
import { HttpRouter } from "effect/http"
import { createServer } from "node:http"
import * as Notes from "./Notes.ts"
import * as NotesHandlers from "./NotesHandlers.ts"
import * as NotesRoutes from "./NotesRoutes.ts"
import * as Scopes from "./Scopes.ts"
import * as SummariseNotes from "./SummariseNotes.ts"

const routes = Layer.mergeAll(Sallyport.layer(), NotesHandlers.layer, NotesRoutes.layer)
const services = Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer, RunEventLog.layer)

export const layer = (options: { readonly port: number; readonly directory: string }) =>
  HttpRouter.serve(Layer.merge(routes, RunEventLog.layerReaper())).pipe(
    Layer.provide(SummariseNotes.layer),
    Layer.provideMerge(services),
    Layer.provide([SqlRepositories.layer, Notes.layer, SecretStore.layerFileSystem(`${options.directory}/secrets`)]),
    Layer.provide([SqliteClient.layer({ filename: `${options.directory}/notes.db` }), Scopes.layer]),
    Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: options.port })),
    Layer.provide(NodeCrypto.layer)
  )
// #endregion mount
