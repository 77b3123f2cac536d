/**
 * The bytes that the encrypted layer of `SecretStore` stores for a value.
 *
 *     offset  length
 *          0       4  "SPSE"
 *          4       1  format version, 1
 *          5       1  algorithm: 1 AES-256-GCM, 2 XChaCha20-Poly1305
 *          6       1  flags: 1 the version before this one holds the same value
 *          7       1  0
 *          8      16  id of the key-encryption key
 *         24      32  salt, random
 *         56   12/24  nonce, random, as long as the algorithm's
 *                 ..  ciphertext and its 16-byte tag
 *
 * The key of a value is HKDF-SHA-256 of the key-encryption key with the salt, for the algorithm: no two values share a key.
 * What is authenticated beside the ciphertext is everything up to the nonce, the store's id and the secret's name.
 */
import * as Aead from "effect/crypto/Aead"
import * as Kdf from "effect/crypto/Kdf"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as CryptoError from "effect/crypto/CryptoError"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Result from "effect/Result"

/** The algorithms of format 1, by their number in the envelope. */
const algorithms: ReadonlyArray<Aead.Algorithm | undefined> = [undefined, Aead.aes256Gcm, Aead.xchacha20Poly1305]

const magic = [0x53, 0x50, 0x53, 0x45]
const formatVersion = 1
const flagSameValue = 1
const keyIdOffset = 8
const saltOffset = 24
const headerLength = 56
const tagLength = 16

const encoder = new TextEncoder()

/** What an envelope says about itself. Nothing of it is trusted before the ciphertext is decrypted. */
export interface Envelope {
  readonly _tag: "Envelope"
  readonly algorithm: Aead.Algorithm
  /** The id of the key-encryption key, 32 lower-case hex digits. */
  readonly keyId: string
  /** Whether the version before this one holds the same value, under another key. */
  readonly sameValue: boolean
  readonly header: Uint8Array
  readonly nonce: Uint8Array
  readonly ciphertext: Uint8Array
}

/** Bytes that are not an envelope, or not one that this program knows. */
export type Unreadable =
  | { readonly _tag: "Plain" }
  | { readonly _tag: "TooNew"; readonly problem: string }
  | { readonly _tag: "Damaged"; readonly problem: string }

/** Takes stored bytes apart. The problem of unreadable ones never quotes them. */
export const parse = (bytes: Uint8Array): Envelope | Unreadable => {
  if (bytes.length < magic.length || magic.some((byte, index) => bytes[index] !== byte)) return { _tag: "Plain" }
  const format = bytes[4]
  if (format !== undefined && format !== formatVersion) {
    return { _tag: "TooNew", problem: `its envelope has format ${format}, and this program knows ${formatVersion}` }
  }
  if (bytes.length < headerLength) return { _tag: "Damaged", problem: `it is truncated to ${bytes.length} bytes` }
  const algorithm = algorithms[bytes[5] ?? 0]
  if (algorithm === undefined) {
    return { _tag: "TooNew", problem: `it is encrypted with algorithm ${bytes[5]}, which this program does not know` }
  }
  const flags = bytes[6] ?? 0
  if ((flags & ~flagSameValue) !== 0 || bytes[7] !== 0) {
    return { _tag: "TooNew", problem: "its envelope has flags that this program does not know" }
  }
  const bodyOffset = headerLength + algorithm.nonceLength
  if (bytes.length < bodyOffset + tagLength) {
    return { _tag: "Damaged", problem: `it is truncated to ${bytes.length} bytes` }
  }
  return {
    _tag: "Envelope",
    algorithm,
    keyId: Hex.encode(bytes.subarray(keyIdOffset, saltOffset)),
    sameValue: (flags & flagSameValue) !== 0,
    header: bytes.subarray(0, headerLength),
    nonce: bytes.subarray(headerLength, bodyOffset),
    ciphertext: bytes.subarray(bodyOffset)
  }
}

const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
  let offset = 0
  for (const part of parts) {
    all.set(part, offset)
    offset += part.length
  }
  return all
}

/** Where a value belongs: the store's id and the secret's name. */
export interface Place {
  readonly storeId: string
  readonly name: string
}

// The id's length comes before it, so that no id and name run into those of another place.
const associatedData = (header: Uint8Array, place: Place): Uint8Array => {
  const storeId = encoder.encode(place.storeId)
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, storeId.length)
  return concat(header, length, storeId, encoder.encode(place.name))
}

/** Encrypts and decrypts values under key-encryption keys of 32 bytes. */
export interface Sealer {
  readonly seal: (
    key: { readonly id: string; readonly bytes: Uint8Array },
    algorithm: Aead.Algorithm,
    place: Place,
    value: Uint8Array,
    sameValue: boolean
  ) => Effect.Effect<Uint8Array, CryptoError.CryptoError>
  readonly open: (
    key: Uint8Array,
    envelope: Envelope,
    place: Place
  ) => Effect.Effect<Uint8Array, CryptoError.CryptoError>
}

/** Builds a `Sealer` on the crypto services of the environment. */
export const makeSealer: Effect.Effect<Sealer, never, Aead.Aead | Kdf.Kdf | SecureRandom.SecureRandom> = Effect.gen(
  function*() {
    const aead = yield* Aead.Aead
    const kdf = yield* Kdf.Kdf
    const random = yield* SecureRandom.SecureRandom

    const valueKey = Effect.fnUntraced(function*(key: Uint8Array, algorithm: Aead.Algorithm, header: Uint8Array) {
      const bytes = yield* kdf.derive(Kdf.hkdfSha256, key, {
        salt: header.subarray(saltOffset, headerLength),
        info: encoder.encode(`sallyport/secret/v${formatVersion}/${algorithm.name}`),
        length: algorithm.keyLength
      })
      const derived = yield* Aead.key(algorithm, bytes)
      bytes.fill(0)
      return derived
    })

    return {
      seal: Effect.fnUntraced(function*(key, algorithm, place, value, sameValue) {
        const header = new Uint8Array(headerLength)
        header.set(magic)
        header[4] = formatVersion
        header[5] = algorithms.findIndex((known) => known?.name === algorithm.name)
        header[6] = sameValue ? flagSameValue : 0
        header.set(Result.getOrThrow(Hex.decode(key.id)), keyIdOffset)
        header.set(yield* random.randomBytes(headerLength - saltOffset), saltOffset)
        const nonce = yield* random.randomBytes(algorithm.nonceLength)
        const ciphertext = yield* aead.encrypt(yield* valueKey(key.bytes, algorithm, header), value, {
          nonce,
          aad: associatedData(header, place)
        })
        return concat(header, nonce, ciphertext)
      }),
      open: Effect.fnUntraced(function*(key, { algorithm, ciphertext, header, nonce }, place) {
        return yield* aead.decrypt(yield* valueKey(key, algorithm, header), ciphertext, {
          nonce,
          aad: associatedData(header, place)
        })
      })
    }
  }
)
