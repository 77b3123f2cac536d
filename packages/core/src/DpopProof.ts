/**
 * Checks DPoP proofs (RFC 9449): that whoever sends a request holds a key, now, for this request, and with this token.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { AccessRepositoryError } from "./AccessRepositoryError.ts"
import * as CompactJws from "./internal/compactJws.ts"
import { type Algorithm, algorithms, ProofSignature, type PublicJwk, type Verify } from "./ProofSignature.ts"
import { ReplayRepository } from "./ReplayRepository.ts"
import * as SecretStore from "./SecretStore.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Lists what can be wrong with a proof, in the order in which it is looked at. */
export const Problem = Schema.Literals([
  "missing",
  "more-than-one",
  "malformed",
  "wrong-typ",
  "unsupported-alg",
  "unexpected-header",
  "invalid-jwk",
  "private-jwk",
  "missing-claim",
  "invalid-jti",
  "wrong-htm",
  "wrong-htu",
  "stale",
  "from-the-future",
  "missing-ath",
  "wrong-ath",
  "wrong-key",
  "bad-signature",
  "replayed"
])
/** @see {@link Problem} */
export type Problem = typeof Problem.Type

/** Reports a proof that proves nothing (`invalid_dpop_proof`). `serverTime` lets a client with a wrong clock mend it. */
export class InvalidProof extends Schema.TaggedError<InvalidProof>()("InvalidProof", {
  problem: Problem,
  /** The server's time, in seconds since the epoch. */
  serverTimeSeconds: Schema.Natural
}) {
  override get message() {
    return `The DPoP proof is not valid: ${
      this.problem.replaceAll("-", " ")
    } (the server's time is ${this.serverTimeSeconds})`
  }
}

/** Reports a proof without the nonce that the server asks for (`use_dpop_nonce`, RFC 9449 section 8). */
export class NonceRequired extends Schema.TaggedError<NonceRequired>()("NonceRequired", {
  /** What the next proof has to carry; sent as the header `DPoP-Nonce`. */
  nonce: Schema.String
}) {
  override get message() {
    return "The DPoP proof must carry the nonce that the header DPoP-Nonce gives"
  }
}

/** Reports that it cannot be told whether a proof was used before. Nobody is let in meanwhile. */
export class ReplayStoreUnavailable extends Schema.TaggedError<ReplayStoreUnavailable>()("ReplayStoreUnavailable", {
  cause: AccessRepositoryError
}) {
  override get message() {
    return "The proof cannot be checked at the moment; try again shortly"
  }
}

/** Reports why a proof is not taken, with a reason to branch on. */
export class DpopProofError extends Schema.TaggedError<DpopProofError>()("DpopProofError", {
  reason: Schema.Union([InvalidProof, NonceRequired, ReplayStoreUnavailable])
}) {
  override get message() {
    return this.reason.message
  }
}

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Lists the settings of {@link layerWith}; each has a default. */
export interface Options {
  /** How old a proof may be. Default 60 seconds. */
  readonly maxAge?: Duration.Input | undefined
  /** How far a client's clock may run ahead. Default 10 seconds. */
  readonly clockSkew?: Duration.Input | undefined
  /**
   * Whether a proof has to carry a nonce of this server, and for how long one is good. Off by default. A nonce bounds how
   * long ago a proof can have been made, whatever the client's clock says.
   */
  readonly nonceLifetime?: Duration.Input | undefined
  /** How many keys are kept ready for use. Default 10,000. */
  readonly keyCacheCapacity?: number | undefined
}

/** Provides the check of proofs. */
export class DpopProof extends Context.Service<DpopProof, {
  /**
   * Checks a proof for one request and spends it, and returns the thumbprint (RFC 7638) of the key that made it. What is
   * spent is spent last, when everything else is right. A proof of a request with a token has to name that token, and of
   * a bound token has to be made with its key.
   */
  readonly verify: (request: {
    /** The value of the `DPoP` header. */
    readonly proof: string | undefined
    readonly method: string
    /** The URL that the request was sent to; query and fragment don't count. */
    readonly url: string
    readonly accessToken?: Redacted.Redacted | undefined
    /** The thumbprint that the token is bound to. */
    readonly proofKeyThumbprint?: string | undefined
  }) => Effect.Effect<{ readonly proofKeyThumbprint: string }, DpopProofError>
  /** Returns the nonce for the next proof, or none where no nonces are asked for. */
  readonly nonce: Effect.Effect<Option.Option<string>>
}>()("@sallyport/core/DpopProof") {}

// -----------------------------------------------------------------------------
// Form
// -----------------------------------------------------------------------------

/** Bounds the length of a proof; one with a P-384 key and long claims has some 700 characters. */
const maxLength = 4_096
/** RFC 9449 section 11.1 leaves the length of a `jti` open; a UUID has 36 characters. */
const maxJtiLength = 256

const privateMembers = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
const coordinate = /^[A-Za-z0-9_-]{43}(?:[A-Za-z0-9_-]{21})?$/

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isAlgorithm = (alg: unknown): alg is Algorithm => algorithms.some((algorithm) => algorithm === alg)

const isCoordinate = (value: unknown, length: number): value is string =>
  typeof value === "string" && value.length === length && coordinate.test(value) &&
  CompactJws.isCanonicalBase64Url(value)

/** Takes from a JWK the members that make the key, where they fit the algorithm. Other members don't matter to it. */
const publicJwk = (algorithm: Algorithm, jwk: Readonly<Record<string, unknown>>): PublicJwk | undefined => {
  const { crv, kty, x, y } = jwk
  switch (algorithm) {
    case "ES256":
      return kty === "EC" && crv === "P-256" && isCoordinate(x, 43) && isCoordinate(y, 43)
        ? { kty, crv, x, y }
        : undefined
    case "ES384":
      return kty === "EC" && crv === "P-384" && isCoordinate(x, 64) && isCoordinate(y, 64)
        ? { kty, crv, x, y }
        : undefined
    case "EdDSA":
    case "Ed25519":
      return kty === "OKP" && crv === "Ed25519" && isCoordinate(x, 43) ? { kty, crv, x } : undefined
  }
}

/** Returns the input of the thumbprint: the required members in the order of their names (RFC 7638 section 3). */
const thumbprintInput = (jwk: PublicJwk): string =>
  jwk.kty === "EC"
    ? `{"crv":"${jwk.crv}","kty":"EC","x":"${jwk.x}","y":"${jwk.y}"}`
    : `{"crv":"${jwk.crv}","kty":"OKP","x":"${jwk.x}"}`

/** Returns what of a URL a proof is compared by (RFC 9449 section 4.3, RFC 3986 section 6.2), or undefined. */
const target = (text: string): string | undefined => {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) return undefined
  if (url.username !== "" || url.password !== "") return undefined
  return `${url.protocol}//${url.host}${url.pathname}`
}

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

/** Names the secret, in the `SecretStore`, that makes nonces recognisable to every process of a deployment. */
export const nonceKeyName = "dpop-nonce-key"

const encoder = new TextEncoder()

interface PreparedKey {
  readonly thumbprint: string
  readonly verify: Verify
}

/** Builds the service; {@link layer} is what most hosts want. */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  DpopProof["Service"],
  SecretStore.SecretStoreError,
  ProofSignature | ReplayRepository | SecretStore.SecretStore | Digest.Digest | Mac.Mac
> {
  const signatures = yield* ProofSignature
  const replays = yield* ReplayRepository
  const digest = yield* Digest.Digest
  const mac = yield* Mac.Mac
  const maxAgeMillis = Duration.toMillis(options.maxAge ?? "60 seconds")
  const skewMillis = Duration.toMillis(options.clockSkew ?? "10 seconds")
  const nonceMillis = options.nonceLifetime === undefined ? undefined : Duration.toMillis(options.nonceLifetime)
  const capacity = options.keyCacheCapacity ?? 10_000

  const keys = new Map<string, PreparedKey>()

  const prepare = Effect.fnUntraced(function*(algorithm: Algorithm, jwk: PublicJwk) {
    const input = thumbprintInput(jwk)
    const cached = keys.get(input)
    if (cached !== undefined) return cached
    const verify = yield* signatures.prepare(algorithm, jwk)
    if (verify === undefined) return undefined
    const thumbprint = Base64Url.encode(yield* digest.digest(Digest.sha256, encoder.encode(input)))
    if (keys.size >= capacity) {
      for (const oldest of keys.keys()) {
        keys.delete(oldest)
        break
      }
    }
    const prepared: PreparedKey = { thumbprint, verify }
    keys.set(input, prepared)
    return prepared
  })

  // A nonce is the start of its period and a tag over it, so that nothing has to be remembered to know it again.
  const nonceKey = nonceMillis === undefined ? undefined : yield* (yield* SecretStore.SecretStore)
    .getOrCreateRandom(nonceKeyName, 32)
    .pipe(Effect.flatMap((bytes) => Effect.orDie(Mac.key(Mac.hmacSha256, Redacted.value(bytes)))))
  const nonceOf = (period: number): Effect.Effect<string> =>
    nonceKey === undefined ? Effect.succeed("") : Effect.map(
      Effect.orDie(mac.sign(nonceKey, encoder.encode(`dpop-nonce:${period}`))),
      (tag) => `${period.toString(36)}.${Base64Url.encode(tag.subarray(0, 16))}`
    )
  const isOurNonce = Effect.fnUntraced(function*(nonce: string, period: number) {
    for (const candidate of [period, period - 1]) {
      const ours = encoder.encode(yield* nonceOf(candidate))
      const theirs = encoder.encode(nonce)
      if (ours.length === theirs.length && Mac.timingSafeEqual(ours, theirs)) return true
    }
    return false
  })

  const verify: DpopProof["Service"]["verify"] = Effect.fnUntraced(function*(request) {
    const nowMillis = yield* Clock.currentTimeMillis
    const invalid = (problem: Problem) =>
      new DpopProofError({
        reason: new InvalidProof({ problem, serverTimeSeconds: Math.floor(nowMillis / 1000) })
      })

    if (request.proof === undefined || request.proof === "") return yield* invalid("missing")
    // Header fields that are sent twice arrive joined by a comma, which no JWT holds.
    if (request.proof.includes(",")) return yield* invalid("more-than-one")
    const parsed = CompactJws.parse(request.proof, maxLength)
    if (Option.isNone(parsed)) return yield* invalid("malformed")
    const { header, payload, signature, signingInput } = parsed.value
    if (!isRecord(header) || !isRecord(payload)) return yield* invalid("malformed")

    if (header.typ !== "dpop+jwt") return yield* invalid("wrong-typ")
    const { alg } = header
    if (!isAlgorithm(alg)) return yield* invalid("unsupported-alg")
    // `crit` names extensions that must be understood, and none is; keys come from `jwk` alone, never from an address.
    if (Object.keys(header).some((name) => name !== "typ" && name !== "alg" && name !== "jwk" && name !== "kid")) {
      return yield* invalid("unexpected-header")
    }
    if (!isRecord(header.jwk)) return yield* invalid("invalid-jwk")
    const { jwk } = header
    if (privateMembers.some((member) => member in jwk)) return yield* invalid("private-jwk")
    const publicKey = publicJwk(alg, jwk)
    if (publicKey === undefined) return yield* invalid("invalid-jwk")

    const { ath, htm, htu, iat, jti, nonce } = payload
    if (jti === undefined || htm === undefined || htu === undefined || iat === undefined) {
      return yield* invalid("missing-claim")
    }
    if (typeof jti !== "string" || jti === "" || jti.length > maxJtiLength) return yield* invalid("invalid-jti")
    if (htm !== request.method) return yield* invalid("wrong-htm")
    const wanted = target(request.url)
    if (typeof htu !== "string" || wanted === undefined || target(htu) !== wanted) return yield* invalid("wrong-htu")
    if (typeof iat !== "number" || !Number.isFinite(iat)) return yield* invalid("missing-claim")
    if (iat * 1000 < nowMillis - maxAgeMillis) return yield* invalid("stale")
    if (iat * 1000 > nowMillis + skewMillis) return yield* invalid("from-the-future")

    if (request.accessToken !== undefined) {
      if (typeof ath !== "string") return yield* invalid("missing-ath")
      const hash = yield* digest.digest(Digest.sha256, encoder.encode(Redacted.value(request.accessToken)))
      if (ath !== Base64Url.encode(hash)) return yield* invalid("wrong-ath")
    }
    const key = yield* prepare(alg, publicKey)
    if (key === undefined) return yield* invalid("invalid-jwk")
    if (request.proofKeyThumbprint !== undefined && request.proofKeyThumbprint !== key.thumbprint) {
      return yield* invalid("wrong-key")
    }
    if (!(yield* key.verify(signingInput, signature))) return yield* invalid("bad-signature")

    if (nonceMillis !== undefined) {
      const period = Math.floor(nowMillis / nonceMillis)
      if (typeof nonce !== "string" || !(yield* isOurNonce(nonce, period))) {
        return yield* new DpopProofError({ reason: new NonceRequired({ nonce: yield* nonceOf(period) }) })
      }
    }

    // The digest bounds what is stored, whatever a client chose; the thumbprint keeps the clients' values apart.
    const spent = yield* digest.digestHex(Digest.sha256, encoder.encode(`${key.thumbprint}\n${jti}`))
    const fresh = yield* replays.spend({
      kind: "dpop-jti",
      digest: spent,
      expiresAtMillis: Math.floor(iat * 1000) + maxAgeMillis + 1
    }, nowMillis).pipe(
      Effect.mapError((cause) => new DpopProofError({ reason: new ReplayStoreUnavailable({ cause }) }))
    )
    if (!fresh) return yield* invalid("replayed")
    return { proofKeyThumbprint: key.thumbprint }
  })

  return DpopProof.of({
    verify,
    nonce: nonceMillis === undefined
      ? Effect.succeedNone
      : Effect.flatMap(
        Clock.currentTimeMillis,
        (nowMillis) => Effect.asSome(nonceOf(Math.floor(nowMillis / nonceMillis)))
      )
  })
})

/** Provides the check with given settings. Fails when the key of the nonces cannot be read or made. */
export const layerWith = (options: Options): Layer.Layer<
  DpopProof,
  SecretStore.SecretStoreError,
  ProofSignature | ReplayRepository | SecretStore.SecretStore | Digest.Digest | Mac.Mac
> => Layer.effect(DpopProof, make(options))

/** Provides the check with its defaults: proofs of the last 60 seconds, no nonces. */
export const layer: Layer.Layer<
  DpopProof,
  SecretStore.SecretStoreError,
  ProofSignature | ReplayRepository | SecretStore.SecretStore | Digest.Digest | Mac.Mac
> = layerWith({})
