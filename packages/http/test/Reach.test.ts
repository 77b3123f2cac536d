import { assert, describe, it } from "@effect/vitest"
import type * as AccessScope from "@sallyport/core/access/AccessScope"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { assertError, bearer, eventsOf, follow, type Server, start } from "./support.ts"

const own: ReadonlyArray<AccessScope.AccessScope> = ["access:read", "access:write", "runs:read"]

const Lists = Schema.Struct({
  sessions: Schema.optionalKey(Schema.Array(Schema.Struct({
    id: Schema.String,
    subject: Schema.String,
    current: Schema.Boolean,
    descendants: Schema.Natural
  }))),
  links: Schema.optionalKey(Schema.Array(Schema.Struct({ id: Schema.String, subject: Schema.String }))),
  next: Schema.NullOr(Schema.String)
})
const decodeLists = Schema.decodeUnknownSync(Lists)
const Linked = Schema.Struct({ code: Schema.String, link: Schema.Struct({ id: Schema.String }) })
const decodeLinked = Schema.decodeUnknownSync(Linked)

const read = (server: Server, token: string, path: string) =>
  Effect.map(server.send({ path, headers: bearer(token) }), ({ json }) => decodeLists(json))

/** Reads all pages of a list. */
const readAll = Effect.fnUntraced(function*(server: Server, token: string, path: string) {
  const found: Array<string> = []
  const sizes: Array<number> = []
  let query = ""
  while (true) {
    const { links = [], next, sessions = [] } = yield* read(server, token, `${path}${query}`)
    found.push(...[...links, ...sessions].map(({ id }) => id))
    sizes.push(links.length + sessions.length)
    if (next === null) return { found, sizes }
    query = `?after=${encodeURIComponent(next)}`
  }
})

const link = (server: Server, token: string) =>
  Effect.map(
    server.send({ method: "POST", path: "/api/auth/pairing-links", headers: bearer(token), body: {} }),
    ({ json }) => decodeLinked(json)
  )

const exchange = (server: Server, code: string) =>
  Effect.map(
    server.send({
      method: "POST",
      path: "/oauth/token",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token: code,
        subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
      }).toString()
    }),
    ({ json, status }) => ({ status, token: String(json["access_token"]) })
  )

const post = (server: Server, token: string, path: string, body: unknown = {}) =>
  server.send({ method: "POST", path, headers: bearer(token), body })

/** Reads the messages of a WebSocket until one of them is found. */
const messagesUntil = (server: Server, path: string, isLast: (message: string) => boolean) =>
  Effect.callback<ReadonlyArray<string>>((resume) => {
    const messages: Array<string> = []
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`)
    socket.addEventListener("message", ({ data }) => {
      messages.push(String(data))
      if (isLast(String(data))) resume(Effect.succeed(messages))
    })
    return Effect.sync(() => socket.close())
  })

describe("reach", () => {
  it.live("SESS-15 C-14: what is another subject's is in no list, and its id is a 404, unless the session manages access", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ada = yield* server.token({ subject: "ada", scopes: own })
      const bob = yield* server.token({ subject: "bob", scopes: own })
      const manager = yield* server.token({ subject: "eve", scopes: [...own, "access:manage"] })
      const adas = yield* link(server, ada)
      const bobs = yield* link(server, bob)

      const sessionsOf = (token: string) =>
        Effect.map(read(server, token, "/api/auth/sessions"), (a) => a.sessions ?? [])
      const linksOf = (token: string) =>
        Effect.map(read(server, token, "/api/auth/pairing-links"), (a) => a.links ?? [])
      const [bobsSession] = yield* sessionsOf(bob)
      assert.deepStrictEqual((yield* sessionsOf(ada)).map(({ subject }) => subject), ["ada"])
      assert.deepStrictEqual((yield* linksOf(ada)).map(({ id }) => id), [adas.link.id])
      assert.deepStrictEqual((yield* sessionsOf(manager)).map(({ subject }) => subject).sort(), ["ada", "bob", "eve"])
      assert.deepStrictEqual((yield* linksOf(manager)).map(({ subject }) => subject).sort(), ["ada", "bob"])

      for (
        const [path, id, code] of [
          ["/api/auth/pairing-links/revoke", bobs.link.id, "pairing_link_not_found"],
          ["/api/auth/sessions/revoke", bobsSession?.id, "session_not_found"]
        ] as const
      ) {
        const foreign = yield* post(server, ada, path, { id })
        const unknown = yield* post(server, ada, path, { id: "unknown" })
        for (const answer of [foreign, unknown]) assertError(answer, { status: 404, tag: "NotFound", code })
        assert.include([200, 204], (yield* post(server, manager, path, { id })).status)
      }
      assert.strictEqual((yield* server.send({ path: "/api/auth/sessions", headers: bearer(bob) })).status, 401)
    }).pipe(Effect.scoped))

  it.live("SESS-15 C-14: the feed tells a session of its own subject, and moves its cursor past what is others'", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ada = yield* server.token({ subject: "ada", scopes: own })
      const bob = yield* server.token({ subject: "bob", scopes: own })
      const manager = yield* server.token({ subject: "eve", scopes: [...own, "access:manage"] })
      yield* link(server, bob)
      const path = "/api/auth/access"
      const reading = yield* follow(server.port, { path, headers: bearer(ada) })
      const managing = yield* follow(server.port, { path, headers: bearer(manager) })
      const ofBob = (text: string) => text.includes("\"bob\"")
      const [snapshot] = eventsOf(yield* reading.until((text) => eventsOf(text).length >= 1))
      assert.deepStrictEqual([snapshot?.id, snapshot?.event, ofBob(snapshot?.data ?? "")], ["4", "snapshot", false])
      assert.include(snapshot?.data, "\"ada\"")
      assert.notInclude(snapshot?.data, "connectSecurityMode")
      assert.isTrue(ofBob(yield* managing.until((text) => eventsOf(text).length >= 1)))

      yield* link(server, bob)
      yield* post(server, bob, "/api/auth/sessions/revoke-others")
      yield* post(server, bob, "/api/auth/logout")
      const mine = yield* link(server, ada)
      // A link that Bob's session issued ends with it: revisions 6 to 8.
      const events = eventsOf(yield* reading.until((text) => text.includes(mine.link.id)))
      assert.isFalse(events.some(({ data }) => ofBob(data)))
      const later = events.slice(1)
      assert.deepStrictEqual(
        later.map(({ event }) => event),
        [...later.slice(1).map(() => "revisionAdvanced"), "pairingLinkUpserted"]
      )
      assert.deepStrictEqual(
        later.map(({ id }) => Number(id)),
        later.map(({ id }) => Number(id)).toSorted((a, b) => a - b)
      )
      const last = Number(later.at(-1)?.id)
      assert.deepStrictEqual(
        eventsOf(yield* managing.until((text) => text.includes(mine.link.id))).map(({ id }) => Number(id)),
        Array.from({ length: last - 3 }, (_, index) => index + 4)
      )

      // A reader that resumes is told of the revisions in between in one event, and of nothing else.
      const again = yield* follow(server.port, { path: `${path}?after=4`, headers: bearer(ada) })
      assert.deepStrictEqual(
        eventsOf(yield* again.until((text) => text.includes(mine.link.id))).map(({ event, id }) => [Number(id), event]),
        [[last - 1, "revisionAdvanced"], [last, "pairingLinkUpserted"]]
      )
      const { json } = yield* post(server, ada, "/api/auth/websocket-ticket")
      const messages = yield* messagesUntil(
        server,
        `${path}?after=4&ticket=${json["ticket"]}`,
        (message) => message.includes(mine.link.id)
      )
      assert.deepStrictEqual(
        messages.map((message): unknown => JSON.parse(message).event).filter((event) => event !== "heartbeat"),
        ["revisionAdvanced", "pairingLinkUpserted"]
      )
    }).pipe(Effect.scoped))

  it.live("HTTP-09 C-15: lists have pages, and all of 1,021 links are on one of them", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const manager = yield* server.token()
      for (let index = 0; index < 1_021; index++) yield* server.code()
      const { found, sizes } = yield* readAll(server, manager, "/api/auth/pairing-links")
      assert.deepStrictEqual([found.length, new Set(found).size], [1_021, 1_021])
      assert.isAtMost(Math.max(...sizes), 200)
      for (let index = 0; index < 200; index++) yield* server.token({ subject: "owner" })
      const sessions = yield* readAll(server, manager, "/api/auth/sessions")
      assert.deepStrictEqual([sessions.found.length, new Set(sessions.found).size, ...sessions.sizes], [
        201,
        201,
        200,
        1
      ])
      for (const after of ["x", "1", ".a", "-1.a", "1e3.a", "99999999999999999.a"]) {
        assertError(yield* server.send({ path: `/api/auth/pairing-links?after=${after}`, headers: bearer(manager) }), {
          status: 400,
          tag: "InvalidRequest",
          code: "malformed_cursor"
        })
      }
    }).pipe(Effect.scoped))

  it.live("HTTP-09 C-15: a session with 32 open links gets no more, and is told what to do", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token({ subject: "ada", scopes: own })
      const first = yield* link(server, token)
      for (let index = 0; index < 31; index++) yield* link(server, token)
      const answer = yield* post(server, token, "/api/auth/pairing-links")
      assertError(answer, { status: 409, tag: "Conflict", code: "too_many_links" })
      assert.match(String(answer.json["message"]), /revoke one/)
      yield* post(server, token, "/api/auth/pairing-links/revoke", { id: first.link.id })
      assert.strictEqual((yield* post(server, token, "/api/auth/pairing-links")).status, 201)
    }).pipe(Effect.scoped))

  it.live("SESS-13 C-10: a session that is revoked takes its links along, and what came from them if asked for", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* server.token({ subject: "ada", scopes: own })
      const other = yield* exchange(server, (yield* link(server, owner)).code)
      const child = yield* exchange(server, (yield* link(server, other.token)).code)
      const { code } = yield* link(server, other.token)
      const { sessions = [] } = yield* read(server, owner, "/api/auth/sessions")
      assert.deepStrictEqual(sessions.map(({ descendants }) => descendants), [2, 1, 0])
      const isLetIn = (token: string) =>
        Effect.map(server.send({ path: "/api/auth/sessions", headers: bearer(token) }), ({ status }) => status === 200)

      yield* post(server, owner, "/api/auth/sessions/revoke", { id: sessions[1]?.id })
      assert.strictEqual((yield* exchange(server, code)).status, 400)
      assert.deepStrictEqual([yield* isLetIn(other.token), yield* isLetIn(child.token)], [false, true])
      // The session itself has ended, but what descends from it has not.
      yield* post(server, owner, "/api/auth/sessions/revoke", { id: sessions[1]?.id, descendants: true })
      assert.deepStrictEqual([yield* isLetIn(owner), yield* isLetIn(child.token)], [true, false])
    }).pipe(Effect.scoped))
})
