/**
 * JSON as the text that was sent. Messages are stored as they came, so that a number keeps its digits and an object its
 * order; only their borders are looked for.
 */
import * as Option from "effect/Option"

/** Finds the borders of the values of a comma-separated list that is known to be valid. */
const bordersOf = (list: Uint8Array): ReadonlyArray<number> => {
  const commas: Array<number> = []
  let depth = 0
  let inString = false
  for (let i = 0; i < list.length; i++) {
    const byte = list[i]
    if (inString) {
      if (byte === 0x5c) i++
      else if (byte === 0x22) inString = false
    } else if (byte === 0x22) inString = true
    else if (byte === 0x5b || byte === 0x7b) depth++
    else if (byte === 0x5d || byte === 0x7d) depth--
    else if (byte === 0x2c && depth === 0) commas.push(i)
  }
  return commas
}

/** Returns the values from the index `from` up to `until` of a comma-separated list. */
export const slice = (list: Uint8Array, from: number, until: number): Uint8Array => {
  const commas = bordersOf(list)
  const start = from === 0 ? 0 : (commas[from - 1] ?? list.length) + 1
  return list.subarray(start, commas[until - 1] ?? list.length)
}

/** Describes the messages of one append. */
export interface Messages {
  readonly count: number
  /** The messages, separated by commas. */
  readonly list: Uint8Array
}

const decoder = new TextDecoder("utf-8", { fatal: true })
const parse = Option.liftThrowable((body: Uint8Array): unknown => JSON.parse(decoder.decode(body)))

const isSpace = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/**
 * Reads the messages of a body: the elements of an array, or else the one value that it is. `undefined` if it is not
 * JSON.
 */
export const messagesOf = (body: Uint8Array): Messages | undefined => {
  const value = parse(body)
  if (Option.isNone(value)) return undefined
  let start = 0
  let end = body.length
  // A byte order mark is no part of the text, and is not decoded.
  if (body[0] === 0xef) start = 3
  while (isSpace(body[start])) start++
  while (isSpace(body[end - 1])) end--
  if (!Array.isArray(value.value)) return { count: 1, list: body.subarray(start, end) }
  const count = value.value.length
  return { count, list: count === 0 ? new Uint8Array() : body.subarray(start + 1, end - 1) }
}
