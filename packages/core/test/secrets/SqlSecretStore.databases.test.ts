import { NodeServices } from "@effect/platform-node"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Tracer from "effect/Tracer"
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import * as NFS from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { databases, sharedDatabases, withTables } from "../../../../test-support/databases.ts"
import { clientOf } from "../../../../test-support/sharedDatabase.ts"
import type { Seen, Task } from "../programs/sqlSecretRacer.ts"
import { startRacers } from "../racers.ts"
import { argumentsOf } from "../../../../test-support/programs.ts"

const freshKey = () => Redacted.make<Uint8Array>(new Uint8Array(randomBytes(32)))

const tables = Layer.provide(SqlSecretStore.layer, NodeCrypto.layer)

for (const { layer, name } of databases) {
  const Secrets = withTables(layer, tables)
  SecretStoreSuite.suite(name, Secrets)
  SecretStoreSuite.suite(
    `encrypted, ${name}`,
    EncryptedSecretStore.layer({ storeId: "suite" }).pipe(
      Layer.provide([SecretKeys.layerKeys({ active: freshKey() }), Secrets]),
      Layer.provide(NodeCrypto.layer)
    )
  )
  SecretStoreSuite.suite(
    `encrypted with a passphrase, ${name}`,
    EncryptedSecretStore.layer({ storeId: "suite", algorithm: "xchacha20Poly1305" }).pipe(
      Layer.provide(SecretKeys.layerPassphrase({
        passphrase: Redacted.make("correct horse battery"),
        cost: { memory: 64, passes: 1, parallelism: 1 }
      })),
      Layer.provide(Secrets),
      Layer.provide(NodeCrypto.layer)
    )
  )
}

const secret = (text: string) => Redacted.make(new TextEncoder().encode(text))

const textOf = (store: SecretStore.SecretStore["Service"], name: string) =>
  Effect.map(
    store.get(name),
    (value) => Option.getOrNull(Option.map(value, (bytes) => new TextDecoder().decode(Redacted.value(bytes))))
  )

const encrypted = (
  underlying: SecretStore.SecretStore["Service"],
  active: Redacted.Redacted<Uint8Array>,
  previous: ReadonlyArray<Redacted.Redacted<Uint8Array>>,
  storeId = "test"
) =>
  EncryptedSecretStore.make({ storeId }).pipe(
    Effect.provide(SecretKeys.layerKeys({ active, previous })),
    Effect.provideService(SecretStore.SecretStore, underlying),
    Effect.provide(NodeCrypto.layer)
  )

/** Every row of every table, in every text that the bytes of a column could be looked for in. */
const dump = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql.onDialectOrElse({
    pg: () => sql<{ readonly name: string }>`SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'`,
    orElse: () => sql<{ readonly name: string }>`SELECT name FROM sqlite_master WHERE type = 'table'`
  })
  const parts: Array<string> = []
  for (const { name } of tables) {
    for (const row of yield* sql<object>`SELECT * FROM ${sql(name)}`) {
      for (const value of Object.values(row)) {
        if (value instanceof Uint8Array) parts.push(Buffer.from(value).toString("latin1"), Hex.encode(value))
        else parts.push(String(value))
      }
    }
  }
  return { tables: tables.map(({ name }) => name), text: parts.join("\n") }
})

for (const { layer, name } of databases) {
  describe(`SqlSecretStore (${name})`, () => {
    const Both = SqlSecretStore.layer.pipe(Layer.provideMerge(Layer.mergeAll(layer, NodeCrypto.layer)))

    it.live("SEC-08: under encryption a dump holds none of the values, kept versions included; without it holds them", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const plaintexts = Array.from({ length: 6 }, (_, index) => `correct-horse-battery-${index}`)
        const key = freshKey()
        const before = yield* encrypted(store, freshKey(), [])
        const side = yield* encrypted(store, key, [])
        for (const [index, text] of plaintexts.entries()) {
          yield* side.store.set(`key-${index % 2}`, secret(text))
          yield* side.store.create(`created-${index}`, secret(text))
        }
        yield* side.store.remove("created-0")
        yield* before.store.set("older", secret(plaintexts[0] ?? ""))
        const random = yield* side.store.getOrCreateRandom("random", 32)
        const forms = (bytes: Uint8Array) => [Buffer.from(bytes).toString("latin1"), Hex.encode(bytes)]
        const sealed = yield* dump
        assert.include(sealed.tables, "sallyport_secret_versions")
        assert.include(sealed.text, "SPSE")
        for (
          const bytes of [
            ...plaintexts.map((text) => new TextEncoder().encode(text)),
            Redacted.value(key),
            Redacted.value(random)
          ]
        ) {
          for (const form of forms(bytes)) assert.notInclude(sealed.text, form)
        }
        // The search finds what is there.
        yield* store.set("plain", secret(plaintexts[0] ?? ""))
        assert.include((yield* dump).text, plaintexts[0] ?? "")
      }).pipe(Effect.provide(Both)))

    it.live("SEC-08: an error that quotes the row in the database quotes nothing here", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const sql = yield* SqlClient.SqlClient
        yield* store.set("key", secret("old"))
        yield* sql.onDialectOrElse({
          // PostgreSQL says "Failing row contains (…)" with all its columns.
          pg: () => sql`ALTER TABLE sallyport_secret_versions ADD CHECK (length(value) < 10)`,
          orElse: () =>
            sql`CREATE TRIGGER refuse BEFORE INSERT ON sallyport_secret_versions WHEN length(NEW.value) >= 10
              BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END`
        })
        const spans: Array<Tracer.NativeSpan> = []
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.push(span)
            return span
          }
        })
        const plain = "hunter2-correct-horse"
        const printed: Array<string> = []
        const attempts: ReadonlyArray<Effect.Effect<unknown, SecretStore.SecretStoreError>> = [
          store.set("key", secret(plain)),
          store.create("other", secret(plain)),
          store.modify("key", () => Effect.succeed([undefined, Option.some(secret(plain))]))
        ]
        for (const attempt of attempts) {
          const exit = yield* Effect.exit(Effect.withTracer(attempt, tracer))
          assert.strictEqual(exit._tag, "Failure")
          if (exit._tag === "Success") continue
          const error = Cause.squash(exit.cause)
          assert.isTrue(error instanceof SecretStore.SecretStoreError && error.reason._tag === "StorageFailure")
          printed.push(
            Cause.pretty(exit.cause),
            inspect(exit, { depth: Infinity, showHidden: true }),
            JSON.stringify(exit)
          )
          printed.push(error instanceof Error ? error.message : "")
        }
        for (const span of spans) printed.push(inspect(span, { depth: Infinity, showHidden: true }))
        const all = printed.join("\n")
        assert.include(all, "SecretStore.set failed on the secret")
        for (
          const form of [
            plain,
            Buffer.from(plain).toString("hex"),
            Array.from(Buffer.from(plain).subarray(0, 8)).join(", ")
          ]
        ) {
          assert.notInclude(all, form)
        }
        // Nothing of a failed change was kept.
        assert.strictEqual(yield* textOf(store, "key"), "old")
        assert.lengthOf(yield* store.history("key"), 1)
        assert.deepStrictEqual<ReadonlyArray<string>>(yield* store.list, ["key"])
      }).pipe(Effect.provide(Both)))

    it.live("SEC-04: a value whose row is missing is corrupt, never a missing secret, and a lost table an error", () =>
      Effect.gen(function*() {
        const store = yield* SecretStore.SecretStore
        const sql = yield* SqlClient.SqlClient
        yield* store.set("key", secret("value"))
        yield* sql`DELETE FROM sallyport_secret_versions`
        for (const attempt of [store.get("key"), store.getOrCreateRandom("key", 32)]) {
          const { reason } = yield* Effect.flip<unknown, SecretStore.SecretStoreError, never>(attempt)
          assert.strictEqual(reason._tag, "Corrupt")
          assert.include(reason.message, "sallyport_secret_versions")
        }
        assert.isFalse(yield* Effect.orElseSucceed(store.create("key", secret("x")), () => false))
        // It can still be replaced.
        yield* store.set("key", secret("new"))
        assert.strictEqual(yield* textOf(store, "key"), "new")
        yield* sql`INSERT INTO sallyport_secrets (name, version, removed) VALUES ('../up', 1, 0)`
        assert.strictEqual((yield* Effect.flip(store.list)).reason._tag, "Corrupt")
        yield* sql`DROP TABLE sallyport_secrets`
        for (const attempt of [store.get("key"), store.set("key", secret("x")), store.remove("key"), store.list]) {
          const { reason } = yield* Effect.flip<unknown, SecretStore.SecretStoreError, never>(attempt)
          assert.strictEqual(reason._tag, "StorageFailure")
        }
      }).pipe(Effect.provide(Both)))

    it.live("layerStorage runs no DDL, a prefix names every table, and a second start changes nothing", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const storage = Layer.build(SqlSecretStore.layerStorage({ prefix: "acme_" }))
        const without = Effect.flatMap(
          storage,
          (context) =>
            Effect.flip(SecretStore.SecretStore.use((store) => store.get("key")).pipe(Effect.provide(context)))
        )
        assert.strictEqual((yield* without).reason._tag, "StorageFailure")
        for (let start = 0; start < 2; start++) {
          const context = yield* Layer.build(SqlSecretStore.layerWith({ prefix: "acme_", keepVersions: 3 }))
          const values = SecretStore.SecretStore.use((store) =>
            Effect.gen(function*() {
              for (let index = 0; index < 4; index++) yield* store.set("key", secret(`${start}.${index}`))
              return (yield* store.history("key")).length
            })
          )
          assert.strictEqual(yield* Effect.provide(values, context), 3)
        }
        const tables = (yield* dump).tables.filter((table) => !table.startsWith("sqlite_"))
        assert.deepStrictEqual(tables.toSorted(), ["acme_secret_versions", "acme_secrets", "acme_secrets_migrations"])
        yield* sql`SELECT 1`
      }).pipe(Effect.scoped, Effect.provide(Layer.merge(layer, NodeCrypto.layer))))

    it.live("refuses a number of versions that is none", () =>
      Effect.gen(function*() {
        for (const keepVersions of [0, -1, 1.5, Number.NaN]) {
          const error = yield* Effect.flip(SqlSecretStore.make({ keepVersions }))
          assert.strictEqual(error._tag, "InvalidSecretStoreOptions")
          assert.include(error.message, "keepVersions must be a whole number from 1")
        }
      }).pipe(Effect.provide(Layer.merge(layer, NodeCrypto.layer))))
  })
}

const kill = (running: ChildProcess): Promise<unknown> => {
  if (running.exitCode !== null || running.signalCode !== null) return Promise.resolve()
  const ended = once(running, "exit")
  running.kill("SIGKILL")
  return ended
}

const start = (task: Task) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [
        ...argumentsOf(fileURLToPath(new URL("../programs/sqlSecretRacer.ts", import.meta.url)))
      ], { stdio: ["pipe", "pipe", "inherit"] })
      child.stdin.write(`${JSON.stringify(task)}\n`)
      return child
    }),
    (running) => Effect.promise(() => kill(running))
  )

const raceAcrossProcesses = Effect.fnUntraced(function*(database: Task["database"]) {
  const keys = [freshKey(), freshKey()] as const
  const hex = (key: Redacted.Redacted<Uint8Array>) => Hex.encode(Redacted.value(key))
  // Half of them encrypt with one key and half with the other, as in the middle of a rotation.
  const tasks = Array.from({ length: 4 }, (_, index): Task => ({
    work: "race",
    database,
    keys: index % 2 === 0 ? [hex(keys[0]), hex(keys[1])] : [hex(keys[1]), hex(keys[0])]
  }))
  const lines = yield* startRacers("sqlSecretRacer.ts", tasks)
  const values = new Map<string, Set<string>>()
  let wins = 0
  for (const line of lines) {
    const seen: Seen = JSON.parse(yield* line)
    wins += seen.wins
    for (const [name, value] of seen.values) values.set(name, (values.get(name) ?? new Set()).add(value))
  }
  const { store } = yield* encrypted(yield* SecretStore.SecretStore, keys[0], [keys[1]], "processes")
  assert.strictEqual(values.size, 4)
  for (const [name, all] of values) {
    const kept = Option.getOrThrow(yield* store.get(name))
    assert.deepStrictEqual(Array.from(all), [Hex.encode(Redacted.value(kept))])
  }
  assert.strictEqual(wins, 1)
  assert.strictEqual((yield* textOf(store, "counter"))?.split(",")[0], "32")
}, Effect.scoped)

describe("SqlSecretStore with several processes", () => {
  const temporaryFile = Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    return path.join(yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-secrets-" }), "test.db")
  })

  const openFile = (filename: string) =>
    SqlSecretStore.layer.pipe(
      Layer.provide([SqliteClient.layer({ filename, busyTimeout: "30 seconds" }), NodeCrypto.layer])
    )

  for (const { database, name } of sharedDatabases) {
    it.live(
      `SEC-03 L-05: of 4 processes on one database all get the same bytes, one creates, and no change is lost (${name})`,
      () =>
        Effect.flatMap(database, (shared) =>
          Effect.provide(
            raceAcrossProcesses(shared),
            Layer.provide(SqlSecretStore.layer, [clientOf(shared), NodeCrypto.layer])
          )).pipe(Effect.scoped),
      300_000
    )
  }

  it.live(
    "SEC-07: a process killed at any point of a rotation over SQLite loses no value, the next completes, and the file holds none",
    () =>
      Effect.gen(function*() {
        const filename = yield* temporaryFile
        const keys = [freshKey(), freshKey()] as const
        const hex = keys.map((key) => Hex.encode(Redacted.value(key)))
        const valueOf = (name: string) => `${name},`.repeat(2_000)
        const names = Array.from({ length: 12 }, (_, index) => `key-${index}`)
        const onFile = <A, E>(use: (side: Effect.Success<ReturnType<typeof encrypted>>) => Effect.Effect<A, E>) =>
          SecretStore.SecretStore.use((underlying) =>
            Effect.flatMap(encrypted(underlying, keys[0], [keys[1]], "processes"), use)
          ).pipe(Effect.provide(openFile(filename)))
        yield* onFile(({ store }) =>
          Effect.gen(function*() {
            for (const name of names) yield* store.set(name, secret(valueOf(name)))
            yield* store.set("counter", secret("0,".repeat(2_000)))
          })
        )
        let midway = 0
        // Some of the kills must strike in the middle of a rotation, or this test shows nothing.
        const isEnough = (rounds: number) => rounds >= 12 && midway > 0
        for (let round = 0; !isEnough(round); round++) {
          let acknowledged = 0
          yield* Effect.scoped(Effect.gen(function*() {
            const child = yield* start({ work: "rotate", database: { filename }, keys: [hex[0] ?? "", hex[1] ?? ""] })
            // Two rotations make about 30 writes; the moment within the next one is random as well.
            const killAfter = 1 + Math.floor(Math.random() * 30)
            yield* Effect.promise(async () => {
              let writes = 0
              for await (const line of createInterface({ input: child.stdout })) {
                if (line.startsWith("counted ")) acknowledged = Number(line.slice("counted ".length))
                else if (++writes === killAfter) setTimeout(() => void kill(child), Math.random() * 4)
              }
            })
          }))
          yield* onFile(({ rotation, store }) =>
            Effect.gen(function*() {
              const versions = Array.from((yield* rotation.keyUse).versionsByKeyId.values())
              // The counter alone has 2 versions under either key, whatever the rotation has done.
              if (versions.length === 2 && Math.min(...versions) > 2) midway++
              const check = Effect.gen(function*() {
                for (const name of names) {
                  assert.strictEqual(yield* textOf(store, name), valueOf(name))
                  yield* store.history(name)
                }
                const counter = (yield* textOf(store, "counter")) ?? ""
                const count = Number(counter.slice(0, counter.indexOf(",")))
                assert.strictEqual(counter, `${count},`.repeat(2_000))
                assert.isAtLeast(count, acknowledged)
              })
              yield* check
              if (round % 4 !== 3) return
              yield* rotation.rotate
              yield* check
              assert.strictEqual((yield* rotation.keyUse).versionsByKeyId.size, 1)
            })
          )
        }
        assert.isAbove(midway, 0)
        // The bytes on the disk, with free pages and the write-ahead log.
        for (const suffix of ["", "-wal"]) {
          if (!NFS.existsSync(`${filename}${suffix}`)) continue
          const bytes = NFS.readFileSync(`${filename}${suffix}`, "latin1")
          for (const name of names) assert.notInclude(bytes, `${name},${name},`)
        }
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    300_000
  )
})
