/**
 * The tokens of sessions: signed, verified, and followed by others when they are refreshed.
 */
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as MachineToken from "../MachineToken.ts"
import type { SessionRow } from "../SessionCredentialRepository.ts"
import * as SessionToken from "../SessionToken.ts"
import type * as SigningKeys from "./signingKeys.ts"

const encoder = new TextEncoder()

/** Makes what signs and verifies tokens with the keys of a ring. */
export const make = Effect.fnUntraced(function*(ring: SigningKeys.KeyRing) {
  const digest = yield* Digest.Digest
  const mac = yield* Mac.Mac

  const digestOf = (secret: Redacted.Redacted): Effect.Effect<string> =>
    digest.digestHex(Digest.sha256, encoder.encode(Redacted.value(secret)))

  const sign = (
    key: SigningKeys.SigningKey,
    claims: SessionToken.Claims,
    type?: SessionToken.TokenType
  ): Effect.Effect<Redacted.Redacted> => Effect.provideService(SessionToken.sign(key, claims, type), Mac.Mac, mac)

  /** Checks who signed a token. A key that is unknown here may be one that another process has made since. */
  const verify = Effect.fnUntraced(function*(presented: Redacted.Redacted, type?: SessionToken.TokenType) {
    const unwrapped = MachineToken.hasForm(presented) ? MachineToken.parse(presented) : Option.some(presented)
    if (Option.isNone(unwrapped)) return Option.none()
    const token = unwrapped.value
    const verifyWith = (keys: SigningKeys.SigningKeys) =>
      Effect.provideService(SessionToken.verify(keys, token, type), Mac.Mac, mac)
    const known = ring.known()
    const claims = yield* verifyWith(known)
    if (Option.isSome(claims)) return claims
    const keyId = SessionToken.keyIdOf(token, type)
    return Option.isNone(keyId) || known.byId.has(keyId.value) ? Option.none() : yield* verifyWith(yield* ring.reread)
  })

  /**
   * Makes the tokens that a session begins with, the refresh token among them if the row says when its token ends. They are
   * the same each time for the same row, key and seed, and no reader of the store can make them without the seed. A
   * machine's has the form of `MachineToken`.
   */
  const firstTokens = Effect.fnUntraced(
    function*(key: SigningKeys.SigningKey, row: SessionRow, secret: Redacted.Redacted, isMachine: boolean) {
      const seed = yield* Effect.orDie(mac.sign(key.key, encoder.encode(`session of ${Redacted.value(secret)}`)))
      const claims = (jti: Uint8Array, endMillis: number | null): SessionToken.Claims => ({
        sid: row.id,
        sub: row.subject,
        jti: Base64Url.encode(jti),
        iat: Math.floor(row.createdAtMillis / 1000),
        ...(endMillis === null ? {} : { exp: Math.floor(endMillis / 1000) })
      })
      const { absoluteExpiresAtMillis, tokenExpiresAtMillis } = row
      const signed = yield* sign(
        key,
        claims(
          seed.subarray(0, 16),
          tokenExpiresAtMillis === null
            ? absoluteExpiresAtMillis
            : Math.min(tokenExpiresAtMillis, absoluteExpiresAtMillis ?? Infinity)
        )
      )
      const token = isMachine ? MachineToken.make(signed) : signed
      const tokenDigest = yield* digestOf(token)
      if (tokenExpiresAtMillis === null) return { token, tokenDigest, refreshToken: undefined, refreshDigest: null }
      const refreshToken = yield* sign(
        key,
        claims(seed.subarray(16, 32), absoluteExpiresAtMillis),
        SessionToken.refreshType
      )
      return { token, tokenDigest, refreshToken, refreshDigest: yield* digestOf(refreshToken) }
    }
  )

  /**
   * Makes the tokens that follow a refresh token. They are the same each time for the same refresh token, key and times,
   * and no reader of the store can tell them from the row and the key without having that token.
   */
  const successors = Effect.fnUntraced(function*(before: {
    readonly key: SigningKeys.SigningKey
    readonly claims: SessionToken.Claims
    readonly refreshToken: Redacted.Redacted
    readonly refreshedAtMillis: number
    readonly tokenExpiresAtMillis: number
  }) {
    const { claims, key } = before
    const seed = yield* Effect.orDie(
      mac.sign(key.key, encoder.encode(`successors of ${Redacted.value(before.refreshToken)}`))
    )
    const iat = Math.floor(before.refreshedAtMillis / 1000)
    const token = yield* sign(key, {
      sid: claims.sid,
      sub: claims.sub,
      jti: Base64Url.encode(seed.subarray(0, 16)),
      iat,
      exp: Math.min(Math.floor(before.tokenExpiresAtMillis / 1000), claims.exp ?? Infinity)
    })
    // The same also if the token expires unused and another one is made in its place: it may have arrived.
    const refreshToken = yield* sign(
      key,
      { ...claims, jti: Base64Url.encode(seed.subarray(16, 32)) },
      SessionToken.refreshType
    )
    return { token, refreshToken, tokenDigest: yield* digestOf(token), refreshDigest: yield* digestOf(refreshToken) }
  })

  return { digestOf, firstTokens, verify, successors }
})
