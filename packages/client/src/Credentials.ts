/**
 * Sends the session's credential: a cookie that the browser keeps, a cookie that the client keeps, a bearer token, or a
 * token that is bound to the device's key.
 */
import type { TokenResponse } from "@sallyport/contract/SessionGroup"
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
import * as Refreshing from "./internal/refreshing.ts"
import { TokenStorage, type TokenStorageError } from "./TokenStorage.ts"

/**
 * Provides the session's credential: adds it to requests, keeps it and forgets it.
 *
 * @category services
 * @since 0.1.0
 */
export class Credentials extends Context.Service<Credentials, {
  /** What a pairing code is exchanged for: a cookie set by the answer, or a token in it. */
  readonly exchange: "cookie" | "token"
  /**
   * Returns a client that adds the credential to requests. Its requests have absolute addresses of the server at
   * `baseUrl`.
   */
  readonly authenticate: (
    client: HttpClient.HttpClient,
    baseUrl: string
  ) => HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
  /**
   * Returns a client that presents a given token instead, or no token if the request exchanges a code for one. Its
   * requests prove the device's key if tokens are bound to one.
   */
  readonly present: (
    client: HttpClient.HttpClient,
    token: Option.Option<Redacted.Redacted>
  ) => HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
  /** The kind of token that an exchange must return. */
  readonly tokenType: "Bearer" | "DPoP"
  /** Keeps the tokens of an exchange. */
  readonly keep: (answer: typeof TokenResponse.Type) => Effect.Effect<void, TokenStorageError>
  /** Forgets the credential, if there is one. */
  readonly forget: Effect.Effect<void, TokenStorageError>
}>()("@sallyport/client/Credentials") {}

/** Returns the client with the wider error type of a client with a stored token. */
const unchanged = HttpClient.mapRequestEffect(
  (request): Effect.Effect<HttpClientRequest.HttpClientRequest, TokenStorageError> => Effect.succeed(request)
)

/**
 * Provides the cookie of the browser, which sends it with every request to the page's own server. No script can read
 * it. If the server has another origin, provide `FetchHttpClient.RequestInit` with `credentials: "include"`.
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
 * Keeps the cookie for as long as the layer lives, and names the server as the origin of requests, as a page of the
 * server would.
 *
 * **When to use**
 *
 * Use it in a program that has to act as a browser. Other programs are better served by a token.
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

const presentBearer: Refreshing.Present = (client, token) =>
  HttpClient.mapRequestEffect(client, (request) =>
    Effect.map(
      token,
      Option.match({
        onNone: () => request,
        onSome: (token) => HttpClientRequest.bearerToken(request, token)
      })
    ))

const withStorage = (tokenType: "Bearer" | "DPoP", present: Refreshing.Present) =>
  Effect.gen(function*() {
    const storage = yield* TokenStorage
    return Credentials.of({
      exchange: "token",
      tokenType,
      authenticate: yield* Refreshing.make(storage, tokenType, present),
      present: (client, token) => present<TokenStorageError>(client, Effect.succeed(token)),
      // A refresh that is under way must not bring other tokens back.
      keep: (answer) => storage.exclusive(Effect.flatMap(Refreshing.tokensOf(answer), storage.set)),
      forget: storage.exclusive(storage.remove)
    })
  })

/**
 * Sends the token that `TokenStorage` keeps, as `Authorization: Bearer`.
 *
 * **Details**
 *
 * If the server gave a refresh token with it, the token is exchanged shortly before it ends, and when the server
 * refuses it: once for all requests of the program, and for all clients of the storage. The old tokens stay stored until
 * the new ones have arrived, so a lost answer ends nothing, and the next request asks again. If the server refuses the
 * refresh token, the tokens are removed, and requests fail as signed out. If the server cannot be asked, the request
 * that waits for the token fails as it would have failed itself.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerBearer: Layer.Layer<Credentials, never, TokenStorage> = Layer.effect(
  Credentials,
  withStorage("Bearer", presentBearer)
)

/**
 * Sends the token that `TokenStorage` keeps, as `Authorization: DPoP` with a fresh proof of the device's key for each
 * request (RFC 9449). Pairing asks for a token that is bound to the key. A copy of the storage is useless without the
 * key.
 *
 * **Details**
 *
 * If the server refuses a request because it lacks a nonce, or because this device's clock is wrong, the request is
 * sent again with the server's nonce or time. Tokens are refreshed as those of {@link layerBearer}, with a proof of the
 * same key.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerDpop: Layer.Layer<Credentials, never, TokenStorage | DeviceKey> = Layer.effect(
  Credentials,
  Effect.flatMap(DeviceKey, (key) => withStorage("DPoP", Proofs.make(key)))
)
