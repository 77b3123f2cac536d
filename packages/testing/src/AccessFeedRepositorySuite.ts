/**
 * States what every `AccessFeedRepository` must do, and what the repositories that write the feed owe it together. An
 * adapter's test file is a single call of `suite`.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe } from "@effect/vitest"
import type { AccessEvent } from "@sallyport/core/access/AccessEvent"
import { SessionId } from "@sallyport/core/access/Session"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { allEvents, at, brief, linkRow, redemption, sessionRow, start } from "./internal/accessRows.ts"
import { replay, upTo } from "./internal/feedReplay.ts"
import { testOn, times } from "./internal/newStore.ts"

/** Mixes the writes of both repositories on a few rows, so that they get in each other's way. */
const write = Effect.fnUntraced(function*(index: number) {
  const links = (yield* AccessRepository).links
  const sessions = (yield* AccessRepository).sessions
  const row = Math.floor(index / 8) % 8
  const id = SessionId.make(`session-${row}`)
  switch (index % 8) {
    case 0:
      return yield* links.insert(linkRow(`link-${row}`, { remainingUses: 3 }), at(index))
    case 1:
      // An id is inserted once; what comes later finds it live, revoked or swept.
      return yield* index < 64
        ? sessions.insert(sessionRow(id, { subject: row % 2 === 0 ? "ada" : "bob" }), at(index))
        : sessions.findById(id)
    case 2:
    case 3:
      return yield* links.redeem(redemption(`link-${row}`, { subject: row % 2 === 0 ? "ada" : "bob" }), at(index))
    case 4:
      return yield* sessions.renew({ id, dueBeforeMillis: start + index, lifetimeMillis: 10_000 }, at(index))
    case 5:
      return yield* links.revoke(`link-${row}`, at(index))
    case 6:
      return yield* row < 3
        ? sessions.revoke({ _tag: "Subject", subject: row % 2 === 0 ? "ada" : "bob" }, at(index))
        : sessions.revoke({ _tag: "Session", id }, at(index))
    default:
      return yield* row % 2 === 0
        ? links.sweep({ endedBeforeMillis: start + index, limit: 2 }, at(index))
        : sessions.sweep({ endedBeforeMillis: start + index, limit: 2 }, at(index))
  }
})

/**
 * Runs the contract tests of `AccessFeedRepository` against a layer. `name` tells adapters apart in the report.
 *
 * The layer must be a new, empty store each time that it is built, and provide the repositories that write the feed.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(
  name: string,
  layer: Layer.Layer<AccessRepository, E>
): void => {
  describe(`AccessFeedRepository (${name})`, () => {
    const test = testOn(layer)

    test(
      "FEED-04: readBefore gives the events before a revision, the newest first, and none that was swept",
      Effect.gen(function*() {
        const { feed, links } = yield* AccessRepository
        for (let index = 0; index < 6; index++) yield* links.insert(linkRow(`link-${index}`), at(index))
        const before = (revision: number, limit = 100) =>
          Effect.map(feed.readBefore({ before: revision, limit }), (events) => events.map((event) => event.revision))
        assert.deepStrictEqual(yield* before(Number.MAX_SAFE_INTEGER), [6, 5, 4, 3, 2, 1])
        assert.deepStrictEqual(yield* before(5, 2), [4, 3])
        assert.deepStrictEqual([yield* before(1), yield* before(0), yield* before(7, 1)], [[], [], [6]])
        const [newest] = yield* feed.readBefore({ before: 7, limit: 1 })
        assert.deepStrictEqual(newest, (yield* allEvents).at(-1))
        yield* feed.sweep({ endedBeforeMillis: start + 2, limit: 100 })
        assert.deepStrictEqual(yield* before(100), [6, 5, 4, 3])
      })
    )

    test(
      "begins empty, at revision 0",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        assert.strictEqual(yield* feed.latestRevision, 0)
        assert.deepStrictEqual(yield* feed.read({ after: 0, limit: 10 }), [])
      })
    )

    test(
      "counts the changes of all repositories from 1, with who made them and when",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        const sessions = (yield* AccessRepository).sessions
        yield* links.insert(linkRow("link"), at(1, "operator"))
        yield* sessions.insert(sessionRow("session"), at(2, "ada"))
        const redeemed = redemption("link", { subject: "bob" })
        yield* links.redeem(redeemed, at(3, `Zoë's "phone" 📱`))
        yield* sessions.revoke({ _tag: "Subject", subject: "ada" }, at(4, "system"))
        assert.strictEqual(yield* feed.latestRevision, 5)
        const events = yield* feed.read({ after: 0, limit: 100 })
        assert.deepStrictEqual(
          events.map((event) => [event.revision, brief(event), event.actor, event.at.epochMilliseconds - start]),
          [
            [1, "pairingLinkUpserted link 1", "operator", 1],
            [2, "sessionUpserted session", "ada", 2],
            [3, "pairingLinkRemoved link consumed", `Zoë's "phone" 📱`, 3],
            [4, `sessionUpserted ${redeemed.session.id}`, `Zoë's "phone" 📱`, 3],
            [5, "sessionRemoved session revoked", "system", 4]
          ]
        )
      })
    )

    test(
      "reads what follows a revision, oldest first, at most as many as asked",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        for (const n of upTo(25)) yield* links.insert(linkRow(`link-${n}`), at(n))
        const revisions = (after: number, limit: number) =>
          Effect.map(feed.read({ after, limit }), (events) => events.map((event) => event.revision))
        assert.deepStrictEqual(yield* revisions(0, 3), [1, 2, 3])
        assert.deepStrictEqual(yield* revisions(22, 3), [23, 24, 25])
        assert.deepStrictEqual(yield* revisions(23, 3), [24, 25])
        assert.deepStrictEqual(yield* revisions(25, 3), [])
        assert.deepStrictEqual(yield* revisions(1_000, 3), [])
        assert.deepStrictEqual(yield* revisions(5, 0), [])
        assert.deepStrictEqual(yield* revisions(0, 1_000), upTo(25))
      })
    )

    test(
      "a storm of changes leaves no gap, shows none to a reader meanwhile, and leads to the state that is stored",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        const sessions = (yield* AccessRepository).sessions
        const finished = yield* Deferred.make<void>()
        const reader = yield* Effect.gen(function*() {
          const seen: Array<AccessEvent> = []
          while (true) {
            const last = yield* Deferred.isDone(finished)
            const latest = yield* feed.latestRevision
            const events = yield* feed.read({ after: seen.length, limit: 7 })
            // Everything up to a revision that was told is there to be read, and nothing comes in out of order.
            assert.isAtLeast(seen.length + events.length, Math.min(latest, seen.length + 7))
            assert.deepStrictEqual(events.map((event) => event.revision), events.map((_, i) => seen.length + i + 1))
            seen.push(...events)
            if (last && events.length === 0) return seen
            yield* Effect.yieldNow
          }
        }).pipe(Effect.forkChild)
        yield* times(320, write)
        yield* Deferred.succeed(finished, void 0)
        const seen = yield* Fiber.join(reader)

        assert.deepStrictEqual(seen, yield* allEvents)
        assert.strictEqual(yield* feed.latestRevision, seen.length)
        assert.isAbove(seen.length, 16)
        const state = replay(seen.map(({ change }) => change))
        const storedLinks = yield* links.list({ nowMillis: start, limit: 100 })
        const storedSessions = yield* sessions.list({ nowMillis: start, afterId: undefined, limit: 100 })
        assert.deepStrictEqual(
          Array.from(state.links.values(), (link) => [link.id, link.remainingUses] as const).toSorted(),
          storedLinks.map((row) => [row.id, row.remainingUses] as const).toSorted()
        )
        assert.deepStrictEqual(
          Array.from(state.sessions.values(), ({ expiresAt, id }) => [id, expiresAt.epochMilliseconds] as const)
            .toSorted(),
          storedSessions.map((row) => [row.id, row.expiresAtMillis] as const)
        )
        assert.notInclude(JSON.stringify(seen), "digest")
      })
    )

    test(
      "OPS-09: deletes the oldest events up to the first that is kept, some at a time, and counts on",
      Effect.gen(function*() {
        const { feed, links } = yield* AccessRepository
        // The clock of the sixth was behind.
        const millis = [1, 2, 3, 4, 9, 1, 7]
        for (const [index, n] of millis.entries()) yield* links.insert(linkRow(`link-${index}`), at(n))
        const state = Effect.all([
          feed.oldestRevision,
          feed.latestRevision,
          Effect.map(feed.read({ after: 0, limit: 100 }), (events) => events.map(({ revision }) => revision))
        ])
        assert.deepStrictEqual(yield* state, [1, 7, upTo(7)])
        const sweep = (before: number, limit = 3) => feed.sweep({ endedBeforeMillis: start + before, limit })
        assert.strictEqual(yield* sweep(1), 0)
        assert.strictEqual(yield* sweep(5), 3)
        assert.deepStrictEqual(yield* state, [4, 7, [4, 5, 6, 7]])
        assert.strictEqual(yield* sweep(5), 1)
        assert.strictEqual(yield* sweep(5), 0)
        assert.deepStrictEqual(yield* state, [5, 7, [5, 6, 7]])
        assert.strictEqual((yield* feed.snapshot({ nowMillis: start })).revision, 7)
        assert.strictEqual(yield* sweep(100, 100), 3)
        assert.deepStrictEqual(yield* state, [8, 7, []])
        assert.deepStrictEqual(yield* feed.read({ after: 7, limit: 1 }), [])
        yield* links.insert(linkRow("next"), at(8))
        assert.deepStrictEqual(yield* state, [8, 8, [8]])
      })
    )

    test(
      "OPS-09: of sweepers at once each event is counted by one",
      Effect.gen(function*() {
        const { feed, links } = yield* AccessRepository
        for (const n of upTo(40)) yield* links.insert(linkRow(`link-${n}`), at(n))
        let swept = 0
        // One that comes second to the same events deletes none, and leaves the rest to the first.
        yield* times(8, () =>
          feed.sweep({ endedBeforeMillis: start + 31, limit: 4 }).pipe(
            Effect.tap((count) =>
              Effect.sync(() => {
                swept += count
              })
            ),
            Effect.repeat({ while: (count) => count > 0 })
          ))
        assert.deepStrictEqual([swept, yield* feed.oldestRevision], [30, 31])
        assert.strictEqual(yield* feed.latestRevision, 40)
      })
    )

    test(
      "FEED-01: a snapshot shows what is live at a time, with the revision that shows it",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        const sessions = (yield* AccessRepository).sessions
        const empty = yield* feed.snapshot({ nowMillis: start })
        assert.deepInclude(empty, { revision: 0, pairingLinks: [], sessions: [] })
        yield* links.insert(linkRow("used"), at(1))
        yield* links.insert(linkRow("revoked"), at(2))
        yield* links.insert(linkRow("short", { expiresAtMillis: start + 10 }), at(3))
        yield* links.insert(linkRow("older", { remainingUses: 2 }), at(4))
        yield* links.insert(linkRow("newer", { createdAtMillis: start + 5 }), at(5))
        const use = (id: string) => links.redeem(redemption(id, { expiresAtMillis: start + 10 }), at(6))
        yield* use("used")
        yield* use("older")
        yield* links.revoke("revoked", at(7))
        yield* sessions.insert(sessionRow("b"), at(8))
        yield* sessions.insert(sessionRow("a"), at(9))
        yield* sessions.insert(sessionRow("ended"), at(9))
        yield* sessions.revoke({ _tag: "Session", id: SessionId.make("ended") }, at(9))
        const snapshot = yield* feed.snapshot({ nowMillis: start + 10 })
        assert.strictEqual(snapshot.revision, yield* feed.latestRevision)
        assert.deepStrictEqual(snapshot.pairingLinks.map(({ id, remainingUses }) => [id, remainingUses]), [
          ["newer", 1],
          ["older", 1]
        ])
        assert.deepStrictEqual(snapshot.sessions.map(({ id }): string => id), ["a", "b"])
        const upserted = (yield* allEvents).flatMap(({ change }) =>
          change._tag === "sessionUpserted" && change.session.id === "a" ? [change.session] : []
        )
        assert.deepStrictEqual([snapshot.sessions[0]], upserted)
        assert.notInclude(JSON.stringify(snapshot), "digest")
        assert.deepStrictEqual((yield* feed.snapshot({ nowMillis: start + 10_000 })).sessions, [])
      })
    )

    test(
      "FEED-01: a snapshot of more than a page is whole, and in order",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        const sessions = (yield* AccessRepository).sessions
        const ids = Array.from({ length: 600 }, (_, index) => String(index).padStart(4, "0"))
        yield* Effect.forEach(ids, (id) => links.insert(linkRow(id), at(0)), { concurrency: 8 })
        yield* Effect.forEach(ids, (id) => sessions.insert(sessionRow(id), at(0)), { concurrency: 8 })
        const snapshot = yield* feed.snapshot({ nowMillis: start })
        assert.deepStrictEqual(snapshot.pairingLinks.map(({ id }) => id), ids.toReversed())
        assert.deepStrictEqual(snapshot.sessions.map(({ id }): string => id), ids)
      })
    )

    test(
      "hints when it listens, and after each change",
      Effect.gen(function*() {
        const feed = (yield* AccessRepository).feed
        const links = (yield* AccessRepository).links
        const hints = yield* Queue.unbounded<void>()
        yield* Effect.forkChild(Effect.orDie(Stream.runForEach(feed.wakeups, () => Queue.offer(hints, undefined))))
        yield* Queue.take(hints)
        for (const n of upTo(3)) {
          yield* Queue.clear(hints)
          yield* links.insert(linkRow(`link-${n}`), at(n))
          yield* Queue.take(hints)
        }
      })
    )
  })
}
