/**
 * What the list of connections shows and does: who let whom in, who is here now, names, lifetimes, and what a revocation ends.
 */
import { AccessHistory } from "@sallyport/contract/AccessGroup"
import { ListedSessionView, PairingLinkView } from "@sallyport/contract/AccessSchemas"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { assertError, bearer, follow, type Server, start } from "./support.ts"

const decodeSessions = Schema.decodeUnknownSync(Schema.Array(Schema.toCodecJson(ListedSessionView)))
const decodeLink = Schema.decodeUnknownSync(
  Schema.toCodecJson(Schema.Struct({ code: Schema.String, link: PairingLinkView }))
)

const decodeHistory = Schema.decodeUnknownSync(Schema.toCodecJson(AccessHistory))
const decodeHead = Schema.decodeUnknownSync(Schema.Struct({ revision: Schema.Natural }))

const send = (server: Server, token: string, method: string, path: string, body?: unknown) =>
  server.send({ method, path, headers: bearer(token), body })

const sessionsOf = (server: Server, token: string) =>
  Effect.map(send(server, token, "GET", "/api/auth/sessions"), ({ json }) => decodeSessions(json["sessions"]))

const link = (server: Server, token: string, body: object = {}) =>
  Effect.map(send(server, token, "POST", "/api/auth/pairing-links", body), ({ json }) => decodeLink(json))

const pair = (server: Server, code: string) =>
  Effect.map(
    server.send({
      method: "POST",
      path: "/oauth/token",
      headers: { "content-type": "application/x-www-form-urlencoded", "user-agent": "curl/8.15.0" },
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token: code,
        subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
      }).toString()
    }),
    ({ json }) => String(json["access_token"])
  )

describe("the list of connections", () => {
  it.live("SESS-13: shows who let each session in, whom it let in, its kind and its connections", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* pair(server, yield* server.code())
      const offered = yield* link(server, owner, { label: "build machine" })
      const machine = yield* pair(server, offered.code)
      const [first, second] = yield* sessionsOf(server, owner)
      assert.deepStrictEqual([first?.letInBy.actor, first?.letInBy.sessionId], ["operator", null])
      assert.deepStrictEqual(second?.letInBy, { actor: "owner", sessionId: first?.id ?? null, linkId: offered.link.id })
      assert.deepStrictEqual([first?.descendants, second?.descendants], [1, 0])
      assert.deepStrictEqual([second?.device.kind, second?.device.label], ["terminal", "build machine"])
      assert.deepStrictEqual([first?.connections, second?.connections], [0, 0])

      for (const token of [machine, machine, owner]) {
        yield* follow(server.port, { path: "/api/auth/access", headers: bearer(token) })
      }
      yield* Effect.repeat(sessionsOf(server, owner), {
        until: (sessions) => sessions.map(({ connections }) => connections).join() === "1,2"
      })
      const ended = yield* send(server, owner, "POST", "/api/auth/sessions/revoke", { id: second?.id })
      assert.deepStrictEqual([ended.status, ended.json], [200, { sessions: 1, links: 0, connections: 2 }])
    }).pipe(Effect.scoped))

  it.live("SESS-13: revoking answers what ended: sessions, links and connections, with what they let in if asked for", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* pair(server, yield* server.code())
      const child = yield* pair(server, (yield* link(server, owner)).code)
      const grandchild = yield* pair(server, (yield* link(server, child)).code)
      yield* link(server, child)
      yield* link(server, grandchild)
      const [, { id } = { id: "" }] = yield* sessionsOf(server, owner)
      const revoke = send(server, owner, "POST", "/api/auth/sessions/revoke", { id, descendants: true })
      assert.deepStrictEqual((yield* revoke).json, { sessions: 2, links: 2, connections: 0 })
      assertError(yield* revoke, { status: 404, tag: "NotFound", code: "session_not_found" })
      yield* pair(server, (yield* link(server, owner)).code)
      const others = yield* send(server, owner, "POST", "/api/auth/sessions/revoke-others")
      assert.deepStrictEqual(others.json, { sessions: 1, links: 0, connections: 0 })
    }).pipe(Effect.scoped))

  it.live("SESS-21: tells the holder of a cookie alone how its session has ended, and no more than it may know", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const origin = `http://127.0.0.1:${server.port}`
      const browse = Effect.fnUntraced(function*(credential: string, label: string) {
        const answer = yield* server.send({
          method: "POST",
          path: "/api/auth/bootstrap",
          headers: { origin },
          body: { credential, label }
        })
        const [cookie = ""] = String(answer.headers["set-cookie"]).split(";")
        return { cookie, id: String(Object(answer.json["session"]).id) }
      })
      const look = (cookie: string) =>
        Effect.map(
          server.send({ method: "GET", path: "/api/auth/session", headers: { cookie } }),
          ({ json, status }) => ({ status, ended: json["ended"] })
        )
      const post = (cookie: string, path: string, body?: unknown) =>
        server.send({ method: "POST", path, headers: { cookie, origin }, body })
      const offer = (cookie: string, body: object = {}) =>
        Effect.map(post(cookie, "/api/auth/pairing-links", body), ({ json }) => String(json["code"]))

      const phone = yield* browse(yield* server.code(), "Ada\u2019s phone")
      const tablet = yield* browse(yield* offer(phone.cookie), "tablet")
      const child = yield* browse(yield* offer(tablet.cookie), "child")
      const left = yield* browse(yield* offer(phone.cookie), "left")
      const guest = yield* browse(
        yield* Effect.map(
          server.links.issue({ issuedBy: "operator", scopes: "all", subject: "guest" }),
          ({ code }) => Redacted.value(code)
        ),
        "guest"
      )
      for (const { cookie } of [phone, tablet]) {
        assert.deepInclude(yield* look(cookie), { status: 200, ended: undefined })
      }

      yield* post(phone.cookie, "/api/auth/sessions/revoke", { id: tablet.id, descendants: true })
      yield* post(left.cookie, "/api/auth/logout")
      yield* post(phone.cookie, "/api/auth/sessions/revoke", { id: guest.id })
      const byPhone = { actor: "owner", device: "Ada\u2019s phone" }
      for (
        const [{ cookie }, end] of [
          [tablet, { how: "revoked", ...byPhone }],
          [child, { how: "descended", ...byPhone }],
          [left, { how: "signed-out", actor: "owner", device: null }],
          // It is another subject's device that ended it.
          [guest, { how: "revoked", actor: "owner", device: null }]
        ] as const
      ) {
        const { ended, status } = yield* look(cookie)
        assert.strictEqual(status, 200)
        assert.deepInclude(ended, end)
        assert.hasAllKeys(ended, ["how", "at", "lastSeenAt", "actor", "device"])
        // No other endpoint tells, and no token that is nearly right.
        assert.notInclude(
          (yield* server.send({ method: "GET", path: "/api/auth/sessions", headers: { cookie } })).text,
          "Ada"
        )
        const last = cookie.at(-1) === "A" ? "B" : "A"
        for (const other of [cookie.slice(0, -1), `${cookie.slice(0, -2)}${last}${last}`, `${cookie}A`]) {
          assert.deepInclude(yield* look(other), { status: 200, ended: undefined })
        }
      }
    }))

  it.live("SESS-19 SESS-15: a session that manages everyone's access ends what is older than a time, itself too", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* pair(server, yield* server.code())
      const ada = yield* server.token({ subject: "ada", scopes: ["access:read", "access:write"] })
      yield* link(server, owner)
      yield* link(server, ada)
      const revoke = (token: string, time: unknown) =>
        send(server, token, "POST", "/api/auth/sessions/revoke-issued-before", { time })
      const after = "2100-01-01T00:00:00.000Z"
      assertError(yield* revoke(ada, after), { status: 403, tag: "Forbidden", code: "scope_required" })
      for (const time of ["", "soon", 1, null, undefined]) {
        assertError(yield* revoke(owner, time), { status: 400, tag: "InvalidRequest", code: "invalid_request" })
      }
      const none = { sessions: 0, links: 0, connections: 0 }
      assert.deepStrictEqual((yield* revoke(owner, "2020-01-01T00:00:00.000Z")).json, none)
      assert.deepStrictEqual((yield* revoke(owner, after)).json, { sessions: 2, links: 2, connections: 0 })
      for (const token of [owner, ada]) {
        assertError(yield* revoke(token, after), { status: 401, tag: "Unauthorized", code: "unauthorized" })
      }
    }).pipe(Effect.scoped))

  it.live("SESS-11 C-03: a session is given a name by a line of text, and by who reaches it alone", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ada = yield* server.token({ subject: "ada", scopes: ["access:read", "access:write"] })
      const bob = yield* server.token({ subject: "bob", scopes: ["access:read", "access:write"] })
      const watcher = yield* server.token({ subject: "ada", scopes: ["access:read"] })
      const [{ id } = { id: "" }] = yield* sessionsOf(server, ada)
      const path = `/api/auth/sessions/${id}`
      const renamed = yield* send(server, ada, "PATCH", path, { label: " Ada’s phone " })
      assert.deepInclude(renamed.json["device"], { label: "Ada’s phone" })
      assert.strictEqual((yield* sessionsOf(server, ada))[0]?.device.label, "Ada’s phone")
      for (const label of ["", " ", "a\u202eb", "a\u200bb", "a\nb", "x".repeat(129), 1, null, undefined]) {
        assertError(yield* send(server, ada, "PATCH", path, { label }), {
          status: 400,
          tag: "InvalidRequest",
          code: "invalid_request"
        })
      }
      assertError(yield* send(server, watcher, "PATCH", path, { label: "x" }), {
        status: 403,
        tag: "Forbidden",
        code: "scope_required"
      })
      for (const [token, of] of [[bob, id], [ada, "unknown"]] as const) {
        assertError(yield* send(server, token, "PATCH", `/api/auth/sessions/${of}`, { label: "mine" }), {
          status: 404,
          tag: "NotFound",
          code: "session_not_found"
        })
      }
      assert.strictEqual((yield* sessionsOf(server, ada))[0]?.device.label, "Ada’s phone")
    }).pipe(Effect.scoped))

  it.live("SESS-17: links and sessions show how long they last, within what the issuer's session does", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* pair(server, yield* server.code())
      const guestLink = yield* link(server, owner, {
        sessionLifetimeSeconds: 600,
        sessionAbsoluteLifetimeSeconds: 86_400
      })
      assert.strictEqual(guestLink.link.sessionLifetimeSeconds, 600)
      const guest = yield* pair(server, guestLink.code)
      const [plain, limited] = yield* sessionsOf(server, owner)
      assert.deepStrictEqual([plain?.lifetimeSeconds, plain?.absoluteExpiresAt], [null, null])
      assert.deepStrictEqual([limited?.lifetimeSeconds, limited?.absoluteExpiresAt], [
        600,
        guestLink.link.sessionEndsAt
      ])
      const further = yield* link(server, guest, { sessionLifetimeSeconds: 315_576_000 })
      assert.deepStrictEqual(
        [further.link.sessionLifetimeSeconds, further.link.sessionEndsAt],
        [600, guestLink.link.sessionEndsAt]
      )
      for (const seconds of [0, -1, 1.5, 315_576_001, "60", null]) {
        for (const name of ["sessionLifetimeSeconds", "sessionAbsoluteLifetimeSeconds"]) {
          assertError(yield* send(server, owner, "POST", "/api/auth/pairing-links", { [name]: seconds }), {
            status: 400,
            tag: "InvalidRequest",
            code: "invalid_request"
          })
        }
      }
    }).pipe(Effect.scoped))
})

describe("a session that asks for more", () => {
  it.live("SESS-18: is refused, asks, and holds with its token what another session grants, which the list and the feed tell", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const owner = yield* server.token()
      const reader = yield* server.token({ scopes: ["runs:read", "access:read"] })
      const lesser = yield* server.token({ scopes: ["access:write", "access:read", "runs:read"] })
      const stranger = yield* server.token({ subject: "bob", scopes: ["access:write", "runs:operate"] })
      const abort = send(server, reader, "POST", "/api/threads/none/abort", {})
      const refusal = (code: string, status = 403, tag = "Forbidden") => ({ status, tag, code })
      assertError(yield* abort, refusal("scope_required"))

      for (const scopes of [[], ["runs"], ["no:scope"], "runs:operate", null, [7]]) {
        assertError(
          yield* send(server, reader, "POST", "/api/auth/session/scopes", { scopes }),
          refusal("invalid_request", 400, "InvalidRequest")
        )
      }
      const asked = yield* send(server, reader, "POST", "/api/auth/session/scopes", {
        scopes: ["runs:read", "runs:operate", "credentials:read"]
      })
      assert.strictEqual(asked.status, 200, asked.text)
      const found = (yield* sessionsOf(server, owner)).find(({ scopeRequest }) => scopeRequest !== null)
      assert.deepStrictEqual(found?.scopes, ["runs:read", "access:read"])
      assert.deepStrictEqual(found?.scopeRequest?.scopes, ["runs:operate", "credentials:read"])
      assertError(yield* abort, refusal("scope_required"))

      const requestedAt = found?.scopeRequest?.requestedAt.toJSON()
      const answer = (token: string, body: object = {}) =>
        send(server, token, "POST", `/api/auth/sessions/${found?.id}/scopes`, {
          requestedAt,
          scopes: ["runs:operate"],
          ...body
        })
      assertError(yield* answer(reader), refusal("scope_required"))
      assertError(yield* answer(lesser), refusal("scope_not_held"))
      assertError(yield* answer(stranger), refusal("session_not_found", 404, "NotFound"))
      for (const body of [{ scopes: ["access:manage"] }, { requestedAt: "2020-01-01T00:00:00.000Z" }]) {
        assertError(yield* answer(owner, body), refusal("scope_request_changed", 409, "Conflict"))
      }
      for (const body of [{ scopes: ["none"] }, { requestedAt: "yesterday" }, { scopes: undefined }]) {
        assertError(yield* answer(owner, body), refusal("invalid_request", 400, "InvalidRequest"))
      }
      assertError(yield* abort, refusal("scope_required"))
      const answers = yield* Effect.all([answer(owner), answer(owner)], { concurrency: 2 })
      assert.deepStrictEqual(answers.map(({ status }) => status).toSorted(), [200, 409])
      assert.notInclude([401, 403], (yield* abort).status)
      const state = yield* send(server, reader, "GET", "/api/auth/session")
      assert.deepInclude(state.json["session"], {
        scopes: ["runs:read", "access:read", "runs:operate"],
        scopeRequest: null
      })
      const { events } = decodeHistory((yield* send(server, reader, "GET", "/api/auth/access/events")).json)
      assert.deepStrictEqual(events.slice(0, 2).map(({ event }) => event), ["sessionUpserted", "sessionUpserted"])

      // A request is turned away by an answer of nothing, and one too many is not taken.
      const again = yield* send(server, reader, "POST", "/api/auth/session/scopes", { scopes: ["credentials:read"] })
      const waiting = (yield* sessionsOf(server, owner)).find(({ scopeRequest }) => scopeRequest !== null)
      assert.strictEqual(again.status, 200, again.text)
      const turned = yield* answer(owner, { scopes: [], requestedAt: waiting?.scopeRequest?.requestedAt.toJSON() })
      assert.strictEqual(turned.status, 200, turned.text)
      assert.deepInclude(turned.json, {
        scopes: ["runs:read", "access:read", "runs:operate"],
        scopeRequest: null
      })
      let last = again
      for (let asking = 0; asking < 9; asking++) {
        last = yield* send(server, reader, "POST", "/api/auth/session/scopes", { scopes: ["credentials:read"] })
      }
      assertError(last, { status: 429, tag: "TooManyRequests", code: "rate_limited", retryable: true })
      assert.isAbove(Number(last.headers["retry-after"]), 0)

      // What has ended neither asks nor is answered, and an approver that was revoked grants nothing.
      const ended = yield* server.token({ scopes: ["runs:read"] })
      yield* send(server, ended, "POST", "/api/auth/session/scopes", { scopes: ["runs:operate"] })
      const gone = (yield* sessionsOf(server, owner)).find(({ scopeRequest }) =>
        scopeRequest?.scopes.includes("runs:operate") === true
      )
      yield* send(server, ended, "POST", "/api/auth/logout")
      assertError(
        yield* send(server, owner, "POST", `/api/auth/sessions/${gone?.id}/scopes`, {
          requestedAt: gone?.scopeRequest?.requestedAt.toJSON(),
          scopes: ["runs:operate"]
        }),
        refusal("session_not_found", 404, "NotFound")
      )
      assertError(
        yield* send(server, ended, "POST", "/api/auth/session/scopes", { scopes: ["runs:operate"] }),
        refusal("unauthorized", 401, "Unauthorized")
      )
    }).pipe(Effect.scoped))
})

describe("what has happened", () => {
  it.live("FEED-04: is read backwards, by kind and by a text, in pages, and of the own subject alone", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ada = yield* server.token({ subject: "ada", scopes: ["access:read", "access:write"] })
      const bob = yield* server.token({ subject: "bob", scopes: ["access:read", "access:write"] })
      const manager = yield* server.token({ subject: "eve", scopes: ["access:read", "access:manage"] })
      for (let index = 0; index < 205; index++) {
        const link = {
          issuedBy: "operator",
          scopes: [],
          subject: "bob",
          label: index === 0 ? "Das Büro" : `${index}`
        } as const
        yield* Effect.orDie(server.links.issue(link))
      }
      yield* link(server, ada, { label: "Laptop" })
      const history = (token: string, query = "") =>
        Effect.map(send(server, token, "GET", `/api/auth/access/events${query}`), ({ json, status }) => {
          assert.strictEqual(status, 200, query)
          return decodeHistory(json)
        })
      const first = yield* history(manager)
      const second = yield* history(manager, `?before=${first.next}`)
      const revisions = [...first.events, ...second.events].map(({ data }) => decodeHead(data).revision)
      assert.deepStrictEqual(revisions, Array.from({ length: 209 }, (_, index) => 209 - index))
      assert.deepStrictEqual([first.events.length, second.next], [200, null])
      assert.notProperty(first, "retentionSeconds", "no sweeper runs here")

      const own = yield* history(ada)
      assert.deepStrictEqual(own.events.map(({ event }) => event), ["pairingLinkUpserted", "sessionUpserted"])
      assert.strictEqual(own.next, null)
      assert.deepStrictEqual((yield* history(ada, "?kind=session")).events.map(({ event }) => event), [
        "sessionUpserted"
      ])
      assert.deepStrictEqual((yield* history(ada, "?kind=credential")).events, [])
      assert.strictEqual((yield* history(bob, "?search=b%C3%BCro")).events.length, 1)
      assert.strictEqual((yield* history(manager, "?search=LAPTOP&kind=pairingLink")).events.length, 1)
      assert.deepStrictEqual((yield* history(ada, "?search=b%C3%BCro")).events, [])
      assert.deepStrictEqual((yield* history(manager, "?before=1")).events, [])
      for (const query of ["?before=x", "?before=-1", "?before=1e3", "?kind=all", "?search=", "?search=%E2%80%AE"]) {
        assert.strictEqual((yield* send(server, ada, "GET", `/api/auth/access/events${query}`)).status, 400, query)
      }
      const runner = yield* server.token({ scopes: ["runs:read"] })
      assert.strictEqual((yield* send(server, runner, "GET", "/api/auth/access/events")).status, 403)
    }).pipe(Effect.scoped))

  it.live("FEED-04: a search looks at a bounded part, and says where to go on", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const ada = yield* server.token({ subject: "ada", scopes: ["access:read", "access:write"] })
      yield* link(server, ada, { label: "needle" })
      for (let index = 0; index < 2_100; index++) {
        yield* Effect.orDie(server.links.issue({ issuedBy: "operator", scopes: [], subject: "bob" }))
      }
      const first = yield* Effect.map(
        send(server, ada, "GET", "/api/auth/access/events?search=needle"),
        ({ json }) => decodeHistory(json)
      )
      assert.deepStrictEqual(first.events, [])
      const second = yield* Effect.map(
        send(server, ada, "GET", `/api/auth/access/events?search=needle&before=${first.next}`),
        ({ json }) => decodeHistory(json)
      )
      assert.deepStrictEqual([second.events.length, second.next], [1, null])
    }).pipe(Effect.scoped))
})
