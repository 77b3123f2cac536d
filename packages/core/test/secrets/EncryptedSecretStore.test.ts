import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { assert, describe, it } from "@effect/vitest"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { type ChildProcess, spawn } from "node:child_process"
import { createDecipheriv, hkdfSync, randomBytes } from "node:crypto"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { argumentsOf } from "../../../../test-support/programs.ts"

const Platform = Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeCrypto.layer)

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-encrypted-"))),
  (directory) => Effect.sync(() => NFS.rmSync(directory, { recursive: true, force: true }))
)

const freshKey = () => Redacted.make<Uint8Array>(new Uint8Array(randomBytes(32)))

for (const algorithm of ["aes256Gcm", "xchacha20Poly1305"] as const) {
  SecretStoreSuite.suite(
    `encrypted with ${algorithm}, memory`,
    EncryptedSecretStore.layer({ storeId: "suite", algorithm }).pipe(
      Layer.provide([SecretKeys.layerKeys({ active: freshKey() }), SecretStore.layerMemory]),
      Layer.provide(NodeCrypto.layer)
    )
  )
}

SecretStoreSuite.suite(
  "encrypted, file system",
  EncryptedSecretStore.layer({ storeId: "suite" }).pipe(
    Layer.provide(SecretKeys.layerKeys({ active: freshKey() })),
    Layer.provide(Layer.unwrap(Effect.map(
      temporaryDirectory,
      (directory) => SecretStore.layerFileSystem(`${directory}/secrets`)
    ))),
    Layer.provide(Platform)
  )
)

const secret = (text: string) => Redacted.make(new TextEncoder().encode(text))

const decode = (value: Redacted.Redacted<Uint8Array>) => new TextDecoder().decode(Redacted.value(value))

type Store = SecretStore.SecretStore["Service"]

const textOf = (store: Store, name: string) =>
  Effect.map(store.get(name), (value) => Option.getOrNull(Option.map(value, decode)))

const memory = (options?: SecretStore.Options) => Effect.provide(SecretStore.makeMemory(options), NodeCrypto.layer)

type Key = Redacted.Redacted<Uint8Array>

const encrypted = (
  underlying: Store,
  keys: readonly [Key, ...ReadonlyArray<Key>],
  options?: Partial<EncryptedSecretStore.Options>
) =>
  EncryptedSecretStore.make({ storeId: "test", ...options }).pipe(
    Effect.provide(SecretKeys.layerKeys({ active: keys[0], previous: keys.slice(1) })),
    Effect.provideService(SecretStore.SecretStore, underlying),
    Effect.provide(NodeCrypto.layer)
  )

const reasonOf = (effect: Effect.Effect<unknown, SecretStore.SecretStoreError>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

const stored = (underlying: Store, name: string) =>
  Effect.map(underlying.get(name), (value) => Redacted.value(Option.getOrThrow(value)))

describe("EncryptedSecretStore", () => {
  it.effect("SEC-05: stores an envelope with magic, version, algorithm, key id and nonce, and never the same bytes twice", () =>
    Effect.gen(function*() {
      const key = freshKey()
      const underlying = yield* memory()
      for (const [algorithm, number, nonce] of [["aes256Gcm", 1, 12], ["xchacha20Poly1305", 2, 24]] as const) {
        const { store } = yield* encrypted(underlying, [key], { algorithm })
        const seen = new Set<string>()
        for (let round = 0; round < 8; round++) {
          yield* store.set("key", secret("the very same value"))
          const bytes = yield* stored(underlying, "key")
          assert.strictEqual(new TextDecoder().decode(bytes.subarray(0, 4)), "SPSE")
          assert.deepStrictEqual(Array.from(bytes.subarray(4, 8)), [1, number, 0, 0])
          assert.lengthOf(bytes, 56 + nonce + "the very same value".length + 16)
          assert.notInclude(Buffer.from(bytes).toString("latin1"), "very same")
          for (const part of [bytes.subarray(24, 56), bytes.subarray(56, 56 + nonce), bytes.subarray(56 + nonce)]) {
            seen.add(Hex.encode(part))
          }
        }
        assert.strictEqual(seen.size, 24)
      }
    }))

  it.effect("SEC-05 L-56: a ciphertext moved to another name, another store or under another key does not decrypt", () =>
    Effect.gen(function*() {
      const key = freshKey()
      const underlying = yield* memory()
      const { store } = yield* encrypted(underlying, [key])
      yield* store.set("one", secret("first"))
      yield* store.set("two", secret("second"))
      const bytes = yield* stored(underlying, "one")
      yield* underlying.set("two", Redacted.make(bytes))
      const moved = yield* reasonOf(store.get("two"))
      assert.strictEqual(moved._tag, "Undecryptable")
      assert.include(moved.message, "another name")
      assert.strictEqual(yield* textOf(store, "one"), "first")

      const elsewhere = yield* encrypted(underlying, [key], { storeId: "tes" })
      assert.strictEqual((yield* reasonOf(elsewhere.store.get("one")))._tag, "Undecryptable")
      // The end of the store's id cannot be read as the beginning of the name.
      const other = yield* memory()
      yield* other.set("tone", Redacted.make(bytes))
      assert.strictEqual(
        (yield* reasonOf((yield* encrypted(other, [key], { storeId: "tes" })).store.get("tone")))._tag,
        "Undecryptable"
      )

      const stranger = yield* encrypted(underlying, [freshKey()])
      const foreign = yield* reasonOf(stranger.store.get("one"))
      assert.strictEqual(foreign._tag, "Undecryptable")
      assert.include(foreign.message, "Start it with that key")
    }))

  it.effect(
    "SEC-05 SEC-06: every altered bit and every truncation is undecryptable, never another value and never missing",
    () =>
      Effect.gen(function*() {
        const underlying = yield* memory()
        const { store } = yield* encrypted(underlying, [freshKey()])
        yield* store.set("key", secret("value"))
        const bytes = yield* stored(underlying, "key")
        const attempts: Array<Uint8Array> = []
        for (let bit = 0; bit < bytes.length * 8; bit++) {
          const altered = bytes.slice()
          altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7))
          attempts.push(altered)
        }
        for (let length = 0; length < bytes.length; length++) attempts.push(bytes.slice(0, length))
        attempts.push(new Uint8Array([...bytes, 0]))
        for (const attempt of attempts) {
          yield* underlying.set("key", Redacted.make(attempt))
          const operations: ReadonlyArray<Effect.Effect<unknown, SecretStore.SecretStoreError>> = [
            store.get("key"),
            store.getOrCreateRandom("key", 32),
            store.modify("key", () => Effect.succeed([undefined, Option.some(secret("x"))]))
          ]
          for (const operation of operations) assert.strictEqual((yield* reasonOf(operation))._tag, "Undecryptable")
          assert.isFalse(yield* store.create("key", secret("x")))
          assert.deepStrictEqual(yield* stored(underlying, "key"), attempt)
        }
        assert.deepStrictEqual<ReadonlyArray<string>>(yield* store.list, ["key"])
        // What no key can read can still be replaced and removed.
        yield* store.set("key", secret("new"))
        assert.strictEqual(yield* textOf(store, "key"), "new")
      }),
    300_000
  )

  it.effect("SEC-05: another program that knows the key decrypts a value by the documented format", () =>
    Effect.gen(function*() {
      const key = freshKey()
      const underlying = yield* memory()
      const { store } = yield* encrypted(underlying, [key], { storeId: "acme/é" })
      yield* store.set("signing", secret("value"))
      const bytes = yield* stored(underlying, "signing")
      const header = bytes.subarray(0, 56)
      assert.strictEqual(
        Hex.encode(header.subarray(8, 24)),
        Buffer.from(hkdfSync("sha256", Redacted.value(key), "", "sallyport/secret-key-id/v1", 16)).toString("hex")
      )
      const valueKey = hkdfSync("sha256", Redacted.value(key), header.subarray(24), "sallyport/secret/v1/aes256Gcm", 32)
      const decipher = createDecipheriv("aes-256-gcm", new Uint8Array(valueKey), bytes.subarray(56, 68))
      decipher.setAAD(Buffer.concat([header, Buffer.from([0, 0, 0, 7]), Buffer.from("acme/ésigning")]))
      decipher.setAuthTag(bytes.subarray(-16))
      assert.strictEqual(decipher.update(bytes.subarray(68, -16), undefined, "utf8") + decipher.final("utf8"), "value")
    }))

  it.effect("SEC-06: says what an unreadable value needs", () =>
    Effect.gen(function*() {
      const underlying = yield* memory()
      const { store } = yield* encrypted(underlying, [freshKey()])
      yield* underlying.set("plain", secret("hunter2-hunter2"))
      const plain = yield* reasonOf(store.get("plain"))
      assert.include(plain.message, "it is not encrypted")
      assert.include(plain.message, "encryptPlain")
      assert.notInclude(plain.message, "hunter2")
      yield* store.set("key", secret("value"))
      const bytes = yield* stored(underlying, "key")
      bytes[4] = 2
      yield* underlying.set("key", Redacted.make(bytes))
      assert.include((yield* reasonOf(store.get("key"))).message, "format 2, and this program knows 1. Upgrade")
    }))

  it.effect.prop("gives back any bytes under any store id", [
    Schema.Uint8Array,
    Schema.String.check(Schema.isBetweenLength(1, 255))
  ], ([value, storeId]) =>
    Effect.gen(function*() {
      const underlying = yield* memory()
      const { store } = yield* encrypted(underlying, [freshKey()], { storeId })
      yield* store.set("key", Redacted.make(value))
      assert.deepStrictEqual(Redacted.value(Option.getOrThrow(yield* store.get("key"))), value)
    }))

  it.effect("the name of the list of keys is reserved, in every operation", () =>
    Effect.gen(function*() {
      const underlying = yield* memory()
      const { store } = yield* encrypted(underlying, [freshKey()])
      const name = SecretKeys.recordName
      yield* underlying.set(name, secret("a record"))
      const operations: ReadonlyArray<Effect.Effect<unknown, SecretStore.SecretStoreError>> = [
        store.get(name),
        store.set(name, secret("x")),
        store.create(name, secret("x")),
        store.getOrCreateRandom(name, 32),
        store.modify(name, () => Effect.succeed([undefined, Option.some(secret("x"))])),
        store.remove(name),
        store.history(name)
      ]
      for (const operation of operations) {
        const reason = yield* reasonOf(operation)
        assert.strictEqual(reason._tag, "InvalidName")
        assert.include(reason.message, "reserved for the list of encryption keys")
      }
      assert.deepStrictEqual(yield* store.list, [])
      assert.strictEqual(yield* textOf(underlying, name), "a record")
    }))

  it.effect("replaces the store above it and hides the one below", () =>
    Effect.gen(function*() {
      const underlying = yield* memory()
      const context = yield* Layer.build(
        EncryptedSecretStore.layer({ storeId: "test" }).pipe(
          Layer.provide(SecretKeys.layerKeys({ active: freshKey() })),
          Layer.provide(Layer.succeed(SecretStore.SecretStore, underlying)),
          Layer.provide(NodeCrypto.layer)
        )
      )
      yield* Context.get(context, SecretStore.SecretStore).set("key", secret("value"))
      assert.notStrictEqual(yield* textOf(underlying, "key"), "value")
      const report = yield* Context.get(context, EncryptedSecretStore.SecretRotation).rotate
      assert.deepStrictEqual<ReadonlyArray<string>>(report.unchanged, ["key"])
    }))

  it.effect("refuses a store id that is empty or too long", () =>
    Effect.gen(function*() {
      const underlying = yield* memory()
      for (const storeId of ["", "x".repeat(256)]) {
        const error = yield* Effect.flip(encrypted(underlying, [freshKey()], { storeId }))
        assert.strictEqual(error._tag, "InvalidEncryptedSecretStoreOptions")
        assert.include(error.message, "storeId must be a text of 1 to 255 characters")
      }
    }))
})

describe("SecretRotation", () => {
  for (const keepVersions of [1, 2, 5]) {
    it.effect(`SEC-07: a new key encrypts, old ones decrypt, and after rotate they are not needed (${keepVersions} versions kept)`, () =>
      Effect.gen(function*() {
        const underlying = yield* memory({ keepVersions })
        const [oldest, old, next] = [freshKey(), freshKey(), freshKey()]
        const first = yield* encrypted(underlying, [oldest])
        yield* first.store.set("a", secret("a0"))
        yield* first.store.set("a", secret("a1"))
        yield* first.store.set("removed", secret("x"))
        yield* first.store.remove("removed")
        const second = yield* encrypted(underlying, [old, oldest])
        yield* second.store.set("b", secret("b0"))
        assert.strictEqual(yield* textOf(second.store, "a"), "a1")

        const third = yield* encrypted(underlying, [next, old, oldest])
        assert.strictEqual(yield* textOf(third.store, "a"), "a1")
        yield* third.store.set("c", secret("c0"))
        assert.strictEqual((yield* third.rotation.keyUse).versionsByKeyId.size, 3)
        const report = yield* third.rotation.rotate
        assert.deepStrictEqual<unknown>(report, { rewritten: ["a", "b"], unchanged: ["c"] })
        assert.strictEqual((yield* third.rotation.keyUse).versionsByKeyId.size, 1)

        const alone = yield* encrypted(underlying, [next])
        assert.deepStrictEqual<ReadonlyArray<string>>(yield* alone.store.list, ["a", "b", "c"])
        for (const name of ["a", "b", "c"]) {
          const value = yield* textOf(alone.store, name)
          assert.strictEqual(value, name === "a" ? "a1" : `${name}0`)
          // The copies that a rotation writes are one version to a reader.
          assert.deepStrictEqual((yield* alone.store.history(name)).map((version) => decode(version.value)), [value])
        }
        assert.deepStrictEqual<unknown>(yield* alone.rotation.rotate, { rewritten: [], unchanged: ["a", "b", "c"] })
        assert.strictEqual((yield* reasonOf(first.store.get("a")))._tag, "Undecryptable")
      }))
  }

  it.effect("SEC-07: rotate changes the algorithm, and SEC-09 versions set later stand above the rotated one", () =>
    Effect.gen(function*() {
      const key = freshKey()
      const underlying = yield* memory({ keepVersions: 3 })
      yield* (yield* encrypted(underlying, [key])).store.set("key", secret("one"))
      const { rotation, store } = yield* encrypted(underlying, [key], { algorithm: "xchacha20Poly1305" })
      assert.strictEqual(yield* textOf(store, "key"), "one")
      assert.lengthOf((yield* rotation.rotate).rewritten, 1)
      assert.strictEqual((yield* stored(underlying, "key"))[5], 2)
      yield* store.set("key", secret("two"))
      assert.deepStrictEqual((yield* store.history("key")).map(({ value }) => decode(value)), ["two", "one"])
    }))

  it.effect("SEC-07: a rotation interrupted at any write is finished by the next, and every read in between is whole", () =>
    Effect.gen(function*() {
      const [old, next] = [freshKey(), freshKey()]
      const all = Array.from({ length: 4 }, (_, index) => `key-${index}`)
      // 4 names with 2 writes each.
      for (let stopAt = 0; stopAt < 8; stopAt++) {
        const underlying = yield* memory()
        const before = yield* encrypted(underlying, [old])
        for (const name of all) yield* before.store.set(name, secret(`${name} value`))
        const reached = yield* Deferred.make<void>()
        let writes = 0
        const stopping = SecretStore.SecretStore.of({
          ...underlying,
          modify: (name, f) =>
            underlying.modify(name, (current) =>
              Effect.tap(f(current), () => {
                if (writes++ < stopAt) return Effect.void
                return Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
              }))
        })
        const during = yield* encrypted(stopping, [next, old])
        const fiber = yield* Effect.forkChild(during.rotation.rotate)
        yield* Deferred.await(reached)
        yield* Fiber.interrupt(fiber)
        const after = yield* encrypted(underlying, [next, old])
        for (const name of all) assert.strictEqual(yield* textOf(after.store, name), `${name} value`)
        yield* after.rotation.rotate
        const alone = yield* encrypted(underlying, [next])
        for (const name of all) assert.strictEqual(yield* textOf(alone.store, name), `${name} value`)
      }
    }))

  it.effect("SEC-07 SEC-09: a set, a modify and a removal in the middle of a rewrite are not lost", () =>
    Effect.gen(function*() {
      const [old, next] = [freshKey(), freshKey()]
      const underlying = yield* memory()
      const before = yield* encrypted(underlying, [old])
      for (const name of ["changed", "modified", "removed", "same"]) yield* before.store.set(name, secret("1"))
      const touched = new Set<string>()
      const racing = SecretStore.SecretStore.of({
        ...underlying,
        modify: (name, f) =>
          underlying.modify(name, (current) =>
            Effect.tap(f(current), () =>
              Effect.gen(function*() {
                if (touched.has(name)) return
                touched.add(name)
                // Between the read and the write of the rotation, by a process that still encrypts with the old key.
                if (name === "changed") yield* before.store.set(name, secret("2"))
                if (name === "removed") yield* before.store.remove(name)
                if (name === "modified") {
                  yield* before.store.modify(name, (value) =>
                    Effect.succeed([undefined, Option.map(value, (bytes) => secret(`${decode(bytes)}+`))]))
                }
              }).pipe(Effect.orDie)))
      })
      yield* (yield* encrypted(racing, [next, old])).rotation.rotate
      assert.strictEqual(touched.size, 4)
      const alone = yield* encrypted(underlying, [next])
      assert.strictEqual(yield* textOf(alone.store, "changed"), "2")
      assert.strictEqual(yield* textOf(alone.store, "modified"), "1+")
      assert.isNull(yield* textOf(alone.store, "removed"))
      assert.strictEqual(yield* textOf(alone.store, "same"), "1")
    }))

  it.effect("SEC-07: several rotations at once leave every value whole and one key", () =>
    Effect.gen(function*() {
      const [old, next] = [freshKey(), freshKey()]
      const underlying = yield* memory()
      const before = yield* encrypted(underlying, [old])
      for (let index = 0; index < 10; index++) yield* before.store.set(`key-${index}`, secret(`value ${index}`))
      const sides = yield* Effect.all(Array.from({ length: 4 }, () => encrypted(underlying, [next, old])))
      yield* Effect.all(sides.map(({ rotation }) => rotation.rotate), { concurrency: "unbounded" })
      const alone = yield* encrypted(underlying, [next])
      for (let index = 0; index < 10; index++) {
        assert.strictEqual(yield* textOf(alone.store, `key-${index}`), `value ${index}`)
      }
      assert.strictEqual((yield* alone.rotation.keyUse).versionsByKeyId.size, 1)
    }))

  it.effect("SEC-06 SEC-07: a value that no key decrypts stays, is reported, and keeps no other from being rotated", () =>
    Effect.gen(function*() {
      const [lost, old, next] = [freshKey(), freshKey(), freshKey()]
      const underlying = yield* memory()
      yield* (yield* encrypted(underlying, [lost])).store.set("b", secret("b"))
      const before = yield* encrypted(underlying, [old])
      yield* before.store.set("a", secret("a"))
      yield* before.store.set("c", secret("c"))
      const bytes = yield* stored(underlying, "b")
      const { rotation, store } = yield* encrypted(underlying, [next, old])
      const reason = yield* reasonOf(rotation.rotate)
      assert.strictEqual(reason._tag, "Undecryptable")
      assert.include(reason.message, `"b"`)
      assert.deepStrictEqual(yield* stored(underlying, "b"), bytes)
      assert.strictEqual((yield* rotation.keyUse).versionsByKeyId.size, 2)
      assert.strictEqual(yield* textOf(store, "a"), "a")
      assert.strictEqual(
        yield* textOf(yield* Effect.map(encrypted(underlying, [next]), (side) => side.store), "c"),
        "c"
      )
    }))

  it.effect("SEC-07: a rotation that another process undoes again and again ends with an error that says so", () =>
    Effect.gen(function*() {
      const [old, next] = [freshKey(), freshKey()]
      const underlying = yield* memory()
      const stubborn = yield* encrypted(underlying, [old, next])
      yield* stubborn.store.set("key", secret("value"))
      const undoing = SecretStore.SecretStore.of({
        ...underlying,
        modify: (name, f) =>
          Effect.tap(underlying.modify(name, f), () => Effect.orDie(stubborn.store.set(name, secret("value"))))
      })
      const reason = yield* reasonOf((yield* encrypted(undoing, [next, old])).rotation.rotate)
      assert.strictEqual(reason._tag, "StorageFailure")
      assert.include(reason.message, "give the new key to every process")
    }))

  it.effect("encryptPlain takes values from before encryption, and rotate refuses them", () =>
    Effect.gen(function*() {
      const underlying = yield* memory()
      yield* underlying.set("key", secret("older-plaintext"))
      yield* underlying.set("key", secret("plaintext"))
      const { rotation, store } = yield* encrypted(underlying, [freshKey()])
      assert.strictEqual((yield* rotation.keyUse).plainVersions, 2)
      assert.strictEqual((yield* reasonOf(rotation.rotate))._tag, "Undecryptable")
      assert.deepStrictEqual<unknown>(yield* rotation.encryptPlain, { rewritten: ["key"], unchanged: [] })
      assert.strictEqual(yield* textOf(store, "key"), "plaintext")
      for (const { value } of yield* underlying.history("key")) assert.notInclude(decode(value), "plaintext")
      assert.strictEqual((yield* rotation.keyUse).plainVersions, 0)
    }))
})

const kill = (running: ChildProcess): Promise<unknown> => {
  if (running.exitCode !== null || running.signalCode !== null) return Promise.resolve()
  const ended = once(running, "exit")
  running.kill("SIGKILL")
  return ended
}

describe("SecretRotation with several processes", () => {
  it.live(
    "SEC-07: a process killed at any point of a rotation over files loses no value, and the next rotation completes",
    () =>
      Effect.gen(function*() {
        const directory = NPath.join(yield* temporaryDirectory, "secrets")
        const keys = [freshKey(), freshKey()] as const
        const open = Effect.gen(function*() {
          const underlying = yield* Effect.provide(SecretStore.makeFileSystem(directory), Platform)
          return yield* encrypted(underlying, keys, { storeId: "rotator" })
        })
        const valueOf = (name: string) => `${name},`.repeat(2_000)
        const names = Array.from({ length: 5 }, (_, index) => `key-${index}`)
        const { store } = yield* open
        for (const name of names) yield* store.set(name, secret(valueOf(name)))
        yield* store.set("counter", secret("0,".repeat(2_000)))
        let midway = 0
        // Some of the kills must strike in the middle of a rotation, or this test shows nothing.
        for (let round = 0; round < 12 || midway === 0; round++) {
          let acknowledged = 0
          yield* Effect.scoped(Effect.gen(function*() {
            const child = yield* Effect.acquireRelease(
              Effect.sync(() =>
                spawn(process.execPath, [
                  ...argumentsOf(fileURLToPath(new URL("../programs/secretRotator.ts", import.meta.url))),
                  directory,
                  ...keys.map((key) => Hex.encode(Redacted.value(key)))
                ], { stdio: ["ignore", "pipe", "inherit"] })
              ),
              (running) => Effect.promise(() => kill(running))
            )
            // Two rotations make about 14 writes; the moment within the next one is random as well.
            const killAfter = 1 + Math.floor(Math.random() * 14)
            yield* Effect.promise(async () => {
              let writes = 0
              for await (const line of createInterface({ input: child.stdout })) {
                if (line.startsWith("counted ")) acknowledged = Number(line.slice("counted ".length))
                else if (++writes === killAfter) setTimeout(() => void kill(child), Math.random() * 4)
              }
            })
          }))
          const after = yield* open
          const use = yield* after.rotation.keyUse
          const versions = Array.from(use.versionsByKeyId.values())
          // The counter alone has 2 versions under either key, whatever the rotation has done.
          if (versions.length === 2 && Math.min(...versions) > 2) midway++
          assert.strictEqual(use.plainVersions, 0)
          const check = Effect.gen(function*() {
            for (const name of names) assert.strictEqual(yield* textOf(after.store, name), valueOf(name))
            const counter = (yield* textOf(after.store, "counter")) ?? ""
            const count = Number(counter.slice(0, counter.indexOf(",")))
            assert.strictEqual(counter, `${count},`.repeat(2_000))
            assert.isAtLeast(count, acknowledged)
          })
          yield* check
          for (const name of names) yield* after.store.history(name)
          if (round % 4 !== 3) continue
          yield* after.rotation.rotate
          yield* check
          assert.strictEqual((yield* after.rotation.keyUse).versionsByKeyId.size, 1)
        }
        assert.isAbove(midway, 0)
      }),
    300_000
  )
})

describe("EncryptedSecretStore disclosure", () => {
  it.effect("SEC-08: neither files, logs, spans, errors nor JSON hold a value or a key, whatever happens", () =>
    Effect.gen(function*() {
      const directory = NPath.join(yield* temporaryDirectory, "secrets")
      const plain = "hunter2-correct-horse-battery"
      const bytes = new TextEncoder().encode(plain)
      const key = freshKey()
      const previous = freshKey()
      const printed: Array<string> = []
      const print = (value: unknown): void => {
        printed.push(String(value), inspect(value, { depth: Infinity, showHidden: true, getters: true }))
        printed.push(JSON.stringify(value, (_, field) => typeof field === "bigint" ? String(field) : field) ?? "")
      }
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const logger = Logger.make((entry) => print([entry.message, Cause.pretty(entry.cause)]))
      const underlying = yield* Effect.provide(SecretStore.makeFileSystem(directory), Platform)
      const { store: older } = yield* encrypted(underlying, [previous])
      yield* older.set("key", Redacted.make(bytes))
      const { rotation, store } = yield* encrypted(underlying, [key, previous])
      const service = yield* SecretKeys.SecretKeys.pipe(
        Effect.provide(SecretKeys.layerKeys({ active: key, previous: [previous] })),
        Effect.provide(NodeCrypto.layer)
      )
      print(service)
      const run = Effect.fnUntraced(function*() {
        const operations = [
          store.get("key"),
          rotation.rotate,
          rotation.keyUse,
          rotation.encryptPlain,
          store.set("key", Redacted.make(bytes)),
          store.create("other", Redacted.make(bytes)),
          store.getOrCreateRandom("key", 32),
          store.modify("key", (current) => Effect.succeed([current, Option.some(Redacted.make(bytes))])),
          store.modify("key", () => Effect.die("a defect of the caller")),
          store.history("key"),
          store.list,
          store.set("not a name", Redacted.make(bytes)),
          store.remove("other"),
          older.get("key")
        ]
        for (const operation of operations) {
          const exit = yield* Effect.exit<unknown, SecretStore.SecretStoreError, never>(operation).pipe(
            Effect.withTracer(tracer),
            Effect.provide(Logger.layer([logger]))
          )
          print(exit)
          if (exit._tag === "Failure") print(Cause.pretty(exit.cause))
        }
      })
      yield* run()
      for (const entry of NFS.readdirSync(directory)) {
        printed.push(NFS.readFileSync(NPath.join(directory, entry), "latin1"))
      }
      const damaged = yield* stored(underlying, "key")
      damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1
      yield* underlying.set("key", Redacted.make(damaged))
      yield* run()
      for (const span of spans) print(span)
      assert.isAbove(spans.length, 30)

      const all = printed.join("\n")
      assert.include(all, "EncryptedSecretStore.set")
      assert.include(all, "SecretRotation.rotate")
      assert.include(all, "SPSE")
      const spaced = all.replaceAll(/[\s,]+/g, " ")
      for (const value of [bytes, Redacted.value(key), Redacted.value(previous)]) {
        for (
          const form of [
            Buffer.from(value).toString("latin1"),
            Buffer.from(value).toString("utf8"),
            Base64.encode(value).slice(0, 20),
            Hex.encode(value),
            Array.from(value.subarray(0, 8)).join(" ")
          ]
        ) {
          assert.notInclude(all, form)
          assert.notInclude(spaced, form)
        }
      }
    }))
})
