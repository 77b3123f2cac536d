/**
 * JSON as text: canonical for digests, and measured as UTF-8.
 */
import * as Option from "effect/Option"

/** Copies a JSON value with the members of its objects in the order of their names. */
const sorted = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) return value.map(sorted)
  const copy: Record<string, unknown> = {}
  for (const [name, member] of Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1)) {
    if (name !== "__proto__") copy[name] = sorted(member)
    else Object.defineProperty(copy, name, { value: sorted(member), enumerable: true })
  }
  return copy
}

/**
 * Writes a JSON value without white space and with the members of objects in one order, so that equal requests have equal
 * digests: names that are whole numbers first, as engines keep them, then the others by UTF-16 code units. Members that JSON
 * cannot hold are left out as `JSON.stringify` does.
 */
export const canonical = (value: unknown): string => JSON.stringify(sorted(value)) ?? "null"

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
