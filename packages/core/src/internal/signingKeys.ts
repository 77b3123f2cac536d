import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SecretStore from "../SecretStore.ts"

/** Holds one HMAC key. */
export interface SigningKey {
  readonly keyId: string
  readonly key: Mac.Key
}

/** Holds the keys of one store: the one that signs, and all that verify, by `kid`. */
export interface SigningKeys {
  readonly active: SigningKey
  readonly byId: ReadonlyMap<string, SigningKey>
}

/** The name under which the keys are kept in the `SecretStore`, as a JWK Set (RFC 7517 section 5); its first key signs. */
export const secretName = "session-signing-keys"

const Jwk = Schema.Struct({
  kty: Schema.Literal("oct"),
  alg: Schema.Literal("HS256"),
  use: Schema.Literal("sig"),
  kid: Schema.NonEmptyString,
  k: Schema.Uint8ArrayFromBase64Url
})

const JwkSet = Schema.fromJsonString(Schema.Struct({ keys: Schema.NonEmptyArray(Jwk) }))

const keyLength = 32

const unreadable = (problem: string) =>
  new SecretStore.SecretStoreError({
    reason: new SecretStore.Corrupt({
      location: `"${secretName}"`,
      problem,
      remedy: "Restore the secret from a backup, or remove it: new keys are made and every device has to pair again."
    })
  })

const generate = Effect.gen(function*() {
  const random = yield* SecureRandom.SecureRandom
  const key: typeof Jwk.Type = {
    kty: "oct",
    alg: "HS256",
    use: "sig",
    kid: Base64Url.encode(yield* random.randomBytes(9)),
    k: yield* random.randomBytes(keyLength)
  }
  const json = yield* Effect.orDie(Schema.encodeEffect(JwkSet)({ keys: [key] }))
  return Redacted.make(new TextEncoder().encode(json), { label: secretName })
})

// The length was checked before, so a key can be made of the bytes.
const importKey = (jwk: typeof Jwk.Type): Effect.Effect<SigningKey> =>
  Effect.map(Effect.orDie(Mac.key(Mac.hmacSha256, jwk.k)), (key) => ({ keyId: jwk.kid, key }))

/**
 * Reads the signing keys, and makes the first one where there is none. Of n processes that start at once, one creates the
 * keys and all use them.
 */
export const load = Effect.fnUntraced(function*(): Effect.fn.Return<
  SigningKeys,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const secrets = yield* SecretStore.SecretStore
  if (Option.isNone(yield* secrets.get(secretName))) yield* secrets.create(secretName, yield* generate)
  const stored = yield* secrets.get(secretName)
  if (Option.isNone(stored)) return yield* unreadable("it was removed while the server started")
  // The decoding error is dropped on purpose: it would quote the key.
  const set = yield* Schema.decodeEffect(JwkSet)(new TextDecoder().decode(Redacted.value(stored.value))).pipe(
    Effect.mapError(() => unreadable("it is not a JWK Set with at least one HS256 key"))
  )
  if (set.keys.some(({ k }) => k.length < keyLength)) {
    return yield* unreadable(`it holds a key of less than ${keyLength} bytes`)
  }
  if (new Set(set.keys.map(({ kid }) => kid)).size < set.keys.length) {
    return yield* unreadable("two of its keys have the same kid")
  }
  const keys = yield* Effect.forEach(set.keys, importKey)
  const active = keys[0]
  if (active === undefined) return yield* unreadable("it holds no key")
  return { active, byId: new Map(keys.map((key) => [key.keyId, key])) }
})
