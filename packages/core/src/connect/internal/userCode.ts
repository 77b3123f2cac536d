/**
 * The code that a device shows, and that its owner reads there and compares or types (RFC 8628 section 6.1).
 */
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

// Without vowels, so that no code spells a word, and without symbols that look like others.
const alphabet = "BCDFGHJKLMNPQRSTVWXZ"
const length = 8
// The largest multiple of the alphabet's length in a byte: a byte below it favours no symbol.
const bound = 240

const format = (symbols: string): string => `${symbols.slice(0, 4)}-${symbols.slice(4)}`

/** Draws a new code, `XXXX-XXXX`, of 34 bits. */
export const generate = Effect.fnUntraced(function*(): Effect.fn.Return<string, never, SecureRandom.SecureRandom> {
  const random = yield* SecureRandom.SecureRandom
  let symbols = ""
  while (symbols.length < length) {
    for (const byte of yield* random.randomBytes(length * 2)) {
      if (byte < bound) symbols += alphabet.charAt(byte % alphabet.length)
    }
  }
  return format(symbols.slice(0, length))
})

/** Reads a code as a person types it: in any case and width, with any dashes, blanks and invisible characters. */
export const parse = (input: string): Option.Option<string> => {
  if (input.length > 128) return Option.none()
  const symbols = input.normalize("NFKC").toUpperCase().replace(/[\s\p{P}\p{Cf}\p{DI}\p{M}\u2212\u30FC]/gu, "")
  return symbols.length === length && Array.from(symbols).every((symbol) => alphabet.includes(symbol))
    ? Option.some(format(symbols))
    : Option.none()
}
