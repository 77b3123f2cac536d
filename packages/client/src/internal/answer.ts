import { isBoundedJson } from "@sallyport/core/Input"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import {
  ClientError,
  type FailureKind,
  InvalidInput,
  ServerError,
  UnexpectedAnswer,
  Unreachable
} from "../ClientError.ts"
import { TokenStorageError } from "../TokenStorage.ts"

/** Reports that an attempt failed, and that another one may succeed. */
export class Broken extends Data.TaggedError("Broken")<{
  readonly kind: FailureKind
  readonly detail: string
  readonly status?: number | undefined
  /** The server's error, if it was one of the contract's. */
  readonly answer?: ServerError | undefined
  /** How long the server asks the client to wait. */
  readonly retryAfterMillis?: number | undefined
  /** Whether a hint has told of it, so that another attempt is made at once. */
  readonly hinted?: boolean | undefined
  readonly cause?: unknown
}> {}

/** Lists the failures for which another attempt does not help. */
export type Refusal = ServerError | UnexpectedAnswer | InvalidInput | TokenStorageError

/** Returns the error after the last failed attempt. */
export const unreachable = (broken: Broken, attempts: number): Unreachable =>
  new Unreachable({
    failure: broken.kind,
    status: broken.status ?? null,
    detail: broken.detail,
    attempts,
    ...(broken.cause === undefined ? {} : { cause: broken.cause })
  })

/**
 * Turns the failure of a request into an error of this package. The HTTP client's error is not kept, because it holds
 * the request with its credential; its cause is kept.
 */
const sendFailure = (error: unknown): Broken | Refusal => {
  if (HttpClientError.isHttpClientError(error)) {
    const { reason } = error
    if (reason._tag === "TransportError" && isFailure(reason.cause)) return reason.cause
    return reason._tag === "EncodeError" || reason._tag === "InvalidUrlError"
      ? new InvalidInput({ message: "The request could not be written; check the base URL and the input" })
      : connectionLost("cause" in reason ? reason.cause : undefined)
  }
  if (Schema.isSchemaError(error)) {
    // The issue holds the input, which may be a pairing code.
    return new InvalidInput({ message: "The request does not have the form that the server takes; nothing was sent" })
  }
  if (error instanceof TokenStorageError) return error
  return new UnexpectedAnswer({
    status: 0,
    code: null,
    message: "The request failed unexpectedly; the cause says more"
  })
}

/** Tells the failure of a refresh, with which the request that waited for it fails. */
const isFailure = (cause: unknown): cause is Broken | Refusal => cause instanceof Broken || isRefusal(cause)
const isRefusal = Schema.is(Schema.Union([...ServerError.members, UnexpectedAnswer, InvalidInput, TokenStorageError]))

/** Returns the failure of a connection that could not be made, or broke. */
export const connectionLost = (cause: unknown): Broken =>
  new Broken({ kind: "connection", detail: "the connection could not be made, or broke", cause })

/** Returns the failure of a connection without data for a time. */
export const stalled = (after: Duration.Duration): Broken =>
  new Broken({ kind: "stalled", detail: `nothing came for ${Duration.format(after)}` })

/** Returns the failure of an answer that this server does not send. */
export const garbled = (detail: string): Broken => new Broken({ kind: "garbled", detail, status: 200 })

/** Reads `Retry-After` in its form of seconds (RFC 9110 section 10.2.3). */
const retryAfterMillis = (response: HttpClientResponse.HttpClientResponse): number | undefined => {
  const value = response.headers["retry-after"]
  return value !== undefined && /^\d{1,6}$/.test(value) ? Number(value) * 1000 : undefined
}

const decodeServerError = Schema.decodeUnknownOption(ServerError)
const decodeSentence = Schema.decodeUnknownOption(
  Schema.Struct({ message: Schema.NonEmptyString, code: Schema.optionalKey(Schema.String) })
)

/** Parses an answer. One of more parts than a server of this kind sends is none, and would hold up the page. */
const parseJson = (text: string): unknown => {
  try {
    return isBoundedJson(text) ? JSON.parse(text) : undefined
  } catch {
    return undefined
  }
}

/** The statuses below 500 with which a server, or a proxy before it, asks the client to try again. */
const retryStatuses = new Set([408, 425, 429])

/** The longest answer that is not a stream: lists come in pages. */
const maxBodyLength = 1024 * 1024

/** Reads a body as text, and stops if it is longer than any answer of the server. */
export const textOf = (response: HttpClientResponse.HttpClientResponse): Effect.Effect<string, Broken> =>
  response.stream.pipe(
    Stream.decodeText,
    Stream.runFoldEffect(
      () => "",
      (text, part): Effect.Effect<string, Broken> =>
        text.length + part.length > maxBodyLength
          ? Effect.fail(new Broken({ kind: "garbled", detail: "the answer has no end", status: response.status }))
          : Effect.succeed(text + part)
    ),
    Effect.catchTag(
      "HttpClientError",
      ({ cause, reason }) => reason._tag === "EmptyBodyError" ? Effect.succeed("") : Effect.fail(connectionLost(cause))
    )
  )

/**
 * Reads an answer that is not a success. An answer without the contract's JSON, such as a proxy's page, is judged by
 * its status. One that says that another attempt does not help is final, whatever its status.
 */
export const failureOf = (
  response: HttpClientResponse.HttpClientResponse
): Effect.Effect<never, Broken | Refusal> =>
  Effect.flatMap(
    // A body that breaks off is ignored; the status counts.
    Effect.orElseSucceed(textOf(response), () => ""),
    (text): Effect.Effect<never, Broken | Refusal> => {
      const { status } = response
      const json = parseJson(text)
      const answer = Option.getOrUndefined(decodeServerError(json))
      const sentence = Option.getOrUndefined(decodeSentence(json))
      const mayHelp = answer === undefined || new ClientError({ reason: answer }).isRetryable
      if (mayHelp && (status >= 500 || retryStatuses.has(status))) {
        return Effect.fail(
          new Broken({
            kind: "unavailable",
            detail: answer?.message ?? sentence?.message ?? `the answer was ${status}`,
            status,
            answer,
            retryAfterMillis: retryAfterMillis(response)
          })
        )
      }
      return Effect.fail(
        answer ?? new UnexpectedAnswer({
          status,
          code: sentence?.code ?? null,
          message: sentence?.message ??
            `The answer was ${status} and did not come from the server; check the base URL`
        })
      )
    }
  )

/** Limits the time of a request. */
export const within =
  (limit: Duration.Duration) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | Broken, R> =>
    Effect.timeoutOrElse(effect, { duration: limit, orElse: () => Effect.fail(stalled(limit)) })

/** Sends a request, and returns its answer of any status. */
export const send = <R>(
  request: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, R>
): Effect.Effect<HttpClientResponse.HttpClientResponse, Broken | Refusal, R> => Effect.mapError(request, sendFailure)

/** Returns the error of a request that is not sent again: the server's own, if it gave one. */
export const lastFailure = (error: Broken | Refusal): Refusal | Unreachable =>
  error._tag === "Broken" ? error.answer ?? unreachable(error, 1) : error

/** How long a request may take, if the application does not say. */
export const limit = Duration.seconds(30)

/** Sends a request once, and says in the words of clients what went wrong. */
export const request = <S extends Schema.ConstraintDecoder<unknown>>(
  send: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>,
  schema: S
): Effect.Effect<S["Type"], ClientError> =>
  Effect.mapError(call(send, schema, limit), (error) => new ClientError({ reason: lastFailure(error) }))

/** Sends a request, and decodes the answer if it is a success. */
export const call = <R, S extends Schema.ConstraintDecoder<unknown>>(
  request: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, R>,
  schema: S,
  limit: Duration.Duration
): Effect.Effect<S["Type"], Broken | Refusal, R> => {
  const decode = Schema.decodeUnknownOption(schema)
  return Effect.gen(function*() {
    const response = yield* send(request)
    if (response.status < 200 || response.status > 299) return yield* failureOf(response)
    const text = yield* textOf(response)
    const json = text === "" ? null : parseJson(text)
    if (json === undefined) {
      return yield* new Broken({
        kind: "garbled",
        detail: "something that is not the server answered, such as a network's sign-in page",
        status: response.status
      })
    }
    const value = decode(json)
    if (Option.isSome(value)) return value.value
    return yield* new UnexpectedAnswer({
      status: response.status,
      code: null,
      message: "The server answered in a form that this client doesn't know; update the one that is older"
    })
  }).pipe(within(limit))
}
