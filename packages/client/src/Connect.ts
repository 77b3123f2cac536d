/**
 * Connects a device through a relay: from a sign-in at the relay, past the owner's approval, to a session at an
 * environment.
 *
 * While the owner has not decided, the device waits on a stream of the relay, over as many connections as needed. Each
 * connection asks for the present decision, so a decision between two connections is not missed. Retries happen only
 * here; do not add another retry around it.
 */
import { decisionData, MintAnswer, RelayApi } from "@sallyport/contract/ConnectProtocol"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { bootstrapTokenType, tokenExchange, TokenResponse } from "@sallyport/contract/SessionGroup"
import { DecisionStatus, type DeviceType, verificationCode } from "@sallyport/core/access/ConnectClient"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import type * as Digest from "effect/crypto/Digest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Sse from "effect/encoding/Sse"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { ClientErrorReason, InvalidInput, UnexpectedAnswer } from "./ClientError.ts"
import { Credentials } from "./Credentials.ts"
import { DeviceKey } from "./DeviceKey.ts"
import { Broken, call, garbled, lastFailure, type Refusal, unreachable } from "./internal/answer.ts"
import { ask, type Budget, makeBudget, now } from "./internal/budget.ts"
import { noContent, read, type Step } from "./internal/eventReader.ts"
import * as Proofs from "./internal/proofs.ts"
import { tokensOf } from "./internal/refreshing.ts"
import { defaults, toSettings } from "./internal/runsOptions.ts"
import { ReconnectHints } from "./ReconnectHints.ts"
import type * as Runs from "./Runs.ts"
import { SignedOut } from "./RunsError.ts"
import type { Tokens } from "./TokenStorage.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/**
 * Reports that the owner rejected the device's request, and when the device may ask again, if that is known.
 *
 * @category errors
 * @since 0.1.0
 */
export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", {
  askAgainAtMillis: Schema.NullOr(Schema.Natural)
}) {
  override get message() {
    const { askAgainAtMillis } = this
    return askAgainAtMillis === null
      ? "The owner rejected the request; it can be made again after a while"
      : `The owner rejected the request; it can be made again at ${new Date(askAgainAtMillis).toISOString()}`
  }
}

/**
 * Reports that the owner revoked the device's approval.
 *
 * @category errors
 * @since 0.1.0
 */
export class Revoked extends Schema.TaggedError<Revoked>()("Revoked", {}) {
  override get message() {
    return "The owner revoked this device's approval; connect again to send a new request"
  }
}

/**
 * Reports that the owner blocked the device permanently.
 *
 * @category errors
 * @since 0.1.0
 */
export class Blocked extends Schema.TaggedError<Blocked>()("Blocked", {}) {
  override get message() {
    return "The owner blocked this device; it cannot ask again"
  }
}

/**
 * Reports that the request expired without a decision.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequestExpired extends Schema.TaggedError<RequestExpired>()("RequestExpired", {}) {
  override get message() {
    return "The owner did not decide about the request in time; connect again to send a new request"
  }
}

/**
 * Reports that too many devices of the account are waiting already.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyPending extends Schema.TaggedError<TooManyPending>()("TooManyPending", {}) {
  override get message() {
    return "Too many devices of this account are waiting for the owner; try again when the owner has decided about some of them"
  }
}

/**
 * Lists the reasons of a {@link ConnectError}. A 401 of the relay is `SignedOut`: the relay's token is no longer valid.
 *
 * @category errors
 * @since 0.1.0
 */
export const ConnectErrorReason = Schema.Union([
  Rejected,
  Revoked,
  Blocked,
  RequestExpired,
  TooManyPending,
  SignedOut,
  ...ClientErrorReason.members
])
/**
 * @see {@link ConnectErrorReason}
 *
 * @category errors
 * @since 0.1.0
 */
export type ConnectErrorReason = typeof ConnectErrorReason.Type

/**
 * Reports why a device is not connected; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectError extends Schema.TaggedError<ConnectError>()("ConnectError", { reason: ConnectErrorReason }) {
  override get message() {
    return this.reason.message
  }
}

const toConnectError = (reason: ConnectErrorReason) =>
  new ConnectError({
    reason: reason._tag === "Unauthorized" ? new SignedOut({ code: reason.code, message: reason.message }) : reason
  })

const turnedAway = (status: "rejected" | "revoked" | "blocked" | "too_many", askAgainAtMillis: number | null) => {
  switch (status) {
    case "rejected":
      return new Rejected({ askAgainAtMillis })
    case "revoked":
      return new Revoked()
    case "blocked":
      return new Blocked()
    case "too_many":
      return new TooManyPending()
  }
}

// -----------------------------------------------------------------------------
// Exchange
// -----------------------------------------------------------------------------

const responseMode = "response-only"

/** Returns the base URL of the server at an address that a person entered, and a client of it. */
const serverAt = Effect.fnUntraced(function*(url: string) {
  const base = yield* Effect.mapError(
    Effect.fromResult(PairingUrl.httpBase(url)),
    ({ message }) => new InvalidInput({ message })
  )
  return { base, http: HttpClient.mapRequest(yield* HttpClient.HttpClient, HttpClientRequest.prependUrl(base)) }
})

const exchangeWith = Effect.fnUntraced(function*(prove: Proofs.Prove, options: {
  readonly url: string
  readonly credential: Redacted.Redacted
  readonly limit: Duration.Duration
}): Effect.fn.Return<Tokens, Broken | Refusal, HttpClient.HttpClient> {
  const { http } = yield* serverAt(options.url)
  const api = yield* HttpApiClient.makeWith(SallyportApi, {
    httpClient: prove<never>(http, Effect.succeedNone)
  })
  const answer = yield* call(
    api.session.token({
      payload: {
        grant_type: tokenExchange,
        subject_token: options.credential,
        subject_token_type: bootstrapTokenType
      },
      responseMode
    }),
    TokenResponse,
    options.limit
  )
  if (answer.token_type === "DPoP") return yield* tokensOf(answer)
  return yield* new UnexpectedAnswer({
    status: 200,
    code: null,
    message: "The server issued a token that is not bound to the device's key; turn on DPoP proofs at the server"
  })
})

/**
 * Exchanges a one-time credential of a relay or an environment for tokens that are bound to the device's key (RFC 8693,
 * RFC 9449): the session's token, and the refresh token if the server uses them.
 *
 * **Gotchas**
 *
 * The request is sent once. If this fails with `Unreachable`, the credential may be used up nevertheless.
 *
 * @category operations
 * @since 0.1.0
 */
export const exchange = Effect.fn("Connect.exchange")(function*(options: {
  /** The server's address, as a person enters it: see `Connection.layer`. */
  readonly url: string
  readonly credential: Redacted.Redacted
}): Effect.fn.Return<Tokens, ConnectError, DeviceKey | HttpClient.HttpClient> {
  const prove = Proofs.make(yield* DeviceKey)
  const { requestTimeout } = yield* defaults
  return yield* exchangeWith(prove, { ...options, limit: requestTimeout }).pipe(
    Effect.mapError((error) => toConnectError(lastFailure(error)))
  )
})

// -----------------------------------------------------------------------------
// Waiting
// -----------------------------------------------------------------------------

const decodeDecision = Schema.decodeUnknownOption(Schema.fromJsonString(decisionData.decision))
const decodeFailure = Schema.decodeUnknownOption(Schema.fromJsonString(decisionData.failure))

/** Tells what an event of the relay's stream of decisions means. */
const takeDecision = (event: Sse.Event): Step<DecisionStatus, SignedOut | UnexpectedAnswer> => {
  switch (event.event) {
    case "decision": {
      const decision = decodeDecision(event.data)
      if (Option.isNone(decision)) return { _tag: "Fail", error: garbled("a decision was not readable") }
      const { approvalStatus } = decision.value
      return approvalStatus === "pending" ? { _tag: "Skip" } : { _tag: "Last", value: approvalStatus }
    }
    case "failure": {
      const failure = decodeFailure(event.data)
      if (Option.isNone(failure)) return { _tag: "Fail", error: garbled("the relay's failure was not readable") }
      const { code, message, retryable } = failure.value
      if (retryable) return { _tag: "Fail", error: new Broken({ kind: "unavailable", detail: message, status: 200 }) }
      return {
        _tag: "Fail",
        error: code === "session_ended"
          ? new SignedOut({ code, message })
          : new UnexpectedAnswer({ status: 200, code, message })
      }
    }
    default:
      return { _tag: "Skip" }
  }
}

/** After how many streams without data the client switches to long polls: a proxy may hold streams back. */
const silentStreams = 2

/** How long the relay is asked to hold a long poll. */
const waitSeconds = 30

/** After an answer that comes sooner than this without a decision, the client does not ask again at once. */
const shortestWaitMillis = 1_000

/**
 * Describes a request that waits for the owner.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiting {
  /** What the device shows; the owner's screen shows the same. */
  readonly verificationCode: string
  readonly requestedAtMillis: number
  readonly expiresAtMillis: number
}

/**
 * Describes a device that is connected.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connected {
  readonly environmentUrl: string
  /**
   * The tokens of a session at the environment, bound to the device's key, for `TokenStorage.layerHolding` and
   * `Credentials.layerDpop`.
   */
  readonly tokens: Tokens
}

/**
 * Describes what a device connects to, and how.
 *
 * @category options
 * @since 0.1.0
 */
export interface ConnectOptions {
  /** The relay's address, as a person enters it. */
  readonly relayUrl: string
  readonly environmentId: string
  /** The device's name in the owner's list, up to 128 characters. */
  readonly label?: string | undefined
  readonly deviceType?: typeof DeviceType.Type | undefined
  /** Is called for each request that the owner has to decide about, with the code to show. */
  readonly onWaiting: (waiting: Waiting) => Effect.Effect<void>
  /**
   * How to learn of the decision. Default `stream`, which falls back to `long-poll` if the relay has no stream, or if
   * no data comes through it.
   */
  readonly waiting?: "stream" | "long-poll" | undefined
  /**
   * The budget for attempts that fail in a row. While the owner decides, only the request's lifetime limits the wait.
   */
  readonly retry?: Runs.Options | undefined
}

const ConnectAnswer = Schema.Struct({ environmentUrl: Schema.String, answer: MintAnswer })
const WaitAnswer = Schema.Struct({ approvalStatus: DecisionStatus })

const connectWith = Effect.fnUntraced(function*(options: ConnectOptions): Effect.fn.Return<
  Connected,
  ConnectErrorReason,
  Credentials | DeviceKey | HttpClient.HttpClient | Digest.Digest
> {
  const key = yield* DeviceKey
  const { environmentId } = options
  const settings = yield* Effect.mapError(
    toSettings(options.retry ?? {}),
    ({ message }) => new InvalidInput({ message })
  )
  const hints = yield* ReconnectHints
  const prove = Proofs.make(key)
  const { base, http } = yield* serverAt(options.relayUrl)
  const httpClient = (yield* Credentials).authenticate(http, base)
  const { relay } = yield* HttpApiClient.makeWith(RelayApi, { httpClient })
  // A stream's connection ends with its scope, also while it has no reader.
  const { decisions } = yield* HttpApiClient.group(RelayApi, {
    group: "relay",
    httpClient: HttpClient.withScope(httpClient)
  })

  const request = relay.connect({
    payload: {
      environmentId,
      ...(options.label === undefined ? {} : { label: options.label }),
      deviceType: options.deviceType ?? "unknown"
    },
    responseMode
  })

  const poll = Effect.fnUntraced(function*(budget: Budget, requestedAt: number) {
    while (true) {
      const startedAt = yield* now
      const { approvalStatus } = yield* ask(
        budget,
        relay.wait({ payload: { environmentId, requestedAt, waitSeconds }, responseMode }),
        WaitAnswer,
        Duration.sum(settings.requestTimeout, Duration.seconds(waitSeconds))
      )
      if (approvalStatus !== "pending") return approvalStatus
      if ((yield* now) - startedAt < shortestWaitMillis) yield* budget.pause()
    }
  })

  /** Follows the stream of decisions until there is one. Returns none if a long poll should be used instead. */
  const follow = Effect.fnUntraced(function*(budget: Budget, requestedAt: number) {
    let silent = 0
    return yield* read({
      connect: decisions({ query: { environmentId, requestedAt }, responseMode }),
      take: takeDecision,
      budget: {
        ...budget,
        spend: (broken, startedAt) =>
          (broken.kind === "stalled" || broken.kind === "garbled") && ++silent >= silentStreams
            ? Effect.fail(unreachable(broken, silent))
            : budget.spend(broken, startedAt)
      },
      settings
    }).pipe(
      Stream.runHead,
      Effect.catch((error) =>
        error === noContent || error._tag === "UnexpectedAnswer" || silent >= silentStreams
          ? Effect.succeedNone
          : Effect.fail(error)
      )
    )
  })

  /** Waits for the decision about a request until the request expires. */
  const wait = Effect.fnUntraced(function*(requestedAt: number, lifetimeMillis: number) {
    const budget = makeBudget({ ...settings, maxAttempts: Infinity, maxDuration: lifetimeMillis }, hints)
    if (options.waiting !== "long-poll") {
      const decided = yield* follow(budget, requestedAt)
      if (Option.isSome(decided)) return decided.value
    }
    return yield* poll(budget, requestedAt)
  })

  const asking = makeBudget(settings, hints)
  // Bounds the rounds that fail although the relay answers.
  const rounds = makeBudget(settings, hints)
  let shownAt: number | undefined
  let wasApproved = false
  while (true) {
    const { answer, environmentUrl } = yield* ask(asking, request, ConnectAnswer, settings.requestTimeout)
    switch (answer.status) {
      case "credential": {
        const startedAt = yield* now
        const tokens = yield* Effect.result(
          exchangeWith(prove, { url: environmentUrl, credential: answer.credential, limit: settings.requestTimeout })
        )
        if (Result.isSuccess(tokens)) return { environmentUrl, tokens: tokens.success }
        if (tokens.failure._tag !== "Broken") return yield* Effect.fail(tokens.failure)
        // The credential may be used up, so the client asks for another one.
        yield* rounds.spend(tokens.failure, startedAt)
        break
      }
      case "refused":
        return yield* turnedAway(answer.approvalStatus, answer.askAgainAt)
      case "pending_approval": {
        const { requestedAt, requestExpiresAt } = answer
        if (shownAt !== requestedAt) {
          shownAt = requestedAt
          yield* options.onWaiting({
            verificationCode: yield* verificationCode({
              proofKeyThumbprint: key.thumbprint,
              requestedAtMillis: requestedAt
            }),
            requestedAtMillis: requestedAt,
            expiresAtMillis: requestExpiresAt
          })
        }
        // Both times are the environment's, so this device's clock does not matter.
        const lifetimeMillis = Math.max(0, requestExpiresAt - requestedAt)
        const startedAt = yield* now
        const decision = yield* Effect.result(
          Effect.timeoutOrElse(wait(requestedAt, lifetimeMillis), {
            duration: lifetimeMillis,
            orElse: () => Effect.succeed("expired" as const)
          })
        )
        if (Result.isSuccess(decision)) {
          const status = decision.success
          if (status === "expired") return yield* new RequestExpired()
          if (status !== "approved" && status !== "pending") return yield* turnedAway(status, null)
          // An approval lets the device in. An approval without effect, such as one that was revoked at once, is a
          // failed round.
          if (wasApproved) {
            if ((yield* now) - startedAt >= Duration.toMillis(settings.steadyAfter)) rounds.progress()
            yield* rounds.spend(
              new Broken({ kind: "unavailable", detail: "the device was approved but not let in" }),
              startedAt
            )
          }
          wasApproved = true
          break
        }
        const error = decision.failure
        if (error._tag !== "NotFound" || error.code !== "connect_client_not_found") return yield* Effect.fail(error)
        // If the relay has lost the request, or knows a later one of this device, the client asks for the present
        // state.
        if ((yield* now) - startedAt >= Duration.toMillis(settings.steadyAfter)) rounds.progress()
        yield* rounds.spend(new Broken({ kind: "unavailable", detail: error.message }), startedAt)
      }
    }
  }
})

/**
 * Connects to an environment through a relay, and waits for the owner's approval if it is required. `onWaiting`
 * receives the code to show. The effect continues as soon as the owner has decided.
 *
 * **Details**
 *
 * The requests to the relay carry the `Credentials` of the context: `Credentials.layerDpop` with the tokens that
 * {@link exchange} returned. A token that ends during the wait is refreshed, and the storage keeps the later ones.
 *
 * It retries after lost connections, restarts of the relay and 503s, with growing waits; while the owner decides, until
 * the request expires.
 *
 * **Gotchas**
 *
 * An interruption does not withdraw the request: it stays pending, and connecting again joins it.
 *
 * @category operations
 * @since 0.1.0
 */
export const connect = Effect.fn("Connect.connect")(
  (options: ConnectOptions): Effect.Effect<
    Connected,
    ConnectError,
    Credentials | DeviceKey | HttpClient.HttpClient | Digest.Digest
  > => Effect.mapError(connectWith(options), toConnectError)
)
