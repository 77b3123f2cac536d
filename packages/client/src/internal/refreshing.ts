import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { refreshGrant, TokenResponse } from "@sallyport/contract/SessionGroup"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { UnexpectedAnswer } from "../ClientError.ts"
import { type Tokens, type TokenStorage, TokenStorageError } from "../TokenStorage.ts"
import * as Answer from "./answer.ts"

/** Returns a client whose requests carry a token, if there is one. */
export type Present = <E>(
  client: HttpClient.HttpClient,
  token: Effect.Effect<Option.Option<Redacted.Redacted>, E>
) => HttpClient.HttpClient.With<HttpClientError.HttpClientError | E>

/** How long before its end a token is refreshed, at most; a tenth of its time if that is less. */
const aheadMillis = 10_000

/** Returns what is kept of an answer of the token endpoint. */
export const tokensOf = (answer: typeof TokenResponse.Type): Effect.Effect<Tokens> =>
  Effect.map(Clock.currentTimeMillis, (nowMillis) => {
    const { access_token: token, expires_in, refresh_token } = answer
    if (refresh_token === undefined) return { token }
    const lifeMillis = expires_in * 1000
    const dueAtMillis = Math.floor(nowMillis + lifeMillis - Math.min(aheadMillis, lifeMillis / 10))
    return { token, refresh: { token: refresh_token, dueAtMillis } }
  })

/**
 * Returns how a client sends the stored token, and refreshes it when it is due or refused. All its requests share one
 * refresh, and all clients of one storage refresh one after the other, each with what is stored then.
 */
export const make = Effect.fnUntraced(
  function*(storage: TokenStorage["Service"], tokenType: "Bearer" | "DPoP", present: Present) {
    const scope = yield* Effect.scope
    let running: Deferred.Deferred<Option.Option<Tokens>, Answer.Broken | Answer.Refusal> | undefined

    /** Exchanges the stored refresh token, unless another client has: `due` says so of what is stored. */
    const exchange = (client: HttpClient.HttpClient, due: (tokens: Tokens) => boolean) =>
      storage.exclusive(Effect.gen(function*() {
        const stored = yield* storage.tokens
        if (Option.isNone(stored) || stored.value.refresh === undefined || !due(stored.value)) return stored
        const api = yield* HttpApiClient.makeWith(SallyportApi, {
          httpClient: present(client, Effect.succeed(Option.none()))
        })
        const answer = yield* Answer.call(
          api.session.token({
            payload: { grant_type: refreshGrant, refresh_token: stored.value.refresh.token },
            responseMode: "response-only"
          }),
          TokenResponse,
          Answer.limit
        ).pipe(Effect.asSome, Effect.catchIf(isRefused, () => Effect.succeedNone))
        if (Option.isNone(answer)) {
          // Without Web Locks another tab may have stored later tokens meanwhile.
          const later = yield* storage.tokens
          if (Option.isSome(later) && !due(later.value)) return later
          yield* storage.remove
          return Option.none()
        }
        if (answer.value.token_type !== tokenType) {
          return yield* new UnexpectedAnswer({
            status: 200,
            code: null,
            message: `The server refreshed a ${tokenType} token to a ${answer.value.token_type} token; ` +
              "check how the server is configured"
          })
        }
        const next = yield* tokensOf(answer.value)
        yield* storage.set(next)
        return Option.some(next)
      }))

    /** Joins the exchange that is under way, or starts one. It goes on when the request that started it is interrupted. */
    const shared = (client: HttpClient.HttpClient, due: (tokens: Tokens) => boolean) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => {
          if (running !== undefined) return restore(Deferred.await(running))
          const mine = Deferred.makeUnsafe<Option.Option<Tokens>, Answer.Broken | Answer.Refusal>()
          running = mine
          return Effect.interruptible(exchange(client, due)).pipe(
            Effect.onExit((exit) => {
              running = undefined
              return Deferred.done(mine, exit)
            }),
            Effect.forkIn(scope),
            Effect.andThen(restore(Deferred.await(mine)))
          )
        })
      )

    const current = (client: HttpClient.HttpClient) =>
      Effect.gen(function*() {
        const tokens = yield* storage.tokens
        if (Option.isNone(tokens) || tokens.value.refresh === undefined) return tokens
        const nowMillis = yield* Clock.currentTimeMillis
        const due = ({ refresh }: Tokens) => refresh !== undefined && refresh.dueAtMillis <= nowMillis
        return due(tokens.value) ? yield* shared(client, due) : tokens
      })

    /** Sends a request once more if the server refused its token, and there is a later one. */
    const resending = Effect.fnUntraced(function*(
      client: HttpClient.HttpClient,
      request: HttpClientRequest.HttpClientRequest,
      response: HttpClientResponse.HttpClientResponse
    ) {
      if (response.status !== 401 || request.body._tag === "Stream") return response
      const refused = ({ token }: Tokens) => request.headers.authorization === `${tokenType} ${Redacted.value(token)}`
      const stored = yield* storage.tokens
      if (Option.isNone(stored) || stored.value.refresh === undefined) return response
      const next = refused(stored.value) ? yield* shared(client, refused) : stored
      if (Option.isNone(next) || refused(next.value)) return response
      // The request has its address already.
      const again = HttpClient.makeWith(
        client.postprocess,
        (request): Effect.Effect<HttpClientRequest.HttpClientRequest> => Effect.succeed(request)
      )
      return yield* present(again, Effect.succeed(Option.some(next.value.token))).execute(request)
    })

    return (client: HttpClient.HttpClient) => {
      const sending = present(client, Effect.map(current(client), Option.map(({ token }) => token)))
      return HttpClient.makeWith<Failure, never, Failure, never>(
        Effect.flatMap((request) =>
          sending.postprocess(Effect.succeed(request)).pipe(
            Effect.flatMap((response) => resending(client, request, response)),
            Effect.mapError(asFailureOf(request))
          )
        ),
        (request) => Effect.mapError(sending.preprocess(request), asFailureOf(request))
      )
    }
  }
)

type Failure = HttpClientError.HttpClientError | TokenStorageError

/** Returns the failure of the request that waited for a refresh. The refresh's own request is not kept: it holds the secret. */
const asFailureOf =
  (request: HttpClientRequest.HttpClientRequest) => (error: Failure | Answer.Broken | Answer.Refusal): Failure =>
    HttpClientError.isHttpClientError(error) || error instanceof TokenStorageError
      ? error
      : new HttpClientError.HttpClientError({
        reason: new HttpClientError.TransportError({
          request,
          cause: error,
          description: "The session could not be refreshed"
        })
      })

const isRefused = (error: Answer.Broken | Answer.Refusal): boolean =>
  error._tag === "OAuthError" && error.error === "invalid_grant"
