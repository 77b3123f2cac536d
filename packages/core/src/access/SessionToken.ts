/**
 * The session token: a compact JWS (RFC 7515) signed with HS256.
 *
 * Its claims name the session, the subject and a random `jti`. What the session may do, and until when, is the row's, so
 * that a change there needs no new token. Any JWT library that holds the key can verify one.
 */
import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as CompactJws from "./internal/compactJws.ts"
import type { SigningKey, SigningKeys } from "./internal/signingKeys.ts"
import { SessionId } from "./Session.ts"

/**
 * The `typ` of every session token (RFC 8725 section 3.11), so that no other token of the same key passes for one.
 *
 * @category constants
 * @since 0.1.0
 */
export const type = "sallyport-session+jwt"

/**
 * The `typ` of every refresh token, which is good for new tokens at the token endpoint and for nothing else.
 *
 * @category constants
 * @since 0.1.0
 */
export const refreshType = "sallyport-refresh+jwt"

/**
 * Names what a token is for.
 *
 * @category models
 * @since 0.1.0
 */
export type TokenType = typeof type | typeof refreshType

/**
 * Bounds the length of a token, in characters; a longer one is refused unread.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxLength = 2048

/**
 * Describes what a token says. Times are seconds since the epoch, as in RFC 7519.
 *
 * @category models
 * @since 0.1.0
 */
export const Claims = Schema.Struct({
  /** The session. */
  sid: SessionId,
  sub: Schema.NonEmptyString,
  /** 128 random bits: a token cannot be made again from the key and a dump of the store. */
  jti: Schema.NonEmptyString,
  iat: Schema.Natural,
  /** The token's own end or the session's absolute one, whichever comes first. A sliding end is the row's alone. */
  exp: Schema.optionalKey(Schema.Natural)
})
/**
 * @see {@link Claims}
 *
 * @category models
 * @since 0.1.0
 */
export type Claims = typeof Claims.Type

const encoder = new TextEncoder()

const encodeSegment = (value: unknown): string => Base64Url.encode(JSON.stringify(value))

/**
 * Signs claims, for a session token unless another type is named. Equal claims make an equal token.
 *
 * @category operations
 * @since 0.1.0
 */
export const sign = Effect.fnUntraced(function*(
  key: SigningKey,
  claims: Claims,
  typ: TokenType = type
): Effect.fn.Return<Redacted.Redacted, never, Mac.Mac> {
  const mac = yield* Mac.Mac
  const input = `${encodeSegment({ alg: "HS256", typ, kid: key.keyId })}.${encodeSegment(claims)}`
  // A key that was made can sign.
  const tag = yield* Effect.orDie(mac.sign(key.key, encoder.encode(input)))
  return Redacted.make(`${input}.${Base64Url.encode(tag)}`, {
    label: typ === type ? "session-token" : "refresh-token"
  })
})

const Header = Schema.Struct({
  alg: Schema.Literal("HS256"),
  typ: Schema.Literals([type, refreshType]),
  kid: Schema.NonEmptyString
})
const decodeHeader = Schema.decodeUnknownOption(Header, { onExcessProperty: "error" })
const decodeClaims = Schema.decodeUnknownOption(Claims)

/**
 * Returns the `kid` that a token of the right form names. It was not looked at whether that key, or any, has signed it.
 *
 * @category converting
 * @since 0.1.0
 */
export const keyIdOf = (token: Redacted.Redacted, typ: TokenType = type): Option.Option<string> =>
  CompactJws.parse(Redacted.value(token), maxLength).pipe(
    Option.flatMap(({ header }) => decodeHeader(header)),
    Option.filter((header) => header.typ === typ),
    Option.map(({ kid }) => kid)
  )

/**
 * Returns the claims of a token of a type, by default a session token, that one of the keys signed, and none for anything
 * else.
 *
 * The form is exact: three segments of canonical base64url, a header of exactly `alg`, `typ` and `kid`. A token that
 * differs from the signed one in any character is refused. Whether it has expired is not looked at.
 *
 * @category operations
 * @since 0.1.0
 */
export const verify = Effect.fnUntraced(function*(
  keys: SigningKeys,
  token: Redacted.Redacted,
  typ: TokenType = type
): Effect.fn.Return<Option.Option<Claims>, never, Mac.Mac> {
  const mac = yield* Mac.Mac
  const parsed = CompactJws.parse(Redacted.value(token), maxLength)
  if (Option.isNone(parsed)) return Option.none()
  const header = decodeHeader(parsed.value.header)
  const key = Option.isSome(header) && header.value.typ === typ ? keys.byId.get(header.value.kid) : undefined
  if (key === undefined) return Option.none()
  const signed = yield* Effect.orDie(mac.verify(key.key, parsed.value.signature, parsed.value.signingInput))
  return signed ? decodeClaims(parsed.value.payload) : Option.none()
})
