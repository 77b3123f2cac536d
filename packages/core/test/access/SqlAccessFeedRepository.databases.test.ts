import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import { type PairingLinkRow } from "@sallyport/core/access/BootstrapCredentialRepository"
import { Device, SessionId } from "@sallyport/core/access/Session"
import { type SessionRow } from "@sallyport/core/access/SessionCredentialRepository"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as AccessFeedRepositorySuite from "@sallyport/testing/AccessFeedRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { databases, postgres, sharedDatabases, sqliteMemory, withTables } from "../../../../test-support/databases.ts"
import { clientOf } from "../../../../test-support/sharedDatabase.ts"
import type { Task } from "../programs/consumer.ts"
import { plansOf } from "../../../../test-support/queryPlans.ts"
import { startRacers } from "../racers.ts"

const layerWith = (options?: { readonly prefix: string }) => SqlAccessRepository.layerWith(options)

const now = 1_800_000_000_000
const change = { actor: "operator", nowMillis: now }

const session = (id: string): SessionRow => ({
  id: SessionId.make(id),
  subject: "ada",
  method: "bearer-access-token",
  scopes: ["runs:read"],
  scopeRequest: null,
  proofKeyThumbprint: "thumbprint",
  linkId: null,
  parentId: null,
  letInBy: "operator",
  client: null,
  device: new Device({ label: null, kind: "program", userAgent: null, address: null }),
  tokenDigest: `token-digest-of-${id}`,
  keyId: "key-1",
  tokenExpiresAtMillis: null,
  refreshDigest: null,
  previousRefreshDigest: null,
  refreshedAtMillis: null,
  tokensUsedAtMillis: null,
  redemptionDigest: null,
  createdAtMillis: now,
  lastSeenAtMillis: now,
  expiresAtMillis: now + 10_000,
  lifetimeMillis: null,
  absoluteExpiresAtMillis: null,
  revokedAtMillis: null,
  revokedBy: null
})

const link = (id: string, remainingUses = 1): PairingLinkRow => ({
  id,
  codeDigest: `code-digest-of-${id}`,
  label: null,
  subject: "ada",
  scopes: ["runs:read"],
  proofKeyThumbprint: null,
  remainingUses,
  createdBy: "operator",
  issuedBy: null,
  sessionLifetimeMillis: null,
  sessionEndsAtMillis: null,
  createdAtMillis: now,
  expiresAtMillis: now + 10_000,
  revokedAtMillis: null
})

const redeem = (id: string, sessionId: string = crypto.randomUUID()) =>
  AccessRepository.use(({ links }) =>
    links.redeem(
      {
        codeDigest: `code-digest-of-${id}`,
        session: session(sessionId),
        repeatMillis: 0,
        replaces: undefined
      },
      change
    )
  )

type Operations = ReadonlyArray<
  Effect.Effect<unknown, RepositoryError, AccessRepository>
>

/** Calls every operation of the three repositories once, so that every statement of theirs has run. */
const everyOperation = Effect.gen(function*() {
  const feed = (yield* AccessRepository).feed
  const links = (yield* AccessRepository).links
  const sessions = (yield* AccessRepository).sessions
  const ended = { endedBeforeMillis: now + 20_000, limit: 10 }
  yield* links.insert(link("link", 2), change)
  yield* links.insert(link("link", 2), change)
  yield* redeem("link", "redeemed")
  yield* redeem("unknown")
  yield* links.list({ nowMillis: now, limit: 10 })
  yield* links.revoke("link", change)
  yield* links.sweep(ended, change)
  for (const id of ["a", "b", "c", "d", "e"]) yield* sessions.insert(session(id), change)
  yield* sessions.findById(SessionId.make("a"))
  yield* sessions.findByTokenDigest("token-digest-of-a")
  yield* sessions.renew({ id: SessionId.make("a"), dueBeforeMillis: now, lifetimeMillis: 10_000 }, change)
  yield* sessions.list({ nowMillis: now, afterId: undefined, limit: 10 })
  yield* sessions.insertTicket({ ticketDigest: "ticket", sessionId: SessionId.make("a"), expiresAtMillis: now + 1 })
  yield* sessions.consumeTicket({ ticketDigest: "ticket", nowMillis: now })
  yield* sessions.revoke({ _tag: "Session", id: SessionId.make("a") }, change)
  yield* sessions.revoke({ _tag: "SubjectExcept", subject: "ada", keep: SessionId.make("b") }, change)
  yield* sessions.revoke({ _tag: "Subject", subject: "ada" }, change)
  yield* sessions.revoke({ _tag: "ProofKey", proofKeyThumbprint: "thumbprint" }, change)
  yield* sessions.sweep(ended, change)
  yield* feed.latestRevision
  return yield* feed.read({ after: 0, limit: 100 })
})

const raceAcrossProcesses = Effect.fnUntraced(function*(database: Task["database"]) {
  const links = (yield* AccessRepository).links
  const feed = (yield* AccessRepository).feed
  const ids = Array.from({ length: 20 }, (_, index) => `link-${10 + index}`)
  // Every third link has two uses, and the last use of a link is what makes it a removal.
  const uses = (index: number) => index % 3 === 0 ? 2 : 1
  yield* Effect.forEach(ids, (id, index) => links.insert(link(id, uses(index)), change))

  const task: Task = { database, digests: ids.map((id) => `code-digest-of-${id}`), rounds: 10, nowMillis: now }
  const lines = yield* startRacers("consumer.ts", [task, task])
  const won = yield* Effect.all(lines, { concurrency: "unbounded" })

  const expected = ids.flatMap((id, index) => Array.from({ length: uses(index) }, () => `code-digest-of-${id}`))
  const digests: ReadonlyArray<string> = won.flatMap((text) => JSON.parse(text))
  assert.deepStrictEqual(digests.toSorted(), expected)
  const events = yield* feed.read({ after: 0, limit: 1_000 })
  assert.deepStrictEqual(
    events.map((event) => event.revision),
    Array.from({ length: ids.length + 2 * expected.length }, (_, index) => index + 1)
  )
  assert.deepStrictEqual(
    events.flatMap(({ change }) => change._tag === "pairingLinkRemoved" ? [change.id] : []).sort(),
    ids
  )
}, Effect.scoped)

for (const { layer, name } of databases) {
  AccessFeedRepositorySuite.suite(name, withTables(layer, SqlAccessRepository.layer))

  describe(`Access repositories on ${name}`, () => {
    it.live("bring their tables up to date once, however many start together, again and beside each other", () =>
      Effect.gen(function*() {
        const starts = Array.from({ length: 3 }, () => [
          SqlAccessRepository.layerMigrations()
        ]).flat()
        yield* Effect.forEach(starts, (start) => Effect.scoped(Layer.build(start)), { concurrency: "unbounded" })
        const first = yield* everyOperation.pipe(Effect.provide(layerWith(), { local: true }))
        const second = yield* everyOperation.pipe(Effect.provide(layerWith(), { local: true }))
        assert.strictEqual(second.length, first.length * 2)
        const other = yield* everyOperation.pipe(
          Effect.provide(layerWith({ prefix: "Other \"Prefix\"_" }), { local: true })
        )
        assert.deepStrictEqual(other, first)
      }).pipe(Effect.provide(layer)))

    it.live("fail with the operation's name where the tables are missing, and run no DDL of their own", () =>
      Effect.gen(function*() {
        const storage = SqlAccessRepository.layerStorage()
        yield* Effect.gen(function*() {
          const feed = (yield* AccessRepository).feed
          const links = (yield* AccessRepository).links
          const sessions = (yield* AccessRepository).sessions
          const failing: Operations = [
            feed.latestRevision,
            feed.read({ after: 0, limit: 1 }),
            links.list({ nowMillis: now, limit: 1 }),
            links.insert(link("one"), change),
            redeem("one"),
            sessions.findByTokenDigest("digest"),
            sessions.revoke({ _tag: "Subject", subject: "ada" }, change)
          ]
          const errors = yield* Effect.forEach(failing, (operation) => Effect.flip(operation))
          assert.deepStrictEqual(
            errors.map((error) => [error._tag, error.operation]),
            [
              "latestRevision",
              "read",
              "list",
              "insert",
              "redeem",
              "findByTokenDigest",
              "revoke"
            ].map((operation) => ["RepositoryError", operation])
          )
        }).pipe(Effect.provide(storage))
      }).pipe(Effect.provide(layer)))

    it.live("a change whose event cannot be stored is not made", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const links = (yield* AccessRepository).links
        const sessions = (yield* AccessRepository).sessions
        yield* links.insert(link("one"), change)
        yield* sessions.insert(session("one"), change)
        yield* sql`ALTER TABLE sallyport_access_feed RENAME TO hidden`
        const id = SessionId.make("one")
        const failing: Operations = [
          links.insert(link("two"), change),
          redeem("one"),
          links.revoke("one", change),
          links.sweep({ endedBeforeMillis: now + 10_000, limit: 10 }, change),
          sessions.insert(session("two"), change),
          sessions.renew({ id, dueBeforeMillis: now, lifetimeMillis: 1 }, change),
          sessions.revoke({ _tag: "Session", id }, change),
          sessions.sweep({ endedBeforeMillis: now + 10_000, limit: 10 }, change)
        ]
        const errors = yield* Effect.forEach(failing, (operation) => Effect.flip(operation))
        assert.isTrue(errors.every((error) => error._tag === "RepositoryError"))
        yield* sql`ALTER TABLE hidden RENAME TO sallyport_access_feed`
        assert.deepStrictEqual(yield* links.list({ nowMillis: now, limit: 10 }), [link("one")])
        assert.deepStrictEqual(
          yield* sessions.list({ nowMillis: now, afterId: undefined, limit: 10 }),
          [session("one")]
        )
        assert.strictEqual(yield* AccessRepository.use(({ feed }) => feed.latestRevision), 2)
      }).pipe(Effect.provide(Layer.provideMerge(layerWith(), layer))))

    it.live("a row that cannot be read is an error that shows nothing of it, and consumes nothing", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const links = (yield* AccessRepository).links
        const sessions = (yield* AccessRepository).sessions
        yield* links.insert(link("one"), change)
        yield* sessions.insert(session("one"), change)
        yield* sql`UPDATE sallyport_sessions SET device = '{"label":"garbage-garbage"}'`
        yield* sql`UPDATE sallyport_pairing_links SET scopes = '["runs:read", "garbage-garbage"]'`
        yield* sql`UPDATE sallyport_access_feed SET payload = '{"_tag":"garbage-garbage"}' WHERE revision = 1`
        const failing: Operations = [
          sessions.findByTokenDigest("token-digest-of-one"),
          redeem("one"),
          AccessRepository.use(({ feed }) => feed.read({ after: 0, limit: 10 }))
        ]
        const errors = yield* Effect.forEach(failing, (operation) => Effect.flip(operation))
        for (const [index, column] of ["device", "scopes", "change"].entries()) {
          const error = errors[index]
          const text = `${String(error)} ${String(error?.cause)} ${JSON.stringify(error)}`
          assert.match(text, new RegExp(`A row of sallyport_\\w+ .*: ${column}\\b`))
          assert.notInclude(text, "garbage")
          assert.notInclude(text, "digest-of")
        }
        const [row] = yield* sql<{ readonly uses: unknown }>`SELECT remaining_uses AS uses FROM sallyport_pairing_links`
        assert.strictEqual(Number(row?.uses), 1)
        assert.strictEqual(yield* AccessRepository.use(({ feed }) => feed.latestRevision), 2)
      }).pipe(Effect.provide(Layer.provideMerge(layerWith(), layer))))

    it.live("the tables refuse rows that no operation would write", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* AccessRepository.use(({ sessions }) => sessions.insert(session("one"), change))
        yield* AccessRepository.use(({ links }) => links.insert(link("one"), change))
        const refused = [
          sql`UPDATE sallyport_sessions SET method = 'password'`,
          sql`UPDATE sallyport_sessions SET absolute_expires_at_millis = expires_at_millis - 1`,
          sql`UPDATE sallyport_sessions SET token_digest = ''`,
          sql`UPDATE sallyport_pairing_links SET remaining_uses = -1`,
          sql`UPDATE sallyport_access_feed SET actor = ''`,
          sql`INSERT INTO sallyport_access_feed_head (id, revision) VALUES (2, 0)`
        ]
        for (const statement of refused) assert.isTrue(Option.isNone(yield* Effect.option(statement)))
      }).pipe(Effect.provide(Layer.provideMerge(layerWith(), layer))))

    it.live("read passes over events of a type that this version does not know", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        yield* links.insert(link("one"), change)
        yield* sql`INSERT INTO sallyport_access_feed (revision, type, payload, actor, at_millis)
          VALUES (2, 'somethingNew', '{"_tag":"somethingNew"}', 'operator', 0)`
        yield* sql`UPDATE sallyport_access_feed_head SET revision = 2`
        yield* links.insert(link("two"), change)
        const revisions = Effect.map(feed.read({ after: 0, limit: 2 }), (events) =>
          events.map(({ revision }) => revision))
        assert.deepStrictEqual(yield* revisions, [1, 3])
        assert.strictEqual(yield* feed.latestRevision, 3)
      }).pipe(Effect.provide(Layer.provideMerge(layerWith(), layer))))
  })
}

describe("Access repositories", () => {
  it.live("on SQLite look every row up by an index and scan no table", () =>
    Effect.gen(function*() {
      const { steps, texts } = yield* plansOf(everyOperation)
      const tables = ["sessions", "session_tickets", "pairing_links", "access_feed", "access_feed_head"]
      for (const table of tables) assert.isTrue(Array.from(texts).some((text) => text.includes(`"sallyport_${table}"`)))
      for (const { detail, text } of steps) {
        // What may be scanned is a JSON parameter, and the short list of rows that a common table expression found.
        if (/^SCAN (?!ended$|target$)/.test(detail)) assert.include(detail, "VIRTUAL TABLE", `${text}\n${detail}`)
      }
    }).pipe(Effect.provide(Layer.provideMerge(layerWith(), sqliteMemory))))

  for (const { database, name } of sharedDatabases) {
    it.live(`BOOT-03: of two processes that redeem links in one database, each use has one winner (${name})`, () =>
      Effect.flatMap(
        database,
        (shared) => raceAcrossProcesses(shared).pipe(Effect.provide(Layer.provide(layerWith(), clientOf(shared))))
      ).pipe(
        Effect.scoped
      ))
  }

  it.live("BOOT-03 L-03: races have their outcome, and no failure, on a PostgreSQL that defaults to SERIALIZABLE", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ readonly database: string }>`SELECT current_database() AS database`
      // It counts for the connections that the pool has yet to open, which is all of them but this one.
      yield* sql`ALTER DATABASE ${sql(row?.database ?? "")} SET default_transaction_isolation = 'serializable'`
      const links = (yield* AccessRepository).links
      yield* links.insert(link("one", 3), change)
      const outcomes = yield* Effect.all(Array.from({ length: 50 }, () => redeem("one")), { concurrency: "unbounded" })
      assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Redeemed").length, 3)
    }).pipe(Effect.provide(Layer.provideMerge(layerWith(), postgres))))
})
