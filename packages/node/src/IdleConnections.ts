/**
 * Ends the connections that a server keeps for a next request, once it stops.
 *
 * `close` of Node's server ends those that are idle at that moment. One that is busy then, as with a stream that ends because
 * the server stops, is kept for the client's next request, which never comes, and holds the stop up.
 */
import type { Server } from "node:http"

/**
 * Makes a server that is closing end each connection as soon as its answer is complete. Returns the server.
 *
 * **Gotchas**
 *
 * `EarlyRequests.hold` takes the first listener that is added after it for the routes', so it goes around this.
 *
 * **Example** (Stopping at once)
 *
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { EarlyRequests, IdleConnections } from "@sallyport/node"
 * import { createServer } from "node:http"
 *
 * export const Server = NodeHttpServer.layer(
 *   () => EarlyRequests.hold(IdleConnections.endWith(createServer())),
 *   { port: 0 }
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const endWith = (server: Server): Server =>
  server.on("request", (_request, response) => {
    response.once("close", () => {
      // The connection becomes idle in this turn.
      if (!server.listening) setImmediate(() => server.closeIdleConnections())
    })
  })
