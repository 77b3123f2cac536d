/** The rates of runs: appending, replaying, following, and the effect of a million stored runs. */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { PgClient } from "@effect/sql-pg"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import type { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Mcp from "./mcp.ts"
import { rates, type Row, type Section } from "./measure.ts"
import { spawnPostgres } from "./processes.ts"
import * as Streams from "./streams.ts"
import * as Tails from "./tails.ts"

const event = { delta: "a token or two of an answer", index: 12_345 }
const eventText = JSON.stringify(event)

const layerLog = <E>(repository: Layer.Layer<RunEventRepository, E>) =>
  RunEventLog.layer.pipe(Layer.provideMerge(repository), Layer.provide(NodeCrypto.layer))

const layerSqlite = (filename: string) => {
  const client = SqliteClient.layer({ filename })
  return Layer.merge(layerLog(Layer.provide(SqlRunEventRepository.layer, client)), client)
}

const rate = (measured: ReadonlyMap<string, number>, name: string): number => measured.get(name) ?? Number.NaN

let runs = 0
const start = RunEventLog.RunEventLog.use((log) => {
  const key = `bench ${process.pid} ${++runs}`
  // Each run is another owner's, who may have a bounded number running.
  const owner = { subject: key }
  return Effect.map(log.start({ threadId: key, idempotencyKey: key, request: null, owner }), ({ run }) => run)
})

const writers = Effect.forEach(Array.from({ length: 64 }), () => start)

/** Appends `total` events by 64 writers on as many runs, each waiting for its event to be durable. */
const appendAll = (runs: Effect.Success<typeof writers>, total: number) =>
  RunEventLog.RunEventLog.use((log) =>
    Effect.forEach(runs, ({ epoch, runId }) =>
      Effect.gen(function*() {
        for (let index = 0; index < total / 64; index++) yield* log.append({ runId, epoch, events: [event] })
      }), { concurrency: "unbounded", discard: true })
  )

const table = `CREATE TABLE raw (run_id TEXT NOT NULL, seq BIGINT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
  at BIGINT NOT NULL, PRIMARY KEY (run_id, seq))`

const appendSqlite = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const runtime = ManagedRuntime.make(layerSqlite(join(directory, "append.db")))
  const raw = new DatabaseSync(join(directory, "raw.db"))
  raw.exec("PRAGMA journal_mode = WAL")
  raw.exec("PRAGMA synchronous = FULL")
  raw.exec(`${table} WITHOUT ROWID`)
  const insert = raw.prepare("INSERT INTO raw VALUES (?, ?, 'data', ?, ?)")
  const runIds = Array.from({ length: 64 }, (_, index) => `01970000-0000-7000-8000-${String(index).padStart(12, "0")}`)
  let seq = 0
  const total = 12_800
  const runs = await runtime.runPromise(writers)
  const measured = await rates([
    { name: "ours", operations: total, run: () => runtime.runPromise(appendAll(runs, total)) },
    {
      name: "raw",
      operations: total,
      run: () => {
        for (let index = 0; index < total; index += 50) {
          raw.exec("BEGIN IMMEDIATE")
          for (let i = 0; i < 50; i++) insert.run(runIds[(index + i) % 64] ?? "", ++seq, eventText, Date.now())
          raw.exec("COMMIT")
        }
      }
    }
  ], 5)
  await runtime.dispose()
  raw.close()
  return [{
    path: "append, SQLite, 64 writers",
    ours: rate(measured, "ours"),
    against: "raw batches of 50",
    theirs: rate(measured, "raw"),
    asked: 0.7
  }]
}

const appendPostgres = async (): Promise<ReadonlyArray<Row>> => {
  const server = await spawnPostgres()
  const { password, ...address } = server.address
  const client = PgClient.layer({
    ...address,
    database: "postgres",
    password: Redacted.make(password),
    maxConnections: 4
  })
  const runtime = ManagedRuntime.make(
    Layer.merge(layerLog(Layer.provide(SqlRunEventRepository.layer, client)), client)
  )
  await runtime.runPromise(SqlClient.SqlClient.use((sql) => sql.unsafe(table)))
  let seq = 0
  const total = 12_800
  const runs = await runtime.runPromise(writers)
  const measured = await rates([
    { name: "ours", operations: total, run: () => runtime.runPromise(appendAll(runs, total)) },
    {
      name: "raw",
      operations: total,
      run: () =>
        runtime.runPromise(SqlClient.SqlClient.use((sql) =>
          Effect.gen(function*() {
            for (let index = 0; index < total; index += 50) {
              const rows = Arr.makeBy(50, () => ({
                run_id: "01970000-0000-7000-8000-000000000000",
                seq: ++seq,
                kind: "data",
                data: eventText,
                at: Date.now()
              }))
              yield* sql`INSERT INTO raw ${sql.insert(rows)}`
            }
          })
        ))
    }
  ], 5)
  await runtime.dispose()
  await server.stop()
  return [{
    path: "append, PostgreSQL, 64 writers",
    ours: rate(measured, "ours"),
    against: "raw inserts of 50 rows",
    theirs: rate(measured, "raw"),
    asked: 0.7
  }]
}

const replay = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const filename = join(directory, "replay.db")
  const runtime = ManagedRuntime.make(layerSqlite(filename))
  const total = 100_000
  const runId = await runtime.runPromise(RunEventLog.RunEventLog.use((log) =>
    Effect.gen(function*() {
      const { epoch, runId } = yield* start
      for (let index = 0; index < total; index += 1_000) {
        yield* log.append({ runId, epoch, events: Array.from({ length: 1_000 }, () => event) })
      }
      yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
      return runId
    })
  ))
  const raw = new DatabaseSync(filename)
  const page = raw.prepare(
    "SELECT seq, kind, data, at_millis FROM sallyport_run_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT 256"
  )
  const measured = await rates([
    {
      name: "ours",
      operations: total,
      run: () =>
        runtime.runPromise(Stream.runDrain(Stream.unwrap(
          RunEventLog.RunEventLog.use((log) => log.eventsEncoded({ runId }))
        )))
    },
    {
      name: "raw",
      operations: total,
      run: () => {
        for (let after = 0; after <= total;) after = Number(page.all(runId, after).at(-1)?.seq ?? Infinity)
      }
    }
  ], 5)
  await runtime.dispose()
  raw.close()
  return [{
    path: "replay, in process",
    ours: rate(measured, "ours"),
    against: "raw pages of 256 rows",
    theirs: rate(measured, "raw"),
    asked: 0.6
  }]
}

/** The rows of runs and streams. */
export const sections: ReadonlyArray<Section> = [
  { name: "append, SQLite", measure: appendSqlite },
  { name: "append, PostgreSQL", measure: appendPostgres },
  { name: "replay, in process", measure: replay },
  { name: "MCP", measure: Mcp.rows },
  { name: "append over HTTP", measure: Streams.appends },
  ...Tails.sections
]
