import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Keyring from "@sallyport/node/Keyring"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/** A keyring in memory behind the interface of the module. `fault` makes an operation fail as the module would. */
const makeFake = () => {
  const entries = new Map<string, Uint8Array>()
  const state: { fault: "construct" | "operate" | undefined } = { fault: undefined }
  class AsyncEntry implements Keyring.Entry {
    private readonly key: string
    constructor(service: string, account: string, options: { readonly linux: { readonly store: string } }) {
      if (state.fault === "construct") throw new Error("Platform failure: DBus error")
      assert.strictEqual(options.linux.store, "secret-service")
      this.key = `${service}/${account}`
    }
    private answer<A>(f: () => A): Promise<A> {
      return state.fault === "operate"
        ? Promise.reject(new Error("the keyring is locked"))
        : Promise.resolve().then(f)
    }
    getSecret() {
      return this.answer(() => {
        const found = entries.get(this.key)
        // The module answers a plain array of numbers.
        return found === undefined ? null : Array.from(found)
      })
    }
    setSecret(secret: Uint8Array) {
      return this.answer(() => void entries.set(this.key, secret.slice()))
    }
    deleteCredential() {
      return this.answer(() => entries.delete(this.key))
    }
  }
  return { entries, state, layer: Layer.effect(Keyring.Keyring, Keyring.make(() => Promise.resolve({ AsyncEntry }))) }
}

const memory = Effect.provide(SecretStore.makeMemory(), NodeCrypto.layer)

const open = (
  keyring: Layer.Layer<Keyring.Keyring, SecretKeys.SecretKeysError>,
  store: SecretStore.SecretStore["Service"]
) =>
  SecretKeys.SecretKeys.pipe(
    Effect.provide(Keyring.layerSecretKeys({ service: "acme" })),
    Effect.provide([keyring, NodeCrypto.layer]),
    Effect.provideService(SecretStore.SecretStore, store)
  )

SecretStoreSuite.suite(
  "encrypted with a key of the keyring, memory",
  EncryptedSecretStore.layer({ storeId: "suite" }).pipe(
    Layer.provide(Keyring.layerSecretKeys({ service: "acme" })),
    Layer.provide([makeFake().layer, SecretStore.layerMemory]),
    Layer.provide(NodeCrypto.layer)
  )
)

describe("Keyring", () => {
  it.effect("SEC-05: the first start makes a key in the keyring, later ones and others at the same time find it", () =>
    Effect.gen(function*() {
      const fake = makeFake()
      const store = yield* memory
      const all = yield* Effect.all(Array.from({ length: 6 }, () => open(fake.layer, store)), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(all.map(({ active }) => active.id)).size, 1)
      assert.deepStrictEqual(Array.from(fake.entries.keys()), [`acme/${all[0]?.active.id}`])
      const record = Option.getOrThrow(yield* store.get(SecretKeys.recordName))
      const key = Array.from(fake.entries.values())[0] ?? new Uint8Array(0)
      assert.notInclude(Buffer.from(Redacted.value(record)).toString("latin1"), Buffer.from(key).toString("base64url"))
    }))

  it.effect("SEC-07: addKey adds a key that encrypts from the next start on, beside the old one", () =>
    Effect.gen(function*() {
      const fake = makeFake()
      const store = yield* memory
      const before = yield* open(fake.layer, store)
      const id = yield* Keyring.addKey({ service: "acme" }).pipe(
        Effect.provide([fake.layer, NodeCrypto.layer]),
        Effect.provideService(SecretStore.SecretStore, store)
      )
      const after = yield* open(fake.layer, store)
      assert.strictEqual(after.active.id, id)
      assert.isTrue(after.keys.has(before.active.id))
    }))

  it.effect("SEC-06: a keyring that is missing, locked or emptied is an error with a remedy, and no key is made", () =>
    Effect.gen(function*() {
      const fake = makeFake()
      const store = yield* memory
      yield* open(fake.layer, store)
      const size = fake.entries.size
      fake.state.fault = "construct"
      const missing = yield* Effect.flip(open(fake.layer, store))
      assert.strictEqual(missing.reason._tag, "SourceUnavailable")
      assert.include(missing.message, "DBus error")
      assert.include(missing.message, "Secret Service")
      fake.state.fault = "operate"
      const locked = yield* Effect.flip(open(fake.layer, store))
      assert.strictEqual(locked.reason._tag, "SourceFailure")
      assert.include(locked.message, "the keyring is locked")
      fake.state.fault = undefined
      assert.strictEqual(fake.entries.size, size)
      fake.entries.clear()
      const emptied = yield* Effect.flip(open(fake.layer, store))
      assert.strictEqual(emptied.reason._tag, "KeyMissing")
      assert.include(emptied.message, `restore the entry of "acme"`)
      assert.strictEqual(fake.entries.size, 0)
    }))

  it.effect("a module that is not installed is an error that says how to install it", () =>
    Effect.gen(function*() {
      const missing = Keyring.make(() => Promise.reject(new Error("Cannot find package '@napi-rs/keyring'")))
      const { reason } = yield* Effect.flip(missing)
      assert.strictEqual(reason._tag, "SourceUnavailable")
      assert.include(reason.message, "npm install @napi-rs/keyring")
    }))

  it.live("the real module without a Secret Service is an error, never the kernel's keyring, which forgets", () =>
    Effect.gen(function*() {
      const before = process.env["DBUS_SESSION_BUS_ADDRESS"]
      // A bus without a listener, so that this test never touches the keyring of its user. Other systems ignore it.
      if (process.platform !== "linux") return
      process.env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent/sallyport-test-bus"
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (before === undefined) delete process.env["DBUS_SESSION_BUS_ADDRESS"]
          else process.env["DBUS_SESSION_BUS_ADDRESS"] = before
        })
      )
      const keyring = yield* Effect.provide(Keyring.Keyring, Keyring.layer)
      for (
        const operation of [
          keyring.read("sallyport-test", "account"),
          keyring.write("sallyport-test", "account", Redacted.make(new Uint8Array(32))),
          keyring.remove("sallyport-test", "account")
        ]
      ) {
        const error = yield* Effect.flip<unknown, SecretKeys.SecretKeysError, never>(operation)
        assert.strictEqual(error.reason._tag, "SourceUnavailable")
        assert.include(error.message, "start a Secret Service")
      }
    }))
})
