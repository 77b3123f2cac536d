/**
 * The way of a device from a sign-in at a relay to a session at an environment, past its owner's approval.
 *
 * While the owner has not decided, the device waits on a stream of the relay, over as many connections as it takes: each asks
 * for the decision as it is by then, so that one that is made in between is not missed. This is the one place that tries
 * again; don't put another retry around it.
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
import { DeviceKey } from "./DeviceKey.ts"
import { Broken, call, garbled, type Refusal, unreachable } from "./internal/answer.ts"
import { ask, type Budget, makeBudget, now } from "./internal/budget.ts"
import { noContent, read, type Step } from "./internal/eventReader.ts"
import * as Proofs from "./internal/proofs.ts"
import { defaults, toSettings } from "./internal/runsOptions.ts"
import type * as Runs from "./Runs.ts"
import { SignedOut } from "./RunsError.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/**
 * Says that the owner turned the device's request away; it may ask again at a time, where that is known.
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
 * Says that the owner took the device's approval back.
 *
 * @category errors
 * @since 0.1.0
 */
export class Revoked extends Schema.TaggedError<Revoked>()("Revoked", {}) {
  override get message() {
    return "The owner revoked this device's approval; connect again to ask anew"
  }
}

/**
 * Says that the owner blocked the device for good.
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
 * Says that nobody decided about the request while it could be decided.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequestExpired extends Schema.TaggedError<RequestExpired>()("RequestExpired", {}) {
  override get message() {
    return "Nobody decided about the request in time; connect again to ask anew"
  }
}

/**
 * Says that too many devices of the account wait already.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyPending extends Schema.TaggedError<TooManyPending>()("TooManyPending", {}) {
  override get message() {
    return "Too many devices of this account wait for the owner already; try again when some were decided about"
  }
}

/**
 * Lists what can go wrong. A 401 of the relay is `SignedOut`: the token of the relay is good no more.
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

/** Returns a client of the server at an address as a person would give it, whose requests prove the device's key. */
const clientFor = Effect.fnUntraced(function*(prove: Proofs.Prove, options: {
  readonly url: string
  readonly token: Option.Option<Redacted.Redacted>
}) {
  const base = yield* Effect.mapError(
    Effect.fromResult(PairingUrl.httpBase(options.url)),
    ({ message }) => new InvalidInput({ message })
  )
  const http = HttpClient.mapRequest(yield* HttpClient.HttpClient, HttpClientRequest.prependUrl(base))
  return prove<never>(http, Effect.succeed(options.token))
})

const exchangeWith = Effect.fnUntraced(function*(prove: Proofs.Prove, options: {
  readonly url: string
  readonly credential: Redacted.Redacted
  readonly limit: Duration.Duration
}): Effect.fn.Return<Redacted.Redacted, Broken | Refusal, HttpClient.HttpClient> {
  const httpClient = yield* clientFor(prove, { url: options.url, token: Option.none() })
  const api = yield* HttpApiClient.makeWith(SallyportApi, { httpClient })
  const { access_token, token_type } = yield* call(
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
  if (token_type === "DPoP") return access_token
  return yield* new UnexpectedAnswer({
    status: 200,
    code: null,
    message: "The server gave a token that is not bound to the device's key; it takes no DPoP proofs"
  })
})

/**
 * Exchanges a one-time credential of a server, a relay's or an environment's, for a token that is bound to the device's key
 * (RFC 8693, RFC 9449). Made once: the credential can be used up although this fails with `Unreachable`.
 *
 * @category operations
 * @since 0.1.0
 */
export const exchange = Effect.fn("Connect.exchange")(function*(options: {
  /** The server's address, as a person would give it: see `Connection.layer`. */
  readonly url: string
  readonly credential: Redacted.Redacted
}): Effect.fn.Return<Redacted.Redacted, ConnectError, DeviceKey | HttpClient.HttpClient> {
  const prove = Proofs.make(yield* DeviceKey)
  const { requestTimeout } = yield* defaults
  return yield* exchangeWith(prove, { ...options, limit: requestTimeout }).pipe(
    Effect.mapError((error) => toConnectError(error._tag === "Broken" ? error.answer ?? unreachable(error, 1) : error))
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

/** After how many streams on which nothing came the relay is asked in another way: something may hold streams back. */
const silentStreams = 2

/** How long the relay is asked to wait, where it is not asked for a stream. */
const waitSeconds = 30

/** An answer that comes sooner than this without a decision is not asked for again at once. */
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
   * The token of a session at the environment, bound to the device's key: `TokenStorage.layerHolding` and
   * `Credentials.layerDpop` use it.
   */
  readonly token: Redacted.Redacted
}

/**
 * Describes what a device connects to, and how.
 *
 * @category options
 * @since 0.1.0
 */
export interface ConnectOptions {
  /** The relay's address, as a person would give it. */
  readonly relayUrl: string
  /** A token of the relay, bound to the device's key: what {@link exchange} gives. */
  readonly relayToken: Redacted.Redacted
  readonly environmentId: string
  /** What the device is called in the owner's list, in up to 128 characters. */
  readonly label?: string | undefined
  readonly deviceType?: typeof DeviceType.Type | undefined
  /** Is told of each request that the owner has to decide about, with the code to show. */
  readonly onWaiting: (waiting: Waiting) => Effect.Effect<void>
  /**
   * How to learn of the decision. A `stream`, which is the default, is given up for a `long-poll` where the relay has none, or
   * where nothing comes through it.
   */
  readonly waiting?: "stream" | "long-poll" | undefined
  /** What is spent on attempts that fail in a row. While the owner decides, the request's lifetime is the only bound. */
  readonly retry?: Runs.Options | undefined
}

const ConnectAnswer = Schema.Struct({ environmentUrl: Schema.String, answer: MintAnswer })
const WaitAnswer = Schema.Struct({ approvalStatus: DecisionStatus })

const connectWith = Effect.fnUntraced(function*(options: ConnectOptions): Effect.fn.Return<
  Connected,
  ConnectErrorReason,
  DeviceKey | HttpClient.HttpClient | Digest.Digest
> {
  const key = yield* DeviceKey
  const { environmentId } = options
  const settings = yield* Effect.mapError(
    toSettings(options.retry ?? {}),
    ({ message }) => new InvalidInput({ message })
  )
  const prove = Proofs.make(key)
  const httpClient = yield* clientFor(prove, { url: options.relayUrl, token: Option.some(options.relayToken) })
  const { relay } = yield* HttpApiClient.makeWith(RelayApi, { httpClient })
  // A stream's connection ends with its scope, also while nobody reads from it.
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
      if ((yield* now) - startedAt < shortestWaitMillis) yield* budget.pause
    }
  })

  /** Follows the stream of decisions to the one there is. None where it is better asked for in another way. */
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
      idleTimeout: settings.idleTimeout,
      steadyAfter: settings.steadyAfter,
      maxEventLength: settings.maxEventLength
    }).pipe(
      Stream.runHead,
      Effect.catch((error) =>
        error === noContent || error._tag === "UnexpectedAnswer" || silent >= silentStreams
          ? Effect.succeedNone
          : Effect.fail(error)
      )
    )
  })

  /** Waits for the decision about a request, for as long as it can be decided. */
  const wait = Effect.fnUntraced(function*(requestedAt: number, lifetimeMillis: number) {
    const budget = makeBudget({ ...settings, maxAttempts: Infinity, maxDuration: lifetimeMillis })
    if (options.waiting !== "long-poll") {
      const decided = yield* follow(budget, requestedAt)
      if (Option.isSome(decided)) return decided.value
    }
    return yield* poll(budget, requestedAt)
  })

  const asking = makeBudget(settings)
  // Bounds the rounds that come to nothing, though the relay answers.
  const rounds = makeBudget(settings)
  let shownAt: number | undefined
  let wasApproved = false
  while (true) {
    const { answer, environmentUrl } = yield* ask(asking, request, ConnectAnswer, settings.requestTimeout)
    switch (answer.status) {
      case "credential": {
        const startedAt = yield* now
        const token = yield* Effect.result(
          exchangeWith(prove, { url: environmentUrl, credential: answer.credential, limit: settings.requestTimeout })
        )
        if (Result.isSuccess(token)) return { environmentUrl, token: token.success }
        if (token.failure._tag !== "Broken") return yield* Effect.fail(token.failure)
        // The credential may be used up, so another one is asked for.
        yield* rounds.spend(token.failure, startedAt)
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
        // Both times are the environment's, so that this device's clock has no part in it.
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
          // An approval lets the device in. One that came to nothing, such as one that was taken back, is a failed round.
          if (wasApproved) {
            if ((yield* now) - startedAt >= Duration.toMillis(settings.steadyAfter)) rounds.progress()
            yield* rounds.spend(
              new Broken({ kind: "unavailable", detail: "the device was approved, and not let in" }),
              startedAt
            )
          }
          wasApproved = true
          break
        }
        const error = decision.failure
        if (error._tag !== "NotFound" || error.code !== "connect_client_not_found") return yield* Effect.fail(error)
        // A relay that has lost the request, or knows a later one of this device, is asked how things are.
        if ((yield* now) - startedAt >= Duration.toMillis(settings.steadyAfter)) rounds.progress()
        yield* rounds.spend(new Broken({ kind: "unavailable", detail: error.message }), startedAt)
      }
    }
  }
})

/**
 * Connects to an environment through a relay, and waits for the owner's approval where that is asked for: `onWaiting` is told
 * the code to show. It goes on by itself as soon as the owner has decided.
 *
 * Lost connections, a relay that restarts, and 503s are gone over, with waits that grow; while the owner decides, until the
 * request expires. Interrupting it takes nothing back: the request waits on, and connecting again joins it.
 *
 * @category operations
 * @since 0.1.0
 */
export const connect = Effect.fn("Connect.connect")(
  (options: ConnectOptions): Effect.Effect<
    Connected,
    ConnectError,
    DeviceKey | HttpClient.HttpClient | Digest.Digest
  > => Effect.mapError(connectWith(options), toConnectError)
)
