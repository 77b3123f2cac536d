import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as PrivateFiles from "@sallyport/core/secrets/PrivateFiles"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Kdf from "effect/crypto/Kdf"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { hkdfSync, randomBytes } from "node:crypto"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { inspect } from "node:util"

const freshText = () => Base64Url.encode(new Uint8Array(randomBytes(32)))

const secret = (text: string) => Redacted.make(new TextEncoder().encode(text))

const textOf = (keys: SecretKeys.SecretKeys["Service"]) => Base64Url.encode(Redacted.value(keys.active.bytes))

type Reason = SecretKeys.SecretKeysErrorReason | SecretStore.SecretStoreErrorReason

const reasonOf = <A>(
  effect: Effect.Effect<A, SecretKeys.SecretKeysError | SecretStore.SecretStoreError>
): Effect.Effect<Reason, A> => Effect.map(Effect.flip(effect), (error): Reason => error.reason)

describe("SecretKeys from the environment", () => {
  const read = (env: Record<string, string>, options?: { readonly variable: string }) =>
    SecretKeys.SecretKeys.pipe(
      Effect.provide(SecretKeys.layerConfig(options)),
      Effect.provide([NodeCrypto.layer, ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))])
    )

  it.effect("SEC-05: reads the active key, and older ones from a list", () =>
    Effect.gen(function*() {
      const [active, one, two] = [freshText(), freshText(), freshText()]
      const keys = yield* read({
        SALLYPORT_SECRET_KEY: ` ${active}\n`,
        SALLYPORT_SECRET_KEY_PREVIOUS: `${one}, ${two}`
      })
      assert.strictEqual(textOf(keys), active)
      assert.strictEqual(keys.keys.size, 3)
      assert.strictEqual(keys.keys.get(keys.active.id), keys.active)
      assert.match(keys.active.id, /^[0-9a-f]{32}$/)
      // The id is the key's own: another process finds the same.
      assert.strictEqual((yield* read({ MINE: active }, { variable: "MINE" })).active.id, keys.active.id)
    }))

  it.effect("the id of a key is HKDF-SHA-256 of its bytes, as docs/secrets.md says", () =>
    Effect.gen(function*() {
      const bytes = Uint8Array.from({ length: 32 }, (_, index) => index)
      const key = yield* Effect.provide(SecretKeys.makeKey("test", Redacted.make(bytes)), NodeCrypto.layer)
      const id = Buffer.from(hkdfSync("sha256", bytes, "", "sallyport/secret-key-id/v1", 16)).toString("hex")
      assert.strictEqual(key.id, id)
      assert.strictEqual(key.id, "1ce681a15d53d7ca77a2e9d3a5f5ea3e")
    }))

  it.effect("a missing key is an error that names the variable, and never another key", () =>
    Effect.gen(function*() {
      for (const env of [{}, { SALLYPORT_SECRET_KEY: "  " }, { SALLYPORT_SECRET_KEY_PREVIOUS: freshText() }]) {
        const reason = yield* reasonOf(read(env))
        assert.strictEqual(reason._tag, "KeyMissing")
        assert.include(reason.message, "SALLYPORT_SECRET_KEY")
        assert.include(reason.message, "openssl rand")
      }
    }))

  it.effect("SEC-08: a malformed key is an error that does not show it", () =>
    Effect.gen(function*() {
      const good = freshText()
      const bad = [
        good.slice(1),
        `${good}A`,
        `${good}=`,
        good.replace(/.$/, "="),
        "correct horse battery staple",
        "A".repeat(43),
        Buffer.from(randomBytes(32)).fill(0xff).toString("base64"),
        randomBytes(32).toString("hex")
      ]
      // The last character of 43 has two bits that no byte needs: a text that sets them is not the key's text.
      const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      bad.push(good.slice(0, 42) + alphabet[alphabet.indexOf(good[42] ?? "") + 1])
      for (const text of bad) {
        for (
          const env of [{ SALLYPORT_SECRET_KEY: text }, {
            SALLYPORT_SECRET_KEY: good,
            SALLYPORT_SECRET_KEY_PREVIOUS: text
          }]
        ) {
          const error = yield* Effect.flip(read(env))
          assert.strictEqual(error.reason._tag, "KeyMalformed", text)
          assert.notInclude(
            `${error.message}${inspect(error, { depth: 9 })}${JSON.stringify(error)}`,
            text.slice(0, 12)
          )
        }
      }
    }))
})

describe("SecretKeys from a file", () => {
  const file = (content: string, mode: number) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const directory = NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-keys-"))
        const path = NPath.join(directory, "it's a key")
        NFS.writeFileSync(path, content)
        NFS.chmodSync(path, mode)
        return path
      }),
      (path) => Effect.sync(() => NFS.rmSync(NPath.dirname(path), { recursive: true }))
    )
  const read = (path: string) =>
    Effect.provide(
      SecretKeys.SecretKeys,
      SecretKeys.layerFile(path).pipe(
        Layer.provide([NodeCrypto.layer, NodeFileSystem.layer])
      )
    )

  it.effect("SEC-05: reads keys line by line, the first the active one, also through a link", () =>
    Effect.gen(function*() {
      const [active, older] = [freshText(), freshText()]
      const path = yield* file(`# made in May\n\n${active}\n  ${older}\n`, 0o600)
      const keys = yield* read(path)
      assert.strictEqual(textOf(keys), active)
      assert.strictEqual(keys.keys.size, 2)
      NFS.symlinkSync(path, `${path}.link`)
      NFS.chmodSync(path, 0o400)
      assert.strictEqual((yield* read(`${path}.link`)).active.id, keys.active.id)
    }))

  it.effect("SEC-05: refuses a file that others can read, and says how to mend it", () =>
    Effect.gen(function*() {
      const path = yield* file(freshText(), 0o600)
      for (const mode of [0o640, 0o604, 0o620, 0o644]) {
        NFS.chmodSync(path, mode)
        const inNoGroup = Effect.provideService(PrivateFiles.CurrentIdentity, {
          isPosix: true,
          user: Option.fromUndefinedOr(process.geteuid?.()),
          groups: []
        })
        const reason = yield* reasonOf(inNoGroup(read(path)))
        assert.strictEqual(reason._tag, "KeyInsecure")
        assert.include(reason.message, `its mode is 0${mode.toString(8)}`)
        assert.include(reason.message, `chmod 600 '${path.replace("'", "'\\''")}'`)
      }
    }))

  it.effect("SEC-05 OPS-08 C-61 C-67: takes a file that only a group of the process can read, and any on Windows", () =>
    Effect.gen(function*() {
      const path = yield* file(freshText(), 0o600)
      for (const mode of [0o440, 0o640, 0o660, 0o400]) {
        NFS.chmodSync(path, mode)
        yield* read(path)
      }
      for (const mode of [0o444, 0o604]) {
        NFS.chmodSync(path, mode)
        assert.strictEqual((yield* reasonOf(read(path)))._tag, "KeyInsecure")
      }
      NFS.chmodSync(path, 0o666)
      yield* read(path).pipe(
        Effect.provideService(PrivateFiles.CurrentIdentity, { isPosix: false, user: Option.none(), groups: [] })
      )
    }))

  it.effect("tells a missing file, an empty one, garbage, a directory and a huge file apart", () =>
    Effect.gen(function*() {
      const path = yield* file("# nothing\n", 0o600)
      assert.strictEqual((yield* reasonOf(read(`${path}.none`)))._tag, "KeyMissing")
      assert.strictEqual((yield* reasonOf(read(path)))._tag, "KeyMissing")
      NFS.writeFileSync(path, "")
      assert.strictEqual((yield* reasonOf(read(path)))._tag, "KeyMissing")
      NFS.writeFileSync(path, "not a key")
      assert.strictEqual((yield* reasonOf(read(path)))._tag, "KeyMalformed")
      NFS.writeFileSync(path, "#".repeat(70_000))
      assert.include((yield* reasonOf(read(path))).message, "larger than")
      assert.include((yield* reasonOf(read(NPath.dirname(path)))).message, "not a regular file")
    }))

  it.effect("the remedy for a missing file makes one that works", () =>
    Effect.gen(function*() {
      const path = yield* file("", 0o600)
      NFS.rmSync(path)
      const reason = yield* reasonOf(read(path))
      const command = /Create it with: (.*)$/.exec(reason.message)?.[1] ?? ""
      const { execFileSync } = yield* Effect.promise(() => import("node:child_process"))
      execFileSync("/bin/sh", ["-c", command], { stdio: "ignore" })
      assert.strictEqual((NFS.statSync(path).mode & 0o777).toString(8), "600")
      assert.strictEqual((yield* read(path)).keys.size, 1)
    }))
})

const memory = Effect.provide(SecretStore.makeMemory(), NodeCrypto.layer)

type Store = SecretStore.SecretStore["Service"]

const cheap = { memory: 64, passes: 1, parallelism: 1 }

describe("SecretKeys from a passphrase", () => {
  const open = (store: Store, passphrase: string, previous: ReadonlyArray<string> = [], cost = cheap) =>
    SecretKeys.SecretKeys.pipe(
      Effect.provide(SecretKeys.layerPassphrase({
        passphrase: Redacted.make(passphrase),
        previous: previous.map((text) => Redacted.make(text)),
        cost
      })),
      Effect.provideService(SecretStore.SecretStore, store),
      Effect.provide(NodeCrypto.layer)
    )

  it.effect("SEC-05: the same passphrase gives the same key, and each store has a salt of its own", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const first = yield* open(store, "correct horse")
      assert.strictEqual((yield* open(store, "correct horse")).active.id, first.active.id)
      assert.notStrictEqual((yield* open(yield* memory, "correct horse")).active.id, first.active.id)
      // The record is salts and ids; it holds neither the passphrase nor a key.
      const record = new TextDecoder().decode(
        Redacted.value(Option.getOrThrow(yield* store.get(SecretKeys.recordName)))
      )
      assert.include(record, first.active.id)
      assert.notInclude(record, "horse")
      assert.notInclude(record, textOf(first))
    }))

  it.effect("SEC-05: the default cost is RFC 9106's second recommended setting, and a compatible encoding is the same passphrase", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(SecretKeys.defaultCost, { memory: 65_536, passes: 3, parallelism: 4 })
      const store = yield* memory
      const composed = yield* open(store, "caf\u00e9 ﬁne au lait", [], SecretKeys.defaultCost)
      const decomposed = yield* open(store, "cafe\u0301 fine au lait", [], SecretKeys.defaultCost)
      assert.strictEqual(decomposed.active.id, composed.active.id)
    }))

  it.effect("SEC-05: a wrong passphrase is an error of its own, before anything is encrypted with it", () =>
    Effect.gen(function*() {
      const store = yield* memory
      yield* open(store, "correct horse")
      const record = yield* store.get(SecretKeys.recordName)
      for (const previous of [[], ["also wrong"]]) {
        assert.strictEqual((yield* reasonOf(open(store, "wrong horse", previous)))._tag, "WrongPassphrase")
      }
      assert.deepStrictEqual(yield* store.get(SecretKeys.recordName), record)
      assert.strictEqual((yield* reasonOf(open(yield* memory, "short")))._tag, "KeyMalformed")
      assert.strictEqual(
        (yield* reasonOf(open(yield* memory, "correct horse", [], { ...cheap, memory: 2 ** 30 })))._tag,
        "KeyMalformed"
      )
      assert.strictEqual(
        (yield* reasonOf(open(yield* memory, "correct horse", [], { ...cheap, parallelism: 64 })))._tag,
        "KeyMalformed"
      )
    }))

  it.effect("SEC-05: processes that start at once get one key", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const all = yield* Effect.all(Array.from({ length: 8 }, () => open(store, "correct horse")), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(all.map(({ active }) => active.id)).size, 1)
    }))

  it.effect("SEC-07: a new passphrase with the old one beside it, or a new cost, makes a new key, and rotation ends the old", () =>
    Effect.gen(function*() {
      const underlying = yield* memory
      const encrypted = (keys: SecretKeys.SecretKeys["Service"]) =>
        EncryptedSecretStore.make({ storeId: "test" }).pipe(
          Effect.provideService(SecretKeys.SecretKeys, keys),
          Effect.provideService(SecretStore.SecretStore, underlying),
          Effect.provide(NodeCrypto.layer)
        )
      const first = yield* open(underlying, "first passphrase")
      yield* (yield* encrypted(first)).store.set("key", secret("value"))
      const dearer = yield* open(underlying, "first passphrase", [], { ...cheap, passes: 2 })
      assert.notStrictEqual(dearer.active.id, first.active.id)
      assert.isTrue(dearer.keys.has(first.active.id))
      const second = yield* open(underlying, "second passphrase", ["first passphrase"])
      assert.strictEqual(second.keys.size, 3)
      const { rotation } = yield* encrypted(second)
      yield* rotation.rotate
      assert.deepStrictEqual(Array.from((yield* rotation.keyUse).versionsByKeyId.keys()), [second.active.id])
      const alone = yield* open(underlying, "second passphrase")
      assert.strictEqual(alone.keys.size, 1)
      const value = yield* (yield* encrypted(alone)).store.get("key")
      assert.strictEqual(new TextDecoder().decode(Redacted.value(Option.getOrThrow(value))), "value")
      assert.deepStrictEqual(yield* (yield* encrypted(alone)).store.list, [SecretStore.SecretName.make("key")])
    }))

  it.effect("a record that cannot be read is an error, never a first start", () =>
    Effect.gen(function*() {
      for (
        const text of [
          "",
          "{}",
          `{"format":2,"keys":[]}`,
          `{"format":1,"keys":[{"_tag":"argon2id","id":"${
            "0".repeat(32)
          }","salt":"AAAAAAAAAAAAAAAAAAAAAA","memory":4294967295,"passes":1,"parallelism":1}]}`
        ]
      ) {
        const store = yield* memory
        yield* store.set(SecretKeys.recordName, secret(text))
        assert.strictEqual((yield* reasonOf(open(store, "correct horse")))._tag, "Corrupt")
      }
    }))

  it.effect("a runtime without Argon2id is told apart, with the remedy", () =>
    Effect.gen(function*() {
      const reason = yield* reasonOf(
        SecretKeys.SecretKeys.pipe(
          Effect.provide(SecretKeys.layerPassphrase({ passphrase: Redacted.make("correct horse") })),
          // HKDF without Argon2id is what a browser and an older Node.js have.
          Effect.provide(Kdf.layerWebCrypto),
          Effect.provideService(SecretStore.SecretStore, yield* memory),
          Effect.provide(NodeCrypto.layerSecureRandom)
        )
      )
      assert.strictEqual(reason._tag, "SourceUnavailable")
      assert.include(reason.message, "Node.js 24.7")
    }))
})

describe("SecretKeys from a vault", () => {
  const makeVault = () => {
    const entries = new Map<string, Uint8Array>()
    const vault: SecretKeys.Vault = {
      source: "the test vault",
      missingRemedy: "Unlock it",
      read: (id) =>
        Effect.sync(() => Option.map(Option.fromUndefinedOr(entries.get(id)), (bytes) => Redacted.make(bytes.slice()))),
      write: (id, key) => Effect.sync(() => void entries.set(id, Redacted.value(key).slice())),
      remove: (id) => Effect.sync(() => void entries.delete(id))
    }
    return { entries, vault }
  }
  const open = (store: Store, vault: SecretKeys.Vault) =>
    SecretKeys.SecretKeys.pipe(
      Effect.provide(SecretKeys.layerVault(vault)),
      Effect.provideService(SecretStore.SecretStore, store),
      Effect.provide(NodeCrypto.layer)
    )

  it.effect("SEC-05: the first start makes a key, and of 8 starts at once all get the same and leave no other", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const { entries, vault } = makeVault()
      // Every start has looked before one of them writes.
      const slow = {
        ...vault,
        write: (id: string, key: Redacted.Redacted<Uint8Array>) => Effect.andThen(Effect.yieldNow, vault.write(id, key))
      }
      const all = yield* Effect.all(Array.from({ length: 8 }, () => open(store, slow)), { concurrency: "unbounded" })
      assert.strictEqual(new Set(all.map(({ active }) => active.id)).size, 1)
      assert.deepStrictEqual(Array.from(entries.keys()), [all[0]?.active.id])
      assert.strictEqual((yield* open(store, vault)).active.id, all[0]?.active.id)
    }))

  it.effect("SEC-07: an added key is active from the next start, older ones decrypt as long as the vault has them", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const { entries, vault } = makeVault()
      const first = yield* open(store, vault)
      const id = yield* SecretKeys.addVaultKey(vault).pipe(
        Effect.provideService(SecretStore.SecretStore, store),
        Effect.provide(NodeCrypto.layer)
      )
      const second = yield* open(store, vault)
      assert.strictEqual(second.active.id, id)
      assert.deepStrictEqual(new Set(second.keys.keys()), new Set([id, first.active.id]))
      entries.delete(first.active.id)
      assert.deepStrictEqual(Array.from((yield* open(store, vault)).keys.keys()), [id])
    }))

  it.effect("SEC-06: a vault that lost the active key is an error, never a reason to make another", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const { entries, vault } = makeVault()
      const { active } = yield* open(store, vault)
      entries.clear()
      const reason = yield* reasonOf(open(store, vault))
      assert.strictEqual(reason._tag, "KeyMissing")
      assert.include(reason.message, active.id)
      assert.include(reason.message, "Unlock it")
      assert.strictEqual(entries.size, 0)
      entries.set(active.id, new Uint8Array(randomBytes(32)))
      assert.strictEqual((yield* reasonOf(open(store, vault)))._tag, "KeyMalformed")
    }))

  it.effect("a vault that fails leaves no trace in the store", () =>
    Effect.gen(function*() {
      const store = yield* memory
      const { vault } = makeVault()
      const failure = new SecretKeys.SecretKeysError({
        reason: new SecretKeys.SourceFailure({ source: "the test vault", cause: new Error("locked") })
      })
      const reason = yield* reasonOf(open(store, { ...vault, write: () => Effect.fail(failure) }))
      assert.strictEqual(reason._tag, "SourceFailure")
      assert.deepStrictEqual(yield* store.list, [])
    }))
})
