import { AccessStreamFailure } from "@sallyport/contract/AccessGroup"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { CommandFailed } from "../ExitCode.ts"
import * as Failures from "./failures.ts"
import * as PublicAddress from "./publicAddress.ts"

// That of a run's stream has fewer codes.
const decodeFailure = Schema.decodeUnknownEffect(Schema.fromJsonString(AccessStreamFailure))

/**
 * Shows the events of an answer. Fails with the error that the server answers or sends, and if the connection ends before
 * the `last` event: the operator decides whether to follow again.
 */
export const forEach = Effect.fnUntraced(function*<E, R, E2, R2>(
  send: Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>,
  show: (event: Sse.Event) => Effect.Effect<void, E2, R2>,
  last?: string
) {
  const response = yield* send
  if (response.status === 204) return
  const other = PublicAddress.notBackend(response.request.url)
  if (response.status !== 200) {
    return yield* Effect.flatMap(
      Effect.mapError(Effect.flatMap(response.json, Failures.decodeWireError), () => other),
      Effect.fail
    )
  }
  if (response.headers["content-type"]?.startsWith("text/event-stream") !== true) return yield* other
  const ended = new CommandFailed({
    code: "Unavailable",
    message: "The connection to the server has ended; follow again with --after and the last number shown"
  })
  let isOver = false
  const found: Array<Sse.AnyEvent> = []
  const parser = Sse.makeParser((event) => found.push(event), { maxEventSize: Infinity })
  yield* response.stream.pipe(
    Stream.mapError(() => ended),
    Stream.decodeText,
    Stream.map((text) => {
      parser.feed(text)
      return found.splice(0)
    }),
    Stream.flattenIterable,
    Stream.filter((event) => event._tag === "Event"),
    Stream.takeUntil(({ event }) => event === last),
    Stream.runForEach((event): Effect.Effect<void, E2 | CommandFailed | Schema.SchemaError, R2> => {
      if (event.event === last) isOver = true
      if (event.event !== "failure") return show(event)
      return Effect.flatMap(
        decodeFailure(event.data),
        (failure) => new CommandFailed({ code: Failures.codeOfStream(failure), message: failure.message })
      )
    }),
    Effect.mapError((error) => Schema.isSchemaError(error) ? other : error)
  )
  if (!isOver) return yield* ended
})
