/**
 * The address of this server, as its clients know it.
 */
import { AuthPolicy, isLoopback } from "@sallyport/core/access/AuthPolicy"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"

/**
 * Returns the URL of what is at the root of this server, without a slash at its end, or an empty text if that is not to be
 * told.
 *
 * If the host says no public URL, the server is one on a loopback address, and the `Host` header has to name such an
 * address and the port that the server listens on. What another server of this machine was sent, or a page that has its own
 * name point here, is not for this one.
 */
export const base = Effect.gen(function*() {
  const { publicUrl } = yield* AuthPolicy
  if (publicUrl !== undefined) return `${publicUrl.origin}${publicUrl.pathname.replace(/(?<!\/)\/+$/, "")}`
  const request = yield* HttpServerRequest.HttpServerRequest
  const host = URL.parse(`http://${request.headers.host ?? ""}`)
  if (host === null || !isLoopback(host.hostname)) return ""
  const server = yield* Effect.serviceOption(HttpServer.HttpServer)
  const port = server._tag === "Some" && "port" in server.value.address ? server.value.address.port : undefined
  return port === undefined || port === Number(host.port === "" ? 80 : host.port) ? host.origin : ""
})

/** Returns the path and query that the current request was sent to. */
export const target = Effect.map(HttpServerRequest.HttpServerRequest, ({ originalUrl }) => {
  const absolute = originalUrl.startsWith("/") ? null : URL.parse(originalUrl)
  return absolute === null ? originalUrl : `${absolute.pathname}${absolute.search}`
})
