/**
 * What callers of streams say, and what they are answered.
 */
import type { RunOwner } from "@sallyport/core/runs/Run"
import type * as Duration from "effect/Duration"
import type { StreamOffset, StreamPage } from "../DurableStream.ts"
import type { ProducerPoint } from "../DurableStreamRepository.ts"

/**
 * Names a stream of an owner. Owners are kept apart: the same path is another stream to each.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamName {
  readonly owner: RunOwner
  readonly path: string
}

/**
 * Describes a stream to create.
 *
 * @category models
 * @since 0.1.0
 */
export interface CreateOptions extends StreamName {
  /** Defaults to `application/octet-stream`, or to the source's for a fork. */
  readonly contentType?: string | undefined
  /** How long the stream lives without being read or written. Not together with `expiresAtMillis`. */
  readonly ttl?: Duration.Input | undefined
  /** When the stream expires, in milliseconds since 1970. */
  readonly expiresAtMillis?: number | undefined
  /** Creates the stream closed, with what is in `data` and no more. */
  readonly closed?: boolean | undefined
  readonly data?: Uint8Array | undefined
  /** Makes the stream a fork: it begins with its source's data up to `at`, and `further` bytes or messages. */
  readonly fork?: {
    readonly path: string
    /** Defaults to the source's tail. */
    readonly at?: number | StreamOffset | undefined
    /** Within what one append brought; needs `at`. */
    readonly further?: number | undefined
  } | undefined
}

/**
 * Describes an append.
 *
 * @category models
 * @since 0.1.0
 */
export interface AppendOptions extends StreamName {
  /** Has to be the stream's, parameters aside. Only needed with data. */
  readonly contentType?: string | undefined
  /** Bytes; in a stream of JSON a value, or an array of values that become one message each. */
  readonly data: Uint8Array
  /** Makes the append idempotent: of equal points one is stored. */
  readonly producer?: ProducerPoint | undefined
  /** A `Stream-Seq`: has to be greater than the one before, of any writer of the stream. */
  readonly seq?: string | undefined
  /** Closes the stream after the data, if any. */
  readonly close?: boolean | undefined
}

/**
 * Describes what came of an append.
 *
 * @category models
 * @since 0.1.0
 */
export interface Appended {
  readonly streamId: number
  /** The position after the data. */
  readonly tail: number
  readonly closed: boolean
  /** True if this append had been stored before, or the stream was closed already. */
  readonly duplicate: boolean
  /** The highest number that was accepted of the producer, if there is one. */
  readonly producerSeq: number | null
}

/**
 * Describes what to read.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReadOptions extends StreamName {
  /**
   * A position of whichever stream has the path, a position of one stream, or `tail` for what comes after now. Defaults to
   * 0.
   */
  readonly from?: number | StreamOffset | "tail" | undefined
}

/**
 * Describes where a reader is.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReadNextOptions extends StreamName {
  /** The last page that it was given. */
  readonly after: StreamPage
}

/**
 * Describes which streams of an owner to list, by path.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListOptions {
  readonly owner: RunOwner
  /** How their paths begin. Defaults to any. */
  readonly prefix?: string | undefined
  /** The last path of the page before. */
  readonly after?: string | undefined
  readonly limit: number
}
