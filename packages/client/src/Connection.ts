/**
 * Connects to one server: its address, and an HTTP client that sends the session's credential.
 */
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as Input from "@sallyport/core/Input"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import { Credentials } from "./Credentials.ts"
import type { TokenStorageError } from "./TokenStorage.ts"

/**
 * Provides the connection to a server.
 *
 * @category services
 * @since 0.1.0
 */
export class Connection extends Context.Service<Connection, {
  /** The address under which the server has its HTTP routes: `http` or `https`, no trailing slash, no query. */
  readonly baseUrl: string
  /** Returns the WebSocket address of a path of the server, which begins with a slash. */
  readonly webSocketUrl: (path: `/${string}`) => string
  /**
   * Sends requests with the session's credential to paths below the base URL. Pass it to `HttpApiClient.makeWith` for a
   * host's own API on the same server.
   */
  readonly httpClient: HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
  /** Sends requests to paths below the base URL without a credential, except cookies that a browser adds itself. */
  readonly anonymousHttpClient: HttpClient.HttpClient
}>()("@sallyport/client/Connection") {}

/**
 * Provides the connection to the server at an address that a person entered.
 *
 * **Details**
 *
 * `ws` and `wss` count as `http` and `https`. A final `/ws`, a query and a fragment are dropped. Any other path is kept
 * as the prefix of the routes.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: { readonly baseUrl: string }): Layer.Layer<
  Connection,
  PairingUrl.InvalidBaseUrl,
  Credentials | HttpClient.HttpClient
> =>
  Layer.effect(
    Connection,
    Effect.gen(function*() {
      Input.demand("Connection.layer", { baseUrl: Input.any }, options)
      const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(options.baseUrl))
      const credentials = yield* Credentials
      const anonymousHttpClient = (yield* HttpClient.HttpClient).pipe(
        HttpClient.mapRequest(HttpClientRequest.prependUrl(baseUrl))
      )
      return Connection.of({
        baseUrl,
        webSocketUrl: (path) => `${baseUrl.replace(/^http/, "ws")}${path}`,
        httpClient: credentials.authenticate(anonymousHttpClient, baseUrl),
        anonymousHttpClient
      })
    })
  )
