/**
 * States what every `AuthorizationCodeRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import { assert, describe } from "@effect/vitest"
import {
  type AuthorizationCodeRow,
  type CodeOutcome,
  maxOpenCodes,
  type Presentation
} from "@sallyport/core/access/AuthorizationCodeRepository"
import { anyKey } from "@sallyport/core/access/BootstrapCredentialRepository"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import { SessionId } from "@sallyport/core/access/Session"
import type { SessionRow } from "@sallyport/core/access/SessionCredentialRepository"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { allEvents, askRow, at, brief, expectFeed, sessionRow, start } from "./internal/accessRows.ts"
import { testOn, times } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

const sid = SessionId.make

const challengeOf = (id: string) => id.padEnd(43, "-")

/** A code that the session `owner` issued at {@link start}, for a minute. Everything follows from its id. */
const codeRow = (id: string, fields?: Partial<AuthorizationCodeRow>): AuthorizationCodeRow => ({
  codeDigest: `code-digest-of-${id}`,
  clientId: "https://client.example/metadata.json",
  redirectUri: "http://127.0.0.1:52163/callback",
  codeChallenge: challengeOf(id),
  resource: "/mcp",
  subject: "ada",
  scopes: ["runs:read"],
  proofKeyThumbprint: null,
  label: "Client",
  issuedBy: sid("owner"),
  createdAtMillis: start,
  expiresAtMillis: start + 60_000,
  sessionId: null,
  ...fields
})

/** Presents the code of an id as its client does, for the session `granted-<id>` unless `session` says otherwise. */
const present = (id: string, fields?: Partial<Presentation>, session?: Partial<SessionRow>) => ({
  codeDigest: `code-digest-of-${id}`,
  clientId: "https://client.example/metadata.json",
  redirectUri: "http://127.0.0.1:52163/callback",
  codeChallenge: challengeOf(id),
  resource: undefined,
  session: sessionRow(`granted-${id}`, {
    parentId: sid("owner"),
    client: { id: "https://client.example/metadata.json", resource: "/mcp" },
    ...session
  }),
  ...fields
})

/** Begins the session that issues the codes. */
const owner = AccessRepository.use(({ sessions }) =>
  sessions.insert(sessionRow("owner", { expiresAtMillis: start + 1_000_000 }), at(0))
)

const outcome = (answer: CodeOutcome): string => answer._tag === "Refused" ? answer.reason : answer._tag

const id = Schema.Literals(["a", "b", "c"])
const owners = Schema.Literals(["owner", "other"])
const millis = small(20)
const key = Schema.NullOr(Schema.Literals(["key-1", "key-2"]))

const Step = Schema.Union([
  Schema.TaggedStruct("begin", { owner: owners, expiresAt: millis }),
  Schema.TaggedStruct("insert", { id, owner: owners, key, expiresAt: millis, now: millis }),
  Schema.TaggedStruct("find", { id }),
  Schema.TaggedStruct("redeem", {
    id,
    as: id,
    verifierOf: id,
    client: Schema.Literals(["https://client.example/metadata.json", "another"]),
    resource: Schema.NullOr(Schema.Literals(["/mcp", "/other"])),
    key,
    now: millis
  }),
  Schema.TaggedStruct("revoke", { owner: owners, now: millis }),
  Schema.TaggedStruct("sweep", { ended: millis, limit: small(3) })
])

/** Runs a step and returns its answer as plain data. */
const runStep = Effect.fnUntraced(function*(step: typeof Step.Type) {
  const { codes, sessions } = yield* AccessRepository
  switch (step._tag) {
    case "begin":
      return yield* sessions.insert(sessionRow(step.owner, { expiresAtMillis: start + step.expiresAt }), at(0))
    case "insert":
      return yield* codes.insert(
        codeRow(step.id, {
          issuedBy: sid(step.owner),
          proofKeyThumbprint: step.key,
          expiresAtMillis: start + step.expiresAt
        }),
        at(step.now)
      )
    case "find":
      return Option.getOrNull(yield* codes.findByDigest(`code-digest-of-${step.id}`))
    case "redeem":
      return yield* codes.redeem(
        present(step.id, {
          codeChallenge: challengeOf(step.verifierOf),
          clientId: step.client,
          ...(step.resource === null ? {} : { resource: step.resource })
        }, { ...sessionRow(`granted-${step.as}`), proofKeyThumbprint: step.key }),
        at(step.now)
      )
    case "revoke":
      return yield* sessions.revoke({ _tag: "Session", id: sid(step.owner), descendants: true }, at(step.now))
    case "sweep":
      return yield* codes.sweep({ endedBeforeMillis: start + step.ended, limit: step.limit })
  }
})

/**
 * Runs the contract tests of `AuthorizationCodeRepository` against a layer, which is built for each test, with a new store.
 * `name` tells adapters apart in the report.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <LE>(name: string, layer: Layer.Layer<AccessRepository, LE>): void => {
  const test = testOn(layer)

  describe(`AuthorizationCodeRepository (${name})`, () => {
    test(
      "AGENT-01: gives back a row as it was, once used with the session that it gave, which descends from its issuer",
      Effect.gen(function*() {
        const { codes, sessions } = yield* AccessRepository
        yield* owner
        const rows = [
          codeRow("one"),
          codeRow("two", { resource: null, proofKeyThumbprint: "key-1", label: null, scopes: [] })
        ]
        for (const row of rows) {
          assert.strictEqual(yield* codes.insert(row, at(0)), "inserted")
          assert.deepStrictEqual(yield* codes.findByDigest(row.codeDigest), Option.some(row))
        }
        assert.isTrue(Option.isNone(yield* codes.findByDigest("code-digest-of-none")))
        const exists = yield* Effect.flip(codes.insert(codeRow("one"), at(0)))
        assert.deepStrictEqual([exists instanceof RepositoryError, exists.outcome], [true, "unchanged"])

        assert.deepStrictEqual(yield* codes.redeem(present("one"), at(5, "ada")), { _tag: "Redeemed" })
        assert.deepStrictEqual(
          yield* codes.findByDigest("code-digest-of-one"),
          Option.some({ ...codeRow("one"), sessionId: sid("granted-one") })
        )
        const granted = Option.getOrThrow(yield* sessions.findById(sid("granted-one")))
        assert.deepStrictEqual(granted, present("one").session)
        assert.deepStrictEqual(
          yield* sessions.countDescendants({ ids: [sid("owner")], nowMillis: start + 5 }),
          new Map([[sid("owner"), 1]])
        )
        yield* expectFeed("sessionUpserted owner", "sessionUpserted granted-one")
      })
    )

    test(
      "AGENT-01: what is not as it was asked for is refused, and leaves the code as good as before",
      Effect.gen(function*() {
        const { codes } = yield* AccessRepository
        yield* owner
        yield* codes.insert(codeRow("one", { proofKeyThumbprint: "key-1" }), at(0))
        const key = { proofKeyThumbprint: "key-1" }
        const attempts: ReadonlyArray<readonly [string, ReturnType<typeof present>]> = [
          ["unknown", present("none")],
          ["client-mismatch", present("one", { clientId: "https://client.example/metadata.jso" }, key)],
          ["redirect-mismatch", present("one", { redirectUri: "http://127.0.0.1:52164/callback" }, key)],
          ["redirect-mismatch", present("one", { redirectUri: "http://127.0.0.1:52163/callback/" }, key)],
          ["verifier-mismatch", present("one", { codeChallenge: challengeOf("two") }, key)],
          ["proof-key-mismatch", present("one")],
          ["proof-key-mismatch", present("one", {}, { proofKeyThumbprint: "key-2" })],
          ["resource-mismatch", present("one", { resource: "/other" }, key)],
          ["resource-mismatch", present("one", { resource: null }, key)]
        ]
        for (const [reason, attempt] of attempts) {
          assert.strictEqual(outcome(yield* codes.redeem(attempt, at(1))), reason)
        }
        assert.strictEqual(outcome(yield* codes.redeem(present("one", {}, key), at(60_000))), "expired")
        yield* expectFeed("sessionUpserted owner")
        assert.strictEqual(
          outcome(yield* codes.redeem(present("one", { resource: "/mcp" }, key), at(59_999))),
          "Redeemed"
        )
        // Any key will do, and no key will not.
        yield* codes.insert(codeRow("any", { proofKeyThumbprint: anyKey }), at(0))
        assert.strictEqual(outcome(yield* codes.redeem(present("any"), at(1))), "proof-key-mismatch")
        assert.strictEqual(outcome(yield* codes.redeem(present("any", {}, key), at(1))), "Redeemed")
      })
    )

    test(
      "AGENT-01: a second use ends the session that the first one gave, also after the code expired; a stranger's ends nothing",
      Effect.gen(function*() {
        const { codes, sessions } = yield* AccessRepository
        yield* owner
        yield* codes.insert(codeRow("one"), at(0))
        yield* codes.redeem(present("one"), at(1))
        const again = (fields?: Partial<Presentation>) =>
          codes.redeem(present("one", fields, { ...sessionRow("again") }), at(70_000))
        assert.strictEqual(outcome(yield* again({ codeChallenge: challengeOf("two") })), "verifier-mismatch")
        assert.strictEqual(outcome(yield* again({ clientId: "another" })), "client-mismatch")
        assert.isNull(Option.getOrThrow(yield* sessions.findById(sid("granted-one"))).revokedAtMillis)
        yield* sessions.renew(
          { id: sid("granted-one"), dueBeforeMillis: start + 5_000, lifetimeMillis: 100_000 },
          at(6_000)
        )
        assert.deepStrictEqual(yield* again(), { _tag: "Reused", sessionId: sid("granted-one") })
        assert.deepStrictEqual(yield* again(), { _tag: "Reused", sessionId: sid("granted-one") })
        assert.strictEqual(
          Option.getOrThrow(yield* sessions.findById(sid("granted-one"))).revokedAtMillis,
          start + 70_000
        )
        assert.isTrue(Option.isNone(yield* sessions.findById(sid("again"))))
        const events = yield* allEvents
        assert.deepStrictEqual(events.slice(-1).map((event) => [brief(event), event.actor]), [
          ["sessionRemoved granted-one revoked", "system"]
        ])
      })
    )

    test(
      "AGENT-01: of 16 racers one gets a session, and it does not outlive the others' attempts",
      Effect.gen(function*() {
        const { codes, sessions } = yield* AccessRepository
        yield* owner
        yield* codes.insert(codeRow("one"), at(0))
        const outcomes = yield* times(
          16,
          (n) => codes.redeem(present("one", {}, { ...sessionRow(`racer-${n}`), parentId: sid("owner") }), at(1))
        )
        assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Redeemed").length, 1)
        assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Reused").length, 15)
        const live = yield* sessions.list({ nowMillis: start + 2, afterId: undefined, limit: 100 })
        assert.deepStrictEqual(live.map(({ id }) => id), ["owner"])
      })
    )

    test(
      "AGENT-05 SESS-13: no code is stored or used for a session that has ended, and its end reaches what its codes gave",
      Effect.gen(function*() {
        const { codes, sessions } = yield* AccessRepository
        yield* owner
        yield* codes.insert(codeRow("one"), at(0))
        yield* codes.insert(codeRow("two"), at(0))
        yield* codes.redeem(present("one"), at(1))
        const ended = yield* sessions.revoke({ _tag: "Session", id: sid("owner"), descendants: true }, at(2))
        assert.deepStrictEqual(ended.sessions, [sid("granted-one"), sid("owner")])
        assert.strictEqual(outcome(yield* codes.redeem(present("two"), at(3))), "issuer-ended")
        assert.strictEqual(yield* codes.insert(codeRow("three"), at(3)), "issuer-ended")
        assert.strictEqual(yield* codes.insert(codeRow("three", { issuedBy: sid("none") }), at(3)), "issuer-ended")
      })
    )

    test(
      "AGENT-05 SESS-13: racing with the end of the session that consented, a code gives no session that lives on",
      Effect.gen(function*() {
        const { codes, sessions } = yield* AccessRepository
        for (let round = 0; round < 8; round++) {
          const by = sid(`owner-${round}`)
          yield* sessions.insert(sessionRow(by), at(0))
          yield* codes.insert(codeRow(`${round}`, { issuedBy: by }), at(0))
          yield* Effect.all([
            codes.redeem(present(`${round}`, {}, { parentId: by }), at(1)),
            sessions.revoke({ _tag: "Session", id: by, descendants: true }, at(1))
          ], { concurrency: "unbounded" })
        }
        assert.deepStrictEqual(yield* sessions.list({ nowMillis: start + 2, afterId: undefined, limit: 100 }), [])
      })
    )

    test(
      "AGENT-01 CONN-09: a key that a client was blocked with gets no session by a code",
      Effect.gen(function*() {
        const { clients, codes } = yield* AccessRepository
        const key = "k".repeat(43)
        yield* owner
        yield* clients.request(askRow(key), undefined, at(0, "ada"))
        yield* clients.decide(
          { proofKeyThumbprint: key, decision: "blocked", reason: null, backOffMillis: 100, maxBackOffMillis: 300 },
          at(0)
        )
        yield* codes.insert(codeRow("one"), at(0))
        assert.strictEqual(
          outcome(yield* codes.redeem(present("one", {}, { proofKeyThumbprint: key }), at(1))),
          "client-not-admitted"
        )
      })
    )

    test(
      `HTTP-09: a session has at most ${maxOpenCodes} codes that can be used, whatever the number of racers`,
      Effect.gen(function*() {
        const { codes } = yield* AccessRepository
        yield* owner
        const outcomes = yield* times(maxOpenCodes + 8, (n) => codes.insert(codeRow(`${n}`), at(0)))
        assert.strictEqual(outcomes.filter((one) => one === "inserted").length, maxOpenCodes)
        assert.strictEqual(outcomes.filter((one) => one === "too-many-open").length, 8)
        yield* codes.redeem(present(`${outcomes.indexOf("inserted")}`), at(1))
        assert.strictEqual(yield* codes.insert(codeRow("next"), at(1)), "inserted")
        assert.strictEqual(yield* codes.insert(codeRow("one more"), at(1)), "too-many-open")
        assert.strictEqual(yield* codes.insert(codeRow("later"), at(60_000)), "inserted")
      })
    )

    test(
      "SESS-13 HTTP-09: a session that has let in as many as it may consents to no more, whatever let them in",
      Effect.gen(function*() {
        const { codes, sessions } = yield* AccessRepository
        yield* owner
        const insert = (id: string) => codes.insert(codeRow(id), at(0), 3)
        yield* sessions.insert({ ...sessionRow("by link"), parentId: sid("owner") }, at(0))
        assert.deepStrictEqual([yield* insert("one"), yield* insert("two"), yield* insert("three")], [
          "inserted",
          "inserted",
          "too-many-let-in"
        ])
        yield* codes.redeem(present("one"), at(1))
        assert.strictEqual(yield* insert("four"), "too-many-let-in")
        yield* sessions.revoke({ _tag: "Session", id: sid("by link") }, at(1))
        assert.strictEqual(yield* insert("five"), "inserted")
      })
    )

    test(
      "L-24: expired codes are swept, those that expired first before others, and each by one of the racers",
      Effect.gen(function*() {
        const { codes } = yield* AccessRepository
        yield* owner
        for (let n = 0; n < 10; n++) yield* codes.insert(codeRow(`${n}`, { expiresAtMillis: start + 100 + n }), at(0))
        assert.strictEqual(yield* codes.sweep({ endedBeforeMillis: start + 99, limit: 100 }), 0)
        assert.strictEqual(yield* codes.sweep({ endedBeforeMillis: start + 200, limit: 2 }), 2)
        assert.isTrue(Option.isNone(yield* codes.findByDigest("code-digest-of-1")))
        assert.isTrue(Option.isSome(yield* codes.findByDigest("code-digest-of-2")))
        const swept = yield* times(4, () => codes.sweep({ endedBeforeMillis: start + 108, limit: 100 }))
        const rest = yield* codes.sweep({ endedBeforeMillis: start + 108, limit: 100 })
        assert.strictEqual(swept.reduce((sum, n) => sum + n, rest), 7)
        assert.isTrue(Option.isSome(yield* codes.findByDigest("code-digest-of-9")))
      })
    )

    testAgainstMemory({
      port: "AuthorizationCodeRepository",
      steps: Schema.Array(Step).check(Schema.isMaxLength(40)),
      run: runStep,
      feed: Effect.map(allEvents, (events) => events.map(brief)),
      layer,
      layerMemory
    })
  })
}
