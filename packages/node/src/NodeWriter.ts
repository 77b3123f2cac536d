/**
 * Writes long answers to the connections of Node's server, without a stream.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Writer from "@sallyport/core/Writer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import type { EventEmitter } from "node:events"
import { ServerResponse } from "node:http"

// What many readers are sent has its frame put around it once.
const framed = new WeakMap<Uint8Array, Uint8Array>()

/** Puts the frame of a chunk around bytes (RFC 9112 section 7.1). */
const frame = (bytes: Uint8Array): Uint8Array => {
  const known = framed.get(bytes)
  if (known !== undefined) return known
  const whole = Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")])
  framed.set(bytes, whole)
  return whole
}

const writerTo = (
  target: EventEmitter & { readonly destroyed: boolean; readonly writableNeedDrain: boolean },
  write: (bytes: Uint8Array) => boolean
): Writer.Writer<Uint8Array> => ({
  write: (bytes) => bytes.length === 0 || write(bytes),
  drained: Effect.callback((resume) => {
    // The fiber of a client that has left is interrupted.
    if (!target.writableNeedDrain && !target.destroyed) return resume(Effect.void)
    const done = () => resume(Effect.void)
    target.once("drain", done)
    return Effect.sync(() => void target.off("drain", done))
  })
})

/**
 * Makes the handlers of runs, of the access feed and of streams write to the connections of Node's server. Thousands of
 * readers that wait for the same event then cost about half. Put it around the layer that serves.
 *
 * **Gotchas**
 *
 * A body that a middleware changes goes through it as before. A middleware that only looks at a body sees its first chunk
 * alone.
 *
 * **Example** (Serving many readers)
 *
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { NodeWriter } from "@sallyport/node"
 * import { Layer } from "effect"
 * import { createServer } from "node:http"
 *
 * export const Server = Layer.merge(NodeHttpServer.layer(createServer, { port: 0 }), NodeWriter.layer)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.succeed(Writer.ResponseWriter, (request, first) => {
  const response: unknown = NodeHttpServerRequest.toServerResponse(request)
  // Another server's request has no such response, and HTTP/2 frames by itself.
  if (!(response instanceof ServerResponse)) return () => Option.none()
  const { write } = response
  let isWhole = false
  response.write = (chunk: unknown, ...others: ReadonlyArray<unknown>): boolean => {
    response.write = write
    isWhole = chunk === first
    return Reflect.apply(write, response, [chunk, ...others])
  }
  return () => {
    if (!isWhole) return Option.none()
    const { socket } = response
    // What else changes what is written, as a compression of the host's own does, stays in between.
    return Option.some(
      socket !== null && response.chunkedEncoding && write === ServerResponse.prototype.write
        ? writerTo(socket, (bytes) => socket.write(frame(bytes)))
        : writerTo(response, (bytes) => response.write(bytes))
    )
  }
})
