import { describe, it } from "@effect/vitest"
import { ConnectEnvironmentApi, RelayApi } from "@sallyport/contract/ConnectProtocol"
import * as Effect from "effect/Effect"
import { fuzz, surfaceOf } from "../../../test-support/fuzz.ts"
import { startEnvironment, startRelay } from "./world.ts"

const portOf = (url: string) => Number(new URL(url).port)

describe("requests of any bytes", () => {
  it.live(
    "BOOT-11 C-06: get an answer from every endpoint of a relay and an environment, which is never a defect",
    () =>
      Effect.gen(function*() {
        const relay = yield* startRelay("SQLite")
        const environment = yield* startEnvironment("SQLite", relay)
        // The relay of the test believes what a header says of the session.
        const anonymous = false
        const credentials = Effect.succeed(["authorization: Bearer ada", `x-key: ${"k".repeat(43)}`])
        yield* fuzz({ port: portOf(relay.url), surface: surfaceOf(RelayApi), credentials, anonymous, runs: 800 })
        yield* fuzz({
          port: portOf(environment.url),
          surface: surfaceOf(ConnectEnvironmentApi),
          credentials,
          runs: 400
        })
      }),
    120_000
  )
})
