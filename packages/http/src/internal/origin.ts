/**
 * Which page a browser sends a request from, and whether it may.
 */
import type { Forbidden } from "@sallyport/contract/WireError"
import { AuthPolicy, type Descriptor, isLoopback } from "@sallyport/core/access/AuthPolicy"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Wire from "./wire.ts"

/** Tells whether a request asks for a WebSocket. */
export const isUpgrade = (request: HttpServerRequest.HttpServerRequest): boolean =>
  request.headers.upgrade?.toLowerCase() === "websocket"

/** Tells whether a request can change something, so that another site must not make a browser send it. */
export const changesState = (request: HttpServerRequest.HttpServerRequest): boolean =>
  isUpgrade(request) || (request.method !== "GET" && request.method !== "HEAD" && request.method !== "OPTIONS")

/**
 * Says which page sends a request, as far as its browser tells: one of this server, one of its host without TLS, one of
 * another origin, or `untold`. Only a browser tells, by `Sec-Fetch-Site` (Fetch Metadata) or by `Origin`.
 *
 * A page of this server has the host that the request was sent to, or the origin of the public URL. Behind TLS an `http`
 * page of the same host is another origin: anyone on the network can make one.
 */
const senderOf = (
  request: HttpServerRequest.HttpServerRequest,
  { publicUrl, secureCookies }: Descriptor
): "own" | "insecure" | "foreign" | "untold" => {
  const { host, origin: claimed, "sec-fetch-site": site } = request.headers
  if (site !== undefined) return site === "same-origin" ? "own" : "foreign"
  if (claimed === undefined) return "untold"
  const origin = URL.parse(claimed)
  if (origin === null) return "foreign"
  if (origin.origin === publicUrl?.origin) return "own"
  // Parsed as the origin was, so that a spelt-out default port makes no difference.
  const same = host !== undefined && URL.parse(`${origin.protocol}//${host}`)?.host === origin.host
  const secure = secureCookies || publicUrl?.protocol === "https:"
  const insecure = secure && origin.protocol !== "https:" && !isLoopback(origin.hostname)
  if (insecure && (same || origin.hostname === publicUrl?.hostname)) return "insecure"
  return same ? "own" : "foreign"
}

/**
 * Fails if a page that is not one of this server sends the current request, or, if `vouched`, unless a page of this server
 * does.
 */
export const checkSender = (policy: Descriptor, options: { readonly vouched: boolean }) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request): Effect.Effect<void, Forbidden> => {
    switch (senderOf(request, policy)) {
      case "own":
        return Effect.void
      case "insecure":
        return Wire.crossOrigin({
          message:
            "This server signs browsers in over https only: over plain http others on the network could take the " +
            "session. Open its https address" + (policy.publicUrl === undefined ? "" : `, ${policy.publicUrl.origin}`)
        })
      case "foreign":
        return Wire.crossOrigin({
          message:
            "A page of another origin sent this request, and this server takes it from its own pages only. If this " +
            "page is one of its own, its address has to be the server's public URL"
        })
      case "untold":
        return options.vouched
          ? Wire.crossOrigin({
            message:
              "A request that uses the session cookie must come from a page of this server, and say so with an " +
              "Origin or Sec-Fetch-Site header; use a bearer token elsewhere"
          })
          : Effect.void
    }
  })

/**
 * Fails if a page of another origin sends the current request. One of which no browser tells where it comes from, as
 * `curl` sends it, passes unless a page of this server has to vouch for it.
 */
export const checkOrigin = (options: { readonly vouched: boolean }): Effect.Effect<
  void,
  Forbidden,
  HttpServerRequest.HttpServerRequest | AuthPolicy
> => Effect.flatMap(AuthPolicy, (policy) => checkSender(policy, options))
