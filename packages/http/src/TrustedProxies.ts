/**
 * Which proxies are believed when they say who a request is from.
 *
 * `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto` can be written by any client. Without this module they count
 * for nothing, and behind a proxy every request is the proxy's: its address stands in the list of devices, and the wrong
 * codes of one client are counted for all. With it, they count if the connection comes from a proxy that the host
 * runs itself.
 */
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * Reports text that is neither an address nor a network.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidProxy extends Schema.TaggedError<InvalidProxy>()("InvalidProxy", { text: Schema.String }) {
  override get message() {
    return `${
      JSON.stringify(this.text)
    } is no trusted proxy: give an address, such as 10.1.2.3, or a network, such as ` +
      "10.0.0.0/8 or fd00::/8"
  }
}

/**
 * Reads an IP address, or a network in CIDR notation.
 *
 * @category converting
 * @since 0.1.0
 */
export const parse = (text: string): Result.Result<IpNetwork.IpNetwork, InvalidProxy> => {
  const address = NetAddress.ipFromString(text)
  const network = Result.isSuccess(address)
    ? IpNetwork.fromAddress(address.success, NetAddress.width(address.success))
    : IpNetwork.fromString(text)
  return Result.mapError(network, () => new InvalidProxy({ text }))
}

/**
 * Believes the proxies of some networks on every route of the router: the address, host and protocol of a request are then
 * those that they forward. A request from elsewhere keeps those of its connection, whatever its headers say.
 *
 * **Example** (Trusting a load balancer in a private network)
 *
 * ```ts
 * import { Sallyport, TrustedProxies } from "@sallyport/http"
 * import { Layer } from "effect"
 * import { IpNetwork } from "effect/net"
 *
 * export const Routes = Layer.merge(
 *   Sallyport.layer(),
 *   TrustedProxies.layer([IpNetwork.fromStringUnsafe("10.0.0.0/8")])
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  networks: ReadonlyArray<IpNetwork.IpNetwork>
): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  HttpRouter.middleware(
    Effect.succeed(HttpMiddleware.xForwardedHeaders({ trustedProxies: networks })),
    { global: true }
  )
