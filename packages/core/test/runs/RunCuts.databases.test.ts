/**
 * Readers whose connections are cut, and whose servers are killed, at random: what they have seen in the end is every event,
 * once and in order.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { EventSource } from "eventsource"
import { createEventSource } from "eventsource-client"
import * as Http from "node:http"
import { browser, step } from "../../../../test-support/browser.ts"
import * as CuttingProxy from "../cuttingProxy.ts"
import { sharedDatabases } from "../../../../test-support/databases.ts"
import { type Node, startNode } from "../nodes.ts"
import type { SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** One of the events that a reader has seen: its cursor, kind and data. */
type Seen = readonly [id: string, event: string, data: string]

/** Follows a stream to its terminal event through whatever happens, and returns all that it has seen. */
type Reader = (url: string) => Promise<ReadonlyArray<Seen>>

// -----------------------------------------------------------------------------
// Readers
// -----------------------------------------------------------------------------

/** The least that is a reader: it reconnects at once, and believes in whole events only. */
const plain: Reader = (url) =>
  new Promise((resolve) => {
    const seen: Array<Seen> = []
    const connect = () => {
      const last = seen[seen.length - 1]?.[0]
      const headers = last === undefined ? {} : { "last-event-id": last }
      let again = () => {
        again = () => undefined
        setTimeout(connect, 1)
      }
      Http.get(url, { headers, agent: false }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => {
          const blocks = (text + chunk).split("\n\n")
          text = blocks.pop() ?? ""
          for (const block of blocks) {
            const [, id = "", event = "", data = ""] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(block) ?? []
            if (event === "") continue
            seen.push([id, event, data])
            if (event !== "end") continue
            again = () => undefined
            resolve(seen)
          }
        }).on("error", () => again()).on("close", () => again())
      }).on("error", () => again())
    }
    connect()
  })

const eventsource: Reader = (url) =>
  new Promise((resolve, reject) => {
    const seen: Array<Seen> = []
    const source = new EventSource(url)
    for (const name of ["data", "end", "failure"]) {
      source.addEventListener(name, (event: MessageEvent) => {
        seen.push([event.lastEventId, name, event.data])
        if (name !== "end") return
        source.close()
        resolve(seen)
      })
    }
    source.addEventListener("error", ({ code, message }) => {
      if (source.readyState === source.CLOSED) reject(new Error(`${code} ${message}`))
    })
  })

const eventsourceClient: Reader = (url) =>
  new Promise((resolve) => {
    const seen: Array<Seen> = []
    const source = createEventSource({
      url,
      onMessage: ({ data, event = "", id = "" }) => {
        seen.push([id, event, data])
        if (event !== "end") return
        source.close()
        resolve(seen)
      }
    })
  })

/** Chromium's own EventSource, in a page at the proxy's origin. */
const chromium = (proxy: CuttingProxy.CuttingProxy) =>
  Effect.gen(function*() {
    const chrome = yield* browser
    const page = yield* step(() => chrome.newPage())
    yield* step(() => page.goto(`http://127.0.0.1:${proxy.port}/page`))
    const read: Reader = (url) =>
      page.evaluate((url) =>
        new Promise<ReadonlyArray<Seen>>((resolve, reject) => {
          const seen: Array<Seen> = []
          const source = new globalThis.EventSource(url)
          for (const name of ["data", "end", "failure"]) {
            source.addEventListener(name, (event: MessageEvent) => {
              seen.push([event.lastEventId, name, event.data])
              if (name !== "end") return
              source.close()
              resolve(seen)
            })
          }
          source.addEventListener("error", () => {
            if (source.readyState === source.CLOSED) reject(new Error("Chromium has given up"))
          })
        }), url)
    return read
  })

// -----------------------------------------------------------------------------
// Runs
// -----------------------------------------------------------------------------

const count = { to: 150, everyMillis: 60 }

const startRun = (node: Node, key: string) =>
  Effect.promise(async () => {
    const response = await fetch(`http://127.0.0.1:${node.port}/api/runs`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key },
      body: JSON.stringify({ threadId: key, input: count })
    })
    const { run }: { readonly run: { readonly runId: string } } = JSON.parse(await response.text())
    return run.runId
  })

const expected: ReadonlyArray<Seen> = [
  ...Array.from({ length: count.to }, (_, index): Seen => [`${index + 1}`, "data", `{"n":${index + 1}}`]),
  [`${count.to + 1}`, "end", `{"status":"succeeded"}`]
]

/** A generator of numbers that a failing test can be repeated with. */
const mulberry = (seed: number) => () => {
  seed = seed + 0x6D2B79F5 | 0
  let t = Math.imul(seed ^ seed >>> 15, 1 | seed)
  t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t
  return ((t ^ t >>> 14) >>> 0) / 4294967296
}

/**
 * Has one node execute runs, and readers follow them on it and on another, which is killed and started again some times.
 * Every connection ends at a random byte, and goes to either node.
 */
const cutting = (database: SharedDatabase, wanted: number) =>
  Effect.gen(function*() {
    const random = mulberry(20_260_731)
    const writer = yield* startNode(database, "unsafe-no-auth")
    let other: Node | undefined
    let kills = 0
    const restarts = Effect.scoped(Effect.gen(function*() {
      const node = yield* startNode(database, "unsafe-no-auth")
      other = node
      yield* Effect.sleep(1_500)
      other = undefined
      yield* node.signal("SIGKILL")
      kills++
    }))
    // On a busy machine, to start it again and again would take the time of all others.
    yield* Effect.forkScoped(Effect.repeat(restarts, { times: 7 }))

    const target = () => other !== undefined && random() < 0.5 ? other.port : writer.port
    const proxy = (maxBytes: number) => CuttingProxy.start({ target, random, maxBytes })
    // An answer's head has some 300 bytes, an event some 60. The libraries wait for a second after each cut.
    const contestants = [
      { name: "plain", read: plain, readers: 80, proxy: yield* proxy(1_200) },
      { name: "eventsource", read: eventsource, readers: 40, proxy: yield* proxy(2_500) },
      { name: "eventsource-client", read: eventsourceClient, readers: 40, proxy: yield* proxy(2_500) },
      yield* Effect.gen(function*() {
        const cutter = yield* proxy(2_500)
        // A browser opens six connections to a host at most.
        return { name: "Chromium", read: yield* chromium(cutter), readers: 6, proxy: cutter }
      })
    ]
    const total = () => contestants.reduce((sum, { proxy }) => sum + proxy.cuts(), 0)
    const isCutEnough = ({ proxy, readers }: typeof contestants[number]) => proxy.cuts() >= 5 * readers
    const isEnough = () => total() >= wanted && kills >= 3 && contestants.every(isCutEnough)

    for (let wave = 0; !isEnough(); wave++) {
      const runIds = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => `${wave} ${index}`),
        (key) => startRun(writer, key),
        { concurrency: 4 }
      )
      const reading = contestants.flatMap((contestant) => {
        const { name, proxy, read, readers } = contestant
        if (wave > 0 && name !== "plain" && isCutEnough(contestant)) return []
        return Array.from({ length: readers }, (_, index) =>
          Effect.promise(async () => {
            const seen = await read(`http://127.0.0.1:${proxy.port}/api/runs/${runIds[index % runIds.length]}/events`)
            assert.deepStrictEqual(seen, expected, `${name}, reader ${index} of wave ${wave}`)
          }))
      })
      yield* Effect.all(reading, { concurrency: "unbounded", discard: true })
    }
    assert.isAtLeast(total(), wanted)
    for (const { name, proxy, readers } of contestants) assert.isAtLeast(proxy.cuts(), 5 * readers, name)
    assert.isAtLeast(kills, 3)
  })

// Reads are one statement each, whatever the isolation: PostgreSQL at serializable would be the same minutes again.
const cutDatabases = sharedDatabases.filter(({ name }) => name !== "PostgreSQL at serializable")

// The libraries wait for a second after each cut.
describe("readers through a network that breaks, with eventsource, eventsource-client and Chromium among them", {
  concurrent: true
}, () => {
  for (const { database, name } of cutDatabases) {
    it.live(
      `RUN-03 RUN-08 L-83: 1,500 cuts lose, repeat and reorder nothing, on a database that two processes share (${name})`,
      () => Effect.orDie(Effect.flatMap(database, (shared) => cutting(shared, 1_500))).pipe(Effect.scoped),
      300_000
    )
  }
})
