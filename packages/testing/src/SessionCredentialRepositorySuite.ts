/**
 * States what every `SessionCredentialRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import { assert, describe } from "@effect/vitest"
import type { ChangeContext } from "@sallyport/core/access/AccessEvent"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { Device, SessionId } from "@sallyport/core/access/Session"
import { maxTickets, type RevocationTarget, type SessionRow } from "@sallyport/core/access/SessionCredentialRepository"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { allEvents, at, brief, expectFeed, linkRow, sessionRow, start } from "./internal/accessRows.ts"
import { testOn, times } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

const sid = SessionId.make

const bySession = (id: string): RevocationTarget => ({ _tag: "Session", id: sid(id) })
const bySubject = (subject: string): RevocationTarget => ({ _tag: "Subject", subject })
const byProofKey = (proofKeyThumbprint: string): RevocationTarget => ({ _tag: "ProofKey", proofKeyThumbprint })
const byOthers = (subject: string, keep: string): RevocationTarget => ({
  _tag: "SubjectExcept",
  subject,
  keep: sid(keep)
})

/** Revokes, and returns the sessions that this ended. */
const endSessions = (target: RevocationTarget, change: ChangeContext) =>
  AccessRepository.use(({ sessions }) => Effect.map(sessions.revoke(target, change), (ended) => ended.sessions))

const ticketRow = (ticketDigest: string, session: string, endsAfterMillis = 5_000) => ({
  ticketDigest: `ticket-digest-${ticketDigest}`,
  sessionId: sid(session),
  expiresAtMillis: start + endsAfterMillis
})

const redeem = (ticketDigest: string, afterMillis: number) => ({
  ticketDigest: `ticket-digest-${ticketDigest}`,
  nowMillis: start + afterMillis
})

const refreshDigest = (id: string, generation: number) => `refresh-digest-${generation}-of-${id}`

/** The fields of a session whose refresh token is of a generation, and was issued some time after {@link start}. */
const refreshable = (id: string, generation: number, afterMillis: number): Partial<SessionRow> => ({
  tokenExpiresAtMillis: start + afterMillis + 5,
  refreshDigest: refreshDigest(id, generation),
  refreshedAtMillis: start + afterMillis
})

/** Presents the refresh token of a generation, for the next one. */
const exchange = (id: string, generation: number, fields: {
  readonly proofKeyThumbprint?: string
  readonly scopes?: ReadonlyArray<AccessScope>
  readonly graceMillis?: number
  readonly branch?: string
} = {}) => ({
  id: sid(id),
  presentedDigest: refreshDigest(id, generation),
  proofKeyThumbprint: fields.proofKeyThumbprint,
  scopes: fields.scopes ?? [],
  graceMillis: fields.graceMillis ?? 3_600_000,
  lifetimeMillis: 60_000,
  next: {
    tokenDigest: `token-digest-${generation + 1}-of-${id}${fields.branch ?? ""}`,
    refreshDigest: `${refreshDigest(id, generation + 1)}${fields.branch ?? ""}`,
    keyId: "key-2",
    tokenExpiresAtMillis: start + 5_000
  }
})

const id = Schema.Literals(["a", "b", "c", "d"])
const subject = Schema.Literals(["ada", "bob"])
const key = Schema.Literals(["key-1", "key-2"])
const millis = small(20)

const Step = Schema.Union([
  Schema.TaggedStruct("insert", {
    id,
    digestOf: id,
    subject,
    key: Schema.NullOr(key),
    now: millis,
    expiresAt: millis,
    lifetime: Schema.NullOr(small(10)),
    absoluteAfter: Schema.NullOr(small(10)),
    refresh: Schema.NullOr(small(3))
  }),
  Schema.TaggedStruct("find", { id }),
  Schema.TaggedStruct("renew", { id, due: millis, lifetime: millis, now: millis }),
  Schema.TaggedStruct("refresh", {
    id,
    presented: small(3),
    next: small(3),
    key: Schema.NullOr(key),
    scopes: Schema.Literals(["runs:read", "runs:operate"]),
    grace: Schema.Literals([0, 3_600_000]),
    lifetime: millis,
    now: millis
  }),
  Schema.TaggedStruct("useTokens", { id, next: small(3), now: millis }),
  Schema.TaggedStruct("isKeyInUse", { keyId: Schema.Literals(["key-1", "key-2"]), now: millis }),
  Schema.TaggedStruct("list", {
    now: millis,
    after: Schema.NullOr(id),
    subject: Schema.NullOr(subject),
    limit: small(4)
  }),
  Schema.TaggedStruct("rename", { id, subject: Schema.NullOr(subject), now: millis }),
  Schema.TaggedStruct("revoke", {
    by: Schema.Literals(["id", "subject", "others", "key"]),
    id,
    subject,
    key,
    now: millis
  }),
  Schema.TaggedStruct("insertTicket", { ticket: id, id, expiresAt: millis }),
  Schema.TaggedStruct("consumeTicket", { ticket: id, now: millis }),
  Schema.TaggedStruct("sweep", { ended: millis, limit: small(4), now: millis })
])

/** Returns a row without the one time that is the store's own. */
const timeless = (row: SessionRow) => ({ ...row, tokensUsedAtMillis: row.tokensUsedAtMillis === null ? null : "then" })

/** Runs a step and returns its answer as plain data. */
const runStep = Effect.fnUntraced(function*(step: typeof Step.Type) {
  const sessions = (yield* AccessRepository).sessions
  switch (step._tag) {
    case "insert": {
      const expiresAtMillis = start + step.expiresAt
      return yield* sessions.insert(
        sessionRow(step.id, {
          tokenDigest: `token-digest-of-${step.digestOf}`,
          subject: step.subject,
          proofKeyThumbprint: step.key,
          createdAtMillis: start + step.now,
          lastSeenAtMillis: start + step.now,
          expiresAtMillis,
          lifetimeMillis: step.lifetime === null ? null : step.lifetime + 1,
          absoluteExpiresAtMillis: step.absoluteAfter === null ? null : expiresAtMillis + step.absoluteAfter,
          ...(step.refresh === null ? {} : refreshable(step.id, step.refresh, step.now))
        }),
        at(step.now)
      )
    }
    case "find":
      return [
        Option.map(yield* sessions.findById(sid(step.id)), timeless),
        yield* sessions.findByTokenDigest(`token-digest-of-${step.id}`)
      ]
    case "renew": {
      const renewed = yield* sessions.renew(
        { id: sid(step.id), dueBeforeMillis: start + step.due, lifetimeMillis: step.lifetime },
        at(step.now)
      )
      return Option.map(renewed, timeless)
    }
    case "refresh": {
      const outcome = yield* sessions.refresh({
        id: sid(step.id),
        presentedDigest: refreshDigest(step.id, step.presented),
        proofKeyThumbprint: step.key ?? undefined,
        scopes: [step.scopes],
        graceMillis: step.grace,
        lifetimeMillis: step.lifetime,
        next: {
          tokenDigest: `new-token-of-${step.id}-${step.next}`,
          refreshDigest: refreshDigest(step.id, step.next),
          keyId: "key-2",
          tokenExpiresAtMillis: start + step.now + 5
        }
      }, at(step.now))
      return "row" in outcome ? { ...outcome, row: timeless(outcome.row) } : outcome
    }
    case "useTokens":
      return yield* sessions.useTokens(`new-token-of-${step.id}-${step.next}`, start + step.now)
    case "isKeyInUse":
      return yield* sessions.isKeyInUse({ keyId: step.keyId, nowMillis: start + step.now })
    case "list": {
      const listed = yield* sessions.list({
        nowMillis: start + step.now,
        subject: step.subject ?? undefined,
        afterId: step.after === null ? undefined : sid(step.after),
        limit: step.limit
      })
      return listed.map(timeless)
    }
    case "rename": {
      const renamed = yield* sessions.rename(
        { id: sid(step.id), subject: step.subject ?? undefined, label: `renamed at ${step.now}` },
        at(step.now)
      )
      return Option.map(renamed, timeless)
    }
    case "revoke": {
      const target = {
        id: bySession(step.id),
        subject: bySubject(step.subject),
        others: byOthers(step.subject, step.id),
        key: byProofKey(step.key)
      }[step.by]
      return yield* sessions.revoke(target, at(step.now))
    }
    case "insertTicket":
      return yield* sessions.insertTicket(ticketRow(step.ticket, step.id, step.expiresAt))
    case "consumeTicket":
      return yield* sessions.consumeTicket(redeem(step.ticket, step.now))
    case "sweep":
      return yield* sessions.sweep({ endedBeforeMillis: start + step.ended, limit: step.limit }, at(step.now))
  }
})

/**
 * Runs the contract tests of `SessionCredentialRepository` against a layer. `name` tells adapters apart in the report.
 *
 * The layer must be a new, empty store each time that it is built, and provide the access feed of that store beside the
 * repository.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(
  name: string,
  layer: Layer.Layer<AccessRepository, E>
): void => {
  describe(`SessionCredentialRepository (${name})`, () => {
    const test = testOn(layer)

    const found = (id: string) =>
      AccessRepository.use(({ sessions }) => Effect.map(sessions.findById(sid(id)), Option.getOrUndefined))

    test(
      "keeps every field of a session and appends its event",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const plain = sessionRow("plain")
        const full = sessionRow("full", {
          subject: "org:müller/ö",
          method: "dpop-access-token",
          scopes: ["runs:operate", "access:read"],
          proofKeyThumbprint: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
          device: new Device({
            label: `Zoë's "phone" 📱 \\ ; -- \n`,
            kind: "tablet",
            userAgent: `Mozilla/5.0 ${"x".repeat(2_000)}`,
            address: "2001:db8::1"
          }),
          keyId: "key-2",
          createdAtMillis: start + 1,
          lastSeenAtMillis: start + 2,
          letInBy: "bob",
          expiresAtMillis: start + 3_000_000_000,
          lifetimeMillis: 60_000,
          absoluteExpiresAtMillis: start + 4_000_000_000
        })
        const cookie = sessionRow("cookie", { method: "browser-session-cookie", scopes: [] })
        for (const row of [plain, full, cookie]) {
          yield* sessions.insert(row, at(5, "ada"))
          assert.deepStrictEqual(yield* sessions.findById(row.id), Option.some(row))
          assert.deepStrictEqual(yield* sessions.findByTokenDigest(row.tokenDigest), Option.some(row))
        }
        assert.deepStrictEqual(yield* sessions.findById(sid("unknown")), Option.none())
        assert.deepStrictEqual(yield* sessions.findByTokenDigest("unknown"), Option.none())
        assert.deepStrictEqual(yield* sessions.findByTokenDigest("TOKEN-DIGEST-OF-PLAIN"), Option.none())
        yield* expectFeed("sessionUpserted plain", "sessionUpserted full", "sessionUpserted cookie")
        const [, event] = yield* allEvents
        if (event?.change._tag !== "sessionUpserted") return assert.fail()
        const { session } = event.change
        assert.strictEqual(event.actor, "ada")
        assert.strictEqual(event.at.epochMilliseconds, start + 5)
        assert.strictEqual(session.subject, full.subject)
        assert.strictEqual(session.method, full.method)
        assert.deepStrictEqual(session.scopes, full.scopes)
        assert.strictEqual(session.proofKeyThumbprint, full.proofKeyThumbprint)
        assert.deepStrictEqual(session.device, full.device)
        assert.strictEqual(session.createdAt.epochMilliseconds, full.createdAtMillis)
        assert.strictEqual(session.lastSeenAt.epochMilliseconds, full.lastSeenAtMillis)
        assert.strictEqual(session.expiresAt.epochMilliseconds, full.expiresAtMillis)
      })
    )

    test(
      "insert fails and changes nothing if the id or the digest exists",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const row = sessionRow("one")
        yield* sessions.insert(row, at(0))
        const taken = [
          row,
          sessionRow("one", { tokenDigest: "another", subject: "eve" }),
          sessionRow("two", { tokenDigest: row.tokenDigest, subject: "eve" })
        ]
        for (const other of taken) {
          const error = yield* Effect.flip(sessions.insert(other, at(0)))
          assert.instanceOf(error, RepositoryError)
          assert.strictEqual(error.operation, "insert")
        }
        assert.deepStrictEqual(yield* sessions.list({ nowMillis: start, afterId: undefined, limit: 10 }), [row])
        assert.deepStrictEqual(yield* sessions.findByTokenDigest("another"), Option.none())
        yield* expectFeed("sessionUpserted one")
      })
    )

    test(
      "finds a session that is revoked or has expired",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("revoked"), at(0))
        yield* endSessions(bySession("revoked"), at(3))
        yield* sessions.insert(sessionRow("expired", { expiresAtMillis: 1 }), at(0))
        assert.deepStrictEqual(
          yield* found("revoked"),
          sessionRow("revoked", {
            revokedAtMillis: start + 3,
            revokedBy: { actor: at(3).actor, sessionId: null, descended: false }
          })
        )
        assert.strictEqual((yield* found("expired"))?.expiresAtMillis, 1)
        const byDigest = yield* sessions.findByTokenDigest("token-digest-of-revoked")
        assert.strictEqual(Option.getOrUndefined(byDigest)?.revokedAtMillis, start + 3)
      })
    )

    test(
      "renew moves the end of a session that is due, and answers with the row",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one"), at(0))
        const renewed = yield* sessions.renew(
          { id: sid("one"), dueBeforeMillis: start, lifetimeMillis: 60_000 },
          at(9_999, "ada")
        )
        const expected = sessionRow("one", { lastSeenAtMillis: start + 9_999, expiresAtMillis: start + 69_999 })
        assert.deepStrictEqual(renewed, Option.some(expected))
        assert.deepStrictEqual(yield* found("one"), expected)
        yield* expectFeed("sessionUpserted one", "sessionUpserted one")
        const [, event] = yield* allEvents
        assert.strictEqual(event?.actor, "ada")
        assert.strictEqual(event?.at.epochMilliseconds, start + 9_999)
        if (event?.change._tag !== "sessionUpserted") return assert.fail()
        assert.strictEqual(event.change.session.expiresAt.epochMilliseconds, start + 69_999)
      })
    )

    test(
      "SESS-17: renew and refresh move the end of a session by its own lifetime, if it has one, up to its absolute end",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const own = { lifetimeMillis: 10_000, expiresAtMillis: start + 10_000 }
        yield* sessions.insert(sessionRow("own", own), at(0))
        yield* sessions.insert(sessionRow("bounded", { ...own, absoluteExpiresAtMillis: start + 12_000 }), at(0))
        yield* sessions.insert(sessionRow("refreshed", { ...own, ...refreshable("refreshed", 0, 0) }), at(0))
        for (const id of ["own", "bounded"]) {
          yield* sessions.renew({ id: sid(id), dueBeforeMillis: start, lifetimeMillis: 60_000 }, at(5_000))
        }
        yield* sessions.refresh(exchange("refreshed", 0), at(5_000))
        const ends = yield* Effect.forEach(["own", "bounded", "refreshed"], (id) => found(id))
        assert.deepStrictEqual(ends.map((row) => (row?.expiresAtMillis ?? 0) - start), [15_000, 12_000, 15_000])
      })
    )

    test(
      "SESS-11: rename gives the device of a live session a label, within a subject, and appends the event",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const device = new Device({ label: null, kind: "phone", userAgent: "agent", address: "::1" })
        for (const id of ["one", "two", "revoked", "expired"]) {
          yield* sessions.insert(
            sessionRow(id, {
              device,
              subject: id === "two" ? "bob" : "ada",
              ...(id === "expired" ? { expiresAtMillis: start } : {})
            }),
            at(0)
          )
        }
        yield* endSessions(bySession("revoked"), at(0))
        const label = `Zoë's "phone" 📱 \\ ; -- $.label`
        const rename = (id: string, subject?: string) => sessions.rename({ id: sid(id), subject, label }, at(1, "ada"))
        for (const id of ["revoked", "expired", "unknown"]) assert.deepStrictEqual(yield* rename(id), Option.none())
        assert.deepStrictEqual(yield* rename("two", "ada"), Option.none())
        const renamed = sessionRow("one", { device: new Device({ ...device, label }) })
        assert.deepStrictEqual(yield* rename("one", "ada"), Option.some(renamed))
        assert.deepStrictEqual(yield* found("one"), renamed)
        assert.deepStrictEqual(Option.map(yield* rename("two"), (row) => row.device.label), Option.some(label))
        const events = (yield* allEvents).slice(-2)
        assert.deepStrictEqual(events.map(brief), ["sessionUpserted one", "sessionUpserted two"])
        const [event] = events
        if (event?.change._tag !== "sessionUpserted") return assert.fail()
        assert.deepStrictEqual([event.actor, event.change.session.device.label], ["ada", label])
      })
    )

    test(
      "SESS-18: a session asks for scopes that it lacks, once for the same ones, and the feed tells",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        for (const id of ["one", "revoked", "expired"]) {
          yield* sessions.insert(sessionRow(id, id === "expired" ? { expiresAtMillis: start } : {}), at(0))
        }
        yield* endSessions(bySession("revoked"), at(0))
        const ask = (id: string, scopes: SessionRow["scopes"], afterMillis: number) =>
          sessions.askScopes({ id: sid(id), scopes, lifetimeMillis: 100 }, at(afterMillis, "ada"))
        for (const id of ["revoked", "expired", "unknown"]) {
          assert.deepStrictEqual(yield* ask(id, ["runs:operate"], 1), Option.none())
        }
        const asking = (scopes: SessionRow["scopes"], afterMillis: number, untilMillis: number) =>
          sessionRow("one", {
            scopeRequest: { scopes, requestedAtMillis: start + afterMillis, expiresAtMillis: start + untilMillis }
          })
        const before = (yield* allEvents).length
        // What it has is not asked for; the same again changes nothing; something else, or after the end, is a new request.
        assert.deepStrictEqual(yield* ask("one", ["runs:read"], 1), Option.some(sessionRow("one")))
        const first = asking(["runs:operate"], 2, 102)
        assert.deepStrictEqual(yield* ask("one", ["runs:read", "runs:operate", "runs:operate"], 2), Option.some(first))
        assert.deepStrictEqual(yield* ask("one", ["runs:operate"], 50), Option.some(first))
        assert.deepStrictEqual(yield* found("one"), first)
        const second = asking(["runs:operate", "access:write"], 3, 102)
        assert.deepStrictEqual(yield* ask("one", ["runs:operate", "access:write"], 2), Option.some(second))
        const third = asking(["access:write", "runs:operate"], 102, 202)
        assert.deepStrictEqual(yield* ask("one", ["access:write", "runs:operate"], 102), Option.some(third))
        const events = (yield* allEvents).slice(before)
        assert.deepStrictEqual(events.map(brief), Array.from({ length: 3 }, () => "sessionUpserted one"))
        const [event] = events
        if (event?.change._tag !== "sessionUpserted") return assert.fail()
        assert.deepStrictEqual(
          [event.actor, event.change.session.scopeRequest?.scopes, event.change.session.scopes],
          ["ada", ["runs:operate"], ["access:read", "runs:read"]]
        )
      })
    )

    test(
      "SESS-18 CONN-13 SESS-14: an answer grants what was asked for and what its giver may, by one live session to one live session, once",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const owner = { scopes: ["access:write", "runs:read", "runs:operate"] as const }
        yield* sessions.insert(sessionRow("owner", owner), at(0))
        yield* sessions.insert(sessionRow("lesser", { scopes: ["access:write", "runs:read"] }), at(0))
        yield* sessions.insert(sessionRow("ended", owner), at(0))
        yield* sessions.insert(sessionRow("stranger", { ...owner, subject: "bob" }), at(0))
        yield* sessions.insert(
          sessionRow("manager", { subject: "bob", scopes: ["access:manage", "runs:operate"] }),
          at(0)
        )
        yield* sessions.insert(sessionRow("asker", { scopes: ["runs:read"] }), at(0))
        yield* sessions.insert(sessionRow("silent", { scopes: [] }), at(0))
        yield* sessions.insert(sessionRow("bound", { ...owner, proofKeyThumbprint: "a key" }), at(0))
        yield* sessions.insert(sessionRow("bound asker", { scopes: [], proofKeyThumbprint: "another key" }), at(0))
        const widening = ["access:write", "access:manage", "connect:manage"] as const
        yield* sessions.insert(sessionRow("all", { scopes: widening }), at(0))
        yield* sessions.insert(sessionRow("widening", { scopes: [] }), at(0))
        yield* sessions.askScopes({ id: sid("widening"), scopes: widening, lifetimeMillis: 100 }, at(1))
        yield* sessions.askScopes({ id: sid("bound asker"), scopes: ["runs:read"], lifetimeMillis: 100 }, at(1))
        yield* endSessions(bySession("ended"), at(0))
        const ask = (afterMillis: number) =>
          sessions.askScopes(
            { id: sid("asker"), scopes: ["runs:operate", "credentials:read"], lifetimeMillis: 100 },
            at(afterMillis)
          )
        const answer = (
          by: string | undefined,
          scopes: SessionRow["scopes"],
          { afterMillis = 5, id = "asker", requestedAfter = 1 } = {}
        ) =>
          sessions.answerScopes({
            id: sid(id),
            requestedAtMillis: start + requestedAfter,
            scopes,
            by: by === undefined ? undefined : sid(by)
          }, at(afterMillis, "ada"))
        yield* ask(1)
        const before = yield* allEvents
        const row = yield* found("asker")
        const refusals = [
          [answer("ended", ["runs:operate"]), "ApproverEnded"],
          [answer("unknown", ["runs:operate"]), "ApproverEnded"],
          [answer("owner", ["runs:operate"], { afterMillis: 10_000 }), "ApproverEnded"],
          [answer(undefined, ["runs:operate"], { afterMillis: 10_000 }), "Unknown"],
          [answer("stranger", ["runs:operate"]), "Unknown"],
          [answer("owner", [], { id: "unknown" }), "Unknown"],
          [answer("owner", [], { id: "ended" }), "Unknown"],
          [answer("owner", [], { id: "silent" }), "Changed"],
          [answer("owner", ["runs:operate"], { requestedAfter: 2 }), "Changed"],
          [answer("owner", ["runs:operate"], { afterMillis: 101 }), "Changed"],
          [answer("owner", ["access:write"]), "Changed"],
          [answer(undefined, ["access:manage"]), "Changed"],
          [answer("lesser", ["runs:operate"]), "NotHeld"],
          [answer("owner", ["runs:operate", "credentials:read"]), "NotHeld"],
          [answer("asker", ["runs:operate"]), "NotHeld"],
          [answer("bound", ["runs:operate"]), "NotHeld"],
          ...widening.map((scope) => [answer("all", [scope], { id: "widening" }), "NotHeld"] as const)
        ] as const
        for (const [refusal, tag] of refusals) assert.strictEqual((yield* refusal)._tag, tag)
        assert.deepStrictEqual(yield* found("asker"), row)
        assert.deepStrictEqual(yield* allEvents, before)

        // Of n that answer at once one is heard, and the session has what that one gave.
        const outcomes = yield* times(12, (index) => answer(index % 2 === 0 ? "owner" : undefined, ["runs:operate"]))
        assert.deepStrictEqual(
          outcomes.map(({ _tag }) => _tag).toSorted(),
          ["Answered", ...Array.from({ length: 11 }, () => "Changed")]
        )
        const raised = sessionRow("asker", { scopes: ["runs:read", "runs:operate"] })
        assert.deepStrictEqual(yield* found("asker"), raised)
        const events = (yield* allEvents).slice(before.length)
        assert.deepStrictEqual(events.map(brief), ["sessionUpserted asker"])
        assert.strictEqual(events[0]?.actor, "ada")

        // None turns it away, someone who manages all answers for others, and the operator gives what no session holds.
        yield* ask(6)
        const turned = yield* answer("manager", [], { afterMillis: 7, requestedAfter: 6 })
        assert.deepStrictEqual(turned, { _tag: "Answered", row: raised })
        yield* ask(8)
        const granted = yield* answer(undefined, ["credentials:read"], { afterMillis: 9, requestedAfter: 8 })
        assert.deepStrictEqual(granted, {
          _tag: "Answered",
          row: { ...raised, scopes: ["runs:read", "runs:operate", "credentials:read"] }
        })
        const toBound = yield* answer("bound", ["runs:read"], { id: "bound asker" })
        assert.strictEqual(toBound._tag, "Answered")
        const widened = yield* answer(undefined, ["access:write"], { id: "widening" })
        assert.strictEqual(widened._tag, "Answered")
        // What else a session does keeps its scopes.
        yield* sessions.renew({ id: sid("asker"), dueBeforeMillis: start, lifetimeMillis: 20_000 }, at(10))
        assert.deepStrictEqual((yield* found("asker"))?.scopes, ["runs:read", "runs:operate", "credentials:read"])
        // Nor does it lose them with the session that gave them, of which it is no descendant.
        yield* sessions.revoke({ _tag: "Session", id: sid("owner"), descendants: true }, at(11))
        assert.deepStrictEqual((yield* found("asker"))?.scopes, ["runs:read", "runs:operate", "credentials:read"])
      })
    )

    test(
      "SESS-18: an approver that ends at the same time grants before its end or not at all",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        for (let round = 0; round < 8; round++) {
          const [owner, asker] = [`owner-${round}`, `asker-${round}`]
          yield* sessions.insert(sessionRow(owner, { scopes: ["access:write", "runs:operate"] }), at(0))
          yield* sessions.insert(sessionRow(asker, { scopes: [] }), at(0))
          yield* sessions.askScopes({ id: sid(asker), scopes: ["runs:operate"], lifetimeMillis: 100 }, at(1))
          const [outcome] = yield* Effect.all([
            sessions.answerScopes(
              { id: sid(asker), requestedAtMillis: start + 1, scopes: ["runs:operate"], by: sid(owner) },
              at(2)
            ),
            endSessions(bySession(owner), at(2))
          ], { concurrency: "unbounded" })
          const events = (yield* allEvents).map(brief)
          assert.isTrue(outcome._tag === "Answered" || outcome._tag === "ApproverEnded")
          assert.deepStrictEqual((yield* found(asker))?.scopes, outcome._tag === "Answered" ? ["runs:operate"] : [])
          if (outcome._tag === "Answered") {
            const [granted, ended] = [`sessionUpserted ${asker}`, `sessionRemoved ${owner} revoked`]
            assert.isBelow(events.lastIndexOf(granted), events.indexOf(ended))
          }
        }
      })
    )

    test(
      "SESS-03: renew never passes the absolute end",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one", { absoluteExpiresAtMillis: start + 15_000 }), at(0))
        const ends: Array<number | undefined> = []
        for (const [afterMillis, lifetimeMillis] of [[1, 10], [2, 14_998], [3, 14_998], [14_999, 60_000]] as const) {
          const renewed = yield* sessions.renew(
            { id: sid("one"), dueBeforeMillis: start + afterMillis - 1, lifetimeMillis },
            at(afterMillis)
          )
          ends.push(Option.getOrUndefined(renewed)?.expiresAtMillis)
        }
        assert.deepStrictEqual(ends, [start + 11, start + 15_000, start + 15_000, start + 15_000])
        const after = yield* sessions.renew(
          { id: sid("one"), dueBeforeMillis: start + 15_000, lifetimeMillis: 60_000 },
          at(15_000)
        )
        assert.deepStrictEqual(after, Option.none())
      })
    )

    test(
      "SESS-03: renew changes nothing if the session is unknown, not due, expired or revoked",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("live"), at(0))
        yield* sessions.insert(sessionRow("expired", { expiresAtMillis: start + 10 }), at(0))
        yield* sessions.insert(sessionRow("revoked"), at(0))
        yield* endSessions(bySession("revoked"), at(1))
        const before = yield* allEvents
        const rows = yield* Effect.forEach(["live", "expired", "revoked"], found)
        const renew = (id: string, dueBefore: number, afterMillis: number) =>
          sessions.renew(
            { id: sid(id), dueBeforeMillis: start + dueBefore, lifetimeMillis: 60_000 },
            at(afterMillis)
          )
        assert.deepStrictEqual(yield* renew("unknown", 0, 5), Option.none())
        assert.deepStrictEqual(yield* renew("live", -1, 5), Option.none())
        assert.deepStrictEqual(yield* renew("expired", 0, 10), Option.none())
        assert.deepStrictEqual(yield* renew("revoked", 0, 5), Option.none())
        assert.deepStrictEqual(yield* allEvents, before)
        assert.deepStrictEqual(yield* Effect.forEach(["live", "expired", "revoked"], found), rows)
        assert.isTrue(Option.isSome(yield* renew("expired", 0, 9)))
      })
    )

    test(
      "SESS-03 L-16: of 50 that renew a session at once, one writes",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one"), at(0))
        const outcomes = yield* times(
          50,
          () => sessions.renew({ id: sid("one"), dueBeforeMillis: start + 5, lifetimeMillis: 60_000 }, at(10))
        )
        assert.strictEqual(outcomes.filter(Option.isSome).length, 1)
        yield* expectFeed("sessionUpserted one", "sessionUpserted one")
      })
    )

    test(
      "SESS-03: a session that is renewed and revoked at once stays revoked, and its feed ends with the removal",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        for (let round = 0; round < 10; round++) {
          const id = sid(`session-${round}`)
          yield* sessions.insert(sessionRow(id), at(0))
          yield* Effect.all([
            sessions.renew({ id, dueBeforeMillis: start, lifetimeMillis: 60_000 }, at(10)),
            endSessions({ _tag: "Session", id }, at(10)),
            sessions.renew({ id, dueBeforeMillis: start, lifetimeMillis: 60_000 }, at(10))
          ], { concurrency: "unbounded" })
          assert.strictEqual((yield* found(id))?.revokedAtMillis, start + 10)
          assert.strictEqual((yield* allEvents).map(brief).at(-1), `sessionRemoved ${id} revoked`)
        }
      })
    )

    test(
      "SESS-04: refresh exchanges the tokens of a session, and it goes on as after a renewal",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const before = sessionRow("one", { ...refreshable("one", 0, 0), absoluteExpiresAtMillis: start + 50_000 })
        yield* sessions.insert(before, at(0))
        assert.deepStrictEqual(yield* found("one"), before)
        const outcome = yield* sessions.refresh(exchange("one", 0), at(9_999, "ada"))
        const after: SessionRow = {
          ...before,
          ...exchange("one", 0).next,
          previousRefreshDigest: refreshDigest("one", 0),
          refreshedAtMillis: start + 9_999,
          lastSeenAtMillis: start + 9_999,
          expiresAtMillis: start + 50_000
        }
        assert.deepStrictEqual(outcome, { _tag: "Refreshed", row: after })
        assert.deepStrictEqual(yield* found("one"), after)
        assert.deepStrictEqual(yield* sessions.findByTokenDigest(after.tokenDigest), Option.some(after))
        assert.deepStrictEqual(yield* sessions.findByTokenDigest(before.tokenDigest), Option.none())
        yield* expectFeed("sessionUpserted one", "sessionUpserted one")
        assert.deepStrictEqual((yield* allEvents).at(-1)?.actor, "ada")
      })
    )

    test(
      "SESS-16 C-32: the refresh token before gives the row again, however late, until a token that followed is used",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one", refreshable("one", 0, 0)), at(0))
        yield* sessions.insertTicket(ticketRow("one", "one"))
        const { next } = exchange("one", 0)
        yield* sessions.refresh(exchange("one", 0), at(10))
        const row = yield* found("one")
        if (row === undefined) return assert.fail()
        for (const afterMillis of [10, 4_999]) {
          const again = yield* sessions.refresh(
            exchange("one", 0, { branch: "-again", graceMillis: 0 }),
            at(afterMillis)
          )
          assert.deepStrictEqual(again, { _tag: "Repeated", row })
        }
        // A token that is not the session's, or any more, was not used.
        for (const tokenDigest of ["unknown", "token-digest-of-one"]) {
          yield* sessions.useTokens(tokenDigest, start + 11)
        }
        assert.deepStrictEqual(yield* found("one"), row)

        yield* sessions.useTokens(next.tokenDigest, start + 11)
        const used = yield* found("one")
        if (used === undefined) return assert.fail()
        assert.isNumber(used.tokensUsedAtMillis)
        assert.deepStrictEqual({ ...used, tokensUsedAtMillis: null }, { ...row })
        yield* sessions.useTokens(next.tokenDigest, start + 12)
        assert.deepStrictEqual(yield* found("one"), used)
        const within = yield* sessions.refresh(exchange("one", 0, { branch: "-again" }), at(12))
        assert.deepStrictEqual(within, { _tag: "Repeated", row: used })
        yield* expectFeed("sessionUpserted one", "sessionUpserted one")

        const late = exchange("one", 0, { graceMillis: 0 })
        assert.deepStrictEqual(yield* sessions.refresh(late, at(13, "ada")), { _tag: "Reused" })
        assert.strictEqual((yield* found("one"))?.revokedAtMillis, start + 13)
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("one", 14)), Option.none())
        for (const generation of [0, 1, 2]) {
          assert.deepStrictEqual(
            yield* sessions.refresh(exchange("one", generation), at(14)),
            { _tag: "Refused", reason: "revoked" }
          )
        }
        yield* expectFeed("sessionUpserted one", "sessionUpserted one", "sessionRemoved one revoked")
        assert.strictEqual((yield* allEvents).at(-1)?.actor, "system")
      })
    )

    test(
      "SESS-16 C-32: a token that has expired unused is replaced for the caller that comes back with the one before",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one", refreshable("one", 0, 0)), at(0))
        yield* sessions.refresh(exchange("one", 0, { graceMillis: 0 }), at(10))
        const row = yield* found("one")
        if (row === undefined) return assert.fail()
        const again = exchange("one", 0, { graceMillis: 0 })
        const next = { ...again.next, tokenDigest: "another token", tokenExpiresAtMillis: start + 15_000 }
        const outcomes = yield* times(10, () => sessions.refresh({ ...again, next }, at(5_000)))
        const after: SessionRow = {
          ...row,
          ...next,
          refreshedAtMillis: start + 5_000,
          lastSeenAtMillis: start + 5_000,
          expiresAtMillis: start + 65_000
        }
        assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Refreshed").length, 1)
        for (const outcome of outcomes) assert.deepStrictEqual("row" in outcome ? outcome.row : undefined, after)
        assert.deepStrictEqual(yield* found("one"), after)
        assert.deepStrictEqual(yield* sessions.findByTokenDigest(row.tokenDigest), Option.none())
        // The refresh token that may have arrived the first time is as good as before.
        assert.strictEqual((yield* sessions.refresh(exchange("one", 1), at(5_001)))._tag, "Refreshed")
      })
    )

    test(
      "SESS-16 C-23: a scope that the session does not hold changes nothing, and the refresh token works afterwards",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const row = sessionRow("one", refreshable("one", 0, 0))
        yield* sessions.insert(row, at(0))
        for (const scopes of [["runs:operate"], ["runs:read", "access:write"]] as const) {
          assert.deepStrictEqual(
            yield* sessions.refresh(exchange("one", 0, { scopes }), at(1)),
            { _tag: "Refused", reason: "scope-not-held" }
          )
        }
        assert.deepStrictEqual(yield* found("one"), row)
        yield* expectFeed("sessionUpserted one")
        const held = yield* sessions.refresh(exchange("one", 0, { scopes: ["runs:read", "access:read"] }), at(2))
        assert.strictEqual(held._tag, "Refreshed")
        const before = yield* found("one")
        const greedy = yield* sessions.refresh(exchange("one", 0, { scopes: ["runs:operate"] }), at(3))
        assert.deepStrictEqual(greedy, { _tag: "Refused", reason: "scope-not-held" })
        assert.deepStrictEqual(yield* found("one"), before)
      })
    )

    test(
      "SESS-04: a refresh token of two exchanges ago ends the session at once, grace window or not",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one", refreshable("one", 0, 0)), at(0))
        yield* sessions.refresh(exchange("one", 0), at(1))
        yield* sessions.refresh(exchange("one", 1), at(2))
        assert.deepStrictEqual(yield* sessions.refresh(exchange("one", 0), at(3)), { _tag: "Reused" })
        assert.strictEqual((yield* found("one"))?.revokedAtMillis, start + 3)
      })
    )

    test(
      "SESS-04: refresh changes nothing if the session is not live, has no refresh token, or is bound to another key",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("plain"), at(0))
        yield* sessions.insert(
          sessionRow("expired", { ...refreshable("expired", 1, 0), expiresAtMillis: start + 10 }),
          at(0)
        )
        yield* sessions.insert(sessionRow("revoked", refreshable("revoked", 1, 0)), at(0))
        yield* sessions.insert(
          sessionRow("bound", { ...refreshable("bound", 1, 0), proofKeyThumbprint: "key-1" }),
          at(0)
        )
        yield* endSessions(bySession("revoked"), at(1))
        const before = yield* allEvents
        const ids = ["plain", "expired", "revoked", "bound"]
        const rows = yield* Effect.forEach(ids, found)
        // Also with a token that was used up: no caller ends a session that is over, or whose key they don't hold.
        for (const generation of [0, 1]) {
          const refuse = (id: string, proofKeyThumbprint?: string) =>
            Effect.map(
              sessions.refresh(
                exchange(id, generation, proofKeyThumbprint === undefined ? {} : { proofKeyThumbprint }),
                at(10)
              ),
              (outcome) => outcome._tag === "Refused" ? outcome.reason : outcome._tag
            )
          assert.deepStrictEqual(
            [
              yield* refuse("unknown"),
              yield* refuse("plain"),
              yield* refuse("expired"),
              yield* refuse("revoked"),
              yield* refuse("bound"),
              yield* refuse("bound", "key-2")
            ],
            ["unknown", "unknown", "expired", "revoked", "proof-key-mismatch", "proof-key-mismatch"]
          )
        }
        assert.deepStrictEqual(yield* allEvents, before)
        assert.deepStrictEqual(yield* Effect.forEach(ids, found), rows)
        const proven = yield* sessions.refresh(exchange("bound", 1, { proofKeyThumbprint: "key-1" }), at(10))
        assert.strictEqual(proven._tag, "Refreshed")
        const last = yield* sessions.refresh(exchange("expired", 1), at(9))
        assert.strictEqual(last._tag, "Refreshed")
      })
    )

    test(
      "SESS-04: of 50 that refresh at once one exchanges the token, and the others get what it got",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one", refreshable("one", 0, 0)), at(0))
        const outcomes = yield* times(
          50,
          (index) => sessions.refresh(exchange("one", 0, { branch: `-${index}` }), at(10))
        )
        const tags = outcomes.map(({ _tag }) => _tag)
        assert.strictEqual(tags.filter((tag) => tag === "Refreshed").length, 1)
        assert.strictEqual(tags.filter((tag) => tag === "Repeated").length, 49)
        const row = yield* found("one")
        for (const outcome of outcomes) assert.deepStrictEqual("row" in outcome ? outcome.row : undefined, row)
        yield* expectFeed("sessionUpserted one", "sessionUpserted one")
      })
    )

    test(
      "SESS-04: of 50 that reuse a token at once one ends the session, and an exchange that races with it revives nothing",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one", refreshable("one", 1, 0)), at(0))
        const outcomes = yield* times(50, (index) =>
          index % 2 === 0
            ? sessions.refresh(exchange("one", 0), at(10))
            : sessions.refresh(exchange("one", 1, { branch: `-${index}` }), at(10)))
        assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Reused").length, 1)
        assert.isAtMost(outcomes.filter(({ _tag }) => _tag === "Refreshed").length, 1)
        assert.strictEqual((yield* found("one"))?.revokedAtMillis, start + 10)
        assert.strictEqual((yield* allEvents).map(brief).at(-1), "sessionRemoved one revoked")
        assert.strictEqual((yield* allEvents).filter(({ change }) => change._tag === "sessionRemoved").length, 1)
      })
    )

    test(
      "SESS-02: says of a key whether a live session has a token that it signed",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("live", { keyId: "used" }), at(0))
        yield* sessions.insert(sessionRow("expiring", { keyId: "expiring", expiresAtMillis: start + 10 }), at(0))
        yield* sessions.insert(sessionRow("revoked", { keyId: "revoked" }), at(0))
        yield* endSessions(bySession("revoked"), at(1))
        yield* sessions.insert(sessionRow("refreshed", { ...refreshable("refreshed", 0, 0), keyId: "before" }), at(0))
        yield* sessions.refresh(exchange("refreshed", 0), at(1))
        const inUse = (keyId: string, afterMillis: number) =>
          sessions.isKeyInUse({ keyId, nowMillis: start + afterMillis })
        assert.isTrue(yield* inUse("used", 9))
        assert.isTrue(yield* inUse("key-2", 9))
        assert.isTrue(yield* inUse("expiring", 9))
        for (const keyId of ["expiring", "revoked", "before", "unknown", "USED", ""]) {
          assert.isFalse(yield* inUse(keyId, 10), keyId)
        }
      })
    )

    test(
      "list returns the live sessions of one subject, in pages of its own",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        for (const id of ["b", "a", "d", "c", "e"]) {
          yield* sessions.insert(sessionRow(id, { subject: id === "c" ? "bob" : "ada" }), at(0))
        }
        yield* sessions.insert(sessionRow("a-revoked"), at(0))
        yield* endSessions(bySession("a-revoked"), at(1))
        yield* sessions.insert(sessionRow("a-expired", { expiresAtMillis: start + 5 }), at(0))
        const list = (subject: string, afterId: string | undefined, limit: number) =>
          Effect.map(
            sessions.list({
              nowMillis: start + 5,
              subject,
              afterId: afterId === undefined ? undefined : sid(afterId),
              limit
            }),
            (rows) => rows.map((row): string => row.id)
          )
        assert.deepStrictEqual(yield* list("ada", undefined, 2), ["a", "b"])
        assert.deepStrictEqual(yield* list("ada", "b", 2), ["d", "e"])
        assert.deepStrictEqual(yield* list("ada", "e", 2), [])
        assert.deepStrictEqual(yield* list("bob", undefined, 10), ["c"])
        assert.deepStrictEqual(yield* list("ADA", undefined, 10), [])
        assert.deepStrictEqual(yield* list("", undefined, 10), [])
      })
    )

    test(
      "list returns live sessions in the order of their ids, in pages",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const ids = ["b", "a", "B", "-", "_", "10", "9", "a-1", "a1"]
        for (const id of ids) yield* sessions.insert(sessionRow(id), at(0))
        yield* sessions.insert(sessionRow("a-expired", { expiresAtMillis: start + 5 }), at(0))
        yield* sessions.insert(sessionRow("a-revoked"), at(0))
        yield* endSessions(bySession("a-revoked"), at(1))
        const list = (afterId: string | undefined, limit: number) =>
          Effect.map(
            sessions.list({ nowMillis: start + 5, afterId: afterId === undefined ? undefined : sid(afterId), limit }),
            (rows) => rows.map((row): string => row.id)
          )
        assert.deepStrictEqual(yield* list(undefined, 100), ids.toSorted())
        const pages: Array<string> = []
        while (true) {
          const page = yield* list(pages.at(-1), 2)
          assert.isAtMost(page.length, 2)
          if (page.length === 0) break
          pages.push(...page)
        }
        assert.deepStrictEqual(pages, ids.toSorted())
        assert.deepStrictEqual(yield* list("a-0", 2), ["a-1", "a1"])
        assert.deepStrictEqual(yield* list(undefined, 0), [])
        assert.deepStrictEqual(
          (yield* sessions.list({ nowMillis: start + 4, afterId: sid("a"), limit: 3 })).map((row) => row.id),
          [sid("a-1"), sid("a-expired"), sid("a1")]
        )
      })
    )

    test(
      "revoke ends the live sessions of its target, and no other",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const rows: ReadonlyArray<SessionRow> = [
          sessionRow("ada-2"),
          sessionRow("ada-1"),
          sessionRow("ada-3"),
          sessionRow("ada-expired", { expiresAtMillis: start + 5 }),
          sessionRow("bob-1", { subject: "bob", proofKeyThumbprint: "key-1" }),
          sessionRow("eve-1", { subject: "eve", proofKeyThumbprint: "key-1" }),
          sessionRow("eve-2", { subject: "eve", proofKeyThumbprint: "key-2" })
        ]
        for (const row of rows) yield* sessions.insert(row, at(0))
        const revoke = (target: RevocationTarget) => endSessions(target, at(5, "eve"))
        const answers = [
          yield* revoke(byOthers("ada", "ada-2")),
          yield* revoke(byOthers("ada", "ada-2")),
          yield* revoke(bySession("ada-expired")),
          yield* revoke(bySession("unknown")),
          yield* revoke(bySubject("unknown")),
          yield* revoke(bySubject("ADA")),
          yield* revoke(byProofKey("key-1")),
          yield* revoke(byProofKey("unknown")),
          yield* revoke(bySession("eve-1")),
          yield* revoke(bySession("eve-2")),
          yield* revoke(bySubject("ada"))
        ]
        assert.deepStrictEqual(
          answers,
          [
            ["ada-1", "ada-3"],
            [],
            [],
            [],
            [],
            [],
            ["bob-1", "eve-1"],
            [],
            [],
            ["eve-2"],
            ["ada-2"]
          ].map((ids) => ids.map((id) => sid(id)))
        )
        assert.deepStrictEqual(
          yield* sessions.list({ nowMillis: start, afterId: undefined, limit: 10 }),
          [sessionRow("ada-expired", { expiresAtMillis: start + 5 })]
        )
        assert.strictEqual((yield* found("ada-1"))?.revokedAtMillis, start + 5)
        const revokedBy = { actor: "eve", sessionId: sid("ada-2"), descended: false }
        assert.deepStrictEqual((yield* found("ada-1"))?.revokedBy, revokedBy)
        assert.deepInclude(yield* found("ada-expired"), { revokedAtMillis: null, revokedBy: null })
        const events = (yield* allEvents).slice(rows.length)
        assert.deepStrictEqual(
          events.map(brief),
          ["ada-1", "ada-3", "bob-1", "eve-1", "eve-2", "ada-2"].map((id) => `sessionRemoved ${id} revoked`)
        )
        assert.isTrue(events.every((event) => event.actor === "eve" && event.at.epochMilliseconds === start + 5))
      })
    )

    test(
      "revoke of every session but a session that is another owner's ends all of the subject's",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("ada-1"), at(0))
        yield* sessions.insert(sessionRow("bob-1", { subject: "bob" }), at(0))
        assert.deepStrictEqual(yield* endSessions(byOthers("ada", "bob-1"), at(1)), [sid("ada-1")])
        assert.strictEqual((yield* found("bob-1"))?.revokedAtMillis, null)
      })
    )

    test(
      "a revocation of many sessions is one step with an event for each",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const n = 300
        yield* times(n, (index) => sessions.insert(sessionRow(`session-${1000 + index}`), at(0)))
        const revoked = yield* endSessions(bySubject("ada"), at(1))
        assert.deepStrictEqual(revoked, Array.from({ length: n }, (_, index) => sid(`session-${1000 + index}`)))
        const events = yield* allEvents
        assert.deepStrictEqual(events.map((event) => event.revision), Array.from({ length: 2 * n }, (_, i) => i + 1))
        assert.deepStrictEqual(events.slice(n).map(brief), revoked.map((id) => `sessionRemoved ${id} revoked`))
      })
    )

    test(
      "of racers with overlapping targets, each session is in the answer of exactly one",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const n = 24
        const ids = Array.from({ length: n }, (_, index) => sid(`session-${10 + index}`))
        yield* times(n, (index) =>
          sessions.insert(
            sessionRow(`session-${10 + index}`, {
              subject: index % 2 === 0 ? "ada" : "bob",
              proofKeyThumbprint: index % 3 === 0 ? "key-1" : null
            }),
            at(0)
          ))
        yield* Effect.forEach(ids, (id, index) => sessions.insertTicket(ticketRow(`ticket-${99 - index}`, id)))
        const targets = [
          bySubject("ada"),
          byProofKey("key-1"),
          bySubject("bob"),
          byOthers("ada", "unknown"),
          ...ids.toReversed().map(bySession)
        ]
        const answers = yield* times(targets.length * 2, (index) => {
          const target = targets[index % targets.length]
          return target === undefined ? Effect.succeed([]) : endSessions(target, at(1))
        })
        assert.deepStrictEqual(answers.flat().sort(), ids)
        assert.deepStrictEqual(
          (yield* allEvents).slice(n).map(brief).sort(),
          ids.map((id) => `sessionRemoved ${id} revoked`)
        )
        for (let index = 0; index < n; index++) {
          assert.deepStrictEqual(yield* sessions.consumeTicket(redeem(`ticket-${99 - index}`, 1)), Option.none())
        }
      })
    )

    /** Begins a session that came from a link of another, with a link of its own that is open. */
    const descend = Effect.fnUntraced(function*(id: string, parent: string | null, fields?: Partial<SessionRow>) {
      const { links, sessions } = yield* AccessRepository
      yield* sessions.insert(
        sessionRow(id, {
          linkId: parent === null ? null : `spent-link-of-${parent}`,
          parentId: parent === null ? null : sid(parent),
          ...fields
        }),
        at(0)
      )
      yield* links.insert(linkRow(`link-of-${id}`, { issuedBy: sid(id) }), at(0))
    })
    const openLinks = AccessRepository.use(({ links }) =>
      Effect.map(links.list({ nowMillis: start, limit: 1_000 }), (rows) => rows.map(({ id }) => id).sort())
    )

    test(
      "SESS-13 SESS-21: revoke ends the open links of a session, and what descends from it if asked for, and tells of each",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* descend("a", null)
        yield* descend("b", "a")
        yield* descend("c", "b")
        yield* descend("d", "c")
        yield* descend("e", null)
        const count = sessions.countDescendants({ ids: ["a", "c", "e"].map((id) => sid(id)), nowMillis: start })
        assert.deepStrictEqual(Array.from(yield* count), [[sid("a"), 3], [sid("c"), 1], [sid("e"), 0]])
        const before = (yield* allEvents).length
        assert.deepStrictEqual(yield* endSessions(bySession("b"), at(1)), [sid("b")])
        assert.deepStrictEqual(yield* openLinks, ["link-of-a", "link-of-c", "link-of-d", "link-of-e"])
        assert.deepStrictEqual(Array.from(yield* count), [[sid("a"), 2], [sid("c"), 1], [sid("e"), 0]])
        const target: RevocationTarget = { _tag: "Session", id: sid("a"), descendants: true }
        assert.deepStrictEqual(yield* endSessions({ ...target, subject: "bob" }, at(1)), [])
        assert.deepStrictEqual(yield* endSessions({ ...target, keep: sid("d") }, at(2)), [sid("a"), sid("c")])
        assert.deepStrictEqual(yield* openLinks, ["link-of-d", "link-of-e"])
        // What it ended before is in its way no more.
        assert.deepStrictEqual(yield* endSessions(target, at(3)), [sid("d")])
        assert.deepStrictEqual(yield* openLinks, ["link-of-e"])
        const notes = yield* Effect.forEach(
          ["a", "b", "c", "d", "e"],
          (id) => Effect.map(found(id), (row) => row?.revokedBy)
        )
        const { actor } = at(0)
        assert.deepStrictEqual(notes, [
          { actor, sessionId: sid("d"), descended: false },
          { actor, sessionId: null, descended: false },
          { actor, sessionId: sid("d"), descended: true },
          { actor, sessionId: null, descended: true },
          null
        ])
        assert.deepStrictEqual(
          (yield* allEvents).slice(before).map(brief),
          [
            "sessionRemoved b revoked",
            "pairingLinkRemoved link-of-b revoked",
            "sessionRemoved a revoked",
            "sessionRemoved c revoked",
            "pairingLinkRemoved link-of-a revoked",
            "pairingLinkRemoved link-of-c revoked",
            "sessionRemoved d revoked",
            "pairingLinkRemoved link-of-d revoked"
          ]
        )
      })
    )

    test(
      "SESS-19: what was issued before a time ends in steps, each with what descends from it, and the links with the first",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const later = { createdAtMillis: start + 10, expiresAtMillis: start + 10_000 }
        for (const id of ["d", "b", "a"]) yield* descend(id, null)
        yield* descend("c", "a", later)
        yield* descend("e", "d", later)
        yield* descend("f", null, later)
        yield* endSessions(bySession("d"), at(1))
        const target: RevocationTarget = { _tag: "IssuedBefore", beforeMillis: start + 10 }
        const steps = Effect.forEach(Array.from({ length: 3 }), () => endSessions({ ...target, limit: 1 }, at(20)))
        assert.deepStrictEqual(yield* steps, [[sid("a"), sid("c")], [sid("b")], []])
        assert.deepStrictEqual(yield* endSessions(target, at(20)), [sid("e")])
        assert.deepStrictEqual(yield* endSessions(target, at(20)), [])
        assert.deepStrictEqual(
          (yield* sessions.list({ nowMillis: start + 20, afterId: undefined, limit: 9 })).map(({ id }) => id),
          [sid("f")]
        )
      })
    )

    test(
      "SESS-13: a sweep leaves a session that has ended as long as one descends from it, so that the descent is known",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* descend("a", null, { proofKeyThumbprint: "key-1" })
        yield* descend("b", "a", { expiresAtMillis: start + 5 })
        yield* descend("c", "b", { expiresAtMillis: start + 10_000 })
        yield* endSessions(bySession("a"), at(1))
        const sweep = sessions.sweep({ endedBeforeMillis: start + 100, limit: 10 }, at(100))
        assert.strictEqual(yield* sweep, 0)
        assert.deepStrictEqual(yield* endSessions(byProofKey("key-1"), at(100)), [sid("c")])
        assert.deepStrictEqual([yield* sweep, yield* sweep, yield* sweep, yield* sweep], [1, 1, 1, 0])
        for (const id of ["a", "b", "c"]) assert.isUndefined(yield* found(id))
      })
    )

    test(
      "SESS-13: a revocation answers which sessions and links it has ended",
      Effect.gen(function*() {
        const { sessions } = yield* AccessRepository
        yield* descend("a", null)
        yield* descend("b", "a")
        const target: RevocationTarget = { _tag: "Session", id: sid("a"), descendants: true }
        const open = (yield* openLinks).toSorted()
        assert.isAbove(open.length, 0)
        assert.deepStrictEqual(yield* sessions.revoke(target, at(1)), { sessions: [sid("a"), sid("b")], links: open })
        assert.deepStrictEqual(yield* sessions.revoke(target, at(1)), { sessions: [], links: [] })
      })
    )

    test(
      "SESS-13: revocations that meet going down end each session once, with every link, and never fail",
      Effect.gen(function*() {
        const n = 40
        const ids = Array.from({ length: n }, (_, index) => sid(`session-${10 + index}`))
        // The ids of parents and children are in no order, and three trees go through both keys.
        const nth = (index: number) => ids[(index * 17) % n] ?? sid("none")
        for (let index = 0; index < n; index++) {
          yield* descend(nth(index), index < 3 ? null : nth(index - 3 + (index % 2)), {
            proofKeyThumbprint: index % 5 === 0 ? "key-1" : index % 7 === 0 ? "key-2" : null
          })
        }
        const targets: ReadonlyArray<RevocationTarget> = [
          byProofKey("key-1"),
          byProofKey("key-2"),
          ...ids.slice(0, 12).map((id): RevocationTarget => ({ _tag: "Session", id, descendants: true })),
          ...ids.slice(12, 20).map(bySession),
          byOthers("ada", ids[3] ?? "none"),
          bySubject("ada"),
          { _tag: "IssuedBefore", beforeMillis: start + 1 }
        ]
        const answers = yield* Effect.forEach(targets, (target) => endSessions(target, at(1)), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(answers.flat().sort(), ids)
        assert.deepStrictEqual(yield* openLinks, [])
        const removed = (yield* allEvents).map(brief).filter((event) => event.endsWith("revoked"))
        assert.deepStrictEqual([removed.length, new Set(removed).size], [2 * n, 2 * n])
      })
    )

    test(
      "revocations of the same many sessions wait for each other and never fail",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const n = 200
        const ids = Array.from({ length: n }, (_, index) => sid(`session-${1000 + (index * 77) % n}`))
        yield* Effect.forEach(ids, (id) => sessions.insert(sessionRow(id, { proofKeyThumbprint: "key-1" }), at(0)), {
          concurrency: "unbounded"
        })
        const answers = yield* times(
          12,
          (index) => endSessions(index % 2 === 0 ? bySubject("ada") : byProofKey("key-1"), at(1))
        )
        assert.deepStrictEqual(answers.flat(), ids.toSorted())
      })
    )

    test(
      "SESS-09 L-20: a ticket gives its session once",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const row = sessionRow("one", { proofKeyThumbprint: "key-1" })
        yield* sessions.insert(row, at(0))
        yield* sessions.insertTicket(ticketRow("a", "one"))
        yield* sessions.insertTicket(ticketRow("b", "one"))
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("unknown", 1)), Option.none())
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("a", 4_999)), Option.some(row))
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("a", 1)), Option.none())
        const outcomes = yield* times(50, () => sessions.consumeTicket(redeem("b", 1)))
        assert.deepStrictEqual(outcomes.filter(Option.isSome), [Option.some(row)])
        yield* expectFeed("sessionUpserted one")
      })
    )

    test(
      "SESS-09: a ticket is nothing once it has expired, or its session has expired, been revoked or gone",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("live"), at(0))
        yield* sessions.insert(sessionRow("revoked"), at(0))
        yield* sessions.insert(sessionRow("expired", { expiresAtMillis: start + 100 }), at(0))
        yield* sessions.insertTicket(ticketRow("expired", "live", 50))
        yield* sessions.insertTicket(ticketRow("of revoked", "revoked"))
        yield* sessions.insertTicket(ticketRow("of expired", "expired"))
        yield* sessions.insertTicket(ticketRow("of none", "unknown"))
        yield* endSessions(bySession("revoked"), at(1))
        // One that was stored while its session was being revoked is as good as none.
        yield* sessions.insertTicket(ticketRow("of revoked, late", "revoked"))
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("expired", 50)), Option.none())
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("expired", 1)), Option.none())
        for (const ticket of ["of revoked", "of revoked, late", "of none"]) {
          assert.deepStrictEqual(yield* sessions.consumeTicket(redeem(ticket, 2)), Option.none())
        }
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("of expired", 100)), Option.none())
      })
    )

    test(
      "HTTP-09: keeps a bounded number of a session's tickets, the new one and those that expire last",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one"), at(0))
        yield* sessions.insert(sessionRow("other"), at(0))
        yield* sessions.insertTicket(ticketRow("of another", "other", 1))
        const expiry = (n: number) => n === 39 ? 1 : 1_000 + n
        for (let n = 0; n < 40; n++) yield* sessions.insertTicket(ticketRow(`ticket ${n}`, "one", expiry(n)))
        const redeemed: Array<number> = []
        for (let n = 0; n < 40; n++) {
          const found = yield* sessions.consumeTicket(redeem(`ticket ${n}`, 0))
          if (Option.isSome(found)) redeemed.push(n)
        }
        assert.deepStrictEqual(redeemed, Array.from({ length: maxTickets }, (_, index) => 40 - maxTickets + index))
        const kept = yield* sessions.consumeTicket(redeem("of another", 0))
        assert.isTrue(Option.isSome(kept))
      })
    )

    test(
      "insertTicket fails and changes nothing if the digest exists",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        yield* sessions.insert(sessionRow("one"), at(0))
        yield* sessions.insert(sessionRow("two"), at(0))
        yield* sessions.insertTicket(ticketRow("a", "one"))
        const error = yield* Effect.flip(sessions.insertTicket(ticketRow("a", "two")))
        assert.instanceOf(error, RepositoryError)
        assert.strictEqual(error.operation, "insertTicket")
        assert.deepStrictEqual(yield* sessions.consumeTicket(redeem("a", 1)), Option.some(sessionRow("one")))
      })
    )

    test(
      "L-19: tickets keep no caller from revoking and deleting a session",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        for (const id of ["one", "two"]) {
          yield* sessions.insert(sessionRow(id), at(0))
          yield* sessions.insertTicket(ticketRow(`${id} 1`, id, 100_000))
          yield* sessions.insertTicket(ticketRow(`${id} 2`, id, 100_000))
        }
        assert.deepStrictEqual(yield* endSessions(bySubject("ada"), at(1)), [sid("one"), sid("two")])
        yield* sessions.insertTicket(ticketRow("late", "one", 100_000))
        assert.strictEqual(yield* sessions.sweep({ endedBeforeMillis: start + 1, limit: 10 }, at(2)), 2)
        assert.deepStrictEqual(yield* sessions.findById(sid("one")), Option.none())
        // All tickets went with their sessions: their digests are free.
        for (const ticket of ["one 1", "one 2", "two 1", "late"]) {
          yield* sessions.insertTicket(ticketRow(ticket, "three", 100_000))
        }
      })
    )

    test(
      "L-24: sweep deletes what has ended, the first ended first, with its tickets, and tells of what expired",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const rows = [
          sessionRow("live", { expiresAtMillis: start + 1_000 }),
          sessionRow("expired-late", { expiresAtMillis: start + 30 }),
          sessionRow("expired", { expiresAtMillis: start + 20 }),
          sessionRow("revoked")
        ]
        for (const row of rows) yield* sessions.insert(row, at(0))
        yield* endSessions(bySession("revoked"), at(5))
        yield* sessions.insertTicket(ticketRow("of expired", "expired", 20))
        yield* sessions.insertTicket(ticketRow("of live, first", "live", 24))
        yield* sessions.insertTicket(ticketRow("of live, second", "live", 25))
        yield* sessions.insertTicket(ticketRow("of live, third", "live", 30))
        const before = (yield* allEvents).length
        const sweep = (endedBefore: number, limit: number) =>
          sessions.sweep({ endedBeforeMillis: start + endedBefore, limit }, at(100, "system"))

        assert.strictEqual(yield* sweep(4, 100), 0)
        assert.strictEqual(yield* sweep(100, 0), 0)
        assert.strictEqual(yield* sweep(10, 100), 1)
        assert.isUndefined(yield* found("revoked"))
        // One session with its ticket, and one further ticket.
        assert.strictEqual(yield* sweep(29, 1), 2)
        assert.isUndefined(yield* found("expired"))
        assert.isDefined(yield* found("expired-late"))
        assert.isTrue(Option.isNone(yield* sessions.consumeTicket(redeem("of live, first", 0))))
        assert.isTrue(Option.isSome(yield* sessions.consumeTicket(redeem("of live, second", 0))))
        assert.strictEqual(yield* sweep(30, 100), 2)
        assert.strictEqual(yield* sweep(30, 100), 0)

        assert.deepStrictEqual(
          yield* sessions.list({ nowMillis: start, afterId: undefined, limit: 10 }),
          rows.slice(0, 1)
        )
        const events = (yield* allEvents).slice(before)
        assert.deepStrictEqual(events.map(brief), [
          "sessionRemoved expired expired",
          "sessionRemoved expired-late expired"
        ])
        assert.isTrue(events.every(({ actor }) => actor === "system"))
        // A swept id and digest are free again.
        yield* sessions.insert(sessionRow("expired"), at(0))
      })
    )

    test(
      "sweepers that race with each other and with revocations delete each row once and tell of each once",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        const n = 30
        yield* times(n, (index) => sessions.insert(sessionRow(`session-${10 + index}`), at(0)))
        yield* times(
          n,
          (index) => sessions.insertTicket(ticketRow(`ticket-${99 - index}`, `session-${10 + index}`, 10))
        )
        const sweep = sessions.sweep({ endedBeforeMillis: start + 10_000, limit: 4 }, at(20_000))
        const counts = yield* times(16, (index) =>
          index % 2 === 0
            ? sweep
            : Effect.as(endSessions(bySession(`session-${10 + index}`), at(10)), 0))
        let deleted = counts.reduce((sum, count) => sum + count, 0)
        while (true) {
          const count = yield* sweep
          if (count === 0) break
          deleted += count
        }
        // A ticket goes with its session or by itself; a session by itself only.
        assert.isAtLeast(deleted, n)
        assert.isAtMost(deleted, 2 * n)
        for (let index = 0; index < n; index++) assert.isUndefined(yield* found(`session-${10 + index}`))
        const removed = (yield* allEvents).slice(n).map((event) => brief(event).split(" ")[1])
        assert.deepStrictEqual(removed.toSorted(), Array.from({ length: n }, (_, index) => `session-${10 + index}`))
      })
    )

    test(
      "L-12: no event carries the digest of a token or of a ticket, or the key that signed it",
      Effect.gen(function*() {
        const sessions = (yield* AccessRepository).sessions
        for (const id of ["a", "b", "c"]) yield* sessions.insert(sessionRow(id, { keyId: "signing-key" }), at(0))
        yield* sessions.insertTicket(ticketRow("a", "a"))
        yield* sessions.consumeTicket(redeem("a", 1))
        yield* sessions.renew({ id: sid("a"), dueBeforeMillis: start, lifetimeMillis: 60_000 }, at(1))
        yield* endSessions(bySession("b"), at(1))
        yield* sessions.sweep({ endedBeforeMillis: start + 10_000, limit: 100 }, at(20_000))
        const text = JSON.stringify(yield* allEvents)
        assert.include(text, "sessionRemoved")
        assert.notInclude(text, "digest")
        assert.notInclude(text, "signing-key")
      })
    )

    testAgainstMemory({
      port: "SessionCredentialRepository",
      steps: Schema.Array(Step).check(Schema.isMinLength(40), Schema.isMaxLength(120)),
      run: runStep,
      feed: allEvents,
      layer,
      layerMemory
    })
  })
}
