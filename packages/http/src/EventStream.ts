/**
 * Writes events as they come, as Server-Sent Events or on a WebSocket.
 */
import type { TooManyRequests } from "@sallyport/contract/WireError"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import type { Session } from "@sallyport/core/access/Session"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Writer from "@sallyport/core/Writer"
import * as WireFailure from "@sallyport/contract/WireFailure"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpServerError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as Wire from "./internal/wire.ts"
import * as LiveStream from "./LiveStream.ts"

/**
 * Describes an event on the wire.
 *
 * @category models
 * @since 0.1.0
 */
export interface WireEvent {
  /** The cursor to resume after; absent if there is none. */
  readonly id: string | undefined
  readonly event: string
  /** JSON text. */
  readonly data: string
}

/**
 * Tells a reader why a stream stops.
 *
 * @category errors
 * @since 0.1.0
 */
export interface Failure<Code extends string = string> {
  readonly code: Code
  readonly message: string
  readonly retryable: boolean
  /** What the log is told of, and the reader is not, if the fault is ours. */
  readonly cause?: Error | undefined
}

/**
 * Tells clients how long to wait before they connect again.
 *
 * @category constants
 * @since 0.1.0
 */
export const retryDelay: Duration.Duration = Duration.seconds(1)

/**
 * Says how long a connection stays silent at most, by default 15 seconds: proxies cut one that is idle, often after 30. Read
 * when the layer of the handlers is built.
 *
 * @category services
 * @since 0.1.0
 */
export const HeartbeatInterval: Context.Reference<Duration.Duration> = Context.Reference(
  "@sallyport/http/EventStream/HeartbeatInterval",
  { defaultValue: () => Duration.seconds(15) }
)

/**
 * Holds what a reader is told whose session ends while it reads.
 *
 * @category constants
 * @since 0.1.0
 */
export const sessionEnded: Failure<"session_ended"> = {
  code: "session_ended",
  message: "Your session has ended; sign in again to go on",
  retryable: false
}

/**
 * Completes when the reader must stop: with a failure to report, or with none if the server is shutting down.
 *
 * @category models
 * @since 0.1.0
 */
export type Ending = Effect.Effect<Option.Option<Failure<"session_ended" | "unavailable">>>

const tell = (end: ConnectionEnd.ConnectionEnd): Option.Option<Failure<"session_ended" | "unavailable">> => {
  switch (end._tag) {
    case "SessionEnded":
      return Option.some(sessionEnded)
    case "SessionUnknown":
      return Option.some({ code: "unavailable", message: end.error.message, retryable: true, cause: end.error.reason })
    // A reader that is told nothing connects again, to the next server.
    case "ServerStopping":
    case "HostEnded":
      return Option.none()
  }
}

/**
 * Returns how to wait until a session's readers must stop; see `ConnectionEnd`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeEnding: Effect.Effect<(session: Session) => Ending, never, SessionCredentialService> = Effect.map(
  ConnectionEnd.make,
  (awaitEnd) => (session) => Effect.map(awaitEnd(session), tell)
)

/**
 * Returns how to count a connection that stays open with its session, until the request's scope closes. It fails with a 429
 * if the session has too many; see `ConnectionEnd.PerSession`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeAdmission: Effect.Effect<
  (session: Session) => Effect.Effect<void, TooManyRequests, HttpServerRequest.HttpServerRequest | Scope.Scope>,
  never,
  SessionCredentialService
> = Effect.map(
  ConnectionEnd.makeOpen,
  (open) => (session) => Effect.flatMap(open(session), (opened) => opened ? Effect.void : Wire.tooManyConnections)
)

/**
 * Lists what goes into a stream beside its events.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  readonly until: Ending
  readonly heartbeatInterval: Duration.Duration
  /** An event that is sent at once. For Server-Sent Events only. */
  readonly first?: WireEvent | undefined
}

/** Writes why a stream ends, with the trace id under which the log has the cause. */
const failureEvent = ({ cause, code, message, retryable }: Failure): Effect.Effect<WireEvent> =>
  Effect.flip(WireFailure.answer(
    code,
    cause ?? { message },
    (traceId): WireEvent => ({
      id: undefined,
      event: "failure",
      data: JSON.stringify({ code, message, retryable, traceId })
    }),
    cause !== undefined
  ))

const faultEvent = (cause: Cause.Cause<never>): Effect.Effect<WireEvent> =>
  Effect.map(
    Effect.flip(Wire.internalError(Cause.squash(cause))),
    ({ code, message, retryable, traceId }): WireEvent => ({
      id: undefined,
      event: "failure",
      data: JSON.stringify({ code, message, retryable, traceId })
    })
  )

// A JSON text holds no line break outside of strings, and inside it is escaped, so one `data:` line holds it whole.
const renderSse = ({ data, event, id }: WireEvent): string =>
  `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${data}\n\n`

const encoder = new TextEncoder()
// The head is sent with the first chunk, so one is sent at once.
const opening = `retry: ${Duration.toMillis(retryDelay)}\n\n`
const heartbeat = encoder.encode(": heartbeat\n\n")

const writeSse = (event: WireEvent): Uint8Array => encoder.encode(renderSse(event))

// What many readers wait for is written once for all of them that have it written alike.
const writtenBy = new WeakMap<object, WeakMap<object, Uint8Array>>()
const writePage = <A extends object>(toWire: (event: A) => WireEvent) => {
  const written = writtenBy.get(toWire) ?? new WeakMap<object, Uint8Array>()
  writtenBy.set(toWire, written)
  return (page: ReadonlyArray<A>): Uint8Array => {
    const [first, second] = page
    if (first === undefined || second !== undefined) {
      return encoder.encode(page.map((event) => renderSse(toWire(event))).join(""))
    }
    const known = written.get(first)
    if (known !== undefined) return known
    const bytes = encoder.encode(renderSse(toWire(first)))
    written.set(first, bytes)
    return bytes
  }
}

/**
 * Answers with Server-Sent Events, each written by `toWire`, which is called once for an event that many readers are given.
 * The head goes out at once; comments keep an idle connection alive. An error of the events is a last event `failure`.
 *
 * @category responses
 * @since 0.1.0
 */
export const respondPushed = <A extends object>(
  events: Writer.Push<Arr.NonEmptyReadonlyArray<A>, Failure>,
  toWire: (event: A) => WireEvent,
  options: Options
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.stream(
    LiveStream.make({
      ...options,
      events,
      writer: LiveStream.responseWriter,
      opening: Option.some(encoder.encode(opening + (options.first === undefined ? "" : renderSse(options.first)))),
      heartbeat,
      page: writePage(toWire),
      failure: (failure: Failure) => Effect.map(failureEvent(failure), writeSse),
      defect: (cause) => Effect.map(faultEvent(cause), writeSse)
    }),
    {
      contentType: "text/event-stream",
      // `x-accel-buffering` turns off the buffering of nginx and of what follows it.
      headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" }
    }
  )

const asItIs = (event: WireEvent): WireEvent => event

/**
 * Answers with the events of a stream as they are; see {@link respondPushed}.
 *
 * @category responses
 * @since 0.1.0
 */
export const respond = (
  events: Stream.Stream<WireEvent, Failure>,
  options: Options
): HttpServerResponse.HttpServerResponse => respondPushed(Writer.fromStream(events), asItIs, options)

/**
 * Lists how a WebSocket is closed (RFC 6455 section 7.4): the session has ended, which no reconnecting helps; the server
 * cannot go on, and the client may try again; the server stops; the stream is at its end.
 *
 * @category constants
 * @since 0.1.0
 */
export const closeCodes = { sessionEnded: 4401, unavailable: 1013, stopping: 1001, ended: 1000 } as const

/**
 * Returns the code with which a WebSocket is closed.
 *
 * @category combinators
 * @since 0.1.0
 */
export const closeCodeOf = ({ _tag }: ConnectionEnd.ConnectionEnd): number => {
  switch (_tag) {
    case "SessionEnded":
      return closeCodes.sessionEnded
    case "SessionUnknown":
      return closeCodes.unavailable
    case "ServerStopping":
    case "HostEnded":
      return closeCodes.stopping
  }
}

const renderMessage = ({ data, event, id }: WireEvent): string =>
  `{${id === undefined ? "" : `"id":${JSON.stringify(id)},`}"event":${JSON.stringify(event)},"data":${data}}`

const writeMessage = (event: WireEvent): Arr.NonEmptyReadonlyArray<string> => [renderMessage(event)]

/**
 * Answers the current request, an upgrade, with a WebSocket on which each event is a message of JSON: `event`, `data`, and
 * `id` if there is a cursor. A message `heartbeat` keeps an idle connection alive. What the client sends is not looked
 * at. It returns when the connection is closed.
 *
 * @category responses
 * @since 0.1.0
 */
export const respondWebSocket = (
  events: Stream.Stream<WireEvent, Failure>,
  options: Options
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  HttpServerError | Socket.SocketError,
  HttpServerRequest.HttpServerRequest
> =>
  Effect.scoped(Effect.gen(function*() {
    const socket = yield* Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => request.upgrade)
    const reader = yield* socket.reader
    const writer = yield* socket.writer
    let close: number = closeCodes.ended
    const until = Effect.tap(options.until, (failure) =>
      Effect.sync(() => {
        close = Option.match(failure, {
          onNone: () => closeCodes.stopping,
          onSome: ({ code }) => code === "session_ended" ? closeCodes.sessionEnded : closeCodes.unavailable
        })
      }))
    const telling = Stream.tapCause(events, () =>
      Effect.sync(() => {
        close = closeCodes.unavailable
      }))
    const messages = LiveStream.make<WireEvent, Failure, Arr.NonEmptyReadonlyArray<string>>({
      events: Writer.fromStream(telling),
      until,
      heartbeatInterval: options.heartbeatInterval,
      opening: Option.none(),
      heartbeat: [`{"event":"heartbeat"}`],
      page: Arr.map(renderMessage),
      failure: (failure) => Effect.map(failureEvent(failure), writeMessage),
      defect: (cause) => Effect.map(faultEvent(cause), writeMessage)
    })
    const send = Effect.andThen(
      Stream.runForEach(messages, (page) => writer.writeAll(page)),
      Effect.suspend(() => writer.write(new Socket.CloseEvent(close)))
    )
    // The client's close, or the end of the connection, ends the reading with an error.
    yield* Effect.raceFirst(Effect.ignore(send), Effect.ignore(Effect.forever(reader.pull)))
    return HttpServerResponse.empty()
  }))
