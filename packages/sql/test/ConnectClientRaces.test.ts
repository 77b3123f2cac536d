/**
 * Requests and decisions of several processes on one database.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { BootstrapCredentialRepository } from "@sallyport/core/BootstrapCredentialRepository"
import { ConnectClientRepository } from "@sallyport/core/ConnectClientRepository"
import * as SqlBootstrapCredentialRepository from "@sallyport/sql/SqlBootstrapCredentialRepository"
import * as SqlConnectClientRepository from "@sallyport/sql/SqlConnectClientRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { postgres } from "./databases.ts"
import type { Task } from "./programs/connecting.ts"

const nowMillis = 1_800_000_000_000
const clients = ["a", "b", "c", "d"].map((name) => name.repeat(43))

const repositories = Layer.merge(SqlConnectClientRepository.layer, SqlBootstrapCredentialRepository.layer)

/** Approves clients, lets processes ask for them without end, and blocks them meanwhile: no grant is left of any. */
const race = Effect.fnUntraced(function*(database: Task["database"]) {
  const repository = yield* ConnectClientRepository
  const links = yield* BootstrapCredentialRepository
  const context = { actor: "owner", nowMillis }
  const decide = (proofKeyThumbprint: string, decision: "approved" | "blocked") =>
    repository.decide({ proofKeyThumbprint, decision, reason: null, backOffMillis: 1, maxBackOffMillis: 1 }, context)
  for (const proofKeyThumbprint of clients) {
    yield* repository.request(
      {
        proofKeyThumbprint,
        account: "ada",
        label: null,
        deviceType: "phone",
        verificationCode: "CODE",
        pendingMillis: 60_000,
        maxPending: 100,
        maxObserved: 100
      },
      undefined,
      context
    )
    yield* decide(proofKeyThumbprint, "approved")
  }
  const processes = yield* Effect.forEach([1, 2, 3], () =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(
          process.execPath,
          ["--conditions=sallyport-source", fileURLToPath(new URL("programs/connecting.ts", import.meta.url))],
          { stdio: ["pipe", "pipe", "inherit"] }
        )
        return { child, exited: once(child, "exit"), lines: createInterface(child.stdout)[Symbol.asyncIterator]() }
      }),
      ({ child, exited }) =>
        Effect.promise(() => {
          child.kill()
          return exited
        })
    ))
  const line = ({ lines }: (typeof processes)[number]) =>
    Effect.map(Effect.promise(() => lines.next()), ({ value }) => value ?? "")
  const task: Task = { database, clients, nowMillis }
  for (const { child } of processes) child.stdin.write(`${JSON.stringify(task)}\n`)
  for (const started of processes) assert.strictEqual(yield* line(started), "ready")
  for (const { child } of processes) child.stdin.write("go\n")
  // Grants of every client are there before the first is blocked.
  const granted = Effect.map(
    links.list({ nowMillis, limit: 1_000 }),
    (rows) => new Set(rows.map((row) => row.proofKeyThumbprint)).size
  )
  yield* Effect.repeat(granted, { until: (count) => count === clients.length, schedule: Schedule.spaced("5 millis") })
  for (const proofKeyThumbprint of clients) yield* decide(proofKeyThumbprint, "blocked")
  const counts = yield* Effect.forEach(processes, line, { concurrency: "unbounded" })
  const total = counts.reduce((sum, text) => {
    const { granted }: { readonly granted: number } = JSON.parse(text)
    return sum + granted
  }, 0)
  assert.isAtLeast(total, clients.length)
  assert.deepStrictEqual(yield* links.list({ nowMillis, limit: 1_000 }), [])
}, Effect.scoped)

describe("connect clients on SQL", () => {
  it.live("CONN-03 CONN-06 L-30 L-43 of requests of three processes and a decision on one SQLite file, no grant outlives the decision", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const filename = path.join(yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-connect-" }), "test.db")
      yield* race({ filename }).pipe(
        Effect.provide(repositories.pipe(Layer.provide(SqliteClient.layer({ filename, busyTimeout: "30 seconds" }))))
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("CONN-03 CONN-06 L-30 L-43 of requests of three processes and a decision on one PostgreSQL database, no grant outlives the decision", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ readonly name: string }>`SELECT current_database() AS name`
      yield* race({ ...inject("postgres"), database: row?.name ?? "" })
    }).pipe(Effect.provide(Layer.provideMerge(repositories, postgres))))
})
