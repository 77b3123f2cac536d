/**
 * The session cache and the access feed: what another process does is heard of, and where nothing can be heard the row is
 * read.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { Environment, Probe, takeCalls } from "./accessSupport.ts"

/** Lets a test fail, silence and count what the service asks of the feed. */
class Feed extends Context.Service<Feed, {
  reads: number
  failing: boolean
  /** Drops the hints without a failure, as a connection does whose peer has vanished. */
  silent: boolean
  /** Keeps those who listen waiting for three seconds, and then fails them. */
  hanging: boolean
  /** Fails those who listen now; those who come later fail while `failing`. */
  lose: Effect.Effect<void>
}>()("@sallyport/core/test/Feed") {}

const broken = new RepositoryError({
  operation: "wakeups",
  reason: "Unavailable",
  outcome: "unchanged",
  cause: new Error("the connection is gone")
})

const ControlledFeed = Layer.effectContext(
  Effect.gen(function*() {
    const store = yield* AccessRepository
    const real = store.feed
    const losers = new Set<() => void>()
    const feed = Feed.of({
      reads: 0,
      failing: false,
      silent: false,
      hanging: false,
      lose: Effect.sync(() => losers.forEach((fail) => fail()))
    })
    const lost = Effect.callback<never, RepositoryError>((resume) => {
      const fail = () => resume(Effect.fail(broken))
      losers.add(fail)
      return Effect.sync(() => losers.delete(fail))
    })
    const asked = <A>(effect: Effect.Effect<A, RepositoryError>) =>
      Effect.suspend((): Effect.Effect<A, RepositoryError> => {
        feed.reads++
        return feed.failing ? Effect.fail(broken) : effect
      })
    return Context.make(Feed, feed).pipe(
      Context.add(
        AccessRepository,
        AccessRepository.of({
          ...store,
          feed: {
            ...real,
            latestRevision: asked(real.latestRevision),
            read: (options) => asked(real.read(options)),
            wakeups: Stream.suspend(() => {
              if (feed.failing) return Stream.fail(broken)
              if (feed.hanging) return Stream.fromEffect(Effect.andThen(Effect.sleep("3 seconds"), Effect.fail(broken)))
              return real.wakeups
            }).pipe(
              Stream.filter(() => !feed.silent),
              Stream.interruptWhen(lost)
            )
          }
        })
      )
    )
  })
)

const layer = SessionCredentialService.layerWith({ recheckInterval: "1 hour" }).pipe(
  Layer.provideMerge(ControlledFeed),
  Layer.provideMerge(Environment)
)

const Sessions = SessionCredentialService.SessionCredentialService

const bearer = (subject = "ada") =>
  Sessions.use((sessions) => sessions.issue({ subject, scopes: ["runs:read"], method: "bearer-access-token" }))

const verdict = (token: Effect.Success<ReturnType<typeof bearer>>["token"]) =>
  Sessions.use((sessions) =>
    Effect.match(sessions.verify(token), {
      onFailure: ({ reason }) => reason._tag === "SessionRefused" ? reason.problem : reason._tag,
      onSuccess: () => "let in"
    })
  )

/** Revokes as another process does: in the store, past this process's service. */
const revokeElsewhere = (session: Effect.Success<ReturnType<typeof bearer>>["session"]) =>
  AccessRepository.use(({ sessions: repository }) =>
    Effect.flatMap(
      Clock.currentTimeMillis,
      (nowMillis) => repository.revoke({ _tag: "Session", id: session.id }, { actor: "operator", nowMillis })
    )
  )

const settle = TestClock.adjust(0)

describe("the session cache and the access feed", () => {
  it.effect("SESS-05 FEED-02: a revocation by another process is refused as soon as the feed tells of it", () =>
    Effect.gen(function*() {
      const { session, token } = yield* bearer()
      assert.strictEqual(yield* verdict(token), "let in")
      yield* revokeElsewhere(session)
      yield* settle
      assert.strictEqual(yield* verdict(token), "revoked")
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-08 FEED-02: a stream ends as soon as the feed tells of the end of its session", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session } = yield* bearer()
      const other = yield* bearer("bob")
      const stream = yield* Effect.forkChild(Stream.runDrain(Stream.never.pipe(sessions.whileValid(session))))
      const others = yield* Effect.forkChild(sessions.awaitEnd(other.session))
      yield* settle
      yield* revokeElsewhere(session)
      yield* settle
      yield* Fiber.join(stream)
      assert.isUndefined(others.pollUnsafe())
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-06: a token seen before asks neither the sessions nor the feed", () =>
    Effect.gen(function*() {
      const feed = yield* Feed
      const { token } = yield* bearer()
      yield* verdict(token)
      yield* settle
      yield* takeCalls
      feed.reads = 0
      for (let repeat = 0; repeat < 100; repeat++) assert.strictEqual(yield* verdict(token), "let in")
      assert.deepStrictEqual(yield* takeCalls, {})
      assert.strictEqual(feed.reads, 0)
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-18: scopes that another process has granted hold here at once, with the token that was seen before", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const elsewhere = yield* SessionCredentialService.make({})
      const { session, token } = yield* bearer()
      yield* verdict(token)
      yield* settle
      assert.deepStrictEqual((yield* sessions.verify(token)).scopes, session.scopes)
      const { scopeRequest } = yield* elsewhere.requestScopes(session, ["runs:operate"])
      const requestedAt = scopeRequest?.requestedAt ?? assert.fail("no request")
      yield* elsewhere.answerScopes({ id: session.id, requestedAt, scopes: ["runs:operate"] }, "operator")
      yield* settle
      assert.deepStrictEqual((yield* sessions.verify(token)).scopes, [...session.scopes, "runs:operate"])
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05: many sessions share one look at the feed, and their rows are left alone", () =>
    Effect.gen(function*() {
      const feed = yield* Feed
      const tokens = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.map(bearer(), ({ token }) => token))
      yield* Effect.forEach(tokens, verdict)
      yield* TestClock.adjust("1 minute")
      yield* takeCalls
      feed.reads = 0
      const verdicts = yield* Effect.forEach(tokens, verdict, { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(verdicts), new Set(["let in"]))
      assert.deepStrictEqual(yield* takeCalls, {})
      assert.strictEqual(feed.reads, 1)
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05: when the feed's hints are lost, each verify reads the row until they are back", () =>
    Effect.gen(function*() {
      const feed = yield* Feed
      const { session, token } = yield* bearer()
      const other = yield* bearer("bob")
      yield* verdict(token)
      yield* verdict(other.token)
      feed.failing = true
      yield* feed.lose
      yield* settle
      yield* takeCalls
      for (let repeat = 0; repeat < 3; repeat++) assert.strictEqual(yield* verdict(token), "let in")
      assert.deepStrictEqual(yield* takeCalls, { findByTokenDigest: 3 })
      yield* revokeElsewhere(session)
      assert.strictEqual(yield* verdict(token), "revoked")

      feed.failing = false
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* verdict(token), "revoked")
      assert.strictEqual(yield* verdict(other.token), "let in")
      yield* takeCalls
      assert.strictEqual(yield* verdict(other.token), "let in")
      assert.deepStrictEqual(yield* takeCalls, {})
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05 FEED-02: what happened while the hints were lost is made up for when they are back", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const feed = yield* Feed
      const { session, token } = yield* bearer()
      yield* verdict(token)
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(session))
      yield* settle
      feed.failing = true
      yield* feed.lose
      yield* settle
      yield* revokeElsewhere(session)
      yield* settle
      assert.isUndefined(waiting.pollUnsafe())
      feed.failing = false
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), "revoked")
      assert.strictEqual(yield* verdict(token), "revoked")
    }).pipe(Effect.provide(layer)))

  it.effect("OPS-09 SESS-05: what is no longer kept of the time without hints is not trusted to have been nothing", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const feed = yield* Feed
      const { session, token } = yield* bearer()
      const other = yield* bearer("bob")
      yield* verdict(token)
      yield* verdict(other.token)
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(session))
      yield* settle
      feed.failing = true
      yield* feed.lose
      yield* settle
      yield* revokeElsewhere(session)
      yield* AccessRepository.use(({ feed }) =>
        feed.sweep({ endedBeforeMillis: Number.MAX_SAFE_INTEGER, limit: 1_000 })
      )
      feed.failing = false
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* verdict(token), "revoked")
      assert.strictEqual(yield* verdict(other.token), "let in")
      assert.strictEqual(yield* Fiber.join(waiting), "revoked")
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05: a feed that falls silent is found out within the trusted time, also by a busy session", () =>
    Effect.gen(function*() {
      const feed = yield* Feed
      const { session, token } = yield* bearer()
      yield* verdict(token)
      yield* settle
      feed.silent = true
      yield* revokeElsewhere(session)
      const answers: Array<string> = []
      for (let step = 0; step < 20; step++) {
        yield* TestClock.adjust("100 millis")
        answers.push(yield* verdict(token))
      }
      assert.strictEqual(answers[0], "let in")
      assert.strictEqual(answers.at(-1), "revoked")
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05: when the feed cannot be read and the store cannot either, no caller is let in", () =>
    Effect.gen(function*() {
      const feed = yield* Feed
      const probe = yield* Probe
      const { token } = yield* bearer()
      yield* verdict(token)
      yield* settle
      feed.failing = true
      probe.failing.add("findByTokenDigest")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* verdict(token), "SessionStoreUnavailable")
      // Once the feed can be read again the cache is good again, without a change that tells of it.
      feed.failing = false
      assert.strictEqual(yield* verdict(token), "let in")
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05: a row that was read before another process's revocation is not remembered after it", () =>
    Effect.gen(function*() {
      const probe = yield* Probe
      const repository = (yield* AccessRepository).sessions
      const { session, token } = yield* bearer()
      const revoke = repository.revoke({ _tag: "Session", id: session.id }, { actor: "operator", nowMillis: 0 })
      // The revocation comes, and is told of, between the look at the row and the answer.
      probe.after.set(
        "findByTokenDigest",
        Effect.gen(function*() {
          probe.after.clear()
          yield* Effect.orDie(revoke)
          for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
        })
      )
      yield* verdict(token)
      assert.strictEqual(yield* verdict(token), "revoked")
    }).pipe(Effect.provide(layer)))

  it.effect("SESS-05: hints are lost, the attempt to listen hangs, and reads work: a revocation elsewhere is not missed", () =>
    Effect.gen(function*() {
      const feed = yield* Feed
      const { session, token } = yield* bearer()
      yield* verdict(token)
      feed.hanging = true
      yield* feed.lose
      yield* TestClock.adjust("1 second")
      yield* verdict(token)
      yield* revokeElsewhere(session)
      yield* settle
      assert.strictEqual(yield* verdict(token), "revoked")
    }).pipe(Effect.provide(layer)))
})
