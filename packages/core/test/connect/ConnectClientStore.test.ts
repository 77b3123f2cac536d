import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Repositories from "@sallyport/core/Repositories"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"

const layer = (options: ConnectClientStore.Options) =>
  ConnectClientStore.layerWith(options).pipe(
    Layer.provide(Layer.fresh(Repositories.layerMemory)),
    Layer.provide(NodeCrypto.layer)
  )

const key = (name: string) => name.repeat(43)

/** Asks for a client, and returns how to wait for the decision about its request. */
const ask = Effect.fnUntraced(function*(name: string) {
  const clients = yield* ConnectClientStore.ConnectClientStore
  const asked = yield* clients.request({ proofKeyThumbprint: key(name), account: "ada" })
  if (asked._tag !== "Pending") return assert.fail(asked._tag)
  return clients.awaitDecision({
    proofKeyThumbprint: key(name),
    account: "ada",
    requestedAtMillis: asked.client.requestedAt.epochMilliseconds,
    timeout: "1 hour"
  })
})

describe("ConnectClientStore", () => {
  it.effect("CONN-09 CONN-11: lets as many wait in a process as it may, and others again once one has gone", () =>
    Effect.gen(function*() {
      const waiting = yield* Effect.forkChild(yield* ask("a"), { startImmediately: true })
      const leaving = yield* Effect.forkChild(yield* ask("b"), { startImmediately: true })
      const third = yield* ask("c")
      const refused = yield* Effect.flip(third)
      assert.strictEqual(refused.reason._tag, "TooManyWaiting")
      yield* Fiber.interrupt(leaving)
      const waitingToo = yield* Effect.forkChild(third, { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(yield* ask("d"))).reason._tag, "TooManyWaiting")
      const clients = yield* ConnectClientStore.ConnectClientStore
      yield* clients.decide({ client: "ccc", decision: "rejected", by: "operator" })
      assert.strictEqual(yield* Fiber.join(waitingToo), "rejected")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(waiting), "pending")
    }).pipe(Effect.provide(layer({ maxWaiting: 2 }))))

  it.effect("CONN-09: tells who waits that the request has expired, without being asked", () =>
    Effect.gen(function*() {
      const waiting = yield* Effect.forkChild(yield* ask("a"), { startImmediately: true })
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* Fiber.join(waiting), "expired")
    }).pipe(Effect.provide(layer({ pendingLifetime: "10 minutes" }))))
})
