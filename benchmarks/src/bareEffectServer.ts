/** Runs the smallest server of Effect: one route, nothing stored. It prints its address as `serve --json` does. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"

const announcement = Layer.effectDiscard(Effect.flatMap(
  HttpServer.HttpServer,
  ({ address }) => Console.log(JSON.stringify({ url: HttpServer.formatAddress(address) }))
))

HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.text("here")), {
  disableListenLog: true,
  disableLogger: true
}).pipe(
  Layer.merge(announcement),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
  Layer.launch,
  NodeRuntime.runMain
)
