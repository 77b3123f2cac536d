import { NodeCrypto } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { AuthPolicy, Repositories, RunEventLog, SecretStore, SessionCredentialService } from "@sallyport/core"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as RunStreamsRoutes from "@sallyport/durable-streams/RunStreamsRoutes"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Variables from "../../../test-support/variables.ts"
import * as StreamOptions from "../src/internal/streamOptions.ts"
import * as SubscriptionOptions from "../src/internal/subscriptionOptions.ts"

const withVariables = (variables: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(variables))

const services = Layer.mergeAll(
  DurableStreams.layer.pipe(Layer.provide(DurableStreamRepository.layerMemory)),
  RunEventLog.layer,
  SessionCredentialService.layer,
  AuthPolicy.layer({ host: "127.0.0.1" })
).pipe(Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]), Layer.provide(NodeCrypto.layer))

describe("the options of streams and subscriptions", () => {
  it.effect("stand in the documented variables", () =>
    Effect.gen(function*() {
      const streams = yield* Variables.lookedFor(StreamOptions.settings.fromConfig)
      assert.deepStrictEqual(streams, Variables.documented("DurableStreams"))
      const subscriptions = yield* Variables.lookedFor(SubscriptionOptions.settings(undefined).fromConfig)
      assert.deepStrictEqual(subscriptions, Variables.documented("StreamSubscriptions"))
    }))

  it.effect("are read from them", () =>
    Effect.gen(function*() {
      const { settings } = StreamOptions
      assert.deepStrictEqual(yield* withVariables({})(settings.fromConfig), yield* settings.defaults)
      assert.deepStrictEqual(
        yield* withVariables({
          SALLYPORT_STREAMS_MAX_APPEND_BYTES: "1",
          SALLYPORT_STREAMS_MAX_STREAM_BYTES: "2",
          SALLYPORT_STREAMS_MAX_STREAMS: "7",
          SALLYPORT_STREAMS_MAX_BATCH_APPENDS: "3",
          SALLYPORT_STREAMS_PAGE_RECORDS: "4",
          SALLYPORT_STREAMS_PAGE_BYTES: "5",
          SALLYPORT_STREAMS_POLL_INTERVAL: "6 millis"
        })(settings.fromConfig),
        {
          maxAppendBytes: 1,
          maxStreamBytes: 2,
          maxStreams: 7,
          maxBatchAppends: 3,
          pageRecords: 4,
          pageBytes: 5,
          pollInterval: 6
        }
      )
      const { allowWebhook, ...rest } = yield* withVariables({
        SALLYPORT_SUBSCRIPTIONS_ALLOW_LOOPBACK: "true",
        SALLYPORT_SUBSCRIPTIONS_MAX_SUBSCRIPTIONS: "4",
        SALLYPORT_SUBSCRIPTIONS_MAX_CALLS: "5",
        SALLYPORT_SUBSCRIPTIONS_INTERVAL: "1 second",
        SALLYPORT_SUBSCRIPTIONS_RECONCILE_INTERVAL: "2 seconds",
        SALLYPORT_SUBSCRIPTIONS_WEBHOOK_TIMEOUT: "3 seconds"
      })(SubscriptionOptions.settings(undefined).fromConfig)
      assert.deepStrictEqual(rest, {
        allowLoopback: true,
        maxSubscriptions: 4,
        maxCalls: 5,
        intervalMillis: 1_000,
        reconcileMillis: 2_000,
        webhookTimeoutMillis: 3_000
      })
      assert.isTrue(allowWebhook(new URL("http://127.0.0.1:1/hook")))
      assert.isFalse((yield* SubscriptionOptions.settings(undefined).defaults).allowLoopback)
    }))

  it.effect("stop the start by name if they cannot work", () =>
    Effect.gen(function*() {
      const layer = Layer.provide(DurableStreams.layerConfig, DurableStreamRepository.layerMemory)
      const inVariable = yield* Effect.flip(Layer.build(layer)).pipe(
        withVariables({ SALLYPORT_STREAMS_PAGE_BYTES: "1 MiB" })
      )
      assert.strictEqual(inVariable._tag, "InvalidDurableStreamsOptions")
      assert.include(
        inVariable.message,
        "SALLYPORT_STREAMS_PAGE_BYTES must be a whole number from 1, such as 1048576, not \"1 MiB\""
      )
      const inCode = yield* Effect.flip(Layer.build(
        Layer.provide(DurableStreams.layerWith({ pollInterval: "0 millis" }), DurableStreamRepository.layerMemory)
      ))
      assert.include(inCode.message, "pollInterval must be a duration of at least 1 millisecond")
    }))

  it.effect("of routes stop the start by name, too", () =>
    Effect.gen(function*() {
      const options = { sseDuration: "0 seconds" } as const
      for (
        const layer of [
          Layer.provide(DurableStreamsRoutes.layer(options), [HttpRouter.layer, services]),
          Layer.provide(RunStreamsRoutes.layer(options), [HttpRouter.layer, services])
        ]
      ) {
        const error = yield* Effect.flip(Layer.build(layer))
        assert.strictEqual(error._tag, "InvalidStreamsRoutesOptions")
        assert.include(error.message, "sseDuration must be a duration of at least 1 millisecond, such as 60 seconds")
      }
    }))
})
