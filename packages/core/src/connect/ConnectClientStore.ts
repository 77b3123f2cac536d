/**
 * Decides who may connect, through a relay or as a device of its own: a client asks, its owner decides, and the decision
 * reaches everything that the client has.
 *
 * The policy is here once, over whichever {@link ConnectClientRepository} the host provides. A decision and what it ends
 * commit together; a grant is stored with the answer that it belongs to, so that one that was overtaken by a decision is
 * ended by it.
 */
import { AccessRepository } from "../access/AccessRepository.ts"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { ChangeContext } from "../access/AccessEvent.ts"
import type { PairingLinkRow } from "../access/BootstrapCredentialRepository.ts"
import {
  ClientLabel,
  type ConnectClient,
  type DecisionStatus,
  DeviceType,
  SecurityMode,
  Thumbprint,
  verificationCode
} from "../access/ConnectClient.ts"
import { type AccessScope, missing } from "../access/AccessScope.ts"
import { defaultSubject } from "../access/BootstrapCredentialService.ts"
import {
  type Ask,
  Decision,
  type DeviceRequest,
  type PollOutcome,
  toConnectClient
} from "../access/ConnectClientRepository.ts"
import * as Attempts from "../access/internal/attempts.ts"
import * as UserCode from "./internal/userCode.ts"
import {
  ApproverEnded,
  ClientAmbiguous,
  ClientNotFound,
  CodeNeeded,
  type ConnectClientError,
  fail,
  InvalidInput,
  ReasonNotAllowed,
  RequestChanged,
  RequestExpired,
  ScopeNotGrantable,
  SecurityModeUnreadable,
  TooManyCodes,
  unavailable
} from "./internal/connectErrors.ts"
import {
  type InvalidConnectClientStoreOptions,
  type Options,
  type Settings,
  settings
} from "./internal/connectOptions.ts"
import * as DecisionWaits from "./internal/decisionWaits.ts"
import type { Waiter } from "./internal/decisionWaits.ts"
import * as AccessFollower from "../access/internal/accessFollower.ts"
import { actorOf, type Principal } from "../access/Principal.ts"
import * as Metrics from "../Metrics.ts"
import * as Sweeper from "../Sweeper.ts"
import { subjectRule } from "../access/internal/inputRules.ts"
import * as Input from "../Input.ts"
import * as Text from "../Text.ts"

export { grantedBy } from "../access/ConnectClientRepository.ts"
export {
  ApproverEnded,
  ClientAmbiguous,
  ClientNotFound,
  CodeNeeded,
  ConnectClientError,
  ConnectStoreUnavailable,
  RequestChanged,
  RequestExpired,
  InvalidInput,
  SecurityModeUnreadable,
  ReasonNotAllowed,
  ScopeNotGrantable,
  TooManyCodes,
  TooManyWaiting
} from "./internal/connectErrors.ts"
export { InvalidConnectClientStoreOptions, type Options } from "./internal/connectOptions.ts"
export type { Waiter } from "./internal/decisionWaits.ts"

/**
 * Describes what came of a request. Only `Granted` lets the client in.
 *
 * @category models
 * @since 0.1.0
 */
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

/**
 * Provides the approval of connecting clients.
 *
 * **Example** (Approving a client)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { ConnectClientStore, Repositories } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const clients = yield* ConnectClientStore.ConnectClientStore
 *   yield* clients.setSecurityMode({ mode: "client-approval", by: "operator" })
 *   const request = clients.request({
 *     proofKeyThumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
 *     account: "ada",
 *     label: "phone"
 *   })
 *   const first = yield* request
 *   yield* Console.log(first._tag)
 *   // => Pending
 *   yield* clients.decide({ client: "0ZcOCO", decision: "approved", by: "operator" })
 *   const second = yield* request
 *   yield* Console.log(second._tag)
 *   // => Granted
 * })
 *
 * const Clients = ConnectClientStore.layer.pipe(Layer.provide([Repositories.layerMemory, NodeCrypto.layer]))
 *
 * Effect.runPromise(Effect.provide(program, Clients))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class ConnectClientStore extends Context.Service<ConnectClientStore, {
  /** Returns who may connect. Fails with {@link SecurityModeUnreadable} rather than guess. */
  readonly securityMode: Effect.Effect<SecurityMode, ConnectClientError>
  /**
   * Sets who may connect, and approves clients that only their account let in so far: all of them, or those named by their
   * whole thumbprints. If the mode becomes `client-approval`, what the others of them have ends. A session that turns
   * approval on keeps the client that it is bound to. Returns the clients that were approved.
   */
  readonly setSecurityMode: (options: {
    readonly mode: SecurityMode
    readonly trust?: "all" | ReadonlyArray<string> | undefined
    readonly by: Principal
  }) => Effect.Effect<ReadonlyArray<ConnectClient>, ConnectClientError>
  /**
   * Takes a client's request, in one atomic step: the answer is the state after it. If the client is let in, `grant` is
   * stored as a pairing link in the same step. Fails with {@link SecurityModeUnreadable} if the mode cannot be told.
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
   * not approved has, and all that descends from it, ends in the same step. With `code`, the decision is about the request
   * with that verification code only, and fails with {@link RequestChanged} if it is another one. Deciding the same twice is
   * a success.
   *
   * A device is approved with its code only ({@link CodeNeeded}), for the subject of the session that approves, and is
   * granted `scopes`: what it asks for, or less, and nothing that this session lacks ({@link ScopeNotGrantable}).
   */
  readonly decide: (options: {
    readonly client: string
    readonly decision: Decision
    readonly by: Principal
    readonly reason?: string | undefined
    readonly code?: string | undefined
    readonly scopes?: ReadonlyArray<AccessScope> | undefined
  }) => Effect.Effect<ConnectClient, ConnectClientError>
  /**
   * Takes the request of a device (RFC 8628), which waits for its owner in either mode. `codeDigest` is that of the code that
   * the device polls with, under which an approval stores the pairing link `linkId`.
   */
  readonly requestDevice: (options: {
    readonly proofKeyThumbprint: string
    readonly account: string
    readonly label?: string | undefined
    readonly deviceType?: typeof DeviceType.Type | undefined
    readonly verificationCode: string
    readonly device: Pick<DeviceRequest, "isProven" | "linkId" | "scopes"> & { readonly codeDigest: string }
  }) => Effect.Effect<RequestResult & { readonly intervalMillis: number }, ConnectClientError>
  /** Tells a device that polls where its request stands; see `pollVerdict` of `ConnectClientRepository`. */
  readonly pollDevice: (options: {
    readonly deviceCodeDigest: string
    readonly account: string
  }) => Effect.Effect<PollOutcome, ConnectClientError>
  /**
   * Returns the device that waits with a user code, in any case and with any punctuation. Wrong codes are counted by `source`,
   * such as the session that asks; past five in ten minutes every code is refused, a right one too: {@link TooManyCodes}.
   */
  readonly findByCode: (code: string, source?: string) => Effect.Effect<ConnectClient, ConnectClientError>
  /** Returns the client with a thumbprint, or with a beginning of it that no other client has. */
  readonly get: (client: string) => Effect.Effect<ConnectClient, ConnectClientError>
  /** Returns clients, who asked last first; at most `limit`, by default 200, after a client if one is given. */
  readonly list: (options?: {
    readonly after?: Pick<ConnectClient, "proofKeyThumbprint" | "requestedAt"> | undefined
    readonly limit?: number | undefined
  }) => Effect.Effect<ReadonlyArray<ConnectClient>, ConnectClientError>
  /**
   * Waits until the request that a client made is decided, or the time is up, and says how. It learns of a decision as soon
   * as the access feed tells of it, whichever process decides.
   */
  readonly awaitDecision: (waiter: Waiter) => Effect.Effect<DecisionStatus, ConnectClientError>
}>()("@sallyport/core/connect/ConnectClientStore") {}

const checkInput = Input.check((problem) => fail(new InvalidInput(problem)))
const thumbprintRule = Input.rule(Thumbprint, "a JWK thumbprint (RFC 7638) of 43 characters")

const isSecurityMode = Schema.is(SecurityMode)
const isThumbprint = Schema.is(Thumbprint)

const requestRules = {
  proofKeyThumbprint: thumbprintRule,
  account: subjectRule,
  label: Input.rule(ClientLabel, "a line of up to 128 characters"),
  deviceType: Input.oneOf(DeviceType)
}
const waiterRules = { proofKeyThumbprint: thumbprintRule, account: subjectRule }
const trustRule = Input.rule(
  Schema.Union([Schema.Literal("all"), Schema.Array(Thumbprint)]),
  `"all", or thumbprints of clients`
)

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements = AccessRepository | Digest.Digest

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  ConnectClientStore["Service"],
  never,
  Requirements | Scope.Scope
> {
  const { clients: repository, feed } = yield* AccessRepository
  const digest = yield* Digest.Digest
  const { backOffMillis, deviceMillis, intervalMillis, maxBackOffMillis, maxObserved, maxPending, pendingMillis } =
    settings
  const guesses = yield* Attempts.make("device-code", {
    perSource: { attempts: 5, windowMillis: 600_000 },
    total: { attempts: 1_000, windowMillis: 60_000 }
  })
  const awaitDecision = yield* DecisionWaits.make(repository, settings)

  const change = (actor: string): Effect.Effect<ChangeContext> =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => ({ actor, nowMillis }))

  const modeUnreadable = fail(new SecurityModeUnreadable())

  const resolve = Effect.fnUntraced(function*(client: string) {
    const notFound = fail(new ClientNotFound({ thumbprint: client.slice(0, 64) }))
    if (isThumbprint(client)) {
      const row = yield* Effect.mapError(repository.find(client), unavailable)
      return Option.isSome(row) ? row.value : yield* notFound
    }
    if (!/^[A-Za-z0-9_-]{1,42}$/.test(client)) return yield* notFound
    const [row, another] = yield* Effect.mapError(repository.findByPrefix(client), unavailable)
    if (row === undefined) return yield* notFound
    if (another !== undefined) {
      return yield* fail(new ClientAmbiguous({ prefix: client }))
    }
    return row
  })

  const request = Effect.fnUntraced(function*(ask: Ask, grant: PairingLinkRow | undefined, nowMillis: number) {
    const outcome = yield* Effect.mapError(
      repository.request(ask, grant, { actor: ask.account, nowMillis }),
      unavailable
    )
    yield* Metrics.connectRequests(1, { result: outcome._tag })
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
  })

  return ConnectClientStore.of({
    securityMode: repository.storedMode.pipe(
      Effect.mapError(unavailable),
      Effect.flatMap((mode) => isSecurityMode(mode) ? Effect.succeed(mode) : Effect.fail(modeUnreadable)),
      Effect.withSpan("ConnectClientStore.securityMode")
    ),
    setSecurityMode: Effect.fn("ConnectClientStore.setSecurityMode")(function*({ by, mode, trust }) {
      yield* checkInput({ mode: Input.oneOf(SecurityMode), trust: trustRule }, { mode, trust })
      const own = by === "operator" || by.proofKeyThumbprint === null ? [] : [by.proofKeyThumbprint]
      const rows = yield* Effect.mapError(
        repository.setMode({
          mode,
          keep: by === "operator" ? undefined : by.id,
          trust: trust === "all" ? "all" : mode === "account" ? trust ?? [] : [...trust ?? [], ...own]
        }, yield* change(actorOf(by))),
        unavailable
      )
      yield* AccessFollower.lookNow(feed)
      return rows.map(toConnectClient)
    }),
    request: Effect.fn("ConnectClientStore.request")(function*(asked) {
      yield* checkInput(requestRules, asked)
      const nowMillis = yield* Clock.currentTimeMillis
      const { account, proofKeyThumbprint } = asked
      const code = yield* verificationCode({ proofKeyThumbprint, requestedAtMillis: nowMillis }).pipe(
        Effect.provideService(Digest.Digest, digest)
      )
      return yield* request(
        {
          proofKeyThumbprint,
          account,
          label: asked.label ?? null,
          deviceType: asked.deviceType ?? "unknown",
          verificationCode: code,
          pendingMillis,
          maxPending,
          maxObserved
        },
        asked.grant,
        nowMillis
      )
    }),
    requestDevice: Effect.fn("ConnectClientStore.requestDevice")(function*(asked) {
      yield* checkInput(requestRules, asked)
      const result = yield* request(
        {
          proofKeyThumbprint: asked.proofKeyThumbprint,
          account: asked.account,
          label: asked.label ?? null,
          deviceType: asked.deviceType ?? "unknown",
          verificationCode: asked.verificationCode,
          pendingMillis: deviceMillis,
          maxPending,
          maxObserved,
          device: { ...asked.device, intervalMillis }
        },
        undefined,
        yield* Clock.currentTimeMillis
      )
      return { ...result, intervalMillis }
    }),
    pollDevice: Effect.fn("ConnectClientStore.pollDevice")(function*(polled) {
      return yield* Effect.mapError(repository.poll(polled, yield* change(polled.account)), unavailable)
    }),
    findByCode: Effect.fn("ConnectClientStore.findByCode")(function*(code, source) {
      const notFound = fail(new ClientNotFound({ thumbprint: "with this code" }))
      const read = UserCode.parse(code)
      // What can be no code is a mistake, and no guess.
      if (Option.isNone(read)) return yield* notFound
      const exceeded = yield* Effect.mapError(guesses.count(source), unavailable)
      if (Option.isSome(exceeded)) return yield* fail(new TooManyCodes({ retryAfterMillis: exceeded.value }))
      const [row, another] = yield* Effect.mapError(
        repository.findByCode({ verificationCode: read.value, nowMillis: yield* Clock.currentTimeMillis }),
        unavailable
      )
      if (row === undefined || another !== undefined) return yield* notFound
      yield* Effect.mapError(guesses.forgive(source), unavailable)
      return toConnectClient(row)
    }),
    decide: Effect.fn("ConnectClientStore.decide")(function*({ by, client, code, decision, reason, scopes }) {
      yield* checkInput({ decision: Input.oneOf(Decision) }, { decision })
      if (reason !== undefined && !Text.isLine(reason, 256)) return yield* fail(new ReasonNotAllowed())
      const row = yield* resolve(client)
      const shown = code === undefined || row.device === null
        ? code?.toUpperCase()
        : Option.getOrElse(UserCode.parse(code), () => code)
      if (shown !== undefined && shown !== row.verificationCode) {
        return yield* fail(new RequestChanged({ client: toConnectClient(row) }))
      }
      const session = by === "operator" ? undefined : by
      const granted = scopes ?? row.device?.scopes ?? []
      if (decision === "approved") {
        const foreign = missing(row.device?.scopes ?? [], granted)
        if (foreign.length > 0) return yield* fail(new ScopeNotGrantable({ scopes: foreign, problem: "not-requested" }))
        const lacking = session === undefined ? [] : missing(session.scopes, granted)
        if (lacking.length > 0) return yield* fail(new ScopeNotGrantable({ scopes: lacking, problem: "not-held" }))
        if (row.device !== null && code === undefined) return yield* fail(new CodeNeeded())
      }
      const outcome = yield* Effect.mapError(
        repository.decide({
          proofKeyThumbprint: row.proofKeyThumbprint,
          decision,
          keep: by === "operator" ? undefined : by.id,
          reason: reason ?? null,
          // An approval is of the request that was looked at, whichever request may have come with the key since.
          requestedAtMillis: code !== undefined || decision === "approved" ? row.requestedAtMillis : undefined,
          backOffMillis,
          maxBackOffMillis,
          grant: row.device === null
            ? undefined
            : { subject: session?.subject ?? defaultSubject, scopes: granted, by: session }
        }, yield* change(actorOf(by))),
        unavailable
      )
      // Before the answer, this process forgets the sessions that the decision has ended.
      yield* AccessFollower.lookNow(feed)
      switch (outcome._tag) {
        case "Decided":
          yield* Metrics.connectDecisions(1, { decision })
          return toConnectClient(outcome.row)
        case "Unknown":
          return yield* fail(new ClientNotFound({ thumbprint: client }))
        case "Expired":
          return yield* fail(new RequestExpired({ client: toConnectClient(outcome.row) }))
        case "Changed":
          return yield* fail(new RequestChanged({ client: toConnectClient(outcome.row) }))
        case "ApproverEnded":
          return yield* fail(new ApproverEnded())
      }
    }),
    get: Effect.fn("ConnectClientStore.get")(function*(client) {
      return toConnectClient(yield* resolve(client))
    }),
    list: Effect.fn("ConnectClientStore.list")(function*(request) {
      const after = request?.after
      yield* checkInput({ limit: Input.count, after: thumbprintRule }, { ...request, after: after?.proofKeyThumbprint })
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
    awaitDecision: (waiter) => Effect.andThen(checkInput(waiterRules, waiter), awaitDecision(waiter))
  })
})

/**
 * Creates the service, which follows the access feed until the scope closes; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  ConnectClientStore["Service"],
  InvalidConnectClientStoreOptions,
  Requirements | Scope.Scope
> => Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the service with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  ConnectClientStore,
  InvalidConnectClientStoreOptions,
  Requirements
> => Layer.effect(ConnectClientStore, make(options))

/**
 * Provides the service with the options of the configuration, in variables that begin with `SALLYPORT_CONNECT_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  ConnectClientStore,
  Config.ConfigError | InvalidConnectClientStoreOptions,
  Requirements
> = Layer.effect(ConnectClientStore, Effect.flatMap(settings.fromConfig, build))

/**
 * Provides the service with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<ConnectClientStore, never, Requirements> = Layer.effect(
  ConnectClientStore,
  Effect.flatMap(settings.defaults, build)
)

/**
 * Deletes requests that expired, and clients that were not heard of for long, again and again, in batches. Several
 * processes may do this at once. Approved and blocked clients stay.
 *
 * `retention` defaults to 90 days, `interval` to 10 minutes, `batchSize` to 100. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.RetentionOptions
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, AccessRepository> =>
  Sweeper.layer({
    name: "connecting clients",
    options,
    defaults: { interval: "10 minutes", batchSize: 100, retention: "90 days" },
    sweep: Effect.map(AccessRepository, ({ clients: repository }) => (limit, nowMillis, idleBeforeMillis) =>
      repository.sweep({ idleBeforeMillis, limit }, { actor: "system", nowMillis }))
  })
