/**
 * What is stored of a one-time credential: a keyed digest.
 */
import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as PairingCode from "../PairingCode.ts"
import { storedMacKey } from "./storedMacKey.ts"

const encoder = new TextEncoder()

/** Names the secret, in the `SecretStore`, that keys the digests of codes. */
const digestKeyName = "pairing-code-key"

/** Limits the length of a seeded credential from below: 128 bits in base64url. */
export const seedMinimumLength = 22

/**
 * Returns what is digested for a credential, or none if it can be neither a code nor a seed. A seed that reads as a
 * code is digested as one, on both sides, so that a host may seed a code of its own making.
 */
export const canonical = (text: string): Option.Option<string> => {
  const code = PairingCode.parse(text)
  if (Option.isSome(code)) return Option.some(`code:${Redacted.value(code.value)}`)
  return text.length < seedMinimumLength || text.length > PairingCode.maxInputLength || PairingCode.hasCodeForm(text)
    ? Option.none()
    : Option.some(`seed:${text}`)
}

/** Makes what digests the canonical text of a credential. */
export const make = Effect.gen(function*() {
  const mac = yield* Mac.Mac
  const key = yield* storedMacKey(digestKeyName, "open pairing links stop working")
  // The key is of our own making and of the right length, so signing with it cannot fail.
  return (text: string): Effect.Effect<string> =>
    Effect.map(Effect.orDie(mac.sign(key, encoder.encode(text))), Hex.encode)
})
