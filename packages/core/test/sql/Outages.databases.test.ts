/**
 * What every port does when PostgreSQL does not answer, holds a lock, or ends a connection.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { PgClient } from "@effect/sql-pg"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { linked, RelayEnvironmentRepository } from "@sallyport/connect/RelayEnvironmentRepository"
import { RelayProofRepository } from "@sallyport/connect/RelayProofRepository"
import * as SqlRelayEnvironmentRepository from "@sallyport/connect/SqlRelayEnvironmentRepository"
import * as SqlRelayProofRepository from "@sallyport/connect/SqlRelayProofRepository"
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import { Device, SessionId } from "@sallyport/core/access/Session"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as SqlRateLimiterStore from "@sallyport/core/access/SqlRateLimiterStore"
import * as SqlReplayRepository from "@sallyport/core/access/SqlReplayRepository"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { RunId } from "@sallyport/core/runs/Run"
import { RunEventRepository } from "@sallyport/core/runs/RunEventRepository"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import { SecretName, SecretStore } from "@sallyport/core/secrets/SecretStore"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as Transactions from "@sallyport/core/sql/Transactions"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import { DurableStreamRepository } from "@sallyport/durable-streams/DurableStreamRepository"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqlStreamSubscriptionRepository from "@sallyport/durable-streams/SqlStreamSubscriptionRepository"
import { StreamSubscriptionRepository } from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { RateLimiterStore } from "effect/persistence/RateLimiter"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import { inject } from "vitest"
import { postgres, postgresSerializable } from "../../../../test-support/databases.ts"
import { type Network, network } from "../../../../test-support/network.ts"

const change = { actor: "operator", nowMillis: 1_000 }
const thumbprint = "t".repeat(43)

const link = (id: string) => ({
  id,
  codeDigest: `digest of ${id}`,
  label: null,
  subject: "ada",
  scopes: ["runs:read" as const],
  proofKeyThumbprint: null,
  remainingUses: 1,
  createdBy: "operator",
  issuedBy: null,
  sessionLifetimeMillis: null,
  sessionEndsAtMillis: null,
  createdAtMillis: 1_000,
  expiresAtMillis: 9_000,
  revokedAtMillis: null
})

const session = (id: string) => ({
  id: SessionId.make(id),
  subject: "ada",
  method: "bearer-access-token" as const,
  scopes: [],
  scopeRequest: null,
  proofKeyThumbprint: null,
  linkId: null,
  parentId: null,
  letInBy: "operator",
  client: null,
  device: new Device({ label: null, kind: "program", userAgent: null, address: null }),
  tokenDigest: `digest of ${id}`,
  keyId: "key",
  tokenExpiresAtMillis: null,
  refreshDigest: null,
  previousRefreshDigest: null,
  refreshedAtMillis: null,
  tokensUsedAtMillis: null,
  redemptionDigest: null,
  createdAtMillis: 1_000,
  lastSeenAtMillis: 1_000,
  expiresAtMillis: 9_000,
  lifetimeMillis: null,
  absoluteExpiresAtMillis: null,
  revokedAtMillis: null,
  revokedBy: null
})

const address = { ownerKey: "ada", path: "a" }

let unique = 0
const name = () => `n${unique++}`

const stores = Layer.mergeAll(
  SqlRepositories.layer,
  SqlSecretStore.layer,
  SqlRateLimiterStore.layer,
  SqlRelayEnvironmentRepository.layer,
  SqlRelayProofRepository.layer,
  SqlDurableStreamRepository.layer,
  SqlStreamSubscriptionRepository.layer
).pipe(Layer.provide(NodeCrypto.layer))

interface Port {
  readonly port: string
  readonly table: string
  readonly write: Effect.Effect<unknown, unknown, Layer.Success<typeof stores>>
  readonly read: Effect.Effect<unknown, unknown, Layer.Success<typeof stores>>
}

/** Lists for every port a step that writes, and one that reads; `table` is one that both need. */
const ports: ReadonlyArray<Port> = [
  {
    port: "links",
    table: "pairing_links",
    write: AccessRepository.use(({ links }) => links.insert(link(name()), change)),
    read: AccessRepository.use(({ links }) => links.list({ nowMillis: 1_000, limit: 10 }))
  },
  {
    port: "sessions",
    table: "sessions",
    write: AccessRepository.use(({ sessions }) => sessions.insert(session(name()), change)),
    read: AccessRepository.use(({ sessions }) => sessions.findByTokenDigest("digest"))
  },
  {
    port: "clients",
    table: "connect_settings",
    write: AccessRepository.use(({ clients }) => clients.setMode({ mode: "account", trust: [] }, change)),
    read: AccessRepository.use(({ clients }) => clients.storedMode)
  },
  {
    port: "credentials",
    table: "scoped_credentials",
    write: AccessRepository.use(({ credentials }) =>
      credentials.put(
        {
          scope: "user",
          owner: "ada",
          key: "github.token",
          revision: name(),
          sealed: "sealed",
          updatedAtMillis: 1_000,
          updatedBy: "ada"
        },
        undefined,
        change
      )
    ),
    read: AccessRepository.use(({ credentials }) => credentials.page({ after: undefined, limit: 10 }))
  },
  {
    port: "feed",
    table: "access_feed",
    write: AccessRepository.use(({ credentials }) =>
      credentials.recordRead({ source: "user", owner: "ada", key: "github.token", count: 1 }, change)
    ),
    read: AccessRepository.use(({ feed }) =>
      feed.snapshot({ nowMillis: 1_000 }).pipe(
        Effect.andThen(feed.read({ after: 0, limit: 10 }))
      )
    )
  },
  {
    port: "replays",
    table: "spent_values",
    write: ReplayRepository.use((replays) =>
      replays.spend({ kind: "k", digest: name(), expiresAtMillis: 9_000 }, 1_000)
    ),
    read: ReplayRepository.use((replays) => replays.sweep({ nowMillis: 0, limit: 1 }))
  },
  {
    port: "runs",
    table: "runs",
    write: RunEventRepository.use((runs) =>
      runs.start({
        runId: RunId.make(crypto.randomUUID()),
        threadId: name(),
        ownerKey: "ada",
        ownerSubject: "ada",
        ownerOrg: null,
        idempotencyKey: name(),
        requestDigest: "",
        metadata: "{}",
        leaseMillis: 60_000,
        abortedData: "{}"
      })
    ),
    read: RunEventRepository.use((runs) => runs.getByKey({ ownerKey: "ada", idempotencyKey: "none" }))
  },
  {
    port: "secrets",
    table: "secrets",
    write: SecretStore.use((secrets) => secrets.set(SecretName.make(name()), Redacted.make(new Uint8Array([1])))),
    read: SecretStore.use((secrets) => secrets.list)
  },
  {
    port: "rate limits",
    table: "rate_limits",
    write: RateLimiterStore.use((limits) =>
      limits.tokenBucket({ key: name(), limit: 5, tokens: 1, refillRate: Duration.seconds(1), allowOverflow: false })
    ),
    read: RateLimiterStore.use((limits) =>
      limits.fixedWindow({ key: "k", limit: 5, tokens: 9, refillRate: Duration.seconds(1) })
    )
  },
  {
    port: "relay environments",
    table: "relay_environments",
    write: RelayEnvironmentRepository.use((environments) =>
      environments.link(linked({
        id: name(),
        account: "ada",
        url: "https://desk.example",
        keyX: "x".repeat(43),
        keyId: "k".repeat(43),
        relayKeyId: null,
        linkedAtMillis: 1
      }))
    ),
    read: RelayEnvironmentRepository.use((environments) => environments.findById("desk"))
  },
  {
    port: "relay proofs",
    table: "relay_proofs",
    write: RelayProofRepository.use((proofs) =>
      proofs.record({
        requestId: name(),
        environmentId: "desk",
        account: "ada",
        proofKeyThumbprint: thumbprint,
        status: "credential",
        requestedAtMillis: null,
        proof: "proof",
        keyId: "k".repeat(43),
        receivedAtMillis: 1
      }, { keep: 10 })
    ),
    read: RelayProofRepository.use((proofs) => proofs.list({ account: "ada", limit: 10, after: undefined }))
  },
  {
    port: "streams",
    table: "streams",
    write: DurableStreamRepository.use((streams) => streams.delete({ ...address, nowMillis: 1_000 })),
    read: DurableStreamRepository.use((streams) => streams.get({ ...address, nowMillis: 1_000 }))
  },
  {
    port: "stream subscriptions",
    table: "stream_subscriptions",
    write: StreamSubscriptionRepository.use((subscriptions) =>
      subscriptions.delete({ ownerKey: "ada", subscriptionId: "s" })
    ),
    read: StreamSubscriptionRepository.use((subscriptions) => subscriptions.ofOwner("ada"))
  }
]

/** Finds the error of the repository, as the services of secrets and of rate limits wrap it. */
const repositoryError = (error: unknown): RepositoryError | undefined => {
  if (error instanceof RepositoryError) return error
  if (typeof error !== "object" || error === null) return undefined
  return repositoryError(Reflect.get(error, "cause") ?? Reflect.get(error, "reason"))
}

/** Takes the tables as they are. */
const storages = Layer.mergeAll(
  SqlAccessRepository.layerStorage(),
  SqlReplayRepository.layerStorage(),
  SqlRunEventRepository.layerStorage(),
  SqlSecretStore.layerStorage(),
  SqlRateLimiterStore.layerStorage(),
  SqlRelayEnvironmentRepository.layerStorage(),
  SqlRelayProofRepository.layerStorage(),
  SqlDurableStreamRepository.layerStorage(),
  SqlStreamSubscriptionRepository.layerStorage()
).pipe(Layer.provide(NodeCrypto.layer))

// Shorter than the driver waits for a silent connection, and long enough for a step on a busy machine.
const impatient = Layer.provide(storages, Layer.succeed(Transactions.Deadline, Duration.seconds(2)))

const untilTheEnd = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(untilTheEnd, Exit.void)))

/** Makes a database with every table when the first test needs it, for all tests that may share it. */
const makeDatabase = () =>
  Effect.runSync(Effect.cached(
    Effect.gen(function*() {
      const direct = yield* Layer.build(postgres)
      yield* Effect.provideContext(Layer.build(stores), direct)
      return direct
    }).pipe(Scope.provide(untilTheEnd))
  ))
type Database = ReturnType<typeof makeDatabase>

/** Has every table, and is locked by no test. */
const shared = makeDatabase()

/** Returns a client of a database that reaches it through a network of its own, which a test can break. */
const broken = Effect.fnUntraced(function*(database: Database) {
  const direct = yield* database
  const { config } = yield* Effect.provideContext(PgClient.PgClient, direct)
  const { host, password, port, username } = inject("postgres")
  const net = yield* network({ url: `http://${host}:${port}` })
  const open = (maxConnections: number, prepare = true, kept = impatient) =>
    Layer.build(Layer.fresh(Layer.provideMerge(
      kept,
      PgClient.layer({
        host: "127.0.0.1",
        port: Number(new URL(net.url).port),
        username,
        password: Redacted.make(password),
        database: config.database ?? "",
        maxConnections,
        prepare
      })
    )))
  const admin = <A, E>(use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
    Effect.provideContext(SqlClient.SqlClient.use(use), direct)
  return { net, open, admin }
})

/** Tries until it succeeds: a pool may hold another connection that is broken. */
const eventually = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.retry(self, { times: 100 })

const failure = Effect.fnUntraced(function*<A, E, R>(self: Effect.Effect<A, E, R>) {
  const error = yield* Effect.flip(self)
  return repositoryError(error) ?? String(error)
})

const breaking = (net: Network, text: string, then: "silence" | "cut" | "pass") =>
  Effect.sync(() => net.onText(text, then))

// A connection that does not answer is closed after some seconds, which the tests spend together.
describe("PostgreSQL that does not answer", { concurrent: true }, () => {
  for (const { port, read, table, write } of ports) {
    // Two tests lock its tables, one after the other.
    const locking = makeDatabase()
    const turn = Semaphore.makeUnsafe(1)

    it.live(`OPS-01 C-50: ${port}: a connection that has gone silent fails the step in time, and is given up`, () =>
      Effect.gen(function*() {
        const { net, open } = yield* broken(shared)
        const store = yield* open(4)
        for (const step of [write, read]) {
          yield* eventually(Effect.provideContext(step, store))
          net.silence()
          const error = yield* failure(Effect.provideContext(step, store))
          if (error instanceof RepositoryError) assert.strictEqual(error.reason, "TimedOut")
          yield* eventually(Effect.provideContext(step, store))
        }
      }).pipe(Effect.scoped))

    it.live(`OPS-01 C-51: ${port}: a locked table fails steps on it in time, and others are served`, () =>
      Effect.gen(function*() {
        const { admin, open } = yield* broken(locking)
        const store = yield* open(4)
        const locked = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(admin((sql) =>
          sql.withTransaction(Effect.gen(function*() {
            yield* sql.unsafe(`LOCK TABLE sallyport_${table} IN ACCESS EXCLUSIVE MODE`)
            yield* Deferred.succeed(locked, undefined)
            yield* Deferred.await(release)
          }))
        ))
        yield* Deferred.await(locked)
        for (const step of [write, read]) {
          const error = yield* failure(Effect.provideContext(step, store))
          if (error instanceof RepositoryError) {
            assert.strictEqual(error.reason, "TimedOut")
            assert.isTrue(error.isRetryable)
          }
        }
        const other = ports.find((each) => !["feed", port].includes(each.port) && each.table !== table)
        if (other !== undefined) yield* Effect.provideContext(other.read, store)
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(holder)
        yield* eventually(Effect.provideContext(write, store))
      }).pipe(Effect.scoped, turn.withPermit))

    it.live(`OPS-02 C-52: ${port}: a connection that is ended in a step is an error that can be retried`, () =>
      Effect.gen(function*() {
        const { admin, open } = yield* broken(locking)
        // The step must end by its connection, not by its deadline.
        const store = yield* open(4, true, storages)
        yield* Effect.provideContext(write, store)
        const locked = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(admin((sql) =>
          sql.withTransaction(Effect.gen(function*() {
            yield* sql.unsafe(`LOCK TABLE sallyport_${table} IN ACCESS EXCLUSIVE MODE`)
            yield* Deferred.succeed(locked, undefined)
            yield* Deferred.await(release)
          }))
        ))
        yield* Deferred.await(locked)
        const stuck = yield* Effect.forkChild(failure(Effect.provideContext(write, store)))
        // Ends the process of the step, once it waits for the lock.
        yield* admin((sql) =>
          sql.unsafe<{ readonly ended: boolean }>(
            `SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'`
          )
        ).pipe(Effect.repeat({ until: (rows) => rows.length > 0, schedule: Schedule.spaced("20 millis") }))
        const error = yield* Fiber.join(stuck)
        if (error instanceof RepositoryError) {
          assert.strictEqual(error.reason, "Unavailable")
          assert.isTrue(error.isRetryable)
        }
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(holder)
        yield* eventually(Effect.provideContext(write, store))
      }).pipe(Effect.scoped, turn.withPermit))
  }

  for (const then of ["silence", "cut"] as const) {
    it.live(`OPS-02 C-52: a commit whose answer is lost (${then}) says that the outcome is not known, others that nothing changed`, () =>
      Effect.gen(function*() {
        const { net, open } = yield* broken(makeDatabase())
        // A statement that is prepared is sent as text once.
        const store = yield* open(1, false)
        const another = yield* open(1, false)
        const write = AccessRepository.use(({ links }) => links.insert(link(name()), change))
        yield* breaking(net, "COMMIT\0", then)
        const unknown = yield* failure(Effect.provideContext(write, store))
        assert.isTrue(unknown instanceof RepositoryError && unknown.outcome === "unknown", String(unknown))
        yield* breaking(net, "INSERT INTO", then)
        const unchanged = yield* failure(Effect.provideContext(write, another))
        assert.isTrue(unchanged instanceof RepositoryError && unchanged.outcome === "unchanged", String(unchanged))
        assert.isTrue(unchanged instanceof RepositoryError && unchanged.isRetryable)
      }).pipe(Effect.scoped))

    it.live(`OPS-01 OPS-02: a migration whose commit is not answered (${then}) is an error, and running it again ends it`, () =>
      Effect.gen(function*() {
        const { net, open } = yield* broken(shared)
        const migrate = Migrations.run({
          service: then,
          migrations: {
            "1_first": SqlClient.SqlClient.use((sql) =>
              Effect.asVoid(sql`CREATE TABLE ${sql(`first_${then}`)} (id INTEGER NOT NULL)`)
            )
          }
        })
        const client = yield* open(1, false)
        yield* breaking(net, "COMMIT\0", then)
        const error = yield* migrate.pipe(
          Effect.provideService(Transactions.Deadline, Duration.millis(100)),
          Effect.provideContext(client),
          Effect.flip
        )
        assert.strictEqual(error.reason._tag, "MigrationUnanswered")
        assert.include(error.message, "start again")
        yield* breaking(net, "COMMIT\0", "pass")
        const another = yield* open(1, false)
        // One of these attempts may time out too, after the database has committed it.
        yield* eventually(Effect.provideContext(migrate, another))
        const found = yield* eventually(Effect.provideContext(
          SqlClient.SqlClient.use((sql) => sql`SELECT * FROM ${sql(`first_${then}`)}`),
          another
        ))
        assert.deepStrictEqual(found, [])
        assert.deepStrictEqual(yield* eventually(Effect.provideContext(migrate, another)), [])
      }).pipe(Effect.scoped))
  }
})

describe("PostgreSQL whose transactions are serializable unless they say otherwise", () => {
  it.live("C-54: every port changes its tables under READ COMMITTED, on every connection", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const seen = sql<{ readonly isolation: string; readonly changes: number }>`
        SELECT isolation, count(*)::int AS changes FROM seen GROUP BY isolation`
      yield* sql`CREATE TABLE seen (isolation TEXT NOT NULL)`
      yield* sql`CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO seen VALUES (current_setting(''transaction_isolation'')); RETURN NULL; END'`
      const tables = yield* sql<{ readonly name: string }>`
        SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'seen'`
      assert.isAbove(tables.length, 15)
      for (const { name } of tables) {
        yield* sql`CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON ${sql(name)}
          FOR EACH STATEMENT EXECUTE FUNCTION see()`
      }
      // A statement that is not the kit's has the database's own isolation.
      yield* sql`DELETE FROM ${sql(tables[0]?.name ?? "")} WHERE false`
      assert.deepStrictEqual(yield* seen, [{ isolation: "serializable", changes: 1 }])
      const changed: Array<string> = []
      for (const { port, write } of ports) {
        yield* sql`TRUNCATE seen`
        // More at once than there are connections.
        yield* Effect.all(Array.from({ length: 12 }, () => Effect.exit(write)), { concurrency: "unbounded" })
        const isolations = (yield* seen).map(({ isolation }) => isolation)
        if (isolations.length > 0) changed.push(port)
        assert.deepStrictEqual(isolations.filter((isolation) => isolation !== "read committed"), [], port)
      }
      // The step of streams finds nothing to delete.
      assert.deepStrictEqual(ports.map(({ port }) => port).filter((port) => !changed.includes(port)), ["streams"])
    }).pipe(Effect.provide(Layer.provideMerge(stores, postgresSerializable))))
})
