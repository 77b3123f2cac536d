/**
 * Runs the peer for streams: `@durable-streams/server`, in memory or on files below the directory that is the argument.
 */
import { DurableStreamTestServer } from "@durable-streams/server"
import { once } from "node:events"

// The file store reports its recovery on standard output, which is for answers only.
console.log = console.info = () => undefined

const [dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({ port: 0, ...(dataDir === undefined ? {} : { dataDir }) })
const url = new URL(await server.start())
process.stdout.write(`${JSON.stringify({ port: Number(url.port), token: "", streams: "/v1/stream" })}\n`)
await once(process.stdin.resume(), "end")
process.exit(0)
