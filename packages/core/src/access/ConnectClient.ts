/**
 * A client that asks to connect, through a relay or as a device of its own (RFC 8628): who it says it is, what was decided
 * about it, and the code by which its owner knows it again.
 *
 * A client is its proof key. The relay vouches for the account, and the environment's owner decides about the pair.
 */
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { AccessScope } from "./AccessScope.ts"
import * as Crockford from "./internal/crockford.ts"
import * as Text from "../Text.ts"

/**
 * Decodes the thumbprint of a proof key: a SHA-256 JWK thumbprint (RFC 7638) in base64url, 43 characters.
 *
 * @category models
 * @since 0.1.0
 */
export const Thumbprint = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{43}$/))

/**
 * Says who may connect: in `account`, every client of an account that the relay vouches for, unless the owner turned it
 * away; in `client-approval`, only clients that the owner approved.
 *
 * @category models
 * @since 0.1.0
 */
export const SecurityMode = Schema.Literals(["account", "client-approval"])
/**
 * @see {@link SecurityMode}
 *
 * @category models
 * @since 0.1.0
 */
export type SecurityMode = typeof SecurityMode.Type

/**
 * Names where a client stands. `observed` was let in by its account alone; `pending` waits for the owner.
 *
 * @category models
 * @since 0.1.0
 */
export const ClientStatus = Schema.Literals(["observed", "pending", "approved", "rejected", "revoked", "blocked"])
/**
 * @see {@link ClientStatus}
 *
 * @category models
 * @since 0.1.0
 */
export type ClientStatus = typeof ClientStatus.Type

/**
 * Names what a client that waited is told. `pending`: nothing was decided in time; `expired`: its request is no more.
 *
 * @category models
 * @since 0.1.0
 */
export const DecisionStatus = Schema.Literals(["pending", "approved", "rejected", "revoked", "blocked", "expired"])
/**
 * @see {@link DecisionStatus}
 *
 * @category models
 * @since 0.1.0
 */
export type DecisionStatus = typeof DecisionStatus.Type

/**
 * Names the kinds of devices that a client can say it is.
 *
 * @category models
 * @since 0.1.0
 */
export const DeviceType = Schema.Literals(["desktop", "phone", "tablet", "browser", "terminal", "unknown"])
/**
 * @see {@link DeviceType}
 *
 * @category models
 * @since 0.1.0
 */
export type DeviceType = typeof DeviceType.Type

/**
 * Describes a name that a client gives itself, a line of up to 128 characters.
 *
 * @category models
 * @since 0.1.0
 */
export const ClientLabel = Text.line()

/**
 * Names an account as the relay does, in a line of up to 255 characters and 512 bytes.
 *
 * @category models
 * @since 0.1.0
 */
export const Account = Text.line(255)

/**
 * Describes a client to its owner, in lists and in events.
 *
 * @category models
 * @since 0.1.0
 */
export class ConnectClient extends Schema.Class<ConnectClient>("@sallyport/core/access/ConnectClient")({
  proofKeyThumbprint: Thumbprint,
  account: Account,
  /** What the client called itself when it asked; pinned from then on. */
  label: Schema.NullOr(ClientLabel),
  deviceType: DeviceType,
  status: ClientStatus,
  /** What a device asks for, which its owner may cut; absent for a client of a relay. */
  requestedScopes: Schema.optionalKey(Schema.Array(AccessScope)),
  /** What its owner gave it of that; absent unless it is an approved device. */
  grantedScopes: Schema.optionalKey(Schema.Array(AccessScope)),
  /** What both screens show while the client waits: {@link verificationCode}, or the user code of a device. */
  verificationCode: Schema.String,
  firstSeenAt: Schema.DateTimeUtcFromMillis,
  /** When it asked; again each time it starts over. */
  requestedAt: Schema.DateTimeUtcFromMillis,
  /** Until when a pending request can be decided; null for any other status. */
  pendingUntil: Schema.NullOr(Schema.DateTimeUtcFromMillis),
  /** When the present decision was made, by whom and why; null while there is none. */
  decidedAt: Schema.NullOr(Schema.DateTimeUtcFromMillis),
  decidedBy: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  /** When it was last let in; null if it was not since it asked. */
  lastSeenAt: Schema.NullOr(Schema.DateTimeUtcFromMillis)
}) {}

const encoder = new TextEncoder()

/**
 * Returns the code that the client's screen and the owner's show, `XXXX-XXXX` in Crockford's Base32: 40 bits of the
 * SHA-256 of the thumbprint and the time of the request. The client computes it from its own key, so that who asks in its
 * place, with another key, shows another code.
 *
 * @category converting
 * @since 0.1.0
 */
export const verificationCode = Effect.fnUntraced(function*(request: {
  readonly proofKeyThumbprint: string
  readonly requestedAtMillis: number
}): Effect.fn.Return<string, never, Digest.Digest> {
  const digest = yield* Digest.Digest
  const bytes = yield* digest.digest(
    Digest.sha256,
    encoder.encode(`sallyport-connect-code\n${request.proofKeyThumbprint}\n${request.requestedAtMillis}`)
  )
  const symbols = Crockford.format(Crockford.valuesOf(bytes.subarray(0, 8)))
  return `${symbols.slice(0, 4)}-${symbols.slice(4)}`
})
