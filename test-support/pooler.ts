/**
 * Provides a pooler of PostgreSQL connections that hands them out by transaction, as PgBouncer does in that mode.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Socket } from "node:net"

export interface Pooler {
  readonly port: number
  /** Passes notifications on, or loses them. A pooler of transactions loses them, because the listener has no connection. */
  readonly passNotifications: (pass: boolean) => void
  /** Counts the connections to the server that are in the pool. */
  readonly size: () => number
}

/** Splits bytes into messages of the protocol: a type, the length of the rest, the rest. */
const splitter = (onMessage: (message: Buffer) => void) => {
  let rest = Buffer.alloc(0)
  return (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
      const end = rest.readUInt32BE(1) + 1
      const message = rest.subarray(0, end)
      rest = rest.subarray(end)
      onMessage(message)
    }
  }
}

const sslRequest = 80_877_103
const cancelRequest = 80_877_102
const isOf = (type: string) => (message: Buffer) => message[0] === type.charCodeAt(0)
const isReady = isOf("Z")
const isIdle = (message: Buffer) => message[5] === "I".charCodeAt(0)
const isNotification = isOf("A")
const isKey = isOf("K")
const endsStep = (message: Buffer) => message[0] === "S".charCodeAt(0) || message[0] === "Q".charCodeAt(0)

/** The settings that PgBouncer takes at the start of a connection. It refuses one that comes with another. */
const settings = ["user", "database", "client_encoding", "application_name", "options"]

/** Returns the names of the settings in the first message of a connection. */
const settingsIn = (startup: Buffer) =>
  startup.subarray(8).toString().split("\0").filter((text, index) => index % 2 === 0 && text !== "")

/** Writes an error that ends a connection. */
const refusal = (message: string) => {
  const fields = Buffer.from(`SFATAL\0C08P01\0M${message}\0\0`)
  const head = Buffer.from([0x45, 0, 0, 0, 0])
  head.writeUInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
}

interface Server {
  readonly socket: Socket
  owner: Client | undefined
}
interface Client {
  readonly socket: Socket
  readonly waiting: Array<Buffer>
  server: Server | undefined
  /** How many answers it waits for. */
  steps: number
}

/**
 * Starts a pooler before a server. Each client signs in at the server itself; its connection then goes to the pool, which
 * keeps `size` of them and gives them out in turn.
 */
export const pooler = (
  target: { readonly port: number; readonly size: number }
): Effect.Effect<Pooler, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Pooler & { readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        const free: Array<Server> = []
        const queue: Array<Client> = []
        const clients = new Set<Client>()
        let servers = 0
        let passes = false
        const hold = (socket: Socket) => {
          sockets.add(socket)
          socket.on("error", () => socket.destroy()).on("close", () => sockets.delete(socket))
          return socket
        }
        const give = () => {
          while (free.length > 0 && queue.length > 0) {
            const [server] = free.splice(0, 1)
            const [client] = queue.splice(0, 1)
            if (server === undefined || client === undefined) return
            server.owner = client
            client.server = server
            for (const message of client.waiting.splice(0)) server.socket.write(message)
          }
        }
        const pool = (socket: Socket) => {
          if (servers >= target.size) return void socket.end(Buffer.from([0x58, 0, 0, 0, 4]))
          servers++
          const server: Server = { socket, owner: undefined }
          socket.removeAllListeners("data").on(
            "data",
            splitter((message) => {
              if (isNotification(message)) {
                if (passes) { for (const client of clients) client.socket.write(message) }
                return
              }
              const { owner } = server
              owner?.socket.write(message)
              if (owner === undefined || !isReady(message)) return
              owner.steps--
              if (owner.steps > 0 || !isIdle(message)) return
              owner.server = undefined
              server.owner = undefined
              free.push(server)
              give()
            })
          ).on("close", () => {
            servers--
            const at = free.indexOf(server)
            if (at >= 0) free.splice(at, 1)
            server.owner?.socket.destroy()
          })
          free.push(server)
          give()
        }
        const serve = (incoming: Socket) => {
          const client: Client = { socket: incoming, waiting: [], server: undefined, steps: 0 }
          const fromClient = splitter((message) => {
            if (message[0] === "X".charCodeAt(0)) return
            if (endsStep(message)) client.steps++
            if (client.server !== undefined) return void client.server.socket.write(message)
            if (client.waiting.push(message) === 1) queue.push(client)
            give()
          })
          const signIn = (startup: Buffer) => {
            const unknown = settingsIn(startup).find((name) => !settings.includes(name))
            if (unknown !== undefined) return void incoming.end(refusal(`unsupported startup parameter: ${unknown}`))
            const outgoing = hold(connect(target.port, "127.0.0.1"))
            outgoing.write(startup)
            incoming.on("data", (chunk) => outgoing.write(chunk))
            outgoing.on(
              "data",
              splitter((message) => {
                // Its clients cannot name a connection of the server.
                if (isKey(message)) message.writeUInt32BE(0x7fff_0000 + clients.size, 5)
                if (isReady(message)) {
                  incoming.removeAllListeners("data").on("data", fromClient)
                  clients.add(client)
                  pool(outgoing)
                }
                incoming.write(message)
              })
            ).on("close", () => {
              if (!clients.has(client)) incoming.destroy()
            })
          }
          const begin = (first: Buffer) => {
            const code = first.readUInt32BE(4)
            if (code === cancelRequest) return void incoming.destroy()
            if (code !== sslRequest) return signIn(first)
            incoming.once("data", begin)
            incoming.write("N")
          }
          incoming.once("data", begin)
          incoming.on("close", () => {
            clients.delete(client)
            const at = queue.indexOf(client)
            if (at >= 0) queue.splice(at, 1)
            // What it left open is rolled back with its connection.
            client.server?.socket.destroy()
          })
        }
        const listener = createServer((incoming) => serve(hold(incoming)))
        listener.listen(0, "127.0.0.1", () => {
          const address = listener.address()
          resume(Effect.succeed({
            port: typeof address === "object" && address !== null ? address.port : 0,
            passNotifications: (pass) => {
              passes = pass
            },
            size: () => servers,
            close: () => {
              listener.close()
              for (const socket of sockets) socket.destroy()
            }
          }))
        })
      }),
      ({ close }) => Effect.sync(close)
    ),
    (pooler): Pooler => pooler
  )
