/**
 * Which proxies are believed when they say who a request is from.
 *
 * `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto` can be written by any client. Without this module they count
 * for nothing, and behind a proxy every request is the proxy's: its address stands in the list of devices, and the wrong
 * codes of one client are counted for all. With it, they count if the connection comes from a proxy that the host
 * runs itself.
 */
import * as Input from "@sallyport/core/Input"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Hosts from "./internal/hosts.ts"

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

/** Returns a network in its one form: one of IPv4 addresses that are written as IPv6 is one of IPv4. */
const canonical = (network: IpNetwork.IpNetwork): IpNetwork.IpNetwork => {
  const address = NetAddress.toCanonical(network.address)
  return NetAddress.isIpv4Address(address) && NetAddress.isIpv6Address(network.address) && network.prefixLength >= 96
    ? IpNetwork.makeUnsafe(address, network.prefixLength - 96)
    : network
}

/** Bounds what is repeated for all addresses: a stranger may send thousands of them, and a host of thousands of characters. */
const maxRepeated = 4_096

/**
 * Repeats what a proxy forwards once for each address that it forwards: the outermost proxies add to `X-Forwarded-For`, and
 * the last one that sets the host or the protocol means the request's.
 */
const aligned = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  const hops = request.headers["x-forwarded-for"]?.split(",").length ?? 0
  const repeated: Record<string, string> = {}
  for (const name of hops > 1 ? ["x-forwarded-host", "x-forwarded-proto"] : []) {
    const value = request.headers[name]
    if (value !== undefined && !value.includes(",") && hops * value.length <= maxRepeated) {
      repeated[name] = Array.from({ length: hops }, () => value).join(",")
    }
  }
  return Object.keys(repeated).length === 0
    ? request
    : request.modify({ headers: Headers.setAll(request.headers, repeated), peerAddress: request.peerAddress })
}

/**
 * Believes the proxies of some networks on every route of the router: the address, host and protocol of a request are then
 * those that they forward. A request from elsewhere keeps those of its connection, whatever its headers say.
 * `X-Forwarded-Host` and `X-Forwarded-Proto` have one value, or one for each address in `X-Forwarded-For`.
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
    Effect.sync(() => {
      const list = { is: Array.isArray, expected: "a list of networks: TrustedProxies.parse makes one of a text" }
      Input.demand("TrustedProxies.layer", { networks: Input.required(list) }, { networks })
      const forwarded = HttpMiddleware.xForwardedHeaders({ trustedProxies: networks.map(canonical) })
      return (httpEffect) =>
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          forwarded(httpEffect).pipe(
            Effect.provideService(HttpServerRequest.HttpServerRequest, aligned(request)),
            // A page that has pointed its name here can write any of these headers, but not its browser's `Host`.
            Effect.provideService(Hosts.ReceivedHost, request.headers.host)
          ))
    }),
    { global: true }
  )
