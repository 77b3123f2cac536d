/**
 * Checks DPoP proofs (RFC 9449): that the sender of a request holds a key, now, for this request, and with this token.
 */
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import type * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { RepositoryError } from "../RepositoryError.ts"
import * as CompactJws from "./internal/compactJws.ts"
import { makeNonces } from "./internal/dpopNonces.ts"
import { type InvalidDpopProofOptions, type Options, type Settings, settings } from "./internal/dpopOptions.ts"
import { makeRecentlyUsed } from "./internal/recentlyUsed.ts"
import { type Algorithm, algorithms, ProofSignature, type PublicJwk, type Verify } from "./ProofSignature.ts"
import { ReplayRepository } from "./ReplayRepository.ts"
import type * as SecretStore from "../secrets/SecretStore.ts"
import { Sha256Hex } from "./Sha256.ts"

export { InvalidDpopProofOptions, type Options } from "./internal/dpopOptions.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/**
 * Lists what can be wrong with a proof, in the order in which it is looked at.
 *
 * @category models
 * @since 0.1.0
 */
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
  "invalid-time",
  "stale",
  "from-the-future",
  "missing-ath",
  "wrong-ath",
  "wrong-key",
  "bad-signature",
  "replayed"
])
/**
 * @see {@link Problem}
 *
 * @category models
 * @since 0.1.0
 */
export type Problem = typeof Problem.Type

/**
 * Reports a proof that proves nothing (`invalid_dpop_proof`). `serverTimeSeconds` lets a client with a wrong clock mend it.
 *
 * @category errors
 * @since 0.1.0
 */
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

/**
 * Reports a proof without the nonce that the server asks for (`use_dpop_nonce`, RFC 9449 section 8).
 *
 * @category errors
 * @since 0.1.0
 */
export class NonceRequired extends Schema.TaggedError<NonceRequired>()("NonceRequired", {
  /** What the next proof has to carry; sent as the header `DPoP-Nonce`. */
  nonce: Schema.String
}) {
  override get message() {
    return "The DPoP proof must carry the nonce that the header DPoP-Nonce gives"
  }
}

/**
 * Reports that it cannot be told whether a proof was used before. No caller is let in meanwhile.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReplayStoreUnavailable extends Schema.TaggedError<ReplayStoreUnavailable>()("ReplayStoreUnavailable", {
  cause: RepositoryError
}) {
  override get message() {
    return "The proof cannot be checked at the moment; try again shortly"
  }
}

/**
 * Reports why a proof is not taken, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
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

/**
 * Describes the request that a proof came with.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProofRequest {
  /** The value of the `DPoP` header. */
  readonly proof: string | undefined
  readonly method: string
  /** The URL that the request was sent to, as the client knows it; query and fragment don't count. */
  readonly url: string
  /** The token that came with the request; the proof has to name it. */
  readonly accessToken?: Redacted.Redacted | undefined
  /** The thumbprint that the token is bound to; the proof has to be made with that key. */
  readonly proofKeyThumbprint?: string | undefined
}

/**
 * Describes a proof that is right, and has not been spent yet.
 *
 * @category models
 * @since 0.1.0
 */
export interface CheckedProof {
  /** The thumbprint (RFC 7638) of the key that made it. */
  readonly proofKeyThumbprint: string
  /** Spends the proof. Fails if it was spent before, by this or another process of the same store. */
  readonly spend: Effect.Effect<void, DpopProofError>
}

/**
 * Provides the check of proofs.
 *
 * @category services
 * @since 0.1.0
 */
export class DpopProof extends Context.Service<DpopProof, {
  /**
   * Checks a proof for one request. The caller spends it last, when everything else is right: what any client can make the
   * store remember without a valid token would fill it. A caller that doesn't spend a proof lets it be used again.
   */
  readonly check: (request: ProofRequest) => Effect.Effect<CheckedProof, DpopProofError>
  /** Returns the nonce for the next proof, or none if no nonces are asked for. */
  readonly nonce: Effect.Effect<Option.Option<string>>
}>()("@sallyport/core/access/DpopProof") {}

// -----------------------------------------------------------------------------
// Form
// -----------------------------------------------------------------------------

/** Bounds the length of a proof; one with a P-384 key and long claims has some 700 characters. */
const maxLength = 4_096
/** Bounds the headers that are kept with their keys. With a P-384 key and a `kid` one has some 300 characters. */
const maxKeptLength = 1_024
/** RFC 9449 section 11.1 leaves the length of a `jti` open; a UUID has 36 characters. */
const maxJtiLength = 256

const privateMembers = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]

/**
 * Lists the header parameters (RFC 7515 section 4.1) that would have to be understood, or that say where another key is:
 * the key is that of `jwk` alone. Any other is ignored, as section 4 asks for.
 */
const refusedHeaders = ["crit", "b64", "jku", "x5u", "x5c", "x5t", "x5t#S256"]

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isAlgorithm = (alg: unknown): alg is Algorithm => algorithms.some((algorithm) => algorithm === alg)

const isCoordinate = (value: unknown, length: number): value is string =>
  typeof value === "string" && value.length === length && CompactJws.isCanonicalBase64Url(value)

/** Tells whether a JWK says of itself that it is for something else (RFC 7517 sections 4.2 to 4.4). */
const isForOtherUse = (algorithm: Algorithm, { alg, crv, key_ops, use }: Readonly<Record<string, unknown>>): boolean =>
  (alg !== undefined && alg !== algorithm && !(crv === "Ed25519" && (alg === "EdDSA" || alg === "Ed25519"))) ||
  (use !== undefined && use !== "sig") ||
  (key_ops !== undefined && !(Array.isArray(key_ops) && key_ops.includes("verify")))

/** Takes from a JWK the members that make the key, if they fit the algorithm. Other members don't matter to it. */
const publicJwk = (algorithm: Algorithm, jwk: Readonly<Record<string, unknown>>): PublicJwk | undefined => {
  const { crv, kty, x, y } = jwk
  if (isForOtherUse(algorithm, jwk)) return undefined
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

/** The length of a signature, in bytes: that of `r || s` for ECDSA (RFC 7518 section 3.4). */
const signatureLength = (jwk: PublicJwk): number => jwk.crv === "P-384" ? 96 : 64

/** What a URI is written with (RFC 3986); a parser of URLs would let more pass, such as `\\` for `/`. */
const httpUri = /^https?:\/\/[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]+$/i

/** Writes percent-encodings in one way: none of what needs none, and the others in upper case (RFC 3986 section 6.2.2). */
const normalizePath = (path: string): string =>
  path.includes("%")
    ? path.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => {
      const character = String.fromCharCode(Number.parseInt(hex, 16))
      return /[A-Za-z0-9\-._~]/.test(character) ? character : `%${hex.toUpperCase()}`
    })
    : path

/** Returns what of a URL a proof is compared by (RFC 9449 section 4.3, RFC 3986 section 6.2), or undefined. */
const target = (text: string): string | undefined => {
  if (!httpUri.test(text)) return undefined
  const url = URL.parse(text)
  if (url === null || url.username !== "" || url.password !== "") return undefined
  return `${url.protocol}//${url.host}${normalizePath(url.pathname)}`
}

/** What is a target as it stands: no query, no fragment, no user's name, nothing that can be written in another way. */
const plainTarget = /^https?:\/\/[a-z0-9\-.]+(?::[0-9]+)?\/[A-Za-z0-9\-_~/]*$/

/** Tells whether a proof's `htu` is the URL of the request. */
const isTarget = (htu: unknown, url: string): boolean => {
  if (typeof htu !== "string") return false
  if (htu === url && plainTarget.test(url)) return true
  const wanted = target(url)
  return wanted !== undefined && (htu === wanted || target(htu) === wanted)
}

// -----------------------------------------------------------------------------
// Layers
// -----------------------------------------------------------------------------

const encoder = new TextEncoder()

const isTime = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value)

const isTimeOrAbsent = (value: unknown): value is number | undefined => value === undefined || isTime(value)

const invalidAt = (nowMillis: number, problem: Problem): DpopProofError =>
  new DpopProofError({ reason: new InvalidProof({ problem, serverTimeSeconds: Math.floor(nowMillis / 1000) }) })

interface PreparedKey {
  readonly thumbprint: string
  readonly verify: Verify
  /** The length of its signatures, in bytes. */
  readonly signatureLength: number
}

interface UnknownKey {
  readonly algorithm: Algorithm
  readonly publicKey: PublicJwk
}

const isPrepared = (key: PreparedKey | UnknownKey): key is PreparedKey => "verify" in key

/** Reads the header of a proof: what it is signed with, or what is wrong with it. */
const readHeader = (segment: string): UnknownKey | Problem => {
  const header = Option.getOrUndefined(CompactJws.readJson(segment))
  if (!isRecord(header)) return "malformed"
  const { alg, jwk, typ } = header
  if (typ !== "dpop+jwt") return "wrong-typ"
  if (!isAlgorithm(alg)) return "unsupported-alg"
  if (refusedHeaders.some((name) => name in header)) return "unexpected-header"
  if (!isRecord(jwk)) return "invalid-jwk"
  if (privateMembers.some((member) => member in jwk)) return "private-jwk"
  const publicKey = publicJwk(alg, jwk)
  return publicKey === undefined ? "invalid-jwk" : { algorithm: alg, publicKey }
}

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements = ReplayRepository | SecretStore.SecretStore | Digest.Digest | Mac.Mac

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  DpopProof["Service"],
  SecretStore.SecretStoreError,
  Requirements
> {
  const signatures = yield* ProofSignature
  const replays = yield* ReplayRepository
  const digest = yield* Digest.Digest
  const { maxAgeMillis, nonceMillis, skewMillis } = settings
  const nonces = nonceMillis === undefined ? undefined : yield* makeNonces(nonceMillis)

  // By the header as it was sent, which a client writes in the same way each time, so that it is read and checked once.
  const keys = makeRecentlyUsed<PreparedKey>(settings.keyCacheCapacity)
  const prepare = ({ algorithm, publicKey }: UnknownKey, thumbprint: string) =>
    Effect.map(
      signatures.prepare(algorithm, publicKey),
      Option.map((verify): PreparedKey => ({ thumbprint, verify, signatureLength: signatureLength(publicKey) }))
    )

  const hash = (text: string): Effect.Effect<string> =>
    Effect.map(digest.digest(Digest.sha256, encoder.encode(text)), Base64Url.encode)
  const sha256 = yield* Sha256Hex
  const hexHash = (text: string): Effect.Effect<string> =>
    sha256 === undefined
      ? digest.digestHex(Digest.sha256, encoder.encode(text))
      : Effect.succeed(sha256(text))

  // What a client writes of its token is the same in each proof: here is the digest that it was found to stand for.
  const tokenHashes = makeRecentlyUsed<string>(settings.keyCacheCapacity)

  const spend = Effect.fnUntraced(
    function*(kind: string, thumbprint: string, jti: string, iatMillis: number, nowMillis: number) {
      // The digest bounds what is stored, whatever a client chose; the thumbprint keeps the clients' values apart.
      const spent = yield* hexHash(`${thumbprint}\n${jti}`)
      // Another process, whose clock is behind, takes the proof for that much longer.
      const expiresAtMillis = Math.floor(iatMillis) + maxAgeMillis + skewMillis + 1
      const fresh = yield* Effect.mapError(
        replays.spend({ kind, digest: spent, expiresAtMillis }, nowMillis),
        (cause) => new DpopProofError({ reason: new ReplayStoreUnavailable({ cause }) })
      )
      if (!fresh) return yield* invalidAt(nowMillis, "replayed")
    }
  )

  const check: DpopProof["Service"]["check"] = Effect.fnUntraced(function*(request) {
    const nowMillis = yield* Clock.currentTimeMillis
    const invalid = (problem: Problem) => invalidAt(nowMillis, problem)

    if (request.proof === undefined || request.proof === "") return yield* invalid("missing")
    // Header fields that are sent twice arrive joined by a comma, which no JWT holds.
    if (request.proof.includes(",")) return yield* invalid("more-than-one")
    const segments = CompactJws.split(request.proof, maxLength)
    if (segments === undefined) return yield* invalid("malformed")
    const [header, body, signatureText] = segments
    const found = keys.get(header) ?? readHeader(header)
    if (typeof found === "string") return yield* invalid(found)
    const payload = Option.getOrUndefined(CompactJws.readJson(body))
    if (!isRecord(payload)) return yield* invalid("malformed")

    const { ath, exp, htm, htu, iat, jti, nbf, nonce } = payload
    if (jti === undefined || htm === undefined || htu === undefined || iat === undefined) {
      return yield* invalid("missing-claim")
    }
    if (typeof jti !== "string" || jti === "" || jti.length > maxJtiLength) return yield* invalid("invalid-jti")
    if (htm !== request.method) return yield* invalid("wrong-htm")
    if (!isTarget(htu, request.url)) return yield* invalid("wrong-htu")
    if (!isTime(iat) || !isTimeOrAbsent(exp) || !isTimeOrAbsent(nbf)) return yield* invalid("invalid-time")
    const iatMillis = iat * 1000
    if (iatMillis < nowMillis - maxAgeMillis) return yield* invalid("stale")
    if (iatMillis > nowMillis + skewMillis) return yield* invalid("from-the-future")
    // A proof needs neither, but any JWT that has them means them (RFC 7519 section 4.1).
    if (exp !== undefined && exp * 1000 <= nowMillis - skewMillis) return yield* invalid("stale")
    if (nbf !== undefined && nbf * 1000 > nowMillis + skewMillis) return yield* invalid("from-the-future")

    if (request.accessToken !== undefined) {
      if (typeof ath !== "string") return yield* invalid("missing-ath")
      const token = Redacted.value(request.accessToken)
      const hex = yield* hexHash(token)
      if (tokenHashes.get(ath) !== hex) {
        if (ath !== (yield* hash(token))) return yield* invalid("wrong-ath")
        tokenHashes.set(ath, hex)
      }
    }

    const thumbprint = isPrepared(found) ? found.thumbprint : yield* hash(thumbprintInput(found.publicKey))
    if (request.proofKeyThumbprint !== undefined && request.proofKeyThumbprint !== thumbprint) {
      return yield* invalid("wrong-key")
    }
    const key = isPrepared(found) ? found : Option.getOrUndefined(yield* prepare(found, thumbprint))
    if (key === undefined) return yield* invalid("invalid-jwk")
    const signature = CompactJws.readBytes(signatureText)
    const signed = encoder.encode(request.proof.slice(0, header.length + 1 + body.length))
    if (signature.length !== key.signatureLength || !(yield* key.verify(signed, signature))) {
      return yield* invalid("bad-signature")
    }
    // Only a key that has signed something takes the place of another.
    if (key !== found && header.length <= maxKeptLength) keys.set(header, key)

    if (nonces !== undefined && !(typeof nonce === "string" && (yield* nonces.isGood(nonce, nowMillis)))) {
      return yield* new DpopProofError({ reason: new NonceRequired({ nonce: yield* nonces.current(nowMillis) }) })
    }

    // Apart, so that proofs that any client can make, for a request without a token, don't fill up the room of the others.
    const kind = request.accessToken === undefined ? "dpop-jti-without-token" : "dpop-jti"
    return { proofKeyThumbprint: thumbprint, spend: spend(kind, thumbprint, jti, iatMillis, nowMillis) }
  })

  return DpopProof.of({
    check,
    nonce: nonces === undefined
      ? Effect.succeedNone
      : Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => Effect.asSome(nonces.current(nowMillis)))
  })
})

/**
 * Creates the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  DpopProof["Service"],
  InvalidDpopProofOptions | SecretStore.SecretStoreError,
  Requirements
> => Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the check with given options. Fails if they cannot work, or if the key of the nonces cannot be read or made.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  DpopProof,
  InvalidDpopProofOptions | SecretStore.SecretStoreError,
  Requirements
> => Layer.effect(DpopProof, make(options))

/**
 * Provides the check with the options of the configuration, in variables that begin with `SALLYPORT_DPOP_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  DpopProof,
  Config.ConfigError | InvalidDpopProofOptions | SecretStore.SecretStoreError,
  Requirements
> = Layer.effect(DpopProof, Effect.flatMap(settings.fromConfig, build))

/**
 * Provides the check with its defaults: proofs of the last 60 seconds, no nonces.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DpopProof, SecretStore.SecretStoreError, Requirements> = Layer.effect(
  DpopProof,
  Effect.flatMap(settings.defaults, build)
)
