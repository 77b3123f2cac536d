/** How the paths of access and of runs slow down, or do not, from 10 stored rows to 1,000,000. */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as NodeDigest from "@sallyport/node/NodeDigest"
import * as NodeMac from "@sallyport/node/NodeMac"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Struct from "effect/Struct"
import { copyFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { rates, type Row, type Section } from "./measure.ts"

const sizes = [10, 100, 1_000, 10_000, 100_000, 1_000_000]

/** The services on an SQLite file, with room for one session in memory, so that each verification reads a row. */
const makeRuntime = (filename: string, secrets: SecretStore.SecretStore["Service"]) =>
  ManagedRuntime.make(
    Layer.mergeAll(
      BootstrapCredentialService.layer,
      SessionCredentialService.layerWith({ cacheCapacity: 1 }),
      AccessFeed.layer,
      RunEventLog.layer
    ).pipe(
      Layer.provide(Layer.merge(SqlRepositories.layer, Layer.succeed(SecretStore.SecretStore, secrets))),
      Layer.provide(SqliteClient.layer({ filename })),
      Layer.provide(Layer.mergeAll(NodeCrypto.layer, NodeDigest.layer, NodeMac.layer))
    )
  )

const services = Effect.all({
  bootstrap: BootstrapCredentialService.BootstrapCredentialService,
  feed: AccessFeed.AccessFeed,
  log: RunEventLog.RunEventLog,
  sessions: SessionCredentialService.SessionCredentialService
})

const issueLink = Effect.flatMap(
  services,
  ({ bootstrap }) => Effect.map(bootstrap.issue({ issuedBy: "operator", scopes: ["runs:read"] }), ({ code }) => code)
)

const issueSession = Effect.flatMap(services, ({ sessions }) =>
  Effect.map(
    sessions.issue({ subject: "reader", scopes: ["runs:read"], method: "bearer-access-token" }),
    ({ token }) => token
  ))

let runs = 0
const start = Effect.flatMap(services, ({ log }) => {
  const key = `bench ${++runs}`
  // Each run is another owner's, who may have a bounded number running.
  return Effect.map(
    log.start({ threadId: key, idempotencyKey: key, request: null, owner: { subject: key } }),
    ({ run }) => run
  )
})

const event = { delta: "a token or two of an answer", index: 12_345 }

/** Stores one row of each table, as the services write it. */
const seed = Effect.gen(function*() {
  const { bootstrap, log } = yield* services
  yield* bootstrap.redeem({ credential: yield* issueLink, method: "bearer-access-token" })
  const { epoch, runId } = yield* start
  yield* log.append({ runId, epoch, events: [event] })
  yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
})

/** Copies a row of each table until there are `total` more, each other in what tells it from the others. */
const fill = (filename: string, total: number) => {
  const database = new DatabaseSync(filename)
  database.exec("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; PRAGMA temp_store = MEMORY")
  const copy = (name: string, changed: Readonly<Record<string, string>>) => {
    const table = `sallyport_${name}`
    const columns = database.prepare(`SELECT name FROM pragma_table_info('${table}')`).all()
      .map((column) => String(column["name"]))
    const missing = Object.keys(changed).filter((column) => !columns.includes(column))
    if (missing.length > 0) throw new Error(`${table} has no ${missing.join(", ")}`)
    database.exec(
      `INSERT INTO ${table} (${columns.join(", ")})
      WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ${total})
      SELECT ${columns.map((column) => changed[column] ?? column).join(", ")}
      FROM n CROSS JOIN (SELECT * FROM ${table} LIMIT 1)`
    )
  }
  const id = "printf('00000000-0000-7000-8000-%012d', value)"
  const digest = "lower(hex(randomblob(32)))"
  // An owner has ten of each.
  const owner = "'owner ' || (value / 10)"
  copy("pairing_links", { id, code_digest: digest, subject: owner })
  copy("sessions", { id, token_digest: digest, subject: owner, link_id: id })
  copy("access_feed", { revision: "value + (SELECT max(revision) FROM sallyport_access_feed)" })
  database.exec(
    "UPDATE sallyport_access_feed_head SET revision = (SELECT max(revision) FROM sallyport_access_feed)"
  )
  // One run of ten still runs.
  const ended = (column: string) => `IIF(value % 10 = 0, NULL, ${column})`
  copy("runs", {
    run_id: id,
    thread_id: "'thread ' || value",
    owner_key: owner,
    owner_subject: owner,
    idempotency_key: "value",
    status: "IIF(value % 10 = 0, 'running', status)",
    lease_expires_at_millis: "IIF(value % 10 = 0, 9000000000000, NULL)",
    started_at_millis: "started_at_millis + value",
    ...Object.fromEntries(
      ["completed_at_millis", "end_seq", "event_count", "byte_count"].map((column) => [column, ended(column)])
    )
  })
  copy("run_events", { run_id: id })
  // What the filling left over is done before the measurement.
  database.exec("PRAGMA wal_checkpoint(TRUNCATE)")
  database.close()
}

const rounds = 5

/** How often each path is gone in a round. */
const times = {
  "verify by the row": 400,
  "list of a subject's sessions": 200,
  redeem: 50,
  "newest 10 events of access": 200,
  start: 100,
  append: 100,
  activeForThread: 1_000,
  reap: 400
}

/** Makes what the paths need, and returns each of them. */
const paths = Effect.gen(function*() {
  const { bootstrap, feed, log, sessions } = yield* services
  const tokens = yield* Effect.all(Arr.makeBy(10, () => issueSession))
  const codes = yield* Effect.all(Arr.makeBy(times.redeem * (rounds + 1), () => issueLink))
  const run = yield* start
  let next = 0
  let redeemed = 0
  const going: Record<keyof typeof times, Effect.Effect<unknown, unknown, Effect.Services<typeof services>>> = {
    "verify by the row": Effect.suspend(() => sessions.verify(Arr.getUnsafe(tokens, next++ % tokens.length))),
    "list of a subject's sessions": sessions.list({ subject: "reader" }),
    redeem: Effect.suspend(() =>
      bootstrap.redeem({ credential: Arr.getUnsafe(codes, redeemed++), method: "bearer-access-token" })
    ),
    "newest 10 events of access": feed.history({ limit: 10 }),
    start,
    append: log.append({ runId: run.runId, epoch: run.epoch, events: [event] }),
    activeForThread: log.activeForThread({ threadId: run.threadId, owner: run.owner }),
    reap: log.reap({ limit: 100 })
  }
  return going
})

const rows = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const secrets = await Effect.runPromise(Effect.provide(SecretStore.makeMemory(), NodeCrypto.layer))
  const template = join(directory, "template.db")
  const seeding = makeRuntime(template, secrets)
  await seeding.runPromise(seed)
  await seeding.dispose()
  const stores = []
  for (const size of sizes) {
    const filename = join(directory, `${size}.db`)
    copyFileSync(template, filename)
    fill(filename, size)
    const runtime = makeRuntime(filename, secrets)
    stores.push({ size, runtime, paths: await runtime.runPromise(paths) })
  }
  const rows: Array<Row> = []
  for (const name of Struct.keys(times)) {
    const measured = await rates(
      stores.map(({ paths, runtime, size }) => ({
        name: String(size),
        operations: times[name],
        run: () =>
          runtime.runPromise(Effect.gen(function*() {
            for (let index = 0; index < times[name]; index++) yield* paths[name]
          }))
      })),
      rounds
    )
    const rate = (size: number) => measured.get(String(size)) ?? Number.NaN
    rows.push(
      ...sizes.slice(1).map((size): Row => ({
        path: name,
        size,
        ours: rate(size),
        against: "the same, 10 rows",
        theirs: rate(10),
        asked: 0.8
      }))
    )
  }
  for (const { runtime } of stores) await runtime.dispose()
  return rows
}

/** The rows of growth. */
export const sections: ReadonlyArray<Section> = [{ name: "SQLite", measure: rows }]
