/** Readers of Server-Sent Events that cost next to nothing, so that they measure the server. */
import * as Net from "node:net"
import { median } from "./measure.ts"

/** Describes where a stream is. */
export interface Address {
  readonly port: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

/** Opens a stream, passes on the chunks of its answer as they come, and resolves once the head has arrived. */
export const open = (address: Address, onChunk: (chunk: Buffer) => void): Promise<Net.Socket> =>
  new Promise((resolve, reject) => {
    const headers = Object.entries({ host: "127.0.0.1", ...address.headers }).map(([name, value]) =>
      `${name}: ${value}\r\n`
    )
    const socket = Net.connect({ host: "127.0.0.1", port: address.port, noDelay: true }, () => {
      socket.write(`GET ${address.path} HTTP/1.1\r\n${headers.join("")}\r\n`)
    })
    socket.on("error", reject)
    socket.once("data", (head) => {
      if (!head.toString("latin1").startsWith("HTTP/1.1 200")) return reject(new Error(head.toString("latin1")))
      onChunk(head)
      socket.on("data", onChunk)
      resolve(socket)
    })
  })

const stamp = /"at":(\d+)/g

/** Opens `count` readers of a stream whose events hold the time of their append, and collects how long they took. */
export const openTails = async (address: Address, count: number) => {
  let latencies: Array<number> = []
  const sockets: Array<Net.Socket> = []
  const onChunk = (chunk: Buffer) => {
    const now = Number(process.hrtime.bigint() / 1_000n)
    for (const [, at] of chunk.toString("latin1").matchAll(stamp)) latencies.push((now - Number(at)) / 1_000)
  }
  for (let opened = 0; opened < count; opened += 50) {
    const some = Array.from({ length: Math.min(50, count - opened) }, () => open(address, onChunk))
    sockets.push(...await Promise.all(some))
  }
  return {
    /** Takes the latencies so far, in milliseconds, once there are `wanted` of them. */
    take: async (wanted: number) => {
      while (latencies.length < wanted) await new Promise((resolve) => setTimeout(resolve, 10))
      const taken = latencies.toSorted((a, b) => a - b)
      latencies = []
      return { p50: median(taken), p99: taken[Math.floor(taken.length * 0.99)] ?? Number.NaN }
    },
    close: () => {
      for (const socket of sockets) socket.destroy()
    }
  }
}
