import { NodeCrypto } from "@effect/platform-node"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import { layerMemory } from "@sallyport/core/access/AccessRepository"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as ConnectWebhook from "@sallyport/node/ConnectWebhook"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { createHmac } from "node:crypto"
import * as Http from "node:http"
import { eventually } from "../../../test-support/programs.ts"

const key = Buffer.alloc(32, 7)
const secret = Redacted.make(`whsec_${key.toString("base64")}`)

interface Call {
  readonly path: string
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

/** Starts a receiver that answers each call with the next of some answers, and with the last from then on. */
const receiver = Effect.fnUntraced(function*(...answers: ReadonlyArray<(response: Http.ServerResponse) => void>) {
  const calls = yield* Queue.unbounded<Call>()
  let count = 0
  const server = yield* Effect.acquireRelease(
    Effect.callback<Http.Server>((resume) => {
      const made = Http.createServer((request, response) => {
        let body = ""
        request.setEncoding("utf8").on("data", (chunk: string) => body += chunk)
        request.on("end", () => {
          Queue.offerUnsafe(calls, { path: request.url ?? "", headers: request.headers, body })
          answers[Math.min(count++, answers.length - 1)]?.(response)
        })
      })
      made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
    }),
    (made) =>
      Effect.sync(() => {
        made.closeAllConnections()
        made.close()
      })
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return { url: `http://127.0.0.1:${port}/hook`, next: Queue.take(calls), left: Queue.size(calls) }
})

const status = (code: number, headers: Record<string, string> = {}) => (response: Http.ServerResponse) => {
  response.writeHead(code, headers).end()
}

const Clients = Layer.merge(ConnectClientStore.layer, AccessFeed.layer).pipe(
  Layer.provide(layerMemory),
  Layer.provideMerge(NodeCrypto.layer)
)

const listening = (url: string) =>
  Layer.build(ConnectWebhook.layer({ url, secret, allowLoopback: true, firstRetry: "20 millis" }))

const ask = (label: string, letter = "a") =>
  ConnectClientStore.ConnectClientStore.use((clients) =>
    clients.request({ proofKeyThumbprint: letter.repeat(43), account: "ada", label, deviceType: "phone" })
  )

const logged: Array<string> = []
const collecting = Logger.make(({ message }) => void logged.push(String(message)))

const signatureOf = ({ body, headers }: Call) =>
  `v1,${
    createHmac("sha256", key).update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`).digest(
      "base64"
    )
  }`

describe("the webhook for waiting clients", () => {
  it.live("CONN-16: tells of a client that waits, signed, once, and without the code that its screen shows", () =>
    Effect.gen(function*() {
      const { left, next, url } = yield* receiver(status(204))
      const before = yield* ask("asked before the start", "b")
      yield* listening(url)
      assert.strictEqual(JSON.parse((yield* next).body).data.label, "asked before the start")
      const asked = yield* ask("Pixel 9")
      const call = yield* next
      const { data, timestamp, type } = JSON.parse(call.body)
      assert.strictEqual(type, "connect.client.waiting")
      assert.deepInclude(data, { id: "a".repeat(43), account: "ada", label: "Pixel 9", deviceType: "phone" })
      assert.strictEqual(new Date(timestamp).toISOString(), timestamp)
      assert.strictEqual(call.headers["content-type"], "application/json")
      assert.strictEqual(call.headers["webhook-signature"], signatureOf(call))
      assert.isBelow(Math.abs(Number(call.headers["webhook-timestamp"]) - Date.now() / 1000), 300)
      assert.notInclude(String(call.headers["webhook-id"]), ".")
      for (const result of [before, asked]) {
        if (!("client" in result)) return assert.fail(result._tag)
        assert.notInclude(call.body, result.client.verificationCode)
      }
      // A decision is nothing to tell, and another request is.
      yield* ConnectClientStore.ConnectClientStore.use((clients) =>
        clients.decide({ client: "a".repeat(43), decision: "approved", by: "operator" })
      )
      yield* ask("third", "c")
      assert.strictEqual(JSON.parse((yield* next).body).data.label, "third")
      assert.strictEqual(yield* left, 0)
    }).pipe(Effect.scoped, Effect.provide(Clients)))

  it.live("CONN-16: tries again under the same id after an error, a redirect and a cut, and not after a decision or 410", () =>
    Effect.gen(function*() {
      logged.length = 0
      const { left, next, url } = yield* receiver(
        status(500),
        status(302, { location: "http://127.0.0.1:1/elsewhere" }),
        (response: Http.ServerResponse) => response.destroy(),
        status(429, { "retry-after": "0" }),
        status(200),
        status(500),
        status(410)
      )
      yield* listening(url)
      yield* ask("Pixel 9")
      const calls = yield* Effect.all(Array.from({ length: 5 }, () => next))
      assert.lengthOf(new Set(calls.map(({ headers }) => headers["webhook-id"])), 1)
      assert.deepStrictEqual(new Set(calls.map(({ path }) => path)), new Set(["/hook"]))
      for (const call of calls) assert.strictEqual(call.headers["webhook-signature"], signatureOf(call))
      yield* ask("another", "b")
      yield* next
      yield* next
      // It is gone: what comes later is not told.
      yield* Effect.repeat(Effect.sync(() => logged.some((line) => line.includes("is gone"))), {
        until: (isGone) => isGone,
        schedule: Schedule.spaced("10 millis")
      })
      yield* ask("a third", "c")
      yield* Effect.sleep("100 millis")
      assert.strictEqual(yield* left, 0)
    }).pipe(Effect.scoped, Effect.provide([Clients, Logger.layer([collecting])])))

  it.live("CONN-16: what is decided meanwhile is not told again", () =>
    Effect.gen(function*() {
      const { next, url } = yield* receiver(status(500))
      yield* listening(url)
      yield* ask("Pixel 9")
      yield* next
      yield* ConnectClientStore.ConnectClientStore.use((clients) =>
        clients.decide({ client: "a".repeat(43), decision: "blocked", by: "operator" })
      )
      // What comes later in the feed is told, and nothing of the first any more.
      yield* ask("another", "b")
      const labelOf = ({ body }: Call): unknown => JSON.parse(body).data.label
      yield* Effect.repeat(next, { until: (call) => labelOf(call) === "another" })
      const later = yield* Effect.all(Array.from({ length: 3 }, () => next))
      assert.deepStrictEqual(new Set(later.map(labelOf)), new Set(["another"]))
    }).pipe(Effect.scoped, Effect.provide(Clients)))

  const outages = Effect.map(
    Metric.snapshot,
    (metrics) =>
      metrics.flatMap((metric) =>
        metric.id === "sallyport.outages" && metric.type === "Gauge" &&
          metric.attributes?.of === "webhook for waiting clients"
          ? [Number(metric.state.value)]
          : []
      )
  )

  it.effect("OPS-06 CONN-16: an outage is over when the feed can be read again, although no client waits", () =>
    Effect.gen(function*() {
      logged.length = 0
      const real = yield* AccessFeed.AccessFeed
      const away = Stream.fail(
        new AccessFeed.AccessFeedError({
          reason: new AccessFeed.AccessFeedUnavailable({
            cause: new RepositoryError({
              operation: "read",
              reason: "Unavailable",
              outcome: "unchanged",
              cause: "away"
            })
          })
        })
      )
      let isAway = true
      const feed = AccessFeed.AccessFeed.of({
        ...real,
        subscribe: () => Stream.suspend(() => isAway ? away : real.subscribe())
      })
      yield* Effect.provideService(listening("http://127.0.0.1:1/"), AccessFeed.AccessFeed, feed)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(logged.filter((line) => line.includes("is told again")), [])
      isAway = false
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(logged.filter((line) => line.includes("is not told")), 1)
      assert.lengthOf(logged.filter((line) => line.includes("is told again, after 10s")), 1)
    }).pipe(Effect.scoped, Effect.provide([Clients, Logger.layer([collecting])])))

  it.live("OPS-06 CONN-16: an outage is over when no client waits whose call failed", () =>
    Effect.gen(function*() {
      const { next, url } = yield* receiver(status(500))
      yield* listening(url)
      yield* ask("Pixel 9")
      yield* next
      yield* eventually(outages, (counts) => counts.includes(1))
      yield* ConnectClientStore.ConnectClientStore.use((clients) =>
        clients.decide({ client: "a".repeat(43), decision: "approved", by: "operator" })
      )
      yield* eventually(outages, (counts) => counts.every((count) => count === 0))
    }).pipe(
      Effect.scoped,
      Effect.provide(Clients),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ))

  it.effect("CONN-16 C-26: addresses that are not public and secrets that are none are refused at the start", () =>
    Effect.gen(function*() {
      const build = (options: Partial<ConnectWebhook.Options>) =>
        Effect.flip(
          Effect.scoped(
            Layer.build(ConnectWebhook.layer({ url: "https://203.0.113.1/", secret, ...options }))
          )
        )
      for (
        const url of [
          "http://example.com/",
          "https://127.0.0.1/",
          "https://[::1]/",
          "https://10.0.0.1/",
          "https://169.254.169.254/",
          "https://user:password@example.com/",
          "https://localhost/",
          "ftp://example.com/",
          "no address"
        ]
      ) {
        assert.strictEqual((yield* build({ url }))._tag, "InvalidConnectWebhookOptions", url)
      }
      for (
        const text of [
          "",
          "whsec_",
          "whsec_AAAA",
          `whsec_${Buffer.alloc(65).toString("base64")}`,
          "whsec_%",
          key.toString("base64")
        ]
      ) {
        const { message } = yield* build({ url: "https://example.com/", secret: Redacted.make(text) })
        assert.include(message, "secret must be whsec_")
        if (text.length > 6) assert.notInclude(message, text.slice(6))
      }
      // The vector of the digest of Standard Webhooks.
      const signature = yield* ConnectWebhook.sign(Redacted.make("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"), {
        id: "msg_1",
        timestamp: 1_767_225_600,
        body: `{"type":"connect.client.waiting","timestamp":"2026-01-01T00:00:00Z","data":{"id":"c1"}}`
      })
      assert.strictEqual(signature, "v1,mH3eJNfAsbrSXIgetL0EecCoqQ4yMtwXaMxoEsBnlgw=")
    }).pipe(Effect.provide(Clients)))
})
