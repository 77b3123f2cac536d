import { assert, describe, it } from "@effect/vitest"
import { RelayEnvironmentRepository } from "@sallyport/connect/RelayEnvironmentRepository"
import { RelayProofRepository } from "@sallyport/connect/RelayProofRepository"
import * as SqlRelayEnvironmentRepository from "@sallyport/connect/SqlRelayEnvironmentRepository"
import * as SqlRelayProofRepository from "@sallyport/connect/SqlRelayProofRepository"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as SqlReplayRepository from "@sallyport/core/access/SqlReplayRepository"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as Transactions from "@sallyport/core/sql/Transactions"
import { DurableStreamRepository } from "@sallyport/durable-streams/DurableStreamRepository"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqlStreamSubscriptionRepository from "@sallyport/durable-streams/SqlStreamSubscriptionRepository"
import { StreamSubscriptionRepository } from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type { SqlClient } from "effect/sql/SqlClient"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { temporaryDirectory } from "../../../../test-support/programs.ts"

const open = Effect.fnUntraced(function*(filename: string, options?: Partial<SqliteClient.SqliteClientConfig>) {
  const sql = yield* Effect.provide(
    SqliteClient.make({ filename, synchronous: "OFF", ...options }),
    Reactivity.layer
  )
  return { sql, run: yield* Transactions.make(sql, "test") }
})

const fresh = Effect.fnUntraced(function*(options?: Partial<SqliteClient.SqliteClientConfig>) {
  const directory = yield* temporaryDirectory
  const filename = NPath.join(directory, "test.db")
  const opened = yield* open(filename, options)
  yield* opened.sql`CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT NOT NULL)`
  return { ...opened, directory, filename }
})

const add = (sql: SqlClient, n: number) => sql`INSERT INTO t VALUES (${n}, ${"x".repeat(10_000)})`
const count = (sql: SqlClient) => Effect.map(sql`SELECT count(*) FROM t`.values, ([row]) => row?.[0])

const says = (
  error: RepositoryError,
  reason: RepositoryError["reason"],
  outcome: RepositoryError["outcome"] = "unchanged"
) => {
  assert.deepStrictEqual(
    { reason: error.reason, outcome: error.outcome, isRetryable: error.isRetryable },
    { reason, outcome, isRetryable: reason === "Unavailable" }
  )
}

describe("an SQLite file whose disk", () => {
  it.effect("OPS-02: is full refuses writes, which can be tried again, keeps what it has, and takes them when there is room", () =>
    Effect.gen(function*() {
      const { run, sql } = yield* fresh()
      yield* add(sql, 0)
      yield* sql`PRAGMA max_page_count = 5`
      const many = Effect.forEach([1, 2, 3, 4], (n) => add(sql, n))
      says(
        yield* Effect.flip(
          run.write("write")(add(sql, 1).pipe(Effect.andThen(add(sql, 2)), Effect.andThen(add(sql, 3))))
        ),
        "Unavailable"
      )
      yield* sql`DELETE FROM t WHERE n > 0`
      says(yield* Effect.flip(run.transaction("transaction")(many)), "Unavailable")
      assert.strictEqual(yield* run.read("read")(count(sql)), 1)
      yield* sql`PRAGMA max_page_count = 1000000`
      yield* run.transaction("transaction")(many)
      assert.strictEqual(yield* count(sql), 5)
    }))

  it.effect("OPS-02: became read-only refuses writes, which can be tried again, and answers reads", () =>
    Effect.gen(function*() {
      const { run, sql } = yield* fresh()
      yield* add(sql, 0)
      yield* sql`PRAGMA query_only = ON`
      says(yield* Effect.flip(run.write("write")(add(sql, 1))), "Unavailable")
      says(yield* Effect.flip(run.transaction("transaction")(add(sql, 1))), "Unavailable")
      assert.strictEqual(yield* run.read("read")(count(sql)), 1)
      yield* sql`PRAGMA query_only = OFF`
      yield* run.write("write")(add(sql, 1))
    }))

  it.effect("OPS-02: damaged it is corrupt, and trying again is of no use", () =>
    Effect.gen(function*() {
      const { filename, run, sql } = yield* fresh({ disableWAL: true })
      for (let n = 0; n < 20; n++) yield* add(sql, n)
      const size = NFS.statSync(filename).size
      const file = NFS.openSync(filename, "r+")
      NFS.writeSync(file, Buffer.alloc(size - 4_096, 0x5a), 0, size - 4_096, 4_096)
      NFS.closeSync(file)
      const again = yield* open(filename, { disableWAL: true })
      says(yield* Effect.flip(again.run.read("read")(count(again.sql))), "Corrupt")
      NFS.writeFileSync(filename, "no database at all, ".repeat(5_000))
      const { isRetryable, reason } = yield* Effect.flip(run.read("read")(sql`SELECT max(n) FROM t`))
      assert.deepStrictEqual({ isRetryable, reason }, { isRetryable: false, reason: "Corrupt" })
    }))

  it.effect("OPS-02: has lost the directory says so, and that it can be tried again", () =>
    Effect.gen(function*() {
      const { directory, run, sql } = yield* fresh({ disableWAL: true })
      NFS.renameSync(directory, `${directory}.away`)
      const error = yield* Effect.flip(run.transaction("transaction")(add(sql, 1)))
      NFS.renameSync(`${directory}.away`, directory)
      assert.isTrue(error.isRetryable)
      assert.strictEqual(error.outcome, "unchanged")
      yield* run.transaction("transaction")(add(sql, 1))
    }))

  it.effect("OPS-02: refuses at COMMIT what a constraint forbids changes nothing", () =>
    Effect.gen(function*() {
      const { run, sql } = yield* fresh()
      yield* sql`CREATE TABLE c (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)`
      says(yield* Effect.flip(run.transaction("transaction")(sql`INSERT INTO c VALUES (99)`)), "Failed")
    }))
})

const isOperation = (u: unknown): u is Effect.Effect<unknown, unknown> => Effect.isEffect(u)

describe("an error of a repository", () => {
  const stores = Layer.mergeAll(
    SqlAccessRepository.layerStorage(),
    SqlReplayRepository.layerStorage(),
    SqlRunEventRepository.layerStorage(),
    SqlRelayEnvironmentRepository.layerStorage(),
    SqlRelayProofRepository.layerStorage(),
    SqlDurableStreamRepository.layerStorage(),
    SqlStreamSubscriptionRepository.layerStorage()
  )
  // What every operation can take apart before it asks the store.
  const anything = {
    after: { ownerKey: "", subscriptionId: "" },
    which: { _tag: "Alive" },
    items: [],
    owner: { scope: "", owner: "" },
    owners: [{ scope: "", owner: "" }],
    place: { scope: "", owner: "", key: "" }
  }

  it.effect("OPS-06: names the operation, as it is called, that the store failed in", () =>
    Effect.gen(function*() {
      // Closed as soon as it is open.
      const context = yield* Effect.scoped(
        Layer.build(Layer.provide(stores, SqliteClient.layer({ filename: ":memory:" })))
      )
      const { clients, credentials, feed, links, sessions } = Context.get(context, AccessRepository)
      const repositories = {
        links,
        sessions,
        clients,
        credentials,
        feed,
        replays: Context.get(context, ReplayRepository),
        runs: Context.get(context, RunEventRepository),
        environments: Context.get(context, RelayEnvironmentRepository),
        proofs: Context.get(context, RelayProofRepository),
        streams: Context.get(context, DurableStreamRepository),
        subscriptions: Context.get(context, StreamSubscriptionRepository)
      }
      let named = 0
      for (const [name, repository] of Object.entries(repositories)) {
        for (const [operation, member] of Object.entries(repository)) {
          const called: unknown = typeof member === "function"
            ? Reflect.apply(member, undefined, [anything, anything])
            : member
          if (!isOperation(called)) continue
          const error = yield* Effect.flip(called)
          assert.isTrue(error instanceof RepositoryError && error.operation === operation, `${name}.${operation}`)
          named++
        }
      }
      assert.isAbove(named, 80)
    }))
})
