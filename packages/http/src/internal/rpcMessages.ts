/**
 * Bounds what a client of RPCs sends, before it is read: a serialization parses what it is given, of any size.
 */
import { isBoundedJson, maxJson } from "@sallyport/core/Input"
import * as Effect from "effect/Effect"
import type * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Socket from "effect/socket/Socket"

type Serialization = Pick<RpcSerialization.RpcSerialization["Service"], "contentType" | "includesFraming">

/** How many messages may come at once. */
const maxMessages = 256

/**
 * Makes what tells whether the next frame of a socket is let in: it has 256 KiB at most, with what is open of a message from
 * the frames before it, and 256 messages, and its JSON is no larger than that of a request.
 */
export const makeLimit = ({ contentType, includesFraming }: Serialization): (frame: string | Uint8Array) => boolean => {
  const isJson = contentType.includes("json")
  const isFramed = isJson && includesFraming
  const decoder = new TextDecoder()
  let open = ""
  return (frame) => {
    if (frame.length + open.length > maxJson.bytes) return false
    if (!isJson) return true
    const text = typeof frame === "string" ? frame : decoder.decode(frame, { stream: isFramed })
    if (!isFramed) return isBoundedJson(text)
    const end = text.lastIndexOf("\n") + 1
    if (end === 0) {
      open += text
      return true
    }
    const whole = open + text.slice(0, end)
    open = text.slice(end)
    return isBoundedJson(whole) && whole.split("\n", maxMessages + 2).length <= maxMessages + 1
  }
}

/** Returns a socket that is closed, as one whose message is too big is, when a frame comes that is not let in. */
export const limit = (
  socket: Socket.Socket,
  serialization: Serialization,
  close: Effect.Effect<void>
): Socket.Socket => {
  const isLetIn = makeLimit(serialization)
  const refused = Effect.andThen(
    close,
    Effect.fail(new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1009 }) }))
  )
  return Object.create(socket, {
    reader: {
      value: Effect.map(socket.reader, (reader): Socket.Reader => ({
        ...reader,
        pull: Effect.tap(reader.pull, (frames) => frames.every(isLetIn) ? Effect.void : refused)
      }))
    }
  })
}
