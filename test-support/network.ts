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
  /** Lets connections through again, perhaps to another server than before. */
  readonly join: (server: { readonly url: string }) => void
  /**
   * Keeps every open connection open, or each on which the client has sent a text, but lets nothing more through it. New ones
   * work.
   */
  readonly silence: (having?: string) => void
  /** Does something to a connection when a client sends a text on it. That text is not passed on, unless it is to pass. */
  readonly onText: (text: string, then: "silence" | "cut" | "pass") => void
}

/** Forwards connections to a server, under an address that outlives it. */
export const network = (server: { readonly url: string }): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Network & { readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        const open = new Set<Socket>()
        const sent = new WeakMap<Socket, string>()
        let port: number | undefined = Number(new URL(server.url).port)
        const silent = new Set<Socket>()
        const watched = new Map<string, "silence" | "cut" | "pass">()
        const forward = (from: Socket, to: Socket, incoming: Socket) =>
          from.on("data", (chunk) => {
            if (silent.has(incoming)) return
            if (from === incoming) {
              sent.set(from, `${sent.get(from) ?? ""}${chunk.toString("latin1")}`.slice(0, 100_000))
            }
            for (const [text, then] of from === incoming ? watched : []) {
              if (then === "pass" || !chunk.includes(text)) continue
              if (then === "cut") return void incoming.resetAndDestroy()
              return void silent.add(incoming)
            }
            to.write(chunk)
          })
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
          forward(incoming, outgoing, incoming)
          forward(outgoing, incoming, incoming)
          open.add(incoming)
          incoming.on("close", () => outgoing.destroy())
          outgoing.on("close", () => incoming.destroy())
        })
        listener.listen(0, "127.0.0.1", () => {
          const address = listener.address()
          const own = typeof address === "object" && address !== null ? address.port : 0
          resume(Effect.succeed({
            url: `http://127.0.0.1:${own}`,
            cut,
            silence: (having = "") => {
              for (const socket of open) if (sent.get(socket)?.includes(having)) silent.add(socket)
            },
            onText: (text, then) => void watched.set(text, then),
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
