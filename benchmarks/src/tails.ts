/**
 * How long an event takes from before its append to many readers, each on its own connection, and the cost of readers.
 */
import { once } from "node:events"
import { join } from "node:path"
import type { Row, Section } from "./measure.ts"
import { spawnServer } from "./processes.ts"
import { open, openTails } from "./runReaders.ts"
import { connect } from "./streams.ts"

interface Tail {
  readonly readers: number
  readonly p50: number
  readonly p99: number
}

type Server = Awaited<ReturnType<typeof spawnServer>>

/** How many readers there are, how often an event is appended, and how many events. The first 20 only warm up. */
const loads = [[100, 20, 200], [1_000, 100, 60]] as const

/** Follows a run. The server itself appends, as a host's program does. */
const ofRun = async ({ ask, hello }: Server): Promise<ReadonlyArray<Tail>> => {
  const headers = { authorization: `Bearer ${hello.token}` }
  const measured: Array<Tail> = []
  for (const [readers, everyMillis, count] of loads) {
    const runId = await ask({ start: `tail ${readers}` })
    const following = await openTails({ port: hello.port, path: `/api/runs/${runId}/events`, headers }, readers)
    for (const times of [20, count]) {
      await ask({ append: runId, count: times, everyMillis })
      const { p50, p99 } = await following.take(times * readers)
      if (times === count) measured.push({ readers, p50, p99 })
    }
    following.close()
  }
  return measured
}

/** Follows a stream of the Durable Streams protocol. Events are appended over HTTP, and that is part of the time. */
const ofStream = async ({ hello }: Server): Promise<ReadonlyArray<Tail>> => {
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
      if (times === count) measured.push({ readers, p50, p99 })
    }
    following.close()
  }
  writer.close()
  return measured
}

/** Replays a long run over SSE, and takes the best rate of a few. */
const replay = async ({ ask, hello }: Server): Promise<Row> => {
  const total = 200_000
  const runId = await ask({ fill: total, bytes: 60 })
  const headers = { authorization: `Bearer ${hello.token}`, connection: "close" }
  const rates: Array<number> = []
  for (let round = 0; round < 4; round++) {
    const begin = performance.now()
    const socket = await open({ port: hello.port, path: `/api/runs/${runId}/events`, headers }, () => undefined)
    await once(socket, "close")
    rates.push(total / (performance.now() - begin) * 1_000)
  }
  return { path: "replay over SSE", ours: Math.max(...rates), against: "asked", theirs: 500_000, asked: 1 }
}

const readerInProcess = async ({ ask }: Server): Promise<Row> => {
  const runId = await ask({ start: "in process" })
  const bytes = await ask({ follow: 1_000, of: runId })
  return { path: "a reader in process", ours: bytes / 1024, against: "asked", theirs: 16, unit: "KiB", asked: 1 }
}

const on = async <A>(
  program: string,
  args: ReadonlyArray<string>,
  measure: (server: Server) => Promise<A>
): Promise<A> => {
  const server = await spawnServer(program, args)
  const measured = await measure(server)
  await server.stop()
  return measured
}

/** Compares latencies from before an append to its readers, with as many readers. */
const compare = (
  path: string,
  ours: ReadonlyArray<Tail>,
  against: string,
  theirs: ReadonlyArray<Tail>,
  asked: { readonly p50: number | null; readonly p99: number | null }
): ReadonlyArray<Row> =>
  ours.flatMap((tail, index) =>
    (["p50", "p99"] as const).map((quantile): Row => ({
      path: `${path}, ${tail.readers} readers, ${quantile}`,
      ours: tail[quantile],
      against,
      theirs: theirs[index]?.[quantile] ?? Number.NaN,
      unit: "ms",
      asked: asked[quantile]
    }))
  )

/** The rows of readers: the latency of our runs and streams, of the peer's streams, and what they cost. */
export const sections: ReadonlyArray<Section> = [
  {
    name: "tail of a run",
    measure: async (directory) => {
      const bare = await on("./bareServer.ts", [], ofRun)
      const sqlite = await on("./runServer.ts", [join(directory, "tail.db")], ofRun)
      const memory = await on("./runServer.ts", ["memory"], ofRun)
      const against = "bare node:http, stores nothing"
      return [
        ...compare("tail, SQLite", sqlite, against, bare, { p50: 1.5, p99: 1.3 }),
        ...compare("tail, memory", memory, against, bare, { p50: null, p99: null })
      ]
    }
  },
  {
    name: "tail of a stream",
    measure: async (directory) => {
      const sqlite = await on("./runServer.ts", [join(directory, "tail.db")], ofStream)
      const memory = await on("./runServer.ts", ["memory"], ofStream)
      const peerMemory = await on("./peerServer.ts", [], ofStream)
      const peerFiles = await on("./peerServer.ts", [directory], ofStream)
      return [
        ...compare("stream, memory", memory, "@durable-streams/server, memory", peerMemory, { p50: 1, p99: 1 }),
        ...compare("stream, SQLite", sqlite, "@durable-streams/server, files", peerFiles, { p50: null, p99: null })
      ]
    }
  },
  {
    name: "replay over SSE",
    measure: async (directory) => [await on("./runServer.ts", [join(directory, "replay.db")], replay)]
  },
  { name: "reader in process", measure: async () => [await on("./runServer.ts", ["memory"], readerInProcess)] }
]
