/**
 * The keys with which an environment or a relay signs what it says, kept in the `SecretStore` under one name: the key in use
 * and, while it is being replaced, the next one.
 *
 * A rotation is three steps. {@link begin} stores the next key, then the other side is told of it, and {@link finish} puts it
 * in place of the key in use. The first and the last are each one atomic step that can be made again, so that a rotation
 * that was interrupted anywhere goes on where it stood.
 */
import { Identifier, type PublicKey } from "@sallyport/contract/ConnectProtocol"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Jwt from "./internal/jwt.ts"

/**
 * Signs with one key pair. Its public key is for the other side.
 *
 * @category models
 * @since 0.1.0
 */
export interface Identity {
  readonly publicKey: PublicKey
  /** Signs claims, which are good for a minute. */
  readonly sign: (typ: string, claims: Readonly<Record<string, unknown>>) => Effect.Effect<string>
}

/**
 * Holds the keys under one name.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyRing {
  /** The thumbprint of the first key that there was. A rotation does not change it. */
  readonly id: string
  /** The key in use. */
  readonly current: Identity
  /** The key that will take its place, and since when it is there, in milliseconds since the epoch. */
  readonly next: Option.Option<{ readonly identity: Identity; readonly sinceMillis: number }>
}

/**
 * Names the secret of an environment's keys, and that of a relay's.
 *
 * @category constants
 * @since 0.1.0
 */
export const environmentKeyName = "connect-environment-key"
/**
 * @see {@link environmentKeyName}
 *
 * @category constants
 * @since 0.1.0
 */
export const relayKeyName = "connect-relay-key"

const seedLength = 32

const Seed = Schema.RedactedFromValue(
  Schema.Uint8ArrayFromBase64Url.check(Schema.makeFilter((bytes) => bytes.length === seedLength))
)

/** The secret of keys that were rotated once. Until then it is the seed of the one key that there is. */
const Stored = Schema.fromJsonString(Schema.Struct({
  id: Identifier,
  current: Seed,
  next: Schema.NullOr(Schema.Struct({ seed: Seed, sinceMillis: Schema.Natural }))
}))
type Stored = typeof Stored.Type

const broken = (name: string) =>
  new SecretStore.SecretStoreError({
    reason: new SecretStore.Corrupt({
      location: `"${name}"`,
      problem: "it is not a key that this version knows",
      remedy: "Restore the secret from a backup, or remove it and link the environment again."
    })
  })

const identityOf = Effect.fnUntraced(function*(seed: Redacted.Redacted<Uint8Array>): Effect.fn.Return<Identity> {
  const key = yield* Jwt.keyPairOf(seed)
  return {
    publicKey: key.publicKey,
    sign: (typ, claims) => Jwt.sign(key, { typ, claims, lifetimeSeconds: 60 })
  }
})

const decode = Effect.fnUntraced(function*(name: string, secret: Redacted.Redacted<Uint8Array>): Effect.fn.Return<
  Stored,
  SecretStore.SecretStoreError
> {
  const bytes = Redacted.value(secret)
  if (bytes.length !== seedLength) {
    return yield* Effect.mapError(
      Schema.decodeEffect(Stored)(new TextDecoder().decode(bytes)),
      () => broken(name)
    )
  }
  const { publicKey } = yield* identityOf(secret)
  return { id: publicKey.kid, current: secret, next: null }
})

/**
 * Returns the keys under a name; the first of all callers makes the one that there is then.
 *
 * @category operations
 * @since 0.1.0
 */
export const ring = Effect.fnUntraced(function*(name: string): Effect.fn.Return<
  KeyRing,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> {
  const secrets = yield* SecretStore.SecretStore
  const { current, id, next } = yield* decode(name, yield* secrets.getOrCreateRandom(name, seedLength))
  return {
    id,
    current: yield* identityOf(current),
    next: next === null ? Option.none() : Option.some(yield* nextOf(next))
  }
})

const nextOf = Effect.fnUntraced(function*({ seed, sinceMillis }: NonNullable<Stored["next"]>) {
  return { identity: yield* identityOf(seed), sinceMillis }
})

/**
 * Returns the key in use under a name, which the first of all callers makes.
 *
 * @category operations
 * @since 0.1.0
 */
export const load = (name: string): Effect.Effect<
  Identity,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> => Effect.map(ring(name), ({ current }) => current)

/** Replaces what is stored under a name in one atomic step, or leaves it as it is. */
const modify = Effect.fnUntraced(function*<A>(
  name: string,
  change: (stored: Stored) => Effect.Effect<readonly [answer: A, changed: Stored | undefined]>
): Effect.fn.Return<A, SecretStore.SecretStoreError, SecretStore.SecretStore> {
  const secrets = yield* SecretStore.SecretStore
  return yield* secrets.modify(
    name,
    Effect.fnUntraced(function*(secret) {
      if (Option.isNone(secret)) return yield* broken(name)
      const [answer, changed] = yield* change(yield* decode(name, secret.value))
      if (changed === undefined) return [answer, Option.none()] as const
      const text = yield* Effect.orDie(Schema.encodeEffect(Stored)(changed))
      return [answer, Option.some(Redacted.make(new TextEncoder().encode(text)))] as const
    })
  )
})

/**
 * Begins to replace the key in use under a name: stores the next one, unless one is there, and returns both.
 *
 * @category operations
 * @since 0.1.0
 */
export const begin = Effect.fnUntraced(function*(name: string): Effect.fn.Return<
  { readonly current: Identity; readonly next: Identity; readonly sinceMillis: number },
  SecretStore.SecretStoreError,
  SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const random = yield* SecureRandom.SecureRandom
  const fresh = {
    seed: Redacted.make(yield* random.randomBytes(seedLength)),
    sinceMillis: yield* Clock.currentTimeMillis
  }
  yield* ring(name)
  const stored = yield* modify(name, (stored) => {
    const begun = { ...stored, next: stored.next ?? fresh }
    return Effect.succeed([begun, stored.next === null ? begun : undefined] as const)
  })
  const next = yield* nextOf(stored.next)
  return { current: yield* identityOf(stored.current), next: next.identity, sinceMillis: next.sinceMillis }
})

/**
 * Puts the next key under a name in the place of the key in use, if the next one is still the one with the thumbprint
 * `keyId`. If it is not, another caller has finished, and nothing is changed.
 *
 * @category operations
 * @since 0.1.0
 */
export const finish = (name: string, keyId: string): Effect.Effect<
  void,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> =>
  modify(
    name,
    Effect.fnUntraced(function*({ id, next }) {
      if (next === null) return [undefined, undefined] as const
      const { publicKey } = yield* identityOf(next.seed)
      return [undefined, publicKey.kid === keyId ? { id, current: next.seed, next: null } : undefined] as const
    })
  )

/**
 * Makes a new key the one in use under a name, and drops both that were there. The other side learns of it by a link that is
 * made again.
 *
 * @category operations
 * @since 0.1.0
 */
export const renew = Effect.fnUntraced(function*(name: string): Effect.fn.Return<
  void,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const random = yield* SecureRandom.SecureRandom
  const current = Redacted.make(yield* random.randomBytes(seedLength))
  yield* ring(name)
  yield* modify(name, ({ id }) => Effect.succeed([undefined, { id, current, next: null }] as const))
})
