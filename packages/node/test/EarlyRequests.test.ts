import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as EarlyRequests from "@sallyport/node/EarlyRequests"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { once } from "node:events"
import { createServer } from "node:http"
import { connect } from "node:net"

const Routes = Layer.mergeAll(
  HttpRouter.add(
    "POST",
    "/echo",
    HttpServerRequest.HttpServerRequest.use((request) =>
      Effect.map(request.text, (text) => HttpServerResponse.text(text))
    )
  ),
  HttpRouter.add(
    "GET",
    "/socket",
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const socket = yield* request.upgrade
      const reader = yield* socket.reader
      yield* Effect.ignore(Effect.forever(reader.pull))
      return HttpServerResponse.empty()
    })
  )
)

describe("EarlyRequests", () => {
  it.live("OPS-01: requests and upgrades that come while the routes are built are answered by them; one that left costs nothing", () =>
    Effect.gen(function*() {
      const built = yield* Deferred.make<void>()
      const node = createServer()
      const server = HttpRouter.serve(Layer.unwrap(Effect.as(Deferred.await(built), Routes)), {
        disableListenLog: true,
        disableLogger: true
      }).pipe(
        Layer.provide(
          NodeHttpServer.layer(() => EarlyRequests.hold(node), {
            host: "127.0.0.1",
            port: 0,
            gracefulShutdownTimeout: "1 second"
          })
        )
      )
      let arrived = 0
      const haveArrived = Effect.callback<void>((resume) => {
        node.on("connection", () => ++arrived === 4 ? resume(Effect.void) : undefined)
      })
      const arriving = yield* Effect.forkScoped(haveArrived, { startImmediately: true })
      const building = yield* Effect.forkScoped(Layer.build(server), { startImmediately: true })
      yield* Effect.promise(() => once(node, "listening"))
      const address = node.address()
      const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
      const echo = (body: string) =>
        Effect.promise(() => fetch(`${url}/echo`, { method: "POST", body }).then((response) => response.text()))
      const early = yield* Effect.forkScoped(
        Effect.all([echo("one"), echo("two")], { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      const opened = Effect.promise(() => {
        const socket = new WebSocket(`${url.replace("http", "ws")}/socket`)
        return new Promise<string>((resolve) => {
          socket.addEventListener("open", () => {
            socket.close()
            resolve("open")
          })
          socket.addEventListener("error", () => resolve("error"))
        })
      })
      const upgrading = yield* Effect.forkScoped(opened, { startImmediately: true })
      const left = connect(Number(new URL(url).port), "127.0.0.1")
      left.write("POST /echo HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 3\r\n\r\nx")
      yield* Fiber.join(arriving)
      yield* Effect.sleep("100 millis")
      left.resetAndDestroy()
      yield* Effect.sleep("100 millis")
      yield* Deferred.succeed(built, undefined)
      yield* Fiber.join(building)
      assert.deepStrictEqual(yield* Fiber.join(early), ["one", "two"])
      assert.strictEqual(yield* Fiber.join(upgrading), "open")
      // And so are all that come later.
      assert.strictEqual(yield* echo("three"), "three")
      assert.strictEqual(yield* opened, "open")
    }).pipe(Effect.scoped))
})
