import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { DurableStreamRepository } from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import { memory, start } from "./support.ts"

const json = { "content-type": "application/json" }
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

const request = (url: string, init: RequestInit = {}) =>
  Effect.promise(async (signal) => {
    const response = await fetch(url, { signal, ...init })
    return { status: response.status, headers: response.headers, text: await response.text() }
  })

/** Opens a stream of events, and reads on until what came satisfies a condition. */
const events = (url: string, headers: Record<string, string>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const controller = new AbortController()
        const response = await fetch(url, { headers, signal: controller.signal })
        assert.strictEqual(response.status, 200)
        const reader = response.body?.getReader()
        assert(reader !== undefined)
        return { controller, reader }
      }),
      ({ controller }) => Effect.sync(() => controller.abort())
    ),
    ({ reader }) => {
      const decoder = new TextDecoder()
      let text = ""
      return {
        until: (condition: (text: string) => boolean) =>
          Effect.promise(async () => {
            while (!condition(text)) {
              const { done, value } = await reader.read()
              if (done) throw new Error(`The stream ended with: ${text}`)
              text += decoder.decode(value, { stream: true })
            }
            return text
          }),
        end: Effect.promise(async () => {
          while (true) {
            const { done, value } = await reader.read()
            if (done) return text
            text += decoder.decode(value, { stream: true })
          }
        })
      }
    }
  )

const dataOf = (text: string): string =>
  text.split("\n\n").filter((block) => block.startsWith("event: data")).map((block) =>
    block.split("\n").slice(1).map((line) => line.slice("data:".length).replace(/^ /, "")).join("\n")
  ).join("")

/** Keeps streams in memory, and notes how many bytes each commit has. The first waits until a test says so. */
const weighing = (commits: Array<number>, go: Effect.Effect<void>) =>
  Layer.effect(
    DurableStreamRepository,
    DurableStreamRepository.useSync((repository) =>
      DurableStreamRepository.of({
        ...repository,
        append: (options) => {
          commits.push(options.items.reduce((bytes, { data }) => bytes + data.length, 0))
          return commits.length === 1 ? Effect.andThen(go, repository.append(options)) : repository.append(options)
        }
      })
    )
  ).pipe(Layer.provideMerge(memory))

/** Keeps streams in memory, and counts the looks at them. */
const counting = (calls: { read: number; heads: number }) =>
  Layer.effect(
    DurableStreamRepository,
    Effect.map(DurableStreamRepository, (repository) =>
      DurableStreamRepository.of({
        ...repository,
        read: (options) => {
          calls.read++
          return repository.read(options)
        },
        heads: (ids) => {
          calls.heads++
          return repository.heads(ids)
        }
      }))
  ).pipe(Layer.provideMerge(memory))

describe("streams over HTTP", () => {
  it.live("belong to who created them: to others the same path is another stream, or none", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const alice = bearer(yield* server.token("alice"))
      const bob = bearer(yield* server.token("bob"))
      const url = `${server.url}/streams/chat`
      const put = (headers: Record<string, string>, body: string) =>
        request(url, { method: "PUT", headers: { ...headers, ...json }, body })
      assert.strictEqual((yield* put(alice, `"from alice"`)).status, 201)

      for (const method of ["GET", "HEAD", "DELETE"]) {
        assert.strictEqual((yield* request(url, { method, headers: bob })).status, 404, method)
      }
      const append = yield* request(url, { method: "POST", headers: { ...bob, ...json }, body: "1" })
      assert.strictEqual(append.status, 404)
      const fork = yield* request(`${server.url}/streams/mine`, {
        method: "PUT",
        headers: { ...bob, "stream-forked-from": "/streams/chat" }
      })
      assert.strictEqual(fork.status, 404)
      assert.strictEqual((yield* request(`${url}?offset=-1&live=sse`, { headers: bob })).status, 404)

      assert.strictEqual((yield* put(bob, `"from bob"`)).status, 201)
      assert.strictEqual((yield* request(url, { headers: alice })).text, `["from alice"]`)
      assert.strictEqual((yield* request(url, { headers: bob })).text, `["from bob"]`)
    }))

  it.live("ask for a session, and for the scope", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const url = `${server.url}/streams/s`
      const reader = bearer(yield* server.token("someone", ["streams:read"]))
      const writer = bearer(yield* server.token("someone", ["streams:write"]))
      for (const method of ["GET", "HEAD", "PUT", "POST", "DELETE"]) {
        assert.strictEqual((yield* request(url, { method })).status, 401, method)
        assert.strictEqual((yield* request(url, { method, headers: bearer("x.y.z") })).status, 401, method)
      }
      for (const method of ["PUT", "POST", "DELETE"]) {
        assert.strictEqual((yield* request(url, { method, headers: reader })).status, 403, method)
      }
      assert.strictEqual((yield* request(url, { headers: writer })).status, 403)
      assert.strictEqual((yield* request(url, { method: "PUT", headers: writer })).status, 201)
      assert.strictEqual((yield* request(url, { headers: reader })).status, 200)
    }))

  it.live("keep JSON as it was sent, down to its digits", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = { ...bearer(yield* server.token("someone")), ...json }
      const url = `${server.url}/streams/s`
      yield* request(url, { method: "PUT", headers })
      yield* request(url, { method: "POST", headers, body: `[1.0,\n 12345678901234567890]` })
      yield* request(url, { method: "POST", headers, body: `{"b":1,"a":"\\u0000"}` })
      const read = yield* request(url, { headers })
      assert.strictEqual(read.text, `[1.0,\n 12345678901234567890,{"b":1,"a":"\\u0000"}]`)
    }))

  it.live("HTTP-04: refuse JSON of more than 256 KiB, whatever it is of, and take as much of any other content", () =>
    Effect.gen(function*() {
      const server = yield* start({})
      const authorization = bearer(yield* server.token("someone"))
      const send = (method: string, path: string, headers: Record<string, string>, body: string) =>
        Effect.map(
          request(`${server.url}/streams/${path}`, {
            method,
            headers: { ...authorization, ...headers },
            // A text would be sent as `text/plain`.
            body: new TextEncoder().encode(body)
          }),
          ({ status }) => status
        )
      const large = `[${"[],".repeat(90_000)}[]]`
      for (const json of ["application/json", "Application/JSON; charset=utf-8"]) {
        assert.strictEqual(yield* send("PUT", "j", { "content-type": json }, large), 413)
      }
      assert.strictEqual(yield* send("PUT", "j", { "content-type": "application/json" }, "[1]"), 201)
      assert.strictEqual(yield* send("POST", "j", { "content-type": "application/json" }, large), 413)
      assert.strictEqual(yield* send("POST", "j", { "content-type": "text/plain" }, large), 409)
      assert.strictEqual(yield* send("PUT", "fork", { "stream-forked-from": "/streams/j" }, large), 413)
      assert.strictEqual(yield* send("PUT", "t", { "content-type": "text/plain" }, large), 201)
      assert.strictEqual(yield* send("PUT", "b", {}, large), 201)
    }))

  it.live("refuse bodies that are too large, whether they say so or not, and store nothing", () =>
    Effect.gen(function*() {
      const server = yield* start({ maxBodySize: ByteSize.bytes(1000) })
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      const url = `${server.url}/streams/s`
      yield* request(url, { method: "PUT", headers })
      const large = yield* request(url, { method: "POST", headers, body: "x".repeat(1001) })
      assert.strictEqual(large.status, 413)
      const chunked = yield* request(url, {
        method: "POST",
        headers,
        body: new ReadableStream({
          start: (controller) => {
            for (let n = 0; n < 11; n++) controller.enqueue(new TextEncoder().encode("x".repeat(100)))
            controller.close()
          }
        }),
        // @ts-expect-error The types of the DOM do not know it, and Node asks for it.
        duplex: "half"
      })
      assert.strictEqual(chunked.status, 413)
      assert.strictEqual((yield* request(url, { headers })).text, "")
    }))

  it.live("have paths of up to 512 characters, in any script", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      for (
        const [path, status] of [["a".repeat(512), 201], ["ä/€ %2f?#".repeat(40), 201], ["a".repeat(513), 400]] as const
      ) {
        const url = `${server.url}/streams/${path.split("/").map(encodeURIComponent).join("/")}`
        const created = yield* request(url, { method: "PUT", headers, body: path })
        assert.strictEqual(created.status, status, path)
        if (status !== 201) continue
        assert.strictEqual(created.headers.get("location"), url)
        assert.strictEqual((yield* request(url, { headers })).text, path)
      }
      for (const path of ["__ds/x", "a%00b", "a%0ab"]) {
        const answer = yield* request(`${server.url}/streams/${path}`, { method: "PUT", headers })
        assert.strictEqual(answer.status, 400, path)
      }
    }))

  it.live("refuse an offset after the tail", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      const url = `${server.url}/streams/s`
      const created = yield* request(url, { method: "PUT", headers, body: "abc" })
      const beyond = created.headers.get("stream-next-offset")?.replace(/3$/, "4")
      for (const live of ["", "&live=long-poll", "&live=sse"]) {
        const answer = yield* request(`${url}?offset=${beyond}${live}`, { headers })
        assert.strictEqual(answer.status, 400, live)
        assert.strictEqual(JSON.parse(answer.text).error.code, "OFFSET_BEYOND_TAIL")
      }
    }))

  it.live("C-74: refuse, as gone, an offset of a stream that had the path before", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token("someone")
      const url = `${server.url}/streams`
      const text = { ...bearer(token), "content-type": "text/plain" }
      const path = `${url}/again`
      const put = (body: string) => request(path, { method: "PUT", headers: text, body })
      const old = (yield* put("seven ")).headers.get("stream-next-offset") ?? ""
      const appended = yield* request(path, { method: "POST", headers: text, body: "more" })
      const tail = appended.headers.get("stream-next-offset") ?? ""
      const follower = yield* events(`${path}?offset=${tail}&live=sse`, bearer(token))
      yield* follower.until((seen) => seen.includes("control"))
      const polled = yield* Effect.forkChild(
        request(`${path}?offset=${tail}&live=long-poll`, { headers: bearer(token) }),
        { startImmediately: true }
      )
      yield* request(path, { method: "DELETE", headers: bearer(token) })
      yield* put("another text, which is longer than the one before")

      for (const offset of [old, tail]) {
        for (const live of ["", "&live=long-poll", "&live=sse"]) {
          const { status } = yield* request(`${path}?offset=${offset}${live}`, { headers: bearer(token) })
          assert.strictEqual(status, 410, `${offset}${live}`)
        }
        const forked = yield* request(`${url}/fork`, {
          method: "PUT",
          headers: { ...text, "stream-forked-from": "/streams/again", "stream-fork-offset": offset }
        })
        assert.strictEqual(forked.status, 409)
      }
      assert.notInclude(yield* follower.end, "another")
      assert.notStrictEqual((yield* Fiber.join(polled)).status, 200)
      // The beginning is every stream's.
      const all = yield* request(`${path}?offset=0000000000000000_0000000000000000`, { headers: bearer(token) })
      assert.include(all.text, "another")
    }))

  it.live("C-74: know the offsets of a fork's source up to where it left it, and no further", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token("someone")
      const url = `${server.url}/streams`
      const text = { ...bearer(token), "content-type": "text/plain" }
      const fork = (from: string, to: string) =>
        request(`${url}/${to}`, { method: "PUT", headers: { ...text, "stream-forked-from": `/streams/${from}` } })
      const append = (path: string, body: string) =>
        Effect.map(
          request(`${url}/${path}`, { method: "POST", headers: text, body }),
          ({ headers }) => headers.get("stream-next-offset") ?? ""
        )
      const read = (path: string, offset: string) =>
        Effect.map(
          request(`${url}/${path}?offset=${offset}`, { headers: bearer(token) }),
          ({ status, text }) => status === 200 ? text : status
        )
      yield* request(`${url}/source`, { method: "PUT", headers: text, body: "ab" })
      const shared = yield* append("source", "cd")
      yield* fork("source", "fork")
      const own = yield* append("fork", "ef")
      const after = yield* append("source", "gh")
      yield* fork("fork", "fork of fork")
      yield* append("fork of fork", "ij")
      assert.deepStrictEqual(
        yield* Effect.all([
          read("fork", shared),
          read("fork of fork", shared),
          read("fork of fork", own),
          read("fork", after),
          read("fork of fork", after),
          read("source", own)
        ]),
        ["ef", "efij", "ij", 410, 410, 410]
      )
    }))

  it.live("are at the host's public URL, whatever host a request names", () =>
    Effect.gen(function*() {
      for (
        const [publicUrl, location] of [
          ["https://streams.example", "https://streams.example/streams/s"],
          ["https://example.com/tools/", "https://example.com/tools/streams/s"]
        ] as const
      ) {
        const server = yield* start({ publicUrl })
        const headers = bearer(yield* server.token("someone"))
        const created = yield* request(`${server.url}/streams/s`, { method: "PUT", headers })
        assert.strictEqual(created.headers.get("location"), location)
        const subscribed = yield* request(`${server.url}/streams/__ds/subscriptions/s`, {
          method: "PUT",
          headers: { ...headers, ...json },
          body: JSON.stringify({ type: "webhook", streams: ["s"], webhook: { url: "http://127.0.0.1:1/" } })
        })
        const { webhook } = JSON.parse(subscribed.text)
        assert.strictEqual(webhook.signing.jwks_url, location.replace(/s$/, "__ds/jwks.json"))
      }
    }))

  it.live("have no more than maxStreamBytes, what they were created with included", () =>
    Effect.gen(function*() {
      const server = yield* start({ streams: { maxStreamBytes: 10 } })
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      const put = (path: string, body: string) =>
        request(`${server.url}/streams/${path}`, { method: "PUT", headers, body })
      const large = yield* put("large", "x".repeat(11))
      assert.deepStrictEqual([large.status, JSON.parse(large.text).error.code], [413, "LIMIT_EXCEEDED"])
      assert.strictEqual((yield* request(`${server.url}/streams/large`, { headers })).status, 404)
      assert.strictEqual((yield* put("full", "x".repeat(10))).status, 201)
      const more = yield* request(`${server.url}/streams/full`, { method: "POST", headers, body: "x" })
      assert.strictEqual(more.status, 413)
    }))

  it.live("give out a byte order mark however they are read", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      const url = `${server.url}/streams/s`
      const marked = new TextEncoder().encode("\ufeffa")
      yield* request(url, { method: "PUT", headers, body: marked })
      const stream = yield* events(`${url}?offset=-1&live=sse`, headers)
      yield* stream.until((text) => text.includes("upToDate"))
      yield* request(url, { method: "POST", headers, body: marked })
      const text = yield* stream.until((text) => text.split("upToDate").length === 3)
      assert.strictEqual(dataOf(text), "\ufeffa\ufeffa")
      for (const live of ["", "&live=long-poll"]) {
        const bytes = yield* Effect.promise(async (signal) =>
          (await fetch(`${url}?offset=-1${live}`, { headers, signal })).arrayBuffer()
        )
        assert.deepStrictEqual(new Uint8Array(bytes), new Uint8Array([...marked, ...marked]), live)
      }
    }))

  it.live("do not cut a character that came in two appends", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      const url = `${server.url}/streams/s`
      yield* request(url, { method: "PUT", headers })
      const bytes = new TextEncoder().encode("a€b𝄞")
      const stream = yield* events(`${url}?offset=-1&live=sse`, headers)
      for (const byte of bytes) {
        yield* request(url, { method: "POST", headers, body: new Uint8Array([byte]) })
      }
      const text = yield* stream.until((text) => text.includes("𝄞"))
      assert.strictEqual(dataOf(text), "a€b𝄞")
    }))

  it.live("give out what there is of a character that a stream is closed in the middle of", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = { ...bearer(yield* server.token("someone")), "content-type": "text/plain" }
      const url = `${server.url}/streams/s`
      yield* request(url, { method: "PUT", headers })
      const stream = yield* events(`${url}?offset=-1&live=sse`, headers)
      yield* request(url, { method: "POST", headers, body: new TextEncoder().encode("a€").subarray(0, 3) })
      yield* stream.until((text) => text.includes("a"))
      yield* request(url, { method: "POST", headers: { ...headers, "stream-closed": "true" } })
      const text = yield* stream.end
      assert.strictEqual(dataOf(text), "a\ufffd")
      assert.match(text, /"streamNextOffset":"[0-9]{16}_0000000000000003","streamClosed":true/)
    }))

  it.live("RUN-08 L-82: are read once for all readers that wait for the same data", () =>
    Effect.gen(function*() {
      const calls = { read: 0, heads: 0 }
      const server = yield* start({ repositories: counting(calls) })
      const headers = { ...bearer(yield* server.token("someone")), ...json }
      const url = `${server.url}/streams/s`
      yield* request(url, { method: "PUT", headers })
      const readers = yield* Effect.all(
        Array.from({ length: 40 }, () => events(`${url}?offset=-1&live=sse`, headers)),
        { concurrency: "unbounded" }
      )
      yield* Effect.forEach(readers, (reader) => reader.until((text) => text.includes("upToDate")))
      const append = (index: number) =>
        Effect.gen(function*() {
          yield* request(url, { method: "POST", headers, body: JSON.stringify({ index }) })
          yield* Effect.forEach(readers, (reader) => reader.until((text) => text.includes(`{"index":${index}}`)))
        })
      // From here on everybody waits for the same.
      yield* append(0)
      const before = { ...calls }
      for (let index = 1; index <= 10; index++) yield* append(index)
      assert.isAtMost(calls.read - before.read, 20)
      assert.isAtMost(calls.heads - before.heads, 20)
      for (const reader of readers) {
        const text = yield* reader.until(() => true)
        assert.deepStrictEqual(
          Array.from(text.matchAll(/"index":(\d+)/g), ([, index]) => Number(index)),
          Array.from({ length: 11 }, (_, index) => index)
        )
      }
    }))

  it.live("SESS-08 L-22: end for a reader whose session is revoked", () =>
    Effect.gen(function*() {
      const calls = { read: 0, heads: 0 }
      const server = yield* start({ repositories: counting(calls), longPollTimeout: "1 hour" })
      const { session, token } = yield* Effect.orDie(server.sessions.issue({
        subject: "someone",
        scopes: ["streams:read"],
        method: "bearer-access-token"
      }))
      const reader = bearer(Redacted.value(token))
      const url = `${server.url}/streams/s`
      yield* request(url, { method: "PUT", headers: bearer(yield* server.token("someone")) })
      const stream = yield* events(`${url}?offset=-1&live=sse`, reader)
      yield* stream.until((text) => text.includes("upToDate"))
      const poll = yield* Effect.forkChild(request(`${url}?offset=now&live=long-poll`, { headers: reader }))
      // Each of the two has looked once more before it waits.
      while (calls.heads < 2) yield* Effect.sleep("1 millis")
      yield* Effect.orDie(server.sessions.logout(session))
      yield* stream.end
      assert.strictEqual((yield* Fiber.join(poll)).status, 204)
      assert.strictEqual((yield* request(url, { headers: reader })).status, 401)
    }))

  it.live("are read by a page at a time for a reader that does not take them, and then to the end", () =>
    Effect.gen(function*() {
      const calls = { read: 0, heads: 0 }
      const server = yield* start({
        repositories: counting(calls),
        heartbeatInterval: "1 hour"
      })
      const token = yield* server.token("someone")
      const owner = { subject: "someone" }
      yield* Effect.orDie(server.streams.create({ owner, path: "s" }))
      const size = 64
      for (let n = 0; n < size; n++) {
        yield* Effect.orDie(
          server.streams.append({
            owner,
            path: "s",
            contentType: "application/octet-stream",
            data: new Uint8Array(1024 * 1024).fill(n)
          })
        )
      }
      const socket = yield* Effect.acquireRelease(
        Effect.callback<Net.Socket>((resume) => {
          const { hostname, port } = new URL(server.url)
          const opened = Net.connect({ host: hostname, port: Number(port) }, () => resume(Effect.succeed(opened)))
          opened.pause()
        }),
        (opened) => Effect.sync(() => opened.destroy())
      )
      socket.write(
        `GET /streams/s?offset=-1&live=sse HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`
      )
      // Nothing tells that nothing more will be read; it has to stay so for a while.
      let seen = -1
      while (calls.read === 0 || calls.read !== seen) {
        seen = calls.read
        yield* Effect.sleep("250 millis")
      }
      // What the kernel holds for both ends of a connection is some megabytes.
      assert.isBelow(calls.read, size / 2)
      yield* Effect.callback<void>((resume) => {
        let text = ""
        socket.on("data", (chunk: Buffer) => {
          text = (text + chunk.toString("latin1")).slice(-1000)
          if (text.includes("upToDate")) resume(Effect.void)
        })
        socket.resume()
      })
      assert.isAtLeast(calls.read, size)
    }))

  it.live("share commits of 16 MiB at most", () =>
    Effect.gen(function*() {
      const commits: Array<number> = []
      const go = yield* Deferred.make<void>()
      const server = yield* start({ repositories: weighing(commits, Deferred.await(go)) })
      const name = { owner: { subject: "someone" }, path: "s" }
      yield* Effect.orDie(server.streams.create(name))
      const append = (bytes: number) =>
        Effect.orDie(
          server.streams.append({ ...name, contentType: "application/octet-stream", data: new Uint8Array(bytes) })
        )
      // What comes while the first commit waits is committed after it.
      const first = yield* Effect.forkChild(append(1), { startImmediately: true })
      while (commits.length === 0) yield* Effect.yieldNow
      const mebibyte = 1024 * 1024
      const sizes = [...Array.from({ length: 6 }, () => 4 * mebibyte), ...Array.from({ length: 300 }, () => 1)]
      const rest = yield* Effect.forkChild(Effect.forEach(sizes, append, { concurrency: "unbounded" }), {
        startImmediately: true
      })
      yield* Deferred.succeed(go, undefined)
      yield* Fiber.join(first)
      yield* Fiber.join(rest)
      assert.deepStrictEqual(commits, [1, 16 * mebibyte, 8 * mebibyte + 254, 46])
    }))

  it.live("wake readers of another process on the same file", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-streams-" })
      const filename = path.join(directory, "test.db")
      const node = Effect.map(
        Layer.build(
          DurableStreams.layerWith({ pollInterval: "1 hour" }).pipe(
            Layer.provide(SqlDurableStreamRepository.layer),
            Layer.provide(Layer.fresh(SqliteClient.layer({ filename })))
          )
        ),
        (context) => Context.get(context, DurableStreams.DurableStreams)
      )
      const one = yield* node
      const two = yield* node
      const name = { owner: { subject: "someone" }, path: "s" }
      yield* one.create({ ...name, contentType: "text/plain" })
      const append = (text: string) =>
        one.append({ ...name, contentType: "text/plain", data: new TextEncoder().encode(text) })
      for (let n = 0; n < 5; n++) {
        const page = yield* two.read({ ...name, from: n })
        const waiting = yield* Effect.forkChild(two.readNext({ ...name, after: page }))
        yield* append("x")
        yield* Fiber.join(waiting)
        assert.strictEqual((yield* two.read({ ...name, from: n })).next, n + 1)
      }
      const last = yield* two.read({ ...name, from: 5 })
      const waiting = yield* Effect.forkChild(Effect.flip(two.readNext({ ...name, after: last })))
      yield* one.delete(name)
      assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "StreamNotFound")
    }).pipe(Effect.provide(NodeServices.layer)))
})
