import { assert, describe, it } from "@effect/vitest"
import type * as StreamSubscriptions from "@sallyport/durable-streams/StreamSubscriptions"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import {
  StreamSubscriptionRepository,
  type SubscriptionRow
} from "@sallyport/durable-streams/StreamSubscriptionRepository"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createPublicKey, verify } from "node:crypto"
import * as Http from "node:http"
import { memory, type Repositories, start } from "./support.ts"

interface Call {
  readonly body: Record<string, unknown>
  readonly text: string
  readonly signature: string
}

/** Starts a worker that answers webhooks as it is told, and hands over each call. */
const worker = (answer: (call: number) => { readonly status: number; readonly body: unknown }) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly server: Http.Server; readonly calls: Array<Call>; waiting: Array<() => void> }>(
        (resume) => {
          const state = { calls: new Array<Call>(), waiting: new Array<() => void>() }
          const server = Http.createServer((request, response) => {
            let text = ""
            request.on("data", (chunk: Buffer) => {
              text += chunk.toString("utf8")
            })
            request.on("end", () => {
              const { body, status } = answer(state.calls.length)
              state.calls.push({
                body: JSON.parse(text),
                text,
                signature: String(request.headers["webhook-signature"])
              })
              response.writeHead(status, { "content-type": "application/json" })
              response.end(JSON.stringify(body))
              for (const wake of state.waiting.splice(0)) wake()
            })
          })
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, ...state })))
        }
      ),
      ({ server }) =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    ),
    ({ calls, server, waiting }) => {
      const address = server.address()
      return {
        url: `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/hook`,
        call: (index: number): Effect.Effect<Call> =>
          Effect.callback((resume) => {
            const look = () => {
              const call = calls[index]
              if (call === undefined) waiting.push(look)
              else resume(Effect.succeed(call))
            }
            look()
          })
      }
    }
  )

/** Starts a worker that is left alone with each response, and counts its connections. */
const listening = (answer: (response: Http.ServerResponse) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Http.Server>((resume) => {
        const server = Http.createServer((request, response) => {
          request.resume().on("end", () => answer(response))
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    ),
    (server) => {
      const seen = { connections: 0 }
      server.on("connection", () => seen.connections++)
      const address = server.address()
      return { seen, port: typeof address === "object" && address !== null ? address.port : 0 }
    }
  )

const setUp = Effect.fnUntraced(function*(subscriptions?: StreamSubscriptions.Options, repositories?: Repositories) {
  const server = yield* start({ repositories, subscriptions: { interval: "20 millis", ...subscriptions } })
  const token = yield* server.token("someone")
  const send = (method: string, path: string, body?: unknown, bearer = token) =>
    Effect.promise(async (signal) => {
      const response = await fetch(`${server.url}/streams/${path}`, {
        method,
        signal,
        headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      const text = await response.text()
      const json: Record<string, unknown> = text === "" ? {} : JSON.parse(text)
      return { status: response.status, headers: response.headers, json }
    })
  return { server, send }
})

type Repository = StreamSubscriptionRepository["Service"]

/** Keeps streams and subscriptions in memory, and changes what the repository of subscriptions does. */
const changed = (change: (real: Repository) => Partial<Repository>): Repositories =>
  Layer.effect(
    StreamSubscriptionRepository,
    StreamSubscriptionRepository.useSync((real) => ({ ...real, ...change(real) }))
  ).pipe(Layer.provideMerge(memory))

/** Makes the owner of the subscription `corrupt` unreadable. */
const corrupt = (rows: ReadonlyArray<SubscriptionRow>): ReadonlyArray<SubscriptionRow> =>
  rows.map((row) => row.subscriptionId === "corrupt" ? { ...row, owner: "no JSON" } : row)

const rarely = { interval: "1 hour", reconcileInterval: "1 hour" } as const

const codeOf = ({ json }: { readonly json: Record<string, unknown> }) =>
  typeof json.error === "object" && json.error !== null && "code" in json.error ? json.error.code : undefined

describe("subscriptions over HTTP", () => {
  it.live("call a webhook again after a failure, with a later generation and a signature that verifies", () =>
    Effect.gen(function*() {
      const { send, server } = yield* setUp()
      const target = yield* worker((call) =>
        call === 0 ? { status: 500, body: {} } : { status: 200, body: { done: true } }
      )
      assert.strictEqual(
        (yield* send("PUT", "__ds/subscriptions/s", {
          type: "webhook",
          pattern: "events/**",
          webhook: { url: target.url }
        })).status,
        201
      )
      yield* send("PUT", "events/a/b", [1, 2])
      const first = yield* target.call(0)
      const second = yield* target.call(1)
      assert.isAbove(Number(second.body.generation), Number(first.body.generation))
      const jwks: { readonly keys: ReadonlyArray<StreamSubscriptions.SigningKey["jwk"]> } = yield* Effect.promise(
        async () => (await fetch(`${server.url}/streams/__ds/jwks.json`)).json()
      )
      const [, timestamp, kid, signature] = /^t=(\d+),kid=([^,]+),ed25519=(.+)$/.exec(second.signature) ?? []
      const key = jwks.keys.find((each) => each.kid === kid)
      assert(key !== undefined)
      assert.isTrue(verify(
        null,
        Buffer.from(`${timestamp}.${second.text}`),
        createPublicKey({ key: { ...key }, format: "jwk" }),
        Buffer.from(signature ?? "", "base64url")
      ))
    }))

  for (
    const [when, options, repositories, calls] of [
      [
        "once there is an append",
        rarely,
        changed((real) => ({
          ofOwner: (key) => Effect.map(real.ofOwner(key), corrupt)
        })),
        1
      ],
      [
        "when a retry is due",
        { ...rarely, interval: "20 millis" },
        changed((real) => ({
          due: (asked) =>
            Effect.zipWith(
              real.page({ after: { ownerKey: "", subscriptionId: "" }, limit: 1 }),
              real.due(asked),
              (first, due) => corrupt([...first, ...due])
            )
        })),
        2
      ],
      [
        "when all are looked at",
        { ...rarely, reconcileInterval: "20 millis" },
        changed((real) => ({
          ofOwner: () => Effect.succeed([]),
          page: (asked) => Effect.map(real.page(asked), corrupt)
        })),
        1
      ]
    ] as const
  ) {
    it.live(`are looked after ${when} though the one before them cannot be read`, () =>
      Effect.gen(function*() {
        const { send } = yield* setUp(options, repositories)
        const target = yield* worker((call) => ({ status: call + 1 < calls ? 500 : 200, body: { done: true } }))
        yield* send("PUT", "__ds/subscriptions/corrupt", { type: "pull-wake", streams: ["s"], wake_stream: "wake" })
        yield* send("PUT", "__ds/subscriptions/good", {
          type: "webhook",
          streams: ["s"],
          webhook: { url: target.url }
        })
        yield* send("PUT", "s", [1])
        assert.strictEqual((yield* target.call(calls - 1)).body.subscription_id, "good")
      }))
  }

  it.live("tell of an append though the store failed when they were first looked for", () =>
    Effect.gen(function*() {
      let isLost = true
      const repositories = changed((real) => ({
        ofOwner: (key) =>
          Effect.suspend(() => {
            if (!isLost) return real.ofOwner(key)
            isLost = false
            return Effect.fail(
              new RepositoryError({ operation: "list", reason: "Unavailable", outcome: "unchanged", cause: "lost" })
            )
          })
      }))
      const { send } = yield* setUp({ ...rarely, interval: "20 millis" }, repositories)
      const target = yield* worker(() => ({ status: 200, body: { done: true } }))
      yield* send("PUT", "__ds/subscriptions/s", { type: "webhook", streams: ["s"], webhook: { url: target.url } })
      yield* send("PUT", "s", [1])
      assert.strictEqual((yield* target.call(0)).body.subscription_id, "s")
      assert.isFalse(isLost)
    }))

  it.live("wake again when a worker does not answer within its lease, and fence it", () =>
    Effect.gen(function*() {
      const { send } = yield* setUp()
      const target = yield* worker(() => ({ status: 200, body: {} }))
      yield* send("PUT", "__ds/subscriptions/s", {
        type: "webhook",
        streams: ["a"],
        webhook: { url: target.url },
        lease_ttl_ms: 1000
      })
      const offset = (yield* send("PUT", "a", [1])).headers.get("stream-next-offset")
      const first = yield* target.call(0)
      const settle = (call: Call) =>
        send("POST", "__ds/subscriptions/s/callback", {
          wake_id: call.body.wake_id,
          generation: call.body.generation,
          acks: [{ stream: "a", offset }],
          done: true
        }, String(call.body.callback_token))
      yield* target.call(1)
      assert.deepStrictEqual(codeOf(yield* settle(first)), "FENCED")
      // A worker that is late once more, on a busy machine, is called once more.
      let calls = 1
      const answer = yield* Effect.suspend(() => Effect.flatMap(target.call(calls++), settle)).pipe(
        Effect.repeat({ until: (answer) => codeOf(answer) !== "FENCED" })
      )
      assert.deepStrictEqual(answer.json, { ok: true, next_wake: false })
    }))

  it.live("take a token for its own wake only, whichever worker holds it, and nothing else for a token", () =>
    Effect.gen(function*() {
      const { send, server } = yield* setUp()
      const claim = Effect.fnUntraced(function*(id: string) {
        yield* send("PUT", `wake/${id}`, [])
        yield* send("PUT", `__ds/subscriptions/${id}`, { type: "pull-wake", streams: [id], wake_stream: `wake/${id}` })
        const offset = (yield* send("PUT", id, [1])).headers.get("stream-next-offset") ?? ""
        const { json } = yield* send("POST", `__ds/subscriptions/${id}/claim`, { worker: "w" })
        return { wake_id: json.wake_id, generation: json.generation, token: json.token, offset }
      })
      const one = yield* claim("one")
      const two = yield* claim("two")
      const body = { wake_id: one.wake_id, generation: one.generation, done: true }
      const ack = (token: string) => send("POST", "__ds/subscriptions/one/ack", body, token)
      assert.strictEqual((yield* ack(String(two.token))).status, 401)
      assert.strictEqual((yield* ack(yield* server.token("someone"))).status, 401)
      assert.strictEqual((yield* ack(`${String(one.token)}x`)).status, 401)
      const [head = "", tag = ""] = String(one.token).split(".")
      const forged = Buffer.from(head, "base64url").toString().replace("one", "two")
      assert.strictEqual((yield* ack(`${Buffer.from(forged).toString("base64url")}.${tag}`)).status, 401)

      const held = yield* send("POST", "__ds/subscriptions/one/claim", { worker: "v" })
      assert.deepStrictEqual([held.status, codeOf(held)], [409, "ALREADY_CLAIMED"])
      const beyond = yield* send("POST", "__ds/subscriptions/one/ack", {
        ...body,
        acks: [{ stream: "one", offset: one.offset.replace(/1$/, "2") }]
      }, String(one.token))
      assert.strictEqual(beyond.status, 400)
      const other = yield* send("POST", "__ds/subscriptions/one/ack", {
        ...body,
        acks: [{ stream: "two", offset: two.offset }]
      }, String(one.token))
      assert.strictEqual(other.status, 400)
      // Nothing was refused for good: the wake is still its worker's.
      assert.deepStrictEqual((yield* ack(String(one.token))).json, { ok: true, next_wake: true })
    }))

  it.live("C-76: a pattern that ends in two stars links the stream that it begins with, and tells of its appends", () =>
    Effect.gen(function*() {
      const { send } = yield* setUp()
      const tail = (yield* send("PUT", "events", [1])).headers.get("stream-next-offset")
      yield* send("PUT", "eventsource", [1])
      yield* send("PUT", "__ds/subscriptions/s", { type: "pull-wake", pattern: "events/**", wake_stream: "wake" })
      const { json } = yield* send("GET", "__ds/subscriptions/s")
      assert.deepStrictEqual(json.streams, [
        { path: "events", link_type: "glob", acked_offset: tail }
      ])
      yield* send("POST", "events", [2])
      const claimed = yield* send("POST", "__ds/subscriptions/s/claim", { worker: "w" })
      assert.strictEqual(claimed.status, 200)
    }))

  it.live("C-74: all of a stream that was created again is news, whatever was worked off of the one before", () =>
    Effect.gen(function*() {
      const { send } = yield* setUp()
      for (const path of ["events/a", "b"]) yield* send("PUT", path, [1, 2, 3])
      yield* send("PUT", "__ds/subscriptions/s", {
        type: "pull-wake",
        pattern: "events/*",
        streams: ["b"],
        wake_stream: "wake"
      })
      const first = new Map<string, string | null>()
      for (const path of ["events/a", "b"]) {
        yield* send("DELETE", path)
        first.set(path, (yield* send("PUT", path, [4, 5])).headers.get("stream-next-offset"))
      }
      const { json } = yield* send("POST", "__ds/subscriptions/s/claim", { worker: "w" })
      assert.deepStrictEqual<unknown>(
        json.streams,
        ["events/a", "b"].map((path) => {
          const tail = first.get(path) ?? ""
          return {
            path,
            link_type: path === "b" ? "explicit" : "glob",
            acked_offset: `${tail.slice(0, 16)}_0000000000000000`,
            tail_offset: tail,
            has_pending: true
          }
        })
      )
    }))

  it.live("C-25: a webhook that answers without an end is cut off, and tried again", () =>
    Effect.gen(function*() {
      const { send } = yield* setUp()
      const chunk = Buffer.alloc(16_384, 0x20)
      const ends: Array<number> = []
      const waiting: Array<() => void> = []
      const target = yield* listening((response) => {
        response.writeHead(200, { "content-type": "application/json" })
        let sent = 0
        const pour = () => {
          while (!response.destroyed && sent < 600 * 1024 * 1024) {
            sent += chunk.length
            if (!response.write(chunk)) return void response.once("drain", pour)
          }
          response.end()
        }
        response.on("close", () => {
          ends.push(sent)
          for (const look of waiting.splice(0)) look()
        })
        pour()
      })
      const url = `http://127.0.0.1:${target.port}/`
      yield* send("PUT", "__ds/subscriptions/s", { type: "webhook", streams: ["a"], webhook: { url } })
      yield* send("PUT", "a", [1])
      yield* Effect.callback<void>((resume) => {
        const look = () => void (ends.length > 1 ? resume(Effect.void) : waiting.push(look))
        look()
      })
      // What the sockets hold on both sides was sent in vain.
      for (const sent of ends) assert.isBelow(sent, 64 * 1024 * 1024)
      assert.strictEqual((yield* send("GET", "__ds/subscriptions/s")).json.status, "failed")
    }))

  it.live("C-25: no more webhooks of an owner are called at once than may be, and the others after them", () =>
    Effect.gen(function*() {
      const { send, server } = yield* setUp({ maxCalls: 2, webhookTimeout: "1 minute" })
      const open: Array<Http.ServerResponse> = []
      const waiting: Array<() => void> = []
      let most = 0
      const target = yield* listening((response) => {
        open.push(response)
        most = Math.max(most, open.filter((each) => !each.writableEnded).length)
        for (const look of waiting.splice(0)) look()
      })
      const called = (count: number) =>
        Effect.callback<void>((resume) => {
          const look = () => void (open.length >= count ? resume(Effect.void) : waiting.push(look))
          look()
        })
      const webhook = { url: `http://127.0.0.1:${target.port}/` }
      const subscribe = (id: string, token?: string) =>
        send("PUT", `__ds/subscriptions/${id}`, { type: "webhook", streams: ["a"], webhook }, token)
      for (let index = 0; index < 6; index++) yield* subscribe(`s${index}`)
      yield* send("PUT", "a", [1])
      yield* called(2)
      // Another owner is not held up.
      const other = yield* server.token("other")
      yield* subscribe("s", other)
      yield* send("PUT", "a", [1], other)
      yield* called(3)
      for (let index = 0; index < 7; index++) {
        yield* called(index + 1)
        open[index]?.writeHead(200, { "content-type": "application/json" }).end("{\"done\":true}")
      }
      assert.isAtMost(most, 3)
    }))

  it.live("C-25 HTTP-09: an owner has no more of them than may be", () =>
    Effect.gen(function*() {
      const { send, server } = yield* setUp({ maxSubscriptions: 2 })
      const body = { type: "pull-wake", pattern: "a", wake_stream: "wake" }
      const statuses = yield* Effect.forEach(
        ["a", "b", "c", "a"],
        (id) => Effect.map(send("PUT", `__ds/subscriptions/${id}`, body), ({ status }) => status)
      )
      assert.deepStrictEqual(statuses, [201, 201, 409, 200])
      assert.deepStrictEqual(codeOf(yield* send("PUT", "__ds/subscriptions/c", body)), "TOO_MANY_SUBSCRIPTIONS")
      const other = yield* server.token("other")
      assert.strictEqual((yield* send("PUT", "__ds/subscriptions/c", body, other)).status, 201)
      yield* send("DELETE", "__ds/subscriptions/a")
      assert.strictEqual((yield* send("PUT", "__ds/subscriptions/c", body)).status, 201)
    }))

  it.live("C-26: call no webhook whose name leads inside, when they are created and when they are called", () =>
    Effect.gen(function*() {
      let asked = 0
      let toldAgain = () => {}
      const again = Effect.callback<void>((resume) => {
        toldAgain = () => resume(Effect.void)
      })
      const resolve = (name: string) =>
        Effect.sync(() => {
          if (name !== "rebind.example") return [{ address: "169.254.169.254", family: 4 }]
          // Checked once, then called twice.
          if (++asked === 3) toldAgain()
          return [{ address: asked === 1 ? "93.184.216.34" : "127.0.0.1", family: 4 }]
        })
      const { send } = yield* Effect.provideService(setUp(), PublicHttp.Resolver, resolve)
      const beside = yield* listening((response) => response.end("{}"))
      const subscribe = (id: string, url: string) =>
        send("PUT", `__ds/subscriptions/${id}`, { type: "webhook", streams: ["a"], webhook: { url } })
      for (
        const url of [
          "https://metadata.example/",
          "https://127.0.0.1/",
          "https://2130706433/",
          "https://[::ffff:127.0.0.1]/",
          "https://[64:ff9b::a00:1]/",
          "https://localhost/",
          "https://10.0.0.1/",
          "http://example.com/"
        ]
      ) {
        assert.deepStrictEqual(codeOf(yield* subscribe("s", url)), "WEBHOOK_URL_REJECTED", url)
      }
      assert.strictEqual((yield* subscribe("s", `https://rebind.example:${beside.port}/`)).status, 201)
      yield* send("PUT", "a", [1])
      yield* again
      assert.strictEqual((yield* send("GET", "__ds/subscriptions/s")).json.status, "failed")
      assert.strictEqual(beside.seen.connections, 0)
    }))

  it.live("belong to who created them, and nothing is claimed where there is nothing", () =>
    Effect.gen(function*() {
      const { send, server } = yield* setUp()
      const other = yield* server.token("other")
      yield* send("PUT", "wake", [])
      const body = { type: "pull-wake", pattern: "**", wake_stream: "wake" }
      assert.strictEqual((yield* send("PUT", "__ds/subscriptions/s", body)).status, 201)
      const claim = (token?: string) => send("POST", "__ds/subscriptions/s/claim", { worker: "w" }, token)
      assert.strictEqual((yield* send("GET", "__ds/subscriptions/s", undefined, other)).status, 404)
      assert.strictEqual((yield* claim(other)).status, 404)
      assert.deepStrictEqual(codeOf(yield* claim()), "NOTHING_PENDING")
      // Another owner's stream is no news.
      yield* send("PUT", "events", [1], other)
      assert.deepStrictEqual(codeOf(yield* claim()), "NOTHING_PENDING")
      yield* send("DELETE", "__ds/subscriptions/s", undefined, other)
      assert.strictEqual((yield* send("GET", "__ds/subscriptions/s")).status, 200)
      yield* send("PUT", "events", [1])
      const { json, status } = yield* claim()
      assert.strictEqual(status, 200)
      yield* send("DELETE", "__ds/subscriptions/s")
      const late = yield* send("POST", "__ds/subscriptions/s/ack", {
        wake_id: json.wake_id,
        generation: json.generation,
        done: true
      }, String(json.token))
      assert.strictEqual(late.status, 404)
    }))

  it.live("refuse what is not of their form", () =>
    Effect.gen(function*() {
      const { send } = yield* setUp()
      const webhook = { url: "https://example.com/" }
      for (
        const body of [
          {},
          { type: "webhook", webhook },
          { type: "webhook", pattern: "a" },
          { type: "other", pattern: "a", webhook },
          { type: "webhook", streams: ["../a"], webhook },
          { type: "webhook", pattern: "a", webhook, lease_ttl_ms: 999 },
          { type: "webhook", pattern: "a", webhook, lease_ttl_ms: 600_001 },
          { type: "pull-wake", pattern: "a" },
          { type: "pull-wake", pattern: "a", wake_stream: "__ds/x" }
        ]
      ) {
        const answer = yield* send("PUT", "__ds/subscriptions/s", body)
        assert.strictEqual(answer.status, 400, JSON.stringify(body))
      }
      for (const url of ["", "https://10.0.0.1/", "https://user@example.com/", "file:///etc/passwd"]) {
        const answer = yield* send("PUT", "__ds/subscriptions/s", { type: "webhook", pattern: "a", webhook: { url } })
        assert.deepStrictEqual(codeOf(answer), "WEBHOOK_URL_REJECTED", url)
      }
    }))
})
