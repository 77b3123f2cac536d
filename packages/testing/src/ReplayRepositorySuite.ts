/**
 * States what every `ReplayRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { assert, it } from "@effect/vitest"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { times } from "./internal/newStore.ts"

const now = 1_800_000_000_000

// One layer serves a whole block, so every test has values and a time of its own.
let counter = 0
const fresh = () => {
  const id = ++counter
  return { digest: id.toString(16).padStart(64, "0"), now: now + id * 1_000_000 }
}

/**
 * Runs the contract tests of `ReplayRepository` against a layer. `name` tells adapters apart in the report.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<ReplayRepository, E>): void =>
  it.layer(layer, { timeout: "30 seconds" })(`ReplayRepository (${name})`, (it) => {
    it.effect("spends a value once until it expires, and again after that", () =>
      Effect.gen(function*() {
        const replays = yield* ReplayRepository
        const { digest, now } = fresh()
        const value = { kind: "dpop-jti", digest, expiresAtMillis: now + 100 }
        assert.isTrue(yield* replays.spend(value, now))
        assert.isFalse(yield* replays.spend(value, now))
        // An attempt doesn't move the end, however far it asks for.
        assert.isFalse(yield* replays.spend({ ...value, expiresAtMillis: now + 10_000 }, now + 99))
        assert.isTrue(yield* replays.spend({ ...value, expiresAtMillis: now + 300 }, now + 100))
        assert.isFalse(yield* replays.spend(value, now + 299))
        assert.isTrue(yield* replays.spend(value, now + 300))
      }))

    it.effect("keeps kinds and digests apart, whatever characters they hold", () =>
      Effect.gen(function*() {
        const replays = yield* ReplayRepository
        const { digest, now } = fresh()
        const expiresAtMillis = now + 100
        for (const kind of ["a", "A", "a:", "nonce", "dpop-jti", "' OR 1=1 --"]) {
          for (const value of [digest, `:${digest}`, digest.slice(1), `${digest} `, `${digest}é`]) {
            assert.isTrue(yield* replays.spend({ kind, digest: value, expiresAtMillis }, now), `${kind} ${value}`)
          }
        }
        assert.isFalse(yield* replays.spend({ kind: "a", digest, expiresAtMillis }, now))
      }))

    it.effect("L-20: of 64 racers for a value exactly one spends it, the first time and after it expired", () =>
      Effect.gen(function*() {
        const replays = yield* ReplayRepository
        const { digest, now } = fresh()
        for (let round = 0; round < 5; round++) {
          const nowMillis = now + round * 100
          const won = yield* times(
            64,
            () => replays.spend({ kind: "dpop-jti", digest, expiresAtMillis: nowMillis + 100 }, nowMillis)
          )
          assert.strictEqual(won.filter((spent) => spent).length, 1)
        }
      }))

    it.effect("L-24: sweeps expired values in bounded batches, and no other", () =>
      Effect.gen(function*() {
        const replays = yield* ReplayRepository
        const { digest, now } = fresh()
        yield* replays.sweep({ nowMillis: now, limit: 1_000_000 })
        for (let index = 0; index < 10; index++) {
          const value = { kind: index % 2 === 0 ? "a" : "b", digest: `${digest}${index}` }
          assert.isTrue(yield* replays.spend({ ...value, expiresAtMillis: now + index }, now - 1))
        }
        const live = { kind: "b", digest: `${digest}9` }
        assert.strictEqual(yield* replays.sweep({ nowMillis: now + 6, limit: 3 }), 3)
        assert.strictEqual(yield* replays.sweep({ nowMillis: now + 6, limit: 3 }), 3)
        assert.strictEqual(yield* replays.sweep({ nowMillis: now + 6, limit: 3 }), 1)
        assert.strictEqual(yield* replays.sweep({ nowMillis: now + 6, limit: 3 }), 0)
        for (const index of [7, 8]) {
          const value = { kind: index % 2 === 0 ? "a" : "b", digest: `${digest}${index}` }
          assert.isFalse(yield* replays.spend({ ...value, expiresAtMillis: now + 100 }, now + 6))
        }
        assert.isFalse(yield* replays.spend({ ...live, expiresAtMillis: now + 100 }, now + 8))
        assert.strictEqual(yield* replays.sweep({ nowMillis: now + 9, limit: 100 }), 3)
      }))

    it.effect("lets no caller spend a value twice while expired ones are swept", () =>
      Effect.gen(function*() {
        const replays = yield* ReplayRepository
        const { digest, now } = fresh()
        for (let round = 0; round < 20; round++) {
          const value = { kind: "dpop-jti", digest: `${digest}${round}`, expiresAtMillis: now }
          assert.isTrue(yield* replays.spend(value, now - 1))
          const again = replays.spend({ ...value, expiresAtMillis: now + 100 }, now)
          const sweep = Effect.as(replays.sweep({ nowMillis: now, limit: 10 }), false)
          const won = yield* Effect.all([again, sweep, again, sweep, again], { concurrency: "unbounded" })
          assert.strictEqual(won.filter((spent) => spent).length, 1)
          assert.isFalse(yield* again)
        }
      }))
  })
