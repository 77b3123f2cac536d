/**
 * The one-time code that a person reads from one screen and enters on another.
 *
 * A code is random symbols of Crockford's Base32 alphabet, which has no I, L, O or U, and one check symbol. The check is
 * a Reed-Solomon symbol over GF(32), so a single mistyped symbol and any two swapped ones are told apart from a wrong
 * code without asking the server, and without costing an attempt.
 */
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Crockford from "./internal/crockford.ts"

/**
 * Says who enters a code: a `device` code has 15 random symbols (75 bits), short enough to type; a `machine` code, which
 * is pasted, has 27 (135 bits).
 *
 * @category models
 * @since 0.1.0
 */
export const Kind = Schema.Literals(["device", "machine"])
/**
 * @see {@link Kind}
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = typeof Kind.Type

const randomSymbols: Record<Kind, number> = { device: 15, machine: 27 }
const groupLength = 4

/**
 * Bounds the text that {@link parse} looks at, in characters: room for a pairing address.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxInputLength = 512

/**
 * Returns what was entered with plain letters and with `-` for every dash and blank. Of a pairing address it is what stands
 * in the fragment.
 */
const plain = (input: string): string => {
  const [, token = input] = /#(?:[^#]*&)?token=([^&#]*)/.exec(input) ?? []
  // A browser may have encoded what was copied from its address bar.
  return token.replaceAll("%20", " ").normalize("NFKC")
    // What is seen as no character of its own, such as the zero-width space that a messenger adds.
    .replace(/[\p{Cf}\p{DI}\p{M}]/gu, "")
    // A minus sign, and the long vowel mark of Japanese keyboards, are dashes to those who type them.
    .replace(/[\s\p{Pd}\u2212\u30FC]+/gu, "-")
}

/**
 * Draws a new code, shown as groups of four symbols: `XXXX-XXXX-XXXX-XXXX`.
 *
 * @category operations
 * @since 0.1.0
 */
export const generate = Effect.fnUntraced(function*(kind: Kind): Effect.fn.Return<
  Redacted.Redacted,
  never,
  SecureRandom.SecureRandom
> {
  const random = yield* SecureRandom.SecureRandom
  const bytes = yield* random.randomBytes(randomSymbols[kind])
  const values = Crockford.valuesOf(bytes)
  return Redacted.make(format(Crockford.format([...values, checkValue(values)])), { label: "pairing-code" })
})

/**
 * Reads a code as a person enters it: any case and width, with or without dashes and spaces of any kind, with invisible
 * characters in it, as the whole pairing address; `I` and `L` are taken for `1` and `O` for `0`. Returns the symbols without
 * separators, or none if the length, a symbol or the check symbol is wrong.
 *
 * @category converting
 * @since 0.1.0
 */
export const parse = (input: string): Option.Option<Redacted.Redacted> => {
  if (input.length > maxInputLength) return Option.none()
  const symbols = plain(input).toUpperCase().replaceAll("-", "").replace(/[IL]/g, "1").replace(/O/g, "0")
  if (symbols.length !== randomSymbols.device + 1 && symbols.length !== randomSymbols.machine + 1) return Option.none()
  const values: Array<number> = []
  for (const symbol of symbols) {
    const value = Crockford.alphabet.indexOf(symbol)
    if (value < 0) return Option.none()
    values.push(value)
  }
  const check = values.pop()
  return check === checkValue(values) ? Option.some(Redacted.make(symbols, { label: "pairing-code" })) : Option.none()
}

/**
 * Tells whether a text is laid out as {@link generate} shows a code, in four or seven groups of four, whether or not its
 * symbols are right. No `parse` of such a text means that it was mistyped.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasCodeForm = (input: string): boolean =>
  input.length <= maxInputLength && /^-?[0-9a-z]{4}(?:-[0-9a-z]{4}){3}(?:(?:-[0-9a-z]{4}){3})?-?$/i.test(plain(input))

const format = (symbols: string): string => {
  const groups: Array<string> = []
  for (let start = 0; start < symbols.length; start += groupLength) {
    groups.push(symbols.slice(start, start + groupLength))
  }
  return groups.join("-")
}

/** Multiplies by the primitive element of GF(32), with the field polynomial x^5 + x^2 + 1. */
const timesAlpha = (value: number): number => value < 16 ? value << 1 : (value << 1) ^ 0b100101

/**
 * Evaluates the symbols as a polynomial at the primitive element. Its powers below 31 are distinct, so any single
 * substitution and any transposition within 31 symbols changes the result. Horner's last step multiplies once more, so
 * that swapping the last symbol with the check is seen too.
 */
const checkValue = (values: ReadonlyArray<number>): number => {
  let sum = 0
  for (const value of values) sum = timesAlpha(sum ^ value)
  return sum
}
