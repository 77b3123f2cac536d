import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import { stream } from "@durable-streams/client"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as RunStreamsRoutes from "@sallyport/durable-streams/RunStreamsRoutes"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Http from "node:http"
import { network } from "../../../test-support/network.ts"
import { eventually } from "../../../test-support/programs.ts"

const start = Effect.gen(function*() {
  const services = Layer.mergeAll(
    RunEventLog.layer.pipe(Layer.provide(RunEventRepository.layerMemory)),
    SessionCredentialService.layerWith({}).pipe(
      Layer.provide(Access.layerMemory),
      Layer.provide(Access.layerMemory)
    ),
    AuthPolicy.layer({ host: "127.0.0.1" })
  ).pipe(Layer.provide(SecretStore.layerMemory), Layer.provide(NodeCrypto.layer))
  const layer = HttpRouter.serve(RunStreamsRoutes.layer({ longPollTimeout: 100 }), {
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Layer.provideMerge(services),
    Layer.provideMerge(
      NodeHttpServer.layer(() => Http.createServer(), {
        host: "127.0.0.1",
        port: 0,
        gracefulShutdownTimeout: "1 second"
      })
    )
  )
  const context = yield* Effect.orDie(Layer.build(layer))
  const { address } = Context.get(context, HttpServer.HttpServer)
  const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
  const headersOf = (subject: string) =>
    Effect.map(
      sessions.issue({ subject, scopes: ["runs:read"], method: "bearer-access-token" }),
      ({ token }) => ({ authorization: `Bearer ${Redacted.value(token)}` })
    )
  return {
    url: `http://127.0.0.1:${"port" in address ? address.port : 0}/streams/runs`,
    log: Context.get(context, RunEventLog.RunEventLog),
    headersOf
  }
})

const started = (log: RunEventLog.RunEventLog["Service"], key = "k") =>
  log.start({ threadId: key, idempotencyKey: key, request: {}, owner: { subject: "someone" } })

const request = (url: string, init: RequestInit = {}) =>
  Effect.promise(async (signal) => {
    const response = await fetch(url, { signal, ...init })
    return { status: response.status, headers: response.headers, text: await response.text() }
  })

describe("runs as streams", () => {
  for (const live of ["long-poll", "sse"] as const) {
    it.live(`are followed by the protocol's own client to their end (${live})`, () =>
      Effect.gen(function*() {
        const { headersOf, log, url } = yield* start
        const { run } = yield* started(log)
        const { epoch, runId } = run
        yield* log.append({ runId, epoch, events: [{ n: 1 }, { n: 2 }] })
        const headers = yield* headersOf("someone")
        const seen = yield* Effect.promise(async () => {
          const response = await stream<{ readonly kind: string; readonly data: unknown }>({
            url: `${url}/${runId}`,
            headers,
            offset: "-1",
            live
          })
          const messages: Array<unknown> = []
          let written = 2
          await new Promise<void>((resolve, reject) => {
            response.subscribeJson(async (batch) => {
              for (const { data, kind } of batch.items) messages.push([kind, data])
              if (batch.streamClosed) resolve()
              else if (written < 5) {
                written++
                await Effect.runPromise(log.append({ runId, epoch, events: [{ n: written }] }))
              } else if (written === 5) {
                written++
                await Effect.runPromise(log.finish({ runId, epoch, end: { status: "succeeded" } }))
              }
            })
            response.closed.catch(reject)
          })
          return messages
        })
        assert.deepStrictEqual(seen, [
          ...[1, 2, 3, 4, 5].map((n) => ["data", { n }]),
          ["end", { status: "succeeded" }]
        ])
      }))
  }

  for (const live of ["long-poll", "sse"] as const) {
    it.live(`L-83 RUN-08: are read whole and once by the protocol's own client over a network that breaks (${live})`, () =>
      Effect.gen(function*() {
        const { headersOf, log, url } = yield* start
        const server = { url: new URL(url).origin }
        const wire = yield* network(server)
        const { run: { epoch, runId } } = yield* started(log)
        const headers = yield* headersOf("someone")
        const seen: Array<unknown> = []
        yield* Effect.forkScoped(
          Effect.gen(function*() {
            for (let n = 1; n <= 60; n++) {
              // Never so far ahead of the reader that there is nothing left to cut.
              yield* eventually(Effect.sync(() => seen.length), (length) => length >= n - 10)
              yield* log.append({ runId, epoch, events: [{ n }] })
            }
            yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
          })
        )
        const cuts = new Set([5, 20, 21, 45])
        let offset = "-1"
        /** Reads on from an offset until the stream is closed; fails if the client gives up. */
        const read = async () => {
          const response = await stream<{ readonly kind: string; readonly data: unknown }>({
            url: `${wire.url}/streams/runs/${runId}`,
            headers,
            offset,
            live,
            backoffOptions: { initialDelay: 5, maxDelay: 20, multiplier: 1, maxRetries: Infinity }
          })
          await new Promise<void>((resolve, reject) => {
            response.subscribeJson(async (batch) => {
              for (const { data, kind } of batch.items) seen.push([kind, data])
              offset = batch.offset
              if (batch.streamClosed) return resolve()
              for (const n of cuts) {
                if (seen.length < n) continue
                cuts.delete(n)
                wire.cut()
                setTimeout(() => wire.join(server), 10)
                break
              }
            })
            response.closed.then(resolve, reject)
          })
        }
        const last = Effect.sync(() => seen.at(-1))
        yield* Effect.tryPromise(read).pipe(
          Effect.ignore,
          Effect.andThen(last),
          Effect.repeat({ until: (last) => Array.isArray(last) && last[0] === "end" })
        )
        assert.strictEqual(cuts.size, 0)
        assert.deepStrictEqual(seen, [
          ...Array.from({ length: 60 }, (_, index) => ["data", { n: index + 1 }]),
          ["end", { status: "succeeded" }]
        ])
      }))
  }

  it.live("RUN-18: are found by their owner only, and written by their program only", () =>
    Effect.gen(function*() {
      const { headersOf, log, url } = yield* start
      const { run } = yield* started(log)
      const headers = yield* headersOf("someone")
      const other = yield* headersOf("other")
      const own = `${url}/${run.runId}`
      assert.strictEqual((yield* request(own)).status, 401)
      for (const query of ["", "?offset=-1&live=sse", "?offset=now&live=long-poll"]) {
        assert.strictEqual((yield* request(own + query, { headers: other })).status, 404, query)
      }
      assert.strictEqual((yield* request(own, { method: "HEAD", headers: other })).status, 404)
      assert.strictEqual((yield* request(own, { headers })).status, 200)
      for (const method of ["PUT", "POST", "DELETE"]) {
        assert.strictEqual((yield* request(own, { method, headers })).status, 405, method)
      }
    }))

  it.live("have the offsets of streams: events are counted, and what lies beyond is refused", () =>
    Effect.gen(function*() {
      const { headersOf, log, url } = yield* start
      const { run } = yield* started(log)
      const { epoch, runId } = run
      const headers = yield* headersOf("someone")
      const read = (query: string) => request(`${url}/${runId}${query}`, { headers })
      const offset = (n: number) => `0000000000000000_${String(n).padStart(16, "0")}`
      assert.strictEqual((yield* read("")).text, "[]")
      assert.strictEqual((yield* read("?offset=now&live=long-poll")).status, 204)
      yield* log.append({ runId, epoch, events: ["a", "b"] })
      const second = yield* read(`?offset=${offset(1)}`)
      assert.strictEqual(second.text, `[{"seq":2,"kind":"data","data":"b"}]`)
      assert.strictEqual(second.headers.get("stream-next-offset"), offset(2))
      assert.strictEqual(second.headers.get("stream-up-to-date"), "true")
      assert.isNull(second.headers.get("stream-closed"))
      assert.strictEqual((yield* read(`?offset=${offset(3)}`)).status, 400)
      assert.strictEqual((yield* read("?offset=2")).status, 400)
      yield* log.finish({ runId, epoch, end: { status: "succeeded" } })
      const last = yield* read(`?offset=${offset(2)}`)
      assert.strictEqual(last.headers.get("stream-closed"), "true")
      const after = yield* read(`?offset=${offset(3)}`)
      assert.deepStrictEqual([after.status, after.text, after.headers.get("stream-closed")], [200, "[]", "true"])
      const head = yield* request(`${url}/${runId}`, { method: "HEAD", headers })
      assert.strictEqual(head.headers.get("stream-next-offset"), offset(3))
    }))
})
