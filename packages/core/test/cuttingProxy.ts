/**
 * A network that breaks: a TCP proxy which cuts connections after a random number of bytes of the answer.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

/** Describes a proxy. */
export interface CuttingProxy {
  readonly port: number
  /** Counts the connections that it has cut. */
  readonly cuts: () => number
}

const page = "<!doctype html><title>reader</title>"
const pageAnswer =
  `HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ${page.length}\r\nConnection: close\r\n\r\n${page}`

/**
 * Starts a proxy. Each connection goes to what `target` answers at the time, and is cut after `random()` times `maxBytes`
 * of the answer. `GET /page` is answered with an empty page, for a browser to be at this origin.
 */
export const start = (options: {
  readonly target: () => number | undefined
  readonly random: () => number
  readonly maxBytes: number
}): Effect.Effect<CuttingProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<CuttingProxy & { readonly close: () => void }>((resume) => {
      let cuts = 0
      const sockets = new Set<Net.Socket>()
      const track = (socket: Net.Socket): Net.Socket => {
        sockets.add(socket)
        socket.on("error", () => undefined).on("close", () => sockets.delete(socket))
        return socket
      }
      const serve = (client: Net.Socket, first: Buffer) => {
        const port = options.target()
        if (first.toString("latin1").startsWith("GET /page ")) return void client.end(pageAnswer)
        if (port === undefined) return void client.destroy()
        let left = Math.floor(options.random() * options.maxBytes)
        const upstream = track(Net.connect({ host: "127.0.0.1", port }))
        upstream.write(first)
        client.on("data", (chunk) => upstream.write(chunk)).on("close", () => upstream.destroy())
        upstream.on("data", (chunk) => {
          left -= chunk.length
          if (left > 0) return void client.write(chunk)
          cuts++
          // What is before the cut arrives; the connection then breaks as one whose peer has vanished.
          client.write(chunk.subarray(0, chunk.length + left), () => client.resetAndDestroy())
          upstream.destroy()
        }).on("close", () => client.destroy())
      }
      const server = Net.createServer({ noDelay: true }, (client) => {
        track(client).once("data", (first) => serve(client, first))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed({
          port: typeof address === "object" && address !== null ? address.port : 0,
          cuts: () => cuts,
          close: () => {
            server.close()
            for (const socket of sockets) socket.destroy()
          }
        }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
