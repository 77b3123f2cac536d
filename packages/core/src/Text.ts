/**
 * Text that strangers send: which of it is a key or a line, and how the rest is made one.
 *
 * A key is compared by machines, such as the id of a thread. A line is read by people beside other text, such as a label.
 * Both can be stored anywhere: PostgreSQL stores no NUL, and half of a surrogate pair is no UTF-8.
 */
import * as Schema from "effect/Schema"

const notKey = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u

// The two variation selectors belong to emoji. Joiners do where they join emoji, or letters of a script that is written
// with them (UAX #31 section 2.3).
const emoji = "\\p{Extended_Pictographic}"
const joined = `[${
  ["Arab", "Beng", "Deva", "Gujr", "Guru", "Khmr", "Knda", "Mlym", "Orya", "Sinh", "Taml", "Telu"]
    .map((script) => `\\p{Script=${script}}`).join("")
}]`
const belongs = `[\\uFE0E\\uFE0F]|(?<=${emoji}[\\uFE0F\\u{1F3FB}-\\u{1F3FF}]?)\\u200D(?=${emoji})|` +
  `(?<=${joined})[\\u200C\\u200D](?=${joined})`

// Beside control characters: what is invisible, or changes the direction or the order of the text around it. Tall stacks of
// marks cover the rows above.
const notLine = `(?!${belongs})[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Zl}\\p{Zp}\\p{DI}\\u2800]`
const inLine = new RegExp(`${notLine}|\\p{M}{5}`, "u")
const everyInLine = new RegExp(`${notLine}|(?<=\\p{M}{4})\\p{M}`, "gu")
const visible = /[\p{L}\p{N}\p{P}\p{S}]/u

const encoder = new TextEncoder()

/**
 * Tells whether text has at most so many bytes as UTF-8. PostgreSQL indexes up to 2,704 bytes in a row.
 *
 * @category guards
 * @since 0.1.0
 */
export const hasAtMostBytes = (text: string, max: number): boolean =>
  3 * text.length <= max || encoder.encode(text).length <= max

/**
 * Tells whether text is a key: 1 to `max` characters without control characters, line breaks and halves of characters. One
 * of up to 255 characters, as rows are found by, has at most 512 bytes as UTF-8.
 *
 * @category guards
 * @since 0.1.0
 */
export const isKey = (text: string, max = 255): boolean =>
  text !== "" && text.length <= 2 * max && !notKey.test(text) && (text.length <= max || [...text].length <= max) &&
  (max > 255 || hasAtMostBytes(text, 512))

/**
 * Tells whether text is a line: 1 to `max` visible characters, without blanks at its ends and without control characters,
 * invisible ones, those that set the direction of text, and halves of characters.
 *
 * @category guards
 * @since 0.1.0
 */
export const isLine = (text: string, max = 128): boolean =>
  text.length <= 2 * max && !inLine.test(text) && visible.test(text) && text === text.trim() &&
  (text.length <= max || [...text].length <= max)

/**
 * Decodes a key; see {@link isKey}.
 *
 * @category schemas
 * @since 0.1.0
 */
export const key = (max = 255): Schema.String =>
  Schema.String.check(
    Schema.makeFilter((text) => isKey(text, max), {
      expected: `1 to ${max} characters${max > 255 ? "" : ", of 512 bytes at most,"} without control characters`
    })
  )

const lineFilter = (max: number) =>
  Schema.makeFilter((text: string) => isLine(text, max), {
    expected: `1 to ${max} visible characters, none of them control characters or such as set the direction of text`
  })

/**
 * Decodes a line; see {@link isLine}.
 *
 * @category schemas
 * @since 0.1.0
 */
export const line = (max = 128): Schema.String => Schema.String.check(lineFilter(max))

/**
 * Decodes a line that a person typed: blanks at its ends are dropped first.
 *
 * @category schemas
 * @since 0.1.0
 */
export const typedLine = (max = 128): typeof Schema.Trim => Schema.Trim.check(lineFilter(max))

/**
 * Makes a line of any text: blanks are one space, what else a line cannot hold is U+FFFD, and what is beyond `max`
 * characters is cut. Returns null if nothing is left to see.
 *
 * @category converting
 * @since 0.1.0
 */
export const toLine = (text: string, max = 256): string | null => {
  const cut = text.slice(0, 2 * max).replaceAll(/[\s\u2800]+/gu, " ").replaceAll(everyInLine, "\uFFFD").trim()
  // A joiner at the cut joins nothing any more.
  const line = cut.length <= max
    ? cut
    : [...cut].slice(0, max).join("").replace(/(?<![\s\u200C\u200D])[\s\u200C\u200D]+$/, "")
  return visible.test(line) ? line : null
}

/**
 * Shortens an id for a list that people read: to its first 13 characters. Of a version 7 UUID they say the millisecond at
 * which it was made, of a thumbprint they are 78 bits, so what they begin is mostly one entry of a list.
 *
 * @category converting
 * @since 0.1.0
 */
export const shortId = (id: string): string => id.slice(0, 13)

const utf8 = new TextDecoder("utf-8", { fatal: true })

/**
 * Makes a line of the value of a header, which servers read as Latin-1: bytes that are UTF-8 are read as such.
 *
 * @category converting
 * @since 0.1.0
 */
export const fromHeader = (value: string | undefined, max = 256): string | null => {
  if (value === undefined) return null
  const cut = value.slice(0, 4 * max)
  // Half of a character at the cut is dropped, or the rest would be no UTF-8.
  const whole = cut.length === value.length ? cut : cut.replace(/[\u00c0-\u00ff][\u0080-\u00bf]{0,3}$/, "")
  if (/^\p{ASCII}*$/u.test(whole) || /[\u0100-\uffff]/.test(whole)) return toLine(whole, max)
  try {
    return toLine(utf8.decode(Uint8Array.from(whole, (char) => char.charCodeAt(0))), max)
  } catch {
    return toLine(whole, max)
  }
}

/**
 * Writes text that may come from a stranger for a row of a terminal's table: as a line, and kept apart from the text
 * around it (U+2068, U+2069) if it may be written from right to left.
 *
 * @category converting
 * @since 0.1.0
 */
export const shown = (text: string, max = 256): string => {
  const line = toLine(text, max) ?? ""
  return /^[\x20-\x7e]*$/.test(line) ? line : `\u2068${line}\u2069`
}
