import * as Option from "effect/Option"

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
const base64Url = /^[A-Za-z0-9_-]+$/

/**
 * Checks for base64url without padding whose unused trailing bits are zero (RFC 4648 section 3.5), so that no two texts
 * stand for the same bytes.
 */
export const isCanonicalBase64Url = (text: string): boolean => {
  if (!base64Url.test(text)) return false
  const last = alphabet.indexOf(text.charAt(text.length - 1))
  switch (text.length % 4) {
    case 0:
      return true
    case 2:
      return (last & 15) === 0
    case 3:
      return (last & 3) === 0
    default:
      return false
  }
}

/** Splits a token into exactly three canonical segments; undefined if it is anything else. */
export const split = (
  token: string,
  maxLength: number
): readonly [header: string, payload: string, signature: string] | undefined => {
  if (token.length > maxLength) return undefined
  const [header, payload, signature, more] = token.split(".", 4)
  return header !== undefined && payload !== undefined && signature !== undefined && more === undefined &&
      isCanonicalBase64Url(header) && isCanonicalBase64Url(payload) && isCanonicalBase64Url(signature)
    ? [header, payload, signature]
    : undefined
}

/** Holds the parts of a compact JWS (RFC 7515 section 7.1). Nothing of it has been verified. */
export interface CompactJws {
  readonly header: unknown
  readonly payload: unknown
  readonly signingInput: Uint8Array
  readonly signature: Uint8Array
}

const encoder = new TextEncoder()
// A byte order mark is no JSON (RFC 8259 section 8.1), so it is left for the parser to refuse.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Returns the bytes of canonical base64url as characters of a string, which `atob` is the fastest way to. */
const toBinary = (segment: string): string => atob(segment.replaceAll("-", "+").replaceAll("_", "/"))

const toBytes = (binary: string): Uint8Array => {
  const bytes = new Uint8Array(binary.length)
  for (let index = 0; index < bytes.length; index++) bytes[index] = binary.charCodeAt(index)
  return bytes
}

const beyondAscii = /[\x80-\xff]/

/** Reads a canonical segment as JSON; none if it is not. */
export const readJson = Option.liftThrowable((segment: string): unknown => {
  const binary = toBinary(segment)
  return JSON.parse(beyondAscii.test(binary) ? decoder.decode(toBytes(binary)) : binary)
})

/** Reads a canonical segment as bytes. */
export const readBytes = (segment: string): Uint8Array => toBytes(toBinary(segment))

/** Splits a token into exactly three canonical segments and reads two of them as JSON; none if it is anything else. */
export const parse = (token: string, maxLength: number): Option.Option<CompactJws> => {
  const segments = split(token, maxLength)
  if (segments === undefined) return Option.none()
  const header = readJson(segments[0])
  const payload = readJson(segments[1])
  if (Option.isNone(header) || Option.isNone(payload)) return Option.none()
  return Option.some({
    header: header.value,
    payload: payload.value,
    signingInput: encoder.encode(`${segments[0]}.${segments[1]}`),
    signature: readBytes(segments[2])
  })
}
