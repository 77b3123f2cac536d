import type { IncomingMessage, Server, ServerResponse } from "node:http"

/**
 * Keeps the requests that reach a server between its `listen` and its first request handler, and hands them to that
 * handler. Without it they are never answered: a browser that reconnects while the server starts would wait for ever.
 */
export const holdEarlyRequests = (server: Server): Server => {
  const early: Array<readonly [IncomingMessage, ServerResponse]> = []
  const hold = (request: IncomingMessage, response: ServerResponse) => {
    early.push([request, response])
  }
  const handOver = (event: string | symbol) => {
    if (event !== "request") return
    server.off("newListener", handOver)
    // The event comes before the listener is added, in the same turn.
    queueMicrotask(() => {
      server.off("request", hold)
      for (const [request, response] of early) server.emit("request", request, response)
    })
  }
  return server.on("request", hold).on("newListener", handOver)
}
