import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/**
 * Returns what the attempts of a client are counted under: its IPv4 address, or the network of 64 bits that its IPv6
 * address is of, all of which is one customer's. None if the server doesn't know the address.
 *
 * Like the address itself it is the connection's, unless the host says which proxies it believes.
 */
export const sourceOf = (request: HttpServerRequest.HttpServerRequest): string | undefined =>
  Option.getOrUndefined(Option.map(request.remoteAddress, (text) => {
    // A zone, as in fe80::1%eth0, is not part of an address.
    const parsed = NetAddress.ipFromString(text.replace(/%.*$/, ""))
    if (Result.isFailure(parsed)) return text
    const address = NetAddress.toCanonical(parsed.success)
    return NetAddress.isIpv4Address(address)
      ? NetAddress.formatIp(address)
      : IpNetwork.format(IpNetwork.fromAddressUnsafe(address, 64))
  }))
