/**
 * Bounds what a WebSocket may hold: a client that does not read would have the server keep all that it is sent, and a
 * message is kept until it is whole.
 */
import * as NodeWS from "@effect/platform-node/NodeWS"

/** How much a client may send at once: as much as with a request. */
const maxMessageBytes = 256 * 1024
/** How much may wait to be sent on one socket. */
const maxWaitingBytes = 16 * 1024 * 1024

type Send = NodeWS.WebSocket["send"]

class BoundedWebSocket extends NodeWS.WebSocket {
  override send(data: Parameters<Send>[0], options?: unknown, done?: unknown): void {
    // The reader connects again, and goes on from where it was.
    if (this.bufferedAmount > maxWaitingBytes) return this.terminate()
    Reflect.apply(super.send, this, [data, options, done])
  }
}

/**
 * Holds the options of a server's WebSockets, for `NodeHttpServer.layer`. A socket on which more than 16 MiB wait is cut, and
 * so is one whose client does not answer within five seconds that it is closed. A message of a client of more than 256 KiB
 * closes its socket.
 *
 * **Example** (Bounding the WebSockets of a server)
 *
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { WebSockets } from "@sallyport/node"
 * import { createServer } from "node:http"
 *
 * export const Server = NodeHttpServer.layer(createServer, { port: 0, websocket: WebSockets.serverOptions })
 * ```
 *
 * @category constants
 * @since 0.1.0
 */
export const serverOptions: {
  readonly WebSocket: typeof NodeWS.WebSocket
  readonly closeTimeout: number
  readonly maxPayload: number
} = { WebSocket: BoundedWebSocket, closeTimeout: 5_000, maxPayload: maxMessageBytes }
