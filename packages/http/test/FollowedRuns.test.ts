import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { EventSource } from "eventsource"
import { assertError, bearer, eventsOf, type Server, type ServerOptions, start as startServer } from "./support.ts"

interface Seen {
  readonly id: string
  readonly event: string
  readonly data: Record<string, unknown>
}

const names = ["run", "data", "end", "cursor", "failure"]

/** Follows a path with an `EventSource`, which connects again by itself with the last id. */
const follow = (server: Server, token: string, path: string) =>
  Effect.gen(function*() {
    const seen: Array<Seen> = []
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const source = new EventSource(`http://127.0.0.1:${server.port}${path}`, {
          fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...bearer(token) } })
        })
        for (const name of names) {
          source.addEventListener(name, ({ data, lastEventId }: MessageEvent<string>) => {
            seen.push({ id: lastEventId, event: name, data: JSON.parse(data) })
          })
        }
        return source
      }),
      (source) => Effect.sync(() => source.close())
    )
    return seen
  })

const until = (condition: () => boolean) => Effect.repeat(Effect.sleep("2 millis"), { until: condition })

describe.each([["written to the connection", true], ["through a stream", false]])("%s", (_, directly) => {
  const start = (options: ServerOptions = {}) => startServer({ ...options, directly })

  describe("following many runs", () => {
    it.live("RUN-23 RUN-18: all runs of a session, and those of a thread, come on one connection, also over cuts", () =>
      Effect.gen(function*() {
        const server = yield* start({ runs: { pageSize: 3 } })
        const [ada, bob] = [yield* server.token({ subject: "ada" }), yield* server.token({ subject: "bob" })]
        const begin = (threadId: string, key: string, subject = "ada") =>
          Effect.map(
            server.log.start({ threadId, idempotencyKey: key, request: null, owner: { subject } }),
            ({ run }) => run
          )
        const first = yield* begin("a", "1")
        const theirs = yield* begin("a", "1", "bob")
        yield* server.log.append({ ...first, events: [{ n: 1 }, "two"] })
        yield* server.log.append({ ...theirs, events: ["theirs"] })
        const all = yield* follow(server, ada, "/api/runs/events")
        const thread = yield* follow(server, ada, "/api/threads/a/events")
        const latest = yield* follow(server, ada, "/api/runs/events?after=latest")
        const bobs = yield* follow(server, bob, "/api/runs/events")
        yield* until(() => all.length === 3 && thread.length === 3 && latest.length === 1 && bobs.length === 2)
        assert.deepStrictEqual(all.map(({ data, event }) => [event, data["runId"], data["seq"], data["data"]]), [
          ["run", first.runId, undefined, undefined],
          ["data", first.runId, 1, { n: 1 }],
          ["data", first.runId, 2, "two"]
        ])
        assert.deepInclude(all[0]?.data, { status: "running", threadId: "a", idempotencyKey: "1" })
        assert.deepStrictEqual(latest[0]?.event, "cursor")
        assert.deepStrictEqual(latest[0]?.data, { cursor: latest[0]?.id })

        yield* server.cut
        const other = yield* begin("b", "2")
        yield* server.log.append({ ...other, events: ["other"] })
        yield* server.log.finish({ ...first, end: { status: "succeeded", result: 1 } })
        const second = yield* begin("a", "3")
        yield* server.log.append({ ...second, events: ["next"] })
        yield* until(() => all.length === 8 && thread.length === 6 && latest.length === 6)
        const parts = (seen: ReadonlyArray<Seen>, runId: string) =>
          seen.filter(({ data }) => data["runId"] === runId).map((
            { data, event }
          ) => [event, data["data"] ?? data["end"]])
        assert.deepStrictEqual(parts(all, other.runId), [["run", undefined], ["data", "other"]])
        assert.deepStrictEqual(thread.map(({ data, event }) => [data["runId"], event]), [
          [first.runId, "run"],
          [first.runId, "data"],
          [first.runId, "data"],
          [first.runId, "end"],
          [second.runId, "run"],
          [second.runId, "data"]
        ])
        assert.deepStrictEqual(thread[3]?.data, {
          runId: first.runId,
          threadId: "a",
          seq: 3,
          end: { status: "succeeded", result: 1 }
        })
        assert.deepStrictEqual(parts(latest, first.runId), [["end", { status: "succeeded", result: 1 }]])
        assert.deepStrictEqual(bobs.map(({ data, event }) => [data["runId"], event]), [
          [theirs.runId, "run"],
          [theirs.runId, "data"]
        ])
      }).pipe(Effect.scoped))

    it.live("RUN-23 RUN-11: a thread that is not the session's, and each kind of bad cursor, has its own answer", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const [ada, bob] = [yield* server.token({ subject: "ada" }), yield* server.token({ subject: "bob" })]
        yield* server.log.start({ threadId: "a", idempotencyKey: "1", request: null, owner: { subject: "ada" } })
        const ask = (path: string, token: string, cursor?: string) =>
          server.send({
            path,
            headers: { ...bearer(token), ...(cursor === undefined ? {} : { "last-event-id": cursor }) }
          })
        const noThread = { status: 404, tag: "NotFound", code: "thread_not_found" }
        assertError(yield* ask("/api/threads/a/events", bob), noThread)
        assertError(yield* ask("/api/threads/b/events", ada), noThread)
        for (const path of ["/api/threads/a/events", "/api/runs/events"]) {
          for (const cursor of ["x", "-1", "1", "o1-", "o1-2.3", "t1-2.3", "t1.1", "a".repeat(16_000)]) {
            assertError(yield* ask(path, ada, cursor), { status: 400, tag: "InvalidRequest", code: "malformed_cursor" })
          }
          const beyond = { status: 409, tag: "Conflict", code: "cursor_beyond_end" }
          assertError(yield* ask(path, ada, path.includes("threads") ? "tzzzzzzzz0" : "ozzzzzzzz0"), beyond)
          const expired = { status: 410, tag: "Gone", code: "cursor_expired" }
          assertError(yield* ask(path, ada, path.includes("threads") ? "t2-1.1" : "o2-1.1"), expired)
        }
        // A stream of one run also begins with what comes next, and tells its position.
        const [run] = yield* server.log.list({ owner: { subject: "ada" } })
        if (run === undefined) return
        yield* server.log.append({ ...run, events: [1, 2, 3] })
        const seen = yield* follow(server, ada, `/api/runs/${run.runId}/events?after=latest`)
        yield* until(() => seen.length === 1)
        yield* server.cut
        yield* server.log.append({ ...run, events: [4] })
        yield* until(() => seen.length === 2)
        assert.deepStrictEqual(seen, [
          { id: "3", event: "cursor", data: { cursor: "3" } },
          { id: "4", event: "data", data: JSON.parse("4") }
        ])

        // Once it was compacted, an id says for which events its event stands, and a cursor within it has expired.
        yield* server.log.finish({ ...run, end: { status: "succeeded" } })
        yield* server.log.compact({ runId: run.runId, events: [{ seq: 3, data: "1-3" }, { seq: 4, data: "4" }] })
        const path = `/api/runs/${run.runId}/events`
        const idsAfter = (cursor?: string) =>
          Effect.map(ask(path, ada, cursor), ({ status, text }) => [status, eventsOf(text).map(({ id }) => id)])
        assert.deepStrictEqual(yield* idsAfter(), [200, ["1-3", "4", "5"]])
        assert.deepStrictEqual(yield* idsAfter("1-3"), [200, ["4", "5"]])
        assert.deepStrictEqual(yield* idsAfter("3"), [200, ["4", "5"]])
        assertError(yield* ask(path, ada, "2"), { status: 410, tag: "Gone", code: "cursor_expired" })
        for (const cursor of ["1-", "-3", "0-3", "1-2-3", "01-3", "1-03"]) {
          assertError(yield* ask(path, ada, cursor), { status: 400, tag: "InvalidRequest", code: "malformed_cursor" })
        }
        const followed = yield* follow(server, ada, "/api/threads/a/events")
        yield* until(() => followed.length === 4)
        assert.deepStrictEqual(followed.map(({ data }) => [data["firstSeq"], data["seq"]]), [
          [undefined, undefined],
          [1, 3],
          [undefined, 4],
          [undefined, 5]
        ])
      }).pipe(Effect.scoped))
  })
})
