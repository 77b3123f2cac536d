/**
 * Runs the least server that stores appends: `node:http` over `node:sqlite`, as durable as ours. The events that came
 * while the last commit was under way share the next. It speaks as much of the Durable Streams protocol as the writers of
 * `streams.ts` do, and checks nothing. The argument is an SQLite file.
 */
import { once } from "node:events"
import * as Http from "node:http"
import { DatabaseSync } from "node:sqlite"

const [filename = ""] = process.argv.slice(2)
const database = new DatabaseSync(filename)
database.exec("PRAGMA journal_mode = WAL")
database.exec("PRAGMA synchronous = FULL")
database.exec(`CREATE TABLE events (stream TEXT NOT NULL, seq INTEGER NOT NULL, data TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (stream, seq)) WITHOUT ROWID`)
const begin = database.prepare("BEGIN IMMEDIATE")
const insert = database.prepare("INSERT INTO events VALUES (?, ?, ?, ?)")
const commit = database.prepare("COMMIT")

const heads = new Map<string, number>()
let waiting: Array<{ readonly stream: string; readonly data: string; readonly response: Http.ServerResponse }> = []

const store = () => {
  const batch = waiting
  waiting = []
  begin.run()
  const numbers = batch.map(({ data, stream }) => {
    const seq = (heads.get(stream) ?? 0) + 1
    heads.set(stream, seq)
    insert.run(stream, seq, data, Date.now())
    return seq
  })
  commit.run()
  batch.forEach(({ response }, index) => {
    response.writeHead(204, { "stream-next-offset": String(numbers[index]) })
    response.end()
  })
}

const server = Http.createServer((request, response) => {
  if (request.method === "PUT") {
    response.writeHead(201).end()
    return
  }
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    waiting.push({ stream: request.url ?? "", data: Buffer.concat(chunks).toString(), response })
    if (waiting.length === 1) setImmediate(store)
  })
})
server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  const port = typeof address === "object" ? address?.port : 0
  process.stdout.write(`${JSON.stringify({ port, token: "", streams: "" })}\n`)
})
await once(process.stdin.resume(), "end")
process.exit(0)
