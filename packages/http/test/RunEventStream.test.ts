import { assert, describe, it } from "@effect/vitest"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Writer from "@sallyport/core/Writer"
import * as EventStream from "@sallyport/http/EventStream"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { EventSource } from "eventsource"
import * as Http from "node:http"
import * as Net from "node:net"
import { constants, createDeflateRaw, createInflateRaw } from "node:zlib"
import { bearer, eventsOf, follow, raw, type Server, type ServerOptions, start as startServer } from "./support.ts"

const owner = { subject: "owner" }

/** Starts a run that the test writes itself. */
const begin = Effect.fnUntraced(function*(server: Server, threadId = "thread") {
  const { run: { epoch, runId } } = yield* Effect.orDie(
    server.log.start({ threadId, idempotencyKey: threadId, request: null, owner })
  )
  return {
    runId,
    path: `/api/runs/${runId}/events`,
    append: (...events: ReadonlyArray<Schema.Json>) =>
      Effect.asVoid(Effect.orDie(server.log.append({ runId, epoch, events }))),
    finish: Effect.asVoid(Effect.orDie(server.log.finish({ runId, epoch, end: { status: "succeeded", result: "ok" } })))
  }
})

/** Waits until an operation of a repository is asked no more. */
const quiet = (server: Server, operation: string) =>
  Effect.repeat(
    Effect.gen(function*() {
      const before = server.probe.calls.get(operation)
      yield* Effect.sleep("100 millis")
      return before === server.probe.calls.get(operation)
    }),
    { until: (unchanged) => unchanged }
  )

const ids = (text: string) => eventsOf(text).map(({ id }) => id)

describe.each([["written to the connection", true], ["through a stream", false]])("%s", (_, directly) => {
  const start = (options: ServerOptions = {}) => startServer({ ...options, directly })

  describe("the events of a run", () => {
    it.live("HTTP-04: begin with a head at once, before there is any event", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
        assert.strictEqual(stream.status, 200)
        assert.strictEqual(stream.headers["content-type"], "text/event-stream")
        assert.strictEqual(stream.headers["cache-control"], "no-cache, no-transform")
        assert.strictEqual(stream.headers["x-accel-buffering"], "no")
        assert.strictEqual(yield* stream.until((text) => text !== ""), "retry: 1000\n\n")
      }))

    it.live("HTTP-04: hold a comment now and then while there is nothing to say, also after some events", () =>
      Effect.gen(function*() {
        const server = yield* start({ heartbeat: "10 millis" })
        const run = yield* begin(server)
        const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
        yield* stream.until((text) => text.split(": heartbeat\n\n").length > 3)
        yield* run.append("a")
        const text = yield* stream.until((text) => eventsOf(text).length === 1)
        yield* stream.until((longer) => longer.length > text.length && longer.endsWith(": heartbeat\n\n"))
      }))

    it.live("RUN-08: come as they are appended, each with its cursor, and end with the terminal event", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        yield* run.append({ text: "line\nbreak\r\u2028\u0000" }, "data: x\n\nid: 9", null)
        const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
        yield* stream.until((text) => eventsOf(text).length === 3)
        yield* run.append(4)
        yield* stream.until((text) => eventsOf(text).length === 4)
        yield* run.finish
        const { how, text } = yield* stream.ended
        assert.strictEqual(how, "complete")
        assert.deepStrictEqual(eventsOf(text).map(({ data, event, id }) => [id, event, JSON.parse(data)]), [
          ["1", "data", { text: "line\nbreak\r\u2028\u0000" }],
          ["2", "data", "data: x\n\nid: 9"],
          ["3", "data", null],
          ["4", "data", 4],
          ["5", "end", { status: "succeeded", result: "ok" }]
        ])
      }))

    it.live("HTTP-04 RUN-11: continue after Last-Event-ID or ?after=, exclusive, and the header wins", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        yield* run.append(1, 2, 3, 4)
        yield* run.finish
        const authorization = bearer(yield* server.token())
        const read = (query: string, headers: Record<string, string> = {}) =>
          Effect.map(
            server.send({ path: `${run.path}${query}`, headers: { ...authorization, ...headers } }),
            ({ text }) => ids(text)
          )
        assert.deepStrictEqual(yield* read(""), ["1", "2", "3", "4", "5"])
        assert.deepStrictEqual(yield* read("?after=0"), ["1", "2", "3", "4", "5"])
        assert.deepStrictEqual(yield* read("?after=3"), ["4", "5"])
        assert.deepStrictEqual(yield* read("", { "last-event-id": "3" }), ["4", "5"])
        assert.deepStrictEqual(yield* read("?after=1", { "last-event-id": "4" }), ["5"])
        assert.deepStrictEqual(yield* read("?after=99", { "last-event-id": "4" }), ["5"])
      }))

    it.live("HTTP-04: are 204 after the terminal one, so that an EventSource stops asking", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        yield* run.append(1)
        yield* run.finish
        for (const [query, headers] of [["", { "last-event-id": "2" }], ["?after=2", {}]] as const) {
          const answer = yield* server.send({
            path: `${run.path}${query}`,
            headers: { ...bearer(yield* server.token()), ...headers }
          })
          assert.deepStrictEqual([answer.status, answer.text], [204, ""])
        }
      }))

    it.live("have a head and no body for HEAD", () =>
      Effect.gen(function*() {
        const server = yield* start({ sessions: { recheckInterval: "1 millis" } })
        const run = yield* begin(server)
        const answer = yield* server.send({ method: "HEAD", path: run.path, headers: bearer(yield* server.token()) })
        assert.deepStrictEqual([answer.status, answer.text], [200, ""])
        yield* quiet(server, "sessions.findById")
      }))
  })

  describe("a reader", () => {
    it.live("SESS-08 L-22: is told that its session was revoked, and gets no more", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        yield* run.append(1)
        const { session, token } = yield* Effect.orDie(
          server.sessions.issue({ subject: "owner", scopes: ["runs:read"], method: "bearer-access-token" })
        )
        const stream = yield* follow(server.port, { path: run.path, headers: bearer(Redacted.value(token)) })
        yield* stream.until((text) => eventsOf(text).length === 1)
        yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
        const { how, text } = yield* stream.ended
        assert.strictEqual(how, "complete")
        const last = eventsOf(text).at(-1)
        assert.deepInclude(last, { event: "failure", id: undefined })
        assert.deepInclude(JSON.parse(last?.data ?? ""), { code: "session_ended", retryable: false })
        yield* run.append(2)
        assert.deepStrictEqual(ids(text), ["1", undefined])
      }))

    it.live("is told that its session has expired", () =>
      Effect.gen(function*() {
        const server = yield* start({ sessions: { lifetime: "200 millis", renewalInterval: "100 millis" } })
        const run = yield* begin(server)
        const following = Effect.flatMap(
          server.token(),
          (token) => follow(server.port, { path: run.path, headers: bearer(token) })
        )
        // A session may have expired before its reader gets there.
        const stream = yield* Effect.repeat(following, { until: ({ status }) => status === 200 })
        const { how, text } = yield* stream.ended
        assert.strictEqual(how, "complete")
        assert.deepInclude(JSON.parse(eventsOf(text).at(-1)?.data ?? ""), { code: "session_ended", retryable: false })
      }))

    it.live("HTTP-04: is told that the run's store or the session's failed, and that another try may help", () =>
      Effect.gen(function*() {
        const server = yield* start({ sessions: { recheckInterval: "5 millis" } })
        const failures = { "runs.read": true, "sessions.findById": false }
        for (const [operation, ends] of Object.entries(failures)) {
          const run = yield* begin(server, operation)
          yield* run.append(1)
          const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
          yield* stream.until((text) => eventsOf(text).length === 1)
          server.probe.failing.add(operation)
          // The end is read from the store, unlike what this process appends.
          if (ends) yield* run.finish
          const { how, text } = yield* stream.ended
          server.probe.failing.delete(operation)
          assert.strictEqual(how, "complete")
          const last = eventsOf(text).at(-1)
          assert.deepInclude(last, { event: "failure", id: undefined })
          assert.deepInclude(JSON.parse(last?.data ?? ""), { code: "unavailable", retryable: true })
          assert.notInclude(text, "secret-path")
        }
      }))

    it.live("L-76: is told that the run's row has gone; the stream does not just close", () =>
      Effect.gen(function*() {
        const server = yield* start({ runs: { pollInterval: "5 millis" } })
        const run = yield* begin(server)
        yield* run.append(1)
        const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
        yield* stream.until((text) => eventsOf(text).length === 1)
        server.probe.answers.set("runs.get", Option.none()).set("runs.heads", []).set("runs.read", [])
        const { how, text } = yield* stream.ended
        assert.strictEqual(how, "complete")
        const last = eventsOf(text).at(-1)
        assert.strictEqual(last?.event, "failure")
        assert.deepInclude(JSON.parse(last?.data ?? ""), { code: "run_not_found", retryable: false })
      }))

    it.live("RUN-09 L-76 C-75: is told the end of a run that ended without a terminal event, with no cursor, and once", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        yield* run.append(1)
        yield* run.finish
        // The store has lost the terminal event, and only that.
        const row = yield* Effect.orDie(server.runs.get(run.runId))
        server.probe.answers.set("runs.get", Option.map(row, (run) => ({ ...run, lastSeq: 1, endSeq: null })))
        server.probe.answers.set("runs.read", [])
        const answer = yield* server.send({ path: `${run.path}?after=1`, headers: bearer(yield* server.token()) })
        assert.strictEqual(answer.status, 200)
        const events = eventsOf(answer.text)
        assert.strictEqual(events.length, 1)
        assert.deepInclude(events[0], { id: "ended", event: "end" })
        assert.deepStrictEqual(JSON.parse(events[0]?.data ?? ""), { status: "succeeded" })

        const authorization = bearer(yield* server.token())
        const cursors: Array<string | null> = []
        let ends = 0
        const source = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const source = new EventSource(`http://127.0.0.1:${server.port}${run.path}?after=1`, {
              fetch: (input, init) => {
                const headers = new Headers({ ...init.headers, ...authorization })
                cursors.push(headers.get("last-event-id"))
                return fetch(input, { ...init, headers })
              }
            })
            source.addEventListener("end", () => ends++)
            return source
          }),
          (source) => Effect.sync(() => source.close())
        )
        yield* Effect.repeat(Effect.sleep("2 millis"), { until: () => source.readyState === EventSource.CLOSED })
        assert.deepStrictEqual([ends, cursors], [1, [null, "ended"]])
        // It says nothing of a run that goes on.
        const other = yield* begin(server, "other")
        server.probe.answers.clear()
        const refused = yield* server.send({
          path: other.path,
          headers: { ...authorization, "last-event-id": "ended" }
        })
        assert.strictEqual(refused.status, 400)
      }))

    it.live("HTTP-04: is let go cleanly when the server stops, which does not wait for it", () =>
      Effect.gen(function*() {
        // The stop would wait for an hour otherwise, and this test runs out of time.
        const server = yield* start({ gracefulShutdownTimeout: "1 hour" })
        const run = yield* begin(server)
        yield* run.append(1)
        const headers = bearer(yield* server.token())
        const streams = [
          yield* follow(server.port, { path: run.path, headers }),
          yield* follow(server.port, { path: run.path, headers: { ...headers, connection: "keep-alive" } })
        ]
        for (const stream of streams) yield* stream.until((text) => eventsOf(text).length === 1)
        yield* server.stop
        for (const stream of streams) {
          const { how, text } = yield* stream.ended
          assert.strictEqual(how, "complete")
          // It may come back to the next server, so nothing is said of an end or a failure.
          assert.deepStrictEqual(eventsOf(text).map(({ event }) => event), ["data"])
        }
      }))

    it.live("leaves nothing behind when it goes away: neither a follower of the run nor a watcher of its session", () =>
      Effect.gen(function*() {
        const server = yield* start({ sessions: { recheckInterval: "5 millis" }, runs: { pollInterval: "5 millis" } })
        const run = yield* begin(server)
        const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
        yield* stream.until((text) => text !== "")
        // Both ask their stores again and again, for as long as there is a reader.
        const calls = (operation: string) => server.probe.calls.get(operation) ?? 0
        for (const operation of ["sessions.findById", "runs.heads"]) {
          const before = calls(operation)
          yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => calls(operation) > before + 3 })
        }
        stream.socket.destroy()
        yield* quiet(server, "sessions.findById")
        yield* quiet(server, "runs.heads")
      }))

    it.live("RUN-08: that does not read is not read ahead for", () =>
      Effect.gen(function*() {
        const server = yield* start({ runs: { pageSize: 4 } })
        const run = yield* begin(server)
        const event = "x".repeat(64 * 1024)
        const pages = 150
        for (let i = 0; i < pages; i++) yield* run.append(event, event, event, event)
        const token = yield* server.token()
        const socket = yield* Effect.acquireRelease(
          Effect.sync(() => Net.connect({ host: "127.0.0.1", port: server.port })),
          (socket) => Effect.sync(() => socket.destroy())
        )
        socket.on("error", () => undefined)
        socket.write(`GET ${run.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n\r\n`)
        const reads = () => server.probe.calls.get("runs.read") ?? 0
        yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => reads() > 0 })
        yield* quiet(server, "runs.read")
        // What lies in the sockets' buffers was read; the rest was not.
        assert.isBelow(reads(), pages - 20)
        // It goes on from there when the reader comes round.
        const before = reads()
        socket.resume()
        yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => reads() > before })
      }))

    it.live("RUN-08 SESS-08: that reads late gets what it missed in order, and then why it gets no more", () =>
      Effect.gen(function*() {
        const server = yield* start({ runs: { pageSize: 16, maxTailBytes: 1_000_000 } })
        const run = yield* begin(server)
        const { session, token } = yield* Effect.orDie(
          server.sessions.issue({ subject: "owner", scopes: ["runs:read"], method: "bearer-access-token" })
        )
        const late = yield* follow(server.port, { path: run.path, headers: bearer(Redacted.value(token)) })
        yield* late.until((text) => text !== "")
        late.response.pause()
        const other = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
        yield* other.until((text) => text !== "")
        const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => String(from + n))
        for (let n = 0; n < 100; n++) yield* run.append("x".repeat(100_000))
        // Who reads is not held up, and misses nothing.
        assert.deepStrictEqual(ids(yield* other.until((text) => eventsOf(text).length === 100)), numbers(1, 101))
        late.response.resume()
        assert.deepStrictEqual(ids(yield* late.until((text) => eventsOf(text).length === 100)), numbers(1, 101))

        late.response.pause()
        for (let n = 0; n < 100; n++) yield* run.append("x".repeat(100_000))
        yield* other.until((text) => eventsOf(text).length === 200)
        yield* Effect.orDie(server.sessions.revoke(session.id, "operator"))
        late.response.resume()
        const { how, text } = yield* late.ended
        assert.strictEqual(how, "complete")
        const events = eventsOf(text)
        assert.deepStrictEqual(events.slice(0, -1).map(({ id }) => id), numbers(1, events.length))
        assert.include(events.at(-1)?.data, "session_ended")
        yield* run.finish
        assert.strictEqual((yield* other.ended).how, "complete")
      }))
  })

  describe("a host", () => {
    /** Changes the bodies of answers, as a middleware of a host's does. */
    const changing = (change: (body: Stream.Stream<Uint8Array, unknown>) => Stream.Stream<Uint8Array, unknown>) =>
      HttpRouter.middleware(
        Effect.succeed((httpEffect) =>
          Effect.map(httpEffect, (response) => {
            const { body } = response
            return body._tag === "Stream"
              ? HttpServerResponse.setBody(response, HttpBody.stream(change(body.stream), body.contentType))
              : response
          })
        ),
        { global: true }
      )

    it.live("HTTP-04: keeps its own headers, for HEAD too, and what it has set for other origins", () =>
      Effect.gen(function*() {
        const stamped = HttpRouter.middleware(
          Effect.succeed((httpEffect) =>
            Effect.andThen(
              HttpEffect.appendPreResponseHandler((_request, response) =>
                Effect.succeed(HttpServerResponse.setHeader(response, "x-late", "late"))
              ),
              Effect.map(httpEffect, HttpServerResponse.setHeader("x-host", "host"))
            )
          ),
          { global: true }
        )
        const server = yield* start({
          routes: Layer.mergeAll(Sallyport.layer(), stamped, HttpRouter.cors({ allowedOrigins: ["https://app.test"] }))
        })
        const run = yield* begin(server)
        const headers = { ...bearer(yield* server.token()), origin: "https://app.test" }
        const stream = yield* follow(server.port, { path: run.path, headers })
        yield* run.append(1)
        yield* stream.until((text) => eventsOf(text).length === 1)
        for (const answer of [stream, yield* server.send({ method: "HEAD", path: run.path, headers })]) {
          assert.deepInclude(answer.headers, {
            "access-control-allow-origin": "https://app.test",
            "x-host": "host",
            "x-late": "late",
            "x-content-type-options": "nosniff",
            "content-type": "text/event-stream"
          })
        }
      }))

    it.live("writes one event to the readers of each of its routes as that route says", () =>
      Effect.gen(function*() {
        const shared = { name: "Ada" }
        const route = (event: string) => {
          const toWire = ({ name }: typeof shared) => ({ id: undefined, event, data: JSON.stringify(name) })
          return HttpRouter.add(
            "GET",
            `/${event}`,
            Effect.sync(() =>
              EventStream.respondPushed(Writer.fromStream(Stream.make(shared)), toWire, {
                until: Effect.never,
                heartbeatInterval: Duration.minutes(1)
              })
            )
          )
        }
        const server = yield* start({ routes: Layer.mergeAll(Sallyport.layer(), route("joined"), route("left")) })
        for (const event of ["joined", "left", "joined"]) {
          const answer = yield* server.send({ path: `/${event}` })
          assert.deepStrictEqual(eventsOf(answer.text).map((one) => one.event), [event])
        }
      }))

    it.live("HTTP-04: sees chunks before they are sent, all of them if it changes the first", () =>
      Effect.gen(function*() {
        const seen: Array<Uint8Array> = []
        const upper = (chunk: Uint8Array) => Buffer.from(Buffer.from(chunk).toString().toUpperCase())
        for (const change of [(chunk: Uint8Array) => chunk, upper]) {
          const look = changing(Stream.map((chunk) => {
            seen.push(chunk)
            return change(chunk)
          }))
          const server = yield* start({ routes: Layer.merge(Sallyport.layer(), look) })
          const run = yield* begin(server)
          const stream = yield* follow(server.port, { path: run.path, headers: bearer(yield* server.token()) })
          yield* stream.until((text) => text !== "")
          yield* run.append("a")
          yield* stream.until((text) => text.includes(change === upper ? "DATA: \"A\"" : "data: \"a\""))
          assert.strictEqual(seen.length, directly && change !== upper ? 1 : 2)
          seen.length = 0
        }
      }))

    it.live("HTTP-04: compresses what is sent, in the router or below it", () =>
      Effect.gen(function*() {
        const deflating = () => {
          const deflate = createDeflateRaw({ flush: constants.Z_SYNC_FLUSH })
          return {
            deflate,
            chunks: NodeStream.fromReadable<Uint8Array, Error>({
              evaluate: () => deflate,
              onError: (cause) => new Error(String(cause))
            })
          }
        }
        const inRouter = changing((body) => {
          const { chunks, deflate } = deflating()
          return Stream.merge(
            chunks,
            Stream.drain(Stream.onEnd(
              Stream.mapEffect(body, (chunk) => Effect.sync(() => deflate.write(chunk))),
              Effect.sync(() => deflate.end())
            ))
          )
        })
        const below = (response: Http.ServerResponse) => {
          const deflate = createDeflateRaw({ flush: constants.Z_SYNC_FLUSH })
          const { end, write } = response
          deflate.on("data", (chunk: Buffer) => Reflect.apply(write, response, [chunk])).on("end", () =>
            Reflect.apply(end, response, []))
          response.write = (chunk: unknown) =>
            deflate.write(chunk)
          response.end = () => {
            deflate.end()
            return response
          }
        }
        for (const options of [{ routes: Layer.merge(Sallyport.layer(), inRouter) }, { onResponse: below }]) {
          const server = yield* start(options)
          const run = yield* begin(server)
          const headers = bearer(yield* server.token())
          const inflate = createInflateRaw()
          let text = ""
          inflate.on("data", (chunk: Buffer) => {
            text += chunk.toString()
          })
          yield* Effect.acquireRelease(
            Effect.sync(() =>
              Http.get(
                { port: server.port, path: run.path, headers, agent: false },
                (response) => response.pipe(inflate)
              )
            ),
            (request) => Effect.sync(() => request.destroy())
          )
          const until = (condition: () => boolean) => Effect.repeat(Effect.sleep("5 millis"), { until: condition })
          yield* until(() => text.startsWith("retry"))
          for (const n of [1, 2, 3]) {
            yield* run.append(n)
            yield* until(() => eventsOf(text).length === n)
          }
          yield* run.finish
          yield* until(() => ids(text).at(-1) === "4")
        }
      }))

    it.live("HTTP-04: serves clients of HTTP/1.0, pipelined requests, and one stream after another on a connection", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const run = yield* begin(server)
        yield* run.append(1, 2)
        const authorization = `Host: 127.0.0.1\r\nAuthorization: Bearer ${yield* server.token()}\r\n`
        const reading = (text: string) => Effect.forkScoped(raw(server.port, text), { startImmediately: true })
        const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\n${authorization}${more}\r\n`
        const old = yield* reading(`GET ${run.path} HTTP/1.0\r\n${authorization}\r\n`)
        const several = yield* reading(
          get(run.path) + get("/api/auth/session") + get(run.path, "Last-Event-ID: 1\r\nConnection: close\r\n")
        )
        yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => server.connections() === 2 })
        yield* Effect.sleep("100 millis")
        yield* run.append(3)
        yield* run.finish
        const answer = yield* Fiber.join(old)
        assert.deepStrictEqual(ids(answer.slice(answer.indexOf("\r\n\r\n") + 4)), ["1", "2", "3", "4"])
        const answers = (yield* Fiber.join(several)).split("HTTP/1.1 200 OK\r\n").slice(1)
        assert.lengthOf(answers, 3)
        /** Reads the chunks of a body, which have to be whole. */
        const unframed = (text: string): string => {
          const [, size = "", rest = ""] = /^([0-9a-f]+)\r\n([^]*)$/.exec(text) ?? []
          const length = Number.parseInt(size, 16)
          assert.strictEqual(rest.slice(length, length + 2), "\r\n", text)
          return length === 0 ? "" : rest.slice(0, length) + unframed(rest.slice(length + 2))
        }
        const bodyIds = (answer = "") => ids(unframed(answer.slice(answer.indexOf("\r\n\r\n") + 4)))
        assert.deepStrictEqual(bodyIds(answers[0]), ["1", "2", "3", "4"])
        assert.deepStrictEqual(bodyIds(answers[2]), ["2", "3", "4"])
      }))
  })
})
