/**
 * The key pair with which an environment or a relay signs what it says, kept in the `SecretStore`.
 */
import type { PublicKey } from "@sallyport/contract/ConnectProtocol"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as Jwt from "./internal/jwt.ts"

/** Signs with one key pair. Its public key is for the other side. */
export interface Identity {
  readonly publicKey: PublicKey
  /** Signs claims, which are good for a minute. */
  readonly sign: (typ: string, claims: Readonly<Record<string, unknown>>) => Effect.Effect<string>
}

/** The name of an environment's secret, and that of a relay's. */
export const environmentKeyName = "connect-environment-key"
/** @see {@link environmentKeyName} */
export const relayKeyName = "connect-relay-key"

const seedLength = 32

const broken = (name: string) =>
  new SecretStore.SecretStoreError({
    reason: new SecretStore.Corrupt({
      location: `"${name}"`,
      problem: `it is not ${seedLength} bytes long`,
      remedy: "Restore the secret from a backup, or remove it and link the environment anew."
    })
  })

/** Returns the identity that is kept under a name, which the first of all callers makes. */
export const load = Effect.fnUntraced(function*(name: string): Effect.fn.Return<
  Identity,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> {
  const secrets = yield* SecretStore.SecretStore
  const seed = yield* secrets.getOrCreateRandom(name, seedLength)
  if (Redacted.value(seed).length !== seedLength) return yield* broken(name)
  const key = yield* Jwt.keyPairOf(seed)
  return {
    publicKey: key.publicKey,
    sign: (typ, claims) => Jwt.sign(key, { typ, claims, lifetimeSeconds: 60 })
  }
})

/**
 * Makes a new key pair take the place of the one under a name. The other side learns of it when the environment is linked
 * anew, and believes neither key's answers in between.
 */
export const rotate = Effect.fnUntraced(function*(name: string): Effect.fn.Return<
  void,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const secrets = yield* SecretStore.SecretStore
  const random = yield* SecureRandom.SecureRandom
  yield* secrets.set(name, Redacted.make(yield* random.randomBytes(seedLength)))
})
