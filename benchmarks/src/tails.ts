/**
 * How long an event takes from before its append to many readers, each on its own connection, and the cost of readers.
 */
import { once } from "node:events"
import { join } from "node:path"
import { median, type Row, type Section } from "./measure.ts"
import { spawnServer } from "./processes.ts"
import { open, openTails } from "./runReaders.ts"
import { connect } from "./streams.ts"

interface Load {
  readonly readers: number
  /** How often an event is appended. */
  readonly everyMillis: number
  /** How many events only warm up, and how many are measured. */
  readonly counts: readonly [number, number]
  readonly rounds: number
}

const loads: ReadonlyArray<Load> = [
  { readers: 100, everyMillis: 20, counts: [20, 200], rounds: 3 },
  { readers: 1_000, everyMillis: 100, counts: [20, 60], rounds: 3 },
  { readers: 10_000, everyMillis: 1_000, counts: [2, 8], rounds: 1 }
]

/** What is measured of readers, in this order: milliseconds, microseconds for each reader and event, KiB for each reader. */
const quantities = ["p50", "p99", "CPU of the server", "memory of the server"] as const
type Tail = Readonly<Record<typeof quantities[number], number>>
const units = { p50: "ms", p99: "ms", "CPU of the server": "µs", "memory of the server": "KiB" } as const

type Server = Awaited<ReturnType<typeof spawnServer>>

const measureTail = async (
  { ask }: Server,
  { counts, readers }: Load,
  follow: () => ReturnType<typeof openTails>,
  append: (count: number) => Promise<unknown>
): Promise<Tail> => {
  const before = await ask({ memory: true })
  const following = await follow()
  await append(counts[0])
  await following.take(counts[0] * readers)
  const open = await ask({ memory: true })
  await append(counts[1])
  const { p50, p99 } = await following.take(counts[1] * readers)
  const after = await ask({ memory: true })
  following.close()
  return {
    p50,
    p99,
    "CPU of the server": (after.cpuMicros - open.cpuMicros) / readers / counts[1],
    "memory of the server": (open.resident - before.resident) / readers / 1024
  }
}

/** Follows a run. The server itself appends, as a host's program does. */
const ofRun = async (server: Server, load: Load): Promise<Tail> => {
  const { ask, hello } = server
  const runId = await ask({ start: `tail ${load.readers}` })
  const headers = { authorization: `Bearer ${hello.token}` }
  return measureTail(
    server,
    load,
    () => openTails({ port: hello.port, path: `/api/runs/${runId}/events`, headers }, load.readers),
    (count) => ask({ append: runId, count, everyMillis: load.everyMillis })
  )
}

let streams = 0

/** Follows a stream of the Durable Streams protocol. Events are appended over HTTP, and that is part of the time. */
const ofStream = async (server: Server, load: Load): Promise<Tail> => {
  const { hello } = server
  const headers: Record<string, string> = hello.token === "" ? {} : { authorization: `Bearer ${hello.token}` }
  const writer = await connect(hello)
  // A file is one contestant's in each round, and has the streams of the rounds before.
  const stream = `tail-${++streams}`
  await writer.create(stream)
  const measured = await measureTail(
    server,
    load,
    () =>
      openTails({ port: hello.port, path: `${hello.streams}/${stream}?offset=now&live=sse`, headers }, load.readers),
    async (count) => {
      for (let index = 0; index < count; index++) {
        const next = new Promise((resolve) => setTimeout(resolve, load.everyMillis))
        await writer.append(stream, `{"at":${process.hrtime.bigint() / 1_000n}}`)
        await next
      }
    }
  )
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

interface Contestant {
  readonly name: string
  readonly program: string
  readonly args: ReadonlyArray<string>
}

/** Compares pairs of contestants, all by turns. `asked` names a quantity, or one with so many readers. */
const compare = async (
  path: string,
  measured: ReadonlyArray<Load>,
  measure: (server: Server, load: Load) => Promise<Tail>,
  pairs: ReadonlyArray<
    readonly [ours: Contestant, theirs: Contestant, asked: Readonly<Record<string, number>> | undefined]
  >
): Promise<ReadonlyArray<Row>> => {
  const rows: Array<Row> = []
  for (const load of measured) {
    const taken = new Map<Contestant, Array<Tail>>()
    for (let round = 0; round < load.rounds; round++) {
      for (const contestant of new Set(pairs.flatMap(([ours, theirs]) => [theirs, ours]))) {
        const tail = await on(contestant.program, contestant.args, (server) => measure(server, load))
        taken.set(contestant, [...taken.get(contestant) ?? [], tail])
      }
    }
    const middle = (contestant: Contestant, quantity: typeof quantities[number]) =>
      median((taken.get(contestant) ?? []).map((tail) => tail[quantity]))
    for (const [ours, theirs, asked] of pairs) {
      for (const quantity of quantities) {
        rows.push({
          path: `${path}, ${ours.name}, ${load.readers} readers, ${quantity}`,
          ours: middle(ours, quantity),
          against: theirs.name,
          theirs: middle(theirs, quantity),
          unit: units[quantity],
          asked: asked?.[`${load.readers} ${quantity}`] ?? (load.readers > 1_000 ? null : asked?.[quantity] ?? null)
        })
      }
    }
  }
  return rows
}

/** The rows of readers: the latency of our runs and streams, of the peer's streams, and what they cost. */
export const sections: ReadonlyArray<Section> = [
  {
    name: "tail of a run",
    measure: (directory) => {
      const bare = { name: "bare node:http, stores nothing", program: "./bareServer.ts", args: [] }
      const sqlite = { name: "SQLite", program: "./runServer.ts", args: [join(directory, "tail.db")] }
      const memory = { name: "memory", program: "./runServer.ts", args: ["memory"] }
      return compare("tail", loads, ofRun, [[sqlite, bare, { p50: 1.5, p99: 1.3, "10000 p99": 1.5 }], [
        memory,
        bare,
        undefined
      ]])
    }
  },
  {
    name: "tail of a stream",
    measure: (directory) => {
      const peer = { name: "@durable-streams/server, memory", program: "./peerServer.ts", args: [] }
      const peerFiles = { name: "@durable-streams/server, files", program: "./peerServer.ts", args: [directory] }
      const sqlite = { name: "SQLite", program: "./runServer.ts", args: [join(directory, "tail.db")] }
      const memory = { name: "memory", program: "./runServer.ts", args: ["memory"] }
      return compare("stream", loads.slice(0, 2), ofStream, [
        [memory, peer, { p50: 1, p99: 1 }],
        [sqlite, peer, { p50: 1, p99: 1 }],
        [sqlite, peerFiles, undefined]
      ])
    }
  },
  {
    name: "replay over SSE",
    measure: async (directory) => [await on("./runServer.ts", [join(directory, "replay.db")], replay)]
  },
  { name: "reader in process", measure: async () => [await on("./runServer.ts", ["memory"], readerInProcess)] }
]
