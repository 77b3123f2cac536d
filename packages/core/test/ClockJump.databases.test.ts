/**
 * What a wrong time of day ends early: nothing.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as Sweeper from "@sallyport/core/Sweeper"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Clocks from "../../../test-support/clock.ts"
import { databases } from "../../../test-support/databases.ts"

const day = Duration.toMillis("25 hours")

/** Runs an effect under a clock whose time of day the test can move. */
const withClock = <A, E, R>(use: (move: (byMillis: number) => Effect.Effect<void>) => Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const real = yield* Clock.Clock
    let byMillis = 0
    return yield* Effect.provideService(
      use((next) => Effect.sync(() => void (byMillis = next))),
      Clock.Clock,
      Clocks.telling(() => real.currentTimeMillisUnsafe() + byMillis, real)
    )
  })

// On each store it jumps for seconds.
describe("a clock that jumps", { concurrent: true }, () => {
  it.effect("OPS-05 C-66: is trusted again when it has stayed for a minute, or is right again", () =>
    Effect.flatMap(Clock.Clock, (real) => {
      let byMillis = 0
      let elapsedMillis = 0
      const move = (next: number) => Effect.sync(() => void (byMillis = next))
      const nanos = () => BigInt(elapsedMillis) * 1_000_000n
      const clock: Clock.Clock = {
        ...Clocks.telling(() => 1_800_000_000_000 + elapsedMillis + byMillis, real),
        monotonicTimeNanosUnsafe: nanos,
        monotonicTimeNanos: Effect.sync(nanos)
      }
      return Effect.gen(function*() {
        const steady = yield* Sweeper.makeSteadiness
        const after = (duration: Duration.Input) =>
          Effect.suspend(() => {
            elapsedMillis += Duration.toMillis(duration)
            return steady
          })
        assert.isTrue(yield* after("1 second"))
        yield* move(day)
        for (let second = 0; second < 3; second++) assert.isFalse(yield* after("1 second"))
        yield* move(0)
        assert.isTrue(yield* after("1 second"))
        // An hour without a look is no jump.
        assert.isTrue(yield* after("1 hour"))
        // A jump that is first seen long after the last look.
        yield* move(day)
        assert.isFalse(yield* after("1 hour"))
        assert.isFalse(yield* after("30 seconds"))
        yield* after("30 seconds")
        assert.isTrue(yield* after("1 second"))
        // A clock that goes back is followed at once, and so are a few seconds.
        yield* move(0)
        assert.isTrue(yield* after("1 second"))
        yield* move(4_000)
        assert.isTrue(yield* after("1 second"))
      }).pipe(Effect.provideService(Clock.Clock, clock))
    }))

  const stores = [
    { name: "memory", layer: Layer.fresh(Repositories.layerMemory) },
    ...databases.map(({ layer, name }) => ({ name, layer: Layer.provide(SqlRepositories.layer, layer) }))
  ]
  for (const { layer, name } of stores) {
    it.live(`OPS-05 C-66: 25 hours ahead for 3 seconds sweeps nothing that was not due, on ${name}`, () =>
      withClock((move) =>
        Effect.gen(function*() {
          const options = { interval: "50 millis", retention: "1 second" } as const
          const services = Layer.mergeAll(
            SessionCredentialService.layerWith({ lifetime: "1 hour" }),
            RunEventLog.layer
          ).pipe(Layer.provide(SecretStore.layerMemory))
          yield* Effect.gen(function*() {
            const sessions = yield* SessionCredentialService.SessionCredentialService
            const replays = yield* ReplayRepository.ReplayRepository
            const now = yield* Clock.currentTimeMillis
            const { token } = yield* sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
            const proof = { kind: "proof", digest: "digest", expiresAtMillis: now + 3_600_000 }
            assert.isTrue(yield* replays.spend(proof, now))
            const expired = { kind: "proof", digest: "expired", expiresAtMillis: now }
            yield* replays.spend(expired, now - 1)
            yield* Effect.sleep("1500 millis")
            yield* move(day)
            yield* Effect.sleep("3 seconds")
            yield* move(0)
            yield* sessions.verify(token)
            assert.isFalse(yield* replays.spend(proof, yield* Clock.currentTimeMillis))
            yield* Effect.sleep("200 millis")
            // What was due was swept, so it would be spent as new.
            assert.isTrue(yield* replays.spend(expired, now - 1))
          }).pipe(Effect.provide(
            Layer.mergeAll(
              SessionCredentialService.layerSweeper(options),
              ReplayRepository.layerSweeper({ interval: options.interval }),
              RunEventLog.layerReaper(),
              RunEventLog.layerSweeper({ interval: options.interval })
            ).pipe(Layer.provideMerge(services), Layer.provideMerge(layer), Layer.provide(NodeCrypto.layer))
          ))
        })
      ))
  }
})
