import { assert, it } from "@effect/vitest"
import * as Following from "@sallyport/core/Following"
import * as Outage from "@sallyport/core/Outage"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

it.effect("OPS-06: reads that fail while hints still come are one outage", () => {
  const lines: Array<string> = []
  return Effect.gen(function*() {
    yield* Effect.forkScoped(Following.run({
      wakeUps: Stream.tick("250 millis"),
      pollInterval: Duration.seconds(5),
      retryDelay: Duration.millis(250),
      outage: Outage.make({ of: "it", begins: "begins", ends: "ends" })(),
      look: () => Effect.fail("the store is down")
    }))
    for (let step = 0; step < 40; step++) yield* TestClock.adjust("250 millis")
    assert.deepStrictEqual(lines.length, 1, `${lines.length} lines in 10 seconds: ${lines.slice(0, 6).join(", ")}`)
  }).pipe(Effect.scoped, Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])))
})
