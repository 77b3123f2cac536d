/**
 * Runs the backend with a start that takes an hour on its own clock: the hour passes between taking the credential and
 * listening. No real time passes.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Config, Duration, Effect, FileSystem, Layer, Logger } from "effect"
import * as Backend from "../../src/Backend.ts"
import * as BackendProcess from "../../src/BackendProcess.ts"

const main = Effect.gen(function*() {
  const stateDirectory = yield* Config.String("DESKTOP_STATE")
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(stateDirectory, { recursive: true, mode: 0o700 })
  const real = yield* Clock.Clock
  let passed = Duration.zero
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + Duration.toMillis(passed),
    currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe()),
    currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe() + Duration.toNanosUnsafe(passed),
    currentTimeNanos: Effect.sync(() => clock.currentTimeNanosUnsafe()),
    monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: real.monotonicTimeNanos,
    sleep: (duration) => real.sleep(duration)
  }
  const slow = Layer.effectDiscard(Effect.sync(() => {
    passed = Duration.hours(1)
  }))
  yield* BackendProcess.run(Backend.layer({ port: 0, stateDirectory }).pipe(Layer.provide(slow))).pipe(
    Effect.provideService(Clock.Clock, clock)
  )
})

main.pipe(
  Effect.provide([NodeServices.layer, Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])]),
  NodeRuntime.runMain
)
