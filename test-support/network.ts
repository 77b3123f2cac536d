/**
 * Provides a network between clients and a server that a test can cut.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Socket } from "node:net"

export interface Network {
  readonly url: string
  /** Cuts every connection, and refuses new ones. */
  readonly cut: () => void
  /** Lets connections through again, possibly to another server. */
  readonly join: (server: { readonly url: string }) => void
}

/** Forwards connections to a server, under an address that outlives it. */
export const network = (server: { readonly url: string }): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Network & { readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        let port: number | undefined = Number(new URL(server.url).port)
        const hold = (socket: Socket) => {
          sockets.add(socket)
          socket.on("error", () => socket.destroy())
          socket.on("close", () => sockets.delete(socket))
          return socket
        }
        const cut = () => {
          port = undefined
          for (const socket of sockets) socket.resetAndDestroy()
        }
        const listener = createServer((incoming) => {
          hold(incoming)
          if (port === undefined) return incoming.resetAndDestroy()
          const outgoing = hold(connect(port, "127.0.0.1"))
          incoming.pipe(outgoing)
          outgoing.pipe(incoming)
          incoming.on("close", () => outgoing.destroy())
          outgoing.on("close", () => incoming.destroy())
        })
        listener.listen(0, "127.0.0.1", () => {
          const address = listener.address()
          const own = typeof address === "object" && address !== null ? address.port : 0
          resume(Effect.succeed({
            url: `http://127.0.0.1:${own}`,
            cut,
            join: (next) => {
              port = Number(new URL(next.url).port)
            },
            close: () => {
              cut()
              listener.close()
            }
          }))
        })
      }),
      ({ close }) => Effect.sync(close)
    ),
    (network): Network => network
  )
