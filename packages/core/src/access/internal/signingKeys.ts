import * as Clock from "effect/Clock"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as SecretStore from "../../secrets/SecretStore.ts"

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
  k: Schema.Uint8ArrayFromBase64Url,
  /** When the key stopped signing, in milliseconds since the epoch. A member of our own (RFC 7517 section 4). */
  retired_at_millis: Schema.optionalKey(Schema.Natural)
})
type Jwk = typeof Jwk.Type

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
  const key: Jwk = {
    kty: "oct",
    alg: "HS256",
    use: "sig",
    kid: Base64Url.encode(yield* random.randomBytes(9)),
    k: yield* random.randomBytes(keyLength)
  }
  return key
})

const encode = (keys: readonly [Jwk, ...Array<Jwk>]): Effect.Effect<Redacted.Redacted<Uint8Array>> =>
  Effect.map(
    Effect.orDie(Schema.encodeEffect(JwkSet)({ keys })),
    (json) => Redacted.make(new TextEncoder().encode(json), { label: secretName })
  )

// The length was checked before, so a key can be made of the bytes.
const importKey = (jwk: Jwk): Effect.Effect<SigningKey> =>
  Effect.map(Effect.orDie(Mac.key(Mac.hmacSha256, jwk.k)), (key) => ({ keyId: jwk.kid, key }))

const decode = Effect.fnUntraced(function*(
  stored: Option.Option<Redacted.Redacted<Uint8Array>>
): Effect.fn.Return<readonly [Jwk, ...Array<Jwk>], SecretStore.SecretStoreError> {
  if (Option.isNone(stored)) return yield* unreadable("it was removed while the server ran")
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
  const [first, ...others] = set.keys
  return [first, ...others]
})

const importKeys = Effect.fnUntraced(function*([first, ...others]: readonly [Jwk, ...Array<Jwk>]) {
  const active = yield* importKey(first)
  const retired = yield* Effect.forEach(others, importKey)
  return { active, byId: new Map([active, ...retired].map((key) => [key.keyId, key])) } satisfies SigningKeys
})

/**
 * Reads the signing keys, and makes the first one if there is none. Of n processes that start at once, one creates the
 * keys and all use them.
 */
export const load = Effect.fnUntraced(function*(): Effect.fn.Return<
  SigningKeys,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const secrets = yield* SecretStore.SecretStore
  if (Option.isNone(yield* secrets.get(secretName))) yield* secrets.create(secretName, yield* encode([yield* generate]))
  return yield* importKeys(yield* decode(yield* secrets.get(secretName)))
})

/** Describes the keys as an independent verifier takes them: a JWK Set (RFC 7517) of secret keys. */
export interface VerificationKeys {
  readonly keys: ReadonlyArray<{
    readonly kty: "oct"
    readonly alg: "HS256"
    readonly use: "sig"
    readonly kid: string
    /** The key in base64url. */
    readonly k: string
  }>
}

/** How long the stored keys are not read again for tokens that name an unknown key, however many there are. */
export const rereadMillis = 1_000

/** How old what is known of the keys may be when a token is signed. */
const signingTrustMillis = 60_000

/**
 * How long a retired key is kept in any case. Much longer than {@link signingTrustMillis}: a process that has not heard of
 * the new key still signs with the old one, and then stores the session.
 */
const retirementMillis = 3_600_000

/** Holds the keys as this process knows them, and keeps up with those who rotate them. */
export interface KeyRing {
  /** What is known at the moment. */
  readonly known: () => SigningKeys
  /** Returns the key that signs, after a look at the store if the last one is old. */
  readonly active: Effect.Effect<SigningKey, SecretStore.SecretStoreError>
  /**
   * Returns the keys as they are stored after this was called. Those who call it within {@link rereadMillis} of a look at
   * the store wait, and share the next one.
   */
  readonly reread: Effect.Effect<SigningKeys, SecretStore.SecretStoreError>
  /** Makes a new key sign, keeps the others to verify, and returns its `kid`. Of n racers each makes one. */
  readonly rotate: Effect.Effect<string, SecretStore.SecretStoreError>
  /** Drops the keys that were retired long enough ago and are not in use, and returns how many. */
  readonly sweep: <E>(
    isInUse: (keyId: string) => Effect.Effect<boolean, E>
  ) => Effect.Effect<number, SecretStore.SecretStoreError | E>
  readonly export: Effect.Effect<Redacted.Redacted<VerificationKeys>, SecretStore.SecretStoreError>
}

/** Loads the keys and returns the ring of them. `onNew` is told if there were none. */
export const makeRing = Effect.fnUntraced(function*(onNew: Effect.Effect<void> = Effect.void): Effect.fn.Return<
  KeyRing,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const secrets = yield* SecretStore.SecretStore
  const random = yield* SecureRandom.SecureRandom
  if (Option.isNone(yield* secrets.get(secretName))) yield* onNew
  let keys = yield* load()
  let knownAtMillis = yield* Clock.currentTimeMillis
  // The first token that names an unknown key need not wait.
  let rereadAtMillis = -Infinity
  // A caller that asks gets a number, and a look at the store serves all who had asked before it.
  let asked = 0
  let served = 0
  let outcome: Effect.Effect<SigningKeys, SecretStore.SecretStoreError> = Effect.succeed(keys)
  const semaphore = yield* Semaphore.make(1)

  const learn = Effect.fnUntraced(function*(stored: readonly [Jwk, ...Array<Jwk>]) {
    keys = yield* importKeys(stored)
    knownAtMillis = yield* Clock.currentTimeMillis
    return keys
  })
  const read = Effect.flatMap(Effect.flatMap(secrets.get(secretName), decode), learn)

  const reread = Effect.suspend(() => {
    const number = ++asked
    return semaphore.withPermits(1)(Effect.suspend(() => {
      if (served >= number) return outcome
      return Effect.gen(function*() {
        const nowMillis = yield* Clock.currentTimeMillis
        // Never longer than the interval, also if the clock was set back.
        const waitMillis = Math.min(rereadMillis, rereadAtMillis + rereadMillis - nowMillis)
        if (waitMillis > 0) yield* Effect.sleep(waitMillis)
        rereadAtMillis = yield* Clock.currentTimeMillis
        const serves = asked
        const exit = yield* Effect.exit(read)
        served = serves
        outcome = exit
        return yield* exit
      })
    }))
  })

  return {
    known: () => keys,
    reread,
    active: Effect.flatMap(
      Clock.currentTimeMillis,
      (nowMillis) =>
        nowMillis >= knownAtMillis && nowMillis < knownAtMillis + signingTrustMillis
          ? Effect.succeed(keys.active)
          : Effect.map(reread, ({ active }) => active)
    ),
    rotate: Effect.gen(function*() {
      const fresh = yield* Effect.provideService(generate, SecureRandom.SecureRandom, random)
      const retired_at_millis = yield* Clock.currentTimeMillis
      const stored = yield* secrets.modify(
        secretName,
        Effect.fnUntraced(function*(current) {
          const [first, ...others] = yield* decode(current)
          const next = [fresh, { ...first, retired_at_millis }, ...others] as const
          return [next, Option.some(yield* encode([...next]))] as const
        })
      )
      yield* learn(stored)
      return fresh.kid
    }),
    sweep: Effect.fnUntraced(function*<E>(isInUse: (keyId: string) => Effect.Effect<boolean, E>) {
      const before = (yield* Clock.currentTimeMillis) - retirementMillis
      const [, ...retired] = yield* decode(yield* secrets.get(secretName))
      const unused = new Set<string>()
      for (const { kid, retired_at_millis } of retired) {
        // In this order: no process signs with a key any more that was retired so long ago, so what is unused stays so.
        if ((retired_at_millis ?? 0) <= before && !(yield* isInUse(kid))) unused.add(kid)
      }
      if (unused.size === 0) return 0
      const [dropped, stored] = yield* secrets.modify(
        secretName,
        Effect.fnUntraced(function*(current) {
          const [first, ...others] = yield* decode(current)
          const kept = others.filter(({ kid }) => !unused.has(kid))
          const next = [first, ...kept] as const
          const dropped = others.length - kept.length
          return [
            [dropped, next] as const,
            dropped === 0 ? Option.none() : Option.some(yield* encode([...next]))
          ] as const
        })
      )
      yield* learn(stored)
      return dropped
    }),
    export: Effect.map(Effect.flatMap(secrets.get(secretName), decode), (stored) =>
      Redacted.make({
        keys: stored.map(({ alg, k, kid, kty, use }) => ({ kty, alg, use, kid, k: Base64Url.encode(k) }))
      }, { label: "session-verification-keys" }))
  }
})
