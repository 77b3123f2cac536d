import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import { makeRecentlyUsed } from "./recentlyUsed.ts"
import { storedMacKey } from "./storedMacKey.ts"

/** Names the secret, in the `SecretStore`, that makes nonces recognisable to every process of a deployment. */
const nonceKeyName = "dpop-nonce-key"

const encoder = new TextEncoder()

/** Makes and recognises nonces: the number of a period, and a tag over it, so that nothing has to be remembered. */
export const makeNonces = Effect.fnUntraced(function*(lifetimeMillis: number) {
  const mac = yield* Mac.Mac
  const key = yield* storedMacKey(nonceKeyName, "clients are given new nonces")
  const known = makeRecentlyUsed<string>(4)
  const ofPeriod = (period: number): Effect.Effect<string> => {
    const name = period.toString(36)
    const nonce = known.get(name)
    return nonce !== undefined ? Effect.succeed(nonce) : Effect.map(
      Effect.orDie(mac.sign(key, encoder.encode(`dpop-nonce:${lifetimeMillis}:${name}`))),
      (tag) => {
        const made = `${name}.${Base64Url.encode(tag.subarray(0, 16))}`
        known.set(name, made)
        return made
      }
    )
  }
  const periodOf = (nowMillis: number): number => Math.floor(nowMillis / lifetimeMillis)
  return {
    current: (nowMillis: number): Effect.Effect<string> => ofPeriod(periodOf(nowMillis)),
    isGood: Effect.fnUntraced(function*(nonce: string, nowMillis: number) {
      const theirs = encoder.encode(nonce)
      const period = periodOf(nowMillis)
      for (const candidate of [period, period - 1]) {
        const ours = encoder.encode(yield* ofPeriod(candidate))
        if (ours.length === theirs.length && Mac.timingSafeEqual(ours, theirs)) return true
      }
      return false
    })
  }
})
