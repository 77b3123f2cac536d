/**
 * The vocabulary of streams: their paths, the positions in them, and the offsets that clients know positions by.
 *
 * A position counts bytes, or in a stream of `application/json` messages, from 0. A fork counts on from where it left its
 * source, so that an offset means the same in both.
 */
import * as Text from "@sallyport/core/Text"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * Decodes the path of a stream below the root of streams: 1 to 512 characters of at most 768 bytes, segments separated by
 * `/`, none of them empty, `.` or `..`, without control characters. The first segment `__ds` is the protocol's own.
 *
 * @category models
 * @since 0.1.0
 */
export const StreamPath = Schema.String.check(
  Schema.isPattern(
    /^(?!__ds(?:\/|$))(?!\.{1,2}(?:\/|$))[^\p{Cc}\p{Cs}/]+(?:\/(?!\.{1,2}(?:\/|$))[^\p{Cc}\p{Cs}/]+)*$/u
  ),
  Schema.isMaxLength(512),
  Schema.makeFilter((path) => Text.hasAtMostBytes(path, 768), { expected: "at most 768 bytes" })
).pipe(Schema.brand("StreamPath"))
/**
 * @see {@link StreamPath}
 *
 * @category models
 * @since 0.1.0
 */
export type StreamPath = typeof StreamPath.Type

/**
 * Tells whether text has the form of a stream's path.
 *
 * @category guards
 * @since 0.1.0
 */
export const isStreamPath: (text: string) => text is StreamPath = Schema.is(StreamPath)

/**
 * Describes a stream as hosts and clients see it. Positions and times are as of when it was looked at.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamInfo {
  /** Never used again, also when a stream with the same path is created again. */
  readonly id: number
  readonly path: string
  /** As it was given at creation. */
  readonly contentType: string
  /** The position after the last byte or message. */
  readonly tail: number
  /** Whether nothing more will ever be appended. */
  readonly closed: boolean
  /** How long the stream lives without being read or written, in milliseconds. */
  readonly ttlMillis: number | null
  /** When the stream expires whatever happens, in milliseconds since 1970. */
  readonly expiresAtMillis: number | null
}

/**
 * Describes a part of a stream.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamPage {
  readonly stream: StreamInfo
  readonly from: number
  /** The position after the part, which is where to read on. */
  readonly next: number
  /** The bytes of the part in pieces; in a stream of JSON each piece is one or more messages, separated by commas. */
  readonly pieces: ReadonlyArray<Uint8Array>
  /** Whether the part reaches the tail. */
  readonly upToDate: boolean
  /** Whether the part reaches the tail of a closed stream, so that there is nothing to come. */
  readonly ended: boolean
}

/**
 * Returns a content type without parameters, in lower case: what has to match for an append.
 *
 * @category converting
 * @since 0.1.0
 */
export const mediaType = (contentType: string): string => (contentType.split(";", 1)[0] ?? "").trim().toLowerCase()

/**
 * Tells whether the stream is one of JSON messages.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isJson = (contentType: string): boolean => mediaType(contentType) === "application/json"

/**
 * Tells whether a stream's bytes are text that Server-Sent Events carry as they are.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isText = (contentType: string): boolean => {
  const type = mediaType(contentType)
  return type === "application/json" || type.startsWith("text/")
}

/**
 * Names the content type of a stream that was created without one.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultContentType = "application/octet-stream"

/**
 * Describes a position in one stream. A stream that was created again under the same path is another one.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamOffset {
  /** The stream's number, 0 for the stream of a run. */
  readonly streamId: number
  readonly position: number
}

const digits = (value: number): string => String(value).padStart(16, "0")

/**
 * Writes an offset in fixed-width decimal digits, so that offsets sort as their positions do.
 *
 * @category converting
 * @since 0.1.0
 */
export const formatOffset = ({ position, streamId }: StreamOffset): string => `${digits(streamId)}_${digits(position)}`

/**
 * Reads an offset as {@link formatOffset} writes it. The sentinels `-1` and `now` are not positions and are not read here.
 *
 * @category converting
 * @since 0.1.0
 */
export const parseOffset = (text: string): Option.Option<StreamOffset> => {
  if (!/^[0-9]{16}_[0-9]{16}$/.test(text)) return Option.none()
  const offset = { streamId: Number(text.slice(0, 16)), position: Number(text.slice(17)) }
  return Number.isSafeInteger(offset.streamId) && Number.isSafeInteger(offset.position)
    ? Option.some(offset)
    : Option.none()
}
