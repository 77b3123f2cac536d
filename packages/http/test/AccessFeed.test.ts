import { assert, describe, it } from "@effect/vitest"
import { AccessMessage, AccessStreamEvent } from "@sallyport/contract/AccessGroup"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { EventSource } from "eventsource"
import { assertError, bearer, eventsOf, follow, type Server, start } from "./support.ts"

const path = "/api/auth/access"

const names = (text: string) => eventsOf(text).map(({ event }) => event)
const has = (count: number) => (text: string) => eventsOf(text).length >= count

/** A WebSocket client that keeps what comes. */
const connect = (server: Server, options: { readonly query?: string; readonly headers?: Record<string, string> }) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      // Node's client takes headers, unlike a browser's, whose type this is.
      const socket: WebSocket = Reflect.construct(WebSocket, [
        `ws://127.0.0.1:${server.port}${path}${options.query ?? ""}`,
        {
          headers: options.headers ?? {}
        }
      ])
      const messages: Array<string> = []
      const listeners = new Set<() => void>()
      let closed: { readonly code: number; readonly reason: string } | undefined
      const tell = () => listeners.forEach((listener) => listener())
      socket.addEventListener("message", ({ data }) => {
        messages.push(String(data))
        tell()
      })
      socket.addEventListener("close", ({ code, reason }) => {
        closed = { code, reason }
        tell()
      })
      const wait = <A>(look: () => A | undefined) =>
        Effect.callback<A>((resume) => {
          const listener = () => {
            const found = look()
            if (found === undefined) return
            listeners.delete(listener)
            resume(Effect.succeed(found))
          }
          listeners.add(listener)
          listener()
          return Effect.sync(() => listeners.delete(listener))
        })
      return {
        socket,
        until: (count: number) => wait(() => messages.length >= count ? messages : undefined),
        closed: wait(() => closed)
      }
    }),
    ({ socket }) => Effect.sync(() => socket.close())
  )

const decodeMessage = Schema.decodeUnknownSync(AccessMessage)
const decodeEvent = Schema.decodeUnknownSync(AccessStreamEvent)

describe("GET /api/auth/access", () => {
  it.live("FEED-01 L-42: begins with a snapshot, goes on with every change, and resumes after the last one seen", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      yield* server.code()
      const reading = yield* follow(server.port, { path, headers: bearer(token) })
      assert.strictEqual(reading.headers["content-type"], "text/event-stream")
      const [snapshot] = eventsOf(yield* reading.until(has(1)))
      assert.strictEqual(snapshot?.event, "snapshot")
      assert.strictEqual(snapshot?.id, "2")
      const decoded = decodeEvent(snapshot)
      if (decoded.event !== "snapshot" || typeof decoded.data === "string") return assert.fail("a snapshot")
      const { data } = decoded
      assert.isTrue("sessions" in data && data.sessions[0]?.current)
      assert.isTrue("pairingLinks" in data && data.pairingLinks.length === 1)

      const other = yield* server.token({ subject: "bob" })
      yield* server.code()
      yield* server.send({ method: "POST", path: "/api/auth/logout", headers: bearer(other) })
      const all = eventsOf(yield* reading.until(has(4)))
      assert.deepStrictEqual(all.map(({ event, id }) => [id, event]), [
        ["2", "snapshot"],
        ["3", "sessionUpserted"],
        ["4", "pairingLinkUpserted"],
        ["5", "sessionRemoved"]
      ])

      for (
        const resumed of [
          { path: `${path}?after=3`, headers: bearer(token) },
          { path: `${path}?after=0`, headers: { ...bearer(token), "last-event-id": "3" } }
        ]
      ) {
        const again = yield* follow(server.port, resumed)
        assert.deepStrictEqual(
          eventsOf(yield* again.until(has(2))).map(({ event, id }) => [id, event]),
          [["4", "pairingLinkUpserted"], ["5", "sessionRemoved"]]
        )
      }
    }).pipe(Effect.scoped))

  it.live("FEED-01: begins with a snapshot where a revision is another store's, and refuses what is none", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const ahead = yield* follow(server.port, { path: `${path}?after=77`, headers: bearer(token) })
      assert.deepStrictEqual(names(yield* ahead.until(has(1))), ["snapshot"])
      for (const after of ["-1", "x", "1.5", "99999999999999999999"]) {
        assertError(yield* server.send({ path: `${path}?after=${after}`, headers: bearer(token) }), {
          status: 400,
          tag: "InvalidRequest",
          code: "malformed_cursor"
        })
      }
    }).pipe(Effect.scoped))

  it.live("needs the scope access:read", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token({ scopes: ["runs:read"] })
      assertError(yield* server.send({ path, headers: bearer(token) }), {
        status: 403,
        tag: "Forbidden",
        code: "scope_required"
      })
      assert.strictEqual((yield* server.send({ path })).status, 401)
    }).pipe(Effect.scoped))

  it.live("SESS-08 L-22: ends with the session that follows it, and says so", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const reading = yield* follow(server.port, { path, headers: bearer(token) })
      yield* reading.until(has(1))
      yield* server.send({ method: "POST", path: "/api/auth/logout", headers: bearer(token) })
      const { how, text } = yield* reading.ended
      assert.strictEqual(how, "complete")
      const last = eventsOf(text).at(-1)
      assert.strictEqual(last?.event, "failure")
      assert.include(last?.data, "session_ended")
    }).pipe(Effect.scoped))

  it.live("HTTP-04: sends heartbeats while nothing changes, and ends when the server stops", () =>
    Effect.gen(function*() {
      const server = yield* start({ heartbeat: "20 millis" })
      const token = yield* server.token()
      const reading = yield* follow(server.port, { path, headers: bearer(token) })
      const text = yield* reading.until((text) => text.split(": heartbeat").length > 3)
      assert.match(text, /^retry: \d+\n\n/)
      yield* server.stop
      assert.strictEqual((yield* reading.ended).how, "complete")
    }).pipe(Effect.scoped))

  it.live("shows no code, token or digest", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const code = yield* server.code()
      const reading = yield* follow(server.port, { path: `${path}?after=0`, headers: bearer(token) })
      const text = yield* reading.until(has(2))
      assert.notInclude(text, token)
      assert.notInclude(text, code)
      assert.notMatch(text, /digest/i)
    }).pipe(Effect.scoped))

  it.live("FEED-02: an independent EventSource reconnects by itself and misses nothing", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const seen: Array<string> = []
      const waiting = new Set<() => void>()
      const source = yield* Effect.acquireRelease(
        Effect.sync(() =>
          new EventSource(`http://127.0.0.1:${server.port}${path}`, {
            fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...bearer(token) } })
          })
        ),
        (source) => Effect.sync(() => source.close())
      )
      for (const name of ["snapshot", "pairingLinkUpserted"]) {
        source.addEventListener(name, ({ lastEventId }) => {
          seen.push(`${name} ${lastEventId}`)
          waiting.forEach((look) => look())
        })
      }
      const until = (count: number) =>
        Effect.callback<void>((resume) => {
          const look = () => {
            if (seen.length < count) return
            waiting.delete(look)
            resume(Effect.void)
          }
          waiting.add(look)
          look()
        })
      yield* until(1)
      yield* server.code()
      yield* until(2)
      yield* server.cut
      yield* server.code()
      yield* server.code()
      yield* until(4)
      assert.deepStrictEqual(seen, [
        "snapshot 1",
        "pairingLinkUpserted 2",
        "pairingLinkUpserted 3",
        "pairingLinkUpserted 4"
      ])
    }).pipe(Effect.scoped))
})

describe("the same over WebSocket", () => {
  it.live("FEED-01 HTTP-05: sends the same events as messages, by bearer token, by ticket and by cookie", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const ticket = yield* server.send({ method: "POST", path: "/api/auth/websocket-ticket", headers: bearer(token) })
      const clients = yield* Effect.all([
        connect(server, { headers: bearer(token) }),
        connect(server, { query: `?ticket=${String(ticket.json.ticket)}` }),
        connect(server, { headers: { cookie: yield* server.cookie, origin: `http://127.0.0.1:${server.port}` } })
      ])
      for (const client of clients) yield* client.until(1)
      yield* server.code()
      for (const client of clients) {
        const [first, second] = (yield* client.until(2)).map((text) => decodeMessage(text))
        assert.strictEqual(first?.event, "snapshot")
        assert.strictEqual(second?.event, "pairingLinkUpserted")
        assert.strictEqual(Number(second?.id), Number(first?.id) + 1)
      }
      const resumed = yield* connect(server, { query: "?after=2", headers: bearer(token) })
      assert.strictEqual(decodeMessage((yield* resumed.until(1))[0]).event, "pairingLinkUpserted")
    }).pipe(Effect.scoped))

  it.live("SESS-08 L-22: tells of the session's end and closes with 4401; a stop closes with 1001", () =>
    Effect.gen(function*() {
      const server = yield* start({ heartbeat: "20 millis" })
      const token = yield* server.token()
      const other = yield* server.token()
      const [mine, others] = yield* Effect.all([
        connect(server, { headers: bearer(token) }),
        connect(server, { headers: bearer(other) })
      ])
      yield* mine.until(3)
      yield* others.until(3)
      yield* server.send({ method: "POST", path: "/api/auth/logout", headers: bearer(token) })
      assert.strictEqual((yield* mine.closed).code, 4401)
      const messages = (yield* mine.until(1)).map((text) => decodeMessage(text))
      assert.strictEqual(messages.at(-1)?.event, "failure")
      assert.include(messages.map(({ event }) => event), "heartbeat")
      yield* server.stop
      assert.strictEqual((yield* others.closed).code, 1001)
    }).pipe(Effect.scoped))

  it.live("HTTP-02: is refused to a page of another site, and to a wrong credential", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cookie = yield* server.cookie
      for (const headers of [{ cookie, origin: "https://evil.example" }, { cookie }, bearer("wrong"), {}]) {
        const client = yield* connect(server, { headers })
        assert.strictEqual((yield* client.closed).code, 1006)
      }
    }).pipe(Effect.scoped))
})

describe("FEED-03 L-41: an older client", () => {
  const session = {
    id: "s",
    subject: "ada",
    method: "carrier-pigeon",
    scopes: ["birds:feed"],
    proofKeyThumbprint: null,
    device: { label: null, kind: "bird", userAgent: null, address: null, wings: 2 },
    letInBy: { actor: "a breeder", sessionId: null, linkId: null, since: 1 },
    client: null,
    lifetimeSeconds: null,
    absoluteExpiresAt: null,
    createdAt: "2026-01-01T00:00:00.000Z",
    lastSeenAt: "2026-01-01T00:00:00.000Z",
    expiresAt: "2026-01-01T00:00:00.000Z",
    current: false,
    plumage: "grey"
  }

  it("takes events with fields, methods, scopes and reasons that it does not know", () => {
    const known = decodeEvent({
      id: "1",
      event: "sessionUpserted",
      data: JSON.stringify({ revision: 1, actor: "x", at: "2026-01-01T00:00:00.000Z", why: "?", session })
    })
    assert.notStrictEqual(typeof known.data, "string")
    assert.notProperty(known.data, "why")
    const removed = decodeEvent({
      id: "1",
      event: "sessionRemoved",
      data: JSON.stringify({ revision: 1, actor: "x", at: "2026-01-01T00:00:00.000Z", id: "s", reason: "eaten" })
    })
    assert.notStrictEqual(typeof removed.data, "string")
    const snapshot = decodeEvent({
      id: "1",
      event: "snapshot",
      data: JSON.stringify({ revision: 1, pairingLinks: [], sessions: [session], pigeons: [] })
    })
    assert.notStrictEqual(typeof snapshot.data, "string")
  })

  it("passes over events that it does not know", () => {
    assert.deepStrictEqual(
      decodeEvent({ id: "9", event: "pigeonUpserted", data: "{}" }),
      { id: "9", event: "pigeonUpserted", data: "{}" }
    )
    assert.strictEqual(decodeMessage(`{"id":"9","event":"pigeonUpserted","data":{"x":1}}`).event, "pigeonUpserted")
    assert.strictEqual(decodeMessage(`{"event":"heartbeat"}`).event, "heartbeat")
  })
})
