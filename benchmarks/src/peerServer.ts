/**
 * Runs the peer for streams: `@durable-streams/server`, in memory or on files below the directory that is the argument. To
 * each command it answers what it uses.
 */
import { DurableStreamTestServer } from "@durable-streams/server"
import { createInterface } from "node:readline"
import { usage } from "./usage.ts"

// The file store reports its recovery on standard output, which is for answers only.
console.log = console.info = () => undefined

const [dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({ port: 0, ...(dataDir === undefined ? {} : { dataDir }) })
const url = new URL(await server.start())
process.stdout.write(`${JSON.stringify({ port: Number(url.port), token: "", streams: "/v1/stream" })}\n`)
for await (const _ of createInterface(process.stdin)) process.stdout.write(`${JSON.stringify(usage())}\n`)
process.exit(0)
