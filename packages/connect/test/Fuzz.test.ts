import { assert, describe, it } from "@effect/vitest"
import { ConnectEnvironmentApi, RelayApi } from "@sallyport/contract/ConnectProtocol"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Effect from "effect/Effect"
import { fuzz, probe, surfaceOf } from "../../../test-support/fuzz.ts"
import { key, startEnvironment, startRelay } from "./world.ts"

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
        yield* probe({ port: portOf(relay.url), surface: surfaceOf(RelayApi), credentials })
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

  it.live("BOOT-11 C-03: a client's label is a line, or its request is refused by the relay", () =>
    Effect.gen(function*() {
      const relay = yield* startRelay("memory")
      const environment = yield* startEnvironment("memory", relay)
      const ask = (label: string) =>
        Effect.map(
          relay.call("/api/relay/connect", {
            account: "ada",
            key: "k",
            payload: { environmentId: environment.id, label }
          }),
          ({ status }) => status
        )
      for (const label of ["a\u202eb", "a\u200bb", "a\u0000b", "\ud800", " ", "x".repeat(129)]) {
        assert.strictEqual(yield* ask(label), 400, JSON.stringify(label))
      }
      assert.strictEqual(yield* ask(" Ada's phone "), 200)
      const [client] = yield* environment.run(ConnectClientStore.ConnectClientStore.use((clients) => clients.list()))
      assert.strictEqual(client?.label, "Ada's phone")
      const decide = (reason: string) =>
        environment.run(
          ConnectClientStore.ConnectClientStore.use((clients) =>
            clients.decide({ client: key("k"), decision: "approved", by: "operator", reason })
          )
        )
      for (const reason of ["a\u0000b", "\ud800", "a\u202eb", "", "x".repeat(257)]) {
        assert.strictEqual((yield* Effect.flip(decide(reason))).reason._tag, "ReasonNotAllowed")
      }
      assert.strictEqual((yield* decide("known")).reason, "known")
    }))
})
