/**
 * A proxy that gives the nodes their requests by turns. A node that refuses the connection is left out, and the next one gets
 * the request. It is as small as it can be: use nginx, HAProxy or what your platform has.
 */
import { Effect, type Scope } from "effect"
import * as Http from "node:http"

export interface Options {
  /** The addresses of the nodes. */
  readonly nodes: ReadonlyArray<string>
  readonly port: number
}

const forward = (
  nodes: ReadonlyArray<string>,
  incoming: Http.IncomingMessage,
  answer: Http.ServerResponse
): void => {
  const [node, ...others] = nodes
  if (node === undefined) {
    answer.writeHead(503, { "retry-after": "1" }).end()
    return
  }
  let isConnected = false
  const outgoing = Http.request(new URL(incoming.url ?? "/", node), {
    agent: false,
    method: incoming.method,
    headers: { ...incoming.headers, "x-forwarded-for": incoming.socket.remoteAddress }
  })
  outgoing.on("socket", (socket) =>
    socket.once("connect", () => {
      isConnected = true
      incoming.pipe(outgoing)
    }))
  outgoing.on("response", (response) => {
    answer.writeHead(response.statusCode ?? 502, response.rawHeaders)
    response.on("error", () => answer.destroy())
    // Not a pipe alone: an answer that was cut off must not look whole.
    response.pipe(answer)
  })
  outgoing.on("error", () => {
    // A request that has reached a node may have been done; only its sender knows whether it can be sent again.
    if (isConnected) answer.destroy()
    else forward(others, incoming, answer)
  })
  answer.on("close", () => outgoing.destroy())
}

/** Starts the proxy, which stops with the scope, and returns its address. */
export const start = ({ nodes, port }: Options): Effect.Effect<string, Error, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Http.Server, Error>((resume) => {
      let turn = 0
      const server = Http.createServer((incoming, answer) => {
        const first = turn++ % nodes.length
        forward([...nodes.slice(first), ...nodes.slice(0, first)], incoming, answer)
      })
      server.on("error", (error) => resume(Effect.fail(error)))
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  ).pipe(Effect.map((server) => {
    const address = server.address()
    return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : port}`
  }))
