/** Provides Sallyport to a framework that answers web-standard requests, on one SQLite file. */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import {
  AuthPolicy,
  BootstrapCredentialService,
  RunEventLog,
  SessionCredentialService,
  SqlRepositories,
  SqlSecretStore
} from "@sallyport/core"
import { Authentication, RunProgram, Sallyport } from "@sallyport/http"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Effect, Layer, ManagedRuntime, Option } from "effect"
import { HttpRouter, HttpServerRequest, HttpStaticServer } from "effect/http"

export interface Options {
  readonly filename: string
  /** Where Vite has put what browsers load. */
  readonly assets: string
}

/** Opens the database. What it returns is for the whole process: the handler, who a request is from, and the way in. */
export const open = ({ assets, filename }: Options) => {
  const services = Layer.mergeAll(
    BootstrapCredentialService.layer,
    SessionCredentialService.layer,
    RunEventLog.layer,
    RunProgram.layer(({ input, run }) => run.append(input))
  ).pipe(
    Layer.provideMerge(Layer.merge(SqlRepositories.layer, SqlSecretStore.layer)),
    Layer.provide(SqliteClient.layer({ filename })),
    Layer.provideMerge(AuthPolicy.layer({ host: "127.0.0.1", name: "Greenhouse" })),
    Layer.provideMerge(Layer.merge(NodeCrypto.layer, NodeHttpServer.layerHttpServices))
  )
  const runtime = ManagedRuntime.make(services)
  const routes = Layer.mergeAll(
    Sallyport.layer({ prefix: "/sallyport", continueTo: "/" }),
    HttpStaticServer.layer({ root: assets, prefix: "/assets" }),
    BootstrapCredentialService.layerSweeper(),
    SessionCredentialService.layerSweeper()
  )
  const { dispose, handler } = HttpRouter.toWebHandler(Layer.provide(routes, services), {
    disableLogger: true,
    // The services are made once, for the routes and for the pages.
    memoMap: runtime.memoMap
  })
  return {
    handle: (request: Request): Promise<Response> => handler(request),
    principal: (request: Request) =>
      runtime.runPromise(
        Authentication.authenticate.pipe(
          Effect.provideService(HttpServerRequest.HttpServerRequest, HttpServerRequest.fromWeb(request)),
          // A session that has ended is as good as none: the page leads to where one is begun.
          Effect.catchTag("Unauthorized", () => Effect.succeedNone),
          Effect.map(Option.getOrUndefined)
        )
      ),
    /** Lets the first device in, as the operator. */
    code: runtime.runPromise(
      BootstrapCredentialService.BootstrapCredentialService.use((links) =>
        links.issue({ issuedBy: "operator", scopes: "all" })
      )
    ),
    stop: async () => {
      await dispose()
      await runtime.dispose()
    }
  }
}
