import { assert, describe, it } from "@effect/vitest"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as SqlReplayRepository from "@sallyport/core/access/SqlReplayRepository"
import * as ReplayRepositorySuite from "@sallyport/testing/ReplayRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { databases, sharedDatabases, sqliteMemory } from "../../../../test-support/databases.ts"
import { clientOf } from "../../../../test-support/sharedDatabase.ts"
import type { Task } from "../programs/spender.ts"
import { plansOf } from "../../../../test-support/queryPlans.ts"
import { startRacers } from "../racers.ts"

const now = 1_800_000_000_000

for (const { layer, name } of databases) {
  ReplayRepositorySuite.suite(name, SqlReplayRepository.layer.pipe(Layer.provide(layer)))

  describe(`ReplayRepository on ${name}`, () => {
    it.live("brings its table up to date once, however many start together, and beside one with another prefix", () =>
      Effect.gen(function*() {
        yield* Effect.forEach(
          [1, 2, 3],
          () => Effect.scoped(Layer.build(SqlReplayRepository.layerMigrations())),
          { concurrency: "unbounded" }
        )
        const spend = ReplayRepository.use((replays) =>
          replays.spend({ kind: "dpop-jti", digest: "digest", expiresAtMillis: now + 1 }, now)
        )
        const other = SqlReplayRepository.layerWith({ prefix: "Other \"Prefix\"_" })
        assert.isTrue(yield* spend.pipe(Effect.provide(SqlReplayRepository.layer, { local: true })))
        assert.isTrue(yield* spend.pipe(Effect.provide(other, { local: true })))
        assert.isFalse(yield* spend.pipe(Effect.provide(SqlReplayRepository.layer, { local: true })))
      }).pipe(Effect.provide(layer)))

    it.live("fails, and lets no caller in, where its table is missing", () =>
      Effect.gen(function*() {
        const replays = yield* ReplayRepository
        const spend = replays.spend({ kind: "dpop-jti", digest: "digest", expiresAtMillis: now + 1 }, now)
        const sweep = replays.sweep({ nowMillis: now, limit: 1 })
        const errors = [yield* Effect.flip(spend), yield* Effect.flip(sweep)]
        assert.deepStrictEqual(
          errors.map((error) => [error._tag, error.operation]),
          [["RepositoryError", "spend"], ["RepositoryError", "sweep"]]
        )
      }).pipe(Effect.provide(SqlReplayRepository.layerStorage()), Effect.provide(layer)))
  })
}

/** Lets processes spend the same values together: each value is spent by exactly one of them, once. */
const raceAcrossProcesses = Effect.fnUntraced(function*(database: Task["database"]) {
  const digests = Array.from({ length: 100 }, (_, index) => `digest-${100 + index}`)
  const task: Task = { database, digests, nowMillis: now }
  const lines = yield* startRacers("spender.ts", [task, task, task])
  const won = yield* Effect.all(lines, { concurrency: "unbounded" })
  const spent: ReadonlyArray<string> = won.flatMap((text) => JSON.parse(text))
  assert.deepStrictEqual(spent.toSorted(), digests)
}, Effect.scoped)

describe("ReplayRepository on SQL", () => {
  it.live("on SQLite looks every row up by an index and scans no table", () =>
    Effect.gen(function*() {
      const replays = yield* ReplayRepository
      const { steps, texts } = yield* plansOf(Effect.gen(function*() {
        yield* replays.spend({ kind: "dpop-jti", digest: "digest", expiresAtMillis: now }, now)
        yield* replays.sweep({ nowMillis: now, limit: 1 })
      }))
      assert.isAtLeast(texts.size, 2)
      for (const { detail, text } of steps) {
        assert.notMatch(detail, /^SCAN (?!expired$)|TEMP B-TREE/, `${text}\n${detail}`)
      }
    }).pipe(Effect.provide(Layer.provideMerge(SqlReplayRepository.layer, sqliteMemory))))

  for (const { database, name } of sharedDatabases) {
    it.live(`L-20: of three processes that spend values in one database, each value has one winner (${name})`, () =>
      Effect.gen(function*() {
        const shared = yield* database
        yield* Layer.build(Layer.provide(SqlReplayRepository.layer, clientOf(shared)))
        yield* raceAcrossProcesses(shared)
      }).pipe(Effect.scoped))
  }
})
