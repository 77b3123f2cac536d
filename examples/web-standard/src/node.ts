/** Serves it with Node, which has no server of `fetch` handlers: Effect's makes one of `node:http`. */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Console, Effect, Layer } from "effect"
import { HttpEffect, HttpServer } from "effect/http"
import { createServer } from "node:http"
import * as Server from "./Server.ts"

const [filename = "./web-standard.db", port = "3000"] = process.argv.slice(2)

const main = Effect.gen(function*() {
  const { fetch } = yield* Effect.acquireRelease(
    Effect.promise(() => Server.start({ state: Server.inSql(SqliteClient.layer({ filename })) })),
    ({ stop }) => Effect.promise(stop)
  )
  yield* HttpServer.serveEffect(HttpEffect.fromWebHandler(fetch))
  const { address } = yield* HttpServer.HttpServer
  yield* Console.log(`Listening on ${HttpServer.formatAddress(address)}`)
})

Layer.launch(Layer.effectDiscard(main)).pipe(
  Effect.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(port) })),
  NodeRuntime.runMain
)
