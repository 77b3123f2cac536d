/**
 * Keeps the key of a device. Relays and environments identify the device by the key's thumbprint, and its proofs (RFC
 * 9449) let the device use tokens that are bound to it.
 *
 * A key is made once and then kept. Storage that cannot be read is an error, and never leads to another key: that would
 * be another device, which the owner would have to approve again.
 */
import * as Input from "@sallyport/core/Input"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as KeyDatabase from "./internal/keyDatabase.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/**
 * Reports that the key's storage cannot be used, so it is unknown whether there is a key.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyStoreUnavailable extends Schema.TaggedError<KeyStoreUnavailable>()("KeyStoreUnavailable", {
  problem: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `The key of this device cannot be reached: ${this.problem}; allow this program to store data, then try again`
  }
}

/**
 * Reports that the stored value is not a usable key.
 *
 * @category errors
 * @since 0.1.0
 */
export class KeyDamaged extends Schema.TaggedError<KeyDamaged>()("KeyDamaged", {
  place: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `What is kept as the key of this device cannot be used: ${this.problem}; remove ${this.place}, and a new key is made, ` +
      `which the owner has to approve again`
  }
}

/**
 * Reports that WebCrypto is missing: browsers offer it in secure contexts only.
 *
 * @category errors
 * @since 0.1.0
 */
export class CryptoUnavailable extends Schema.TaggedError<CryptoUnavailable>()("CryptoUnavailable", {}) {
  override get message() {
    return "WebCrypto is missing, so no key can be made; serve the page over https, or from a loopback address"
  }
}

/**
 * Reports why the device has no key; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class DeviceKeyError extends Schema.TaggedError<DeviceKeyError>()("DeviceKeyError", {
  reason: Schema.Union([KeyStoreUnavailable, KeyDamaged, CryptoUnavailable])
}) {
  override get message() {
    return this.reason.message
  }
}

const unavailable = (problem: string, cause: unknown) =>
  new DeviceKeyError({ reason: new KeyStoreUnavailable({ problem, cause }) })

const damaged = (place: string, problem: string) => new DeviceKeyError({ reason: new KeyDamaged({ place, problem }) })

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/**
 * Describes the request that a proof is for.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProofRequest {
  readonly method: string
  /** The absolute address. The proof leaves out its query and fragment (RFC 9449 section 4.2). */
  readonly url: string
  /** The token that the request carries, if any. */
  readonly accessToken?: Redacted.Redacted | undefined
  /** What the server asked for in `DPoP-Nonce`. */
  readonly nonce?: string | undefined
  /** How far the server's clock is ahead of this one, in seconds; negative if it is behind. */
  readonly clockOffsetSeconds?: number | undefined
}

/**
 * Provides the key of this device. The private key can sign, and nothing else.
 *
 * @category services
 * @since 0.1.0
 */
export class DeviceKey extends Context.Service<DeviceKey, {
  /** The thumbprint of the public key (RFC 7638), by which the owner knows the device. */
  readonly thumbprint: string
  /** Creates a proof for one request. It is valid once, and for a minute. */
  readonly prove: (request: ProofRequest) => Effect.Effect<string>
}>()("@sallyport/client/DeviceKey") {}

type Requirements = SecureRandom.SecureRandom | Digest.Digest

/** How a key signs, and its public part with the members that RFC 7638 takes, in their order. */
interface Signing {
  readonly alg: "ES256" | "EdDSA"
  readonly jwk: Readonly<Record<string, string>>
  readonly sign: Signer["sign"]
}

interface KeyPair extends Pick<Signing, "alg" | "jwk"> {
  readonly privateKey: CryptoKey
}

const signing = { ES256: { name: "ECDSA", hash: "SHA-256" }, EdDSA: { name: "Ed25519" } } as const

const encoder = new TextEncoder()
const encodeJson = (value: unknown) => Base64Url.encode(encoder.encode(JSON.stringify(value)))

const subtleCrypto = Effect.flatMap(
  WebCrypto.WebCrypto,
  // Outside of a secure context it is missing, although its type says otherwise.
  ({ subtle }: { readonly subtle?: SubtleCrypto }) =>
    subtle === undefined ? Effect.fail(new DeviceKeyError({ reason: new CryptoUnavailable() })) : Effect.succeed(subtle)
)

const makeFromPair = ({ alg, jwk, privateKey }: KeyPair) =>
  Effect.flatMap(subtleCrypto, (subtle) =>
    make({
      alg,
      jwk,
      sign: (input) =>
        Effect.map(
          Effect.promise(() => subtle.sign(signing[alg], privateKey, input)),
          (signature) => new Uint8Array(signature)
        )
    }))

const make = Effect.fnUntraced(function*(
  { alg, jwk, sign }: Signing
): Effect.fn.Return<DeviceKey["Service"], never, Requirements> {
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest
  const hash = (text: string) => Effect.map(digest.digest(Digest.sha256, encoder.encode(text)), Base64Url.encode)
  const header = encodeJson({ typ: "dpop+jwt", alg, jwk })
  return DeviceKey.of({
    thumbprint: yield* hash(JSON.stringify(jwk)),
    prove: Effect.fnUntraced(function*({ accessToken, clockOffsetSeconds = 0, method, nonce, url }) {
      const claims = {
        jti: Base64Url.encode(yield* random.randomBytes(16)),
        htm: method,
        htu: url.replace(/[?#].*/s, ""),
        iat: Math.floor((yield* Clock.currentTimeMillis) / 1000) + clockOffsetSeconds,
        ...(accessToken === undefined ? {} : { ath: yield* hash(Redacted.value(accessToken)) }),
        ...(nonce === undefined ? {} : { nonce })
      }
      const input = `${header}.${encodeJson(claims)}`
      return `${input}.${Base64Url.encode(yield* sign(encoder.encode(input)))}`
    })
  })
})

// -----------------------------------------------------------------------------
// Keys of WebCrypto
// -----------------------------------------------------------------------------

const p256 = { name: "ECDSA", namedCurve: "P-256" } as const

const generate = Effect.flatMap(
  subtleCrypto,
  (subtle) => Effect.promise(() => subtle.generateKey(p256, false, ["sign", "verify"]))
)

/** Reads a pair, and checks that its two keys have the right form and belong together. */
const readPair = Effect.fnUntraced(function*(place: string, found: unknown) {
  const subtle = yield* subtleCrypto
  const { privateKey, publicKey }: { readonly privateKey?: unknown; readonly publicKey?: unknown } =
    typeof found === "object" && found !== null ? found : {}
  if (!isKey(privateKey, "private") || !isKey(publicKey, "public")) {
    return yield* damaged(place, "it is not a pair of ECDSA keys on P-256")
  }
  if (privateKey.extractable) return yield* damaged(place, "its private key can be exported")
  const jwk = yield* Effect.tryPromise({
    try: async () => {
      const probe = new Uint8Array(32)
      const signature = await subtle.sign(signing.ES256, privateKey, probe)
      return (await subtle.verify(signing.ES256, publicKey, signature, probe))
        ? subtle.exportKey("jwk", publicKey)
        : undefined
    },
    catch: () => damaged(place, "its keys don't sign and verify")
  })
  if (jwk === undefined) return yield* damaged(place, "its two keys don't belong together")
  const { crv = "", kty = "", x = "", y = "" } = jwk
  return { alg: "ES256", privateKey, jwk: { crv, kty, x, y } } satisfies KeyPair
})

const isKey = (value: unknown, type: KeyType): value is CryptoKey =>
  value instanceof CryptoKey && value.type === type && value.algorithm.name === p256.name &&
  "namedCurve" in value.algorithm && value.algorithm.namedCurve === p256.namedCurve

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

/**
 * Provides a key that lives as long as the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<DeviceKey, DeviceKeyError, Requirements> = Layer.effect(
  DeviceKey,
  Effect.flatMap(Effect.flatMap(generate, (pair) => readPair("it", pair)), makeFromPair)
)

/**
 * Configures where a browser keeps the key.
 *
 * @category options
 * @since 0.1.0
 */
export interface IndexedDbOptions {
  /** The database, which only this module uses. Default `sallyport-device-key`. */
  readonly database?: string | undefined
  /** The name of the key in it; two names are two devices. Default `device-key`. */
  readonly name?: string | undefined
}

const placeOf = (options: IndexedDbOptions = {}): KeyDatabase.Place => {
  Input.demand("DeviceKey.layerIndexedDb", { database: Input.text, name: Input.text }, options)
  return { database: options.database ?? "sallyport-device-key", name: options.name ?? "device-key" }
}

const placeName = ({ database, name }: KeyDatabase.Place) => `${name} from the database ${database} of IndexedDB`

const fromDatabase = <A>(effect: Effect.Effect<A, KeyDatabase.DatabaseFailed>) =>
  Effect.mapError(effect, ({ cause, problem }) => unavailable(problem, cause))

/**
 * Provides the key of this browser's profile and origin, on P-256, which every browser supports. It is kept in
 * IndexedDB as a `CryptoKey` that cannot be exported: a script of the page can use it while the page is open, but
 * cannot copy it.
 *
 * **Details**
 *
 * Of tabs that start together exactly one makes the key, and all get it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerIndexedDb = (
  options?: IndexedDbOptions
): Layer.Layer<DeviceKey, DeviceKeyError, Requirements> =>
  Layer.effect(
    DeviceKey,
    Effect.gen(function*() {
      const place = placeOf(options)
      const kept = yield* fromDatabase(KeyDatabase.get(place))
      // A transaction does not wait for WebCrypto, so the pair is made before it is known whether it is needed.
      const found = kept === undefined ? yield* fromDatabase(KeyDatabase.getOrPut(place, yield* generate)) : kept
      return yield* makeFromPair(yield* readPair(placeName(place), found))
    })
  )

/**
 * Removes the key of {@link layerIndexedDb}, damaged or not. Relays and environments no longer know the device
 * afterwards.
 *
 * @category operations
 * @since 0.1.0
 */
export const removeFromIndexedDb = (options?: IndexedDbOptions): Effect.Effect<void, DeviceKeyError> =>
  fromDatabase(KeyDatabase.remove(placeOf(options)))

/**
 * Names the secret that holds a device's key.
 *
 * @category constants
 * @since 0.1.0
 */
export const secretName = "connect-device-key"

// RFC 8410 section 7: the PKCS #8 form of an Ed25519 key is these bytes and the seed.
const pkcs8Head = Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32)

const readSeed = Effect.fnUntraced(function*(secret: Redacted.Redacted<Uint8Array>) {
  const subtle = yield* subtleCrypto
  const seed = Redacted.value(secret)
  const place = `the secret ${secretName}`
  if (seed.length !== 32) return yield* damaged(place, "it has not 32 bytes")
  const pkcs8 = new Uint8Array([...pkcs8Head, ...seed])
  return yield* Effect.tryPromise({
    try: async (): Promise<KeyPair> => {
      const extractable = await subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"])
      const { crv = "", kty = "", x = "" } = await subtle.exportKey("jwk", extractable)
      const privateKey = await subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"])
      return { alg: "EdDSA", privateKey, jwk: { crv, kty, x } }
    },
    catch: () => damaged(place, "it is no key on Ed25519")
  })
})

/**
 * Provides an Ed25519 key whose 32 bytes the `SecretStore` keeps. The first of concurrent callers creates them, and all
 * get the same.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSecretStore: Layer.Layer<DeviceKey, DeviceKeyError, SecretStore.SecretStore | Requirements> = Layer
  .effect(
    DeviceKey,
    Effect.gen(function*() {
      const secrets = yield* SecretStore.SecretStore
      const seed = yield* Effect.mapError(
        secrets.getOrCreateRandom(secretName, 32),
        (cause) => unavailable(cause.message, cause)
      )
      return yield* makeFromPair(yield* readSeed(seed))
    })
  )

/**
 * Describes a key that something else holds, such as a phone's secure hardware or a library in place of WebCrypto.
 *
 * @category models
 * @since 0.1.0
 */
export interface Signer {
  /** The public key, in base64url: a point on P-256, whose proofs are ES256, or a key on Ed25519, whose proofs are EdDSA. */
  readonly publicKey:
    | { readonly crv: "P-256"; readonly x: string; readonly y: string }
    | { readonly crv: "Ed25519"; readonly x: string }
  /** Signs bytes. The signature has 64 bytes; on P-256 it is over their SHA-256, as the two numbers and not in DER. */
  readonly sign: (input: Uint8Array<ArrayBuffer>) => Effect.Effect<Uint8Array>
}

const publicKeyRule = Input.rule(
  Schema.Union([
    Schema.Struct({ crv: Schema.Literal("P-256"), x: Schema.String, y: Schema.String }),
    Schema.Struct({ crv: Schema.Literal("Ed25519"), x: Schema.String })
  ]),
  "a public key with crv, P-256 or Ed25519, and its x, and on P-256 its y"
)

/**
 * Provides a key of the host's. It needs no WebCrypto.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSigner = (signer: Signer): Layer.Layer<DeviceKey, never, Requirements> => {
  Input.demand(
    "DeviceKey.layerSigner",
    { publicKey: Input.required(publicKeyRule), sign: Input.required(Input.callable) },
    { publicKey: signer?.publicKey, sign: signer?.sign }
  )
  const { publicKey, sign } = signer
  return Layer.effect(
    DeviceKey,
    publicKey.crv === "P-256"
      ? make({ alg: "ES256", jwk: { crv: publicKey.crv, kty: "EC", x: publicKey.x, y: publicKey.y }, sign })
      : make({ alg: "EdDSA", jwk: { crv: publicKey.crv, kty: "OKP", x: publicKey.x }, sign })
  )
}
