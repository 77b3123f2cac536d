/**
 * Answers reads of anything that is read in pages: the data so far, the next data as soon as there is some, or all data to
 * come as Server-Sent Events.
 */
import type * as Writer from "@sallyport/core/Writer"
import * as LiveStream from "@sallyport/http/LiveStream"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import {
  formatOffset,
  isJson,
  isText,
  parseOffset,
  type StreamInfo,
  type StreamOffset,
  type StreamPage
} from "../DurableStream.ts"
import type { DurableStreamsError } from "../DurableStreams.ts"
import * as Cursor from "./cursor.ts"
import * as Wire from "./wire.ts"

/** Describes what is read. */
export interface Source {
  /** What the entity tags begin with: the same for as long as offsets mean the same data. */
  readonly tag: (stream: StreamInfo) => string
  readonly read: (from: StreamOffset | 0 | "tail") => Effect.Effect<StreamPage, DurableStreamsError>
  /** Reads the page after another one; if that was up to date, once there is more. The page may be empty. */
  readonly readNext: (after: StreamPage) => Effect.Effect<StreamPage, DurableStreamsError>
  /** Pushes all pages after another one, until what is read has ended. */
  readonly push: (after: StreamPage) => Writer.Push<StreamPage, DurableStreamsError>
}

/** Describes how long an answer may take. */
export interface LiveOptions {
  readonly longPollMillis: number
  /** After this time a stream of events ends, and its reader connects again. */
  readonly sseMillis: number
  /** How long a stream of events stays silent at most. */
  readonly heartbeatMillis: number
  /** Counts a read that waits until the scope closes, and tells whether the session may have one more. */
  readonly open: Effect.Effect<boolean, never, Scope.Scope>
  /** Completes when the reader may read no more, or the server stops. */
  readonly until: Effect.Effect<void>
}

type SearchParams = Readonly<Record<string, string | ReadonlyArray<string>>>

const encoder = new TextEncoder()
// A byte order mark is data as any other, and counts in offsets.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
const open = encoder.encode("[")
const close = encoder.encode("]")
const comma = encoder.encode(",")

const concat = (pieces: ReadonlyArray<Uint8Array>): Uint8Array => {
  const only = pieces[0]
  if (only === undefined) return new Uint8Array()
  if (pieces.length === 1) return only
  let length = 0
  for (const piece of pieces) length += piece.length
  const whole = new Uint8Array(length)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}

/** Returns the bytes of a page as a body; for JSON an array of its messages. */
const bodyOf = (page: StreamPage): Uint8Array => {
  if (!isJson(page.stream.contentType)) return concat(page.pieces)
  const parts: Array<Uint8Array> = [open]
  for (const [index, piece] of page.pieces.entries()) {
    if (index > 0) parts.push(comma)
    parts.push(piece)
  }
  parts.push(close)
  return concat(parts)
}

const isSet = (value: string | undefined, tag: string): boolean =>
  value !== undefined && value.split(",").some((each) => {
    const text = each.trim()
    return text === "*" || (text.startsWith("W/") ? text.slice(2) : text) === tag
  })

const offsetExpected = "-1, now, or an offset that this server has answered"

/** Reads the position where a reader wants to begin. */
const positionOf = (offset: string | undefined): Effect.Effect<StreamOffset | 0 | "tail", DurableStreamsError> => {
  if (offset === undefined || offset === "-1") return Effect.succeed(0)
  if (offset === "now") return Effect.succeed("tail")
  return Option.match(parseOffset(offset), {
    onNone: () => Wire.invalid("offset", offsetExpected),
    onSome: (position) => Effect.succeed(position)
  })
}

const one = (params: SearchParams, name: string): Effect.Effect<string | undefined, DurableStreamsError> => {
  const value = params[name]
  return value === undefined || typeof value === "string" ? Effect.succeed(value) : Wire.invalid(name, "given once")
}

// A page before the tail never changes. At the tail there may be more at any time, which an entity tag tells.
const cacheControl = (page: StreamPage): string =>
  page.upToDate ? "private, no-cache" : "private, max-age=60, stale-while-revalidate=300"

const pageHeaders = (page: StreamPage): Record<string, string> => {
  const headers: Record<string, string> = {
    ...Wire.securityHeaders,
    vary: "authorization, cookie",
    "stream-next-offset": formatOffset({ streamId: page.stream.id, position: page.next })
  }
  if (page.upToDate) headers["stream-up-to-date"] = "true"
  if (page.ended) headers["stream-closed"] = "true"
  return headers
}

const answerPage = (
  request: HttpServerRequest.HttpServerRequest,
  source: Source,
  page: StreamPage,
  extra: Readonly<Record<string, string>>
): HttpServerResponse.HttpServerResponse => {
  const tag = `"${source.tag(page.stream)}:${page.from}:${page.next}${page.ended ? ":c" : ""}"`
  const headers = { ...pageHeaders(page), "cache-control": cacheControl(page), etag: tag, ...extra }
  return isSet(request.headers["if-none-match"], tag)
    ? HttpServerResponse.empty({ status: 304, headers })
    : HttpServerResponse.uint8Array(bodyOf(page), { contentType: page.stream.contentType, headers })
}

// -----------------------------------------------------------------------------
// Long-poll
// -----------------------------------------------------------------------------

const longPoll = Effect.fnUntraced(function*(options: {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly source: Source
  readonly from: StreamOffset | 0 | "tail"
  readonly cursor: string | undefined
  readonly live: LiveOptions
}): Effect.fn.Return<HttpServerResponse.HttpServerResponse, DurableStreamsError> {
  const { from, live, request, source } = options
  const extra: Record<string, string> = {}
  let page = yield* source.read(from)
  if (page.pieces.length === 0 && !page.ended) {
    const first = page
    // A wake-up may be for nothing, so that one look is not enough.
    const changed = Effect.gen(function*() {
      let latest = first
      while (latest.pieces.length === 0 && !latest.ended) latest = yield* source.readNext(latest)
      return latest
    })
    const found = yield* Effect.raceFirst(
      Effect.timeoutOption(changed, live.longPollMillis),
      Effect.map(live.until, () => {
        // The reader would ask again on this connection, and so hold up a server that stops.
        extra.connection = "close"
        return Option.none()
      })
    )
    page = Option.getOrElse(found, () => first)
  }
  const cursor = { "stream-cursor": String(yield* Cursor.next(options.cursor)) }
  return page.pieces.length === 0
    ? HttpServerResponse.empty({
      status: 204,
      headers: { ...pageHeaders(page), "cache-control": "no-store", ...(page.ended ? {} : cursor), ...extra }
    })
    : answerPage(request, source, page, cursor)
})

// -----------------------------------------------------------------------------
// Server-Sent Events
// -----------------------------------------------------------------------------

const lineBreak = /\r\n|\n|\r/

// Readers take one space after the colon away. The protocol's suite expects none to be there without need.
const dataLine = (line: string): string => line.startsWith(" ") ? `data: ${line}\n` : `data:${line}\n`

const dataEvent = (text: string): string => `event: data\n${text.split(lineBreak).map(dataLine).join("")}\n`

/** Returns how many bytes at the end are the beginning of a character that is not whole. */
const unfinished = (bytes: Uint8Array): number => {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if ((byte & 0xc0) === 0x80) continue
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
    return length > back ? back : 0
  }
  return 0
}

/** Describes what of a page goes out. */
interface Rendered {
  readonly text: string
  /** The position after the text. */
  readonly next: number
  /** The beginning of a character whose rest may still come, which goes out with it. */
  readonly held: Uint8Array
}

const nothing: Uint8Array = new Uint8Array()

const render = (page: StreamPage, held: Uint8Array): Rendered => {
  const { contentType } = page.stream
  const { next } = page
  // A stream may be closed in the middle of a character.
  if (page.pieces.length === 0 && (held.length === 0 || !page.ended)) {
    return { text: "", next: next - held.length, held }
  }
  const bytes = held.length === 0 ? bodyOf(page) : concat([held, ...page.pieces])
  if (!isText(contentType)) return { text: dataEvent(Base64.encode(bytes)), next, held: nothing }
  const rest = isJson(contentType) || page.ended ? 0 : unfinished(bytes)
  const whole = bytes.length - rest
  return {
    text: whole === 0 ? "" : dataEvent(decoder.decode(bytes.subarray(0, whole))),
    next: next - rest,
    held: bytes.subarray(whole)
  }
}

const heartbeat = encoder.encode(": heartbeat\n\n")

/** Writes a page with the control event that follows it. */
const writeEvents = (page: StreamPage, { next, text }: Rendered, cursor: number): Uint8Array => {
  const control = {
    streamNextOffset: formatOffset({ streamId: page.stream.id, position: next }),
    ...(page.ended ? { streamClosed: true } : { streamCursor: String(cursor) }),
    ...(page.upToDate ? { upToDate: true } : {})
  }
  return encoder.encode(`${text}event: control\ndata:${JSON.stringify(control)}\n\n`)
}

// Many readers are given the same page, most of them with the same cursor.
const written = new WeakMap<
  StreamPage,
  { readonly rendered: Rendered; readonly cursor: number; readonly events: Uint8Array }
>()

const write = (page: StreamPage, held: Uint8Array, cursor: number) => {
  const known = written.get(page)
  if (held.length === 0 && known?.cursor === cursor) return known
  const rendered = render(page, held)
  const fresh = { rendered, cursor, events: writeEvents(page, rendered, cursor) }
  if (held.length === 0) written.set(page, fresh)
  return fresh
}

/** Makes what writes the pages of one answer; nothing for a page that leaves nothing to tell. */
const writing = (cursor: () => number, begun: Uint8Array) => {
  let held = begun
  return (page: StreamPage): Option.Option<Uint8Array> => {
    const { events, rendered } = write(page, held, cursor())
    held = rendered.held
    return rendered.text !== "" || page.ended ? Option.some(events) : Option.none()
  }
}

const serverSentEvents = (options: {
  readonly source: Source
  readonly first: StreamPage
  readonly cursor: () => number
  readonly live: LiveOptions
}): Stream.Stream<Uint8Array> => {
  const { cursor, first, live, source } = options
  const opening = write(first, nothing, cursor())
  const writePage = writing(cursor, opening.rendered.held)
  const events: Writer.Push<Arr.NonEmptyReadonlyArray<Uint8Array>> = (writer) =>
    source.push(first)({
      write: (page) =>
        Option.match(writePage(page), { onNone: () => true, onSome: (bytes) => writer.write(Arr.of(bytes)) }),
      drained: writer.drained
    }).pipe(
      // The reader connects again, and is answered with a status.
      Effect.catchCause((cause) => Effect.logDebug("A stream of events ended", cause))
    )
  return LiveStream.make({
    events,
    writer: LiveStream.responseWriter,
    until: Effect.as(Effect.raceFirst(Effect.sleep(live.sseMillis), live.until), Option.none()),
    heartbeatInterval: Duration.millis(live.heartbeatMillis),
    opening: Option.some(opening.events),
    heartbeat,
    page: concat,
    failure: () => Effect.succeed(nothing)
  })
}

// -----------------------------------------------------------------------------
// Answer
// -----------------------------------------------------------------------------

const tooManyReads = () =>
  Wire.error(
    429,
    "TOO_MANY_CONNECTIONS",
    "This session has as many reads open as it may at once; end one of them first",
    {
      retryable: true,
      headers: { "retry-after": "1" }
    }
  )

/** Answers a read. Fails as the source does, and with `InvalidInput` for parameters that do not have their form. */
export const respond = Effect.fnUntraced(function*(options: {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly params: SearchParams
  readonly source: Source
  readonly live: LiveOptions
}): Effect.fn.Return<HttpServerResponse.HttpServerResponse, DurableStreamsError, Scope.Scope> {
  const { live, params, request, source } = options
  const offset = yield* one(params, "offset")
  const mode = yield* one(params, "live")
  const cursor = yield* one(params, "cursor")
  const from = yield* positionOf(offset)
  if (mode === undefined) {
    const page = yield* source.read(from)
    if (from !== "tail") return answerPage(request, source, page, {})
    return HttpServerResponse.uint8Array(bodyOf(page), {
      contentType: page.stream.contentType,
      headers: { ...pageHeaders(page), "cache-control": "no-store" }
    })
  }
  if (mode !== "long-poll" && mode !== "sse") return yield* Wire.invalid("live", "long-poll or sse")
  if (offset === undefined) return yield* Wire.invalid("offset", `given with live: ${offsetExpected}`)
  if (!(yield* live.open)) return tooManyReads()
  if (mode === "long-poll") return yield* longPoll({ request, source, from, cursor, live })

  const first = yield* source.read(from)
  const events = serverSentEvents({ source, first, cursor: yield* Cursor.advancing(yield* Cursor.next(cursor)), live })
  return HttpServerResponse.stream(events, {
    contentType: "text/event-stream",
    headers: {
      ...Wire.securityHeaders,
      // `x-accel-buffering` turns off the buffering of nginx and of what follows it.
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
      vary: "authorization, cookie",
      ...(isText(first.stream.contentType) ? {} : { "stream-sse-data-encoding": "base64" })
    }
  })
})

/** Answers a look at the state of what could be read. */
export const describe = (stream: StreamInfo): Record<string, string> => ({
  ...Wire.securityHeaders,
  "cache-control": "no-store",
  "stream-next-offset": formatOffset({ streamId: stream.id, position: stream.tail }),
  ...(stream.closed ? { "stream-closed": "true" } : {})
})
