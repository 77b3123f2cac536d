import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { NodeServices } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import type { WakeUp } from "@sallyport/core/WakeUps"
import * as PgRepositories from "@sallyport/pg/PgRepositories"
import * as PgWakeUps from "@sallyport/pg/PgWakeUps"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqlWakeUps from "@sallyport/core/sql/SqlWakeUps"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { inject } from "vitest"
import { databases, postgres } from "../../../../test-support/databases.ts"
import { type Network, network } from "../../../../test-support/network.ts"
import { eventually } from "../../../../test-support/programs.ts"

const now = 1_800_000_000_000
const link = (id: string) => ({
  id,
  codeDigest: `code-digest-of-${id}`,
  label: null,
  subject: "ada",
  scopes: ["access:read" as const],
  proofKeyThumbprint: null,
  remainingUses: 1,
  createdBy: "operator",
  issuedBy: null,
  sessionLifetimeMillis: null,
  sessionEndsAtMillis: null,
  createdAtMillis: now,
  expiresAtMillis: now + 10_000,
  revokedAtMillis: null
})
const insert = (id: string) =>
  AccessRepository.use(({ links }) => links.insert(link(id), { actor: "operator", nowMillis: now }))

/** Takes what a stream gives as it comes; its failure is the queue's. */
const listen = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<Exit.Exit<A, E>>()
    yield* stream.pipe(
      Stream.runForEach((value) => Queue.offer(queue, Exit.succeed(value))),
      Effect.catch((error) => Queue.offer(queue, Exit.fail(error))),
      Effect.forkScoped
    )
    return Effect.flatten(Queue.take(queue))
  })

/** Waits until the first notification is back. Until then all is looked at every 50 milliseconds, also at what is named. */
const hearing = <E>(next: Effect.Effect<WakeUp, E>) =>
  Effect.repeat(Effect.timeoutOption(next, "500 millis"), { until: Option.isNone })

/** Takes the next hint that names keys. */
const named = <E>(next: Effect.Effect<WakeUp, E>) => Effect.repeat(next, { until: (wakeUp) => wakeUp !== "anything" })

const keys = (wakeUp: WakeUp) => wakeUp === "anything" ? wakeUp : Array.from(wakeUp)

describe("SqlWakeUps", () => {
  for (const { layer, name } of databases) {
    it.live(`hints once it listens, and after the commit of the outermost transaction, on ${name}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const feed = (yield* AccessRepository).feed
        const seen: Array<number> = []
        const next = yield* listen(
          Stream.mapEffect(feed.wakeups, () =>
            Effect.map(feed.latestRevision, (revision) => {
              seen.push(revision)
              return revision
            }))
        )
        assert.strictEqual(yield* next, 0)
        yield* sql.withTransaction(Effect.andThen(insert("a"), insert("b")))
        const until: (revision: number) => Effect.Effect<void, unknown> = (revision) =>
          Effect.flatMap(next, (current) => current < revision ? until(revision) : Effect.void)
        yield* until(2)
        yield* Effect.exit(sql.withTransaction(Effect.andThen(insert("c"), Effect.fail("rolled back"))))
        yield* insert("d")
        yield* until(3)
        // No reader was woken to look at half of a transaction.
        assert.notInclude(seen, 1)
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(SqlRepositories.layer, layer))))
  }

  it.live("FEED-02 L-42: another connection to an SQLite file is heard", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const filename = path.join(yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-wake-" }), "test.db")
      const open = Layer.build(Layer.fresh(Layer.provideMerge(SqlRepositories.layer, SqliteClient.layer({ filename }))))
      const mine = yield* open
      const other = yield* open
      const { feed } = Context.get(mine, AccessRepository)
      const next = yield* listen(feed.wakeups)
      yield* next
      yield* Effect.provideContext(insert("a"), other)
      yield* next
      assert.strictEqual(yield* feed.latestRevision, 1)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

describe("PgWakeUps", () => {
  /** Makes the wake-ups of one process, on a pool of its own, perhaps behind a network. */
  const node = Effect.fnUntraced(function*(net?: Network) {
    const [row] = yield* SqlClient.SqlClient.use((sql) =>
      sql<{ readonly name: string }>`SELECT current_database() AS name`
    )
    const { password, ...address } = inject("postgres")
    const client = PgClient.layer({
      ...address,
      ...(net === undefined ? {} : { port: Number(new URL(net.url).port) }),
      database: row?.name ?? "",
      password: Redacted.make(password),
      maxConnections: 2
    })
    const built = Layer.build(
      Layer.effect(
        Node,
        Effect.gen(function*() {
          const wakeUps = yield* SqlWakeUps.Current
          return wakeUps === undefined ? yield* Effect.die("no wake-ups") : wakeUps
        })
      ).pipe(Layer.provide(PgWakeUps.layer), Layer.provideMerge(Layer.fresh(client)))
    )
    return Context.get(yield* built, Node)
  })
  class Node extends Context.Service<Node, SqlWakeUps.SqlWakeUps>()("test/Node") {}

  it.live("tells other processes the keys, by topic, and tells none twice", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.all([node(), node()])
      const runs = yield* listen(b.listen("runs"))
      const others = yield* listen(b.listen("others"))
      const own = yield* listen(a.listen("runs"))
      for (const next of [runs, others, own]) {
        assert.strictEqual(yield* next, "anything")
        yield* hearing(next)
      }
      yield* a.announce("runs", [["one", 1]])
      yield* a.announce("runs", [["two", 5], ["one", 3]])
      assert.deepStrictEqual(keys(yield* named(runs)), [["one", 3], ["two", 5]])
      yield* a.announce("others", [["three", 1]])
      assert.deepStrictEqual(keys(yield* named(others)), [["three", 1]])
      // Its own hint comes from its own commit, at once, and not from the server again.
      const first = keys(yield* named(own))
      yield* b.announce("runs", [["four", 1]])
      const rest = [first]
      while (JSON.stringify(rest.at(-1)) !== JSON.stringify([["four", 1]])) rest.push(keys(yield* named(own)))
      assert.strictEqual(rest.flat().filter((entry) => JSON.stringify(entry) === JSON.stringify(["two", 5])).length, 1)
    }).pipe(Effect.scoped, Effect.provide(postgres)))

  it.live("tells of anything where the keys are too many for a payload", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.all([node(), node()])
      const next = yield* listen(b.listen("runs"))
      assert.strictEqual(yield* next, "anything")
      yield* hearing(next)
      yield* a.announce(
        "runs",
        Array.from({ length: 400 }, (_, index) => [`key-number-${index}-${"é".repeat(20)}`, 1] as const)
      )
      assert.strictEqual(yield* next, "anything")
    }).pipe(Effect.scoped, Effect.provide(postgres)))

  it.live("takes what it cannot read for a hint at anything", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const b = yield* node()
      const next = yield* listen(b.listen("runs"))
      assert.strictEqual(yield* next, "anything")
      yield* hearing(next)
      for (const payload of ["", "garbage", `{"from":1}`]) {
        yield* sql`SELECT pg_notify('sallyport', ${payload})`
        assert.strictEqual(yield* next, "anything")
      }
    }).pipe(Effect.scoped, Effect.provide(postgres)))

  it.live("listens on one connection for all, and on none once no listener is left; fails all when it is lost", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const b = yield* node()
      const connections = sql<{ readonly pid: number }>`SELECT pid FROM pg_stat_activity
        WHERE application_name = 'sallyport-wakeups' AND datname = current_database()`
      const until = (n: number) => eventually(connections, ({ length }) => length === n)
      yield* Effect.scoped(Effect.gen(function*() {
        const listeners = yield* Effect.forEach(["one", "two", "two"], (topic) => listen(b.listen(topic)))
        for (const next of listeners) assert.strictEqual(yield* next, "anything")
        assert.strictEqual((yield* connections).length, 1)
        yield* sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = 'sallyport-wakeups' AND datname = current_database()`
        for (const next of listeners) {
          const error: SqlError = yield* Effect.flip(Effect.forever(next))
          assert.strictEqual(error._tag, "SqlError")
        }
        const again = yield* listen(b.listen("one"))
        assert.strictEqual(yield* again, "anything")
        yield* until(1)
      }))
      yield* until(0)
    }).pipe(Effect.scoped, Effect.provide(postgres)))

  for (
    const [when, breaks] of [
      ["after it has begun to listen", (net: Network) => net.silence("LISTEN")],
      ["before it listens", (net: Network) => net.onText("LISTEN", "silence")]
    ] as const
  ) {
    it.live(`OPS-01 C-50: a listening connection that falls silent ${when} is given up, and its hints are back on the next`, () =>
      Effect.gen(function*() {
        const { port } = inject("postgres")
        const net = yield* network({ url: `http://127.0.0.1:${port}` })
        const a = yield* node()
        const b = yield* node(net)
        if (when === "before it listens") breaks(net)
        const broken = yield* listen(b.listen("runs"))
        if (when !== "before it listens") {
          assert.strictEqual(yield* broken, "anything")
          breaks(net)
        }
        const error: SqlError = yield* Effect.flip(Effect.forever(broken))
        assert.strictEqual(error.reason._tag, "ConnectionError")
        // All that is silent now was before; new connections work.
        net.onText("LISTEN", "pass")
        const next = yield* listen(b.listen("runs"))
        assert.strictEqual(yield* next, "anything")
        yield* hearing(next)
        yield* a.announce("runs", [["one", 1]])
        assert.deepStrictEqual(keys(yield* named(next)), [["one", 1]])
      }).pipe(Effect.scoped, Effect.provide(postgres)))
  }

  it.live("OPS-01: a process that stops does not wait for a listening connection that has fallen silent", () =>
    Effect.gen(function*() {
      const net = yield* network({ url: `http://127.0.0.1:${inject("postgres").port}` })
      const b = yield* node(net)
      yield* Effect.scoped(Effect.gen(function*() {
        const next = yield* listen(b.listen("runs"))
        assert.strictEqual(yield* next, "anything")
        net.silence("LISTEN")
      }))
      const next = yield* listen(b.listen("runs"))
      assert.strictEqual(yield* next, "anything")
    }).pipe(Effect.scoped, Effect.provide(postgres)))

  it.live("hints at changes of a repository", () =>
    Effect.gen(function*() {
      const feed = (yield* AccessRepository).feed
      const next = yield* listen(feed.wakeups)
      yield* next
      yield* insert("a")
      yield* next
      assert.strictEqual(yield* feed.latestRevision, 1)
    }).pipe(Effect.scoped, Effect.provide(Layer.provide(PgRepositories.layer, postgres))))
})
