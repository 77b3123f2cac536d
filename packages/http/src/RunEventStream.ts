/**
 * Writes a run's events as Server-Sent Events.
 */
import { RunStreamFailure } from "@sallyport/contract/RunGroup"
import type { RunEventEncoded } from "@sallyport/core/Run"
import type { RunEventLogError } from "@sallyport/core/RunEventLog"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** Tells clients how long to wait before they connect again. */
export const retryDelay: Duration.Duration = Duration.seconds(1)

/**
 * How long a connection stays silent at most, by default 15 seconds: proxies cut one that is idle, often after 30. Read
 * when the layer of the handlers is built.
 */
export const HeartbeatInterval: Context.Reference<Duration.Duration> = Context.Reference(
  "@sallyport/http/RunEventStream/HeartbeatInterval",
  { defaultValue: () => Duration.seconds(15) }
)

// A JSON text holds no line break outside of strings, and inside it is escaped, so one `data:` line holds it whole.
const render = (event: RunEventEncoded): string =>
  `${Option.isSome(event.seq) ? `id: ${event.seq.value}\n` : ""}event: ${event.kind}\ndata: ${event.data}\n\n`

const encodeFailure = Schema.encodeSync(Schema.fromJsonString(RunStreamFailure))

const renderFailure = (failure: typeof RunStreamFailure.Type): string =>
  `event: failure\ndata: ${encodeFailure(failure)}\n\n`

const failureOf = (error: RunEventLogError): typeof RunStreamFailure.Type => {
  switch (error.reason._tag) {
    case "RunNotFound":
      return { code: "run_not_found", message: error.message, retryable: false }
    case "CursorExpired":
      return { code: "cursor_expired", message: error.message, retryable: false }
    default:
      return { code: "unavailable", message: error.message, retryable: true }
  }
}

/** What a reader is told whose session ends while it reads. */
export const sessionEnded: typeof RunStreamFailure.Type = {
  code: "session_ended",
  message: "Your session has ended; sign in again to go on",
  retryable: false
}

// The head is sent with the first chunk, so one is sent at once.
const opening = `retry: ${Duration.toMillis(retryDelay)}\n\n`
const heartbeat = ": heartbeat\n\n"

/**
 * Answers with events as they come. The head goes out at once; comments keep an idle connection alive. An error of the
 * log is a last event `failure`. The stream also ends when `until` completes, with a failure to tell or without a word.
 */
export const respond = (
  events: Stream.Stream<RunEventEncoded, RunEventLogError>,
  options: {
    readonly until: Effect.Effect<Option.Option<typeof RunStreamFailure.Type>>
    readonly heartbeatInterval: Duration.Duration
  }
): HttpServerResponse.HttpServerResponse => {
  const body = events.pipe(
    Stream.mapArray((page) => [page.map(render).join("")]),
    Stream.catch((error) => Stream.succeed(renderFailure(failureOf(error))))
  )
  const ending = Stream.unwrap(
    Effect.map(
      options.until,
      Option.match({ onNone: () => Stream.empty, onSome: (end) => Stream.succeed(renderFailure(end)) })
    )
  )
  const beats = Stream.fromSchedule(Schedule.spaced(options.heartbeatInterval)).pipe(Stream.map(() => heartbeat))
  const text = Stream.succeed(opening).pipe(
    Stream.concat(
      Stream.merge(body, ending, { haltStrategy: "either" }).pipe(Stream.merge(beats, { haltStrategy: "left" }))
    ),
    Stream.encodeText
  )
  return HttpServerResponse.stream(text, {
    contentType: "text/event-stream",
    // `x-accel-buffering` turns off the buffering of nginx and of what follows it.
    headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" }
  })
}
