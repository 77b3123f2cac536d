/**
 * Streams of events behind a proxy that speaks HTTP/2 to the browser and HTTP/1.1 to the server, as nginx and Caddy do: many
 * readers share a connection, and each has a window of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { once } from "node:events"
import * as Http from "node:http"
import * as Http2 from "node:http2"
import { pipeline } from "node:stream"
import { bearer, eventsOf, start } from "./support.ts"

// Headers of a connection, which mean nothing in HTTP/2 (RFC 9113 section 8.2.2).
const ofConnection = ["connection", "keep-alive", "transfer-encoding"]

/** Starts a proxy in front of a port, and returns a client's connection to it. */
const connect = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const proxy = Http2.createServer((request, response) => {
        const { ":path": path, ...headers } = request.headers
        const upstream = Http.request({
          port,
          agent: false,
          path,
          headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(":")))
        }, (answer) => {
          response.writeHead(
            answer.statusCode ?? 502,
            Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !ofConnection.includes(name)))
          )
          // It waits for the window of the reader, and what breaks one side breaks the other.
          pipeline(answer, response, () => response.stream.close())
        })
        upstream.on("error", () => response.stream.close(Http2.constants.NGHTTP2_CANCEL))
        response.on("close", () => upstream.destroy())
        upstream.end()
      })
      proxy.listen(0, "127.0.0.1")
      await once(proxy, "listening")
      const address = proxy.address()
      const client = Http2.connect(`http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`)
      await once(client, "connect")
      // The windows of the streams alone hold anything up.
      client.setLocalWindowSize(1 << 30)
      return { proxy, client }
    }),
    ({ client, proxy }) =>
      Effect.sync(() => {
        client.destroy()
        proxy.close()
      })
  ).pipe(Effect.map(({ client }) => client))

/** Waits until a condition holds. */
const eventually = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.delay(eventually(condition), "5 millis"))

/** Follows a stream, as one of those of a connection. */
const follow = Effect.fnUntraced(
  function*(client: Http2.ClientHttp2Session, path: string, headers: Record<string, string>) {
    const stream = client.request({ ":path": path, ...headers })
    let text = ""
    let head: Readonly<Record<string, unknown>> = {}
    let how: "open" | "complete" | "cut" = "open"
    stream.setEncoding("utf8")
    stream.on("response", (given) => {
      head = given
    })
    stream.on("data", (chunk: string) => {
      text += chunk
    })
    stream.on("end", () => {
      if (!stream.aborted && stream.rstCode === 0) how = "complete"
    })
    stream.on("error", () => undefined)
    stream.on("close", () => {
      if (how === "open") how = "cut"
    })
    yield* eventually(() => text !== "" || how !== "open")
    return {
      stream,
      head: () => head,
      length: () => text.length,
      events: () => eventsOf(text),
      ids: () => eventsOf(text).map(({ id }) => id),
      how: () => how
    }
  }
)

const numbers = (to: number) => Array.from({ length: to }, (_, n) => String(n + 1))

describe.each([["written to the connection", true], ["through a stream", false]])(
  "behind a proxy that speaks HTTP/2, %s",
  (_, directly) => {
    it.live("HTTP-04 RUN-08: many readers on one connection have the host's headers, and every event in order", () =>
      Effect.gen(function*() {
        const stamped = HttpRouter.middleware(
          Effect.succeed((httpEffect) => Effect.map(httpEffect, HttpServerResponse.setHeader("x-host", "host"))),
          { global: true }
        )
        const server = yield* start({ directly, routes: Layer.mergeAll(Sallyport.layer(), stamped) })
        const { run: { epoch, runId } } = yield* Effect.orDie(
          server.log.start({ threadId: "t", idempotencyKey: "k", request: null, owner: { subject: "owner" } })
        )
        const client = yield* connect(server.port)
        const headers = bearer(yield* server.token())
        const readers = yield* Effect.all(
          Array.from({ length: 20 }, () => follow(client, `/api/runs/${runId}/events`, headers)),
          { concurrency: "unbounded" }
        )
        for (let n = 0; n < 50; n++) yield* Effect.orDie(server.log.append({ runId, epoch, events: [n] }))
        yield* Effect.orDie(server.log.finish({ runId, epoch, end: { status: "succeeded" } }))
        yield* eventually(() => readers.every(({ how }) => how() !== "open"))
        for (const reader of readers) {
          assert.deepInclude(reader.head(), {
            ":status": 200,
            "x-host": "host",
            "content-type": "text/event-stream",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no"
          })
          assert.strictEqual(reader.how(), "complete")
          assert.deepStrictEqual(reader.ids(), numbers(51))
        }
      }))

    it.live(
      "RUN-08 SESS-08: a full window holds up its own reader alone, and a revocation ends what it held up",
      () =>
        Effect.gen(function*() {
          const responses: Array<Http.ServerResponse> = []
          const server = yield* start({
            directly,
            runs: { pageSize: 16, maxTailBytes: 1_000_000 },
            onResponse: (response) => void responses.push(response)
          })
          const { run: { epoch, runId } } = yield* Effect.orDie(
            server.log.start({ threadId: "t", idempotencyKey: "k", request: null, owner: { subject: "owner" } })
          )
          const append = Effect.orDie(server.log.append({ runId, epoch, events: ["x".repeat(100_000)] }))
          const { session, token } = yield* Effect.orDie(
            server.sessions.issue({ subject: "owner", scopes: ["runs:read"], method: "bearer-access-token" })
          )
          const path = `/api/runs/${runId}/events`
          const client = yield* connect(server.port)
          const late = yield* follow(client, path, bearer(Redacted.value(token)))
          const never = yield* follow(client, path, bearer(Redacted.value(token)))
          const other = yield* follow(client, path, bearer(yield* server.token()))
          late.stream.pause()
          never.stream.pause()
          for (let n = 0; n < 200; n++) yield* append
          // Of 20 MB the sockets hold some, and the server a page of what does not fit into them.
          yield* eventually(() => other.length() > 200 * 100_000)
          assert.deepStrictEqual(other.ids(), numbers(200))
          for (const { socket } of responses) assert.isBelow(socket?.writableLength ?? 0, 4_000_000)
          assert.isBelow(late.ids().length, 10)

          late.stream.resume()
          yield* eventually(() => late.length() > 200 * 100_000)
          assert.deepStrictEqual(late.ids(), numbers(200))

          late.stream.pause()
          for (let n = 0; n < 100; n++) yield* append
          yield* eventually(() => other.length() > 300 * 100_000)
          yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
          // It is told, after no more than what was on its way; what does not read is cut off.
          late.stream.resume()
          yield* eventually(() => late.how() !== "open")
          const events = late.events()
          assert.deepStrictEqual(events.slice(0, -1).map(({ id }) => id), numbers(events.length - 1))
          assert.include(events.at(-1)?.data, "session_ended")
          yield* eventually(() => server.connections() === 1)
          assert.strictEqual(other.how(), "open")
        }),
      60_000
    )
  }
)
