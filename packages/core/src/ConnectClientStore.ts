/**
 * Decides who may connect through a relay: a client asks, its owner decides, and the decision reaches everything that the
 * client has.
 *
 * The policy is here once, over whichever {@link ConnectClientRepository} the host provides. A decision and what it ends
 * commit together; a grant is stored with the answer that it belongs to, so that one that was overtaken by a decision is
 * ended by it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { AccessEvent, ChangeContext } from "./AccessEvent.ts"
import type { AccessFeedRepository } from "./AccessFeedRepository.ts"
import { AccessRepositoryError } from "./AccessRepositoryError.ts"
import type { PairingLinkRow } from "./BootstrapCredentialRepository.ts"
import {
  type ClientStatus,
  ConnectClient,
  type DeviceType,
  SecurityMode,
  Thumbprint,
  verificationCode
} from "./ConnectClient.ts"
import {
  ConnectClientRepository,
  type ConnectClientRow,
  type Decision,
  isWaiting,
  toConnectClient
} from "./ConnectClientRepository.ts"
import * as AccessFollower from "./internal/accessFollower.ts"
import { actorOf, type Principal } from "./SessionCredentialService.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Reports a thumbprint, or the beginning of one, that no client has. */
export class ClientNotFound extends Schema.TaggedError<ClientNotFound>()("ClientNotFound", {
  thumbprint: Schema.String
}) {
  override get message() {
    return `There is no client ${this.thumbprint}; list the clients to see which there are`
  }
}

/** Reports the beginning of a thumbprint that several clients have. */
export class ClientAmbiguous extends Schema.TaggedError<ClientAmbiguous>()("ClientAmbiguous", {
  prefix: Schema.String
}) {
  override get message() {
    return `More than one client begins with ${JSON.stringify(this.prefix)}; give more of the thumbprint`
  }
}

/** Reports an approval of a request that expired before. Nothing was changed. */
export class RequestExpired extends Schema.TaggedError<RequestExpired>()("RequestExpired", {
  client: ConnectClient
}) {
  override get message() {
    return "The request has expired; have the client ask again, then approve it"
  }
}

/** Reports a decision about a request that is not the present one. Nothing was changed. */
export class RequestChanged extends Schema.TaggedError<RequestChanged>()("RequestChanged", {
  client: ConnectClient
}) {
  override get message() {
    return "The client has asked anew since, with another code; look at its request again before you decide"
  }
}

/** Reports a stored mode that is none that this version knows. Nobody is let in through a relay meanwhile. */
export class SecurityModeUnreadable extends Schema.TaggedError<SecurityModeUnreadable>()("SecurityModeUnreadable", {}) {
  override get message() {
    return "The stored security mode is not one that this version knows; nobody is let in until it is set again"
  }
}

/** Reports that the store could not answer. Nothing was changed, and the call can be made again. */
export class ConnectStoreUnavailable extends Schema.TaggedError<ConnectStoreUnavailable>()("ConnectStoreUnavailable", {
  cause: AccessRepositoryError
}) {
  override get message() {
    return "The store of connecting clients cannot be reached at the moment; try again shortly"
  }
}

/** Reports that as many clients wait for a decision as this process lets wait. */
export class TooManyWaiting extends Schema.TaggedError<TooManyWaiting>()("TooManyWaiting", {
  maximum: Schema.Natural
}) {
  override get message() {
    return `Already ${this.maximum} clients wait for a decision here; try again later`
  }
}

/** Reports what went wrong with a connecting client, with a reason to branch on. */
export class ConnectClientError extends Schema.TaggedError<ConnectClientError>()("ConnectClientError", {
  reason: Schema.Union([
    ClientNotFound,
    ClientAmbiguous,
    RequestExpired,
    RequestChanged,
    SecurityModeUnreadable,
    ConnectStoreUnavailable,
    TooManyWaiting
  ])
}) {
  override get message() {
    return this.reason.message
  }
}

/** Reports settings that cannot work when the layer is built. */
export class InvalidConnectOptions extends Schema.TaggedError<InvalidConnectOptions>()("InvalidConnectOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The settings of connecting clients cannot work: ${this.problem}`
  }
}

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Lists the settings of {@link layerWith}; each has a default. */
export interface Options {
  /** How long a request can be decided. Default 1 day. */
  readonly pendingLifetime?: Duration.Input | undefined
  /** How many clients of one account may wait at once. Default 20. */
  readonly maxPendingPerAccount?: number | undefined
  /** How many clients of one account may be let in by their account alone. Default 1,000. */
  readonly maxObservedPerAccount?: number | undefined
  /** How long a client has to wait after its first rejection; twice as long after each further one. Default 1 minute. */
  readonly backOff?: Duration.Input | undefined
  /** How long it has to wait at most. Default 1 day. */
  readonly maxBackOff?: Duration.Input | undefined
  /** How many clients may wait in this process at once by {@link ConnectClientStore}'s `awaitDecision`. Default 1,000. */
  readonly maxWaiting?: number | undefined
  /** How often somebody who waits looks without having been told to. Default 5 seconds. */
  readonly recheckInterval?: Duration.Input | undefined
}

/** Describes what came of a request. Only `Granted` lets the client in. */
export type RequestResult =
  | { readonly _tag: "Granted"; readonly client: ConnectClient; readonly mode: SecurityMode }
  | { readonly _tag: "Pending"; readonly client: ConnectClient }
  /** The owner turned the client away; a rejected one may ask again at `askAgainAtMillis`. */
  | {
    readonly _tag: "Refused"
    readonly client: ConnectClient
    readonly status: "rejected" | "revoked" | "blocked"
    readonly askAgainAtMillis: number | null
  }
  | { readonly _tag: "TooMany" }

/** Names what a client that waited is told. `pending`: nothing was decided in time; `expired`: its request is no more. */
export const DecisionStatus = Schema.Literals(["pending", "approved", "rejected", "revoked", "blocked", "expired"])
/** @see {@link DecisionStatus} */
export type DecisionStatus = typeof DecisionStatus.Type

/** Provides the approval of connecting clients. */
export class ConnectClientStore extends Context.Service<ConnectClientStore, {
  /** Returns who may connect. Fails with {@link SecurityModeUnreadable} rather than guess. */
  readonly securityMode: Effect.Effect<SecurityMode, ConnectClientError>
  /**
   * Sets who may connect, and approves clients that only their account let in so far: all of them, or those named by their
   * whole thumbprints. Where the mode becomes `client-approval`, what the others of them have ends. A session that turns
   * approval on keeps the client that it is bound to. Returns the clients that were approved.
   */
  readonly setSecurityMode: (options: {
    readonly mode: SecurityMode
    readonly trust?: "all" | ReadonlyArray<string> | undefined
    readonly by: Principal
  }) => Effect.Effect<ReadonlyArray<ConnectClient>, ConnectClientError>
  /**
   * Takes a client's request, in one atomic step: the answer is the state after it. Where the client is let in, `grant` is
   * stored as a pairing link in the same step. Fails with {@link SecurityModeUnreadable} where the mode cannot be told.
   */
  readonly request: (options: {
    readonly proofKeyThumbprint: string
    readonly account: string
    readonly label?: string | undefined
    readonly deviceType?: typeof DeviceType.Type | undefined
    readonly grant?: PairingLinkRow | undefined
  }) => Effect.Effect<RequestResult, ConnectClientError>
  /**
   * Decides about a client, named by its thumbprint or by a beginning of it that no other client has. What a client that is
   * not approved has ends in the same step. With `code`, the decision is about the request with that verification code
   * only, and fails with {@link RequestChanged} where it is another one. Deciding the same twice is a success.
   */
  readonly decide: (options: {
    readonly client: string
    readonly decision: Decision
    readonly by: Principal
    readonly reason?: string | undefined
    readonly code?: string | undefined
  }) => Effect.Effect<ConnectClient, ConnectClientError>
  /** Returns the client with a thumbprint, or with a beginning of it that no other client has. */
  readonly get: (client: string) => Effect.Effect<ConnectClient, ConnectClientError>
  /** Returns clients, who asked last first; at most `limit`, by default 200, after a client where one is given. */
  readonly list: (options?: {
    readonly after?: ConnectClient | undefined
    readonly limit?: number | undefined
  }) => Effect.Effect<ReadonlyArray<ConnectClient>, ConnectClientError>
  /**
   * Tells whether a client would be let in now. Whoever turns a grant into a session asks after the session is stored, and
   * ends it where the answer is no: a decision in between then finds the session, or is found by it.
   */
  readonly isAdmitted: (proofKeyThumbprint: string) => Effect.Effect<boolean, ConnectClientError>
  /**
   * Waits until the request that a client made is decided, or the time is up, and says how. It learns of a decision as soon
   * as the access feed tells of it, whichever process decides.
   */
  readonly awaitDecision: (options: {
    readonly proofKeyThumbprint: string
    readonly account: string
    readonly requestedAtMillis: number
    readonly timeout: Duration.Input
  }) => Effect.Effect<DecisionStatus, ConnectClientError>
}>()("@sallyport/core/ConnectClientStore") {}

/** The name under which links stand that are granted to a connecting client. */
export const grantedBy = "connect"

const unavailable = (cause: AccessRepositoryError) =>
  new ConnectClientError({ reason: new ConnectStoreUnavailable({ cause }) })

const isSecurityMode = Schema.is(SecurityMode)
const isThumbprint = Schema.is(Thumbprint)

const wholeMillis = (
  setting: keyof Options,
  duration: Duration.Input
): Effect.Effect<number, InvalidConnectOptions> => {
  const millis = Math.round(Duration.toMillis(duration))
  return millis > 0 && Number.isSafeInteger(millis)
    ? Effect.succeed(millis)
    : Effect.fail(new InvalidConnectOptions({ problem: `${setting} must be finite and at least 1 millisecond` }))
}

const positive = (setting: keyof Options, value: number): Effect.Effect<number, InvalidConnectOptions> =>
  Number.isSafeInteger(value) && value > 0
    ? Effect.succeed(value)
    : Effect.fail(new InvalidConnectOptions({ problem: `${setting} must be a whole number from 1` }))

/** Says what the row of a request that was made at some time tells who waits for it. */
const statusOf = (row: ConnectClientRow | undefined, waiter: {
  readonly account: string
  readonly requestedAtMillis: number
}, nowMillis: number): DecisionStatus => {
  if (row === undefined || row.account !== waiter.account || row.requestedAtMillis !== waiter.requestedAtMillis) {
    return row?.status === "blocked" ? "blocked" : "expired"
  }
  const status: ClientStatus = row.status
  if (status === "pending") return isWaiting(row, nowMillis) ? "pending" : "expired"
  return status === "observed" ? "expired" : status
}

/** Builds the service, which follows the access feed until the scope closes; {@link layer} is what most hosts want. */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  ConnectClientStore["Service"],
  InvalidConnectOptions,
  ConnectClientRepository | AccessFeedRepository | Digest.Digest | Scope.Scope
> {
  const repository = yield* ConnectClientRepository
  const digest = yield* Digest.Digest
  const pendingMillis = yield* wholeMillis("pendingLifetime", options.pendingLifetime ?? "1 day")
  const maxPending = yield* positive("maxPendingPerAccount", options.maxPendingPerAccount ?? 20)
  const maxObserved = yield* positive("maxObservedPerAccount", options.maxObservedPerAccount ?? 1_000)
  const backOffMillis = yield* wholeMillis("backOff", options.backOff ?? "1 minute")
  const maxBackOffMillis = yield* wholeMillis("maxBackOff", options.maxBackOff ?? "1 day")
  const maxWaiting = yield* positive("maxWaiting", options.maxWaiting ?? 1_000)
  const recheckMillis = yield* wholeMillis("recheckInterval", options.recheckInterval ?? "5 seconds")

  // Who waits, by the thumbprint of the client; each is woken once, and looks at the row.
  const waiting = new Map<string, Set<Deferred.Deferred<void>>>()
  let waitingCount = 0
  const wake = (key: string) => {
    for (const woken of waiting.get(key) ?? []) Deferred.doneUnsafe(woken, Effect.void)
  }
  yield* AccessFollower.make({
    trustMillis: recheckMillis,
    onEvents: (events: ReadonlyArray<AccessEvent>) => {
      for (const { change } of events) {
        if (change._tag === "connectClientUpserted") wake(change.client.proofKeyThumbprint)
        else if (change._tag === "connectClientRemoved") wake(change.proofKeyThumbprint)
      }
    },
    onGap: () => {
      for (const key of waiting.keys()) wake(key)
    }
  })

  const change = (actor: string): Effect.Effect<ChangeContext> =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => ({ actor, nowMillis }))

  const modeUnreadable = new ConnectClientError({ reason: new SecurityModeUnreadable() })

  const resolve = Effect.fnUntraced(function*(client: string) {
    const notFound = new ConnectClientError({ reason: new ClientNotFound({ thumbprint: client.slice(0, 64) }) })
    if (isThumbprint(client)) {
      const row = yield* Effect.mapError(repository.find(client), unavailable)
      return Option.isSome(row) ? row.value : yield* notFound
    }
    if (!/^[A-Za-z0-9_-]{1,42}$/.test(client)) return yield* notFound
    const [row, another] = yield* Effect.mapError(repository.findByPrefix(client), unavailable)
    if (row === undefined) return yield* notFound
    if (another !== undefined) {
      return yield* new ConnectClientError({ reason: new ClientAmbiguous({ prefix: client }) })
    }
    return row
  })

  return ConnectClientStore.of({
    securityMode: repository.storedMode.pipe(
      Effect.mapError(unavailable),
      Effect.flatMap((mode) => isSecurityMode(mode) ? Effect.succeed(mode) : Effect.fail(modeUnreadable)),
      Effect.withSpan("ConnectClientStore.securityMode")
    ),
    setSecurityMode: Effect.fn("ConnectClientStore.setSecurityMode")(function*({ by, mode, trust }) {
      const own = by === "operator" || by.proofKeyThumbprint === null ? [] : [by.proofKeyThumbprint]
      const rows = yield* Effect.mapError(
        repository.setMode({
          mode,
          trust: trust === "all" ? "all" : mode === "account" ? trust ?? [] : [...trust ?? [], ...own]
        }, yield* change(actorOf(by))),
        unavailable
      )
      return rows.map(toConnectClient)
    }),
    request: Effect.fn("ConnectClientStore.request")(function*(request) {
      const nowMillis = yield* Clock.currentTimeMillis
      const { account, proofKeyThumbprint } = request
      const code = yield* verificationCode({ proofKeyThumbprint, requestedAtMillis: nowMillis }).pipe(
        Effect.provideService(Digest.Digest, digest)
      )
      const outcome = yield* Effect.mapError(
        repository.request(
          {
            proofKeyThumbprint,
            account,
            label: request.label ?? null,
            deviceType: request.deviceType ?? "unknown",
            verificationCode: code,
            pendingMillis,
            maxPending,
            maxObserved
          },
          request.grant,
          { actor: account, nowMillis }
        ),
        unavailable
      )
      switch (outcome._tag) {
        case "Granted":
          return { _tag: "Granted", client: toConnectClient(outcome.row), mode: outcome.mode } satisfies RequestResult
        case "Pending":
          return { _tag: "Pending", client: toConnectClient(outcome.row) } satisfies RequestResult
        case "Refused": {
          const { row } = outcome
          return {
            _tag: "Refused",
            client: toConnectClient(row),
            status: row.status === "blocked" || row.status === "revoked" ? row.status : "rejected",
            askAgainAtMillis: row.askAgainAtMillis
          } satisfies RequestResult
        }
        case "TooMany":
          return { _tag: "TooMany" } satisfies RequestResult
        case "ModeUnreadable":
          return yield* modeUnreadable
      }
    }),
    decide: Effect.fn("ConnectClientStore.decide")(function*({ by, client, code, decision, reason }) {
      const row = yield* resolve(client)
      if (code !== undefined && code.toUpperCase() !== row.verificationCode) {
        return yield* new ConnectClientError({ reason: new RequestChanged({ client: toConnectClient(row) }) })
      }
      const outcome = yield* Effect.mapError(
        repository.decide({
          proofKeyThumbprint: row.proofKeyThumbprint,
          decision,
          reason: reason ?? null,
          // An approval is of the request that was looked at, whoever else may have asked with the key since.
          requestedAtMillis: code !== undefined || decision === "approved" ? row.requestedAtMillis : undefined,
          backOffMillis,
          maxBackOffMillis
        }, yield* change(actorOf(by))),
        unavailable
      )
      switch (outcome._tag) {
        case "Decided":
          return toConnectClient(outcome.row)
        case "Unknown":
          return yield* new ConnectClientError({ reason: new ClientNotFound({ thumbprint: client }) })
        case "Expired":
          return yield* new ConnectClientError({
            reason: new RequestExpired({ client: toConnectClient(outcome.row) })
          })
        case "Changed":
          return yield* new ConnectClientError({
            reason: new RequestChanged({ client: toConnectClient(outcome.row) })
          })
      }
    }),
    get: (client) => Effect.map(resolve(client), toConnectClient),
    list: Effect.fn("ConnectClientStore.list")(function*(request) {
      const after = request?.after
      const rows = yield* Effect.mapError(
        repository.list({
          after: after === undefined ? undefined : {
            requestedAtMillis: after.requestedAt.epochMilliseconds,
            proofKeyThumbprint: after.proofKeyThumbprint
          },
          limit: request?.limit ?? 200
        }),
        unavailable
      )
      return rows.map(toConnectClient)
    }),
    isAdmitted: (key) => Effect.mapError(repository.isAdmitted(key), unavailable),
    awaitDecision: Effect.fn("ConnectClientStore.awaitDecision")(function*(waiter) {
      const key = waiter.proofKeyThumbprint
      const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(waiter.timeout)
      if (waitingCount >= maxWaiting) {
        return yield* new ConnectClientError({ reason: new TooManyWaiting({ maximum: maxWaiting }) })
      }
      // Made before each look, so that a decision in between is not missed.
      const look = Effect.acquireUseRelease(
        Effect.sync(() => {
          const woken = Deferred.makeUnsafe<void>()
          waiting.set(key, (waiting.get(key) ?? new Set()).add(woken))
          waitingCount++
          return woken
        }),
        Effect.fnUntraced(function*(woken) {
          const row = Option.getOrUndefined(yield* Effect.mapError(repository.find(key), unavailable))
          const nowMillis = yield* Clock.currentTimeMillis
          const status = statusOf(row, waiter, nowMillis)
          if (status !== "pending" || nowMillis >= deadline) return status
          const untilMillis = Math.min(deadline, row?.pendingUntilMillis ?? deadline, nowMillis + recheckMillis)
          yield* Effect.timeoutOption(Deferred.await(woken), untilMillis - nowMillis)
          return undefined
        }),
        (woken) =>
          Effect.sync(() => {
            waitingCount--
            const set = waiting.get(key)
            set?.delete(woken)
            if (set?.size === 0) waiting.delete(key)
          })
      )
      while (true) {
        const status = yield* look
        if (status !== undefined) return status
      }
    })
  })
})

/** Provides the service with given settings. Fails when they cannot work. */
export const layerWith = (options: Options): Layer.Layer<
  ConnectClientStore,
  InvalidConnectOptions,
  ConnectClientRepository | AccessFeedRepository | Digest.Digest
> => Layer.effect(ConnectClientStore, make(options))

/** Provides the service with the default settings of {@link Options}. */
export const layer: Layer.Layer<
  ConnectClientStore,
  InvalidConnectOptions,
  ConnectClientRepository | AccessFeedRepository | Digest.Digest
> = layerWith({})

/**
 * Deletes requests that expired, and clients that were not heard of for long, again and again, in batches. Several
 * processes may do this at once. Approved and blocked clients stay.
 *
 * `retention` defaults to 90 days, `interval` to 10 minutes, `batchSize` to 100. A failure is logged, and tried again.
 */
export const layerSweeper = (options?: {
  readonly retention?: Duration.Input | undefined
  readonly interval?: Duration.Input | undefined
  readonly batchSize?: number | undefined
}): Layer.Layer<never, never, ConnectClientRepository> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const repository = yield* ConnectClientRepository
    const retentionMillis = Duration.toMillis(options?.retention ?? "90 days")
    const limit = options?.batchSize ?? 100
    yield* Effect.flatMap(Clock.currentTimeMillis, (nowMillis) =>
      repository.sweep(
        { idleBeforeMillis: Math.max(0, nowMillis - retentionMillis), limit },
        { actor: "system", nowMillis }
      )).pipe(
        Effect.repeat({ while: (swept) => swept >= limit }),
        Effect.catchCause((cause) =>
          Effect.logWarning("The sweeper of connecting clients failed; it tries again", cause)
        ),
        Effect.andThen(Effect.sleep(options?.interval ?? "10 minutes")),
        Effect.forever,
        Effect.withTracerEnabled(false),
        Effect.forkScoped
      )
  }))
