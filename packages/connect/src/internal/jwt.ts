/**
 * Ed25519 JWTs of the relay's protocol, with `jose`: one algorithm, one `typ` for each kind, exact claims.
 */
import { maxLifetimeSeconds, type PublicKey } from "@sallyport/contract/ConnectProtocol"
import * as Clock from "effect/Clock"
import * as WebCrypto from "effect/crypto/WebCrypto"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

// Loaded when there is something to sign or to check: a server that is linked to no relay needs none of its modules.
const jose = () => import("jose")

/** How far the clocks of the two sides may differ, in seconds. */
const skewSeconds = 10

/** How long a spent value is remembered: longer than any JWT is good for, with the difference of the clocks. */
export const spentMillis = 400_000

/** Reports a JWT that is not to be believed. `problem` is for the log. */
export class JwtRefused extends Schema.TaggedError<JwtRefused>()("JwtRefused", { problem: Schema.String }) {
  override get message() {
    return "The signature, the claims or the time of the message are not those expected"
  }
}

/** A key pair; the private key can sign and not be exported. */
export interface KeyPair {
  readonly privateKey: CryptoKey
  readonly publicKey: PublicKey
}

// RFC 8410 section 7: the PKCS #8 form of an Ed25519 key is these bytes and the seed.
const pkcs8Head = Uint8Array.of(48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32)

/** Makes the key pair of a seed of 32 random bytes. */
export const keyPairOf = Effect.fnUntraced(function*(
  seed: Redacted.Redacted<Uint8Array>
): Effect.fn.Return<KeyPair, never, never> {
  const { subtle } = yield* WebCrypto.WebCrypto
  const pkcs8 = new Uint8Array([...pkcs8Head, ...Redacted.value(seed)])
  return yield* Effect.promise(async () => {
    const { calculateJwkThumbprint, exportJWK } = await jose()
    const extractable = await subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, true, ["sign"])
    const { x = "" } = await exportJWK(extractable)
    const jwk = { kty: "OKP", crv: "Ed25519", x } as const
    return {
      privateKey: await subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, false, ["sign"]),
      publicKey: { ...jwk, kid: await calculateJwkThumbprint(jwk) }
    }
  })
})

/** Returns the digest of a token for a proof that goes with it: SHA-256, in base64url (RFC 9449 section 4.2). */
export const tokenDigest = Effect.fnUntraced(function*(
  token: Redacted.Redacted
): Effect.fn.Return<string, never, never> {
  const { subtle } = yield* WebCrypto.WebCrypto
  const bytes = new TextEncoder().encode(Redacted.value(token))
  return Base64Url.encode(new Uint8Array(yield* Effect.promise(() => subtle.digest("SHA-256", bytes))))
})

/** Signs claims, which are good from now for a number of seconds. */
export const sign = Effect.fnUntraced(function*(key: KeyPair, options: {
  readonly typ: string
  readonly claims: Readonly<Record<string, unknown>>
  readonly lifetimeSeconds: number
}) {
  const iat = Math.floor((yield* Clock.currentTimeMillis) / 1000)
  return yield* Effect.promise(async () =>
    new (await jose()).SignJWT({ ...options.claims, iat, exp: iat + options.lifetimeSeconds })
      .setProtectedHeader({ alg: "EdDSA", typ: options.typ, kid: key.publicKey.kid })
      .sign(key.privateKey)
  )
})

const decodeHead = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({ kid: Schema.String })))

/** Reads the `kid` of a JWT without believing it: it says which of the known keys to check the signature with. */
export const keyIdOf = (token: string): Option.Option<string> =>
  Base64Url.decodeString(token.split(".", 1)[0] ?? "").pipe(
    Result.getSuccess,
    Option.flatMap(decodeHead),
    Option.map(({ kid }) => kid)
  )

/** Checks that a public key, which another side named, has the name that is its own: its thumbprint (RFC 7638). */
export const checkName = Effect.fnUntraced(function*({ crv, kid, kty, x }: PublicKey) {
  const thumbprint = yield* Effect.promise(async () => (await jose()).calculateJwkThumbprint({ crv, kty, x }))
  if (thumbprint !== kid) return yield* new JwtRefused({ problem: "a key that is not named by its thumbprint" })
})

/** Tells whether a token is three segments of base64url, each written in the one way there is. */
const isCanonical = (token: string): boolean => {
  const segments = token.split(".")
  return segments.length === 3 && segments.every((segment) => {
    const bytes = Base64Url.decode(segment)
    return Result.isSuccess(bytes) && Base64Url.encode(bytes.success) === segment
  })
}

/**
 * Checks a JWT's signature, kind, parties and time, and decodes its claims. It may have no claim beside those known, and no
 * member of its header beside `alg`, `typ` and `kid`.
 */
export const verify = Effect.fnUntraced(function*<A, E>(token: string, options: {
  readonly key: Pick<PublicKey, "x" | "kid">
  readonly typ: string
  readonly issuer: string
  /** Any of them, if there are several. */
  readonly audience: string | ReadonlyArray<string>
  readonly claims: Schema.Codec<A, E>
}) {
  const nowMillis = yield* Clock.currentTimeMillis
  const refuse = (problem: string) => new JwtRefused({ problem })
  if (!isCanonical(token)) return yield* refuse("not written as a JWS is")
  const { payload, protectedHeader } = yield* Effect.tryPromise({
    try: async () => {
      const { importJWK, jwtVerify } = await jose()
      return jwtVerify(token, await importJWK({ kty: "OKP", crv: "Ed25519", x: options.key.x }, "EdDSA"), {
        algorithms: ["EdDSA"],
        typ: options.typ,
        issuer: options.issuer,
        audience: typeof options.audience === "string" ? options.audience : [...options.audience],
        currentDate: new Date(nowMillis),
        clockTolerance: skewSeconds,
        requiredClaims: ["iat", "exp"]
      })
    },
    catch: (error) => refuse(error instanceof Error ? error.name : "malformed")
  })
  // `typ` is compared once more: `jose` takes it in any case, and as a media type.
  const { alg: _alg, kid, typ, ...others } = protectedHeader
  if (kid !== options.key.kid) return yield* refuse("wrong kid")
  if (typ !== options.typ || Object.keys(others).length > 0) return yield* refuse("unexpected header")
  const { exp = 0, iat = 0 } = payload
  if (exp - iat > maxLifetimeSeconds || iat > nowMillis / 1000 + skewSeconds) return yield* refuse("unreasonable times")
  return yield* Schema.decodeUnknownEffect(options.claims)(payload, { onExcessProperty: "error" }).pipe(
    Effect.mapError(() => refuse("unexpected claims"))
  )
})
