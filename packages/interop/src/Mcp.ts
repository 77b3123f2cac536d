/**
 * Keeps the messages of MCP sessions: an `EventStore` for the MCP SDK's Streamable HTTP transports.
 *
 * A stream of MCP has no end that its store learns of, and a session may outlive the process. It is therefore a durable
 * stream of `@sallyport/durable-streams`, and not a run.
 */
import type { EventStore } from "@modelcontextprotocol/sdk/server/streamableHttp.js"
import type { RunOwner } from "@sallyport/core/runs/Run"
import type { StreamInfo } from "@sallyport/durable-streams/DurableStream"
import { DurableStreams, type DurableStreamsError } from "@sallyport/durable-streams/DurableStreams"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"

/**
 * Describes whose messages a store holds.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Whose the session is. */
  readonly owner: RunOwner
  /**
   * The session's id. Streams of different sessions have the same names, such as that of messages outside of requests, so a
   * store serves one session.
   */
  readonly session: string
  /** How long messages are kept after the stream was last written or read. Defaults to 24 hours. */
  readonly retention?: Duration.Input | undefined
}

type Message = Parameters<EventStore["storeEvent"]>[1]

interface Place {
  readonly streamId: string
  /** The stream's number, which is not used again when a stream of the same name is created after this one has expired. */
  readonly id: number
  /** The position after the message. */
  readonly position: number
}

const formatEventId = ({ id, position, streamId }: Place): string => `${encodeURIComponent(streamId)}.${id}.${position}`

const decodeName = Option.liftThrowable(decodeURIComponent)

const parseEventId = (eventId: string): Place | undefined => {
  const [, name = "", id, position] = /^(.+)\.(\d{1,15})\.(\d{1,15})$/.exec(eventId) ?? []
  return name === "" ? undefined : Option.getOrUndefined(
    Option.map(decodeName(name), (streamId) => ({ streamId, id: Number(id), position: Number(position) }))
  )
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const contentType = "application/json"

const isAbsent = ({ reason }: DurableStreamsError): boolean =>
  reason._tag === "StreamNotFound" || reason._tag === "StreamGone"

/**
 * Makes the event store of one session. Any process can make it anew, to serve the session's clients on.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("Mcp.make")(function*(
  { owner, retention = "24 hours", session }: Options
): Effect.fn.Return<EventStore, never, DurableStreams> {
  const streams = yield* DurableStreams
  const run = Effect.runPromiseWith(yield* Effect.context<never>())
  // The SDK does not wait for one message to be stored before it hands over the next.
  const inOrder = yield* Semaphore.make(1)

  const name = (streamId: string) => ({
    owner,
    path: `mcp/${encodeURIComponent(session)}/${encodeURIComponent(streamId)}`
  })

  const open = (streamId: string): Effect.Effect<StreamInfo, DurableStreamsError> =>
    streams.get(name(streamId)).pipe(
      Effect.catchIf(isAbsent, () =>
        Effect.map(streams.create({ ...name(streamId), contentType, ttl: retention }), ({ stream }) => stream))
    )

  /** Returns the stream of an event, or `undefined` where it has none here, or no longer. */
  const find = Effect.fnUntraced(function*(
    eventId: string
  ): Effect.fn.Return<Place | undefined, DurableStreamsError> {
    const place = parseEventId(eventId)
    if (place === undefined) return undefined
    const stream = yield* Effect.catchIf(streams.get(name(place.streamId)), isAbsent, () => Effect.succeed(undefined))
    return stream === undefined || stream.id !== place.id || stream.tail < place.position ? undefined : place
  })

  return {
    storeEvent: (streamId, message) =>
      run(inOrder.withPermit(Effect.gen(function*() {
        const { id } = yield* open(streamId)
        const data = encoder.encode(JSON.stringify(message))
        const { tail } = yield* streams.append({ ...name(streamId), contentType, data })
        return formatEventId({ streamId, id, position: tail })
      }))),
    getStreamIdForEventId: (eventId) => run(Effect.map(find(eventId), (place) => place?.streamId)),
    replayEventsAfter: (lastEventId, { send }) =>
      run(Effect.gen(function*() {
        const place = yield* find(lastEventId)
        if (place === undefined) return yield* Effect.fail(new Error(`There is no event ${lastEventId}, or no longer`))
        const { id, streamId } = place
        let from = place.position
        while (true) {
          const page = yield* streams.read({ ...name(streamId), from })
          const text = page.pieces.map((piece) => decoder.decode(piece)).join(",")
          const messages: ReadonlyArray<Message> = JSON.parse(`[${text}]`)
          for (const [index, message] of messages.entries()) {
            // The SDK stores an empty object to have the id of an event that tells the client how to reconnect.
            if (!("jsonrpc" in message)) continue
            const eventId = formatEventId({ streamId, id, position: from + index + 1 })
            yield* Effect.promise(() => send(eventId, message))
          }
          from = page.next
          if (page.upToDate) return streamId
        }
      }))
  }
})
