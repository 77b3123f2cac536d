/**
 * Keeps the requests that reach a server before its routes are there.
 *
 * A server of `NodeHttpServer.layer` listens as soon as that layer is built, and the layers of its routes are built after it:
 * they may wait for a database first. Node answers a request of that time never, nor does it close its connection.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"

/**
 * Keeps the requests and upgrades that reach a server between its `listen` and its first request handler, and hands them
 * to that handler. One whose client has left meanwhile is dropped. Returns the server.
 *
 * **Example** (Keeping the requests of a start)
 *
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { EarlyRequests } from "@sallyport/node"
 * import { createServer } from "node:http"
 *
 * export const Server = NodeHttpServer.layer(() => EarlyRequests.hold(createServer()), { port: 0 })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const hold = (server: Server): Server => {
  const early: Array<() => void> = []
  const keep = (request: IncomingMessage, handle: () => void) => {
    early.push(() => request.socket.destroyed || handle())
  }
  const holdRequest = (request: IncomingMessage, response: ServerResponse) =>
    keep(request, () => server.emit("request", request, response))
  const holdUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) =>
    keep(request, () => server.emit("upgrade", request, socket, head))
  const handOver = (event: string | symbol) => {
    if (event !== "request") return
    server.off("newListener", handOver)
    // The event comes before the listener is added, and those of the other events are added in the same turn.
    queueMicrotask(() => {
      server.off("request", holdRequest).off("upgrade", holdUpgrade)
      for (const handle of early) handle()
    })
  }
  return server.on("request", holdRequest).on("upgrade", holdUpgrade).on("newListener", handOver)
}
