import { NodeServices } from "@effect/platform-node"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import { CredentialScopeResolver } from "@sallyport/core/credentials/CredentialScopeResolver"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as CredentialScopeResolverSuite from "@sallyport/testing/CredentialScopeResolverSuite"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { databases, sharedDatabases, withTables } from "../../../../test-support/databases.ts"
import { clientOf } from "../../../../test-support/sharedDatabase.ts"
import { Resolver, type Task, valuesOf } from "../programs/credentialWriter.ts"
import { argumentsOf } from "../../../../test-support/programs.ts"

for (const { layer, name } of databases) {
  CredentialScopeResolverSuite.suite(
    name,
    Layer.merge(withTables(layer, SqlAccessRepository.layer), NodeCrypto.layer)
  )
}

const program = fileURLToPath(new URL("../programs/credentialWriter.ts", import.meta.url))

/** Writes in another process until the given number of writes has begun, kills it, and returns the last acknowledged. */
const writeAndKill = Effect.fnUntraced(function*(task: Task, writes: number, first: number) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [...argumentsOf(program)], { stdio: ["pipe", "pipe", "inherit"] })),
    (running) =>
      Effect.promise(async () => {
        if (running.exitCode !== null || running.signalCode !== null) return
        const closed = once(running, "close")
        running.kill("SIGKILL")
        await closed
      })
  )
  const seen = { begun: first - 1, written: first - 1 }
  yield* Effect.promise(async () => {
    const closed = once(child, "close")
    child.stdin.end(`${JSON.stringify(task)}\n`)
    for await (const line of createInterface(child.stdout)) {
      const [what, round] = line.split(" ")
      if (what === "written") seen.written = Number(round)
      else {
        seen.begun = Number(round)
        // The write that was announced is under way; how far it has got differs from run to run.
        if (seen.begun === first + writes) child.kill("SIGKILL")
      }
    }
    await closed
  })
  return seen
}, Effect.scoped)

const expectWhole = Effect.fnUntraced(function*(seen: { readonly begun: number; readonly written: number }) {
  const credentials = yield* CredentialScopeResolver
  const { values } = yield* credentials.requireBundle({ subject: "ada" }, "pair")
  const found = Array.from(values.values(), Redacted.value)
  const round = Number(/^public-(\d+)-/.exec(found[0] ?? "")?.[1])
  assert.deepStrictEqual(found, Array.from(valuesOf(round).values(), Redacted.value))
  assert.isAtLeast(round, seen.written, "what was acknowledged is there")
  assert.isAtMost(round, seen.begun)
  return round
})

/** Kills several writers one after the other, each at another write. */
const killWriters = Effect.fnUntraced(function*<E>(
  database: Task["database"],
  reader: Layer.Layer<SqlClient.SqlClient, E>
) {
  let first = 1
  for (const writes of [1, 2, 5, 3]) {
    const seen = yield* writeAndKill({ database, first }, writes, first)
    first = 1 + (yield* expectWhole(seen).pipe(Effect.provide(Layer.provide(Resolver, reader), { local: true })))
  }
  return first
})

/** Reads all that a database holds, as text. */
const contentOf = Effect.fnUntraced(function*(database: Task["database"]) {
  if ("filename" in database) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const directory = path.dirname(database.filename)
    return yield* Effect.forEach(
      yield* fs.readDirectory(directory),
      (file) => Effect.map(fs.readFile(path.join(directory, file)), (bytes) => Buffer.from(bytes).toString("latin1"))
    )
  }
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql<{ readonly name: string }>`SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = 'public'`
  assert.isAbove(tables.length, 2)
  return yield* Effect.forEach(
    tables,
    ({ name }) => Effect.map(sql`SELECT CAST(${sql(name)} AS TEXT) FROM ${sql(name)}`, (rows) => JSON.stringify(rows))
  )
})

describe("a crash", () => {
  for (const { database, name } of sharedDatabases) {
    it.live(
      `SCOPE-05 SCOPE-07 L-53: SIGKILL in the middle of writing a bundle leaves the old one or the new one, whole, and the database holds no value (${name})`,
      () =>
        Effect.gen(function*() {
          const shared = yield* database
          yield* killWriters(shared, clientOf(shared))
          const content = yield* Effect.provide(contentOf(shared), clientOf(shared))
          for (const text of content) {
            for (const secret of ["public-", "private-"]) assert.notInclude(text, secret)
          }
        }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
      300_000
    )
  }
})

describe("the table", () => {
  for (const { layer, name } of databases) {
    it.live(`SCOPE-07: refuses what makes no sense: its CHECK constraints (${name})`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const good = {
          scope: "user",
          owner: "ada",
          key: "token",
          revision: "r",
          sealed: "s",
          created_at_millis: 0,
          updated_at_millis: 0,
          updated_by: "ada"
        }
        const insert = (fields: object) =>
          sql`INSERT INTO sallyport_scoped_credentials ${sql.insert({ ...good, ...fields })}`
        yield* insert({})
        for (
          const bad of [
            { scope: "solo" },
            { owner: "" },
            { key: "" },
            { key: "a", revision: "" },
            { key: "a", sealed: "" },
            { key: "a", updated_by: "" },
            { key: "a", created_at_millis: -1 },
            { key: "a", rejected_until_millis: -1 },
            {}
          ]
        ) yield* Effect.flip(insert(bad))
      }).pipe(Effect.provide(Layer.provideMerge(SqlAccessRepository.layer, layer))))
  }
})
