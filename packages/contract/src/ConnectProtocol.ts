/**
 * Describes the messages between a relay, the environments that are linked to it, and their clients.
 *
 * A request and its answer are Ed25519 JWTs (RFC 7519, RFC 8037), each with its own `typ`. An answer is a body and its
 * proof: every field of the body is also a claim of the proof, and the reader compares them.
 */
import { Account, ClientLabel, DecisionStatus, DeviceType, Thumbprint } from "@sallyport/core/access/ConnectClient"
import * as Text from "@sallyport/core/Text"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { RequestErrors, requires, ShortRequests } from "./Authentication.ts"
import { InvalidRequest, NotFound, Unauthorized, Unavailable } from "./WireError.ts"

/**
 * Lists the answers of an environment about a client, in the `status` of the answer.
 *
 * @category models
 * @since 0.1.0
 */
export const RelayProofStatus = Schema.Literals(["credential", "pending_approval", "refused", "decision"])
/**
 * @see {@link RelayProofStatus}
 *
 * @category models
 * @since 0.1.0
 */
export type RelayProofStatus = typeof RelayProofStatus.Type

/**
 * Names the kinds of JWTs, so that one kind is never accepted as another.
 *
 * @category constants
 * @since 0.1.0
 */
export const typ = {
  mintRequest: "sallyport-mint-request+jwt",
  mintAnswer: "sallyport-mint-answer+jwt",
  waitRequest: "sallyport-wait-request+jwt",
  waitAnswer: "sallyport-wait-answer+jwt",
  healthRequest: "sallyport-health-request+jwt",
  healthAnswer: "sallyport-health-answer+jwt",
  relayKeyRequest: "sallyport-relay-key-request+jwt",
  relayKeyAnswer: "sallyport-relay-key-answer+jwt",
  link: "sallyport-link+jwt",
  unlink: "sallyport-unlink+jwt",
  rotateKey: "sallyport-rotate-key+jwt",
  keyPossession: "sallyport-key-possession+jwt"
} as const

/**
 * Limits the lifetime of a JWT of the protocol, in seconds.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxLifetimeSeconds = 300

/**
 * Describes an identifier that one side chose: 1 to 128 characters of base64url.
 *
 * @category models
 * @since 0.1.0
 */
export const Identifier = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{1,128}$/))
/** A value that is used once: at least 128 bits in base64url. */
const Once = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{22,128}$/))
/** A whole number of seconds or milliseconds since the epoch. */
const Time = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))

/**
 * Describes a public key of a relay or an environment (RFC 8037), named by its thumbprint.
 *
 * @category models
 * @since 0.1.0
 */
export const PublicKey = Schema.Struct({
  kty: Schema.Literal("OKP"),
  crv: Schema.Literal("Ed25519"),
  x: Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{43}$/)),
  kid: Thumbprint
})
/**
 * @see {@link PublicKey}
 *
 * @category models
 * @since 0.1.0
 */
export type PublicKey = typeof PublicKey.Type

const envelope = { iss: Identifier, aud: Identifier, iat: Time, exp: Time }
const request = { ...envelope, jti: Once, nonce: Once }
const clientRequest = { ...request, sub: Account, cnf: Schema.Struct({ jkt: Thumbprint }) }

/**
 * Describes the claims with which a relay asks for a credential for a client of an account.
 *
 * @category models
 * @since 0.1.0
 */
export const MintRequest = Schema.Struct({
  ...clientRequest,
  label: Schema.NullOr(ClientLabel),
  deviceType: DeviceType
})

/**
 * Describes the claims with which a relay waits for the decision about a request. Times of requests are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export const WaitRequest = Schema.Struct({
  ...clientRequest,
  requestedAt: Time,
  waitSeconds: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 }))
})

/**
 * Describes the claims with which a relay asks whether an environment answers, and is the one that was linked.
 *
 * @category models
 * @since 0.1.0
 */
export const HealthRequest = Schema.Struct(request)

/**
 * Describes the claims with which a relay announces another key to an environment, signed with a key that the
 * environment knows.
 *
 * @category models
 * @since 0.1.0
 */
export const RelayKeyRequest = Schema.Struct({ ...request, key: PublicKey })

/**
 * Describes the claims with which an environment proves possession of its key when it is linked. `aud` is the origin at which
 * it reaches the relay, and `ath` the digest of the token that it presents there, as in a DPoP proof: the proof is good at no
 * other relay, and for no other account.
 *
 * @category models
 * @since 0.1.0
 */
export const LinkProof = Schema.Struct({ ...envelope, aud: Schema.String, url: Schema.String, ath: Thumbprint })

/**
 * Describes the claims with which an environment ends its link.
 *
 * @category models
 * @since 0.1.0
 */
export const UnlinkProof = Schema.Struct({ ...envelope, jti: Once })

/**
 * Describes the claims with which an environment announces its next key to its relay, signed with a key that the relay
 * knows.
 *
 * @category models
 * @since 0.1.0
 */
export const RotateKeyProof = Schema.Struct({ ...envelope, key: PublicKey })

/**
 * Describes the claims with which an environment proves that it holds the key that a {@link RotateKeyProof} names.
 *
 * @category models
 * @since 0.1.0
 */
export const KeyPossessionProof = Schema.Struct(envelope)

const reply = { nonce: Once, requestId: Once }
const clientReply = { ...reply, account: Account, clientProofKeyThumbprint: Thumbprint }

/** The fields of each answer to a {@link MintRequest}, which are claims and body alike. */
const credential = {
  ...clientReply,
  status: Schema.Literal("credential"),
  /** SHA-256 of the credential, in lowercase hex. */
  credentialDigest: Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)),
  credentialExpiresAt: Time
}
const pendingApproval = {
  ...clientReply,
  status: Schema.Literal("pending_approval"),
  approvalStatus: Schema.Literal("pending"),
  requestedAt: Time,
  requestExpiresAt: Time
}
const refused = {
  ...clientReply,
  status: Schema.Literal("refused"),
  approvalStatus: Schema.Literals(["rejected", "revoked", "blocked", "too_many"]),
  askAgainAt: Schema.NullOr(Time)
}
const decision = {
  ...clientReply,
  status: Schema.Literal("decision"),
  approvalStatus: DecisionStatus,
  requestedAt: Time
}
const health = { ...reply, status: Schema.Literal("healthy") }
const relayKey = { ...reply, status: Schema.Literal("key_known"), keyId: Thumbprint }

/**
 * Describes the claims of an answer to a {@link MintRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const MintProof = Schema.Union([
  Schema.Struct({ ...envelope, ...credential }),
  Schema.Struct({ ...envelope, ...pendingApproval }),
  Schema.Struct({ ...envelope, ...refused })
])
/**
 * Describes the claims of an answer to a {@link WaitRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const WaitProof = Schema.Struct({ ...envelope, ...decision })
/**
 * Describes the claims of an answer to a {@link HealthRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const HealthProof = Schema.Struct({ ...envelope, ...health })
/**
 * Describes the claims of an answer to a {@link RelayKeyRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const RelayKeyProof = Schema.Struct({ ...envelope, ...relayKey })

const proof = Schema.String.check(Schema.isMaxLength(8_192))
const secret = Schema.RedactedFromValue(Schema.String.check(Schema.isMaxLength(512)))

/**
 * Answers a {@link MintRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const MintAnswer = Schema.Union([
  Schema.Struct({ ...credential, credential: secret, proof }),
  Schema.Struct({ ...pendingApproval, proof }),
  Schema.Struct({ ...refused, proof })
])
/**
 * @see {@link MintAnswer}
 *
 * @category models
 * @since 0.1.0
 */
export type MintAnswer = typeof MintAnswer.Type

/**
 * Answers a {@link WaitRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const WaitAnswer = Schema.Struct({ ...decision, proof })
/**
 * Answers a {@link HealthRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const HealthAnswer = Schema.Struct({ ...health, proof })
/**
 * Answers a {@link RelayKeyRequest}.
 *
 * @category models
 * @since 0.1.0
 */
export const RelayKeyAnswer = Schema.Struct({ ...relayKey, proof })

const signedRequest = Schema.Struct({ request: Schema.String.check(Schema.isMaxLength(8_192)) })

/**
 * Groups the endpoints of an environment that its relay calls. The signature of the request identifies the caller.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class ConnectEnvironmentGroup extends HttpApiGroup.make("environment").add(
  HttpApiEndpoint.post("mint", "/api/connect/mint-credential", {
    payload: signedRequest,
    success: MintAnswer,
    error: [Unauthorized, NotFound, Unavailable]
  }),
  HttpApiEndpoint.post("wait", "/api/connect/await-decision", {
    payload: signedRequest,
    success: WaitAnswer,
    error: [Unauthorized, NotFound, Unavailable]
  }),
  HttpApiEndpoint.post("health", "/api/connect/health", {
    payload: signedRequest,
    success: HealthAnswer,
    error: [Unauthorized, NotFound, Unavailable]
  }),
  HttpApiEndpoint.post("relayKey", "/api/connect/relay-keys", {
    payload: signedRequest,
    success: RelayKeyAnswer,
    error: [Unauthorized, NotFound, Unavailable]
  })
).middleware(RequestErrors) {}

/**
 * Describes what an environment offers to its relay.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class ConnectEnvironmentApi extends HttpApi.make("sallyport-environment").add(ConnectEnvironmentGroup) {}

/**
 * Describes the relay that an environment is linked to, to a caller who may decide who connects.
 *
 * @category models
 * @since 0.1.0
 */
export const EnvironmentLinkView = Schema.Struct({
  environmentId: Schema.String,
  /** The account that the environment belongs to at the relay. */
  account: Schema.String,
  relayUrl: Schema.String,
  relayId: Schema.String,
  /** Where the relay was told to reach the environment. */
  url: Schema.String
})

/**
 * Groups what an environment tells its owner of its relay. A server that is no environment answers 404.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class ConnectLinkGroup extends HttpApiGroup.make("connectLink").add(
  HttpApiEndpoint.get("link", "/api/auth/connect-link", {
    success: Schema.Struct({ link: Schema.NullOr(EnvironmentLinkView) }),
    error: [NotFound, Unavailable]
  }).pipe(requires("connect:manage"))
).middleware(RequestErrors) {}

/**
 * Describes what an environment offers to its owner, beside `SallyportApi`.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class ConnectLinkApi extends HttpApi.make("sallyport").add(ConnectLinkGroup) {}

/**
 * Describes an environment to the account that it belongs to.
 *
 * @category models
 * @since 0.1.0
 */
export const EnvironmentView = Schema.Struct({ environmentId: Identifier, url: Schema.String, linkedAt: Time })

const environment = { environmentId: Identifier }

/**
 * Describes the state of an environment, as its relay found it.
 *
 * @category models
 * @since 0.1.0
 */
export const EnvironmentHealth = Schema.Struct({
  /**
   * `unreachable` if it does not answer, `refused` if its answer fails verification, and `link_anew` if it no longer
   * knows a key of the relay and must be linked again.
   */
  status: Schema.Literals(["healthy", "unreachable", "refused", "link_anew"]),
  /** A sentence for people; null if it is healthy. */
  message: Schema.NullOr(Schema.String)
})
/**
 * @see {@link EnvironmentHealth}
 *
 * @category models
 * @since 0.1.0
 */
export type EnvironmentHealth = typeof EnvironmentHealth.Type

/**
 * Describes an answer of an environment that the relay verified, with the proof that the environment signed.
 *
 * @category models
 * @since 0.1.0
 */
export const ProofView = Schema.Struct({
  ...environment,
  requestId: Once,
  clientProofKeyThumbprint: Thumbprint,
  status: RelayProofStatus,
  /** When the client asked; null with `credential` and `refused`. */
  requestedAt: Schema.NullOr(Time),
  proof: Schema.String,
  /** The thumbprint of the key that the proof is signed with. */
  keyId: Thumbprint,
  receivedAt: Time
})
/**
 * @see {@link ProofView}
 *
 * @category models
 * @since 0.1.0
 */
export type ProofView = typeof ProofView.Type

/**
 * Describes the data of each event of the stream of decisions, by the event's name.
 *
 * @category constants
 * @since 0.1.0
 */
export const decisionData = {
  /** `pending` means that nothing is decided yet. Any other status is the last event. */
  decision: Schema.Struct({ approvalStatus: DecisionStatus }),
  /** Tells why the stream stops; after a retryable failure the client asks again. */
  failure: Schema.Struct({ code: Schema.String, message: Schema.String, retryable: Schema.Boolean })
} as const

/**
 * Describes the events of the stream of decisions. A client skips events that it does not know.
 *
 * @category models
 * @since 0.1.0
 */
export const DecisionEvent = Schema.Union([
  Schema.Struct({ event: Schema.Literal("decision"), data: Schema.fromJsonString(decisionData.decision) }),
  Schema.Struct({ event: Schema.Literal("failure"), data: Schema.fromJsonString(decisionData.failure) }),
  Schema.Struct({ event: Schema.String, data: Schema.String })
])

/**
 * Groups the endpoints of a relay. The account is the subject of the session, if there is one. Linking and unlinking
 * environments, and reading the answers to other clients, needs `connect:manage`, which the relay gives to no client.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class RelayGroup extends HttpApiGroup.make("relay").add(
  HttpApiEndpoint.post("link", "/api/relay/environments", {
    payload: Schema.Struct({
      ...environment,
      url: Schema.String.check(Schema.isMaxLength(2_048)),
      key: PublicKey,
      /** Signed with the key. */
      proof
    }),
    success: Schema.Struct({ relayId: Identifier, keys: Schema.Array(PublicKey), account: Account }),
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires("connect:manage")),
  HttpApiEndpoint.get("environments", "/api/relay/environments", {
    success: Schema.Struct({ environments: Schema.Array(EnvironmentView) }),
    error: Unavailable
  }).pipe(requires(null)),
  HttpApiEndpoint.post("unlink", "/api/relay/environments/unlink", {
    payload: Schema.Struct(environment),
    success: HttpApiSchema.NoContent,
    error: [NotFound, Unavailable]
  }).pipe(requires("connect:manage")),
  // An environment has no session at its relay. It signs its requests with its key.
  HttpApiEndpoint.post("leave", "/api/relay/environments/leave", {
    payload: Schema.Struct({
      ...environment,
      /** An {@link UnlinkProof}. */
      proof
    }),
    success: HttpApiSchema.NoContent,
    error: [Unauthorized, NotFound, Unavailable]
  }),
  HttpApiEndpoint.post("rotateKey", "/api/relay/environments/rotate-key", {
    payload: Schema.Struct({
      ...environment,
      /** A {@link RotateKeyProof}, signed with a key that the relay knows. */
      proof,
      /** A {@link KeyPossessionProof}, signed with the key that is named there. */
      possession: proof
    }),
    /** The environment's key from now on, and until when its previous key is accepted, if there is one. */
    success: Schema.Struct({ keyId: Thumbprint, previousUntil: Schema.NullOr(Time) }),
    error: [Unauthorized, NotFound, Unavailable]
  }),
  HttpApiEndpoint.get("health", "/api/relay/environments/:environmentId/health", {
    params: environment,
    success: EnvironmentHealth,
    error: [NotFound, Unavailable]
  }).pipe(requires(null)),
  HttpApiEndpoint.get("proofs", "/api/relay/proofs", {
    query: {
      /** The `next` of the previous page. */
      after: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^[0-9]{1,15}\.[A-Za-z0-9_-]{1,128}$/)))
    },
    /** The answers about the account's clients, newest first; `next` is null on the last page. */
    success: Schema.Struct({ proofs: Schema.Array(ProofView), next: Schema.NullOr(Schema.String) }),
    error: Unavailable
  }).pipe(requires("connect:manage")),
  HttpApiEndpoint.post("connect", "/api/relay/connect", {
    payload: Schema.Struct({
      ...environment,
      label: Schema.optionalKey(Text.typedLine()),
      deviceType: Schema.optionalKey(DeviceType)
    }),
    success: Schema.Struct({ environmentUrl: Schema.String, answer: MintAnswer }),
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires(null)),
  HttpApiEndpoint.post("wait", "/api/relay/await-decision", {
    payload: Schema.Struct({
      ...environment,
      requestedAt: Time,
      waitSeconds: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 }))
    }),
    success: Schema.Struct({ approvalStatus: DecisionStatus }),
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires(null)),
  /**
   * Streams what {@link WaitAnswer} says, as soon as it is known. Ends after a few minutes without a decision; the
   * client then asks again.
   */
  HttpApiEndpoint.get("decisions", "/api/relay/decisions", {
    query: { ...environment, requestedAt: Schema.FiniteFromString.pipe(Schema.decodeTo(Time)) },
    success: HttpApiSchema.StreamSse({ events: DecisionEvent }),
    error: [InvalidRequest, NotFound, Unavailable]
  }).pipe(requires(null))
).middleware(RequestErrors).annotateEndpoints(ShortRequests, true) {}

/**
 * Describes what a relay offers to environments and clients, beside the endpoints of sessions.
 *
 * @category endpoints
 * @since 0.1.0
 */
export class RelayApi extends HttpApi.make("sallyport-relay").add(RelayGroup) {}
