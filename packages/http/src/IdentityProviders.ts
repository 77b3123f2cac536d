/**
 * Lets people in by an identity that they have elsewhere: an ID token of an issuer that the host names (OpenID Connect Core
 * 1.0), or the word of a proxy before the server. A host that provides {@link layerWith} beside `Sallyport.layer` takes them at the token
 * endpoint, by token exchange (RFC 8693).
 *
 * What an identity is here, the host says by a function: as which subject it comes in, with which scopes, or not at all.
 */
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import { idTokenType, proxyHeaderType } from "@sallyport/contract/SessionGroup"
import * as Input from "@sallyport/core/Input"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { IdentityNotAdmitted, IdentityRefused, IdentityUnavailable } from "./internal/identityErrors.ts"
import {
  type Admit,
  type Identity,
  type InvalidIdentityProvidersOptions,
  type IssuerSettings,
  type Options,
  type Settings,
  settings,
  settingsFromConfig
} from "./internal/identityOptions.ts"
import * as IdentityToken from "./internal/identityToken.ts"
import * as IssuerKeys from "./internal/issuerKeys.ts"

export { IdentityNotAdmitted, IdentityRefused, IdentityUnavailable } from "./internal/identityErrors.ts"
export {
  type Admission,
  type Admit,
  type Algorithm,
  algorithms,
  type Identity,
  InvalidIdentityProvidersOptions,
  type Issuer,
  type Options,
  type ProxyHeader
} from "./internal/identityOptions.ts"

/**
 * Fails an exchange of an identity.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdentityProvidersError extends Schema.TaggedError<IdentityProvidersError>()("IdentityProvidersError", {
  reason: Schema.Union([IdentityRefused, IdentityNotAdmitted, IdentityUnavailable])
}) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * Describes an identity that may come in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Admitted {
  readonly issuer: string
  readonly subject: string
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  readonly label: string | undefined
  readonly lifetime: Duration.Input | undefined
  readonly absoluteLifetime: Duration.Input
  /** Makes the token good for nothing else, if it is good once. */
  readonly spend: Effect.Effect<void, IdentityProvidersError>
}

/**
 * Provides the check of identities.
 *
 * **Example** (Letting in the people of a team)
 *
 * ```ts
 * import { IdentityProviders } from "@sallyport/http"
 * import { PublicHttp } from "@sallyport/node"
 * import { Effect, Layer } from "effect"
 *
 * export const Identities = IdentityProviders.layerWith({
 *   issuers: [{ issuer: "https://accounts.example", audiences: ["the-id-of-our-command"] }],
 *   admit: ({ claims, subject }) =>
 *     claims.hd === "team.example"
 *       ? Effect.succeed({ subject: `team-${subject}`, scopes: ["runs:read", "runs:operate"] })
 *       : Effect.fail(new IdentityProviders.IdentityNotAdmitted({ problem: "not of the team" }))
 * }).pipe(Layer.provide(PublicHttp.layer))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class IdentityProviders extends Context.Service<IdentityProviders, {
  /** Whose identities are taken, and with which `subject_token_type`. */
  readonly identities: ReadonlyArray<{ readonly issuer: string; readonly tokenType: string }>
  /**
   * Checks an ID token, or the header of the current request that `token` names, and asks the host's function about the
   * identity. No call is made for an issuer that is not named. Nothing is used up before `spend`.
   */
  readonly identify: (
    tokenType: string,
    token: Redacted.Redacted
  ) => Effect.Effect<Admitted, IdentityProvidersError, HttpServerRequest.HttpServerRequest>
}>()("@sallyport/http/IdentityProviders") {}

/**
 * Names what the service is built on. The `HttpClient` reads the keys of issuers: `PublicHttp` of `@sallyport/node` reaches
 * public addresses only.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements = AuthPolicy | ReplayRepository | Digest.Digest | HttpClient.HttpClient

const encoder = new TextEncoder()

const fail = (reason: IdentityProvidersError["reason"]) => new IdentityProvidersError({ reason })

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** Reads a name in a header, which servers take for Latin-1. Another name never becomes the same. */
const nameOf = (value: string): Effect.Effect<string, IdentityRefused> =>
  Effect.try({
    try: () => utf8.decode(Uint8Array.from(value, (char) => char.charCodeAt(0))),
    catch: () => new IdentityRefused({ problem: "unfit" })
  })

/** Tells whether the connection of a request comes from one of some networks. */
const isFrom = (networks: ReadonlyArray<IpNetwork.IpNetwork>, peer: Option.Option<string>): boolean => {
  const address = Option.flatMap(peer, (text) => Result.getSuccess(NetAddress.ipFromString(text)))
  return Option.exists(
    Option.map(address, (written): NetAddress.IpAddress => NetAddress.toCanonical(written)),
    (found) => networks.some((network) => IpNetwork.contains(network, found))
  )
}

const build = Effect.fnUntraced(function*<R>(
  { issuers, maxAgeMillis, proxies, sessionMillis, skewMillis, ...times }: Settings,
  admit: Admit<R>
): Effect.fn.Return<IdentityProviders["Service"], never, Requirements | Scope.Scope | R> {
  const host = yield* Effect.context<R>()
  const vocabulary = yield* AccessScope.Vocabulary
  const replays = yield* ReplayRepository
  const digest = yield* Digest.Digest
  // A server without this service needs none of its modules.
  const jose = yield* Effect.promise(() => import("jose"))
  const tokens = IdentityToken.make(jose)
  const known = yield* Effect.forEach(
    issuers,
    (one) => Effect.map(IssuerKeys.make(one, times, jose), (keys) => ({ ...one, keys }))
  )
  const ordinary = vocabulary.filter((scope) => !AccessScope.widening.includes(scope))

  const spend = Effect.fnUntraced(function*(issuer: string, { endMillis, mark }: IdentityToken.CheckedToken) {
    const value = yield* digest.digestHex(Digest.sha256, encoder.encode(`${issuer}\n${mark}`))
    const fresh = yield* Effect.flatMap(
      Clock.currentTimeMillis,
      (nowMillis) => replays.spend({ kind: "identity-token", digest: value, expiresAtMillis: endMillis }, nowMillis)
    ).pipe(
      Effect.mapError((cause) => fail(new IdentityUnavailable({ cause })))
    )
    if (!fresh) return yield* fail(new IdentityRefused({ problem: "replayed" }))
  })

  const refuse = (problem: IdentityRefused["problem"]) => new IdentityRefused({ problem })

  const checkToken = (token: string, issuer: IssuerSettings & { readonly keys: IssuerKeys.IssuerKeys }) =>
    Effect.catchTag(
      tokens.check(token, issuer, { maxAgeMillis, skewMillis }),
      "KeysUnavailable",
      (cause) => Effect.fail(new IdentityUnavailable({ cause }))
    )

  /** Finds out who an ID token is of. */
  const byToken = Effect.fnUntraced(function*(token: string) {
    const named = yield* tokens.issuerOf(token)
    const issuer = known.find((one) => one.issuer === named && one.header === undefined)
    if (issuer === undefined) return yield* refuse("unknown-issuer")
    const checked = yield* checkToken(token, issuer)
    return {
      identity: { issuer: issuer.issuer, subject: checked.subject, claims: checked.claims },
      spend: issuer.singleUse ? spend(issuer.issuer, checked) : Effect.void
    }
  })

  /** Finds out whom a proxy means. */
  const byHeader = Effect.fnUntraced(function*(header: string) {
    const request = yield* HttpServerRequest.HttpServerRequest
    const value = request.headers[header] ?? ""
    const issuer = known.find((one) => one.header === header)
    const proxy = proxies.find((one) => one.header === header)
    if (issuer === undefined && proxy === undefined) return yield* refuse("unknown-header")
    // Whatever a stranger's header says, its form included.
    if (proxy !== undefined && !isFrom(proxy.from, request.peerAddress)) return yield* refuse("untrusted-peer")
    // A header that came twice is joined by a comma, and one of the two may be a stranger's.
    if (value === "" || value.includes(",")) return yield* refuse("missing-header")
    if (issuer === undefined) {
      return {
        identity: { issuer: proxy?.issuer ?? header, subject: yield* nameOf(value), claims: {} },
        spend: Effect.void
      }
    }
    if ((yield* tokens.issuerOf(value)) !== issuer.issuer) return yield* refuse("unknown-issuer")
    const { claims, subject } = yield* checkToken(value, issuer)
    return { identity: { issuer: issuer.issuer, subject, claims }, spend: Effect.void }
  })

  /** Asks the host about an identity. */
  const decide = (identity: Identity) =>
    Effect.tapError(Effect.provideContext(admit(identity), host), (error) =>
      error._tag === "IdentityNotAdmitted"
        ? Effect.annotateLogs(Effect.logInfo("The host refused an identity"), {
          issuer: identity.issuer,
          problem: error.problem
        })
        : Effect.void)

  return IdentityProviders.of({
    identities: [
      ...known.map(({ header, issuer }) => ({
        issuer,
        tokenType: header === undefined ? idTokenType : proxyHeaderType
      })),
      ...proxies.map(({ header, issuer = header }) => ({ issuer, tokenType: proxyHeaderType }))
    ],
    identify: Effect.fn("IdentityProviders.identify")(function*(tokenType, token) {
      const text = Redacted.value(token)
      const found = tokenType === proxyHeaderType ? byHeader(text.toLowerCase()) : byToken(text)
      const { identity, spend } = yield* Effect.mapError(found, fail)
      const { absoluteLifetime, label, lifetime, scopes = ordinary, subject } = yield* Effect.mapError(
        decide(identity),
        fail
      )
      const unknown = AccessScope.missing(vocabulary, scopes)
      if (unknown.length > 0) {
        return yield* Effect.die(new Error(`admit gave scopes that this server does not have: ${unknown.join(", ")}`))
      }
      return {
        issuer: identity.issuer,
        subject,
        scopes,
        label,
        lifetime,
        absoluteLifetime: absoluteLifetime ?? Duration.millis(sessionMillis),
        spend
      }
    })
  })
})

/**
 * Creates the service; {@link layerWith} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(options: Options<R>): Effect.Effect<
  IdentityProviders["Service"],
  InvalidIdentityProvidersOptions,
  Requirements | Scope.Scope | R
> =>
  Effect.gen(function*() {
    return yield* build(yield* settings(options, yield* AuthPolicy), options.admit)
  })

/**
 * Provides the service with given options, which name the issuers and proxies and decide about identities. Fails if they
 * cannot work. No issuer is asked for its keys before one of its tokens comes.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = <R = never>(options: Options<R>): Layer.Layer<
  IdentityProviders,
  InvalidIdentityProvidersOptions,
  Requirements | R
> => Layer.effect(IdentityProviders, make(options))

/**
 * Provides the service with the issuers and times of the configuration, in variables that begin with
 * `SALLYPORT_IDENTITY_`. The function that decides stands in code, and so do the headers of proxies.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <R = never>(admit: Admit<R>): Layer.Layer<
  IdentityProviders,
  Config.ConfigError | InvalidIdentityProvidersOptions,
  Requirements | R
> =>
  Layer.effect(
    IdentityProviders,
    Effect.gen(function*() {
      Input.demand("IdentityProviders.layerConfig", { admit: Input.required(Input.callable) }, { admit })
      return yield* build(yield* settingsFromConfig(yield* AuthPolicy), admit)
    })
  )
