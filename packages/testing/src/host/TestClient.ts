/**
 * Clients that are signed in to the server of a test, as a real client signs in: with a pairing code, over HTTP.
 */
import { Access } from "@sallyport/client/Access"
import { AccessFeed } from "@sallyport/client/AccessFeed"
import { Approval } from "@sallyport/client/Approval"
import type { ClientError } from "@sallyport/client/ClientError"
import { Connection } from "@sallyport/client/Connection"
import * as Credentials from "@sallyport/client/Credentials"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as Runs from "@sallyport/client/Runs"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import {
  type BootstrapCredentialError,
  BootstrapCredentialService
} from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import type { HttpClient } from "effect/http/HttpClient"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"

/**
 * Names how a client carries its session: in the cookie of a browser, in a bearer token, or in a token that is bound to a
 * key of its own.
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = "cookie" | "bearer" | "dpop"

/**
 * Describes the client of a server that runs elsewhere, such as in another process.
 *
 * @category options
 * @since 0.1.0
 */
export interface PairOptions {
  readonly baseUrl: string
  /** A pairing code of that server. */
  readonly code: Redacted.Redacted
  /** Default `bearer`. */
  readonly kind?: Kind | undefined
  readonly label?: string | undefined
  readonly runs?: Runs.Options | undefined
}

/**
 * Describes the client of the server that the test is provided with.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Partial<Omit<PairOptions, "code">> {
  /** Default: all that the operator of the server may grant. */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
  /** Default `owner`. */
  readonly subject?: string | undefined
}

/**
 * Holds what a client that is signed in consists of.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestClient {
  /** Sends requests with the session's credential: for the host's own API, as `HttpApiClient.makeWith` takes it. */
  readonly connection: Connection["Service"]
  readonly access: Access["Service"]
  readonly feed: AccessFeed["Service"]
  readonly approval: Approval["Service"]
  readonly runs: Runs.Runs["Service"]
  /** The token of the session; none if it is in a cookie. */
  readonly token: Option.Option<Redacted.Redacted>
}

/** Waits that are over at once, so that a test spends its time on the connections. */
const impatient: Runs.Options = { baseDelay: "1 millis", maxDelay: "1 millis" }

const crypto = Layer.merge(SecureRandom.layerWebCrypto, Digest.layerWebCrypto)

const credentials: Record<Kind, Layer.Layer<Credentials.Credentials, never, TokenStorage.TokenStorage>> = {
  cookie: Credentials.layerCookieJar,
  bearer: Credentials.layerBearer,
  dpop: Credentials.layerDpop.pipe(Layer.provide(Layer.provide(Layer.orDie(DeviceKey.layerMemory), crypto)))
}

/**
 * Signs a client in with a pairing code. It is gone with the scope; its session is not ended.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pair = Effect.fnUntraced(function*(
  { baseUrl, code, kind = "bearer", label, runs = impatient }: PairOptions
): Effect.fn.Return<TestClient, ClientError, HttpClient | Scope.Scope> {
  const context = yield* Layer.build(
    SallyportClient.layer({ baseUrl, credentials: credentials[kind], runs }).pipe(
      Layer.provideMerge(Layer.fresh(TokenStorage.layerMemory)),
      Layer.provide(crypto),
      Layer.orDie
    )
  )
  const access = Context.get(context, Access)
  yield* access.pair({ code, label })
  return {
    connection: Context.get(context, Connection),
    access,
    feed: Context.get(context, AccessFeed),
    approval: Context.get(context, Approval),
    runs: Context.get(context, Runs.Runs),
    token: Option.map(
      yield* Effect.orDie(Context.get(context, TokenStorage.TokenStorage).tokens),
      ({ token }) => token
    )
  }
})

/**
 * Returns the address of the server that the test is provided with.
 *
 * @category getters
 * @since 0.1.0
 */
export const serverUrl: Effect.Effect<string, never, HttpServer.HttpServer> = Effect.map(
  HttpServer.HttpServer,
  ({ address }) => HttpServer.formatAddress(address)
)

/**
 * Issues a pairing code as the operator of the server that the test is provided with.
 *
 * @category constructors
 * @since 0.1.0
 */
export const issueCode = (
  { label, scopes, subject }: Pick<Options, "label" | "scopes" | "subject"> = {}
): Effect.Effect<Redacted.Redacted, BootstrapCredentialError, BootstrapCredentialService> =>
  Effect.flatMap(BootstrapCredentialService, (bootstrap) =>
    Effect.map(
      bootstrap.issue({ issuedBy: "operator", scopes: scopes ?? "all", subject, label }),
      ({ code }) => code
    ))

/**
 * Returns a pairing link of the server that the test is provided with, for a browser to open.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pairingUrl = (
  options?: Parameters<typeof issueCode>[0]
): Effect.Effect<
  Redacted.Redacted,
  BootstrapCredentialError | PairingUrl.InvalidBaseUrl,
  BootstrapCredentialService | HttpServer.HttpServer
> =>
  Effect.flatMap(
    serverUrl,
    (url) => Effect.flatMap(issueCode(options), (code) => Effect.fromResult(PairingUrl.make(url, code)))
  )

/**
 * Signs a client in to the server that the test is provided with.
 *
 * @category constructors
 * @since 0.1.0
 */
export const signIn = Effect.fnUntraced(function*(
  { scopes, subject, ...options }: Options = {}
): Effect.fn.Return<
  TestClient,
  BootstrapCredentialError | ClientError,
  BootstrapCredentialService | HttpClient | HttpServer.HttpServer | Scope.Scope
> {
  const code = yield* issueCode({ scopes, subject, label: options.label })
  return yield* pair({ ...options, baseUrl: options.baseUrl ?? (yield* serverUrl), code })
})

/**
 * Provides the services of a client that is signed in to the server that the test is provided with.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<
  Connection | Access | AccessFeed | Approval | Runs.Runs,
  BootstrapCredentialError | ClientError,
  BootstrapCredentialService | HttpClient | HttpServer.HttpServer
> =>
  Layer.effectContext(Effect.map(signIn(options), (client) =>
    Context.make(Connection, client.connection).pipe(
      Context.add(Access, client.access),
      Context.add(AccessFeed, client.feed),
      Context.add(Approval, client.approval),
      Context.add(Runs.Runs, client.runs)
    )))
