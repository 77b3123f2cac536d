import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import * as Jose from "jose"
import * as SigningKeys from "../../src/access/internal/signingKeys.ts"
import { Environment, feed, Probe, services, shown } from "./accessSupport.ts"

const Sessions = SessionCredentialService.SessionCredentialService

const refreshing: SessionCredentialService.Options = { refresh: { tokenLifetime: "10 minutes" } }

const issue = (options: { readonly proofKeyThumbprint?: string } = {}) =>
  Effect.gen(function*() {
    const sessions = yield* Sessions
    const issued = yield* sessions.issue({
      subject: "ada",
      scopes: ["runs:read"],
      method: options.proofKeyThumbprint === undefined ? "bearer-access-token" : "dpop-access-token",
      ...options
    })
    assert.isDefined(issued.refreshToken)
    return { ...issued, refreshToken: issued.refreshToken ?? Redacted.make("") }
  })

/** Returns why something was refused, or what it was answered instead. */
const problem = <A>(effect: Effect.Effect<A, SessionCredentialService.SessionCredentialError>) =>
  Effect.match(effect, {
    onFailure: ({ reason }) => "problem" in reason ? reason.problem : reason._tag,
    onSuccess: () => "let in"
  })

const text = Redacted.value

describe("refresh tokens", () => {
  it.effect("SESS-04: are off by default, and never come with a cookie", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const request = { subject: "ada", scopes: [] } as const
      const plain = yield* sessions.issue({ ...request, method: "bearer-access-token" })
      assert.isUndefined(plain.refreshToken)
      assert.deepStrictEqual(plain.tokenExpiresAt, plain.session.expiresAt)
      // An access token is no refresh token.
      assert.strictEqual(yield* problem(sessions.refresh(plain.token)), "malformed")

      const other = yield* SessionCredentialService.make(refreshing)
      const cookie = yield* other.issue({ ...request, method: "browser-session-cookie" })
      assert.isUndefined(cookie.refreshToken)
      assert.deepStrictEqual(cookie.tokenExpiresAt, cookie.session.expiresAt)
    }).pipe(Effect.provide(services())))

  it.effect("AGENT-01 SESS-04: a session that a client was granted is refreshed by that client, for that resource", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const client = { id: "https://client.example/app", resource: "/mcp" }
      const request = { subject: "ada", scopes: ["runs:read"], method: "bearer-access-token", client } as const
      const { refreshToken, session, token } = yield* sessions.issue(request)
      assert.deepStrictEqual(session.client, client)
      // The token is for its resource and for no other, the API among them.
      assert.strictEqual((yield* sessions.verify(token, { resource: "/mcp" })).id, session.id)
      for (const resource of [undefined, "/", "/mcp/", "/other"]) {
        assert.strictEqual(yield* problem(sessions.verify(token, { resource })), "resource-mismatch")
      }
      const paired = yield* sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
      assert.strictEqual(yield* problem(sessions.verify(paired.token, { resource: "/mcp" })), "resource-mismatch")

      if (refreshToken === undefined) return assert.fail("no refresh token")
      const refresh = (client: { readonly id: string; readonly resource?: string | null } | undefined) =>
        sessions.refresh(refreshToken, { client })
      assert.strictEqual(yield* problem(refresh(undefined)), "client-mismatch")
      assert.strictEqual(yield* problem(refresh({ id: "https://client.example/app/" })), "client-mismatch")
      assert.strictEqual(yield* problem(refresh({ id: client.id, resource: null })), "resource-mismatch")
      assert.strictEqual(yield* problem(refresh({ id: client.id, resource: "/other" })), "resource-mismatch")
      const next = yield* refresh({ id: client.id })
      assert.deepStrictEqual(next.session.client, client)
      assert.strictEqual(yield* problem(sessions.verify(token, { resource: "/mcp" })), "unknown")

      // What introspection tells, and what revocation ends.
      const inspected = yield* sessions.inspect(next.token)
      assert.deepStrictEqual(Option.map(inspected, ({ session }) => session.id), Option.some(session.id))
      for (const other of [next.refreshToken, token, Redacted.make("x.y.z")]) {
        assert.isTrue(Option.isNone(yield* sessions.inspect(other)))
      }
      for (
        const [token, id] of [[next.refreshToken, "https://other.example/app"], [paired.token, client.id]] as const
      ) {
        assert.isFalse(yield* sessions.revokeToken(token, id))
      }
      assert.isTrue(yield* sessions.revokeToken(Redacted.make("x.y.z"), client.id))
      assert.strictEqual((yield* sessions.verify(next.token, { resource: "/mcp" })).id, session.id)
      assert.isTrue(yield* sessions.revokeToken(next.refreshToken, client.id))
      assert.strictEqual(yield* problem(sessions.verify(next.token, { resource: "/mcp" })), "revoked")
      assert.isTrue(Option.isNone(yield* sessions.inspect(next.token)))
      assert.strictEqual((yield* sessions.verify(paired.token)).id, paired.session.id)
    }).pipe(Effect.provide(services())))

  it.effect("SESS-04: the token ends when its time is up, however busy it is, and the session goes on with the next one", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      let { refreshToken, session, token, tokenExpiresAt } = yield* issue()
      assert.strictEqual(DateTime.toEpochMillis(tokenExpiresAt), 600_000)
      for (let round = 0; round < 5; round++) {
        for (let minute = 0; minute < 10; minute++) {
          assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
          yield* TestClock.adjust(minute < 9 ? "1 minute" : Duration.millis(59_999))
        }
        assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
        const next = yield* sessions.refresh(refreshToken)
        assert.strictEqual(next.session.id, session.id)
        assert.strictEqual(DateTime.toEpochMillis(next.tokenExpiresAt), (round + 2) * 600_000)
        assert.strictEqual((yield* sessions.verify(next.token)).id, session.id)
        refreshToken = next.refreshToken
        token = next.token
      }
      assert.strictEqual((yield* sessions.list()).length, 1)
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: the token before ends with the exchange, also where it was remembered, in this process and in another", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const other = yield* SessionCredentialService.make(refreshing)
      const { refreshToken, token } = yield* issue()
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
      assert.strictEqual(yield* problem(other.verify(token)), "let in")
      yield* TestClock.adjust(1)
      const next = yield* sessions.refresh(refreshToken)
      assert.strictEqual(yield* problem(sessions.verify(token)), "unknown")
      assert.strictEqual(yield* problem(other.verify(next.token)), "let in")
      assert.strictEqual(yield* problem(other.verify(token)), "unknown")
      assert.strictEqual(yield* problem(sessions.verify(next.token)), "let in")
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: two tabs that refresh within the grace window get the same tokens, in one process or two", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const other = yield* SessionCredentialService.make(refreshing)
      const { refreshToken, session } = yield* issue()
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? sessions : other).refresh(refreshToken)),
        { concurrency: "unbounded" }
      )
      yield* TestClock.adjust("29 seconds")
      answers.push(yield* other.refresh(refreshToken))
      const [first] = answers
      if (first === undefined) return assert.fail()
      for (const answer of answers) {
        assert.strictEqual(text(answer.token), text(first.token))
        assert.strictEqual(text(answer.refreshToken), text(first.refreshToken))
        assert.deepStrictEqual(answer.tokenExpiresAt, first.tokenExpiresAt)
        assert.strictEqual(answer.session.id, session.id)
      }
      assert.strictEqual(yield* problem(sessions.verify(first.token)), "let in")
      assert.strictEqual(yield* problem(sessions.refresh(first.refreshToken)), "let in")
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: what the second tab gets is the same also where the key or the setting changed in between", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { refreshToken } = yield* issue()
      const first = yield* sessions.refresh(refreshToken)
      const other = yield* SessionCredentialService.make({ refresh: { tokenLifetime: "1 hour" } })
      yield* sessions.rotateSigningKey
      yield* TestClock.adjust("5 seconds")
      for (const service of [sessions, other]) {
        const again = yield* service.refresh(refreshToken)
        assert.strictEqual(text(again.token), text(first.token))
        assert.strictEqual(text(again.refreshToken), text(first.refreshToken))
      }
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: a refresh token that is used again, some time after its successor was, ends the session, tokens, streams and all", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { refreshToken, session } = yield* issue()
      const bystander = yield* issue()
      const next = yield* sessions.refresh(refreshToken)
      const ended = yield* Effect.forkChild(sessions.awaitEnd(session))
      const ticket = yield* sessions.issueTicket(session)
      yield* sessions.verify(next.token)
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(yield* problem(sessions.refresh(refreshToken)), "reused")
      assert.strictEqual(yield* problem(sessions.verify(next.token)), "revoked")
      assert.strictEqual(yield* problem(sessions.refresh(next.refreshToken)), "revoked")
      assert.strictEqual(yield* problem(sessions.consumeTicket(ticket)), "TicketRefused")
      assert.strictEqual(yield* Fiber.join(ended), "revoked")
      assert.strictEqual(yield* problem(sessions.verify(bystander.token)), "let in")
      const last = (yield* feed).at(-1)
      assert.strictEqual(last?.actor, "system")
      assert.deepStrictEqual({ ...last?.change }, {
        _tag: "sessionRemoved",
        id: session.id,
        subject: session.subject,
        reason: "revoked"
      })
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: a thief who refreshes first is thrown out by the owner, and the other way round", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { refreshToken } = yield* issue()
      let stolen = yield* sessions.refresh(refreshToken)
      yield* TestClock.adjust("9 minutes")
      stolen = yield* sessions.refresh(stolen.refreshToken)
      assert.strictEqual(yield* problem(sessions.refresh(refreshToken)), "reused")
      assert.strictEqual(yield* problem(sessions.verify(stolen.token)), "revoked")
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: one that is bound to a key takes its proof, and who doesn't hold the key ends nothing", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { refreshToken } = yield* issue({ proofKeyThumbprint: "mine" })
      const holding = (proofKeyThumbprint: string) => ({
        proof: Effect.succeed({ proofKeyThumbprint, spend: Effect.void })
      })
      for (const options of [undefined, holding("yours")]) {
        assert.strictEqual(yield* problem(sessions.refresh(refreshToken, options)), "proof-key-mismatch")
      }
      const mine = { proofKeyThumbprint: "mine" }
      const next = yield* sessions.refresh(refreshToken, holding("mine"))
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(yield* problem(sessions.refresh(refreshToken)), "proof-key-mismatch")
      assert.strictEqual(yield* problem(sessions.verify(next.token, mine)), "let in")
      assert.strictEqual(yield* problem(sessions.verify(next.token)), "proof-key-mismatch")
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: is no session token, nor a session token a refresh token, and nothing forged is looked up", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { refreshToken, token } = yield* issue()
      probe.calls.clear()
      assert.strictEqual(yield* problem(sessions.verify(refreshToken)), "malformed")
      assert.strictEqual(yield* problem(sessions.refresh(token)), "malformed")
      const [header, payload, signature] = text(refreshToken).split(".")
      for (
        const forged of [
          "",
          "x",
          "A".repeat(100_000),
          `${text(refreshToken)}.x`,
          `${header}.${payload}.${Buffer.alloc(32).toString("base64url")}`,
          `${header}.${Buffer.from("{}").toString("base64url")}.${signature}`
        ]
      ) assert.strictEqual(yield* problem(sessions.refresh(Redacted.make(forged))), "malformed", forged.slice(0, 99))
      assert.strictEqual(probe.calls.size, 0)
      assert.strictEqual(yield* problem(sessions.refresh(refreshToken)), "let in")
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-04: idle and absolute limits hold for them too", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const idle = yield* issue()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* problem(sessions.refresh(idle.refreshToken)), "expired")

      let { refreshToken } = yield* issue()
      for (let half = 0; half < 47; half++) {
        yield* TestClock.adjust("30 minutes")
        const next = yield* sessions.refresh(refreshToken)
        refreshToken = next.refreshToken
      }
      yield* TestClock.adjust(Duration.millis(30 * 60_000 - 1))
      const last = yield* sessions.refresh(refreshToken)
      // Neither the row nor the token goes beyond the 24 hours.
      assert.strictEqual(DateTime.toEpochMillis(last.tokenExpiresAt), 25 * 3_600_000)
      assert.strictEqual(Jose.decodeJwt(text(last.token)).exp, 25 * 3_600)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* problem(sessions.refresh(last.refreshToken)), "expired")
      assert.strictEqual(yield* problem(sessions.verify(last.token)), "expired")
    }).pipe(Effect.provide(services({ sessions: { ...SessionCredentialService.nistAal2, ...refreshing } }))))

  it.effect("SESS-04: when the store fails nothing is refreshed; when its answer is lost, the client can ask again", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { refreshToken, token } = yield* issue()
      yield* sessions.verify(token)
      probe.failing.add("refresh")
      assert.strictEqual(yield* problem(sessions.refresh(refreshToken)), "SessionStoreUnavailable")
      assert.strictEqual(yield* problem(sessions.verify(token)), "let in")
      probe.failing.clear()
      probe.failingAfter.add("refresh")
      assert.strictEqual(yield* problem(sessions.refresh(refreshToken)), "SessionStoreUnavailable")
      assert.strictEqual(yield* problem(sessions.verify(token)), "unknown")
      probe.failingAfter.clear()
      const next = yield* sessions.refresh(refreshToken)
      assert.strictEqual(yield* problem(sessions.verify(next.token)), "let in")
    }).pipe(Effect.provide(services({ sessions: refreshing }))))

  it.effect("SESS-12: neither rows, feed and keys nor results hold them, and who has all of those cannot make the next one", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const { refreshToken } = yield* issue()
      const next = yield* sessions.refresh(refreshToken)
      const failure = yield* Effect.flip(sessions.refresh(next.token))
      const secrets = yield* SecretStore.SecretStore
      const keys = yield* secrets.get(SigningKeys.secretName)
      const dump = [
        shown(probe.traffic),
        shown(yield* feed),
        shown(next),
        shown(failure),
        Buffer.from(Redacted.value(Option.getOrThrow(keys))).toString()
      ].join("\n")
      for (const secret of [refreshToken, next.refreshToken, next.token]) {
        const [, payload, signature] = text(secret).split(".")
        for (const part of [text(secret), payload, signature]) assert.notInclude(dump, part ?? "")
        const jti = Jose.decodeJwt(text(secret)).jti
        assert.notInclude(dump, String(jti))
      }
    }).pipe(Effect.provide(services({ sessions: refreshing }))))
})

describe("limits to a session", () => {
  it.effect("SESS-04: the presets are those of NIST SP 800-63B-4: so long at most, and so long without activity", () =>
    Effect.gen(function*() {
      const { nistAal1, nistAal2, nistAal3 } = SessionCredentialService
      const request = { subject: "ada", scopes: [], method: "browser-session-cookie" } as const
      for (
        const [preset, idle, overall] of [
          [nistAal1, "30 days", "30 days"],
          [nistAal2, "1 hour", "24 hours"],
          [nistAal3, "15 minutes", "12 hours"]
        ] as const
      ) {
        const sessions = yield* SessionCredentialService.make(preset)
        const unused = yield* sessions.issue(request)
        yield* TestClock.adjust(Duration.subtract(Duration.fromInputUnsafe(idle), Duration.millis(1)))
        // Used a millisecond before: that keeps it, unless it is as old as a session may become.
        assert.strictEqual(yield* problem(sessions.verify(unused.token)), "let in")
        const idling = yield* sessions.issue(request)
        yield* TestClock.adjust(idle)
        assert.strictEqual(yield* problem(sessions.verify(idling.token)), "expired")

        const busy = yield* sessions.issue(request)
        const beat = Duration.divideUnsafe(Duration.fromInputUnsafe(idle), 2)
        const beats = Duration.toMillis(Duration.fromInputUnsafe(overall)) / Duration.toMillis(beat)
        for (let index = 1; index < beats; index++) {
          yield* TestClock.adjust(beat)
          assert.strictEqual(yield* problem(sessions.verify(busy.token)), "let in")
        }
        yield* TestClock.adjust(beat)
        assert.strictEqual(yield* problem(sessions.verify(busy.token)), "expired")
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-04: an absolute lifetime that is shorter than the idle timeout holds from the beginning", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const { session, token, tokenExpiresAt } = yield* sessions.issue({
        subject: "ada",
        scopes: [],
        method: "bearer-access-token"
      })
      assert.strictEqual(DateTime.toEpochMillis(session.expiresAt), 3_600_000)
      assert.deepStrictEqual(tokenExpiresAt, session.expiresAt)
      const rows = (yield* AccessRepository).sessions
      const row = yield* rows.findById(session.id)
      assert.strictEqual(Option.getOrUndefined(row)?.expiresAtMillis, 3_600_000)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* problem(sessions.verify(token)), "expired")
    }).pipe(Effect.provide(services({ sessions: { absoluteLifetime: "1 hour" } }))))
})

describe("the sweeper of sessions", () => {
  it.effect("L-24: deletes sessions a day after their end, with an event for the expired, and goes on after a failure", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const request = { subject: "ada", scopes: [], method: "bearer-access-token" } as const
      const expiring = yield* Effect.all(Array.from({ length: 5 }, () => sessions.issue(request)))
      const rows = (yield* AccessRepository).sessions
      const left = Effect.map(
        Effect.forEach(expiring, ({ session }) => rows.findById(session.id)),
        (found) => found.filter(Option.isSome).length
      )
      yield* Layer.build(SessionCredentialService.layerSweeper({ interval: "1 minute", batchSize: 2 }))
      yield* TestClock.adjust("1499 minutes")
      assert.strictEqual(yield* left, 5)
      probe.failing.add("sweep")
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* left, 5)
      probe.failing.clear()
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* left, 0)
      const removed = (yield* feed).filter(({ change }) => change._tag === "sessionRemoved")
      assert.strictEqual(removed.length, 5)
      for (const { actor } of removed) assert.strictEqual(actor, "system")
    }).pipe(Effect.provide(services({ sessions: { lifetime: "1 hour" } }))))
})

describe("who a session may be for", () => {
  it.effect("no subject whom the feed would show as the operator or the system, and no text that a store cannot hold", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const probe = yield* Probe
      const request = { subject: "ada", scopes: [], method: "bearer-access-token" } as const
      for (
        const mistaken of [
          { ...request, subject: "operator" },
          { ...request, subject: "system" },
          { ...request, subject: "connect" },
          { ...request, subject: "ada\u0000" },
          { ...request, subject: "a\nb" },
          { ...request, subject: "\ud800" }
        ]
      ) {
        const exit = yield* Effect.exit(sessions.issue(mistaken))
        assert.strictEqual(exit._tag, "Failure", JSON.stringify(mistaken))
      }
      assert.isUndefined(probe.calls.get("insert"))
      for (const subject of ["Operator", "operators", "system:ada", "Zoë 📱", "org/müller"]) {
        assert.strictEqual((yield* sessions.issue({ ...request, subject })).session.subject, subject)
      }
    }).pipe(Effect.provide(services())))
})
