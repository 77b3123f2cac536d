import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/** Dies unless a secret can have so many bytes. */
export const checkByteLength = (byteLength: number): Effect.Effect<void> =>
  Number.isSafeInteger(byteLength) && byteLength > 0
    ? Effect.void
    : Effect.die(new RangeError("byteLength must be a positive safe integer"))

/** Keeps the value that a secret has, and makes random bytes its value if it has none; for a store's `modify`. */
export const orRandom = (random: SecureRandom.SecureRandom["Service"], name: string, byteLength: number) =>
  Option.match({
    onSome: (current: Redacted.Redacted<Uint8Array>) => Effect.succeed([current, Option.none()] as const),
    onNone: () =>
      Effect.map(random.randomBytes(byteLength), (bytes) => {
        const created = Redacted.make(bytes, { label: name })
        return [created, Option.some(created)] as const
      })
  })
