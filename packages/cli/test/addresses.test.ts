import { assert, describe, it } from "@effect/vitest"
import * as NetAddress from "effect/net/NetAddress"
import type { NetworkInterfaceInfo } from "node:os"
import * as Addresses from "../src/internal/addresses.ts"

const ipv4 = (address: string, internal = false): NetworkInterfaceInfo => ({
  address,
  family: "IPv4",
  internal,
  netmask: "255.255.255.0",
  mac: "00:00:00:00:00:00",
  cidr: `${address}/24`
})

const ipv6 = (address: string, scopeid: number): NetworkInterfaceInfo => ({
  address,
  family: "IPv6",
  internal: false,
  netmask: "ffff:ffff:ffff:ffff::",
  mac: "00:00:00:00:00:00",
  cidr: `${address}/64`,
  scopeid
})

const interfaces = {
  lo: [ipv4("127.0.0.1", true)],
  eth0: [ipv6("fd00::2", 0), ipv6("fe80::1", 2), ipv4("192.168.1.10")],
  docker0: [ipv4("172.17.0.1")]
}

const listening = (text: string) => NetAddress.inetAddressFromStringUnsafe(text)

describe("the addresses of a server", () => {
  it("HTTP-08 C-43: are those of the machine's networks if it listens on all, and its own if it listens on one", () => {
    assert.deepStrictEqual(Addresses.urlsOf(listening("0.0.0.0:4590"), interfaces), [
      "http://192.168.1.10:4590",
      "http://172.17.0.1:4590"
    ])
    assert.deepStrictEqual(Addresses.urlsOf(listening("[::]:4590"), interfaces), [
      "http://192.168.1.10:4590",
      "http://172.17.0.1:4590",
      "http://[fd00::2]:4590"
    ])
    assert.deepStrictEqual(Addresses.urlsOf(listening("192.168.1.10:80"), interfaces), ["http://192.168.1.10"])
    assert.deepStrictEqual(Addresses.urlsOf(listening("0.0.0.0:4590"), { lo: interfaces.lo }), [
      "http://127.0.0.1:4590"
    ])
  })
})
