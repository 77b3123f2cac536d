import { assert, describe, it } from "@effect/vitest"
import {
  StreamSubscriptionRepository,
  type SubscriptionName
} from "@sallyport/durable-streams/StreamSubscriptionRepository"
import type { SigningKey } from "@sallyport/durable-streams/StreamSubscriptions"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createPublicKey, verify } from "node:crypto"
import * as Http from "node:http"
import { persistences, start } from "./support.ts"

// -----------------------------------------------------------------------------
// Repository
// -----------------------------------------------------------------------------

const name: SubscriptionName = { ownerKey: "o", subscriptionId: "s" }
const config = {
  ...name,
  type: "pull-wake",
  pattern: "events/*",
  webhookUrl: null,
  wakeStream: "wake",
  leaseMillis: 1000,
  description: null,
  rootUrl: "http://x/streams",
  owner: "{}",
  digest: "d",
  links: [{ path: "events/a", acked: 5, explicit: true, glob: true }],
  nowMillis: 0
} as const

for (const { layer, name: persistence } of persistences) {
  const build = Layer.build(Layer.fresh(layer)).pipe(
    Effect.map((context) => Context.get(context, StreamSubscriptionRepository))
  )

  describe(`StreamSubscriptionRepository (${persistence})`, () => {
    it.live("of those who begin a wake at the same time, one does, and again when the lease has expired", () =>
      Effect.gen(function*() {
        const repository = yield* build
        yield* repository.create(config)
        const wake = (nowMillis: number) =>
          Effect.forEach(
            Array.from({ length: 10 }, (_, n) => n),
            (n) =>
              repository.wake({
                ...name,
                wakeId: `${nowMillis}-${n}`,
                leaseExpiresAtMillis: nowMillis + 100,
                nowMillis
              }),
            { concurrency: "unbounded" }
          )
        assert.deepStrictEqual((yield* wake(0)).filter((row) => row !== undefined).map((row) => row.generation), [1])
        assert.isTrue((yield* wake(99)).every((row) => row === undefined))
        assert.deepStrictEqual((yield* wake(100)).filter((row) => row !== undefined).map((row) => row.generation), [2])
        assert.deepStrictEqual((yield* repository.due({ nowMillis: 199, limit: 10 })).length, 0)
        assert.deepStrictEqual((yield* repository.due({ nowMillis: 200, limit: 10 })).length, 1)
      }))

    it.live("of workers who claim at the same time, one does; who comes late with a settled wake is fenced", () =>
      Effect.gen(function*() {
        const repository = yield* build
        yield* repository.create(config)
        yield* repository.wake({ ...name, wakeId: "w1", leaseExpiresAtMillis: null, nowMillis: 0 })
        const claims = yield* Effect.forEach(
          ["a", "b", "c", "d"],
          (worker) => repository.claim({ ...name, wakeId: "other", worker, leaseExpiresAtMillis: 100, nowMillis: 0 }),
          { concurrency: "unbounded" }
        )
        const claimed = claims.find(({ _tag }) => _tag === "Claimed")
        assert.deepStrictEqual(claims.map(({ _tag }) => _tag).sort(), ["Claimed", "Held", "Held", "Held"])
        assert(claimed?._tag === "Claimed")
        assert.strictEqual(claimed.subscription.wakeId, "w1")
        assert.strictEqual(claimed.subscription.generation, 1)

        const settle = (options: { wakeId?: string; generation?: number; acked?: number; nowMillis?: number }) =>
          Effect.map(
            repository.settle({
              ...name,
              wakeId: options.wakeId ?? "w1",
              generation: options.generation ?? 1,
              acks: [{ path: "events/a", acked: options.acked ?? 9 }, { path: "events/b", acked: 1 }],
              leaseExpiresAtMillis: null,
              nowMillis: options.nowMillis ?? 50
            }),
            ({ _tag }) => _tag
          )
        assert.strictEqual(yield* settle({ wakeId: "w0" }), "Fenced")
        assert.strictEqual(yield* settle({ generation: 0 }), "Fenced")
        assert.strictEqual(yield* settle({ nowMillis: 100 }), "Fenced")
        const acked = Effect.map(repository.links(name), (links) => links.map((link) => [link.path, link.acked]))
        assert.deepStrictEqual(yield* acked, [["events/a", 5]])
        assert.strictEqual(yield* settle({}), "Settled")
        assert.strictEqual(yield* settle({}), "Fenced")
        assert.deepStrictEqual(yield* acked, [["events/a", 9], ["events/b", 1]])

        // A position never goes back.
        yield* repository.wake({ ...name, wakeId: "w2", leaseExpiresAtMillis: 500, nowMillis: 200 })
        assert.strictEqual(yield* settle({ wakeId: "w2", generation: 2, acked: 3, nowMillis: 201 }), "Settled")
        assert.deepStrictEqual(yield* acked, [["events/a", 9], ["events/b", 1]])
      }))

    it.live("keeps a link's position and its pattern when its explicit part comes and goes", () =>
      Effect.gen(function*() {
        const repository = yield* build
        yield* repository.create(config)
        const link = (path: string, glob: boolean) =>
          repository.link({ ...name, links: [{ path, acked: 1, explicit: true, glob }] })
        assert.isTrue(yield* link("events/a", true))
        assert.isTrue(yield* link("other", false))
        yield* repository.unlink({ ...name, path: "events/a" })
        yield* repository.unlink({ ...name, path: "other" })
        assert.deepStrictEqual(yield* repository.links(name), [
          { path: "events/a", acked: 5, explicit: false, glob: true }
        ])
        assert.strictEqual((yield* repository.create(config))._tag, "Existing")
        assert.strictEqual((yield* repository.create({ ...config, digest: "other" }))._tag, "Conflict")
        yield* repository.delete(name)
        assert.isFalse(yield* link("events/a", true))
        assert.deepStrictEqual(yield* repository.links(name), [])
        assert.isUndefined(yield* repository.get(name))
      }))

    it.live("notes failures, and when to try again, of the wake that failed only", () =>
      Effect.gen(function*() {
        const repository = yield* build
        yield* repository.create(config)
        yield* repository.wake({ ...name, wakeId: "w1", leaseExpiresAtMillis: 100, nowMillis: 0 })
        yield* repository.rest({ ...name, wakeId: "w0", failed: true, dueAtMillis: 10 })
        assert.strictEqual((yield* repository.get(name))?.wakeId, "w1")
        yield* repository.rest({ ...name, wakeId: "w1", failed: true, dueAtMillis: 10 })
        const row = yield* repository.get(name)
        assert.deepStrictEqual([row?.wakeId, row?.failures, row?.dueAtMillis], [null, 1, 10])
        yield* repository.rest({ ...name, wakeId: null, failed: false, dueAtMillis: null })
        assert.deepStrictEqual(yield* repository.due({ nowMillis: 1000, limit: 10 }), [])
        const pages = [
          yield* repository.page({ after: { ownerKey: "", subscriptionId: "" }, limit: 10 }),
          yield* repository.page({ after: name, limit: 10 })
        ]
        assert.deepStrictEqual(pages.map(({ length }) => length), [1, 0])
      }))
  })
}

// -----------------------------------------------------------------------------
// Over HTTP
// -----------------------------------------------------------------------------

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

const setUp = Effect.fnUntraced(function*() {
  const server = yield* start({ subscriptions: { interval: "20 millis" } })
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
      return { status: response.status, json }
    })
  return { server, send }
})

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
      const jwks: { readonly keys: ReadonlyArray<SigningKey["jwk"]> } = yield* Effect.promise(async () =>
        (await fetch(`${server.url}/streams/__ds/jwks.json`)).json()
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
      yield* send("PUT", "a", [1])
      const first = yield* target.call(0)
      const settle = (call: Call) =>
        send("POST", "__ds/subscriptions/s/callback", {
          wake_id: call.body.wake_id,
          generation: call.body.generation,
          acks: [{ stream: "a", offset: "0000000000000000_0000000000000001" }],
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
        yield* send("PUT", id, [1])
        const { json } = yield* send("POST", `__ds/subscriptions/${id}/claim`, { worker: "w" })
        return json
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
        acks: [{ stream: "one", offset: "0000000000000000_0000000000000002" }]
      }, String(one.token))
      assert.strictEqual(beyond.status, 400)
      const other = yield* send("POST", "__ds/subscriptions/one/ack", {
        ...body,
        acks: [{ stream: "two", offset: "0000000000000000_0000000000000001" }]
      }, String(one.token))
      assert.strictEqual(other.status, 400)
      // Nothing was refused for good: the wake is still its worker's.
      assert.deepStrictEqual((yield* ack(String(one.token))).json, { ok: true, next_wake: true })
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
