/**
 * Speaks for a relay to the environments that are linked to it: signs a request, sends it to the registered address and to
 * nowhere else, and believes an answer only if each of its fields is a claim of the environment's proof.
 */
import {
  HealthAnswer,
  HealthProof,
  MintAnswer,
  MintProof,
  type PublicKey,
  RelayKeyAnswer,
  RelayKeyProof,
  typ,
  WaitAnswer,
  WaitProof
} from "@sallyport/contract/ConnectProtocol"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import type { DeviceType } from "@sallyport/core/access/ConnectClient"
import { believedKeys, type RelayEnvironmentRow } from "./RelayEnvironmentRepository.ts"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Identity from "./Identity.ts"
import { readAtMost } from "@sallyport/core/BoundedHttp"
import {
  type InvalidEnvironmentConnectorOptions,
  type Options,
  type Settings,
  settings
} from "./internal/connectorOptions.ts"
import * as Jwt from "./internal/jwt.ts"

export { InvalidEnvironmentConnectorOptions, type Options } from "./internal/connectorOptions.ts"

/**
 * Reports that an environment did not answer: it is not there, is too slow, or turned the request down.
 *
 * @category errors
 * @since 0.1.0
 */
export class EnvironmentUnreachable extends Schema.TaggedError<EnvironmentUnreachable>()("EnvironmentUnreachable", {
  environmentId: Schema.String,
  problem: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `The environment ${this.environmentId} did not answer as it should: ${this.problem}; see that it runs, then try again`
  }
}

/**
 * Reports an answer that is not to be believed. `problem` is for the log, which has it as the cause.
 *
 * @category errors
 * @since 0.1.0
 */
export class AnswerRefused extends Schema.TaggedError<AnswerRefused>()("AnswerRefused", {
  environmentId: Schema.String,
  problem: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `The environment ${this.environmentId} gave an answer that it did not prove; link it again if its key has changed`
  }
}

/**
 * Reports an environment that knows no key of the relay: it did not confirm the new one before the old one was dropped.
 *
 * @category errors
 * @since 0.1.0
 */
export class RelayKeyUnknown extends Schema.TaggedError<RelayKeyUnknown>()("RelayKeyUnknown", {
  environmentId: Schema.String
}) {
  override get message() {
    return `The environment ${this.environmentId} was away while the relay replaced its key; link it again`
  }
}

/**
 * Reports that the relay's own key could not be read. `cause` says why.
 *
 * @category errors
 * @since 0.1.0
 */
export class RelayKeyUnreadable extends Schema.TaggedError<RelayKeyUnreadable>()("RelayKeyUnreadable", {
  cause: Schema.Defect()
}) {
  override get message() {
    return "The relay cannot read its key at the moment; try again later"
  }
}

/**
 * Reports why an environment could not be asked, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
export class EnvironmentConnectorError
  extends Schema.TaggedError<EnvironmentConnectorError>()("EnvironmentConnectorError", {
    reason: Schema.Union([EnvironmentUnreachable, AnswerRefused, RelayKeyUnknown, RelayKeyUnreadable])
  })
{
  override get message() {
    return this.reason.message
  }
}

/**
 * Names a client of an account.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client {
  readonly account: string
  readonly proofKeyThumbprint: string
}

/**
 * Provides a relay's requests to environments.
 *
 * @category services
 * @since 0.1.0
 */
export class EnvironmentConnector extends Context.Service<EnvironmentConnector, {
  /** The name under which the relay signs. A rotation of its key does not change it. */
  readonly relayId: string
  /** The relay's newest key, which is what an environment that is being linked is told. */
  readonly newestKey: Effect.Effect<PublicKey, EnvironmentConnectorError>
  /** Refuses an address that no environment may have: each request checks that of the environment in the same way. */
  readonly checkAddress: (url: string) => Effect.Effect<void, PublicHttp.AddressRefused>
  /** Asks for a credential for a client. */
  readonly mint: (
    environment: RelayEnvironmentRow,
    client: Client & {
      readonly label: string | null
      readonly deviceType: typeof DeviceType.Type
    }
  ) => Effect.Effect<MintAnswer, EnvironmentConnectorError>
  /** Waits for the decision about a client's request, up to a minute. */
  readonly wait: (
    environment: RelayEnvironmentRow,
    client: Client & {
      readonly requestedAtMillis: number
      readonly waitSeconds: number
    }
  ) => Effect.Effect<typeof WaitAnswer.Type, EnvironmentConnectorError>
  /** Has an environment prove that it is there. */
  readonly health: (
    environment: RelayEnvironmentRow
  ) => Effect.Effect<typeof HealthAnswer.Type, EnvironmentConnectorError>
  /** Tells an environment of another key of the relay, and has it prove that it knows it from now on. */
  readonly tellKey: (environment: RelayEnvironmentRow, key: PublicKey) => Effect.Effect<void, EnvironmentConnectorError>
}>()("@sallyport/connect/EnvironmentConnector") {}

const encoder = new TextEncoder()

/** The claims of a proof that are its own, and not fields of the body. */
const envelope = new Set(["iss", "aud", "iat", "exp"])

/**
 * Returns the first field in which a body, as it was sent, differs from its proof's claims, or undefined. The proof
 * itself, and a credential whose digest is a claim, are in the body alone.
 */
const differingField = (
  body: Readonly<Record<string, unknown>>,
  claims: Readonly<Record<string, unknown>>
): string | undefined => {
  const own = new Set(["proof", "credential"])
  const names = new Set([...Object.keys(body), ...Object.keys(claims)])
  for (const name of names) {
    if (own.has(name) || envelope.has(name)) continue
    // Every field is text, a number or null.
    if (body[name] !== claims[name]) return name
  }
  return undefined
}

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements = SecretStore.SecretStore | SecureRandom.SecureRandom | Digest.Digest

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  EnvironmentConnector["Service"],
  SecretStore.SecretStoreError,
  HttpClient.HttpClient | Requirements
> {
  const http = yield* HttpClient.HttpClient
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest
  const secrets = yield* SecretStore.SecretStore
  // The keys are read for each request: another process of the relay may be replacing one.
  const readKeys = Effect.provideService(Identity.ring(Identity.relayKeyName), SecretStore.SecretStore, secrets)
  const keys = Effect.mapError(
    readKeys,
    (cause) => new EnvironmentConnectorError({ reason: new RelayKeyUnreadable({ cause }) })
  )
  const relayId = (yield* readKeys).id
  const checkAddress = yield* PublicHttp.makeCheck({ loopback: settings.loopbackEnvironments })
  const once = Effect.map(random.randomBytes(24), Base64Url.encode)

  const send = Effect.fnUntraced(function*<A extends { readonly proof: string }, P extends object, E1, E2>(request: {
    readonly environment: RelayEnvironmentRow
    readonly path: string
    readonly requestTyp: string
    readonly answerTyp: string
    readonly claims: Readonly<Record<string, unknown>>
    readonly answer: Schema.Codec<A, E1>
    readonly proof: Schema.Codec<P, E2>
    readonly client: Client | undefined
    readonly waitSeconds: number
  }) {
    const { environment } = request
    const environmentId = environment.id
    const unreachable = (problem: string, cause?: HttpClientError.HttpClientError) =>
      new EnvironmentConnectorError({
        reason: new EnvironmentUnreachable({ environmentId, problem, ...(cause === undefined ? {} : { cause }) })
      })
    const refuse = (problem: string) =>
      new EnvironmentConnectorError({
        reason: new AnswerRefused({ environmentId, problem, cause: new Error(problem) })
      })
    yield* Effect.mapError(checkAddress(environment.url), ({ problem }) => unreachable(problem))
    const jti = yield* once
    const nonce = yield* once
    const { current, next } = yield* keys
    const identity = [current, ...Option.toArray(next).map(({ identity }) => identity)]
      .find(({ publicKey }) => publicKey.kid === (environment.relayKeyId ?? relayId))
    if (identity === undefined) {
      return yield* new EnvironmentConnectorError({ reason: new RelayKeyUnknown({ environmentId }) })
    }
    const signed = yield* identity.sign(request.requestTyp, {
      ...request.claims,
      iss: relayId,
      aud: environmentId,
      jti,
      nonce
    })
    const text = yield* Effect.gen(function*() {
      const response = yield* http.execute(
        HttpClientRequest.bodyJsonUnsafe(
          HttpClientRequest.post(`${environment.url.replace(/(?<!\/)\/+$/, "")}${request.path}`, {
            headers: { accept: "application/json" }
          }),
          { request: signed }
        )
      )
      const bytes = yield* readAtMost(response, settings.maxAnswerBytes, () => unreachable("its answer is too long"))
      if (response.status !== 200) return yield* unreachable(`it answered ${response.status}`)
      return new TextDecoder().decode(bytes)
    }).pipe(
      Effect.timeoutOrElse({
        duration: settings.timeoutMillis + request.waitSeconds * 1000,
        orElse: () => Effect.fail(unreachable("it took too long"))
      }),
      Effect.catchTag(
        "HttpClientError",
        (error) => Effect.fail(unreachable(PublicHttp.refusalOf(error)?.problem ?? "it cannot be reached", error))
      )
    )

    const raw = yield* Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Json)))(
      text
    ).pipe(Effect.mapError(() => refuse("it is no JSON object")))
    const answer = yield* Schema.decodeUnknownEffect(request.answer)(raw, { onExcessProperty: "error" }).pipe(
      Effect.mapError(() => refuse("its form"))
    )
    const kid = Option.getOrUndefined(Jwt.keyIdOf(answer.proof))
    const key = believedKeys(environment, yield* Clock.currentTimeMillis).find((believed) => believed.kid === kid)
    if (key === undefined) return yield* refuse("unknown key")
    const claims = yield* Jwt.verify(answer.proof, {
      key,
      typ: request.answerTyp,
      issuer: environmentId,
      audience: relayId,
      claims: request.proof
    }).pipe(Effect.mapError((error) => refuse(error.problem)))
    const proven: Readonly<Record<string, unknown>> = Object.fromEntries(Object.entries(claims))
    const differing = differingField(raw, proven)
    if (differing !== undefined) return yield* refuse(`${differing} is not what the proof says`)
    if (proven.nonce !== nonce || proven.requestId !== jti) return yield* refuse("it answers another request")
    const { client } = request
    if (
      client !== undefined &&
      (proven.account !== client.account || proven.clientProofKeyThumbprint !== client.proofKeyThumbprint)
    ) {
      return yield* refuse("it is about another client")
    }
    return { answer, refuse }
  })

  return EnvironmentConnector.of({
    relayId,
    checkAddress,
    newestKey: Effect.map(
      keys,
      ({ current, next }) => Option.match(next, { onNone: () => current, onSome: ({ identity }) => identity }).publicKey
    ).pipe(Effect.withSpan("EnvironmentConnector.newestKey")),
    mint: Effect.fn("EnvironmentConnector.mint")(function*(environment, client) {
      const { answer, refuse } = yield* send({
        environment,
        path: "/api/connect/mint-credential",
        requestTyp: typ.mintRequest,
        answerTyp: typ.mintAnswer,
        claims: {
          sub: client.account,
          cnf: { jkt: client.proofKeyThumbprint },
          label: client.label,
          deviceType: client.deviceType
        },
        answer: MintAnswer,
        proof: MintProof,
        client,
        waitSeconds: 0
      })
      if (answer.status === "credential") {
        const found = yield* digest.digestHex(Digest.sha256, encoder.encode(Redacted.value(answer.credential)))
        if (found !== answer.credentialDigest) return yield* refuse("the credential is not the one of the proof")
      }
      return answer
    }),
    wait: Effect.fn("EnvironmentConnector.wait")(function*(environment, client) {
      const { answer, refuse } = yield* send({
        environment,
        path: "/api/connect/await-decision",
        requestTyp: typ.waitRequest,
        answerTyp: typ.waitAnswer,
        claims: {
          sub: client.account,
          cnf: { jkt: client.proofKeyThumbprint },
          requestedAt: client.requestedAtMillis,
          waitSeconds: client.waitSeconds
        },
        answer: WaitAnswer,
        proof: WaitProof,
        client,
        waitSeconds: client.waitSeconds
      })
      if (answer.requestedAt !== client.requestedAtMillis) return yield* refuse("it is about another request")
      return answer
    }),
    health: Effect.fn("EnvironmentConnector.health")(function*(environment) {
      const { answer } = yield* send({
        environment,
        path: "/api/connect/health",
        requestTyp: typ.healthRequest,
        answerTyp: typ.healthAnswer,
        claims: {},
        answer: HealthAnswer,
        proof: HealthProof,
        client: undefined,
        waitSeconds: 0
      })
      return answer
    }),
    tellKey: Effect.fn("EnvironmentConnector.tellKey")(function*(environment, key) {
      const { answer, refuse } = yield* send({
        environment,
        path: "/api/connect/relay-keys",
        requestTyp: typ.relayKeyRequest,
        answerTyp: typ.relayKeyAnswer,
        claims: { key },
        answer: RelayKeyAnswer,
        proof: RelayKeyProof,
        client: undefined,
        waitSeconds: 0
      })
      if (answer.keyId !== key.kid) return yield* refuse("it is about another key")
    })
  })
})

/** Creates the service on a client that calls no other addresses than the service does. */
const buildPublic = Effect.fnUntraced(function*(settings: Settings) {
  const http = yield* PublicHttp.make({ loopback: settings.loopbackEnvironments })
  return yield* Effect.provideService(build(settings), HttpClient.HttpClient, http)
})

/**
 * Creates the service on an HTTP client that must not follow redirects, and must not reach addresses that are not public,
 * as that of `PublicHttp`; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  EnvironmentConnector["Service"],
  InvalidEnvironmentConnectorOptions | SecretStore.SecretStoreError,
  HttpClient.HttpClient | Requirements
> => Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the connector with given options. It connects to public addresses only. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  EnvironmentConnector,
  InvalidEnvironmentConnectorOptions | SecretStore.SecretStoreError,
  Requirements
> => Layer.effect(EnvironmentConnector, Effect.flatMap(settings.fromObject(options), buildPublic))

/**
 * Provides the connector with the options of the configuration, in variables that begin with `SALLYPORT_CONNECTOR_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  EnvironmentConnector,
  Config.ConfigError | InvalidEnvironmentConnectorOptions | SecretStore.SecretStoreError,
  Requirements
> = Layer.effect(EnvironmentConnector, Effect.flatMap(settings.fromConfig, buildPublic))

/**
 * Provides the connector with the defaults of {@link Options}. It connects to public addresses only.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EnvironmentConnector, SecretStore.SecretStoreError, Requirements> = Layer.effect(
  EnvironmentConnector,
  Effect.flatMap(settings.defaults, buildPublic)
)
