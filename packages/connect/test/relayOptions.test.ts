import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Variables from "../../../test-support/variables.ts"
import { settings } from "../src/internal/relayOptions.ts"

const decode = (variables: Record<string, string>) =>
  Effect.provideService(settings.fromConfig, ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(variables))

describe("the options of a relay", () => {
  it.effect("stand in the documented variables", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Variables.lookedFor(settings.fromConfig), Variables.documented("RelayHandlers"))
      assert.deepStrictEqual(yield* decode({}), yield* settings.defaults)
      assert.deepStrictEqual(
        yield* decode({
          SALLYPORT_RELAY_PROOFS_PER_ACCOUNT: "1",
          SALLYPORT_RELAY_ENVIRONMENTS_PER_ACCOUNT: "2",
          SALLYPORT_RELAY_CALLS_PER_CLIENT: "5",
          SALLYPORT_RELAY_CALLS_PER_ACCOUNT: "6",
          SALLYPORT_RELAY_WAITS_PER_CLIENT: "3",
          SALLYPORT_RELAY_WAITS_PER_ACCOUNT: "4"
        }),
        {
          proofsPerAccount: 1,
          environmentsPerAccount: 2,
          callsPerClient: 5,
          callsPerAccount: 6,
          waitsPerClient: 3,
          waitsPerAccount: 4
        }
      )
    }))

  it.effect("are refused by the name of the variable", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(decode({ SALLYPORT_RELAY_CALLS_PER_CLIENT: "some" }))
      assert.strictEqual(error._tag, "InvalidRelayHandlersOptions")
      assert.include(
        error.message,
        "SALLYPORT_RELAY_CALLS_PER_CLIENT must be a whole number from 1, such as 8, not \"some\""
      )
    }))
})
