/**
 * Writes a run's events as Server-Sent Events.
 */
import { endTold, type RunStreamFailure, RunView, runView } from "@sallyport/contract/RunGroup"
import { eventId, type RunEventEncoded } from "@sallyport/core/runs/Run"
import type { Followed, RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import * as Writer from "@sallyport/core/Writer"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Schema from "effect/Schema"
import * as EventStream from "../EventStream.ts"

const failureOf = (error: RunEventLogError): EventStream.Failure<(typeof RunStreamFailure.Type)["code"]> => {
  switch (error.reason._tag) {
    case "RunNotFound":
      return { code: "run_not_found", message: error.message, retryable: false }
    case "CursorExpired":
      return { code: "cursor_expired", message: error.message, retryable: false }
    default:
      return { code: "unavailable", message: error.message, retryable: true, cause: error.reason }
  }
}

const toWire = (event: RunEventEncoded): EventStream.WireEvent => ({
  id: Option.isSome(event.seq) ? eventId(event.seq.value, event.firstSeq) : event.kind === "end" ? endTold : undefined,
  event: event.kind,
  data: event.data
})

/** Answers with the events of a run as they come. An error of the log is a last event `failure`. */
export const respond = (
  events: Writer.Push<Arr.NonEmptyReadonlyArray<RunEventEncoded>, RunEventLogError>,
  options: EventStream.Options
): HttpServerResponse.HttpServerResponse =>
  EventStream.respondPushed((writer) => Effect.mapError(events(writer), failureOf), toWire, options)

const encodeRun = Schema.encodeSync(Schema.fromJsonString(RunView))

// The data of an event is passed on as it is stored.
const followedToWire = (given: Followed<RunEventEncoded>): EventStream.WireEvent => {
  if (given._tag === "Begun") return { id: given.cursor, event: "run", data: encodeRun(runView(given.run)) }
  const { cursor, event: { data, firstSeq, kind, runId, seq }, threadId } = given
  const of = JSON.stringify({ runId, threadId, seq: Option.getOrNull(seq), firstSeq })
  return { id: cursor, event: kind, data: `${of.slice(0, -1)},"${kind}":${data}}` }
}

/** Answers with the events of many runs as they come. An error of the log is a last event `failure`. */
export const respondFollowed = (
  events: Stream.Stream<Followed<RunEventEncoded>, RunEventLogError>,
  options: EventStream.Options
): HttpServerResponse.HttpServerResponse =>
  EventStream.respondPushed(Writer.fromStream(Stream.mapError(events, failureOf)), followedToWire, options)

/** Returns the event that tells a reader where its stream begins, before anything has come. */
export const cursorEvent = (cursor: string): EventStream.WireEvent => ({
  id: cursor,
  event: "cursor",
  data: JSON.stringify({ cursor })
})
