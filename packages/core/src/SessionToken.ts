/**
 * The session token: a compact JWS (RFC 7515) signed with HS256.
 *
 * Its claims name the session, the subject and a random `jti`. What the session may do, and until when, is the row's, so
 * that a change there needs no new token. Any JWT library that holds the key can verify one.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Jose from "jose"
import * as CompactJws from "./internal/compactJws.ts"
import type { SigningKey, SigningKeys } from "./internal/signingKeys.ts"
import { SessionId } from "./Session.ts"

/** The `typ` of every session token (RFC 8725 section 3.11), so that no other token of the same key passes for one. */
export const type = "sallyport-session+jwt"

/** Bounds the length of a token, in characters; a longer one is refused unread. */
export const maxLength = 2048

/** Describes what a token says. Times are seconds since the epoch, as in RFC 7519. */
export const Claims = Schema.Struct({
  /** The session. */
  sid: SessionId,
  sub: Schema.NonEmptyString,
  /** 128 random bits: a token cannot be made again from the key and a dump of the store. */
  jti: Schema.NonEmptyString,
  iat: Schema.Natural,
  /** The absolute end, where the session has one. A sliding end is the row's alone. */
  exp: Schema.optionalKey(Schema.Natural)
})
/** @see {@link Claims} */
export type Claims = typeof Claims.Type

/** Signs claims. */
export const sign = (key: SigningKey, claims: Claims): Effect.Effect<Redacted.Redacted> =>
  Effect.promise(() =>
    new Jose.SignJWT({ ...claims })
      .setProtectedHeader({ alg: "HS256", typ: type, kid: key.keyId })
      .sign(key.cryptoKey)
  ).pipe(Effect.map((token) => Redacted.make(token, { label: "session-token" })))

const Header = Schema.Struct({
  alg: Schema.Literal("HS256"),
  typ: Schema.Literal(type),
  kid: Schema.NonEmptyString
})
const decodeHeader = Schema.decodeUnknownOption(Header, { onExcessProperty: "error" })
const decodeClaims = Schema.decodeUnknownOption(Claims)

/**
 * Returns the claims of a token that one of the keys signed, and none for anything else.
 *
 * The form is exact: three segments of canonical base64url, a header of exactly `alg`, `typ` and `kid`. A token that
 * differs from the signed one in any character is refused. Whether it has expired is not looked at.
 */
export const verify = Effect.fnUntraced(function*(keys: SigningKeys, token: Redacted.Redacted) {
  const text = Redacted.value(token)
  if (CompactJws.split(text, maxLength) === undefined) return Option.none<Claims>()
  const header = Option.liftThrowable(Jose.decodeProtectedHeader)(text).pipe(Option.flatMap(decodeHeader))
  if (Option.isNone(header)) return Option.none<Claims>()
  const key = keys.byId.get(header.value.kid)
  if (key === undefined) return Option.none<Claims>()
  return yield* Effect.tryPromise(() => Jose.compactVerify(text, key.cryptoKey, { algorithms: ["HS256"] })).pipe(
    Effect.map(({ payload }) => parseJson(payload).pipe(Option.flatMap(decodeClaims))),
    // jose rejects with its own error classes only; each of them says that this is not a token of ours.
    Effect.orElseSucceed(() => Option.none<Claims>())
  )
})

const parseJson = Option.liftThrowable((bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes)))
