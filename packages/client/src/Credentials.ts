/**
 * How a client proves its session: with a cookie that the browser keeps, with one that it keeps itself, with a bearer
 * token, or with a token that is bound to the device's key.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Cookies from "effect/http/Cookies"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import { DeviceKey } from "./DeviceKey.ts"
import * as Proofs from "./internal/proofs.ts"
import { TokenStorage, type TokenStorageError } from "./TokenStorage.ts"

/**
 * Proves a session, and keeps what proves it.
 *
 * @category services
 * @since 0.1.0
 */
export class Credentials extends Context.Service<Credentials, {
  /** What a pairing code is exchanged for: a cookie that comes with the answer, or a token in it. */
  readonly exchange: "cookie" | "token"
  /**
   * Returns a client that adds the credential to requests. The addresses that it is given are whole, and all of the server
   * at `baseUrl`.
   */
  readonly authenticate: (
    client: HttpClient.HttpClient,
    baseUrl: string
  ) => HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
  /**
   * Returns a client that presents a given token instead, or none where it is about to be exchanged for. Its requests prove
   * the device's key where tokens are bound to one.
   */
  readonly present: (
    client: HttpClient.HttpClient,
    token: Option.Option<Redacted.Redacted>
  ) => HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
  /** The kind of token that an exchange has to give. */
  readonly tokenType: "Bearer" | "DPoP"
  /** Keeps the token of an exchange. */
  readonly keep: (token: Redacted.Redacted) => Effect.Effect<void, TokenStorageError>
  /** Forgets the credential, if there is one. */
  readonly forget: Effect.Effect<void, TokenStorageError>
}>()("@sallyport/client/Credentials") {}

/** Returns the client with the errors that one with a stored token may have. */
const unchanged = HttpClient.mapRequestEffect(
  (request): Effect.Effect<HttpClientRequest.HttpClientRequest, TokenStorageError> => Effect.succeed(request)
)

/**
 * Leaves the cookie to the browser, which sends it with every request to the page's own server, and which no script can
 * read. Where the server has another origin, provide `FetchHttpClient.RequestInit` with `credentials: "include"`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCookie: Layer.Layer<Credentials> = Layer.succeed(
  Credentials,
  Credentials.of({
    exchange: "cookie",
    authenticate: unchanged,
    present: unchanged,
    tokenType: "Bearer",
    keep: () => Effect.void,
    forget: Effect.void
  })
)

/**
 * Keeps the cookie for as long as the layer lives, and names the server as the origin of requests, as a page of it would.
 * For a program that has to act as a browser; others are better served by a token.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCookieJar: Layer.Layer<Credentials> = Layer.effect(
  Credentials,
  Effect.gen(function*() {
    const jar = yield* Ref.make<ReadonlyArray<Cookies.Cookie>>([])
    return Credentials.of({
      exchange: "cookie",
      authenticate: (client, baseUrl) =>
        client.pipe(
          unchanged,
          HttpClient.mapRequest(HttpClientRequest.setHeader("origin", new URL(baseUrl).origin)),
          HttpClient.withCookiesRef(jar)
        ),
      present: unchanged,
      tokenType: "Bearer",
      keep: () => Effect.void,
      forget: Ref.set(jar, [])
    })
  })
)

type Present = <E>(
  client: HttpClient.HttpClient,
  token: Effect.Effect<Option.Option<Redacted.Redacted>, E>
) => HttpClient.HttpClient.With<HttpClientError | E>

const presentBearer: Present = (client, token) =>
  HttpClient.mapRequestEffect(client, (request) =>
    Effect.map(
      token,
      Option.match({
        onNone: () => request,
        onSome: (token) => HttpClientRequest.bearerToken(request, token)
      })
    ))

const withStorage = (tokenType: "Bearer" | "DPoP", present: Present) =>
  Effect.map(TokenStorage, (storage) =>
    Credentials.of({
      exchange: "token",
      tokenType,
      authenticate: (client) => present(client, storage.get),
      present: (client, token) => present<TokenStorageError>(client, Effect.succeed(token)),
      keep: storage.set,
      forget: storage.remove
    }))

/**
 * Sends the token that `TokenStorage` keeps, as `Authorization: Bearer`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerBearer: Layer.Layer<Credentials, never, TokenStorage> = Layer.effect(
  Credentials,
  withStorage("Bearer", presentBearer)
)

/**
 * Sends the token that `TokenStorage` keeps, as `Authorization: DPoP` with a fresh proof of the device's key for each request
 * (RFC 9449). Pairing asks for a token that is bound to the key. Whoever reads the storage has nothing without the key.
 *
 * A request that the server refuses for want of a nonce, or because this device's clock is wrong, is made again, with
 * what the server said.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerDpop: Layer.Layer<Credentials, never, TokenStorage | DeviceKey> = Layer.effect(
  Credentials,
  Effect.flatMap(DeviceKey, (key) => withStorage("DPoP", Proofs.make(key)))
)
