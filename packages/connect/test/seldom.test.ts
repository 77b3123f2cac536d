import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { layerLines, lines } from "../../../test-support/outage.ts"
import * as Seldom from "../src/internal/seldom.ts"

describe("what strangers can make happen", () => {
  it.effect("OPS-06: is a line of the log once a minute, however often it happens", () =>
    Effect.gen(function*() {
      const refused = Seldom.make("Refused", Effect.logInfo)
      const unavailable = Seldom.make("Unavailable", Effect.logWarning)
      const flood = Effect.repeat(refused({ problem: "unsigned" }), { times: 999 })
      yield* flood
      yield* unavailable({ problem: "another matter" })
      assert.deepStrictEqual((yield* lines).map((line) => line.split(" ").slice(0, 2).join(" ")), [
        "INFO Refused",
        "WARN Unavailable"
      ])
      yield* TestClock.adjust("59 seconds")
      yield* flood
      assert.strictEqual((yield* lines).length, 2)
      yield* TestClock.adjust("1 second")
      yield* flood
      assert.strictEqual((yield* lines).length, 3)
    }).pipe(Effect.provide(layerLines)))
})
