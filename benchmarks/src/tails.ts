/**
 * Measures how long an event takes from before its append to many readers, each on its own connection, and what readers
 * cost.
 */
import { once } from "node:events"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { spawnServer } from "./processes.ts"
import { open, openTails } from "./runReaders.ts"
import { connect } from "./streams.ts"

interface Tail {
  readonly name: string
  readonly p50: number
  readonly p99: number
  /** Bytes of the server's heap for each reader, if the server can say. */
  readonly heap: number | undefined
}

type Server = Awaited<ReturnType<typeof spawnServer>>

/** How many readers there are, how often an event is appended, and how many events. The first 20 only warm up. */
const loads = [[100, 20, 200], [1_000, 100, 60]] as const

/** Follows a run. The server itself appends, as a host's program does. */
const ofRun = async ({ ask, hello }: Server, name: string): Promise<ReadonlyArray<Tail>> => {
  const headers = { authorization: `Bearer ${hello.token}` }
  const measured: Array<Tail> = []
  for (const [readers, everyMillis, count] of loads) {
    const runId = await ask({ start: `tail ${readers}` })
    const before = await ask({ memory: true })
    const following = await openTails({ port: hello.port, path: `/api/runs/${runId}/events`, headers }, readers)
    const after = await ask({ memory: true })
    for (const times of [20, count]) {
      await ask({ append: runId, count: times, everyMillis })
      const { p50, p99 } = await following.take(times * readers)
      if (times === count) {
        measured.push({ name: `${readers} readers, ${name}`, p50, p99, heap: (after.heap - before.heap) / readers })
      }
    }
    following.close()
  }
  return measured
}

/** Follows a stream of the Durable Streams protocol. Events are appended over HTTP, and that is part of the time. */
const ofStream = async ({ hello }: Server, name: string): Promise<ReadonlyArray<Tail>> => {
  const headers: Record<string, string> = hello.token === "" ? {} : { authorization: `Bearer ${hello.token}` }
  const writer = await connect(hello)
  const measured: Array<Tail> = []
  for (const [readers, everyMillis, count] of loads) {
    const stream = `tail-${readers}`
    await writer.create(stream)
    const address = { port: hello.port, path: `${hello.streams}/${stream}?offset=now&live=sse`, headers }
    const following = await openTails(address, readers)
    for (const times of [20, count]) {
      for (let index = 0; index < times; index++) {
        const next = new Promise((resolve) => setTimeout(resolve, everyMillis))
        await writer.append(stream, `{"at":${process.hrtime.bigint() / 1_000n}}`)
        await next
      }
      const { p50, p99 } = await following.take(times * readers)
      if (times === count) measured.push({ name: `${readers} readers, ${name}`, p50, p99, heap: undefined })
    }
    following.close()
  }
  writer.close()
  return measured
}

/** Replays a long run over SSE, and prints the best rate of a few. */
const replay = async ({ ask, hello }: Server): Promise<void> => {
  const total = 200_000
  const runId = await ask({ fill: total, bytes: 60 })
  const headers = { authorization: `Bearer ${hello.token}`, connection: "close" }
  const times: Array<number> = []
  for (let round = 0; round < 4; round++) {
    const begin = performance.now()
    const socket = await open({ port: hello.port, path: `/api/runs/${runId}/events`, headers }, () => undefined)
    await once(socket, "close")
    times.push(total / (performance.now() - begin))
  }
  console.log(`Replay over SSE: ${Math.max(...times).toFixed(0)} k events/s (asked: at least 200)\n`)
}

const readerInProcess = async ({ ask }: Server): Promise<void> => {
  const runId = await ask({ start: "in process" })
  const bytes = await ask({ follow: 1_000, of: runId })
  console.log(`Memory of a reader in process: ${(bytes / 1024).toFixed(1)} KiB (asked: at most 16)\n`)
}

/** Measures and prints what readers of Sallyport's runs and streams see, and readers of the peer's streams. */
export const run = async (directory: string): Promise<void> => {
  const peerDirectory = join(directory, "peer-tails")
  mkdirSync(peerDirectory)
  const measured: Array<Tail> = []
  const on = async (
    program: string,
    args: ReadonlyArray<string>,
    measure: (server: Server) => Promise<ReadonlyArray<Tail> | void>
  ) => {
    const server = await spawnServer(program, args)
    measured.push(...await measure(server) ?? [])
    await server.stop()
  }
  const database = join(directory, "tail.db")
  await on("./runServer.ts", [database], (server) => ofRun(server, "a run on SQLite"))
  await on("./runServer.ts", ["memory"], (server) => ofRun(server, "a run in memory"))
  await on("./bareServer.ts", [], (server) => ofRun(server, "bare node:http, nothing stored"))
  await on("./runServer.ts", [database], (server) => ofStream(server, "a stream on SQLite"))
  await on("./peerServer.ts", [], (server) => ofStream(server, "its stream in memory"))
  await on("./peerServer.ts", [peerDirectory], (server) => ofStream(server, "its stream on files"))
  await on("./runServer.ts", [database], replay)
  await on("./runServer.ts", ["memory"], readerInProcess)
  console.log(
    "From before the append to the reader, in milliseconds (asked: 100 readers p50 <= 3, 1,000 readers p99 <= 25)"
  )
  for (const { heap, name, p50, p99 } of measured) {
    console.log(
      `  ${name.padEnd(46)} p50 ${p50.toFixed(1).padStart(6)}   p99 ${p99.toFixed(1).padStart(6)}` +
        (heap === undefined ? "" : `   ${(heap / 1024).toFixed(0).padStart(4)} KiB of heap a reader`)
    )
  }
  console.log("")
}
