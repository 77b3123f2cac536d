import * as HttpServer from "effect/http/HttpServer"
import * as NetAddress from "effect/net/NetAddress"
import type { NetworkInterfaceInfo } from "node:os"

/** Returns the URL that a browser on this machine opens for an address that a server listens on. */
export const localUrl = (address: NetAddress.SocketAddress): string =>
  HttpServer.formatAddress(address).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")

/**
 * Returns the URLs under which other machines reach a server: of a server that listens on every address, those of this
 * machine's networks, IPv4 first, and without the addresses that need a zone.
 */
export const urlsOf = (
  address: NetAddress.SocketAddress,
  interfaces: Readonly<Record<string, ReadonlyArray<NetworkInterfaceInfo> | undefined>>
): ReadonlyArray<string> => {
  if (!NetAddress.isInetAddress(address) || !NetAddress.isUnspecified(address.address)) return [localUrl(address)]
  const isIpv4Only = NetAddress.isIpv4Address(address.address)
  const found = Object.values(interfaces).flatMap((infos) => infos ?? []).filter(({ family, internal, scopeid = 0 }) =>
    !internal && (family === "IPv4" || (!isIpv4Only && scopeid === 0))
  )
  const urls = found.toSorted((a, b) => a.family.localeCompare(b.family)).map(({ address: host, family }) =>
    `http://${family === "IPv4" ? host : `[${host}]`}:${address.port}`
  )
  return urls.length === 0 ? [localUrl(address)] : urls
}
