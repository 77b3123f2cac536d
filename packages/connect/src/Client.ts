/**
 * The client's side: a key of its own, by which a relay and an environment know it, and the way from a sign-in at the relay
 * to a session at the environment, past its owner's approval.
 */
import { MintAnswer } from "@sallyport/contract/ConnectProtocol"
import type { DeviceType } from "@sallyport/core/ConnectClient"
import { verificationCode } from "@sallyport/core/ConnectClient"
import { DecisionStatus } from "@sallyport/core/ConnectClientStore"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as Clock from "effect/Clock"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { SignJWT } from "jose"
import * as Jwt from "./internal/jwt.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Reports that the owner turned the client's request away; it may ask again at a time, where there is one. */
export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", {
  askAgainAtMillis: Schema.NullOr(Schema.Natural)
}) {
  override get message() {
    return "The owner rejected the request" + (this.askAgainAtMillis === null
      ? ""
      : `; it can be made again at ${new Date(this.askAgainAtMillis).toISOString()}`)
  }
}

/** Reports that the owner took the client's approval back. */
export class Revoked extends Schema.TaggedError<Revoked>()("Revoked", {}) {
  override get message() {
    return "The owner revoked this client's approval; connect again to ask anew"
  }
}

/** Reports that the owner blocked the client for good. */
export class Blocked extends Schema.TaggedError<Blocked>()("Blocked", {}) {
  override get message() {
    return "The owner blocked this client; it cannot ask again"
  }
}

/** Reports that nobody decided about the request while it could be decided. */
export class RequestExpired extends Schema.TaggedError<RequestExpired>()("RequestExpired", {}) {
  override get message() {
    return "Nobody decided about the request in time; connect again to ask anew"
  }
}

/** Reports that too many clients of the account wait already. */
export class TooManyPending extends Schema.TaggedError<TooManyPending>()("TooManyPending", {}) {
  override get message() {
    return "Too many clients of this account wait for the owner already; try again when some were decided about"
  }
}

/** Reports an answer that is none of those above, with the server's status, code and sentence. */
export class RequestFailed extends Schema.TaggedError<RequestFailed>()("RequestFailed", {
  /** 0 where there was no answer. */
  status: Schema.Natural,
  code: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return this.problem
  }
}

/** Reports why a client is not connected, with a reason to branch on. */
export class ConnectError extends Schema.TaggedError<ConnectError>()("ConnectError", {
  reason: Schema.Union([Rejected, Revoked, Blocked, RequestExpired, TooManyPending, RequestFailed])
}) {
  override get message() {
    return this.reason.message
  }
}

const fail = (reason: ConnectError["reason"]) => new ConnectError({ reason })

// -----------------------------------------------------------------------------
// Key
// -----------------------------------------------------------------------------

/** The key of a device. It proves requests (RFC 9449) and cannot be exported. */
export interface DeviceKey {
  /** The thumbprint of the public key (RFC 7638), by which the owner knows the device. */
  readonly thumbprint: string
  /** Makes a proof for one request. */
  readonly prove: (request: {
    readonly method: string
    readonly url: string
    readonly accessToken?: Redacted.Redacted | undefined
  }) => Effect.Effect<string, never, Digest.Digest | SecureRandom.SecureRandom>
}

/** The name of the secret that holds a device's key. */
export const deviceKeyName = "connect-device-key"

const encoder = new TextEncoder()

/** Returns the device's key from the `SecretStore`, which the first of all callers makes. */
export const deviceKey: Effect.Effect<DeviceKey, SecretStore.SecretStoreError, SecretStore.SecretStore> = Effect.gen(
  function*() {
    const secrets = yield* SecretStore.SecretStore
    const { privateKey, publicKey } = yield* Jwt.keyPairOf(yield* secrets.getOrCreateRandom(deviceKeyName, 32))
    const { crv, kid, kty, x } = publicKey
    return {
      thumbprint: kid,
      prove: Effect.fnUntraced(function*({ accessToken, method, url }) {
        const random = yield* SecureRandom.SecureRandom
        const digest = yield* Digest.Digest
        const jti = Base64Url.encode(yield* random.randomBytes(16))
        const iat = Math.floor((yield* Clock.currentTimeMillis) / 1000)
        const ath = accessToken === undefined ? {} : {
          ath: Base64Url.encode(yield* digest.digest(Digest.sha256, encoder.encode(Redacted.value(accessToken))))
        }
        return yield* Effect.promise(() =>
          new SignJWT({ htm: method, htu: url, jti, iat, ...ath })
            .setProtectedHeader({ alg: "EdDSA", typ: "dpop+jwt", jwk: { kty, crv, x } })
            .sign(privateKey)
        )
      })
    }
  }
)

// -----------------------------------------------------------------------------
// Requests
// -----------------------------------------------------------------------------

type Requirements = HttpClient.HttpClient | Digest.Digest | SecureRandom.SecureRandom

const Problem = Schema.Struct({
  code: Schema.optionalKey(Schema.String),
  error: Schema.optionalKey(Schema.String),
  message: Schema.optionalKey(Schema.String),
  error_description: Schema.optionalKey(Schema.String)
})

const send = Effect.fnUntraced(function*<A, E>(options: {
  readonly key: DeviceKey
  readonly url: string
  readonly accessToken?: Redacted.Redacted | undefined
  readonly body: (request: HttpClientRequest.HttpClientRequest) => HttpClientRequest.HttpClientRequest
  readonly answer: Schema.Codec<A, E>
}): Effect.fn.Return<A, ConnectError, Requirements> {
  const http = yield* HttpClient.HttpClient
  const { accessToken, key, url } = options
  const proof = yield* key.prove({ method: "POST", url, accessToken })
  const request = options.body(HttpClientRequest.post(url, {
    headers: {
      accept: "application/json",
      dpop: proof,
      ...(accessToken === undefined ? {} : { authorization: `DPoP ${Redacted.value(accessToken)}` })
    }
  }))
  return yield* Effect.gen(function*() {
    const response = yield* http.execute(request)
    const body = yield* response.json
    if (response.status !== 200) {
      const problem = yield* Schema.decodeUnknownEffect(Problem)(body).pipe(Effect.orElseSucceed(() => ({})))
      const { code, error, error_description, message }: typeof Problem.Type = problem
      return yield* fail(
        new RequestFailed({
          status: response.status,
          code: code ?? error ?? "unknown",
          problem: message ?? error_description ?? `The server answered ${response.status}`
        })
      )
    }
    return yield* Schema.decodeUnknownEffect(options.answer)(body)
  }).pipe(
    Effect.catchTag(
      ["HttpClientError", "SchemaError"],
      (error) => Effect.fail(fail(new RequestFailed({ status: 0, code: "unreachable", problem: error.message })))
    )
  )
})

const Token = Schema.Struct({ access_token: Schema.RedactedFromValue(Schema.String) })

const base = (url: string): string => url.replace(/\/+$/, "")

/**
 * Exchanges a one-time credential of a server, a relay's or an environment's, for a token that is bound to the device's
 * key (RFC 8693, RFC 9449).
 */
export const exchange = Effect.fn("ConnectClient.exchange")(function*(options: {
  readonly key: DeviceKey
  readonly url: string
  readonly credential: Redacted.Redacted
}): Effect.fn.Return<Redacted.Redacted, ConnectError, Requirements> {
  const answer = yield* send({
    key: options.key,
    url: `${base(options.url)}/oauth/token`,
    body: HttpClientRequest.bodyUrlParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: Redacted.value(options.credential),
      subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
    }),
    answer: Token
  })
  return answer.access_token
})

/** Describes a request that waits for the owner. */
export interface Waiting {
  /** What the client shows; the owner's screen shows the same. */
  readonly verificationCode: string
  readonly requestedAtMillis: number
  readonly expiresAtMillis: number
}

/** Describes a client that is connected. */
export interface Connected {
  readonly environmentUrl: string
  /** The token of a session at the environment, bound to the device's key. */
  readonly token: Redacted.Redacted
}

const turnedAway = (status: "rejected" | "revoked" | "blocked" | "too_many", askAgainAtMillis: number | null) => {
  switch (status) {
    case "rejected":
      return fail(new Rejected({ askAgainAtMillis }))
    case "revoked":
      return fail(new Revoked())
    case "blocked":
      return fail(new Blocked())
    case "too_many":
      return fail(new TooManyPending())
  }
}

/**
 * Connects to an environment through a relay, and waits for the owner's approval where that is asked for: `onWaiting` is
 * told once, with the code to show. It goes on by itself as soon as the owner has decided.
 */
export const connect = Effect.fn("ConnectClient.connect")(function*(options: {
  readonly key: DeviceKey
  readonly relayUrl: string
  /** A token of the relay, bound to the device's key. */
  readonly relayToken: Redacted.Redacted
  readonly environmentId: string
  readonly label?: string | undefined
  readonly deviceType?: typeof DeviceType.Type | undefined
  readonly onWaiting: (waiting: Waiting) => Effect.Effect<void>
}): Effect.fn.Return<Connected, ConnectError, Requirements> {
  const { environmentId, key } = options
  const relay = base(options.relayUrl)
  const ask = send({
    key,
    url: `${relay}/api/relay/connect`,
    accessToken: options.relayToken,
    body: HttpClientRequest.bodyJsonUnsafe({
      environmentId,
      ...(options.label === undefined ? {} : { label: options.label }),
      deviceType: options.deviceType ?? "unknown"
    }),
    answer: Schema.Struct({ environmentUrl: Schema.String, answer: MintAnswer })
  })
  const waitOnce = (requestedAt: number) =>
    send({
      key,
      url: `${relay}/api/relay/await-decision`,
      accessToken: options.relayToken,
      body: HttpClientRequest.bodyJsonUnsafe({ environmentId, requestedAt, waitSeconds: 30 }),
      answer: Schema.Struct({ approvalStatus: DecisionStatus })
    })

  while (true) {
    const { answer, environmentUrl } = yield* ask
    if (answer.status === "credential") {
      const token = yield* exchange({ key, url: environmentUrl, credential: answer.credential })
      return { environmentUrl, token }
    }
    if (answer.status === "refused") return yield* turnedAway(answer.approvalStatus, answer.askAgainAt)
    yield* options.onWaiting({
      verificationCode: yield* verificationCode({
        proofKeyThumbprint: key.thumbprint,
        requestedAtMillis: answer.requestedAt
      }),
      requestedAtMillis: answer.requestedAt,
      expiresAtMillis: answer.requestExpiresAt
    })
    let status: typeof DecisionStatus.Type = "pending"
    while (status === "pending") status = (yield* waitOnce(answer.requestedAt)).approvalStatus
    if (status === "expired") return yield* fail(new RequestExpired())
    if (status !== "approved") return yield* turnedAway(status, null)
  }
})
