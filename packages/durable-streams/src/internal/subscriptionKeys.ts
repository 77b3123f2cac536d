/**
 * The keys of subscriptions: one signs webhooks, and one the tokens of wakes. All processes share them.
 */
import { SecretStore } from "@sallyport/core/secrets/SecretStore"
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as Signature from "effect/crypto/Signature"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { SubscriptionRow } from "../StreamSubscriptionRepository.ts"
import { fail, TokenInvalid } from "./subscriptionErrors.ts"

/**
 * Describes the key that signs webhooks, with the id that a signature names it by.
 *
 * @category models
 * @since 0.1.0
 */
export interface SigningKey {
  readonly kid: string
  /** The public key as a JWK (RFC 8037). */
  readonly jwk: {
    readonly kty: "OKP"
    readonly crv: "Ed25519"
    readonly kid: string
    readonly use: "sig"
    readonly alg: "EdDSA"
    readonly x: string
  }
}

const secretName = "durable-streams.subscriptions"
const encoder = new TextEncoder()
const WakeToken = Schema.fromJsonString(Schema.Tuple([Schema.String, Schema.String, Schema.Natural, Schema.String]))
const decodeToken = Schema.decodeUnknownOption(WakeToken)

/** Signs with the keys, and knows what they have signed. */
export type SubscriptionKeys = Effect.Success<typeof make>

/** Loads the keys, which are made if there are none yet. */
export const make = Effect.gen(function*() {
  const signature = yield* Signature.Signature
  const mac = yield* Mac.Mac
  const digest = yield* Digest.Digest
  const secrets = yield* SecretStore

  // One secret, two keys: what signs for others never is what we recognise our own tokens by.
  const secret = Redacted.value(yield* secrets.getOrCreateRandom(secretName, 64))
  const tokenKey = yield* Mac.key(Mac.hmacSha256, secret.slice(0, 32))
  const privateKey = yield* Signature.privateKey(Signature.ed25519, secret.slice(32, 64))
  const x = Base64Url.encode(yield* Signature.toBytes(yield* signature.publicKeyOf(privateKey)))
  // RFC 7638: the members that are required, in the order of their names.
  const thumbprint = yield* digest.digest(
    Digest.sha256,
    encoder.encode(JSON.stringify({ crv: "Ed25519", kty: "OKP", x }))
  )
  const kid = `ds_${Base64Url.encode(thumbprint)}`
  const signingKey: SigningKey = { kid, jwk: { kty: "OKP", crv: "Ed25519", kid, use: "sig", alg: "EdDSA", x } }

  /** Makes the token that stands for the right to a wake. */
  const tokenOf = Effect.fnUntraced(function*(row: SubscriptionRow, wakeId: string) {
    const body = Base64Url.encode(JSON.stringify([row.ownerKey, row.subscriptionId, row.generation, wakeId]))
    const tag = yield* Effect.orDie(mac.sign(tokenKey, encoder.encode(body)))
    return Redacted.make(`${body}.${Base64Url.encode(tag)}`, { label: "wake-token" })
  })

  /** Returns the wake that a token stands for. */
  const verifyToken = Effect.fnUntraced(function*(token: Redacted.Redacted) {
    const [body = "", tag = "", ...rest] = Redacted.value(token).split(".")
    const bytes = Base64Url.decode(tag)
    const text = Base64Url.decodeString(body)
    if (rest.length > 0 || Result.isFailure(bytes) || Result.isFailure(text)) return yield* fail(new TokenInvalid())
    if (!(yield* Effect.orDie(mac.verify(tokenKey, bytes.success, encoder.encode(body))))) {
      return yield* fail(new TokenInvalid())
    }
    const claims = decodeToken(text.success)
    if (Option.isNone(claims)) return yield* fail(new TokenInvalid())
    const [owner, subscriptionId, generation, wakeId] = claims.value
    return { ownerKey: owner, subscriptionId, generation, wakeId }
  })

  /** Returns the header that signs what a webhook is told, and when. */
  const webhookSignature = (timestamp: number, body: string) =>
    Effect.map(
      signature.sign(privateKey, encoder.encode(`${timestamp}.${body}`)),
      (signed) => `t=${timestamp},kid=${kid},ed25519=${Base64Url.encode(signed)}`
    )

  return { signingKey, tokenOf, verifyToken, webhookSignature }
})
