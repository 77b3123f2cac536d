import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as EarlyRequests from "@sallyport/node/EarlyRequests"
import * as IdleConnections from "@sallyport/node/IdleConnections"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Http from "node:http"

const routesUntil = (end: Effect.Effect<void>) =>
  Layer.mergeAll(
    HttpRouter.add(
      "GET",
      "/stream",
      Effect.succeed(
        HttpServerResponse.stream(
          Stream.make("so far").pipe(Stream.concat(Stream.never), Stream.interruptWhen(end), Stream.encodeText)
        )
      )
    ),
    HttpRouter.add("GET", "/waits", Effect.as(end, HttpServerResponse.text("stopping"))),
    HttpRouter.add("GET", "/at-once", HttpServerResponse.text("done"))
  )

describe("a server that stops", () => {
  it.live("HTTP-04 C-79: waits for no connection that a client keeps, whatever it carried last, and cuts no answer", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      // The stop would wait for an hour if a connection stayed open, and the test runs out of time.
      const end = yield* Deferred.make<void>()
      const routes = routesUntil(Deferred.await(end))
      const server = HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
        Layer.provideMerge(
          NodeHttpServer.layer(
            () => EarlyRequests.hold(IdleConnections.endWith(Http.createServer({ keepAliveTimeout: 3_600_000 }))),
            { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: "1 hour" }
          )
        )
      )
      const { address } = Context.get(yield* Layer.buildWithScope(server, scope), HttpServer.HttpServer)
      const agent = new Http.Agent({ keepAlive: true })
      const begin = (path: string) =>
        Effect.gen(function*() {
          const begun = yield* Deferred.make<void>()
          const whole = yield* Deferred.make<string, Error>()
          yield* Effect.callback<void>((resume) => {
            let text = ""
            const fail = (error: Error) => Deferred.doneUnsafe(whole, Effect.fail(error))
            Http.get(HttpServer.formatAddress(address) + path, { agent }, (response) => {
              response.setEncoding("utf8").on("error", fail)
              response.on("data", (chunk: string) => {
                text += chunk
                Deferred.doneUnsafe(begun, Effect.void)
              })
              response.on("end", () => Deferred.doneUnsafe(whole, Effect.succeed(text)))
            }).on("error", fail).on("finish", () => resume(Effect.void))
          })
          return { begun: Deferred.await(begun), whole: Deferred.await(whole) }
        })
      const stream = yield* begin("/stream")
      yield* stream.begun
      const waiting = yield* begin("/waits")
      const idle = yield* begin("/at-once")
      assert.strictEqual(yield* idle.whole, "done")
      const closed = yield* Effect.forkScoped(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Effect.sleep("50 millis")
      yield* Deferred.succeed(end, undefined)
      assert.strictEqual(yield* stream.whole, "so far")
      assert.strictEqual(yield* waiting.whole, "stopping")
      yield* Fiber.join(closed)
      agent.destroy()
    }).pipe(Effect.scoped))
})
