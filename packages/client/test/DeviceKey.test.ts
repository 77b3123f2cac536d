import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from "jose"
import { createHash } from "node:crypto"
import { inspect } from "node:util"

const withStore = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provide(effect, Layer.provideMerge(SecretStore.layerMemory, NodeCrypto.layer))

/** Builds a layer again each time, as another start of the program does. */
const build = (layer: typeof DeviceKey.layerSecretStore) =>
  Layer.build(Layer.fresh(layer)).pipe(
    Effect.map(Context.get(DeviceKey.DeviceKey)),
    Effect.provide(NodeCrypto.layer),
    Effect.scoped
  )

const layers = { layerMemory: DeviceKey.layerMemory, layerSecretStore: DeviceKey.layerSecretStore }

describe("a device key", () => {
  for (const [name, layer] of Object.entries(layers)) {
    it.effect(`SESS-10: makes proofs that an independent library takes, ${name} (K2)`, () =>
      Effect.gen(function*() {
        const key = yield* build(layer)
        const accessToken = Redacted.make("the-token")
        const proof = yield* key.prove({
          method: "GET",
          url: "https://host.example/api/x?secret=1#fragment",
          accessToken,
          nonce: "a-nonce",
          clockOffsetSeconds: 5
        })
        const nowMillis = yield* Clock.currentTimeMillis
        const { payload, protectedHeader } = yield* Effect.promise(() =>
          jwtVerify(proof, EmbeddedJWK, { typ: "dpop+jwt", currentDate: new Date(nowMillis) })
        )
        assert.deepInclude(payload, {
          htm: "GET",
          htu: "https://host.example/api/x",
          iat: Math.floor(nowMillis / 1000) + 5,
          nonce: "a-nonce",
          ath: createHash("sha256").update("the-token").digest("base64url")
        })
        const { jwk } = protectedHeader
        if (jwk === undefined) return assert.fail("no key")
        assert.strictEqual(yield* Effect.promise(() => calculateJwkThumbprint(jwk)), key.thumbprint)
        assert.notProperty(jwk, "d")
        const other = yield* key.prove({ method: "GET", url: "https://host.example/api/x", accessToken })
        const { jti } = (yield* Effect.promise(() => jwtVerify(other, EmbeddedJWK))).payload
        assert.notStrictEqual(jti, payload.jti)
      }).pipe(withStore))
  }

  it.effect("SEC-03: is one for all that start together on a store, and the same at the next start", () =>
    Effect.gen(function*() {
      const keys = yield* Effect.replicateEffect(build(DeviceKey.layerSecretStore), 8, { concurrency: "unbounded" })
      assert.strictEqual(new Set(keys.map(({ thumbprint }) => thumbprint)).size, 1)
      assert.strictEqual((yield* build(DeviceKey.layerSecretStore)).thumbprint, keys[0]?.thumbprint)
    }).pipe(withStore))

  it.effect("is read from the 32 bytes that earlier versions stored", () =>
    Effect.gen(function*() {
      const secrets = yield* SecretStore.SecretStore
      const seed = Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex")
      yield* secrets.set(DeviceKey.secretName, Redacted.make(new Uint8Array(seed)))
      // RFC 8037 appendix A: the key, and the thumbprint of its public part.
      assert.strictEqual(
        (yield* build(DeviceKey.layerSecretStore)).thumbprint,
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
      )
    }).pipe(withStore))

  it.effect("is never replaced if something else is stored, or the store cannot be read", () =>
    Effect.gen(function*() {
      const secrets = yield* SecretStore.SecretStore
      const short = Redacted.make(new Uint8Array(31).fill(7))
      yield* secrets.set(DeviceKey.secretName, short)
      const error = yield* Effect.flip(build(DeviceKey.layerSecretStore))
      assert.strictEqual(error.reason._tag, "KeyDamaged")
      assert.include(error.message, DeviceKey.secretName)
      assert.deepStrictEqual(
        Option.map(yield* secrets.get(DeviceKey.secretName), Redacted.value),
        Option.some(Redacted.value(short))
      )
      const broken = new SecretStore.SecretStoreError({
        reason: new SecretStore.Corrupt({ location: "there", problem: "it is torn", remedy: "Restore it." })
      })
      const failing = yield* build(DeviceKey.layerSecretStore).pipe(
        Effect.provideService(SecretStore.SecretStore, { ...secrets, getOrCreateRandom: () => Effect.fail(broken) }),
        Effect.flip
      )
      assert.strictEqual(failing.reason._tag, "KeyStoreUnavailable")
      assert.include(failing.message, broken.message)
    }).pipe(withStore))

  it.effect("is not to be had without IndexedDB or WebCrypto, which is told", () =>
    Effect.gen(function*() {
      const reasonOf = (layer: typeof DeviceKey.layerMemory) =>
        Effect.map(Effect.flip(build(layer)), ({ reason }) => reason._tag)
      assert.strictEqual(yield* reasonOf(DeviceKey.layerIndexedDb()), "KeyStoreUnavailable")
      const insecure = Object.create(globalThis.crypto, { subtle: { value: undefined } })
      assert.strictEqual(
        yield* reasonOf(DeviceKey.layerMemory).pipe(Effect.provide(WebCrypto.layer(insecure))),
        "CryptoUnavailable"
      )
    }).pipe(withStore))

  it.effect("is not waited for if the browser's database never answers, as in some private windows", () =>
    Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() => Object.assign(globalThis, { indexedDB: { open: () => new EventTarget() } })),
        () => Effect.sync(() => Reflect.deleteProperty(globalThis, "indexedDB"))
      )
      const fiber = yield* Effect.forkChild(Effect.flip(build(DeviceKey.layerIndexedDb())))
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      yield* TestClock.adjust("10 seconds")
      const { reason } = yield* Fiber.join(fiber)
      assert.strictEqual(reason._tag, "KeyStoreUnavailable")
      assert.include(reason.message, "does not answer")
    }).pipe(withStore))

  it.effect("SEC-08: shows nothing of itself", () =>
    Effect.gen(function*() {
      const secrets = yield* SecretStore.SecretStore
      yield* secrets.set(DeviceKey.secretName, Redacted.make(new Uint8Array(32).fill(7)))
      const key = yield* build(DeviceKey.layerSecretStore)
      const seed = Buffer.alloc(32, 7)
      const shown = inspect(key, { depth: 20, showHidden: true }) + JSON.stringify(key)
      for (const encoding of ["hex", "base64", "base64url"] as const) assert.notInclude(shown, seed.toString(encoding))
    }).pipe(withStore))
})
