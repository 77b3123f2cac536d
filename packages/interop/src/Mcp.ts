/**
 * Keeps the messages of MCP sessions: an `EventStore` for the Streamable HTTP transports of both versions of the MCP SDK,
 * for protocol versions up to 2025-11-25; see {@link protocolVersions}.
 *
 * The store of an MCP stream never learns of its end, and a session may outlive the process. The stream is therefore a
 * durable stream of `@sallyport/durable-streams`, and not a run.
 */
import type { EventStore } from "@modelcontextprotocol/sdk/server/streamableHttp.js"
import * as Input from "@sallyport/core/Input"
import type { RunOwner } from "@sallyport/core/runs/Run"
import type { StreamInfo } from "@sallyport/durable-streams/DurableStream"
import { DurableStreams, type DurableStreamsError } from "@sallyport/durable-streams/DurableStreams"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { ownerRule } from "./internal/interop.ts"

/**
 * Lists the versions of the protocol that use an event store: those with sessions, in which a client goes on by
 * `Last-Event-ID`. Later ones have neither: a stream that is closed cancels its request, and a tool that works for long
 * answers with a task (`McpTasks`).
 *
 * @category constants
 * @since 0.1.0
 */
export const protocolVersions = ["2025-03-26", "2025-06-18", "2025-11-25"] as const

/**
 * Configures the session whose messages a store holds.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The owner of the session. */
  readonly owner: RunOwner
  /**
   * The session's id. Streams of different sessions can have the same name, such as the stream of messages outside of
   * requests, so a store serves one session.
   */
  readonly session: string
  /** How long messages are kept after the stream was last written or read. Default 24 hours. */
  readonly retention?: Duration.Input | undefined
}

type Message = Parameters<EventStore["storeEvent"]>[1]
type Send = Parameters<EventStore["replayEventsAfter"]>[1]["send"]

/** A message that waits to be stored. */
interface Waiting {
  readonly text: string
  readonly resume: (stored: Effect.Effect<string, DurableStreamsError>) => void
}

/** What happens to one stream, one thing after the other: appends, and the last read of a replay. */
interface Line {
  readonly turn: Semaphore.Semaphore
  readonly waiting: Array<Waiting>
  /** How many calls use the line; it goes with the last. */
  users: number
}

interface Place {
  readonly streamId: string
  /** The stream's number, which is not used again when a stream of the same name is created after this one has expired. */
  readonly id: number
  /** The position after the message. */
  readonly position: number
}

const formatEventId = ({ id, position, streamId }: Place): string => `${encodeURIComponent(streamId)}.${id}.${position}`

const decodeName = Option.liftThrowable(decodeURIComponent)

const parseEventId = (eventId: string): Option.Option<Place> => {
  const [, name, id, position] = /^(.+)\.(\d{1,15})\.(\d{1,15})$/.exec(eventId) ?? []
  return name === undefined
    ? Option.none()
    : Option.map(decodeName(name), (streamId) => ({ streamId, id: Number(id), position: Number(position) }))
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const contentType = "application/json"

const isAbsent = ({ reason }: DurableStreamsError): boolean =>
  reason._tag === "StreamNotFound" || reason._tag === "StreamGone"

/** Lets everything run that follows from promises that have been kept. */
const macrotask = Effect.callback<void>((resume) => void setTimeout(() => resume(Effect.void), 0))

/**
 * Creates the event store of one session. Any process can create it again, to continue to serve the session's clients.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("Mcp.make")(function*(
  options: Options
): Effect.fn.Return<EventStore, never, DurableStreams> {
  Input.demand(
    "Mcp.make",
    { owner: ownerRule, session: Input.required(Input.text), retention: Input.any },
    options
  )
  const { owner, retention = "24 hours", session } = options
  const streams = yield* DurableStreams
  const run = Effect.runPromiseWith(yield* Effect.context<never>())
  const lines = new Map<string, Line>()

  const name = (streamId: string) => ({
    owner,
    path: `mcp/${encodeURIComponent(session)}/${encodeURIComponent(streamId)}`
  })

  const open = (streamId: string): Effect.Effect<StreamInfo, DurableStreamsError> =>
    streams.get(name(streamId)).pipe(
      Effect.catchIf(isAbsent, () =>
        Effect.map(streams.create({ ...name(streamId), contentType, ttl: retention }), ({ stream }) => stream))
    )

  /** Uses the line of a stream, which is kept as long as it is in use. */
  const withLine = <A, E>(streamId: string, use: (line: Line) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const line = lines.get(streamId) ?? { turn: Semaphore.makeUnsafe(1), waiting: [], users: 0 }
        line.users++
        lines.set(streamId, line)
        return line
      }),
      use,
      (line) =>
        Effect.sync(() => {
          line.users--
          if (line.users === 0) lines.delete(streamId)
        })
    )

  /** Appends messages with one append, and returns the position after the last. */
  const append = (streamId: string, texts: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const { id } = yield* open(streamId)
      const { tail } = yield* streams.append({
        ...name(streamId),
        contentType,
        data: encoder.encode(`[${texts.join(",")}]`)
      })
      return { id, tail }
    })

  /** Appends what waits. A batch that is too large is appended in halves, so that only a message too large by itself fails. */
  const appendAll = (streamId: string, batch: ReadonlyArray<Waiting>): Effect.Effect<void> =>
    batch.length === 0 ? Effect.void : Effect.matchCauseEffect(append(streamId, batch.map(({ text }) => text)), {
      onSuccess: ({ id, tail }) =>
        Effect.sync(() => {
          const first = tail - batch.length + 1
          batch.forEach(({ resume }, index) =>
            resume(Effect.succeed(formatEventId({ streamId, id, position: first + index })))
          )
        }),
      onFailure: (cause) => {
        const failed = Cause.findErrorOption(cause)
        if (batch.length > 1 && Option.isSome(failed) && failed.value.reason._tag === "LimitExceeded") {
          const half = batch.length >> 1
          return Effect.andThen(appendAll(streamId, batch.slice(0, half)), appendAll(streamId, batch.slice(half)))
        }
        return Effect.sync(() => batch.forEach(({ resume }) => resume(Effect.failCause(cause))))
      }
    })

  const store = (streamId: string, text: string): Effect.Effect<string, DurableStreamsError> =>
    withLine(streamId, ({ turn, waiting }) =>
      Effect.callback<string, DurableStreamsError>((resume) => {
        waiting.push({ text, resume })
        // Messages that gather while an append is on its way are stored by the next one.
        if (waiting.length > 1) return
        const next = Effect.andThen(Effect.yieldNow, Effect.suspend(() => appendAll(streamId, waiting.splice(0))))
        void run(turn.withPermit(next))
      }))

  /** Returns the stream of an event, or none if it is unknown or no longer kept. */
  const find = Effect.fnUntraced(function*(
    eventId: string
  ): Effect.fn.Return<Option.Option<Place>, DurableStreamsError> {
    const place = Option.getOrUndefined(parseEventId(eventId))
    if (place === undefined) return Option.none()
    const stream = yield* Effect.catchIf(streams.get(name(place.streamId)), isAbsent, () => Effect.succeed(undefined))
    return stream === undefined || stream.id !== place.id || stream.tail < place.position
      ? Option.none()
      : Option.some(place)
  })

  /** Sends the messages of a page, and returns where to read on, or none after the last. */
  const sendPage = Effect.fnUntraced(function*({ id, position, streamId }: Place, send: Send) {
    const page = yield* streams.read({ ...name(streamId), from: { streamId: id, position } })
    const text = page.pieces.map((piece) => decoder.decode(piece)).join(",")
    const messages: ReadonlyArray<Message> = JSON.parse(`[${text}]`)
    for (const [index, message] of messages.entries()) {
      // The SDK stores an empty object to have the id of an event that tells the client how to reconnect.
      if (!("jsonrpc" in message)) continue
      const eventId = formatEventId({ streamId, id, position: position + index + 1 })
      yield* Effect.promise(() => send(eventId, message))
    }
    return { position: page.next, upToDate: page.upToDate }
  })

  return {
    storeEvent: (streamId, message) => run(store(streamId, JSON.stringify(message))),
    getStreamIdForEventId: (eventId) =>
      run(Effect.map(find(eventId), (place) => Option.getOrUndefined(place)?.streamId)),
    replayEventsAfter: (lastEventId, { send }) =>
      run(Effect.gen(function*() {
        const place = Option.getOrUndefined(yield* find(lastEventId))
        if (place === undefined) {
          return yield* Effect.fail(new Error(`There is no event ${lastEventId}, or it is no longer kept`))
        }
        const { streamId } = place
        let read = yield* sendPage(place, send)
        while (!read.upToDate) read = yield* sendPage({ ...place, position: read.position }, send)
        // The SDK passes later messages on from when this has returned. What is stored during the last read would be in
        // neither, so nothing is; and the line goes on only after the SDK has learned of the return.
        return yield* withLine(streamId, ({ turn }) =>
          Effect.acquireUseRelease(
            turn.take(1),
            () =>
              Effect.gen(function*() {
                do read = yield* sendPage({ ...place, position: read.position }, send)
                while (!read.upToDate)
                return streamId
              }),
            () => Effect.forkDetach(Effect.andThen(macrotask, turn.release(1)))
          ))
      }))
  }
})
