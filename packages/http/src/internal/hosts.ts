/**
 * The names under which a server answers.
 */
import type { Forbidden } from "@sallyport/contract/WireError"
import { type Descriptor, isLoopback } from "@sallyport/core/access/AuthPolicy"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Wire from "./wire.ts"

/** Holds the `Host` header that came with a request, if a trusted proxy has told another one. */
export const ReceivedHost = Context.Reference<string | undefined>("@sallyport/http/internal/ReceivedHost", {
  defaultValue: () => undefined
})

/**
 * Fails if the current request was sent to a name that is not the server's. A server on a loopback address has the names
 * of such addresses and that of its public URL: a page elsewhere can point its own name here, and is then of the same
 * origin as far as its browser can see. A request without a host comes from no browser.
 */
export const check = (
  policy: Descriptor
): Effect.Effect<void, Forbidden, HttpServerRequest.HttpServerRequest> => {
  if (policy.kind === "remote-reachable") return Effect.void
  // Almost every request has the host of the one before it.
  let own: string | undefined
  return Effect.contextWith((context: Context.Context<HttpServerRequest.HttpServerRequest>) => {
    const host = Context.get(context, ReceivedHost) ??
      Context.get(context, HttpServerRequest.HttpServerRequest).headers.host
    if (host === own || host === undefined) return Effect.void
    const hostname = URL.parse(`http://${host}`)?.hostname
    if (hostname === undefined || !(isLoopback(hostname) || hostname === policy.publicUrl?.hostname)) return refused
    own = host
    return Effect.void
  })
}

const refused = Wire.crossOrigin({
  message: "This server answers to a loopback name and to its public URL only; to reach it under another name, make " +
    "that its public URL (--public-url, SALLYPORT_PUBLIC_URL)"
})
