/**
 * The form of a machine's token: a session token between a prefix and a checksum, `sallyport_<token>.<checksum>`.
 *
 * Programs that look for secrets in code, logs and messages know it by {@link pattern}, and tell it from what only looks
 * like one by the checksum, without asking a server. The form proves nothing: the token within is signed.
 */
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Input from "../Input.ts"

/**
 * Begins every machine's token.
 *
 * @category constants
 * @since 0.1.0
 */
export const prefix = "sallyport_"

/**
 * Matches a machine's token, as a regular expression of any dialect.
 *
 * @category constants
 * @since 0.1.0
 */
export const pattern = String.raw`sallyport_[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}\.[0-9A-Za-z]{6}`

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
const length = 6

/** Returns the CRC-32 of a text (that of zip and PNG) as six digits to the base 62. */
const checksum = (text: string): string => {
  let crc = 0xffffffff
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  let rest = ~crc >>> 0
  let written = ""
  for (let place = 0; place < length; place++) {
    written = digits.charAt(rest % digits.length) + written
    rest = Math.floor(rest / digits.length)
  }
  return written
}

/**
 * Gives a session token the form of a machine's.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (token: Redacted.Redacted): Redacted.Redacted => {
  Input.demand("MachineToken.make", { token: Input.required(Input.redacted) }, { token })
  const text = prefix + Redacted.value(token)
  return Redacted.make(`${text}.${checksum(text)}`, { label: "session-token" })
}

/**
 * Tells whether a text claims to be a machine's token.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasForm = (token: Redacted.Redacted): boolean => Redacted.value(token).startsWith(prefix)

/**
 * Returns the session token within a machine's token, and none if the checksum is wrong. It was not looked at whether any
 * key has signed it.
 *
 * @category converting
 * @since 0.1.0
 */
export const parse = (token: Redacted.Redacted): Option.Option<Redacted.Redacted> => {
  const text = Redacted.value(token)
  const end = text.lastIndexOf(".")
  const body = text.slice(0, Math.max(0, end))
  return body.startsWith(prefix) && text.slice(end + 1) === checksum(body)
    ? Option.some(Redacted.make(body.slice(prefix.length), { label: "session-token" }))
    : Option.none()
}
