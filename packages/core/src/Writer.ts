/**
 * Takes the pages of a stream that is pushed to its reader, and says how a server writes them to a connection.
 *
 * A stream is pulled by the fiber that sends it, which wakes for each page. Of a page that thousands wait for, that is most
 * of the cost. A writer is called by the one who has the page, and the reader's fiber sleeps while there is room.
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

/**
 * Takes what a reader is sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface Writer<in A> {
  /** Takes a value at once, and tells whether there is room for more. What is written without room waits in memory. */
  readonly write: (value: A) => boolean
  /** Completes when there is room. */
  readonly drained: Effect.Effect<void>
}

/**
 * Writes to a reader until there is no more to come.
 *
 * @category models
 * @since 0.1.0
 */
export type Push<A, E = never> = (writer: Writer<A>) => Effect.Effect<void, E>

/**
 * Pushes the pages of a stream.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromStream = <A, E>(events: Stream.Stream<A, E>): Push<Arr.NonEmptyReadonlyArray<A>, E> => (writer) =>
  Stream.runForEachArray(events, (page) => writer.write(page) ? Effect.void : writer.drained)

/**
 * Makes the writer of the answer to a request; see {@link ResponseWriter}.
 *
 * @category models
 * @since 0.1.0
 */
export type MakeResponseWriter = (
  request: HttpServerRequest.HttpServerRequest,
  first: Uint8Array
) => () => Option.Option<Writer<Uint8Array>>

/**
 * Says how the body of an answer is written to its connection without a stream; by default not at all.
 *
 * It is asked before `first` is given to the server by the stream of the body. It answers the writer for everything after
 * it, once the server has written `first` to the connection as it is, and none before, or if it came out changed: a body
 * that a middleware compresses or rewrites goes on as a stream. `NodeWriter.layer` of `@sallyport/node` is for Node's
 * server.
 *
 * @category services
 * @since 0.1.0
 */
export const ResponseWriter: Context.Reference<MakeResponseWriter> = Context.Reference<MakeResponseWriter>(
  "@sallyport/core/Writer/ResponseWriter",
  { defaultValue: () => () => Option.none }
)
