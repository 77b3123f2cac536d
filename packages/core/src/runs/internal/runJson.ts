/**
 * JSON as text: canonical for digests, and measured as UTF-8.
 */
import * as Option from "effect/Option"

/**
 * Writes a JSON value with the keys of objects sorted by UTF-16 code units and without white space (RFC 8785), so that
 * equal requests have equal digests. Members that JSON cannot hold are left out as `JSON.stringify` does.
 */
export const canonical = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item ?? null)).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => a < b ? -1 : 1)
    .map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`)
  return `{${members.join(",")}}`
}

const stringify = Option.liftThrowable((value: unknown): string => {
  const text: string | undefined = JSON.stringify(value)
  if (text === undefined) throw new TypeError("not JSON")
  return text
})

/** Returns a value as JSON, or `undefined` if it is none: a cycle, a bigint, too deep, or `undefined` itself. */
export const encode = (value: unknown): string | undefined => Option.getOrUndefined(stringify(value))

/** Returns the length of a text in bytes of UTF-8, without encoding it. */
export const utf8Length = (text: string): number => {
  let bytes = text.length
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit < 0x80) continue
    // A surrogate pair is two units and four bytes: two more for the pair, hence one more for each half.
    bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2
  }
  return bytes
}
