/**
 * The connection to one server: its address and an HTTP client that proves the session. {@link layer} provides it together
 * with {@link Access} and {@link Runs}.
 */
import * as PairingUrl from "@sallyport/core/PairingUrl"
import * as Context from "effect/Context"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Access from "./Access.ts"
import { Credentials } from "./Credentials.ts"
import { Server } from "./internal/server.ts"
import * as Runs from "./Runs.ts"
import type { TokenStorageError } from "./TokenStorage.ts"

/** Provides the connection to a server. */
export class SallyportClient extends Context.Service<SallyportClient, {
  /** The address below which the server's HTTP routes stand: `http` or `https`, no trailing slash, no query. */
  readonly baseUrl: string
  /** Returns the WebSocket address of a path of the server, which begins with a slash. */
  readonly webSocketUrl: (path: `/${string}`) => string
  /**
   * Sends requests with the session's credential to paths below the base URL. It is what `HttpApiClient.makeWith` takes for a
   * host's own API on the same server.
   */
  readonly httpClient: HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
}>()("@sallyport/client/SallyportClient") {}

/** Lists the settings of {@link layer}. */
export interface Options<E, R> {
  /**
   * The server's address, as a person would give it. `ws` and `wss` are taken for `http` and `https`; a final `/ws`, a query
   * and a fragment are dropped; any other path is kept as the prefix that the routes are mounted under.
   */
  readonly baseUrl: string
  /** How the session is proven: one of the layers of `Credentials`. */
  readonly credentials: Layer.Layer<Credentials, E, R>
  readonly runs?: Runs.Options | undefined
}

/** Provides the connection to a server, and its {@link Access} and {@link Runs}. */
export const layer = <E, R>(options: Options<E, R>): Layer.Layer<
  SallyportClient | Access.Access | Runs.Runs,
  PairingUrl.InvalidBaseUrl | E,
  R | HttpClient.HttpClient | SecureRandom
> =>
  Layer.mergeAll(layerClient, Access.layer, Runs.layerWith(options.runs ?? {})).pipe(
    Layer.provide(Layer.effect(
      Server,
      Effect.gen(function*() {
        const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(options.baseUrl))
        const credentials = yield* Credentials
        const anonymous = (yield* HttpClient.HttpClient).pipe(
          HttpClient.mapRequest(HttpClientRequest.prependUrl(baseUrl))
        )
        return Server.of({
          anonymous,
          authenticated: credentials.authenticate(anonymous, baseUrl),
          baseUrl,
          credentials
        })
      })
    )),
    Layer.provide(options.credentials)
  )

const layerClient: Layer.Layer<SallyportClient, never, Server> = Layer.effect(
  SallyportClient,
  Effect.map(Server, ({ authenticated, baseUrl }) =>
    SallyportClient.of({
      baseUrl,
      webSocketUrl: (path) => `${baseUrl.replace(/^http/, "ws")}${path}`,
      httpClient: authenticated
    }))
)
