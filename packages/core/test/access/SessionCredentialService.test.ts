import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import type { Session } from "@sallyport/core/access/Session"
import { SessionId } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SessionToken from "@sallyport/core/access/SessionToken"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Mac from "effect/crypto/Mac"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { vi } from "vitest"
import * as SigningKeys from "../../src/access/internal/signingKeys.ts"
import { Environment, feed, Probe, services, shown, takeCalls } from "./accessSupport.ts"

const Sessions = SessionCredentialService.SessionCredentialService

const bearer = (subject = "ada") =>
  Sessions.use((sessions) => sessions.issue({ subject, scopes: ["runs:read"], method: "bearer-access-token" }))

/** Returns why a session or ticket was refused, or what it was answered instead. */
const problem = <A>(
  effect: Effect.Effect<A, SessionCredentialService.SessionCredentialError>
): Effect.Effect<string> =>
  Effect.match(effect, {
    onFailure: ({ reason }) => reason._tag === "SessionRefused" ? reason.problem : reason._tag,
    onSuccess: () => "let in"
  })

const day = Duration.days(1)

describe("a session", () => {
  it.effect("SESS-07 L-09: has the method, scopes, device and subject that it was issued with, by verify and by list", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      for (const method of ["browser-session-cookie", "bearer-access-token", "dpop-access-token"] as const) {
        const { session, token } = yield* sessions.issue({
          subject: `${method} user`,
          scopes: ["runs:read", "access:write"],
          method,
          proofKeyThumbprint: method === "dpop-access-token" ? "jkt" : undefined,
          device: { label: "Ada's phone", userAgent: "Firefox", address: "192.168.1.7" }
        })
        const proof = { proofKeyThumbprint: "jkt" }
        const first = yield* sessions.verify(token, proof)
        const second = yield* sessions.verify(token, proof)
        const listed = (yield* sessions.list({ subject: `${method} user` })).map((entry) => entry.session)
        for (const seen of [session, first, second, ...listed]) {
          assert.strictEqual(seen.id, session.id)
          assert.strictEqual(seen.method, method)
          assert.deepStrictEqual(seen.scopes, ["runs:read", "access:write"])
          assert.strictEqual(seen.subject, `${method} user`)
          assert.deepStrictEqual({ ...seen.device }, {
            label: "Ada's phone",
            kind: method === "browser-session-cookie" ? "browser" : "program",
            userAgent: "Firefox",
            address: "192.168.1.7"
          })
        }
        assert.strictEqual(listed.length, 1)
      }
    }).pipe(Effect.provide(services())))

  it.effect("SESS-07: what verify answers is the row's, also where the row changed since the token was seen", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      assert.deepStrictEqual((yield* sessions.verify(token)).scopes, ["runs:read"])
      const store = yield* AccessRepository
      const narrowed = AccessRepository.of({
        ...store,
        sessions: {
          ...store.sessions,
          findByTokenDigest: (digest) =>
            Effect.map(store.sessions.findByTokenDigest(digest), Option.map((row) => ({ ...row, scopes: [] })))
        }
      })
      const later = yield* Effect.provideService(
        SessionCredentialService.make({}),
        AccessRepository,
        narrowed
      )
      assert.deepStrictEqual((yield* later.verify(token)).scopes, [])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-01: unknown, malformed and enormous tokens are refused without a look at the store", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      yield* takeCalls
      for (
        const text of ["", "x", `${Redacted.value(token)}.x`, "A".repeat(1_000_000), Redacted.value(token).slice(1)]
      ) {
        assert.strictEqual(yield* problem(sessions.verify(Redacted.make(text))), "malformed")
      }
      assert.deepStrictEqual(yield* takeCalls, {})
    }).pipe(Effect.provide(services())))

  it.effect("a session bound to a key is let in with that key's proof only, cached or not", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* sessions.issue({
        subject: "ada",
        scopes: [],
        method: "dpop-access-token",
        proofKeyThumbprint: "mine"
      })
      for (let round = 0; round < 2; round++) {
        assert.strictEqual(yield* problem(sessions.verify(token)), "proof-key-mismatch")
        assert.strictEqual(
          yield* problem(sessions.verify(token, { proofKeyThumbprint: "yours" })),
          "proof-key-mismatch"
        )
        assert.strictEqual(yield* problem(sessions.verify(token, { proofKeyThumbprint: "" })), "proof-key-mismatch")
        assert.strictEqual(yield* problem(sessions.verify(token, { proofKeyThumbprint: "mine" })), "let in")
      }
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-11 C-01: what a device says of itself is kept as plain lines, and is never a defect", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session } = yield* sessions.issue({
        subject: "ada",
        scopes: [],
        method: "bearer-access-token",
        device: { label: "a\u202eb", userAgent: "MyApp\u0000\t\ud800", address: "\n" }
      })
      assert.deepStrictEqual({ ...session.device }, {
        label: "a\ufffdb",
        kind: "program",
        userAgent: "MyApp\ufffd \ufffd",
        address: null
      })
    }).pipe(Effect.provide(services())))

  it.effect("L-02: one that cannot be stored is not issued, and a mistaken request leaves nothing behind", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      probe.failing.add("insert")
      assert.strictEqual((yield* Effect.flip(bearer())).reason._tag, "SessionStoreUnavailable")
      probe.failing.clear()
      const request = { subject: "ada", scopes: [], method: "bearer-access-token" } as const
      for (
        const mistaken of [
          { ...request, subject: "" },
          { ...request, subject: "a".repeat(256) },
          { ...request, subject: "a\u202eb" },
          { ...request, method: "dpop-access-token" }
        ] as const
      ) {
        assert.strictEqual((yield* Effect.flip(sessions.issue(mistaken))).reason._tag, "InvalidInput")
      }
      assert.deepStrictEqual(yield* sessions.list(), [])
      assert.deepStrictEqual(yield* feed, [])
      // The longest subject that is taken makes a token that is taken.
      const { token } = yield* sessions.issue({ ...request, subject: `"${"é".repeat(254)}` })
      assert.isAtMost(Redacted.value(token).length, SessionToken.maxLength)
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
    }).pipe(Effect.provide(services())))
})

describe("the sliding window", () => {
  it.effect(
    "SESS-03 L-17: an active session never expires over a year, and its row is written once per renewal interval",
    () =>
      Effect.gen(function*() {
        const sessions = yield* Sessions
        const { session, token } = yield* bearer()
        yield* takeCalls
        const verifies = 365 * 24
        for (let hour = 0; hour < verifies; hour++) {
          yield* TestClock.adjust("1 hour")
          assert.strictEqual((yield* sessions.verify(token)).id, session.id)
        }
        // 30 days of lifetime: one renewal a day.
        const calls = yield* takeCalls
        assert.strictEqual(calls["renew"], 365)
        const renewals = (yield* feed).filter(({ change }) => change._tag === "sessionUpserted").slice(1)
        assert.strictEqual(renewals.length, 365)
        for (const [index, event] of renewals.entries()) {
          assert.strictEqual(DateTime.toEpochMillis(event.at), (index + 1) * Duration.toMillis(day))
        }
        yield* TestClock.adjust("30 days")
        assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
      }).pipe(Effect.provide(services())),
    300_000
  )

  it.effect("SESS-03 L-16: n requests in one interval write the row once, however many are in flight", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      for (let round = 1; round <= 3; round++) {
        yield* TestClock.adjust(day)
        yield* takeCalls
        const before = (yield* feed).length
        const verified = yield* Effect.all(Array.from({ length: 50 }, () => sessions.verify(token)), {
          concurrency: "unbounded"
        })
        for (let repeat = 0; repeat < 50; repeat++) yield* sessions.verify(token)
        assert.strictEqual((yield* feed).length, before + 1)
        for (const session of verified) {
          assert.strictEqual(DateTime.toEpochMillis(session.expiresAt), (30 + round) * 86_400_000)
        }
      }
    }).pipe(Effect.provide(services())))

  it.effect("SESS-03: a renewal is due after exactly the configured interval", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      yield* TestClock.adjust(Duration.millis(9_999))
      yield* sessions.verify(token)
      assert.strictEqual((yield* feed).length, 1)
      yield* TestClock.adjust("1 millis")
      yield* sessions.verify(token)
      assert.strictEqual((yield* feed).length, 2)
      yield* TestClock.adjust(Duration.millis(9_999))
      yield* sessions.verify(token)
      assert.strictEqual((yield* feed).length, 2)
    }).pipe(Effect.provide(services({ sessions: { lifetime: "1 minute", renewalInterval: "10 seconds" } }))))

  it.effect("SESS-03: a session ends to the millisecond, and no verify revives it", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      yield* TestClock.adjust(Duration.millis(30 * 86_400_000 - 1))
      // A look at the row alone: verify would renew it.
      assert.strictEqual((yield* sessions.list()).length, 1)
      yield* TestClock.adjust("1 millis")
      const before = (yield* feed).length
      for (let repeat = 0; repeat < 3; repeat++) {
        assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
        yield* TestClock.adjust(day)
      }
      assert.strictEqual((yield* feed).length, before)
      assert.deepStrictEqual(yield* sessions.list(), [])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-03: a remembered token is refused once its session has expired", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      yield* sessions.verify(token)
      yield* TestClock.adjust("10 seconds")
      yield* takeCalls
      assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
      assert.isUndefined((yield* takeCalls)["renew"])
    }).pipe(Effect.provide(services({
      sessions: { lifetime: "10 seconds", renewalInterval: "9 seconds", recheckInterval: "1 hour" }
    }))))

  it.effect("SESS-04: a remembered token is refused at the absolute end, which no renewal interval outlasts", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      yield* TestClock.adjust("9 seconds")
      yield* sessions.verify(token)
      yield* TestClock.adjust(Duration.millis(999))
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
    }).pipe(Effect.provide(services({
      sessions: {
        lifetime: "10 seconds",
        renewalInterval: "9 seconds",
        absoluteLifetime: "10 seconds",
        recheckInterval: "1 hour"
      }
    }))))

  it.effect("SESS-21: the holder of a token that has ended is told how, for a day, and not without the key of a bound one", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const end = (token: Redacted.Redacted) =>
        Effect.map(
          sessions.findEnd(token),
          (found) =>
            Option.getOrNull(
              Option.map(
                found,
                ({ actor, at, how, lastSeenAt }) => [how, actor, at.epochMilliseconds, lastSeenAt.epochMilliseconds]
              )
            )
        )
      const issue = (options: object = {}) =>
        sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "browser-session-cookie", ...options })
      const unused = yield* issue()
      const over = yield* issue({ absoluteLifetime: "5 seconds" })
      const revoked = yield* issue()
      const bound = yield* issue({ method: "dpop-access-token", proofKeyThumbprint: "jkt" })
      yield* TestClock.adjust("1 seconds")
      const all = [unused, over, revoked, bound].map(({ token }) => token)
      assert.deepStrictEqual(yield* Effect.forEach(all, end), [null, null, null, null])
      for (const { session } of [revoked, bound]) yield* sessions.revoke(session.id, "operator")
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* Effect.forEach(all, end), [
        ["unused", null, 10_000, 0],
        ["over", null, 5_000, 0],
        ["revoked", "operator", 1_000, 0],
        null
      ])
      const forged = Redacted.value(revoked.token).replace(/.{43}$/, "A".repeat(43))
      for (const text of ["", "x", forged, "x".repeat(10_000)]) assert.isNull(yield* end(Redacted.make(text)))
      yield* TestClock.adjust(Duration.millis(86_400_000 - 9_000))
      assert.isNotNull(yield* end(revoked.token))
      yield* TestClock.adjust("1 millis")
      assert.isNull(yield* end(revoked.token))
      assert.isNotNull(yield* end(unused.token))
    }).pipe(Effect.provide(services({ sessions: { lifetime: "10 seconds" } }))))

  it.effect("SESS-03: a revocation that comes between the look at the row and its renewal wins", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      yield* TestClock.adjust(day)
      probe.before.set("renew", Effect.ignore(sessions.revoke(session.id, "operator")))
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      probe.before.clear()
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      assert.strictEqual((yield* feed).at(-1)?.change._tag, "sessionRemoved")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-03: a revocation that comes right after the renewal wins too", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      yield* TestClock.adjust(day)
      probe.after.set("renew", Effect.ignore(sessions.revoke(session.id, "operator")))
      yield* problem(sessions.verify(token))
      probe.after.clear()
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-03: n renewals that race with a revocation never leave the session live", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      for (let round = 0; round < 20; round++) {
        const { session, token } = yield* bearer(`user${round}`)
        yield* TestClock.adjust(day)
        const racers: Array<Effect.Effect<string>> = Array.from({ length: 16 }, () => problem(sessions.verify(token)))
        racers.splice(round % 16, 0, problem(sessions.revoke(session.id, "operator")))
        yield* Effect.all(racers, { concurrency: "unbounded" })
        assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      }
    }).pipe(Effect.provide(services())))

  it.effect("SESS-03 OPS-06: when a renewal cannot be stored, at once or later, the session is let in until its end, and the log says so once", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { token } = yield* bearer()
      const outages = Effect.map(
        Metric.snapshot,
        (metrics) =>
          metrics.flatMap((metric) =>
            metric.id === "sallyport.outages" && metric.type === "Gauge" ? [Number(metric.state.value)] : []
          )
      )
      const verify = Effect.provide(
        problem(sessions.verify(token)),
        Logger.layer([Logger.make(({ logLevel, message }) => {
          if (logLevel !== "Debug") logged.push(String(message))
        })])
      )
      yield* verify
      yield* TestClock.adjust(day)
      probe.failing.add("renew")
      assert.strictEqual(yield* verify, "let in")
      assert.deepStrictEqual(logged.map((line) => line.slice(0, 27)), ["Sessions cannot be renewed;"])
      // One that fails later does as one that fails at once.
      yield* TestClock.adjust("10 seconds")
      const failing = yield* Latch.make()
      probe.before.set("renew", failing.await)
      const waiting = yield* Effect.forkChild(verify, { startImmediately: true })
      yield* TestClock.adjust("50 millis")
      assert.strictEqual(yield* Fiber.join(waiting), "let in")
      yield* failing.open
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* outages, [1])
      probe.before.clear()
      probe.failing.clear()
      assert.strictEqual(yield* verify, "let in")
      assert.deepStrictEqual(logged.slice(1), ["Sessions are renewed again, after 20s 50ms"])
      probe.failing.add("renew")
      yield* TestClock.adjust(day)
      assert.strictEqual(yield* verify, "let in")
      assert.deepStrictEqual(yield* outages, [1])
      // A session that is not used any more keeps no outage open.
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* outages, [0])
      yield* TestClock.adjust("30 days")
      assert.strictEqual(yield* verify, "expired")
    }).pipe(Effect.provide(services()), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("SESS-04: an absolute lifetime ends a session that was active all along, and stands in the token", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { token } = yield* bearer()
      const [, payload = ""] = Redacted.value(token).split(".")
      assert.strictEqual(JSON.parse(Buffer.from(payload, "base64url").toString()).exp, 90 * 86_400)
      for (let hour = 1; hour < 90 * 24; hour++) {
        yield* TestClock.adjust("1 hour")
        const session = yield* sessions.verify(token)
        assert.isAtMost(DateTime.toEpochMillis(session.expiresAt), 90 * 86_400_000)
      }
      yield* TestClock.adjust(Duration.millis(3_600_000 - 1))
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
    }).pipe(Effect.provide(services({ sessions: { absoluteLifetime: "90 days" } }))))

  it.effect("SESS-03: settings that cannot work stop the layer", () =>
    Effect.gen(function*() {
      const refused: ReadonlyArray<readonly [SessionCredentialService.Options, string]> = [
        [{ lifetime: "1 day", renewalInterval: "1 day" }, "renewalInterval"],
        [{ lifetime: "1 day", renewalInterval: "2 days" }, "renewalInterval"],
        [{ lifetime: 0 }, "lifetime"],
        [{ lifetime: -1 }, "lifetime"],
        [{ lifetime: NaN }, "lifetime"],
        [{ lifetime: "Infinity" }, "lifetime"],
        [{ renewalInterval: 0 }, "renewalInterval"],
        [{ renewalInterval: "-1 days" }, "renewalInterval"],
        [{ absoluteLifetime: "Infinity" }, "absoluteLifetime"],
        [{ refresh: { tokenLifetime: 0 } }, "refresh"],
        [{ refresh: { tokenLifetime: "Infinity" } }, "refresh"],
        [{ refresh: { tokenLifetime: "30 days" } }, "tokenLifetime"],
        [{ refresh: { tokenLifetime: "30 seconds" } }, "graceWindow"],
        [{ refresh: { tokenLifetime: "1 hour", graceWindow: 0 } }, "refresh"],
        [{ refresh: { tokenLifetime: "1 hour", graceWindow: "1 hour" } }, "graceWindow"],
        [{ ticketLifetime: 0 }, "ticketLifetime"],
        [{ recheckInterval: 0 }, "recheckInterval"],
        [{ recheckInterval: "Infinity" }, "recheckInterval"],
        [{ cacheCapacity: 0 }, "cacheCapacity"],
        [{ cacheCapacity: -1 }, "cacheCapacity"],
        [{ cacheCapacity: 1.5 }, "cacheCapacity"],
        [{ cacheCapacity: NaN }, "cacheCapacity"],
        [{ cacheCapacity: Infinity }, "cacheCapacity"]
      ]
      for (const [options, setting] of refused) {
        const error = yield* Effect.flip(SessionCredentialService.make(options))
        assert.strictEqual(error._tag, "InvalidSessionCredentialOptions", setting)
        assert.include(error.message, setting)
      }
      for (
        const options of [
          {},
          { lifetime: 1_000, renewalInterval: 999 },
          { lifetime: "1 day", absoluteLifetime: "1 day" },
          { lifetime: "1 day", absoluteLifetime: "1 hour" },
          { lifetime: 2 },
          { cacheCapacity: 1 }
        ] as const
      ) yield* SessionCredentialService.make(options)
    }).pipe(Effect.provide(Environment)))
})

describe("revocation", () => {
  const bound = (subject: string, proofKeyThumbprint: string) =>
    Sessions.use((sessions) => sessions.issue({ subject, scopes: [], method: "dpop-access-token", proofKeyThumbprint }))

  it.effect("SESS-05: verify is refused at once after each way to revoke, and nothing else is ended", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const check = Effect.fnUntraced(function*(
        revoke: (
          asking: Session,
          other: Session
        ) => Effect.Effect<unknown, SessionCredentialService.SessionCredentialError>,
        expected: readonly [asking: string, other: string, stranger: string]
      ) {
        const asking = yield* bound("ada", "key-a")
        const other = yield* bound("ada", "key-b")
        const stranger = yield* bound("bob", "key-c")
        const seen = [asking, other, stranger].map(({ session, token }) =>
          sessions.verify(token, { proofKeyThumbprint: session.proofKeyThumbprint ?? "" })
        )
        for (const verify of seen) assert.strictEqual(yield* problem(verify), "let in")
        yield* revoke(asking.session, other.session)
        assert.deepStrictEqual(yield* Effect.all(seen.map(problem)), [...expected])
        const live = new Set((yield* sessions.list()).map(({ session }) => session.id))
        assert.deepStrictEqual(
          [asking, other, stranger].map(({ session }) => live.has(session.id) ? "let in" : "revoked"),
          [...expected]
        )
        yield* sessions.revokeBySubject("ada", "operator")
        yield* sessions.revokeBySubject("bob", "operator")
      })
      yield* check((asking, other) => sessions.revoke(other.id, asking), ["let in", "revoked", "let in"])
      yield* check((asking) => sessions.revoke(asking.id, "operator"), ["revoked", "let in", "let in"])
      yield* check((asking) => sessions.logout(asking), ["revoked", "let in", "let in"])
      yield* check((asking) => sessions.revokeOthers(asking), ["let in", "revoked", "let in"])
      yield* check((asking) => sessions.revokeBySubject("ada", asking), ["revoked", "revoked", "let in"])
      yield* check(() => sessions.revokeByProofKey("key-b", "operator"), ["let in", "revoked", "let in"])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-05: a row that was read before a revocation is not remembered after it", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      const read = yield* Deferred.make<void>()
      const revoked = yield* Deferred.make<void>()
      probe.after.set(
        "findByTokenDigest",
        Effect.andThen(Deferred.succeed(read, undefined), Deferred.await(revoked))
      )
      const overlapping = yield* Effect.forkChild(problem(sessions.verify(token)))
      yield* Deferred.await(read)
      probe.after.clear()
      yield* sessions.revoke(session.id, "operator")
      yield* Deferred.succeed(revoked, undefined)
      // This one began before the revocation and may answer either way; what counts is what it leaves behind.
      yield* Fiber.join(overlapping)
      yield* takeCalls
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      assert.strictEqual((yield* takeCalls)["findByTokenDigest"], 1)
    }).pipe(Effect.provide(services({ sessions: { recheckInterval: "1 hour" } }))))

  it.effect("SESS-05: a row that is read while the revocation is still on its way back is not remembered after it", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      yield* sessions.verify(token)
      const committed = yield* Deferred.make<void>()
      const answer = yield* Deferred.make<void>()
      probe.after.set("revoke", Effect.andThen(Deferred.succeed(committed, undefined), Deferred.await(answer)))
      const revoking = yield* Effect.forkChild(sessions.revoke(session.id, "operator"))
      yield* Deferred.await(committed)
      yield* problem(sessions.verify(token))
      yield* Deferred.succeed(answer, undefined)
      yield* Fiber.join(revoking)
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
    }).pipe(Effect.provide(services({ sessions: { recheckInterval: "1 hour" } }))))

  it.effect("SESS-05: who loses the race to revoke can rely on the refusal as well", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      for (
        const losing of [
          (session: Session) => sessions.logout(session),
          (session: Session) => Effect.ignore(sessions.revoke(session.id, "operator")),
          (session: Session) => sessions.revokeBySubject(session.subject, "operator"),
          () => sessions.revokeByProofKey("key", "operator"),
          (session: Session) => Effect.flatMap(bearer(session.subject), (other) => sessions.revokeOthers(other.session))
        ]
      ) {
        const { session, token } = yield* sessions.issue({
          subject: "ada",
          scopes: [],
          method: "dpop-access-token",
          proofKeyThumbprint: "key"
        })
        const verify = problem(sessions.verify(token, { proofKeyThumbprint: "key" }))
        assert.strictEqual(yield* verify, "let in")
        const committed = yield* Deferred.make<void>()
        const answer = yield* Deferred.make<void>()
        probe.after.set("revoke", Effect.andThen(Deferred.succeed(committed, undefined), Deferred.await(answer)))
        const winner = yield* Effect.forkChild(sessions.revoke(session.id, "operator"))
        yield* Deferred.await(committed)
        probe.after.clear()
        yield* losing(session)
        assert.strictEqual(yield* verify, "revoked")
        yield* Deferred.succeed(answer, undefined)
        yield* Fiber.join(winner)
      }
    }).pipe(Effect.provide(services({ sessions: { recheckInterval: "1 hour" } }))))

  it.effect("SESS-05: a revocation whose answer is lost after the commit leaves no token trusted", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const gone = yield* bearer()
      const other = yield* bearer("bob")
      yield* sessions.verify(gone.token)
      yield* sessions.verify(other.token)
      probe.failingAfter.add("revoke")
      assert.strictEqual(yield* problem(sessions.revoke(gone.session.id, "operator")), "SessionStoreUnavailable")
      probe.failingAfter.clear()
      assert.strictEqual(yield* problem(sessions.verify(gone.token)), "revoked")
      assert.strictEqual(yield* problem(sessions.verify(other.token)), "let in")
    }).pipe(Effect.provide(services({ sessions: { recheckInterval: "1 hour" } }))))

  it.effect("SESS-05: a row that was read before such a revocation is not remembered either", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      const read = yield* Deferred.make<void>()
      const revoked = yield* Deferred.make<void>()
      probe.after.set("findByTokenDigest", Effect.andThen(Deferred.succeed(read, undefined), Deferred.await(revoked)))
      const overlapping = yield* Effect.forkChild(problem(sessions.verify(token)))
      yield* Deferred.await(read)
      probe.after.clear()
      probe.failingAfter.add("revoke")
      yield* problem(sessions.revokeBySubject("ada", "operator"))
      yield* Deferred.succeed(revoked, undefined)
      yield* Fiber.join(overlapping)
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      assert.strictEqual((yield* feed).at(-1)?.change._tag, "sessionRemoved")
      assert.strictEqual(session.subject, "ada")
    }).pipe(Effect.provide(services({ sessions: { recheckInterval: "1 hour" } }))))

  it.effect("SESS-05: an interrupted revocation still reaches the cache", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      yield* sessions.verify(token)
      const committed = yield* Deferred.make<void>()
      const answer = yield* Deferred.make<void>()
      probe.after.set("revoke", Effect.andThen(Deferred.succeed(committed, undefined), Deferred.await(answer)))
      const revoking = yield* Effect.forkChild(sessions.revoke(session.id, "operator"))
      yield* Deferred.await(committed)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(revoking))
      yield* Deferred.succeed(answer, undefined)
      yield* Fiber.join(interrupting)
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
    }).pipe(Effect.provide(services({ sessions: { recheckInterval: "1 hour" } }))))

  it.effect("SESS-05: when the store fails no caller is let in, except by a row seen within the recheck interval", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { token } = yield* bearer()
      const unseen = yield* bearer("bob")
      yield* sessions.verify(token)
      probe.failing.add("findByTokenDigest")
      assert.strictEqual(yield* problem(sessions.verify(unseen.token)), "SessionStoreUnavailable")
      yield* TestClock.adjust(Duration.millis(4_999))
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
      yield* TestClock.adjust("1 millis")
      for (let repeat = 0; repeat < 3; repeat++) {
        assert.strictEqual(yield* problem(sessions.verify(token)), "SessionStoreUnavailable")
      }
      probe.failing.clear()
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-05: a revocation by another process is seen within the recheck interval, also by a busy session", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const elsewhere = yield* SessionCredentialService.make({})
      const { session, token } = yield* bearer()
      yield* sessions.verify(token)
      yield* elsewhere.revoke(session.id, "operator")
      const answers: Array<string> = []
      for (let second = 1; second <= 5; second++) {
        yield* TestClock.adjust("1 second")
        answers.push(yield* problem(sessions.verify(token)))
      }
      assert.strictEqual(answers.at(-1), "revoked")
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-05: a clock that is set back does not prolong the trust in the cache", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const elsewhere = yield* SessionCredentialService.make({})
      yield* TestClock.adjust("10 days")
      const { session, token } = yield* bearer()
      yield* sessions.verify(token)
      yield* elsewhere.revoke(session.id, "operator")
      yield* TestClock.setTime(Duration.toMillis(day))
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-05: a session is revoked by exactly one of n racers; logging out twice is a success", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session, token } = yield* bearer()
      const racers = yield* Effect.all(
        Array.from({ length: 12 }, () => problem(sessions.revoke(session.id, "operator"))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(racers.sort(), [...Array.from({ length: 11 }, () => "SessionNotFound"), "let in"])
      yield* sessions.logout(session)
      yield* sessions.logout(session)
      assert.strictEqual((yield* feed).filter(({ change }) => change._tag === "sessionRemoved").length, 1)
      assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      assert.strictEqual(
        yield* problem(sessions.revoke(SessionId.make("unknown"), "operator")),
        "SessionNotFound"
      )
    }).pipe(Effect.provide(services())))

  it.effect("SESS-05: a failed revocation is an error, and the session lives on", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      probe.failing.add("revoke")
      for (
        const revoke of [
          sessions.revoke(session.id, "operator"),
          sessions.logout(session),
          sessions.revokeOthers(session),
          sessions.revokeBySubject("ada", session),
          sessions.revokeByProofKey("key", session)
        ]
      ) assert.strictEqual(yield* problem(Effect.asVoid(revoke)), "SessionStoreUnavailable")
      probe.failing.clear()
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-11: no caller revokes the current session by its id, and the feed says who revoked which", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const current = yield* bearer()
      const other = yield* bearer()
      assert.strictEqual(
        yield* problem(sessions.revoke(current.session.id, current.session)),
        "CurrentSessionProtected"
      )
      assert.strictEqual(yield* problem(sessions.verify(current.token)), "let in")
      yield* sessions.revoke(other.session.id, current.session)
      assert.strictEqual((yield* sessions.revokeOthers(current.session)).sessions, 0)
      yield* sessions.revokeBySubject("ada", "operator")
      assert.deepStrictEqual(
        (yield* feed).filter(({ change }) => change._tag === "sessionRemoved").map(({ actor, change }) => ({
          actor,
          change
        })),
        [
          { actor: "ada", change: { _tag: "sessionRemoved", id: other.session.id, subject: "ada", reason: "revoked" } },
          {
            actor: "operator",
            change: { _tag: "sessionRemoved", id: current.session.id, subject: "ada", reason: "revoked" }
          }
        ]
      )
    }).pipe(Effect.provide(services())))
})

describe("the hot path", () => {
  it.effect("SESS-06: a token seen before costs no signature check and no call of the repository", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session, token } = yield* bearer()
      const verify = yield* Effect.acquireRelease(
        Mac.Mac.useSync((mac) => vi.spyOn(mac, "verify")),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      yield* takeCalls
      yield* sessions.verify(token)
      assert.strictEqual(verify.mock.calls.length, 1, "the first sight checks the signature")
      assert.deepStrictEqual(yield* takeCalls, { findByTokenDigest: 1 })
      for (let repeat = 0; repeat < 100; repeat++) {
        assert.strictEqual((yield* sessions.verify(Redacted.make(Redacted.value(token)))).id, session.id)
      }
      assert.strictEqual(verify.mock.calls.length, 1)
      assert.deepStrictEqual(yield* takeCalls, {})
      // The look at the row that is due now needs no signature check: the digest is that of a token that was checked.
      yield* TestClock.adjust("5 seconds")
      yield* sessions.verify(token)
      assert.strictEqual(verify.mock.calls.length, 1)
      assert.deepStrictEqual(yield* takeCalls, { findByTokenDigest: 1 })
    }).pipe(Effect.provide(services())))

  it.effect("SESS-06: the cache holds no more than its capacity, and the oldest goes first", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const issued = yield* Effect.forEach(Array.from({ length: 8 }), () => bearer())
      for (const { token } of issued) yield* sessions.verify(token)
      yield* takeCalls
      for (const { token } of issued.slice(5)) yield* sessions.verify(token)
      assert.deepStrictEqual(yield* takeCalls, {}, "the last three are remembered")
      for (const { token } of issued.slice(0, 5)) yield* sessions.verify(token)
      assert.deepStrictEqual(yield* takeCalls, { findByTokenDigest: 5 }, "the others are not")
      // What was pushed out is still refused at once after its revocation.
      for (const { session } of issued) yield* sessions.revoke(session.id, "operator")
      for (const { token } of issued) assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
    }).pipe(Effect.provide(services({ sessions: { cacheCapacity: 3 } }))))

  it.effect("SESS-06: tokens that are refused are not remembered", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const kept = yield* bearer()
      const ended = yield* Effect.forEach(Array.from({ length: 4 }), () => bearer("bob"))
      yield* sessions.revokeBySubject("bob", "operator")
      yield* sessions.verify(kept.token)
      for (const { token } of ended) assert.strictEqual(yield* problem(sessions.verify(token)), "revoked")
      for (let index = 0; index < 4; index++) yield* problem(sessions.verify(Redacted.make(`junk${index}`)))
      yield* takeCalls
      yield* sessions.verify(kept.token)
      assert.deepStrictEqual(yield* takeCalls, {})
    }).pipe(Effect.provide(services({ sessions: { cacheCapacity: 1 } }))))
})

describe("live access", () => {
  /** Lets the fibers that were forked reach their first wait. */
  const settle = TestClock.adjust(0)

  it.effect("SESS-08: awaitEnd says how a session ended: revoked at once, expired to the millisecond, swept", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const revoked = yield* bearer()
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(revoked.session))
      yield* settle
      assert.isUndefined(waiting.pollUnsafe())
      yield* sessions.revoke(revoked.session.id, "operator")
      assert.strictEqual(yield* Fiber.join(waiting), "revoked")
      assert.strictEqual(yield* sessions.awaitEnd(revoked.session), "revoked")

      const idle = yield* bearer("idle")
      const expiring = yield* Effect.forkChild(sessions.awaitEnd(idle.session))
      yield* TestClock.adjust(Duration.millis(63_499))
      assert.isUndefined(expiring.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(expiring), "expired")

      const repository = (yield* AccessRepository).sessions
      yield* repository.sweep({ endedBeforeMillis: 63_500, limit: 10 }, { actor: "system", nowMillis: 63_500 })
      assert.strictEqual(yield* sessions.awaitEnd(revoked.session), "revoked")
    }).pipe(Effect.provide(services({ sessions: { lifetime: Duration.millis(63_500) } }))))

  it.effect("SESS-08: awaitEnd survives renewals and ends with the renewed session", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session, token } = yield* bearer()
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(session))
      for (let minute = 0; minute < 10; minute++) {
        yield* TestClock.adjust("50 seconds")
        yield* sessions.verify(token)
      }
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(waiting), "expired")
    }).pipe(Effect.provide(services({ sessions: { lifetime: "1 minute" } }))))

  it.effect("SESS-08: awaitEnd sees a revocation by another process within the recheck interval", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const elsewhere = yield* SessionCredentialService.make({})
      const { session } = yield* bearer()
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(session))
      yield* settle
      yield* elsewhere.revoke(session.id, "operator")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(waiting), "revoked")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-08: awaitEnd does not miss a revocation while it looks at the row", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session } = yield* bearer()
      const read = yield* Deferred.make<void>()
      const revoked = yield* Deferred.make<void>()
      probe.after.set("findById", Effect.andThen(Deferred.succeed(read, undefined), Deferred.await(revoked)))
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(session))
      yield* Deferred.await(read)
      probe.after.clear()
      yield* sessions.revoke(session.id, "operator")
      yield* Deferred.succeed(revoked, undefined)
      assert.strictEqual(yield* Fiber.join(waiting), "revoked")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-08: awaitEnd fails when the row cannot be read, so that what it guards ends", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session } = yield* bearer()
      const waiting = yield* Effect.forkChild(problem(sessions.awaitEnd(session)))
      const stream = yield* Effect.forkChild(
        Effect.flip(Stream.runDrain(Stream.never.pipe(sessions.whileValid(session))))
      )
      yield* settle
      probe.failing.add("findById")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(waiting), "SessionStoreUnavailable")
      assert.strictEqual((yield* Fiber.join(stream)).reason._tag, "SessionStoreUnavailable")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-08: a revocation that failed wakes those who wait, and they go on waiting without spinning", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session } = yield* bearer()
      const waiting = yield* Effect.forkChild(sessions.awaitEnd(session))
      yield* settle
      probe.failing.add("revoke")
      yield* problem(sessions.revoke(session.id, "operator"))
      yield* takeCalls
      for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
      assert.isAtMost((yield* takeCalls)["findById"] ?? 0, 1)
      yield* TestClock.adjust(Duration.millis(4_999))
      assert.isUndefined(waiting.pollUnsafe())
      assert.isAtMost((yield* takeCalls)["findById"] ?? 0, 1)
      probe.failing.clear()
      yield* sessions.revoke(session.id, "operator")
      assert.strictEqual(yield* Fiber.join(waiting), "revoked")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-08: streams end with their session, and only with theirs", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const mine = yield* bearer()
      const other = yield* bearer("bob")
      const ticks = Stream.tick("1 second")
      const streams = yield* Effect.forEach(
        [mine.session, mine.session, other.session],
        (session) => Effect.forkChild(Stream.runCount(ticks.pipe(sessions.whileValid(session))))
      )
      yield* TestClock.adjust("3 seconds")
      yield* sessions.logout(mine.session)
      yield* settle
      const [first, second, third] = streams
      if (first === undefined || second === undefined || third === undefined) return assert.fail("three streams")
      assert.isAbove(yield* Fiber.join(first), 0)
      assert.isAbove(yield* Fiber.join(second), 0)
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(third.pollUnsafe())
      yield* TestClock.adjust("1 hour")
      assert.isAbove(yield* Fiber.join(third), 60)
    }).pipe(Effect.provide(services({ sessions: { lifetime: "1 hour" } }))))

  it.effect("SESS-08: a stream that is opened with an ended session ends", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session } = yield* bearer()
      yield* sessions.logout(session)
      yield* Stream.runDrain(Stream.never.pipe(sessions.whileValid(session)))
      assert.deepStrictEqual(yield* sessions.list(), [])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-08: nothing watches on after a stream has ended or was interrupted", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session } = yield* bearer()
      const add = yield* Effect.acquireRelease(
        Effect.sync(() => vi.spyOn(Set.prototype, "add")),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      yield* Stream.runDrain(Stream.make(1, 2, 3).pipe(sessions.whileValid(session)))
      const fibers = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () => Effect.forkChild(Stream.runDrain(Stream.never.pipe(sessions.whileValid(session))))
      )
      yield* settle
      const watchers = new Set<Set<unknown>>()
      for (const [index, set] of add.mock.contexts.entries()) {
        if (set instanceof Set && Predicate.hasProperty(add.mock.calls[index]?.[0], "woken")) watchers.add(set)
      }
      assert.deepStrictEqual([...watchers].map((set) => set.size).filter((size) => size > 0), [10])
      yield* Fiber.interruptAll(fibers)
      assert.deepStrictEqual([...watchers].map((set) => set.size).filter((size) => size > 0), [])
      yield* takeCalls
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* takeCalls, {})
    }).pipe(Effect.provide(services())))
})

describe("tickets", () => {
  it.effect("SESS-09 L-20: a ticket is redeemed once by n racers, for its session", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session } = yield* sessions.issue({
        subject: "ada",
        scopes: ["runs:read"],
        method: "dpop-access-token",
        proofKeyThumbprint: "key"
      })
      const ticket = yield* sessions.issueTicket(session)
      const redeemed = yield* Effect.all(
        Array.from({ length: 20 }, () => Effect.exit(sessions.consumeTicket(ticket))),
        { concurrency: "unbounded" }
      )
      const winners = redeemed.filter(Exit.isSuccess).map(({ value }) => value)
      assert.strictEqual(winners.length, 1)
      assert.deepStrictEqual(
        winners.map(({ id, method, proofKeyThumbprint, scopes }) => ({ id, method, proofKeyThumbprint, scopes })),
        [{ id: session.id, method: "dpop-access-token", proofKeyThumbprint: "key", scopes: ["runs:read"] }]
      )
      assert.strictEqual(yield* problem(sessions.consumeTicket(ticket)), "TicketRefused")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-09: a ticket lives 60 seconds", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session } = yield* bearer()
      const early = yield* sessions.issueTicket(session)
      const late = yield* sessions.issueTicket(session)
      yield* TestClock.adjust(Duration.millis(59_999))
      assert.strictEqual(yield* problem(sessions.consumeTicket(early)), "let in")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* problem(sessions.consumeTicket(late)), "TicketRefused")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-09: a ticket dies with its session, and is no token, nor a token a ticket", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session, token } = yield* bearer()
      const ticket = yield* sessions.issueTicket(session)
      assert.match(Redacted.value(ticket), /^[A-Za-z0-9_-]{22}$/)
      assert.strictEqual(yield* problem(sessions.verify(ticket)), "malformed")
      for (const other of [token, Redacted.make(""), Redacted.make("x"), Redacted.make("A".repeat(1_000_000))]) {
        assert.strictEqual(yield* problem(sessions.consumeTicket(other)), "TicketRefused")
      }
      yield* sessions.logout(session)
      assert.strictEqual(yield* problem(sessions.consumeTicket(ticket)), "TicketRefused")
      // One that is asked for with a session that has ended is of no use either.
      const late = yield* sessions.issueTicket(session)
      assert.strictEqual(yield* problem(sessions.consumeTicket(late)), "TicketRefused")
      const expiring = yield* bearer("bob")
      const last = yield* sessions.issueTicket(expiring.session)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* problem(sessions.consumeTicket(last)), "TicketRefused")
    }).pipe(Effect.provide(services({ sessions: { lifetime: "10 seconds" } }))))

  it.effect("SESS-09: when the store fails no ticket is made or redeemed", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session } = yield* bearer()
      const ticket = yield* sessions.issueTicket(session)
      probe.failing.add("insertTicket").add("consumeTicket")
      assert.strictEqual(yield* problem(sessions.issueTicket(session)), "SessionStoreUnavailable")
      assert.strictEqual(yield* problem(sessions.consumeTicket(ticket)), "SessionStoreUnavailable")
      probe.failing.clear()
      assert.strictEqual(yield* problem(sessions.consumeTicket(ticket)), "let in")
    }).pipe(Effect.provide(services())))
})

describe("the list", () => {
  it.effect("SESS-11: shows device, address and last seen, fresher than the row, and which one is current", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const issue = (label: string) =>
        sessions.issue({
          subject: "ada",
          scopes: [],
          method: "browser-session-cookie",
          device: { label, userAgent: `${label} UA`, address: "10.0.0.9" }
        })
      const phone = yield* issue("phone")
      const laptop = yield* issue("laptop")
      yield* bearer("bob")
      yield* TestClock.adjust("1 hour")
      yield* sessions.verify(phone.token)
      yield* TestClock.adjust("2 seconds")
      yield* sessions.verify(phone.token)
      assert.strictEqual((yield* feed).length, 3, "the rows were not written since")
      const listed = yield* sessions.list({ subject: "ada", current: laptop.session.id })
      assert.deepStrictEqual(
        listed.map(({ current, session }) => ({
          id: session.id,
          current,
          device: { ...session.device },
          lastSeen: DateTime.toEpochMillis(session.lastSeenAt)
        })),
        [
          {
            id: phone.session.id,
            current: false,
            device: { label: "phone", kind: "browser", userAgent: "phone UA", address: "10.0.0.9" },
            lastSeen: 3_602_000
          },
          {
            id: laptop.session.id,
            current: true,
            device: { label: "laptop", kind: "browser", userAgent: "laptop UA", address: "10.0.0.9" },
            lastSeen: 0
          }
        ]
      )
      assert.strictEqual((yield* sessions.list()).length, 3)
      assert.isFalse((yield* sessions.list()).some(({ current }) => current))
    }).pipe(Effect.provide(services())))

  it.effect("SESS-11: lists every live session once, over several pages", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const issued = yield* Effect.forEach(Array.from({ length: 600 }), () => bearer())
      for (const { session } of issued.slice(0, 10)) yield* sessions.revoke(session.id, "operator")
      yield* takeCalls
      const ids = (yield* sessions.list()).map(({ session }) => session.id)
      assert.deepStrictEqual([...ids].sort(), issued.slice(10).map(({ session }) => session.id).sort())
      assert.isAbove((yield* takeCalls)["list"] ?? 0, 2)
    }).pipe(Effect.provide(services())))

  it.effect("SESS-11: when the store fails there is an error, not a short list", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      yield* bearer()
      probe.failing.add("list")
      assert.strictEqual(yield* problem(sessions.list()), "SessionStoreUnavailable")
    }).pipe(Effect.provide(services())))
})

describe("secrets", () => {
  it.effect("SESS-12: a dump of rows, feed and secrets holds no token, ticket or signing key that can be used", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      const ticket = yield* sessions.issueTicket(session)
      const used = yield* sessions.issueTicket(session)
      yield* sessions.verify(token)
      yield* sessions.consumeTicket(used)
      yield* TestClock.adjust(day)
      yield* sessions.verify(token)
      yield* sessions.list()
      const repository = (yield* AccessRepository).sessions
      yield* repository.list({ nowMillis: Duration.toMillis(day), afterId: undefined, limit: 10 })
      const dump = shown(probe.traffic) + shown(yield* feed) + shown(yield* sessions.list())
      const [head = "", payload = "", signature = ""] = Redacted.value(token).split(".")
      for (const secret of [Redacted.value(token), payload, signature, Redacted.value(ticket), Redacted.value(used)]) {
        assert.notInclude(dump, secret)
        assert.notInclude(dump, Buffer.from(secret).toString("hex"))
      }
      const { jti }: { readonly jti: string } = JSON.parse(Buffer.from(payload, "base64url").toString())
      assert.strictEqual(Buffer.from(jti, "base64url").length, 16)
      assert.notInclude(dump, jti)
      assert.isAbove(head.length, 0)
      const store = yield* SecretStore.SecretStore
      const key = Option.getOrThrow(yield* store.get("session-signing-keys"))
      const { keys: [jwk] }: { readonly keys: ReadonlyArray<{ readonly k: string }> } = JSON.parse(
        new TextDecoder().decode(Redacted.value(key))
      )
      assert.notInclude(dump, jwk?.k ?? "")
      // What is in the dump does not log in: neither the digest nor the id.
      const rows = yield* repository.list({ nowMillis: Duration.toMillis(day), afterId: undefined, limit: 10 })
      for (const row of rows) {
        for (const text of [row.tokenDigest, row.id, `${head}.${row.tokenDigest}.${row.id}`]) {
          assert.strictEqual(yield* problem(sessions.verify(Redacted.make(text))), "malformed")
          assert.strictEqual(yield* problem(sessions.consumeTicket(Redacted.make(text))), "TicketRefused")
        }
      }
    }).pipe(Effect.provide(services())))

  it.effect("SESS-12: who knows the signing key and the rows cannot make the token of a live session again", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const keys = yield* SigningKeys.load()
      const { session, token } = yield* bearer()
      const [, payload = ""] = Redacted.value(token).split(".")
      const claims: SessionToken.Claims = JSON.parse(Buffer.from(payload, "base64url").toString())
      for (const jti of ["", "A", "AAAAAAAAAAAAAAAAAAAAAA", `${claims.jti}A`, claims.jti.toLowerCase()]) {
        const forged = yield* SessionToken.sign(keys.active, { ...claims, jti })
        assert.strictEqual(yield* problem(sessions.verify(forged)), jti === "" ? "malformed" : "unknown", jti)
      }
      const longer = yield* SessionToken.sign(keys.active, { ...claims, exp: 9_999_999_999 })
      assert.strictEqual(yield* problem(sessions.verify(longer)), "unknown")
      // The forger's control: the same claims give the same token.
      const again = yield* SessionToken.sign(keys.active, { ...claims })
      assert.strictEqual((yield* sessions.verify(again)).id, session.id)
    }).pipe(Effect.provide(services())))

  it.effect("SEC-08: results and errors of the service show no token, no ticket and no key", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const issued = yield* bearer()
      const ticket = yield* sessions.issueTicket(issued.session)
      const outcomes: Array<unknown> = [
        sessions,
        issued,
        ticket,
        yield* sessions.verify(issued.token),
        yield* sessions.list()
      ]
      const fails: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        sessions.verify(Redacted.make(`${Redacted.value(issued.token)}.x`)),
        sessions.consumeTicket(Redacted.make(`${Redacted.value(ticket)}x`)),
        Effect.andThen(sessions.logout(issued.session), sessions.verify(issued.token)),
        sessions.consumeTicket(ticket),
        sessions.revoke(issued.session.id, "operator")
      ]
      for (const fail of fails) outcomes.push(yield* Effect.exit(fail))
      for (const operation of ["insert", "findByTokenDigest", "list", "revoke", "insertTicket", "consumeTicket"]) {
        probe.failing.add(operation)
      }
      for (const fail of [bearer(), sessions.list(), sessions.issueTicket(issued.session), ...fails]) {
        outcomes.push(yield* Effect.exit(fail))
      }
      for (const outcome of outcomes) {
        const text = shown(outcome)
        for (const secret of [...Redacted.value(issued.token).split(".").slice(1), Redacted.value(ticket)]) {
          assert.notInclude(text, secret)
        }
        if (Exit.isExit(outcome)) {
          if (Exit.isSuccess(outcome)) return assert.fail("every one of them fails")
          assert.notInclude(Cause.pretty(outcome.cause), Redacted.value(ticket))
        }
      }
    }).pipe(Effect.provide(services())))

  it.effect("L-18: what an error is stands in its tags, whatever the words of its cause or of the token", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { session, token } = yield* bearer()
      // The cause says "expired", "revoked" and "not found", and is none of these.
      probe.failing.add("findByTokenDigest")
      const unavailable = yield* Effect.flip(sessions.verify(token))
      assert.include(shown(unavailable), "expired, revoked or not found")
      assert.strictEqual(unavailable.reason._tag, "SessionStoreUnavailable")
      probe.failing.clear()
      yield* sessions.logout(session)
      const refusals = yield* Effect.forEach(
        [Redacted.make("500 the store cannot be reached"), token],
        (refused) => Effect.flip(sessions.verify(refused))
      )
      assert.deepStrictEqual(refusals.map(({ reason }) => reason._tag), ["SessionRefused", "SessionRefused"])
      // To a caller, one sentence.
      assert.strictEqual(new Set(refusals.map(({ message }) => message)).size, 1)
    }).pipe(Effect.provide(services())))
})
