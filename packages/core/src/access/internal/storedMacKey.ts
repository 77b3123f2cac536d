import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SecretStore from "../../secrets/SecretStore.ts"

const length = 32

/**
 * Returns the key of HMAC-SHA-256 that a store keeps under a name, and makes it if there is none. Fails if what is there
 * is too short to be one; `withNewKey` says what becomes of what the old one has made.
 */
export const storedMacKey = Effect.fnUntraced(function*(name: string, withNewKey: string) {
  const secrets = yield* SecretStore.SecretStore
  const bytes = Redacted.value(yield* secrets.getOrCreateRandom(name, length))
  if (bytes.length < length) {
    return yield* new SecretStore.SecretStoreError({
      reason: new SecretStore.Corrupt({
        location: `"${name}"`,
        problem: `it is shorter than ${length} bytes`,
        remedy: `Restore the secret from a backup, or remove it: a new key is made, and ${withNewKey}.`
      })
    })
  }
  return yield* Effect.orDie(Mac.key(Mac.hmacSha256, bytes))
})
