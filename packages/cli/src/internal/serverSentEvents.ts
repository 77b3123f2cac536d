import * as WireError from "@sallyport/contract/WireError"
import * as Effect from "effect/Effect"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { CommandFailed } from "../ExitCode.ts"
import * as PublicAddress from "./publicAddress.ts"

const decodeRefusal = Schema.decodeUnknownEffect(Schema.Union([
  WireError.InvalidRequest,
  WireError.Unauthorized,
  WireError.Forbidden,
  WireError.NotFound,
  WireError.Conflict,
  WireError.Gone,
  WireError.Unavailable,
  WireError.InternalError
]))

const decodeFailure = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Struct({ message: Schema.String })))

/** Describes an event as it came: its data is the JSON text that the server sent. */
export interface ServerSentEvent {
  readonly id: string | undefined
  readonly event: string
  readonly data: string
}

const begun: ServerSentEvent = { id: undefined, event: "message", data: "" }

/** Adds a line to an event. An empty line ends it; comments and the time to wait before a new connection are nothing here. */
const addLine = (event: ServerSentEvent, line: string): readonly [ServerSentEvent, ReadonlyArray<ServerSentEvent>] => {
  if (line === "") return [begun, event.data === "" ? [] : [event]]
  const [, field, value = ""] = /^(id|event|data):? ?(.*)$/.exec(line) ?? []
  return [field === undefined ? event : { ...event, [field]: value }, []]
}

/**
 * Reads the events of an answer. Fails with the error that the server answers or sends, and if the connection ends before
 * the `last` event: the operator decides whether to follow again.
 */
export const read = <E, R>(
  send: Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>,
  last?: string
) =>
  Stream.unwrap(Effect.gen(function*() {
    const response = yield* send
    if (response.status === 204) return Stream.empty
    const other = PublicAddress.notBackend(response.request.url)
    if (response.status !== 200) {
      const refusal = yield* Effect.mapError(Effect.flatMap(response.json, decodeRefusal), () => other)
      return yield* refusal
    }
    if (response.headers["content-type"]?.startsWith("text/event-stream") !== true) return yield* other
    let isOver = false
    const broken = new CommandFailed({
      code: "Unavailable",
      message: "The connection to the server has ended; follow again with --after and the last number shown"
    })
    return response.stream.pipe(
      Stream.decodeText,
      Stream.splitLines,
      Stream.mapAccum(() => begun, addLine),
      Stream.tap((event) => {
        if (event.event === last) isOver = true
        if (event.event !== "failure") return Effect.void
        return Effect.flatMap(decodeFailure(event.data), ({ message }) =>
          new CommandFailed({ code: "Unavailable", message }))
      }),
      Stream.concat(Stream.suspend(() =>
        isOver ? Stream.empty : Stream.fail(broken)
      ))
    )
  }))
