/**
 * Uses the server as its clients do: over real sockets, with the typed clients of both APIs.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import type { AccessScope } from "@sallyport/core"
import { TestClient } from "@sallyport/testing/host"
import { Effect, FileSystem, Layer, Logger, Option, Queue, Redacted, Stream } from "effect"
import * as Sse from "effect/encoding/Sse"
import { FetchHttpClient, HttpClient } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import * as NotesApi from "../src/NotesApi.ts"
import * as Scopes from "../src/Scopes.ts"
import * as Server from "../src/Server.ts"

const layerServer = Layer.unwrap(Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "existing-server-" })
  return Server.layer({ port: 0, directory })
})).pipe(
  Layer.provideMerge(Scopes.layer),
  Layer.provideMerge(NodeServices.layer),
  Layer.provideMerge(FetchHttpClient.layer),
  Layer.provide(Logger.layer([]))
)

/** Signs a new device in, and returns clients that send its token. */
const signIn = Effect.fnUntraced(function*(scopes?: ReadonlyArray<AccessScope.AccessScope>) {
  const { connection, token } = yield* TestClient.signIn({ scopes })
  const { httpClient } = connection
  return {
    token: Redacted.value(Option.getOrThrow(token)),
    notes: yield* HttpApiClient.makeWith(NotesApi.NotesApi, { httpClient }),
    sallyport: yield* HttpApiClient.makeWith(SallyportApi, { httpClient })
  }
})

/** Follows a run from after an event to its end, or until the reader stops. */
const follow = (token: string, runId: string, lastEventId: string) =>
  Stream.unwrap(Effect.gen(function*() {
    const { stream } = yield* HttpClient.get(`${yield* TestClient.serverUrl}/api/runs/${runId}/events`, {
      headers: { authorization: `Bearer ${token}`, "last-event-id": lastEventId }
    })
    const events: Array<Sse.Event> = []
    const parser = Sse.makeParser((event) => event._tag === "Event" && events.push(event))
    return stream.pipe(
      Stream.decodeText,
      Stream.flatMap((text) => {
        parser.feed(text)
        return Stream.fromIterable(events.splice(0))
      })
    )
  }))

/** Opens a WebSocket, and returns its events in order: `open`, each message, `close`. */
const listen = Effect.fnUntraced(function*(path: string) {
  const told = yield* Queue.unbounded<string>()
  const address = `${(yield* TestClient.serverUrl).replace("http:", "ws:")}${path}`
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const socket = new WebSocket(address)
      socket.addEventListener("open", () => Queue.offerUnsafe(told, "open"))
      socket.addEventListener("message", ({ data }) => Queue.offerUnsafe(told, String(data)))
      socket.addEventListener("close", () => Queue.offerUnsafe(told, "close"))
      return socket
    }),
    (socket) => Effect.sync(() => socket.close())
  )
  return told
})

layer(layerServer, { excludeTestServices: true })("existing server", (it) => {
  it.effect("AUTH-02: its own API is guarded by its own scopes", () =>
    Effect.gen(function*() {
      const { notes } = yield* signIn()
      const note = yield* notes.notes.add({ payload: { text: "Buy milk." } })
      assert.deepStrictEqual((yield* notes.notes.list()).map(({ id, text }) => ({ id, text })), [
        { id: note.id, text: "Buy milk." }
      ])

      const reader = yield* signIn(["notes:read"])
      assert.strictEqual((yield* reader.notes.notes.list()).length, 1)
      const refused = yield* Effect.flip(reader.notes.notes.add({ payload: { text: "No." } }))
      assert.strictEqual(refused._tag === "Forbidden" && refused.code, "scope_required")

      const stranger = yield* HttpApiClient.make(NotesApi.NotesApi, { baseUrl: yield* TestClient.serverUrl })
      const unknown = yield* Effect.flip(stranger.notes.list())
      assert.strictEqual(unknown._tag === "Unauthorized" && unknown.code, "unauthorized")
    }))

  it.effect("HTTP-05: the same check guards a plain route", () =>
    Effect.gen(function*() {
      const { notes, token } = yield* signIn()
      yield* notes.notes.add({ payload: { text: "Call Ada." } })
      const get = (token?: string) =>
        Effect.flatMap(TestClient.serverUrl, (base) =>
          HttpClient.get(
            `${base}/notes.txt`,
            token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }
          ))

      const page = yield* get(token)
      assert.strictEqual(page.status, 200)
      assert.include(yield* page.text, "Call Ada.\n")

      const refused = yield* get()
      assert.strictEqual(refused.status, 401)
      assert.strictEqual(refused.headers["www-authenticate"], "Bearer realm=\"sallyport\"")
      assert.propertyVal(yield* refused.json, "code", "unauthorized")
    }))

  it.effect("HTTP-05 SESS-08 SESS-09 L-20 L-22: a WebSocket upgrade is guarded, and its socket ends with the session", () =>
    Effect.gen(function*() {
      const { notes, sallyport } = yield* signIn()
      const ticket = Redacted.value((yield* sallyport.session.ticket()).ticket)
      const path = `/notes/live?ticket=${ticket}`
      const told = yield* listen(path)
      assert.strictEqual(yield* Queue.take(told), "open")

      yield* notes.notes.add({ payload: { text: "Water the plants." } })
      assert.propertyVal(JSON.parse(yield* Queue.take(told)), "text", "Water the plants.")

      for (const refused of [path, "/notes/live"]) {
        assert.strictEqual(yield* Queue.take(yield* listen(refused)), "close", "a ticket works once")
      }
      yield* sallyport.session.logout()
      assert.strictEqual(yield* Queue.take(told), "close")
    }))

  it.effect("RUN-01 RUN-08: a client leaves and rejoins a run of the server's own effect", () =>
    Effect.gen(function*() {
      const { notes, sallyport, token } = yield* signIn()
      const add = (text: string) => notes.notes.add({ payload: { text } })
      const [first, second, third] = yield* Effect.all([add("First. More."), add("Second!"), add("Third")])
      const start = sallyport.runs.start({
        headers: { "idempotency-key": "summary-1" },
        payload: { threadId: "summaries", input: { ponderMillis: 5 } }
      })
      const { created, run } = yield* start
      assert.isTrue(created)

      const before = yield* follow(token, run.runId, "0").pipe(Stream.take(2), Stream.runCollect)
      const after = yield* follow(token, run.runId, "2").pipe(Stream.runCollect)
      const seen = [...before, ...after]
      assert.deepStrictEqual(seen.map(({ id }) => id), seen.map((_, index) => String(index + 1)))
      const summaries = seen.filter(({ event }) => event === "data").map(({ data }) => JSON.parse(data))
      assert.deepStrictEqual(summaries.slice(-3), [
        { note: first.id, summary: "First." },
        { note: second.id, summary: "Second!" },
        { note: third.id, summary: "Third" }
      ])
      assert.strictEqual(seen.at(-1)?.event, "end")
      assert.deepStrictEqual(JSON.parse(seen.at(-1)?.data ?? ""), {
        status: "succeeded",
        result: { notes: summaries.length }
      })
      assert.isFalse((yield* start).created, "the same key answers with the same run")
    }))
})
