/**
 * JSON as the text that was sent. Messages are stored as they came, so that a number keeps its digits and an object its
 * order; only their borders are looked for.
 */
import * as Option from "effect/Option"

/** Returns the index of the byte after a string that begins at an index. */
const afterString = (list: Uint8Array, start: number): number => {
  let index = start + 1
  while (index < list.length && list[index] !== 0x22) index += list[index] === 0x5c ? 2 : 1
  return index + 1
}

/** Returns the values from the index `from` up to `until` of a comma-separated list that is known to be valid. */
export const slice = (list: Uint8Array, from: number, until: number): Uint8Array => {
  if (from >= until) return new Uint8Array()
  let start = 0
  let commas = 0
  let depth = 0
  let index = 0
  while (index < list.length) {
    const byte = list[index]
    if (byte === 0x22) {
      index = afterString(list, index)
      continue
    }
    if (byte === 0x5b || byte === 0x7b) depth++
    else if (byte === 0x5d || byte === 0x7d) depth--
    else if (byte === 0x2c && depth === 0) {
      commas++
      if (commas === until) return list.subarray(start, index)
      if (commas === from) start = index + 1
    }
    index++
  }
  return commas < from ? new Uint8Array() : list.subarray(start)
}

/** Describes the messages of one append. */
export interface Messages {
  readonly count: number
  /** The messages, separated by commas. */
  readonly list: Uint8Array
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const isUtf8 = (body: Uint8Array) =>
  Option.isSome(Option.liftThrowable((body: Uint8Array) => decoder.decode(body))(body))

const isSpace = (byte: number | undefined): boolean =>
  byte !== undefined && byte <= 0x20 && (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09)
const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x30 && byte <= 0x39
const isHex = (byte: number | undefined): boolean =>
  isDigit(byte) || (byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66)

/** Returns the index after at least one digit at an index, or -1. */
const afterDigits = (body: Uint8Array, start: number): number => {
  let index = start
  while (isDigit(body[index])) index++
  return index > start ? index : -1
}

/** What may follow a backslash, but for `u`. */
const escapes = new Set(Array.from(String.raw`"\/bfnrt`, (char) => char.charCodeAt(0)))
const words = ["true", "false", "null"].map((word) => Array.from(word, (char) => char.charCodeAt(0)))

/** Returns the index after a valid string, a number or a word at an index, or -1. */
const afterScalar = (body: Uint8Array, start: number): number => {
  let index = start
  if (body[index] === 0x22) {
    for (index++; body[index] !== 0x22; index++) {
      const byte = body[index]
      if (byte === undefined || byte < 0x20) return -1
      if (byte !== 0x5c) continue
      index++
      if (body[index] === 0x75) {
        for (let digit = 0; digit < 4; digit++) if (!isHex(body[++index])) return -1
      } else if (!escapes.has(body[index] ?? 0)) return -1
    }
    return index + 1
  }
  const word = body[index] === 0x2d || isDigit(body[index]) ? undefined : words.find(([first]) => first === body[index])
  if (word !== undefined) return word.every((byte, at) => body[index + at] === byte) ? index + word.length : -1
  if (body[index] === 0x2d) index++
  index = body[index] === 0x30 ? index + 1 : afterDigits(body, index)
  if (index > 0 && body[index] === 0x2e) index = afterDigits(body, index + 1)
  if (index > 0 && (body[index] === 0x65 || body[index] === 0x45)) {
    index++
    if (body[index] === 0x2b || body[index] === 0x2d) index++
    index = afterDigits(body, index)
  }
  return index
}

/**
 * Reads the messages of a body: the elements of an array, or else the one value that it is. `undefined` if it is not
 * JSON. Makes no value of it, which would take several times as long, and longest for what no one would send.
 */
export const messagesOf = (body: Uint8Array): Messages | undefined => {
  if (!isUtf8(body)) return undefined
  let index = 0
  const skip = () => {
    while (isSpace(body[index])) index++
  }
  // A byte order mark is no part of the text.
  if (body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf) index = 3
  skip()
  const start = index
  const isList = body[start] === 0x5b
  let commas = 0
  /** The byte that ends what was opened last, or 0, and those that end what it is in. */
  let end = 0
  const outer: Array<number> = []
  const readName = (): boolean => {
    if (body[index] !== 0x22) return false
    index = afterScalar(body, index)
    if (index < 0) return false
    skip()
    if (body[index++] !== 0x3a) return false
    skip()
    return true
  }
  for (;;) {
    const byte = body[index]
    if (byte === 0x5b || byte === 0x7b) {
      index++
      skip()
      // In ASCII the end of a list or an object stands two places after its beginning.
      if (body[index] !== byte + 2) {
        outer.push(end)
        end = byte + 2
        if (byte === 0x7b && !readName()) return undefined
        continue
      }
      index++
    } else {
      index = afterScalar(body, index)
      if (index < 0) return undefined
    }
    // After a value: what ends with it, and then another value or the end of the text.
    skip()
    while (end !== 0 && body[index] === end) {
      end = outer.pop() ?? 0
      index++
      skip()
    }
    if (end === 0) break
    if (body[index++] !== 0x2c) return undefined
    if (outer.length === 1) commas++
    skip()
    if (end === 0x7d && !readName()) return undefined
  }
  if (index < body.length) return undefined
  while (isSpace(body[index - 1])) index--
  if (!isList) return { count: 1, list: body.subarray(start, index) }
  const list = body.subarray(start + 1, index - 1)
  return list.every(isSpace) ? { count: 0, list: new Uint8Array() } : { count: commas + 1, list }
}
