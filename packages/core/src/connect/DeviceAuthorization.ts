/**
 * Lets a device in that asks this server itself, without a relay (RFC 8628): it shows a user code, polls with a device code,
 * and goes on once its owner has approved it.
 *
 * A device is a client of {@link ConnectClientStore}: it stands in the same list, and the same decisions, events, bounds and
 * block list hold for it. An approval stores a pairing link for the device code, which the device then redeems.
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as AccessScope from "../access/AccessScope.ts"
import type { ConnectClient, DeviceType } from "../access/ConnectClient.ts"
import * as Attempts from "../access/internal/attempts.ts"
import * as CredentialDigest from "../access/internal/credentialDigest.ts"
import { scopesRule } from "../access/internal/inputRules.ts"
import * as PairingCode from "../access/PairingCode.ts"
import * as Input from "../Input.ts"
import { ConnectClientStore } from "./ConnectClientStore.ts"
import {
  type ConnectClientError,
  fail,
  InvalidInput,
  RequestRefused,
  ScopeNotGrantable,
  TooManyCodes,
  unavailable
} from "./internal/connectErrors.ts"
import {
  type InvalidDeviceAuthorizationOptions,
  type Options,
  type Settings,
  settings
} from "./internal/deviceOptions.ts"
import * as UserCode from "./internal/userCode.ts"

export { InvalidDeviceAuthorizationOptions, type Options } from "./internal/deviceOptions.ts"

/**
 * Holds what a device is given when it asks. The codes are shown here once.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeviceCodes {
  /** What the device polls with. */
  readonly deviceCode: Redacted.Redacted
  /** What the device shows, `XXXX-XXXX`. */
  readonly userCode: string
  readonly expiresIn: Duration.Duration
  /** How long to wait between two polls. */
  readonly interval: Duration.Duration
  readonly client: ConnectClient
}

/**
 * Names what a device that polls is told. `approved`: the code can be redeemed, once; `unknown`: it is no code of this
 * client's; `slow-down`: it polled too early, and has to wait 5 seconds longer each time from now on.
 *
 * @category models
 * @since 0.1.0
 */
export type PollStatus = "pending" | "slow-down" | "approved" | "denied" | "expired" | "unknown"

/**
 * Provides the device authorization grant.
 *
 * **Example** (Approving a device)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { ConnectClientStore, DeviceAuthorization, Repositories, SecretStore } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const devices = yield* DeviceAuthorization.DeviceAuthorization
 *   const clients = yield* ConnectClientStore.ConnectClientStore
 *   const { client, deviceCode, userCode } = yield* devices.request({ clientId: "my-cli", scopes: ["runs:read"] })
 *   yield* Console.log(yield* devices.poll({ clientId: "my-cli", deviceCode }))
 *   // => pending
 *   yield* clients.decide({ client: client.proofKeyThumbprint, decision: "approved", code: userCode, by: "operator" })
 *   yield* Console.log(yield* devices.poll({ clientId: "my-cli", deviceCode }))
 *   // => approved
 * })
 *
 * const Devices = DeviceAuthorization.layer.pipe(
 *   Layer.provideMerge(ConnectClientStore.layer),
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * Effect.runPromise(Effect.provide(program, Devices))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class DeviceAuthorization extends Context.Service<DeviceAuthorization, {
  /**
   * Takes a device's request. With the thumbprint of a key that it has proven, the request is that key's: it is refused if the
   * key is blocked or has to wait ({@link RequestRefused}), takes the place of the one before, and what follows is bound to
   * the key. Without one, the request is a client of its own, and a block reaches no other.
   */
  readonly request: (options: {
    readonly clientId: string
    readonly scopes?: ReadonlyArray<AccessScope.AccessScope> | undefined
    readonly label?: string | undefined
    readonly deviceType?: typeof DeviceType.Type | undefined
    readonly proofKeyThumbprint?: string | undefined
    /** Where the request comes from, such as an address. */
    readonly source?: string | undefined
  }) => Effect.Effect<DeviceCodes, ConnectClientError>
  /**
   * Tells a device where its request stands. With `wait`, the decision on a request is waited for that long, and the
   * answer comes with the decision.
   */
  readonly poll: (options: {
    readonly deviceCode: Redacted.Redacted
    readonly clientId: string
    readonly wait?: Duration.Input | undefined
  }) => Effect.Effect<PollStatus, ConnectClientError>
}>()("@sallyport/core/connect/DeviceAuthorization") {}

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | ConnectClientStore
  | Digest.Digest
  | Effect.Services<typeof CredentialDigest.make>
  | SecureRandom.SecureRandom

/**
 * Names what goes wrong if the key of the codes' digests can be neither read nor made.
 *
 * @category errors
 * @since 0.1.0
 */
export type BuildError = Effect.Error<typeof CredentialDigest.make>

const checkInput = Input.check((problem) => fail(new InvalidInput(problem)))
const statuses = {
  Pending: "pending",
  SlowDown: "slow-down",
  Approved: "approved",
  Denied: "denied",
  Expired: "expired",
  Unknown: "unknown"
} as const

const build = Effect.fnUntraced(function*({ requestsPerSource, scopes: offered }: Settings): Effect.fn.Return<
  DeviceAuthorization["Service"],
  BuildError,
  Requirements
> {
  const clients = yield* ConnectClientStore
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest
  const digestOf = yield* CredentialDigest.make
  // Those that wait are bounded per client by the store: what one source takes of that has to leave room for others.
  const attempts = yield* Attempts.make("device", {
    perSource: { attempts: requestsPerSource, windowMillis: 600_000 },
    total: { attempts: 1_000, windowMillis: 60_000 },
    growth: 1
  })
  const withRandom = Effect.provideService(SecureRandom.SecureRandom, random)
  const digestOfCode = (code: Redacted.Redacted) =>
    Option.match(CredentialDigest.canonical(Redacted.value(code)), {
      onNone: () => Effect.succeedNone,
      onSome: (text) => Effect.asSome(digestOf(text))
    })

  return DeviceAuthorization.of({
    request: Effect.fn("DeviceAuthorization.request")(function*(
      { clientId, proofKeyThumbprint, scopes, source, ...device }
    ) {
      yield* checkInput({ scopes: scopesRule }, { scopes })
      const asked = scopes === undefined || scopes.length === 0 ? offered : scopes
      const foreign = AccessScope.missing(offered, asked)
      if (foreign.length > 0) return yield* fail(new ScopeNotGrantable({ scopes: foreign, problem: "not-offered" }))
      const exceeded = yield* Effect.mapError(attempts.count(source), unavailable)
      if (Option.isSome(exceeded)) return yield* fail(new TooManyCodes({ retryAfterMillis: exceeded.value }))
      const code = yield* withRandom(PairingCode.generate("machine"))
      const deviceCode = Redacted.make(Redacted.value(code), { label: "device-code" })
      const codeDigest = Option.getOrThrow(yield* digestOfCode(deviceCode))
      const result = yield* clients.requestDevice({
        ...device,
        account: clientId,
        verificationCode: yield* withRandom(UserCode.generate()),
        // A device without a key is known by its request, which no other has.
        proofKeyThumbprint: proofKeyThumbprint ??
          Base64Url.encode(yield* digest.digest(Digest.sha256, new TextEncoder().encode(codeDigest))),
        device: {
          codeDigest,
          linkId: yield* random.uuidV7(),
          scopes: asked,
          isProven: proofKeyThumbprint !== undefined
        }
      })
      if (result._tag !== "Pending") {
        return yield* fail(
          new RequestRefused({
            status: result._tag === "Refused" ? result.status : "too-many"
          })
        )
      }
      const { client, intervalMillis } = result
      return {
        client,
        deviceCode,
        userCode: client.verificationCode,
        interval: Duration.millis(intervalMillis),
        expiresIn: Duration.millis(
          (client.pendingUntil?.epochMilliseconds ?? 0) - client.requestedAt.epochMilliseconds
        )
      }
    }),
    poll: Effect.fn("DeviceAuthorization.poll")(function*({ clientId, deviceCode, wait }) {
      const deviceCodeDigest = yield* digestOfCode(deviceCode)
      if (Option.isNone(deviceCodeDigest)) return "unknown"
      const poll = clients.pollDevice({ deviceCodeDigest: deviceCodeDigest.value, account: clientId })
      const first = yield* poll
      if (first._tag !== "Pending" || wait === undefined) return statuses[first._tag]
      const decision = yield* clients.awaitDecision({
        proofKeyThumbprint: first.row.proofKeyThumbprint,
        account: clientId,
        requestedAtMillis: first.row.requestedAtMillis,
        timeout: wait
      })
      return decision === "pending" ? "pending" : statuses[(yield* poll)._tag]
    })
  })
})

/**
 * Creates the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  DeviceAuthorization["Service"],
  InvalidDeviceAuthorizationOptions | BuildError,
  Requirements
> => AccessScope.Vocabulary.use((vocabulary) => Effect.flatMap(settings(vocabulary).fromObject(options), build))

/**
 * Provides the service with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  DeviceAuthorization,
  InvalidDeviceAuthorizationOptions | BuildError,
  Requirements
> => Layer.effect(DeviceAuthorization, make(options))

/**
 * Provides the service with the options of the configuration, in variables that begin with `SALLYPORT_DEVICE_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  DeviceAuthorization,
  Config.ConfigError | InvalidDeviceAuthorizationOptions | BuildError,
  Requirements
> = Layer.effect(
  DeviceAuthorization,
  AccessScope.Vocabulary.use((vocabulary) => Effect.flatMap(settings(vocabulary).fromConfig, build))
)

/**
 * Provides the service with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DeviceAuthorization, BuildError, Requirements> = Layer.effect(
  DeviceAuthorization,
  AccessScope.Vocabulary.use((vocabulary) => Effect.flatMap(settings(vocabulary).defaults, build))
)
