import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as Platform from "@sallyport/core/Platform"
import * as Aead from "effect/crypto/Aead"
import * as Digest from "effect/crypto/Digest"
import * as Kdf from "effect/crypto/Kdf"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Signature from "effect/crypto/Signature"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const services = { Aead, Digest, Kdf, Mac, SecureRandom, Signature }
const text = (text: string) => new TextEncoder().encode(text)

/** Returns what both platforms must agree on, and a sealed and a signed text that the other one opens and checks. */
const made = (platform: Layer.Layer<Platform.Platform>) =>
  Effect.gen(function*() {
    const aead = yield* Aead.Aead
    const mac = yield* Mac.Mac
    const signature = yield* Signature.Signature
    const macKey = yield* Mac.key(Mac.hmacSha256, new Uint8Array(32).fill(1))
    const aeadKey = yield* Aead.key(Aead.aes256Gcm, new Uint8Array(32).fill(2))
    const nonce = yield* (yield* SecureRandom.SecureRandom).randomBytes(12)
    const keys = yield* signature.generateKeyPair(Signature.ed25519)
    return {
      equal: [
        yield* (yield* Digest.Digest).digest(Digest.sha256, text("a")),
        yield* mac.sign(macKey, text("a")),
        yield* (yield* Kdf.Kdf).derive(Kdf.hkdfSha256, text("a"), { salt: text("b"), length: 32 })
      ],
      sealed: { nonce, bytes: yield* aead.encrypt(aeadKey, text("a"), { nonce }) },
      open: (sealed: { readonly nonce: Uint8Array; readonly bytes: Uint8Array }) =>
        aead.decrypt(aeadKey, sealed.bytes, { nonce: sealed.nonce }),
      signed: { key: keys.publicKey, signature: yield* signature.sign(keys.privateKey, text("a")) },
      check: (signed: { readonly key: Signature.PublicKey; readonly signature: Uint8Array }) =>
        signature.verify(signed.key, signed.signature, text("a"))
    }
  }).pipe(Effect.provide(platform))

describe("Platform", () => {
  it.effect("layerWeb does what Node's own cryptography does, so that a store can move between runtimes", () =>
    Effect.gen(function*() {
      const web = yield* made(Platform.layerWeb)
      const node = yield* made(NodeCrypto.layer)
      assert.deepStrictEqual(web.equal, node.equal)
      assert.notDeepEqual(web.sealed.nonce, node.sealed.nonce)
      assert.deepStrictEqual(yield* web.open(node.sealed), text("a"))
      assert.deepStrictEqual(yield* node.open(web.sealed), text("a"))
      assert.isTrue(yield* web.check(node.signed))
      assert.isTrue(yield* node.check(web.signed))
    }))

  it("has every service of effect/crypto that a package imports", () => {
    const root = fileURLToPath(new URL("../../../", import.meta.url))
    const imported = globSync("packages/*/src/**/*.ts", { cwd: root }).flatMap((file) =>
      Array.from(
        readFileSync(root + file, "utf8").matchAll(/"effect\/crypto\/(\w+)"/g),
        ([, name = ""]) => name
      )
    ).filter((name) => name !== "WebCrypto" && name !== "CryptoError")
    assert.sameMembers(Array.from(new Set(imported)), Object.keys(services))
  })
})
