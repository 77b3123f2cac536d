/**
 * States what the access feed gives its readers on whichever repositories. An adapter's test file is a single call of
 * `suite`.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe } from "@effect/vitest"
import type { AccessChange } from "@sallyport/core/access/AccessEvent"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import type { AccessSnapshot } from "@sallyport/core/access/AccessFeedRepository"
import { SessionId } from "@sallyport/core/access/Session"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { allEvents, at, linkRow, sessionRow } from "./internal/accessRows.ts"
import { replay, upTo } from "./internal/feedReplay.ts"
import { testOn, times } from "./internal/newStore.ts"

/** Rows of the suite end in the past of the system's clock; these are live for a caller that asks now. */
const far = { expiresAtMillis: 4_000_000_000_000 }

const issueLink = (id: string) => AccessRepository.use(({ links }) => links.insert(linkRow(id, far), at(0)))
const revokeLink = (id: string) => AccessRepository.use(({ links }) => links.revoke(id, at(1)))
const openSession = (id: string) => AccessRepository.use(({ sessions }) => sessions.insert(sessionRow(id, far), at(0)))
const endSession = (id: string) =>
  AccessRepository.use(({ sessions }) => sessions.revoke({ _tag: "Session", id: SessionId.make(id) }, at(1)))

/** Runs a stream in the background and returns what it gives as it comes. */
const collect = <A, E, R>(stream: Stream.Stream<A, E, R>): Effect.Effect<Queue.Dequeue<A>, never, R | Scope.Scope> =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<A>()
    yield* Effect.forkScoped(Effect.orDie(Stream.runForEach(stream, (value) => Queue.offer(queue, value))))
    return queue
  })

const revisionOf = (message: AccessFeed.AccessFeedMessage) =>
  message._tag === "Snapshot"
    ? message.snapshot.revision
    : message._tag === "Advanced"
    ? message.revision
    : message.event.revision

/** Applies messages as a client does, and returns the ids that it shows. */
const stateAfter = (messages: ReadonlyArray<AccessFeed.AccessFeedMessage>) => {
  const { links, sessions } = replay(messages.flatMap((message): ReadonlyArray<AccessChange> => {
    switch (message._tag) {
      case "Snapshot":
        return [
          ...message.snapshot.pairingLinks.map((link) => ({ _tag: "pairingLinkUpserted", link }) as const),
          ...message.snapshot.sessions.map((session) => ({ _tag: "sessionUpserted", session }) as const)
        ]
      case "Change":
        return [message.event.change]
      case "Advanced":
        return []
    }
  }))
  return { links: Array.from(links.keys()).sort(), sessions: Array.from(sessions.keys()).sort() }
}

const idsOf = (snapshot: AccessSnapshot) => ({
  links: snapshot.pairingLinks.map(({ id }) => id).sort(),
  sessions: snapshot.sessions.map(({ id }): string => id)
})

/**
 * Runs the tests of `AccessFeed` on a layer of repositories. `name` tells adapters apart in the report.
 *
 * The layer must be a new, empty store each time that it is built.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, repositories: Layer.Layer<AccessRepository, E>): void => {
  describe(`AccessFeed (${name})`, () => {
    // So slow to look by itself that whatever arrives was hinted at.
    const layer = AccessFeed.layerWith({ pageSize: 7, maxReplay: 100, pollInterval: "1 hour" })
    const scoped = testOn(Layer.provideMerge(layer, repositories))
    const test = <A, E2>(
      title: string,
      program: Effect.Effect<A, E2, AccessRepository | AccessFeed.AccessFeed | Scope.Scope>
    ) => scoped(title, Effect.scoped(program))

    test(
      "FEED-01: replays what follows a revision in pages, then follows, without a gap or a repeat",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        yield* times(20, (index) => issueLink(`early-${index}`))
        const events = yield* collect(feed.events({ after: 3 }))
        yield* times(20, (index) => issueLink(`late-${index}`))
        const revisions = yield* Effect.forEach(
          Array.from({ length: 37 }),
          () => Effect.map(Queue.take(events), ({ revision }) => revision)
        )
        assert.deepStrictEqual(revisions, Array.from({ length: 37 }, (_, index) => index + 4))
        yield* revokeLink("late-3")
        assert.strictEqual((yield* Queue.take(events)).revision, 41)
      })
    )

    test(
      "FEED-01 L-42: a subscriber that comes in the middle of a storm has a snapshot and every later change",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        const storm = yield* Effect.forkChild(times(40, (index) =>
          Effect.gen(function*() {
            yield* issueLink(`link-${index}`)
            yield* openSession(`session-${index}`)
            if (index % 2 === 0) yield* revokeLink(`link-${index}`)
            if (index % 3 === 0) yield* endSession(`session-${index}`)
          })))
        const subscribers = yield* Effect.forEach(
          Array.from({ length: 5 }),
          () => Effect.tap(collect(feed.subscribe()), Effect.yieldNow)
        )
        yield* Fiber.join(storm)
        const all = yield* allEvents
        const end = idsOf(yield* feed.snapshot)
        assert.strictEqual(end.links.length, 20)
        for (const subscriber of subscribers) {
          const messages = [yield* Queue.take(subscriber)]
          let last = revisionOf(messages[0] ?? (yield* Effect.die("no snapshot")))
          assert.strictEqual(messages[0]?._tag, "Snapshot")
          while (last < all.length) {
            const message = yield* Queue.take(subscriber)
            assert.strictEqual(revisionOf(message), ++last)
            messages.push(message)
          }
          assert.deepStrictEqual(stateAfter(messages), end)
        }
      })
    )

    test(
      "FEED-01: each snapshot of a storm is what the events up to its revision lead to",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        const storm = yield* Effect.forkChild(times(60, (index) =>
          Effect.gen(function*() {
            yield* openSession(`session-${index}`)
            yield* issueLink(`link-${index}`)
            yield* endSession(`session-${index - 3}`)
          })))
        const snapshots: Array<AccessSnapshot> = []
        while (storm.pollUnsafe() === undefined) {
          snapshots.push(yield* feed.snapshot)
          yield* Effect.yieldNow
        }
        yield* Fiber.join(storm)
        snapshots.push(yield* feed.snapshot)
        const all = yield* allEvents
        for (const snapshot of snapshots) {
          const messages = all.slice(0, snapshot.revision).map((event) => ({ _tag: "Change", event }) as const)
          assert.deepStrictEqual(idsOf(snapshot), stateAfter(messages))
        }
      })
    )

    test(
      "FEED-01: goes on from a revision over a reconnect; a snapshot comes first if it is unknown or far behind",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        yield* times(120, (index) => issueLink(`link-${index}`))
        const first = (after: number) =>
          Effect.map(
            Stream.runHead(feed.subscribe({ after })),
            (message) => message._tag === "Some" ? [message.value._tag, revisionOf(message.value)] : []
          )
        assert.deepStrictEqual(yield* first(110), ["Change", 111])
        assert.deepStrictEqual(yield* first(20), ["Change", 21])
        assert.deepStrictEqual(yield* first(19), ["Snapshot", 120])
        assert.deepStrictEqual(yield* first(121), ["Snapshot", 120])
        const ahead = yield* Effect.flip(Stream.runDrain(feed.events({ after: 121 })))
        assert.strictEqual(ahead.reason._tag, "RevisionUnknown")
        // A subscriber at the end hears of the next change only.
        const tail = yield* collect(feed.subscribe({ after: 120 }))
        yield* issueLink("next")
        assert.strictEqual(revisionOf(yield* Queue.take(tail)), 121)
      })
    )

    const forget = (before: number) =>
      AccessRepository.use(({ feed }) => feed.sweep({ endedBeforeMillis: before, limit: 1_000 }))

    test(
      "OPS-09: a cursor older than what is kept gets a snapshot, and a reader of events is told",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        yield* times(10, (index) => issueLink(`link-${index}`))
        yield* revokeLink("link-3")
        yield* forget(Number.MAX_SAFE_INTEGER)
        yield* issueLink("kept")
        const first = (after: number) =>
          Effect.map(
            Stream.runHead(feed.subscribe({ after })),
            (message) => message._tag === "Some" ? [message.value._tag, revisionOf(message.value)] : []
          )
        assert.deepStrictEqual(yield* first(11), ["Change", 12])
        for (const after of [0, 5, 10]) {
          assert.deepStrictEqual(yield* first(after), ["Snapshot", 12])
          const { reason } = yield* Effect.flip(Stream.runDrain(feed.events({ after })))
          assert.strictEqual(reason._tag, "RevisionExpired")
        }
      })
    )

    test(
      "OPS-09: a reader that rests until what follows is gone gets another snapshot, and every later change",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        yield* times(20, (index) => issueLink(`early-${index}`))
        const messages: Array<AccessFeed.AccessFeedMessage> = []
        let rested = false
        yield* feed.subscribe({ after: 0 }).pipe(
          Stream.takeUntil((message) => revisionOf(message) === 45),
          Stream.runForEach((message) =>
            Effect.gen(function*() {
              messages.push(message)
              if (revisionOf(message) === 42) yield* times(3, (index) => issueLink(`last-${index}`))
              if (rested) return
              rested = true
              yield* times(20, (index) => issueLink(`late-${index}`))
              yield* endSession("none")
              yield* forget(Number.MAX_SAFE_INTEGER)
              yield* times(2, (index) => issueLink(`kept-${index}`))
            })
          )
        )
        const seen = messages.map((message) => [message._tag, revisionOf(message)])
        const again = seen.findIndex(([tag]) => tag === "Snapshot")
        assert.deepStrictEqual(seen.slice(0, again), upTo(again).map((n) => ["Change", n]))
        assert.deepStrictEqual(seen.slice(again), [["Snapshot", 42], ["Change", 43], ["Change", 44], ["Change", 45]])
        assert.deepStrictEqual(stateAfter(messages.slice(again)), idsOf(yield* feed.snapshot))
      })
    )

    test(
      "a reader that takes nothing holds up no other reader, and reads on from where it is",
      Effect.gen(function*() {
        const feed = yield* AccessFeed.AccessFeed
        yield* issueLink("first")
        const seen: Array<number> = []
        const reading = yield* Effect.forkChild(
          feed.events({ after: 0 }).pipe(
            Stream.take(31),
            Stream.runForEach(({ revision }) =>
              Effect.suspend(() => {
                seen.push(revision)
                // While this one handles an event the store goes on.
                return revision === 1 ? times(30, (index) => issueLink(`link-${index}`)) : Effect.void
              })
            )
          )
        )
        yield* Fiber.join(reading)
        assert.deepStrictEqual(seen, Array.from({ length: 31 }, (_, index) => index + 1))
      })
    )
  })
}
