import { assert, describe, it } from "@effect/vitest"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import type { Principal } from "@sallyport/core/access/Principal"
import type { DeviceKind, Session, SessionMethod } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/testing/TestClock"
import { redeem, services } from "./accessSupport.ts"

const Links = BootstrapCredentialService.BootstrapCredentialService
const Sessions = SessionCredentialService.SessionCredentialService

type Asked = Pick<
  Parameters<BootstrapCredentialService.BootstrapCredentialService["Service"]["issue"]>[0],
  "label" | "sessionAbsoluteLifetime" | "sessionLifetime"
>

/** Lets a device in by a link with these lifetimes. */
const pair = Effect.fnUntraced(function*(issuedBy: Principal, asked: Asked = {}) {
  const links = yield* Links
  const { code, link } = yield* links.issue({ issuedBy, scopes: ["access:write"], ...asked })
  return { link, session: yield* redeem(links, { credential: code }) }
})

/** Returns after how many minutes from now a session ends, and after how many at the latest. */
const ends = (session: Session) =>
  Effect.map(
    DateTime.now,
    (now) =>
      [session.expiresAt, session.absoluteExpiresAt].map((end) =>
        end === null ? null : Math.round(Duration.toMinutes(DateTime.distance(now, end)))
      )
  )

describe("the lifetime of a session", () => {
  it.effect("SESS-17: is that of its link, sliding and absolute, and the lists say so", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { link, session } = yield* pair("operator", {
        label: "guest",
        sessionLifetime: "10 minutes",
        sessionAbsoluteLifetime: "1 hour"
      })
      assert.deepStrictEqual([link.sessionLifetime, session.lifetime], [Duration.minutes(10), Duration.minutes(10)])
      assert.deepStrictEqual(session.absoluteExpiresAt, link.sessionEndsAt)
      assert.strictEqual(session.device.label, "guest")
      assert.deepStrictEqual(yield* ends(session), [10, 60])
      const [listed] = yield* sessions.list()
      assert.deepStrictEqual([listed?.session.lifetime, listed?.session.absoluteExpiresAt], [
        session.lifetime,
        session.absoluteExpiresAt
      ])
      const plain = yield* pair("operator")
      assert.deepStrictEqual([plain.link.sessionLifetime, plain.session.lifetime], [null, null])
      assert.deepStrictEqual(yield* ends(plain.session), [30 * 1_440, null])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-17: is kept by use until its absolute end, and runs out without use", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const issue = sessions.issue({
        subject: "ada",
        scopes: [],
        method: "bearer-access-token",
        label: "backup job",
        lifetime: "10 minutes",
        absoluteLifetime: "1 hour"
      })
      const [used, unused] = [yield* issue, yield* issue]
      assert.strictEqual(used.session.device.label, "backup job")
      for (let minute = 0; minute < 59; minute += 5) {
        yield* sessions.verify(used.token)
        yield* TestClock.adjust("5 minutes")
        const { reason } = minute < 10 ? { reason: undefined } : yield* Effect.flip(sessions.verify(unused.token))
        if (minute >= 10) assert.strictEqual(reason?._tag, "SessionRefused")
      }
      assert.isTrue(Exit.isFailure(yield* Effect.exit(sessions.verify(used.token))))
    }).pipe(Effect.provide(services())))

  it.effect("SESS-17: no session lets another in for longer than itself, nor than the server's settings say", () =>
    Effect.gen(function*() {
      const guest = yield* pair("operator", { sessionLifetime: "10 minutes", sessionAbsoluteLifetime: "1 hour" })
      yield* TestClock.adjust("5 minutes")
      for (const asked of [{}, { sessionLifetime: "30 days", sessionAbsoluteLifetime: "300 days" } as const]) {
        const { session } = yield* pair(guest.session, asked)
        assert.deepStrictEqual(yield* ends(session), [10, 55])
      }
      const shorter = yield* pair(guest.session, { sessionLifetime: "1 minute", sessionAbsoluteLifetime: "2 minutes" })
      assert.deepStrictEqual(yield* ends(shorter.session), [1, 2])
      const owner = yield* pair("operator")
      assert.deepStrictEqual(yield* ends((yield* pair(owner.session, { sessionLifetime: "365 days" })).session), [
        24 * 60,
        7 * 1_440
      ])
      // The operator says more, but for the absolute end, which is a rule of the server.
      assert.deepStrictEqual(yield* ends((yield* pair("operator", { sessionLifetime: "2 days" })).session), [
        2 * 1_440,
        7 * 1_440
      ])
    }).pipe(Effect.provide(services({ sessions: { lifetime: "1 day", absoluteLifetime: "7 days" } }))))

  it.effect("SESS-17: a preview tells what the session of a link would be given", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const { code, link } = yield* links.issue({
        issuedBy: "operator",
        scopes: [],
        sessionLifetime: "10 minutes",
        sessionAbsoluteLifetime: "1 hour"
      })
      const preview = yield* links.preview({ credential: code })
      assert.deepStrictEqual([preview.lifetime, preview.sessionEndsAt], [Duration.minutes(10), link.sessionEndsAt])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-17: one that is none, or longer than 10 years, is refused", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const sessions = yield* Sessions
      for (const lifetime of [0, -1, Infinity, "3653 days"] as const) {
        for (const asked of [{ sessionLifetime: lifetime }, { sessionAbsoluteLifetime: lifetime }]) {
          const issue = links.issue({ issuedBy: "operator", scopes: [], ...asked })
          assert.strictEqual((yield* Effect.flip(issue)).reason._tag, "SessionLifetimeOutOfBounds")
        }
        const begun = sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token", lifetime })
        assert.strictEqual((yield* Effect.flip(begun)).reason._tag, "InvalidInput")
      }
      assert.deepStrictEqual(yield* links.list(), [])
    }).pipe(Effect.provide(services())))
})

describe("the kind of a device", () => {
  const agents: ReadonlyArray<readonly [DeviceKind, SessionMethod, string | null]> = [
    ["desktop", "browser-session-cookie", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
    ["desktop", "browser-session-cookie", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0"],
    [
      "desktop",
      "browser-session-cookie",
      "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari"
    ],
    ["desktop", "bearer-access-token", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Electron/38.0"],
    ["phone", "browser-session-cookie", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Mobile/15E148 Safari"],
    ["phone", "browser-session-cookie", "Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/140.0 Mobile Safari/537.36"],
    ["phone", "dpop-access-token", "okhttp/4.12.0"],
    ["tablet", "browser-session-cookie", "Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) Mobile/15E148 Safari"],
    ["tablet", "browser-session-cookie", "Mozilla/5.0 (Linux; Android 15; SM-X910) Chrome/140.0 Safari/537.36"],
    ["browser", "browser-session-cookie", null],
    ["browser", "browser-session-cookie", "a browser of its own"],
    ["terminal", "bearer-access-token", "curl/8.15.0"],
    ["terminal", "dpop-access-token", "Wget/1.25.0"],
    ["program", "bearer-access-token", "node"],
    ["program", "bearer-access-token", "Python-urllib/3.13"],
    ["program", "bearer-access-token", null]
  ]

  it.effect("SESS-11: follows from the user agent and the method, unless the caller says", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      for (const [kind, method, userAgent] of agents) {
        const proofKeyThumbprint = method === "dpop-access-token" ? "key" : undefined
        const options = { subject: "ada", scopes: [], method, proofKeyThumbprint }
        const { session } = yield* sessions.issue({ ...options, device: { userAgent } })
        assert.strictEqual(session.device.kind, kind, userAgent ?? method)
        const told = yield* sessions.issue({ ...options, device: { userAgent, kind: "terminal" } })
        assert.strictEqual(told.session.device.kind, "terminal")
      }
    }).pipe(Effect.provide(services())))
})
