/**
 * Measures appends to streams of the Durable Streams protocol, Sallyport's and the peer's: over HTTP, one event a
 * request.
 */
import { once } from "node:events"
import { mkdirSync } from "node:fs"
import * as Net from "node:net"
import { join } from "node:path"
import { median, type Row } from "./measure.ts"
import { type Hello, spawnServer } from "./processes.ts"

const head = (hello: Hello, method: string, path: string, length: number) =>
  `${method} ${hello.streams}/${path} HTTP/1.1\r\nhost: 127.0.0.1:${hello.port}\r\ncontent-type: application/json\r\n` +
  `${hello.token === "" ? "" : `authorization: Bearer ${hello.token}\r\n`}content-length: ${length}\r\n\r\n`

/**
 * Opens a connection that sends one request after another and costs next to nothing, so that it measures the server.
 */
export const connect = async (hello: Hello) => {
  const socket = Net.connect({ host: "127.0.0.1", port: hello.port, noDelay: true })
  await once(socket, "connect")
  let answer = ""
  let answered: (status: number) => void = () => undefined
  socket.on("data", (chunk) => {
    answer += chunk.toString("latin1")
    // An answer here has no body, or one in chunks.
    if (!answer.endsWith("\r\n\r\n")) return
    const status = Number(answer.slice(9, 12))
    answer = ""
    answered(status)
  })
  const send = (request: string) =>
    new Promise<number>((resolve) => {
      answered = resolve
      socket.write(request)
    })
  return {
    create: async (path: string) => {
      const status = await send(head(hello, "PUT", path, 0))
      if (status !== 201) throw new Error(`The stream was not created: ${status}`)
    },
    append: async (path: string, event: string) => {
      const request = head(hello, "POST", path, event.length) + event
      let status = await send(request)
      // Under load the peer's file store briefly reports that a new stream does not exist.
      for (let attempt = 0; status === 404 && attempt < 100; attempt++) {
        await new Promise((resolve) => setTimeout(resolve, 50))
        status = await send(request)
      }
      if (status !== 200 && status !== 204) throw new Error(`The event was not appended: ${status}`)
    },
    close: () => socket.destroy()
  }
}

let streams = 0

/** Makes writers append, each to its own stream, for a while, and returns the events a second. */
export const rate = async (hello: Hello, writers: number, millis: number): Promise<number> => {
  const event = JSON.stringify({ type: "token", text: "x".repeat(80) })
  const open = await Promise.all(
    Array.from({ length: writers }, async () => ({ path: `bench-${++streams}`, connection: await connect(hello) }))
  )
  for (const { connection, path } of open) await connection.create(path)
  let appended = 0
  const begin = performance.now()
  await Promise.all(open.map(async ({ connection, path }) => {
    while (performance.now() < begin + millis) {
      await connection.append(path, event)
      appended++
    }
  }))
  const seconds = (performance.now() - begin) / 1000
  for (const { connection } of open) connection.close()
  return appended / seconds
}

/** Measures appends on SQLite and in memory against the floor and the peer's two stores, in turns. */
export const appends = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const peerDirectory = join(directory, "peer")
  mkdirSync(peerDirectory)
  const servers = {
    sqlite: await spawnServer("./runServer.ts", [join(directory, "streams.db")]),
    floor: await spawnServer("./floorServer.ts", [join(directory, "floor.db")]),
    peerMemory: await spawnServer("./peerServer.ts", []),
    memory: await spawnServer("./runServer.ts", ["memory"]),
    peerFiles: await spawnServer("./peerServer.ts", [peerDirectory])
  }
  const rows: Array<Row> = []
  for (const { hello } of Object.values(servers)) await rate(hello, 16, 1_500)
  for (const writers of [1, 16, 64]) {
    const samples = new Map(Object.keys(servers).map((name) => [name, new Array<number>()]))
    for (let round = 0; round < 5; round++) {
      for (const [name, { hello }] of Object.entries(servers)) {
        samples.get(name)?.push(await rate(hello, writers, 1_000))
      }
    }
    const row = (
      store: "SQLite" | "memory",
      against: string,
      theirs: keyof typeof servers,
      asked: number | null
    ): Row => ({
      path: `append over HTTP, ${writers} writer${writers === 1 ? "" : "s"}, ${store}`,
      ours: median(samples.get(store === "SQLite" ? "sqlite" : "memory") ?? []),
      against,
      theirs: median(samples.get(theirs) ?? []),
      asked
    })
    rows.push(
      row("SQLite", "node:http and node:sqlite", "floor", 0.7),
      row("SQLite", "@durable-streams/server, files", "peerFiles", null),
      row("memory", "@durable-streams/server, memory", "peerMemory", null)
    )
  }
  for (const server of Object.values(servers)) await server.stop()
  return rows
}
