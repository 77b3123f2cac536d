import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as SqlRateLimiterStore from "@sallyport/core/access/SqlRateLimiterStore"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DeviceAuthorization from "@sallyport/core/connect/DeviceAuthorization"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as TestClock from "effect/testing/TestClock"
import { databases } from "../../../../test-support/databases.ts"

const devices = DeviceAuthorization.layer.pipe(Layer.provide(ConnectClientStore.layer))

const stores = [
  { name: "memory", layer: Repositories.layerMemory },
  ...databases.map(({ layer, name }) => ({
    name,
    layer: Layer.merge(
      SqlRepositories.layer,
      Layer.provide(RateLimiter.layer, SqlRateLimiterStore.layer)
    ).pipe(Layer.provide(layer))
  }))
]

const Stores = Layer.mergeAll(Layer.fresh(Repositories.layerMemory), SecretStore.layerMemory).pipe(
  Layer.provideMerge(NodeCrypto.layer)
)

describe("the options of DeviceAuthorization", () => {
  it.effect("CONN-14: are what they must be, in code and in variables, or the layer fails and says which is not", () =>
    Effect.gen(function*() {
      const wrong = (layer: typeof DeviceAuthorization.layerConfig) =>
        Effect.flip(Effect.scoped(Layer.build(Layer.provide(layer, ConnectClientStore.layer))))
      const problems = [
        [{ requestsPerSource: 0 }, "requestsPerSource must be a whole number from 1"],
        [JSON.parse(`{"scopes":["runs:fly"]}`), "scopes must be some of access:read"],
        [JSON.parse(`{"scope":["runs:read"]}`), "scope is not an option; did you mean scopes?"]
      ] as const
      for (const [options, problem] of problems) {
        const error = yield* wrong(DeviceAuthorization.layerWith(options))
        assert.strictEqual(error._tag, "InvalidDeviceAuthorizationOptions")
        assert.include(error.message, problem)
      }
      const variables = (record: Record<string, string>) =>
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(record)))
      const error = yield* wrong(DeviceAuthorization.layerConfig).pipe(
        variables({ SALLYPORT_DEVICE_REQUESTS_PER_SOURCE: "many" })
      )
      assert.include(error.message, "SALLYPORT_DEVICE_REQUESTS_PER_SOURCE must be a whole number")
      const devices = Context.get(
        yield* Layer.build(Layer.provide(DeviceAuthorization.layerConfig, ConnectClientStore.layer)).pipe(
          variables({ SALLYPORT_DEVICE_SCOPES: "runs:read" })
        ),
        DeviceAuthorization.DeviceAuthorization
      )
      assert.deepStrictEqual((yield* devices.request({ clientId: "tv" })).client.requestedScopes, ["runs:read"])
    }).pipe(Effect.scoped, Effect.provide(Stores)))

  it.effect("CONN-09: is the host's number, within 1,000 a minute of all together", () =>
    Effect.gen(function*() {
      const devices = yield* DeviceAuthorization.DeviceAuthorization
      const asks = (count: number, source: string) =>
        Effect.forEach(Array.from({ length: count }), (_, n) =>
          Effect.match(devices.request({ clientId: `${source}-${n}`, source }), {
            onFailure: ({ reason }) =>
              reason._tag,
            onSuccess: () => "asked"
          }))
      const refused = (answers: ReadonlyArray<string>) =>
        answers.filter((answer) => answer === "TooManyCodes").length
      assert.strictEqual(refused(yield* asks(501, "192.0.2.1")), 1)
      assert.strictEqual(refused(yield* asks(501, "192.0.2.2")), 1)
      assert.strictEqual(refused(yield* asks(1, "192.0.2.3")), 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(refused(yield* asks(1, "192.0.2.3")), 0)
    }).pipe(Effect.provide(
      DeviceAuthorization.layerWith({ requestsPerSource: 500 }).pipe(
        Layer.provide(ConnectClientStore.layer),
        Layer.provide(Stores)
      )
    )))
})

for (const { layer, name } of stores) {
  describe(`DeviceAuthorization (${name})`, () => {
    it.effect(
      "CONN-09 BOOT-12 AGENT-03: no address and no network of one fills a client's list of waiting devices, by one node or two",
      () =>
        Effect.gen(function*() {
          const node = Effect.map(
            Layer.build(Layer.fresh(devices)),
            (services) => Context.get(services, DeviceAuthorization.DeviceAuthorization)
          )
          const first = yield* node
          // In memory there is one node, whose counters are its own.
          const second = name === "memory" ? first : yield* node
          const asks = (source: string, clientId = "tv", on = first) =>
            on.request({ clientId, source }).pipe(
              Effect.match({ onFailure: ({ reason }) => reason._tag, onSuccess: () => "asked" })
            )
          const asked = (answers: ReadonlyArray<string>) => answers.filter((answer) => answer === "asked").length
          const inTurn = (sources: ReadonlyArray<string>) =>
            Effect.forEach(sources, (source, n) => asks(source, "tv", n % 2 === 0 ? first : second))
          // One stranger may have each of these wholly: a network of 64 bits, of 56 and of 48.
          const addresses = Array.from({ length: 12 }, (_, n) => [
            `2001:db8:1:1::${n + 1}`,
            `2001:db8:1:1${n.toString(16)}::1`,
            `2001:db8:1:${n.toString(16)}00::1`
          ])
          assert.strictEqual(asked(yield* inTurn(addresses.flat())), 8)
          assert.strictEqual(asked(yield* inTurn(Array.from({ length: 12 }, () => "192.0.2.1"))), 8)
          for (const source of ["2001:db8:1::1", "2001:db8:1:ffff::", "192.0.2.1", "::ffff:192.0.2.1"]) {
            for (const client of ["tv", "another"]) assert.strictEqual(yield* asks(source, client), "TooManyCodes")
          }
          for (const source of ["198.51.100.7", "2001:db8:2::1"]) assert.strictEqual(yield* asks(source), "asked")
          yield* TestClock.adjust("10 minutes")
          for (const source of ["192.0.2.1", "2001:db8:1::1"]) assert.strictEqual(yield* asks(source), "asked")
        }).pipe(
          Effect.scoped,
          Effect.provide(
            Layer.fresh(Layer.mergeAll(layer, SecretStore.layerMemory)).pipe(Layer.provideMerge(NodeCrypto.layer)),
            { local: true }
          )
        ),
      120_000
    )
  })
}
