/**
 * A WebSocket that can be closed from outside of what serves it, with a code that says why.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Socket from "effect/socket/Socket"

/**
 * Returns the request with an upgrade that gives one socket, however often it is asked for, and how to close that. What
 * serves the request reads the socket as `limit` returns it.
 */
export const make = Effect.fnUntraced(function*(
  request: HttpServerRequest,
  limit: (socket: Socket.Socket, close: (code: number) => Effect.Effect<void>) => Socket.Socket
) {
  const upgrade = yield* Effect.cached(request.upgrade)
  /** Closes the socket, unless what serves the request has not opened it. */
  const close = (code: number): Effect.Effect<void> =>
    upgrade.pipe(
      Effect.flatMap((socket) => socket.writer),
      Effect.flatMap((writer) => writer.write(new Socket.CloseEvent(code))),
      Effect.scoped,
      Effect.timeoutOption("1 second"),
      Effect.ignore
    )
  const closable: HttpServerRequest = Object.create(request, {
    upgrade: { value: Effect.map(upgrade, (socket) => limit(socket, close)) }
  })
  return { request: closable, close }
})

/** Tells that a WebSocket has ended because its client closed it or went away, which is no fault of its route. */
export const isClientClose = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.length > 0 && cause.reasons.every((reason) => {
    const error = Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined
    return Socket.isSocketError(error) && error.reason._tag === "SocketCloseError"
  })
