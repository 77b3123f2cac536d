/**
 * Reads only so much of an answer or a request, wherever it comes from.
 *
 * @since 0.1.0
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServerError from "effect/http/HttpServerError"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Input from "./Input.ts"

/**
 * Limits an answer, in bytes, unless it is said otherwise: 64 KiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxAnswerBytes = 65_536

/**
 * Reads the whole body of a response, and fails with `tooLong` as soon as it is longer than may be.
 *
 * @category operations
 * @since 0.1.0
 */
export const readAtMost = <E>(
  response: HttpClientResponse.HttpClientResponse,
  maxBytes: number,
  tooLong: () => E
): Effect.Effect<Uint8Array<ArrayBuffer>, HttpClientError.HttpClientError | E> => {
  const chunks: Array<Uint8Array> = []
  let size = 0
  return response.stream.pipe(
    Stream.catchReason("HttpClientError", "EmptyBodyError", () => Stream.empty),
    Stream.runForEach((chunk) => {
      chunks.push(chunk)
      size += chunk.length
      return size > maxBytes ? Effect.fail(tooLong()) : Effect.void
    }),
    Effect.map(() => {
      const bytes = new Uint8Array(size)
      let offset = 0
      for (const chunk of chunks) {
        bytes.set(chunk, offset)
        offset += chunk.length
      }
      return bytes
    })
  )
}

/**
 * Returns a client that has read each answer when it gives it, and fails if one is longer than {@link maxAnswerBytes}.
 *
 * @category combinators
 * @since 0.1.0
 */
export const bounded = (client: HttpClient.HttpClient): HttpClient.HttpClient =>
  HttpClient.transformResponse(
    client,
    Effect.flatMap((response) =>
      Effect.map(
        readAtMost(response, maxAnswerBytes, () =>
          new HttpClientError.HttpClientError({
            reason: new HttpClientError.DecodeError({
              request: response.request,
              response,
              description: "the answer is too long"
            })
          })),
        (bytes) =>
          HttpClientResponse.fromWeb(
            response.request,
            // A response without a body may be of a status that must have none.
            new Response(bytes.length === 0 ? null : bytes, { status: response.status, headers: response.headers })
          )
      )
    )
  )

/**
 * Returns a request whose `text` and `json` fail as those of a body that is too large do, if the body has more lists, objects,
 * entries or names than JSON of a stranger may have: {@link Input.maxJson}. A host that lets in larger bodies, by
 * `HttpIncomingMessage.MaxBodySize`, lets in as many times more of them.
 *
 * @category combinators
 * @since 0.1.0
 */
export const boundedRequest = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  const text = Effect.gen(function*() {
    const text = yield* request.text
    const maxBodySize = yield* HttpIncomingMessage.MaxBodySize
    if (Input.isBoundedJson(text, maxBodySize && ByteSize.toNumberUnsafe(maxBodySize))) return text
    return yield* new HttpServerError.HttpServerError({
      reason: new HttpServerError.RequestParseError({
        request,
        reason: "BodyTooLarge",
        description: "the JSON has more lists, objects, entries or different names than this server takes"
      })
    })
  })
  // Its `json` parses its `text`.
  return Object.create(request, { text: { value: text } })
}

// -----------------------------------------------------------------------------
// Documents
// -----------------------------------------------------------------------------

/**
 * Reports a document that cannot be read. The problem is for people, and completes a sentence about the document.
 *
 * @category errors
 * @since 0.1.0
 */
export class DocumentUnreadable extends Schema.TaggedError<DocumentUnreadable>()("DocumentUnreadable", {
  problem: Schema.String
}) {
  override get message() {
    return `The document cannot be read: ${this.problem}`
  }
}

const maxAgeSeconds = 86_400
const defaultAgeSeconds = 300

/** Returns for how long a response may be kept (RFC 9111 section 5.2.2), in milliseconds. */
const ageOf = (cacheControl: string | undefined): number => {
  if (cacheControl === undefined) return defaultAgeSeconds * 1_000
  if (/\b(?:no-store|no-cache|private)\b/i.test(cacheControl)) return 0
  const seconds = /\bmax-age\s*=\s*"?(\d{1,9})/i.exec(cacheControl)?.[1]
  return Math.min(Number(seconds ?? defaultAgeSeconds), maxAgeSeconds) * 1_000
}

/**
 * Reads a document of JSON. Only the status 200 counts, no redirect is followed, no cookie is sent, and the document is at
 * most `maxBytes` long. It may be kept for `keptMillis`: as long as its `Cache-Control` says, at most a day, and 5 minutes if
 * that says nothing. It has no deadline of its own.
 *
 * @category operations
 * @since 0.1.0
 */
export const readJson: (url: string, maxBytes: number) => Effect.Effect<
  { readonly value: unknown; readonly keptMillis: number },
  DocumentUnreadable,
  HttpClient.HttpClient
> = Effect.fnUntraced(
  function*(url: string, maxBytes: number) {
    const http = yield* HttpClient.HttpClient
    const refuse = (problem: string) => new DocumentUnreadable({ problem })
    const response = yield* http.execute(HttpClientRequest.get(url, { headers: { accept: "application/json" } })).pipe(
      Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual", credentials: "omit" })
    )
    if (response.status !== 200) return yield* refuse(`it was answered with the status ${response.status}, not 200`)
    if (!/^application\/(?:[a-z0-9.-]+\+)?json\s*(?:;|$)/i.test(response.headers["content-type"] ?? "")) {
      return yield* refuse("it is not sent as application/json")
    }
    const bytes = yield* readAtMost(response, maxBytes, () => refuse(`it is longer than ${maxBytes} bytes`))
    const notJson = () => refuse("it is no JSON")
    const text = yield* Effect.try({
      try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
      catch: notJson
    })
    if (!Input.isBoundedJson(text)) return yield* refuse("it has more lists, objects, entries or names than are read")
    const value = yield* Effect.try({ try: (): unknown => JSON.parse(text), catch: notJson })
    return { value, keptMillis: ageOf(response.headers["cache-control"]) }
  },
  Effect.scoped,
  Effect.catchTag(
    "HttpClientError",
    () => Effect.fail(new DocumentUnreadable({ problem: "it cannot be reached at a public address" }))
  )
)
