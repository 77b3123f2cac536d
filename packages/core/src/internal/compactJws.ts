import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

/**
 * Checks for base64url without padding whose unused trailing bits are zero (RFC 4648 section 3.5), so that no two texts
 * stand for the same bytes.
 */
export const isCanonicalBase64Url = (text: string): boolean => {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) return false
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

/** Holds the parts of a compact JWS (RFC 7515 section 7.1). Nothing of it has been verified. */
export interface CompactJws {
  readonly header: unknown
  readonly payload: unknown
  readonly signingInput: Uint8Array
  readonly signature: Uint8Array
}

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true })

const parseJson = Option.liftThrowable((segment: string): unknown =>
  JSON.parse(decoder.decode(Result.getOrThrow(Base64Url.decode(segment))))
)

/** Splits a token into exactly three canonical segments and reads two of them as JSON; none where it is anything else. */
export const parse = (token: string, maxLength: number): Option.Option<CompactJws> => {
  if (token.length > maxLength) return Option.none()
  const segments = token.split(".", 4)
  const [header, payload, signature] = segments
  if (
    segments.length !== 3 || header === undefined || payload === undefined || signature === undefined ||
    !segments.every(isCanonicalBase64Url)
  ) return Option.none()
  return Option.all({
    header: parseJson(header),
    payload: parseJson(payload),
    signingInput: Option.some(encoder.encode(`${header}.${payload}`)),
    signature: Result.getSuccess(Base64Url.decode(signature))
  })
}
